"""Controls beside networks of nodes."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, recall_score
from sklearn.neighbors import KNeighborsClassifier

from graphophone.evaluation import controls
from graphophone.evaluation.controls import NEIGHBOURS, PENALTIES, ROUNDS, SHARES, control_results, pooled_controls
from graphophone.evaluation.protocols import Split

CLASSES = ("a", "b", "c")


def groups(spread: float, items: int = 180, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(items) % 3
    return (3 * np.eye(3)[y] + spread * rng.standard_normal((items, 3))).astype(np.float32), y


def split(validation: bool = True) -> Split:
    rows = np.arange(180)
    return Split("one", rows[:15], rows[15:60] if validation else rows[:0], rows[60:120], unlabelled=rows[120:])


def test_groups_that_lie_apart_are_told_apart_by_all() -> None:
    x, y = groups(0.3)
    found = control_results(x, y, split(), CLASSES)
    assert set(found) == {"knn", "label_spreading", "linear_svm", "logistic_regression"}
    assert found["knn"]["chosen"] == {"k": NEIGHBOURS[0]}  # of equals the first
    for result in found.values():
        assert result["ua"] == result["wa"] == 1.0
        assert np.array_equal(result["confusion"], 20 * np.eye(3))


def test_the_value_is_chosen_on_validation_items_and_test_items_choose_nothing() -> None:
    x, y = groups(2.0)
    parts = split()
    found = control_results(x, y, parts, CLASSES)["knn"]
    scores = []
    for k in NEIGHBOURS:
        fitted = KNeighborsClassifier(min(k, 15), weights="distance", algorithm="brute")
        fitted.fit(x[parts.train], y[parts.train])
        scores.append(
            [recall_score(y[rows], fitted.predict(x[rows]), average="macro") for rows in (parts.validation, parts.test)]
        )
    best = int(np.argmax([score for score, _ in scores]))
    assert found["chosen"] == {"k": NEIGHBOURS[best]}
    assert found["ua"] == pytest.approx(scores[best][1])
    other = y.copy()
    other[parts.test] = 0
    assert control_results(x, other, parts, CLASSES)["knn"]["chosen"] == found["chosen"]


def test_without_validation_items_the_value_in_the_middle_is_taken() -> None:
    x, y = groups(1.0)
    found = control_results(x, y, split(validation=False), CLASSES)
    assert found["knn"]["chosen"] == found["label_spreading"]["chosen"] == {"k": NEIGHBOURS[2]}
    assert found["linear_svm"]["chosen"] == {"C": PENALTIES[2]}


def test_labels_of_unlabelled_items_are_not_read() -> None:
    x, y = groups(2.0)
    other = y.copy()
    other[split().unlabelled] = -1
    assert control_results(x, other, split(), CLASSES) == control_results(x, y, split(), CLASSES)


def test_label_spreading_learns_from_items_without_label() -> None:
    """Two half rings, one label each: the nearest label is wrong at their ends."""
    angle = np.linspace(0, np.pi, 100)
    rings = [np.c_[np.cos(angle), np.sin(angle)], np.c_[1 - np.cos(angle), 0.4 - np.sin(angle)]]
    x, y = np.concatenate(rings), np.repeat([0, 1], 100)
    train = np.array([50, 150])
    rest = np.setdiff1d(np.arange(200), train)
    parts = Split("rings", train, rest[:0], rest[::4], unlabelled=np.setdiff1d(rest, rest[::4]))
    found = control_results(x, y, parts, ("a", "b"))
    assert found["label_spreading"]["ua"] > found["knn"]["ua"]


def test_large_pools_have_no_label_spreading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controls, "SPREADING_ITEMS", 50)
    assert "label_spreading" not in control_results(*groups(1.0), split(), CLASSES)


def test_splits_of_a_seed_are_pooled_and_scored_once() -> None:
    counts = {(0, "a"): [[3, 1], [0, 4]], (0, "b"): [[0, 2], [0, 2]], (1, "a"): [[4, 0], [1, 3]]}
    jobs = [{"seed": seed, "controls": {"knn": {"confusion": table}}} for (seed, _), table in counts.items()]
    found = pooled_controls(jobs)["knn"]
    first = np.array(counts[0, "a"]) + counts[0, "b"]
    truth, answers = (np.repeat(axis, first.ravel()) for axis in np.indices((2, 2)).reshape(2, -1))
    assert found["ua"]["mean"] == pytest.approx((recall_score(truth, answers, average="macro") + 0.875) / 2)
    assert found["wa"]["mean"] == pytest.approx((accuracy_score(truth, answers) + 0.875) / 2)
    assert found["ua"]["n"] == 2


def test_controls_that_some_training_lacks_are_not_pooled() -> None:
    one = {"seed": 0, "controls": {"knn": {"confusion": [[1, 0], [0, 1]]}}}
    assert pooled_controls([one, {"seed": 1, "controls": {}}]) == {}
    assert pooled_controls([{"seed": 0}]) == pooled_controls([]) == {}


def test_given_edges_have_label_propagation_and_its_share_is_chosen_on_validation_items() -> None:
    """Rings of one class each, features of nothing: only the edges tell the class."""
    x = np.random.default_rng(0).standard_normal((180, 3)).astype(np.float32)
    y = np.arange(180) % 3
    rows = np.arange(180)
    edges = np.concatenate([np.stack([rows, (rows + 3) % 180]), np.stack([(rows + 3) % 180, rows])], axis=1)
    parts = split()
    found = control_results(x, y, parts, CLASSES, edges)
    assert found["label_propagation"]["ua"] == 1.0
    assert found["label_propagation"]["ua"] > max(found[name]["ua"] for name in found if name != "label_propagation")
    # By hand: shares of the normalised neighbours, a round at a time.
    share = found["label_propagation"]["chosen"]["share"]
    assert share in SHARES
    matrix = np.zeros((180, 180))
    matrix[edges[1], edges[0]] = 0.5  # every item has two neighbours
    labels = np.zeros((180, 3))
    labels[parts.train, y[parts.train]] = 1
    scores = labels
    for _ in range(ROUNDS):
        scores = share * matrix @ scores + (1 - share) * labels
    truth = _confusion_of(y[parts.test], scores[parts.test].argmax(axis=1))
    assert found["label_propagation"]["confusion"] == truth.tolist()
    assert "label_propagation" not in control_results(x, y, parts, CLASSES)


def test_items_that_no_label_reaches_are_no_obstacle() -> None:
    x, y = groups(1.0)
    found = control_results(x, y, split(), CLASSES, np.zeros((2, 0), dtype=np.int64))
    assert found["label_propagation"]["ua"] == pytest.approx(1 / 3)


def _confusion_of(truth: np.ndarray, answers: np.ndarray) -> np.ndarray:
    counts = np.zeros((3, 3), dtype=int)
    np.add.at(counts, (truth, answers), 1)
    return counts


def test_another_seed_of_the_same_split_is_not_fitted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = groups(1.0)
    first = control_results(x, y, split(), CLASSES)
    first["knn"]["ua"] = -1.0  # what a caller does with it stays its own
    with monkeypatch.context() as patch:
        patch.setattr(controls, "_fit_controls", None)
        second = control_results(x.copy(), y.copy(), split(), CLASSES)
    assert second["knn"]["ua"] > 0
    monkeypatch.setattr(controls, "_fit_controls", lambda *arguments: {"fitted": {}})
    assert "fitted" in control_results(x, y, split(validation=False), CLASSES)
