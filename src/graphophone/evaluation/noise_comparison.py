"""What noise does to several runs, side by side: a row per run and a column per noise, at one ratio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from graphophone.evaluation.figures import save_png
from graphophone.evaluation.measures import DASH, Measure
from graphophone.evaluation.noise_figures import drop_panels
from graphophone.evaluation.noise_section import csv_rows, drop_words, noise_names, rows_of
from graphophone.evaluation.page import listed
from graphophone.evaluation.published_drops import published_drops
from graphophone.evaluation.results import ResultsError, RunResults
from graphophone.files import write_csv


@dataclass(frozen=True, eq=False)
class NoiseComparison:
    """Drops of several runs.

    Attributes:
        title: What the cells are.
        columns: Heads of the columns: the run, its clean figure, and the noises.
        rows: The cells, a row per run, then those that are published on the same corpus.
        notes: What sets the runs apart but their models, and what is published.
        table: All drops of all runs, as in ``robustness.csv``, with a column ``run``.
        figure: Drop against ratio, a panel per noise, a line per run.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    table: pd.DataFrame
    figure: Figure

    def save(self, path: str | Path) -> tuple[Path, Path]:
        """Write the table as CSV and the figure beside it, with the suffix ``.png``; returns both paths."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_csv(path, self.table)
        return path, save_png(self.figure, path.with_suffix(".png"))


def compare_drops(folders: Sequence[str | Path]) -> NoiseComparison:
    """Set runs side by side that were tested with noise.

    Raises:
        ResultsError: If one of them was not, or they are not judged by the same measure, or share no ratio.
    """
    runs = [(results, _content(results)) for results in map(RunResults.read, folders)]
    first = runs[0][0]
    measure = first.measures.main
    for results, _ in runs:
        if results.measures.main.key != measure.key:
            raise ResultsError(
                f"{results.folder} is judged by {results.measures.main.short} and {first.folder} by {measure.short}; "
                "compare runs of one kind"
            )
    snrs = [float(snr) for snr in runs[0][1]["snrs"] if all(float(snr) in map(float, c["snrs"]) for _, c in runs)]
    if not snrs:
        raise ResultsError("the runs were tested at no common signal-to-noise ratio; test them again together")
    headline = float(runs[0][1]["headline"])
    headline = headline if headline in snrs else snrs[0]
    noises = list(dict.fromkeys(name for _, content in runs for name in noise_names(content)))
    names = [results.name for results, _ in runs]
    if len(set(names)) < len(names):
        names = [str(results.folder) for results, _ in runs]
    found = [(name, rows_of(content, measure)) for name, (_, content) in zip(names, runs, strict=True)]
    rows = [_row(name, drops, noises, headline, measure) for name, drops in found]
    published = published_drops(first.info) if len({_corpus(results) for results, _ in runs}) == 1 else ()
    for row in published:
        cells = (row.drop(name) for name in noises)
        rows.append((f"{row.system}, {row.source}", DASH, *(DASH if v is None else f"{v:.1f}" for v in cells)))
    panels = [
        (
            name,
            {run: {snr: drops[name, snr] for snr in snrs} for run, drops in found if (name, snrs[0]) in drops},
        )
        for name in noises
    ]
    tables = [pd.DataFrame(csv_rows(content)).assign(run=name) for name, (_, content) in zip(names, runs, strict=True)]
    table = pd.concat(tables, ignore_index=True)
    unit = " in points" if measure.percent else ""
    return NoiseComparison(
        title=f"drop of {measure.words}{unit}, at {headline:g} dB",
        columns=("run", f"clean{measure.unit}", *noises),
        rows=tuple(rows),
        notes=(*_differences(runs), *dict.fromkeys(row.note for row in published)),
        table=table[["run", *(name for name in table.columns if name != "run")]],
        figure=drop_panels(panels, snrs, measure),
    )


def _content(results: RunResults) -> dict[str, Any]:
    if results.robustness is None:
        raise ResultsError(
            f"{results.folder} was not tested with noise yet; do so with 'graphophone robustness {results.folder}'"
        )
    return results.robustness


def _corpus(results: RunResults) -> str:
    return str((results.info.get("corpus") or {}).get("name"))


def _row(
    name: str,
    drops: Mapping[tuple[str, float], Mapping[str, Any]],
    noises: Sequence[str],
    headline: float,
    measure: Measure,
) -> tuple[str, ...]:
    clean = next(row["clean"] for row in drops.values())
    cells = (drop_words(drops[noise, headline], measure) if (noise, headline) in drops else DASH for noise in noises)
    return (name, measure.write(clean), *cells)


def _differences(runs: Sequence[tuple[RunResults, Mapping[str, Any]]]) -> list[str]:
    """What else than the model may make a difference."""
    notes = []
    contents = [content for _, content in runs]
    if len({content["items_key"] for content in contents}) > 1:
        notes.append("The runs were not tested on the same recordings.")
    if len({content["rate"] for content in contents}) > 1:
        notes.append(
            "The models hear different sampling rates, so the noise is not the same; that of a higher rate also lies "
            "where the others hear nothing."
        )
    if len({content["seed"] for content in contents}) > 1:
        notes.append("The noise was drawn with different seeds.")
    keys: dict[str, set[str]] = {}
    for content in contents:
        for noise in content["noises"]:
            keys.setdefault(noise["name"], set()).add(noise["key"])
    if differing := [name for name, found in keys.items() if len(found) > 1]:
        notes.append(f"Not made of the same recordings for all runs: {listed(differing)}.")
    return notes
