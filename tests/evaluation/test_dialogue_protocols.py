"""Splits that keep dialogues whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphophone import corpora
from graphophone.corpora.base import Corpus
from graphophone.evaluation.protocols import ProtocolError, Split, create_protocol, dialogues_divided, shared_speakers


def talks(
    sizes: list[int], *, speakers: int = 2, per_session: int = 3, unlabelled: float = 0.0, seed: int = 0
) -> Corpus:
    """Dialogues of these sizes, so many in each session of two speakers of its own."""
    rng = np.random.default_rng(seed)
    dialogue = np.repeat(np.arange(len(sizes)), sizes)
    session = dialogue // per_session
    number = np.arange(len(dialogue))
    label = np.array(["a", "b", "c"], dtype=object)[rng.permutation(number) % 3]
    label[rng.uniform(size=len(label)) < unlabelled] = ""
    table = pd.DataFrame(
        {
            "id": number.astype(str),
            "label": label,
            "dialogue": [f"d{n}" for n in dialogue],
            "speaker": [f"s{s}{'FM'[n % speakers]}" for s, n in zip(session, number, strict=True)],
            "session": session,
            "text": "x",
        }
    )
    return Corpus.from_table(table, name="talks", classes="a,b,c", unlabelled=True)


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.integers(6, 12), min_size=6, max_size=14),
    st.integers(2, 5),
    st.sampled_from([0.0, 0.3]),
    st.integers(0, 100),
)
def test_groups_of_dialogues_are_whole_and_test_every_turn_once(
    sizes: list[int], groups: int, unlabelled: float, seed: int
) -> None:
    corpus = talks(sizes, unlabelled=unlabelled, seed=seed)
    splits = create_protocol("dialogue-independent", groups=groups).splits(corpus, seed=seed)
    assert len(splits) == groups
    tested = np.concatenate([split.test for split in splits])
    assert sorted(tested.tolist()) == np.flatnonzero(corpus.labelled).tolist()
    for split in splits:
        assert dialogues_divided(corpus, split) == ()
        assert len(split.validation) > 0
        # Turns without label of training dialogues are all there, although their speakers are tested elsewhere.
        training = set(corpus.table["dialogue"].iloc[split.train])
        without = np.flatnonzero(~corpus.labelled & corpus.table["dialogue"].isin(training).to_numpy())
        assert set(without) <= set(split.unlabelled)


@pytest.mark.parametrize("share", [0.2, 0.4])
def test_one_share_of_dialogues(share: float) -> None:
    corpus = talks([10] * 40)
    protocol = create_protocol("dialogue-independent", test=share, validation=0.25)
    (split,) = protocol.splits(corpus, seed=1)
    assert dialogues_divided(corpus, split) == ()
    assert len(split.test) == pytest.approx(400 * share, abs=10)
    assert len(split.validation) == pytest.approx(400 * (1 - share) / 4, abs=10)
    counts = np.bincount(corpus.targets[split.test])
    assert counts.max() - counts.min() <= 3
    (same,), (other,) = protocol.splits(corpus, seed=1), protocol.splits(corpus, seed=2)
    assert same.test.tolist() == split.test.tolist() != other.test.tolist()
    told = protocol.describe(corpus, [split])
    assert told["mixes_speakers"]
    assert "its speakers may be" in told["description"]


def test_many_dialogues_are_dealt_out_soon() -> None:
    corpus = talks([8] * 5000)
    splits = create_protocol("dialogue-independent").splits(corpus)
    assert [len(split.test) for split in splits] == [8000] * 5
    for split in splits:
        counts = np.bincount(corpus.targets[split.test])
        assert counts.max() - counts.min() <= 20


def test_what_is_divided_is_found() -> None:
    corpus = talks([3, 3, 3, 3])
    rows = np.arange(12)
    nothing = np.zeros(0, dtype=np.int64)
    assert dialogues_divided(corpus, Split("x", rows[:6], rows[6:9], rows[9:])) == ()
    assert dialogues_divided(corpus, Split("x", rows[:5], rows[5:9], rows[9:])) == ("d1",)
    assert dialogues_divided(corpus, Split("x", rows[:5], rows[6:10], rows[10:])) == ("d3",)
    assert dialogues_divided(corpus, Split("x", rows[:5], nothing, rows[6:], unlabelled=rows[5:6])) == ()
    assert dialogues_divided(corpus, Split("x", rows[:5], nothing, rows[6:11], unlabelled=rows[11:])) == ("d3",)
    corpus.table.loc[5, "dialogue"] = ""  # of none
    assert dialogues_divided(corpus, Split("x", rows[:5], rows[5:9], rows[9:])) == ()
    plain = Corpus.from_table(corpus.table.drop(columns="dialogue"), name="plain")
    assert dialogues_divided(plain, Split("x", rows[:5], rows[5:9], rows[9:])) == ()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("speaker-independent", {}),
        ("speaker-independent", {"groups": 2}),
        ("speaker-independent", {"groups": "loso"}),
        ("session", {}),
        ("folds", {}),
        ("folds", {"validation": "carve", "fraction": 0.25}),
        ("folds", {"validation": "none"}),
        ("official", {"validation": 0.3}),
        ("official", {"validation": 0.3, "validation_by": "dialogue"}),
        ("dialogue-independent", {}),
    ],
)
def test_protocols_that_can_keep_dialogues_whole_do(name: str, options: dict[str, Any]) -> None:
    corpus = talks([9, 8, 7, 6, 9, 8] * 3, unlabelled=0.1)  # six sessions
    corpus.table["fold"] = corpus.table["session"] // 2
    corpus.table["split"] = np.where(corpus.table["session"] >= 4, "test", "train")
    splits = create_protocol(name, whole_dialogues=True, **options).splits(corpus, seed=3)
    for split in splits:
        assert dialogues_divided(corpus, split) == ()
        if name != "dialogue-independent":
            assert shared_speakers(corpus, split) == ()
    if options.get("groups") == "loso":
        assert [split.name for split in splits] == [f"speaker-s{n}F_s{n}M" for n in range(6)]


@pytest.mark.parametrize(
    ("name", "options"),
    [("stratified", {}), ("speaker-independent", {"groups": "loso"}), ("official", {"validation_by": "speaker"})],
)
def test_without_it_they_may_not(name: str, options: dict[str, Any]) -> None:
    corpus = talks([9] * 18)
    corpus.table["split"] = np.where(corpus.table["session"] >= 4, "test", "train")
    splits = create_protocol(name, **options).splits(corpus)
    assert any(dialogues_divided(corpus, split) for split in splits)


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("stratified", {}, r"dialogue 'd0' and \d+ others are divided .* use the protocol 'dialogue-independent'"),
        ("folds", {}, "divided among training, validation and test"),
        ("session", {"leave": "speaker"}, "alone in a session"),
    ],
)
def test_divisions_of_dialogues_are_refused(name: str, options: dict[str, Any], match: str) -> None:
    corpus = talks([9] * 18)
    corpus.table["fold"] = np.arange(len(corpus)) % 3
    with pytest.raises(ProtocolError, match=match) as caught:
        create_protocol(name, whole_dialogues=True, **options).splits(corpus)
    assert "\n" not in str(caught.value)


def test_everybody_talks_to_everybody() -> None:
    corpus = talks([9] * 10, per_session=10)
    with pytest.raises(ProtocolError, match="has one speaker, so none can be left out"):
        create_protocol("speaker-independent", whole_dialogues=True).splits(corpus)


@pytest.mark.parametrize(("groups", "sizes"), [(3, [9, 9]), (None, [9])])
def test_too_few_dialogues(groups: int | None, sizes: list[int]) -> None:
    with pytest.raises(ProtocolError, match=f"has {len(sizes)} labelled dialogues, too few"):
        create_protocol("dialogue-independent", groups=groups).splits(talks(sizes))


@pytest.mark.data
def test_meld_as_it_is(data_root: Path) -> None:
    corpus = corpora.load("meld", data_root / "meld")
    (split,) = create_protocol("official", whole_dialogues=True).splits(corpus)
    assert (len(split.train), len(split.validation), len(split.test)) == (9989, 1109, 2610)
    assert shared_speakers(corpus, split)
    groups = create_protocol("dialogue-independent", whole_dialogues=True).splits(corpus)
    shares = np.array([np.bincount(corpus.targets[group.test]) for group in groups])
    assert (shares.max(axis=0) - shares.min(axis=0) <= 0.03 * shares.sum(axis=0)).all()
    turns = corpus.table.groupby("dialogue")
    assert turns["position"].apply(lambda position: position.is_monotonic_increasing and position.is_unique).all()
    assert turns["speaker"].nunique().max() == 9
