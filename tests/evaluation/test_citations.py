"""Citation graphs: reading the published files, and the table."""

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from graphophone.errors import GraphophoneError
from graphophone.evaluation import citations
from graphophone.evaluation.citations import (
    NETWORKS,
    citation_runs,
    citation_table,
    load_citations,
    run_citation,
)
from graphophone.evaluation.few_labels import CITATION_ACCURACIES, CITATION_TASKS
from graphophone.tasks.transductive import TransductiveTraining

CLASSES, KNOWN, REST, TEST = 3, 12, 520, 30  # of the small Cora


def test_reads_the_published_layout(planetoid: Path) -> None:
    data = load_citations(planetoid, "Cora")
    assert data.x.is_sparse
    sums = data.x.to_dense().sum(dim=1)
    torch.testing.assert_close(sums, (torch.arange(REST + TEST) != 5).float())
    assert data.y.tolist() == [node % CLASSES for node in range(REST + TEST)]
    counts = [int(mask.sum()) for mask in (data.train_mask, data.val_mask, data.test_mask)]
    assert counts == [KNOWN, 500, TEST]
    assert bool((data.test_mask.nonzero()[:, 0] >= REST).all())


def test_files_that_are_not_there_or_could_run_code(planetoid: Path, tmp_path: Path) -> None:
    with pytest.raises(GraphophoneError, match=r"'Core'.*Did you mean 'Cora'"):
        load_citations(planetoid, "Core")
    with pytest.raises(GraphophoneError, match=r"ind\.pubmed\.x: not found"):
        load_citations(planetoid, "PubMed")
    raw = tmp_path / "Cora" / "raw"
    raw.mkdir(parents=True)
    for file in (planetoid / "Cora" / "raw").iterdir():
        (raw / file.name).write_bytes(file.read_bytes())

    class Harm:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "harmed",))

    (raw / "ind.cora.allx").write_bytes(pickle.dumps(Harm(), protocol=2))
    with pytest.raises(GraphophoneError, match="it was not opened"):
        load_citations(tmp_path, "Cora")
    assert not (tmp_path / "harmed").exists()
    (raw / "ind.cora.allx").write_bytes(b"\x80\x02no pickle")
    with pytest.raises(GraphophoneError, match="fetch it again"):
        load_citations(tmp_path, "Cora")


def test_table(planetoid: Path) -> None:
    rows: list[dict] = []
    runs = citation_runs(
        planetoid,
        graphs=["Cora"],
        networks=["gcn", "gin"],
        tasks=["none", "shuffle+completion"],
        seeds=[0, 1],
        epochs=8,
        report=rows.append,
    )
    assert runs.to_dict("records") == rows
    assert len(runs) == 8
    table = citation_table(runs).set_index(["network", "task"])
    cell = table.loc[("gcn", "none")]
    ours = runs[(runs["network"] == "gcn") & (runs["task"] == "none")]["test_accuracy"]
    assert cell["accuracy"] == pytest.approx(100 * ours.mean())
    assert cell["low"] <= cell["accuracy"] <= cell["high"]
    assert (cell["published"], cell["published_sd"], cell["n"]) == (80.9, 0.6, 2)
    assert np.isnan(table.loc[("gin", "shuffle+completion"), "published"])
    again = run_citation(load_citations(planetoid, "Cora"), "Cora", "gcn", "none", 1, training=NETWORKS["gcn"].training)
    assert again["seed"] == 1
    with pytest.raises(GraphophoneError, match="unknown network"):
        run_citation(load_citations(planetoid, "Cora"), "Cora", "mlp", "none", 0)


def test_command(planetoid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--graph", "Cora", "--network", "gcn", "--task", "denoise", "--seeds", "0", "--epochs", "3"]
    assert citations.main([str(planetoid), *arguments, "--csv", str(tmp_path / "runs.csv")]) == 0
    out = capsys.readouterr()
    assert "81.1" in out.out  # what is published
    assert "Cora gcn denoise seed 0" in out.err
    assert list(pd.read_csv(tmp_path / "runs.csv")["task"]) == ["denoise"]
    assert citations.main([str(planetoid), *arguments, "--csv", str(tmp_path / "runs.csv")]) == 0
    assert "seed 0" not in capsys.readouterr().err
    assert citations.main([str(tmp_path), *arguments]) == 2
    assert "not found" in capsys.readouterr().err


def test_goes_on_where_it_was_stopped(planetoid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    csv = tmp_path / "runs.csv"

    def run(**options: object) -> pd.DataFrame:
        options = {"seeds": [0, 1], "epochs": 3, **options}
        return citation_runs(
            planetoid, graphs=["Cora"], networks=["gcn"], tasks=["none", "shuffle"], csv=csv, **options
        )  # type: ignore[arg-type]

    all_at_once = run()
    assert list(all_at_once["seed"]) == [0, 0, 1, 1]
    complete = csv.read_text()
    pd.testing.assert_frame_equal(pd.read_csv(csv), all_at_once)
    csv.write_text(complete[: complete.rindex("\n", 0, -1) + 20])  # killed while it wrote the last line
    done: list[dict] = []
    again = run(report=done.append)
    assert [(row["task"], row["seed"]) for row in done] == [("shuffle", 1)]
    pd.testing.assert_frame_equal(again.drop(columns="seconds"), all_at_once.drop(columns="seconds"))
    assert len(pd.read_csv(csv)) == 4
    run(select="accuracy", seeds=[1], report=done.append)
    assert [row["select"] for row in done[1:]] == ["accuracy"] * 2  # the network's own choice is the last step
    del done[1:]
    run(epochs=2, seeds=[1], report=done.append)
    assert [row["epochs"] for row in done[1:]] == [2, 2]  # others than those that are there

    def unwanted(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(citations, "run_citation", unwanted)
    assert len(run()) == 4
    csv.write_text("a,b\n1,2\n")
    with pytest.raises(GraphophoneError, match="not a table of these trainings"):
        run()
    csv.write_text("")
    with pytest.raises(GraphophoneError, match="give another file"):
        run()


def test_published_numbers() -> None:
    assert len(CITATION_ACCURACIES) == 3 * len(NETWORKS) * len(CITATION_TASKS)
    assert CITATION_ACCURACIES["PubMed", "graphmix", "shuffle"] == (81.9, 0.3)
    assert CITATION_ACCURACIES["CiteSeer", "gcn", "shuffle"] == (70.1, 1.1)


@pytest.mark.data
@pytest.mark.parametrize(("graph", "nodes", "least"), [("Cora", 2708, 0.77), ("CiteSeer", 3327, 0.65)])
def test_the_public_split(data_root: Path, graph: str, nodes: int, least: float) -> None:
    data = load_citations(data_root / "planetoid", graph)
    assert data.num_nodes == nodes
    classes = int(data.y.max()) + 1
    assert torch.bincount(data.y[data.train_mask]).tolist() == [20] * classes
    assert [int(data.val_mask.sum()), int(data.test_mask.sum())] == [500, 1000]
    training = TransductiveTraining(epochs=60, decay_heads=False)
    assert run_citation(data, graph, "gcn", "none", 0, training=training)["test_accuracy"] >= least
