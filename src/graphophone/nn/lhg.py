"""The local and higher-order graph block of Singh et al., "LHGNN" (2025)."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphophone.nn.aggregation import neighbour_max
from graphophone.nn.channels_last import batch_norm, pointwise_norm
from graphophone.nn.clustering import Clusters, Init, centroid_spread, pooled_centroids, sampled_centroids
from graphophone.nn.density import density_peaks
from graphophone.nn.drop_path import DropPath
from graphophone.nn.fuzzy import fuzzy_c_means
from graphophone.nn.grid import grid_neighbours, pool_grid
from graphophone.nn.kmeans import k_means

Kernel = Literal["both", "local", "higher"]
Cluster = Literal["fcm", "kmeans", "density"]

GROUPS = 4
_DENSITY_NODES = 512  # candidates for centres, above which a grid is pooled for the density peaks


def _choice(name: str, value: str, kind: object) -> None:
    """Refuse a value that a Literal does not list."""
    if value not in get_args(kind):
        raise ValueError(f"unknown {name} {value!r}; choose from {', '.join(get_args(kind))}")


class GridClustering(nn.Module):
    """Centroids of the nodes of a grid, and the nearest of them for each node.

    Args:
        channels: C.
        P: Number of centroids.
        K: Centroids chosen per node.
        method: ``"fcm"`` (fuzzy c-means), ``"kmeans"``, ``"density"`` (density peaks, which needs no ``init``).
        init: First centroids: ``"pool"`` means of the cells of a grid; ``"noise"`` normal numbers, new ones in every
            training pass, and the same for all clips in evaluation; ``"sample"`` nodes, random ones in training,
            evenly spaced ones in evaluation; ``"learned"``.
        v: Iterations.
        m: Fuzziness.
        centroid_grad: Let gradients pass through the centroids.

    Attributes:
        spread: `graphophone.nn.clustering.centroid_spread` of the last training pass, a scalar; None before.

    Shapes:
        ``[B, H, W, C]`` -> `graphophone.nn.clustering.Clusters`.
    """

    noise: Tensor

    def __init__(
        self,
        channels: int,
        *,
        P: int = 50,
        K: int = 10,
        method: Cluster = "fcm",
        init: Init = "pool",
        v: int = 1,
        m: float = 2.0,
        centroid_grad: bool = False,
    ) -> None:
        super().__init__()
        _choice("cluster", method, Cluster)
        _choice("init", init, Init)
        if not 1 <= K <= P:
            raise ValueError(f"K={K} of P={P} centroids: give 1 <= K <= P")
        if init == "learned" and method == "kmeans":
            raise ValueError("first centroids of k-means cannot be learned: hard clusters pass no gradient to them")
        if v < 1 or m <= 1:
            raise ValueError(f"v={v}, m={m}: give at least one iteration and a fuzziness above 1")
        self.P, self.K, self.v, self.m = P, K, v, m
        self.method, self.init, self.centroid_grad = method, init, centroid_grad
        self.spread: Tensor | None = None
        if init == "learned" and method != "density":
            self.centroids = nn.Parameter(torch.randn(P, channels))
        if init == "noise":
            fixed = torch.randn(P, channels, generator=torch.Generator().manual_seed(0))
            self.register_buffer("noise", fixed, persistent=False)

    def first(self, x: Tensor) -> Tensor:
        """First centroids ``[B, P, C]`` of ``[B, H, W, C]``."""
        x = x.detach()
        batch, channels = x.size(0), x.size(-1)
        if self.init == "pool":
            return pooled_centroids(x, self.P)
        if self.init == "sample":
            return sampled_centroids(x.flatten(1, 2), self.P, random=self.training)
        if self.init == "noise" and self.training:
            return torch.randn(batch, self.P, channels, dtype=x.dtype, device=x.device)
        chosen = self.noise if self.init == "noise" else self.centroids
        return chosen.to(x.dtype).expand(batch, -1, -1)

    def forward(self, x: Tensor) -> Clusters:
        """Clusters of ``[B, H, W, C]``, in single precision or double."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
            nodes = x.flatten(1, 2)
            if self.method == "density":
                window = 1
                while -(-x.size(1) // window) * -(-x.size(2) // window) > _DENSITY_NODES:
                    window *= 2
                clusters = density_peaks(
                    nodes, pool_grid(x.detach(), window), number=self.P, top=self.K, centroid_grad=self.centroid_grad
                )
            elif self.method == "kmeans":
                clusters = k_means(
                    nodes, self.first(x), top=self.K, iterations=self.v, centroid_grad=self.centroid_grad
                )
            else:
                clusters = fuzzy_c_means(
                    nodes,
                    self.first(x),
                    top=self.K,
                    iterations=self.v,
                    fuzziness=self.m,
                    centroid_grad=self.centroid_grad,
                )
            if self.training:
                self.spread = centroid_spread(clusters.centroids, nodes)
        return clusters

    def extra_repr(self) -> str:
        """Options, for printing."""
        return f"{self.method}, init={self.init!r}, P={self.P}, K={self.K}, v={self.v}, m={self.m}"


class GraphConv(nn.Module):
    """Nodes, with the largest relative value among neighbours and among centroids, through a grouped layer.

    Args:
        channels: C, a multiple of 4.
        branches: Kinds of relative values: 1 or 2.

    Shapes:
        branches + 1 tensors ``[B, N, C]`` -> ``[B, N, (branches + 1) C]``.
    """

    def __init__(self, channels: int, branches: int) -> None:
        super().__init__()
        if channels % GROUPS:
            raise ValueError(f"{channels} channels: give a multiple of {GROUPS}")
        wide = (branches + 1) * channels
        self.gconv = nn.Module()
        self.gconv.nn = nn.Sequential(nn.Conv2d(wide, wide, 1, groups=GROUPS), nn.BatchNorm1d(wide), nn.GELU())

    def forward(self, parts: list[Tensor]) -> Tensor:
        """Interleave per channel (x_0, a_0, b_0, x_1, ...), so that a group sees whole triples; convolve; GELU.

        The interleaving is done on the weight: each group takes its quarter of every part, one after the other.
        """
        layers: Any = self.gconv.nn
        conv, norm = layers[0], layers[1]
        batch, n, channels = parts[0].shape
        ways, quarter = len(parts), channels // GROUPS
        joined = torch.stack([part.reshape(batch, n, GROUPS, quarter) for part in parts], dim=3).view(batch, n, 1, -1)
        weight = conv.weight.view(-1, quarter, ways).transpose(1, 2).reshape(conv.weight.shape)
        mixed = F.conv2d(joined.permute(0, 3, 1, 2), weight, conv.bias, groups=GROUPS)
        return F.gelu(batch_norm(mixed.permute(0, 2, 3, 1).reshape(batch, n, -1), norm))


class LHGBlock(nn.Module):
    r"""Local and higher-order graph block.

    With :math:`z = \mathrm{BN}(W_1 x)`, :math:`S_i` the k nearest candidates of node i (cosine and place),
    :math:`L_i` its K nearest of P centroids of all nodes (equations 1 to 4 of the paper):

    .. math::
        a_i &= \max_{j \in S_i} (y_j - z_i), \qquad b_i = \max_{p \in L_i} (c_p - z_i) \\
        x'_i &= x_i + \mathrm{DropPath}(\mathrm{BN}(W_3\, \mathrm{GELU}(\mathrm{BN}(W_2 [z_i, a_i, b_i]))))

    :math:`W_2` is of 4 groups, over the interleaved channels.

    Args:
        channels: C, a multiple of 4.
        k: Neighbours, lowered to the number of candidates.
        dilation: Of the k d nearest, every d-th is a neighbour.
        reduction: Candidates are means of windows of this side.
        include_self: Whether a node may be its own neighbour, where the nodes are the candidates (it is then always
            the first, and a is never below 0). With pooled candidates there is no such thing, and it is not read.
        kernel: ``"both"`` terms, ``"local"`` (a only) or ``"higher"`` (b only).
        drop_path: Probability of dropping the branch.
        P: Centroids.
        K: Centroids chosen per node.
        cluster: ``"fcm"``, ``"kmeans"``, ``"density"``.
        init: First centroids, as for `GridClustering`.
        v: Iterations.
        m: Fuzziness.
        centroid_grad: Let gradients pass through the centroids.

    Shapes:
        x ``[B, H, W, C]``, closeness ``[N, M]`` -> ``[B, H, W, C]``.
    """

    def __init__(
        self,
        channels: int,
        *,
        k: int = 25,
        dilation: int = 1,
        reduction: int = 1,
        include_self: bool = True,
        kernel: Kernel = "both",
        drop_path: float = 0.0,
        P: int = 50,
        K: int = 10,
        cluster: Cluster = "fcm",
        init: Init = "pool",
        v: int = 1,
        m: float = 2.0,
        centroid_grad: bool = False,
    ) -> None:
        super().__init__()
        _choice("kernel", kernel, Kernel)
        if min(k, dilation, reduction) < 1:
            raise ValueError(f"k={k}, dilation={dilation}, reduction={reduction}: give at least 1")
        self.k, self.dilation, self.reduction, self.include_self = k, dilation, reduction, include_self
        self.kernel = kernel
        wide = channels * (3 if kernel == "both" else 2)
        self.fc1 = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm1d(channels))
        self.graph_conv = GraphConv(channels, 2 if kernel == "both" else 1)
        self.fc2 = nn.Sequential(nn.Conv2d(wide, channels, 1), nn.BatchNorm1d(channels))
        self.clustering: GridClustering | None = None
        if kernel != "local":
            self.clustering = GridClustering(
                channels, P=P, K=K, method=cluster, init=init, v=v, m=m, centroid_grad=centroid_grad
            )
        self.drop_path = DropPath(drop_path)

    def maxima(self, z: Tensor, closeness: Tensor | None = None) -> list[Tensor]:
        """Nodes, the maxima of their neighbours, the maxima of their centroids, as the kernel has them ``[B, N, C]``.

        Args:
            z: Nodes ``[B, H, W, C]``.
            closeness: ``[N, M]``, as for `graphophone.nn.grid.grid_neighbours`.
        """
        nodes = z.flatten(1, 2)
        found = [nodes]
        if self.kernel != "higher":
            candidates = nodes if self.reduction == 1 else pool_grid(z, self.reduction)
            index = grid_neighbours(
                nodes,
                candidates,
                self.k,
                dilation=self.dilation,
                closeness=closeness,
                include_self=self.include_self or self.reduction > 1,
                ordered=False,
            )
            found.append(neighbour_max(candidates, index))
        if self.clustering is not None:
            centroids, nearest = self.clustering(z)
            found.append(neighbour_max(centroids.to(nodes.dtype), nearest))
        return found

    def terms(self, z: Tensor, closeness: Tensor | None = None) -> list[Tensor]:
        """What the grouped layer reads: nodes, and a, or b, or both ``[B, N, C]``; arguments as `maxima`."""
        nodes, *highest = self.maxima(z, closeness)
        return [nodes, *(part - nodes for part in highest)]

    def forward(self, x: Tensor, closeness: Tensor | None = None) -> Tensor:
        """``[B, H, W, C]`` to the same shape."""
        z = pointwise_norm(x, self.fc1)
        mixed = self.graph_conv(self.terms(z, closeness))
        mixed = pointwise_norm(mixed, self.fc2)
        return x + self.drop_path(mixed.view(x.shape))
