"""Lists of utterances with a label and a part of a split, as the authors of HemoGAT release them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PureWindowsPath

import pandas as pd

from graphophone.corpora.base import SPLITS, CorpusError, Problem
from graphophone.corpora.table import read_table

_PARTS = ("train", "val", "test")
_COLUMNS = ("audio_file", "label")


def apply_lists(
    table: pd.DataFrame,
    folder: str | Path,
    prefix: str,
    labels: Mapping[int, str],
    identify: Callable[[str, str], str],
) -> tuple[pd.DataFrame, list[Problem]]:
    """The utterances that are listed, in the order of the corpus, with the listed label and part of the split.

    Of the paths in the lists, which are those of another machine, only the last name counts.

    Args:
        table: Utterances of a corpus, with columns ``id`` and ``label``.
        folder: Folder of ``<prefix>_metadata_train.csv``, ``..._val.csv`` and ``..._test.csv``, each with columns
            ``audio_file`` and ``label``.
        prefix: How the names of the lists begin.
        labels: Number of a label to the class it is.
        identify: From a part (``train``, ``val``, ``test``) and the name of a recording, without suffix, to an id.

    Returns:
        The table, and a problem for every utterance that is listed and not there, or has another label.

    Raises:
        CorpusError: If a list is missing or damaged, or names an utterance twice.
    """
    listed: dict[str, tuple[str, str]] = {}
    for part in _PARTS:
        path = Path(folder).expanduser().absolute() / f"{prefix}_metadata_{part}.csv"
        if not path.is_file():
            raise CorpusError(f"{path} is not there; give the folder of the three lists")
        for row, name, label in _read(path):
            if label not in labels:
                known = ", ".join(f"{number} ({what})" for number, what in labels.items())
                raise CorpusError(f"{path}, row {row}: label {label} is not one of {known}")
            # Either kind of separator: a Windows path is split at both.
            item = identify(part, PureWindowsPath(name).stem)
            if item in listed:
                raise CorpusError(f"{path}, row {row}: {item} is listed for the second time; correct the lists")
            listed[item] = (SPLITS[part], labels[label])
    found = table[table["id"].isin(listed)].reset_index(drop=True)
    wanted = found["id"].map(lambda item: listed[item][1])
    problems = [
        Problem(item, None, f"is listed as {new}, but the corpus says {old}; {new} is taken", "warning")
        for item, new, old in zip(found["id"], wanted, found["label"], strict=True)
        if new != old
    ]
    missing = list(listed.keys() - set(found["id"]))
    problems += [Problem(item, None, "is listed, but not in the corpus") for item in sorted(missing)]
    return found.assign(label=wanted, split=found["id"].map(lambda item: listed[item][0])), problems


def _read(path: Path) -> list[tuple[int, str, int]]:
    """Row, recording and label of each utterance of a list.

    Raises:
        CorpusError: If a column is missing, a record does not fit the header, or a label is no number.
    """
    frame, rows, problems = read_table(path, ",")
    missing = [column for column in _COLUMNS if column not in frame]
    if problems or missing:
        raise CorpusError(f"{path}: {problems[0] if problems else f'no column {missing[0]!r}'}")
    result = []
    for row, name, label in zip(rows, frame["audio_file"], frame["label"], strict=True):
        if not str(label).strip().isdigit():
            raise CorpusError(f"{path}, row {row}: label {label!r} is not a whole number")
        result.append((row, str(name).strip(), int(label)))
    return result
