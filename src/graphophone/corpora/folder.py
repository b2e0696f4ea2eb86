"""A corpus of your own as folders: one per class, or any folders and a table of labels."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from graphophone.audio import find_audio
from graphophone.corpora.base import SPLITS, Corpus, CorpusError, Problem, as_name, corpus_folder
from graphophone.corpora.table import read_table

_WITHOUT_LABEL = ("unlabelled", "unlabeled")  # folders beside those of the classes


def load(
    root: Path,
    *,
    name: str | None = None,
    classes: Sequence[str] | str | None = None,
    speaker: str | None = None,
    labels: str | None = None,
    unlabelled: bool = False,
) -> Corpus:
    """A folder of your own, with one folder of recordings per class, or with a table that labels recordings.

    The name of the first folder below ``root`` is the label. Where the first folders are named as the parts
    of a split (``train``, ``val``, ``test``, ...), the second ones are the classes. Ids are paths below
    ``root``. Hidden files, and files whose suffix is not one of sound, are passed over.

    Args:
        root: The folder.
        name: Name of the corpus; by default that of the folder.
        classes: Class names in order; by default the folders, or the labels of the table, sorted.
        speaker: Regular expression searched in the path below ``root`` (with ``/``): its group ``speaker``,
            else its first group, else the whole match is the speaker. Recordings that it does not match are
            left out.
        labels: A CSV or TSV file with the columns ``file`` (path below ``root``) and ``label``, by its path from
            ``root``, else from the working directory. It gives the labels, of some recordings or of all; folders
            are then not classes and can be arranged in any way. Further columns of
            :class:`~graphophone.corpora.base.Corpus`, such as ``speaker``, are taken over.
        unlabelled: Whether recordings without label are kept, for models that learn from them too: those that the
            table does not name or leaves empty, or, without a table, those in no folder of a class or in one named
            ``unlabelled``. By default they are left out.

    Raises:
        CorpusError: If there is no sound in class folders, the expression is none, or the table is none of labels.
    """
    folder = corpus_folder(root, name or "folder")
    name = name or folder.name
    try:
        pattern = None if speaker is None else re.compile(speaker)
    except re.error as error:
        raise CorpusError(f"corpus {name!r}: speaker={speaker!r} is not a regular expression: {error}") from error
    table, problems = (None, []) if labels is None else _read_labels(folder, labels, name)
    if table is not None and pattern is not None and "speaker" in table:
        raise CorpusError(f"corpus {name!r}: speakers are given by {labels} and by speaker={speaker!r}; keep one")
    tops = [entry.name for entry in sorted(folder.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]
    split = bool(tops) and all(top.lower() in SPLITS for top in tops)
    depth = split + (table is None)  # folders that a recording must lie in

    records = []
    for path in find_audio(folder):
        relative = path.relative_to(folder)
        item, folders = relative.as_posix(), relative.parts[:-1]
        if len(folders) < depth and (table is not None or not unlabelled):
            what = "part of the split" if table is not None else "class"
            problems.append(Problem(item, None, f"not in the folder of a {what}"))
            continue
        record = {"id": item, "audio": str(path)}
        if table is None:
            label = folders[depth - 1] if len(folders) >= depth else ""
            record["label"] = "" if unlabelled and label.lower() in _WITHOUT_LABEL else label
        if split:
            record["split"] = folders[0] if folders else ""
        if pattern is not None:
            match = pattern.search(item)
            if match is None:
                problems.append(Problem(item, None, f"its path does not match speaker={speaker!r}"))
                continue
            group = "speaker" if "speaker" in pattern.groupindex else min(1, pattern.groups)
            record["speaker"] = match[group] or ""
        records.append(record)
    if not records:
        more = f"; the first problem: {problems[0]}" if problems else ""
        where = "below" if table is not None else "in class folders below"
        raise CorpusError(f"corpus {name!r}: no sound {where} {folder}{more}")
    frame = pd.DataFrame(records)
    listed = set(frame["audio"])
    if table is not None:
        problems += _not_there(folder, table, {*frame["id"], *(problem.item for problem in problems)})
        frame = frame.merge(table.drop(columns="line"), how="left", on="id", suffixes=("_of_folder", ""))
        if "split_of_folder" in frame:  # the table goes first, where it says something
            given = frame["split"].map(as_name)
            frame["split"] = given.where(given != "", frame.pop("split_of_folder"))
    return Corpus.from_table(
        frame, name=name, classes=classes, rows=None, problems=problems, unlabelled=unlabelled, listed=listed
    )


def _read_labels(folder: Path, labels: str, name: str) -> tuple[pd.DataFrame, list[Problem]]:
    """The table of labels with paths below the folder as ``id`` and each row's ``line``, and rows that do not fit."""
    path = next((p for p in (folder / labels, Path(labels).expanduser().absolute()) if p.is_file()), None)
    if path is None:
        raise CorpusError(
            f"corpus {name!r}: there is no file {labels!r} in {folder} or the working directory; correct labels"
        )
    frame, lines, problems = read_table(path)
    columns = ", ".join(frame.columns)
    file = next((column for column in ("file", "audio") if column in frame), None)
    if file is None:
        raise CorpusError(f"{path}: no column `file` with paths below {folder}; the columns are {columns}")
    if "label" not in frame and "labels" not in frame:
        raise CorpusError(f"{path}: no column `label`; the columns are {columns}")
    ids = [_path_below(folder, as_name(cell)) for cell in frame[file]]
    frame = frame.drop(columns=[column for column in (file, "audio", "id", "row", "line") if column in frame])
    frame = frame.assign(id=pd.Series(ids, dtype=object), line=lines)
    first: dict[str, int] = {}
    kept = []
    for item, line in zip(ids, lines, strict=True):
        if item and first.setdefault(item, line) == line:
            kept.append(True)
            continue
        kept.append(False)
        reason = f"named before, in row {first[item]}, which counts" if item else "no file"
        problems.append(Problem(item or f"row {line}", line, reason))
    return frame[kept], problems


def _path_below(folder: Path, text: str) -> str:
    """A path as a table has it as the id of a recording: below the folder, with ``/``."""
    if not text:
        return ""
    if "\\" in text and "/" not in text:
        text = text.replace("\\", "/")
    path = Path(os.path.normpath(folder / Path(text).expanduser()))
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()


def _not_there(folder: Path, table: pd.DataFrame, found: Collection[str]) -> list[Problem]:
    """Rows of the table whose recording has not been found."""
    return [
        Problem(item, line, f"no such recording below {folder}")
        for item, line in zip(table["id"].tolist(), table["line"].tolist(), strict=True)
        if item not in found
    ]
