"""A corpus of your own as folders: one per class."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from graphophone.audio import find_audio
from graphophone.corpora.base import SPLITS, Corpus, CorpusError, Problem, corpus_folder


def load(
    root: Path,
    *,
    name: str | None = None,
    classes: Sequence[str] | str | None = None,
    speaker: str | None = None,
) -> Corpus:
    """A folder of your own, with one folder of recordings per class.

    The name of the first folder below ``root`` is the label. Where the first folders are named as the parts
    of a split (``train``, ``val``, ``test``, ...), the second ones are the classes. Ids are paths below
    ``root``. Hidden files, and files whose suffix is not one of sound, are passed over.

    Args:
        root: The folder.
        name: Name of the corpus; by default that of the folder.
        classes: Class names in order; by default the folders, sorted.
        speaker: Regular expression searched in the path below ``root`` (with ``/``): its group ``speaker``,
            else its first group, else the whole match is the speaker. Recordings that it does not match are
            left out.

    Raises:
        CorpusError: If there is no sound in class folders, or the expression is none.
    """
    folder = corpus_folder(root, name or "folder")
    name = name or folder.name
    try:
        pattern = None if speaker is None else re.compile(speaker)
    except re.error as error:
        raise CorpusError(f"corpus {name!r}: speaker={speaker!r} is not a regular expression: {error}") from error
    tops = [entry.name for entry in sorted(folder.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]
    split = bool(tops) and all(top.lower() in SPLITS for top in tops)
    depth = 2 if split else 1

    records, problems = [], []
    for path in find_audio(folder):
        relative = path.relative_to(folder)
        item = relative.as_posix()
        if len(relative.parts) <= depth:
            problems.append(Problem(item, None, "not in the folder of a class"))
            continue
        record = {"id": item, "audio": str(path), "label": relative.parts[depth - 1]}
        if split:
            record["split"] = relative.parts[0]
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
        raise CorpusError(f"corpus {name!r}: no sound in class folders below {folder}{more}")
    return Corpus.from_table(pd.DataFrame(records), name=name, classes=classes, rows=None, problems=problems)
