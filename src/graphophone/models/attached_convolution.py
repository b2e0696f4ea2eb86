"""Graph convolutions of recordings attached to copies of a graph, at the cost of what reaches the recordings."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from graphophone.models.subgraph_ssl import SubgraphSSL

# States held at once: rows that stay in the cache.
ROWS = 4096


class AttachedConvolution:
    r"""What `SubgraphSSL` says of recordings, each attached to a copy of its own of a reference graph.

    The copies differ from the reference graph in the degrees of the few nodes that a recording is attached to, and in
    what these hear of it. The products of all features with the first weights are therefore done once; the last shared
    layer is computed at the recording and its neighbours, and the head at the recording alone. The answers are those of
    the network on the copies, but for rounding.

    Args:
        model: A network that `fits`.
        reference: The graph, with ``x``, ``edge_index`` and ``edge_weight``, on the device of the network.
    """

    @staticmethod
    def fits(model: nn.Module) -> bool:
        """Whether a network has layers of this kind."""
        return isinstance(model, SubgraphSSL) and model.backbone in ("gcn", "graphmix") and model.negative != "separate"

    def __init__(self, model: SubgraphSSL, reference: Data) -> None:
        self.layers = [cast(Any, layer).conv for layer in model.layers]
        self.head: Any = cast(Any, model.classifier).conv
        weight = reference.edge_weight.clamp(min=0) if model.negative == "drop" else reference.edge_weight
        nodes = len(reference.x)
        self.adjacency = weight.new_zeros(nodes, nodes)
        self.adjacency[reference.edge_index[1], reference.edge_index[0]] = weight
        self.adjacency += torch.diag((self.adjacency.diagonal() == 0).to(weight))
        self.degree = self.adjacency.abs().sum(dim=1)
        self.first = self.layers[0].lin(reference.x)

    def __call__(self, x: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Answers.

        Args:
            x: Features of the recordings ``[clips, dims]``.
            chosen: Nodes that each is attached to, all different ``[clips, edges]``.

        Returns:
            Class scores ``[clips, C]``, and states before the heads ``[clips, hidden_channels]``.
        """
        clips, edges = chosen.shape
        touched = self.degree.new_zeros(clips, len(self.degree)).scatter_(1, chosen, 1.0)
        scale = (self.degree + touched).rsqrt()[:, :, None]  # of the nodes of every copy
        own = (edges + 1) ** -0.5  # of the recordings
        near = scale.gather(1, chosen[:, :, None])  # of their neighbours
        heard = (own * scale.squeeze(-1) * touched)[:, :, None]
        h, g = self.first.expand(clips, -1, -1), self.layers[0].lin(x)
        for number, layer in enumerate(self.layers, 1):
            scaled = scale * h
            around = scaled.gather(1, chosen[:, :, None].expand(-1, -1, h.shape[2]))
            if number < len(self.layers):
                h = torch.matmul(self.adjacency, scaled).mul_(scale).addcmul_(heard, g[:, None])
            else:
                h = near * (self.adjacency[chosen] @ scaled) + own * near * g[:, None]
            g = own * around.sum(dim=1) + own**2 * g
            h, g = h.add_(layer.bias).relu_(), g.add_(layer.bias).relu_()
            if number < len(self.layers):
                following = self.layers[number].lin
                h, g = following(h), following(g)
        return self.head.lin(own * (near * h).sum(dim=1) + own**2 * g) + self.head.bias, g
