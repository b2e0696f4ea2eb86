"""Poolings: closed forms, graphs of a batch apart, gradients."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphophone.errors import UnknownNameError
from graphophone.nn.pooling import create_pooling, list_poolings

SIZES = [1, 7, 2, 30]


def batch_of(sizes: list[int]) -> torch.Tensor:
    return torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))


@given(size=st.integers(1, 50), value=st.floats(-3, 3))
def test_constant_rows(size: int, value: float) -> None:
    x = torch.full((size, 4), value, dtype=torch.float64)
    expected = {
        "mean": value,
        "max": value,
        "sum": size * value,
        "attention": value,
        "weighted": 0.3 * value * (size + 2),
        "weighted_scaled": 0.3 * value * (2 + math.sqrt(size)),
        "weighted_learned": 0.3 * value * (2 + math.sqrt(size)),
    }
    for name, want in expected.items():
        pooled = create_pooling(name, 4).double()(x)
        torch.testing.assert_close(pooled, torch.full((1, 4), want, dtype=torch.float64), atol=1e-6, rtol=1e-6)


def test_weighted_is_maximum_and_n_plus_one_means() -> None:
    x, batch = torch.randn(sum(SIZES), 6), batch_of(SIZES)
    mean, highest = create_pooling("mean", 6)(x, batch), create_pooling("max", 6)(x, batch)
    expected = 0.3 * highest + 0.3 * (torch.tensor(SIZES)[:, None] + 1) * mean
    torch.testing.assert_close(create_pooling("weighted", 6)(x, batch), expected)


def test_meanmax_concatenates() -> None:
    x, batch, pool = torch.randn(sum(SIZES), 6), batch_of(SIZES), create_pooling("meanmax", 6)
    assert pool.out_channels == 12
    parts = [create_pooling(name, 6)(x, batch) for name in ("mean", "max")]
    torch.testing.assert_close(pool(x, batch), torch.cat(parts, 1))


@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_topk_keeps_half_scales_and_averages(size: int) -> None:
    pool = create_pooling("topk", 3)
    assert sum(p.numel() for p in pool.parameters()) == 3
    direction = torch.tensor([2.0, 0.0, 0.0])
    with torch.no_grad():
        pool.select.weight.copy_(direction)
    x = torch.randn(size, 3)
    kept = x[x[:, 0].argsort(descending=True)[: math.ceil(size / 2)]]
    expected = (kept * torch.tanh(kept[:, :1])).mean(0, keepdim=True)  # p / |p| is the first axis
    torch.testing.assert_close(pool(x), expected)


@pytest.mark.parametrize("name", list_poolings())
def test_graphs_of_a_batch_do_not_mix(name: str) -> None:
    torch.manual_seed(0)
    x, pool = torch.randn(sum(SIZES), 5), create_pooling(name, 5)
    together = pool(x, batch_of(SIZES), len(SIZES))
    assert together.shape == (len(SIZES), pool.out_channels)
    alone = torch.cat([pool(part) for part in x.split(SIZES)])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(pool(x, batch_of(SIZES)), together)


@pytest.mark.parametrize("name", list_poolings())
def test_gradients(name: str) -> None:
    pool = create_pooling(name, 3).double()
    x = torch.randn(11, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: pool(x, batch_of([4, 1, 6]), 3), x)
    pool(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in pool.parameters())


@pytest.mark.parametrize("name", ["mean", "max", "sum", "weighted", "meanmax"])
def test_a_graph_without_nodes_gives_zeros(name: str) -> None:
    pooled = create_pooling(name, 2)(torch.ones(2, 2), torch.tensor([0, 2]), 3)
    assert pooled[1].abs().sum() == 0
    assert pooled[0].abs().sum() > 0


def test_only_the_learned_ones_learn() -> None:
    learned = {name: sum(p.numel() for p in create_pooling(name, 64).parameters()) for name in list_poolings()}
    assert {name: count for name, count in learned.items() if count} == {
        "attention": 64,
        "topk": 64,
        "weighted_learned": 3,
    }
    assert all(not create_pooling(name, 64).state_dict() for name, count in learned.items() if not count)


def test_unknown_name() -> None:
    with pytest.raises(UnknownNameError, match="mean"):
        create_pooling("maen", 3)
