import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from graphophone.evaluation.metrics import metrics_from_predictions

CLASSES = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"]


VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


class Page(HTMLParser):
    """Checks that tags nest, and collects what a test looks at."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.source = path.read_text("utf-8")
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.images: list[str] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(self.source)
        self.close()
        assert not self.open, f"not closed: {self.open}"
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name == "href":
                self.links.append(value or "")
            if name in {"src", "srcset", "action", "data", "xlink:href"}:
                self.addresses.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)
            if name == "aria-label" and ("role", "img") in attrs:
                self.images.append(value or "")
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data + " "
        if self.open and self.open[-1] in {"td", "th", "strong", "code"} and self.rows:
            self.rows[-1][-1] += data

    def row(self, first: str) -> list[str]:
        found = [row for row in self.rows if row and row[0] == first]
        assert found, f"no row {first!r} in {[r[0] for r in self.rows if r]}"
        return found[0]


def check_page(path: Path) -> Page:
    """The page is well-formed, stands alone and can be used without a mouse or a script."""
    page = Page(path)
    assert page.source.startswith("<!DOCTYPE html>")
    assert {"script", "iframe", "object", "embed", "img", "link"}.isdisjoint(page.tags)
    assert not page.addresses
    assert not page.handlers
    assert "http:" not in page.source
    assert "https:" not in page.source
    assert "@import" not in page.source
    assert len(set(page.ids)) == len(page.ids)
    for link in page.links:
        assert (link[:1] == "#" and link[1:] in page.ids) or link.startswith("data:image/png;base64,"), link
    assert page.tags.count("h1") == 1
    assert page.tags.count("main") == 1
    assert page.tags.count("svg") == len(page.images)
    assert all(page.images)
    assert 'lang="en"' in page.source
    assert "prefers-color-scheme: dark" in page.source
    assert "@media print" in page.source
    assert "None" not in page.text
    assert "nan" not in page.text.split()
    return page


@pytest.fixture(scope="session")
def check() -> Callable[[Path], Page]:
    """Reads a page and checks what holds for all of them."""
    return check_page


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


def write_sound_run(
    folder: Path,
    *,
    kind: str = "tagging",
    corpus: str = "fsd50k",
    classes: list[str] | int = 12,
    items: int = 120,
    folds: int = 1,
    seeds: tuple[int, ...] = (0, 1),
    skill: float = 2.0,
    validated: bool = True,
    empty: int = 0,
    equal: bool = False,
    recipe: dict[str, Any] | None = None,
    run: dict[str, Any] | None = None,
) -> Path:
    """A run folder of a spectrogram model on sounds, with made-up predictions.

    Args:
        folder: The folder.
        kind: ``"tagging"`` or ``"classification"``.
        corpus: Name of the corpus.
        classes: Names of the classes, or their number.
        items: Test items of a fold.
        folds: Number of folds.
        seeds: The seeds.
        skill: How much better than chance the predictions are.
        validated: Whether there were validation items.
        empty: How many of the classes have no positive test item.
        equal: Whether all classes have as many items.
        recipe: Dotted keys of the recipe to change.
        run: Keys of ``run.json`` to change.
    """
    if isinstance(classes, int):
        classes = [f"sound {i:03d}" for i in range(classes)]
    tagging = kind == "tagging"
    resolved: dict[str, Any] = {
        "name": folder.name,
        "corpus": {"name": corpus},
        "features": {"name": "fbank", "frames": 1024},
        "graph": {"name": "none"},
        "model": {"name": "lhgnn", "size": "s"},
        "task": {"name": "clip_tagging" if tagging else "clip_classification", "learning_rate": 0.001},
        "protocol": {"name": "folds" if folds > 1 else "official"},
        "training": {"epochs": 20, "selection": "best" if validated else "last", "averaging": "none"},
        "seeds": list(seeds),
    }
    for key, value in (recipe or {}).items():
        slot, option = key.split(".")
        resolved[slot][option] = value
    names = [f"fold{f + 1}" for f in range(folds)] if folds > 1 else ["official"]
    total = {"fsd50k": 51_197, "esc50": 2000, "esc10": 400, "audioset": 2_022_000}.get(corpus, folds * items)
    info: dict[str, Any] = {
        "name": folder.name,
        "description": "LHGNN on sounds.",
        "kind": kind,
        "started": "2025-03-04T09:30:00+00:00",
        "finished": "2025-03-05T11:30:00+00:00",
        "version": "0.1.0",
        "corpus": {"name": corpus, "items": total, "classes": classes, "speakers": 0, "hours": 3.2, "problems": []},
        "protocol": {
            "name": resolved["protocol"]["name"],
            "description": "The published parts.",
            "mixes_speakers": None,
            "speakers_known": False,
            "notes": [],
            "folds": [
                {
                    "name": n,
                    "train": max(total - items, 0) if corpus != "fsd50k" else 36_796,
                    "validation": items if validated else 0,
                    "test": items,
                }
                for n in names
            ],
        },
        "model": {"name": "lhgnn", "parameters": 31_476_127, "options": {"size": "s"}, "pretrained": None},
        "graph": resolved["graph"],
        "features": {**resolved["features"], "dims": 128, "x_real_time": None, "cached": 0},
        "machine": {"cpu": "A processor", "cores": 2, "torch": "2.8.0", "threads": 1},
        "seeds": list(seeds),
        "folds": names,
    }
    info |= run or {}
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(info), "utf-8")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True), "utf-8")
    for seed in seeds:
        for number, name in enumerate(names):
            table = sound_predictions(kind, classes, items, skill, number, seed, empty, equal)
            held = (
                sound_predictions(kind, classes, items, skill, 50 + number, seed, empty, equal) if validated else None
            )
            _write_sound_job(folder / "folds" / f"{name}-seed{seed}", kind, name, seed, classes, table, held)
    return folder


def sound_predictions(
    kind: str, classes: list[str], items: int, skill: float, number: int, seed: int, empty: int, equal: bool
) -> pd.DataFrame:
    """Predictions for the items of one fold, which are the same for every seed."""
    truth = np.random.default_rng(number)
    noise = np.random.default_rng([number, seed])
    count = len(classes)
    names = np.array(classes, dtype=object)
    frame = pd.DataFrame({"id": [f"clip{number}-{i:05d}" for i in range(items)]})
    ease = skill * truth.permutation(np.linspace(0.1, 1.6, count))
    if kind == "classification":
        target = np.arange(items) % count
        logits = noise.gumbel(size=(items, count))
        logits[np.arange(items), target] += 2.5 * ease[target] if not equal else 2.5 * skill
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        frame["label"], frame["predicted"] = names[target], names[p.argmax(axis=1)]
    else:
        share = np.full(count, 0.1) if equal else np.geomspace(0.4, min(0.02, 0.4), count)
        y = truth.random((items, count)) < truth.permutation(share)
        y[truth.integers(0, items, count), np.arange(count)] = True  # no class is without by chance
        y[:, count - empty :] = False
        p = 1 / (1 + np.exp(-(noise.standard_normal((items, count)) + y * 1.6 * ease - 1.4)))
        frame["labels"] = [";".join(names[row]) for row in y]
        frame["predicted"] = [";".join(names[row]) for row in p >= 0.5]
    scores = pd.DataFrame(p, columns=[f"p_{name}" for name in classes])
    return pd.concat([frame, scores], axis=1)


def _write_sound_job(
    folder: Path,
    kind: str,
    fold: str,
    seed: int,
    classes: list[str],
    test: pd.DataFrame,
    held: pd.DataFrame | None,
) -> None:
    folder.mkdir(parents=True)
    for frame, name in ((test, "predictions"), (held, "validation")):
        if frame is not None:
            frame.insert(3, "fold", fold)
            frame.insert(4, "seed", seed)
            frame.to_csv(folder / f"{name}.csv", index=False)
    t = np.arange(20)
    rate = 0.55 - 0.5 * np.exp(-t / 5) + 0.01 * np.random.default_rng(seed).standard_normal(20)
    key = "map" if kind == "tagging" else "ua"
    nothing = np.full(20, np.nan)
    curves = {"epoch": t, "train_loss": 0.4 * np.exp(-t / 6) + 0.05}
    if kind == "classification":
        curves["train_ua"] = 0.9 - 0.8 * np.exp(-t / 5)
    curves["validation_loss"] = 0.1 + 0.3 * np.exp(-t / 5) if held is not None else nothing
    curves[f"validation_{key}"] = rate if held is not None else nothing
    curves["seconds"] = np.full(20, 31.0)
    pd.DataFrame(curves).to_csv(folder / "curves.csv", index=False)
    metrics = {
        **metrics_from_predictions(test, classes),
        "validation": None if held is None else metrics_from_predictions(held, classes),
        "fold": fold,
        "seed": seed,
        "best_epoch": int(rate.argmax()) if held is not None else 19,
        "epochs": 20,
        "seconds": 620.0,
        "seconds_per_epoch": 31.0,
    }
    (folder / "metrics.json").write_text(json.dumps(metrics), "utf-8")


def write_node_run(
    folder: Path,
    *,
    tasks: list[str] | None = None,
    labelled: float = 0.1,
    layers: int = 2,
    skill: float = 1.6,
    draws: int = 10,
    states: int = 40,
    controls: tuple[str, ...] = ("knn", "label_spreading"),
    recipe: dict[str, Any] | None = None,
    run: dict[str, Any] | None = None,
    **options: Any,
) -> Path:
    """A run folder of a model whose nodes are recordings, on top of that of :func:`write_run`.

    Args:
        folder: The folder.
        tasks: Self-supervised tasks.
        labelled: Share of labels.
        layers: Shared layers.
        skill: How good the predictions are.
        draws: R.
        states: Dims of the states that are kept; 0: none are.
        controls: Names of controls.
        recipe: Dotted keys of the recipe to change.
        run: Keys of ``run.json`` to change.
        options: As for :func:`write_run`.
    """
    used = round(960 * labelled)
    names = [f"fold{f}" for f in range(options.get("folds", 3))]
    info = {
        "corpus": {"name": "ravdess", "items": 1440, "classes": options.get("classes") or CLASSES, "speakers": 24},
        "model": {"name": "subgraph_ssl", "parameters": 153_009},
        "graph": {"name": "signed", "positives": 2},
        "features": {"name": "functionals165", "dims": 165, "x_real_time": 80.0, "cached": 0},
        "protocol": {
            "name": "speaker-independent",
            "description": f"Each fold of speakers is the test part once. Labels of {used} of 960 are used.",
            "mixes_speakers": False,
            "folds": [
                {"name": n, "train": used, "unlabelled": 960 - used, "validation": 240, "test": 240} for n in names
            ],
        },
        **(run or {}),
    }
    changes = {
        "model.name": "subgraph_ssl", "model.tasks": tasks or [], "model.num_layers": layers,
        "features.name": "functionals165", "graph.name": "signed", "graph.k": None,
        "protocol.labelled": labelled,
        "task.name": "subgraph_classification", "task.per_class": 12, "task.unlabelled": 5, "task.batch_graphs": 1,
        "task.sampling": "subgraphs", "task.edges": 4, "task.draws": draws, "task.attachment": "random",
        **(recipe or {}),
    }  # fmt: skip
    write_run(folder, skill=skill, recipe=changes, run=info, **options)
    (folder / "sample.npz").unlink()
    for path in sorted((folder / "folds").glob("*/metrics.json")):
        metrics = json.loads(path.read_text("utf-8"))
        table = pd.read_csv(path.parent / "predictions.csv", dtype={"id": str, "speaker": str})
        rng = np.random.default_rng(len(table) + metrics["seed"])
        for number, name in enumerate(controls):
            noise = 0.01 * rng.standard_normal()
            value = metrics["ua"] - 0.05 - 0.03 * number + noise
            metrics.setdefault("controls", {})[name] = {"ua": value, "wa": value + 0.01}
        metrics["mad"] = 0.8 / layers + 0.01 * rng.standard_normal()
        metrics["silhouette"] = -0.02 + 0.05 * skill
        path.write_text(json.dumps(metrics), "utf-8")
        table.insert(len(table.columns), "spread", np.abs(0.05 * rng.standard_normal(len(table))))
        table.to_csv(path.parent / "predictions.csv", index=False)
        if states:
            order = {name: i for i, name in enumerate(dict.fromkeys(table["label"]))}
            target = table["label"].map(order).to_numpy()
            middles = np.random.default_rng(0).standard_normal((len(order), states))
            np.savez(
                path.parent / "states.npz",
                states=(middles[target] * skill + rng.standard_normal((len(table), states))).astype(np.float32),
                label=np.array(table["label"].tolist()),
            )
    return folder


@pytest.fixture
def make_node_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes made-up run folders of models of nodes under the test's own folder."""

    def make(name: str = "ssl-ravdess", **options: Any) -> Path:
        return write_node_run(tmp_path / "runs" / name, **options)

    return make


@pytest.fixture
def make_sound_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes made-up run folders of models on sounds under the test's own folder."""

    def make(name: str = "lhgnn-sounds", **options: Any) -> Path:
        return write_sound_run(tmp_path / "runs" / name, **options)

    return make


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes made-up run folders under the test's own folder."""

    def make(name: str = "glnn-ravdess", **options: Any) -> Path:
        return write_run(tmp_path / "runs" / name, **options)

    return make
