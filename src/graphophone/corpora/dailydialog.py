"""DailyDialog: written conversations of two people about daily life (Li et al., 2017)."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pandas as pd

from graphophone.corpora.base import Corpus, CorpusError, Problem, corpus_folder, read_text

EMOTIONS = ("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise")
"""Classes in the order in which their owners number them; they call the first one "no emotion"."""
ACTS = ("inform", "question", "directive", "commissive")
"""Acts, which their owners number from 1."""
PARTS = ("train", "validation", "test")
_END = "__eou__"  # of an utterance


def load(root: Path) -> Corpus:
    """DailyDialog: written conversations of two people, with the emotion of every utterance.

    The official release: for each part of the split ``dialogues_train.txt`` and ``dialogues_emotion_train.txt`` (and so
    on), below folders ``train``, ``validation`` and ``test``, in the ``.zip`` files of these names, or all in one
    folder. There is no sound. Ids are ``train_0_0``. Columns besides the usual:

    ``dialogue``, ``position``
        The line of the conversation in its part, such as ``train_0``, and the place of the utterance in it, from 0.
    ``speaker``
        ``train_0_A`` and ``train_0_B``, in turn: who is in several conversations is not told.
    ``act``
        What the utterance does: inform, question, directive, commissive. Only with ``dialogues_act_train.txt``.

    Conversations whose numbers of utterances and of emotions differ (the release has such) are left out.

    Raises:
        CorpusError: If a file is missing, or two of them do not belong together.
    """
    folder = corpus_folder(root, "dailydialog")
    frames, problems = [], []
    for part in PARTS:
        frame, wrong = _read_part(folder, part)
        frames.append(frame)
        problems += wrong
    return Corpus.from_table(
        pd.concat(frames, ignore_index=True),
        name="dailydialog",
        classes=EMOTIONS,
        rows=None,
        problems=problems,
        languages=("en",),
        licence="CC BY-NC-SA 4.0",
        url="http://yanran.li/dailydialog",
        citation=(
            "Y. Li, H. Su, X. Shen, W. Li, Z. Cao, S. Niu: DailyDialog: a manually labelled multi-turn dialogue "
            "dataset. IJCNLP 2017, 986-995. https://aclanthology.org/I17-1099"
        ),
    )


def _read_part(folder: Path, part: str) -> tuple[pd.DataFrame, list[Problem]]:
    """The utterances of one part, and a problem for every conversation that is left out."""
    names = [f"dialogues_{part}.txt", f"dialogues_emotion_{part}.txt", f"dialogues_act_{part}.txt"]
    texts, emotions = (_needed(folder, part, name) for name in names[:2])
    acts = _lines(folder, part, names[2])
    for name, lines in ((names[1], emotions), (names[2], acts)):
        if lines is not None and len(lines) != len(texts):
            raise CorpusError(
                f"{folder}: {name} has {len(lines)} conversations, and {names[0]} {len(texts)}; use files that belong "
                "together"
            )
    records: list[dict[str, object]] = []
    problems: list[Problem] = []
    for number, (line, numbers) in enumerate(zip(texts, emotions, strict=True)):
        dialogue = f"{part}_{number}"
        said = [words.strip() for words in line.split(_END)]
        if said[-1] == "":
            said.pop()
        labels = numbers.split()
        done = None if acts is None else acts[number].split()
        counts = {"emotions": len(labels)} | ({} if done is None else {"acts": len(done)})
        differing = next((f"{count} {what}" for what, count in counts.items() if count != len(said)), None)
        if differing is not None:
            problems.append(Problem(dialogue, None, f"{len(said)} utterances, but {differing}; left out"))
            continue
        for position, (text, label) in enumerate(zip(said, labels, strict=True)):
            record = {
                "id": f"{dialogue}_{position}",
                "text": text,
                "label": _named(label, EMOTIONS, 0),
                "speaker": f"{dialogue}_{'AB'[position % 2]}",
                "dialogue": dialogue,
                "position": position,
                "split": part,
            }
            records.append(record if done is None else {**record, "act": _named(done[position], ACTS, 1)})
    return pd.DataFrame(records), problems


def _named(number: str, names: tuple[str, ...], first: int) -> str:
    """The name that a number stands for; what is no such number is left as it is, to be complained of."""
    place = int(number) - first if number.isdigit() else -1
    return names[place] if 0 <= place < len(names) else number


def _needed(folder: Path, part: str, name: str) -> list[str]:
    """Lines of a file that has to be there."""
    lines = _lines(folder, part, name)
    if lines is None:
        raise CorpusError(
            f"corpus 'dailydialog': no {name} in {folder}, its folder {part} or {part}.zip; give the folder of the "
            "release as root"
        )
    return lines


def _lines(folder: Path, part: str, name: str) -> list[str] | None:
    """Lines of a file, a conversation each, wherever the release has it; None if it is not there."""
    for path in (folder / part / name, folder / name, folder / part / part / name):
        if path.is_file():
            return _split(read_text(path))
    archive = folder / f"{part}.zip"
    if not archive.is_file():
        return None
    try:
        with zipfile.ZipFile(archive) as members:
            for member in (f"{part}/{name}", name):
                if member in members.namelist():
                    return _split(members.read(member).decode("utf-8"))
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise CorpusError(f"{archive}: cannot be read ({error}); fetch it anew") from error
    return None


def _split(text: str) -> list[str]:
    """Lines that hold something; other marks than the end of a line do not end one (texts hold such)."""
    return [line for line in text.replace("\r\n", "\n").split("\n") if line.strip()]
