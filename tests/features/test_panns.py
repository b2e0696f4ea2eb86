import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers.audio_utils import mel_filter_bank

from graphophone.features import FeatureError, create_extractor
from graphophone.features.panns import slaney_filters, slaney_hertz, slaney_mel

RATE = 32000


@pytest.fixture(name="sound")
def noise_and_tones() -> NDArray[np.float32]:
    """Half a second of two tones in noise, then silence."""
    time = np.arange(RATE // 2) / RATE
    tones = 0.3 * np.sin(2 * np.pi * 440 * time) + 0.2 * np.sin(2 * np.pi * 5000 * time)
    noise = 0.01 * np.random.default_rng(0).standard_normal(len(time))
    return np.concatenate([tones + noise, np.zeros(RATE // 10)]).astype(np.float32)


def reference(signal: np.ndarray, rate: int, window: int, hop: int, bands: int, low: float, high: float) -> np.ndarray:
    """The front end in double precision: a Fourier matrix on mirrored frames, and another library's filters."""
    half = window // 2
    mirrored = np.concatenate([signal[half:0:-1], signal, signal[-2 : -half - 2 : -1]]).astype(np.float64)
    count = 1 + len(signal) // hop
    frames = np.stack([mirrored[i * hop : i * hop + window] for i in range(count)])
    angle = 2 * np.pi * np.outer(np.arange(window), np.arange(half + 1)) / window
    frames *= np.sin(np.pi * np.arange(window) / window) ** 2
    power = (frames @ np.cos(angle)) ** 2 + (frames @ np.sin(angle)) ** 2
    filters = mel_filter_bank(half + 1, bands, low, high, rate, norm="slaney", mel_scale="slaney")
    return 10 * np.log10(np.maximum(power @ filters, 1e-10))


@pytest.mark.parametrize(
    ("rate", "window", "hop", "bands", "low", "high"),
    [(32000, 1024, 320, 64, 50.0, 14000.0), (16000, 512, 160, 40, 0.0, 8000.0), (8000, 256, 80, 24, 50.0, 4000.0)],
)
def test_equals_a_reference(
    rate: int, window: int, hop: int, bands: int, low: float, high: float, sound: np.ndarray
) -> None:
    extractor = create_extractor(
        "panns_logmel", rate=rate, window=window, hop=hop, num_mel_bins=bands, low_freq=low, high_freq=high
    )
    features = extractor(sound, rate)
    expected = reference(sound, rate, window, hop, bands, low, high)
    assert features.shape == expected.shape
    np.testing.assert_allclose(features, expected, atol=2e-3)


def test_the_transform_is_the_usual_one(sound: np.ndarray) -> None:
    """Torch's centred, mirrored short-time Fourier transform gives the same."""
    spectrum = torch.stft(
        torch.from_numpy(sound).double(),
        1024,
        320,
        window=torch.hann_window(1024, periodic=True, dtype=torch.float64),
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    power = spectrum.abs().square().numpy().T @ slaney_filters(32000, 1024, 64, 50.0, 14000.0)
    features = create_extractor("panns_logmel")(sound, RATE)
    np.testing.assert_allclose(features, 10 * np.log10(np.maximum(power, 1e-10)), atol=2e-3)


@given(st.integers(1, 40000))
def test_number_of_frames(samples: int) -> None:
    frames = len(create_extractor("panns_logmel")(np.full(samples, 0.1, dtype=np.float32), RATE))
    assert frames == 1 + max(samples, 513) // 320


def test_ten_seconds() -> None:
    extractor = create_extractor("panns_logmel")
    assert extractor(np.zeros(10 * RATE, dtype=np.float32), RATE).shape == (1001, 64)
    assert extractor.hop == 0.01


def test_silence_is_minus_hundred() -> None:
    np.testing.assert_allclose(create_extractor("panns_logmel")(np.zeros(2000, dtype=np.float32), RATE), -100.0)


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch, sound: np.ndarray) -> None:
    whole = create_extractor("panns_logmel")(sound, RATE)
    monkeypatch.setattr("graphophone.features.panns._BLOCK", 7)
    np.testing.assert_allclose(create_extractor("panns_logmel")(sound, RATE), whole, atol=1e-4)


def test_gain_adds_decibels(sound: np.ndarray) -> None:
    loud = create_extractor("panns_logmel")(sound[: RATE // 4], RATE)
    soft = create_extractor("panns_logmel")(sound[: RATE // 4] / 10, RATE)
    np.testing.assert_allclose(loud - soft, 20.0, atol=1e-3)


@given(st.floats(0, 20000))
def test_the_scale_and_its_inverse(hertz: float) -> None:
    assert float(slaney_hertz(slaney_mel(np.array(hertz)))) == pytest.approx(hertz, abs=1e-9, rel=1e-12)


def test_the_scale_in_closed_form() -> None:
    np.testing.assert_allclose(slaney_mel(np.array([0.0, 200.0, 1000.0, 6400.0])), [0.0, 3.0, 15.0, 42.0])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"num_mel_bins": 0}, "at least 1"),
        ({"hop": 0}, "at least 1"),
        ({"window": 1023}, "even"),
        ({"high_freq": 17000.0}, "16000 Hz"),
        ({"low_freq": 14000.0}, "low_freq < high_freq"),
        ({"num_mel_bins": 400}, "fewer num_mel_bins"),
    ],
)
def test_options_without_sense(option: dict[str, object], message: str) -> None:
    with pytest.raises(FeatureError, match=message) as caught:
        create_extractor("panns_logmel", **option)
    assert "\n" not in str(caught.value)
