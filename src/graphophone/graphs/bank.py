"""Known items that new ones are compared with, one at a time or a thousand, with the same answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from graphophone.graphs import tiles
from graphophone.graphs.base import require
from graphophone.graphs.modalities import has_modality
from graphophone.graphs.ranking import EqualRows
from graphophone.graphs.search import BLOCK
from graphophone.graphs.space import Space
from graphophone.graphs.union import union_edges


class ModalBank:
    """Vectors of known items in each modality, made ready once.

    What a new item gets does not depend on which others are asked for with it: similarities are taken in single
    precision by blocks, and where rounding leaves the choice open, again in double precision, as
    `graphophone.graphs.search` does among the nodes of one graph. Ties go to the lower index.

    Time is O(queries * items * dims), memory O(items * dims + block).

    Args:
        parts: Vectors of each modality, rows of NaN where an item lacks it. Each [items, dims]
        k: Neighbours in each; 0: it is not compared. All are taken where the bank has fewer.
        block: Similarities held at once.

    Raises:
        GraphError: If a row is NaN in part, or infinite.
    """

    def __init__(self, parts: Sequence[Tensor], k: Sequence[int], *, block: int = BLOCK) -> None:
        self.items = len(parts[0])
        self._searches = [
            _Search(part.detach(), count, block) if count else None for part, count in zip(parts, k, strict=True)
        ]

    def edges(self, queries: Sequence[Tensor]) -> Tensor:
        """Edges to new items from those that are nearest to them.

        Args:
            queries: Vectors of the new items in each modality, rows of NaN where one lacks it. Each [queries, dims]

        Returns:
            Number of the known item, and of the query; each edge once, sorted by query, then item. [2, edges] int64

        Raises:
            GraphError: If a row is NaN in part, or infinite, or widths or numbers do not fit.
        """
        return union_edges(*self.edges_by(queries), num_nodes=max(self.items, len(queries[0])))

    def edges_by(self, queries: Sequence[Tensor]) -> list[Tensor]:
        """As `edges`, those of each modality by themselves. Each [2, edges]."""
        known = len(self._searches)
        require(len(queries) == known, f"the bank has {known} modalities, the queries {len(queries)}; give the same")
        return [
            torch.empty(2, 0, dtype=torch.int64, device=part.device) if search is None else search.edges(part.detach())
            for search, part in zip(self._searches, queries, strict=True)
        ]

    def ranked(self, queries: Sequence[Tensor]) -> list[Tensor]:
        """The nearest items of each query in each modality, best first, ties to the lower index.

        The first columns are what a smaller ``k`` gives.

        Args:
            queries: As `edges`.

        Returns:
            For each modality ``[queries, k]``, ``k`` at most as many as have it; -1 for queries that lack it.
        """
        return [
            torch.empty(len(part), 0, dtype=torch.int64, device=part.device)
            if search is None
            else search.ranked(part.detach())
            for search, part in zip(self._searches, queries, strict=True)
        ]


class TypedBank:
    """Known items of a graph with a node for each modality; see `graphophone.graphs.modal.typed_edges`.

    Args:
        parts: Vectors by modality, rows of NaN where an item lacks it. Each [items, dims]
        k: Neighbours in each.
        block: Similarities held at once.

    Raises:
        GraphError: See `ModalBank`.
    """

    def __init__(self, parts: Mapping[str, Tensor], k: Sequence[int], *, block: int = BLOCK) -> None:
        self._banks = {
            name: ModalBank([part], [count], block=block) for (name, part), count in zip(parts.items(), k, strict=True)
        }

    def edges(self, queries: Sequence[Tensor]) -> dict[tuple[str, str, str], Tensor]:
        """Edges to the nodes of new items from the nearest of the same modality, by relation; see `ModalBank.edges`."""
        return {(name, "near", name): found for name, found in zip(self._banks, self.edges_by(queries), strict=True)}

    def edges_by(self, queries: Sequence[Tensor]) -> list[Tensor]:
        """As `ModalBank.edges_by`."""
        known = len(self._banks)
        require(len(queries) == known, f"the bank has {known} modalities, the queries {len(queries)}; give the same")
        return [bank.edges([part]) for bank, part in zip(self._banks.values(), queries, strict=True)]


class _Search:
    """One modality of a bank.

    Args:
        part: Its vectors. [items, dims]
        k: Neighbours wanted, at least 1.
        block: Similarities held at once.
    """

    def __init__(self, part: Tensor, k: int, block: int) -> None:
        self.nodes = has_modality(part).nonzero()[:, 0]
        rows = part if len(self.nodes) == len(part) else part[self.nodes]
        self.equal = EqualRows.of(rows, block)
        self.space = Space(self.equal.one_each(rows), [0, len(self.equal.first)], "cosine")
        self.k = min(k, len(rows))
        self.block = block
        self.width = part.shape[1]

    def edges(self, queries: Tensor) -> Tensor:
        """Edges from the nearest to each query. [2, edges]."""
        there, found = self._asked(queries, ordered=False)
        return torch.stack([found.flatten(), there.repeat_interleave(self.k)])

    def ranked(self, queries: Tensor) -> Tensor:
        """The nearest of each query, best first, -1 for queries that lack the modality. [queries, k]."""
        there, found = self._asked(queries, ordered=True)
        return torch.full((len(queries), self.k), -1, dtype=torch.int64, device=queries.device).index_copy(
            0, there, found
        )

    def _asked(self, queries: Tensor, *, ordered: bool) -> tuple[Tensor, Tensor]:
        """Queries that have the modality [some], and the nearest items of each [some, k]."""
        there = has_modality(queries).nonzero()[:, 0]
        width = queries.shape[1]
        require(width == self.width, f"queries are {width} wide, the bank {self.width}; use the same features for both")
        found = torch.empty(len(there), self.k, dtype=torch.int64, device=queries.device)
        if self.k and len(there):
            space = Space(queries[there], [0, len(there)], "cosine")
            for some in torch.arange(len(there), device=queries.device).split(max(1, self.block // len(self.space.x))):
                found[some] = self._nearest(space, some, ordered=ordered)
        return there, self.nodes[found]

    def _nearest(self, queries: Space, rows: Tensor, *, ordered: bool) -> Tensor:
        """The nearest items of some queries, among those that have the modality; best first on demand. [rows, k]."""
        groups = len(self.space.x)
        count = min(self.k, groups)
        if count == groups:
            chosen = torch.arange(groups, device=rows.device).expand(len(rows), -1)
        else:
            chosen = self._nearest_groups(queries, rows, count)
        found = torch.empty(len(rows), self.k, dtype=torch.int64, device=rows.device)
        found[:, :count] = self.equal.first[chosen]
        several = torch.arange(len(rows), device=rows.device) if ordered else self.equal.repeated(chosen)
        if len(several):
            scores = self._pairs(queries, rows[several], chosen[several])
            found[several] = self.equal.first_members(chosen[several], scores, self.k)
        return found

    def _nearest_groups(self, queries: Space, rows: Tensor, count: int) -> Tensor:
        """The nearest groups of equal items, fewer than there are. [rows, count]."""
        quick, _, slack = queries.single
        chosen, unsure = tiles.top_anywhere(tiles.product(quick[rows], self.space.single[0]), count, slack)
        if unsure is None:
            return chosen
        scores = self._pairs(queries, rows[unsure.rows], unsure.columns)
        chosen[unsure.rows] = unsure.columns.gather(1, _highest(scores, count))
        # Ties without end, such as those of a row of zeros.
        crowded = unsure.rows[unsure.crowded]
        for some in crowded.split(max(1, self.block // len(self.space.x))):
            chosen[some] = _highest(self._all(queries, rows[some]), count)
        return chosen

    def _pairs(self, queries: Space, rows: Tensor, groups: Tensor) -> Tensor:
        """Similarities of some queries to some groups of each, on the grid where ties are equal. [rows, groups]."""
        scores = torch.empty(groups.shape, dtype=torch.float64, device=rows.device)
        for some in torch.arange(len(rows), device=rows.device).split(
            max(1, self.block // (groups.shape[1] * self.width))
        ):
            wide = queries.exact(rows[some])[:, None]
            scores[some] = self.space.scores(wide, self.space.exact(groups[some]))[:, 0]
        return scores

    def _all(self, queries: Space, rows: Tensor) -> Tensor:
        """Similarities of some queries to all groups, on that grid. [rows, groups]."""
        wide = queries.exact(rows)[None]
        groups = torch.arange(len(self.space.x), device=rows.device)
        parts = groups.split(max(1, self.block // self.width))
        return torch.cat([self.space.scores(wide, self.space.exact(some)[None])[0] for some in parts], dim=1)


def _highest(scores: Tensor, k: int) -> Tensor:
    """Columns of the `k` highest scores of each row; of equal ones, the first. [rows, k]."""
    return scores.sort(dim=1, descending=True, stable=True).indices[:, :k]
