"""openSMILE as this package uses it: one object per process, 16-bit input that does not wrap around.

openSMILE: F. Eyben, M. Wöllmer, B. Schuller, "openSMILE - The Munich versatile and fast open-source audio
    feature
extractor", ACM Multimedia 2010. The package is under a research licence, hence optional.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from functools import lru_cache
from typing import Any

import numpy as np

from graphophone.errors import MissingDependencyError

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
        raise MissingDependencyError(
            "openSMILE is not installed: pip install 'graphophone[opensmile]'"
        ) from error


@lru_cache(maxsize=8)
def _smile(feature_set: str, level: str) -> Any:
    version()
    import opensmile

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
        feature_set: Name of an ``opensmile.FeatureSet``.
        level: Name of an ``opensmile.FeatureLevel``.
        signal: `[samples]` float32 in [-1, 1].
        rate: Sampling rate in hertz.

    Returns:
        `[frames, dims]` float32; functionals give one frame.

    Raises:
        MissingDependencyError: If openSMILE is not installed.
    """
    smile = _smile(feature_set, level)
    with warnings.catch_warnings():
        # "Segment too short, filling with NaN.": the row of NaN is found, and named, by the caller.
        warnings.filterwarnings("ignore", message="Segment too short")
        features = smile(np.clip(signal, -1.0, _LARGEST), rate)
    return np.asarray(features[0].T, dtype=np.float32)
