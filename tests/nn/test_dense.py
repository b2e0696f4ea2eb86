"""Small graphs as matrices: the same as their edges."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from graphophone.graphs.subgraphs import SubgraphSampler
from graphophone.models.subgraph_ssl import SubgraphSSL
from graphophone.nn.dense import DenseMatrix
from graphophone.nn.signed import signed_norm
from graphophone.nn.sparse import SparseMatrix, propagate


def random_graphs(sizes: list[int], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Edges within graphs, with weights, and where graphs begin."""
    generator = torch.Generator().manual_seed(seed)
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    edges = [
        torch.randint(size, (2, 3 * size), generator=generator) + begin for size, begin in zip(sizes, ptr, strict=False)
    ]
    edge_index = torch.cat(edges, dim=1)
    return edge_index, torch.randn(edge_index.shape[1], generator=generator), ptr


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 99))
def test_a_matrix_for_each_graph_is_that_of_its_edges(sizes: list[int], seed: int) -> None:
    edge_index, weight, ptr = random_graphs(sizes, seed)
    whole = SparseMatrix.from_edges(edge_index, weight, sum(sizes)).to_dense()
    found = DenseMatrix.from_edges(edge_index, weight, ptr)
    torch.testing.assert_close(torch.block_diag(*(matrix.blocks[0] for matrix in found)), whole)


@pytest.mark.parametrize("graphs", [1, 3])
@pytest.mark.parametrize("copies", [1, 4])
def test_products_of_copies_are_those_of_each(graphs: int, copies: int) -> None:
    edge_index, weight, ptr = random_graphs([5] * graphs, 1)
    matrix = DenseMatrix.joined(DenseMatrix.from_edges(edge_index, weight, ptr))
    assert matrix.shape == (5 * graphs, 5 * graphs)
    x = torch.randn(copies, 5 * graphs, 7)
    expected = torch.cat([propagate(copy, edge_index, weight) for copy in x])
    torch.testing.assert_close(propagate(x.flatten(0, 1), matrix), expected)


def test_signs() -> None:
    edge_index, weight, ptr = random_graphs([6], 2)
    matrix = DenseMatrix.from_edges(edge_index, weight, ptr)[0]
    near, far = matrix.signs()
    assert (near.blocks >= 0).all()
    assert (far.blocks <= 0).all()
    assert torch.equal(near.blocks + far.blocks, matrix.blocks)


def subgraph() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.cat([torch.arange(24) % 3, torch.full((16,), -1)])
    batch = next(SubgraphSampler(torch.randn(40, 6, generator=generator), labels, per_class=4).epoch(0))
    return batch.x, batch.edge_index, batch.edge_weight, batch.y


@pytest.mark.parametrize("backbone", ["gcn", "gin", "mlp", "graphmix"])
@pytest.mark.parametrize("negative", ["subtract", "drop", "separate"])
def test_losses_and_gradients_are_those_of_the_edges(backbone: str, negative: str) -> None:
    if negative == "separate" and backbone not in ("gcn", "graphmix"):
        pytest.skip("for graph convolutions")
    torch.manual_seed(0)
    model = SubgraphSSL(
        in_channels=6, num_classes=3, hidden_channels=8, backbone=backbone, tasks="all", dropout=0.0, negative=negative
    ).double()  # type: ignore[arg-type]
    x, edge_index, weight, y = subgraph()
    found = []
    ptr = torch.tensor([0, len(x)])
    for edges, values in ((edge_index, weight), (model.plan_small(edge_index, weight.double(), ptr)[0], None)):
        torch.manual_seed(1)
        values = None if values is None else values.double()
        losses = model.losses(x.double(), edges, values, y, generator=torch.Generator().manual_seed(2))
        model.zero_grad()
        model.total(losses).backward()
        found.append((losses, [p.grad for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(found[1], found[0])


def test_the_operator_of_a_small_graph_is_normalised() -> None:
    x, edge_index, weight, _ = subgraph()
    model = SubgraphSSL(in_channels=6, num_classes=3)
    matrix = model.plan_small(edge_index, weight, torch.tensor([0, len(x)]))[0]
    expected = SparseMatrix.from_edges(*signed_norm(edge_index, weight, len(x)), len(x)).to_dense()
    torch.testing.assert_close(matrix.blocks[0], expected)
    assert not SubgraphSSL(in_channels=6, num_classes=3, backbone="gat").reads_matrices
