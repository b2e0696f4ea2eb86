"""Tables as users write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from graphophone import corpora
from graphophone.corpora import CorpusError
from graphophone.corpora.table import load


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.wav", "b.wav", "c.wav"):
        (tmp_path / name).write_bytes(b"sound")
    return tmp_path


def write(folder: Path, text: str, name: str = "mine.csv", encoding: str = "utf-8") -> Path:
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


def test_csv(folder: Path) -> None:
    path = write(folder, "audio,label,speaker,score\na.wav,sad,01,1.5\nb.wav,happy,02,2\n")
    found = corpora.load("table", path)
    assert found.name == "mine"
    assert found.problems == ()
    assert found.table["audio"].tolist() == [str(folder / "a.wav"), str(folder / "b.wav")]
    assert found.speakers == ["01", "02"], "leading zeros are part of a name"
    assert found.table["score"].tolist() == [1.5, 2.0]
    assert found.table["row"].tolist() == [2, 3], "line numbers; the header is line 1"


@pytest.mark.parametrize(
    ("mark", "name"), [(",", "t.csv"), (";", "t.csv"), ("\t", "t.tsv"), ("\t", "t.txt"), ("|", "t.csv")]
)
def test_delimiters(folder: Path, mark: str, name: str) -> None:
    text = "audio,label,text\na.wav,sad,oh; no\nb.wav,happy,yes\n"
    if mark == ";":
        text = text.replace("; no", " no")
    found = load(write(folder, text.replace(",", mark), name))
    assert found.table["label"].tolist() == ["sad", "happy"]
    assert load(write(folder, text.replace(",", mark), name), delimiter=mark).classes == ("happy", "sad")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings_and_line_ends(folder: Path, encoding: str) -> None:
    found = load(write(folder, "audio,label,text\r\na.wav,wütend,é\r\nb.wav,froh,\r\n", encoding=encoding))
    assert found.classes == ("froh", "wütend")
    assert found.table["text"].tolist() == ["é", ""]


def test_rows_are_lines_of_the_file(folder: Path) -> None:
    lines = [
        "id,audio,label,text",  # 1
        'one,a.wav,sad,"two',  # 2
        'lines"',  # 3
        "",  # 4
        "two,gone.wav,sad,",  # 5
        "three,b.wav,happy",  # 6
        "one,b.wav,happy,",  # 7
        "four,b.wav,,",  # 8
        "five,c.wav,happy,last",  # 9
    ]
    found = load(write(folder, "\n".join(lines)))
    assert found.table["id"].tolist() == ["one", "five"]
    assert found.table["row"].tolist() == [2, 9]
    assert found.table["text"].tolist() == ["two\nlines", "last"]
    assert [str(problem) for problem in found.problems] == [
        "row 6: 3 cells where the header has 4; put cells that hold ',' in quotes",
        f"row 5, two: file not found: {folder / 'gone.wav'}",
        "row 7, one: duplicate id; the first is in row 2",
        "row 8, four: no label",
    ]


def test_columns_of_other_names(folder: Path) -> None:
    path = write(folder, "file,emotion,label,spk,from,to\na.wav,sad,ignored,1,0,1.5\nb.wav,happy,too,2,0.5,\n")
    found = load(path, audio="file", label="emotion", speaker="spk", start="from", end="to")
    assert found.table["label"].tolist() == ["sad", "happy"]
    assert found.table["original_label"].tolist() == ["ignored", "too"]
    assert found.table["start"].tolist() == [0.0, 0.5]
    np.testing.assert_array_equal(found.table["end"], [1.5, np.nan])
    assert found.speakers == ["1", "2"]


def test_two_columns_may_change_names(folder: Path) -> None:
    path = write(folder, "audio,label,emotion\na.wav,sad,1\nb.wav,happy,2\n")
    found = load(path, label="emotion", text="label")
    assert found.table["label"].tolist() == ["1", "2"]
    assert found.table["text"].tolist() == ["sad", "happy"]


def test_several_labels(folder: Path) -> None:
    found = load(write(folder, "audio,tags\na.wav,rain;wind\nb.wav,wind\n"), labels="tags")
    assert found.classes == ("rain", "wind")
    np.testing.assert_array_equal(found.targets, [[1, 1], [0, 1]])


def test_parquet(folder: Path) -> None:
    frame = pd.DataFrame({"audio": ["a.wav", "b.wav", "gone.wav"], "label": ["x", "y", "x"], "labels_": [1, 2, 3]})
    frame.to_parquet(folder / "mine.parquet")
    found = load(folder / "mine.parquet", classes=["y", "x"])
    assert found.classes == ("y", "x")
    assert found.problems[0].row == 2, "rows of a Parquet table are counted from 0"
    frame.assign(labels=[["p"], ["p", "q"], ["q"]]).drop(columns="label").to_parquet(folder / "mine.parquet")
    np.testing.assert_array_equal(load(folder / "mine.parquet").targets, [[1, 0], [1, 1]])


def test_audio_elsewhere_and_a_folder_as_root(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("tables")
    write(other, "audio,label\na.wav,x\nb.wav,y\n")
    assert len(load(other, audio_root=folder)) == 2
    write(other, "audio,label\nc.wav,z\n", name="more.csv")
    with pytest.raises(CorpusError, match=r"is a folder and holds 2: mine\.csv, more\.csv; name the table"):
        load(other, audio_root=folder)
    assert load(other, file="more.csv", audio_root=folder, name="third").name == "third"


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("audio,emotion\na.wav,x\n", {"label": "emotoin"}, "no column 'emotoin'. Did you mean 'emotion'? The"),
        ("audio,emotion\na.wav,x\n", {}, "no column `label` or `labels`; name it with label=COLUMN, one of"),
        ("file,label\na.wav,x\n", {}, "no column `audio` or `text`; name it with audio=COLUMN, one of file"),
        ("audio,label\n", {}, "the table has no rows"),
        ("", {}, "the table has no rows"),
        ("audio,label\na.wav\n", {}, "the table has no rows; the first problem: row 2: 1 cells"),
        ("audio,label,label\na.wav,x,y\n", {}, "the column 'label' occurs more than once"),
        ("audio,label\na.wav,x\n", {"label": "label", "text": "label"}, "cannot be both 'text' and 'label'"),
        ("audio,label\na.wav,\xe9\n", {"encoding": "ascii"}, "save it as text in UTF-8"),
        ("audio,label\na.wav,x\n", {"classes": "y"}, "none of 1 rows is usable; the first: row 2, a: unknown"),
    ],
)
def test_wrong_tables_are_one_line(folder: Path, text: str, options: dict[str, str], words: str) -> None:
    path = write(folder, text)
    with pytest.raises(CorpusError) as raised:
        load(path, **options)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_such_table(folder: Path) -> None:
    with pytest.raises(CorpusError, match="no such table"):
        load(folder / "gone.csv")
    with pytest.raises(CorpusError, match="holds none"):
        load(folder)
    (folder / "bad.parquet").write_bytes(b"no parquet")
    with pytest.raises(CorpusError, match=r"bad\.parquet: cannot be read as Parquet"):
        load(folder / "bad.parquet")


# ------------------------------------------------------------------------------------------- several labels


def tags(folder: Path, *rows: str) -> Path:
    for name in "abcdef":
        (folder / f"{name}.wav").write_bytes(b"sound")
    path = folder / "tags.csv"
    path.write_text("\n".join(["audio,labels,split", *rows]) + "\n", "utf-8")
    return path


def test_several_labels_with_either_mark_and_repetitions(tmp_path: Path) -> None:
    found = load(
        tags(tmp_path, "a.wav,dog;bark,train", "b.wav, cat | cat|dog ,train", "c.wav,dog,test", "d.wav,;cat;,test")
    )
    assert found.problems == ()
    assert found.multi_label
    assert found.classes == ("bark", "cat", "dog")
    assert found.table["labels"].tolist() == [["dog", "bark"], ["cat", "dog"], ["dog"], ["cat"]]
    assert found.targets.tolist() == [[1, 0, 1], [0, 1, 1], [0, 0, 1], [0, 1, 0]]
    assert found.memberships.toarray().tolist() == found.targets.tolist()
    assert found.class_counts().tolist() == [1, 2, 3]


def test_a_label_that_is_no_class_costs_its_row_and_is_named(tmp_path: Path) -> None:
    path = tags(tmp_path, "a.wav,dog;bark,train", "b.wav,dog;brak,train", "c.wav,whistle;dog,test")
    found = load(path, classes="dog,bark")
    assert found.classes == ("dog", "bark")
    assert found.table["id"].tolist() == ["a"]
    assert [str(problem) for problem in found.problems] == [
        "row 3, b: unknown label 'brak'. Did you mean 'bark'? Known: dog, bark",
        "row 4, c: unknown label 'whistle'. Known: dog, bark",
    ]
    with pytest.raises(CorpusError, match="none of 3 rows is usable; the first: row 2, a: unknown label 'dog'"):
        load(path, classes="x,y")


def test_of_many_classes_some_are_named(tmp_path: Path) -> None:
    found = load(tags(tmp_path, "a.wav,c0,train", "b.wav,zebra,train"), classes=[f"c{i}" for i in range(200)])
    assert found.problems[0].reason.endswith("c28, c29 and 170 more")


def test_an_item_without_labels_is_one_of_none_only_if_that_is_said(tmp_path: Path) -> None:
    path = tags(tmp_path, "a.wav,dog,train", "b.wav,,train", "c.wav, ; ,test")
    found = load(path)
    assert found.table["id"].tolist() == ["a"]
    reason = "no labels; give negatives=true if none of the classes is heard in such items"
    assert [(problem.row, problem.reason) for problem in found.problems] == [(3, reason), (4, reason)]
    kept = corpora.load("table", path, negatives=True)
    assert kept.problems == ()
    assert kept.table["labels"].tolist() == [["dog"], [], []]
    assert kept.targets.tolist() == [[1], [0], [0]]
    assert kept.summary()["labels_per_item"]["counts"] == {"0": 2, "1": 1}
    empty = tags(tmp_path, "a.wav,,train")
    with pytest.raises(CorpusError, match="no row has a label"):
        load(empty, negatives=True)


def test_rows_without_label_are_kept_where_that_is_asked_for(folder: Path) -> None:
    table = write(folder, "audio,emotion,fold\na.wav,sad,1\nb.wav,,\nc.wav,happy,2\n")
    found = corpora.load("table", table, label="emotion", unlabelled=True)
    assert found.table["label"].tolist() == ["sad", "", "happy"]
    assert found.targets.tolist() == [1, -1, 0]
    assert found.table["row"].tolist() == [2, 3, 4]
    assert not found.problems
    assert [str(problem) for problem in load(table, label="emotion").problems] == ["row 3, b: no label"]
