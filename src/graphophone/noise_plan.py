"""Which noises are added to which recordings of a corpus."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graphophone.corpora.base import Corpus
from graphophone.errors import GraphophoneError
from graphophone.features.base import stable_hash
from graphophone.features.noises import Noise, Pink, Recorded, Recording, White
from graphophone.talkers import TalkerError, corpus_talkers, given_talkers

NOISES = ("white", "pink", "babble")
"""Noises that need no recording of noise."""

SNRS = (20.0, 10.0, 5.0, 0.0)
"""Signal-to-noise ratios in dB."""

HEADLINE = 10.0
"""The ratio in dB that tables over several runs show (of those asked for the nearest)."""


class RobustnessError(GraphophoneError):
    """A run that noise cannot be tested on, or a noise that cannot be made."""


@dataclass(frozen=True, eq=False)
class Planned:
    """A noise, and for whom: parts of the items that are each given a noise of their own.

    Attributes:
        name: Name of the noise.
        parts: Row numbers among the items `[rows]`, and what is added to them.
        sources: What it is made of, also for items that are not among these.
        notes: What a reader should know of it, sentences.
    """

    name: str
    parts: Sequence[tuple[np.ndarray, Noise]]
    sources: Sequence[Noise]
    notes: tuple[str, ...] = ()

    @classmethod
    def of_one(cls, items: Corpus, source: Noise) -> Planned:
        """The same noise for all items."""
        return cls(source.name, [(np.arange(len(items)), source)], [source])

    @property
    def key(self) -> str:
        """Tells noises of one name apart that are made of other recordings."""
        return stable_hash([source.config for source in self.sources], digits=16)


def checked_ratios(snrs: Sequence[float]) -> list[float]:
    """Ratios in falling order, each once.

    Raises:
        RobustnessError: If there is none, or one is no number.
    """
    ratios = sorted({float(snr) for snr in snrs}, reverse=True)
    if not ratios or not all(map(math.isfinite, ratios)):
        raise RobustnessError(f"signal-to-noise ratios must be numbers in dB, such as 20 10 5 0; not {list(snrs)}")
    return ratios


def plan(
    items: Corpus,
    corpus: Corpus,
    noises: Sequence[str],
    noise_files: Sequence[str | Path] = (),
    talkers: Sequence[str | Path] = (),
    *,
    sounds: bool = False,
) -> tuple[list[Planned], list[dict[str, str]]]:
    """What to add to which items, and what is left out and why.

    Args:
        items: The recordings that get noise.
        corpus: The whole corpus, whose speakers talk in babble.
        noises: Of :data:`NOISES`.
        noise_files: Recordings of noise, each named by its file.
        talkers: Recordings of speech to make babble of, files and folders, in place of the corpus' speakers.
        sounds: Whether the corpus is one of sounds, and not of speech.

    Returns:
        The noises, and for each that cannot be made its ``noise`` and the ``reason``.

    Raises:
        RobustnessError: If a noise is unknown, two have one name, or none is left.
        TalkerError: If ``talkers`` hold no recording.
        AudioError: If a recording that was given cannot be used.
    """
    makers: dict[str, Callable[[], Planned]] = {
        "white": lambda: Planned.of_one(items, White()),
        "pink": lambda: Planned.of_one(items, Pink()),
        "babble": lambda: _babble(items, corpus, talkers, sounds),
    }
    planned, skipped = [], []
    for name in dict.fromkeys(noises):
        if name not in makers:
            raise RobustnessError(f"there is no noise {name!r}: choose of {', '.join(makers)}, or give a recording")
        try:
            planned.append(makers[name]())
        except TalkerError as error:
            if talkers:
                raise
            skipped.append({"noise": name, "reason": str(error)})
    for path in map(Path, noise_files):
        name = re.sub(r"[^\w-]+", "_", path.stem)
        if name in {*makers, *(noise.name for noise in planned)}:
            raise RobustnessError(f"{path}: there is a noise {name!r} already; rename the file")
        planned.append(Planned.of_one(items, Recorded(Recording.read(str(path)), name)))
    if not planned:
        raise RobustnessError(
            "; ".join(entry["reason"] for entry in skipped) or "name a noise, or give a recording of it"
        )
    return planned, skipped


def _babble(items: Corpus, corpus: Corpus, talkers: Sequence[str | Path], sounds: bool) -> Planned:
    """Babble for each recording, of voices that are not its own.

    Raises:
        TalkerError: If there is nobody to talk.
    """
    if talkers:
        return Planned.of_one(items, given_talkers(talkers))
    if sounds:
        raise TalkerError(f"corpus {corpus.name!r} is not one of speech: give recordings of speech with --talkers")
    groups = corpus_talkers(corpus)
    speakers = items.speakers or []
    parts = []
    for group in groups:
        rows = np.flatnonzero([name in group.speakers for name in speakers])
        if len(rows):
            parts.append((rows, group.noise))
    notes = [
        "The voices of the babble are those of the corpus' other speakers, training speakers among them, so a network "
        "may know them; --talkers takes others."
    ]
    voices = len({name for group in groups for name in group.speakers})
    if voices - max(len(group.speakers) for group in groups) < groups[0].noise.talkers:
        notes.append(f"The corpus has {voices} speakers only, so the babble holds some voices more than once.")
    return Planned("babble", parts, [group.noise for group in groups], tuple(notes))
