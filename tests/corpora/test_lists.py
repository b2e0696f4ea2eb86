"""Released lists of utterances choose items, labels and the split of a corpus."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from graphophone import corpora
from graphophone.corpora import CorpusError
from graphophone.corpora.lists import apply_lists
from graphophone.evaluation.protocols import create_protocol

LABELS = {0: "angry", 1: "happy"}


def put(folder: Path, prefix: str, **parts: list[str]) -> Path:
    """Three lists; those of which nothing is said have one utterance each."""
    folder.mkdir(exist_ok=True)
    for part in ("train", "val", "test"):
        rows = parts.get(part, [f'/home/x/{part}_0.wav,"Oh, no",0'])
        (folder / f"{prefix}_metadata_{part}.csv").write_text(
            "\n".join(["audio_file,raw_text,label", *rows]) + "\n", encoding="utf-8"
        )
    return folder


def identify(_: str, name: str) -> str:
    return name


@pytest.fixture
def table() -> pd.DataFrame:
    names = ["train_0", "train_1", "val_0", "rest", "test_0"]
    return pd.DataFrame({"id": names, "label": ["angry", "happy", "angry", "happy", "happy"]})


def test_listed_utterances(tmp_path: Path, table: pd.DataFrame) -> None:
    lists = put(tmp_path / "l", "X", train=["/home/x/train_0.wav,a,0", r"C:\x\train_1.wav,b,1", "gone.flac,c,1"])
    found, problems = apply_lists(table, lists, "X", LABELS, identify)
    assert found["id"].tolist() == ["train_0", "train_1", "val_0", "test_0"]
    assert found["split"].tolist() == ["train", "train", "validation", "test"]
    assert found["label"].tolist() == ["angry", "happy", "angry", "angry"]
    assert [(p.severity, str(p)) for p in problems] == [
        ("warning", "test_0: is listed as angry, but the corpus says happy; angry is taken"),
        ("error", "gone: is listed, but not in the corpus"),
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a.wav,x,7"], r"_train\.csv, row 2: label 7 is not one of 0 \(angry\), 1 \(happy\)"),
        (["a.wav,x,sad"], "row 2: label 'sad' is not a whole number"),
        (["a.wav,x,0", "val_0.wav,x,0"], r"_val\.csv, row 2: val_0 is listed for the second time"),
        (["a.wav,x,y,0"], "row 2: 4 cells where the header has 3"),
    ],
)
def test_damaged_lists(tmp_path: Path, table: pd.DataFrame, rows: list[str], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        apply_lists(table, put(tmp_path / "l", "X", train=rows), "X", LABELS, identify)
    with pytest.raises(CorpusError, match=r"Y_metadata_train\.csv is not there"):
        apply_lists(table, tmp_path / "l", "Y", LABELS, identify)
    (tmp_path / "l" / "X_metadata_train.csv").write_text("file,label\na,0\n", encoding="utf-8")
    with pytest.raises(CorpusError, match="no column 'audio_file'"):
        apply_lists(table, tmp_path / "l", "X", LABELS, identify)


def test_lists_of_iemocap(tmp_path: Path) -> None:
    dialogue = "Ses01F_impro01"
    session = tmp_path / "Session1"
    codes = {"F000": "neu", "F001": "exc", "M000": "sad", "M001": "ang", "M002": "fru"}
    lines = [
        f"[{n}.0 - {n}.5]\t{dialogue}_{turn}\t{code}\t[2.5, 2.5, 2.5]\n" for n, (turn, code) in enumerate(codes.items())
    ]
    for folder in ("dialog/EmoEvaluation", "dialog/transcriptions", f"sentences/wav/{dialogue}"):
        (session / folder).mkdir(parents=True)
    (session / f"dialog/EmoEvaluation/{dialogue}.txt").write_text("\n".join(lines), encoding="utf-8")
    (session / f"dialog/transcriptions/{dialogue}.txt").write_text(f"{dialogue}_F000 [0-1]: Hi\n", encoding="utf-8")
    for turn in codes:
        (session / f"sentences/wav/{dialogue}/{dialogue}_{turn}.wav").write_bytes(b"sound")
    lists = put(
        tmp_path / "lists",
        "IEMOCAP",
        train=[f"/home/x/{dialogue}_F000.wav,Hi,2"],
        val=[f"/home/x/{dialogue}_F001.wav,Hi,1"],
        test=[f"/home/x/{dialogue}_M000.wav,Hi,3"],
    )
    found = corpora.load("iemocap", tmp_path, label_set="5531", lists=lists)
    assert found.table["label"].tolist() == ["neutral", "happy", "sad"]
    assert found.table["split"].tolist() == ["train", "validation", "test"]
    assert found.table["position"].tolist() == [0, 1, 2]
    assert [p for p in found.problems if p.severity == "error"] == []
    with pytest.raises(CorpusError, match="lists are of label_set=5531"):
        corpora.load("iemocap", tmp_path, lists=lists)


@pytest.mark.data
def test_lists_of_meld(data_root: Path, tmp_path: Path) -> None:
    # Lists of the owners' utterances, less the two damaged clips, with the numbers that the lists have for classes.
    numbers = {"neutral": 0, "joy": 1, "anger": 2, "sadness": 3, "disgust": 4, "fear": 5, "surprise": 6}
    meld = corpora.load("meld", data_root / "meld")
    table = meld.table[~meld.table["id"].isin(["train_dia125_utt3", "dev_dia110_utt7"])]
    names = {"train": "train", "validation": "val", "test": "test"}
    put(
        tmp_path,
        "MELD",
        **{
            names[str(split)]: [f"/x/{c}.wav,t,{numbers[y]}" for c, y in zip(g["clip"], g["label"], strict=True)]
            for split, g in table.groupby("split")
        },
    )
    found = corpora.load("meld", data_root / "meld", lists=tmp_path)
    assert found.problems == ()
    (split,) = create_protocol("official").splits(found, seed=0)
    assert [len(split.train), len(split.validation), len(split.test)] == [9988, 1108, 2610]
    with pytest.raises(CorpusError, match="lists are of emotions"):
        corpora.load("meld", data_root / "meld", lists=tmp_path, label="sentiment")
