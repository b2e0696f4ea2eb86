"""The graph-LSTM convolution of GLNN: neighbours are read as a time series."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from graphophone.errors import GraphophoneError
from graphophone.nn.lstm import NeighbourOrder, NeighbourPlan, graph_lstm
from graphophone.nn.sparse import Edges, propagate


class NeighbourLSTM(nn.Module):
    """One-layer LSTM over the in-neighbours of every node; parameters named and shaped as `torch.nn.LSTM`'s.

    A state dict of ``torch.nn.LSTM(in_channels, hidden_channels)`` loads into it and back.

    Args:
        in_channels: Width of what it reads.
        hidden_channels: D, width of its state.

    Shapes:
        x ``[N, in_channels]``, plan of N nodes and E edges, edge_weight ``[E]`` -> ``[N, hidden_channels]``.
    """

    def __init__(self, in_channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels
        self.weight_ih_l0 = nn.Parameter(torch.empty(4 * hidden_channels, in_channels))
        self.weight_hh_l0 = nn.Parameter(torch.empty(4 * hidden_channels, hidden_channels))
        self.bias_ih_l0 = nn.Parameter(torch.empty(4 * hidden_channels))
        self.bias_hh_l0 = nn.Parameter(torch.empty(4 * hidden_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in +-1/sqrt(D), as `torch.nn.LSTM`."""
        bound = 1 / math.sqrt(self.hidden_channels)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Tensor, plan: NeighbourPlan, edge_weight: Tensor | None = None) -> Tensor:
        """Last hidden state per node; zero for nodes without in-edges."""
        bias = self.bias_ih_l0 + self.bias_hh_l0
        return graph_lstm(x, plan, self.weight_ih_l0, self.weight_hh_l0, bias, edge_weight)

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return f"{self.in_channels}, {self.hidden_channels}"


class GraphLSTMConv(nn.Module):
    r"""Graph convolution whose aggregator is an LSTM over the neighbours in order of time.

    From Li, Wang, Yang, Im, "Speech emotion recognition based on Graph-LSTM neural network" (2023), eqs. 3-5:

    .. math::
        x'_i &= W_\alpha x_i + b_\alpha \\
        a_i &= \mathrm{LSTM}(x'_{j_1}, \dots, x'_{j_m}), \quad j_1 < \dots < j_m \text{ the sources of } i \\
        h_i &= W_\beta [x'_i ; a_i] + b_\beta

    where :math:`a_i` is the hidden state after the last neighbour, and zero for a node without in-edges.
    Equation 4 lets the LSTM read :math:`x_j`; the complexity that the paper states implies the projected
    :math:`x'_j`, which is what is read here. Normalisation and activation are left to the network.

    The layer is not equivariant to permutations of the nodes, by design: their order is time. It does not
    depend on the order of the columns of ``edge_index``, nor on the other graphs of a batch.

    Args:
        in_channels: Width of the node features.
        out_channels: Width of the output.
        hidden_channels: Width of the projection and of the LSTM; default: ``out_channels``.
        residual: Add :math:`x_i` to the output (only where both widths agree).
        order: ``"time"``; for ablations ``"similarity"`` (most similar neighbour last, by cosine of the
            layer's input) or ``"random"`` (drawn anew at every training pass; fixed in evaluation).

    Shapes:
        x ``[N, in_channels]``, edge_index ``[2, E]`` (row 0 source, row 1 target), edge_weight ``[E]`` ->
        ``[N, out_channels]``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden_channels: int | None = None,
        *,
        residual: bool = False,
        order: NeighbourOrder = "time",
    ) -> None:
        super().__init__()
        hidden_channels = out_channels if hidden_channels is None else hidden_channels
        if residual and in_channels != out_channels:
            raise GraphophoneError(
                f"residual=True needs equal widths, not {in_channels} and {out_channels}; set residual=False"
            )
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels
        self.out_channels = out_channels
        self.residual = residual
        self.order = order
        self.project = nn.Linear(in_channels, hidden_channels)
        self.lstm = NeighbourLSTM(hidden_channels, hidden_channels)
        self.update = nn.Linear(2 * hidden_channels, out_channels)

    def reset_parameters(self) -> None:
        """Initialise all weights anew."""
        self.project.reset_parameters()
        self.lstm.reset_parameters()
        self.update.reset_parameters()

    def plan(self, edge_index: Tensor, x: Tensor, *, share: bool = True) -> NeighbourPlan:
        """The reading order of a batch, for reuse by layers that share its edges.

        Args:
            edge_index: Sources and targets ``[2, E]``.
            x: Node features ``[N, dims]``; read for ``order="similarity"`` only.
            share: False where edge weights are to be given.
        """
        return NeighbourPlan.from_edge_index(
            edge_index, x.size(0), order=self.order, x=x, seeded=not self.training, share=share
        )

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_weight: Tensor | None = None,
        plan: NeighbourPlan | None = None,
    ) -> Tensor:
        """Convolve.

        Args:
            x: Node features ``[N, in_channels]``.
            edge_index: Sources and targets ``[2, E]``; sorted by (target, source) it is used as it is,
                otherwise sorted here.
            edge_weight: Factor ``[E]`` on the projected neighbour that an edge brings to the LSTM; its
                gradient attributes an output to edges.
            plan: What `plan` returned for these edges, to spare making it again; with ``edge_weight`` it must
                have been made with ``share=False``.

        Returns:
            ``[N, out_channels]``.
        """
        if plan is None:
            # Looking for states to share costs about what it saves in one pass without gradients.
            plan = self.plan(edge_index, x, share=edge_weight is None and torch.is_grad_enabled())
        projected = self.project(x)
        neighbours = self.lstm(projected, plan, edge_weight)
        out = self.update(torch.cat([projected, neighbours], dim=-1))
        return out + x if self.residual else out

    def extra_repr(self) -> str:
        """Options, for printing."""
        return f"{self.in_channels}, {self.out_channels}, residual={self.residual}, order={self.order!r}"


class GINConv(nn.Module):
    r"""Graph isomorphism convolution (Xu et al., "How powerful are graph neural networks?", 2019).

    .. math:: h'_i = \mathrm{MLP}((1 + \epsilon) h_i + \textstyle \sum_j w_{ij} h_j)

    with a learned :math:`\epsilon` and a perceptron of two layers, each with batch normalisation and ReLU.

    Args:
        in_channels: Width of the node states.
        out_channels: Width of the result and of the hidden layer.

    Shapes:
        x ``[N, in_channels]``, edge_index ``[2, E]``, edge_weight ``[E]`` -> ``[N, out_channels]``.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.epsilon = nn.Parameter(torch.zeros(()))
        self.mlp = nn.Sequential(
            nn.Linear(in_channels, out_channels),
            nn.BatchNorm1d(out_channels),
            nn.ReLU(),
            nn.Linear(out_channels, out_channels),
            nn.BatchNorm1d(out_channels),
            nn.ReLU(),
        )

    def aggregate(self, x: Tensor, edge_index: Edges, edge_weight: Tensor | None = None) -> Tensor:
        """What the perceptron sees ``[N, in_channels]``."""
        return (1 + self.epsilon) * x + propagate(x, edge_index, edge_weight)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Convolve."""
        return self.mlp(self.aggregate(x, edge_index, edge_weight))
