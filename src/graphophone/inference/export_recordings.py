"""A network whose nodes are recordings as a module of dense products: what an ONNX file can hold.

Only clips that are attached to their nearest known recordings: edges drawn by lot follow from a hash of the features,
which no operator of ONNX computes.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from graphophone.inference.bundle import Bundle
from graphophone.models.attached import content_ids, predict_attached
from graphophone.models.subgraph_ssl import NodeLinear, SubgraphSSL
from graphophone.nn.signed import SignedGCNConv

LARGEST = 1024
"""Nodes of a reference graph up to which a dense product per clip is worth it."""

BACKBONES = ("gcn", "graphmix", "mlp")


def obstacle(bundle: Bundle) -> str | None:
    """Why a model of recordings cannot be exported, and what can; None if it can."""
    model = bundle.model
    if bundle.has_bank:
        return (
            f"it searches {len(bundle.references[0].x)} known utterances for those nearest to a new one, and settles "
            "ties as no operator of ONNX does; use the model folder"
        )
    if not isinstance(model, SubgraphSSL) or model.backbone not in BACKBONES:
        backbone = getattr(model, "backbone", "?")
        return f"its layers ({backbone!r}) have no dense form; those of {', '.join(BACKBONES)} do"
    if bundle.attachment["how"] == "random":
        return (
            "the edges of its clips are drawn by lot from a hash, which ONNX cannot compute; save the model with "
            "attachment how='nearest' or 'none'"
        )
    largest = max((len(graph.x) for graph in bundle.references), default=0)
    if largest > LARGEST:
        return f"a reference graph has {largest} nodes, more than {LARGEST}; draw smaller ones"
    return None


class DenseReference(nn.Module):
    """One reference graph, with clips attached to their nearest nodes, as `graphophone.graphs.attachment.attach` does.

    Args:
        graph: `x`, `edge_index` and `edge_weight`.
        edges: T, edges of each clip.
        drop: Whether edges of negative weight are left out.

    Shapes:
        - **input:** `[batch, dims]`
        - **output:** nodes `[batch, nodes + 1, dims]`, the clip the last, and the signed normalised adjacency
          (`graphophone.nn.signed.signed_norm`) `[batch, nodes + 1, nodes + 1]`, rows are targets
    """

    x: Tensor
    between: Tensor

    def __init__(self, graph: Data, edges: int, *, drop: bool) -> None:
        super().__init__()
        nodes = len(graph.x)
        weight = graph.edge_weight.clamp(min=0) if drop else graph.edge_weight
        between = torch.zeros(nodes, nodes)
        between.index_put_((graph.edge_index[1], graph.edge_index[0]), weight, accumulate=True)
        loops = between.diagonal()
        loops.copy_(torch.where(loops == 0, 1.0, loops))
        self.register_buffer("x", graph.x.clone())
        self.register_buffer("between", between)
        self.edges = min(edges, nodes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The nodes and the operator of every copy."""
        batch, nodes = x.shape[0], self.x.shape[0]
        distances = (x.double()[:, None] - self.x.double()).square().sum(dim=2).float()
        chosen = distances.topk(self.edges, dim=1, largest=False).indices
        row = torch.nn.functional.one_hot(chosen, nodes).sum(dim=1).to(x.dtype)  # [batch, nodes]
        above = torch.cat([self.between.expand(batch, nodes, nodes), row[:, :, None]], dim=2)
        below = torch.cat([row, row.new_ones(batch, 1)], dim=1)
        adjacency = torch.cat([above, below[:, None]], dim=1)
        degree = adjacency.abs().sum(dim=2)
        scale = torch.where(degree > 0, degree.clamp(min=1e-30).rsqrt(), 0.0)
        known = self.x.expand(batch, nodes, x.shape[1])
        return torch.cat([known, x[:, None]], dim=1), scale[:, :, None] * adjacency * scale[:, None]


class FromVectors(nn.Module):
    """Standardisation, attachment to all reference graphs, network, mean over the graphs.

    Args:
        bundle: A model of recordings, of which `obstacle` says nothing.

    Shapes:
        - **input:** `[batch, dims]`, as `bundle.pipeline` gives them
        - **output:** logarithms of the probabilities and probabilities, `[batch, classes]` each
    """

    mean: Tensor
    std: Tensor
    bound: Tensor

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        standardizer = bundle.standardizer
        bound = np.full(standardizer.dims, standardizer.clip)
        bound[list(standardizer.skip)] = np.inf
        for name, values in (("mean", standardizer.mean), ("std", standardizer.std), ("bound", bound)):
            self.register_buffer(name, torch.from_numpy(values.astype(np.float32)))
        network = cast(SubgraphSSL, copy.deepcopy(bundle.model).cpu().eval())
        self.layers, self.classifier = network.layers, network.classifier
        edges, drop = bundle.attachment["edges"], network.negative == "drop"
        graphs = () if bundle.attachment["how"] == "none" else bundle.references
        self.references = nn.ModuleList(DenseReference(graph, edges, drop=drop) for graph in graphs)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of the probabilities, and probabilities."""
        x = (features - self.mean) / self.std
        x = torch.maximum(torch.minimum(x, self.bound), -self.bound)
        total = []
        # A clip that is attached to nothing is a graph of its own, with a loop.
        alone = [(x[:, None], torch.ones_like(x[:, :1, None]))] if not len(self.references) else []
        for h, operator in alone or [reference(x) for reference in self.references]:
            for layer in self.layers:
                h = _convolve(layer, h, operator).relu()
            total.append(_convolve(self.classifier, h, operator)[:, -1].softmax(dim=1))
        probabilities = torch.stack(total).mean(dim=0)
        return probabilities.clamp(min=1e-30).log(), probabilities


def answers(bundle: Bundle, features: Tensor) -> list[np.ndarray]:
    """What the model itself answers: logarithms of the probabilities and probabilities, `[batch, classes]` each."""
    x = torch.from_numpy(bundle.standardizer(features.numpy()))
    model: Any = copy.deepcopy(bundle.model).cpu()
    p = predict_attached(model, bundle.references, x, content_ids(x), **bundle.attachment).probabilities
    return [p.clamp(min=1e-30).log().numpy(), p.numpy()]


def _convolve(layer: nn.Module, h: Tensor, operator: Tensor) -> Tensor:
    """A layer on dense graphs: `[batch, nodes, wide]` -> `[batch, nodes, out]`."""
    if isinstance(layer, NodeLinear):
        return layer.linear(h)
    layer = cast(SignedGCNConv, layer)
    lin, bias = layer.conv.lin, layer.conv.bias
    if layer.apart is None:
        out = operator @ lin(h)
    else:
        out = operator.clamp(min=0) @ lin(h) + operator.clamp(max=0) @ layer.apart.lin(h)
    return out if bias is None else out + bias
