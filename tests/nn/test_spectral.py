"""Fourier transforms of paths and cycles against their Laplacians."""

import math

import pytest
import torch
from torch import Tensor

from graphophone.nn.spectral import by_length, cycle_inverse, cycle_transform, path_inverse, path_transform

TRANSFORMS = {"cycle": (cycle_transform, cycle_inverse), "path": (path_transform, path_inverse)}
LENGTHS = [1, 2, 3, 4, 5, 8, 13, 120]


def laplacian(kind: str, n: int) -> Tensor:
    """Normalised Laplacian of a simple path or cycle (n > 2 for the cycle)."""
    adjacent = torch.zeros(n, n, dtype=torch.float64)
    time = torch.arange(n - 1)
    adjacent[time, time + 1] = adjacent[time + 1, time] = 1
    if kind == "cycle":
        adjacent[0, -1] = adjacent[-1, 0] = 1
    scale = adjacent.sum(0).rsqrt()
    return torch.eye(n, dtype=torch.float64) - scale[:, None] * adjacent * scale


def basis(kind: str, n: int) -> Tensor:
    """U^T ``[n, n]``: the transform of the unit impulses."""
    return TRANSFORMS[kind][0](torch.eye(n, dtype=torch.float64).unsqueeze(0))[0]


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("kind", TRANSFORMS)
def test_orthonormal(kind: str, n: int) -> None:
    U = basis(kind, n)
    torch.testing.assert_close(U @ U.t(), torch.eye(n, dtype=torch.float64))


@pytest.mark.parametrize("n", [n for n in LENGTHS if n > 2])
@pytest.mark.parametrize("kind", TRANSFORMS)
def test_eigenvectors_and_eigenvalues(kind: str, n: int) -> None:
    U = basis(kind, n)
    if kind == "path":
        values = 1 - torch.cos(math.pi * torch.arange(n, dtype=torch.float64) / (n - 1))
    else:
        k = torch.cat([torch.arange(n // 2 + 1), torch.arange(1, (n - 1) // 2 + 1)])
        values = 1 - torch.cos(2 * math.pi * k.double() / n)
    torch.testing.assert_close(U @ laplacian(kind, n), values[:, None] * U, atol=1e-12, rtol=0)


@pytest.mark.parametrize("n", [6, 7])
def test_cycle_basis_is_the_real_fourier_basis(n: int) -> None:
    t = torch.arange(n, dtype=torch.float64)
    rows = [torch.full((n,), 1 / math.sqrt(n), dtype=torch.float64)]
    pairs = range(1, (n - 1) // 2 + 1)
    rows += [math.sqrt(2 / n) * torch.cos(2 * math.pi * k * t / n) for k in pairs]
    rows += [(-1) ** t / math.sqrt(n)] if n % 2 == 0 else []
    rows += [math.sqrt(2 / n) * torch.sin(2 * math.pi * k * t / n) for k in pairs]
    torch.testing.assert_close(basis("cycle", n), torch.stack(rows))


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("kind", TRANSFORMS)
def test_inverse(kind: str, n: int) -> None:
    there, back = TRANSFORMS[kind]
    x = torch.randn(2, n, 3, dtype=torch.float64)
    torch.testing.assert_close(back(there(x)), x)
    torch.testing.assert_close(back(x), basis(kind, n).t() @ x)


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_a_linear_map_between_them_cancels(kind: str) -> None:
    there, back = TRANSFORMS[kind]
    x, weight = torch.randn(1, 9, 4, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    torch.testing.assert_close(back(there(x) @ weight), x @ weight)
    assert (back(torch.relu(there(x) @ weight)) - torch.relu(x @ weight)).abs().max() > 0.1


def test_by_length_keeps_graphs_apart_and_in_order() -> None:
    lengths = [4, 7, 4, 0, 1, 7]
    x = torch.randn(sum(lengths), 3)
    alone = torch.cat([cycle_transform(part.unsqueeze(0))[0] for part in x.split(lengths) if len(part)])
    torch.testing.assert_close(by_length(cycle_transform, x, lengths), alone)


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_gradcheck(kind: str) -> None:
    x = torch.randn(1, 6, 2, dtype=torch.float64, requires_grad=True)
    for transform in TRANSFORMS[kind]:
        assert torch.autograd.gradcheck(transform, x)
