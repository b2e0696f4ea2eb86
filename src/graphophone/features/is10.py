"""The 76 frame features of the INTERSPEECH 2010 paralinguistic challenge, as Graph-LSTM networks use them.

Y. Li, Y. Wang, X. Yang, S.-K. Im, "Speech emotion recognition based on Graph-LSTM neural network", EURASIP
Journal on Audio, Speech, and Music Processing (2023), take openSMILE's INTERSPEECH 2010 set (B. Schuller et
al., "The INTERSPEECH 2010 paralinguistic challenge") frame by frame, without its statistics over the
utterance.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphophone.features import smile
from graphophone.features.base import Extractor, FeatureError, Level

#: The 38 contours in the order of the matrix, each with its index where it has one. The shape of a name is
#: openSMILE's: contour, smoothing, (delta), index.
_CONTOURS: tuple[tuple[str, int | None], ...] = (
    ("pcm_loudness_sma", None),
    *(("mfcc_sma", i) for i in range(15)),
    *(("logMelFreqBand_sma", i) for i in range(8)),
    *(("lspFreq_sma", i) for i in range(8)),
    ("F0finEnv_sma", None),
    ("voicingFinalUnclipped_sma", None),
    ("F0final_sma", None),
    ("jitterLocal_sma", None),
    ("jitterDDP_sma", None),
    ("shimmerLocal_sma", None),
)


def _names(suffix: str) -> tuple[str, ...]:
    return tuple(f"{name}{suffix}" + ("" if i is None else f"[{i}]") for name, i in _CONTOURS)


#: The 76 columns: 38 smoothed contours, then the delta of each.
IS10_COLUMNS: tuple[str, ...] = _names("") + _names("_de")


def delta(contours: np.ndarray, window: int = 2) -> np.ndarray:
    r"""Slope of each contour by linear regression over `2 * window + 1` frames.

    .. math:: d_t = \frac{\sum_{w=1}^{W} w (x_{t+w} - x_{t-w})}{2 \sum_{w=1}^{W} w^2}

    Frames before the first and after the last repeat these. With the window of 2 this is openSMILE's
    cDeltaRegression with ``deltawin = 2``, to the last bit in float32, from 4 frames on; for 2 or 3 frames
    openSMILE's own output does not follow this formula.

    Args:
        contours: `[frames, dims]`, at least one frame.
        window: `W`, frames on either side.

    Returns:
        `[frames, dims]`, in the type of the input.
    """
    frames = len(contours)
    padded = np.pad(contours, ((window, window), (0, 0)), mode="edge")
    slope = np.zeros_like(contours)
    for w in range(1, window + 1):
        after = padded[window + w : window + w + frames]
        before = padded[window - w : window - w + frames]
        slope += w * (after - before)
    slope /= 2 * sum(w * w for w in range(1, window + 1))
    return slope


class IS10(Extractor):
    """38 smoothed descriptors of openSMILE's INTERSPEECH 2010 set and their 38 deltas, every 10 ms.

    Loudness, 15 MFCC, 8 log mel bands, 8 line spectral frequencies (25 ms frames); F0 envelope, voicing
    probability, F0, jitter twice and shimmer (60 ms frames). One pass of openSMILE gives the 38 descriptors;
    the deltas are computed here (:func:`delta`), which equals a second pass at openSMILE's delta level and
    halves the time. The delta level has two rows more at its end, which have no descriptors beside them and
    are left out.

    `N` samples at 16 kHz give `(N - 960) // 160 + 1` frames for `N >= 1120`; shorter signals are padded with
    zeros to 1120 samples (2 frames).

    Differs from the paper: it states 25 ms windows throughout, but in this feature set the pitch features
    come from 60 ms; its further binary "spontaneous" feature is a metadata column of
    :class:`~graphophone.features.FeaturePipeline`.

    Shapes:
        - **signal:** `[samples]`
        - **output:** `[frames, 76]`
    """

    name = "is10"
    min_samples = smile.MIN_SAMPLES

    @property
    def level(self) -> Level:
        """Always ``"frame"``."""
        return "frame"

    @property
    def hop(self) -> float:
        """10 ms."""
        return 0.01

    @property
    def columns(self) -> tuple[str, ...]:
        """:data:`IS10_COLUMNS`."""
        return IS10_COLUMNS

    @property
    def config(self) -> dict[str, Any]:
        """No options."""
        return {}

    def backend(self) -> dict[str, str]:
        """The version of openSMILE."""
        return {"opensmile": smile.version()}

    def _extract(self, signal: np.ndarray) -> np.ndarray:
        contours = smile.process("IS10", "LowLevelDescriptors", signal, self.rate)
        expected = (len(signal) - 960) // 160 + 1
        if len(contours) != expected:
            raise FeatureError(f"is10: openSMILE gave {len(contours)} frames instead of {expected}; run this again")
        return np.concatenate([contours, delta(contours)], axis=1)
