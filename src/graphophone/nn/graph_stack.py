"""Graph layers one after the other, on nodes that are whole utterances, and their answers for nodes that are new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.utils import add_remaining_self_loops

from graphophone.errors import GraphophoneError
from graphophone.nn.graph_attention import GraphAttention, Neighbourhoods, prepare
from graphophone.nn.graph_attention_v2 import GraphAttentionV2
from graphophone.nn.sparse import SparseMatrix, drop

GNN = Literal["gat", "gcn", "sage", "gatv2"]
Norm = Literal["batch", "none"]
LastActivation = Literal["none", "elu"]
Plan = Neighbourhoods | SparseMatrix
"""Edges as layers of one kind want them; see `GraphStack.plan`."""

Beside = tuple[Tensor, Plan, Tensor | None]
"""Known nodes that new ones hear, the edges, and their weights; see `GraphStack.beside`."""


class GraphStack(nn.Module):
    """The graph part of HemoGAT (equations 9 and 10): attention, or a convolution in its place.

    Every layer but the last is followed by normalisation and a leaky ReLU (slope 0.01), and every one between first and
    last by dropout and the sum with what went into it. Heads are concatenated, in the last layer averaged. Every node
    has an edge to itself, once, whether the edges given have it or not.

    Args:
        in_channels: Width of the node states.
        hidden_channels: Width of the result, and of every head.
        gnn: ``"gat"`` (published), ``"gcn"`` (symmetric normalisation by in-degrees), ``"sage"`` (mean, and a weight of
            the node's own), ``"gatv2"``. The two in the middle have no heads.
        num_layers: L, 1 or more.
        heads: Attention heads of every layer but the last.
        last_heads: Attention heads of the last layer.
        norm: ``"batch"`` or ``"none"``.
        shared_norm: Whether all layers have the same normalisation, statistics included.
        residual: Whether layers between first and last add what went into them.
        dropout: Probability of dropping a channel after layers between first and last.
        last_activation: After the last layer: ``"none"`` or ``"elu"``.

    Attributes:
        width: Of the states between layers.

    Shapes:
        x ``[N, in_channels]``, edges ``[2, E]`` -> ``[N, hidden_channels]``.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        *,
        gnn: GNN = "gat",
        num_layers: int = 3,
        heads: int = 4,
        last_heads: int = 4,
        norm: Norm = "batch",
        shared_norm: bool = False,
        residual: bool = True,
        dropout: float = 0.3,
        last_activation: LastActivation = "none",
    ) -> None:
        super().__init__()
        self.gnn = gnn
        self.width = wide = hidden_channels * heads if gnn in ("gat", "gatv2") else hidden_channels
        self.residual = residual
        self.dropout = dropout
        self.last_activation = last_activation
        convs, last = [], num_layers - 1
        for number in range(num_layers):
            width = in_channels if number == 0 else wide
            convs.append(_layer(gnn, width, hidden_channels, last_heads if number == last else heads, number < last))
        self.convs = nn.ModuleList(convs)
        kinds = 0 if norm == "none" or not last else 1 if shared_norm else last
        self.norms = nn.ModuleList(nn.BatchNorm1d(wide) for _ in range(kinds))

    @property
    def num_layers(self) -> int:
        """L."""
        return len(self.convs)

    def plan(self, edge_index: Tensor, num_nodes: int, edge_weight: Tensor | None = None) -> Plan:
        """What `forward` takes in place of edges that it sees many times.

        Args:
            edge_index: Sources and targets ``[2, E]``.
            num_nodes: N.
            edge_weight: With ``"gcn"`` and ``"sage"``, factors ``[E]`` on what edges carry.
        """
        edge_index, edge_weight = add_remaining_self_loops(edge_index, edge_weight, 1.0, num_nodes)
        if self.gnn in ("gat", "gatv2"):
            return prepare(edge_index, num_nodes)
        source, target = edge_index
        degree = torch.bincount(target, minlength=num_nodes).to(torch.get_default_dtype())
        values = 1 / degree[target] if self.gnn == "sage" else (degree[source] * degree[target]).rsqrt()
        values = values if edge_weight is None else values * edge_weight
        return SparseMatrix.from_entries(target, source, values, (num_nodes, num_nodes))

    def forward(self, x: Tensor, edges: Tensor | Plan, edge_weight: Tensor | None = None) -> Tensor:
        """States of all nodes after the last layer.

        Args:
            x: ``[N, in_channels]``.
            edges: Sources and targets ``[2, E]``, or what `plan` made of them.
            edge_weight: Factors ``[E]`` on what edges carry, which leave attention and degrees as they are, so that
                their gradient is an edge's share of an output; for edges that were not planned.

        Returns:
            ``[N, hidden_channels]``.
        """
        more: tuple[Tensor, ...] = ()
        if isinstance(edges, Tensor):
            if edge_weight is not None and self.gnn in ("gat", "gatv2"):
                more = (add_remaining_self_loops(edges, edge_weight, 1.0, len(x))[1],)
            edges = self.plan(edges, len(x), edge_weight)
        elif edge_weight is not None:
            raise GraphophoneError("edges are planned, and have weights beside: give edges [2, E] and their weights")
        for number, conv in enumerate(self.convs):
            x = self.after(number, x, conv(x, edges, *more))
        return x

    def states(self, x: Tensor, edges: Tensor | Plan) -> tuple[Tensor, ...]:
        """What nodes show to their neighbours in every layer, for `answer`.

        Args:
            x: ``[N, in_channels]``.
            edges: As `forward`.

        Returns:
            For every layer what any edge from a node carries ``[N, width of the layer's result before heads are
            averaged]``, with ``"gat"`` and a part of the score for each head beside it.
        """
        edges = self.plan(edges, len(x)) if isinstance(edges, Tensor) else edges
        held = []
        for number, conv in enumerate(self.convs):
            held.append(self.shown(number, x, edges))
            if number + 1 < self.num_layers:
                x = self.after(number, x, conv(x, edges))
        return tuple(held)

    def answer(
        self, x: Tensor, bank: Sequence[Tensor], bank_edges: Tensor, edge_weight: Tensor | None = None
    ) -> Tensor:
        """States of new nodes, whose neighbours are nodes of a bank and themselves.

        Nothing flows back: nodes of the bank stay as they were, and new nodes do not see each other. Only the rows of
        the new nodes meet the weights of the layers.

        Args:
            x: ``[Q, in_channels]``.
            bank: What `states` gave.
            bank_edges: Numbers of nodes of the bank, and of new nodes ``[2, E]``.
            edge_weight: Factors ``[E]`` on what these edges carry; see `forward`.

        Returns:
            ``[Q, hidden_channels]``.
        """
        heard = self.beside(bank_edges, len(x), edge_weight)
        for number in range(self.num_layers):
            x = self.after(number, x, self.hear(number, x, bank[number], heard))
        return x

    def shown(self, number: int, x: Tensor, edges: Plan) -> Tensor:
        """What nodes with states ``[N, channels]`` show in layer ``number``; see `states`."""
        if self.gnn == "gcn":
            pattern = cast(SparseMatrix, edges).pattern
            x = x * torch.bincount(pattern.row, minlength=pattern.shape[0]).to(x).rsqrt()[:, None]
        return cast(Any, self.convs[number]).show(x)

    def hear(self, number: int, x: Tensor, known: Tensor, heard: Beside) -> Tensor:
        """What comes out of layer ``number`` for new nodes ``[Q, channels]`` beside known ones, before `after`.

        Args:
            number: Of the layer.
            x: States of the new nodes.
            known: What all known nodes show in this layer.
            heard: Which of them the new ones hear; see `beside`.
        """
        used, edges, weight = heard
        more = () if weight is None else (weight,)
        return cast(Any, self.convs[number]).hear(x, known[used], edges, *more)

    def beside(self, bank_edges: Tensor, count: int, edge_weight: Tensor | None = None) -> Beside:
        """Edges to new nodes, from those nodes of a bank that are anyone's neighbours and from the new ones themselves.

        Args:
            bank_edges: As `answer`.
            count: Q.
            edge_weight: As `answer`.

        Returns:
            Numbers of these nodes of the bank ``[U]``, edges from U + Q sources to Q targets, and with attention their
            weights, where there are any.
        """
        new = torch.arange(count, device=bank_edges.device)
        used, place = bank_edges[0].unique(return_inverse=True)
        source, target = torch.cat([place, new + len(used)]), torch.cat([bank_edges[1], new])
        weight = None if edge_weight is None else torch.cat([edge_weight, edge_weight.new_ones(count)])
        if self.gnn in ("gat", "gatv2"):
            return used, prepare(torch.stack([source, target]), (len(used) + count, count)), weight
        degree = torch.bincount(target, minlength=count).to(torch.get_default_dtype())[target]
        # What nodes of the bank show is divided by the root of their degrees already.
        own = torch.where(source >= len(used), degree, 1.0)
        values = 1 / degree if self.gnn == "sage" else (degree * own).rsqrt()
        values = values if weight is None else values * weight
        return used, SparseMatrix.from_entries(target, source, values, (count, len(used) + count)), None

    def after(self, number: int, before: Tensor, x: Tensor) -> Tensor:
        """What follows layer ``number``, of what went into it and what came out."""
        if number == self.num_layers - 1:
            return F.elu(x) if self.last_activation == "elu" else x
        if self.norms:
            x = self.norms[min(number, len(self.norms) - 1)](x)
        x = F.leaky_relu(x, 0.01)
        if number == 0:
            return x
        x = drop(x, self.dropout, self.training)
        return x + before if self.residual else x


def _layer(gnn: GNN, in_channels: int, out_channels: int, heads: int, concat: bool) -> nn.Module:
    """A layer of states and edges from `GraphStack.plan`; `show` and `hear` are for new nodes beside known ones."""
    if gnn == "gcn":
        return _GCN(in_channels, out_channels)
    if gnn == "sage":
        return _SAGE(in_channels, out_channels)
    made: Any = GraphAttention if gnn == "gat" else GraphAttentionV2
    return made(in_channels, out_channels, heads=heads, concat=concat)


class _GCN(nn.Module):
    """Graph convolution (Kipf and Welling, 2017); parameters named as those of PyG's `GCNConv`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.lin = nn.Linear(in_channels, out_channels, bias=False)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.xavier_uniform_(self.lin.weight)

    def forward(self, x: Tensor, edges: SparseMatrix) -> Tensor:
        return edges @ self.lin(x) + self.bias

    def show(self, x: Tensor) -> Tensor:
        return self.lin(x)

    def hear(self, x: Tensor, known: Tensor, edges: SparseMatrix) -> Tensor:
        return edges @ torch.cat([known, self.lin(x)]) + self.bias


class _SAGE(nn.Module):
    """GraphSAGE with means (Hamilton et al., 2017); parameters named as those of PyG's `SAGEConv`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.lin_l = nn.Linear(in_channels, out_channels)
        self.lin_r = nn.Linear(in_channels, out_channels, bias=False)

    def forward(self, x: Tensor, edges: SparseMatrix) -> Tensor:
        return edges @ self.show(x) + self.lin_l.bias + self.lin_r(x)

    def show(self, x: Tensor) -> Tensor:
        return F.linear(x, self.lin_l.weight)

    def hear(self, x: Tensor, known: Tensor, edges: SparseMatrix) -> Tensor:
        return edges @ torch.cat([known, self.show(x)]) + self.lin_l.bias + self.lin_r(x)
