"""Graphs of time alone: nodes are in the order of time, and no feature is read.

All are index arithmetic on the whole batch: O(edges) time and memory.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphophone.graphs.base import GraphBuilder, require


def window_edges(ptr: Tensor, offsets: Tensor) -> Tensor:
    """Edges `t + offset -> t` for every node `t` and every offset that stays inside the graph of `t`.

    Args:
        ptr: Where each graph begins, and where the last one ends. [graphs + 1] int64
        offsets: Ascending, without repetition. [offsets] int64

    Returns:
        `edge_index`, sorted by target, then source. [2, edges]
    """
    sizes = ptr.diff()
    nodes = torch.arange(int(sizes.sum()), device=ptr.device)
    first = ptr[:-1].repeat_interleave(sizes)
    last = (ptr[1:] - 1).repeat_interleave(sizes)
    sources = nodes[:, None] + offsets.to(ptr.device)
    inside = (sources >= first[:, None]) & (sources <= last[:, None])
    targets = nodes[:, None].expand_as(sources)
    return torch.stack([sources[inside], targets[inside]])


def line_edges(ptr: Tensor, *, directed: bool = True, self_loops: bool = False) -> Tensor:
    """Edges `t -> t + 1` of every graph, with `directed=False` also `t + 1 -> t`. See `window_edges`."""
    offsets = [-1] + [0] * self_loops + [1] * (not directed)
    return window_edges(ptr, torch.tensor(offsets))


def cycle_edges(ptr: Tensor, *, directed: bool = True, self_loops: bool = False) -> Tensor:
    """Edges `t -> t + 1` of every graph and the closing edge from its last node to its first.

    One node has no edge, two nodes have `0 -> 1` and `1 -> 0`.

    Args:
        ptr: Where each graph begins, and where the last one ends. [graphs + 1] int64
        directed: Whether time runs one way only; otherwise every edge has its reverse as well.
        self_loops: Add `t -> t`.

    Returns:
        `edge_index`, sorted by target, then source. [2, edges]
    """
    sizes = ptr.diff()
    nodes = torch.arange(int(sizes.sum()), device=ptr.device)
    size = sizes.repeat_interleave(sizes)
    first = ptr[:-1].repeat_interleave(sizes)
    place = nodes - first
    candidates = [first + (place - 1) % size]
    kept = [size > 1]
    if not directed:
        # With one or two nodes the next node is the same as the one before.
        candidates.append(first + (place + 1) % size)
        kept.append(size > 2)
    if self_loops:
        candidates.append(nodes)
        kept.append(torch.ones_like(kept[0]))
    sources, order = torch.stack(candidates, dim=1).sort(dim=1)
    mask = torch.stack(kept, dim=1).gather(1, order)
    targets = nodes[:, None].expand_as(sources)
    return torch.stack([sources[mask], targets[mask]])


def full_edges(ptr: Tensor, *, self_loops: bool = False) -> Tensor:
    """Every ordered pair of nodes of the same graph.

    Time and memory are those of the output, the sum of `n * (n - 1)` over the graphs: not for long recordings.

    Args:
        ptr: Where each graph begins, and where the last one ends. [graphs + 1] int64
        self_loops: Add `t -> t`.

    Returns:
        `edge_index`, sorted by target, then source. [2, edges]
    """
    sizes = ptr.diff()
    # Each target writes one run of sources: all nodes of its graph.
    runs = sizes.repeat_interleave(sizes)
    nodes = torch.arange(len(runs), device=ptr.device)
    targets = nodes.repeat_interleave(runs)
    starts = (ptr[:-1].repeat_interleave(sizes) - (runs.cumsum(0) - runs)).repeat_interleave(runs)
    sources = starts + torch.arange(len(targets), device=ptr.device)
    edge_index = torch.stack([sources, targets])
    return edge_index if self_loops else edge_index[:, sources != targets]


class Line(GraphBuilder):
    """The path of time: each frame hears the one before it.

    Args:
        directed: Whether edges run from past to future only; the undirected path has both directions.
        self_loops: Add an edge from each node to itself.
    """

    name = "line"

    def __init__(self, *, directed: bool = True, self_loops: bool = False) -> None:
        self.directed = directed
        self.self_loops = self_loops

    def edges(self, ptr: Tensor, x: Tensor | None = None) -> Tensor:
        """See `line_edges`."""
        return line_edges(ptr, directed=self.directed, self_loops=self.self_loops)


class Cycle(GraphBuilder):
    """The path of time with its ends joined: the backbone of the graph of GLNN.

    Args:
        directed: Whether edges run from past to future only (and from the end to the beginning).
        self_loops: Add an edge from each node to itself.
    """

    name = "cycle"

    def __init__(self, *, directed: bool = True, self_loops: bool = False) -> None:
        self.directed = directed
        self.self_loops = self_loops

    def edges(self, ptr: Tensor, x: Tensor | None = None) -> Tensor:
        """See `cycle_edges`."""
        return cycle_edges(ptr, directed=self.directed, self_loops=self.self_loops)


class TemporalWindow(GraphBuilder):
    """Each frame hears all frames at most `radius` steps away.

    Args:
        radius: Reach in nodes, at least 1.
        directed: Whether a frame hears its past only.
        self_loops: Add an edge from each node to itself.

    Raises:
        GraphError: If `radius` is below 1.
    """

    name = "temporal_window"

    def __init__(self, radius: int = 2, *, directed: bool = False, self_loops: bool = False) -> None:
        require(radius >= 1, f"temporal_window: radius is {radius}; give at least 1")
        self.radius = radius
        self.directed = directed
        self.self_loops = self_loops

    def edges(self, ptr: Tensor, x: Tensor | None = None) -> Tensor:
        """See `window_edges`."""
        offsets = torch.arange(-self.radius, (0 if self.directed else self.radius) + 1)
        return window_edges(ptr, offsets if self.self_loops else offsets[offsets != 0])


class Full(GraphBuilder):
    """Every frame hears every other one. Memory is the output: `n * (n - 1)` edges for a graph of `n` nodes.

    Args:
        self_loops: Add an edge from each node to itself.
    """

    name = "full"

    def __init__(self, *, self_loops: bool = False) -> None:
        self.self_loops = self_loops

    def edges(self, ptr: Tensor, x: Tensor | None = None) -> Tensor:
        """See `full_edges`."""
        return full_edges(ptr, self_loops=self.self_loops)
