"""No graph: for networks that build their own inside."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch_geometric.data import Data

from graphophone.graphs.base import GraphBuilder, GraphError, Joins


class NoGraph(GraphBuilder):
    """Leaves data as it is; the network builds its graph itself.

    It fills the slot of a recipe for networks that read a spectrogram, such as LHGNN, whose neighbours are found anew
    in every layer.
    """

    name: ClassVar[str] = "none"
    joins: ClassVar[Joins] = "nothing"

    def edges(self, ptr: Tensor, x: Tensor | None = None) -> Tensor:
        """There are none to give.

        Raises:
            GraphError: Always.
        """
        raise GraphError("graph 'none' has no edges; choose a graph builder for a network that reads edges")

    def forward(self, data: Data) -> Data:
        """The same ``data``, edges and all."""
        return data
