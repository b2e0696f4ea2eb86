"""What extractors that rest on a pretrained network have in common: its folder, its digest, its width."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
from pathlib import Path
from typing import Any

import platformdirs

from graphophone.features import pretrained
from graphophone.features.base import FeatureError, WeightedExtractor, stable_hash
from graphophone.files import write_text

VARIABLE = "GRAPHOPHONE_ENCODERS"
"""Environment variable with folders of encoders, or folders that hold such folders, separated as in ``PATH``."""


class Encoder(WeightedExtractor):
    """An extractor that rests on a frozen network from a folder or a hub. Subclasses name their :attr:`options`.

    A model that was saved holds the name of its encoder's folder and the hash of its weights, no path. It takes the
    folder with these weights that this machine last used, or one that the environment variable
    ``GRAPHOPHONE_ENCODERS`` leads to.

    Args:
        model: A folder that ``save_pretrained`` wrote, or the name of a hub repository.
        revision: Branch, tag or commit of that repository; None for its main branch.
        digest: Hash of the weights, by which a saved model knows those it was trained with; empty takes any.
    """

    def __init__(self, model: str | os.PathLike[str], revision: str | None, digest: str) -> None:
        self._model = os.fspath(model)
        super().__init__(digest)
        self._revision = revision

    @property
    def options(self) -> dict[str, Any]:
        """The constructor's arguments on which the numbers depend, but for the weights."""
        raise NotImplementedError

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments, with the digest of the weights; of a folder its name only.

        Raises:
            FeatureError: If no digest is known and there are no weights.
        """
        model = Path(self._model).name if pretrained.is_path(self._model) else self._model
        return {"model": model, "revision": self._revision, **self.options, "digest": self.digest}

    @property
    def columns(self) -> tuple[str, ...]:
        """``text_encoder[0]``, ..., with the name of the extractor."""
        return tuple(f"{self.name}[{i}]" for i in range(self.dims))

    @functools.cached_property
    def dims(self) -> int:
        """Numbers in a vector: the width of the hidden states."""
        return pretrained.width(self.folder)

    @property
    def folder(self) -> Path:
        """Where configuration and weights lie; downloaded first where need be.

        Raises:
            FeatureError: If they cannot be found.
        """
        return self._found[0]

    def _locate(self) -> Path:
        """The folder that the model was named by."""
        return pretrained.locate(self._model, self._revision)

    @functools.cached_property
    def _found(self) -> tuple[Path, str]:
        """The folder, and its digest."""
        if not self._digest:
            folder = self._locate()
            found = pretrained.digest(folder)
            if pretrained.is_path(self._model):
                _remember(folder, found)
            return folder, found
        others = []
        for folder in self._places():
            found = pretrained.digest(folder)
            if found == self._digest:
                return folder, found
            others.append(str(folder))
        try:
            folder = self._locate()
        except FeatureError as error:
            if not others:
                raise FeatureError(
                    f"{self.name}: no encoder {self._model!r} with the hash {self._digest[:12]}... is known here; name "
                    f"its folder in {VARIABLE} ({error})"
                ) from error
        else:
            found = pretrained.digest(folder)
            if found == self._digest:
                return folder, found
            others.append(str(folder))
        raise FeatureError(
            f"{self.name}: {' and '.join(dict.fromkeys(others))} holds other weights than those asked for (hash "
            f"{self._digest[:12]}...); name the folder that the model was trained with in {VARIABLE}"
        )

    def _places(self) -> list[Path]:
        """Folders on this machine that may be the one asked for."""
        name = Path(self._model).name
        places = [Path(self._model).expanduser()]
        for word in os.environ.get(VARIABLE, "").split(os.pathsep):
            if word:
                places += [Path(word).expanduser(), Path(word).expanduser() / name]
        note = _notes() / self._digest
        if note.is_file():
            places.append(Path(note.read_text("utf-8")))
        return [place for place in dict.fromkeys(places) if pretrained.is_encoder(place)]

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


def _notes() -> Path:
    """Where this machine notes which folder had which weights."""
    base = os.environ.get("GRAPHOPHONE_CACHE") or platformdirs.user_cache_dir("graphophone")
    return Path(base) / "encoders"


def _remember(folder: Path, digest: str) -> None:
    """Note where weights are; without a place to write, saved models ask for their folder."""
    with contextlib.suppress(OSError):
        note = _notes() / digest
        if not note.is_file() or note.read_text("utf-8") != str(folder.absolute()):
            note.parent.mkdir(parents=True, exist_ok=True)
            write_text(note, str(folder.absolute()))
