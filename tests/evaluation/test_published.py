from typing import Any

import pytest

from graphophone.evaluation.published import PUBLISHED, published_beside, published_series, run_variant


def run(corpus: str, items: int, classes: int, mixes: bool | None, folds: int = 5) -> dict[str, Any]:
    return {
        "corpus": {"name": corpus, "items": items, "classes": [str(c) for c in range(classes)]},
        "protocol": {"name": "any", "mixes_speakers": mixes},
        "model": {"name": "glnn"},
        "folds": [f"fold{f}" for f in range(folds)],
    }


def recipe(pooling: str = "weighted", layers: int = 3, k: int = 10) -> dict[str, Any]:
    return {
        "model": {"name": "glnn", "pooling": pooling, "num_layers": layers},
        "graph": {"name": "cycle_topk", "k": k},
    }


def test_tables_of_the_paper() -> None:
    by_table = {n: [p for p in PUBLISHED if p.source.endswith(f"Table {n}")] for n in (1, 2, 3, 4)}
    assert {n: len(rows) for n, rows in by_table.items()} == {1: 12, 2: 3, 3: 3, 4: 5}
    best = max(by_table[1], key=lambda p: p.wa or 0)
    assert (best.ua, best.wa, best.items) == (65.39, 71.83, 4490)
    assert {k: (p.ua, p.wa) for k, p in published_series("pooling").items()} == {
        "max": (57.97, 66.15),
        "sum": (58.55, 67.71),
        "mean": (59.16, 68.15),
        "topk": (61.88, 68.49),
        "weighted": (65.39, 71.83),
    }
    assert {k: p.parameters for k, p in published_series("num_layers").items()} == {2: 361_000, 3: 409_000, 4: 591_000}
    assert "copying" in published_series("k")[5].note
    assert published_series("lr") == {}


def test_same_protocol_is_comparable() -> None:
    beside = published_beside(run("iemocap", 4490, 4, True, 1), recipe())
    ours = next(b for b in beside if b.result.system == "GLNN, weighted pooling")
    assert ours.comparable
    assert "Both mix speakers" in ours.difference
    assert "no validation set" in ours.difference
    assert "pooling" not in ours.difference
    mean = next(b for b in beside if b.result.system == "GLNN, mean pooling")
    assert "Other pooling: mean there, weighted here." in mean.difference
    assert len(beside) == 8


def test_keeping_speakers_apart_is_said_and_not_comparable() -> None:
    beside = published_beside(run("iemocap", 4490, 4, False), recipe())
    assert beside
    for b in beside:
        assert not b.comparable
        assert "same speakers in training and test; this run keeps them apart, which is harder" in b.difference


def test_label_sets_are_told_apart_by_size() -> None:
    assert {b.result.items for b in published_beside(run("iemocap", 5531, 4, True), recipe("mean"))} == {5531}
    nearly = published_beside(run("iemocap", 4485, 4, True), recipe())
    assert all(b.comparable and "4,490 utterances there, 4,485 here." in b.difference for b in nearly)
    fewer = published_beside(run("iemocap", 3000, 4, True), recipe())
    assert not any(b.comparable for b in fewer)


def test_ablation_row_of_the_same_settings() -> None:
    systems = [b.result.system for b in published_beside(run("iemocap", 4490, 4, True), recipe("mean", layers=2))]
    assert "GLNN, mean pooling, 2 layers" in systems
    assert "GLNN, mean pooling, 4 layers" not in systems


def test_ravdess_has_references_and_the_paper_as_another_corpus() -> None:
    beside = published_beside(run("ravdess", 1440, 8, False, 6), recipe())
    assert [b.comparable for b in beside] == [True, True, False]
    assert beside[0].difference.startswith("The reference uses six folds of four actors, as here.")
    assert "Another corpus: IEMOCAP, 4,490 utterances of 4 classes." in beside[2].difference
    assert beside[2].result.variant["pooling"] == "weighted"
    scaled = published_beside(run("ravdess", 1440, 8, False, 6), recipe("weighted_scaled"))
    assert [b.result.system for b in scaled[2:]] == ["GLNN, weighted pooling"]
    assert "Other pooling: weighted there, weighted_scaled here." in scaled[2].difference
    four = published_beside(run("ravdess", 1440, 8, False, 4), recipe())
    assert "this run has 4" in four[0].difference


def test_mixing_run_beside_an_honest_reference() -> None:
    beside = published_beside(run("ravdess", 1440, 8, True, 1), recipe())
    reference = next(b for b in beside if b.result.corpus == "ravdess")
    assert not reference.comparable
    assert "flatters this run" in reference.difference


@pytest.mark.parametrize("mixes", [None, True, False])
def test_unknown_corpus_and_model(mixes: bool | None) -> None:
    unknown = run("mine", 10, 2, mixes)
    assert all(not b.comparable for b in published_beside(unknown, recipe()))
    unknown["model"] = {"name": "own"}
    assert published_beside(unknown) == []
    assert published_beside({}) == []


def test_run_variant() -> None:
    assert run_variant(recipe("max", 2, 5)) == {"pooling": "max", "num_layers": 2, "k": 5}
    assert run_variant({}) == {}
