from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphophone.features import create_extractor
from graphophone.features.is10 import IS10_COLUMNS, delta

opensmile = pytest.importorskip("opensmile")

Voiced = Callable[..., np.ndarray]


def reference(signal: np.ndarray) -> np.ndarray:
    """Two passes of the package, as papers make them, cut to the shorter one."""
    levels = opensmile.FeatureLevel
    first = opensmile.Smile(opensmile.FeatureSet.IS10, levels.LowLevelDescriptors)
    second = opensmile.Smile(opensmile.FeatureSet.IS10, levels.LowLevelDescriptors_Deltas)
    a, b = first.process_signal(signal, 16000).to_numpy(), second.process_signal(signal, 16000).to_numpy()
    assert len(b) == len(a) + 2
    return np.concatenate([a, b[: len(a)]], axis=1)


@pytest.mark.parametrize("samples", [1440, 1600, 4000, 48000])
def test_equals_the_two_levels_of_the_package(samples: int, voiced: Voiced) -> None:
    signal = voiced(samples)
    np.testing.assert_array_equal(create_extractor("is10")(signal, 16000), reference(signal))


@pytest.mark.parametrize("samples", [1120, 1439])
def test_deltas_of_two_or_three_frames_follow_the_formula(samples: int, voiced: Voiced) -> None:
    features = create_extractor("is10")(voiced(samples), 16000)
    np.testing.assert_array_equal(features[:, :38], reference(voiced(samples))[:, :38])
    np.testing.assert_array_equal(features[:, 38:], delta(features[:, :38]))


def test_columns_are_those_of_the_package() -> None:
    levels = opensmile.FeatureLevel
    names = [
        opensmile.Smile(opensmile.FeatureSet.IS10, level).feature_names
        for level in (levels.LowLevelDescriptors, levels.LowLevelDescriptors_Deltas)
    ]
    assert list(IS10_COLUMNS) == names[0] + names[1]
    assert len(set(IS10_COLUMNS)) == 76
    assert IS10_COLUMNS[0] == "pcm_loudness_sma"
    assert IS10_COLUMNS[38 + 4] == "mfcc_sma_de[3]"
    assert IS10_COLUMNS[-1] == "shimmerLocal_sma_de"


@pytest.mark.parametrize(
    ("samples", "frames"), [(1120, 2), (1279, 2), (1280, 3), (1600, 5), (8000, 45), (16000, 95), (48000, 295)]
)
def test_number_of_frames(samples: int, frames: int, voiced: Voiced) -> None:
    assert (samples - 960) // 160 + 1 == frames
    assert create_extractor("is10")(voiced(samples), 16000).shape == (frames, 76)


@given(st.integers(1120, 6000))
@settings(max_examples=40)
def test_law_of_the_number_of_frames(samples: int) -> None:
    signal = np.linspace(-0.5, 0.5, samples, dtype=np.float32)
    assert len(create_extractor("is10")(signal, 16000)) == (samples - 960) // 160 + 1


@pytest.mark.parametrize("samples", [1, 400, 960, 1000, 1119])
def test_short_clips_are_padded_with_silence(samples: int, voiced: Voiced) -> None:
    extractor = create_extractor("is10")
    clip = voiced(samples)
    features = extractor(clip, 16000)
    assert features.shape == (2, 76)
    np.testing.assert_array_equal(features, extractor(np.pad(clip, (0, 1120 - samples)), 16000))


@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 12), st.integers(1, 3)),
        elements=st.floats(-1e3, 1e3, allow_nan=False),
    ),
    st.integers(1, 3),
)
def test_delta_is_the_slope_of_the_least_squares_line(contours: np.ndarray, window: int) -> None:
    frames = len(contours)
    slopes = np.empty_like(contours)
    offsets = np.arange(-window, window + 1)
    for t in range(frames):
        rows = contours[np.clip(t + offsets, 0, frames - 1)]
        slopes[t] = np.polyfit(offsets, rows, 1)[0]
    np.testing.assert_allclose(delta(contours, window), slopes, atol=1e-9, rtol=1e-9)


def test_delta_of_a_ramp() -> None:
    ramp = 3.0 * np.arange(8, dtype=np.float32)[:, None]
    # At the ends the repeated frame halves the outer differences: (1 * 3 + 2 * 6) / 10 and (1 * 6 + 2 * 9) / 10.
    np.testing.assert_allclose(delta(ramp)[:, 0], [1.5, 2.4, 3, 3, 3, 3, 2.4, 1.5], rtol=1e-6)
    assert delta(ramp).dtype == np.float32
