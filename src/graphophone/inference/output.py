"""Answers as a table for people, as CSV and JSON for programs, and as a label track for Audacity."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from graphophone.errors import GraphophoneError
from graphophone.inference.timelines import segments

_NARROW = 16
"""Letters of a name that is written in one line, whatever becomes of the columns beside it."""

_SUFFIXES = {".csv": "csv", ".json": "json", ".txt": "audacity"}


def class_columns(frame: pd.DataFrame) -> list[str]:
    """Names of the probability columns, `p_<class>`."""
    return [name for name in frame.columns if str(name).startswith("p_")]


def without_probabilities(frame: pd.DataFrame) -> pd.DataFrame:
    """The table without its columns `p_<class>`, of which a tagging model may have hundreds."""
    return frame.drop(columns=class_columns(frame))


def parse_tags(text: str) -> list[tuple[str, float]]:
    """The column `tags` taken apart: `"dog 0.93; bark 0.81"` gives `[("dog", 0.93), ("bark", 0.81)]`."""
    parts = (part.rpartition(" ") for part in text.split("; ") if part)
    return [(name, float(probability)) for name, _, probability in parts]


def to_csv(frame: pd.DataFrame, *, probabilities: bool = True) -> str:
    """Comma-separated values with a header line; numbers with six decimals, empty where there is none."""
    frame = frame if probabilities else without_probabilities(frame)
    return frame.to_csv(index=False, float_format="%.6f", lineterminator="\n")


def to_json(frame: pd.DataFrame, *, probabilities: bool = True) -> str:
    """A JSON object: `results` (with `probabilities` by class), `failures` and `warnings`.

    `tags`, where there are any, are a list of `{"tag": ..., "probability": ...}`.
    """
    classes = class_columns(frame)
    results = []
    for row in frame.astype(object).where(frame.notna(), None).to_dict(orient="records"):
        found = {name.removeprefix("p_"): row.pop(name) for name in classes}
        if "tags" in row:
            row["tags"] = [{"tag": tag, "probability": found.get(tag, p)} for tag, p in parse_tags(row["tags"])]
        results.append({**row, "probabilities": found} if classes and probabilities else row)
    document: dict[str, Any] = {"results": results}
    for kind in ("failures", "warnings"):
        document[kind] = [asdict(problem) for problem in frame.attrs.get(kind, ())]
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_audacity(frame: pd.DataFrame, *, probabilities: bool = True) -> str:
    """A label track: `start`, tab, `end`, tab, `label` per line; `probabilities` changes nothing.

    The windows of a timeline overlap; they are joined by `merge_segments` first, or for a tagging model by
    `tag_segments`, whose spans may overlap.

    In Audacity: File, Import, Labels.

    Raises:
        GraphophoneError: If the answers belong to several files.
    """
    if "file" in frame.columns and len(frame["file"].unique()) > 1:
        raise GraphophoneError("a label track belongs to one recording: give one file, or use csv or json")
    is_timeline = "file" not in frame.columns and "windows" not in frame.columns
    parts = segments(frame) if is_timeline else frame
    lines = [
        f"{start:.6f}\t{end:.6f}\t{label}\n"
        for start, end, label in zip(parts["start"], parts["end"], parts["label"], strict=True)
    ]
    return "".join(lines)


def to_table(frame: pd.DataFrame, *, title: str | None = None) -> Table:
    """A table for the terminal: clip, text, label, confidence, spread, and the tags or the class that came second."""
    tags, spread = "tags" in frame.columns, "spread" in frame.columns
    classes = class_columns(frame)
    table = Table(title=title)
    # What tells a turn of a conversation is its id, or its dialogue and place, and not the recording of all of it.
    with_file = "file" in frame.columns and "dialogue" not in frame.columns
    names = ("id", "speaker") if "id" in frame.columns else ("dialogue", "position", "speaker")
    told = [name for name in names if name in frame.columns]
    turns = "dialogue" in frame.columns
    for name in told:
        table.add_column(name, overflow="fold", no_wrap=turns and _narrow(frame[name]))
    if with_file:
        table.add_column("file", overflow="fold")
    times: tuple[str, ...] = ("start",) if turns else ("start", "end")
    if turns and frame["start"].isna().all():  # a conversation in writing
        times = ()
    for name in times:
        table.add_column(f"{name} (s)", justify="right", no_wrap=turns)
    reads = [name for name in ("text", "used") if name in frame.columns]
    if turns and "used" in reads and frame["used"].nunique() < 2:
        reads.remove("used")  # what is so of every turn tells none from the others
    for name in reads:
        table.add_column(name, overflow="fold", no_wrap=turns and name == "used")
    timed = "seconds" in frame.columns
    if timed:
        table.add_column("ms", justify="right", no_wrap=turns)
    table.add_column("label", style="bold", no_wrap=turns)
    table.add_column("confidence", justify="right", no_wrap=turns)
    if spread:
        table.add_column("spread", justify="right")
    if tags:
        table.add_column("tags", overflow="fold")
    elif len(classes) > 1:
        table.add_column("next", no_wrap=turns)
    for row in frame.to_dict(orient="records"):
        heard = not pd.isna(row["start"])
        cells: list[str | Text] = [escape(str(row[name])) for name in told]
        cells += [str(row["file"]) if not pd.isna(row["file"]) else "signal" if heard else ""] if with_file else []
        cells += [f"{row[name]:.2f}" if heard else "" for name in times]
        words = ["" if pd.isna(row[name]) else str(row[name]) for name in reads]
        # One line for each turn, to see how a conversation goes; CSV and JSON hold all of its words.
        cells += [Text(word, no_wrap=True, overflow="ellipsis") if turns else escape(word) for word in words]
        cells += [f"{1000 * row['seconds']:.1f}"] if timed else []
        cells.append(str(row["label"]))
        known = not pd.isna(row["confidence"])
        cells.append(f"{row['confidence']:.2f}" if known else "")
        if spread:
            cells.append("" if pd.isna(row["spread"]) else f"{row['spread']:.2f}")
        if tags:
            cells.append(row["tags"])
        elif len(classes) > 1:
            second = sorted(classes, key=lambda name: -row[name])[1] if known else ""
            cells.append(f"{second.removeprefix('p_')} {row[second]:.2f}" if known else "")
        table.add_row(*cells)
    return table


def _narrow(names: pd.Series) -> bool:
    return bool(names.astype(str).str.len().max() <= _NARROW)


def _table_text(frame: pd.DataFrame, *, probabilities: bool = True) -> str:
    least = 120 if "dialogue" in frame.columns else 100
    console = Console(file=io.StringIO(), width=max(least, Console().width))
    console.print(to_table(frame if probabilities else without_probabilities(frame)))
    return console.file.getvalue()  # type: ignore[attr-defined]


FORMATS: dict[str, Callable[..., str]] = {
    "table": _table_text,
    "csv": to_csv,
    "json": to_json,
    "audacity": to_audacity,
}
"""Writers by name."""


def render(frame: pd.DataFrame, format: str = "table", *, probabilities: bool = True) -> str:
    """Answers as text in one of the `FORMATS`, with or without the probability of every class.

    Raises:
        GraphophoneError: If the format is unknown.
    """
    if format not in FORMATS:
        raise GraphophoneError(f"unknown format {format!r}; use one of {', '.join(FORMATS)}")
    return FORMATS[format](frame, probabilities=probabilities)


def write_answers(
    frame: pd.DataFrame,
    format: str | None = None,
    output: str | Path | None = None,
    *,
    probabilities: bool = True,
) -> None:
    """Write answers to a file or to standard output.

    Args:
        frame: What a verb of `Recognizer`, `timeline`, `merge_segments` or `tag_segments` returned.
        format: One of `FORMATS`. None goes by the suffix of the file (`.csv`, `.json`, `.txt` for Audacity),
            and means a table on standard output.
        output: File; standard output if None.
        probabilities: Whether CSV and JSON give the probability of every class; a tagging model may have hundreds.

    Raises:
        GraphophoneError: If the format is unknown or the file cannot be written.
    """
    if format is None:
        suffix = "" if output is None else Path(output).suffix.lower()
        if output is not None and suffix not in _SUFFIXES:
            raise GraphophoneError(f"{output}: no format goes by that suffix; use .csv, .json or .txt")
        format = _SUFFIXES.get(suffix, "table")
    text = render(frame, format, probabilities=probabilities)
    if output is None:
        sys.stdout.write(text)
        return
    folder = Path(output).parent
    if not folder.is_dir():
        raise GraphophoneError(f"{output}: there is no folder {folder}; make it first")
    try:
        Path(output).write_text(text, "utf-8")
    except OSError as error:
        raise GraphophoneError(
            f"{output}: cannot be written ({error.strerror or error}); choose another place"
        ) from error
