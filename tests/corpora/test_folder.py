"""Folders of classes as users have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphophone import corpora
from graphophone.corpora import CorpusError
from graphophone.corpora.folder import load


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "mine"
    for name in (
        "sad/anna_1.wav",
        "sad/deep/bert_2.flac",
        "happy/anna_1.wav",
        "happy/notes.txt",
        "happy/.hidden.wav",
        "happy/._anna_1.wav",
        ".git/x.wav",
        "stray.wav",
        "readme.md",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"sound")
    (root / "empty").mkdir()
    return root


def test_classes_are_folders(tree: Path) -> None:
    found = corpora.load("folder", tree)
    assert found.name == "mine"
    assert found.classes == ("happy", "sad")
    assert found.table["id"].tolist() == ["happy/anna_1.wav", "sad/anna_1.wav", "sad/deep/bert_2.flac"]
    assert found.table["label"].tolist() == ["happy", "sad", "sad"]
    assert [str(problem) for problem in found.problems] == ["stray.wav: not in the folder of a class"]
    assert "speaker" not in found.table


def test_speakers_by_expression(tree: Path) -> None:
    found = load(tree, speaker=r"/([a-z]+)_\d")
    assert found.speakers == ["anna", "anna", "bert"]
    assert load(tree, speaker=r"(?P<number>\d)|(?P<speaker>[a-z]+)_").speakers == ["anna", "anna", "bert"]
    assert load(tree, speaker="anna|bert").speakers == ["anna", "anna", "bert"]
    partial = load(tree, speaker="anna")
    assert partial.speakers == ["anna", "anna"]
    assert partial.problems[0].item == "sad/deep/bert_2.flac"
    assert partial.problems[0].reason == "its path does not match speaker='anna'"


def test_folders_of_a_split_above_those_of_classes(tmp_path: Path) -> None:
    for name in ("train/sad/1.wav", "train/happy/2.wav", "Val/sad/3.wav", "test/happy/4.wav", "test/5.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"sound")
    found = load(tmp_path, name="split")
    assert found.classes == ("happy", "sad")
    assert dict(zip(found.table["id"], found.table["split"], strict=True)) == {
        "Val/sad/3.wav": "validation",
        "test/happy/4.wav": "test",
        "train/happy/2.wav": "train",
        "train/sad/1.wav": "train",
    }
    assert [problem.item for problem in found.problems] == ["test/5.wav"]


def test_classes_given(tree: Path) -> None:
    found = load(tree, classes=["sad", "angry"])
    assert found.classes == ("sad", "angry")
    assert found.problems[-1].reason == "unknown label 'happy'. Known: sad, angry"


def test_wrong_folders_are_one_line(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no sound in class folders below"):
        load(tree / "empty")
    with pytest.raises(CorpusError, match="does not exist"):
        load(tmp_path / "gone")
    with pytest.raises(CorpusError, match=r"speaker='\(' is not a regular expression"):
        load(tree, speaker="(")
    with pytest.raises(CorpusError, match=r"the first problem: happy/anna_1\.wav: its path does not match"):
        load(tree, speaker="nobody")
