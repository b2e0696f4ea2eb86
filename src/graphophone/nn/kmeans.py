"""k-means (Lloyd, "Least squares quantization in PCM", 1982)."""

from __future__ import annotations

import torch
from torch import Tensor

from graphophone.nn.clustering import Clusters, squared_distances
from graphophone.nn.selection import largest


def cluster_means(x: Tensor, assigned: Tensor, centroids: Tensor) -> Tensor:
    """Mean of the nodes of each cluster; one without nodes keeps its centroid.

    Args:
        x: Nodes ``[B, N, C]``.
        assigned: Cluster of each node ``[B, N]`` int64.
        centroids: ``[B, P, C]``.

    Returns:
        ``[B, P, C]``.
    """
    members = (assigned[:, None, :] == torch.arange(centroids.size(1), device=x.device)[:, None]).to(x.dtype)
    count = members.sum(-1, keepdim=True)
    return torch.where(count > 0, (members / count.clamp_min(1)) @ x, centroids)


def k_means(x: Tensor, centroids: Tensor, *, top: int, iterations: int = 1, centroid_grad: bool = False) -> Clusters:
    """Lloyd's iterations from given centroids, and the centroids nearest to each node.

    As with `graphophone.nn.fuzzy.fuzzy_c_means`, nearest is before the last update; a hard membership alone would
    name one centroid.

    Args:
        x: Nodes ``[B, N, C]``.
        centroids: First centroids ``[B, P, C]``.
        top: K, at most P.
        iterations: v, at least 1.
        centroid_grad: Let the gradient pass through the last means into the nodes.

    Returns:
        Centroids ``[B, P, C]`` and indices ``[B, N, K]``, in any order.
    """
    with torch.no_grad():
        for left in range(iterations, 0, -1):
            squared = squared_distances(x, centroids)
            if left > 1:
                centroids = cluster_means(x, squared.argmin(-1), centroids)
        nearest, assigned = largest(-squared, top), squared.argmin(-1)
    with torch.set_grad_enabled(torch.is_grad_enabled() and centroid_grad):
        return Clusters(cluster_means(x, assigned, centroids.detach()), nearest)
