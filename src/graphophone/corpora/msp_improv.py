"""MSP-IMPROV: English dialogues of 12 actors, improvised, natural and read (Busso et al., 2017)."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from graphophone.audio import find_audio
from graphophone.corpora.base import Corpus, CorpusError, Problem, corpus_folder, read_text

EMOTIONS = {"A": "angry", "H": "happy", "N": "neutral", "S": "sad"}
"""Letter of the evaluation file to the class."""
_NO_CLASS = ("O", "X")  # another emotion; no agreement
SCENARIOS = {
    "P": "natural",
    "R": "target read",
    "S": "other improvised",
    "T": "target improvised",
}
"""Letter of the recording condition: talk in the breaks, the target sentence read or within an improvisation, and
the rest of the improvisation."""
_LABEL_FILES = ("evalution.txt", "evaluation.txt")  # the release spells it in both ways
_NAME = re.compile(r"S(\d\d)([AHNS])-([FM])(0[1-6])-([PRST])-([FM]{2}\d+)")
_HEAD = re.compile(r"(?:UTD|MSP)-IMPROV-([^.;\s]+)\.\w+\s*;\s*([A-Za-z]+)\s*;(.*)")
_ATTRIBUTE = re.compile(r"\b([AVDN])\s*:\s*(\d+(?:\.\d+)?|NaN)")
_FORM = "MSP-IMPROV-S01A-F01-P-FM01: sentence and its emotion, actor, condition, turn"


def load(root: Path) -> Corpus:
    """MSP-IMPROV: English dialogues of 12 actors, improvised, natural and read.

    ``session1`` to ``session6`` with ``S01A/P/MSP-IMPROV-S01A-F01-P-FM01.wav``, and the evaluation file
    ``Evalution.txt``, anywhere below ``root``. The four classes of the literature are taken; utterances of
    another emotion, or without agreement, are not part of it. Columns besides the usual:

    ``session``, ``fold``
        1 to 6, and the same from 0: two speakers each.
    ``scenario``, ``spontaneous``
        Natural, other improvised, target improvised (1) or target read (0).
    ``sentence``, ``intended``
        Number of the target sentence and the emotion it was to be said with.
    ``turn``
        Last part of the file's name.
    ``arousal``, ``valence``, ``dominance``, ``naturalness``
        Means over the evaluators, 1 to 5; NaN where the file has none.
    ``votes_angry``, ..., ``evaluators``, ``agreement``
        How many evaluators chose a category, how many there were, and which share chose the published one.

    Args:
        root: The release.

    Raises:
        CorpusError: If there is no evaluation file, or it names no usable recording.
    """
    folder = corpus_folder(root, "msp_improv")
    found = sorted(
        (path for path in folder.rglob("*.txt") if path.name.lower() in _LABEL_FILES),
        key=lambda path: (len(path.parts), path),
    )
    if not found:
        raise CorpusError(f"corpus 'msp_improv': no Evalution.txt (or Evaluation.txt) below {folder}")
    problems: list[Problem] = []
    recordings: dict[str, Path] = {}
    for path in find_audio(folder):
        if path.stem.startswith("MSP-IMPROV-") and recordings.setdefault(path.stem, path) != path:
            reason = f"there twice; {recordings[path.stem]} is taken"
            problems.append(Problem(str(path.relative_to(folder)), None, reason, "warning"))

    records = []
    named: set[str] = set()
    for name, letter, attributes, votes in _read_evaluations(found[0]):
        item = f"MSP-IMPROV-{name}"
        named.add(item)
        match = _NAME.fullmatch(name)
        if match is None:
            problems.append(Problem(item, None, f"its name is not {_FORM}"))
        elif letter not in EMOTIONS and letter not in _NO_CLASS:
            known = ", ".join((*EMOTIONS, *_NO_CLASS))
            problems.append(Problem(item, None, f"unknown emotion {letter!r}. Known: {known}"))
        elif letter in EMOTIONS:
            sentence, intended, gender, session, scenario, turn = match.groups()
            published = folder / f"session{int(session)}" / f"S{sentence}{intended}" / scenario
            label = EMOTIONS[letter]
            records.append(
                {
                    "id": item,
                    "audio": str(recordings.get(item, published / f"{item}.wav")),
                    "label": label,
                    "speaker": f"{gender}{session}",
                    "fold": int(session) - 1,
                    "spontaneous": int(scenario != "R"),
                    "session": int(session),
                    "gender": "female" if gender == "F" else "male",
                    "scenario": SCENARIOS[scenario],
                    "sentence": sentence,
                    "intended": EMOTIONS[intended],
                    "turn": turn,
                    "arousal": attributes.get("A", float("nan")),
                    "valence": attributes.get("V", float("nan")),
                    "dominance": attributes.get("D", float("nan")),
                    "naturalness": attributes.get("N", float("nan")),
                    "agreement": votes.count(label) / len(votes) if votes else float("nan"),
                    "evaluators": len(votes),
                    **{f"votes_{vote}": votes.count(vote) for vote in (*EMOTIONS.values(), "other")},
                }
            )
    problems += [
        Problem(item, None, f"not in {found[0].name}; passed over", "warning")
        for item in recordings
        if item not in named
    ]
    if not records:
        more = f"; the first problem: {problems[0]}" if problems else ""
        raise CorpusError(f"corpus 'msp_improv': no utterance of the four classes in {found[0]}{more}")
    return Corpus.from_table(
        pd.DataFrame(records),
        name="msp_improv",
        classes=tuple(EMOTIONS.values()),
        rows=None,
        problems=problems,
        languages=("en",),
        licence="by agreement with the University of Texas at Dallas, for research",
        url="https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Improv.html",
        citation=(
            "C. Busso, S. Parthasarathy, A. Burmania, M. AbdelWahab, N. Sadoughi, E. Mower Provost: MSP-IMPROV: An "
            "Acted Corpus of Dyadic Interactions to Study Emotion Perception. IEEE Transactions on Affective "
            "Computing 8(1), 67-80, 2017. https://doi.org/10.1109/TAFFC.2016.2515617"
        ),
    )


def _read_evaluations(file: Path) -> list[tuple[str, str, dict[str, float], list[str]]]:
    """Blocks of the file: name without its prefix, letter, attributes, one vote per evaluator.

    A block begins with ``UTD-IMPROV-<name>.avi; <letter>; A:..; V:..; D:.. ; N:..;`` and goes on with a line
    per evaluator, ``<evaluator>; <category>; <categories>; A:..; V:..; D:..; N:..;``. An evaluator who occurs
    twice in a block is a copy and counts once.
    """
    blocks: list[tuple[str, str, dict[str, float], list[str]]] = []
    evaluators: set[str] = set()
    for line in read_text(file).splitlines():
        head = _HEAD.match(line.strip())
        if head is not None:
            attributes = {letter: float(value) for letter, value in _ATTRIBUTE.findall(head[3])}
            blocks.append((head[1], head[2].upper(), attributes, []))
            evaluators = set()
        elif blocks and len(parts := [part.strip() for part in line.split(";")]) > 2 and parts[0] not in evaluators:
            evaluators.add(parts[0])
            word = parts[1].lower()
            blocks[-1][3].append(word if word in EMOTIONS.values() else "other")
    return blocks
