"""Turns of conversations by place, shift, speaker and length, and what a report says of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from graphophone.evaluation.metrics import classification_metrics
from graphophone.evaluation.report import write_report
from graphophone.evaluation.results import ResultsError, RunResults
from graphophone.evaluation.turns import (
    EXAMPLE_FILE,
    OTHERS,
    either,
    group_scores,
    spans,
    talkative,
    with_places,
)
from graphophone.evaluation.turns_section import turns_section

MakeRun = Callable[..., Path]
Check = Callable[[Path], Any]
CLASSES = ["calm", "sad", "angry"]


def talk(**columns: list[Any]) -> pd.DataFrame:
    rows = {
        "seed": [0] * 6,
        "dialogue": ["a", "a", "b", "a", "b", "a"],
        "position": [3, 1, 10, 2, 20, 7],
        "speaker": ["ann", "ann", "eve", "ben", "", "ben"],
        "label": ["sad", "calm", "sad", "calm", "calm", "sad"],
    }
    return pd.DataFrame({**rows, **columns})


def test_places_and_shifts_by_hand() -> None:
    table = with_places(talk())
    assert table["position"].tolist() == [1, 2, 3, 7, 10, 20]
    assert table["place"].tolist() == [1, 2, 3, 4, 1, 2]
    assert table["length"].tolist() == [4] * 4 + [2] * 2
    # a: ann calm, ben calm, ann sad, ben sad; b: eve sad, somebody calm.
    assert table["shift"].tolist() == [pd.NA, False, True, False, pd.NA, True]
    assert table["own_shift"].tolist() == [pd.NA, pd.NA, True, True, pd.NA, pd.NA]


def test_what_is_not_known_is_left_out() -> None:
    table = with_places(talk().drop(columns=["position", "speaker"]))
    assert table["label"].tolist()[:4] == ["sad", "calm", "calm", "sad"]  # as they stand
    assert table["own_shift"].isna().all()
    assert table["shift"].tolist() == [pd.NA, True, False, True, pd.NA, True]


def test_seeds_do_not_follow_each_other() -> None:
    both = pd.concat([talk(), talk(seed=[1] * 6)], ignore_index=True)
    table = with_places(both)
    assert table["shift"].isna().sum() == 4
    assert table.groupby("seed")["place"].max().tolist() == [4, 4]


def test_spans_double() -> None:
    found = spans(pd.Series([1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 400]))
    assert found.tolist() == [
        *("1", "2", "3–4", "3–4", "5–8", "5–8", "9–16", "9–16", "17–32", "17–32", "33+", "33+"),
    ]
    assert list(found.cat.categories) == ["1", "2", "3–4", "5–8", "9–16", "17–32", "33+"]


def test_speakers_with_few_turns_are_counted_together() -> None:
    names = pd.Series(["b"] * 3 + ["a"] * 3 + ["c"] * 2 + ["d", "e", "", None])
    found = talkative(names, most=2)
    assert list(found.cat.categories) == ["a", "b", OTHERS]
    assert found.tolist()[6:10] == [OTHERS] * 4
    assert found.isna().tolist()[10:] == [True, True]
    assert OTHERS not in talkative(names, most=4).cat.categories  # one alone has a name of its own


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 40))
def test_scores_of_groups_agree_with_scikit_learn(seed: int, seeds: int, turns: int) -> None:
    rng = np.random.default_rng(seed)
    names = np.array(CLASSES)
    count = seeds * turns
    table = pd.DataFrame(
        {
            "seed": np.repeat(np.arange(seeds) * 7, turns),
            "label": names[rng.integers(0, 3, count)],
            "predicted": names[rng.integers(0, 3, count)],
        }
    )
    drawn = pd.Series(rng.choice(["x", "y", "z", None], count)).astype(pd.CategoricalDtype(["z", "y", "x", "w"]))
    found = {group.name: group for group in group_scores(table, drawn, CLASSES)}
    assert list(found) == [name for name in ("z", "y", "x") if (drawn == name).any()]
    for name, group in found.items():
        parts = [part for _, part in table[(drawn == name).to_numpy()].groupby("seed")]
        f1 = [f1_score(p["label"], p["predicted"], average="weighted", zero_division=0.0) for p in parts]
        assert group.scores["weighted_f1"].mean == pytest.approx(np.mean(f1))
        assert group.scores["wa"].mean == pytest.approx(
            np.mean([accuracy_score(p["label"], p["predicted"]) for p in parts])
        )
        assert group.scores["wa"].n == len(parts)
        assert group.turns == round(np.mean([len(p) for p in parts]))


def test_a_condition_as_categories() -> None:
    found = either(pd.Series([True, False, pd.NA], dtype="boolean"), "yes", "no")
    assert found.tolist()[:2] == ["yes", "no"]
    assert found.isna().tolist() == [False, False, True]
    assert list(found.cat.categories) == ["no", "yes"]


@pytest.fixture
def make_talks(make_run: MakeRun) -> MakeRun:
    """Writes a run whose test items are turns of conversations between two people."""

    def make(
        *,
        without: tuple[str, ...] = (),
        beside: bool = True,
        example: bool = True,
        model: dict[str, Any] | None = None,
        seeds: tuple[int, ...] = (0, 1, 2),
    ) -> Path:
        options = {"model.name": "dialogue_gru", "task.name": "dialogue_classification", **(model or {})}
        folder = make_run("talks", classes=CLASSES, folds=1, seeds=seeds, per_speaker=5, recipe=options)
        for job in sorted((folder / "folds").iterdir()):
            table = pd.read_csv(job / "predictions.csv")
            count = len(table)
            table["dialogue"] = [f"{number // 6:02d}" for number in range(count)]
            # Of the classes 0, 0, 2 by Ben, then 1, 1, 2 by Ann: two turns of six are as their speaker's before.
            table["position"] = [(0, 3, 2, 1, 4, 5)[number % 6] for number in range(count)]
            table["speaker"] = ["Ben" if number % 6 in (0, 2, 3) else "<b>Ann" for number in range(count)]
            table.drop(columns=list(without)).to_csv(job / "predictions.csv", index=False)
            if beside:
                _add_findings(job, table)
            if example:
                _add_example(job)
        return folder

    return make


def _add_findings(job: Path, table: pd.DataFrame) -> None:
    target = table["label"].map(CLASSES.index).to_numpy()
    p = table[[f"p_{name}" for name in CLASSES]].to_numpy()
    found: dict[str, dict[str, Any]] = {}
    for name, mix in {"text": 0.6, "audio": 0.9, "text+audio": 0.0}.items():
        measured = classification_metrics(target, (1 - mix) * p + mix / 3 + mix * 0.3 * (np.eye(3)[0] - 1 / 3), CLASSES)
        found[name] = {key: measured[key] for key in ("n", "ua", "wa", "weighted_f1", "macro_f1", "confusion")}
    metrics = json.loads((job / "metrics.json").read_text("utf-8"))
    metrics |= {"subsets": found, "unfolding": {"at_once": found["text"], "whole": found["text+audio"]}}
    (job / "metrics.json").write_text(json.dumps(metrics), "utf-8")


def _add_example(job: Path) -> None:
    rng = np.random.default_rng(0)
    present = np.ones((2, 4), dtype=bool)
    present[1, 2] = False
    within = np.where(present[:, :, None] & present[:, None] & ~np.eye(4, dtype=bool), rng.normal(size=(2, 4, 4)), 0.0)
    np.savez(
        job / EXAMPLE_FILE,
        dialogue="03",
        id=np.array(["t1", "t2", "t3", "t4"]),
        text=np.array(["Hello.", "<i>Go</i> away!", "Why? " * 60, ""]),
        speaker=np.array(["Ann", "Ben", "Ann", "Ben"]),
        label=np.array(["calm", "angry", "", "sad"]),
        predicted=np.array(["calm", "angry", "sad", "angry"]),
        confidence=np.array([0.9, 0.5, 0.7, 0.6]),
        modalities=np.array(["text", "audio"]),
        present=present,
        within=within,
        across=np.zeros((4, 2, 2)),
        latent=np.full((2, 4, 2, 4), 1 / 7) * present[None, None],
    )


def test_a_report_of_conversations(make_talks: MakeRun, check: Check) -> None:
    folder = make_talks()
    page = check(write_report(folder))
    assert "conversations" in page.ids
    assert "The test part has 10 conversations with 60 turns." in page.text
    assert "Of the turns with another emotion than the speaker's turn before (50 %)" in page.text
    assert "Of the turns with another emotion than the turn before (60 %)" in page.text
    table = with_places(pd.concat([pd.read_csv(path) for path in sorted(folder.glob("folds/*/predictions.csv"))]))
    first = group_scores(table, spans(table["place"]), CLASSES)[0]
    row = next(row for row in page.rows if row[:2] == ["1", "Place in the conversation"])
    assert row[2] == "10"
    assert row[3].split(" ± ")[0] == f"{100 * first.scores['weighted_f1'].mean:.1f}"
    assert row[4].split(" ± ")[0] == f"{100 * first.scores['wa'].mean:.1f}"
    assert next(row for row in page.rows if row[0] == "<b>Ann" and row[1] == "Speaker")[2] == "30"
    for name in ("turns", "dialogue"):
        assert (folder / "figures" / f"{name}.png").stat().st_size > 5000

    metrics = [json.loads(path.read_text("utf-8"))["subsets"] for path in sorted(folder.glob("folds/*/metrics.json"))]
    text, whole = ([part[name]["weighted_f1"] for part in metrics] for name in ("text", "text+audio"))
    row = page.row("Text")
    assert row[1].split(" ± ")[0] == f"{100 * np.mean(text):.1f}"
    assert row[3].split(" [")[0] == f"{100 * np.mean(np.subtract(text, whole)):+.1f}".replace("-", "−")
    assert page.row("Text and audio")[3] == "–"
    assert page.row("Each turn at once, from what was said so far")[3] == row[3]
    assert "no modality was taken away" in page.text
    assert "turns are left out" not in page.text

    said = {row[0]: row[1:] for row in page.rows if len(row) == 6 and row[0] in "1234"}
    assert said["2"] == ["Ben", "<i>Go</i> away!", "angry", "angry", "0.50"]
    assert said["4"] == ["Ben", "–", "sad", "angry", "0.60"]
    assert said["3"][2] == "–"
    assert len(said["3"][1]) == 160
    assert "4 turns of 2 speakers, 2 of 3 recognised" in page.text
    assert "Conversation 03 of the test part" in page.text


def test_a_conversation_without_speakers(make_talks: MakeRun) -> None:
    folder = make_talks()
    path = folder / "folds" / "fold0-seed0" / EXAMPLE_FILE
    with np.load(path) as arrays:
        kept = dict(arrays)
    np.savez(path, **{**kept, "speaker": np.array([""] * 4)})
    found = section_of(folder)
    assert "4 turns, 2 of 3 recognised" in found["figures"]["dialogue"]["label"]
    assert [row[1] for row in found["example"]["rows"]] == ["–"] * 4


def test_without_speakers_or_positions(make_talks: MakeRun, check: Check) -> None:
    folder = make_talks(
        without=("speaker", "position"), beside=False, example=False, seeds=(0,), model={"model.future": 0}
    )
    page = check(write_report(folder))
    by = {row[1] for row in page.rows if len(row) == 5}
    assert {"Place in the conversation", "Emotion of the turn before"} <= by
    assert not by & {"Speaker", "Emotion of the same speaker"}
    assert "Fewer modalities" not in page.text
    assert "One conversation" not in page.text
    assert "The network hears no later turn" in page.text


def section_of(folder: Path) -> dict[str, Any]:
    found = turns_section(RunResults.read(folder))
    assert found is not None
    return found


def test_how_the_network_was_trained(make_talks: MakeRun) -> None:
    found = section_of(make_talks(model={"task.modality_dropout": 0.3}, example=False))
    assert "30 % of the conversations lost some of their modalities" in found["subsets"]["words"]


def test_one_training_has_no_intervals(make_talks: MakeRun) -> None:
    found = section_of(make_talks(example=False, seeds=(0,)))
    assert "interval" not in found["subsets"]["words"]
    assert all("[" not in row["cells"][2] for row in found["subsets"]["rows"])


def test_what_only_some_trainings_measured_is_not_shown(make_talks: MakeRun) -> None:
    folder = make_talks(example=False)
    path = folder / "folds" / "fold0-seed1" / "metrics.json"
    metrics = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({key: value for key, value in metrics.items() if key != "subsets"}), "utf-8")
    found = section_of(folder)
    assert found["subsets"] is None
    assert found["unfolding"] is not None


def test_long_conversations_that_were_left_out_are_mentioned(make_talks: MakeRun) -> None:
    folder = make_talks(example=False)
    for path in folder.glob("folds/*/metrics.json"):
        metrics = json.loads(path.read_text("utf-8"))
        metrics["unfolding"]["whole"]["n"] -= 5
        path.write_text(json.dumps(metrics), "utf-8")
    assert "Conversations of more than 128 turns are left out." in section_of(folder)["unfolding"]["words"]


def test_small_groups_are_not_drawn(make_talks: MakeRun) -> None:
    folder = make_talks(example=False, beside=False, seeds=(0,))
    path = folder / "folds" / "fold0-seed0" / "predictions.csv"
    table = pd.read_csv(path, dtype={"dialogue": str})
    table.loc[table["dialogue"] == "09", "dialogue"] = "08"  # two conversations become one of twelve turns
    table.loc[table["dialogue"] == "08", "position"] = range(12)
    table.to_csv(path, index=False)
    found = section_of(folder)
    assert ("9–16", "4") in {(row["name"], row["turns"]) for row in found["rows"]}
    label = found["figures"]["turns"]["label"]
    assert "9–16" not in label.split("Turns of the conversation")[0]
    assert "9–16" in label.split("Turns of the conversation")[1]  # twelve turns are of a conversation of that length


def test_other_runs_have_no_conversations(make_run: MakeRun) -> None:
    assert turns_section(RunResults.read(make_run(classes=CLASSES, folds=1, seeds=(0,), per_speaker=2))) is None


def test_a_damaged_conversation_is_named(make_talks: MakeRun) -> None:
    folder = make_talks()
    (folder / "folds" / "fold0-seed0" / EXAMPLE_FILE).write_bytes(b"damaged")
    with pytest.raises(ResultsError, match=EXAMPLE_FILE):
        section_of(folder)
