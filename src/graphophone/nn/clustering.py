"""What all clusterings of nodes share: their result, first centroids, distances, spread."""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from graphophone.nn.aggregation import exporting

Init = Literal["pool", "noise", "sample", "learned"]

_LEAST = 1e-8  # squared distance below which a node lies on a centroid
_ROUNDING = 1e-6  # share of a squared norm up to which a squared distance is nothing but rounding in float32


class Clusters(NamedTuple):
    """Centroids ``[B, P, C]``, and of each node those that are nearest ``[B, N, K]`` (int64)."""

    centroids: Tensor
    nearest: Tensor


def squared_distances(x: Tensor, centroids: Tensor) -> Tensor:
    """Squared Euclidean distances, as one product of matrices.

    They are at least 1e-8, and at least a millionth of the mean squared norm of the nodes, which is what rounding may
    leave of zero. Without that bound the memberships of nodes that lie on several equal centroids, as those of padding
    and silence do, are ratios of rounding errors.

    Args:
        x: Nodes ``[B, N, C]``.
        centroids: ``[B, P, C]``.

    Returns:
        ``[B, N, P]``.
    """
    norms = centroids.square().sum(-1)[:, None, :]
    own = x.square().sum(-1, keepdim=True)
    distances = torch.baddbmm(norms, x, centroids.mT, alpha=-2) + own
    return distances.maximum((_ROUNDING * own.mean((1, 2), keepdim=True)).clamp_min(_LEAST))


def centroid_spread(centroids: Tensor, x: Tensor) -> Tensor:
    """How far apart centroids are, in units of how far apart nodes are: near 0, all centroids are the mean.

    The root mean square distance from their mean, of the centroids over that of the nodes, averaged over the batch.

    Args:
        centroids: ``[B, P, C]``.
        x: Nodes ``[B, N, C]``.

    Returns:
        Scalar.
    """

    def scatter(points: Tensor) -> Tensor:
        mean = points.mean(1)
        return (points.square().sum(-1).mean(-1) - mean.square().sum(-1)).clamp_min(0).sqrt()

    return (scatter(centroids.detach()) / scatter(x.detach()).clamp_min(1e-12)).mean()


def cells(number: int) -> tuple[int, int]:
    """Rows and columns of a grid of ``number`` cells, about twice as wide as high (5 x 10 for 50)."""
    rows = [height for height in range(1, number + 1) if number % height == 0]
    height = min(rows, key=lambda rows: abs(rows / (number / 2) ** 0.5 - 1))
    return height, number // height


@functools.lru_cache(maxsize=32)
def _pooling_matrix(height: int, width: int, number: int, device: torch.device) -> Tensor:
    """Weights ``[P, H * W]`` of adaptive average pooling: of n windows over s, i is i s // n to ceil((i + 1) s / n)."""

    def axis(size: int, parts: int) -> Tensor:
        begin = torch.arange(parts) * size // parts
        end = -(-(torch.arange(1, parts + 1) * size) // parts)
        inside = (torch.arange(size) >= begin[:, None]) & (torch.arange(size) < end[:, None])
        return inside / inside.sum(1, keepdim=True)

    rows, columns = cells(number)
    with torch.inference_mode(False):  # it outlives the mode it was first needed in
        return torch.kron(axis(height, rows), axis(width, columns)).to(device)


def pooled_centroids(x: Tensor, number: int) -> Tensor:
    """Means of the nodes of each of ``number`` cells of the grid (adaptive average pooling).

    Args:
        x: Nodes on their grid ``[B, H, W, C]``.
        number: P.

    Returns:
        ``[B, P, C]``.
    """
    # What is made while a network is exported is no tensor to keep.
    make = _pooling_matrix.__wrapped__ if exporting() else _pooling_matrix
    return make(x.size(1), x.size(2), number, x.device).to(x.dtype) @ x.flatten(1, 2)


def sampled_centroids(x: Tensor, number: int, *, random: bool) -> Tensor:
    """``number`` of the nodes ``[B, N, C]``: random ones (with repetition), or evenly spaced ones ``[B, P, C]``."""
    batch, n, channels = x.shape
    if random:
        chosen = torch.randint(n, (batch, number, 1), device=x.device)
    else:
        chosen = torch.linspace(0, n - 1, number, device=x.device).round().long()[None, :, None].expand(batch, -1, -1)
    return x.gather(1, chosen.expand(-1, -1, channels))
