"""Convolutions and normalisations of maps that are kept with their channels last, ``[B, H, W, C]``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


def batch_norm(x: Tensor, norm: nn.Module) -> Tensor:
    """A batch normalisation (``nn.BatchNorm1d``) of ``[..., C]`` over all but the channels.

    As a matrix of rows: for images of one pixel PyTorch takes a path whose gradient is up to thirty times as slow.
    """
    return norm(x.reshape(-1, x.size(-1))).reshape(x.shape)


def pointwise_norm(x: Tensor, layers: nn.Sequential) -> Tensor:
    """A 1x1 convolution and its batch normalisation of ``[..., C]``, the convolution as a product of matrices."""
    conv: Any = layers[0]
    return batch_norm(F.linear(x, conv.weight.flatten(1), conv.bias), layers[1])


def convolve(x: Tensor, conv: Callable[[Tensor], Tensor]) -> Tensor:
    """A convolution (or a chain of layers of images) of ``[B, H, W, C]``."""
    return conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous()
