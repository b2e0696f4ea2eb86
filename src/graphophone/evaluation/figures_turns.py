"""The figure of what answers for the turns of conversations are worth.

As in :mod:`~graphophone.evaluation.figures`, every function returns a matplotlib ``Figure``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from graphophone.evaluation.figures import BLUE, MUTED, short, styled
from graphophone.evaluation.measures import Measure
from graphophone.evaluation.turns import TurnGroup


@styled
def turn_panels(
    panels: Sequence[tuple[str, Sequence[TurnGroup]]], measure: Measure, overall: float, *, joined: Sequence[str] = ()
) -> Figure:
    """One measure by group, a panel for each way to group the turns, two in a row; all on one scale.

    Args:
        panels: Title and groups of each.
        measure: What is drawn, ``weighted_f1`` or ``wa``.
        overall: The measure over all turns, a line in each panel.
        joined: Titles of the panels whose groups have an order, so that a line joins them.
    """
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    scale = 100.0 if measure.percent else 1.0
    figure = Figure(figsize=(4.3 * across + 0.4, 2.6 * down + 0.3), layout="constrained")
    grid = figure.subplots(down, across, sharey=True, squeeze=False)
    for axes, (title, groups) in zip(grid.flat, panels, strict=False):
        axes.axhline(scale * overall, color=MUTED, lw=1.0, ls=(0, (4, 3)))
        _points(axes, groups, measure.key, scale, line=title in joined)
        axes.set_title(title)
        axes.grid(axis="y")
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel(f"{measure.short}{', %' if measure.percent else ''}")
    return figure


def _points(axes: Axes, groups: Sequence[TurnGroup], key: str, scale: float, *, line: bool) -> None:
    """A point for every group, with its interval over more than two seeds; below it its name and its turns."""
    place = np.arange(len(groups))
    estimates = [group.scores[key] for group in groups]
    mean = scale * np.array([estimate.mean for estimate in estimates])
    axes.plot(place, mean, color=BLUE, marker="o", ms=5, lw=1.2, ls="-" if line else "none")
    for at, estimate in enumerate(estimates):
        # The interval of two values is twelve times as wide as their spread, and hides the rest.
        if estimate.low is not None and estimate.high is not None and estimate.n > 2:
            axes.vlines(at, scale * max(estimate.low, 0.0), scale * min(estimate.high, 1.0), color=BLUE, lw=1.4)
    names = [f"{short(group.name, 18)}\n{group.turns:,}" for group in groups]
    steep = sum(len(short(group.name, 18)) for group in groups) > 42
    axes.set_xticks(
        place, [name.replace("\n", "  ") for name in names] if steep else names, rotation=38 if steep else 0,
        ha="right" if steep else "center", rotation_mode="anchor" if steep else "default", fontsize=8,
    )  # fmt: skip
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.tick_params(axis="x", length=0)
