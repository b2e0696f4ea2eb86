from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import graphophone.inference
from graphophone.features import FeaturePipeline, create_extractor
from graphophone.features.fbank import Fbank
from graphophone.inference.clips import Clip, hear, hear_many

RATE = 16000
Voice = Callable[..., np.ndarray]


def mortal() -> Fbank:
    """Features that take their process with them when the signal begins with full scale."""

    class Mortal(Fbank):  # of this function, so that it is sent to the processes and not imported there
        def _extract(self, signal: np.ndarray) -> np.ndarray:
            import os

            if signal[0] == 1.0:
                os._exit(9)
            return super()._extract(signal)

    return Mortal(num_mel_bins=5)


def clips(voice: Voice, count: int, deadly: set[int]) -> list[Clip]:
    signals = [voice(0.2, seed=row) for row in range(count)]
    for row in deadly:
        signals[row][0] = 1.0
    return [Clip(row, signal=signal, rate=RATE) for row, signal in enumerate(signals)]


def test_a_clip_that_kills_its_process_costs_no_other(voice: Voice):
    pipeline = FeaturePipeline(mortal())
    heard = list(hear_many(clips(voice, 14, deadly={5}), pipeline, None, workers=2))
    assert [item.clip.row for item in heard] == list(range(14))
    assert [item.clip.row for item in heard if item.frames is None] == [5]
    assert "died" in heard[5].reason
    healthy = FeaturePipeline(create_extractor("fbank", num_mel_bins=5))
    for item, clip in zip(heard, clips(voice, 14, deadly=set()), strict=True):
        if item.frames is not None:
            expected = hear(clip, healthy, None).frames
            assert expected is not None
            np.testing.assert_allclose(item.frames, expected, rtol=1e-5)


def test_clips_are_read_as_they_are_needed(voice: Voice):
    taken = []

    def endless():
        for row in range(10**9):
            taken.append(row)
            yield Clip(row, signal=voice(0.1), rate=RATE)

    heard = hear_many(endless(), FeaturePipeline(create_extractor("fbank")), None, workers=1)
    assert [next(heard).clip.row for _ in range(3)] == [0, 1, 2]
    assert taken == [0, 1, 2]


def test_the_samples_do_not_stay(voice: Voice):
    item = hear(Clip(0, signal=voice(0.1), rate=RATE, offset=2.0), FeaturePipeline(create_extractor("fbank")), None)
    assert item.clip.signal is None
    assert (item.start, item.end) == (2.0, pytest.approx(2.1))


def test_processes_that_compute_features_do_without_torch():
    code = "import sys, graphophone.inference.clips; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names_are_there():
    for name in graphophone.inference.__all__:
        assert getattr(graphophone.inference, name) is not None
    assert set(dir(graphophone.inference)) == set(graphophone.inference.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        graphophone.inference.nonsense  # noqa: B018


def test_a_failure_of_any_kind_is_the_clips_own(voice: Voice, monkeypatch: pytest.MonkeyPatch):
    def broken(self: Fbank, signal: np.ndarray) -> np.ndarray:
        raise RuntimeError("a library\nis cross")

    pipeline = FeaturePipeline(create_extractor("fbank"))
    monkeypatch.setattr(Fbank, "_extract", broken)
    item = hear(Clip(0, path=None, signal=voice(0.1), rate=RATE), pipeline, None)
    assert item.frames is None
    assert item.reason == "RuntimeError: a library is cross; leave it out, or convert it to 16-bit WAV"
    assert isinstance(item.error.__cause__, RuntimeError)


def test_names_in_messages(tmp_path: Path):
    item = hear(Clip(3, path=str(tmp_path / "gone.wav")), FeaturePipeline(create_extractor("fbank")), None)
    assert item.reason.startswith("there is no such file")
    assert str(item.error).startswith(str(tmp_path))
