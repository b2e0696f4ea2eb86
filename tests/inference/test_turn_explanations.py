"""Which turns and modalities mattered, by leaving them out; and the commands for conversations."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch

from graphophone import cli
from graphophone.errors import GraphophoneError
from graphophone.inference import (
    Bundle,
    ExportError,
    Recognizer,
    explain,
    explain_conversation,
    export_onnx,
    save_bundle,
)
from graphophone.inference.conversations import hear_table, in_order, turns_of

pytestmark = pytest.mark.usefixtures("vowels")
P = ["p_calm", "p_glad", "p_sad"]
Make = Callable[..., Bundle]
Call = Callable[..., pd.DataFrame]


@pytest.fixture
def recording(write: Callable[..., Path], voice: Callable[..., np.ndarray]) -> Path:
    return write("call.wav", voice(3.0))


@pytest.fixture
def recognizer(conversation_bundle: Make) -> Recognizer:
    return Recognizer(conversation_bundle(), workers=1)


def test_what_is_left_out_is_left_out(
    recognizer: Recognizer, recording: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = call(recording)
    found = explain_conversation(recognizer, table, turn="3")
    answers = recognizer.process_table(table)
    assert found.turns["label"].tolist() == answers["label"].tolist()
    np.testing.assert_allclose(found.turns[P], answers[P], atol=1e-6)
    assert found.turn == 3
    assert found.label == answers.loc[3, "label"]
    assert found.probability == pytest.approx(answers.loc[3, "confidence"], abs=1e-6)
    # Each part by itself, straight from the network.
    heard = hear_table(recognizer, table)
    frames = [cast(Any, item.frames) for item in heard]
    turns = turns_of(recognizer, frames, in_order(recognizer, table).speaker)
    batch = turns.batch([np.arange(6)])
    chosen = answers[P].to_numpy().argmax(axis=1)

    def added(*places: Any) -> np.ndarray:
        keep = torch.ones_like(batch.present)
        keep[(0, *places)] = False
        with torch.no_grad():
            p = recognizer.model(batch.keeping(keep)).logits.softmax(-1)[0].numpy()
        return answers[P].to_numpy()[np.arange(6), chosen] - p[np.arange(6), chosen]

    for source in range(6):
        np.testing.assert_allclose(found.influence[:, source], added(slice(None), source), atol=1e-5)
    for m in range(2):
        np.testing.assert_allclose(found.modalities[:, m], added(m, slice(None)), atol=1e-5)
    assert found.own is not None
    assert np.isnan(found.own[1])  # it has no sound
    assert found.own[0] == pytest.approx(added(0, 3)[3], abs=1e-5)
    # A few at a time give the same.
    monkeypatch.setattr("graphophone.inference.turn_explanations.PAIRS", 40)
    np.testing.assert_allclose(explain_conversation(recognizer, table).influence, found.influence, atol=1e-6)


def test_later_turns_add_nothing_where_none_is_heard(conversation_bundle: Make, recording: Path, call: Call) -> None:
    recognizer = Recognizer(conversation_bundle(future=0), workers=1)
    found = explain_conversation(recognizer, call(recording))
    later = np.triu_indices(6, 1)
    np.testing.assert_allclose(found.influence[later], 0, atol=1e-6)
    assert np.abs(np.tril(found.influence)).max() > 1e-3


def test_tables_of_reasons(recognizer: Recognizer, recording: Path, call: Call) -> None:
    table = call(recording).assign(id=[f"u{i}" for i in range(6)])
    whole, one = (
        explain_conversation(recognizer, table),
        explain_conversation(recognizer, table, turn="u4", target="sad"),
    )
    assert len(whole.to_frame()) == 6 * (6 + 2)
    frame = one.to_frame()
    assert frame["part"].value_counts().to_dict() == {"turn": 6, "modality": 2, "own modality": 2}
    assert (frame["turn"] == 5).all()
    assert one.label == "sad"
    assert one.probability == pytest.approx(one.turns["p_sad"][4])
    assert np.abs(frame["score"]).is_monotonic_decreasing
    first = frame[(frame["part"] == "turn") & (frame["source"] == 1)].iloc[0]
    assert first[["id", "speaker", "text", "score"]].tolist() == ["u0", "Anna", "aei", one.influence[4, 0]]
    assert one.title == f"call, turn 5 (u4): sad, probability {one.probability:.2f}"
    assert one.edges_to_frame().empty  # this network has no graph
    assert json.loads(json.dumps(one.to_dict()))["turn"] == 5
    with pytest.raises(GraphophoneError, match="no turn was asked for"):
        _ = whole.label


def test_edges_of_a_network_with_a_graph(conversation_bundle: Make, recording: Path, call: Call) -> None:
    recognizer = Recognizer(conversation_bundle("rigsl", future=0), workers=1)
    found = explain_conversation(recognizer, call(recording), turn=4)
    edges = found.edges_to_frame()
    assert (edges["target"] == 5).all()
    # It hears five turns, one of which lacks text and one sound, and its own other modality; some may be cut.
    assert 0 < len(edges) <= 2 * 3 + 2
    assert edges["source"].max() <= 5
    attention = found.relations.attention()
    assert attention is not None
    np.testing.assert_allclose(attention.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.triu(attention, 1), 0, atol=1e-7)
    assert len(found.plot().axes) == 7  # labels, confidence, graph, attention, scores, classes, modalities


def test_pictures(recognizer: Recognizer, recording: Path, call: Call, tmp_path: Path) -> None:
    table = call(recording)
    whole = explain_conversation(recognizer, table).plot()
    assert [axes.get_xlabel() for axes in whole.axes if axes.images] == ["turn that is left out"]
    one = explain_conversation(recognizer, table, turn=3)
    figure = one.plot()
    classes, parts = figure.axes[-2:]
    assert [bar.get_width() for bar in classes.patches] == sorted(one.turns.loc[3, P].tolist(), reverse=True)
    names = [text.get_text() for text in parts.get_yticklabels()]
    assert names == ["text of this turn", "text of all turns", "audio of all turns"]
    assert one.save(tmp_path / "why.png").stat().st_size > 10_000


def test_which_turn(recognizer: Recognizer, recording: Path, call: Call) -> None:
    two = pd.concat([call(recording, n).assign(dialogue=f"d{n}") for n in (3, 4)], ignore_index=True)
    two["id"] = [f"{d}_{p}" for d, p in zip(two["dialogue"], two["position"], strict=True)]
    found = explain_conversation(recognizer, two, turn="d4_2")
    assert (found.dialogue, found.turn, len(found.turns)) == ("d4", 2, 4)
    assert explain_conversation(recognizer, two, dialogue="d3", turn=1).turn == 1
    unnumbered = two.drop(columns=["id", "position"])
    assert explain_conversation(recognizer, unnumbered, dialogue="d3", turn="1").turn == 0
    for options, words in (
        ({}, "there are 2 conversations; name one as dialogue: d3, d4"),
        ({"dialogue": "d5"}, "there is no dialogue 'd5'; name one of d3, d4"),
        ({"dialogue": "d3", "turn": "9"}, "turn '9': no turn of dialogue d3 that can be used has this id nor position"),
        ({"dialogue": "d3", "target": "mad"}, "target 'mad' is not a class"),
    ):
        with pytest.raises(GraphophoneError, match=words):
            explain_conversation(recognizer, two, **options)
    with pytest.raises(GraphophoneError, match="no column dialogue"):
        explain_conversation(recognizer, two.drop(columns="dialogue"), dialogue="d3")
    # Turns that cannot be used are no turns.
    two.loc[0, ["text", "audio"]] = [None, "gone.wav"]
    left = explain_conversation(recognizer, two, turn="d3_2")
    assert (left.turn, len(left.turns)) == (1, 2)
    assert left.notes == ("gone.wav is left out: there is no such file; check the path",)
    two.loc[:2, ["text", "audio"]] = [None, "gone.wav"]
    with pytest.raises(GraphophoneError, match="dialogue d3: no turn can be used"):
        explain_conversation(recognizer, two, dialogue="d3")


def test_a_piece_of_a_long_conversation(conversation_bundle: Make, recording: Path, call: Call) -> None:
    recognizer = Recognizer(conversation_bundle(), workers=1, max_turns=4)
    found = explain_conversation(recognizer, call(recording, 8), turn=6)
    assert found.turns["position"].tolist() == [4, 5, 6, 7]
    assert found.turn == 2
    assert "only 4 turns are heard together" in found.notes[-1]


def test_what_makes_no_sense_is_refused(conversation_bundle: Make, recording: Path, tmp_path: Path) -> None:
    bundle = conversation_bundle()
    with pytest.raises(GraphophoneError, match="explain_conversation"):
        explain(Recognizer(bundle), recording)
    save_bundle(tmp_path / "model", **_parts(bundle))
    with pytest.raises(ExportError, match="conversations of any length"):
        export_onnx(tmp_path / "model", tmp_path / "model.onnx")


def _parts(bundle: Bundle) -> dict[str, Any]:
    return {name: getattr(bundle, name) for name in ("model", "pipeline", "graph", "standardizer", "labels")}


def run(*words: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.main([str(word) for word in words])
    found = capsys.readouterr()
    return code, found.out, found.err


def test_commands(
    conversation_bundle: Make,
    recording: Path,
    call: Call,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    model = save_bundle(tmp_path / "model", **_parts(conversation_bundle(future=0)))
    table = call(recording)
    table.loc[len(table)] = ["call", 6, "Ben", None, None, np.nan, np.nan]
    table.drop(columns="audio").assign(recording=recording.name).to_csv(recording.parent / "turns.csv", index=False)
    turns = recording.parent / "turns.csv"

    code, out, err = run("predict", model, "--table", turns, "--format", "csv", capsys=capsys)
    rows = list(csv.DictReader(out.splitlines()))
    assert code == cli.PARTIAL
    assert [row["id"] for row in rows] == [f"call_{i}" for i in range(6)]
    assert "1 item left out" in err
    whole = Recognizer.from_pretrained(model, workers=1).process_conversation(turns)
    np.testing.assert_allclose([float(row["p_sad"]) for row in rows], whole["p_sad"], atol=1e-5)

    code, out, err = run("predict", model, "--table", turns, "--online", "--output", "a.json", capsys=capsys)
    assert code == cli.PARTIAL
    found = json.loads((tmp_path / "a.json").read_text())["results"]
    np.testing.assert_allclose([row["probabilities"]["sad"] for row in found], whole["p_sad"], atol=1e-5)
    assert all(row["seconds"] > 0 for row in found)
    assert "ms per turn in the mean, 95 % within" in err

    code, out, _ = run("predict", model, "--table", turns, capsys=capsys)
    assert all(word in out for word in ("Anna", "call_3", "text and audio"))
    code, out, _ = run("predict", model, "--text", "aei", "--format", "csv", capsys=capsys)
    assert code == cli.OK
    assert len(out.splitlines()) == 2

    code, out, err = run("explain", model, "--table", turns, "--turn", "call_4", "--csv", "why.csv", capsys=capsys)
    assert code == cli.OK
    assert (tmp_path / "turns.explained.png").is_file()
    assert f"dialogue call, turn 5 (call_4): {whole['label'][4]}, probability" in out
    assert "no start in the recording, and no text" in err
    assert len(pd.read_csv("why.csv")) == 6 + 2 + 2
    code, out, _ = run("explain", model, "--table", turns, "--output", "all.png", capsys=capsys)
    assert code == cli.OK
    assert "dialogue call: 6 turns" in out

    for words, reason in (
        (("predict", model, recording, "--online"), "--online is for conversations"),
        (("explain", model, recording, "--turn", "3"), "--turn and --dialogue name what is explained of --table"),
        (("explain", model, recording), "answers for the turns of a conversation"),
        (("explain", model, recording, "--table", turns), "leave out the file and --text"),
        (("timeline", model, recording), "pieces of a recording are none"),
        (("explain", model, "--table", turns, "--turn", "x"), "turn 'x': no turn of dialogue call"),
    ):
        code, _, err = run(*words, capsys=capsys)
        assert code == cli.FAILED
        assert reason in err


def test_models_of_single_recordings_explain_no_conversation(recording_parts: Callable[..., dict]) -> None:
    with pytest.raises(GraphophoneError, match="hears no conversation"):
        explain_conversation(Recognizer(Bundle(**recording_parts())), pd.DataFrame({"text": ["a"]}))
