"""Figures of a report. Every function returns a matplotlib ``Figure`` and touches no global state.

Colours are those of Okabe and Ito, which people with any of the common colour vision deficiencies can tell
apart. ``save_png`` writes a figure for a page of paper, ``to_svg`` makes one that follows the light or dark
page it is in.
"""

from __future__ import annotations

import functools
import io
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve

from graphophone.evaluation.ranking import rank_rows
from graphophone.evaluation.statistics import Estimate

BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION = "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"

# Stand-ins that `to_svg` turns into the colours of the page; no other part of a figure may use them.
INK, MUTED, GRID = "#1d2530", "#5b6673", "#d9dfe5"
_PAGE_COLOURS = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--line)"}

# Opacity rather than a ramp from white: the page shows through, light or dark.
_OPACITY = LinearSegmentedColormap.from_list("opacity", [(*to_rgb(BLUE), 0.0), (*to_rgb(BLUE), 1.0)])

STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a class named "$x$" is a name
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.unicode_minus": True,
    "axes.formatter.useoffset": False,
    "figure.facecolor": "white",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
}

P = ParamSpec("P")


def styled(make: Callable[P, Figure]) -> Callable[P, Figure]:
    """Run with the style, and give global settings back as they were."""

    @functools.wraps(make)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            return make(*args, **kwargs)

    return wrapped


def _settle(figure: Figure) -> None:
    """Lay a figure out once, rather than every time that it is drawn."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def save_png(figure: Figure, path: str | Path, dpi: int = 160) -> Path:
    """Write a figure as a PNG on white; the folder is made if it is missing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        _settle(figure)
        figure.savefig(path, format="png", dpi=dpi)
    return path


def to_svg(figure: Figure, prefix: str) -> str:
    """A figure as an ``<svg>`` element to put into a page.

    Lines and text take the page's colours ``--ink``, ``--muted`` and ``--line``, so that they can be read on
    a dark page too. The element has no reference to anything outside itself.

    Args:
        figure: The figure.
        prefix: What its ids begin with; another one for every figure of a page.
    """
    buffer = io.StringIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": prefix}):
        _settle(figure)
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->|<style.*?</style>", "", text, flags=re.DOTALL)
    opening, rest = text.split(">", 1)
    box = re.search(r'viewBox="([^"]+)"', opening)
    if box is None:
        raise ValueError("the figure has no size")
    width = float(box[1].split()[2])
    rest = re.sub(r"<[^>]+>", lambda tag: _page_tag(tag[0], prefix), rest)
    # No narrower than what keeps the text readable: a small screen scrolls.
    style = (
        f"width:100%;min-width:{0.7 * width:.0f}pt;max-width:{width:.0f}pt;stroke-linejoin:round;stroke-linecap:butt"
    )
    return f'<svg viewBox="{box[1]}" style="{style}" aria-hidden="true">{rest.strip()}'


def _page_tag(tag: str, prefix: str) -> str:
    """One tag of a figure with ids of its own, the colours and the font of the page."""
    tag = re.sub(r'\bid="', f'id="{prefix}-', tag)
    tag = tag.replace("url(#", f"url(#{prefix}-").replace('href="#', f'href="#{prefix}-')
    tag = tag.replace("xlink:href", "href")
    for colour, variable in _PAGE_COLOURS.items():
        tag = tag.replace(colour, variable)
    # Matplotlib writes either a `font` shorthand or single properties, depending on its version.
    tag = re.sub(r"font: (?:(bold|\d{3}) )?([\d.]+)px [^;\"]+", _font, tag)
    return re.sub(r"font-family: [^;\"]+", "font-family: inherit", tag)


def _font(shorthand: re.Match[str]) -> str:
    weight = f"font-weight: {shorthand[1]}; " if shorthand[1] else ""
    return f"{weight}font-size: {shorthand[2]}px; font-family: inherit"


def short(name: str, limit: int = 16) -> str:
    """A name cut to what fits beside an axis."""
    return name if len(name) <= limit else name[: limit - 1] + "…"


@styled
def learning_curves(
    curves: Mapping[str, pd.DataFrame],
    selected: Mapping[str, int | None] | None = None,
    *,
    key: str = "ua",
    title: str = "Unweighted accuracy, %",
    scale: float = 100.0,
) -> Figure:
    """Loss and a rate, unweighted accuracy for one, over epochs.

    One training is drawn in full; of several, each is a thin line and their mean a thick one, over the epochs
    that all of them reached.

    Args:
        curves: Training (fold and seed) to its table with the columns ``epoch`` (from 0), ``train_loss`` and,
            where there are any, ``validation_loss``, ``train_<key>`` and ``validation_<key>``; rates as
            fractions.
        selected: Training to the epoch whose weights were kept, which is marked where it has a validation value.
        key: Name of the rate.
        title: What is above its panel, which is left out where no training has the rate.
        scale: What it is multiplied by.
    """
    selected = selected or {}
    several = len(curves) > 1
    panels = [
        ("Loss", (("train_loss", "training", BLUE, 1.0), ("validation_loss", "validation", ORANGE, 1.0))),
        (title, ((f"train_{key}", "training", BLUE, scale), (f"validation_{key}", "validation", ORANGE, scale))),
    ]
    if not any(c in t and t[c].notna().any() for c in (f"train_{key}", f"validation_{key}") for t in curves.values()):
        panels.pop()
    figure = Figure(figsize=(4.2 * len(panels), 3.1), layout="constrained")
    marked, last = False, 1 + max(int(table["epoch"].max()) for table in curves.values())
    for axes, (heading, series) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for column, label, colour, factor in series:
            tables = {key: table for key, table in curves.items() if column in table and table[column].notna().any()}
            for key, table in tables.items():
                known = table[table[column].notna()]  # some epochs are not validated
                epochs, values = known["epoch"] + 1, known[column] * factor
                axes.plot(
                    epochs, values, color=colour, lw=0.8 if several else 1.8, alpha=0.35 if several else 1.0,
                    label=None if several else label, solid_capstyle="round", marker="." if len(known) == 1 else None,
                )  # fmt: skip
                chosen = selected.get(key)
                if column.startswith("validation") and chosen is not None and (known["epoch"] == chosen).any():
                    value, marked = float(values[known["epoch"] == chosen].iloc[0]), True
                    axes.plot(
                        chosen + 1, value, "o", color=VERMILION, ms=4 if several else 6, mec="white", mew=0.6, zorder=3
                    )
            if several and tables:
                stacked = pd.concat([t.set_index("epoch")[column] for t in tables.values()], axis=1, join="inner")
                mean = stacked.mean(axis=1, skipna=False).dropna()
                axes.plot(mean.index + 1, mean * factor, color=colour, lw=2.2, label=f"{label}, mean")
        if marked:
            axes.plot([], [], "o", color=VERMILION, ms=5, mec="white", mew=0.6, label="weights kept")
        axes.set_title(heading)
        axes.set_xlabel("epoch")
        axes.set_xlim(1 - 0.05 * max(last - 1, 1), last + 0.05 * max(last - 1, 1))
        axes.grid(axis="y")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)
    return figure


@styled
def confusion(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """Confusion matrix: shares of the true class in percent, with the counts below up to twelve classes.

    Above two dozen classes the cells have no room for numbers and are shaded only.

    Args:
        counts: ``[true][predicted]``.
        classes: Name of every class.
    """
    table = np.asarray(counts, dtype=np.float64)
    support = table.sum(axis=1, keepdims=True)
    share = np.divide(table, support, out=np.zeros_like(table), where=support > 0)
    n = len(classes)
    side = min(max(0.62 * n + 1.6, 3.4), 10.0)
    figure = Figure(figsize=(side + 0.5, side), layout="constrained")
    axes = figure.subplots()
    axes.set_aspect("equal")
    edges = np.arange(n + 1) - 0.5
    axes.pcolormesh(edges, edges, share, cmap=_OPACITY, vmin=0, vmax=1, edgecolors=GRID, lw=0.6 if n <= 24 else 0.3)
    size = 9 if n <= 8 else 7.5
    crowded = n > 12  # no room for counts
    for true, predicted in itertools.product(range(n), repeat=2):
        if n > 24:
            break
        if support[true, 0] == 0:
            continue
        colour = "white" if share[true, predicted] > 0.55 else INK if table[true, predicted] else MUTED
        text = f"{100 * share[true, predicted]:.0f}"
        place = "center" if crowded else "bottom"
        axes.text(predicted, true, text, ha="center", va=place, color=colour, fontsize=size)
        if crowded:
            continue
        axes.text(
            predicted, true + 0.08, f"{table[true, predicted]:,.0f}", ha="center", va="top",
            color=colour, fontsize=size - 2.5,
        )  # fmt: skip
    axes.set_xlim(-0.5, n - 0.5)
    axes.set_ylim(n - 0.5, -0.5)
    axes.set_xticks(range(n), [short(c) for c in classes], rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(n), [short(c) for c in classes])
    axes.tick_params(length=0, labelsize=9 if n <= 24 else max(3.0, min(9.0, 400 / n)))
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel("recognised as")
    axes.set_ylabel("true class")
    return figure


@styled
def speaker_bars(per_speaker: Sequence[Mapping[str, Any]]) -> Figure:
    """Unweighted accuracy of every speaker, with the mean over speakers.

    Args:
        per_speaker: Entries with ``speaker`` and ``ua`` (a fraction), as metrics give them.
    """
    many = len(per_speaker) > 40
    entries = sorted(per_speaker, key=lambda e: -e["ua"]) if many else list(per_speaker)
    values = 100 * np.array([entry["ua"] for entry in entries])
    figure = Figure(figsize=(8.4, 2.7), layout="constrained")
    axes = figure.subplots()
    axes.bar(range(len(values)), values, width=1.0 if many else 0.72, color=SKY)
    mean = float(values.mean())
    axes.axhline(mean, color=VERMILION, lw=1.4)
    axes.annotate(
        f"mean {mean:.1f}", (1.0, mean), xycoords=("axes fraction", "data"), xytext=(4, 0),
        textcoords="offset points", va="center", fontsize=8, annotation_clip=False,
    )  # fmt: skip
    names = [short(str(entry["speaker"]), 12) for entry in entries]
    if many:
        axes.set_xticks([])
        axes.set_xlabel(f"{len(entries)} speakers, best to worst")
    else:
        steep = sum(map(len, names)) > 90
        axes.set_xticks(
            range(len(names)), names, rotation=60 if steep else 0, ha="right" if steep else "center",
            rotation_mode="anchor" if steep else "default",
        )  # fmt: skip
        axes.set_xlabel("speaker")
        axes.tick_params(axis="x", labelsize=9 if len(names) <= 30 else 7)
    axes.set_xlim(-0.7, len(values) - 0.3)
    axes.set_ylim(0, 100)
    axes.set_ylabel("UA, %")
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y")
    return figure


@styled
def reliability_diagram(bins: Sequence[Mapping[str, Any]], ece: float) -> Figure:
    """Accuracy against confidence, and how often each confidence occurs.

    Args:
        bins: Entries with ``low``, ``high``, ``n``, ``confidence`` and ``accuracy``.
        ece: Expected calibration error, a fraction.
    """
    figure = Figure(figsize=(4.2, 4.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1]})
    filled = [b for b in bins if b["n"]]
    centres = [100 * (b["low"] + b["high"]) / 2 for b in filled]
    width = 100 * (bins[0]["high"] - bins[0]["low"]) * 0.92
    upper.bar(centres, [100 * b["accuracy"] for b in filled], width=width, color=SKY, label="accuracy")
    upper.plot([0, 100], [0, 100], color=MUTED, lw=1.0, ls=(0, (4, 3)), label="perfect calibration")
    upper.plot([100 * b["confidence"] for b in filled], [100 * b["accuracy"] for b in filled], "o", color=BLUE, ms=4)
    upper.set_ylabel("accuracy, %")
    upper.set_ylim(0, 100)
    upper.set_title(f"ECE {100 * ece:.1f} %")
    upper.grid(axis="y")
    upper.legend(fontsize=8, loc="upper left")
    total = sum(b["n"] for b in bins)
    lower.bar(centres, [100 * b["n"] / total for b in filled], width=width, color=MUTED)
    lower.set_xlabel("confidence, %")
    lower.set_ylabel("items, %")
    lower.set_xlim(0, 100)
    lower.grid(axis="y")
    return figure


def cosine_similarity(x: np.ndarray, limit: int = 500) -> np.ndarray:
    """Cosine similarity of frames.

    Args:
        x: Frames ``[frames, dims]``.
        limit: Longer recordings are thinned out to at most that many frames, evenly.

    Returns:
        ``[n, n]`` with ``n = min(frames, limit)``.
    """
    if len(x) > limit:
        x = x[np.linspace(0, len(x) - 1, limit).round().astype(np.int64)]
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return unit @ unit.T


@styled
def similarity_heat_map(x: np.ndarray, *, hop: float | None = None) -> Figure:
    """Cosine similarity of all pairs of frames of one utterance, as Fig. 2 of Li et al. (2023).

    Args:
        x: Standardised frames ``[frames, dims]``.
        hop: Seconds from frame to frame, for the axes; frame numbers without it.
    """
    x = np.asarray(x, dtype=np.float32)
    figure = Figure(figsize=(4.8, 4.2), layout="compressed")
    axes = figure.subplots()
    end = len(x) * hop if hop else len(x)
    image = axes.imshow(
        cosine_similarity(x), cmap="viridis", vmin=-1, vmax=1, extent=(0, end, end, 0), interpolation="nearest"
    )
    unit = "time, s" if hop else "frame"
    axes.set_xlabel(unit)
    axes.set_ylabel(unit)
    for spine in axes.spines.values():
        spine.set_visible(False)
    bar = figure.colorbar(image, ax=axes)
    bar.set_label("cosine similarity")
    bar.outline.set_visible(False)
    return figure


def _named_bars(axes: Axes, rows: Sequence[Mapping[str, Any]], limit: int) -> None:
    """Horizontal bars of average precision, first row on top, each with its name and value."""
    values = [row["ap"] for row in rows]
    axes.barh(range(len(rows)), values, height=0.74, color=SKY)
    for at, value in enumerate(values):
        axes.annotate(f"{value:.2f}", (value, at), xytext=(3, 0), textcoords="offset points", va="center", fontsize=7.5)
    axes.set_yticks(range(len(rows)), [short(str(row["class"]), limit) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1.08)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.grid(axis="x")


@styled
def class_precision(per_class: Sequence[Mapping[str, Any]], *, bars: int = 60, named: int = 20) -> Figure:
    """Average precision of every class, best first, with their mean.

    Up to ``bars`` classes are named bars. More are a strip of dots, and the best and worst of them named below.

    Args:
        per_class: Entries with ``class`` and ``ap`` (a fraction, or None for a class that is left out).
        bars: Most classes that each get a bar.
        named: How many of the best and of the worst are named where there are more.
    """
    rows = sorted((row for row in per_class if row["ap"] is not None), key=lambda row: -row["ap"])
    mean = float(np.mean([row["ap"] for row in rows]))
    if len(rows) <= bars:
        figure = Figure(figsize=(7.2, max(0.19 * len(rows) + 0.9, 2.0)), layout="constrained")
        axes = figure.subplots()
        _named_bars(axes, rows, 32)
        axes.axvline(mean, color=VERMILION, lw=1.4)
        axes.annotate(
            f"mean {mean:.3f}", (mean, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 3),
            textcoords="offset points", ha="center", va="bottom", fontsize=8, annotation_clip=False,
        )  # fmt: skip
        axes.set_xlabel("average precision")
        return figure
    figure = Figure(figsize=(8.4, 2.6 + 0.18 * named + 0.8), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=[2.4, 0.18 * named + 0.8])
    strip = figure.add_subplot(grid[0, :])
    strip.plot(np.arange(1, len(rows) + 1), [row["ap"] for row in rows], "o", color=BLUE, ms=3.2, mew=0, alpha=0.75)
    strip.axhline(mean, color=VERMILION, lw=1.4)
    strip.annotate(
        f"mean {mean:.3f}", (1.0, mean), xycoords=("axes fraction", "data"), xytext=(4, 0),
        textcoords="offset points", va="center", fontsize=8, annotation_clip=False,
    )  # fmt: skip
    strip.set_xlim(0, len(rows) + 1)
    strip.set_ylim(0, 1)
    strip.set_xlabel(f"{len(rows)} classes, best to worst")
    strip.set_ylabel("average precision")
    strip.grid(axis="y")
    for column, title, part in ((0, f"Best {named}", rows[:named]), (1, f"Worst {named}", rows[-named:])):
        axes = figure.add_subplot(grid[1, column])
        _named_bars(axes, part, 30)
        axes.set_title(title)
    return figure


@styled
def precision_by_support(per_class: Sequence[Mapping[str, Any]]) -> Figure:
    """Average precision of every class against its number of positive test items.

    Args:
        per_class: Entries with ``ap`` (a fraction or None) and ``support``.
    """
    rows = [row for row in per_class if row["ap"] is not None]
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axes = figure.subplots()
    many = len(rows) > 60
    axes.plot(
        [row["support"] for row in rows], [row["ap"] for row in rows], "o", color=BLUE, mew=0,
        ms=3.6 if many else 5.5, alpha=0.55 if many else 0.85,
    )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    low, high = min(row["support"] for row in rows), max(row["support"] for row in rows)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [m * 10**e for e in decades for m in (1, 2, 5) if 0.9 * low <= m * 10**e <= 1.1 * high]
    axes.set_xticks(ticks if len(ticks) > 1 else sorted({low, high}))
    axes.minorticks_off()
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("positive test items of the class")
    axes.set_ylabel("average precision")
    axes.grid()
    return figure


def _thinned(x: np.ndarray, y: np.ndarray, limit: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """At most about ``limit`` points of a curve, evenly along its index, ends kept."""
    keep = np.unique(np.linspace(0, len(x) - 1, min(len(x), limit)).round().astype(np.int64))
    return x[keep], y[keep]


@styled
def threshold_curves(
    targets: np.ndarray, scores: np.ndarray, classes: Sequence[str], table: Mapping[str, np.ndarray]
) -> Figure:
    """Precision against recall of five classes, and what a threshold for giving tags does over all of them.

    The five are the best, the worst and those at the quarters in between, by average precision.

    Args:
        targets: 0 or 1, ``[items, classes]``, at least one of them 1.
        scores: Probabilities ``[items, classes]``.
        classes: Name of every class.
        table: :func:`~graphophone.evaluation.tagging.threshold_table` of them.
    """
    figure = Figure(figsize=(8.4, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    ap = rank_rows(np.ascontiguousarray(targets.T) > 0, np.ascontiguousarray(scores.T)).average_precision
    order = np.argsort(-ap, kind="stable")[: int(np.isfinite(ap).sum())].tolist()
    shown = dict.fromkeys(order[round(q * (len(order) - 1))] for q in (0, 0.25, 0.5, 0.75, 1))
    for i, colour in zip(shown, (BLUE, SKY, GREEN, ORANGE, VERMILION), strict=False):
        precision, recall, _ = precision_recall_curve(targets[:, i], scores[:, i])
        left.plot(*_thinned(recall, precision), color=colour, lw=1.6, label=f"{short(classes[i], 24)} {ap[i]:.2f}")
    left.set_xlabel("recall")
    left.set_ylabel("precision")
    left.set_xlim(0, 1)
    left.set_ylim(0, 1.02)
    left.grid()
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.17), "fontsize": 8, "borderaxespad": 0}
    left.legend(**below, ncols=2)
    for name, colour in (("precision", BLUE), ("recall", ORANGE), ("f1", GREEN)):
        right.plot(table["threshold"], table[name], color=colour, lw=1.8, label="F1" if name == "f1" else name)
    right.axvline(0.5, color=MUTED, lw=1.0, ls=(0, (4, 3)))
    right.set_xlabel("threshold of the probability")
    right.set_xlim(0, 1)
    right.set_ylim(0, 1.02)
    right.grid()
    right.legend(**below, ncols=3)
    return figure


@styled
def estimate_bars(
    labels: Sequence[str],
    series: Mapping[str, Sequence[Estimate | None]],
    *,
    chance: float | None = None,
    xlabel: str = "",
    percent: bool = True,
) -> Figure:
    """Several systems or settings side by side, with confidence intervals.

    Args:
        labels: One per group of bars; a line of its own for each line in it.
        series: Name (``"UA"``) to one estimate per group, as fractions; None leaves a gap.
        chance: Accuracy of guessing, a fraction, drawn as a line.
        xlabel: What the groups are.
        percent: Whether to write percent rather than fractions.
    """
    scale = 100.0 if percent else 1.0
    figure = Figure(figsize=(min(max(1.2 * len(labels) + 1.6, 4.8), 8.4), 3.2), layout="constrained")
    axes = figure.subplots()
    colours = itertools.cycle([BLUE, SKY, GREEN, ORANGE, PURPLE])
    width = 0.76 / len(series)
    top = 0.0
    for number, ((name, estimates), colour) in enumerate(zip(series.items(), colours, strict=False)):
        first = True
        for group, estimate in enumerate(estimates):
            if estimate is None:
                continue
            at = group + (number - (len(series) - 1) / 2) * width
            mean = scale * estimate.mean
            axes.bar(at, mean, width=width * 0.92, color=colour, label=name if first else None)
            first = False
            high = mean
            if estimate.low is not None and estimate.high is not None:
                low, high = scale * estimate.low, scale * estimate.high
                axes.errorbar(at, mean, yerr=[[mean - low], [high - mean]], color=INK, lw=1.1, capsize=2.5)
            axes.annotate(
                f"{mean:.1f}" if percent else f"{mean:.3f}", (at, high), xytext=(0, 2), textcoords="offset points",
                ha="center", va="bottom", fontsize=8 if len(labels) * len(series) <= 16 else 6.5,
            )  # fmt: skip
            top = max(top, high)
    if chance is not None:
        axes.axhline(scale * chance, color=MUTED, lw=1.0, ls=(0, (4, 3)), label="chance")
    rows = [label.split("\n") for label in labels]
    steep = max((len(row) for each in rows for row in each), default=0) * len(labels) > 70
    axes.set_xticks(
        range(len(labels)), ["\n".join(short(row, 28) for row in each) for each in rows], rotation=25 if steep else 0,
        ha="right" if steep else "center", rotation_mode="anchor" if steep else "default",
    )  # fmt: skip
    axes.tick_params(axis="x", length=0)
    axes.set_ylim(0, scale * min(math.ceil((100 * top / scale + 8) / 10) * 10, 110) / 100)
    axes.set_ylabel("%" if percent else "")
    axes.set_xlabel(xlabel)
    axes.grid(axis="y")
    axes.legend(fontsize=8, ncols=3, loc="upper left", bbox_to_anchor=(0, 1.14), borderaxespad=0)
    return figure
