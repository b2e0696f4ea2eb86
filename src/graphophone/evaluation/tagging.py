"""What scores of tags are worth: mean average precision and its companions.

All rates are fractions between 0 and 1, as the field writes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from graphophone.evaluation.ranking import MetricError, rank_rows

THRESHOLD = 0.5
"""A tag is given where its probability is at least this."""

TAGGING_SCALARS = ("map", "mauc", "dprime", "lwlrap", "micro_f1", "macro_f1")
"""Keys of the single numbers in what :func:`tagging_metrics` returns."""


def d_prime(auc: float) -> float | None:
    """Distance of two unit normal distributions with this area under the ROC curve, ``sqrt(2) * probit(auc)``.

    Returns:
        None at 0 and 1, where the distance has no bound.
    """
    return math.sqrt(2.0) * float(stats.norm.ppf(auc)) if 0.0 < auc < 1.0 else None


def _checked(targets: Any, scores: Any, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    y, s = np.asarray(targets), np.asarray(scores)
    if y.ndim != 2 or y.shape != s.shape or y.shape[1] != len(classes):
        raise MetricError(
            f"targets {y.shape} and scores {s.shape} do not fit {len(classes)} classes: give [items, classes] twice"
        )
    if len(y) == 0:
        raise MetricError("there is no prediction to score")
    if not ((y == 0) | (y == 1)).all():
        raise MetricError("targets of tags are 0 or 1: score against the labels themselves, not mixed ones")
    finite = np.isfinite(s).all(axis=1)
    if not finite.all():
        raise MetricError(f"row {int(np.argmin(finite))} of the scores is not finite: the model has diverged")
    if not y.any():
        raise MetricError("no item has a tag, so there is nothing to rank")
    return y.astype(bool), s


def tagging_metrics(
    targets: Any, scores: Any, classes: Sequence[str], *, threshold: float = THRESHOLD
) -> dict[str, Any]:
    """Score tags, of which an item may have any number.

    Classes without a positive item have no average precision: they are left out of every mean over classes and
    named in ``excluded``.

    Args:
        targets: 1 where an item has the tag, else 0, ``[items, classes]``.
        scores: Probabilities ``[items, classes]``. Numbers of any scale will do for everything but F1,
            precision and recall, which then need a ``threshold`` on that scale (0 for logits).
        classes: Name of every class.
        threshold: From where on a tag counts as given.

    Returns:
        A dictionary fit for JSON:

        * ``kind`` ("tagging"), ``n``, ``classes``, ``excluded``, ``threshold``;
        * ``map``: unweighted mean over classes of the average precision (scikit-learn's definition);
        * ``mauc``: unweighted mean over classes of the area under the ROC curve;
        * ``dprime``: :func:`d_prime` of that mean area, as for AudioSet; None where it is 0 or 1;
        * ``lwlrap``: label-weighted label-ranking average precision: every tag of every item counts the same;
        * ``micro_f1`` over all cells, ``macro_f1`` as mean over classes, at the threshold;
        * ``per_class``: ``class``, ``ap``, ``auc``, ``dprime``, ``precision``, ``recall``, ``f1``, ``support``
          (positive items) and ``predicted``; what is not defined is None.

    Raises:
        MetricError: If shapes or values do not fit, or no item has a tag.
    """
    y, s = _checked(targets, scores, classes)
    by_class = rank_rows(np.ascontiguousarray(y.T), np.ascontiguousarray(s.T))
    by_item = rank_rows(y, s)
    support, ap, auc = by_class.positives, by_class.average_precision, by_class.auc
    there = support > 0
    mauc = float(np.nanmean(auc)) if np.isfinite(auc).any() else None
    given = s >= threshold
    predicted, right = given.sum(axis=0), (given & y).sum(axis=0)
    f1 = 2 * right / np.maximum(predicted + support, 1)
    total = int(predicted.sum() + support.sum())
    return {
        "kind": "tagging",
        "n": len(y),
        "classes": list(classes),
        "excluded": [name for name, seen in zip(classes, there, strict=True) if not seen],
        "threshold": float(threshold),
        "map": float(ap[there].mean()),
        "mauc": mauc,
        "dprime": None if mauc is None else d_prime(mauc),
        "lwlrap": float(by_item.precision_sum.sum() / by_item.positives.sum()),
        "micro_f1": 2 * int(right.sum()) / total,
        "macro_f1": float(f1[there].mean()),
        "per_class": [
            {
                "class": name,
                "ap": _number(ap[i]),
                "auc": _number(auc[i]),
                "dprime": None if np.isnan(auc[i]) else d_prime(float(auc[i])),
                "precision": float(right[i] / predicted[i]) if predicted[i] else None,
                "recall": float(right[i] / support[i]) if support[i] else None,
                "f1": float(f1[i]) if support[i] else None,
                "support": int(support[i]),
                "predicted": int(predicted[i]),
            }
            for i, name in enumerate(classes)
        ],
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def threshold_table(targets: np.ndarray, scores: np.ndarray, steps: int = 100) -> dict[str, np.ndarray]:
    """Precision, recall and F1 over all tags of all items, by the probability from which on a tag is given.

    Args:
        targets: 0 or 1, ``[items, classes]``.
        scores: Probabilities ``[items, classes]``.
        steps: Number of equal steps between 0 and 1.

    Returns:
        ``threshold`` and, at each, ``precision`` (NaN where no tag is given), ``recall`` and ``f1``.
    """
    edges = np.linspace(0.0, 1.0, steps + 1)
    # A score on an edge is at or above that threshold, hence side="right".
    place = np.searchsorted(edges, scores.ravel(), side="right") - 1
    given = np.bincount(place, minlength=steps + 1)[::-1].cumsum()[::-1]
    right = np.bincount(place, weights=targets.ravel(), minlength=steps + 1)[::-1].cumsum()[::-1]
    total = targets.sum()
    precision = np.divide(right, given, out=np.full(steps + 1, np.nan), where=given > 0)
    return {"threshold": edges, "precision": precision, "recall": right / total, "f1": 2 * right / (given + total)}
