"""Convolutions of dialogues whose edges have gates: those of RIGSL (Xiong et al., 2025)."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphophone.errors import GraphophoneError
from graphophone.nn.backbone import Backbone, BackboneOutput, joined_penalty, mean_tables, present_only
from graphophone.nn.dialogue import DialogueGraph, EdgeTables
from graphophone.nn.edge_gate import HardConcreteGate, pair_scores

Degree = Literal["in", "out", "soft"]

_LARGEST_NORM = 1.5


def edge_norms(
    gates: EdgeTables, graph: DialogueGraph, degree: Degree = "in", survives: EdgeTables | None = None
) -> EdgeTables:
    r"""For every edge :math:`r_{source} r_{target}`, where :math:`r_i = \min(deg_i^{-1/2}, 1.5)`.

    Args:
        gates: Of all edges, 0 where there is none.
        graph: The edges.
        degree: What counts as the degree of a node: ``in`` its surviving (g > 0) incoming edges, without gradient,
            with r = 0 where there is none; ``soft`` the sum of their gates, with gradient, r = 0 at 0; ``out`` its
            surviving outgoing edges, without gradient and with r = 1.5 where there is none, as published. Outgoing
            edges of a turn lead to later ones: where ``graph.future`` is set, ``out`` counts incoming edges as well.
        survives: How much each edge counts as surviving; None: 1 where g > 0.
    """
    if degree == "soft":
        count = gates.into()
    else:
        if survives is None:
            survives = EdgeTables(*((gate.detach() != 0).to(gate.dtype) for gate in gates))
        count = survives.out_of() if degree == "out" and graph.future is None else survives.into()
    there = count > 0
    r = count.masked_fill(~there, 1).rsqrt().clamp(max=_LARGEST_NORM)
    r = r.masked_fill(~there, _LARGEST_NORM if degree == "out" else 0)
    turn = r.transpose(1, 2)
    return EdgeTables(r[..., :, None] * r[..., None, :], turn[..., :, None] * turn[..., None, :])


class GatedLayer(nn.Module):
    """What the three layers share: a linear transform without bias, and gates on it.

    Args:
        channels: Width of the states, before and after.
        gate: Gates of the edges; None: all are open, and the penalty is 0.
        degree: See `edge_norms`.
        transform: Whether there is a linear transform; False: the states themselves are summed.
        dropout: Of the states that the transform, the gates and the sum see; what is added to the sum is not touched.

    Shapes:
        x ``[B, M, T, channels]``, zeros at absent nodes -> the same.
    """

    def __init__(
        self,
        channels: int,
        *,
        gate: HardConcreteGate | None = None,
        degree: Degree = "in",
        transform: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if degree not in ("in", "out", "soft"):
            raise GraphophoneError(f"degree {degree!r} is none of in, out, soft")
        self.channels = channels
        self.degree: Degree = degree
        self.dropout = dropout
        self.gate = gate
        self.lin = nn.Linear(channels, channels, bias=False) if transform else None
        if self.lin is not None:
            nn.init.xavier_uniform_(self.lin.weight)

    def weigh(self, z: Tensor, graph: DialogueGraph, gates: EdgeTables, survives: EdgeTables) -> EdgeTables:
        """What every edge multiplies its source with, gates included; 0 where there is no edge."""
        raise NotImplementedError

    def forward(self, x: Tensor, graph: DialogueGraph, *, weights: bool = False) -> BackboneOutput:
        """At every node the weighted sum of what its incoming edges bring, and the penalty of the gates."""
        z = F.dropout(x, self.dropout, self.training)
        if self.lin is not None:
            z = graph.spread(self.lin(graph.gathered(z)))
        if self.gate is None:
            gates, penalty = EdgeTables(graph.within.to(z.dtype), graph.across.to(z.dtype)), z.new_zeros(())
            survives = gates
        else:
            gates, survives, penalty = self.gate.surviving(z, graph)
        edges = self.weigh(z, graph, gates, survives)
        shown = EdgeTables(*(table.detach() for table in edges)) if weights else None
        return BackboneOutput(edges.aggregate(z), penalty, shown)


class GatedGCN(GatedLayer):
    r"""Graph convolution behind gates.

    .. math::
        x'_i = \textstyle \sum_j n_{ji} g_{ji} W x_j

    with the norms n of `edge_norms`. Without gates it is :math:`D^{-1/2} A D^{-1/2} X W`. Arguments and shapes are
    those of `GatedLayer`.
    """

    def weigh(self, z: Tensor, graph: DialogueGraph, gates: EdgeTables, survives: EdgeTables) -> EdgeTables:
        """Norm times gate."""
        return edge_norms(gates, graph, self.degree, survives).times(gates)


class GatedGAT(GatedLayer):
    r"""Graph attention of one head behind gates.

    .. math::
        \alpha_{ji} = \mathrm{softmax}_j\, \mathrm{LeakyReLU}_{0.2}(w^T [z_i \Vert z_j]), \qquad
        x'_i = \textstyle \sum_j \alpha_{ji} g_{ji} z_j, \qquad z = W x

    over the incoming edges of i, cut ones among them. (The published code normalises over the outgoing edges of j.)
    There are no degrees in it. Arguments and shapes are those of `GatedLayer`.
    """

    def __init__(
        self,
        channels: int,
        *,
        gate: HardConcreteGate | None = None,
        degree: Degree = "in",
        transform: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(channels, gate=gate, degree=degree, transform=transform, dropout=dropout)
        self.attention = nn.Linear(2 * channels, 1, bias=False)

    def weigh(self, z: Tensor, graph: DialogueGraph, gates: EdgeTables, survives: EdgeTables) -> EdgeTables:
        """Attention times gate."""
        target, source = F.linear(z, self.attention.weight.view(2, self.channels)).unbind(-1)
        scores = pair_scores(target, source)
        turns = z.size(2)
        # One softmax over both tables: all incoming edges of a node, side by side.
        side_by_side = torch.cat([scores.within, scores.across.transpose(1, 2)], dim=3)
        edges = torch.cat([graph.within, graph.across.transpose(1, 2)], dim=3)
        logits = F.leaky_relu(side_by_side, 0.2).masked_fill(~edges, torch.finfo(z.dtype).min)
        attention = logits.softmax(dim=3).masked_fill(~edges, 0)
        within, across = attention.split([turns, attention.size(3) - turns], dim=3)
        return EdgeTables(within, across.transpose(1, 2)).times(gates)


class MultiFrequencyConv(GatedLayer):
    r"""What differs from the neighbours and what is common, edge by edge: M3NET (Chen et al., 2023), behind gates.

    .. math::
        a_{ji} = \tanh(w^T [z_i \Vert z_j] + b), \qquad
        x'_i = x_i + \textstyle \sum_j n_{ji} g_{ji} a_{ji} z_j, \qquad z = W x

    A positive a smooths (a low-pass filter), a negative one sharpens (a high-pass filter). M3NET's own layer has
    neither gates nor W (``transform=False``). Arguments and shapes are those of `GatedLayer`.
    """

    def __init__(
        self,
        channels: int,
        *,
        gate: HardConcreteGate | None = None,
        degree: Degree = "in",
        transform: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(channels, gate=gate, degree=degree, transform=transform, dropout=dropout)
        self.frequency = nn.Linear(2 * channels, 1)

    def weigh(self, z: Tensor, graph: DialogueGraph, gates: EdgeTables, survives: EdgeTables) -> EdgeTables:
        """Signed weight times norm times gate."""
        target, source = F.linear(z, self.frequency.weight.view(2, self.channels)).unbind(-1)
        scores = pair_scores(target + self.frequency.bias, source)
        signed = EdgeTables(scores.within.tanh(), scores.across.tanh())
        return signed.times(edge_norms(gates, graph, self.degree, survives)).times(gates)

    def forward(self, x: Tensor, graph: DialogueGraph, *, weights: bool = False) -> BackboneOutput:
        """The states with what the edges bring added."""
        found = super().forward(x, graph, weights=weights)
        return found._replace(x=x + found.x)


class GatedStack(Backbone):
    """Gated convolutions or attention, one after the other: the backbones ``gcn`` and ``gat`` of RIGSL.

    Every layer is dropout, convolution, and the addition of its input; there is no activation. The penalty is the sum
    of those of the layers.

    Args:
        channels: Width of the states, and of the result.
        kind: ``gcn`` or ``gat``.
        num_layers: How many.
        residual: Whether the input of a layer is added to its result.
        dropout: Before every layer.
        gated: Whether edges have gates.
        degree: See `edge_norms`; ``gat`` has no use for it.
        gate: Options of `HardConcreteGate`.

    Shapes:
        x ``[B, M, T, channels]`` -> ``[B, M, T, channels]``.

    Raises:
        GraphophoneError: If there is no such kind, or no layer.
    """

    def __init__(
        self,
        channels: int,
        *,
        kind: Literal["gcn", "gat"] = "gcn",
        num_layers: int = 4,
        residual: bool = True,
        dropout: float = 0.4,
        gated: bool = True,
        degree: Degree = "in",
        **gate: Any,
    ) -> None:
        super().__init__()
        kinds: dict[str, type[GatedLayer]] = {"gcn": GatedGCN, "gat": GatedGAT}
        if kind not in kinds or num_layers < 1:
            raise GraphophoneError(f"a stack of {num_layers} layers of {kind!r} cannot be: 1 or more of gcn or gat")
        self.out_channels = channels
        self.residual = residual
        self.layers = nn.ModuleList(
            kinds[kind](
                channels, gate=HardConcreteGate(channels, **gate) if gated else None, degree=degree, dropout=dropout
            )
            for _ in range(num_layers)
        )

    def forward(self, x: Tensor, graph: DialogueGraph, *, weights: bool = False) -> BackboneOutput:
        """States after the last layer."""
        x = present_only(x, graph)
        penalties, tables = [], []
        for layer in self.layers:
            found = layer(x, graph, weights=weights)
            x = found.x + x if self.residual else found.x
            penalties.append(found.penalty)
            tables.append(found.edges)
        return BackboneOutput(x, joined_penalty(penalties, "sum"), mean_tables(tables) if weights else None)
