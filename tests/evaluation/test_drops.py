import numpy as np
import pandas as pd
import pytest

from graphophone.evaluation.drops import drop_rows
from graphophone.evaluation.statistics import interval

CLASSES = ["a", "b"]


def table(right: dict[tuple[int, str], list[bool]]) -> pd.DataFrame:
    """Predictions that are right or wrong as told, classes in turn."""
    rows = []
    for (seed, fold), flags in right.items():
        for number, flag in enumerate(flags):
            label = number % 2
            p = 0.9 if (label == 1) == flag else 0.1
            rows.append((f"{fold}-{number}", fold, seed, CLASSES[label], 1 - p, p))
    return pd.DataFrame(rows, columns=["id", "fold", "seed", "label", "p_a", "p_b"])


def flags(wrong: int, n: int = 10) -> list[bool]:
    return [number >= wrong for number in range(n)]


def test_folds_are_pooled_and_the_spread_is_over_them_with_one_seed():
    clean = table({(0, "one"): flags(0), (0, "two"): flags(2)})
    noisy = table({(0, "one"): flags(4), (0, "two"): flags(4)})
    (row,) = drop_rows(clean, {("white", 10.0): noisy.sample(frac=1, random_state=0)}, CLASSES, ["wa"])
    assert (row["noise"], row["snr"], row["measure"]) == ("white", 10.0, "wa")
    assert row["clean"] == pytest.approx(0.9)
    assert row["noisy"] == pytest.approx(0.6)
    assert row["drop"] == pytest.approx(0.3)
    expected = interval([0.4, 0.2])
    assert (row["over"], row["n"]) == ("folds", 2)
    assert (row["sd"], row["low"], row["high"]) == pytest.approx((expected.sd, expected.low, expected.high))


def test_over_seeds_the_differences_of_each_seed_count():
    # The seeds differ by 30 points, their drops not at all.
    clean = table({(0, "one"): flags(0), (1, "one"): flags(3)})
    noisy = table({(0, "one"): flags(2), (1, "one"): flags(5)})
    (row,) = drop_rows(clean, {("white", 10.0): noisy}, CLASSES, ["wa"])
    assert row["drop"] == pytest.approx(0.2)
    assert row["sd"] == pytest.approx(0.0, abs=1e-12)
    assert (row["over"], row["n"]) == ("seeds", 2)


def test_one_training_has_no_spread():
    clean, noisy = table({(0, "one"): flags(0)}), table({(0, "one"): flags(2)})
    (row,) = drop_rows(clean, {("white", 10.0): noisy}, CLASSES, ["ua"])
    assert row["drop"] == pytest.approx(0.2)
    assert row["sd"] is row["low"] is row["high"] is row["over"] is None
    assert row["n"] == 0


def test_other_items_are_refused():
    clean = table({(0, "one"): flags(0)})
    with pytest.raises(ValueError, match="pink at 5 dB"):
        drop_rows(clean, {("pink", 5.0): clean.iloc[1:]}, CLASSES, ["ua"])


def test_tags_drop_in_average_precision_and_what_is_undefined_is_left_out():
    rng = np.random.default_rng(0)
    ids = [f"i{n}" for n in range(20)]
    labels = ["a" if n % 2 else "b;a" for n in range(20)]  # everything is an a: its AUC is not defined
    p = rng.uniform(size=(20, 2))
    clean = pd.DataFrame({"id": ids, "fold": "one", "seed": 0, "labels": labels, "p_a": p[:, 0]})
    clean["p_b"] = [0.9 if ";" in text else 0.1 for text in labels]
    noisy = clean.assign(p_b=0.5)
    rows = {row["measure"]: row for row in drop_rows(clean, {("white", 0.0): noisy}, CLASSES, ["map", "mauc"])}
    assert rows["map"]["clean"] == pytest.approx(1.0)
    assert 0.1 < rows["map"]["drop"] < 0.4
    only = clean.assign(labels="a")
    undefined = drop_rows(only, {("white", 0.0): only}, CLASSES, ["mauc"])[0]
    assert undefined["clean"] is undefined["drop"] is None
