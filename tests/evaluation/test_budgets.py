"""Few labels: which training items keep theirs, and what items without any may be used for."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from graphophone import corpora
from graphophone.corpora.base import Corpus
from graphophone.evaluation import ProtocolError, Split, create_protocol, list_protocols
from graphophone.evaluation.budgets import draw_budget
from graphophone.evaluation.protocols import shared_speakers
from graphophone.recipes import load_recipe


def actors(unlabelled: int = 0, **columns: Any) -> Corpus:
    """12 speakers in 6 folds with 4 items of class a and 8 each of b and c; then items without label, by speaker 0 up.

    Sessions are the folds, the last fold is the test part, and a dialogue is had by the two speakers of a fold.
    """
    labels = ["a"] * 4 + ["b"] * 8 + ["c"] * 8
    speaker = np.concatenate([np.repeat(np.arange(12), 20), np.arange(unlabelled) % 12])
    frame = pd.DataFrame(
        {
            "id": [f"i{n}" for n in range(len(speaker))],
            "label": [*labels * 12, *[""] * unlabelled],
            "speaker": [f"s{n}" for n in speaker],
            "fold": speaker // 2,
            "session": [f"x{n}" for n in speaker // 2],
            "dialogue": [f"d{n}" for n in speaker // 2],
            "split": np.where(speaker < 10, "train", "test"),
            **columns,
        }
    )
    return Corpus.from_table(frame, name="actors", classes="a,b,c", unlabelled=True)


def digest(splits: list[Split]) -> int:
    parts = (f"{s.name}:{s.train.tolist()}:{s.validation.tolist()}:{s.test.tolist()}" for s in splits)
    return zlib.crc32("|".join(parts).encode())


NAMES = st.sampled_from(list_protocols())
SHARES = st.floats(0.01, 1)


# ---------------------------------------------------------------- the draw


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), SHARES, SHARES, st.integers(0, 2**31), st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_budgets_are_even_nested_and_hold_every_class(
    counts: list[int], one: float, other: float, seed: int, order: int
) -> None:
    classes = np.random.default_rng(order).permutation(np.repeat(np.arange(len(counts)), counts))
    labels = csr_array(np.eye(len(counts), dtype=np.int64)[classes])
    small, large = (draw_budget(labels, share, np.random.default_rng(seed)) for share in sorted((one, other)))
    assert (small <= large).all()
    assert np.array_equal(small, draw_budget(labels, min(one, other), np.random.default_rng(seed)))
    for share, drawn in ((min(one, other), small), (max(one, other), large)):
        got = np.bincount(classes[drawn], minlength=len(counts))
        assert (got >= 1).all()
        assert drawn.sum() == max(len(counts), round(share * len(classes)))
        # One item for rounding a class and one for each of the others that is rounded another way.
        assert (np.abs(got - share * np.array(counts))[got > 1] <= 2).all()


@given(st.integers(1, 80), st.integers(1, 20), SHARES, SHARES, st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_budgets_of_several_labels_per_item(items: int, classes: int, one: float, other: float, seed: int) -> None:
    labels = csr_array((np.random.default_rng(seed).random((items, classes)) < 0.2).astype(np.int64))
    small, large = (draw_budget(labels, share, np.random.default_rng(seed)) for share in sorted((one, other)))
    assert (small <= large).all()
    occurs = labels.sum(axis=0) > 0
    assert (labels[small].sum(axis=0)[occurs] >= 1).all()
    assert small.sum() >= round(min(one, other) * items)


def test_chance_decides_who_is_drawn() -> None:
    labels = csr_array(np.eye(2, dtype=np.int64)[np.repeat([0, 1], 50)])
    draws = np.array([draw_budget(labels, 0.1, np.random.default_rng(seed)) for seed in range(400)])
    assert (draws[:, :50].sum(axis=1) + draws[:, 50:].sum(axis=1) == 10).all()
    share = draws.mean(axis=0)
    assert share.min() > 0.03, "everyone can be drawn"
    assert share.max() < 0.2
    assert draws[:, :50].sum(axis=1).mean() == pytest.approx(5, abs=0.1), "and no class is favoured"


# ---------------------------------------------------------------- protocols


@given(NAMES, SHARES, SHARES, st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_protocols_withhold_labels_of_training_items_only(name: str, one: float, other: float, seed: int) -> None:
    corpus = actors()
    whole = create_protocol(name).splits(corpus, seed=seed)
    small, large = (create_protocol(name, labelled=share).splits(corpus, seed=seed) for share in sorted((one, other)))
    for full, few, more in zip(whole, small, large, strict=True):
        assert len(full.unlabelled) == 0
        assert set(few.train) <= set(more.train) <= set(full.train)
        assert set(corpus.targets[few.train]) == {0, 1, 2}
        assert len(few.train) == max(3, round(min(one, other) * len(full.train)))
        for split in (few, more):
            assert np.array_equal(np.sort(np.concatenate([split.train, split.unlabelled])), full.train)
            assert np.array_equal(split.validation, full.validation)
            assert np.array_equal(split.test, full.test)
            assert shared_speakers(corpus, split) == shared_speakers(corpus, full)
    again = create_protocol(name, labelled=min(one, other)).splits(corpus, seed=seed)
    assert digest(again) == digest(small)


@given(NAMES, st.integers(1, 60), st.sampled_from([0.1, 1.0]), st.integers(0, 2**31), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_items_without_label_are_never_divided_and_keep_apart(
    name: str, number: int, labelled: float, seed: int, order: int
) -> None:
    corpus = actors(number)
    corpus = corpus.select(np.random.default_rng(order).permutation(len(corpus)))  # they are not the last rows
    alone = corpus.select(corpus.labelled)
    splits = create_protocol(name, labelled=labelled).splits(corpus, seed=seed)
    ids = corpus.table["id"].to_numpy()
    for split, reference in zip(splits, create_protocol(name).splits(alone, seed=seed), strict=True):
        for part in ("validation", "test"):
            assert set(ids[getattr(split, part)]) == set(alone.table["id"].iloc[getattr(reference, part)])
        assert corpus.labelled[np.concatenate([split.train, split.validation, split.test])].all()
        parts = np.concatenate([split.train, split.validation, split.test, split.unlabelled])
        assert len(np.unique(parts)) == len(parts)
        without = split.unlabelled[~corpus.labelled[split.unlabelled]]
        left_out = np.setdiff1d(np.flatnonzero(~corpus.labelled), without)
        if name == "stratified":
            assert len(left_out) == 0, "the voices are mixed by design"
            continue
        held = corpus.table.iloc[np.concatenate([split.validation, split.test])]
        shares = {column: corpus.table[column].isin(held[column]).to_numpy() for column in ("speaker", "dialogue")}
        assert not shares["speaker"][without].any()
        assert not shares["dialogue"][without].any()
        assert (shares["speaker"] | shares["dialogue"])[left_out].all(), "none is left out for nothing"
        assert len(parts) + len(left_out) == len(corpus)
        assert bool(len(left_out)) == any("items without label are left out" in note for note in split.notes)


@given(
    st.sampled_from(["speaker-independent", "session", "folds"]),
    st.integers(1, 6),
    st.integers(0, 50),
    st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_seeds_take_turns_until_all_splits_are_done(name: str, turns: int, first: int, few: bool) -> None:
    corpus, labelled = actors(), 0.2 if few else 1.0
    protocol = create_protocol(name, turns=turns, labelled=labelled)
    met = []
    for seed in range(first, first + -(-6 // turns)):
        splits = protocol.splits(corpus, seed=seed)
        every = {s.name: s for s in create_protocol(name, labelled=labelled).splits(corpus, seed=seed)}
        assert len({s.name for s in splits}) == turns
        for split in splits:
            assert digest([split]) == digest([every[split.name]]), "a turn is one of all the splits"
        met += [s.name for s in splits]
    assert len(set(met)) == 6
    assert max(map(met.count, met)) <= 2


def test_turns_begin_where_the_seed_before_ended() -> None:
    names = [[s.name for s in create_protocol("folds", turns=4).splits(actors(), seed=seed)] for seed in range(3)]
    assert names[0] == ["fold0", "fold1", "fold2", "fold3"]
    assert names[1] == ["fold4", "fold5", "fold0", "fold1"]
    assert names[2] == ["fold2", "fold3", "fold4", "fold5"]


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("stratified", {"repeats": 2}, 3266919059),
        ("speaker-independent", {}, 3115744922),
        ("speaker-independent", {"groups": 4}, 2388419881),
        ("speaker-independent", {"groups": "loso"}, 3711578656),
        ("folds", {"validation": "carve"}, 184306007),
        ("folds", {"validation": "none"}, 3040459048),
        ("official", {}, 1022044931),
    ],
)
def test_with_all_labels_the_splits_are_what_they_were_before_there_were_budgets(
    name: str, options: dict[str, Any], expected: int
) -> None:
    labels = ["neutral"] * 4 + ["calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"] * 8
    actor = np.repeat(np.arange(24), 60)
    frame = pd.DataFrame(
        {
            "id": [f"i{n}" for n in range(1440)],
            "label": labels * 24,
            "speaker": [f"{a + 1:02d}" for a in actor],
            "fold": actor // 4,
            "split": np.where(actor // 4 == 5, "test", "train"),
        }
    )
    corpus = Corpus.from_table(frame, name="r", classes=("neutral", *labels[4:11]))
    for more in ({}, {"labelled": 1.0, "turns": 0}):
        splits = create_protocol(name, **options, **more).splits(corpus, seed=3)
        assert digest(splits) == expected
        assert all(len(split.unlabelled) == 0 for split in splits)


def test_a_recipe_of_before_is_the_same_recipe() -> None:
    recipe = load_recipe("glnn-prosody").to_dict()
    before = json.loads(json.dumps(recipe))
    assert (before["protocol"].pop("labelled"), before["protocol"].pop("turns")) == (1.0, 0)
    assert load_recipe(before).to_dict() == recipe
    fewer = load_recipe("glnn-prosody", ["--protocol.labelled", "0.1", "--protocol.turns", "2"])
    assert (fewer.protocol["labelled"], fewer.protocol["turns"]) == (0.1, 2)


# ---------------------------------------------------------------- words


def test_the_split_of_the_paper() -> None:
    counts = {"anger": 1103, "joy": 595, "neutral": 1708, "sad": 1084}
    labels = [label for label, count in counts.items() for _ in range(count)]
    frame = pd.DataFrame({"id": [f"i{n}" for n in range(len(labels))], "label": labels})
    corpus = Corpus.from_table(frame, name="iemocap")
    protocol = create_protocol("stratified", test=0.1, validation=1 / 9, labelled=0.1)
    (split,) = protocol.splits(corpus)
    assert (len(split.train), len(split.unlabelled), len(split.validation), len(split.test)) == (359, 3233, 449, 449)
    ideal = 0.1 * 0.8 * np.array(list(counts.values()))
    assert (np.abs(np.bincount(corpus.targets[split.train]) - ideal) <= 1.5).all()
    told = protocol.describe(corpus, [split])
    assert "80%" not in told["description"]
    assert "Labels of 359 of 3,592 training items are used" in told["description"]
    assert told["folds"][0]["unlabelled"] == 3233
    assert told["options"]["labelled"] == 0.1
    json.dumps(told)


def test_turns_of_parts_that_are_drawn_by_lot_may_share_test_items() -> None:
    """Which the words must not deny; folds of the corpus share none."""
    corpus = actors()
    for options, apart in (({}, True), ({"use_folds": False, "groups": 6}, False)):
        protocol = create_protocol("speaker-independent", turns=1, **options)
        splits = [protocol.splits(corpus, seed=seed)[0] for seed in range(6)]
        tested = np.concatenate([split.test for split in splits])
        assert (len(np.unique(tested)) == len(tested)) == apart
        assert "test items of repetitions may then be the same" in protocol.describe(corpus, splits[:1])["description"]


def test_the_words_say_what_is_labelled_and_which_splits_a_seed_does() -> None:
    plain = create_protocol("folds")
    assert plain.describe(actors(), plain.splits(actors()))["description"] == plain.description
    corpus = actors(24)
    protocol = create_protocol("folds", labelled=0.25, turns=2)
    splits = protocol.splits(corpus)
    told = protocol.describe(corpus, splits)
    assert told["description"].startswith(protocol.description)
    assert "Labels of 40 of 160 training items are used" in told["description"]
    assert "16 items that nobody has labelled may be used in training" in told["description"]
    assert "Each seed does 2 of the splits" in told["description"]
    assert [fold["unlabelled"] for fold in told["folds"]] == [136, 136]
    assert told["notes"][0].startswith("fold0: 8 of 24 items without label are left out")
    assert repr(splits[0]) == "Split('fold0', train=40, validation=40, test=40, unlabelled=136)"


def test_a_budget_below_one_of_each_class_is_raised_and_said() -> None:
    protocol = create_protocol("folds", labelled=0.001)
    split = protocol.splits(actors())[0]
    assert len(split.train) == 3
    assert split.notes == ("labels of 3 training items are used instead of 0, to have one of each class",)


def test_items_without_label_of_the_part_that_is_held_out() -> None:
    """Where nothing else tells, the fold, session or split of an item without label counts."""
    frame = pd.DataFrame(
        {
            "id": [f"i{n}" for n in range(36)],
            "label": [*["a", "b"] * 15, *[""] * 6],
            "fold": [*np.repeat([0, 1, 2], 10), 0, 1, 2, 2, None, None],
            "split": [*["train"] * 20, *["test"] * 10, "train", "test", "test", "", "validation", ""],
        }
    )
    corpus = Corpus.from_table(frame, name="parts", unlabelled=True)
    for index, split in enumerate(create_protocol("folds").splits(corpus)):
        following = (index + 1) % 3
        kept = [row for row, fold in zip(range(30, 34), (0, 1, 2, 2), strict=True) if fold not in (index, following)]
        assert split.unlabelled.tolist() == [*kept, 34, 35], "a fold that is not known is none that is held out"
    (split,) = create_protocol("official").splits(corpus)
    assert len(split.validation) == 2, "carved out of the training part"
    assert split.unlabelled.tolist() == [30, 33, 34, 35]
    (split,) = create_protocol("stratified").splits(corpus)
    assert split.unlabelled.tolist() == [30, 31, 32, 33, 34, 35]


def test_recordings_that_no_training_item_is_cut_out_of_are_held_out_even_where_items_are_mixed() -> None:
    frame = pd.DataFrame({"id": [f"i{n}" for n in range(60)], "label": [*["a", "b"] * 20, *[""] * 20]})
    frame["source"] = [f"r{n % 20}" for n in range(60)]  # two items with a label and one without of each
    corpus = Corpus.from_table(frame, name="cut", unlabelled=True)
    seen = 0
    for seed in range(20):
        (split,) = create_protocol("stratified").splits(corpus, seed=seed)
        source = corpus.table["source"]
        trained = set(source.iloc[split.train])
        assert set(source.iloc[split.unlabelled]) == trained
        seen += 20 - len(split.unlabelled)
    assert seen > 0


@pytest.mark.data
def test_a_tenth_of_the_labels_of_real_corpora(data_root: Path) -> None:
    ravdess = corpora.load("ravdess", data_root / "ravdess")
    for seed in range(3):
        (split,) = create_protocol("speaker-independent", labelled=0.1, turns=1).splits(ravdess, seed=seed)
        assert (len(split.train), len(split.unlabelled)) == (96, 864)
        assert np.bincount(ravdess.targets[split.train]).min() >= 5, "64 neutral items, 128 of every other class"
        assert not shared_speakers(ravdess, split)
        tested = set(ravdess.table["speaker"].iloc[split.test])
        assert tested == {f"{actor:02d}" for actor in range(4 * seed + 1, 4 * seed + 5)}
    esc10 = corpora.load("esc50", data_root / "esc10")
    for split in create_protocol("folds", labelled=0.1).splits(esc10):
        assert (len(split.train), len(split.unlabelled)) == (24, 216)
        assert set(np.bincount(esc10.targets[split.train])) <= {1, 2, 3, 4}


# ---------------------------------------------------------------- requests that cannot be met


@pytest.mark.parametrize("name", list_protocols())
@pytest.mark.parametrize("options", [{"labelled": 0}, {"labelled": 1.5}, {"labelled": -0.1}, {"turns": -1}])
def test_impossible_options(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match=r"^(labelled|turns) is .* but must be") as error:
        create_protocol(name, **options)
    assert "\n" not in str(error.value)


def test_more_turns_than_splits() -> None:
    with pytest.raises(ProtocolError, match="turns is 7, but protocol 'folds' divides corpus 'actors' into 6 splits"):
        create_protocol("folds", turns=7).splits(actors())


def test_a_split_refuses_rows_that_are_labelled_and_not() -> None:
    with pytest.raises(ValueError, match="overlap"):
        Split("x", np.array([0]), np.array([1]), np.array([2]), unlabelled=np.array([3, 0]))
    with pytest.raises(ValueError, match="twice"):
        Split("x", np.array([0]), np.array([1]), np.array([2]), unlabelled=np.array([3, 3]))
