"""What every graph builder has in common: nodes in, `edge_index` out, batches kept in order."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import BaseTransform

from graphophone.errors import GraphophoneError

# What one thread does in about three milliseconds.
SMALL_WORK = 10**8
_EDGE_VALUES = ("edge_attr", "edge_weight")

Joins = Literal["frames", "recordings", "nothing"]


class GraphError(GraphophoneError):
    """Nodes that no graph can be built from, or options that make no sense."""


class GraphBuilder(BaseTransform):
    """A PyG transform that gives `data` the edges of one kind of graph.

    `edge_index[0]` is the source and `edge_index[1]` the target of each edge. Edges are unique and sorted by target,
    then by source, so that the neighbors of every node come in ascending time. Edges that were there before are
    replaced, and `edge_attr` and `edge_weight`, which described them, are dropped.

    A `Batch` gets exactly the edges that its graphs would get one by one, and can still be taken apart.

    Attributes:
        name: Name in the registry.
        joins: What nodes are: `"frames"` of a recording, whole `"recordings"`, or `"nothing"`.
        reads_features: Whether edges follow from node features.
    """

    name: ClassVar[str]
    joins: ClassVar[Joins] = "frames"
    reads_features: bool = False

    @abstractmethod
    def edges(self, ptr: Tensor, x: Tensor | None = None) -> Tensor:
        """The edges of one or more graphs whose nodes lie one graph after the other.

        Args:
            ptr: Where each graph begins, and where the last one ends. [graphs + 1] int64
            x: Node features, for builders that read them. [nodes, dims]

        Returns:
            `edge_index`, sorted by target, then source. [2, edges] int64
        """

    def forward(self, data: Data) -> Data:
        """Set `data.edge_index` from `data.x` (or `data.num_nodes`) and, if there, `data.ptr` or `data.batch`.

        Raises:
            GraphError: If there are no node features and the builder needs them, if they are not finite, or if the
                nodes of a batch are not in the order of their graphs.
        """
        if not isinstance(data, Data):
            raise GraphError(f"{self!r} reads Data or Batch, not {type(data).__name__}; convert it first")
        if self.reads_features:
            features_of(self, data.x)
        ptr = graph_pointers(data)
        return set_edges(data, ptr, self.edges(ptr, data.x if self.reads_features else None))

    @property
    def config(self) -> dict[str, Any]:
        """Name and options, ready for JSON; `graphophone.graphs.build_graph` makes the same builder from it."""
        return {
            "name": self.name,
            **{key: getattr(self, key) for key in inspect.signature(type(self)).parameters},
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GraphBuilder) and self.config == other.config

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        options = ", ".join(f"{key}={value!r}" for key, value in self.config.items() if key != "name")
        return f"{type(self).__name__}({options})"


def set_edges(data: Data, ptr: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Data:
    """Give `data` new edges, and weights if there are any; what described the old ones is dropped.

    Args:
        data: A graph or a batch; it is changed, and returned.
        ptr: Where each graph begins, and where the last one ends. [graphs + 1] int64
        edge_index: Sorted by target. [2, edges] int64
        edge_weight: Their weights. [edges]
    """
    for key in _EDGE_VALUES:
        if key in data:
            del data[key]
    data.edge_index = edge_index
    if edge_weight is not None:
        data.edge_weight = edge_weight
    if isinstance(data, Batch) and hasattr(data, "_slice_dict"):
        # The dictionaries are shared with the batch this one was copied from: replace them, never write to them.
        bounds = torch.searchsorted(edge_index[1].contiguous(), ptr).cpu()
        slices = {key: value for key, value in data._slice_dict.items() if key not in _EDGE_VALUES}
        shifts = {key: value for key, value in data._inc_dict.items() if key not in _EDGE_VALUES}
        slices["edge_index"], shifts["edge_index"] = bounds, ptr[:-1].cpu()
        if edge_weight is not None:
            slices["edge_weight"], shifts["edge_weight"] = bounds, torch.zeros_like(ptr[:-1]).cpu()
        data._slice_dict, data._inc_dict = slices, shifts
    return data


def graph_pointers(data: Data) -> Tensor:
    """Where each graph of `data` begins, and where the last one ends: [graphs + 1] int64, on the device of the nodes.

    Raises:
        GraphError: If the nodes of a batch are not in the order of their graphs.
    """
    ptr = data.get("ptr")
    if ptr is not None:
        return ptr
    count = data.num_nodes
    if count is None:
        raise GraphError("the data has neither `x` nor `num_nodes`: set one of them before building its graph")
    batch = data.get("batch")
    device = data.x.device if data.x is not None else None
    if batch is None or batch.numel() == 0:
        return torch.tensor([0, count], device=device)
    if bool((batch.diff() < 0).any()):
        raise GraphError("data.batch is not ascending: put the nodes of each graph together, in the order of graphs")
    counts = torch.bincount(batch)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


@contextmanager
def threads_for(work: int) -> Iterator[None]:
    """One thread for small work, in the block under it: all that there are for large work.

    Small graphs are built in a millisecond or so, by many short operations. To share each of them out among threads
    gains little on an idle machine; on a busy one, every operation waits for the thread that is not running.

    Args:
        work: Number of multiplications and additions.
    """
    threads = torch.get_num_threads()
    if threads == 1 or work > SMALL_WORK:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def require(condition: bool, message: str) -> None:
    """Raise `GraphError(message)` unless `condition` holds."""
    if not condition:
        raise GraphError(message)


def features_of(builder: GraphBuilder, x: Tensor | None) -> Tensor:
    """The node features that `builder` was given.

    Raises:
        GraphError: If there are none.
    """
    if x is None:
        raise GraphError(f"{builder!r} compares node features and was given none; set data.x first")
    return x
