"""Features of recordings played faster or slower, for training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import soxr

from graphophone.features.base import Extractor, FeatureError
from graphophone.features.wrapped import Wrapped


class SpeedPerturbed(Wrapped):
    """Another extractor's features of the signal played at another speed, which shifts tempo and pitch together.

    Speed perturbation is a strong augmentation for small corpora (Ko et al., Audio augmentation for speech
    recognition, 2015): voices that are a little lower or higher than any in the corpus. It acts on the signal, so it
    costs one more pass of the extractor, whose result the cache keeps like any other.

    Args:
        extractor: What is computed.
        speed: 1.1 plays the signal in 1/1.1 of its time, with every frequency 1.1 times as high.

    Shapes:
        - **signal:** `[samples]`
        - **output:** as ``extractor`` gives for `[samples / speed]`
    """

    def __init__(self, extractor: Extractor, speed: float) -> None:
        if not 0.5 <= speed <= 2:
            raise FeatureError(f"speed: expected a factor from 0.5 to 2, got {speed}")
        super().__init__(extractor)
        self.speed = float(speed)
        self.min_samples = extractor.min_samples

    @property
    def name(self) -> str:  # type: ignore[override]
        """That of the extractor with the speed behind it."""
        return f"{self.extractor.name}-speed{self.speed:g}"

    @property
    def config(self) -> dict[str, Any]:
        """The extractor's fingerprint and the speed."""
        return {"extractor": self.extractor.fingerprint, "speed": self.speed}

    def backend(self) -> Mapping[str, str]:
        """The extractor's, and soxr's version."""
        return {**self.extractor.backend(), "soxr": soxr.__version__}

    def _extract(self, signal: np.ndarray) -> np.ndarray:
        played = soxr.resample(signal, self.rate * self.speed, self.rate)
        return self.extractor(played.astype(np.float32, copy=False), self.rate)
