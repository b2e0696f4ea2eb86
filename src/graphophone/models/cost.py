"""What a network costs: numbers that are learned, and multiplications."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from graphophone.models.base import ModelError
from graphophone.models.hemogat import HemoGAT
from graphophone.nn.graph_attention import GraphAttention
from graphophone.nn.graph_attention_v2 import GraphAttentionV2
from graphophone.nn.graph_stack import GraphStack


@dataclass(frozen=True)
class Cost:
    """Parameters and multiply-accumulate operations (MACs; a FLOP count is twice that) of a HemoGAT, without encoders.

    Attributes:
        parameters: Numbers that are learned, by part.
        dense: MACs of the dense layers for one utterance, by part.
        per_node: MACs of attention scores for one utterance.
        per_edge: MACs of what one edge carries, through all layers. Edges of nodes to themselves count.
        per_pair: MACs for each pair of utterances, where cross-attention goes over the batch.
    """

    parameters: Mapping[str, int]
    dense: Mapping[str, int]
    per_node: int = 0
    per_edge: int = 0
    per_pair: int = 0
    total_parameters: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total_parameters", sum(self.parameters.values()))

    def utterance(self, neighbours: int) -> int:
        """MACs for one new utterance among known ones, at most, without the search for its neighbours.

        Args:
            neighbours: How many of them it has an edge from. What their states send is ready.
        """
        return sum(self.dense.values()) + (1 + neighbours) * (self.per_node + self.per_edge)

    def graph(self, nodes: int, edges: int) -> int:
        """MACs for all utterances of a graph, at once.

        Args:
            nodes: N.
            edges: E, those of nodes to themselves among them; of a typed graph those of both modalities.
        """
        return nodes * (sum(self.dense.values()) + self.per_node) + edges * self.per_edge + nodes**2 * self.per_pair

    def as_published(self, encoders: int, nodes: int) -> int:
        """The sum in Table 5 of the paper: MACs of the encoders for one utterance, of dense layers for a whole graph.

        Two things in one number: what grows with the test set, and what does not. `graph` and `utterance` keep them
        apart.

        Args:
            encoders: MACs of the encoders for one utterance.
            nodes: Utterances of the test set.
        """
        return encoders + nodes * sum(self.dense.values())


def hemogat_cost(model: HemoGAT, *, tokens: Mapping[str, int] | None = None, idle: bool = False) -> Cost:
    """What a HemoGAT costs; see `Cost`.

    Args:
        model: The network; those of one modality that it may hold are not counted.
        tokens: Tokens of an utterance by modality, where cross-attention goes over them.
        idle: Count queries and keys of pooled cross-attention, which the released code computes and which do not matter
            to the result.

    Raises:
        ModelError: If numbers of tokens are needed and not given.
    """
    groups: dict[str, list[nn.Module]] = {
        "projections": [model.projections, model.sequence_projections],
        "graph": [] if model.graph is None else [model.graph],
        "cross": [model.cross],
        "classifier": [model.classifier],
    }
    parameters = {
        part: sum(p.numel() for module in modules for p in module.parameters()) for part, modules in groups.items()
    }
    dense = {
        "projections": _linear(model.projections),
        "graph": 0 if model.graph is None else _linear(model.graph),
        "cross": _cross(model, tokens, idle),
        "classifier": _linear(model.classifier),
    }
    per_node = per_edge = 0
    stacks = [] if model.graph is None else [m for m in model.graph.modules() if isinstance(m, GraphStack)]
    for conv in (conv for stack in stacks for conv in stack.convs):
        if isinstance(conv, (GraphAttention, GraphAttentionV2)):
            wide = conv.heads * conv.out_channels
            per_node += 2 * wide if isinstance(conv, GraphAttention) else 0
            per_edge += wide if isinstance(conv, GraphAttention) else 2 * wide
        else:
            per_edge += next(m for m in conv.modules() if isinstance(m, nn.Linear)).out_features
    per_pair = 2 * model.hidden_channels * len(model.streams) if model.cmt_axis == "batch" else 0
    return Cost(parameters, dense, per_node, per_edge, per_pair)


def _linear(part: nn.Module) -> int:
    """MACs of the linear layers of a part, each used once."""
    return sum(m.in_features * m.out_features for m in part.modules() if isinstance(m, nn.Linear))


def _cross(model: HemoGAT, tokens: Mapping[str, int] | None, idle: bool) -> int:
    """MACs of the cross-modal transformer for one utterance, without products between utterances."""
    wide, count = model.hidden_channels**2, len(model.streams)
    if model.cmt_axis == "none":
        return 0
    if model.cmt_axis == "pooled":  # values, their projection, and the linear layer
        return count * wide * (5 if idle else 3)
    if model.cmt_axis == "batch":
        return count * wide * 5
    if tokens is None or any(name not in tokens for name in model.streams):
        raise ModelError(f"cross-attention goes over tokens: say how many an utterance has of {model.streams}")
    total = 0
    for name in model.streams:
        asking = tokens[name]
        keys = tokens[next((other for other in model.streams if other != name), name)]
        total += asking * _linear(model.sequence_projections[name])
        total += wide * (3 * asking + 2 * keys) + 2 * model.hidden_channels * asking * keys
    return total


def count_macs(call: Callable[[], Any]) -> int:
    """MACs of matrix products, convolutions and attention in a call, such as an encoder on one utterance.

    Args:
        call: What is measured; run once, without gradients. Products with sparse matrices are not counted rightly.
    """
    counter = FlopCounterMode(display=False)
    # The fused kernel for attention on a CPU is not counted; the plain one is made of products.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        call()
    return counter.get_total_flops() // 2
