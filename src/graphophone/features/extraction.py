"""Features of many recordings: the part that runs in worker processes, and its supervision.

The workers are joblib's (loky): fresh processes, so that threads of PyTorch or of a BLAS in the parent cannot
deadlock them; which do not run the user's script again, so that it needs no ``if __name__ == "__main__"``;
and whose sudden death is noticed. They leave by themselves a few seconds after a killed parent.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field

import numpy as np

from graphophone.errors import GraphophoneError, MissingDependencyError
from graphophone.features.base import Extractor
from graphophone.features.cache import CacheError, Entry, FeatureCache, FileStamp, content_hash, file_stamp

#: A chunk of work: enough to hide what handing it over costs, little enough for a lively progress bar.
_CHUNK_SECONDS = 60.0
_CHUNK_ITEMS = 32
# What a byte of audio is worth in seconds of 16-bit mono at 16 kHz; only to make chunks of similar size.
_SECONDS_PER_BYTE = 1 / 32000
_IDLE_SECONDS = 10


@dataclass(frozen=True)
class Item:
    """A recording, or a segment of one, whose features are wanted.

    Attributes:
        index: Its place among the items of the call.
        path: The audio file.
        start: Begin in seconds; None: the begin of the file.
        end: End in seconds; None: the end of the file.
    """

    index: int
    path: str
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of an :class:`Item`; ``error`` is empty where there are features.

    Attributes:
        index: The item's.
        error: Why there are none.
        entry: Where they lie in the cache.
        array: The features themselves, without a cache.
        duration: Seconds of audio.
        notes: What is odd about the recording: ``"silent"``, ``"clipped"``.
        cached: They were there already.
        digest: `(path, stamp, content hash)` of the file, if it was read to learn the hash.
        damage: What was wrong with the entry that had to be replaced.
    """

    index: int
    error: str = ""
    entry: Entry | None = None
    array: np.ndarray | None = None
    duration: float = 0.0
    notes: tuple[str, ...] = ()
    cached: bool = False
    digest: tuple[str, FileStamp, str] | None = None
    damage: str = ""


@dataclass
class Job:
    """What every chunk of a call shares.

    Attributes:
        extractor: Computes the features.
        cache: Keeps them; None: they are returned.
        digests: Content hashes known beforehand, by path; only those of the chunk are sent along.
    """

    extractor: Extractor
    cache: FeatureCache | None
    digests: dict[str, str] = field(default_factory=dict)


def from_entry(index: int, entry: Entry, digest: tuple[str, FileStamp, str] | None = None) -> Outcome:
    """The outcome of an item found in the cache."""
    notes = tuple(filter(None, entry.metadata["notes"].split(",")))
    duration = float(entry.metadata["duration"])
    return Outcome(index, entry=entry, duration=duration, notes=notes, cached=True, digest=digest)


def work(job: Job, items: Sequence[Item]) -> list[Outcome]:
    """Features of a few items, one after the other (runs in a worker)."""
    outcomes = []
    hashed: dict[str, tuple[str, FileStamp, str]] = {}
    for item in items:
        try:
            outcomes.append(_one(job, item, hashed))
        except MissingDependencyError:
            raise
        except CacheError:
            raise
        except (GraphophoneError, OSError) as error:
            outcomes.append(Outcome(item.index, error=_line(error)))
        except Exception as error:  # one recording's failure, of whatever kind, must not end the others'
            outcomes.append(Outcome(item.index, error=_line(error, item.path)))
    return outcomes


def _line(error: BaseException, path: str | None = None) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if path is None else f"{path}: {type(error).__name__}: {text}"


def _one(job: Job, item: Item, hashed: dict[str, tuple[str, FileStamp, str]]) -> Outcome:
    from graphophone import audio

    place, damage = None, ""
    if job.cache is not None:
        digest = job.digests.get(item.path)
        if digest is None:
            if item.path not in hashed:
                stamp = _existing_stamp(item.path)
                digest = content_hash(item.path)
                if file_stamp(item.path) == stamp:
                    hashed[item.path] = (item.path, stamp, digest)
            else:
                digest = hashed[item.path][2]
        place = job.cache.path(job.extractor, digest, item.start, item.end)
        # Another process may have been here since the call began.
        entry, damage = job.cache.look_up(place)
        if entry is not None:
            return from_entry(item.index, entry, hashed.get(item.path))
    with warnings.catch_warnings():
        # Silence and clipping come back as notes; a line on standard error per file would drown them.
        warnings.simplefilter("ignore", audio.AudioWarning)
        wave = audio.load(item.path, rate=job.extractor.rate, start=item.start, end=item.end)
    try:
        features = job.extractor(wave.signal, wave.rate)
    except MissingDependencyError:
        raise
    except GraphophoneError as error:
        raise GraphophoneError(f"{item.path}: {error}") from error
    if job.cache is None or place is None:
        return Outcome(item.index, array=features, duration=wave.duration, notes=wave.notes)
    metadata = {
        "extractor": job.extractor.name,
        "fingerprint": job.extractor.fingerprint,
        "duration": repr(float(wave.duration)),
        "notes": ",".join(wave.notes),
    }
    entry = job.cache.store(place, features, metadata)
    return Outcome(
        item.index,
        entry=entry,
        duration=wave.duration,
        notes=wave.notes,
        digest=hashed.get(item.path),
        damage=damage,
    )


def _existing_stamp(path: str) -> FileStamp:
    from graphophone import audio

    try:
        return file_stamp(path)
    except FileNotFoundError:
        audio.info(path)  # says what is missing in the words of every other reading error
        raise


def chunks(items: Iterable[Item], stamps: dict[str, FileStamp]) -> list[list[Item]]:
    """Items in order, in chunks of about a minute of audio (by segment length, else by file size)."""
    result: list[list[Item]] = []
    seconds = math.inf
    for item in items:
        if item.end is not None:
            cost = item.end - (item.start or 0.0)
        else:
            cost = stamps.get(item.path, (0, 0))[0] * _SECONDS_PER_BYTE
        if seconds + cost > _CHUNK_SECONDS or len(result[-1]) >= _CHUNK_ITEMS:
            result.append([])
            seconds = 0.0
        result[-1].append(item)
        seconds += cost
    return result


def run(job: Job, items: Sequence[Item], stamps: dict[str, FileStamp], workers: int) -> Iterator[Outcome]:
    """Outcomes of all items, in the order in which they are ready.

    A worker process that dies (a crash inside a native library, the kernel short of memory) costs the one
    recording that killed it: what was under way is tried again, one by one.

    Args:
        job: What to do.
        items: With what.
        stamps: Size and time of modification of their files, as far as known.
        workers: Processes; with 1 the work is done in this one.
    """
    todo = chunks(items, stamps)
    if workers <= 1:
        for chunk in todo:
            for item in chunk:
                yield from work(job, [item])
        return
    while todo:
        started: dict[int, list[Item]] = {}
        try:
            yield from _parallel(job, todo, started, workers)
            return
        except BrokenProcessPool:
            todo = todo[len(started) :]
        suspects = [item for number in sorted(started) for item in started[number]]
        for item in suspects:
            yield from _alone(job, item)


def _parallel(
    job: Job, todo: Sequence[list[Item]], started: dict[int, list[Item]], workers: int
) -> Iterator[Outcome]:
    """Run chunks in processes; ``started`` tells at any time which were handed out and are not back."""
    from joblib import Parallel, delayed  # type: ignore[import-untyped]

    def tasks() -> Iterator[object]:
        for number, chunk in enumerate(todo):
            started[number] = chunk
            yield delayed(_numbered)(number, _share(job, chunk), chunk)

    pool = Parallel(
        n_jobs=workers,
        backend="loky",
        return_as="generator_unordered",
        batch_size=1,
        pre_dispatch="2 * n_jobs",
        max_nbytes=None,
        idle_worker_timeout=_IDLE_SECONDS,
        inner_max_num_threads=1,
    )
    for number, outcomes in pool(tasks()):
        started[number] = []
        yield from outcomes


def _alone(job: Job, item: Item) -> list[Outcome]:
    """One item with no other at risk."""
    started: dict[int, list[Item]] = {}
    try:
        return list(_parallel(job, [[item]], started, workers=2))
    except BrokenProcessPool:
        reason = "the process died while extracting its features (out of memory, or a crash in a library)"
        return [Outcome(item.index, error=f"{item.path}: {reason}; leave it out or convert it to 16-bit WAV")]


def _share(job: Job, chunk: Sequence[Item]) -> Job:
    digests = {item.path: job.digests[item.path] for item in chunk if item.path in job.digests}
    return Job(job.extractor, job.cache, digests)


def _numbered(number: int, job: Job, items: Sequence[Item]) -> tuple[int, list[Outcome]]:
    return number, work(job, items)


def default_workers() -> int:
    """Processors that this process may use."""
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except AttributeError:  # not on macOS and Windows
        return max(1, os.cpu_count() or 1)
