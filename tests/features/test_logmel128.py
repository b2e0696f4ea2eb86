import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphophone.features import create_extractor, logmel128
from graphophone.features.logmel128 import BANDS, filters, log_mel

SILENCE = np.float32(np.log(0.01))


def test_bands_equal_a_plain_computation_in_double_precision(signal: np.ndarray) -> None:
    window = 0.5 * (1 - np.cos(2 * np.pi * np.arange(400) / 400))
    mels = np.linspace(1127 * np.log(1 + 125 / 700), 1127 * np.log(1 + 7500 / 700), 66)
    corners = 700 * (np.exp(mels / 1127) - 1)
    expected = []
    for start in range(0, len(signal) - 399, 160 * 7):
        magnitude = np.abs(np.fft.rfft(signal[start : start + 400].astype(np.float64) * window, 512))
        row = []
        for low, centre, high in zip(corners[:-2], corners[1:-1], corners[2:], strict=True):
            total = 0.0
            for k, amplitude in enumerate(magnitude):
                hertz = k * 16000 / 512
                if low < hertz < high:
                    side = low if hertz < centre else high
                    mel, edge, top = (np.log(1 + f / 700) for f in (hertz, side, centre))
                    total += amplitude * (mel - edge) / (top - edge)
            row.append(np.log(total + 0.01))
        expected.append(row)
    np.testing.assert_allclose(log_mel(signal)[::7], expected, atol=1e-4)


def test_filters_cover_the_range_and_overlap_by_halves() -> None:
    bank = filters()
    assert bank.shape == (257, 64)
    hertz = np.arange(257) * 16000 / 512
    assert not bank[(hertz <= 125) | (hertz >= 7500)].any()
    # Between the first and the last centre two neighbours always add up to 1.
    inside = (hertz > 250) & (hertz < 7000)
    np.testing.assert_allclose(bank[inside].sum(axis=1), 1, atol=1e-5)
    assert ((bank > 0).sum(axis=1) <= 2).all()


@given(st.integers(400, 4000))
def test_number_of_frames(samples: int) -> None:
    assert log_mel(np.zeros(samples, dtype=np.float32)).shape == (1 + (samples - 400) // 160, BANDS)


def test_blocks_change_nothing(signal: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = log_mel(signal)
    monkeypatch.setattr(logmel128, "_BLOCK", 7)
    np.testing.assert_allclose(log_mel(signal), whole, atol=1e-6)


def test_vector_is_mean_and_deviation_over_time(signal: np.ndarray) -> None:
    extractor = create_extractor("logmel128")
    bands = log_mel(signal).astype(np.float64)
    vector = extractor(signal, 16000)
    assert (vector.dtype, vector.shape, extractor.level) == (np.float32, (128,), "utterance")
    np.testing.assert_allclose(vector, np.concatenate([bands.mean(axis=0), bands.std(axis=0)]), rtol=1e-5, atol=1e-6)
    assert (extractor.columns[0], extractor.columns[64], extractor.columns[-1]) == (
        "mel[0]_mean",
        "mel[0]_std",
        "mel[63]_std",
    )


def test_a_tone_is_in_its_band() -> None:
    t = np.arange(16000) / 16000
    corners = np.linspace(1127 * np.log(1 + 125 / 700), 1127 * np.log(1 + 7500 / 700), 66)
    for band in (5, 30, 60):
        hertz = 700 * (np.exp(corners[band + 1] / 1127) - 1)
        vector = create_extractor("logmel128")((0.3 * np.sin(2 * np.pi * hertz * t)).astype(np.float32), 16000)
        assert np.argmax(vector[:64]) == band


@pytest.mark.parametrize("samples", [1, 160, 400, 8000])
def test_silence_and_short_clips(samples: int) -> None:
    vector = create_extractor("logmel128")(np.zeros(samples, dtype=np.float32), 16000)
    np.testing.assert_allclose(vector[:64], SILENCE, rtol=1e-6)
    np.testing.assert_allclose(vector[64:], 0, atol=1e-12)
