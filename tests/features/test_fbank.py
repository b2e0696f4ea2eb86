import numpy as np
import pytest

from graphophone.features import FeatureError, create_extractor

FLOOR = np.log(np.finfo(np.float32).eps)


def reference(signal: np.ndarray, bins: int, low: float, high: float, rate: int = 16000) -> np.ndarray:
    """Kaldi's filter bank in NumPy and double precision, with a Hann window."""
    length, hop, size = 400, 160, 512
    starts = np.arange(0, len(signal) - length + 1, hop)
    frames = signal[starts[:, None] + np.arange(length)].astype(np.float64)
    frames -= frames.mean(axis=1, keepdims=True)
    frames[:, 1:] -= 0.97 * frames[:, :-1].copy()
    frames[:, 0] *= 1 - 0.97
    frames *= 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length - 1))
    power = np.abs(np.fft.rfft(frames, size)) ** 2

    def mel(hertz: np.ndarray | float) -> np.ndarray:
        return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)

    edges = np.linspace(mel(low), mel(high), bins + 2)
    centres = mel(np.arange(size // 2) * rate / size)
    rise = (centres - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - centres) / (edges[2:] - edges[1:-1])[:, None]
    banks = np.maximum(0.0, np.minimum(rise, fall))
    return np.log(np.maximum(power[:, : size // 2] @ banks.T, np.finfo(np.float32).eps))


@pytest.mark.parametrize(("bins", "low", "high"), [(23, 20.0, 8000.0), (40, 100.0, 7000.0), (128, 20.0, 8000.0)])
def test_equals_a_reference(bins: int, low: float, high: float, signal: np.ndarray) -> None:
    features = create_extractor("fbank", num_mel_bins=bins, low_freq=low, high_freq=high)(signal, 16000)
    expected = reference(signal, bins, low, high)
    assert features.shape == expected.shape == (98, bins)
    loud = expected > -8  # single precision cancels in nearly empty bands
    assert loud.mean() > 0.5
    np.testing.assert_allclose(features[loud], expected[loud], atol=2e-3)


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (400, 1), (559, 1), (560, 2), (16000, 98), (160000, 998)])
def test_number_of_frames(samples: int, frames: int) -> None:
    assert create_extractor("fbank")(np.full(samples, 0.1, dtype=np.float32), 16000).shape == (frames, 128)


def test_scaling_adds_a_constant(signal: np.ndarray) -> None:
    unit = create_extractor("fbank", num_mel_bins=40)(signal, 16000)
    kaldi = create_extractor("fbank", num_mel_bins=40, scale="int16")(signal, 16000)
    np.testing.assert_allclose(kaldi, unit + 2 * np.log(32768), rtol=1e-5)


def test_silence_lies_at_the_floor() -> None:
    np.testing.assert_allclose(create_extractor("fbank")(np.zeros(800, dtype=np.float32), 16000), FLOOR, rtol=1e-6)


def test_options_change_the_output(signal: np.ndarray) -> None:
    default = create_extractor("fbank")(signal, 16000)
    for option in ({"window": "povey"}, {"preemphasis": 0.0}, {"low_freq": 200.0}, {"high_freq": -400.0}):
        assert np.abs(create_extractor("fbank", **option)(signal, 16000) - default).max() > 0.01
    assert create_extractor("fbank", frame_shift=0.02)(signal, 16000).shape == (49, 128)
    assert create_extractor("fbank", frame_length=0.05)(signal, 16000).shape == (96, 128)
    assert create_extractor("fbank", rate=8000, high_freq=0)(signal, 16000).shape == (98, 128)


def test_a_tone_peaks_in_its_band() -> None:
    tone = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)).astype(np.float32)
    mean = create_extractor("fbank", num_mel_bins=64)(tone, 16000).mean(axis=0)
    centres = 700 * np.expm1(np.linspace(*(np.log1p(np.array([20, 8000]) / 700)), 66)[1:-1])
    assert abs(centres[mean.argmax()] - 1000) < 60


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"num_mel_bins": 2}, "num_mel_bins"),
        ({"frame_shift": 0.0}, "frame_shift"),
        ({"low_freq": 9000.0}, "low_freq < high_freq"),
        ({"high_freq": 9000.0}, "8000 Hz"),
        ({"window": "hann"}, "hanning"),
        ({"scale": "db"}, "'unit' or 'int16'"),
    ],
)
def test_options_that_make_no_sense(option: dict[str, object], message: str) -> None:
    with pytest.raises(FeatureError, match=message):
        create_extractor("fbank", **option)
