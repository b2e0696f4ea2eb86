"""What is known of items that are no recordings: a vector of each, and what joins them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from graphophone.errors import GraphophoneError


@dataclass(frozen=True, eq=False)
class Given:
    """Vectors and edges of the nodes of a graph. The column ``node`` of a corpus says which node an item is.

    Attributes:
        vectors: Features of every node, float32 ``[nodes, dims]``.
        edge_index: Sources and targets, int64 ``[2, edges]``, every edge in both directions; None: there are none.

    Raises:
        GraphophoneError: If an edge has an end that is no node.
    """

    vectors: np.ndarray
    edge_index: np.ndarray | None = None

    def __post_init__(self) -> None:
        edges = self.edge_index
        if edges is not None and edges.size and not 0 <= edges.min() <= edges.max() < len(self.vectors):
            raise GraphophoneError(
                f"an edge ends at node {edges.max()} (or {edges.min()}), but nodes are 0 to {len(self.vectors) - 1}; "
                "correct the edges"
            )

    @cached_property
    def key(self) -> str:
        """Changes with any vector or edge: hexadecimal digits."""
        digest = hashlib.sha256()
        for array in (self.vectors, self.edge_index):
            if array is not None:
                digest.update(f"{array.dtype} {array.shape}".encode())
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def edges_among(self, nodes: np.ndarray) -> np.ndarray | None:
        """Edges of which both ends are among ``nodes`` ``[items]``, as places in that list ``[2, edges]``."""
        if self.edge_index is None:
            return None
        place = np.full(len(self.vectors), -1, dtype=np.int64)
        place[nodes] = np.arange(len(nodes))
        found = place[self.edge_index]
        return found[:, (found >= 0).all(axis=0)]
