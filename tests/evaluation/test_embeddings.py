"""Oversmoothing and silhouette."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphophone.evaluation import embeddings
from graphophone.evaluation.embeddings import mean_average_distance, silhouette, spread_evenly, state_map
from graphophone.evaluation.ranking import MetricError
from graphophone.nn.signed import signed_norm


def test_equal_and_orthogonal_states() -> None:
    assert mean_average_distance(torch.ones(7, 3)) == 0
    assert mean_average_distance(torch.randn(1, 3) * torch.arange(1.0, 6)[:, None]) == 0  # only the direction counts
    assert mean_average_distance(torch.eye(5)) == pytest.approx(1)
    assert mean_average_distance(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(2)


def test_rows_of_one_distance_are_averaged_over_what_is_above_zero() -> None:
    h = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert mean_average_distance(h) == pytest.approx(1)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 2**20))
def test_graphs_and_blocks(sizes: list[int], seed: int) -> None:
    h = torch.randn(sum(sizes), 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    rows, total = [], 0.0
    for graph in h.split(sizes):
        unit = graph / graph.norm(dim=1, keepdim=True)
        distance = (1 - unit @ unit.T).fill_diagonal_(0)
        rows += [row[row > 0].mean().item() for row in distance if (row > 0).any()]
    total = float(np.mean(rows)) if rows else 0.0
    assert mean_average_distance(h, ptr) == pytest.approx(total, abs=1e-9)


def test_memory_is_bounded_by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    h = torch.randn(50, 4)
    whole = mean_average_distance(h)
    monkeypatch.setattr(embeddings, "BLOCK", 60)
    assert mean_average_distance(h) == pytest.approx(whole, abs=1e-12)


def test_falls_with_depth_of_propagation() -> None:
    torch.manual_seed(0)
    ring = torch.arange(20)
    edges = torch.cat([torch.stack([ring, ring.roll(1)]), torch.stack([ring.roll(1), ring])], dim=1)
    edge_index, weight = signed_norm(edges, None, 20)
    operator = torch.zeros(20, 20).index_put((edge_index[1], edge_index[0]), weight)
    h, values = torch.randn(20, 8).abs(), []
    for _ in range(8):
        values.append(mean_average_distance(h))
        h = operator @ h
    assert all(later < earlier for earlier, later in itertools.pairwise(values))


def test_silhouette() -> None:
    y = np.arange(40) % 2
    rng = np.random.default_rng(0)
    assert silhouette(rng.standard_normal((40, 3)) + 20 * y[:, None], y) > 0.8
    assert abs(silhouette(rng.standard_normal((40, 3)), y)) < 0.1
    assert silhouette(torch.tensor([[0.0], [0.0], [1.0], [1.0]]), torch.tensor([0, 0, 1, 1])) == 1


def test_what_cannot_be_measured() -> None:
    with pytest.raises(MetricError):
        mean_average_distance(torch.empty(0, 3))
    with pytest.raises(MetricError):
        mean_average_distance(torch.tensor([[float("nan")]]))
    with pytest.raises(MetricError, match="2 classes"):
        silhouette(np.zeros((4, 2)), np.zeros(4))


def test_a_map_keeps_groups_together_and_is_repeatable() -> None:
    y = np.arange(90) % 3
    h = np.random.default_rng(0).standard_normal((90, 10)) + 12 * np.eye(10)[y]
    points = state_map(h)
    assert points.shape == (90, 2)
    assert silhouette(points, y) > 0.6
    assert np.array_equal(points, state_map(h))


def test_a_map_of_few_or_equal_states() -> None:
    assert state_map(np.random.default_rng(0).standard_normal((5, 4))).shape == (5, 2)
    assert not state_map(np.ones((9, 3))).any()
    for h in (np.ones((4, 3)), np.full((9, 3), np.nan)):
        with pytest.raises(MetricError):
            state_map(h)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.integers(1, 90))
def test_thinning_keeps_the_shares_of_classes(classes: list[int], limit: int) -> None:
    y = np.array(classes)
    rows = spread_evenly(y, limit)
    assert len(rows) == min(len(y), limit)
    assert (np.diff(rows) > 0).all()
    if limit > 1:
        for name in set(classes):
            # Every class has its share, give or take the ends.
            assert abs((y[rows] == name).sum() - len(rows) * (y == name).mean()) <= 2
