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


def spread_evenly(classes: NDArray[np.integer] | NDArray[np.str_], limit: int) -> NDArray[np.int64]:
    """Rows of at most ``limit`` items, the same share of every class, in their order.

    Args:
        classes: Class of every item ``[items]``.
        limit: How many.
    """
    if len(classes) <= limit:
        return np.arange(len(classes))
    order = np.argsort(classes, kind="stable")
    return np.sort(order[np.linspace(0, len(order) - 1, limit).round().astype(np.int64)])


def state_map(h: NDArray[np.floating], perplexity: float = 30.0) -> NDArray[np.float32]:
    """States in two dimensions by t-SNE (van der Maaten and Hinton, 2008): neighbours stay neighbours.

    Distances between groups, and their sizes, mean nothing in such a map. It begins from the two main components and
    has no randomness; on one machine the same states give the same map.

    Args:
        h: States ``[items, dims]``.
        perplexity: About how many neighbours count; fewer where there are less than three times as many items.

    Returns:
        ``[items, 2]``.

    Raises:
        MetricError: If there are fewer than 5 items, or a state is not finite.
    """
    from sklearn.manifold import TSNE  # slow to import
    from threadpoolctl import threadpool_limits

    states = np.asarray(h, dtype=np.float32)
    if states.ndim != 2 or len(states) < 5 or not np.isfinite(states).all():
        raise MetricError(f"a map needs finite states of 5 items or more, not {list(states.shape)}")
    if not states.std(axis=0).any():  # nothing to lay out
        return np.zeros((len(states), 2), dtype=np.float32)
    layout = TSNE(perplexity=min(perplexity, (len(states) - 1) / 3), init="pca", learning_rate="auto", random_state=0)
    # Its steps are many and short: on a busy machine threads wait for each other, up to fifty times longer than one.
    with threadpool_limits(1):
        return np.asarray(layout.fit_transform(states), dtype=np.float32)
