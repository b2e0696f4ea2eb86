"""What the corpora of clips cut out of longer recordings have in common: a table, a listing, sources."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from graphophone.audio import AUDIO_SUFFIXES
from graphophone.corpora.base import CorpusError, Problem
from graphophone.corpora.table import read_table

_PREFERRED = (".wav", ".flac")  # among copies of one recording; then by name


def read_metadata(path: Path, corpus: str, columns: Sequence[str]) -> tuple[pd.DataFrame, list[int], list[Problem]]:
    """A table that a corpus is published with: the table, the line of each row, and the rows that do not fit.

    Args:
        path: A CSV file.
        corpus: Name of the corpus, for messages.
        columns: Those it must have.

    Raises:
        CorpusError: If there is no such file, or a column is missing.
    """
    if not path.is_file():
        raise CorpusError(f"corpus {corpus!r}: there is no {path}; give the folder that the archive unpacks to")
    frame, rows, problems = read_table(path, ",")
    missing = [column for column in columns if column not in frame]
    if missing:
        have = ", ".join(frame.columns)
        raise CorpusError(f"{path}: no column {missing[0]!r}, but {have}; download the table again")
    return frame, rows, problems


def walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Folders below ``folder`` (and itself) with the names of their files; each folder is listed once.

    Links are followed, though no folder is visited twice; hidden files and folders are passed over.
    """
    visited: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield place, [name for name in files if not name.startswith(".")]


def audio_by_stem(listing: Iterable[tuple[str, list[str]]]) -> dict[str, str]:
    """Paths of the recordings among the files of a :func:`walk`, by file name without suffix.

    Where copies differ in suffix or folder, WAV goes before FLAC and FLAC before the rest. No file is opened or
    asked for: two million take seconds.
    """
    found: dict[str, str] = {}
    for place, files in listing:
        for name in files:
            stem, suffix = os.path.splitext(name)  # noqa: PTH122 - a Path per file triples the time of this loop
            if suffix.lower() in AUDIO_SUFFIXES:
                path = f"{place}{os.sep}{name}"
                if stem not in found or _rank(path) < _rank(found[stem]):
                    found[stem] = path
    return found


def _rank(path: str) -> tuple[int, str]:
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122
    return (_PREFERRED.index(suffix) if suffix in _PREFERRED else len(_PREFERRED), path)


def find_clips(places: Sequence[str], folder: Path, files: Mapping[str, str]) -> list[str]:
    """Path of each clip of a table: a file of its name, whatever the suffix, or where it should be.

    Args:
        places: Published path of each clip below ``folder``, with ``/``.
        folder: Where the clips should be.
        files: What is there, see :func:`audio_by_stem`.
    """
    return [files.get(stem_of(place)) or f"{folder}{os.sep}{place}" for place in places]


def stem_of(place: str) -> str:
    """File name of a path with ``/``, without its suffix."""
    return os.path.splitext(place.rpartition("/")[2])[0]  # noqa: PTH122 - as in audio_by_stem


def unlisted(places: Sequence[str], files: Mapping[str, str], table: Path) -> list[Problem]:
    """Problems of recordings that are there and that the published table does not know."""
    known = set(map(stem_of, places))
    return [
        Problem(Path(path).name, None, f"not in {table.name}: it has no class")
        for stem, path in sorted(files.items())
        if stem not in known
    ]


def scattered_sources(table: pd.DataFrame) -> list[Problem]:
    """Warnings of recordings (column ``source``) whose clips are in more than one fold."""
    folds = table.groupby("source")["fold"].unique()
    return [
        Problem(
            f"source {source}",
            None,
            f"its clips are in the folds {', '.join(map(str, sorted(where)))}: results on them will be too good; "
            "restore the published folds",
            "warning",
        )
        for source, where in folds.items()
        if len(where) > 1
    ]
