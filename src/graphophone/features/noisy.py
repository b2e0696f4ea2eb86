"""Features of recordings with noise added, to test what a model does with them."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np

from graphophone.audio import AudioError, mix_at_snr
from graphophone.features.base import Extractor, FeatureError
from graphophone.features.noises import Noise
from graphophone.features.wrapped import Wrapped
from graphophone.levels import active_power


class Noisy(Wrapped):
    """Another extractor's features of the signal with noise added.

    The noise of a recording is drawn from a generator seeded by the recording's samples, the name of the noise and
    ``seed``: it does not depend on the order of work or on the other recordings, every extractor of the same sampling
    rate hears the same mixture, and at another ratio it is the same noise, louder or softer. The recording keeps its
    level.

    Args:
        extractor: What is computed.
        noise: What is added.
        snr: Signal-to-noise ratio in dB: power of the signal while it is active
            (:func:`graphophone.levels.active_power`) over the mean power of the noise.
        seed: Another number draws other noise.

    Raises:
        FeatureError: If the ratio is no finite number.

    Shapes:
        - **signal:** `[samples]`
        - **output:** as ``extractor`` gives for `[samples]`
    """

    def __init__(self, extractor: Extractor, noise: Noise, snr: float, *, seed: int = 0) -> None:
        super().__init__(extractor)
        if not math.isfinite(snr):
            raise FeatureError(f"snr: expected a ratio in dB, 10 for example, got {snr}")
        self.noise = noise
        self.snr = float(snr)
        self.seed = int(seed)

    @property
    def name(self) -> str:  # type: ignore[override]
        """That of the extractor with the noise behind it."""
        return f"{self.extractor.name}-{self.noise.name}{self.snr:g}dB"

    @property
    def config(self) -> dict[str, Any]:
        """The extractor's fingerprint, the noise, the ratio and the seed."""
        return {
            "extractor": self.extractor.fingerprint,
            "noise": self.noise.config,
            "snr": self.snr,
            "seed": self.seed,
        }

    def mix(self, signal: np.ndarray) -> np.ndarray:
        """The signal `[samples]` float32, at the extractor's rate, with its noise.

        Raises:
            FeatureError: If signal or noise is silent, so that there is no ratio.
        """
        content = np.ascontiguousarray(signal, dtype="<f4")
        digest = hashlib.blake2b(content.tobytes(), digest_size=16, key=self.noise.name.encode()[:64]).digest()
        rng = np.random.default_rng([self.seed % 2**32, *np.frombuffer(digest, dtype="<u4").tolist()])
        noise = self.noise.samples(len(signal), self.rate, rng)
        try:
            return mix_at_snr(signal, noise, self.snr, power=active_power(signal, self.rate))
        except AudioError as error:
            what = "the recording is" if error.path == "<signal>" else f"this part of {self.noise.name} is"
            raise FeatureError(f"{what} silent, so no signal-to-noise ratio exists; leave it out") from None

    def _extract(self, signal: np.ndarray) -> np.ndarray:
        return self.extractor(self.mix(signal), self.rate)
