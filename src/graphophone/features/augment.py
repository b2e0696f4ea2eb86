"""Random changes to a training utterance, made anew in every epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np


@dataclass(frozen=True)
class NoAugmentation:
    """Nothing is changed: for networks whose nodes are whole recordings, which spoil them as a task of their own."""

    speeds: ClassVar[tuple[float, ...]] = ()
    active: ClassVar[bool] = False


@dataclass(frozen=True)
class FrameAugmentation:
    """Speed, crop, tempo, gain, noise and masks of a training utterance; everything is off by default.

    Some of it needs the signal (speed: one more pass of the extractor per speed, kept by the cache), some the frames
    before decimation (crop, tempo, phase), the rest acts on standardised frames ``[frames, dims]``, whose mean over
    the training data is zero, so that a masked value is that mean. Masks follow SpecAugment (Park et al., 2019,
    https://arxiv.org/abs/1904.08779), with whole descriptors in place of bands of a spectrogram. Cost:
    O(frames x dims), no loop over frames.

    Args:
        speeds: The recordings are also played at these speeds, such as (0.9, 1.1), which shifts tempo and pitch.
        speed_probability: Chance that an utterance is one of these in place of the original.
        crop: Smallest share of the frames that a random crop keeps, in (0, 1]; 1 keeps all.
        tempo: The frames that become one vary by a factor ``exp(U(-tempo, tempo))``.
        phase: The first of them begins at a random frame, in place of the first.
        gain: Standard deviation of a factor ``exp(N(0, gain))`` per descriptor.
        shift: Standard deviation of an offset per descriptor.
        noise: Standard deviation of white noise on every value.
        time_masks: Number of masked spans of frames.
        time_mask_share: Longest span, as a share of the frames.
        descriptor_mask: Share of the descriptors that are masked, drawn per utterance between 0 and this.
    """

    speeds: tuple[float, ...] = ()
    speed_probability: float = 0.67
    crop: float = 1.0
    tempo: float = 0.0
    phase: bool = False
    gain: float = 0.0
    shift: float = 0.0
    noise: float = 0.0
    time_masks: int = 0
    time_mask_share: float = 0.1
    descriptor_mask: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "speeds", tuple(self.speeds))
        for speed in self.speeds:
            if not 0.5 <= speed <= 2 or speed == 1:
                raise ValueError(f"augment.speeds must lie between 0.5 and 2 and not be 1, not {speed}")
        for name in ("speed_probability", "time_mask_share", "descriptor_mask"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augment.{name} must lie in [0, 1], not {getattr(self, name)}")
        if not 0 < self.crop <= 1:
            raise ValueError(f"augment.crop must lie in (0, 1], not {self.crop}")
        if not 0 <= self.tempo <= 0.5:
            raise ValueError(f"augment.tempo must lie in [0, 0.5], not {self.tempo}")
        for name in ("gain", "shift", "noise", "time_masks"):
            if getattr(self, name) < 0:
                raise ValueError(f"augment.{name} must not be negative, not {getattr(self, name)}")

    @property
    def active(self) -> bool:
        """Whether anything would change."""
        return (
            bool(self.speeds)
            or self.crop < 1
            or self.phase
            or max(self.tempo, self.gain, self.shift, self.noise, self.descriptor_mask) > 0
            or self.time_masks > 0
        )

    def draw_speed(self, rng: np.random.Generator) -> int:
        """Which recording: 0 is the original, ``i`` the one at ``speeds[i - 1]``."""
        if not self.speeds or rng.random() >= self.speed_probability:
            return 0
        return 1 + int(rng.integers(len(self.speeds)))

    def draw_crop(self, frames: int, rng: np.random.Generator) -> slice:
        """Which of a number of frames are kept; at least one."""
        if self.crop == 1:
            return slice(0, frames)
        kept = max(1, round(frames * rng.uniform(self.crop, 1.0)))
        start = int(rng.integers(frames - kept + 1))
        return slice(start, start + kept)

    def draw_window(self, decimate: int, rng: np.random.Generator) -> tuple[float, float]:
        """How many frames become one, and how many frames are before the first of them."""
        window = decimate * float(np.exp(rng.uniform(-self.tempo, self.tempo)))
        return window, float(rng.uniform(0, decimate)) if self.phase else 0.0

    def __call__(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Changed copy (float32) of standardised ``frames`` ``[frames, dims]``, of the same shape."""
        frames = np.array(frames, dtype=np.float32)
        count, dims = frames.shape
        if self.gain > 0:
            frames *= np.exp(rng.normal(0, self.gain, (1, dims)), dtype=np.float32)
        if self.shift > 0:
            frames += rng.normal(0, self.shift, (1, dims)).astype(np.float32)
        if self.noise > 0:
            frames += rng.standard_normal(frames.shape, dtype=np.float32) * np.float32(self.noise)
        if self.time_masks > 0:
            length = rng.uniform(0, self.time_mask_share * count, self.time_masks)
            start = rng.uniform(0, count - length)
            at = np.arange(count)[:, None]
            frames[((at >= start) & (at < start + length)).any(axis=1)] = 0
        if self.descriptor_mask > 0:
            share = rng.uniform(0, self.descriptor_mask)
            frames[:, rng.random(dims) < share] = 0
        return frames
