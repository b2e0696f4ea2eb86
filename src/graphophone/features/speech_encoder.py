"""Vectors and frames of a pretrained speech encoder: wav2vec 2.0, HuBERT, WavLM."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np

from graphophone.features import pretrained
from graphophone.features.base import FeatureError, Level
from graphophone.features.encoder import Encoder

_RATE = 16000
# Pieces of a recording that go through the network together.
_BATCH = 16
# Added to the variance before division, as the package's own preprocessing does.
_EPSILON = 1e-7


class SpeechEncoder(Encoder):
    """Vectors of wav2vec 2.0, HuBERT, WavLM and their like, from a folder or a hub.

    Weights are frozen. A recording goes through the network whole and by itself, in the worker process that reads it:
    nothing is padded, since the group norm of these networks' base sizes would take padding for sound. The signal is
    brought to mean 0 and variance 1 first where the network was trained so (its ``preprocessor_config.json`` says).

    A folder that ``graphophone finetune`` wrote is taken as any other.

    Cost: the attention of a long recording grows with the square of its length; ``chunks`` bounds it. Each worker
    process holds the weights (380 MB of wav2vec 2.0's base size).

    Args:
        model: A folder that ``save_pretrained`` wrote, or the name of a hub repository.
        revision: Branch, tag or commit of that repository; None for its main branch.
        chunks: Seconds of the pieces that are encoded each by itself, the last as long as it is; the vector is their
            mean, weighted by their lengths. 1.0 is how Nguyen et al. (AEEE 24(2), 2026, doi
            10.15598/aece.v24i2.250415) word it; None, their released code: the whole recording at once.
        sequence: Give the last state of every frame (50 a second) in place of their mean.
        digest: Hash of the weights, by which a saved model knows those it was trained with; empty takes any.

    Raises:
        FeatureError: If ``chunks`` is too short.

    Shapes:
        - **signal:** `[samples]`
        - **output:** `[dims]`, with ``sequence`` `[frames, dims]`; 768 dims at the base size
    """

    name = "speech_encoder"
    rate = _RATE
    min_samples = 400  # what one frame sees

    def __init__(
        self,
        *,
        model: str | os.PathLike[str] = "facebook/wav2vec2-base",
        revision: str | None = None,
        chunks: float | None = None,
        sequence: bool = False,
        digest: str = "",
    ) -> None:
        if chunks is not None and not chunks >= 0.1:
            raise FeatureError(f"chunks: expected at least 0.1 seconds, or none for the whole recording, got {chunks}")
        super().__init__(model, revision, digest)
        self._chunks = chunks
        self._sequence = sequence

    @property
    def level(self) -> Level:
        """``"frame"`` with ``sequence``, else ``"utterance"``."""
        return "frame" if self._sequence else "utterance"

    @property
    def hop(self) -> float | None:
        """Seconds between frames with ``sequence``, 0.02 of all published ones; else None."""
        return int(np.prod(self._strides)) / _RATE if self._sequence else None

    @property
    def options(self) -> dict[str, Any]:
        """Length of the pieces, and whether there is a row per frame."""
        return {"chunks": self._chunks, "sequence": self._sequence}

    @functools.cached_property
    def _strides(self) -> tuple[int, ...]:
        """Of the convolutions."""
        return _convolutions(self.folder)[1]

    @functools.cached_property
    def _field(self) -> int:
        """Samples that one frame sees."""
        return receptive_field(self.folder)

    def _extract(self, signal: np.ndarray) -> np.ndarray:
        import torch

        network = _loaded(str(self.folder), self.digest)
        normalise = normalises(self.folder)
        pieces = self._pieces(signal)
        if normalise:
            pieces = [standardise(piece) for piece in pieces]
        states: list[np.ndarray] = []
        # They are of equal length but for the last, which goes by itself: nothing is padded.
        batches = [pieces[:-1][i : i + _BATCH] for i in range(0, len(pieces) - 1, _BATCH)]
        with torch.inference_mode():
            for batch in [*batches, pieces[-1:]]:
                states += list(network(torch.from_numpy(np.stack(batch))).last_hidden_state.numpy())
        if self._sequence:
            return np.concatenate(states)
        means = np.stack([frames.mean(axis=0, dtype=np.float64) for frames in states])
        return np.average(means, axis=0, weights=[len(piece) for piece in pieces])

    def _pieces(self, signal: np.ndarray) -> list[np.ndarray]:
        """The recording in pieces, in order; a rest too short for a frame is left out."""
        if len(signal) < self._field:
            signal = np.pad(signal, (0, self._field - len(signal)))
        if self._chunks is None:
            return [signal]
        size = max(round(self._chunks * _RATE), self._field)
        pieces = [signal[begin : begin + size] for begin in range(0, len(signal), size)]
        return pieces[:-1] if len(pieces) > 1 and len(pieces[-1]) < self._field else pieces


def standardise(signal: np.ndarray) -> np.ndarray:
    """Mean 0 and variance 1 of `[samples]`, float32; silence stays silent."""
    signal = signal.astype(np.float64)
    return ((signal - signal.mean()) / np.sqrt(signal.var() + _EPSILON)).astype(np.float32)


def normalises(folder: Path) -> bool:
    """Whether a network was trained on signals of mean 0 and variance 1.

    Raises:
        FeatureError: If it was trained at another rate than 16 kHz.
    """
    settings = pretrained.read_json(folder, "preprocessor_config.json")
    rate = settings.get("sampling_rate", _RATE)
    if rate != _RATE:
        raise FeatureError(f"{folder}: reads sound at {rate} Hz; give an encoder of 16,000 Hz")
    return bool(settings.get("do_normalize", True))


def receptive_field(folder: Path) -> int:
    """Samples that the first frame sees: the shortest signal that has one."""
    kernels, strides = _convolutions(folder)
    samples = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        samples = (samples - 1) * stride + kernel
    return samples


def _convolutions(folder: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Kernels and strides of the convolutions that turn samples into frames.

    Raises:
        FeatureError: If the network has none.
    """
    settings = pretrained.read_json(folder)
    kernels, strides = settings.get("conv_kernel"), settings.get("conv_stride")
    if not (isinstance(kernels, list) and isinstance(strides, list) and len(kernels) == len(strides) > 0):
        raise FeatureError(
            f"{folder}: is a {settings.get('model_type', 'network')} without convolutions over sound; give wav2vec "
            "2.0, HuBERT or WavLM"
        )
    return tuple(map(int, kernels)), tuple(map(int, strides))


@functools.lru_cache(maxsize=2)
def _loaded(folder: str, digest: str) -> Any:
    """One network per process, kept; ``digest`` tells files that were replaced from those before."""
    return pretrained.load_network(Path(folder))
