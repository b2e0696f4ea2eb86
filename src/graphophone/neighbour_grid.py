"""How many neighbours by text and by audio: every pair of numbers is trained, and validation items choose.

Neighbours are searched once for each seed and cut for each cell. The test part is blind while cells are trained: its
labels are not there. Only the chosen cell is tested, as a run of its own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import yaml
from rich.console import Console

from graphophone import runs
from graphophone.errors import GraphophoneError
from graphophone.evaluation.figures import save_png
from graphophone.evaluation.figures_grid import GridPanel, neighbour_heat_map
from graphophone.evaluation.protocols import Split
from graphophone.files import write_csv, write_json, write_text
from graphophone.graphs.modal import ModalKNN
from graphophone.graphs.modal_ranked import RankedKNN
from graphophone.inputs import Prepared, make_input
from graphophone.jobs import Job, check_split, cpu_threads, learn, make_protocol, measure, quiet_trainer
from graphophone.recipes import Recipe, load_recipe

SelectOn = Literal["validation", "test"]
MEASURES = {"accuracy": "wa", "uar": "ua", "weighted_f1": "weighted_f1", "macro_f1": "macro_f1"}
"""Columns of the table, and the keys of the metrics that they hold."""
CHOOSES = "weighted_f1"
"""The measure by which a cell is chosen, its mean over seeds and splits."""
LEAKS = (
    "Chosen on test items: the figures of this cell are the best of many looks at the test part, and flatter the "
    "model. They are not a result."
)

_CELL = ["k_text", "k_audio", "fold", "seed"]


class GridError(GraphophoneError):
    """A grid of numbers of neighbours that cannot be made, or a folder that holds another one."""


@dataclass(frozen=True, eq=False)
class NeighbourGrid:
    """A grid of numbers of neighbours, trained.

    Attributes:
        folder: Holds ``neighbours.csv``, ``neighbours.json``, ``neighbours.png``, ``recipe.yaml`` and, of the chosen
            cell, a run folder.
        table: One row per cell, split and seed: ``k_text``, ``k_audio``, ``fold``, ``seed``, and ``accuracy``,
            ``uar``, ``weighted_f1``, ``macro_f1`` with ``validation_`` and ``test_`` before them, fractions; test
            figures are NaN but for the chosen cell, unless the grid was chosen on test.
        chosen: ``k_text`` and ``k_audio``.
        content: Contents of ``neighbours.json``.
        run: The run of the chosen cell; None where the grid was chosen on test.
    """

    folder: Path
    table: pd.DataFrame
    chosen: tuple[int, int]
    content: dict[str, Any]
    run: runs.Run | None = None


def neighbour_grid(
    recipe: Recipe | str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    k_text: Sequence[int] = range(1, 11),
    k_audio: Sequence[int] = range(1, 11),
    select_on: SelectOn = "validation",
    output: str | Path = "runs",
    overwrite: bool = False,
    progress: bool = True,
    console: Console | None = None,
) -> NeighbourGrid:
    """Train a HemoGAT with every pair of numbers of neighbours; the same call again goes on where it was stopped.

    Training a cell is what `graphophone.runs.train` does with these numbers and the same seed. The cell with the best
    mean weighted F1 on validation items is trained once more as a run of its own, whose test figures are the result;
    between equals the one with fewer neighbours in all is chosen, then that with fewer by text.

    Args:
        recipe: A recipe, its name, the path of a YAML file, or a mapping; its own numbers of neighbours do not matter.
        overrides: As in `graphophone.runs.train`.
        k_text: Numbers of neighbours by text.
        k_audio: Numbers of neighbours by audio; 0 of both leaves every utterance to itself.
        select_on: ``"test"`` tests every cell and chooses by that, as the released code of the paper does. It leaks:
            what comes of it is marked so everywhere, and no run is made.
        output: Folder of runs; the grid is in ``output/<recipe>-neighbours``, with ``-on-test`` behind it if it leaks.
        overwrite: Discard what that folder holds.
        progress: Show progress.
        console: Where to show it.

    Raises:
        GraphophoneError: In one line, naming what is wrong and what to do.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)
    console = console or Console(stderr=True, quiet=not progress)
    texts, audios = _numbers("k_text", k_text), _numbers("k_audio", k_audio)
    if select_on not in get_args(SelectOn):
        raise GridError(f"select_on is {select_on!r}; give validation or test")
    if recipe.graph["name"] != ModalKNN.name:
        raise GridError(f"graph.name is {recipe.graph['name']!r}, which has no neighbours by text and audio: modal_knn")
    prepared = runs.prepare(recipe, progress=progress)
    protocol = make_protocol(recipe)
    splits = {seed: protocol.splits(prepared.corpus, seed=seed) for seed in recipe.seeds}
    for own in splits.values():
        for split in own:
            check_split(recipe, split)
            if not len(split.validation) and select_on == "validation":
                raise GridError(f"{split.name} has no validation items to choose by; set protocol.validation above 0")
    folder = Path(output) / f"{recipe.name}-neighbours{'-on-test' if select_on == 'test' else ''}"
    _claim(folder, recipe, prepared, overwrite)
    table = fill_cells(folder, recipe, prepared, splits, texts, audios, tested=select_on == "test", console=console)
    mine = table[table["k_text"].isin(texts) & table["k_audio"].isin(audios)]
    chosen = best_cell(mine, select_on)
    run = None
    if select_on == "validation":
        run = _tested(folder, recipe, chosen, progress, console)
        table = _with_tests(table, chosen, run)
        write_csv(folder / "neighbours.csv", table)
    content = _content(table, texts, audios, select_on, chosen, recipe)
    write_json(folder / "neighbours.json", content)
    save_png(_figure(content, mine), folder / "neighbours.png")
    return NeighbourGrid(folder, table, chosen, content, run)


def _numbers(option: str, values: Sequence[int]) -> list[int]:
    found = sorted(set(values))
    if not found or found[0] < 0:
        raise GridError(f"{option} is {list(values)}; give numbers of neighbours from 0 on")
    return found


def _claim(folder: Path, recipe: Recipe, prepared: Prepared, overwrite: bool) -> None:
    """Make the folder, or make sure that it holds this very grid; cells and seeds add up over calls.

    Raises:
        GridError: If it holds something else.
    """
    if overwrite and folder.exists():
        shutil.rmtree(folder)
    plain = recipe.to_dict()
    plain["graph"] = {key: value for key, value in plain["graph"].items() if key not in ("k_text", "k_audio")}
    plain = {key: value for key, value in plain.items() if key not in ("name", "description", "seeds")}
    plain["training"] = {k: v for k, v in plain["training"].items() if k not in ("threads", "device", "loader_workers")}
    data = prepared.vectors.tobytes() + prepared.corpus.table.astype(str).to_csv(index=False).encode()
    ours = {"recipe": plain, "data": hashlib.blake2b(data, digest_size=16).hexdigest()}
    mark = folder / "grid.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    if mark.is_file():
        there = yaml.safe_load(mark.read_text("utf-8"))
        for key, words in (("data", "on another state of the corpus"), ("recipe", "with another recipe")):
            if there.get(key) != json.loads(json.dumps(ours[key])):
                raise GridError(f"{folder} holds a grid {words}: give another --name, or --overwrite")
    elif any(folder.iterdir()):
        raise GridError(f"{folder} holds something else than a grid; give another --name or --output")
    else:
        write_text(mark, yaml.safe_dump(json.loads(json.dumps(ours)), sort_keys=False, allow_unicode=True))
        write_text(folder / "recipe.yaml", recipe.to_yaml())


def blind(prepared: Prepared, rows: np.ndarray) -> Prepared:
    """The same items without the labels of some.

    Args:
        prepared: Corpus and features.
        rows: Whose labels are taken away.
    """
    table = prepared.corpus.table.copy()
    table.loc[rows, "label"] = ""
    return replace(prepared, corpus=dataclasses.replace(prepared.corpus, table=table))


def fill_cells(
    folder: Path,
    recipe: Recipe,
    prepared: Prepared,
    splits: Mapping[int, Sequence[Split]],
    k_text: Sequence[int],
    k_audio: Sequence[int],
    *,
    tested: bool = False,
    console: Console | None = None,
) -> pd.DataFrame:
    """Train the cells that ``folder/neighbours.csv`` does not hold yet, and add a row for each.

    Args:
        folder: Where the table is; checkpoints are kept beside it while a cell is trained.
        recipe: The recipe.
        prepared: Corpus and features. Unless ``tested``, labels of test items are taken away, and need not be there.
        splits: Splits of every seed.
        k_text: Numbers of neighbours by text.
        k_audio: Numbers of neighbours by audio.
        tested: Measure test items, too.
        console: Where to show progress.

    Returns:
        The whole table.
    """
    path = folder / "neighbours.csv"
    table = _read(path)
    done = set(map(tuple, table[_CELL].astype({"fold": str}).to_numpy().tolist()))
    work = [
        (seed, split, [(t, a) for t in k_text for a in k_audio if (t, a, split.name, seed) not in done])
        for seed, own in splits.items()
        for split in own
    ]
    total, begun = len(work) * len(k_text) * len(k_audio), sum(len(cells) for *_, cells in work)
    if console is not None and begun < total:
        console.print(f"{total - begun} of {total} trainings are done already")
    number = total - begun
    for seed, split, cells in work:
        if not cells:
            continue
        shown = prepared if tested else blind(prepared, split.test)
        for row in _cells(folder / "cell", recipe, shown, split, seed, cells, tested):
            table = pd.concat([table, pd.DataFrame([row])], ignore_index=True) if len(table) else pd.DataFrame([row])
            write_csv(path, table[_columns()])
            number += 1
            if console is not None:
                cell = f"{row['k_text']} by text, {row['k_audio']} by audio"
                figure = f"validation weighted F1 {100 * row['validation_weighted_f1']:.1f} %"
                console.print(f"{number} of {total}: {cell}, {split.name}, seed {seed}: {figure}", highlight=False)
    return table[_columns()].sort_values(_CELL, ignore_index=True)


def _columns() -> list[str]:
    return [*_CELL, *(f"{part}_{name}" for part in ("validation", "test") for name in MEASURES)]


def _read(path: Path) -> pd.DataFrame:
    """The table so far; a row that was cut off is left out.

    Raises:
        GridError: If the file is damaged.
    """
    if not path.is_file():
        return pd.DataFrame(columns=_columns())
    try:
        return pd.read_csv(path, dtype={"fold": str})[_columns()]
    except (OSError, ValueError, KeyError) as error:
        raise GridError(f"{path} cannot be read as a table of a grid; remove it, or give --overwrite") from error


def _cells(
    scratch: Path,
    recipe: Recipe,
    prepared: Prepared,
    split: Split,
    seed: int,
    cells: Sequence[tuple[int, int]],
    tested: bool,
) -> Iterator[dict[str, Any]]:
    """Train some cells of one split and seed; their neighbours are searched once."""
    most = {"text": max(t for t, _ in cells), "audio": max(a for _, a in cells)}
    ranked: RankedKNN | None = None
    for k_text, k_audio in cells:
        own = replace(recipe, graph={**recipe.graph, "k_text": k_text, "k_audio": k_audio})
        source = make_input(own, prepared)
        assert isinstance(source.graph, ModalKNN)  # noqa: S101 - the recipe names it
        ranked = ranked or RankedKNN(source.graph, most)
        source.graph = ranked.at(k_text=k_text, k_audio=k_audio)
        if scratch.exists():
            shutil.rmtree(scratch)
        scratch.mkdir(parents=True)
        with quiet_trainer(), cpu_threads(own.training.threads):
            trained = learn(Job(split, seed, scratch), own, source)
            row: dict[str, Any] = {"k_text": k_text, "k_audio": k_audio, "fold": split.name, "seed": seed}
            for part, rows in (("validation", split.validation), ("test", split.test)):
                measured: Mapping[str, Any] = {}
                if len(rows) and (tested or part == "validation"):
                    measured = measure(prepared.corpus, rows, trained.answers(rows)["probabilities"])
                row |= {f"{part}_{name}": measured.get(key, np.nan) for name, key in MEASURES.items()}
        shutil.rmtree(scratch)
        yield row


def cell_means(table: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds and splits, a row for each cell, ``trainings`` among the columns."""
    grouped = table.groupby(["k_text", "k_audio"], sort=True)
    means = grouped[[column for column in _columns() if column not in _CELL]].mean()
    return means.assign(trainings=grouped.size()).reset_index()


def best_cell(table: pd.DataFrame, select_on: SelectOn = "validation") -> tuple[int, int]:
    """``k_text`` and ``k_audio`` with the best mean weighted F1; between equals those with fewer neighbours.

    Args:
        table: Of `fill_cells`.
        select_on: On which items.
    """
    means = cell_means(table)
    means["all"] = means["k_text"] + means["k_audio"]
    order = means.sort_values([f"{select_on}_{CHOOSES}", "all", "k_text"], ascending=[False, True, True])
    return int(order["k_text"].iloc[0]), int(order["k_audio"].iloc[0])


def _tested(folder: Path, recipe: Recipe, chosen: tuple[int, int], progress: bool, console: Console) -> runs.Run:
    """The chosen cell as a run of its own, with a report."""
    k_text, k_audio = chosen
    words = f"{recipe.description} Neighbours by text ({k_text}) and audio ({k_audio}) were chosen on validation items."
    own = replace(
        recipe,
        name=f"{recipe.name}-k{k_text}-{k_audio}",
        description=words.strip(),
        graph={**recipe.graph, "k_text": k_text, "k_audio": k_audio},
    )
    return runs.train(own, output=folder, progress=progress, console=console)


def _with_tests(table: pd.DataFrame, chosen: tuple[int, int], run: runs.Run) -> pd.DataFrame:
    """The table with test figures of the chosen cell, and of no other."""
    table = table.copy()
    table[[f"test_{name}" for name in MEASURES]] = np.nan
    for fold in run.metrics["folds"]:
        here = (
            (table["k_text"] == chosen[0])
            & (table["k_audio"] == chosen[1])
            & (table["fold"] == str(fold["fold"]))
            & (table["seed"] == fold["seed"])
        )
        for name, key in MEASURES.items():
            table.loc[here, f"test_{name}"] = fold[key]
    return table


def _content(
    table: pd.DataFrame,
    k_text: Sequence[int],
    k_audio: Sequence[int],
    select_on: SelectOn,
    chosen: tuple[int, int],
    recipe: Recipe,
) -> dict[str, Any]:
    """What ``neighbours.json`` says."""
    means = cell_means(table)
    cell = means[(means["k_text"] == chosen[0]) & (means["k_audio"] == chosen[1])].iloc[0]
    figures = {key: None if pd.isna(cell[key]) else float(cell[key]) for key in means.columns if "_" in key}
    content: dict[str, Any] = {
        "recipe": recipe.name,
        "seeds": list(recipe.seeds),
        "k_text": list(k_text),
        "k_audio": list(k_audio),
        "select_on": select_on,
        "leaks": select_on == "test",
        "note": LEAKS if select_on == "test" else "",
        "chosen": {"k_text": chosen[0], "k_audio": chosen[1]},
        "figures": {key: value for key, value in figures.items() if key not in ("k_text", "k_audio")},
    }
    if select_on == "test":
        honest = best_cell(table)
        row = means[(means["k_text"] == honest[0]) & (means["k_audio"] == honest[1])].iloc[0]
        content["by_validation"] = {
            "k_text": honest[0],
            "k_audio": honest[1],
            **{f"test_{name}": float(row[f"test_{name}"]) for name in MEASURES},
        }
    return content


def _figure(content: Mapping[str, Any], table: pd.DataFrame) -> Any:
    """Heat maps of accuracy and weighted F1."""
    means = cell_means(table)
    chosen = content["chosen"]["k_text"], content["chosen"]["k_audio"]
    marks = {"validation": best_cell(table)}
    if content["leaks"]:
        marks["test"] = chosen
    panels = [
        GridPanel(
            f"{words}, {part} items, %",
            means.pivot(index="k_text", columns="k_audio", values=f"{part}_{name}"),  # noqa: PD010 - one value a cell
        )
        for part in (("validation", "test") if content["leaks"] else ("validation",))
        for name, words in (("accuracy", "Accuracy"), (CHOOSES, "Weighted F1"))
    ]
    return neighbour_heat_map(panels, marks)
