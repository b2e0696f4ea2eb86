"""Answers for new utterances among known ones: one alone gets the same as among a thousand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor

from graphophone.graphs.bank import ModalBank, TypedBank
from graphophone.graphs.modal import ModalKNN
from graphophone.graphs.modalities import has_modality, split_modalities
from graphophone.models.base import ModelError, evaluating
from graphophone.models.hemogat import HemoGAT, Tokens
from graphophone.nn.cross_attention import Sequences
from graphophone.nn.typed_stack import Relations

QUESTIONS = 4096
"""Utterances that are answered for at once."""


@dataclass(frozen=True, eq=False)
class BankAnswer:
    """What a model says of some utterances.

    Attributes:
        probabilities: ``[Q, classes]``; rows of utterances that no network can read are NaN.
        states: The vectors that are classified ``[Q, dims]``; narrower ones, of networks of one modality, are filled up
            with zeros.
        route: Name of the network that answered for each, empty where none could. [Q]
    """

    probabilities: Tensor
    states: Tensor
    route: list[str]


def has(x: Tensor, network: HemoGAT) -> Tensor:
    """Which utterances have all that a network reads.

    Args:
        x: Vectors of the modalities side by side, NaN where an utterance lacks one ``[N, dims]``.
        network: Its ``widths`` say which columns are whose.

    Returns:
        Bool ``[N]``.
    """
    parts = split_modalities(x, network.widths)
    there = torch.ones(len(x), dtype=torch.bool, device=x.device)
    for name in network.needs:
        there &= has_modality(parts[name])
    return there


def best_route(model: HemoGAT, x: Tensor) -> list[str]:
    """The network that answers for each utterance: that of both modalities if it has both; empty where there is none.

    Args:
        model: The network, with those of one modality if it holds any.
        x: As `has`.
    """
    found = [""] * len(x)
    for name, network in model.routes().items():
        for row in has(x, network).nonzero()[:, 0].tolist():
            found[row] = found[row] or name
    return found


def edges_among(network: HemoGAT, rules: ModalKNN, x: Tensor) -> Tensor | Relations:
    """The graph that a network reads.

    Args:
        network: Says whether nodes are utterances, or modalities of them.
        rules: How they are joined.
        x: Vectors of utterances that have what it reads ``[N, dims]``.

    Returns:
        ``[2, E]``, or by relation.
    """
    join = rules.typed_edges_of if network.typed else rules.edges_of
    return join(x, network.widths, only=network.needs)


class Bank:
    """Known utterances, and the states that they show in each layer; nothing of them changes when others come.

    Time and memory to make it: as one step of evaluation on the graph of the known utterances; memory afterwards: their
    vectors and states, ``[N, dims + sum of layer widths]`` floats for each network. An answer takes a search for the
    nearest of N known vectors per modality and the network on one node with its neighbours.

    Args:
        model: The network; used in evaluation mode.
        rules: How utterances are joined.
        x: Standardised vectors of the known utterances, on the device of the network ``[N, dims]``.
        plans: By network, the graph of those known utterances that it reads, as `HemoGAT.plan` gives it, where it is
            there already.
    """

    def __init__(self, model: HemoGAT, rules: ModalKNN, x: Tensor, *, plans: Mapping[str, Any] | None = None) -> None:
        self.model = model
        self.rules = rules
        self.x = x
        self._search: dict[str, ModalBank | TypedBank] = {}
        self._states: dict[str, tuple[Tensor, ...]] = {}
        self._known_edges: dict[str, Any] = dict(plans or {})

    def _network(self, name: str) -> HemoGAT:
        return self.model.routes()[name]

    def _rows(self, name: str) -> Tensor:
        """Vectors of those known utterances that a network reads."""
        return self.x[has(self.x, self._network(name))]

    def among_known(self, name: str) -> Any:
        """Edges among the known utterances of a network ``[2, E]``, by relation, or as it has planned them."""
        if name not in self._known_edges:
            self._known_edges[name] = self.edges_among(name, self._rows(name))
        return self._known_edges[name]

    def states(self, name: str) -> tuple[Tensor, ...]:
        """What the known utterances of a network show in each of its layers."""
        if name not in self._states:
            self._states[name] = self._network(name).states(self._rows(name), self.among_known(name))
        return self._states[name]

    def edges(self, name: str, x: Tensor) -> Tensor | Relations:
        """Known neighbours of new utterances ``[2, E]``, or by relation: numbers of a known and of a new one.

        Numbers of known ones count those that have what the network reads.

        Args:
            name: Of the network.
            x: Vectors of new utterances that have what it reads ``[Q, dims]``.
        """
        return self._searched(name).edges(self._queries(name, x))

    def nearest(self, name: str, x: Tensor) -> dict[str, Tensor]:
        """Known neighbours of one new utterance ``[1, dims]`` by modality, numbers ``[k]`` each; see `edges`."""
        found = self._searched(name).edges_by(self._queries(name, x))
        return {modality: edges[0] for modality, edges in zip(self._network(name).needs, found, strict=True)}

    def _searched(self, name: str) -> ModalBank | TypedBank:
        """The known utterances of a network, ready to be searched."""
        if name not in self._search:
            network = self._network(name)
            make = self.rules.typed_bank_of if network.typed else self.rules.bank_of
            self._search[name] = make(self._rows(name), network.widths, only=network.needs)
        return self._search[name]

    def _queries(self, name: str, x: Tensor) -> list[Tensor]:
        """Vectors of each modality that a network reads."""
        network = self._network(name)
        parts = split_modalities(x, network.widths)
        return [parts[modality] for modality in network.needs]

    def edges_among(self, name: str, x: Tensor) -> Tensor | Relations:
        """Edges of a graph of the new utterances alone; arguments as `edges`."""
        return edges_among(self._network(name), self.rules, x)

    @torch.no_grad()
    def answer_by(
        self, name: str, x: Tensor, edges: Tensor | Relations, sequences: Tokens | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits ``[Q, classes]`` and states ``[Q, dims]`` by one network; arguments as `edges`, and token vectors."""
        network = self._network(name)
        with evaluating(network):
            z = network.embed_new(x, self.states(name), edges, sequences=sequences)
            return network.classifier(z), z

    def answer(
        self,
        x: Tensor,
        *,
        edges: Mapping[str, Tensor | Relations] | None = None,
        sequences: Mapping[str, Sequences] | None = None,
    ) -> BankAnswer:
        """Answers for new utterances, each by the network that fits what it has.

        Args:
            x: Standardised vectors, NaN where an utterance lacks a modality ``[Q, dims]``.
            edges: By network, what `edges` gave for those of ``x`` that have what it reads; else they are found here.
            sequences: By modality, token vectors of all ``x``, for networks that attend over them; anything where an
                utterance lacks the modality.
        """
        if edges is None and len(x) > QUESTIONS:
            rows = torch.arange(len(x)).split(QUESTIONS)
            parts = [self.answer(x[part], sequences=taken(sequences, part)) for part in rows]
            return BankAnswer(
                torch.cat([part.probabilities for part in parts]),
                torch.cat([part.states for part in parts]),
                [name for part in parts for name in part.route],
            )
        route = best_route(self.model, x)
        probabilities = x.new_full((len(x), self.model.num_classes), torch.nan)
        states = x.new_zeros(len(x), self.wide)
        for name, network in self.model.routes().items():
            there = has(x, network)
            mine = torch.tensor([chosen == name for chosen in route], dtype=torch.bool, device=x.device)
            if not bool(mine.any()):
                continue
            asked = x[there]
            found = self.edges(name, asked) if edges is None else edges[name]
            logits, z = self.answer_by(name, asked, found, taken(sequences, there.nonzero()[:, 0]))
            keep = mine[there]
            p = logits[keep].softmax(dim=1)
            probabilities[mine] = p
            states[mine, : z.shape[1]] = z[keep]
        return BankAnswer(probabilities, states, route)

    @torch.no_grad()
    def answer_among(
        self,
        x: Tensor,
        *,
        edges: Mapping[str, Tensor | Relations] | None = None,
        sequences: Mapping[str, Sequences] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Probabilities and states of utterances in a graph of their own, as the released code evaluates.

        Each answer depends on which others are asked for.

        Args:
            x: As `answer`; every utterance must have what the network reads.
            edges: By network, what `edges_among` gave.
            sequences: As `answer`.

        Raises:
            ModelError: If an utterance lacks a modality.
        """
        name, network = next(iter(self.model.routes().items()))
        if not bool(has(x, network).all()):
            raise ModelError("an utterance lacks a modality: a graph of the split needs all; answer from the bank")
        found = self.edges_among(name, x) if edges is None else edges[name]
        with evaluating(network):
            z = network.embed(x, found, sequences=sequences)
            return network.classifier(z).softmax(dim=1), z

    @cached_property
    def wide(self) -> int:
        """Width of the states of the widest network."""
        return max(cast(int, network.classifier[0].in_features) for network in self.model.routes().values())

    def known(self, sequences: Mapping[str, Sequences] | None = None) -> tuple[Tensor, Tensor]:
        """Logits ``[N, classes]`` and states ``[N, dims]`` of the known utterances, in their own graph.

        Args:
            sequences: Their token vectors by modality.
        """
        name, network = next(iter(self.model.routes().items()))
        with torch.no_grad(), evaluating(network):
            z = network.embed(self.x, self.among_known(name), sequences=sequences)
            return network.classifier(z), z


def taken(sequences: Mapping[str, Sequences] | None, rows: Tensor) -> dict[str, Sequences] | None:
    """Token vectors of some utterances."""
    return None if sequences is None else {name: part.take(rows) for name, part in sequences.items()}
