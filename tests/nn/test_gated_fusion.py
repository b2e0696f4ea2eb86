"""Gated sums."""

import pytest
import torch

from graphophone.nn.gated_fusion import FusionError, GatedSum


def test_every_part_is_gated_by_itself() -> None:
    torch.manual_seed(0)
    layer = GatedSum(4, 3).double()
    parts = torch.randn(3, 2, 5, 4, dtype=torch.float64)
    expected = sum(
        torch.sigmoid(part @ gate.weight.T + gate.bias) * part for gate, part in zip(layer.gates, parts, strict=True)
    )
    torch.testing.assert_close(layer(*parts), expected)
    assert torch.autograd.gradcheck(layer, tuple(part.requires_grad_() for part in parts[:, :1, :2]))


def test_zeros_stay_zeros() -> None:
    layer = GatedSum(4, 2)
    assert not layer(torch.zeros(3, 4), torch.zeros(3, 4)).any()


def test_side_by_side() -> None:
    layer = GatedSum(4, 2, combine="concat")
    first, second = torch.randn(2, 3, 4)
    assert torch.equal(layer(first, second), torch.cat([first, second], dim=1))
    assert layer.out_channels == 8
    assert not list(layer.parameters())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(FusionError, match="unknown combine 'sum'"):
        GatedSum(4, 2, combine="sum")  # type: ignore[arg-type]
    with pytest.raises(FusionError, match="1 parts to fuse, but weights for 2"):
        GatedSum(4, 2)(torch.zeros(4))
