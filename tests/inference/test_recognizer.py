from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphophone import audio
from graphophone.corpora import Corpus
from graphophone.errors import GraphophoneError, MissingDependencyError
from graphophone.features import FeaturePipeline
from graphophone.inference import UNSURE, Bundle, Recognizer, save_bundle
from graphophone.tasks.classification import GraphClassification
from graphophone.tasks.data import PlainFrames, UtteranceGraphs, graph_loader

LABELS = ("neutral", "happy", "angry")
RATE = 16000
Voice = Callable[..., np.ndarray]
Parts = Callable[..., dict]
Write = Callable[..., Path]
PROBABILITIES = [f"p_{label}" for label in LABELS]


def test_one_file(recognizer: Recognizer, write: Write, voice: Voice):
    path = write("one.wav", voice(1.5), subtype="FLOAT")
    answer = recognizer.process_file(path)
    assert list(answer.columns) == ["file", "start", "end", "label", "confidence", *PROBABILITIES]
    assert answer.attrs == {"failures": [], "warnings": []}
    (row,) = answer.to_dict(orient="records")
    assert (row["file"], row["start"], row["end"]) == (str(path), 0.0, 1.5)
    p = np.array([row[name] for name in PROBABILITIES])
    assert p.sum() == pytest.approx(1)
    assert row["confidence"] == p.max()
    assert row["label"] == LABELS[p.argmax()]


def test_a_part_of_a_file_is_the_same_as_the_part_alone(recognizer: Recognizer, write: Write, voice: Voice):
    signal = voice(3)
    whole = write("whole.wav", signal, subtype="FLOAT")
    answer = recognizer.process_file(whole, 0.5, 2.25)
    assert tuple(answer[["start", "end"]].iloc[0]) == (0.5, 2.25)
    alone = recognizer.process_signal(signal[RATE // 2 : 9 * RATE // 4], RATE)
    pd.testing.assert_frame_equal(answer[PROBABILITIES], alone[PROBABILITIES], rtol=1e-5)
    assert not np.allclose(answer[PROBABILITIES], recognizer.process_file(whole)[PROBABILITIES], atol=1e-4)


def test_arrays_of_every_width_and_layout(recognizer: Recognizer, voice: Voice):
    signal = voice(1.2)
    expected = recognizer.process_signal(signal, RATE)[PROBABILITIES]
    for array in ((signal * 32768).astype(np.int16), np.stack([signal, signal]), signal.astype(np.float64)):
        answer = recognizer.process_signal(array, RATE)
        assert answer["file"].iloc[0] is None
        np.testing.assert_allclose(answer[PROBABILITIES], expected, atol=2e-3)
    with pytest.raises(audio.AudioError):
        recognizer.process_signal(np.zeros(0, np.float32), RATE)


def test_what_is_computed_is_what_training_would_compute(bundle: Bundle, write: Write, voice: Voice):
    paths = [write(f"{i}.wav", voice(0.6 + 0.37 * i, seed=i)) for i in range(7)]
    table = pd.DataFrame({"audio": [str(path) for path in paths], "label": [LABELS[i % 3] for i in range(7)]})
    corpus = Corpus.from_table(table, name="tones", classes=LABELS)
    features = bundle.pipeline.extract(corpus, cache=None, workers=1, progress=False)
    dataset = UtteranceGraphs(PlainFrames(features, bundle.standardizer), corpus.targets, np.arange(7))
    task = GraphClassification(bundle.model, len(LABELS)).eval()
    with torch.no_grad():
        outputs = [
            task.predict_step(batch, i) for i, batch in enumerate(graph_loader(dataset, bundle.graph, batch_size=3))
        ]
    expected = torch.cat([output["probabilities"] for output in outputs])
    answers = Recognizer(bundle).process_files(paths)
    np.testing.assert_allclose(answers[PROBABILITIES], expected, atol=1e-5)
    assert answers["p_angry"].std() > 0.01  # the small model does tell them apart


@given(
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=9),
    budget=st.sampled_from([1, 40, 100, 10_000]),
    seed=st.integers(0, 99),
)
def test_an_answer_does_not_depend_on_its_batch_mates(bundle: Bundle, lengths: list[int], budget: int, seed: int):
    rng = np.random.default_rng(seed)
    frames = [rng.normal(-8, 3, (length, bundle.pipeline.dims)).astype(np.float32) for length in lengths]
    together = Recognizer(bundle, frames_per_batch=budget).probabilities(frames)
    alone = np.concatenate([Recognizer(bundle).probabilities([item]) for item in frames])
    np.testing.assert_allclose(together, alone, atol=1e-5)  # float32 rounding


def test_the_memory_of_a_batch_is_bounded(bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    recognizer = Recognizer(bundle, frames_per_batch=100)
    seen = []
    forward = recognizer._forward
    monkeypatch.setattr(recognizer, "_forward", lambda items: seen.append(sum(map(len, items))) or forward(items))
    recognizer.probabilities([np.zeros((n, 12), np.float32) for n in (30, 250, 60, 45, 1, 99, 20)])
    assert sum(seen) == 505
    assert sorted(seen)[-1] == 250  # one clip is never divided
    assert sorted(seen)[-2] <= 100


def test_bad_files_are_named_and_the_good_ones_answered(
    bundle: Bundle, write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture, voice: Voice
):
    good = [write("in/a.wav", voice(1)), write("in/z/deep.flac", voice(1.2, rate=96000), 96000, subtype="PCM_24")]
    stereo = write("in/stereo.wav", np.stack([voice(1, 3, 96000)] * 2, axis=1), 96000, subtype="PCM_24")
    silent = write("in/silent.wav", np.zeros(RATE, np.float32))
    flac = write("in/cut.flac", voice(2)).read_bytes()
    (tmp_path / "in/cut.flac").write_bytes(flac[: len(flac) // 2])
    (tmp_path / "in/text.wav").write_text("I am not a sound.\n" * 99)
    (tmp_path / "in/empty.wav").write_bytes(b"")
    write("in/short.wav", voice(0.01))
    write("in/long.wav", voice(61))
    (tmp_path / "hollow").mkdir()

    with caplog.at_level(logging.WARNING):
        answers = Recognizer(bundle).process_files([tmp_path / "in", tmp_path / "nowhere.wav", tmp_path / "hollow"])
    assert set(answers["file"]) == {str(path) for path in (*good, stereo, silent)}
    reasons = {Path(problem.item).name: problem.reason for problem in answers.attrs["failures"]}
    expected = {
        "cut.flac": "truncated",
        "text.wav": "no sound",
        "empty.wav": "0 bytes",
        "short.wav": "10.0 ms",
        "long.wav": "timeline",
        "nowhere.wav": "no such file",
        "hollow": "no audio files",
    }
    assert reasons.keys() == expected.keys()
    for name, words in expected.items():
        assert words in reasons[name]
        assert name in caplog.text
    (warning,) = answers.attrs["warnings"]
    assert (warning.item, warning.reason, warning.severity) == (str(silent), "silent", "warning")


def test_a_single_bad_file_raises(recognizer: Recognizer, tmp_path: Path, write: Write, voice: Voice):
    with pytest.raises(audio.AudioError, match="no such file"):
        recognizer.process_file(tmp_path / "nowhere.wav")
    recognizer.max_duration = 1.0
    with pytest.raises(audio.AudioError, match=r"long\.wav: longer than 1 s.*use timeline") as error:
        recognizer.process_file(write("long.wav", voice(1.1)))
    assert error.value.reason == "too long"
    with pytest.raises(audio.AudioError, match="too long"):
        recognizer.process_signal(voice(1.1), RATE)
    recognizer.max_duration = None
    recognizer.process_signal(voice(1.1), RATE)


def test_a_folder_is_read_in_the_order_of_its_names(recognizer: Recognizer, write: Write, tmp_path: Path, voice: Voice):
    for name in ("b.wav", "a.wav", "c/a.ogg"):
        write(name, voice(0.5))
    (tmp_path / "notes.txt").write_text("not asked for")
    answers = recognizer.process_folder(tmp_path)
    assert [Path(file).relative_to(tmp_path).as_posix() for file in answers["file"]] == ["a.wav", "b.wav", "c/a.ogg"]
    assert list(answers.index) == [0, 1, 2]
    with pytest.raises(GraphophoneError, match="not a folder"):
        recognizer.process_folder(tmp_path / "a.wav")


def test_nothing_gives_an_empty_table_with_the_usual_columns(recognizer: Recognizer):
    answers = recognizer.process_files([])
    assert answers.empty
    assert list(answers.columns) == ["file", "start", "end", "label", "confidence", *PROBABILITIES]
    assert answers.attrs["failures"] == []


def test_a_table_keeps_its_index(recognizer: Recognizer, write: Write, voice: Voice):
    path = str(write("call.wav", voice(4), subtype="FLOAT"))
    table = pd.DataFrame(
        {"audio": [path, "gone.wav", path, path], "start": [0.0, 0.0, 1.5, np.nan], "end": [1.0, 1.0, 9.0, np.nan]},
        index=["first", "second", "third", "fourth"],
    )
    answers = recognizer.process_table(table)
    assert list(answers.index) == ["first", "fourth"]
    assert list(answers["end"]) == [1.0, 4.0]
    assert [(problem.item, problem.row) for problem in answers.attrs["failures"]] == [("gone.wav", 1), (path, 2)]
    np.testing.assert_allclose(
        answers.loc["first", PROBABILITIES].astype(float),
        recognizer.process_file(path, 0, 1)[PROBABILITIES].iloc[0],
        atol=1e-5,
    )
    assert recognizer.process_table(table.rename(columns={"audio": "file"})).shape == answers.shape
    with pytest.raises(GraphophoneError, match="'audio'"):
        recognizer.process_table(table.drop(columns="audio"))


def test_metadata_columns_reach_the_model(tmp_path: Path, write: Write, voice: Voice, parts: Parts):
    folder = save_bundle(tmp_path / "model", **parts(metadata=("spontaneous",)))
    recognizer = Recognizer.from_pretrained(folder)
    path = str(write("one.wav", voice(1)))
    table = pd.DataFrame({"audio": [path] * 3, "spontaneous": [0.0, 1.0, np.nan]})
    acted, spontaneous, unknown = recognizer.process_table(table)[PROBABILITIES].to_numpy()
    assert not np.allclose(acted, spontaneous, atol=1e-4)
    np.testing.assert_array_equal(acted, unknown)
    one = recognizer.process_file(path, metadata={"spontaneous": 1})[PROBABILITIES].to_numpy()[0]
    np.testing.assert_allclose(one, spontaneous, atol=1e-5)


def test_the_reject_option(bundle: Bundle, voice: Voice):
    signal = voice(1)
    sure = Recognizer(bundle).process_signal(signal, RATE)
    confidence = sure["confidence"].iloc[0]
    assert Recognizer(bundle, threshold=confidence).process_signal(signal, RATE)["label"].iloc[0] != UNSURE
    unsure = Recognizer(bundle, threshold=confidence + 1e-6).process_signal(signal, RATE)
    assert unsure["label"].iloc[0] == UNSURE
    pd.testing.assert_frame_equal(unsure[PROBABILITIES], sure[PROBABILITIES])
    with pytest.raises(GraphophoneError, match="threshold"):
        Recognizer(bundle, threshold=60)


def test_several_processes_give_the_same_table(bundle: Bundle, write: Write, tmp_path: Path, voice: Voice):
    paths: list[Path] = [write(f"{i}.wav", voice(0.3 + 0.1 * (i % 5), seed=i)) for i in range(14)]
    paths.insert(5, tmp_path / "gone.wav")
    one = Recognizer(bundle, workers=1).process_files(paths)
    two = Recognizer(bundle, workers=2).process_files(paths)
    pd.testing.assert_frame_equal(one, two, rtol=1e-5)
    assert one.attrs == two.attrs
    assert list(two.index) == [i for i in range(15) if i != 5]


def test_a_missing_package_is_not_blamed_on_the_files(
    bundle: Bundle, write: Write, monkeypatch: pytest.MonkeyPatch, voice: Voice
):
    def missing(*_: object) -> None:
        raise MissingDependencyError("openSMILE is not installed: pip install 'graphophone[opensmile]'")

    monkeypatch.setattr(FeaturePipeline, "__call__", missing)
    with pytest.raises(MissingDependencyError):
        Recognizer(bundle).process_files([write("one.wav", voice(1))])


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
def test_a_longest_clip_that_makes_no_sense(bundle: Bundle, seconds: float):
    with pytest.raises(GraphophoneError, match="max_duration"):
        Recognizer(bundle, max_duration=seconds)
