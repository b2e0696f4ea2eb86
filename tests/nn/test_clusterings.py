"""k-means, density peaks, first centroids, spread."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from graphophone.nn import (
    GridClustering,
    centroid_spread,
    density_peaks,
    k_means,
    pooled_centroids,
    sampled_centroids,
)
from graphophone.nn.clustering import cells
from graphophone.nn.density import peak_scores


def blobs(per_blob: int = 30, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Three well separated blobs ``[1, 3 n, 2]`` and their centres."""
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    noise = torch.randn(3, per_blob, 2, generator=torch.Generator().manual_seed(seed))
    return (centres[:, None] + 0.3 * noise).view(1, -1, 2), centres


def test_k_means_finds_blobs_and_keeps_empty_centroids() -> None:
    x, centres = blobs()
    far = torch.tensor([[100.0, 100.0]])
    start = torch.cat([centres + 1, far])[None]
    clusters = k_means(x, start, top=2, iterations=3)
    means = x.view(3, -1, 2).mean(1)
    torch.testing.assert_close(clusters.centroids[0, :3], means)
    torch.testing.assert_close(clusters.centroids[0, 3:], far)
    assert (clusters.nearest != 3).all()


def test_k_means_never_raises_the_distance() -> None:
    x = torch.randn(1, 60, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    costs = []
    for iterations in range(1, 6):
        centroids = k_means(x, x[:, :5], top=1, iterations=iterations).centroids
        costs.append(torch.cdist(x, centroids).amin(-1).square().sum().item())
    assert costs == sorted(costs, reverse=True)


def test_density_peaks_finds_one_centre_per_blob() -> None:
    x, centres = blobs()
    clusters = density_peaks(x, x, number=3, top=1)
    found = clusters.centroids[0]
    nearest = torch.cdist(found, centres).argmin(1)
    assert sorted(nearest.tolist()) == [0, 1, 2]
    torch.testing.assert_close(found[nearest.argsort()], x.view(3, -1, 2).mean(1))


def test_density_scores_equal_loops() -> None:
    x = torch.randn(1, 25, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    d = torch.cdist(x[0], x[0])
    rho = [(-(d[i].square() / 3).sort().values[:4].mean()).exp().item() for i in range(25)]
    expected = []
    for i in range(25):
        denser = [d[i, j].item() for j in range(25) if rho[j] > rho[i]]
        expected.append(rho[i] * (min(denser) if denser else d[i].max().item()) / 3**0.5)
    torch.testing.assert_close(peak_scores(x, 4)[0], torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=1e-6)


def test_more_centres_than_nodes() -> None:
    x = torch.randn(2, 6, 3)
    clusters = density_peaks(x, x, number=50, top=10)
    assert clusters.centroids.shape == (2, 6, 3)
    assert clusters.nearest.shape == (2, 6, 6)


@pytest.mark.parametrize(("number", "shape"), [(50, (5, 10)), (25, (5, 5)), (12, (2, 6)), (7, (1, 7)), (1, (1, 1))])
def test_cells(number: int, shape: tuple[int, int]) -> None:
    assert cells(number) == shape


@pytest.mark.parametrize("grid", [(32, 256), (7, 13), (3, 4)])
def test_pooled_centroids_are_adaptive_means(grid: tuple[int, int]) -> None:
    x = torch.randn(2, *grid, 4)
    expected = F.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), (5, 10)).flatten(2).mT
    torch.testing.assert_close(pooled_centroids(x, 50), expected)


def test_sampled_centroids() -> None:
    x = torch.randn(2, 20, 3)
    even = sampled_centroids(x, 5, random=False)
    torch.testing.assert_close(even, x[:, [0, 5, 10, 14, 19]])
    drawn = sampled_centroids(x, 5, random=True)
    assert (torch.cdist(drawn, x).amin(-1) == 0).all()


def test_spread() -> None:
    x = torch.randn(2, 500, 3)
    torch.testing.assert_close(centroid_spread(x, x), torch.tensor(1.0))
    torch.testing.assert_close(centroid_spread(0.25 * x + 7, x), torch.tensor(0.25), atol=1e-4, rtol=0)
    assert centroid_spread(x[:, :1].expand(-1, 9, -1), x) < 1e-3


@pytest.mark.parametrize("method", ["fcm", "kmeans", "density"])
@pytest.mark.parametrize("init", ["pool", "noise", "sample", "learned"])
def test_evaluation_is_deterministic_and_by_clip(method: str, init: str) -> None:
    if (method, init) == ("kmeans", "learned"):
        with pytest.raises(ValueError, match="cannot be learned"):
            GridClustering(8, method=method, init=init)  # type: ignore[arg-type]
        return
    clustering = GridClustering(8, P=6, K=3, method=method, init=init).eval()  # type: ignore[arg-type]
    x = torch.randn(3, 4, 10, 8)
    together = clustering(x)
    assert together.centroids.shape == (3, 6, 8)
    assert together.nearest.shape == (3, 40, 3)
    torch.testing.assert_close(clustering(x).centroids, together.centroids, atol=0, rtol=0)
    torch.testing.assert_close(clustering(x[1:2]).centroids, together.centroids[1:2], atol=1e-5, rtol=1e-5)
    assert clustering.spread is None
    clustering.train()(x)
    assert clustering.spread is not None
    assert clustering.spread.isfinite()
    assert [name for name, _ in clustering.named_buffers() if name in clustering.state_dict()] == []


def test_noise_is_new_in_training() -> None:
    clustering = GridClustering(8, P=6, K=3, init="noise").train()
    x = torch.randn(1, 4, 10, 8)
    assert not torch.equal(clustering.first(x), clustering.first(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"P": 4, "K": 5}, "K=5 of P=4"),
        ({"method": "means"}, "unknown cluster"),
        ({"init": "zeros"}, "unknown init"),
        ({"v": 0}, "at least one iteration"),
        ({"m": 1.0}, "fuzziness above 1"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GridClustering(8, **options)  # type: ignore[arg-type]
