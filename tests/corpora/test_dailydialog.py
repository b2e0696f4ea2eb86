"""DailyDialog: a few conversations in the layout of the release."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from graphophone import corpora
from graphophone.corpora import CorpusError
from graphophone.corpora.dailydialog import EMOTIONS

TALKS = {
    "train": (
        "Hi there . __eou__ Oh\u2028no ! __eou__ What ? __eou__\nOne __eou__ Two __eou__\n",
        "0 1 6 \n4 5 \n",
        "1 2 2 \n3 4 \n",
    ),
    "validation": ("Fear . __eou__ Yuck . __eou__\n", "3 2\n", "1 1\n"),
    "test": ("So __eou__ long __eou__\nBye __eou__\n", "4 4 \n0\n", "1 1 \n1\n"),
}


def put(root: Path, talks: Mapping[str, tuple[str, ...]], folder: str = "{part}", acts: bool = True) -> Path:
    for part, contents in talks.items():
        where = root / folder.format(part=part)
        where.mkdir(parents=True, exist_ok=True)
        for kind, content in zip(("", "emotion_", "act_")[: 3 if acts else 2], contents, strict=False):
            (where / f"dialogues_{kind}{part}.txt").write_text(content, encoding="utf-8")
    return root


def test_the_release(tmp_path: Path) -> None:
    found = corpora.load("dailydialog", put(tmp_path, TALKS))
    assert (found.classes, found.problems, len(found)) == (EMOTIONS, (), 10)
    table = found.table
    first = table[table["dialogue"] == "train_0"]
    assert first["id"].tolist() == ["train_0_0", "train_0_1", "train_0_2"]
    assert first["text"].tolist() == ["Hi there .", "Oh\u2028no !", "What ?"]
    assert first["label"].tolist() == ["neutral", "anger", "surprise"]
    assert first["speaker"].tolist() == ["train_0_A", "train_0_B", "train_0_A"]
    assert first["position"].tolist() == [0, 1, 2]
    assert first["act"].tolist() == ["inform", "question", "question"]
    assert table["label"].tolist()[3:] == [
        "happiness",
        "sadness",
        "fear",
        "disgust",
        "happiness",
        "happiness",
        "neutral",
    ]
    assert table["act"].tolist()[3:5] == ["directive", "commissive"]
    assert table["split"].value_counts().to_dict() == {"train": 5, "test": 3, "validation": 2}


@pytest.mark.parametrize("folder", ["", "{part}/{part}"])
def test_other_folders_and_no_acts(tmp_path: Path, folder: str) -> None:
    found = corpora.load("dailydialog", put(tmp_path, TALKS, folder, acts=False))
    assert len(found) == 10
    assert "act" not in found.table


def test_archives(tmp_path: Path) -> None:
    put(tmp_path / "unpacked", TALKS)
    for part in TALKS:
        with zipfile.ZipFile(tmp_path / f"{part}.zip", "w") as archive:
            for file in sorted((tmp_path / "unpacked" / part).iterdir()):
                archive.write(file, f"{part}/{file.name}")
    found = corpora.load("dailydialog", tmp_path)
    assert found.table.equals(corpora.load("dailydialog", tmp_path / "unpacked").table)
    (tmp_path / "test.zip").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(CorpusError, match=r"test\.zip: cannot be read"):
        corpora.load("dailydialog", tmp_path)


def test_conversations_that_do_not_fit_are_left_out(tmp_path: Path) -> None:
    talks = {
        **TALKS,
        "train": (TALKS["train"][0], "0 1 6\n4 5 1\n", "1 2 2\n3 4\n"),
        "test": ("A __eou__\n", "9\n", "1\n"),
    }
    put(tmp_path, {**talks, "test": ("A __eou__ B __eou__\n", "9 1\n", "1 7\n")})
    found = corpora.load("dailydialog", tmp_path)
    assert set(found.table["dialogue"]) == {"train_0", "validation_0", "test_0"}
    assert found.table["act"].tolist()[-1] == "7"
    told = {problem.item: problem.reason for problem in found.problems}
    assert told.pop("test_0_0").startswith("unknown label '9'. Known: neutral, anger")
    assert told == {"train_1": "2 utterances, but 3 emotions; left out"}


def test_files_that_are_missing_or_of_another_release(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no dialogues_train\.txt in .* its folder train or train\.zip"):
        corpora.load("dailydialog", tmp_path)
    put(tmp_path, {**TALKS, "train": (TALKS["train"][0], "0 1 6\n", "1\n")})
    with pytest.raises(
        CorpusError, match=r"dialogues_emotion_train\.txt has 1 conversations, and dialogues_train\.txt 2"
    ):
        corpora.load("dailydialog", tmp_path)
