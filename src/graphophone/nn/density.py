"""Density peaks, with densities from nearest neighbours.

Rodriguez and Laio, "Clustering by fast search and find of density peaks" (2014).
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphophone.nn.clustering import Clusters, squared_distances
from graphophone.nn.kmeans import cluster_means
from graphophone.nn.selection import largest


def peak_scores(x: Tensor, neighbours: int = 9) -> Tensor:
    r"""How much each node is a centre: :math:`\rho_i \delta_i`.

    :math:`\rho_i = \exp(-\text{mean of the smallest } d^2_{ij} / C)` over its nearest nodes, itself among them;
    :math:`\delta_i` is the distance to the nearest denser node, for the densest one the largest distance.

    Args:
        x: Nodes ``[B, M, C]``; memory grows with M x M.
        neighbours: Nodes the density is taken over.

    Returns:
        ``[B, M]``.
    """
    squared = squared_distances(x, x) / x.size(-1)
    squared.diagonal(dim1=1, dim2=2).zero_()
    density = (-squared.topk(min(neighbours, x.size(1)), largest=False).values.mean(-1)).exp()
    # Of equally dense nodes the first counts as denser, so that one node only is the densest.
    order = density.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    denser = order[:, None, :] < order[:, :, None]
    distance = squared.masked_fill(~denser, torch.inf).amin(-1)
    return density * torch.where(distance.isinf(), squared.amax(-1), distance).sqrt()


def density_peaks(
    x: Tensor, pooled: Tensor, *, number: int, top: int, neighbours: int = 9, centroid_grad: bool = False
) -> Clusters:
    """Clusters around the nodes that are dense and far from denser ones.

    Args:
        x: Nodes ``[B, N, C]``.
        pooled: Nodes that may be centres ``[B, M, C]``: means of windows of a large grid, or the nodes themselves.
        number: P, lowered to M where there are fewer.
        top: K, lowered to P.
        neighbours: Nodes a density is taken over.
        centroid_grad: Let the gradient pass through the means into the nodes.

    Returns:
        Means of the nodes of each cluster ``[B, P, C]``, and indices of the centres nearest to each node
        ``[B, N, K]``, in any order.
    """
    with torch.no_grad():
        number = min(number, pooled.size(1))
        chosen = peak_scores(pooled, neighbours).topk(number).indices
        centres = pooled.gather(1, chosen[..., None].expand(-1, -1, pooled.size(-1)))
        squared = squared_distances(x, centres)
        nearest, assigned = largest(-squared, min(top, number)), squared.argmin(-1)
    with torch.set_grad_enabled(torch.is_grad_enabled() and centroid_grad):
        return Clusters(cluster_means(x, assigned, centres.detach()), nearest)
