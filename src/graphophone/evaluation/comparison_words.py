"""What a comparison says in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from graphophone.evaluation.few_labels import SSL_PAPER
from graphophone.evaluation.measures import SPEECH, Measures
from graphophone.evaluation.page import listed, sentence, with_article
from graphophone.evaluation.publication import Published
from graphophone.evaluation.published import corpus_title
from graphophone.evaluation.sweep import Sweep
from graphophone.evaluation.two_modalities import HEMOGAT_PAPER


def verdict(
    table: pd.DataFrame,
    labels: Sequence[str],
    chosen: Sequence[int],
    pairs: Sequence[Mapping[str, Any]],
    measures: Measures,
    sweep: Sweep | None,
) -> str:
    """What the runs show, in a paragraph: what validation items choose, and what can be told apart."""
    main, selection = measures.main, measures.selection
    values = table[main.key]
    if len(table) == 1:
        return f"{labels[0]} reaches {with_article(main.words)} of {main.say(values.iloc[0])} on test items."
    if sweep and sweep.of_data:
        text = _verdict_along(table, chosen, measures, sweep)
    elif chosen:
        text = _verdict_chosen(table, labels, chosen[0], measures)
    else:
        top = int(values.to_numpy().argmax())
        text = f"The highest {main.words} on test items, {main.say(values.iloc[top])}, is that of {labels[top]}. "
        some = table[f"validation_{selection.key}"].notna().any()
        text += (
            "Not all runs have validation results, so nothing is chosen."
            if some
            else "No validation results were kept, so nothing is chosen."
        )
    return f"{text} {_apart(labels, pairs, sweep)}".strip()


def _verdict_chosen(table: pd.DataFrame, labels: Sequence[str], chosen: int, measures: Measures) -> str:
    main, selection = measures.main, measures.selection
    values = table[main.key]
    top = int(values.to_numpy().argmax())
    validation = table[f"validation_{selection.key}"].iloc[chosen]
    same = "" if selection.key == main.key else f"{main.words} "
    text = (
        f"Validation items choose {labels[chosen]} ({selection.words} {selection.say(validation)}); "
        f"on test items it reaches {same}{main.say(values.iloc[chosen])}."
    )
    if top != chosen:
        text += f" On test items {labels[top]} is higher ({main.say(values.iloc[top])})."
    return text


def _verdict_along(table: pd.DataFrame, chosen: Sequence[int], measures: Measures, sweep: Sweep) -> str:
    """Where the axis is what runs are given, such as labels, nothing is chosen along it."""
    main = measures.main
    values = table[main.key]
    if not chosen:
        first, *_, last = next(iter(sweep.lines.values()))
        return (
            f"From {sweep.say(sweep.x[first])} to {sweep.say(sweep.x[last])}, the {main.words} on test items goes from "
            f"{main.say(values.iloc[first])} to {main.say(values.iloc[last])}."
        )
    told = [f"{sweep.say(sweep.x[i])}, {sweep.line[i]} ({main.say(values.iloc[i])})" for i in chosen]
    what = f"What validation items choose at each value of {sweep.name}, with its {main.words} on test items"
    return f"{what}: {'; '.join(told)}."


def _apart(labels: Sequence[str], pairs: Sequence[Mapping[str, Any]], sweep: Sweep | None) -> str:
    """Which runs can be told apart from what they are set against, in sentences."""
    known = [pair for pair in pairs if pair["n"] > 1]
    if not known:
        return ""
    if sweep is None or len(sweep.lines) == 1:
        parts = [
            f"{how} {listed([p['run'].rpartition(' = ')[2] for p in known if p['decided'] and p['higher'] is higher])}"
            for how, higher in (("higher:", True), ("lower:", False))
            if any(p["decided"] and p["higher"] is higher for p in known)
        ]
        if not parts:
            return f"With the same seeds and folds, no other run can be told apart from {labels[0]}."
        return f"Told apart from {labels[0]} with the same seeds and folds, {'; '.join(parts)}."
    told = []
    for name in list(sweep.lines)[1:]:
        own = [p for p in known if sweep.line[p["index"]] == name]
        parts = []
        for how, higher in (("higher", True), ("lower", False)):
            at = [sweep.x[p["index"]] for p in own if p["decided"] and p["higher"] is higher]
            parts += [f"{how} at {listed([f'{x:g}{sweep.unit}' for x in at])}"] if at else []
        if own:
            told.append(f"{name} {' and '.join(parts) or 'nowhere told apart'}")
    more = f"; {len(told) - 8} more lines are in the table" if len(told) > 8 else ""
    first = f"Against {sweep.line[0]} at the same {sweep.name}, with the same seeds and folds"
    return f"{first}: {'; '.join(told[:8])}{more}." if told else ""


def caption(measures: Measures, *, several: bool, chosen: bool, along: bool = False) -> str:
    """What the table holds; with ``along`` runs are chosen at every place of an axis."""
    parts = ["in percent"] if measures.main.percent else []
    if several:
        parts.append("mean ± standard deviation over seeds")
    text = ", ".join(parts) or "every run"
    best = "accuracy" if measures.selection is SPEECH.selection else measures.selection.short
    shaded = f" Shaded runs have the best validation {best} at their place." if along else ""
    shaded = shaded or f" The shaded run has the best validation {best}."
    return f"{sentence(text)}." + (shaded if chosen else "")


def paper_words(paper: Published) -> str:
    """What the paper's figures in a comparison were measured on."""
    if paper.source.startswith(SSL_PAPER):
        noun = "utterances" if paper.mixes_speakers else "clips"
        return (
            f"The paper's figures ({paper.source}) are on {corpus_title(paper.corpus)}, {paper.items:,} {noun} of "
            f"{paper.classes} classes, with {100 * (paper.labelled or 0):g} % of the training labels and "
            f"{paper.protocol}{', which mixes speakers' if paper.mixes_speakers else ''}."
        )
    if paper.source.startswith(HEMOGAT_PAPER):
        return (
            f"The paper's figures ({paper.source}) are on {corpus_title(paper.corpus)}, {paper.items:,} utterances of "
            f"{paper.classes} classes, with {paper.protocol}; its numbers of neighbours were chosen on test items. "
            "Compare the order, not the values."
        )
    if paper.corpus == "iemocap":
        return (
            f"The paper's figures ({paper.source}) are on IEMOCAP, {paper.items:,} utterances of 4 "
            "classes, with one random split that mixes speakers and no validation set; compare the order, "
            "not the values."
        )
    return (
        f"The paper's figures ({paper.source}) are on {corpus_title(paper.corpus)}, {paper.items:,} clips of "
        f"{paper.classes} classes, by a model of {(paper.parameters or 0) / 1e6:.0f} million parameters trained "
        "from scratch; compare the order, not the values."
    )
