"""Conversations of your own: a table of turns, or JSON, with what was said and where it is heard."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from graphophone.corpora.base import Corpus, CorpusError, Problem, as_name, read_text
from graphophone.corpora.table import find_table, read_any, rename_columns
from graphophone.registry import did_you_mean

COLUMNS = (
    "id",
    "dialogue",
    "position",
    "speaker",
    "text",
    "audio",
    "recording",
    "start",
    "end",
    "label",
    "split",
    "fold",
    "session",
)
"""What a turn may say of itself; other columns are carried along."""
UNKNOWN = "unknown"
"""The speaker of turns of which it is not said who speaks, where it is said of others."""

_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:[.,]\d+)?)")
_JSON = ".json"
_LIKE = 0.75  # share of letters in common, above which a name is taken for a slip: "txet", not "emotion" for "position"


def load(
    root: Path,
    *,
    file: str | None = None,
    audio_root: Path | None = None,
    name: str | None = None,
    classes: Sequence[str] | str | None = None,
    unlabelled: bool = True,
    delimiter: str | None = None,
    encoding: str | None = None,
    id: str | None = None,
    dialogue: str | None = None,
    position: str | None = None,
    speaker: str | None = None,
    text: str | None = None,
    audio: str | None = None,
    recording: str | None = None,
    start: str | None = None,
    end: str | None = None,
    label: str | None = None,
    split: str | None = None,
    fold: str | None = None,
    session: str | None = None,
) -> Corpus:
    """Conversations of your own: turns in CSV, TSV, Parquet or JSON.

    See :func:`read_turns` for what a file may look like. Where a recording is not there, its turns are known by their
    texts, if they have any, and a warning says so.

    Args:
        root: The file, or a folder that holds it.
        file: Name of the file within ``root``; needed only where the folder holds more than one.
        audio_root: Folder that relative paths of sound start from; by default that of the file.
        name: Name of the corpus; by default that of the file.
        classes: Class names in order; by default the labels that occur, sorted.
        unlabelled: Whether turns without label are kept: what was said in them is known to the turns around them.
        delimiter: What separates the columns of a text table; by default told from its header.
        encoding: Of a text file; by default what its byte order mark says, else UTF-8, else Windows-1252.
        id: Name of the file's column (or key) that holds the ids, where it is not ``id``. The same for each of
            ``dialogue``, ``position``, ``speaker``, ``text``, ``audio``, ``recording``, ``start``, ``end``, ``label``,
            ``split``, ``fold`` and ``session``.
        dialogue: See ``id``.
        position: See ``id``.
        speaker: See ``id``.
        text: See ``id``.
        audio: See ``id``.
        recording: See ``id``.
        start: See ``id``.
        end: See ``id``.
        label: See ``id``.
        split: See ``id``.
        fold: See ``id``.
        session: See ``id``.

    Raises:
        CorpusError: If there is no such file or column, it holds no turns, or none of them has a label.
    """
    given = locals()
    path = find_table(Path(root).expanduser().absolute(), file, (_JSON,))
    columns = {column: given[column] for column in COLUMNS if given[column] is not None}
    turns = read_turns(path, columns=columns, audio_root=audio_root, delimiter=delimiter, encoding=encoding)
    if "label" not in turns or not (turns["label"] != "").any():
        raise CorpusError(
            f"{path}: no turn has a label, so there is nothing to learn; name the column with label=COLUMN, or have a "
            "trained model answer with `graphophone predict MODEL --table FILE`"
        )
    problems = [*turns.attrs.pop("problems"), *_without_sound(turns)]
    return Corpus.from_table(
        turns, name=name or path.stem, classes=classes, problems=problems, unlabelled=unlabelled, root=path.parent
    )


def read_turns(
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    audio_root: str | Path | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
) -> pd.DataFrame:
    """The turns of the conversations of a file, in the order in which they stand there.

    A table (CSV, TSV, Parquet) has a row per turn. JSON is a list of turns; or ``{"turns": [...]}``; or a list of such
    dialogues, each with its ``id``; or an object from ids to dialogues or lists of turns. What else a dialogue says of
    itself (``recording``, ``split``, ...) holds for each of its turns that does not say it.

    Every turn needs a ``text``, or sound: a file of its own (``audio``), or its part of the ``recording`` of the
    dialogue from ``start`` to ``end``. Times are seconds, or ``h:mm:ss.mmm`` (``mm:ss`` will do); a turn of a recording
    without ``end`` ends where the next one starts. Without ``dialogue``, every recording is a dialogue, or all turns
    are one where there are no recordings. Without ``position``, turns are in the order of ``start`` where they are
    parts of one recording (or have times and no sound), else in that of the file.

    Args:
        path: The file.
        columns: Our names of columns (or keys) to those of the file, where they differ.
        audio_root: Folder that relative paths of sound start from; by default that of the file.
        delimiter: What separates the columns of a text table; by default told from its header.
        encoding: Of a text file; by default told from it.

    Returns:
        A row per usable turn, with the columns ``id`` (str; made from dialogue and position where the file has none, or
        the same one twice), ``dialogue`` (str), ``position`` (float, from 1 where the file does not say), ``speaker``
        (str, :data:`UNKNOWN` for none; only if the file has it), ``text`` (str, empty for none), ``audio`` (absolute
        path, empty for none; whether the file is there is not looked at), ``start`` and ``end`` (seconds, NaN for
        none), ``row`` (line of a text table, else number of the turn from 0), ``label`` (str, empty for none; only if
        the file has it) and whatever else there is. ``attrs["problems"]`` holds a :class:`Problem` for every turn left
        out, and warnings.

    Raises:
        CorpusError: If the file is not such a file, or none of its turns is usable.
    """
    path = Path(path).expanduser().absolute()
    if not path.is_file():
        raise CorpusError(f"{path}: no such file of turns; give a CSV, TSV, Parquet or JSON file")
    if path.suffix.lower() == _JSON:
        frame, rows, problems = _read_json(path, encoding, columns or {})
    else:
        frame, rows, problems = read_any(path, delimiter, encoding)
        frame = rename_columns(frame, dict(columns or {}), path)
        problems += [Problem(f"column {key}", None, reason, "warning") for key, reason in _misnamed(frame.columns)]
    return _Turns(frame.reset_index(drop=True), rows, path, Path(audio_root or path.parent)).read(problems)


def parse_time(value: Any) -> float:
    """Seconds of a number, ``"12.5"``, ``"1:02"`` (minutes and seconds) or ``"0:01:02.5"``; NaN for an empty cell.

    Raises:
        ValueError: If it is none of these.
    """
    words = as_name(value)
    if not words:
        return math.nan
    if isinstance(value, (int, float)) and 0 <= value < math.inf:
        return float(value)
    match = _TIME.fullmatch(words)
    if match is None:
        raise ValueError(f"{words!r} is not a time; use seconds or h:mm:ss.mmm")
    hours, minutes, seconds = match.groups()
    rest = float(seconds.replace(",", "."))
    if minutes is not None and (rest >= 60 or (hours is not None and int(minutes) >= 60)):
        raise ValueError(f"{words!r} is not a time; minutes and seconds after a colon are below 60")
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + rest


def _misnamed(keys: Iterable[Any]) -> list[tuple[str, str]]:
    """Names that nobody knows, where a known name that is not there is like them, with a reason."""
    names = [str(key) for key in keys]
    absent = [column for column in COLUMNS if column not in names]
    near = {name: get_close_matches(name, absent, n=1, cutoff=_LIKE) for name in names if name not in COLUMNS}
    return [(name, f"unknown key {name!r}; did you mean {like[0]!r}?") for name, like in near.items() if like]


def _read_json(
    path: Path, encoding: str | None, columns: Mapping[str, str]
) -> tuple[pd.DataFrame, list[int], list[Problem]]:
    """Turns of JSON as a table, their numbers from 0, and what is wrong with some."""
    try:
        content = json.loads(read_text(path, encoding))
    except ValueError as error:
        raise CorpusError(f"{path}: not JSON ({error}); correct it") from error
    theirs = {column: name for name, column in columns.items()}
    records, rows, problems = [], [], []
    for row, turn in enumerate(_turns_of(path, content)):
        if not isinstance(turn, dict):
            problems.append(Problem(f"row {row}", row, f"a turn is an object with text or audio, not {turn!r:.40}"))
            continue
        record = {theirs.get(key, key): value for key, value in turn.items()}
        item = as_name(record.get("id")) or f"row {row}"
        problems += [Problem(item, row, reason, "warning") for _, reason in _misnamed(record)]
        records.append(record)
        rows.append(row)
    if not records:
        more = f"; the first problem: {problems[0]}" if problems else ""
        raise CorpusError(f"{path}: no turns{more}; give a list of turns, or {{'turns': [...]}}")
    frame = pd.DataFrame.from_records(records).astype(object)
    for ours, name in columns.items():
        if ours not in frame:
            raise CorpusError(f"{path}: no turn has a key {name!r}.{did_you_mean(name, frame.columns)}")
    return frame, rows, problems


def _turns_of(path: Path, content: Any) -> list[Any]:
    """The turns of JSON one after the other, each with what its dialogue says of all of them."""
    if isinstance(content, dict) and "turns" in content:
        dialogues: list[Any] = [content]
    elif isinstance(content, dict):
        dialogues = []
        for key, value in content.items():
            if not isinstance(value, (dict, list)):
                raise CorpusError(f"{path}: {key!r} is neither a dialogue nor a list of turns; use 'turns': [...]")
            dialogues.append({"id": key, **(value if isinstance(value, dict) else {"turns": value})})
    elif isinstance(content, list) and any(isinstance(entry, dict) and "turns" in entry for entry in content):
        dialogues = content
    elif isinstance(content, list):
        return content
    else:
        raise CorpusError(f"{path}: neither a list of turns nor dialogues; use {{'turns': [...]}}")
    turns: list[Any] = []
    for number, dialogue in enumerate(dialogues):
        said = dialogue.get("turns") if isinstance(dialogue, dict) else None
        if not isinstance(said, list):
            raise CorpusError(f"{path}: dialogue {number} (from 0) has no list 'turns'")
        of_all = {key: value for key, value in dialogue.items() if key not in ("id", "turns")}
        if "id" in dialogue or len(dialogues) > 1:
            of_all["dialogue"] = as_name(dialogue.get("id")) or str(number)
        turns += [{**of_all, **turn} if isinstance(turn, dict) else turn for turn in said]
    return turns


class _Turns:
    """One pass over the turns of a file; every check marks the rows that it leaves out, in ``reasons``."""

    def __init__(self, frame: pd.DataFrame, rows: Sequence[int], path: Path, folder: Path) -> None:
        twice = frame.columns[frame.columns.duplicated()]
        if len(twice):
            raise CorpusError(f"{path}: the column {str(twice[0])!r} occurs more than once")
        self.frame = frame
        self.rows = list(rows)
        self.path = path
        self.folder = folder.expanduser().absolute()
        self.reasons: list[str | None] = [None] * len(frame)
        self.warnings: dict[int, str] = {}

    def reject(self, place: int, reason: str) -> None:
        """Name the first reason only."""
        if self.reasons[place] is None:
            self.reasons[place] = reason

    def read(self, earlier: Sequence[Problem]) -> pd.DataFrame:
        """The usable turns; see :func:`read_turns`."""
        if not {"text", "audio", "recording"} & set(self.frame.columns):
            raise CorpusError(
                f"{self.path}: the turns have neither text nor audio nor recording, but "
                f"{', '.join(map(str, self.frame.columns))}; call them so, or name them as options of the corpus "
                "(text=COLUMN)"
            )
        for column in ("speaker", "text", "label", "audio", "recording"):
            if column in self.frame or column in ("text", "audio"):
                self.frame[column] = self._names(column)
        recorded = self.frame.pop("recording") if "recording" in self.frame else self._names("recording")
        self._dialogues(recorded)
        self._times()
        self._sound(recorded)
        self._speakers()
        self._positions(recorded)
        self._ids()
        items = self.frame["id"].tolist()
        found = [
            Problem(item, row, reason)
            for item, row, reason in zip(items, self.rows, self.reasons, strict=True)
            if reason is not None
        ]
        found += [
            Problem(items[place], self.rows[place], reason, "warning")
            for place, reason in self.warnings.items()
            if self.reasons[place] is None
        ]
        usable = [reason is None for reason in self.reasons]
        if not any(usable):
            raise CorpusError(f"{self.path}: none of {len(usable)} turns is usable; the first: {found[0]}")
        turns = self.frame.assign(row=np.array(self.rows, dtype=np.int64))[usable].reset_index(drop=True)
        first = [column for column in COLUMNS if column in turns]
        turns = turns[first + [column for column in turns.columns if column not in first]]
        turns.attrs["problems"] = (*earlier, *found)
        return turns

    def _names(self, column: str) -> pd.Series:
        """A column as names, empty where there is none."""
        cells = self.frame[column].tolist() if column in self.frame else [""] * len(self.frame)
        return pd.Series([as_name(cell) for cell in cells], index=self.frame.index, dtype=object)

    def _dialogues(self, recorded: pd.Series) -> None:
        if "dialogue" in self.frame:
            self.frame["dialogue"] = self._names("dialogue")
        elif (recorded != "").any():
            names = recorded.map(lambda name: Path(name).stem)
            several = len(set(names) - {""}) > 1
            self.frame["dialogue"] = names if several else names.max()  # a turn without sound is of that one, too
        else:
            self.frame["dialogue"] = self.path.stem
        for place in np.flatnonzero(self.frame["dialogue"] == "").tolist():
            self.reject(place, "no dialogue; say which conversation the turn is of, in a column dialogue")

    def _times(self) -> None:
        for column in ("start", "end"):
            cells = self.frame[column].tolist() if column in self.frame else [None] * len(self.frame)
            seconds = np.full(len(cells), np.nan)
            for place, cell in enumerate(cells):
                try:
                    seconds[place] = parse_time(cell)
                except ValueError as error:
                    self._no_part(place, f"{column} {error}")
            self.frame[column] = seconds
        starts = self.frame["start"].fillna(0.0)
        for place in np.flatnonzero(self.frame["end"] <= starts).tolist():
            end, start = self.frame["end"].iloc[place], starts.iloc[place]
            self._no_part(place, f"end {end:g} s is not after start {start:g} s; correct them")

    def _no_part(self, place: int, reason: str) -> None:
        """A turn whose part of the sound is not known goes by its text, if it has one."""
        if not self.frame["text"].iloc[place]:
            self.reject(place, reason)
        else:
            self.warnings.setdefault(place, f"only its text is used: {reason}")

    def _sound(self, recorded: pd.Series) -> None:
        """Paths of sound; where it is a recording of the dialogue, the turn must say which part of it is its own."""
        without = list(self.warnings)
        self.frame.loc[without, ["start", "end"]] = np.nan
        self.frame.loc[without, "audio"] = ""
        recorded = recorded.where(~recorded.index.isin(without), "")
        part = (self.frame["audio"] == "") & (recorded != "")
        unknown = part & self.frame["start"].isna()
        for place in np.flatnonzero(unknown).tolist():
            if self.frame["text"].iloc[place]:
                self.warnings[place] = "no start in the recording: only its text is used; give start and end"
            else:
                self.reject(place, "no start in the recording, and no text; give start and end")
        part &= ~unknown
        for _, turns in self.frame[part].groupby([self.frame["dialogue"], recorded], sort=False):
            starts = np.append(np.unique(turns["start"]), np.nan)
            following = starts[np.searchsorted(starts[:-1], turns["start"], side="right")]
            self.frame.loc[turns.index, "end"] = turns["end"].where(turns["end"].notna(), following)
        sound = self.frame["audio"].where(~part, recorded)
        self.frame["audio"] = [
            os.path.normpath(self.folder / Path(name).expanduser()) if name else "" for name in sound
        ]
        for place in np.flatnonzero((self.frame["audio"] == "") & (self.frame["text"] == "")).tolist():
            self.reject(place, "neither text nor sound; give text, audio, or recording with start and end")

    def _speakers(self) -> None:
        if "speaker" not in self.frame:
            return
        for place in np.flatnonzero(self.frame["speaker"] == "").tolist():
            self.frame.loc[place, "speaker"] = UNKNOWN
            self.warnings.setdefault(place, f"no speaker: it is called {UNKNOWN!r}; fill it in")

    def _positions(self, recorded: pd.Series) -> None:
        """Places in the dialogues; of two turns with one place the first stays."""
        dialogue = self.frame["dialogue"]
        if "position" not in self.frame:
            order = self.frame["start"].copy()
            sound = recorded.where(recorded != "", self.frame["audio"])
            for _, turns in self.frame.groupby(dialogue, sort=False):
                # Times of different files are not times of one clock.
                heard = sound[turns.index]
                if turns["start"].isna().any() or (heard != heard.iloc[0]).any():
                    order[turns.index] = 0.0
            ranked = pd.DataFrame({"dialogue": dialogue, "order": order}).sort_values("order", kind="stable")
            self.frame["position"] = ranked.groupby("dialogue", sort=False).cumcount().add(1).astype(np.float64)
            return
        given = self._names("position")
        self.frame["position"] = pd.to_numeric(given, errors="coerce").astype(np.float64)
        seen: dict[tuple[str, float], int] = {}
        for place, (name, position) in enumerate(zip(dialogue, self.frame["position"], strict=True)):
            if not math.isfinite(position):
                what = f"position {given.iloc[place]!r} is not a number" if given.iloc[place] else "no position"
                self.reject(place, f"{what}; number the turns, or leave the column out")
            elif self.reasons[place] is None and seen.setdefault((name, position), place) != place:
                first = self.rows[seen[name, position]]
                self.reject(place, f"position {position:g} of dialogue {name!r} is that of row {first} too; correct it")

    def _ids(self) -> None:
        ids = self._names("id")
        places = [
            f"{dialogue}_{position:g}" if math.isfinite(position) else f"row {row}"
            for dialogue, position, row in zip(self.frame["dialogue"], self.frame["position"], self.rows, strict=True)
        ]
        if ids.duplicated().any():  # none at all, or numbered within each dialogue
            ids = pd.Series(places, index=ids.index, dtype=object)
        self.frame["id"] = ids.where(ids != "", places)


def _without_sound(turns: pd.DataFrame) -> list[Problem]:
    """A warning for every turn whose sound is not there and whose text stands for it; in place, its path is emptied."""
    missing = {name for name in turns["audio"].unique() if name and not Path(name).is_file()}
    gone = turns["audio"].isin(missing) & (turns["text"] != "")
    problems = [
        Problem(item, row, f"file not found: {name}; only its text is used", "warning")
        for item, row, name in zip(turns["id"][gone], turns["row"][gone], turns["audio"][gone], strict=True)
    ]
    turns.loc[gone, "audio"] = ""
    return problems
