"""Exact nearest neighbors in batches of graphs, in bounded memory.

Similarities are first taken in single precision by matrix products, which is fast and off by a known bound.
Wherever that bound leaves the answer open (a tie, or nearly one), and only there, they are taken again in double
precision and ranked by the rule: higher similarity first, then smaller index. The answer is therefore that of
double precision, and does not depend on the size of a block, on the number of threads, or on which other graphs
are in the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

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


@dataclass(frozen=True)
class Space:
    """Rows made ready for comparison by matrix products.

    Attributes:
        metric: What is compared.
        queries: Single-precision rows. [nodes, columns]
        keys: Single-precision rows; `queries @ keys.T` is the similarity, higher is nearer. [nodes, columns]
        slack: Two scores of a row that differ by more than this are in the right order. [nodes] float32, or one
            number for all.
        exact: Double-precision rows. [nodes, dims]
    """

    metric: Metric
    queries: Tensor
    keys: Tensor
    slack: Tensor | float
    exact: Tensor

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Double-precision similarities on the grid where ties are equal, from rows of `exact`.

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
        GraphError: If `x` is not a matrix of real numbers, holds a number that is not finite, or has fewer columns
            than `features`.
    """
    if x.dim() != 2 or x.is_complex():
        raise GraphError(f"node features must be a real matrix [nodes, dims], not {list(x.shape)} {x.dtype}")
    if features is not None:
        if features > x.shape[1]:
            raise GraphError(f"cannot compare the first {features} columns of {x.shape[1]}: lower `features`")
        x = x[:, :features]
    x = x.detach().double()
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    if not math.isfinite(norm.sum().item()):
        _refuse(norm[:, 0], ptr)
    terms = x.shape[1] + 6  # products in one score, and the roundings of its factors
    unit = _unit_roundoff(x.device)
    if metric == "cosine":
        exact = x / norm.clamp_(min=EPSILON)
        single = exact.float()
        # |fl(a.b) - a.b| <= terms * unit * |a||b| in any order of summation; both scores may be off by that.
        return Space(metric, single, single, 2 * terms * unit + 2 * COSINE_GRID, exact)
    sizes = ptr.diff()
    graph = torch.arange(len(sizes), device=x.device).repeat_interleave(sizes)
    # Distances do not depend on the origin, rounding does: put it amid the nodes.
    centers = x.new_zeros(len(sizes), x.shape[1]).index_add_(0, graph, x) / sizes.clamp(min=1)[:, None]
    exact = x - centers[graph]
    norm = torch.linalg.vector_norm(exact, dim=1)
    largest = norm.new_zeros(len(sizes)).index_reduce_(0, graph, norm, "amax")[graph]
    # The product of these rows is -|a - b|^2 / 2.
    half, one = -0.5 * norm[:, None] ** 2, torch.ones_like(norm)[:, None]
    queries = torch.cat([exact, one, half], dim=1).float()
    keys = torch.cat([exact, half, one], dim=1).float()
    reach = (norm + largest) ** 2
    slack = (terms * unit + 2.0**-22) * reach
    return Space(metric, queries, keys, slack.float() * (1 + 2.0**-20), exact)


def _refuse(norm: Tensor, ptr: Tensor) -> None:
    """Raise the error that names the first node whose features cannot be compared."""
    bad = (~torch.isfinite(norm)).nonzero()[:, 0]
    if len(bad) == 0:  # finite, but too large to sum
        bad = norm.argmax()[None]
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
    found = torch.empty(len(space.exact), k, dtype=torch.int64, device=ptr.device)
    searched = []
    tiny = False
    limits = ptr.tolist()
    for graph, (begin, end) in enumerate(zip(limits, limits[1:], strict=False)):
        if end - begin - (not include_self) > k:
            searched.append((end - begin, begin, graph))
        else:
            tiny |= end > begin
    if tiny:
        _everyone(ptr, sizes, k, include_self, found)
    side = math.isqrt(block) // tiles.ALIGNMENT * tiles.ALIGNMENT
    side = max(side, tiles.smallest_side(k))
    searched.sort()
    while searched:
        width, begin, _ = searched.pop()
        if width > side:
            large = _tiled if ptr.device.type == "cpu" else _by_rows
            large(space, begin, width, k, include_self, block, side, found)
            continue
        begins, widths = [begin], [width]
        # Graphs nearly as large share a padded batch: similar sizes waste little.
        room = max(block, side**2) // width**2 - 1
        while searched and room > 0 and searched[-1][0] >= 0.8 * width - 8:
            size, begin, _ = searched.pop()
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
        columns, unsure = tiles.top_of_batch(scores, k, group, slack)
    else:
        columns, unsure = _top(scores, k, slack)
    if not full:
        unsure &= real
    if unsure.any():
        _settle(space, nodes, real, unsure, k, include_self, columns)
    columns += first[:, :, None]
    if full:
        found[nodes.view(-1)] = columns.view(-1, k)
    else:
        found[nodes[real]] = columns[real]


def _tiled(
    space: Space, begin: int, size: int, k: int, include_self: bool, block: int, side: int, found: Tensor
) -> None:
    """Search one large graph in square tiles, each pair of nodes once, and write its rows of `found`."""
    part = slice(begin, begin + size)
    columns, unsure = tiles.top_of_graph(
        space.queries[part], space.keys[part], k, include_self, side, space.slack_of(part)
    )
    _settle_rows(space, begin, unsure, k, include_self, block, columns)
    found[part] = columns + begin


def _by_rows(
    space: Space, begin: int, size: int, k: int, include_self: bool, block: int, side: int, found: Tensor
) -> None:
    """Search one large graph in blocks of rows, and write its rows of `found`."""
    device = found.device
    part = slice(begin, begin + size)
    keys = space.keys[part].T
    rows = max(1, block // size)
    everyone = torch.arange(size, device=device)
    unsure = torch.zeros(size, dtype=torch.bool, device=device)
    columns = torch.empty(size, k, dtype=torch.int64, device=device)
    for low in range(0, size, rows):
        high = min(low + rows, size)
        with torch.autocast(device.type, enabled=False):
            scores = torch.mm(space.queries[begin + low : begin + high], keys)
        if not include_self:
            scores[everyone[: high - low], everyone[low:high]] = -torch.inf
        slack = space.slack_of(slice(begin + low, begin + high))
        columns[low:high], unsure[low:high] = _top(scores, k, slack)
    _settle_rows(space, begin, unsure, k, include_self, block, columns)
    found[part] = columns + begin


def _top(scores: Tensor, k: int, slack: Tensor | float) -> tuple[Tensor, Tensor]:
    """Columns of the `k` highest scores of each row, ascending, and whether rounding leaves them open.

    Args:
        scores: -inf where a column is no candidate; each row has more than `k`. [..., rows, columns]
        k: Columns wanted.
        slack: Scores further apart than this are in the right order. [..., rows]

    Returns:
        Columns. [..., rows, k] int64; and open rows. [..., rows] bool
    """
    values, columns = scores.topk(k + 1, dim=-1)
    return columns[..., :k].sort(dim=-1).values, values[..., k - 1] - values[..., k] <= slack


def _settle_rows(
    space: Space, begin: int, unsure: Tensor, k: int, include_self: bool, block: int, columns: Tensor
) -> None:
    """Settle the rows `unsure` of one large graph, as many at a time as a block holds."""
    size = len(unsure)
    nodes = torch.arange(begin, begin + size, device=unsure.device)[None]
    real = torch.ones_like(unsure)[None]
    rows = unsure.nonzero()[:, 0]
    for some in rows.split(max(1, block // size)) if len(rows) else ():
        mask = torch.zeros_like(real)
        mask[0, some] = True
        _settle(space, nodes, real, mask, k, include_self, columns[None])


def _settle(
    space: Space, nodes: Tensor, real: Tensor, unsure: Tensor, k: int, include_self: bool, columns: Tensor
) -> None:
    """Search the rows `unsure` again in double precision and overwrite their `columns`.

    Args:
        space: The rows.
        nodes: Nodes of each graph, padded. [graphs, width]
        real: Which of them are not padding. [graphs, width]
        unsure: Rows to settle; each has more than `k` candidates. [graphs, width]
        k: Columns wanted.
        include_self: Whether a node is a candidate for its own neighbor.
        columns: Overwritten. [graphs, width, k]
    """
    graph, row = unsure.nonzero(as_tuple=True)
    involved, inverse = torch.unique_consecutive(graph, return_inverse=True)
    counts = torch.bincount(inverse)
    rank = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[inverse]
    queries = nodes.new_zeros(len(involved), int(counts.max()))
    queries[inverse, rank] = row
    keys = nodes[involved]
    scores = space.scores(space.exact[keys.gather(1, queries)], space.exact[keys])[inverse, rank]
    scores.masked_fill_(~real[graph], -torch.inf)
    if not include_self:
        scores.scatter_(1, row[:, None], -torch.inf)
    last = scores.topk(k, dim=1).values[:, -1:]
    above = scores > last
    tied = scores == last
    chosen = above | (tied & (tied.cumsum(1) <= k - above.sum(1, keepdim=True)))
    columns[graph, row] = chosen.nonzero()[:, 1].view(-1, k)
