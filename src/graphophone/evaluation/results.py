"""A run folder, read: what was asked for, what has finished, what it is worth."""

from __future__ import annotations

import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from graphophone.errors import GraphophoneError
from graphophone.evaluation.measures import Measures, measures_of
from graphophone.evaluation.metrics import kind_of, summarize, tag_targets
from graphophone.evaluation.protocols import natural_key
from graphophone.evaluation.tagging import threshold_table

# Cells such as "01", "NA" or "nan" are names here, not numbers or gaps.
_TEXT = {"id": str, "dialogue": str, "speaker": str, "label": str, "labels": str, "predicted": str, "fold": str}


class ResultsError(GraphophoneError):
    """A run folder that cannot be read."""


@dataclass(frozen=True, eq=False)
class JobResult:
    """What one training (a fold and a seed) has left behind so far.

    Attributes:
        folder: Its folder.
        fold: Name of the fold.
        seed: The seed.
        curves: Learning curves, one row per epoch; None before the first epoch.
        metrics: Contents of its ``metrics.json``; None while it is under way.
        predictions: Test predictions; None while it is under way.
    """

    folder: Path
    fold: str
    seed: int
    curves: pd.DataFrame | None
    metrics: dict[str, Any] | None
    predictions: pd.DataFrame | None

    @property
    def done(self) -> bool:
        """Whether the training has finished and was tested."""
        return self.predictions is not None and self.metrics is not None


@dataclass(frozen=True, eq=False)
class RunResults:
    """Everything that a run folder holds, finished or not.

    Attributes:
        folder: The run folder.
        info: Contents of ``run.json``.
        recipe: The resolved recipe; empty where the file is missing.
        recipe_text: The same as text.
        jobs: Trainings that have left a folder, in order of seed and fold.
        sample: Arrays of ``sample.npz``; empty where the file is missing.
    """

    folder: Path
    info: dict[str, Any]
    recipe: dict[str, Any]
    recipe_text: str
    jobs: tuple[JobResult, ...]
    sample: dict[str, np.ndarray]

    @classmethod
    def read(cls, folder: str | Path) -> RunResults:
        """Read a run folder; only ``run.json`` has to be there.

        Raises:
            ResultsError: If there is no such folder, no ``run.json`` in it, or a file in it is damaged.
        """
        folder = Path(folder)
        if not (folder / "run.json").is_file():
            what = "has no run.json" if folder.is_dir() else "does not exist"
            raise ResultsError(f"{folder} is not a run folder: it {what}; give a folder that training made")
        info, recipe, recipe_text = _read_heads(folder)
        order = {name: index for index, name in enumerate(info.get("folds") or [])}
        jobs = [_read_job(path) for path in sorted((folder / "folds").glob("*")) if path.is_dir()]
        found = [job for job in jobs if job is not None]
        found.sort(key=lambda job: (job.seed, order.get(job.fold, len(order)), natural_key(job.fold)))
        return cls(folder, info, recipe, recipe_text, tuple(found), read_arrays(folder / "sample.npz"))

    @property
    def name(self) -> str:
        """Name of the run."""
        return str(self.info.get("name") or self.folder.name)

    @cached_property
    def done(self) -> tuple[JobResult, ...]:
        """Trainings that have finished."""
        return tuple(job for job in self.jobs if job.done)

    @cached_property
    def classes(self) -> list[str]:
        """Class names, from ``run.json`` or else from the predictions."""
        named = (self.info.get("corpus") or {}).get("classes")
        if named:
            return [str(name) for name in named]
        if not self.done or self.done[0].predictions is None:
            return []
        return [c.removeprefix("p_") for c in self.done[0].predictions.columns if c.startswith("p_")]

    @cached_property
    def measures(self) -> Measures:
        """What the run is judged by."""
        first = self.done[0].predictions if self.done else None
        return measures_of(self.info, self.recipe, None if first is None else kind_of(first))

    @cached_property
    def validated(self) -> bool:
        """Whether items were held out for validation; where nothing has finished, whether the splits have any."""
        if self.done:
            return any((job.metrics or {}).get("validation") for job in self.done)
        folds = (self.info.get("protocol") or {}).get("folds") or []
        return not folds or any(fold.get("validation") for fold in folds)

    def validations(self, key: str) -> list[float]:
        """A measure on the validation items of every training of the scored seeds; empty where there are none."""
        parts = [(job.metrics or {}).get("validation") or {} for job in self.done if job.seed in self.scored_seeds]
        return [part[key] for part in parts if part.get(key) is not None]

    @property
    def folds(self) -> list[str]:
        """Names of the folds that the run is to have; where seeds differ in them, of those of the first seed."""
        return list(self.info.get("folds") or dict.fromkeys(job.fold for job in self.jobs))

    @property
    def seeds(self) -> list[int]:
        """Seeds that the run is to have."""
        return list(self.info.get("seeds") or dict.fromkeys(job.seed for job in self.jobs))

    @cached_property
    def nodes(self) -> bool:
        """Whether every item is a node, or a turn of a dialogue, so that an item has one vector and no frames."""
        from graphophone.tasks import TASKS  # here: a table is read without the networks

        name = str((self.recipe.get("task") or {}).get("name"))
        return name in TASKS and getattr(TASKS.get(name), "reads", None) in ("nodes", "dialogue")

    @cached_property
    def turns(self) -> int:
        """How many of the splits a seed does, where it is not all of them and seeds differ in them; else 0."""
        return int((self.recipe.get("protocol") or {}).get("turns") or 0)

    @property
    def missing(self) -> list[tuple[str, int]]:
        """Pairs of fold and seed that have not finished."""
        have = {(job.fold, job.seed) for job in self.done}
        if self.turns:  # each seed has folds of its own, of which only the number is known
            done = Counter(seed for _, seed in have)
            return [("a split", seed) for seed in self.seeds for _ in range(len(self.folds) - done[seed])]
        return [(fold, seed) for seed in self.seeds for fold in self.folds if (fold, seed) not in have]

    @property
    def complete(self) -> bool:
        """Whether every fold of every seed has finished."""
        return bool(self.done) and not self.missing

    @cached_property
    def scored_seeds(self) -> list[int]:
        """Seeds whose folds have all finished; where there is none, those with at least one finished fold."""
        started = sorted({job.seed for job in self.done})
        unfinished = {seed for _, seed in self.missing}
        return [seed for seed in started if seed not in unfinished] or started

    def predictions(self, pairs: Iterable[tuple[str, int]] | None = None) -> pd.DataFrame:
        """Test predictions of the scored seeds, or of some pairs of fold and seed."""
        wanted = None if pairs is None else set(pairs)
        frames = [
            job.predictions.assign(fold=job.fold, seed=job.seed)
            for job in self.done
            if job.predictions is not None
            and (job.seed in self.scored_seeds if wanted is None else (job.fold, job.seed) in wanted)
        ]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    @cached_property
    def summary(self) -> dict[str, Any] | None:
        """:func:`~graphophone.evaluation.metrics.summarize` of the scored seeds; None before anything finished."""
        table = self.predictions()
        return summarize(table, self.classes) if len(table) else None

    @cached_property
    def robustness(self) -> dict[str, Any] | None:
        """Contents of ``robustness.json``; None where the run was not tested with noise."""
        path = self.folder / "robustness.json"
        return _read_json(path) if path.is_file() else None

    @cached_property
    def tags_of_first_seed(self) -> tuple[np.ndarray, np.ndarray]:
        """Targets and probabilities ``[items, classes]`` of one seed: those of several are not on one scale."""
        seed = self.scored_seeds[0]
        table = self.predictions((job.fold, job.seed) for job in self.done if job.seed == seed)
        return tag_targets(table, self.classes), table[[f"p_{name}" for name in self.classes]].to_numpy(np.float64)

    @cached_property
    def thresholds(self) -> dict[str, np.ndarray]:
        """:func:`~graphophone.evaluation.tagging.threshold_table` of these tags."""
        return threshold_table(*self.tags_of_first_seed)

    def seconds_per_epoch(self) -> float | None:
        """Median wall time of an epoch, over all trainings."""
        seconds = [job.curves["seconds"] for job in self.jobs if job.curves is not None and "seconds" in job.curves]
        return float(pd.concat(seconds).median()) if seconds else None


def measures_of_folder(folder: str | Path) -> Measures:
    """What the run in a folder is judged by, from its ``run.json`` and recipe alone.

    Raises:
        ResultsError: If one of them is missing or damaged.
    """
    info, recipe, _ = _read_heads(Path(folder))
    return measures_of(info, recipe)


def _read_heads(folder: Path) -> tuple[dict[str, Any], dict[str, Any], str]:
    """``run.json``, and the recipe as a mapping and as text, both empty where it is missing."""
    info = _read_json(folder / "run.json")
    text = (folder / "recipe.yaml").read_text("utf-8") if (folder / "recipe.yaml").is_file() else ""
    try:
        return info, yaml.safe_load(text) or {}, text
    except yaml.YAMLError as error:
        raise ResultsError(f"{folder / 'recipe.yaml'} is not valid YAML; run the training again") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} cannot be read as JSON; run the training again") from error
    if not isinstance(content, dict):
        raise ResultsError(f"{path} does not hold a JSON object; run the training again")
    return content


def read_predictions(path: str | Path) -> pd.DataFrame:
    """Read a table of predictions, names as text.

    Raises:
        ResultsError: If the file is damaged.
    """
    try:
        return pd.read_csv(path, dtype=_TEXT, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} cannot be read as a table; remove its folder and run the training again") from error


def _read_job(folder: Path) -> JobResult | None:
    name = re.fullmatch(r"(?P<fold>.+)-seed(?P<seed>\d+)", folder.name)
    if name is None:
        return None
    curves = predictions = metrics = None
    if (folder / "curves.csv").is_file():
        try:
            curves = pd.read_csv(folder / "curves.csv")
        except ValueError as error:
            raise ResultsError(f"{folder / 'curves.csv'} cannot be read as a table; remove it") from error
    if (folder / "metrics.json").is_file() and (folder / "predictions.csv").is_file():
        metrics = _read_json(folder / "metrics.json")
        predictions = read_predictions(folder / "predictions.csv")
    return JobResult(folder, name["fold"], int(name["seed"]), curves, metrics, predictions)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays of an ``.npz`` file that a training wrote; empty where there is none.

    Raises:
        ResultsError: If the file is damaged.
    """
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ResultsError(f"{path} cannot be read; remove it and run the training again") from error


def flatten(recipe: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested recipe as dotted keys: ``{"graph": {"k": 10}}`` becomes ``{"graph.k": 10}``."""
    flat: dict[str, Any] = {}
    for key, value in recipe.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def varied(recipes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Dotted keys whose value is not the same in all recipes; names and descriptions do not count."""
    flat = [flatten(recipe) for recipe in recipes]
    keys = dict.fromkeys(key for one in flat for key in one)
    ignored = {"name", "description", "seeds", "corpus.root", "training.threads", "training.loader_workers"}
    return [
        key for key in keys if key not in ignored and len({json.dumps(one.get(key), default=str) for one in flat}) > 1
    ]
