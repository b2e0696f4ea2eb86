"""Several runs side by side, as a table and as one HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from graphophone.evaluation import figures as draw
from graphophone.evaluation.literature import LHGNN_DEFAULTS, Published
from graphophone.evaluation.measures import DASH, SPEECH, TAGS, Measure, Measures
from graphophone.evaluation.metrics import summarize
from graphophone.evaluation.page import (
    corpus_of,
    cut,
    data_words,
    listed,
    plain,
    plural,
    published_words,
    render,
    sentence,
    with_article,
    write_page,
)
from graphophone.evaluation.published import corpus_title, published_series
from graphophone.evaluation.results import ResultsError, RunResults, flatten, varied
from graphophone.evaluation.statistics import Estimate, compare_paired


def _common(runs: Sequence[RunResults]) -> list[tuple[str, int]]:
    """Pairs of fold and seed that all runs have done on the same test items, as full rectangles of folds and seeds."""
    tested = [
        {(job.fold, job.seed): frozenset(job.predictions["id"]) for job in run.done if job.predictions is not None}
        for run in runs
    ]
    if not tested:
        return []
    pairs = [pair for pair in tested[0] if len({one.get(pair) for one in tested}) == 1]
    folds_of: dict[int, set[str]] = {}
    for fold, seed in pairs:
        folds_of.setdefault(seed, set()).add(fold)
    if not folds_of:
        return []
    folds = max(folds_of.values(), key=len)
    return [(f, s) for f, s in pairs if f in folds and folds <= folds_of[s]]


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
    kinds = {run.measures.sounds for run in runs}
    return runs[0].measures if len(kinds) == 1 else SPEECH


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
        validation items), ``seconds_per_epoch``, ``complete``, ``shared``. Rates are fractions. What they are
        called is in ``attrs["measures"]``, a :class:`~graphophone.evaluation.measures.Measures`.

    Raises:
        ResultsError: If a folder holds no run, nothing in it has finished, or the runs are not of one kind.
    """
    return _compare(_read_all(run_dirs))


def _compare(runs: Sequence[RunResults]) -> pd.DataFrame:
    common = _common(runs)
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
        rows.append(row)
    numbers = [key + end for key in measures.scalars for end in ("", "_sd", "_low", "_high")] + [selection]
    frame = pd.DataFrame(rows).astype(dict.fromkeys(numbers, np.float64))
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
    main, second = measures.main, measures.second
    labels = _labels(table, varied([run.recipe for run in runs]))
    # mAP and mAUC have no common scale; where classes are equally large, accuracy and UA are the same.
    alone = measures.sounds and (
        measures.kind == "tagging" or np.allclose(table[main.key], table[second.key], atol=5e-4)
    )
    shown = (main,) if alone else (main, second)
    records = table.to_dict("records")
    estimates = {measure.short: [_row_estimate(row, measure) for row in records] for measure in shown}
    same_classes = len({tuple(run.classes) for run in runs}) == 1
    setting = labels[0].partition(" = ")[0] if " = " in labels[0] else ""
    ticks = [label.partition(" = ")[2] if setting else label for label in labels]
    chance = 1 / len(runs[0].classes) if same_classes and measures.kind == "classification" else None
    figure = draw.estimate_bars(ticks, estimates, chance=chance, xlabel=setting, percent=main.percent)
    spread = any(e is not None and e.low is not None for e in estimates[main.short])
    chart = {
        "svg": Markup(draw.to_svg(figure, "comparison")),  # noqa: S704 - matplotlib escapes text
        "label": f"Bars of the {main.words} of every run: "
        + "; ".join(
            f"{name}: {main.short} {main.say(row[main.key])}" for name, row in zip(labels, records, strict=True)
        ),
        "caption": (
            "Unweighted and weighted accuracy" if measures is SPEECH else sentence(listed([m.words for m in shown]))
        )
        + " on test items"
        + (", with 95 % intervals over seeds." if spread else "; one seed, no intervals."),
    }
    page = render("comparison.html.j2", chart=chart, **_comparison_context(runs, table, labels, measures))
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path.with_suffix(".csv"), index=False)
    return write_page(path, page)


def _row_estimate(row: Mapping[Any, Any], measure: Measure) -> Estimate | None:
    key = measure.key
    if pd.isna(row[key]):
        return None
    if pd.isna(row[f"{key}_sd"]):
        return Estimate(row[key], None, None, None, 1)
    estimate = Estimate(row[key], row[f"{key}_sd"], row[f"{key}_low"], row[f"{key}_high"], int(row["seeds"]))
    return cut(estimate) if measure.bounded else estimate


def _labels(table: pd.DataFrame, keys: Sequence[str]) -> list[str]:
    """The varied setting, where there is just one and it tells the runs apart; else the names of the runs."""
    if len(keys) == 1:
        missing = table[keys[0]].isna()  # a recipe that leaves it open
        labels = [
            f"{keys[0].split('.')[-1]} = {'default' if open_ else plain(value)}"
            for value, open_ in zip(table[keys[0]], missing, strict=True)
        ]
        if len(set(labels)) == len(labels):
            return labels
    return [str(name) for name in table["run"]]


_SERIES = {"model.pooling", "model.num_layers", "graph.k", "model.kernel", "model.cluster"}


def _comparison_context(
    runs: Sequence[RunResults], table: pd.DataFrame, labels: Sequence[str], measures: Measures
) -> dict[str, Any]:
    keys = varied([run.recipe for run in runs])
    records = table.to_dict("records")
    shared = bool(table["shared"].all())
    main, second, selection = measures.main, measures.second, measures.selection
    validation = table[f"validation_{selection.key}"]
    # Unless all have validation results nothing is chosen: the first run is what the others are set against.
    chosen = int(validation.argmax()) if validation.notna().all() else None
    key = keys[0].split(".")[-1] if len(keys) == 1 and keys[0] in _SERIES else ""
    series = published_series(key)
    columns: list[tuple[str, Measure]] = []  # of the paper
    if series:
        tags = any(p.map is not None for p in series.values())
        columns = [(m.short, m) for m in ((TAGS.main,) if tags else (SPEECH.main, SPEECH.second))]
    extra = _EXTRA[measures.kind]
    rows, papers = [], []
    for index, (run, row) in enumerate(zip(runs, records, strict=True)):
        settings = flatten(run.recipe)  # a table turns None into NaN
        paper = series.get(settings.get(keys[0]) or LHGNN_DEFAULTS.get(key)) if series else None
        papers += [paper] if paper is not None else []
        rows.append(
            {
                "run": row["run"],
                "settings": [DASH if settings.get(key) is None else plain(settings[key]) for key in keys],
                "main": main.spread(_row_estimate(row, main)),
                "second": second.spread(_row_estimate(row, second)),
                "extra": [measure.write(_known(row[measure.key])) for measure in extra],
                "validation": selection.write(_known(validation.iloc[index])),
                "parameters": DASH if pd.isna(row["parameters"]) else f"{int(row['parameters']):,}",
                "speed": DASH if pd.isna(row["seconds_per_epoch"]) else f"{row['seconds_per_epoch']:.1f}",
                "paper": [DASH if paper is None else published_words(paper, measure) for _, measure in columns],
                "best": index == chosen and len(runs) > 1,
                "data": f"{corpus_of(run)}, {data_words(run)}",
                "protocol": (run.info.get("protocol") or {}).get("description") or DASH,
                "done": f"{len(run.done)} of {len(run.folds) * len(run.seeds)}",
            }
        )
    pairs, pairs_words = _pairs(runs, labels, chosen or 0, main) if shared and len(runs) > 1 else ([], "")
    notes = dict.fromkeys(p.note for p in papers if p.note)
    return {
        "title": "Runs side by side",
        "kicker": f"{plural(len(runs), 'run')} · varied: {listed(keys) or 'nothing but the data or the seeds'}",
        "warnings": _comparison_warnings(runs, table, shared),
        "verdict": _comparison_verdict(table, labels, chosen, pairs, measures),
        "measures": measures,
        "extra": [measure.short for measure in extra],
        "validated": bool(validation.notna().any()),
        "varied": keys,
        "rows": rows,
        "caption": _caption(
            measures, several=bool((table["seeds"] > 1).any()), chosen=chosen is not None and len(runs) > 1
        ),
        "paper": [short for short, _ in columns] if papers else [],
        "paper_words": f"{_paper_words(papers[0])} {' '.join(notes)}".strip() if papers else "",
        "pairs": pairs,
        "pairs_words": pairs_words,
    }


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
    runs: Sequence[RunResults], labels: Sequence[str], chosen: int, main: Measure
) -> tuple[list[dict[str, Any]], str]:
    """Every run against the chosen one, on the folds and seeds that all have."""
    common = set(_common(runs))
    scores = [
        {
            (job.fold, job.seed): job.metrics[main.key]
            for job in run.done
            if job.metrics is not None and main.key in job.metrics and (job.fold, job.seed) in common
        }
        for run in runs
    ]
    rows = []
    for index, label in enumerate(labels):
        if index == chosen or not scores[index].keys() & scores[chosen].keys():
            continue
        c = compare_paired(scores[chosen], scores[index])
        d = c.difference
        words = "One pair: no statement." if d.n == 1 else "Not distinguishable." if not c.decided else ""
        if not words:
            words = "Higher than the reference." if d.mean > 0 else "Lower than the reference."
        rows.append(
            {
                "run": label,
                "difference": main.signed(d.mean)
                + (
                    f" [{main.signed(d.low)}, {main.signed(d.high)}]"
                    if d.low is not None and d.high is not None
                    else ""
                ),
                "n": d.n,
                "wins": c.wins,
                "losses": c.losses,
                "p": DASH if c.p_value is None else f"{c.p_value:.3f}" if c.p_value >= 0.001 else "< 0.001",
                "words": words,
                "decided": c.decided,
            }
        )
    words = (
        f"Each run against {labels[chosen]}, pair by pair of fold and seed, with the 95 % interval of the "
        "mean difference. Training parts of different folds overlap, so the intervals are somewhat too "
        "narrow; with many runs, some differences are expected by chance."
    )
    return rows, words


def _comparison_verdict(
    table: pd.DataFrame,
    labels: Sequence[str],
    chosen: int | None,
    pairs: Sequence[Mapping[str, Any]],
    measures: Measures,
) -> str:
    main, selection = measures.main, measures.selection
    values = table[main.key]
    top = int(values.to_numpy().argmax())
    if len(table) == 1:
        return f"{labels[0]} reaches {with_article(main.words)} of {main.say(values.iloc[0])} on test items."
    if chosen is None:
        text = f"The highest {main.words} on test items, {main.say(values.iloc[top])}, is that of {labels[top]}. "
        some = table[f"validation_{selection.key}"].notna().any()
        text += (
            "Not all runs have validation results, so nothing is chosen."
            if some
            else "No validation results were kept, so nothing is chosen."
        )
        if pairs and pairs[0]["n"] > 1:
            apart = [p["run"].rpartition(" = ")[2] for p in pairs if p["decided"]]
            text += (
                f" Distinguishable from {labels[0]}, fold by fold: {listed(apart)}."
                if apart
                else f" Fold by fold, no other run can be told apart from {labels[0]}."
            )
        return text
    validation = table[f"validation_{selection.key}"].iloc[chosen]
    same = "" if selection.key == main.key else f"{main.words} "
    text = (
        f"Validation items choose {labels[chosen]} ({selection.words} {selection.say(validation)}); "
        f"on test items it reaches {same}{main.say(values.iloc[chosen])}."
    )
    if top != chosen:
        text += f" On test items {labels[top]} is higher ({main.say(values.iloc[top])})."
    if pairs and pairs[0]["n"] > 1:
        apart = [p["run"].rpartition(" = ")[2] for p in pairs if p["decided"]]
        text += (
            f" Distinguishable from it, fold by fold: {listed(apart)}."
            if apart
            else " Fold by fold, no other run can be told apart from it."
        )
    return text


_EXTRA = {
    "classification": (SPEECH.cards[2], SPEECH.cards[3]),
    "tagging": (TAGS.cards[2], TAGS.cards[3]),
}
"""Measures of a comparison's table besides the first two."""


def _known(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)


def _caption(measures: Measures, *, several: bool, chosen: bool) -> str:
    parts = ["in percent"] if measures.main.percent else []
    if several:
        parts.append("mean ± standard deviation over seeds")
    text = ", ".join(parts) or "every run"
    best = "accuracy" if measures.kind == "classification" else measures.selection.short
    return f"{sentence(text)}." + (f" The shaded run has the best validation {best}." if chosen else "")


def _paper_words(paper: Published) -> str:
    """What the paper's figures in a comparison were measured on."""
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
