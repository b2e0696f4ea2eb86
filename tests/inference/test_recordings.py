"""Answers of networks whose nodes are recordings, and what carried them."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Data

from graphophone import cli
from graphophone.errors import GraphophoneError
from graphophone.inference import (
    UNSURE,
    Bundle,
    Recognizer,
    RecordingExplanation,
    explain,
    load_bundle,
    save_bundle,
    timeline,
)
from graphophone.inference.bundle import REFERENCES
from graphophone.inference.export_recordings import FromVectors, obstacle
from graphophone.inference.export_recordings import answers as answers_of
from graphophone.inference.output import to_json, to_table
from graphophone.inference.recording_explanations import (
    attach_to_all,
    attached_log_odds,
    attachment_contributions,
    recording_contributions,
)
from graphophone.models import create_model
from graphophone.models.attached import content_ids, predict_attached
from graphophone.runs import train

RATE = 16000
LABELS = ("neutral", "happy", "angry")
P = [f"p_{label}" for label in LABELS]
COLUMNS = ["file", "start", "end", "label", "confidence", "spread", *P]
Voice = Callable[..., np.ndarray]
Write = Callable[..., Path]
Parts = Callable[..., dict]


@pytest.fixture(scope="module")
def explanation(recording_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory, voice: Voice):
    import soundfile

    path = tmp_path_factory.mktemp("explained") / "a$b.wav"
    soundfile.write(path, voice(1.0, seed=50), RATE)
    found = explain(Recognizer(recording_bundle), path, steps=16)
    assert isinstance(found, RecordingExplanation)
    return found


def test_answers_are_those_of_the_test_of_a_training(
    recording_parts: Parts, write: Write, voice: Voice, tmp_path: Path
):
    parts = recording_parts()
    sounds = [voice(0.5, seed=i) for i in range(40, 52)]
    # As wave files in 32 bits, so that the features are the same numbers.
    paths = [write(f"{i:02d}.wav", sound, subtype="FLOAT") for i, sound in enumerate(sounds)]
    x = torch.from_numpy(parts["standardizer"](np.concatenate([parts["pipeline"](sound, RATE) for sound in sounds])))
    expected = predict_attached(parts["model"], parts["references"], x, content_ids(x), **parts["attachment"])
    table = Recognizer.from_pretrained(save_bundle(tmp_path / "model", **parts)).process_files(paths)
    assert list(table.columns) == COLUMNS
    np.testing.assert_allclose(table[P], expected.probabilities, atol=1e-6)
    best = expected.probabilities.argmax(dim=1, keepdim=True)
    np.testing.assert_allclose(table["spread"], expected.spread.gather(1, best)[:, 0], atol=1e-6)
    assert table["p_angry"].std() > 0.01  # the small model does tell them apart


@pytest.mark.parametrize("how", ["random", pytest.param("nearest", marks=pytest.mark.slow)])
def test_a_run_answers_as_it_was_tested(tones: Path, tmp_path: Path, how: str):
    recipe = {
        "name": "few",
        "corpus": {"name": "folder", "root": str(tones), "speaker": r"([a-d])_\d"},
        "features": {"name": "logmel128"},
        "graph": {"name": "signed"},
        "model": {"name": "subgraph_ssl", "hidden_channels": 16},
        "task": {"name": "subgraph_classification", "per_class": 3, "unlabelled": 4, "draws": 3, "attachment": how},
        "training": {"epochs": 2, "patience": 0, "threads": 1, "device": "cpu"},
        "protocol": {"name": "speaker-independent", "groups": 4, "labelled": 0.4},
        "seeds": [0],
    }
    run = train(recipe, output=tmp_path, folds=[0], progress=False)
    job = tmp_path / "few" / "folds"
    tested = pd.read_csv(next(job.glob("*/predictions.csv")))
    recognizer = Recognizer.from_pretrained(run.model)
    answers = recognizer.process_files([tones / name for name in tested["id"]])
    names = ["p_high", "p_low", "spread"]
    np.testing.assert_allclose(answers[names], tested[names], atol=1e-6)
    assert answers["label"].tolist() == tested["predicted"].tolist()
    bundle = recognizer.bundle
    known = {name for graph in bundle.references for name in graph.id}
    assert known.isdisjoint(tested["id"])  # nobody in the test is a reference
    assert bundle.attachment == {"edges": 4, "how": how, "seed": 0}


@given(
    others=st.lists(st.integers(0, 99), max_size=6),
    place=st.integers(0, 6),
    how=st.sampled_from(["random", "nearest"]),
)
def test_an_answer_depends_on_no_other_clip(recording_bundle: Bundle, others: list[int], place: int, how: str):
    bundle = Bundle(**{**vars(recording_bundle), "attachment": {**recording_bundle.attachment, "how": how}})
    vectors = [np.random.default_rng(seed).normal(-3, 2, (1, 128)).astype(np.float32) for seed in (1234, *others)]
    mine = vectors.pop(0)
    place = min(place, len(vectors))
    together = Recognizer(bundle).probabilities([*vectors[:place], mine, *vectors[place:]])
    np.testing.assert_allclose(together[place], Recognizer(bundle).probabilities([mine])[0], atol=1e-6)


def test_an_answer_depends_on_no_name_and_no_folder(
    by_recordings: Recognizer, write: Write, voice: Voice, tmp_path: Path
):
    one = write("one.wav", voice(0.6, seed=60))
    other = tmp_path / "deep" / "other name.wav"
    other.parent.mkdir()
    shutil.copy(one, other)
    alone = by_recordings.process_file(one)
    pd.testing.assert_frame_equal(alone.drop(columns="file"), by_recordings.process_file(other).drop(columns="file"))
    signal = by_recordings.process_file(one, 0, None)
    together = by_recordings.process_files([write("b.wav", voice(1, seed=61)), other, one])
    for row in (signal.loc[0], together.loc[1], together.loc[2]):
        np.testing.assert_allclose(row[P].astype(float), alone.loc[0, P].astype(float), atol=1e-6)


def test_a_seed_of_its_own_draws_other_edges(recording_bundle: Bundle):
    other = Bundle(**{**vars(recording_bundle), "attachment": {**recording_bundle.attachment, "seed": 8}})
    vector = np.random.default_rng(0).normal(-3, 2, (1, 128)).astype(np.float32)
    p, q = (Recognizer(bundle).probabilities([vector]) for bundle in (recording_bundle, other))
    assert np.abs(p - q).max() > 1e-4


def test_no_clip_no_answer(by_recordings: Recognizer):
    assert by_recordings.probabilities([]).shape == (0, 3)
    assert list(by_recordings.process_files([]).columns) == COLUMNS
    with pytest.raises(GraphophoneError, match="one vector per recording"):
        by_recordings.probabilities([np.zeros((2, 128), np.float32)])


def test_one_draw_has_no_spread(tmp_path: Path, recording_parts: Parts, write: Write, voice: Voice):
    folder = save_bundle(tmp_path / "model", **recording_parts(draws=1))
    table = Recognizer.from_pretrained(folder).process_file(write("a.wav", voice(0.5)))
    assert "spread" not in table


def test_reject_threshold_tags_and_writers(recording_bundle: Bundle, write: Write, voice: Voice):
    path = write("a.wav", voice(0.5, seed=3))
    row = Recognizer(recording_bundle).process_file(path).loc[0]
    unsure = Recognizer(recording_bundle, threshold=min(1, row["confidence"] + 0.001), top=2).process_file(path)
    assert unsure.loc[0, "label"] == UNSURE
    assert unsure.loc[0, "confidence"] == row["confidence"]
    assert unsure.loc[0, "tags"].startswith(f"{row['label']} {row['confidence']:.2f}; ")
    assert [column.header for column in to_table(unsure).columns][4:6] == ["confidence", "spread"]
    assert json.loads(to_json(unsure))["results"][0]["spread"] == row["spread"]


def test_every_window_of_a_timeline_is_a_recording(by_recordings: Recognizer, write: Write, voice: Voice):
    signal = np.concatenate([voice(1.5, seed=1), np.zeros(RATE, np.float32), voice(0.8, seed=2)])
    frame = timeline(by_recordings, write("long.wav", signal, subtype="FLOAT"), window=0.5, hop=0.5)
    assert list(frame.columns) == COLUMNS[1:]
    assert frame["label"].tolist()[3:5] == ["silence", "silence"]
    assert frame["spread"].isna().tolist()[3:5] == [True, True]
    for i in (0, 2, 6):
        alone = by_recordings.process_signal(signal[i * 8000 : (i + 1) * 8000], RATE)
        np.testing.assert_allclose(
            frame.loc[i, ["spread", *P]].astype(float), alone.loc[0, ["spread", *P]].astype(float), atol=1e-6
        )


def test_on_the_command_line(
    recording_folder: Path, write: Write, voice: Voice, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = write("a.wav", voice(0.5, seed=3))
    assert cli.main(["predict", str(recording_folder), str(path), "--format", "csv"]) == cli.OK
    assert capsys.readouterr().out.splitlines()[0].split(",") == COLUMNS
    why, table = tmp_path / "why.png", tmp_path / "why.csv"
    words = ["explain", str(recording_folder), str(path), "--steps", "4", "--output", str(why), "--csv", str(table)]
    assert cli.main(words) == cli.OK
    assert why.read_bytes().startswith(b"\x89PNG")
    assert list(pd.read_csv(table).columns) == ["column", "group", "score"]


def test_a_clip_on_all_graphs(recording_bundle: Bundle):
    x = torch.randn(1, 128, generator=torch.Generator().manual_seed(0))
    graph = attach_to_all(recording_bundle.references, x, recording_bundle.attachment)
    sizes = [len(each.x) for each in recording_bundle.references]
    assert len(graph.x) == sum(sizes) + 3
    assert torch.equal(graph.x[graph.clip], x.expand(3, -1))
    assert graph.draw.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    first = torch.tensor([0, sizes[0] + 1, sizes[0] + sizes[1] + 2])
    for slot in range(12):
        draw, ends = int(graph.draw[slot]), graph.edge_index[:, graph.slot == slot]
        known, clip = int(first[draw] + graph.node[slot]), int(graph.clip[draw])
        assert sorted(ends.T.tolist()) == sorted([[known, clip], [clip, known]])
    assert int((graph.slot < 0).sum()) == sum(each.edge_index.shape[1] for each in recording_bundle.references)


@pytest.mark.parametrize("how", ["random", "nearest"])
@pytest.mark.parametrize("backbone", ["gcn", "gin", "mlp"])
def test_attached_to_nothing_a_clip_is_alone(recording_parts: Parts, how: str, backbone: str):
    parts = recording_parts(how=how, backbone=backbone)
    model, x = parts["model"], torch.randn(1, 128, generator=torch.Generator().manual_seed(1))
    graph = attach_to_all(parts["references"], x, parts["attachment"])
    none = torch.zeros(1, len(graph.node))
    alone = model(x, torch.zeros(2, 0, dtype=torch.long), torch.zeros(0)).softmax(dim=1)[0, 1]
    p = predict_attached(model, parts["references"], x, content_ids(x), **parts["attachment"]).probabilities[0, 1]
    with torch.no_grad():
        assert attached_log_odds(model, graph, 1, weight=none).sigmoid().item() == pytest.approx(alone.item(), abs=1e-5)
        assert attached_log_odds(model, graph, 1).sigmoid().item() == pytest.approx(p.item(), abs=1e-5)
        several = attached_log_odds(model, graph, 1, x=torch.cat([x, 2 * x, x]))
    assert several.sigmoid()[[0, 2]].tolist() == pytest.approx([p.item()] * 2, abs=1e-5)


@pytest.mark.parametrize("backbone", ["gcn", "gat", "graphmix"])
def test_contributions_add_up(recording_parts: Parts, backbone: str):
    parts = recording_parts(backbone=backbone)
    x = torch.randn(1, 128, generator=torch.Generator().manual_seed(2))
    graph = attach_to_all(parts["references"], x, parts["attachment"])
    for target in range(3):
        scores, evidence, baseline = recording_contributions(parts["model"], graph, target, steps=256)
        assert scores.shape == (128,)
        assert float(scores.sum()) == pytest.approx(evidence - baseline, abs=0.02)
        pulls, full, alone = attachment_contributions(parts["model"], graph, target, steps=64)
        assert pulls.shape == (12,)
        assert full == pytest.approx(evidence, abs=1e-5)
        assert float(pulls.sum()) == pytest.approx(full - alone, abs=0.02)
        assert abs(full - alone) > 0.05


def test_recordings_of_a_class_pull_towards_it():
    """Features that say the class, and weights that pass them on: what a known recording adds is its class."""
    y = torch.arange(9) % 3
    model = create_model("subgraph_ssl", in_channels=3, num_classes=3, hidden_channels=3, num_layers=1).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(5 * torch.eye(3) if parameter.ndim == 2 else torch.zeros(3))
    known = Data(x=torch.eye(3)[y], edge_index=torch.zeros(2, 0, dtype=torch.long), edge_weight=torch.zeros(0), y=y)
    graph = attach_to_all([known], torch.zeros(1, 3), {"edges": 9})
    for target in range(3):
        scores, _, _ = attachment_contributions(model, graph, target)
        same = y[graph.node] == target
        assert scores[same].min() > 0.1
        assert scores[~same].max() < -0.1


def test_only_what_a_network_reads_contributes(recording_parts: Parts):
    parts = recording_parts(backbone="mlp")
    model = parts["model"]
    with torch.no_grad():
        weight = model.layers[0].linear.weight
        weight[:, torch.arange(128) != 5] = 0
    graph = attach_to_all(parts["references"], torch.ones(1, 128), parts["attachment"])
    scores, _, _ = recording_contributions(model, graph, 0)
    assert torch.equal(scores.nonzero()[:, 0], torch.tensor([5]))
    pulls, full, alone = attachment_contributions(model, graph, 0)
    assert pulls.abs().max() == 0  # it does not look at the edges
    assert full == pytest.approx(alone, abs=1e-6)


def test_what_an_explanation_says(explanation: RecordingExplanation, by_recordings: Recognizer):
    said = by_recordings.process_file(str(explanation.file)).loc[0]
    assert (explanation.label, explanation.labels) == (said["label"], LABELS)
    assert explanation.probability == pytest.approx(said["confidence"])
    assert explanation.spread == pytest.approx(said["spread"])
    p = explanation.probability
    assert explanation.evidence == pytest.approx(math.log(p / (1 - p)), abs=1e-4)
    assert explanation.feature_scores.shape == (1, 128)
    assert (explanation.times.tolist(), explanation.frame_seconds) == ([pytest.approx(0.5)], pytest.approx(1.0))
    assert abs(explanation.gap) < 0.05
    assert sum(explanation.groups.values()) == pytest.approx(explanation.feature_scores.sum())
    frame = explanation.to_frame()
    assert frame["column"].tolist() == list(by_recordings.bundle.pipeline.columns)
    assert frame.groupby("group")["score"].sum().to_dict() == pytest.approx(explanation.groups)
    # Of bands, means and deviations together.
    assert list(explanation.groups) == [
        "below 250 Hz", "250 Hz to 500 Hz", "500 Hz to 1 kHz", "1 kHz to 2 kHz", "2 kHz to 4 kHz", "4 kHz to 8 kHz",
    ]  # fmt: skip


def test_known_recordings_of_an_explanation(explanation: RecordingExplanation, recording_bundle: Bundle):
    table = explanation.edges_to_frame()
    assert list(table.columns) == ["recording", "label", "label_is", "draws", "score"]
    assert table["draws"].sum() == 12  # three graphs, four edges each
    assert table["recording"].is_unique
    assert table["score"].abs().is_monotonic_decreasing
    assert explanation.edge_scores is not None
    assert table["score"].sum() == pytest.approx(explanation.edge_scores.sum())
    truth = {name: int(y) for graph in recording_bundle.references for name, y in zip(graph.id, graph.y, strict=True)}
    for row in table.itertuples():
        y = truth[row.recording]
        assert row.label_is == ("predicted" if y < 0 else "true")
        assert y < 0 or row.label == LABELS[y]
    number, clip = explanation.edge_index
    assert not clip.any()
    sums = np.bincount(number - 1, explanation.edge_scores)
    np.testing.assert_allclose(sums, table["score"])


def test_an_explanation_as_json_and_as_a_figure(explanation: RecordingExplanation, tmp_path: Path):
    described = json.loads(json.dumps(explanation.to_dict()))
    assert set(described) >= {"label", "spread", "groups", "descriptors", "references", "evidence", "baseline"}
    assert len(described["references"]["score"]) == len(explanation.references)
    for suffix in ("png", "svg"):
        assert explanation.save(tmp_path / f"why.{suffix}", edges=5).stat().st_size > 10_000
    text = (tmp_path / "why.svg").read_text()
    assert "a$b.wav" in text
    assert "strongest descriptors" in text


def test_another_class_and_names_that_are_not_known(tmp_path: Path, recording_parts: Parts, write: Write, voice: Voice):
    parts = recording_parts(draws=1)
    del parts["references"][0].id
    recognizer = Recognizer(load_bundle(save_bundle(tmp_path / "model", **parts)))
    path = write("a.wav", voice(0.7, seed=9))
    said = recognizer.process_file(path).loc[0]
    found = explain(recognizer, path, "angry", steps=4, start=0.1, end=0.6)
    assert isinstance(found, RecordingExplanation)
    assert found.label == "angry"
    assert found.times[0] == pytest.approx(0.35)
    assert explain(recognizer, path, "angry", steps=4).probability == pytest.approx(said["p_angry"])
    assert math.isnan(found.spread)
    assert found.to_dict()["spread"] is None
    assert found.references["recording"].str.fullmatch(r"recording \d+").all()
    with pytest.raises(GraphophoneError, match="not a class"):
        explain(recognizer, path, "bored")


@pytest.mark.parametrize("old", [False, True])
def test_a_clip_that_is_attached_to_none(
    tmp_path: Path, recording_parts: Parts, recording_folder: Path, write: Write, voice: Voice, old: bool
):
    parts = recording_parts(how="none")
    folder = save_bundle(tmp_path / "model", **parts)
    if old:  # folders once held the graphs that nothing is attached to
        shutil.copy(recording_folder / REFERENCES, folder)
    recognizer = Recognizer(load_bundle(folder))
    path = write("a.wav", voice(0.6, seed=9), subtype="FLOAT")
    table = recognizer.process_file(path)
    assert "spread" not in table  # every graph says the same
    x = torch.from_numpy(parts["standardizer"](parts["pipeline"](voice(0.6, seed=9), RATE)))
    alone = parts["model"](x, torch.zeros(2, 0, dtype=torch.long), torch.zeros(0)).softmax(dim=1)
    np.testing.assert_allclose(table.loc[0, P].astype(float), alone.detach()[0], atol=1e-6)
    found = explain(recognizer, path, steps=16)
    assert isinstance(found, RecordingExplanation)
    assert found.references.empty
    assert found.baseline_without_edges == pytest.approx(found.evidence, abs=1e-5)
    assert found.feature_scores.sum() == pytest.approx(found.evidence - found.baseline, abs=0.05)
    assert found.save(tmp_path / "why.png").stat().st_size > 10_000
    assert list(found.references.columns) == ["recording", "label", "label_is", "draws", "score"]
    assert found.to_dict()["references"]["score"] == []


@pytest.mark.parametrize(
    "options",
    [
        {"how": "none"},
        {},
        {"backbone": "mlp"},
        {"backbone": "graphmix"},
        {"negative": "drop"},
        {"negative": "separate", "num_layers": 3},
        {"edges": 99},
    ],
    ids=str,
)
def test_dense_products_are_the_network(recording_parts: Parts, tmp_path: Path, options: dict):
    bundle = load_bundle(save_bundle(tmp_path / "model", **recording_parts(**{"how": "nearest", **options})))
    assert obstacle(bundle) is None
    rng = np.random.default_rng(0)
    features = torch.from_numpy((bundle.standardizer.mean + rng.normal(0, 3, (20, 128))).astype(np.float32))
    with torch.no_grad():
        logarithms, p = FromVectors(bundle).eval()(features)
    expected = answers_of(bundle, features)
    np.testing.assert_allclose(p, expected[1], atol=1e-5)
    np.testing.assert_allclose(logarithms, expected[0], rtol=1e-3, atol=1e-3)
    assert logarithms.std(dim=0).max() > 0.01


@pytest.mark.parametrize(
    ("options", "words"),
    [({}, "drawn by lot.*how='nearest'"), ({"how": "nearest", "backbone": "gat"}, "'gat'.* no dense form")],
)
def test_what_no_file_can_hold_is_said(recording_parts: Parts, tmp_path: Path, options: dict, words: str):
    pytest.importorskip("onnxscript")
    from graphophone.inference import ExportError, export_onnx

    bundle = load_bundle(save_bundle(tmp_path / "model", **recording_parts(**options)))
    with pytest.raises(ExportError, match=words) as error:
        export_onnx(bundle, tmp_path / "model.onnx")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize("how", ["nearest", "none"])
def test_a_file_of_recordings(recording_parts: Parts, tmp_path: Path, voice: Voice, how: str):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    from graphophone.inference import ExportError, export_onnx

    bundle = load_bundle(save_bundle(tmp_path / "model", **recording_parts(how=how, draws=2)))
    exported = export_onnx(bundle, tmp_path / "model.onnx")
    assert exported.difference < 1e-4
    graphs = 2 if how == "nearest" else 0
    assert exported.description["references"] == {"graphs": graphs, "edges": 4, "how": how, "seed": 7}
    assert exported.description["input"]["shape"] == ["batch", 128]
    session = runtime.InferenceSession(str(exported.path))
    frames = [bundle.pipeline(voice(0.5, seed=i), RATE) for i in range(70, 77)]
    for part in (frames, frames[:1]):
        logits, p = session.run(["logits", "probabilities"], {"features": np.concatenate(part)})
        np.testing.assert_allclose(p, Recognizer(bundle).probabilities(part), atol=1e-5)
        np.testing.assert_allclose(np.exp(logits), p, atol=1e-6)
    with pytest.raises(ExportError, match="sound cannot be the input"):
        export_onnx(bundle, tmp_path / "other.onnx", input="wave")
