"""Neighbours on a grid against brute force."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from graphophone.nn import grid, grid_neighbours, pool_grid
from graphophone.nn.selection import largest


def nodes(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def distances(x: Tensor, y: Tensor, closeness: Tensor | None = None) -> Tensor:
    """``2 - 2 cos`` in double precision, less twice the closeness."""
    x, y = F.normalize(x.double(), dim=-1), F.normalize(y.double(), dim=-1)
    return 2 - 2 * x @ y.mT - (0 if closeness is None else 2 * closeness.double())


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 40), st.booleans(), st.integers(0, 99))
def test_distances_are_the_smallest(n: int, m: int, k: int, bias: bool, seed: int) -> None:
    x, y = nodes(2, n, 5, seed=seed), nodes(2, m, 5, seed=seed + 1)
    closeness = nodes(n, m, seed=seed + 2) if bias else None
    index = grid_neighbours(x, y, k, closeness=closeness)
    assert index.shape == (2, n, min(k, m))
    d = distances(x, y, closeness)
    torch.testing.assert_close(d.gather(2, index), d.sort(-1).values[..., : min(k, m)], atol=1e-5, rtol=0)


@pytest.mark.parametrize("n", [60, 3000])
def test_without_order_the_set_is_the_same(n: int) -> None:
    x, y = nodes(2, n, 6), nodes(2, 40, 6, seed=1)
    ordered, free = grid_neighbours(x, y, 9), grid_neighbours(x, y, 9, ordered=False)
    torch.testing.assert_close(free.sort(-1).values, ordered.sort(-1).values)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, closeness = nodes(2, 50, 6), nodes(2, 50, 6, seed=1), nodes(50, 50, seed=2)
    whole = grid_neighbours(x, y, 7, closeness=closeness, include_self=False)
    monkeypatch.setattr(grid, "_BLOCK", 1300)
    torch.testing.assert_close(grid_neighbours(x, y, 7, closeness=closeness, include_self=False), whole)
    assert (whole != torch.arange(50)[:, None]).all()


def test_a_node_is_its_own_nearest_unless_left_out() -> None:
    x = nodes(2, 30, 8)
    assert (grid_neighbours(x, x, 4)[..., 0] == torch.arange(30)).all()
    without = grid_neighbours(x, x, 4, include_self=False)
    torch.testing.assert_close(without, grid_neighbours(x, x, 5)[..., 1:])
    assert grid_neighbours(x, x, 99, include_self=False).shape == (2, 30, 29)
    assert grid_neighbours(x[:, :1], x[:, :1], 4, include_self=False).tolist() == [[[0]], [[0]]]  # there is no other
    with pytest.raises(ValueError, match="needs the nodes as candidates"):
        grid_neighbours(x, x[:, :10], 4, include_self=False)


def test_dilation_takes_every_other_one() -> None:
    x, y = nodes(1, 200, 6), nodes(1, 64, 6, seed=1)
    torch.testing.assert_close(grid_neighbours(x, y, 9, dilation=3), grid_neighbours(x, y, 27)[..., ::3])
    torch.testing.assert_close(
        grid_neighbours(x, y, 9, dilation=3, ordered=False).sort(-1).values,
        grid_neighbours(x, y, 27)[..., ::3].sort(-1).values,
    )


@pytest.mark.parametrize(
    ("k", "dilation", "m", "expected"),
    [(25, 2, 49, (25, 1)), (9, 2, 4, (4, 1)), (9, 3, 128, (9, 3)), (1, 5, 3, (1, 3))],
)
def test_k_and_dilation_are_lowered_to_what_there_is(k: int, dilation: int, m: int, expected: tuple[int, int]) -> None:
    assert grid.clamped(k, dilation, m) == expected
    x = nodes(1, 12, 3)
    assert grid_neighbours(x, nodes(1, m, 3, seed=1), k, dilation=dilation).shape == (1, 12, expected[0])


def test_lengths_of_nodes_do_not_matter() -> None:
    x, y = nodes(1, 80, 6), nodes(1, 30, 6, seed=1)
    scale = torch.rand(1, 80, 1, generator=torch.Generator().manual_seed(3)) + 0.5
    torch.testing.assert_close(grid_neighbours(x * scale, y * scale[:, :30], 6), grid_neighbours(x, y, 6))


@pytest.mark.parametrize(
    ("size", "reduction", "m"), [((8, 12), 4, 6), ((8, 12), 1, 96), ((7, 9), 4, 6), ((1, 3), 2, 2)]
)
def test_pooled_candidates_are_means(size: tuple[int, int], reduction: int, m: int) -> None:
    x = nodes(2, *size, 3)
    pooled = pool_grid(x, reduction)
    assert pooled.shape == (2, m, 3)
    torch.testing.assert_close(pooled[:, 0], x[:, :reduction, :reduction].mean((1, 2)))
    last = x[:, (size[0] - 1) // reduction * reduction :, (size[1] - 1) // reduction * reduction :]
    torch.testing.assert_close(pooled[:, -1], last.mean((1, 2)))


@settings(max_examples=40)
@given(st.integers(1, 60), st.integers(1, 90), st.data())
def test_largest_equals_topk(n: int, m: int, data: st.DataObject) -> None:
    """With many equal numbers, and some that are none, the chosen numbers are still the largest."""
    k = data.draw(st.integers(1, m))
    scores = nodes(n * 20 + 200, m, seed=data.draw(st.integers(0, 99)))
    scores = scores.mul(data.draw(st.sampled_from([1.0, 1000.0]))).round()
    index = largest(scores, k)
    assert (index.sort(-1).values.diff() > 0).all()
    expected = scores.topk(k).values
    torch.testing.assert_close(scores.gather(1, index).sort(-1, descending=True).values, expected, atol=0, rtol=0)
    torch.testing.assert_close(scores.gather(1, largest(scores, k, ordered=True)), expected, atol=0, rtol=0)


def test_largest_with_nan() -> None:
    scores = nodes(200, 40)
    scores[3] = torch.nan
    scores[5, 7] = torch.nan
    index = largest(scores, 4)
    good = torch.arange(200) % 200 != 3
    good[5] = False
    torch.testing.assert_close(index[good].sort(-1).values, scores[good].topk(4).indices.sort(-1).values)
    assert index.min() >= 0
    assert index.max() < 40
