import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphophone.features.augment import FrameAugmentation


def frames(n: int = 50, dims: int = 8) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, dims)).astype(np.float32)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_off_by_default():
    augmentation = FrameAugmentation()
    assert not augmentation.active
    np.testing.assert_array_equal(augmentation(frames(), generator()), frames())
    assert augmentation.draw_speed(generator()) == 0
    assert augmentation.draw_crop(7, generator()) == slice(0, 7)
    assert augmentation.draw_window(4, generator()) == (4.0, 0.0)


@pytest.mark.parametrize(
    "setting",
    [{"speeds": [0.9]}, {"crop": 0.5}, {"tempo": 0.1}, {"phase": True}, {"gain": 0.1}, {"shift": 0.1}, {"noise": 0.1},
     {"time_masks": 1}, {"descriptor_mask": 0.1}],
)  # fmt: skip
def test_any_setting_switches_it_on(setting):
    assert FrameAugmentation(**setting).active


@given(n=st.integers(1, 60), seed=st.integers(0, 1000), masks=st.integers(0, 3), mask=st.floats(0, 1))
def test_values_change_but_not_the_shape_nor_the_input(n, seed, masks, mask):
    augmentation = FrameAugmentation(time_masks=masks, descriptor_mask=mask, noise=0.1, gain=0.1, shift=0.1)
    x = frames(n)
    before = x.copy()
    y = augmentation(x, generator(seed))
    assert y.dtype == np.float32
    assert y.shape == x.shape
    assert np.isfinite(y).all()
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(y, augmentation(x, generator(seed)))


@given(n=st.integers(1, 200), crop=st.floats(0.1, 1), seed=st.integers(0, 100))
def test_crop_keeps_at_least_its_share(n, crop, seed):
    kept = FrameAugmentation(crop=crop).draw_crop(n, generator(seed))
    assert 0 <= kept.start < kept.stop <= n
    assert kept.stop - kept.start >= max(1, crop * n - 0.5)


def test_speeds_are_drawn_with_their_probability():
    augmentation = FrameAugmentation(speeds=(0.9, 1.1), speed_probability=0.6)
    rng = generator()
    drawn = np.bincount([augmentation.draw_speed(rng) for _ in range(6000)], minlength=3) / 6000
    np.testing.assert_allclose(drawn, [0.4, 0.3, 0.3], atol=0.03)


def test_window_and_phase():
    rng = generator()
    drawn = np.array([FrameAugmentation(tempo=0.1, phase=True).draw_window(8, rng) for _ in range(500)])
    assert 8 * np.exp(-0.1) <= drawn[:, 0].min() < 7.4
    assert 8.6 < drawn[:, 0].max() <= 8 * np.exp(0.1)
    assert 0 <= drawn[:, 1].min() < 0.5
    assert 7.5 < drawn[:, 1].max() < 8


def test_masks_zero_whole_rows_and_columns():
    x = np.ones((200, 40), np.float32)
    y = FrameAugmentation(time_masks=2, time_mask_share=0.2)(x, generator(2))
    masked = (y == 0).all(axis=1)
    assert 0 < masked.sum() <= 82
    assert (y[~masked] == 1).all()
    y = FrameAugmentation(descriptor_mask=0.5)(x, generator(2))
    masked = (y == 0).all(axis=0)
    assert 0 < masked.sum() < 40
    assert (y[:, ~masked] == 1).all()


@pytest.mark.parametrize(
    "wrong", [{"crop": 0.0}, {"tempo": 1.0}, {"speeds": [3.0]}, {"noise": -1.0}, {"descriptor_mask": 2.0}]
)
def test_impossible_settings_are_named(wrong):
    with pytest.raises(ValueError, match=f"augment.{next(iter(wrong))}"):
        FrameAugmentation(**wrong)
