from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from graphophone.features import create_extractor, functionals165, smile
from graphophone.features.functionals165 import CONTOURS, STATISTICS, Functionals165, functionals
from graphophone.features.is10 import delta

Voiced = Callable[..., np.ndarray]


@pytest.fixture
def sound(voiced: Voiced) -> np.ndarray:
    """Two seconds as they come from a 16-bit file."""
    pytest.importorskip("opensmile")
    return (np.round(voiced(32000) * 32767) / 32768).astype(np.float32)


@pytest.fixture
def contours(sound: np.ndarray) -> np.ndarray:
    return Functionals165().contours(sound).astype(np.float64)


def frames_of(signal: np.ndarray) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(signal.astype(np.float64), 400)[::160]


def by_statistic(vector: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(STATISTICS, np.split(vector, len(STATISTICS)), strict=True))


# Statistics


def test_statistics_of_a_ramp() -> None:
    n = 1001
    result = by_statistic(functionals(np.stack([np.arange(n), -2.0 * np.arange(n)], axis=1)))
    variance = (n * n - 1) / 12  # of the numbers 0 to n - 1
    np.testing.assert_allclose(result["mean"], [500, -1000])
    np.testing.assert_allclose(result["max"], [1000, 0])
    np.testing.assert_allclose(result["std"], [variance**0.5, 2 * variance**0.5], rtol=1e-6)
    np.testing.assert_allclose(result["skew"], 0, atol=1e-6)
    # Of a discrete uniform distribution: -6 (n^2 + 1) / (5 (n^2 - 1)), nearly -1.2.
    np.testing.assert_allclose(result["kurtosis"], -1.2 * (n * n + 1) / (n * n - 1), rtol=1e-6)


def test_statistics_of_one_event_among_n_frames() -> None:
    n = 50
    result = by_statistic(functionals(np.eye(n)[:, :1]))
    p = 1 / n
    np.testing.assert_allclose(result["std"], (p * (1 - p)) ** 0.5, rtol=1e-6)
    np.testing.assert_allclose(result["skew"], (1 - 2 * p) / (p * (1 - p)) ** 0.5, rtol=1e-6)
    np.testing.assert_allclose(result["kurtosis"], (1 - 6 * p * (1 - p)) / (p * (1 - p)), rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e-6, 148.3])
@pytest.mark.parametrize("frames", [1, 7, 98])
def test_a_constant_column_has_no_shape(value: float, frames: int) -> None:
    result = by_statistic(functionals(np.full((frames, 2), value, dtype=np.float32)))
    np.testing.assert_array_equal(result["mean"], np.float32(value))
    for statistic in ("std", "skew", "kurtosis"):
        np.testing.assert_array_equal(result[statistic], 0)


@given(hnp.arrays(np.float32, st.tuples(st.integers(2, 40), st.integers(1, 4)), elements=st.integers(-999, 999)))
def test_statistics_are_those_of_scipy_in_c_order(x: np.ndarray) -> None:
    x = x + np.arange(len(x), dtype=np.float32)[:, None] / 8  # hardly ever constant
    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        shape = [stats.skew(wide), stats.kurtosis(wide)]
    moving = np.ptp(wide, axis=0) > 0
    expected = np.stack([wide.mean(0), wide.max(0), wide.std(0), *(np.where(moving, s, 0) for s in shape)])
    np.testing.assert_allclose(functionals(x), expected.ravel(), rtol=1e-5, atol=1e-5)


@given(hnp.arrays(np.float64, (20, 3), elements=st.integers(-99, 99)), st.floats(0.1, 10), st.floats(-50, 50))
def test_the_shape_does_not_know_scale_and_offset(x: np.ndarray, scale: float, offset: float) -> None:
    a, b = by_statistic(functionals(x)), by_statistic(functionals(scale * x + offset))
    np.testing.assert_allclose(b["std"], scale * a["std"], rtol=1e-4, atol=1e-4)
    moving = np.ptp(x, axis=0) > 0
    for statistic in ("skew", "kurtosis"):
        np.testing.assert_allclose(b[statistic][moving], a[statistic][moving], rtol=1e-3, atol=1e-3)


def test_tiny_movements_keep_their_shape() -> None:
    x = np.random.default_rng(0).exponential(size=(200, 1))
    a, b = by_statistic(functionals(x)), by_statistic(functionals(1e-90 * x))
    np.testing.assert_allclose(b["kurtosis"], a["kurtosis"], rtol=1e-5)


# Contours


def test_contours_are_those_of_the_configuration_in_its_order() -> None:
    pytest.importorskip("opensmile")
    extractor = Functionals165()
    extractor.prepare()
    assert smile.feature_names(str(functionals165._CONFIGURATION), functionals165._LEVEL) == CONTOURS
    assert len(CONTOURS) == len(set(CONTOURS)) == 33
    assert extractor.dims == 165
    assert extractor.columns[0] == "pcm_fftMag_mfcc[0]_mean"
    assert extractor.columns[33 + 15] == "F0_max"
    assert extractor.columns[-1] == "pcm_LOGenergy_sma_de_kurtosis"


@pytest.mark.parametrize("samples", [400, 559, 560, 1120, 16000])
def test_number_of_frames(samples: int, voiced: Voiced) -> None:
    pytest.importorskip("opensmile")
    assert Functionals165().contours(voiced(samples)).shape == (1 + (samples - 400) // 160, 33)


def test_zero_crossings(sound: np.ndarray, contours: np.ndarray) -> None:
    """A change of sign counts, and a zero between two samples that are not on the same side."""
    frames = frames_of(sound)
    before, at, after = frames[:, :-2], frames[:, 1:-1], frames[:, 2:]
    crossings = (before * at < 0).sum(axis=1) + ((at == 0) & (before * after <= 0)).sum(axis=1)
    np.testing.assert_allclose(contours[:, CONTOURS.index("pcm_zcr")], crossings / 400, atol=1e-6)


def test_cepstrum(sound: np.ndarray, contours: np.ndarray) -> None:
    """HTK's chain on 16-bit amplitudes; the coefficient 0 is the last of the thirteen."""
    frames = frames_of(sound)
    emphasised = np.concatenate([frames[:, :1] * 0.03, frames[:, 1:] - 0.97 * frames[:, :-1]], axis=1)
    power = np.abs(np.fft.rfft(32767 * emphasised * np.hamming(400), 512)) ** 2
    mel = 1127 * np.log1p(np.arange(257) * 16000 / 512 / 700)[:, None]
    corners = np.linspace(0, 1127 * np.log1p(8000 / 700), 28)
    triangles = np.maximum(0, 1 - np.abs(mel - corners[1:-1]) / (corners[1] - corners[0]))
    bands = np.log(np.maximum(power @ triangles, 1))
    n = np.arange(13)[:, None]
    cosines = np.sqrt(2 / 26) * np.cos(np.pi * n * (np.arange(26) + 0.5) / 26)
    cepstrum = bands @ (cosines * (1 + 11 * np.sin(np.pi * n / 22))).T
    np.testing.assert_allclose(contours[:, :13], np.roll(cepstrum, -1, axis=1), atol=2e-3)


def test_slopes_are_those_of_contours_smoothed_over_three_frames(sound: np.ndarray, contours: np.ndarray) -> None:
    energy = np.log(np.square(frames_of(sound)).mean(axis=1))[:, None]
    plain = np.concatenate([contours[:, :16], energy], axis=1)
    padded = np.pad(plain, ((1, 1), (0, 0)), mode="edge")
    expected = delta((padded[:-2] + padded[1:-1] + padded[2:]) / 3)
    # At the very end openSMILE goes on with smoothed frames that are not part of the output.
    np.testing.assert_allclose(contours[:-3, 16:], expected[:-3], atol=1e-4)


def test_slopes_of_a_constant_and_of_an_exponential() -> None:
    pytest.importorskip("opensmile")
    t = np.arange(16000)
    tone = 0.5 * np.sin(2 * np.pi * 200 * t / 16000)  # two periods every 10 ms: each frame is like the last
    steady = Functionals165().contours(tone.astype(np.float32))
    np.testing.assert_allclose(steady[6:-6, 16:], 0, atol=1e-5)
    # An amplitude that falls by a factor of e in half a second: its log energy falls by 0.04 a frame.
    fading = Functionals165().contours((tone * np.exp(-t / 8000)).astype(np.float32))
    np.testing.assert_allclose(fading[3:-3, CONTOURS.index("pcm_LOGenergy_sma_de")], -0.04, atol=1e-3)


@pytest.mark.parametrize("pitch", [130.0, 180.0, 260.0, 400.0])
def test_pitch_of_a_pulse_train(pitch: float) -> None:
    pytest.importorskip("opensmile")
    t = np.arange(16000) / 16000
    pulses = sum(np.cos(2 * np.pi * pitch * k * t) / k for k in range(1, int(7000 // pitch)))
    found = Functionals165().contours((0.2 * pulses).astype(np.float32))
    f0, voicing = (found[:, CONTOURS.index(name)] for name in ("F0", "voiceProb"))
    assert np.median(f0) == pytest.approx(pitch, rel=0.02)
    assert np.median(voicing) > 0.55


def test_noise_and_pitches_too_low_for_the_window_are_unvoiced() -> None:
    pytest.importorskip("opensmile")
    t = np.arange(16000) / 16000
    low = sum(np.cos(2 * np.pi * 90 * k * t) / k for k in range(1, 77))
    assert not Functionals165().contours((0.2 * low).astype(np.float32))[:, CONTOURS.index("F0")].any()
    noise = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    found = Functionals165().contours(0.1 * noise)
    assert (found[:, CONTOURS.index("F0")] == 0).mean() > 0.9
    assert np.median(found[:, CONTOURS.index("voiceProb")]) < 0.55


# The vector


def test_vector_is_the_statistics_of_the_contours(sound: np.ndarray) -> None:
    extractor = create_extractor("functionals165")
    vector = extractor(sound, 16000)
    assert (vector.dtype, vector.shape) == (np.float32, (165,))
    assert isinstance(extractor, Functionals165)
    np.testing.assert_array_equal(vector, functionals(extractor.contours(sound)))


@pytest.mark.parametrize("samples", [1, 160, 399, 400, 720])
def test_short_clips(samples: int, voiced: Voiced) -> None:
    pytest.importorskip("opensmile")
    extractor = create_extractor("functionals165")
    vector = by_statistic(extractor(voiced(samples), 16000))
    assert all(np.isfinite(values).all() for values in vector.values())
    if samples <= 400:  # one frame has a mean, and no shape
        np.testing.assert_array_equal(vector["mean"], vector["max"])
        for statistic in ("std", "skew", "kurtosis"):
            np.testing.assert_array_equal(vector[statistic], 0)


def test_silence_stays_where_it_is() -> None:
    pytest.importorskip("opensmile")
    vector = by_statistic(create_extractor("functionals165")(np.zeros(16000, dtype=np.float32), 16000))
    for statistic in ("std", "skew", "kurtosis"):
        np.testing.assert_array_equal(vector[statistic], 0)
    assert vector["mean"][CONTOURS.index("F0")] == vector["mean"][CONTOURS.index("voiceProb")] == 0
    # A row of zeros counts as crossings; only the first and the last sample of a frame cannot be one.
    assert vector["mean"][CONTOURS.index("pcm_zcr")] == np.float32(398 / 400)


def test_other_settings_are_other_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache must not take the numbers of one configuration for those of another."""
    pytest.importorskip("opensmile")
    before = Functionals165().fingerprint
    other = tmp_path / "other.conf"
    text = functionals165._CONFIGURATION.read_text("utf-8")
    other.write_text(text.replace("smaWin = 3", "smaWin = 5"), "utf-8")
    monkeypatch.setattr(functionals165, "_CONFIGURATION", other)
    functionals165._digest.cache_clear()
    try:
        assert Functionals165().fingerprint != before
    finally:
        functionals165._digest.cache_clear()
