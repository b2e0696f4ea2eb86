"""Published pickles of features become a table and vectors."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from graphophone import corpora
from graphophone.cli import main
from graphophone.corpora.base import CorpusError
from graphophone.corpora.published import convert


def put(path: Path, content: Any, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def items(count: int, first: int) -> list[dict[str, torch.Tensor]]:
    """Items as extraction scripts leave them."""
    return [
        {
            "text_embed": torch.full((4,), float(first + n)),
            "audio_embed": torch.full((3,), -float(first + n)),
            "label": torch.tensor(n % 2),
        }
        for n in range(count)
    ]


def test_items_of_several_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [
        put(tmp_path / f"ABC_BERT_{part}.pkl", items(3, n)) for n, part in ((0, "train"), (10, "val"), (20, "test"))
    ]
    code = main(["corpora", "convert", *map(str, files), "--output", str(tmp_path / "out"), "--classes", "angry,happy"])
    assert code == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "9 items with text of 4 numbers, audio of 3 numbers; columns id, label, split" in told
    found = corpora.load("features", tmp_path / "out")
    assert found.classes == ("angry", "happy")
    assert found.table["split"].tolist() == ["train"] * 3 + ["validation"] * 3 + ["test"] * 3
    assert found.table["label"].tolist()[:3] == ["angry", "happy", "angry"]
    assert found.given is not None
    assert found.given.part("text")[:, 0].tolist() == [0, 1, 2, 10, 11, 12, 20, 21, 22]
    assert found.given.part("audio")[8].tolist() == [-22, -22, -22]


def test_conversations_in_tuples(tmp_path: Path) -> None:
    turns = {"d1": 3, "d2": 2}
    roberta = {key: [np.full(2, n, dtype=np.float32) for n in range(count)] for key, count in turns.items()}
    audio = {key: np.arange(count * 2.0).reshape(count, 2) for key, count in turns.items()}
    one = put(
        tmp_path / "features.pkl",
        (
            {"d1": ["d1_a", "d1_b", "d1_c"], "d2": ["d2_a", "d2_b"]},
            {"d1": [[1, 0], [0, 1], [1, 0]], "d2": [[0, 1], [0, 1]]},
            {"d1": [0, 1, 0], "d2": [1, 1]},
            audio,
            {"d1": ["Hi.", "It\x92s me", "Oh"], "d2": ["No", "Yes"]},
            ["d1"],
            ["d2"],
            7,
        ),
    )
    other = put(tmp_path / "roberta.pkl", (roberta, roberta))
    made = convert(
        [one, other],
        tmp_path / "out",
        names=[
            ["videoIDs", "speakers", "labels", "audio", "sentences", "trainVid", "testVid", "rest"],
            ["roberta1", "roberta2"],
        ],
        rename={"roberta1": "text", "roberta2": "second"},
    )
    assert made.left_out == ("rest: neither of conversations nor a part of a split",)
    found = corpora.load("features", tmp_path / "out")
    table = found.table
    assert table["id"].tolist() == ["d1_a", "d1_b", "d1_c", "d2_a", "d2_b"]
    assert table["dialogue"].tolist() == ["d1"] * 3 + ["d2"] * 2
    assert table["position"].tolist() == [0, 1, 2, 0, 1]
    assert table["speaker"].tolist() == ["0", "1", "0", "1", "1"]
    assert table["label"].tolist() == ["0", "1", "0", "1", "1"]
    assert table["split"].tolist() == ["train"] * 3 + ["test"] * 2
    assert table["text"].tolist()[1] == "It\u2019s me"
    assert found.given is not None
    assert list(found.given.parts) == ["text", "audio"]
    assert found.given.part("text")[:, 0].tolist() == [0, 1, 2, 0, 1]
    assert found.given.part("audio")[4].tolist() == [2, 3]
    assert set(made.vectors) == {"audio", "text", "second"}


def test_columns_by_part_of_a_split(tmp_path: Path) -> None:
    def part(count: int) -> dict[str, Any]:
        return {
            "vision": np.ones((count, 2)),
            "raw_text": np.array(["well"] * count),
            "labels": np.arange(count),
            "long": np.ones((count, 5, 2)),
            "note": "made by hand",
        }

    made = convert([put(tmp_path / "all.pkl", {"train": part(3), "valid": part(1), "test": part(2)})], tmp_path / "out")
    frame = pd.read_csv(tmp_path / "out" / "items.csv")
    assert frame["split"].tolist() == ["train"] * 3 + ["validation"] + ["test"] * 2
    assert frame["text"].tolist() == ["well"] * 6
    assert frame["label"].tolist() == [0, 1, 2, 0, 0, 1]
    assert frame["id"].tolist() == list(range(6))
    assert list(made.vectors) == ["video"]
    assert "long: sequences of different lengths, or of several dimensions" in made.left_out
    assert "all.pkl, note: not a sequence of 3 items" in made.left_out


def test_items_that_lack_a_modality(tmp_path: Path) -> None:
    rows = [{"text": np.ones(2), "audio": None, "label": "a"}, {"text": np.ones(2), "audio": np.ones(3), "label": None}]
    made = convert([put(tmp_path / "a.pkl", rows)], tmp_path / "out")
    assert np.isnan(made.vectors["audio"]).all(axis=1).tolist() == [True, False]
    found = corpora.load("features", tmp_path / "out", unlabelled=True)
    assert found.table["label"].tolist() == ["a", ""]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (3, {}, "its arrangement is not known"),
        (({"a": [1]}, {"a": [2]}), {}, "a tuple of 2 members; give 2 names"),
        (({"a": [1]},), {"names": [["x", "y"]]}, "give 1 names, not 2"),
        ({"x": {"a": [1], "b": [2]}, "y": {"a": [1, 2], "b": [1]}}, {}, r"conversation 'a' has \[1, 2\] utterances"),
        ([{"label": 1}], {}, "no vectors among label"),
        ([{"text": [1.0, 2.0], "label": 1}], {"rename": {"words": "text"}}, "nothing is named 'words'"),
        ([{"text": [1.0, 2.0], "label": 5}], {"classes": ["a", "b"]}, "label '5' is not a number from 0 to 1"),
        ([{"text": [1.0], "b": [2.0]}], {"rename": {"b": "text"}}, "two members are 'text', the second being 'b'"),
        ([{"text": [1.0]}], {"names": [["a"], ["b"]]}, "2 lists of names for 1 files"),
    ],
)
def test_what_cannot_be_converted_is_one_line(
    tmp_path: Path, content: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(CorpusError, match=message) as caught:
        convert([put(tmp_path / "a.pkl", content)], tmp_path / "out", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_word_that_is_no_pair_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = put(tmp_path / "a.pkl", items(2, 0))
    with pytest.raises(SystemExit):
        main(["corpora", "convert", str(file), "--output", str(tmp_path / "out"), "--rename", "text"])
    assert "--rename takes THEIRS=OURS" in capsys.readouterr().err
    with pytest.raises(CorpusError, match="no file to convert"):
        convert([], tmp_path / "out")
