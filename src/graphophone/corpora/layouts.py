"""Published features of conversations whose arrangement is known: what their members are, and what should come out.

The features on which RIGSL (Xiong et al., 2025) and M3NET (Chen et al., 2023) were trained are two pickles for each
corpus, both tuples: one with labels, speakers and vectors of sound and video, one with four vectors of RoBERTa for each
utterance.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from graphophone.corpora.base import CorpusError
from graphophone.registry import did_you_mean

OTHER_LABELS = "labels of the second file"
"""Column of labels that are only compared with the first ones."""
_ROBERTA = ("roberta1", "roberta2", "roberta3", "roberta4")
_ACTED = re.compile(r"Ses0([1-5])")


@dataclass(frozen=True)
class Layout:
    """How some published features are arranged.

    Attributes:
        members: Names of the members of each file, which is known by their number; ``-`` is left out.
        classes: Names of the labels, which are numbers from 0.
        counts: Utterances of each class outside the test part, as the published loss weights imply.
        dialogues: Conversations outside the test part, and in it.
        sessions: Whether conversations are named after IEMOCAP's sessions, and speakers by gender alone.
        joined: New column to the columns whose vectors stand side by side in it.
    """

    members: tuple[tuple[str, ...], ...]
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    dialogues: tuple[int, int]
    sessions: bool = False
    joined: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"text": _ROBERTA})

    def names(self, contents: Sequence[tuple[Path, Any]]) -> list[tuple[str, ...]]:
        """Names of the members of each file.

        Raises:
            CorpusError: If the files are not one of each kind.
        """
        kinds = {len(names): names for names in self.members}
        wanted = " and ".join(f"one of {size} members" for size in kinds)
        found = []
        for path, content in contents:
            size = len(content) if isinstance(content, (tuple, list)) else 0
            if size not in kinds:
                told = f"a tuple of {size} members" if size else type(content).__name__
                raise CorpusError(f"{path}: {told}; the layout is of two tuples, {wanted}")
            found.append(kinds.pop(size))
        if kinds:
            raise CorpusError(f"the layout is of two tuples, {wanted}; give both files")
        return found

    def arrange(self, columns: dict[str, list[Any]]) -> list[str]:
        """Join vectors, and name speakers, in place; gives what is to be said of it."""
        for name, parts in self.joined.items():
            rows = zip(*(columns.pop(part) for part in parts), strict=True)
            columns[name] = [None if any(part is None for part in row) else np.concatenate(row) for row in rows]
        notes = []
        pairs = zip(columns["labels"], columns.pop(OTHER_LABELS), strict=True)
        differing = sum(one is not None and other is not None and int(one) != int(other) for one, other in pairs)
        if differing:
            notes.append(f"{differing} utterances have different labels in the two files; those of the first are taken")
        lacking = sorted({d for d, label in zip(columns["dialogue"], columns["labels"], strict=True) if label is None})
        if lacking:
            notes.append(f"{len(lacking)} conversations, such as {lacking[0]}, are only in the file of text vectors")
        matches = [_ACTED.match(dialogue) for dialogue in columns["dialogue"]]
        if self.sessions and all(matches):
            places = [match[0] for match in matches if match]
            columns["speakers"] = [
                None if gender is None else f"{place}{'M' if gender == 'M' else 'F'}"
                for place, gender in zip(places, columns["speakers"], strict=True)
            ]
            columns["session"] = [match[1] for match in matches if match]
        return notes

    def findings(self, table: pd.DataFrame) -> list[str]:
        """What is to be said of the items: whether the counts are the published ones, and what the parts share."""
        split = table["split"] if "split" in table else pd.Series("", index=table.index)
        tested, known = split == "test", split != ""
        learned = known & ~tested
        counts = tuple(int((table["label"][learned] == name).sum()) for name in self.classes)
        dialogues = tuple(int(table["dialogue"][rows].nunique()) for rows in (learned, tested))
        told = ", ".join(f"{name} {count}" for name, count in zip(self.classes, counts, strict=True))
        notes = [f"outside the test part {sum(counts):,} utterances: {told}"]
        for what, found, published in (
            ("classes", counts, self.counts),
            ("dialogues outside the test part and in it", dialogues, self.dialogues),
        ):
            given, wanted = (", ".join(map(str, numbers)) for numbers in (found, published))
            verdict = "as published" if found == published else f"but {wanted} are published: other files, or damaged"
            notes.append(f"{what}: {given}, {verdict}")
        chosen = int(table["dialogue"][split == "validation"].nunique())
        notes.append(
            f"{chosen} dialogues choose the model (the published code has none: it chose by the test part)"
            if chosen
            else "no validation part; let the protocol hold out dialogues: {name: official, validation_by: dialogue}"
        )
        if self.sessions and "session" in table:
            shared = sorted(set(table["speaker"][tested]) & set(table["speaker"][learned]))
            sessions = ", ".join(sorted(set(table["session"][tested].astype(str))))
            notes.append(
                f"test part: session {sessions}; "
                + (f"{', '.join(shared)} are in training too" if shared else "none of its speakers is in training")
            )
        return notes


LAYOUTS: dict[str, Layout] = {
    "rigsl-iemocap": Layout(
        members=(
            ("videoIDs", "speakers", "labels", "-", "audio", "visual", "sentences", "trainVid", "testVid"),
            ("-", OTHER_LABELS, *_ROBERTA, "-", "-", "-", "validIds"),
        ),
        classes=("happy", "sad", "neutral", "angry", "excited", "frustrated"),
        counts=(504, 839, 1324, 933, 742, 1468),
        dialogues=(120, 31),
        sessions=True,
    ),
    "rigsl-meld": Layout(
        members=(
            ("videoIDs", "speakers", "labels", "-", "audio", "visual", "sentences", "trainVid", "testVid", "-"),
            ("-", OTHER_LABELS, "-", *_ROBERTA, "-", "-", "-", "validIds"),
        ),
        classes=("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"),
        counts=(5180, 1355, 308, 794, 1906, 293, 1262),
        dialogues=(1152, 280),
    ),
}
"""Name of a layout to what it is."""


def get_layout(name: str) -> Layout:
    """The layout of a name.

    Raises:
        CorpusError: If there is none.
    """
    if name not in LAYOUTS:
        raise CorpusError(f"unknown layout {name!r}.{did_you_mean(name, LAYOUTS)} There are: {', '.join(LAYOUTS)}")
    return LAYOUTS[name]
