"""Closeness of places, against the matrices that it avoids."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from graphophone.nn import PositionCloseness, position_closeness
from graphophone.nn.position import sincos_embedding


def reference(dims: int, height: int, width: int, reduction: int) -> torch.Tensor:
    """The table of the Vision GNN, whole and then resized; half of it, with the other sign, is the closeness."""
    side = int((height * width) ** 0.5)
    omega = 1 / 10000 ** (np.arange(dims // 4) / (dims / 4))
    rows = np.arange(side)[:, None] * omega
    axis = np.concatenate([np.sin(rows), np.cos(rows)], 1)
    e = np.concatenate([np.repeat(axis, side, 0), np.tile(axis, (side, 1))], 1)
    relative = torch.from_numpy(-2 * e @ e.T / dims)
    size = (height * width, height * width // reduction**2)
    return F.interpolate(relative[None, None], size, mode="bicubic", align_corners=False)[0, 0]


@pytest.mark.parametrize(("height", "width", "reduction"), [(8, 16, 1), (8, 16, 2), (4, 12, 1), (8, 8, 4)])
def test_ref_equals_the_resized_table(height: int, width: int, reduction: int) -> None:
    closeness = position_closeness("ref", 16, height, width, reduction)
    assert closeness is not None
    torch.testing.assert_close(-2 * closeness.double(), reference(16, height, width, reduction), atol=1e-6, rtol=0)


def test_embedding_has_one_length() -> None:
    e = sincos_embedding(24, torch.arange(5.0), torch.arange(7.0))
    assert e.shape == (35, 24)
    torch.testing.assert_close(e.square().sum(1), torch.full((35,), 12.0, dtype=torch.float64))


def test_grid_is_closest_at_the_true_place() -> None:
    closeness = position_closeness("grid", 32, 4, 20)
    assert closeness is not None
    assert (closeness.argmax(1) == torch.arange(80)).all()
    torch.testing.assert_close(closeness.diagonal(), torch.full((80,), 0.5))
    torch.testing.assert_close(closeness, closeness.T)
    # One step in time is one step in time, at whatever frequency.
    torch.testing.assert_close(closeness[0, 1], closeness[45, 46])
    pooled = position_closeness("grid", 32, 4, 20, 2)
    assert pooled is not None
    assert pooled.shape == (80, 20)
    window = torch.arange(20).view(2, 10).repeat_interleave(2, 0).repeat_interleave(2, 1).flatten()
    assert (pooled.argmax(1) == window).all()


def test_made_once_per_grid_and_never_saved() -> None:
    layer = PositionCloseness("ref", 8, 2)
    with torch.inference_mode():
        first = layer(4, 6, torch.device("cpu"))
    assert first is not None
    assert first.shape == (24, 6)
    assert not first.is_inference()
    assert layer(4, 6, torch.device("cpu")) is first
    other = layer(5, 7, torch.device("cpu"))
    assert other is not None
    assert other.shape == (35, 3 * math.ceil(7 / 2))
    assert not layer.state_dict()
    assert PositionCloseness("none", 8)(4, 6, torch.device("cpu")) is None
    with pytest.raises(ValueError, match="unknown rel_pos"):
        PositionCloseness("true", 8)  # type: ignore[arg-type]
