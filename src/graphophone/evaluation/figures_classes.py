"""The figure of what each class of one label per item comes to, and how large it is.

As in :mod:`~graphophone.evaluation.figures`, every function returns a matplotlib ``Figure``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from graphophone.evaluation.figures import BLUE, GREEN, ORANGE, VERMILION, precision_by_support, short, styled

NAMED = 60
"""Most classes that each get a row of their own."""


@styled
def precision_and_size(per_class: Sequence[Mapping[str, Any]]) -> Figure:
    """Average precision and recall of every class, and its number of items, best first; as Fig. 2 of Shirian et al.

    More than :data:`NAMED` classes are dots, average precision against number of items.

    Args:
        per_class: Entries with ``class``, ``ap`` and ``recall`` (fractions; None for a class without items, which is
            left out) and ``support``, its number of items.
    """
    rows = sorted((row for row in per_class if row["ap"] is not None), key=lambda row: -row["ap"])
    if len(rows) > NAMED:
        return precision_by_support(rows)
    figure = Figure(figsize=(7.6, max(0.21 * len(rows) + 1.1, 2.2)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(2.0, 1.0))
    place = np.arange(len(rows))
    precision = [row["ap"] for row in rows]
    left.hlines(place, 0, precision, color=BLUE, lw=1.2, alpha=0.5)
    left.plot(precision, place, "o", color=BLUE, ms=5, mew=0, label="average precision")
    left.plot([row["recall"] for row in rows], place, "D", color=ORANGE, ms=4, mew=0, label="recall")
    left.axvline(float(np.mean(precision)), color=VERMILION, lw=1.2, label="mean average precision")
    left.set_xlim(0, 1.02)
    left.set_yticks(place, [short(str(row["class"]), 28) for row in rows])
    left.set_ylim(len(rows) - 0.4, -0.6)
    left.tick_params(axis="y", length=0, labelsize=8)
    left.grid(axis="x")
    sizes = [row["support"] for row in rows]
    right.barh(place, sizes, height=0.7, color=GREEN, alpha=0.7)
    for at, size in enumerate(sizes):
        right.annotate(f"{size:,}", (size, at), xytext=(3, 0), textcoords="offset points", va="center", fontsize=7.5)
    right.set_xlim(0, 1.25 * max(sizes))
    right.tick_params(axis="y", length=0)
    right.grid(axis="x")
    right.set_xlabel("test items of the class")
    figure.legend(loc="outside upper center", ncols=3, fontsize=8)
    return figure
