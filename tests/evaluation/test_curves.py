"""ROC and precision-recall curves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from graphophone.evaluation.curves import MACRO, MICRO, class_curves, some_of
from graphophone.evaluation.figures_curves import ranking_curves
from graphophone.evaluation.metrics import classification_metrics
from graphophone.evaluation.ranking import MetricError
from graphophone.evaluation.report import write_report
from graphophone.evaluation.results import RunResults


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(6, 80), st.integers(2, 5))
def test_areas_are_those_under_the_curves(seed: int, items: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    target = rng.permutation(np.arange(items) % classes)
    p = rng.dirichlet(np.ones(classes), items)
    names = list("abcde")[:classes]
    found = {curve.name: curve for curve in class_curves(target, p, names)}
    measured = classification_metrics(target, p, names)
    for i, name in enumerate(names):
        curve = found[name]
        assert curve.auc == pytest.approx(roc_auc_score(target == i, p[:, i]))
        assert np.trapezoid(curve.true_positives, curve.false_positives) == pytest.approx(curve.auc)
        assert curve.ap == pytest.approx(average_precision_score(target == i, p[:, i]))
        steps = -np.diff(curve.recall) * curve.precision[:-1]
        assert steps.sum() == pytest.approx(curve.ap)
    assert found[MICRO].auc == pytest.approx(measured["micro_auc"])
    assert found[MICRO].ap == pytest.approx(measured["micro_ap"])
    assert (found[MACRO].auc, found[MACRO].ap) == pytest.approx((measured["mauc"], measured["map"]))
    macro = np.trapezoid(found[MACRO].true_positives, found[MACRO].false_positives)
    assert macro == pytest.approx(measured["mauc"], abs=0.01)  # drawn at 201 places


def test_classes_without_items_have_no_curve() -> None:
    p = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.5, 0.4, 0.1]])
    assert [curve.name for curve in class_curves([0, 1, 1], p, list("abc"))] == ["a", "b", MICRO, MACRO]
    (alone,) = class_curves([0, 0, 0], p, list("abc"))
    assert (alone.auc, alone.ap, len(alone.false_positives)) == (None, 1.0, 0)
    with pytest.raises(MetricError, match="no prediction"):
        class_curves([], np.zeros((0, 3)), list("abc"))


def test_of_many_classes_some_are_drawn() -> None:
    rng = np.random.default_rng(0)
    names = [f"c{i}" for i in range(30)]
    curves = class_curves(np.arange(300) % 30, rng.dirichlet(np.ones(30), 300), names)
    shown = some_of(curves)
    assert len(shown) == 10
    assert [curve.name for curve in shown[-2:]] == [MICRO, MACRO]
    order = [curve.ap for curve in shown[:-2]]
    assert order == sorted(order, reverse=True)
    assert {max(curve.ap for curve in curves[:-2]), min(curve.ap for curve in curves[:-2])} <= set(order)
    figure = ranking_curves(shown, [1 / 30] * 8)
    left, right = figure.axes
    assert len(left.get_lines()) == 11  # with the diagonal
    assert len(right.get_lines()) == 18  # with the shares
    assert mpl.rcParams["axes.spines.top"] is True  # global settings are as they were


def test_the_report_draws_them(make_run: Callable[..., Path], check: Callable[[Path], Any]) -> None:
    folder = make_run(classes=["calm", "sad", "angry", "happy"], per_speaker=2, folds=1)
    page = check(write_report(folder))
    summary = RunResults.read(folder).summary
    assert summary is not None
    area = summary["per_seed"][0]["per_class"][1]["auc"]
    assert any(f"sad: area {area:.3f}, average precision" in image for image in page.images)
    assert "Seed 0: networks of several seeds are not on one scale." in page.text
    mean = np.mean([seed["per_class"][1]["auc"] for seed in summary["per_seed"]])
    assert page.row("sad")[6] == f"{mean:.3f}"
    assert mpl.image.imread(folder / "figures" / "ranking.png").size
