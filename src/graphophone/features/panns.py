"""Log mel spectrogram of the pretrained audio neural networks (PANNs)."""

from __future__ import annotations

import functools
import importlib.metadata
import math
from typing import Any

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from graphophone.features.base import Extractor, FeatureError, Level

#: Frames transformed at a time: a long recording never lies in memory once per overlapping window.
_BLOCK = 4096

_LINEAR = 200.0 / 3.0  # hertz per mel below 1 kHz
_STEP = math.log(6.4) / 27.0  # logarithm of the frequency ratio of one mel above it


def slaney_mel(hertz: ArrayLike) -> np.ndarray:
    """Mels of M. Slaney's auditory toolbox: linear below 1 kHz (mel 15), logarithmic above."""
    hertz = np.asarray(hertz, dtype=np.float64)
    return np.where(hertz < 1000.0, hertz / _LINEAR, 15.0 + np.log(np.maximum(hertz, 1000.0) / 1000.0) / _STEP)


def slaney_hertz(mel: ArrayLike) -> np.ndarray:
    """Inverse of `slaney_mel`."""
    mel = np.asarray(mel, dtype=np.float64)
    return np.where(mel < 15.0, mel * _LINEAR, 1000.0 * np.exp((np.maximum(mel, 15.0) - 15.0) * _STEP))


@functools.lru_cache(maxsize=4)
def slaney_filters(rate: int, size: int, bands: int, low_freq: float, high_freq: float) -> np.ndarray:
    """Triangles of unit area over the bins of a Fourier transform.

    Args:
        rate: Sampling rate in hertz.
        size: Length of the transform in samples.
        bands: Number of triangles; their corners are equally spaced in `slaney_mel`.
        low_freq: Lower corner of the first in hertz.
        high_freq: Upper corner of the last in hertz.

    Returns:
        float64 ``[size // 2 + 1, bands]``; not to be written to.
    """
    bins = np.arange(size // 2 + 1) * (rate / size)
    corners = slaney_hertz(np.linspace(slaney_mel(low_freq), slaney_mel(high_freq), bands + 2))
    rise = (bins[:, None] - corners[:-2]) / (corners[1:-1] - corners[:-2])
    fall = (corners[2:] - bins[:, None]) / (corners[2:] - corners[1:-1])
    filters = np.maximum(0.0, np.minimum(rise, fall)) * (2.0 / (corners[2:] - corners[:-2]))
    filters.setflags(write=False)
    return filters


class PannsLogmel(Extractor):
    """Log mel spectrogram as the pretrained audio neural networks take it, in decibels.

    Q. Kong et al., "PANNs: large-scale pretrained audio neural networks for audio pattern recognition", IEEE/ACM
    Transactions on Audio, Speech, and Language Processing 28, 2020. The defaults are theirs, at which the published
    weights of `cnn14` are usable: 32 kHz, periodic Hann windows of 1024 samples every 320 (10 ms), centred on their
    frame with the signal mirrored at both ends, 64 triangles of unit area on Slaney's mel scale from 50 Hz to
    14 kHz, and ``10 log10(max(power, 1e-10))``: silence is -100.

    Nothing is standardised: the first layer of the networks does it (recipes take mean 0, deviation 1, and pad with
    -100). ``N`` samples give ``1 + N // hop`` frames. Cost: about 1/1000 of real time on one core.

    Args:
        num_mel_bins: Number of bands.
        window: Samples per window, also the length of the transform; even.
        hop: Samples from frame to frame.
        low_freq: Lower corner of the lowest band in hertz.
        high_freq: Upper corner of the highest band in hertz.
        rate: Sampling rate in hertz.

    Raises:
        FeatureError: If the options make no sense, or leave a band without a bin of the transform.

    Shapes:
        - **signal:** `[samples]`
        - **output:** `[frames, num_mel_bins]`
    """

    name = "panns_logmel"

    def __init__(
        self,
        *,
        num_mel_bins: int = 64,
        window: int = 1024,
        hop: int = 320,
        low_freq: float = 50.0,
        high_freq: float = 14000.0,
        rate: int = 32000,
    ) -> None:
        if min(num_mel_bins, hop, rate) < 1:
            raise FeatureError(
                f"panns_logmel: num_mel_bins, hop and rate must be at least 1, got {num_mel_bins}, {hop} and {rate}"
            )
        if window < 2 or window % 2:
            raise FeatureError(f"panns_logmel: window must be an even number of samples, got {window}")
        if not 0 <= low_freq < high_freq <= rate / 2:
            raise FeatureError(
                f"panns_logmel: expected 0 <= low_freq < high_freq <= {rate / 2:g} Hz, got {low_freq:g} and "
                f"{high_freq:g}"
            )
        self._bank = (rate, window, num_mel_bins, float(low_freq), float(high_freq))
        empty = np.flatnonzero(~slaney_filters(*self._bank).any(axis=0))
        if empty.size:
            raise FeatureError(
                f"panns_logmel: band {empty[0]} of {num_mel_bins} lies between two bins of a window of {window} "
                "samples; take fewer num_mel_bins or a longer window"
            )
        self._config: dict[str, Any] = {
            "num_mel_bins": num_mel_bins,
            "window": window,
            "hop": hop,
            "low_freq": low_freq,
            "high_freq": high_freq,
            "rate": rate,
        }
        self.rate = rate
        self.min_samples = window // 2 + 1  # a mirror image needs one sample more than it has

    @property
    def level(self) -> Level:
        """Always ``"frame"``."""
        return "frame"

    @property
    def hop(self) -> float:
        """Seconds between two frames."""
        return float(self._config["hop"] / self.rate)

    @property
    def columns(self) -> tuple[str, ...]:
        """``mel[0]``, ``mel[1]``, ... from low to high."""
        return tuple(f"mel[{i}]" for i in range(self._config["num_mel_bins"]))

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(self._config)

    def backend(self) -> dict[str, str]:
        """The version of SciPy, whose Fourier transform it is."""
        return {"scipy": importlib.metadata.version("scipy")}

    def _extract(self, signal: np.ndarray) -> np.ndarray:
        window, hop = self._config["window"], self._config["hop"]
        hann = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)).astype(np.float32)
        filters = slaney_filters(*self._bank).astype(np.float32)
        frames = sliding_window_view(np.pad(signal, window // 2, mode="reflect"), window)[::hop]
        features = np.empty((len(frames), filters.shape[1]), dtype=np.float32)
        for start in range(0, len(frames), _BLOCK):
            spectrum = scipy.fft.rfft(frames[start : start + _BLOCK] * hann, axis=1)
            power = np.square(spectrum.real) + np.square(spectrum.imag)
            features[start : start + _BLOCK] = power @ filters
        return 10.0 * np.log10(np.maximum(features, np.float32(1e-10)))
