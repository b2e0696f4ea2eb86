"""Features of many recordings: the part that runs in worker processes, and its supervision.

The workers are joblib's (loky): fresh processes, so that threads of PyTorch or of a BLAS in the parent cannot
deadlock them; which do not run the user's script again, so that it needs no ``if __name__ == "__main__"``;
and whose sudden death is noticed. They leave when their parent is killed.
"""

from __future__ import annotations

import functools
import math
import os
import pickle
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from graphophone.errors import GraphophoneError, MissingDependencyError
from graphophone.features.base import Extractor, FeatureError
from graphophone.features.cache import (
    CacheError,
    Entry,
    FeatureCache,
    FileStamp,
    content_hash,
    file_stamp,
    map_array,
)

#: Size and time of modification of a file, and the hash of its content.
Digest = tuple[FileStamp, str]

#: A chunk of work: enough to hide what handing it over costs, little enough for a lively progress bar.
_CHUNK_SECONDS = 60.0
_CHUNK_ITEMS = 32
# What a byte of audio is worth in seconds of 16-bit mono at 16 kHz; only to make chunks of similar size.
_SECONDS_PER_BYTE = 1 / 32000
# Idle workers leave after this long; their memory is wanted for training.
_IDLE_SECONDS = 10
# Starting a process takes about as long as extracting features from so many seconds of audio.
_WORTH_A_PROCESS = 60.0
# So many deaths without any success, and it is not the recordings.
_HOPELESS = 5


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
        digest: `(path, stamp and content hash)` of the file, if it was read to learn the hash.
        damage: What was wrong with the entry that had to be replaced.
    """

    index: int
    error: str = ""
    entry: Entry | None = None
    array: np.ndarray | None = None
    duration: float = 0.0
    notes: tuple[str, ...] = ()
    cached: bool = False
    digest: tuple[str, Digest] | None = None
    damage: str = ""

    def features(self) -> np.ndarray:
        """The extractor's output, wherever it lies."""
        if self.entry is not None:
            return map_array(self.entry.path, self.entry.offset, self.entry.shape)
        if self.array is None:
            raise ValueError("an outcome without an error has features")
        return self.array


@dataclass
class Job:
    """What every chunk of a call shares.

    Attributes:
        extractor: Computes the features.
        cache: Keeps them; None: they are returned.
        digests: Content hashes known beforehand; only those of the chunk are sent along.
        max_duration: Longest recording that is taken, in seconds; None takes all.
    """

    extractor: Extractor
    cache: FeatureCache | None
    digests: Mapping[str, Digest] = field(default_factory=dict)
    max_duration: float | None = None


def from_entry(index: int, entry: Entry, digest: tuple[str, Digest] | None = None) -> Outcome:
    """The outcome of an item found in the cache."""
    notes = tuple(filter(None, entry.metadata["notes"].split(",")))
    duration = float(entry.metadata["duration"])
    return Outcome(index, entry=entry, duration=duration, notes=notes, cached=True, digest=digest)


def work(job: Job, items: Iterable[Item]) -> Iterator[Outcome]:
    """Features of items, one after the other (in a worker, or without any in the calling process)."""
    hashed: dict[str, Digest] = {}
    for item in items:
        try:
            outcome = _one(job, item, hashed)
        except (MissingDependencyError, CacheError):  # would befall every item
            raise
        except (GraphophoneError, OSError) as error:
            outcome = Outcome(item.index, error=_line(error))
        except Exception as error:  # one recording's failure, of whatever kind, must not end the others'
            outcome = Outcome(item.index, error=_line(error, item.path))
        yield outcome


def _line(error: BaseException, path: str | None = None) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if path is None else f"{path}: {type(error).__name__}: {text}"


def _one(job: Job, item: Item, hashed: dict[str, Digest]) -> Outcome:
    from graphophone import audio

    place, known, learned, damage = None, None, None, ""
    if job.cache is not None:
        known = hashed.get(item.path) or job.digests.get(item.path)
        if known is None or known[0] != _stamp(item.path):
            known = hashed[item.path] = _digest(item.path)
            learned = (item.path, known)
        place = job.cache.path(job.extractor, known[1], item.start, item.end)
        # Another process may have been here since the call began.
        entry, damage = job.cache.look_up(place)
        if entry is not None:
            kept = from_entry(item.index, entry, learned)
            if job.max_duration is None or kept.duration <= job.max_duration:
                return kept  # one that is too long goes on to be refused below
    with warnings.catch_warnings():
        # Silence and clipping come back as notes; a line on standard error per file would drown them.
        warnings.simplefilter("ignore", audio.AudioWarning)
        wave = audio.load(
            item.path, rate=job.extractor.rate, start=item.start, end=item.end, max_duration=job.max_duration
        )
    try:
        features = job.extractor(wave.signal, wave.rate)
    except MissingDependencyError:
        raise
    except GraphophoneError as error:
        raise FeatureError(f"{item.path}: {error}") from error
    if job.cache is None or place is None or known is None:
        return Outcome(item.index, array=features, duration=wave.duration, notes=wave.notes)
    if _stamp(item.path) != known[0]:
        # Otherwise the features of the new content would be kept under the hash of the old.
        raise FeatureError(f"{item.path}: it was changed while it was read; run this again")
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
        digest=learned,
        damage=damage,
    )


def _digest(path: str) -> Digest:
    """Stamp, taken before reading, and content hash of an audio file.

    Raises:
        AudioError: If it cannot be read.
    """
    from graphophone import audio

    if not Path(path).is_file():  # a pipe would be read for ever
        audio.info(path)
    try:
        return file_stamp(path), content_hash(path)
    except OSError:
        audio.info(path)  # says what is wrong in the words of every other reading error
        raise


def _stamp(path: str) -> FileStamp | None:
    try:
        return file_stamp(path)
    except OSError:
        return None


def chunks(items: Sequence[Item], stamps: Mapping[str, FileStamp], workers: int) -> list[list[Item]]:
    """Items in order, in chunks of about a minute of audio; of less where that leaves workers without any."""
    costs = [_cost(item, stamps) for item in items]
    limit = min(_CHUNK_SECONDS, sum(costs) / (4 * workers))
    result: list[list[Item]] = []
    seconds = math.inf
    for item, cost in zip(items, costs, strict=True):
        if seconds + cost > limit or len(result[-1]) >= _CHUNK_ITEMS:
            result.append([])
            seconds = 0.0
        result[-1].append(item)
        seconds += cost
    return result


def _cost(item: Item, stamps: Mapping[str, FileStamp]) -> float:
    """Seconds of audio, by the length of the segment, or guessed from the size of the file."""
    if item.end is not None:
        return max(item.end - (item.start or 0.0), 0.0)
    return stamps.get(item.path, (0, 0))[0] * _SECONDS_PER_BYTE


def sensible_workers(items: Sequence[Item], stamps: Mapping[str, FileStamp]) -> int:
    """One process per processor; fewer for so little audio that starting them takes longer than the work."""
    seconds = sum(_cost(item, stamps) for item in items)
    return max(1, min(_processors(), round(seconds / _WORTH_A_PROCESS)))


def run(job: Job, items: Sequence[Item], stamps: Mapping[str, FileStamp], workers: int) -> Iterator[Outcome]:
    """Outcomes of all items, in the order in which they are ready.

    A worker process that dies (a crash inside a native library, the kernel short of memory) costs the one
    recording that killed it: what was under way is tried again, one by one.

    Args:
        job: What to do.
        items: With what.
        stamps: Size and time of modification of their files, as far as known.
        workers: Processes; with 1 the work is done in this one.

    Raises:
        CacheError: If the cache cannot be written.
        FeatureError: If no worker process survives, or the extractor cannot be sent to one.
    """
    if workers <= 1:
        yield from work(job, items)
        return
    todo = chunks(items, stamps, workers)
    lived, died = False, 0
    while todo:
        started: dict[int, list[Item]] = {}
        try:
            for outcome in _parallel(job, todo, started, workers):
                lived = True
                yield outcome
            return
        except BrokenProcessPool:
            todo = todo[len(started) :]
        for item in [item for number in sorted(started) for item in started[number]]:
            try:
                (outcome,) = _parallel(job, [[item]], {}, 2)
                lived = True
            except BrokenProcessPool:
                died += 1
                if not lived and died >= _HOPELESS:
                    raise FeatureError(
                        f"{job.extractor.name}: every worker process died; try workers=1 to see why"
                    ) from None
                outcome = Outcome(
                    item.index,
                    error=f"{item.path}: the process died extracting its features (out of memory, or a crash "
                    "in a library); leave it out or convert it to 16-bit WAV",
                )
            yield outcome


def _parallel(job: Job, todo: Sequence[list[Item]], started: dict[int, list[Item]], workers: int) -> Iterator[Outcome]:
    """Run chunks in processes; ``started`` tells at any time which were handed out and are not back.

    Raises:
        BrokenProcessPool: If a process died.
    """
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    parent = os.getpid()

    def tasks() -> Iterator[object]:
        for number, chunk in enumerate(todo):
            started[number] = chunk
            digests = {item.path: job.digests[item.path] for item in chunk if item.path in job.digests}
            yield delayed(_in_worker)(parent, number, replace(job, digests=digests), chunk)

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
    try:
        for number, outcomes in pool(tasks()):
            started[number] = []
            yield from outcomes
    except TerminatedWorkerError:
        raise
    except (BrokenProcessPool, pickle.PicklingError) as error:
        raise FeatureError(
            f"{job.extractor.name}: the extractor cannot be sent to worker processes ({_line(error)}); define it "
            "in a module that can be imported, or use workers=1"
        ) from error


def _in_worker(parent: int, number: int, job: Job, items: Sequence[Item]) -> tuple[int, list[Outcome]]:
    _leave_with(parent)
    return number, list(work(job, items))


@functools.cache
def _leave_with(parent: int) -> None:
    """End this worker when its parent is gone (killed): nobody would take what it makes."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    if os.getppid() == parent:  # not on Windows, where a worker leaves once it has been idle for a while
        threading.Thread(target=watch, daemon=True).start()


def _processors() -> int:
    """Processors that this process may use."""
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except AttributeError:  # not on macOS and Windows
        return max(1, os.cpu_count() or 1)
