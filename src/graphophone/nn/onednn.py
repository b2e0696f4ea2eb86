"""Layers for inference on CPUs that apply what follows them while their output is still in the cache.

oneDNN, which PyTorch's CPU builds carry, has matrix products and convolutions that add a residual or apply a GELU to
what they have just computed. PyTorch calls them from compiled graphs only; where its operators are missing or differ
from the plain layers, those are used.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def _fused_linear(x: Tensor, weight: Tensor, bias: Tensor, gelu: bool, residual: Tensor | None) -> Tensor:
    operator: Any = torch.ops.mkldnn._linear_pointwise
    if residual is not None:
        return operator.binary(x, residual, weight, bias, "add")
    return operator(x, weight, bias, "gelu" if gelu else "none", [], "none" if gelu else "")


def _fused_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, groups: int, gelu: bool
) -> Tensor:
    operator: Any = torch.ops.mkldnn._convolution_pointwise
    attribute, algorithm = ("gelu", "none") if gelu else ("none", "")
    return operator(x, weight, bias, [padding] * 2, [stride] * 2, [1, 1], groups, attribute, [], algorithm)


def _plain_linear(x: Tensor, weight: Tensor, bias: Tensor, gelu: bool, residual: Tensor | None) -> Tensor:
    out = F.linear(x, weight, bias)
    if residual is not None:
        return out + residual
    return F.gelu(out) if gelu else out


def _plain_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, groups: int, gelu: bool
) -> Tensor:
    out = F.conv2d(x, weight, bias, stride, padding, 1, groups)
    return F.gelu(out) if gelu else out


@functools.cache
def available() -> bool:
    """Whether the fused layers are there and agree with the plain ones; tried once."""
    if not torch.backends.mkldnn.is_available():
        return False
    with torch.inference_mode():
        values = torch.linspace(-2, 2, 8 * 4 * 4)
        x, weight, bias = values.view(16, 8), values[:64].view(8, 8), values[:8]
        picture = values.view(1, 8, 4, 4).contiguous(memory_format=torch.channels_last)
        kernel = values[:72].view(8, 1, 3, 3)
        try:
            for gelu, residual in ((True, None), (False, x), (False, None)):
                if not torch.allclose(
                    _fused_linear(x, weight, bias, gelu, residual),
                    _plain_linear(x, weight, bias, gelu, residual),
                    atol=1e-5,
                ):
                    return False
            for gelu in (True, False):
                if not torch.allclose(
                    _fused_conv(picture, kernel, bias, 2, 1, 8, gelu),
                    _plain_conv(picture, kernel, bias, 2, 1, 8, gelu),
                    atol=1e-5,
                ):
                    return False
        except (RuntimeError, TypeError, AttributeError):  # operators for compiled graphs may change without notice
            return False
    return True


def _usable(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and bool(torch.backends.mkldnn.enabled) and available()


def linear(x: Tensor, weight: Tensor, bias: Tensor, *, gelu: bool = False, residual: Tensor | None = None) -> Tensor:
    """``x W^T + b``, then a GELU, or with a residual added.

    Args:
        x: ``[N, in]``.
        weight: ``[out, in]``.
        bias: ``[out]``.
        gelu: Apply the (exact) GELU; not with a residual.
        residual: ``[N, out]``.

    Returns:
        ``[N, out]``.
    """
    return (_fused_linear if _usable(x) else _plain_linear)(x, weight, bias, gelu, residual)


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    gelu: bool = False,
) -> Tensor:
    """A convolution, then a GELU if asked.

    Args:
        x: ``[B, in, H, W]``; channels-last memory is fastest.
        weight: ``[out, in / groups, h, w]``.
        bias: ``[out]`` or None.
        stride: In both directions.
        padding: Zeros on every side.
        groups: Groups of channels.
        gelu: Apply the (exact) GELU.

    Returns:
        ``[B, out, H', W']``.
    """
    return (_fused_conv if _usable(x) else _plain_conv)(x, weight, bias, stride, padding, groups, gelu)
