"""Graphs of modalities for many numbers of neighbours: searched once, cut for each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from graphophone.graphs.bank import ModalBank
from graphophone.graphs.base import require
from graphophone.graphs.modal import ModalKNN, modal_neighbours, neighbour_edges


class RankedKNN(ModalKNN):
    """A `ModalKNN` that remembers the ranking of neighbours: another number of them is a cut, not a search.

    Its graphs and banks are those of a `ModalKNN` with the same options. Rankings are known by the vectors they are
    of, and shared by all that `at` makes; memory is ``items * k_most`` numbers for each.

    Args:
        rules: Direction, exclusion and kind of search.
        most: Most neighbours that will be asked for, by modality.
    """

    def __init__(self, rules: ModalKNN, most: Mapping[str, int]) -> None:
        super().__init__(
            rules.k_text,
            rules.k_audio,
            rules.k_video,
            direction=rules.direction,
            self_exclusion=rules.self_exclusion,
            search=rules.search,
        )
        self._most = {name: max(most.get(name, 0), getattr(rules, f"k_{name}")) for name in ("text", "audio", "video")}
        self._rankings: dict[tuple[Any, ...], Any] = {}

    def at(self, **k: int) -> RankedKNN:
        """The same rules with other numbers of neighbours: ``at(k_text=3, k_audio=1)``.

        Raises:
            GraphError: If more are asked for than were ranked.
        """
        other = RankedKNN(self, self._most)
        for option, count in k.items():
            most = self._most[option.removeprefix("k_")]
            require(0 <= count <= most, f"{option} is {count}, and {most} neighbours are ranked; give at most so many")
            setattr(other, option, count)
        other._rankings = self._rankings
        return other

    def edges_of(self, x: Tensor, in_channels: Mapping[str, int], only: Sequence[str] | None = None) -> Tensor:
        """See `ModalKNN.edges_of`."""
        parts = self._compared(x, in_channels, only)
        counts = self._counts(parts)
        found = [self._ranked(name, part)[:, :k] for (name, part), k in zip(parts.items(), counts, strict=True)]
        return neighbour_edges(found, direction=self.direction)

    def bank_of(self, x: Tensor, in_channels: Mapping[str, int], only: Sequence[str] | None = None) -> ModalBank:
        """See `ModalKNN.bank_of`."""
        if self.direction == "reference":
            return super().bank_of(x, in_channels, only)  # refuses
        parts = self._compared(x, in_channels, only)
        return _RankedBank(self, parts, self._counts(parts))

    def _ranked(self, name: str, part: Tensor) -> Tensor:
        """Neighbours of every item in a modality, best first. [items, most]."""
        key = name, _digest(part)
        if key not in self._rankings:
            self._rankings[key] = modal_neighbours(
                part, self._most[name], self_exclusion=self.self_exclusion, search=self.search
            )
        return self._rankings[key]

    def _ranked_among(self, parts: Mapping[str, Tensor], queries: Sequence[Tensor]) -> list[Tensor]:
        """Known neighbours of every query in each modality, best first. Each [queries, most]."""
        key = "bank", *parts, *map(_digest, parts.values()), *map(_digest, queries)
        if key not in self._rankings:
            bank = ModalBank(list(parts.values()), [self._most[name] for name in parts])
            self._rankings[key] = bank.ranked(queries)
        return self._rankings[key]


class _RankedBank(ModalBank):
    """A bank whose answers are cut from rankings.

    Args:
        rules: Where they are kept.
        parts: Vectors of the known items by modality. Each [items, dims]
        k: Neighbours in each.
    """

    def __init__(self, rules: RankedKNN, parts: Mapping[str, Tensor], k: Sequence[int]) -> None:
        self.items = len(next(iter(parts.values())))
        self._rules, self._parts, self._k = rules, parts, k

    def ranked(self, queries: Sequence[Tensor]) -> list[Tensor]:
        """See `ModalBank.ranked`."""
        found = self._rules._ranked_among(self._parts, queries)
        return [ranking[:, :k] for ranking, k in zip(found, self._k, strict=True)]

    def edges_by(self, queries: Sequence[Tensor]) -> list[Tensor]:
        """See `ModalBank.edges_by`."""
        found = []
        for ranking in self.ranked(queries):
            query, rank = (ranking >= 0).nonzero(as_tuple=True)
            found.append(torch.stack([ranking[query, rank], query]))
        return found


def _digest(part: Tensor) -> bytes:
    """What tells vectors from others."""
    array = part.detach().cpu().contiguous()
    return hashlib.blake2b(array.numpy().tobytes() + repr(array.shape).encode(), digest_size=16).digest()
