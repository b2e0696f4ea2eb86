"""A deep graph convolution over similar turns and over modalities: MMGCN."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphophone.errors import GraphophoneError
from graphophone.nn.backbone import Backbone, BackboneOutput, SpeakerEmbedding, present_only
from graphophone.nn.dialogue import DialogueGraph, EdgeTables

_NEARLY_ONE = 0.99999
"""Cosines are shrunk by this much: the arc cosine has no gradient at 1."""


def angular_adjacency(x: Tensor, graph: DialogueGraph) -> EdgeTables:
    r"""Similarity :math:`1 - \arccos(0.99999 \cos(x_i, x_j)) / \pi` of nodes that hear each other, each itself too.

    Args:
        x: ``[B, M, T, channels]``.
        graph: The nodes; those of one modality that hear each other are joined, and the modalities of a turn.

    Returns:
        Weights in [0, 1], in single precision at least, 0 where nothing is joined; what a node is to itself stands on
        the diagonal of ``within``.
    """
    # In half precision 0.99999 is 1, where the arc cosine has no gradient.
    with torch.autocast(x.device.type, enabled=False):
        unit = F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=3)
        turns = unit.transpose(1, 2)
        cosines = EdgeTables(unit @ unit.transpose(2, 3), turns @ turns.transpose(2, 3))
    within, across = (1 - torch.arccos(_NEARLY_ONE * cosine.clamp(-1, 1)) / math.pi for cosine in cosines)
    return EdgeTables(within.masked_fill(~graph.hears, 0), across.masked_fill(~graph.across, 0))


def normalized_adjacency(adjacency: EdgeTables) -> EdgeTables:
    r"""The weights :math:`D^{-1/2} A D^{-1/2}`, degrees counted on what a node hears."""
    degree = adjacency.into()
    r = degree.masked_fill(degree == 0, 1).rsqrt()
    turn = r.transpose(1, 2)
    return EdgeTables(
        adjacency.within * (r[..., :, None] * r[..., None, :]),
        adjacency.across * (turn[..., :, None] * turn[..., None, :]),
    )


class InitialResidualConv(nn.Module):
    r"""One layer of GCNII, as MMGCN (Hu et al., 2021) has it.

    .. math::
        h \leftarrow \mathrm{ReLU}(\theta [A h \Vert h_0] W + (1 - \theta)((1 - \alpha) A h + \alpha h_0))

    Chen et al., `"Simple and Deep Graph Convolutional Networks" <https://arxiv.org/abs/2007.02133>`_, 2020.

    Args:
        channels: Width of the states.
        theta: Share of the transform.
        alpha: Share of the first states.

    Shapes:
        A h and h0 ``[N, channels]`` -> the same.
    """

    def __init__(self, channels: int, *, theta: float, alpha: float = 0.1) -> None:
        super().__init__()
        self.theta = theta
        self.alpha = alpha
        self.lin = nn.Linear(2 * channels, channels, bias=False)
        nn.init.uniform_(self.lin.weight, -1 / math.sqrt(channels), 1 / math.sqrt(channels))

    def forward(self, heard: Tensor, first: Tensor) -> Tensor:
        """States after the layer, from what the nodes hear and from their first states."""
        kept = torch.lerp(heard, first, self.alpha)
        return torch.relu(torch.lerp(kept, self.lin(torch.cat([heard, first], dim=1)), self.theta))


class MMGCNStack(Backbone):
    r"""The graph part of MMGCN (Hu et al., 2021).

    A linear layer per modality; a vector for the speaker on one of them; the graph of `angular_adjacency`, normalised;
    dropout; a linear layer and ReLU; ``num_layers`` layers of GCNII with
    :math:`\theta_l = \ln(\lambda / l + 1)`, dropout before each and at the end. The result is the states that went
    into the graph (after dropout) and those that came out, side by side. There are no gates: the penalty is 0.

    Args:
        channels: Width of the given states.
        modalities: M.
        speakers: Vectors of speakers; 0: none are added.
        speaker_modality: Number of the modality they are added to, that of text; None: all.
        graph_channels: Width of the states that the graph is made from.
        hidden_channels: Width in the layers.
        num_layers: How many.
        dropout: Before every layer.
        lamda: :math:`\lambda`.
        alpha: Share of the first states in every layer.

    Shapes:
        x ``[B, M, T, channels]`` -> ``[B, M, T, graph_channels + hidden_channels]``.

    Raises:
        GraphophoneError: If there is no layer, or x has another number of modalities.
    """

    def __init__(
        self,
        channels: int,
        *,
        modalities: int = 3,
        speakers: int = 9,
        speaker_modality: int | None = 0,
        graph_channels: int = 200,
        hidden_channels: int = 100,
        num_layers: int = 64,
        dropout: float = 0.4,
        lamda: float = 0.5,
        alpha: float = 0.1,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise GraphophoneError(f"a stack of {num_layers} layers cannot be: give 1 or more")
        self.out_channels = graph_channels + hidden_channels
        self.dropout = dropout
        self.inputs = nn.ModuleList(nn.Linear(channels, graph_channels) for _ in range(modalities))
        self.speaker = SpeakerEmbedding(speakers, graph_channels, modality=speaker_modality) if speakers else None
        self.lin = nn.Linear(graph_channels, hidden_channels)
        self.layers = nn.ModuleList(
            InitialResidualConv(hidden_channels, theta=math.log(lamda / number + 1), alpha=alpha)
            for number in range(1, num_layers + 1)
        )

    def forward(self, x: Tensor, graph: DialogueGraph, *, weights: bool = False) -> BackboneOutput:
        """States before and after the graph; ``edges`` are the normalised similarities."""
        if x.size(1) != len(self.inputs):
            raise GraphophoneError(f"{x.size(1)} modalities came to layers for {len(self.inputs)}: give as many")
        x = present_only(x, graph)
        x = torch.stack([lin(part) for lin, part in zip(self.inputs, x.unbind(1), strict=True)], dim=1)
        x = present_only(x, graph)
        if self.speaker is not None:
            x = self.speaker(x, graph)
        adjacency = normalized_adjacency(angular_adjacency(x, graph))
        x = F.dropout(x, self.dropout, self.training)
        first = h = torch.relu(self.lin(graph.gathered(x)))
        for layer in self.layers:
            states = graph.spread(F.dropout(h, self.dropout, self.training))
            h = layer(graph.gathered(adjacency.aggregate(states)), first)
        h = graph.spread(F.dropout(h, self.dropout, self.training))
        shown = None
        if weights:
            shown = EdgeTables(adjacency.within.detach() * graph.within, adjacency.across.detach())
        return BackboneOutput(torch.cat([x, h], dim=3), x.new_zeros(()), shown)
