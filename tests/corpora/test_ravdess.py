"""RAVDESS, in small and (where it is there) whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphophone import corpora
from graphophone.corpora import CorpusError
from graphophone.corpora.ravdess import CLASSES, load


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"sound")
    return root


def test_names_say_everything(tmp_path: Path) -> None:
    put(
        tmp_path,
        "Actor_01/03-01-01-01-01-01-01.wav",
        "Actor_04/03-01-05-02-02-02-04.wav",
        "Actor_24/03-01-08-02-01-01-24.wav",
        "audio/03-01-03-01-01-01-05.flac",
    )
    found = corpora.load("ravdess", tmp_path).table.set_index("speaker")
    assert corpora.load("ravdess", tmp_path).problems == ()
    assert found["label"].to_dict() == {"01": "neutral", "04": "angry", "24": "surprised", "05": "happy"}
    assert found["fold"].to_dict() == {"01": 0, "04": 0, "24": 5, "05": 1}
    assert found["gender"].to_dict() == {"01": "male", "04": "female", "24": "female", "05": "male"}
    assert found["intensity"].to_dict() == {"01": "normal", "04": "strong", "24": "strong", "05": "normal"}
    assert found.loc["04", "repetition"] == 2
    assert found.loc["04", "text"] == "Dogs are sitting by the door"
    assert found.loc["04", "id"] == "03-01-05-02-02-02-04"


def test_all_classes_are_there_in_the_published_order(tmp_path: Path) -> None:
    put(tmp_path, *(f"03-01-0{code}-01-01-01-01.wav" for code in range(1, 9)))
    found = load(tmp_path)
    assert found.classes == CLASSES
    assert found.targets.tolist() == list(range(8))


def test_song_by_option(tmp_path: Path) -> None:
    put(tmp_path, "03-01-01-01-01-01-01.wav", "03-02-01-01-01-01-01.wav", "01-01-01-01-01-01-01.wav")
    assert load(tmp_path).table["channel"].tolist() == ["speech"]
    assert load(tmp_path, channel="song").table["channel"].tolist() == ["song"]
    assert load(tmp_path, channel="both").table["channel"].tolist() == ["speech", "song"]
    with pytest.raises(CorpusError, match="channel='opera' is not one of speech, song, both"):
        load(tmp_path, channel="opera")  # type: ignore[arg-type]


def test_defects_are_named(tmp_path: Path) -> None:
    put(
        tmp_path,
        "Actor_01/03-01-01-01-01-01-01.wav",
        "copy/03-01-01-01-01-01-01.wav",
        "Actor_01/03-01-09-01-01-01-01.wav",
        "Actor_25/03-01-01-03-01-01-25.wav",
        "Actor_01/03-03-01-01-01-01-01.wav",
        "Actor_01/noise.wav",
        "Actor_01/._03-01-01-01-01-01-01.wav",
        "readme.txt",
    )
    found = load(tmp_path)
    assert len(found) == 1
    reasons = {problem.item: problem.reason for problem in found.problems}
    form = "modality-channel-emotion-intensity-statement-repetition-actor"
    assert reasons == {
        "03-01-01-01-01-01-01": "duplicate id",
        "03-01-09-01-01-01-01.wav": f"unknown emotion 09 in its name ({form})",
        "03-01-01-03-01-01-25.wav": f"unknown intensity 03, actor 25 in its name ({form})",
        "03-03-01-01-01-01-01.wav": f"unknown channel 03 in its name ({form})",
        "noise.wav": f"its name is not {form}, seven times two digits",
    }
    assert all(problem.severity == "error" for problem in found.problems)


def test_an_empty_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no recording named"):
        load(tmp_path)
    with pytest.raises(CorpusError, match=r"the first problem: x\.wav: its name"):
        load(put(tmp_path, "x.wav"))


@pytest.mark.data
def test_the_real_corpus(data_root: Path) -> None:
    root = data_root / "ravdess"
    if not root.is_dir():
        pytest.skip("there is no ravdess below GRAPHOPHONE_DATA")
    found = corpora.load("ravdess", root)
    assert found.problems == ()
    assert len(found) == 1440
    assert len(set(found.speakers or ())) == 24
    assert found.class_counts().tolist() == [96] + [192] * 7
    assert found.summary()["folds"] == {str(fold): 240 for fold in range(6)}
    assert found.table.groupby("speaker")["fold"].nunique().max() == 1
    report = corpora.check(found, decode=False, progress=False)
    assert report.ok
    assert report.corpus.hours == pytest.approx(1.48, abs=0.01)
    assert report.rates == {16000: 1440}
    assert report.gaps == {}


@pytest.mark.data
@pytest.mark.slow
def test_the_real_corpus_decoded(data_root: Path) -> None:
    root = data_root / "ravdess"
    if not root.is_dir():
        pytest.skip("there is no ravdess below GRAPHOPHONE_DATA")
    report = corpora.check(corpora.load("ravdess", root), workers=2, progress=False)
    assert report.ok
    assert report.durations.sum() / 3600 == pytest.approx(1.48, abs=0.01)
    # Published so: both repetitions of one sentence by actor 7 are the same recording.
    assert report.duplicates == (("03-01-03-01-02-01-07", "03-01-03-01-02-02-07"),)
