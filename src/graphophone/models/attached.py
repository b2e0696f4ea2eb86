"""Answers for new recordings from a network of nodes: pseudo-labels of a pool, and copies of a reference graph.

For any network that turns ``(x, edge_index, edge_weight)`` into node logits ``[N, C]``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from graphophone.graphs.attachment import Attachment, attach, choose, draw_reference, no_reference
from graphophone.graphs.subgraphs import SubgraphSampler
from graphophone.models.attached_convolution import ROWS, AttachedConvolution
from graphophone.models.base import ModelError, evaluating

# Nodes of one call of the network: those of about 300 subgraphs.
NODES = 16384


@dataclass(frozen=True)
class PseudoLabels:
    """What a network takes unlabelled nodes of a pool for.

    Attributes:
        labels: Most likely class of each node; -1 where the pool has a true label. ``[pool]`` int64
        confidence: Its probability; 0 where the pool has a true label. ``[pool]``
    """

    labels: Tensor
    confidence: Tensor


@dataclass(frozen=True)
class AttachedPrediction:
    """Class probabilities of new recordings.

    Attributes:
        probabilities: Mean over the draws ``[clips, C]``.
        spread: Their standard deviation over draws (divisor: number of draws - 1; 0 for one draw) ``[clips, C]``.
        states: Node states before the heads, mean over the draws, where they were asked for ``[clips, dims]``.
    """

    probabilities: Tensor
    spread: Tensor
    states: Tensor | None = None


def content_ids(x: Tensor) -> list[str]:
    """Names of recordings by what is in them: the same features get the same edges, whatever their files are called.

    Args:
        x: Features ``[clips, dims]``.

    Returns:
        Hexadecimal digits, one text per clip.
    """
    rows = x.detach().cpu().float().contiguous().numpy()
    return [hashlib.blake2b(row.tobytes(), digest_size=12).hexdigest() for row in rows]


@torch.no_grad()
def pseudo_label(model: nn.Module, sampler: SubgraphSampler, *, epoch: int = 0) -> PseudoLabels:
    """Classify all unlabelled nodes of a pool, each in a sampled subgraph, once.

    Args:
        model: The network; used in evaluation mode and given back in the mode it had.
        sampler: Draws the subgraphs.
        epoch: Which of its epochs: give one that no training has seen, or any.
    """
    device = next((weight.device for weight in model.parameters()), sampler.x.device)
    labels = torch.full_like(sampler.labels, -1)
    confidence = torch.zeros(len(labels), dtype=torch.float32, device=labels.device)
    with evaluating(model):
        for batch in sampler.parts(epoch):
            free = batch.y < 0
            nodes = (batch.x.to(device), batch.edge_index.to(device), batch.edge_weight.to(device))
            highest = model(*nodes).to(batch.x)[free].softmax(dim=1).max(dim=1)
            labels[batch.node[free]] = highest.indices
            confidence[batch.node[free]] = highest.values
    return PseudoLabels(labels, confidence)


def draw_references(
    sampler: SubgraphSampler,
    pseudo: Tensor,
    *,
    draws: int = 10,
    size: int | None = None,
    true_share: float | None = None,
    seed: int = 0,
) -> list[Data]:
    """Reference graphs drawn from the pool of a sampler by its rules.

    Args:
        sampler: Its pool, and the rules of its edges.
        pseudo: Predicted labels of the pool ``[pool]``; see `pseudo_label`.
        draws: R, number of graphs.
        size: Nodes of each; None: as a training subgraph has.
        true_share: See `graphophone.graphs.attachment.draw_reference`.
        seed: What they are drawn from.
    """
    wanted = sampler.per_class * sampler.num_classes + sampler.unlabelled if size is None else size
    return [
        draw_reference(
            sampler.x,
            sampler.labels,
            pseudo,
            size=wanted,
            num_classes=sampler.num_classes,
            true_share=true_share,
            **sampler.rules,
            seed=seed,
            draw=draw,
        )
        for draw in range(draws)
    ]


@torch.no_grad()
def predict_attached(
    model: nn.Module,
    references: Sequence[Data],
    x: Tensor,
    ids: Sequence[str],
    *,
    edges: int = 4,
    how: Attachment = "random",
    seed: int = 0,
    states: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
) -> AttachedPrediction:
    """Class probabilities of new recordings, each attached to copies of reference graphs of its own.

    The answer for a recording follows from its features and its id; other recordings do not change it.

    Args:
        model: The network; used in evaluation mode and given back in the mode it had.
        references: One graph per draw; see `draw_references`. None is needed where ``how`` is ``"none"``.
        x: Features of the recordings, standardised as the references are ``[clips, dims]``.
        ids: Their names ``[clips]``.
        edges: T, edges of each.
        how: See `graphophone.graphs.attachment.attach`.
        seed: See `graphophone.graphs.attachment.attach`.
        states: Node states from ``(x, edge_index, edge_weight)``, such as ``model.embed``; None: not asked for.

    Raises:
        ModelError: If there is no reference graph and recordings are to be attached.
    """
    if how == "none":  # nothing reaches the recordings, so nothing of the graphs has to be computed
        references = [no_reference(x.to(next((weight for weight in model.parameters()), x)))]
    if not references:
        raise ModelError("there is no reference graph to attach recordings to; draw at least one")
    quick = how != "none" and AttachedConvolution.fits(model) and states in (None, getattr(model, "embed", None))
    step = max(1, (ROWS if quick else NODES) // (max(len(reference.x) for reference in references) + 1))
    total = squares = held = None
    with evaluating(model):
        for draw, reference in enumerate(references):
            p, h = [], []
            convolution = AttachedConvolution(cast(Any, model), reference) if quick else None
            for begin in range(0, len(x), step):
                part = slice(begin, begin + step)
                if convolution is not None:
                    chosen = choose(reference, x[part], ids[part], edges=edges, how=how, seed=seed, draw=draw)
                    logits, embedded = convolution(x[part].to(reference.x), chosen)
                    p.append(logits.double().softmax(dim=1))
                    if states is not None:
                        h.append(embedded.double())
                    continue
                graph = attach(reference, x[part], ids[part], edges=edges, how=how, seed=seed, draw=draw)
                nodes = (graph.x, graph.edge_index, graph.edge_weight)
                p.append(model(*nodes)[graph.clip].double().softmax(dim=1))
                if states is not None:
                    h.append(states(*nodes)[graph.clip].double())
            now = torch.cat(p) if p else x.new_zeros(0, 0, dtype=torch.float64)
            total = now if total is None else total + now
            squares = now**2 if squares is None else squares + now**2
            if h:
                held = torch.cat(h) if held is None else held + torch.cat(h)
    assert total is not None  # noqa: S101 - there is a reference
    assert squares is not None  # noqa: S101 - as above
    draws = len(references)
    mean = total / draws
    spread = ((squares - draws * mean**2).clamp(min=0) / max(draws - 1, 1)).sqrt()
    if draws == 1:
        spread = torch.zeros_like(mean)
    return AttachedPrediction(mean.float(), spread.float(), None if held is None else (held / draws).float())
