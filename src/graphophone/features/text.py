"""What every extractor of text is: texts in, vectors out, through the cache."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graphophone.features import extraction
from graphophone.features.base import Extractor, FeatureError, Reads

if TYPE_CHECKING:
    from graphophone.corpora.base import Corpus
    from graphophone.features.cache import FeatureCache

#: What became of one text: its place among those given, its features, and what is odd about it.
Encoded = tuple[int, np.ndarray, tuple[str, ...]]


def text_digest(text: str) -> str:
    """Hash of a text, by which the cache knows it (BLAKE2b, 160 bits)."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()


def is_text(value: Any) -> bool:
    """Whether a cell of a table holds words: not empty, not blanks, not a missing value."""
    return isinstance(value, str) and bool(value.strip())


class TextExtractor(Extractor):
    """Turns a text into features. Subclasses implement :meth:`_encode`.

    Shapes:
        - **output:** per text `[tokens, dims]` float32 at level ``"frame"``, `[dims]` at level ``"utterance"``
    """

    reads: ClassVar[Reads] = "text"

    @property
    def hop(self) -> None:
        """None: words have no clock."""
        return

    @abstractmethod
    def _encode(self, texts: Sequence[str]) -> Iterator[Encoded]:
        """Features of texts, in any order, as they get ready; none of the texts is blank."""

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Features of texts, in their order.

        A text's numbers do not depend on its neighbours (to single precision): padding is masked.

        Raises:
            FeatureError: If a text is empty.
            MissingDependencyError: If an optional package is missing.
        """
        if isinstance(texts, str):
            raise FeatureError(f"{self.name}: expected a list of texts, got one text; put it in a list")
        blank = next((i for i, text in enumerate(texts) if not is_text(text)), None)
        if blank is not None:
            raise FeatureError(f"{self.name}: text {blank} is empty; leave it out")
        found = {index: features for index, features, _ in self._encode(texts)}
        return [found[index] for index in range(len(texts))]

    def outcomes(
        self, corpus: Corpus, cache: FeatureCache | None, workers: int | None, max_duration: float | None
    ) -> Iterator[extraction.Outcome]:
        """Features of the texts of a corpus: first what the cache has, then the rest, stored batch by batch.

        A text that several items share is encoded once. Threads of PyTorch work on one text together, so there are no
        worker processes, and texts have no duration.
        """
        column = corpus.table["text"].tolist() if "text" in corpus.table else [None] * len(corpus)
        items: dict[str, list[int]] = {}
        for index, text in enumerate(column):
            if is_text(text):
                items.setdefault(text, []).append(index)
            else:
                yield extraction.Outcome(index, error="it has no text")
        places: dict[str, str] = {}
        damages: dict[str, str] = {}
        missing = []
        if cache is None:
            missing = list(items)
        else:
            cache.clean()
            for text in items:
                places[text] = cache.path(self, text_digest(text), None, None)
                entry, damages[text] = cache.look_up(places[text])
                if entry is None:
                    missing.append(text)
                    continue
                for index in items[text]:
                    yield extraction.from_entry(index, entry)
        for number, features, notes in self._encode(missing):
            text = missing[number]
            entry, damage = None, damages.get(text, "")
            if cache is not None:
                metadata = {"extractor": self.name, "fingerprint": self.fingerprint, "duration": "0.0"}
                entry = cache.store(places[text], features, {**metadata, "notes": ",".join(notes)})
            for index in items[text]:
                array = features if entry is None else None
                yield extraction.Outcome(index, entry=entry, array=array, notes=notes, damage=damage)
                damage = ""  # one entry was damaged, however many items share it

    def _extract(self, signal: np.ndarray) -> np.ndarray:
        raise FeatureError(f"{self.name}: reads text, not sound; give the transcript, or choose an extractor of sound")
