import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    precision_score,
    roc_auc_score,
)

from graphophone.evaluation.metrics import (
    SCALARS,
    MetricError,
    classification_metrics,
    confusions_of_groups,
    metrics_from_predictions,
    micro_f1_without,
    reliability,
    summarize,
    weighted_f1,
)


def onehot(indices: list[int] | np.ndarray, classes: int) -> np.ndarray:
    return np.eye(classes)[np.asarray(indices)]


def test_majority_predictor_on_the_4490_utterances() -> None:
    target = np.repeat([0, 1, 2, 3], [1103, 595, 1708, 1084])
    m = classification_metrics(target, onehot(np.full(4490, 2), 4), ["anger", "happy", "neutral", "sad"])
    assert round(100 * m["wa"], 2) == 38.04
    assert m["ua"] == 0.25
    assert m["per_class"][0] == {
        "class": "anger",
        "recall": 0.0,
        "precision": None,
        "f1": 0.0,
        "ap": pytest.approx(1103 / 4490),  # all items have the same score
        "auc": 0.5,
        "support": 1103,
        "predicted": 0,
    }


def test_hand_made_confusion() -> None:
    # Class 0: 3 of 4 right; class 1: 1 of 2; class 2 never occurs but is predicted once.
    target = [0, 0, 0, 0, 1, 1]
    predicted = [0, 0, 0, 1, 1, 2]
    m = classification_metrics(target, onehot(predicted, 3), ["a", "b", "c"])
    assert m["confusion"] == [[3, 1, 0], [0, 1, 1], [0, 0, 0]]
    assert m["ua"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert m["wa"] == pytest.approx(4 / 6)
    f1_a, f1_b = 2 * 3 / (3 + 4), 2 * 1 / (2 + 2)
    assert m["weighted_f1"] == pytest.approx((4 * f1_a + 2 * f1_b) / 6)
    assert m["macro_f1"] == pytest.approx((f1_a + f1_b + 0) / 3)
    assert [c["recall"] for c in m["per_class"]] == [0.75, 0.5, None]
    assert m["per_class"][2]["precision"] == 0.0
    assert m["per_class"][2]["ap"] is None
    p = np.random.default_rng(0).dirichlet(np.ones(3), 6)
    ours = [c["ap"] for c in classification_metrics(target, p, ["a", "b", "c"])["per_class"][:2]]
    assert ours == pytest.approx([average_precision_score(np.equal(target, c), p[:, c]) for c in (0, 1)])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 60), st.integers(2, 6), st.booleans())
def test_precision_recall_and_areas_agree_with_scikit_learn(seed: int, items: int, classes: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, items)
    p = rng.dirichlet(np.ones(classes), items)
    if ties:
        p = np.round(2 * p)
        p = np.where(p.sum(axis=1, keepdims=True) > 0, p, 1.0)
        p /= p.sum(axis=1, keepdims=True)
    m = classification_metrics(target, p, list("abcdef")[:classes])
    predicted = p.argmax(axis=1)
    # Recall weighted by support counts every right answer once: it is accuracy, whatever the answers are.
    assert m["weighted_recall"] == pytest.approx(m["wa"], abs=1e-12)
    for average in ("weighted", "macro"):
        expected = precision_score(target, predicted, average=average, zero_division=0.0)
        assert m[f"{average}_precision"] == pytest.approx(expected)
    counts = np.array(m["confusion"])
    assert weighted_f1(counts) == pytest.approx(m["weighted_f1"])
    others = np.arange(1, classes)
    expected = f1_score(target, predicted, labels=others, average="micro", zero_division=0.0)
    assert (micro_f1_without(counts, 0) or 0.0) == pytest.approx(expected)
    flags = onehot(target, classes)
    assert m["micro_ap"] == pytest.approx(average_precision_score(flags.ravel(), p.ravel()))
    assert m["micro_auc"] == pytest.approx(roc_auc_score(flags.ravel(), p.ravel()))
    for i, row in enumerate(m["per_class"]):
        if 0 < row["support"] < items:
            assert row["auc"] == pytest.approx(roc_auc_score(flags[:, i], p[:, i]))
        else:
            assert row["auc"] is None


def test_micro_f1_without_neutral() -> None:
    # Three of joy: one found, one taken for neutral, one for anger. Two neutral: one taken for joy.
    target, answers = [1, 1, 1, 0, 0], [1, 0, 2, 0, 1]
    m = classification_metrics(target, onehot(answers, 3), ["Neutral", "joy", "anger"])
    assert m["micro_f1_no_neutral"] == pytest.approx(2 * 1 / (3 + 3))  # one right; three are, three are named
    assert classification_metrics(target, onehot(answers, 3), list("abc"))["micro_f1_no_neutral"] is None
    assert classification_metrics([0, 0], onehot([0, 0], 2), ["neutral", "joy"])["micro_f1_no_neutral"] is None
    both = classification_metrics(target, onehot(answers, 3), ["neutral", "no emotion", "joy"])
    assert both["micro_f1_no_neutral"] is None  # which of them is left out is not known


def test_confusions_of_groups() -> None:
    rng = np.random.default_rng(0)
    group, target, predicted = rng.integers(0, 4, 50), rng.integers(0, 3, 50), rng.integers(0, 3, 50)
    counts = confusions_of_groups(group, target, predicted, 5, 3)
    assert counts.shape == (5, 3, 3)
    for number in range(5):
        own = group == number
        expected = [[int(((target == a) & (predicted == b) & own).sum()) for b in range(3)] for a in range(3)]
        assert counts[number].tolist() == expected


def test_classes_that_never_occur_do_not_lower_the_averages() -> None:
    m = classification_metrics([0, 0, 1], onehot([0, 0, 1], 4), list("abcd"))
    assert m["ua"] == m["wa"] == m["macro_f1"] == m["weighted_f1"] == 1.0


def test_calibration_by_hand() -> None:
    # Ten items at confidence 0.9 of which 6 are right; ten at 0.6 of which 6 are right.
    p = np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10)
    target = np.array([0] * 6 + [1] * 4 + [0] * 6 + [1] * 4)
    m = classification_metrics(target, p, ["a", "b"])
    assert m["ece"] == pytest.approx(0.5 * abs(0.9 - 0.6))
    assert m["brier"] == pytest.approx((12 / 20) * np.mean([2 * 0.01, 2 * 0.16]) + 0.2 * (2 * 0.81) + 0.2 * (2 * 0.36))
    assert m["nll"] == pytest.approx(-(6 * np.log(0.9) + 4 * np.log(0.1) + 6 * np.log(0.6) + 4 * np.log(0.4)) / 20)


def test_per_speaker_in_natural_order_and_without_unknown() -> None:
    m = classification_metrics([0, 1, 0, 1, 0], onehot([0, 1, 0, 0, 1], 2), ["a", "b"], ["s10", "s10", "s9", "s9", ""])
    assert m["per_speaker"] == [
        {"speaker": "s9", "n": 2, "ua": 0.5, "wa": 0.5},
        {"speaker": "s10", "n": 2, "ua": 1.0, "wa": 1.0},
    ]
    assert classification_metrics([0, 1], onehot([0, 1], 2), ["a", "b"])["per_speaker"] == []


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    classes = draw(st.integers(2, 6))
    n = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    p = rng.dirichlet(np.full(classes, draw(st.floats(0.1, 3))), size=n)
    return rng.integers(0, classes, n), p


@given(scored())
@settings(max_examples=60, deadline=None)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.filterwarnings("ignore:.*single label.*")
def test_against_scikit_learn_and_own_identities(case: tuple[np.ndarray, np.ndarray]) -> None:
    target, p = case
    classes = [f"c{i}" for i in range(p.shape[1])]
    m = classification_metrics(target, p, classes, speakers=[f"s{i % 3}" for i in range(len(target))])
    predicted = p.argmax(axis=1)
    assert m["wa"] == pytest.approx(accuracy_score(target, predicted))
    assert m["ua"] == pytest.approx(balanced_accuracy_score(target, predicted))
    recalls = [c["recall"] for c in m["per_class"] if c["recall"] is not None]
    assert m["ua"] == pytest.approx(np.mean(recalls))
    assert np.sum(m["confusion"]) == m["n"] == sum(s["n"] for s in m["per_speaker"])
    assert sum(s["n"] * s["wa"] for s in m["per_speaker"]) == pytest.approx(m["n"] * m["wa"])
    bins = reliability(target, p)
    gap = sum(
        b["n"] * abs(b["accuracy"] - b["confidence"])
        for b in bins
        if b["n"]  # type: ignore[operator]
    )
    assert m["ece"] == pytest.approx(gap / m["n"], abs=1e-6)
    assert json.loads(json.dumps(m, allow_nan=False)) == m


@pytest.mark.parametrize(
    ("target", "p", "match"),
    [
        ([], np.zeros((0, 2)), "no prediction"),
        ([0, 1], np.eye(3)[:2], "do not fit 2 classes"),
        ([0, 2], np.eye(2), "indices into 2 classes"),
        ([0, 1], np.array([[1.0, 0.0], [np.nan, 1.0]]), "row 1"),
        ([0, 1], np.array([[1.0, 0.0], [2.0, -1.0]]), "row 1"),
        ([0, 1], np.array([[3.0, -0.5], [0.0, 1.0]]), "row 0"),
    ],
)
def test_bad_input(target: list[int], p: np.ndarray, match: str) -> None:
    with pytest.raises(MetricError, match=match):
        classification_metrics(target, p, ["a", "b"])


def predictions(folds: int = 3, seeds: int = 2, n: int = 20) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(seeds):
        for fold in range(folds):
            p = rng.dirichlet([1, 1, 1], size=n)
            frame = pd.DataFrame(p, columns=["p_a", "p_b", "p_c"])
            frame["label"] = rng.choice(list("abc"), n)
            frame["speaker"] = f"s{fold}"
            frame["fold"], frame["seed"] = f"fold{fold}", seed
            frame["id"] = [f"{fold}-{i}" for i in range(n)]
            rows.append(frame)
    return pd.concat(rows, ignore_index=True)


def test_summary_pools_folds_within_a_seed() -> None:
    table = predictions()
    s = summarize(table, ["a", "b", "c"])
    assert s["seeds"] == [0, 1]
    assert [(f["fold"], f["seed"]) for f in s["folds"]][:3] == [("fold0", 0), ("fold0", 1), ("fold1", 0)]
    by_hand = [metrics_from_predictions(table[table["seed"] == k], ["a", "b", "c"])["ua"] for k in (0, 1)]
    assert s["ua"]["mean"] == pytest.approx(np.mean(by_hand))
    assert s["ua"]["sd"] == pytest.approx(np.std(by_hand, ddof=1))
    assert s["ua"]["n"] == 2
    assert s["over_folds"]["ua"]["n"] == 3
    assert np.sum(s["pooled"]["confusion"]) == len(table)
    assert set(SCALARS) <= set(s)
    assert json.loads(json.dumps(s, allow_nan=False)) == s


def test_summary_of_one_seed_has_no_interval() -> None:
    s = summarize(predictions(seeds=1), ["a", "b", "c"])
    assert s["ua"]["sd"] is None
    assert s["over_folds"]["ua"]["sd"] > 0


def test_predictions_made_with_other_classes() -> None:
    with pytest.raises(MetricError, match="'p_d'"):
        summarize(predictions(), ["a", "b", "c", "d"])
    with pytest.raises(MetricError, match="label 'c'"):
        metrics_from_predictions(predictions(), ["a", "b"])
