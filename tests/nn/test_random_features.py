"""Positive random features: unbiased, and nearer to the softmax the more there are."""

import torch
from torch import Tensor

from graphophone.nn.random_features import log_kernel, orthogonal_projection


def vectors(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) / 2


def projection(features: int, dims: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return orthogonal_projection(features, dims, generator=generator, dtype=torch.float64)


def test_rows_of_a_block_are_orthogonal_and_as_long_as_gaussian_ones() -> None:
    rows = projection(20, 8, 0)
    for block in rows.split(8):
        products = block @ block.T
        torch.testing.assert_close(products, products.diagonal().diag(), atol=1e-10, rtol=0)
    squared = projection(40000, 8, 1).square().sum(1)  # chi-square of 8: mean 8, variance 16
    assert abs(squared.mean() - 8) < 5 * (16 / 40000) ** 0.5
    assert abs(squared.var() - 16) < 1


def test_rows_have_no_preferred_sign() -> None:
    blocks = projection(6 * 20000, 6, 2).view(20000, 6, 6)
    assert blocks.mean(0).abs().max() < 5 / 20000**0.5
    assert (blocks.sign().mean(0).abs() < 5 / 20000**0.5).all()


def test_the_same_generator_gives_the_same_and_leaves_torch_s_alone() -> None:
    state = torch.get_rng_state()
    assert torch.equal(projection(9, 4, 3), projection(9, 4, 3))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_kernel_is_the_exponential_in_the_mean() -> None:
    q, k = vectors(3, 4), vectors(5, 4, seed=1)
    estimates = []
    for seed in range(300):
        rows = projection(64, 4, seed)
        taken = (q @ rows.T).amax(-1, keepdim=True) + (k @ rows.T).amax()  # what the kernel leaves out
        estimates.append((log_kernel(q, k, rows, epsilon=0) + taken).exp())
    found = torch.stack(estimates)
    wrong = (found.mean(0) - (q @ k.T).exp()).abs()
    assert (wrong < 5 * found.std(0) / 300**0.5).all()


def test_the_softmax_error_falls_as_the_root_of_the_number_of_features() -> None:
    q, k = vectors(6, 6) / 2, vectors(9, 6, seed=1) / 2
    exact = (q @ k.T).softmax(-1)

    def error(features: int, draws: int = 16) -> float:
        errors = [
            (log_kernel(q, k, projection(features, 6, s)).softmax(-1) - exact).square().mean()
            for s in range(draws)
            for seed in range(draws)
        ]
        return float(torch.stack(errors).mean().sqrt())

    few, more, most = error(96, 64), error(96 * 16), error(96 * 256, 4)
    assert 3 < few / more < 5.5  # 4, but for chance
    assert 2 < more / most < 7
    assert error(100000, 1) < 1e-3


def test_padding_keys_do_not_set_the_scale() -> None:
    q, k, rows = vectors(4, 6), vectors(5, 6, seed=1), projection(32, 6, 0)
    padded = torch.cat([k, torch.full((2, 6), 30.0, dtype=torch.float64)])
    real = torch.arange(7) < 5
    torch.testing.assert_close(log_kernel(q, padded, rows, real)[:, :5], log_kernel(q, k, rows))
    torch.testing.assert_close(log_kernel(q, padded, rows, separate=True)[:, :5], log_kernel(q, k, rows, separate=True))


def test_separate_scales_give_the_same_softmax_up_to_epsilon() -> None:
    q, k, rows = vectors(4, 6), vectors(5, 6, seed=1), projection(32, 6, 0)
    together, separate = (log_kernel(q, k, rows, epsilon=0, separate=flag).softmax(-1) for flag in (False, True))
    torch.testing.assert_close(separate, together)
