from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphophone import audio
from graphophone.features import create_extractor
from graphophone.features.spectrogram_augment import (
    LOG_FLOOR,
    SpectrogramAugmentation,
    mix_power,
    mix_signals,
    shift_bands,
)


def clip(n: int = 50, mels: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(-4, 4, size=(n, mels)).astype(np.float32)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_off_by_default():
    augmentation = SpectrogramAugmentation()
    assert not augmentation.active
    x = clip()
    assert augmentation.change(x, 0, generator()) is x
    assert augmentation.mask(x, 0.0, generator()) is x
    assert augmentation.draw_speed(generator()) == 0
    assert augmentation.draw_mixup(7, generator()) is None


@pytest.mark.parametrize(
    "setting",
    [{"speeds": [0.9]}, {"mixup_probability": 0.5}, {"time_shift": 0.1}, {"crop": True}, {"gain": 0.1},
     {"frequency_shift": 1}, {"time_masks": 1}, {"frequency_masks": 1}],
)  # fmt: skip
def test_any_setting_switches_it_on(setting):
    assert SpectrogramAugmentation(**setting).active


@pytest.mark.parametrize(
    ("setting", "name"),
    [({"speeds": [1.0]}, "speeds"), ({"speeds": [3.0]}, "speeds"), ({"mixup_probability": 1.5}, "mixup_probability"),
     ({"mixup_alpha": 0.0}, "mixup_alpha"), ({"mixup_domain": "mel"}, "mixup_domain"),
     ({"time_shift": 2}, "time_shift"), ({"gain": -1}, "gain"), ({"frequency_shift": -1}, "frequency_shift"),
     ({"time_masks": -1}, "time_masks"), ({"time_mask": 0}, "time_mask"), ({"frequency_mask": 0}, "frequency_mask"),
     ({"gain": float("inf")}, "gain"), ({"gain": float("nan")}, "gain"), ({"time_masks": 1.5}, "time_masks"),
     ({"frequency_shift": 2.5}, "frequency_shift"), ({"mask_value": "min"}, "mask_value"),
     ({"mask_value": float("nan")}, "mask_value"), ({"speed_probability": -0.1}, "speed_probability")],
)  # fmt: skip
def test_impossible_settings_are_named(setting, name):
    with pytest.raises(ValueError, match=f"augment.{name}"):
        SpectrogramAugmentation(**setting)


def widths(axis: int, x: np.ndarray, y: np.ndarray) -> int:
    """Width of the one masked span along an axis, which must be in one piece."""
    changed = np.flatnonzero((x != y).any(axis=1 - axis))
    assert len(changed) == 0 or changed[-1] - changed[0] + 1 == len(changed)
    return len(changed)


def test_masks_have_the_published_widths():
    """Widths are whole numbers from U[0, 48) and U[0, 192): all occur, the bounds do not."""
    x = clip(1024, 128) - 100
    bands = SpectrogramAugmentation(frequency_masks=1)
    times = SpectrogramAugmentation(time_masks=1)
    found = {"f": [], "t": []}
    for seed in range(3000):
        found["f"].append(widths(1, x[:2], bands.mask(x[:2], 0.0, generator(seed))))
        found["t"].append(widths(0, x[:, :1], times.mask(x[:, :1], 0.0, generator(seed))))
    assert set(found["f"]) == set(range(48))
    assert (min(found["t"]), max(found["t"])) == (0, 191)
    assert len(set(found["t"])) == 192
    for name, bound in (("f", 48), ("t", 192)):
        mean, error = (bound - 1) / 2, bound / np.sqrt(12 * 3000)
        assert abs(np.mean(found[name]) - mean) < 5 * error


def test_masks_reach_every_place():
    x = np.ones((20, 10), np.float32)
    change = SpectrogramAugmentation(time_masks=1, time_mask=8, frequency_masks=1, frequency_mask=4)
    masked = sum((change.mask(x, 0.0, generator(seed)) == 0) for seed in range(2000))
    assert masked.min() > 0


@given(
    n=st.integers(1, 40),
    mels=st.integers(1, 20),
    seed=st.integers(0, 1000),
    masks=st.integers(0, 3),
    bound=st.integers(1, 60),
)
def test_a_mask_fills_and_leaves_the_rest(n, mels, seed, masks, bound):
    x = clip(n, mels)
    before = x.copy()
    change = SpectrogramAugmentation(
        time_masks=masks, frequency_masks=masks, time_mask=bound, frequency_mask=bound, mask_value="mean"
    )
    fill = np.arange(100.0, 100 + mels)
    y = change.mask(x, fill, generator(seed))
    np.testing.assert_array_equal(x, before)
    masked = y >= 100
    np.testing.assert_array_equal(y[~masked], x[~masked])
    np.testing.assert_array_equal(y[masked], np.broadcast_to(fill, y.shape)[masked])
    rows = masked.all(axis=1)
    columns = masked.all(axis=0)
    np.testing.assert_array_equal(masked, rows[:, None] | columns)
    assert rows.all() or rows.sum() <= masks * (bound - 1)


@given(n=st.integers(1, 30), length=st.integers(0, 30), seed=st.integers(0, 100), crop=st.booleans())
def test_crops_are_runs_of_the_clip(n, length, seed, crop):
    x = np.arange(n, dtype=np.float32)[:, None]
    y = SpectrogramAugmentation(crop=crop, time_masks=1).change(x, length, generator(seed))
    assert len(y) == (min(n, length) or n)
    np.testing.assert_array_equal(np.diff(y[:, 0]), 1)
    if not crop:
        assert y[0, 0] == 0


def test_a_random_crop_begins_anywhere():
    x = np.arange(10, dtype=np.float32)[:, None]
    change = SpectrogramAugmentation(crop=True)
    assert {int(change.change(x, 7, generator(seed))[0, 0]) for seed in range(100)} == {0, 1, 2, 3}


@given(n=st.integers(1, 30), share=st.floats(0, 1), seed=st.integers(0, 100))
def test_time_shifts_are_cyclic_and_bounded(n, share, seed):
    x = np.arange(n, dtype=np.float32)[:, None]
    y = SpectrogramAugmentation(time_shift=share, crop=True).change(x, 0, generator(seed))
    assert sorted(y[:, 0]) == list(range(n))
    moved = int(np.flatnonzero(y[:, 0] == 0)[0])
    np.testing.assert_array_equal(y, np.roll(x, moved, axis=0))
    assert min(moved, n - moved) <= round(share * n)


@given(gain=st.floats(0.01, 5), seed=st.integers(0, 100))
def test_gain_is_one_number_for_the_clip_and_silence_stays(gain, seed):
    x = np.maximum(clip(), -5)
    x[3] = LOG_FLOOR
    y = SpectrogramAugmentation(gain=gain).change(x, 0, generator(seed))
    change = (y - x)[x > LOG_FLOOR + gain]
    np.testing.assert_allclose(change, change[0], atol=1e-5)
    assert abs(change[0]) <= gain + 1e-5
    assert y.min() >= np.float32(LOG_FLOOR)


@given(bands=st.integers(-20, 20))
def test_shifted_bands(bands):
    x = clip(3, 16)
    y = shift_bands(x, bands)
    for band in range(16):
        np.testing.assert_array_equal(y[:, band], x[:, min(max(band - bands, 0), 15)])


def test_frequency_shifts_are_bounded():
    x = np.arange(20, dtype=np.float32)[None]
    change = SpectrogramAugmentation(frequency_shift=2)
    assert {int(10 - change.change(x, 0, generator(seed))[0, 10]) for seed in range(60)} == {-2, -1, 0, 1, 2}


@pytest.mark.parametrize("alpha", [10.0, 0.5])
def test_mixup_is_drawn_from_a_beta_distribution(alpha):
    change = SpectrogramAugmentation(mixup_probability=0.5, mixup_alpha=alpha)
    rng = generator()
    drawn = [change.draw_mixup(5, rng) for _ in range(8000)]
    mixed = [one for one in drawn if one is not None]
    assert abs(len(mixed) / len(drawn) - 0.5) < 0.03
    partners, shares = zip(*mixed, strict=True)
    np.testing.assert_allclose(np.bincount(partners) / len(mixed), 0.2, atol=0.03)
    np.testing.assert_allclose(np.mean(shares), 0.5, atol=0.02)
    np.testing.assert_allclose(np.var(shares), 1 / (4 * (2 * alpha + 1)), rtol=0.07)


@given(share=st.floats(0, 1), n=st.integers(1, 9), m=st.integers(1, 9))
def test_powers_add(share, n, m):
    a, b = clip(n, 4, 1), clip(m, 4, 2)
    other = np.zeros((n, 4))
    other[: min(n, m)] = np.exp(b[:n].astype(np.float64))
    expected = np.log(np.maximum(share**2 * np.exp(a.astype(np.float64)) + (1 - share) ** 2 * other, 2.0**-23))
    got = mix_power(a, b, share)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_clip_mixed_with_nothing_is_itself():
    x = np.maximum(clip(), LOG_FLOOR).astype(np.float32)
    np.testing.assert_allclose(mix_power(x, clip(7), 1.0), x, atol=1e-5)
    np.testing.assert_allclose(mix_power(clip(), x, 0.0), x, atol=1e-5)


@given(share=st.floats(0, 1), n=st.integers(1, 40), m=st.integers(1, 40))
def test_signals_lose_their_mean_and_the_partner_takes_the_length_of_the_first(share, n, m):
    rng = generator(n * 50 + m)
    a, b = (rng.normal(0.3, 1, k).astype(np.float32) for k in (n, m))
    partner = np.zeros(n)
    partner[: min(n, m)] = (b - b.mean())[:n]
    expected = share * (a - a.mean()) + (1 - share) * partner
    got = mix_signals(a, b, share)
    assert got.shape == (n,)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected - expected.mean(), atol=2e-6)
    np.testing.assert_allclose(mix_signals(a + 5, b - 7, share), got, atol=2e-5)


def test_powers_are_the_mean_of_mixed_signals_over_relative_phases():
    """Mixing the signals themselves, one moved in time, gives on average the energies that mixing powers gives."""
    extractor = create_extractor("fbank", num_mel_bins=40)
    rng, share = generator(3), 0.4
    t = np.arange(8000) / 16000
    first = (0.2 * np.sin(2 * np.pi * (300 * t + 400 * t**2)) + 0.02 * rng.standard_normal(8000)).astype(np.float32)
    expected = energies = 0.0
    for _ in range(200):
        second = (0.05 * rng.standard_normal(8000)).astype(np.float32)
        mixed = extractor(mix_signals(first, second, share), 16000)
        energies = energies + np.exp(mixed.astype(np.float64)) / 200
        powers = mix_power(extractor(first, 16000), extractor(second, 16000), share)
        expected = expected + np.exp(powers.astype(np.float64)) / 200
    difference = np.log(energies) - np.log(expected)
    assert abs(difference.mean()) < 0.01
    assert np.abs(difference).mean() < 0.1


@pytest.mark.data
@pytest.mark.filterwarnings("ignore::graphophone.audio.AudioWarning")
def test_mixed_powers_of_recordings_are_close_to_mixed_recordings(data_root: Path):
    extractor, rng = create_extractor("fbank"), generator()
    files = sorted((data_root / "esc10").rglob("*.ogg"))[::40]
    signals = [audio.load(file).signal for file in files]
    differences, changes = [], []
    for first, second in zip(signals, signals[3:] + signals[:3], strict=True):
        share = rng.beta(10, 10)
        features, mixed = extractor(first, 16000), extractor(mix_signals(first, second, share), 16000)
        differences.append((mixed - mix_power(features, extractor(second, 16000), share)).ravel())
        changes.append((mixed - features).ravel())
    difference = np.concatenate(differences)
    assert abs(difference.mean()) < 0.1
    assert np.abs(difference).mean() < 0.2
    assert np.abs(np.concatenate(changes)).mean() > 5 * np.abs(difference).mean()
