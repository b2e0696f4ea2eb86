"""Simple systems beside a network of nodes: the same features, the same labels, the same test items.

Whoever learns from few labels must beat them. What they leave open (a number of neighbours, a penalty) is chosen on the
validation items by UA, of equals the first; where there are none it is the value in the middle.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import joblib
import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.semi_supervised import LabelSpreading
from sklearn.svm import LinearSVC
from torch_geometric.nn.models import LabelPropagation

from graphophone.evaluation.metrics import unweighted_accuracy
from graphophone.evaluation.protocols import Split
from graphophone.evaluation.statistics import interval

NEIGHBOURS = (1, 3, 5, 10, 20)
"""Values of k of the nearest neighbours, and of the graph of label spreading."""

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Values of C, the inverse penalty of the linear systems."""

SHARE = 0.9
"""What an item takes over from its neighbours in every step of label spreading."""

SHARES = (0.5, 0.7, 0.8, 0.9, 0.95)
"""Values of the same share in label propagation over edges that are given."""

ROUNDS = 50
"""Steps of label propagation."""

SPREADING_ITEMS = 20_000
"""Label spreading compares every two items of a pool; above so many it is left out."""

_FITTED: dict[str, dict[str, dict[str, Any]]] = {}

_Answers = Callable[[np.ndarray], np.ndarray]  # rows of items -> their classes


def control_results(
    x: np.ndarray, y: np.ndarray, split: Split, classes: Sequence[str], edge_index: np.ndarray | None = None
) -> dict[str, dict[str, Any]]:
    """Fit every control on the training items of a split and test it once.

    * ``knn``: majority among the k nearest labelled items (Euclidean), each with the inverse of its distance;
    * ``label_spreading`` (Zhou et al. 2003) over the k nearest neighbours of labelled and unlabelled items;
    * ``linear_svm`` and ``logistic_regression``, with classes weighted by their inverse frequency;
    * ``label_propagation`` (Zhu and Ghahramani 2002) over the edges of a graph that is given, without any feature.

    Args:
        x: Standardised features of all items ``[items, dims]``.
        y: Their classes ``[items]``; read for training, validation and test items only.
        split: Which items are which.
        classes: Names of the classes.
        edge_index: Edges between items that the network itself sees ``[2, edges]``, every edge in both directions, or
            None.

    Returns:
        By name: ``ua``, ``wa`` and ``confusion`` on the test items, and ``chosen``, the value that was taken. Nothing
        is random in it: of the same items and split, as seeds of a published split have them, it is fitted once.
    """
    parts = [np.asarray(getattr(split, part)) for part in ("train", "unlabelled", "validation", "test")]
    key = joblib.hash((np.asarray(x), np.asarray(y), parts, edge_index, SPREADING_ITEMS))
    if key not in _FITTED:
        _FITTED.clear()  # one is enough, for the seed after it
        _FITTED[key] = _fit_controls(x, y, split, classes, edge_index)
    return copy.deepcopy(_FITTED[key])


def _fit_controls(
    x: np.ndarray, y: np.ndarray, split: Split, classes: Sequence[str], edge_index: np.ndarray | None
) -> dict[str, dict[str, Any]]:
    """See `control_results`."""
    fits: dict[str, tuple[str, Sequence[float], Callable[[Any], _Answers]]] = {
        "knn": ("k", NEIGHBOURS, lambda k: _nearest(x, y, split.train, int(k), len(classes))),
        "linear_svm": (
            "C", PENALTIES,
            lambda c: _fitted(LinearSVC(C=c, class_weight="balanced", random_state=0), x, y, split.train),
        ),
        "logistic_regression": (
            "C", PENALTIES,
            lambda c: _fitted(LogisticRegression(C=c, class_weight="balanced", max_iter=300), x, y, split.train),
        ),
    }  # fmt: skip
    if edge_index is not None:
        fits["label_propagation"] = (
            "share", SHARES,
            lambda share: _propagation(edge_index, y, split.train, float(share), len(classes)),
        )  # fmt: skip
    if len(split.train) + len(split.unlabelled) <= SPREADING_ITEMS:
        fits["label_spreading"] = ("k", NEIGHBOURS, lambda k: _spreading(x, y, split, int(k)))
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Groups of the graph that no label reaches have no probabilities, and get the first class.
        warnings.filterwarnings("ignore", "invalid value encountered in divide", RuntimeWarning)
        for name, (option, values, fit) in fits.items():
            value, answers = _chosen(fit, values, y, split.validation, len(classes))
            counts = _confusion(y[split.test], answers(split.test), len(classes))
            found[name] = {**_scores(counts), "confusion": counts.tolist(), "chosen": {option: value}}
    return found


def pooled_controls(jobs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Controls of a run: test items of a seed's splits pooled and scored once, with intervals over seeds.

    Args:
        jobs: ``metrics.json`` of its trainings, each with ``seed`` and, where there are any, ``controls``.

    Returns:
        By name: ``ua`` and ``wa`` as estimates; those controls that every training has.
    """
    parts = [(job["seed"], job.get("controls") or {}) for job in jobs]
    names = [name for name in parts[0][1] if all(name in controls for _, controls in parts)] if parts else []
    found = {}
    for name in names:
        counts: dict[int, np.ndarray] = {}
        for seed, controls in parts:
            counts[seed] = counts.get(seed, 0) + np.asarray(controls[name]["confusion"])
        scores = [_scores(table) for table in counts.values()]
        found[name] = {key: interval(score[key] for score in scores).to_dict() for key in ("ua", "wa")}
    return found


def _chosen(
    fit: Callable[[Any], _Answers],
    values: Sequence[float],
    y: np.ndarray,
    validation: np.ndarray,
    classes: int,
) -> tuple[float, _Answers]:
    """The value with the best UA on the validation items, and the system that has it."""
    if not len(validation):
        middle = values[len(values) // 2]
        return middle, fit(middle)
    best: tuple[float, float, _Answers] | None = None
    for value in values:
        answers = fit(value)
        ua = unweighted_accuracy(_confusion(y[validation], answers(validation), classes))
        if best is None or ua > best[0]:
            best = ua, value, answers
    assert best is not None  # noqa: S101 - there is a value
    return best[1], best[2]


def _fitted(model: Any, x: np.ndarray, y: np.ndarray, train: np.ndarray) -> _Answers:
    """A linear system, fitted to the training items."""
    fitted = model.fit(x[train], y[train])
    return lambda rows: fitted.predict(x[rows])


def _nearest(x: np.ndarray, y: np.ndarray, train: np.ndarray, k: int, classes: int) -> _Answers:
    """The k nearest neighbours; of equal classes the first."""
    search = NearestNeighbors(n_neighbors=min(k, len(train)), algorithm="brute").fit(x[train])

    def answers(rows: np.ndarray) -> np.ndarray:
        distance, place = search.kneighbors(x[rows])
        votes = np.zeros((len(rows), classes))
        np.add.at(votes, (np.arange(len(rows))[:, None], y[train][place]), 1 / np.maximum(distance, 1e-9))
        return votes.argmax(axis=1)

    return answers


def _spreading(x: np.ndarray, y: np.ndarray, split: Split, k: int) -> _Answers:
    """Label spreading over the pool."""
    pool = np.concatenate([split.train, split.unlabelled])
    labels = np.concatenate([y[split.train], np.full(len(split.unlabelled), -1)])
    # Every item is among its own neighbours.
    spreading = LabelSpreading(kernel="knn", n_neighbors=min(k + 1, len(pool)), alpha=SHARE, max_iter=300, tol=1e-4)
    fitted = spreading.fit(x[pool], labels)
    return lambda rows: fitted.predict(x[rows])


def _propagation(edge_index: np.ndarray, y: np.ndarray, train: np.ndarray, share: float, classes: int) -> _Answers:
    """Label propagation over given edges; items that no label reaches get the first class."""
    known = torch.zeros(len(y), classes)
    known[torch.from_numpy(train), torch.from_numpy(y[train])] = 1.0
    scores = LabelPropagation(ROUNDS, share)(known, torch.from_numpy(edge_index))
    return lambda rows: scores[torch.from_numpy(rows)].argmax(dim=1).numpy()


def _confusion(truth: np.ndarray, answers: np.ndarray, classes: int) -> np.ndarray:
    """Counts ``[classes, classes]``, rows the truth, columns the answer."""
    return np.bincount(truth * classes + answers, minlength=classes**2).reshape(classes, classes)


def _scores(counts: np.ndarray) -> dict[str, float]:
    return {"ua": float(unweighted_accuracy(counts)), "wa": float(np.trace(counts) / counts.sum())}
