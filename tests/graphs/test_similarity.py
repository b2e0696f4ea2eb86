"""Graphs of likeness against brute force in double precision, and their laws."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor
from torch_geometric.data import Data

from graphophone.graphs import (
    KNN,
    CosineThreshold,
    CycleTopK,
    Full,
    GraphError,
    TopKSimilarity,
    cosine_threshold,
    knn,
    topk_similarity,
)

# Few values, so that ties, equal rows and rows of zeros are common.
COARSE = arrays(np.float32, st.tuples(st.integers(1, 40), st.integers(1, 3)), elements=st.sampled_from([-1, 0, 1, 2]))
FINE = arrays(np.float32, st.tuples(st.integers(1, 40), st.integers(1, 5)), elements=st.floats(-100, 100, width=32))
MATRICES = COARSE | FINE


def cosines(x: Tensor) -> np.ndarray:
    """Cosine similarity on the grid of 2**-32 on which ties are equal: by definition, pair by pair."""
    wide = x.double().numpy()
    unit = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    return np.round((unit[:, None] * unit[None]).sum(axis=2) * 2**32)


def brute_force(similarity: np.ndarray, k: int, include_self: bool = False) -> Tensor:
    """Edges from a stable sort of every row of a matrix of similarities."""
    similarity = similarity.astype(np.float64)
    nodes = len(similarity)
    if not include_self:
        np.fill_diagonal(similarity, -np.inf)
    order = np.argsort(-similarity, axis=1, kind="stable")[:, : min(k, nodes - (not include_self))]
    sources = np.sort(order, axis=1)
    targets = np.repeat(np.arange(nodes), sources.shape[1])
    return torch.from_numpy(np.stack([sources.reshape(-1), targets]))


@given(MATRICES, st.integers(1, 12), st.booleans())
def test_topk_is_brute_force(matrix: np.ndarray, k: int, include_self: bool) -> None:
    x = torch.from_numpy(matrix)
    expected = brute_force(cosines(x), k, include_self)
    assert torch.equal(topk_similarity(x, k, include_self=include_self), expected)


@given(MATRICES, st.integers(1, 12), st.booleans())
def test_knn_is_brute_force(matrix: np.ndarray, k: int, include_self: bool) -> None:
    x = torch.from_numpy(matrix)
    wide = matrix.astype(np.float64)
    distance = np.sqrt(((wide[:, None] - wide[None]) ** 2).sum(axis=2)).astype(np.float32)
    assert torch.equal(knn(x, k, include_self=include_self), brute_force(-distance, k, include_self))


@given(MATRICES, st.sampled_from([-1.0, -0.5, 0.0, 0.5, 0.7, 0.99, 1.0]), st.booleans())
def test_threshold_is_brute_force(matrix: np.ndarray, tau: float, self_loops: bool) -> None:
    x = torch.from_numpy(matrix)
    reached = cosines(x) >= round(tau * 2**32)
    np.fill_diagonal(reached, self_loops)
    targets, sources = reached.nonzero()
    expected = torch.from_numpy(np.stack([sources, targets]))
    assert torch.equal(cosine_threshold(x, tau, self_loops=self_loops), expected)


@given(MATRICES, st.sampled_from([0.0, 0.5, 0.9]))
def test_threshold_graphs_are_symmetric(matrix: np.ndarray, tau: float) -> None:
    edge_index = cosine_threshold(torch.from_numpy(matrix), tau)
    assert set(map(tuple, edge_index.T.tolist())) == set(map(tuple, edge_index.flip(0).T.tolist()))


@pytest.mark.parametrize("nodes", [3, 8, 120, 128, 129, 500, 900, 2000])
def test_points_on_a_circle_hear_their_two_neighbors(nodes: int) -> None:
    angle = torch.arange(nodes).double() * 2 * math.pi / nodes
    x = torch.stack([angle.cos(), angle.sin()], dim=1)
    sources, targets = topk_similarity(x, k=2)
    steps = (sources - targets) % nodes
    assert torch.equal(targets, torch.arange(nodes).repeat_interleave(2))
    assert torch.equal(steps.view(nodes, 2).sort(dim=1).values, torch.tensor([[1, nodes - 1]]).repeat(nodes, 1))


def test_direction_on_three_points() -> None:
    # At 0, 10 and 30 degrees: the nearest of the third is the second, but not the other way round.
    angle = torch.tensor([0.0, 10.0, 30.0]).deg2rad()
    x = torch.stack([angle.cos(), angle.sin()], dim=1)
    assert topk_similarity(x, k=1).tolist() == [[1, 0, 1], [0, 1, 2]]
    assert knn(x, k=1).tolist() == [[1, 0, 1], [0, 1, 2]]


@given(MATRICES, st.integers(1, 5), st.data())
def test_positive_scaling_of_rows_changes_nothing(matrix: np.ndarray, k: int, data: st.DataObject) -> None:
    x = torch.from_numpy(matrix).double()
    # Rows whose norm falls below 1e-12 would no longer be scaled to length one.
    x = torch.where(x.abs() < 1e-6, 0, x)
    scale = data.draw(st.lists(st.floats(0.01, 1000), min_size=len(x), max_size=len(x)))
    scaled = x * torch.tensor(scale, dtype=torch.float64)[:, None]
    assert torch.equal(topk_similarity(x, k), topk_similarity(scaled, k))
    assert torch.equal(cosine_threshold(x, 0.7), cosine_threshold(scaled, 0.7))


@pytest.mark.parametrize("nodes", [1, 2, 3, 11, 12])
@pytest.mark.parametrize("function", [topk_similarity, knn])
def test_with_k_of_all_others_the_graph_is_full(nodes: int, function) -> None:
    x = torch.randn(nodes, 4)
    full = Full().edges(torch.tensor([0, nodes]))
    assert torch.equal(function(x, max(nodes - 1, 1)), full)
    assert torch.equal(function(x, nodes + 5), full)


@given(MATRICES, st.integers(1, 12))
def test_in_degrees(matrix: np.ndarray, k: int) -> None:
    nodes = len(matrix)
    data = Data(x=torch.from_numpy(matrix))
    effective = min(k, nodes - 1)
    edges = TopKSimilarity(k)(data).edge_index
    assert torch.equal(edges[1].bincount(minlength=nodes), torch.full((nodes,), effective))
    assert (edges[0] != edges[1]).all()
    degree = CycleTopK(k)(data).edge_index[1].bincount(minlength=nodes)
    assert ((degree == effective) | (degree == effective + 1)).all()
    assert nodes * effective <= degree.sum() <= nodes * (effective + 1)


@given(st.integers(0, 1000), st.integers(2, 200), st.integers(1, 12))
def test_relabelling_the_nodes_relabels_the_edges(seed: int, nodes: int, k: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(nodes, 6, generator=generator)
    order = torch.randperm(nodes, generator=generator)
    place = order.argsort()
    for builder in (TopKSimilarity(k), KNN(k), CosineThreshold(0.3)):
        relabelled = place[builder(Data(x=x)).edge_index]
        relabelled = relabelled[:, (relabelled[1] * nodes + relabelled[0]).argsort()]
        assert torch.equal(builder(Data(x=x[order])).edge_index, relabelled)


def test_including_the_node_itself_costs_a_neighbor() -> None:
    x = torch.randn(50, 8)
    without, with_self = topk_similarity(x, 4), topk_similarity(x, 5, include_self=True)
    assert torch.equal(with_self[:, with_self[0] != with_self[1]], without)


@pytest.mark.parametrize("builder", [TopKSimilarity, KNN, CosineThreshold, CycleTopK])
def test_features_leaves_columns_out(builder) -> None:
    x = torch.randn(60, 5)
    bit = torch.cat([x, 100 * torch.randint(0, 2, (60, 1)).float()], dim=1)
    expected = builder()(Data(x=x)).edge_index
    assert torch.equal(builder(features=5)(Data(x=bit)).edge_index, expected)
    assert not torch.equal(builder()(Data(x=bit)).edge_index, expected)


@pytest.mark.parametrize("builder", [TopKSimilarity(3), KNN(3), CosineThreshold(0.5), CycleTopK(3)])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38])
def test_features_that_are_no_numbers_are_refused(builder, value: float) -> None:
    x = torch.randn(20, 4)
    x[7, 2] = value
    with pytest.raises(GraphError, match=r"node 7 of graph 0 has a feature that is NaN, infinite or too large \(1 "):
        builder(Data(x=x))


@pytest.mark.parametrize("nodes", [20, 200, 900])
def test_rows_of_zeros_are_like_nothing_and_take_the_first(nodes: int) -> None:
    x = torch.randn(nodes, 4)
    x[5] = x[nodes - 1] = 0
    edges = topk_similarity(x, 3)
    assert edges[0][edges[1] == nodes - 1].tolist() == [0, 1, 2]
    assert not torch.isin(cosine_threshold(x, 0.1), torch.tensor([5, nodes - 1])).any()


@pytest.mark.parametrize("nodes", [20, 200, 900])
def test_equal_rows_take_the_first(nodes: int) -> None:
    assert topk_similarity(torch.ones(nodes, 3), 2)[:, :10].tolist() == [
        [1, 2, 0, 2, 0, 1, 0, 1, 0, 1],
        [0, 0, 1, 1, 2, 2, 3, 3, 4, 4],
    ]
    assert torch.equal(knn(torch.ones(nodes, 3), 2), topk_similarity(torch.ones(nodes, 3), 2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32])
def test_any_real_type(dtype: torch.dtype) -> None:
    x = (torch.randn(300, 5) * 10).to(dtype)
    assert torch.equal(topk_similarity(x, 5), topk_similarity(x.double(), 5))
    assert torch.equal(knn(x, 5), knn(x.double(), 5))


def test_no_gradient_flows_through_a_search() -> None:
    x = torch.randn(300, 5, requires_grad=True)
    assert not topk_similarity(x, 5).requires_grad
    assert torch.equal(topk_similarity(x, 5), topk_similarity(x.detach(), 5))


def test_no_nodes() -> None:
    x = torch.empty(0, 3)
    for edges in (topk_similarity(x, 2), knn(x, 2), cosine_threshold(x, 0.5)):
        assert edges.shape == (2, 0)
        assert edges.dtype == torch.int64


def test_shapes_and_options_that_make_no_sense() -> None:
    with pytest.raises(GraphError, match=r"real matrix \[nodes, dims\], not \[5\]"):
        topk_similarity(torch.randn(5), 2)
    with pytest.raises(GraphError, match="first 9 columns of 4: lower `features`"):
        topk_similarity(torch.randn(5, 4), 2, features=9)
    with pytest.raises(GraphError, match="topk: k is 0; give at least 1"):
        TopKSimilarity(0)
    with pytest.raises(GraphError, match="cycle_topk: k is 0; give at least 1"):
        CycleTopK(0)
    with pytest.raises(GraphError, match="knn: features is 0; give at least 1"):
        KNN(3, features=0)
    with pytest.raises(GraphError, match="block is 0; give at least 1"):
        CosineThreshold(0.5, block=0)
    with pytest.raises(GraphError, match=r"tau is 1\.5; give a cosine"):
        CosineThreshold(1.5)
