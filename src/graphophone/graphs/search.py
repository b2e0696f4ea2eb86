"""Exact nearest neighbors in batches of graphs, in bounded memory.

Similarities are first taken in single precision by matrix products, which is fast and off by a known bound. Wherever
that bound leaves the answer open (a tie, or nearly one), and only there, they are taken again in double precision and
ranked by the rule: higher similarity first, then smaller index. The answer is therefore that of double precision, and
does not depend on the block size, on the number of threads, or on which other graphs are in the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from graphophone.graphs.base import GraphError

Metric = Literal["cosine", "euclidean"]

# Similarities held at once: 2**21 single-precision numbers, 8 MiB, stay in the cache of one core's neighborhood.
BLOCK = 2**21
# Cosines nearer to each other than this are ties. It is far below what single-precision features can tell apart, and
# far above the rounding of double precision, so that equal rows tie however their products were summed.
COSINE_GRID = 2.0**-32
# Smallest norm a row is divided by: rows of zeros stay zeros, and have similarity 0 to every row.
EPSILON = 1e-12


@dataclass(frozen=True)
class Space:
    """Rows made ready for comparison by matrix products.

    Attributes:
        metric: What is compared.
        queries: Single-precision rows. [nodes, columns]
        keys: Single-precision rows; `queries @ keys.T` ranks like the similarity. [nodes, columns]
        slack: Two scores of a row that differ by more than this are in the right order. [nodes] float32
        exact: Double-precision rows. [nodes, dims]
    """

    metric: Metric
    queries: Tensor
    keys: Tensor
    slack: Tensor
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
    if features is not None and features > x.shape[1]:
        raise GraphError(f"cannot compare the first {features} columns of {x.shape[1]}: lower `features`")
    x = x.detach()[:, :features].double()
    norm = torch.linalg.vector_norm(x, dim=1)
    bad = ~torch.isfinite(norm)
    if bool(bad.any()):
        node = int(bad.nonzero()[0, 0])
        graph = int(torch.searchsorted(ptr, torch.tensor(node, device=ptr.device), right=True)) - 1
        raise GraphError(
            f"node {node - int(ptr[graph])} of graph {graph} has a feature that is NaN, infinite or too large to "
            f"square ({int(bad.sum())} such nodes in all): repair or leave out the recording before building its graph"
        )
    columns = x.shape[1] + 1
    unit = _unit_roundoff(x.device)
    if metric == "cosine":
        exact = x / norm.clamp(min=EPSILON)[:, None]
        single = exact.float()
        # |fl(a.b) - a.b| <= columns * unit * |a||b| for any order of summation, plus the rounding of the rows.
        slack = (2 * (columns + 4) * unit + COSINE_GRID * 2) * torch.ones_like(norm)
        return Space(metric, single, single, slack.float(), exact)
    sizes = ptr.diff()
    graph_of = torch.arange(len(sizes), device=x.device).repeat_interleave(sizes)
    # Distances do not depend on the origin, rounding does: put it amid the nodes.
    centers = x.new_zeros(len(sizes), x.shape[1]).index_add_(0, graph_of, x) / sizes.clamp(min=1)[:, None]
    exact = x - centers[graph_of]
    norm = torch.linalg.vector_norm(exact, dim=1)
    largest = norm.new_zeros(len(sizes)).index_reduce_(0, graph_of, norm, "amax")[graph_of]
    # Ranks like the negative squared distance: |a|^2 is the same for the whole row of a.
    queries = torch.cat([exact, torch.ones_like(norm)[:, None]], dim=1).float()
    keys = torch.cat([exact, -0.5 * norm[:, None] ** 2], dim=1).float()
    magnitude = norm * largest + 0.5 * largest**2
    slack = 2 * (columns + 4) * unit * magnitude + 2.0**-22 * (norm + largest) ** 2
    return Space(metric, queries, keys, slack.float() * (1 + 2.0**-20), exact)


def _unit_roundoff(device: torch.device) -> float:
    """Relative rounding of one product in a single-precision matrix product, as torch is set up."""
    precision = torch.get_float32_matmul_precision()
    if precision == "highest":
        return 2.0**-24
    # "high" allows TF32 (10 bits) and "medium" bfloat16 (7 bits); both factors of a product are rounded.
    return 2.0**-10 if precision == "high" and device.type == "cuda" else 2.0**-7


@dataclass(frozen=True)
class Bucket:
    """Graphs of similar size, to be padded to the largest of them and searched together."""

    graphs: Tensor  # [graphs] int64
    width: int


def buckets(sizes: Tensor, block: int) -> Iterator[Bucket]:
    """Split graphs by size so that padding wastes little and `graphs * width**2 <= block` where a graph fits at all."""
    order = torch.argsort(sizes, descending=True, stable=True)
    ordered = sizes[order].tolist()
    begin = 0
    while begin < len(ordered) and ordered[begin] > 0:
        width = ordered[begin]
        end = begin + 1
        most = max(1, block // width**2)
        while end < len(ordered) and end - begin < most and ordered[end] > 0.7 * width - 8:
            end += 1
        yield Bucket(order[begin:end].sort().values, width)
        begin = end


def nearest(
    space: Space, ptr: Tensor, k: int, *, include_self: bool = False, block: int = BLOCK
) -> tuple[Tensor, Tensor]:
    """The `min(k, candidates)` nearest nodes of every node within its graph, ties to the smaller index.

    Time is O(n^2 * dims) for a graph of n nodes; memory is O(nodes * (dims + k)) and a few arrays of `block` numbers.

    Args:
        space: The rows, see `prepare`.
        ptr: Where each graph begins, and where the last one ends. [graphs + 1]
        k: Neighbors wanted, at least 1.
        include_self: Whether a node is a candidate for its own neighbor.
        block: Similarities held at once; a single row of a graph is the least it can be.

    Returns:
        Neighbors of each node, ascending, as indices into all nodes; places beyond the candidates of a small graph
        hold -1 and come first. [nodes, k] int64. And how many there are. [nodes] int64
    """
    sizes = ptr.diff()
    found = torch.full((len(space.exact), k), -1, device=ptr.device)
    for bucket in buckets(sizes.cpu(), block):
        graphs = bucket.graphs.to(ptr.device)
        if bucket.width**2 <= block:
            _nearest_small(space, ptr[graphs], sizes[graphs], bucket.width, k, include_self, found)
        else:
            for graph in graphs:
                _nearest_large(space, int(ptr[graph]), int(sizes[graph]), k, include_self, block, found)
    candidates = sizes if include_self else sizes - 1
    return found, candidates.clamp(max=k).repeat_interleave(sizes)


def _nearest_small(
    space: Space, first: Tensor, sizes: Tensor, width: int, k: int, include_self: bool, found: Tensor
) -> None:
    """Search graphs of at most `width` nodes, padded to it, and write their rows of `found`."""
    place = torch.arange(width, device=first.device)
    real = place < sizes[:, None]
    nodes = torch.where(real, first[:, None] + place, first[:, None])
    with torch.autocast(first.device.type, enabled=False):
        scores = torch.bmm(space.queries[nodes], space.keys[nodes].mT)
    scores.masked_fill_(~real[:, None, :], -torch.inf)
    if not include_self:
        scores.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    columns, unsure = _top(scores, k, space.slack[nodes])
    unsure &= real
    if bool(unsure.any()):
        _settle(space, nodes, real, unsure, k, include_self, columns)
    result = torch.where(columns >= 0, columns + first[:, None, None], columns)
    found[nodes[real], -columns.shape[2] :] = result[real]


def _nearest_large(
    space: Space, first: int, size: int, k: int, include_self: bool, block: int, found: Tensor
) -> None:
    """Search one graph in blocks of rows, and write its rows of `found`."""
    device = space.exact.device
    keys = space.keys[first : first + size]
    rows = max(1, block // size)
    everyone = torch.arange(size, device=device)
    unsure = torch.zeros(size, dtype=torch.bool, device=device)
    local = torch.full((size, min(k, size)), -1, device=device)
    for begin in range(0, size, rows):
        end = min(begin + rows, size)
        with torch.autocast(device.type, enabled=False):
            scores = torch.mm(space.queries[first + begin : first + end], keys.T)
        if not include_self:
            scores[everyone[: end - begin], everyone[begin:end]] = -torch.inf
        columns, open_rows = _top(scores[None], k, space.slack[None, first + begin : first + end])
        local[begin:end] = columns[0]
        unsure[begin:end] = open_rows[0]
    for part in unsure.nonzero()[:, 0].split(rows) if bool(unsure.any()) else ():
        mask = torch.zeros(1, size, dtype=torch.bool, device=device)
        mask[0, part] = True
        _settle(space, first + everyone[None], torch.ones_like(mask), mask, k, include_self, local[None])
    found[first : first + size, -local.shape[1] :] = torch.where(local >= 0, local + first, local)


def _top(scores: Tensor, k: int, slack: Tensor) -> tuple[Tensor, Tensor]:
    """Columns of the `k` highest scores of each row, ascending, and the rows where rounding leaves them open.

    Args:
        scores: -inf where a column is no candidate. [batch, rows, columns]
        k: Columns wanted.
        slack: Scores further apart than this are in the right order. [batch, rows]

    Returns:
        Columns, -1 (first) where there are fewer candidates. [batch, rows, min(k, columns)] int64; and
        open rows. [batch, rows] bool
    """
    width = scores.shape[-1]
    values, columns = scores.topk(min(k + 1, width), dim=-1)
    unsure = torch.zeros_like(slack, dtype=torch.bool)
    if width > k:
        # -inf minus -inf is NaN, which is not <=: a row with fewer candidates than k is not open.
        unsure = values[..., k - 1] - values[..., k] <= slack
        values, columns = values[..., :k], columns[..., :k]
    columns = torch.where(values == -torch.inf, -1, columns)
    return columns.sort(dim=-1).values, unsure


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
    involved, graph = torch.unique_consecutive(graph, return_inverse=True)
    counts = torch.bincount(graph)
    rank = torch.arange(len(graph), device=graph.device) - (counts.cumsum(0) - counts)[graph]
    queries = nodes.new_zeros(len(involved), int(counts.max()))
    queries[graph, rank] = row
    keys = nodes[involved]
    scores = space.scores(space.exact[keys.gather(1, queries)], space.exact[keys])[graph, rank]
    scores.masked_fill_(~real[involved][graph], -torch.inf)
    if not include_self:
        scores.scatter_(1, row[:, None], -torch.inf)
    last = scores.topk(k, dim=1).values[:, -1:]
    above = scores > last
    tied = scores == last
    chosen = above | (tied & (tied.cumsum(1) <= k - above.sum(1, keepdim=True)))
    columns[involved[graph], row] = chosen.nonzero()[:, 1].view(-1, k)
