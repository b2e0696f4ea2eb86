"""What answers for the turns of conversations are worth by their place, their speaker and what was felt before.

All of it is read off a table of predictions with the columns ``dialogue`` and, where they are known, ``position`` and
``speaker``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from graphophone.evaluation.metrics import confusions_of_groups, weighted_f1
from graphophone.evaluation.statistics import Estimate, interval

EXAMPLE_FILE = "dialogue.npz"
"""Name of the file in the folder of a training with the conversation that a report draws."""

UNFOLDED_TURNS = 128
"""Turns of a conversation at most that is answered turn by turn: that takes as many passes as it has turns."""

OTHERS = "the others"
"""What the speakers that are not told apart are called together."""


@dataclass(frozen=True)
class TurnGroup:
    """Some of the turns, and what the answers for them are worth.

    Attributes:
        name: What they have in common.
        turns: How many a seed has, on average.
        scores: ``wa`` (accuracy) and ``weighted_f1``, over the seeds that have such turns.
    """

    name: str
    turns: int
    scores: Mapping[str, Estimate]


def with_places(predictions: pd.DataFrame) -> pd.DataFrame:
    """Predictions in the order in which the turns were said, with what came before each.

    Args:
        predictions: With ``seed``, ``dialogue`` and ``label``; in order of ``position`` where it is known, else as they
            stand.

    Returns:
        With the columns ``place`` (1 for the first turn of its dialogue), ``length`` (turns of the dialogue),
        ``shift``: whether the true class is another one than that of the turn before, and ``own_shift``: than that of
        the turn before by the same speaker. Both are missing (``pd.NA``) where there is no such turn; ``own_shift``
        also where the speaker is not known. Turns that are not in the table, such as those without a label, count
        nowhere.
    """
    keys = ["seed", "dialogue"]
    order = [*keys, "position"] if "position" in predictions else keys
    table = predictions.sort_values(order, kind="stable", ignore_index=True)
    dialogues = table.groupby(keys, sort=False)["label"]
    table["place"] = dialogues.cumcount() + 1
    table["length"] = dialogues.transform("size")
    table["shift"] = _changed(table["label"], dialogues.shift())
    table["own_shift"] = pd.array([pd.NA] * len(table), dtype="boolean")
    if "speaker" in table:
        known = table["speaker"].notna() & (table["speaker"].astype(str) != "")
        before = table[known].groupby([*keys, "speaker"], sort=False)["label"].shift()
        table.loc[known, "own_shift"] = _changed(table.loc[known, "label"], before)
    return table


def _changed(label: pd.Series, before: pd.Series) -> pd.Series:
    """Whether a label is another one than before; missing where there is none before."""
    return (label != before).astype("boolean").mask(before.isna())


def spans(values: pd.Series, longest: int = 32) -> pd.Series:
    """Numbers from 1 on as spans that double: ``1``, ``2``, ``3–4``, ``5–8``, ..., ``33+``."""
    edges = [0, *(2**power for power in range(longest.bit_length()))]  # 0, 1, 2, 4, ..., longest
    names = [str(high) if high - low == 1 else f"{low + 1}–{high}" for low, high in pairwise(edges)]
    return pd.cut(values, [*edges, np.inf], labels=[*names, f"{edges[-1] + 1}+"])


def talkative(speaker: pd.Series, most: int = 10) -> pd.Series:
    """Names of the speakers with the most turns, the others as :data:`OTHERS`; missing where there is no name."""
    named = speaker.astype(str).where(speaker.notna() & (speaker.astype(str) != ""))
    counts = named.value_counts()
    names = sorted(counts.index, key=lambda name: (-counts[name], name))
    shown = names if len(names) <= most + 1 else names[:most]
    together = [OTHERS] if len(shown) < len(names) else []
    return named.where(named.isna() | named.isin(shown), OTHERS).astype(pd.CategoricalDtype([*shown, *together]))


def group_scores(predictions: pd.DataFrame, groups: pd.Series, classes: Sequence[str]) -> list[TurnGroup]:
    """What the answers of each group of turns are worth, in the order of the categories.

    Args:
        predictions: With ``seed``, ``label`` and ``predicted``.
        groups: Categories in the order of the rows; rows without one are left out.
        classes: Name of every class.

    Returns:
        Groups without turns are left out. The turns of a seed are scored together; estimates are over seeds.
    """
    index = {name: number for number, name in enumerate(classes)}
    codes = groups.cat.codes.to_numpy()
    named, seeds = groups.cat.categories, np.unique(predictions["seed"])
    kept = codes >= 0
    member = np.searchsorted(seeds, predictions["seed"].to_numpy()[kept]) * len(named) + codes[kept]
    counts = confusions_of_groups(
        member,
        predictions["label"].map(index).to_numpy(np.int64)[kept],
        predictions["predicted"].map(index).to_numpy(np.int64)[kept],
        len(seeds) * len(named),
        len(classes),
    ).reshape(len(seeds), len(named), len(classes), len(classes))
    found = []
    for number, name in enumerate(named):
        tables = [table for table in counts[:, number] if table.any()]
        if not tables:
            continue
        scores = {
            "wa": interval(float(np.trace(table) / table.sum()) for table in tables),
            "weighted_f1": interval(weighted_f1(table) for table in tables),
        }
        found.append(TurnGroup(str(name), round(float(np.mean([table.sum() for table in tables]))), scores))
    return found


def either(condition: pd.Series, yes: str, no: str) -> pd.Series:
    """A condition as two categories, ``no`` first; missing stays missing."""
    names = condition.astype(object).map({True: yes, False: no})
    return names.astype(pd.CategoricalDtype([no, yes]))
