r"""Convolutions over signed edges: a negative one pushes two nodes apart."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv
from torch_geometric.utils import add_remaining_self_loops

from graphophone.errors import GraphophoneError
from graphophone.nn.convolution import GINConv

Negative = Literal["subtract", "drop", "separate"]


def signed_norm(
    edge_index: Tensor,
    edge_weight: Tensor | None = None,
    num_nodes: int | None = None,
    *,
    self_loops: bool = True,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    r"""Symmetric normalisation of a graph whose edges may be negative.

    .. math:: P = \bar D^{-1/2} (A + I) \bar D^{-1/2}, \quad \bar D_{ii} = \sum_j |A_{ij} + I_{ij}|

    The degree counts absolute weights: signed ones may add up to zero or less. For an undirected graph the spectrum
    of P lies in [-1, 1]; without negative edges P is the operator of the ordinary GCN
    (:func:`torch_geometric.nn.conv.gcn_conv.gcn_norm`).

    Args:
        edge_index: Sources and targets ``[2, E]``.
        edge_weight: Weights ``[E]``; None: all 1.
        num_nodes: N; None: as many as the edges name.
        self_loops: Add an edge of weight 1 from each node that has none to itself.
        dtype: Of the result where there are no weights.

    Returns:
        The edges, with loops ``[2, E']``, and their normalised weights ``[E']``.
    """
    if num_nodes is None:
        num_nodes = int(edge_index.max()) + 1 if edge_index.numel() else 0
    if edge_weight is None:
        edge_weight = torch.ones(edge_index.shape[1], dtype=dtype, device=edge_index.device)
    if self_loops:
        edge_index, edge_weight = add_remaining_self_loops(edge_index, edge_weight, 1.0, num_nodes)
        assert edge_weight is not None  # noqa: S101 - it was given, so it comes back
    source, target = edge_index[0], edge_index[1]
    degree = edge_weight.new_zeros(num_nodes).index_add(0, target, edge_weight.abs())
    scale = degree.rsqrt().masked_fill(degree == 0, 0.0)
    return edge_index, scale[source] * edge_weight * scale[target]


class SignedGCNConv(nn.Module):
    r"""Graph convolution over signed edges, normalised by absolute degrees.

    .. math:: H' = P H W + b

    with P of `signed_norm`. It is :class:`torch_geometric.nn.GCNConv` (Kipf and Welling 2017) with another
    normalisation: Shirian et al. (IEEE JSTSP, 2022) use negative edges without saying how they are normalised, and
    signed degrees can be zero.

    Args:
        in_channels: Width of the node states.
        out_channels: Width of the result.
        negative: What becomes of negative edges: ``"subtract"`` what they bring, ``"drop"`` them, or bring it through
            a ``"separate"`` weight matrix.
        normalize: False: edges are given as `signed_norm` returns them, for layers that share a graph.
        bias: Whether b is learned.

    Shapes:
        x ``[N, in_channels]``, edge_index ``[2, E]`` (row 0 source, row 1 target), edge_weight ``[E]`` ->
        ``[N, out_channels]``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        negative: Negative = "subtract",
        normalize: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if negative not in ("subtract", "drop", "separate"):
            raise GraphophoneError(f'negative is {negative!r}; give "subtract", "drop" or "separate"')
        if negative == "drop" and not normalize:
            raise GraphophoneError('negative="drop" changes degrees: use normalize=True, or drop edges beforehand')
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.negative = negative
        self.normalize = normalize
        self.conv = GCNConv(in_channels, out_channels, normalize=False, bias=bias)
        separate = negative == "separate"
        self.apart = GCNConv(in_channels, out_channels, normalize=False, bias=False) if separate else None

    def reset_parameters(self) -> None:
        """Initialise all weights anew: Xavier uniform, zero bias."""
        self.conv.reset_parameters()
        if self.apart is not None:
            self.apart.reset_parameters()

    def pointwise(self, x: Tensor) -> Tensor:
        """The same weights without the graph: ``x W + b`` ``[N, out_channels]``."""
        out = self.conv.lin(x)
        return out if self.conv.bias is None else out + self.conv.bias

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Convolve."""
        if self.negative == "drop" and edge_weight is not None:
            kept = edge_weight > 0
            edge_index, edge_weight = edge_index[:, kept], edge_weight[kept]
        if self.normalize:
            edge_index, edge_weight = signed_norm(edge_index, edge_weight, x.size(0), dtype=x.dtype)
        if self.apart is None or edge_weight is None:
            return self.conv(x, edge_index, edge_weight)
        below = edge_weight < 0
        return self.conv(x, edge_index[:, ~below], edge_weight[~below]) + self.apart(
            x, edge_index[:, below], edge_weight[below]
        )

    def extra_repr(self) -> str:
        """Sizes and options, for printing."""
        return f"{self.in_channels}, {self.out_channels}, negative={self.negative!r}"


class SignedGATConv(GATConv):
    r"""Graph attention (Velickovic et al. 2018) in which each edge's weight multiplies what it brings.

    .. math:: h'_i = \textstyle \sum_j \alpha_{ij} w_{ij} W h_j + b

    Attention does not see the weights, which are 1 for the loops that are added; without weights it is
    :class:`torch_geometric.nn.GATConv`.

    Args:
        in_channels: Width of the node states.
        out_channels: Width of each head.
        heads: Number of heads.
        concat: Put heads side by side, or take their mean.
        dropout: Probability of dropping an attention coefficient.

    Shapes:
        x ``[N, in_channels]``, edge_index ``[2, E]``, edge_weight ``[E]`` -> ``[N, heads * out_channels]`` (without
        ``concat``: ``[N, out_channels]``).
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, heads: int = 1, concat: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__(in_channels, out_channels, heads=heads, concat=concat, dropout=dropout, fill_value=1.0)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Convolve."""
        return super().forward(x, edge_index, edge_weight)

    def edge_update(
        self,
        alpha_j: Tensor,
        alpha_i: Tensor | None,
        edge_attr: Tensor | None,
        index: Tensor,
        ptr: Tensor | None,
        dim_size: int | None,
    ) -> Tensor:
        """Attention of every edge and head, times the weight of the edge ``[E, heads]``."""
        alpha = super().edge_update(alpha_j, alpha_i, None, index, ptr, dim_size)
        return alpha if edge_attr is None else alpha * edge_attr.view(-1, 1)


class SignedGINConv(GINConv):
    r"""Graph isomorphism convolution (Xu et al. 2019) over signed edges; see `graphophone.nn.convolution.GINConv`.

    The first linear layer of the perceptron commutes with the sum over neighbours and comes first: sums are of narrow
    rows, and features may be sparse.

    Args:
        in_channels: Width of the node states.
        out_channels: Width of the result.
        hidden_channels: Width of the hidden layer; None: that of the result.
        bounded: End in batch normalisation and ReLU; False for the last layer of a network, whose results may be of
            any sign.
        norm: Whether there is batch normalisation.

    Shapes:
        x ``[N, in_channels]``, edge_index ``[2, E]``, edge_weight ``[E]`` -> ``[N, out_channels]``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int | None = None,
        bounded: bool = True,
        norm: bool = True,
    ) -> None:
        hidden = hidden_channels or out_channels
        super().__init__(in_channels, hidden)
        layers: list[nn.Module] = [nn.Linear(in_channels, hidden), nn.BatchNorm1d(hidden), nn.ReLU()]
        layers.append(nn.Linear(hidden, out_channels))
        if bounded:
            layers += [nn.BatchNorm1d(out_channels), nn.ReLU()]
        self.mlp = nn.Sequential(*(layer for layer in layers if norm or not isinstance(layer, nn.BatchNorm1d)))

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Convolve."""
        first: Any = self.mlp[0]
        h = self.aggregate(F.linear(x, first.weight), edge_index, edge_weight) + first.bias
        return self.mlp[1:](h)
