"""MELD: conversations of several people from a television series (Poria et al., 2019)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from graphophone.audio import find_audio
from graphophone.corpora.base import Corpus, CorpusError, Problem, corpus_folder
from graphophone.corpora.lists import apply_lists
from graphophone.corpora.table import read_table
from graphophone.corpora.transcripts import mend_controls

EMOTIONS = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
"""Classes in the order in which their owners number them."""
LISTED = ("neutral", "joy", "anger", "sadness", "disgust", "fear", "surprise")
"""Emotions in the order in which the lists of ``lists`` number them."""
SENTIMENTS = ("neutral", "positive", "negative")
PARTS = {"train": "train", "dev": "validation", "test": "test"}
"""First word of a table's name, and of a folder of clips, to the part of the published split."""
BROKEN = {("train", 125, 3), ("dev", 110, 7)}
"""Clips that the release has damaged: part, dialogue, utterance."""
_COLUMNS = {
    "Utterance": "text",
    "Speaker": "speaker",
    "Emotion": "emotion",
    "Sentiment": "sentiment",
    "Dialogue_ID": "dialogue",
    "Utterance_ID": "position",
    "Season": "season",
    "Episode": "episode",
    "StartTime": "clip_start",
    "EndTime": "clip_end",
}
_TIME = re.compile(r"(\d+):(\d\d):(\d\d),(\d{1,3})")
_CLIP = re.compile(r"dia(\d+)_utt(\d+)")


def load(
    root: Path,
    *,
    audio: Path | None = None,
    label: Literal["emotion", "sentiment"] = "emotion",
    lists: Path | None = None,
) -> Corpus:
    """MELD: utterances of conversations between several people, with transcripts.

    ``train_sent_emo.csv``, ``dev_sent_emo.csv`` and ``test_sent_emo.csv`` as published; ``split`` is theirs. Ids are
    ``train_dia0_utt0``, dialogues ``train_dia0``: the owners count from 0 in each part. Columns besides the usual:

    ``dialogue``, ``position``
        The conversation, and the owners' number of the utterance in it: in order of time from 0, with gaps.
    ``speaker``
        As the owners write it; those of the main cast are in all parts.
    ``emotion``, ``sentiment``
        Both annotations, whichever of them is the label.
    ``season``, ``episode``
        Where the scene is from, such as ``s04e07``. Parts of the split have episodes in common.
    ``clip_start``, ``clip_end``
        Seconds in the episode.

    Args:
        root: Folder with the three tables.
        audio: Folder with the sound of the clips, ``dia0_utt0.wav`` or another audio format, below folders whose names
            begin with ``train``, ``dev`` and ``test`` or hold that word (``output_repeated_splits_test``). Utterances
            without a clip are left out. The published clips are videos: take the sound out of them before. Without it,
            the corpus is one of transcripts.
        label: ``emotion`` (seven classes) or ``sentiment`` (three).
        lists: Folder of ``MELD_metadata_train.csv``, ``_val.csv`` and ``_test.csv`` as released with HemoGAT: their
            utterances are taken (all but two), with their emotions.

    Raises:
        CorpusError: If a table is missing or damaged, or no clip is found where a folder of them is given.
    """
    folder = corpus_folder(root, "meld")
    classes = {"emotion": EMOTIONS, "sentiment": SENTIMENTS}.get(label)
    if classes is None:
        raise CorpusError(f"corpus 'meld': label={label!r} is not one of emotion, sentiment")
    frames, problems = [], []
    for part in PARTS:
        path = folder / f"{part}_sent_emo.csv"
        if not path.is_file():
            raise CorpusError(f"corpus 'meld': {path} is not there; give the folder of the three tables as root")
        frame, wrong = _read_part(path, part)
        frames.append(frame)
        problems += [Problem(f"{path.name}, {problem.item}", None, problem.reason) for problem in wrong]
    table = pd.concat(frames, ignore_index=True)
    table["label"] = table[label]
    if lists is not None:
        if label != "emotion":
            raise CorpusError("corpus 'meld': lists are of emotions; leave out label=sentiment")
        table, differing = apply_lists(table, lists, "MELD", dict(enumerate(LISTED)), _listed_id)
        problems += differing
    if audio is not None:
        table, unheard = _with_sound(table, corpus_folder(audio, "meld"))
        problems += unheard
    return Corpus.from_table(
        table.drop(columns="part"),
        name="meld",
        classes=classes,
        rows=None,
        problems=problems,
        languages=("en",),
        licence="GPL-3.0 (annotations)",
        url="https://affective-meld.github.io/",
        citation=(
            "S. Poria, D. Hazarika, N. Majumder, G. Naik, E. Cambria, R. Mihalcea: MELD: a multimodal multi-party "
            "dataset for emotion recognition in conversations. ACL 2019, 527-536. https://doi.org/10.18653/v1/P19-1050"
        ),
    )


def _listed_id(part: str, clip: str) -> str:
    """The id of a clip of a list."""
    return f"{'dev' if part == 'val' else part}_{clip}"


def _read_part(path: Path, part: str) -> tuple[pd.DataFrame, list[Problem]]:
    """One of the three tables with names of our own, and what is wrong with it."""
    frame, _, problems = read_table(path, ",")
    missing = [column for column in _COLUMNS if column not in frame]
    if missing:
        raise CorpusError(f"{path}: no column {missing[0]!r}; it needs {', '.join(_COLUMNS)}")
    table = frame[list(_COLUMNS)].rename(columns=_COLUMNS)
    for column in ("dialogue", "position", "season", "episode"):
        numbers = pd.to_numeric(table[column], errors="coerce")
        whole = np.isfinite(numbers) & (numbers == numbers.round())
        if not whole.all():
            row = int(np.flatnonzero(~whole)[0])
            raise CorpusError(f"{path}: {column} {table[column].iloc[row]!r} of record {row + 1} is not a whole number")
        table[column] = numbers.astype(np.int64)
    dialogue, position = table["dialogue"].astype(str), table["position"].astype(str)
    clip = "dia" + dialogue + "_utt" + position
    table = table.assign(
        id=f"{part}_" + clip,
        clip=clip,
        part=part,
        split=PARTS[part],
        dialogue=f"{part}_dia" + dialogue,
        episode=[f"s{s:02d}e{e:02d}" for s, e in zip(table["season"], table["episode"], strict=True)],
    )
    for column in ("text", "speaker"):
        table[column] = [mend_controls(str(cell)) for cell in table[column]]
    for column in ("clip_start", "clip_end"):
        table[column] = _seconds(table[column])
    return table, problems


def _seconds(cells: Iterable[object]) -> np.ndarray:
    """Times like ``00:16:16,059`` (the last part in milliseconds) in seconds, NaN for what is none."""
    seconds = []
    for cell in cells:
        match = _TIME.fullmatch(str(cell).strip())
        if match is None:
            seconds.append(np.nan)
            continue
        hours, minutes, whole, thousandths = map(int, match.groups())
        seconds.append(3600 * hours + 60 * minutes + whole + thousandths / 1000)
    return np.array(seconds)


def _with_sound(table: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, list[Problem]]:
    """The utterances whose clip is there, with its path, and a problem for each of the others.

    Raises:
        CorpusError: If no clip is found.
    """
    clips: dict[str, str] = {}
    for path in find_audio(folder):
        match = _CLIP.fullmatch(path.stem)
        part = _part_of(path.parent.relative_to(folder).parts)
        if match is not None and part is not None:
            clips.setdefault(f"{part}_dia{int(match[1])}_utt{int(match[2])}", str(path))
    if not clips:
        raise CorpusError(
            f"corpus 'meld': no clip train/dia0_utt0.wav (or dev/..., test/...) below {folder}; take the sound out of "
            "the published videos first, for example with ffmpeg"
        )
    paths = table["id"].map(clips)
    damaged = {f"{part}_dia{dialogue}_utt{position}" for part, dialogue, position in BROKEN}
    problems = [
        Problem(item, None, "no clip: the published one is damaged" if item in damaged else f"no clip below {folder}")
        for item in table["id"][paths.isna()]
    ]
    return table.assign(audio=paths)[paths.notna()].reset_index(drop=True), problems


def _part_of(folders: tuple[str, ...]) -> str | None:
    """The part of the split that a folder's path names, by the last of its folders that names one."""
    for name in reversed(folders):
        words = re.split(r"[^a-z]+", name.lower())
        for part in PARTS:
            if part in words:
                return part
    return None
