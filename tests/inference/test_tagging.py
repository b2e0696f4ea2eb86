"""Answers of models of clips: tags, their thresholds, and what is not heard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphophone.errors import GraphophoneError
from graphophone.inference import Bundle, Recognizer

TAGS = ("dog", "rain, heavy", "siren", "speech")
PROBABILITIES = [f"p_{tag}" for tag in TAGS]
RATE = 16000
Voice = Callable[..., np.ndarray]
Write = Callable[..., Path]


def test_each_tag_has_a_probability_of_its_own(tagger: Recognizer, tagger_bundle: Bundle, voice: Voice):
    found = tagger.process_signal(voice(0.5), RATE)
    assert list(found.columns) == ["file", "start", "end", "label", "confidence", "tags", *PROBABILITIES]
    frames = tagger_bundle.standardizer(tagger_bundle.pipeline(voice(0.5), RATE))
    with torch.no_grad():
        expected = tagger_bundle.model(torch.from_numpy(frames)[None]).sigmoid()[0]
    row = found.iloc[0]
    np.testing.assert_allclose(found[PROBABILITIES].iloc[0].astype(float), expected, atol=1e-6)
    best = int(expected.argmax())
    assert (row["label"], row["confidence"]) == (TAGS[best], pytest.approx(float(expected[best]), abs=1e-6))
    order = np.argsort(-expected.numpy(), kind="stable")
    assert row["tags"] == "; ".join(f"{TAGS[i]} {expected[i]:.2f}" for i in order)


def test_a_classifier_of_clips_chooses_one(clip_parts: Callable[..., dict], voice: Voice):
    bundle = Bundle(**clip_parts(kind="classification"))
    found = Recognizer(bundle).process_signal(voice(0.5), RATE)
    assert "tags" not in found
    assert found[PROBABILITIES].sum(axis=1).iloc[0] == pytest.approx(1)
    found = Recognizer(bundle, top=2).process_signal(voice(0.5), RATE)
    assert found["tags"].iloc[0].startswith(f"{found['label'].iloc[0]} {found['confidence'].iloc[0]:.2f}; ")
    assert len(found["tags"].iloc[0].split("; ")) == 2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["siren", "dog", "speech", "rain, heavy"]),
        ({"top": 2}, ["siren", "dog"]),
        ({"tag_threshold": 0.3}, ["siren", "dog", "speech"]),
        ({"top": 1, "tag_threshold": 0.3}, ["siren"]),
        ({"tag_threshold": 0.91}, []),
        ({"tag_threshold": 0.0}, ["siren", "dog", "speech", "rain, heavy"]),
        ({"tag_threshold": 0.3, "threshold": 0.95}, ["siren", "dog", "speech"]),
    ],
)
def test_number_and_threshold_of_tags(tagger_bundle: Bundle, options: dict, expected: list[str]):
    recognizer = Recognizer(tagger_bundle, **options)
    probabilities = np.array([0.5, 0.1, 0.9, 0.3])
    assert [tag for tag, _ in recognizer.tags(probabilities)] == expected
    row = recognizer.row(probabilities)
    assert row["label"] == ("unsure" if "threshold" in options else "siren")
    assert row["tags"] == "; ".join(f"{tag} {probabilities[TAGS.index(tag)]:.2f}" for tag in expected)


def test_five_tags_are_the_default_and_a_threshold_replaces_it(tagger_bundle: Bundle):
    labels = tuple(f"tag {i}" for i in range(40))
    many = Bundle(**{**vars(tagger_bundle), "labels": labels})
    probabilities = np.linspace(0, 1, 40)
    assert [tag for tag, _ in Recognizer(many).tags(probabilities)] == [f"tag {i}" for i in (39, 38, 37, 36, 35)]
    assert len(Recognizer(many, tag_threshold=0.5).tags(probabilities)) == 20


@pytest.mark.parametrize("options", [{"top": 0}, {"top": 2.5}, {"top": True}, {"tag_threshold": 1.5}])
def test_numbers_that_make_no_sense(tagger_bundle: Bundle, options: dict):
    with pytest.raises(GraphophoneError, match=next(iter(options))):
        Recognizer(tagger_bundle, **options)


@settings(max_examples=15)
@given(count=st.integers(1, 7), budget=st.sampled_from([1, 60, 150, 10_000]), seed=st.integers(0, 99))
def test_an_answer_does_not_depend_on_its_batch_mates(tagger_bundle: Bundle, count: int, budget: int, seed: int):
    rng = np.random.default_rng(seed)
    frames = [rng.normal(-6, 3, (rng.choice([60, 60, 44]), 16)).astype(np.float32) for _ in range(count)]
    together = Recognizer(tagger_bundle, frames_per_batch=budget).probabilities(frames)
    alone = np.concatenate([Recognizer(tagger_bundle).probabilities([item]) for item in frames])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_clips_of_one_length_are_one_batch(tagger: Recognizer, monkeypatch: pytest.MonkeyPatch):
    seen = []
    forward = tagger._forward
    monkeypatch.setattr(tagger, "_forward", lambda items: seen.append([len(x) for x in items]) or forward(items))
    tagger.probabilities([np.zeros((n, 16), np.float32) for n in (60, 50, 60, 60, 50)])
    assert seen == [[50, 50], [60, 60, 60]]


def test_the_bad_are_named_and_the_good_ones_tagged(tagger_bundle: Bundle, write: Write, tmp_path: Path, voice: Voice):
    good = [write("a.wav", voice(0.3)), write("b.flac", voice(0.6, seed=1))]
    bad = [tmp_path / "gone.wav", tmp_path / "empty.wav", write("nan.wav", np.full(RATE, np.nan), subtype="FLOAT")]
    bad[1].write_bytes(b"")
    found = Recognizer(tagger_bundle, workers=1).process_files([good[0], *bad, good[1]])
    assert list(found["file"]) == [str(path) for path in good]
    assert list(found.index) == [0, 4]
    assert found["tags"].str.len().min() > 10
    assert [problem.item for problem in found.attrs["failures"]] == [str(path) for path in bad]


def test_the_end_of_a_long_clip_is_said_not_to_be_heard(tagger: Recognizer, write: Write, voice: Voice):
    signal = voice(1.5)
    found = tagger.process_files([write("long.wav", signal, subtype="FLOAT"), write("short.wav", voice(0.65))])
    (warning,) = found.attrs["warnings"]
    assert warning.item.endswith("long.wav")
    assert warning.reason == "the model hears only the first 0.6 s of 1.5 s; use timeline for all of it"
    # 60 frames of 25 ms, 10 ms apart: the first 0.615 s.
    part = tagger.process_signal(signal[: round(0.615 * RATE)], RATE)
    np.testing.assert_allclose(found[PROBABILITIES].iloc[0], part[PROBABILITIES].iloc[0], atol=1e-6)


def test_an_empty_table_has_its_columns(tagger: Recognizer):
    assert list(tagger.process_files([]).columns) == [
        "file",
        "start",
        "end",
        "label",
        "confidence",
        "tags",
        *PROBABILITIES,
    ]
