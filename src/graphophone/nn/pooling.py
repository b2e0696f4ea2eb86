"""From the nodes of each graph of a batch to one vector per graph.

Every pooling is called as ``pool(x, batch, batch_size)``: node states ``[N, channels]``, the graph of every
node ``[N]`` (None: one graph), the number of graphs B (None: as many as ``batch`` names), and returns
``[B, out_channels]``. A graph without nodes gives zeros.

The names are those of Li, Wang, Yang, Im, "Speech emotion recognition based on Graph-LSTM neural network"
(2023), Table 4, and variants that say so.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.nn.pool.select import SelectTopK
from torch_geometric.utils import scatter, softmax

from graphophone.registry import Registry

# The published factors of maximum, mean and sum (eq. 6), which are not normalised.
_WEIGHTS = (0.3, 0.3, 0.3)


class Pooling(nn.Module):
    """Base of all poolings.

    Args:
        channels: Width of the node states.

    Attributes:
        channels: Width of the node states.
        out_channels: Width of the result.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.out_channels = channels

    def forward(self, x: Tensor, batch: Tensor | None = None, batch_size: int | None = None) -> Tensor:
        """Pool node states ``[N, channels]`` into ``[B, out_channels]``."""
        if batch is None:
            batch, batch_size = torch.zeros(x.size(0), dtype=torch.int64, device=x.device), 1
        elif batch_size is None:
            batch_size = int(batch.max()) + 1 if batch.numel() else 0
        return self.pool(x, batch, batch_size)

    def pool(self, x: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        """What a subclass does, with ``batch`` and ``batch_size`` given."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Width, for printing."""
        return str(self.channels)


class MeanPooling(Pooling):
    """Mean over the nodes."""

    def pool(self, x: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        """``[N, channels]`` to ``[B, channels]``."""
        return scatter(x, batch, 0, batch_size, reduce="mean")


class MaxPooling(Pooling):
    """Maximum over the nodes, per channel."""

    def pool(self, x: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        """``[N, channels]`` to ``[B, channels]``."""
        return scatter(x, batch, 0, batch_size, reduce="max")


class SumPooling(Pooling):
    """Sum over the nodes: grows with the length of the recording."""

    def pool(self, x: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        """``[N, channels]`` to ``[B, channels]``."""
        return scatter(x, batch, 0, batch_size, reduce="sum")


class TopKPooling(Pooling):
    r"""Mean of the half of the nodes that score highest, each scaled by its score.

    With the learned vector p: :math:`s = \tanh(Hp / \lVert p \rVert)`; the :math:`\lceil n/2 \rceil` nodes of
    highest s are kept (Gao and Ji, "Graph U-Nets", 2019). Adds ``channels`` parameters.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.select = SelectTopK(channels, ratio=0.5)

    def pool(self, x: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        """``[N, channels]`` to ``[B, channels]``."""
        kept = self.select(x, batch)
        scaled = x.index_select(0, kept.node_index) * kept.weight.unsqueeze(-1)
        return scatter(scaled, batch.index_select(0, kept.node_index), 0, batch_size, reduce="mean")


class WeightedPooling(Pooling):
    """``0.3 max + 0.3 mean + 0.3 sum`` (eq. 6), fixed and not normalised.

    That is ``0.3 max + 0.3 (n + 1) mean``: for a recording of 400 frames the sum outweighs the mean 400
    times.
    """

    weights: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.register_buffer("weights", torch.tensor(_WEIGHTS), persistent=False)

    def scale_sum(self, total: Tensor, nodes: Tensor) -> Tensor:
        """The sum ``[B, channels]`` as it enters, given the number of nodes ``[B, 1]``."""
        return total

    def pool(self, x: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        """``[N, channels]`` to ``[B, channels]``."""
        total = scatter(x, batch, 0, batch_size, reduce="sum")
        nodes = torch.bincount(batch, minlength=batch_size).clamp(min=1).unsqueeze(-1).to(x.dtype)
        highest = scatter(x, batch, 0, batch_size, reduce="max")
        w_max, w_mean, w_sum = self.weights.to(x.dtype)
        return w_max * highest + w_mean * (total / nodes) + w_sum * self.scale_sum(total, nodes)


class ScaledWeightedPooling(WeightedPooling):
    """As `WeightedPooling`, with the sum divided by sqrt(n): not in the paper."""

    def scale_sum(self, total: Tensor, nodes: Tensor) -> Tensor:
        """Sum / sqrt(n)."""
        return total / nodes.sqrt()


class LearnedWeightedPooling(ScaledWeightedPooling):
    """Learned factors of maximum, mean and sum / sqrt(n), starting from 0.3 each: not in the paper."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        del self.weights
        self.weights = nn.Parameter(torch.tensor(_WEIGHTS))


class MeanMaxPooling(Pooling):
    """Mean and maximum, concatenated: not in the paper."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.out_channels = 2 * channels

    def pool(self, x: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        """``[N, channels]`` to ``[B, 2 channels]``."""
        return torch.cat(
            [
                scatter(x, batch, 0, batch_size, reduce="mean"),
                scatter(x, batch, 0, batch_size, reduce="max"),
            ],
            dim=-1,
        )


class AttentionPooling(Pooling):
    r"""Mean of the nodes, weighted by attention: :math:`\mathrm{softmax}_i(w^T h_i)` over the nodes of a graph.

    Not in the paper. Adds ``channels`` parameters.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.score = nn.Linear(channels, 1, bias=False)  # a bias would cancel in the softmax

    def pool(self, x: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        """``[N, channels]`` to ``[B, channels]``."""
        attention = softmax(self.score(x), batch, num_nodes=batch_size)
        return scatter(attention * x, batch, 0, batch_size, reduce="sum")


POOLINGS: Registry[Pooling] = Registry(
    "pooling",
    {
        "mean": f"{__name__}:MeanPooling",
        "max": f"{__name__}:MaxPooling",
        "sum": f"{__name__}:SumPooling",
        "topk": f"{__name__}:TopKPooling",
        "weighted": f"{__name__}:WeightedPooling",
        "weighted_scaled": f"{__name__}:ScaledWeightedPooling",
        "weighted_learned": f"{__name__}:LearnedWeightedPooling",
        "meanmax": f"{__name__}:MeanMaxPooling",
        "attention": f"{__name__}:AttentionPooling",
    },
)


def create_pooling(name: str, channels: int) -> Pooling:
    """The pooling ``name`` for node states of width ``channels``.

    Raises:
        UnknownNameError: If nothing has that name; the text lists what there is.
    """
    return POOLINGS.create(name, channels=channels)


def list_poolings(pattern: str = "*") -> list[str]:
    """Names of the poolings that match a shell pattern."""
    return POOLINGS.names(pattern)
