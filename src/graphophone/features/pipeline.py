"""The feature pipeline that a model carries, and the features of a whole corpus."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from graphophone.features import extraction
from graphophone.features.base import Extractor, FeatureError, create_extractor, stable_hash
from graphophone.features.cache import CacheError, CacheWarning, FeatureCache, FileStamp, file_stamp, map_array

if TYPE_CHECKING:
    from graphophone.corpora.base import Corpus, Problem

DecimateMode = Literal["mean", "pick"]

# Seconds between two notes of which files have been read: what a kill loses is read again.
_REMEMBER_SECONDS = 5.0


def decimate(frames: np.ndarray, factor: int, mode: DecimateMode = "mean") -> np.ndarray:
    """Fewer frames by an integer factor.

    Args:
        frames: `[frames, dims]`.
        factor: Frames that become one.
        mode: ``"mean"`` averages each block of ``factor`` frames, the last over as many as it has; ``"pick"``
            keeps the first of each block. A feature that is 0 where it does not apply (F0 of unvoiced frames)
            is averaged as it is.

    Returns:
        `[ceil(frames / factor), dims]` float32.
    """
    if factor == 1:
        return np.asarray(frames, dtype=np.float32)
    if mode == "pick":
        return np.ascontiguousarray(frames[::factor], dtype=np.float32)
    starts = np.arange(0, len(frames), factor)
    sums = np.add.reduceat(frames, starts, axis=0, dtype=np.float64)
    counts = np.diff(starts, append=len(frames))
    return (sums / counts[:, None]).astype(np.float32)


def average_windows(frames: np.ndarray, window: float, phase: float = 0.0) -> np.ndarray:
    """Means over consecutive windows whose length and beginning need not be whole frames.

    This is what a random tempo and a random grid of a training utterance are made of: a window of 8.8 frames in place
    of 8 gives the frames of a recording spoken 1.1 times as fast. Frames count with the share that a window covers.
    Cost: O(frames x dims), from one cumulative sum.

    Args:
        frames: `[frames, dims]`.
        window: Frames that become one, above 0.
        phase: Frames before the first window, in [0, window).

    Returns:
        `[about (frames - phase) / window, dims]` float32; a last window of less than half its length is dropped,
        but one window always remains.
    """
    count = len(frames)
    edges = np.arange(phase, count + 1e-9, window)
    if len(edges) and count - edges[-1] >= window / 2:
        edges = np.append(edges, count)
    if len(edges) < 2:
        edges = np.array([0.0, count])
    sums = np.zeros((count + 1, frames.shape[1]))
    np.cumsum(frames, axis=0, dtype=np.float64, out=sums[1:])
    whole = np.floor(edges).astype(np.int64)
    share = (edges - whole)[:, None]
    at = sums[whole] * (1 - share) + sums[np.minimum(whole + 1, count)] * share
    return (np.diff(at, axis=0) / np.diff(edges)[:, None]).astype(np.float32)


class FeaturePipeline:
    """From a signal to the matrix a model sees: extractor, decimation, metadata columns, a fixed number of rows.

    An utterance-level extractor gives a matrix of one row, `[1, dims]`: a graph of one node.

    Args:
        extractor: Computes the acoustic features.
        decimate: Frames that become one (:func:`decimate`); the hop grows with it.
        decimate_mode: ``"mean"`` or ``"pick"``.
        relative: Append each acoustic column once more, less its mean over the utterance: how the voice moves
            beside where it is. A recording's own mean needs no other recording and no speaker.
        metadata: Numeric corpus columns to append to every frame, for example ``("spontaneous",)``. Where an
            item has no value (no such column, empty, NaN) it is 0.
        frames: Rows that every matrix has, for networks that read a spectrogram as a picture: longer ones keep
            their first rows, shorter ones get rows of ``pad_value`` at their end. 0 leaves the number as it is.
        pad_value: What these rows hold in the acoustic columns (metadata columns go on), before standardisation.
            0 on log-mel energies, as published audio models pad, is not silence but lies about one deviation above
            the mean of AudioSet; silence is ``-15.94``, the floor of the filter bank.

    Attributes:
        columns: Names of the columns, acoustic ones first.

    Raises:
        FeatureError: If the options make no sense.

    Shapes:
        - **signal:** `[samples]`
        - **output:** `[ceil(frames / decimate), acoustic_dims + len(metadata)]` float32 (with ``frames`` exactly
          so many rows), where ``acoustic_dims`` is the extractor's number of columns, twice that with ``relative``
    """

    def __init__(
        self,
        extractor: Extractor,
        *,
        decimate: int = 1,
        decimate_mode: DecimateMode = "mean",
        relative: bool = False,
        metadata: Sequence[str] = (),
        frames: int = 0,
        pad_value: float = 0.0,
    ) -> None:
        if isinstance(metadata, str):
            metadata = (metadata,)
        if not isinstance(decimate, int) or isinstance(decimate, bool) or decimate < 1:
            raise FeatureError(f"decimate: expected a whole number of frames from 1 on, got {decimate!r}")
        if decimate_mode not in ("mean", "pick"):
            raise FeatureError(f"decimate_mode: expected 'mean' or 'pick', got {decimate_mode!r}")
        if extractor.level != "frame" and decimate != 1:
            raise FeatureError(
                f"decimate: {extractor.name} gives one vector per utterance, so it must be 1, got {decimate}"
            )
        if len(set(metadata)) != len(metadata):
            raise FeatureError(f"metadata: a column is named twice in {list(metadata)}")
        if not isinstance(frames, int) or isinstance(frames, bool) or frames < 0:
            raise FeatureError(f"frames: expected a whole number, 0 for as many as there are, got {frames!r}")
        if extractor.level != "frame" and frames:
            raise FeatureError(
                f"frames: {extractor.name} gives one vector per utterance, so it must be 0, got {frames}"
            )
        if not math.isfinite(pad_value):
            raise FeatureError(f"pad_value: expected a finite number, got {pad_value!r}")
        self.extractor = extractor
        self.decimate = decimate
        self.decimate_mode: DecimateMode = decimate_mode
        self.relative = bool(relative)
        self.metadata = tuple(metadata)
        self.frames = frames
        self.pad_value = float(pad_value)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, acoustic ones first."""
        moving = tuple(f"{name}_relative" for name in self.extractor.columns) if self.relative else ()
        return self.extractor.columns + moving + self.metadata

    @property
    def acoustic_dims(self) -> int:
        """Number of columns that come from the signal; the metadata columns follow them."""
        return self.extractor.dims * (2 if self.relative else 1)

    @property
    def dims(self) -> int:
        """Number of columns."""
        return self.acoustic_dims + len(self.metadata)

    @property
    def hop(self) -> float | None:
        """Seconds between two rows; None if there is one row per utterance."""
        return None if self.extractor.hop is None else self.extractor.hop * self.decimate

    @property
    def rate(self) -> int:
        """Sampling rate in hertz that the features are computed at."""
        return self.extractor.rate

    def __call__(
        self,
        signal: np.ndarray | None,
        rate: int,
        metadata: Mapping[str, float] | None = None,
        text: str | None = None,
    ) -> np.ndarray:
        """Features of one signal, or of one utterance with what is said in it.

        Args:
            signal: `[samples]` float in [-1, 1]; None where there is no recording.
            rate: Its sampling rate in hertz.
            metadata: Values of the metadata columns; absent, None and NaN are 0.
            text: What is said, for extractors that read it.

        Returns:
            `[frames, dims]` float32.

        Raises:
            FeatureError: If the signal cannot be used, or a feature is not a finite number.
        """
        values = metadata or {}
        row = np.array([_number(values.get(name)) for name in self.metadata], dtype=np.float32)
        return self.finish(self.extractor.item(signal, rate, text), row)

    def finish(
        self,
        raw: np.ndarray,
        metadata: np.ndarray,
        *,
        window: float | None = None,
        phase: float = 0.0,
        fit: bool = True,
    ) -> np.ndarray:
        """What follows extraction: decimation, relative and metadata columns, the fixed number of rows.

        Args:
            raw: The extractor's output, `[frames, extractor.dims]` or `[extractor.dims]`.
            metadata: `[len(self.metadata)]`.
            window: Decimate by :func:`average_windows` with this length in place of :attr:`decimate`.
            phase: Where its first window begins.
            fit: Whether to cut or pad to :attr:`frames`.

        Returns:
            `[frames, dims]` float32; with nothing to do a view of ``raw``.
        """
        frames = np.atleast_2d(raw)
        if window is None:
            frames = decimate(frames, self.decimate, self.decimate_mode)
        else:
            frames = average_windows(frames, window, phase)
        if not self.metadata and not self.relative:
            return self.fit(frames) if fit else frames
        result = np.empty((len(frames), self.dims), dtype=np.float32)
        result[:, : self.extractor.dims] = frames
        if self.relative:
            result[:, self.extractor.dims : self.acoustic_dims] = frames - frames.mean(axis=0)
        result[:, self.acoustic_dims :] = metadata
        return self.fit(result) if fit else result

    def fit(self, frames: np.ndarray) -> np.ndarray:
        """Cut or pad to :attr:`frames` rows; with 0 nothing changes.

        Args:
            frames: `[rows, dims]`, not standardised.

        Returns:
            `[self.frames, dims]` float32; a view where nothing is appended.
        """
        if self.frames == 0 or len(frames) >= self.frames:
            return frames[: self.frames or None]
        result = np.empty((self.frames, frames.shape[1]), dtype=np.float32)
        result[: len(frames)] = frames
        result[len(frames) :, : self.acoustic_dims] = self.pad_value
        result[len(frames) :, self.acoustic_dims :] = frames[-1, self.acoustic_dims :]
        return result

    @property
    def options(self) -> dict[str, Any]:
        """The constructor's arguments but the extractor, JSON-able."""
        return {
            "decimate": self.decimate,
            "decimate_mode": self.decimate_mode,
            "relative": self.relative,
            "metadata": list(self.metadata),
            "frames": self.frames,
            "pad_value": self.pad_value,
        }

    def to_dict(self) -> dict[str, Any]:
        """JSON-able description, from which :meth:`from_dict` makes an equal pipeline."""
        return {
            "extractor": {"name": self.extractor.name, "config": self.extractor.config},
            **self.options,
        }

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> FeaturePipeline:
        """The pipeline that :meth:`to_dict` described.

        Raises:
            FeatureError: If a key is missing or unknown.
            UnknownNameError: If the extractor, or one of its options, is unknown.
        """
        options = dict(description)
        try:
            extractor = dict(options.pop("extractor"))
            name, config = extractor.pop("name"), extractor.pop("config", {})
        except (KeyError, TypeError, ValueError) as error:
            raise FeatureError(
                "feature pipeline: expected {'extractor': {'name': ..., 'config': {...}}, ...}, got "
                f"{dict(description)!r}"
            ) from error
        known = ("decimate", "decimate_mode", "relative", "metadata", "frames", "pad_value")
        unknown = sorted({*extractor, *(options.keys() - set(known))})
        if unknown:
            raise FeatureError(
                f"feature pipeline: unknown key {unknown[0]!r}; known: extractor (name, config), {', '.join(known)}"
            )
        return cls(create_extractor(name, **config), **options)

    @property
    def fingerprint(self) -> str:
        """Stable hash of the extractor's fingerprint and of everything after it."""
        return stable_hash({**self.to_dict(), "extractor": self.extractor.fingerprint})

    def __repr__(self) -> str:
        return (
            f"FeaturePipeline({self.extractor!r}, decimate={self.decimate}, "
            f"decimate_mode={self.decimate_mode!r}, relative={self.relative}, "
            f"metadata={self.metadata!r}, frames={self.frames}, pad_value={self.pad_value})"
        )

    def extract(
        self,
        corpus: Corpus,
        *,
        cache: FeatureCache | None,
        workers: int | None = None,
        progress: bool = True,
        max_duration: float | None = None,
    ) -> FeatureSet:
        """Features of every item of a corpus.

        What the cache has is taken from it (and its checksum verified); the rest is computed in worker
        processes, each item stored as soon as it is ready. So an interrupted or killed call loses only the
        items under way, and the same call again goes on from there. The cache holds the extractor's output:
        another decimation or other metadata columns need no new extraction.

        Memory is bounded by a few items per worker with a cache; without one all features are held.

        Args:
            corpus: Its `audio`, `start`, `end` and metadata columns are used.
            cache: Where features are kept; None keeps them in memory for this call only.
            workers: Processes; with 1 the work is done in this process. Default: one per processor, fewer for
                a few minutes of audio.
            progress: Show a progress bar (only on a terminal).
            max_duration: Longest recording that is taken, in seconds; longer ones are failures, known from
                the header and not read. None takes all.

        Returns:
            The features, without the items that failed, which are listed in
            :attr:`FeatureSet.failures`.

        Raises:
            MissingDependencyError: If the extractor needs a package that is not installed.
            CacheError: If the cache cannot be written.
            FeatureError: If a metadata column holds something that is not a number.
        """
        from graphophone.corpora.base import Problem

        began = time.perf_counter()
        if workers is not None and workers < 1:
            raise FeatureError(f"workers: expected a number from 1 on, got {workers}")
        self.extractor.prepare()
        table = corpus.table
        ids = [str(name) for name in table["id"]]
        metadata = _metadata_columns(corpus, self.metadata)
        outcomes: dict[int, extraction.Outcome] = {}
        damaged = 0
        with (
            _Progress(self.extractor.name, len(ids), shown=progress) as bar,
            contextlib.closing(self.outcomes(corpus, cache, workers, max_duration)) as stream,
        ):
            for outcome in stream:
                outcomes[outcome.index] = outcome
                bar.advance(outcome)
                if outcome.damage:
                    damaged += 1
                    warnings.warn(outcome.damage, CacheWarning, stacklevel=2)
        wall = time.perf_counter() - began
        numbers = table["row"].tolist() if "row" in table else [None] * len(ids)
        good = [outcomes[i] for i in sorted(outcomes) if not outcomes[i].error]
        rows = np.array([outcome.index for outcome in good], dtype=np.int64)
        seconds = math.fsum(outcome.duration for outcome in good)
        return FeatureSet(
            self,
            good,
            ids=[ids[i] for i in rows],
            rows=rows,
            metadata=metadata[rows],
            failures=tuple(
                Problem(ids[i], numbers[i], outcomes[i].error) for i in sorted(outcomes) if outcomes[i].error
            ),
            notes=tuple(
                Problem(ids[outcome.index], numbers[outcome.index], note, severity="warning")
                for outcome in good
                for note in outcome.notes
            ),
            stats=ExtractionStats(
                items=len(good),
                cached=sum(outcome.cached for outcome in good),
                damaged=damaged,
                seconds_audio=seconds,
                seconds_extracted=math.fsum(outcome.duration for outcome in good if not outcome.cached),
                seconds_wall=wall,
                x_real_time=seconds / wall,
            ),
        )

    def outcomes(
        self, corpus: Corpus, cache: FeatureCache | None, workers: int | None, max_duration: float | None
    ) -> Generator[extraction.Outcome, None, None]:
        """One outcome per item of the corpus: first what the cache has, then the rest as it gets ready."""
        own = self.extractor.outcomes(corpus, cache, workers, max_duration)
        if own is not None:
            yield from own
            return
        items = []
        for item in audio_items(corpus):
            if item.path:
                items.append(item)
            else:
                yield extraction.Outcome(item.index, error="it has no audio file")
        stamps = _stamps(items)
        digests: dict[str, extraction.Digest] = {}
        if cache is not None:
            cache.clean()
            digests = {path: (stamps[path], digest) for path, digest in cache.known_digests(stamps).items()}
        job = extraction.Job(self.extractor, cache, digests, max_duration)
        missing = []
        damages = {}
        for item, outcome in zip(items, _cached(job, items), strict=True):
            if outcome.entry is not None and (max_duration is None or outcome.duration <= max_duration):
                yield outcome
            else:
                missing.append(item)
                damages[item.index] = outcome.damage
        learned: dict[str, extraction.Digest] = {}
        remembered = time.perf_counter()
        processes = min(workers or extraction.sensible_workers(missing, stamps), len(missing))
        try:
            for outcome in extraction.run(job, missing, stamps, processes):
                if outcome.digest is not None:
                    learned[outcome.digest[0]] = outcome.digest[1]
                if cache is not None and time.perf_counter() - remembered > _REMEMBER_SECONDS:
                    cache.remember_digests(learned)
                    learned.clear()
                    remembered = time.perf_counter()
                damage = outcome.damage or damages[outcome.index]
                yield dataclasses.replace(outcome, damage=damage) if damage else outcome
        finally:
            if cache is not None:
                cache.remember_digests(learned)


@dataclass(frozen=True)
class ExtractionStats:
    """What one call of :meth:`FeaturePipeline.extract` did.

    Attributes:
        items: Items with features.
        cached: Of these, found in the cache.
        damaged: Cache entries found damaged, and computed anew.
        seconds_audio: Length of all their audio.
        seconds_extracted: Length of the audio whose features were computed in this call.
        seconds_wall: Time taken.
        x_real_time: Seconds of audio per second taken (all items, cached or not).
    """

    items: int
    cached: int
    damaged: int
    seconds_audio: float
    seconds_extracted: float
    seconds_wall: float
    x_real_time: float


class FeatureSet(Sequence[np.ndarray]):
    """Features of the items of a corpus, in its order; opened when asked for.

    Item `i` is `[frames, dims]` float32. With a cache, and neither decimation nor metadata columns, it is a
    read-only memory map. No file stays open, and the object is small and can be sent to other processes (the
    workers of a data loader).

    Attributes:
        pipeline: What made them.
        ids: Ids of the items, without those that failed.
        rows: `[items]` int64, their rows in the corpus table.
        lengths: `[items]` int64, rows of each matrix.
        unpadded_lengths: `[items]` int64, rows that each matrix would have without a fixed number of them.
        failures: Items without features, each with the reason.
        notes: Remarks (severity ``"warning"``) on items with features: silent, clipped.
        stats: Counts and times of the extraction.
    """

    def __init__(
        self,
        pipeline: FeaturePipeline,
        outcomes: Sequence[extraction.Outcome],
        *,
        ids: list[str],
        rows: np.ndarray,
        metadata: np.ndarray,
        failures: tuple[Problem, ...],
        notes: tuple[Problem, ...],
        stats: ExtractionStats,
    ) -> None:
        self.pipeline = pipeline
        self.ids = ids
        self.rows = rows
        self.failures = failures
        self.notes = notes
        self.stats = stats
        self._metadata = metadata
        self._places = [_place(outcome) for outcome in outcomes]
        shapes = [place.shape if isinstance(place, np.ndarray) else place[2] for place in self._places]
        raw = np.array([shape[0] if len(shape) == 2 else 1 for shape in shapes], dtype=np.int64)
        self.unpadded_lengths: np.ndarray = -(-raw // pipeline.decimate)
        self.lengths = np.full_like(raw, pipeline.frames) if pipeline.frames else self.unpadded_lengths

    @property
    def arrays(self) -> Sequence[np.ndarray]:
        """The matrices, one per item of :attr:`ids` (this object itself)."""
        return self

    @property
    def dims(self) -> int:
        """Number of columns."""
        return self.pipeline.dims

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Any) -> Any:
        """Features `[frames, dims]` of item ``index``; a list of them for a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self.pipeline.finish(self.raw(index), self._metadata[index])

    def raw(self, index: int) -> np.ndarray:
        """The extractor's output for item ``index``, before decimation and metadata columns."""
        place = self._places[index]
        if isinstance(place, np.ndarray):
            return place
        try:
            return map_array(*place)
        except (OSError, ValueError) as error:
            raise CacheError(
                f"{self.ids[index]}: its features are no longer in the cache ({place[0]}); run this again"
            ) from error

    def unpadded(self, index: int) -> np.ndarray:
        """Features `[unpadded_lengths[index], dims]` of item ``index``, neither padded nor cut.

        What standardisation is learned from: rows of padding say nothing of the sound.
        """
        return self.pipeline.finish(self.raw(index), self._metadata[index], fit=False)

    def metadata(self, index: int) -> np.ndarray:
        """Values of the metadata columns of item ``index``, `[len(pipeline.metadata)]` float32."""
        return self._metadata[index]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"FeatureSet({len(self)} items, {self.dims} features, {len(self.failures)} failures)"


def _place(outcome: extraction.Outcome) -> np.ndarray | tuple[str, int, tuple[int, ...]]:
    """Where the features are: here, or in a file from a byte on."""
    if outcome.entry is not None:
        return outcome.entry.path, outcome.entry.offset, outcome.entry.shape
    if outcome.array is None:
        raise ValueError("an outcome without an error has features")
    return outcome.array


def _number(value: Any) -> float:
    number = 0.0 if value is None else float(value)
    return 0.0 if np.isnan(number) else number


def _metadata_columns(corpus: Corpus, names: Sequence[str]) -> np.ndarray:
    """`[items, len(names)]` float32; absent columns and empty fields are 0."""
    import pandas as pd

    result = np.zeros((len(corpus.table), len(names)), dtype=np.float32)
    for i, name in enumerate(names):
        if name in corpus.table:
            try:
                values = pd.to_numeric(corpus.table[name]).to_numpy(dtype=np.float64, na_value=np.nan)
            except (TypeError, ValueError) as error:
                raise FeatureError(
                    f"metadata column {name!r} of corpus {corpus.name} is not numeric ({error}); encode it"
                ) from error
            result[:, i] = np.nan_to_num(values, nan=0.0)
    return result


def audio_items(corpus: Corpus) -> list[extraction.Item]:
    """What to read for each item of a corpus, in its order; the path is empty where it has no recording."""
    table = corpus.table
    count = len(table)

    def seconds(name: str) -> list[float | None]:
        if name not in table:
            return [None] * count
        values = table[name].to_numpy(dtype=np.float64, na_value=np.nan)
        return [None if np.isnan(value) else float(value) for value in values]

    audio = table["audio"].tolist() if "audio" in table else [None] * count
    paths = [str(path) if isinstance(path, str) and path else "" for path in audio]
    return [
        extraction.Item(i, path, start, end)
        for i, (path, start, end) in enumerate(zip(paths, seconds("start"), seconds("end"), strict=True))
    ]


def _stamps(items: Sequence[extraction.Item]) -> dict[str, FileStamp]:
    """Size and time of modification of the files that exist; whoever reads another says what is wrong."""
    stamps = {}
    for path in dict.fromkeys(item.path for item in items):
        with contextlib.suppress(OSError):
            stamps[path] = file_stamp(path)
    return stamps


def _cached(job: extraction.Job, items: Sequence[extraction.Item]) -> Iterator[extraction.Outcome]:
    """For each item, in order, what the cache has (an outcome without an entry: nothing)."""
    cache = job.cache
    if cache is None:
        yield from (extraction.Outcome(item.index) for item in items)
        return

    def look(item: extraction.Item) -> extraction.Outcome:
        known = job.digests.get(item.path)
        if known is None:
            return extraction.Outcome(item.index)
        entry, damage = cache.look_up(cache.path(job.extractor, known[1], item.start, item.end))
        if entry is None:
            return extraction.Outcome(item.index, damage=damage)
        return extraction.from_entry(item.index, entry)

    # Reading and checksums let other threads run; blocks keep the queue short on a corpus of millions.
    with ThreadPoolExecutor(max_workers=4) as pool:
        for begin in range(0, len(items), 1024):
            yield from pool.map(look, items[begin : begin + 1024])


class _Progress:
    """A rich progress bar, or nothing where nobody would see it."""

    def __init__(self, name: str, total: int, *, shown: bool) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        console = Console(stderr=True)
        self._audio = 0.0
        self._began = time.perf_counter()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not (shown and console.is_terminal),
        )
        self._task = self._bar.add_task(f"features: {name}", total=total, speed="")

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, outcome: extraction.Outcome) -> None:
        self._audio += outcome.duration
        speed = self._audio / max(time.perf_counter() - self._began, 1e-3)
        # Texts and given vectors have no duration.
        self._bar.update(self._task, advance=1, speed=f"{speed:,.0f} x real time" if self._audio else "")
