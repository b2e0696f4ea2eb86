"""Positive random features of the softmax kernel (Choromanski et al., "Rethinking attention with performers", 2021)."""

from __future__ import annotations

import torch
from torch import Tensor


def orthogonal_projection(
    features: int, dims: int, *, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Random directions: every row as a Gaussian vector by itself, the rows of a block orthogonal to each other.

    Args:
        features: m.
        dims: D; m rows are drawn in blocks of D.
        generator: Where the numbers come from; None: torch's own.
        dtype: Of the result.

    Returns:
        ``[m, D]``.
    """
    blocks = -(-features // dims)
    gaussian = torch.randn(blocks, dims, dims, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    # Householder's Q prefers a sign; with that of R's diagonal taken out, Q is uniform among the rotations.
    q = q * r.diagonal(dim1=1, dim2=2).sign()[:, None, :]
    norms = torch.randn(features, dims, generator=generator, dtype=torch.float64).norm(dim=1, keepdim=True)
    return (q.transpose(1, 2).flatten(0, 1)[:features] * norms).to(dtype)


def log_kernel(
    q: Tensor,
    k: Tensor,
    projection: Tensor,
    real: Tensor | None = None,
    epsilon: float = 1e-6,
    *,
    separate: bool = False,
) -> Tensor:
    r"""Logarithm of what random features make of :math:`\exp(q^T k)`.

    .. math:: \phi(x) = m^{-1/2} ( \exp(P x - |x|^2 / 2 - c) + \epsilon )

    c is the largest P x of a query, and the largest of all keys; a softmax over the keys does not see it.

    Args:
        q: Queries ``[..., N, D]``, already scaled.
        k: Keys ``[..., N', D]``, already scaled.
        projection: P ``[m, D]``.
        real: False for keys that are padding, broadcast to ``[..., N']``; None: all are real.
        epsilon: Keeps the kernel above zero.
        separate: Whether c is the largest P x of each key by itself, and put back after the logarithm: epsilon then
            lets no key say anything of another, which matters where a query may not hear them all.

    Returns:
        ``[..., N, N']``.
    """
    raised = q @ projection.T
    features = torch.exp(raised - q.square().sum(-1, keepdim=True) / 2 - raised.amax(-1, keepdim=True).detach())
    raised = k @ projection.T
    if real is not None and not separate:
        raised = raised.masked_fill(~real[..., None], torch.finfo(raised.dtype).min)
    top = raised.amax(-1 if separate else (-2, -1), keepdim=True).detach()
    others = torch.exp(raised - k.square().sum(-1, keepdim=True) / 2 - top)
    logarithm = torch.log((features + epsilon) @ (others + epsilon).transpose(-1, -2) / len(projection))
    return logarithm + top.transpose(-1, -2) if separate else logarithm
