from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from graphophone.corpora.base import Problem
from graphophone.errors import GraphophoneError
from graphophone.inference import SILENCE, merge_segments, write_answers
from graphophone.inference.output import FORMATS, parse_tags, render


@pytest.fixture
def answers() -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "file": ["a, b.wav", None],
            "start": [0.0, 0.5],
            "end": [1.25, 2.0],
            "label": ["happy", "sad"],
            "confidence": [0.75, 0.6],
            "p_happy": [0.75, 0.4],
            "p_sad": [0.25, 0.6],
        }
    )
    frame.attrs = {"failures": [Problem("c.wav", None, "0 bytes")], "warnings": []}
    return frame


@pytest.fixture
def windows() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "start": [0.0, 1.0, 2.0, 3.0],
            "end": [3.0, 4.0, 5.0, 6.0],
            "label": ["happy", "happy", SILENCE, "sad"],
            "confidence": [0.8, 0.6, np.nan, 0.9],
            "p_happy": [0.8, 0.6, np.nan, 0.1],
            "p_sad": [0.2, 0.4, np.nan, 0.9],
        }
    )


def test_csv(answers: pd.DataFrame, windows: pd.DataFrame):
    first, second = csv.DictReader(io.StringIO(render(answers, "csv")))
    assert (first["file"], second["file"]) == ("a, b.wav", "")
    assert (float(first["end"]), float(second["p_sad"])) == (1.25, 0.6)
    assert list(csv.DictReader(io.StringIO(render(windows, "csv"))))[2]["confidence"] == ""


def test_json(answers: pd.DataFrame, windows: pd.DataFrame):
    document = json.loads(render(answers, "json"))
    assert document["results"][0]["probabilities"] == {"happy": 0.75, "sad": 0.25}
    assert document["results"][1]["file"] is None
    assert document["failures"] == [{"item": "c.wav", "row": None, "reason": "0 bytes", "severity": "error"}]
    silence = json.loads(render(windows, "json"))["results"][2]
    assert silence["confidence"] is None
    assert silence["probabilities"] == {"happy": None, "sad": None}


def test_audacity(answers: pd.DataFrame, windows: pd.DataFrame):
    expected = ["0.000000\t3.000000\thappy", f"3.000000\t4.000000\t{SILENCE}", "4.000000\t6.000000\tsad"]
    assert render(windows, "audacity").splitlines() == expected
    assert render(merge_segments(windows), "audacity").splitlines() == expected
    assert render(answers.iloc[:1], "audacity") == "0.000000\t1.250000\thappy\n"
    with pytest.raises(GraphophoneError, match="one recording"):
        render(answers, "audacity")


def test_table(answers: pd.DataFrame, windows: pd.DataFrame):
    text = render(answers)
    for words in ("a, b.wav", "signal", "happy", "0.75", "sad 0.25"):
        assert words in text
    assert SILENCE in render(windows, "table")
    assert "windows" not in render(merge_segments(windows), "table")


def test_every_turn_of_a_conversation_is_one_line():
    frame = pd.DataFrame(
        {
            "id": ["call_0", "call_1"], "dialogue": "call", "position": [0, 1], "speaker": ["Anna", "Ben"],
            "file": None, "start": [0.0, 2.5], "end": [2.0, 4.0], "text": ["so many words " * 20, "short [one]"],
            "used": "text and audio", "label": "happy", "confidence": 0.75, "p_happy": 0.75, "p_sad": 0.25,
        }
    )  # fmt: skip
    lines = [line for line in render(frame).splitlines() if line.startswith("│")]
    assert len(lines) == 2
    assert "so many words" in lines[0]
    assert "…" in lines[0]
    assert "short [one]" in lines[1]
    assert "used" not in render(frame)
    assert "text and audio" in render(frame.assign(used=["text and audio", "text"]))
    assert render(frame, "csv").count("so many words") == 20


@pytest.mark.parametrize("format", FORMATS)
def test_an_empty_table_is_written(answers: pd.DataFrame, format: str):
    assert isinstance(render(answers.iloc[:0], format), str)


def test_files_and_standard_output(answers: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_answers(answers, output=tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text().startswith("file,start,end")
    write_answers(answers, output=tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())["results"]
    write_answers(answers, "csv", tmp_path / "a.dat")
    assert (tmp_path / "a.dat").read_text() == (tmp_path / "a.csv").read_text()
    write_answers(answers)
    assert "happy" in capsys.readouterr().out
    for format, target in ((None, tmp_path / "a.xlsx"), ("yaml", None), ("csv", tmp_path / "no" / "a.csv")):
        with pytest.raises(GraphophoneError):
            write_answers(answers, format, target)
    with pytest.raises(GraphophoneError, match=f"there is no folder {tmp_path / 'no'}"):
        write_answers(answers, output=tmp_path / "no" / "a.csv")
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(GraphophoneError, match="cannot be written"):
        write_answers(answers, output=tmp_path / "b.csv")


@pytest.fixture
def tagged() -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "start": [0.0, 1.0, 2.0],
            "end": [2.0, 3.0, 4.0],
            "label": ["dog", "Music, pop", SILENCE],
            "confidence": [0.934, 0.8, np.nan],
            "tags": ["dog 0.93; Music, pop 0.81", "Music, pop 0.80", ""],
            "p_dog": [0.934, 0.1, np.nan],
            "p_Music, pop": [0.812, 0.8, np.nan],
        }
    )
    frame.attrs = {"kind": "tagging", "failures": []}
    return frame


def test_tags_in_json_are_a_list(tagged: pd.DataFrame):
    first, second, third = json.loads(render(tagged, "json"))["results"]
    assert first["tags"] == [{"tag": "dog", "probability": 0.934}, {"tag": "Music, pop", "probability": 0.812}]
    assert first["probabilities"] == {"dog": 0.934, "Music, pop": 0.812}
    assert second["tags"] == [{"tag": "Music, pop", "probability": 0.8}]
    assert third["tags"] == []
    first = json.loads(render(tagged, "json", probabilities=False))["results"][0]
    assert "probabilities" not in first
    assert first["tags"][0]["probability"] == 0.934


def test_hundreds_of_probabilities_can_be_left_out(tagged: pd.DataFrame):
    rows = list(csv.DictReader(io.StringIO(render(tagged, "csv", probabilities=False))))
    assert list(rows[0]) == ["start", "end", "label", "confidence", "tags"]
    assert rows[0]["tags"] == "dog 0.93; Music, pop 0.81"
    assert "p_dog" in render(tagged, "csv")
    text = render(tagged, probabilities=False)
    for words in ("dog 0.93; Music, pop 0.81", SILENCE, "0.80"):
        assert words in text
    assert render(tagged) == text


def test_a_label_track_of_tags_may_overlap(tagged: pd.DataFrame):
    expected = ["0.000000\t1.500000\tdog", "0.000000\t2.500000\tMusic, pop"]
    assert render(tagged, "audacity").splitlines() == expected
    tagged.attrs["tag_threshold"] = 0.9
    assert render(tagged, "audacity").splitlines() == expected[:1]


def test_tags_are_taken_apart():
    assert parse_tags("dog 0.93; Child speech, kid speaking 0.81") == [
        ("dog", 0.93),
        ("Child speech, kid speaking", 0.81),
    ]
    assert parse_tags("") == []
