"""Signed convolutions: the operator's spectrum and quadratic form, and where they equal the ordinary ones."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.nn import GATConv, GCNConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm

from graphophone.errors import GraphophoneError
from graphophone.nn.convolution import GINConv
from graphophone.nn.signed import SignedGATConv, SignedGCNConv, SignedGINConv, signed_norm


def signed_graph(nodes: int, seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """A random undirected graph with weights -1 and 1: edges, weights, and its matrix."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randint(-1, 2, (nodes, nodes), generator=generator).to(dtype).triu(1)
    matrix = matrix + matrix.T
    edge_index = matrix.T.nonzero().flip(1).T.contiguous()
    return edge_index, matrix[edge_index[1], edge_index[0]], matrix


def dense(edge_index: Tensor, weight: Tensor, nodes: int) -> Tensor:
    matrix = torch.zeros(nodes, nodes, dtype=weight.dtype)
    return matrix.index_put((edge_index[1], edge_index[0]), weight, accumulate=True)


@given(st.integers(1, 12), st.integers(0, 2**20))
def test_operator(nodes: int, seed: int) -> None:
    edge_index, weight, matrix = signed_graph(nodes, seed)
    operator = dense(*signed_norm(edge_index, weight, nodes), nodes)
    torch.testing.assert_close(operator, operator.T)
    spectrum = torch.linalg.eigvalsh(operator)
    assert spectrum.min() >= -1 - 1e-12
    assert spectrum.max() <= 1 + 1e-12
    x = torch.randn(nodes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    form = x @ (torch.diag(matrix.abs().sum(1)) - matrix) @ x
    gap = (matrix.abs() * (x[:, None] - matrix.sign() * x) ** 2).triu(1).sum()
    torch.testing.assert_close(form, gap, atol=1e-10, rtol=1e-10)
    assert form >= -1e-10


@given(st.integers(1, 12), st.integers(0, 2**20), st.booleans())
def test_equals_the_ordinary_operator_without_negative_weights(nodes: int, seed: int, loops: bool) -> None:
    edge_index, weight, _ = signed_graph(nodes, seed)
    weight = weight.abs() * 0.7
    if loops and nodes > 1:
        edge_index = torch.cat([edge_index, torch.tensor([[1], [1]])], dim=1)
        weight = torch.cat([weight, weight.new_tensor([0.3])])
    ours, theirs = signed_norm(edge_index, weight, nodes), gcn_norm(edge_index, weight, nodes)
    torch.testing.assert_close(dense(*ours, nodes), dense(*theirs, nodes))


def test_two_nodes_that_differ() -> None:
    edge_index = torch.tensor([[0, 1], [1, 0]])
    weight = torch.tensor([-1.0, -1.0])
    operator = dense(*signed_norm(edge_index, weight), 2)
    torch.testing.assert_close(operator, torch.tensor([[0.5, -0.5], [-0.5, 0.5]]))
    conv = SignedGCNConv(3, 2)
    out = conv(torch.ones(2, 3), edge_index, weight)
    torch.testing.assert_close(out, torch.zeros(2, 2))  # equal inputs cancel


@pytest.mark.parametrize("leaves", [1, 2, 5])
def test_signed_degrees_of_zero_and_below(leaves: int) -> None:
    """A star of -1: with its loop, its centre has signed degree 1 - leaves."""
    rim = torch.arange(1, leaves + 1)
    centre = torch.zeros_like(rim)
    edge_index = torch.stack([torch.cat([rim, centre]), torch.cat([centre, rim])])
    weight = -torch.ones(2 * leaves)
    x = torch.randn(leaves + 1, 4)
    assert SignedGCNConv(4, 3)(x, edge_index, weight).isfinite().all()
    operator = dense(*signed_norm(edge_index, weight), leaves + 1)
    assert operator[0, 0] == pytest.approx(1 / (leaves + 1))


def test_nodes_without_edges() -> None:
    empty = torch.empty(2, 0, dtype=torch.int64)
    edge_index, weight = signed_norm(empty, None, 3)
    assert torch.equal(dense(edge_index, weight, 3), torch.eye(3))
    assert signed_norm(empty, torch.empty(0), 3, self_loops=False)[1].shape == (0,)


class TestSignedGCNConv:
    def test_equals_gcn_without_negative_weights(self) -> None:
        edge_index, weight, _ = signed_graph(9, 0, torch.float32)
        ours, theirs = SignedGCNConv(4, 3), GCNConv(4, 3)
        theirs.load_state_dict(ours.conv.state_dict())
        x = torch.randn(9, 4)
        torch.testing.assert_close(ours(x, edge_index, weight.abs()), theirs(x, edge_index, weight.abs()))
        torch.testing.assert_close(ours(x, edge_index), theirs(x, edge_index))

    def test_drop(self) -> None:
        edge_index, weight, _ = signed_graph(9, 1, torch.float32)
        x, conv = torch.randn(9, 4), SignedGCNConv(4, 3, negative="drop")
        kept = weight > 0
        torch.testing.assert_close(conv(x, edge_index, weight), conv(x, edge_index[:, kept], weight[kept]))

    def test_separate_weights(self) -> None:
        edge_index, weight, _ = signed_graph(9, 2, torch.float32)
        x, conv = torch.randn(9, 4), SignedGCNConv(4, 3, negative="separate")
        operator = dense(*signed_norm(edge_index, weight, 9), 9)
        assert conv.apart is not None
        expected = operator.clamp(min=0) @ conv.conv.lin(x) + operator.clamp(max=0) @ conv.apart.lin(x)
        torch.testing.assert_close(conv(x, edge_index, weight), expected)  # bias is zero at first
        conv.apart.load_state_dict({"lin.weight": conv.conv.lin.weight})
        same = SignedGCNConv(4, 3)
        same.conv.load_state_dict(conv.conv.state_dict())
        torch.testing.assert_close(conv(x, edge_index, weight), same(x, edge_index, weight))

    def test_normalised_beforehand(self) -> None:
        edge_index, weight, _ = signed_graph(9, 3, torch.float32)
        x, conv = torch.randn(9, 4), SignedGCNConv(4, 3)
        ready = SignedGCNConv(4, 3, normalize=False)
        ready.load_state_dict(conv.state_dict())
        torch.testing.assert_close(ready(x, *signed_norm(edge_index, weight, 9)), conv(x, edge_index, weight))

    def test_pointwise_is_the_layer_without_edges(self) -> None:
        x, conv = torch.randn(9, 4), SignedGCNConv(4, 3)
        conv.conv.bias.data.normal_()
        torch.testing.assert_close(conv.pointwise(x), conv(x, torch.empty(2, 0, dtype=torch.int64)))

    def test_errors_and_printing(self) -> None:
        with pytest.raises(GraphophoneError, match="negative is"):
            SignedGCNConv(2, 2, negative="ignore")  # type: ignore[arg-type]
        with pytest.raises(GraphophoneError, match="changes degrees"):
            SignedGCNConv(2, 2, negative="drop", normalize=False)
        assert "negative='drop'" in str(SignedGCNConv(2, 3, negative="drop"))


class TestSignedGATConv:
    def test_equals_gat_without_weights_and_with_ones(self) -> None:
        edge_index, weight, _ = signed_graph(9, 4, torch.float32)
        ours, theirs = SignedGATConv(4, 3, heads=2), GATConv(4, 3, heads=2)
        theirs.load_state_dict(ours.state_dict())
        x = torch.randn(9, 4)
        torch.testing.assert_close(ours(x, edge_index), theirs(x, edge_index))
        torch.testing.assert_close(ours(x, edge_index, weight.abs()), theirs(x, edge_index))

    def test_a_weight_multiplies_what_its_edge_brings(self) -> None:
        edge_index = torch.tensor([[0, 1], [1, 0]])
        conv = SignedGATConv(4, 3)
        x = torch.randn(2, 4)
        plus, minus, none = (conv(x, edge_index, torch.full((2,), sign)) for sign in (1.0, -1.0, 0.0))
        torch.testing.assert_close(plus + minus, 2 * none)
        assert not torch.allclose(plus, minus)


class TestSignedGINConv:
    def test_equals_gin(self) -> None:
        edge_index, weight, _ = signed_graph(9, 5, torch.float32)
        ours, theirs = SignedGINConv(4, 3), GINConv(4, 3)
        theirs.load_state_dict(ours.state_dict())
        x = torch.randn(9, 4)
        for weights in (None, weight):
            torch.testing.assert_close(ours(x, edge_index, weights), theirs(x, edge_index, weights))

    def test_the_last_layer_is_not_bounded(self) -> None:
        torch.manual_seed(0)
        edge_index, weight, _ = signed_graph(9, 6, torch.float32)
        x = torch.randn(9, 4)
        assert SignedGINConv(4, 3)(x, edge_index, weight).min() >= 0
        last = SignedGINConv(4, 3, hidden_channels=16, bounded=False)
        assert last(x, edge_index, weight).min() < 0
        assert len(last.mlp) == 4
        assert last.mlp[0].out_features == 16

    def test_without_normalisation(self) -> None:
        conv = SignedGINConv(4, 3, norm=False)
        assert not [layer for layer in conv.mlp if isinstance(layer, torch.nn.BatchNorm1d)]
        assert conv(torch.randn(9, 4), signed_graph(9, 7)[0]).shape == (9, 3)
