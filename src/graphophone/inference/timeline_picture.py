"""The figure of a timeline: the likeliest classes over time, as a map of their probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from graphophone.errors import GraphophoneError
from graphophone.inference.output import class_columns
from graphophone.inference.picture import save_figure
from graphophone.inference.timelines import window_borders

_COLUMNS = 1500
"""More windows than this are drawn by the largest value of their neighbours: no peak is lost to the pixels."""


def draw_timeline(frame: pd.DataFrame, *, rows: int = 15) -> Figure:
    """Draw what `timeline` returned.

    Args:
        frame: Windows with their columns `p_<class>`.
        rows: How many classes to show: those that reach the highest probability anywhere.

    Raises:
        GraphophoneError: If there are no windows, or `rows` is below 1.
    """
    if frame.empty:
        raise GraphophoneError("the timeline has no windows to draw")
    if rows < 1:
        raise GraphophoneError(f"rows: {rows} classes cannot be drawn; give at least 1")
    names = class_columns(frame)
    values = frame[names].to_numpy(dtype=np.float64).T
    peaks = np.nan_to_num(values, nan=-1.0).max(axis=1)
    best = np.argsort(-peaks, kind="stable")[:rows]
    shown, borders = _thinned(values[best], window_borders(frame))

    figure = Figure(figsize=(13, 1.5 + 0.32 * len(best)), layout="constrained", facecolor="white")
    axes = figure.subplots()
    axes.set_facecolor("#e6e6e6")  # silence: no probability
    mesh = axes.pcolormesh(
        borders,
        np.arange(len(best) + 1) - 0.5,
        np.ma.masked_invalid(shown),
        cmap="magma_r",
        vmin=0,
        vmax=1,
        rasterized=True,
    )
    axes.set_yticks(range(len(best)), [names[i].removeprefix("p_") for i in best], parse_math=False)
    axes.invert_yaxis()
    axes.tick_params(left=False)
    axes.set_xlabel("time (s)")
    for side in axes.spines.values():
        side.set_visible(False)
    figure.colorbar(mesh, ax=axes, label="probability", pad=0.01)
    title = Path(str(frame.attrs["file"])).name if "file" in frame.attrs else ""
    if np.isnan(values).all(axis=0).any():
        title += f"{'  ' if title else ''}(grey: silence)"
    axes.set_title(title, loc="left", fontsize=11, parse_math=False)
    return figure


def save_timeline(frame: pd.DataFrame, path: str | Path, *, rows: int = 15, dpi: int = 120) -> Path:
    """Draw a timeline and write the figure; the suffix (`.png`, `.svg`, `.pdf`) decides the format.

    Raises:
        GraphophoneError: As `draw_timeline`, and if the figure cannot be written.
    """
    return save_figure(draw_timeline(frame, rows=rows), path, dpi=dpi)


def _thinned(values: np.ndarray, borders: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most `_COLUMNS` columns: the largest of neighbouring windows, NaN where all of them are."""
    count = values.shape[1]
    if count <= _COLUMNS:
        return values, borders
    starts = np.linspace(0, count, _COLUMNS, endpoint=False).astype(np.int64)
    return np.fmax.reduceat(values, starts, axis=1), np.r_[borders[starts], borders[-1]]
