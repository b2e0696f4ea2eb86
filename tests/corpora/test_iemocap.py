"""IEMOCAP: two tiny dialogues in the layout of the official release."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphophone import corpora
from graphophone.corpora import CorpusError
from graphophone.corpora.iemocap import load

IMPRO = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]
C-E2:\tNeutral;\t()
C-E3:\tNeutral;\t()
C-E4:\tNeutral; Sadness;\t()
C-F1:\tAnger;\t()
A-E3:\tval 3; act 2; dom  2;\t()
A-F1:\tval 3; act 2; dom  1;\t()

[11.9266 - 14.9872]\tSes01F_impro01_M001\tang\t[1.5000, 4.0000, 4.5000]
C-E2:\tAnger;\t()
C-E3:\tAnger;\t()
C-E4:\tFrustration;\t(impatient; cold)
C-M1:\tAnger;\t()

[7.5712 - 10.4750]\tSes01F_impro01_M000\texc\t[4.0000, 3.5000, 3.0000]
C-E2:\tExcited;\t()
C-E3:\tExcited;\t()
C-E4:\tHappiness;\t()

[15.0000 - 16.0000]\tSes01F_impro01_F001\txxx\t[2.0000, 3.0000, 2.5000]
C-E2:\tOther;\t(bored)
C-E3:\tSadness;\t()
C-E4:\tNeutral;\t()

[17.0000 - 18.5000]\tSes01F_impro01_F002\thap\t[4.0000, 3.0000, 3.0000]
C-E2:\tHappiness;\t()

[19.0000 - 20.0000]\tSes01F_impro01_M002\tfru\t[2.0000, 3.0000, 3.0000]
C-E2:\tFrustration;\t()
"""

SCRIPT = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[1.0000 - 2.0000]\tSes05M_script01_1b_F000\tsad\t[2.0000, 2.0000, 2.0000]
C-E5:\tSadness;\t()

[3.0000 - 4.0000]\tSes05M_script01_1b_M000\tneu\t[3.0000, 2.0000, 3.0000]
"""


def put(root: Path, dialogue: str, evaluation: str, transcript: str | None, names: list[str]) -> None:
    session = root / f"Session{dialogue[4]}"
    for folder in ("dialog/EmoEvaluation/Categorical", "dialog/transcriptions", f"sentences/wav/{dialogue}"):
        (session / folder).mkdir(parents=True, exist_ok=True)
    (session / f"dialog/EmoEvaluation/{dialogue}.txt").write_text(evaluation, encoding="utf-8")
    (session / f"dialog/EmoEvaluation/Categorical/{dialogue}_e2_cat.txt").write_text("x", encoding="utf-8")
    (session / f"dialog/EmoEvaluation/._{dialogue}.txt").write_bytes(b"\x00\x05")
    if transcript is not None:
        (session / f"dialog/transcriptions/{dialogue}.txt").write_bytes(transcript.encode("cp1252"))
    for name in names:
        (session / f"sentences/wav/{dialogue}/{name}.wav").write_bytes(b"sound")


@pytest.fixture
def release(tmp_path: Path) -> Path:
    put(
        tmp_path,
        "Ses01F_impro01",
        IMPRO,
        "Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.\n"
        "Ses01F_impro01_M000 [007.5712-010.4750]: Caf\u00e9?\nM: aside\n",
        [f"Ses01F_impro01_{turn}" for turn in ("F000", "F001", "F002", "M000", "M001", "M002")],
    )
    put(
        tmp_path,
        "Ses05M_script01_1b",
        SCRIPT,
        "Ses05M_script01_1b_F000 [001.0000-002.0000]: [BREATHING] Hi: you.\n",
        ["Ses05M_script01_1b_F000", "Ses05M_script01_1b_M000"],
    )
    for session in (2, 3, 4):
        put(tmp_path, f"Ses0{session}F_impro01", "% header\n", "", [])
    return tmp_path


def test_the_four_classes(release: Path) -> None:
    found = corpora.load("iemocap", release)
    assert found.problems == ()
    assert found.classes == ("angry", "happy", "neutral", "sad")
    table = found.table.set_index("id")
    assert table["label"].to_dict() == {
        "Ses01F_impro01_F000": "neutral",
        "Ses01F_impro01_M001": "angry",
        "Ses01F_impro01_F002": "happy",
        "Ses05M_script01_1b_F000": "sad",
        "Ses05M_script01_1b_M000": "neutral",
    }
    first = table.loc["Ses01F_impro01_F000"]
    assert first["audio"] == str(release / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav")
    assert first["speaker"] == "Ses01F"
    assert first["gender"] == "female"
    assert first["dialogue"] == "Ses01F_impro01"
    assert (first["session"], first["fold"], first["spontaneous"]) == (1, 0, 1)
    assert (first["valence"], first["arousal"], first["dominance"]) == (2.5, 2.5, 2.5)
    assert (first["dialogue_start"], first["dialogue_end"]) == (6.2901, 8.2357)
    assert first["text"] == "Excuse me."
    assert "start" not in table, "the recordings are cut: the times are those of the dialogue"
    other = table.loc["Ses05M_script01_1b_F000"]
    assert (other["speaker"], other["session"], other["fold"], other["spontaneous"]) == ("Ses05F", 5, 4, 0)
    assert other["dialogue"] == "Ses05M_script01_1b"
    assert other["text"] == "[BREATHING] Hi: you."
    assert table.loc["Ses05M_script01_1b_M000", "text"] == ""


def test_positions_count_all_utterances_in_time(release: Path) -> None:
    six = load(release, label_set="6").table.set_index("id")
    positions = six["position"].to_dict()
    assert positions == {
        "Ses01F_impro01_F000": 0,
        "Ses01F_impro01_M000": 1,
        "Ses01F_impro01_M001": 2,  # 3 is the one without agreement
        "Ses01F_impro01_F002": 4,
        "Ses01F_impro01_M002": 5,
        "Ses05M_script01_1b_F000": 0,
        "Ses05M_script01_1b_M000": 1,
    }
    assert six.loc["Ses01F_impro01_M000", "text"] == "Café?"


def test_turns_of_other_categories_can_stay_as_context(release: Path) -> None:
    found = load(release, unlabelled=True)
    assert found.classes == ("angry", "happy", "neutral", "sad")
    turns = found.table[found.table["dialogue"] == "Ses01F_impro01"]
    assert turns["position"].tolist() == [0, 1, 2, 3, 4, 5]
    assert turns["label"].tolist() == ["neutral", "", "angry", "", "happy", ""]
    assert turns["emotion"].tolist() == ["neu", "exc", "ang", "xxx", "hap", "fru"]
    assert turns["speaker"].tolist() == ["Ses01F", "Ses01M", "Ses01M", "Ses01F", "Ses01F", "Ses01M"]
    assert found.labelled.sum() == len(load(release)) == 5
    with pytest.raises(CorpusError, match="lists name labelled utterances only"):
        load(release, label_set=5531, lists=release, unlabelled=True)


def test_label_sets(release: Path) -> None:
    excited = "Ses01F_impro01_M000"
    five = load(release, label_set=5531)
    assert five.classes == ("angry", "happy", "neutral", "sad")
    assert five.table.set_index("id").loc[excited, ["label", "emotion"]].tolist() == ["happy", "exc"]
    six = load(release, label_set="6")
    assert six.classes == ("happy", "sad", "neutral", "angry", "excited", "frustrated")
    assert six.table.set_index("id").loc[excited, "label"] == "excited"
    assert [len(load(release, label_set=name)) for name in ("4490", "5531", "6")] == [5, 6, 7]
    with pytest.raises(CorpusError, match="label_set='seven' is not one of 4490, 5531, 6"):
        load(release, label_set="seven")


def test_votes_are_those_of_the_evaluators(release: Path) -> None:
    table = load(release, label_set="6").table.set_index("id")
    first = table.loc["Ses01F_impro01_F000"]
    assert first["evaluators"] == 3
    assert first["agreement"] == 1.0
    assert (first["votes_neutral"], first["votes_sad"], first["votes_angry"]) == (3, 1, 0)
    angry = table.loc["Ses01F_impro01_M001"]
    assert angry["agreement"] == pytest.approx(2 / 3)
    assert (angry["votes_angry"], angry["votes_frustrated"]) == (2, 1)
    assert table.loc["Ses01F_impro01_M000", "agreement"] == pytest.approx(2 / 3), "happy is not excited"
    assert table.loc["Ses05M_script01_1b_M000", "evaluators"] == 0
    assert np.isnan(table.loc["Ses05M_script01_1b_M000", "agreement"])


def test_the_folder_above_is_taken_too(release: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    above = tmp_path_factory.mktemp("above")
    release.rename(above / "IEMOCAP_full_release")
    assert len(load(above)) == 5


def test_defects_are_named(release: Path) -> None:
    session = release / "Session1"
    evaluation = session / "dialog/EmoEvaluation/Ses01F_impro01.txt"
    evaluation.write_text(
        IMPRO + "\n[21.0 - 22.0]\tSes01F_impro01_F003\tjoy\t[1.0, 2.0, 3.0]\n"
        "[23.0 - 24.0]\tSes01F_impro01_F004\tneu\n"
        "[23.0 - 24.0]\tSes01F_impro02_F004\tneu\t[1.0, 2.0, 3.0]\nC-E2:\tAnger;\t()\n",
        encoding="utf-8",
    )
    wavs = session / "sentences/wav/Ses01F_impro01"
    (wavs / "Ses01F_impro01_F000.wav").unlink()
    (wavs / "Ses01F_impro01_F099.wav").write_bytes(b"sound")
    (release / "Session5/dialog/transcriptions/Ses05M_script01_1b.txt").unlink()
    for file in (release / "Session4/dialog/EmoEvaluation").glob("*.txt"):
        file.unlink()
    found = load(release)
    missing = wavs / "Ses01F_impro01_F000.wav"
    assert [(problem.severity, str(problem)) for problem in found.problems] == [
        (
            "error",
            "Ses01F_impro01.txt, line 34: is not `[start - end] turn emotion [v, a, d]` of this dialogue: "
            "'[23.0 - 24.0]\\tSes01F_impro01_F004\\tneu'",
        ),
        (
            "error",
            "Ses01F_impro01.txt, line 35: is not `[start - end] turn emotion [v, a, d]` of this dialogue: "
            "'[23.0 - 24.0]\\tSes01F_impro02_F004\\tneu\\t[1.0, 2.0, 3.0]'",
        ),
        ("warning", "Ses01F_impro01_F099: not evaluated in Ses01F_impro01.txt; passed over"),
        (
            "error",
            "Ses01F_impro01_F003: unknown emotion 'joy'. Known: ang, dis, exc, fea, fru, hap, neu, oth, sad, sur, xxx",
        ),
        ("warning", "Session4: no dialog/EmoEvaluation/Ses*.txt; unpack it again"),
        (
            "warning",
            "Ses05M_script01_1b: no transcript: "
            f"{release / 'Session5/dialog/transcriptions/Ses05M_script01_1b.txt'} is not there",
        ),
        ("error", f"Ses01F_impro01_F000: file not found: {missing}"),
    ]
    assert len(found) == 4
    assert "Ses01F_impro01_M001" in set(found.table["id"])


def test_no_release_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no folder Session1 to Session5 in"):
        load(tmp_path)
    (tmp_path / "Session1").mkdir()
    with pytest.raises(CorpusError, match=r"no utterance of label set 4490 below .*the first problem: Session1"):
        load(tmp_path)
