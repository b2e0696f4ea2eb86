"""Reference graphs in a model folder: the same to the last bit, each recording once, damage named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch_geometric.data import Data

from graphophone.errors import GraphophoneError
from graphophone.features import FeaturePipeline, Standardizer, create_extractor
from graphophone.graphs import create_graph
from graphophone.graphs.attachment import chance_of_true_label
from graphophone.graphs.base import GraphError
from graphophone.graphs.subgraphs import SubgraphSampler
from graphophone.inference import ModelFolderError, Recognizer, load_bundle, save_bundle, update_bundle
from graphophone.inference.bundle import BUNDLE_FILES, REFERENCES
from graphophone.inference.references import check_attachment, distinct, on_device, pack, unpack
from graphophone.models import create_model
from graphophone.models.attached import draw_references

Parts = Callable[..., dict]


@pytest.fixture
def copy(recording_folder: Path, tmp_path: Path) -> Path:
    """A model folder to damage."""
    return Path(shutil.copytree(recording_folder, tmp_path / "copy"))


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "pipeline.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in {**content, **changes}.items() if value is not ...}))


def refusal(folder: Path) -> str:
    with pytest.raises(ModelFolderError) as error:
        load_bundle(folder)
    text = str(error.value)
    assert "\n" not in text
    return text


def equal(one: Data, other: Data) -> None:
    for key in ("x", "edge_index", "edge_weight", "y"):
        torch.testing.assert_close(one[key], other[key], rtol=0, atol=0)
    assert one.get("id") == other.get("id")


@st.composite
def graphs(draw: st.DrawFn) -> list[Data]:
    """Graphs over a pool of few recordings, some of which have the same features."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9999)))
    pool = draw(st.integers(1, 8))
    x = torch.randn(pool, 3, generator=generator)[torch.randint(pool, (pool,), generator=generator)]
    y = torch.randint(-1, 3, (pool,), generator=generator)
    named = draw(st.booleans())
    result = []
    for _ in range(draw(st.integers(1, 4))):
        node = torch.randperm(pool, generator=generator)[: draw(st.integers(1, pool))]
        edge_index = torch.randint(len(node), (2, draw(st.integers(0, 9))), generator=generator)
        weight = torch.randint(0, 2, (edge_index.shape[1],), generator=generator) * 2.0 - 1
        graph = Data(x=x[node], edge_index=edge_index, edge_weight=weight, y=y[node])
        if named:
            graph.id = [f"clip {i}" for i in node.tolist()]
        result.append(graph)
    return result


@given(given_graphs=graphs())
def test_what_is_unpacked_is_what_was_packed(given_graphs: list[Data]):
    tensors, texts = pack(given_graphs)
    for graph, back in zip(given_graphs, unpack(tensors, texts), strict=True):
        equal(graph, back)
        assert (back.true, back.pseudo) == (int((graph.y >= 0).sum()), int((graph.y < 0).sum()))
    recordings = {
        (tuple(row.tolist()), label, name)
        for graph in given_graphs
        for row, label, name in zip(graph.x, graph.y.tolist(), graph.get("id") or [""] * len(graph.x), strict=True)
    }
    assert len(tensors["x"]) == len(recordings)  # a recording that draws share is kept once
    assert distinct(given_graphs) == (len(recordings), sum(label >= 0 for _, label, _ in recordings))


def test_what_is_given_is_left_as_it_was(recording_parts: Parts):
    graph = recording_parts(draws=1)["references"][0]
    held = graph.x
    pack([graph])
    moved = on_device([graph], "meta")[0]
    assert graph.x is held
    assert moved.x.device.type == "meta"


def test_a_folder_of_recordings(recording_folder: Path, recording_parts: Parts):
    assert {path.name for path in recording_folder.iterdir()} == {*BUNDLE_FILES, REFERENCES}
    assert json.loads((recording_folder / "pipeline.json").read_text())["format"] == 3
    given, bundle = recording_parts(), load_bundle(recording_folder)
    assert bundle.reads_nodes
    assert bundle.attachment == given["attachment"]
    assert len(bundle.references) == 3
    for one, other in zip(given["references"], bundle.references, strict=True):
        equal(one, other)
    files = [path for path in recording_folder.iterdir() if path.name != "README.md"]
    assert bundle.size == sum(path.stat().st_size for path in files)


def test_other_folders_are_written_as_before(model_folder: Path, tagger_folder: Path):
    for folder in (model_folder, tagger_folder):
        description = json.loads((folder / "pipeline.json").read_text())
        assert description["format"] == 2
        assert "attachment" not in description
        assert not (folder / REFERENCES).exists()
        bundle = load_bundle(folder)
        assert (bundle.references, bundle.attachment) == ((), {})


@pytest.mark.parametrize("number", [1, 2])
def test_older_folders_still_load(model_folder: Path, tmp_path: Path, number: int):
    folder = Path(shutil.copytree(model_folder, tmp_path / "old"))
    edit(folder, format=number, **({"kind": ...} if number == 1 else {}))
    assert load_bundle(folder).labels == load_bundle(model_folder).labels


def test_fit_for_the_edge(tmp_path: Path):
    """The published network for speech with all its tasks, ten graphs of 53 recordings in 165 numbers: below 2 MB."""
    pipeline = FeaturePipeline(create_extractor("functionals165"))
    x = torch.randn(400, 165, generator=torch.Generator().manual_seed(0))
    labels = torch.where(torch.arange(400) < 100, torch.arange(400) % 4, -1)
    references = draw_references(
        SubgraphSampler(x, labels, per_class=12, unlabelled=5), torch.arange(400) % 4, draws=10, size=53
    )
    model = create_model("subgraph_ssl", in_channels=165, num_classes=4, tasks=("denoise", "completion", "shuffle"))
    parts = (model, pipeline, create_graph("signed"), Standardizer.fit([x.numpy()]), list("abcd"))
    folder = save_bundle(tmp_path / "model", *parts, references=references)
    size = load_bundle(folder).size
    assert size is not None
    assert 4 * model.num_parameters() < size < 1_000_000
    assert "Speech-emotion model" in (folder / "README.md").read_text()  # by its features
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2_000_000


def test_a_new_card_keeps_the_references(copy: Path):
    before = (copy / REFERENCES).read_bytes()
    update_bundle(copy, metrics={"ua": 0.5})
    assert (copy / REFERENCES).read_bytes() == before
    bundle = load_bundle(copy)
    assert bundle.metrics == {"ua": 0.5}
    card = (copy / "README.md").read_text()
    assert "a copy of its own of a graph of 12 known recordings" in card
    assert "the mean over 3 such graphs" in card
    kinds = [(graph.true, graph.pseudo) for graph in bundle.references]
    chance = np.mean([chance_of_true_label(bundle.attachment["edges"], *kind) for kind in kinds])
    assert 0 < chance < 1
    assert f"with a true label among them in {100 * chance:.0f} % of the draws" in card
    recordings, true = distinct(bundle.references)
    assert f"the features (not the sound) of {recordings} training recordings, {true} of them" in card
    assert "speech-emotion-recognition" not in card  # nobody said that the corpus is speech


def test_a_card_says_how_it_is_attached(tmp_path: Path, recording_parts: Parts):
    folder = save_bundle(
        tmp_path / "model", **recording_parts(draws=1, how="nearest"), corpus={"name": "x", "languages": ["da"]}
    )
    card = (folder / "README.md").read_text()
    assert "to the 4 that are nearest" in card
    assert "spread" not in card
    assert "speech-emotion-recognition" in card


def test_a_folder_that_attaches_to_none_holds_no_recording(tmp_path: Path, recording_parts: Parts):
    given = recording_parts(how="none")
    folder = save_bundle(tmp_path / "model", **given)
    assert {path.name for path in folder.iterdir()} == set(BUNDLE_FILES)
    bundle = load_bundle(folder)
    assert (bundle.references, bundle.attachment) == ((), given["attachment"])
    update_bundle(folder, metrics={"ua": 0.5})
    card = (folder / "README.md").read_text()
    assert "attached to no other, and answered for by itself" in card
    assert "nothing of single training recordings" in card
    assert f"takes {bundle.size / 1e6:.2f} MB" in card
    edit(folder, attachment={**given["attachment"], "how": "nearest"})
    assert REFERENCES in refusal(folder)
    again = save_bundle(tmp_path / "again", **{**given, "references": ()})
    assert load_bundle(again).attachment == given["attachment"]


def test_an_old_folder_that_attaches_to_none_says_what_it_holds(copy: Path):
    edit(copy, attachment={"how": "none"})
    bundle = load_bundle(copy)
    assert len(bundle.references) == 3
    update_bundle(copy, metrics={"ua": 0.5})
    assert "the features (not the sound) of" in (copy / "README.md").read_text()


def change(tensors: dict[str, Tensor], key: str, change: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    return {**tensors, key: change(tensors[key]).contiguous()}


DAMAGES: dict[str, tuple[str, Callable[[Tensor], Tensor], str]] = {
    "a node beyond the recordings": ("node", lambda t: t + len(t), "beyond"),
    "a negative node": ("node", lambda t: t - 1000, "beyond"),
    "an edge beyond the nodes": ("edge_index", lambda t: t + 3, "edges beyond its 12 nodes"),
    "an edge below the nodes": ("edge_index", lambda t: t - 1, "edges beyond its 12 nodes"),
    "edges that are no numbers of nodes": ("edge_index", lambda t: t.float(), "not whole numbers"),
    "edges lost": ("edge_index", lambda t: t[:, :-1], "edges adds up to"),
    "weights lost": ("edge_weight", lambda t: t[:-1], "for"),
    "a weight that is no number": ("edge_weight", lambda t: t.log(), "weights that are not finite"),
    "a feature that is no number": ("x", lambda t: t / 0, "not finite"),
    "a column lost": ("x", lambda t: t[:, :-1], "127 columns, but the features have 128"),
    "features of another kind": ("x", lambda t: t.double(), "float64"),
    "labels lost": ("y", lambda t: t[:-1], "y is"),
    "labels beyond the classes": ("y", lambda t: t + 3, "labels beyond 3"),
    "a label below none": ("y", lambda t: t - 2, "labels beyond 3"),
    "a graph of no nodes": ("size", lambda t: torch.zeros_like(t), "has no nodes"),
    "no graph": ("size", lambda t: t[:0], "size is"),
    "a count too many": ("edges", lambda t: t + 1, "adds up to"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_references_that_do_not_fit_together_are_refused(copy: Path, damage: str):
    key, how, words = DAMAGES[damage]
    path = copy / REFERENCES
    save_file(change(load_file(path), key, how), path)
    text = refusal(copy)
    assert words in text
    assert REFERENCES in text


@pytest.mark.parametrize("key", ["x", "y", "node", "size", "edge_index", "edge_weight", "edges"])
def test_references_with_a_part_missing_are_refused(copy: Path, key: str):
    path = copy / REFERENCES
    tensors = load_file(path)
    del tensors[key]
    save_file(tensors, path)
    assert f"{key} missing" in refusal(copy)


@pytest.mark.parametrize("ids", ["[", '["a"]', "[1, 2, 3]", '{"a": 1}'])
def test_names_that_do_not_fit_are_refused(copy: Path, ids: str):
    save_file(load_file(copy / REFERENCES), copy / REFERENCES, metadata={"ids": ids})
    assert "ids" in refusal(copy)


def test_names_are_not_needed(copy: Path):
    save_file(load_file(copy / REFERENCES), copy / REFERENCES)
    assert all("id" not in graph for graph in load_bundle(copy).references)


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "missing"])
def test_a_damaged_file_of_references_is_named(copy: Path, damage: str):
    path = copy / REFERENCES
    content = path.read_bytes()
    damaged = {"cut": content[: len(content) // 2], "noise": b"\x93\x00 no" * 9, "empty": b""}
    path.unlink() if damage == "missing" else path.write_bytes(damaged[damage])
    assert REFERENCES in refusal(copy)


@given(place=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255))
def test_a_flipped_byte_is_refused_in_one_line_or_gives_graphs_that_fit(
    recording_folder: Path, tmp_path_factory: pytest.TempPathFactory, place: float, bits: int
):
    folder = Path(shutil.copytree(recording_folder, tmp_path_factory.mktemp("flip") / "model"))
    content = bytearray((folder / REFERENCES).read_bytes())
    content[int(place * len(content))] ^= bits
    (folder / REFERENCES).write_bytes(content)
    said = None
    try:
        p = Recognizer(load_bundle(folder)).probabilities([np.zeros((1, 128), np.float32)])
    except GraphophoneError as error:
        said = str(error)
    if said is None:
        assert p.shape == (1, 3)
    else:
        assert "\n" not in said
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attachment": {"edges": 0}}, "edges is 0"),
        ({"attachment": {"edges": True}}, "edges is True"),
        ({"attachment": {"edges": 2.5}}, "edges is 2.5"),
        ({"attachment": {"seed": -1}}, "seed is -1"),
        ({"attachment": {"how": "farthest"}}, "how is 'farthest'"),
        ({"attachment": {"hops": 2}}, "no hops"),
        ({"attachment": 4}, "not an object"),
        ({"attachment": ...}, "there are none"),
        ({"kind": "tagging"}, "one label per recording"),
        ({"format": 4}, "newer"),
        ({"labels": ["a", "b", "c", "d"]}, "4 labels"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(copy: Path, changes: dict, words: str):
    edit(copy, **changes)
    assert words in refusal(copy)


def test_attachment_has_defaults():
    assert check_attachment({}) == {"edges": 4, "how": "random", "seed": 0}
    with pytest.raises(GraphError, match="edges is 0"):
        check_attachment({"edges": 0})


def test_only_networks_of_recordings_have_references(tmp_path: Path, parts: Parts, recording_parts: Parts):
    given = recording_parts()
    refused = [
        ({**parts(), "references": given["references"]}, "attached to no graph"),
        ({**given, "references": ()}, "there are none"),
        ({**given, "pipeline": FeaturePipeline(create_extractor("fbank", num_mel_bins=128))}, "gives frames"),
        ({**given, "attachment": {"edges": -1}}, "edges is -1"),
        ({**given, "references": [Data(x=torch.zeros(2, 128))]}, "no edge_index, edge_weight, y"),
        ({**given, "kind": "tagging"}, "one label per recording"),
    ]
    for given_parts, words in refused:
        with pytest.raises(ModelFolderError, match=words) as error:
            save_bundle(tmp_path / "model", **given_parts)
        assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
