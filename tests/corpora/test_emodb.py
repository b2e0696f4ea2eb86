"""EmoDB in both of its published layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphophone import corpora
from graphophone.corpora import CorpusError
from graphophone.corpora.emodb import EMOTIONS, load


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"sound")
    return root


def test_names_say_everything(tmp_path: Path) -> None:
    put(
        tmp_path,
        "wav/03a01Wa.wav",
        "wav/08b10Fd.wav",
        "wav/16a04La.wav",
        "wav/15b09Ea.wav",
        "lablaut/03a01Wa.lablaut",
    )
    found = corpora.load("emodb", tmp_path)
    assert found.problems == ()
    assert found.classes == ("angry", "bored", "disgust", "fearful", "happy", "neutral", "sad")
    table = found.table.set_index("id")
    assert table["label"].to_dict() == {
        "03a01Wa": "angry",
        "08b10Fd": "happy",
        "15b09Ea": "disgust",
        "16a04La": "bored",
    }
    assert table["speaker"].tolist() == ["03", "08", "15", "16"]
    assert table["gender"].tolist() == ["male", "female", "male", "female"]
    assert table["split"].tolist() == ["train", "train", "test", "test"]
    assert table["fold"].tolist() == [0, 0, 4, 4]
    assert table.loc["03a01Wa", "text"] == "Der Lappen liegt auf dem Eisschrank."
    assert table.loc["08b10Fd", "version"] == "d"
    assert "agreement" not in table


def test_all_letters_and_speakers(tmp_path: Path) -> None:
    speakers = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
    put(tmp_path, *(f"{speaker}a02{letter}a.wav" for speaker in speakers for letter in EMOTIONS))
    found = load(tmp_path)
    assert len(found) == 70
    assert found.class_counts().tolist() == [10] * 7
    assert found.table.groupby("fold")["speaker"].nunique().tolist() == [2] * 5
    assert (found.table.groupby("fold")["gender"].nunique() == 2).all()
    assert found.table.groupby("split")["speaker"].nunique().to_dict() == {"test": 4, "train": 6}


def test_tables_of_the_gold_standard_choose_the_recordings(tmp_path: Path) -> None:
    put(tmp_path, "emodb/wav/03a01Wa.wav", "emodb/wav/12b01Na.wav", "emodb/wav/03a02Wb.wav")
    for part, row in (("train", "wav/03a01Wa.wav,anger,0.97"), ("test", "wav/12b01Na.wav,neutral,")):
        table = tmp_path / f"emodb/db.emotion.categories.{part}.gold_standard.csv"
        table.write_text(f"file,emotion,emotion.confidence\n{row}\n", encoding="utf-8")
    found = load(tmp_path)
    assert found.table["id"].tolist() == ["03a01Wa", "12b01Na"]
    np.testing.assert_array_equal(found.table["agreement"], [0.97, np.nan])
    everything = load(tmp_path, ambiguous=True)
    assert everything.table["id"].tolist() == ["03a01Wa", "03a02Wb", "12b01Na"]
    np.testing.assert_array_equal(everything.table["agreement"], [0.97, np.nan, np.nan])


def test_defects_are_named(tmp_path: Path) -> None:
    put(tmp_path, "03a01Wa.wav", "04a01Wa.wav", "03a01Xa.wav", "03a03Wa.wav", "song.wav", "copy/03a01Wa.wav")
    found = load(tmp_path)
    assert found.table["id"].tolist() == ["03a01Wa"]
    reasons = {problem.item: problem.reason.partition(" in its name")[0] for problem in found.problems}
    assert reasons.pop("song.wav").startswith("its name is not two digits of the speaker")
    assert reasons == {
        "04a01Wa.wav": "unknown speaker 04",
        "03a01Xa.wav": "unknown emotion X",
        "03a03Wa.wav": "unknown text a03",
        "03a01Wa": "duplicate id",
    }


def test_wrong_folders_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no recording named as"):
        load(tmp_path)
    put(tmp_path, "03a01Wa.wav")
    (tmp_path / "db.emotion.categories.test.gold_standard.csv").write_text("name\nx\n", encoding="utf-8")
    with pytest.raises(CorpusError, match="no column `file`"):
        load(tmp_path)
