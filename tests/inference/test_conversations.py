"""Answers for whole conversations, and turn by turn as they unfold."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from graphophone.errors import GraphophoneError
from graphophone.inference import Bundle, Recognizer, timeline
from graphophone.inference import conversations as module
from graphophone.inference.card import model_card
from graphophone.inference.conversations import online_seconds, probabilities, turns_of

pytestmark = pytest.mark.usefixtures("vowels")
P = ["p_calm", "p_glad", "p_sad"]
Make = Callable[..., Bundle]
Call = Callable[..., pd.DataFrame]
Write = Callable[..., Path]
Voice = Callable[..., np.ndarray]


@pytest.fixture
def recognizer(conversation_bundle: Make) -> Recognizer:
    return Recognizer(conversation_bundle(), workers=1)


@pytest.fixture
def causal(conversation_bundle: Make) -> Recognizer:
    return Recognizer(conversation_bundle(future=0), workers=1)


@pytest.fixture
def recording(write: Write, voice: Voice) -> Path:
    return write("call.wav", voice(3.0))


def test_a_whole_conversation(recognizer: Recognizer, recording: Path, call: Call) -> None:
    table = call(recording).set_axis(list("abcdef"))
    found = recognizer.process_table(table)
    assert list(found.columns) == [
        *("dialogue", "position", "speaker", "file", "start", "end", "text", "used", "label", "confidence"),
        *P,
    ]
    assert found.index.tolist() == list("abcdef")
    assert found["used"].tolist() == [*["text and audio"] * 2, "audio", "text", *["text and audio"] * 2]
    np.testing.assert_allclose(found[P].sum(axis=1), 1, atol=1e-5)
    assert found.attrs == {"failures": [], "warnings": []}
    # Turns hear each other: what one says elsewhere changes the answer for another.
    other = table.copy()
    other.loc["f", "text"] = "aaaaaa"
    changed = np.abs(recognizer.process_table(other)[P] - found[P]).max(axis=1)
    assert (changed > 1e-6).all()
    # The order of the rows is not that of the turns.
    mixed = recognizer.process_table(table.iloc[[3, 0, 5, 1, 2, 4]])
    np.testing.assert_allclose(mixed.loc[found.index, P], found[P], atol=1e-6)
    # Without the column it is one conversation; without positions the times tell the order.
    bare = recognizer.process_table(table.drop(columns=["dialogue", "position"]))
    np.testing.assert_allclose(bare[P], found[P], atol=1e-6)
    assert "dialogue" not in bare


def test_conversations_side_by_side_do_not_hear_each_other(
    recognizer: Recognizer, recording: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    parts = [call(recording, n).assign(dialogue=f"d{n}") for n in (1, 6, 3, 2)]
    together = recognizer.process_table(pd.concat(parts, ignore_index=True).sample(frac=1, random_state=0).sort_index())
    alone = pd.concat([recognizer.process_table(part) for part in parts])
    np.testing.assert_allclose(together[P], alone[P], atol=1e-5)
    monkeypatch.setattr(module, "PAIRS", 20)  # so that they come in several batches
    np.testing.assert_allclose(recognizer.process_table(pd.concat(parts, ignore_index=True))[P], alone[P], atol=1e-5)


def test_what_fails_is_named_and_the_others_are_answered(recognizer: Recognizer, recording: Path, call: Call) -> None:
    table = call(recording)
    table.loc[1, ["text", "audio"]] = [None, "gone.wav"]  # nothing is left of it
    table.loc[2, ["text", "audio"]] = [" ", None]
    table.loc[4, "audio"] = "gone.wav"  # its text is
    found = recognizer.process_table(table)
    assert found.index.tolist() == [0, 3, 4, 5]
    assert [(p.row, p.reason) for p in found.attrs["failures"]] == [
        (1, "there is no such file; check the path"),
        (2, "modalities: there is neither text nor audio; give at least one of them"),
    ]
    (warning,) = found.attrs["warnings"]
    assert (warning.row, warning.reason) == (4, "audio is left out: there is no such file; check the path")
    assert found.loc[4, "used"] == "text"
    # As if they had not been there.
    rest = recognizer.process_table(table.drop(index=[1, 2]))
    np.testing.assert_allclose(rest[P], found[P], atol=1e-6)
    nothing = recognizer.process_table(table.loc[[1, 2]])
    assert nothing.empty
    assert len(nothing.attrs["failures"]) == 2
    with pytest.raises(GraphophoneError, match="position nan is no number"):
        recognizer.process_table(table.assign(position=[0, 1, None, 3, 4, 5]).astype({"position": object}))


def test_sound_alone_and_text_alone(recording: Path, call: Call, conversation_bundle: Make) -> None:
    table = call(recording)
    sound = Recognizer(conversation_bundle(parts=("audio",)), workers=1).process_table(table)
    assert sound.index.tolist() == [0, 1, 2, 4, 5]
    assert set(sound["used"]) == {"audio"}
    (failure,) = sound.attrs["failures"]
    assert failure.row == 3
    plain = Recognizer(conversation_bundle(plain=True), workers=1)
    for online in (False, True):
        found = plain.process_conversation(table, online=online)
        assert found.index.tolist() == [0, 1, 2, 4, 5]
        assert "text" not in found
        (failure,) = found.attrs["failures"]
        assert failure.reason == "it has no recording, and this dialogue_gru hears sound alone; give one"
    text = Recognizer(conversation_bundle(parts=("text",)), workers=1).process_table(table)
    assert text.index.tolist() == [0, 1, 3, 4, 5]
    assert set(text["used"]) == {"text"}


def test_one_turn_is_a_conversation_of_its_own(
    recognizer: Recognizer, recording: Path, write: Write, call: Call
) -> None:
    table = call(recording).iloc[[0]]
    whole = recognizer.process_table(table)
    np.testing.assert_allclose(recognizer.process_file(recording, 0.0, 0.3, text="aei")[P], whole[P], atol=1e-6)
    text = recognizer.process_text("aei")
    assert text["used"].tolist() == ["text"]
    # Files beside each other are no conversation.
    from soundfile import write as save

    other = recording.parent / "other.wav"
    save(other, np.zeros(8000) + 0.1 * np.sin(np.arange(8000)), 16000)
    both = recognizer.process_files([recording, other])
    np.testing.assert_allclose(both[P].iloc[[1]], recognizer.process_file(other)[P], atol=1e-6)
    with pytest.raises(GraphophoneError, match="pieces of a recording are none"):
        timeline(recognizer, recording, window=1, hop=1)


@pytest.mark.parametrize("name", ["dialogue_gru", "dialogue_transformer", "rigsl"])
def test_as_it_unfolds_is_as_at_once_where_no_later_turn_is_heard(
    name: str, recording: Path, call: Call, conversation_bundle: Make
) -> None:
    recognizer = Recognizer(conversation_bundle(name, future=0), workers=1)
    table = call(recording, 12)
    table.loc[5, ["text", "audio"]] = None  # of one nothing is known
    whole = recognizer.process_table(table)
    online = recognizer.process_conversation(table, online=True)
    # Single precision, and scores of up to a hundred; in double precision networks are told apart to 1e-10.
    np.testing.assert_allclose(online[P], whole[P], atol=2e-4)
    assert online.index.tolist() == whole.index.tolist()
    assert [p.row for p in online.attrs["failures"]] == [5]
    assert online.attrs["warnings"] == []
    assert list(online.columns) == [*whole.columns[:8], "seconds", *whole.columns[8:]]
    mean, late = online_seconds(online)
    assert 0 < mean <= online["seconds"].max()
    assert online["seconds"].min() <= late <= online["seconds"].max()
    pd.testing.assert_frame_equal(recognizer.process_conversation(table), whole)


def test_turn_by_turn(causal: Recognizer, recording: Path, call: Call) -> None:
    from soundfile import read

    table = call(recording)
    whole = causal.process_table(table)
    samples, rate = read(recording, dtype="float32")
    talk = causal.conversation()
    for number, row in enumerate(table.to_dict(orient="records")):
        with pytest.raises(GraphophoneError):
            talk.add(speaker="Zoe", audio="gone.wav")  # changes nothing
        sound: dict[str, Any] = {}
        if row["audio"] is not None:
            begin, end = (round(row[name] * rate) for name in ("start", "end"))
            as_file = {"audio": row["audio"], "start": row["start"], "end": row["end"]}
            sound = {"audio": samples[begin:end], "rate": rate} if number == 1 else as_file
        answer = talk.add(row["text"], speaker=row["speaker"], **sound)
        assert answer["position"] == number
        assert answer["label"] == whole.loc[number, "label"]
        assert answer["used"] == whole.loc[number, "used"]
        assert answer["seconds"] > 0
        np.testing.assert_allclose([answer[p] for p in P], whole.loc[number, P].astype(float), atol=1e-5)
    assert len(talk) == 6
    frame = talk.to_frame()
    assert list(frame.columns[:7]) == ["position", "speaker", "start", "end", "text", "used", "seconds"]
    np.testing.assert_allclose(frame[P], whole[P], atol=1e-5)
    with pytest.raises(GraphophoneError, match="rate"):
        talk.add(audio=samples)


def test_a_network_that_hears_later_turns_says_so(
    recognizer: Recognizer, recording: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        talk = recognizer.conversation()
        first, second = talk.add("aei", speaker="a"), talk.add("iii", speaker="b")
    assert len([r for r in caplog.records if "later turns" in r.message]) == 1
    assert first["label"] in ("calm", "glad", "sad")
    # What was known then: the last answer is that of all turns, the first that of a turn alone.
    texts = pd.DataFrame({"text": ["aei", "iii"], "speaker": ["a", "b"]})
    whole = recognizer.process_table(texts)
    np.testing.assert_allclose([second[p] for p in P], whole.loc[1, P].astype(float), atol=1e-6)
    np.testing.assert_allclose([first[p] for p in P], recognizer.process_text("aei")[P].to_numpy()[0], atol=1e-6)
    assert np.abs(np.array([first[p] for p in P]) - whole.loc[0, P].to_numpy(float)).max() > 1e-4
    online = recognizer.process_conversation(pd.concat([texts.assign(dialogue=d) for d in "xy"]), online=True)
    (warning,) = online.attrs["warnings"]
    assert "model.future 0" in warning.reason


def test_a_long_conversation_is_cut(recording: Path, conversation_bundle: Make) -> None:
    recognizer = Recognizer(conversation_bundle(future=0), workers=1, max_turns=4)
    table = pd.DataFrame({"text": ["aei"[i % 3 :] + "a" for i in range(10)], "speaker": list("ab") * 5})
    found = recognizer.process_table(table)
    (warning,) = found.attrs["warnings"]
    assert (warning.item, warning.severity) == ("conversation", "warning")
    assert "more than 4 turns" in warning.reason
    first = recognizer.process_table(table.iloc[:4])
    np.testing.assert_allclose(found[P].iloc[:4], first[P], atol=1e-5)
    # A piece that begins anew.
    np.testing.assert_allclose(found[P].iloc[[4]], recognizer.process_text(table.loc[4, "text"])[P], atol=1e-5)
    # As it unfolds, so many turns are heard, the last ones.
    online = recognizer.process_conversation(table, online=True)
    last = recognizer.process_table(table.iloc[6:])
    np.testing.assert_allclose(online[P].iloc[[9]], last[P].iloc[[3]], atol=1e-5)
    with pytest.raises(GraphophoneError, match="max_turns: 0"):
        Recognizer(conversation_bundle(), max_turns=0)


def test_a_file_of_turns(causal: Recognizer, recording: Path, tmp_path: Path, call: Call) -> None:
    table = call(recording)
    turns = [
        {key: value for key, value in row.items() if value is not None and key not in ("dialogue", "position")}
        for row in table.to_dict(orient="records")
    ]
    turns.append({"speaker": "Ben"})  # neither text nor sound
    turns.append({"speaker": "Ben", "audio": "gone.wav"})
    path = tmp_path / "talk.json"
    path.write_text(json.dumps({"turns": turns}))
    found = causal.process_conversation(path)
    assert found["id"].tolist() == [f"talk_{i}" for i in range(1, 7)]
    assert found["dialogue"].unique().tolist() == ["talk"]
    assert [problem.row for problem in found.attrs["failures"]] == [6, 7]
    np.testing.assert_allclose(found[P], causal.process_table(table)[P], atol=1e-5)
    assert found["position"].tolist() == list(range(1, 7))
    assert pd.api.types.is_integer_dtype(found["position"])
    assert not [problem for problem in found.attrs["warnings"] if "speaker" in problem.reason]
    online = causal.process_conversation(path, online=True)
    np.testing.assert_allclose(online[P], found[P], atol=1e-5)


def test_a_file_that_says_of_no_turn_who_speaks(causal: Recognizer, tmp_path: Path) -> None:
    path = tmp_path / "talk.csv"
    path.write_text("position,text\n0.5,a\n2,b\n")
    found = causal.process_conversation(path)
    assert found["position"].tolist() == [0.5, 2.0]
    assert [problem.item for problem in found.attrs["warnings"]] == ["talk.csv"]
    assert "no column speaker" in found.attrs["warnings"][0].reason
    path.write_text("text\na\n")
    assert causal.process_conversation(path).attrs["warnings"] == []


@pytest.mark.parametrize(
    ("future", "heard", "asked"),
    [
        (None, "from the whole conversation", '"turns.csv")'),
        (0, "from the turns up to it", '"turns.csv", online=True)'),
    ],
)
def test_the_model_card_speaks_of_conversations(
    conversation_bundle: Make, future: int | None, heard: str, asked: str
) -> None:
    bundle = conversation_bundle(future=future)
    card = model_card(dataclasses.replace(bundle, corpus={"name": "calls", "items": 12}))
    assert f"that answers for each turn {heard}" in card
    assert f"process_conversation({asked})" in card
    assert ("--table turns.csv --online" in card) == (future == 0)
    assert "calls: 12 turns" in card
    for words in ("timeline", "edges between", "process_file", "recordings, "):
        assert words not in card


def test_models_of_single_recordings_hold_no_conversation(recording_parts: Callable[..., dict]) -> None:
    recognizer = Recognizer(Bundle(**recording_parts()), workers=1)
    with pytest.raises(GraphophoneError, match="hears no conversation"):
        recognizer.conversation()
    with pytest.raises(GraphophoneError, match="hears no conversation"):
        recognizer.process_conversation(pd.DataFrame({"text": ["a"]}))


def test_a_turn_in_no_dialogue_has_no_answer(recognizer: Recognizer) -> None:
    rows = [np.full((1, 11), value, dtype=np.float32) for value in (0.1, 0.2)]
    turns = turns_of(recognizer, rows, np.zeros(2, dtype=np.int64))
    found = probabilities(recognizer, turns, [np.array([1])])
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1], recognizer.probabilities(rows[1:])[0], atol=1e-6)
