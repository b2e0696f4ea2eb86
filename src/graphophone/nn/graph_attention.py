"""Graph attention in the memory of its nodes: what an edge carries is never written out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from graphophone.errors import GraphophoneError
from graphophone.nn.sparse import SparseMatrix, csr_product, csr_sampled


@dataclass(frozen=True, eq=False)
class Neighbourhoods:
    """Edges sorted once, for layers and steps that share them; `prepare` makes it.

    Attributes:
        places: A matrix ``[targets, sources]`` whose entry at an edge is the number of that edge among those given.
    """

    places: SparseMatrix

    @property
    def size(self) -> tuple[int, int]:
        """Sources and targets."""
        targets, sources = self.places.shape
        return sources, targets

    @property
    def edge_index(self) -> Tensor:
        """Sources and targets ``[2, E]``, sorted by target, then source."""
        return torch.stack([self.places.pattern.column, self.places.pattern.row])

    @property
    def order(self) -> Tensor:
        """Number, among the edges given, of every sorted edge ``[E]``."""
        return self.places.values

    def to(self, device: torch.device | str) -> Neighbourhoods:
        """The same edges on a device."""
        return Neighbourhoods(self.places.to(device))


def prepare(edge_index: Tensor, size: int | tuple[int, int]) -> Neighbourhoods:
    """Sort edges for `GraphAttention`, once for all of its layers and for every step.

    Args:
        edge_index: Sources and targets ``[2, E]`` int64, in any order.
        size: Number of nodes, or of sources and of targets where these are different nodes.

    Raises:
        GraphophoneError: If an edge names a node that is not there.
    """
    sources, targets = (size, size) if isinstance(size, int) else size
    if edge_index.numel():
        lowest = int(edge_index.min())
        highest = edge_index.amax(dim=1).tolist()
        if lowest < 0 or highest[0] >= sources or highest[1] >= targets:
            raise GraphophoneError(
                f"an edge names node {lowest if lowest < 0 else max(highest)} of {sources} sources and {targets} "
                "targets; build the edges from these nodes"
            )
    number = torch.arange(edge_index.shape[1], device=edge_index.device)
    return Neighbourhoods(SparseMatrix.from_entries(edge_index[1], edge_index[0], number, (targets, sources)))


class GraphAttention(nn.Module):
    r"""Graph attention (Veličković et al., `"Graph Attention Networks" <https://arxiv.org/abs/1710.10903>`_, 2018).

    .. math::
        \alpha_{ij} = \mathrm{softmax}_j\, \mathrm{LeakyReLU}(a_{dst}^T W x_i + a_{src}^T W x_j), \qquad
        x'_i = \textstyle \sum_j \alpha_{ij} W x_j + b

    over the edges that come in; self loops are among them already, none is added. Parameters are named and shaped as
    those of :class:`torch_geometric.nn.GATConv`, results and gradients are the same up to rounding. That layer holds
    what every edge carries, ``[E, heads, out_channels]``, several times over; here both passes are products with
    sparse matrices, and memory is that of the nodes, whatever the number of edges.

    Gradients of gradients are not available.

    Args:
        in_channels: Width of the node states.
        out_channels: Width of each head.
        heads: Number of heads.
        concat: Put heads side by side; False: take their mean.
        negative_slope: Of the leaky ReLU.
        bias: Whether b is learned.

    Shapes:
        x ``[N, in_channels]``, edges ``[2, E]`` (row 0 source, row 1 target) -> ``[N, heads * out_channels]``, without
        ``concat`` ``[N, out_channels]``. For edges between different nodes, x is a pair: sources
        ``[S, in_channels]`` and targets ``[T, in_channels]`` -> ``[T, ...]``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        heads: int = 4,
        concat: bool = True,
        negative_slope: float = 0.2,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.heads = heads
        self.concat = concat
        self.negative_slope = negative_slope
        self.lin = nn.Linear(in_channels, heads * out_channels, bias=False)
        self.att_src = nn.Parameter(torch.empty(1, heads, out_channels))
        self.att_dst = nn.Parameter(torch.empty(1, heads, out_channels))
        width = heads * out_channels if concat else out_channels
        self.bias = nn.Parameter(torch.empty(width)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot's initialisation, as in PyG, and no bias."""
        nn.init.xavier_uniform_(self.lin.weight)
        bound = math.sqrt(6 / (self.heads + self.out_channels))
        nn.init.uniform_(self.att_src, -bound, bound)
        nn.init.uniform_(self.att_dst, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @overload
    def forward(
        self,
        x: Tensor | tuple[Tensor, Tensor],
        edges: Tensor | Neighbourhoods,
        edge_weight: Tensor | None = None,
        *,
        return_attention_weights: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        x: Tensor | tuple[Tensor, Tensor],
        edges: Tensor | Neighbourhoods,
        edge_weight: Tensor | None = None,
        *,
        return_attention_weights: Literal[True],
    ) -> tuple[Tensor, Tensor]: ...

    def forward(
        self,
        x: Tensor | tuple[Tensor, Tensor],
        edges: Tensor | Neighbourhoods,
        edge_weight: Tensor | None = None,
        *,
        return_attention_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend to the sources of every node's edges.

        Args:
            x: Node states, or those of sources and of targets. Of sources, only those that edges name are read.
            edges: Sources and targets ``[2, E]``, or what `prepare` made of them.
            edge_weight: Factors ``[E]`` on what edges carry, which leave the attention as it is; their gradient is an
                edge's share of an output.
            return_attention_weights: Return the attention as well.

        Returns:
            New states; and the attention ``[E, heads]`` in the order of the edges given, without their weights.

        Raises:
            GraphophoneError: If the edges do not fit the nodes.
        """
        sources, targets = x if isinstance(x, tuple) else (x, x)
        if isinstance(edges, Tensor):
            if isinstance(x, tuple) and edges.shape[1] < len(sources):
                # A few new nodes beside many known ones: most of these are nobody's neighbours.
                named, position = edges[0].unique(return_inverse=True)
                sources, edges = sources[named], torch.stack([position, edges[1]])
            edges = prepare(edges, (len(sources), len(targets)))
        elif edges.size != (len(sources), len(targets)):
            raise GraphophoneError(
                f"edges were prepared for {edges.size[0]} sources and {edges.size[1]} targets, not {len(sources)} and "
                f"{len(targets)}; prepare them for these nodes"
            )
        attention = self._attention(sources, targets, edges)
        out = self._gather(attention, self._states(sources), edges, edge_weight)
        if not return_attention_weights:
            return out
        return out, torch.empty_like(attention).index_copy(0, edges.order, attention)

    def show(self, x: Tensor) -> Tensor:
        """What nodes send along any of their edges, for `hear`.

        Args:
            x: Node states ``[S, in_channels]``.

        Returns:
            ``[S, heads * out_channels + heads]``: W x, and beside it their part of the scores.
        """
        states = self._states(x)
        return torch.cat([states, self._scores(states, self.att_src)], dim=1)

    def hear(self, x: Tensor, known: Tensor, edges: Neighbourhoods, edge_weight: Tensor | None = None) -> Tensor:
        """As `forward` for new nodes, of whose sources it is known what they show.

        Only the rows of the new nodes meet the weights, whatever the number of neighbours.

        Args:
            x: States of the new nodes ``[T, in_channels]``.
            known: Rows of what `show` gave ``[U, heads * out_channels + heads]``.
            edges: From U known and T new nodes to T new ones.
            edge_weight: As `forward`.
        """
        own = self.show(x)
        received = self._scores(own[:, : -self.heads], self.att_dst)
        states, sent = torch.cat([known, own]).split([own.shape[1] - self.heads, self.heads], dim=1)
        return self._gather(self._softmax(sent, received, edges), states, edges, edge_weight)

    def _scores(self, states: Tensor, weight: Tensor) -> Tensor:
        """Part of the scores that follows from W x of nodes ``[S, heads]``."""
        return (states.unflatten(1, weight.shape[1:]) * weight).sum(dim=2)

    def _gather(self, attention: Tensor, states: Tensor, edges: Neighbourhoods, edge_weight: Tensor | None) -> Tensor:
        """What the edges carry, summed at their targets."""
        carried = attention.t()
        if edge_weight is not None:
            carried = carried * edge_weight.index_select(0, edges.order)
        out = _Gathered.apply(carried.contiguous(), states, edges.places, self.concat)
        return out if self.bias is None else out + self.bias

    def _states(self, x: Tensor) -> Tensor:
        """What nodes send ``[S, heads * out_channels]``, at least in single precision."""
        states = self.lin(x)
        # Sparse products know no half precision.
        return states if states.dtype == torch.float64 else states.float()

    def _attention(self, sources: Tensor, targets: Tensor, edges: Neighbourhoods) -> Tensor:
        """Attention over the edges of every target, ``[E, heads]``, in their sorted order."""
        weight = self.lin.weight.view(self.heads, self.out_channels, self.in_channels)
        # a^T (W x) = (W^T a)^T x: of the width of the heads, where W x would have to be read once more.
        send, receive = (torch.einsum("hc,hci->hi", part[0], weight) for part in (self.att_src, self.att_dst))
        if sources is targets:
            sent, received = F.linear(sources, torch.cat([send, receive])).split(self.heads, dim=1)
        else:
            sent, received = F.linear(sources, send), F.linear(targets, receive)
        return self._softmax(sent, received, edges)

    def _softmax(self, sent: Tensor, received: Tensor, edges: Neighbourhoods) -> Tensor:
        """Attention ``[E, heads]`` from the parts of the scores of sources and of targets."""
        pattern = edges.places.pattern
        logits = sent.index_select(0, pattern.column) + received.index_select(0, pattern.row)
        logits = F.leaky_relu(logits if logits.dtype == torch.float64 else logits.float(), self.negative_slope)
        # The softmax is the same whatever is taken off, so the peak needs no gradient.
        peak = torch.segment_reduce(logits.detach(), "max", offsets=pattern.by_row[0].long())
        shares = (logits - peak.index_select(0, pattern.row)).exp()
        total = torch.zeros_like(peak).index_add(0, pattern.row, shares)
        return shares / total.index_select(0, pattern.row)

    def extra_repr(self) -> str:
        """Sizes and options, for printing."""
        return f"{self.in_channels}, {self.out_channels}, heads={self.heads}, concat={self.concat}"


class _Gathered(torch.autograd.Function):
    """Sums over edges, head by head: one sparse matrix for each head, all with entries at the same places."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, states: Tensor, places: SparseMatrix, concat: bool) -> Tensor:
        """Weighted sums of states.

        Args:
            ctx: Keeps what the gradient needs.
            values: Weight of every edge ``[heads, E]``.
            states: ``[S, heads * C]``.
            places: Where the edges are.
            concat: Heads side by side ``[T, heads * C]``, or their mean ``[T, C]``.
        """
        ctx.save_for_backward(values, states)
        ctx.places, ctx.concat = places, concat
        heads = len(values)
        width = states.shape[1] // heads
        out = states.new_empty(places.shape[0], states.shape[1] if concat else width)
        for head, part in enumerate(states.split(width, dim=1)):
            if concat:
                csr_product(places.pattern, values[head], part, out=out[:, head * width : (head + 1) * width])
            else:
                csr_product(places.pattern, values[head] / heads, part, out=out, add=head > 0)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        values, states = ctx.saved_tensors
        pattern = ctx.places.pattern
        heads = len(values)
        width = states.shape[1] // heads
        parts = gradient.contiguous().split(width, dim=1) if ctx.concat else [gradient / heads] * heads
        to_values = torch.empty_like(values) if ctx.needs_input_grad[0] else None
        to_states = torch.empty_like(states) if ctx.needs_input_grad[1] else None
        for head, part in enumerate(parts):
            columns = slice(head * width, (head + 1) * width)
            if to_values is not None:
                to_values[head] = csr_sampled(pattern, part, states[:, columns])
            if to_states is not None:
                csr_product(pattern, values[head], part, transposed=True, out=to_states[:, columns])
        return to_values, to_states, None, None
