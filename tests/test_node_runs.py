"""Trainings of networks whose nodes are recordings, from few labels to run folders."""

import json

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from graphophone import jobs, runs
from graphophone.errors import GraphophoneError
from graphophone.evaluation.statistics import interval
from graphophone.graphs.attachment import chance_of_true_label, min_random_edges
from graphophone.inference import Recognizer
from graphophone.recipes import load_recipe


@pytest.fixture(scope="module")
def notes(tmp_path_factory):
    """A table of 150 short noisy tones: low, middle and high ones."""
    root = tmp_path_factory.mktemp("notes")
    rng = np.random.default_rng(0)
    time = np.arange(3200) / 16000
    rows = []
    for number in range(150):
        label = number % 3
        pitch = (300, 1000, 3000)[label] * rng.uniform(0.7, 1.4)
        signal = np.sin(2 * np.pi * pitch * time) + 0.2 * rng.standard_normal(len(time))
        name = f"n{number}.wav"
        soundfile.write(root / name, 0.2 * signal / np.abs(signal).max(), 16000)
        rows.append({"audio": name, "label": ("low", "middle", "high")[label], "speaker": f"s{number // 15}"})
    pd.DataFrame(rows).to_csv(root / "table.csv", index=False)
    return root / "table.csv"


@pytest.fixture
def recipe(notes):
    """A recipe that learns the tones from 20 % of the labels in a few seconds."""
    return {
        "name": "nodes",
        "corpus": {"name": "table", "root": str(notes)},
        "features": {"name": "logmel128"},
        "model": {"name": "subgraph_ssl", "hidden_channels": 32, "tasks": "denoise+shuffle", "per_dim": True},
        "task": {
            "name": "subgraph_classification",
            "per_class": 4,
            "unlabelled": 6,
            "draws": 3,
            "attachment": "nearest",
            "validate_every": 2,
            "learning_rate": 0.005,
        },
        "training": {"epochs": 6, "patience": 0, "threads": 1, "device": "cpu"},
        "protocol": {"name": "stratified", "labelled": 0.2},
        "seeds": [0],
    }


@pytest.fixture
def no_report(monkeypatch):
    """Runs without the page, which is slow to draw and has its own tests."""
    monkeypatch.setattr(runs, "write_report", lambda folder: None)


def quietly(recipe, output, **options):
    return runs.train(recipe, output=output, progress=False, **options)


def job_folder(run):
    return next((run.folder / "folds").iterdir())


def assert_same(one, other):
    """The same weights, reference graphs, answers and curves."""
    for name in ("model.safetensors", "references.safetensors"):
        first, second = load_file(one.model / name), load_file(other.model / name)
        assert first.keys() == second.keys()
        for key in first:
            assert torch.equal(first[key], second[key]), key
    for read in (lambda run: run.folder / "predictions.csv", lambda run: job_folder(run) / "curves.csv"):
        tables = [pd.read_csv(read(run)).drop(columns="seconds", errors="ignore") for run in (one, other)]
        pd.testing.assert_frame_equal(*tables)


def test_it_learns_from_few_labels_and_writes_what_a_run_holds(recipe, notes, tmp_path):
    run = quietly({**recipe, "seeds": [0, 1], "protocol": {**recipe["protocol"], "turns": 1}}, tmp_path)
    assert run.metrics["ua"]["mean"] > 0.85
    assert run.report.stat().st_size > 10_000
    folders = sorted((run.folder / "folds").iterdir())
    assert len(folders) == 2
    parts = []
    for folder in folders:
        measured = json.loads((folder / "metrics.json").read_text("utf-8"))
        parts.append(measured)
        items = measured["items"]
        pool = items["train"] + items["unlabelled"]
        assert items["train"] == round(0.2 * pool)
        assert pool + items["validation"] + items["test"] == 150
        assert 0 < measured["mad"] < 1
        with np.load(folder / "states.npz") as states:
            assert states["states"].shape == (items["test"], 32)
            assert states["states"].dtype == np.float32
            told = pd.read_csv(folder / "predictions.csv")
            assert [sorted(set(told["label"]))[i] for i in states["label"]] == told["label"].tolist()
        validation = pd.read_csv(folder / "validation.csv")
        assert set(told["id"]).isdisjoint(validation["id"])
        curves = pd.read_csv(folder / "curves.csv")
        assert curves["validation_ua"].notna().tolist() == [False, True] * 3
        assert (
            curves[["train_loss", "train_cross_entropy", "train_entropy", "train_denoise", "train_shuffle"]]
            .notna()
            .all()
            .all()
        )
        # The epoch that is kept answers as it was validated.
        kept = curves.loc[measured["best_epoch"], "validation_ua"]
        assert kept == curves["validation_ua"].max() == pytest.approx(measured["validation"]["ua"], abs=1e-6)
    for key in ("mad", "silhouette"):
        assert run.metrics[key] == interval([part[key] for part in parts]).to_dict()
    assert set(run.metrics["controls"]) == {"knn", "label_spreading", "linear_svm", "logistic_regression"}
    assert run.metrics["controls"]["linear_svm"]["ua"]["n"] == 2
    pooled = interval([part["controls"]["knn"]["ua"] for part in parts]).to_dict()
    assert run.metrics["controls"]["knn"]["ua"] == pytest.approx(pooled)
    told = pd.read_csv(run.folder / "predictions.csv")
    assert told["spread"].between(0, 0.6).all()
    described = json.loads((run.folder / "run.json").read_text("utf-8"))
    assert f"Labels of {items['train']} of {pool} training items" in described["protocol"]["description"]


def test_the_model_answers_for_recordings_as_it_was_tested_and_knows_no_test_item(recipe, notes, tmp_path, no_report):
    run = quietly(recipe, tmp_path)
    told = pd.read_csv(run.folder / "predictions.csv")
    recognizer = Recognizer.from_pretrained(run.model)
    answers = recognizer.process_files([notes.parent / f"{name}.wav" for name in told["id"]])
    columns = ["p_low", "p_middle", "p_high"]
    np.testing.assert_allclose(answers[columns], told[columns], atol=1e-5)
    known = {name for graph in recognizer.bundle.references for name in graph.id}
    assert known
    assert known.isdisjoint(set(told["id"]) | set(pd.read_csv(job_folder(run) / "validation.csv")["id"]))


@pytest.mark.parametrize("averaging", ["none", "ema"])
def test_an_interrupted_training_ends_as_an_undisturbed_one(recipe, tmp_path, monkeypatch, no_report, averaging):
    recipe["training"] |= {"averaging": averaging, "ema_decay": 0.9, "patience": 4}
    recipe["task"] |= {"schedule": "onecycle", "attachment": "random"}
    undisturbed = quietly(recipe, tmp_path / "one", folds=[0])
    step = jobs.EpochKeeper.on_train_epoch_start

    class PowerError(RuntimeError):
        pass

    for failing in (3, 4):  # before a validation, and after one

        def fail(self, trainer, module, epoch=failing):
            step(self, trainer, module)
            if trainer.current_epoch == epoch:
                raise PowerError

        with monkeypatch.context() as patch:
            patch.setattr(jobs.EpochKeeper, "on_train_epoch_start", fail)
            with pytest.raises(PowerError):
                quietly(recipe, tmp_path / "two", folds=[0])
    assert_same(undisturbed, quietly(recipe, tmp_path / "two", folds=[0]))


def test_patience_counts_epochs_between_validations(recipe, tmp_path, no_report):
    recipe["training"] |= {"epochs": 40, "patience": 5}
    run = quietly(recipe, tmp_path, folds=[0])
    curves = pd.read_csv(job_folder(run) / "curves.csv")
    best = int(curves["validation_ua"].idxmax())
    assert len(curves) == best + 1 + 6  # three validations without a better one, every second epoch
    before = (run.model / "model.safetensors").read_bytes()
    (job_folder(run) / "metrics.json").unlink()
    again = quietly(recipe, tmp_path, folds=[0])
    assert len(pd.read_csv(job_folder(again) / "curves.csv")) == len(curves)
    assert (again.model / "model.safetensors").read_bytes() == before


def test_seeds_decide_and_processes_do_not(recipe, tmp_path, no_report):
    recipe["training"]["epochs"] = 2
    one = quietly(recipe, tmp_path / "one")
    assert_same(one, quietly(recipe, tmp_path / "two", workers=2))
    other = quietly({**recipe, "seeds": [1]}, tmp_path / "other", folds=[0])
    first, second = (load_file(run.model / "model.safetensors") for run in (one, other))
    assert not torch.equal(first["classifier.conv.lin.weight"], second["classifier.conv.lin.weight"])


@pytest.mark.parametrize(
    "options",
    [
        {"sampling": "whole", "learning_rate": 0.01},
        {"attachment": "random", "true_share": 0.5, "reference_size": 12, "edges": 2},
        {"attachment": "none"},
        {"attachment": "random", "edges": "auto", "certainty": 0.95},
        {"batch_graphs": 3},
    ],
)
def test_ways_to_sample_and_to_answer(recipe, notes, tmp_path, no_report, options):
    recipe["task"] |= options
    recipe["training"] |= {"epochs": 4}
    run = quietly(recipe, tmp_path, folds=[0])
    # Random edges bring what random classes say; three classes.
    assert run.metrics["ua"]["mean"] > (1 / 3 if options.get("attachment") == "random" else 0.7)
    recognizer = Recognizer.from_pretrained(run.model)
    references = recognizer.bundle.references
    if "reference_size" in options:
        assert [len(graph.x) for graph in references] == [12] * 3
    told = pd.read_csv(run.folder / "predictions.csv")
    assert not told["p_low"].isna().any()
    protocol = json.loads((run.folder / "run.json").read_text("utf-8"))["protocol"]["description"]
    assert ("The network learns on the whole pool" in protocol) == ("sampling" in options)
    if options.get("edges") == "auto":
        edges = recognizer.bundle.attachment["edges"]
        kinds = [(graph.true, graph.pseudo) for graph in references]
        assert edges == max(min_random_edges(*kind, 0.95) for kind in kinds)
        told = json.loads((run.folder / "run.json").read_text("utf-8"))["attachment"]
        chance = np.mean([chance_of_true_label(edges, *kind) for kind in kinds])
        assert told == {"how": "random", "edges": [edges, edges], "chance": pytest.approx(chance)}
        assert f"{edges} drawn by lot" in (run.model / "README.md").read_text("utf-8")
        assert f"in {100 * chance:.0f} % of the draws" in (run.model / "README.md").read_text("utf-8")
    if options.get("attachment") == "none":  # what it answers with holds nothing of single recordings
        assert references == ()
        assert not (run.model / "references.safetensors").exists()
        assert "spread" not in told
        answers = recognizer.process_files([notes.parent / f"{name}.wav" for name in told["id"]])
        columns = ["p_low", "p_middle", "p_high"]
        np.testing.assert_allclose(answers[columns], told[columns], atol=1e-5)
        assert 0 < run.metrics["mad"]["mean"] < 1
        assert len(pd.read_csv(job_folder(run) / "pseudo_labels.csv")) > 60


def test_items_that_nobody_has_labelled_are_learned_from(recipe, notes, tmp_path, no_report):
    table = pd.read_csv(notes)
    table.loc[table.index % 5 == 0, "label"] = ""
    path = notes.parent / "partly.csv"
    table.to_csv(path, index=False)
    recipe["corpus"] |= {"root": str(path), "unlabelled": True}
    run = quietly(recipe, tmp_path, folds=[0])
    measured = json.loads((job_folder(run) / "metrics.json").read_text("utf-8"))
    assert measured["items"]["unlabelled"] > 30
    described = json.loads((run.folder / "run.json").read_text("utf-8"))["corpus"]
    assert (described["items"], described["unlabelled"]) == (150, 30)
    assert "150 recordings, 30 of them without label" in (run.model / "README.md").read_text("utf-8")
    told = pd.read_csv(run.folder / "predictions.csv", keep_default_na=False)
    assert "" not in set(told["label"])
    glnn = {**recipe, "model": "glnn", "graph": "cycle_topk", "task": "graph_classification", "features": "fbank"}
    with pytest.raises(runs.RunError, match=r"30 items without label, which 'glnn' cannot learn from"):
        quietly({**glnn, "protocol": "stratified"}, tmp_path / "glnn")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--features.name=fbank"], r"'fbank' gives frames; set it to .*logmel128"),
        (["--training.class_weights=true"], r"training\.class_weights is not for 'subgraph_ssl'"),
        (["--training.balanced=true"], r"training\.balanced"),
        (["--training.devices=2"], r"training\.devices"),
        (["--task.validate_every=7"], r"task\.validate_every is 7, but there are 6 training\.epochs"),
        (["--task.draws=0"], r"task\.draws"),
        (["--task.reference_size=2"], r"task\.reference_size is 2"),
        (["--model.tasks=nonsense"], r"unknown self-supervised task 'nonsense'"),
        (["--graph.positives=0"], r"positives is 0"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(recipe, tmp_path, words, message):
    with pytest.raises(GraphophoneError, match=message):
        quietly(load_recipe(recipe, words), tmp_path)
    assert not list(tmp_path.iterdir())
