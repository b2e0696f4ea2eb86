"""Comparisons of runs that differ in a number: which make a curve, what they are set against, and their page."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from graphophone.evaluation.comparison import compare, write_comparison
from graphophone.evaluation.differences import paired, seed_values
from graphophone.evaluation.results import varied
from graphophone.evaluation.sweep import find_sweep, setting_words

MakeRun = Callable[..., Path]
Check = Callable[[Path], Any]
SMALL: dict[str, Any] = {"per_speaker": 1, "classes": ["calm", "sad", "angry"], "states": 0, "folds": 1}


def recipes(**keys: list[Any]) -> list[dict[str, Any]]:
    """One recipe per column of the settings, given as ``model__num_layers=[1, 2]``."""
    found: list[dict[str, Any]] = [{} for _ in next(iter(keys.values()))]
    for key, values in keys.items():
        slot, name = key.split("__")
        for recipe, value in zip(found, values, strict=True):
            recipe.setdefault(slot, {})[name] = value
    return found


def swept(**keys: list[Any]) -> Any:
    many = recipes(**keys)
    return find_sweep(many, varied(many))


def test_numbers_of_one_key_are_a_line() -> None:
    sweep = swept(model__num_layers=[3, 1, 2])
    assert (sweep.key, sweep.words, sweep.x) == ("model.num_layers", "layers", (3, 1, 2))
    assert sweep.lines == {"": [1, 2, 0]}
    assert [sweep.reference(i) for i in range(3)] == [None, 0, 0]  # the first run that was given
    assert sweep.label(1) == "num_layers = 1"
    assert not sweep.of_data


def test_other_keys_make_lines_that_are_set_against_the_first() -> None:
    sweep = swept(
        protocol__labelled=[0.02, 0.1, 0.02, 0.1, 1.0],
        model__tasks=[[], [], ["denoise"], ["denoise"], ["denoise"]],
    )
    assert sweep.key == "protocol.labelled"
    assert sweep.x == (2, 10, 2, 10, 100)
    assert sweep.lines == {"no task": [0, 1], "denoise": [2, 3, 4]}
    assert [sweep.reference(i) for i in range(5)] == [None, None, 0, 1, None]  # the first line has nothing at 100 %
    assert sweep.label(3) == "denoise, labelled = 10 %"
    assert sweep.of_data


def test_the_number_with_most_values_is_the_axis() -> None:
    sweep = swept(model__num_layers=[2, 2, 2, 3, 3, 3], graph__k=[5, 10, 15, 5, 10, 15])
    assert sweep.key == "graph.k"
    assert list(sweep.lines) == ["num_layers = 2", "num_layers = 3"]


@pytest.mark.parametrize(
    "keys",
    [
        {"model__pooling": ["max", "mean", "sum"]},
        {"model__num_layers": [2, 3]},  # two runs are no curve
        {"graph__k": [5, None, 10]},  # left open: it has no place on the axis
        {"model__residual": [True, False, True]},
        {"model__num_layers": [1, 2, 3], "model__width": [8, 16, 32]},  # every run is a line of its own
        {"model__width": [1, 1, 2, 2, 3, 3], "seed__x": [1, 1, 1, 1, 1, 1]},  # the same place twice
        {"graph__k": [5, 10] * 6, "model__pooling": [name for name in "abcdef" for _ in range(2)]},
        {"graph__k": [5, 10, 15] * 13, "model__pooling": [str(i) for i in range(13) for _ in range(3)]},
    ],
)
def test_what_makes_no_curve(keys: dict[str, list[Any]]) -> None:
    assert swept(**keys) is None


def test_settings_as_people_say_them() -> None:
    assert setting_words("model.tasks", []) == "no task"
    assert setting_words("model.tasks", "denoise+shuffle") == "denoise + shuffle"
    assert setting_words("graph.k", None) == "default"
    assert setting_words("model.fraction", 0.1) == "0.1"


def budgets(make: MakeRun, seeds: tuple[int, ...] = (0, 1, 2)) -> list[Path]:
    return [
        make(
            f"ssl-tasks-{name}-labelled-{share}", tasks=tasks, labelled=share, seeds=seeds,
            skill=1.0 + 2 * share + gain, **SMALL,
        )
        for name, tasks, gain in (("none", [], 0.0), ("denoise", ["denoise"], 1.5))
        for share in (0.02, 0.1, 1.0)
    ]  # fmt: skip


def scores(folder: Path, *keys: str) -> dict[int, float]:
    found = {}
    for path in folder.glob("folds/*/metrics.json"):
        value = metrics = json.loads(path.read_text("utf-8"))
        for key in keys:
            value = value[key]
        found[metrics["seed"]] = value
    return found  # type: ignore[return-value]


def test_page_of_label_budgets(make_node_run: MakeRun, tmp_path: Path, check: Check) -> None:
    folders = budgets(make_node_run)
    page = check(write_comparison(folders, tmp_path / "budgets.html"))
    curve, states = page.images
    ua = {folder.name: 100 * np.mean(list(scores(folder, "ua").values())) for folder in folders}
    assert curve.startswith("Curves of the unweighted accuracy over training items with a label, %. no task: ")
    assert f"denoise: {ua['ssl-tasks-denoise-labelled-0.02']:.1f} % at 2 %" in curve
    assert "Mean average distance (MAD), denoise: 0.4" in states
    # Each run against the run without task and with as many labels.
    row = page.row("denoise, labelled = 10 %")
    pairs = {s: b - scores(folders[1], "ua")[s] for s, b in scores(folders[4], "ua").items()}
    assert row[1] == "no task, labelled = 10 %"
    assert row[2].startswith(f"{100 * np.mean(list(pairs.values())):+.1f} [".replace("-", "−"))
    assert row[3] == "3"
    assert "The interval of the mean difference is over seeds" in page.text
    assert not any(row[:1] == ["no task, labelled = 10 %"] for row in page.rows)
    # Nothing is chosen along the labels.
    assert "What validation items choose at each value of labelled" in page.text
    assert "Shaded runs have the best validation accuracy at their place." in page.text
    assert page.source.count('class="ours"') == 3
    # Controls as numbers too.
    knn = 100 * np.mean(list(scores(folders[0], "controls", "knn", "ua").values()))
    assert page.row("labelled = 2 %")[1].startswith(f"{knn:.1f} ±")
    assert page.row("tasks-denoise-labelled-0.1")[1:3] == ["denoise", "0.1"]  # names begin alike
    table = pd.read_csv(tmp_path / "budgets.csv")
    assert table["control_knn_ua"].iloc[0] == pytest.approx(knn / 100)
    assert table["mad"].notna().all()


def test_page_of_one_line_and_what_the_paper_says_of_it(make_node_run: MakeRun, tmp_path: Path, check: Check) -> None:
    corpus = {"name": "iemocap", "items": 4490, "classes": SMALL["classes"], "speakers": 10}
    folders = [
        make_node_run(f"depth-{layers}", layers=layers, seeds=(0,), run={"corpus": corpus}, **SMALL)
        for layers in (1, 2, 4)
    ]
    page = check(write_comparison(folders, tmp_path / "depth.html"))
    assert "Fig. 4" in page.text
    assert "of one seed, without intervals" in page.text
    assert "Against" not in page.text
    assert page.row("num_layers = 2")[1].lstrip("+−")[0].isdigit()
    assert any("Silhouette" in image for image in page.images)


def test_tasks_beside_the_papers_column(make_node_run: MakeRun, tmp_path: Path, check: Check) -> None:
    classes = ["angry", "happy", "neutral", "sad"]
    corpus = {"name": "iemocap", "items": 4490, "classes": classes, "speakers": 10}
    options = {**SMALL, "classes": classes, "run": {"corpus": corpus}, "seeds": (0,)}
    folders = [
        make_node_run(f"t-{i}", tasks=tasks, **options) for i, tasks in enumerate(([], ["denoise"], ["shuffle"]))
    ]
    page = check(write_comparison(folders, tmp_path / "tasks.html"))
    assert page.row("t-1")[4] == "68.0 ± 1.1"
    assert "with 10 % of the training labels" in page.text
    assert page.images[0].startswith("Bars of the unweighted accuracy of every run: tasks = no task")


def test_sweeps_of_other_models(make_run: MakeRun, tmp_path: Path, check: Check) -> None:
    folders = [
        make_run(f"glnn-k-{k}-{pooling}", recipe={"graph.k": k, "model.pooling": pooling}, seeds=(0,), folds=2,
                 per_speaker=1, skill=1 + k / 10)
        for pooling in ("max", "weighted") for k in (5, 10, 15)
    ]  # fmt: skip
    page = check(write_comparison(folders, tmp_path / "k.html"))
    assert page.images[0].startswith("Curves of the unweighted accuracy over k, neighbours. max: ")
    assert len(page.images) == 1
    assert "Dashed" not in page.text
    assert page.row("weighted, k = 15")[1] == "max, k = 15"
    assert page.row("weighted, k = 15")[2].startswith(("+0.0", "−0.0"))


def test_very_many_runs_get_a_row_each(make_run: MakeRun, tmp_path: Path, check: Check) -> None:
    folders = [
        make_run(f"run-{i:02d}", recipe={"model.pooling": f"pooling {i}"}, seeds=(0,), folds=1, per_speaker=1)
        for i in range(13)
    ]
    page = check(write_comparison(folders, tmp_path / "many.html"))
    assert page.images[0].startswith("Dots of the unweighted accuracy of every run")


def test_seeds_with_splits_of_their_own_are_compared(make_node_run: MakeRun) -> None:
    folders = []
    for tasks in ([], ["denoise"]):
        options = {**SMALL, "folds": 2}
        folder = make_node_run(
            f"turns-{len(tasks)}", tasks=tasks, seeds=(0, 1), recipe={"protocol.turns": 1}, **options
        )
        info = json.loads((folder / "run.json").read_text("utf-8"))
        (folder / "run.json").write_text(json.dumps({**info, "folds": ["fold0"]}), "utf-8")
        for name in ("fold1-seed0", "fold0-seed1"):
            for path in (folder / "folds" / name).iterdir():
                path.unlink()
        folders.append(folder)
    table = compare(folders)
    assert table["shared"].all()
    assert table["seeds"].tolist() == [2, 2]


def test_differences_by_hand() -> None:
    a = {(f, s): {"ua": 0.1 * s + 0.01 * f} for f in range(2) for s in range(4)}
    b = {pair: {"ua": values["ua"] + 0.02 * (1 + pair[0]) + 0.01 * pair[1]} for pair, values in a.items()}
    found = paired(a, b, "ua")  # type: ignore[arg-type]
    assert found is not None
    comparison, unit = found
    assert unit == "seeds"
    per_seed = [0.03 + 0.01 * s for s in range(4)]
    assert comparison.difference.mean == pytest.approx(np.mean(per_seed))
    assert comparison.difference.sd == pytest.approx(np.std(per_seed, ddof=1))
    assert comparison.difference.n == 4
    few = paired({p: v for p, v in a.items() if p[1] < 2}, b, "ua")  # type: ignore[arg-type]
    assert few is not None
    assert (few[0].difference.n, few[1]) == (4, "folds and seeds")
    assert paired(a, {}, "ua") is None  # type: ignore[arg-type]


def test_counts_are_pooled_within_a_seed() -> None:
    metrics = {
        ("a", 0): {"ua": 0.0, "confusion": [[1, 0], [3, 0]]},
        ("b", 0): {"ua": 1.0, "confusion": [[0, 1], [0, 1]]},
        ("a", 1): {"ua": 0.5},
        ("b", 1): {"ua": 1.0},
    }
    assert seed_values(metrics, "ua")[0] == pytest.approx((1 / 2 + 1 / 4) / 2)  # type: ignore[arg-type]
    assert seed_values(metrics, "wa")[0] == pytest.approx(2 / 6)  # type: ignore[arg-type]
    assert seed_values(metrics, "ua")[1] == pytest.approx(0.75)  # type: ignore[arg-type]
