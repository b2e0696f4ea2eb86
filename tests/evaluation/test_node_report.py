"""Reports of models whose nodes are recordings: labels used, controls, states."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from graphophone.evaluation import report_nodes
from graphophone.evaluation.report import write_report
from graphophone.evaluation.results import ResultsError, RunResults

MakeRun = Callable[..., Path]
Check = Callable[[Path], Any]
SMALL: dict[str, Any] = {"per_speaker": 2, "classes": ["calm", "sad", "angry", "happy"]}


def job_metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("folds/*/metrics.json"))]


def test_report_of_a_run_of_nodes(make_node_run: MakeRun, check: Check) -> None:
    folder = make_node_run(tasks=["denoise"], seeds=(0, 1, 2), **SMALL)
    page = check(write_report(folder))
    metrics = job_metrics(folder)
    assert "It was given the labels of 96 of 960 training items (10 %)." in page.text
    # Controls on the same folds and seeds, each with the difference of the run to it.
    by_seed = [
        np.mean([m["ua"] - m["controls"]["knn"]["ua"] for m in metrics if m["seed"] == seed]) for seed in (0, 1, 2)
    ]
    row = page.row("k nearest neighbours")
    assert row[3].startswith(f"{100 * np.mean(by_seed):+.1f} [")
    assert row[4] == "3"
    control = [np.mean([m["controls"]["knn"]["ua"] for m in metrics if m["seed"] == seed]) for seed in (0, 1, 2)]
    assert row[1] == f"{100 * np.mean(control):.1f} ± {100 * np.std(control, ddof=1):.1f}"
    assert "The interval of the mean difference is over seeds" in page.text
    assert (
        f"The best control on the same features and labels, k nearest neighbours, reaches {100 * np.mean(control):.1f}"
        in (page.text)
    )
    # States.
    mad = [m["mad"] for m in metrics]
    assert f"(MAD) of node states is {np.mean(mad):.3f} ± {np.std(mad, ddof=1):.3f}" in page.text
    assert "Means over 9 trainings" in page.text
    assert "states" in page.ids
    assert any("Map of the states of the 32 test items of fold0, seed 0" in image for image in page.images)
    assert "Over the 10 draws of reference graphs and edges" in page.text
    # What was run.
    assert "960 training items: 96 with a label, 864 without one" in page.text
    assert "12 labelled items of each class and 5 without label, 53 nodes at most; 1 subgraph per step" in page.text
    assert "T = 4 items drawn at random of 10 reference graphs (R = 10); probabilities are averaged" in page.text
    assert "165 values per item" in page.text
    assert "similarity" not in page.ids
    assert page.row("SubgraphSSL, denoise")[-1].startswith("Not comparable. Another corpus: IEMOCAP")
    assert mpl.image.imread(folder / "figures" / "states.png").size


def test_answers_without_edges_have_no_spread(make_node_run: MakeRun, check: Check) -> None:
    folder = make_node_run(folds=1, seeds=(0,), recipe={"task.attachment": "none"}, **SMALL)
    page = check(write_report(folder))
    assert "each item by itself, without edges" in page.text
    assert "draws of reference graphs and edges" not in page.text


def test_settings_in_words(make_node_run: MakeRun, check: Check) -> None:
    recipe = {
        "task.sampling": "whole", "task.attachment": "nearest", "task.reference_size": 60, "task.true_share": 0.5
    }  # fmt: skip
    folder = make_node_run(folds=1, seeds=(0,), draws=1, states=0, controls=(), recipe=recipe, **SMALL)
    page = check(write_report(folder))
    assert "the whole pool as one graph" in page.text
    assert (
        "T = 4 nearest items of 1 reference graph of 60 nodes (R = 1), 50 % of whose nodes have a true label"
        in page.text
    )
    assert "averaged over them" not in page.text
    assert "Over the 1 draws" not in page.text
    assert "Controls" not in page.text
    assert "best control" not in page.text
    assert "Means over" not in page.text
    assert not any("Map of the states" in image for image in page.images)


def test_few_seeds_are_compared_by_folds(make_node_run: MakeRun, check: Check) -> None:
    folder = make_node_run(seeds=(0, 1), states=0, **SMALL)
    page = check(write_report(folder))
    assert page.row("label spreading")[4] == "6"
    assert "over pairs of fold and seed" in page.text


def test_controls_with_counts_are_pooled_as_the_run_is(make_node_run: MakeRun, check: Check) -> None:
    folder = make_node_run(seeds=(0, 1, 2), states=0, controls=("knn",), **SMALL)
    sums = {seed: np.zeros((4, 4)) for seed in (0, 1, 2)}
    for path in folder.glob("folds/*/metrics.json"):
        metrics = json.loads(path.read_text("utf-8"))
        # A control that is wrong more often: some of each class' hits are moved to the next class.
        counts = np.array(metrics["confusion"])
        moved = np.diag(counts) // 2
        counts = counts - np.diag(moved) + np.roll(np.diag(moved), 1, axis=1)
        sums[metrics["seed"]] += counts
        recalls = np.diag(counts) / counts.sum(axis=1)
        metrics["controls"] = {
            "knn": {"ua": recalls.mean(), "wa": np.trace(counts) / counts.sum(), "confusion": counts.tolist()}
        }
        path.write_text(json.dumps(metrics), "utf-8")
    page = check(write_report(folder))
    expected = [np.mean(np.diag(c) / c.sum(axis=1)) for c in sums.values()]
    assert page.row("k nearest neighbours")[1].startswith(f"{100 * np.mean(expected):.1f} ±")
    summary = RunResults.read(folder).summary
    assert summary is not None
    assert page.row("This run")[1].startswith(f"{100 * summary['ua']['mean']:.1f} ±")
    assert "Means over the folds" not in page.text


def test_the_map_is_computed_once(make_node_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_node_run(folds=2, seeds=(0,), **SMALL)

    def first() -> None:
        assert report_nodes.first_state_map(RunResults.read(folder)) is not None

    first()
    kept = folder / "folds" / "fold0-seed0" / "tsne.npz"
    with np.load(kept) as arrays:
        points = arrays["points"]
    assert points.shape == (32, 2)
    calls = []

    def again(states: np.ndarray) -> np.ndarray:
        calls.append(states)
        return np.zeros((len(states), 2), dtype=np.float32)

    monkeypatch.setattr(report_nodes, "state_map", again)
    first()
    assert not calls
    # Other states, or half a file: computed anew.
    kept.write_bytes(kept.read_bytes()[:40])
    first()
    assert len(calls) == 1
    path = folder / "folds" / "fold0-seed0" / "states.npz"
    with np.load(path) as arrays:
        content = dict(arrays)
    np.savez(path, states=content["states"] + 1, label=content["label"])
    first()
    assert len(calls) == 2


def test_large_test_parts_are_thinned_evenly(make_node_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_nodes, "MAP_ITEMS", 12)
    found = report_nodes.first_state_map(RunResults.read(make_node_run(folds=1, seeds=(0,), **SMALL)))
    assert found is not None
    assert (len(found.points), found.total) == (12, 32)
    assert pd.Series(found.labels).value_counts().tolist() == [3, 3, 3, 3]


def test_labels_may_be_numbers_of_classes(make_node_run: MakeRun) -> None:
    folder = make_node_run(folds=1, seeds=(0,), **SMALL)
    path = folder / "folds" / "fold0-seed0" / "states.npz"
    with np.load(path) as arrays:
        states = arrays["states"]
    np.savez(path, states=states, label=np.arange(len(states)) % 4)
    found = report_nodes.first_state_map(RunResults.read(folder))
    assert found is not None
    assert found.labels[:4] == SMALL["classes"]


@pytest.mark.parametrize("damage", ["cut", "labels", "classes"])
def test_damaged_states_are_named(make_node_run: MakeRun, damage: str) -> None:
    folder = make_node_run(folds=1, seeds=(0,), **SMALL)
    path = folder / "folds" / "fold0-seed0" / "states.npz"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:200])
    else:
        label = np.zeros(3, dtype=np.int64) if damage == "labels" else np.full(32, 4)
        np.savez(path, states=np.zeros((32, 5), dtype=np.float32), label=label)
    with pytest.raises(ResultsError, match=r"states\.npz") as error:
        report_nodes.first_state_map(RunResults.read(folder))
    assert "\n" not in str(error.value)


def test_seeds_with_splits_of_their_own(make_node_run: MakeRun, check: Check) -> None:
    """With turns, seed 1 tests the second split, and nothing is missing."""
    folder = make_node_run(folds=2, seeds=(0, 1), states=0, recipe={"protocol.turns": 1}, **SMALL)
    info = json.loads((folder / "run.json").read_text("utf-8"))
    info["folds"] = ["fold0"]
    (folder / "run.json").write_text(json.dumps(info), "utf-8")
    for name in ("fold1-seed0", "fold0-seed1"):
        for path in (folder / "folds" / name).iterdir():
            path.unlink()
    results = RunResults.read(folder)
    assert results.complete
    assert results.scored_seeds == [0, 1]
    page = check(write_report(folder))
    assert "unfinished" not in page.text
    assert "95 % interval over 2 seeds" in page.text
    assert "Seeds differ in their test items" in page.text
    assert "pooled and scored once" not in page.text
    for path in (folder / "folds" / "fold1-seed1").iterdir():
        path.unlink()
    assert "missing: a split with seed 1" in check(write_report(folder)).text


def test_budget_of_other_models_is_said_too(make_run: MakeRun, check: Check) -> None:
    protocol = {
        "name": "speaker-independent", "description": "Folds.", "mixes_speakers": False,
        "folds": [{"name": "fold0", "train": 48, "unlabelled": 912}, {"name": "fold1", "train": 52, "unlabelled": 908}],
    }  # fmt: skip
    folder = make_run(folds=2, seeds=(0,), recipe={"protocol.labelled": 0.05}, run={"protocol": protocol})
    page = check(write_report(folder))
    assert "It was given the labels of 48 to 52 of 960 training items (5.2 %)." in page.text
    assert "All training labels there, 5 % of the training labels here." in page.row("GLNN, weighted pooling")[-1]


def test_precision_of_every_class_beside_its_size(make_node_run: MakeRun, check: Check) -> None:
    folder = make_node_run(folds=2, seeds=(0, 1), states=0, **SMALL)
    page = check(write_report(folder))
    results = RunResults.read(folder)
    tables = [results.predictions((job.fold, job.seed) for job in results.done if job.seed == s) for s in (0, 1)]
    (image,) = [text for text in page.images if text.startswith("Average precision, recall and number")]
    for name in results.classes:
        means = np.mean([average_precision_score(table["label"] == name, table[f"p_{name}"]) for table in tables])
        assert f"{name} {means:.2f}" in image
    assert "Classes and their sizes" in page.text
    assert (folder / "figures" / "sizes.png").stat().st_size > 5000


@pytest.mark.parametrize("chance", ["exact", "literal"])
def test_the_number_of_random_edges_that_a_certainty_asks_for(
    make_node_run: MakeRun, check: Check, chance: str
) -> None:
    task = {"task.edges": "auto", "task.certainty": 0.95, "task.chance": chance}
    attachment = {"how": "random", "edges": [4, 6], "chance": 0.9634}
    folder = make_node_run(folds=1, seeds=(0,), states=0, recipe=task, run={"attachment": attachment}, **SMALL)
    text = check(write_report(folder)).text
    assert "tied to T = 4 to 6 items drawn at random" in text
    assert "reaches a true label with a probability of 96.3 %" in text
    assert "the fewest for 95 % in every graph" in text
    assert ("by the paper's formula" in text) == (chance == "literal")


def test_figures_that_the_paper_quotes_stand_below(make_node_run: MakeRun, check: Check) -> None:
    corpus = {"name": "iemocap", "items": 4490, "classes": SMALL["classes"], "speakers": 10}
    sizes = {"name": "random0", "train": 359, "unlabelled": 3233, "validation": 449, "test": 449}
    protocol = {"name": "stratified", "description": "A random split.", "mixes_speakers": True, "folds": [sizes]}
    folder = make_node_run(folds=1, seeds=(0,), states=0, run={"corpus": corpus, "protocol": protocol}, **SMALL)
    page = check(write_report(folder))
    assert "silhouette of 0.147" in page.text
    assert page.row("SubgraphSSL, no task")[1] == "63.8 ± 2.2"
    assert "Not comparable" not in page.row("SubgraphSSL, no task")[-1]


def test_classes_of_sounds_beside_a_paper_that_gives_map(make_node_run: MakeRun, check: Check) -> None:
    classes = [f"sound {i}" for i in range(33)]
    corpus = {"name": "audioset", "items": 89_000, "classes": classes, "speakers": 0}
    protocol = {"name": "stratified", "description": "A random split.", "mixes_speakers": None}
    folder = make_node_run(
        folds=1, seeds=(0, 1), states=8, classes=classes, per_speaker=1, speakers=False,
        run={"corpus": corpus, "protocol": protocol},
    )  # fmt: skip
    page = check(write_report(folder))
    summary = RunResults.read(folder).summary
    assert summary is not None
    assert page.row("SubgraphSSL, no task")[1:3] == ["–", "0.230 ± 0.01"]
    assert page.row("SubgraphSSL, ssl-ravdess")[2].startswith(f"{summary['map']['mean']:.3f}")
    assert "church bell" in page.text
