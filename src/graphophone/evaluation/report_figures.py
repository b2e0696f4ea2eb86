"""The figures of a report, each with the words that a reader who cannot see it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from graphophone.evaluation import figures as draw
from graphophone.evaluation import figures_classes as draw_classes
from graphophone.evaluation import figures_curves as draw_curves
from graphophone.evaluation import figures_states as draw_states
from graphophone.evaluation.curves import MACRO, MICRO, Curve, class_curves, some_of
from graphophone.evaluation.metrics import reliability
from graphophone.evaluation.page import listed, plural, sentence
from graphophone.evaluation.report_nodes import MAP_ITEMS, first_state_map
from graphophone.evaluation.results import RunResults


def keeps_last(results: RunResults) -> bool:
    """Whether the recipe keeps the last epoch in place of the best one on validation items."""
    return (results.recipe.get("training") or {}).get("selection") == "last"


def kept_words(results: RunResults) -> str:
    """Which weights were tested, where validation items did not choose them; a sentence, else empty."""
    training = results.recipe.get("training") or {}
    held = "" if results.validated else "There were no validation items, so nothing was selected. "
    if training.get("averaging") == "epochs":
        first, last = training.get("average_first") or 1, training.get("average_last") or training.get("epochs")
        return f"{held}The weights are the mean of those of epochs {first} to {last}."
    averaged = "a moving average of the weights at the end of " if training.get("averaging") == "ema" else ""
    if not results.validated:
        return f"{held}What is tested is {averaged}the last epoch."
    return "The last epoch is kept, whatever its validation result." if keeps_last(results) else ""


def extremes(results: RunResults) -> str:
    """Best and worst class, in a sentence."""
    assert results.summary is not None  # noqa: S101 - callers look first
    key = "ap" if results.measures.kind == "tagging" else "recall"
    rows = [r for r in results.summary["pooled"]["per_class"] if r[key] is not None]
    if len(rows) < 2:
        return ""
    rows.sort(key=lambda r: r[key])
    low, high = rows[0], rows[-1]
    if key == "ap":
        return (
            f"Best recognised is {high['class']} (average precision {high['ap']:.2f}), worst {low['class']} "
            f"({low['ap']:.2f}, {plural(low['support'], 'positive item')})."
        )
    return (
        f"Best recognised is {high['class']} ({100 * high['recall']:.0f} %), worst {low['class']} "
        f"({100 * low['recall']:.0f} %){_mistaken(results, low['class'])}."
    )


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


def speaker_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """How the speakers differ."""
    values = np.array([row["ua"] for row in rows])
    low, high = rows[int(values.argmin())], rows[int(values.argmax())]
    if len(rows) == 1:
        return f"There is one test speaker, {low['speaker']}."
    return (
        f"Over {len(rows)} test speakers the unweighted accuracy has a mean of {100 * values.mean():.1f} % "
        f"and a standard deviation of {100 * values.std(ddof=1):.1f} points: from {100 * low['ua']:.0f} % "
        f"(speaker {low['speaker']}) to {100 * high['ua']:.0f} % (speaker {high['speaker']})."
    )


def calibration_words(results: RunResults, bins: Sequence[Mapping[str, Any]]) -> str:
    """Whether the model is as sure as it is right."""
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


def reliability_bins(results: RunResults) -> list[dict[str, Any]]:
    """Confidence against accuracy, over all scored predictions; empty for tags."""
    table = results.predictions()
    if not len(table) or results.measures.kind == "tagging":
        return []
    index = {name: i for i, name in enumerate(results.classes)}
    target = table["label"].map(index).to_numpy()
    return reliability(target, table[[f"p_{name}" for name in results.classes]].to_numpy(np.float64))


def class_rows(results: RunResults) -> list[dict[str, Any]]:
    """``class``, ``ap``, ``auc``, ``recall`` and ``support`` of every class: means over seeds, of pooled folds.

    Networks of several seeds are not on one scale, so that their items must not be ranked together.
    """
    assert results.summary is not None  # noqa: S101 - callers look first
    if results.measures.kind == "tagging":
        return list(results.summary["pooled"]["per_class"])
    found = []
    for entries in zip(*(seed["per_class"] for seed in results.summary["per_seed"]), strict=True):
        row: dict[str, Any] = {"class": entries[0]["class"]}
        for key in ("ap", "auc", "recall"):
            known = [entry[key] for entry in entries if entry[key] is not None]
            row[key] = float(np.mean(known)) if known else None
        found.append({**row, "support": round(float(np.mean([entry["support"] for entry in entries])))})
    return found


def support_words(results: RunResults) -> str:
    """Whether classes with more items are recognised better; empty where there is nothing to tell."""
    assert results.summary is not None  # noqa: S101 - callers look first
    rows = [row for row in class_rows(results) if row["ap"] is not None]
    support, ap = [row["support"] for row in rows], [row["ap"] for row in rows]
    if len(rows) < 5 or len(set(ap)) == 1 or len(set(support)) == 1:
        return ""
    noun = "positive test items" if results.measures.kind == "tagging" else "test items"
    rho = float(stats.spearmanr(support, ap).statistic)
    manner = (
        "hardly depends on how many" if abs(rho) < 0.2
        else "is higher the more" if rho > 0
        else "is lower the more"
    )  # fmt: skip
    return f"Over the classes, average precision {manner} {noun} there are (Spearman's rank correlation {rho:.2f})."


def threshold_words(results: RunResults) -> str:
    """What a threshold for giving tags does."""
    table = results.thresholds
    at = int(np.searchsorted(table["threshold"], 0.5))
    best = int(np.nanargmax(table["f1"]))
    given = table["precision"][at]
    half = "no tag would be given" if np.isnan(given) else f"{100 * given:.0f} % of the tags given are right"
    return (
        f"From a probability of 0.5 on, {half} and {100 * table['recall'][at]:.0f} % of the true ones are found. F1 "
        f"over all tags is highest, {table['f1'][best]:.3f}, from {table['threshold'][best]:.2f} on; that is read off "
        "the test items, so take it as a place to start and choose on items of your own."
    )


Add = Callable[[str, Figure, str, str], None]


def _class_figures(results: RunResults, add: Add) -> None:
    """Figures of answers with one label."""
    assert results.summary is not None  # noqa: S101 - callers look first
    pooled = results.summary["pooled"]
    recalls = ", ".join(
        f"{row['class']} {100 * row['recall']:.0f} %" for row in pooled["per_class"] if row["recall"] is not None
    )
    together = f", all {len(results.scored_seeds)} seeds together" if len(results.scored_seeds) > 1 else ""
    count = len(results.classes)
    add(
        "confusion",
        draw.confusion(pooled["confusion"], results.classes),
        f"Confusion matrix. Recall of the classes: {recalls}.",
        "Of the items of each true class (row), how many percent were recognised as what"
        f"{', and below the count' if count <= 12 else ', the darker the more' if count > 24 else ''}{together}.",
    )
    rows = [row for row in class_rows(results) if row["ap"] is not None]
    if results.nodes and len(rows) > 1:
        means = f"; means over {plural(len(results.scored_seeds), 'seed')}" if len(results.scored_seeds) > 1 else ""
        precisions = ", ".join(f"{row['class']} {row['ap']:.2f}" for row in rows)
        add(
            "sizes",
            draw_classes.precision_and_size(rows),
            f"Average precision, recall and number of test items of every class. Average precision: {precisions}.",
            "How well the probability of a class ranks its items above all others (average precision), how many of "
            f"them are recognised (recall), and how many there are{means}.",
        )
    _ranking_figure(results, add)
    if pooled["per_speaker"]:
        add(
            "speakers",
            draw.speaker_bars(pooled["per_speaker"]),
            f"Bars of the unweighted accuracy of each speaker. {speaker_words(pooled['per_speaker'])}",
            "Unweighted accuracy of each test speaker; the line is the mean over speakers.",
        )
    bins = reliability_bins(results)
    add(
        "reliability",
        draw.reliability_diagram(bins, pooled["ece"]),
        f"Reliability diagram. {calibration_words(results, bins)}",
        "Accuracy of the answers given with each confidence (above), and how often it is given (below). "
        "Bars under "
        "the diagonal mean over-confidence.",
    )


def _ranking_figure(results: RunResults, add: Add) -> None:
    """ROC and precision-recall curves of one seed: networks of several are not on one scale."""
    seed = results.scored_seeds[0]
    table = results.predictions((job.fold, job.seed) for job in results.done if job.seed == seed)
    index = {name: i for i, name in enumerate(results.classes)}
    target = table["label"].map(index).to_numpy()
    curves = class_curves(target, table[[f"p_{name}" for name in results.classes]].to_numpy(), results.classes)
    if len(curves) < 2:
        return
    shown = some_of(curves)
    shares = [float(np.mean(target == index[c.name])) for c in shown if c.name not in (MICRO, MACRO)]
    single = len(curves) - 2
    chosen = f"{len(shares)} of {single} classes, from the best to the worst" if single > len(shares) else "Every class"
    without = [name for name in results.classes if name not in {curve.name for curve in curves}]
    nothing = f" Without test items, and so without a curve: {listed(without)}." if without else ""
    several = f" Seed {seed}: networks of several seeds are not on one scale." if len(results.scored_seeds) > 1 else ""
    add(
        "ranking",
        draw_curves.ranking_curves(shown, shares),
        f"ROC and precision-recall curves. {'; '.join(_areas(curve) for curve in shown)}.",
        f"{chosen} against all others, by its probability. AUC is the area under the ROC curve (0.5 by chance), AP the "
        "average precision; short lines at the right edge are precision by chance, the share of the items that a class "
        f"has.{nothing}{several}",
    )


def _areas(curve: Curve) -> str:
    area = "" if curve.auc is None else f"area {curve.auc:.3f}, "
    return f"{curve.name}: {area}average precision {curve.ap:.3f}"


def _tagging_figures(results: RunResults, add: Add) -> None:
    """Figures of tags."""
    assert results.summary is not None  # noqa: S101 - callers look first
    pooled = results.summary["pooled"]
    rows = [row for row in pooled["per_class"] if row["ap"] is not None]
    several = len(results.scored_seeds) > 1
    add(
        "precision",
        draw.class_precision(rows),
        f"Average precision of {results.measures.noun(len(rows))}, best first. {extremes(results)}",
        f"Average precision of every class, best first{'; means over the seeds' if several else ''}. The line is their "
        "mean, the mAP.",
    )
    if len({row["support"] for row in rows}) > 1:
        add(
            "support",
            draw.precision_by_support(rows),
            f"Average precision of each class against its number of positive test items. {support_words(results)}",
            "Every dot is a class. Classes with few positive items are measured less surely, whichever way they fall.",
        )
    add(
        "thresholds",
        draw.threshold_curves(*results.tags_of_first_seed, results.classes, results.thresholds),
        f"Precision against recall of five classes, and precision, recall and F1 over all tags by threshold. "
        f"{threshold_words(results)}",
        "Left: precision against recall of the best, the worst and three classes at the quarters in between, with "
        "their average precision. Right: what giving tags from some probability on does, over all tags of all items; "
        "the dashed line is 0.5." + (f" Seed {results.scored_seeds[0]}." if several else ""),
    )


def make_figures(results: RunResults) -> dict[str, dict[str, Any]]:
    """Figures by name, each with the words that a reader who cannot see it needs, and a caption."""
    made: dict[str, dict[str, Any]] = {}

    def add(name: str, figure: Figure, label: str, caption: str) -> None:
        made[name] = {"figure": figure, "label": label, "caption": caption}

    if results.summary is not None:
        (_tagging_figures if results.measures.kind == "tagging" else _class_figures)(results, add)
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
        selection = results.measures.selection
        column = f"validation_{selection.key}"
        top = [t[column].max() for t in curves.values() if column in t and t[column].notna().any()]
        best = f" The highest validation {selection.words} is {selection.say(max(top))}." if top else ""
        if not top:
            kept = kept_words(results) or "No validation result has come in yet."
        elif (results.recipe.get("training") or {}).get("averaging") == "epochs":
            kept = kept_words(results)
        else:
            kept = "Dots mark the epochs whose weights were kept; " + (
                "it is the last one, whatever its validation result."
                if keeps_last(results)
                else "validation items chose them, test items did not."
            )
        drawn = any(c in t for t in curves.values() for c in (column, f"train_{selection.key}"))
        add(
            "curves",
            draw.learning_curves(
                curves,
                selected if top and kept != kept_words(results) else None,
                key=selection.key,
                title=f"{sentence(selection.words)}{', %' if selection.percent else ''}",
                scale=100.0 if selection.percent else 1.0,
            ),
            f"Learning curves of {plural(len(curves), 'training')}: loss{f' and {selection.words}' if drawn else ''} "
            f"over epochs.{best}",
            f"{many}{kept}",
        )
    if results.summary is not None:
        _state_figure(results, add)
    # Of an item that is one vector there is nothing to draw.
    if not results.nodes and "x" in results.sample and results.sample["x"].ndim == 2 and len(results.sample["x"]) > 1:
        (_spectrogram_figure if reads_spectrograms(results) else _similarity_figure)(results, add)
    return made


def reads_spectrograms(results: RunResults) -> bool:
    """Whether the model reads spectrograms, and makes its graph itself."""
    return (results.recipe.get("task") or {}).get("name") in {"clip_classification", "clip_tagging"}


def _state_figure(results: RunResults, add: Add) -> None:
    found = first_state_map(results)
    if found is None:
        return
    part = f"{len(found.points):,} of {found.total:,}" if found.total > MAP_ITEMS else f"the {found.total:,}"
    add(
        "states",
        draw_states.state_map(found.points, found.labels, results.classes),
        f"Map of the states of {part} test items of {found.training}, coloured by true class.",
        f"States of {part} test items of {found.training}, by true class, in two dimensions by t-SNE (perplexity 30). "
        "Each training has a space of its own, so this is the first one. Neighbours in the map are neighbours for the "
        "network; sizes of groups and distances between them mean nothing.",
    )


def _sample_words(results: RunResults) -> str:
    """Which item the sample is, as a clause."""
    item = str(results.sample["id"]) if "id" in results.sample else ""
    label = f" ({results.sample['label']})" if "label" in results.sample else ""
    noun = "clip" if results.measures.sounds else "utterance"
    return f" of the {noun} {item}{label}" if item else f" of one {noun}"


def _spectrogram_figure(results: RunResults, add: Add) -> None:
    x = results.sample["x"]
    hop = float(results.sample["hop"]) if "hop" in results.sample else 0.0
    named = _sample_words(results)
    frames = int((results.recipe.get("features") or {}).get("frames") or 0)
    fitted = ""
    if frames > len(x):
        fitted = f" The network reads {frames:,} frames: the other {frames - len(x):,} are padding."
    elif 0 < frames < len(x):
        fitted = f" The network reads {frames:,} of its {len(x):,} frames."
    add(
        "spectrogram",
        draw_states.spectrogram(x, hop=hop or None),
        f"Spectrogram{named}, {len(x):,} frames of {x.shape[1]} bands.",
        f"Spectrogram{named}, a training item of median length, as the network reads it: {len(x):,} frames of "
        f"{x.shape[1]} bands, standardised.{fitted}",
    )


def _similarity_figure(results: RunResults, add: Add) -> None:
    hop = float(results.sample["hop"]) if "hop" in results.sample else 0.0
    named = _sample_words(results)
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
