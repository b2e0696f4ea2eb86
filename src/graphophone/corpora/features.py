"""A table of your own, with ready vectors of each modality beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from graphophone.corpora import table as tables
from graphophone.corpora import vectors as arrays
from graphophone.corpora.base import Corpus, CorpusError, corpus_folder
from graphophone.corpora.given import Given

ITEMS, VECTORS = "items.csv", "vectors.safetensors"
"""Files as `graphophone corpora convert` names them."""


def load(
    root: Path,
    *,
    modalities: Sequence[str] | str | None = None,
    file: str | None = None,
    vectors: str | None = None,
    audio_root: Path | None = None,
    name: str | None = None,
    classes: Sequence[str] | str | None = None,
    unlabelled: bool = False,
    id: str | None = None,
    audio: str | None = None,
    text: str | None = None,
    label: str | None = None,
    speaker: str | None = None,
    dialogue: str | None = None,
    position: str | None = None,
    fold: str | None = None,
    split: str | None = None,
) -> Corpus:
    """A table of your own, with ready vectors of text, audio and video beside it.

    The table is one of ``table`` (CSV, TSV or Parquet), and need have neither sound nor transcripts. The vectors are
    arrays named ``text``, ``audio`` and ``video``, one row of numbers per row of the table in the same order, in a
    safetensors or .npz file. A row of NaN says that the item lacks that modality. `given` is the extractor for them.
    Further column: ``node``, the row.

    Args:
        root: Folder with ``items.csv`` and ``vectors.safetensors``, or with one table and one file of vectors.
        modalities: Which vectors to take, as a list or with commas between; by default all that are there.
        file: Name of the table, where the folder holds several.
        vectors: Name of the file of vectors, where the folder holds several.
        audio_root: Folder that relative audio paths start from; by default that of the table.
        name: Name of the corpus; by default that of the folder.
        classes: Class names in order; by default the labels that occur, sorted.
        unlabelled: Whether items with an empty label are kept, for models that learn from such items too.
        id: Name of the table's column that holds the ids, where it is not ``id``. The same for each of ``audio``,
            ``text``, ``label``, ``speaker``, ``dialogue``, ``position``, ``fold`` and ``split``.
        audio: See ``id``.
        text: See ``id``.
        label: See ``id``.
        speaker: See ``id``.
        dialogue: See ``id``.
        position: See ``id``.
        fold: See ``id``.
        split: See ``id``.

    Raises:
        CorpusError: If a file is missing or damaged, or they do not belong together.
    """
    folder = corpus_folder(root, "features")
    source = _the_one(folder, file, tables.SUFFIXES, "file", ITEMS)
    frame, rows, problems = tables.read_any(source)
    if problems:  # with a row less, all that follow would have the vectors of their neighbours
        raise CorpusError(f"{source}: {problems[0]}")
    theirs = {
        "id": id,
        "audio": audio,
        "text": text,
        "label": label,
        "speaker": speaker,
        "dialogue": dialogue,
        "position": position,
        "fold": fold,
        "split": split,
    }
    frame = tables.rename_columns(
        frame, {ours: column for ours, column in theirs.items() if column is not None}, source
    )
    frame["node"] = np.arange(len(frame))
    if "id" not in frame and "audio" not in frame:
        frame["id"] = frame["node"].astype(str)
    wanted = None if modalities is None else arrays.choose_modalities("features", modalities)
    path = _the_one(folder, vectors, arrays.SUFFIXES, "vectors", VECTORS)
    return Corpus.from_table(
        frame,
        name=name or folder.name,
        classes=classes,
        root=audio_root or source.parent,
        rows=rows,
        unlabelled=unlabelled,
        given=Given.side_by_side(arrays.read_vectors(path, len(frame), wanted)),
    )


def _the_one(folder: Path, given: str | None, suffixes: Sequence[str], option: str, usual: str) -> Path:
    """The file that an option names, else the usual one, else the only one with a fitting suffix.

    Raises:
        CorpusError: If there is none, or one cannot be told.
    """
    if given is not None or (folder / usual).is_file():
        path = folder / (given or usual)
        if not path.is_file():
            raise CorpusError(f"corpus 'features': {path} is not there; correct {option}")
        return path
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith("."))
    if len(found) != 1:
        told = f"holds {len(found)}: {', '.join(p.name for p in found)}" if found else "holds none"
        kinds = ", ".join(suffixes)
        raise CorpusError(f"corpus 'features': of files {kinds} {folder} {told}; name one with {option}=NAME")
    return found[0]
