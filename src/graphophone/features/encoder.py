"""What extractors that rest on a pretrained network have in common: its folder, its digest, its width."""

from __future__ import annotations

import functools
import importlib.metadata
import os
from pathlib import Path
from typing import Any

from graphophone.features import pretrained
from graphophone.features.base import Extractor, FeatureError, stable_hash


class Encoder(Extractor):
    """An extractor that rests on a frozen network from a folder or a hub. Subclasses name their :attr:`options`.

    Args:
        model: A folder that ``save_pretrained`` wrote, or the name of a hub repository.
        revision: Branch, tag or commit of that repository; None for its main branch.
        digest: Hash of the weights, by which a saved model knows those it was trained with; empty takes any.
    """

    def __init__(self, model: str | os.PathLike[str], revision: str | None, digest: str) -> None:
        self._model = os.fspath(model)
        self._revision = revision
        self._digest = digest

    @property
    def options(self) -> dict[str, Any]:
        """The constructor's arguments on which the numbers depend, but for the weights."""
        raise NotImplementedError

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments, with the digest of the weights.

        Raises:
            FeatureError: If there are no weights.
        """
        return {"model": self._model, "revision": self._revision, **self.options, "digest": self.digest}

    @property
    def columns(self) -> tuple[str, ...]:
        """``text_encoder[0]``, ..., with the name of the extractor."""
        return tuple(f"{self.name}[{i}]" for i in range(self.dims))

    @functools.cached_property
    def dims(self) -> int:
        """Numbers in a vector: the width of the hidden states."""
        return pretrained.width(self.folder)

    @functools.cached_property
    def folder(self) -> Path:
        """Where configuration and weights lie; downloaded first where need be.

        Raises:
            FeatureError: If they cannot be found.
        """
        return pretrained.locate(self._model, self._revision)

    @functools.cached_property
    def digest(self) -> str:
        """Hash of configuration, tokeniser or preprocessing, and weights.

        Raises:
            FeatureError: If it is not the one asked for.
        """
        found = pretrained.digest(self.folder)
        if self._digest and found != self._digest:
            raise FeatureError(
                f"{self.name}: {self.folder} holds other weights than those asked for (hash {self._digest[:12]}...); "
                "give the model that was trained with, or leave digest empty"
            )
        return found

    def backend(self) -> dict[str, str]:
        """The versions of PyTorch and transformers, and the weights."""
        pretrained.transformers()
        versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers")}
        return {**versions, "weights": self.digest}

    @functools.cached_property
    def fingerprint(self) -> str:
        """As every extractor's, but of what the weights are and not of where they lie."""
        return stable_hash(
            {"name": self.name, "version": self.version, "config": self.options, "backend": self.backend()}
        )

    def __repr__(self) -> str:
        options = ", ".join(f"{key}={value!r}" for key, value in self.options.items())
        return f"{type(self).__name__}(model={self._model!r}, {options})"
