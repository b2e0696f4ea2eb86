"""The check of a corpus: what it counts, what it finds, and that nothing ends it."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from rich.console import Console

from graphophone import corpora
from graphophone.corpora import Corpus, checks
from graphophone.corpora.checks import CheckReport

MakeSound = Callable[..., Path]


def corpus(folder: Path, names: list[str], **columns: Any) -> Corpus:
    columns.setdefault("label", ["x", "y"] * (len(names) // 2) + ["x"] * (len(names) % 2))
    return Corpus.from_table(pd.DataFrame({"audio": names, **columns}), name="mine", root=folder)


def check(found: Corpus, **options: Any) -> CheckReport:
    return corpora.check(found, progress=False, **options)


def text(report: CheckReport, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    report.render(console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def good(tmp_path: Path, make_sound: MakeSound) -> Corpus:
    for i in range(6):
        make_sound(tmp_path / f"{i}.wav", seconds=0.5 + 0.1 * i)
    return corpus(
        tmp_path,
        [f"{i}.wav" for i in range(6)],
        speaker=["a", "a", "b", "b", "c", "c"],
        split=["train"] * 4 + ["test"] * 2,
        fold=[0, 0, 1, 1, 2, 2],
    )


@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize("workers", [None, 1, 2])
def test_a_good_corpus(good: Corpus, decode: bool, workers: int | None) -> None:
    report = check(good, decode=decode, workers=workers)
    assert report.ok
    assert report.problems == report.duplicates == report.notes == ()
    assert report.gaps == {}
    np.testing.assert_allclose(report.durations, [0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert report.corpus.table["duration"].tolist() == report.durations.tolist()
    assert report.corpus.hours == pytest.approx(4.5 / 3600)
    assert report.rates == {8000: 6}
    assert report.channels == {1: 6}
    assert report.decoded is decode
    facts = json.loads(json.dumps(report.to_dict()))
    assert facts["ok"] is True
    assert facts["duration"] == pytest.approx({"total_hours": 4.5 / 3600, "min": 0.5, "median": 0.75, "max": 1.0})
    assert facts["splits"] == {"test": 2, "train": 4}


def bad_files(folder: Path, make_sound: MakeSound) -> dict[str, str]:
    """Files with a defect, and words of the reason."""
    make_sound(folder / "whole.flac", seconds=2.0)
    data = (folder / "whole.flac").read_bytes()
    (folder / "cut.flac").write_bytes(data[: len(data) // 2])
    (folder / "text.wav").write_text("this is no sound at all, whatever its name says\n" * 20)
    (folder / "empty.wav").touch()
    make_sound(folder / "short.wav", seconds=0.01)
    sf.write(folder / "nan.wav", np.array([0.1, np.nan] * 4000), 8000, subtype="FLOAT")
    return {
        "cut": "truncated",
        "text": "no sound in it",
        "empty": "0 bytes",
        "short": "less than 25 ms",
        "nan": "NaN",
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_recordings_are_named_and_the_others_kept(tmp_path: Path, make_sound: MakeSound, workers: int) -> None:
    bad = bad_files(tmp_path, make_sound)
    make_sound(tmp_path / "stereo.wav", rate=96000)
    make_sound(tmp_path / "fine.wav")
    names = ["fine.wav", "cut.flac", "text.wav", "empty.wav", "short.wav", "nan.wav", "stereo.wav"]
    report = check(corpus(tmp_path, names), workers=workers)
    assert not report.ok
    assert report.corpus.table["id"].tolist() == ["fine", "stereo"]
    assert report.rates == {8000: 1, 96000: 1}
    reasons = {problem.item: problem.reason for problem in report.errors}
    assert set(reasons) == set(bad)
    for item, words in bad.items():
        assert words in reasons[item]
        assert str(tmp_path) not in reasons[item], "the item is named once"
    assert {problem.item: problem.row for problem in report.errors} == {
        "cut": 1,
        "text": 2,
        "empty": 3,
        "short": 4,
        "nan": 5,
    }
    assert report.corpus.problems == report.problems
    assert "5 errors (left out)" in text(report)


def test_headers_alone_find_what_they_can(tmp_path: Path, make_sound: MakeSound) -> None:
    bad = bad_files(tmp_path, make_sound)
    names = ["cut.flac", "text.wav", "empty.wav", "short.wav", "nan.wav", "whole.flac"]
    report = check(corpus(tmp_path, names), decode=False)
    assert {problem.item for problem in report.errors} == set(bad) - {"nan"}


def test_segments_must_lie_in_the_recording(tmp_path: Path, make_sound: MakeSound) -> None:
    make_sound(tmp_path / "a.wav", seconds=1.0)
    found = corpus(
        tmp_path,
        ["a.wav"] * 5,
        id=["in", "open", "out", "beyond", "tiny"],
        start=[0.2, 0.5, 0.5, 2.0, 0.3],
        end=[0.5, np.nan, 1.5, 3.0, 0.31],
    )
    for decode in (True, False):
        report = check(found, decode=decode)
        assert report.corpus.table["id"].tolist() == ["in", "open"]
        np.testing.assert_allclose(report.durations, [0.3, 0.5])
        reasons = {problem.item: problem.reason for problem in report.errors}
        assert reasons["out"].startswith("segment 0.5 to 1.5 s does not lie in a recording of 1.000 s")
        assert reasons["beyond"].startswith("segment 2 to 3 s does not lie in a recording of 1.000 s")
        assert reasons["tiny"].startswith("10.0 ms")


def test_silence_and_clipping_are_warnings(tmp_path: Path, make_sound: MakeSound) -> None:
    make_sound(tmp_path / "silent.wav", peak=0.0)
    make_sound(tmp_path / "silent2.wav", peak=0.0)
    sf.write(tmp_path / "clipped.wav", np.clip(3 * np.sin(np.arange(8000) / 20), -1, 1), 8000)
    report = check(corpus(tmp_path, ["silent.wav", "clipped.wav", "silent2.wav"]))
    assert report.ok
    assert len(report.corpus) == 3
    assert {(problem.item, problem.reason.split(" ")[0]) for problem in report.warnings} == {
        ("silent", "silent"),
        ("silent2", "silent"),
        ("clipped", "clipped"),
    }
    assert report.duplicates == (), "silence is not the same recording twice"


def test_the_same_sound_twice_is_a_warning(tmp_path: Path, make_sound: MakeSound) -> None:
    make_sound(tmp_path / "a.wav", seconds=0.5)
    make_sound(tmp_path / "other.wav", seconds=0.5)
    signal, rate = sf.read(tmp_path / "a.wav", dtype="int16")
    sf.write(tmp_path / "copy.flac", signal, rate)
    sf.write(tmp_path / "faster.wav", signal, 2 * rate)
    names = ["a.wav", "other.wav", "copy.flac", "faster.wav"]
    found = corpus(
        tmp_path, names, label=["x", "y", "y", "x"], speaker=["s"] * 4, split=["train", "train", "test", "test"]
    )
    report = check(found)
    assert report.ok
    assert report.duplicates == (("a", "copy"),)
    assert [str(problem) for problem in report.warnings] == [
        "row 2, copy: the same sound as 'a' (row 0); label x there, y here; split train there, test here"
    ]
    assert check(found, decode=False).duplicates == ()


@pytest.mark.parametrize("kind", ["plain", "silent", "clipped", "same"])
def test_long_recordings_are_read_in_pieces(
    tmp_path: Path, make_sound: MakeSound, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    seconds = []
    load = checks.audio.load

    def counting(*args: Any, **options: Any) -> Any:
        wave = load(*args, **options)
        seconds.append(wave.duration)
        return wave

    rng = np.random.default_rng(0)
    signal = 0.0 * np.arange(8100) if kind == "silent" else rng.uniform(-0.3, 0.3, 8100)
    if kind == "clipped":
        signal[5000:5400] = 1.0
    sf.write(tmp_path / "long.wav", signal, 1000)
    sf.write(tmp_path / "again.wav", signal, 1000)
    monkeypatch.setattr(checks, "_LONG", 4.0)
    monkeypatch.setattr(checks, "_WINDOW", 2.0)
    monkeypatch.setattr(checks.audio, "load", counting)
    names = ["long.wav", "again.wav"] if kind == "same" else ["long.wav"]
    report = check(corpus(tmp_path, names, label=["x"] * len(names)), workers=1)
    assert report.ok
    np.testing.assert_allclose(report.durations, 8.1)
    np.testing.assert_allclose(seconds, [2.0, 2.0, 2.0, 2.0, 0.1] * len(names))
    reasons = [problem.reason for problem in report.warnings]
    assert (
        reasons
        == {
            "plain": [],
            "silent": ["silent from beginning to end; check the recording"],
            "clipped": ["clipped, first after 4 s; check the recording"],
            "same": ["the same sound as 'long' (row 0)"],
        }[kind]
    )


def test_an_error_of_a_library_is_the_error_of_one_item(good: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    load = checks.audio.load

    def failing(path: str, **options: Any) -> Any:
        if path.endswith("3.wav"):
            raise RuntimeError("codec on fire")
        return load(path, **options)

    monkeypatch.setattr(checks.audio, "load", failing)
    report = check(good, workers=1)
    assert [str(problem) for problem in report.errors] == [
        "row 3, 3: cannot be decoded (RuntimeError: codec on fire); leave it out"
    ]
    assert len(report.corpus) == 5


def _dying(item: Any, decode: bool) -> Any:
    """Stands in for a decoder that crashes."""
    if item.path.endswith("killer.wav"):
        os._exit(11)
    return checks._Finding(1.0, 8000, 1, item.path.encode())


def _dying_chunk(number: int, items: Any, decode: bool) -> Any:
    return number, [_dying(item, decode) for item in items]


def test_a_crash_of_a_worker_is_the_error_of_one_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{i}.wav" for i in range(40)] + ["killer.wav"] + [f"{i}.wav" for i in range(41, 60)]
    for name in names:
        (tmp_path / name).write_bytes(b"sound")
    monkeypatch.setattr(checks, "_examine_chunk", _dying_chunk)
    report = check(corpus(tmp_path, names), workers=2)
    assert [str(problem) for problem in report.errors] == [
        "row 40, killer: its decoding brings the process down; leave it out or convert it to 16-bit WAV"
    ]
    assert len(report.corpus) == 59


def test_what_a_user_should_know_of_the_whole(tmp_path: Path, make_sound: MakeSound) -> None:
    for i in range(6):
        make_sound(tmp_path / f"{i}.wav")
    frame = pd.DataFrame(
        {
            "audio": [f"{i}.wav" for i in range(6)],
            "label": ["x", "y", "x", "y", "x", "z"],
            "speaker": ["a", "a", "b", "b", "c", "c"],
            "split": ["train", "test", "train", "train", "test", "test"],
        }
    )
    found = Corpus.from_table(frame, name="mine", root=tmp_path, classes=["x", "y", "z", "none"])
    report = check(found)
    assert report.gaps == {"a": ("z", "none"), "b": ("z", "none"), "c": ("y", "none")}
    assert report.notes == (
        "class 'z' has one item",
        "class 'none' has no item",
        "of 3 of the 3 speakers at least one class is not recorded",
        "in more than one split: 1 speaker (a)",
    )
    words = text(report)
    assert "note: class 'none' has no item" in words
    nameless = check(found.select([0, 2]))
    assert nameless.notes[0] == "class 'y' has no item"
    alone = Corpus.from_table(frame[["audio", "label"]].iloc[[0, 2]], name="mine", root=tmp_path)
    assert check(alone).notes == (
        "fewer than two classes: there is nothing to tell apart",
        "no column `speaker` or `source`: results will not tell how well the sounds of new people, places or "
        "recordings are recognised",
    )


def test_several_labels_per_item(tmp_path: Path, make_sound: MakeSound) -> None:
    for i in range(3):
        make_sound(tmp_path / f"{i}.wav", seconds=60 * 0.01)
    frame = {
        "audio": ["0.wav", "1.wav", "2.wav"],
        "labels": [["rain"], ["rain", "wind"], ["wind"]],
        "fold": [0, 1, 1],
    }
    report = check(Corpus.from_table(pd.DataFrame(frame), name="tags", root=tmp_path))
    assert report.to_dict()["classes"] == {"rain": 2, "wind": 2}
    assert "rain" in text(report)


def test_of_many_classes_the_parts_stand_in_one_table(tmp_path: Path, make_sound: MakeSound) -> None:
    for i in range(3):
        make_sound(tmp_path / f"{i}.wav", seconds=0.6)
    frame = {
        "audio": ["0.wav", "1.wav", "2.wav"],
        "labels": [["tag7"], ["tag7", "tag59"], []],
        "split": ["train", "test", "train"],
    }
    classes = [f"tag{i}" for i in range(60)]
    report = check(Corpus.from_table(pd.DataFrame(frame), name="tags", root=tmp_path, classes=classes, negatives=True))
    words = text(report)
    lines = [line.split() for line in words.splitlines()]
    assert ["class", "items", "%", "minutes", "speakers", "test", "train"] in lines
    assert ["tag7", "2", "66.7", "0.0", "1", "1"] in lines
    assert ["tag59", "1", "33.3", "0.0", "1", "0"] in lines
    assert ["split", "test", "train"] in lines
    assert words.count("tag7 ") == 1, "classes are listed once"
    assert "labels per item 0 to 2, mean 1.00; 0.017 of the classes; 3 different sets" in words
    assert report.to_dict()["labels_per_item"]["counts"] == {"0": 1, "1": 1, "2": 1}
    assert not any("voices" in note for note in report.notes)


def test_a_corpus_without_sound(good: Corpus) -> None:
    frame = pd.DataFrame({"id": ["a", "b"], "text": ["hi", "ho"], "label": ["x", ""]})
    report = check(Corpus.from_table(frame, name="words"))
    assert report.notes[0] == "no column `audio`: there is no sound to check"
    assert not report.ok
    assert "words: 1 item, 1 class\n" in text(report)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_printed_report(good: Corpus, width: int) -> None:
    words = text(check(good), width)
    assert "mine: 6 items, 2 classes, 3 speakers, 0.00 h" in words
    assert "no problems" in words
    for part in ("train", "test", "fold"):
        assert part in words
    assert "..." not in words
    assert max(map(len, words.splitlines())) <= width


def test_a_long_list_of_problems_is_cut(tmp_path: Path, make_sound: MakeSound) -> None:
    make_sound(tmp_path / "fine.wav")
    names = ["fine.wav"] + [f"gone[{i}].wav" for i in range(30)]
    report = check(corpus(tmp_path, names))
    console = Console(file=io.StringIO(), width=300)
    report.render(console, limit=10)
    words = console.file.getvalue()  # type: ignore[attr-defined]
    assert "30 errors (left out)" in words
    assert "gone[9]" in words
    assert "gone[10]" not in words
    assert "20 more" in words


def test_progress_goes_to_standard_error(good: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    corpora.check(good, progress=True)
    assert capsys.readouterr().out == ""


def test_many_parts_are_listed_without_their_classes(tmp_path: Path, make_sound: MakeSound) -> None:
    for i in range(12):
        make_sound(tmp_path / f"{i}.wav")
    found = corpus(tmp_path, [f"{i}.wav" for i in range(12)], fold=list(range(12)), split=["train", "test"] * 6)
    lines = [line.split() for line in text(check(found)).splitlines()]
    assert ["split", "test", "train"] in lines
    assert ["x", "0", "6"] in lines
    assert ["fold", "items"] in lines
    assert ["11", "1"] in lines


def test_items_without_label_are_counted_apart(tmp_path: Path, make_sound: MakeSound) -> None:
    names = [f"{n}.wav" for n in range(6)]
    for name in names:
        make_sound(tmp_path / name)
    shutil.copy(tmp_path / "0.wav", tmp_path / "5.wav")
    frame = pd.DataFrame(
        {
            "audio": names,
            "label": ["x", "y", "x", "y", "", ""],
            "speaker": ["p", "p", "q", "q", "r", "p"],
            "split": ["train", "train", "test", "test", "test", ""],
            "fold": [0, 0, 1, 1, 1, None],
        }
    )
    found = Corpus.from_table(frame, name="few", root=tmp_path, unlabelled=True)
    report = check(found)
    assert report.notes == (
        "2 of 6 items have no label: models whose nodes are recordings learn from them too, others cannot be trained "
        "on this corpus before unlabelled=true is left out",
    ), "no gap of speaker r, of whom nobody knows, and p is in one split only"
    assert report.gaps == {}
    assert [problem.reason for problem in report.warnings] == [
        "the same sound as '0' (row 0); label x there, none here; split train there, none here; fold 0 there, none here"
    ]
    shown = text(report)
    assert "6 items, 2 of them without label, 2 classes, 3 speakers" in shown
    assert re.search(r"\(no label\) +2 +33.3 +0.0 +2", shown)
    assert re.search(r"split +test +train *\n *items +3 +2", shown)
    assert json.loads(json.dumps(report.to_dict()))["unlabelled"] == 2
    lone = check(Corpus.from_table(frame[:5], name="few", root=tmp_path, unlabelled=True), decode=False)
    assert "5 items, 1 of them without label" in text(lone)
    alike = text(check(found.select(found.labelled)))
    assert "no label" not in alike


def test_an_item_of_text_is_no_damaged_recording(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", np.random.default_rng(0).standard_normal(8000) * 0.1, 16000)
    table = pd.DataFrame({"audio": ["a.wav", ""], "text": ["one", "two"], "label": ["x", "y"]})
    report = corpora.check(Corpus.from_table(table, name="talk", root=tmp_path), workers=1)
    assert report.ok
    assert len(report.corpus) == 2
    assert report.durations[0] == pytest.approx(0.5)
    assert np.isnan(report.durations[1])
    described = report.to_dict()
    assert described["duration"]["min"] == described["duration"]["max"] == pytest.approx(0.5)
    assert described["rates"] == {"16000": 1}
    assert any("1 item with a text and no recording" in note for note in described["notes"])
    json.dumps(described, allow_nan=False)
    report.render()
