"""Problems of a corpus in a run folder: readable where they are many, and none of them lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphophone.corpora import CorpusError, Problem
from graphophone.corpora.problems import LISTED, kind_of_reason, problem_facts, read_problems, write_problems

PROBLEMS = st.builds(
    Problem,
    st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=8),
    st.none() | st.integers(0, 10**9),
    st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1, max_size=12),
    st.sampled_from(["error", "warning"]),
)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("file not found: /clips/2 x/a.wav", "file not found"),
        ("end 2 s is not after start 3.5 s", "end … s is not after start … s"),
        ("unknown label 'hap: py'. Did you mean 'happy'? Known: happy", "unknown label …"),
        ("the same sound as 'a' (row 3); label x there, y here", "the same sound as …"),
        ("duplicate id; the first is in row 2", "duplicate id"),
        ("11.00 s are longer than 10 s; leave it out", "… s are longer than … s"),
        ("silent", "silent"),
        ("(odd", "(odd"),
    ],
)
def test_kinds_of_reasons(reason: str, kind: str) -> None:
    assert kind_of_reason(reason) == kind


def test_of_many_problems_some_are_listed_and_all_are_counted() -> None:
    absent = [Problem(f"v{n}", n, f"file not found: /clips/v{n}.wav") for n in range(LISTED + 5)]
    facts = problem_facts(
        [Problem("audioset", None, "no file for many", "warning"), *absent, Problem("z", 1, "silent")]
    )
    assert len(facts["problems"]) == LISTED
    assert facts["problems"][1] == {
        "item": "v0",
        "row": 0,
        "reason": "file not found: /clips/v0.wav",
        "severity": "error",
    }
    assert facts["problem_counts"] == [
        {"reason": "file not found", "severity": "error", "items": LISTED + 5},
        {"reason": "silent", "severity": "error", "items": 1},
        {"reason": "no file for many", "severity": "warning", "items": 1},
    ]
    json.dumps(facts)
    assert problem_facts(()) == {"problems": [], "problem_counts": []}


@given(st.lists(PROBLEMS, max_size=12))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(tmp_path: Path, problems: list[Problem]) -> None:
    write_problems(tmp_path / "problems.csv", problems)
    assert read_problems(tmp_path / "problems.csv") == tuple(problems)
    assert sum(count["items"] for count in problem_facts(problems)["problem_counts"]) == len(problems)


@pytest.mark.parametrize("text", ["item,row\na,1\n", "item,row,severity,reason\na,one,error,x\n", ""])
def test_another_table_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "problems.csv").write_text(text, "utf-8")
    with pytest.raises(CorpusError, match=r"problems.csv: cannot be read as a list of problems .*; remove it") as error:
        read_problems(tmp_path / "problems.csv")
    assert "\n" not in str(error.value)
