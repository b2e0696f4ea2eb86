"""UrbanSound8K: urban sounds, 8,732 clips of 10 classes in 10 folds (Salamon et al., 2014)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd

from graphophone.corpora.base import Corpus, as_name, corpus_folder
from graphophone.corpora.excerpts import (
    audio_by_stem,
    find_clips,
    read_metadata,
    scattered_sources,
    stem_of,
    unlisted,
    walk,
)

CLASSES = (
    *("air_conditioner", "car_horn", "children_playing", "dog_bark", "drilling"),
    *("engine_idling", "gun_shot", "jackhammer", "siren", "street_music"),
)
"""In the order of the published numbers 0 to 9."""
_COLUMNS = ("slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class")
_SALIENCE = {"1": "foreground", "2": "background"}


def load(root: Path) -> Corpus:
    """UrbanSound8K: urban sounds, 8,732 clips of up to 4 s, 10 classes, 10 folds.

    ``metadata/UrbanSound8K.csv`` and ``audio/fold1`` to ``fold10``, as published or as copies of the same names
    in another format. Columns besides the usual: ``fold`` (1 to 10), ``source`` (their ``fsID``: the recording
    on Freesound that the clip was cut from), ``source_start`` and ``source_end`` (seconds, in that recording),
    ``salience`` (``foreground`` or ``background``).

    Use the published folds: the clips of one recording are alike, and a random split puts them on both sides.

    Args:
        root: The folder.

    Raises:
        CorpusError: If the table is not there or not such a table, or no clip is.
    """
    folder = corpus_folder(root, "urbansound8k")
    path = folder / "metadata" / "UrbanSound8K.csv"
    frame, rows, problems = read_metadata(path, "urbansound8k", _COLUMNS)
    files = audio_by_stem(walk(folder / "audio"))
    names, folds = frame["slice_file_name"].map(as_name), frame["fold"].map(as_name)
    problems += unlisted(names.tolist(), files, path)
    table = pd.DataFrame(
        {
            "id": names.map(stem_of),
            "audio": find_clips(("fold" + folds + "/" + names).tolist(), folder / "audio", files),
            "label": frame["class"],
            "fold": frame["fold"],
            "source": frame["fsID"].map(as_name),
            "source_start": pd.to_numeric(frame["start"], errors="coerce"),
            "source_end": pd.to_numeric(frame["end"], errors="coerce"),
            "salience": [_SALIENCE.get(name, name) for name in frame["salience"].map(as_name)],
        }
    )
    corpus = Corpus.from_table(
        table,
        name="urbansound8k",
        classes=CLASSES,
        rows=rows,
        problems=problems,
        listed=files.values(),
        licence="CC BY-NC 3.0",
        url="https://urbansounddataset.weebly.com/urbansound8k.html",
        citation=(
            "J. Salamon, C. Jacoby, J. P. Bello: A Dataset and Taxonomy for Urban Sound Research. Proceedings of "
            "the 22nd ACM International Conference on Multimedia, 1041-1044, 2014. "
            "https://doi.org/10.1145/2647868.2655045"
        ),
    )
    return dataclasses.replace(corpus, problems=(*corpus.problems, *scattered_sources(corpus.table)))
