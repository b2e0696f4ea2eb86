"""What a report says of what test and training items have in common, and simple answers beside the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphophone.evaluation.measures import DASH, Measure
from graphophone.evaluation.overlap import SHARED, baselines, overlap_words_of_all, silent
from graphophone.evaluation.page import listed, percent
from graphophone.evaluation.results import RunResults

SPLITS_SHOWN = 40
"""Rows of the table of splits, at most."""

_KEYS = {"wa": "accuracy", "ua": "ua", "weighted_f1": "weighted_f1"}  # what measures are called in what was found


def overlap_section(results: RunResults) -> dict[str, Any] | None:
    """Words and, of several splits, a table on what the test parts share with training; None where nothing is kept.

    Returns:
        ``words`` (sentences), ``columns``, ``rows`` (of cells), ``more`` (a sentence on splits that are not shown).
    """
    found: Sequence[Mapping[str, Any]] = results.info.get("overlap") or []
    words = overlap_words_of_all(found) if found else []
    if not words:
        return None
    if len(found) == 1:
        return {"words": words, "columns": [], "rows": [], "more": ""}
    shared = [name for name in SHARED if name != "audio" and any(name in each["shared"] for each in found)]
    texts = any(each["transcripts"] for each in found)
    simple = any(each["majority"] for each in found)
    columns = ["Split", "Seeds", "Items", *(f"Shared {SHARED[name][1]}" for name in shared)]
    columns += ["Same words, %", "Nearly the same, %"] if texts else []
    columns += ["Most frequent class: accuracy", "UA", "weighted F1"] if simple else []
    rows = []
    for each in found[:SPLITS_SHOWN]:
        cells = [each["split"], listed([*map(str, each["seeds"])], 4), f"{each['items']:,}"]
        for name in shared:
            numbers = each["shared"].get(name)
            cells.append(f"{numbers['shared']:,} of {numbers['values']:,}" if numbers else DASH)
        if texts:
            told = each["transcripts"]
            cells += [percent(told[kind] / max(1, each["items"])) if told else DASH for kind in _TRANSCRIPTS]
        if simple:
            cells += [percent(each["majority"][key]) for key in _KEYS.values()] if each["majority"] else [DASH] * 3
        rows.append(cells)
    more = len(found) - len(rows)
    return {"words": words, "columns": columns, "rows": rows, "more": f"{more} more are in run.json." if more else ""}


_TRANSCRIPTS = ("verbatim", "normalised")


def baseline_rows(results: RunResults, main: Measure, second: Measure) -> list[dict[str, str]]:
    """Simple answers as rows of the table of results: the most frequent class, and that of the transcript."""
    found = baselines(results.info.get("overlap") or [])
    titles = {
        "majority": (
            "The most frequent class, always",
            "It knows how often training has each class, and nothing else.",
        ),
        "transcript": (
            "The most frequent class of the same transcript",
            "It answers with what training most often has for these words, or else with the most frequent class.",
        ),
    }
    rows = []
    for name, worth in found.items():
        system, words = titles[name]
        values = [worth.get(_KEYS.get(measure.key, "")) for measure in (main, second)]
        if values[0] is not None:
            written = [measure.write(value) for measure, value in zip((main, second), values, strict=True)]
            rows.append({"system": system, "main": written[0], "second": written[1], "words": words})
    return rows


def words_tell_nothing(results: RunResults) -> str:
    """A sentence where a run reads transcripts that tell nothing of the class; else empty."""
    found = results.info.get("overlap") or []
    features = results.info.get("features") or {}
    texts = bool(features.get("text")) or features.get("name") in ("minilm", "text_encoder")
    reads = texts and (results.recipe.get("model") or {}).get("modality") != "audio"
    if not reads or not found or not all(silent(each) for each in found):
        return ""
    return (
        "Text alone tells nothing here: beyond chance, the transcripts do not say which class an item has, so whatever "
        "is recognised is recognised by the sound."
    )
