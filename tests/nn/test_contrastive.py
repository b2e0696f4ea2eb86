import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from graphophone.nn.contrastive import nt_xent


def one_by_one(first: Tensor, second: Tensor, temperature: float, groups: list[int]) -> float:
    """The definition, a row and a rival at a time."""
    views = [vector / vector.norm() for vector in (*first, *second)]
    count = len(first)
    losses = []
    for r, z in enumerate(views):
        partner = (r + count) % (2 * count)
        rivals = [c for c in range(2 * count) if c == partner or (c != r and groups[c % count] != groups[r % count])]
        total = sum(math.exp(float(z @ views[c]) / temperature) for c in rivals)
        losses.append(-math.log(math.exp(float(z @ views[partner]) / temperature) / total))
    return sum(losses) / len(losses)


@given(st.integers(2, 7), st.integers(1, 5), st.sampled_from([0.07, 0.5, 2.0]), st.integers(0, 1000), st.booleans())
def test_is_the_definition(count: int, dims: int, temperature: float, seed: int, grouped: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, count, dims, generator=generator, dtype=torch.float64)
    groups = torch.randint(3, (count,), generator=generator) if grouped else torch.arange(count)
    loss = nt_xent(first, second, temperature=temperature, groups=groups if grouped else None)
    assert float(loss) == pytest.approx(one_by_one(first, second, temperature, groups.tolist()), rel=1e-9)


@pytest.mark.parametrize("count", [2, 5, 32])
def test_equal_vectors(count: int) -> None:
    same = torch.ones(count, 3, dtype=torch.float64)
    assert float(nt_xent(same, 2 * same)) == pytest.approx(math.log(2 * count - 1))


def test_orthogonal_items_with_perfect_pairs() -> None:
    items = torch.eye(32, dtype=torch.float64)
    expected = math.log(1 + 62 * math.exp(-1 / 0.07))
    assert float(nt_xent(items, items)) == pytest.approx(expected)


def test_views_are_symmetric_and_order_does_not_matter() -> None:
    torch.manual_seed(0)
    first, second, groups = torch.randn(6, 4), torch.randn(6, 4), torch.tensor([0, 1, 1, 2, 3, 0])
    order = torch.randperm(6)
    loss = nt_xent(first, second, groups=groups)
    torch.testing.assert_close(nt_xent(second, first, groups=groups), loss)
    torch.testing.assert_close(nt_xent(first[order], second[order], groups=groups[order]), loss)


def test_items_of_one_group_alone_have_no_rivals() -> None:
    first, second = torch.randn(2, 3, 4)
    assert float(nt_xent(first, second, groups=torch.zeros(3, dtype=torch.int64))) == 0.0


def test_duplicates_pull_no_longer_apart() -> None:
    # Items 0 and 1 are the same sentence: without groups their likeness costs, with them it does not.
    items = torch.eye(3, dtype=torch.float64)[[0, 0, 1]]
    assert nt_xent(items, items, groups=torch.tensor([0, 0, 1])) < 0.001 < nt_xent(items, items)


@pytest.mark.parametrize("groups", [None, torch.tensor([0, 1, 0, 2])])
def test_gradient(groups: Tensor | None) -> None:
    torch.manual_seed(1)
    views = [torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, temperature=0.5, groups=groups), views)


def test_wrong_shapes_and_temperatures_are_refused() -> None:
    with pytest.raises(ValueError, match="two views"):
        nt_xent(torch.ones(2, 3), torch.ones(3, 3))
    with pytest.raises(ValueError, match="temperature must be above 0"):
        nt_xent(torch.ones(2, 3), torch.ones(2, 3), temperature=0.0)
