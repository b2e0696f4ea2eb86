import os
import signal as signals
import sys
import threading
import time
from collections.abc import Callable

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


@pytest.mark.parametrize("name", ["IS10", "eGeMAPSv02"])
def test_an_interrupt_is_not_lost_in_a_callback(name: str, voiced: Callable[..., np.ndarray]) -> None:
    """Left alone, it would be printed and one frame would be missing."""
    long = voiced(16000 * 8)
    smile.process(name, "LowLevelDescriptors", long[:16000], 16000)
    hook = sys.unraisablehook
    for delay in (0.01, 0.02, 0.03):
        began = threading.Event()

        def interrupt(delay: float = delay, began: threading.Event = began) -> None:
            began.wait()
            time.sleep(delay)
            os.kill(os.getpid(), signals.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        began.set()
        with pytest.raises(KeyboardInterrupt):
            smile.process(name, "LowLevelDescriptors", long, 16000)
        thread.join()
        assert sys.unraisablehook is hook


def test_an_error_in_a_callback_is_raised(signal: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> Callable[..., None]:
        def callback(data: np.ndarray, meta: object) -> None:
            raise MemoryError("no room for a frame")

        return callback

    monkeypatch.setattr(opensmile.Smile, "_sink_callback", staticmethod(fails))
    with pytest.raises(MemoryError, match="no room"):
        smile.process("IS10", "LowLevelDescriptors", signal, 16000)
