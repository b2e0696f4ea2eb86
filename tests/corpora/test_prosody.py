"""The built-in corpus: its table, its determinism, its making and keeping, and how hard it is."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from graphophone import audio, corpora
from graphophone.corpora import prosody
from graphophone.corpora.base import CorpusError

SMALL: dict[str, Any] = {"speakers": 2, "utterances": 2, "progress": False}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> corpora.Corpus:
    return prosody.load(tmp_path_factory.mktemp("small"), speakers=4, utterances=2)


def contents(corpus: corpora.Corpus) -> dict[str, bytes]:
    return {name: Path(path).read_bytes() for name, path in zip(corpus.table["id"], corpus.table["audio"], strict=True)}


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a recording was made again")

    monkeypatch.setattr(prosody, "synthesize", refuse)


def test_the_table(small: corpora.Corpus) -> None:
    table = small.table
    assert small.classes == ("angry", "happy", "neutral", "sad")
    assert not small.problems
    assert len(small) == 4 * 4 * 2
    assert list(table.columns[:1]) == ["id"]
    assert {"audio", "text", "label", "speaker", "fold", "gender", "sentence"} <= set(table.columns)
    assert (table.groupby(["speaker", "label"]).size() == 2).all()
    assert (table.groupby("fold")["gender"].nunique() == 2).all()
    assert (table.groupby("fold")["speaker"].nunique() == 2).all()
    assert table["fold"].nunique() == 2
    # What is said tells nothing about the emotion.
    assert table.groupby("label")["text"].apply(sorted).map(tuple).duplicated().sum() == 3


def test_the_recordings_are_speech_like(small: corpora.Corpus) -> None:
    for path in small.table["audio"]:
        found = audio.info(path)
        assert (found.rate, found.channels, found.subtype) == (16000, 1, "PCM_16")
        assert 0.9 < found.duration < 3.5
        waveform = audio.load(path)  # a warning would be an error here
        assert 0.02 < np.abs(waveform.signal).max() < 0.98


def test_deterministic_and_independent_of_the_size(small: corpora.Corpus, tmp_path: Path) -> None:
    again = contents(prosody.load(tmp_path / "again", speakers=4, utterances=2))
    assert again == contents(small)
    larger = contents(prosody.load(tmp_path / "larger", speakers=5, utterances=3))
    assert {name: larger[name] for name in again} == again
    other = contents(prosody.load(tmp_path, seed=1, **SMALL))
    assert not set(other.values()) & set(again.values())
    assert len(set(again.values())) == len(again)


def test_kept_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prosody.load(tmp_path, **SMALL)
    forbid(monkeypatch)
    pd.testing.assert_frame_equal(prosody.load(tmp_path, **SMALL).table, first.table)
    with pytest.raises(AssertionError, match="made again"):
        prosody.load(tmp_path, speakers=2, utterances=2, seed=5)


def test_missing_and_damaged_files_are_made_again(tmp_path: Path) -> None:
    corpus = prosody.load(tmp_path, **SMALL)
    before = contents(corpus)
    paths = [Path(p) for p in corpus.table["audio"]]
    paths[0].unlink()
    paths[1].write_bytes(paths[1].read_bytes()[:1000])
    untouched = paths[2].stat().st_mtime_ns
    assert contents(prosody.load(tmp_path, **SMALL)) == before
    assert paths[2].stat().st_mtime_ns == untouched


def test_the_manifest_is_a_table_of_its_own(small: corpora.Corpus) -> None:
    manifest = Path(small.table["audio"][0]).parent / "manifest.csv"
    table = corpora.load("table", manifest, classes=small.classes)
    assert list(table.table["id"]) == list(small.table["id"])
    assert list(table.targets) == list(small.targets)
    assert list(table.table["audio"]) == list(small.table["audio"])


def test_the_default_place_is_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRAPHOPHONE_CACHE", str(tmp_path))
    corpus = corpora.load("prosody", **SMALL)
    assert Path(corpus.table["audio"][0]).is_relative_to(tmp_path / "corpora")


MAKE = """
import sys
from graphophone.corpora import prosody
prosody.load(sys.argv[1], speakers=2, utterances=int(sys.argv[2]))
"""


def test_killed_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = contents(prosody.load(tmp_path / "whole", speakers=2, utterances=8))
    root = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", MAKE, str(root), "8"])
    deadline = time.monotonic() + 60
    while len(list(root.rglob("*.wav"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in root.rglob("*.wav")}
    assert 5 <= len(done) < len(whole)
    assert not list(root.rglob("manifest.csv"))
    stale = next(iter(done)).with_name(".stale.wav.0")
    stale.touch()
    os.utime(stale, (0, 0))
    assert contents(prosody.load(root, speakers=2, utterances=8)) == whole
    assert {path: path.stat().st_mtime_ns for path in done} == done  # none of them was made twice
    assert not stale.exists()
    forbid(monkeypatch)
    prosody.load(root, speakers=2, utterances=8)


def test_two_processes_at_once(tmp_path: Path) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", MAKE, str(tmp_path), "3"]) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert len(list(tmp_path.rglob("*.wav"))) == 2 * 4 * 3
    assert not list(tmp_path.rglob(".*"))
    assert (
        contents(prosody.load(tmp_path, **SMALL)).items()
        <= contents(prosody.load(tmp_path, speakers=2, utterances=3)).items()
    )


@pytest.mark.parametrize("options", [{"speakers": 1}, {"utterances": 0}, {"seed": -1}])
def test_numbers_that_make_no_corpus(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(CorpusError, match=next(iter(options))):
        prosody.load(tmp_path, **options)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CorpusError, match="another root") as caught:
        prosody.load(tmp_path / "file", **SMALL)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_neither_trivial_nor_hopeless(tmp_path: Path) -> None:
    """Speaker-independent: eGeMAPS functionals with a linear SVM, and the mean energy alone."""
    opensmile = pytest.importorskip("opensmile")
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import recall_score
    from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    corpus = prosody.load(tmp_path)
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
    signals = [audio.load(path).signal for path in corpus.table["audio"]]
    functionals = np.stack([smile.process_signal(signal, 16000).to_numpy()[0] for signal in signals])
    energy = np.array([[10 * np.log10(np.mean(np.square(signal)))] for signal in signals])

    def recall(features: np.ndarray, classifier: object) -> float:
        model = make_pipeline(StandardScaler(), classifier)
        predicted = cross_val_predict(
            model, features, corpus.targets, groups=corpus.table["fold"], cv=LeaveOneGroupOut()
        )
        return float(recall_score(corpus.targets, predicted, average="macro"))

    assert 0.65 < recall(functionals, SVC(kernel="linear", C=0.01)) < 0.85
    assert recall(energy, LogisticRegression()) < 0.5
    semitones = functionals[:, list(smile.feature_names).index("F0semitoneFrom27.5Hz_sma3nz_percentile50.0")]
    pitch = 27.5 * 2 ** (semitones / 12)
    female = (corpus.table["gender"] == "female").to_numpy()
    assert pitch.min() > 70
    assert pitch.max() < 350
    assert 1.4 < np.median(pitch[female]) / np.median(pitch[~female]) < 2
