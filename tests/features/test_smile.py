import numpy as np
import pytest

from graphophone.features import smile

opensmile = pytest.importorskip("opensmile")


def test_full_scale_does_not_wrap_around(signal: np.ndarray) -> None:
    """The package's own conversion turns +1.0 into the most negative 16-bit number."""
    loud = np.clip(signal * 10, -1.0, 1.0).astype(np.float32)
    assert (loud == 1.0).sum() > 100
    limited = np.minimum(loud, np.float32(32767 / 32768))
    ours = smile.process("IS10", "LowLevelDescriptors", loud, 16000)
    np.testing.assert_array_equal(ours, smile.process("IS10", "LowLevelDescriptors", limited, 16000))
    package = opensmile.Smile(opensmile.FeatureSet.IS10, opensmile.FeatureLevel.LowLevelDescriptors)
    np.testing.assert_array_equal(ours, package.process_signal(limited, 16000).to_numpy())
    assert np.abs(ours - package.process_signal(loud, 16000).to_numpy()).max() > 1.0


def test_one_object_per_set_and_level_in_a_process(signal: np.ndarray) -> None:
    smile._smile.cache_clear()
    for _ in range(3):
        smile.process("IS10", "LowLevelDescriptors", signal, 16000)
    assert smile._smile.cache_info().misses == 1


def test_the_input_is_left_alone(signal: np.ndarray) -> None:
    before = signal.copy()
    smile.process("eGeMAPSv02", "Functionals", signal, 16000)
    np.testing.assert_array_equal(signal, before)
