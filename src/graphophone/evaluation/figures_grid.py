"""The heat map of a grid of numbers of neighbours.

As in :mod:`~graphophone.evaluation.figures`, every function returns a matplotlib ``Figure``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from graphophone.evaluation.figures import INK, VERMILION, styled

_MARKS = {
    "validation": ("best on validation items, by weighted F1", "-", 2.4),
    "test": ("best on test items, which leaks", (0, (2, 1.5)), 2.4),
}


@dataclass(frozen=True)
class GridPanel:
    """One heat map.

    Attributes:
        title: What is above it.
        cells: Fractions, numbers of neighbours by text as index and by audio as columns.
    """

    title: str
    cells: pd.DataFrame


@styled
def neighbour_heat_map(panels: Sequence[GridPanel], marks: Mapping[str, tuple[int, int]]) -> Figure:
    """What was measured with each pair of numbers of neighbours, the chosen one framed.

    Args:
        panels: One heat map each, two in a row.
        marks: ``"validation"`` and, where cells were tested, ``"test"``, to numbers by text and by audio.
    """
    rows = math.ceil(len(panels) / 2)
    high, wide = panels[0].cells.shape
    size = 0.36 * max(wide, 6) + 1.3, 0.3 * max(high, 4) + 1.0
    columns = min(2, len(panels))
    figure = Figure(figsize=(columns * size[0], rows * size[1] + 0.3), layout="constrained")
    named: dict[str, Rectangle] = {}
    for axes, panel in zip(figure.subplots(rows, columns, squeeze=False).flat, panels, strict=False):
        _cells(axes, panel)
        for name, cell in marks.items():
            named[name] = _frame(axes, panel.cells, name, cell)
    figure.legend(
        [*named.values()], [_MARKS[name][0] for name in named], loc="outside lower center", ncols=2, fontsize=8
    )
    return figure


def _cells(axes: Axes, panel: GridPanel) -> None:
    values = 100 * panel.cells.to_numpy(dtype=np.float64)
    low, high = np.nanmin(values), np.nanmax(values)
    image = axes.imshow(values, origin="lower", cmap="viridis", vmin=low, vmax=max(high, low + 1e-6), aspect="auto")
    for row, column in np.ndindex(values.shape):
        value = values[row, column]
        if not np.isnan(value):
            dark = value < low + 0.6 * (high - low)
            axes.text(
                column, row, f"{value:.1f}", ha="center", va="center", fontsize=7, color="white" if dark else "black"
            )
    axes.set_xticks(range(values.shape[1]), [str(k) for k in panel.cells.columns])
    axes.set_yticks(range(values.shape[0]), [str(k) for k in panel.cells.index])
    axes.set_xlabel("neighbours by audio")
    axes.set_ylabel("neighbours by text")
    axes.set_title(panel.title)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    bar = axes.figure.colorbar(image, ax=axes)
    bar.outline.set_visible(False)


def _frame(axes: Axes, cells: pd.DataFrame, name: str, cell: tuple[int, int]) -> Rectangle:
    """A frame around a cell."""
    row, column = list(map(int, cells.index)).index(cell[0]), list(map(int, cells.columns)).index(cell[1])
    _, dashes, width = _MARKS[name]
    frame = Rectangle(
        (column - 0.5, row - 0.5), 1, 1, fill=False, lw=width, ls=dashes, zorder=4,
        ec=VERMILION if name == "validation" else INK,
    )  # fmt: skip
    axes.add_patch(frame)
    return frame
