"""Figures of many runs: curves over a setting that is a number, and dots where bars would be too many.

As in :mod:`~graphophone.evaluation.figures`, every function returns a matplotlib ``Figure``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from graphophone.evaluation.figures import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    short,
    styled,
)
from graphophone.evaluation.statistics import Estimate

Point = tuple[float, Estimate]
"""Where along the axis, and what was measured there."""

_COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY)
_MARKERS = "os^Dvp"
_DASHES = ((0, (5, 3)), (0, (1.5, 2)), (0, (7, 2, 1.5, 2)), (0, (3, 1.5)))


@dataclass(frozen=True)
class Panel:
    """One panel of a figure of curves.

    Attributes:
        title: What is above it.
        lines: Name to points, in order along the axis; solid, each with its interval.
        dashed: The same for what the lines are set against.
        scale: What every value is multiplied by.
        ylabel: Its unit.
        floor: A value drawn as a thin dotted line with its name.
    """

    title: str
    lines: Mapping[str, Sequence[Point]]
    dashed: Mapping[str, Sequence[Point]]
    scale: float = 1.0
    ylabel: str = ""
    floor: tuple[str, float] | None = None


@styled
def sweep_curves(panels: Sequence[Panel], xlabel: str) -> Figure:
    """What was measured over a setting, with 95 % intervals; a logarithmic axis where values span a decade.

    Args:
        panels: Side by side, with one legend below.
        xlabel: What the setting is.
    """
    names = list(dict.fromkeys(name for panel in panels for name in (*panel.lines, *panel.dashed)))
    rows = math.ceil((len(names) + 1) / 3)
    width = 7.2 if len(panels) == 1 else 4.4 * len(panels)
    figure = Figure(figsize=(width, 3.5 + 0.17 * rows), layout="constrained")
    handles: dict[str, Artist] = {}
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        everywhere = sorted({x for line in (*panel.lines.values(), *panel.dashed.values()) for x, _ in line})
        logarithmic = everywhere[0] > 0 and everywhere[-1] >= 8 * everywhere[0]
        if logarithmic:
            axes.set_xscale("log")
        for number, (name, points) in enumerate(panel.lines.items()):
            shift = 0.012 * (number - (len(panel.lines) - 1) / 2)  # so that intervals do not hide each other
            handles.setdefault(name, _curve(axes, points, panel.scale, _moved(everywhere, shift, logarithmic), number))
        for number, (name, points) in enumerate(panel.dashed.items()):
            handles.setdefault(name, _dashed(axes, points, panel.scale, number))
        if panel.floor is not None:
            label, value = panel.floor
            handles.setdefault(label, axes.axhline(panel.scale * value, color=MUTED, lw=0.8, ls=(0, (1, 3))))
        _ticks(axes, everywhere)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(panel.ylabel)
        axes.set_title(panel.title)
        axes.grid(axis="y")
    figure.legend(
        [*handles.values()], [short(name, 44) for name in handles], loc="outside lower center", fontsize=8,
        ncols=min(3, len(handles)),
    )  # fmt: skip
    return figure


def _moved(everywhere: Sequence[float], shift: float, logarithmic: bool) -> dict[float, float]:
    """Every place of an axis, a little to the side."""
    low, high = everywhere[0], everywhere[-1]
    if logarithmic:
        return {x: x * (high / low) ** shift for x in everywhere}
    return {x: x + shift * (high - low) for x in everywhere}


def _curve(axes: Axes, points: Sequence[Point], scale: float, places: Mapping[float, float], number: int) -> Artist:
    colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
    xs = [places[x] for x, _ in points]
    ys = [scale * e.mean for _, e in points]
    (line,) = axes.plot(
        xs, ys, color=colour, marker=marker, ms=5, lw=1.6, ls="-" if number < len(_COLOURS) else (0, (4, 1.5)),
        mec="white", mew=0.5, zorder=3,
    )  # fmt: skip
    for at, (_, e) in zip(xs, points, strict=True):
        if e.low is not None and e.high is not None:
            axes.plot([at, at], [scale * e.low, scale * e.high], color=colour, lw=1.1, alpha=0.75, zorder=2)
    return line


def _dashed(axes: Axes, points: Sequence[Point], scale: float, number: int) -> Artist:
    xs, ys = [x for x, _ in points], [scale * e.mean for _, e in points]
    style = {"color": MUTED, "lw": 1.3, "ls": _DASHES[number % len(_DASHES)], "zorder": 1}
    if len(xs) == 1:
        return axes.axhline(ys[0], **style)  # type: ignore[arg-type]
    (line,) = axes.plot(xs, ys, **style)  # type: ignore[arg-type]
    return line


def _ticks(axes: Axes, places: Sequence[float]) -> None:
    """A tick where something was measured; of very many places about ten."""
    step = math.ceil(len(places) / 10)
    shown = list(places[::step])
    axes.set_xticks(shown, [f"{x:g}" for x in shown])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


@styled
def estimate_dots(
    labels: Sequence[str],
    series: Mapping[str, Sequence[Estimate | None]],
    *,
    chance: float | None = None,
    percent: bool = True,
) -> Figure:
    """Many systems or settings, one row each, with confidence intervals.

    Args:
        labels: One per row.
        series: Name (``"UA"``) to one estimate per row, as fractions; None leaves a gap.
        chance: Accuracy of guessing, a fraction, drawn as a line.
        percent: Whether to write percent rather than fractions.
    """
    scale = 100.0 if percent else 1.0
    figure = Figure(figsize=(7.2, 0.24 * len(labels) + 1.1), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(labels))
    for number, (name, estimates) in enumerate(series.items()):
        at = rows + 0.22 * (number - (len(series) - 1) / 2)
        colour = (BLUE, SKY, GREEN, ORANGE)[number % 4]
        known = [(y, e) for y, e in zip(at, estimates, strict=True) if e is not None]
        axes.plot([scale * e.mean for _, e in known], [y for y, _ in known], "o", color=colour, ms=4.5, label=name)
        for y, e in known:
            if e.low is not None and e.high is not None:
                axes.plot([scale * e.low, scale * e.high], [y, y], color=colour, lw=1.1, alpha=0.8)
    if chance is not None:
        axes.axvline(scale * chance, color=MUTED, lw=1.0, ls=(0, (4, 3)), label="chance")
    for y in rows[:-1]:
        axes.axhline(y + 0.5, color=INK, lw=0.3, alpha=0.12)
    axes.set_yticks(rows, [short(label, 44) for label in labels])
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlabel("%" if percent else "")
    axes.grid(axis="x")
    axes.legend(fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2)
    return figure
