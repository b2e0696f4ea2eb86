"""Noises to add to recordings: made here, mixed of other people's speech, or recorded."""

from __future__ import annotations

import functools
import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphophone import audio
from graphophone.features.cache import content_hash


@functools.lru_cache(maxsize=256)
def _signal(path: str, digest: str, start: float | None, end: float | None, rate: int) -> np.ndarray:
    """Samples of a recording; kept, because every item of a corpus wants them. The digest tells versions apart."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", audio.AudioWarning)
        return audio.load(path, rate=rate, start=start, end=end).signal


@dataclass(frozen=True)
class Recording:
    """A recording, or a segment of one, that noise is made of; small, and safe to send to another process.

    Attributes:
        path: The file.
        digest: Hash of its content.
        start: Begin in seconds; None: the begin of the file.
        end: End in seconds; None: the end of the file.
    """

    path: str
    digest: str
    start: float | None = None
    end: float | None = None

    @classmethod
    def read(cls, path: str, start: float | None = None, end: float | None = None) -> Recording:
        """Look at a recording: it can be decoded and is not silent.

        Raises:
            AudioError: If it cannot be used; the text names the file and the reason.
        """
        info = audio.info(path)  # says of a missing file what every other reading error says
        found = cls(path, content_hash(path), start, end)
        if not np.any(found.signal(info.rate)):
            raise audio.AudioError(path, "silent", "silent, so no noise can be made of it; give another recording")
        return found

    def signal(self, rate: int) -> np.ndarray:
        """Samples `[samples]` float32 at ``rate``; they must not be changed."""
        return _signal(self.path, self.digest, self.start, self.end, rate)

    @property
    def config(self) -> list[Any]:
        """What tells it from another one, JSON-able: content and segment, not the name of the file."""
        end = None if self.end is None or math.isnan(self.end) else self.end
        return [self.digest, self.start or 0.0, end]


class Noise(ABC):
    """A kind of noise.

    Attributes:
        name: What tables call it.
    """

    name: str

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """All that its samples depend on but the random generator, JSON-able."""

    @abstractmethod
    def samples(self, n: int, rate: int, rng: np.random.Generator) -> np.ndarray:
        """`[n]` samples at ``rate``, at any level."""


@dataclass(frozen=True)
class White(Noise):
    """Normal samples: the same power at every frequency."""

    name: str = "white"

    @property
    def config(self) -> dict[str, Any]:
        """Its name."""
        return {"name": self.name}

    def samples(self, n: int, rate: int, rng: np.random.Generator) -> np.ndarray:
        """`[n]` samples of unit power."""
        return audio.white_noise(n, rng)


@dataclass(frozen=True)
class Pink(Noise):
    """Noise whose power density falls as 1 / f."""

    name: str = "pink"

    @property
    def config(self) -> dict[str, Any]:
        """Its name."""
        return {"name": self.name}

    def samples(self, n: int, rate: int, rng: np.random.Generator) -> np.ndarray:
        """`[n]` samples of unit power."""
        return audio.pink_noise(n, rng)


@dataclass(frozen=True)
class Babble(Noise):
    """Several people talking at once.

    Attributes:
        recordings: Speech of the people; each mixture takes ``talkers`` of them.
        talkers: How many talk at once.
    """

    recordings: tuple[Recording, ...]
    talkers: int = 6
    name: str = "babble"

    @property
    def config(self) -> dict[str, Any]:
        """The recordings by content, and how many are mixed."""
        return {"name": self.name, "recordings": [r.config for r in self.recordings], "talkers": self.talkers}

    def samples(self, n: int, rate: int, rng: np.random.Generator) -> np.ndarray:
        """`[n]` samples of unit power."""
        return audio.babble([r.signal(rate) for r in self.recordings], n, rng, self.talkers)


@dataclass(frozen=True)
class Recorded(Noise):
    """A recording of noise, of which a part is taken from a random point on, around its end if it is too short.

    Attributes:
        recording: The recording.
        name: What tables call it.
    """

    recording: Recording
    name: str

    @property
    def config(self) -> dict[str, Any]:
        """The recording by content; its name draws the part."""
        return {"name": self.name, "recording": self.recording.config}

    def samples(self, n: int, rate: int, rng: np.random.Generator) -> np.ndarray:
        """`[n]` samples at the level of the recording."""
        whole = self.recording.signal(rate)
        return np.take(whole, int(rng.integers(len(whole))) + np.arange(n), mode="wrap")
