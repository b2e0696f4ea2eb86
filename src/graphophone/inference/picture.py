"""The figure of an explanation: what carried a decision, drawn over waveform and spectrogram."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator
from scipy.ndimage import gaussian_filter
from scipy.signal import spectrogram

from graphophone.errors import GraphophoneError

if TYPE_CHECKING:
    from graphophone.inference.explanations import Explanation
    from graphophone.inference.recording_explanations import RecordingExplanation
    from graphophone.inference.utterance_explanations import UtteranceExplanation

FOR, AGAINST = "#c1272d", "#1f5fa8"
"""Colors of what speaks for the label and of what speaks against it."""

_HEAT = "RdBu_r"
_INK, _MUTED = "#222222", "#777777"
_BINS = 600
_MOST_BARS, _SLOTS = 10, 18
_LONGEST_NAME = 34
_LONGEST_TEXT = 240


def draw(explanation: Explanation, *, edges: int = 30) -> Figure:
    """Waveform, spectrogram, evidence over time, descriptors and probabilities of one clip.

    And what is left to show: the strongest edges of a graph, or the evidence at every point of a spectrogram.
    """
    figure = Figure(figsize=(13, 7.4), layout="constrained", facecolor="white")
    left, right = figure.subfigures(1, 2, width_ratios=(3.3, 1), squeeze=False)[0]
    reads_spectrogram = explanation.spectrogram is not None
    heights = (1.0, 1.5, 1.5, 1.0) if reads_spectrogram else (0.9, 1.0, 1.5, 1.0)
    axes = left.subplots(4, 1, sharex=True, gridspec_kw={"height_ratios": heights})
    score = axes[3]
    begin = explanation.start
    end = begin + len(explanation.signal) / explanation.rate
    smooth = _smooth(explanation.frame_scores, explanation.frame_seconds)
    # One scale for heat and curve; the few strongest frames may saturate the color.
    limit = float(np.quantile(np.abs(smooth), 0.99)) or 1.0
    norm = TwoSlopeNorm(0.0, -limit, limit)

    if reads_spectrogram:
        _draw_wave(axes[0], explanation, smooth, norm, begin, end)
        _draw_bands(axes[1], axes[2], explanation)
    else:
        _draw_edges(axes[0], explanation, edges)
        _draw_wave(axes[1], explanation, smooth, norm, begin, end)
        _draw_spectrum(axes[2], explanation, begin)
    _draw_scores(score, explanation, smooth)
    score.set_xlim(begin, end)
    score.set_xlabel("time (s)")
    left.align_ylabels(axes)

    _draw_bars(right, explanation)
    _draw_title(figure, explanation, f"{explanation.baseline:+.2f} for the average frame")
    return figure


def draw_recording(explanation: RecordingExplanation, *, edges: int = 30) -> Figure:
    """Waveform and spectrogram of one clip, its strongest descriptors, known recordings and probabilities."""
    figure = Figure(figsize=(13, 7.4), layout="constrained", facecolor="white")
    left, right = figure.subfigures(1, 2, width_ratios=(3.3, 1), squeeze=False)[0]
    sound, reasons = left.subfigures(2, 1, height_ratios=(1, 2.1), squeeze=False)[:, 0]
    _draw_sound(sound, explanation)

    columns, recordings = reasons.subplots(1, 2)
    strongest = explanation.to_frame().sort_values("score", key=np.abs, ascending=False, kind="stable").head(_SLOTS)
    _draw_evidence(columns, strongest["column"].tolist(), strongest["score"].to_numpy(), "strongest descriptors")
    recordings.set_visible(bool(len(explanation.references)))  # some models attach a clip to none
    pulls = explanation.references.head(min(edges, _SLOTS))
    marks = np.where(pulls["label_is"] == "true", "", "?")  # a label that the model gave itself
    names = [
        f"{name}: {label}{mark}" for name, label, mark in zip(pulls["recording"], pulls["label"], marks, strict=True)
    ]
    _draw_evidence(recordings, names, pulls["score"].to_numpy(), "known recordings (?: label predicted)")

    _draw_bars(right, explanation)
    baseline = f"{explanation.baseline:+.2f} for the average recording"
    if explanation.baseline_without_edges is not None:
        baseline += f", {explanation.baseline_without_edges:+.2f} if attached to none"
    _draw_title(figure, explanation, baseline)
    return figure


def draw_utterance(explanation: UtteranceExplanation, *, edges: int = 30) -> Figure:
    """What was said and how, what each contributed, the strongest descriptors, known utterances and probabilities."""
    figure = Figure(figsize=(13, 7.4), layout="constrained", facecolor="white")
    left, right = figure.subfigures(1, 2, width_ratios=(2.7, 1), squeeze=False)[0]
    given, reasons = left.subfigures(2, 1, height_ratios=(1, 2.1), squeeze=False)[:, 0]
    said, heard = given.subfigures(1, 2, width_ratios=(1, 1.4), squeeze=False)[0]
    words, shares = said.subplots(2, 1, gridspec_kw={"height_ratios": (1, 1)})
    words.set_axis_off()
    text = explanation.text or "no text"
    text = text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"
    words.text(0, 0.5, text, va="center", wrap=True, fontsize=10, style="italic", parse_math=False, color=_INK)
    modalities = explanation.modalities
    names = [
        name if np.isnan(alone) else f"{name} (alone {_probability(alone)})"
        for name, alone in zip(modalities["modality"], modalities["alone"], strict=True)
    ]
    scores = np.r_[modalities["score"].to_numpy(), explanation.references["score"].sum()]
    _draw_evidence(shares, [*names, "known utterances"], scores, "evidence (alone: by a network of its own)")
    if len(explanation.signal):
        _draw_sound(heard, explanation)
    else:
        nothing = heard.subplots()
        nothing.set_axis_off()
        nothing.text(0.5, 0.5, "no recording", ha="center", color=_MUTED)

    columns, known = reasons.subplots(1, 2)
    strongest = explanation.to_frame().sort_values("score", key=np.abs, ascending=False, kind="stable").head(_SLOTS)
    _draw_evidence(columns, strongest["column"].tolist(), strongest["score"].to_numpy(), "strongest descriptors")
    known.set_visible(bool(len(explanation.references)))  # a network without graph part hears nobody
    pulls = explanation.references.head(min(edges, _SLOTS))
    marks = np.where(pulls["label_is"] == "true", "", "?")  # a label that the model gave itself
    parts = zip(pulls["recording"], pulls["label"], marks, pulls["near_by"], strict=True)
    names = [f"{name}: {label}{mark}, by {near}" for name, label, mark, near in parts]
    _draw_evidence(known, names, pulls["score"].to_numpy(), "known utterances near by")

    _draw_bars(right, explanation)
    baseline = f"{explanation.baseline:+.2f} for an average one that hears nobody"
    if len(explanation.references):
        baseline += f", {explanation.baseline_without_edges:+.2f} without the known ones"
    _draw_title(figure, explanation, baseline)
    return figure


def _draw_sound(figure: SubFigure, explanation: Explanation) -> None:
    """Waveform and spectrogram of a clip."""
    wave, spectrum = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (0.6, 1.0)})
    begin = explanation.start
    end = begin + len(explanation.signal) / explanation.rate
    _draw_wave(wave, explanation, np.zeros(1), TwoSlopeNorm(0.0, -1.0, 1.0), begin, end)
    _draw_spectrum(spectrum, explanation, begin)
    spectrum.set_xlim(begin, end)
    spectrum.set_xlabel("time (s)")
    figure.align_ylabels([wave, spectrum])


def _draw_bars(figure: SubFigure, explanation: Explanation) -> None:
    """Probabilities and groups of descriptors."""
    # Bars of one thickness in both charts; what is left over stays empty.
    slots = [min(len(names), _MOST_BARS) + 1 for names in (explanation.labels, explanation.groups)]
    probabilities, groups, rest = figure.subplots(
        3, 1, gridspec_kw={"height_ratios": (*slots, max(1, _SLOTS - sum(slots)))}
    )
    rest.set_axis_off()
    _draw_probabilities(probabilities, explanation)
    _draw_groups(groups, explanation)


def _draw_title(figure: Figure, explanation: Explanation, baseline: str) -> None:
    """The verdict, and what the colors mean."""
    name = Path(explanation.file).name if explanation.file else "signal" if len(explanation.signal) else "text"
    name = name if len(name) <= 48 else f"{name[:47]}…"
    likeliest = explanation.labels[int(np.argmax(explanation.probabilities))]
    verdict = f"{explanation.label}, probability {_probability(explanation.probability)}"
    if explanation.label != likeliest:
        verdict += f"  (the model says {likeliest})"
    figure.suptitle(
        f"{verdict}\n",
        x=0.012,
        ha="left",
        fontsize=15,
        fontweight="bold",
        color=_INK,
        linespacing=1.1,
        parse_math=False,
    )
    figure.text(
        0.012,
        0.945,
        (
            f"{name}: red speaks for {explanation.label}, blue against it. Evidence {explanation.evidence:+.2f} "
            f"log-odds, {baseline}; the integral misses "
            f"{abs(explanation.gap):.3f}."
        ).replace(" -", " −"),
        ha="left",
        va="top",
        fontsize=9.5,
        color=_MUTED,
        parse_math=False,  # the file may be called `price$.wav`
    )


def save_figure(figure: Figure, path: str | Path, *, dpi: int = 150) -> Path:
    """Write a figure; the suffix (`.png`, `.svg`, `.pdf`) decides the format.

    Raises:
        GraphophoneError: If matplotlib cannot write such a file, or not there.
    """
    folder = Path(path).parent
    if not folder.is_dir():
        raise GraphophoneError(f"{path}: there is no folder {folder}; make it first")
    try:
        figure.savefig(path, dpi=dpi)
    except ValueError as error:
        raise GraphophoneError(f"{path}: {str(error).splitlines()[0]}; use .png, .svg or .pdf") from error
    except OSError as error:
        raise GraphophoneError(
            f"{path}: cannot be written to {folder} ({error.strerror or error}); choose another place"
        ) from error
    return Path(path)


def _probability(value: float) -> str:
    return f"{value:.2f}" if value < 0.995 else f"{value:.3f}"


def _smooth(scores: np.ndarray, frame_seconds: float, width: float = 0.05) -> np.ndarray:
    """Mean over about `width` seconds: single frames of overlapping windows share what they hear."""
    size = max(1, round(width / frame_seconds)) | 1
    if size == 1 or len(scores) < size:
        return scores
    padded = np.pad(scores, size // 2, mode="edge")
    return np.convolve(padded, np.full(size, 1 / size), mode="valid")


def _draw_edges(axes: Axes, explanation: Explanation, count: int) -> None:
    axes.set_ylim(0, 1.08)
    axes.set_yticks([])
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(bottom=False)
    axes.set_ylabel("strongest\nedges", rotation=0, ha="right", va="center")
    if explanation.edge_scores is None or not explanation.edge_scores.size:
        axes.text(0.5, 0.4, "no edge scores", transform=axes.transAxes, ha="center", color=_MUTED)
        return
    scores = explanation.edge_scores
    best = np.argsort(-np.abs(scores), kind="stable")[:count]
    best = best[scores[best] != 0]
    if not best.size:
        return
    source, target = explanation.times[explanation.edge_index[:, best]]
    span = np.abs(target - source)
    # A lower bound keeps the arcs between neighbouring frames visible.
    height = 0.12 + 0.88 * np.sqrt(span / max(span.max(), 1e-9))
    angle = np.linspace(0, np.pi, 48)
    middle, radius = (source + target) / 2, (target - source) / 2
    along = middle[:, None] - radius[:, None] * np.cos(angle)
    lines = np.stack([along, height[:, None] * np.sin(angle)], axis=-1)
    strength = np.abs(scores[best]) / np.abs(scores[best]).max()
    colors = np.where(scores[best] > 0, FOR, AGAINST)
    order = np.argsort(strength)  # the strongest on top
    axes.add_collection(
        LineCollection(
            list(lines[order]),
            colors=list(colors[order]),
            linewidths=list(0.5 + 1.7 * strength[order]),
            alpha=0.75,
            capstyle="round",
        )
    )
    axes.scatter(
        target,
        np.zeros_like(target),
        s=5 + 12 * strength,
        c=list(colors),
        zorder=3,
        clip_on=False,
        linewidths=0,
    )
    axes.text(
        1.0,
        1.0,
        "dot: the frame that listens",
        transform=axes.transAxes,
        ha="right",
        va="top",
        fontsize=8,
        color=_MUTED,
    )


def _draw_wave(
    axes: Axes, explanation: Explanation, smooth: np.ndarray, norm: Normalize, begin: float, end: float
) -> None:
    signal = explanation.signal
    peak = float(np.abs(signal).max()) or 1.0
    half = explanation.frame_seconds / 2
    borders = np.r_[explanation.times - half, explanation.times[-1] + half]
    axes.pcolormesh(borders, [-1.05, 1.05], smooth[None], cmap=_HEAT, norm=norm, alpha=0.75, rasterized=True)
    # Highest and lowest sample per pixel: as many lines as the eye can see, for a clip of any length.
    bins = min(_BINS, len(signal))
    starts = np.linspace(0, len(signal), bins, endpoint=False).astype(int)
    top, bottom = np.maximum.reduceat(signal, starts) / peak, np.minimum.reduceat(signal, starts) / peak
    axes.fill_between(np.linspace(begin, end, bins), bottom, top, color=_INK, linewidth=0.3)
    axes.set_ylim(-1.05, 1.05)
    axes.set_yticks([])
    axes.set_ylabel("waveform", rotation=0, ha="right", va="center")


def _draw_spectrum(axes: Axes, explanation: Explanation, begin: float) -> None:
    rate = explanation.rate
    size = min(len(explanation.signal), round(0.025 * rate))
    frequencies, times, power = spectrogram(
        explanation.signal,
        rate,
        window="hann",
        nperseg=size,
        noverlap=min(size - 1, round(0.015 * rate)),
        nfft=max(512, size),
    )
    level = 10 * np.log10(np.maximum(power, 1e-20))
    axes.imshow(
        level,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=level.max() - 70,
        vmax=level.max(),
        extent=(begin + times[0], begin + times[-1], 0, frequencies[-1] / 1000),
        interpolation="nearest",
    )
    axes.set_ylabel("kHz", rotation=0, ha="right", va="center")


def _draw_bands(level: Axes, evidence: Axes, explanation: Explanation) -> None:
    """The spectrogram that the network saw, and below it what each of its points contributed."""
    half = explanation.frame_seconds / 2
    extent = (explanation.times[0] - half, explanation.times[-1] + half, 0.0, float(len(explanation.columns)))
    assert explanation.spectrogram is not None  # noqa: S101 - the caller looked
    # Single points flicker; their neighbours in time and frequency share what they hear.
    smooth = gaussian_filter(explanation.feature_scores, sigma=(2.0, 1.0))
    limit = float(np.quantile(np.abs(smooth), 0.998)) or 1.0
    for axes, values, options in (
        (level, explanation.spectrogram, {"cmap": "magma"}),
        (evidence, smooth, {"cmap": _HEAT, "norm": TwoSlopeNorm(0.0, -limit, limit)}),
    ):
        axes.imshow(
            values.T,
            origin="lower",
            aspect="auto",
            extent=extent,
            interpolation="nearest",
            **options,
        )
        _frequency_ticks(axes, explanation.hertz)
    level.set_ylabel("kHz" if explanation.hertz is not None else "column", rotation=0, ha="right", va="center")
    evidence.set_ylabel("evidence\nper point", rotation=0, ha="right", va="center")


def _frequency_ticks(axes: Axes, hertz: np.ndarray | None) -> None:
    """Round frequencies on an axis whose unit is the band."""
    if hertz is None:
        return
    shown = [frequency for frequency in (250, 1000, 2000, 4000, 8000) if hertz[0] < frequency < hertz[-1]]
    places = np.interp(shown, hertz, np.arange(len(hertz)) + 0.5)
    axes.set_yticks(places, [f"{frequency / 1000:g}" for frequency in shown])


def _draw_scores(axes: Axes, explanation: Explanation, smooth: np.ndarray) -> None:
    times = explanation.times
    axes.fill_between(times, smooth, 0, where=smooth > 0, interpolate=True, color=FOR, linewidth=0)
    axes.fill_between(times, smooth, 0, where=smooth < 0, interpolate=True, color=AGAINST, linewidth=0)
    axes.axhline(0, color=_INK, linewidth=0.7)
    axes.set_ylabel("evidence\nper frame", rotation=0, ha="right", va="center")
    axes.yaxis.set_major_locator(MaxNLocator(3))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _draw_probabilities(axes: Axes, explanation: Explanation) -> None:
    order = np.argsort(-explanation.probabilities, kind="stable")[:_MOST_BARS]
    values = explanation.probabilities[order]
    names = [explanation.labels[i] for i in order]
    colors = [_INK if name == explanation.label else "#bbbbbb" for name in names]
    _bars(axes, names, values, colors, [_probability(value) for value in values])
    axes.set_xlim(0, 1.25)
    axes.set_title("probability", loc="left", fontsize=10)


def _draw_groups(axes: Axes, explanation: Explanation) -> None:
    ranked = list(explanation.groups.items())  # octaves stay in their order
    if explanation.hertz is None:
        ranked = sorted(ranked, key=lambda item: -abs(item[1]))[:_MOST_BARS]
    what = "frequency" if explanation.hertz is not None else "descriptor"
    _draw_evidence(axes, [name for name, _ in ranked], np.array([value for _, value in ranked]), f"evidence by {what}")


def _draw_evidence(axes: Axes, names: list[str], values: np.ndarray, title: str) -> None:
    """Contributions as bars, red for the label and blue against it."""
    colors = [FOR if value > 0 else AGAINST for value in values]
    shown = [name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME :]}" for name in names]
    _bars(axes, shown, values, colors, [f"{value:+.2f}" for value in values])
    low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    room = 0.4 * ((high - low) or 1.0)  # for the numbers at the ends of the bars
    axes.set_xlim(low - room * (low < 0), high + room)
    axes.axvline(0, color=_INK, linewidth=0.7)
    axes.set_title(title, loc="left", fontsize=10)


def _bars(axes: Axes, names: list[str], values: np.ndarray, colors: list[str], texts: list[str]) -> None:
    bars = axes.barh(range(len(names)), values, color=colors, height=0.68)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.bar_label(bars, labels=[text.replace("-", "−") for text in texts], padding=3, fontsize=8.5, color=_INK)
    axes.invert_yaxis()
    axes.set_xticks([])
    axes.tick_params(left=False, labelsize=9)
    for side in ("top", "right", "bottom", "left"):
        axes.spines[side].set_visible(False)
