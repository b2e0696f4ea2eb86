"""What node states look like: how far they have become alike, and how far classes lie apart."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import silhouette_score
from torch import Tensor

from graphophone.evaluation.ranking import MetricError

# Cosines held at once: 32 MiB.
BLOCK = 2**22


def mean_average_distance(h: Tensor, ptr: Tensor | None = None) -> float:
    r"""Mean average distance (MAD) of node states: 0 where all point the same way, as in an oversmoothed network.

    Chen, Lin, Li, Li, Zhou, Sun, "Measuring and relieving the over-smoothing problem for graph neural networks" (AAAI
    2020): the cosine distance of every pair of nodes of a graph; its mean over each row's entries above 0, and the mean
    of these over the rows that have any. Memory does not grow with the square of the nodes.

    Args:
        h: Node states ``[nodes, dims]``. Rows of zeros have distance 1 to every other.
        ptr: Where each graph begins, and where the last one ends; one graph if left out. Rows of all graphs count
            alike. ``[graphs + 1]`` int64

    Returns:
        Between 0 and 2.

    Raises:
        MetricError: If there is no node, or a state is not finite.
    """
    if h.dim() != 2 or not len(h) or not bool(h.isfinite().all()):
        raise MetricError(f"node states must be a matrix of finite numbers with a row or more, not {list(h.shape)}")
    rows = torch.nn.functional.normalize(h.detach().double(), dim=1)
    limits = [0, len(h)] if ptr is None else ptr.tolist()
    total, counted = 0.0, 0
    for begin, end in itertools.pairwise(limits):
        graph = rows[begin:end]
        for part in graph.split(max(1, BLOCK // max(1, end - begin))):
            distance = 1 - part @ graph.T
            # Rounding leaves about 1e-16 where states are equal.
            distance = torch.where(distance > 1e-12, distance, 0.0)
            above = (distance > 0).sum(dim=1)
            mean = distance.sum(dim=1)[above > 0] / above[above > 0]
            total, counted = total + mean.sum().item(), counted + len(mean)
    return total / counted if counted else 0.0


def silhouette(h: Tensor | NDArray[np.floating], y: Tensor | NDArray[np.integer]) -> float:
    """Mean silhouette of true classes by Euclidean distance: 1 where they lie far apart, below 0 where they mix.

    Args:
        h: States ``[items, dims]``.
        y: Classes ``[items]``.

    Raises:
        MetricError: If there are fewer than two classes, or as many as items.
    """
    states, classes = np.asarray(h, dtype=np.float64), np.asarray(y)
    count = len(np.unique(classes))
    if not 2 <= count < len(classes):
        raise MetricError(f"a silhouette needs 2 classes or more, and more items: not {count} and {len(classes)}")
    return float(silhouette_score(states, classes))
