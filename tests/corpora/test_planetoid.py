"""Citation graphs as a corpus: items, labels, vectors and edges, and a run on them from a recipe."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch_geometric.data import Data

from graphophone import corpora
from graphophone.corpora.base import CorpusError
from graphophone.corpora.given import Given
from graphophone.corpora.planetoid import CLASSES, load_citations
from graphophone.errors import GraphophoneError
from graphophone.evaluation.protocols import create_protocol
from graphophone.features import FeatureError, FeaturePipeline, create_extractor
from graphophone.graphs import GraphError, create_graph
from graphophone.inference.bundle import ModelFolderError, load_bundle
from graphophone.models.subgraph_ssl import SubgraphSSL
from graphophone.recipes import load_recipe
from graphophone.runs import RunError, train
from graphophone.tasks.nodes import Nodes
from graphophone.tasks.transductive_classification import TransductiveClassification


def test_items_are_papers(planetoid: Path) -> None:
    corpus, data = corpora.load("planetoid", planetoid), load_citations(planetoid, "Cora")
    assert corpus.name == "cora"
    assert corpus.classes == ("0", "1", "2")  # no seven of them: no names
    assert corpus.given is not None
    known = corpus.labelled
    in_split = (data.train_mask | data.val_mask | data.test_mask).numpy()
    assert np.array_equal(known, in_split)
    assert np.array_equal(corpus.targets[known], data.y.numpy()[known])
    for part, mask in (("train", data.train_mask), ("validation", data.val_mask), ("test", data.test_mask)):
        assert np.array_equal((corpus.table["split"] == part).to_numpy(), mask.numpy())
    np.testing.assert_array_equal(corpus.given.vectors, data.x.to_dense().numpy())
    (split,) = create_protocol("official").splits(corpus, seed=0)
    assert [len(split.train), len(split.validation), len(split.test)] == [12, 500, 30]
    assert np.array_equal(split.unlabelled, np.flatnonzero(~known))
    with pytest.raises(GraphophoneError, match=r"ind\.pubmed\.x: not found"):
        corpora.load("planetoid", planetoid, graph="PubMed")


def test_vectors_and_edges_follow_the_items(planetoid: Path) -> None:
    corpus = corpora.load("planetoid", planetoid)
    assert corpus.given is not None
    assert corpus.given.edge_index is not None
    some = corpus.select(np.array([7, 3, 5, 400, 11, 12, 13, 14]))
    features = FeaturePipeline(create_extractor("given", dims=24)).extract(some, cache=None, progress=False)
    assert features.ids == some.table["id"].tolist()
    np.testing.assert_array_equal(np.concatenate(list(features)), corpus.given.vectors[[7, 3, 5, 400, 11, 12, 13, 14]])
    edges = some.given.edges_among(some.table["node"].to_numpy())  # type: ignore[union-attr]
    assert edges is not None
    nodes = some.table["node"].to_numpy()[edges]
    all_edges = set(map(tuple, corpus.given.edge_index.T.tolist()))
    inside = {pair for pair in all_edges if set(pair) <= {7, 3, 5, 400, 11, 12, 13, 14}}
    assert set(map(tuple, nodes.T.tolist())) == inside
    assert Given(np.zeros((2, 1), dtype=np.float32)).edges_among(np.array([0])) is None
    with pytest.raises(GraphophoneError, match="nodes are 0 to 1"):
        Given(np.zeros((2, 1), dtype=np.float32), np.array([[0], [2]]))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x", pickle.dumps([1, 2], protocol=2)),
        ("allx", None),
        ("test.index", b"one\ntwo\n"),
        ("test.index", b"70000\n"),
        ("graph", pickle.dumps([], protocol=2)),
    ],
)
def test_damaged_files_are_named(planetoid: Path, tmp_path: Path, name: str, content: bytes | None) -> None:
    root = shutil.copytree(planetoid, tmp_path / "copy")
    path = root / "Cora" / "raw" / f"ind.cora.{name}"
    path.write_bytes(path.read_bytes()[:200] if content is None else content)
    with pytest.raises(CorpusError, match=r"ind\.cora\..*fetch") as error:
        load_citations(root, "Cora")
    assert "\n" not in str(error.value)


def test_other_vectors_or_edges_are_another_graph() -> None:
    vectors, edges = np.eye(3, dtype=np.float32), np.array([[0, 1], [1, 0]])
    key = Given(vectors, edges).key
    assert Given(vectors.copy(), edges.copy()).key == key
    assert len({key, Given(2 * vectors, edges).key, Given(vectors, 2 * edges).key, Given(vectors).key}) == 4


def test_refusals(planetoid: Path, tones: Path) -> None:
    papers, sounds = corpora.load("planetoid", planetoid), corpora.load("folder", tones)
    for dims in (0, 5):
        pipeline = FeaturePipeline(create_extractor("given", dims=dims))
        with pytest.raises(FeatureError, match=f"is {dims}, .*set dims to 24"):
            pipeline.extract(papers, cache=None, progress=False)
        with pytest.raises(FeatureError, match="without ready vectors"):
            pipeline.extract(sounds, cache=None, progress=False)
    with pytest.raises(FeatureError, match="no recording has any"):
        create_extractor("given", dims=1)(np.zeros(100, dtype=np.float32), 16000)
    with pytest.raises(FeatureError, match="at least 0"):
        create_extractor("given", dims=-1)
    given = create_graph("given")
    with pytest.raises(GraphError, match="without edges"):
        given(Data(x=torch.zeros(3, 1)))
    with pytest.raises(GraphError, match="builds no edges"):
        given.edges(torch.tensor([0, 3]))
    data = Data(x=torch.zeros(3, 1), edge_index=torch.tensor([[0], [1]]))
    assert torch.equal(given(data).edge_index, data.edge_index)


def test_the_task_sees_no_other_labels_and_reads_few_values_sparsely() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(60) % 3
    x = (torch.rand(60, 20, generator=generator) < 0.1).float()
    edge_index = torch.randint(60, (2, 200), generator=generator)
    rows = torch.arange(60)
    nodes = Nodes(
        x=x,
        y=y,
        train=rows[:9],
        unlabelled=rows[30:40],
        validation=rows[9:30],
        ids=[str(row) for row in range(60)],
        graph=create_graph("given"),
        edge_index=edge_index,
    )
    model = SubgraphSSL(in_channels=20, num_classes=3, hidden_channels=8, num_layers=1, dropout=0.0)
    task = TransductiveClassification(model, 3)
    task.use(nodes)
    features, _ = task._graph
    assert not isinstance(features, torch.Tensor)
    assert torch.equal(features.to_dense(), x)
    torch.testing.assert_close(task(), model(x, edge_index))
    assert torch.equal(task._data.y, torch.where(rows < 9, y, -1))
    task.on_predict_epoch_start()
    answer = task.predict_step({"row": rows[50:], "x": x[50:], "y": y[50:]}, 0)
    torch.testing.assert_close(answer["probabilities"], model(x, edge_index)[50:].softmax(dim=1).detach())
    assert task.companions() is None
    shared, heads = task.configure_optimizers().param_groups
    assert (shared["weight_decay"], heads["weight_decay"]) == (5e-4, 0.0)


def test_a_run_from_the_recipe(planetoid: Path, tmp_path: Path) -> None:
    overrides = [
        f"--corpus.root={planetoid}",
        "--features.dims=24",
        "--training.epochs=25",
        "--model.dropout=0.2",
        "--training.device=cpu",
    ]
    run = train(load_recipe("ssl-cora", overrides), output=tmp_path, progress=False)
    assert run.metrics["wa"]["mean"] > 0.6
    assert run.metrics["controls"]["logistic_regression"]["wa"]["mean"] < run.metrics["wa"]["mean"]
    assert run.metrics["controls"]["label_propagation"]["wa"]["mean"] > 0.4  # over the edges of the corpus
    assert json.loads((run.folder / "run.json").read_text())["protocol"]["description"].count("Transductive") == 1
    predictions = pd.read_csv(run.folder / "predictions.csv")
    assert len(predictions) == 30
    assert not run.model.exists()
    for folder in (run.folder, run.model):
        with pytest.raises(ModelFolderError, match="answers for the nodes of its own graph alone") as error:
            load_bundle(folder)
        assert "\n" not in str(error.value)
    assert "Transductive" in run.report.read_text("utf-8")


def test_recipes_that_do_not_fit(planetoid: Path, tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match="set dims to 24"):
        train(load_recipe("ssl-cora", [f"--corpus.root={planetoid}"]), output=tmp_path, progress=False)
    sound = ["--features.name=logmel128", "--standardize.clip=10"]
    with pytest.raises(RunError, match="no audio file"):
        train(load_recipe("ssl-cora", [f"--corpus.root={planetoid}", *sound]), output=tmp_path, progress=False)


@pytest.mark.data
@pytest.mark.parametrize(("graph", "items"), [("Cora", 2708), ("CiteSeer", 3327)])
def test_the_published_files(data_root: Path, graph: str, items: int) -> None:
    corpus = corpora.load("planetoid", data_root / "planetoid", graph=graph)
    assert len(corpus) == items
    assert corpus.classes == CLASSES[graph]
    recipe = load_recipe(f"ssl-{graph.lower()}")
    assert corpus.given is not None
    assert recipe.features["dims"] == corpus.given.vectors.shape[1]
    variance = corpus.given.vectors.astype(np.float64).var()
    assert recipe.model["noise"] == pytest.approx(0.1 * variance, rel=0.02)
