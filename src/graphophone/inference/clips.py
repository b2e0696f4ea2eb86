"""From a clip (a file, a part of a file, an array) to frames of features, one by one or in parallel."""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from graphophone import audio
from graphophone.errors import GraphophoneError, MissingDependencyError
from graphophone.features.modalities import Modalities
from graphophone.features.pipeline import FeaturePipeline

_PARALLEL_FROM = 48
"""Fewer clips are done before the processes have started."""

_UNHEARD = 0.1
"""Seconds that may be missing from a clip unmentioned; the last window reaches beyond its hop anyway."""


class ClipError(GraphophoneError):
    """A clip whose features cannot be computed."""


@dataclass(frozen=True)
class Clip:
    """What is to be heard.

    Args:
        row: Position in what the caller gave.
        path: Audio file, or None for an array.
        start: First second in the file.
        end: Last second in the file.
        signal: Samples, where there is no file.
        rate: Samples per second of `signal`.
        offset: Second of the recording at which `signal` begins.
        metadata: Values of the metadata columns of the features.
        text: What is said, for features that read it; without file and signal it is all that there is.
        either: Whether the text is enough where the recording cannot be used.
        silent: Known to hold nothing: no features are computed.
    """

    row: int
    path: str | None = None
    start: float | None = None
    end: float | None = None
    signal: np.ndarray | None = None
    rate: int = 0
    offset: float = 0.0
    metadata: dict[str, float] = field(default_factory=dict)
    text: str | None = None
    either: bool = False
    silent: bool = False

    @property
    def name(self) -> str:
        """What messages call it."""
        if self.path is not None:
            return self.path
        if self.signal is not None or self.text is None:
            return "signal"
        return f"text {self.text[:40]!r}" if self.text.strip() else "nothing"

    @property
    def soundless(self) -> bool:
        """Whether there is a text and no sound."""
        return self.path is None and self.signal is None and self.text is not None


@dataclass(frozen=True)
class Heard:
    """What became of a clip: `frames` `[frames, dims]`; without them it is `clip.silent` or has an `error`.

    Args:
        clip: The clip, without its samples.
        frames: Features before standardisation.
        start: First second; NaN where there is no sound.
        end: Last second, likewise.
        notes: What casts doubt on the answer: `"silent"`, `"clipped"`, that the clip was not heard to its end, or that
            its recording could not be used.
        error: Why there are no frames.
        sequences: Tokens and frames by modality, for a network that attends over them.
    """

    clip: Clip
    frames: np.ndarray | None
    start: float
    end: float
    notes: tuple[str, ...] = ()
    error: GraphophoneError | None = None
    sequences: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """The error's text without the name of the file."""
        if isinstance(self.error, audio.AudioError):
            return self.error.text
        return str(self.error).removeprefix(f"{self.clip.name}: ")


def hear(clip: Clip, pipeline: FeaturePipeline, max_duration: float | None) -> Heard:
    """Read a clip and compute its features; what is wrong with the clip is returned and not raised.

    Raises:
        MissingDependencyError: If the features need a package that is not installed: no clip would fare
            better.
    """
    begin = clip.offset if clip.start is None else clip.start
    bare = replace(clip, signal=None)  # the samples are not carried along with the frames
    if clip.silent:
        return Heard(bare, None, begin, begin if clip.end is None else clip.end)
    try:
        if clip.soundless:
            return _read_only(bare, pipeline)
        with warnings.catch_warnings():
            # Silence and clipping come back as notes of the waveform, with the name of the clip.
            warnings.simplefilter("ignore", audio.AudioWarning)
            waveform = _read(clip, pipeline.rate, max_duration)
        frames, sequences = _features(waveform.signal, waveform.rate, clip, pipeline)
    except MissingDependencyError:
        raise
    except GraphophoneError as error:
        failed = Heard(bare, None, begin, begin, error=error)
        if not (clip.either and clip.text and clip.text.strip()) or clip.soundless:
            return failed
        try:
            return _read_only(bare, pipeline, f"audio is left out: {failed.reason}")  # as in training
        except GraphophoneError:
            return failed
    except Exception as cause:  # one recording's failure, of whatever kind, must not end the others'
        text = " ".join(f"{type(cause).__name__}: {cause}".split())
        failure = ClipError(f"{clip.name}: {text}; leave it out, or convert it to 16-bit WAV")
        failure.__cause__ = cause
        return Heard(bare, None, begin, begin, error=failure)
    notes = (*waveform.notes, *_unheard(waveform.duration, pipeline))
    return Heard(bare, frames, begin, begin + waveform.duration, notes, sequences=sequences)


def _features(
    signal: np.ndarray | None, rate: int, clip: Clip, pipeline: FeaturePipeline
) -> tuple[np.ndarray, Mapping[str, np.ndarray]]:
    """Features of a clip, and its sequences where the network attends over them."""
    extractor = pipeline.extractor
    if isinstance(extractor, Modalities) and extractor.sequences:
        vector, sequences = extractor.whole(signal, rate, clip.text)
        return vector[None], sequences
    return pipeline(signal, rate, clip.metadata, clip.text), {}


def _read_only(clip: Clip, pipeline: FeaturePipeline, *notes: str) -> Heard:
    """What a text alone gives.

    Raises:
        GraphophoneError: If the features need more, or there is no text.
    """
    frames, sequences = _features(None, pipeline.rate, clip, pipeline)
    return Heard(clip, frames, math.nan, math.nan, notes, sequences=sequences)


def _unheard(duration: float, pipeline: FeaturePipeline) -> tuple[str, ...]:
    """That the features leave out the end of a clip, because they have a fixed number of frames."""
    if not pipeline.frames or pipeline.hop is None:
        return ()
    seconds = pipeline.frames * pipeline.hop
    if duration <= seconds + _UNHEARD:
        return ()
    return (f"the model hears only the first {seconds:.1f} s of {duration:.1f} s; use timeline for all of it",)


def _read(clip: Clip, rate: int, max_duration: float | None) -> audio.Waveform:
    try:
        if clip.signal is None:
            return audio.load(str(clip.path), rate=rate, start=clip.start, end=clip.end, max_duration=max_duration)
        waveform = audio.from_array(clip.signal, clip.rate, target_rate=rate)
        if max_duration is not None and waveform.duration > max_duration:
            raise audio.AudioError("<array>", "too long", "")
        return waveform
    except audio.AudioError as error:
        if error.reason != "too long":
            raise
        raise audio.AudioError(
            error.path,
            "too long",
            f"longer than {max_duration:g} s, too long for one answer; use timeline, or name a part by start and end",
        ) from None


def hear_many(
    clips: Iterable[Clip],
    pipeline: FeaturePipeline,
    max_duration: float | None,
    *,
    workers: int | None = None,
    total: int | None = None,
) -> Iterator[Heard]:
    """Hear clips in their order, in several processes where that pays, few clips ahead of the consumer.

    The processes are joblib's (loky), for the reasons that `graphophone.features.extraction` gives. One that
    dies costs the clip that killed it and no other.

    Args:
        clips: The clips; read lazily.
        pipeline: Features.
        max_duration: Longest clip in seconds.
        workers: Processes; None decides, 0 and 1 use this process.
        total: Number of clips if known, to decide.
    """
    from joblib import cpu_count

    if workers is None:
        workers = 1 if total is not None and total < _PARALLEL_FROM else cpu_count()
    if workers <= 1:
        for clip in clips:
            yield hear(clip, pipeline, max_duration)
        return
    pipeline.extractor.prepare()  # what is not installed is reported once, here
    rest = iter(clips)
    while True:
        flying: deque[list[Clip]] = deque()
        try:
            for chunk in _parallel(_chunks(rest, flying), pipeline, max_duration, workers):
                flying.popleft()
                yield from chunk
            return
        except BrokenProcessPool:
            for clip in [clip for chunk in flying for clip in chunk]:
                yield _alone(clip, pipeline, max_duration)


def _chunks(clips: Iterator[Clip], flying: deque[list[Clip]], size: int = 4) -> Iterator[list[Clip]]:
    """Cut clips into chunks; `flying` tells at any time which were handed out and are not back."""
    while chunk := list(islice(clips, size)):
        flying.append(chunk)
        yield chunk


def _parallel(
    chunks: Iterable[list[Clip]], pipeline: FeaturePipeline, max_duration: float | None, workers: int
) -> Iterator[list[Heard]]:
    from joblib import Parallel, delayed

    pool = Parallel(
        n_jobs=workers,
        backend="loky",
        return_as="generator",
        batch_size=1,
        pre_dispatch="2 * n_jobs",
        max_nbytes=None,
        inner_max_num_threads=1,
    )
    yield from pool(delayed(_hear_chunk)(chunk, pipeline, max_duration) for chunk in chunks)


def _alone(clip: Clip, pipeline: FeaturePipeline, max_duration: float | None) -> Heard:
    """One clip with no other at risk."""
    try:
        return next(_parallel([[clip]], pipeline, max_duration, workers=2))[0]
    except BrokenProcessPool:
        begin = clip.offset if clip.start is None else clip.start
        error = ClipError(
            f"{clip.name}: the process died while computing its features; leave it out, or convert it to 16-bit WAV"
        )
        return Heard(replace(clip, signal=None), None, begin, begin, error=error)


def _hear_chunk(clips: list[Clip], pipeline: FeaturePipeline, max_duration: float | None) -> list[Heard]:
    return [hear(clip, pipeline, max_duration) for clip in clips]
