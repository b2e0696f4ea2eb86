"""What noise does to a run, as a report shows it: a figure, a table and words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphophone.evaluation.measures import DASH, Measure, Measures
from graphophone.evaluation.noise_figures import drop_panels, has_bar
from graphophone.evaluation.page import listed, plural
from graphophone.evaluation.published_drops import own_published_drops
from graphophone.evaluation.results import RunResults

_UNIT = 100.0  # percent and points in a fraction


def csv_rows(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of ``robustness.json`` as ``robustness.csv`` writes them: in percent, differences in points."""
    fractions = ("clean", "noisy", "drop", "sd", "low", "high")
    return [
        {key: value * _UNIT if key in fractions and value is not None else value for key, value in row.items()}
        for row in content["rows"]
    ]


def drop_words(row: Mapping[str, Any], measure: Measure) -> str:
    """A drop with its standard deviation."""
    spread = f" ± {measure.write(row['sd'])}" if row["sd"] is not None else ""
    return f"{measure.write(row['drop']).replace('-', '−')}{spread}"


def noise_names(content: Mapping[str, Any]) -> list[str]:
    """Names of the noises that were tested."""
    return [str(noise["name"]) for noise in content["noises"]]


def rows_of(content: Mapping[str, Any], measure: Measure) -> dict[tuple[str, float], Mapping[str, Any]]:
    """The rows of one measure, by noise and ratio."""
    return {(row["noise"], float(row["snr"])): row for row in content["rows"] if row["measure"] == measure.key}


def lines_of(content: Mapping[str, Any], measure: Measure) -> dict[str, dict[float, Mapping[str, Any]]]:
    """The same by noise, and in it by ratio."""
    lines: dict[str, dict[float, Mapping[str, Any]]] = {name: {} for name in noise_names(content)}
    for (name, snr), row in rows_of(content, measure).items():
        lines[name][snr] = row
    return lines


def noise_section(results: RunResults) -> dict[str, Any] | None:
    """What a report says of noise; None where the run was not tested with any.

    Returns:
        ``figure`` (figure, label, caption), ``words``, ``caption``, ``columns``, ``rows`` (name and cells), ``notes``.
    """
    content = results.robustness
    if content is None:
        return None
    measure = results.measures.main
    found = rows_of(content, measure)
    published = own_published_drops(results.info, results.recipe)
    snrs = [float(snr) for snr in content["snrs"]]
    rows = []
    for name in noise_names(content):
        cells = [drop_words(found[name, snr], measure) for snr in snrs]
        if published is not None:
            value = published.drop(name)
            cells.append(DASH if value is None else f"{value:.1f}")
        rows.append({"name": name, "cells": cells})
    words = _words(content, results.measures)
    return {
        "figure": {
            "figure": drop_panels([("", lines_of(content, measure))], snrs, measure),
            "label": f"Drop of {measure.words} against signal-to-noise ratio, a line per noise. {words}",
            "caption": "What noise on the test recordings costs, by noise and signal-to-noise ratio; to the right it "
            f"is louder. {_spread_words(content, bars=True)}".strip(),
        },
        "words": words,
        "caption": f"Drop of {measure.words}{' in points' if measure.percent else ''}. "
        f"{_spread_words(content, bars=False)}".strip(),
        "columns": [
            *(f"{snr:g} dB" for snr in snrs),
            *(["published"] if published is not None else []),
        ],
        "rows": rows,
        "notes": [*_notes(content, results), *([published.words] if published is not None else [])],
    }


def _words(content: Mapping[str, Any], measures: Measures) -> str:
    """The headline: how much is lost by which noise."""
    measure, headline = measures.main, float(content["headline"])
    found = rows_of(content, measure)
    at = [found[name, headline] for name in noise_names(content) if found[name, headline]["drop"] is not None]
    if not at:
        return ""
    worst, least = max(at, key=lambda row: row["drop"]), min(at, key=lambda row: row["drop"])
    unit = " points" if measure.percent else ""
    clean = f"Clean, these recordings reach {measure.say(worst['clean'])} {measure.short}"
    text = f"{clean}; {worst['noise']} at {headline:g} dB costs {measure.write(worst['drop'])}{unit}"
    if worst is not least:
        text += f", {least['noise']} {measure.write(least['drop'])}"
    return f"{text.replace('-', '−')}."


def _spread_words(content: Mapping[str, Any], *, bars: bool) -> str:
    over = next((row["over"] for row in content["rows"] if row["over"]), None)
    count = max((int(row["n"]) for row in content["rows"]), default=0)
    if over is None or (bars and not any(map(has_bar, content["rows"]))):
        return ""
    return (
        f"Bars are 95 % intervals over {count} {over}." if bars else f"± is the standard deviation over {count} {over}."
    )


def _notes(content: Mapping[str, Any], results: RunResults) -> list[str]:
    """What a reader should know of how the numbers came about."""
    notes = [
        f"Noise was added to the waveforms of {content['items']:,} test recordings before feature extraction, at a "
        f"ratio to their power while active and at {content['rate'] / 1000:g} kHz."
    ]
    tested = {(fold, seed) for fold, seed in content["trainings"]}
    newer = {(job.fold, job.seed) for job in results.done} - tested
    if newer:
        notes.append(f"{plural(len(newer), 'training')} finished since are not among them.")
    notes += [f"No {entry['noise']}: {entry['reason']}." for entry in content["skipped"]]
    notes += content["notes"]
    if content["left_out"]:
        names = listed([entry["item"] for entry in content["left_out"]])
        notes.append(f"Left out, clean and noisy: {names}.")
    return notes
