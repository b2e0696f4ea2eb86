"""What noise costs: figures of clean recordings less those of the same recordings with noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from graphophone.evaluation.metrics import metrics_from_predictions
from graphophone.evaluation.statistics import interval

_KEYS = ["seed", "fold", "id"]


def drop_rows(
    clean: pd.DataFrame,
    noisy: Mapping[tuple[str, float], pd.DataFrame],
    classes: Sequence[str],
    measures: Sequence[str],
) -> list[dict[str, Any]]:
    """Drops of some measures by noise and signal-to-noise ratio.

    The test items of all folds of a seed are pooled and scored once, clean and noisy, and the drop is the mean
    difference over the seeds. Its spread is that over the seeds; with one seed it is that of the drops of the single
    folds, and with one fold, too, there is none. Differences are taken within a training, so that what its luck adds
    to both does not count.

    Args:
        clean: Predictions with the columns ``id``, ``fold``, ``seed``, ``label`` or ``labels``, and ``p_<class>``.
        noisy: The same of noisy copies, by (noise, ratio in dB).
        classes: Name of every class.
        measures: Keys of the metrics, such as ``"ua"``.

    Returns:
        One row per noise, ratio and measure: ``noise``, ``snr``, ``measure``, ``clean``, ``noisy``, ``drop``
        (fractions), ``sd``, ``low``, ``high`` (95 % interval of the drop; None without a spread), ``over``
        (``"seeds"``, ``"folds"`` or None) and ``n``, how many.

    Raises:
        ValueError: If a noisy table is of other items than the clean one.
    """
    clean = clean.sort_values(_KEYS, ignore_index=True)
    before = _scores(clean, classes, measures)
    rows = []
    for (noise, snr), table in noisy.items():
        table = table.sort_values(_KEYS, ignore_index=True)
        if not table[_KEYS].equals(clean[_KEYS]):
            raise ValueError(f"{noise} at {snr:g} dB: not the items of the clean table")
        after = _scores(table, classes, measures)
        rows += [{"noise": noise, "snr": snr, "measure": key, **_drop(before, after, key)} for key in measures]
    return rows


_Scores = tuple[dict[Any, dict[str, Any]], dict[Any, dict[str, Any]]]


def _scores(table: pd.DataFrame, classes: Sequence[str], measures: Sequence[str]) -> _Scores:
    """The measures of every seed, pooled, and of every training."""

    def score(part: pd.DataFrame) -> dict[str, Any]:
        found = metrics_from_predictions(part, classes)
        return {key: found[key] for key in measures}

    seeds = {seed: score(part) for seed, part in table.groupby("seed")}
    if len(seeds) > 1:
        return seeds, {}
    return seeds, {pair: score(part) for pair, part in table.groupby(["seed", "fold"])}


def _drop(before: _Scores, after: _Scores, key: str) -> dict[str, Any]:
    seeds, folds = (
        [(one[name][key], other[name][key]) for name in one if None not in (one[name][key], other[name][key])]
        for one, other in zip(before, after, strict=True)
    )
    result: dict[str, Any] = dict.fromkeys(("clean", "noisy", "drop", "sd", "low", "high", "over"))
    result["n"] = 0
    if not seeds:
        return result
    pooled = interval(a - b for a, b in seeds)
    result |= {"clean": interval(a for a, _ in seeds).mean, "noisy": interval(b for _, b in seeds).mean}
    result["drop"] = pooled.mean
    over, spread = ("seeds", pooled) if pooled.n > 1 else ("folds", interval(a - b for a, b in folds or seeds))
    if spread.n > 1:
        result |= {"sd": spread.sd, "low": spread.low, "high": spread.high, "over": over, "n": spread.n}
    return result
