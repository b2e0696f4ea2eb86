r"""CoGCN: graph convolutions over the frames that are similar.

Paper:

    @article{kim2022representation,
      title   = {Representation learning with graph neural networks for speech emotion recognition},
      author  = {Kim, Junghun and Kim, Jihie},
      journal = {arXiv:2208.09830},
      year    = {2022}
    }

.. math::
    A_{ij} = [\cos(x_i, x_j) \ge \tau], \qquad
    H' = \mathrm{ReLU}(\hat D^{-1/2} (A + I) \hat D^{-1/2} H W + b)

The graph is ``cosine_threshold`` of `graphophone.graphs`; this file is the network. It follows the paper's idea and
not its program: the sizes (two convolutions of 128, dropout 0.5, mean, one linear layer) are our defaults.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch_geometric.nn import GCNConv

from graphophone.models.base import GraphClassifier
from graphophone.nn.pooling import create_pooling


class CoGCN(GraphClassifier):
    """Graph convolutional network over frames.

    Args:
        in_channels: Width of a frame.
        num_classes: C.
        hidden_channels: Width of every convolution.
        num_layers: Number of convolutions.
        pooling: Any of `graphophone.nn.pooling`.
        dropout: Probability of dropping a channel of a node after every convolution.

    Shapes:
        x ``[N, in_channels]``, edge_index ``[2, E]`` (both directions of every edge), batch ``[N]``, edge_weight
        ``[E]`` -> ``[B, C]``.
    """

    model_name: ClassVar[str] = "cogcn"

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        hidden_channels: int = 128,
        num_layers: int = 2,
        pooling: str = "mean",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.convs = nn.ModuleList(
            GCNConv(hidden_channels if layer else in_channels, hidden_channels) for layer in range(num_layers)
        )
        self.dropout = nn.Dropout(dropout)
        self.pool = create_pooling(pooling, hidden_channels)
        self.classifier = nn.Sequential(nn.Linear(self.pool.out_channels, num_classes))

    def embed(
        self,
        x: Tensor,
        edge_index: Tensor,
        batch: Tensor | None = None,
        batch_size: int | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """One vector per graph ``[B, hidden_channels]``, before the classifier; arguments as `forward`."""
        for conv in self.convs:
            x = self.dropout(conv(x, edge_index, edge_weight).relu())
        return self.pool(x, batch, batch_size)
