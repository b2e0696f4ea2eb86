"""Rows of features made ready for comparison: quick in single precision, settled in double."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from graphophone.graphs.base import GraphError

Metric = Literal["cosine", "euclidean"]

# Cosines nearer to each other than this are ties. It is far below what single-precision features can tell apart,
# and far above the rounding of double precision, so that equal rows tie however their products were summed.
COSINE_GRID = 2.0**-32
# Smallest norm a row is divided by: rows of zeros stay zeros, and have similarity 0 to every row.
EPSILON = 1e-12
# The norms of all rows must add up to less than this: their squares must fit single precision.
LARGEST = 1e18


class Space:
    """Node features made ready for comparison.

    Args:
        x: Node features. [nodes, dims]
        limits: Where each graph begins, and where the last one ends. [graphs + 1]
        metric: `"cosine"` or `"euclidean"`.
        features: Compare the first `features` columns only.

    Attributes:
        norm: Norm of each row, at least EPSILON. [nodes, 1] float64

    Raises:
        GraphError: If `x` is not a matrix of real numbers, holds a number that is not finite or so large that single
            precision cannot hold its square, or has fewer columns than `features`.
    """

    def __init__(self, x: Tensor, limits: Sequence[int], metric: Metric, features: int | None = None) -> None:
        if x.dim() != 2 or x.is_complex():
            raise GraphError(f"node features must be a real matrix [nodes, dims], not {list(x.shape)} {x.dtype}")
        if features is not None:
            if features > x.shape[1]:
                raise GraphError(f"cannot compare the first {features} columns of {x.shape[1]}: lower `features`")
            x = x[:, :features]
        x = x.detach()
        if not x.is_floating_point():
            x = x.double()
        self.x = x
        self.limits = limits
        self.metric = metric
        self.norm = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float64)
        if not self.norm.sum().item() < LARGEST:
            _refuse(self.norm[:, 0], limits)
        self.norm.clamp_(min=EPSILON)

    def exact(self, nodes: Tensor | slice) -> Tensor:
        """Double-precision rows. [..., dims] for nodes [...]."""
        rows = self.x[nodes].double()
        return rows / self.norm[nodes] if self.metric == "cosine" else rows

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Double-precision similarities on the grid where ties are equal, from `exact` rows.

        Args:
            queries: [batch, rows, dims]
            keys: [batch, columns, dims]

        Returns:
            Higher is nearer. [batch, rows, columns] float64
        """
        if self.metric == "cosine":
            return torch.bmm(queries, keys.mT).mul_(1 / COSINE_GRID).round_()
        distances = torch.cdist(queries, keys, compute_mode="donot_use_mm_for_euclid_dist")
        # Single precision is the grid: it is relative, so the rule does not depend on the unit of the features.
        return -distances.float().double()

    @cached_property
    def single(self) -> tuple[Tensor, Tensor, Tensor | float]:
        """Single-precision rows for matrix products.

        Returns:
            queries [nodes, columns] and keys [nodes, columns], such that `queries @ keys.T` is the similarity, higher
            is nearer; and the slack: scores of a row that differ by more are in the right order. [nodes], or one
            number for all.
        """
        x = self.x
        terms = x.shape[1] + 8  # products in one score, and the roundings of its factors
        unit = _unit_roundoff(x.device)
        if self.metric == "cosine":
            rows = x.float() / self.norm.float()
            # |fl(a.b) - a.b| <= terms * unit * |a||b| in any order of summation; both scores may be off by that.
            return rows, rows, 2 * terms * unit + 2 * COSINE_GRID
        sizes = torch.tensor(self.limits, device=x.device).diff()
        graph = torch.arange(len(sizes), device=x.device).repeat_interleave(sizes)
        # Distances do not depend on the origin, rounding does: put it amid the nodes.
        wide = x.double()
        centers = wide.new_zeros(len(sizes), x.shape[1]).index_add_(0, graph, wide) / sizes.clamp(min=1)[:, None]
        wide = wide - centers[graph]
        radius = torch.linalg.vector_norm(wide, dim=1)
        largest = radius.new_zeros(len(sizes)).scatter_reduce_(0, graph, radius, "amax")[graph]
        # The product of these rows is -|a - b|^2 / 2.
        half, one = -0.5 * radius[:, None] ** 2, torch.ones_like(radius)[:, None]
        queries = torch.cat([wide, one, half], dim=1).float()
        keys = torch.cat([wide, half, one], dim=1).float()
        # The last term covers what falls below the range of single precision.
        slack = (terms * unit + 2.0**-22) * (radius + largest) ** 2 + terms * 2.0**-118
        return queries, keys, slack.float() * (1 + 2.0**-20)


def _refuse(norm: Tensor, limits: Sequence[int]) -> None:
    """Raise the error that names the first node whose features cannot be compared."""
    bad = (~(norm < LARGEST / len(norm))).nonzero()[:, 0]
    node = int(bad[0])
    graph = bisect.bisect_right(limits, node) - 1
    raise GraphError(
        f"node {node - limits[graph]} of graph {graph} has a feature that is NaN, infinite or too large "
        f"({len(bad)} such nodes in all): repair or leave out this recording before building its graph"
    )


def _unit_roundoff(device: torch.device) -> float:
    """Relative rounding of one product in a single-precision matrix product, as torch is set up."""
    precision = torch.get_float32_matmul_precision()
    if precision == "highest":
        return 2.0**-24
    # "high" allows TF32 on GPUs (10 bits) and "medium" bfloat16 (7 bits); both factors of a product are rounded.
    return 2.0**-9 if precision == "high" and device.type == "cuda" else 2.0**-6
