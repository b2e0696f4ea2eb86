r"""Gates that cut edges of a dialogue or leave them open, learned by their hard concrete relaxation.

A gate is :math:`g = \mathrm{clamp}(s (\zeta - \gamma) + \gamma, 0, 1)` of a sigmoid s with noise: with
:math:`\gamma < 0 < 1 < \zeta` it is 0 and 1 with positive probability, and has a gradient in between (Louizos et al.,
`"Learning Sparse Neural Networks through L0 Regularization" <https://arxiv.org/abs/1712.01312>`_, 2018).
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphophone.errors import GraphophoneError
from graphophone.nn.dialogue import KINDS, DialogueGraph, EdgeTables

_EDGE_OF_NOISE = 1e-7
_QUADRATURE = 64
_POINTS = 8  # of the mean that stands for drawn gates in evaluation: within 1e-4 of the integral


def open_probability(
    log_alpha: Tensor, *, temperature: float = 2.0, gamma: float = -0.95, zeta: float = 1.05
) -> Tensor:
    r"""Chance :math:`P(g > 0) = \sigma(\log\alpha - \beta \ln(-\gamma / \zeta))` that a gate is not closed."""
    return torch.sigmoid(log_alpha - temperature * math.log(-gamma / zeta))


def full_probability(
    log_alpha: Tensor, *, temperature: float = 2.0, gamma: float = -0.95, zeta: float = 1.05
) -> Tensor:
    r"""Chance :math:`P(g = 1) = \sigma(\log\alpha - \beta \ln((1 - \gamma) / (\zeta - 1)))` of a fully open gate."""
    return torch.sigmoid(log_alpha - temperature * math.log((1 - gamma) / (zeta - 1)))


def expected_gate(
    log_alpha: Tensor, *, temperature: float = 2.0, gamma: float = -0.95, zeta: float = 1.05, points: int = _QUADRATURE
) -> Tensor:
    r"""Mean :math:`E[g] = \int_0^1 P(g > t)\,dt` of a gate under noise, by Gauss's quadrature at ``points`` places."""
    places, weights = np.polynomial.legendre.leggauss(points)
    t = torch.as_tensor((places + 1) / 2, dtype=log_alpha.dtype, device=log_alpha.device)
    share = torch.as_tensor(weights / 2, dtype=log_alpha.dtype, device=log_alpha.device)
    beyond = torch.sigmoid(log_alpha[..., None] - temperature * torch.logit((t - gamma) / (zeta - gamma)))
    return (beyond * share).sum(dim=-1)


def pair_scores(target: Tensor, source: Tensor) -> EdgeTables:
    """For every edge that there can be the sum of a number of its target and one of its source, ``[B, M, T]`` each.

    This is what a linear function of both ends' states side by side comes to, without ever putting them there.
    """
    return EdgeTables(
        target[..., :, None] + source[..., None, :],
        target.transpose(1, 2)[..., :, None] + source.transpose(1, 2)[..., None, :],
    )


class HardConcreteGate(nn.Module):
    r"""A gate on every edge of a dialogue, as in RIGSL (Xiong et al., 2025).

    .. math::
        q = A z + b, \qquad \log\alpha_{ji} = w_k^T [q_j \Vert q_i] + c_k

    for an edge of kind k (`graphophone.nn.dialogue.KINDS`) from j to i. In training
    :math:`s = \sigma((\mathrm{logit}(U) + \log\alpha) / \beta)` with U uniform, in evaluation, and without ``noise``,
    :math:`s = \sigma(\log\alpha)`; :math:`g = \mathrm{clamp}(s (\zeta - \gamma) + \gamma, 0, 1)`. In evaluation an
    edge is cut iff :math:`\log\alpha \le \mathrm{logit}(-\gamma / (\zeta - \gamma))`, -0.1 with the default bounds.

    With these bounds that gate is far below the mean of those that training saw (0.05 against 0.22 at
    :math:`\log\alpha = 0` and a temperature of 1.5): a network that has learned with half of its edges open answers
    with nearly none. ``answer="mean"`` takes the mean itself instead; no edge is then wholly cut.

    The score is linear in z, so that A is applied to the six vectors w and not to the nodes: nothing of an edge is
    wider than one number.

    Args:
        channels: Width of z.
        temperature: :math:`\beta`.
        gamma: Lower end of the stretched sigmoid, below 0.
        zeta: Upper end, above 1.
        noise: Whether gates are drawn in training.
        answer: What a drawn gate becomes in evaluation: the ``"point"`` above, or its ``"mean"``.

    Shapes:
        z ``[B, M, T, channels]``, zeros at absent nodes -> gates (0 where there is no edge) and their penalty, the mean
        over all edges of the batch of :math:`P(g > 0)`, a scalar, 0 where there is no edge at all.

    Raises:
        GraphophoneError: If the bounds or the temperature make no gate.
    """

    def __init__(
        self,
        channels: int,
        *,
        temperature: float = 2.0,
        gamma: float = -0.95,
        zeta: float = 1.05,
        noise: bool = True,
        answer: Literal["point", "mean"] = "point",
    ) -> None:
        super().__init__()
        if not (gamma < 0 and zeta > 1 and temperature > 0):
            raise GraphophoneError(
                f"gates with gamma {gamma}, zeta {zeta}, temperature {temperature} never close or open: "
                "gamma must be below 0, zeta above 1, temperature above 0"
            )
        self.channels = channels
        self.temperature = temperature
        self.gamma = gamma
        self.zeta = zeta
        if answer not in ("point", "mean"):
            raise GraphophoneError(f"gates answer by point or by mean, not by {answer!r}")
        self.noise = noise
        self.answer = answer
        self.shared = nn.Linear(channels, channels)
        self.score = nn.Linear(2 * channels, len(KINDS))

    @property
    def bounds(self) -> dict[str, float]:
        """Temperature and ends, as the closed forms take them."""
        return {"temperature": self.temperature, "gamma": self.gamma, "zeta": self.zeta}

    def log_alpha(self, z: Tensor, graph: DialogueGraph) -> EdgeTables:
        """Scores of all edges; where there is no edge they mean nothing."""
        ends = self.score.weight.unflatten(1, (2, self.channels))
        shift = ends @ self.shared.bias
        source, target = (
            F.linear(z, (ends @ self.shared.weight).flatten(0, 1), shift.flatten())
            .unflatten(-1, (len(KINDS), 2))
            .unbind(-1)
        )
        target = target + self.score.bias
        other, same, across = (pair_scores(target[..., kind], source[..., kind]) for kind in range(len(KINDS)))
        return EdgeTables(torch.where(graph.same_speaker[:, None], same.within, other.within), across.across)

    def gates(self, log_alpha: Tensor) -> Tensor:
        """Gates from scores: drawn in training, where there is noise, certain otherwise."""
        if self.noise and not self.training and self.answer == "mean":
            return expected_gate(log_alpha, **self.bounds, points=_POINTS)
        if self.training and self.noise:
            drawn = torch.empty_like(log_alpha).uniform_(_EDGE_OF_NOISE, 1 - _EDGE_OF_NOISE)
            log_alpha = (torch.logit(drawn) + log_alpha) / self.temperature
        return (torch.sigmoid(log_alpha) * (self.zeta - self.gamma) + self.gamma).clamp(0, 1)

    def forward(self, z: Tensor, graph: DialogueGraph) -> tuple[EdgeTables, Tensor]:
        """Gates of all edges, and the mean chance that one is open."""
        gates, _, penalty = self.surviving(z, graph)
        return gates, penalty

    def surviving(self, z: Tensor, graph: DialogueGraph) -> tuple[EdgeTables, EdgeTables, Tensor]:
        """Gates of all edges, whether each is open, as a number without gradient, and the penalty.

        Where gates answer by their mean, it is the chance to be open: what a node hears is then as large as it was in
        training, where the norm of an edge counts the edges that were open beside it.
        """
        scores = self.log_alpha(z, graph)
        gates = EdgeTables(
            self.gates(scores.within).masked_fill(~graph.within, 0),
            self.gates(scores.across).masked_fill(~graph.across, 0),
        )
        chances = EdgeTables(
            open_probability(scores.within, **self.bounds).masked_fill(~graph.within, 0),
            open_probability(scores.across, **self.bounds).masked_fill(~graph.across, 0),
        )
        certain = self.training or not self.noise or self.answer == "point"
        opened = (table.detach() for table in (gates if certain else chances))
        survives = EdgeTables(*((table != 0).to(table.dtype) if certain else table for table in opened))
        return gates, survives, chances.total() / graph.num_edges.clamp(min=1)
