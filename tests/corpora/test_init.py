"""Corpora by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphophone import corpora
from graphophone.corpora import CorpusError
from graphophone.errors import UnknownNameError


def test_every_name_has_an_adapter_that_says_what_it_reads() -> None:
    assert corpora.list_corpora() == [
        "audioset",
        "conversation",
        "crema_d",
        "dailydialog",
        "emodb",
        "emorynlp",
        "esc50",
        "features",
        "folder",
        "fsd50k",
        "iemocap",
        "meld",
        "mosi",
        "msp_improv",
        "planetoid",
        "prosody",
        "ravdess",
        "table",
        "urbansound8k",
    ]
    assert corpora.list_corpora("*db") == ["emodb"]
    for name in corpora.list_corpora():
        assert corpora.CORPORA.get(name).__doc__, name


def test_unknown_names_and_options_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown corpus 'ravdes'\. Did you mean 'ravdess'\?"):
        corpora.load("ravdes", tmp_path)
    with pytest.raises(UnknownNameError, match=r"corpus 'ravdess' has no option 'chanel'\. Did you mean"):
        corpora.load("ravdess", tmp_path, chanel="song")
    with pytest.raises(CorpusError, match="corpus 'iemocap': say where it is, with root"):
        corpora.load("iemocap")


def test_options_reach_the_adapter(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/a.wav").write_bytes(b"sound")
    found = corpora.load("folder", str(tmp_path), name="mine", classes=["y", "x"])
    assert (found.name, found.classes) == ("mine", ("y", "x"))
    assert found.table["audio"].tolist() == [str(tmp_path / "x/a.wav")]
