from pathlib import Path

import kaldi_native_fbank as knf
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphophone import audio
from graphophone.features import FeatureError, create_extractor
from graphophone.features.fbank import Fbank
from graphophone.features.torch_fbank import TorchFbank, mel_filters, window_function


def noise(samples: int = 8000, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    loudness = np.interp(np.arange(samples), np.linspace(0, samples, 9), rng.uniform(-9, -1, 9))
    return (rng.standard_normal(samples) * np.exp(loudness)).astype(np.float32)


def both(signal: np.ndarray, **options) -> tuple[np.ndarray, np.ndarray]:
    """Kaldi's numbers and ours, for a recording."""
    rate = options.get("rate", 16000)
    return create_extractor("fbank", **options)(signal, rate), TorchFbank(**options)(torch.from_numpy(signal)[None])[0]


def exact(signal: np.ndarray) -> np.ndarray:
    """The same in double precision but for the filters, with a Fourier transform in place of the matrix."""
    frames = np.lib.stride_tricks.sliding_window_view(signal.astype(np.float64), 400)[::160]
    frames = frames - frames.mean(axis=1, keepdims=True)
    frames = np.concatenate([0.03 * frames[:, :1], frames[:, 1:] - 0.97 * frames[:, :-1]], axis=1)
    power = np.abs(np.fft.rfft(frames * np.hanning(400), 512)[:, :256]) ** 2
    return np.log(np.maximum(power @ mel_filters(128, 512, 16000).T, np.finfo(np.float32).eps))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_mel_bins": 80, "window": "povey", "scale": "int16"},
        {"num_mel_bins": 64, "window": "hamming", "low_freq": 50.0, "high_freq": 7000.0},
        {"num_mel_bins": 40, "window": "blackman", "high_freq": -400.0},
        {"num_mel_bins": 40, "window": "rectangular", "preemphasis": 0.0, "low_freq": 0.0},
        {"num_mel_bins": 40, "window": "sine", "frame_length": 0.032, "frame_shift": 0.0125},
        {"num_mel_bins": 40, "rate": 44100},
        {"num_mel_bins": 40, "rate": 22050, "frame_length": 1 / 30},
        {"num_mel_bins": 23, "rate": 8000},
    ],
)
def test_equals_kaldi(options):
    expected, got = both(noise(), **options)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got, expected, atol=1e-3)


@pytest.mark.parametrize("samples", [1, 399, 400, 401, 559, 560, 1000])
def test_frames_and_short_signals_are_kaldis(samples):
    expected, got = both(noise(samples))
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, atol=1e-3)


@pytest.mark.parametrize("frequency", [100.0, 1000.0, 7000.0])
def test_tones(frequency):
    """A pure tone leaves most bands to rounding: what counts is within 60 dB of the strongest of its frame."""
    tone = 0.5 * np.sin(2 * np.pi * frequency * np.arange(8000) / 16000)
    expected, got = both((tone + 0.01 * noise()).astype(np.float32))
    near = expected > expected.max(axis=1, keepdims=True) - np.log(1e6)
    assert near.sum(axis=1).min() >= 3
    np.testing.assert_allclose(got.numpy()[near], expected[near], atol=1e-3)
    np.testing.assert_allclose(got, expected, atol=0.05)


def test_silence_lies_at_the_floor():
    expected, got = both(np.zeros(800, np.float32))
    np.testing.assert_array_equal(got, expected)


@given(
    bins=st.integers(3, 160),
    low=st.floats(0, 200),
    high=st.sampled_from([0.0, -200.0, 5000.0]),
    rate=st.sampled_from([16000, 22050, 48000]),
)
def test_filters_are_kaldis(bins, low, high, rate):
    options = Fbank(num_mel_bins=bins, low_freq=low, high_freq=high, rate=rate)._options()
    expected = np.array(knf.MelBanks(options.mel_opts, options.frame_opts, 1.0).get_matrix())
    got = mel_filters(bins, 2 * (expected.shape[1] - 1), rate, low, high)
    np.testing.assert_allclose(got, expected[:, :-1], atol=3e-5)
    assert (expected[:, -1] == 0).all()  # half the sampling rate is in no filter


def test_filters_in_closed_form():
    filters = mel_filters(20, 512, 16000)
    mel = 1127 * np.log1p(np.arange(256) * 31.25 / 700)
    edges = np.linspace(1127 * np.log1p(20 / 700), 1127 * np.log1p(8000 / 700), 22)
    expected = [np.interp(mel, edges[i : i + 3], [0, 1, 0]) for i in range(20)]
    np.testing.assert_allclose(filters, expected, atol=2e-5)
    inside = (mel > edges[1]) & (mel < edges[-2])
    np.testing.assert_allclose(filters.sum(axis=0)[inside], 1, atol=2e-5)  # neighbours share what they overlap in


@pytest.mark.parametrize("name", ["hanning", "povey", "hamming", "blackman", "rectangular", "sine"])
def test_windows_are_symmetric(name):
    window = window_function(name, 400)
    np.testing.assert_allclose(window, window[::-1], atol=1e-9)
    assert window.max() <= 1
    assert window.argmax() in (0, 199, 200)


def test_a_batch_is_its_signals():
    module = TorchFbank(num_mel_bins=40)
    batch = torch.from_numpy(np.stack([noise(seed=seed) for seed in range(3)]))
    together = module(batch)
    assert together.shape == (3, 48, 40)
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], module(batch[i : i + 1]), atol=1e-4, rtol=0)


def test_it_has_no_weights_and_lets_gradients_through():
    module = TorchFbank(num_mel_bins=20)
    assert not module.state_dict()
    assert not list(module.parameters())
    assert "num_mel_bins=20" in repr(module)
    wave = torch.from_numpy(noise())[None].requires_grad_()
    module(wave).sum().backward()
    assert torch.isfinite(wave.grad).all()
    assert (wave.grad != 0).float().mean() > 0.9


def test_half_precision_is_not_for_the_front_end():
    module, wave = TorchFbank(num_mel_bins=40), torch.from_numpy(noise())[None]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = module(wave)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, module(wave), atol=0, rtol=0)


def test_impossible_options():
    with pytest.raises(FeatureError, match="num_mel_bins"):
        TorchFbank(num_mel_bins=1)
    with pytest.raises(TypeError):
        TorchFbank(bins=3)


def test_onnx(tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    module = TorchFbank().eval()
    sizes = ({0: torch.export.Dim("batch"), 1: torch.export.Dim("samples", min=400, max=10**8)},)
    program = torch.onnx.export(
        module, (torch.zeros(2, 16000),), dynamo=True, dynamic_shapes=sizes, input_names=["wave"], verbose=False
    )
    program.save(tmp_path / "fbank.onnx")
    session = runtime.InferenceSession(tmp_path / "fbank.onnx", providers=["CPUExecutionProvider"])
    for count, samples in ((1, 400), (3, 16000), (2, 7777)):
        wave = np.stack([noise(samples, seed) for seed in range(count)])
        (got,) = session.run(None, {"wave": wave})
        np.testing.assert_allclose(got, module(torch.from_numpy(wave)), atol=1e-3)


@pytest.mark.data
@pytest.mark.filterwarnings("ignore::graphophone.audio.AudioWarning")
def test_equals_kaldi_on_recordings(data_root: Path):
    files = sorted((data_root / "esc10").rglob("*.ogg"))[::20] + sorted((data_root / "ravdess").rglob("*.flac"))[::72]
    assert len(files) == 40
    module, kaldi = TorchFbank(), create_extractor("fbank")
    worst, far, ours, theirs = 0.0, [], [], []
    for file in files:
        signal = audio.load(file).signal
        expected, got = kaldi(signal, 16000), module(torch.from_numpy(signal)[None])[0].numpy()
        truth = exact(signal)
        worst = max(worst, np.abs(got - expected).max())
        far.append((np.abs(got - expected) > 1e-3).mean())
        ours.append(np.abs(got - truth).max())
        theirs.append(np.abs(expected - truth).max())
    # Both round in single precision; where they part by more than 1e-3, it is mostly Kaldi that rounds.
    assert worst < 4e-3
    assert np.mean(far) < 1e-4
    assert np.mean(ours) < np.mean(theirs)


def test_as_close_to_the_truth_as_kaldi():
    signal = noise(32000)
    expected, got = both(signal)
    truth = exact(signal)
    assert np.abs(got.numpy() - truth).max() < 1e-3
    assert np.abs(got.numpy() - truth).max() < 2 * np.abs(expected - truth).max()
