"""What a run's model costs: the encoders that make its vectors, and the network behind them, each by itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from graphophone.corpora.base import Corpus
from graphophone.evaluation.protocols import Split
from graphophone.features import pretrained
from graphophone.features.base import Extractor
from graphophone.features.encoder import Encoder
from graphophone.features.modalities import Modalities
from graphophone.features.text import is_text
from graphophone.features.text_encoder import TextEncoder
from graphophone.inputs import Prepared
from graphophone.models import PretrainedModel
from graphophone.models.cost import count_macs, hemogat_cost
from graphophone.models.hemogat import HemoGAT
from graphophone.recipes import Recipe


def run_cost(recipe: Recipe, prepared: Prepared, model: PretrainedModel, split: Split) -> dict[str, Any] | None:
    """Parameters and multiply-accumulate operations (MACs) of a run's HemoGAT and of its encoders.

    Args:
        recipe: The recipe.
        prepared: Corpus and features.
        model: The network; its weights do not matter.
        split: Whose training part is the graph, and whose test part Table 5 of the paper would count.

    Returns:
        None for other networks. A dictionary fit for JSON:

        * ``encoders``: by modality ``name``, ``parameters``, ``macs`` of one utterance and what ``utterance`` that is;
          None where vectors are given or made without a network;
        * ``head``: ``parameters`` by part and in all; ``dense`` MACs of one utterance by part; ``utterance``: MACs for
          a new utterance with ``neighbours`` known ones, at most, and ``search``: to find them; ``graph``: MACs of one
          pass over the training graph of so many ``nodes`` and ``edges``, at most; ``tokens``: of an utterance (the
          mean), where cross-attention goes over them, else None;
        * ``published``: the sum in Table 5 of the paper (``flops_protocol: paper``), which adds the encoders of one
          utterance to dense layers of all ``test_items``; None where an encoder's part is not known.
    """
    if not isinstance(model, HemoGAT):
        return None
    extractor = prepared.pipeline.extractor
    parts = extractor.parts if isinstance(extractor, Modalities) else {next(iter(model.widths)): extractor}
    read = {name: part for name, part in parts.items() if name in model.needs}
    encoders = {name: encoder_cost(part, prepared) for name, part in read.items()}
    tokens = None
    if model.cmt_axis == "tokens":
        tokens = {name: max(1, round(float(part.lengths.mean()))) for name, part in prepared.sequences.items()}
    cost = hemogat_cost(model, tokens=tokens)
    chosen = [int(recipe.graph.get(f"k_{name}") or 0) for name in read]
    nodes, test = len(split.train) + len(split.unlabelled), len(split.test)
    edges = nodes * _edges_of_one(model, chosen, str(recipe.graph.get("direction", "in")))
    known = [each["macs"] for each in encoders.values()]
    dense = hemogat_cost(model, tokens=tokens, idle=True)  # the paper's count has idle queries and keys in it
    return {
        "unit": "MACs",
        "encoders": encoders,
        "head": {
            "parameters": {**cost.parameters, "total": cost.total_parameters},
            "dense": dict(cost.dense),
            "tokens": tokens,
            "neighbours": sum(chosen),
            "utterance": cost.utterance(sum(chosen)),
            "search": nodes * sum(model.widths[name] for name, k in zip(read, chosen, strict=True) if k),
            "graph": {"nodes": nodes, "edges": edges, "macs": cost.graph(nodes, edges)},
        },
        "published": None
        if None in known
        else {
            "flops_protocol": "paper",
            "test_items": test,
            "macs": dense.as_published(sum(each for each in known if each is not None), test),
        },
    }


def _edges_of_one(model: HemoGAT, chosen: list[int], direction: str) -> int:
    """Edges for each utterance of a graph, at most, those to itself among them."""
    near = sum(chosen) * (2 if direction == "symmetric" else 1)
    return near + (2 * len(chosen) if model.typed else 1)


def encoder_cost(extractor: Extractor, prepared: Prepared) -> dict[str, Any]:
    """What one utterance costs an encoder: one of median words, or of mean duration.

    Args:
        extractor: The extractor of a modality.
        prepared: The corpus and its features, for the lengths.

    Returns:
        ``name``, ``parameters``, ``macs``, ``utterance`` (in words); the numbers are None where there is no network
        that could be counted: vectors are given, or made by other means.
    """
    found: dict[str, Any] = {"name": extractor.name, "parameters": None, "macs": None, "utterance": None}
    if not isinstance(extractor, Encoder):
        return found
    extractor.prepare()
    network = pretrained.load_network(extractor.folder, pooler=_pools(extractor))
    call: Callable[[], Any]
    if isinstance(extractor, TextEncoder):
        text = median_text(prepared.corpus)
        call, words = partial(extractor.encode, [text]), f"{len(text.split())} words (the median text)"
    else:
        stats = prepared.features.stats
        seconds = stats.seconds_audio / max(1, stats.items)
        signal = np.random.default_rng(0).standard_normal(max(round(seconds * extractor.rate), 1)).astype(np.float32)
        call, words = partial(extractor, signal, extractor.rate), f"{seconds:.1f} s (the mean recording)"
    parameters = sum(weights.numel() for weights in network.parameters())
    return {**found, "parameters": parameters, "macs": count_macs(call), "utterance": words}


def _pools(extractor: Encoder) -> bool:
    """Whether the network's own pooler is used."""
    return extractor.options.get("pooling") == "pooler" and not extractor.options.get("sequence")


def median_text(corpus: Corpus) -> str:
    """The transcript of median length in characters."""
    texts = sorted((text for text in corpus.table["text"] if is_text(text)), key=lambda text: (len(text), text))
    return texts[len(texts) // 2]
