"""Why a network whose nodes are recordings said what it said: which descriptors, and which known recordings.

As in `graphophone.inference.explanations` both are integrated gradients of the log-odds of the label, here of its
probability averaged over the reference graphs. Over the descriptors of the clip they go from the average training
recording to the clip; over its edges to known recordings from edges that bring nothing to edges of weight 1. Which
edges the clip has is held fixed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from graphophone import audio
from graphophone.graphs.attachment import attach, no_reference
from graphophone.inference.bands import band_centres
from graphophone.inference.explanations import Explanation, grouped, integrate, log_odds
from graphophone.inference.recognizer import Recognizer
from graphophone.inference.references import pack
from graphophone.models.attached import content_ids

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NODES_AT_ONCE = 8192
"""Nodes in the network at once: what the backward pass keeps of them bounds the memory."""


@dataclass(frozen=True)
class RecordingExplanation(Explanation):
    """Why a network whose nodes are recordings said what it said of one clip.

    The clip is one node, so that `feature_scores` has one row, `times` the middle of the clip, and `frame_seconds` its
    length. `edge_index` has the clip (0) as its target, and as source the numbers of `references`, counted from 1.

    Attributes:
        references: The known recordings that the clip was attached to, the strongest first: `recording` (its name,
            or a number where the model folder has no names), `label`, `label_is` ("true", or "predicted" for a
            recording without one: by this network), `draws` (in how many reference graphs) and `score`, what its edges
            contributed, in log-odds. Empty for a model that attaches a clip to none.
        spread: Standard deviation of the probability over the reference graphs; NaN if there is only one.
    """

    references: pd.DataFrame = field(default_factory=pd.DataFrame)
    spread: float = math.nan

    def to_frame(self) -> pd.DataFrame:
        """One row per descriptor, in the order of the features: `column`, `group`, `score`."""
        group = np.empty(len(self.columns), dtype=object)
        for name, members in grouped(self.columns, self.hertz).items():
            group[members] = name
        return pd.DataFrame({"column": self.columns, "group": group, "score": self.feature_scores[0]})

    def edges_to_frame(self) -> pd.DataFrame:
        """One row per known recording that the clip was attached to, the strongest first; see `references`."""
        return self.references.copy()

    def to_dict(self) -> dict[str, Any]:
        """The decision and its reasons in JSON's types, without the waveform."""
        described = super().to_dict()
        del described["frames"], described["edges"]
        return {
            **described,
            "spread": None if math.isnan(self.spread) else self.spread,
            "descriptors": self.to_frame().to_dict(orient="list"),
            "references": self.references.to_dict(orient="list"),
        }

    def plot(self, *, edges: int = 30) -> Figure:
        """The descriptors and the known recordings that carried the decision.

        Args:
            edges: How many of the known recordings to draw at most.
        """
        from graphophone.inference.picture import draw_recording

        return draw_recording(self, edges=edges)


@dataclass(frozen=True)
class Attached:
    """A clip on copies of all reference graphs, side by side.

    Attributes:
        x: Features of the nodes `[nodes, dims]`.
        edge_index: `[2, edges]`.
        edge_weight: `[edges]`.
        clip: The clip in each copy `[draws]`.
        slot: For each edge the number of the attachment that it is one direction of, -1 for an edge of the reference
            graph `[edges]`.
        draw: Reference graph of each attachment `[attachments]`.
        node: Its node in that graph `[attachments]`.
    """

    x: Tensor
    edge_index: Tensor
    edge_weight: Tensor
    clip: Tensor
    slot: Tensor
    draw: Tensor
    node: Tensor


def attach_to_all(references: Sequence[Data], x: Tensor, attachment: Mapping[str, Any]) -> Attached:
    """One clip on a copy of each reference graph, with the edges that an answer has.

    Args:
        references: One graph per draw; none where a clip is attached to none.
        x: Standardised features of the clip `[1, dims]`.
        attachment: `edges`, `how` and `seed`.
    """
    ids = content_ids(x)
    references = references or [no_reference(x)]
    graphs = [attach(graph, x, ids, **attachment, draw=draw) for draw, graph in enumerate(references)]
    sizes = torch.tensor([len(graph.x) for graph in graphs], device=graphs[0].x.device)
    first = sizes.cumsum(0) - sizes
    edge_index = torch.cat([graph.edge_index + begin for graph, begin in zip(graphs, first, strict=True)], dim=1)
    clip = first + sizes - 1
    nodes = int(sizes.sum())
    is_clip = torch.zeros(nodes, dtype=torch.bool, device=clip.device).index_fill(0, clip, True)
    source, target = edge_index
    known = source[is_clip[target]]
    slot_of = torch.full((nodes,), -1, device=clip.device)
    slot_of[known] = torch.arange(len(known), device=clip.device)
    slot = torch.where(is_clip[target], slot_of[source], torch.where(is_clip[source], slot_of[target], -1))
    draw = torch.bucketize(known, first, right=True) - 1
    weight = torch.cat([graph.edge_weight for graph in graphs])
    return Attached(torch.cat([graph.x for graph in graphs]), edge_index, weight, clip, slot, draw, known - first[draw])


def attached_log_odds(
    model: nn.Module, graph: Attached, target: int, x: Tensor | None = None, weight: Tensor | None = None
) -> Tensor:
    """Log-odds of a class, from its probability averaged over the reference graphs.

    Args:
        model: Takes `(x, edge_index, edge_weight)`, gives logits `[nodes, classes]`.
        graph: The clip on the reference graphs.
        target: Class.
        x: Other features of the clip `[copies, dims]`; None: its own.
        weight: Weights of its attachments `[copies, attachments]`; None: as they are.

    Returns:
        `[copies]`; one if neither is given.
    """
    copies = len(x) if x is not None else len(weight) if weight is not None else 1
    nodes, draws = len(graph.x), len(graph.clip)
    offset = torch.arange(copies, device=graph.x.device)[:, None] * nodes
    edges = (graph.edge_index[:, None] + offset).flatten(1)
    clip = (graph.clip + offset).flatten()
    features, weights = graph.x.repeat(copies, 1), graph.edge_weight.expand(copies, -1)
    if x is not None:
        features = features.index_copy(0, clip, x.repeat_interleave(draws, dim=0))
    if weight is not None and len(graph.node):
        weights = torch.where(graph.slot < 0, weights, weight[:, graph.slot.clamp(min=0)] * weights)
    logits = model(features, edges, weights.flatten())[clip].view(copies, draws, -1)
    return log_odds(logits.log_softmax(dim=2).logsumexp(dim=1), target)


def recording_contributions(
    model: nn.Module, graph: Attached, target: int, *, steps: int = 32
) -> tuple[Tensor, float, float]:
    """Integrated gradients of the log-odds of a class over the descriptors of a clip, from the average recording.

    Returns:
        Contributions `[dims]`, the log-odds of the clip and of the average recording with the same edges.
    """
    x = graph.x[graph.clip[0]]
    copies = max(1, _NODES_AT_ONCE // len(graph.x))
    return integrate(
        lambda part, _: attached_log_odds(model, graph, target, x=part), x, torch.zeros_like(x), steps, copies=copies
    )


def attachment_contributions(
    model: nn.Module, graph: Attached, target: int, *, steps: int = 32
) -> tuple[Tensor, float, float]:
    """Integrated gradients of the log-odds of a class over the edges of a clip, from 0 (they bring nothing) to 1.

    Returns:
        Contributions `[attachments]`, both directions of an edge together, and the log-odds with and without them.
    """
    weight = torch.ones(len(graph.node), dtype=graph.x.dtype, device=graph.x.device)
    copies = max(1, _NODES_AT_ONCE // len(graph.x))
    return integrate(
        lambda part, _: attached_log_odds(model, graph, target, weight=part),
        weight,
        torch.zeros_like(weight),
        steps,
        copies=copies,
    )


def explain_recording(
    recognizer: Recognizer,
    waveform: audio.Waveform,
    target: str | None = None,
    *,
    steps: int = 32,
    start: float = 0.0,
    metadata: Mapping[str, float] | None = None,
) -> RecordingExplanation:
    """As `graphophone.inference.explain`, for a network whose nodes are recordings.

    Args:
        recognizer: The model.
        waveform: The clip.
        target: Class to explain; the likeliest if None.
        steps: Points of the numerical integral.
        start: Second of the file at which the clip begins.
        metadata: Values of the metadata columns of the features.
    """
    bundle = recognizer.bundle
    vector = bundle.pipeline(waveform.signal, waveform.rate, metadata)
    answer = recognizer.answer(vector)
    chosen = int(answer.probabilities.argmax()) if target is None else bundle.labels.index(target)
    x = recognizer.standardized(vector)
    graph = attach_to_all(recognizer.references, x.to(recognizer.device), bundle.attachment)
    scores, evidence, baseline = recording_contributions(recognizer.model, graph, chosen, steps=steps)
    edge_scores, full, alone = attachment_contributions(recognizer.model, graph, chosen, steps=steps)
    feature_scores = scores.cpu().numpy().astype(np.float64)
    pulls = edge_scores.cpu().numpy().astype(np.float64)
    references, source = _table(recognizer, graph, pulls)
    columns = bundle.pipeline.columns
    hertz = band_centres(bundle.pipeline.extractor)
    groups = {name: float(feature_scores[members].sum()) for name, members in grouped(columns, hertz).items()}
    return RecordingExplanation(
        file=waveform.path,
        label=bundle.labels[chosen],
        probability=float(answer.probabilities[chosen]),
        probabilities=answer.probabilities,
        labels=bundle.labels,
        times=np.array([start + waveform.duration / 2]),
        frame_seconds=waveform.duration,
        feature_scores=feature_scores[None],
        columns=columns,
        groups=groups,
        edge_index=np.stack([source + 1, np.zeros_like(source)]),
        edge_scores=pulls,
        evidence=evidence,
        baseline=baseline,
        baseline_without_edges=alone,
        gap=evidence - baseline - float(feature_scores.sum()),
        edge_gap=full - alone - float(pulls.sum()),
        signal=waveform.signal,
        rate=waveform.rate,
        start=start,
        hertz=hertz,
        references=references,
        spread=math.nan if answer.spread is None else float(answer.spread[chosen]),
    )


@torch.no_grad()
def _table(recognizer: Recognizer, graph: Attached, scores: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """The known recordings by the strength of their edges, and for each attachment its row there `[attachments]`."""
    if not len(graph.node):
        columns = {"recording": object, "label": object, "label_is": object, "draws": np.int64, "score": np.float64}
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in columns.items()}), np.zeros(0, np.int64)
    model, references, labels = recognizer.model, recognizer.references, recognizer.labels
    tensors, _ = pack(references)
    number = tensors["node"].numpy()
    ends = np.cumsum(tensors["size"].numpy())
    # What the network itself takes a recording for that has no label, over all graphs that it is in.
    p = torch.cat([model(each.x, each.edge_index, each.edge_weight).float().softmax(dim=1) for each in references])
    taken_for = np.zeros((len(tensors["y"]), len(labels)))
    np.add.at(taken_for, number, p.cpu().numpy())
    truth = tensors["y"].numpy()
    known = truth >= 0
    classes = np.where(known, truth, taken_for.argmax(axis=1))
    names = np.empty(len(truth), dtype=object)
    names[:] = [f"recording {i + 1}" for i in range(len(truth))]
    if all("id" in each for each in references):
        names[number] = [name for each in references for name in each.id]
    draw, node = graph.draw.cpu().numpy(), graph.node.cpu().numpy()
    attached = number[ends[draw] - tensors["size"].numpy()[draw] + node]
    distinct, place = np.unique(attached, return_inverse=True)
    total = np.bincount(place, scores, minlength=len(distinct))
    order = np.argsort(-np.abs(total), kind="stable")
    row = np.empty_like(order)
    row[order] = np.arange(len(order))
    chosen = distinct[order]
    table = pd.DataFrame(
        {
            "recording": names[chosen],
            "label": [labels[i] for i in classes[chosen]],
            "label_is": np.where(known[chosen], "true", "predicted"),
            "draws": np.bincount(place, minlength=len(distinct))[order],
            "score": total[order],
        }
    )
    return table, row[place]
