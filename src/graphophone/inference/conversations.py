"""Answers for conversations: of whole ones, and turn by turn as they unfold."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch

from graphophone.corpora.base import Problem
from graphophone.dialogues import Dialogues, Turns, arrange
from graphophone.errors import GraphophoneError
from graphophone.inference.clips import Clip, ClipError, Heard, hear, hear_many
from graphophone.inference.progress import track
from graphophone.models.dialogue import DialogueClassifier

if TYPE_CHECKING:
    from graphophone.inference.recognizer import Answer, Recognizer

logger = logging.getLogger(__name__)

PAIRS = 2**18
"""Pairs of turns in the network at once, padding included: what it holds of them bounds the memory."""

TOLD = ("dialogue", "position", "speaker")
"""Columns of a table of turns that its answers repeat."""


def model_of(recognizer: Recognizer, what: str) -> DialogueClassifier:
    """The network of a recognizer, which must be one of dialogues.

    Args:
        recognizer: The model.
        what: Asks for it, for the message.

    Raises:
        GraphophoneError: If it is not.
    """
    if not recognizer.bundle.reads_dialogue:
        raise GraphophoneError(
            f"{what}: {recognizer.bundle.model_name} answers for single recordings and hears no conversation; use a "
            "model that does (docs/conversations.md), or answer for the turns one by one"
        )
    return cast(DialogueClassifier, recognizer.model)


def turns_of(recognizer: Recognizer, frames: Sequence[np.ndarray], speaker: np.ndarray) -> Turns:
    """Turns whose features are there, as the network reads them.

    Args:
        recognizer: The model.
        frames: Features before standardisation, each ``[1, dims]``.
        speaker: Numbers of the speakers ``[turns]``.
    """
    model = cast(DialogueClassifier, recognizer.model)
    return Turns.of(recognizer.vectors(frames), model.in_channels, speaker)


@torch.inference_mode()
def probabilities(recognizer: Recognizer, turns: Turns, dialogues: Sequence[np.ndarray]) -> np.ndarray:
    """Class probabilities of every turn ``[turns, classes]``, NaN for one that is in no dialogue.

    Args:
        recognizer: The model.
        turns: The turns.
        dialogues: Numbers of the turns of each dialogue, in order.
    """
    found = np.full((len(turns.speaker), len(recognizer.labels)), np.nan, dtype=np.float32)
    for some in _filled(dialogues):
        batch = turns.batch(some).to(recognizer.device)
        answers = recognizer.bundle.probabilities(recognizer.model(batch).logits.float())[batch.mask]
        found[np.concatenate(some)] = answers.cpu().numpy()
    return found


def _filled(dialogues: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Dialogues of like length together, as many as `PAIRS` allows."""
    batch: list[np.ndarray] = []
    for turns in sorted((turns for turns in dialogues if len(turns)), key=len):
        if batch and (len(batch) + 1) * len(turns) ** 2 > PAIRS:
            yield batch
            batch = []
        batch.append(turns)
    if batch:
        yield batch


def used(turns: Turns) -> list[str]:
    """What is known of each turn: ``"text and audio"``."""
    names = list(turns.parts)
    return [" and ".join(name for name, there in zip(names, row, strict=True) if there) for row in turns.present]


def hear_table(recognizer: Recognizer, table: pd.DataFrame) -> list[Heard]:
    """Features of the turns of a table; what is wrong with some is told of each."""
    model_of(recognizer, "a table of turns")
    clips = recognizer.clips(table)
    there = [clip for clip in clips if not _lacks_all(clip)]
    found = hear_many(
        there, recognizer.bundle.pipeline, recognizer.max_duration, workers=recognizer.workers, total=len(there)
    )
    shown = recognizer.progress and len(there) > 1
    by_row = {item.clip.row: item for item in track(found, "listening", len(there), show=shown)}
    return [by_row.get(clip.row) or _silent(clip, recognizer) for clip in clips]


def _lacks_all(clip: Clip) -> bool:
    return clip.path is None and clip.signal is None and clip.text is None


def _silent(clip: Clip, recognizer: Recognizer) -> Heard:
    name = recognizer.bundle.model_name
    error = ClipError(f"{clip.name}: it has no recording, and this {name} hears sound alone; give one")
    return Heard(clip, None, np.nan, np.nan, error=error)


def in_order(recognizer: Recognizer, table: pd.DataFrame) -> Dialogues:
    """The turns of a table dialogue by dialogue; without the column ``dialogue`` it is one conversation."""
    whole = table if "dialogue" in table else table.assign(dialogue="conversation")
    return arrange(whole.reset_index(drop=True), longest=recognizer.max_turns)


def answer_table(recognizer: Recognizer, table: pd.DataFrame, *, online: bool = False) -> pd.DataFrame:
    """What `Recognizer.process_table` gives for a model of conversations.

    Args:
        recognizer: The model.
        table: A row per turn.
        online: Answer for each turn from those before it alone, as `Conversation` does.
    """
    from graphophone.inference.recognizer import Answer  # which builds on this module

    model = model_of(recognizer, "a table of turns")
    arranged = in_order(recognizer, table)  # before anything is heard: what cannot be put in order is said at once
    warnings: list[Problem] = []
    seconds: dict[int, float] = {}
    answered: list[tuple[Heard, Answer | None]]
    if online:
        if model.future != 0:
            warnings.append(Problem(recognizer.bundle.model_name, None, _NOT_CAUSAL, severity="warning"))
        answered, seconds = _unfold(recognizer, table, arranged)
    else:
        heard = hear_table(recognizer, table)
        rows = np.array([i for i, item in enumerate(heard) if item.frames is not None], dtype=np.int64)
        answered = [(item, None) for item in heard]
        if len(rows):
            # As in training, a turn that nothing is known of is none: speakers are numbered without it.
            arranged = in_order(recognizer, table.iloc[rows])
            turns = turns_of(recognizer, [cast(Any, heard[row].frames) for row in rows], arranged.speaker)
            found, known = probabilities(recognizer, turns, arranged.turns), used(turns)
            for i, row in enumerate(rows):
                answered[row] = (heard[row], Answer(found[i], None, known[i]))
    if arranged.cut:
        what = "hears only so many turns before it" if online else "is answered in pieces that do not hear each other"
        warnings += [
            Problem(name, None, f"of more than {recognizer.max_turns} turns (max_turns), {what}", severity="warning")
            for name in arranged.cut
        ]
    frame = recognizer.collect(answered, [], numbered=True, warnings=warnings)
    place = frame.index.to_numpy(dtype=np.int64)
    table = _with_whole_positions(table)
    for name in reversed([name for name in TOLD if name in table]):
        frame.insert(0, name, table[name].to_numpy()[place])
    if online:
        frame.insert(list(frame.columns).index("label"), "seconds", [seconds[int(row)] for row in place])
    return frame


def _with_whole_positions(table: pd.DataFrame) -> pd.DataFrame:
    """Positions as whole numbers, where all of them are."""
    if "position" not in table or not pd.api.types.is_float_dtype(table["position"]):
        return table
    whole = table["position"].to_numpy()
    return table.assign(position=whole.astype(np.int64)) if (whole == np.floor(whole)).all() else table


def _unfold(
    recognizer: Recognizer, table: pd.DataFrame, arranged: Dialogues
) -> tuple[list[tuple[Heard, Answer | None]], dict[int, float]]:
    """Answers for the turns of a table, each from those before it, and the seconds that each took."""
    clips = recognizer.clips(table)
    speakers = table["speaker"].tolist() if "speaker" in table else [None] * len(table)
    names = table["dialogue"].astype(str).tolist() if "dialogue" in table else ["conversation"] * len(table)
    talks: dict[str, Conversation] = {}
    answered: list[tuple[Heard, Answer | None]] = []
    seconds = {}
    for clip in clips[:1]:  # what is loaded once, such as an encoder of texts, is loaded before the time is taken
        trial = Conversation(recognizer, warn=False)
        item = trial.hear(clip)
        if item.frames is not None:
            trial.answer_to(item)
    order = np.concatenate(arranged.turns) if arranged.turns else np.zeros(0, dtype=np.int64)
    for row in track(order.tolist(), "answering", len(order), show=recognizer.progress and len(order) > 1):
        talk = talks.setdefault(names[row], Conversation(recognizer, warn=False))
        began = time.perf_counter()
        item = talk.hear(clips[row])
        answered.append((item, None if item.frames is None else talk.answer_to(item, speakers[row])))
        seconds[row] = time.perf_counter() - began
    return sorted(answered, key=lambda pair: pair[0].clip.row), seconds


_NOT_CAUSAL = (
    "it was trained to hear later turns, too; an answer from earlier ones alone is the one given then, and may be "
    "worse: train with model.future 0 for this"
)


class Conversation:
    """A conversation as it unfolds: every turn is answered for when it is said, from those before it.

    For a network that was trained with ``future=0`` these are the answers that the whole conversation gets at once (to
    rounding, as long as it has no more than ``max_turns`` turns). Others give the answer that they have then; a
    warning says so once. Of a longer conversation the last ``max_turns`` turns are heard. The features of a turn are
    computed once, the network runs over the turns heard so far.

    Args:
        recognizer: The model.
        warn: Whether to log the warning.

    Raises:
        GraphophoneError: If the model hears no conversations.
    """

    def __init__(self, recognizer: Recognizer, *, warn: bool = True) -> None:
        self.recognizer = recognizer
        self.model = model_of(recognizer, "conversation")
        self.rows: list[dict[str, Any]] = []
        self._frames: list[np.ndarray] = []
        self._speakers: list[int] = []
        self._numbers: dict[str, int] = {}
        if warn and self.model.future != 0:
            logger.warning("%s: %s", recognizer.bundle.model_name, _NOT_CAUSAL)

    def __len__(self) -> int:
        return len(self.rows)

    def add(
        self,
        text: str | None = None,
        *,
        speaker: str | None = None,
        audio: str | Path | np.ndarray | None = None,
        rate: int | None = None,
        start: float | None = None,
        end: float | None = None,
        metadata: Mapping[str, float] | None = None,
    ) -> dict[str, Any]:
        """Answer for the turn that comes next.

        Args:
            text: What is said, for a model that reads it.
            speaker: Who says it, by any name; None: an unknown speaker, the same throughout.
            audio: Its sound: a file, or samples ``[samples]`` or ``[channels, samples]``.
            rate: Samples per second, of samples.
            start: First second in the file.
            end: Last second in the file.
            metadata: Values of the metadata columns of the features.

        Returns:
            ``position`` (from 0), ``speaker``, ``start``, ``end``, ``text``, ``used``, ``seconds`` (what the answer
            took, features included), ``label``, ``confidence`` and ``p_<class>``; ``notes`` are what casts doubt on it.

        Raises:
            GraphophoneError: If nothing can be known of the turn; the conversation is then as it was before.
        """
        began = time.perf_counter()
        reads_text = self.recognizer.reads_text
        if isinstance(audio, np.ndarray) and not rate:
            raise GraphophoneError("rate: the samples of a turn need one; give their number per second")
        sound: dict[str, Any] = {}
        if isinstance(audio, np.ndarray):
            sound = {"signal": audio, "rate": rate}
        elif isinstance(audio, str | Path) and str(audio).strip():  # an empty field of a table may be NaN
            sound = {"path": str(audio), "start": start, "end": end}
        text = text if isinstance(text, str) and text.strip() else None
        words = (text or "") if reads_text else None
        heard = self.hear(Clip(len(self), metadata=dict(metadata or {}), text=words, either=reads_text, **sound))
        if heard.error is not None:
            raise heard.error
        answer = self.answer_to(heard, speaker)
        self.rows[-1].update(
            {
                "start": heard.start,
                "end": heard.end,
                "text": text,
                "used": answer.used,
                "seconds": time.perf_counter() - began,
                "notes": heard.notes,
                **self.recognizer.row(answer.probabilities),
            }
        )
        return dict(self.rows[-1])

    def hear(self, clip: Clip) -> Heard:
        """Features of a turn."""
        if _lacks_all(clip):
            return _silent(clip, self.recognizer)
        return hear(clip, self.recognizer.bundle.pipeline, self.recognizer.max_duration)

    def answer_to(self, heard: Heard, speaker: Any = None) -> Answer:
        """The answer for the turn that comes next, whose features are there."""
        from graphophone.inference.recognizer import Answer  # which builds on this module

        who = "" if speaker is None or pd.isna(speaker) else str(speaker)
        number = self._numbers.setdefault(who, len(self._numbers))
        self._frames.append(np.asarray(heard.frames))
        self._speakers.append(number)
        longest = self.recognizer.max_turns
        self._frames, self._speakers = self._frames[-longest:], self._speakers[-longest:]
        turns = turns_of(self.recognizer, self._frames, np.array(self._speakers))
        whole = np.arange(len(self._frames))
        found = probabilities(self.recognizer, turns, [whole])[-1]
        self.rows.append({"position": len(self.rows), "speaker": speaker})
        return Answer(found, None, used(turns)[-1])

    def to_frame(self) -> pd.DataFrame:
        """All answers so far, a row per turn."""
        told = ("position", "speaker", "start", "end", "text", "used", "seconds")
        return self.recognizer.table(self.rows, told)


def online_seconds(frame: pd.DataFrame) -> tuple[float, float]:
    """Mean and 95th percentile of the time per turn, in seconds."""
    taken = frame["seconds"].to_numpy(dtype=np.float64)
    return float(taken.mean()), float(np.quantile(taken, 0.95))


def read_table(path: str | Path) -> pd.DataFrame:
    """The turns of a file, see `graphophone.corpora.conversation.read_turns`."""
    from graphophone.corpora.conversation import read_turns

    return read_turns(path)


def answer_file(recognizer: Recognizer, path: str | Path, *, online: bool = False) -> pd.DataFrame:
    """As `answer_table`, for a file of turns; problems are named by its lines, and answers have the column ``id``."""
    table = read_table(path)
    frame = answer_table(recognizer, table, online=online)
    lines = table["row"].to_numpy()
    attrs: dict[Any, list[Problem]] = {
        kind: [
            problem if problem.row is None else replace(problem, row=int(lines[problem.row]))
            for problem in frame.attrs[kind]
        ]
        for kind in ("failures", "warnings")
    }
    if "speaker" not in table and len(table) > 1:
        reason = "the turns have no column speaker: all are taken for those of one person; add it if there are more"
        attrs["warnings"].insert(0, Problem(Path(path).name, None, reason, severity="warning"))
    for problem in table.attrs["problems"]:
        attrs["failures" if problem.severity == "error" else "warnings"].insert(0, problem)
    frame.insert(0, "id", table["id"].to_numpy()[frame.index.to_numpy(dtype=np.int64)])
    frame.attrs = attrs
    return frame
