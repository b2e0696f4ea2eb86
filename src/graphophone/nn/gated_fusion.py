"""Several views of the same nodes, made one."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from graphophone.errors import GraphophoneError

Combine = Literal["gated", "concat"]


class FusionError(GraphophoneError):
    """Views that cannot be fused."""


class GatedSum(nn.Module):
    r"""A sum in which each part decides by itself how much of each of its numbers it gives.

    .. math:: y = \textstyle\sum_i \sigma(W_i x_i + b_i) \odot x_i

    It joins context and speaker in RIGSL (Xiong et al., 2025), and the graphs in its end. Zeros stay zeros, whatever
    the weights.

    Args:
        channels: d, width of every part.
        inputs: How many parts.
        combine: ``"gated"``, or ``"concat"``: side by side instead, without weights.

    Attributes:
        out_channels: d, or ``inputs`` times d.

    Shapes:
        ``inputs`` tensors ``[..., d]`` -> ``[..., out_channels]``.

    Raises:
        FusionError: If ``combine`` is unknown, or another number of parts is given.
    """

    def __init__(self, channels: int, inputs: int, *, combine: Combine = "gated") -> None:
        super().__init__()
        if combine not in get_args(Combine):
            raise FusionError(f"unknown combine {combine!r}; choose from {', '.join(get_args(Combine))}")
        self.inputs = inputs
        self.combine: Combine = combine
        self.out_channels = channels * (1 if combine == "gated" else inputs)
        gates = [nn.Linear(channels, channels) for _ in range(inputs if combine == "gated" else 0)]
        for gate in gates:
            nn.init.xavier_uniform_(gate.weight)
        self.gates = nn.ModuleList(gates)

    def forward(self, *parts: Tensor) -> Tensor:
        """Fuse the parts."""
        if len(parts) != self.inputs:
            raise FusionError(f"{len(parts)} parts to fuse, but weights for {self.inputs}; give as many as `inputs`")
        if self.combine == "concat":
            return torch.cat(parts, dim=-1)
        out = self.gates[0](parts[0]).sigmoid() * parts[0]
        for gate, part in zip(self.gates[1:], parts[1:], strict=True):
            out = torch.addcmul(out, gate(part).sigmoid(), part)
        return out
