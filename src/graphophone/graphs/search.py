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
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from graphophone.graphs import tiles
from graphophone.graphs.base import GraphError

Metric = Literal["cosine", "euclidean"]

# Similarities held at once: a tile of 1024 x 1024 single-precision numbers is 4 MiB and stays in the cache.
BLOCK = 2**20
# Cosines nearer to each other than this are ties. It is far below what single-precision features can tell apart,
# and far above the rounding of double precision, so that equal rows tie however their products were summed.
COSINE_GRID = 2.0**-32
# Smallest norm a row is divided by: rows of zeros stay zeros, and have similarity 0 to every row.
EPSILON = 1e-12
# The norms of all rows must add up to less than this: their squares must fit single precision.
LARGEST = 1e18


@dataclass(frozen=True)
class Space:
    """Rows made ready for comparison by matrix products.

    Attributes:
        metric: What is compared.
        x: Features, as they came. [nodes, dims]
        norm: Norm of each row, at least EPSILON. [nodes, 1] float64
        queries: Single-precision rows. [nodes, columns]
        keys: Single-precision rows; `queries @ keys.T` is the similarity, higher is nearer. [nodes, columns]
        slack: Two scores of a row that differ by more than this are in the right order. [nodes] float32, or one
            number for all.
    """

    metric: Metric
    x: Tensor
    norm: Tensor
    queries: Tensor
    keys: Tensor
    slack: Tensor | float

    def exact(self, nodes: Tensor) -> Tensor:
        """Double-precision rows. [..., dims] for nodes [...]"""
        rows = self.x[nodes].double()
        return rows.div_(self.norm[nodes]) if self.metric == "cosine" else rows

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Double-precision similarities on the grid where ties are equal, from `exact` rows.

        Args:
            queries: [batch, rows, dims]
            keys: [batch, columns, dims]

        Returns:
            Higher is nearer. [batch, rows, columns] float64
        """
        if self.metric == "cosine":
            return torch.bmm(queries, keys.mT).div_(COSINE_GRID).round_()
        distances = torch.cdist(queries, keys, compute_mode="donot_use_mm_for_euclid_dist")
        # Single precision is the grid: it is relative, so the rule does not depend on the unit of the features.
        return -distances.float().double()

    def slack_of(self, nodes: Tensor | slice) -> Tensor | float:
        """The slack of some nodes."""
        return self.slack if isinstance(self.slack, float) else self.slack[nodes]


def prepare(x: Tensor, ptr: Tensor, metric: Metric, features: int | None = None) -> Space:
    """Make node features ready for comparison.

    Args:
        x: Node features. [nodes, dims]
        ptr: Where each graph begins, and where the last one ends. [graphs + 1]
        metric: `"cosine"` or `"euclidean"`.
        features: Compare the first `features` columns only.

    Raises:
        GraphError: If `x` is not a matrix of real numbers, holds a number that is not finite or so large that single
            precision cannot hold its square, or has fewer columns than `features`.
    """
    if x.dim() != 2 or x.is_complex():
        raise GraphError(f"node features must be a real matrix [nodes, dims], not {list(x.shape)} {x.dtype}")
    if features is not None:
        if features > x.shape[1]:
            raise GraphError(f"cannot compare the first {features} columns of {x.shape[1]}: lower `features`")
        x = x[:, :features]
    x = x.detach()
    if not x.is_floating_point():
        x = x.double()
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float64)
    if not norm.sum().item() < LARGEST:
        _refuse(norm[:, 0], ptr)
    norm.clamp_(min=EPSILON)
    terms = x.shape[1] + 8  # products in one score, and the roundings of its factors
    unit = _unit_roundoff(x.device)
    if metric == "cosine":
        single = x.float() / norm.float()
        # |fl(a.b) - a.b| <= terms * unit * |a||b| in any order of summation; both scores may be off by that.
        return Space(metric, x, norm, single, single, 2 * terms * unit + 2 * COSINE_GRID)
    sizes = ptr.diff()
    graph = torch.arange(len(sizes), device=x.device).repeat_interleave(sizes)
    # Distances do not depend on the origin, rounding does: put it amid the nodes.
    wide = x.double()
    centers = wide.new_zeros(len(sizes), x.shape[1]).index_add_(0, graph, wide) / sizes.clamp(min=1)[:, None]
    wide = wide - centers[graph]
    radius = torch.linalg.vector_norm(wide, dim=1)
    largest = radius.new_zeros(len(sizes)).index_reduce_(0, graph, radius, "amax")[graph]
    # The product of these rows is -|a - b|^2 / 2.
    half, one = -0.5 * radius[:, None] ** 2, torch.ones_like(norm)
    queries = torch.cat([wide, one, half], dim=1).float()
    keys = torch.cat([wide, half, one], dim=1).float()
    slack = (terms * unit + 2.0**-22) * (radius + largest) ** 2
    return Space(metric, x, norm, queries, keys, slack.float() * (1 + 2.0**-20))


def _refuse(norm: Tensor, ptr: Tensor) -> None:
    """Raise the error that names the first node whose features cannot be compared."""
    bad = (~(norm < LARGEST / len(norm))).nonzero()[:, 0]
    node = int(bad[0])
    graph = int((ptr[1:] <= node).sum())
    raise GraphError(
        f"node {node - int(ptr[graph])} of graph {graph} has a feature that is NaN, infinite or too large "
        f"({len(bad)} such nodes in all): repair or leave out this recording before building its graph"
    )


def _unit_roundoff(device: torch.device) -> float:
    """Relative rounding of one product in a single-precision matrix product, as torch is set up."""
    precision = torch.get_float32_matmul_precision()
    if precision == "highest":
        return 2.0**-24
    # "high" allows TF32 on GPUs (10 bits) and "medium" bfloat16 (7 bits); both factors of a product are rounded.
    return 2.0**-9 if precision == "high" and device.type == "cuda" else 2.0**-6


def nearest(
    space: Space, ptr: Tensor, k: int, *, include_self: bool = False, block: int = BLOCK
) -> tuple[Tensor, Tensor]:
    """The `min(k, candidates)` nearest nodes of every node within its graph, ties to the smaller index.

    Time is O(n^2 * dims) for a graph of n nodes. Memory is O(nodes * (dims + k)) and a few arrays of
    `max(block, n, 64 * (k + 1)**2)` numbers at most.

    Args:
        space: The rows, see `prepare`.
        ptr: Where each graph begins, and where the last one ends. [graphs + 1]
        k: Neighbors wanted, at least 1.
        include_self: Whether a node is a candidate for its own neighbor.
        block: Similarities held at once.

    Returns:
        Neighbors of each node, ascending, as indices into all nodes; where a small graph has fewer than `k`
        candidates the last places hold -1. [nodes, k] int64. And how many there are. [nodes] int64
    """
    sizes = ptr.diff()
    counts = (sizes if include_self else sizes - 1).clamp(max=k).repeat_interleave(sizes)
    found = torch.empty(len(space.x), k, dtype=torch.int64, device=ptr.device)
    searched = []
    tiny = False
    limits = ptr.tolist()
    for begin, end in itertools.pairwise(limits):
        if end - begin - (not include_self) > k:
            searched.append((end - begin, begin))
        else:
            tiny |= end > begin
    if tiny:
        _everyone(ptr, sizes, k, include_self, found)
    side = math.isqrt(block) // tiles.ALIGNMENT * tiles.ALIGNMENT
    side = max(side, tiles.smallest_side(k))
    searched.sort()
    while searched:
        width, begin = searched.pop()
        if width > side:
            large = _tiled if ptr.device.type == "cpu" else _by_rows
            large(space, begin, width, k, include_self, block, side, found)
            continue
        begins, widths = [begin], [width]
        # Graphs nearly as large share a padded batch: similar sizes waste little.
        room = max(block, side**2) // width**2 - 1
        while searched and room > 0 and searched[-1][0] >= 0.8 * width - 8:
            size, begin = searched.pop()
            begins.append(begin)
            widths.append(size)
            room -= 1
        _padded(space, begins, widths, k, include_self, found)
    return found, counts


def _everyone(ptr: Tensor, sizes: Tensor, k: int, include_self: bool, found: Tensor) -> None:
    """Write the rows of graphs so small that every candidate is a neighbor: all others, in order."""
    size = sizes.repeat_interleave(sizes)
    nodes = (size <= k + (not include_self)).nonzero()
    size = size[nodes]
    first = ptr[:-1].repeat_interleave(sizes)[nodes]
    other = torch.arange(k, device=ptr.device).repeat(len(nodes), 1)
    if not include_self:
        other += other >= nodes - first
    found[nodes[:, 0]] = torch.where(other < size, first + other, -1)


def _padded(space: Space, begins: list[int], sizes: list[int], k: int, include_self: bool, found: Tensor) -> None:
    """Search graphs of similar size together, padded to the largest, and write their rows of `found`."""
    device = found.device
    group = tiles.group_size(max(sizes), k)
    width = -(-max(sizes) // group) * group
    first = torch.tensor(begins, device=device)[:, None]
    place = torch.arange(width, device=device)
    nodes = first + place
    full = min(sizes) == width
    real = place < torch.tensor(sizes, device=device)[:, None]
    if not full:
        nodes = torch.where(real, nodes, first)
    with torch.autocast(device.type, enabled=False):
        scores = torch.bmm(space.queries[nodes], space.keys[nodes].mT)
    if not full:
        graph, pad = (~real).nonzero(as_tuple=True)
        scores[graph, pad] = -torch.inf
        scores[graph, :, pad] = -torch.inf
    if not include_self:
        scores.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    slack = space.slack_of(nodes)
    if device.type == "cpu":
        count = min(k + tiles.SPARE, width)
        best, places, others = tiles.best_of_rows(scores, scores, count, group)
        shape = (len(begins), width)
        values = torch.from_numpy(best).view(*shape, count)
        candidates = torch.from_numpy(places).view(*shape, count)
        rest = torch.from_numpy(others).view(shape)
    else:
        values, candidates, rest = _top(scores, k)
    columns, unsure, crowded = _decide(values, candidates, rest, slack, k)
    if not full:
        unsure &= real
        crowded &= real
    if unsure.any():
        graph, row = unsure.nonzero(as_tuple=True)
        others = candidates[graph, row]
        chosen = _settle_pairs(space, nodes[graph, row], others + first[graph], values[graph, row] > -torch.inf, k)
        columns[graph, row] = others[chosen].view(-1, k)
    if crowded.any():
        graph, row = crowded.nonzero(as_tuple=True)
        involved, inverse = torch.unique_consecutive(graph, return_inverse=True)
        keys = space.exact(nodes[involved])
        columns[graph, row] = _settle_rows(space, keys, real[involved], inverse, row, k, include_self)
    columns = columns + first[:, :, None]
    if full:
        found[nodes.view(-1)] = columns.view(-1, k)
    else:
        found[nodes[real]] = columns[real]


def _tiled(
    space: Space, begin: int, size: int, k: int, include_self: bool, block: int, side: int, found: Tensor
) -> None:
    """Search one large graph in square tiles, each pair of nodes once, and write its rows of `found`."""
    part = slice(begin, begin + size)
    search = tiles.TiledSearch(
        space.queries[part], space.keys[part], k, include_self=include_self, side=side, slack=space.slack_of(part)
    )
    search.run()
    starts, columns = torch.from_numpy(search.starts), torch.from_numpy(search.columns)
    crowded = torch.from_numpy(search.crowded)
    counts = starts.diff()
    result = found[part]
    sure = (counts == k) & ~crowded
    result[sure] = columns[sure.repeat_interleave(counts)].view(-1, k)
    for rows in _split(((counts > k) & ~crowded).nonzero()[:, 0], block // (8 * k)):
        place = torch.arange(int(counts[rows].max()))
        real = place < counts[rows, None]
        others = columns[torch.where(real, starts[rows, None] + place, starts[rows, None])]
        chosen = _settle_pairs(space, begin + rows, begin + others, real, k)
        result[rows] = others[chosen].view(-1, k)
    _settle_large(space, begin, crowded.nonzero()[:, 0], k, include_self, block, result)
    result += begin


def _by_rows(
    space: Space, begin: int, size: int, k: int, include_self: bool, block: int, side: int, found: Tensor
) -> None:
    """Search one large graph in blocks of rows, and write its rows of `found`."""
    device = found.device
    part = slice(begin, begin + size)
    keys = space.keys[part].T
    result = found[part]
    everyone = torch.arange(size, device=device)
    again = []
    for rows in everyone.split(max(1, block // size)):
        with torch.autocast(device.type, enabled=False):
            scores = torch.mm(space.queries[begin + rows], keys)
        if not include_self:
            scores.scatter_(1, rows[:, None], -torch.inf)
        values, others, rest = _top(scores, k)
        result[rows], unsure, crowded = _decide(values, others, rest, space.slack_of(begin + rows), k)
        if unsure.any():
            some, others, values = rows[unsure], others[unsure], values[unsure]
            chosen = _settle_pairs(space, begin + some, begin + others, values > -torch.inf, k)
            result[some] = others[chosen].view(-1, k)
        again.append(rows[crowded])
    _settle_large(space, begin, torch.cat(again), k, include_self, block, result)
    result += begin


def _top(scores: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """What `tiles.best_of_rows` gives, on any device. Scores are [..., rows, columns], and so are the results."""
    values, columns = scores.topk(min(k + tiles.SPARE, scores.shape[-1]), dim=-1)
    columns, order = columns.sort(dim=-1)
    return values.gather(-1, order), columns, values[..., -1]


def _decide(
    values: Tensor, columns: Tensor, rest: Tensor, slack: Tensor | float, k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose the `k` highest of the candidates of each row where that is certain.

    Args:
        values: Scores of the candidates, at least `k` of them. [..., candidates]
        columns: Where they are, ascending. [..., candidates]
        rest: No other column of the row has a higher score. [...]
        slack: Scores of a row further apart than this are in the right order. [...], or one number
        k: Columns wanted.

    Returns:
        Columns. [..., k]; rows where they are to be chosen anew from the candidates. [...] bool; and rows where more
        columns than the candidates come into question. [...] bool
    """
    spare = values.shape[-1] - k
    if values.device.type == "cpu":
        last = torch.from_numpy(np.partition(values.numpy(), spare, axis=-1)[..., spare])
    else:
        last = values.topk(k, dim=-1, sorted=True).values[..., -1]
    bar = last - slack
    near = values >= bar[..., None]
    unsure = near.sum(-1) > k
    crowded = unsure & (rest >= bar) if spare else torch.zeros_like(unsure)
    if unsure.any():
        near[unsure] = torch.arange(k + spare, device=near.device) < k
    return columns[near].view(*near.shape[:-1], k), unsure & ~crowded, crowded


def _settle_pairs(space: Space, nodes: Tensor, others: Tensor, real: Tensor, k: int) -> Tensor:
    """Which `k` of the candidates of each node are nearest in double precision, ties to the first.

    Args:
        space: The rows.
        nodes: [rows]
        others: Candidates of each, ascending. [rows, candidates]
        real: Which of them are not padding, at least `k`. [rows, candidates]
        k: Candidates wanted.

    Returns:
        True in `k` places of each row. [rows, candidates] bool
    """
    scores = space.scores(space.exact(nodes)[:, None], space.exact(others))[:, 0]
    return _choose(scores.masked_fill_(~real, -torch.inf), k)


def _settle_rows(
    space: Space, keys: Tensor, real: Tensor, graph: Tensor, row: Tensor, k: int, include_self: bool
) -> Tensor:
    """The `k` nearest columns of some rows in double precision, out of all nodes of their graphs.

    Args:
        space: The rows.
        keys: Double-precision rows of each graph, padded. [graphs, width, dims]
        real: Which of them are not padding. [graphs, width]
        graph: Graph of each row wanted, ascending; every graph has one. [rows]
        row: Place of each row wanted in its graph. [rows]
        k: Columns wanted.
        include_self: Whether a node is a candidate for its own neighbor.

    Returns:
        Columns, ascending. [rows, k] int64
    """
    counts = torch.bincount(graph)
    rank = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[graph]
    queries = row.new_zeros(len(keys), int(counts.max()))
    queries[graph, rank] = row
    queries = keys.gather(1, queries[:, :, None].expand(-1, -1, keys.shape[2]))
    scores = space.scores(queries, keys)[graph, rank]
    scores.masked_fill_(~real[graph], -torch.inf)
    if not include_self:
        scores.scatter_(1, row[:, None], -torch.inf)
    return _choose(scores, k).nonzero()[:, 1].view(-1, k)


def _settle_large(
    space: Space, begin: int, rows: Tensor, k: int, include_self: bool, block: int, result: Tensor
) -> None:
    """Settle some rows of one large graph, as many at a time as a block holds."""
    size = len(result)
    if not len(rows):
        return
    nodes = torch.arange(begin, begin + size, device=rows.device)
    keys = space.exact(nodes[None])
    real = torch.ones_like(nodes, dtype=torch.bool)[None]
    for some in _split(rows, block // size):
        result[some] = _settle_rows(space, keys, real, torch.zeros_like(some), some, k, include_self)


def _choose(scores: Tensor, k: int) -> Tensor:
    """The `k` highest scores of each row, ties to the first. [rows, columns] bool"""
    last = scores.topk(k, dim=1).values[:, -1:]
    above = scores > last
    tied = scores == last
    return above | (tied & (tied.cumsum(1) <= k - above.sum(1, keepdim=True)))


def _split(rows: Tensor, most: int) -> tuple[Tensor, ...]:
    """Parts of at most `most` rows; none of no rows."""
    return rows.split(max(1, most)) if len(rows) else ()
