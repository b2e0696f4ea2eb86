import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from graphophone.evaluation.metrics import metrics_from_predictions

CLASSES = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"]


def write_run(
    folder: Path,
    *,
    classes: list[str] | None = None,
    folds: int = 3,
    seeds: tuple[int, ...] = (0, 1),
    skill: float = 1.6,
    done: set[tuple[str, int]] | None = None,
    recipe: dict[str, Any] | None = None,
    run: dict[str, Any] | None = None,
    speakers: bool = True,
    per_speaker: int = 8,
) -> Path:
    """A run folder as training leaves it, with made-up predictions that are right more often the higher ``skill``."""
    classes = classes or CLASSES
    names = [f"fold{f}" for f in range(folds)]
    resolved: dict[str, Any] = {
        "name": folder.name,
        "corpus": {"name": "ravdess"},
        "features": {"name": "is10", "decimate": 4},
        "graph": {"name": "cycle_topk", "k": 10},
        "model": {"name": "glnn", "pooling": "weighted", "num_layers": 3},
        "task": {"name": "graph_classification", "learning_rate": 0.001},
        "protocol": {"name": "speaker-independent"},
        "seeds": list(seeds),
    }
    for key, value in (recipe or {}).items():
        slot, option = key.split(".")
        resolved[slot][option] = value
    info: dict[str, Any] = {
        "name": folder.name,
        "description": "GLNN on RAVDESS, one frame in four.",
        "started": "2025-03-04T09:30:00+00:00",
        "finished": "2025-03-04T11:30:00+00:00" if done is None else None,
        "version": "0.1.0",
        "corpus": {
            "name": "ravdess",
            "items": 1440,
            "classes": classes,
            "speakers": 24,
            "hours": 1.48,
            "problems": [
                {"item": "03-01-01.wav", "row": 7, "reason": "truncated; restore it", "severity": "error"},
                {"item": "03-01-02.wav", "row": None, "reason": "silent", "severity": "warning"},
            ],
        },
        "protocol": {
            "name": "speaker-independent",
            "description": "Each fold of speakers is the test part once. No test speaker was heard in training.",
            "mixes_speakers": False,
            "notes": ["fold1: no test item of class calm"],
        },
        "model": {"name": "glnn", "parameters": 409124, "options": {"pooling": "weighted"}},
        "graph": resolved["graph"],
        "features": {**resolved["features"], "dims": 76, "x_real_time": 61.3, "cached": 0},
        "machine": {"cpu": "A processor", "cores": 2, "torch": "2.8.0", "threads": 1},
        "seeds": list(seeds),
        "folds": names,
    }
    info |= run or {}
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(info), "utf-8")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True), "utf-8")
    for seed in seeds:
        for fold, name in enumerate(names):
            if done is None or (name, seed) in done:
                _write_job(
                    folder / "folds" / f"{name}-seed{seed}", name, seed, fold, classes, skill, speakers, per_speaker
                )
    rng = np.random.default_rng(1)
    np.savez(
        folder / "sample.npz",
        x=np.repeat(rng.standard_normal((12, 20)), 8, axis=0) + 0.5 * rng.standard_normal((96, 20)),
        id="03-01-05-01-01-01-09",
        label=classes[-1],
        hop=0.04,
    )
    return folder


def predictions(
    classes: list[str], items: list[str], speakers: list[str] | None, skill: float, seed: int
) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    target = np.arange(len(items)) % len(classes)
    ease = np.linspace(0.4, 1.3, len(classes))  # so that some classes are harder
    logits = rng.gumbel(size=(len(items), len(classes)))
    logits[np.arange(len(items)), target] += skill * ease[target]
    p = np.exp(1.5 * logits) / np.exp(1.5 * logits).sum(axis=1, keepdims=True)
    frame = pd.DataFrame({"id": items})
    if speakers is not None:
        frame["speaker"] = speakers
    frame["label"] = [classes[i] for i in target]
    frame["predicted"] = [classes[i] for i in p.argmax(axis=1)]
    for i, label in enumerate(classes):
        frame[f"p_{label}"] = p[:, i]
    return frame


def _write_job(
    folder: Path, fold: str, seed: int, number: int, classes: list[str], skill: float, speakers: bool, per_speaker: int
) -> None:
    folder.mkdir(parents=True)
    who = [f"{4 * number + i + 1:02d}" for i in range(4) for _ in range(per_speaker * len(classes))]
    items = [f"{fold}-{i:04d}" for i in range(len(who))]
    test = predictions(classes, items, who if speakers else None, skill, 100 * seed + number)
    validation = predictions(classes, items, who if speakers else None, skill, 5000 + 100 * seed + number)
    for frame, name in ((test, "predictions"), (validation, "validation")):
        frame.insert(4 if speakers else 3, "fold", fold)
        frame.insert(5 if speakers else 4, "seed", seed)
        frame.to_csv(folder / f"{name}.csv", index=False)
    rng = np.random.default_rng(seed + number)
    epochs = 25 + 5 * seed
    t = np.arange(epochs)
    ua = 0.62 - 0.5 * np.exp(-t / 5) + 0.015 * rng.standard_normal(epochs)
    pd.DataFrame(
        {
            "epoch": t,
            "train_loss": 2 * np.exp(-t / 8) + 0.1,
            "train_ua": 0.95 - 0.83 * np.exp(-t / 7),
            "validation_loss": 1.2 + np.exp(-t / 4) + 0.01 * t,
            "validation_ua": ua,
            "validation_wa": ua + 0.01,
            "learning_rate": 1e-3,
            "seconds": 2.5 + 0.1 * rng.random(epochs),
        }
    ).to_csv(folder / "curves.csv", index=False)
    metrics = {
        **metrics_from_predictions(test, classes),
        "validation": metrics_from_predictions(validation, classes),
        "fold": fold,
        "seed": seed,
        "best_epoch": int(ua.argmax()),
        "epochs": epochs,
        "seconds": 2.55 * epochs,
        "seconds_per_epoch": 2.55,
    }
    (folder / "metrics.json").write_text(json.dumps(metrics), "utf-8")


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes made-up run folders under the test's own folder."""

    def make(name: str = "glnn-ravdess", **options: Any) -> Path:
        return write_run(tmp_path / "runs" / name, **options)

    return make
