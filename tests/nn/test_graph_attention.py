"""Graph attention: the same as PyG's, as a dense masked softmax says, and in the memory of the nodes."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch_geometric.nn import GATConv

from graphophone.errors import GraphophoneError
from graphophone.nn.graph_attention import GraphAttention, prepare


def graph(nodes: int, edges: int, seed: int = 0, loops: bool = True) -> Tensor:
    """Unique random edges, in no order, and a self loop of each node."""
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.randint(nodes, (2, edges), generator=generator)
    pairs = pairs[:, pairs[0] != pairs[1]].unique(dim=1)
    if loops:
        pairs = torch.cat([pairs, torch.arange(nodes).expand(2, -1)], dim=1)
    return pairs[:, torch.randperm(pairs.shape[1], generator=generator)]


def pair(*, concat: bool = True, bias: bool = True, heads: int = 3) -> tuple[GraphAttention, GATConv]:
    """Ours and PyG's with the same weights, in double precision: the leaky ReLU has a kink that rounding may cross."""
    theirs = GATConv(6, 5, heads=heads, concat=concat, bias=bias, add_self_loops=False).double()
    ours = GraphAttention(6, 5, heads=heads, concat=concat, bias=bias).double()
    if bias:
        torch.nn.init.normal_(theirs.bias)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def gradients(layer: torch.nn.Module, x: Tensor, out: Tensor) -> dict[str, Tensor]:
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    named = dict(layer.named_parameters()) | {"x": x}
    return dict(zip(named, torch.autograd.grad((out * weight).sum(), list(named.values())), strict=True))


@pytest.mark.parametrize("concat", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("loops", [True, False])
def test_results_and_gradients_are_pyg_s(concat: bool, bias: bool, heads: int, loops: bool) -> None:
    ours, theirs = pair(concat=concat, bias=bias, heads=heads)
    x = torch.randn(12, 6, dtype=torch.float64, requires_grad=True)
    edges = graph(12, 30, loops=loops)  # without loops, some nodes have no edge at all
    out, expected = ours(x, edges), theirs(x, edges)
    torch.testing.assert_close(out, expected, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(gradients(ours, x, out), gradients(theirs, x, expected), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(ours(x, prepare(edges, 12)), out, atol=0, rtol=0)


def test_single_precision_is_within_1e_5_of_pyg() -> None:
    torch.manual_seed(0)
    ours, theirs = GraphAttention(64, 32), GATConv(64, 32, heads=4, add_self_loops=False)
    ours.load_state_dict(theirs.state_dict())
    x, edges = torch.randn(200, 64), graph(200, 1500)
    torch.testing.assert_close(ours(x, edges), theirs(x, edges), atol=1e-5, rtol=0)


@given(st.integers(1, 20), st.integers(0, 60), st.integers(0, 999))
def test_a_dense_masked_softmax_says_the_same(nodes: int, edges: int, seed: int) -> None:
    torch.manual_seed(seed)
    layer = GraphAttention(4, 3, heads=2, concat=False).double()
    x, edge_index = torch.randn(nodes, 4, dtype=torch.float64), graph(nodes, edges, seed)
    mask = torch.zeros(nodes, nodes, dtype=torch.bool)
    mask[edge_index[1], edge_index[0]] = True
    states = layer.lin(x).view(nodes, 2, 3).transpose(0, 1)
    logits = (states @ layer.att_dst[0, :, :, None]) + (states @ layer.att_src[0, :, :, None]).mT
    logits = torch.nn.functional.leaky_relu(logits, 0.2).masked_fill(~mask, -torch.inf)
    expected = (logits.softmax(dim=2) @ states).mean(dim=0) + layer.bias
    torch.testing.assert_close(layer(x, edge_index), expected, atol=1e-12, rtol=1e-12)


def test_gradients_are_those_of_finite_differences() -> None:
    layer = GraphAttention(3, 2, heads=2).double()
    x, edges = torch.randn(5, 3, dtype=torch.float64, requires_grad=True), graph(5, 12)
    weight = torch.rand(edges.shape[1], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w, *_: layer(x, edges, w), (x, weight, *layer.parameters()))


def test_attention_sums_to_one_and_follows_the_edges_given() -> None:
    ours, theirs = pair()
    x, edges = torch.randn(9, 6, dtype=torch.float64), graph(9, 25)
    out, attention = ours(x, edges, return_attention_weights=True)
    expected_out, (_, expected) = theirs(x, edges, return_attention_weights=True)
    torch.testing.assert_close((out, attention), (expected_out, expected), atol=1e-12, rtol=1e-12)
    total = torch.zeros(9, 3, dtype=torch.float64).index_add(0, edges[1], attention)
    torch.testing.assert_close(total, torch.ones_like(total))


def test_only_self_loops_are_a_linear_layer() -> None:
    layer, x = GraphAttention(4, 3), torch.randn(6, 4)
    assert layer.bias is not None
    torch.nn.init.normal_(layer.bias)
    out = layer(x, torch.arange(6).expand(2, -1))
    torch.testing.assert_close(out, layer.lin(x) + layer.bias)


def test_attention_of_zeros_is_the_mean() -> None:
    layer, x, edges = GraphAttention(4, 3, heads=2), torch.randn(7, 4), graph(7, 20)
    torch.nn.init.zeros_(layer.att_src)
    torch.nn.init.zeros_(layer.att_dst)
    out, attention = layer(x, edges, return_attention_weights=True)
    degree = torch.bincount(edges[1], minlength=7)
    torch.testing.assert_close(attention, (1 / degree[edges[1]])[:, None].expand(-1, 2))
    states = layer.lin(x)
    expected = torch.zeros_like(states).index_add(0, edges[1], states[edges[0]]) / degree[:, None]
    torch.testing.assert_close(out, expected)


def test_messages_flow_from_source_to_target() -> None:
    layer = GraphAttention(4, 3)
    edges = torch.tensor([[0, 1, 1], [0, 1, 0]])
    x = torch.randn(2, 4)
    moved = x.clone()
    moved[1] += 1
    assert torch.equal(layer(moved, torch.tensor([[0, 1, 0], [0, 1, 1]]))[0], layer(x, edges[:, :2])[0])
    assert not torch.allclose(layer(moved, edges)[0], layer(x, edges)[0])


def test_permuting_nodes_permutes_results() -> None:
    layer = GraphAttention(4, 3).double()
    x, edges, order = torch.randn(10, 4, dtype=torch.float64), graph(10, 30), torch.randperm(10)
    place = order.argsort()
    torch.testing.assert_close(layer(x[order], place[edges]), layer(x, edges)[order])


@pytest.mark.parametrize("bank", [6, 200])  # more edges than known nodes, and fewer
def test_edges_between_different_nodes_are_pyg_s(bank: int) -> None:
    ours, theirs = pair()
    known, new = torch.randn(bank, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    edges = torch.stack([torch.randint(bank, (20,)), torch.randint(4, (20,))])
    expected, (_, shares) = theirs((known, new), edges, size=(bank, 4), return_attention_weights=True)
    out, attention = ours((known, new), edges, return_attention_weights=True)
    torch.testing.assert_close((out, attention), (expected, shares), atol=1e-12, rtol=1e-12)
    prepared = ours((known, new), prepare(edges, (bank, 4)))
    torch.testing.assert_close(prepared, expected, atol=1e-12, rtol=1e-12)


def test_edge_weights_scale_what_is_carried() -> None:
    layer, x, edges = GraphAttention(4, 3, bias=False), torch.randn(6, 4), graph(6, 14)
    keep = torch.rand(edges.shape[1]) < 0.5
    out, attention = layer(x, edges, return_attention_weights=True)
    expected = torch.zeros(6, 4, 3).index_add(
        0, edges[1, keep], attention[keep, :, None] * layer.lin(x).view(6, 4, 3)[edges[0, keep]]
    )
    torch.testing.assert_close(layer(x, edges, keep.float()), expected.flatten(1))
    torch.testing.assert_close(layer(x, prepare(edges, 6), torch.ones(edges.shape[1])), out)


def test_prepared_edges_are_the_same_edges_sorted() -> None:
    edges = graph(8, 20)
    prepared = prepare(edges, 8)
    assert torch.equal(prepared.edge_index, edges[:, prepared.order])
    assert (prepared.edge_index[1].diff() >= 0).all()
    assert prepared.size == (8, 8)


def test_no_edges_leave_the_bias() -> None:
    layer = GraphAttention(4, 3)
    assert layer.bias is not None
    torch.nn.init.normal_(layer.bias)
    out = layer(torch.randn(5, 4), torch.empty(2, 0, dtype=torch.int64))
    assert torch.equal(out, layer.bias.expand(5, -1))


@pytest.mark.parametrize(
    ("edges", "line"),
    [
        ([[0, 3], [1, 1]], "an edge names node 3 of 3 sources and 3 targets"),
        ([[0, 1], [1, 5]], "an edge names node 5"),
        ([[0, -1], [1, 1]], "an edge names node -1"),
    ],
)
def test_edges_of_other_nodes_are_refused(edges: list[list[int]], line: str) -> None:
    with pytest.raises(GraphophoneError, match=line):
        GraphAttention(4, 3)(torch.randn(3, 4), torch.tensor(edges))


def test_edges_prepared_for_other_nodes_are_refused() -> None:
    prepared = prepare(graph(5, 9), 5)
    with pytest.raises(GraphophoneError, match="prepared for 5 sources and 5 targets, not 4 and 4"):
        GraphAttention(4, 3)(torch.randn(4, 4), prepared)


def test_half_precision_is_widened() -> None:
    layer, x, edges = GraphAttention(8, 4), torch.randn(6, 8), graph(6, 14)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(x, edges)
    torch.testing.assert_close(out, layer(x, edges), atol=0.1, rtol=0.1)


class _Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation returned."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        made = [one for one in tree_leaves(out) if isinstance(one, Tensor) and one.layout == torch.strided]
        self.numel = max([self.numel, *(one.numel() for one in made)])
        return out


def test_memory_is_that_of_the_nodes() -> None:
    nodes, degree = 50, 40
    source = torch.randint(nodes, (nodes * degree,))
    edges = torch.stack([source, torch.arange(nodes).repeat_interleave(degree)])
    largest = {}
    for layer in (GraphAttention(8, 64), GATConv(8, 64, heads=4, add_self_loops=False)):
        with _Largest() as mode:
            layer(torch.randn(nodes, 8), edges).square().sum().backward()
        largest[type(layer)] = mode.numel
    assert largest[GATConv] == nodes * degree * 4 * 64
    assert largest[GraphAttention] == nodes * 4 * 64
