"""Why a network of what is said and how said what it said: text against sound, descriptors, and known utterances.

As in `graphophone.inference.explanations` these are integrated gradients of the log-odds of the label. Text and sound
of an utterance say much the same as the known utterances that are near by them, so that either could be taken away with
little loss; what each contributed is told by going from an average training utterance that hears nobody (all columns,
tokens, and weights of the edges 0) straight to this one, and all contributions add up. Which edges there are is held
fixed; their weights leave the attention along them as it is.

Beside that stands what the networks of one modality say, where the model holds them: an answer without the other, not a
share of this one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from graphophone import audio
from graphophone.features.base import Extractor
from graphophone.features.modalities import Modalities
from graphophone.graphs.modalities import split_modalities
from graphophone.inference.bands import band_centres
from graphophone.inference.clips import Clip, Heard, hear
from graphophone.inference.explanations import grouped, integrate, log_odds
from graphophone.inference.recognizer import Recognizer
from graphophone.inference.recording_explanations import RecordingExplanation
from graphophone.modalities import MODALITIES
from graphophone.models.bank import Bank, has
from graphophone.models.hemogat import HemoGAT
from graphophone.nn.cross_attention import Sequences
from graphophone.nn.typed_stack import Relations

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COPIES = 256
"""Points of an integral in the network at once."""

Relation = tuple[str, str, str] | None


@dataclass(frozen=True)
class UtteranceExplanation(RecordingExplanation):
    """Why a network of text and sound said what it said of one utterance.

    As `RecordingExplanation`, where `references` has in place of `draws` the column `near_by`: in which modality the
    known utterance is among the nearest. `baseline` is the log-odds of an average training utterance that hears nobody:
    `feature_scores`, the scores of `references` and those of `tokens` add up to `evidence - baseline - gap`.
    `baseline_without_edges` is what this utterance would have if known ones brought nothing. Without a recording
    `times` is NaN and `signal` empty.

    Attributes:
        text: What was said; None where it is not known.
        used: What the network read that answered, as in the answers of a `Recognizer`.
        modalities: One row for each modality that was read: `modality`, `score` (what it contributed, in log-odds, its
            tokens included) and `alone` (probability of the label by the network of this modality; NaN where the model
            holds none, or nothing was left out).
        tokens: Contribution of each token or frame by modality `[length]`, for a network that attends over them.
        column_groups: For each of `columns` the group that it belongs to.
    """

    text: str | None = None
    used: str = ""
    modalities: pd.DataFrame = field(default_factory=pd.DataFrame)
    tokens: Mapping[str, np.ndarray] = field(default_factory=dict)
    column_groups: tuple[str, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """One row per descriptor, in the order of the features: `column`, `group`, `score`."""
        return pd.DataFrame(
            {"column": self.columns, "group": list(self.column_groups), "score": self.feature_scores[0]}
        )

    def to_dict(self) -> dict[str, Any]:
        """The decision and its reasons in JSON's types, without the waveform."""
        modalities = self.modalities.astype(object).where(self.modalities.notna(), None)
        return {
            **super().to_dict(),
            "text": self.text,
            "used": self.used,
            "modalities": modalities.to_dict(orient="list"),
            "tokens": {name: scores.tolist() for name, scores in self.tokens.items()},
        }

    def plot(self, *, edges: int = 30) -> Figure:
        """Text and sound, the descriptors and the known utterances that carried the decision.

        Args:
            edges: How many of the known utterances to draw at most.
        """
        from graphophone.inference.picture import draw_utterance

        return draw_utterance(self, edges=edges)


@dataclass(frozen=True, eq=False)
class Asked:
    """One utterance among known ones, as a network reads it.

    Attributes:
        network: That answers.
        states: What the known utterances show.
        x: Standardised vector `[dims]`, 0 where the utterance lacks a modality.
        edges: By relation (None: of all modalities) numbers of known utterances `[edges]`.
        tokens: Token vectors by modality `[length, width]`, where the network attends over them.
    """

    network: HemoGAT
    states: tuple[Tensor, ...]
    x: Tensor
    edges: Mapping[Relation, Tensor]
    tokens: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, bank: Bank, name: str, x: Tensor, tokens: Mapping[str, Tensor]) -> Asked:
        """An utterance `[1, dims]` beside the known ones of a network."""
        network = bank.model.routes()[name]
        found = bank.edges(name, x)
        edges: dict[Relation, Tensor] = {None: found[0]} if isinstance(found, Tensor) else {}
        if not isinstance(found, Tensor):
            edges = {relation: part[0] for relation, part in found.items()}
        return cls(network, bank.states(name), x[0].nan_to_num(0.0), edges, tokens)

    @property
    def parts(self) -> Tensor:
        """All that the utterance is made of, in a row: its vector, then its tokens."""
        return torch.cat([self.x, *(part.flatten() for part in self.tokens.values())])

    @property
    def count(self) -> int:
        """Number of edges."""
        return sum(len(part) for part in self.edges.values())

    def log_odds(self, target: int, parts: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
        """Log-odds of a class.

        Args:
            target: Class.
            parts: Something else that the utterance is made of `[copies, parts]`; None: what it is.
            weight: Weights of its edges `[copies, edges]`; None: 1.

        Returns:
            `[copies]`; one if nothing is given.
        """
        copies = len(parts) if parts is not None else len(weight) if weight is not None else 1
        parts = self.parts.expand(copies, -1) if parts is None else parts
        sizes = [len(self.x), *(part.numel() for part in self.tokens.values())]
        x, *tokens = parts.split(sizes, dim=1)
        sequences = {
            name: Sequences(values.reshape(-1, shape.shape[1]), torch.full((copies,), len(shape), device=values.device))
            for (name, shape), values in zip(self.tokens.items(), tokens, strict=True)
        }
        copy = torch.arange(copies, device=x.device)
        edges = {
            relation: torch.stack([known.repeat(copies), copy.repeat_interleave(len(known))])
            for relation, known in self.edges.items()
        }
        shares: dict[Relation, Tensor] = {}
        if weight is not None:
            split = weight.split([len(known) for known in self.edges.values()], dim=1)
            shares = {relation: part.flatten() for relation, part in zip(edges, split, strict=True)}
        typed = None not in edges
        logits = self.network.answer(
            x,
            self.states,
            cast(Relations, edges) if typed else edges[None],
            None if weight is None else cast(Relations, shares) if typed else shares[None],
            sequences=sequences or None,
        )
        return log_odds(logits, target)

    def contributions(self, target: int, *, steps: int = 32) -> tuple[Tensor, Tensor, float, float]:
        """Integrated gradients over what the utterance is made of and the weights of its edges, both from zeros.

        Returns:
            Contributions `[parts]` and `[edges]`, and the log-odds at both ends.
        """
        end = torch.cat([self.parts, self.x.new_ones(self.count)])
        sizes = [len(end) - self.count, self.count]

        def run(points: Tensor, _: int) -> Tensor:
            parts, weight = points.split(sizes, dim=1)
            return self.log_odds(target, parts, weight)

        copies = max(1, _COPIES // max(1, sum(len(part) for part in self.tokens.values())))
        found, evidence, baseline = integrate(run, end, torch.zeros_like(end), steps, copies=copies)
        return (*found.split(sizes), evidence, baseline)


def explain_utterance(
    recognizer: Recognizer,
    source: audio.Waveform | None,
    target: str | None = None,
    *,
    text: str | None = None,
    steps: int = 32,
    start: float = 0.0,
    metadata: Mapping[str, float] | None = None,
) -> UtteranceExplanation:
    """As `graphophone.inference.explain`, for a model that answers among all known utterances.

    Args:
        recognizer: The model.
        source: The recording; None where there is only text.
        target: Class to explain; the likeliest if None.
        text: What is said, for a model that reads it.
        steps: Points of the numerical integral.
        start: Second of the file at which the recording begins.
        metadata: Values of the metadata columns of the features.

    Raises:
        GraphophoneError: If there is neither text nor recording, or no network for what there is.
    """
    bundle, bank = recognizer.bundle, recognizer.bank
    heard = _heard(recognizer, source, text, metadata)
    answer = recognizer.answer_to(heard)
    chosen = int(answer.probabilities.argmax()) if target is None else bundle.labels.index(target)
    x = recognizer.standardized(cast(Any, heard.frames)).to(recognizer.device)
    routes = bank.model.routes()
    name = next(route for route, network in routes.items() if bool(has(x, network)[0]))
    network = routes[name]
    tokens = {}
    if network.cmt_axis == "tokens" and network.cross:
        sequences = recognizer.tokens([heard.sequences], 1) or {}
        tokens = {modality: sequences[modality].values.float() for modality in network.streams}
    asked = Asked.of(bank, name, x, tokens)
    scores, pulls, evidence, baseline = asked.contributions(chosen, steps=steps)
    with torch.no_grad():
        unheard = float(asked.log_odds(chosen, weight=pulls.new_zeros(1, asked.count)))
    sizes = [len(asked.x), *(part.numel() for part in tokens.values())]
    vector, *of_tokens = (part.cpu().numpy().astype(np.float64) for part in scores.split(sizes))
    by_token = {
        modality: part.reshape(len(tokens[modality]), -1).sum(axis=1)
        for modality, part in zip(tokens, of_tokens, strict=True)
    }
    edge_scores = pulls.cpu().numpy().astype(np.float64)
    references, row = _known(recognizer, asked, name, x, edge_scores)
    groups = utterance_groups(bundle.pipeline.extractor, network.widths)
    duration = 0.0 if source is None else source.duration
    return UtteranceExplanation(
        file=None if source is None else source.path,
        label=bundle.labels[chosen],
        probability=float(answer.probabilities[chosen]),
        probabilities=answer.probabilities,
        labels=bundle.labels,
        times=np.array([start + duration / 2 if source is not None else math.nan]),
        frame_seconds=duration,
        feature_scores=vector[None],
        columns=bundle.pipeline.columns,
        groups={group: float(vector[members].sum()) for group, members in groups.items()}
        | {f"{modality}: tokens": float(part.sum()) for modality, part in by_token.items()},
        edge_index=np.stack([row + 1, np.zeros_like(row)]),
        edge_scores=edge_scores,
        evidence=evidence,
        baseline=baseline,
        baseline_without_edges=unheard,
        gap=evidence - baseline - float(scores.sum()) - float(pulls.sum()),
        edge_gap=None,
        signal=np.zeros(0, dtype=np.float32) if source is None else source.signal,
        rate=bundle.pipeline.rate if source is None else source.rate,
        start=start if source is not None else math.nan,
        references=references,
        text=text if text and text.strip() else None,
        used=answer.used,
        modalities=_modalities(recognizer, network, x, heard, vector, by_token, chosen),
        tokens=by_token,
        column_groups=_names(groups, len(vector)),
    )


def utterance_groups(extractor: Extractor, widths: Mapping[str, int]) -> dict[str, list[int]]:
    """Positions of the columns by modality and, of sound, kind of descriptor: `"text"`, `"audio: pitch"`, ...

    Args:
        extractor: Of the model.
        widths: Columns of each modality.
    """
    parts: Mapping[str, Extractor] = extractor.parts if isinstance(extractor, Modalities) else {}
    found: dict[str, list[int]] = {}
    begin = 0
    for name in (modality for modality in MODALITIES if modality in widths):
        part = parts.get(name, extractor)
        if part.reads == "signal":
            for group, members in grouped(part.columns, band_centres(part)).items():
                found[f"{name}: {group}"] = [begin + member for member in members]
        else:  # dimensions of a vector of words have no names
            found[name] = list(range(begin, begin + widths[name]))
        begin += widths[name]
    return found


def _heard(
    recognizer: Recognizer, source: audio.Waveform | None, text: str | None, metadata: Mapping[str, float] | None
) -> Heard:
    """Features of the utterance.

    Raises:
        GraphophoneError: If there are none.
    """
    clip = Clip(
        0,
        signal=None if source is None else source.signal,
        rate=0 if source is None else source.rate,
        metadata=dict(metadata or {}),
        text=text if source is not None else text or "",
    )
    heard = hear(clip, recognizer.bundle.pipeline, None)
    if heard.error is not None:
        raise heard.error
    return heard


def _modalities(
    recognizer: Recognizer,
    network: HemoGAT,
    x: Tensor,
    heard: Heard,
    scores: np.ndarray,
    by_token: Mapping[str, np.ndarray],
    target: int,
) -> pd.DataFrame:
    """What each modality contributed, and what the network of it alone would say."""
    bank = recognizer.bank
    sums = split_modalities(torch.from_numpy(scores)[None], network.widths)
    rows = []
    for name in network.needs:
        alone = math.nan
        if name in bank.model.routes() and len(network.needs) > 1:
            columns = split_modalities(torch.arange(x.shape[1])[None], network.widths)[name][0]
            only = torch.full_like(x, torch.nan)
            only[:, columns] = x[:, columns]
            found = bank.answer(only, sequences=recognizer.tokens([heard.sequences], 1))
            alone = float(found.probabilities[0, target])
        score = float(sums[name].sum()) + float(by_token.get(name, np.zeros(1)).sum())
        rows.append({"modality": name, "score": score, "alone": alone})
    return pd.DataFrame(rows, columns=["modality", "score", "alone"])


@torch.no_grad()
def _known(
    recognizer: Recognizer, asked: Asked, name: str, x: Tensor, scores: np.ndarray
) -> tuple[pd.DataFrame, np.ndarray]:
    """The known utterances by the strength of their edges, and for each edge its row there `[edges]`."""
    bank, labels, graph = recognizer.bank, recognizer.labels, recognizer.references[0]
    network = asked.network
    number = torch.cat(list(asked.edges.values())).cpu().numpy()
    distinct, place = np.unique(number, return_inverse=True)
    sets = {modality: set(found.tolist()) for modality, found in bank.nearest(name, x).items()}
    near_by = [" and ".join(modality for modality, found in sets.items() if int(known) in found) for known in distinct]
    total = np.bincount(place, scores, minlength=len(distinct)) if len(distinct) else np.zeros(0)
    rows = has(graph.x, network).nonzero()[:, 0].cpu().numpy()[distinct]
    truth = graph.y.cpu().numpy()[rows]
    classes = truth.copy()
    if (truth < 0).any():  # what the network itself takes those for that have no label
        own = network(graph.x[has(graph.x, network)], bank.among_known(name)).argmax(dim=1).cpu().numpy()
        classes = np.where(truth < 0, own[distinct], truth)
    ids = graph.id if "id" in graph else [f"utterance {i + 1}" for i in range(len(graph.x))]
    order = np.argsort(-np.abs(total), kind="stable")
    row = np.empty_like(order)
    row[order] = np.arange(len(order))
    table = pd.DataFrame(
        {
            "recording": [ids[rows[i]] for i in order],
            "label": [labels[classes[i]] for i in order],
            "label_is": np.where(truth[order] >= 0, "true", "predicted"),
            "near_by": [near_by[i] for i in order],
            "score": total[order],
        }
    )
    return table, row[place].astype(np.int64)


def _names(groups: Mapping[str, list[int]], columns: int) -> tuple[str, ...]:
    """The group of every column."""
    found = [""] * columns
    for name, members in groups.items():
        for member in members:
            found[member] = name
    return tuple(found)
