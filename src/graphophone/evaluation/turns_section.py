"""What a report says of conversations: place, shift, speaker and length, fewer modalities, an example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from graphophone.evaluation.differences import (
    Pair,
    difference_words,
    p_words,
    pair_metrics,
    paired,
    seed_values,
    unit_words,
)
from graphophone.evaluation.figures import short
from graphophone.evaluation.figures_turns import turn_panels
from graphophone.evaluation.measures import DASH, WORDS, Measure
from graphophone.evaluation.page import listed, plural, sentence
from graphophone.evaluation.report_nodes import scored_jobs
from graphophone.evaluation.results import JobResult, RunResults, read_arrays
from graphophone.evaluation.statistics import interval
from graphophone.evaluation.turns import (
    EXAMPLE_FILE,
    UNFOLDED_TURNS,
    TurnGroup,
    either,
    group_scores,
    spans,
    talkative,
    with_places,
)

_PLACE, _LENGTH = "Place in the conversation", "Turns of the conversation"
_OWN, _ANY = "Emotion of the same speaker", "Emotion of the turn before"
_SPEAKER = "Speaker"
_SAME, _OTHER = "as before", "another"
_MAIN, _SECOND = WORDS.main, WORDS.second
_LONGEST_TEXT = 160

LEAST_DRAWN = 10
"""Turns of a group below which a figure leaves it out: its number is mostly chance, and would stretch the scale."""


def turns_section(results: RunResults) -> dict[str, Any] | None:
    """What a report says of the turns of conversations; None where a run has none.

    Returns:
        ``figures``: by name ``figure``, ``label`` and ``caption``; ``words``: sentences; ``columns`` and ``rows`` of
        the table of groups; ``subsets`` and ``unfolding``: ``words``, ``caption`` and ``rows``, or None; ``example``:
        ``words``, ``columns`` and ``rows``, or None.
    """
    table = results.predictions()
    if "dialogue" not in table or "label" not in table:
        return None
    groups = _groups(with_places(table), results.classes)
    subsets, unfolding, example = _subsets(results), _unfolding(results), _example(results)
    figures: dict[str, dict[str, Any]] = {}
    large = {title: [group for group in rows if group.turns >= LEAST_DRAWN] for title, rows in groups.items()}
    if any(len(rows) > 1 for rows in large.values()):
        figures["turns"] = _figure(large, results)
    if example is not None:
        figures["dialogue"] = example.pop("figure")
    return {
        "figures": figures,
        "words": _words(groups, table),
        "caption": f"What the turns are worth by group, in percent{_over(results)}",
        "columns": [_MAIN.short, _SECOND.short],
        "rows": [
            {
                "by": title,
                "name": group.name,
                "turns": f"{group.turns:,}",
                "cells": [measure.spread(group.scores[measure.key]) for measure in (_MAIN, _SECOND)],
            }
            for title, rows in groups.items()
            for group in rows
        ],
        "subsets": subsets,
        "unfolding": unfolding,
        "example": example,
    }


def _over(results: RunResults) -> str:
    return ", mean ± standard deviation over seeds" if len(results.scored_seeds) > 1 else ""


def _groups(table: pd.DataFrame, classes: Sequence[str]) -> dict[str, list[TurnGroup]]:
    """The ways to group turns that the table allows, by their titles."""
    ways = {
        _PLACE: spans(table["place"]),
        _LENGTH: spans(table["length"]),
        _OWN: either(table["own_shift"], _OTHER, _SAME),
        _ANY: either(table["shift"], _OTHER, _SAME),
    }
    if "speaker" in table:
        ways[_SPEAKER] = talkative(table["speaker"])
    found = {title: group_scores(table, way, classes) for title, way in ways.items()}
    return {title: groups for title, groups in found.items() if groups}


def _words(groups: Mapping[str, Sequence[TurnGroup]], table: pd.DataFrame) -> list[str]:
    """How many conversations there are, and what it does to an answer that the emotion has changed."""
    first = table[table["seed"] == table["seed"].iloc[0]]
    dialogues = first["dialogue"].nunique()
    words = [f"The test part has {plural(dialogues, 'conversation')} with {plural(len(first), 'turn')}."]
    for title, before in ((_OWN, "the speaker's turn before"), (_ANY, "the turn before")):
        found = {group.name: group for group in groups.get(title, ())}
        if len(found) < 2:
            continue
        same, other = found[_SAME], found[_OTHER]
        share = 100 * other.turns / (other.turns + same.turns)
        words.append(
            f"Of the turns with another emotion than {before} ({share:.0f} %), "
            f"{_SECOND.say(other.scores['wa'].mean)} are recognised, of those with the same one "
            f"{_SECOND.say(same.scores['wa'].mean)}."
        )
    return words


def _figure(groups: Mapping[str, Sequence[TurnGroup]], results: RunResults) -> dict[str, Any]:
    assert results.summary is not None  # noqa: S101 - there are predictions
    panels = [(title, rows) for title, rows in groups.items() if len(rows) > 1]
    told = "; ".join(
        f"{title}: {', '.join(f'{group.name} {_MAIN.say(group.scores[_MAIN.key].mean)}' for group in rows)}"
        for title, rows in panels
    )
    bars = " Bars are 95 % intervals over seeds." if len(results.scored_seeds) > 2 else ""
    return {
        "figure": turn_panels(panels, _MAIN, results.summary[_MAIN.key]["mean"], joined=(_PLACE, _LENGTH)),
        "label": f"{_MAIN.name} of the turns by group. {told}.",
        "caption": f"{_MAIN.name} of the turns in each group, with their number; the dashed line is that of all turns."
        f"{bars} Groups of fewer than {LEAST_DRAWN} turns are in the table only. "
        "Classes are not equally frequent in all groups, so small differences say little.",
    }


def _beside(jobs: Sequence[JobResult], key: str) -> dict[str, dict[Pair, Mapping[str, Any]]]:
    """What trainings measured beside their results, by name, then by fold and seed; names that all of them have."""
    found: dict[str, dict[Pair, Mapping[str, Any]]] = {}
    measured = pair_metrics(jobs)
    for pair, metrics in measured.items():
        for name, values in (metrics.get(key) or {}).items():
            found.setdefault(name, {})[pair] = values
    return {name: values for name, values in found.items() if len(values) == len(measured)}


def _rows(
    found: Mapping[str, Mapping[Pair, Mapping[str, Any]]], reference: str, titles: Mapping[str, str]
) -> tuple[list[dict[str, Any]], str]:
    """Rows of a table, each with its paired difference to one of them, and what the intervals are over."""
    rows, units = [], []
    for name, metrics in found.items():
        compared = None if name == reference else paired(found[reference], metrics, _MAIN.key)
        units += [] if compared is None or compared[0].difference.low is None else [compared[1]]
        comparison = None if compared is None else compared[0]
        rows.append(
            {
                "name": titles.get(name, name),
                "cells": [
                    *(_spread(measure, metrics) for measure in (_MAIN, _SECOND)),
                    DASH if comparison is None else difference_words(comparison, _MAIN),
                    DASH if comparison is None else p_words(comparison),
                ],
            }
        )
    return rows, unit_words(units) if units else ""


def _spread(measure: Measure, metrics: Mapping[Pair, Mapping[str, Any]]) -> str:
    return measure.spread(interval(seed_values(metrics, measure.key).values()))


def _columns(beside: str) -> list[str]:
    return [_MAIN.short, _SECOND.short, f"{_MAIN.short} difference to {beside} [95 %]", "p, paired t"]


def _subsets(results: RunResults) -> dict[str, Any] | None:
    """What the network is worth with some of its modalities; None where that was not measured."""
    found = _beside(scored_jobs(results), "subsets")
    if len(found) < 2:
        return None
    whole = max(found, key=lambda name: name.count("+"))
    titles = {name: sentence(listed(name.split("+"))) for name in found}
    rows, unit = _rows(found, whole, titles)
    share = float((results.recipe.get("task") or {}).get("modality_dropout") or 0.0)
    training = (
        f"In training, {100 * share:.0f} % of the conversations lost some of their modalities at random."
        if share
        else "In training, no modality was taken away, so the network has not learned to do without one."
    )
    return {
        "words": f"The same networks, given only some of the modalities of the test part. {training} {unit}".strip(),
        "caption": f"Modalities given, in percent{_over(results)}",
        "columns": _columns("all"),
        "rows": rows,
    }


def _unfolding(results: RunResults) -> dict[str, Any] | None:
    """What the network is worth while a conversation is going on; None where that was not measured."""
    if (results.recipe.get("model") or {}).get("future") == 0:
        return {
            "words": "The network hears no later turn, so its answers are the same while a conversation is going on.",
            "caption": "", "columns": [], "rows": [],
        }  # fmt: skip
    found = _beside(scored_jobs(results), "unfolding")
    if set(found) != {"at_once", "whole"}:
        return None
    titles = {
        "at_once": "Each turn at once, from what was said so far",
        "whole": "Each turn in the whole conversation",
    }
    rows, unit = _rows(found, "whole", titles)
    measured = round(float(np.mean([part["n"] for part in found["whole"].values()])))
    items = round(float(np.mean([len(job.predictions) for job in scored_jobs(results) if job.predictions is not None])))
    left = f" Conversations of more than {UNFOLDED_TURNS} turns are left out." if measured < items else ""
    return {
        "words": "The same networks, asked for every turn as soon as it is said: what a network that has learned from "
        f"whole conversations is worth while they are going on. With model.future 0 it learns from the past alone."
        f"{left} {unit}".rstrip(),
        "caption": f"Turn by turn beside the whole conversation, in percent{_over(results)}",
        "columns": _columns("the whole"),
        "rows": rows,
    }


def _example(results: RunResults) -> dict[str, Any] | None:
    """A conversation of the first training that kept one, as a figure and as a table."""
    job, arrays = next(
        ((job, found) for job in scored_jobs(results) if (found := read_arrays(job.folder / EXAMPLE_FILE))), (None, {})
    )
    if job is None:
        return None
    from graphophone.inference.dialogue_picture import draw_dialogue  # here: a table is read without the networks
    from graphophone.inference.turn_relations import TurnRelations

    turns = pd.DataFrame(
        {
            "label": arrays["predicted"].astype(str),
            "confidence": arrays["confidence"].astype(np.float64),
            "speaker": arrays["speaker"].astype(str),
            "truth": arrays["label"].astype(str),
        }
    )
    relations = TurnRelations.from_arrays(arrays)
    known = turns["truth"] != ""
    right = int((turns["truth"] == turns["label"])[known].sum())
    name = f"Conversation {arrays['dialogue']} of the test part"
    named = turns[turns["speaker"] != ""]
    people = f" of {plural(named['speaker'].nunique(), 'speaker')}" if len(named) else ""
    words = f"{plural(len(turns), 'turn')}{people}, {right} of {int(known.sum())} recognised"
    parts = ["labels that were given, with their confidence (and the true one where it is another)"]
    if relations.within is not None:
        parts.append(
            "nodes, a row for each modality, with the edges that the network left, as thick as they weigh, averaged "
            "over its layers; dashed ones are subtracted"
        )
    if relations.latent is not None:
        parts.append("latent attention from turn to turn")
    said = [short(words, _LONGEST_TEXT) or DASH for words in arrays["text"].astype(str)]
    return {
        "figure": {
            "figure": draw_dialogue(turns if len(named) else turns.drop(columns="speaker"), relations),
            "label": f"{name}: {words}.",
            "caption": f"{name}, {words} ({job.fold}, seed {job.seed}). From above: {'; '.join(parts)}.",
        },
        "columns": ["Speaker", "What was said", "True", "Answer", "Confidence"],
        "rows": [
            [str(number), turn.speaker or DASH, text, turn.truth or DASH, turn.label, f"{turn.confidence:.2f}"]
            for number, (turn, text) in enumerate(zip(turns.itertuples(), said, strict=True), 1)
        ],
        "caption": name,
    }
