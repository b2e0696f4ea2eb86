"""The feed-forward part of a block, without any look at the neighbours."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from graphophone.nn.channels_last import pointwise_norm
from graphophone.nn.drop_path import DropPath


class FFN(nn.Module):
    r"""Two layers on every node of a grid.

    .. math:: y = x + \mathrm{DropPath}(\mathrm{BN}(W_2\,\mathrm{GELU}(\mathrm{BN}(W_1 x + b_1)) + b_2))

    As Han et al., "Vision GNN" (2022), have it; `ConvFFN` has a convolution between the two.

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
        self.fc1 = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.BatchNorm1d(hidden))
        self.fc2 = nn.Sequential(nn.Conv2d(hidden, channels, 1), nn.BatchNorm1d(channels))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, H, W, C]`` to the same shape."""
        hidden = F.gelu(pointwise_norm(x, self.fc1))
        return x + self.drop_path(pointwise_norm(hidden, self.fc2))
