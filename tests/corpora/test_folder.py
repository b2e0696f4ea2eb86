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


# ------------------------------------------------------------------------------------------- a table of labels


@pytest.fixture
def pile(tmp_path: Path) -> Path:
    """Recordings in no order at all, two of which somebody has labelled."""
    root = tmp_path / "pile"
    for name in ("2020/a.wav", "2020/b.wav", "2021/deep/c.flac", "d.wav", "e.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"sound")
    (root / "labels.csv").write_text("file,label\n2020/a.wav,sad\n./d.wav,happy\n", "utf-8")
    return root


def test_a_table_labels_some_recordings(pile: Path) -> None:
    found = corpora.load("folder", pile, labels="labels.csv", unlabelled=True)
    assert found.classes == ("happy", "sad")
    assert found.table["id"].tolist() == ["2020/a.wav", "2020/b.wav", "2021/deep/c.flac", "d.wav"]
    assert found.table["label"].tolist() == ["sad", "", "", "happy"]
    assert found.targets.tolist() == [1, -1, -1, 0]
    assert found.labelled.tolist() == [True, False, False, True]
    assert not found.problems
    assert list(found.table.columns) == ["id", "audio", "label"]
    only = load(pile, labels="labels.csv")
    assert only.table["id"].tolist() == ["2020/a.wav", "d.wav"]
    assert [str(problem) for problem in only.problems] == ["2020/b.wav: no label", "2021/deep/c.flac: no label"]
    ordered = load(pile, labels="labels.csv", unlabelled=True, classes="sad,happy")
    assert ordered.targets.tolist() == [0, -1, -1, 1]


def test_the_table_may_lie_elsewhere_and_say_more(pile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "audio;label;speaker;split;note",
        "2020\\a.wav;sad;anna;train;good",
        f"{pile / 'd.wav'};happy;bert;;",
        "2020/b.wav;;anna;;",
        "2021/deep/c.flac;sad;carl;test;",
    ]
    (tmp_path / "mine.csv").write_text("\n".join(lines), "utf-8")
    monkeypatch.chdir(tmp_path)
    found = load(pile, labels="mine.csv", unlabelled=True)
    assert found.table["id"].tolist() == ["2020/a.wav", "2020/b.wav", "2021/deep/c.flac"]
    assert found.table["label"].tolist() == ["sad", "", "sad"]
    assert found.speakers == ["anna", "anna", "carl"]
    assert found.table["split"].tolist() == ["train", "", "test"]
    assert found.table["note"].tolist() == ["good", "", ""]
    assert [str(problem) for problem in found.problems] == ["d.wav: no split; use train, validation or test"], (
        "one with a label needs its split"
    )
    assert found.summary()["splits"] == {"test": 1, "train": 1}
    with pytest.raises(CorpusError, match=r"speakers are given by mine.csv and by speaker=.*; keep one"):
        load(pile, labels="mine.csv", speaker=r"(.)\.")
    assert load(pile, labels=str(pile / "labels.csv"), speaker=r"(.)\.").speakers == ["a", "d"]


def test_rows_of_the_table_that_do_not_fit(pile: Path) -> None:
    rows = ["file,label", "2020/a.wav,sad", "2020/a.wav,happy", ",sad", "gone.wav,sad", "b.wav", "e.txt,happy"]
    (pile / "labels.csv").write_text("\n".join([*rows, "d.wav,hapy", "2020/b.wav,happy"]), "utf-8")
    found = load(pile, labels="labels.csv", classes="happy,sad", unlabelled=True)
    assert found.table["id"].tolist() == ["2020/a.wav", "2020/b.wav", "2021/deep/c.flac"]
    assert found.table["label"].tolist() == ["sad", "happy", ""]
    assert [str(problem) for problem in found.problems] == [
        "row 6: 1 cells where the header has 2; put cells that hold ',' in quotes",
        "row 3, 2020/a.wav: named before, in row 2, which counts",
        "row 4: no file",
        f"row 5, gone.wav: no such recording below {pile}",
        f"row 7, e.txt: no such recording below {pile}",
        "d.wav: unknown label 'hapy'. Did you mean 'happy'? Known: happy, sad",
    ]


def test_a_table_beside_folders_of_a_split(tmp_path: Path) -> None:
    for name in ("train/x/1.wav", "train/2.wav", "test/3.wav", "test/4.wav", "5.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"sound")
    table = tmp_path / "labels.csv"
    table.write_text("file,label\ntrain/x/1.wav,sad\ntest/3.wav,happy\n", "utf-8")
    found = load(tmp_path, labels="labels.csv", unlabelled=True)
    assert found.table["id"].tolist() == ["test/3.wav", "test/4.wav", "train/2.wav", "train/x/1.wav"]
    assert found.table["split"].tolist() == ["test", "test", "train", "train"]
    assert [str(problem) for problem in found.problems] == ["5.wav: not in the folder of a part of the split"]
    table.write_text("file,label,split\ntrain/x/1.wav,sad,\ntest/3.wav,happy,dev\n", "utf-8")
    found = load(tmp_path, labels="labels.csv", unlabelled=True)
    assert found.table["split"].tolist() == ["validation", "test", "train", "train"]


def test_several_labels_in_the_table(pile: Path) -> None:
    (pile / "labels.csv").write_text("file,labels\n2020/a.wav,dog;rain\nd.wav,rain\n", "utf-8")
    found = load(pile, labels="labels.csv")
    assert found.table["labels"].tolist() == [["dog", "rain"], ["rain"]]
    with pytest.raises(CorpusError, match="one label, not several; leave unlabelled=true out"):
        load(pile, labels="labels.csv", unlabelled=True)


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("file,label\na.wav,\n", {"unlabelled": True}, "no row has a label"),
        ("file,label\na.wav,\n", {}, "none of 4 rows is usable; the first: 2020/a.wav: no label"),
        ("name,label\na.wav,x\n", {}, "no column `file` with paths below"),
        ("file,class\na.wav,x\n", {}, "no column `label`; the columns are file, class"),
        ("file,label\n", {}, "the table has no rows"),
    ],
)
def test_wrong_tables_of_labels_are_one_line(pile: Path, text: str, options: dict[str, bool], words: str) -> None:
    (pile / "labels.csv").write_text(text, "utf-8")
    with pytest.raises(CorpusError) as error:
        load(pile, labels="labels.csv", **options)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_no_such_table_of_labels(pile: Path) -> None:
    with pytest.raises(CorpusError, match=r"no file 'label.csv' in .*pile or the working directory; correct labels"):
        load(pile, labels="label.csv")
    (pile / "empty").mkdir()
    with pytest.raises(CorpusError, match="no sound below"):
        load(pile / "empty", labels=str(pile / "labels.csv"))


def test_recordings_without_a_folder_of_a_class(tree: Path) -> None:
    for name in ("unlabelled/1.wav", "Unlabeled/deep/2.wav"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(b"sound")
    found = load(tree, unlabelled=True)
    assert found.classes == ("happy", "sad")
    assert found.table["id"].tolist() == [
        "Unlabeled/deep/2.wav",
        "happy/anna_1.wav",
        "sad/anna_1.wav",
        "sad/deep/bert_2.flac",
        "stray.wav",
        "unlabelled/1.wav",
    ]
    assert found.targets.tolist() == [-1, 0, 1, 1, -1, -1]
    assert "unlabelled" in load(tree).classes, "a class like any other where items without label are not asked for"


def test_recordings_without_a_class_in_the_parts_of_a_split(tmp_path: Path) -> None:
    for name in ("train/sad/1.wav", "train/happy/2.wav", "train/3.wav", "test/unlabelled/4.wav", "test/sad/5.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"sound")
    (tmp_path / "6.wav").write_bytes(b"sound")
    found = load(tmp_path, unlabelled=True)
    parts = found.table.set_index("id")[["split", "label"]]
    assert {item: tuple(cells) for item, cells in zip(parts.index, parts.to_numpy(), strict=True)} == {
        "train/sad/1.wav": ("train", "sad"),
        "train/happy/2.wav": ("train", "happy"),
        "train/3.wav": ("train", ""),
        "test/unlabelled/4.wav": ("test", ""),
        "test/sad/5.wav": ("test", "sad"),
        "6.wav": ("", ""),
    }
