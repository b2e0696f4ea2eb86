"""Figures of what a network reads and of what it makes of it.

As in :mod:`~graphophone.evaluation.figures`, every function returns a matplotlib ``Figure``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from graphophone.evaluation.figures import BLUE, GREEN, INK, MUTED, ORANGE, PURPLE, SKY, VERMILION, short, styled

_COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, INK, MUTED)
_MARKERS = "os^Dv"


@styled
def state_map(points: np.ndarray, labels: Sequence[str], classes: Sequence[str]) -> Figure:
    """States of items in two dimensions, one colour and shape per class.

    Up to 20 classes have a legend; more have their name where the middle of their items is.

    Args:
        points: ``[items, 2]``.
        labels: Class of every item.
        classes: Name of every class.
    """
    few = len(classes) <= 20
    figure = Figure(figsize=(7.2 if few else 7.6, 5.0 if few else 6.6), layout="constrained")
    _scatter(figure.subplots(), points, labels, classes, named=not few)
    if few:
        figure.legend(loc="outside right upper", fontsize=8, markerscale=1.4)
    return figure


@styled
def state_maps(maps: Mapping[str, tuple[np.ndarray, Sequence[str]]], classes: Sequence[str]) -> Figure:
    """Maps of the states of several networks side by side, three in a row.

    Args:
        maps: Name of a network to points ``[items, 2]`` and the class of every item.
        classes: Name of every class; up to 20 have a legend.
    """
    rows, columns = math.ceil(len(maps) / 3), min(3, len(maps))
    figure = Figure(figsize=(3.0 * columns + 0.4, 2.9 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (name, (points, labels)) in zip(grid, maps.items(), strict=False):
        _scatter(axes, points, labels, classes, named=False)
        axes.set_title(short(name, 34), fontsize=8.5)
    for axes in grid[len(maps) :]:
        axes.set_visible(False)
    if len(classes) <= 20:
        handles = {
            label: handle for axes in grid for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend([*handles.values()], [*handles], loc="outside lower center", fontsize=8, markerscale=1.6, ncols=6)
    return figure


def _scatter(axes: Axes, points: np.ndarray, labels: Sequence[str], classes: Sequence[str], *, named: bool) -> None:
    """Points of every class, each class with its name in the middle of them if wanted."""
    known = np.asarray(labels)
    size = 5.0 if len(points) <= 400 else 3.6 if len(points) <= 1200 else 2.6
    for number, name in enumerate(classes):
        own = points[known == name]
        if not len(own):
            continue
        # Eight colours and five shapes: no two of 40 classes look alike, and neighbours differ in both.
        colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
        axes.plot(own[:, 0], own[:, 1], marker, color=colour, ms=size, mew=0, alpha=0.75, label=short(name, 24))
        if named:
            middle = np.median(own, axis=0)
            axes.annotate(short(name, 18), middle, ha="center", va="center", fontsize=6.5, color=INK, zorder=4)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal", adjustable="datalim")
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_linewidth(0.5)


@styled
def spectrogram(x: np.ndarray, *, hop: float | None = None) -> Figure:
    """One clip as a model of spectrograms reads it.

    Args:
        x: Bands over time ``[frames, bands]``, standardised.
        hop: Seconds from frame to frame, for the axis; frame numbers without it.
    """
    x = np.asarray(x, dtype=np.float32)
    end = len(x) * hop if hop else len(x)
    if len(x) > 1200:  # more columns than a page has room for
        x = np.stack([part.mean(axis=0) for part in np.array_split(x, 1200)])
    figure = Figure(figsize=(8.0, 3.0), layout="compressed")
    axes = figure.subplots()
    low, high = np.percentile(x, [0.5, 99.5])  # a click must not darken all the rest
    image = axes.imshow(
        x.T, origin="lower", aspect="auto", cmap="viridis", vmin=low, vmax=max(high, low + 1e-6),
        extent=(0, end, 0, x.shape[1]), interpolation="nearest",
    )  # fmt: skip
    axes.set_xlabel("time, s" if hop else "frame")
    axes.set_ylabel("band, low to high")
    for spine in axes.spines.values():
        spine.set_visible(False)
    bar = figure.colorbar(image, ax=axes)
    bar.set_label("level, standardised")
    bar.outline.set_visible(False)
    return figure
