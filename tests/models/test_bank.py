"""Answers among known utterances: independent of what else is asked, and of utterances that lack a modality."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from graphophone.graphs.base import GraphError
from graphophone.graphs.modal import ModalKNN
from graphophone.models import create_model
from graphophone.models.bank import Bank, best_route, has
from graphophone.models.base import ModelError
from graphophone.models.hemogat import HemoGAT

WIDTHS = {"text": 5, "audio": 4}


def network(**options: object) -> HemoGAT:
    torch.manual_seed(0)
    small = {"hidden_channels": 8, "heads": 2, "cmt_axis": "pooled"}
    model = create_model("hemogat", in_channels=WIDTHS, num_classes=3, **{**small, **options})
    assert isinstance(model, HemoGAT)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_()  # type: ignore[union-attr, operator]
    return model.eval()


def vectors(count: int, seed: int, *, gaps: bool = False) -> Tensor:
    x = torch.randn(count, 9, generator=torch.Generator().manual_seed(seed))
    if gaps:
        x[::3, :5] = torch.nan
        x[1::3, 5:] = torch.nan
    return x


@pytest.mark.parametrize("graph", ["same", "typed"])
@pytest.mark.parametrize("gnn", ["gat", "gcn", "sage", "gatv2"])
@pytest.mark.parametrize("layers", [1, 3])
def test_one_by_one_as_together(gnn: str, layers: int, graph: str) -> None:
    bank = Bank(network(gnn=gnn, num_layers=layers, graph=graph), ModalKNN(k_text=2, k_audio=3), vectors(40, 0))
    x = vectors(12, 1)
    together = bank.answer(x).probabilities
    torch.testing.assert_close(together.sum(dim=1), torch.ones(12))
    torch.testing.assert_close(
        torch.cat([bank.answer(row[None]).probabilities for row in x]), together, atol=1e-6, rtol=0
    )
    torch.testing.assert_close(bank.answer(x.flip(0)).probabilities.flip(0), together, atol=1e-6, rtol=0)


def test_nodes_by_modality_hear_the_nearest_of_their_own() -> None:
    known, x = vectors(40, 0), vectors(6, 1)
    bank = Bank(network(graph="typed"), ModalKNN(k_text=2, k_audio=3), known)
    edges = bank.edges("both", x)
    assert set(edges) == {("text", "near", "text"), ("audio", "near", "audio")}
    for (name, _, _), columns, k in zip(edges, (slice(0, 5), slice(5, 9)), (2, 3), strict=True):
        near = torch.nn.functional.cosine_similarity(x[:, None, columns], known[None, :, columns], dim=2)
        expected = near.topk(k).indices.sort().values
        assert torch.equal(
            edges[name, "near", name], torch.stack([expected.flatten(), torch.arange(6).repeat_interleave(k)])
        )
    with pytest.raises(GraphError, match="direction is 'symmetric'"):
        Bank(network(graph="typed"), ModalKNN(direction="symmetric"), known).answer(x)


def test_answers_in_a_graph_of_their_own_hang_on_each_other() -> None:
    bank = Bank(network(), ModalKNN(k_text=2, k_audio=3), vectors(40, 0))
    x = vectors(12, 1)
    all_of_them, states = bank.answer_among(x)
    assert states.shape == (12, 24)
    assert not torch.allclose(bank.answer_among(x[:6])[0], all_of_them[:6], atol=1e-4)


def test_a_query_that_is_known_has_itself_as_neighbour() -> None:
    known = vectors(30, 0)
    bank = Bank(network(), ModalKNN(k_text=1, k_audio=1), known)
    edges = bank.edges("both", known[[4, 9]])
    assert edges.tolist() == [[4, 9], [0, 1]]  # the same one by text and by audio: one edge


def test_each_is_answered_for_by_what_it_has() -> None:
    model = network(alone=True)
    known, x = vectors(60, 0, gaps=True), vectors(9, 1, gaps=True)
    bank = Bank(model, ModalKNN(k_text=2, k_audio=3), known)
    found = bank.answer(x)
    assert found.route == ["audio", "text", "both"] * 3
    assert best_route(model, x) == found.route
    assert bool(found.probabilities.isfinite().all())
    for name, part in (("audio", slice(0, None, 3)), ("text", slice(1, None, 3)), ("both", slice(2, None, 3))):
        alone = model.routes()[name]
        own = Bank(alone, ModalKNN(k_text=2, k_audio=3), known[has(known, alone)])
        torch.testing.assert_close(own.answer(x[part]).probabilities, found.probabilities[part])
    # What is not looked at may be anything.
    changed = x.clone()
    changed[2] = x[5]
    torch.testing.assert_close(bank.answer(changed).probabilities[:2], found.probabilities[:2])


def test_nobody_answers_for_what_no_network_reads() -> None:
    bank = Bank(network(), ModalKNN(), vectors(60, 0))
    x = vectors(3, 1, gaps=True)
    found = bank.answer(x)
    assert found.route == ["", "", "both"]
    assert found.probabilities.isnan().all(dim=1).tolist() == [True, True, False]
    assert bool(bank.answer(x[:2]).probabilities.isnan().all())
    with pytest.raises(ModelError, match="lacks a modality"):
        bank.answer_among(x)


def test_known_ones_in_their_own_graph() -> None:
    model, x = network(), vectors(20, 0)
    rules = ModalKNN(k_text=2, k_audio=2)
    logits, states = Bank(model, rules, x).known()
    torch.testing.assert_close(logits, model(x, rules.edges_of(x, WIDTHS)))
    assert states.shape == (20, 24)
    assert not model.training


def test_the_mode_of_the_network_is_kept() -> None:
    model = network()
    model.train()
    bank = Bank(model, ModalKNN(), vectors(20, 0))
    torch.testing.assert_close(bank.answer(vectors(4, 1)).probabilities, bank.answer(vectors(4, 1)).probabilities)
    assert all(module.training for module in model.modules())
