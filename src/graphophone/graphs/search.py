"""Exact nearest neighbors in batches of graphs, in bounded memory.

Similarities are first taken in single precision by matrix products, which is fast and off by a known bound.
Wherever that bound leaves the answer open (a tie, or nearly one), and only there, they are taken again in double
precision and ranked by the rule: higher similarity first, then smaller index. The answer is therefore that of
double precision, and does not depend on the size of a block, on the number of threads, or on which other graphs
are in the batch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphophone.graphs import tiles
from graphophone.graphs.space import COSINE_GRID, EPSILON, LARGEST, Space

# Similarities held at once: those of one graph of 2048 nodes, 16 MiB in single precision.
BLOCK = 2**22
# Tiles of larger graphs, and batches of smaller ones: 4 MiB stay in the cache.
TILE = 1024
# One graph with at most so many similarities is compared in double precision at once: settling would cost more.
DOUBLE = 2**14
# For graphs of more nodes than this it is worth while to compute one half of the matrix and mirror it.
HALVED = 512


def nearest_edges(space: Space, k: int, *, include_self: bool = False, block: int = BLOCK) -> Tensor:
    """Edges from the `min(k, candidates)` nearest nodes of every node within its graph, ties to the smaller index.

    Time is O(n^2 * dims) for a graph of n nodes. Memory is O(nodes * (dims + k)) and a few arrays of
    `max(block, n, 16 * (k + 4)**2)` numbers at most.

    Args:
        space: The nodes of one or more graphs.
        k: Neighbors wanted, at least 1.
        include_self: Whether a node is a candidate for its own neighbor.
        block: Similarities held at once.

    Returns:
        `edge_index`, sorted by target, then source. [2, edges] int64
    """
    nodes, device = len(space.x), space.x.device
    edge_index = torch.empty(2, nodes, k, dtype=torch.int64, device=device)
    edge_index[1] = torch.arange(nodes, device=device)[:, None]
    search = _Search(space, k, include_self, block, edge_index[0])
    search.run(space.limits)
    edge_index = edge_index.view(2, -1)
    return edge_index[:, edge_index[0] >= 0] if search.incomplete else edge_index


def nearest_of_few(x: Tensor, k: int, *, include_self: bool = False) -> Tensor | None:
    """`nearest_edges` by cosine for one small graph on the CPU, in as few steps as can be.

    Where nodes are few, the number of calls decides. So all is compared in double precision at once, which leaves
    nothing to settle.

    Args:
        x: Node features. [nodes, dims]
        k: Neighbors wanted.
        include_self: Whether a node is a candidate for its own neighbor.

    Returns:
        `edge_index`. [2, nodes * k] int64. None where this is not the way: many nodes, no more than `k` candidates,
        another device, features that must be refused.
    """
    nodes = len(x)
    if nodes**2 > DOUBLE or k + (not include_self) > nodes or not x.is_cpu or x.dim() != 2 or x.is_complex():
        return None
    rows = x.detach().double().numpy()
    norm = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    if not norm.sum() < LARGEST:
        return None
    unit = torch.from_numpy(rows / np.maximum(norm, EPSILON)[:, None])
    scores = tiles.product(unit, unit).numpy()
    np.rint(np.multiply(scores, 1 / COSINE_GRID, out=scores), out=scores)
    if not include_self:
        scores.reshape(-1)[:: nodes + 1] = -np.inf
    edge_index = np.empty((2, nodes, k), dtype=np.int64)
    np.remainder(tiles.best_places(scores, k)[0].reshape(nodes, k), nodes, out=edge_index[0])
    edge_index[1] = np.arange(nodes)[:, None]
    return torch.from_numpy(edge_index).view(2, -1)


@dataclass
class _Search:
    """One call of `nearest_edges`.

    Attributes:
        space: The rows.
        k: Neighbors wanted.
        include_self: Whether a node is a candidate for its own neighbor.
        block: Similarities held at once.
        found: Neighbors of each node, ascending; -1 in the last places where there are fewer. [nodes, k] int64
        incomplete: Whether there are any -1.
    """

    space: Space
    k: int
    include_self: bool
    block: int
    found: Tensor
    incomplete: bool = False

    def run(self, limits: Sequence[int]) -> None:
        """Find the neighbors of every node of every graph."""
        larger: list[tuple[int, int]] = []
        tiny: list[tuple[int, int]] = []
        for begin, end in itertools.pairwise(limits):
            size = end - begin
            (larger if size - (not self.include_self) > self.k else tiny).append((size, begin))
        if tiny:
            self._take_all(tiny)
        least = tiles.smallest_side(self.k)
        side = max(math.isqrt(self.block) // tiles.ALIGNMENT * tiles.ALIGNMENT, least)
        tile = max(min(side, TILE), least)
        for begins, sizes in _batches(larger, tile**2):
            if sizes[0] <= side:
                self._search_padded(begins, sizes)
            elif self.found.is_cpu:
                self._search_tiles(begins[0], sizes[0], tile)
            else:
                self._search_rows(begins[0], sizes[0])

    def _take_all(self, graphs: Sequence[tuple[int, int]]) -> None:
        """Find the neighbors in graphs so small that every candidate is one."""
        device, k = self.found.device, self.k
        sizes, begins = torch.tensor(graphs, device=device).T
        size, first = sizes.repeat_interleave(sizes), begins.repeat_interleave(sizes)
        place = torch.arange(len(size), device=device) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
        other = torch.arange(k, device=device).repeat(len(size), 1)
        if not self.include_self:
            other += other >= place[:, None]
        self.found[first + place] = torch.where(other < size[:, None], first[:, None] + other, -1)
        self.incomplete = bool((sizes[sizes > 0] < k + (not self.include_self)).any())

    def _search_padded(self, begins: list[int], sizes: list[int]) -> None:
        """Search graphs of similar size together, padded to the largest."""
        space, device, k = self.space, self.found.device, self.k
        group = tiles.group_size(sizes[0], k)
        width = -(-sizes[0] // group) * group
        nodes, first, real = _pad(begins, sizes, width, device)
        shape = (len(sizes), width, -1)
        queries, keys, slack = space.single
        slack = slack if isinstance(slack, float) else slack[nodes]
        queries, keys = queries[nodes].view(shape), keys[nodes].view(shape)
        if len(sizes) == 1 and width > HALVED and self.found.is_cpu:
            scores = torch.empty(1, width, width)
            tiles.symmetric_product(queries[0], keys[0], out=scores[0])
        else:
            scores = tiles.product(queries, keys)
        if real is not None:
            graph, pad = (~real).nonzero(as_tuple=True)
            scores[graph, pad] = -torch.inf
            scores[graph, :, pad] = -torch.inf
        if not self.include_self:
            scores.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
        columns, unsure = tiles.top_of_rows(scores, k, group, slack, None if real is None else real.view(-1))
        if unsure is not None:
            self._settle_padded(begins, sizes, unsure, columns)
        columns += first
        if real is None:
            self.found[nodes] = columns
        else:
            real = real.view(-1)
            self.found[nodes[real]] = columns[real]

    def _settle_padded(self, begins: list[int], sizes: list[int], unsure: tiles.Open, columns: Tensor) -> None:
        """Overwrite the columns of the rows of a padded batch that rounding leaves open."""
        device = columns.device
        width = len(columns) // len(sizes)
        first = torch.tensor(begins, device=device)
        graph = unsure.rows // width
        row = unsure.rows - graph * width
        begin = first[graph]
        columns[unsure.rows] = self._settle(begin + row, unsure.columns, begin, unsure.real)
        if not unsure.crowded.any():
            return
        some = unsure.crowded
        involved, inverse = torch.unique_consecutive(graph[some], return_inverse=True)
        place = torch.arange(width, device=device)
        real = place < torch.tensor(sizes, device=device)[involved, None]
        nodes = first[involved, None] + torch.where(real, place, 0)
        columns[unsure.rows[some]] = self._settle_all(self.space.exact(nodes), real, inverse, row[some])

    def _search_tiles(self, begin: int, size: int, side: int) -> None:
        """Search one large graph in square tiles, each pair of nodes once."""
        space, k = self.space, self.k
        part = slice(begin, begin + size)
        queries, keys, slack = space.single
        slack = slack if isinstance(slack, float) else slack[part]
        search = tiles.TiledSearch(queries[part], keys[part], k, include_self=self.include_self, side=side, slack=slack)
        search.run()
        counts = np.diff(search.starts)
        sure = (counts == k) & ~search.crowded
        found = self.found[part]
        if sure.all():
            torch.add(torch.from_numpy(search.columns).view(size, k), begin, out=found)
            return
        found.numpy()[sure] = search.columns[sure.repeat(counts)].reshape(-1, k)
        rows = _where(~sure & ~search.crowded)
        if len(rows):
            starts = torch.from_numpy(search.starts)
            length = (starts[rows + 1] - starts[rows])[:, None]
            place = torch.arange(int(length.max()))
            real = place < length
            candidates = torch.from_numpy(search.columns)[starts[rows, None] + torch.where(real, place, 0)]
            found[rows] = self._settle(begin + rows, candidates, torch.tensor([begin]), real)
        self._settle_large(begin, _where(search.crowded), found)
        found += begin

    def _search_rows(self, begin: int, size: int) -> None:
        """Search one large graph in blocks of rows, by operations that every device has."""
        space, k = self.space, self.k
        found = self.found[begin : begin + size]
        first = torch.tensor([begin], device=found.device)
        queries, keys, slack = space.single
        crowded = []
        for rows in torch.arange(size, device=found.device).split(max(1, self.block // size)):
            scores = tiles.product(queries[begin + rows], keys[begin : begin + size])
            if not self.include_self:
                scores.scatter_(1, rows[:, None], -torch.inf)
            found[rows], unsure = tiles.top_anywhere(
                scores, k, slack if isinstance(slack, float) else slack[begin + rows]
            )
            if unsure is not None:
                some = rows[unsure.rows]
                found[some] = self._settle(begin + some, unsure.columns, first, unsure.real)
                crowded.append(some[unsure.crowded])
        if crowded:
            self._settle_large(begin, torch.cat(crowded), found)
        found += begin

    def _settle(self, nodes: Tensor, candidates: Tensor, begin: Tensor, real: Tensor) -> Tensor:
        """The `k` candidates of each node that are nearest in double precision.

        Args:
            nodes: [rows]
            candidates: Places of candidates in the graph, ascending. [rows, candidates]
            begin: Where the graph begins. [rows], or [1]
            real: Which candidates are not padding, at least `k`. [rows, candidates]

        Returns:
            Places, ascending. [rows, k]
        """
        others = torch.cat([nodes[:, None], candidates + begin[:, None]], dim=1)
        others.clamp_(max=len(self.space.x) - 1)
        scores = real.new_empty(real.shape, dtype=torch.float64)
        for some in _split(torch.arange(len(others)), self.block // (others.shape[1] * self.space.x.shape[1])):
            rows = self.space.exact(others[some])
            scores[some] = self.space.scores(rows[:, :1], rows[:, 1:])[:, 0]
        return candidates.gather(1, _highest(scores.masked_fill_(~real, -torch.inf), self.k))

    def _settle_large(self, begin: int, rows: Tensor, found: Tensor) -> None:
        """Settle some rows of one large graph, as many at a time as a block holds."""
        if not len(rows):
            return
        nodes = torch.arange(begin, begin + len(found), device=rows.device)
        keys = self.space.exact(nodes[None])
        real = torch.ones_like(nodes, dtype=torch.bool)[None]
        for some in _split(rows, self.block // len(found)):
            found[some] = self._settle_all(keys, real, torch.zeros_like(some), some)

    def _settle_all(self, keys: Tensor, real: Tensor, graph: Tensor, row: Tensor) -> Tensor:
        """The `k` nearest columns of some rows in double precision, out of all nodes of their graphs.

        Args:
            keys: Double-precision rows of each graph, padded. [graphs, width, dims]
            real: Which of them are not padding. [graphs, width]
            graph: Graph of each row wanted, ascending; every graph has one. [rows]
            row: Place of each row wanted in its graph. [rows]

        Returns:
            Columns, ascending. [rows, k] int64
        """
        counts = torch.bincount(graph)
        rank = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[graph]
        queries = row.new_zeros(len(keys), int(counts.max()))
        queries[graph, rank] = row
        queries = keys.gather(1, queries[:, :, None].expand(-1, -1, keys.shape[2]))
        scores = self.space.scores(queries, keys)[graph, rank]
        scores.masked_fill_(~real[graph], -torch.inf)
        if not self.include_self:
            scores.scatter_(1, row[:, None], -torch.inf)
        return _highest(scores, self.k)


def threshold_edges(space: Space, least: float, *, self_loops: bool = False, block: int = BLOCK) -> Tensor:
    """Edges between all nodes of the same graph whose cosine similarity is at least `least`, in both directions.

    Time is O(n^2 * dims) for a graph of n nodes. Memory is that of the output and a few arrays of `max(block, n)`
    numbers.

    Args:
        space: The nodes of one or more graphs, compared by cosine.
        least: The threshold, up to `COSINE_GRID`.
        self_loops: Add an edge from each node to itself.
        block: Similarities held at once.

    Returns:
        `edge_index`, sorted by target, then source. [2, edges] int64
    """
    device = space.x.device
    graphs = [(end - begin, begin) for begin, end in itertools.pairwise(space.limits) if end > begin]
    queries, keys, slack = space.single
    own = torch.inf if self_loops else -torch.inf
    parts = []
    for begins, sizes in _batches(graphs, min(block, TILE**2)):
        if len(begins) > 1:
            nodes, _, real = _pad(begins, sizes, sizes[0], device)
            nodes = nodes.view(len(sizes), -1)
            scores = tiles.product(queries[nodes], keys[nodes])
            scores.diagonal(dim1=1, dim2=2).fill_(own)
            if real is not None:
                scores.masked_fill_(~(real[:, :, None] & real[:, None]), -torch.inf)
            parts.append(_reaching(space, scores, least, slack, nodes, nodes, block))
            continue
        others = torch.arange(begins[0], begins[0] + sizes[0], device=device)[None]
        for rows in others.split(max(1, block // sizes[0]), dim=1):
            scores = tiles.product(queries[rows], keys[others])
            scores[0].scatter_(1, rows.T - begins[0], own)
            parts.append(_reaching(space, scores, least, slack, rows, others, block))
    if not parts:
        return torch.empty(2, 0, dtype=torch.int64, device=device)
    edge_index = torch.cat(parts, dim=1)
    # Rows are in order within each graph; graphs are only where all came at once.
    in_order = len(parts) == 1 and begins == sorted(begins)
    return edge_index if in_order else edge_index[:, edge_index[1].sort(stable=True).indices]


def _reaching(
    space: Space, scores: Tensor, least: float, slack: Tensor | float, rows: Tensor, columns: Tensor, block: int
) -> Tensor:
    """Edges where scores reach a threshold.

    Args:
        space: The rows.
        scores: Off by half of the slack. [batch, rows, columns]
        least: The threshold.
        slack: See `Space.single`.
        rows: Nodes, the targets. [batch, rows]
        columns: Nodes, the sources. [batch, columns]
        block: Numbers held at once to settle what rounding leaves open.

    Returns:
        By batch, then target, then source. [2, edges]
    """
    batch, row, column = (scores >= least - slack).nonzero(as_tuple=True)
    edge_index = torch.stack([columns[batch, column], rows[batch, row]])
    keep = scores[batch, row, column] >= least + slack
    for some in _split((~keep).nonzero()[:, 0], block // space.x.shape[1]):
        sources, targets = space.exact(edge_index[:, some])[:, :, None]
        keep[some] = space.scores(sources, targets)[:, 0, 0] >= round(least / COSINE_GRID)
    return edge_index[:, keep]


def _batches(graphs: list[tuple[int, int]], room: int) -> Iterator[tuple[list[int], list[int]]]:
    """Graphs to be searched together, padded to the largest of them.

    Args:
        graphs: Size and first node of each.
        room: Similarities that the graphs of a batch may have; a graph that needs more comes alone.

    Yields:
        First nodes, and sizes, largest first.
    """
    graphs = sorted(graphs)
    while graphs:
        size, begin = graphs.pop()
        begins, sizes = [begin], [size]
        # Sizes nearly the same waste little.
        while graphs and (len(begins) + 1) * size**2 <= room and graphs[-1][0] >= 0.8 * size - 8:
            next_size, begin = graphs.pop()
            begins.append(begin)
            sizes.append(next_size)
        yield begins, sizes


def _pad(begins: list[int], sizes: list[int], width: int, device: torch.device) -> tuple[Any, Tensor, Tensor | None]:
    """The nodes of graphs, each padded to `width` with its first node.

    Returns:
        Nodes, as anything that picks rows. [graphs * width]; the first node of the graph of each, or of all.
        [graphs * width or 1, 1]; and which nodes are no padding, None where all are. [graphs, width]
    """
    first = torch.tensor(begins, device=device)[:, None]
    if len(sizes) == 1 and sizes[0] == width:
        return slice(begins[0], begins[0] + width), first, None
    place = torch.arange(width, device=device)
    nodes = first + place
    real = None
    if sizes[-1] < width:
        real = place < torch.tensor(sizes, device=device)[:, None]
        nodes = torch.where(real, nodes, first)
    return nodes.view(-1), first.repeat_interleave(width, dim=0), real


def _highest(scores: Tensor, k: int) -> Tensor:
    """Columns of the `k` highest scores of each row, ascending; of equal scores, the first. [rows, k] int64."""
    if scores.shape[1] <= 256:
        order = scores.sort(dim=1, descending=True, stable=True).indices[:, :k]
        return order.sort(dim=1).values
    # Long rows are not worth sorting.
    last = scores.topk(k, dim=1).values[:, -1:]
    above = scores > last
    tied = scores == last
    chosen = above | (tied & (tied.cumsum(1) <= k - above.sum(1, keepdim=True)))
    return chosen.nonzero()[:, 1].view(-1, k)


def _where(flags: NDArray[np.bool_]) -> Tensor:
    return torch.from_numpy(np.flatnonzero(flags))


def _split(rows: Tensor, most: int) -> tuple[Tensor, ...]:
    """Parts of at most `most` rows; none of no rows."""
    return rows.split(max(1, most)) if len(rows) else ()
