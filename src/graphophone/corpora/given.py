"""What is known of items that need no reading: a vector of each, and what joins them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from graphophone.errors import GraphophoneError
from graphophone.registry import did_you_mean


@dataclass(frozen=True, eq=False)
class Given:
    """Vectors and edges of the nodes of a graph. The column ``node`` of a corpus says which node an item is.

    Attributes:
        vectors: Features of every node, float32 ``[nodes, dims]``. A node that lacks a part of them (an utterance
            without sound) has NaN in all columns of that part.
        edge_index: Sources and targets, int64 ``[2, edges]``, every edge in both directions; None: there are none.
        parts: Modality to its columns of ``vectors``; without any, all columns are the one part ``given``.

    Raises:
        GraphophoneError: If an edge has an end that is no node, or parts are empty, overlap or exceed the columns.
    """

    vectors: np.ndarray
    edge_index: np.ndarray | None = None
    parts: Mapping[str, slice] = field(default_factory=dict)

    def __post_init__(self) -> None:
        edges = self.edge_index
        if edges is not None and edges.size and not 0 <= edges.min() <= edges.max() < len(self.vectors):
            raise GraphophoneError(
                f"an edge ends at node {edges.max()} (or {edges.min()}), but nodes are 0 to {len(self.vectors) - 1}; "
                "correct the edges"
            )
        dims = self.vectors.shape[1]
        if not self.parts:
            object.__setattr__(self, "parts", {"given": slice(0, dims)})
            return
        free = np.ones(dims, dtype=bool)
        for name, columns in self.parts.items():
            first, last, step = columns.start or 0, columns.stop, columns.step
            if last is None or not 0 <= first < last <= dims or step not in (None, 1) or not free[first:last].all():
                raise GraphophoneError(
                    f"part {name!r} of given vectors is columns {first} to {last}; name consecutive columns of the "
                    f"{dims} that no other part has"
                )
            free[first:last] = False

    @classmethod
    def side_by_side(cls, parts: Mapping[str, np.ndarray]) -> Given:
        """The vectors of several modalities, ``[nodes, dims]`` each, in the order given, without edges.

        Raises:
            GraphophoneError: If there are none, or they are of different numbers of nodes.
        """
        lengths = {name: len(array) for name, array in parts.items()}
        if len(set(lengths.values())) != 1:
            told = ", ".join(f"{name} of {length}" for name, length in lengths.items()) or "none"
            raise GraphophoneError(f"vectors of the same nodes are wanted, not {told}; give a row per node to each")
        ends = np.cumsum([0, *(array.shape[1] for array in parts.values())]).tolist()
        vectors = np.concatenate([np.asarray(array, dtype=np.float32) for array in parts.values()], axis=1)
        return cls(vectors, parts={name: slice(ends[i], ends[i + 1]) for i, name in enumerate(parts)})

    def part(self, name: str) -> np.ndarray:
        """The vectors of one modality, float32 ``[nodes, dims of the part]``; NaN for nodes that lack it.

        Raises:
            GraphophoneError: If there is no part of that name.
        """
        if name not in self.parts:
            raise GraphophoneError(
                f"no given vectors of {name!r}.{did_you_mean(name, self.parts)} There are: {', '.join(self.parts)}"
            )
        return self.vectors[:, self.parts[name]]

    @cached_property
    def key(self) -> str:
        """Changes with any vector, edge or part: hexadecimal digits."""
        digest = hashlib.sha256()
        for array in (self.vectors, self.edge_index):
            if array is not None:
                digest.update(f"{array.dtype} {array.shape}".encode())
                digest.update(np.ascontiguousarray(array).tobytes())
        if list(self.parts) != ["given"]:
            digest.update(str([(name, part.start, part.stop) for name, part in self.parts.items()]).encode())
        return digest.hexdigest()

    def edges_among(self, nodes: np.ndarray) -> np.ndarray | None:
        """Edges of which both ends are among ``nodes`` ``[items]``, as places in that list ``[2, edges]``."""
        if self.edge_index is None:
            return None
        place = np.full(len(self.vectors), -1, dtype=np.int64)
        place[nodes] = np.arange(len(nodes))
        found = place[self.edge_index]
        return found[:, (found >= 0).all(axis=0)]
