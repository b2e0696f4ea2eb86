import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphophone.features.augment import FrameAugmentation


def frames(n: int = 50, dims: int = 8) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, dims)).astype(np.float32)


def test_off_by_default():
    augmentation = FrameAugmentation()
    assert not augmentation.active
    np.testing.assert_array_equal(augmentation(frames(), np.random.default_rng(1)), frames())


@given(
    n=st.integers(1, 60),
    seed=st.integers(0, 1000),
    crop=st.floats(0.1, 1),
    stretch=st.floats(0, 0.5),
    masks=st.integers(0, 3),
    descriptor_mask=st.floats(0, 1),
)
def test_any_setting_keeps_at_least_one_finite_frame(n, seed, crop, stretch, masks, descriptor_mask):
    augmentation = FrameAugmentation(
        crop=crop,
        stretch=stretch,
        time_masks=masks,
        descriptor_mask=descriptor_mask,
        noise=0.1,
        gain=0.1,
        shift=0.1,
    )
    x = frames(n)
    before = x.copy()
    y = augmentation(x, np.random.default_rng(seed))
    assert y.dtype == np.float32
    assert y.shape[1] == x.shape[1]
    assert 1 <= len(y) <= round(n * (1 + stretch)) + 1
    assert np.isfinite(y).all()
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(y, augmentation(x, np.random.default_rng(seed)))


def test_crop_keeps_consecutive_frames():
    x = np.arange(100, dtype=np.float32)[:, None]
    y = FrameAugmentation(crop=0.5)(x, np.random.default_rng(3))
    assert 50 <= len(y) <= 100
    assert (np.diff(y[:, 0]) == 1).all()


def test_stretch_interpolates_a_ramp_exactly():
    x = np.arange(41, dtype=np.float32)[:, None]
    y = FrameAugmentation(stretch=0.5)(x, np.random.default_rng(0))
    np.testing.assert_allclose(y[:, 0], np.linspace(0, 40, len(y)), atol=1e-4)
    lengths = {len(FrameAugmentation(stretch=0.5)(x, np.random.default_rng(s))) for s in range(50)}
    assert min(lengths) < 41 < max(lengths)
    assert min(lengths) >= round(41 / 1.5)
    assert max(lengths) <= round(41 * 1.5)


def test_masks_zero_whole_rows_and_columns():
    x = np.ones((200, 40), np.float32)
    y = FrameAugmentation(time_masks=2, time_mask_share=0.2)(x, np.random.default_rng(2))
    masked = (y == 0).all(axis=1)
    assert 0 < masked.sum() <= 82
    assert (y[~masked] == 1).all()
    y = FrameAugmentation(descriptor_mask=0.5)(x, np.random.default_rng(2))
    masked = (y == 0).all(axis=0)
    assert 0 < masked.sum() < 40
    assert (y[:, ~masked] == 1).all()


@pytest.mark.parametrize(
    "wrong",
    [{"crop": 0.0}, {"stretch": 1.0}, {"probability": 1.5}, {"noise": -1.0}, {"descriptor_mask": 2.0}],
)
def test_impossible_settings_are_named(wrong):
    with pytest.raises(ValueError, match=f"augment.{next(iter(wrong))}"):
        FrameAugmentation(**wrong)
