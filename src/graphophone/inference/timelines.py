"""Answers over time: a long recording, window by window, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from graphophone import audio
from graphophone.corpora.base import Problem
from graphophone.errors import GraphophoneError
from graphophone.inference.clips import Clip, hear_many
from graphophone.inference.progress import track
from graphophone.inference.recognizer import Recognizer

SILENCE = "silence"
"""Label of a window in which nothing is heard."""

TAG_THRESHOLD = 0.5
"""Probability from which on a tag counts as heard, where no other is given."""

_BLOCK = 1024


def timeline(
    recognizer: Recognizer,
    path: str | Path,
    *,
    window: float | None = None,
    hop: float | None = None,
    silence: float | None = -60.0,
    metadata: Mapping[str, float] | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """What is heard when, in a recording of any length.

    Each window is answered as if it were a recording of its own: its row equals `recognizer.process_signal`
    on the same samples. Windows are read, answered and forgotten, so that memory does not grow with the
    recording beyond the rows of the table (ten hours at a hop of one second: 36,000 rows).

    Args:
        recognizer: The model; its `threshold` and `workers` apply.
        path: Audio file.
        window: Seconds per answer; best near the length of the clips the model was trained on. None: the length
            of the model's own clips where they have one (`bundle.clip_seconds`), else 3 s.
        hop: Seconds between the beginnings of two windows, at most `window`. None: half of the window for a model
            whose clips have one length, else 1 s, or the window where it is shorter.
        silence: Windows whose level (root mean square, without the constant part) is below so many dB of full
            scale get the label `"silence"` and no probabilities. None answers everywhere.
        metadata: Values of the metadata columns of the features.
        progress: Show a progress bar.

    Returns:
        Columns `start`, `end`, `label`, `confidence`, `spread` and `tags` (as the recognizer gives them),
        `p_<class>`; the last window may be shorter. `attrs` holds `file`, `duration`, `window`, `hop`, `kind` and the
        `failures`: windows without an answer, and the place from which on the file is damaged. See `merge_segments`,
        and `tag_segments` for several tags at once.

    Raises:
        AudioError: If the file cannot be used from its first window on. Damage and NaN samples farther on end
            the table and are named in `failures`.
        GraphophoneError: If window or hop make no sense, or the model needs what is said.
    """
    about = audio.info(path)
    window, hop = spans(recognizer, window, hop)
    failures: list[Problem] = []
    blocks = iter_timeline(
        recognizer,
        path,
        window=window,
        hop=hop,
        silence=silence,
        metadata=metadata,
        progress=progress,
        failures=failures,
    )
    frame = pd.concat([recognizer.table([], ("start", "end")), *blocks], ignore_index=True)
    frame = frame.astype({"start": "float64", "end": "float64"})
    frame.attrs = {
        "file": str(path),
        "duration": about.duration,
        "window": window,
        "hop": hop,
        "kind": recognizer.bundle.kind,
        "tag_threshold": TAG_THRESHOLD if recognizer.tag_threshold is None else recognizer.tag_threshold,
        "failures": failures,
    }
    return frame


def iter_timeline(
    recognizer: Recognizer,
    path: str | Path,
    *,
    window: float | None = None,
    hop: float | None = None,
    silence: float | None = -60.0,
    metadata: Mapping[str, float] | None = None,
    progress: bool = False,
    failures: list[Problem] | None = None,
) -> Iterator[pd.DataFrame]:
    """As `timeline`, in tables of about a thousand rows, each given as soon as it is known.

    Args:
        recognizer: The model.
        path: Audio file.
        window: Seconds per answer; None as for `timeline`.
        hop: Seconds between windows; None as for `timeline`.
        silence: Level in dB of full scale below which a window is silent.
        metadata: Values of the metadata columns of the features.
        progress: Show a progress bar.
        failures: List to which windows without an answer are added, and damage that ends the recording early.

    Raises:
        AudioError: If the file cannot be used from its first window on; also for damage farther on, after the
            windows before it, where `failures` is None.
        GraphophoneError: If window or hop make no sense, or the model needs what is said.
    """
    recognizer.require_sound_alone("timeline")
    rate = recognizer.bundle.pipeline.rate
    window, hop = spans(recognizer, window, hop)
    if not audio.SHORTEST <= window < math.inf:
        raise GraphophoneError(
            f"window: {window:g} s is not a length of at least one frame ({audio.SHORTEST:g} s); "
            "give seconds, 3 for example"
        )
    if not 0 < hop <= window:
        raise GraphophoneError(f"hop: {hop:g} s must be above 0 and at most the window ({window:g} s)")
    if recognizer.max_duration is not None and window > recognizer.max_duration:
        raise GraphophoneError(
            f"window: {window:g} s is more than the recognizer takes at once ({recognizer.max_duration:g} s); "
            "choose a shorter window"
        )
    if round(hop * rate) < 1:
        raise GraphophoneError(f"hop: {hop:g} s is less than one sample ({1 / rate:g} s); give seconds, 1 for example")
    duration = audio.info(path).duration
    damage: list[tuple[int, audio.AudioError]] = []
    total = 1 + max(0, math.ceil((duration - window) / hop))
    heard = hear_many(
        _windows(rate, path, window, hop, silence, dict(metadata or {}), damage),
        recognizer.bundle.pipeline,
        recognizer.max_duration,
        workers=recognizer.workers,
        total=total,
    )
    rows: list[dict[str, Any]] = []
    for item, answer in track(recognizer.answers(heard), "listening", total, show=progress):
        span = {"start": item.start, "end": item.end}
        if answer is not None:
            rows.append({**span, **recognizer.row(answer.probabilities, answer.spread)})
        elif item.clip.silent:
            rows.append({**span, "label": SILENCE})
        elif failures is not None:
            failures.append(Problem(f"{path} from {item.start:.2f} s", item.clip.row, item.reason))
        if len(rows) >= _BLOCK:
            yield recognizer.table(rows, ("start", "end"))
            rows = []
    if rows:
        yield recognizer.table(rows, ("start", "end"))
    for row, error in damage:
        if row == 0 or failures is None:
            raise error
        failures.append(Problem(f"{path} from {row * hop:.2f} s", row, f"no answers from here on: {error.text}"))


def spans(recognizer: Recognizer, window: float | None, hop: float | None) -> tuple[float, float]:
    """Window and hop of a timeline in seconds, with the defaults that `timeline` documents."""
    clip = recognizer.bundle.clip_seconds
    if window is None:
        window = 3.0 if clip is None else clip
    if hop is None:
        hop = window / 2 if clip is not None else min(window, 1.0)
    return window, hop


def window_borders(frame: pd.DataFrame) -> np.ndarray:
    """Where the time for which each window speaks begins and ends, in seconds: `[windows + 1]`.

    A window speaks for the time nearest to its centre: the border between two lies midway between their
    centres, the first begins with the first window and the last ends with the last.
    """
    centres = (frame["start"].to_numpy() + frame["end"].to_numpy()) / 2
    return np.r_[frame["start"].iloc[0], (centres[:-1] + centres[1:]) / 2, frame["end"].iloc[-1]]


def merge_segments(frame: pd.DataFrame) -> pd.DataFrame:
    """Neighbouring windows with the same label, joined; each speaks for its share of the time (`window_borders`).

    Args:
        frame: What `timeline` returned.

    Returns:
        Columns `start`, `end`, `label`, `confidence` (mean over the windows), `windows` (how many); the
        segments touch each other and do not overlap. `attrs` (file, failures, ...) are those of `frame`.
    """
    columns = ["start", "end", "label", "confidence", "windows"]
    if frame.empty:
        joined = pd.DataFrame(columns=columns)
        joined.attrs = dict(frame.attrs)
        return joined
    labels = frame["label"].to_numpy()
    first = np.flatnonzero(np.r_[True, labels[1:] != labels[:-1]])
    borders = window_borders(frame)
    bounds = np.r_[first, len(labels)]
    group = np.repeat(np.arange(len(first)), np.diff(bounds))
    joined = pd.DataFrame(
        {
            "start": borders[bounds[:-1]],
            "end": borders[bounds[1:]],
            "label": labels[first],
            "confidence": frame["confidence"].groupby(group).mean().to_numpy(),
            "windows": np.bincount(group),
        },
        columns=columns,
    )
    joined.attrs = dict(frame.attrs)
    return joined


def segments(frame: pd.DataFrame, *, gap: float = 0.0) -> pd.DataFrame:
    """`tag_segments` of a tagging model's timeline, `merge_segments` of any other; `gap` is for tags."""
    return tag_segments(frame, gap=gap) if frame.attrs.get("kind") == "tagging" else merge_segments(frame)


def tag_segments(frame: pd.DataFrame, threshold: float | None = None, *, gap: float = 0.0) -> pd.DataFrame:
    """When each tag is heard: one row per tag and span of neighbouring windows that reach the threshold.

    The spans of different tags may overlap, as the sounds do. Each window speaks for its share of the time
    (`window_borders`); silent windows hold no tag.

    Args:
        frame: What `timeline` returned, with its columns `p_<class>`.
        threshold: Lowest probability; None: the recognizer's `tag_threshold`, or 0.5 where it has none.
        gap: Spans of a tag that lie at most so many seconds apart are joined.

    Returns:
        Columns `start`, `end`, `label` (the tag), `confidence` (mean probability over the windows that reach the
        threshold) and `windows` (how many), by `start`, then in the order of the classes. `attrs` are those of
        `frame`.

    Raises:
        GraphophoneError: If `threshold` is not in [0, 1], or `gap` below 0.
    """
    if threshold is None:
        threshold = float(frame.attrs.get("tag_threshold", TAG_THRESHOLD))
    if not 0 <= threshold <= 1:
        raise GraphophoneError(f"threshold: {threshold} is not a probability; give a number from 0 to 1")
    if not gap >= 0:
        raise GraphophoneError(f"gap: {gap:g} s must not be below 0; give seconds, or 0 to join nothing")
    columns = [name for name in frame.columns if str(name).startswith("p_")]
    probabilities = frame[columns].to_numpy(dtype=np.float64).T  # [tags, windows]
    heard = probabilities >= threshold  # false where silence has no probability
    edges = np.diff(np.pad(heard, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    # Both in the order of tags, then time: the k-th beginning and the k-th end belong together.
    tag, first = np.nonzero(edges == 1)
    _, last = np.nonzero(edges == -1)
    borders = window_borders(frame) if len(frame) else np.zeros(1)
    start, end = borders[first], borders[last]
    opens = np.r_[True, (tag[1:] != tag[:-1]) | (start[1:] - end[:-1] > gap)][: len(tag)]
    chosen, final = np.flatnonzero(opens), np.flatnonzero(np.r_[opens[1:], True][: len(tag)])
    sums = np.pad(np.where(heard, probabilities, 0.0).cumsum(axis=1), ((0, 0), (1, 0)))
    group = np.cumsum(opens) - 1
    weight = np.bincount(group, sums[tag, last] - sums[tag, first], minlength=len(chosen))
    windows = np.bincount(group, last - first, minlength=len(chosen)).astype(np.int64)
    names = np.array([name.removeprefix("p_") for name in columns], dtype=object)
    joined = pd.DataFrame(
        {
            "start": start[chosen],
            "end": end[final],
            "label": names[tag[chosen]],
            "confidence": weight / windows,
            "windows": windows,
        }
    )
    joined = joined.sort_values("start", kind="stable", ignore_index=True)
    joined.attrs = dict(frame.attrs)
    return joined


def _windows(
    rate: int,
    path: str | Path,
    window: float,
    hop: float,
    silence: float | None,
    metadata: dict[str, float],
    damage: list[tuple[int, audio.AudioError]],
) -> Iterator[Clip]:
    """The windows of a file; what ends them early goes into `damage`, with the number of the window it cost.

    It is not raised here, where a pool of processes would lose the windows that are on their way.
    """
    quiet = -1.0 if silence is None else 10 ** (silence / 10)
    row = 0
    try:
        for start, signal in audio.stream(path, rate=rate, window=window, hop=hop):
            if float(np.var(signal, dtype=np.float64)) < quiet:
                yield Clip(row, offset=start, end=start + len(signal) / rate, silent=True)
            else:
                yield Clip(row, signal=signal, rate=rate, offset=start, metadata=metadata)
            row += 1
    except audio.AudioError as error:
        damage.append((row, error))
