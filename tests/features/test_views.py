from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from graphophone.features.extraction import Item
from graphophone.features.speech_encoder import standardise
from graphophone.features.text_encoder import load_tokenizer
from graphophone.features.views import SoundViews, TextViews, drop_words


@given(st.text("ab \n", max_size=30), st.floats(0, 0.99), st.integers(0, 1000))
def test_dropped_words(text: str, probability: float, seed: int) -> None:
    kept = drop_words(text, probability, np.random.default_rng(seed)).split()
    words = text.split()
    remaining = iter(words)
    assert all(word in remaining for word in kept)  # in order
    assert bool(kept) == bool(words)
    if len(words) == 1 or probability == 0:
        assert kept == words


def test_share_of_dropped_words() -> None:
    rng = np.random.default_rng(0)
    text = " ".join(str(i) for i in range(100))
    left = [len(drop_words(text, 0.15, rng).split()) for _ in range(200)]
    assert np.mean(left) == pytest.approx(85, abs=1)
    assert len(set(left)) > 5


def test_one_word_stays_where_all_would_go() -> None:
    rng = np.random.default_rng(0)
    assert {drop_words("a b c", 0.9999, rng) for _ in range(100)} == {"a", "b", "c"}


def test_views_of_texts(make_text_encoder: Callable[..., Path]) -> None:
    tokenizer = load_tokenizer(make_text_encoder())
    texts = ["yeah", "what is this a good day", "never mind you know"]
    views = TextViews(texts, tokenizer, 6, 0.0)
    parts = [np.array([2, 1]), np.array([0])]
    first, second = views.batches(parts, 2, np.random.default_rng(0))
    np.testing.assert_array_equal(first.items, [2, 1])
    decoded = [tokenizer.decode(row, skip_special_tokens=True) for row in first.inputs["input_ids"]]
    assert decoded == ["never mind you know", "what is this a"] * 2
    assert second.inputs["attention_mask"].tolist() == [[1, 1, 1]] * 2
    spoilt = TextViews(texts, tokenizer, 20, 0.5)
    again = [
        next(spoilt.batches(parts, 2, np.random.default_rng(seed))).inputs["input_ids"].tolist() for seed in (1, 1, 2)
    ]
    assert again[0] == again[1] != again[2]


@pytest.fixture
def recordings(tmp_path: Path) -> list[Item]:
    """A rising line, of 2 s at 16 kHz and of 0.5 s at 8 kHz; a segment of the first; and a file of text."""
    line = np.linspace(-0.5, 0.5, 32000)
    soundfile.write(tmp_path / "long.wav", line, 16000, "FLOAT")
    soundfile.write(tmp_path / "short.wav", np.full(4000, 0.25), 8000, "FLOAT")
    (tmp_path / "text.wav").write_text("this is no sound")
    long, short, text = (str(tmp_path / f"{name}.wav") for name in ("long", "short", "text"))
    return [Item(0, long), Item(1, short), Item(2, long, 0.5, 1.75), Item(3, text)]


def test_views_of_recordings(recordings: list[Item], make_speech_encoder: Callable[..., Path]) -> None:
    folder = make_speech_encoder(normalise=False)
    views = SoundViews(recordings[:3], [2.0, 0.5, 1.25], folder, 1.0)
    batches = list(views.batches([np.array([0, 1, 2])] * 20, 2, np.random.default_rng(0)))
    assert len(batches) == 20
    signals = np.stack([batch.inputs["input_values"].numpy().reshape(2, 3, 16000) for batch in batches])
    line = np.linspace(-0.5, 0.5, 32000)
    begins = np.rint((signals[..., 0] + 0.5) * 31999).astype(int)
    for item, (low, high) in {0: (0, 16000), 2: (8000, 12000)}.items():
        assert low <= begins[:, :, item].min() < begins[:, :, item].max() <= high
        assert len(np.unique(begins[:, :, item])) > 30  # each view has its own piece
        for signal, begin in zip(signals[:, :, item].reshape(-1, 16000), begins[:, :, item].ravel(), strict=True):
            np.testing.assert_allclose(signal, line[begin : begin + 16000], atol=1e-6)
    np.testing.assert_allclose(signals[:, :, 1, 200:7800], 0.25, atol=1e-2)
    assert not signals[:, :, 1, 8000:].any()  # zeros at the end
    assert not views.failures


def test_what_cannot_be_read_is_left_out(recordings: list[Item], make_speech_encoder: Callable[..., Path]) -> None:
    views = SoundViews(recordings, [2.0, 0.5, 1.25, 1.0], make_speech_encoder(), 1.0)
    parts = [np.array([3, 0]), np.array([3]), np.array([1, 2])]
    batches = list(views.batches(parts, 2, np.random.default_rng(0)))
    assert [batch.items.tolist() for batch in batches] == [[0], [1, 2]]
    assert "text.wav" in views.failures[3]
    signals = batches[0].inputs["input_values"].numpy()
    np.testing.assert_allclose(signals, [standardise(signal) for signal in signals], atol=1e-5)
