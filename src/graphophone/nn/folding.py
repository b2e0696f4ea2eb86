"""Layers for inference with their batch normalisation folded into their weights.

What is folded no longer follows its layer: make it anew when weights change. Outputs equal those of the layer in
evaluation within rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from graphophone.nn.conv_ffn import ConvFFN
from graphophone.nn.drop_path import DropPath
from graphophone.nn.ffn import FFN
from graphophone.nn.lhg import GROUPS, GraphConv, GridClustering, LHGBlock
from graphophone.nn.onednn import conv2d, linear
from graphophone.nn.stem import ConvStem, Downsample

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)
_KNOWN = (
    *(nn.Module, nn.Sequential, nn.ModuleList, nn.Identity, nn.Conv2d, nn.GELU, *_NORMS),
    *(ConvFFN, ConvStem, Downsample, DropPath, FFN, GraphConv, GridClustering, LHGBlock),
)


def foldable(*modules: nn.Module) -> bool:
    """Whether folding keeps what modules do: all their layers are of the known kinds and in evaluation.

    A layer that was wrapped (an adapter), replaced, parametrised, or put back into training is not.
    """
    return all(
        type(part) in _KNOWN and not part.training and not (isinstance(part, _NORMS) and part.running_mean is None)
        for module in modules
        for part in module.modules()
    )


@torch.no_grad()
def fold_norm(conv: nn.Conv2d, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that does what ``conv``, then ``norm`` in evaluation, do."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise ValueError("a batch normalisation that keeps no statistics cannot be folded")
    scale = norm.weight * (variance + norm.eps).rsqrt()
    bias = -mean if conv.bias is None else conv.bias - mean
    return conv.weight * scale[:, None, None, None], norm.bias + bias * scale


class FoldedConvs:
    """A chain of 3x3 convolutions, each with its batch normalisation, some with a GELU: a stem, a downsampling.

    Args:
        layers: Convolution, normalisation, and GELU or not, repeated.
    """

    def __init__(self, layers: nn.Sequential) -> None:
        self.steps: list[tuple[Tensor, Tensor, int, int, bool]] = []
        modules: list[Any] = [*layers, None]
        for i, module in enumerate(modules[:-2]):
            if isinstance(module, nn.Conv2d):
                weight, bias = fold_norm(module, modules[i + 1])
                weight = weight.contiguous(memory_format=torch.channels_last)
                gelu = isinstance(modules[i + 2], nn.GELU)
                self.steps.append((weight, bias, module.stride[0], int(module.padding[0]), gelu))

    def __call__(self, x: Tensor) -> Tensor:
        """``[B, in, H, W]`` to ``[B, out, H', W']``."""
        for weight, bias, stride, padding, gelu in self.steps:
            x = conv2d(x, weight, bias, stride=stride, padding=padding, gelu=gelu)
        return x


class FoldedFFN:
    """A `ConvFFN` or `FFN` in evaluation, ``[B, H, W, C]`` to the same shape."""

    def __init__(self, block: ConvFFN | FFN) -> None:
        first: Any = block.fc1
        last: Any = block.fc2
        weight, self.bias1 = fold_norm(first[0], first[1])
        self.weight1 = weight.flatten(1)
        self.depthwise = block.dwconv if isinstance(block, ConvFFN) else None
        weight, self.bias2 = fold_norm(last[0], last[1])
        self.weight2 = weight.flatten(1)

    def __call__(self, x: Tensor) -> Tensor:
        """``[B, H, W, C]`` to the same shape."""
        flat = x.view(-1, x.size(-1))
        hidden = linear(flat, self.weight1, self.bias1, gelu=True)
        if self.depthwise is not None:
            grid = hidden.view(*x.shape[:3], -1).permute(0, 3, 1, 2)
            grid = conv2d(grid, self.depthwise.weight, self.depthwise.bias, padding=1, groups=grid.size(1))
            hidden = grid.permute(0, 2, 3, 1).reshape(len(flat), -1)
        return linear(hidden, self.weight2, self.bias2, residual=flat).view(x.shape)


class FoldedLHG:
    """An `LHGBlock` in evaluation.

    The subtraction of the node in both relative terms is folded into the weight of the grouped layer:
    ``W [z, max y - z, max c - z] = (W_z - W_a - W_b) z + W_a max y + W_b max c``.
    """

    def __init__(self, block: LHGBlock) -> None:
        self.block = block
        first: Any = block.fc1
        grouped: Any = block.graph_conv.gconv.nn
        last: Any = block.fc2
        weight, self.bias1 = fold_norm(first[0], first[1])
        self.weight1 = weight.flatten(1)
        weight, self.bias2 = fold_norm(grouped[0], grouped[1])
        channels = len(self.weight1)
        ways, quarter = len(weight) // channels, channels // GROUPS
        parts = weight.view(len(weight), quarter, ways).transpose(1, 2).contiguous()
        parts[:, 0] -= parts[:, 1:].sum(1)
        self.weight2 = parts.view(len(weight), ways * quarter, 1, 1)
        weight, self.bias3 = fold_norm(last[0], last[1])
        self.weight3 = weight.flatten(1)

    def __call__(self, x: Tensor, closeness: Tensor | None = None) -> Tensor:
        """``[B, H, W, C]`` to the same shape; ``closeness`` as for the block."""
        batch, height, width, channels = x.shape
        flat = x.view(-1, channels)
        z = linear(flat, self.weight1, self.bias1).view(x.shape)
        parts = self.block.maxima(z, closeness)
        joined = torch.cat([part.view(len(flat), GROUPS, 1, -1) for part in parts], 2)
        wide = joined.view(batch, height, width, -1).permute(0, 3, 1, 2)
        wide = conv2d(wide, self.weight2, self.bias2, groups=GROUPS, gelu=True)
        wide = wide.permute(0, 2, 3, 1).reshape(len(flat), -1)
        return linear(wide, self.weight3, self.bias3, residual=flat).view(x.shape)
