"""MELD as its owners publish it."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from graphophone import corpora
from graphophone.corpora import CorpusError
from graphophone.corpora.meld import EMOTIONS, PARTS, SENTIMENTS
from graphophone.evaluation.protocols import create_protocol

MakeSound = Callable[..., Path]

HEADER = [
    *("Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID", "Season", "Episode"),
    *("StartTime", "EndTime"),
]


def put(path: Path, rows: list[tuple[str, str, str, str, int, int]]) -> None:
    """A table of utterances: text, speaker, emotion, sentiment, dialogue, utterance."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for number, row in enumerate(rows, start=1):
            writer.writerow([number, *row, 8, 21, "00:16:16,059", "01:00:21,28"])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "meld"
    moods = [(e, "neutral" if e == "neutral" else "positive" if e == "joy" else "negative") for e in EMOTIONS]
    everything = [("Yes, it\x92s \x93me\x94.\x81", "Joey", *mood, 125, number) for number, mood in enumerate(moods)]
    put(root / "train_sent_emo.csv", [*everything, ("What?", "The Interviewer", "anger", "negative", 0, 2)])
    put(root / "dev_sent_emo.csv", [("What?", "Joey", "joy", "positive", 0, 0)])
    put(
        root / "test_sent_emo.csv",
        [("What?", "Ross", "fear", "negative", 0, 0), ("Oh", "Joey", "joy", "positive", 0, 1)],
    )
    return root


def test_transcripts_of_the_published_split(tree: Path) -> None:
    found = corpora.load("meld", tree)
    assert found.problems == ()
    assert found.classes == ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
    table = found.table
    assert table["id"].tolist()[-4:] == ["train_dia0_utt2", "dev_dia0_utt0", "test_dia0_utt0", "test_dia0_utt1"]
    assert table["dialogue"].tolist()[-4:] == ["train_dia0", "dev_dia0", "test_dia0", "test_dia0"]
    assert table["position"].tolist()[-4:] == [2, 0, 0, 1]
    assert table["speaker"].tolist()[-4:] == ["The Interviewer", "Joey", "Ross", "Joey"]
    assert table["split"].tolist()[-4:] == ["train", "validation", "test", "test"]
    assert table["text"].iloc[0] == "Yes, it\u2019s \u201cme\u201d."
    assert table["sentiment"].tolist()[-2:] == ["negative", "positive"]
    assert table["episode"].iloc[0] == "s08e21"
    assert table["clip_start"].iloc[0] == pytest.approx(976.059)
    assert table["clip_end"].iloc[0] == pytest.approx(3621.028), "28 milliseconds, not 280"
    assert "audio" not in table
    (split,) = create_protocol("official").splits(found, seed=3)
    assert [len(split.train), len(split.validation), len(split.test)] == [8, 1, 2]


def test_sentiment_as_the_label(tree: Path) -> None:
    found = corpora.load("meld", tree, label="sentiment")
    assert found.classes == SENTIMENTS
    assert found.table["label"].tolist()[-2:] == ["negative", "positive"]
    assert found.table["emotion"].tolist()[-2:] == ["fear", "joy"]
    with pytest.raises(CorpusError, match="label='mood' is not one of emotion, sentiment"):
        corpora.load("meld", tree, label="mood")


def test_sound_of_the_clips(tree: Path, tmp_path: Path, make_sound: MakeSound) -> None:
    sound = tmp_path / "MELD.Raw"
    for name in (
        *(f"train_splits/dia125_utt{number}.wav" for number in (0, 1, 2, 4, 5, 6)),
        "dev_splits_complete/wav/dia0_utt0.flac",
        "output_repeated_splits_test/dia0_utt0.wav",
        "output_repeated_splits_test/final_videos_testdia0_utt1.wav",
        "elsewhere/dia0_utt2.wav",
    ):
        make_sound(sound / name)
    found = corpora.load("meld", tree, audio=sound)
    assert len(found) == 8
    assert found.table.set_index("id")["audio"].loc[["dev_dia0_utt0", "test_dia0_utt0"]].tolist() == [
        str(sound / "dev_splits_complete/wav/dia0_utt0.flac"),
        str(sound / "output_repeated_splits_test/dia0_utt0.wav"),
    ]
    reasons = {problem.item: problem.reason for problem in found.problems}
    assert reasons == {
        "train_dia125_utt3": "no clip: the published one is damaged",
        "train_dia0_utt2": f"no clip below {sound}",
        "test_dia0_utt1": f"no clip below {sound}",
    }
    assert corpora.check(found, decode=False, progress=False).ok is False, "what was left out is an error"
    shutil.rmtree(sound)
    make_sound(sound / "elsewhere/dia0_utt0.wav")
    with pytest.raises(CorpusError, match=r"no clip train/dia0_utt0\.wav"):
        corpora.load("meld", tree, audio=sound)


def test_damage_is_named(tree: Path) -> None:
    path = tree / "dev_sent_emo.csv"
    text = path.read_text(encoding="utf-8")
    path.write_text(text + '2,"Hm",Joey,bored,neutral,0,1,8,21,x,y\n3,too,few\n', encoding="utf-8")
    assert [str(problem) for problem in corpora.load("meld", tree).problems] == [
        "dev_sent_emo.csv, row 4: 3 cells where the header has 11; put cells that hold ',' in quotes",
        "dev_dia0_utt1: unknown label 'bored'. Known: neutral, surprise, fear, sadness, joy, disgust, anger",
    ]
    path.write_text(text.replace("joy,positive,0,0", "joy,positive,zero,0"), encoding="utf-8")
    with pytest.raises(CorpusError, match="dialogue 'zero' of record 1 is not a whole number"):
        corpora.load("meld", tree)
    path.write_text(text.replace("Speaker", "Who"), encoding="utf-8")
    with pytest.raises(CorpusError, match="no column 'Speaker'"):
        corpora.load("meld", tree)
    path.unlink()
    with pytest.raises(CorpusError, match=r"dev_sent_emo\.csv is not there"):
        corpora.load("meld", tree)


@pytest.mark.data
def test_the_published_corpus(data_root: Path) -> None:
    found = corpora.load("meld", data_root / "meld")
    assert found.problems == ()
    counts = {part: found.select(found.table["split"] == part).class_counts().tolist() for part in PARTS.values()}
    assert counts == {
        "train": [4710, 1205, 268, 683, 1743, 271, 1109],
        "validation": [470, 150, 40, 111, 163, 22, 153],
        "test": [1256, 281, 50, 208, 402, 68, 345],
    }
    assert found.table["dialogue"].nunique() == 1038 + 114 + 280
    assert found.table.groupby("dialogue")["position"].is_monotonic_increasing.all()
    assert {"train_dia125_utt3", "dev_dia110_utt7"} <= set(found.table["id"])
    assert not found.table["text"].str.contains("[\x80-\x9f]").any()
