"""Characters that were lost on the way, and texts that say the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphophone.corpora.transcripts import mend_controls, normalise


def test_control_characters_become_what_was_meant() -> None:
    assert mend_controls("it\x92s \x93fine\x94 \x97 caf\xe9\x85") == "it\u2019s \u201cfine\u201d \u2014 caf\xe9\u2026"
    assert mend_controls("no\x81thing") == "nothing"
    for byte in range(0x80, 0xA0):
        if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D):
            assert mend_controls(chr(byte)) == bytes([byte]).decode("cp1252")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Oh, my God!", "oh my god"),
        ("Don\u2019t!", "DONT"),
        ("Don\x92t!", "don't"),
        ("caf\xe9", "cafe"),
        ("well -- yes...", "Well, yes"),
        ("uh_huh", "uh huh"),
    ],
)
def test_the_same_said(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)
    assert normalise(f" {text} . ") == normalise(text)


def test_what_is_said_differently_stays_apart() -> None:
    assert normalise("no") != normalise("know")
    assert normalise("?!...") == ""
