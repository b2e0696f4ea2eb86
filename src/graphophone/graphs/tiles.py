"""Candidates for the k highest of each row of a matrix of similarities, on CPUs.

Sorting out the k highest of n numbers row by row costs more than the matrix product that makes them, when the
vectors are short. Here the maxima of groups of columns are taken first, which is one vectorised pass. The k groups
with the highest maxima hold the k highest numbers: a number outside them is exceeded by k maxima. Only those groups
are looked into.

A large graph is searched in square tiles of its similarity matrix. That matrix is symmetric, so each tile above the
diagonal serves the nodes of its rows and the nodes of its columns, and half of the products are never made. The
k-th best that a node has seen is the bar that the maximum of a group must pass to be looked into, and soon hardly
any does.

Scores are off by rounding, by at most half of a `slack`. So what is returned is more than k columns where the order
of the k-th and the next is not certain: the caller decides among them.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

# Sides of tiles are multiples of the largest group.
ALIGNMENT = 32
# Columns beyond k that are kept: the next one tells whether the k-th is certain, one more whether the choice is
# between these two alone.
SPARE = 2


def smallest_side(k: int) -> int:
    """The smallest side of a tile that leaves enough groups to choose `k` columns from."""
    return -(-4 * (k + SPARE) // ALIGNMENT) * ALIGNMENT


def group_size(width: int, k: int) -> int:
    """Columns per group, a power of two that balances the choice of groups and the choice within them."""
    group = 1
    while group < ALIGNMENT and width // (2 * group) >= 4 * (k + SPARE):
        group *= 2
    return group


def best_of_rows(scores: Tensor, transposed: Tensor, count: int, group: int) -> tuple[Floats, Indices, Floats]:
    """The `count` highest scores of each row and their columns, ascending.

    Args:
        scores: [batch, rows, columns] float32
        transposed: Its transpose, up to rounding: a symmetric matrix may stand for itself. [batch, columns, rows]
        count: Scores wanted, at most columns / group.
        group: Columns per group, a divisor of columns.

    Returns:
        Scores. [batch * rows, count]; their columns. [batch * rows, count]; and a bound that no other score of the
        row, or its twin in `transposed`, exceeds. [batch * rows]
    """
    batch, rows, columns = scores.shape
    groups = columns // group
    if group == 1:
        numbers = scores.view(batch * rows, columns).numpy()
        rest = np.partition(numbers, columns - count, axis=1)[:, columns - count]
        chosen = _places(numbers, rest, count)
        place = chosen % columns
    else:
        # Maxima along a middle axis are vectorised, along the last they are not: hence the transpose.
        maxima = transposed.view(batch, groups, group, rows).amax(2).mT.contiguous().view(-1, groups).numpy()
        rest = np.partition(maxima, groups - count, axis=1)[:, groups - count]
        hits = _places(maxima, rest, count)
        numbers = scores.view(-1, group).numpy().take(hits, axis=0).reshape(-1, count * group)
        lowest = np.partition(numbers, -count, axis=1)[:, -count]
        chosen = _places(numbers, lowest, count)
        rest = np.maximum(rest, lowest)
        place = hits[chosen // group] % groups * group + chosen % group
    return numbers.reshape(-1)[chosen].reshape(-1, count), place.reshape(-1, count), rest


def _places(numbers: Floats, bar: Floats, count: int) -> Indices:
    """Flat places of `count` numbers of each row, ascending: all above its bar, then the first that equal it.

    Args:
        numbers: [rows, columns]
        bar: The `count`-th highest number of each row. [rows]
        count: Places wanted.
    """
    mask = numbers >= bar[:, None]
    places = np.flatnonzero(mask)
    if len(places) > len(numbers) * count:
        crowded = np.flatnonzero(np.count_nonzero(mask, axis=1) > count)
        above = numbers[crowded] > bar[crowded, None]
        tied = mask[crowded] & ~above
        wanted = count - np.count_nonzero(above, axis=1)
        mask[crowded] = above | (tied & (tied.cumsum(axis=1) <= wanted[:, None]))
        places = np.flatnonzero(mask)
    return places


class TiledSearch:
    """Candidates for the `k` highest scores of every node of one large graph.

    After `run`, the candidates of node `i` are `columns[starts[i] : starts[i + 1]]`, ascending: every column whose
    score is within the slack of the k-th highest, or above it; at least `k`. They are not all there where `crowded`
    is true: too many scores nearly tie.

    Memory is that of a tile and O(nodes * k).

    Args:
        queries: [nodes, dims] float32
        keys: `queries @ keys.T` are the scores, symmetric up to rounding. [nodes, dims] float32
        k: Columns wanted, fewer than the candidates of a node.
        include_self: Whether a node is a candidate for itself.
        side: Rows and columns of a tile, at least `smallest_side(k)` and a multiple of ALIGNMENT.
        slack: Two scores of a node that differ by more than this are in the right order. [nodes], or one number
    """

    starts: Indices
    columns: Indices
    crowded: NDArray[np.bool_]

    def __init__(
        self, queries: Tensor, keys: Tensor, k: int, *, include_self: bool, side: int, slack: Tensor | float
    ) -> None:
        self.nodes, dims = queries.shape
        self.parts = -(-self.nodes // side)
        # As many tiles, but more even ones.
        self.side = -(-self.nodes // self.parts // ALIGNMENT) * ALIGNMENT
        padded = self.parts * self.side
        self.padding = padded - self.nodes
        if self.padding:
            queries = torch.cat([queries, queries.new_zeros(self.padding, dims)])
            keys = torch.cat([keys, keys.new_zeros(self.padding, dims)])
        self.queries, self.keys = queries, keys
        self.k = k
        self.include_self = include_self
        self.group = group_size(self.side, k)
        self._tile = torch.empty(self.side, self.side)
        self._slack: Floats = np.zeros(padded, dtype=np.float32)
        self._slack[: self.nodes] = slack if isinstance(slack, float) else slack.numpy()
        # The k highest scores seen, and the lowest of them less the slack: what a score must reach to matter.
        self._best: Floats = np.empty((padded, k), dtype=np.float32)
        self._bar: Floats = np.empty(padded, dtype=np.float32)
        # The highest score that may have been passed over although it reached the bar.
        self._missed: Floats = np.full(padded, -np.inf, dtype=np.float32)
        self._pool: list[tuple[Indices, Indices, Floats]] = []
        self._pooled = 0

    def run(self) -> None:
        """Search."""
        for part in range(self.parts):
            self._multiply(part, part)
            self._start(part)
        if self.padding:
            # Padding has seen the best already.
            self._best[-self.padding :] = self._bar[-self.padding :] = np.inf
        # By distance from the diagonal: every node has seen much before most tiles come, and what is near in time,
        # which is often alike, comes first.
        for distance in range(1, self.parts):
            for row in range(self.parts - distance):
                self._multiply(row, row + distance)
                self._extend(row, row + distance)
        self._prune()
        ((node, column, _),) = self._pool
        order = torch.sort(torch.from_numpy(node * self.nodes + column)).indices.numpy()
        self.columns = column[order]
        self.starts = np.zeros(self.nodes + 1, dtype=np.int64)
        np.cumsum(np.bincount(node, minlength=self.nodes), out=self.starts[1:])
        self.crowded = (self._missed >= self._bar)[: self.nodes]

    def _multiply(self, row: int, column: int) -> None:
        """Fill the tile with the scores of part `row` by part `column`."""
        side, padding, tile = self.side, self.padding, self._tile
        queries = self.queries[row * side : (row + 1) * side]
        with torch.autocast("cpu", enabled=False):
            torch.mm(queries, self.keys[column * side : (column + 1) * side].T, out=tile)
        if row == column and not self.include_self:
            tile.diagonal().fill_(-torch.inf)
        if padding and column == self.parts - 1:
            tile[:, -padding:] = -torch.inf
            if row == column:
                tile[-padding:] = -torch.inf

    def _start(self, part: int) -> None:
        """Give the nodes of `part` their first candidates, from the tile on the diagonal."""
        values = self._keep_best(part, part, self._tile, self._tile)
        span = slice(part * self.side, (part + 1) * self.side)
        self._best[span] = np.partition(values, SPARE, axis=1)[:, SPARE:]
        self._bar[span] = self._best[span, 0] - self._slack[span]

    def _keep_best(self, part: int, other: int, scores: Tensor, transposed: Tensor) -> Floats:
        """Pool the best columns of every row of a tile, whatever the bar."""
        count = self.k + SPARE
        values, columns, rest = best_of_rows(scores[None], transposed[None], count, self.group)
        span = slice(part * self.side, (part + 1) * self.side)
        np.maximum(self._missed[span], rest, out=self._missed[span])
        node = np.repeat(np.arange(span.start, span.stop), count)
        self._add(node, columns.reshape(-1) + other * self.side, values.reshape(-1))
        return values

    def _extend(self, row: int, column: int) -> None:
        """Show the tile to the nodes of its rows, part `row`, and to those of its columns, part `column`."""
        side, group, tile = self.side, self.group, self._tile
        groups = side // group
        most = side * (self.k + SPARE)
        # To its rows: group m holds columns m, m + groups, ...
        maxima = tile.view(side, group, groups).amax(1).numpy()
        hits = np.flatnonzero(maxima >= self._bar[row * side : (row + 1) * side, None])
        if len(hits) > most:
            self._raise_bars(row, *self._ranked(self._keep_best(row, column, tile, tile.T.contiguous())))
        elif len(hits):
            node = hits // groups
            self._look(node, hits + node * (side - groups), groups, row, column, across=True)
        # To its columns: group m holds rows m * group, m * group + 1, ...
        maxima = tile.view(groups, group, side).amax(1).numpy()
        hits = np.flatnonzero((maxima >= self._bar[column * side : (column + 1) * side]).T)
        if len(hits) > most:
            self._raise_bars(column, *self._ranked(self._keep_best(column, row, tile.T.contiguous(), tile)))
        elif len(hits):
            node = hits // groups
            start = (hits - node * groups) * (group * side) + node
            self._look(node, start, side, column, row, across=False)

    def _look(self, node: Indices, start: Indices, stride: int, part: int, other: int, *, across: bool) -> None:
        """Look into groups of the tile that hold something that reaches the bar of `node` of `part`."""
        side, group = self.side, self.group
        where = start[:, None] + np.arange(group) * stride
        scores = self._tile.view(-1).numpy().take(where)
        found = np.flatnonzero(scores >= self._bar[part * side + node][:, None])
        node = node[found // group]
        score = scores.reshape(-1)[found]
        where = where.reshape(-1)[found]
        column = where - node * side if across else where // side
        self._add(node + part * side, column + other * side, score)
        self._raise_bars(part, node, score)

    def _ranked(self, values: Floats) -> tuple[Indices, Floats]:
        return np.repeat(np.arange(len(values)), values.shape[1]), values.reshape(-1)

    def _add(self, node: Indices, column: Indices, score: Floats) -> None:
        self._pool.append((node, column, score))
        self._pooled += len(node)
        if self._pooled > 16 * self.nodes * (self.k + SPARE):
            self._prune()

    def _prune(self) -> None:
        """Drop pooled candidates that no longer reach the bar."""
        node, column, score = (np.concatenate(arrays) for arrays in zip(*self._pool, strict=True))
        keep = np.flatnonzero(score >= self._bar[node])
        self._pool = [(node[keep], column[keep], score[keep])]
        self._pooled = len(keep)

    def _raise_bars(self, part: int, node: Indices, score: Floats) -> None:
        """Take new scores of the nodes of `part`, in the order of nodes, into the `k` best that each has seen."""
        if not len(node):
            return
        k = self.k
        first = np.flatnonzero(np.concatenate([[True], node[1:] != node[:-1]]))
        counts = np.diff(first, append=len(node))
        most = int(counts.max())
        touched = node[first] + part * self.side
        table = np.full((len(touched), most + k), -np.inf, dtype=np.float32)
        table[:, most:] = self._best[touched]
        run = np.repeat(np.arange(len(touched)), counts)
        table[run, np.arange(len(node)) - first[run]] = score
        table.partition(most, axis=1)
        self._best[touched] = table[:, most:]
        self._bar[touched] = table[:, most] - self._slack[touched]
