"""The figure of ROC and precision-recall curves.

As in :mod:`~graphophone.evaluation.figures`, every function returns a matplotlib ``Figure``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from graphophone.evaluation.curves import MACRO, MICRO, Curve
from graphophone.evaluation.figures import BLUE, GREEN, INK, MUTED, ORANGE, PURPLE, SKY, VERMILION, short, styled

_COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY)
_POINTS = 300  # of a line: more than a page can show


@styled
def ranking_curves(curves: Sequence[Curve], shares: Sequence[float] = ()) -> Figure:
    """ROC curves on the left, precision against recall on the right, a line for each class.

    Args:
        curves: What :func:`~graphophone.evaluation.curves.class_curves` gives; a dozen at most can be told apart.
        shares: Share of the items that each class has, in the order of ``curves``, as far as they go: what precision is
            by chance, drawn as a short line on the right.
    """
    figure = Figure(figsize=(8.6, 4.4 + 0.16 * len(curves)), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color=MUTED, lw=0.9, ls=(0, (4, 3)))
    handles = []
    for number, curve in enumerate(curves):
        colour = {MICRO: INK, MACRO: MUTED}.get(curve.name, _COLOURS[number % len(_COLOURS)])
        together = curve.name in (MICRO, MACRO)
        dashes = (0, (5, 2)) if together else "-" if number < len(_COLOURS) else (0, (1.5, 1.2))
        style = {"color": colour, "lw": 1.8 if together else 1.4, "ls": dashes, "zorder": 3 if together else 2}
        area = "–" if curve.auc is None else f"{curve.auc:.3f}"
        label = f"{short(curve.name, 40)}: AUC {area}, AP {curve.ap:.3f}"
        (line,) = left.plot(*_thin(curve.false_positives, curve.true_positives), label=label, **style)
        handles.append(line)
        right.plot(*_thin(curve.recall, curve.precision), **style)
        if number < len(shares):
            right.plot([0.97, 1.03], [shares[number]] * 2, color=colour, lw=2.4, clip_on=False, solid_capstyle="butt")
    left.set_xlabel("others let through (false positive rate)")
    left.set_ylabel("own let through (true positive rate)")
    left.set_title("ROC")
    right.set_xlabel("recall")
    right.set_ylabel("precision")
    right.set_title("Precision and recall")
    for axes in (left, right):
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.grid()
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8)
    return figure


def _thin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most some hundred points of a curve, evenly along its length, ends kept."""
    if len(x) <= _POINTS:
        return x, y
    walked = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    keep = np.unique(np.searchsorted(walked, np.linspace(0, walked[-1], _POINTS)).clip(max=len(x) - 1))
    return x[keep], y[keep]
