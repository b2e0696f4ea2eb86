"""Networks that other people have trained, from a folder or a hub: found, known by their content, loaded."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from graphophone.errors import MissingDependencyError
from graphophone.features.base import FeatureError
from graphophone.features.cache import content_hash, file_stamp

#: What a folder may hold that changes the numbers; its own notes (README, dates of training) do not.
_PARTS = (
    "config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "*.model",
)
_SAFE, _PICKLED = "model*.safetensors*", "pytorch_model*.bin*"
#: Weights that an encoder of features does without: masks of its own training, and a pooler nobody asked for.
_DISPENSABLE = ("masked_spec_embed", "pooler.")


def transformers() -> ModuleType:
    """The package.

    Raises:
        MissingDependencyError: If it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingDependencyError("transformers is not installed: pip install 'graphophone[transformers]'") from (
            error
        )
    return transformers


def locate(model: str | os.PathLike[str], revision: str | None = None) -> Path:
    """The folder with a network's configuration and weights.

    Args:
        model: A folder, or the name of a repository on the hub (``bert-base-uncased``, ``facebook/wav2vec2-base``).
            What the hub's cache on this machine has is taken from there; the rest is downloaded, once.
        revision: Branch, tag or commit on the hub; None for its main branch.

    Raises:
        FeatureError: If there is no such folder or repository, or it cannot be reached.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        _weights(folder)
        return folder
    name = os.fspath(model)
    if is_path(name):
        raise FeatureError(f"{name}: there is no such folder; give one that save_pretrained wrote, or a hub id")
    return _from_hub(name, revision)


def is_path(model: str) -> bool:
    """Whether a model was named as a place of this machine; else it is a repository of the hub, or a mere name."""
    place = Path(model).expanduser()
    return (
        model.startswith((".", "~")) or place.is_absolute() or model.count("/") > 1 or "\\" in model or place.exists()
    )


def _from_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        try:
            folder = Path(
                snapshot_download(name, revision=revision, allow_patterns=[*_PARTS, _SAFE], local_files_only=True)
            )
            _weights(folder)
        except (LocalEntryNotFoundError, FeatureError):
            published = HfApi().list_repo_files(name, revision=revision)
            # Only where nothing else is published; PyTorch reads it as bare tensors and runs nothing in it.
            weights = _SAFE if any(file.startswith("model") and "safetensors" in file for file in published) else None
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=[*_PARTS, weights or _PICKLED]))
            _weights(folder)
    except HFValidationError as error:
        raise FeatureError(f"{name}: neither a folder nor the name of a hub repository") from error
    except FeatureError:
        raise
    except Exception as error:  # of the hub, of the network, of requests: no common class over the versions
        reason = " ".join(str(error).split())[:150]
        raise FeatureError(
            f"{name}: not in the hub's cache here, and cannot be downloaded ({reason}); download it where there is a "
            "network and give the folder, or use the text encoder minilm, which needs no hub"
        ) from error
    return folder


def is_encoder(folder: Path) -> bool:
    """Whether a folder has a configuration and weights."""
    return (folder / "config.json").is_file() and any(next(folder.glob(p), None) for p in (_SAFE, _PICKLED))


def _weights(folder: Path) -> list[Path]:
    """The files of weights in a folder: safetensors where there are any."""
    if not (folder / "config.json").is_file():
        raise FeatureError(f"{folder}: has no config.json; give a folder that save_pretrained wrote, or a hub id")
    for pattern in (_SAFE, _PICKLED):
        files = sorted(folder.glob(pattern))
        if files:
            return files
    raise FeatureError(f"{folder}: has no model.safetensors; give a folder that save_pretrained wrote, or a hub id")


def companions(folder: Path) -> list[Path]:
    """What lies beside configuration and weights and the numbers depend on: tokeniser, preprocessing."""
    return [path for pattern in _PARTS[1:] for path in sorted(folder.glob(pattern))]


def digest(folder: Path) -> str:
    """Hash of everything in a folder that the numbers depend on; read once per process and state of the files."""
    files = [*_weights(folder), folder / "config.json", *companions(folder)]
    return _digest(tuple((str(path), *file_stamp(str(path))) for path in files))


@functools.lru_cache(maxsize=64)
def _digest(files: tuple[tuple[str, int, int], ...]) -> str:
    whole = hashlib.blake2b(digest_size=20)
    for path, _, _ in files:
        whole.update(f"{Path(path).name}\0{content_hash(path)}\n".encode())
    return whole.hexdigest()


def read_json(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """A JSON file of a folder; empty if there is none.

    Raises:
        FeatureError: If it is not one.
    """
    path = folder / name
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise FeatureError(f"{path}: damaged ({error}); fetch it again") from error
    if not isinstance(content, dict):
        raise FeatureError(f"{path}: holds a {type(content).__name__} instead of settings; fetch it again")
    return content


def width(folder: Path) -> int:
    """Numbers in a hidden state.

    Raises:
        FeatureError: If the configuration does not say.
    """
    settings = read_json(folder)
    for key in ("hidden_size", "dim", "d_model"):
        if isinstance(settings.get(key), int):
            return int(settings[key])
    raise FeatureError(f"{folder / 'config.json'}: has no hidden_size; give an encoder such as BERT or wav2vec 2.0")


@contextmanager
def silent() -> Iterator[None]:
    """The package's own bars and remarks are kept from the screen."""
    log = transformers().utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


def load_network(folder: Path, *, pooler: bool = False) -> Any:
    """An encoder in single precision and evaluation mode.

    Args:
        folder: From :func:`locate`.
        pooler: Whether the trained pooler is needed.

    Raises:
        FeatureError: If weights are missing or do not fit: what the package would fill with random numbers.
        MissingDependencyError: If transformers is not installed.
    """
    package = transformers()
    _weights(folder)
    try:
        with silent():
            network, report = package.AutoModel.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, output_loading_info=True
            )
    except Exception as error:  # what damaged folders and unknown kinds raise has no common class
        reason = " ".join(str(error).split())[:200]
        raise FeatureError(f"{folder}: cannot be loaded ({reason}); fetch it again") from error
    missing = _missing(report, pooler=pooler)
    if missing and missing[0].startswith("pooler."):
        raise FeatureError(f"{folder}: has no trained pooler; set pooling to mean or cls, or fine-tune it first")
    if missing:
        raise FeatureError(f"{folder}: has no weights for {missing[0]!r}; fetch it again, or give another model")
    if getattr(network.config, "is_encoder_decoder", False):
        raise FeatureError(f"{folder}: is a {network.config.model_type}; give an encoder such as BERT or wav2vec 2.0")
    return network.float().eval().requires_grad_(False)


def _missing(report: Mapping[str, Any], *, pooler: bool) -> list[str]:
    names = [name if isinstance(name, str) else name[0] for key in ("missing_keys", "mismatched_keys")
             for name in sorted(report[key], key=str)]  # fmt: skip
    allowed = _DISPENSABLE[:1] if pooler else _DISPENSABLE
    return [name for name in names if not name.startswith(allowed)]
