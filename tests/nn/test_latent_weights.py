"""Weights of the latent graph: the mean of noisy softmaxes, without their tables, and without running out of range."""

import pytest
import torch
from torch import Tensor

from graphophone.nn.latent_weights import (
    _LEAST,
    _MOST,
    LatentGraphError,
    check_temperature,
    gumbel_noise,
    latent_weights,
)
from graphophone.nn.random_features import log_kernel, orthogonal_projection


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def shares(nodes: int, seed: int = 0) -> Tensor:
    """Shares of random edges; the first node has none."""
    edges = (normal(1, 1, nodes, nodes, seed=seed) > 0).double()
    edges[..., 0, :] = 0
    return edges / edges.sum(-1, keepdim=True).clamp_min(1)


def literal(scores: Tensor, noise: Tensor) -> Tensor:
    """One softmax per sample, then their mean: tables of N x N x K."""
    return (scores[..., None] + noise[..., None, :, :]).softmax(-2).mean(-1)


def test_without_noise_it_is_a_softmax() -> None:
    scores = normal(2, 3, 5, 5) * 3
    weights, link = latent_weights(scores, None, edges := shares(5))
    torch.testing.assert_close(weights, scores.softmax(-1))
    torch.testing.assert_close(link, (scores.log_softmax(-1) * edges).sum(-1))
    assert not link[..., 0].any()


def test_noise_in_thin_tables_is_the_mean_of_noisy_softmaxes() -> None:
    scores, noise = normal(2, 3, 6, 6) * 3, normal(2, 3, 6, 4, seed=1) * 10
    weights, link = latent_weights(scores, noise, edges := shares(6))
    torch.testing.assert_close(weights, literal(scores, noise), atol=1e-13, rtol=1e-10)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 6, dtype=torch.float64))
    torch.testing.assert_close(link, (scores.log_softmax(-1) * edges).sum(-1))  # free of noise


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("linked", [False, True])
def test_gradients(noisy: bool, linked: bool) -> None:
    noise = normal(2, 2, 5, 3, seed=1) * 4 if noisy else None
    edges = shares(5) if linked else None
    assert torch.autograd.gradcheck(
        lambda scores: latent_weights(scores, noise, edges), (normal(2, 2, 5, 5).requires_grad_(),)
    )


def test_the_features_form_is_the_same_with_the_same_noise() -> None:
    q, k, v = normal(7, 4) / 2, normal(7, 4, seed=1) / 2, normal(7, 4, seed=2)
    rows = orthogonal_projection(32, 4, dtype=torch.float64)
    noise = normal(7, 5, seed=3) * 3
    phi_q = torch.exp(q @ rows.T - q.square().sum(-1, keepdim=True) / 2 - (q @ rows.T).amax(-1, keepdim=True)) + 1e-6
    phi_k = torch.exp(k @ rows.T - k.square().sum(-1, keepdim=True) / 2 - (k @ rows.T).amax()) + 1e-6
    weighted = phi_k[:, :, None] * noise.exp()[:, None, :]  # N x m x K
    above = torch.einsum("im,jmk,jd->ikd", phi_q, weighted, v)
    below = torch.einsum("im,jmk->ik", phi_q, weighted)
    weights, _ = latent_weights(log_kernel(q, k, rows)[None], noise[None], None)
    torch.testing.assert_close(weights[0] @ v, (above / below[..., None]).mean(1), atol=1e-12, rtol=1e-10)


def test_at_a_low_temperature_nodes_are_chosen_as_often_as_the_softmax_says() -> None:
    torch.manual_seed(0)
    tau, draws = 0.02, 20000
    logits = normal(4, 4)
    noise = gumbel_noise(draws * 4, 1, 1, logits).view(draws, 4, 1)
    check_temperature(tau, 4, torch.float64)
    weights, _ = latent_weights((logits / tau).expand(draws, 4, 4), noise / tau, None)
    chosen = weights.argmax(-1)
    assert torch.equal(chosen, (logits + noise.transpose(1, 2)).argmax(-1))
    assert (weights.amax(-1) > 0.99).double().mean() > 0.9
    frequency = torch.nn.functional.one_hot(chosen, 4).double().mean(0)
    expected = logits.softmax(-1)
    assert ((frequency - expected).abs() < 5 * (expected * (1 - expected) / draws).sqrt()).all()


def test_noise_is_gumbel_s() -> None:
    torch.manual_seed(0)
    noise = gumbel_noise(100000, 1, 2, torch.zeros((), dtype=torch.float64))
    assert noise.shape == (100000, 1, 2)
    assert abs(noise.mean() - 0.5772156649) < 0.01  # Euler's constant
    assert abs(noise.var() - torch.pi**2 / 6) < 0.03


def test_single_precision_survives_ten_thousand_draws() -> None:
    torch.manual_seed(0)
    scores = (normal(1, 20, 20) * 15).float().requires_grad_()
    noise = gumbel_noise(20, 1, 10000, scores).transpose(0, 1) / 0.2
    weights, _ = latent_weights(scores, noise, shares(20)[0].float())
    expected = literal(scores.detach().double(), noise.double())
    torch.testing.assert_close(weights.double(), expected, atol=1e-5, rtol=1e-4)
    (weights * normal(1, 20, 20, seed=1).float()).sum().backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert scores.grad.abs().max() > 1e-4


@pytest.mark.parametrize("nodes", [3, 330])
def test_the_worst_noise_and_the_worst_scores_stay_in_range(nodes: int) -> None:
    """The key that scores best has the least noise there can be, and another the most."""
    low, high = -torch.tensor([_MOST, _LEAST]).log() / 0.2
    noise = torch.full((1, nodes, 2), float(low))
    noise[0, 1, 0] = high
    noise[0, 2, 1] = high
    for gap in (10.0, 60.0, 97.0, 150.0, 400.0):
        scores = torch.zeros(1, nodes, nodes)
        scores[..., 0] = gap
        scores.requires_grad_()
        weights, _ = latent_weights(scores, noise, None)
        expected = literal(scores.detach().double(), noise.double())
        torch.testing.assert_close(weights.double(), expected, atol=1e-5, rtol=1e-4)
        (gradient,) = torch.autograd.grad(weights[..., 0].sum(), scores)
        reference = scores.detach().double().requires_grad_()
        (exact,) = torch.autograd.grad(literal(reference, noise.double())[..., 0].sum(), reference)
        torch.testing.assert_close(gradient.double(), exact, atol=1e-5, rtol=1e-4)


def test_a_temperature_out_of_range_is_refused() -> None:
    check_temperature(0.2, 330, torch.float32)
    check_temperature(0.2, 3000, torch.float32)
    with pytest.raises(LatentGraphError, match=r"tau=0\.05 is too low for Gumbel noise over 330 nodes"):
        check_temperature(0.05, 330, torch.float32)
    check_temperature(0.05, 330, torch.float64)
