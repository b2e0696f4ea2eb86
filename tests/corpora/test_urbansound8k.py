"""UrbanSound8K, in small."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphophone import corpora
from graphophone.corpora import CorpusError
from graphophone.corpora.urbansound8k import CLASSES, load
from graphophone.evaluation import create_protocol

HEADER = "slice_file_name,fsID,start,end,salience,fold,classID,class"


def put(root: Path, rows: list[str], suffix: str = ".wav") -> Path:
    (root / "metadata").mkdir(parents=True, exist_ok=True)
    (root / "metadata/UrbanSound8K.csv").write_text("\n".join([HEADER, *rows]) + "\n", "utf-8")
    for row in rows:
        name, fold = row.split(",")[0], row.split(",")[5]
        path = root / "audio" / f"fold{fold}" / Path(name).with_suffix(suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"sound")
    return root


def small() -> list[str]:
    """Two clips of one recording of each class in each of ten folds."""
    return [
        f"{100 * fold + number}-{number}-0-{take}.wav,{100 * fold + number},{take * 4}.0,{take * 4 + 4}.0,"
        f"{take + 1},{fold},{number},{label}"
        for fold in range(1, 11)
        for number, label in enumerate(CLASSES)
        for take in range(2)
    ]


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_columns_and_folds(tmp_path: Path, suffix: str) -> None:
    found = corpora.load("urbansound8k", put(tmp_path, small(), suffix))
    assert (len(found), found.classes, found.problems) == (200, CLASSES, ())
    assert found.summary()["folds"] == {str(fold): 20 for fold in range(1, 11)}
    first = found.table.iloc[1]
    assert first["audio"] == str(tmp_path / f"audio/fold1/100-0-0-1{suffix}")
    assert (first["id"], first["source"], first["salience"]) == ("100-0-0-1", "100", "background")
    assert (first["source_start"], first["source_end"], first["row"]) == (4.0, 8.0, 3)
    assert "start" not in found.table, "a clip is a whole file: its place in the recording is not a segment of it"


def test_the_published_folds_keep_recordings_apart_and_random_ones_do_not(tmp_path: Path) -> None:
    found = load(put(tmp_path, small()))
    assert len(create_protocol("folds").splits(found)) == 10
    assert not any(split.notes for split in create_protocol("folds").splits(found))
    (split,) = create_protocol("stratified").splits(found)
    sources = found.table["source"]
    shared = sources.iloc[split.test].isin(sources.iloc[[*split.train, *split.validation]]).sum()
    assert shared > 20
    assert split.notes == (
        f"{shared} of 40 test items are cut out of recordings that others for training or validation are cut out "
        "of: the result does not tell how well the model does on new recordings",
    )


def test_defects_are_named(tmp_path: Path) -> None:
    rows = [
        "1-0-0-0.wav,1,0,4,1,1,0,air_conditioner",
        "1-0-0-1.wav,1,4,8,1,2,0,air_conditioner",
        "2-1-0-0.wav,2,0,4,1,2,1,car_hron",
        "3-1-0-0.wav,3,0,4,1,3,1,car_horn",
    ]
    put(tmp_path, rows)
    (tmp_path / "audio/fold3/3-1-0-0.wav").unlink()
    (tmp_path / "audio/fold3/.DS_Store").write_bytes(b"")
    (tmp_path / "audio/fold3/9-9-9-9.wav").write_bytes(b"sound")
    found = load(tmp_path)
    assert len(found) == 2
    assert [str(problem).partition(". Did")[0] for problem in found.problems] == [
        "9-9-9-9.wav: not in UrbanSound8K.csv: it has no class",
        "row 4, 2-1-0-0: unknown label 'car_hron'",
        f"row 5, 3-1-0-0: file not found: {tmp_path}/audio/fold3/3-1-0-0.wav",
        "source 1: its clips are in the folds 1, 2: results on them will be too good; restore the published folds",
    ]
    with pytest.raises(CorpusError, match=r"there is no .*UrbanSound8K\.csv"):
        load(tmp_path / "audio")
