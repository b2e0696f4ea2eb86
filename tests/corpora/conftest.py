"""Recordings for corpora made on the spot."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

MakeSound = Callable[..., Path]


@pytest.fixture
def make_sound() -> MakeSound:
    """A function that writes noise, different for each file name, and its folders."""

    def make(path: Path, *, seconds: float = 0.1, rate: int = 8000, peak: float = 0.3) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(zlib.crc32(str(path).encode()))
        sf.write(path, peak * rng.uniform(-1, 1, round(seconds * rate)), rate)
        return path

    return make
