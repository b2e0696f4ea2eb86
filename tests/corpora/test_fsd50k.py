"""FSD50K, in small."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from graphophone import corpora
from graphophone.corpora import CorpusError
from graphophone.corpora.fsd50k import load
from graphophone.evaluation import create_protocol

MakeSound = Callable[..., Path]

VOCABULARY = ["0,Acoustic_guitar,/m/042v_gx", "1,Bark,/m/05tny_", "2,Dog,/m/0bt9lr", "3,Guitar,/m/0342h"]
DEV = [
    '64760,"Bark,Dog","/m/05tny_,/m/0bt9lr",train',
    '16399,"Acoustic_guitar,Guitar","/m/042v_gx,/m/0342h",train',
    "16401,Dog,/m/0bt9lr,val",
]
EVAL = ['37199,"Guitar,Dog,Dog","/m/0342h,/m/0bt9lr"', "175151,Dog,/m/0bt9lr"]


def put(root: Path, make_sound: MakeSound, dev: list[str] = DEV, *, vocabulary: list[str] = VOCABULARY) -> Path:
    truth = root / "FSD50K.ground_truth"
    truth.mkdir(parents=True)
    (truth / "vocabulary.csv").write_text("\n".join(vocabulary) + "\n", "utf-8")
    (truth / "dev.csv").write_text("\n".join(["fname,labels,mids,split", *dev]) + "\n", "utf-8")
    (truth / "eval.csv").write_text("\n".join(["fname,labels,mids", *EVAL]) + "\n", "utf-8")
    for part, rows in (("dev", dev), ("eval", EVAL)):
        for row in rows:
            make_sound(root / f"FSD50K.{part}_audio" / f"{row.split(',')[0]}.wav")
    return root


def test_tags_are_in_the_order_of_the_vocabulary(tmp_path: Path, make_sound: MakeSound) -> None:
    found = corpora.load("fsd50k", put(tmp_path / "fsd", make_sound))
    assert found.problems == ()
    assert found.classes == ("Acoustic_guitar", "Bark", "Dog", "Guitar")
    assert found.multi_label
    assert found.targets.tolist() == [[0, 1, 1, 0], [1, 0, 0, 1], [0, 0, 1, 0], [0, 0, 1, 1], [0, 0, 1, 0]]
    table = found.table
    assert table["split"].tolist() == ["train", "train", "validation", "test", "test"]
    assert table["id"].tolist() == ["64760", "16399", "16401", "37199", "175151"]
    assert table["row"].tolist() == [2, 3, 4, 2, 3]
    assert table["audio"][3] == str(tmp_path / "fsd/FSD50K.eval_audio/37199.wav")
    assert table["mids"][1] == "/m/042v_gx,/m/0342h"
    (split,) = create_protocol("official").splits(found)
    assert [part.tolist() for part in (split.train, split.validation, split.test)] == [[0, 1], [2], [3, 4]]
    assert split.notes == (
        "no validation item of class Acoustic_guitar, Bark, Guitar",
        "no test item of class Acoustic_guitar, Bark",
    )


def test_the_numbers_of_the_vocabulary_count_and_not_its_lines(tmp_path: Path, make_sound: MakeSound) -> None:
    found = load(put(tmp_path / "fsd", make_sound, vocabulary=[*reversed(VOCABULARY), ""]))
    assert found.classes == ("Acoustic_guitar", "Bark", "Dog", "Guitar")


def test_defects_are_named(tmp_path: Path, make_sound: MakeSound) -> None:
    rows = [*DEV, '1,"Dog,Dogg",/m/0,train', "2,,,train", "3,Dog,/m/0bt9lr,train", "4,Dog,/m/0bt9lr,later"]
    root = put(tmp_path / "fsd", make_sound, rows)
    (root / "FSD50K.dev_audio/3.wav").unlink()
    found = load(root)
    assert len(found) == 5
    assert [str(problem) for problem in found.problems] == [
        "row 5, 1: unknown label 'Dogg'. Did you mean 'Dog'? Known: Acoustic_guitar, Bark, Dog, Guitar",
        "row 6, 2: no labels; give negatives=true if none of the classes is heard in such items",
        f"row 7, 3: file not found: {root}/FSD50K.dev_audio/3.wav",
        "row 8, 4: unknown split 'later'; use train, validation or test",
    ]


@pytest.mark.parametrize(
    ("vocabulary", "match"),
    [
        (["0,Dog,/m/1", "0,Cat,/m/2"], "line 2: not `number,tag,mid` with a number of its own"),
        (["index,name,mid", "0,Dog,/m/1"], "line 1: not `number,tag,mid`"),
        (["Dog"], "line 1: not"),
        ([], "no tags"),
    ],
)
def test_a_wrong_vocabulary_is_one_line(
    tmp_path: Path, make_sound: MakeSound, vocabulary: list[str], match: str
) -> None:
    with pytest.raises(CorpusError, match=match) as error:
        load(put(tmp_path / "fsd", make_sound, vocabulary=vocabulary))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["dev.csv", "eval.csv", "vocabulary.csv"])
def test_a_missing_table_is_one_line(tmp_path: Path, make_sound: MakeSound, name: str) -> None:
    root = put(tmp_path / "fsd", make_sound)
    (root / "FSD50K.ground_truth" / name).unlink()
    with pytest.raises(CorpusError, match=rf"there is no .*{name}; give the folder"):
        load(root)


def test_the_check_counts_tags(tmp_path: Path, make_sound: MakeSound) -> None:
    report = corpora.check(load(put(tmp_path / "fsd", make_sound)), progress=False)
    assert report.ok
    content = report.to_dict()
    assert content["classes"] == {"Acoustic_guitar": 1, "Bark": 1, "Dog": 4, "Guitar": 2}
    assert content["labels_per_item"] == {
        "mean": 1.6,
        "min": 1,
        "median": 2.0,
        "max": 2,
        "density": 0.4,
        "sets": 4,
        "counts": {"1": 2, "2": 3},
    }
    assert content["notes"] == ["class 'Acoustic_guitar' has one item", "class 'Bark' has one item"]
    console = Console(file=io.StringIO(), width=120)
    report.render(console)
    words = console.file.getvalue()  # type: ignore[attr-defined]
    assert "labels per item 1 to 2, mean 1.60; 0.400 of the classes; 4 different sets" in words
    assert "fsd50k: 5 items, 4 classes, 0.00 h" in words
    lines = [line.split() for line in words.splitlines()]
    assert ["Dog", "4", "80.0", "0.0"] in lines
    assert ["Guitar", "1", "1", "0"] in lines, "items of each part: test, train, validation"
