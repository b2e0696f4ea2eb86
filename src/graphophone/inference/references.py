"""Reference graphs in a model folder: few nodes, many draws; a recording that several draws share is kept once."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from graphophone.graphs.attachment import Attachment
from graphophone.graphs.base import GraphError, require

KEYS = ("x", "y", "node", "size", "edge_index", "edge_weight", "edges")
"""Tensors of the file; see `pack`."""


def pack(references: Sequence[Data]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reference graphs as tensors, and the names of their recordings.

    Args:
        references: Each with `x` [nodes, dims], `edge_index` [2, edges], `edge_weight` [edges], `y` [nodes] (-1 for a
            predicted label) and, where the recordings have names, `id`, a list of them. [nodes]

    Returns:
        - `x` `[recordings, dims]` and `y` `[recordings]`: every recording once;
        - `node` `[sum of sizes]`: which of them are the nodes of each draw, one draw after the other;
        - `size` `[draws]`: nodes of each draw;
        - `edge_index` `[2, sum of edges]`, `edge_weight` `[sum of edges]`: edges of each draw, its nodes from 0 on;
        - `edges` `[draws]`: edges of each draw;

        and texts: `ids`, names of the recordings as a JSON list, where all graphs have them.
    """
    graphs = on_device(references, "cpu")
    x = torch.cat([graph.x for graph in graphs]).float().contiguous()
    y = torch.cat([graph.y for graph in graphs]).long()
    named = all("id" in graph for graph in graphs)
    ids = np.array([str(name) for graph in graphs for name in graph.id] if named else [""] * len(x), dtype=object)
    _, code = np.unique(ids.astype(str), return_inverse=True)
    # One recording: the same numbers to the last bit, the same label, the same name.
    key = np.concatenate([part.view(np.uint8).reshape(len(x), -1) for part in (x.numpy(), y.numpy(), code)], axis=1)
    row = np.ascontiguousarray(key).view(np.dtype((np.void, key.shape[1])))[:, 0]
    _, first, node = np.unique(row, return_index=True, return_inverse=True)
    tensors = {
        "x": x[torch.from_numpy(first)],
        "y": y[torch.from_numpy(first)].int(),
        "node": torch.from_numpy(node.reshape(-1)).int(),
        "size": torch.tensor([len(graph.x) for graph in graphs], dtype=torch.int32),
        "edge_index": torch.cat([graph.edge_index for graph in graphs], dim=1).int(),
        "edge_weight": torch.cat([graph.edge_weight for graph in graphs]).float(),
        "edges": torch.tensor([graph.edge_index.shape[1] for graph in graphs], dtype=torch.int32),
    }
    return tensors, {"ids": json.dumps(ids[first].tolist())} if named else {}


def unpack(tensors: Mapping[str, Tensor], texts: Mapping[str, str] | None = None) -> tuple[Data, ...]:
    """The graphs that `pack` took apart; each also with `true` and `pseudo`, its nodes of either kind of label.

    Raises:
        GraphError: If tensors are missing or do not fit each other.
    """
    missing = [key for key in KEYS if key not in tensors]
    require(not missing, f"{', '.join(missing)} missing")
    x, y, edge_weight = tensors["x"], tensors["y"], tensors["edge_weight"]
    node, size, edge_index, edges = (_whole(tensors[key], key) for key in ("node", "size", "edge_index", "edges"))
    require(x.ndim == 2 and x.dtype == torch.float32, f"x is {list(x.shape)} {x.dtype}")
    require(y.shape == x.shape[:1], f"y is {list(y.shape)} for {len(x)} recordings")
    require(size.ndim == 1 and edges.shape == size.shape, f"size is {list(size.shape)}, edges {list(edges.shape)}")
    require(len(size) > 0 and bool((size > 0).all()) and bool((edges >= 0).all()), "a graph has no nodes")
    require(node.shape == (int(size.sum()),), f"node is {list(node.shape)}, size adds up to {int(size.sum())}")
    require(_within(node, len(x)), f"node names a recording beyond the {len(x)}")
    total = int(edges.sum())
    require(edge_index.shape == (2, total), f"edge_index is {list(edge_index.shape)}, edges adds up to {total}")
    require(edge_weight.shape == (total,), f"edge_weight is {list(edge_weight.shape)} for {total} edges")
    ids = _ids((texts or {}).get("ids"), len(x))
    graphs = []
    counts = edges.tolist()
    parts = (node.split(size.tolist()), edge_index.split(counts, dim=1), edge_weight.split(counts))
    for nodes, pairs, weights in zip(*parts, strict=True):
        graph = Data(x=x[nodes], edge_index=pairs.contiguous(), edge_weight=weights.float().clone(), y=y[nodes].long())
        graph.true = int((graph.y >= 0).sum())
        graph.pseudo = len(nodes) - graph.true
        if ids is not None:
            graph.id = [ids[i] for i in nodes.tolist()]
        graphs.append(graph)
    return tuple(graphs)


BANK = "bank"
"""How answers come about where new utterances are nodes beside all known ones (`graphophone.models.bank`)."""


def check(references: Sequence[Data], *, dims: int, classes: int, missing: bool = False) -> None:
    """That graphs can be attached to: widths, indices, weights and labels.

    Args:
        references: The graphs.
        dims: Columns of the features.
        classes: Number of classes.
        missing: Whether NaN is what a recording lacks.

    Raises:
        GraphError: If not; the text says which graph and why.
    """
    for number, graph in enumerate(references):
        where = f"graph {number}"
        absent = [key for key in ("x", "edge_index", "edge_weight", "y") if graph.get(key) is None]
        require(not absent, f"{where} has no {', '.join(absent)}")
        nodes, edges = len(graph.x), graph.edge_index.shape[-1]
        require(graph.x.ndim == 2 and nodes > 0, f"{where} has x {list(graph.x.shape)}")
        require(graph.x.shape[1] == dims, f"{where} has {graph.x.shape[1]} columns, but the features have {dims}")
        numbers = graph.x.isfinite() | graph.x.isnan() if missing else graph.x.isfinite()
        require(bool(numbers.all()), f"{where} has features that are not finite")
        pairs = _whole(graph.edge_index, f"edge_index of {where}")
        require(pairs.shape == (2, edges) and _within(pairs, nodes), f"{where} has edges beyond its {nodes} nodes")
        weights = graph.edge_weight
        require(weights.shape == (edges,), f"{where} has {edges} edges and weights {list(weights.shape)}")
        require(bool(weights.isfinite().all()), f"{where} has weights that are not finite")
        labels = _whole(graph.y, f"y of {where}")
        require(labels.shape == (nodes,) and _within(labels + 1, classes + 1), f"{where} has labels beyond {classes}")
        require("id" not in graph or len(graph.id) == nodes, f"{where} has {nodes} nodes and another number of names")


def check_attachment(attachment: Mapping[str, Any]) -> dict[str, Any]:
    """How recordings are attached, with nothing left out: `edges`, `how` and `seed`.

    Raises:
        GraphError: If a key is unknown, or a value is none that `graphophone.graphs.attachment.attach` takes.
    """
    chosen = {"edges": 4, "how": "random", "seed": 0, **attachment}
    unknown = sorted(set(chosen) - {"edges", "how", "seed"})
    require(not unknown, f"attachment has no {', '.join(unknown)}; give edges, how and seed")
    for key, least in (("edges", 1), ("seed", 0)):
        value = chosen[key]
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
        require(whole, f"attachment {key} is {value!r}; give a whole number from {least} on")
    require(
        chosen["how"] in (*get_args(Attachment), BANK),
        f'attachment how is {chosen["how"]!r}; give "random", "nearest", "none" or "bank"',
    )
    return chosen


def on_device(references: Sequence[Data], device: str | torch.device) -> tuple[Data, ...]:
    """The graphs on a device; those given stay where they are (`Data.to` moves a graph itself)."""
    return tuple(copy.copy(graph).to(device) for graph in references)


def distinct(references: Sequence[Data]) -> tuple[int, int]:
    """How many recordings the graphs hold in all, and how many of them have a true label."""
    tensors, _ = pack(references)
    return len(tensors["y"]), int((tensors["y"] >= 0).sum())


def _whole(values: Tensor, name: str) -> Tensor:
    """Indices or counts as int64."""
    whole = not values.is_floating_point() and not values.is_complex() and values.dtype != torch.bool
    require(whole, f"{name} is {values.dtype} and not whole numbers")
    return values.long()


def _within(values: Tensor, end: int) -> bool:
    return values.numel() == 0 or (int(values.min()) >= 0 and int(values.max()) < end)


def _ids(text: str | None, count: int) -> list[str] | None:
    """Names of the recordings, where there are any."""
    if text is None:
        return None
    try:
        ids = json.loads(text)
    except json.JSONDecodeError as error:
        raise GraphError(f"ids cannot be read ({error})") from error
    good = isinstance(ids, list) and len(ids) == count and all(isinstance(name, str) for name in ids)
    require(good, f"ids are not {count} names")
    return list(ids)
