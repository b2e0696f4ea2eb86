"""MSP-IMPROV: a tiny release in its real layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphophone import corpora
from graphophone.corpora import CorpusError
from graphophone.corpora.msp_improv import load

EVALUATION = """UTD-IMPROV-S01A-F01-P-FM01.avi; N; A:2.400000; V:3.200000; D:3.000000 ; N:4.200000;
110001-p01; Neutral; Neutral,Concerned; A:2.000000; V:3.000000; D:3.000000; N:4.000000;
110002-p01; Neutral; Neutral; A:3.000000; V:3.000000; D:3.000000; N:4.000000;
110002-p01; Neutral; Neutral; A:3.000000; V:3.000000; D:3.000000; N:4.000000;
110003-p01; Happy; Happy,Excited; A:2.000000; V:4.000000; D:3.000000; N:5.000000;

UTD-IMPROV-S14H-M06-R-MM01.avi; H; A:3.000000; V:4.500000; D:NaN ; N:NaN;
110001-p02; Happy; Happy; A:3.000000; V:4.000000; D:NaN; N:NaN;
110002-p02; Other-Proud; Proud; A:3.000000; V:5.000000; D:NaN; N:NaN;

UTD-IMPROV-S02S-M03-T-FM02.avi; S; A:2.0; V:2.0; D:2.0 ; N:2.0;

UTD-IMPROV-S02S-M03-S-FM02.avi; X; A:2.0; V:2.0; D:2.0 ; N:2.0;
110001-p03; Sad; Sad; A:2.0; V:2.0; D:2.0; N:2.0;

UTD-IMPROV-S02S-F03-S-FM03.avi; O; A:2.0; V:2.0; D:2.0 ; N:2.0;

UTD-IMPROV-S20A-F03-S-MF03.avi; A; A:4.0; V:2.0; D:2.0 ; N:2.0;
"""
TAKEN = ("S01A-F01-P-FM01", "S14H-M06-R-MM01", "S02S-M03-T-FM02", "S20A-F03-S-MF03")


def wav(root: Path, name: str) -> Path:
    sentence, actor, scenario, _ = name.split("-")
    return root / f"session{int(actor[1:])}" / sentence / scenario / f"MSP-IMPROV-{name}.wav"


@pytest.fixture
def release(tmp_path: Path) -> Path:
    (tmp_path / "Evalution.txt").write_text(EVALUATION, encoding="utf-8")
    for name in (*TAKEN, "S02S-M03-S-FM02", "S02S-F03-S-FM03"):
        wav(tmp_path, name).parent.mkdir(parents=True, exist_ok=True)
        wav(tmp_path, name).write_bytes(b"sound")
        wav(tmp_path, name).with_suffix(".avi").write_bytes(b"picture")
    return tmp_path


def test_the_four_classes(release: Path) -> None:
    found = corpora.load("msp_improv", release)
    assert found.problems == ()
    assert found.classes == ("angry", "happy", "neutral", "sad")
    assert found.table["id"].tolist() == [f"MSP-IMPROV-{name}" for name in TAKEN]
    table = found.table
    assert table["label"].tolist() == ["neutral", "happy", "sad", "angry"]
    assert table["audio"].tolist() == [str(wav(release, name)) for name in TAKEN]
    assert table["speaker"].tolist() == ["F01", "M06", "M03", "F03"]
    assert table["session"].tolist() == [1, 6, 3, 3]
    assert table["fold"].tolist() == [0, 5, 2, 2]
    assert table["scenario"].tolist() == ["natural", "target read", "target improvised", "other improvised"]
    assert table["spontaneous"].tolist() == [1, 0, 1, 1]
    assert table["sentence"].tolist() == ["01", "14", "02", "20"]
    assert table["intended"].tolist() == ["angry", "happy", "sad", "angry"]
    assert table["turn"].tolist() == ["FM01", "MM01", "FM02", "MF03"]
    assert table["arousal"].tolist() == [2.4, 3.0, 2.0, 4.0]
    assert table["valence"].tolist() == [3.2, 4.5, 2.0, 2.0]
    np.testing.assert_array_equal(table["dominance"], [3.0, np.nan, 2.0, 2.0])
    np.testing.assert_array_equal(table["naturalness"], [4.2, np.nan, 2.0, 2.0])


def test_votes_count_every_evaluator_once(release: Path) -> None:
    table = load(release).table
    assert table["evaluators"].tolist() == [3, 2, 0, 0]
    assert table["votes_neutral"].tolist() == [2, 0, 0, 0]
    assert table["votes_happy"].tolist() == [1, 1, 0, 0]
    assert table["votes_other"].tolist() == [0, 1, 0, 0]
    np.testing.assert_allclose(table["agreement"], [2 / 3, 1 / 2, np.nan, np.nan])


def test_the_other_spelling_and_flat_audio(release: Path) -> None:
    (release / "labels").mkdir()
    (release / "Evalution.txt").rename(release / "labels/Evaluation.txt")
    flat = release / "Audio"
    flat.mkdir()
    for name in TAKEN:
        wav(release, name).rename(flat / wav(release, name).name)
    found = load(release)
    assert len(found) == 4
    assert Path(found.table["audio"].iloc[0]).parent == flat


def test_defects_are_named(release: Path) -> None:
    with (release / "Evalution.txt").open("a", encoding="utf-8") as file:
        file.write("\nUTD-IMPROV-S01A-F01-P-FM02.avi; Q; A:1.0; V:1.0; D:1.0 ; N:1.0;\n")
        file.write("\nUTD-IMPROV-S01A-F09-P-FM02.avi; N; A:1.0; V:1.0; D:1.0 ; N:1.0;\n")
        file.write("\nUTD-IMPROV-S01A-F01-P-FM01.avi; N; A:1.0; V:1.0; D:1.0 ; N:1.0;\n")
    wav(release, TAKEN[1]).unlink()
    wav(release, "S05N-F02-S-FM01").parent.mkdir(parents=True)
    wav(release, "S05N-F02-S-FM01").write_bytes(b"sound")
    (release / "zcopy").mkdir()
    (release / "zcopy" / wav(release, TAKEN[0]).name).write_bytes(b"sound")
    (release / "music.wav").write_bytes(b"sound")
    found = load(release)
    first, second = f"MSP-IMPROV-{TAKEN[0]}", f"MSP-IMPROV-{TAKEN[1]}"
    assert [(problem.severity, str(problem)) for problem in found.problems] == [
        ("warning", f"zcopy/{first}.wav: there twice; {wav(release, TAKEN[0])} is taken"),
        ("error", "MSP-IMPROV-S01A-F01-P-FM02: unknown emotion 'Q'. Known: A, H, N, S, O, X"),
        (
            "error",
            "MSP-IMPROV-S01A-F09-P-FM02: its name is not MSP-IMPROV-S01A-F01-P-FM01: "
            "sentence and its emotion, actor, condition, turn",
        ),
        ("warning", "MSP-IMPROV-S05N-F02-S-FM01: not in Evalution.txt; passed over"),
        ("error", f"{second}: file not found: {wav(release, TAKEN[1])}"),
        ("error", f"{first}: duplicate id"),
    ]
    assert len(found) == 3


def test_no_release_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no Evalution\.txt \(or Evaluation\.txt\) below"):
        load(tmp_path)
    (tmp_path / "Evaluation.txt").write_text("nothing\n", encoding="utf-8")
    with pytest.raises(CorpusError, match="no utterance of the four classes in"):
        load(tmp_path)
