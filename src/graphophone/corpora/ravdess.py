"""RAVDESS: acted speech and song, 24 actors, 8 emotions (Livingstone and Russo, 2018)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import pandas as pd

from graphophone.audio import find_audio
from graphophone.corpora.base import Corpus, CorpusError, Problem, corpus_folder

CLASSES = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""In the order of the published codes 01 to 08."""
STATEMENTS = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
_NAME = re.compile(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)")
_FORM = "modality-channel-emotion-intensity-statement-repetition-actor"


def load(root: Path, *, channel: Literal["speech", "song", "both"] = "speech") -> Corpus:
    """RAVDESS: acted speech (and song) of 24 actors, 8 emotions.

    In ``Actor_01`` folders as published or all in one folder; the audio-only files are taken (modality 03),
    WAV as published or any lossless copy of the same name. Columns besides the usual: ``fold`` (0 to 5, four
    actors each: 1-4, 5-8, ..., 21-24), ``gender``, ``intensity``, ``statement``, ``repetition``, ``channel``.

    Args:
        root: The folder.
        channel: Speech (1,440 recordings), song (1,012), or both.

    Raises:
        CorpusError: If the folder holds no such recording.
    """
    folder = corpus_folder(root, "ravdess")
    channels = {"speech": ("01",), "song": ("02",), "both": ("01", "02")}.get(channel)
    if channels is None:
        raise CorpusError(f"corpus 'ravdess': channel={channel!r} is not one of speech, song, both")
    records, problems = [], []
    for path in find_audio(folder):
        match = _NAME.fullmatch(path.stem)
        if match is None:
            problems.append(Problem(path.name, None, f"its name is not {_FORM}, seven times two digits"))
            continue
        modality, voice, emotion, intensity, statement, repetition, actor = match.groups()
        if modality in ("01", "02") or (voice in ("01", "02") and voice not in channels):
            continue  # a part of the corpus that was not asked for
        wrong = [
            f"{what} {code}"
            for what, code, known in (
                ("modality", modality, ("03",)),
                ("channel", voice, channels),
                ("emotion", emotion, tuple(f"{i:02d}" for i in range(1, 9))),
                ("intensity", intensity, ("01", "02")),
                ("statement", statement, tuple(STATEMENTS)),
                ("repetition", repetition, ("01", "02")),
                ("actor", actor, tuple(f"{i:02d}" for i in range(1, 25))),
            )
            if code not in known
        ]
        if wrong:
            problems.append(Problem(path.name, None, f"unknown {', '.join(wrong)} in its name ({_FORM})"))
            continue
        records.append(
            {
                "id": path.stem,
                "audio": str(path),
                "text": STATEMENTS[statement],
                "label": CLASSES[int(emotion) - 1],
                "speaker": actor,
                "fold": (int(actor) - 1) // 4,
                "gender": "male" if int(actor) % 2 else "female",
                "intensity": "normal" if intensity == "01" else "strong",
                "statement": statement,
                "repetition": int(repetition),
                "channel": "speech" if voice == "01" else "song",
            }
        )
    if not records:
        more = f"; the first problem: {problems[0]}" if problems else ""
        raise CorpusError(f"corpus 'ravdess': no recording named {_FORM} below {folder}{more}")
    return Corpus.from_table(
        pd.DataFrame(records),
        name="ravdess",
        classes=CLASSES,
        rows=None,
        problems=problems,
        languages=("en",),
        licence="CC BY-NC-SA 4.0",
        url="https://zenodo.org/records/1188976",
        citation=(
            "S. R. Livingstone, F. A. Russo: The Ryerson Audio-Visual Database of Emotional Speech and Song "
            "(RAVDESS). PLoS ONE 13(5): e0196391, 2018. https://doi.org/10.1371/journal.pone.0196391"
        ),
    )
