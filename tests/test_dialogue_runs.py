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

from graphophone import runs
from graphophone.errors import GraphophoneError
from graphophone.inference import load_bundle

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


def test_a_training_that_was_stopped_ends_with_the_same_weights(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(recipe(epochs=4), tmp_path / "one")
    from graphophone.tasks.dialogues import DialogueClassification

    step = DialogueClassification.on_train_epoch_start

    def stop(task: DialogueClassification) -> None:
        if task.current_epoch == 2:
            raise StoppedError
        step(task)

    with monkeypatch.context() as patch:
        patch.setattr(DialogueClassification, "on_train_epoch_start", stop)
        with pytest.raises(StoppedError):
            trained(recipe(epochs=4), tmp_path / "two")
    resumed = trained(recipe(epochs=4), tmp_path / "two")
    first, second = (load_file(run.model / "model.safetensors") for run in (whole, resumed))
    for key in first:
        torch.testing.assert_close(first[key], second[key], atol=0, rtol=0, msg=key)


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
