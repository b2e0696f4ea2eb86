from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from graphophone import audio
from graphophone.errors import GraphophoneError
from graphophone.inference import (
    SILENCE,
    Bundle,
    Recognizer,
    iter_timeline,
    merge_segments,
    tag_segments,
    timeline,
)
from graphophone.inference.timelines import segments, window_borders

LABELS = ("neutral", "happy", "angry")
RATE = 16000
Voice = Callable[..., np.ndarray]
Write = Callable[..., Path]
PROBABILITIES = [f"p_{label}" for label in LABELS]


def test_a_window_is_answered_like_a_recording_of_its_own(recognizer: Recognizer, write: Write, voice: Voice):
    signal = voice(6.3)
    path = write("call.wav", signal, subtype="FLOAT")
    found = timeline(recognizer, path, window=2.0, hop=0.75)
    assert list(found.columns) == ["start", "end", "label", "confidence", *PROBABILITIES]
    assert list(found["start"]) == [0.75 * i for i in range(7)]
    assert list(found["end"]) == [*(0.75 * i + 2 for i in range(6)), 6.3]
    for row in found.itertuples():
        piece = signal[round(row.start * RATE) : round(row.end * RATE)]
        alone = recognizer.process_signal(piece, RATE)
        np.testing.assert_allclose(
            found.loc[row.Index, PROBABILITIES].astype(float), alone[PROBABILITIES].iloc[0], atol=1e-6
        )
        assert row.label == alone["label"].iloc[0]
    assert found.attrs["duration"] == pytest.approx(6.3)
    assert found.attrs["failures"] == []


def test_a_recording_shorter_than_the_window_is_one_window(recognizer: Recognizer, write: Write, voice: Voice):
    found = timeline(recognizer, write("short.wav", voice(1.1)), window=3, hop=1)
    assert found[["start", "end"]].to_numpy().tolist() == [[0.0, 1.1]]


def test_silence_is_marked_and_not_guessed(recognizer: Recognizer, write: Write, voice: Voice):
    rng = np.random.default_rng(0)
    hum = (1e-4 * rng.standard_normal(3 * RATE) + 0.2).astype(np.float32)  # -80 dB on a constant
    path = write("call.wav", np.concatenate([voice(2), hum, voice(2)]), subtype="FLOAT")
    found = timeline(recognizer, path, window=1, hop=1)
    assert (found["label"] == SILENCE).tolist() == [False, False, True, True, True, False, False]
    quiet = found[found["label"] == SILENCE]
    assert quiet[["confidence", *PROBABILITIES]].isna().all(axis=None)
    assert quiet[["start", "end"]].to_numpy().tolist() == [[2, 3], [3, 4], [4, 5]]
    assert SILENCE not in set(timeline(recognizer, path, window=1, hop=1, silence=None)["label"])
    assert set(timeline(recognizer, path, window=1, hop=1, silence=0.0)["label"]) == {SILENCE}


def test_the_threshold_holds_for_windows(bundle: Bundle, write: Write, voice: Voice):
    path = write("call.wav", voice(3))
    assert set(timeline(Recognizer(bundle, threshold=1.0), path, window=1, hop=1)["label"]) == {"unsure"}


def test_half_an_hour_in_bounded_memory(bundle: Bundle, tmp_path: Path, voice: Voice):
    path, rate, minutes = tmp_path / "long.wav", 8000, 30
    with sf.SoundFile(path, "w", rate, 1, subtype="PCM_16") as file:
        minute = np.pad(voice(10, rate=rate), (0, 50 * rate))
        for _ in range(minutes):
            file.write(minute)
    recognizer = Recognizer(bundle, frames_per_batch=1000, workers=1)
    recognizer.process_signal(voice(1), RATE)  # what is imported and planned once
    tracemalloc.start()
    found = timeline(recognizer, path, window=5, hop=5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 12 * minutes
    assert (found["label"] == SILENCE).sum() == 10 * minutes
    assert found["end"].iloc[-1] == 60 * minutes
    assert peak < 12e6 < 4 * 16000 * 60 * minutes / 8  # the whole signal would take 115 MB


def test_rows_come_before_the_end(bundle: Bundle, tmp_path: Path):
    path = tmp_path / "hour.wav"
    sf.write(path, np.zeros(3600 * 8000, np.int16), 8000)
    first = next(iter_timeline(Recognizer(bundle, workers=1), path, window=1, hop=1))
    assert 0 < len(first) < 3600


def test_several_processes_give_the_same_timeline(bundle: Bundle, write: Write, voice: Voice):
    path = write("call.wav", voice(8))
    one = timeline(Recognizer(bundle, workers=1), path, window=1, hop=0.5)
    two = timeline(Recognizer(bundle, workers=2), path, window=1, hop=0.5)
    pd.testing.assert_frame_equal(one, two, rtol=1e-5)


@pytest.mark.parametrize(
    ("window", "hop"),
    [
        (0.0, 1.0),
        (-1.0, 1.0),
        (3.0, 0.0),
        (1.0, 2.0),
        (float("nan"), 1.0),
        (90.0, 1.0),
        (1.0, 1e-5),
        (float("inf"), 1.0),
    ],
)
def test_windows_that_make_no_sense(recognizer: Recognizer, write: Write, window: float, hop: float, voice: Voice):
    with pytest.raises(GraphophoneError, match=r"window|hop"):
        timeline(recognizer, write("one.wav", voice(1)), window=window, hop=hop)


def test_a_bad_file_raises(recognizer: Recognizer, tmp_path: Path):
    with pytest.raises(audio.AudioError, match="no such file"):
        timeline(recognizer, tmp_path / "gone.wav")


@pytest.mark.parametrize("workers", [1, 2])
def test_damage_in_the_middle_keeps_what_lies_before_it(bundle: Bundle, write: Write, voice: Voice, workers: int):
    signal = voice(12)
    whole = timeline(Recognizer(bundle, workers=1), write("whole.wav", signal, subtype="FLOAT"), window=1, hop=0.5)
    signal[round(9.7 * RATE)] = np.nan
    path = write("hurt.wav", signal, subtype="FLOAT")
    found = timeline(Recognizer(bundle, workers=workers), path, window=1, hop=0.5)
    # A window is given when one more sample is known: all that end before 9.7 s.
    assert found["end"].iloc[-1] == 9.5
    columns = list(found.columns)
    pd.testing.assert_frame_equal(found[columns], whole[columns].iloc[: len(found)], rtol=1e-5)
    (problem,) = found.attrs["failures"]
    assert problem.severity == "error"
    assert problem.item == f"{path} from 9.00 s"
    assert "NaN" in problem.reason
    assert "9.700 s" in problem.reason
    assert merge_segments(found).attrs == found.attrs
    blocks = iter_timeline(Recognizer(bundle, workers=workers), path, window=1, hop=0.5)
    assert len(next(blocks)) == len(found)
    with pytest.raises(audio.AudioError, match="NaN"):  # nobody asked for a list
        next(blocks)


def test_a_flac_file_that_cannot_be_decoded_further(recognizer: Recognizer, write: Write, voice: Voice):
    path = write("call.flac", voice(20), subtype="PCM_16")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(3000)
    path.write_bytes(content)
    found = timeline(recognizer, path, window=1, hop=1)
    assert 0 < len(found) < 20
    (problem,) = found.attrs["failures"]
    assert problem.item == f"{path} from {len(found)}.00 s"


def test_damage_before_the_first_window_raises(recognizer: Recognizer, write: Write, voice: Voice):
    signal = voice(3)
    signal[100] = np.nan
    with pytest.raises(audio.AudioError, match="NaN"):
        timeline(recognizer, write("hurt.wav", signal, subtype="FLOAT"), window=1, hop=1)


@given(labels=st.lists(st.sampled_from("ab"), min_size=1, max_size=20), hop=st.sampled_from([0.5, 1.0, 3.0]))
def test_segments_tile_the_recording(labels: list[str], hop: float):
    start = hop * np.arange(len(labels))
    frame = pd.DataFrame(
        {"start": start, "end": start + 3.0, "label": labels, "confidence": np.linspace(0.5, 1, len(labels))}
    )
    found = merge_segments(frame)
    assert found["start"].iloc[0] == 0
    assert found["end"].iloc[-1] == start[-1] + 3
    assert (found["end"].to_numpy()[:-1] == found["start"].to_numpy()[1:]).all()
    assert (found["end"] > found["start"]).all()
    assert (found["label"].to_numpy()[1:] != found["label"].to_numpy()[:-1]).all()
    assert found["windows"].sum() == len(labels)
    # The middle of every window lies in a segment with its label.
    for middle, label in zip(start + 1.5, labels, strict=True):
        inside = found[(found["start"] < middle) & (middle < found["end"])]
        assert inside["label"].tolist() == [label]
    mean = (found["confidence"] * found["windows"]).sum() / len(labels)
    assert mean == pytest.approx(frame["confidence"].mean())


def test_no_windows_no_segments():
    assert merge_segments(pd.DataFrame(columns=["start", "end", "label", "confidence"])).empty


def tag_frame(values: np.ndarray, hop: float = 1.0, window: float = 2.0) -> pd.DataFrame:
    """A timeline of `values` `[windows, tags]`; NaN rows are silent."""
    start = hop * np.arange(len(values))
    names = [f"tag {i}" for i in range(values.shape[1])]
    columns = {f"p_{name}": values[:, i] for i, name in enumerate(names)}
    frame = pd.DataFrame({"start": start, "end": start + window, **columns})
    frame.attrs = {"kind": "tagging", "failures": []}
    return frame


def test_spans_of_tags_in_figures():
    values = np.array([[0.9, 0.1], [0.7, 0.6], [np.nan, np.nan], [0.8, 0.5], [0.2, 0.4]])
    found = tag_segments(tag_frame(values))
    # Centres at 1, 2, 3, 4, 5 s: the borders lie at 1.5, 2.5, 3.5, 4.5 s.
    assert found.to_dict(orient="records") == [
        {"start": 0.0, "end": 2.5, "label": "tag 0", "confidence": pytest.approx(0.8), "windows": 2},
        {"start": 1.5, "end": 2.5, "label": "tag 1", "confidence": pytest.approx(0.6), "windows": 1},
        {"start": 3.5, "end": 4.5, "label": "tag 0", "confidence": pytest.approx(0.8), "windows": 1},
        {"start": 3.5, "end": 4.5, "label": "tag 1", "confidence": pytest.approx(0.5), "windows": 1},
    ]
    assert found.attrs == {"kind": "tagging", "failures": []}
    joined = tag_segments(tag_frame(values), gap=1.0)
    assert joined[["start", "end", "label", "windows"]].to_numpy().tolist() == [
        [0.0, 4.5, "tag 0", 3],
        [1.5, 4.5, "tag 1", 2],
    ]
    assert joined["confidence"].tolist() == pytest.approx([0.8, 0.55])
    assert len(tag_segments(tag_frame(values), 0.95)) == 0
    frame = tag_frame(values)
    frame.attrs["tag_threshold"] = 0.65
    assert set(tag_segments(frame)["label"]) == {"tag 0"}
    assert set(tag_segments(frame, 0.5)["label"]) == {"tag 0", "tag 1"}


@given(
    values=arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 4)), elements=st.floats(0, 1)),
    silent=st.sets(st.integers(0, 11)),
    threshold=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    gap=st.sampled_from([0.0, 1.0, 2.5]),
    hop=st.sampled_from([0.5, 2.0]),
)
def test_spans_of_tags_are_those_of_a_loop(
    values: np.ndarray, silent: set[int], threshold: float, gap: float, hop: float
):
    values[[i for i in silent if i < len(values)]] = np.nan
    frame = tag_frame(values, hop)
    borders = window_borders(frame)
    expected = []
    for tag in range(values.shape[1]):
        spans: list[list] = []
        for i, p in enumerate(values[:, tag]):
            if not p >= threshold:
                continue
            if spans and borders[i] - spans[-1][1] <= gap:
                spans[-1][1] = borders[i + 1]
                spans[-1][2].append(p)
            else:
                spans.append([borders[i], borders[i + 1], [p]])
        expected += [(start, end, f"tag {tag}", np.mean(found), len(found)) for start, end, found in spans]
    expected.sort(key=lambda row: row[0])  # stable: tags stay in order
    found = tag_segments(frame, threshold, gap=gap)
    assert list(found.columns) == ["start", "end", "label", "confidence", "windows"]
    assert len(found) == len(expected)
    for row, (start, end, label, confidence, windows) in zip(found.itertuples(index=False), expected, strict=True):
        assert (row.start, row.end, row.label, row.windows) == (start, end, label, windows)
        assert row.confidence == pytest.approx(confidence, abs=1e-9)


def test_thresholds_and_gaps_that_make_no_sense():
    frame = tag_frame(np.full((3, 2), 0.5))
    with pytest.raises(GraphophoneError, match="threshold"):
        tag_segments(frame, 2)
    with pytest.raises(GraphophoneError, match="gap"):
        tag_segments(frame, gap=-1)
    assert tag_segments(frame.iloc[:0]).empty


def test_windows_are_the_clips_of_the_model(tagger: Recognizer, write: Write, voice: Voice):
    signal = np.concatenate([voice(1.2), np.zeros(2 * RATE, np.float32), voice(0.9, seed=3)])
    found = timeline(tagger, write("street.wav", signal, subtype="FLOAT"))
    assert (found.attrs["window"], found.attrs["hop"]) == (pytest.approx(0.6), pytest.approx(0.3))
    assert found["start"].tolist() == pytest.approx([0.3 * i for i in range(len(found))])
    row = found.iloc[1]
    alone = tagger.process_signal(signal[round(0.3 * RATE) : round(0.9 * RATE)], RATE).iloc[0]
    assert (row["label"], row["tags"]) == (alone["label"], alone["tags"])
    quiet = found[found["label"] == SILENCE]
    assert len(quiet) > 2
    assert set(quiet["tags"]) == {""}
    middle = window_borders(found)[[quiet.index[0], quiet.index[-1] + 1]]
    spans = tag_segments(found, 0.0)
    assert len(spans) == 2 * len(tagger.labels)  # before and after the silence
    assert not ((spans["start"] < middle[1] - 1e-9) & (spans["end"] > middle[0] + 1e-9)).any()
    assert segments(found).equals(tag_segments(found, 0.5))


def test_windows_of_other_models_are_three_seconds(recognizer: Recognizer, write: Write, voice: Voice):
    path = write("call.wav", voice(5))
    assert timeline(recognizer, path)[["start", "end"]].to_numpy().tolist() == [[0, 3], [1, 4], [2, 5]]
    assert timeline(recognizer, path, window=0.5).attrs["hop"] == 0.5
