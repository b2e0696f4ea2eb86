"""ROC and precision-recall curves of classes, each against all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

from graphophone.evaluation.ranking import MetricError, rank_rows

MICRO, MACRO = "all pairs of item and class (micro)", "mean over the classes (macro)"
_GRID = np.linspace(0, 1, 201)


@dataclass(frozen=True, eq=False)
class Curve:
    """How the scores of one class rank its items above all others.

    Attributes:
        name: The class, or what was put together.
        false_positives: Share of the others that a threshold lets through, ascending ``[points]``.
        true_positives: Share of the class's own that it lets through ``[points]``.
        auc: Area under the two; None where it has no others.
        recall: Descending ``[steps]``; none for the mean over the classes.
        precision: At these ``[steps]``.
        ap: Average precision: the mean over the hits of the precision at their place.
    """

    name: str
    false_positives: np.ndarray
    true_positives: np.ndarray
    auc: float | None
    recall: np.ndarray
    precision: np.ndarray
    ap: float


def class_curves(y_true: Any, probabilities: Any, classes: Sequence[str]) -> list[Curve]:
    """Curves of every class, then of all pairs of item and class as one ranking, then their mean.

    Classes without items are left out. The mean ROC curve takes the mean of the true positives of the classes at each
    share of false positives; its area is the mean of theirs, and its average precision the mean of theirs (mAP).

    Args:
        y_true: Class index of every item ``[items]``.
        probabilities: ``[items, classes]``, of one network: those of several are not on one scale.
        classes: Name of every class.

    Raises:
        MetricError: If there is no item.
    """
    target, p = np.asarray(y_true), np.asarray(probabilities, dtype=np.float64)
    if not len(target):
        raise MetricError("there is no prediction to draw curves of")
    hits = np.eye(len(classes), dtype=bool)[target]
    found = [_curve(name, hits[:, i], p[:, i]) for i, name in enumerate(classes) if hits[:, i].any()]
    whole = [curve for curve in found if curve.auc is not None]
    if len(whole) < 2:  # one class has no others to be told from
        return found
    mean = np.mean([np.interp(_GRID, curve.false_positives, curve.true_positives) for curve in whole], axis=0)
    nothing = np.zeros(0)
    macro = Curve(
        MACRO,
        np.concatenate([[0.0], _GRID]),
        np.concatenate([[0.0], mean]),
        float(np.mean([curve.auc for curve in whole])),
        nothing,
        nothing,
        float(np.mean([curve.ap for curve in found])),
    )
    return [*found, _curve(MICRO, hits.ravel(), p.ravel()), macro]


def _curve(name: str, hits: np.ndarray, scores: np.ndarray) -> Curve:
    """Of one ranking with at least one hit."""
    ranked = rank_rows(hits[None], scores[None])
    precision, recall, _ = precision_recall_curve(hits, scores)
    if hits.all():
        nothing = np.zeros(0)
        return Curve(name, nothing, nothing, None, recall, precision, float(ranked.average_precision[0]))
    false, true, _ = roc_curve(hits, scores)
    return Curve(name, false, true, float(ranked.auc[0]), recall, precision, float(ranked.average_precision[0]))


def some_of(curves: Sequence[Curve], limit: int = 8) -> list[Curve]:
    """At most ``limit`` classes for a figure: of more, some from the best to the worst by average precision.

    Args:
        curves: What :func:`class_curves` gave.
        limit: How many classes; the two that put all together come on top.
    """
    single = [curve for curve in curves if curve.name not in (MICRO, MACRO)]
    together = [curve for curve in curves if curve.name in (MICRO, MACRO)]
    if len(single) > limit:
        order = sorted(single, key=lambda curve: -curve.ap)
        single = [order[round(place)] for place in np.linspace(0, len(order) - 1, limit)]
    return [*single, *together]
