"""CREMA-D as its repository lays it out."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphophone import corpora
from graphophone.corpora import CorpusError
from graphophone.corpora.crema_d import load


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"sound")
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    put(
        tmp_path,
        "AudioWAV/1001_DFA_ANG_XX.wav",
        "AudioWAV/1001_IEO_HAP_LO.wav",
        "AudioWAV/1040_ITH_SAD_X.wav",
        "AudioMP3/1001_DFA_ANG_XX.mp3",
        "VideoFlash/1001_DFA_ANG_XX.flv",
    )
    (tmp_path / "VideoDemographics.csv").write_text(
        '"ActorID","Age","Sex","Race","Ethnicity"\n1001,51,"Male","Caucasian","Not Hispanic"\n'
        '1040,42,"Female","Caucasian","Not Hispanic"\n',
        encoding="utf-8",
    )
    (tmp_path / "processedResults").mkdir()
    (tmp_path / "processedResults/summaryTable.csv").write_text(
        '"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote","MultiModalLevel"\n'
        '1,"1001_DFA_ANG_XX","N",50,"A",60,"A",70\n2,"1001_IEO_HAP_LO","H:N","40:50","H",60,"H",60\n'
        '3,"1040_ITH_SAD_X","S",50,"S",50,"S",50\n',
        encoding="utf-8",
    )
    return tmp_path


def test_names_and_people(tree: Path) -> None:
    found = corpora.load("crema_d", tree)
    assert found.problems == ()
    assert found.classes == ("angry", "disgust", "fearful", "happy", "neutral", "sad")
    table = found.table
    assert table["id"].tolist() == ["1001_DFA_ANG_XX", "1001_IEO_HAP_LO", "1040_ITH_SAD_X"]
    assert table["label"].tolist() == ["angry", "happy", "sad"]
    assert table["speaker"].tolist() == ["1001", "1001", "1040"]
    assert table["level"].tolist() == ["unspecified", "low", "unspecified"]
    assert table["gender"].tolist() == ["male", "male", "female"]
    assert table["age"].tolist() == [51, 51, 42]
    assert table["text"].iloc[0] == "Don't forget a jacket"


def test_what_listeners_heard(tree: Path) -> None:
    found = load(tree, label="perceived")
    assert dict(zip(found.table["id"], found.table["label"], strict=True)) == {
        "1001_DFA_ANG_XX": "neutral",
        "1040_ITH_SAD_X": "sad",
    }
    assert found.problems == (), "a tie is no defect"
    put(tree, "AudioWAV/1002_IEO_FEA_HI.wav")
    assert [str(p) for p in load(tree, label="perceived").problems] == [
        "1002_IEO_FEA_HI.wav: not in the table of votes"
    ]
    (tree / "processedResults/summaryTable.csv").unlink()
    with pytest.raises(CorpusError, match=r"label='perceived' needs .*summaryTable\.csv"):
        load(tree, label="perceived")


def test_defects_are_named(tmp_path: Path) -> None:
    put(
        tmp_path,
        "1001_DFA_ANG_XX.wav",
        "1001_DFA_JOY_XX.wav",
        "1001_ABC_ANG_XX.wav",
        "1001_DFA_ANG_ZZ.wav",
        "1092_DFA_ANG_XX.wav",
        "notes.wav",
    )
    found = load(tmp_path)
    assert found.table["id"].tolist() == ["1001_DFA_ANG_XX"]
    assert "gender" not in found.table
    reasons = {problem.item: problem.reason.partition(" in its name")[0] for problem in found.problems}
    assert reasons == {
        "1001_DFA_JOY_XX.wav": "unknown emotion JOY",
        "1001_ABC_ANG_XX.wav": "unknown sentence ABC",
        "1001_DFA_ANG_ZZ.wav": "unknown level ZZ",
        "1092_DFA_ANG_XX.wav": "unknown actor 1092",
        "notes.wav": "its name is not actor_sentence_emotion_level, as 1001_DFA_ANG_XX",
    }


def test_wrong_calls_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no recording named"):
        load(tmp_path)
    with pytest.raises(CorpusError, match="label='felt' is not one of intended, perceived"):
        load(tmp_path, label="felt")  # type: ignore[arg-type]
