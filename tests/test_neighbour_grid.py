"""Numbers of neighbours are chosen on validation items, and test items stay unseen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from graphophone import cli, neighbour_grid, runs
from graphophone.cli_neighbours import numbers
from graphophone.evaluation.figures_grid import GridPanel, neighbour_heat_map
from graphophone.graphs import modal_ranked
from graphophone.jobs import make_protocol
from graphophone.neighbour_grid import GridError, best_cell, blind, cell_means, fill_cells
from graphophone.recipes import load_recipe

VALIDATION = ["validation_accuracy", "validation_uar", "validation_weighted_f1", "validation_macro_f1"]
TEST = [name.replace("validation", "test") for name in VALIDATION]


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "write_report", lambda folder: None)


@pytest.fixture
def recipe(modal_recipe: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return modal_recipe(items=60, epochs=1)


def grid(recipe: dict[str, Any], output: Path, **options: Any) -> neighbour_grid.NeighbourGrid:
    options = {"k_text": [0, 2], "k_audio": [1, 3], **options}
    return neighbour_grid.neighbour_grid(recipe, output=output, progress=False, **options)


def test_only_the_chosen_cell_is_tested(recipe: dict[str, Any], tmp_path: Path) -> None:
    found = grid({**recipe, "seeds": [0, 1]}, tmp_path / "runs")
    table = pd.read_csv(found.folder / "neighbours.csv")
    assert len(table) == 8
    assert table[VALIDATION].notna().all().all()
    chosen = (table["k_text"] == found.chosen[0]) & (table["k_audio"] == found.chosen[1])
    assert chosen.sum() == 2
    assert table.loc[chosen, TEST].notna().all().all()
    assert table.loc[~chosen, TEST].isna().all().all()
    means = table.groupby(["k_text", "k_audio"])["validation_weighted_f1"].mean()
    assert means.loc[found.chosen] == means.max()
    # The chosen cell's run is the training that was looked at, and its figures are those of the table.
    assert found.run is not None
    folds = {fold["seed"]: fold for fold in found.run.metrics["folds"]}
    for row in table[chosen].to_dict("records"):
        assert folds[row["seed"]]["validation"]["weighted_f1"] == pytest.approx(row["validation_weighted_f1"])
        assert folds[row["seed"]]["wa"] == row["test_accuracy"]
    described = json.loads((found.run.folder / "run.json").read_text("utf-8"))
    assert (described["graph"]["k_text"], described["graph"]["k_audio"]) == found.chosen
    assert "were chosen on validation items" in described["description"]
    content = json.loads((found.folder / "neighbours.json").read_text("utf-8"))
    assert (content["leaks"], content["chosen"]) == (False, {"k_text": found.chosen[0], "k_audio": found.chosen[1]})
    assert mpl.image.imread(found.folder / "neighbours.png").size
    assert not (found.folder / "cell").exists()


def test_choosing_never_reads_test_labels(recipe: dict[str, Any], tmp_path: Path) -> None:
    resolved = load_recipe(recipe)
    prepared = runs.prepare(resolved, progress=False)
    splits = {0: make_protocol(resolved).splits(prepared.corpus, seed=0)}
    unknown = blind(prepared, splits[0][0].test)
    unknown.corpus.table.loc[splits[0][0].test, "label"] = np.nan
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    known = fill_cells(one, resolved, prepared, splits, [1, 2], [1])
    without = fill_cells(two, resolved, unknown, splits, [1, 2], [1])
    pd.testing.assert_frame_equal(known, without)
    assert without[TEST].isna().all().all()
    assert best_cell(without) == best_cell(known)


def test_a_grid_that_was_stopped_goes_on(
    recipe: dict[str, Any],
    modal_recipe: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = grid(recipe, tmp_path / "one").table
    learn, calls = neighbour_grid.learn, []

    def failing(*args: Any, **options: Any) -> Any:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return learn(*args, **options)

    monkeypatch.setattr(neighbour_grid, "learn", failing)
    with pytest.raises(KeyboardInterrupt):
        grid(recipe, tmp_path / "two")
    again = grid(recipe, tmp_path / "two")
    assert len(calls) == 5  # two, the one that was stopped, and two
    pd.testing.assert_frame_equal(again.table, whole)
    more = grid(recipe, tmp_path / "two", k_text=[0, 1, 2])
    assert len(calls) == 7
    assert len(more.table) == 6
    with pytest.raises(GridError, match="with another recipe"):
        grid({**recipe, "task": {**recipe["task"], "learning_rate": 0.02}}, tmp_path / "two")
    modal_recipe(items=60, seed=1)
    with pytest.raises(GridError, match="another state of the corpus"):
        grid(recipe, tmp_path / "two")
    assert len(grid(recipe, tmp_path / "two", k_text=[1], k_audio=[1], overwrite=True).table) == 1


def test_neighbours_are_searched_once_for_a_seed(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched, search = [], modal_ranked.modal_neighbours

    def counting(part: Any, k: int, **options: Any) -> Any:
        searched.append(k)
        return search(part, k, **options)

    monkeypatch.setattr(modal_ranked, "modal_neighbours", counting)
    grid({**recipe, "seeds": [0, 1]}, tmp_path / "runs")
    assert searched == [2, 3, 2, 3]


def test_choosing_on_test_is_marked_as_leaking(recipe: dict[str, Any], tmp_path: Path) -> None:
    found = grid(recipe, tmp_path / "runs", select_on="test", k_audio=[0, 1])  # one cell without any edge
    assert found.run is None
    assert found.folder.name.endswith("-on-test")
    assert found.table[TEST].notna().all().all()
    means = cell_means(found.table).set_index(["k_text", "k_audio"])["test_weighted_f1"]
    assert means.loc[found.chosen] == means.max()
    assert found.content["leaks"] is True
    assert "They are not a result" in found.content["note"]
    assert found.content["by_validation"]["test_weighted_f1"] <= means.max()


def test_fewer_neighbours_win_a_tie() -> None:
    rows = [(t, a, "f", s) for t in (1, 2, 3) for a in (1, 2) for s in (0, 1)]
    table = pd.DataFrame(rows, columns=["k_text", "k_audio", "fold", "seed"])
    for column in [*VALIDATION, *TEST]:
        table[column] = 0.5
    table.loc[(table["k_text"] == 1) & (table["k_audio"] == 1), VALIDATION] = 0.4
    assert best_cell(table) == (1, 2)
    assert best_cell(table, "test") == (1, 1)


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({"graph": {"name": "signed"}}, {}, "no neighbours by text and audio"),
        ({}, {"k_text": []}, "k_text is"),
        ({}, {"k_audio": [-1, 2]}, "k_audio is"),
        ({}, {"select_on": "training"}, "give validation or test"),
    ],
)
def test_what_cannot_be_a_grid_is_refused(
    recipe: dict[str, Any], tmp_path: Path, change: dict[str, Any], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(GridError, match=words):
        grid({**recipe, **change}, tmp_path / "runs", **options)


def test_a_folder_of_something_else_is_left_alone(recipe: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "two-neighbours").mkdir()
    (tmp_path / "two-neighbours" / "letter.txt").write_text("dear", "utf-8")
    with pytest.raises(GridError, match="something else"):
        grid(recipe, tmp_path)


def test_the_command(recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(load_recipe(recipe).to_yaml(), "utf-8")
    words = ["neighbours", str(path), "--k-text", "1..2", "--k-audio", "1", "--output", str(tmp_path), "--quiet"]
    assert cli.main([*words, "--training.epochs", "1"]) == 0
    said = capsys.readouterr().out
    assert "chosen on validation items" in said
    assert "on test items, once: accuracy" in said
    assert len(pd.read_csv(tmp_path / "two-neighbours" / "neighbours.csv")) == 2
    with pytest.raises(SystemExit) as stopped:
        cli.main(["neighbours", str(path), "--k-text", "4..1"])
    assert stopped.value.code == cli.USAGE
    assert numbers("8,1..3,2") == [1, 2, 3, 8]


def test_the_figure() -> None:
    cells = pd.DataFrame([[0.5, np.nan], [0.7, 0.6]], index=[1, 2], columns=[3, 4])
    figure = neighbour_heat_map([GridPanel("Accuracy", cells)], {"validation": (2, 3), "test": (2, 4)})
    axes = figure.axes[0]
    assert {text.get_text() for text in axes.texts} == {"50.0", "70.0", "60.0"}
    first, second = (patch.get_xy() for patch in axes.patches)
    assert (first, second) == ((-0.5, 0.5), (0.5, 0.5))
    assert "which leaks" in figure.legends[0].get_texts()[1].get_text()
