"""Mean, deviation and lengths of a corpus' spectrograms: the constants that audio models are standardised with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphophone.features.base import FeatureError
from graphophone.features.pipeline import FeatureSet
from graphophone.features.standardize import Standardizer

_GRID = 32
"""Spectrogram networks halve the time axis up to five times."""


@dataclass(frozen=True)
class Constants:
    """Mean, deviation and lengths of the spectrograms of a corpus.

    Attributes:
        mean: Mean over all frames and columns, without padding.
        std: Their standard deviation (over the population).
        clips: Number of clips.
        frames: Number of frames of all of them.
        shortest: Frames of the shortest clip.
        median: Frames of the middle one.
        longest: Frames of the longest.
        suggested: A number of frames for networks that read all clips at one size: 95 of 100 clips fit in whole,
            rounded up to a multiple of 32, as published for clips of 5 s (512) and 10 s (1024).
        whole: Share of the clips that fit in whole.
    """

    mean: float
    std: float
    clips: int
    frames: int
    shortest: int
    median: int
    longest: int
    suggested: int
    whole: float


def measure(features: FeatureSet, rows: Sequence[int] | np.ndarray | None = None) -> Constants:
    """Measure the constants of a corpus in one pass, with one clip in memory.

    Args:
        features: Features of the corpus; metadata columns are left out, padding is not counted.
        rows: Which items, such as those of the training part; None takes all.

    Raises:
        FeatureError: If there are no items.
    """
    chosen = np.arange(len(features)) if rows is None else np.asarray(rows)
    if len(chosen) == 0:
        raise FeatureError("there is no clip to measure; give a corpus with training items")
    pipeline = features.pipeline
    fitted = Standardizer.fit((features.unpadded(int(i))[:, : pipeline.acoustic_dims] for i in chosen), pooled=True)
    lengths = features.unpadded_lengths[chosen]
    enough = int(np.quantile(lengths, 0.95, method="inverted_cdf"))
    suggested = -(-enough // _GRID) * _GRID
    return Constants(
        mean=float(fitted.mean[0]),
        std=float(fitted.std[0]),
        clips=len(chosen),
        frames=int(lengths.sum()),
        shortest=int(lengths.min()),
        median=int(np.median(lengths)),
        longest=int(lengths.max()),
        suggested=suggested,
        whole=float((lengths <= suggested).mean()),
    )
