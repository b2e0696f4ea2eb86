from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from graphophone.corpora.base import Corpus
from graphophone.features import CacheWarning, FeatureCache, FeaturePipeline
from graphophone.features.text import Encoded, TextExtractor, text_digest


class Letters(TextExtractor):
    """How often a, b and c stand in a text; longest texts first, and a note on capitals."""

    name = "letters"
    level = "utterance"
    columns = ("a", "b", "c")

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.stop_after: int | None = None

    @property
    def config(self) -> dict[str, Any]:
        return {}

    def _encode(self, texts: Sequence[str]) -> Iterator[Encoded]:
        for index in sorted(range(len(texts)), key=lambda i: -len(texts[i])):
            if len(self.seen) == self.stop_after:
                raise KeyboardInterrupt
            self.seen.append(texts[index])
            counts = np.array([texts[index].count(letter) for letter in "abc"], dtype=np.float32)
            yield index, counts, ("shouted",) if texts[index].isupper() else ()


TEXTS = ["abc", "aab", "", "abc", None, "BBB", "a a a a"]
COUNTS = np.array([[1, 1, 1], [2, 1, 0], [1, 1, 1], [0, 0, 0], [4, 0, 0]], dtype=np.float32)


def corpus(texts: Sequence[str | None] = TEXTS) -> Corpus:
    return Corpus("said", pd.DataFrame({"id": [f"i{n}" for n in range(len(texts))], "text": texts}), ("x",))


@pytest.mark.parametrize("cached", [False, True])
def test_items_without_text_are_named_and_shared_texts_read_once(cached: bool, cache: FeatureCache) -> None:
    extractor = Letters()
    found = FeaturePipeline(extractor).extract(corpus(), cache=cache if cached else None, progress=False)
    assert found.ids == ["i0", "i1", "i3", "i5", "i6"]
    np.testing.assert_array_equal(np.concatenate(list(found)), COUNTS)
    assert [str(problem) for problem in found.failures] == ["i2: it has no text", "i4: it has no text"]
    assert [(note.item, note.reason) for note in found.notes] == [("i5", "shouted")]
    assert sorted(extractor.seen) == ["BBB", "a a a a", "aab", "abc"]
    assert found.stats.cached == 0


def test_second_call_reads_nothing(cache: FeatureCache) -> None:
    FeaturePipeline(Letters()).extract(corpus(), cache=cache, progress=False)
    extractor = Letters()
    again = FeaturePipeline(extractor).extract(corpus(["new", *TEXTS]), cache=cache, progress=False)
    assert extractor.seen == ["new"]
    assert again.stats.cached == 5
    np.testing.assert_array_equal(np.concatenate(list(again))[1:], COUNTS)
    assert [note.reason for note in again.notes] == ["shouted"]


def test_an_interrupted_call_is_continued(cache: FeatureCache) -> None:
    first = Letters()
    first.stop_after = 2
    with pytest.raises(KeyboardInterrupt):
        FeaturePipeline(first).extract(corpus(), cache=cache, progress=False)
    second = Letters()
    found = FeaturePipeline(second).extract(corpus(), cache=cache, progress=False)
    assert not set(first.seen) & set(second.seen)
    assert len(second.seen) == 2
    np.testing.assert_array_equal(np.concatenate(list(found)), COUNTS)


def test_a_damaged_entry_is_reported_once_and_made_anew(cache: FeatureCache) -> None:
    from pathlib import Path

    extractor = Letters()
    FeaturePipeline(extractor).extract(corpus(), cache=cache, progress=False)
    Path(cache.path(extractor, text_digest("abc"), None, None)).write_bytes(b"nothing")
    with pytest.warns(CacheWarning, match="damaged entry") as warned:
        found = FeaturePipeline(extractor).extract(corpus(), cache=cache, progress=False)
    assert len(warned) == found.stats.damaged == 1
    np.testing.assert_array_equal(np.concatenate(list(found)), COUNTS)


def test_a_corpus_without_texts(cache: FeatureCache) -> None:
    bare = Corpus("silent", pd.DataFrame({"id": ["a", "b"]}), ("x",))
    found = FeaturePipeline(Letters()).extract(bare, cache=cache, progress=False)
    assert len(found) == 0
    assert len(found.failures) == 2


def test_digests_tell_texts_apart() -> None:
    texts = ["a", "a ", "A", "ä", "a\u0308", "\ud800"]
    assert len({text_digest(text) for text in texts}) == len(texts)
