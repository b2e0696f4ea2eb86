"""Turns that are rows of a table, arranged in dialogues and made into batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from graphophone.errors import GraphophoneError
from graphophone.graphs.modalities import has_modality, split_modalities
from graphophone.nn.dialogue import DialogueBatch

LONGEST = 512
"""Turns of a dialogue that a network is given at once: its graph has as many edges as the square of them."""


@dataclass(frozen=True, eq=False)
class Dialogues:
    """The rows of a table in the order in which they were said.

    Attributes:
        names: Name of each dialogue.
        turns: Rows of each, in order; of a dialogue of more than `LONGEST` turns the pieces that it was cut into.
        speaker: Who speaks in each row of the table, numbered from 0 in each dialogue by their first turns ``[rows]``.
        cut: Names of dialogues that were cut.
    """

    names: tuple[str, ...]
    turns: tuple[np.ndarray, ...]
    speaker: np.ndarray
    cut: tuple[str, ...] = ()

    def among(self, rows: np.ndarray) -> list[np.ndarray]:
        """The dialogues (or pieces) that hold any of some rows, whole."""
        asked = np.zeros(len(self.speaker), dtype=bool)
        asked[rows] = True
        return [turns for turns in self.turns if asked[turns].any()]


def arrange(table: pd.DataFrame, *, longest: int = LONGEST) -> Dialogues:
    """Put the turns of a table in order.

    Args:
        table: A row per turn with the column ``dialogue``; in order of ``position`` where it has that, else of
            ``start``, else as they stand. Without the column ``speaker`` every dialogue is a monologue; a turn whose
            speaker is not known counts as one of an unknown speaker, the same throughout the dialogue.
        longest: Turns of a piece at most; longer dialogues are cut into pieces of like length.

    Raises:
        GraphophoneError: If there is no such column, or a turn has no dialogue or no place in it.
    """
    if "dialogue" not in table:
        raise GraphophoneError("the turns have no column dialogue: name the conversation of each turn in it")
    said = table["dialogue"].astype(object)
    unnamed = said.isna() | (said.astype(str).str.strip() == "")
    if unnamed.any():
        raise GraphophoneError(f"row {int(unnamed.to_numpy().argmax())} has no dialogue: name its conversation")
    names, codes = np.unique(said.astype(str).to_numpy(dtype=object), return_inverse=True)
    place = np.arange(len(table), dtype=np.float64)
    for column in ("position", "start"):
        if column in table and table[column].notna().any():
            place = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64)
            if not np.isfinite(place).all():
                row = int((~np.isfinite(place)).argmax())
                raise GraphophoneError(
                    f"row {row}, dialogue {said.iloc[row]}: {column} {table[column].iloc[row]!r} is no number; give it"
                )
            break
    order = np.lexsort((np.arange(len(table)), place, codes))
    bounds = np.searchsorted(codes[order], np.arange(len(names) + 1))
    speaker = np.zeros(len(table), dtype=np.int64)
    if "speaker" in table:
        speaker[order] = _by_appearance(codes[order], table["speaker"].fillna("").astype(str).to_numpy()[order])
    turns, cut = [], []
    for number, name in enumerate(names):
        rows = order[bounds[number] : bounds[number + 1]]
        pieces = -(-len(rows) // longest)
        turns += np.array_split(rows, pieces) if pieces > 1 else [rows]
        cut += [str(name)] if pieces > 1 else []
    return Dialogues(tuple(map(str, names)), tuple(turns), speaker, tuple(cut))


def _by_appearance(dialogue: np.ndarray, speaker: np.ndarray) -> np.ndarray:
    """Numbers of speakers, from 0 in each dialogue by their first turns ``[turns]``; turns are in order."""
    _, person = np.unique(speaker, return_inverse=True)
    key = dialogue.astype(np.int64) * (person.max(initial=0) + 1) + person
    _, first, member = np.unique(key, return_index=True, return_inverse=True)
    ranked = np.argsort(first, kind="stable")
    rank = np.empty(len(first), dtype=np.int64)
    rank[ranked] = np.arange(len(first))
    earliest = np.full(int(dialogue.max(initial=0)) + 1, len(first), dtype=np.int64)
    np.minimum.at(earliest, dialogue, rank[member])
    return rank[member] - earliest[dialogue]


@dataclass(frozen=True, eq=False)
class Turns:
    """Turns as a network of dialogues reads them.

    Attributes:
        parts: Modality to standardised vectors ``[turns, dims]``, zeros where a turn lacks it.
        present: Which modalities each turn has, bool ``[turns, M]``.
        speaker: See :class:`Dialogues` ``[turns]``.
    """

    parts: Mapping[str, Tensor]
    present: Tensor
    speaker: Tensor

    @classmethod
    def of(cls, x: Tensor, widths: Mapping[str, int], speaker: np.ndarray) -> Turns:
        """Take standardised vectors apart.

        Args:
            x: Modalities side by side, NaN in all columns of one that a turn lacks ``[turns, sum of dims]``.
            widths: Modality to its columns.
            speaker: ``[turns]``.
        """
        parts = split_modalities(x, widths)
        present = torch.stack([has_modality(part) for part in parts.values()], dim=1)
        filled = {name: part.masked_fill(~present[:, m, None], 0) for m, (name, part) in enumerate(parts.items())}
        return cls(filled, present, torch.from_numpy(np.asarray(speaker, dtype=np.int64)))

    def batch(
        self, dialogues: Sequence[np.ndarray], y: Tensor | None = None, asked: Tensor | None = None
    ) -> DialogueBatch:
        """Some dialogues, padded.

        Args:
            dialogues: Turns of each, in order.
            y: Class of each turn, -1 for none ``[turns]``; None: none has any.
            asked: Which turns an answer is wanted for, bool ``[turns]``; the others are context. None: all.
        """
        lengths = torch.tensor([len(rows) for rows in dialogues])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        index = torch.zeros(mask.shape, dtype=torch.int64)
        index[mask] = torch.from_numpy(np.concatenate(dialogues))
        there = mask if asked is None else mask & asked[index]
        return DialogueBatch(
            x={name: part[index].masked_fill(~mask[..., None], 0) for name, part in self.parts.items()},
            present=(self.present[index] & mask[..., None]).transpose(1, 2).contiguous(),
            mask=mask,
            speaker=self.speaker[index].masked_fill(~mask, 0),
            y=torch.full_like(index, -1) if y is None else y[index].masked_fill(~there, -1),
            row=index.masked_fill(~there, -1),
        )
