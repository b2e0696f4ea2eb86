import json
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    label_ranking_average_precision_score,
    roc_auc_score,
)

from graphophone.evaluation import ranking
from graphophone.evaluation.metrics import SCALARS, MetricError, classification_metrics, kind_of, summarize
from graphophone.evaluation.ranking import rank_rows
from graphophone.evaluation.tagging import TAGGING_SCALARS, d_prime, tagging_metrics, threshold_table

Case = tuple[np.ndarray, np.ndarray]


def names(count: int) -> list[str]:
    return [f"c{i}" for i in range(count)]


@st.composite
def tagged(draw: st.DrawFn) -> Case:
    """Labels and scores of few items, often with ties, classes without positives and items without tags."""
    items, classes = draw(st.integers(1, 40)), draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    y = (rng.random((items, classes)) < draw(st.floats(0.05, 0.9))).astype(int)
    y[rng.integers(items), rng.integers(classes)] = 1
    digits = draw(st.sampled_from([1, 2, 15]))
    return y, rng.random((items, classes)).round(digits)


@given(tagged())
@settings(max_examples=50)
def test_against_scikit_learn(case: Case) -> None:
    y, s = case
    m = tagging_metrics(y, s, names(y.shape[1]))
    there = np.asarray(y.any(axis=0))
    for i, row in enumerate(m["per_class"]):
        if not there[i]:
            assert row["ap"] is None
            assert row["class"] in m["excluded"]
            continue
        assert row["ap"] == pytest.approx(average_precision_score(y[:, i], s[:, i]))
        if y[:, i].all():
            assert row["auc"] is None
        else:
            assert row["auc"] == pytest.approx(roc_auc_score(y[:, i], s[:, i]))
    assert m["map"] == pytest.approx(average_precision_score(y[:, there], s[:, there], average="macro"))
    weight = y.sum(axis=1)
    if y.shape[1] > 1:
        assert m["lwlrap"] == pytest.approx(label_ranking_average_precision_score(y, s, sample_weight=weight))
    given_tags = (s >= 0.5).astype(int)
    assert m["micro_f1"] == pytest.approx(f1_score(y.ravel(), given_tags.ravel(), zero_division=0.0))
    by_class = [f1_score(y[:, i], given_tags[:, i], zero_division=0.0) for i in np.flatnonzero(there)]
    assert m["macro_f1"] == pytest.approx(np.mean(by_class))
    areas = [row["auc"] for row in m["per_class"] if row["auc"] is not None]
    assert m["mauc"] == (pytest.approx(np.mean(areas)) if areas else None)
    assert json.loads(json.dumps(m, allow_nan=False)) == m


@given(tagged())
@settings(max_examples=60)
def test_only_the_order_of_scores_counts(case: Case) -> None:
    y, s = case
    wanted = ("map", "mauc", "dprime", "lwlrap")
    before = tagging_metrics(y, s, names(y.shape[1]))
    for scale in (lambda x: 3 * x - 7, lambda x: np.exp(2 * x), lambda x: x**3):
        after = tagging_metrics(y, scale(s), names(y.shape[1]))
        assert [after[key] for key in wanted] == pytest.approx([before[key] for key in wanted])


@given(tagged(), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_order_of_classes_and_of_items_does_not_count(case: Case, random: object) -> None:
    y, s = case
    rng = np.random.default_rng(random.randrange(2**31))  # type: ignore[attr-defined]
    items, classes = rng.permutation(y.shape[0]), rng.permutation(y.shape[1])
    before = tagging_metrics(y, s, names(y.shape[1]))
    after = tagging_metrics(y[items][:, classes], s[items][:, classes], [names(y.shape[1])[i] for i in classes])
    for key in TAGGING_SCALARS:
        assert after[key] == pytest.approx(before[key])
    by_name = {row["class"]: row for row in after["per_class"]}
    for row in before["per_class"]:
        assert by_name[row["class"]] == {**row, "ap": pytest.approx(row["ap"]), "auc": pytest.approx(row["auc"])}


def test_perfect_and_reversed_rankings() -> None:
    y = np.eye(4, dtype=int)[np.arange(40) % 4]
    perfect = tagging_metrics(y, 0.8 * y + 0.1, names(4))
    assert perfect["map"] == perfect["mauc"] == perfect["lwlrap"] == perfect["micro_f1"] == perfect["macro_f1"] == 1.0
    assert perfect["dprime"] is None  # without bound
    worst = tagging_metrics(y, 0.9 - 0.8 * y, names(4))
    assert worst["mauc"] == 0.0
    assert worst["map"] == 0.25  # the ten hits share the last place: ten hits among forty
    apart = tagging_metrics(y, 0.9 - 0.8 * y - np.arange(40)[:, None] / 1e4, names(4))
    # Without the ties they stand at the places 31 to 40.
    assert apart["map"] == pytest.approx(np.mean([k / (30 + k) for k in range(1, 11)]))


def test_random_scores_reach_the_share_of_positives() -> None:
    rng = np.random.default_rng(0)
    share = np.array([0.02, 0.1, 0.4])
    y = (rng.random((20_000, 3)) < share).astype(int)
    m = tagging_metrics(y, rng.random(y.shape), names(3))
    assert [row["ap"] for row in m["per_class"]] == pytest.approx(share, rel=0.12)
    assert m["mauc"] == pytest.approx(0.5, abs=0.02)
    assert m["dprime"] == pytest.approx(0.0, abs=0.07)
    equal = tagging_metrics(y, np.full(y.shape, 0.3), names(3))  # one tie: exactly the share
    assert [row["ap"] for row in equal["per_class"]] == pytest.approx(y.mean(axis=0))
    assert equal["mauc"] == 0.5


def test_d_prime_is_that_of_two_normal_distributions() -> None:
    # AUC = Phi(d' / sqrt(2)); figures of the AudioSet baseline's usual pairs.
    assert d_prime(0.5) == pytest.approx(0.0)
    assert d_prime(0.959) == pytest.approx(2.459, abs=2e-3)
    assert d_prime(0.975) == pytest.approx(math.sqrt(2) * 1.959964, abs=1e-5)
    assert d_prime(1.0) is None
    assert d_prime(0.0) is None


def test_d_prime_is_of_the_mean_area_and_not_the_mean_of_the_classes() -> None:
    y = np.array([[1, 1], [1, 0], [0, 1], [0, 0], [0, 0]])
    s = np.array([[0.9, 0.6], [0.4, 0.5], [0.5, 0.55], [0.1, 0.58], [0.2, 0.59]])
    m = tagging_metrics(y, s, ["a", "b"])
    assert m["dprime"] == pytest.approx(d_prime(m["mauc"]))
    assert m["dprime"] != pytest.approx(np.mean([row["dprime"] for row in m["per_class"]]), abs=1e-3)


def test_classes_without_positives_are_left_out_and_named() -> None:
    y = np.array([[1, 0, 0], [0, 0, 1], [1, 0, 0]])
    s = np.array([[0.9, 0.9, 0.1], [0.2, 0.8, 0.7], [0.8, 0.7, 0.2]])
    m = tagging_metrics(y, s, ["dog", "owl", "rain"])
    assert m["excluded"] == ["owl"]
    assert m["map"] == m["macro_f1"] == 1.0
    assert m["micro_f1"] == pytest.approx(2 * 3 / (3 + 6))  # wrongly given owls count here
    assert m["per_class"][1] == {
        "class": "owl", "ap": None, "auc": None, "dprime": None, "precision": 0.0, "recall": None, "f1": None,
        "support": 0, "predicted": 3,
    }  # fmt: skip


def test_a_threshold_on_the_scale_of_logits() -> None:
    rng = np.random.default_rng(3)
    y, logits = rng.integers(0, 2, (50, 4)), rng.standard_normal((50, 4))
    a = tagging_metrics(y, logits, names(4), threshold=0.0)
    b = tagging_metrics(y, 1 / (1 + np.exp(-logits)), names(4))
    for key in TAGGING_SCALARS:
        assert a[key] == pytest.approx(b[key])


@pytest.mark.parametrize(
    ("targets", "scores", "match"),
    [
        (np.zeros((0, 2)), np.zeros((0, 2)), "no prediction"),
        ([0, 1], [[0.1, 0.2], [0.3, 0.4]], "do not fit 2 classes"),
        ([[0, 1]], [[0.1, 0.2, 0.3]], "do not fit 2 classes"),
        ([[0, 0.5]], [[0.1, 0.2]], "0 or 1"),
        ([[0, 1], [1, 0]], [[0.1, 0.2], [np.nan, 0.1]], "row 1"),
        ([[0, 0]], [[0.1, 0.2]], "no item has a tag"),
    ],
)
def test_bad_input(targets: object, scores: object, match: str) -> None:
    with pytest.raises(MetricError, match=match) as error:
        tagging_metrics(targets, scores, ["a", "b"])
    assert "\n" not in str(error.value)


def test_blocks_do_not_change_the_ranking(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    y, s = rng.random((13, 30)) < 0.2, rng.random((13, 30)).round(1)
    whole = rank_rows(y, s)
    monkeypatch.setattr(ranking, "CELLS", 61)  # two rows at a time
    blocks = rank_rows(y, s)
    np.testing.assert_array_equal(whole.positives, blocks.positives)
    np.testing.assert_array_equal(whole.precision_sum, blocks.precision_sum)
    np.testing.assert_array_equal(whole.auc, blocks.auc)


@given(tagged())
@settings(max_examples=40)
def test_single_label_runs_have_it_too(case: Case) -> None:
    _, s = case
    if s.shape[1] < 2:
        return
    p = (s + 0.01) / (s + 0.01).sum(axis=1, keepdims=True)
    target = np.random.default_rng(0).integers(0, s.shape[1], len(s))
    m = classification_metrics(target, p, names(s.shape[1]))
    onehot = np.eye(s.shape[1], dtype=int)[target]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = tagging_metrics(onehot, p, names(s.shape[1]))
    assert m["map"] == pytest.approx(expected["map"])
    assert m["mauc"] == (None if expected["mauc"] is None else pytest.approx(expected["mauc"]))


def test_thresholds_against_counting() -> None:
    rng = np.random.default_rng(4)
    y = (rng.random((80, 4)) < 0.2).astype(int)
    p = (0.4 * y + 0.6 * rng.random(y.shape)).round(2)  # many lie exactly on a threshold
    table = threshold_table(y, p)
    for at in (0, 20, 50, 73, 100):
        given = p >= table["threshold"][at]
        right = (given & (y == 1)).sum()
        assert table["recall"][at] == pytest.approx(right / y.sum())
        assert table["f1"][at] == pytest.approx(2 * right / (given.sum() + y.sum()))
        if given.any():
            assert table["precision"][at] == pytest.approx(right / given.sum())
        else:
            assert np.isnan(table["precision"][at])


# ---------------------------------------------------------------- over folds and seeds


def tags(folds: int = 2, seeds: int = 3, n: int = 30) -> pd.DataFrame:
    """Predictions of a tagging run; the seeds are on scales of their own."""
    tables = []
    for fold in range(folds):
        y = np.random.default_rng(fold).random((n, 3)) < [0.2, 0.4, 0.6]
        for seed in range(seeds):
            rng = np.random.default_rng(10 * fold + seed)
            p = (rng.random((n, 3)) + y) / 2 / (1 + 3 * seed)
            frame = pd.DataFrame({"id": [f"{fold}-{i}" for i in range(n)]})
            frame["labels"] = [";".join(np.array(["a", "b", "c"])[row]) for row in y]
            frame["fold"], frame["seed"] = f"fold{fold}", seed
            frame[["p_a", "p_b", "p_c"]] = p
            tables.append(frame)
    return pd.concat(tables, ignore_index=True)


def test_summary_of_tags_pools_folds_and_averages_seeds() -> None:
    table = tags()
    assert kind_of(table) == "tagging"
    s = summarize(table, ["a", "b", "c"])
    assert s["kind"] == "tagging"
    y = np.stack([table["labels"].str.split(";").map(lambda tags, c=c: c in tags) for c in "abc"], axis=1)
    p = table[["p_a", "p_b", "p_c"]].to_numpy()
    by_hand = [average_precision_score(y[rows], p[rows]) for rows in (table["seed"] == k for k in range(3))]
    assert s["map"]["mean"] == pytest.approx(np.mean(by_hand))
    assert s["map"]["sd"] == pytest.approx(np.std(by_hand, ddof=1))
    assert s["pooled"]["map"] == pytest.approx(np.mean(by_hand))
    # One ranking over seeds, which are on other scales, would be another and a lower number.
    assert average_precision_score(y, p) < s["map"]["mean"] - 0.02
    assert s["over_folds"]["map"]["n"] == 2
    assert [row["support"] for row in s["pooled"]["per_class"]] == [
        int(count) for count in y[(table["seed"] == 0).to_numpy()].sum(axis=0)
    ]
    assert s["pooled"]["n"] == 60
    assert json.loads(json.dumps(s, allow_nan=False)) == s


def test_summary_of_one_fold_ranks_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphophone.evaluation import metrics

    calls = []
    real = metrics.tagging_metrics

    def counted(targets: np.ndarray, scores: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
        calls.append(len(targets))
        return real(targets, scores, classes)

    monkeypatch.setattr(metrics, "tagging_metrics", counted)
    s = summarize(tags(folds=1), ["a", "b", "c"])
    assert calls == [30, 30, 30]
    assert "fold" not in s["per_seed"][0]
    assert s["per_seed"][0]["map"] == s["folds"][0]["map"]


def test_what_is_without_bound_has_no_estimate() -> None:
    table = tags(seeds=2)
    for name in "abc":
        table[f"p_{name}"] = table["labels"].str.contains(name).astype(float)
    s = summarize(table, ["a", "b", "c"])
    assert s["map"]["mean"] == 1.0
    assert s["dprime"] is None
    assert s["over_folds"]["dprime"] is None


def test_a_class_that_one_fold_lacks() -> None:
    table = tags(seeds=1)
    lacks = table["fold"] == "fold1"
    table.loc[lacks, "labels"] = table.loc[lacks, "labels"].str.split(";").map(lambda t: ";".join(set(t) - {"a"}))
    s = summarize(table, ["a", "b", "c"])
    assert [f["excluded"] for f in s["folds"]] == [[], ["a"]]
    assert s["pooled"]["excluded"] == []


def test_tags_that_are_no_class() -> None:
    with pytest.raises(MetricError, match="label 'c' is not one of the classes a, b"):
        summarize(tags().drop(columns="p_c"), ["a", "b"])
    with pytest.raises(MetricError, match="'p_d'"):
        summarize(tags(), ["a", "b", "c", "d"])


def test_scalars_of_both_kinds_are_told_apart() -> None:
    assert set(TAGGING_SCALARS) - set(SCALARS) == {"dprime", "lwlrap", "micro_f1"}
