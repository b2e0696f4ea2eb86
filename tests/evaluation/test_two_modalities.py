"""What is published of recognising emotion from text and audio, and how it stands beside runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphophone.evaluation.comparison import compare, write_comparison
from graphophone.evaluation.measures import SPEECH, WORDS, measures_of
from graphophone.evaluation.page import published_words
from graphophone.evaluation.published import published_beside, published_parts, run_variant, unpublished
from graphophone.evaluation.report import write_report
from graphophone.evaluation.sweep import setting_words
from graphophone.evaluation.two_modalities import (
    HEMOGAT_PAPER,
    TABLE_4,
    TABLE_5,
    TABLE_6,
    TWO_MODALITIES,
)

MakeRun = Callable[..., Path]
Check = Callable[[Path], Any]


def run(corpus: str, items: int, classes: int, model: str = "hemogat", **protocol: Any) -> dict[str, Any]:
    return {
        "corpus": {"name": corpus, "items": items, "classes": [str(c) for c in range(classes)]},
        "protocol": {"name": "official", "mixes_speakers": None, "folds": [], **protocol},
        "model": {"name": model},
        "folds": ["official"],
    }


def recipe(**model: Any) -> dict[str, Any]:
    return {
        "corpus": {"name": "meld"},
        "features": {"name": "modalities", "text": "minilm", "audio": {"name": "speech_encoder", "model": "own/w2v"}},
        "graph": {"name": "modal_knn", "k_text": 2, "k_audio": 8},
        "model": {"name": "hemogat", **model},
        "task": {"name": "utterance_graph"},
        "protocol": {"name": "official"},
    }


def test_the_tables_agree_with_each_other() -> None:
    for corpus in ("iemocap", "meld"):
        assert TABLE_4[corpus, "full", "both"] == TABLE_5[corpus, "gat"][:2] == TABLE_6[corpus, 3]
    counts = {n: sum(p.source == f"{HEMOGAT_PAPER}, Table {n}" for p in TWO_MODALITIES) for n in range(2, 7)}
    assert counts == {2: 2, 3: 13, 4: 18, 5: 6, 6: 8}
    # GraphSAGE has weights for the node itself, and attention has four heads: known differences of parameters.
    for corpus in ("iemocap", "meld"):
        gcn, sage, gat = (TABLE_5[corpus, name][2] for name in ("gcn", "sage", "gat"))
        assert sage - gcn == pytest.approx(1.05e6, abs=1e4)
        assert gat - gcn == pytest.approx(6.31e6, abs=1e4)


def test_the_headline_is_what_training_watches() -> None:
    assert measures_of(run("meld", 13_706, 7), recipe()) is WORDS
    assert measures_of(run("meld", 13_706, 7), {"task": {"name": "graph_classification"}}) is SPEECH
    assert (WORDS.main.key, WORDS.selection.key) == ("weighted_f1", "weighted_f1")


def test_beside_a_run_on_meld() -> None:
    beside = {b.result.system: b for b in published_beside(run("meld", 13_700, 7), recipe())}
    paper = beside["HemoGAT"]
    assert paper.comparable
    assert "13,706 utterances there, 13,700 here." in paper.difference
    assert "as here. Its numbers of neighbours were chosen on test items, which flatters it." in paper.difference
    assert "other test items; here they are training items" in paper.difference
    assert "this run reads those of minilm (text) and those of own/w2v (audio)" in paper.difference
    assert "weighted recall" in paper.difference
    assert published_words(paper.result, WORDS.main) == "60.7 ± 0.7"
    assert published_words(paper.result, WORDS.second) == "63.3 ± 0.6"
    other = beside["Khan et al. (2025), MemoCMT"]
    assert not other.comparable
    assert "does not say how the data were divided" in other.difference
    reference = beside["MiniLM sentence vectors + logistic regression"]
    assert reference.comparable
    assert (reference.result.wa, reference.result.weighted_f1) == (59.7, 56.4)
    assert not any("without" in name for name in beside)  # one of the variants only where the run is one


def test_a_variant_stands_beside_its_own_row() -> None:
    own = recipe(modality="audio", hm_gat=False)
    found = published_beside(run("meld", 13_706, 7), own)
    row = next(b for b in found if b.result.system == "HemoGAT, without HM-GAT, audio")
    assert (row.result.wa, row.result.weighted_f1) == (48.95, 40.33)
    assert "Other" not in row.difference
    main = next(b for b in found if b.result.system == "HemoGAT")
    assert "Other modality: audio and text there, audio here." in main.difference
    assert "Other graph part: with it there, without here." in main.difference
    split = {**recipe(), "task": {"name": "utterance_graph", "eval_scope": "split"}}
    main = next(b for b in published_beside(run("meld", 13_706, 7), split) if b.result.system == "HemoGAT")
    assert "other test items" not in main.difference


def test_beside_runs_on_iemocap() -> None:
    folds = [{"test": 551}]
    same = run("iemocap", 5509, 4, mixes_speakers=True, folds=folds)
    beside = {b.result.system: b for b in published_beside(same, recipe())}
    assert beside["HemoGAT"].comparable
    apart = run("iemocap", 5509, 4, mixes_speakers=False, name="session", folds=[{"test": 1100}] * 5)
    other = {b.result.system: b for b in published_beside(apart, recipe())}["HemoGAT"]
    assert not other.comparable
    assert "this run keeps speakers apart, which is harder" in other.difference
    # Other models on about as many utterances stand beside rows of their own.
    beside_glnn = published_beside(run("iemocap", 5531, 4, "glnn"), {"model": {"name": "glnn", "pooling": "mean"}})
    assert not any(b.result.model == "hemogat" for b in beside_glnn)
    assert any(b.result.model == "hemogat" for b in published_beside(run("iemocap", 5531, 4), recipe()))


def test_beside_a_run_on_mosi() -> None:
    found = published_beside(run("mosi", 2199, 2), recipe())
    systems = [b.result.system for b in found]
    assert "Published vectors of audio and text + SVM" in systems
    paper = next(b for b in found if b.result.system == "HemoGAT")
    assert not paper.comparable
    assert "Another corpus: IEMOCAP" in paper.difference
    gru = next(b for b in found if "GRU" in b.result.system)
    assert "other utterances of the video" in gru.difference


def test_beside_a_run_on_conversations() -> None:
    conversations = {
        "features": {"name": "modalities", "text": "minilm", "audio": {"name": "given"}, "video": {"name": "given"}},
        "model": {"name": "rigsl"},
        "task": {"name": "dialogue_classification"},
    }
    found = {b.result.system: b for b in published_beside(run("mosi", 2199, 2, "rigsl"), conversations)}
    gru = found["Published vectors of audio, text and video + bidirectional GRU over the video"]
    assert (gru.result.wa, gru.comparable) == (78.1, True)
    assert "other utterances" not in gru.difference
    assert "also sees the face" not in gru.difference
    svm = found["Published vectors of audio, text and video + SVM"]
    assert svm.result.wa == 76.1
    assert "this run reads the whole conversation" in svm.difference
    assert found["bc-LSTM, audio, text and video (Poria et al., 2017)"].result.wa == 80.3
    words = {"features": {"name": "minilm"}, "model": {"name": "rigsl"}, "task": {"name": "dialogue_classification"}}
    bc = next(b for b in published_beside(run("mosi", 2199, 2, "rigsl"), words) if "bc-LSTM" in b.result.system)
    assert "It also sees the face." in bc.difference
    meld = published_beside(run("meld", 13_706, 7, "rigsl"), words)
    assert [b.result.weighted_f1 for b in meld if b.result.kind == "reference"] == [56.4, 57.5]
    paper = next(b for b in meld if b.result.model == "hemogat")
    assert "other test items" in paper.difference
    assert "here they are training items" not in paper.difference
    assert "No figure of RIGSL" in unpublished(run("meld", 13_706, 7, "rigsl"))


def test_rows_of_a_comparison() -> None:
    meld = run("meld", 13_706, 7)
    keys = ["model.modality", "model.hm_gat"]
    row = published_parts(keys, recipe(modality="text", hm_gat=True, num_layers=2), meld)
    assert row is not None  # layers are not varied: whatever the runs have, the order may be compared
    assert (row.source, row.wa) == (f"{HEMOGAT_PAPER}, Table 4", 62.55)
    for gnn in ("gcn", "sage", "gat"):
        row = published_parts(["model.gnn"], recipe(gnn=gnn), meld)
        assert row is not None
        assert (row.source, row.wa) == (f"{HEMOGAT_PAPER}, Table 5", TABLE_5["meld", gnn][0])
    for layers in (1, 2, 3, 4):
        row = published_parts(["model.num_layers"], recipe(num_layers=layers), run("mosi", 2199, 2))
        assert row is not None
        assert (row.corpus, row.source, row.wa) == (
            "iemocap",
            f"{HEMOGAT_PAPER}, Table 6",
            TABLE_6["iemocap", layers][0],
        )
    assert published_parts(["model.gnn"], recipe(gnn="gatv2"), meld) is None
    assert published_parts(["model.gnn", "graph.k_text"], recipe(), meld) is None
    assert run_variant(recipe(cmt=False)) == {
        "modality": "both", "hm_gat": True, "cmt": False, "gnn": "gat", "num_layers": 3
    }  # fmt: skip


def test_settings_in_words() -> None:
    assert setting_words("model.hm_gat", True) == "with HM-GAT"
    assert setting_words("model.cmt", False) == "without CMT"
    assert setting_words("model.modality", "both") == "audio and text"
    assert setting_words("model.gnn", "sage") == "GraphSAGE"
    assert setting_words("model.gnn", None) == "default"


def modal_run(make_node_run: MakeRun, name: str, **model: Any) -> Path:
    """A made-up run of HemoGAT on MELD."""
    classes = ["neutral", "joy", "anger", "sadness", "disgust", "fear", "surprise"]
    facts = {
        "corpus": {"name": "meld", "items": 13_706, "classes": classes, "speakers": 0, "hours": 0.0, "problems": []},
        "model": {"name": "hemogat", "parameters": 11_567_623, "options": {}},
        "features": {"name": "modalities", "text": {"name": "minilm"}, "dims": 400},
        "protocol": {"name": "official", "description": "Published.", "mixes_speakers": None, "notes": [], "folds": []},
    }
    settings = {"model.name": "hemogat", "task.name": "utterance_graph", "protocol.name": "official"}
    settings |= {f"model.{key}": value for key, value in model.items()}
    return make_node_run(
        name, classes=classes, folds=1, seeds=(0, 1), per_speaker=2, controls=(), recipe=settings, run=facts
    )


def test_a_report_leads_with_weighted_f1(make_node_run: MakeRun, check: Check) -> None:
    page = check(write_report(modal_run(make_node_run, "hemogat-meld")))
    assert "HemoGAT reaches a weighted F1 of" in page.text
    assert page.row("HemoGAT")[1:3] == ["60.7 ± 0.7", "63.3 ± 0.6"]
    assert page.row("Weighted precision")[1] != "–"
    assert page.row("Area under the ROC curve of all pairs (micro AUC)")[1].startswith("0.")


def test_a_sweep_of_parts_beside_table_4(make_node_run: MakeRun, check: Check, tmp_path: Path) -> None:
    folders = [
        modal_run(make_node_run, f"m-{modality}-{part}", modality=modality, hm_gat=part)
        for modality in ("both", "audio")
        for part in (True, False)
    ]
    page = check(write_comparison(folders, tmp_path / "table4.html"))
    assert page.row("m-both-True")[1:3] == ["audio and text", "with HM-GAT"]
    assert page.row("m-audio-False")[5] == "40.3"
    assert "The paper's figures (Nguyen et al. (2026), Table 4) are on MELD" in page.text
    assert "Compare the order, not the values." in page.text
    assert "audio, without HM-GAT" in page.text
    assert any(image.startswith("Maps of the states of test items by true class") for image in page.images)
    table = compare(folders)
    assert np.isfinite(table["weighted_f1"]).all()
    assert table.attrs["measures"] is WORDS
