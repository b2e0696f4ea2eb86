"""What a table of predictions is worth: recalls, F1, calibration, per class and per speaker; over folds and seeds.

All rates are fractions between 0 and 1. Unweighted accuracy (UA) is the mean of the recalls of the classes that
occur, weighted accuracy (WA) the share of correct items, which most of the literature on sounds calls accuracy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import confusion_matrix, f1_score, log_loss, precision_recall_fscore_support
from torchmetrics.functional.classification import multiclass_calibration_error

from graphophone.evaluation.protocols import natural_key
from graphophone.evaluation.ranking import MetricError, rank_rows
from graphophone.evaluation.statistics import interval
from graphophone.evaluation.tagging import TAGGING_SCALARS, tagging_metrics

ECE_BINS = 15
"""Number of equal-width confidence bins between 0 and 1."""

SCALARS = (
    *("ua", "wa", "weighted_f1", "macro_f1", "weighted_precision", "macro_precision", "weighted_recall"),
    *("ece", "nll", "brier", "map", "mauc", "micro_ap", "micro_auc", "micro_f1_no_neutral"),
)
"""Keys of the single numbers in what :func:`classification_metrics` returns."""

NEUTRAL = frozenset({"neutral", "neutrality", "neu", "no emotion", "no_emotion"})
"""Names of the class without emotion, in small letters."""

Kind = Literal["classification", "tagging"]
"""One label per item, or any number of tags."""

__all__ = [
    "ECE_BINS",
    "NEUTRAL",
    "SCALARS",
    "TAGGING_SCALARS",
    "Kind",
    "MetricError",
    "classification_metrics",
    "confusions_of_groups",
    "kind_of",
    "metrics_from_predictions",
    "micro_f1_without",
    "reliability",
    "scalars",
    "summarize",
    "tag_targets",
    "tagging_metrics",
    "unweighted_accuracy",
    "weighted_f1",
]


def _checked(y_true: Any, probabilities: Any, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    target = np.asarray(y_true, dtype=np.int64)
    p = np.asarray(probabilities, dtype=np.float64)
    if target.ndim != 1 or p.shape != (len(target), len(classes)):
        raise MetricError(
            f"targets {target.shape} and probabilities {p.shape} do not fit {len(classes)} classes: "
            "give [items] and [items, classes]"
        )
    if len(target) == 0:
        raise MetricError("there is no prediction to score")
    if target.min() < 0 or target.max() >= len(classes):
        raise MetricError(
            f"targets lie between {target.min()} and {target.max()}: give indices into {len(classes)} classes"
        )
    valid = np.isfinite(p) & (p >= -1e-6)
    good = valid.all(axis=1) & (np.abs(np.where(valid, p, 0.0).sum(axis=1) - 1) <= 1e-3)
    if not good.all():
        raise MetricError(
            f"row {int(np.argmin(good))} of the probabilities is not a distribution: apply a softmax to logits first"
        )
    return target, p


def unweighted_accuracy(confusion: np.ndarray) -> float:
    """Mean of the recalls of the classes that occur (UA, balanced accuracy).

    Args:
        confusion: Counts ``[true, predicted]``.
    """
    support = confusion.sum(axis=1)
    present = support > 0
    return float((np.diag(confusion)[present] / support[present]).mean())


def weighted_f1(confusion: np.ndarray) -> float:
    """Mean of the F1 of the classes, weighted by how many items they have.

    Args:
        confusion: Counts ``[true, predicted]``.
    """
    support = confusion.sum(axis=1)
    f1 = 2 * np.diag(confusion) / np.maximum(support + confusion.sum(axis=0), 1)
    return float(np.average(f1, weights=support))


def micro_f1_without(confusion: np.ndarray, left_out: int) -> float | None:
    """F1 of the answers of all classes but one, counted together; the usual figure on DailyDialog, without neutral.

    Args:
        confusion: Counts ``[true, predicted]``.
        left_out: The class that does not count: an item of it that gets another answer is a false alarm of that one.

    Returns:
        None where no item is of another class and no answer names one.
    """
    kept = np.arange(len(confusion)) != left_out
    named = int(confusion[kept].sum() + confusion[:, kept].sum())
    return float(2 * np.diag(confusion)[kept].sum() / named) if named else None


def confusions_of_groups(
    group: np.ndarray, target: np.ndarray, predicted: np.ndarray, groups: int, classes: int
) -> np.ndarray:
    """Confusion counts of every group of items, int64 ``[groups, true, predicted]``.

    Args:
        group: Number of the group of each item ``[items]``.
        target: Class of each item ``[items]``.
        predicted: What it was taken for ``[items]``.
        groups: How many groups there are.
        classes: How many classes there are.
    """
    counts = np.zeros((groups, classes, classes), dtype=np.int64)
    np.add.at(counts, (group, target, predicted), 1)
    return counts


def reliability(y_true: Any, probabilities: Any, bins: int = ECE_BINS) -> list[dict[str, float | int | None]]:
    """Confidence against accuracy in equal-width bins.

    Args:
        y_true: Class index of every item, ``[items]``.
        probabilities: ``[items, classes]``.
        bins: Number of bins between 0 and 1.

    Returns:
        One entry per bin with ``low``, ``high``, ``n``, and the mean ``confidence`` and ``accuracy`` (None
        where the bin is empty). The ECE is the mean of ``|accuracy - confidence|`` weighted by ``n``.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    confidence = p.max(axis=1)
    correct = p.argmax(axis=1) == np.asarray(y_true)
    edges = np.linspace(0.0, 1.0, bins + 1)
    which = np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, bins - 1)
    n = np.bincount(which, minlength=bins)
    confidences = np.bincount(which, weights=confidence, minlength=bins)
    accuracies = np.bincount(which, weights=correct.astype(np.float64), minlength=bins)
    return [
        {
            "low": float(edges[i]),
            "high": float(edges[i + 1]),
            "n": int(n[i]),
            "confidence": float(confidences[i] / n[i]) if n[i] else None,
            "accuracy": float(accuracies[i] / n[i]) if n[i] else None,
        }
        for i in range(bins)
    ]


def classification_metrics(
    y_true: Any,
    probabilities: Any,
    classes: Sequence[str],
    speakers: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Score class probabilities.

    Args:
        y_true: Class index of every item, int ``[items]``.
        probabilities: Class probabilities, ``[items, classes]``, every row summing to one.
        classes: Name of every class.
        speakers: Speaker of every item, for the table per speaker; items whose speaker is empty or None are
            left out of it.

    Returns:
        A dictionary fit for JSON:

        * ``n``, ``ua`` (mean recall over the classes that occur), ``wa`` (accuracy);
        * ``weighted_f1`` (by support), ``macro_f1`` (over the classes that occur or are predicted); precision the same
          ways, where that of a class that is never predicted is 0; ``weighted_recall``, which is ``wa`` by another
          name. The macro recall is ``ua``;
        * ``ece``: expected calibration error of the top class, 15 equal-width bins, mean absolute gap;
        * ``nll``: mean negative log-likelihood in nats; ``brier``: mean squared error summed over classes;
        * ``map``, ``mauc``: mean over the classes that occur of the average precision and of the area under the
          ROC curve of their probability, each class against all others; ``mauc`` is None where all items are
          of one class. ``micro_ap``, ``micro_auc``: the same of all pairs of item and class as one ranking; the area
          is None with one class;
        * ``micro_f1_no_neutral``: :func:`micro_f1_without` the class without emotion (see :data:`NEUTRAL`), None where
          no class, or more than one, is called so;
        * ``per_class``: ``class``, ``recall``, ``precision``, ``f1``, ``ap``, ``auc``, ``support``, ``predicted``;
          recall, average precision and area of a class without items and the precision of one that is never predicted
          are None, and so is the area where all items are of one class;
        * ``per_speaker``: ``speaker``, ``n``, ``ua``, ``wa``, in natural order; empty without speakers;
        * ``confusion``: counts ``[true][predicted]``; ``classes``.

    Raises:
        MetricError: If shapes or values do not fit.
    """
    target, p = _checked(y_true, probabilities, classes)
    predicted = p.argmax(axis=1)
    labels = np.arange(len(classes))
    confusion = confusion_matrix(target, predicted, labels=labels)
    precision, recall, f1, support = precision_recall_fscore_support(
        target, predicted, labels=labels, zero_division=0.0
    )
    times_predicted = confusion.sum(axis=0)
    onehot = np.eye(len(classes))[target]
    ranked = rank_rows(onehot.T.astype(bool), np.ascontiguousarray(p.T))
    pairs = rank_rows(onehot.reshape(1, -1).astype(bool), p.reshape(1, -1))
    occurs = support > 0
    listed = occurs | (times_predicted > 0)
    neutral = [number for number, name in enumerate(classes) if name.strip().casefold() in NEUTRAL]
    return {
        "kind": "classification",
        "n": len(target),
        "classes": list(classes),
        "ua": unweighted_accuracy(confusion),
        "wa": float((predicted == target).mean()),
        "weighted_f1": float(f1_score(target, predicted, average="weighted", zero_division=0.0)),
        "macro_f1": float(f1_score(target, predicted, average="macro", zero_division=0.0)),
        "weighted_precision": float(np.average(precision, weights=support)),
        "macro_precision": float(precision[listed].mean()),
        "weighted_recall": float(np.average(recall, weights=support)),
        "ece": float(
            multiclass_calibration_error(
                torch.tensor(p),
                torch.tensor(target),
                num_classes=len(classes),
                n_bins=ECE_BINS,
                norm="l1",
            )
        )
        if len(classes) > 1
        else 0.0,
        "nll": float(log_loss(target, p / p.sum(axis=1, keepdims=True), labels=labels)) if len(classes) > 1 else 0.0,
        "brier": float(((p - onehot) ** 2).sum(axis=1).mean()),
        "map": float(ranked.average_precision[occurs].mean()),
        "mauc": float(ranked.auc[occurs].mean()) if occurs.sum() > 1 else None,
        "micro_ap": float(pairs.average_precision[0]),
        "micro_auc": float(pairs.auc[0]) if len(classes) > 1 else None,
        "micro_f1_no_neutral": micro_f1_without(confusion, neutral[0]) if len(neutral) == 1 else None,
        "per_class": [
            {
                "class": name,
                "recall": float(recall[i]) if support[i] else None,
                "precision": float(precision[i]) if times_predicted[i] else None,
                "f1": float(f1[i]) if support[i] or times_predicted[i] else None,
                "ap": float(ranked.average_precision[i]) if support[i] else None,
                "auc": float(ranked.auc[i]) if 0 < support[i] < len(target) else None,
                "support": int(support[i]),
                "predicted": int(times_predicted[i]),
            }
            for i, name in enumerate(classes)
        ],
        "per_speaker": _per_speaker(target, predicted, len(classes), speakers),
        "confusion": confusion.tolist(),
    }


def _per_speaker(
    target: np.ndarray, predicted: np.ndarray, classes: int, speakers: Sequence[str] | None
) -> list[dict[str, Any]]:
    if speakers is None:
        return []
    if len(speakers) != len(target):
        raise MetricError(f"{len(speakers)} speakers for {len(target)} items: give one per item")
    names = pd.Series(list(speakers), dtype=object)
    known = (names.notna() & (names.astype(str) != "")).to_numpy()
    who, member = np.unique(names[known].astype(str), return_inverse=True)
    counts = confusions_of_groups(member, target[known], predicted[known], len(who), classes)
    rows = [
        {
            "speaker": str(name),
            "n": int(table.sum()),
            "ua": unweighted_accuracy(table),
            "wa": float(np.trace(table) / table.sum()),
        }
        for name, table in zip(who, counts, strict=True)
    ]
    return sorted(rows, key=lambda row: natural_key(row["speaker"]))


def kind_of(predictions: pd.DataFrame) -> Kind:
    """Whether a table of predictions is of tags (column ``labels``) or of one label per item (``label``)."""
    return "tagging" if "labels" in predictions else "classification"


def scalars(kind: Kind) -> tuple[str, ...]:
    """Keys of the single numbers that predictions of a kind are scored by."""
    return TAGGING_SCALARS if kind == "tagging" else SCALARS


def metrics_from_predictions(predictions: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    """:func:`classification_metrics` or :func:`tagging_metrics` of a table of predictions.

    Args:
        predictions: Columns ``label``, or ``labels`` with ``;`` between the tags of an item; ``p_<class>`` for
            every class, and ``speaker`` where known.
        classes: Name of every class.

    Raises:
        MetricError: If a column is missing or a label is not a class.
    """
    columns = [f"p_{name}" for name in classes]
    truth = "labels" if kind_of(predictions) == "tagging" else "label"
    missing = [c for c in [truth, *columns] if c not in predictions]
    if missing:
        raise MetricError(f"predictions have no column {missing[0]!r}: they were made with other classes")
    index = {name: i for i, name in enumerate(classes)}
    p = predictions[columns].to_numpy(np.float64)
    if truth == "labels":
        return tagging_metrics(tag_targets(predictions, classes), p, classes)
    labels = predictions["label"].astype(str)
    _all_known(labels, index)
    speakers = predictions["speaker"].tolist() if "speaker" in predictions else None
    return classification_metrics(labels.map(index).to_numpy(), p, classes, speakers)


def tag_targets(predictions: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """The true tags of a table of predictions.

    Args:
        predictions: With a column ``labels`` of text such as ``"bark;dog"``; an empty cell has no tag.
        classes: Name of every class.

    Returns:
        0 or 1, int64 ``[items, classes]``.

    Raises:
        MetricError: If a tag is not a class.
    """
    index = {name: i for i, name in enumerate(classes)}
    tags = predictions["labels"].astype(str).reset_index(drop=True).str.split(";").explode()
    tags = tags[tags != ""]
    _all_known(tags, index)
    targets = np.zeros((len(predictions), len(classes)), dtype=np.int64)
    targets[tags.index.to_numpy(), tags.map(index).to_numpy(np.int64)] = 1
    return targets


def _all_known(labels: Iterable[str], index: Mapping[str, int]) -> None:
    unknown = sorted(set(labels) - set(index))
    if unknown:
        names = list(index)
        more = f" and {len(names) - 20} more" if len(names) > 20 else ""
        raise MetricError(f"label {unknown[0]!r} is not one of the classes {', '.join(names[:20])}{more}")


def summarize(predictions: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    """Everything a run has to say of its test predictions, over folds and seeds.

    The headline estimates are over seeds: within a seed the test items of all folds are pooled and scored
    once, which gives one value per seed. The spread over folds is kept apart, since it is one of speakers,
    sessions or recordings rather than of chance in training.

    Scores of tags are never ranked across seeds, whose models are on scales of their own, nor averaged over
    them, which would measure an ensemble that nobody trained: under ``pooled``, every number of a tagging run
    is the mean over seeds of the number of one seed.

    Args:
        predictions: Columns ``fold``, ``seed``, ``label`` or ``labels``, ``p_<class>`` and, where known,
            ``speaker``.
        classes: Name of every class.

    Returns:
        A dictionary fit for JSON: ``kind``; an estimate (``mean``, ``sd``, ``low``, ``high``, ``n``) over seeds
        under ``ua``, ``wa``, ... or ``map``, ``mauc``, ... (see :func:`scalars`), None where one of the values
        is not defined; the same over folds (means over seeds) under ``over_folds``; ``per_seed`` and ``folds``,
        lists of the metrics of every seed and of every fold and seed; ``pooled``, the metrics of all
        predictions together, in which confusion counts are summed over seeds.
    """
    kind = kind_of(predictions)
    keys = scalars(kind)
    folds = [
        {"fold": _plain(fold), "seed": _plain(seed), **metrics_from_predictions(part, classes)}
        for (fold, seed), part in predictions.groupby(["fold", "seed"], sort=True)
    ]
    per_seed = []
    for seed, part in predictions.groupby("seed", sort=True):
        alone = [entry for entry in folds if entry["seed"] == seed]
        # One fold is its seed's whole test: not ranked twice.
        scored = alone[0] if len(alone) == 1 else metrics_from_predictions(part, classes)
        per_seed.append({"seed": _plain(seed), **{k: v for k, v in scored.items() if k not in {"fold", "seed"}}})
    by_fold: dict[Any, list[dict[str, Any]]] = {}
    for entry in folds:
        by_fold.setdefault(entry["fold"], []).append(entry)
    return {
        "kind": kind,
        "classes": list(classes),
        "seeds": [entry["seed"] for entry in per_seed],
        **{key: _estimate(entry[key] for entry in per_seed) for key in keys},
        "over_folds": {
            key: _estimate(_mean(entry[key] for entry in entries) for entries in by_fold.values()) for key in keys
        },
        "pooled": _mean_tagging(per_seed) if kind == "tagging" else metrics_from_predictions(predictions, classes),
        "per_seed": per_seed,
        "folds": folds,
    }


def _mean(values: Iterable[float | None]) -> float | None:
    """Mean of numbers; None where one of them is None."""
    known = list(values)
    return None if any(v is None for v in known) else float(np.mean(known))  # type: ignore[arg-type]


def _estimate(values: Iterable[float | None]) -> dict[str, Any] | None:
    known = list(values)
    return None if any(v is None for v in known) else interval(known).to_dict()  # type: ignore[arg-type]


def _mean_tagging(per_seed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over seeds of :func:`tagging_metrics`, class by class; of a class, over the seeds that have positives."""
    first = per_seed[0]
    rows = []
    for entries in zip(*(seed["per_class"] for seed in per_seed), strict=True):
        row = {key: _mean_of_known(e[key] for e in entries) for key in ("ap", "auc", "dprime")}
        row |= {key: _mean_of_known(e[key] for e in entries) for key in ("precision", "recall", "f1")}
        counts = {key: round(float(np.mean([e[key] for e in entries]))) for key in ("support", "predicted")}
        rows.append({"class": entries[0]["class"], **row, **counts})
    return {
        **{key: first[key] for key in ("kind", "classes", "threshold")},
        "n": round(float(np.mean([seed["n"] for seed in per_seed]))),
        "excluded": [row["class"] for row in rows if row["ap"] is None],
        **{key: _mean(seed[key] for seed in per_seed) for key in TAGGING_SCALARS},
        "per_class": rows,
    }


def _mean_of_known(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
