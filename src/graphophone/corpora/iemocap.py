"""IEMOCAP: English dialogues of 10 actors, read and improvised (Busso et al., 2008)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from graphophone.audio import find_audio
from graphophone.corpora.base import Corpus, CorpusError, Problem, corpus_folder, read_text
from graphophone.corpora.lists import apply_lists

_FOUR = {"ang": "angry", "hap": "happy", "neu": "neutral", "sad": "sad"}
LABEL_SETS: dict[str, dict[str, str]] = {
    "4490": _FOUR,
    "5531": {**_FOUR, "exc": "happy"},
    "6": {
        "hap": "happy",
        "sad": "sad",
        "neu": "neutral",
        "ang": "angry",
        "exc": "excited",
        "fru": "frustrated",
    },
}
"""Name of a label set to the published codes it takes and the class each becomes, in class order."""
LISTED = ("angry", "happy", "neutral", "sad")
"""Classes in the order in which the lists of ``lists`` number them."""
CODES = ("ang", "dis", "exc", "fea", "fru", "hap", "neu", "oth", "sad", "sur", "xxx")
"""Codes of the release; ``xxx`` is an utterance that the evaluators did not agree on."""
VOTES = {
    "Anger": "angry",
    "Disgust": "disgust",
    "Excited": "excited",
    "Fear": "fearful",
    "Frustration": "frustrated",
    "Happiness": "happy",
    "Neutral": "neutral",
    "Sadness": "sad",
    "Surprise": "surprised",
    "Other": "other",
}
"""An evaluator's word to the column ``votes_<name>`` in which it is counted."""
_CODE_OF_VOTE = {
    "angry": "ang",
    "disgust": "dis",
    "excited": "exc",
    "fearful": "fea",
    "frustrated": "fru",
    "happy": "hap",
    "neutral": "neu",
    "sad": "sad",
    "surprised": "sur",
    "other": "oth",
}
_NUMBER = r"-?\d+(?:\.\d+)?"
_HEAD = re.compile(
    rf"\[\s*({_NUMBER})\s*-\s*({_NUMBER})\s*\]\s+(\S+)\s+(\S+)\s+"
    rf"\[\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\]"
)
_VOTE = re.compile(r"C-(E|F|M)(\w*):\s*([^(]*)")
_TURN = re.compile(r"(Ses0([1-5])[FM]_(impro|script)\w*)_([FM])\w+")
_TRANSCRIPT = re.compile(r"(\S+)\s+\[[^\]]*\]:\s*(.*)")


@dataclass
class _Turn:
    """One utterance of an evaluation file; times in seconds of the dialogue's recording."""

    name: str
    start: float
    end: float
    code: str
    attributes: tuple[float, float, float]
    votes: list[set[str]] = field(default_factory=list)


def load(root: Path, *, label_set: str | int = "4490", lists: Path | None = None, unlabelled: bool = False) -> Corpus:
    """IEMOCAP: English dialogues of 10 actors, read and improvised.

    The official release: ``Session1`` to ``Session5`` with ``dialog/EmoEvaluation``,
    ``dialog/transcriptions`` and ``sentences/wav``. Columns besides the usual:

    ``dialogue``, ``position``
        The dialogue, and the place of the utterance among all its evaluated utterances by time, from 0.
    ``session``, ``fold``
        1 to 5, and the same from 0: two speakers each.
    ``spontaneous``
        1 in an improvised dialogue, 0 in a scripted one.
    ``emotion``
        The published code, such as ``exc`` where ``label`` says ``happy``.
    ``valence``, ``arousal``, ``dominance``
        Means over the evaluators, 1 to 5.
    ``votes_angry``, ... , ``evaluators``, ``agreement``
        How many evaluators chose a category (one may choose several), how many there were, and which share of
        them chose the published one. What the actors said of themselves is not counted.
    ``dialogue_start``, ``dialogue_end``
        Seconds in the recording of the whole dialogue.

    Args:
        root: The release (the folder of the sessions, or the one above it).
        label_set: ``"4490"``: angry, happy, neutral, sad; ``"5531"``: the same with excited counted as happy;
            ``"6"``: happy, sad, neutral, angry, excited, frustrated. Utterances of other categories, or on
            which the evaluators did not agree, are not part of it.
        lists: Folder of ``IEMOCAP_metadata_train.csv``, ``_val.csv`` and ``_test.csv`` as released with HemoGAT: their
            utterances are taken, with their labels, and ``split`` is theirs (at random: every speaker and nearly every
            dialogue is in all parts). They are of label set 5531.
        unlabelled: Whether utterances of other categories, or on which the evaluators did not agree, are kept without
            label: a network of dialogues then knows what was said between those of the label set.

    Raises:
        CorpusError: If there is no session folder, or none of its utterances is usable.
    """
    folder = corpus_folder(root, "iemocap")
    if lists is not None and str(label_set) != "5531":
        raise CorpusError("corpus 'iemocap': lists are of label_set=5531; give that too")
    if lists is not None and unlabelled:
        raise CorpusError("corpus 'iemocap': lists name labelled utterances only; leave out unlabelled=true")
    classes = LABEL_SETS.get(str(label_set))
    if classes is None:
        raise CorpusError(f"corpus 'iemocap': label_set={label_set!r} is not one of {', '.join(LABEL_SETS)}")
    if not any((folder / f"Session{n}").is_dir() for n in range(1, 6)):
        folder = folder / "IEMOCAP_full_release"
    if not any((folder / f"Session{n}").is_dir() for n in range(1, 6)):
        raise CorpusError(f"corpus 'iemocap': no folder Session1 to Session5 in {folder.parent}")

    records: list[dict[str, object]] = []
    problems: list[Problem] = []
    for number in range(1, 6):
        session = folder / f"Session{number}"
        files = sorted(session.glob("dialog/EmoEvaluation/Ses*.txt"))
        if not files:
            problems.append(Problem(session.name, None, "no dialog/EmoEvaluation/Ses*.txt; unpack it again", "warning"))
        for file in files:
            turns = _read_evaluation(file, problems)
            texts = _read_transcript(session / "dialog" / "transcriptions" / file.name, problems)
            sentences = session / "sentences" / "wav" / file.stem
            names = {turn.name for turn in turns}
            if sentences.is_dir():
                problems += [
                    Problem(path.stem, None, f"not evaluated in {file.name}; passed over", "warning")
                    for path in find_audio(sentences)
                    if path.stem not in names
                ]
            turns.sort(key=lambda turn: (turn.start, turn.end, turn.name))
            for position, turn in enumerate(turns):
                if turn.code not in CODES:
                    known = ", ".join(CODES)
                    problems.append(Problem(turn.name, None, f"unknown emotion {turn.code!r}. Known: {known}"))
                elif turn.code in classes or unlabelled:
                    audio = sentences / f"{turn.name}.wav"
                    label = classes.get(turn.code, "")
                    record = _record(turn, position, label, texts.get(turn.name, ""), audio)
                    records.append(record)
    if not any(record["label"] for record in records):
        more = f"; the first problem: {problems[0]}" if problems else ""
        raise CorpusError(f"corpus 'iemocap': no utterance of label set {label_set} below {folder}{more}")
    table = pd.DataFrame(records)
    if lists is not None:
        table, differing = apply_lists(table, lists, "IEMOCAP", dict(enumerate(LISTED)), lambda _, name: name)
        problems += differing
    return Corpus.from_table(
        table,
        name="iemocap",
        classes=tuple(dict.fromkeys(classes.values())),
        rows=None,
        problems=problems,
        unlabelled=unlabelled,
        languages=("en",),
        licence="by agreement with the University of Southern California, for research",
        url="https://sail.usc.edu/iemocap/",
        citation=(
            "C. Busso, M. Bulut, C.-C. Lee, A. Kazemzadeh, E. Mower, S. Kim, J. N. Chang, S. Lee, S. S. Narayanan: "
            "IEMOCAP: interactive emotional dyadic motion capture database. Language Resources and Evaluation "
            "42(4), 335-359, 2008. https://doi.org/10.1007/s10579-008-9076-6"
        ),
    )


def _record(turn: _Turn, position: int, label: str, text: str, audio: Path) -> dict[str, object]:
    match = _TURN.fullmatch(turn.name)
    if match is None:  # _read_evaluation lets no other name through
        raise AssertionError(turn.name)
    dialogue, session, kind, gender = match.groups()
    chosen = [{_CODE_OF_VOTE[vote] for vote in votes} for votes in turn.votes]
    agreeing = sum(turn.code in codes for codes in chosen)
    return {
        "id": turn.name,
        "audio": str(audio),
        "text": text,
        "label": label,
        "speaker": f"Ses0{session}{gender}",
        "dialogue": dialogue,
        "position": position,
        "fold": int(session) - 1,
        "spontaneous": int(kind == "impro"),
        "session": int(session),
        "gender": "female" if gender == "F" else "male",
        "emotion": turn.code,
        "valence": turn.attributes[0],
        "arousal": turn.attributes[1],
        "dominance": turn.attributes[2],
        "agreement": agreeing / len(chosen) if chosen else float("nan"),
        "evaluators": len(chosen),
        **{f"votes_{name}": sum(name in votes for votes in turn.votes) for name in VOTES.values()},
        "dialogue_start": turn.start,
        "dialogue_end": turn.end,
    }


def _read_evaluation(file: Path, problems: list[Problem]) -> list[_Turn]:
    """Utterances of one dialogue; lines that cannot be read are added to ``problems``."""
    turns: list[_Turn] = []
    current: _Turn | None = None
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if line.startswith("["):
            current = None
            head = _HEAD.match(line)
            turn = None if head is None else _TURN.fullmatch(head[3])
            if head is None or turn is None or turn[1] != file.stem:
                reason = "is not `[start - end] turn emotion [v, a, d]` of this dialogue"
                problems.append(Problem(f"{file.name}, line {number}", None, f"{reason}: {line.strip()[:60]!r}"))
                continue
            attributes = (float(head[5]), float(head[6]), float(head[7]))
            current = _Turn(head[3], float(head[1]), float(head[2]), head[4], attributes)
            turns.append(current)
        elif current is not None and (vote := _VOTE.match(line)) and vote[1] == "E":
            words = [word.strip() for word in vote[3].split(";")]
            current.votes.append({VOTES.get(word.split(" ")[0], "other") for word in words if word})
    return turns


def _read_transcript(file: Path, problems: list[Problem]) -> dict[str, str]:
    """Words of each utterance of one dialogue."""
    if not file.is_file():
        problems.append(Problem(file.stem, None, f"no transcript: {file} is not there", "warning"))
        return {}
    matches = (_TRANSCRIPT.match(line) for line in read_text(file).splitlines())
    return {match[1]: match[2].strip() for match in matches if match}
