"""Maxima over neighbours: loops, gradients, all ways of computing them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from graphophone.nn import aggregation, max_relative, neighbour_max


def case(batch: int, n: int, m: int, k: int, channels: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, n, channels, generator=generator)
    y = torch.randn(batch, m, channels, generator=generator)
    return x, y, torch.rand(batch, n, m, generator=generator).topk(k).indices


SIZES = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 7), st.integers(1, 6)).flatmap(
    lambda s: st.tuples(*(st.just(v) for v in (s[0], s[1], s[2])), st.integers(1, s[2]), st.just(s[3]))
)


@settings(max_examples=40)
@given(SIZES, st.integers(0, 99))
def test_equals_loops(sizes: tuple[int, int, int, int, int], seed: int) -> None:
    x, y, index = case(*sizes, seed=seed)
    expected = torch.full_like(x, -torch.inf)
    for b in range(x.size(0)):
        for i in range(x.size(1)):
            for j in index[b, i].tolist():
                expected[b, i] = torch.maximum(expected[b, i], y[b, j] - x[b, i])
    torch.testing.assert_close(max_relative(x, y, index), expected)
    torch.testing.assert_close(max_relative(x, y, index), neighbour_max(y, index) - x, atol=0, rtol=0)


@settings(max_examples=40)
@given(SIZES, st.integers(0, 99), st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
def test_all_ways_agree(sizes: tuple[int, int, int, int, int], seed: int, dtype: torch.dtype) -> None:
    _, y, index = case(*sizes, seed=seed)
    y = y.to(dtype)
    plain = neighbour_max(y, index)
    learned = y.clone().requires_grad_()
    out = neighbour_max(learned, index)
    torch.testing.assert_close(out.detach(), plain, atol=0, rtol=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aggregation, "exporting", lambda: True)
        gathered = y.clone().requires_grad_()
        exported = neighbour_max(gathered, index)
    torch.testing.assert_close(exported.detach(), plain, atol=0, rtol=0)
    if dtype != torch.bfloat16:  # in which there are ties
        weight = torch.randn(plain.shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
        (out * weight).sum().backward()
        (exported * weight).sum().backward()
        torch.testing.assert_close(learned.grad, gathered.grad)


def test_gradient() -> None:
    x, y, index = case(2, 7, 5, 3, 4)
    x, y = x.double().requires_grad_(), y.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: max_relative(a, b, index), (x, y))


def test_gradient_in_single_precision_is_that_in_double() -> None:
    """Single precision has a way of its own to find which candidate was the largest."""
    x, y, index = case(3, 40, 20, 6, 5)
    single, double = y.clone().requires_grad_(), y.double().requires_grad_()
    weight = torch.randn(3, 40, 5)
    (max_relative(x, single, index) * weight).sum().backward()
    (max_relative(x.double(), double, index) * weight.double()).sum().backward()
    assert single.grad is not None
    assert double.grad is not None
    torch.testing.assert_close(single.grad, double.grad.float(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 3e-39, -1e30])
def test_of_equal_candidates_one_gets_the_gradient(value: float) -> None:
    y = torch.full((1, 6, 3), value, requires_grad=True)
    index = torch.tensor([[[1, 4, 2], [5, 3, 0]]])
    out = neighbour_max(y, index)
    torch.testing.assert_close(out.detach(), torch.full((1, 2, 3), value), atol=0, rtol=0)
    out.sum().backward()
    assert y.grad is not None
    assert y.grad[0, [1, 4, 2]].sum(0).tolist() == [1, 1, 1]
    assert y.grad[0, [5, 3, 0]].sum(0).tolist() == [1, 1, 1]
    assert set(y.grad.flatten().tolist()) == {0.0, 1.0}


@settings(max_examples=40)
@given(st.integers(0, 99))
def test_a_shift_of_everything_changes_nothing(seed: int) -> None:
    x, y, index = case(1, 8, 6, 3, 4, seed=seed)
    t = torch.randn(4, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(max_relative(x + t, y + t, index), max_relative(x, y, index), atol=1e-5, rtol=1e-5)
