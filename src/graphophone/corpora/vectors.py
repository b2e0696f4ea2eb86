"""Files of ready vectors: an array of each modality, a row for each row of a table."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from graphophone.corpora.base import CorpusError
from graphophone.modalities import MODALITIES
from graphophone.registry import did_you_mean

SUFFIXES = (".safetensors", ".npz")


def choose_modalities(corpus: str, given: Sequence[str] | str) -> tuple[str, ...]:
    """Modalities named by an option, in the usual order.

    Raises:
        CorpusError: If one is unknown, or there is none.
    """
    names = [name.strip() for name in (given.split(",") if isinstance(given, str) else given)]
    for name in names:
        if name not in MODALITIES:
            hint = did_you_mean(name, MODALITIES)
            raise CorpusError(f"corpus {corpus!r}: unknown modality {name!r}.{hint} Use {', '.join(MODALITIES)}")
    if not names:
        raise CorpusError(f"corpus {corpus!r}: modalities is empty; name one or more of {', '.join(MODALITIES)}")
    return tuple(name for name in MODALITIES if name in names)


def read_vectors(path: Path, length: int, wanted: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Vectors of the rows of a table, by modality in the usual order, float32 ``[rows, dims]``.

    Args:
        path: A safetensors or .npz file with arrays named after modalities; others in it are passed over.
        length: Rows of the table.
        wanted: Modalities to take; by default all that are there.

    Returns:
        An array for each modality, with NaN in a whole row where an item lacks it.

    Raises:
        CorpusError: If the file is damaged, an array is missing, or is not as many rows of numbers.
    """
    arrays = _read_arrays(path, wanted)
    return {name: _checked(path, name, array, length) for name, array in arrays.items()}


def _read_arrays(path: Path, wanted: Sequence[str] | None) -> dict[str, np.ndarray]:
    """The arrays of a file that are wanted, as they are."""
    try:
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in _present(path, list(archive), wanted)}
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in _present(path, list(file.keys()), wanted)}
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, SafetensorError) as error:
        raise CorpusError(f"{path}: damaged ({' '.join(str(error).split())}); make it anew") from error


def _present(path: Path, names: Sequence[str], wanted: Sequence[str] | None) -> list[str]:
    """Which arrays of a file to read.

    Raises:
        CorpusError: If one that is wanted, or any that is a modality's, is not among them.
    """
    chosen = [name for name in MODALITIES if name in (names if wanted is None else wanted)]
    missing = [name for name in chosen if name not in names]
    held = ", ".join(names) or "none"
    if missing:
        raise CorpusError(f"{path}: no array {missing[0]!r}; it holds {held}")
    if not chosen:
        raise CorpusError(f"{path}: no array named {', '.join(MODALITIES)}; it holds {held}")
    return chosen


def _checked(path: Path, name: str, array: np.ndarray, length: int) -> np.ndarray:
    """An array as float32 ``[length, dims]``, finite or NaN in a whole row."""
    if array.ndim != 2 or len(array) != length or not array.shape[1] or array.dtype.kind not in "fiu":
        raise CorpusError(
            f"{path}: {name} is {array.dtype} {list(array.shape)}, not numbers for each of the {length} rows of the "
            "table; use files that belong together"
        )
    array = array.astype(np.float32, copy=False)
    finite = np.isfinite(array).all(axis=1)
    bad = np.flatnonzero(~finite & ~np.isnan(array).all(axis=1))
    if len(bad):
        raise CorpusError(
            f"{path}: {name} of row {bad[0]} (from 0) is not finite; make it anew, or all of the row NaN if the item "
            f"has no {name}"
        )
    if not finite.any():
        raise CorpusError(f"{path}: no item has {name}; leave the array out, or out of modalities")
    return array
