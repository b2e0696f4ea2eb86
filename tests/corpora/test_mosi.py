"""CMU-MOSI as a table with vectors beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from graphophone import corpora
from graphophone.corpora import CorpusError
from graphophone.evaluation.protocols import create_protocol

DIMS = {"audio": 3, "text": 4, "video": 2}


def arrays(count: int) -> dict[str, np.ndarray]:
    """Numbers that tell the row and the modality."""
    return {
        name: (100.0 * index + np.arange(count)[:, None] + np.zeros(dims)).astype(np.float32)
        for index, (name, dims) in enumerate(DIMS.items())
    }


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    rows = [
        f'v{video}_{position},v{video},{position},{"test" if video > 5 else "train"},"UH, FILM {video}",{position % 2}'
        for video in range(8)
        for position in range(1, 4)
    ]
    (tmp_path / "utterances.csv").write_text(
        "\n".join(["utterance,video,position,split,text,label", *rows]) + "\n", encoding="utf-8"
    )
    np.savez(tmp_path / "features.npz", **arrays(len(rows)))  # type: ignore[arg-type]
    return tmp_path


def test_utterances_have_their_vectors(tree: Path) -> None:
    found = corpora.load("mosi", tree)
    assert found.problems == ()
    assert found.classes == ("negative", "positive")
    assert found.table["label"].tolist()[:3] == ["positive", "negative", "positive"]
    assert found.table["dialogue"].tolist()[:4] == ["v0", "v0", "v0", "v1"]
    assert found.table["position"].tolist()[:4] == [1, 2, 3, 1]
    assert found.table["text"].iloc[0] == "UH, FILM 0"
    assert "speaker" not in found.table
    assert "audio" not in found.table
    given = found.given
    assert given is not None
    assert {name: (part.start, part.stop) for name, part in given.parts.items()} == {
        "text": (0, 4),
        "audio": (4, 7),
        "video": (7, 9),
    }
    some = found.select([5, 20])
    for name, array in arrays(24).items():
        np.testing.assert_array_equal(given.part(name)[some.table["node"]], array[[5, 20]])


def test_chosen_modalities_keep_their_order(tree: Path) -> None:
    for wanted in ("video,text", ["video", "text"]):
        given = corpora.load("mosi", tree, modalities=wanted).given
        assert given is not None
        assert list(given.parts) == ["text", "video"]
        assert given.vectors.shape == (24, 6)
    with pytest.raises(CorpusError, match=r"unknown modality 'vidoe'\. Did you mean 'video'"):
        corpora.load("mosi", tree, modalities="vidoe")
    with pytest.raises(CorpusError, match="modalities is empty"):
        corpora.load("mosi", tree, modalities=[])


def test_validation_is_whole_videos_of_the_training_part(tree: Path) -> None:
    found = corpora.load("mosi", tree)
    protocol = create_protocol("official", validation=0.3, validation_by="dialogue")
    (split,) = protocol.splits(found, seed=0)
    dialogue = found.table["dialogue"]
    chosen = {part: set(dialogue.iloc[getattr(split, part)]) for part in ("train", "validation", "test")}
    assert chosen["test"] == {"v6", "v7"}
    assert len(chosen["validation"]) == 2
    assert chosen["train"].isdisjoint(chosen["validation"])
    assert "whole values of dialogue" in protocol.description
    drawn = {tuple(protocol.splits(found, seed=seed)[0].validation) for seed in range(5)}
    assert len(drawn) > 1, "every seed has validation videos of its own"


def test_an_unusable_row_does_not_move_the_vectors(tree: Path) -> None:
    frame = pd.read_csv(tree / "utterances.csv", dtype=str)
    frame.loc[2, "label"] = "2"
    frame.to_csv(tree / "utterances.csv", index=False)
    found = corpora.load("mosi", tree)
    assert [str(problem) for problem in found.problems] == ["row 4, v0_3: unknown label '2'. Known: negative, positive"]
    assert found.given is not None
    row = int(found.table.index[found.table["id"] == "v1_1"][0])
    assert found.given.part("text")[found.table["node"][row], 0] == 103


@pytest.mark.parametrize(
    ("replacement", "message"),
    [
        ({"audio": np.zeros((24, 3)), "text": np.zeros((24, 4))}, "no array 'video'; it holds audio, text"),
        ({**arrays(24), "text": np.zeros((23, 4))}, r"text is float64 \[23, 4\], not numbers for each of the 24 rows"),
        ({**arrays(24), "text": np.full((24, 4), np.nan)}, "no item has text"),
        ({**arrays(24), "text": np.array([{}] * 24)}, "damaged"),
        (None, "damaged"),
    ],
)
def test_damaged_vectors_are_refused(tree: Path, replacement: dict[str, np.ndarray] | None, message: str) -> None:
    path = tree / "features.npz"
    if replacement is None:
        path.write_bytes(path.read_bytes()[:200])
    else:
        np.savez(path, **replacement)  # type: ignore[arg-type]
    with pytest.raises(CorpusError, match=message):
        corpora.load("mosi", tree)


def test_missing_files_and_columns_are_named(tree: Path) -> None:
    text = (tree / "utterances.csv").read_text(encoding="utf-8")
    (tree / "utterances.csv").write_text(text + "v9_1,v9,1,test,A, B,1\n", encoding="utf-8")
    with pytest.raises(CorpusError, match="row 26: 7 cells where the header has 6"):
        corpora.load("mosi", tree)
    (tree / "utterances.csv").write_text(text.replace("video", "film", 1), encoding="utf-8")
    with pytest.raises(CorpusError, match="no column 'video'"):
        corpora.load("mosi", tree)
    (tree / "features.npz").unlink()
    with pytest.raises(CorpusError, match=r"features\.npz is not there"):
        corpora.load("mosi", tree)


@pytest.mark.data
def test_the_published_corpus(data_root: Path) -> None:
    found = corpora.load("mosi", data_root / "mosi")
    assert found.problems == ()
    assert found.class_counts().tolist() == [1023, 1176]
    assert found.given is not None
    assert [found.given.part(name).shape for name in ("text", "audio", "video")] == [
        (2199, 100),
        (2199, 73),
        (2199, 100),
    ]
    videos = found.table.groupby("split")["dialogue"].nunique()
    assert videos.to_dict() == {"test": 31, "train": 62}
    assert (found.table.groupby("dialogue")["position"].diff().dropna() == 1).all()
    (split,) = create_protocol("official", validation=0.16, validation_by="dialogue").splits(found, seed=0)
    assert 9 <= found.table["dialogue"].iloc[split.validation].nunique() <= 11
    assert len(split.test) == 752
