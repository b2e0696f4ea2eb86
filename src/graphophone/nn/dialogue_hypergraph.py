"""Hypergraph convolution of dialogues: a hyperedge for every modality, and one for every turn."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphophone.errors import GraphophoneError
from graphophone.nn.backbone import present_only
from graphophone.nn.dialogue import DialogueGraph

Weighting = Literal["none", "denominator", "standard"]

_ONE_BEFORE_SOFTPLUS = math.log(math.e - 1)


class HyperedgeWeights(nn.Module):
    r"""Learned positive weights of a dialogue's hyperedges and nodes, by kind; all are 1 at first.

    The published code has one for every place in a batch, so that what a turn weighs depends on the dialogues before
    it. Here there is one for every modality's hyperedge, one for the hyperedges of turns, and one for the nodes of a
    modality.

    Args:
        modalities: M.
        weighting: See `DialogueHypergraphConv`.
    """

    def __init__(self, modalities: int, weighting: Literal["denominator", "standard"]) -> None:
        super().__init__()
        self.modality = nn.Parameter(torch.full((modalities,), _ONE_BEFORE_SOFTPLUS))
        self.turn = nn.Parameter(torch.full((), _ONE_BEFORE_SOFTPLUS))
        # In the standard form nodes have no weights.
        self.node = (
            nn.Parameter(torch.full((modalities,), _ONE_BEFORE_SOFTPLUS)) if weighting == "denominator" else None
        )
        self.weighting = weighting


class DialogueHypergraphConv(nn.Module):
    r"""Hypergraph convolution of M3NET (Chen et al., 2023), as RIGSL (Xiong et al., 2025) has it.

    .. math::
        Y = \mathrm{LeakyReLU}_{0.01}(D^{-1} H B^{-1} H^T X + b)

    Every node lies in two hyperedges, that of its modality (all its turns) and that of its turn (all its modalities),
    so that without weights Y is the activated middle of two means: no message is passed. Where the graph has a window,
    the hyperedge of a modality is a window around each node (`DialogueGraph.hears`).

    Args:
        channels: Width of the states.

    Shapes:
        x ``[B, M, T, channels]``, zeros at absent nodes -> the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def spread(self, x: Tensor, graph: DialogueGraph, weights: HyperedgeWeights | None = None) -> Tensor:
        r"""The product :math:`D^{-1} H B^{-1} H^T X`.

        Args:
            x: ``[B, M, T, channels]``.
            graph: The nodes.
            weights: Of hyperedges w and nodes :math:`\omega`. ``denominator``, as published:
                :math:`B_{ee} = \sum_i H_{ie} \omega_i` and :math:`D_{ii} = \sum_e H_{ie} w_e`; ``standard``:
                :math:`D^{-1} H W B^{-1} H^T X` with :math:`B_{ee} = \sum_i H_{ie}`. None: all are 1.
        """
        over_time, in_turn = self._halves(x, graph, weights)
        return present_only(over_time + in_turn, graph)

    def forward(self, x: Tensor, graph: DialogueGraph, weights: HyperedgeWeights | None = None) -> Tensor:
        """States of all nodes, zeros at absent ones."""
        over_time, in_turn = self._halves(x, graph, weights)
        return present_only(F.leaky_relu((over_time + self.bias) + in_turn), graph)

    @staticmethod
    def _halves(x: Tensor, graph: DialogueGraph, weights: HyperedgeWeights | None) -> tuple[Tensor, Tensor]:
        """What the hyperedge of its modality and that of its turn bring to a node, in shapes that broadcast.

        All that is divided and weighed is as small as can be: often one state of a modality and one of a turn.
        """
        node = graph.present.to(x.dtype)
        if graph.past is None and graph.future is None:
            count = node.sum(dim=2, keepdim=True)
            over_time = x.sum(dim=2, keepdim=True)
        else:
            hears = graph.hears.to(x.dtype)
            count = hears.sum(dim=3)
            over_time = hears @ x
        in_turn = x.sum(dim=1, keepdim=True)
        if weights is None:
            return over_time / (2 * _divisor(count))[..., None], in_turn / (
                2 * _divisor(node.sum(dim=1, keepdim=True))
            )[..., None]
        if weights.node is not None:
            omega = F.softplus(weights.node)[:, None]
            count, node = count * omega, node * omega
        over_time = over_time / _divisor(count)[..., None]
        in_turn = in_turn / _divisor(node.sum(dim=1, keepdim=True))[..., None]
        modality, turn = F.softplus(weights.modality)[:, None, None], F.softplus(weights.turn)
        both = modality + turn
        if weights.weighting == "standard":
            over_time, in_turn = over_time * modality, in_turn * turn
        return over_time / both, in_turn / both


def shared_weights(modalities: int, weighting: Weighting) -> HyperedgeWeights | None:
    """Weights for a stack of layers to share, or none.

    Raises:
        GraphophoneError: If there is no such weighting.
    """
    if weighting == "none":
        return None
    if weighting not in ("denominator", "standard"):
        raise GraphophoneError(f"hyperedge weights {weighting!r} are none of none, denominator, standard")
    return HyperedgeWeights(modalities, weighting)


def _divisor(count: Tensor) -> Tensor:
    """A sum of weights to divide by, 1 where there is nothing to sum."""
    return count.masked_fill(count == 0, 1)
