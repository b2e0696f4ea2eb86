"""Two systems on the same folds and seeds: what sets them apart, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from graphophone.evaluation.measures import DASH, Measure
from graphophone.evaluation.metrics import unweighted_accuracy, weighted_f1
from graphophone.evaluation.results import JobResult
from graphophone.evaluation.statistics import Comparison, compare_paired

Pair = tuple[str, int]
"""A fold and a seed."""

LEAST_SEEDS = 3
"""Seeds from which on an interval is over seeds; fewer say next to nothing about chance."""

_OF_COUNTS: dict[str, Callable[[np.ndarray], float]] = {
    "ua": unweighted_accuracy,
    "wa": lambda counts: float(np.trace(counts) / counts.sum()),
    "weighted_f1": weighted_f1,
}


def pair_metrics(jobs: Iterable[JobResult]) -> dict[Pair, Mapping[str, Any]]:
    """Test metrics of finished trainings by fold and seed."""
    return {(job.fold, job.seed): job.metrics for job in jobs if job.metrics is not None and job.done}


def control_metrics(jobs: Iterable[JobResult]) -> dict[str, dict[Pair, Mapping[str, Any]]]:
    """Metrics of the controls that were fitted to the same features and labels, by name, then by fold and seed."""
    found: dict[str, dict[Pair, Mapping[str, Any]]] = {}
    for pair, metrics in pair_metrics(jobs).items():
        for name, values in (metrics.get("controls") or {}).items():
            found.setdefault(name, {})[pair] = values
    return found


def seed_values(metrics: Mapping[Pair, Mapping[str, Any]], key: str) -> dict[int, float]:
    """One value per seed: of the pooled items of its folds where counts are known, else the mean over its folds."""
    values: dict[int, float] = {}
    for seed in dict.fromkeys(seed for _, seed in metrics):
        parts = [part for (_, other), part in metrics.items() if other == seed]
        if key in _OF_COUNTS and all(part.get("confusion") for part in parts):
            values[seed] = _OF_COUNTS[key](np.sum([part["confusion"] for part in parts], axis=0))
            continue
        known = [part[key] for part in parts if part.get(key) is not None]
        if known:
            values[seed] = float(np.mean(known))
    return values


def paired(
    reference: Mapping[Pair, Mapping[str, Any]], other: Mapping[Pair, Mapping[str, Any]], key: str
) -> tuple[Comparison, str] | None:
    """How much higher ``other`` is than ``reference`` on the folds and seeds that both have.

    With :data:`LEAST_SEEDS` seeds or more, the differences of a seed's folds are averaged first and the interval is
    over seeds. With fewer it is over pairs of fold and seed.

    Returns:
        The comparison and what its pairs are (``"seeds"``, ``"folds and seeds"``); None where no pair is shared.
    """
    both = [
        pair
        for pair in reference
        if pair in other and reference[pair].get(key) is not None and other[pair].get(key) is not None
    ]
    if not both:
        return None
    seeds = list(dict.fromkeys(seed for _, seed in both))
    if len(seeds) < LEAST_SEEDS:
        ours, theirs = ({pair: float(side[pair][key]) for pair in both} for side in (other, reference))
        return compare_paired(theirs, ours), "folds and seeds"
    a, b = (
        {seed: float(np.mean([side[pair][key] for pair in both if pair[1] == seed])) for seed in seeds}
        for side in (reference, other)
    )
    return compare_paired(a, b), "seeds"


def difference_words(comparison: Comparison, measure: Measure) -> str:
    """A mean difference with its interval: ``+2.1 [+0.4, +3.8]``."""
    d = comparison.difference
    if d.low is None or d.high is None:
        return measure.signed(d.mean)
    return f"{measure.signed(d.mean)} [{measure.signed(d.low)}, {measure.signed(d.high)}]"


def p_words(comparison: Comparison) -> str:
    """The p-value as a table writes it."""
    p = comparison.p_value
    return DASH if p is None else f"{p:.3f}" if p >= 0.001 else "< 0.001"


def unit_words(units: Iterable[str]) -> str:
    """What the intervals of differences are over, in a sentence."""
    kinds = set(units)
    if kinds == {"seeds"}:
        return (
            "The interval of the mean difference is over seeds; the differences of a seed's folds are averaged first."
        )
    return (
        "The interval of the mean difference is over pairs of fold and seed. Training parts of different folds "
        "overlap, so it is somewhat too narrow."
    )
