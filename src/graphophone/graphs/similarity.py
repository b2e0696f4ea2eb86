"""Graphs of likeness: which nodes have similar features."""

from __future__ import annotations

import torch
from torch import Tensor

from graphophone.graphs.base import GraphBuilder, require
from graphophone.graphs.search import BLOCK, nearest, prepare


def topk_similarity(
    x: Tensor,
    k: int = 10,
    *,
    ptr: Tensor | None = None,
    include_self: bool = False,
    features: int | None = None,
    block: int = BLOCK,
) -> Tensor:
    """Edges `j -> i` from the `k` nodes `j` of the same graph with the highest cosine similarity to node `i`.

    Args:
        x: Node features. [nodes, dims]
        k: Neighbors of each node; a node of a graph of `n` nodes has `min(k, n - 1)`.
        ptr: Where each graph begins, and where the last one ends; one graph if left out. [graphs + 1] int64
        include_self: Whether a node competes for its own neighborhood (and wins).
        features: Compare the first `features` columns only.
        block: Similarities held at once.

    Returns:
        `edge_index`, sorted by target, then source. [2, edges] int64

    Raises:
        GraphError: If `x` is not a matrix or holds a number that is not finite.

    Example:
        >>> topk_similarity(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), k=1)
        tensor([[1, 0, 1],
                [0, 1, 2]])
    """
    ptr = torch.tensor([0, len(x)], device=x.device) if ptr is None else ptr
    found, counts = nearest(prepare(x, ptr, "cosine", features), ptr, k, include_self=include_self, block=block)
    return neighbor_edges(found, counts)


def neighbor_edges(found: Tensor, counts: Tensor) -> Tensor:
    """Edges from the lists of neighbors that `nearest` gives: sorted by target, then source. [2, edges]"""
    targets = torch.arange(len(found), device=found.device)
    k = found.shape[1]
    if len(found) and int(counts.min()) == k:
        return torch.stack([found.flatten(), targets.repeat_interleave(k)])
    return torch.stack([found[found >= 0], targets.repeat_interleave(counts)])


class TopKSimilarity(GraphBuilder):
    """Each node hears the `k` nodes whose features have the highest cosine similarity to its own.

    The graph is directed and every edge counts the same (Li et al. 2023, equations 1 and 2). The search is exact;
    ties go to the smaller index. Time O(n^2 * dims) for a graph of n nodes, memory O(n * (dims + k) + block).

    Args:
        k: Neighbors of each node; a node of a graph of `n` nodes has `min(k, n - 1)`.
        include_self: Whether a node competes for its own neighborhood (and wins), as equation 2 reads literally.
        features: Compare the first `features` columns only, to leave out metadata such as the spontaneity bit.
        block: Similarities held at once.

    Raises:
        GraphError: If `k`, `features` or `block` is below 1.
    """

    name = "topk"
    reads_features = True

    def __init__(
        self, k: int = 10, *, include_self: bool = False, features: int | None = None, block: int = BLOCK
    ) -> None:
        require(k >= 1, f"{self.name}: k is {k}; give at least 1")
        require(features is None or features >= 1, f"{self.name}: features is {features}; give at least 1")
        require(block >= 1, f"{self.name}: block is {block}; give at least 1")
        self.k = k
        self.include_self = include_self
        self.features = features
        self.block = block

    def edges(self, ptr: Tensor, x: Tensor | None = None) -> Tensor:
        """See `topk_similarity`."""
        assert x is not None  # noqa: S101 - forward has seen to it
        return topk_similarity(
            x, self.k, ptr=ptr, include_self=self.include_self, features=self.features, block=self.block
        )
