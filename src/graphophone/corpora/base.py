"""The table of items that every corpus is turned into, and its validation."""

from __future__ import annotations

import codecs
import dataclasses
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pandas as pd

from graphophone.errors import GraphophoneError
from graphophone.registry import did_you_mean

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from graphophone.corpora.given import Given

SPLITS: dict[str, str] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "devel": "validation",
    "development": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
"""Names in use for the parts of a published split, and the name each gets in a corpus table."""


_CLASSES_NAMED = 30  # in a message about an unknown label
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


class CorpusError(GraphophoneError):
    """A corpus as a whole cannot be read: no such folder, no label column, no usable row."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one item of a corpus.

    Attributes:
        item: Id of the item, or the name of the file, or ``"row 7"`` where a row has no id.
        row: Row of the user's table (see :meth:`Corpus.from_table`), or None where there is no table.
        reason: What is wrong and, where it helps, what to do; one line.
        severity: ``"error"``: the item cannot be used and is left out; ``"warning"``: it is used.
    """

    item: str
    row: int | None
    reason: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        row = "" if self.row is None or self.item == f"row {self.row}" else f"row {self.row}, "
        return f"{row}{self.item}: {self.reason}"

    def to_dict(self) -> dict[str, Any]:
        """The fields, JSON-able."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, eq=False, repr=False)
class Corpus:
    """Items with what is known of each, and the ordered classes they are sorted into.

    Make one with :meth:`from_table`, which validates, or with :func:`graphophone.corpora.load`.

    Attributes:
        name: Name of the corpus.
        table: One row per usable item, with a ``RangeIndex``. The column ``id`` (unique, str) is always
            there; the others are there when the corpus knows them: ``audio`` (absolute path, str; empty for an item
            that has a text and no recording), ``start`` and ``end`` (seconds, float; NaN means from the beginning, to
            the end), ``text``, ``label`` (str, one of ``classes``; empty for an item without label) or ``labels``
            (list of str), ``speaker``, ``dialogue``, ``position`` (order within the dialogue), ``fold`` (int),
            ``split`` (``train``, ``validation``, ``test``), ``spontaneous`` (0 or 1), ``row`` (row of the user's
            table), and whatever else the corpus has. An item without label may lack ``fold`` (the column is then
            ``Int64``) and ``split`` (then empty).
        classes: Class names; the position in this tuple is the class index.
        problems: Items that were left out (errors), and items to look at (warnings).
        languages: Languages spoken, as ISO 639-1 codes.
        licence: Name of the licence of the recordings.
        url: Where the corpus comes from.
        citation: What to cite.
        given: Ready vectors of the items, and edges between them, whose nodes the column ``node`` names.
    """

    name: str
    table: pd.DataFrame
    classes: tuple[str, ...]
    problems: tuple[Problem, ...] = ()
    languages: tuple[str, ...] = ()
    licence: str | None = None
    url: str | None = None
    citation: str | None = None
    given: Given | None = None

    @classmethod
    def from_table(
        cls,
        frame: pd.DataFrame,
        *,
        name: str,
        classes: Sequence[str] | str | None = None,
        root: str | Path | None = None,
        rows: Sequence[int] | Literal["position"] | None = "position",
        problems: Iterable[Problem] = (),
        negatives: bool = False,
        unlabelled: bool = False,
        listed: Collection[str] = (),
        **meta: Any,
    ) -> Corpus:
        """Validate a table and make a corpus of its usable rows.

        What is wrong with a row (no such file, unknown label, duplicate id, bad start or end, missing value)
        becomes a :class:`Problem`; that row is left out and the others are kept. Surrounding spaces are cut
        from names, ``1.0`` becomes ``"1"`` where a name is expected, usual names of splits (``dev``, ``val``,
        ``eval``) become the three of the table, an unknown ``spontaneous`` becomes 0, and ids are made
        from the audio path where there is no ``id`` column.

        Args:
            frame: One row per item, with the columns described at :class:`Corpus`. A cell of ``labels`` is a
                list, or text with ``;`` or ``|`` between the labels; a label twice in a cell counts once.
            name: Name of the corpus.
            classes: Class names in order, as a list or with commas between. Without it they are the labels of
                the table, sorted (as numbers where all are whole numbers).
            root: Folder that relative audio paths start from; the working directory without it.
            rows: Row number of each row, for messages. By default a column ``row`` where the frame has one,
                else the position in the frame, counted from 0; None for corpora that have no rows.
            problems: Problems found earlier, kept in front of those found here.
            negatives: Whether an item without any label, in a table of ``labels``, is one in which none of the
                classes is heard. By default it is one that nobody has labelled, and is left out.
            unlabelled: Whether an item whose ``label`` is empty is kept, for models that learn from such items too.
                By default it is left out.
            listed: Absolute paths of files that are known to be there, from a listing of their folder: they are
                taken as they are, and the file system is not asked for each.
            **meta: ``languages``, ``licence``, ``url``, ``citation``, ``given``.

        Raises:
            CorpusError: If the table has no label column, no rows, a column twice, no usable row, no label in any row,
                or several labels per item where items without label are to be kept.
        """
        validation = _Validation(
            frame, name, classes, root, rows, negatives=negatives, unlabelled=unlabelled, listed=listed
        )
        return validation.corpus(tuple(problems), meta)

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        speakers = self.speakers
        voices = "" if speakers is None else f", {len(set(speakers))} speakers"
        without = len(self) - int(self.labelled.sum())
        rest = f", {without} items without label" if without else ""
        return f"Corpus({self.name!r}, {len(self)} items, {len(self.classes)} classes{voices}{rest})"

    @property
    def multi_label(self) -> bool:
        """Whether an item has a list of labels instead of one."""
        return "labels" in self.table

    @property
    def memberships(self) -> csr_array:
        """Classes of each item as a sparse matrix of zeros and ones, int64 ``[items, classes]``.

        Of two million items with a few of 527 labels each it takes 50 MB, where ``targets`` takes 8 GB.
        """
        return label_matrix(self.table, self.classes)

    @property
    def targets(self) -> np.ndarray:
        """Class indices, int64 ``[items]``, -1 for an item without label.

        For a corpus of ``labels`` 0 or 1, int64 ``[items, classes]``.
        """
        if self.multi_label:
            return self.memberships.toarray()
        return _class_indices(self.table["label"].tolist(), self.classes)

    @property
    def labelled(self) -> np.ndarray:
        """Which items have a label, bool ``[items]``; of a corpus of ``labels`` all, if it be none of the classes."""
        if self.multi_label:
            return np.ones(len(self), dtype=bool)
        return np.asarray(self.table["label"] != "", dtype=bool)

    @property
    def speakers(self) -> list[str] | None:
        """Speaker of each item, or None where the corpus does not say."""
        return self.table["speaker"].tolist() if "speaker" in self.table else None

    @property
    def hours(self) -> float | None:
        """Hours of sound, where a ``duration`` column or ``start`` and ``end`` of every item tell."""
        seconds: pd.Series | None = None
        if "duration" in self.table:
            seconds = self.table["duration"]
        elif "end" in self.table:
            seconds = self.table["end"] - (self.table["start"].fillna(0.0) if "start" in self.table else 0.0)
        if seconds is not None and "audio" in self.table:
            seconds = seconds[self.table["audio"] != ""]
        if seconds is None or seconds.isna().any():
            return None
        return float(seconds.sum()) / 3600

    def select(self, which: Sequence[int] | Sequence[bool] | np.ndarray | pd.Series) -> Corpus:
        """The items of a boolean mask ``[items]`` or of row indices, in the order given; problems are kept.

        Raises:
            ValueError: If a mask has another length than the corpus, or the indices are not whole numbers.
            IndexError: If an index is out of range.
        """
        chosen = np.asarray(which)
        if chosen.dtype == bool:
            if chosen.shape != (len(self),):
                raise ValueError(f"a mask of shape {chosen.shape} does not fit {len(self)} items")
            chosen = np.flatnonzero(chosen)
        elif chosen.size == 0:
            chosen = chosen.astype(np.int64)
        elif not np.issubdtype(chosen.dtype, np.integer):
            raise ValueError(f"items are selected by a mask or by whole numbers, not by {chosen.dtype}")
        return dataclasses.replace(self, table=self.table.iloc[chosen].reset_index(drop=True))

    def without(self, ids: Iterable[str], problems: Iterable[Problem] = ()) -> Corpus:
        """The corpus less the items ``ids``, with the ``problems`` that made them unusable added.

        Raises:
            CorpusError: If the corpus has no item of that id.
        """
        gone = set(ids)
        unknown = sorted(gone.difference(self.table["id"]))
        if unknown:
            raise CorpusError(f"corpus {self.name!r} has no item {unknown[0]!r} to leave out")
        table = self.table[~self.table["id"].isin(gone)].reset_index(drop=True)
        return dataclasses.replace(self, table=table, problems=(*self.problems, *problems))

    def class_counts(self) -> np.ndarray:
        """Items of each class, int64 ``[classes]``."""
        return np.asarray(self.memberships.sum(axis=0)).astype(np.int64)

    def labels_per_item(self) -> dict[str, Any] | None:
        """How many labels the items have, JSON-able; None where each has one by definition.

        Returns:
            ``mean`` (the cardinality of the corpus), ``min``, ``median``, ``max``, ``density`` (the mean over
            the number of classes), ``sets`` (different sets of labels) and ``counts`` (number of labels to
            number of items).
        """
        if not self.multi_label or len(self) == 0:
            return None
        matrix = self.memberships
        numbers = np.diff(matrix.indptr)
        counts = np.bincount(numbers)
        return {
            "mean": float(numbers.mean()),
            "min": int(numbers.min()),
            "median": float(np.median(numbers)),
            "max": int(numbers.max()),
            "density": float(numbers.mean() / max(1, len(self.classes))),
            "sets": len(np.unique(label_sets(matrix))),
            "counts": {str(number): int(count) for number, count in enumerate(counts.tolist()) if count},
        }

    def summary(self) -> dict[str, Any]:
        """Name, counts, hours and problems, JSON-able; reads no file."""
        table = self.table
        speakers = self.speakers
        counts = self.class_counts()
        result: dict[str, Any] = {
            "name": self.name,
            "items": len(self),
            "unlabelled": len(self) - int(self.labelled.sum()),
            "classes": {label: int(count) for label, count in zip(self.classes, counts, strict=True)},
            "speakers": None if speakers is None else len(set(speakers)),
            "labels_per_item": self.labels_per_item(),
            "hours": self.hours,
            "dialogues": int(table["dialogue"].nunique()) if "dialogue" in table else None,
            "splits": _counts(table, "split"),
            "folds": _counts(table, "fold"),
            "languages": list(self.languages),
            "licence": self.licence,
            "url": self.url,
            "citation": self.citation,
            "problems": [problem.to_dict() for problem in self.problems],
        }
        return result


def _counts(table: pd.DataFrame, column: str) -> dict[str, int] | None:
    """Items of each value of a column; those that have none, being without label, are not counted."""
    if column not in table:
        return None
    counts = table[column].replace("", None).value_counts().sort_index()
    return {str(value): int(count) for value, count in counts.items()}


def _class_indices(labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Position of each label in ``classes``, int64 ``[labels]``."""
    return pd.Index(np.array(classes, dtype=object)).get_indexer(np.array(labels, dtype=object)).astype(np.int64)


def label_matrix(table: pd.DataFrame, classes: Sequence[str]) -> csr_array:
    """Classes of each row of a corpus table as zeros and ones, sparse, int64 ``[items, classes]``.

    Args:
        table: With a column ``label``, or ``labels`` (lists without repetition); all of them in ``classes``. An item
            whose ``label`` is empty is in none.
        classes: Class names.
    """
    from scipy.sparse import csr_array

    if "labels" in table:
        cells = table["labels"].tolist()
        ends = np.cumsum([0, *map(len, cells)])
        flat = list(chain.from_iterable(cells))
    else:
        cells = table["label"].tolist()
        ends = np.cumsum([0, *map(bool, cells)])
        flat = [label for label in cells if label]
    columns = _class_indices(flat, classes)
    matrix = csr_array((np.ones(len(flat), dtype=np.int64), columns, ends), shape=(len(table), len(classes)))
    matrix.sort_indices()
    return matrix


def label_sets(matrix: csr_array) -> np.ndarray:
    """Number of the set of labels of each row of a label matrix, int64 ``[items]``: equal for equal sets."""
    columns, ends = matrix.indices, matrix.indptr.tolist()
    names = [columns[first:last].tobytes() for first, last in pairwise(ends)]
    return pd.factorize(np.array(names, dtype=object))[0].astype(np.int64)


def corpus_folder(root: str | Path, name: str) -> Path:
    """``root`` as an absolute path (``~`` expanded), for the corpus ``name``.

    Raises:
        CorpusError: If it is no folder.
    """
    folder = Path(root).expanduser().absolute()
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise CorpusError(f"corpus {name!r}: {folder} {what}; give its folder as root")
    return folder


def read_text(path: Path, encoding: str | None = None) -> str:
    """A text file in the encoding given, else that of its byte order mark, else UTF-8, else Windows-1252.

    Raises:
        CorpusError: If it is not text, or not in that encoding.
        OSError: If it cannot be read.
    """
    data = path.read_bytes()
    if encoding is None:
        encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if data.startswith(mark)), None)
    try:
        if encoding is not None:
            return data.decode(encoding)
        if b"\0" in data:
            raise CorpusError(f"{path}: not a text file; save it as text in UTF-8")
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return data.decode("cp1252")
    except (UnicodeError, LookupError) as error:
        raise CorpusError(f"{path}: {error}; save it as text in UTF-8") from error


def as_name(value: Any) -> str:
    """A cell as a name: ``3.0`` is ``"3"``, missing is ``""``, surrounding spaces are cut."""
    if isinstance(value, str):
        return value.strip()
    if value is None or value is pd.NA or value is pd.NaT:
        return ""
    if isinstance(value, (float, np.floating)):
        if math.isnan(value):
            return ""
        if float(value).is_integer():
            return str(int(value))
    return str(value).strip()


def sort_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Distinct labels in order: as numbers where all are whole numbers, else as text."""
    distinct = set(labels)
    if all(re.fullmatch(r"[+-]?\d+", label) for label in distinct):
        return tuple(sorted(distinct, key=lambda label: (int(label), label)))
    return tuple(sorted(distinct))


class _Validation:
    """One pass over a table: every check marks the rows it rejects, in ``reasons``, with its reason."""

    def __init__(
        self,
        frame: pd.DataFrame,
        name: str,
        classes: Sequence[str] | str | None,
        root: str | Path | None,
        rows: Sequence[int] | Literal["position"] | None,
        *,
        negatives: bool,
        unlabelled: bool,
        listed: Collection[str],
    ) -> None:
        self.name = name
        self.negatives = negatives
        self.unlabelled = unlabelled
        self.listed = listed if isinstance(listed, (set, frozenset)) else frozenset(listed)
        columns = [str(column).strip() for column in frame.columns]
        twice = sorted({column for column in columns if columns.count(column) > 1})
        if twice:
            raise self.error(f"the column {twice[0]!r} occurs more than once")
        if len(frame) == 0:
            raise self.error("the table has no rows")
        self.table = frame.set_axis(columns, axis=1).reset_index(drop=True)
        if isinstance(rows, str):
            rows = self._own_rows()
        self.rows: list[int] | None = None if rows is None else [int(row) for row in rows]
        if self.rows is not None and len(self.rows) != len(frame):
            raise ValueError(f"{len(self.rows)} row numbers for {len(frame)} rows")
        if isinstance(classes, str):
            classes = classes.split(",")
        self.classes = None if classes is None else tuple(as_name(label) for label in classes)
        if self.classes is not None and len(set(self.classes)) != len(self.classes):
            raise self.error(f"a class is named twice: {', '.join(self.classes)}")
        if self.classes is not None and "" in self.classes:
            raise self.error("a class has no name; give the names of the classes with single commas between")
        self.unknown: dict[str, str] = {}  # label to what is said of it: looking for a likely one takes a while
        self.known = None if self.classes is None else frozenset(self.classes)
        self.root = Path.cwd() if root is None else Path(root).expanduser().absolute()
        self.reasons: list[str | None] = [None] * len(frame)

    def error(self, text: str) -> CorpusError:
        return CorpusError(f"corpus {self.name!r}: {text}")

    def _own_rows(self) -> Sequence[int]:
        if "row" in self.table and pd.api.types.is_integer_dtype(self.table["row"]):
            return cast(list[int], self.table["row"].tolist())
        return range(len(self.table))

    def reject(self, position: int, reason: str) -> None:
        """Name the first reason only: what follows from it would be noise."""
        if self.reasons[position] is None:
            self.reasons[position] = reason

    def corpus(self, earlier: tuple[Problem, ...], meta: Mapping[str, Any]) -> Corpus:
        has = self.table.columns
        if "label" in has and "labels" in has:
            raise self.error("the table has both `label` and `labels`; keep the one to be learned")
        if "label" not in has and "labels" not in has:
            raise self.error(f"no column `label` or `labels`; the columns are {', '.join(has)}")
        if self.unlabelled and "labels" in has:
            raise self.error(
                "items without label can be kept where each item has one label, not several; leave unlabelled=true out"
            )
        checks: dict[str, Callable[[], None]] = {
            "id": self._ids,
            "audio": self._audio,
            "start": self._times,
            "end": self._times,
            "label": self._label,
            "labels": self._labels,
            "speaker": lambda: self._names("speaker"),
            "dialogue": lambda: self._names("dialogue"),
            "position": lambda: self._numbers("position", whole=False),
            "fold": lambda: self._numbers("fold", whole=True),
            "split": self._split,
            "spontaneous": self._spontaneous,
            "text": self._text,
        }
        if "id" not in has:
            self._make_ids()
        for check in dict.fromkeys(check for column, check in checks.items() if column in has):
            check()
        self._duplicates()

        items = self.table["id"].tolist()
        found = [
            Problem(item or self._place(position), self._row(position), reason)
            for position, (item, reason) in enumerate(zip(items, self.reasons, strict=True))
            if reason is not None
        ]
        usable = np.array([reason is None for reason in self.reasons])
        problems = (*earlier, *found)
        if not usable.any():
            raise self.error(f"none of {len(usable)} rows is usable; the first: {found[0]}")
        table = self.table
        if self.rows is not None:
            table = table.assign(row=np.array(self.rows, dtype=np.int64))
        table = table[usable].reset_index(drop=True)
        if "fold" in table:
            table["fold"] = table["fold"].astype("Int64" if table["fold"].isna().any() else np.int64)
        if "spontaneous" in table:
            table["spontaneous"] = table["spontaneous"].astype(np.int64)
        first = [column for column in checks if column in table]
        table = table[first + [column for column in table.columns if column not in first]]
        classes = self._classes(table)
        if not classes or ("label" in table and not (table["label"] != "").any()):
            raise self.error("no row has a label")
        return Corpus(self.name, table, classes, problems, **meta)

    def _row(self, position: int) -> int | None:
        return None if self.rows is None else self.rows[position]

    def _place(self, position: int) -> str:
        return f"row {position if self.rows is None else self.rows[position]}"

    def _without_label(self, position: int) -> bool:
        """Whether the row is kept although it has no label: of which part it is may then be open."""
        return self.unlabelled and not as_name(self.table["label"].iloc[position])

    def _make_ids(self) -> None:
        """Ids from the audio file: its name where names are unique, else its path; else the row."""
        if "audio" in self.table:
            paths = [as_name(path) for path in self.table["audio"]]
            stems = [Path(path).stem for path in paths]
            if "start" in self.table or "end" in self.table:
                spans = self.table[[column for column in ("start", "end") if column in self.table]]
                marks = ["-".join(map(as_name, span)) for span in spans.itertuples(index=False)]
                ids = [f"{path}#{mark}" if path else "" for path, mark in zip(paths, marks, strict=True)]
            else:
                named = [stem for stem in stems if stem]
                ids = stems if len(set(named)) == len(named) else paths
            ids = [item or self._place(position) for position, item in enumerate(ids)]
        else:
            ids = [self._place(position) for position in range(len(self.table))]
        self.table["id"] = pd.Series(ids, dtype=object)

    def _ids(self) -> None:
        ids = [as_name(value) for value in self.table["id"]]
        for position, item in enumerate(ids):
            if not item:
                self.reject(position, "no id")
        self.table["id"] = pd.Series(ids, dtype=object)

    def _duplicates(self) -> None:
        """Among the rows that are usable otherwise, the first of an id stays."""
        seen: dict[str, int] = {}
        for position, item in enumerate(self.table["id"].tolist()):
            if self.reasons[position] is None and seen.setdefault(item, position) != position:
                where = "" if self.rows is None else f"; the first is in row {self.rows[seen[item]]}"
                self.reject(position, f"duplicate id{where}")

    def _audio(self) -> None:
        paths = []
        for position, value in enumerate(self.table["audio"].tolist()):
            given = str(value) if isinstance(value, os.PathLike) else as_name(value)
            if not given:
                if "text" not in self.table or not as_name(self.table["text"].iloc[position]):
                    self.reject(position, "no audio path")  # but what was said can be used by itself
                paths.append("")
                continue
            if given in self.listed:
                paths.append(given)
                continue
            path = os.path.normpath(self.root / Path(given).expanduser())
            if not os.path.isfile(path):  # noqa: PTH113 - a Path per file doubles the time of this loop
                what = "is a folder" if Path(path).is_dir() else "file not found"
                self.reject(position, f"{what}: {path}")
            paths.append(path)
        self.table["audio"] = pd.Series(paths, dtype=object)

    def _floats(self, column: str) -> np.ndarray:
        """A column as float64, NaN where a cell is empty or no number."""
        return pd.to_numeric(self.table[column], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)

    def _times(self) -> None:
        """Bounds in seconds; an empty cell is the beginning or the end of the file."""
        bounds = {}
        for column in ("start", "end"):
            if column not in self.table:
                bounds[column] = np.full(len(self.table), np.nan)
                continue
            seconds = self._floats(column)
            for position in np.flatnonzero(~(np.isfinite(seconds) & (seconds >= 0))).tolist():
                given = as_name(self.table[column].iloc[position])
                if given and not math.isfinite(seconds[position]):
                    self.reject(position, f"{column} {given!r} is not a number of seconds")
                elif seconds[position] < 0:
                    self.reject(position, f"{column} {seconds[position]:g} s is negative")
            bounds[column] = seconds
            self.table[column] = seconds
        starts = np.nan_to_num(bounds["start"], nan=0.0)
        for position in np.flatnonzero(bounds["end"] <= starts).tolist():
            end, start = bounds["end"][position], starts[position]
            self.reject(position, f"end {end:g} s is not after start {start:g} s")

    def _label(self) -> None:
        labels = [as_name(value) for value in self.table["label"]]
        for position, label in enumerate(labels):
            if label:
                self._known(position, [label])
            elif not self.unlabelled:
                self.reject(position, "no label")
        self.table["label"] = pd.Series(labels, dtype=object)

    def _labels(self) -> None:
        cells: list[list[str]] = []
        for position, cell in enumerate(self.table["labels"].tolist()):
            parts = cell if isinstance(cell, (list, tuple, np.ndarray)) else re.split(r"[;|]", as_name(cell))
            labels = list(dict.fromkeys(label for label in map(as_name, parts) if label))
            if not labels and not self.negatives:
                self.reject(position, "no labels; give negatives=true if none of the classes is heard in such items")
            cells.append(labels)
            self._known(position, labels)
        self.table["labels"] = pd.Series(cells, dtype=object)

    def _known(self, position: int, labels: Iterable[str]) -> None:
        if self.known is None:
            return
        for label in labels:
            if label not in self.known:
                self.reject(position, self._unknown(label))

    def _unknown(self, label: str) -> str:
        if label not in self.unknown:
            known = self.classes or ()
            more = f" and {len(known) - _CLASSES_NAMED} more" if len(known) > _CLASSES_NAMED else ""
            names = ", ".join(known[:_CLASSES_NAMED]) + more
            self.unknown[label] = f"unknown label {label!r}.{did_you_mean(label, known)} Known: {names}"
        return self.unknown[label]

    def _classes(self, usable: pd.DataFrame) -> tuple[str, ...]:
        if self.classes is not None:
            return self.classes
        if "label" in usable:
            return sort_labels(label for label in usable["label"] if label)
        return sort_labels(label for labels in usable["labels"] for label in labels)

    def _names(self, column: str) -> None:
        names = [as_name(value) for value in self.table[column]]
        for position, value in enumerate(names):
            if not value:
                self.reject(position, f"no {column}; fill it in, or leave the column out")
        self.table[column] = pd.Series(names, dtype=object)

    def _numbers(self, column: str, *, whole: bool) -> None:
        cells = self.table[column].tolist()
        values = self._floats(column)
        for position, (cell, value) in enumerate(zip(cells, values, strict=True)):
            if not math.isfinite(value) or (whole and not value.is_integer()):
                given = as_name(cell)
                if not given and column == "fold" and self._without_label(position):
                    continue
                kind = "a whole number" if whole else "a number"
                self.reject(position, f"{column} {given!r} is not {kind}" if given else f"no {column}")
        self.table[column] = values

    def _split(self) -> None:
        names = [as_name(value) for value in self.table["split"]]
        for position, given in enumerate(names):
            if not given and self._without_label(position):
                continue
            if given.lower() not in SPLITS:
                what = f"unknown split {given!r}" if given else "no split"
                self.reject(position, f"{what}; use train, validation or test")
        self.table["split"] = pd.Series([SPLITS.get(given.lower(), given) for given in names], dtype=object)

    def _spontaneous(self) -> None:
        bits = {"": 0, "0": 0, "1": 1, "false": 0, "true": 1, "no": 0, "yes": 1}
        values = [as_name(value) for value in self.table["spontaneous"]]
        for position, given in enumerate(values):
            if given.lower() not in bits:
                self.reject(position, f"spontaneous {given!r} is not 0 or 1")
        self.table["spontaneous"] = np.array([bits.get(given.lower(), 0) for given in values], dtype=np.int64)

    def _text(self) -> None:
        self.table["text"] = pd.Series([as_name(value) for value in self.table["text"]], dtype=object)
