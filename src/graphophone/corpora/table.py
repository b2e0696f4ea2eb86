"""A corpus of your own as one table: CSV, TSV or Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from graphophone.corpora.base import Corpus, CorpusError, Problem, read_text
from graphophone.registry import did_you_mean

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".pq")
_AS_TEXT = {"id", "audio", "text", "label", "labels", "speaker", "dialogue", "split", "start", "end", "fold"}


def load(
    root: Path,
    *,
    file: str | None = None,
    audio_root: Path | None = None,
    name: str | None = None,
    classes: Sequence[str] | str | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    negatives: bool = False,
    unlabelled: bool = False,
    id: str | None = None,
    audio: str | None = None,
    start: str | None = None,
    end: str | None = None,
    text: str | None = None,
    label: str | None = None,
    labels: str | None = None,
    speaker: str | None = None,
    dialogue: str | None = None,
    position: str | None = None,
    fold: str | None = None,
    split: str | None = None,
    spontaneous: str | None = None,
) -> Corpus:
    """A table of your own: CSV, TSV or Parquet.

    It has the columns of :class:`~graphophone.corpora.base.Corpus`; others are carried along.

    Rows in messages are line numbers of the text file, the header being line 1 (a record that spans lines
    counts where it begins), or row numbers from 0 for Parquet.

    Args:
        root: The table, or a folder that holds it.
        file: Name of the table within ``root``; needed only where the folder holds more than one.
        audio_root: Folder that relative audio paths start from; by default that of the table.
        name: Name of the corpus; by default that of the file.
        classes: Class names in order; by default the labels that occur, sorted.
        delimiter: What separates the columns; by default the one of comma, semicolon, tab and bar that the
            header has most of.
        encoding: Of a text file; by default what its byte order mark says, else UTF-8, else Windows-1252.
        negatives: Whether an empty cell of ``labels`` says that none of the classes is heard in the item; by
            default it says that nobody has labelled it, and the row is left out.
        unlabelled: Whether an item with an empty cell of ``label`` is kept, without label, for models that learn from
            such items too; by default it is left out.
        id: Name of the table's column that holds the ids, where it is not ``id``. The same for each of
            ``audio``, ``start``, ``end``, ``text``, ``label``, ``labels``, ``speaker``, ``dialogue``,
            ``position``, ``fold``, ``split`` and ``spontaneous``. A column whose name is thereby taken
            becomes ``original_<name>``.
        audio: See ``id``.
        start: See ``id``.
        end: See ``id``.
        text: See ``id``.
        label: See ``id``.
        labels: See ``id``.
        speaker: See ``id``.
        dialogue: See ``id``.
        position: See ``id``.
        fold: See ``id``.
        split: See ``id``.
        spontaneous: See ``id``.

    Raises:
        CorpusError: If there is no such file or column, or the file is not such a table.
    """
    path = find_table(Path(root).expanduser().absolute(), file)
    name = name or path.stem
    frame, rows, problems = read_any(path, delimiter, encoding)
    wanted = {
        "id": id,
        "audio": audio,
        "start": start,
        "end": end,
        "text": text,
        "label": label,
        "labels": labels,
        "speaker": speaker,
        "dialogue": dialogue,
        "position": position,
        "fold": fold,
        "split": split,
        "spontaneous": spontaneous,
    }
    frame = rename_columns(frame, {ours: theirs for ours, theirs in wanted.items() if theirs is not None}, path)
    for ours, instead in (("audio", "text"), ("label", "labels")):
        if ours not in frame and instead not in frame:
            columns = ", ".join(frame.columns)
            raise CorpusError(
                f"{path}: no column `{ours}` or `{instead}`; name it with {ours}=COLUMN, one of {columns}"
            )
    return Corpus.from_table(
        frame,
        name=name,
        classes=classes,
        root=audio_root or path.parent,
        rows=rows,
        problems=problems,
        negatives=negatives,
        unlabelled=unlabelled,
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def find_table(root: Path, file: str | None, more: Sequence[str] = ()) -> Path:
    """A table that ``root`` is, or that it holds, by its name or as the only one; ``more`` are further suffixes of it.

    Raises:
        CorpusError: If there is none, or one cannot be told.
    """
    path = root / file if file else root
    if path.is_dir():
        suffixes = (*SUFFIXES, *more)
        tables = sorted(p for p in path.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith("."))
        if len(tables) != 1:
            found = f"holds {len(tables)}: {', '.join(p.name for p in tables)}" if tables else "holds none"
            raise CorpusError(f"{path} is a folder and {found}; name the table with file=NAME")
        path = tables[0]
    if not path.is_file():
        kinds = ["CSV", "TSV", "Parquet", *(suffix[1:].upper() for suffix in more)]
        raise CorpusError(f"{path}: no such table; give a {', '.join(kinds[:-1])} or {kinds[-1]} file as root")
    return path


def read_any(
    path: Path, delimiter: str | None = None, encoding: str | None = None
) -> tuple[pd.DataFrame, list[int], list[Problem]]:
    """A table in text or Parquet, and the rest of :func:`read_table`; the rows of Parquet are numbered from 0."""
    if path.suffix.lower() not in (".parquet", ".pq"):
        return read_table(path, delimiter, encoding)
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise CorpusError(f"{path}: cannot be read as Parquet ({_first_line(error)})") from error
    return frame, list(range(len(frame))), []


def read_table(
    path: Path, delimiter: str | None = None, encoding: str | None = None
) -> tuple[pd.DataFrame, list[int], list[Problem]]:
    """A text table, the line each record begins in, and the records that do not fit the header.

    Read with the standard library instead of pandas, which tells neither the line of a record nor, one by
    one, the records of a wrong width.
    """
    text = read_text(path, encoding)
    delimiter = delimiter or _guess_delimiter(path, text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header: list[str] | None = None
    records, rows, problems = [], [], []
    line = 1
    try:
        for record in reader:
            first, line = line, reader.line_num + 1
            if not any(cell.strip() for cell in record):
                continue
            if header is None:
                header = [cell.strip() for cell in record]
            elif len(record) != len(header):
                widths = f"{len(record)} cells where the header has {len(header)}"
                reason = f"{widths}; put cells that hold {delimiter!r} in quotes"
                problems.append(Problem(f"row {first}", first, reason))
            else:
                records.append(record)
                rows.append(first)
    except csv.Error as error:
        raise CorpusError(f"{path}, line {reader.line_num}: {error}") from error
    if header is None or not records:
        more = f"; the first problem: {problems[0]}" if problems else ""
        raise CorpusError(f"{path}: the table has no rows{more}")
    frame = pd.DataFrame(records, columns=pd.Index(header), dtype=object)
    if frame.columns.is_unique:
        frame = frame.apply(_numbers_where_all_are)
    return frame, rows, problems


def _numbers_where_all_are(column: pd.Series) -> pd.Series:
    """Columns of numbers become numbers, except where names are expected (``01`` is a speaker, not 1)."""
    if column.name in _AS_TEXT:
        return column
    filled = column[column.str.strip() != ""]
    numbers = pd.to_numeric(filled, errors="coerce")
    return column if filled.empty or numbers.isna().any() else numbers.reindex(column.index)


def _guess_delimiter(path: Path, text: str) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    header = next((line for line in text.splitlines() if line.strip()), "")
    counts = {mark: len(next(csv.reader([header], delimiter=mark))) for mark in ",;\t|"}
    return max(counts, key=lambda mark: counts[mark])


def rename_columns(frame: pd.DataFrame, wanted: dict[str, str], path: Path) -> pd.DataFrame:
    """A table whose columns have names of ours (the keys) in place of their own; what is in the way is renamed too.

    Raises:
        CorpusError: If a column is not there, or is wanted twice.
    """
    frame = frame.set_axis([str(column).strip() for column in frame.columns], axis=1)
    renamed: dict[str, str] = {}
    for ours, theirs in wanted.items():
        if theirs not in frame:
            hint = did_you_mean(theirs, frame.columns)
            raise CorpusError(f"{path}: no column {theirs!r}.{hint} The columns are {', '.join(frame.columns)}")
        if theirs in renamed:
            raise CorpusError(f"{path}: the column {theirs!r} cannot be both {renamed[theirs]!r} and {ours!r}")
        renamed[theirs] = ours
    in_the_way = {ours: f"original_{ours}" for ours, theirs in wanted.items() if ours != theirs and ours in frame}
    kept = {old: new for old, new in in_the_way.items() if old not in renamed}
    return frame.rename(columns={**kept, **renamed})
