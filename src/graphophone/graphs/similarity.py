"""Graphs of likeness: which nodes have similar features."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from graphophone.graphs.base import GraphBuilder, features_of, require, threads_for
from graphophone.graphs.search import BLOCK, nearest_edges, nearest_of_few, threshold_edges
from graphophone.graphs.space import Space


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
    limits = [0, len(x)] if ptr is None else ptr.tolist()
    with threads_for(_work(x, limits)):
        if len(limits) == 2 and features is None:
            edge_index = nearest_of_few(x, k, include_self=include_self)
            if edge_index is not None:
                return edge_index
        return nearest_edges(Space(x, limits, "cosine", features), k, include_self=include_self, block=block)


def knn(
    x: Tensor,
    k: int = 10,
    *,
    ptr: Tensor | None = None,
    include_self: bool = False,
    features: int | None = None,
    block: int = BLOCK,
) -> Tensor:
    """Edges `j -> i` from the `k` nodes `j` of the same graph at the smallest Euclidean distance from node `i`.

    Distances that single precision cannot tell apart are ties, which go to the smaller index. Otherwise as
    `topk_similarity`.
    """
    limits = [0, len(x)] if ptr is None else ptr.tolist()
    with threads_for(_work(x, limits)):
        return nearest_edges(Space(x, limits, "euclidean", features), k, include_self=include_self, block=block)


def cosine_threshold(
    x: Tensor,
    tau: float,
    *,
    ptr: Tensor | None = None,
    self_loops: bool = False,
    features: int | None = None,
    block: int = BLOCK,
) -> Tensor:
    """Edges, in both directions, between nodes of the same graph with a cosine similarity of at least `tau`.

    Args:
        x: Node features. [nodes, dims]
        tau: Smallest cosine that makes an edge.
        ptr: Where each graph begins, and where the last one ends; one graph if left out. [graphs + 1] int64
        self_loops: Add an edge from each node to itself.
        features: Compare the first `features` columns only.
        block: Similarities held at once.

    Returns:
        `edge_index`, sorted by target, then source. [2, edges] int64

    Raises:
        GraphError: If `x` is not a matrix or holds a number that is not finite.
    """
    limits = [0, len(x)] if ptr is None else ptr.tolist()
    with threads_for(_work(x, limits)):
        return threshold_edges(Space(x, limits, "cosine", features), tau, self_loops=self_loops, block=block)


def _work(x: Tensor, limits: Sequence[int]) -> int:
    """Multiplications that comparing all nodes of each graph takes."""
    return sum((end - begin) ** 2 for begin, end in itertools.pairwise(limits)) * x.shape[-1]


class _Nearest(GraphBuilder):
    """What `TopKSimilarity`, `KNN` and `CycleTopK` share: their options."""

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

    @property
    def _options(self) -> dict[str, Any]:
        return {key: value for key, value in self.config.items() if key != "name"}


class TopKSimilarity(_Nearest):
    """Each node hears the `k` nodes whose features have the highest cosine similarity to its own.

    The graph is directed and every edge counts the same (Li et al. 2023, equations 1 and 2). The search is exact;
    ties go to the smaller index. Time is O(n^2 * dims) for a graph of n nodes, memory O(n * (dims + k) + block).

    Args:
        k: Neighbors of each node; a node of a graph of `n` nodes has `min(k, n - 1)`.
        include_self: Whether a node competes for its own neighborhood (and wins), as equation 2 reads literally.
        features: Compare the first `features` columns only, to leave out metadata such as the spontaneity bit.
        block: Similarities held at once.

    Raises:
        GraphError: If `k`, `features` or `block` is below 1.
    """

    name = "topk"

    def edges(self, ptr: Tensor, x: Tensor | None = None) -> Tensor:
        """See `topk_similarity`."""
        return topk_similarity(features_of(self, x), ptr=ptr, **self._options)


class KNN(_Nearest):
    """Each node hears the `k` nodes at the smallest Euclidean distance. Options and cost as `TopKSimilarity`.

    Raises:
        GraphError: If `k`, `features` or `block` is below 1.
    """

    name = "knn"

    def edges(self, ptr: Tensor, x: Tensor | None = None) -> Tensor:
        """See `knn`."""
        return knn(features_of(self, x), ptr=ptr, **self._options)


class CosineThreshold(GraphBuilder):
    """Nodes with a cosine similarity of at least `tau` hear each other, as in CoGCN (Kim and Kim 2022).

    The number of edges follows from the data, up to `n * (n - 1)`. Time is O(n^2 * dims) for a graph of n nodes,
    memory that of the edges and of a block.

    Args:
        tau: Smallest cosine that makes an edge, between -1 and 1.
        self_loops: Add an edge from each node to itself.
        features: Compare the first `features` columns only.
        block: Similarities held at once.

    Raises:
        GraphError: If `threshold` is no cosine, or `features` or `block` is below 1.
    """

    name = "cosine_threshold"
    reads_features = True

    def __init__(
        self,
        tau: float = 0.7,
        *,
        self_loops: bool = False,
        features: int | None = None,
        block: int = BLOCK,
    ) -> None:
        require(-1 <= tau <= 1, f"{self.name}: tau is {tau}; give a cosine, between -1 and 1")
        require(features is None or features >= 1, f"{self.name}: features is {features}; give at least 1")
        require(block >= 1, f"{self.name}: block is {block}; give at least 1")
        self.tau = tau
        self.self_loops = self_loops
        self.features = features
        self.block = block

    def edges(self, ptr: Tensor, x: Tensor | None = None) -> Tensor:
        """See `cosine_threshold`."""
        return cosine_threshold(
            features_of(self, x),
            self.tau,
            ptr=ptr,
            self_loops=self.self_loops,
            features=self.features,
            block=self.block,
        )
