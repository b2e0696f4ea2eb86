"""ESC-50 and ESC-10, in small and (ESC-10, where it is there) whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from graphophone import corpora
from graphophone.corpora import CorpusError
from graphophone.corpora.esc50 import load
from graphophone.evaluation import create_protocol

MakeSound = Callable[..., Path]

HEADER = "filename,fold,target,category,esc10,src_file,take"
ROWS = [
    "1-100-A-0.wav,1,0,dog,True,100,A",
    "1-100-B-0.wav,1,0,dog,True,100,B",
    "2-200-A-14.wav,2,14,chirping_birds,False,200,A",
    "3-300-A-1.wav,3,1,rooster,True,300,A",
    "4-400-A-3.wav,4,3,cow,False,400,A",
]


def put(root: Path, rows: list[str] = ROWS, suffix: str = ".wav", header: str = HEADER) -> Path:
    (root / "meta").mkdir(parents=True, exist_ok=True)
    (root / "meta/esc50.csv").write_text("\n".join([header, *rows]) + "\n", "utf-8")
    (root / "audio").mkdir(exist_ok=True)
    for row in rows:
        (root / "audio" / Path(row.split(",")[0]).with_suffix(suffix)).write_bytes(b"sound")
    return root


def reasons(corpus: corpora.Corpus) -> dict[str, str]:
    return {problem.item: problem.reason for problem in corpus.problems}


def test_classes_are_categories_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    found = corpora.load("esc50", put(tmp_path))
    assert (found.name, found.problems) == ("esc50", ())
    assert found.classes == ("dog", "rooster", "cow", "chirping_birds")
    assert found.targets.tolist() == [0, 0, 3, 1, 2]
    table = found.table
    assert table["id"].tolist() == ["1-100-A-0", "1-100-B-0", "2-200-A-14", "3-300-A-1", "4-400-A-3"]
    assert table["fold"].tolist() == [1, 1, 2, 3, 4]
    assert table["source"].tolist() == ["100", "100", "200", "300", "400"]
    assert table["take"].tolist() == ["A", "B", "A", "A", "A"]
    assert table["row"].tolist() == [2, 3, 4, 5, 6]
    assert table["audio"][0] == str(tmp_path / "audio/1-100-A-0.wav")
    assert found.licence == "CC BY-NC 3.0"


def test_the_ten_classes_by_option_or_because_no_others_are_there(tmp_path: Path) -> None:
    ten = load(put(tmp_path), subset="esc10")
    assert (ten.name, ten.classes, len(ten), ten.licence) == ("esc10", ("dog", "rooster"), 3, "CC BY 3.0")
    assert ten.problems == (), "clips of the other classes are not in the way"
    assert ten.table["row"].tolist() == [2, 3, 5]
    alone = load(put(tmp_path / "alone", [row for row in ROWS if "True" in row]))
    assert (alone.name, alone.classes, alone.licence) == (ten.name, ten.classes, ten.licence)
    with pytest.raises(CorpusError, match="subset='esc20' is not one of esc50, esc10"):
        load(tmp_path, subset="esc20")  # type: ignore[arg-type]
    with pytest.raises(CorpusError, match="no row of esc10"):
        load(put(tmp_path / "others", [ROWS[2]]), subset="esc10")


@pytest.mark.parametrize("suffix", [".ogg", ".flac", ".OGG"])
def test_copies_in_another_format(tmp_path: Path, suffix: str) -> None:
    found = load(put(tmp_path, suffix=suffix))
    assert found.problems == ()
    assert {Path(path).suffix for path in found.table["audio"]} == {suffix}


def test_of_several_copies_the_published_one_is_read(tmp_path: Path) -> None:
    put(tmp_path, suffix=".ogg")
    put(tmp_path, suffix=".flac")
    assert {Path(path).suffix for path in load(tmp_path).table["audio"]} == {".flac"}
    put(tmp_path)
    assert {Path(path).suffix for path in load(tmp_path).table["audio"]} == {".wav"}


def test_defects_are_named(tmp_path: Path) -> None:
    put(
        tmp_path,
        [*ROWS, "5-500-A-x.wav,5,x,cow,False,500,A", "5-501-A-3.wav,five,3,cow,False,501,A", "5-502-A-3.wav,5"],
    )
    (tmp_path / "audio/4-400-A-3.wav").unlink()
    (tmp_path / "audio/noise.wav").write_bytes(b"sound")
    (tmp_path / "audio/._1-100-A-0.wav").write_bytes(b"sound")
    found = load(tmp_path)
    assert len(found) == 4
    assert found.classes == ("dog", "rooster", "cow", "chirping_birds"), "a class keeps its number without its clips"
    assert reasons(found) == {
        "row 9": "2 cells where the header has 7; put cells that hold ',' in quotes",
        "5-502-A-3.wav": "not in esc50.csv: it has no class",
        "noise.wav": "not in esc50.csv: it has no class",
        "5-500-A-x.wav": "target 'x' is not a whole number",
        "4-400-A-3": f"file not found: {tmp_path}/audio/4-400-A-3.wav",
        "5-501-A-3": "fold 'five' is not a whole number",
    }
    assert {problem.row for problem in found.problems} == {None, 6, 7, 8, 9}


def test_sources_in_two_folds_are_a_warning(tmp_path: Path, make_sound: MakeSound) -> None:
    found = load(put(tmp_path, [*ROWS, "5-100-C-0.wav,5,0,dog,True,100,C"]))
    (problem,) = found.problems
    assert str(problem).startswith("source 100: its clips are in the folds 1, 5: results on them will be too good")
    assert problem.severity == "warning"
    assert len(found) == 6
    for path in found.table["audio"]:
        make_sound(Path(path))
    report = corpora.check(found, decode=False, progress=False)
    assert report.notes[-1] == "in more than one fold: 1 source (100)"
    assert not any("voices" in note for note in report.notes)


@pytest.mark.parametrize(
    ("rows", "header", "match"),
    [
        (ROWS, HEADER.replace("src_file", "source"), r"no column 'src_file', but filename, .*; download"),
        ([*ROWS, "5-1-A-0.wav,5,0,cat,False,1,A"], HEADER, "target 0 is both dog and cat"),
        ([*ROWS, "5-1-A-9.wav,5,9,dog,False,1,A"], HEADER, "label dog is both 0 and 9"),
        (["5-1-A-9.wav,5,?,dog,False,1,A"], HEADER, "no row of esc50"),
    ],
)
def test_a_wrong_table_is_one_line(tmp_path: Path, rows: list[str], header: str, match: str) -> None:
    with pytest.raises(CorpusError, match=match) as error:
        load(put(tmp_path, rows, header=header))
    assert "\n" not in str(error.value)


def test_a_wrong_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"there is no .*esc50\.csv; give the folder that the archive unpacks to"):
        load(tmp_path)
    put(tmp_path)
    for path in (tmp_path / "audio").iterdir():
        path.unlink()
    with pytest.raises(CorpusError, match="none of 5 rows is usable; the first: row 2, 1-100-A-0: file not found"):
        load(tmp_path)


@pytest.fixture
def real(data_root: Path) -> corpora.Corpus:
    root = data_root / "esc10"
    if not root.is_dir():
        pytest.skip("there is no esc10 below GRAPHOPHONE_DATA")
    return corpora.load("esc50", root)


@pytest.mark.data
def test_the_real_ten_classes(real: corpora.Corpus) -> None:
    assert (real.name, len(real), real.problems) == ("esc10", 400, ())
    assert real.classes == (
        *("dog", "rooster", "rain", "sea_waves", "crackling_fire"),
        *("crying_baby", "sneezing", "clock_tick", "helicopter", "chainsaw"),
    )
    assert real.class_counts().tolist() == [40] * 10
    assert real.summary()["folds"] == {str(fold): 80 for fold in range(1, 6)}
    assert real.table.groupby("fold")["label"].value_counts().tolist() == [8] * 50
    assert real.table.groupby("source")["fold"].nunique().max() == 1
    ten = corpora.load("esc50", Path(real.table["audio"][0]).parents[1], subset="esc10")
    assert ten.table.equals(real.table)
    assert dataclasses.replace(ten, table=real.table).summary() == real.summary()


@pytest.mark.data
def test_the_real_ten_classes_are_whole(real: corpora.Corpus) -> None:
    report = corpora.check(real, decode=False, progress=False)
    assert report.ok
    assert report.rates == {44100: 400}
    assert report.durations.sum() == pytest.approx(2000, abs=5)
    assert np.median(report.durations) == pytest.approx(5.0, abs=0.01)
    assert (report.durations.min(), report.durations.max()) == pytest.approx((3.64, 7.24), abs=0.01)
    assert report.notes == ()


@pytest.mark.data
def test_the_real_folds(real: corpora.Corpus) -> None:
    splits = create_protocol("folds", validation="none").splits(real)
    assert [(len(s.train), len(s.validation), len(s.test), s.notes) for s in splits] == [(320, 0, 80, ())] * 5
    for split in create_protocol("folds", validation="carve").splits(real):
        sources = [set(real.table["source"].iloc[part]) for part in (split.train, split.validation, split.test)]
        assert not sources[0] & sources[1]
        assert not sources[0] & sources[2]
        assert not split.notes, "every class is in the carved part"
        assert 28 <= len(split.validation) <= 38
    (split,) = create_protocol("stratified").splits(real)
    assert "test items are cut out of recordings that others for training or validation are" in split.notes[0]
