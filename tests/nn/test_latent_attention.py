"""Latent graphs of dialogues: as pair by pair, whatever lies beside them, and with nothing random in evaluation."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from graphophone.nn import latent_attention
from graphophone.nn.dialogue import DialogueGraph
from graphophone.nn.latent_attention import DialogueNodes, LatentGraphAttention, LatentGraphStack, LatentOutput
from graphophone.nn.latent_weights import LatentGraphError

KERNELS = ["exact", "favor"]


def dialogues(
    seed: int, lengths: list[int], modalities: int = 3, holes: float = 0.3, **window: Any
) -> tuple[Tensor, DialogueGraph]:
    """Nodes with garbage where there is none, and the graph."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), modalities, max(lengths))
    present = torch.rand(shape, generator=generator) >= holes
    present &= (torch.arange(shape[2]) < torch.tensor(lengths)[:, None])[:, None]
    x = torch.randn(*shape, 8, dtype=torch.float64, generator=generator)
    speaker = torch.randint(3, (shape[0], shape[2]), generator=generator)
    return x.masked_fill(~present[..., None], float("nan")), DialogueGraph(present, speaker, **window)


def stack(**options: Any) -> LatentGraphStack:
    torch.manual_seed(1)
    return LatentGraphStack(8, **({"heads": 3, "num_layers": 2} | options)).double().eval()


def part(graph: DialogueGraph, b: int, turns: int) -> DialogueGraph:
    present, speaker = graph.present[b : b + 1, :, :turns], graph.speaker[b : b + 1, :turns]
    return DialogueGraph(present, speaker, past=graph.past, future=graph.future)


windows = st.sampled_from([{}, {"past": 2}, {"future": 0}, {"past": 1, "future": 1}])
some_lengths = st.lists(st.integers(1, 6), min_size=1, max_size=4)


def pair_by_pair(layer: LatentGraphAttention, x: Tensor, graph: DialogueGraph) -> tuple[Tensor, Tensor]:
    """The exact layer and its link loss, from the list of edges and node after node."""
    out, links = torch.zeros_like(x), []
    window, modalities = graph.window, x.size(1)
    edges, _, nodes = graph.edge_list()
    for b in range(len(x)):
        own = (nodes[:, 0] == b).nonzero()[:, 0].tolist()
        log_weights = {}
        heads = torch.zeros(modalities, x.size(2), layer.heads, layer.width, dtype=x.dtype)
        for i in own:
            _, m, t = nodes[i].tolist()
            keys = [j for j in own if window[t, nodes[j, 2]]]
            there = x[b, nodes[keys, 1], nodes[keys, 2]]
            q = layer.query(x[b, m, t]).view(layer.heads, layer.width)
            k = layer.key(there).view(len(keys), layer.heads, layer.width)
            v = layer.value(there).view(len(keys), layer.heads, layer.width)
            scores = torch.einsum("hd,jhd->jh", q, k) / (layer.tau * layer.width**0.5)
            heads[m, t] = torch.einsum("jh,jhd->hd", scores.softmax(0), v)
            log_weights[i] = dict(zip(keys, scores.log_softmax(0), strict=True))
        there = graph.present[b]
        out[b] = torch.where(there[..., None], layer.out(heads.flatten(2)), 0)
        inner = [(u, v) for u, v in edges.T.tolist() if u in own]
        degree = {i: sum(v == i for _, v in inner) for i in own}
        total = sum((log_weights[v][u] / degree[v] for u, v in inner), torch.zeros(layer.heads, dtype=x.dtype))
        links.append(total.sum() / max(len(inner) * layer.heads, 1))
    return out, torch.stack(links)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), some_lengths, st.integers(1, 3), windows, st.booleans())
def test_the_layer_and_its_link_loss_are_as_pair_by_pair(
    seed: int, lengths: list[int], modalities: int, window: dict[str, int], full_width: bool
) -> None:
    x, graph = dialogues(seed, lengths, modalities, **window)
    torch.manual_seed(0)
    layer = LatentGraphAttention(8, heads=3, full_width=full_width).double().eval()
    x = x.nan_to_num(0).requires_grad_()
    nodes = DialogueNodes(graph, x.dtype)
    rows, link = layer(x.flatten(0, 2)[nodes.rows], nodes)
    out = nodes.table(rows)
    expected, expected_link = pair_by_pair(layer, x, graph)
    torch.testing.assert_close(out, expected, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(link, expected_link, atol=1e-10, rtol=1e-10)
    assert (link <= 0).all()
    wrt = [x, *layer.parameters()]
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out).sin()
    given_gradients = torch.autograd.grad((out * weight).sum() + link.sum(), wrt, allow_unused=True)
    gradients = torch.autograd.grad((expected * weight).sum() + expected_link.sum(), wrt, allow_unused=True)
    for tensor, one, other in zip(wrt, given_gradients, gradients, strict=True):
        nothing = torch.zeros_like(tensor)
        one, other = (nothing if part is None else part for part in (one, other))
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), some_lengths, st.integers(1, 3), windows)
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_dialogue_alone_is_the_same_as_in_a_padded_batch(
    kernel: str, seed: int, lengths: list[int], modalities: int, window: dict[str, int]
) -> None:
    x, graph = dialogues(seed, lengths, modalities, **window)
    layers = stack(kernel=kernel)
    out = layers(x, graph, attention=True)
    assert not out.x[~graph.present].any()
    for b, turns in enumerate(lengths):
        alone = layers(x[b : b + 1, :, :turns], part(graph, b, turns), attention=True)
        torch.testing.assert_close(alone.x[0], out.x[b, :, :turns], atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(alone.link[0], out.link[b], atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(alone.attention[0], out.attention[b, :, :turns, :, :turns], atol=1e-10, rtol=1e-10)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 3))
@pytest.mark.parametrize("kernel", KERNELS)
def test_without_future_no_later_turn_is_known(kernel: str, seed: int, known: int, modalities: int) -> None:
    x, graph = dialogues(seed, [7, 5], modalities, future=0)
    layers = stack(kernel=kernel)
    prefix = DialogueGraph(graph.present[..., :known], graph.speaker[:, :known], future=0)
    torch.testing.assert_close(layers(x[:, :, :known], prefix).x, layers(x, graph).x[:, :, :known], atol=1e-12, rtol=0)


@pytest.mark.parametrize("kernel", KERNELS)
def test_attention_is_shared_among_present_nodes_in_the_window(kernel: str) -> None:
    x, graph = dialogues(0, [6, 4, 1], past=1, future=2)
    attention = stack(kernel=kernel)(x, graph, attention=True).attention
    there = graph.present
    torch.testing.assert_close(attention.sum((3, 4)), there.double())
    assert not attention[:, :, :, ~there.any(0).any(1)].any()
    assert not attention.movedim((0, 3, 4), (0, 1, 2))[~there].any()
    assert not attention.movedim((2, 4), (0, 1))[~graph.window].any()
    assert stack()(x, graph).attention is None


def test_uniform_attention_has_a_known_link_loss() -> None:
    for turns in (1, 2, 9):
        x, graph = dialogues(0, [turns, turns], holes=0)
        layers = stack(num_layers=3)
        for layer in layers.layers:
            torch.nn.init.zeros_(layer.query.weight)
            torch.nn.init.zeros_(layer.query.bias)
        link = layers(x, graph).link
        expected = torch.full((2,), -math.log(3 * turns) / (turns + 1), dtype=torch.float64)
        torch.testing.assert_close(link, expected)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("jk", [False, True])
def test_noise_in_training_reaches_every_weight_and_garbage_none(kernel: str, jk: bool) -> None:
    x, graph = dialogues(4, [6, 1, 3])
    layers = stack(kernel=kernel, jk=jk, dropout=0.1, gumbel_k=7).train()
    torch.manual_seed(0)
    out = layers(x, graph)
    torch.manual_seed(0)
    assert torch.equal(layers(x, graph).x, out.x)
    assert not torch.equal(layers(x, graph).x, out.x)
    (out.x.square().sum() - out.link.sum()).backward()
    for name, parameter in layers.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any() or name.endswith("key.bias"), name  # a shift of all scores changes nothing


@pytest.mark.parametrize("kernel", KERNELS)
def test_evaluation_draws_nothing(kernel: str) -> None:
    x, graph = dialogues(4, [6, 1, 3])
    layers = stack(kernel=kernel, dropout=0.5, redraw_every=1)
    state = torch.get_rng_state()
    assert torch.equal(layers(x, graph).x, layers(x, graph).x)
    assert torch.equal(torch.get_rng_state(), state)


def test_noise_changes_only_training_and_can_be_switched_off() -> None:
    x, graph = dialogues(4, [6, 1, 3])
    noisy, still = stack(), stack(gumbel=False)
    torch.testing.assert_close(noisy(x, graph), still(x, graph))
    torch.testing.assert_close(still.train()(x, graph), still.eval()(x, graph))
    assert not torch.allclose(noisy.train()(x, graph).x, still(x, graph).x, atol=1e-3)


def test_random_features_come_near_the_exact_layer() -> None:
    x, graph = dialogues(4, [6, 1, 3])
    exact, few, many = stack(tau=1.0), stack(tau=1.0, kernel="favor"), stack(tau=1.0, kernel="favor", features=6000)
    for layers in (few, many):
        layers.load_state_dict(exact.state_dict(), strict=False)
    target = exact(x, graph)
    errors = [(layers(x, graph).x - target.x).square().mean().sqrt() for layers in (few, many)]
    assert errors[1] < errors[0] / 4
    torch.testing.assert_close(many(x, graph).link, target.link, atol=5e-3, rtol=0)


def test_random_features_are_saved_and_drawn_anew_as_told() -> None:
    x, graph = dialogues(4, [3])
    layers = stack(kernel="favor", redraw_every=2, num_layers=1)
    layer = layers.layers[0]
    first = layer.projection.clone()
    assert torch.equal(layers.state_dict()["layers.0.projection"], first)
    drawn = []
    layers.train()
    for _ in range(5):
        layers(x, graph)
        drawn.append(layer.projection.clone())
    same = [torch.equal(a, b) for a, b in zip([first, *drawn], drawn, strict=False)]
    assert same == [True, True, False, True, False]
    generator = torch.Generator().manual_seed(5)
    state = torch.get_rng_state()
    layer.redraw(generator)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(layer.projection, drawn[-1])
    fixed = stack(kernel="favor", num_layers=1).train()
    before = fixed.layers[0].projection.clone()
    for _ in range(3):
        fixed(x, graph)
    assert torch.equal(fixed.layers[0].projection, before)


@pytest.mark.parametrize("pairs", [1, 100, 10**9])
def test_pieces_do_not_matter(pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, graph = dialogues(7, [6, 1, 3, 6, 2, 5])
    layers = stack()
    expected = layers(x, graph, attention=True)
    monkeypatch.setitem(latent_attention._PAIRS, "cpu", pairs)
    blocks = DialogueNodes(graph).blocks
    assert len(blocks) == (6 if pairs == 1 else 1) or 1 < len(blocks) < 6
    torch.testing.assert_close(layers(x, graph, attention=True), expected, atol=1e-12, rtol=0)


def test_dialogues_without_any_node() -> None:
    x, graph = dialogues(7, [4, 3], holes=0)
    graph.present[1] = False
    layers = stack().train()
    out = layers(x, graph)
    assert not out.x[1].any()
    assert out.link[1] == 0
    empty = layers(x, DialogueGraph(torch.zeros_like(graph.present), graph.speaker), attention=True)
    assert isinstance(empty, LatentOutput)
    assert not empty.x.any()
    assert not empty.link.any()
    assert not empty.attention.any()


def test_one_node_hears_itself_and_has_no_edge() -> None:
    x, graph = dialogues(7, [1], modalities=1, holes=0)
    out = stack()(x, graph, attention=True)
    assert out.link == 0
    assert out.attention.item() == 1


def test_half_precision_around_it_leaves_the_weights_single() -> None:
    x, graph = dialogues(7, [6, 3])
    layers = stack(tau=0.2, gumbel_k=16).float().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layers(x.float(), graph, attention=True)
    assert out.attention.dtype == out.link.dtype == torch.float32
    torch.testing.assert_close(out.attention.sum((3, 4)), graph.present.float(), atol=1e-5, rtol=0)
    (out.x.float().square().sum() - out.link.sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layers.parameters())


def test_options_that_mean_nothing_are_refused() -> None:
    with pytest.raises(LatentGraphError, match="unknown kernel 'performer'"):
        LatentGraphStack(8, kernel="performer")  # type: ignore[arg-type]
    with pytest.raises(LatentGraphError, match="tau=0 is no temperature"):
        LatentGraphStack(8, tau=0)
    x, graph = dialogues(7, [6])
    with pytest.raises(LatentGraphError, match=r"tau=0\.01 is too low for Gumbel noise"):
        stack(tau=0.01).float().train()(x.float(), graph)
    assert stack(tau=0.01).float()(x.float(), graph).x.isfinite().all()
