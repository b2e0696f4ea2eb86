r"""Signed graphs of labelled and unlabelled recordings: who is alike, and who is as different as can be.

Shirian, Somandepalli, Guha, "Self-supervised Graphs for Audio Representation Learning with Limited Labeled Data"
(IEEE JSTSP, 2022), Algorithm 1. Every node of a set S takes edges of its own choice:

* a labelled node: +1 to the nearest nodes of its own label, -1 to the farthest labelled node;
* an unlabelled node: +1 to the nearest nodes of all of S, -1 to the farthest.

The edges of all nodes are united and go both ways. A pair that one side chose as alike and the other as different is
alike. Distance is Euclidean; ties go to the smaller index.

Edges that labels choose tell the labels: a network may read the class of a node off its neighbours in training, which
no new recording gives away. With ``labelled_edges="similarity"`` all nodes choose as unlabelled ones do.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch_geometric.data import Data

from graphophone.graphs.base import (
    GraphBuilder,
    GraphError,
    Joins,
    features_of,
    graph_pointers,
    require,
    set_edges,
    threads_for,
)
from graphophone.graphs.search import BLOCK, nearest_edges
from graphophone.graphs.space import Space

Far = Literal["any", "other_class"]
LabelledEdges = Literal["class", "similarity"]

# Sets of so many nodes are compared at once, padded to the largest, as many as fill the room: they stay in the cache.
SMALL = 256
ROOM = 2**16


def signed_edges(
    x: Tensor,
    labels: Tensor,
    *,
    ptr: Tensor | None = None,
    positives: int = 2,
    k: int | None = None,
    far: Far = "any",
    labelled_edges: LabelledEdges = "class",
    block: int = BLOCK,
) -> tuple[Tensor, Tensor]:
    """Signed edges of one or many sets of labelled and unlabelled nodes.

    The search is exact and goes in chunks: time is O(n^2 * dims) for a set of n nodes, memory O(nodes * dims + block).
    A set may be a sampled subgraph or a whole corpus, and gets the same edges alone and among others.

    Args:
        x: Node features, standardised: the distance depends on their scale. [nodes, dims]
        labels: Class of each node, -1 where it is not known. [nodes] int64
        ptr: Where each set begins, and where the last one ends; one set if left out. [sets + 1] int64
        positives: Edges of weight +1 that each node chooses; fewer where there are fewer candidates.
        k: A labelled node looks for its own label among so many nearest labelled nodes; None: among all of them.
        far: What a labelled node calls different: the farthest labelled node of `"any"` label (as published), or of
            an `"other_class"`.
        labelled_edges: What labelled nodes choose by: their `"class"` (as published), or `"similarity"` alone, as
            nodes without label do; then `k` and `far` have no meaning, and labels no influence.
        block: Similarities held at once.

    Returns:
        `edge_index`, in both directions, sorted by target, then source. [2, edges] int64; and `edge_weight`, +1 or
        -1. [edges] float32

    Raises:
        GraphError: If `x` is not a matrix or holds a number that is not finite, or `labels` do not fit it.

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [5.0], [6.0]])
        >>> signed_edges(x, torch.tensor([0, 0, 1, 1]), positives=1)
        (tensor([[1, 2, 3, 0, 3, 0, 3, 0, 1, 2],
                [0, 0, 0, 1, 1, 2, 2, 3, 3, 3]]), tensor([ 1., -1., -1.,  1., -1., -1.,  1., -1., -1.,  1.]))
    """
    _check_rules(positives, k, far, labelled_edges)
    require(block >= 1, f"signed edges: block is {block}; give at least 1")
    if labels.shape != x.shape[:1] or labels.is_floating_point() or labels.dtype == torch.bool:
        raise GraphError(
            f"labels must be whole numbers, one for each of the {len(x)} nodes, -1 where there is none, not "
            f"{list(labels.shape)} {labels.dtype}"
        )
    x = x.detach()
    if labelled_edges == "similarity":
        labels = torch.full_like(labels, -1)
    if ptr is None:
        ptr = torch.tensor([0, len(x)], device=x.device)
    sizes = ptr.diff()
    with threads_for(int((sizes * sizes).sum()) * x.shape[-1]):
        few = _chosen_in_small_sets(x, labels, ptr, positives, far) if k is None and block >= ROOM else None
        alike, different = few or _chosen(x, labels, ptr, positives, k, far, block)
        return _merge(alike, different, len(x))


class Signed(GraphBuilder):
    """Signed edges of recordings: `signed_edges` of `data.x` and, where there is one, `data.y`.

    Args:
        positives: See `signed_edges`.
        k: See `signed_edges`.
        far: See `signed_edges`.
        labelled_edges: See `signed_edges`.

    Example:
        >>> data = Data(x=torch.tensor([[0.0], [1.0], [5.0], [6.0]]), y=torch.tensor([0, 0, 1, -1]))
        >>> Signed(positives=1)(data).edge_weight.tolist()
        [1.0, -1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0]
    """

    name: ClassVar[str] = "signed"
    joins: ClassVar[Joins] = "recordings"
    reads_features: bool = True

    def __init__(
        self,
        positives: int = 2,
        k: int | None = None,
        far: Far = "any",
        labelled_edges: LabelledEdges = "class",
    ) -> None:
        _check_rules(positives, k, far, labelled_edges)
        self.positives = positives
        self.k = k
        self.far: Far = far
        self.labelled_edges: LabelledEdges = labelled_edges

    def edges(self, ptr: Tensor, x: Tensor | None = None) -> Tensor:
        """`edge_index` of nodes none of which has a label. [2, edges] int64."""
        return self.signed(ptr, features_of(self, x), None)[0]

    def signed(self, ptr: Tensor, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """`signed_edges` by these rules; without `y` no node has a label."""
        labels = torch.full(x.shape[:1], -1, device=x.device) if y is None else y
        return signed_edges(x, labels, ptr=ptr, **self.rules)

    @property
    def rules(self) -> dict[str, Any]:
        """Arguments of `signed_edges`."""
        return {"positives": self.positives, "k": self.k, "far": self.far, "labelled_edges": self.labelled_edges}

    def forward(self, data: Data) -> Data:
        """Set `data.edge_index` and `data.edge_weight` from `data.x` and, if there, `data.y` (-1: no label).

        Raises:
            GraphError: See `GraphBuilder.forward` and `signed_edges`.
        """
        x, ptr = features_of(self, data.x), graph_pointers(data)
        return set_edges(data, ptr, *self.signed(ptr, x, data.get("y")))


def _check_rules(positives: int, k: int | None, far: str, labelled_edges: str) -> None:
    require(positives >= 1, f"signed edges: positives is {positives}; give at least 1")
    require(k is None or k >= 1, f"signed edges: k is {k}; give at least 1, or None for all")
    require(far in ("any", "other_class"), f'signed edges: far is {far!r}; give "any" or "other_class"')
    require(
        labelled_edges in ("class", "similarity"),
        f'signed edges: labelled_edges is {labelled_edges!r}; give "class" or "similarity"',
    )
    require(
        labelled_edges == "class" or (k is None and far == "any"),
        'signed edges: k and far are rules by class; leave them out, or set labelled_edges to "class"',
    )


def _chosen(
    x: Tensor, labels: Tensor, ptr: Tensor, positives: int, k: int | None, far: Far, block: int
) -> tuple[Tensor, Tensor]:
    """Pairs that some node chose as alike, and as different. Each [2, pairs]."""
    every = Space(x, ptr.tolist(), "euclidean")
    free = labels < 0
    alike, different = [], []
    if bool(free.any()):
        near, away = nearest_edges(every, positives, block=block), nearest_edges(_Away(every), 1, block=block)
        alike.append(near[:, free[near[1]]])
        different.append(away[:, free[away[1]]])
    known = (~free).nonzero()[:, 0]
    if len(known):
        limits = torch.searchsorted(known, ptr)
        alike.append(_of_own_label(x, labels, known, limits, positives, k, block))
        different.append(_farthest_labelled(x, labels, known, limits, far, block))
    empty = torch.empty(2, 0, dtype=torch.int64, device=x.device)
    return torch.cat([empty, *alike], dim=1), torch.cat([empty, *different], dim=1)


def _chosen_in_small_sets(
    x: Tensor, labels: Tensor, ptr: Tensor, positives: int, far: Far
) -> tuple[Tensor, Tensor] | None:
    """What `_chosen` returns, for many small sets, in few steps.

    Squared distances come from products in double precision, off by a known bound, and are ranked as they are. Where
    that bound, or the grid on which distances tie, leaves a choice open, there is no answer.

    Returns:
        None where this is not the way: large sets, sets of very different sizes, choices left open (as among equal
        rows), features that must be refused.
    """
    sizes = ptr.diff()
    sets, width = len(sizes), int(sizes.max()) if len(sizes) else 0
    if x.dim() != 2 or x.is_complex() or not 0 < width <= SMALL or sets * width**2 > 2 * int((sizes * sizes).sum()):
        return None
    place = torch.arange(width, device=x.device)
    alike: list[Tensor] = []
    different: list[Tensor] = []
    for some in torch.arange(sets, device=x.device).split(max(1, ROOM // width**2)):
        real = place < sizes[some, None]
        node = torch.where(real, ptr[some, None] + place, ptr[some, None])
        # A set without nodes has no first node either; all of its places are padding.
        node.clamp_(max=len(x) - 1)
        label = labels[node]
        rows = x[node].double()
        if bool(real.all()):
            rows -= rows.mean(dim=1, keepdim=True)
        else:
            rows *= real[:, :, None]
            rows -= rows.sum(dim=1, keepdim=True) / sizes[some, None, None].clamp(min=1)
            rows *= real[:, :, None]
        square = rows.square().sum(dim=2)
        largest = square.max().item()
        if not largest < 1e30:
            return None
        distance = torch.baddbmm(square[:, :, None] + square[:, None], rows, rows.mT, alpha=-2)
        slack = 16 * (x.shape[1] + 8) * 2.0**-53 * largest
        known = real & (label >= 0)
        for given in (True, False):
            graph, row = (known if given else real & (label < 0)).nonzero(as_tuple=True)
            others = (known if given else real)[graph]
            others[torch.arange(len(row), device=x.device), row] = False
            same = label[graph] == label[graph, row][:, None]
            apart = others & ~same if given and far == "other_class" else others
            values = distance[graph, row]
            near = _extreme(values, others & same if given else others, positives, slack, largest=False)
            away = _extreme(values, apart, 1, slack, largest=True)
            if near is None or away is None:
                return None
            for found, (which, column) in ((alike, near), (different, away)):
                found.append(torch.stack([node[graph[which], column], node[graph[which], row[which]]]))
    return torch.cat(alike, dim=1), torch.cat(different, dim=1)


def _extreme(
    values: Tensor, allowed: Tensor, count: int, slack: float, *, largest: bool
) -> tuple[Tensor, Tensor] | None:
    """Rows and columns of the lowest, or largest, allowed values of each row; None where rounding leaves them open.

    Args:
        values: Squared distances. [rows, columns]
        allowed: Which of them are candidates. [rows, columns]
        count: Columns wanted; fewer where there are fewer candidates.
        slack: How far squared distances may be off.
        largest: Whether to take the largest ones.
    """
    values = values.masked_fill(~allowed, -torch.inf if largest else torch.inf)
    ranked, columns = values.topk(min(count + 1, values.shape[1]), dim=1, largest=largest)
    if ranked.shape[1] > count:
        last, following = ranked[:, count - 1], ranked[:, count]
        # Distances are ranked in single precision, which cannot tell apart what differs by less than 2^-23 of it.
        unsure = (following - last).abs() <= 2 * slack + 2.0**-21 * following.abs()
        if bool((unsure & following.isfinite()).any()):
            return None
    row, rank = ranked[:, :count].isfinite().nonzero(as_tuple=True)
    return row, columns[row, rank]


def _of_own_label(
    x: Tensor, labels: Tensor, known: Tensor, limits: Tensor, positives: int, k: int | None, block: int
) -> Tensor:
    """Edges from the nearest nodes of the same label in the same set. [2, edges]."""
    graph = torch.arange(len(limits) - 1, device=x.device).repeat_interleave(limits.diff())
    group = graph * (int(labels.max()) + 1) + labels[known]
    order = group.argsort(stable=True)
    counts = torch.unique_consecutive(group[order], return_counts=True)[1]
    ends = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    mates = known[order]
    found = mates[nearest_edges(Space(x[mates], ends.tolist(), "euclidean"), positives, block=block)]
    if k is None:
        return found
    # The first of one's own label among the k nearest are those that are near both among one's own and among all.
    near = known[nearest_edges(Space(x[known], limits.tolist(), "euclidean"), k, block=block)]
    return found[:, torch.isin(found[1] * len(x) + found[0], near[1] * len(x) + near[0])]


def _farthest_labelled(x: Tensor, labels: Tensor, known: Tensor, limits: Tensor, far: Far, block: int) -> Tensor:
    """Edges from the farthest labelled node of the same set. [2, edges]."""
    rows = x[known]
    if far == "other_class":
        # One more coordinate per class, farther apart than any two nodes are: every node of another class is then
        # farther than all of one's own, and those of other classes stay in their order.
        radius = torch.linalg.vector_norm(rows.double() - rows.double().mean(dim=0), dim=1).max().item()
        apart = 2.0 ** torch.tensor(2 * radius or 1.0, dtype=torch.float64).log2().ceil().item()
        classes, place = labels[known].unique(return_inverse=True)
        corner = rows.new_zeros(len(rows), len(classes), dtype=torch.float64)
        corner.scatter_(1, place[:, None], apart)
        rows = torch.cat([rows.double(), corner], dim=1)
    away = known[nearest_edges(_Away(Space(rows, limits.tolist(), "euclidean")), 1, block=block)]
    return away[:, labels[away[0]] != labels[away[1]]] if far == "other_class" else away


class _Away(Space):
    """The same nodes, of which the farthest count as the nearest."""

    def __init__(self, space: Space) -> None:
        self.__dict__.update(space.__dict__)
        queries, keys, slack = space.single
        self.__dict__["single"] = (-queries, keys, slack)

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Distances, on the grid where ties are equal; see `Space.scores`."""
        return -super().scores(queries, keys)


def _merge(alike: Tensor, different: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
    """Both directions of every pair once, alike before different, sorted by target, then source."""
    pairs = torch.cat([alike, different], dim=1)
    sign = torch.ones(pairs.shape[1], dtype=torch.int64, device=pairs.device)
    sign[: alike.shape[1]] = 0
    low, high = pairs.min(dim=0).values, pairs.max(dim=0).values
    code = ((low * nodes + high) * 2 + sign).unique()
    pair = code >> 1
    first = torch.ones_like(pair, dtype=torch.bool)
    first[1:] = pair[1:] != pair[:-1]
    code = code[first]
    low, high = torch.div(code >> 1, nodes, rounding_mode="floor"), (code >> 1) % nodes
    weight = 1.0 - 2.0 * (code & 1)
    target, source = torch.cat([high, low]), torch.cat([low, high])
    order = (target * nodes + source).argsort()
    return torch.stack([source, target])[:, order], weight.repeat(2)[order].to(torch.float32)
