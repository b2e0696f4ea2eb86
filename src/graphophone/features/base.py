"""What every extractor is: a callable with a name, a configuration and a fingerprint."""

from __future__ import annotations

import functools
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from graphophone.errors import GraphophoneError
from graphophone.registry import Registry

if TYPE_CHECKING:
    from graphophone.corpora.base import Corpus
    from graphophone.features.cache import FeatureCache
    from graphophone.features.extraction import Outcome

Level = Literal["frame", "utterance"]
Reads = Literal["signal", "text", "corpus", "modalities"]


class FeatureError(GraphophoneError):
    """Features that cannot be computed, or a feature configuration that makes no sense."""


def stable_hash(value: Any, *, digits: int = 32) -> str:
    """Hexadecimal hash of a JSON-able value: the same on every machine and in every process."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=digits // 2).hexdigest()


class Extractor(ABC):
    """Turns a mono signal into acoustic features.

    Subclasses take keyword-only constructor arguments, return exactly these as :attr:`config`, and implement
    :meth:`_extract`. Constructing one is cheap and needs no optional package; :meth:`prepare` asks for it.
    One that reads something else than a signal implements :meth:`outcomes`.

    Attributes:
        name: Name in the registry.
        reads: ``"signal"``; ``"text"``; ``"corpus"``: vectors that the corpus has ready; ``"modalities"``: what is
            said and how, side by side.
        version: Counts changes of the implementation that change its numbers; part of the fingerprint.
        rate: Sampling rate the features are computed at, in hertz; other signals are resampled to it.
        min_samples: Shorter signals are padded with zeros at their end to this many samples (at
            :attr:`rate`).

    Shapes:
        - **signal:** `[samples]` float, in [-1, 1]
        - **output:** `[frames, dims]` float32 at level ``"frame"``, `[dims]` at level ``"utterance"``
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    reads: ClassVar[Reads] = "signal"
    rate: int = 16000
    min_samples: int = 1

    @property
    @abstractmethod
    def level(self) -> Level:
        """``"frame"``: a row per frame; ``"utterance"``: one vector for the whole signal."""

    @property
    @abstractmethod
    def hop(self) -> float | None:
        """Seconds between two frames; None at level ``"utterance"``."""

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Name of every feature, in the order of the output."""

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The constructor's keyword arguments, JSON-able."""

    @abstractmethod
    def _extract(self, signal: np.ndarray) -> np.ndarray:
        """Features of `[samples >= min_samples]` float32 at :attr:`rate`."""

    @property
    def dims(self) -> int:
        """Number of features."""
        return len(self.columns)

    def outcomes(
        self, corpus: Corpus, cache: FeatureCache | None, workers: int | None, max_duration: float | None
    ) -> Iterator[Outcome] | None:
        """Features of the items of a corpus, where they do not come from signals one by one.

        Args:
            corpus: The items.
            cache: Where features are kept; None: nowhere.
            workers: Processes; None: as many as are sensible.
            max_duration: Longest recording that is taken, in seconds.

        Returns:
            One outcome per item, in any order, with features or with the reason why there are none. None (as here):
            recordings are read, and each is given to this extractor.
        """
        return None

    def backend(self) -> Mapping[str, str]:
        """Packages, with versions, on which the numbers depend; part of the fingerprint."""
        return {}

    def prepare(self) -> None:
        """Import what is needed.

        Raises:
            MissingDependencyError: If an optional package is missing.
        """
        self.backend()

    @functools.cached_property
    def fingerprint(self) -> str:
        """Stable hash of name, configuration, implementation version and :meth:`backend`.

        Two extractors with the same fingerprint give the same numbers; the cache rests on it. It is worked out
        once: an extractor does not change after construction.

        Raises:
            MissingDependencyError: If an optional package is missing, whose version would be part of it.
        """
        return stable_hash(
            {
                "name": self.name,
                "version": self.version,
                "rate": self.rate,
                "config": self.config,
                "backend": dict(self.backend()),
            }
        )

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Features of texts, for an extractor that reads text.

        Returns:
            Of each, by :attr:`level`, `[dims]` or `[tokens, dims]` float32.

        Raises:
            FeatureError: If the extractor reads something else.
        """
        raise FeatureError(f"{self.name}: reads {self.reads}, not text; choose an extractor of texts, such as minilm")

    def item(self, signal: np.ndarray | None, rate: int, text: str | None = None) -> np.ndarray:
        """Features of one item, of whatever the extractor reads of it.

        Args:
            signal: `[samples]`, or None where there is no recording.
            rate: Its sampling rate in hertz.
            text: What is said, or None where that is not known.

        Raises:
            FeatureError: If the item lacks what the extractor reads; or as :meth:`__call__`.
        """
        if self.reads == "text":
            if not (text and text.strip()):
                raise FeatureError(f"{self.name}: reads text, and there is none; give what is said")
            return self.encode([text])[0]
        if signal is None:
            raise FeatureError(f"{self.name}: reads recordings, and there is none; give an audio file")
        return self(signal, rate)

    def __call__(self, signal: np.ndarray, rate: int) -> np.ndarray:
        """Extract features.

        Args:
            signal: `[samples]` float in [-1, 1], mono.
            rate: Its sampling rate in hertz; resampled if it differs from the extractor's.

        Returns:
            float32, `[frames, dims]` or `[dims]` by :attr:`level`; all values finite.

        Raises:
            FeatureError: If the signal is not a finite mono signal, or a feature is not a finite number.
            MissingDependencyError: If an optional package is missing.
        """
        signal = np.asarray(signal)
        if signal.ndim != 1 or signal.dtype.kind != "f":
            raise FeatureError(
                f"{self.name}: expected a mono float signal [samples], got {signal.dtype} of shape "
                f"{list(signal.shape)}; graphophone.audio.from_array converts it"
            )
        if signal.size == 0 or not np.isfinite(signal).all():
            what = "is empty" if signal.size == 0 else "holds NaN or infinite samples"
            raise FeatureError(f"{self.name}: the signal {what}; leave it out or repair it")
        signal = signal.astype(np.float32, copy=False)
        if rate != self.rate:
            from graphophone.audio import resample

            signal = resample(signal, rate, self.rate)
        if signal.size < self.min_samples:
            signal = np.pad(signal, (0, self.min_samples - signal.size))
        features = np.ascontiguousarray(self._extract(signal), dtype=np.float32)
        shape = (len(features), self.dims) if self.level == "frame" else (self.dims,)
        if features.shape != shape or features.size == 0:
            raise FeatureError(
                f"{self.name}: gave features of shape {list(features.shape)} instead of {list(shape)}; "
                "this is an error of the extractor"
            )
        finite = np.isfinite(features)
        if not finite.all():
            bad = np.flatnonzero(~finite.reshape(-1, self.dims).all(axis=0))
            names = ", ".join(self.columns[i] for i in bad[:3]) + (", ..." if len(bad) > 3 else "")
            raise FeatureError(
                f"{self.name}: not a finite number in {len(bad)} of {self.dims} features ({names}); "
                "leave the recording out"
            )
        return features

    def __repr__(self) -> str:
        options = ", ".join(f"{key}={value!r}" for key, value in self.config.items())
        return f"{type(self).__name__}({options})"


class WeightedExtractor(Extractor):
    """An extractor that rests on weights from a file or folder, which a saved model knows by their hash.

    Args:
        digest: Hash of the weights that are asked for; empty takes any.
    """

    def __init__(self, digest: str) -> None:
        self._digest = digest

    @functools.cached_property
    @abstractmethod
    def _found(self) -> tuple[Path, str]:
        """Where the weights are, and their hash; looked for once."""

    @property
    def digest(self) -> str:
        """Hash of the weights, and of what belongs to them.

        Raises:
            FeatureError: If none was given, and there are no weights.
        """
        return self._digest or self._found[1]

    def prepare(self) -> None:
        """Look for the weights.

        Raises:
            FeatureError: If there are none, or none with the hash that was asked for.
            MissingDependencyError: If an optional package is missing.
        """
        super().prepare()
        self._found  # noqa: B018 - looked for once


EXTRACTORS: Registry[Extractor] = Registry(
    "extractor",
    {
        "is10": "graphophone.features.is10:IS10",
        "egemaps": "graphophone.features.egemaps:EGeMAPS",
        "compare": "graphophone.features.compare:ComParE",
        "fbank": "graphophone.features.fbank:Fbank",
        "functionals165": "graphophone.features.functionals165:Functionals165",
        "given": "graphophone.features.given:Given",
        "logmel128": "graphophone.features.logmel128:Logmel128",
        "minilm": "graphophone.features.minilm:Minilm",
        "modalities": "graphophone.features.modalities:Modalities",
        "panns_logmel": "graphophone.features.panns:PannsLogmel",
        "speech_encoder": "graphophone.features.speech_encoder:SpeechEncoder",
        "text_encoder": "graphophone.features.text_encoder:TextEncoder",
        "vggish": "graphophone.features.vggish:Vggish",
    },
)


def create_extractor(name: str, /, **config: Any) -> Extractor:
    """Make an extractor by name.

    Raises:
        UnknownNameError: If the name or an option is unknown.
    """
    return EXTRACTORS.create(name, **config)


def list_extractors(pattern: str = "*") -> list[str]:
    """Names of the extractors that match a shell pattern."""
    return EXTRACTORS.names(pattern)
