"""Whose voices make the babble that is added to a corpus: never that of the recording itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graphophone import audio
from graphophone.corpora.base import Corpus
from graphophone.errors import GraphophoneError
from graphophone.evaluation.protocols import natural_key
from graphophone.features.base import stable_hash
from graphophone.features.extraction import Item
from graphophone.features.noises import Babble, Recording
from graphophone.features.pipeline import audio_items

RECORDINGS = 24
"""Recordings that babble is mixed of, six at a time."""

_GROUPS = 4
_LONGEST = 60.0  # seconds: what is longer is no utterance


class TalkerError(GraphophoneError):
    """Recordings that no babble can be made of."""


@dataclass(frozen=True)
class Talkers:
    """Babble for the recordings of some speakers.

    Attributes:
        speakers: The speakers whose recordings it is added to.
        noise: The babble, of other speakers' recordings.
    """

    speakers: frozenset[str]
    noise: Babble


def corpus_talkers(corpus: Corpus) -> list[Talkers]:
    """Babble of a corpus' own speakers.

    The speakers are dealt into four groups (fewer where there are fewer speakers), and the recordings of a group get
    babble of the speakers of the others: nobody is masked by their own voice, and there are four mixtures to compute
    rather than one per speaker. Groups and recordings depend on the names of corpus, speakers and items only, so that
    every model of the corpus hears the same.

    Raises:
        TalkerError: If the corpus does not name two speakers at least, or no other speaker's recording can be used.
    """
    names = corpus.speakers or []
    speakers = sorted(set(names), key=natural_key)
    if len(speakers) < 2:
        known = f"only one speaker ({speakers[0]})" if speakers else "no speakers"
        raise TalkerError(
            f"corpus {corpus.name!r} names {known}, and babble takes other people's voices: give recordings of speech "
            "with --talkers"
        )
    rng = np.random.default_rng(int(stable_hash([corpus.name, speakers], digits=8), 16))
    speakers = [speakers[i] for i in rng.permutation(len(speakers))]
    ids = corpus.table["id"].tolist()
    items: dict[str, list[Item]] = {name: [] for name in speakers}
    for item in sorted(audio_items(corpus), key=lambda item: stable_hash([ids[item.index]])):
        if item.path:
            items[names[item.index]].append(item)
    groups = [speakers[first :: min(_GROUPS, len(speakers))] for first in range(min(_GROUPS, len(speakers)))]
    found = []
    for group in groups:
        others = [items[name] for name in speakers if name not in group]
        # One recording of each speaker in turn, so that as many voices as possible are heard.
        turns = (item for turn in itertools.zip_longest(*others) for item in turn if item is not None)
        recordings = tuple(itertools.islice(_usable(turns), RECORDINGS))
        if not recordings:
            raise TalkerError(f"corpus {corpus.name!r}: no recording to make babble of can be read")
        found.append(Talkers(frozenset(group), Babble(recordings)))
    return found


def _usable(items: Iterable[Item]) -> Iterable[Recording]:
    """Recordings that can be read, are not silent and not too long; the corpus' own checks name the others."""
    for item in items:
        try:
            end = item.end if item.end is not None else audio.info(item.path).duration
            if end - (item.start or 0.0) <= _LONGEST:
                yield Recording.read(item.path, item.start, item.end)
        except audio.AudioError:
            continue


def given_talkers(paths: Sequence[str | Path]) -> Babble:
    """Babble of recordings that the user names; a folder stands for every audio file below it.

    Raises:
        TalkerError: If there is none.
        AudioError: If one of them cannot be used.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        files += audio.find_audio(path) if path.is_dir() else [path]
    if not files:
        raise TalkerError(f"--talkers: no audio file in {', '.join(map(str, paths))}; name recordings of speech")
    # Of very many, some from everywhere.
    chosen = [files[i] for i in np.unique(np.linspace(0, len(files) - 1, RECORDINGS).round().astype(int))]
    return Babble(tuple(Recording.read(str(file)) for file in chosen))
