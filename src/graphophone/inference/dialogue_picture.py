"""The figure of a dialogue: its turns in their order, what they were answered with, and what each heard of the others.

Its colours are those of the reports, so that it can be put into a page (`graphophone.evaluation.figures.to_svg`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from graphophone.errors import GraphophoneError
from graphophone.evaluation.figures import (
    BLUE,
    GREEN,
    GRID,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    short,
    styled,
)
from graphophone.inference.turn_relations import TurnRelations

if TYPE_CHECKING:
    from graphophone.inference.turn_explanations import ConversationExplanation

SPEAKERS = (BLUE, ORANGE, GREEN, PURPLE, SKY)
"""Colours of the speakers, in the order of their first turns; all further ones share the last."""

_OTHERS = MUTED
_NAMED = 80
"""Up to so many turns have their labels written out."""

_MOST_CLASSES = 8

_OPACITY = LinearSegmentedColormap.from_list("heard", [(*to_rgb(BLUE), 0.0), (*to_rgb(BLUE), 1.0)])
_SIGNED = LinearSegmentedColormap.from_list(
    "adds",
    [
        (0.0, (*to_rgb(BLUE), 1.0)),
        (0.5, (*to_rgb(BLUE), 0.0)),
        (0.5, (*to_rgb(VERMILION), 0.0)),
        (1.0, (*to_rgb(VERMILION), 1.0)),
    ],
)


@styled
def draw_dialogue(
    turns: pd.DataFrame,
    relations: TurnRelations,
    *,
    turn: int | None = None,
    scores: np.ndarray | None = None,
    edges: int = 80,
    title: str = "",
    into: SubFigure | None = None,
) -> Figure:
    """Draw a dialogue.

    From above: the label of every turn (in brackets the true one, where it is another) and its confidence; what the
    turns are made of, coloured by speaker, with the strongest edges that the network left (from earlier turns above,
    from later ones below the nodes; dashed where the network subtracts what it hears); its latent attention from turn
    to turn; what every turn adds to one answer.

    Args:
        turns: One row per turn in their order, with the columns ``label``, ``confidence`` and, where it is known,
            ``speaker`` and ``truth``.
        relations: What they hear of each other.
        turn: Number of a turn from 0: only the edges into it are drawn.
        scores: What each turn adds to the probability of that turn's label ``[T]``.
        edges: How many edges to draw at most.
        title: What stands above it.
        into: Where to draw; None: a figure of its own.

    Raises:
        GraphophoneError: If there is no turn, or the relations are those of another number of turns.
    """
    count = len(turns)
    if not count:
        raise GraphophoneError("the dialogue has no turn to draw; give at least one")
    if relations.turns != count:
        raise GraphophoneError(
            f"the relations are those of {relations.turns} turns, not of {count}; draw them together"
        )
    attention = relations.attention()
    labels, inks = _words(turns)
    heights = [0.15 + 0.062 * max(map(_longest_line, labels)) if labels else 0.1, 0.6]
    heights += [0.5 + 0.75 * len(relations.modalities)]
    heights += [] if attention is None else [1.1 + min(2.4, 0.05 * count)]
    heights += [] if scores is None else [0.8]
    place: Figure | SubFigure
    place = into or Figure(figsize=(min(20.0, 6.8 + 0.09 * count), 1.2 + sum(heights)), layout="constrained")
    panels = list(place.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0])
    colours = _colours(turns)
    _labels(panels[0], labels, inks)
    panels[0].set_title(title, pad=6)
    _confidence(panels[1], turns["confidence"].to_numpy(dtype=np.float64), colours)
    _graph(panels[2], relations, colours, turn, edges)
    if attention is not None:
        _attention(panels[3], attention)
    if scores is not None:
        _scores(panels[-1], np.asarray(scores, dtype=np.float64))
    for axes in panels:
        if turn is not None:
            axes.axvspan(turn + 0.5, turn + 1.5, color=MUTED, alpha=0.15, linewidth=0, zorder=0)
    panels[-1].set_xlim(0.4, count + 0.6)
    panels[-1].xaxis.set_major_locator(MaxNLocator(min(20, count), integer=True, min_n_ticks=1))
    panels[-1].set_xlabel("turn")
    _legend(panels[2], turns, colours)
    figure = place.figure
    assert isinstance(figure, Figure)  # noqa: S101 - the outermost
    return figure


@styled
def draw_conversation(explanation: ConversationExplanation, *, edges: int = 80) -> Figure:
    """A conversation with what mattered: for one turn the others and the modalities, else who adds to whom.

    Args:
        explanation: What is drawn.
        edges: How many edges to draw at most.
    """
    turns, turn, relations = explanation.turns, explanation.turn, explanation.relations
    count = len(turns)
    rows = 3 + len(relations.modalities) * 0.75 + (0 if relations.latent is None else 1.1 + min(2.4, 0.05 * count))
    figure = Figure(figsize=(min(23.0, 9.8 + 0.09 * count), max(4.2, 1.2 + rows)), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(figure.get_figwidth() - 3.4, 3.4), squeeze=False)[0]
    for side in (left, right):
        side.set_facecolor("none")
    if turn is None:
        draw_dialogue(turns, relations, edges=edges, title=explanation.title, into=left)
        _influence(right.subplots(), explanation.influence)
        return figure
    scores = explanation.influence[turn]
    draw_dialogue(turns, relations, turn=turn, scores=scores, edges=edges, title=explanation.title, into=left)
    classes, parts = right.subplots(2, 1)
    known = [name for name in turns if str(name).startswith("p_")]
    values = turns[known].iloc[turn].to_numpy(dtype=np.float64)
    best = np.argsort(-values, kind="stable")[:_MOST_CLASSES]
    names = [known[i].removeprefix("p_") for i in best]
    _bars(classes, names, values[best], [INK if name == explanation.label else GRID for name in names], "probability")
    own = np.full(len(relations.modalities), np.nan) if explanation.own is None else explanation.own
    shares = [(f"{name} of this turn", value) for name, value in zip(relations.modalities, own, strict=True)]
    shares += [
        (f"{name} of all turns", v) for name, v in zip(relations.modalities, explanation.modalities[turn], strict=True)
    ]
    shares = [(name, value) for name, value in shares if not np.isnan(value)]
    added = np.array([value for _, value in shares])
    colours = [VERMILION if value > 0 else BLUE for value in added]
    _bars(
        parts, [name for name, _ in shares], added, colours, f"adds to the probability\nof {short(explanation.label)}"
    )
    return figure


def _bars(axes: Axes, names: Sequence[str], values: np.ndarray, colours: Sequence[str], title: str) -> None:
    """Named numbers as bars that lie."""
    signed = bool((values < 0).any())
    bars = axes.barh(range(len(names)), values, color=list(colours), height=0.7)
    axes.bar_label(bars, labels=[f"{v:+.2f}" if title != "probability" else f"{v:.2f}" for v in values], padding=2)
    axes.set_yticks(range(len(names)), [short(name, 24) for name in names])
    axes.invert_yaxis()
    axes.set_xticks([])
    reach = float(np.abs(values).max(initial=0.0)) or 1.0
    axes.set_xlim(-1.6 * reach if signed else 0, 1.6 * reach)
    axes.axvline(0, color=MUTED, linewidth=0.7)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(left=False)
    axes.set_title(title, fontsize=8.5)


def _influence(axes: Axes, influence: np.ndarray) -> None:
    """What each turn (along) adds to the answer for each other one (downwards).

    What a turn adds to its own answer is many times as much and would leave the others no colour: a line stands there.
    """
    count = len(influence)
    others = np.where(np.eye(count, dtype=bool), 0.0, influence)
    limit = float(np.abs(others).max()) or 1.0
    image = axes.imshow(
        others,
        cmap=_SIGNED,
        vmin=-limit,
        vmax=limit,
        extent=(0.5, count + 0.5, count + 0.5, 0.5),
        interpolation="nearest",
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(min(6, count), integer=True, min_n_ticks=1))
    axes.set_xlabel("turn that is left out")
    axes.set_ylabel("turn that is answered for")
    axes.plot((0.5, count + 0.5), (0.5, count + 0.5), color=MUTED, linewidth=0.7)
    axes.set_title("what a turn adds to the\nprobability of another's label", fontsize=8.5)
    bar = axes.figure.colorbar(image, ax=axes, location="bottom", shrink=0.8)
    bar.outline.set_visible(False)


def _colours(turns: pd.DataFrame) -> list[str]:
    """The colour of each turn's speaker."""
    if "speaker" not in turns:
        return [SPEAKERS[0]] * len(turns)
    codes, _ = pd.factorize(turns["speaker"], use_na_sentinel=False)
    return [SPEAKERS[code] if code < len(SPEAKERS) else _OTHERS for code in codes]


def _words(turns: pd.DataFrame) -> tuple[list[str], list[str]]:
    """The label of each turn and the colour to write it in; below it the true one, where it is another."""
    if len(turns) > _NAMED:
        return [], []
    labels, inks = [], []
    truth = turns["truth"] if "truth" in turns else [None] * len(turns)
    for label, true in zip(turns["label"].astype(str), truth, strict=True):
        wrong = isinstance(true, str) and true not in ("", label)
        labels.append(f"{short(label)}\n({short(str(true))})" if wrong else short(label))
        inks.append(VERMILION if wrong else INK)
    return labels, inks


def _longest_line(text: str) -> int:
    return max(map(len, text.split("\n")))


def _labels(axes: Axes, labels: Sequence[str], colours: Sequence[str]) -> None:
    """What the turns were answered with, written upwards."""
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.tick_params(bottom=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    size = 7.5 if len(labels) <= 40 else 6
    for x, (label, colour) in enumerate(zip(labels, colours, strict=True), start=1):
        axes.text(x, 0, label, rotation=90, ha="center", va="bottom", fontsize=size, color=colour, linespacing=1.05)


def _confidence(axes: Axes, confidence: np.ndarray, colours: Sequence[str]) -> None:
    axes.bar(np.arange(1, len(confidence) + 1), confidence, color=list(colours), width=0.7, alpha=0.85)
    axes.set_yticks([0, 1])
    axes.set_ylim(0, 1)
    axes.set_ylabel("confidence", rotation=0, ha="right", va="center")
    axes.tick_params(bottom=False)


def _graph(axes: Axes, relations: TurnRelations, colours: Sequence[str], turn: int | None, most: int) -> None:
    """One row of nodes per modality, and the strongest edges between them."""
    lanes = len(relations.modalities)
    table = relations.edges(turn)
    shown = table.head(most)
    if len(shown):
        _edges(axes, shown, relations.modalities, colours)
    for lane in range(lanes):
        there = relations.present[lane].nonzero()[0]
        axes.scatter(there + 1, np.full(len(there), -lane), s=24, c=[colours[i] for i in there], zorder=3, linewidths=0)
        lacking = (~relations.present[lane]).nonzero()[0]
        axes.scatter(lacking + 1, np.full(len(lacking), -lane), s=8, c=MUTED, marker="x", linewidths=0.6, zorder=3)
    axes.set_yticks(range(0, -lanes, -1), relations.modalities)
    axes.set_ylim(-lanes + 0.4, 0.6)
    axes.tick_params(left=False, bottom=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    known = relations.within is not None
    words = f"{len(shown):,} of {len(table):,} edges" if len(shown) < len(table) else f"{len(table):,} edges"
    if known:
        of = "" if turn is None else f" into turn {turn + 1}"
        axes.set_title(f"{words}{of}: from earlier turns above, from later ones below", pad=4, fontsize=8.5)


def _edges(axes: Axes, edges: pd.DataFrame, modalities: Sequence[str], colours: Sequence[str]) -> None:
    """Arcs, in the colour of the speaker who is heard; the weaker, the thinner."""
    row = {name: -number for number, name in enumerate(modalities)}
    source, target = edges["source"].to_numpy(), edges["target"].to_numpy()
    low, high = edges["source_modality"].map(row).to_numpy(float), edges["target_modality"].map(row).to_numpy(float)
    weight = edges["weight"].to_numpy(dtype=np.float64)
    strength = np.abs(weight) / np.abs(weight).max()
    span = np.abs(target - source)
    angle = np.linspace(0, np.pi, 24)
    # An edge between turns bows up or down, one between modalities of a turn to a side: both directions can be seen.
    height = 0.12 + 0.32 * np.sqrt(span / max(int(span.max()), 1))
    bow = np.where(span > 0, np.sign(target - source) * height, 0.0)
    aside = np.where(span > 0, 0.0, 0.25 * np.sign(low - high))
    way = (1 - np.cos(angle)) / 2
    along = source[:, None] + (target - source)[:, None] * way + aside[:, None] * np.sin(angle) + 1
    upward = low[:, None] + (high - low)[:, None] * way + bow[:, None] * np.sin(angle)
    order = np.argsort(strength, kind="stable")  # the strongest on top
    axes.add_collection(
        LineCollection(
            list(np.stack([along, upward], axis=-1)[order]),
            colors=[colours[source[i]] for i in order],
            linewidths=list(0.3 + 2.2 * strength[order]),
            linestyles=["-" if weight[i] > 0 else (0, (3, 1.5)) for i in order],
            alpha=0.7,
            capstyle="butt",
        )
    )


def _attention(axes: Axes, attention: np.ndarray) -> None:
    """Who listens (downwards) to whom (along the turns)."""
    count = len(attention)
    axes.imshow(
        attention,
        cmap=_OPACITY,
        vmin=0,
        vmax=float(attention.max()) or 1.0,
        aspect="auto",
        extent=(0.5, count + 0.5, count + 0.5, 0.5),
        interpolation="nearest",
    )
    axes.set_ylabel("turn\nthat listens", rotation=0, ha="right", va="center")
    axes.yaxis.set_major_locator(MaxNLocator(min(6, count), integer=True, min_n_ticks=1))
    axes.set_title(f"latent attention, {attention.max():.2f} at most", pad=4, fontsize=8.5)


def _scores(axes: Axes, scores: np.ndarray) -> None:
    """What each turn adds to an answer."""
    axes.bar(np.arange(1, len(scores) + 1), scores, width=0.7, color=[VERMILION if s > 0 else BLUE for s in scores])
    axes.axhline(0, color=INK, linewidth=0.7)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.set_ylabel("adds to\nprobability", rotation=0, ha="right", va="center")


def _legend(axes: Axes, turns: pd.DataFrame, colours: Sequence[str]) -> None:
    """Names of the speakers."""
    if "speaker" not in turns or turns["speaker"].isna().all():
        return
    names = turns["speaker"].fillna("unknown").astype(str)
    first = dict(zip(reversed(list(colours)), reversed(list(names)), strict=True))
    many = len(set(names)) > len(SPEAKERS)
    handles = [
        Line2D(
            [],
            [],
            marker="o",
            linestyle="",
            color=colour,
            label="others" if colour == _OTHERS else short(first[colour]),
        )
        for colour in (*SPEAKERS, *([_OTHERS] if many else []))
        if colour in first
    ]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2, fontsize=8)
