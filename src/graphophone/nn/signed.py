r"""Convolutions over signed edges: a negative one pushes two nodes apart."""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv
from torch_geometric.utils import add_remaining_self_loops, add_self_loops, remove_self_loops

from graphophone.errors import GraphophoneError
from graphophone.nn.convolution import GINConv
from graphophone.nn.sparse import Edges, Matrix, SparseMatrix, drop, linear, propagate

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
        ``[N, out_channels]``. Features may be a `graphophone.nn.sparse.SparseMatrix`, and so may the edges, for graphs
        that are read many times: then they are P itself (`signed_norm`, `SparseMatrix.from_edges`).
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

    def pointwise(self, x: Matrix) -> Tensor:
        """The same weights without the graph: ``x W + b`` ``[N, out_channels]``."""
        return linear(x, self.conv.lin.weight, self.conv.bias)

    def forward(self, x: Matrix, edge_index: Edges, edge_weight: Tensor | None = None) -> Tensor:
        """Convolve. The narrower of what comes in and what goes out is sent along the edges."""
        if self.in_channels < self.out_channels and isinstance(x, Tensor):
            return linear(*self.factors(x, edge_index, edge_weight))
        parts = self._parts(edge_index, edge_weight, x)
        brought = [propagate(linear(x, weight), *edges) for edges, weight in parts]
        out = brought[0] if len(brought) == 1 else brought[0] + brought[1]
        return out if self.conv.bias is None else out + self.conv.bias

    def factors(
        self, x: Tensor, edge_index: Edges, edge_weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """States ``[N, s]``, weight ``[out_channels, s]`` and bias of a linear layer whose result is that of `forward`.

        For what can be computed of a wide result without writing it out; see
        `graphophone.nn.self_supervision.factored_reconstruction_loss`.
        """
        parts = self._parts(edge_index, edge_weight, x)
        states = [propagate(x, *edges) for edges, _ in parts]
        weights = [weight for _, weight in parts]
        if len(parts) == 1:
            return states[0], weights[0], self.conv.bias
        return torch.cat(states, dim=1), torch.cat(weights, dim=1), self.conv.bias

    def _parts(
        self, edge_index: Edges, edge_weight: Tensor | None, x: Matrix
    ) -> list[tuple[tuple[Edges, Tensor | None], Tensor]]:
        """Edges as they are to be read, and the weight matrix of what they bring; for each weight matrix."""
        if not isinstance(edge_index, Tensor):
            if self.apart is None:
                return [((edge_index, None), self.conv.lin.weight)]
            near, far = edge_index.signs()
            return [((near, None), self.conv.lin.weight), ((far, None), self.apart.lin.weight)]
        if self.negative == "drop" and edge_weight is not None:
            kept = edge_weight > 0
            edge_index, edge_weight = edge_index[:, kept], edge_weight[kept]
        if self.normalize:
            edge_index, edge_weight = signed_norm(edge_index, edge_weight, x.shape[0], dtype=x.dtype)
        if self.apart is None or edge_weight is None:
            return [((edge_index, edge_weight), self.conv.lin.weight)]
        below = edge_weight < 0
        return [
            ((edge_index[:, ~below], edge_weight[~below]), self.conv.lin.weight),
            ((edge_index[:, below], edge_weight[below]), self.apart.lin.weight),
        ]

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
        ``concat``: ``[N, out_channels]``). Features may be a `graphophone.nn.sparse.SparseMatrix`, and so may the
        edges, for graphs that are read many times (`as_matrix`).
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, heads: int = 1, concat: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__(in_channels, out_channels, heads=heads, concat=concat, dropout=dropout, fill_value=1.0)

    @staticmethod
    def as_matrix(
        edge_index: Edges, edge_weight: Tensor | None, num_nodes: int, *, dtype: torch.dtype = torch.float32
    ) -> SparseMatrix:
        """The edges, with loops of weight 1, as a matrix ``[N, N]`` of their weights; such a matrix as it is."""
        if isinstance(edge_index, SparseMatrix):
            return edge_index
        if edge_weight is None:
            edge_weight = torch.ones(edge_index.shape[1], dtype=dtype, device=edge_index.device)
        edges, weight = remove_self_loops(edge_index, edge_weight)
        edges, weight = add_self_loops(edges, weight, 1.0, num_nodes)
        return SparseMatrix.from_edges(cast(Tensor, edges), weight, num_nodes)

    def forward(self, x: Matrix, edge_index: Edges, edge_weight: Tensor | None = None) -> Tensor:
        """Convolve."""
        if isinstance(x, Tensor) and not isinstance(edge_index, SparseMatrix):
            return super().forward(x, edge_index, edge_weight)
        if isinstance(x, Tensor) and not self.concat and self.in_channels * self.heads < self.out_channels:
            return linear(*self.factors(x, edge_index, edge_weight))
        edges = self.as_matrix(edge_index, edge_weight, x.shape[0], dtype=x.dtype)
        h = linear(x, self.lin.weight)
        # The sums over a head's channels as one product with a matrix of blocks.
        own = torch.eye(self.heads, dtype=h.dtype, device=h.device)[:, None]
        source, target = (
            h @ (attention[0, :, :, None] * own).flatten(0, 1) for attention in (self.att_src, self.att_dst)
        )
        brought = self._attend(edges, source, target, h.view(-1, self.heads, self.out_channels).transpose(0, 1))
        out = brought.transpose(0, 1).flatten(1) if self.concat else brought.mean(dim=0)
        return out if self.bias is None else out + self.bias

    def factors(
        self, x: Tensor, edge_index: Edges, edge_weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """See `SignedGCNConv.factors`; without ``concat``."""
        edges = self.as_matrix(edge_index, edge_weight, x.shape[0], dtype=x.dtype)
        weight = self.lin.weight.view(self.heads, self.out_channels, self.in_channels)
        source, target = (
            x @ torch.einsum("hc,hci->ih", attention[0], weight) for attention in (self.att_src, self.att_dst)
        )
        brought = self._attend(edges, source, target, x.expand(self.heads, -1, -1))
        states = (brought / self.heads).transpose(0, 1).flatten(1)
        return states, weight.transpose(0, 1).flatten(1), self.bias

    def _attend(self, edges: SparseMatrix, source: Tensor, target: Tensor, h: Tensor) -> Tensor:
        """What the edges of every node bring, weighted by attention.

        Args:
            edges: As `as_matrix` returns them.
            source: Part of the attention logits that a sender has ``[N, heads]``.
            target: Part that a receiver has ``[N, heads]``.
            h: What is sent ``[heads, N, dims]``.

        Returns:
            ``[heads, N, dims]``.
        """
        row, column = edges.pattern.row, edges.pattern.column
        logits = F.leaky_relu(source.index_select(0, column) + target.index_select(0, row), self.negative_slope)
        peak = torch.segment_reduce(logits.detach(), "max", offsets=edges.pattern.by_row[0].long())
        alpha = (logits - peak.index_select(0, row)).exp()
        total = torch.zeros_like(source).index_add(0, row, alpha)
        alpha = drop(alpha, self.dropout, self.training) * edges.values[:, None]
        brought = edges.blocks(self.heads, alpha.t()) @ h.flatten(0, 1)
        return brought.view(h.shape) / total.t()[:, :, None]

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
        x ``[N, in_channels]``, edge_index ``[2, E]``, edge_weight ``[E]`` -> ``[N, out_channels]``. Features
        and edges may be a `graphophone.nn.sparse.SparseMatrix`.
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
        # As the other convolutions: PyTorch's own biases add up over a wide result, such as restored features.
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Matrix, edge_index: Edges, edge_weight: Tensor | None = None) -> Tensor:
        """Convolve."""
        return self.mlp[1:](self._first(x, edge_index, edge_weight))

    def factors(
        self, x: Tensor, edge_index: Edges, edge_weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """See `SignedGCNConv.factors`; where it is not ``bounded``."""
        last: Any = self.mlp[-1]
        return self.mlp[1:-1](self._first(x, edge_index, edge_weight)), last.weight, last.bias

    def _first(self, x: Matrix, edge_index: Edges, edge_weight: Tensor | None) -> Tensor:
        """What the first linear layer of the perceptron gives ``[N, hidden_channels]``."""
        first: Any = self.mlp[0]
        return self.aggregate(linear(x, first.weight), edge_index, edge_weight) + first.bias
