r"""New recordings beside known ones: a small graph of reference, and edges drawn by lot.

Shirian, Somandepalli, Guha, "Self-supervised Graphs for Audio Representation Learning with Limited Labeled Data"
(IEEE JSTSP, 2022), section III-D. Every new recording gets a copy of the reference graph of its own, so that its answer
does not depend on which others are asked for; its edges are drawn from its id, and are the same every time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from graphophone.features.base import stable_hash
from graphophone.graphs.base import GraphError, require
from graphophone.graphs.signed import Far, LabelledEdges
from graphophone.graphs.subgraphs import signed_subgraphs

Attachment = Literal["random", "nearest", "none"]


def chance_of_true_label(edges: int, true: int, pseudo: int, *, exact: bool = True) -> float:
    """Probability that random edges reach at least one node whose label is true.

    Args:
        edges: T, distinct nodes drawn.
        true: N, nodes with a true label.
        pseudo: M, nodes with a predicted label.
        exact: `1 - C(M, T) / C(N + M, T)`, the hypergeometric probability; False: the paper's formula, which has
            `M - 1` in place of `M`.

    Returns:
        A probability, which rises with `edges`; 1 where more edges are drawn than nodes could fail.

    Raises:
        GraphError: If a number is negative.
    """
    require(min(edges, true, pseudo) >= 0, f"edges, true and pseudo must be at least 0, not {edges}, {true}, {pseudo}")
    wrong = pseudo if exact else max(pseudo - 1, 0)
    if edges > wrong:
        return 1.0 if true else 0.0
    # The ratio of two binomial coefficients is a product of T factors below 1; logarithms keep large pools in range.
    return -math.expm1(sum(math.log1p(-true / (true + wrong - i)) for i in range(edges)) if true else 0.0)


def min_random_edges(true: int, pseudo: int, p: float, *, exact: bool = True) -> int:
    """Fewest random edges that reach at least one node with a true label with probability `p` or more.

    Args:
        true: N, nodes with a true label, at least 1.
        pseudo: M, nodes with a predicted label.
        p: Probability wanted, in [0, 1].
        exact: See `chance_of_true_label`.

    Returns:
        T, between 0 (only for `p` 0) and M + 1.

    Raises:
        GraphError: If there is no true label, or `p` is no probability.

    Example:
        >>> min_random_edges(27, 26, 0.9, exact=False)
        4
    """
    require(pseudo >= 0, f"pseudo is {pseudo}; give at least 0")
    require(true >= 1, f"true is {true}: no number of edges reaches a true label; give at least 1")
    require(0 <= p <= 1, f"p is {p}; give a probability, between 0 and 1")
    low, high = 0, pseudo + 1
    while low < high:
        middle = (low + high) // 2
        if chance_of_true_label(middle, true, pseudo, exact=exact) >= p:
            high = middle
        else:
            low = middle + 1
    return low


def draw_reference(
    x: Tensor,
    labels: Tensor,
    pseudo: Tensor,
    *,
    size: int,
    num_classes: int | None = None,
    true_share: float | None = None,
    positives: int = 2,
    k: int | None = None,
    far: Far = "any",
    labelled_edges: LabelledEdges = "class",
    seed: int = 0,
    draw: int = 0,
) -> Data:
    """A class-balanced graph of recordings with true or predicted labels, to which new ones are attached.

    `size // num_classes` nodes of each class are drawn without replacement, or all where a class has fewer. Nodes with
    a true label follow the rules of labelled nodes, the others those of unlabelled ones.

    Args:
        x: Features of the pool. [pool, dims]
        labels: True class of each node, -1 where it is not known. [pool] int64
        pseudo: Predicted class of each node, read where there is no true one; -1: never drawn. [pool] int64
        size: Nodes wanted.
        num_classes: Number of classes; None: as many as the labels name.
        true_share: Share of nodes of each class that have a true label, as far as there are; None: as they fall.
        positives: See `signed_edges`.
        k: See `signed_edges`.
        far: See `signed_edges`.
        labelled_edges: See `signed_edges`.
        seed: What the draw follows from.
        draw: Number of the draw; each is another.

    Returns:
        `Data` with `x`, `edge_index`, `edge_weight`, `y` (-1 for predicted labels), `node`, and how many nodes have a
        label of which kind: `true` and `pseudo`.

    Raises:
        GraphError: If the size is below one node per class, or there is no node to draw.
    """
    require(true_share is None or 0 <= true_share <= 1, f"true_share is {true_share}; give a share, from 0 to 1")
    known = labels.cpu().numpy()
    classes = np.where(known >= 0, known, pseudo.cpu().numpy())
    count = int(classes.max()) + 1 if num_classes is None and len(classes) else num_classes or 0
    per_class = size // max(count, 1)
    require(count >= 1, "no node has a label, true or predicted; there is nothing to draw a reference graph from")
    require(per_class >= 1, f"a reference graph of {size} nodes cannot hold {count} classes; raise size")
    # A `SubgraphSampler` has 0 and 1 in the third place: what is drawn for answers has nothing to do with what was
    # drawn for training. (Without a third number it would be that of its queue.)
    rng = np.random.default_rng((seed, draw, 2))
    lot = rng.random(len(classes))
    rank = _rank_within(classes * 2 + (known < 0), lot)
    drawn = np.bincount(classes[known >= 0], minlength=count)
    if true_share is None:
        chosen = _rank_within(classes, lot) < per_class
    else:
        other = np.bincount(classes[(known < 0) & (classes >= 0)], minlength=count)
        wanted = np.minimum(round(true_share * per_class), drawn)
        rest = np.minimum(per_class - wanted, other)
        wanted = np.minimum(per_class - rest, drawn)
        chosen = rank < np.where(known >= 0, wanted[classes], rest[classes])
    node = torch.from_numpy(np.flatnonzero(chosen & (classes >= 0))).to(x.device)
    require(len(node) > 0, "no node has a label, true or predicted; there is nothing to draw a reference graph from")
    ptr = torch.tensor([0, len(node)], device=x.device)
    rules: Any = {"positives": positives, "k": k, "far": far, "labelled_edges": labelled_edges}
    graph = signed_subgraphs(x, labels, node, ptr, **rules)
    true = int((graph.y >= 0).sum())
    return Data(
        x=graph.x,
        edge_index=graph.edge_index,
        edge_weight=graph.edge_weight,
        y=graph.y,
        node=node,
        true=true,
        pseudo=len(node) - true,
    )


def no_reference(x: Tensor) -> Data:
    """A reference graph without nodes, for recordings that are attached to none.

    Args:
        x: Features whose width, kind and device it has. [any, dims]
    """
    index = torch.empty(2, 0, dtype=torch.int64, device=x.device)
    return Data(x=x[:0], edge_index=index, edge_weight=x.new_zeros(0), y=index[0], true=0, pseudo=0)


def attach(
    reference: Data,
    x: Tensor,
    ids: Sequence[str],
    *,
    edges: int = 4,
    how: Attachment = "random",
    seed: int = 0,
    draw: int = 0,
) -> Data:
    """Copies of a reference graph, each with one new recording attached by edges of weight +1 in both directions.

    Args:
        reference: `x`, `edge_index` and `edge_weight` of the graph, as `draw_reference` gives it.
        x: Features of the new recordings. [clips, dims]
        ids: Their names, from which their edges are drawn. [clips]
        edges: T, edges of each (as many as there are nodes, if those are fewer).
        how: `"random"` nodes, all different; the `"nearest"` by Euclidean distance; or `"none"`: what a network that
            has learned in graphs says of a recording by itself.
        seed: Draws follow from the seed, the number of the draw, and the id.
        draw: Number of the draw; each is another.

    Returns:
        `Data` with `x`, `edge_index` sorted by target, then source, `edge_weight`, `batch`, `ptr`, `num_graphs`, and
        `clip`, the node of each new recording: the last of its copy. [clips]

    Raises:
        GraphError: If widths or numbers do not fit.
    """
    size, clips = len(reference.x), len(x)
    chosen = choose(reference, x, ids, edges=edges, how=how, seed=seed, draw=draw)
    x, device, edges = x.to(reference.x), reference.x.device, chosen.shape[1]
    first = torch.arange(clips, device=device)[:, None] * (size + 1)
    clip = first[:, 0] + size
    source, target = ((row + first).reshape(-1) for row in reference.edge_index)
    known, new = (chosen + first).reshape(-1), clip.repeat_interleave(edges)
    edge_index = torch.stack([torch.cat([source, known, new]), torch.cat([target, new, known])])
    weight = torch.cat([reference.edge_weight.repeat(clips), reference.edge_weight.new_ones(2 * clips * edges)])
    order = (edge_index[1] * (clips * (size + 1)) + edge_index[0]).argsort()
    nodes = torch.cat([reference.x[None].expand(clips, -1, -1), x[:, None]], dim=1)
    return Data(
        x=nodes.reshape(clips * (size + 1), -1),
        edge_index=edge_index[:, order],
        edge_weight=weight[order],
        batch=torch.arange(clips, device=device).repeat_interleave(size + 1),
        ptr=torch.arange(clips + 1, device=device) * (size + 1),
        num_graphs=clips,
        clip=clip,
    )


def choose(
    reference: Data,
    x: Tensor,
    ids: Sequence[str],
    *,
    edges: int = 4,
    how: Attachment = "random",
    seed: int = 0,
    draw: int = 0,
) -> Tensor:
    """The nodes of a reference graph that new recordings are attached to; arguments as `attach`.

    Returns:
        Different nodes for each. [clips, edges] int64

    Raises:
        GraphError: If widths or numbers do not fit.
    """
    size, clips = len(reference.x), len(x)
    if x.dim() != 2 or x.shape[1] != reference.x.shape[1] or len(ids) != clips:
        raise GraphError(
            f"{len(ids)} ids and features {list(x.shape)} do not fit a reference graph of width "
            f"{reference.x.shape[1]}; give one id and one row of that width for each clip"
        )
    require(edges >= 1, f"edges is {edges}; give at least 1")
    require(how in get_args(Attachment), f'how is {how!r}; give "random", "nearest" or "none"')
    edges = 0 if how == "none" else min(edges, size)
    x, device = x.to(reference.x), reference.x.device
    if how == "none":
        return torch.empty(clips, 0, dtype=torch.int64, device=device)
    if how == "random":
        return torch.from_numpy(_lots(ids, size, edges, seed, draw)).to(device)
    distances = torch.cdist(x.double(), reference.x.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return distances.float().sort(dim=1, stable=True).indices[:, :edges]


def _rank_within(group: NDArray[np.int64], lot: NDArray[np.float64]) -> NDArray[np.int64]:
    """Place of each item among those of its group by ascending lot."""
    order = np.lexsort((lot, group))
    ordered = group[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    rank = np.empty(len(group), dtype=np.int64)
    rank[order] = np.arange(len(group)) - np.repeat(starts, np.diff(np.r_[starts, len(group)]))
    return rank


def _lots(ids: Sequence[str], size: int, edges: int, seed: int, draw: int) -> NDArray[np.int64]:
    """`edges` different numbers below `size` for each id, drawn from it alone. [ids, edges].

    A generator per clip would cost a thousand times what it draws, so numbers come from a hash that runs over all
    clips at once: the finaliser of SplitMix64 (Steele, Lea, Flood 2014), a random lot for each pair of clip and node.
    """
    start = np.array([int(stable_hash([seed, draw, str(name)], digits=16), 16) for name in ids], dtype=np.uint64)
    z = start[:, None] + np.arange(1, size + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    if edges == size:
        return np.broadcast_to(np.arange(size), (len(ids), size)).copy()
    return np.sort(np.argpartition(z, edges - 1, axis=1)[:, :edges], axis=1)
