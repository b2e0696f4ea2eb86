"""Which turns of a conversation mattered for the answer for another, and which modalities.

By occlusion: a turn, or a modality, is taken away, and the network answers again. What a part adds to an answer is the
probability with it minus that without it. This is exact, and needs nothing from inside of the network; parts that say
the same, of which either would do, all seem to add little. Leaving one turn out tells what it added to all answers, so
that T runs of the network tell what each of T turns adds to each. A turn that is left out stays a turn of its speaker,
of which nothing is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from graphophone.errors import GraphophoneError
from graphophone.evaluation.page import plural
from graphophone.inference.conversations import PAIRS, TOLD, hear_table, in_order, model_of, turns_of, used
from graphophone.inference.recognizer import Recognizer
from graphophone.inference.turn_relations import TurnRelations
from graphophone.nn.dialogue import DialogueBatch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SAID = ("id", "speaker", "text")


@dataclass(frozen=True)
class ConversationExplanation:
    """Why a network said what it said of the turns of a conversation.

    Symbols: T turns, M modalities.

    Attributes:
        dialogue: Its name.
        turns: One row per turn in order: what the table told (``id``, ``position``, ``speaker``, ...), ``text``,
            ``used``, ``label`` and ``confidence`` (the explained class, by default the likeliest, and its probability)
            and ``p_<class>``.
        relations: What the turns hear of each other in the network.
        influence: What each turn adds to the probability of each label ``[T, T]``; the turn whose answer it is comes
            first. In the diagonal: what a turn adds to its own answer.
        modalities: What each modality adds where the whole conversation has it or not ``[T, M]``.
        turn: Number of the turn that was asked for, from 0; None: all.
        own: What each modality of that turn alone adds to its answer ``[M]``; NaN where it lacks it.
        notes: What else is to be known.
    """

    dialogue: str
    turns: pd.DataFrame
    relations: TurnRelations
    influence: np.ndarray
    modalities: np.ndarray
    turn: int | None = None
    own: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The explained class of the turn that was asked for.

        Raises:
            GraphophoneError: If none was.
        """
        return str(self.turns["label"].iloc[self._asked()])

    @property
    def probability(self) -> float:
        """Its probability."""
        return float(self.turns["confidence"].iloc[self._asked()])

    @property
    def title(self) -> str:
        """What is explained, in words."""
        if self.turn is None:
            return f"{self.dialogue}: {plural(len(self.turns), 'turn')}"
        name = f" ({self.turns['id'].iloc[self.turn]})" if "id" in self.turns else ""
        return f"{self.dialogue}, turn {self.turn + 1}{name}: {self.label}, probability {self.probability:.2f}"

    def _asked(self) -> int:
        if self.turn is None:
            raise GraphophoneError("no turn was asked for; give one to explain_conversation")
        return self.turn

    def to_frame(self) -> pd.DataFrame:
        """What added to the answers: a row per part, the strongest first.

        Columns: ``turn`` (whose answer it is, from 1) and its ``label``; ``part`` (``"turn"``, ``"modality"`` of the
        whole conversation, ``"own modality"``), ``source`` (number of the turn, or name of the modality), of a turn
        ``id``, ``speaker`` and ``text``; ``score``. Of one turn if one was asked for, else of all.
        """
        chosen = range(len(self.turns)) if self.turn is None else [self.turn]
        rows: list[dict[str, Any]] = []
        said = [self.turns[name].tolist() if name in self.turns else [None] * len(self.turns) for name in _SAID]
        for target in chosen:
            about = {"turn": target + 1, "label": self.turns["label"].iloc[target]}
            for source, score in enumerate(self.influence[target]):
                told = {name: column[source] for name, column in zip(_SAID, said, strict=True)}
                rows.append({**about, "part": "turn", "source": source + 1, **told, "score": score})
            for name, score in zip(self.relations.modalities, self.modalities[target], strict=True):
                rows.append({**about, "part": "modality", "source": name, "score": score})
            for name, score in zip(self.relations.modalities, () if self.own is None else self.own, strict=False):
                if not np.isnan(score):
                    rows.append({**about, "part": "own modality", "source": name, "score": score})
        table = pd.DataFrame(rows, columns=["turn", "label", "part", "source", *_SAID, "score"])
        return table.sort_values("score", key=np.abs, ascending=False, kind="stable", ignore_index=True)

    def edges_to_frame(self) -> pd.DataFrame:
        """The edges that the network left, the strongest first; turns are numbered from 1."""
        table = self.relations.edges(self.turn)
        return table.assign(source=table["source"] + 1, target=table["target"] + 1)

    def to_dict(self) -> dict[str, Any]:
        """The answers and their reasons in JSON's types."""
        turns = self.turns.astype(object).where(self.turns.notna(), None)
        return {
            "dialogue": self.dialogue,
            "turn": None if self.turn is None else self.turn + 1,
            "turns": turns.to_dict(orient="records"),
            "influence": self.influence.tolist(),
            "modalities": dict(zip(self.relations.modalities, self.modalities.T.tolist(), strict=True)),
            "edges": self.edges_to_frame().head(100).to_dict(orient="list"),
            "notes": list(self.notes),
        }

    def plot(self, *, edges: int = 80) -> Figure:
        """The conversation, its edges and what mattered.

        Args:
            edges: How many of the strongest edges to draw.
        """
        from graphophone.inference.dialogue_picture import draw_conversation

        return draw_conversation(self, edges=edges)

    def save(self, path: str | Path, *, edges: int = 80, dpi: int = 150) -> Path:
        """Draw and write the figure; the suffix (`.png`, `.svg`, `.pdf`) decides the format.

        Raises:
            GraphophoneError: If matplotlib cannot write such a file, or not there.
        """
        from graphophone.inference.picture import save_figure

        return save_figure(self.plot(edges=edges), path, dpi=dpi)


def explain_conversation(
    recognizer: Recognizer,
    table: pd.DataFrame,
    *,
    dialogue: str | None = None,
    turn: str | int | None = None,
    target: str | None = None,
) -> ConversationExplanation:
    """Explain what a model says of the turns of one conversation.

    Args:
        recognizer: A model of conversations.
        table: Turns, as for `Recognizer.process_table`.
        dialogue: Which conversation, where the table has several; a turn named by its ``id`` tells that, too.
        turn: A turn by its ``id``, its ``position``, or its number from 1; None: none in particular.
        target: Class to explain; the likeliest of each turn if None.

    Returns:
        The contributions. Turns of which nothing is known are left out, as in the answers; ``notes`` name them.

    Raises:
        GraphophoneError: If there is no such conversation, turn or class, or none of its turns can be used.
    """
    model = model_of(recognizer, "explain")
    labels = recognizer.labels
    if target is not None and target not in labels:
        raise GraphophoneError(f"target {target!r} is not a class of this model; use one of {', '.join(labels)}")
    table = table.reset_index(drop=True)
    name, table = _dialogue(table, dialogue, turn)
    heard = hear_table(recognizer, table)
    rows = [i for i, item in enumerate(heard) if item.frames is not None]
    notes = [f"{item.clip.name} is left out: {item.reason}" for item in heard if item.frames is None]
    notes += [f"{item.clip.name}: {note}" for item in heard if item.frames is not None for note in item.notes]
    if not rows:
        raise GraphophoneError(f"dialogue {name}: no turn can be used; the first: {notes[0]}")
    kept = table.iloc[rows].reset_index(drop=True)
    arranged = in_order(recognizer, kept)
    row = None if turn is None else _row(kept, np.concatenate(arranged.turns), turn, name)
    piece = arranged.turns[0] if row is None else next(p for p in arranged.turns if row in p)
    if arranged.cut:
        notes.append(f"only {len(piece)} turns are heard together (max_turns {recognizer.max_turns})")
    turns = turns_of(recognizer, [cast(Any, heard[rows[i]].frames) for i in range(len(rows))], arranged.speaker)
    batch = turns.batch([piece]).to(recognizer.device)
    number = None if row is None else int(np.flatnonzero(piece == row)[0])
    whole = _answers(recognizer, batch, torch.ones_like(batch.present))[0]
    chosen = whole.argmax(axis=1) if target is None else np.full(len(piece), labels.index(target))

    def added(keep: Tensor) -> np.ndarray:
        """What is left out adds to the explained class of every turn ``[variants, T]``."""
        without = _answers(recognizer, batch, keep)
        each = np.arange(len(piece))
        return whole[each, chosen] - without[:, each, chosen]

    count, parts = len(piece), len(batch.modalities)
    every = torch.eye(count, dtype=torch.bool, device=batch.present.device)
    influence = added(~every[:, None, :]).T
    whose = torch.eye(parts, dtype=torch.bool, device=batch.present.device)
    modalities = added(~whose[:, :, None]).T
    own = None
    if number is not None:
        own = added(~(whose[:, :, None] & every[number]))[:, number]
        own[~batch.present[0, :, number].cpu().numpy()] = np.nan
    told = kept.iloc[piece].reset_index(drop=True)
    columns = [column for column in ("id", *TOLD[1:], "start", "end", "text") if column in told]
    answers = pd.DataFrame(whole, columns=[f"p_{label}" for label in labels])
    known = used(turns)
    shown = told[columns].assign(
        used=[known[i] for i in piece], label=[labels[i] for i in chosen], confidence=whole[np.arange(count), chosen]
    )
    return ConversationExplanation(
        dialogue=name,
        turns=pd.concat([shown, answers], axis=1),
        relations=TurnRelations.of(model, batch),
        influence=influence,
        modalities=modalities,
        turn=number,
        own=own,
        notes=tuple(notes),
    )


@torch.inference_mode()
def _answers(recognizer: Recognizer, batch: DialogueBatch, keep: Tensor) -> np.ndarray:
    """Probabilities of the turns of one dialogue with parts of it left out ``[variants, T, classes]``.

    Args:
        recognizer: The model.
        batch: The dialogue.
        keep: What stays, bool, broadcast to ``[variants, M, T]``.
    """
    turns = batch.mask.size(1)
    at_once = max(1, PAIRS // turns**2)
    found = []
    for some in keep.split(at_once):
        copies = replace(
            batch,
            x={name: part.expand(len(some), -1, -1) for name, part in batch.x.items()},
            **{
                name: getattr(batch, name).expand(len(some), *getattr(batch, name).shape[1:])
                for name in ("present", "mask", "speaker", "y", "row")
            },
        )
        logits = recognizer.model(copies.keeping(some)).logits.float()
        found.append(recognizer.bundle.probabilities(logits).cpu().numpy().astype(np.float64))
    return np.concatenate(found)


def _dialogue(table: pd.DataFrame, dialogue: str | None, turn: str | int | None) -> tuple[str, pd.DataFrame]:
    """The conversation that is asked for, and its turns.

    Raises:
        GraphophoneError: If that cannot be told.
    """
    if "dialogue" not in table:
        if dialogue is not None:
            raise GraphophoneError(f"dialogue {dialogue!r}: the turns have no column dialogue; leave it out, or add it")
        return "conversation", table
    names = table["dialogue"].astype(str)
    if dialogue is None and turn is not None and "id" in table:
        of_turn = names[table["id"].astype(str) == str(turn)].unique()
        dialogue = of_turn[0] if len(of_turn) == 1 else None
    distinct = list(dict.fromkeys(names))
    if dialogue is None and len(distinct) == 1:
        dialogue = distinct[0]
    if dialogue is None:
        raise GraphophoneError(f"there are {len(distinct)} conversations; name one as dialogue: {_listed(distinct)}")
    if dialogue not in distinct:
        raise GraphophoneError(f"there is no dialogue {dialogue!r}; name one of {_listed(distinct)}")
    return dialogue, table[names == dialogue].reset_index(drop=True)


def _row(table: pd.DataFrame, order: np.ndarray, turn: str | int, name: str) -> int:
    """Row of the turn that is asked for: by its id, its position, or its number from 1.

    Raises:
        GraphophoneError: If there is none.
    """
    if "id" in table:
        found = np.flatnonzero(table["id"].astype(str) == str(turn))
        if len(found):
            return int(found[0])
    try:
        number = float(turn)
    except ValueError:
        number = np.nan
    if "position" in table:
        found = np.flatnonzero(pd.to_numeric(table["position"], errors="coerce") == number)
        if len(found):
            return int(found[0])
        what = "id nor position"
    else:
        if number in range(1, len(order) + 1):
            return int(order[int(number) - 1])
        what = "id, nor the number of one from 1"
    ids = table["id"].astype(str).tolist() if "id" in table else list(map(str, range(1, len(order) + 1)))
    raise GraphophoneError(
        f"turn {turn!r}: no turn of dialogue {name} that can be used has this {what}: {_listed(ids)}"
    )


def _listed(names: Sequence[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
