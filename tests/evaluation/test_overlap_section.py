"""What a report says of what test and training items have in common."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from graphophone.corpora import Corpus
from graphophone.evaluation.overlap import overlaps
from graphophone.evaluation.overlap_section import SPLITS_SHOWN
from graphophone.evaluation.protocols import Split
from graphophone.evaluation.report import write_report

MakeRun = Callable[..., Path]
Check = Callable[[Path], Any]
EMPTY = np.zeros(0, dtype=np.int64)
SMALL: dict[str, Any] = {"classes": ["calm", "sad", "angry", "happy"], "per_speaker": 2, "seeds": (0,), "folds": 1}


@pytest.fixture
def corpus() -> Corpus:
    """Two sentences, each said by four people in every one of four moods."""
    rows = [
        {"id": f"{who}{text}{label}{take}", "speaker": who, "text": text, "label": label}
        for who in ("ann", "ben", "cat", "dan")
        for text in ("Kids are talking.", "Dogs are sitting.")
        for label in ("calm", "sad", "angry", "happy")
        for take in range(2)
    ]
    return Corpus.from_table(pd.DataFrame(rows), name="ravdess", rows=None)


def split(name: str, test: np.ndarray) -> Split:
    rows = np.arange(64)
    return Split(name, np.setdiff1d(rows, test), EMPTY, test)


def test_one_split(corpus: Corpus, make_run: MakeRun, check: Check) -> None:
    found = overlaps(corpus, {0: [split("fold0", np.arange(48, 64))]})
    page = check(write_report(make_run(run={"overlap": found}, **SMALL)))
    assert "overlap" in page.ids
    assert "No speaker of the test part is in training." in page.text
    assert "16 of 16 items (100.0%) have a transcript that a training item has too" in page.text
    assert "nothing is to be gained from these words" in page.text
    row = page.row("The most frequent class, always")
    assert row[1:3] == ["25.0", "25.0"]
    assert page.row("The most frequent class of the same transcript")[1] == "25.0"
    assert "Text alone tells nothing here" not in page.text  # this model reads no text


def test_a_model_of_text_is_told_that_it_says_nothing(corpus: Corpus, make_run: MakeRun, check: Check) -> None:
    found = overlaps(corpus, {0: [split("fold0", np.arange(48, 64))]})
    features = {"name": "modalities", "text": {"name": "minilm"}, "audio": {"name": "egemaps"}}
    page = check(write_report(make_run(run={"overlap": found, "features": features}, **SMALL)))
    assert "Text alone tells nothing here: beyond chance" in page.text
    page = check(
        write_report(
            make_run("other", run={"overlap": found, "features": features}, recipe={"model.modality": "audio"}, **SMALL)
        )
    )
    assert "Text alone tells nothing here" not in page.text


def test_many_splits_are_a_table(corpus: Corpus, make_run: MakeRun, check: Check) -> None:
    rng = np.random.default_rng(0)
    splits = [split(f"draw{n}", np.sort(rng.permutation(64)[:16])) for n in range(SPLITS_SHOWN + 3)]
    page = check(write_report(make_run(run={"overlap": overlaps(corpus, {0: splits, 1: splits[:1]})}, **SMALL)))
    row = page.row("draw0")
    assert row[1:4] == ["0 and 1", "16", "4 of 4"]
    assert row[4:6] == ["100.0", "100.0"]
    assert f"are also in training in {len(splits)} of {len(splits)} splits: 100.0 % of the test items" in page.text
    assert "3 more are in run.json." in page.text


def test_a_run_of_old_says_nothing_of_it(make_run: MakeRun, check: Check) -> None:
    page = check(write_report(make_run(**SMALL)))
    assert "overlap" not in page.ids
    assert "The most frequent class, always" not in page.text
