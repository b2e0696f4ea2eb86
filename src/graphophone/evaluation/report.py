"""The report of a run, as one HTML file.

A report needs nothing but itself: figures are inside, there is no script and no address of another file.
Every text that comes from data (names of classes, speakers, files) is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from graphophone.evaluation import figures as draw
from graphophone.evaluation.cost_words import cost_facts
from graphophone.evaluation.measures import DASH, MAP, SOUNDS, Measure
from graphophone.evaluation.noise_section import noise_section
from graphophone.evaluation.overlap_section import baseline_rows, overlap_section, words_tell_nothing
from graphophone.evaluation.page import (
    corpus_of,
    cut,
    data_words,
    listed,
    model_title,
    percent,
    plain,
    plural,
    published_value,
    published_words,
    render,
    with_article,
    write_page,
)
from graphophone.evaluation.protocols import natural_key
from graphophone.evaluation.published import published_beside, quoted, unpublished
from graphophone.evaluation.report_figures import (
    calibration_words,
    class_rows,
    extremes,
    kept_words,
    make_figures,
    reliability_bins,
    speaker_words,
    support_words,
    threshold_words,
)
from graphophone.evaluation.report_nodes import (
    budget_words,
    controls_beside,
    draw_words,
    node_facts,
    state_words,
)
from graphophone.evaluation.results import JobResult, RunResults
from graphophone.evaluation.statistics import Estimate, interval
from graphophone.evaluation.turns_section import turns_section

MAX_PROBLEMS = 200


MAX_CLASSES = 40
"""Classes beyond which their table is folded away and their names are not all listed."""


def write_report(run_dir: str | Path) -> Path:
    """Write the report of a run, from what its folder holds.

    A run that has not finished gets a report too, which says what is missing.

    Args:
        run_dir: The run folder.

    Returns:
        Path of ``report.html`` in that folder. The figures are also written to ``figures/*.png``.

    Raises:
        ResultsError: If the folder holds no run or a file in it is damaged.
    """
    results = RunResults.read(run_dir)
    noise = noise_section(results)
    turns = turns_section(results)
    made = {
        **make_figures(results),
        **({"robustness": noise["figure"]} if noise else {}),
        **(turns["figures"] if turns else {}),
    }
    for name, entry in made.items():
        draw.save_png(entry["figure"], results.folder / "figures" / f"{name}.png")
        entry["svg"] = Markup(draw.to_svg(entry["figure"], name))  # noqa: S704 - matplotlib escapes text
    page = render("report.html.j2", noise=noise, **_report_context(results, made, turns))
    return write_page(results.folder / "report.html", page)


def _partial(results: RunResults) -> bool:
    """Whether no seed has all its folds yet, so that the numbers are of a part of the test items."""
    return bool(set(results.scored_seeds) & {seed for _, seed in results.missing})


def _estimate(results: RunResults, measure: Measure) -> Estimate | None:
    """An estimate over seeds; None where the measure is not defined.

    It has no spread as long as no seed has all its folds, since seeds then differ in folds.
    """
    assert results.summary is not None  # noqa: S101 - callers look first
    values = results.summary[measure.key]
    if values is None:
        return None
    estimate = Estimate.from_dict(values)
    if _partial(results):
        return Estimate(estimate.mean, None, None, None, estimate.n)
    return cut(estimate) if measure.bounded else estimate


def _headline(results: RunResults, measure: Measure) -> Estimate:
    """An estimate of a measure that is always defined, such as UA, accuracy and mAP."""
    estimate = _estimate(results, measure)
    assert estimate is not None  # noqa: S101 - a run without a positive item is refused when it is scored
    return estimate


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _configuration(values: Mapping[str, Any] | None) -> str:
    """``{"name": "topk", "k": 10}`` as ``topk (k = 10)``."""
    values = dict(values or {})
    name = str(values.pop("name", "")) or DASH
    rest = [f"{key} = {plain(value)}" for key, value in values.items() if value not in (None, [], (), {})]
    return f"{name} ({', '.join(rest)})" if rest else name


def _when(value: Any) -> str | None:
    """An ISO time as people read it; None where there is none or it is not one."""
    try:
        return datetime.fromisoformat(str(value)).strftime("%d %B %Y, %H:%M %Z").strip().lstrip("0")
    except ValueError:
        return None


def _mixing(results: RunResults) -> str:
    """What the test items have in common with the training items, in a sentence; empty where nothing is to be said."""
    protocol = results.info.get("protocol") or {}
    mixes = protocol.get("mixes_speakers")
    if mixes is None and results.measures.sounds:
        if protocol.get("name") in {"folds", "official"} or "recording" in str(protocol.get("description")):
            return ""  # published parts, or the protocol says it itself
        return "Clips that were cut from the same recording may be in training and in test."
    if mixes is None:
        if protocol.get("speakers_known") is False or (results.info.get("corpus") or {}).get("speakers") == 0:
            return "The corpus does not name speakers, so the same voices may be in training and in test."
        return "Whether test speakers were also heard in training is not known."
    if mixes:
        return (
            "Speakers are mixed: the same voices are in training and in test, so this does not tell how "
            "well the model does on a new speaker."
        )
    return "No test speaker was heard in training."


def _verdict(results: RunResults, beside: Sequence[Any], against: str = "") -> str:
    model, data = model_title(results), f"{corpus_of(results)} ({data_words(results)})"
    if results.summary is None:
        return f"{model} on {data}: no training has finished yet, so there is no result."
    main = results.measures.main
    estimate = _headline(results, main)
    if _partial(results):
        spread = (
            f"on {len(results.done)} of {len(results.folds) * len(results.seeds)} trainings, the others are to come"
        )
    elif estimate.low is not None and estimate.high is not None:
        spread = f"95 % interval over {estimate.n} seeds {main.write(estimate.low)} to {main.write(estimate.high)}"
    else:
        spread = "one seed, so without an interval"
    sentences = [
        f"On {data}, {model} reaches {with_article(main.words)} of {main.say(estimate.mean)} ({spread})"
        f"{_second(results)}. Guessing would give {_guessing(results)}.",
        f"It was given {budget_words(results)}." if budget_words(results) else "",
        "" if _partial(results) else against,
        _mixing(results),
        words_tell_nothing(results),
        "" if results.validated else "No items were held out for validation, so nothing was selected.",
    ]
    comparable = [(value, b.result) for b in beside if b.comparable and (value := published_value(b.result, main))]
    if comparable and not _partial(results):
        theirs, best = max(comparable, key=lambda pair: pair[0])
        gap = estimate.mean - theirs
        size = f"{100 * abs(gap):.1f} points" if main.percent else f"{abs(gap):.3f}"
        where = "above" if gap > 0 else "below"
        inside = estimate.low is not None and estimate.high is not None and estimate.low <= theirs <= estimate.high
        sentences.append(
            f"The {main.words} is {size} {where} the best comparable result, {best.system} "
            f"({main.say(theirs)}{', which lies within the interval' if inside else ''})."
        )
    sentences.append(extremes(results))
    return " ".join(filter(None, sentences))


def _second(results: RunResults) -> str:
    """The measure beside the headline, as a clause; empty where it says the same once more."""
    assert results.summary is not None  # noqa: S101 - callers look first
    measures = results.measures
    second = _estimate(results, measures.second)
    balanced = (
        measures is SOUNDS and second is not None and abs(second.mean - _headline(results, measures.main).mean) < 5e-4
    )
    if second is None or balanced:
        return ""
    return f" and {with_article(measures.second.words)} of {measures.second.say(second.mean)}"


def _guessing(results: RunResults) -> str:
    """What answers at random would reach, by the headline measure."""
    assert results.summary is not None  # noqa: S101 - callers look first
    if results.measures.kind == "tagging":
        pooled = results.summary["pooled"]
        shares = [row["support"] / pooled["n"] for row in pooled["per_class"] if row["ap"] is not None]
        return f"{np.mean(shares):.3f}"
    return f"{100 / max(len(results.classes), 1):.1f} %"


def _warning(results: RunResults) -> str:
    if results.complete:
        return ""
    total = len(results.folds) * len(results.seeds)
    if not results.done:
        return f"This run is unfinished: none of its {plural(total, 'training')} is done."
    missing = [f"{fold} with seed {seed}" for fold, seed in results.missing]
    text = f"This run is unfinished: {len(results.done)} of {total} trainings are done; missing: {listed(missing)}. "
    if _partial(results):
        return text + "The numbers are of the folds done so far and will change."
    return text + f"The numbers are of {_seeds(results.scored_seeds)}, with all folds done."


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"the seeds {listed([str(s) for s in seeds])}"


def _scores(results: RunResults) -> list[dict[str, str]]:
    if results.summary is None:
        return []
    rows = []
    for measure in results.measures.table:
        e, f = _estimate(results, measure), _over_folds(results, measure)
        if e is None and measure.optional:
            continue
        rows.append(
            {
                "name": measure.name,
                "mean": DASH if e is None else measure.write(e.mean),
                "sd": DASH if e is None else measure.write(e.sd),
                "interval": DASH
                if e is None or e.low is None
                else f"{measure.write(e.low)} to {measure.write(e.high)}",
                "fold_mean": measure.write(f.mean) if f is not None and f.n > 1 else DASH,
                "fold_sd": DASH if f is None else measure.write(f.sd),
            }
        )
    selection = results.measures.selection
    validation = results.validations(selection.key)
    if validation:
        e = interval(validation)
        rows.append(
            {
                "name": f"{selection.short} on validation items",
                "mean": DASH,
                "sd": DASH,
                "interval": DASH,
                "fold_mean": selection.write(e.mean),
                "fold_sd": selection.write(e.sd),
            }
        )
    return rows


def _over_folds(results: RunResults, measure: Measure) -> Estimate | None:
    assert results.summary is not None  # noqa: S101 - callers look first
    values = results.summary["over_folds"][measure.key]
    return None if values is None else Estimate.from_dict(values)


def _scores_caption(results: RunResults) -> str:
    seeds, folds = len(results.scored_seeds), len({job.fold for job in results.done})
    if results.turns:
        folds = len(results.folds)
    pooled = "" if folds == 1 else f" Within a seed the test items of the {folds} folds are pooled and scored once."
    alone = " With one seed there is no spread over seeds." if seeds == 1 else ""
    turns = " Seeds differ in their test items, so their spread is one of items too." if results.turns else ""
    return f"Test items{_unit_words(results)}, over {plural(seeds, 'seed')}.{pooled}{turns}{alone}"


def _unit_words(results: RunResults) -> str:
    """What a caption says of the numbers of a table."""
    if results.measures.kind == "tagging":
        return ""
    fractions = any(not measure.percent for measure in results.measures.table)
    return ", in percent but for mAP and mAUC" if fractions else ", in percent"


def _spread(measure: Measure, values: Sequence[float | None]) -> str:
    known = [v for v in values if v is not None]
    return measure.spread(interval(known)) if known else DASH


def _range(values: Sequence[int | None]) -> str:
    known = sorted(v for v in values if v is not None)
    if not known:
        return DASH
    return str(known[0]) if known[0] == known[-1] else f"{known[0]} to {known[-1]}"


def _fold_rows(results: RunResults) -> list[dict[str, str]]:
    main, second, selection = results.measures.main, results.measures.second, results.measures.selection
    rows = []
    by_fold: dict[str, list[JobResult]] = {}
    for job in results.done:
        by_fold.setdefault(job.fold, []).append(job)
    for fold in sorted(by_fold, key=lambda f: results.folds.index(f) if f in results.folds else len(results.folds)):
        jobs = by_fold[fold]
        metrics = [job.metrics or {} for job in jobs]
        tables = [job.predictions for job in jobs if job.predictions is not None]
        speakers = sorted({s for table in tables if "speaker" in table for s in table["speaker"] if s}, key=natural_key)
        same = len({frozenset(table["id"]) for table in tables}) == 1
        best = [m.get("best_epoch") for m in metrics]
        seconds = [float(m["seconds"]) for m in metrics if m.get("seconds") is not None]
        rows.append(
            {
                "fold": fold,
                "n": _range([len(table) for table in tables]),
                "speakers": (listed(speakers, 6) if same else "differ by seed") if speakers else DASH,
                "main": _spread(main, [m.get(main.key) for m in metrics]),
                "second": _spread(second, [m.get(second.key) for m in metrics]),
                "validation": _spread(selection, [(m.get("validation") or {}).get(selection.key) for m in metrics]),
                "best": _range([None if b is None else int(b) + 1 for b in best]),
                "epochs": _range([m.get("epochs") for m in metrics]),
                "seconds": _duration(float(np.mean(seconds))) if seconds else DASH,
            }
        )
    return rows


def _facts(results: RunResults) -> list[tuple[str, str]]:
    info = results.info
    corpus, protocol = info.get("corpus") or {}, info.get("protocol") or {}
    model, features, machine = info.get("model") or {}, info.get("features") or {}, info.get("machine") or {}
    facts: list[tuple[str, str | None]] = [("Recipe", info.get("description") or None)]
    hours = f", {corpus['hours']:.2f} h" if corpus.get("hours") else ""
    facts.append(("Data", f"{corpus_of(results)}: {data_words(results)}{hours}"))
    facts.append(("Classes", _names(results.classes) or None))
    facts += [("Licence", corpus.get("licence")), ("Citation", corpus.get("citation"))]
    described = protocol.get("description")
    facts.append(("Protocol", " ".join(filter(None, [f"{protocol.get('name')}.", described])) if protocol else None))
    if protocol.get("mixes_speakers") is None or "peaker" not in (described or ""):
        facts.append(("Recordings" if results.measures.sounds else "Speakers", _mixing(results)))
    facts.append(("Seeds", ", ".join(map(str, results.seeds)) or None))
    own = {key: value for key, value in features.items() if key not in {"x_real_time", "cached", "dims"}}
    dims = f", {features['dims']} values per {'item' if results.nodes else 'frame'}" if features.get("dims") else ""
    facts.append(("Features", _configuration(own) + dims if own else None))
    facts.append(("Graph", _configuration(info.get("graph")) if info.get("graph") else None))
    options = results.recipe.get("model") or {"name": model.get("name"), **(model.get("options") or {})}
    facts.append(("Model", _configuration(options) if options.get("name") else None))
    if results.nodes:
        facts += node_facts(results)
    facts.append(("Parameters", f"{int(model['parameters']):,}" if model.get("parameters") else None))
    facts += cost_facts(info.get("cost"))
    start = (results.recipe.get("training") or {}).get("pretrained")
    facts.append(("First weights", f"read from {start}" if start else None))
    facts.append(("Training speed", _speed(results)))
    speed = features.get("x_real_time")
    if speed:
        cached, items = int(features.get("cached") or 0), int(corpus.get("items") or 0)
        words = f"{float(speed):,.0f} times faster than real time"
        if cached and cached >= items:
            words = f"read from the cache, {words}"
        elif cached:
            words = f"{words}; {plural(cached, 'item')} came from the cache"
        facts.append(("Feature extraction", words))
    cores = f"{machine['cores']} cores" if machine.get("cores") else None
    threads = f"{plural(int(machine['threads']), 'thread')} per training" if machine.get("threads") else None
    facts.append(("Machine", ", ".join(filter(None, [machine.get("cpu"), cores, threads])) or None))
    torch = f"PyTorch {machine['torch']}" if machine.get("torch") else None
    version = f"graphophone {info['version']}" if info.get("version") else None
    facts.append(("Versions", ", ".join(filter(None, [version, torch])) or None))
    facts.append(("Started", _when(info.get("started"))))
    facts.append(("Finished", _when(info.get("finished"))))
    return [(name, value) for name, value in facts if value]


def _names(classes: Sequence[str]) -> str:
    """Names of classes, of very many the first ones."""
    more = len(classes) - MAX_CLASSES
    if more > 10:
        return f"{listed(classes, 12)}, all of them in the table of classes"
    return ("; " if any("," in name for name in classes) else ", ").join(classes)


def _speed(results: RunResults) -> str | None:
    epoch = results.seconds_per_epoch()
    if epoch is None:
        return None
    total = sum(float(job.curves["seconds"].sum()) for job in results.jobs if job.curves is not None)
    return f"{_duration(epoch)} per epoch (median), {_duration(total)} for all trainings together"


def _report_context(
    results: RunResults, made: Mapping[str, dict[str, Any]], turns: dict[str, Any] | None
) -> dict[str, Any]:
    info, summary = results.info, results.summary
    beside = published_beside(info, results.recipe)
    pooled = summary["pooled"] if summary else None
    measures = results.measures
    main, second = measures.main, measures.second
    controls = controls_beside(results) if summary else None
    baselines = baseline_rows(results, main, second) if summary else []
    two = bool(baselines) or any(getattr(b.result, second.key, None) is not None for b in beside)
    third = MAP if measures.kind == "classification" and any(b.result.map is not None for b in beside) else None
    problems = list((info.get("corpus") or {}).get("problems") or [])
    problems.sort(key=lambda p: p.get("severity") != "error")
    counted = (info.get("corpus") or {}).get("problem_counts")
    # Before there was a table of them, a run listed all its problems.
    counts, table = (counted, "problems.csv") if counted else ([{**p, "items": 1} for p in problems], "run.json")
    more = sum(count["items"] for count in counts) - MAX_PROBLEMS
    speakers = pooled.get("per_speaker", []) if pooled else []
    bins = reliability_bins(results)
    dates = [
        f"run {results.name}",
        f"started {_when(info.get('started'))}" if _when(info.get("started")) else None,
        f"graphophone {info['version']}" if info.get("version") else None,
    ]
    ours = None
    if summary:
        folds = len(results.folds) if results.turns else len({job.fold for job in results.done})
        number = f"{folds} of {len(results.folds)} folds" if _partial(results) else plural(folds, "fold")
        ours = {
            "system": f"{model_title(results)}, {results.name}",
            "main": main.spread(_estimate(results, main)),
            "second": second.spread(_estimate(results, second)),
            "third": third.spread(_estimate(results, third)) if third else "",
            "words": f"{number}, {plural(len(results.scored_seeds), 'seed')}. {_mixing(results)}".strip(),
        }
    context: dict[str, Any] = {
        "title": f"{results.name}: {model_title(results)} on {corpus_of(results)}",
        "run": {
            "title": f"{model_title(results)} on {corpus_of(results)}",
            "kicker": " · ".join(filter(None, dates)),
        },
        "warnings": list(filter(None, [_warning(results), _excluded(results)])),
        "verdict": _verdict(results, beside, controls.sentence if controls else ""),
        "cards": _cards(results),
        "ours": ours,
        "beside": [
            {
                "system": b.result.system,
                "main": published_words(b.result, main),
                "second": published_words(b.result, second),
                "third": published_words(b.result, third) if third else "",
                "source": b.result.source,
                "difference": b.difference,
                "comparable": b.comparable,
            }
            for b in beside
        ]
        if summary
        else [],
        "baselines": baselines,
        "overlap": overlap_section(results),
        "turns": turns,
        "beside_caption": f"This run beside what others report, {main.words if main.short == main.name else main.short}"
        + (f" and {second.short}" if two else "")
        + (" in percent" if main.percent else "")
        + (f", and {third.short}" if third else ""),
        "beside_second": two,
        "beside_third": third.short if third else "",
        "quoted": quoted(info),
        "controls": controls,
        "no_published": f"No result on {corpus_of(results)} with these classes is known to compare with.",
        "unpublished": unpublished(info),
        "measures": measures,
        "scores": _scores(results),
        "scores_caption": _scores_caption(results) if summary else "",
        "seeds_scored": len(results.scored_seeds),
        "folds": _fold_rows(results),
        "folds_caption": f"Every fold{', in percent' if main.percent else ''}"
        + ("; mean ± standard deviation over seeds" if len(results.seeds) > 1 else "")
        + f". {kept_words(results) or 'The epoch kept is the one that validation items chose.'}",
        "folds_have_speakers": bool(speakers),
        "validated": results.validated,
        "class_columns": _CLASS_COLUMNS[measures.kind],
        "per_class": _class_rows(results),
        "classes_caption": _classes_caption(results) if summary else "",
        "classes_folded": len(results.classes) > MAX_CLASSES,
        "confusions": _confusions(results),
        "support_words": support_words(results) if {"support", "sizes"} & set(made) else "",
        "threshold_words": threshold_words(results) if "thresholds" in made else "",
        "per_speaker": [
            {"speaker": row["speaker"], "n": f"{row['n']:,}", "ua": percent(row["ua"]), "wa": percent(row["wa"])}
            for row in speakers[:MAX_PROBLEMS]
        ],
        "speakers_words": speaker_words(speakers) if speakers else "",
        "speakers_left_out": (
            f"{len(speakers) - MAX_PROBLEMS} more speakers are in predictions.csv."
            if len(speakers) > MAX_PROBLEMS
            else ""
        ),
        "state_words": state_words(results) if summary else "",
        "draw_words": draw_words(results) if summary else "",
        "calibration_words": calibration_words(results, bins) if bins else "",
        "facts": _facts(results),
        "protocol_notes": list((info.get("protocol") or {}).get("notes") or []),
        "problems": [
            {
                "item": p.get("item", ""),
                "row": DASH if p.get("row") is None else p["row"],
                "severity": "left out" if p.get("severity") == "error" else "used, look at it",
                "reason": p.get("reason", ""),
            }
            for p in problems[:MAX_PROBLEMS]
        ],
        "problems_words": _problems_words(counts),
        "problems_more": f"{more:,} more are in {table}." if more > 0 else "",
        "recipe": results.recipe_text,
        "figures": {
            name: made.get(name)
            for name in (
                *("confusion", "sizes", "ranking", "precision", "support", "thresholds"),
                *("speakers", "turns", "dialogue", "reliability", "states", "curves", "similarity", "spectrogram"),
            )
        },
    }
    sections = [
        ("results", "Results", bool(summary)),
        ("overlap", "Test and training", context["overlap"] is not None),
        ("classes", "Classes", bool(context["per_class"])),
        ("thresholds", "Thresholds", "thresholds" in made),
        ("speakers", "Speakers", bool(speakers)),
        ("conversations", "Conversations", turns is not None),
        ("calibration", "Calibration", "reliability" in made),
        ("states", "States", bool(context["state_words"] or context["draw_words"] or "states" in made)),
        ("noise", "Noise", "robustness" in made),
        ("training", "Training", "curves" in made),
        ("spectrogram", "What the network reads", "spectrogram" in made),
        ("similarity", "Similarity of frames", "similarity" in made),
        ("run", "What was run", True),
        ("problems", "Problems in the data", True),
        ("recipe", "Recipe", bool(results.recipe_text)),
    ]
    context["sections"] = [(anchor, name) for anchor, name, there in sections if there]
    return context


_CLASS_COLUMNS = {
    "classification": ("Recall", "Precision", "F1", "Items", "AP", "AUC"),
    "tagging": ("AP", "AUC", "Precision", "Recall", "F1", "Positives"),
}


def _class_rows(results: RunResults) -> list[dict[str, Any]]:
    """One row per class, in the order of :data:`_CLASS_COLUMNS`."""
    if results.summary is None:
        return []
    rows = results.summary["pooled"]["per_class"]
    if results.measures.kind == "tagging":
        if len(rows) > MAX_CLASSES:  # nobody knows the order of so many
            rows = sorted(rows, key=lambda row: -1.0 if row["ap"] is None else row["ap"], reverse=True)
        keys = ("ap", "auc", "precision", "recall", "f1")
        return [
            {
                "name": row["class"],
                "cells": [*(DASH if row[key] is None else f"{row[key]:.3f}" for key in keys), f"{row['support']:,}"],
            }
            for row in rows
        ]
    return [
        {
            "name": row["class"],
            "cells": [
                *(percent(row[key]) for key in ("recall", "precision", "f1")),
                f"{row['support']:,}",
                *(DASH if mean[key] is None else f"{mean[key]:.3f}" for key in ("ap", "auc")),
            ],
        }
        for row, mean in zip(rows, class_rows(results), strict=True)
    ]


def _classes_caption(results: RunResults) -> str:
    several = len(results.scored_seeds) > 1
    if results.measures.kind == "tagging":
        threshold = results.summary["pooled"]["threshold"] if results.summary else 0.5
        return (
            f"Every class{', best first' if len(results.classes) > MAX_CLASSES else ''}"
            f"{'; means over the seeds' if several else ''}. Precision, recall and F1 of tags given from "
            f"a probability of {threshold:g} on."
        )
    together = "; all seeds together, AP and AUC means over them" if several else ""
    return f"Every class, in percent but for AP and AUC{together}"


def _excluded(results: RunResults) -> str:
    """Which classes no number speaks of; empty where there is none."""
    names = (results.summary or {}).get("pooled", {}).get("excluded") or []
    if not names:
        return ""
    if len(names) == 1:
        return (
            f"The class {names[0]} has no positive test item, so its average precision is not defined and every mean "
            "over classes leaves it out."
        )
    return (
        f"{len(names)} classes have no positive test item, so their average precision is not defined and every mean "
        f"over classes leaves them out: {listed(names, 20)}."
    )


def _confusions(results: RunResults, least: int = 15, most: int = 12) -> list[dict[str, str]]:
    """The most frequent mistakes, where there are too many classes to find them in the matrix."""
    if results.summary is None or results.measures.kind == "tagging" or len(results.classes) < least:
        return []
    counts = np.array(results.summary["pooled"]["confusion"])
    support = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:most]
    pairs = [divmod(int(place), len(results.classes)) for place in order]
    return [
        {
            "true": results.classes[true],
            "predicted": results.classes[predicted],
            "n": f"{counts[true, predicted]:,}",
            "share": percent(counts[true, predicted] / support[true]),
        }
        for true, predicted in pairs
        if counts[true, predicted]
    ]


def _cards(results: RunResults) -> list[dict[str, str]]:
    if results.summary is None:
        return []
    cards = []
    for measure in results.measures.cards:
        e, f = _estimate(results, measure), _over_folds(results, measure)
        detail = ""
        if e is None:
            detail = "not defined: the ranking has no error"
        elif e.low is not None:
            detail = f"{measure.write(e.low)} to {measure.write(e.high)}, {e.n} seeds"
        elif f is not None and f.sd is not None:
            detail = f"SD over {f.n} folds {measure.write(f.sd)}"
        cards.append({"name": measure.name, "value": measure.say(None if e is None else e.mean), "detail": detail})
    return cards


def _problems_words(counts: Sequence[Mapping[str, Any]]) -> str:
    """How many items were left out and how many should be looked at, of the numbers of each kind of problem."""
    out = sum(count["items"] for count in counts if count.get("severity") == "error")
    used = sum(count["items"] for count in counts) - out
    parts = []
    if out:
        parts.append(f"{plural(out, 'item')} could not be used and {'was' if out == 1 else 'were'} left out")
    if used:
        parts.append(f"{plural(used, 'item')} {'was' if used == 1 else 'were'} used but should be looked at")
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""
