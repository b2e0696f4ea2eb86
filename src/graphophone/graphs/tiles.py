"""Top-k of matrices of similarities on CPUs, without looking at every number twice.

Sorting out the k highest of n numbers row by row costs more than the matrix product that makes them, when the
vectors are short. Here the maxima of groups of columns are taken first, which is one vectorised pass. The k groups
with the highest maxima hold the k highest numbers: a number outside them is exceeded by k maxima. Only those groups
are looked into.

A large graph is searched in square tiles of its similarity matrix. That matrix is symmetric, so each tile above the
diagonal serves the nodes of its rows and the nodes of its columns, and half of the products are never made. Each
node keeps the best it has seen; the lowest of them is the bar that a group's maximum must pass to be looked into,
and soon hardly any does.

Ties are none of this module's business: it reports the rows that rounding or a tie leaves open.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

# Sides of tiles are multiples of the largest group.
ALIGNMENT = 32


def smallest_side(k: int) -> int:
    """The smallest side of a tile that leaves enough groups to choose `k` columns from."""
    return -(-8 * (k + 1) // ALIGNMENT) * ALIGNMENT


def group_size(width: int, k: int) -> int:
    """Columns per group, a power of two that balances the choice of groups and the choice within them."""
    group = 1
    while group < ALIGNMENT and width // (2 * group) >= 4 * (k + 1):
        group *= 2
    return group


def top_of_batch(scores: Tensor, k: int, group: int, slack: Tensor | float) -> tuple[Tensor, Tensor]:
    """Columns of the `k` highest scores of each row, ascending, and the rows where rounding leaves them open.

    Args:
        scores: Symmetric up to rounding; -inf where a column is no candidate, and each row has more than `k`
            candidates. [batch, width, width] float32
        k: Columns wanted.
        group: Columns per group, a divisor of width.
        slack: Scores of a row further apart than this are in the right order. [batch, width], or one number

    Returns:
        Columns. [batch, width, k] int64; and open rows. [batch, width] bool
    """
    batch, width, _ = scores.shape
    values, columns, rest = _best(scores, scores, k + 1, group)
    columns, unsure = _drop_last(values, columns, rest, _array(slack))
    return torch.from_numpy(columns).view(batch, width, k), torch.from_numpy(unsure).view(batch, width)


def top_of_graph(
    queries: Tensor, keys: Tensor, k: int, include_self: bool, side: int, slack: Tensor | float
) -> tuple[Tensor, Tensor]:
    """As `top_of_batch`, for the similarities `queries @ keys.T` of one large graph, which are never all held.

    Args:
        queries: [nodes, dims] float32
        keys: `queries @ keys.T` is symmetric up to rounding. [nodes, dims] float32
        k: Columns wanted, fewer than the candidates of a node.
        include_self: Whether a node is a candidate for its own neighbor.
        side: Rows and columns of a tile, at least `smallest_side(k)`; a multiple of ALIGNMENT.
        slack: See `top_of_batch`. [nodes], or one number

    Returns:
        Columns. [nodes, k] int64; and open rows. [nodes] bool
    """
    nodes, dims = queries.shape
    parts = -(-nodes // side)
    side = -(-nodes // parts // ALIGNMENT) * ALIGNMENT  # the same number of tiles, more even
    padding = parts * side - nodes
    if padding:
        queries = torch.cat([queries, queries.new_zeros(padding, dims)])
        keys = torch.cat([keys, keys.new_zeros(padding, dims)])
    group = group_size(side, k)
    search = _Search(parts * side, k + 1, side, group)
    for part in range(parts):
        span = slice(part * side, (part + 1) * side)
        torch.mm(queries[span], keys[span].T, out=search.tile)
        if not include_self:
            search.tile.diagonal().fill_(-torch.inf)
        if padding and part == parts - 1:
            search.tile[-padding:] = -torch.inf
            search.tile[:, -padding:] = -torch.inf
        search.begin(part)
    if padding:
        search.bar[-padding:] = np.inf
    # By distance from the diagonal: every node has seen much before most tiles come, and what is near in time,
    # which is often alike, comes first.
    for distance in range(1, parts):
        for row in range(parts - distance):
            column = row + distance
            torch.mm(
                queries[row * side : (row + 1) * side],
                keys[column * side : (column + 1) * side].T,
                out=search.tile,
            )
            if padding and column == parts - 1:
                search.tile[:, -padding:] = -torch.inf
            search.extend(row, column)
    columns, unsure = _drop_last(
        search.values[:nodes], search.columns[:nodes], search.rest[:nodes], _array(slack), ordered=False
    )
    return torch.from_numpy(columns), torch.from_numpy(unsure)


class _Search:
    """The best columns that each node of a large graph has seen, and the tile to be looked at.

    Attributes:
        tile: Scores of the nodes of one part of the graph and those of another. [side, side]
        values: Highest scores. [nodes, count]
        columns: Where they are. [nodes, count]
        bar: The lowest of `values`. [nodes]
        rest: No score that was passed over is higher than this and the bar. [nodes]
    """

    def __init__(self, nodes: int, count: int, side: int, group: int) -> None:
        self.count = count
        self.side = side
        self.group = group
        self.tile = torch.empty(side, side)
        self.values: Floats = np.empty((nodes, count), dtype=np.float32)
        self.columns: Indices = np.empty((nodes, count), dtype=np.int64)
        self.bar: Floats = np.empty(nodes, dtype=np.float32)
        self.rest: Floats = np.empty(nodes, dtype=np.float32)
        self._slot: Indices = np.empty(nodes, dtype=np.int64)

    def begin(self, part: int) -> None:
        """Start the nodes of `part` with the tile on the diagonal."""
        span = slice(part * self.side, (part + 1) * self.side)
        values, columns, rest = _best(self.tile[None], self.tile[None], self.count, self.group)
        self.values[span] = values
        self.columns[span] = columns + part * self.side
        self.bar[span] = values.min(axis=1)
        self.rest[span] = rest

    def extend(self, row: int, column: int) -> None:
        """Show the tile to the nodes of its rows, part `row`, and to those of its columns, part `column`."""
        side, group = self.side, self.group
        groups = side // group
        # Rows: group m holds the columns m, m + groups, ...: maxima over a middle axis are fast, over the last slow.
        maxima = self.tile.view(side, group, groups).amax(1).numpy()
        bar = self.bar[row * side : (row + 1) * side]
        hits = np.flatnonzero(maxima > bar[:, None])
        if len(hits) > side * self.count:
            self._extend_densely(row, column, self.tile, self.tile.T.contiguous())
        elif len(hits):
            node, member = np.divmod(hits, groups)
            self._look(node, node * side + member, groups, row, column, rows=True)
        maxima = self.tile.view(groups, group, side).amax(1).numpy()
        bar = self.bar[column * side : (column + 1) * side]
        hits = np.flatnonzero(maxima > bar)
        if len(hits) > side * self.count:
            self._extend_densely(column, row, self.tile.T.contiguous(), self.tile)
        elif len(hits):
            member, node = np.divmod(hits, side)
            self._look(node, member * (group * side) + node, side, column, row, rows=False)

    def _look(self, node: Indices, start: Indices, stride: int, part: int, other: int, *, rows: bool) -> None:
        """Look into groups of the tile that hold something above the bar of `node` of `part`."""
        side = self.side
        where = start[:, None] + np.arange(self.group) * stride
        scores = self.tile.view(-1).numpy().take(where)
        node = node + part * side
        above = np.flatnonzero(scores > self.bar[node][:, None])
        where = where.reshape(-1)[above]
        columns = (where % side if rows else where // side) + other * side
        self._insert(node[above // self.group], scores.reshape(-1)[above], columns)

    def _extend_densely(self, part: int, other: int, scores: Tensor, transposed: Tensor) -> None:
        """The same for a tile that is better than most of what its nodes have seen."""
        values, columns, rest = _best(scores[None], transposed[None], self.count, self.group)
        span = slice(part * self.side, (part + 1) * self.side)
        np.maximum(self.rest[span], rest, out=self.rest[span])
        node = np.repeat(np.arange(span.start, span.stop), self.count)
        self._insert(node, values.reshape(-1), columns.reshape(-1) + other * self.side)

    def _insert(self, node: Indices, value: Floats, column: Indices) -> None:
        """Let each value replace the lowest of its node, if it is higher."""
        while len(node):
            # One value of each node at a time: the last to claim the slot.
            order = np.arange(len(node))
            self._slot[node] = order
            now = self._slot[node] == order
            target, score, source = node[now], value[now], column[now]
            held = self.values[target]
            lowest = held.argmin(axis=1)
            better = np.flatnonzero(score > self.bar[target])
            target, score, lowest = target[better], score[better], lowest[better]
            self.values[target, lowest] = score
            self.columns[target, lowest] = source[better]
            self.bar[target] = self.values[target].min(axis=1)
            later = ~now
            node, value, column = node[later], value[later], column[later]


def _best(scores: Tensor, transposed: Tensor, count: int, group: int) -> tuple[Floats, Indices, Floats]:
    """The `count` highest scores of each row and their columns, ascending.

    Args:
        scores: Each row has `count` numbers that are not -inf. [batch, rows, columns]
        transposed: Its transpose, up to rounding. [batch, columns, rows]
        count: Scores wanted, at most columns / group.
        group: Columns per group, a divisor of columns.

    Returns:
        Scores. [batch * rows, count]; their columns. [batch * rows, count]; and a bound: no other score of the row
        is higher than it and the lowest of the returned ones. [batch * rows]
    """
    batch, rows, columns = scores.shape
    groups = columns // group
    if group == 1:
        numbers = scores.view(batch * rows, columns).numpy()
        rest = np.partition(numbers, columns - count, axis=1)[:, columns - count]
        chosen = _places(numbers, rest, count)
        return numbers.reshape(-1)[chosen].reshape(-1, count), (chosen % columns).reshape(-1, count), rest
    maxima = transposed.view(batch, groups, group, rows).amax(2).mT.contiguous().view(-1, groups).numpy()
    rest = np.partition(maxima, groups - count, axis=1)[:, groups - count]
    hits = _places(maxima, rest, count)
    numbers = scores.view(-1, group).numpy().take(hits, axis=0).reshape(-1, count * group)
    lowest = np.partition(numbers, -count, axis=1)[:, -count]
    chosen = _places(numbers, lowest, count)
    place = hits[chosen // group] % groups * group + chosen % group
    return (
        numbers.reshape(-1)[chosen].reshape(-1, count),
        place.reshape(-1, count),
        np.maximum(rest, lowest),
    )


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


def _drop_last(
    values: Floats, columns: Indices, rest: Floats, slack: Any, *, ordered: bool = True
) -> tuple[Indices, NDArray[np.bool_]]:
    """From the k + 1 highest scores of each row, the columns of the k highest, and whether that is open."""
    nodes, count = values.shape
    two = np.partition(values, 1, axis=1)
    unsure = two[:, 1] <= np.maximum(two[:, 0], rest) + slack
    keep = np.ones(values.shape, dtype=bool)
    keep[np.arange(nodes), values.argmin(axis=1)] = False
    columns = columns[keep].reshape(nodes, count - 1)
    if not ordered:
        columns.sort(axis=1)
    return columns, unsure


def _array(slack: Tensor | float) -> Any:
    return slack if isinstance(slack, float) else slack.reshape(-1).numpy()
