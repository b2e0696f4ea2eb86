"""The nearest rows of every row by cosine, ranked; equal rows are compared once.

Transcripts repeat: a corpus of talk has hundreds that read "yeah". Their vectors are equal, and the similarity of each
to all the others is a tie. So equal rows become one before the search, and are told apart again by their index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from graphophone.errors import MissingDependencyError
from graphophone.graphs.search import nearest_edges
from graphophone.graphs.space import Space

Exclusion = Literal["diagonal", "rank0"]
Searched = Literal["exact", "faiss"]

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def ranked_neighbours(
    x: Tensor, k: int, *, exclusion: Exclusion, search: Searched, block: int, ordered: bool = True
) -> Tensor:
    """The `k` nearest rows of every row: higher similarity first, then smaller index.

    Args:
        x: Rows. [rows, dims]
        k: Neighbours wanted, at least 1.
        exclusion: Leave out the row itself (`"diagonal"`), or the first of its ranking (`"rank0"`).
        search: `"exact"`, or `"faiss"`.
        block: Similarities held at once.
        ordered: False: the same neighbours, in an order of no meaning.

    Returns:
        Rows; -1 behind the last of fewer. [rows, k] int64

    Raises:
        GraphError: If a number is not finite.
        MissingDependencyError: If faiss is not there.
    """
    equal = EqualRows.of(x, block)
    groups = len(equal.first)
    space = Space(equal.one_each(x), [0, groups], "cosine")
    others = _others(space, min(k + (exclusion == "rank0"), groups - 1), search, block)
    if exclusion == "diagonal" and not ordered:
        # Where nothing is equal to anything, the rows found are the answer.
        found = torch.full((groups, k + 1), -1, dtype=torch.int64, device=x.device)
        found[:, 0] = equal.first
        found[:, 1 : others.shape[1] + 1] = equal.first[others]
        rows = equal.repeated(torch.cat([torch.arange(groups, device=x.device)[:, None], others], dim=1))
    else:
        found = torch.empty(groups, k + 1, dtype=torch.int64, device=x.device)
        rows = torch.arange(groups, device=x.device)
    for some in rows.split(max(1, block // (k + 2))):
        candidates = torch.cat([some[:, None], others[some]], dim=1)
        found[some] = equal.first_members(candidates, _scores(space, some, candidates, block), k + 1)
    found = found if groups == len(x) else found[equal.group]
    if exclusion == "rank0":
        return found[:, 1:]
    return _without_self(found)


@dataclass(frozen=True, eq=False)
class EqualRows:
    """Groups of rows that are equal bit for bit.

    Attributes:
        first: The first row of each group, ascending. [groups]
        group: Group of every row. [rows]
        sizes: Rows of each group. [groups]
        members: The rows by group, those of each ascending. [rows]
    """

    first: Tensor
    group: Tensor
    sizes: Tensor
    members: Tensor

    @classmethod
    def of(cls, x: Tensor, block: int) -> EqualRows:
        """Find them.

        Args:
            x: Rows. [rows, dims]
            block: Numbers held at once.
        """
        numbers = torch.arange(len(x), device=x.device)
        keys, group = _hashes(x, block).unique(return_inverse=True)
        first = numbers.new_full((len(keys),), len(x)).scatter_reduce_(0, group, numbers, "amin")
        order = first.argsort()
        first, group = first[order], order.argsort()[group]
        again = (first[group] != numbers).nonzero()[:, 0]
        for some in again.split(max(1, block // max(1, x.shape[1]))):
            if not torch.equal(x[some], x[first[group[some]]]):
                # Two different rows of one hash, which only 2^32 rows make likely: take all for different.
                first = group = numbers
                break
        return cls(first, group, torch.bincount(group, minlength=len(first)), group.argsort(stable=True))

    def one_each(self, x: Tensor) -> Tensor:
        """One row of each group. [groups, dims]."""
        return x if len(self.first) == len(x) else x[self.first]

    def repeated(self, candidates: Tensor) -> Tensor:
        """Which rows of a table of groups name one of several rows. [some] int64."""
        return (self.sizes[candidates] > 1).any(dim=1).nonzero()[:, 0]

    def first_members(self, candidates: Tensor, scores: Tensor, count: int) -> Tensor:
        """The first `count` rows in the ranking of groups of equal ones.

        Higher scores come first, then smaller numbers of rows. Where the candidates are the first `count` groups of
        that ranking, groups ranked by their first rows, the answer is that of all: a row that is behind so many groups
        is behind their first rows.

        Args:
            candidates: Groups. [some, candidates]
            scores: Of each. [some, candidates]
            count: Rows wanted.

        Returns:
            Rows, best first; -1 behind the last. [some, count]
        """
        device = candidates.device
        starts = self.sizes.cumsum(0) - self.sizes
        taken = self.sizes[candidates].clamp(max=count)
        length, each = taken.sum(dim=1), taken.flatten()
        shift = (starts[candidates].flatten() - each.cumsum(0) + each).repeat_interleave(each)
        item = self.members[torch.arange(len(shift), device=device) + shift]
        score = scores.flatten().repeat_interleave(each)
        row = torch.arange(len(candidates), device=device).repeat_interleave(length)
        # Sorted by the least important key first: three stable sorts rank by all.
        order = item.argsort(stable=True)
        order = order[(-score[order]).argsort(stable=True)]
        order = order[row[order].argsort(stable=True)]
        item, row = item[order], row[order]
        rank = torch.arange(len(row), device=device) - (length.cumsum(0) - length)[row]
        best = rank < count
        ranked = candidates.new_full((len(candidates), count), -1)
        ranked[row[best], rank[best]] = item[best]
        return ranked


def _hashes(x: Tensor, block: int) -> Tensor:
    """A number for each row, the same for the same bits, and for hardly any others. [rows] int64."""
    generator = torch.Generator().manual_seed(0)
    factors = torch.randint(-(2**63), 2**63 - 1, (x.shape[1],), generator=generator).to(x.device) | 1
    parts = [
        (some.contiguous().view(_INTEGERS[x.element_size()]).long() * factors).sum(dim=1)
        for some in x.split(max(1, block // max(1, x.shape[1])))
    ]
    return torch.cat(parts)


def _others(space: Space, k: int, search: Searched, block: int) -> Tensor:
    """The `k` nearest other rows of each, of which there are at least so many. [rows, k]."""
    rows = len(space.x)
    if k < 1:
        return torch.empty(rows, 0, dtype=torch.int64, device=space.x.device)
    if search == "exact":
        return nearest_edges(space, k, block=block)[0].view(rows, k)
    faiss = _faiss()
    unit = np.ascontiguousarray(space.single[0].cpu().numpy())
    index = faiss.IndexFlatIP(unit.shape[1])
    index.add(unit)
    return _without_self(torch.from_numpy(index.search(unit, k + 1)[1]).to(space.x.device))


def _without_self(found: Tensor) -> Tensor:
    """Rows of neighbours without the row itself, or, where it is not among them, without the last. [rows, k - 1]."""
    itself = found == torch.arange(len(found), device=found.device)[:, None]
    itself[:, -1] |= ~itself.any(dim=1)
    return found[~itself].view(len(found), found.shape[1] - 1)


def _scores(space: Space, rows: Tensor, candidates: Tensor, block: int) -> Tensor:
    """Similarities of rows to candidates, on the grid where ties are equal. [rows, candidates]."""
    scores = torch.empty(candidates.shape, dtype=torch.float64, device=rows.device)
    part = max(1, block // (candidates.shape[1] * space.x.shape[1]))
    for some in torch.arange(len(rows), device=rows.device).split(part):
        scores[some] = space.scores(space.exact(rows[some])[:, None], space.exact(candidates[some]))[:, 0]
    return scores


def _faiss() -> Any:
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise MissingDependencyError("search 'faiss' needs faiss: pip install faiss-cpu, or use 'exact'") from error
    return faiss
