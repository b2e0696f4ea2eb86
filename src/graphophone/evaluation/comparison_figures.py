"""The figures of a comparison, each with the words that a reader who cannot see it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from graphophone.evaluation import figures as draw
from graphophone.evaluation.differences import control_metrics, seed_values
from graphophone.evaluation.figures_states import state_maps
from graphophone.evaluation.figures_sweep import Panel, Point, estimate_dots, sweep_curves
from graphophone.evaluation.measures import SPEECH, Measure, Measures
from graphophone.evaluation.page import cut, listed, sentence
from graphophone.evaluation.report_nodes import control_title, first_state_map, training_estimate
from graphophone.evaluation.results import JobResult, RunResults
from graphophone.evaluation.statistics import Estimate, interval
from graphophone.evaluation.sweep import Sweep

MAX_BARS = 12
"""Runs beyond which their figure has a row for each rather than bars."""

STATES = {"mad": "Mean average distance (MAD)", "silhouette": "Silhouette"}
"""Numbers of the states of a network, and their names."""


def common_pairs(runs: Sequence[RunResults]) -> list[tuple[str, int]]:
    """Pairs of fold and seed that all runs have done on the same test items, as full rectangles of folds and seeds.

    Where each seed has splits of its own, the seeds whose splits are all done.
    """
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
    if any(run.turns for run in runs):
        return [(f, s) for f, s in pairs if len(folds_of[s]) == max(run.turns for run in runs)]
    folds = max(folds_of.values(), key=len)
    return [(f, s) for f, s in pairs if f in folds and folds <= folds_of[s]]


def scored(run: RunResults, common: Sequence[tuple[str, int]]) -> list[JobResult]:
    """The trainings that a row of a comparison is about."""
    wanted = set(common) or {(job.fold, job.seed) for job in run.done if job.seed in run.scored_seeds}
    return [job for job in run.done if (job.fold, job.seed) in wanted]


def _shown(table: pd.DataFrame, measures: Measures) -> tuple[Measure, ...]:
    """Measures of the figure: mAP and mAUC have no common scale; with equal classes accuracy and UA are the same."""
    main, second = measures.main, measures.second
    alone = measures.sounds and (
        measures.kind == "tagging" or np.allclose(table[main.key], table[second.key], atol=5e-4)
    )
    return (main,) if alone else (main, second)


def _chance(runs: Sequence[RunResults], measures: Measures) -> float | None:
    same_classes = len({tuple(run.classes) for run in runs}) == 1
    return 1 / len(runs[0].classes) if same_classes and measures.kind == "classification" else None


def _svg(figure: Figure, name: str) -> Markup:
    return Markup(draw.to_svg(figure, name))  # noqa: S704 - matplotlib escapes text


def bars(runs: Sequence[RunResults], table: pd.DataFrame, labels: Sequence[str], measures: Measures) -> dict[str, Any]:
    """Bars of every run, of many runs dots."""
    main, shown = measures.main, _shown(table, measures)
    records = table.to_dict("records")
    estimates = {measure.short: [row_estimate(row, measure) for row in records] for measure in shown}
    setting = labels[0].partition(" = ")[0] if labels[0].count(" = ") == 1 else ""
    # Several settings stand one below the other, so that none is cut off.
    ticks = [label.partition(" = ")[2] if setting else label.replace(", ", "\n") for label in labels]
    chance = _chance(runs, measures)
    if len(labels) > MAX_BARS:
        figure = estimate_dots(labels, estimates, chance=chance, percent=main.percent)
    else:
        figure = draw.estimate_bars(ticks, estimates, chance=chance, xlabel=setting, percent=main.percent)
    spread = any(e is not None and e.low is not None for e in estimates[main.short])
    named = zip(labels, records, strict=True)
    return {
        "svg": _svg(figure, "comparison"),
        "label": f"{'Dots' if len(labels) > MAX_BARS else 'Bars'} of the {main.words} of every run: "
        + "; ".join(f"{name}: {main.short} {main.say(row[main.key])}" for name, row in named),
        "caption": (
            "Unweighted and weighted accuracy" if measures is SPEECH else sentence(listed([m.words for m in shown]))
        )
        + " on test items"
        + (", with 95 % intervals over seeds." if spread else "; one seed, no intervals."),
    }


def curves(runs: Sequence[RunResults], table: pd.DataFrame, sweep: Sweep, measures: Measures) -> dict[str, Any]:
    """The headline measure along the axis of a sweep, controls dashed."""
    main = measures.main
    records = table.to_dict("records")
    lines: dict[str, list[Point]] = {}
    for name, indices in sweep.lines.items():
        points = [(sweep.x[i], row_estimate(records[i], main)) for i in indices]
        lines[name or main.short] = [(x, e) for x, e in points if e is not None]
    controls = control_lines(runs, sweep, main)
    chance = _chance(runs, measures)
    panel = Panel(
        sentence(main.words),
        lines,
        {name: [(x, e) for x, e in points.items()] for name, points in controls.items()},
        scale=100.0 if main.percent else 1.0,
        ylabel="%" if main.percent else "",
        floor=None if chance is None else ("chance", chance),
    )
    spread = any(e.low is not None for line in lines.values() for _, e in line)
    told = [
        f"{f'{name}: ' if name else ''}"
        + ", ".join(f"{main.say(records[i][main.key])} at {sweep.x[i]:g}{sweep.unit}" for i in indices)
        for name, indices in sweep.lines.items()
    ]
    dashed = (
        " Dashed: controls on the same features and labels, which are in the table of controls." if controls else ""
    )
    how = "with 95 % intervals over seeds" if spread else "of one seed, without intervals"
    how += (
        "; lines are moved aside a little so that intervals do not hide each other" if spread and len(lines) > 1 else ""
    )
    return {
        "svg": _svg(sweep_curves([panel], sweep.words), "comparison"),
        "label": f"Curves of the {main.words} over {sweep.words}. {'; '.join(told)}.",
        "caption": f"{sentence(main.words)} on test items over {sweep.noun}, {how}.{dashed}",
    }


def control_lines(runs: Sequence[RunResults], sweep: Sweep, measure: Measure) -> dict[str, dict[float, Estimate]]:
    """Controls along the axis, by name: those of the first run at each place that has them.

    At one place all lines have the same, unless they differ in what controls read: then each line has its own.
    """
    common = common_pairs(runs)
    found: dict[str, dict[float, Estimate]] = {}
    for index in sorted(range(len(runs)), key=lambda i: (sweep.x[i], i)):
        line = f", {sweep.line[index]}" if sweep.controls_differ and sweep.line[index] else ""
        for name, metrics in control_metrics(scored(runs[index], common)).items():
            values = seed_values(metrics, measure.key)
            if values:
                points = found.setdefault(f"{control_title(name)}{line}", {})
                points.setdefault(sweep.x[index], cut(interval(values.values())))
    return found


def state_curves(runs: Sequence[RunResults], sweep: Sweep, measures: Measures) -> dict[str, Any] | None:
    """Distance of node states and silhouette along the axis; None where they were not measured."""
    common = common_pairs(runs)
    panels = []
    for key, title in STATES.items():
        lines: dict[str, list[Point]] = {}
        for name, indices in sweep.lines.items():
            points = [(sweep.x[i], training_estimate(scored(runs[i], common), key)) for i in indices]
            known = [(x, e) for x, e in points if e is not None]
            if known:
                lines[name or measures.main.short] = known
        if lines:
            panels.append((key, Panel(title, lines if sweep.others else {title: next(iter(lines.values()))}, {})))
    if not panels:
        return None
    told = [
        f"{panel.title}, {name}: " + ", ".join(f"{e.mean:.3f} at {x:g}{sweep.unit}" for x, e in points)
        for _, panel in panels
        for name, points in panel.lines.items()
    ]
    meaning = {
        "mad": "The mean average distance is 0 where the states of all nodes point the same way, as in an oversmoothed "
        "network.",
        "silhouette": "The silhouette of the true classes among the states of test items is 1 where they lie far apart "
        "and below 0 where they mix.",
    }
    return {
        "svg": _svg(sweep_curves([panel for _, panel in panels], sweep.words), "states"),
        "label": f"Curves over {sweep.words}. {'; '.join(told)}.",
        "caption": " ".join([*(meaning[key] for key, _ in panels), "Means and 95 % intervals over trainings."]),
    }


MAPS = 6
"""Runs whose states are drawn side by side, at most."""


def maps_of_states(runs: Sequence[RunResults], labels: Sequence[str]) -> dict[str, Any] | None:
    """Maps of the states of a few runs of the same classes; None where there are more, or a run has none."""
    if not 2 <= len(runs) <= MAPS or len({tuple(run.classes) for run in runs}) > 1:
        return None
    found = [first_state_map(run) if run.nodes else None for run in runs]
    maps = {label: (each.points, each.labels) for label, each in zip(labels, found, strict=True) if each is not None}
    if len(maps) < len(runs):
        return None
    told = "; ".join(f"{label}: {each.training}" for label, each in zip(labels, found, strict=True) if each is not None)
    return {
        "svg": _svg(state_maps(maps, runs[0].classes), "maps"),
        "label": f"Maps of the states of test items by true class, one for each run. {told}.",
        "caption": "States of test items by true class, in two dimensions by t-SNE (perplexity 30), of the first "
        f"training of each run. Axes mean nothing, and no two maps have the same. {told}.",
    }


def row_estimate(row: Mapping[Any, Any], measure: Measure) -> Estimate | None:
    """A measure of one row of a comparison's table; None where it is not defined."""
    key = measure.key
    if pd.isna(row[key]):
        return None
    if pd.isna(row[f"{key}_sd"]):
        return Estimate(row[key], None, None, None, 1)
    estimate = Estimate(row[key], row[f"{key}_sd"], row[f"{key}_low"], row[f"{key}_high"], int(row["seeds"]))
    return cut(estimate) if measure.bounded else estimate
