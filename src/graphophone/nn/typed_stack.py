"""Graph layers on utterances whose modalities are nodes of their own, joined to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from graphophone.errors import GraphophoneError
from graphophone.nn.graph_stack import GraphStack, Plan

Relations = Mapping[tuple[str, str, str], Tensor]
"""Sources and targets ``[2, E]`` by relation; see `graphophone.graphs.modal.typed_edges`."""

TypedPlan = dict[str, Plan]
"""Edges of each modality; see `TypedStack.plan`."""


class TypedStack(nn.Module):
    r"""Layers of a heterogeneous graph: an extension, which HemoGAT's equations and code do not have.

    .. math::
        h_i^{text} \leftarrow \mathrm{GNN}_{text}(h^{text})_i + W_{audio \to text} h_i^{audio}

    and the same with the modalities swapped, in every layer: each relation has weights of its own, what they bring is
    summed (as :class:`torch_geometric.nn.HeteroConv` does), and what follows is that of
    `graphophone.nn.graph_stack.GraphStack`. Of the relation between the two nodes of one utterance every node has one
    edge, whose attention is 1: a linear layer is all that is left of it.

    Args:
        in_channels: Width of the states of each of two modalities.
        hidden_channels: Width of the result of each.
        options: Of `graphophone.nn.graph_stack.GraphStack`.

    Shapes:
        x ``[N, sum of in_channels]``, relations ``[2, E]`` each -> ``[N, 2 * hidden_channels]``.
    """

    def __init__(self, in_channels: Mapping[str, int], hidden_channels: int, **options: Any) -> None:
        super().__init__()
        self.in_channels = dict(in_channels)
        self.near = nn.ModuleDict(
            {name: GraphStack(width, hidden_channels, **options) for name, width in in_channels.items()}
        )
        self.across = nn.ModuleDict()
        for name, other in self._pairs():
            inner = self._near(name)
            inputs = [in_channels[other]] + [inner.width] * (inner.num_layers - 1)
            outputs = [inner.width] * (inner.num_layers - 1) + [hidden_channels]
            self.across[name] = nn.ModuleList(
                nn.Linear(wide, out, bias=False) for wide, out in zip(inputs, outputs, strict=True)
            )

    def _near(self, name: str) -> GraphStack:
        """Layers between nodes of a modality."""
        return cast(GraphStack, self.near[name])

    def _pairs(self) -> list[tuple[str, str]]:
        """Each modality and the other."""
        first, second = self.in_channels
        return [(first, second), (second, first)]

    @property
    def num_layers(self) -> int:
        """L."""
        return self._near(next(iter(self.in_channels))).num_layers

    def plan(self, edges: Relations, num_nodes: int) -> TypedPlan:
        """What `forward` takes in place of relations that it sees many times.

        Args:
            edges: As `graphophone.graphs.modal.typed_edges` gives them; relations between modalities are not read, each
                utterance has both.
            num_nodes: N.
        """
        return {name: self._near(name).plan(_near_edges(edges, name), num_nodes) for name in self.in_channels}

    def forward(self, x: Tensor, edges: Relations | TypedPlan) -> Tensor:
        """States of all utterances after the last layer, modalities side by side."""
        plan = self._planned(edges, len(x))
        states = self._split(x)
        for number in range(self.num_layers):
            states = self._layer(number, states, self._among(number, states, plan))
        return torch.cat(list(states.values()), dim=1)

    def states(self, x: Tensor, edges: Relations | TypedPlan) -> tuple[Tensor, ...]:
        """As `graphophone.nn.graph_stack.GraphStack.states`, modalities side by side."""
        plan = self._planned(edges, len(x))
        states, held = self._split(x), []
        for number in range(self.num_layers):
            held.append(torch.cat([self._near(n).shown(number, h, plan[n]) for n, h in states.items()], dim=1))
            if number + 1 < self.num_layers:
                states = self._layer(number, states, self._among(number, states, plan))
        return tuple(held)

    def answer(
        self,
        x: Tensor,
        bank: Sequence[Tensor],
        bank_edges: Relations,
        edge_weight: Mapping[tuple[str, str, str], Tensor] | None = None,
    ) -> Tensor:
        """As `graphophone.nn.graph_stack.GraphStack.answer`, with edges of the bank, and weights, by relation."""
        heard = {
            name: self._near(name).beside(
                _near_edges(bank_edges, name), len(x), None if edge_weight is None else edge_weight[name, "near", name]
            )
            for name in self.in_channels
        }
        states = self._split(x)
        for number in range(self.num_layers):
            known = dict(zip(self.in_channels, bank[number].chunk(2, dim=1), strict=True))
            found = {n: self._near(n).hear(number, h, known[n], heard[n]) for n, h in states.items()}
            states = self._layer(number, states, found)
        return torch.cat(list(states.values()), dim=1)

    def _among(self, number: int, states: dict[str, Tensor], plan: TypedPlan) -> dict[str, Tensor]:
        """What nodes hear from those of their own modality in layer ``number``."""
        return {name: self._near(name).convs[number](h, plan[name]) for name, h in states.items()}

    def _layer(self, number: int, states: dict[str, Tensor], heard: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One layer: from the own states and from what is heard of the same modality."""
        found = {}
        for name, other in self._pairs():
            across = cast(nn.ModuleList, self.across[name])
            out = heard[name] + across[number](states[other])
            found[name] = self._near(name).after(number, states[name], out)
        return found

    def _split(self, x: Tensor) -> dict[str, Tensor]:
        """States by modality; behind the first layer both are of the same width."""
        widths = list(self.in_channels.values())
        if x.shape[1] != sum(widths):
            widths = [x.shape[1] // 2] * 2
        return dict(zip(self.in_channels, x.split(widths, dim=1), strict=True))

    def _planned(self, edges: Relations | TypedPlan, count: int) -> TypedPlan:
        """Edges that are planned, or are now."""
        if all(name in edges for name in self.in_channels):
            return cast(TypedPlan, edges)
        return self.plan(cast(Relations, edges), count)


def _near_edges(edges: Relations, name: str) -> Tensor:
    """Edges between nodes of a modality."""
    if (name, "near", name) not in edges:
        raise GraphophoneError(f"there are no edges ({name}, near, {name}): give them as typed_edges does")
    return edges[name, "near", name]
