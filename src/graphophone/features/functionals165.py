"""165 statistics of the contours of a voice, as graphs of recordings take them."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from graphophone.features import smile
from graphophone.features.base import Extractor, Level

#: openSMILE's settings, and the level with the contours. openSMILE itself reads it, hence a file and not a resource.
_CONFIGURATION = Path(__file__).with_suffix(".conf")
_LEVEL = "contours"

_STATIC = (*(f"pcm_fftMag_mfcc[{i}]" for i in range(13)), "pcm_zcr", "voiceProb", "F0")
_SLOPES = (
    *(f"pcm_fftMag_mfcc_sma_de[{i}]" for i in range(13)),
    "pcm_zcr_sma_de",
    "voiceProb_sma_de",
    "F0_sma_de",
    "pcm_LOGenergy_sma_de",
)

#: The 33 contours under openSMILE's names: 16 as they are, and the slopes (``sma_de``) of 17 smoothed ones.
CONTOURS: tuple[str, ...] = _STATIC + _SLOPES

#: What is computed of each contour; all contours' means come first.
STATISTICS: tuple[str, ...] = ("mean", "max", "std", "skew", "kurtosis")


def functionals(contours: np.ndarray) -> np.ndarray:
    r"""Mean, maximum, standard deviation, skewness and excess kurtosis of every column, in this order.

    With the central moments :math:`m_k = \frac{1}{n} \sum_t (x_t - \bar{x})^k` (over the population, so that one frame
    is enough) these are :math:`\sqrt{m_2}`, :math:`m_3 / m_2^{3/2}` and :math:`m_4 / m_2^2 - 3`. A constant column has
    no shape: its last three are 0. Worked out in double precision.

    Args:
        contours: `[frames, dims]`, at least one frame.

    Returns:
        `[5 * dims]` float32: all means, then all maxima, and so on.
    """
    x = np.asarray(contours, dtype=np.float64)
    mean, largest = x.mean(axis=0), x.max(axis=0)
    # Not by m2 == 0: a mean that is rounded leaves a rest, whose moments would be noise.
    moving = largest > x.min(axis=0)
    deviation = np.where(moving, x - mean, 0.0)
    std = np.sqrt(np.square(deviation).mean(axis=0))
    # Scaled before powers are taken: the fourth power of something tiny is lost to rounding.
    z = deviation / np.where(moving, std, 1.0)
    skew, kurtosis = (z**3).mean(axis=0), (z**4).mean(axis=0) - np.where(moving, 3.0, 0.0)
    return np.concatenate([mean, largest, std, skew, kurtosis]).astype(np.float32)


@functools.cache
def _digest() -> str:
    return hashlib.blake2b(_CONFIGURATION.read_bytes(), digest_size=8).hexdigest()


class Functionals165(Extractor):
    """Five statistics of 33 contours of a voice: one vector per recording.

    A. Shirian, K. Somandepalli, T. Guha, "Self-supervised graphs for audio representation learning with limited
    labeled data", IEEE Journal of Selected Topics in Signal Processing 16(6), 2022, section on speech: MFCC 0 to 12,
    zero-crossing rate, voicing probability and F0 in frames of 25 ms every 10 ms, their slopes over 5 frames after
    smoothing over 3, and the slope of the log energy; of each mean, maximum, standard deviation, skewness and excess
    kurtosis (`functionals`). The energy itself is not among them: 33 contours give the 165 numbers of the paper. The
    settings are in ``functionals165.conf`` beside this file and can be run with openSMILE alone.

    openSMILE orders the MFCC as HTK does: ``mfcc[0]`` to ``mfcc[11]`` are the coefficients 1 to 12, and ``mfcc[12]`` is
    coefficient 0, the sum of the log bands. The names are kept as they are published.

    F0 is 0 in unvoiced frames and counts there. A frame of 25 ms holds too few periods of a low voice: the voicing of
    pulse trains below some 125 Hz stays under the threshold of 0.55 that they need for an F0. In digital silence the
    zero-crossing rate is 0.995, as openSMILE counts samples of 0 as crossings. The values have very different scales:
    standardise them before distances are taken.

    Recordings are resampled to 16 kHz; less than one frame (400 samples) is padded with zeros.

    Shapes:
        - **signal:** `[samples]`
        - **output:** `[165]`
    """

    name = "functionals165"
    min_samples = 400

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
        """``<contour>_<statistic>``, such as ``F0_max``: all of one statistic side by side."""
        return tuple(f"{contour}_{statistic}" for statistic in STATISTICS for contour in CONTOURS)

    @property
    def config(self) -> dict[str, Any]:
        """No options."""
        return {}

    def backend(self) -> dict[str, str]:
        """The version of openSMILE, and a hash of the settings it is run with."""
        return {"opensmile": smile.version(), "configuration": _digest()}

    def contours(self, signal: np.ndarray) -> np.ndarray:
        """The contours that are summarised.

        Args:
            signal: `[samples]` float32 in [-1, 1] at 16 kHz, at least 400 samples.

        Returns:
            `[1 + (samples - 400) // 160, 33]` float32; columns are :data:`CONTOURS`.

        Raises:
            MissingDependencyError: If openSMILE is not installed.
        """
        return smile.process(str(_CONFIGURATION), _LEVEL, signal, self.rate)

    def _extract(self, signal: np.ndarray) -> np.ndarray:
        return functionals(self.contours(signal))
