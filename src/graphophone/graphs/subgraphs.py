"""Small graphs drawn from a large pool of recordings, few of which are labelled.

Shirian, Somandepalli, Guha, "Self-supervised Graphs for Audio Representation Learning with Limited Labeled Data"
(IEEE JSTSP, 2022), section III: each step of training sees as many labelled recordings of every class, and a few
unlabelled ones; an epoch has seen every unlabelled recording once.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from graphophone.graphs.base import GraphError, require
from graphophone.graphs.search import BLOCK
from graphophone.graphs.signed import Far, LabelledEdges, signed_edges

# Subgraphs made at once: enough to share the cost of a call, few enough to stay in the cache.
AHEAD = 32


class SubgraphSampler:
    """Class-balanced subgraphs with signed edges; one epoch is a pass over all unlabelled nodes.

    Each subgraph holds `per_class` labelled nodes of every class, drawn anew, without replacement in itself, and the
    next `unlabelled` nodes of a shuffled queue of all unlabelled ones; the last subgraph of an epoch may have fewer.
    Without unlabelled nodes, an epoch is as many subgraphs as hold the number of labelled nodes once. A class with
    fewer labelled nodes than `per_class` is drawn with replacement, and what comes twice is one node (a warning says
    so once).

    What is drawn follows from the seed, the epoch and the place in it, and from nothing else. Memory is that of the
    pool and of 32 subgraphs (or `batch_graphs`, if more).

    Args:
        x: Features of the pool, standardised. [nodes, dims]
        labels: Class of each node, -1 where it is not known. [nodes] int64
        num_classes: Number of classes, each of which has a labelled node; None: as many as the labels name.
        per_class: Labelled nodes of each class in a subgraph (12 for speech and 2 for events, as published).
        unlabelled: Unlabelled nodes in a subgraph.
        batch_graphs: Disjoint subgraphs in one batch.
        positives: See `signed_edges`.
        k: See `signed_edges`.
        far: See `signed_edges`.
        labelled_edges: See `signed_edges`.
        seed: What all draws follow from.
        block: See `signed_edges`.

    Raises:
        GraphError: If a class has no labelled node, or an option makes no sense.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 1, 1, 1] + [-1] * 10)
        >>> sampler = SubgraphSampler(torch.randn(16, 8), labels, per_class=2, unlabelled=5)
        >>> [batch.num_nodes for batch in sampler.epoch(0)]
        [9, 9]
    """

    def __init__(
        self,
        x: Tensor,
        labels: Tensor,
        *,
        num_classes: int | None = None,
        per_class: int = 12,
        unlabelled: int = 5,
        batch_graphs: int = 1,
        positives: int = 2,
        k: int | None = None,
        far: Far = "any",
        labelled_edges: LabelledEdges = "class",
        seed: int = 0,
        block: int = BLOCK,
    ) -> None:
        for name, value in (("per_class", per_class), ("unlabelled", unlabelled), ("batch_graphs", batch_graphs)):
            require(value >= 1, f"subgraphs: {name} is {value}; give at least 1")
        if x.dim() != 2 or labels.shape != x.shape[:1]:
            raise GraphError(f"features {list(x.shape)} and labels {list(labels.shape)} do not fit: give [nodes, dims]")
        self.x = x
        self.labels = labels
        self.num_classes = int(labels.max()) + 1 if num_classes is None and len(labels) else num_classes or 0
        self.per_class = per_class
        self.unlabelled = unlabelled
        self.batch_graphs = batch_graphs
        self.positives = positives
        self.k = k
        self.far = far
        self.labelled_edges: LabelledEdges = labelled_edges
        self.seed = seed
        self.block = block
        given = labels.cpu().numpy()
        self._free = np.flatnonzero(given < 0)
        known = np.flatnonzero(given >= 0)
        self._known = known[np.argsort(given[known], kind="stable")]
        self._counts = np.bincount(given[known], minlength=self.num_classes)
        require(self.num_classes >= 1, "subgraphs: no node has a label; label at least one of each class")
        require(
            len(self._counts) == self.num_classes,
            f"subgraphs: a label is {len(self._counts) - 1} with {self.num_classes} classes; raise num_classes",
        )
        missing = np.flatnonzero(self._counts == 0)
        require(
            not len(missing),
            f"subgraphs: no node is labelled with class {', '.join(map(str, missing))}; label at least one",
        )
        scarce = np.flatnonzero(self._counts < per_class)
        if len(scarce):
            warnings.warn(
                f"fewer than per_class={per_class} labelled nodes of class {', '.join(map(str, scarce))}: "
                "drawn with replacement, repeats left out",
                stacklevel=2,
            )

    @property
    def rules(self) -> dict[str, Any]:
        """Rules of the edges, arguments of `signed_edges`."""
        return {"positives": self.positives, "k": self.k, "far": self.far, "labelled_edges": self.labelled_edges}

    @property
    def subgraphs(self) -> int:
        """Subgraphs of an epoch."""
        if len(self._free):
            return -(-len(self._free) // self.unlabelled)
        return -(-len(self._known) // (self.per_class * self.num_classes))

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-self.subgraphs // self.batch_graphs)

    def nodes(self, epoch: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Which nodes of the pool are drawn in an epoch, some subgraphs at a time.

        Args:
            epoch: Number of the epoch.

        Yields:
            Nodes of each subgraph, ascending [nodes], and where each subgraph begins and the last one ends
            [subgraphs + 1].
        """
        # One stream for the queue and one for each part: what is drawn does not depend on who asks for how much.
        # (`draw_reference` has 2 in the third place.)
        queue = np.random.default_rng((self.seed, epoch, 0)).permutation(self._free)
        for part, first in enumerate(range(0, self.subgraphs, AHEAD)):
            count = min(AHEAD, self.subgraphs - first)
            labelled = self._draw(np.random.default_rng((self.seed, epoch, 1, part)), count)
            free = queue[first * self.unlabelled : (first + count) * self.unlabelled]
            graph = np.concatenate(
                [np.arange(count).repeat(labelled.shape[1]), np.arange(len(free)) // self.unlabelled]
            )
            code = np.unique(graph * len(self.labels) + np.concatenate([labelled.reshape(-1), free]))
            yield code % len(self.labels), np.searchsorted(code, np.arange(count + 1) * len(self.labels))

    def parts(self, epoch: int = 0) -> Iterator[Data]:
        """The same subgraphs as `epoch` gives, in batches that are quick to make; arguments as there."""
        for nodes, limits in self.nodes(epoch):
            yield self._build(nodes, limits)

    def epoch(self, epoch: int = 0) -> Iterator[Data]:
        """Batches of subgraphs.

        Args:
            epoch: Number of the epoch.

        Yields:
            `Data` with `x` [nodes, dims], `edge_index` [2, edges] and `edge_weight` [edges] as `signed_edges` gives
            them, `y` (-1 where there is no label) [nodes], `node` (its row in the pool) [nodes], `batch` [nodes],
            `ptr` [graphs + 1] and `num_graphs`.
        """
        held: list[Data] = []
        for built in self.parts(epoch):
            held = [*held, built]
            ready = sum(part.num_graphs for part in held)
            if ready < self.batch_graphs and ready < self.subgraphs:
                continue
            whole = _join(held)
            taken = 0
            for taken in range(self.batch_graphs, ready + 1, self.batch_graphs):
                yield _part(whole, taken - self.batch_graphs, taken)
            held = [_part(whole, taken, ready)] if taken < ready else []
        if held:
            yield _join(held)

    def _draw(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Labelled nodes of `count` subgraphs. [count, classes * per_class]; repeats where a class has too few."""
        sizes = self._counts
        picks = np.empty((count, len(sizes), self.per_class), dtype=np.int64)
        enough = sizes >= self.per_class
        # Floyd's algorithm, for all subgraphs and classes at once: the cost does not grow with the classes' sizes.
        for place in range(self.per_class):
            last = np.where(enough, sizes - self.per_class + place, sizes - 1)
            pick = rng.integers(0, last + 1, size=(count, len(sizes)))
            taken = (picks[:, :, :place] == pick[:, :, None]).any(axis=2) & enough
            picks[:, :, place] = np.where(taken, last, pick)
        starts = np.cumsum(sizes) - sizes
        return self._known[(picks + starts[:, None]).reshape(count, -1)]

    def _build(self, nodes: NDArray[np.int64], limits: NDArray[np.int64]) -> Data:
        """The subgraphs of these nodes of the pool."""
        device = self.x.device
        node, ptr = torch.from_numpy(nodes).to(device), torch.from_numpy(limits).to(device)
        return signed_subgraphs(self.x, self.labels, node, ptr, **self.rules, block=self.block)


class WholePool(SubgraphSampler):
    """The whole pool as one graph, in every epoch: what subgraphs are compared to.

    Arguments are those of `SubgraphSampler`; `per_class` and `unlabelled` say how large a reference graph is, no more.
    The edges are found once, by an exact search in chunks.
    """

    @property
    def subgraphs(self) -> int:
        """One."""
        return 1

    def nodes(self, epoch: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """All nodes; arguments as `SubgraphSampler.nodes`."""
        yield np.arange(len(self.labels)), np.array([0, len(self.labels)])

    def parts(self, epoch: int = 0) -> Iterator[Data]:
        """One batch; arguments as `SubgraphSampler.epoch`."""
        yield self._whole

    epoch = parts

    @cached_property
    def _whole(self) -> Data:
        return self._build(*next(self.nodes(0)))


def signed_subgraphs(
    x: Tensor,
    labels: Tensor,
    node: Tensor,
    ptr: Tensor,
    *,
    positives: int = 2,
    k: int | None = None,
    far: Far = "any",
    labelled_edges: LabelledEdges = "class",
    block: int = BLOCK,
) -> Data:
    """Signed graphs of given nodes of a pool.

    Args:
        x: Features of the pool. [pool, dims]
        labels: Class of each node of the pool, -1 where it is not known. [pool] int64
        node: Rows of the pool, one subgraph after the other. [nodes] int64
        ptr: Where each subgraph begins, and where the last one ends. [graphs + 1] int64
        positives: See `signed_edges`.
        k: See `signed_edges`.
        far: See `signed_edges`.
        labelled_edges: See `signed_edges`.
        block: See `signed_edges`.

    Returns:
        As `SubgraphSampler.epoch` gives it.
    """
    features, y = x[node], labels[node]
    rules: Any = {"positives": positives, "k": k, "far": far, "labelled_edges": labelled_edges}
    edge_index, edge_weight = signed_edges(features, y, ptr=ptr, **rules, block=block)
    return _batch(features, y, node, ptr, edge_index, edge_weight)


def _batch(x: Tensor, y: Tensor, node: Tensor, ptr: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Data:
    graphs = len(ptr) - 1
    batch = torch.arange(graphs, device=x.device).repeat_interleave(ptr.diff(), output_size=len(node))
    return Data(
        x=x, edge_index=edge_index, edge_weight=edge_weight, y=y, node=node, batch=batch, ptr=ptr, num_graphs=graphs
    )


def _part(data: Data, begin: int, end: int) -> Data:
    """Some of the subgraphs of a batch."""
    if begin == 0 and end == data.num_graphs:
        return data
    ptr = data.ptr[begin : end + 1]
    first, last = int(ptr[0]), int(ptr[-1])
    # Edges are sorted by target, and none leaves its graph.
    low, high = torch.searchsorted(data.edge_index[1].contiguous(), ptr[[0, -1]]).tolist()
    nodes, edges = slice(first, last), slice(low, high)
    return _batch(
        data.x[nodes],
        data.y[nodes],
        data.node[nodes],
        ptr - first,
        data.edge_index[:, edges] - first,
        data.edge_weight[edges],
    )


def _join(parts: list[Data]) -> Data:
    """Several batches as one."""
    if len(parts) == 1:
        return parts[0]
    shifts = np.cumsum([0, *(part.num_nodes for part in parts)]).tolist()
    return _batch(
        torch.cat([part.x for part in parts]),
        torch.cat([part.y for part in parts]),
        torch.cat([part.node for part in parts]),
        torch.cat([parts[0].ptr[:1], *(part.ptr[1:] + shift for part, shift in zip(parts, shifts, strict=False))]),
        torch.cat([part.edge_index + shift for part, shift in zip(parts, shifts, strict=False)], dim=1),
        torch.cat([part.edge_weight for part in parts]),
    )
