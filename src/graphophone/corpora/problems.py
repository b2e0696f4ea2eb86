"""What is wrong with the items of a corpus, for a run folder: all of it as a table, and the gist for ``run.json``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from graphophone.corpora.base import CorpusError, Problem
from graphophone.files import write_csv

LISTED = 1000
"""Problems that :func:`problem_facts` lists: a copy of AudioSet lacks hundreds of thousands of recordings."""

_COLUMNS = ("item", "row", "severity", "reason")


def kind_of_reason(reason: str) -> str:
    """A reason less what is its item's own: its beginning, with ``…`` for names in quotes and for numbers.

    ``"end 2 s is not after start 3 s"`` becomes ``"end … s is not after start … s"``, and
    ``"file not found: /clips/a.wav"`` becomes ``"file not found"``.
    """
    text = re.sub(r"'[^']*'|\"[^\"]*\"", "…", reason)
    text = re.split(r"[:;(]|\. ", text, maxsplit=1)[0]
    return re.sub(r"\d[\d.,]*", "…", text).strip() or reason


def problem_facts(problems: Sequence[Problem]) -> dict[str, Any]:
    """The gist of many problems, JSON-able.

    Returns:
        ``problems``: the first of them, at most :data:`LISTED`; ``problem_counts``: how many there are of each kind, as
        ``reason``, ``severity`` and ``items``, errors first, then by number.
    """
    counts = Counter((problem.severity, kind_of_reason(problem.reason)) for problem in problems)
    return {
        "problems": [problem.to_dict() for problem in problems[:LISTED]],
        "problem_counts": [
            {"reason": reason, "severity": severity, "items": items}
            for (severity, reason), items in sorted(counts.items(), key=lambda entry: (entry[0][0], -entry[1]))
        ],
    }


def write_problems(path: Path, problems: Sequence[Problem]) -> None:
    """Write all problems as CSV: item, row (empty where there is none), severity, reason."""
    frame = pd.DataFrame([problem.to_dict() for problem in problems], columns=list(_COLUMNS))
    write_csv(path, frame.astype({"row": "Int64"}))


def read_problems(path: Path) -> tuple[Problem, ...]:
    """What :func:`write_problems` wrote.

    Raises:
        CorpusError: If it is no such table.
    """
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        records = zip(*(frame[column].tolist() for column in _COLUMNS), strict=True)
        return tuple(
            Problem(item, int(row) if row else None, reason, "error" if severity == "error" else "warning")
            for item, row, severity, reason in records
        )
    except (OSError, ValueError, KeyError) as error:
        raise CorpusError(f"{path}: cannot be read as a list of problems ({error}); remove it") from error
