"""CREMA-D: acted English, 91 actors, 6 emotions (Cao et al., 2014)."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Literal

import pandas as pd

from graphophone.audio import find_audio
from graphophone.corpora.base import Corpus, CorpusError, Problem, corpus_folder, read_text

EMOTIONS = {
    "ANG": "angry",
    "DIS": "disgust",
    "FEA": "fearful",
    "HAP": "happy",
    "NEU": "neutral",
    "SAD": "sad",
}
"""Third part of a file name to the class; its first letter stands for it in the table of votes."""
LEVELS = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified", "X": "unspecified"}
SENTENCES = {
    "IEO": "It's eleven o'clock",
    "TIE": "That is exactly what happened",
    "IOM": "I'm on my way to the meeting",
    "IWW": "I wonder what this is about",
    "TAI": "The airplane is almost full",
    "MTI": "Maybe tomorrow it will be cold",
    "IWL": "I would like a new alarm clock",
    "ITH": "I think I have a doctor's appointment",
    "DFA": "Don't forget a jacket",
    "ITS": "I think I've seen this before",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}
_NAME = re.compile(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_([A-Z]{1,2})")
_FORM = "actor_sentence_emotion_level, as 1001_DFA_ANG_XX"


def load(root: Path, *, label: Literal["intended", "perceived"] = "intended") -> Corpus:
    """CREMA-D: acted English of 91 actors, 6 emotions.

    From ``AudioWAV`` where that folder is there (``AudioMP3`` holds the same recordings). Columns besides the
    usual: ``sentence``, ``level``; from ``VideoDemographics.csv``, where it is there, ``gender`` and ``age``.

    Args:
        root: The folder of the repository.
        label: The emotion that the actor was asked for, or the one that most listeners heard (``VoiceVote``
            of ``processedResults/summaryTable.csv``; recordings without a majority are left out).

    Raises:
        CorpusError: If the folder holds no such recording, or votes are asked for and not there.
    """
    folder = corpus_folder(root, "crema_d")
    if label not in ("intended", "perceived"):
        raise CorpusError(f"corpus 'crema_d': label={label!r} is not one of intended, perceived")
    votes = _votes(folder) if label == "perceived" else {}
    people = _people(folder)
    records, problems = [], []
    for path in find_audio(folder / "AudioWAV" if (folder / "AudioWAV").is_dir() else folder):
        match = _NAME.fullmatch(path.stem)
        if match is None:
            problems.append(Problem(path.name, None, f"its name is not {_FORM}"))
            continue
        actor, sentence, emotion, level = match.groups()
        wrong = [
            f"{what} {code}"
            for what, code, known in (
                ("sentence", sentence, SENTENCES),
                ("emotion", emotion, EMOTIONS),
                ("level", level, LEVELS),
            )
            if code not in known
        ]
        if not 1001 <= int(actor) <= 1091:
            wrong.append(f"actor {actor}")
        if wrong:
            problems.append(Problem(path.name, None, f"unknown {', '.join(wrong)} in its name ({_FORM})"))
            continue
        heard = EMOTIONS[emotion]
        if label == "perceived":
            if path.stem not in votes:
                problems.append(Problem(path.name, None, "not in the table of votes"))
                continue
            if not votes[path.stem]:
                continue  # a tie: it has no class
            heard = votes[path.stem]
        records.append(
            {
                "id": path.stem,
                "audio": str(path),
                "text": SENTENCES[sentence],
                "label": heard,
                "speaker": actor,
                "sentence": sentence,
                "level": LEVELS[level],
                **people.get(actor, {}),
            }
        )
    if not records:
        more = f"; the first problem: {problems[0]}" if problems else ""
        raise CorpusError(f"corpus 'crema_d': no recording named {_FORM} below {folder}{more}")
    return Corpus.from_table(
        pd.DataFrame(records),
        name="crema_d",
        classes=tuple(EMOTIONS.values()),
        rows=None,
        problems=problems,
        languages=("en",),
        licence="ODbL 1.0 (contents: DbCL 1.0)",
        url="https://github.com/CheyneyComputerScience/CREMA-D",
        citation=(
            "H. Cao, D. G. Cooper, M. K. Keutmann, R. C. Gur, A. Nenkova, R. Verma: CREMA-D: Crowd-sourced "
            "Emotional Multimodal Actors Dataset. IEEE Transactions on Affective Computing 5(4), 377-390, 2014. "
            "https://doi.org/10.1109/TAFFC.2014.2336244"
        ),
    )


def _rows(table: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(read_text(table), newline="")))


def _people(folder: Path) -> dict[str, dict[str, object]]:
    """Gender and age by actor."""
    table = folder / "VideoDemographics.csv"
    if not table.is_file():
        return {}
    return {
        row["ActorID"]: {"gender": row["Sex"].lower(), "age": int(row["Age"])}
        for row in _rows(table)
        if row.get("ActorID") and row.get("Sex") and (row.get("Age") or "").isdigit()
    }


def _votes(folder: Path) -> dict[str, str]:
    """The class that most listeners heard by recording, ``""`` where there is a tie."""
    table = folder / "processedResults" / "summaryTable.csv"
    if not table.is_file():
        raise CorpusError(f"corpus 'crema_d': label='perceived' needs {table}, which is not there")
    initials = {emotion[0]: name for emotion, name in EMOTIONS.items()}
    votes = {}
    for row in _rows(table):
        if "FileName" not in row or "VoiceVote" not in row:
            raise CorpusError(f"{table}: no columns `FileName` and `VoiceVote`; download the corpus again")
        votes[row["FileName"]] = initials.get(row["VoiceVote"].strip(), "")
    return votes
