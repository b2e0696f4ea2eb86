from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphophone.errors import GraphophoneError
from graphophone.nn.backbone import Backbone, SpeakerEmbedding, joined_penalty
from graphophone.nn.dialogue import EdgeTables
from graphophone.nn.gated_convolution import GatedStack
from graphophone.nn.m3net import M3NetStack
from graphophone.nn.mmgcn import MMGCNStack

BACKBONES: dict[str, Callable[[int], Backbone]] = {
    "gcn": lambda m: GatedStack(6, kind="gcn", num_layers=2),
    "gcn-open": lambda m: GatedStack(6, kind="gcn", num_layers=2, gated=False, residual=False),
    "gcn-soft": lambda m: GatedStack(6, kind="gcn", num_layers=2, degree="soft", temperature=1.0),
    "gat": lambda m: GatedStack(6, kind="gat", num_layers=2),
    "rigsl": lambda m: M3NetStack(6, modalities=m, speakers=2, num_layers=2),
    "published": lambda m: M3NetStack(
        6, modalities=m, num_layers=2, degree="out", hyperedge_weights="denominator", penalties="last", noise=False
    ),
    "m3net": lambda m: M3NetStack(
        6, modalities=m, num_layers=2, combine="concat", gated=False, transform=False, speaker_modality=None
    ),
    "standard": lambda m: M3NetStack(6, modalities=m, num_layers=1, hyperedge_weights="standard", speakers=0),
    "mmgcn": lambda m: MMGCNStack(6, modalities=m, graph_channels=5, hidden_channels=4, num_layers=3),
}


def build(name: str, modalities: int = 3) -> Backbone:
    torch.manual_seed(0)
    return BACKBONES[name](modalities).double().eval()


@pytest.mark.parametrize("name", BACKBONES)
@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=2, max_size=4),
    modalities=st.integers(1, 3),
    missing=st.sampled_from([0.0, 0.4]),
    window=st.sampled_from([(None, None), (2, 1), (None, 0)]),
    rubbish=st.sampled_from([1e6, float("nan"), float("inf")]),
    data=st.data(),
)
def test_a_dialogue_alone_is_the_same_in_any_company(
    make_dialogues: Callable[..., Any],
    name: str,
    lengths: list[int],
    modalities: int,
    missing: float,
    window: tuple[int | None, int | None],
    rubbish: float,
    data: st.DataObject,
) -> None:
    backbone = build(name, modalities)
    dialogues = make_dialogues(lengths, modalities=modalities, missing=missing)
    spoilt = dialogues.x.masked_fill(~dialogues.present[..., None], rubbish)
    together = backbone(spoilt, dialogues.graph(*window), weights=True)
    assert together.x.shape == (*dialogues.present.shape, backbone.out_channels)
    assert not together.x[~dialogues.present].any()
    assert torch.isfinite(together.penalty)
    number = data.draw(st.integers(0, len(lengths) - 1))
    turns = lengths[number]
    single = dialogues.alone(number, turns)
    alone = backbone(single.x, single.graph(*window), weights=True)
    torch.testing.assert_close(together.x[number, :, :turns], alone.x[0], atol=1e-10, rtol=0)
    torch.testing.assert_close(
        together.edges.within[number, :, :turns, :turns], alone.edges.within[0], atol=1e-10, rtol=0
    )
    torch.testing.assert_close(together.edges.across[number, :turns], alone.edges.across[0], atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", BACKBONES)
def test_penalty_does_not_change_with_padding(make_dialogues: Callable[..., Any], name: str) -> None:
    backbone = build(name)
    dialogues = make_dialogues([3, 3])
    padded = torch.nn.functional.pad(dialogues.x, (0, 0, 0, 4), value=float("nan"))
    present = torch.nn.functional.pad(dialogues.present, (0, 4))
    speaker = torch.nn.functional.pad(dialogues.speaker, (0, 4))
    wide = type(dialogues)(padded, present, speaker)
    torch.testing.assert_close(backbone(wide.x, wide.graph()).penalty, backbone(dialogues.x, dialogues.graph()).penalty)


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("past", [None, 2])
def test_without_a_future_the_start_of_a_dialogue_does_not_know_its_end(
    make_dialogues: Callable[..., Any], name: str, past: int | None
) -> None:
    backbone = build(name)
    dialogues = make_dialogues([7], missing=0.2)
    whole = backbone(dialogues.x, dialogues.graph(past, 0)).x
    for turns in range(1, 7):
        start = dialogues.alone(0, turns)
        torch.testing.assert_close(backbone(start.x, start.graph(past, 0)).x, whole[:, :, :turns], atol=1e-10, rtol=0)
    seen = backbone(dialogues.x, dialogues.graph()).x
    assert not torch.allclose(seen[:, :, :3], whole[:, :, :3]), "the future made no difference at all"


@pytest.mark.parametrize("name", BACKBONES)
def test_order_in_the_batch_does_not_matter(make_dialogues: Callable[..., Any], name: str) -> None:
    backbone = build(name)
    dialogues = make_dialogues([3, 5, 1], missing=0.2)
    order = torch.tensor([2, 0, 1])
    turned = type(dialogues)(*(part[order] for part in dialogues))
    torch.testing.assert_close(backbone(turned.x, turned.graph()).x, backbone(dialogues.x, dialogues.graph()).x[order])


@pytest.mark.parametrize("name", BACKBONES)
def test_gradients_reach_all_that_is_learned_and_no_absent_node(make_dialogues: Callable[..., Any], name: str) -> None:
    backbone = build(name).train()
    dialogues = make_dialogues([6, 4], missing=0.2)
    x = dialogues.x.requires_grad_()
    found = backbone(x, dialogues.graph())
    (found.x.square().sum() + found.penalty).backward()
    for key, parameter in backbone.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.any(), key
    assert not x.grad[~dialogues.present].any()
    assert x.grad[dialogues.present].any(dim=1).all()


@pytest.mark.parametrize("name", BACKBONES)
def test_single_turns_and_no_turns(make_dialogues: Callable[..., Any], name: str) -> None:
    backbone = build(name)
    dialogues = make_dialogues([1, 1])
    assert torch.isfinite(backbone(dialogues.x, dialogues.graph()).x).all()
    nobody = type(dialogues)(dialogues.x, torch.zeros_like(dialogues.present), dialogues.speaker)
    found = backbone(nobody.x.requires_grad_(), nobody.graph(), weights=True)
    assert not found.x.any()
    assert float(found.penalty) == 0
    (found.x.sum() + found.penalty).backward()
    assert torch.isfinite(nobody.x.grad).all()


@pytest.mark.parametrize("name", ["gcn", "gat"])
def test_a_missing_modality_is_as_if_it_had_never_been(make_dialogues: Callable[..., Any], name: str) -> None:
    backbone = build(name)
    dialogues = make_dialogues([4, 3])
    without = dialogues.present.clone()
    without[:, 1] = False
    masked = type(dialogues)(dialogues.x, without, dialogues.speaker)
    kept = [0, 2]
    fewer = type(dialogues)(dialogues.x[:, kept], dialogues.present[:, kept], dialogues.speaker)
    torch.testing.assert_close(backbone(masked.x, masked.graph()).x[:, kept], backbone(fewer.x, fewer.graph()).x)


def test_kinds_of_edges_are_told_apart(make_dialogues: Callable[..., Any]) -> None:
    backbone = build("gcn")
    dialogues = make_dialogues([5])
    one = type(dialogues)(dialogues.x, dialogues.present, torch.zeros_like(dialogues.speaker))
    assert not torch.allclose(backbone(one.x, one.graph()).x, backbone(dialogues.x, dialogues.graph()).x)


def test_m3net_sums_or_joins_two_stacks(make_dialogues: Callable[..., Any]) -> None:
    dialogues = make_dialogues([4, 2])
    graph = dialogues.graph()
    torch.manual_seed(0)
    joined = M3NetStack(6, num_layers=2, combine="concat", penalties="last").double().eval()
    summed = M3NetStack(6, num_layers=2).double().eval()
    summed.load_state_dict(joined.state_dict())
    assert joined.speaker is not None
    x = joined.lin(joined.speaker(dialogues.x, graph)).masked_fill(~graph.present[..., None], 0)
    groups, waves, penalties = x, x, []
    for layer in joined.hypergraph:
        groups = layer(groups, graph)
    for layer in joined.frequencies:
        found = layer(waves, graph)
        waves = found.x
        penalties.append(found.penalty)
    both, one = joined(dialogues.x, graph), summed(dialogues.x, graph)
    torch.testing.assert_close(both.x, torch.cat([groups, waves], dim=3))
    torch.testing.assert_close(one.x, groups + waves)
    torch.testing.assert_close(both.penalty, penalties[-1])
    torch.testing.assert_close(one.penalty, sum(penalties))


def test_frequencies_show_signed_weights(make_dialogues: Callable[..., Any]) -> None:
    dialogues = make_dialogues([6, 4])
    graph = dialogues.graph()
    edges = build("m3net")(dialogues.x, graph, weights=True).edges
    assert isinstance(edges, EdgeTables)
    assert (edges.within > 0).any()
    assert (edges.within < 0).any()
    assert not edges.within[~graph.within].any()


def test_mmgcn_shows_no_loops(make_dialogues: Callable[..., Any]) -> None:
    dialogues = make_dialogues([6, 4], missing=0.2)
    graph = dialogues.graph()
    edges = build("mmgcn")(dialogues.x, graph, weights=True).edges
    assert torch.equal(edges.within != 0, graph.within)
    assert torch.equal(edges.across != 0, graph.across)


def test_speakers_beyond_the_last_share_its_vector(make_dialogues: Callable[..., Any]) -> None:
    dialogues = make_dialogues([4], speakers=1)
    embedding = SpeakerEmbedding(3, 6, modality=1).double()
    speaker = torch.tensor([[0, 2, 7, 1]])
    given = type(dialogues)(dialogues.x, dialogues.present, speaker)
    added = embedding(given.x, given.graph()) - given.x
    assert not added[:, [0, 2]].any()
    torch.testing.assert_close(added[0, 1], embedding.vectors.weight[[0, 2, 2, 1]])
    everywhere = SpeakerEmbedding(3, 6, modality=None).double()
    added = everywhere(given.x, given.graph()) - given.x
    torch.testing.assert_close(added[0], everywhere.vectors.weight[[0, 2, 2, 1]].expand(3, 4, 6))


def test_penalties_are_joined() -> None:
    parts = [torch.tensor(0.25), torch.tensor(0.5)]
    assert float(joined_penalty(parts, "sum")) == 0.75
    assert float(joined_penalty(parts, "last")) == 0.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"combine": "mean"}, "combine 'mean'"),
        ({"penalties": "first"}, "penalties 'first'"),
        ({"num_layers": 0}, "0 multi-frequency"),
        ({"hyper_layers": 0}, "0 hypergraph"),
        ({"hyperedge_weights": "all"}, "hyperedge weights 'all'"),
    ],
)
def test_unknown_choices_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(GraphophoneError, match=words):
        M3NetStack(6, **options)


def test_no_speakers_cannot_have_vectors() -> None:
    with pytest.raises(GraphophoneError, match="0 speakers"):
        SpeakerEmbedding(0, 6)
