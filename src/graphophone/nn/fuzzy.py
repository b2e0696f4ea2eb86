"""Fuzzy c-means (Bezdek, "Pattern Recognition with Fuzzy Objective Function Algorithms", 1981)."""

from __future__ import annotations

import torch
from torch import Tensor

from graphophone.nn.clustering import Clusters, squared_distances
from graphophone.nn.selection import largest


def _memberships(squared: Tensor, fuzziness: float) -> Tensor:
    """Memberships from squared distances ``[B, N, P]``."""
    if fuzziness == 2:
        inverse = squared.reciprocal()
        return inverse / inverse.sum(-1, keepdim=True)
    # In logarithms: for a fuzziness near 1 the powers themselves overflow.
    return (squared.log() / (1 - fuzziness)).softmax(-1)


def fuzzy_memberships(x: Tensor, centroids: Tensor, fuzziness: float = 2.0) -> Tensor:
    r"""How much each node belongs to each centroid.

    .. math:: u_{ip} = d_{ip}^{-2/(m-1)} / \sum_q d_{iq}^{-2/(m-1)}

    Args:
        x: Nodes ``[B, N, C]``.
        centroids: ``[B, P, C]``.
        fuzziness: m, above 1; towards 1 the memberships become those of k-means.

    Returns:
        ``[B, N, P]``, at least 0; the sum over P is 1.
    """
    return _memberships(squared_distances(x, centroids), fuzziness)


def fuzzy_centroids(x: Tensor, memberships: Tensor, fuzziness: float = 2.0) -> Tensor:
    r"""Means of the nodes, weighted by :math:`u^m`.

    Args:
        x: Nodes ``[B, N, C]``.
        memberships: u ``[B, N, P]``.
        fuzziness: m.

    Returns:
        ``[B, P, C]``; a centroid to which nothing belongs is the mean of the nodes.
    """
    if fuzziness == 2:
        weights = memberships.square()
    else:  # near 1 the shares of all nodes in a far centroid may be too small for a number
        weights = memberships.pow(fuzziness).clamp_min(torch.finfo(memberships.dtype).tiny)
    return (weights.mT @ x) / weights.sum(1)[..., None]


def fuzzy_c_means(
    x: Tensor,
    centroids: Tensor,
    *,
    top: int,
    iterations: int = 1,
    fuzziness: float = 2.0,
    centroid_grad: bool = False,
) -> Clusters:
    """Iterations of fuzzy c-means from given centroids, and the centroids each node belongs to most.

    The chosen centroids are those of the largest membership of the last iteration, and so the nearest *before* its
    update, while the centroids returned are those *after* it.

    Args:
        x: Nodes ``[B, N, C]``.
        centroids: First centroids ``[B, P, C]``; if they are learned, they get gradients (through the memberships).
        top: K, at most P.
        iterations: v, at least 1.
        fuzziness: m.
        centroid_grad: Let gradients pass through the last means into the nodes; through memberships they never do.

    Returns:
        Centroids ``[B, P, C]`` and indices ``[B, N, K]``, in any order.
    """
    fixed = x.detach()
    for left in range(iterations, 0, -1):
        squared = squared_distances(fixed, centroids)
        memberships = _memberships(squared, fuzziness)
        if left > 1:
            centroids = fuzzy_centroids(fixed, memberships, fuzziness)
    nearest = largest(-squared.detach(), top)
    return Clusters(fuzzy_centroids(x if centroid_grad else fixed, memberships, fuzziness), nearest)
