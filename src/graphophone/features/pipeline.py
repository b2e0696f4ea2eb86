"""The feature pipeline that a model carries, and the features of a whole corpus."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from graphophone.features import extraction
from graphophone.features.base import Extractor, FeatureError, create_extractor, stable_hash
from graphophone.features.cache import CacheWarning, FeatureCache, FileStamp, file_stamp, map_array

if TYPE_CHECKING:
    from graphophone.corpora.base import Corpus, Problem

DecimateMode = Literal["mean", "pick"]


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


class FeaturePipeline:
    """From a signal to the matrix a model sees: extractor, decimation, metadata columns.

    An utterance-level extractor gives a matrix of one row, `[1, dims]`: a graph of one node.

    Args:
        extractor: Computes the acoustic features.
        decimate: Frames that become one (:func:`decimate`); the hop grows with it.
        decimate_mode: ``"mean"`` or ``"pick"``.
        metadata: Numeric corpus columns to append to every frame, for example ``("spontaneous",)``. Where an
            item has no value (no such column, empty, NaN) it is 0.

    Attributes:
        columns: Names of the columns, acoustic ones first.

    Raises:
        FeatureError: If the options make no sense.

    Shapes:
        - **signal:** `[samples]`
        - **output:** `[ceil(frames / decimate), acoustic_dims + len(metadata)]` float32
    """

    def __init__(
        self,
        extractor: Extractor,
        *,
        decimate: int = 1,
        decimate_mode: DecimateMode = "mean",
        metadata: Sequence[str] = (),
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
        self.extractor = extractor
        self.decimate = decimate
        self.decimate_mode: DecimateMode = decimate_mode
        self.metadata = tuple(metadata)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, acoustic ones first."""
        return self.extractor.columns + self.metadata

    @property
    def acoustic_dims(self) -> int:
        """Number of columns that come from the signal; the metadata columns follow them."""
        return self.extractor.dims

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
        self, signal: np.ndarray, rate: int, metadata: Mapping[str, float] | None = None
    ) -> np.ndarray:
        """Features of one signal.

        Args:
            signal: `[samples]` float in [-1, 1].
            rate: Its sampling rate in hertz.
            metadata: Values of the metadata columns; absent, None and NaN are 0.

        Returns:
            `[frames, dims]` float32.

        Raises:
            FeatureError: If the signal cannot be used, or a feature is not a finite number.
        """
        values = metadata or {}
        row = np.array([_number(values.get(name)) for name in self.metadata], dtype=np.float32)
        return self.finish(self.extractor(signal, rate), row)

    def finish(self, raw: np.ndarray, metadata: np.ndarray) -> np.ndarray:
        """What follows extraction: decimation and metadata columns.

        Args:
            raw: The extractor's output, `[frames, acoustic_dims]` or `[acoustic_dims]`.
            metadata: `[len(self.metadata)]`.

        Returns:
            `[frames, dims]` float32; without decimation and metadata a view of ``raw``.
        """
        frames = decimate(np.atleast_2d(raw), self.decimate, self.decimate_mode)
        if not self.metadata:
            return frames
        result = np.empty((len(frames), self.dims), dtype=np.float32)
        result[:, : self.acoustic_dims] = frames
        result[:, self.acoustic_dims :] = metadata
        return result

    def to_dict(self) -> dict[str, Any]:
        """JSON-able description, from which :meth:`from_dict` makes an equal pipeline."""
        return {
            "extractor": {"name": self.extractor.name, "config": self.extractor.config},
            "decimate": self.decimate,
            "decimate_mode": self.decimate_mode,
            "metadata": list(self.metadata),
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
        unknown = sorted({*extractor, *(options.keys() - {"decimate", "decimate_mode", "metadata"})})
        if unknown:
            raise FeatureError(
                f"feature pipeline: unknown key {unknown[0]!r}; known: extractor (name, config), decimate, "
                "decimate_mode, metadata"
            )
        return cls(create_extractor(name, **config), **options)

    @property
    def fingerprint(self) -> str:
        """Stable hash of the extractor's fingerprint and of everything after it."""
        return stable_hash({**self.to_dict(), "extractor": self.extractor.fingerprint})

    def __repr__(self) -> str:
        return (
            f"FeaturePipeline({self.extractor!r}, decimate={self.decimate}, "
            f"decimate_mode={self.decimate_mode!r}, metadata={self.metadata!r})"
        )

    def extract(
        self,
        corpus: Corpus,
        *,
        cache: FeatureCache | None,
        workers: int | None = None,
        progress: bool = True,
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
            workers: Processes; default: one per processor. With 1 the work is done in this process.
            progress: Show a progress bar (only on a terminal).

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
        self.extractor.prepare()
        if workers is not None and workers < 1:
            raise FeatureError(f"workers: expected a number from 1 on, got {workers}")
        workers = workers or extraction.default_workers()
        table = corpus.table
        ids = [str(name) for name in table["id"]]
        row_numbers = table["row"].tolist() if "row" in table else list(range(len(ids)))
        metadata = _metadata_columns(corpus, self.metadata)
        outcomes: list[extraction.Outcome | None] = [None] * len(ids)
        items = []
        for item in _items(corpus):
            if item.path:
                items.append(item)
            else:
                outcomes[item.index] = extraction.Outcome(item.index, error="it has no audio file")
        stamps, digests = _known(items, cache)
        job = extraction.Job(self.extractor, cache, digests)
        damaged = 0
        learned: dict[str, tuple[str, FileStamp, str]] = {}
        with _Progress(self.extractor.name, len(ids), shown=progress) as bar:
            missing = []
            for item, outcome in zip(items, _cached(job, items), strict=True):
                if outcome.entry is None:
                    missing.append(item)
                else:
                    outcomes[item.index] = outcome
                    bar.advance(outcome)
                if outcome.damage:
                    damaged += 1
                    warnings.warn(outcome.damage, CacheWarning, stacklevel=2)
            try:
                for outcome in extraction.run(job, missing, stamps, min(workers, len(missing))):
                    outcomes[outcome.index] = outcome
                    bar.advance(outcome)
                    if outcome.digest is not None:
                        learned[outcome.digest[0]] = outcome.digest
                    if outcome.damage:
                        damaged += 1
                        warnings.warn(outcome.damage, CacheWarning, stacklevel=2)
            finally:
                if cache is not None:
                    cache.remember_digests(learned.values())
        done = [outcome for outcome in outcomes if outcome is not None]
        good = [outcome for outcome in done if not outcome.error]
        wall = time.perf_counter() - began
        fresh = sum(outcome.duration for outcome in good if not outcome.cached)
        seconds = sum(outcome.duration for outcome in good)
        rows = np.array([outcome.index for outcome in good], dtype=np.int64)
        return FeatureSet(
            self,
            good,
            ids=[ids[outcome.index] for outcome in good],
            rows=rows,
            metadata=metadata[rows],
            failures=tuple(
                Problem(item=ids[outcome.index], row=row_numbers[outcome.index], reason=outcome.error)
                for outcome in done
                if outcome.error
            ),
            notes=tuple(
                Problem(ids[outcome.index], row_numbers[outcome.index], note, severity="warning")
                for outcome in good
                for note in outcome.notes
            ),
            stats=ExtractionStats(
                items=len(good),
                cached=sum(outcome.cached for outcome in good),
                damaged=damaged,
                seconds_audio=seconds,
                seconds_extracted=fresh,
                seconds_wall=wall,
                x_real_time=seconds / wall,
            ),
        )


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
        self._places = [
            (o.entry.path, o.entry.offset, o.entry.shape) if o.entry is not None else o.array
            for o in outcomes
        ]
        shapes = [np.shape(p) if isinstance(p, np.ndarray) else p[2] for p in self._places if p is not None]
        raw = np.array([shape[0] if len(shape) == 2 else 1 for shape in shapes], dtype=np.int64)
        self.lengths: np.ndarray = -(-raw // pipeline.decimate)

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
        place = self._places[index]
        raw = place if isinstance(place, np.ndarray) else map_array(*place)
        return self.pipeline.finish(raw, self._metadata[index])

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"FeatureSet({len(self)} items, {self.dims} features, {len(self.failures)} failures)"


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


def _items(corpus: Corpus) -> list[extraction.Item]:
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


def _known(
    items: Sequence[extraction.Item], cache: FeatureCache | None
) -> tuple[dict[str, FileStamp], dict[str, str]]:
    """Stamps of the files that exist, and the content hashes that need no reading."""
    stamps = {}
    for path in dict.fromkeys(item.path for item in items):
        try:
            stamps[path] = file_stamp(path)
        except OSError:
            continue  # whoever reads it says what is wrong
    if cache is None:
        return stamps, {}
    cache.clean()
    return stamps, cache.known_digests(stamps)


def _cached(job: extraction.Job, items: Sequence[extraction.Item]) -> Iterator[extraction.Outcome]:
    """For each item, in order, what the cache has (an outcome without an entry: nothing)."""
    cache = job.cache
    if cache is None:
        yield from (extraction.Outcome(item.index) for item in items)
        return

    def look(item: extraction.Item) -> extraction.Outcome:
        digest = job.digests.get(item.path)
        if digest is None:
            return extraction.Outcome(item.index)
        entry, damage = cache.look_up(cache.path(job.extractor, digest, item.start, item.end))
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
        self._bar.update(self._task, advance=1, speed=f"{speed:,.0f} x real time")
