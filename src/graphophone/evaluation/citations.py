r"""The self-supervised tasks on citation graphs: Table III of Shirian et al. (IEEE JSTSP, 2022).

    python -m graphophone.evaluation.citations FOLDER --graph Cora --seeds 0 1 2 --csv runs.csv

`FOLDER` has the files of Planetoid (Yang, Cohen, Salakhutdinov 2016) as `torch_geometric.datasets.Planetoid` keeps
them: `Cora/raw/ind.cora.*`, `CiteSeer/raw/ind.citeseer.*`, `PubMed/raw/ind.pubmed.*`. The split is the public one: 20
labels of each class, 500 validation nodes, 1,000 test nodes. A table that is there goes on: trainings that it has are
not done again.
"""

from __future__ import annotations

import argparse
import io
import itertools
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import torch
from torch_geometric.data import Data

from graphophone.corpora.planetoid import GRAPHS, load_citations
from graphophone.errors import GraphophoneError
from graphophone.evaluation.few_labels import CITATION_ACCURACIES, CITATION_TASKS
from graphophone.evaluation.statistics import interval
from graphophone.files import write_text
from graphophone.models.subgraph_ssl import SubgraphSSL
from graphophone.tasks.transductive import Select, TransductiveTraining, Wait, fit_transductive

# Variance of the noise of denoise, as a share of that of the features, which are far from 1 here.
NOISE = 0.1

# What a training comes to; see `run_citation`.
_COLUMNS = {
    **dict.fromkeys(("graph", "network", "task"), "str"),
    **dict.fromkeys(("seed", "epochs"), "int64"),
    "select": "str",
    "patience": "int64",
    "wait": "str",
    **dict.fromkeys(("test_accuracy", "validation_accuracy"), "float64"),
    **dict.fromkeys(("step", "steps"), "int64"),
    "seconds": "float64",
}


# What of a training's settings tells one from another.
_DECIDE = ("epochs", "select", "patience", "wait")


@dataclass(frozen=True)
class Network:
    """A network of Table III, as its own paper sets it.

    Attributes:
        model: Arguments of `SubgraphSSL`.
        training: How it is trained.
        changes: Arguments of `SubgraphSSL` that are others on one graph, by its name.
    """

    model: dict[str, Any]
    training: TransductiveTraining
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)


_GCN = {"hidden_channels": 16, "dropout": 0.5, "head_dropout": 0.5}
_GAT = {"hidden_channels": 64, "heads": 8, "dropout": 0.6, "head_dropout": 0.6, "attention_dropout": 0.6}

NETWORKS = {
    # Its paper and its program keep the last of 200 steps.
    "gcn": Network(_GCN, TransductiveTraining(select="last")),
    "gat": Network(
        _GAT,
        TransductiveTraining(epochs=1000, patience=100, learning_rate=0.005, decay_heads=True),
        {"PubMed": {"output_heads": 8}},
    ),
    # Without batch normalisation, which costs ten points of validation accuracy on Cora.
    "gin": Network({**_GCN, "batch_norm": False}, TransductiveTraining(decay_heads=True)),
    "graphmix": Network(_GCN, TransductiveTraining(epochs=1000, patience=200, decay_heads=True)),
}


def run_citation(
    data: Data, graph: str, network: str, task: str, seed: int, *, training: TransductiveTraining | None = None
) -> dict[str, Any]:
    """Train one network with one task on one graph once.

    Args:
        data: As `load_citations` returns it.
        graph: Its name.
        network: `"gcn"`, `"gat"`, `"gin"` or `"graphmix"`.
        task: `"none"`, `"denoise"`, `"completion"`, `"shuffle"`, or several of them joined by `+`.
        seed: Of initial weights, dropout and corruptions.
        training: In place of the network's own.

    Returns:
        `graph`, `network`, `task`, `seed`, `epochs` (most steps), `select`, `patience`, `wait`, `test_accuracy` and
        `validation_accuracy` (fractions), `step`, `steps`, `seconds`.
    """
    if network not in NETWORKS:
        raise GraphophoneError(f"unknown network {network!r}; choose among {', '.join(NETWORKS)}")
    chosen = NETWORKS[network]
    training = training or chosen.training
    started = time.perf_counter()
    values = data.x.coalesce().values().double()
    entries = data.x.shape[0] * data.x.shape[1]
    variance = (values.square().sum() / entries - (values.sum() / entries) ** 2).item()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = SubgraphSSL(
            in_channels=data.x.shape[1],
            num_classes=int(data.y.max()) + 1,
            backbone=network,  # type: ignore[arg-type]
            num_layers=1,
            tasks=() if task == "none" else task.split("+"),
            entropy_weight=0.0,
            noise=NOISE * variance,
            **{**chosen.model, **chosen.changes.get(graph, {})},
        )
    result = fit_transductive(model, data, training, seed=seed)
    return {
        "graph": graph,
        "network": network,
        "task": task,
        "seed": seed,
        "epochs": training.epochs,
        "select": training.select,
        "patience": training.patience,
        "wait": training.wait,
        "test_accuracy": result.test_accuracy,
        "validation_accuracy": result.validation_accuracy,
        "step": result.step,
        "steps": result.steps,
        "seconds": round(time.perf_counter() - started, 3),
    }


def citation_runs(
    root: str | Path,
    *,
    graphs: Sequence[str] = ("Cora", "CiteSeer"),
    networks: Sequence[str] = tuple(NETWORKS),
    tasks: Sequence[str] = CITATION_TASKS,
    seeds: Iterable[int] = range(10),
    epochs: int | None = None,
    select: Select | None = None,
    patience: int | None = None,
    wait: Wait | None = None,
    csv: Path | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> pd.DataFrame:
    """Train every network with every task on every graph, once for each seed.

    All networks and tasks are trained with a seed before the next, so that what is there when it is stopped can be
    compared.

    Args:
        root: See `load_citations`.
        graphs: Names of graphs.
        networks: Names of networks.
        tasks: Names of tasks; see `run_citation`.
        seeds: Seeds.
        epochs: In place of each network's own number of steps.
        select: In place of each network's own choice of a step; see `TransductiveTraining`.
        patience: In place of each network's own; 0 never stops early.
        wait: In place of each network's own; see `TransductiveTraining`.
        csv: A table to which every row is added as it comes; trainings that it has are not done again.
        report: Called with every row as it comes.

    Returns:
        One row per training, as `run_citation` returns it.

    Raises:
        GraphophoneError: As `load_citations` and `run_citation`; if there is a file ``csv`` that is no such table.
    """
    seeds = list(seeds)
    there = {} if csv is None else _rows_of(csv)
    rows = []
    for graph in graphs:
        data = None
        for seed, network, task in itertools.product(seeds, networks, tasks):
            if network not in NETWORKS:
                raise GraphophoneError(f"unknown network {network!r}; choose among {', '.join(NETWORKS)}")
            training = NETWORKS[network].training
            training = training if epochs is None else replace(training, epochs=epochs)
            given: dict[str, Any] = {"select": select, "patience": patience, "wait": wait}
            training = replace(training, **{key: value for key, value in given.items() if value is not None})
            row = there.get((graph, network, task, seed, *(getattr(training, key) for key in _DECIDE)))
            if row is None:
                data = load_citations(root, graph) if data is None else data
                row = run_citation(data, graph, network, task, seed, training=training)
                if csv is not None:
                    pd.DataFrame([row]).to_csv(csv, mode="a", header=not csv.is_file(), index=False)
                if report is not None:
                    report(row)
            rows.append(row)
    return pd.DataFrame(rows)


def _rows_of(csv: Path) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Trainings that a table has, by what decides them; a last line that is cut off goes."""
    if not csv.is_file():
        return {}
    text = csv.read_text("utf-8", errors="replace")
    whole = text[: text.rfind("\n") + 1]
    try:
        table = pd.read_csv(io.StringIO(whole))
        if list(table.columns) != list(_COLUMNS):
            raise ValueError(f"its columns are {', '.join(map(str, table.columns))}")
        table = table.astype(_COLUMNS)
    except ValueError as error:  # also what pandas raises
        reason = " ".join(str(error).split())
        raise GraphophoneError(f"{csv}: not a table of these trainings ({reason}); give another file") from error
    if whole != text:
        write_text(csv, whole)
    rows: Any = table.to_dict("records")
    return {tuple(row[name] for name in ("graph", "network", "task", "seed", *_DECIDE)): row for row in rows}


def citation_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Accuracies in percent beside those of Table III.

    Args:
        runs: As `citation_runs` returns it.

    Returns:
        One row per graph, network and task: `accuracy`, `sd`, `low`, `high` (95 % interval of the mean over seeds),
        `n`, and `published`, `published_sd` where the table has them.
    """
    rows = []
    for key, group in runs.groupby(["graph", "network", "task"], sort=False):
        graph, network, task = (str(part) for part in key)
        estimate = interval(100 * group["test_accuracy"])
        mean, spread = CITATION_ACCURACIES.get((graph, network, task), (None, None))
        rows.append(
            {
                "graph": graph,
                "network": network,
                "task": task,
                "accuracy": estimate.mean,
                "sd": estimate.sd,
                "low": estimate.low,
                "high": estimate.high,
                "n": estimate.n,
                "published": mean,
                "published_sd": spread,
            }
        )
    return pd.DataFrame(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, and write every run to a CSV file if asked to."""
    parser = argparse.ArgumentParser(prog="python -m graphophone.evaluation.citations", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("root", type=Path, help="folder with the Planetoid files")
    parser.add_argument("--graph", nargs="+", default=["Cora", "CiteSeer"], choices=GRAPHS)
    parser.add_argument("--network", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--task", nargs="+", default=list(CITATION_TASKS), help="none, or tasks joined by +")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(10)))
    parser.add_argument("--epochs", type=int, help="in place of each network's own")
    parser.add_argument("--select", choices=get_args(Select), help="which step is kept, in place of each network's own")
    parser.add_argument("--patience", type=int, help="in place of each network's own; 0 never stops early")
    parser.add_argument(
        "--wait", choices=get_args(Wait), help="what patience waits for, in place of each network's own"
    )
    parser.add_argument("--csv", type=Path, help="where to add every run; those that are there are not done again")
    options = parser.parse_args(arguments)

    def report(row: dict[str, Any]) -> None:
        name = f"{row['graph']} {row['network']} {row['task']} seed {row['seed']}"
        found = f"{100 * row['test_accuracy']:.1f} at step {row['step']} of {row['steps']}, {row['seconds']:.1f} s"
        print(f"{name}: {found}", file=sys.stderr, flush=True)

    try:
        runs = citation_runs(
            options.root,
            graphs=options.graph,
            networks=options.network,
            tasks=options.task,
            seeds=options.seeds,
            epochs=options.epochs,
            select=options.select,
            patience=options.patience,
            wait=options.wait,
            csv=options.csv,
            report=report,
        )
    except GraphophoneError as error:
        print(error, file=sys.stderr)
        return 2
    print(citation_table(runs).to_string(index=False, float_format=lambda value: f"{value:.1f}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
