"""Unions: set laws, and the graph of GLNN as the union that it is."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data
from torch_geometric.utils import coalesce

from graphophone.graphs import (
    Cycle,
    CycleTopK,
    Full,
    GraphError,
    Line,
    TemporalWindow,
    TopKSimilarity,
    Union,
    union_edges,
)

EDGES = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=30).map(
    lambda pairs: torch.tensor(pairs, dtype=torch.int64).view(-1, 2).T
)


@given(EDGES, EDGES)
def test_union_is_the_union_of_sets_sorted_by_target(first: torch.Tensor, second: torch.Tensor) -> None:
    edges = union_edges(first, second, num_nodes=8)
    pairs = list(map(tuple, edges.T.tolist()))
    assert pairs == sorted({*map(tuple, first.T.tolist()), *map(tuple, second.T.tolist())}, key=lambda e: e[::-1])
    assert torch.equal(edges, coalesce(torch.cat([first, second], dim=1), num_nodes=8, sort_by_row=False))


@given(EDGES, EDGES, EDGES)
def test_union_laws(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> None:
    def union(*edges: torch.Tensor) -> torch.Tensor:
        return union_edges(*edges, num_nodes=8)

    assert torch.equal(union(a, b), union(b, a))
    assert torch.equal(union(union(a, b), c), union(a, union(b, c)))
    assert torch.equal(union(a, a), union(a))
    assert torch.equal(union(a, torch.empty(2, 0, dtype=torch.int64)), union(a))


def test_builders_unite() -> None:
    data = Data(x=torch.randn(30, 4))
    assert torch.equal(Union(Line(), Full())(data).edge_index, Full()(data).edge_index)
    assert torch.equal(Union(Cycle(), Cycle())(data).edge_index, Cycle()(data).edge_index)
    # The lines of a union may be spelled as configurations.
    spelled = Union({"name": "line"}, {"name": "temporal_window", "radius": 3})
    assert spelled == Union(Line(), TemporalWindow(3))
    assert torch.equal(spelled(data).edge_index, Union(TemporalWindow(3), Line())(data).edge_index)


@pytest.mark.parametrize("sizes", [[1], [2], [3], [11], [12], [300], [1, 40, 2, 3, 900, 13]])
def test_the_graph_of_glnn_is_cycle_and_topk(sizes: list[int]) -> None:
    batch = Batch.from_data_list([Data(x=torch.randn(size, 6)) for size in sizes])
    expected = Union(Cycle(), TopKSimilarity(10))(batch).edge_index
    assert torch.equal(CycleTopK(10)(batch).edge_index, expected)


def test_a_union_reads_features_if_a_part_does() -> None:
    assert Union(Line(), TopKSimilarity()).reads_features
    assert not Union(Line(), Cycle()).reads_features
    with pytest.raises(GraphError, match="compares node features"):
        Union(Line(), TopKSimilarity())(Data(num_nodes=5))


def test_a_union_of_nothing_is_refused() -> None:
    with pytest.raises(GraphError, match="give at least one"):
        Union()
