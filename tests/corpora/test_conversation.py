"""Conversations of one's own, in tables and in JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphophone import corpora
from graphophone.cli import main
from graphophone.corpora import CorpusError, Problem
from graphophone.corpora.conversation import parse_time, read_turns


def put(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def reasons(turns: pd.DataFrame) -> dict[str, str]:
    problems: tuple[Problem, ...] = turns.attrs["problems"]
    assert all("\n" not in str(problem) for problem in problems)
    return {problem.item: problem.reason for problem in problems}


TABLE = """dialogue,speaker,text,audio,label,split
one,Ann,Hello.,a.wav,happy,train
one,Ben,What?,,angry,train
two,Cleo,,b.wav,,test
two,Ann,Fine.,,happy,test
"""


def test_a_table_of_turns(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"sound")
    (tmp_path / "b.wav").write_bytes(b"sound")
    found = corpora.load("conversation", put(tmp_path / "talk.csv", TABLE))
    table = found.table
    assert (found.name, found.classes, found.problems) == ("talk", ("angry", "happy"), ())
    assert table["id"].tolist() == ["one_1", "one_2", "two_1", "two_2"]
    assert table["position"].tolist() == [1, 2, 1, 2]
    assert table["audio"].tolist() == [str(tmp_path / "a.wav"), "", str(tmp_path / "b.wav"), ""]
    assert table["label"].tolist() == ["happy", "angry", "", "happy"]
    assert table["row"].tolist() == [2, 3, 4, 5]
    assert table["split"].tolist() == ["train", "train", "test", "test"]
    labelled = corpora.load("conversation", tmp_path / "talk.csv", unlabelled=False)
    assert labelled.table["id"].tolist() == ["one_1", "one_2", "two_2"]
    assert [problem.reason for problem in labelled.problems] == ["no label"]


def test_a_check_counts_dialogues(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = put(tmp_path / "talk.csv", TABLE.replace(",a.wav,", ",,").replace(",,b.wav,", ",Hm.,,"))
    main(["corpora", "check", "conversation", "--root", str(file)])
    assert "talk: 4 items, 1 of them without label, 2 classes, 3 speakers, 2 dialogues" in capsys.readouterr().out


def test_other_names_and_a_folder(tmp_path: Path) -> None:
    put(tmp_path / "talk.tsv", "who\twords\tfeeling\tlabel\nx\thi\tjoy\t1\ny\tno\tfear\t2\n")
    found = corpora.load("conversation", tmp_path, speaker="who", text="words", label="feeling", classes="fear,joy")
    assert found.classes == ("fear", "joy")
    assert found.table["dialogue"].tolist() == ["talk", "talk"]
    assert found.table["speaker"].tolist() == ["x", "y"]
    assert found.table["original_label"].tolist() == ["1", "2"]
    put(tmp_path / "other.json", [])
    with pytest.raises(CorpusError, match=r"holds 2: other.json, talk.tsv; name the table with file=NAME"):
        corpora.load("conversation", tmp_path)


TURNS = [{"speaker": "a", "text": "one"}, {"speaker": "b", "text": "two"}]


@pytest.mark.parametrize(
    ("content", "dialogues"),
    [
        (TURNS, ["talk", "talk"]),
        ({"turns": TURNS}, ["talk", "talk"]),
        ({"id": "d", "turns": TURNS}, ["d", "d"]),
        ([{"id": 7, "turns": TURNS[:1]}, {"id": 8, "turns": TURNS[1:]}], ["7", "8"]),
        ([{"turns": TURNS[:1]}, {"turns": TURNS[1:]}], ["0", "1"]),
        ({"x": TURNS[:1], "y": {"turns": TURNS[1:]}}, ["x", "y"]),
        ([{"dialogue": "p", **TURNS[0]}, {"dialogue": "q", **TURNS[1]}], ["p", "q"]),
    ],
)
def test_shapes_of_json(tmp_path: Path, content: Any, dialogues: list[str]) -> None:
    turns = read_turns(put(tmp_path / "talk.json", content))
    assert turns["dialogue"].tolist() == dialogues
    assert turns["text"].tolist() == ["one", "two"]
    assert turns["speaker"].tolist() == ["a", "b"]
    assert turns["position"].tolist() == ([1, 2] if dialogues[0] == dialogues[1] else [1, 1])
    assert turns["row"].tolist() == [0, 1]
    assert turns["start"].isna().all()
    assert turns.attrs["problems"] == ()
    assert "label" not in turns


def test_parts_of_a_recording(tmp_path: Path) -> None:
    content = {
        "call": {
            "recording": "sound/call.wav",
            "split": "test",
            "turns": [
                {"speaker": "b", "start": "0:00:04.5", "text": "later"},
                {"speaker": "a", "start": 0, "end": "0:02"},
                {"speaker": "a", "start": "1:00,25", "split": "train", "text": "last"},
                {"speaker": "b", "text": "somewhere"},
                {"speaker": "b"},
            ],
        }
    }
    turns = read_turns(put(tmp_path / "talk.json", content), audio_root=tmp_path / "data")
    assert turns["audio"].tolist() == [str(tmp_path / "data/sound/call.wav")] * 3 + [""]
    assert turns["start"].tolist()[:3] == [4.5, 0, 60.25]
    assert turns["end"].tolist()[:2] == [60.25, 2]
    assert math.isnan(turns["end"].iloc[2])
    assert turns["split"].tolist() == ["test", "test", "train", "test"]
    assert "recording" not in turns
    # A turn without a time leaves nothing but the order of the file.
    assert turns["position"].tolist() == [1, 2, 3, 4]
    assert reasons(turns) == {
        "call_5": "no start in the recording, and no text; give start and end",
        "call_4": "no start in the recording: only its text is used; give start and end",
    }


def test_order_by_time_where_there_is_one_clock(tmp_path: Path) -> None:
    turns = read_turns(put(tmp_path / "a.csv", "dialogue,text,start\nd,b,5\nd,a,1\ne,c,0\n"))
    assert turns["text"].tolist() == ["b", "a", "c"]
    assert turns["position"].tolist() == [2, 1, 1]
    turns = read_turns(put(tmp_path / "a.csv", "audio,start,end\nx.wav,5,6\ny.wav,1,2\n"))
    assert turns["position"].tolist() == [1, 2]
    assert turns["start"].tolist() == [5, 1]
    turns = read_turns(put(tmp_path / "a.csv", "recording,start,end\nx.wav,5,6\ny.wav,1,2\nx.wav,1,2\n"))
    assert turns["dialogue"].tolist() == ["x", "y", "x"]
    assert turns["position"].tolist() == [2, 1, 1]


def test_what_is_wrong_is_said_turn_by_turn(tmp_path: Path) -> None:
    content = [
        {"id": "ok", "dialogue": "d", "position": 1, "speaker": "a", "text": "fine"},
        {"id": "order", "dialogue": "d", "position": 2, "speaker": "a", "text": "x", "start": 3, "end": 2},
        {"id": "mute", "dialogue": "d", "position": 3, "speaker": "a", "txet": "x"},
        {"id": "twice", "dialogue": "d", "position": 1, "speaker": "a", "text": "x"},
        {"id": "time", "dialogue": "d", "position": 4, "speaker": "a", "text": "x", "start": "soon"},
        {"id": "lost", "position": 5, "speaker": "a", "text": "x"},
        {"id": "who", "dialogue": "d", "position": 6, "text": "x"},
        {"id": "where", "dialogue": "d", "position": "sixth", "speaker": "a", "text": "x"},
        "hello",
        {"id": "late", "dialogue": "d", "position": 9, "speaker": "a", "text": "x", "emotion": "kept"},
    ]
    turns = read_turns(put(tmp_path / "talk.json", content))
    assert turns["id"].tolist() == ["ok", "order", "time", "who", "late"]
    assert turns["emotion"].tolist()[-1] == "kept"
    assert turns[["start", "end"]].isna().all(axis=None)
    assert turns["speaker"].tolist() == ["a", "a", "a", "unknown", "a"]
    problems = [problem for problem in turns.attrs["problems"] if problem.severity == "error"]
    assert {problem.item: problem.reason for problem in problems} == {
        "row 8": "a turn is an object with text or audio, not 'hello'",
        "mute": "neither text nor sound; give text, audio, or recording with start and end",
        "twice": "position 1 of dialogue 'd' is that of row 0 too; correct it",
        "lost": "no dialogue; say which conversation the turn is of, in a column dialogue",
        "where": "position 'sixth' is not a number; number the turns, or leave the column out",
    }
    warned = [str(problem) for problem in turns.attrs["problems"] if problem.severity == "warning"]
    assert warned[0] == "row 2, mute: unknown key 'txet'; did you mean 'text'?"
    assert {line.split(": ", 1)[0]: line.split(": ", 1)[1] for line in warned[1:]} == {
        "row 1, order": "only its text is used: end 2 s is not after start 3 s; correct them",
        "row 4, time": "only its text is used: start 'soon' is not a time; use seconds or h:mm:ss.mmm",
        "row 6, who": "no speaker: it is called 'unknown'; fill it in",
    }
    assert [problem.row for problem in problems][1:3] == [2, 3]


def test_a_turn_whose_part_of_the_sound_is_not_known(tmp_path: Path) -> None:
    lines = ["recording,start,end,text", "x.wav,0,1,a", "x.wav,3,2,b", "x.wav,3,2,", "x.wav,soon,4,c", "x.wav,5,6,"]
    turns = read_turns(put(tmp_path / "a.csv", "\n".join(lines)))
    assert turns["id"].tolist() == ["x_1", "x_2", "x_4", "x_5"]
    assert [Path(name).name for name in turns["audio"]] == ["x.wav", "", "", "x.wav"]
    assert turns["start"].tolist()[::3] == [0, 5]
    assert turns["start"].isna().tolist() == [False, True, True, False]
    severities = {problem.item: problem.severity for problem in turns.attrs["problems"]}
    assert severities == {"x_2": "warning", "x_3": "error", "x_4": "warning"}


def test_a_turn_without_sound_is_of_the_only_recording(tmp_path: Path) -> None:
    turns = read_turns(put(tmp_path / "a.csv", "recording,start,end,text\nx.wav,0,1,a\n,,,b\n"))
    assert turns["dialogue"].tolist() == ["x", "x"]
    assert turns.attrs["problems"] == ()
    turns = read_turns(put(tmp_path / "a.csv", "recording,start,end,text\nx.wav,0,1,a\n,,,b\ny.wav,0,1,c\n"))
    assert turns["dialogue"].tolist() == ["x", "y"]
    (lost,) = turns.attrs["problems"]
    assert lost.reason.startswith("no dialogue")


def test_ids_of_their_own_and_made(tmp_path: Path) -> None:
    turns = read_turns(put(tmp_path / "a.csv", "id,text\nx,hi\n,ho\n"))
    assert turns["id"].tolist() == ["x", "a_2"]
    turns = read_turns(put(tmp_path / "a.csv", "id,dialogue,text\n1,p,hi\n1,q,ho\n"))
    assert turns["id"].tolist() == ["p_1", "q_1"]


def test_a_sound_that_is_not_there(tmp_path: Path) -> None:
    file = put(tmp_path / "a.csv", "text,audio,label\nhi,gone.wav,x\n,gone.wav,y\nho,,y\n")
    assert read_turns(file)["audio"].tolist() == [str(tmp_path / "gone.wav")] * 2 + [""]
    found = corpora.load("conversation", file)
    assert found.table["id"].tolist() == ["a_1", "a_3"]
    assert found.table["audio"].tolist() == ["", ""]
    told = {problem.item: (problem.severity, problem.reason) for problem in found.problems}
    assert told == {
        "a_1": ("warning", f"file not found: {tmp_path / 'gone.wav'}; only its text is used"),
        "a_2": ("error", f"file not found: {tmp_path / 'gone.wav'}"),
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{", "not JSON"),
        ("a.json", [], "no turns"),
        ("a.json", "7", "neither a list of turns nor dialogues"),
        ("a.json", {"a": 1}, "'a' is neither a dialogue nor a list of turns"),
        ("a.json", [{"turns": []}, {"id": "b"}], r"dialogue 1 \(from 0\) has no list 'turns'"),
        ("a.json", [{"text": ""}], "none of 1 turns is usable; the first: row 0, a_1: neither text nor sound"),
        ("a.csv", "wav,words\na,b\n", "neither text nor audio nor recording, but wav, words; call them so"),
        ("a.csv", "text,text\na,b\n", "occurs more than once"),
        ("a.csv", "text\nhi\n", "no turn has a label, so there is nothing to learn"),
        ("a.csv", "text,label\nhi,\n", "no turn has a label"),
    ],
)
def test_files_that_cannot_be_used_are_one_line(tmp_path: Path, name: str, content: Any, message: str) -> None:
    with pytest.raises(CorpusError, match=message) as caught:
        corpora.load("conversation", put(tmp_path / name, content))
    assert "\n" not in str(caught.value)


def test_keys_that_are_not_there(tmp_path: Path) -> None:
    file = put(tmp_path / "a.json", [{"text": "hi", "who": "a"}])
    assert read_turns(file, columns={"speaker": "who"})["speaker"].tolist() == ["a"]
    with pytest.raises(CorpusError, match=r"no turn has a key 'whom'\. Did you mean 'who'"):
        read_turns(file, columns={"speaker": "whom"})
    with pytest.raises(CorpusError, match="no such file of turns"):
        read_turns(tmp_path / "b.csv")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 359_999_999))
def test_times_are_read_as_they_are_written(thousandths: int) -> None:
    seconds, rest = divmod(thousandths, 1000)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    want = pytest.approx(thousandths / 1000)
    assert parse_time(f"{hours}:{minutes:02d}:{seconds % 60:02d}.{rest:03d}") == want
    assert parse_time(f"{seconds // 60}:{seconds % 60:02d},{rest:03d}") == want
    assert parse_time(f"{seconds}.{rest:03d}") == want
    assert parse_time(thousandths / 1000) == want


@pytest.mark.parametrize("words", ["1:60", "1:75:00", "-1", "1:-2", "abc", "1:2:3:4", "inf", float("inf"), -1.0])
def test_times_that_are_none(words: str | float) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        parse_time(words)
    assert parse_time(1e-5) == 1e-5
    assert math.isnan(parse_time(""))
    assert math.isnan(parse_time(None))
