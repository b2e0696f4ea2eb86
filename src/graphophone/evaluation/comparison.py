"""Several runs side by side, as a table and as one HTML page."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from graphophone.evaluation.comparison_figures import (
    STATES,
    bars,
    common_pairs,
    control_lines,
    curves,
    maps_of_states,
    row_estimate,
    scored,
    state_curves,
)
from graphophone.evaluation.comparison_words import caption, paper_words, verdict
from graphophone.evaluation.differences import (
    control_metrics,
    difference_words,
    p_words,
    pair_metrics,
    paired,
    seed_values,
    unit_words,
)
from graphophone.evaluation.literature import LHGNN_DEFAULTS
from graphophone.evaluation.measures import DASH, MAP, SPEECH, TAGS, WORDS, Measure, Measures
from graphophone.evaluation.metrics import summarize
from graphophone.evaluation.page import (
    corpus_of,
    data_words,
    listed,
    plural,
    published_value,
    published_words,
    render,
    write_page,
)
from graphophone.evaluation.publication import Published
from graphophone.evaluation.published import (
    labelled_share,
    published_parts,
    published_series,
    quoted,
    run_variant,
)
from graphophone.evaluation.report_nodes import training_estimate
from graphophone.evaluation.results import ResultsError, RunResults, flatten, varied
from graphophone.evaluation.statistics import interval
from graphophone.evaluation.sweep import Sweep, find_sweep, setting_words, speaks


def _read_all(run_dirs: Iterable[str | Path]) -> list[RunResults]:
    runs = [RunResults.read(folder) for folder in run_dirs]
    if not runs:
        raise ResultsError("there is no run to compare: give at least one run folder")
    for run in runs:
        if not run.done:
            raise ResultsError(f"{run.folder}: no training has finished yet, so there is nothing to compare")
        if run.measures.kind != runs[0].measures.kind:
            one, several = (run, runs[0]) if runs[0].measures.kind == "tagging" else (runs[0], run)
            raise ResultsError(
                f"{several.folder} gives tags and {one.folder} one label per item, which are scored by other numbers; "
                "compare runs of one kind"
            )
    return runs


def _measures(runs: Sequence[RunResults]) -> Measures:
    """What all runs are judged by; where some are of sounds and some of speech, in the words of speech."""
    first = runs[0].measures
    return first if all(run.measures is first for run in runs) else SPEECH


def compare(run_dirs: Iterable[str | Path]) -> pd.DataFrame:
    """Several runs side by side.

    Where the runs have folds and seeds in common, tested on the same items, only those are scored, so that
    every row is about the same test; the column ``shared`` says whether that is so.

    Args:
        run_dirs: Run folders.

    Returns:
        One row per run: ``run``, a column per recipe key that is not the same in all runs
        (``model.pooling``), ``corpus``, ``protocol``, ``folds`` and ``seeds`` (numbers of them that were
        scored), ``parameters``; for each of ``ua``, ``wa``, ``weighted_f1``, ``macro_f1``, ``ece``, ``nll``,
        ``brier``, ``map`` and ``mauc`` (of tags: ``map``, ``mauc``, ``dprime``, ``lwlrap``, ``micro_f1`` and
        ``macro_f1``) the mean over seeds and, with ``_sd``, ``_low`` and ``_high``, its standard deviation
        and 95 % interval (NaN with one seed); ``validation_ua`` (of tags ``validation_map``; NaN without
        validation items), ``seconds_per_epoch``, ``complete``, ``shared``. Of models of nodes also ``mad`` and
        ``silhouette`` (means over trainings) and the controls, as ``control_knn_ua``. Rates are fractions. What
        they are called is in ``attrs["measures"]``, a :class:`~graphophone.evaluation.measures.Measures`.

    Raises:
        ResultsError: If a folder holds no run, nothing in it has finished, or the runs are not of one kind.
    """
    return _compare(_read_all(run_dirs))


def _compare(runs: Sequence[RunResults]) -> pd.DataFrame:
    common = common_pairs(runs)
    keys = varied([run.recipe for run in runs])
    measures = _measures(runs)
    selection = f"validation_{measures.selection.key}"
    rows = []
    for run in runs:
        pairs = common or [(job.fold, job.seed) for job in run.done if job.seed in run.scored_seeds]
        summary = summarize(run.predictions(pairs), run.classes)
        recipe = flatten(run.recipe)
        wanted = set(pairs)
        validation = [
            job.metrics["validation"][measures.selection.key]
            for job in run.done
            if (job.fold, job.seed) in wanted and job.metrics and job.metrics.get("validation")
        ]
        row: dict[str, Any] = {"run": run.name}
        row |= {key: recipe.get(key) for key in keys}
        row |= {
            "corpus": (run.info.get("corpus") or {}).get("name"),
            "protocol": (run.info.get("protocol") or {}).get("name"),
            "folds": len({fold for fold, _ in pairs}),
            "seeds": len({seed for _, seed in pairs}),
            "parameters": (run.info.get("model") or {}).get("parameters"),
        }
        for key in measures.scalars:
            estimate = summary[key] or dict.fromkeys(("mean", "sd", "low", "high"))
            row |= {key: estimate["mean"], **{f"{key}_{end}": estimate[end] for end in ("sd", "low", "high")}}
        row |= {
            selection: float(np.mean(validation)) if validation else None,
            "seconds_per_epoch": run.seconds_per_epoch(),
            "complete": run.complete,
            "shared": bool(common),
        }
        jobs = scored(run, common)
        for key in STATES:
            estimate = training_estimate(jobs, key)
            row |= {} if estimate is None else {key: estimate.mean}
        for name, metrics in control_metrics(jobs).items():
            for key in (measures.main.key, measures.second.key):
                values = seed_values(metrics, key)
                row |= {f"control_{name}_{key}": interval(values.values()).mean} if values else {}
        rows.append(row)
    numbers = [key + end for key in measures.scalars for end in ("", "_sd", "_low", "_high")] + [selection]
    frame = pd.DataFrame(rows).astype(dict.fromkeys(numbers, np.float64))
    for key in keys:
        settings = [row[key] for row in rows]
        if None in settings:  # which would make numbers of the others that they are not: 0.0 of 0
            frame[key] = pd.Series(settings, dtype=object)
    frame.attrs["measures"] = measures
    return frame


def write_comparison(run_dirs: Iterable[str | Path], output: str | Path) -> Path:
    """Write several runs side by side as one HTML page: poolings, layers, neighbours, systems.

    The run that is called best is the one with the best validation result; test results do not choose.

    Args:
        run_dirs: Run folders.
        output: The page to write, or a folder, in which it becomes ``comparison.html``. The table goes beside
            it as CSV.

    Returns:
        Path of the page.

    Raises:
        ResultsError: If a folder holds no run, nothing in it has finished, or the runs are not of one kind.
    """
    runs = _read_all(run_dirs)
    path = Path(output)
    if path.suffix.lower() not in {".html", ".htm"}:
        path = path / "comparison.html"
    table = _compare(runs)
    measures = _measures(runs)
    keys = varied([run.recipe for run in runs])
    sweep = find_sweep([run.recipe for run in runs], keys)
    labels = [sweep.label(index) for index in range(len(runs))] if sweep else _labels(table, keys)
    chart = curves(runs, table, sweep, measures) if sweep else bars(runs, table, labels, measures)
    states = state_curves(runs, sweep, measures) if sweep else None
    page = render(
        "comparison.html.j2",
        chart=chart,
        states=states,
        maps=maps_of_states(runs, labels),
        **_comparison_context(runs, table, labels, measures, sweep),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path.with_suffix(".csv"), index=False)
    return write_page(path, page)


def _labels(table: pd.DataFrame, keys: Sequence[str]) -> list[str]:
    """The varied settings, up to three of them, where they tell the runs apart; else the names of the runs."""
    names = [key.split(".")[-1] for key in keys]
    if 1 <= len(keys) <= 3 and len(set(names)) == len(names):
        parts = [
            [_said(key, value) if speaks(key) else f"{name} = {_said(key, value)}" for value in table[key]]
            for name, key in zip(names, keys, strict=True)
        ]
        labels = [", ".join(each) for each in zip(*parts, strict=True)]
        if len(set(labels)) == len(labels):
            return labels
    return [str(name) for name in table["run"]]


def _said(key: str, value: Any) -> str:
    """A value in words; of a recipe that leaves it open as such, and an empty list of tasks, too."""
    missing = not isinstance(value, (list, tuple, dict)) and bool(pd.isna(value))
    return setting_words(key, None if missing else value)


_SERIES = {"model.pooling", "model.num_layers", "graph.k", "model.kernel", "model.cluster"}


def _comparison_context(
    runs: Sequence[RunResults],
    table: pd.DataFrame,
    labels: Sequence[str],
    measures: Measures,
    sweep: Sweep | None,
) -> dict[str, Any]:
    keys = varied([run.recipe for run in runs])
    records = table.to_dict("records")
    shared = bool(table["shared"].all())
    main, second, selection = measures.main, measures.second, measures.selection
    validation = table[f"validation_{selection.key}"]
    # Unless all have validation results nothing is chosen.
    chosen = _chosen(validation, sweep) if validation.notna().all() and len(runs) > 1 else []
    papers = _papers(runs, keys)
    columns = [
        measure
        for measure in ((main, second) if measures is WORDS else (SPEECH.main, SPEECH.second, MAP))
        if any(published_value(paper, measure) is not None for paper in papers if paper is not None)
    ]
    extra = (WORDS.cards[2], WORDS.cards[3]) if measures is WORDS else _EXTRA[measures.kind]
    states = [key for key in STATES if key in table]
    names = short_names([str(run.name) for run in runs], keys) if sweep else [str(run.name) for run in runs]
    rows = []
    for index, (run, row, paper) in enumerate(zip(runs, records, papers, strict=True)):
        settings = flatten(run.recipe)  # a table turns None into NaN
        rows.append(
            {
                "run": names[index],
                "settings": [_setting(key, settings) for key in keys],
                "main": main.spread(row_estimate(row, main)),
                "second": second.spread(row_estimate(row, second)),
                "extra": [measure.write(_known(row[measure.key])) for measure in extra]
                + [DASH if pd.isna(row[key]) else f"{row[key]:.3f}".replace("-", "−") for key in states],
                "validation": selection.write(_known(validation.iloc[index])),
                "parameters": DASH if pd.isna(row["parameters"]) else f"{int(row['parameters']):,}",
                "speed": DASH if pd.isna(row["seconds_per_epoch"]) else f"{row['seconds_per_epoch']:.1f}",
                "paper": [DASH if paper is None else published_words(paper, measure) for measure in columns],
                "best": index in chosen,
                "data": f"{corpus_of(run)}, {data_words(run)}",
                "protocol": (run.info.get("protocol") or {}).get("description") or DASH,
                "done": f"{len(run.done)} of {len(run.folds) * len(run.seeds)}",
            }
        )
    pairs, pairs_words = _pairs(runs, labels, main, sweep) if shared and len(runs) > 1 else ([], "")
    known = [paper for paper in papers if paper is not None]
    notes = dict.fromkeys(p.note for p in known if p.note)
    controls = control_lines(runs, sweep, main) if sweep else {}
    return {
        "title": "Runs side by side",
        "kicker": f"{plural(len(runs), 'run')} · varied: {listed(keys) or 'nothing but the data or the seeds'}",
        "warnings": _comparison_warnings(runs, table, shared),
        "verdict": verdict(table, labels, chosen, pairs, measures, sweep),
        "measures": measures,
        "extra": [*(measure.short for measure in extra), *("MAD" if key == "mad" else "Silhouette" for key in states)],
        "validated": bool(validation.notna().any()),
        "varied": keys,
        "rows": rows,
        "caption": caption(
            measures,
            several=bool((table["seeds"] > 1).any()),
            chosen=bool(chosen),
            along=bool(sweep and sweep.of_data),
        ),
        "paper": [measure.short for measure in columns] if known else [],
        "paper_words": f"{paper_words(known[0])} {' '.join(notes)}".strip() if known else "",
        "quoted": quoted(runs[0].info, keys) if len({json.dumps(r.info.get("corpus")) for r in runs}) == 1 else [],
        "pairs": pairs,
        "pairs_words": pairs_words,
        "against": bool(sweep and len(sweep.lines) > 1),
        "control_names": list(controls),
        "controls": [
            {
                "place": sweep.say(x),
                "cells": [main.spread(points[x]) if x in points else DASH for points in controls.values()],
            }
            for x in (sweep.places if sweep else [])
        ]
        if sweep and controls
        else [],
    }


def short_names(names: Sequence[str], keys: Sequence[str] = ()) -> list[str]:
    """Names without what all of them begin with, up to a hyphen; several settings stay whole: ``K-10-P-25``.

    Args:
        names: Names of runs.
        keys: Dotted keys of the settings in which they differ.
    """
    prefix = os.path.commonprefix(list(names)).rpartition("-")[0] if len(names) > 1 else ""  # noqa: RUF071 - by letters
    for key in keys if len(keys) > 1 else ():  # of a single one the value is enough
        place = f"-{prefix}-".find(f"-{key.rpartition('.')[2]}-")
        if place >= 0:
            prefix = prefix[: max(place - 1, 0)]
    short = [name.removeprefix(f"{prefix}-") for name in names] if prefix else list(names)
    return short if all(short) else list(names)


def _setting(key: str, settings: Mapping[str, Any]) -> str:
    value = settings.get(key)
    return DASH if value is None else setting_words(key, value)


def _chosen(validation: pd.Series, sweep: Sweep | None) -> list[int]:
    """Numbers of the runs with the best validation result; where the axis is what runs are given, at each place."""
    if sweep is None or not sweep.of_data:
        return [int(validation.argmax())]
    if len(sweep.lines) == 1:
        return []
    return [
        max((i for i, x in enumerate(sweep.x) if x == place), key=lambda i: validation.iloc[i])
        for place in sweep.places
    ]


def _papers(runs: Sequence[RunResults], keys: Sequence[str]) -> list[Published | None]:
    """The published row of every run, where the runs are one of the paper's series."""
    if "model.tasks" in keys and set(keys) <= {"model.tasks", "protocol.labelled"}:
        found: list[Published | None] = []
        for run in runs:
            row = published_series("tasks", run.info).get(run_variant(run.recipe).get("tasks"))
            found.append(row if row is not None and row.labelled == labelled_share(run.recipe) else None)
        return found
    if all((run.recipe.get("model") or {}).get("name") == "hemogat" for run in runs):
        return [published_parts(keys, run.recipe, run.info) for run in runs]
    key = keys[0].split(".")[-1] if len(keys) == 1 and keys[0] in _SERIES else ""
    series = published_series(key) if key else {}
    return [series.get(flatten(run.recipe).get(keys[0]) or LHGNN_DEFAULTS.get(key)) if series else None for run in runs]


def _comparison_warnings(runs: Sequence[RunResults], table: pd.DataFrame, shared: bool) -> list[str]:
    warnings = []
    if len({tuple(run.classes) for run in runs}) > 1 or len(set(table["corpus"])) > 1:
        warnings.append("The runs are on different data or classes: their numbers cannot be compared.")
    elif len(set(table["protocol"])) > 1:
        warnings.append("The runs follow different protocols: their numbers cannot be compared directly.")
    elif not shared:
        warnings.append(
            "The runs have no fold and seed in common that was tested on the same items: each is scored on its own."
        )
    else:
        done = {len(run.done) for run in runs}
        folds, seeds = int(table["folds"].iloc[0]), int(table["seeds"].iloc[0])
        if done != {folds * seeds}:
            warnings.append(
                f"Some runs have more trainings than others: only the {plural(folds, 'fold')} and "
                f"{plural(seeds, 'seed')} that all of them have done are compared."
            )
    if (table["seeds"] < 2).any():
        warnings.append(
            "With one seed there is no interval: small differences may be chance."
            if (table["seeds"] < 2).all()
            else "Some runs have one seed only and so no interval."
        )
    return warnings


def _pairs(
    runs: Sequence[RunResults], labels: Sequence[str], main: Measure, sweep: Sweep | None
) -> tuple[list[dict[str, Any]], str]:
    """Every run against the first, or the first line's run at the same place, on the folds and seeds that all have."""
    common = common_pairs(runs)
    scores = [pair_metrics(scored(run, common)) for run in runs]
    rows, units = [], []
    for index, label in enumerate(labels):
        reference = sweep.reference(index) if sweep else (0 if index else None)
        found = None if reference is None else paired(scores[reference], scores[index], main.key)
        if reference is None or found is None:
            continue
        c, unit = found
        units.append(unit)
        d = c.difference
        words = "One pair: no statement." if d.n == 1 else "Not distinguishable." if not c.decided else ""
        if not words:
            words = "Higher than the reference." if d.mean > 0 else "Lower than the reference."
        rows.append(
            {
                "run": label,
                "index": index,
                "against": labels[reference],
                "difference": difference_words(c, main),
                "higher": d.mean > 0,
                "n": d.n,
                "wins": c.wins,
                "losses": c.losses,
                "p": p_words(c),
                "words": words,
                "decided": c.decided,
            }
        )
    if sweep and len(sweep.lines) > 1:
        what = f"Each run against {sweep.line[0] or 'the first line'} at the same {sweep.name}"
    else:
        what = f"Each run against {labels[0]}"
    words = (
        f"{what}, with the same seeds, folds and test items, and the 95 % interval of the mean difference. "
        f"{unit_words(units)} With many runs, some differences are expected by chance."
    )
    return rows, words if rows else ""


_EXTRA = {
    "classification": (SPEECH.cards[2], SPEECH.cards[3]),
    "tagging": (TAGS.cards[2], TAGS.cards[3]),
}
"""Measures of a comparison's table besides the first two."""


def _known(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)
