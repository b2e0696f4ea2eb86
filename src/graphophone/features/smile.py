"""openSMILE as this package uses it: one object per process, 16-bit input that does not wrap around.

openSMILE: F. Eyben, M. Wöllmer, B. Schuller, "openSMILE - The Munich versatile and fast open-source audio
    feature
extractor", ACM Multimedia 2010. The package is under a research licence, hence optional.
"""

from __future__ import annotations

import importlib.metadata
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np

from graphophone.errors import MissingDependencyError
from graphophone.features.base import Extractor, FeatureError, Level

#: openSMILE's feature sets here need this many samples at 16 kHz for their 60 ms pitch frames; from fewer it
#: returns a row of NaN.
MIN_SAMPLES = 1120

#: The largest value that 16-bit audio holds.
_LARGEST = np.float32(32767 / 32768)


def version() -> str:
    """Version of the installed openSMILE package.

    Raises:
        MissingDependencyError: If it is not installed.
    """
    try:
        return importlib.metadata.version("opensmile")
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingDependencyError("openSMILE is not installed: pip install 'graphophone[opensmile]'") from error


@lru_cache(maxsize=8)
def _smile(feature_set: str, level: str) -> Any:
    version()
    import opensmile

    if feature_set.endswith(".conf"):
        return opensmile.Smile(feature_set=feature_set, feature_level=level)
    return opensmile.Smile(
        feature_set=getattr(opensmile.FeatureSet, feature_set),
        feature_level=getattr(opensmile.FeatureLevel, level),
    )


def feature_names(feature_set: str, level: str) -> tuple[str, ...]:
    """Names of the features that openSMILE computes for a set at a level."""
    return tuple(_smile(feature_set, level).feature_names)


def process(feature_set: str, level: str, signal: np.ndarray, rate: int) -> np.ndarray:
    """Run one of openSMILE's feature sets.

    The package turns a signal into 16-bit integers without a bound, so that a full-scale sample of 1.0 (or an
    overshoot from resampling) would become -32768; samples are limited to the 16-bit range first. On signals
    that come from 16-bit files this changes nothing.

    Args:
        feature_set: Name of an ``opensmile.FeatureSet``, or path of a configuration file (``.conf``).
        level: Name of an ``opensmile.FeatureLevel``, or of a level of that file.
        signal: `[samples]` float32 in [-1, 1].
        rate: Sampling rate in hertz.

    Returns:
        `[frames, dims]` float32; functionals give one frame.

    Raises:
        MissingDependencyError: If openSMILE is not installed.
    """
    smile = _smile(feature_set, level)
    with warnings.catch_warnings(), _heard():
        # "Segment too short, filling with NaN.": the row of NaN is found, and named, by the caller.
        warnings.filterwarnings("ignore", message="Segment too short")
        features = smile(np.clip(signal, -1.0, _LARGEST), rate)
    return np.asarray(features[0].T, dtype=np.float32)


@contextmanager
def _heard() -> Iterator[None]:
    """Raise what is raised inside a callback of openSMILE, once it is through with the signal.

    openSMILE hands each frame to a Python function. An exception in there, above all the KeyboardInterrupt of a
    Ctrl-C, cannot cross its C code: Python prints it and goes on, with one frame lost and no other sign of it.
    """
    caught: list[BaseException] = []
    before = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if unraisable.exc_value is not None and "ctypes callback" in (unraisable.err_msg or ""):
            caught.append(unraisable.exc_value)
        else:
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
        if caught:
            raise caught[0]


class SmileSet(Extractor):
    """One of openSMILE's feature sets: statistics over the utterance, or its descriptors frame by frame.

    Args:
        level: ``"functionals"``: one vector of statistics per signal; ``"lld"``: the low-level descriptors
            that these summarise, every 10 ms.
    """

    #: Name in ``opensmile.FeatureSet``.
    feature_set: ClassVar[str]
    #: Number of features by level, so that it can be told without openSMILE.
    sizes: ClassVar[Mapping[str, int]]
    min_samples = MIN_SAMPLES

    def __init__(self, *, level: Literal["functionals", "lld"] = "functionals") -> None:
        if level not in self.sizes:
            raise FeatureError(f"{self.name}: level must be 'functionals' or 'lld', got {level!r}")
        self._smile_level = level

    @property
    def level(self) -> Level:
        """``"utterance"`` for functionals, ``"frame"`` for descriptors."""
        return "utterance" if self._smile_level == "functionals" else "frame"

    @property
    def hop(self) -> float | None:
        """10 ms between descriptors; None for functionals."""
        return None if self._smile_level == "functionals" else 0.01

    @property
    def columns(self) -> tuple[str, ...]:
        """OpenSMILE's names (asks for openSMILE)."""
        return feature_names(self.feature_set, _LEVELS[self._smile_level])

    @property
    def dims(self) -> int:
        """Number of features."""
        return self.sizes[self._smile_level]

    @property
    def config(self) -> dict[str, Any]:
        """The level."""
        return {"level": self._smile_level}

    def backend(self) -> dict[str, str]:
        """The version of openSMILE."""
        return {"opensmile": version()}

    def _extract(self, signal: np.ndarray) -> np.ndarray:
        features = process(self.feature_set, _LEVELS[self._smile_level], signal, self.rate)
        return features[0] if self.level == "utterance" else features


_LEVELS = {"functionals": "Functionals", "lld": "LowLevelDescriptors"}
