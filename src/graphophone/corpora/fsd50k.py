"""FSD50K: 51,197 clips from Freesound with 200 tags, several per clip (Fonseca et al., 2022)."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas as pd

from graphophone.corpora.base import Corpus, CorpusError, Problem, as_name, corpus_folder, read_text
from graphophone.corpora.excerpts import audio_by_stem, find_clips, read_metadata, walk

_PARTS = {"dev": ("fname", "labels", "mids", "split"), "eval": ("fname", "labels", "mids")}


def load(root: Path) -> Corpus:
    """FSD50K: 51,197 clips of 0.3 to 30 s from Freesound, 200 tags, several per clip.

    ``FSD50K.ground_truth`` with ``dev.csv``, ``eval.csv`` and ``vocabulary.csv``, the clips in
    ``FSD50K.dev_audio`` and ``FSD50K.eval_audio``, as published or as copies of the same names in another format.
    Tags are in the order of the vocabulary. ``split`` is the published one: 36,796 clips train, 4,170 choose the
    model and 10,231 test. A further column is ``mids``, the tags' names in AudioSet.

    Args:
        root: The folder.

    Raises:
        CorpusError: If a table is not there or not such a table, or no clip is.
    """
    folder = corpus_folder(root, "fsd50k")
    truth = folder / "FSD50K.ground_truth"
    tables: list[pd.DataFrame] = []
    problems: list[Problem] = []
    files: set[str] = set()
    for part, columns in _PARTS.items():
        frame, rows, wrong = read_metadata(truth / f"{part}.csv", "fsd50k", columns)
        problems += wrong
        clips = folder / f"FSD50K.{part}_audio"
        there = audio_by_stem(walk(clips))
        files.update(there.values())
        names = frame["fname"].map(as_name)
        tables.append(
            pd.DataFrame(
                {
                    "id": names,
                    "audio": find_clips([f"{name}.wav" for name in names], clips, there),
                    "labels": [as_name(labels).split(",") for labels in frame["labels"]],
                    "split": frame["split"] if part == "dev" else "test",
                    "mids": frame["mids"].map(as_name),
                    "row": rows,
                }
            )
        )
    return Corpus.from_table(
        pd.concat(tables, ignore_index=True),
        name="fsd50k",
        classes=_vocabulary(truth / "vocabulary.csv"),
        problems=problems,
        listed=files,
        licence="CC BY 4.0 (each clip: CC0, CC BY, CC BY-NC or CC Sampling+, as its uploader chose)",
        url="https://zenodo.org/records/4060432",
        citation=(
            "E. Fonseca, X. Favory, J. Pons, F. Font, X. Serra: FSD50K: An Open Dataset of Human-Labeled Sound "
            "Events. IEEE/ACM Transactions on Audio, Speech, and Language Processing 30, 829-852, 2022. "
            "https://doi.org/10.1109/TASLP.2021.3133208"
        ),
    )


def _vocabulary(path: Path) -> list[str]:
    """Tags in the order of their numbers; the table has no header."""
    if not path.is_file():
        raise CorpusError(f"corpus 'fsd50k': there is no {path}; give the folder that the archives unpack to")
    tags: dict[int, str] = {}
    for line, record in enumerate(csv.reader(io.StringIO(read_text(path), newline="")), start=1):
        if not record:
            continue
        number, tag = (cell.strip() for cell in record[:2]) if len(record) >= 2 else ("", "")
        if not number.isdecimal() or not tag or int(number) in tags:
            raise CorpusError(f"{path}, line {line}: not `number,tag,mid` with a number of its own; download it again")
        tags[int(number)] = tag
    if not tags:
        raise CorpusError(f"{path}: no tags; download it again")
    return [tags[number] for number in sorted(tags)]
