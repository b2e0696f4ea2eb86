"""What else is measured of a network of conversations once it is trained.

What it is worth with fewer modalities, what it is worth when each turn has to be answered as it is said, and one
conversation with what its turns heard of each other.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from graphophone.evaluation.metrics import classification_metrics
from graphophone.evaluation.turns import EXAMPLE_FILE, UNFOLDED_TURNS
from graphophone.inference.turn_relations import TurnRelations
from graphophone.models.base import evaluating
from graphophone.models.dialogue import DialogueClassifier
from graphophone.nn.dialogue import DialogueBatch

DRAWN_TURNS = 12
"""Turns of the conversation that is drawn, if there is one of so many."""

AT_ONCE = 2**20
"""Pairs of nodes that are answered for at once, where padding is of our own making."""

_FILL = {"mask": False, "speaker": 0, "y": -1, "row": -1}  # what parts of a batch have at padding

_KEPT = ("n", "ua", "wa", "weighted_f1", "macro_f1", "confusion")


def dialogue_findings(
    model: DialogueClassifier,
    batches: Iterable[DialogueBatch],
    table: pd.DataFrame,
    classes: Sequence[str],
    folder: Path,
) -> dict[str, Any]:
    """What is measured of a trained network on its test conversations, for the ``metrics.json`` of a training.

    Args:
        model: The network.
        batches: Test conversations; turns without a class (or without a row) are context only.
        table: The turns of the corpus, by the numbers in ``batch.row``.
        classes: Name of every class.
        folder: Where the drawn conversation goes, as :data:`~graphophone.evaluation.turns.EXAMPLE_FILE`.

    Returns:
        ``subsets`` and ``unfolding``, see :func:`subset_results` and :func:`unfolding_results`; without what is empty.
    """
    kept = [batch.to(next(model.parameters()).device) for batch in batches]
    found = {"subsets": subset_results(model, kept, classes), "unfolding": unfolding_results(model, kept, classes)}
    example = typical_dialogue(kept)
    if example is not None:
        write_example(folder / EXAMPLE_FILE, model, example, table, classes)
    return {name: values for name, values in found.items() if values}


def subset_results(
    model: DialogueClassifier, batches: Sequence[DialogueBatch], classes: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """What a network is worth when only some of the modalities are given, every one it reads having been learned from.

    Args:
        model: The network.
        batches: Conversations.
        classes: Name of every class.

    Returns:
        By the names of the modalities that are given, joined by ``+``, fewest first and all of them last: ``n``,
        ``ua``, ``wa``, ``weighted_f1``, ``macro_f1`` and ``confusion``. Empty for one modality or none to score.
    """
    names = batches[0].modalities if batches else ()
    if len(names) < 2:
        return {}
    found = {}
    for count in range(1, len(names) + 1):
        for given in combinations(names, count):
            scores = _scores(*_answers(model, (batch.only(given) for batch in batches)), classes)
            if scores:
                found["+".join(given)] = scores
    return found


def unfolding_results(
    model: DialogueClassifier, batches: Sequence[DialogueBatch], classes: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """What a network is worth when every turn is answered as it is said, and nothing later is known.

    Conversations of more than :data:`~graphophone.evaluation.turns.UNFOLDED_TURNS` turns are left out of both.

    Returns:
        ``at_once``: each turn from the turns up to it; ``whole``: the same turns in their whole conversations; both as
        in :func:`subset_results`. Empty for a network that hears no later turn anyway, or with nothing to score.
    """
    if model.future == 0 or not batches:
        return {}
    asked = joined(batches)
    asked = cut(asked, (asked.lengths <= UNFOLDED_TURNS).nonzero().flatten())
    whole = _scores(*_answers(model, [asked]), classes)
    if not whole:
        return {}
    return {"at_once": _scores(*_answers(model, _beginnings(asked)), classes), "whole": whole}


def joined(batches: Sequence[DialogueBatch]) -> DialogueBatch:
    """All dialogues as one batch."""
    turns = max((batch.mask.size(1) for batch in batches), default=0)

    def along(parts: Iterable[Tensor], fill: int, place: int = 1) -> Tensor:
        """Tensors one after another, filled up along the turns."""
        missing = ((part, turns - part.size(place)) for part in parts)
        return torch.cat([F.pad(p, [0, 0] * (p.dim() - 1 - place) + [0, gap], value=fill) for p, gap in missing])

    return DialogueBatch(
        x={name: along((batch.x[name] for batch in batches), 0) for name in batches[0].modalities},
        present=along((batch.present for batch in batches), 0, place=2),
        **{name: along((getattr(b, name) for b in batches), fill) for name, fill in _FILL.items()},
    )


def cut(batch: DialogueBatch, which: Tensor, turns: Tensor | None = None) -> DialogueBatch:
    """Some of the dialogues, each only as far as it is wanted.

    Args:
        batch: Dialogues.
        which: Their numbers ``[n]``, one as often as it is wanted.
        turns: How many of its first turns each keeps ``[n]``; None: all.
    """
    turns = batch.lengths[which] if turns is None else turns
    longest = int(turns.max()) if len(turns) else 0
    kept = torch.arange(longest, device=turns.device) < turns[:, None]
    return DialogueBatch(
        x={name: part[which, :longest].masked_fill(~kept[..., None], 0) for name, part in batch.x.items()},
        present=batch.present[which, :, :longest] & kept[:, None],
        **{name: getattr(batch, name)[which, :longest].masked_fill(~kept, fill) for name, fill in _FILL.items()},
    )


def _beginnings(batch: DialogueBatch) -> Iterator[DialogueBatch]:
    """For every turn with a class its dialogue up to it, as many at once as fit; only the last turn keeps its class."""
    which, last = (batch.mask & (batch.y >= 0)).nonzero(as_tuple=True)
    order = last.argsort(stable=True)
    which, turns = which[order], last[order] + 1
    start, size = 0, len(batch.modalities) ** 2
    while start < len(turns):
        count = max(1, AT_ONCE // (size * int(turns[start]) ** 2))
        longest = int(turns[start : start + count].max())
        chosen = slice(start, start + max(1, AT_ONCE // (size * longest**2)))
        part = cut(batch, which[chosen], turns[chosen])
        final = torch.arange(part.mask.size(1), device=turns.device) == turns[chosen, None] - 1
        yield replace(part, y=part.y.masked_fill(~final, -1))
        start = chosen.stop


def _answers(model: DialogueClassifier, batches: Iterable[DialogueBatch]) -> tuple[np.ndarray, np.ndarray]:
    """Classes ``[turns]`` and probabilities ``[turns, C]`` of the turns that have a class."""
    target, probabilities = [], []
    with evaluating(model), torch.no_grad():
        for batch in batches:
            asked = batch.mask & (batch.y >= 0)
            if bool(asked.any()):
                target.append(batch.y[asked])
                probabilities.append(model(batch).logits[asked].double().softmax(dim=-1))
    if not target:
        return np.zeros(0, dtype=np.int64), np.zeros((0, model.num_classes))
    return torch.cat(target).cpu().numpy(), torch.cat(probabilities).cpu().numpy()


def _scores(target: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    if not len(target):
        return {}
    measured = classification_metrics(target, probabilities, classes)
    return {name: measured[name] for name in _KEPT}


def typical_dialogue(batches: Iterable[DialogueBatch]) -> DialogueBatch | None:
    """The conversation to draw: one of several speakers if there is any, and of about :data:`DRAWN_TURNS` turns.

    Of equals the first. None where no conversation has a turn with a class.
    """
    best: tuple[tuple[bool, int], DialogueBatch] | None = None
    for batch in batches:
        alone = batch.speaker.amax(dim=1) == 0
        for place in ((batch.y >= 0) & batch.mask).any(dim=1).nonzero().flatten().tolist():
            rank = bool(alone[place]), abs(int(batch.lengths[place]) - DRAWN_TURNS)
            if best is None or rank < best[0]:
                best = rank, cut(batch, torch.tensor([place], device=batch.mask.device))
    return None if best is None else best[1]


def write_example(
    path: Path, model: DialogueClassifier, batch: DialogueBatch, table: pd.DataFrame, classes: Sequence[str]
) -> None:
    """Write one conversation with its answers and with what its turns heard of each other.

    Args:
        path: The ``.npz`` file.
        model: The network.
        batch: The conversation, alone and without padding.
        table: The turns of the corpus, by the numbers in ``batch.row``.
        classes: Name of every class.

    The arrays: ``id``, ``speaker``, ``text``, ``label`` (the true class; all of them empty where not known),
    ``predicted``, ``confidence`` ``[T]``; ``dialogue``; and those of
    :meth:`~graphophone.inference.turn_relations.TurnRelations.arrays`.
    """
    with evaluating(model), torch.no_grad():
        probabilities = model(batch).logits[0].double().softmax(dim=-1).cpu().numpy()
    rows = batch.row[0].cpu().numpy()
    known = table.iloc[np.maximum(rows, 0)]
    names = np.asarray(classes, dtype=str)
    y = batch.y[0].cpu().numpy()
    arrays: dict[str, np.ndarray] = {
        **TurnRelations.of(model, batch).arrays(),
        "label": np.where(y >= 0, names[np.maximum(y, 0)], ""),
        "predicted": names[probabilities.argmax(axis=1)],
        "confidence": probabilities.max(axis=1),
        "dialogue": np.asarray(str(known["dialogue"].to_numpy()[rows >= 0][0])),
    }
    for column in ("id", "speaker", "text"):
        arrays[column] = _words(known, column, rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.stem}.{os.getpid()}.tmp.npz")
    np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
    temporary.replace(path)


def _words(table: pd.DataFrame, column: str, rows: np.ndarray) -> np.ndarray:
    """A column of names, empty where there is none or the row is not known."""
    if column not in table:
        return np.full(len(rows), "", dtype=str)
    return np.where(rows >= 0, table[column].fillna("").astype(str).to_numpy(dtype=str), "")
