import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile

from graphophone.corpora import Corpus
from graphophone.features.noises import Babble
from graphophone.noise_plan import RobustnessError, checked_ratios, plan
from graphophone.talkers import RECORDINGS, TalkerError, corpus_talkers, given_talkers


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    """Forty recordings of ten speakers, one of them silent and one no audio."""
    folder = tmp_path_factory.mktemp("voices")
    rng = np.random.default_rng(0)
    rows = []
    for speaker in range(10):
        for number in range(4):
            path = folder / f"s{speaker}_{number}.wav"
            soundfile.write(path, 0.1 * rng.standard_normal(2000), 16000)
            rows.append((str(path), "ab"[number % 2], f"s{speaker}"))
    soundfile.write(rows[0][0], np.zeros(2000), 16000)
    (folder / "s1_0.wav").write_text("no sound")
    return pd.DataFrame(rows, columns=["audio", "label", "speaker"])


def corpus_of(table: pd.DataFrame) -> Corpus:
    return Corpus.from_table(table, name="voices")


def test_nobody_is_masked_by_their_own_voice(voices):
    groups = corpus_talkers(corpus_of(voices))
    speaker_of = dict(zip(voices["audio"], voices["speaker"], strict=True))
    assert len(groups) == 4
    assert sorted(name for group in groups for name in group.speakers) == [f"s{i}" for i in range(10)]
    for group in groups:
        heard = [speaker_of[recording.path] for recording in group.noise.recordings]
        assert not group.speakers.intersection(heard)
        assert set(heard) == {f"s{i}" for i in range(10)} - group.speakers  # everybody else talks
        assert len(heard) == RECORDINGS
        paths = [recording.path for recording in group.noise.recordings]
        assert len(set(paths)) == len(paths)
        assert voices["audio"][0] not in paths  # silent
        assert voices["audio"][4] not in paths  # no audio


def test_groups_do_not_hang_on_the_order_of_the_items(voices):
    shuffled = voices.sample(frac=1.0, random_state=1)
    one, other = corpus_talkers(corpus_of(voices)), corpus_talkers(corpus_of(shuffled))
    assert [group.speakers for group in one] == [group.speakers for group in other]
    assert [group.noise.config for group in one] == [group.noise.config for group in other]


def test_every_item_gets_every_noise_once(voices):
    corpus = corpus_of(voices)
    items = corpus.select(np.arange(0, 40, 3))
    planned, skipped = plan(items, corpus, ["pink", "babble", "white"])
    assert [noise.name for noise in planned] == ["pink", "babble", "white"]
    assert not skipped
    for noise in planned:
        rows = np.sort(np.concatenate([rows for rows, _ in noise.parts]))
        np.testing.assert_array_equal(rows, np.arange(len(items)))
    few, _ = plan(items.select([0]), corpus, ["babble"])
    assert few[0].key == planned[1].key  # the same babble, of which one item hears a part
    assert len({noise.key for noise in planned}) == 3
    (note,) = planned[1].notes
    assert "training speakers among them" in note


def test_babble_needs_other_voices(voices):
    for table, reason in (
        (voices.drop(columns="speaker"), "names no speakers"),
        (voices.assign(speaker="s0"), r"names only one speaker \(s0\)"),
    ):
        corpus = corpus_of(table)
        planned, skipped = plan(corpus, corpus, ["white", "babble"])
        assert [noise.name for noise in planned] == ["white"]
        assert [entry["noise"] for entry in skipped] == ["babble"]
        with pytest.raises(TalkerError, match=reason):
            corpus_talkers(corpus)
        with pytest.raises(RobustnessError, match=reason):
            plan(corpus, corpus, ["babble"])
        (babble,), skipped = plan(corpus, corpus, ["babble"], talkers=[voices["audio"][2]])
        assert not skipped
        assert isinstance(babble.parts[0][1], Babble)
        assert babble.notes == ()
    corpus = corpus_of(voices)
    assert plan(corpus, corpus, ["white", "babble"], sounds=True)[1] == [
        {
            "noise": "babble",
            "reason": "corpus 'voices' is not one of speech: give recordings of speech with --talkers",
        }
    ]


def test_few_voices_are_said(voices):
    two = corpus_of(voices[voices["speaker"].isin(["s2", "s3"])])
    (babble,), _ = plan(two, two, ["babble"])
    assert len(babble.parts) == 2
    assert babble.notes[1:] == ("The corpus has 2 speakers only, so the babble holds some voices more than once.",)


def test_of_many_recordings_some_are_taken(voices, tmp_path):
    for number, path in enumerate(voices["audio"][8:]):
        shutil.copy(path, tmp_path / f"{number:02d}.wav")
    assert len(given_talkers([tmp_path]).recordings) == RECORDINGS
    assert len(given_talkers([tmp_path / "00.wav", tmp_path / "01.wav"]).recordings) == 2


def test_ratios_fall_and_are_numbers():
    assert checked_ratios([0, 20, 5, 20]) == [20.0, 5.0, 0.0]
    for wrong in ([], [float("inf")]):
        with pytest.raises(RobustnessError, match="numbers in dB"):
            checked_ratios(wrong)
