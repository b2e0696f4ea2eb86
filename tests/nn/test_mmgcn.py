import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.nn import GCN2Conv
from torch_geometric.utils import dense_to_sparse

from graphophone.errors import GraphophoneError
from graphophone.nn.dialogue import DialogueGraph
from graphophone.nn.mmgcn import InitialResidualConv, MMGCNStack, angular_adjacency, normalized_adjacency


def full_adjacency(x: Tensor, graph: DialogueGraph) -> tuple[Tensor, Tensor]:
    """The matrix over all nodes of a batch, pair by pair, target before source; and the nodes."""
    nodes = graph.present.nonzero()
    matrix = torch.zeros(len(nodes), len(nodes), dtype=x.dtype)
    for i, (b, m, t) in enumerate(nodes.tolist()):
        for j, (c, n, s) in enumerate(nodes.tolist()):
            near = (graph.past is None or t - s <= graph.past) and (graph.future is None or s - t <= graph.future)
            if b == c and ((m == n and near) or (m != n and t == s)):
                cosine = torch.cosine_similarity(x[b, m, t], x[c, n, s], dim=0)
                matrix[i, j] = 1 - torch.arccos(0.99999 * cosine) / math.pi
    return matrix, nodes


@pytest.mark.parametrize("window", [{}, {"future": 0}, {"past": 1, "future": 2}])
def test_adjacency_is_that_of_all_pairs(make_dialogues: Callable[..., Any], window: dict[str, int]) -> None:
    dialogues = make_dialogues([4, 1, 3], missing=0.2)
    graph = dialogues.graph(**window)
    matrix, nodes = full_adjacency(dialogues.x, graph)
    tables = angular_adjacency(dialogues.x, graph)
    states = dialogues.x[tuple(nodes.T)]
    torch.testing.assert_close(tables.aggregate(dialogues.x)[tuple(nodes.T)], matrix @ states)
    for table in tables:
        assert table.min() >= 0
        assert table.max() <= 1
    r = torch.diag(matrix.sum(dim=1).rsqrt())
    normal = normalized_adjacency(tables)
    torch.testing.assert_close(normal.aggregate(dialogues.x)[tuple(nodes.T)], r @ matrix @ r @ states)
    if not window:
        torch.testing.assert_close(normal.within, normal.within.transpose(2, 3))
        torch.testing.assert_close(normal.across, normal.across.transpose(2, 3))
        torch.testing.assert_close(
            tables.within.diagonal(dim1=2, dim2=3)[dialogues.present],
            torch.full((len(nodes),), 1 - math.acos(0.99999) / math.pi, dtype=torch.float64),
        )


def test_gradient_of_similar_and_empty_states_is_finite(make_dialogues: Callable[..., Any]) -> None:
    dialogues = make_dialogues([4])
    x = dialogues.x.clone()
    x[0, 0] = x[0, 0, 0]
    x[0, 1] = 0
    x.requires_grad_()
    normalized_adjacency(angular_adjacency(x, dialogues.graph())).total().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("number", [1, 3])
def test_layer_is_that_of_pyg(make_dialogues: Callable[..., Any], number: int) -> None:
    alpha, lamda = 0.1, 0.5
    dialogues, first = make_dialogues([4, 2]), make_dialogues([4, 2], seed=1)
    graph = dialogues.graph()
    adjacency = normalized_adjacency(angular_adjacency(first.x, graph))
    layer = InitialResidualConv(6, theta=math.log(lamda / number + 1), alpha=alpha).double()
    stock = GCN2Conv(6, alpha=alpha, theta=lamda, layer=number, shared_weights=False, normalize=False).double()
    # There the shares of both halves stand before the transform, here they are part of what it has learned.
    heard, kept = layer.lin.weight.T.split(6)
    stock.weight1.data.copy_(heard / (1 - alpha))
    stock.weight2.data.copy_(kept / alpha)
    matrix, nodes = full_adjacency(first.x, graph)
    r = torch.diag(matrix.sum(dim=1).rsqrt())
    edge_index, edge_weight = dense_to_sparse((r @ matrix @ r).T)
    expected = stock(dialogues.x[tuple(nodes.T)], first.x[tuple(nodes.T)], edge_index, edge_weight).relu()
    found = layer(graph.gathered(adjacency.aggregate(dialogues.x)), graph.gathered(first.x))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("window", [{}, {"future": 0}])
def test_stack_is_its_matrix_form(make_dialogues: Callable[..., Any], window: dict[str, int]) -> None:
    """The whole network on one matrix over all nodes, with the gradients of everything that is learned."""
    dialogues = make_dialogues([4, 1, 3], missing=0.2)
    graph = dialogues.graph(**window)
    torch.manual_seed(0)
    stack = MMGCNStack(6, speakers=2, graph_channels=5, hidden_channels=4, num_layers=3).double().eval()
    nodes = graph.present.nonzero()
    b, m, t = nodes.T
    assert stack.speaker is not None
    x = torch.stack([stack.inputs[j](dialogues.x[i, j, k]) for i, j, k in nodes.tolist()])
    speakers = stack.speaker.vectors(graph.speaker[b, t].clamp(max=1))
    x = x + speakers * (m == 0)[:, None]
    padded = torch.zeros(*graph.present.shape, 5, dtype=torch.float64).index_put((b, m, t), x)
    matrix, _ = full_adjacency(padded, graph)
    r = torch.diag(matrix.sum(dim=1).rsqrt())
    adjacency = r @ matrix @ r
    first = h = stack.lin(x).relu()
    for number, layer in enumerate(stack.layers, start=1):
        theta = math.log(0.5 / number + 1)
        heard = adjacency @ h
        both = torch.cat([heard, first], dim=1) @ layer.lin.weight.T
        h = (theta * both + (1 - theta) * (0.9 * heard + 0.1 * first)).relu()
    expected = torch.cat([x, h], dim=1)
    found = stack(dialogues.x, graph)
    torch.testing.assert_close(found.x[b, m, t], expected)
    assert float(found.penalty) == 0
    toward = torch.randn_like(expected)
    parameters = list(stack.parameters())
    mine = torch.autograd.grad((found.x[b, m, t] * toward).sum(), parameters)
    theirs = torch.autograd.grad((expected * toward).sum(), parameters)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_what_cannot_be_is_refused(make_dialogues: Callable[..., Any]) -> None:
    with pytest.raises(GraphophoneError, match="0 layers"):
        MMGCNStack(6, num_layers=0)
    dialogues = make_dialogues([2], modalities=2)
    with pytest.raises(GraphophoneError, match="2 modalities came to layers for 3"):
        MMGCNStack(6, num_layers=1).double()(dialogues.x, dialogues.graph())
