"""Turns of a table in dialogues, and dialogues in batches."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphophone.dialogues import Turns, arrange
from graphophone.errors import GraphophoneError

WIDTHS = {"text": 2, "audio": 1}


def table(dialogue: list[object], **columns: list[object]) -> pd.DataFrame:
    return pd.DataFrame({"dialogue": dialogue, **columns})


def test_turns_are_ordered_by_position_then_start_then_row() -> None:
    said = table(["b", "a", "b", "a"], position=[2, 5, 1, 3], start=[0.0, 1.0, 2.0, 3.0])
    found = arrange(said)
    assert found.names == ("a", "b")
    assert [turns.tolist() for turns in found.turns] == [[3, 1], [2, 0]]
    assert [turns.tolist() for turns in arrange(said.drop(columns="position")).turns] == [[1, 3], [0, 2]]
    assert [turns.tolist() for turns in arrange(said[["dialogue"]]).turns] == [[1, 3], [0, 2]]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("xyz")), min_size=1, max_size=30))
def test_speakers_are_numbered_by_first_turn(pairs: list[tuple[int, str]]) -> None:
    said = table([d for d, _ in pairs], speaker=[s for _, s in pairs])
    found = arrange(said).speaker
    known: dict[int, dict[str, int]] = {}
    for row, (dialogue, name) in enumerate(pairs):
        numbers = known.setdefault(dialogue, {})
        assert found[row] == numbers.setdefault(name, len(numbers))


def test_without_speakers_everyone_is_one() -> None:
    assert arrange(table(["a", "a"])).speaker.tolist() == [0, 0]
    assert arrange(table(["a", "a", "a"], speaker=[None, "x", None])).speaker.tolist() == [0, 1, 0]


def test_long_dialogues_are_cut_evenly_and_named() -> None:
    found = arrange(table(["long"] * 7 + ["short"]), longest=3)
    assert [len(turns) for turns in found.turns] == [3, 2, 2, 1]
    assert np.concatenate(found.turns).tolist() == list(range(8))
    assert found.cut == ("long",)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (pd.DataFrame({"text": ["x"]}), "no column dialogue"),
        (table(["a", None]), "row 1 has no dialogue"),
        (table(["a", " "]), "row 1 has no dialogue"),
        (table(["a", "a"], position=["1", "two"]), "row 1, dialogue a: position 'two' is no number"),
    ],
)
def test_what_cannot_be_ordered_is_named(said: pd.DataFrame, words: str) -> None:
    with pytest.raises(GraphophoneError, match=words):
        arrange(said)


def test_batches_are_padded_and_tell_what_is_missing() -> None:
    x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, float("nan")], [float("nan"), float("nan"), 6.0]])
    turns = Turns.of(x, WIDTHS, np.array([0, 1, 0]))
    batch = turns.batch([np.array([2]), np.array([1, 0])], torch.tensor([7, 8, 9]), torch.tensor([True, False, True]))
    assert batch.modalities == ("text", "audio")
    assert batch.mask.tolist() == [[True, False], [True, True]]
    assert batch.lengths.tolist() == [1, 2]
    assert batch.x["text"].tolist() == [[[0, 0], [0, 0]], [[4, 5], [1, 2]]]
    assert batch.x["audio"].tolist() == [[[6], [0]], [[0], [3]]]
    assert batch.present.tolist() == [[[False, False], [True, False]], [[True, True], [False, True]]]
    assert batch.speaker.tolist() == [[0, 0], [1, 0]]
    assert batch.y.tolist() == [[9, -1], [-1, 7]]  # what is not asked for has no label
    assert batch.row.tolist() == [[2, -1], [-1, 0]]


def test_only_dialogues_with_a_wanted_turn_are_taken_whole() -> None:
    found = arrange(table(["a", "b", "a", "c"]))
    assert [turns.tolist() for turns in found.among(np.array([2, 3]))] == [[0, 2], [3]]
