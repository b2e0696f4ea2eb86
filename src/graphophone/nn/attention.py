"""Attention over the edges of a graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.utils import add_remaining_self_loops, scatter, softmax


class GraphAttention(nn.Module):
    r"""Graph attention with several heads (Veličković et al., "Graph attention networks", 2018).

    .. math::
        \alpha_{ij} = \mathrm{softmax}_j\, \mathrm{LeakyReLU}(a_t^T W h_i + a_s^T W h_j), \qquad
        h'_i = \textstyle \sum_j w_{ij}\, \alpha_{ij} W h_j + b

    over the in-neighbours j of i and i itself. The heads are concatenated. The weight :math:`w_{ij}` of an edge (1 if
    none is given) scales what it carries and leaves the attention as it is, so that its gradient is the edge's share.

    Args:
        in_channels: Width of the node states.
        out_channels: Width of the result; a multiple of ``heads``.
        heads: Number of heads.
        negative_slope: Of the leaky ReLU.

    Shapes:
        x ``[N, in_channels]``, edge_index ``[2, E]``, edge_weight ``[E]`` -> ``[N, out_channels]``.
    """

    def __init__(self, in_channels: int, out_channels: int, heads: int = 4, negative_slope: float = 0.2) -> None:
        super().__init__()
        if out_channels % heads:
            raise ValueError(f"out_channels={out_channels} is no multiple of heads={heads}")
        self.heads = heads
        self.linear = nn.Linear(in_channels, out_channels, bias=False)
        self.source = nn.Parameter(torch.empty(heads, out_channels // heads))
        self.target = nn.Parameter(torch.empty(heads, out_channels // heads))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.activation = nn.LeakyReLU(negative_slope)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot's initialisation, and no bias."""
        for weight in (self.linear.weight, self.source, self.target):
            nn.init.xavier_uniform_(weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Attend to the in-neighbours, and to oneself."""
        edge_index, edge_weight = add_remaining_self_loops(edge_index, edge_weight, fill_value=1.0, num_nodes=x.size(0))
        source, target = edge_index
        states = self.linear(x).view(x.size(0), self.heads, -1)
        scores = (states * self.source).sum(-1)[source] + (states * self.target).sum(-1)[target]
        attention = softmax(self.activation(scores), target, num_nodes=x.size(0))
        if edge_weight is not None:
            attention = attention * edge_weight.unsqueeze(-1)
        carried = attention.unsqueeze(-1) * states[source]
        return scatter(carried, target, 0, x.size(0), reduce="sum").flatten(1) + self.bias
