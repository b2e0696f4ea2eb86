"""EmoDB: acted German, 10 actors, 7 emotions (Burkhardt et al., 2005)."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pandas as pd

from graphophone.audio import find_audio
from graphophone.corpora.base import Corpus, CorpusError, Problem, corpus_folder, read_text

EMOTIONS = {
    "W": "angry",
    "L": "bored",
    "E": "disgust",
    "A": "fearful",
    "F": "happy",
    "N": "neutral",
    "T": "sad",
}
"""Sixth letter of a file name (the initial of a German word) to the class."""
MEN = ("03", "10", "11", "12", "15")
WOMEN = ("08", "09", "13", "14", "16")
TEST_SPEAKERS = ("12", "14", "15", "16")
"""Speakers of the test part that the owners publish; the other six are for training."""
SENTENCES = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}
_NAME = re.compile(r"(\d\d)([ab]\d\d)([A-Z])([a-z]?)")
_FORM = "two digits of the speaker, three of the text, the letter of the emotion, a version: 03a01Wa"


def load(root: Path, *, ambiguous: bool = False) -> Corpus:
    """EmoDB: acted German of 10 actors, 7 emotions.

    In the owners' first layout (``wav/03a01Wa.wav``) or the one with tables that they publish now. Columns
    besides the usual: ``split`` (the owners' train and test speakers), ``fold`` (five pairs of a man and a
    woman), ``gender``, ``sentence``, ``version``, and ``agreement`` (share of listeners who heard the
    emotion, where the tables are there).

    Args:
        root: The folder.
        ambiguous: Whether to keep recordings that are not in the tables of the gold standard: those that
            fewer than 80 % of the listeners recognised, which the second version of the corpus adds.

    Raises:
        CorpusError: If the folder holds no such recording.
    """
    folder = corpus_folder(root, "emodb")
    gold = _gold_standard(folder)
    records, problems = [], []
    for path in find_audio(folder):
        match = _NAME.fullmatch(path.stem)
        if match is None:
            problems.append(Problem(path.name, None, f"its name is not {_FORM}"))
            continue
        speaker, sentence, letter, version = match.groups()
        if gold and path.stem not in gold and not ambiguous:
            continue
        wrong = [
            f"{what} {code}"
            for what, code, known in (
                ("speaker", speaker, (*MEN, *WOMEN)),
                ("text", sentence, SENTENCES),
                ("emotion", letter, EMOTIONS),
            )
            if code not in known
        ]
        if wrong:
            problems.append(Problem(path.name, None, f"unknown {', '.join(wrong)} in its name ({_FORM})"))
            continue
        group = MEN if speaker in MEN else WOMEN
        record = {
            "id": path.stem,
            "audio": str(path),
            "text": SENTENCES[sentence],
            "label": EMOTIONS[letter],
            "speaker": speaker,
            "fold": group.index(speaker),
            "split": "test" if speaker in TEST_SPEAKERS else "train",
            "gender": "male" if speaker in MEN else "female",
            "sentence": sentence,
            "version": version,
        }
        if gold:
            record["agreement"] = gold.get(path.stem, float("nan"))
        records.append(record)
    if not records:
        more = f"; the first problem: {problems[0]}" if problems else ""
        raise CorpusError(f"corpus 'emodb': no recording named as {_FORM} below {folder}{more}")
    return Corpus.from_table(
        pd.DataFrame(records),
        name="emodb",
        classes=tuple(EMOTIONS.values()),
        rows=None,
        problems=problems,
        languages=("de",),
        licence="CC BY 4.0",
        url="https://zenodo.org/records/7447302",
        citation=(
            "F. Burkhardt, A. Paeschke, M. Rolfes, W. F. Sendlmeier, B. Weiss: A Database of German Emotional "
            "Speech. Interspeech 2005, 1517-1520. https://doi.org/10.21437/Interspeech.2005-446"
        ),
    )


def _gold_standard(folder: Path) -> dict[str, float]:
    """Listeners' agreement by recording, from the tables ``db.emotion.categories.*.gold_standard.csv``."""
    agreement: dict[str, float] = {}
    for table in sorted(folder.rglob("db.emotion.categories.*.gold_standard.csv")):
        for row in csv.DictReader(io.StringIO(read_text(table), newline="")):
            if not row.get("file"):
                raise CorpusError(f"{table}: no column `file`; download the corpus again")
            value = pd.to_numeric(row.get("emotion.confidence", ""), errors="coerce")
            agreement[Path(row["file"]).stem] = float(value)
    return agreement
