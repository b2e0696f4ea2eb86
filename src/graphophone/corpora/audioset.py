"""AudioSet: two million segments of 10 s with 527 tags, several per segment (Gemmeke et al., 2017)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from graphophone.corpora.base import Corpus, CorpusError, Problem, corpus_folder
from graphophone.corpora.excerpts import audio_by_stem, read_metadata, walk
from graphophone.registry import did_you_mean

TABLES = {
    "balanced_train": "balanced_train_segments.csv",
    "unbalanced_train": "unbalanced_train_segments.csv",
    "eval": "eval_segments.csv",
}
_TRAIN = {"balanced": ("balanced_train",), "full": ("balanced_train", "unbalanced_train")}
_VIDEO = r"([\w-]{11})(?:_\d+(?:\.\d+)?){0,2}"
_PLAIN, _PREFIXED = re.compile(_VIDEO, re.ASCII), re.compile("Y" + _VIDEO, re.ASCII)


def load(
    root: Path,
    *,
    train: Literal["balanced", "full"] = "balanced",
    audio: Path | None = None,
    classes: Sequence[str] | None = None,
) -> Corpus:
    """AudioSet: segments of 10 s of videos, 527 tags, several per segment.

    The published tables of segments and ``class_labels_indices.csv``, anywhere below the folder, and the sound of
    the segments as download scripts leave it, in one folder or several: ``VIDEO.wav``, ``YVIDEO.wav``,
    ``VIDEO_START.wav`` or ``VIDEO_START_END.wav``, in any format. ``split`` is ``train`` or ``test`` (the
    published evaluation set); the protocol ``official`` holds out a part of the training segments to choose the
    model. Columns besides the usual: ``set`` (``balanced_train``, ``unbalanced_train``, ``eval``),
    ``video_start`` and ``video_end`` (seconds, in the video), ``row`` (line of its table).

    Many videos are no longer there for anyone to download. Segments without a file are left out: their number is
    the first of the ``problems``, their names the last.

    Args:
        root: The folder.
        train: The balanced training set (22,160 segments) or all of it (2,063,949).
        audio: Folder of the sound, where that is not below ``root``.
        classes: Names of some tags. Only segments with exactly one of them are then part of the corpus, and have that
            one label; what else is heard in them is not looked at.

    Raises:
        CorpusError: If a table is not there or not such a table, or no segment has a file.
    """
    folder = corpus_folder(root, "audioset")
    if train not in _TRAIN:
        raise CorpusError(f"corpus 'audioset': train={train!r} is not one of balanced, full")
    sounds = folder if audio is None else corpus_folder(audio, "audioset")
    wanted = {name: TABLES[name] for name in (*_TRAIN[train], "eval")}
    names = (*wanted.values(), "class_labels_indices.csv")
    listing = list(walk(folder))
    paths: dict[str, Path] = {}
    for place, files in listing:
        paths.update({name: Path(place, name) for name in names if name in files and name not in paths})
    absent = [name for name in names if name not in paths]
    if absent:
        raise CorpusError(f"corpus 'audioset': there is no {absent[0]} below {folder}; download it from the owners")

    tags = _tags(paths["class_labels_indices.csv"])
    frame = pd.concat([_segments(paths[file], name) for name, file in wanted.items()], ignore_index=True)
    frame["audio"] = _find(frame["id"].tolist(), audio_by_stem(listing if audio is None else walk(sounds)))
    there = frame["audio"].notna()
    missing = frame.loc[~there, ["id", "row"]]
    if not there.any():
        raise CorpusError(
            f"corpus 'audioset': none of {len(frame):,} segments has a file named by its video (such as "
            f"{frame['id'].iloc[0]}.wav) below {sounds}; name the folder of the sound with audio"
        )
    counts = {
        name: f"{int((~there)[frame['set'] == name].sum()):,} of {int((frame['set'] == name).sum()):,} ({name})"
        for name in wanted
    }
    frame = frame[there].reset_index(drop=True)
    frame["split"] = frame["set"].map(lambda name: "test" if name == "eval" else "train")
    frame["labels"] = [[tags.get(mid, mid) for mid in mids.split(",")] for mids in frame.pop("mids")]
    if classes is not None:
        frame = _of_one_class(frame, classes, list(tags.values()))
    corpus = Corpus.from_table(
        frame,
        name="audioset",
        classes=list(tags.values()) if classes is None else list(classes),
        listed=frame["audio"].tolist(),
        licence="CC BY 4.0 (the tags; the sound belongs to those who made the videos)",
        url="https://research.google.com/audioset/",
        citation=(
            "J. F. Gemmeke, D. P. W. Ellis, D. Freedman, A. Jansen, W. Lawrence, R. C. Moore, M. Plakal, M. Ritter: "
            "Audio Set: An ontology and human-labeled dataset for audio events. IEEE ICASSP, 776-780, 2017. "
            "https://doi.org/10.1109/ICASSP.2017.7952261"
        ),
    )
    if missing.empty:
        return corpus
    total = Problem(
        "audioset", None, f"no file for {', '.join(counts.values())}; they are left out and listed last", "warning"
    )
    reason = f"no file named by its video below {sounds}"
    absentees = [Problem(video, row, reason) for video, row in zip(missing["id"], missing["row"].tolist(), strict=True)]
    return dataclasses.replace(corpus, problems=(total, *corpus.problems, *absentees))


def _of_one_class(frame: pd.DataFrame, classes: Sequence[str], tags: Sequence[str]) -> pd.DataFrame:
    """The segments with exactly one of the classes, which becomes their ``label``.

    Raises:
        CorpusError: If a class is no tag, is named twice, or no segment is left.
    """
    for name in classes:
        if name not in tags:
            raise CorpusError(f"corpus 'audioset': there is no tag {name!r}.{did_you_mean(name, tags)}")
    if len(set(classes)) < max(2, len(classes)):
        raise CorpusError(f"corpus 'audioset': classes must be two names or more, none twice, not {list(classes)}")
    wanted = set(classes)
    found = [[label for label in labels if label in wanted] for labels in frame.pop("labels")]
    kept = np.array([len(labels) == 1 for labels in found], dtype=bool)
    if not kept.any():
        raise CorpusError(f"corpus 'audioset': no segment has exactly one of the classes {', '.join(classes)}")
    frame = frame[kept].reset_index(drop=True)
    frame["label"] = [labels[0] for labels in found if len(labels) == 1]
    return frame


def _tags(path: Path) -> dict[str, str]:
    """Names of the tags by their codes, in the order of their numbers."""
    frame, _, problems = read_metadata(path, "audioset", ("index", "mid", "display_name"))
    numbers = pd.to_numeric(frame["index"], errors="coerce")
    if problems or numbers.isna().any() or numbers.duplicated().any() or frame["mid"].duplicated().any():
        raise CorpusError(f"{path}: not one line with index, mid, display_name for each tag; download it again")
    frame = frame.iloc[numbers.argsort()]
    twice = frame["display_name"].duplicated(keep=False)
    names = frame["display_name"].where(~twice, frame["display_name"] + " (" + frame["mid"] + ")")
    return dict(zip(frame["mid"], names, strict=True))


def _segments(path: Path, name: str) -> pd.DataFrame:
    """The segments of a table: ``id`` (the video), ``video_start``, ``video_end``, ``mids``, ``set``, ``row``."""
    with path.open(encoding="utf-8", errors="replace") as file:
        comments = next((number for number, line in enumerate(file) if not line.startswith("#")), 0)
    try:
        frame = pd.read_csv(
            path,
            names=["id", "video_start", "video_end", "mids"],
            header=None,
            comment="#",
            skipinitialspace=True,
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
            encoding="utf-8",
        )
    except (OSError, ValueError) as error:  # ParserError and UnicodeDecodeError are ValueErrors
        raise CorpusError(f"{path}: {str(error).splitlines()[0]}; download it again") from error
    frame["row"] = frame.index + comments + 1
    frame = frame[frame["id"].fillna("") != ""]
    if frame.empty:
        raise CorpusError(f"{path}: no segments; download it again")
    for column in ("video_start", "video_end"):
        frame[column] = pd.to_numeric(frame[column], errors="coerce")
    return frame.assign(mids=frame["mids"].fillna(""), set=name)


def _find(videos: Sequence[str], files: Mapping[str, str]) -> list[str | None]:
    """File of each video, or None; ``files`` are paths by file name without suffix."""
    plain: dict[str, str] = {}
    prefixed: dict[str, str] = {}
    for stem, path in files.items():
        for found, pattern in ((plain, _PLAIN), (prefixed, _PREFIXED)):
            match = pattern.fullmatch(stem)
            if match is not None and path < found.get(match[1], chr(0x10FFFF)):
                found[match[1]] = path
    return [plain.get(video) or prefixed.get(video) for video in videos]
