"""Label budgets: which training items keep their label, where labels are few."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphophone.corpora.base import label_sets

if TYPE_CHECKING:
    from scipy.sparse import csr_array


def interleaved(sets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Keys between 0 and 1, ``[items]``: the first items in their order hold the same share of each set.

    Args:
        sets: Set of every item, as numbers from 0, int64 ``[items]``.
        rng: Source of chance.
    """
    counts = np.bincount(sets)
    shuffled = rng.permutation(len(sets))
    by_set = shuffled[np.argsort(sets[shuffled], kind="stable")]
    rank = np.empty(len(sets))
    rank[by_set] = np.arange(len(sets)) - np.repeat(np.cumsum(counts) - counts, counts)
    return (rank + rng.uniform(size=len(counts))[sets]) / counts[sets]


def draw_budget(labels: csr_array, share: float, rng: np.random.Generator) -> np.ndarray:
    """Draw the items whose labels are given: about the same share of every class, and one item of each at least.

    All shares cut one order of the items off at different places. So the draws are nested: with the same source of
    chance, a larger share draws all that a smaller one draws. (Rounding the share of every class by itself, as the
    method of largest remainders does, would not be: a class may lose an item when the total grows.)

    Args:
        labels: Classes of every item, zeros and ones, sparse ``[items, classes]``.
        share: Share of the items, above 0, at most 1.
        rng: Source of chance.

    Returns:
        Mask of the drawn items, bool ``[items]``: ``round(share * items)`` of them, or as many as it takes to have
        every class that occurs.
    """
    order = np.argsort(interleaved(label_sets(labels), rng), kind="stable")
    ordered = labels[order]
    by_class = ordered.tocsc()
    needed = np.zeros(len(order), dtype=bool)
    met = np.zeros(labels.shape[1], dtype=bool)
    # The rarest class first: where items have several, its item may bring more frequent ones along.
    for label in np.argsort(np.diff(by_class.indptr), kind="stable").tolist():
        places = by_class.indices[by_class.indptr[label] : by_class.indptr[label + 1]]
        if len(places) and not met[label]:
            place = int(places.min())
            needed[place] = True
            met[ordered[[place]].indices] = True
    order = np.concatenate([order[needed], order[~needed]])
    drawn = np.zeros(len(order), dtype=bool)
    drawn[order[: max(int(needed.sum()), round(share * len(order)))]] = True
    return drawn
