"""Signals and small corpora for the feature tests."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from graphophone.corpora.base import Corpus
from graphophone.features import FeatureCache

RATE = 16000


def voiced(samples: int, pitch: float = 140.0, seed: int = 0) -> np.ndarray:
    """A pulse train with vibrato and changing loudness, in noise: voiced and unvoiced stretches."""
    t = np.arange(samples) / RATE
    phase = 2 * np.pi * (pitch * t + 3.0 * np.sin(2 * np.pi * 4.0 * t) / (2 * np.pi))
    source = np.sign(np.sin(phase)) * (0.6 + 0.4 * np.sin(2 * np.pi * 1.5 * t))
    noise = np.random.default_rng(seed).standard_normal(samples)
    signal = 0.3 * source * (np.sin(2 * np.pi * 0.7 * t) > -0.6) + 0.01 * noise
    return signal.astype(np.float32)


@pytest.fixture(name="voiced")
def voiced_signals() -> Callable[..., np.ndarray]:
    """The function :func:`voiced`."""
    return voiced


@pytest.fixture
def signal() -> np.ndarray:
    """One second of :func:`voiced`."""
    return voiced(RATE)


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    """An empty cache."""
    return FeatureCache(tmp_path / "features")


MakeCorpus = Callable[..., Corpus]


@pytest.fixture
def make_corpus(tmp_path: Path) -> MakeCorpus:
    """``make_corpus(seconds, **columns)`` writes one file per number of seconds and makes a corpus of them."""

    def make(seconds: list[float], **columns: list[object]) -> Corpus:
        folder = tmp_path / "audio"
        folder.mkdir(exist_ok=True)
        paths = []
        for i, duration in enumerate(seconds):
            path = folder / f"{i:03}.wav"
            sf.write(path, voiced(round(duration * RATE), 100.0 + 10 * i, seed=i), RATE, subtype="PCM_16")
            paths.append(str(path))
        frame = pd.DataFrame(
            {
                "id": [f"item-{i}" for i in range(len(seconds))],
                "audio": paths,
                "label": [str(i % 2) for i in range(len(seconds))],
                **columns,
            }
        )
        return Corpus.from_table(frame, name="made")

    return make
