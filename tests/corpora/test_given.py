"""Vectors that come with a corpus, by modality."""

from __future__ import annotations

import numpy as np
import pytest

from graphophone.corpora.given import Given
from graphophone.errors import GraphophoneError


def test_all_columns_are_one_part_by_default() -> None:
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    given = Given(vectors)
    assert dict(given.parts) == {"given": slice(0, 3)}
    np.testing.assert_array_equal(given.part("given"), vectors)
    with pytest.raises(GraphophoneError, match=r"no given vectors of 'text'\. There are: given"):
        given.part("text")


def test_parts_stand_side_by_side() -> None:
    text, audio = np.ones((2, 3)), np.array([[np.nan, np.nan], [1.0, 2.0]])
    given = Given.side_by_side({"text": text, "audio": audio})
    assert given.vectors.dtype == np.float32
    assert dict(given.parts) == {"text": slice(0, 3), "audio": slice(3, 5)}
    np.testing.assert_array_equal(given.part("audio"), audio.astype(np.float32))
    with pytest.raises(GraphophoneError, match="text of 2, audio of 1; give a row per node"):
        Given.side_by_side({"text": text, "audio": audio[:1]})
    with pytest.raises(GraphophoneError, match="not none"):
        Given.side_by_side({})


@pytest.mark.parametrize(
    "parts",
    [
        {"text": slice(0, 2), "audio": slice(1, 3)},
        {"text": slice(0, 4)},
        {"text": slice(2, 2)},
        {"text": slice(0, 3, 2)},
        {"text": slice(0, None)},
    ],
)
def test_impossible_parts_are_refused(parts: dict[str, slice]) -> None:
    with pytest.raises(GraphophoneError, match="consecutive columns of the 3"):
        Given(np.zeros((2, 3), dtype=np.float32), parts=parts)


def test_the_key_tells_apart_vectors_edges_and_parts() -> None:
    vectors = np.zeros((2, 3), dtype=np.float32)
    keys = [
        Given(vectors).key,
        Given(vectors + 1).key,
        Given(vectors, np.array([[0, 1], [1, 0]])).key,
        Given(vectors, parts={"text": slice(0, 2), "audio": slice(2, 3)}).key,
        Given(vectors, parts={"text": slice(0, 1), "audio": slice(1, 3)}).key,
        Given(vectors, parts={"text": slice(0, 2), "video": slice(2, 3)}).key,
    ]
    assert len(set(keys)) == len(keys)
    assert Given(vectors.copy()).key == keys[0]
