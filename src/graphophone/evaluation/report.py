"""The report of a run and the comparison of several, each as one HTML file.

A report needs nothing but itself: figures are inside, there is no script and no address of another file.
Every text that comes from data (names of classes, speakers, files) is escaped.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from graphophone import __version__
from graphophone.evaluation import figures as draw
from graphophone.evaluation.metrics import SCALARS, reliability, summarize
from graphophone.evaluation.protocols import natural_key
from graphophone.evaluation.published import corpus_title, published_beside, published_series
from graphophone.evaluation.results import JobResult, ResultsError, RunResults, flatten, varied
from graphophone.evaluation.statistics import Estimate, compare_paired, interval

DASH = "–"
MAX_PROBLEMS = 200
_NAMES = {
    "ua": "Unweighted accuracy (UA)",
    "wa": "Weighted accuracy (WA)",
    "weighted_f1": "Weighted F1",
    "macro_f1": "Macro F1",
    "ece": "Calibration error (ECE)",
}
_MODELS = {"glnn": "GLNN"}


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
    made = _figures(results)
    for name, entry in made.items():
        draw.save_png(entry["figure"], results.folder / "figures" / f"{name}.png")
        entry["svg"] = Markup(draw.to_svg(entry["figure"], name))  # noqa: S704 - matplotlib escapes text
    page = _render("report.html.j2", **_report_context(results, made))
    return _write(results.folder / "report.html", page)


def _render(template: str, **context: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(version=__version__, **context)


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, "utf-8")
    temporary.replace(path)
    return path


# ---------------------------------------------------------------- numbers and words


def _percent(value: float | None, digits: int = 1) -> str:
    return DASH if value is None else f"{100 * value:.{digits}f}"


def _partial(results: RunResults) -> bool:
    """Whether no seed has all its folds yet, so that the numbers are of a part of the test items."""
    return bool(set(results.scored_seeds) & {seed for _, seed in results.missing})


def _estimate(results: RunResults, key: str) -> Estimate:
    """A headline estimate; without spread as long as no seed has all its folds, since seeds then differ in folds."""
    assert results.summary is not None  # noqa: S101 - callers look first
    estimate = Estimate.from_dict(results.summary[key])
    if _partial(results):
        return Estimate(estimate.mean, None, None, None, estimate.n)
    return _cut(estimate)


def _cut(estimate: Estimate) -> Estimate:
    """An interval of a rate without what lies below 0 or above 1."""
    if estimate.low is None or estimate.high is None:
        return estimate
    return replace(estimate, low=max(estimate.low, 0.0), high=min(estimate.high, 1.0))


def _plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _listed(words: Sequence[str], limit: int = 8) -> str:
    if len(words) > limit:
        return f"{', '.join(words[:limit])} and {len(words) - limit} more"
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


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
    rest = [f"{key} = {_plain(value)}" for key, value in values.items() if value not in (None, [], (), {})]
    return f"{name} ({', '.join(rest)})" if rest else name


def _plain(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_plain, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _when(value: Any) -> str | None:
    """An ISO time as people read it; None where there is none or it is not one."""
    try:
        return datetime.fromisoformat(str(value)).strftime("%d %B %Y, %H:%M %Z").strip().lstrip("0")
    except ValueError:
        return None


def _model_title(results: RunResults) -> str:
    name = str((results.info.get("model") or {}).get("name") or "model")
    return _MODELS.get(name, name)


def _corpus_title(results: RunResults) -> str:
    return corpus_title(str((results.info.get("corpus") or {}).get("name") or "unnamed corpus"))


def _mixing(results: RunResults) -> str:
    protocol = results.info.get("protocol") or {}
    mixes = protocol.get("mixes_speakers")
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


# ---------------------------------------------------------------- context of the report


def _data_words(results: RunResults) -> str:
    corpus = results.info.get("corpus") or {}
    parts = []
    if corpus.get("items"):
        parts.append(_plural(int(corpus["items"]), "item"))
    parts.append(f"{len(results.classes)} classes")
    if corpus.get("speakers"):
        parts.append(_plural(int(corpus["speakers"]), "speaker"))
    return ", ".join(parts)


def _verdict(results: RunResults, beside: Sequence[Any]) -> str:
    model, data = _model_title(results), f"{_corpus_title(results)} ({_data_words(results)})"
    if results.summary is None:
        return f"{model} on {data}: no training has finished yet, so there is no result."
    ua, wa = _estimate(results, "ua"), _estimate(results, "wa")
    if _partial(results):
        spread = (
            f"on {len(results.done)} of {len(results.folds) * len(results.seeds)} trainings, the others are to come"
        )
    elif ua.low is not None and ua.high is not None:
        spread = f"95 % interval over {ua.n} seeds {100 * ua.low:.1f} to {100 * ua.high:.1f}"
    else:
        spread = "one seed, so without an interval"
    sentences = [
        f"On {data}, {model} reaches an unweighted accuracy of {100 * ua.mean:.1f} % ({spread}) and a "
        "weighted accuracy "
        f"of {100 * wa.mean:.1f} %. Guessing would give {100 / max(len(results.classes), 1):.1f} %.",
        _mixing(results),
    ]
    comparable = [b.result for b in beside if b.comparable and b.result.ua is not None]
    if comparable and not _partial(results):
        best = max(comparable, key=lambda p: p.ua)
        gap = 100 * ua.mean - best.ua
        where = "above" if gap > 0 else "below"
        inside = ua.low is not None and ua.high is not None and 100 * ua.low <= best.ua <= 100 * ua.high
        sentences.append(
            f"The unweighted accuracy is {abs(gap):.1f} points {where} the best comparable result, {best.system} "
            f"({best.ua:.1f} %{', which lies within the interval' if inside else ''})."
        )
    rows = [r for r in results.summary["pooled"]["per_class"] if r["recall"] is not None]
    if len(rows) > 1:
        rows.sort(key=lambda r: r["recall"])
        low, high = rows[0], rows[-1]
        sentences.append(
            f"Best recognised is {high['class']} ({100 * high['recall']:.0f} %), worst {low['class']} "
            f"({100 * low['recall']:.0f} %){_mistaken(results, low['class'])}."
        )
    return " ".join(sentences)


def _mistaken(results: RunResults, name: str) -> str:
    """What a class is most often taken for, as a clause; empty where it is never mistaken."""
    assert results.summary is not None  # noqa: S101 - callers look first
    row = results.classes.index(name)
    counts = np.array(results.summary["pooled"]["confusion"][row])
    total = counts.sum()
    counts[row] = 0
    other = int(counts.argmax())
    if not counts[other]:
        return ""
    return f", most often taken for {results.classes[other]} ({100 * counts[other] / total:.0f} %)"


def _warning(results: RunResults) -> str:
    if results.complete:
        return ""
    total = len(results.folds) * len(results.seeds)
    if not results.done:
        return f"This run is unfinished: none of its {_plural(total, 'training')} is done."
    missing = [f"{fold} with seed {seed}" for fold, seed in results.missing]
    text = f"This run is unfinished: {len(results.done)} of {total} trainings are done; missing: {_listed(missing)}. "
    if _partial(results):
        return text + "The numbers are of the folds done so far and will change."
    return text + f"The numbers are of {_seeds(results.scored_seeds)}, with all folds done."


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"the seeds {_listed([str(s) for s in seeds])}"


def _scores(results: RunResults) -> list[dict[str, str]]:
    if results.summary is None:
        return []
    rows = []
    for key, name in _NAMES.items():
        e, f = _estimate(results, key), Estimate.from_dict(results.summary["over_folds"][key])
        rows.append(
            {
                "name": name,
                "mean": _percent(e.mean),
                "sd": _percent(e.sd),
                "interval": DASH if e.low is None else f"{_percent(e.low)} to {_percent(e.high)}",
                "fold_mean": _percent(f.mean) if f.n > 1 else DASH,
                "fold_sd": _percent(f.sd),
            }
        )
    validation = [
        job.metrics["validation"]["ua"]
        for job in results.done
        if job.metrics is not None and job.seed in results.scored_seeds and "validation" in job.metrics
    ]
    if validation:
        e = interval(validation)
        blank = {"mean": DASH, "sd": DASH, "interval": DASH}
        rows.append(
            {"name": "UA on validation items", **blank, "fold_mean": _percent(e.mean), "fold_sd": _percent(e.sd)}
        )
    return rows


def _scores_caption(results: RunResults) -> str:
    seeds, folds = len(results.scored_seeds), len({job.fold for job in results.done})
    pooled = "" if folds == 1 else f" Within a seed the test items of the {folds} folds are pooled and scored once."
    alone = " With one seed there is no spread over seeds." if seeds == 1 else ""
    return f"Test items, in percent, over {_plural(seeds, 'seed')}.{pooled}{alone}"


def _spread(values: Sequence[float | None], digits: int = 1) -> str:
    known = [v for v in values if v is not None]
    if not known:
        return DASH
    e = interval(known)
    if e.sd is None:
        return _percent(e.mean, digits)
    return f"{_percent(e.mean, digits)} ± {_percent(e.sd, digits)}"


def _range(values: Sequence[int | None]) -> str:
    known = sorted(v for v in values if v is not None)
    if not known:
        return DASH
    return str(known[0]) if known[0] == known[-1] else f"{known[0]} to {known[-1]}"


def _keeps_last(results: RunResults) -> bool:
    """Whether the recipe keeps the last epoch in place of the best one on validation items."""
    return (results.recipe.get("training") or {}).get("selection") == "last"


def _fold_rows(results: RunResults) -> list[dict[str, str]]:
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
                "speakers": (_listed(speakers, 6) if same else "differ by seed") if speakers else DASH,
                "ua": _spread([m.get("ua") for m in metrics]),
                "wa": _spread([m.get("wa") for m in metrics]),
                "validation": _spread([(m.get("validation") or {}).get("ua") for m in metrics]),
                "best": _range([None if b is None else int(b) + 1 for b in best]),
                "epochs": _range([m.get("epochs") for m in metrics]),
                "seconds": _duration(float(np.mean(seconds))) if seconds else DASH,
            }
        )
    return rows


def _speaker_words(rows: Sequence[Mapping[str, Any]]) -> str:
    values = np.array([row["ua"] for row in rows])
    low, high = rows[int(values.argmin())], rows[int(values.argmax())]
    if len(rows) == 1:
        return f"There is one test speaker, {low['speaker']}."
    return (
        f"Over {len(rows)} test speakers the unweighted accuracy has a mean of {100 * values.mean():.1f} % "
        f"and a standard deviation of {100 * values.std(ddof=1):.1f} points: from {100 * low['ua']:.0f} % "
        f"(speaker {low['speaker']}) to {100 * high['ua']:.0f} % (speaker {high['speaker']})."
    )


def _calibration_words(results: RunResults, bins: Sequence[Mapping[str, Any]]) -> str:
    assert results.summary is not None  # noqa: S101 - callers look first
    n = sum(b["n"] for b in bins)
    confidence = sum(b["n"] * b["confidence"] for b in bins if b["n"]) / n
    accuracy = sum(b["n"] * b["accuracy"] for b in bins if b["n"]) / n
    gap = 100 * (confidence - accuracy)
    manner = "about right" if abs(gap) < 2 else "over-confident" if gap > 0 else "under-confident"
    return (
        f"On average the model gives its answer a probability of {100 * confidence:.1f} % and is right in "
        f"{100 * accuracy:.1f} % of the cases: it is {manner}. The expected calibration error is "
        f"{100 * results.summary['pooled']['ece']:.1f} %, the Brier score "
        f"{results.summary['pooled']['brier']:.3f}."
    )


def _facts(results: RunResults) -> list[tuple[str, str]]:
    info = results.info
    corpus, protocol = info.get("corpus") or {}, info.get("protocol") or {}
    model, features, machine = info.get("model") or {}, info.get("features") or {}, info.get("machine") or {}
    facts: list[tuple[str, str | None]] = [("Recipe", info.get("description") or None)]
    hours = f", {corpus['hours']:.2f} h" if corpus.get("hours") else ""
    facts.append(("Data", f"{_corpus_title(results)}: {_data_words(results)}{hours}"))
    facts.append(("Classes", ", ".join(results.classes) or None))
    facts += [("Licence", corpus.get("licence")), ("Citation", corpus.get("citation"))]
    described = protocol.get("description")
    facts.append(("Protocol", " ".join(filter(None, [f"{protocol.get('name')}.", described])) if protocol else None))
    if protocol.get("mixes_speakers") is None or "peaker" not in (described or ""):
        facts.append(("Speakers", _mixing(results)))
    facts.append(("Seeds", ", ".join(map(str, results.seeds)) or None))
    own = {key: value for key, value in features.items() if key not in {"x_real_time", "cached", "dims"}}
    dims = f", {features['dims']} values per frame" if features.get("dims") else ""
    facts.append(("Features", _configuration(own) + dims if own else None))
    facts.append(("Graph", _configuration(info.get("graph")) if info.get("graph") else None))
    options = results.recipe.get("model") or {"name": model.get("name"), **(model.get("options") or {})}
    facts.append(("Model", _configuration(options) if options.get("name") else None))
    facts.append(("Parameters", f"{int(model['parameters']):,}" if model.get("parameters") else None))
    facts.append(("Training speed", _speed(results)))
    speed = features.get("x_real_time")
    if speed:
        cached, items = int(features.get("cached") or 0), int(corpus.get("items") or 0)
        words = f"{float(speed):,.0f} times faster than real time"
        if cached and cached >= items:
            words = f"read from the cache, {words}"
        elif cached:
            words = f"{words}; {_plural(cached, 'item')} came from the cache"
        facts.append(("Feature extraction", words))
    cores = f"{machine['cores']} cores" if machine.get("cores") else None
    threads = f"{_plural(int(machine['threads']), 'thread')} per training" if machine.get("threads") else None
    facts.append(("Machine", ", ".join(filter(None, [machine.get("cpu"), cores, threads])) or None))
    torch = f"PyTorch {machine['torch']}" if machine.get("torch") else None
    version = f"graphophone {info['version']}" if info.get("version") else None
    facts.append(("Versions", ", ".join(filter(None, [version, torch])) or None))
    facts.append(("Started", _when(info.get("started"))))
    facts.append(("Finished", _when(info.get("finished"))))
    return [(name, value) for name, value in facts if value]


def _speed(results: RunResults) -> str | None:
    epoch = results.seconds_per_epoch()
    if epoch is None:
        return None
    total = sum(float(job.curves["seconds"].sum()) for job in results.jobs if job.curves is not None)
    return f"{_duration(epoch)} per epoch (median), {_duration(total)} for all trainings together"


def _report_context(results: RunResults, made: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    info, summary = results.info, results.summary
    beside = published_beside(info, results.recipe)
    pooled = summary["pooled"] if summary else None
    problems = list((info.get("corpus") or {}).get("problems") or [])
    problems.sort(key=lambda p: p.get("severity") != "error")
    speakers = pooled["per_speaker"] if pooled else []
    bins = _bins(results)
    dates = [
        f"run {results.name}",
        f"started {_when(info.get('started'))}" if _when(info.get("started")) else None,
        f"graphophone {info['version']}" if info.get("version") else None,
    ]
    ours = None
    if summary:
        folds = len({job.fold for job in results.done})
        number = f"{folds} of {len(results.folds)} folds" if _partial(results) else _plural(folds, "fold")
        ours = {
            "system": f"{_model_title(results)}, {results.name}",
            "ua": _ours(_estimate(results, "ua")),
            "wa": _ours(_estimate(results, "wa")),
            "words": f"{number}, {_plural(len(results.scored_seeds), 'seed')}. {_mixing(results)}",
        }
    context: dict[str, Any] = {
        "title": f"{results.name}: {_model_title(results)} on {_corpus_title(results)}",
        "run": {
            "title": f"{_model_title(results)} on {_corpus_title(results)}",
            "kicker": " · ".join(filter(None, dates)),
        },
        "warning": _warning(results),
        "verdict": _verdict(results, beside),
        "cards": _cards(results),
        "ours": ours,
        "beside": [
            {
                "system": b.result.system,
                "ua": DASH if b.result.ua is None else f"{b.result.ua:.1f}",
                "wa": DASH if b.result.wa is None else f"{b.result.wa:.1f}",
                "source": b.result.source,
                "difference": b.difference,
                "comparable": b.comparable,
            }
            for b in beside
        ]
        if summary
        else [],
        "no_published": f"No result on {_corpus_title(results)} with these classes is known to compare with.",
        "scores": _scores(results),
        "scores_caption": _scores_caption(results) if summary else "",
        "seeds_scored": len(results.scored_seeds),
        "folds": _fold_rows(results),
        "folds_caption": "Every fold, in percent"
        + ("; mean ± standard deviation over seeds" if len(results.seeds) > 1 else "")
        + (
            ". The last epoch is kept, whatever its validation result."
            if _keeps_last(results)
            else ". The epoch kept is the one that validation items chose."
        ),
        "folds_have_speakers": bool(speakers),
        "per_class": [
            {
                "name": row["class"],
                "recall": _percent(row["recall"]),
                "precision": _percent(row["precision"]),
                "f1": _percent(row["f1"]),
                "support": f"{row['support']:,}",
            }
            for row in (pooled["per_class"] if pooled else [])
        ],
        "per_speaker": [
            {"speaker": row["speaker"], "n": f"{row['n']:,}", "ua": _percent(row["ua"]), "wa": _percent(row["wa"])}
            for row in speakers[:MAX_PROBLEMS]
        ],
        "speakers_words": _speaker_words(speakers) if speakers else "",
        "speakers_left_out": (
            f"{len(speakers) - MAX_PROBLEMS} more speakers are in predictions.csv."
            if len(speakers) > MAX_PROBLEMS
            else ""
        ),
        "calibration_words": _calibration_words(results, bins) if bins else "",
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
        "problems_words": _problems_words(problems),
        "problems_more": (
            f"{len(problems) - MAX_PROBLEMS:,} more are in run.json." if len(problems) > MAX_PROBLEMS else ""
        ),
        "recipe": results.recipe_text,
        "figures": {name: made.get(name) for name in ("confusion", "speakers", "reliability", "curves", "similarity")},
    }
    sections = [
        ("results", "Results", bool(summary)),
        ("classes", "Classes", bool(context["per_class"])),
        ("speakers", "Speakers", bool(speakers)),
        ("calibration", "Calibration", "reliability" in made),
        ("training", "Training", "curves" in made),
        ("similarity", "Similarity of frames", "similarity" in made),
        ("run", "What was run", True),
        ("problems", "Problems in the data", True),
        ("recipe", "Recipe", bool(results.recipe_text)),
    ]
    context["sections"] = [(anchor, name) for anchor, name, there in sections if there]
    return context


def _ours(estimate: Estimate) -> str:
    if estimate.sd is None:
        return _percent(estimate.mean)
    return f"{_percent(estimate.mean)} ± {_percent(estimate.sd)}"


def _cards(results: RunResults) -> list[dict[str, str]]:
    if results.summary is None:
        return []
    cards = []
    for key in ("ua", "wa", "macro_f1", "ece"):
        e = _estimate(results, key)
        f = Estimate.from_dict(results.summary["over_folds"][key])
        detail = ""
        if e.low is not None:
            detail = f"{_percent(e.low)} to {_percent(e.high)}, {e.n} seeds"
        elif f.sd is not None:
            detail = f"SD over {f.n} folds {_percent(f.sd)}"
        cards.append({"name": _NAMES[key], "value": f"{_percent(e.mean)} %", "detail": detail})
    return cards


def _problems_words(problems: Sequence[Mapping[str, Any]]) -> str:
    out = sum(p.get("severity") == "error" for p in problems)
    used = len(problems) - out
    parts = []
    if out:
        parts.append(f"{_plural(out, 'item')} could not be used and {'was' if out == 1 else 'were'} left out")
    if used:
        parts.append(f"{_plural(used, 'item')} {'was' if used == 1 else 'were'} used but should be looked at")
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


# ---------------------------------------------------------------- figures


def _bins(results: RunResults) -> list[dict[str, Any]]:
    table = results.predictions()
    if not len(table):
        return []
    index = {name: i for i, name in enumerate(results.classes)}
    target = table["label"].map(index).to_numpy()
    return reliability(target, table[[f"p_{name}" for name in results.classes]].to_numpy(np.float64))


def _figures(results: RunResults) -> dict[str, dict[str, Any]]:
    """Figures by name, each with the words that a reader who cannot see it needs, and a caption."""
    made: dict[str, dict[str, Any]] = {}

    def add(name: str, figure: Figure, label: str, caption: str) -> None:
        made[name] = {"figure": figure, "label": label, "caption": caption}

    summary = results.summary
    if summary is not None:
        pooled = summary["pooled"]
        recalls = ", ".join(
            f"{row['class']} {100 * row['recall']:.0f} %" for row in pooled["per_class"] if row["recall"] is not None
        )
        together = f", all {len(results.scored_seeds)} seeds together" if len(results.scored_seeds) > 1 else ""
        add(
            "confusion",
            draw.confusion(pooled["confusion"], results.classes),
            f"Confusion matrix. Recall of the classes: {recalls}.",
            "Of the items of each true class (row), how many percent were recognised as what"
            f"{', and below the count' if len(results.classes) <= 12 else ''}{together}.",
        )
        if pooled["per_speaker"]:
            add(
                "speakers",
                draw.speaker_bars(pooled["per_speaker"]),
                f"Bars of the unweighted accuracy of each speaker. {_speaker_words(pooled['per_speaker'])}",
                "Unweighted accuracy of each test speaker; the line is the mean over speakers.",
            )
        bins = _bins(results)
        add(
            "reliability",
            draw.reliability_diagram(bins, pooled["ece"]),
            f"Reliability diagram. {_calibration_words(results, bins)}",
            "Accuracy of the answers given with each confidence (above), and how often it is given (below). "
            "Bars under "
            "the diagonal mean over-confidence.",
        )
    curves = {
        f"{job.fold}, seed {job.seed}": job.curves for job in results.jobs if job.curves is not None and len(job.curves)
    }
    if curves:
        selected = {f"{job.fold}, seed {job.seed}": (job.metrics or {}).get("best_epoch") for job in results.jobs}
        many = (
            f"Thin lines are the {len(curves)} trainings, thick lines their mean over the epochs that all reached. "
            if len(curves) > 1
            else ""
        )
        last = [table["validation_ua"].max() for table in curves.values() if "validation_ua" in table]
        best = f" The highest validation accuracy is {100 * max(last):.1f} %." if last else ""
        add(
            "curves",
            draw.learning_curves(curves, selected),
            f"Learning curves of {_plural(len(curves), 'training')}: loss and unweighted accuracy over epochs.{best}",
            f"{many}Dots mark the epochs whose weights were kept; "
            + (
                "it is the last one, whatever its validation result."
                if _keeps_last(results)
                else "validation items chose them, test items did not."
            ),
        )
    if "x" in results.sample and results.sample["x"].ndim == 2 and len(results.sample["x"]) > 1:
        hop = float(results.sample["hop"]) if "hop" in results.sample else 0.0
        item = str(results.sample["id"]) if "id" in results.sample else ""
        label = f" ({results.sample['label']})" if "label" in results.sample else ""
        named = f" of the utterance {item}{label}" if item else " of one utterance"
        graph = str((results.info.get("graph") or {}).get("name") or "")
        similar = (
            " The graph connects each frame with those most similar to it: bright spots off the diagonal are frames "
            "far apart that sound alike."
            if graph in {"cycle_topk", "topk", "knn", "cosine_threshold"}
            else ""
        )
        add(
            "similarity",
            draw.similarity_heat_map(results.sample["x"], hop=hop or None),
            f"Heat map of the cosine similarity of all pairs of frames{named}.",
            f"Cosine similarity of all pairs of frames{named}, after standardisation.{similar}",
        )
    return made


# ---------------------------------------------------------------- comparison


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
    return runs


def compare(run_dirs: Iterable[str | Path]) -> pd.DataFrame:
    """Several runs side by side.

    Where the runs have folds and seeds in common, tested on the same items, only those are scored, so that
    every row is about the same test; the column ``shared`` says whether that is so.

    Args:
        run_dirs: Run folders.

    Returns:
        One row per run: ``run``, a column per recipe key that is not the same in all runs
        (``model.pooling``), ``corpus``, ``protocol``, ``folds`` and ``seeds`` (numbers of them that were
        scored), ``parameters``; for each of ``ua``, ``wa``, ``weighted_f1``, ``macro_f1``, ``ece``, ``nll``
        and ``brier`` the mean over seeds and, with ``_sd``, ``_low`` and ``_high``, its standard deviation
        and 95 % interval (NaN with one seed); ``validation_ua``, ``seconds_per_epoch``, ``complete``,
        ``shared``. Rates are fractions.

    Raises:
        ResultsError: If a folder holds no run, or nothing in it has finished.
    """
    return _compare(_read_all(run_dirs))


def _compare(runs: Sequence[RunResults]) -> pd.DataFrame:
    common = _common(runs)
    keys = varied([run.recipe for run in runs])
    rows = []
    for run in runs:
        pairs = common or [(job.fold, job.seed) for job in run.done if job.seed in run.scored_seeds]
        summary = summarize(run.predictions(pairs), run.classes)
        recipe = flatten(run.recipe)
        wanted = set(pairs)
        validation = [
            job.metrics["validation"]["ua"]
            for job in run.done
            if (job.fold, job.seed) in wanted and job.metrics and "validation" in job.metrics
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
        for key in SCALARS:
            estimate = Estimate.from_dict(summary[key])
            row |= {
                key: estimate.mean,
                f"{key}_sd": estimate.sd,
                f"{key}_low": estimate.low,
                f"{key}_high": estimate.high,
            }
        row |= {
            "validation_ua": float(np.mean(validation)) if validation else None,
            "seconds_per_epoch": run.seconds_per_epoch(),
            "complete": run.complete,
            "shared": bool(common),
        }
        rows.append(row)
    frame = pd.DataFrame(rows)
    numbers = [key + end for key in SCALARS for end in ("", "_sd", "_low", "_high")] + ["validation_ua"]
    return frame.astype(dict.fromkeys(numbers, np.float64))


def write_comparison(run_dirs: Iterable[str | Path], output: str | Path) -> Path:
    """Write several runs side by side as one HTML page: poolings, layers, neighbours, systems.

    The run that is called best is the one with the best validation accuracy; test results do not choose.

    Args:
        run_dirs: Run folders.
        output: The page to write, or a folder, in which it becomes ``comparison.html``. The table goes beside
            it as CSV.

    Returns:
        Path of the page.

    Raises:
        ResultsError: If a folder holds no run, or nothing in it has finished.
    """
    runs = _read_all(run_dirs)
    path = Path(output)
    if path.suffix.lower() not in {".html", ".htm"}:
        path = path / "comparison.html"
    table = _compare(runs)
    labels = _labels(table, varied([run.recipe for run in runs]))
    ua, wa = ([_row_estimate(row, key) for row in table.to_dict("records")] for key in ("ua", "wa"))
    same_classes = len({tuple(run.classes) for run in runs}) == 1
    setting = labels[0].partition(" = ")[0] if " = " in labels[0] else ""
    ticks = [label.partition(" = ")[2] if setting else label for label in labels]
    chance = 1 / len(runs[0].classes) if same_classes else None
    figure = draw.estimate_bars(ticks, {"UA": ua, "WA": wa}, chance=chance, xlabel=setting)
    chart = {
        "svg": Markup(draw.to_svg(figure, "comparison")),  # noqa: S704 - matplotlib escapes text
        "label": "Bars of the accuracy of every run: "
        + "; ".join(f"{name}: UA {100 * e.mean:.1f} %" for name, e in zip(labels, ua, strict=True)),
        "caption": "Unweighted and weighted accuracy on test items"
        + (", with 95 % intervals over seeds." if any(e.low is not None for e in ua) else "; one seed, no intervals."),
    }
    page = _render("comparison.html.j2", chart=chart, **_comparison_context(runs, table, labels))
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path.with_suffix(".csv"), index=False)
    return _write(path, page)


def _row_estimate(row: Mapping[Any, Any], key: str) -> Estimate:
    if pd.isna(row[f"{key}_sd"]):
        return Estimate(row[key], None, None, None, 1)
    return _cut(Estimate(row[key], row[f"{key}_sd"], row[f"{key}_low"], row[f"{key}_high"], int(row["seeds"])))


def _signed(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−")


def _labels(table: pd.DataFrame, keys: Sequence[str]) -> list[str]:
    """The varied setting, where there is just one and it tells the runs apart; else the names of the runs."""
    if len(keys) == 1:
        labels = [f"{keys[0].split('.')[-1]} = {_plain(value)}" for value in table[keys[0]]]
        if len(set(labels)) == len(labels):
            return labels
    return [str(name) for name in table["run"]]


def _comparison_context(runs: Sequence[RunResults], table: pd.DataFrame, labels: Sequence[str]) -> dict[str, Any]:
    keys = varied([run.recipe for run in runs])
    records = table.to_dict("records")
    shared = bool(table["shared"].all())
    chosen = int(table["validation_ua"].fillna(-1.0).to_numpy().argmax())
    series: dict[Any, Any] = {}
    if len(keys) == 1 and keys[0] in {"model.pooling", "model.num_layers", "graph.k"}:
        series = published_series(keys[0].split(".")[-1])
    rows = []
    for index, (run, row) in enumerate(zip(runs, records, strict=True)):
        paper = series.get(row[keys[0]]) if series else None
        rows.append(
            {
                "run": row["run"],
                "settings": [_plain(row[key]) if row[key] is not None else DASH for key in keys],
                **{key: _ours(_row_estimate(row, key)) for key in ("ua", "wa")},
                **{key: _percent(row[key]) for key in ("macro_f1", "ece")},
                "validation": DASH if pd.isna(row["validation_ua"]) else _percent(row["validation_ua"]),
                "parameters": DASH if pd.isna(row["parameters"]) else f"{int(row['parameters']):,}",
                "speed": DASH if pd.isna(row["seconds_per_epoch"]) else f"{row['seconds_per_epoch']:.1f}",
                "paper_ua": DASH if paper is None else f"{paper.ua:.1f}",
                "paper_wa": DASH if paper is None else f"{paper.wa:.1f}",
                "best": index == chosen and len(runs) > 1,
                "data": f"{_corpus_title(run)}, {_data_words(run)}",
                "protocol": (run.info.get("protocol") or {}).get("description") or DASH,
                "done": f"{len(run.done)} of {len(run.folds) * len(run.seeds)}",
            }
        )
    papers = [series[row[keys[0]]] for row in records if row[keys[0]] in series] if series else []
    pairs, pairs_words = _pairs(runs, labels, chosen) if shared and len(runs) > 1 else ([], "")
    notes = dict.fromkeys(p.note for p in papers if p.note)
    return {
        "title": "Runs side by side",
        "kicker": f"{_plural(len(runs), 'run')} · varied: {_listed(keys) or 'nothing but the data or the seeds'}",
        "warnings": _comparison_warnings(runs, table, shared),
        "verdict": _comparison_verdict(table, labels, chosen, pairs),
        "varied": keys,
        "rows": rows,
        "caption": "In percent"
        + (", mean ± standard deviation over seeds" if (table["seeds"] > 1).any() else "")
        + (". The shaded run has the best validation accuracy." if len(runs) > 1 else "."),
        "paper": "Paper's" if papers else "",
        "paper_words": (
            f"The paper's figures ({papers[0].source}) are on IEMOCAP, {papers[0].items:,} utterances of 4 "
            "classes, with one random split that mixes speakers and no validation set; compare the order, "
            f"not the values. {' '.join(notes)}"
            if papers
            else ""
        ),
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
                f"Some runs have more trainings than others: only the {_plural(folds, 'fold')} and "
                f"{_plural(seeds, 'seed')} that all of them have done are compared."
            )
    if (table["seeds"] < 2).any():
        warnings.append(
            "With one seed there is no interval: small differences may be chance."
            if (table["seeds"] < 2).all()
            else "Some runs have one seed only and so no interval."
        )
    return warnings


def _pairs(runs: Sequence[RunResults], labels: Sequence[str], chosen: int) -> tuple[list[dict[str, Any]], str]:
    """Every run against the chosen one, on the folds and seeds that all have."""
    common = set(_common(runs))
    scores = [
        {
            (job.fold, job.seed): job.metrics["ua"]
            for job in run.done
            if job.metrics is not None and "ua" in job.metrics and (job.fold, job.seed) in common
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
                "difference": _signed(d.mean)
                + (f" [{_signed(d.low)}, {_signed(d.high)}]" if d.low is not None and d.high is not None else ""),
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
    table: pd.DataFrame, labels: Sequence[str], chosen: int, pairs: Sequence[Mapping[str, Any]]
) -> str:
    row = table.iloc[chosen]
    if len(table) == 1:
        return f"{labels[0]} reaches an unweighted accuracy of {100 * row['ua']:.1f} % on test items."
    if pd.isna(row["validation_ua"]):
        top = int(table["ua"].to_numpy().argmax())
        return (
            f"The highest unweighted accuracy on test items, {100 * table['ua'].iloc[top]:.1f} %, is that of "
            f"{labels[top]}. No validation results were kept, so nothing is chosen."
        )
    text = (
        f"Validation items choose {labels[chosen]} (unweighted accuracy {100 * row['validation_ua']:.1f} %); "
        f"on test items it reaches {100 * row['ua']:.1f} %."
    )
    top = int(table["ua"].to_numpy().argmax())
    if top != chosen:
        text += f" On test items {labels[top]} is higher ({100 * table['ua'].iloc[top]:.1f} %)."
    if pairs and pairs[0]["n"] > 1:
        lower = [p["run"].rpartition(" = ")[2] for p in pairs if p["decided"]]
        text += (
            f" Distinguishable from it, fold by fold: {_listed(lower)}."
            if lower
            else " Fold by fold, no other run can be told apart from it."
        )
    return text
