"""The feed-forward part of a block, with a depthwise convolution between its two layers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from graphophone.nn.channels_last import convolve, pointwise_norm
from graphophone.nn.drop_path import DropPath


class ConvFFN(nn.Module):
    r"""Feed-forward layers with a depthwise 3x3 convolution, for local detail.

    .. math:: y = x + \mathrm{DropPath}(\mathrm{BN}(W_2\,\mathrm{DW}_{3\times3}(\mathrm{GELU}(\mathrm{BN}(W_1 x)))))

    As Singh et al., "LHGNN" (2025), section II-B2, use it; the convolution has a bias, the two layers have none.

    Args:
        channels: C.
        expansion: Width of the hidden layer, in C.
        drop_path: Probability of dropping the branch.

    Shapes:
        ``[B, H, W, C]`` -> ``[B, H, W, C]``.
    """

    def __init__(self, channels: int, *, expansion: int = 4, drop_path: float = 0.0) -> None:
        super().__init__()
        hidden = expansion * channels
        self.fc1 = nn.Sequential(nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm1d(hidden))
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.fc2 = nn.Sequential(nn.Conv2d(hidden, channels, 1, bias=False), nn.BatchNorm1d(channels))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, H, W, C]`` to the same shape."""
        hidden = F.gelu(pointwise_norm(x, self.fc1))
        hidden = convolve(hidden, self.dwconv)
        return x + self.drop_path(pointwise_norm(hidden, self.fc2))
