"""Graphs of time: closed forms on single graphs, and on batches with graphs of no, one, two and three nodes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from graphophone.graphs import (
    Cycle,
    Full,
    GraphError,
    Line,
    TemporalWindow,
    cycle_edges,
    full_edges,
    line_edges,
    window_edges,
)

SIZES = st.lists(st.integers(0, 9), min_size=1, max_size=6)


def pointers(sizes: list[int]) -> Tensor:
    return torch.tensor([0, *sizes]).cumsum(0)


def edge_set(edge_index: Tensor) -> set[tuple[int, int]]:
    pairs = [(int(source), int(target)) for source, target in edge_index.T]
    assert pairs == sorted(set(pairs), key=lambda pair: (pair[1], pair[0])), "not sorted, or an edge twice"
    return set(pairs)


@pytest.mark.parametrize(
    ("nodes", "edges"),
    [(0, set()), (1, set()), (2, {(0, 1), (1, 0)}), (3, {(0, 1), (1, 2), (2, 0)})],
)
def test_small_cycles(nodes: int, edges: set[tuple[int, int]]) -> None:
    assert edge_set(cycle_edges(torch.tensor([0, nodes]))) == edges


@pytest.mark.parametrize("nodes", [2, 3, 4, 50])
def test_a_cycle_has_as_many_edges_as_nodes_and_degrees_one(nodes: int) -> None:
    sources, targets = cycle_edges(torch.tensor([0, nodes]))
    assert torch.equal(targets, torch.arange(nodes))
    assert torch.equal(sources.sort().values, torch.arange(nodes))
    assert (sources != targets).all()


@given(SIZES, st.booleans(), st.booleans())
def test_line_by_definition(sizes: list[int], directed: bool, loops: bool) -> None:
    expected = set()
    for begin, size in zip(pointers(sizes).tolist(), sizes, strict=False):
        for node in range(begin, begin + size):
            if node > begin:
                expected |= {(node - 1, node)} if directed else {(node - 1, node), (node, node - 1)}
            if loops:
                expected.add((node, node))
    assert edge_set(line_edges(pointers(sizes), directed=directed, self_loops=loops)) == expected


@given(SIZES, st.booleans(), st.booleans())
def test_cycle_by_definition(sizes: list[int], directed: bool, loops: bool) -> None:
    expected = set()
    for begin, size in zip(pointers(sizes).tolist(), sizes, strict=False):
        for place in range(size):
            following = (place + 1) % size
            if following != place:
                expected.add((begin + place, begin + following))
                if not directed:
                    expected.add((begin + following, begin + place))
            if loops:
                expected.add((begin + place, begin + place))
    assert edge_set(cycle_edges(pointers(sizes), directed=directed, self_loops=loops)) == expected


@given(SIZES, st.integers(1, 12), st.booleans(), st.booleans())
def test_window_by_definition(sizes: list[int], radius: int, directed: bool, loops: bool) -> None:
    ptr = pointers(sizes)
    expected = set()
    for begin, size in zip(ptr.tolist(), sizes, strict=False):
        for target in range(size):
            for source in range(size):
                near = 0 < target - source <= radius or (not directed and 0 < source - target <= radius)
                if near or (loops and source == target):
                    expected.add((begin + source, begin + target))
    builder = TemporalWindow(radius, directed=directed, self_loops=loops)
    assert edge_set(builder.edges(ptr)) == expected


@given(SIZES, st.booleans())
def test_full_by_definition(sizes: list[int], loops: bool) -> None:
    ptr = pointers(sizes)
    expected = {
        (begin + source, begin + target)
        for begin, size in zip(ptr.tolist(), sizes, strict=False)
        for source in range(size)
        for target in range(size)
        if loops or source != target
    }
    assert edge_set(full_edges(ptr, self_loops=loops)) == expected


def test_a_window_of_one_step_is_the_line() -> None:
    ptr = pointers([7, 1, 4])
    assert torch.equal(TemporalWindow(1).edges(ptr), Line(directed=False).edges(ptr))
    assert torch.equal(TemporalWindow(1, directed=True).edges(ptr), Line().edges(ptr))


def test_a_window_as_wide_as_the_graph_is_full() -> None:
    ptr = pointers([7, 1, 4])
    assert torch.equal(TemporalWindow(6).edges(ptr), Full().edges(ptr))


def test_offsets_alone_decide() -> None:
    assert edge_set(window_edges(torch.tensor([0, 5]), torch.tensor([-3, 2]))) == {
        (2, 0),
        (3, 1),
        (0, 3),
        (4, 2),
        (1, 4),
    }


def test_cycle_is_the_line_and_its_closing_edge() -> None:
    ptr = torch.tensor([0, 6])
    assert edge_set(Cycle().edges(ptr)) == edge_set(Line().edges(ptr)) | {(5, 0)}


def test_a_window_must_reach_somewhere() -> None:
    with pytest.raises(GraphError, match="radius is 0; give at least 1"):
        TemporalWindow(0)
