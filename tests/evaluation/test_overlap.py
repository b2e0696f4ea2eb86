"""What test and training items have in common, and what is known without listening."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_mutual_info_score, mutual_info_score

from graphophone import corpora
from graphophone.corpora import Corpus
from graphophone.evaluation.overlap import (
    baselines,
    overlap,
    overlap_words,
    overlap_words_of_all,
    overlaps,
    silent,
)
from graphophone.evaluation.protocols import Split, create_protocol


def made(rows: list[tuple[Any, ...]], columns: str, **options: Any) -> Corpus:
    """A corpus of the rows given."""
    frame = pd.DataFrame(rows, columns=columns.split())
    frame["id"] = [f"i{n}" for n in range(len(frame))]
    return Corpus.from_table(frame, name="made", rows=None, **options)


@pytest.fixture
def some() -> Corpus:
    return made(
        [
            ("Yes!", "glad", "ann", "d1"),
            ("Yes!", "glad", "ben", "d1"),
            ("No.", "sad", "ann", "d2"),
            ("Well", "glad", "cat", "d2"),
            ("?", "sad", "cat", "d3"),
            ("Hm", "sad", "dan", "d4"),  # validation
            ("Yes!", "sad", "ann", "d5"),  # test
            ("no", "sad", "ann", "d1"),
            ("?!", "glad", "eve", "d5"),
            ("", "glad", "eve", "d5"),
        ],
        "text label speaker dialogue",
    )


@pytest.fixture
def split() -> Split:
    return Split("some", np.arange(4), np.array([5]), np.arange(6, 10), unlabelled=np.array([4]))


def test_counts(some: Corpus, split: Split) -> None:
    found = overlap(some, split)
    json.dumps(found)
    assert (found["items"], found["training_items"]) == (4, 5)
    assert found["shared"] == {
        "speaker": {"values": 2, "shared": 1, "items": 2},
        "dialogue": {"values": 2, "shared": 1, "items": 1},
    }
    # `?!` is not `?`; an empty transcript is none; the word of an item whose label is withheld has been seen.
    assert found["transcripts"] == {"items": 3, "verbatim": 1, "normalised": 2}
    assert overlap(some, split, "validation")["shared"]["speaker"] == {"values": 1, "shared": 0, "items": 0}


def test_simple_answers(some: Corpus, split: Split) -> None:
    found = overlap(some, split)
    assert found["majority"] == {"class": "glad", "accuracy": 0.5, "ua": 0.5, "weighted_f1": pytest.approx(1 / 3)}
    text = found["text_alone"]
    assert (text["transcripts"], text["repeated"]) == (3, 2)
    # Yes: glad (wrong), no: sad (right), the others are not in training: glad (right).
    assert text["accuracy"] == 0.75
    assert text["label_bits"] == pytest.approx(-(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75)))


def test_a_tie_goes_to_the_class_that_is_more_frequent(split: Split) -> None:
    rows = [("a", "x"), ("a", "y"), ("b", "y"), ("c", "y"), ("", "x"), ("", "x"), ("a", "y"), ("a", "y")]
    found = overlap(made([*rows, ("a", "y"), ("a", "x")], "text label"), split)
    assert found["text_alone"]["accuracy"] == 0.75
    assert found["majority"]["class"] == "y"


@pytest.mark.parametrize("seed", range(3))
def test_bits_are_mutual_information_beyond_chance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    texts, labels = rng.integers(0, 12, 300), rng.integers(0, 3, 300)
    labels[:150] = texts[:150] % 3
    corpus = made(list(zip([f"t{t}" for t in texts], [str(y) for y in labels], strict=True)), "text label")
    split = Split("s", np.arange(250), np.zeros(0, dtype=np.int64), np.arange(250, 300))
    text = overlap(corpus, split)["text_alone"]
    # The adjusted score is (I - E) / (max - E): two of its normalisers give I - E.
    one, other = texts[:250], labels[:250]
    found = mutual_info_score(one, other)
    entropies = [-sum(c / 250 * np.log(c / 250) for c in Counter(v.tolist()).values()) for v in (one, other)]
    scores = [adjusted_mutual_info_score(one, other, average_method=m) for m in ("min", "max")]
    expected = [(found - s * top) / (1 - s) for s, top in zip(scores, (min(entropies), max(entropies)), strict=True)]
    assert expected[0] == pytest.approx(expected[1], abs=1e-9)
    assert text["bits"] == pytest.approx((found - expected[0]) / np.log(2), abs=1e-9)
    assert text["bits"] > 0.1


def test_transcripts_that_tell_all_nothing_or_cannot_be_asked() -> None:
    split = Split("s", np.arange(80), np.zeros(0, dtype=np.int64), np.arange(80, 100))
    labels = [str(n % 4) for n in range(100)]
    sentences = overlap(made([(f"sentence {n // 4 % 2}", y) for n, y in enumerate(labels)], "text label"), split)
    assert sentences["text_alone"]["bits"] == 0
    assert "nothing is to be gained from these words" in " ".join(overlap_words(sentences))
    names = overlap(made([(f"class {y}", y) for y in labels], "text label"), split)
    assert names["text_alone"]["accuracy"] == 1
    assert names["text_alone"]["bits"] == pytest.approx(2, abs=0.1)
    unique = overlap(made([(f"text {n}", y) for n, y in enumerate(labels)], "text label"), split)
    assert unique["text_alone"]["bits"] is None, "as many texts as items tell the class of each, and nothing else"
    assert "No transcript of the test part is in training." in overlap_words(unique)


def test_words(some: Corpus, split: Split) -> None:
    told = overlap_words(overlap(some, split))
    assert told[:4] == [
        "1 of 2 speakers of the test part is also in training: 2 of 4 items (50.0%).",
        "1 of 2 dialogues of the test part is also in training: 1 of 4 items (25.0%).",
        "1 of 4 items (25.0%) have a transcript that a training item has too, word for word; up to case, punctuation "
        "and accents 2.",
        "To answer glad always, which training has most of, gives accuracy 50.0, UA 50.0, weighted F1 33.3.",
    ]
    assert told[4].startswith("To answer with the class that a transcript most often has in training")
    apart = Split("apart", np.arange(4), np.zeros(0, dtype=np.int64), np.array([5]))
    assert overlap_words(overlap(some, apart))[:2] == [
        "No speaker of the test part is in training.",
        "No dialogue of the test part is in training.",
    ]


def test_tags_have_no_single_answer(split: Split) -> None:
    rows = [("Yes", ["a", "b"], "ann") for _ in range(10)]
    found = overlap(made(rows, "text labels speaker"), split)
    assert found["majority"] is None
    assert found["text_alone"] is None
    assert found["transcripts"]["verbatim"] == 4
    assert overlap_words(found)[0] == "All 1 speaker of the test part is also in training: 4 of 4 items (100.0%)."


@pytest.mark.data
def test_published_numbers(data_root: Path) -> None:
    meld = corpora.load("meld", data_root / "meld")
    found = overlap(meld, create_protocol("official").splits(meld, seed=0)[0])
    assert found["transcripts"] == {"items": 2610, "verbatim": 331, "normalised": 404}
    assert found["shared"]["dialogue"] == {"values": 280, "shared": 0, "items": 0}
    assert found["majority"]["accuracy"] == pytest.approx(0.4812, abs=1e-4)
    assert found["majority"]["weighted_f1"] == pytest.approx(0.3127, abs=1e-4)
    ravdess = corpora.load("ravdess", data_root / "ravdess")
    for split in create_protocol("speaker-independent").splits(ravdess, seed=0):
        text = overlap(ravdess, split)["text_alone"]
        assert (text["transcripts"], text["bits"]) == (2, 0.0)


def parted(corpus: Corpus, test: int, name: str = "s", start: int = 0) -> Split:
    """Some items as test part, the others as training."""
    rows = np.arange(len(corpus))
    chosen = (rows >= start) & (rows < start + test)
    return Split(name, rows[~chosen], np.zeros(0, dtype=np.int64), rows[chosen])


def sentences(kinds: int, repeats: int, labels: str = "abcd") -> Corpus:
    """So many sentences, each said so often with every label."""
    rows = [(f"sentence {n % kinds}", labels[n // kinds % len(labels)]) for n in range(kinds * repeats * len(labels))]
    return made(rows, "text label")


def test_splits_that_are_alike_are_told_once(some: Corpus, split: Split) -> None:
    other = Split("other", np.arange(5), np.array([5]), np.arange(6, 9), unlabelled=np.array([9]))
    found = overlaps(some, {0: [split], 1: [split, other], 2: [other]})
    assert [(each["split"], each["seeds"]) for each in found] == [("some", [0, 1]), ("other", [1, 2])]
    assert {key: value for key, value in found[0].items() if key != "seeds"} == overlap(some, split)
    assert baselines(found)["majority"]["accuracy"] == pytest.approx(np.mean([0.5, 1 / 3]))


def test_words_of_several_splits(some: Corpus, split: Split) -> None:
    other = Split("other", np.arange(5), np.array([5]), np.arange(6, 9), unlabelled=np.array([9]))
    words = " ".join(overlap_words_of_all(overlaps(some, {0: [split, other]})))
    assert "Of the speakers of a test part, some are also in training in 2 of 2 splits: 50.0 to 100.0 % of" in words
    assert "25.0 to 33.3 % of the test items have a transcript that a training item has too, word for word" in words
    assert "tell nothing" not in words
    assert overlap_words_of_all(overlaps(some, {3: [split]})) == overlap_words(overlap(some, split))


def test_words_tell_nothing_only_where_that_is_known() -> None:
    spoken = sentences(2, 10)
    assert silent(overlap(spoken, parted(spoken, 16)))
    unique = made([(f"words {n}", "ab"[n % 2]) for n in range(40)], "text label")
    assert not silent(overlap(unique, parted(unique, 8)))  # nobody says the same twice: nothing is known
    telling = made([("yes" if n % 2 else "no", "ab"[n % 2]) for n in range(40)], "text label")
    assert not silent(overlap(telling, parted(telling, 8)))
    several = overlaps(spoken, {0: [parted(spoken, 16), parted(spoken, 16, "t", 16)]})
    assert "nothing is to be gained from these words" in " ".join(overlap_words_of_all(several))
