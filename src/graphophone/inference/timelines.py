"""Emotion over time: a long recording, window by window, in bounded memory."""

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

_BLOCK = 1024


def timeline(
    recognizer: Recognizer,
    path: str | Path,
    *,
    window: float = 3.0,
    hop: float = 1.0,
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
        window: Seconds per answer; best near the length of the utterances the model was trained on.
        hop: Seconds between the beginnings of two windows, at most `window`.
        silence: Windows whose level (root mean square, without the constant part) is below so many dB of full
            scale get the label `"silence"` and no probabilities. None answers everywhere.
        metadata: Values of the metadata columns of the features.
        progress: Show a progress bar.

    Returns:
        Columns `start`, `end`, `label`, `confidence`, `p_<class>`; the last window may be shorter. `attrs`
        holds `file`, `duration`, `window`, `hop` and the `failures`: windows without an answer, and the place
        from which on the file is damaged. See `merge_segments`.

    Raises:
        AudioError: If the file cannot be used from its first window on. Damage and NaN samples farther on end
            the table and are named in `failures`.
        GraphophoneError: If window or hop make no sense.
    """
    about = audio.info(path)
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
        "failures": failures,
    }
    return frame


def iter_timeline(
    recognizer: Recognizer,
    path: str | Path,
    *,
    window: float = 3.0,
    hop: float = 1.0,
    silence: float | None = -60.0,
    metadata: Mapping[str, float] | None = None,
    progress: bool = False,
    failures: list[Problem] | None = None,
) -> Iterator[pd.DataFrame]:
    """As `timeline`, in tables of about a thousand rows, each given as soon as it is known.

    Args:
        recognizer: The model.
        path: Audio file.
        window: Seconds per answer.
        hop: Seconds between windows.
        silence: Level in dB of full scale below which a window is silent.
        metadata: Values of the metadata columns of the features.
        progress: Show a progress bar.
        failures: List to which windows without an answer are added, and damage that ends the recording early.

    Raises:
        AudioError: If the file cannot be used from its first window on; also for damage farther on, after the
            windows before it, where `failures` is None.
        GraphophoneError: If window or hop make no sense.
    """
    rate = recognizer.bundle.pipeline.rate
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
    for item, probabilities in track(recognizer.answers(heard), "listening", total, show=progress):
        span = {"start": item.start, "end": item.end}
        if probabilities is not None:
            rows.append({**span, **recognizer.row(probabilities)})
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


def merge_segments(frame: pd.DataFrame) -> pd.DataFrame:
    """Neighbouring windows with the same label, joined.

    A window speaks for the time nearest to its centre: the border between two labels lies midway between the
    centres of the two windows, the first segment begins with the first window and the last ends with the
    last.

    Args:
        frame: What `timeline` returned.

    Returns:
        Columns `start`, `end`, `label`, `confidence` (mean over the windows), `windows` (how many); the
        segments touch each other and do not overlap. `attrs` (file, failures, ...) are those of `frame`.
    """
    columns = ["start", "end", "label", "confidence", "windows"]
    if frame.empty:
        segments = pd.DataFrame(columns=columns)
        segments.attrs = dict(frame.attrs)
        return segments
    labels = frame["label"].to_numpy()
    first = np.flatnonzero(np.r_[True, labels[1:] != labels[:-1]])
    centres = (frame["start"].to_numpy() + frame["end"].to_numpy()) / 2
    borders = (centres[first[1:] - 1] + centres[first[1:]]) / 2
    group = np.repeat(np.arange(len(first)), np.diff(np.r_[first, len(labels)]))
    segments = pd.DataFrame(
        {
            "start": np.r_[frame["start"].iloc[0], borders],
            "end": np.r_[borders, frame["end"].iloc[-1]],
            "label": labels[first],
            "confidence": frame["confidence"].groupby(group).mean().to_numpy(),
            "windows": np.bincount(group),
        },
        columns=columns,
    )
    segments.attrs = dict(frame.attrs)
    return segments


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
