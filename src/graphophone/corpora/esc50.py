"""ESC-50 and ESC-10: environmental sounds, 2,000 clips of 50 classes in 5 folds (Piczak, 2015)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import pandas as pd

from graphophone.corpora.base import Corpus, CorpusError, Problem, as_name, corpus_folder
from graphophone.corpora.excerpts import (
    audio_by_stem,
    find_clips,
    read_metadata,
    scattered_sources,
    stem_of,
    unlisted,
    walk,
)

_COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")


def load(root: Path, *, subset: Literal["esc50", "esc10"] = "esc50") -> Corpus:
    """ESC-50: environmental sounds, 2,000 clips of 5 s, 50 classes; ESC-10: ten of its classes.

    ``meta/esc50.csv`` and the clips in ``audio``, as published or as copies of the same names in another format.
    The classes are the categories in the order of their published numbers; the clips of one recording are in one
    fold. Columns besides the usual: ``fold`` (1 to 5), ``source`` (the recording on Freesound that the clip was
    cut from), ``take``, ``target`` (number of the class in ESC-50).

    Args:
        root: The folder.
        subset: All, or the ten classes of ESC-10. A folder that holds these only is ESC-10 either way.

    Raises:
        CorpusError: If the table is not there or not such a table, or no clip is.
    """
    folder = corpus_folder(root, "esc50")
    if subset not in ("esc50", "esc10"):
        raise CorpusError(f"corpus 'esc50': subset={subset!r} is not one of esc50, esc10")
    path = folder / "meta" / "esc50.csv"
    frame, rows, problems = read_metadata(path, "esc50", _COLUMNS)
    files = audio_by_stem(walk(folder / "audio"))
    names = frame["filename"].map(as_name)
    problems += unlisted(names.tolist(), files, path)
    frame = frame.assign(row=rows, filename=names)

    numbers = pd.to_numeric(frame["target"], errors="coerce")
    good = (numbers.notna() & (numbers == numbers.round())).to_numpy()
    problems += [
        Problem(name, row, f"target {as_name(target)!r} is not a whole number")
        for name, row, target in frame.loc[~good, ["filename", "row", "target"]].itertuples(index=False)
    ]
    frame = frame[good].assign(target=numbers[good].astype(int))
    ten = frame["esc10"].map(as_name).str.lower() == "true"
    if subset == "esc10":
        frame, ten = frame[ten], ten[ten]
    if frame.empty:
        raise CorpusError(f"{path}: no row of {subset}; download the table again")
    table = pd.DataFrame(
        {
            "id": frame["filename"].map(stem_of),
            "audio": find_clips(frame["filename"].tolist(), folder / "audio", files),
            "label": frame["category"],
            "fold": frame["fold"],
            "source": frame["src_file"].map(as_name),
            "take": frame["take"].map(as_name),
            "target": frame["target"],
            "row": frame["row"],
        }
    )
    corpus = Corpus.from_table(
        table,
        name="esc10" if ten.all() else "esc50",
        classes=_classes(table, path),
        problems=problems,
        listed=files.values(),
        licence="CC BY 3.0" if ten.all() else "CC BY-NC 3.0",
        url="https://github.com/karolpiczak/ESC-50",
        citation=(
            "K. J. Piczak: ESC: Dataset for Environmental Sound Classification. Proceedings of the 23rd ACM "
            "International Conference on Multimedia, 1015-1018, 2015. https://doi.org/10.1145/2733373.2806390"
        ),
    )
    return dataclasses.replace(corpus, problems=(*corpus.problems, *scattered_sources(corpus.table)))


def _classes(table: pd.DataFrame, path: Path) -> list[str]:
    """Categories in the order of their numbers."""
    pairs = pd.DataFrame({"target": table["target"], "label": table["label"].map(as_name)}).drop_duplicates()
    for column, other in (("target", "label"), ("label", "target")):
        twice = pairs[pairs[column].duplicated(keep=False)]
        if not twice.empty:
            names = " and ".join(map(str, twice[other].iloc[:2]))
            raise CorpusError(f"{path}: {column} {twice[column].iloc[0]} is both {names}; download the table again")
    return [label for label in pairs.sort_values("target")["label"] if label]
