r"""GraphMix: a fully connected network teaches the graph network that it shares its weights with.

Verma, Qu, Kawaguchi, Lamb, Bengio, Kannala, Tang, "GraphMix: Improved Training of GNNs for Semi-Supervised Learning"
(AAAI 2021): beside the graph network's own loss, the same layers without propagation are trained by Manifold Mixup on
labelled nodes, and on unlabelled ones with targets that the graph network predicts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from graphophone.errors import GraphophoneError
from graphophone.nn.sparse import Edges, Matrix, SparseMatrix


@dataclass(frozen=True)
class Mix:
    """How hidden states are mixed: ``share * h + (1 - share) * h[partner]`` behind a layer.

    Attributes:
        layer: Behind how many layers; 0 mixes the input.
        share: Weight of a node's own state.
        partner: The other node of each ``[N]``.
    """

    layer: int
    share: float
    partner: Tensor


class SharedNetwork(Protocol):
    """A graph network that can also be run without its graph."""

    num_layers: int

    def __call__(self, x: Any, edge_index: Any, edge_weight: Tensor | None = None) -> Tensor:
        """Logits ``[N, C]`` of the graph network."""

    def pointwise(self, x: Any, mix: Mix | None = None) -> Tensor:
        """Logits ``[N, C]`` of the same layers without propagation."""


@dataclass(frozen=True)
class GraphMix:
    """What GraphMix adds to the loss of a graph network.

    Args:
        alpha: Mixing shares are drawn from Beta(alpha, alpha).
        temperature: Predicted targets are raised to its inverse and normalised again: below 1, they get sharper.
        draws: Passes of the graph network, with dropout, whose mean makes those targets.
        largest: Weight of the part on unlabelled nodes after it has grown.
        ramp: Share of the training over which it grows, linearly, from 0.
    """

    alpha: float = 1.0
    temperature: float = 0.1
    draws: int = 10
    largest: float = 1.0
    ramp: float = 0.5

    def __post_init__(self) -> None:
        if self.alpha <= 0 or self.temperature <= 0 or self.draws < 1 or self.largest < 0 or not 0 <= self.ramp <= 1:
            raise GraphophoneError(
                f"{self}: alpha and temperature must be above 0, draws at least 1, largest at least 0, ramp in [0, 1]"
            )

    def weight(self, progress: float) -> float:
        """Weight of the part on unlabelled nodes after a share ``progress`` of the training."""
        return self.largest if progress >= self.ramp else self.largest * max(progress, 0.0) / self.ramp

    def targets(
        self, network: SharedNetwork, x: Matrix, edge_index: Edges, edge_weight: Tensor | None = None
    ) -> Tensor:
        """Sharpened mean prediction of the graph network, as it is set (in training: with dropout). ``[N, C]``."""
        with torch.no_grad():
            if isinstance(x, SparseMatrix) and isinstance(edge_index, SparseMatrix):  # all draws in one pass
                drawn = network(x.stack(self.draws), edge_index.blocks(self.draws)).softmax(dim=1)
                drawn = drawn.view(self.draws, x.shape[0], -1)
            else:
                drawn = torch.stack([network(x, edge_index, edge_weight).softmax(dim=1) for _ in range(self.draws)])
            return sharpen(drawn.mean(dim=0), self.temperature)

    def losses(
        self,
        network: SharedNetwork,
        x: Matrix,
        edge_index: Edges,
        edge_weight: Tensor | None,
        y: Tensor,
    ) -> dict[str, Tensor]:
        """Losses of the fully connected network, not weighted.

        Args:
            network: The network with shared weights.
            x: Node features ``[N, dims]``.
            edge_index: Sources and targets ``[2, E]``; as features, in whichever form the network reads them.
            edge_weight: Weights ``[E]``, or None.
            y: Labels ``[N]``, -1 where there is none.

        Returns:
            ``mix_labelled``, and ``mix_unlabelled`` where there are unlabelled nodes.
        """
        known, free = (y >= 0).nonzero()[:, 0], (y < 0).nonzero()[:, 0]
        predicted = self.targets(network, x, edge_index, edge_weight)
        truth = torch.zeros_like(predicted[known]).scatter_(1, y[known, None], 1.0)
        losses = {"mix_labelled": self._mixed(network, _rows(x, known), truth)}
        if len(free):
            losses["mix_unlabelled"] = self._mixed(network, _rows(x, free), predicted[free])
        return losses

    def _mixed(self, network: SharedNetwork, x: Matrix, target: Tensor) -> Tensor:
        """Cross-entropy against mixed targets."""
        share = torch.distributions.Beta(self.alpha, self.alpha).sample().item()
        layer = int(torch.randint(1, network.num_layers + 1, ()))
        partner = torch.randperm(len(target), device=target.device)
        log_p = network.pointwise(x, Mix(layer, share, partner)).log_softmax(dim=1)
        mixed = share * target + (1 - share) * target[partner]
        return -(mixed * log_p).sum(dim=1).mean()


def sharpen(p: Tensor, temperature: float) -> Tensor:
    """Probabilities ``[N, C]`` to the power of 1 / temperature, normalised again."""
    return (p.clamp(min=torch.finfo(p.dtype).tiny).log() / temperature).softmax(dim=1)


def _rows(x: Matrix, index: Tensor) -> Matrix:
    """Some rows of features."""
    return x.take(index) if isinstance(x, SparseMatrix) else x.index_select(0, index)
