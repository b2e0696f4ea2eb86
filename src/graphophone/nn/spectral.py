r"""The graph Fourier transform of paths and cycles, by fast transforms instead of eigenvectors.

The eigenvectors of the normalised Laplacian of a cycle or path of n nodes are known in closed form. With the real
Fourier basis of the cycle,

.. math::
    1/\sqrt n, \quad \sqrt{2/n} \cos(2\pi k t / n), \quad \sqrt{2/n} \sin(2\pi k t / n), \quad
    (-1)^t / \sqrt n \text{ for even } n,

and the path's :math:`u_k(t) \propto \sqrt{d_t} \cos(\pi k t / (n - 1))` (d: degree), the transform of n nodes costs
:math:`O(n \log n)`. The cycle has double eigenvalues, so its eigenvectors are a choice; the real Fourier basis is one
that every length shares. Both bases are orthonormal, so the inverse is the transpose.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def cycle_transform(x: Tensor) -> Tensor:
    """Coefficients of signals on a cycle in the real Fourier basis.

    Args:
        x: Signals ``[batch, n, channels]``.

    Returns:
        ``[batch, n, channels]``: mean, then cosines, then sines (k = 1, 2, ...), cosines by ascending frequency and
        up to n/2.
    """
    n = x.size(1)
    spectrum = torch.fft.rfft(x, dim=1, norm="ortho")
    pairs = (n - 1) // 2
    cosines = torch.cat([spectrum[:, :1].real, 2**0.5 * spectrum[:, 1 : pairs + 1].real], dim=1)
    sines = -(2**0.5) * spectrum[:, 1 : pairs + 1].imag
    return torch.cat([cosines, spectrum[:, pairs + 1 :].real, sines], dim=1)


def cycle_inverse(y: Tensor) -> Tensor:
    """Signals on a cycle from `cycle_transform`'s coefficients ``[batch, n, channels]``."""
    n = y.size(1)
    pairs = (n - 1) // 2
    cosines, sines = y[:, : n - pairs], y[:, n - pairs :]
    real = torch.cat([cosines[:, :1], cosines[:, 1 : pairs + 1] / 2**0.5, cosines[:, pairs + 1 :]], dim=1)
    imaginary = torch.zeros_like(real)
    imaginary[:, 1 : pairs + 1] = -sines / 2**0.5
    return torch.fft.irfft(torch.complex(real, imaginary), n=n, dim=1, norm="ortho")


def _cosine_sums(z: Tensor) -> Tensor:
    """sum_t z_t cos(pi k t / (n - 1)) for k = 0 ... n - 1, of ``[batch, n, channels]`` with n > 1."""
    n = z.size(1)
    even = torch.cat([2 * z[:, :1], z[:, 1 : n - 1], 2 * z[:, n - 1 :], z[:, 1 : n - 1].flip(1)], dim=1)
    return torch.fft.rfft(even, dim=1).real / 2


def _path_factors(n: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Roots of the degrees, and norms of the unscaled eigenvectors, ``[n, 1]`` each."""
    ends = torch.tensor([0, n - 1], device=like.device)
    roots = torch.full((n, 1), 2.0, dtype=like.dtype, device=like.device).index_fill_(0, ends, 1.0).sqrt()
    norms = torch.full((n, 1), n - 1.0, dtype=like.dtype, device=like.device)
    return roots, norms.index_fill_(0, ends, 2 * (n - 1.0)).sqrt()


def path_transform(x: Tensor) -> Tensor:
    """Coefficients of signals on a path in the eigenvectors of its normalised Laplacian.

    Args:
        x: Signals ``[batch, n, channels]``.

    Returns:
        ``[batch, n, channels]``, by ascending eigenvalue.
    """
    if x.size(1) == 1:
        return x
    roots, norms = _path_factors(x.size(1), x)
    return _cosine_sums(roots * x) / norms


def path_inverse(y: Tensor) -> Tensor:
    """Signals on a path from `path_transform`'s coefficients ``[batch, n, channels]``."""
    if y.size(1) == 1:
        return y
    roots, norms = _path_factors(y.size(1), y)
    return roots * _cosine_sums(y / norms)


def by_length(transform: Callable[[Tensor], Tensor], x: Tensor, lengths: list[int]) -> Tensor:
    """Transform every graph of a batch, all of one length at once.

    Args:
        transform: One of this module's transforms.
        x: Node states ``[N, channels]``, graph after graph.
        lengths: Nodes of every graph.

    Returns:
        ``[N, channels]``.
    """
    parts = list(x.split(lengths))
    for length in set(lengths) - {0}:
        members = [number for number, nodes in enumerate(lengths) if nodes == length]
        transformed = transform(torch.stack([parts[number] for number in members]))
        for number, part in zip(members, transformed.unbind(0), strict=True):
            parts[number] = part
    return torch.cat(parts)
