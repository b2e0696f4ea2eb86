"""Stochastic depth."""

from __future__ import annotations

from torch import Tensor, nn


class DropPath(nn.Module):
    """Drops a residual branch for whole items of a batch (Huang et al., "Deep Networks with Stochastic Depth", 2016).

    Args:
        probability: Of dropping, in training; what is kept is divided by its complement.
    """

    def __init__(self, probability: float = 0.0) -> None:
        super().__init__()
        if not 0 <= probability < 1:
            raise ValueError(f"drop path of {probability}: give a probability from 0 to below 1")
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """``[B, ...]`` to the same shape."""
        if not self.training or self.probability == 0:
            return x
        kept = 1 - self.probability
        mask = x.new_empty((x.size(0),) + (1,) * (x.ndim - 1)).bernoulli_(kept)
        return x * mask.div_(kept)

    def extra_repr(self) -> str:
        """Probability, for printing."""
        return f"{self.probability:.3g}"
