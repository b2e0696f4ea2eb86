"""Fuzzy c-means against loops, closed forms and its own laws."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from graphophone.nn import fuzzy_c_means, fuzzy_centroids, fuzzy_memberships, k_means
from graphophone.nn.clustering import squared_distances

SIZES = st.tuples(st.integers(1, 12), st.integers(1, 6), st.integers(1, 5))
FUZZINESS = st.sampled_from([1.5, 2.0, 3.0])


def points(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_loops(x: np.ndarray, c: np.ndarray, m: float) -> tuple[np.ndarray, np.ndarray]:
    """Memberships and new centroids, number by number, as equations 1 and 2 have them."""
    n, p = len(x), len(c)
    u = np.zeros((n, p))
    for i in range(n):
        for j in range(p):
            d = np.linalg.norm(x[i] - c[j])
            u[i, j] = 1 / sum((d / np.linalg.norm(x[i] - c[q])) ** (2 / (m - 1)) for q in range(p))
    new = np.zeros_like(c)
    for j in range(p):
        total = 0.0
        for i in range(n):
            new[j] += u[i, j] ** m * x[i]
            total += u[i, j] ** m
        new[j] /= total
    return u, new


@settings(max_examples=25)
@given(SIZES, FUZZINESS, st.integers(0, 100))
def test_equals_loops(sizes: tuple[int, int, int], m: float, seed: int) -> None:
    n, p, channels = sizes
    x, c = points(2, n, channels, seed=seed), points(2, p, channels, seed=seed + 1000)
    u = fuzzy_memberships(x, c, m)
    new = fuzzy_centroids(x, u, m)
    for item in range(2):
        expected_u, expected_c = by_loops(x[item].numpy(), c[item].numpy(), m)
        np.testing.assert_allclose(u[item].numpy(), expected_u, atol=1e-6)
        np.testing.assert_allclose(new[item].numpy(), expected_c, atol=1e-6)
    clusters = fuzzy_c_means(x, c, top=p, fuzziness=m)
    torch.testing.assert_close(clusters.centroids, new)


def test_two_nodes_and_two_centroids_on_a_line() -> None:
    """Memberships 0.9 and 0.1, weights 0.81 and 0.01, new centroids 0.01 / 0.82 and 0.81 / 0.82."""
    x, c = torch.tensor([[[0.0], [1.0]]]), torch.tensor([[[0.25], [0.75]]])
    torch.testing.assert_close(fuzzy_memberships(x, c), torch.tensor([[[0.9, 0.1], [0.1, 0.9]]]))
    clusters = fuzzy_c_means(x, c, top=1)
    torch.testing.assert_close(clusters.centroids.flatten(), torch.tensor([0.012195122, 0.987804878]))
    assert clusters.nearest.flatten().tolist() == [0, 1]


@settings(max_examples=25)
@given(SIZES, FUZZINESS, st.integers(0, 100))
def test_memberships_are_shares(sizes: tuple[int, int, int], m: float, seed: int) -> None:
    n, p, channels = sizes
    u = fuzzy_memberships(points(1, n, channels, seed=seed).float(), points(1, p, channels, seed=seed + 7).float(), m)
    assert (u >= 0).all()
    torch.testing.assert_close(u.sum(-1), torch.ones(1, n), atol=1e-6, rtol=0)


@settings(max_examples=25)
@given(SIZES, FUZZINESS, st.integers(0, 100))
def test_steps_never_raise_the_objective(sizes: tuple[int, int, int], m: float, seed: int) -> None:
    n, p, channels = sizes
    x, c = points(1, n, channels, seed=seed), points(1, p, channels, seed=seed + 5)
    objectives = []
    for _ in range(6):
        u = fuzzy_memberships(x, c, m)
        objectives.append((u**m * squared_distances(x, c)).sum().item())
        c = fuzzy_centroids(x, u, m)
    assert all(after <= before * (1 + 1e-6) + 1e-6 for before, after in itertools.pairwise(objectives))


@settings(max_examples=25)
@given(SIZES, FUZZINESS, st.integers(0, 100))
def test_centroids_stay_within_the_data(sizes: tuple[int, int, int], m: float, seed: int) -> None:
    n, p, channels = sizes
    x = points(1, n, channels, seed=seed)
    centroids = fuzzy_c_means(x, points(1, p, channels, seed=seed + 3), top=1, iterations=2, fuzziness=m).centroids
    assert (centroids <= x.amax(1, keepdim=True) + 1e-9).all()
    assert (centroids >= x.amin(1, keepdim=True) - 1e-9).all()


@pytest.mark.parametrize("m", [1.5, 2.0, 3.0])
def test_a_node_on_a_centroid_belongs_to_it(m: float) -> None:
    x = points(1, 8, 4, dtype=torch.float32)
    u = fuzzy_memberships(x, x[:, :3].clone(), m)
    assert u.isfinite().all()
    assert (u[0, torch.arange(3), torch.arange(3)] > 0.99).all()


def test_equal_nodes_make_equal_centroids() -> None:
    x = torch.full((1, 6, 3), 1.5)
    centroids = fuzzy_c_means(x, points(1, 4, 3, dtype=torch.float32), top=2).centroids
    torch.testing.assert_close(centroids, torch.full((1, 4, 3), 1.5))


def test_a_far_centroid_of_little_fuzziness_is_the_mean() -> None:
    x, c = points(1, 40, 5).float(), points(1, 3, 5, seed=1).float()
    c[:, 2] = 1e5  # every share in it is too small for single precision
    found = fuzzy_c_means(x, c, top=1, fuzziness=1.05).centroids
    torch.testing.assert_close(found[:, 2], x.mean(1))
    torch.testing.assert_close(found[:, :2], fuzzy_c_means(x, c[:, :2], top=1, fuzziness=1.05).centroids)


def test_little_fuzziness_is_k_means() -> None:
    x, c = points(1, 40, 3), points(1, 4, 3, seed=1)
    fuzzy = fuzzy_c_means(x, c, top=1, fuzziness=1.00001).centroids
    torch.testing.assert_close(fuzzy, k_means(x, c, top=1).centroids, atol=1e-6, rtol=0)


@given(FUZZINESS, st.integers(0, 100))
def test_memberships_are_ordered_as_distances(m: float, seed: int) -> None:
    x, c = points(1, 10, 3, seed=seed), points(1, 6, 3, seed=seed + 1)
    u, d = fuzzy_memberships(x, c, m), torch.cdist(x, c)
    torch.testing.assert_close(u.argsort(-1, descending=True), d.argsort(-1))


def test_chosen_centroids_are_nearest_before_the_last_update() -> None:
    x, c = points(2, 300, 3), points(2, 20, 3, seed=1)
    clusters = fuzzy_c_means(x, c, top=5, iterations=3)
    for _ in range(2):
        c = fuzzy_centroids(x, fuzzy_memberships(x, c))
    expected = torch.cdist(x, c).topk(5, largest=False).indices
    torch.testing.assert_close(clusters.nearest.sort(-1).values, expected.sort(-1).values)


def test_where_gradients_pass() -> None:
    x, c = points(1, 9, 3).requires_grad_(), points(1, 4, 3, seed=1).requires_grad_()
    assert not fuzzy_c_means(x, c.detach(), top=2).centroids.requires_grad
    # The means alone: memberships are constants.
    grad = torch.autograd.grad(fuzzy_c_means(x, c.detach(), top=2, centroid_grad=True).centroids.sum(), x)[0]
    weights = fuzzy_memberships(x, c).detach() ** 2
    expected = (weights / weights.sum(1, keepdim=True)).sum(-1, keepdim=True).expand(-1, -1, 3)
    torch.testing.assert_close(grad, expected)
    # Learned first centroids get theirs through the memberships.
    assert (torch.autograd.grad(fuzzy_c_means(x.detach(), c, top=2).centroids.square().sum(), c)[0] != 0).all()
