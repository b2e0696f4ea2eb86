"""Mean and deviation of log mel bands: a recording of any sound in 128 numbers."""

from __future__ import annotations

import functools
import importlib.metadata
from typing import Any

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view

from graphophone.features.base import Extractor, Level

RATE = 16000
WINDOW = 400
HOP = 160
BANDS = 64

_FOURIER = 512
_LOW, _HIGH = 125.0, 7500.0
_OFFSET = np.float32(0.01)
# Frames transformed at a time: a long recording never lies in memory once per overlapping window.
_BLOCK = 4096


def _mel(hertz: Any) -> Any:
    return 1127.0 * np.log1p(np.asarray(hertz, dtype=np.float64) / 700.0)


@functools.cache
def filters() -> np.ndarray:
    """Triangles over the bins of the Fourier transform: 64, equidistant in mel from 125 to 7500 Hz, of height 1.

    The sides are straight over mel, not over hertz.

    Returns:
        float32 `[257, 64]`; not to be written to.
    """
    bins = _mel(np.arange(_FOURIER // 2 + 1) * (RATE / _FOURIER))[:, None]
    corners = np.linspace(_mel(_LOW), _mel(_HIGH), BANDS + 2)
    rise = (bins - corners[:-2]) / (corners[1:-1] - corners[:-2])
    fall = (corners[2:] - bins) / (corners[2:] - corners[1:-1])
    result = np.maximum(0.0, np.minimum(rise, fall)).astype(np.float32)
    result.setflags(write=False)
    return result


def centres() -> np.ndarray:
    """Middle of each band in hertz, `[64]`: where its triangle is highest."""
    mel = np.linspace(_mel(_LOW), _mel(_HIGH), BANDS + 2)[1:-1]
    return 700.0 * np.expm1(mel / 1127.0)


def log_mel(signal: np.ndarray) -> np.ndarray:
    """Log mel magnitudes as VGGish takes them.

    S. Hershey et al., "CNN architectures for large-scale audio classification", ICASSP 2017: periodic Hann windows of
    25 ms every 10 ms, Fourier transforms of 512 samples, magnitudes (not powers) in 64 mel bands, ``log(mel + 0.01)``.
    Frames that the signal does not fill are left out.

    Args:
        signal: `[samples]` float32 in [-1, 1] at 16 kHz, at least 400 samples.

    Returns:
        `[1 + (samples - 400) // 160, 64]` float32; silence is ``log(0.01)``, about -4.6.
    """
    hann = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)
    frames = sliding_window_view(signal, WINDOW)[::HOP]
    result = np.empty((len(frames), BANDS), dtype=np.float32)
    for start in range(0, len(frames), _BLOCK):
        spectrum = scipy.fft.rfft(frames[start : start + _BLOCK] * hann, n=_FOURIER, axis=1)
        result[start : start + _BLOCK] = np.abs(spectrum) @ filters()
    return np.log(result + _OFFSET)


class Logmel128(Extractor):
    """Mean and standard deviation over time of 64 log mel bands: one vector per recording.

    What stands in for `vggish` where its weights are not at hand: it hears the same bands, but has learned nothing.
    What is published for embeddings does not hold for it.

    Recordings are resampled to 16 kHz; less than one frame (400 samples) is padded with zeros. Deviations are over the
    population. Cost: about 1/500 of real time on one core.

    Shapes:
        - **signal:** `[samples]`
        - **output:** `[128]`: 64 means, then 64 deviations, from low to high bands
    """

    name = "logmel128"
    rate = RATE
    min_samples = WINDOW

    @property
    def level(self) -> Level:
        """Always ``"utterance"``."""
        return "utterance"

    @property
    def hop(self) -> None:
        """None: there is one vector."""
        return

    @property
    def columns(self) -> tuple[str, ...]:
        """``mel[0]_mean``, ..., ``mel[63]_mean``, ``mel[0]_std``, ..."""
        return tuple(f"mel[{i}]_{statistic}" for statistic in ("mean", "std") for i in range(BANDS))

    @property
    def config(self) -> dict[str, Any]:
        """No options."""
        return {}

    def backend(self) -> dict[str, str]:
        """The version of SciPy, whose Fourier transform it is."""
        return {"scipy": importlib.metadata.version("scipy")}

    def _extract(self, signal: np.ndarray) -> np.ndarray:
        bands = log_mel(signal)
        return np.concatenate([bands.mean(axis=0, dtype=np.float64), bands.std(axis=0, dtype=np.float64)])
