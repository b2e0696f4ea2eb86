"""The figure of what noise costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from graphophone.evaluation.figures import BLUE, GREEN, MUTED, ORANGE, PURPLE, SKY, STYLE, VERMILION, short
from graphophone.evaluation.measures import Measure

_COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
_MARKERS = "osD^vP"

Lines = Mapping[str, Mapping[float, Mapping[str, Any]]]
"""Name of a line to its rows by ratio, with ``drop``, ``low``, ``high`` (fractions or None) and ``n``."""


def drop_panels(panels: Sequence[tuple[str, Lines]], snrs: Sequence[float], measure: Measure) -> Figure:
    """Drops against signal-to-noise ratio, in one or several panels that share their axes.

    Args:
        panels: Title and lines of each.
        snrs: Ratios in dB.
        measure: What drops.
    """
    scale = 100.0 if measure.percent else 1.0
    across = min(len(panels), 3)
    down = -(-len(panels) // across)
    names = list(dict.fromkeys(name for _, lines in panels for name in lines))
    step = (max(snrs) - min(snrs) or 1.0) * 0.006  # lines beside each other, so that their bars do not meet
    with mpl.rc_context(STYLE):
        width = 5.6 if len(panels) == 1 else 3.0 * across + 0.6
        figure = Figure(figsize=(width, 3.0 * down + 0.4), layout="constrained")
        grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
        for place, (axes, (title, lines)) in enumerate(zip(grid.flat, panels, strict=False)):
            axes.axhline(0, color=MUTED, lw=0.8)
            for name, line in lines.items():
                number = names.index(name)
                rows = [(snr, row) for snr, row in line.items() if row["drop"] is not None]
                axes.errorbar(
                    [snr + (number - (len(names) - 1) / 2) * step for snr, _ in rows],
                    [scale * row["drop"] for _, row in rows],
                    yerr=_bars([row for _, row in rows], scale),
                    color=_COLOURS[number % len(_COLOURS)],
                    marker=_MARKERS[number % len(_MARKERS)],
                    label=short(name, 28),
                    ms=4.5,
                    lw=1.6,
                    elinewidth=0.9,
                    capsize=2,
                )
            axes.set_title(title)
            if place + across >= len(panels):  # nothing below it
                axes.set_xlabel("signal-to-noise ratio, dB")
                axes.tick_params(labelbottom=True)
            axes.grid(axis="y")
        for axes in list(grid.flat)[len(panels) :]:
            axes.set_visible(False)
        first = grid[0][0]
        first.set_xticks(list(snrs), [f"{snr:g}".replace("-", "−") for snr in snrs])
        first.invert_xaxis()
        for line_of_axes in grid:
            line_of_axes[0].set_ylabel(f"drop of {measure.short}{', points' if measure.percent else ''}")
        if len(panels) == 1 and len(names) <= 3:
            first.legend(fontsize=8)
        else:  # inside it would hide bars
            handles, labels = first.get_legend_handles_labels()
            figure.legend(handles, labels, fontsize=8, loc="outside lower center", ncols=min(len(names), 2 * across))
    return figure


def has_bar(row: Mapping[str, Any]) -> bool:
    """Whether an interval is drawn: that of two values is twelve times as wide as their spread, and hides the rest."""
    return row["low"] is not None and row["n"] > 2


def _bars(rows: Sequence[Mapping[str, Any]], scale: float) -> tuple[list[float], list[float]]:
    """How far the intervals reach below and above the drops; an interval over folds need not hold the pooled drop."""
    low = [scale * max(row["drop"] - row["low"], 0.0) if has_bar(row) else 0.0 for row in rows]
    high = [scale * max(row["high"] - row["drop"], 0.0) if has_bar(row) else 0.0 for row in rows]
    return low, high
