"""Vectors that come with a corpus: nothing is computed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from graphophone.corpora.base import Corpus
from graphophone.features.base import Extractor, FeatureError, Level, Reads
from graphophone.features.cache import FeatureCache
from graphophone.features.extraction import Outcome


class Given(Extractor):
    """The vectors of a corpus that has them ready, such as the words of a citation graph's papers.

    Args:
        dims: Numbers in each vector; with 0 the refusal names how many there are.
        part: Which of the vectors, where the corpus has several of each item, such as ``"audio"``; empty: all of them
            side by side.

    Raises:
        FeatureError: If it is below 0.
    """

    name = "given"
    reads: ClassVar[Reads] = "corpus"

    def __init__(self, *, dims: int = 0, part: str = "") -> None:
        if dims < 0:
            raise FeatureError(f"given: dims must be at least 0, not {dims}")
        self._dims = dims
        self.part = part

    @property
    def level(self) -> Level:
        """One vector per item."""
        return "utterance"

    @property
    def hop(self) -> float | None:
        """None: there are no frames."""
        return None

    @property
    def columns(self) -> tuple[str, ...]:
        """Numbers of the columns."""
        return tuple(f"given_{number}" for number in range(self._dims))

    @property
    def dims(self) -> int:
        """Numbers in each vector."""
        return self._dims

    @property
    def config(self) -> dict[str, Any]:
        """Number of columns, and which vectors."""
        return {"dims": self._dims, "part": self.part}

    def vectors(self, corpus: Corpus) -> np.ndarray:
        """The vectors of the items of a corpus `[items, dims]` float32.

        Raises:
            FeatureError: If it has none, or of another width.
        """
        if corpus.given is None or "node" not in corpus.table:
            raise FeatureError(
                f"features.name is given, but corpus {corpus.name!r} comes without ready vectors; choose an extractor "
                "that reads its recordings"
            )
        if self.part and self.part not in corpus.given.parts:
            raise FeatureError(
                f"corpus {corpus.name!r} comes without vectors of {self.part!r}; it has "
                f"{', '.join(corpus.given.parts) or 'none by name'}"
            )
        vectors = corpus.given.part(self.part) if self.part else corpus.given.vectors
        wide = vectors.shape[1]
        if wide != self._dims:
            what = f" of {self.part}" if self.part else ""
            raise FeatureError(
                f"features: dims of the given vectors{what} is {self._dims}, but those of corpus {corpus.name!r} have "
                f"{wide} numbers; set dims to {wide}"
            )
        return vectors[corpus.table["node"].to_numpy()].astype(np.float32, copy=False)

    def outcomes(
        self, corpus: Corpus, cache: FeatureCache | None, workers: int | None, max_duration: float | None
    ) -> Iterator[Outcome]:
        """The vectors, as they are."""
        return (Outcome(index, array=vector, cached=True) for index, vector in enumerate(self.vectors(corpus)))

    def _extract(self, signal: np.ndarray) -> np.ndarray:
        raise FeatureError(
            "given: the features of this model came with the nodes of its graph, and no recording has any; train one "
            "with an extractor that reads recordings"
        )
