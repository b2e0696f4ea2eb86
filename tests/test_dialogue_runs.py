"""Trainings on conversations: what is learned from other turns, what a run holds, how it goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from graphophone import dialogue_inputs, runs
from graphophone.errors import GraphophoneError
from graphophone.inference import load_bundle
from graphophone.nn.dialogue import DialogueBatch

Recipe = Callable[..., dict[str, Any]]


class StoppedError(Exception):
    """What ends a training in the middle."""


def write_dialogues(folder: Path, *, dialogues: int = 60, seed: int = 0, context: bool = False) -> Path:
    """Dialogues of two speakers whose turns feel what the other's turn before them said: no turn tells its own label.

    Args:
        folder: Where to.
        dialogues: How many.
        seed: Of everything.
        context: Leave the label of every fifth turn empty.
    """
    rng = np.random.default_rng(seed)
    rows, vectors = [], {"text": [], "audio": []}
    for d in range(dialogues):
        label = 0
        for t in range(int(rng.integers(4, 9))):
            said = int(rng.integers(0, 2))
            for name, width in (("text", 6), ("audio", 4)):
                vectors[name].append(rng.standard_normal(width) + 2.5 * np.eye(2, width)[said])
            rows.append(
                {
                    "id": f"d{d}t{t}",
                    "dialogue": f"d{d}",
                    "position": t,
                    "speaker": f"{'ab'[t % 2]}{d}",
                    "label": "" if context and t % 5 == 4 else ("calm", "upset")[label],
                    "split": ("train", "train", "train", "validation", "test")[d % 5],
                }
            )
            label = said
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "vectors.npz", **{name: np.array(part, dtype=np.float32) for name, part in vectors.items()})
    pd.DataFrame(rows).to_csv(folder / "items.csv", index=False)
    return folder


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """A small recurrent network on such dialogues."""

    def make(model: dict[str, Any] | None = None, epochs: int = 12, **options: Any) -> dict[str, Any]:
        return {
            "name": "talk",
            "corpus": {
                "name": "features",
                "root": str(write_dialogues(tmp_path / "data", **options)),
                "unlabelled": bool(options.get("context")),
            },
            "features": {
                "name": "modalities",
                "text": {"name": "given", "dims": 6},
                "audio": {"name": "given", "dims": 4},
            },
            "model": model or {"name": "dialogue_gru", "hidden_channels": 16, "num_layers": 1, "dropout": 0.1},
            "task": {"name": "dialogue_classification", "learning_rate": 0.01},
            "training": {"epochs": epochs, "batch_size": 8, "patience": 0, "threads": 1, "device": "cpu"},
            "protocol": {"name": "official"},
            "seeds": [0],
        }

    return make


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs without the page, which is slow to draw and has its own tests."""
    monkeypatch.setattr(runs, "write_report", lambda folder: None)


def trained(recipe: dict[str, Any], output: Path) -> runs.Run:
    return runs.train(recipe, output=output, progress=False)


MODELS: list[dict[str, Any]] = [
    {"name": "dialogue_gru", "hidden_channels": 16, "num_layers": 1, "dropout": 0.1},
    {"name": "rigsl", "hidden_channels": 16, "dropout": 0.1, "latent_dropout": 0.1, "heads": 2},
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: str(model["name"]))
def test_it_learns_from_the_turn_before(recipe: Recipe, tmp_path: Path, model: dict[str, Any]) -> None:
    run = trained(recipe(model), tmp_path / "runs")
    assert run.metrics["weighted_f1"]["mean"] > 0.85  # by turns alone nothing can be told
    assert json.loads((run.folder / "metrics.json").read_text())["controls"]
    told = pd.read_csv(run.folder / "predictions.csv")
    assert {"dialogue", "position", "speaker"} <= set(told.columns)
    assert load_bundle(run.model).reads_dialogue


def test_turns_without_label_are_context(recipe: Recipe, tmp_path: Path) -> None:
    run = trained(recipe(context=True), tmp_path / "runs")
    items = pd.read_csv(tmp_path / "data" / "items.csv", keep_default_na=False)
    asked = items[(items["split"] == "test") & (items["label"] != "")]
    assert list(pd.read_csv(run.folder / "predictions.csv")["id"]) == list(asked["id"])
    assert run.metrics["weighted_f1"]["mean"] > 0.8


@pytest.mark.parametrize(
    "model",
    [*MODELS, {**MODELS[1], "preset": "published", "redraw_every": 3}],
    ids=["dialogue_gru", "rigsl", "published"],
)
def test_a_training_that_was_stopped_ends_with_the_same_weights(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: dict[str, Any]
) -> None:
    made = recipe(model, epochs=4, dialogues=20)
    whole = trained(made, tmp_path / "one")
    from graphophone.tasks.dialogues import DialogueClassification

    step = DialogueClassification.on_train_epoch_start

    def stop(task: DialogueClassification) -> None:
        if task.current_epoch == 2:
            raise StoppedError
        step(task)

    with monkeypatch.context() as patch:
        patch.setattr(DialogueClassification, "on_train_epoch_start", stop)
        with pytest.raises(StoppedError):
            trained(made, tmp_path / "two")
    resumed = trained(made, tmp_path / "two")
    first, second = (load_file(run.model / "model.safetensors") for run in (whole, resumed))
    for key in first:
        torch.testing.assert_close(first[key], second[key], atol=0, rtol=0, msg=key)


def test_a_dialogue_that_is_cut_is_named(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arranged = dialogue_inputs.arrange
    monkeypatch.setattr(dialogue_inputs, "arrange", lambda table: arranged(table, longest=6))
    with pytest.warns(UserWarning, match=r"dialogues of more than \d+ turns are cut into pieces, the first d"):
        trained(recipe(epochs=1), tmp_path / "runs")


def test_a_divided_dialogue_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    made = recipe()
    path = tmp_path / "data" / "items.csv"
    items = pd.read_csv(path, keep_default_na=False)
    items.loc[2, "split"] = "test"
    items.to_csv(path, index=False)
    with pytest.raises(GraphophoneError, match=r"d0"):
        trained(made, tmp_path / "runs")


@pytest.mark.parametrize(
    ("section", "changes", "words"),
    [
        ("features", {"sequences": True, "text": "minilm"}, "sequence"),
        ("training", {"balanced": True}, r"training\.balanced"),
        ("graph", {"name": "cycle_topk"}, "set graph.name to none"),
        ("task", {"name": "utterance_graph"}, "set task.name to dialogue_classification"),
    ],
)
def test_what_does_not_fit_is_refused_first(
    recipe: Recipe, tmp_path: Path, section: str, changes: dict[str, Any], words: str
) -> None:
    made = recipe()
    made[section] = {**({} if "name" in changes else made.get(section, {})), **changes}
    with pytest.raises(GraphophoneError, match=words):
        trained(made, tmp_path / "runs")


PUBLISHED = {
    "rigsl-iemocap": (1582, ("happy", "sad", "neutral", "angry", "excited", "frustrated"), "train"),
    "rigsl-meld": (300, ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"), "validation"),
}
"""Numbers of audio, classes, and the part that takes the place of a validation part."""


def write_published(folder: Path, recipe: str) -> pd.DataFrame:
    """Dialogues with vectors as wide as the published ones, some turns without label and one without sound."""
    audio, classes, validation = PUBLISHED[recipe]
    rng, rows = np.random.default_rng(0), []
    for d in range(15):
        for t in range(5):
            rows.append(
                {
                    "id": f"d{d}t{t}",
                    "dialogue": f"d{d}",
                    "position": t,
                    "speaker": f"{'ab'[t % 2]}{d}",
                    "label": "" if t == 3 else classes[(d + t * t) % len(classes)],
                    "split": ("train", "train", "train", validation, "test")[d % 5],
                }
            )
    vectors = {
        name: (3 + 20 * rng.standard_normal((len(rows), width))).astype(np.float32)
        for name, width in (("text", 4096), ("audio", audio), ("video", 342))
    }
    vectors["audio"][1] = np.nan
    folder.mkdir()
    np.savez(folder / "vectors.npz", **vectors)
    table = pd.DataFrame(rows)
    table.to_csv(folder / "items.csv", index=False)
    return table


@pytest.mark.parametrize("selection", ["best", "last"])
@pytest.mark.parametrize("name", list(PUBLISHED))
def test_recipes_of_published_vectors(
    name: str, selection: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphophone.tasks.dialogues import DialogueClassification

    table, seen = write_published(tmp_path / "data", name), []
    step = DialogueClassification.training_step

    def noted(task: DialogueClassification, batch: DialogueBatch, number: int) -> torch.Tensor:
        seen.append((task.class_weight, batch))
        return step(task, batch, number)

    monkeypatch.setattr(DialogueClassification, "training_step", noted)
    given = {"corpus.root": tmp_path / "data", "corpus.unlabelled": "true", "training.epochs": 1, "seeds": [0]}
    given |= {"model.hidden_channels": 8, "model.heads": 2, "training.device": "cpu", "training.threads": 1}
    if selection == "last":
        given |= {"training.selection": "last", "protocol.validation": 0}
    overrides = [part for key, value in given.items() for part in (f"--{key}", str(value))]
    run = runs.train(name, overrides, output=tmp_path / "runs", progress=False)
    parts = json.loads((run.folder / "run.json").read_text())["protocol"]["folds"][0]
    assert (parts["validation"] == 0) == (selection == "last")
    if selection == "last":  # the validation part of MELD trains as well
        assert parts["train"] == int(((table["split"] != "test") & (table["label"] != "")).sum())
    # Weights are those of the labelled turns of the training part alone: of what the batches of an epoch hold.
    labels = torch.cat([batch.y[batch.y >= 0] for _, batch in seen])
    assert len(labels) == parts["train"]
    counts = torch.bincount(labels, minlength=len(PUBLISHED[name][1]))
    torch.testing.assert_close(seen[0][0], len(labels) / (len(counts) * counts.clamp(min=1).float()))
    # Turns without label are there as context, and vectors come as they are: far beyond the usual bounds.
    batch = seen[0][1]
    assert bool((batch.mask & (batch.y < 0)).any())
    text = np.load(tmp_path / "data" / "vectors.npz")["text"]
    known = batch.row >= 0
    np.testing.assert_array_equal(batch.x["text"][known].numpy(), text[batch.row[known].numpy()])
    assert float(batch.x["text"].abs().max()) > 50
    # Said anew, nothing is trained twice.
    seen.clear()
    again = runs.train(name, overrides, output=tmp_path / "runs", progress=False)
    assert seen == []
    assert again.metrics == run.metrics
