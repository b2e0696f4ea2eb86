"""Graph attention whose scores are not the sum of one of the source and one of the target."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch_geometric.utils import softmax

from graphophone.nn.graph_attention import Neighbourhoods, _Gathered, prepare

EDGES = 4096  # that are scored at once


class GraphAttentionV2(nn.Module):
    r"""Dynamic graph attention (Brody et al., `"How attentive are GATs?" <https://arxiv.org/abs/2105.14491>`_, 2022).

    .. math::
        \alpha_{ij} = \mathrm{softmax}_j\, a^T \mathrm{LeakyReLU}(W_l x_j + W_r x_i), \qquad
        x'_i = \textstyle \sum_j \alpha_{ij} W_l x_j + b

    over the edges that come in; self loops are among them already, none is added. Parameters are named and shaped as
    those of :class:`torch_geometric.nn.GATv2Conv`; results and gradients are the same up to rounding. Edges are scored
    a few thousand at a time, and again for the gradient, so that memory is that of the nodes.

    Args:
        in_channels: Width of the node states.
        out_channels: Width of each head.
        heads: Number of heads.
        concat: Put heads side by side; False: take their mean.
        negative_slope: Of the leaky ReLU.

    Shapes:
        As `graphophone.nn.graph_attention.GraphAttention`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        heads: int = 4,
        concat: bool = True,
        negative_slope: float = 0.2,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.out_channels = out_channels
        self.concat = concat
        self.negative_slope = negative_slope
        self.lin_l = nn.Linear(in_channels, heads * out_channels)
        self.lin_r = nn.Linear(in_channels, heads * out_channels)
        self.att = nn.Parameter(torch.empty(1, heads, out_channels))
        self.bias = nn.Parameter(torch.zeros(heads * out_channels if concat else out_channels))
        for layer in (self.lin_l, self.lin_r):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        bound = (6 / (heads + out_channels)) ** 0.5
        nn.init.uniform_(self.att, -bound, bound)

    def forward(
        self,
        x: Tensor | tuple[Tensor, Tensor],
        edges: Tensor | Neighbourhoods,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """Attend to the sources of every node's edges.

        Args:
            x: Node states, or those of sources and of targets.
            edges: Sources and targets ``[2, E]``, or what `graphophone.nn.graph_attention.prepare` made of them.
            edge_weight: Factors ``[E]`` on what edges carry, which leave the attention as it is.
        """
        sources, targets = x if isinstance(x, tuple) else (x, x)
        if isinstance(edges, Tensor):
            edges = prepare(edges, (len(sources), len(targets)))
        return self._attend(self.lin_l(sources), self.lin_r(targets), edges, edge_weight)

    def show(self, x: Tensor) -> Tensor:
        """What nodes ``[S, in_channels]`` send along any of their edges ``[S, heads * out_channels]``, for `hear`."""
        return self.lin_l(x)

    def hear(self, x: Tensor, known: Tensor, edges: Neighbourhoods, edge_weight: Tensor | None = None) -> Tensor:
        """As `graphophone.nn.graph_attention.GraphAttention.hear`."""
        return self._attend(torch.cat([known, self.lin_l(x)]), self.lin_r(x), edges, edge_weight)

    def _attend(self, sent: Tensor, received: Tensor, edges: Neighbourhoods, edge_weight: Tensor | None) -> Tensor:
        """New states from what sources send and targets ask with."""
        source, target = edges.places.pattern.column, edges.places.pattern.row
        scores = _Scores.apply(sent, received, self.att[0], source, target, self.negative_slope)
        carried = softmax(scores, target, num_nodes=len(received)).t()
        if edge_weight is not None:
            carried = carried * edge_weight.index_select(0, edges.order)
        return _Gathered.apply(carried.contiguous(), sent, edges.places, self.concat) + self.bias

    def extra_repr(self) -> str:
        """Sizes and options, for printing."""
        return f"{self.lin_l.in_features}, {self.out_channels}, heads={self.heads}, concat={self.concat}"


class _Scores(torch.autograd.Function):
    """``a^T LeakyReLU(sent[source] + received[target])``, by blocks of edges, which are made again for the gradient."""

    @staticmethod
    def forward(
        ctx: Any, sent: Tensor, received: Tensor, weight: Tensor, source: Tensor, target: Tensor, slope: float
    ) -> Tensor:
        """Scores ``[E, heads]`` of states ``[S, heads * C]`` and ``[T, heads * C]``; ``weight`` is ``[heads, C]``."""
        ctx.save_for_backward(sent, received, weight, source, target)
        ctx.slope = slope
        scores = sent.new_empty(len(source), len(weight))
        for begin in range(0, len(source), EDGES):
            part = slice(begin, begin + EDGES)
            joined = F.leaky_relu(sent[source[part]] + received[target[part]], slope)
            scores[part] = torch.einsum("ehc,hc->eh", joined.unflatten(1, weight.shape), weight)
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        sent, received, weight, source, target = ctx.saved_tensors
        to_sent, to_received, to_weight = (torch.zeros_like(part) for part in (sent, received, weight))
        for begin in range(0, len(source), EDGES):
            part = slice(begin, begin + EDGES)
            joined = sent[source[part]] + received[target[part]]
            to_weight += torch.einsum(
                "ehc,eh->hc", F.leaky_relu(joined, ctx.slope).unflatten(1, weight.shape), gradient[part]
            )
            slopes = torch.where(joined > 0, 1.0, ctx.slope).to(joined)
            to_joined = slopes * (weight * gradient[part, :, None]).flatten(1)
            to_sent.index_add_(0, source[part], to_joined)
            to_received.index_add_(0, target[part], to_joined)
        return to_sent, to_received, to_weight, None, None, None
