"""Which frames, which descriptors and which edges carried a decision.

Integrated gradients (M. Sundararajan, A. Taly, Q. Yan, "Axiomatic attribution for deep networks", ICML 2017):
the gradient of the decision, averaged along the straight way from a baseline to the input, times the
difference of the two. The contributions add up to the difference of the decision at both ends (completeness);
what is missing is the error of the numerical integral and is reported.

The explained number is the log-odds of the label, `log(p / (1 - p))`: the evidence for it against all the
others. It does not saturate as the probability does.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from graphophone import audio
from graphophone.errors import GraphophoneError
from graphophone.inference.recognizer import Recognizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NODES_AT_ONCE = 2048
"""Nodes in the network at once: what the backward pass keeps of them bounds the memory."""

_GROUPS = (
    ("loudness", r"loudness|energy|rms"),
    ("MFCC", r"mfcc"),
    ("mel bands", r"logmel|fbank|mel"),
    ("formants (LSP)", r"lsp"),
    ("pitch", r"f0"),
    ("voicing", r"voicing|hnr"),
    ("voice quality", r"jitter|shimmer"),
)


@dataclass(frozen=True)
class Explanation:
    """Why a model said what it said of one clip.

    Attributes:
        file: Audio file, None for an array.
        label: The explained class; the likeliest one unless another was asked for.
        probability: Its probability.
        probabilities: Of every class, `[classes]`, under `labels`.
        labels: Class names.
        times: Middle of each frame in seconds of the file, `[frames]`.
        frame_seconds: Seconds from one frame to the next.
        feature_scores: Contribution of every descriptor in every frame, `[frames, dims]`, in log-odds;
            positive speaks for the label. The baseline is the average training frame.
        columns: Names of the descriptors, `[dims]`.
        groups: Contribution of groups of descriptors (`MFCC`, `pitch`, ...) over all frames.
        edge_index: Edges of the graph, `[2, edges]`, source and target frame.
        edge_scores: Contribution of what every edge brings, `[edges]`, in log-odds; the baseline are edges
            that bring nothing. None for a network without edge weights.
        evidence: Log-odds of the label.
        baseline: Log-odds at the average training frame.
        baseline_without_edges: Log-odds if no edge brings anything.
        gap: What the frame contributions lack to `evidence - baseline`.
        edge_gap: What the edge contributions lack to `evidence - baseline_without_edges`.
        signal: Waveform `[samples]`, for the figure.
        rate: Its samples per second.
        start: Second of the file at which the clip begins.
    """

    file: str | None
    label: str
    probability: float
    probabilities: np.ndarray
    labels: tuple[str, ...]
    times: np.ndarray
    frame_seconds: float
    feature_scores: np.ndarray
    columns: tuple[str, ...]
    groups: dict[str, float]
    edge_index: np.ndarray
    edge_scores: np.ndarray | None
    evidence: float
    baseline: float
    baseline_without_edges: float | None
    gap: float
    edge_gap: float | None
    signal: np.ndarray
    rate: int
    start: float

    @property
    def frame_scores(self) -> np.ndarray:
        """Contribution of every frame, `[frames]`; their sum is `evidence - baseline - gap`."""
        return self.feature_scores.sum(axis=1)

    def to_frame(self) -> pd.DataFrame:
        """One row per frame: `time`, `score`, and the score of each group of descriptors."""
        table = {"time": self.times, "score": self.frame_scores}
        for group, members in column_groups(self.columns).items():
            table[group] = self.feature_scores[:, members].sum(axis=1)
        return pd.DataFrame(table)

    def edges_to_frame(self) -> pd.DataFrame:
        """One row per edge, the strongest first: `source`, `target` (seconds), `score`.

        Raises:
            GraphophoneError: If the network has no edge weights.
        """
        if self.edge_scores is None:
            raise GraphophoneError("edge scores: this network takes no edge weights; use to_frame")
        order = np.argsort(-np.abs(self.edge_scores), kind="stable")
        source, target = self.edge_index[:, order]
        return pd.DataFrame(
            {"source": self.times[source], "target": self.times[target], "score": self.edge_scores[order]}
        )

    def to_dict(self) -> dict[str, Any]:
        """The decision and its reasons in JSON's types, without the waveform and the descriptors one by one."""
        return {
            "file": self.file,
            "label": self.label,
            "probability": self.probability,
            "probabilities": dict(zip(self.labels, map(float, self.probabilities), strict=True)),
            "evidence": self.evidence,
            "baseline": self.baseline,
            "gap": self.gap,
            "groups": self.groups,
            "frames": self.to_frame().to_dict(orient="list"),
            "edges": None if self.edge_scores is None else self.edges_to_frame().head(100).to_dict(orient="list"),
        }

    def plot(self, *, edges: int = 30) -> Figure:
        """The clip with its reasons drawn over waveform and spectrogram.

        Args:
            edges: How many of the strongest edges to draw.
        """
        from graphophone.inference.picture import draw

        return draw(self, edges=edges)

    def save(self, path: str | Path, *, edges: int = 30, dpi: int = 150) -> Path:
        """Draw and write the figure; the suffix (`.png`, `.svg`, `.pdf`) decides the format.

        Raises:
            GraphophoneError: If matplotlib cannot write such a file, or not there.
        """
        folder = Path(path).parent
        if not folder.is_dir():
            raise GraphophoneError(f"{path}: there is no folder {folder}; make it first")
        figure = self.plot(edges=edges)
        try:
            figure.savefig(path, dpi=dpi)
        except ValueError as error:
            raise GraphophoneError(f"{path}: {str(error).splitlines()[0]}; use .png, .svg or .pdf") from error
        except OSError as error:
            raise GraphophoneError(
                f"{path}: cannot be written to {folder} ({error.strerror or error}); choose another place"
            ) from error
        return Path(path)


def explain(
    recognizer: Recognizer,
    source: str | Path | audio.Waveform,
    target: str | None = None,
    *,
    steps: int = 32,
    start: float | None = None,
    end: float | None = None,
    metadata: Mapping[str, float] | None = None,
) -> Explanation:
    """Explain what a model says of one clip.

    The graph is held fixed: the question is what the frames and the messages between them contributed, not
    how the edges would change with the frames.

    Args:
        recognizer: The model.
        source: Audio file, or a `Waveform`.
        target: Class to explain; the likeliest if None.
        steps: Points of the numerical integral. The cost is that of about `4 * steps` predictions.
        start: First second of the file.
        end: Last second of the file.
        metadata: Values of the metadata columns of the features.

    Returns:
        The contributions.

    Raises:
        AudioError: If the file cannot be used.
        GraphophoneError: If `target` is not a class of the model, `steps` is below 1, or the features are not
            frames.
    """
    if steps < 1:
        raise GraphophoneError(f"steps: {steps} points make no integral; give at least 1, 32 for example")
    bundle = recognizer.bundle
    labels = bundle.labels
    if target is not None and target not in labels:
        raise GraphophoneError(f"target {target!r} is not a class of this model; use one of {', '.join(labels)}")
    if bundle.pipeline.hop is None:
        raise GraphophoneError("explain: the features are one vector per recording and have no frames to show")
    waveform = source if isinstance(source, audio.Waveform) else _load(recognizer, source, start, end)
    frames = bundle.pipeline(waveform.signal, waveform.rate, metadata)
    graph = recognizer.graph_of(frames)
    x, edge_index = graph.x.to(recognizer.device), graph.edge_index.to(recognizer.device)
    probabilities = recognizer.probabilities([frames])[0]
    chosen = int(probabilities.argmax()) if target is None else labels.index(target)

    scores, evidence, baseline = frame_contributions(recognizer.model, x, edge_index, chosen, steps=steps)
    feature_scores = scores.cpu().numpy().astype(np.float64)
    edge_scores: np.ndarray | None = None
    silent_graph = edge_gap = None
    if "edge_weight" in inspect.signature(recognizer.model.forward).parameters:
        found, full, silent_graph = edge_contributions(recognizer.model, x, edge_index, chosen, steps=steps)
        edge_scores = found.cpu().numpy().astype(np.float64)
        edge_gap = full - silent_graph - float(edge_scores.sum())

    hop = bundle.pipeline.hop
    # Frames are centred on the clip, which puts each of them at the middle of its analysis window.
    first = (start or 0.0) + (waveform.duration - hop * len(frames)) / 2
    columns = bundle.pipeline.columns
    return Explanation(
        file=waveform.path,
        label=labels[chosen],
        probability=float(probabilities[chosen]),
        probabilities=probabilities,
        labels=labels,
        times=first + hop * (np.arange(len(frames)) + 0.5),
        frame_seconds=hop,
        feature_scores=feature_scores,
        columns=columns,
        groups={group: float(feature_scores[:, members].sum()) for group, members in column_groups(columns).items()},
        edge_index=graph.edge_index.numpy(),
        edge_scores=edge_scores,
        evidence=evidence,
        baseline=baseline,
        baseline_without_edges=silent_graph,
        gap=evidence - baseline - float(feature_scores.sum()),
        edge_gap=edge_gap,
        signal=waveform.signal,
        rate=waveform.rate,
        start=start or 0.0,
    )


def _load(recognizer: Recognizer, path: str | Path, start: float | None, end: float | None) -> audio.Waveform:
    longest = recognizer.max_duration
    try:
        return audio.load(path, rate=recognizer.bundle.pipeline.rate, start=start, end=end, max_duration=longest)
    except audio.AudioError as error:
        if error.reason != "too long":
            raise
        text = f"longer than {longest:g} s, too long for one explanation; give start and end, or cut it into parts"
        raise audio.AudioError(error.path, "too long", text) from None


def column_groups(columns: tuple[str, ...]) -> dict[str, list[int]]:
    """Positions of the columns by kind of descriptor; slopes and relative values count with what they are made of."""
    groups: dict[str, list[int]] = {}
    for position, column in enumerate(columns):
        stem = re.sub(r"[\[_]?\d+\]?$", "", column.removesuffix("_relative")).strip("_") or column
        name = next((name for name, pattern in _GROUPS if re.search(pattern, stem.lower())), stem)
        groups.setdefault(name, []).append(position)
    return groups


def log_odds(logits: Tensor, target: int) -> Tensor:
    """`log(p / (1 - p))` of class `target` under `softmax(logits)`.

    Shapes:
        `[graphs, classes]` -> `[graphs]`
    """
    others = torch.cat([logits[:, :target], logits[:, target + 1 :]], dim=1)
    return logits[:, target] - others.logsumexp(dim=1)


def frame_contributions(
    model: nn.Module,
    x: Tensor,
    edge_index: Tensor,
    target: int,
    *,
    baseline: Tensor | None = None,
    steps: int = 32,
) -> tuple[Tensor, float, float]:
    """Integrated gradients of the log-odds of a class over the nodes of one graph.

    Args:
        model: Takes `(x, edge_index, batch, batch_size)`, gives logits `[graphs, classes]`.
        x: Nodes `[nodes, dims]`.
        edge_index: `[2, edges]`, sorted by target, then source.
        target: Class.
        baseline: `[nodes, dims]`; zeros, the average training frame, if None.
        steps: Points of the Gauss-Legendre rule.

    Returns:
        Contributions `[nodes, dims]`, the log-odds at `x` and at the baseline.
    """
    origin = torch.zeros_like(x) if baseline is None else baseline

    def run(part: Tensor, copies: int) -> Tensor:
        edges, batch = _copies(edge_index, len(x), copies)
        return log_odds(model(part.flatten(0, 1), edges, batch, copies), target)

    return _integrate(run, x, origin, steps, copies=max(1, _NODES_AT_ONCE // len(x)))


def edge_contributions(
    model: nn.Module, x: Tensor, edge_index: Tensor, target: int, *, steps: int = 32
) -> tuple[Tensor, float, float]:
    """Integrated gradients of the log-odds of a class over the weights of the edges, from 0 (it brings nothing) to 1.

    Args:
        model: Takes `(x, edge_index, batch, batch_size, edge_weight)`, gives logits `[graphs, classes]`.
        x: Nodes `[nodes, dims]`.
        edge_index: `[2, edges]`, sorted by target, then source.
        target: Class.
        steps: Points of the Gauss-Legendre rule.

    Returns:
        Contributions `[edges]`, the log-odds with all weights at 1 and at 0.
    """
    weight = torch.ones(edge_index.shape[1], dtype=x.dtype, device=x.device)

    def run(part: Tensor, copies: int) -> Tensor:
        edges, batch = _copies(edge_index, len(x), copies)
        return log_odds(model(x.repeat(copies, 1), edges, batch, copies, edge_weight=part.flatten()), target)

    copies = max(1, _NODES_AT_ONCE // len(x))
    return _integrate(run, weight, torch.zeros_like(weight), steps, copies=copies)


def _integrate(
    run: Callable[[Tensor, int], Tensor], end: Tensor, origin: Tensor, steps: int, *, copies: int
) -> tuple[Tensor, float, float]:
    """Average gradient from `origin` to `end` times their difference; `copies` points of the way at once."""
    points, weights = np.polynomial.legendre.leggauss(steps)
    way = torch.as_tensor((points + 1) / 2, dtype=end.dtype, device=end.device)
    share = torch.as_tensor(weights / 2, dtype=end.dtype, device=end.device)
    difference = end - origin
    gradient = torch.zeros_like(end)
    # cuDNN refuses the backward pass of a recurrent network in evaluation mode.
    with torch.backends.cudnn.flags(enabled=False):
        for alpha, weight in zip(way.split(copies), share.split(copies), strict=True):
            shape = (-1, *[1] * end.ndim)
            inputs = (origin + alpha.view(shape) * difference).detach().requires_grad_(True)
            outputs = run(inputs, len(alpha))
            (found,) = torch.autograd.grad((outputs * weight).sum(), inputs, allow_unused=True)
            if found is not None:  # a model that does not look at what is varied owes nothing to it
                gradient += found.sum(dim=0)
        with torch.no_grad():
            at_end, at_origin = (float(run(point[None], 1)) for point in (end, origin))
    return gradient * difference, at_end, at_origin


def _copies(edge_index: Tensor, nodes: int, copies: int) -> tuple[Tensor, Tensor]:
    """Edges and batch vector of `copies` equal graphs side by side."""
    offset = torch.arange(copies, device=edge_index.device) * nodes
    edges = (edge_index[:, None, :] + offset[None, :, None]).flatten(1)
    batch = torch.arange(copies, device=edge_index.device).repeat_interleave(nodes)
    return edges, batch
