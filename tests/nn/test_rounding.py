"""What rounding must not decide."""

import torch

from graphophone.nn.clustering import squared_distances
from graphophone.nn.fuzzy import fuzzy_c_means, fuzzy_memberships


def test_nodes_on_several_equal_centroids_belong_to_them_equally():
    generator = torch.Generator().manual_seed(0)
    point = 3 + torch.randn(40, generator=generator)
    others = torch.randn(6, 40, generator=generator)
    centroids = torch.cat([point.repeat(5, 1), others])[None]
    # As padding: equal up to the rounding of the layers before.
    x = torch.cat([point.repeat(30, 1) * (1 + 1e-7 * torch.randn(30, 1, generator=generator)), others + 0.5])[None]
    memberships = fuzzy_memberships(x, centroids)[0]
    torch.testing.assert_close(memberships[:30, :5], torch.full((30, 5), 0.2), rtol=1e-4, atol=0)
    found = fuzzy_c_means(x, centroids, top=3).centroids[0]
    torch.testing.assert_close(found[:5], found[:1].expand(5, -1), rtol=1e-5, atol=1e-5)
    exact = fuzzy_c_means(x.double(), centroids.double(), top=3).centroids[0]
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-4)


def test_the_least_distance_is_a_share_of_the_norms():
    x = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 100.0])[:, None, None]
    least = squared_distances(x, x).diagonal(dim1=1, dim2=2).amin(1)
    torch.testing.assert_close(least, 1e-6 * x.square().sum(-1).mean(1), rtol=0.5, atol=0)
