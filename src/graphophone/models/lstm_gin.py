r"""LSTM-GIN: an LSTM along the frames, then graph isomorphism convolutions between near ones.

Paper:

    @inproceedings{liu2021graph,
      title     = {Graph isomorphism network for speech emotion recognition},
      author    = {Liu, Jiawang and Wang, Haoxiang},
      booktitle = {Interspeech},
      year      = {2021}
    }

.. math::
    H^0 = \mathrm{BiLSTM}(X), \qquad
    h_i^l = \mathrm{MLP}((1 + \epsilon) h_i^{l-1} + \textstyle \sum_{|j - i| \le r} h_j^{l-1}), \qquad
    z = [\textstyle \sum_i h_i^0 ; \sum_i h_i^1 ; \dots]

The graph is ``temporal_window`` of `graphophone.graphs` (r = 2); this file is the network. It follows the paper's idea
and not its program: the sizes (LSTM 2 x 64, two convolutions of 128, one linear layer) are our defaults.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from graphophone.models.base import GraphClassifier
from graphophone.nn.convolution import GINConv
from graphophone.nn.pooling import create_pooling
from graphophone.nn.recurrent import FrameRNN


class LSTMGIN(GraphClassifier):
    """Bidirectional LSTM and graph isomorphism network.

    Args:
        in_channels: Width of a frame.
        num_classes: C.
        rnn_channels: Width of each direction of the LSTM.
        hidden_channels: Width of every convolution.
        num_layers: Number of convolutions.
        pooling: Any of `graphophone.nn.pooling`, applied to the LSTM's output and to every convolution's.
        head_dropout: Probability of dropping a channel of the pooled vector.

    Shapes:
        x ``[N, in_channels]``, edge_index ``[2, E]`` (both directions of every edge), batch ``[N]``, edge_weight
        ``[E]`` -> ``[B, C]``.
    """

    model_name: ClassVar[str] = "lstm_gin"

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        rnn_channels: int = 64,
        hidden_channels: int = 128,
        num_layers: int = 2,
        pooling: str = "sum",
        head_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.rnn = FrameRNN(in_channels, rnn_channels, "lstm")
        widths = [self.rnn.out_channels] + [hidden_channels] * num_layers
        self.convs = nn.ModuleList(GINConv(width, hidden_channels) for width in widths[:-1])
        self.pools = nn.ModuleList(create_pooling(pooling, width) for width in widths)
        pooled = sum(create_pooling(pooling, width).out_channels for width in widths)
        self.classifier = nn.Sequential(nn.Dropout(head_dropout), nn.Linear(pooled, num_classes))

    def embed(
        self,
        x: Tensor,
        edge_index: Tensor,
        batch: Tensor | None = None,
        batch_size: int | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """One vector per graph, before the classifier; arguments as `forward`."""
        states = [self.rnn(x, batch, batch_size)]
        for conv in self.convs:
            states.append(conv(states[-1], edge_index, edge_weight))
        pooled = (pool(h, batch, batch_size) for pool, h in zip(self.pools, states, strict=True))
        return torch.cat(list(pooled), dim=-1)
