"""Looking at a corpus before any work starts: is every recording there, whole, audible, and only once?"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from graphophone import audio
from graphophone.corpora.base import Corpus, Problem

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_LONG = 300.0
"""Seconds: a recording or segment longer than this is read in windows, so that memory stays small."""
_WINDOW = 30.0
_CHUNK = 16  # items that a worker gets at a time: the cost of handing over is small beside that of decoding
_PARTS_IN_A_ROW = 10  # more columns than these fit no screen
_CLASSES_OF_A_PART = 50  # with more classes, those of each part stand in the table of classes
_IN_THIS_PROCESS = 2 * _CHUNK  # so few items are done before other processes have started


@dataclass(frozen=True)
class CheckReport:
    """What :func:`check` found.

    Attributes:
        corpus: The corpus without the items that have an error, with a column ``duration`` (seconds).
        problems: All errors and warnings, those of reading the corpus first.
        durations: Seconds of each item of ``corpus``, float64 ``[items]``, NaN for one of text alone; empty where the
            corpus has no sound.
        rates: Samples per second to number of items.
        channels: Channels to number of items.
        duplicates: Groups of ids whose sound is the same, sample by sample; empty where nothing was decoded.
        gaps: Speaker to the classes of which there is no recording by that speaker.
        notes: What a user should know of the corpus as a whole.
        decoded: Whether the sound was decoded, or the headers read only.
    """

    corpus: Corpus
    problems: tuple[Problem, ...]
    durations: np.ndarray
    rates: dict[int, int]
    channels: dict[int, int]
    duplicates: tuple[tuple[str, ...], ...]
    gaps: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]
    decoded: bool

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Items that cannot be used."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """Items that can be used and should be looked at."""
        return tuple(problem for problem in self.problems if problem.severity == "warning")

    @property
    def ok(self) -> bool:
        """Whether no item had to be left out."""
        return not self.errors

    def to_dict(self) -> dict[str, Any]:
        """All of it, JSON-able."""
        return {
            **self.corpus.summary(),
            "ok": self.ok,
            "decoded": self.decoded,
            "duration": _spread(self.durations),
            "rates": {str(rate): count for rate, count in self.rates.items()},
            "channels": {str(channels): count for channels, count in self.channels.items()},
            "duplicates": [list(group) for group in self.duplicates],
            "gaps": {speaker: list(classes) for speaker, classes in self.gaps.items()},
            "notes": list(self.notes),
            "problems": [problem.to_dict() for problem in self.problems],
        }

    def render(self, console: Console | None = None, *, limit: int = 50) -> None:
        """Print the report.

        Args:
            console: Where to; standard output by default.
            limit: Problems of each severity that are printed; the rest is counted.
        """
        from rich.console import Console
        from rich.text import Text

        console = console or Console()
        corpus, table = self.corpus, self.corpus.table
        facts = [_number(len(corpus), "item")]
        if without := _without_label(corpus):
            facts.append(f"{without:,} of them without label")
        facts.append(_number(len(corpus.classes), "class", "classes"))
        if corpus.speakers is not None:
            facts.append(_number(len(set(corpus.speakers)), "speaker"))
        if "dialogue" in corpus.table:
            facts.append(_number(corpus.table["dialogue"].nunique(), "dialogue"))
        if corpus.hours is not None:
            facts.append(f"{corpus.hours:.2f} h")
        console.print(Text.assemble((corpus.name, "bold"), ": " + ", ".join(facts)))
        if (spread := _spread(self.durations)) is not None:
            console.print(
                f"duration of an item {spread['min']:.2f} to {spread['max']:.2f} s, median {spread['median']:.2f} s; "
                f"{_listing(self.rates, 'Hz', 'Hz')}; {_listing(self.channels, 'channel')}"
            )
        if (labels := corpus.labels_per_item()) is not None:
            console.print(
                f"labels per item {labels['min']} to {labels['max']}, mean {labels['mean']:.2f}; "
                f"{labels['density']:.3f} of the classes; {_number(labels['sets'], 'different set')}"
            )
        for name in ("licence", "url"):
            if getattr(corpus, name):
                console.print(Text(f"{name} {getattr(corpus, name)}"))
        console.print(_class_table(corpus, self.durations))
        for column in ("split", "fold" if "fold" in table else "session"):
            if column in table:
                console.print(_part_table(corpus, column))
        for note in self.notes:
            console.print(Text(f"note: {note}"))
        for kind, problems in (("error", self.errors), ("warning", self.warnings)):
            if problems:
                left_out = " (left out)" if kind == "error" else ""
                console.print(Text(_number(len(problems), kind) + left_out, style="bold"))
                console.print(_problem_table(problems, limit))
        if not self.problems:
            console.print("no problems" + ("" if self.decoded or not len(self.durations) else " in the headers"))


def check(corpus: Corpus, *, decode: bool = True, workers: int | None = None, progress: bool = True) -> CheckReport:
    """Look at every recording of a corpus.

    One bad recording never ends the check: it becomes an error of the report. With two workers or more that
    holds even for one that brings down the process which decodes it. An item whose sound is the same as
    another's, sample by sample, is a warning, as are silence and clipping.

    Args:
        corpus: The corpus.
        decode: Decode everything (about 500 times faster than real time and processor), which finds damage
            within a file, silence, clipping and duplicates; without, only headers are read.
        workers: Processes; with 1 the work is done in this one. Default: one per processor, or 1 for a small
            corpus.
        progress: Whether to show a progress bar on standard error.
    """
    if "audio" not in corpus.table:
        notes = ("no column `audio`: there is no sound to check", *_notes(corpus))
        return CheckReport(corpus, corpus.problems, np.zeros(0), {}, {}, (), _gaps(corpus), notes, decoded=False)
    findings = _examine_all(_items(corpus), decode, workers, progress)
    rows = corpus.table["row"].tolist() if "row" in corpus.table else [None] * len(corpus)
    ids = corpus.table["id"].tolist()
    found: list[Problem] = []
    for item, row, finding in zip(ids, rows, findings, strict=True):
        if finding.error is not None:
            found.append(Problem(item, row, finding.error))
        found += [Problem(item, row, reason, "warning") for reason in finding.warnings]
    good = [i for i, finding in enumerate(findings) if finding.error is None]
    durations = np.array([findings[i].duration for i in good], dtype=np.float64)
    duplicates = _duplicates(findings, good)
    found += _duplicate_problems(corpus, duplicates, rows)
    checked = corpus.select(np.array(good, dtype=np.int64))
    checked = dataclasses.replace(
        checked, table=checked.table.assign(duration=durations), problems=(*corpus.problems, *found)
    )
    return CheckReport(
        corpus=checked,
        problems=checked.problems,
        durations=durations,
        rates=_count(findings[i].rate for i in good if findings[i].rate),
        channels=_count(findings[i].channels for i in good if findings[i].channels),
        duplicates=tuple(tuple(ids[i] for i in group) for group in duplicates),
        gaps=_gaps(checked),
        notes=_notes(checked),
        decoded=decode,
    )


# ------------------------------------------------------------------------------------------- one recording


@dataclass(frozen=True)
class _Item:
    path: str
    start: float | None
    end: float | None


@dataclass(frozen=True)
class _Finding:
    """What is known of one item; ``digest`` is that of its samples."""

    duration: float = 0.0
    rate: int = 0
    channels: int = 0
    digest: bytes | None = None
    error: str | None = None
    warnings: tuple[str, ...] = ()


def _items(corpus: Corpus) -> list[_Item]:
    table = corpus.table
    columns = [table[name].tolist() if name in table else [None] * len(table) for name in ("start", "end")]
    bounds = [[None if value is None or np.isnan(value) else value for value in column] for column in columns]
    return [_Item(*fields) for fields in zip(table["audio"].tolist(), *bounds, strict=True)]


def _examine(item: _Item, decode: bool) -> _Finding:
    """Everything about one recording; never raises."""
    if not item.path:  # an item of text
        return _Finding(duration=math.nan)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            finding = _read(item, decode)
        said = [str(w.message) for w in caught if issubclass(w.category, audio.AudioWarning)]
        return dataclasses.replace(
            finding, warnings=(*finding.warnings, *(text.removeprefix(f"{item.path}: ") for text in said))
        )
    except audio.AudioError as error:
        return _Finding(error=error.text)
    except Exception as error:  # whatever a library makes of a damaged file must not end the check
        return _Finding(error=f"cannot be decoded ({type(error).__name__}: {error}); leave it out")


def _read(item: _Item, decode: bool) -> _Finding:
    header = audio.info(item.path)
    start = item.start or 0.0
    end = header.duration if item.end is None else item.end
    if end - start <= _LONG and decode:
        wave = audio.load(item.path, rate=None, start=item.start, end=item.end)
        silent = "silent" in wave.notes
        digest = hashlib.blake2b(wave.signal.tobytes(), key=b"%d" % wave.rate).digest()
        return _Finding(wave.duration, header.rate, header.channels, None if silent else digest)
    if start >= header.duration or end > header.duration + audio.SHORTEST:
        raise audio.AudioError(
            item.path,
            "bad segment",
            f"segment {start:g} to {end:g} s does not lie in a recording of {header.duration:.3f} s; "
            "correct start and end",
        )
    end = min(end, header.duration)
    if end - start < audio.SHORTEST:
        raise audio.AudioError(
            item.path, "too short", f"{1000 * (end - start):.1f} ms are less than one frame; leave it out"
        )
    finding = _Finding(end - start, header.rate, header.channels)
    return _read_long(item, start, end, finding) if decode else finding


def _read_long(item: _Item, start: float, end: float, finding: _Finding) -> _Finding:
    """Decode a long recording piece by piece; it is silent only if every piece is."""
    digest = hashlib.blake2b(key=b"%d" % finding.rate)
    silent, odd = True, {}
    edges = [*np.arange(start, end, _WINDOW).tolist(), end]
    for first, last in pairwise(edges):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", audio.AudioWarning)
            wave = audio.load(item.path, rate=None, start=first, end=last, min_duration=0.0)
        digest.update(wave.signal.tobytes())
        silent &= "silent" in wave.notes
        odd.update({note: first for note in wave.notes if note != "silent" and note not in odd})
    reasons = [f"{note}, first after {second:.0f} s; check the recording" for note, second in odd.items()]
    if silent:
        reasons.append("silent from beginning to end; check the recording")
    return dataclasses.replace(finding, digest=None if silent else digest.digest(), warnings=tuple(reasons))


# ------------------------------------------------------------------------------------------- all recordings


def _processors() -> int:
    """Processors that this process may use."""
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except AttributeError:  # not on macOS and Windows
        return max(1, os.cpu_count() or 1)


def _examine_all(items: Sequence[_Item], decode: bool, workers: int | None, progress: bool) -> list[_Finding]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if workers is None:
        workers = 1 if len(items) <= _IN_THIS_PROCESS else _processors()
    columns = (TextColumn("checking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    findings: dict[int, _Finding] = {}
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not progress) as bar:
        task = bar.add_task("checking", total=len(items))
        for index, finding in _run(items, decode, workers):
            findings[index] = finding
            bar.advance(task)
    return [findings[index] for index in range(len(items))]


def _run(items: Sequence[_Item], decode: bool, workers: int) -> Iterator[tuple[int, _Finding]]:
    """Findings with the index of their item, in the order in which they are ready."""
    todo = [list(range(i, min(i + _CHUNK, len(items)))) for i in range(0, len(items), _CHUNK)]
    if workers <= 1:
        yield from ((i, _examine(items[i], decode)) for chunk in todo for i in chunk)
        return
    while todo:
        under_way: dict[int, list[int]] = {}
        try:
            yield from _parallel(items, todo, decode, workers, under_way)
            return
        except BrokenProcessPool:  # a process died: of what was under way, find out which item it was
            todo = [chunk for number, chunk in enumerate(todo) if number not in under_way]
        for index in (i for chunk in under_way.values() for i in chunk):
            yield index, _examine_alone(items[index], decode)


def _parallel(
    items: Sequence[_Item], todo: Sequence[list[int]], decode: bool, workers: int, under_way: dict[int, list[int]]
) -> Iterator[tuple[int, _Finding]]:
    """Examine chunks in processes.

    ``under_way`` gets every chunk that was handed out; the items of one that is back are taken out of it.
    """
    from joblib import Parallel, delayed

    def tasks() -> Iterator[object]:
        for number, chunk in enumerate(todo):
            under_way[number] = chunk
            yield delayed(_examine_chunk)(number, [items[i] for i in chunk], decode)

    pool = Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1, inner_max_num_threads=1)
    for number, findings in pool(tasks()):
        chunk = under_way[number]
        under_way[number] = []
        yield from zip(chunk, findings, strict=True)


def _examine_chunk(number: int, items: Sequence[_Item], decode: bool) -> tuple[int, list[_Finding]]:
    return number, [_examine(item, decode) for item in items]


def _examine_alone(item: _Item, decode: bool) -> _Finding:
    """One item in a process in which no other is at risk."""
    try:
        return next(finding for _, finding in _parallel([item], [[0]], decode, 2, {}))
    except BrokenProcessPool:
        return _Finding(error="its decoding brings the process down; leave it out or convert it to 16-bit WAV")


# ------------------------------------------------------------------------------------------- the whole corpus


def _duplicates(findings: Sequence[_Finding], good: Iterable[int]) -> list[list[int]]:
    """Groups of items whose samples are the same, in order of their first item."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for index in good:
        digest = findings[index].digest
        if digest is not None:
            groups[digest].append(index)
    return [group for group in groups.values() if len(group) > 1]


def _duplicate_problems(corpus: Corpus, groups: Iterable[list[int]], rows: Sequence[int | None]) -> list[Problem]:
    table = corpus.table
    problems = []
    for first, *others in groups:
        at = "" if rows[first] is None else f" (row {rows[first]})"
        for other in others:
            reason = f"the same sound as {table['id'].iloc[first]!r}{at}"
            for column in ("label", "labels", "speaker", "split", "fold", "session"):
                if column in table:
                    there, here = (_cell(table[column].iloc[row]) for row in (first, other))
                    if there != here:
                        reason += f"; {column} {there} there, {here} here"
            problems.append(Problem(table["id"].iloc[other], rows[other], reason, "warning"))
    return problems


def _cell(value: object) -> str:
    """A cell in words; an item without label may lack its value."""
    return "none" if value is pd.NA or value == "" else str(value)


def _without_label(corpus: Corpus) -> int:
    """Items without label."""
    return len(corpus) - int(corpus.labelled.sum())


def _gaps(corpus: Corpus) -> dict[str, tuple[str, ...]]:
    """Speaker to the classes without a recording by that speaker; speakers who have all are left out."""
    if corpus.speakers is None:
        return {}
    corpus = corpus.select(corpus.labelled)  # what items without label are of, nobody knows
    members = corpus.memberships
    has = {
        str(speaker): members[rows].sum(axis=0) > 0
        for speaker, rows in corpus.table.groupby("speaker", sort=True).indices.items()
    }
    return {
        speaker: tuple(label for label, there in zip(corpus.classes, classes, strict=True) if not there)
        for speaker, classes in has.items()
        if not classes.all()
    }


def _notes(corpus: Corpus) -> tuple[str, ...]:
    table, notes = corpus.table, []
    counts = corpus.class_counts()
    if len(corpus.classes) < 2:
        notes.append("fewer than two classes: there is nothing to tell apart")
    for label, count in zip(corpus.classes, counts.tolist(), strict=True):
        if count < 2:
            notes.append(f"class {label!r} has {'one item' if count else 'no item'}")
    if without := _without_label(corpus):
        notes.append(
            f"{without:,} of {len(corpus):,} items have no label: models whose nodes are recordings learn from them "
            "too, others cannot be trained on this corpus before unlabelled=true is left out"
        )
    if "audio" in table and (silent := int((table["audio"] == "").sum())):
        notes.append(f"{_number(silent, 'item')} with a text and no recording: models of sound alone leave such out")
    if corpus.speakers is not None:
        lacking = len(_gaps(corpus))
        if lacking:
            everyone = table.loc[corpus.labelled, "speaker"].nunique()
            notes.append(f"of {lacking} of the {_number(everyone, 'speaker')} at least one class is not recorded")
    elif "source" not in table and not corpus.multi_label:  # where clips are from is known, and tags are not of voices
        notes.append(
            "no column `speaker` or `source`: results will not tell how well the sounds of new people, places or "
            "recordings are recognised"
        )
    for whole in ("speaker", "source"):
        for column in ("split", "fold", "session"):
            if whole in table and column in table:
                several = table[column].replace("", None).groupby(table[whole]).nunique()
                shared = several[several > 1].index.tolist()
                if shared:
                    names = ", ".join(map(str, shared[:5])) + (", ..." if len(shared) > 5 else "")
                    notes.append(f"in more than one {column}: {_number(len(shared), whole)} ({names})")
    return tuple(notes)


def _count(values: Iterable[int]) -> dict[int, int]:
    return dict(sorted(Counter(values).items()))


def _spread(durations: np.ndarray) -> dict[str, float] | None:
    durations = durations[~np.isnan(durations)]
    if not len(durations):
        return None
    return {
        "total_hours": float(durations.sum() / 3600),
        "min": float(durations.min()),
        "median": float(np.median(durations)),
        "max": float(durations.max()),
    }


# ------------------------------------------------------------------------------------------- tables to look at


def _number(count: int, one: str, many: str | None = None) -> str:
    """A number with its noun."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _listing(counts: dict[int, int], one: str, many: str | None = None) -> str:
    return ", ".join(f"{_number(value, one, many)} ({count:,} x)" for value, count in counts.items())


def _class_table(corpus: Corpus, durations: np.ndarray) -> Table:
    from rich.table import Table

    labels = corpus.memberships
    members = labels.tocsc()
    many = len(corpus.classes) > _CLASSES_OF_A_PART
    parts = _parts(corpus, "split") if many and "split" in corpus.table else {}
    counts = {part: labels[chosen].sum(axis=0) for part, chosen in parts.items()}
    table = Table("class", box=None)
    for column in ("items", "%", "minutes", "speakers", *counts):
        table.add_column(column, justify="right")
    for index, label in enumerate(corpus.classes):
        chosen = members.indices[members.indptr[index] : members.indptr[index + 1]]
        table.add_row(
            label,
            f"{len(chosen):,}",
            f"{100 * len(chosen) / max(1, len(corpus)):.1f}",
            f"{np.nansum(durations[chosen]) / 60:.1f}" if len(durations) else "",
            f"{corpus.table['speaker'].iloc[chosen].nunique():,}" if corpus.speakers is not None else "",
            *(f"{of_part[index]:,}" for of_part in counts.values()),
        )
    if _without_label(corpus):
        unknown = ~corpus.labelled
        table.add_row(
            "(no label)",
            f"{unknown.sum():,}",
            f"{100 * unknown.mean():.1f}",
            f"{np.nansum(durations[unknown]) / 60:.1f}" if len(durations) else "",
            f"{corpus.table['speaker'][unknown].nunique():,}" if corpus.speakers is not None else "",
            *(f"{(unknown & chosen).sum():,}" for chosen in parts.values()),
        )
    return table


def _parts(corpus: Corpus, column: str) -> dict[str, np.ndarray]:
    """Mask of the items of each split, fold or session; those without label that are in none are in none."""
    values = corpus.table[column].replace("", None)
    return {
        str(value): np.asarray((values == value).fillna(False), dtype=bool)
        for value in sorted(values.dropna().unique().tolist())
    }


def _part_table(corpus: Corpus, column: str) -> Table:
    """Items, speakers and classes of each split, fold or session; without the classes where either are many."""
    from rich.table import Table

    parts = _parts(corpus, column)
    rows = {"items": [int(chosen.sum()) for chosen in parts.values()]}
    if corpus.speakers is not None:
        rows["speakers"] = [corpus.table["speaker"][chosen].nunique() for chosen in parts.values()]
    if len(parts) <= _PARTS_IN_A_ROW:
        if len(corpus.classes) <= _CLASSES_OF_A_PART:
            labels = corpus.memberships
            counts = np.array([labels[chosen].sum(axis=0) for chosen in parts.values()])
            rows.update(dict(zip(corpus.classes, counts.T.tolist(), strict=True)))
        names, cells = [column, *parts], [[name, *row] for name, row in rows.items()]
    else:
        names, cells = [column, *rows], [list(row) for row in zip(parts, *rows.values(), strict=True)]
    table = Table(names[0], box=None)
    for name in names[1:]:
        table.add_column(name, justify="right")
    for row in cells:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    return table


def _problem_table(problems: Sequence[Problem], limit: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None)
    table.add_column("row", justify="right")
    table.add_column("item", overflow="fold")
    table.add_column("reason", overflow="fold")
    for problem in problems[:limit]:
        table.add_row("" if problem.row is None else str(problem.row), Text(problem.item), Text(problem.reason))
    if len(problems) > limit:
        table.add_row("", "...", f"{len(problems) - limit:,} more")
    return table
