r"""GA-GRU: a GRU along the frames, then graph attention between all of them.

Paper:

    @inproceedings{su2020improving,
      title     = {Improving speech emotion recognition using graph attentive bi-directional gated recurrent unit
                   network},
      author    = {Su, Bo-Hao and Chang, Chun-Min and Lin, Yun-Shao and Lee, Chi-Chun},
      booktitle = {Interspeech},
      year      = {2020}
    }

.. math::
    H = \mathrm{BiGRU}(X), \qquad H' = H + \mathrm{GAT}(H), \qquad
    z = \textstyle \sum_i \mathrm{softmax}_i(w^T h'_i)\, h'_i

The graph is ``full`` of `graphophone.graphs`, on frames decimated by about 4 for memory: attention of n frames keeps
n^2 edges. This file is the network. It follows the paper's idea and not its program: the sizes (GRU 2 x 64, one layer
of 4 heads, one linear layer) are our defaults.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from graphophone.models.base import GraphClassifier
from graphophone.nn.attention import GraphAttention
from graphophone.nn.pooling import create_pooling
from graphophone.nn.recurrent import FrameRNN


class GAGRU(GraphClassifier):
    """Bidirectional GRU and graph attention.

    Args:
        in_channels: Width of a frame (78 in the paper).
        num_classes: C.
        rnn_channels: Width of each direction of the GRU.
        heads: Heads of the graph attention; a divisor of twice ``rnn_channels``.
        pooling: ``"attention"``, or any other of `graphophone.nn.pooling`.
        head_dropout: Probability of dropping a channel of the pooled vector.

    Shapes:
        x ``[N, in_channels]``, edge_index ``[2, E]``, batch ``[N]``, edge_weight ``[E]`` -> ``[B, C]``.
    """

    model_name: ClassVar[str] = "ga_gru"

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        rnn_channels: int = 64,
        heads: int = 4,
        pooling: str = "attention",
        head_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.rnn = FrameRNN(in_channels, rnn_channels, "gru")
        self.attention = GraphAttention(self.rnn.out_channels, self.rnn.out_channels, heads)
        self.pool = create_pooling(pooling, self.rnn.out_channels)
        self.classifier = nn.Sequential(nn.Dropout(head_dropout), nn.Linear(self.pool.out_channels, num_classes))

    def embed(
        self,
        x: Tensor,
        edge_index: Tensor,
        batch: Tensor | None = None,
        batch_size: int | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """One vector per graph ``[B, 2 rnn_channels]``, before the classifier; arguments as `forward`."""
        states = self.rnn(x, batch, batch_size)
        return self.pool(states + self.attention(states, edge_index, edge_weight), batch, batch_size)
