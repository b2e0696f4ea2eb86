"""What a report adds where every recording is a node: labels used, controls, states of the network."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graphophone.evaluation.differences import (
    control_metrics,
    difference_words,
    p_words,
    pair_metrics,
    paired,
    seed_values,
    unit_words,
)
from graphophone.evaluation.embeddings import spread_evenly, state_map
from graphophone.evaluation.measures import DASH, Measure
from graphophone.evaluation.page import plural
from graphophone.evaluation.results import JobResult, ResultsError, RunResults
from graphophone.evaluation.statistics import Estimate, interval

MAP_ITEMS = 1500
"""Test items of a map of states, at most: more take a while and hide each other."""

_CONTROLS = {
    "knn": "k nearest neighbours",
    "label_spreading": "label spreading",
    "label_propagation": "label propagation over the edges of the graph",
    "linear_svm": "linear SVM",
    "logistic_regression": "logistic regression",
}


def control_title(name: str) -> str:
    """A control's name as people write it."""
    return _CONTROLS.get(name, name.replace("_", " "))


def scored_jobs(results: RunResults) -> list[JobResult]:
    """Finished trainings of the scored seeds."""
    return [job for job in results.done if job.seed in results.scored_seeds]


def budget_words(results: RunResults) -> str:
    """How many labels training was given, as a clause; empty where it was given all."""
    folds = (results.info.get("protocol") or {}).get("folds") or []
    used = [int(fold.get("train") or 0) for fold in folds]
    without = [int(fold.get("unlabelled") or 0) for fold in folds]
    if not any(without):
        return ""
    pool = [a + b for a, b in zip(used, without, strict=True)]
    share = f" ({100 * sum(used) / sum(pool):.2g} %)" if sum(used) < sum(pool) else ""
    return f"the labels of {_span(used)} of {_span(pool)} training items{share}"


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def node_facts(results: RunResults) -> list[tuple[str, str]]:
    """Pool, subgraphs and inference of a run, as rows of a list of facts."""
    task = results.recipe.get("task") or {}
    folds = (results.info.get("protocol") or {}).get("folds") or []
    facts: list[tuple[str, str]] = []
    if folds and any(fold.get("train") for fold in folds):
        used = [int(fold.get("train") or 0) for fold in folds]
        without = [int(fold.get("unlabelled") or 0) for fold in folds]
        pool = [a + b for a, b in zip(used, without, strict=True)]
        facts.append(
            ("Pool", f"{_span(pool)} training items: {_span(used)} with a label, {_span(without)} without one")
        )
    count = len(results.classes)
    if task.get("sampling") == "whole":
        facts.append(("Training graph", "the whole pool as one graph"))
    elif task.get("per_class"):
        each, free = int(task["per_class"]), int(task.get("unlabelled") or 0)
        step = int(task.get("batch_graphs") or 1)
        facts.append(
            (
                "Subgraphs",
                f"{each} labelled items of each class and {free} without label, {plural(each * count + free, 'node')} "
                f"at most; {plural(step, 'subgraph')} per step of the optimiser",
            )
        )
    if task.get("attachment") == "none":
        facts.append(("Answers", "each item by itself, without edges: the graph was there for training"))
    elif task.get("edges"):
        how = "nearest items" if task.get("attachment") == "nearest" else "items drawn at random"
        draws = int(task.get("draws") or 1)
        size = f" of {int(task['reference_size']):,} nodes" if task.get("reference_size") else ""
        share = task.get("true_share")
        facts.append(
            (
                "Answers",
                f"each item is tied to {_edges(results)} {how} of {plural(draws, 'reference graph')}{size} "
                f"(R = {draws})"
                + (f", {100 * float(share):g} % of whose nodes have a true label" if share is not None else "")
                + ("; probabilities are averaged over them" if draws > 1 else "")
                + _certainty(results),
            )
        )
    return facts


def _edges(results: RunResults) -> str:
    """T, as it was given or, once there is a training, as it was chosen."""
    task, found = results.recipe.get("task") or {}, results.info.get("attachment") or {}
    if task.get("edges") == "auto" and not found:
        return "T (chosen by each training)"
    low, high = found.get("edges") or (task["edges"], task["edges"])
    return f"T = {low}" if low == high else f"T = {low} to {high}"


def _certainty(results: RunResults) -> str:
    """How likely random edges reach a true label, as a clause."""
    task, chance = results.recipe.get("task") or {}, (results.info.get("attachment") or {}).get("chance")
    if chance is None:
        return ""
    literal = ", by the paper's formula" if task.get("chance") == "literal" else ""
    wanted = ""
    if task.get("edges") == "auto":
        wanted = f" (T is the fewest for {100 * float(task.get('certainty') or 0.9):g} % in every graph)"
    return f"; one of the T reaches a true label with a probability of {100 * chance:.1f} %{literal}{wanted}"


@dataclass(frozen=True)
class Controls:
    """Controls beside a run.

    Attributes:
        rows: Cells of a table.
        caption: What the table holds.
        words: What the differences are.
        sentence: The best control against the run, for the verdict.
    """

    rows: list[dict[str, Any]]
    caption: str
    words: str
    sentence: str


def controls_beside(results: RunResults) -> Controls | None:
    """The controls of a run, each with the paired difference of the run to it; None where there are none."""
    jobs = scored_jobs(results)
    controls, ours = control_metrics(jobs), pair_metrics(jobs)
    if not controls:
        return None
    main, second = results.measures.main, results.measures.second
    rows: list[dict[str, Any]] = []
    units = []
    best: tuple[float, str] | None = None
    for name, metrics in controls.items():
        found = paired(metrics, ours, main.key)
        own = seed_values(metrics, main.key)
        if found is None or not own:
            continue
        comparison, unit = found
        units.append(unit)
        mean = interval(own.values()).mean
        if best is None or mean > best[0]:
            low, high = comparison.difference.low, comparison.difference.high
            within = "" if low is None or high is None else f", 95 % interval {main.signed(low)} to {main.signed(high)}"
            size = f"{main.signed(comparison.difference.mean)}{' points' if main.percent else ''}"
            best = mean, f"{control_title(name)}, reaches {main.say(mean)} (this model: {size}{within})"
        rows.append(
            {
                "name": control_title(name),
                "main": _spread(main, own),
                "second": _spread(second, seed_values(metrics, second.key)),
                "difference": difference_words(comparison, main),
                "n": comparison.difference.n,
                "p": p_words(comparison),
                "ours": False,
            }
        )
    if best is None:
        return None
    folds = max(sum(seed == other for _, other in ours) for _, seed in ours)
    counted = all(part.get("confusion") for values in controls.values() for part in values.values())
    pooled = (
        "" if folds == 1 or counted else " Means over the folds of a seed, so the run's own row may differ from above."
    )
    rows.insert(
        0,
        {
            "name": "This run",
            "main": _spread(main, seed_values(ours if counted else _means(ours), main.key)),
            "second": _spread(second, seed_values(ours if counted else _means(ours), second.key)),
            "difference": DASH, "n": DASH, "p": DASH, "ours": True,
        },
    )  # fmt: skip
    several = ", mean ± standard deviation over seeds" if len({seed for _, seed in ours}) > 1 else ""
    return Controls(
        rows,
        f"Test items{', in percent' if main.percent else ''}{several}. A positive difference is in favour of this "
        f"model.{pooled}",
        "Simple systems on the same features, labels and test items; what they leave open was chosen on validation "
        f"items where there are any. {unit_words(units)}",
        f"The best control on the same features and labels, {best[1]}.",
    )


def _means(metrics: Mapping[Any, Mapping[str, Any]]) -> dict[Any, Mapping[str, Any]]:
    """The same without counts, so that folds are averaged and not pooled, as those of the controls."""
    return {pair: {key: value for key, value in part.items() if key != "confusion"} for pair, part in metrics.items()}


def _spread(measure: Measure, values: Mapping[int, float]) -> str:
    return measure.spread(interval(values.values())) if values else DASH


def training_estimate(jobs: Sequence[JobResult], key: str) -> Estimate | None:
    """A number of every training (``"mad"``, ``"silhouette"``), over trainings; None where no training has it."""
    values = [(job.metrics or {}).get(key) for job in jobs]
    known = [float(value) for value in values if value is not None]
    return interval(known) if known else None


def state_words(results: RunResults) -> str:
    """How alike the states of nodes are, and how far classes lie apart; empty where neither was measured."""
    jobs = scored_jobs(results)
    parts = []
    distance, apart = training_estimate(jobs, "mad"), training_estimate(jobs, "silhouette")
    if distance is not None:
        parts.append(
            f"The mean average distance (MAD) of node states is {_plain(distance)}: 0 where all point the same way, as "
            "in an oversmoothed network, 1 where they are orthogonal on average."
        )
    if apart is not None:
        parts.append(
            f"The silhouette of the true classes among the states of test items is {_plain(apart)}: 1 where classes "
            "lie far apart, below 0 where they mix."
        )
    if parts and len(jobs) > 1:
        parts.append(f"Means over {plural(len(jobs), 'training')}, ± standard deviation.")
    return " ".join(parts)


def _plain(e: Estimate) -> str:
    number = f"{e.mean:.3f}".replace("-", "−")
    return number if e.sd is None else f"{number} ± {e.sd:.3f}"


def draw_words(results: RunResults) -> str:
    """How much answers vary with the edges and reference graphs; empty where they do not, or that was not kept."""
    table = results.predictions()
    task = results.recipe.get("task") or {}
    draws = int(task.get("draws") or 1)
    if "spread" not in table or draws < 2 or task.get("attachment") == "none" or not len(table):
        return ""
    spread = table["spread"].to_numpy(np.float64)
    right = (table["predicted"] == table["label"]).to_numpy()
    text = (
        f"Over the {draws} draws of reference graphs and edges, the probability of an item's likeliest class has a "
        f"standard deviation of {np.median(spread):.3f} (median; nine in ten items have less than "
        f"{np.quantile(spread, 0.9):.3f})."
    )
    if right.any() and not right.all():
        text += (
            f" It is {np.median(spread[right]):.3f} where the answer is right and {np.median(spread[~right]):.3f} "
            "where it is wrong."
        )
    return text


@dataclass(frozen=True)
class StateMap:
    """A map of the states of one training's test items.

    Attributes:
        points: ``[items, 2]``.
        labels: Class of every item.
        training: Which training it is, in words.
        total: How many test items it has.
    """

    points: np.ndarray
    labels: list[str]
    training: str
    total: int


def first_state_map(results: RunResults) -> StateMap | None:
    """The map of the first finished training that kept its states; other trainings have spaces of their own.

    It is computed once and kept in the training's folder as ``tsne.npz``, until the states change.

    Raises:
        ResultsError: If the file of states is damaged.
    """
    for job in scored_jobs(results):
        path = job.folder / "states.npz"
        if not path.is_file():
            continue
        states, labels = _read_states(path, results.classes)
        if len(states) < 5:
            continue
        rows = spread_evenly(np.asarray(labels), MAP_ITEMS)
        points = _cached_map(job.folder / "tsne.npz", states[rows])
        return StateMap(points, [labels[row] for row in rows], f"{job.fold}, seed {job.seed}", len(states))
    return None


def _read_states(path: Path, classes: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    remedy = "remove its folder and run the training again"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            states, label = arrays["states"].astype(np.float32), arrays["label"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ResultsError(f"{path} cannot be read as states of test items; {remedy}") from error
    fits = states.ndim == 2 and label.shape == (len(states),) and np.isfinite(states).all()
    numbered = label.dtype.kind in "iu"
    if fits and numbered and len(label):
        fits = label.min() >= 0 and label.max() < len(classes)
    if not fits:
        raise ResultsError(
            f"{path} has states {list(states.shape)} and labels {list(label.shape)} that do not fit; {remedy}"
        )
    return states, [classes[i] for i in label] if numbered else [str(name) for name in label]


def _cached_map(path: Path, states: np.ndarray) -> np.ndarray:
    digest = hashlib.blake2b(np.ascontiguousarray(states).tobytes(), digest_size=16).hexdigest()
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if str(arrays["states"]) == digest:
                return arrays["points"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        pass  # not there, or of other states, or cut off: made again
    points = state_map(states)
    temporary = path.with_name(f"tsne.{os.getpid()}.tmp.npz")
    np.savez_compressed(temporary, points=points, states=np.array(digest))
    temporary.replace(path)
    return points
