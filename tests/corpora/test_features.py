"""A table of one's own with vectors beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from graphophone import corpora
from graphophone.corpora import CorpusError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    frame = pd.DataFrame(
        {
            "id": ["a", "b", "c", "d"],
            "emotion": ["sad", "glad", "", "sad"],
            "who": ["x", "y", "x", "y"],
            "split": ["train", "train", "dev", "test"],
        }
    )
    frame.to_csv(tmp_path / "mine.csv", index=False)
    audio = np.arange(8, dtype=np.float32).reshape(4, 2)
    audio[1] = np.nan
    np.savez(tmp_path / "mine.npz", audio=audio, text=np.arange(12.0).reshape(4, 3), other=np.arange(3))
    return tmp_path


def test_rows_keep_their_vectors(tree: Path) -> None:
    found = corpora.load("features", tree, label="emotion", speaker="who")
    assert found.name == tree.name
    assert found.classes == ("glad", "sad")
    assert found.table["id"].tolist() == ["a", "b", "d"]
    assert found.table["speaker"].tolist() == ["x", "y", "y"]
    assert [str(problem) for problem in found.problems] == ["row 4, c: no label"]
    assert found.given is not None
    assert list(found.given.parts) == ["text", "audio"]
    nodes = found.table["node"].to_numpy()
    np.testing.assert_array_equal(found.given.part("text")[nodes][2], [9, 10, 11])
    assert np.isnan(found.given.part("audio")[nodes][1]).all(), "the item lacks sound"
    assert len(corpora.load("features", tree, label="emotion", unlabelled=True)) == 4


def test_modalities_can_be_chosen(tree: Path) -> None:
    given = corpora.load("features", tree, label="emotion", modalities="audio").given
    assert given is not None
    assert list(given.parts) == ["audio"]
    with pytest.raises(CorpusError, match="no array 'video'; it holds audio, text, other"):
        corpora.load("features", tree, label="emotion", modalities=["video"])


def test_safetensors_and_usual_names_come_first(tree: Path) -> None:
    save_file({"video": np.ones((2, 5), dtype=np.float32)}, tree / "vectors.safetensors")
    pd.DataFrame({"label": ["1", "2"]}).to_csv(tree / "items.csv", index=False)
    found = corpora.load("features", tree)
    assert found.table["id"].tolist() == ["0", "1"]
    assert found.given is not None
    assert found.given.part("video").shape == (2, 5)
    again = corpora.load("features", tree, file="mine.csv", vectors="mine.npz", label="emotion", name="mine")
    assert (again.name, len(again)) == ("mine", 3)


def test_what_does_not_belong_together_is_refused(tree: Path) -> None:
    def refused(message: str, **options: object) -> None:
        with pytest.raises(CorpusError, match=message):
            corpora.load("features", tree, **{"label": "emotion", **options})

    refused("no column 'mood'", label="mood")
    refused(r"no\.npz is not there; correct vectors", vectors="no.npz")
    np.savez(tree / "mine.npz", audio=np.zeros((3, 2)))
    refused(r"audio is float64 \[3, 2\], not numbers for each of the 4 rows")
    np.savez(tree / "mine.npz", audio=np.array([[0, 1], [np.nan, 1], [0, 1], [0, 1]]))
    refused(r"audio of row 1 \(from 0\) is not finite")
    np.savez(tree / "mine.npz", audio=np.full((4, 2), np.nan))
    refused("no item has audio")
    np.savez(tree / "mine.npz", sound=np.zeros((4, 2)))
    refused("no array named text, audio, video; it holds sound")
    np.savez(tree / "mine.npz", text=np.array([[{}]] * 4))
    refused("damaged")
    (tree / "mine.npz").rename(tree / "mine.safetensors")
    refused("damaged")
    np.savez(tree / "more.npz", text=np.zeros((4, 2)))
    refused(r"holds 2: mine\.safetensors, more\.npz; name one with vectors=NAME")
    (tree / "mine.csv").write_text("id,emotion\na,sad,x\nb,sad\nc,sad\nd,sad\n", encoding="utf-8")
    refused("row 2: 3 cells where the header has 2", vectors="more.npz")
    (tree / "mine.csv").unlink()
    refused("holds none; name one with file=NAME")
