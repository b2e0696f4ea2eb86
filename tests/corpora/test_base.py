"""The corpus table: what it keeps, what it rejects and in which words."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphophone.corpora import Corpus, CorpusError, Problem
from graphophone.corpora.base import as_name, corpus_folder, read_text, sort_labels
from graphophone.errors import GraphophoneError


def corpus(frame: dict[str, list[Any]] | pd.DataFrame, **options: Any) -> Corpus:
    return Corpus.from_table(pd.DataFrame(frame), name="mine", **options)


def only_problem(found: Corpus) -> Problem:
    assert len(found.problems) == 1, found.problems
    return found.problems[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.wav", "b.wav", "sub/c.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"sound")
    return tmp_path


# ------------------------------------------------------------------------------------------- the good table


def test_a_good_table_is_taken_as_it_is(folder: Path) -> None:
    found = corpus(
        {
            "audio": ["a.wav", "b.wav", str(folder / "sub/c.wav")],
            "label": ["sad", "happy", "sad"],
            "speaker": ["x", "y", "y"],
            "fold": [0, 1, 1],
            "split": ["train", "dev", "eval"],
            "start": [0.0, np.nan, 1.5],
            "end": [1.0, 2.0, np.nan],
            "mood": [3, 4, 5],
        },
        root=folder,
        licence="CC0",
        url="https://example.org",
        citation="me",
        languages=("de",),
    )
    assert found.problems == ()
    assert found.classes == ("happy", "sad")
    assert found.table.index.equals(pd.RangeIndex(3))
    assert found.table["audio"].tolist() == [str(folder / n) for n in ("a.wav", "b.wav", "sub/c.wav")]
    assert found.table["split"].tolist() == ["train", "validation", "test"]
    assert found.table["mood"].tolist() == [3, 4, 5]
    assert found.table["row"].tolist() == [0, 1, 2]
    assert found.table["fold"].dtype == np.int64
    assert found.table["id"].is_unique
    np.testing.assert_array_equal(found.targets, [1, 0, 1])
    assert found.targets.dtype == np.int64
    assert found.speakers == ["x", "y", "y"]
    assert len(found) == 3
    assert repr(found) == "Corpus('mine', 3 items, 2 classes, 2 speakers)"
    assert (found.licence, found.url, found.citation, found.languages) == (
        "CC0",
        "https://example.org",
        "me",
        ("de",),
    )


def test_relative_paths_start_from_the_working_directory_without_a_root(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    found = corpus({"audio": ["sub/../a.wav"], "label": ["x"]})
    assert found.table["audio"].tolist() == [str(folder / "a.wav")]


def test_ids_are_file_names_where_they_are_unique_and_paths_where_they_are_not(folder: Path) -> None:
    (folder / "sub/a.wav").write_bytes(b"sound")
    unique = corpus({"audio": ["a.wav", "b.wav"], "label": ["x", "y"]}, root=folder)
    assert unique.table["id"].tolist() == ["a", "b"]
    twice = corpus({"audio": ["a.wav", "sub/a.wav"], "label": ["x", "y"]}, root=folder)
    assert twice.table["id"].tolist() == ["a.wav", "sub/a.wav"]
    segments = corpus({"audio": ["a.wav"] * 2, "label": ["x", "y"], "start": [0, 1], "end": [1.0, 2.5]}, root=folder)
    assert segments.table["id"].tolist() == ["a.wav#0-1", "a.wav#1-2.5"]
    assert corpus({"text": ["hello"], "label": ["x"]}).table["id"].tolist() == ["row 0"]


def test_ids_and_names_that_are_numbers_become_text() -> None:
    found = corpus({"id": [1, 2], "label": [0, 1], "speaker": [3.0, 4.0]})
    assert found.table["id"].tolist() == ["1", "2"]
    assert found.table["label"].tolist() == ["0", "1"]
    assert found.speakers == ["3", "4"]
    assert found.classes == ("0", "1")


def test_whole_numbers_are_sorted_as_numbers() -> None:
    assert corpus({"id": ["a", "b", "c"], "label": [10, 9, 2]}).classes == ("2", "9", "10")
    assert sort_labels(["10", "9", "a"]) == ("10", "9", "a")


def test_several_labels_give_a_matrix_of_targets() -> None:
    found = corpus(
        {"id": ["a", "b", "c", "d"], "labels": [["cat", "dog"], "dog; bird", np.array(["cat"]), []]},
        classes=["bird", "cat", "dog"],
        negatives=True,
    )
    assert found.multi_label
    np.testing.assert_array_equal(found.targets, [[0, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]])
    assert found.summary()["classes"] == {"bird": 1, "cat": 2, "dog": 2}
    inferred = corpus({"id": ["a", "b"], "labels": ["dog|cat|dog", "ant"]})
    assert inferred.classes == ("ant", "cat", "dog")
    assert inferred.table["labels"].tolist() == [["dog", "cat"], ["ant"]]


def test_text_and_spontaneous_are_filled_where_unknown() -> None:
    found = corpus(
        {
            "id": ["a", "b", "c", "d"],
            "label": ["x"] * 4,
            "text": [" hi ", None, np.nan, "there"],
            "spontaneous": [True, None, 0, "yes"],
        }
    )
    assert found.table["text"].tolist() == ["hi", "", "", "there"]
    assert found.table["spontaneous"].tolist() == [1, 0, 0, 1]
    assert found.table["spontaneous"].dtype == np.int64


def test_the_frame_of_the_user_is_not_changed(folder: Path) -> None:
    frame = pd.DataFrame({" audio ": ["a.wav", "nothing.wav"], "label": [1, 2]})
    before = frame.copy()
    corpus(frame, root=folder)
    pd.testing.assert_frame_equal(frame, before)


def test_classes_are_ordered_as_given_and_may_be_text() -> None:
    frame = {"id": ["a", "b"], "label": ["x", "y"]}
    assert corpus(frame, classes=["y", "x", "z"]).classes == ("y", "x", "z")
    assert corpus(frame, classes="y, x").classes == ("y", "x")


def test_a_corpus_survives_its_own_table() -> None:
    first = corpus({"id": ["a", "b", "c"], "label": ["x", "", "y"], "split": ["train", "test", "dev"]})
    again = corpus(first.table, classes=first.classes)
    pd.testing.assert_frame_equal(first.table, again.table)
    assert again.table["row"].tolist() == [0, 2]


def test_it_can_be_pickled() -> None:
    found = corpus({"id": ["a", "b"], "label": ["x", ""]})
    again = pickle.loads(pickle.dumps(found))  # noqa: S301 - made here
    pd.testing.assert_frame_equal(found.table, again.table)
    assert again.problems == found.problems


# ------------------------------------------------------------------------------------------- rows that are wrong


@pytest.mark.parametrize(
    ("column", "bad", "reason"),
    [
        ("id", None, "no id"),
        ("id", "  ", "no id"),
        ("audio", None, "no audio path"),
        ("audio", "gone.wav", "file not found: {folder}/gone.wav"),
        ("audio", "sub", "is a folder: {folder}/sub"),
        ("label", None, "no label"),
        ("label", float("nan"), "no label"),
        ("label", "hapy", "unknown label 'hapy'. Did you mean 'happy'? Known: happy, sad"),
        ("label", "joyous", "unknown label 'joyous'. Known: happy, sad"),
        ("start", -0.5, "start -0.5 s is negative"),
        ("start", "soon", "start 'soon' is not a number of seconds"),
        ("start", 3.0, "end 2 s is not after start 3 s"),
        ("start", 2.0, "end 2 s is not after start 2 s"),
        ("end", 0.0, "end 0 s is not after start 0.5 s"),
        ("end", -1.0, "end -1 s is negative"),
        ("end", float("inf"), "end 'inf' is not a number of seconds"),
        ("speaker", "", "no speaker; fill it in, or leave the column out"),
        ("dialogue", None, "no dialogue; fill it in, or leave the column out"),
        ("position", "first", "position 'first' is not a number"),
        ("fold", 1.5, "fold '1.5' is not a whole number"),
        ("fold", None, "no fold"),
        ("split", "holdout", "unknown split 'holdout'; use train, validation or test"),
        ("split", None, "no split; use train, validation or test"),
        ("spontaneous", 2, "spontaneous '2' is not 0 or 1"),
    ],
)
def test_a_bad_cell_costs_its_row_and_is_named(folder: Path, column: str, bad: Any, reason: str) -> None:
    good = {
        "id": ["one", "two", "three"],
        "audio": ["a.wav", "b.wav", "sub/c.wav"],
        "label": ["sad", "happy", "sad"],
        "start": [0.5, 0.5, 0.5],
        "end": [2.0, 2.0, 2.0],
        "speaker": ["x", "y", "z"],
        "dialogue": ["d", "d", "e"],
        "position": [0, 1, 0],
        "fold": [0, 1, 2],
        "split": ["train", "validation", "test"],
        "spontaneous": [0, 1, 0],
    }
    frame = pd.DataFrame(good).astype(object)
    frame.loc[1, column] = bad
    found = corpus(frame, root=folder, classes=["happy", "sad"])
    problem = only_problem(found)
    assert problem.reason == reason.format(folder=folder)
    assert problem.row == 1
    assert problem.severity == "error"
    assert problem.item == ("row 1" if column == "id" else "two")
    assert found.table["id"].tolist() == ["one", "three"]
    assert found.table["row"].tolist() == [0, 2]
    expected = corpus(pd.DataFrame(good).iloc[[0, 2]], root=folder, classes=["happy", "sad"])
    pd.testing.assert_frame_equal(found.table.drop(columns="row"), expected.table.drop(columns="row"))


def test_of_a_repeated_id_the_first_usable_row_stays() -> None:
    found = corpus({"id": ["a", "a", "b", "a"], "label": ["", "x", "y", "z"]})
    assert found.table["row"].tolist() == [1, 2]
    assert [str(problem) for problem in found.problems] == [
        "row 0, a: no label",
        "row 3, a: duplicate id; the first is in row 1",
    ]
    assert found.classes == ("x", "y"), "a class that only a row left out has is no class"


def test_unknown_labels_among_several_are_named() -> None:
    found = corpus({"id": ["a", "b", "c"], "labels": [["cat"], ["cat", "cow"], None]}, classes=["cat", "dog"])
    assert [problem.reason for problem in found.problems] == [
        "unknown label 'cow'. Known: cat, dog",
        "no labels; give negatives=true if none of the classes is heard in such items",
    ]


def test_rows_are_the_users_own_numbers() -> None:
    frame = pd.DataFrame({"id": ["a", "b"], "label": ["x", None]})
    assert only_problem(corpus(frame, rows=[7, 12])).row == 12
    assert only_problem(corpus(frame.assign(row=[70, 71]))).row == 71
    without = corpus(frame, rows=None)
    assert only_problem(without).row is None
    assert "row" not in without.table
    with pytest.raises(ValueError, match="3 row numbers for 2 rows"):
        corpus(frame, rows=[1, 2, 3])


def test_the_index_of_the_frame_does_not_matter() -> None:
    frame = pd.DataFrame({"id": ["a", "b"], "label": ["x", "y"]}, index=[5, 5])
    assert corpus(frame).table["id"].tolist() == ["a", "b"]


def test_problems_of_reading_come_first() -> None:
    earlier = Problem("x.wav", None, "odd", "warning")
    found = corpus({"id": ["a", "b"], "label": ["x", ""]}, problems=[earlier])
    assert [problem.reason for problem in found.problems] == ["odd", "no label"]
    assert json.loads(json.dumps(earlier.to_dict()))["severity"] == "warning"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c", "d", "", None]),
            st.sampled_from(["x", "y", "unknown", None]),
            st.sampled_from([0, 1, 0.5, None, "two"]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_every_row_is_in_the_table_or_among_the_problems(rows: list[tuple[Any, Any, Any]]) -> None:
    frame = pd.DataFrame(rows, columns=["id", "label", "fold"], dtype=object)
    usable = [row for row in rows if row[0] and row[1] in ("x", "y") and row[2] in (0, 1)]
    if not usable:
        with pytest.raises(CorpusError, match=f"none of {len(rows)} rows is usable"):
            corpus(frame, classes=["x", "y"])
        return
    found = corpus(frame, classes=["x", "y"])
    assert len(found) == len({row[0] for row in usable})
    kept, left_out = found.table["row"].tolist(), [problem.row for problem in found.problems]
    assert sorted(kept + left_out) == list(range(len(rows)))
    assert found.table["id"].is_unique
    assert set(found.table["label"]) <= set(found.classes)
    assert found.targets.shape == (len(found),)


# ------------------------------------------------------------------------------------------- tables that are wrong


@pytest.mark.parametrize(
    ("frame", "options", "text"),
    [
        ({"id": ["a"]}, {}, "no column `label` or `labels`; the columns are id"),
        ({"id": [], "label": []}, {}, "the table has no rows"),
        ({"id": ["a"], "label": ["x"], "labels": [["x"]]}, {}, "has both `label` and `labels`"),
        ({"id": ["a"], "label": ["x"]}, {"classes": ["x", "y", "x"]}, "a class is named twice: x, y, x"),
        (
            {"id": ["a", "b"], "label": ["x", "z"]},
            {"classes": ["y"]},
            "none of 2 rows is usable; the first: row 0, a: unknown label 'x'. Known: y",
        ),
    ],
)
def test_a_wrong_table_is_one_line(frame: dict[str, list[Any]], options: dict[str, Any], text: str) -> None:
    with pytest.raises(CorpusError) as raised:
        corpus(frame, **options)
    assert text in str(raised.value)
    assert str(raised.value).startswith("corpus 'mine': ")
    assert "\n" not in str(raised.value)
    assert isinstance(raised.value, GraphophoneError)


def test_a_column_twice_is_refused() -> None:
    frame = pd.DataFrame([["a", "x", "y"]], columns=["id", "label", " label"])
    with pytest.raises(CorpusError, match="the column 'label' occurs more than once"):
        corpus(frame)


# ------------------------------------------------------------------------------------------- parts and summary


def example() -> Corpus:
    return corpus(
        {
            "id": ["a", "b", "c", "d", "e"],
            "label": ["x", "y", "x", "x", ""],
            "speaker": ["s", "s", "t", "t", "t"],
            "dialogue": ["1", "1", "2", "2", "2"],
            "fold": [0, 0, 1, 1, 1],
            "split": ["train", "train", "test", "test", "test"],
            "start": [0, 10, 0, 20, 0],
            "end": [3600, 10.5, 5, 25, 1],
        }
    )


def test_parts_by_mask_and_by_index() -> None:
    whole = example()
    mask = whole.table["label"] == "x"
    for which in (mask, mask.to_numpy(), mask.tolist(), [0, 2, 3], np.array([0, 2, 3]), [0, 2, -1]):
        part = whole.select(which)
        assert part.table["id"].tolist() == ["a", "c", "d"]
        assert part.table.index.equals(pd.RangeIndex(3))
        assert part.classes == whole.classes
        assert part.problems == whole.problems
    assert whole.select([3, 0]).table["id"].tolist() == ["d", "a"]
    assert len(whole.select([])) == 0
    assert whole.select([]).targets.shape == (0,)
    with pytest.raises(ValueError, match="mask"):
        whole.select([True, False])
    with pytest.raises(ValueError, match="whole numbers"):
        whole.select(np.array([0.5]))
    with pytest.raises(IndexError):
        whole.select([9])


def test_leaving_out_items_says_why() -> None:
    whole = example()
    reason = Problem("b", 1, "cannot be decoded")
    part = whole.without(["b"], [reason])
    assert part.table["id"].tolist() == ["a", "c", "d"]
    assert part.problems == (*whole.problems, reason)
    with pytest.raises(CorpusError, match="no item 'nobody'"):
        whole.without(["nobody"])


def test_the_summary_counts_and_is_jsonable() -> None:
    summary = json.loads(json.dumps(example().summary()))
    assert summary["items"] == 4
    assert summary["unlabelled"] == 0
    assert summary["classes"] == {"x": 3, "y": 1}
    assert summary["speakers"] == 2
    assert summary["dialogues"] == 2
    assert summary["folds"] == {"0": 2, "1": 2}
    assert summary["splits"] == {"test": 2, "train": 2}
    assert summary["hours"] == pytest.approx((3600 + 0.5 + 5 + 5) / 3600)
    assert summary["problems"] == [{"item": "e", "row": 4, "reason": "no label", "severity": "error"}]
    bare = corpus({"id": ["a"], "label": ["x"]}).summary()
    assert bare["hours"] is bare["speakers"] is bare["folds"] is bare["splits"] is bare["dialogues"] is None


# ------------------------------------------------------------------------------------------- small parts


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (" a ", "a"),
        (3, "3"),
        (3.0, "3"),
        (3.5, "3.5"),
        (np.int64(4), "4"),
        (np.float32(2.0), "2"),
        (None, ""),
        (float("nan"), ""),
        (pd.NA, ""),
        (pd.NaT, ""),
        (True, "True"),
    ],
)
def test_cells_as_names(value: Any, name: str) -> None:
    assert as_name(value) == name


def test_text_is_read_in_the_encoding_it_has(tmp_path: Path) -> None:
    text = "größe\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"):
        (tmp_path / "t.txt").write_bytes(text.encode(encoding))
        assert read_text(tmp_path / "t.txt") == text
    assert read_text(tmp_path / "t.txt", "cp1252") == text
    with pytest.raises(CorpusError, match=r"t\.txt: .*utf-8"):
        read_text(tmp_path / "t.txt", "utf-8")
    with pytest.raises(CorpusError, match="unknown encoding"):
        read_text(tmp_path / "t.txt", "klingon")
    (tmp_path / "t.txt").write_bytes(b"\x01\x00\x02")
    with pytest.raises(CorpusError, match="not a text file"):
        read_text(tmp_path / "t.txt")


def test_the_folder_of_a_corpus_must_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert corpus_folder("~", "x") == tmp_path
    (tmp_path / "file").touch()
    with pytest.raises(CorpusError, match=r"corpus 'x': .*file is a file, not a folder"):
        corpus_folder(tmp_path / "file", "x")
    with pytest.raises(CorpusError, match="does not exist; give its folder as root"):
        corpus_folder(tmp_path / "gone", "x")


# ------------------------------------------------------------------------------------------- items without label


def test_items_without_label_are_kept_where_that_is_asked_for() -> None:
    frame = {
        "id": ["a", "b", "c", "d", "e"],
        "label": ["y", None, "x", " ", "z"],
        "fold": [0, 1, 1, None, 2],
        "split": ["train", "test", "dev", "", "test"],
        "speaker": list("ppqqr"),
    }
    found = corpus(frame, classes="x,y", unlabelled=True)
    assert found.table["id"].tolist() == ["a", "b", "c", "d"]
    assert found.table["label"].tolist() == ["y", "", "x", ""]
    assert found.targets.tolist() == [1, -1, 0, -1]
    assert found.targets.dtype == np.int64
    assert found.labelled.tolist() == [True, False, True, False]
    assert found.memberships.toarray().tolist() == [[0, 1], [0, 0], [1, 0], [0, 0]]
    assert found.class_counts().tolist() == [1, 1]
    assert found.table["split"].tolist() == ["train", "test", "validation", ""]
    assert str(found.table["fold"].dtype) == "Int64"
    assert repr(found) == "Corpus('mine', 4 items, 2 classes, 2 speakers, 2 items without label)"
    assert only_problem(found).reason.startswith("unknown label 'z'")
    summary = json.loads(json.dumps(found.summary()))
    assert summary["items"] == 4
    assert summary["unlabelled"] == 2
    assert summary["classes"] == {"x": 1, "y": 1}
    assert summary["folds"] == {"0": 1, "1": 2}
    assert summary["splits"] == {"test": 1, "train": 1, "validation": 1}
    known = found.select(found.labelled)
    assert known.labelled.all()
    assert known.targets.tolist() == [1, 0]
    again = corpus(found.table, classes=found.classes, unlabelled=True)
    pd.testing.assert_frame_equal(again.table, found.table)
    assert corpus(frame).classes == ("x", "y", "z")
    assert [p.item for p in corpus(frame).problems] == ["b", "d"]


def test_an_item_with_a_label_still_needs_its_fold_and_split() -> None:
    frame = {"id": list("abcd"), "label": ["x", "y", "x", ""], "fold": [0, None, 1, 2], "split": ["train"] * 4}
    assert only_problem(corpus(frame, unlabelled=True)).reason == "no fold"
    frame = frame | {"fold": [0, 1, 2, "?"]}
    assert only_problem(corpus(frame, unlabelled=True)).reason == "fold '?' is not a whole number"
    frame = frame | {"fold": [0, 1, 2, 3], "split": ["train", "", "test", "other"]}
    reasons = [p.reason for p in corpus(frame, unlabelled=True).problems]
    assert reasons == [f"{what}; use train, validation or test" for what in ("no split", "unknown split 'other'")]
    complete = corpus(frame | {"split": ["train"] * 4}, unlabelled=True)
    assert complete.table["fold"].dtype == np.int64


@pytest.mark.parametrize(
    ("frame", "options", "text"),
    [
        ({"id": ["a", "b"], "label": ["", None]}, {"unlabelled": True}, "no row has a label"),
        ({"id": ["a"], "label": [""]}, {"unlabelled": True, "classes": "x,y"}, "no row has a label"),
        ({"id": ["a"], "labels": ["x;y"]}, {"unlabelled": True}, "one label, not several; leave unlabelled=true out"),
        ({"id": ["a"], "label": ["x"]}, {"classes": "x,,y"}, "a class has no name"),
    ],
)
def test_what_items_without_label_cannot_be(frame: dict[str, list[Any]], options: dict[str, Any], text: str) -> None:
    with pytest.raises(CorpusError, match=text) as error:
        corpus(frame, **options)
    assert "\n" not in str(error.value)


def test_of_several_labels_none_is_a_label_too() -> None:
    found = corpus({"id": ["a", "b"], "labels": ["x", ""]}, negatives=True)
    assert found.labelled.tolist() == [True, True]
    assert found.summary()["unlabelled"] == 0


def test_a_text_without_recording_is_kept_and_nothing_at_all_is_not(folder: Path) -> None:
    found = corpus(
        {
            "audio": ["a.wav", "", None, "b.wav"],
            "text": ["one", "two", " ", ""],
            "label": ["x", "y", "x", "y"],
            "duration": [1.0, np.nan, np.nan, 2.6],
        },
        root=folder,
    )
    assert found.table["id"].tolist() == ["a", "row 1", "b"]
    assert found.table["audio"].tolist() == [str(folder / "a.wav"), "", str(folder / "b.wav")]
    assert [str(problem) for problem in found.problems] == ["row 2: no audio path"]
    assert found.hours == pytest.approx(3.6 / 3600)
