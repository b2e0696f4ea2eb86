"""Sparse matrices against dense ones, their gradients, and the quick dropout."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from graphophone.nn.self_supervision import factored_reconstruction_loss, reconstruction_loss
from graphophone.nn.sparse import SparseMatrix, drop, linear, propagate

sizes = st.integers(1, 9)
seeds = st.integers(0, 2**20)


def dense(rows: int, columns: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    return x * (torch.rand(rows, columns, generator=generator) < 0.4)


@given(sizes, sizes, sizes, seeds)
def test_products_and_gradients_are_those_of_the_dense_matrix(rows: int, columns: int, width: int, seed: int) -> None:
    x = dense(rows, columns, seed)
    plain = x.clone().requires_grad_()
    matrix = SparseMatrix.from_tensor(x)
    values = matrix.values.clone().requires_grad_()
    generator = torch.Generator().manual_seed(seed)
    right = torch.randn(columns, width, generator=generator, dtype=torch.float64, requires_grad=True)
    other = right.detach().clone().requires_grad_()
    weight = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    one, two = plain @ right, matrix.with_values(values) @ other
    torch.testing.assert_close(two, one)
    (one * weight).sum().backward()
    (two * weight).sum().backward()
    torch.testing.assert_close(other.grad, right.grad)
    assert plain.grad is not None
    row, column = x.nonzero(as_tuple=True)
    torch.testing.assert_close(values.grad, plain.grad[row, column])


@given(sizes, sizes, seeds)
def test_rows_are_taken_scaled_and_copied(rows: int, columns: int, seed: int) -> None:
    x = dense(rows, columns, seed)
    generator = torch.Generator().manual_seed(seed)
    index = torch.randperm(rows, generator=generator)[: max(1, rows // 2)]
    matrix = SparseMatrix.from_tensor(x)
    assert torch.equal(matrix.to_dense(), x)
    taken = matrix.take(index)
    assert taken.shape == (len(index), columns)
    assert torch.equal(taken.to_dense(), x[index])
    assert torch.equal(taken.take(torch.tensor([0])).to_dense(), x[index[:1]])
    torch.testing.assert_close(taken.square_norms(), x[index].square().sum(dim=1))
    factor = torch.arange(len(index), dtype=torch.float64)
    torch.testing.assert_close(taken.scale_rows(factor).to_dense(), factor[:, None] * x[index])
    torch.testing.assert_close(taken.stack(3).to_dense(), x[index].repeat(3, 1))
    torch.testing.assert_close(taken.blocks(2).to_dense(), torch.block_diag(x[index], x[index]))
    right = torch.randn(columns, 2, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(taken @ right, x[index] @ right)
    twice = matrix.blocks(2, torch.stack([matrix.values, 2 * matrix.values]))
    torch.testing.assert_close(twice.to_dense(), torch.block_diag(x, 2 * x))


def test_entries_of_one_place_add_up() -> None:
    place = torch.tensor([2, 0, 2, 2])
    matrix = SparseMatrix.from_entries(place, torch.tensor([1, 0, 1, 0]), torch.tensor([1.0, 2.0, 3.0, 4.0]), (3, 2))
    expected = torch.tensor([[2.0, 0.0], [0.0, 0.0], [4.0, 4.0]])
    assert torch.equal(matrix.to_dense(), expected)
    assert torch.equal(matrix @ torch.eye(2), expected)


@given(st.integers(2, 12), seeds)
def test_a_graph_sends_from_sources_to_targets(nodes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(nodes, (2, 3 * nodes), generator=generator)
    weight = torch.randn(3 * nodes, generator=generator, dtype=torch.float64)
    x = torch.randn(nodes, 4, generator=generator, dtype=torch.float64)
    for w in (weight, None):
        matrix = SparseMatrix.from_edges(edge_index, w, nodes, dtype=torch.float64)
        torch.testing.assert_close(propagate(x, matrix), propagate(x, edge_index, w))


def test_linear() -> None:
    x, weight, bias = dense(5, 4, 0), dense(3, 4, 1), torch.ones(3, dtype=torch.float64)
    for b in (bias, None):
        torch.testing.assert_close(linear(SparseMatrix.from_tensor(x), weight, b), linear(x, weight, b))


@given(st.integers(2, 9), st.integers(1, 9), st.booleans(), seeds)
def test_restoring_without_writing_it_out(nodes: int, dims: int, masked: bool, seed: int) -> None:
    x = dense(nodes, dims, seed)
    states, weight, bias = dense(nodes, 3, seed + 1), dense(dims, 3, seed + 2), dense(1, dims, seed + 3)[0]
    chosen = (torch.arange(nodes) % 2 == 0) if masked else None
    for b in (bias, None):
        restored = linear(states, weight, b)
        for per_dim in (False, True):
            found = factored_reconstruction_loss(
                states, weight, b, SparseMatrix.from_tensor(x), chosen, per_dim=per_dim
            )
            torch.testing.assert_close(found, reconstruction_loss(restored, x, chosen, per_dim=per_dim))


class TestDropout:
    @pytest.mark.parametrize("probability", [0.1, 0.5, 0.6])
    def test_share_and_scale(self, probability: float) -> None:
        torch.manual_seed(0)
        x = torch.ones(400, 500)
        dropped = drop(x, probability)
        kept = (dropped != 0).float().mean().item()
        assert abs(kept - (1 - probability)) < 5 * math.sqrt(probability * (1 - probability) / x.numel()) + 2**-16
        assert dropped.unique().tolist() == pytest.approx([0.0, 1 / (1 - probability)], rel=1e-4)
        # What is kept is scaled by the share of the 65,536 patterns of bits that keep it.
        assert dropped.max().item() == pytest.approx(2**16 / round((1 - probability) * 2**16), rel=1e-6)

    def test_values_are_dropped_on_their_own(self) -> None:
        torch.manual_seed(0)
        kept = drop(torch.ones(300, 301), 0.5) != 0
        for step in (1, 2, 4):
            assert (kept[:, step:] & kept[:, :-step]).float().mean().item() == pytest.approx(0.25, abs=0.01)
        assert (kept[1:] & kept[:-1]).float().mean().item() == pytest.approx(0.25, abs=0.01)
        again = drop(torch.ones(300, 301), 0.5) != 0
        assert (again & kept).float().mean().item() == pytest.approx(0.25, abs=0.01)

    def test_gradients_pass_where_values_do(self) -> None:
        x = torch.randn(50, 60, requires_grad=True)
        dropped = drop(x, 0.4)
        dropped.sum().backward()
        torch.testing.assert_close(x.grad, (dropped / x).detach())

    def test_nothing_in_evaluation_and_all_at_one(self) -> None:
        x = torch.randn(50, 60)
        assert drop(x, 0.5, training=False) is x
        assert drop(x, 0.0) is x
        assert not drop(x, 1.0).any()

    def test_of_sparse_features_the_values_that_there_are(self) -> None:
        matrix = SparseMatrix.from_tensor(torch.eye(3000))
        dropped = drop(matrix, 0.5)
        assert set(dropped.values.unique().tolist()) == {0.0, 2.0}
        assert matrix.values.eq(1).all()

    def test_the_same_for_a_seed(self) -> None:
        torch.manual_seed(3)
        first = drop(torch.ones(70, 80), 0.5)
        torch.manual_seed(3)
        assert torch.equal(drop(torch.ones(70, 80), 0.5), first)
