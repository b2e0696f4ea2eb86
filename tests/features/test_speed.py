import numpy as np
import pytest

from graphophone.features import create_extractor
from graphophone.features.base import FeatureError
from graphophone.features.speed import SpeedPerturbed


def tone(frequency: float, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(int(16000 * seconds)) / 16000)).astype(np.float32)


@pytest.mark.parametrize("speed", [0.8, 0.9, 1.1, 1.25])
def test_a_faster_signal_is_shorter_and_higher(speed):
    fbank = create_extractor("fbank")
    changed = SpeedPerturbed(fbank, speed)
    frames = changed(tone(1000), 16000)
    assert abs(len(frames) - len(fbank(tone(1000), 16000)) / speed) <= 3
    expected = fbank(tone(1000 * speed, 1 / speed), 16000)
    middle = len(frames) // 2
    assert frames[middle].argmax() == expected[middle].argmax()
    assert frames[middle].argmax() != fbank(tone(1000), 16000)[middle].argmax()


def test_it_is_cached_apart_from_its_extractor():
    fbank = create_extractor("fbank")
    fingerprints = {fbank.fingerprint, *(SpeedPerturbed(fbank, s).fingerprint for s in (0.9, 1.1))}
    assert len(fingerprints) == 3
    assert SpeedPerturbed(fbank, 0.9).name == "fbank-speed0.9"
    assert SpeedPerturbed(fbank, 0.9).columns == fbank.columns


def test_impossible_speeds_are_refused():
    with pytest.raises(FeatureError, match=r"0\.5 to 2"):
        SpeedPerturbed(create_extractor("fbank"), 3.0)
