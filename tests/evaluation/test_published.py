from typing import Any

import pytest

from graphophone.evaluation.literature import PUBLISHED, SOUND_CORPORA
from graphophone.evaluation.published import published_beside, published_series, run_variant, unpublished


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


# ---------------------------------------------------------------- sounds


def sounds(
    corpus: str,
    items: int,
    classes: int,
    *,
    protocol: str = "official",
    folds: int = 1,
    train: int = 0,
    model: str = "lhgnn",
) -> dict[str, Any]:
    return {
        "corpus": {"name": corpus, "items": items, "classes": [str(c) for c in range(classes)], "speakers": 0},
        "protocol": {"name": protocol, "mixes_speakers": None, "folds": [{"train": train}] * folds},
        "model": {"name": model, "parameters": 31_140_952},
        "folds": [f"fold{f}" for f in range(folds)],
    }


FSD50K = sounds("fsd50k", 51_197, 200, train=36_796)
ESC50 = sounds("esc50", 2000, 50, protocol="folds", folds=5, train=1600)
SCRATCH: dict[str, Any] = {"model": {"name": "lhgnn"}, "training": {"pretrained": None}}


def test_tables_of_the_lhgnn_paper() -> None:
    by_table = {
        name: {(p.system, p.pretraining): p for p in PUBLISHED if p.source == f"Singh et al. (2025), Table {name}"}
        for name in ("I", "II", "III", "IV", "V")
    }
    assert {name: len(rows) for name, rows in by_table.items()} == {"I": 8, "II": 8, "III": 4, "IV": 3, "V": 3}
    assert by_table["I"]["LHGNN", "ImageNet"].map == 0.466
    assert by_table["I"]["LHGNN, from scratch", ""].map == 0.442
    assert by_table["II"]["LHGNN", "ImageNet"].map == 0.59
    assert by_table["II"]["LHGNN, from scratch", ""].map == 0.573
    best = by_table["III"]["LHGNN", "ImageNet"]
    assert (best.wa, best.spread, best.map) == (96.2, 0.3, None)
    assert {k: p.map for k, p in published_series("kernel").items()} == {"local": 0.531, "higher": 0.501, "both": 0.573}
    assert {k: p.map for k, p in published_series("cluster").items()} == {
        "kmeans": 0.544,
        "fcm": 0.573,
        "density": 0.574,
    }


def test_only_the_same_start_is_comparable() -> None:
    beside = {b.result.system: b for b in published_beside(FSD50K, SCRATCH)}
    assert beside["LHGNN, from scratch"].comparable
    assert "Both are trained from scratch." in beside["LHGNN, from scratch"].difference
    assert not beside["LHGNN"].comparable
    assert not beside["Audio Transformers"].comparable  # the table does not say
    assert len(beside) == 8
    started = {**SCRATCH, "training": {"pretrained": "vig.pth"}}
    beside = {b.result.system: b for b in published_beside(FSD50K, started)}
    assert not any(b.comparable for b in beside.values())
    assert "It is trained from scratch; this run starts from vig.pth." in beside["LHGNN, from scratch"].difference


def test_own_rows_come_first() -> None:
    for model, first in (("lhgnn", "LHGNN, from scratch"), ("ast", "AST, from scratch")):
        run = sounds("fsd50k", 51_197, 200, train=36_796, model=model)
        assert published_beside(run, {})[0].result.system == first


def test_ablations_stand_beside_their_own_variant_only() -> None:
    names = [b.result.system for b in published_beside(FSD50K, SCRATCH)]
    assert not any("neighbours" in name or "means" in name for name in names)
    local = {**SCRATCH, "model": {"name": "lhgnn", "kernel": "local"}}
    beside = {b.result.system: b for b in published_beside(FSD50K, local)}
    assert beside["LHGNN, neighbours only"].comparable
    assert "Other kernel: both there, local here." in beside["LHGNN, from scratch"].difference
    assert "Other kernel" not in beside["AST"].difference


def test_esc_50_is_pretrained_there() -> None:
    beside = published_beside(ESC50, SCRATCH)
    assert [b.result.system for b in beside] == ["LHGNN", "PANN", "AST", "ERANN"]
    assert not any(b.comparable for b in beside)
    assert "four to train on and one to test, as here." in beside[0].difference
    assert "trained on ImageNet; this run is trained from scratch" in beside[0].difference
    held = sounds("esc50", 2000, 50, protocol="folds", folds=5, train=1200)
    assert "1,600 clips to train on there, 1,200 here." in published_beside(held, SCRATCH)[0].difference
    other = sounds("esc50", 2000, 50, protocol="stratified", folds=1)
    assert "this run follows the protocol stratified" in published_beside(other, SCRATCH)[0].difference


def test_esc_10_has_references_and_no_figure_of_the_paper() -> None:
    ten = sounds("esc10", 400, 10, protocol="folds", folds=5, train=320)
    beside = published_beside(ten, SCRATCH)
    assert [(b.result.wa, b.result.kind, b.comparable) for b in beside] == [
        (80.0, "reference", True),
        (86.0, "reference", True),
    ]
    assert unpublished(ten).startswith("No result of LHGNN on ESC-10 is published")
    assert "AudioSet, FSD50K and ESC-50 only" in unpublished(ten)
    assert unpublished(ESC50) == ""
    assert unpublished(sounds("urbansound8k", 8732, 10, folds=10)) != ""
    assert published_beside(sounds("urbansound8k", 8732, 10, folds=10), SCRATCH) == []
    # Ten of fifty classes under the name of the whole are not ESC-50.
    assert published_beside(sounds("esc50", 400, 10, protocol="folds", folds=5), SCRATCH) == []


def test_a_small_part_of_audioset_is_not_comparable() -> None:
    whole = {b.result.system: b for b in published_beside(sounds("audioset", 1_900_000, 527, train=1_880_000), SCRATCH)}
    assert whole["LHGNN, from scratch"].comparable
    assert "chooses the weights that it averages on the evaluation part" in whole["LHGNN, from scratch"].difference
    part = {b.result.system: b for b in published_beside(sounds("audioset", 42_000, 527, train=20_000), SCRATCH)}
    assert not any(b.comparable for b in part.values())
    assert "2,000,000 clips to train on there, 20,000 here." in part["LHGNN, from scratch"].difference


def test_results_on_sounds_stay_with_their_corpus() -> None:
    speech = run("ravdess", 1440, 8, False, 6)
    speech["model"] = {"name": "lhgnn"}
    assert all(b.result.corpus == "ravdess" for b in published_beside(speech, SCRATCH))
    graph = sounds("esc10", 400, 10, protocol="folds", folds=5, model="glnn")
    assert all(b.result.corpus == "esc10" for b in published_beside(graph, recipe()))
    assert {p.corpus for p in PUBLISHED} - SOUND_CORPORA == {"iemocap", "ravdess"}
