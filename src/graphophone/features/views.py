"""Views of items for learning that two of them belong together: words left out, pieces of a recording."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphophone import audio
from graphophone.errors import GraphophoneError
from graphophone.features.extraction import Item
from graphophone.features.pretrained import silent
from graphophone.features.speech_encoder import normalises, standardise

_RATE = 16000
_READERS = 4


@dataclass(frozen=True)
class Batch:
    """Some items, each in one view or in two.

    Attributes:
        items: Their numbers `[B]`.
        inputs: What the network takes, by name; `[views * B, ...]`, all first views before all second ones.
    """

    items: np.ndarray
    inputs: dict[str, Tensor]


class Views(ABC):
    """Makes batches of views of numbered items.

    Attributes:
        failures: Why an item could not be read, by its number; such an item is left out of its batch.
    """

    def __init__(self) -> None:
        self.failures: dict[int, str] = {}

    @abstractmethod
    def batches(self, parts: Sequence[np.ndarray], views: int, rng: np.random.Generator) -> Iterator[Batch]:
        """A batch of ``views`` views for each array of items; the same ones for the same generator."""


def drop_words(text: str, probability: float, rng: np.random.Generator) -> str:
    """A text without some of its words.

    Words (between blanks) are dropped each by itself; where all are, one at random stays. A single word stays.
    """
    words = text.split()
    if len(words) < 2:
        return text
    kept = rng.random(len(words)) >= probability
    if not kept.any():
        kept[rng.integers(len(words))] = True
    return " ".join(word for word, stays in zip(words, kept, strict=True) if stays)


class TextViews(Views):
    """Copies of texts with words left out, as tokens.

    Args:
        texts: The items.
        tokenizer: Of the network.
        max_length: Tokens that are read, with the special ones.
        word_dropout: Probability of dropping a word.
    """

    def __init__(self, texts: Sequence[str], tokenizer: Any, max_length: int, word_dropout: float) -> None:
        super().__init__()
        self._texts, self._tokenizer = texts, tokenizer
        self._max_length, self._word_dropout = max_length, word_dropout

    def batches(self, parts: Sequence[np.ndarray], views: int, rng: np.random.Generator) -> Iterator[Batch]:
        """As :meth:`Views.batches`; both views of a batch are padded to the same length."""
        for items in parts:
            texts = [drop_words(self._texts[i], self._word_dropout, rng) for _ in range(views) for i in items]
            with silent():
                inputs = self._tokenizer(
                    texts, truncation=True, max_length=self._max_length, padding=True, return_tensors="pt"
                )
            yield Batch(items, {name: inputs[name] for name in ("input_ids", "attention_mask")})


class SoundViews(Views):
    """Random pieces of recordings, read when they are wanted: memory holds two batches.

    A shorter recording is padded with zeros at its end. Threads read the next batch while this one is learned from.

    Args:
        items: The recordings, or segments of them.
        seconds: How long each is.
        folder: Of the network, which says whether it wants signals of mean 0 and variance 1.
        crop: Seconds of a piece.
    """

    def __init__(self, items: Sequence[Item], seconds: Sequence[float], folder: Path, crop: float) -> None:
        super().__init__()
        self._items, self._seconds = items, seconds
        self._normalise = normalises(folder)
        self._crop = crop

    def batches(self, parts: Sequence[np.ndarray], views: int, rng: np.random.Generator) -> Iterator[Batch]:
        """As :meth:`Views.batches`; an item that cannot be read is noted and left out, a batch without any skipped."""
        with ThreadPoolExecutor(_READERS) as pool:
            waiting: tuple[np.ndarray, list[list[Future[np.ndarray]]]] | None = None
            for items in [*parts, None]:
                following = None
                if items is not None:
                    places = rng.random((views, len(items)))
                    jobs = [[pool.submit(self._read, i, p) for i, p in zip(items, row, strict=True)] for row in places]
                    following = items, jobs
                if waiting is not None and (batch := self._collect(*waiting)) is not None:
                    yield batch
                waiting = following

    def _collect(self, items: np.ndarray, jobs: list[list[Future[np.ndarray]]]) -> Batch | None:
        pieces: list[list[np.ndarray]] = [[] for _ in jobs]
        good = []
        for column, item in enumerate(items):
            try:
                read = [row[column].result() for row in jobs]
            except (GraphophoneError, OSError) as error:
                self.failures[int(item)] = " ".join(str(error).split())
                continue
            good.append(int(item))
            for view, piece in zip(pieces, read, strict=True):
                view.append(piece)
        if not good:
            return None
        signals = np.stack([piece for view in pieces for piece in view])
        return Batch(np.array(good), {"input_values": torch.from_numpy(signals)})

    def _read(self, number: int, place: float) -> np.ndarray:
        """A piece of a recording; ``place`` in [0, 1) says where it begins, between 0 and the last place possible."""
        item, seconds = self._items[number], self._seconds[number]
        begin = (item.start or 0.0) + place * max(seconds - self._crop, 0.0)
        end = begin + self._crop if seconds > self._crop else item.end
        signal = audio.load(item.path, rate=_RATE, start=begin, end=end).signal
        size = round(self._crop * _RATE)
        signal = np.pad(signal[:size], (0, max(size - len(signal), 0)))
        return standardise(signal) if self._normalise else signal
