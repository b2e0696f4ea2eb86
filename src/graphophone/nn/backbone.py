"""What graph networks of dialogues have in common: nodes in, nodes and a penalty out."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from graphophone.errors import GraphophoneError
from graphophone.nn.dialogue import DialogueGraph, EdgeTables


class BackboneOutput(NamedTuple):
    """What a graph layer, or a stack of them, makes of the nodes of some dialogues.

    Attributes:
        x: States of the nodes ``[B, M, T, channels]``, zeros at absent ones.
        penalty: How many edges its gates are expected to leave open, as a share of all edges, a scalar; 0 without
            gates. A stack says how it puts those of its layers together.
        edges: What every edge multiplies its source with, of a stack the mean over its layers, without gradient; only
            where asked for.
    """

    x: Tensor
    penalty: Tensor
    edges: EdgeTables | None = None


class Backbone(nn.Module):
    """A graph network on dialogues: a turn in a modality is a node (see :mod:`graphophone.nn.dialogue`).

    Absent nodes give nothing, whatever stands in their place (NaN included), and are zeros in the result.

    Attributes:
        out_channels: Width of the result.
    """

    out_channels: int

    def forward(self, x: Tensor, graph: DialogueGraph, *, weights: bool = False) -> BackboneOutput:
        """States of all nodes.

        Args:
            x: ``[B, M, T, channels]``.
            graph: Which nodes and edges there are.
            weights: Whether to give ``edges``.
        """
        raise NotImplementedError


class SpeakerEmbedding(nn.Module):
    """A learned vector for every speaker of a dialogue, added to the nodes of one modality or of all.

    Speakers are numbered by their first turns. All from ``speakers - 1`` on share the last vector, so that a dialogue
    may have more speakers than any before it.

    Args:
        speakers: How many vectors there are.
        channels: Their width.
        modality: Number of the modality whose nodes they are added to; None: those of all.

    Shapes:
        x ``[B, M, T, channels]`` -> the same.

    Raises:
        GraphophoneError: If there is to be no vector at all.
    """

    def __init__(self, speakers: int, channels: int, *, modality: int | None = 0) -> None:
        super().__init__()
        if speakers < 1:
            raise GraphophoneError(f"vectors for {speakers} speakers are none: give 1 or more")
        self.modality = modality
        self.vectors = nn.Embedding(speakers, channels)

    def forward(self, x: Tensor, graph: DialogueGraph) -> Tensor:
        """The nodes with the vectors of who speaks; absent ones are not touched."""
        added = self.vectors(graph.speaker.clamp(max=self.vectors.num_embeddings - 1))[:, None]
        there = graph.present[..., None]
        if self.modality is not None:
            chosen = torch.arange(x.size(1), device=x.device) == self.modality
            there = there & chosen[:, None, None]
        return x + torch.where(there, added, torch.zeros((), dtype=added.dtype, device=added.device))


def present_only(x: Tensor, graph: DialogueGraph) -> Tensor:
    """States ``[B, M, T, d]`` with zeros at absent nodes, whatever stood there."""
    return x.masked_fill(~graph.present[..., None], 0)


def joined_penalty(penalties: list[Tensor], how: Literal["sum", "last"]) -> Tensor:
    """The penalties of a stack's layers as one: their sum, or the last layer's alone."""
    return torch.stack(penalties).sum() if how == "sum" else penalties[-1]


def mean_tables(tables: list[EdgeTables]) -> EdgeTables:
    """Edge by edge the mean of some tables."""
    return EdgeTables(*(torch.stack(parts).mean(dim=0) for parts in zip(*tables, strict=True)))
