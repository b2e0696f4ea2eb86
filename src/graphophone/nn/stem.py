"""From a picture to the nodes of a grid, and from a grid to a coarser one."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor, nn

Stem = Literal["three", "four"]


class ConvStem(nn.Module):
    """Convolutions that make one node of 4 x 4 pixels.

    Args:
        in_channels: Channels of the picture (a spectrogram has one).
        channels: C, even.
        kind: ``"three"`` 3x3 convolutions with strides 2, 2, 1, as in Han et al., "Vision GNN" (2022); ``"four"`` with
            strides 2, 1, 2, 1, as the text of Singh et al., "LHGNN" (2025), has it. Each is followed by a batch
            normalisation, all but the last by a GELU too.

    Shapes:
        ``[B, in_channels, F, T]`` -> ``[B, C, ceil(F / 4), ceil(T / 4)]``.
    """

    def __init__(self, in_channels: int, channels: int, kind: Stem = "three") -> None:
        super().__init__()
        if kind not in get_args(Stem):
            raise ValueError(f"unknown stem {kind!r}; choose from {', '.join(get_args(Stem))}")
        half = channels // 2
        plan = [(in_channels, half, 2), (half, channels, 2), (channels, channels, 1)]
        if kind == "four":
            plan = [(in_channels, half, 2), (half, half, 1), (half, channels, 2), (channels, channels, 1)]
        layers: list[nn.Module] = []
        for before, after, stride in plan:
            layers += [nn.Conv2d(before, after, 3, stride, 1), nn.BatchNorm2d(after), nn.GELU()]
        self.convs = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """``[B, in_channels, F, T]`` to ``[B, C, ceil(F / 4), ceil(T / 4)]``."""
        return self.convs(x)


class Downsample(nn.Module):
    """A 3x3 convolution with stride 2 and a batch normalisation: half the grid in each direction, rounded up.

    Shapes:
        ``[B, in_channels, H, W]`` -> ``[B, out_channels, ceil(H / 2), ceil(W / 2)]``.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, 2, 1), nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """``[B, in_channels, H, W]`` to ``[B, out_channels, ceil(H / 2), ceil(W / 2)]``."""
        return self.conv(x)
