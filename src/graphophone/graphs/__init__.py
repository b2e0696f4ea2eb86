"""Graph builders: PyG transforms that give nodes their edges.

`edge_index[0]` is the source and `edge_index[1]` the target of an edge. Edges are unique and sorted by target, then by
source. Every builder works on a `Data` or on a whole `Batch`, with the same result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphophone.graphs.base import GraphBuilder, GraphError
from graphophone.graphs.modal import ModalKNN, bank_edges, modal_edges
from graphophone.graphs.none import NoGraph
from graphophone.graphs.signed import Signed, signed_edges
from graphophone.graphs.similarity import (
    KNN,
    CosineThreshold,
    TopKSimilarity,
    cosine_threshold,
    knn,
    topk_similarity,
)
from graphophone.graphs.subgraphs import SubgraphSampler, signed_subgraphs
from graphophone.graphs.temporal import (
    Cycle,
    Full,
    Line,
    TemporalWindow,
    cycle_edges,
    full_edges,
    line_edges,
    window_edges,
)
from graphophone.graphs.union import CycleTopK, Union, union_edges
from graphophone.registry import Registry

GRAPHS: Registry[GraphBuilder] = Registry(
    "graph",
    {
        "none": "graphophone.graphs.none:NoGraph",
        "line": "graphophone.graphs.temporal:Line",
        "cycle": "graphophone.graphs.temporal:Cycle",
        "temporal_window": "graphophone.graphs.temporal:TemporalWindow",
        "full": "graphophone.graphs.temporal:Full",
        "topk": "graphophone.graphs.similarity:TopKSimilarity",
        "knn": "graphophone.graphs.similarity:KNN",
        "cosine_threshold": "graphophone.graphs.similarity:CosineThreshold",
        "cycle_topk": "graphophone.graphs.union:CycleTopK",
        "union": "graphophone.graphs.union:union_of",
        "given": "graphophone.graphs.given:Given",
        "signed": "graphophone.graphs.signed:Signed",
        "modal_knn": "graphophone.graphs.modal:ModalKNN",
    },
)


def create_graph(name: str, **config: Any) -> GraphBuilder:
    """Make the graph builder `name` with its options.

    Raises:
        UnknownNameError: If no builder has that name, or it has no such option.

    Example:
        >>> create_graph("cycle_topk", k=5)
        CycleTopK(k=5, include_self=False, features=None, block=4194304)
    """
    return GRAPHS.create(name, **config)


def list_graphs(pattern: str = "*") -> list[str]:
    """Names of the graph builders that match a shell pattern."""
    return GRAPHS.names(pattern)


def build_graph(config: Mapping[str, Any]) -> GraphBuilder:
    """Make a graph builder again from its `config`.

    Raises:
        GraphError: If there is no name in it.
        UnknownNameError: If no builder has that name, or it has no such option.
    """
    options = dict(config)
    if "name" not in options:
        raise GraphError(f"a graph configuration needs a name, one of {', '.join(list_graphs())}")
    return create_graph(options.pop("name"), **options)


__all__ = [
    "GRAPHS",
    "KNN",
    "CosineThreshold",
    "Cycle",
    "CycleTopK",
    "Full",
    "GraphBuilder",
    "GraphError",
    "Line",
    "ModalKNN",
    "NoGraph",
    "Signed",
    "SubgraphSampler",
    "TemporalWindow",
    "TopKSimilarity",
    "Union",
    "bank_edges",
    "build_graph",
    "cosine_threshold",
    "create_graph",
    "cycle_edges",
    "full_edges",
    "knn",
    "line_edges",
    "list_graphs",
    "modal_edges",
    "signed_edges",
    "signed_subgraphs",
    "topk_similarity",
    "union_edges",
    "window_edges",
]
