"""VGGish embeddings of a recording, for weights that the user brings."""

from __future__ import annotations

import functools
import importlib.metadata
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphophone.features.base import FeatureError, Level, WeightedExtractor, stable_hash
from graphophone.features.cache import content_hash
from graphophone.features.logmel128 import HOP, RATE, WINDOW, log_mel

if TYPE_CHECKING:
    from graphophone.features.vggish_network import VggishNetwork

VARIABLE = "GRAPHOPHONE_VGGISH"
"""Environment variable that names the file of weights."""

_FRAMES, _BANDS, _DIMS = 96, 64, 128
# Segments that go through the network at once: about 60 MB of pictures.
_BATCH = 16


class Vggish(WeightedExtractor):
    """Mean of the 128-dimensional VGGish embeddings of a recording's 0.96 s segments: one vector per recording.

    S. Hershey et al., "CNN architectures for large-scale audio classification", ICASSP 2017; what A. Shirian et al.
    (IEEE JSTSP 16(6), 2022) take for acoustic events. Segments of 96 frames (`log_mel`) follow each other without
    overlap; frames after the last whole segment are left out, and a recording shorter than one (15,600 samples at 16
    kHz) is padded with zeros. Embeddings are as the network gives them, before any activation, without principal
    components or quantisation.

    The weights are not part of this package. Convert a published file once::

        from graphophone.features.vggish_network import convert_vggish
        convert_vggish("vggish.pth")

    Without any, `logmel128` hears the same bands. A model that was saved holds the name of its file and the hash of its
    weights, no path: it takes the file that the environment variable ``GRAPHOPHONE_VGGISH`` names, or the one of that
    name (or of the default name) where ``convert_vggish`` writes, whichever has these weights.

    Cost: 1.7 GFLOP a segment, about 1/40 of real time on one core; each worker process holds 290 MB of weights.

    Args:
        weights: The file that ``convert_vggish`` wrote; None for the one that ``GRAPHOPHONE_VGGISH`` names, else the
            place where it writes by default.
        digest: Hash of this file, by which a saved model knows the weights it was trained with; empty takes any.

    Shapes:
        - **signal:** `[samples]`
        - **output:** `[128]`
    """

    name = "vggish"
    rate = RATE
    min_samples = (_FRAMES - 1) * HOP + WINDOW

    def __init__(self, *, weights: str | os.PathLike[str] | None = None, digest: str = "") -> None:
        super().__init__(digest)
        self._weights = None if weights is None else os.fspath(weights)

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
        """The name of the file, without its folder, and the hash of the weights.

        Raises:
            FeatureError: If neither is known and there are no weights.
        """
        return {"weights": self._weights and Path(self._weights).name, "digest": self.digest}

    @functools.cached_property
    def _found(self) -> tuple[Path, str]:
        """The file of weights, and its hash; read once."""
        from graphophone.features.vggish_network import default_weights

        named, default = os.environ.get(VARIABLE), default_weights()
        given = [] if self._weights is None else [Path(self._weights).expanduser()]
        beside = [default.with_name(path.name) for path in given]
        places = [*given, *([Path(named).expanduser()] if named else []), *beside, default]
        if not self._digest:  # the first one that is named is meant; a hash tells whether another has the same weights
            places = places[:1]
        files = {path: content_hash(str(path)) for path in dict.fromkeys(places) if path.is_file()}
        if not files:
            wanted = f" with the hash {self._digest[:12]}..." if self._digest else ""
            raise FeatureError(
                f"vggish: there are no weights{wanted} at {' or '.join(map(str, dict.fromkeys(places)))}; name them in "
                f"{VARIABLE}, convert the published ones with "
                "graphophone.features.vggish_network.convert_vggish(FILE), or use the extractor logmel128"
            )
        fitting = [(path, found) for path, found in files.items() if self._digest in ("", found)]
        if not fitting:
            raise FeatureError(
                f"vggish: {' and '.join(map(str, files))} holds other weights than those asked for (hash "
                f"{self._digest[:12]}...); name the file that the model was trained with in {VARIABLE}"
            )
        return fitting[0]

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

    def _extract(self, signal: np.ndarray) -> np.ndarray:
        import torch

        path, digest = self._found
        network = _network(str(path), digest)
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
