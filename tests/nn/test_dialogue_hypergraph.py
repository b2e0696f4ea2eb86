from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn import HypergraphConv

from graphophone.errors import GraphophoneError
from graphophone.nn.dialogue import DialogueGraph
from graphophone.nn.dialogue_hypergraph import DialogueHypergraphConv, HyperedgeWeights, shared_weights


def incidence(graph: DialogueGraph) -> tuple[Tensor, Tensor, Tensor]:
    """H ``[nodes, hyperedges]`` of one dialogue: first those of modalities, then those of turns; and its nodes."""
    nodes = graph.present[0].nonzero()
    modalities, turns = graph.present.shape[1:]
    return torch.cat([F.one_hot(nodes[:, 0], modalities), F.one_hot(nodes[:, 1], turns)], dim=1).double(), *nodes.T


def inverse(values: Tensor) -> Tensor:
    return torch.diag(torch.where(values > 0, 1 / values.where(values > 0, values.new_ones(())), values.new_zeros(())))


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_without_weights_it_is_the_product_of_the_incidence_matrix(
    make_dialogues: Callable[..., Any], missing: float
) -> None:
    dialogues = make_dialogues([5], missing=missing)
    graph = dialogues.graph()
    h, modality, turn = incidence(graph)
    x = dialogues.x[0, modality, turn]
    expected = inverse(h.sum(1)) @ h @ inverse(h.sum(0)) @ h.T @ x
    found = DialogueHypergraphConv(6).double().spread(dialogues.x, graph)
    torch.testing.assert_close(found[0, modality, turn], expected)
    stock = HypergraphConv(6, 6, bias=False).double()
    stock.lin.weight.data.copy_(torch.eye(6))
    torch.testing.assert_close(stock(x, h.nonzero().T), expected)
    if not missing:
        middle = (dialogues.x.mean(dim=2, keepdim=True) + dialogues.x.mean(dim=1, keepdim=True)) / 2
        torch.testing.assert_close(found, middle)


def unequal(weights: HyperedgeWeights) -> HyperedgeWeights:
    with torch.no_grad():
        for parameter in weights.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return weights.double()


@pytest.mark.parametrize("weighting", ["denominator", "standard"])
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_weighted_forms_are_their_matrix_products(
    make_dialogues: Callable[..., Any], weighting: Any, missing: float
) -> None:
    dialogues = make_dialogues([5], missing=missing)
    graph = dialogues.graph()
    weights = unequal(HyperedgeWeights(3, weighting))
    h, modality, turn = incidence(graph)
    w = F.softplus(torch.cat([weights.modality, weights.turn.expand(5)]))
    x = dialogues.x[0, modality, turn]
    if weighting == "denominator":
        assert weights.node is not None
        omega = F.softplus(weights.node)[modality]
        expected = inverse(h @ w) @ h @ inverse(h.T @ omega) @ h.T @ x
    else:
        expected = inverse(h @ w) @ h @ torch.diag(w) @ inverse(h.sum(0)) @ h.T @ x
    found = DialogueHypergraphConv(6).double().spread(dialogues.x, graph, weights)
    torch.testing.assert_close(found[0, modality, turn], expected)
    assert not found[~graph.present].any()
    found.square().sum().backward()
    for name, parameter in weights.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("weighting", ["denominator", "standard"])
def test_weights_are_one_at_first(make_dialogues: Callable[..., Any], weighting: Any) -> None:
    dialogues = make_dialogues([4, 2], missing=0.2)
    layer = DialogueHypergraphConv(6).double()
    for window in ({}, {"future": 0}):
        plain = layer.spread(dialogues.x, dialogues.graph(**window))
        weighted = layer.spread(dialogues.x, dialogues.graph(**window), HyperedgeWeights(3, weighting).double())
        torch.testing.assert_close(weighted, plain, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("past", "future"), [(None, 0), (1, None), (2, 1), (0, 0)])
def test_windows_are_means_of_what_a_node_hears(
    make_dialogues: Callable[..., Any], past: int | None, future: int | None
) -> None:
    dialogues = make_dialogues([6], missing=0.25)
    graph = dialogues.graph(past, future)
    found = DialogueHypergraphConv(6).double().spread(dialogues.x, graph)
    for m, t in dialogues.present[0].nonzero().tolist():
        first, last = (0 if past is None else max(t - past, 0)), (5 if future is None else min(t + future, 5))
        heard = [dialogues.x[0, m, s] for s in range(first, last + 1) if dialogues.present[0, m, s]]
        beside = [dialogues.x[0, n, t] for n in range(3) if dialogues.present[0, n, t]]
        expected = (torch.stack(heard).mean(0) + torch.stack(beside).mean(0)) / 2
        torch.testing.assert_close(found[0, m, t], expected)


def test_a_window_as_wide_as_the_dialogue_is_none(make_dialogues: Callable[..., Any]) -> None:
    dialogues = make_dialogues([6, 3], missing=0.25)
    layer = DialogueHypergraphConv(6).double()
    for weights in (None, unequal(HyperedgeWeights(3, "denominator"))):
        torch.testing.assert_close(
            layer.spread(dialogues.x, dialogues.graph(9, 9), weights),
            layer.spread(dialogues.x, dialogues.graph(), weights),
        )


def test_activation_and_bias(make_dialogues: Callable[..., Any]) -> None:
    dialogues = make_dialogues([4], missing=0.3)
    layer = DialogueHypergraphConv(6).double()
    torch.nn.init.normal_(layer.bias)
    found = layer(dialogues.x, dialogues.graph())
    raw = layer.spread(dialogues.x, dialogues.graph()) + layer.bias
    expected = torch.where(raw > 0, raw, 0.01 * raw)
    torch.testing.assert_close(found[dialogues.present], expected[dialogues.present])
    assert not found[~dialogues.present].any()


def test_weights_by_name() -> None:
    assert shared_weights(3, "none") is None
    assert shared_weights(2, "standard").node is None  # type: ignore[union-attr]
    with pytest.raises(GraphophoneError, match="'numerator'"):
        shared_weights(3, "numerator")  # type: ignore[arg-type]
