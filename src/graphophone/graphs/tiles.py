"""The k highest of each row of a matrix of similarities, on CPUs.

Sorting out the k highest of n numbers row by row costs more than the matrix product that makes them, when the
vectors are short. Here the maxima of groups of columns are taken first, which is one vectorised pass. The k groups
with the highest maxima hold the k highest numbers: a number outside them is exceeded by k maxima. Only those groups
are looked into.

A large graph is searched in square tiles of its similarity matrix. That matrix is symmetric, so each tile above the
diagonal serves the nodes of its rows and the nodes of its columns, and half of the products are never made. The
k-th best that a node has seen is the bar that the maximum of a group must reach to be looked into, and soon hardly
any does.

Scores are off by rounding, by at most half of a `slack`. Rows whose k-th and next score are closer than that are
left open: for them, candidates are returned, and the caller decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]

# Sides of tiles are multiples of the largest group.
ALIGNMENT = 32
# Candidates kept beyond k: one to tell whether the k-th is certain, the others to settle it where it is not.
SPARE = 3
# A node of a large graph keeps at most so many times k + SPARE candidates.
MOST = 4


def product(queries: Tensor, keys: Tensor, out: Tensor | None = None) -> Tensor:
    """`queries @ keys.T` in single precision, whatever autocast says."""
    device = queries.device.type
    if torch.is_autocast_enabled(device):
        with torch.autocast(device, enabled=False):
            return product(queries, keys, out)
    if queries.dim() == 3 and len(queries) == 1:
        return torch.mm(queries[0], keys[0].T)[None]
    return torch.matmul(queries, keys.mT, out=out)


def symmetric_product(queries: Tensor, keys: Tensor, out: Tensor) -> None:
    """`queries @ keys.T`, of which one half is computed and the other mirrored.

    Args:
        queries: [nodes, dims] float32
        keys: The product is symmetric up to rounding. [nodes, dims] float32
        out: Overwritten. [nodes, nodes]
    """
    nodes = len(queries)
    step = 128 if nodes <= 1024 else 256
    for begin in range(0, nodes, step):
        end = begin + step
        product(queries[begin:end], keys[begin:], out=out[begin:end, begin:])
        if end < nodes:
            out[end:, begin:end] = out[begin:end, end:].T


def smallest_side(k: int) -> int:
    """The smallest side of a tile that leaves enough groups to choose `k` columns from."""
    return -(-4 * (k + SPARE) // ALIGNMENT) * ALIGNMENT


def group_size(width: int, k: int) -> int:
    """Columns per group, a power of two: about as many groups in a row as columns in the groups chosen of it."""
    group = 1
    while width > 128 and group < ALIGNMENT and (2 * group) ** 2 * (k + SPARE) <= 1.5 * width:
        group *= 2
    return group


@dataclass(frozen=True)
class Open:
    """Rows whose `k` highest columns rounding leaves open.

    Attributes:
        rows: Which. [rows]
        columns: Candidates of each, ascending. [rows, candidates]
        real: Which candidates are any. [rows, candidates]
        crowded: Whether columns that are not among the candidates come into question as well. [rows]
    """

    rows: Tensor
    columns: Tensor
    real: Tensor
    crowded: Tensor


def top_of_rows(
    scores: Tensor, k: int, group: int, slack: Tensor | float, real: Tensor | None = None
) -> tuple[Tensor, Open | None]:
    """Columns of the `k` highest scores of each row.

    Args:
        scores: Symmetric up to rounding; -inf where a column is no candidate. [batch, width, width] float32
        k: Columns wanted.
        group: Columns per group, a divisor of width; see `group_size`.
        slack: Scores of a row further apart than this are in the right order. [batch * width], or one number
        real: Rows that are not padding, each with more than `k` candidates; all if left out. [batch * width]

    Returns:
        Columns, ascending. [batch * width, k]; and the rows whose columns are not to be relied on, if any.
    """
    if not scores.is_cpu:
        return top_anywhere(scores.flatten(0, 1), k, slack, real)
    width = scores.shape[-1]
    count = min(k + SPARE, width)
    numbers, hits, rest = _best_groups(scores, scores, count, group)
    held = numbers.shape[1]
    ranked = np.sort(numbers, axis=1)
    last, following = ranked[:, held - k], ranked[:, held - k - 1]
    if rest is not None:
        following = np.maximum(following, rest)
    near = _array(slack)
    sure = last > following + near
    chosen = numbers >= last[:, None]
    if sure.all():
        return torch.from_numpy(_columns(np.flatnonzero(chosen), hits, width, group)).view(-1, k), None
    chosen[~sure] = np.arange(held) < k
    columns = torch.from_numpy(_columns(np.flatnonzero(chosen), hits, width, group)).view(-1, k)
    rows = np.flatnonzero(~sure if real is None else ~sure & real.numpy())
    if not len(rows):
        return columns, None
    some = numbers[rows]
    places, lowest = best_places(some, count)
    candidates = _columns(rows[places // held] * held + places % held, hits, width, group).reshape(-1, count)
    passed = lowest if count < held else np.full_like(lowest, -np.inf)
    if rest is not None:
        passed = np.maximum(passed, rest[rows])
    crowded = passed >= last[rows] - (near if isinstance(near, float) else near[rows])
    any_score = some.reshape(-1)[places].reshape(-1, count) > -np.inf
    return columns, Open(*(torch.from_numpy(array) for array in (rows, candidates, any_score, crowded)))


def top_anywhere(
    scores: Tensor, k: int, slack: Tensor | float, real: Tensor | None = None
) -> tuple[Tensor, Open | None]:
    """What `top_of_rows` gives, in operations that every device has, and without asking for symmetry.

    Args:
        scores: -inf where a column is no candidate. [rows, columns] float32
        k: See `top_of_rows`.
        slack: See `top_of_rows`.
        real: See `top_of_rows`.
    """
    values, columns = scores.topk(min(k + SPARE, scores.shape[1]), dim=1)
    last, following, passed = values[:, k - 1], values[:, k], values[:, -1]
    result = columns[:, :k].sort(dim=1).values
    unsure = last - following <= slack
    if real is not None:
        unsure &= real
    rows = unsure.nonzero()[:, 0]
    if not len(rows):
        return result, None
    candidates, order = columns[rows].sort(dim=1)
    any_left = scores.shape[1] > values.shape[1]
    return result, Open(
        rows=rows,
        columns=candidates,
        real=values[rows].gather(1, order) > -torch.inf,
        crowded=(passed >= last - slack)[rows] if any_left else torch.zeros_like(rows, dtype=torch.bool),
    )


def _array(slack: Tensor | float) -> Any:
    return slack if isinstance(slack, float) else slack.numpy()


def _best_groups(
    scores: Tensor, transposed: Tensor, count: int, group: int
) -> tuple[Floats, Indices | None, Floats | None]:
    """The groups of columns of each row that hold its `count` highest scores.

    Args:
        scores: [batch, rows, columns] float32
        transposed: Its transpose, up to rounding: a symmetric matrix may stand for itself. [batch, columns, rows]
        count: Scores wanted, at most columns / group.
        group: Columns per group, a divisor of columns.

    Returns:
        The scores of those groups. [batch * rows, count * group]; which groups they are, counted through all rows.
        [batch * rows * count]; and a bound that no score outside them exceeds. [batch * rows]
        With groups of one column, the whole of `scores`, and None twice.
    """
    batch, rows, columns = scores.shape
    if group == 1:
        return scores.view(batch * rows, columns).numpy(), None, None
    groups = columns // group
    # Maxima along a middle axis are vectorised, along the last they are not: hence the transpose.
    maxima = transposed.view(batch, groups, group, rows).amax(2).mT.contiguous().view(-1, groups).numpy()
    hits, rest = best_places(maxima, count)
    return scores.view(-1, group).numpy().take(hits, axis=0).reshape(-1, count * group), hits, rest


def _columns(places: Indices, hits: Indices | None, width: int, group: int) -> Indices:
    """Columns of flat places in the scores that `_best_groups` gives."""
    if hits is None:
        return places % width
    return hits[places // group] % (width // group) * group + places % group


def best_places(numbers: NDArray[Any], count: int) -> tuple[Indices, NDArray[Any]]:
    """Flat places of the `count` highest numbers of each row, ascending, and the lowest of those numbers.

    Of equal numbers, the first are taken.
    """
    rows, columns = numbers.shape
    # NumPy sorts short rows in vector registers, which is quicker than partitioning them.
    lowest = np.sort(numbers, axis=1)[:, columns - count]
    mask = numbers >= lowest[:, None]
    places = np.flatnonzero(mask)
    if len(places) > rows * count:
        crowded = np.flatnonzero(np.count_nonzero(mask, axis=1) > count)
        above = numbers[crowded] > lowest[crowded, None]
        tied = mask[crowded] & ~above
        wanted = count - np.count_nonzero(above, axis=1)
        mask[crowded] = above | (tied & (tied.cumsum(axis=1) <= wanted[:, None]))
        places = np.flatnonzero(mask)
    return places, lowest


class TiledSearch:
    """Candidates for the `k` highest scores of every node of one large graph.

    After `run`, the candidates of node `i` are `columns[starts[i] : starts[i + 1]]`, ascending: every column whose
    score is within the slack of the k-th highest, or above it. Where these are exactly `k`, they are the answer;
    there may be more, but not many more. Where `crowded` is true, they are not all there: too many scores nearly tie.

    Memory is that of a tile and O(nodes * k).

    Args:
        queries: [nodes, dims] float32
        keys: `queries @ keys.T` are the scores, symmetric up to rounding. [nodes, dims] float32
        k: Columns wanted, fewer than the candidates of a node.
        include_self: Whether a node is a candidate for itself.
        side: Rows and columns of a tile, at least `smallest_side(k)` and a multiple of ALIGNMENT.
        slack: Scores of a node further apart than this are in the right order. [nodes], or one number
    """

    starts: Indices
    columns: Indices
    crowded: Flags

    def __init__(
        self, queries: Tensor, keys: Tensor, k: int, *, include_self: bool, side: int, slack: Tensor | float
    ) -> None:
        self.nodes = len(queries)
        self.parts = -(-self.nodes // side)
        # As many tiles, but more even ones.
        self.side = -(-self.nodes // self.parts // ALIGNMENT) * ALIGNMENT
        padded = self.parts * self.side
        self.padding = padded - self.nodes
        self.queries, self.keys = queries, keys
        self.k = k
        self.include_self = include_self
        self.group = group_size(self.side, k)
        self._tile = torch.empty(self.side, self.side)
        self._slack: Floats = np.zeros(padded, dtype=np.float32)
        self._slack[: self.nodes] = _array(slack)
        # The k highest scores seen, and the lowest of them less the slack: what a score must reach to matter.
        self._highest: Floats = np.empty((padded, k), dtype=np.float32)
        self._bar: Floats = np.empty(padded, dtype=np.float32)
        # The highest score that may have been passed over although it reached the bar.
        self._passed: Floats = np.full(padded, -np.inf, dtype=np.float32)
        self._pool: list[tuple[Indices, Indices, Floats]] = []
        self._pooled = 0

    def run(self) -> None:
        """Search."""
        for part in range(self.parts):
            self._multiply(part, part)
            self._start(part)
        if self.padding:
            # Padding has seen the best already.
            self._highest[-self.padding :] = self._bar[-self.padding :] = np.inf
        # By distance from the diagonal: every node has seen much before most tiles come, and what is near in time,
        # which is often alike, comes first.
        for distance in range(1, self.parts):
            for row in range(self.parts - distance):
                self._multiply(row, row + distance)
                self._extend(row, row + distance)
        self._prune()
        ((node, column, _),) = self._pool
        keys = torch.from_numpy(node * self.nodes + column)
        self.columns = column[torch.sort(keys).indices.numpy()]
        self.starts = np.zeros(self.nodes + 1, dtype=np.int64)
        np.cumsum(np.bincount(node, minlength=self.nodes), out=self.starts[1:])
        self.crowded = (self._passed >= self._bar)[: self.nodes]

    def _multiply(self, row: int, column: int) -> None:
        """Fill the tile with the scores of part `row` by part `column`."""
        side, tile = self.side, self._tile
        queries = self.queries[row * side : (row + 1) * side]
        keys = self.keys[column * side : (column + 1) * side]
        filled = tile[: len(queries), : len(keys)]
        if row != column:
            product(queries, keys, out=filled)
        else:
            symmetric_product(queries, keys, out=filled)
            if not self.include_self:
                tile.diagonal().fill_(-torch.inf)
        if len(keys) < side:
            tile[:, len(keys) :] = -torch.inf
            tile[len(queries) :] = -torch.inf

    def _start(self, part: int) -> None:
        """Give the nodes of `part` their first candidates, from the tile on the diagonal."""
        scores = self._keep_best(part, part, self._tile, self._tile)
        span = slice(part * self.side, (part + 1) * self.side)
        self._highest[span] = np.sort(scores, axis=1)[:, SPARE:]
        self._bar[span] = self._highest[span, 0] - self._slack[span]

    def _keep_best(self, part: int, other: int, scores: Tensor, transposed: Tensor) -> Floats:
        """Pool the best columns of every row of a tile, whatever the bar, and return their scores."""
        count = self.k + SPARE
        numbers, hits, rest = _best_groups(scores[None], transposed[None], count, self.group)
        places, lowest = best_places(numbers, count)
        columns = _columns(places, hits, self.side, self.group)
        highest = numbers.reshape(-1)[places]
        span = slice(part * self.side, (part + 1) * self.side)
        passed = lowest if rest is None else np.maximum(lowest, rest)
        np.maximum(self._passed[span], passed, out=self._passed[span])
        self._add(np.arange(span.start, span.stop).repeat(count), columns + other * self.side, highest)
        return highest.reshape(-1, count)

    def _extend(self, row: int, column: int) -> None:
        """Show the tile to the nodes of its rows, part `row`, and to those of its columns, part `column`."""
        side, group, tile = self.side, self.group, self._tile
        groups = side // group
        most = side * (self.k + SPARE)
        # To its rows: group m holds columns m, m + groups, ...
        maxima = tile.view(side, group, groups).amax(1).numpy()
        hits = np.flatnonzero(maxima >= self._bar[row * side : (row + 1) * side, None])
        if len(hits) > most:
            self._extend_densely(row, column, tile, tile.T.contiguous())
        elif len(hits):
            node = hits // groups
            self._look(node, hits + node * (side - groups), groups, row, column, along_row=True)
        # To its columns: group m holds rows m * group, m * group + 1, ...
        maxima = tile.view(groups, group, side).amax(1).numpy()
        hits = np.flatnonzero(maxima >= self._bar[column * side : (column + 1) * side])
        if len(hits) > most:
            self._extend_densely(column, row, tile.T.contiguous(), tile)
        elif len(hits):
            member = hits // side
            node = hits - member * side
            self._look(node, member * (group * side) + node, side, column, row, along_row=False)

    def _extend_densely(self, part: int, other: int, scores: Tensor, transposed: Tensor) -> None:
        """Show a tile to the nodes of `part` for which it is better than most that they have seen."""
        highest = self._keep_best(part, other, scores, transposed)
        self._raise_bars(part, np.arange(self.side).repeat(highest.shape[1]), highest.reshape(-1))

    def _look(self, node: Indices, start: Indices, stride: int, part: int, other: int, *, along_row: bool) -> None:
        """Look into groups of the tile that hold something that reaches the bar of `node` of `part`.

        Args:
            node: Whose group it is, within its part. [groups]
            start: Where in the tile the group starts. [groups]
            stride: From one member of a group to the next.
            part: The part of the nodes.
            other: The part of their candidates.
            along_row: Whether the nodes are the rows of the tile, not its columns.
        """
        side = self.side
        where = np.arange(self.group)[:, None] * stride + start
        scores = self._tile.view(-1).numpy().take(where)
        found = np.flatnonzero(scores >= self._bar[part * side + node])
        node = node[found % len(node)]
        score = scores.reshape(-1)[found]
        where = where.reshape(-1)[found]
        column = where - node * side if along_row else where // side
        self._add(node + part * side, column + other * side, score)
        self._raise_bars(part, node, score)

    def _add(self, node: Indices, column: Indices, score: Floats) -> None:
        self._pool.append((node, column, score))
        self._pooled += len(node)
        if self._pooled > 2 * MOST * self.nodes * (self.k + SPARE):
            self._prune()

    def _prune(self) -> None:
        """Drop pooled candidates that no longer reach the bar, and all those of nodes that have too many."""
        kept = []
        for node, column, score in self._pool:
            keep = np.flatnonzero(score >= self._bar[node])
            kept.append((node[keep], column[keep], score[keep]))
        node, column, score = (np.concatenate(arrays) for arrays in zip(*kept, strict=True))
        crowded = np.bincount(node, minlength=len(self._bar)) > MOST * (self.k + SPARE)
        if crowded.any():
            # Ties without end: nothing can reach the bar of such a node any more.
            self._highest[crowded] = self._bar[crowded] = self._passed[crowded] = np.inf
            keep = np.flatnonzero(~crowded[node])
            node, column, score = node[keep], column[keep], score[keep]
        self._pool = [(node, column, score)]
        self._pooled = len(node)

    def _raise_bars(self, part: int, node: Indices, score: Floats) -> None:
        """Take new scores of the nodes of `part` into the `k` highest that each has seen."""
        if not len(node):
            return
        order = np.argsort(node.astype(np.int16 if self.side < 2**15 else np.int64), kind="stable")
        node, score = node[order], score[order]
        first = np.flatnonzero(np.concatenate([[True], node[1:] != node[:-1]]))
        counts = np.diff(first, append=len(node))
        most = int(counts.max())
        touched = node[first] + part * self.side
        table = np.full((len(touched), most + self.k), -np.inf, dtype=np.float32)
        table[:, most:] = self._highest[touched]
        run = np.arange(len(touched)).repeat(counts)
        table[run, np.arange(len(node)) - first[run]] = score
        table.sort(axis=1)
        self._highest[touched] = table[:, most:]
        self._bar[touched] = table[:, most] - self._slack[touched]
