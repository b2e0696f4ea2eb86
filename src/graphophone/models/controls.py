"""What few labels give without a graph network: nearest neighbours and label propagation on the same features.

The other controls are settings: `create_model("subgraph_ssl", backbone="mlp")` is the perceptron, and
`graphophone.graphs.signed.signed_edges` of a whole pool with `graphophone.tasks.transductive.fit_transductive` the
single large graph.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import KNeighborsClassifier
from sklearn.semi_supervised import LabelSpreading
from torch import Tensor
from torch_geometric.nn.models import LabelPropagation

from graphophone.models.base import ModelError


def nearest_labelled(
    x: NDArray[np.floating], labels: NDArray[np.integer], new: NDArray[np.floating], num_classes: int, *, k: int = 5
) -> NDArray[np.float64]:
    """Share of each class among the `k` nearest labelled recordings, by Euclidean distance.

    Args:
        x: Features of the pool, standardised ``[pool, dims]``.
        labels: Class of each, -1 where it is not known ``[pool]``.
        new: Features of the recordings to classify ``[clips, dims]``.
        num_classes: C.
        k: Neighbours; fewer where there are fewer labels.

    Returns:
        ``[clips, C]``, rows add up to 1.

    Raises:
        ModelError: If no node has a label.
    """
    known = _known(labels)
    model = KNeighborsClassifier(n_neighbors=min(k, len(known))).fit(x[known], labels[known])
    return _all_classes(model.predict_proba(new), model.classes_, num_classes)


def spread_labels(
    x: NDArray[np.floating],
    labels: NDArray[np.integer],
    new: NDArray[np.floating],
    num_classes: int,
    *,
    k: int = 10,
    alpha: float = 0.2,
    steps: int = 1000,
) -> NDArray[np.float64]:
    """Labels of a pool spread over its nearest-neighbour graph, and from there to new recordings.

    Zhou, Bousquet, Lal, Weston, Schölkopf, "Learning with local and global consistency" (2004), as scikit-learn's
    `LabelSpreading` has it. New recordings take no part in the spreading.

    Args:
        x: Features of the pool, standardised ``[pool, dims]``.
        labels: Class of each, -1 where it is not known ``[pool]``.
        new: Features of the recordings to classify ``[clips, dims]``.
        num_classes: C.
        k: Neighbours of each.
        alpha: What a node takes from its neighbours, in (0, 1); the rest is its own label.
        steps: Most rounds.

    Returns:
        ``[clips, C]``, rows add up to 1 (all classes alike where no label arrives).

    Raises:
        ModelError: If no node has a label.
    """
    _known(labels)
    model = LabelSpreading(kernel="knn", n_neighbors=min(k, len(x) - 1), alpha=alpha, max_iter=steps)
    with warnings.catch_warnings():
        # Nodes that no label reaches divide 0 by 0; they are given all classes alike below.
        warnings.filterwarnings("ignore", category=RuntimeWarning)
        warnings.filterwarnings("ignore", category=ConvergenceWarning)
        model.fit(x, labels)
        model.label_distributions_ = np.nan_to_num(model.label_distributions_)
        p = np.nan_to_num(model.predict_proba(new))
    p[p.sum(axis=1) == 0] = 1.0
    return _all_classes(p / p.sum(axis=1, keepdims=True), model.classes_, num_classes)


def propagate_labels(
    edge_index: Tensor, labels: Tensor, num_classes: int, *, steps: int = 50, alpha: float = 0.9
) -> Tensor:
    """Labels spread over a given graph; see :class:`torch_geometric.nn.models.LabelPropagation`.

    Args:
        edge_index: Sources and targets of an undirected graph ``[2, E]``.
        labels: Class of each node, -1 where it is not known ``[N]``.
        num_classes: C.
        steps: Rounds.
        alpha: What a node takes from its neighbours in each.

    Returns:
        Score of each class ``[N, C]``.

    Raises:
        ModelError: If no node has a label.
    """
    known = labels >= 0
    if not bool(known.any()):
        raise ModelError("no node has a label to propagate; label at least one")
    one_hot = torch.zeros(len(labels), num_classes, device=labels.device)
    one_hot[known] = torch.nn.functional.one_hot(labels[known], num_classes).to(one_hot.dtype)
    return LabelPropagation(num_layers=steps, alpha=alpha)(one_hot, edge_index)


def _known(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    known = np.flatnonzero(labels >= 0)
    if not len(known):
        raise ModelError("no recording has a label; label at least one")
    return known


def _all_classes(p: NDArray[np.float64], classes: NDArray[np.integer], num_classes: int) -> NDArray[np.float64]:
    """Probabilities with a column for every class, also for those without labels."""
    whole = np.zeros((len(p), num_classes))
    whole[:, classes] = p
    return whole
