import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from graphophone.corpora.base import Corpus
from graphophone.errors import GraphophoneError, UnknownNameError
from graphophone.evaluation import PROTOCOLS, ProtocolError, Split, create_protocol, list_protocols
from graphophone.evaluation.protocols import (
    balanced_groups,
    draw_groups,
    draw_labelled,
    draw_stratified,
    natural_key,
    shared_speakers,
)


@dataclass
class FakeCorpus:
    """What protocols read, and the targets to check them by."""

    table: pd.DataFrame
    classes: tuple[str, ...]
    name: str = "fake"

    @property
    def targets(self) -> np.ndarray:
        return self.table["label"].map({c: i for i, c in enumerate(self.classes)}).to_numpy(np.int64)


def make(labels: list[str], classes: tuple[str, ...] | None = None, **columns: Any) -> FakeCorpus:
    table = pd.DataFrame({"id": [f"i{n}" for n in range(len(labels))], "label": labels, **columns})
    return FakeCorpus(table, classes or tuple(sorted(set(labels))))


def ravdess_like() -> FakeCorpus:
    """24 actors with 60 items each: 4 neutral and 8 of every other class, as in RAVDESS."""
    classes = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"]
    labels = classes[:1] * 4 + classes[1:] * 8
    actors = [f"{a:02d}" for a in range(1, 25)]
    return make(
        labels * 24,
        tuple(classes),
        speaker=np.repeat(actors, 60),
        fold=np.repeat(np.arange(24) // 4, 60),
    )


def iemocap_like() -> FakeCorpus:
    """Five sessions of two speakers each with all four classes."""
    labels = ["anger", "happy", "neutral", "sad"] * 10 * 10
    return make(
        labels,
        speaker=np.repeat([f"Ses0{s}{g}" for s in range(1, 6) for g in "FM"], 40),
        session=np.repeat([1, 2, 3, 4, 5], 80),
    )


def speakers_of(corpus: FakeCorpus, rows: np.ndarray) -> set[str]:
    return set(corpus.table["speaker"].iloc[rows])


def assert_lawful(corpus: FakeCorpus, splits: list[Split], complete: bool = True) -> None:
    for split in splits:
        parts = (split.train, split.validation, split.test)
        assert all(p.dtype == np.int64 and len(p) > 0 and (np.diff(p) > 0).all() for p in parts)
        assert len(np.unique(np.concatenate(parts))) == sum(map(len, parts))
        if complete:
            assert sum(map(len, parts)) == len(corpus.table)
        assert set(corpus.targets[split.train]) == set(range(len(corpus.classes)))
    assert len({s.name for s in splits}) == len(splits)


def assert_speakers_apart(corpus: FakeCorpus, splits: list[Split]) -> None:
    for split in splits:
        train, validation, test = (speakers_of(corpus, r) for r in (split.train, split.validation, split.test))
        assert not train & test
        assert not train & validation
        assert not validation & test


def assert_same(a: list[Split], b: list[Split]) -> None:
    assert [s.name for s in a] == [s.name for s in b]
    for x, y in zip(a, b, strict=True):
        assert all(np.array_equal(getattr(x, p), getattr(y, p)) for p in ("train", "validation", "test"))


@st.composite
def corpora(draw: st.DrawFn) -> FakeCorpus:
    """Every speaker has every class at least once; how often is drawn."""
    speakers = draw(st.integers(4, 9))
    classes = draw(st.integers(2, 4))
    counts = draw(st.lists(st.integers(1, 6), min_size=speakers * classes, max_size=speakers * classes))
    labels = np.repeat(np.tile([f"c{c}" for c in range(classes)], speakers), counts)
    who = np.repeat(np.repeat([f"s{s}" for s in range(speakers)], classes), counts)
    order = np.random.default_rng(draw(st.integers(0, 99))).permutation(len(labels))
    return make(labels[order].tolist(), speaker=who[order])


# ---------------------------------------------------------------- laws


@given(corpora(), st.integers(2, 4), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_speaker_groups_keep_speakers_apart_and_test_everything_once(
    corpus: FakeCorpus, groups: int, seed: int
) -> None:
    protocol = create_protocol("speaker-independent", groups=groups)
    splits = protocol.splits(corpus, seed=seed)
    assert len(splits) == groups
    assert_lawful(corpus, splits)
    assert_speakers_apart(corpus, splits)
    assert sorted(np.concatenate([s.test for s in splits])) == list(range(len(corpus.table)))
    sizes = [len(speakers_of(corpus, s.test)) for s in splits]
    assert max(sizes) - min(sizes) <= 1
    assert_same(splits, protocol.splits(corpus, seed=seed))


@given(corpora())
@settings(max_examples=40, deadline=None)
def test_leave_one_speaker_out(corpus: FakeCorpus) -> None:
    splits = create_protocol("speaker-independent", groups="loso").splits(corpus)
    assert [s.name for s in splits] == [f"speaker-{s}" for s in sorted(set(corpus.table["speaker"]), key=natural_key)]
    assert_lawful(corpus, splits)
    assert_speakers_apart(corpus, splits)
    assert all(len(speakers_of(corpus, s.test)) == 1 for s in splits)


@given(corpora(), st.integers(0, 2**31), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_stratified_draws_every_class_alike(corpus: FakeCorpus, seed: int, repeats: int) -> None:
    protocol = create_protocol("stratified", repeats=repeats)
    splits = protocol.splits(corpus, seed=seed)
    assert len(splits) == repeats
    assert_lawful(corpus, splits)
    counts = np.bincount(corpus.targets)
    for split in splits:
        assert (np.abs(np.bincount(corpus.targets[split.test], minlength=len(counts)) - 0.2 * counts) < 1).all()
    assert_same(splits, protocol.splits(corpus, seed=seed))


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=6),
    st.floats(0.05, 0.95),
    st.integers(0, 2**31),
)
@settings(max_examples=100, deadline=None)
def test_draw_stratified_quotas(counts: list[int], fraction: float, seed: int) -> None:
    targets = np.repeat(np.arange(len(counts)), counts)
    drawn = draw_stratified(targets, fraction, np.random.default_rng(seed))
    got = np.bincount(targets[drawn], minlength=len(counts))
    assert (np.abs(got - fraction * np.array(counts)) <= 1).all()
    assert (got < np.array(counts)).all()


@given(corpora(), st.floats(0.05, 0.5), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_draw_groups_takes_whole_groups(corpus: FakeCorpus, fraction: float, seed: int) -> None:
    speakers = corpus.table["speaker"].to_numpy()
    drawn = draw_groups(speakers, corpus.targets, fraction, np.random.default_rng(seed), trials=20)
    inside, outside = set(speakers[drawn]), set(speakers[~drawn])
    assert inside
    assert outside
    assert not inside & outside


def test_draw_groups_keeps_a_class_in_training_where_it_can() -> None:
    # Only the speakers a and b have class 1, so they must not both be drawn.
    speakers = np.repeat(list("abcdef"), 4)
    targets = np.zeros(24, dtype=np.int64)
    targets[[0, 4]] = 1
    for seed in range(20):
        drawn = draw_groups(speakers, targets, 0.5, np.random.default_rng(seed))
        assert (targets[~drawn] == 1).any()


def test_balanced_groups_evens_the_classes_out() -> None:
    # Four speakers have only class 0 and four only class 1: two groups of two and two are possible.
    speakers = [f"s{n}" for n in range(8) for _ in range(10)]
    targets = np.repeat([0, 0, 0, 0, 1, 1, 1, 1], 10)
    for seed in range(10):
        for group in balanced_groups(speakers, targets, 2, np.random.default_rng(seed)):
            assert sum(int(s[1]) < 4 for s in group) == 2


# ---------------------------------------------------------------- known corpora


def test_six_folds_of_four_actors() -> None:
    corpus = ravdess_like()
    for protocol in (create_protocol("speaker-independent"), create_protocol("folds")):
        splits = protocol.splits(corpus, seed=3)
        assert [s.name for s in splits] == [f"fold{f}" for f in range(6)]
        for f, split in enumerate(splits):
            fold = corpus.table["fold"].to_numpy()
            assert set(fold[split.test]) == {f}
            assert set(fold[split.validation]) == {(f + 1) % 6}
            assert set(fold[split.train]) == set(range(6)) - {f, (f + 1) % 6}
        assert_lawful(corpus, splits)
        assert_speakers_apart(corpus, splits)


def test_own_folds_are_used_only_where_they_fit() -> None:
    corpus = ravdess_like()
    assert create_protocol("speaker-independent", groups=6).splits(corpus)[0].name == "fold0"
    assert create_protocol("speaker-independent", groups=4).splits(corpus)[0].name == "group0"
    assert create_protocol("speaker-independent", use_folds=False).splits(corpus)[0].name == "group0"
    corpus.table["fold"] = np.arange(len(corpus.table)) % 6  # every speaker is now in every fold
    splits = create_protocol("speaker-independent", groups=6).splits(corpus)
    assert splits[0].name == "group0"
    assert_speakers_apart(corpus, splits)


def test_sessions() -> None:
    corpus = iemocap_like()
    splits = create_protocol("session").splits(corpus)
    assert [s.name for s in splits] == [f"session{s}" for s in range(1, 6)]
    session = corpus.table["session"].to_numpy()
    for index, split in enumerate(splits):
        assert set(session[split.test]) == {index + 1}
        assert set(session[split.validation]) == {(index + 1) % 5 + 1}
    assert_lawful(corpus, splits)
    assert_speakers_apart(corpus, splits)


def test_leave_one_speaker_of_a_session_out() -> None:
    corpus = iemocap_like()
    splits = create_protocol("session", leave="speaker").splits(corpus)
    assert len(splits) == 10
    assert_lawful(corpus, splits)
    assert_speakers_apart(corpus, splits)
    session = corpus.table["session"].to_numpy()
    for split in splits:
        assert set(session[split.test]) == set(session[split.validation])
        assert len(speakers_of(corpus, split.test)) == len(speakers_of(corpus, split.validation)) == 1


def test_paper_split_has_the_paper_sizes() -> None:
    counts = {"anger": 1103, "happy": 595, "neutral": 1708, "sad": 1084}
    corpus = make([label for label, n in counts.items() for _ in range(n)])
    (split,) = create_protocol("stratified").splits(corpus)
    assert len(split.test) == 898
    assert len(split.train) + len(split.validation) == 3592
    assert len(split.validation) == 359
    assert np.bincount(corpus.targets[split.test])[1] == 119


def test_stratified_says_that_it_mixes_speakers() -> None:
    protocol = create_protocol("stratified")
    assert protocol.mixes_speakers
    assert "mixed" in protocol.description
    corpus = ravdess_like()
    told = protocol.describe(corpus, protocol.splits(corpus))
    assert told["mixes_speakers"] is True
    honest = create_protocol("speaker-independent")
    told = honest.describe(corpus, honest.splits(corpus))
    assert told["mixes_speakers"] is False
    assert told["folds"][0] == {
        "name": "fold0",
        "train": 960,
        "validation": 240,
        "test": 240,
        "unlabelled": 0,
        "test_speakers": ["01", "02", "03", "04"],
    }


def test_mixing_is_counted_for_folds_that_the_corpus_made() -> None:
    corpus = ravdess_like()
    corpus.table["fold"] = np.arange(len(corpus.table)) % 6
    protocol = create_protocol("folds")
    splits = protocol.splits(corpus)
    assert len(shared_speakers(corpus, splits[0])) == 24
    assert protocol.describe(corpus, splits)["mixes_speakers"] is True
    unknown = make(["a", "b"] * 9, fold=np.arange(18) // 6)
    told = protocol.describe(unknown, protocol.splits(unknown))
    assert told["mixes_speakers"] is None
    assert told["speakers_known"] is False


def test_seed_changes_random_protocols() -> None:
    corpus = ravdess_like()
    protocol = create_protocol("stratified")
    a, b = (protocol.splits(corpus, seed=s)[0] for s in (0, 1))
    assert not np.array_equal(a.test, b.test)
    repeats = create_protocol("stratified", repeats=2).splits(corpus)
    assert not np.array_equal(repeats[0].test, repeats[1].test)
    assert np.array_equal(repeats[0].test, a.test)  # one more repeat does not move the first


# ---------------------------------------------------------------- official, two groups, carving


def test_official_with_and_without_validation() -> None:
    corpus = ravdess_like()
    corpus.table["split"] = np.where(corpus.table["fold"] == 5, "test", "train")
    protocol = create_protocol("official")
    (split,) = protocol.splits(corpus)
    assert_lawful(corpus, [split])
    assert_speakers_apart(corpus, [split])
    assert len(split.validation) == 120  # two of twenty actors
    corpus.table.loc[corpus.table["fold"] == 4, "split"] = "validation"
    (split,) = protocol.splits(corpus)
    assert set(corpus.table["fold"].iloc[split.validation]) == {4}


def test_validation_keeps_dialogues_whole_without_speakers() -> None:
    corpus = make(["a", "b"] * 30, dialogue=np.repeat(np.arange(15), 4), split=["train"] * 48 + ["test"] * 12)
    (split,) = create_protocol("official").splits(corpus)
    dialogue = corpus.table["dialogue"].to_numpy()
    assert not set(dialogue[split.train]) & set(dialogue[split.validation])


def test_validation_by_a_named_column() -> None:
    corpus = make(
        ["a", "b"] * 30,
        speaker=["x", "y"] * 30,
        video=np.repeat(np.arange(15), 4),
        split=["train"] * 48 + ["test"] * 12,
    )
    (split,) = create_protocol("official", validation_by="video").splits(corpus)
    video = corpus.table["video"].to_numpy()
    assert not set(video[split.train]) & set(video[split.validation])
    with pytest.raises(ProtocolError, match="no such column"):
        create_protocol("official", validation_by="film").splits(corpus)


def test_folds_with_carved_validation_train_on_more() -> None:
    corpus = ravdess_like()
    splits = create_protocol("folds", validation="carve").splits(corpus)
    assert_lawful(corpus, splits)
    assert_speakers_apart(corpus, splits)
    assert all(len(s.validation) == 120 and len(s.train) == 1080 for s in splits)


def test_two_speakers_share_the_training_voice_and_say_so() -> None:
    corpus = make(["a", "b"] * 20, speaker=np.repeat(["x", "y"], 20))
    for protocol in (
        create_protocol("speaker-independent"),
        create_protocol("speaker-independent", groups="loso"),
    ):
        splits = protocol.splits(corpus)
        assert len(splits) == 2
        assert_lawful(corpus, splits)
        for split in splits:
            assert not shared_speakers(corpus, split)
            assert split.notes == ("only one training speaker: validation items share it",)


def test_class_missing_from_test_is_a_note() -> None:
    corpus = make(["a", "b"] * 12 + ["c"] * 8, speaker=np.repeat(list("vwxy"), 8), fold=np.repeat(range(4), 8))
    corpus.table["label"] = ["a", "b", "c", "a", "b", "c", "a", "b"] * 3 + ["a", "b"] * 4
    splits = create_protocol("folds").splits(corpus)
    assert splits[3].notes == ("no test item of class c",)
    assert splits[2].notes == ("no validation item of class c",)
    assert splits[0].notes == ()
    told = create_protocol("folds").describe(corpus, splits)
    assert "fold3: no test item of class c" in told["notes"]


# ---------------------------------------------------------------- requests that cannot be met


def one_line(error: pytest.ExceptionInfo[GraphophoneError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("name", "options", "columns", "match"),
    [
        ("speaker-independent", {}, {"speaker": ["x"] * 20}, "one speaker"),
        ("speaker-independent", {"groups": 3}, {"speaker": ["x", "y"] * 10}, "too few for 3 groups"),
        ("speaker-independent", {}, {}, "needs the column 'speaker'"),
        ("speaker-independent", {}, {"speaker": ["x", None] * 10}, "10 items .* no speaker"),
        ("session", {}, {}, "needs the column 'session'"),
        ("session", {}, {"session": [1] * 20}, "one session"),
        ("session", {}, {"session": [1, 2] * 10, "speaker": ["x"] * 20}, "is in the sessions '1' and '2'"),
        ("session", {"leave": "speaker"}, {"session": [1, 2] * 10, "speaker": ["x", "y"] * 10}, "alone"),
        ("folds", {}, {}, "needs the column 'fold'"),
        ("folds", {}, {"fold": [0] * 20}, "one fold"),
        ("official", {}, {}, "needs the column 'split'"),
        ("official", {}, {"split": ["train"] * 20}, "no test part"),
        ("official", {}, {"split": ["train", "dev"] * 10}, "'dev' is not one of"),
    ],
)
def test_impossible_requests(name: str, options: dict[str, Any], columns: dict[str, Any], match: str) -> None:
    corpus = make(["a", "a", "b", "b"] * 5, **columns)
    with pytest.raises(ProtocolError, match=match) as error:
        create_protocol(name, **options).splits(corpus)
    one_line(error)


def test_class_missing_from_training_is_an_error() -> None:
    corpus = make(["a"] * 10 + ["b"] * 10, speaker=np.repeat(list("wxyz"), 5), fold=np.repeat([0, 1, 2, 2], 5))
    with pytest.raises(ProtocolError, match="no training item of class 'a'") as error:
        create_protocol("folds").splits(corpus)
    one_line(error)
    with pytest.raises(ProtocolError, match="no training item of class 'c'"):
        create_protocol("stratified").splits(make(["a", "b"] * 10, ("a", "b", "c")))


def test_empty_corpus_and_empty_part() -> None:
    with pytest.raises(ProtocolError, match="no items"):
        create_protocol("stratified").splits(make([], ("a", "b")))
    with pytest.raises(ProtocolError, match="the validation part is empty"):
        create_protocol("stratified").splits(make(["a", "b"]))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("stratified", {"test": 0.0}),
        ("stratified", {"validation": 1.0}),
        ("stratified", {"repeats": 0}),
        ("speaker-independent", {"groups": 1}),
        ("speaker-independent", {"groups": "one"}),
        ("dialogue-independent", {"groups": 1}),
        ("dialogue-independent", {"test": 0.0}),
        ("dialogue-independent", {"test": 0.2, "groups": 3}),
        ("session", {"leave": "day"}),
        ("folds", {"validation": "last"}),
        ("official", {"validation": 2.0}),
        ("official", {"validation": -0.1}),
    ],
)
def test_impossible_options(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as error:
        create_protocol(name, **options)
    one_line(error)


def test_unknown_names() -> None:
    assert list_protocols() == [
        "dialogue-independent",
        "folds",
        "official",
        "session",
        "speaker-independent",
        "stratified",
    ]
    with pytest.raises(UnknownNameError, match="Did you mean 'session'"):
        create_protocol("sesion")
    with pytest.raises(UnknownNameError, match="has no option 'group'"):
        create_protocol("speaker-independent", group=3)
    assert all(PROTOCOLS.get(n).name == n for n in list_protocols())  # type: ignore[attr-defined]


def test_split_refuses_overlap() -> None:
    with pytest.raises(ValueError, match="overlap"):
        Split("x", np.array([0, 1]), np.array([1]), np.array([2]))
    with pytest.raises(ValueError, match="twice"):
        Split("x", np.array([0, 0]), np.array([1]), np.array([2]))


def test_names_are_fit_for_folders() -> None:
    corpus = make(["a", "b"] * 12, speaker=np.repeat(["A/b", "A b", "10", "9"], 6))
    splits = create_protocol("speaker-independent", groups="loso").splits(corpus)
    names = [s.name for s in splits]
    assert names[:2] == ["speaker-9.0", "speaker-10.1"]
    assert len(set(names)) == 4
    assert not any(set(n) & set("/ \\") for n in names)


# ---------------------------------------------------------------- several labels per item


def tagged(rows: list[list[str]], classes: tuple[str, ...] | None = None, **columns: Any) -> Corpus:
    table = pd.DataFrame({"id": [f"i{n}" for n in range(len(rows))], "labels": rows, **columns})
    return Corpus.from_table(table, name="tags", classes=classes, negatives=True)


def label_tree(items: int, classes: int, seed: int) -> csr_array:
    """Labels as of an ontology: with a label go all above it, so that hardly any two items have the same set."""
    rng = np.random.default_rng(seed)
    targets = np.zeros((items, classes), dtype=np.int64)
    for leaf in rng.integers(0, classes, (int(rng.integers(1, 4)), items)):
        label = leaf.copy()
        while (label > 0).any():
            targets[np.arange(items), label] = 1
            label //= 3
    targets[:, 0] = rng.random(items) < 0.5
    return csr_array(targets)


@given(st.integers(50, 300), st.integers(2, 60), st.sampled_from([0.1, 0.2, 0.5]), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_draw_labelled_covers_every_label_on_both_sides(items: int, classes: int, fraction: float, seed: int) -> None:
    labels = label_tree(items, classes, seed)
    drawn = draw_labelled(labels, fraction, np.random.default_rng(seed))
    total, inside = labels.sum(axis=0), labels[drawn].sum(axis=0)
    assert (total - inside)[total > 0].min(initial=1) >= 1, "no label is lost to training"
    assert inside[total == 1].max(initial=0) == 0
    assert inside[total > 3].min(initial=1) >= 1, "nor to the drawn part (of two items both may be needed elsewhere)"
    again = draw_labelled(labels, fraction, np.random.default_rng(seed))
    assert np.array_equal(drawn, again)


@pytest.mark.parametrize("fraction", [0.1, 0.2])
@pytest.mark.parametrize("seed", range(5))
def test_draw_labelled_draws_every_label_alike(fraction: float, seed: int) -> None:
    labels = label_tree(4000, 150, seed)
    rng = np.random.default_rng(seed)
    drawn = draw_labelled(labels, fraction, rng)
    total = labels.sum(axis=0)
    wanted = fraction * total
    assert drawn.sum() == pytest.approx(fraction * 4000, rel=0.01)
    error = np.abs(labels[drawn].sum(axis=0) - wanted)
    at_random = np.abs(labels[rng.permutation(4000)[: drawn.sum()]].sum(axis=0) - wanted)
    assert error.mean() < 0.2 * at_random.mean()
    assert (error <= 2 + 0.02 * wanted).all()
    assert (labels[drawn].sum(axis=0)[total > 1] > 0).all()


def test_draw_labelled_repairs_what_single_turns_cannot_see() -> None:
    """Each of four labels is on two items, in a ring: whichever pair is drawn, some label may lie on one side."""
    ring = csr_array(np.array([[1, 0, 0, 1], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]))
    for seed in range(50):
        drawn = draw_labelled(ring, 0.5, np.random.default_rng(seed))
        inside = ring[drawn].sum(axis=0)
        assert (inside < 2).all(), "every label is left"
        assert (inside > 0).all(), "and every one is drawn"


def test_draw_labelled_deals_out_items_without_labels_too() -> None:
    labels = csr_array(np.vstack([np.eye(2, dtype=np.int64)] * 50 + [np.zeros((200, 2), dtype=np.int64)]))
    drawn = draw_labelled(labels, 0.1, np.random.default_rng(0))
    assert drawn[:100].sum() == 10
    assert drawn[100:].sum() == 20


def test_draw_labelled_keeps_combinations_where_they_are_frequent() -> None:
    rows = [["joy"], ["joy", "fear"], ["fear"]] * 20
    corpus = tagged(rows, ("joy", "fear"), speaker=np.repeat(list("vwxyz"), 12))
    for seed in range(10):
        (split,) = create_protocol("stratified").splits(corpus, seed=seed)
        combinations = corpus.table["labels"].iloc[split.test].map(tuple).value_counts()
        assert combinations.tolist() == [4, 4, 4]
    for split in create_protocol("speaker-independent").splits(corpus):
        assert not shared_speakers(corpus, split)


def test_many_groups_are_dealt_out_whole_and_evenly() -> None:
    rng = np.random.default_rng(0)
    labels = label_tree(3000, 40, 0)
    groups = rng.integers(0, 900, 3000)
    drawn = draw_groups(groups, labels, 0.1, rng)
    assert not set(groups[drawn]) & set(groups[~drawn])
    assert drawn.sum() == pytest.approx(300, rel=0.02)
    total = labels.sum(axis=0)
    assert (labels[drawn].sum(axis=0)[total > 1] > 0).all()
    few = draw_groups(groups % 20, labels, 0.1, rng)
    assert not set(groups[few] % 20) & set(groups[~few] % 20)


def test_groups_of_speakers_are_balanced_by_their_labels() -> None:
    speakers = [f"s{n}" for n in np.repeat(np.arange(10), 30)]
    rows = [["loud", "high" if int(s[1:]) % 2 else "low"] for s in speakers]
    corpus = tagged(rows, speaker=speakers)
    for split in create_protocol("speaker-independent", groups=5).splits(corpus):
        assert corpus.memberships[split.test].sum(axis=0)[corpus.classes.index("high")] == 30, (
            "one of the two speakers of a group is high"
        )


def test_a_label_that_training_lacks_is_a_note() -> None:
    rows = [["a", "b"], ["a"], ["b"], ["a"], ["b"], ["a", "c"]]
    corpus = tagged(rows, ("a", "b", "c", "d"), split=["train", "train", "train", "validation", "validation", "test"])
    (split,) = create_protocol("official").splits(corpus)
    assert split.notes == (
        "no train item of class c, d",
        "no validation item of class c, d",
        "no test item of class b, d",
    )
    many = tagged(rows, (*"abc", *(f"x{n}" for n in range(30))), split=["train"] * 4 + ["validation", "test"])
    (split,) = create_protocol("official").splits(many)
    assert split.notes[0].endswith("x7, x8 and 21 more")


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_part_without_any_tag_is_an_error_before_any_work(part: str) -> None:
    parts = ["train", "validation", "test"] * 4
    rows = [[] if name == part else ["a", "b"] for name in parts]
    corpus = tagged(rows, ("a", "b"), split=parts)
    with pytest.raises(ProtocolError, match=f"no item of the {part} part has any of the classes") as error:
        create_protocol("official").splits(corpus)
    one_line(error)
    few = tagged([["a"] if name == part else ["a", "b"] for name in parts], ("a", "b"), split=parts)
    (split,) = create_protocol("official").splits(few)
    assert split.notes == (f"no {part} item of class b",), "some tag is enough"


def test_fifty_thousand_items_are_divided_in_a_second() -> None:
    rng = np.random.default_rng(0)
    classes = tuple(f"c{n}" for n in range(200))
    weight = 1 / np.arange(1, 201)
    drawn = rng.choice(200, (50_000, 3), p=weight / weight.sum())
    corpus = tagged([[classes[n] for n in dict.fromkeys(row)] for row in drawn.tolist()], classes)
    begin = time.process_time()
    (split,) = create_protocol("stratified").splits(corpus)
    assert time.process_time() - begin < 5, "about 1 s on one processor"
    assert not split.notes
    assert len(split.test) == pytest.approx(10_000, rel=0.01)


# ---------------------------------------------------------------- no validation part


def test_folds_without_validation() -> None:
    corpus = ravdess_like()
    protocol = create_protocol("folds", validation="none")
    splits = protocol.splits(corpus)
    assert [(s.name, len(s.train), len(s.validation), len(s.test)) for s in splits] == [
        (f"fold{n}", 1200, 0, 240) for n in range(6)
    ]
    assert not protocol.validates
    assert create_protocol("folds").validates
    assert all(np.array_equal(np.union1d(s.train, s.test), np.arange(1440)) for s in splits)
    assert all(s.validation.dtype == np.int64 and s.notes == () for s in splits)
    facts = protocol.describe(corpus, splits)
    assert "nothing is selected" in facts["description"]
    assert facts["validates"] is False
    assert facts["mixes_speakers"] is False
    assert {fold["validation"] for fold in facts["folds"]} == {0}
    assert not shared_speakers(corpus, splits[0])
    assert_same(splits, protocol.splits(corpus, seed=5))
    two = make(["a", "b"] * 4, fold=[0, 0, 0, 0, 1, 1, 1, 1])
    assert [len(s.train) for s in protocol.splits(two)] == [4, 4]


@pytest.mark.parametrize("parts", [["train", "train", "test"], ["train", "validation", "test"]])
def test_official_without_validation(parts: list[str]) -> None:
    corpus = make(["a", "b"] * 6, split=np.repeat(parts, 4))
    protocol = create_protocol("official", validation=0)
    (split,) = protocol.splits(corpus)
    assert (split.train.tolist(), split.validation.tolist()) == (list(range(8)), [])
    assert split.test.tolist() == [8, 9, 10, 11]
    facts = protocol.describe(corpus, [split])
    assert facts["validates"] is False
    assert "nothing is selected" in facts["description"]
    assert "0%" not in facts["description"]


# ---------------------------------------------------------------- clips of one recording


def test_clips_of_a_recording_stay_together_in_validation_and_are_counted_in_test() -> None:
    corpus = make(["a", "b"] * 30, fold=np.repeat([0, 1, 2], 20), source=np.repeat(np.arange(15).astype(str), 4))
    for split in create_protocol("folds", validation="carve").splits(corpus):
        sources = corpus.table["source"]
        assert not set(sources.iloc[split.train]) & set(sources.iloc[split.validation])
        assert not any("cut out of" in note for note in split.notes)
    (split,) = create_protocol("stratified").splits(corpus)
    assert "test items are cut out of recordings that others for training or validation are" in split.notes[0]


def test_empty_speaker_is_no_speaker() -> None:
    corpus = make(["a", "b"] * 10, speaker=["x", ""] * 10)
    with pytest.raises(ProtocolError, match=r"10 items .* no speaker"):
        create_protocol("speaker-independent").splits(corpus)
    corpus.table["speaker"] = ""
    with pytest.raises(ProtocolError, match="needs the column 'speaker'"):
        create_protocol("speaker-independent").splits(corpus)


def test_real_corpus_object() -> None:
    fake = ravdess_like()
    corpus = Corpus.from_table(fake.table, name="r", classes=fake.classes)
    splits = create_protocol("speaker-independent").splits(corpus)
    assert_same(splits, create_protocol("speaker-independent").splits(fake))


@pytest.mark.data
def test_ravdess_as_it_is(data_root: Path) -> None:
    from graphophone import corpora

    corpus = corpora.load("ravdess", data_root / "ravdess")
    for name in ("speaker-independent", "folds"):
        protocol = create_protocol(name)
        splits = protocol.splits(corpus)
        assert [(len(s.train), len(s.validation), len(s.test)) for s in splits] == [(960, 240, 240)] * 6
        assert protocol.describe(corpus, splits)["mixes_speakers"] is False
        assert set(corpus.table["speaker"].iloc[splits[5].validation]) == {"01", "02", "03", "04"}
