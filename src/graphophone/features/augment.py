"""Random changes to the frames of a training utterance, made anew in every epoch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class FrameAugmentation:
    """Crops, stretches, masks and noise on standardised frames ``[frames, dims]``; everything is off by default.

    Standardised frames have zero mean, so a masked value is the mean of the training data. The order is: crop,
    stretch, gain, noise, masks. Masks follow SpecAugment (Park et al., 2019, https://arxiv.org/abs/1904.08779), with
    whole descriptors in place of bands of a spectrogram. Cost: O(frames x dims), no loop over frames.

    Args:
        probability: Chance that an utterance is changed at all.
        crop: Smallest share of the frames that a random crop keeps, in (0, 1]; 1 keeps all.
        stretch: Largest relative change of tempo, in [0, 1): 0.2 draws a factor between 1/1.2 and 1.2, by linear
            interpolation between frames.
        gain: Standard deviation of a factor ``exp(N(0, gain))`` per descriptor.
        shift: Standard deviation of an offset per descriptor.
        noise: Standard deviation of white noise on every value.
        time_masks: Number of masked spans of frames.
        time_mask_share: Longest span, as a share of the frames.
        descriptor_mask: Share of the descriptors that are masked, drawn per utterance between 0 and this.
    """

    probability: float = 1.0
    crop: float = 1.0
    stretch: float = 0.0
    gain: float = 0.0
    shift: float = 0.0
    noise: float = 0.0
    time_masks: int = 0
    time_mask_share: float = 0.1
    descriptor_mask: float = 0.0

    def __post_init__(self) -> None:
        for name in ("probability", "time_mask_share", "descriptor_mask"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augment.{name} must lie in [0, 1], not {getattr(self, name)}")
        if not 0 < self.crop <= 1:
            raise ValueError(f"augment.crop must lie in (0, 1], not {self.crop}")
        if not 0 <= self.stretch < 1:
            raise ValueError(f"augment.stretch must lie in [0, 1), not {self.stretch}")
        for name in ("gain", "shift", "noise", "time_masks"):
            if getattr(self, name) < 0:
                raise ValueError(f"augment.{name} must not be negative, not {getattr(self, name)}")

    @property
    def active(self) -> bool:
        """Whether anything would change."""
        return self.probability > 0 and (
            self.crop < 1
            or max(self.stretch, self.gain, self.shift, self.noise, self.descriptor_mask) > 0
            or self.time_masks > 0
        )

    def __call__(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Changed copy ``[frames', dims]`` (float32) of ``frames`` ``[frames, dims]``; at least one frame remains."""
        frames = np.array(frames, dtype=np.float32)
        if rng.random() >= self.probability:
            return frames
        if self.crop < 1:
            kept = max(1, round(len(frames) * rng.uniform(self.crop, 1.0)))
            start = rng.integers(len(frames) - kept + 1)
            frames = frames[start : start + kept]
        if self.stretch > 0:
            factor = (1 + self.stretch) ** rng.uniform(-1, 1)
            position = np.linspace(0, len(frames) - 1, max(1, round(len(frames) * factor)), dtype=np.float32)
            left = np.minimum(position.astype(np.int64), max(len(frames) - 2, 0))
            right = np.minimum(left + 1, len(frames) - 1)
            share = (position - left.astype(np.float32))[:, None]
            frames = frames[left] * (1 - share) + frames[right] * share
        dims = frames.shape[1]
        if self.gain > 0:
            frames *= np.exp(rng.normal(0, self.gain, dims)).astype(np.float32)
        if self.shift > 0:
            frames += rng.normal(0, self.shift, dims).astype(np.float32)
        if self.noise > 0:
            frames += rng.standard_normal(frames.shape, dtype=np.float32) * np.float32(self.noise)
        if self.time_masks > 0:
            longest = self.time_mask_share * len(frames)
            length = rng.uniform(0, longest, self.time_masks)
            start = rng.uniform(0, np.maximum(len(frames) - length, 0))
            at = np.arange(len(frames))[:, None]
            frames[((at >= start) & (at < start + length)).any(axis=1)] = 0
        if self.descriptor_mask > 0:
            share = rng.uniform(0, self.descriptor_mask)
            frames[:, rng.random(dims) < share] = 0
        return frames
