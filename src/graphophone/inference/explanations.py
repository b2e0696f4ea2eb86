"""Which frames, which descriptors or frequencies, and which edges carried a decision.

Integrated gradients (M. Sundararajan, A. Taly, Q. Yan, "Axiomatic attribution for deep networks", ICML 2017):
the gradient of the decision, averaged along the straight way from a baseline to the input, times the
difference of the two. The contributions add up to the difference of the decision at both ends (completeness);
what is missing is the error of the numerical integral and is reported.

The explained number is the log-odds of the label, `log(p / (1 - p))`: the evidence for it against all the
others, or for a tag the evidence for it against its absence. It does not saturate as the probability does.
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
from graphophone.features import FeaturePipeline
from graphophone.inference.bands import band_centres, band_groups
from graphophone.inference.bundle import Kind
from graphophone.inference.recognizer import Recognizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NODES_AT_ONCE = 2048
"""Nodes in the network at once: what the backward pass keeps of them bounds the memory."""

_GROUPS = (
    ("loudness", r"loudness|energy|rms|soundlevel"),
    ("MFCC", r"mfcc"),
    ("mel bands", r"logmel|fbank|mel"),
    ("formants (LSP)", r"lsp"),
    ("pitch", r"f0"),
    ("voicing", r"voicing|voiceprob|hnr"),
    ("voice quality", r"jitter|shimmer"),
    ("formants", r"f[123](frequency|bandwidth|amplitude)"),
    ("spectral shape", r"spectral|alpharatio|hammarberg|slope"),
    ("zero crossings", r"zcr"),
    ("rhythm", r"segment|persec"),
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
        groups: Contribution of groups of descriptors (`MFCC`, `pitch`, ...; of a spectrogram: octaves) over all
            frames.
        edge_index: Edges of the graph, `[2, edges]`, source and target frame; none for a spectrogram.
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
        spectrogram: What a spectrogram network was given, not standardised and without padding, `[frames, dims]`;
            None for a network that reads graphs.
        hertz: Middle of each of its bands, `[dims]`; None where the features are not bands.
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
    spectrogram: np.ndarray | None = None
    hertz: np.ndarray | None = None

    @property
    def frame_scores(self) -> np.ndarray:
        """Contribution of every frame, `[frames]`; their sum is `evidence - baseline - gap`."""
        return self.feature_scores.sum(axis=1)

    def to_frame(self) -> pd.DataFrame:
        """One row per frame: `time`, `score`, and the score of each group of descriptors."""
        table = {"time": self.times, "score": self.frame_scores}
        for group, members in grouped(self.columns, self.hertz).items():
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
        from graphophone.inference.picture import save_figure

        return save_figure(self.plot(edges=edges), path, dpi=dpi)


def explain(
    recognizer: Recognizer,
    source: str | Path | audio.Waveform | None,
    target: str | None = None,
    *,
    text: str | None = None,
    steps: int = 32,
    start: float | None = None,
    end: float | None = None,
    metadata: Mapping[str, float] | None = None,
) -> Explanation:
    """Explain what a model says of one clip.

    The graph is held fixed: the question is what the frames and the messages between them contributed, not
    how the edges would change with the frames. A spectrogram network makes its own graph anew at every point of
    the integral, and lets no gradient through its choices (nor LHGNN through its centroids): what they contribute
    is in `gap`, which more steps then do not close. For a network whose nodes are recordings the answer is a
    `RecordingExplanation`: what each descriptor of the clip contributed, and each known recording that it was attached
    to; of text and sound an `UtteranceExplanation`, which sets them against each other.

    Args:
        recognizer: The model.
        source: Audio file, or a `Waveform`; None for a text without recording.
        target: Class to explain; the likeliest if None.
        text: What is said, for a model that reads it.
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
    if bundle.reads_dialogue:
        raise GraphophoneError(
            f"explain: {bundle.model_name} answers for the turns of a conversation; give them as a table "
            "(explain_conversation, or explain --table)"
        )
    if bundle.pipeline.hop is None and not bundle.reads_nodes:
        raise GraphophoneError("explain: the features are one vector per recording and have no frames to show")
    if text is not None and not recognizer.reads_text:
        raise GraphophoneError(f"text: {bundle.model_name} hears sound and reads no text; leave it out")
    if source is None and not (text is not None and recognizer.reads_text):
        raise GraphophoneError(f"explain: give a recording{', a text, or both' if recognizer.reads_text else ''}")
    if bundle.has_bank:
        from graphophone.inference.utterance_explanations import explain_utterance  # which builds on this module

        sound = None
        if source is not None:
            sound = source if isinstance(source, audio.Waveform) else _load(recognizer, source, start, end)
        return explain_utterance(
            recognizer, sound, target, text=text, steps=steps, start=start or 0.0, metadata=metadata
        )
    assert source is not None  # noqa: S101 - all that reads text has a bank
    waveform = source if isinstance(source, audio.Waveform) else _load(recognizer, source, start, end)
    if bundle.reads_nodes:
        from graphophone.inference.recording_explanations import explain_recording  # which builds on this module

        return explain_recording(recognizer, waveform, target, steps=steps, start=start or 0.0, metadata=metadata)
    hop = bundle.pipeline.hop
    assert hop is not None  # noqa: S101 - the features are frames
    frames = bundle.pipeline(waveform.signal, waveform.rate, metadata)
    probabilities = recognizer.probabilities([frames])[0]
    chosen = int(probabilities.argmax()) if target is None else labels.index(target)
    total = _rows(bundle.pipeline, waveform, metadata)
    heard = min(total, len(frames))  # what follows is padding

    edge_index = np.zeros((2, 0), dtype=np.int64)
    edge_scores: np.ndarray | None = None
    silent_graph = edge_gap = None
    if bundle.reads_spectrogram:
        x = recognizer.standardized(frames).to(recognizer.device)
        scores, evidence, baseline = spectrogram_contributions(
            recognizer.model, x, chosen, kind=bundle.kind, rows=heard, steps=steps
        )
    else:
        graph = recognizer.graph_of(frames)
        edge_index = graph.edge_index.numpy()
        x, edges = graph.x.to(recognizer.device), graph.edge_index.to(recognizer.device)
        scores, evidence, baseline = frame_contributions(
            recognizer.model, x, edges, chosen, kind=bundle.kind, steps=steps
        )
        if "edge_weight" in inspect.signature(recognizer.model.forward).parameters:
            found, full, silent_graph = edge_contributions(
                recognizer.model, x, edges, chosen, kind=bundle.kind, steps=steps
            )
            edge_scores = found.cpu().numpy().astype(np.float64)
            edge_gap = full - silent_graph - float(edge_scores.sum())
    feature_scores = scores.cpu().numpy().astype(np.float64)[:heard]

    # Frames are centred on the clip, which puts each of them at the middle of its analysis window.
    first = (start or 0.0) + (waveform.duration - hop * total) / 2
    columns = bundle.pipeline.columns
    hertz = band_centres(bundle.pipeline.extractor) if bundle.reads_spectrogram else None
    return Explanation(
        file=waveform.path,
        label=labels[chosen],
        probability=float(probabilities[chosen]),
        probabilities=probabilities,
        labels=labels,
        times=first + hop * (np.arange(heard) + 0.5),
        frame_seconds=hop,
        feature_scores=feature_scores,
        columns=columns,
        groups={group: float(feature_scores[:, members].sum()) for group, members in grouped(columns, hertz).items()},
        edge_index=edge_index,
        edge_scores=edge_scores,
        evidence=evidence,
        baseline=baseline,
        baseline_without_edges=silent_graph,
        gap=evidence - baseline - float(feature_scores.sum()),
        edge_gap=edge_gap,
        signal=waveform.signal,
        rate=waveform.rate,
        start=start or 0.0,
        spectrogram=frames[:heard] if bundle.reads_spectrogram else None,
        hertz=hertz,
    )


def _rows(pipeline: FeaturePipeline, waveform: audio.Waveform, metadata: Mapping[str, float] | None) -> int:
    """How many frames a clip has where their number is not fixed."""
    free = FeaturePipeline.from_dict({**pipeline.to_dict(), "frames": 0})
    return len(free(waveform.signal, waveform.rate, metadata))


def grouped(columns: tuple[str, ...], hertz: np.ndarray | None) -> dict[str, list[int]]:
    """Positions of the columns by octave where they are bands, else by kind of descriptor."""
    return column_groups(columns) if hertz is None else band_groups(hertz)


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


def log_odds(logits: Tensor, target: int, kind: Kind = "classification") -> Tensor:
    """`log(p / (1 - p))` of class `target`, where `p` is the softmax of the logits, or for tagging their sigmoid.

    Shapes:
        `[clips, classes]` -> `[clips]`
    """
    if kind == "tagging":
        return logits[:, target]
    others = torch.cat([logits[:, :target], logits[:, target + 1 :]], dim=1)
    return logits[:, target] - others.logsumexp(dim=1)


def frame_contributions(
    model: nn.Module,
    x: Tensor,
    edge_index: Tensor,
    target: int,
    *,
    baseline: Tensor | None = None,
    kind: Kind = "classification",
    steps: int = 32,
) -> tuple[Tensor, float, float]:
    """Integrated gradients of the log-odds of a class over the nodes of one graph.

    Args:
        model: Takes `(x, edge_index, batch, batch_size)`, gives logits `[graphs, classes]`.
        x: Nodes `[nodes, dims]`.
        edge_index: `[2, edges]`, sorted by target, then source.
        target: Class.
        baseline: `[nodes, dims]`; zeros, the average training frame, if None.
        kind: Which probabilities the logits stand for.
        steps: Points of the Gauss-Legendre rule.

    Returns:
        Contributions `[nodes, dims]`, the log-odds at `x` and at the baseline.
    """
    origin = torch.zeros_like(x) if baseline is None else baseline

    def run(part: Tensor, copies: int) -> Tensor:
        edges, batch = _copies(edge_index, len(x), copies)
        return log_odds(model(part.flatten(0, 1), edges, batch, copies), target, kind)

    return integrate(run, x, origin, steps, copies=max(1, _NODES_AT_ONCE // len(x)))


def spectrogram_contributions(
    model: nn.Module,
    x: Tensor,
    target: int,
    *,
    kind: Kind = "classification",
    rows: int | None = None,
    steps: int = 32,
) -> tuple[Tensor, float, float]:
    """Integrated gradients of the log-odds of a class over the points of one spectrogram.

    Args:
        model: Takes `[batch, frames, mels]`, gives logits `[batch, classes]`.
        x: Standardised spectrogram `[frames, mels]`.
        target: Class.
        kind: Which probabilities the logits stand for.
        rows: Rows that are sound; the others, padding, are the same in the baseline and so contribute nothing.
            None: all.
        steps: Points of the Gauss-Legendre rule.

    Returns:
        Contributions `[frames, mels]`, the log-odds at `x` and at the baseline, in which every row of sound is the
        average training frame.
    """
    origin = x.clone()
    origin[:rows] = 0

    def run(part: Tensor, copies: int) -> Tensor:
        return log_odds(model(part), target, kind)

    return integrate(run, x, origin, steps, copies=max(1, _NODES_AT_ONCE // len(x)))


def edge_contributions(
    model: nn.Module,
    x: Tensor,
    edge_index: Tensor,
    target: int,
    *,
    kind: Kind = "classification",
    steps: int = 32,
) -> tuple[Tensor, float, float]:
    """Integrated gradients of the log-odds of a class over the weights of the edges, from 0 (it brings nothing) to 1.

    Args:
        model: Takes `(x, edge_index, batch, batch_size, edge_weight)`, gives logits `[graphs, classes]`.
        x: Nodes `[nodes, dims]`.
        edge_index: `[2, edges]`, sorted by target, then source.
        target: Class.
        kind: Which probabilities the logits stand for.
        steps: Points of the Gauss-Legendre rule.

    Returns:
        Contributions `[edges]`, the log-odds with all weights at 1 and at 0.
    """
    weight = torch.ones(edge_index.shape[1], dtype=x.dtype, device=x.device)

    def run(part: Tensor, copies: int) -> Tensor:
        edges, batch = _copies(edge_index, len(x), copies)
        return log_odds(model(x.repeat(copies, 1), edges, batch, copies, edge_weight=part.flatten()), target, kind)

    copies = max(1, _NODES_AT_ONCE // len(x))
    return integrate(run, weight, torch.zeros_like(weight), steps, copies=copies)


def integrate(
    run: Callable[[Tensor, int], Tensor], end: Tensor, origin: Tensor, steps: int, *, copies: int
) -> tuple[Tensor, float, float]:
    """Average gradient from `origin` to `end` times their difference; `copies` points of the way at once.

    Args:
        run: From points `[points, *shape]` and their number to the values that are explained `[points]`.
        end: `shape`.
        origin: `shape`.
        steps: Points of the Gauss-Legendre rule.
        copies: Points in one call of `run`.

    Returns:
        Contributions of that shape, and the values at `end` and at `origin`.
    """
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
