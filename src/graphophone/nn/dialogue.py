"""Dialogues as padded tensors: turns, what is known of each in every modality, and the edges between them.

Symbols: B dialogues, M modalities, T turns of the longest, C classes.

A node is a turn in one modality: ``x[b, m, t]``. It is there where ``present[b, m, t]``; what stands elsewhere
(padding, a turn without sound) never reaches a node that is there. Edges are two dense tables, which together hold
every edge that a dialogue can have: ``within`` ``[B, M, T, T]`` joins turns of one modality, ``across``
``[B, T, M, M]`` the modalities of one turn; the target comes before the source. No list of edges is needed, and none
has to be made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

KINDS = ("other speaker", "same speaker", "across")
"""Kinds of edges by number: within a modality to a turn of another speaker or of the same, and between modalities."""


@dataclass(frozen=True, eq=False)
class DialogueBatch:
    """Some dialogues, padded at the end.

    Attributes:
        x: Modality to the vectors of its turns, ``[B, T, dims]`` each; zeros where there is none.
        present: Whether a turn has a modality, bool ``[B, M, T]``, in the order of ``x``; False at padding.
        mask: Whether there is a turn, bool ``[B, T]``: the first of each row, or none.
        speaker: Who speaks, numbered from 0 in each dialogue in the order of their first turns ``[B, T]``; 0 at
            padding.
        y: Class of each turn, -1 for none ``[B, T]``.
        row: Number of the turn in the corpus, -1 for none ``[B, T]``.
    """

    x: Mapping[str, Tensor]
    present: Tensor
    mask: Tensor
    speaker: Tensor
    y: Tensor
    row: Tensor

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities in their order."""
        return tuple(self.x)

    @property
    def lengths(self) -> Tensor:
        """Turns of each dialogue ``[B]``."""
        return self.mask.sum(dim=1)

    def __len__(self) -> int:
        return len(self.mask)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> DialogueBatch:
        """The same on a device."""
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=non_blocking) for f in fields(self)[1:]}
        return DialogueBatch(
            x={name: part.to(device, non_blocking=non_blocking) for name, part in self.x.items()}, **moved
        )

    def only(self, modalities: Iterable[str]) -> DialogueBatch:
        """The same with the other modalities missing in every turn."""
        kept = set(modalities)
        keep = torch.tensor([name in kept for name in self.x], device=self.present.device)
        return self.keeping(keep[None, :, None])

    def keeping(self, keep: Tensor) -> DialogueBatch:
        """The same with modalities missing where ``keep`` (bool, broadcast to ``[B, M, T]``) is False."""
        present = self.present & keep
        x = {name: part.masked_fill(~present[:, m, :, None], 0) for m, (name, part) in enumerate(self.x.items())}
        return replace(self, x=x, present=present)


class EdgeTables(NamedTuple):
    """A number for every edge that there can be.

    Attributes:
        within: Of edges within a modality ``[B, M, T, T]``, target before source.
        across: Of edges between the modalities of a turn ``[B, T, M, M]``, target before source.
    """

    within: Tensor
    across: Tensor

    def aggregate(self, x: Tensor) -> Tensor:
        """At every node the sum over its incoming edges, each source times its number; ``[B, M, T, d]`` to the same."""
        return self.within @ x + (self.across @ x.transpose(1, 2)).transpose(1, 2)

    def times(self, other: EdgeTables) -> EdgeTables:
        """Edge by edge the product."""
        return EdgeTables(self.within * other.within, self.across * other.across)

    def into(self) -> Tensor:
        """Sums over the incoming edges of every node ``[B, M, T]``."""
        return self.within.sum(dim=3) + self.across.sum(dim=3).transpose(1, 2)

    def out_of(self) -> Tensor:
        """Sums over the outgoing edges of every node ``[B, M, T]``."""
        return self.within.sum(dim=2) + self.across.sum(dim=2).transpose(1, 2)

    def total(self) -> Tensor:
        """The sum over all edges, a scalar."""
        return self.within.sum() + self.across.sum()


@dataclass(frozen=True, eq=False)
class DialogueGraph:
    """Who hears whom in some dialogues: the initial graph of RIGSL.

    Within a modality every turn hears every other one of its dialogue, at most ``past`` turns before it and at most
    ``future`` after it; in a turn every modality hears every other. No node hears itself.

    Attributes:
        present: Which nodes there are, bool ``[B, M, T]``.
        speaker: Who speaks ``[B, T]``.
        past: Turns before it that a turn hears; None: all.
        future: Turns after it that a turn hears; None: all; 0: the answer for a turn does not change with later ones.
    """

    present: Tensor
    speaker: Tensor
    past: int | None = None
    future: int | None = None

    @cached_property
    def rows(self) -> Tensor:
        """Places of the nodes that there are among all, ``[N]`` in ``[B * M * T]``."""
        return self.present.flatten().nonzero().squeeze(1)

    def gathered(self, x: Tensor) -> Tensor:
        """States ``[B, M, T, d]`` of the nodes that there are, one after the other ``[N, d]``."""
        return x.flatten(0, 2).index_select(0, self.rows)

    def spread(self, rows: Tensor) -> Tensor:
        """The way back: ``[N, d]`` to ``[B, M, T, d]``, zeros at absent nodes."""
        table = rows.new_zeros(self.present.numel(), rows.size(1)).index_copy(0, self.rows, rows)
        return table.view(*self.present.shape, -1)

    @cached_property
    def window(self) -> Tensor:
        """Whether a turn may hear another or itself, by their places alone: bool ``[T, T]``, target before source."""
        place = torch.arange(self.present.size(2), device=self.present.device)
        ahead = place[None, :] - place[:, None]
        allowed = torch.ones_like(ahead, dtype=torch.bool)
        if self.past is not None:
            allowed &= ahead >= -self.past
        if self.future is not None:
            allowed &= ahead <= self.future
        return allowed

    @cached_property
    def hears(self) -> Tensor:
        """Whether a node hears another or itself within its modality: bool ``[B, M, T, T]``, target before source."""
        return self.present[..., :, None] & self.present[..., None, :] & self.window

    @cached_property
    def within(self) -> Tensor:
        """Edges within modalities: bool ``[B, M, T, T]``."""
        turns = self.present.size(2)
        return self.hears & ~torch.eye(turns, dtype=torch.bool, device=self.present.device)

    @cached_property
    def across(self) -> Tensor:
        """Edges between modalities: bool ``[B, T, M, M]``."""
        nodes = self.present.transpose(1, 2)
        others = ~torch.eye(nodes.size(2), dtype=torch.bool, device=nodes.device)
        return nodes[..., :, None] & nodes[..., None, :] & others

    @cached_property
    def same_speaker(self) -> Tensor:
        """Whether two turns have one speaker: bool ``[B, T, T]``."""
        return self.speaker[:, :, None] == self.speaker[:, None, :]

    @property
    def num_edges(self) -> Tensor:
        """How many edges there are in all, a scalar; of one dialogue of L turns in M modalities M L (L - 1 + M - 1)."""
        return self.within.sum() + self.across.sum()

    def edge_list(self) -> tuple[Tensor, Tensor, Tensor]:
        """The same edges as a list, for layers of PyTorch Geometric and for drawing.

        Returns:
            Sources and targets ``[2, E]`` as numbers of nodes, sorted by target; the kind of each edge ``[E]`` (see
            `KINDS`); dialogue, modality and turn of each node ``[N, 3]``, the present ones in the order of ``present``.
        """
        nodes = self.present.nonzero()
        number = torch.full_like(self.present, -1, dtype=torch.int64)
        number[self.present] = torch.arange(len(nodes), device=nodes.device)
        b, m, target, source = self.within.nonzero(as_tuple=True)
        kind = self.same_speaker[b, target, source].long()
        b2, turn, into, out_of = self.across.nonzero(as_tuple=True)
        edges = torch.cat(
            [
                torch.stack([number[b, m, source], number[b, m, target]]),
                torch.stack([number[b2, out_of, turn], number[b2, into, turn]]),
            ],
            dim=1,
        )
        kinds = torch.cat([kind, torch.full_like(turn, 2)])
        order = (edges[1] * max(len(nodes), 1) + edges[0]).argsort()
        return edges[:, order], kinds[order], nodes
