"""Edges that come with a corpus: nothing is built."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch_geometric.data import Data

from graphophone.graphs.base import GraphBuilder, GraphError, Joins


class Given(GraphBuilder):
    """Leaves the edges that data has as they are: those of a graph that is known beforehand."""

    name: ClassVar[str] = "given"
    joins: ClassVar[Joins] = "recordings"

    def edges(self, ptr: Tensor, x: Tensor | None = None) -> Tensor:
        """There are none to build.

        Raises:
            GraphError: Always.
        """
        raise GraphError("graph 'given' builds no edges; choose a builder, such as signed")

    def forward(self, data: Data) -> Data:
        """The same ``data``.

        Raises:
            GraphError: If it has no edges.
        """
        if data.get("edge_index") is None:
            raise GraphError("graph.name is given, but these items come without edges; set graph.name to signed")
        return data
