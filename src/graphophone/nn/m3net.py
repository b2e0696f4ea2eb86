"""Hypergraph and frequencies side by side: the graph part of M3NET."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphophone.errors import GraphophoneError
from graphophone.nn.backbone import (
    Backbone,
    BackboneOutput,
    SpeakerEmbedding,
    joined_penalty,
    mean_tables,
    present_only,
)
from graphophone.nn.dialogue import DialogueGraph
from graphophone.nn.dialogue_hypergraph import DialogueHypergraphConv, Weighting, shared_weights
from graphophone.nn.edge_gate import HardConcreteGate
from graphophone.nn.gated_convolution import Degree, MultiFrequencyConv


class M3NetStack(Backbone):
    r"""The graph part of M3NET (Chen et al., 2023), with the gates that RIGSL (Xiong et al., 2025) adds.

    A vector for the speaker is added to the nodes of one modality, and all nodes pass a linear layer; from there
    ``hyper_layers`` hypergraph convolutions and ``num_layers`` multi-frequency convolutions run beside each other, and
    their results are summed (RIGSL) or put side by side (M3NET).

    Args:
        channels: Width of the states.
        modalities: M, for hyperedge weights.
        speakers: Vectors of speakers; 0: none are added.
        speaker_modality: Number of the modality they are added to, that of text; None: all.
        num_layers: Multi-frequency layers.
        hyper_layers: Hypergraph layers.
        combine: ``sum`` or ``concat``.
        gated: Whether edges have gates.
        transform: Whether multi-frequency layers transform the states; M3NET's own do not.
        degree: See `graphophone.nn.gated_convolution.edge_norms`.
        hyperedge_weights: ``none``; ``denominator``, as published; ``standard`` (see `DialogueHypergraphConv.spread`).
        penalties: The penalty is the ``sum`` of those of the layers, or that of the ``last``, as published.
        dropout: Before every layer of both kinds; the published ones have none.
        gate: Options of `HardConcreteGate`.

    Shapes:
        x ``[B, M, T, channels]`` -> ``[B, M, T, channels]``, with ``concat`` twice as wide.

    Raises:
        GraphophoneError: If a choice is unknown, or there is no layer of a kind.
    """

    def __init__(
        self,
        channels: int,
        *,
        modalities: int = 3,
        speakers: int = 9,
        speaker_modality: int | None = 0,
        num_layers: int = 4,
        hyper_layers: int = 3,
        combine: Literal["sum", "concat"] = "sum",
        gated: bool = True,
        transform: bool = True,
        degree: Degree = "in",
        hyperedge_weights: Weighting = "none",
        penalties: Literal["sum", "last"] = "sum",
        dropout: float = 0.0,
        **gate: Any,
    ) -> None:
        super().__init__()
        if combine not in ("sum", "concat"):
            raise GraphophoneError(f"combine {combine!r} is none of sum, concat")
        if penalties not in ("sum", "last"):
            raise GraphophoneError(f"penalties {penalties!r} is none of sum, last")
        if num_layers < 1 or hyper_layers < 1:
            raise GraphophoneError(
                f"{num_layers} multi-frequency and {hyper_layers} hypergraph layers: 1 or more of each are needed"
            )
        self.out_channels = channels * 2 if combine == "concat" else channels
        self.combine = combine
        self.penalties: Literal["sum", "last"] = penalties
        self.dropout = dropout
        self.speaker = SpeakerEmbedding(speakers, channels, modality=speaker_modality) if speakers else None
        self.lin = nn.Linear(channels, channels)
        self.hyperedge_weights = shared_weights(modalities, hyperedge_weights)
        self.hypergraph = nn.ModuleList(DialogueHypergraphConv(channels) for _ in range(hyper_layers))
        self.frequencies = nn.ModuleList(
            MultiFrequencyConv(
                channels,
                gate=HardConcreteGate(channels, **gate) if gated else None,
                degree=degree,
                transform=transform,
                dropout=dropout,
            )
            for _ in range(num_layers)
        )

    def forward(self, x: Tensor, graph: DialogueGraph, *, weights: bool = False) -> BackboneOutput:
        """Results of both stacks; ``edges`` are those of the multi-frequency layers, with their signs."""
        x = present_only(x, graph)
        if self.speaker is not None:
            x = self.speaker(x, graph)
        x = graph.spread(self.lin(graph.gathered(x)))
        groups = x
        for layer in self.hypergraph:
            groups = layer(F.dropout(groups, self.dropout, self.training), graph, self.hyperedge_weights)
        penalties, tables = [], []
        for layer in self.frequencies:
            found = layer(x, graph, weights=weights)
            x = found.x
            penalties.append(found.penalty)
            tables.append(found.edges)
        return BackboneOutput(
            groups + x if self.combine == "sum" else torch.cat([groups, x], dim=3),
            joined_penalty(penalties, self.penalties),
            mean_tables(tables) if weights else None,
        )
