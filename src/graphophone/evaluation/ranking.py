"""How well scores put what is there above what is not: average precision, area under the ROC curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphophone.errors import GraphophoneError

CELLS = 2**21
"""Scores that are sorted at a time, which bounds the working memory to some tens of MB."""


class MetricError(GraphophoneError):
    """Predictions that cannot be scored."""


@dataclass(frozen=True, eq=False)
class Ranked:
    """What sorting every row of a table of scores tells, one value per row.

    Attributes:
        positives: Number of hits, int ``[rows]``.
        precision_sum: Sum over the hits of the precision at their place, ``[rows]``.
        auc: Area under the ROC curve ``[rows]``; NaN in a row that is all hits or has none.
    """

    positives: np.ndarray
    precision_sum: np.ndarray
    auc: np.ndarray

    @property
    def average_precision(self) -> np.ndarray:
        """Mean over the hits of the precision at their place ``[rows]``; NaN in a row without hits."""
        none = np.full(len(self.positives), np.nan)
        return np.divide(self.precision_sum, self.positives, out=none, where=self.positives > 0)


def rank_rows(targets: np.ndarray, scores: np.ndarray) -> Ranked:
    """Rank every row by itself, highest score first.

    Equal scores share a place: the precision at a hit is that of all scores at least as high, as in
    scikit-learn's ``average_precision_score``, and a tie between a hit and a miss counts half in the area
    under the ROC curve. All rows are sorted together, in blocks, O(rows n log n).

    Args:
        targets: Hits, bool ``[rows, n]``.
        scores: Finite numbers of any scale ``[rows, n]``.
    """
    rows, n = targets.shape
    positives = targets.sum(axis=1)
    precision_sum, rank_sum = np.zeros(rows), np.zeros(rows)
    step = max(CELLS // max(n, 1), 1)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        precision_sum[part], rank_sum[part] = _sums(targets[part], scores[part])
    pairs = positives * (n - positives)
    wins = rank_sum - positives * (positives + 1) / 2
    auc = np.divide(wins, pairs, out=np.full(rows, np.nan), where=pairs > 0)
    return Ranked(positives, precision_sum, auc)


def _sums(targets: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per row, the sum over the hits of the precision there and of their rank from below, ties shared."""
    rows, n = targets.shape
    order = np.argsort(np.negative(scores), axis=1)
    hits = np.take_along_axis(targets, order, axis=1)
    ordered = np.take_along_axis(scores, order, axis=1)
    new = np.ones((rows, n + 1), dtype=bool)  # where a group of equal scores begins; one more begins after the end
    new[:, 1:n] = ordered[:, 1:] != ordered[:, :-1]
    starts = np.flatnonzero(new)  # of all groups of all rows, one after another; no group spans two rows
    row, place = np.nonzero(hits)
    group = np.searchsorted(starts, row * (n + 1) + place, side="right") - 1
    first, end = starts[group] - row * (n + 1), starts[group + 1] - row * (n + 1)  # of the group that the hit is in
    found = np.cumsum(hits, axis=1)[row, end - 1]
    precision = np.bincount(row, weights=found / end, minlength=rows)
    rank = np.bincount(row, weights=n - (first + end - 1) / 2, minlength=rows)
    return precision, rank
