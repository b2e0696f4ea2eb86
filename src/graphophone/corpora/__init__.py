"""Corpora: from files as their owners ship them to one table of items, labels, speakers and splits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from graphophone.corpora.base import Corpus, CorpusError, Problem
from graphophone.corpora.checks import CheckReport, check
from graphophone.corpora.downloads import download
from graphophone.registry import Registry

__all__ = [
    "CORPORA",
    "CheckReport",
    "Corpus",
    "CorpusError",
    "Problem",
    "check",
    "download",
    "list_corpora",
    "load",
]

CORPORA: Registry[Corpus] = Registry(
    "corpus",
    {
        "audioset": "graphophone.corpora.audioset:load",
        "conversation": "graphophone.corpora.conversation:load",
        "crema_d": "graphophone.corpora.crema_d:load",
        "dailydialog": "graphophone.corpora.dailydialog:load",
        "emodb": "graphophone.corpora.emodb:load",
        "emorynlp": "graphophone.corpora.emorynlp:load",
        "esc50": "graphophone.corpora.esc50:load",
        "features": "graphophone.corpora.features:load",
        "folder": "graphophone.corpora.folder:load",
        "fsd50k": "graphophone.corpora.fsd50k:load",
        "iemocap": "graphophone.corpora.iemocap:load",
        "meld": "graphophone.corpora.meld:load",
        "mosi": "graphophone.corpora.mosi:load",
        "msp_improv": "graphophone.corpora.msp_improv:load",
        "planetoid": "graphophone.corpora.planetoid:load",
        "prosody": "graphophone.corpora.prosody:load",
        "ravdess": "graphophone.corpora.ravdess:load",
        "table": "graphophone.corpora.table:load",
        "urbansound8k": "graphophone.corpora.urbansound8k:load",
    },
)
"""Corpus name to the function ``load(root, **options) -> Corpus`` that reads it."""


def list_corpora(pattern: str = "*") -> list[str]:
    """Names that :func:`load` takes and that match a shell pattern, sorted."""
    return CORPORA.names(pattern)


def load(name: str, /, root: str | Path | None = None, **options: Any) -> Corpus:
    """Read a corpus.

    Args:
        name: One of :func:`list_corpora`.
        root: Its folder; for ``table`` the CSV, TSV or Parquet file. ``prosody`` needs none.
        **options: Options of that corpus, see the function ``load`` of its module.

    Raises:
        UnknownNameError: If no corpus has that name, or it has no such option.
        CorpusError: If the corpus cannot be read.
    """
    import inspect

    parameter = inspect.signature(CORPORA.get(name)).parameters.get("root")
    if root is None and parameter is not None and parameter.default is inspect.Parameter.empty:
        raise CorpusError(f"corpus {name!r}: say where it is, with root (on the command line --root)")
    if root is not None:
        options["root"] = Path(root)
    return CORPORA.create(name, **options)
