"""VGGish embeddings of a recording, for weights that the user brings."""

from __future__ import annotations

import functools
import importlib.metadata
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphophone.features.base import Extractor, FeatureError, Level, stable_hash
from graphophone.features.cache import content_hash
from graphophone.features.logmel128 import HOP, RATE, WINDOW, log_mel

if TYPE_CHECKING:
    from graphophone.features.vggish_network import VggishNetwork

_FRAMES, _BANDS, _DIMS = 96, 64, 128
# Segments that go through the network at once: about 60 MB of pictures.
_BATCH = 16


class Vggish(Extractor):
    """Mean of the 128-dimensional VGGish embeddings of a recording's 0.96 s segments: one vector per recording.

    S. Hershey et al., "CNN architectures for large-scale audio classification", ICASSP 2017; what A. Shirian et al.
    (IEEE JSTSP 16(6), 2022) take for acoustic events. Segments of 96 frames (`log_mel`) follow each other without
    overlap; frames after the last whole segment are left out, and a recording shorter than one (15,600 samples at 16
    kHz) is padded with zeros. Embeddings are as the network gives them, before any activation, without principal
    components or quantisation.

    The weights are not part of this package. Convert a published file once::

        from graphophone.features.vggish_network import convert_vggish
        convert_vggish("vggish.pth")

    Without any, `logmel128` hears the same bands.

    Cost: 1.7 GFLOP a segment, about 1/40 of real time on one core; each worker process holds 290 MB of weights.

    Args:
        weights: The file that ``convert_vggish`` wrote; None for the place where it writes by default.
        digest: Hash of this file, by which a saved model knows the weights it was trained with; empty takes any.

    Shapes:
        - **signal:** `[samples]`
        - **output:** `[128]`
    """

    name = "vggish"
    rate = RATE
    min_samples = (_FRAMES - 1) * HOP + WINDOW

    def __init__(self, *, weights: str | os.PathLike[str] | None = None, digest: str = "") -> None:
        self._weights = None if weights is None else os.fspath(weights)
        self._digest = digest

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
        """``vggish[0]``, ``vggish[1]``, ..."""
        return tuple(f"vggish[{i}]" for i in range(_DIMS))

    @property
    def config(self) -> dict[str, Any]:
        """The file as it was named, and the hash of the weights.

        Raises:
            FeatureError: If there are no weights.
        """
        return {"weights": self._weights, "digest": self.digest}

    @functools.cached_property
    def digest(self) -> str:
        """Hash of the file of weights; read once.

        Raises:
            FeatureError: If there is none, or it is not the one asked for.
        """
        path = self._path()
        found = content_hash(str(path))
        if self._digest and found != self._digest:
            raise FeatureError(
                f"vggish: {path} holds other weights than those asked for (hash {self._digest[:12]}...); give the "
                "file that the model was trained with"
            )
        return found

    @functools.cached_property
    def fingerprint(self) -> str:
        """As every extractor's, but of what the weights are and not of where they lie."""
        return stable_hash(
            {"name": self.name, "version": self.version, "rate": self.rate, "backend": dict(self.backend())}
        )

    def backend(self) -> dict[str, str]:
        """The version of PyTorch, and the weights."""
        return {"torch": importlib.metadata.version("torch"), "weights": self.digest}

    def __repr__(self) -> str:
        return f"Vggish(weights={self._weights!r})"

    def _path(self) -> Path:
        from graphophone.features.vggish_network import default_weights

        path = default_weights() if self._weights is None else Path(self._weights).expanduser()
        if not path.is_file():
            raise FeatureError(
                f"vggish: there are no weights at {path}; convert the published ones with "
                "graphophone.features.vggish_network.convert_vggish(FILE), or use the extractor logmel128"
            )
        return path

    def _extract(self, signal: np.ndarray) -> np.ndarray:
        import torch

        network = _network(str(self._path()), self.digest)
        bands = log_mel(signal)
        count = len(bands) // _FRAMES
        segments = torch.from_numpy(bands[: count * _FRAMES].reshape(count, _FRAMES, _BANDS))
        total = np.zeros(_DIMS)
        with torch.inference_mode():
            for batch in segments.split(_BATCH):
                total += network(batch).numpy().sum(axis=0, dtype=np.float64)
        return total / count


@functools.lru_cache(maxsize=1)
def _network(path: str, digest: str) -> VggishNetwork:
    """One network per process; ``digest`` tells a file that was replaced from the one before."""
    from graphophone.features.vggish_network import load_vggish

    return load_vggish(path)
