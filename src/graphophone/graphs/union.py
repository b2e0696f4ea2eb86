"""Unions of graphs over the same nodes, among them the graph of GLNN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphophone.graphs.base import GraphBuilder, require, threads_for
from graphophone.graphs.similarity import TopKSimilarity
from graphophone.graphs.temporal import cycle_edges


def union_edges(*edge_indices: Tensor, num_nodes: int) -> Tensor:
    """Every edge that occurs in one of `edge_indices`, once. O(E log E) time, O(E) memory.

    Args:
        edge_indices: Edges over the same nodes, in any order. Each [2, edges] int64
        num_nodes: Number of nodes, at most 3,037,000,499 (its square must fit 63 bits).

    Returns:
        `edge_index`, sorted by target, then source, without duplicates. [2, edges]
    """
    with threads_for(100 * sum(edges.shape[1] for edges in edge_indices)):
        edges = torch.cat(edge_indices, dim=1)
        keys = edges[1] * num_nodes + edges[0]
        if keys.is_cpu:
            # NumPy sorts in vector registers: a quarter of the time of torch.unique.
            array = np.sort(keys.numpy())
            first = np.ones(len(array), dtype=bool)
            np.not_equal(array[1:], array[:-1], out=first[1:])
            keys = torch.from_numpy(array[first])
        else:
            keys = torch.unique(keys)
        targets = keys // max(num_nodes, 1)
        return torch.stack([keys - targets * num_nodes, targets])


class Union(GraphBuilder):
    """All edges of several builders, each edge once.

    Args:
        builders: Builders, or their configurations (`{"name": "cycle"}`).

    Raises:
        GraphError: If no builder is given.

    Example:
        >>> from graphophone.graphs import Cycle, TemporalWindow, Union
        >>> Union(Cycle(), TemporalWindow(2)).config["name"]
        'union'
    """

    name = "union"

    def __init__(self, *builders: GraphBuilder | Mapping[str, Any]) -> None:
        from graphophone.graphs import build_graph

        require(bool(builders), "union: give at least one graph builder")
        self.builders = tuple(b if isinstance(b, GraphBuilder) else build_graph(b) for b in builders)
        self.reads_features = any(b.reads_features for b in self.builders)

    def edges(self, ptr: Tensor, x: Tensor | None = None) -> Tensor:
        """See `union_edges`."""
        return union_edges(*(b.edges(ptr, x) for b in self.builders), num_nodes=int(ptr[-1]))

    @property
    def config(self) -> dict[str, Any]:
        """Name and the configurations of the parts, ready for JSON."""
        return {"name": self.name, "builders": [b.config for b in self.builders]}

    def __repr__(self) -> str:
        return f"Union({', '.join(map(repr, self.builders))})"


def union_of(builders: Sequence[GraphBuilder | Mapping[str, Any]]) -> Union:
    """`Union(*builders)`, in the form that a configuration can spell: {"name": "union", "builders": [...]}."""
    return Union(*builders)


class CycleTopK(TopKSimilarity):
    """The graph of GLNN: the cycle of time and the `k` most similar frames of every frame (Li et al. 2023, 2.2).

    In-degrees are `min(k, n - 1)` or one more. Options and cost as `TopKSimilarity`.

    Raises:
        GraphError: If `k`, `features` or `block` is below 1.
    """

    name = "cycle_topk"

    def edges(self, ptr: Tensor, x: Tensor | None = None) -> Tensor:
        """See `cycle_edges`, `topk_similarity` and `union_edges`."""
        return union_edges(cycle_edges(ptr), super().edges(ptr, x), num_nodes=int(ptr[-1]))
