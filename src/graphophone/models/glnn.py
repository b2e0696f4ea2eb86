r"""GLNN: a graph of the frames of an utterance, convolved by an LSTM over neighbours, for speech emotion.

Paper:

    @article{li2023speech,
      title   = {Speech emotion recognition based on Graph-{LSTM} neural network},
      author  = {Li, Yan and Wang, Yapeng and Yang, Xu and Im, Sio-Kei},
      journal = {EURASIP Journal on Audio, Speech, and Music Processing},
      volume  = {2023},
      number  = {40},
      year    = {2023},
      doi     = {10.1186/s13636-023-00303-9}
    }

Equations (numbers of the paper), for node features :math:`x_i`:

.. math::
    W &= \bar X \bar X^T, \quad N(i) = \mathrm{top}_k(W_i) \cup \{i - 1\} \quad (1, 2) \\
    x'_i &= W_\alpha x_i + b_\alpha \quad (3) \\
    a_i &= \mathrm{LSTM}(x'_j : j \in N(i) \text{ in order of time}) \quad (4) \\
    h_i &= W_\beta [x'_i ; a_i] + b_\beta \quad (5) \\
    z &= \textstyle 0.3 \max_i h_i + 0.3\, \mathrm{mean}_i h_i + 0.3 \sum_i h_i \quad (6, \text{"weighted"; or
    another pooling})

Equations 1 and 2 are the graph ``cycle_topk`` of `graphophone.graphs`; this file is the network from 3 on.

Where the paper is silent, and what was chosen: the widths (128, 128, 64; the only ones found that give its
three parameter counts, 361K, 409K and 591K for 2, 3 and 4 layers), a batch normalisation and a ReLU after
every layer, a classifier of 64 - 32 - classes. Where it contradicts itself: equation 4 feeds raw neighbours
to the LSTM, its complexity projected ones, which is what is done. Dropout, the residual, other norms and the
poolings that say so are not in the paper; their defaults leave them out.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor, nn

from graphophone.models.base import GraphClassifier, ModelError
from graphophone.nn.convolution import GraphLSTMConv
from graphophone.nn.lstm import NeighbourOrder, NeighbourPlan
from graphophone.nn.pooling import create_pooling

_WIDTHS = {2: (128, 128), 3: (128, 128, 64), 4: (128, 128, 128, 64)}


class GLNN(GraphClassifier):
    """Graph-LSTM network of an utterance.

    Args:
        in_channels: Width of a frame (77: the 76 acoustic columns and the spontaneity bit of the paper).
        num_classes: C.
        num_layers: 2, 3 or 4 convolutions with the published widths; not read where ``widths`` is given.
        widths: Output width of every convolution.
        pooling: mean, max, sum, topk, weighted (the paper's); weighted_scaled, weighted_learned, meanmax (not
            the paper's).
        norm: Normalisation after every convolution: ``"batch"`` over the nodes of a batch, ``"layer"`` per
            node (the safer one for batches of one graph), or ``"none"``.
        head_width: Hidden width of the classifier.
        dropout: Probability of dropping a channel of a node after every convolution.
        head_dropout: The same for the pooled vector and the hidden layer of the classifier.
        input_dropout: The same for the node features.
        residual: Add a convolution's input to its output where the widths agree.
        order: Order in which neighbours are read: ``"time"``, ``"similarity"`` of the node features,
            ``"random"``.

    Shapes:
        x ``[N, in_channels]``, edge_index ``[2, E]``, batch ``[N]``, edge_weight ``[E]`` -> ``[B, C]``.
    """

    model_name: ClassVar[str] = "glnn"

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        num_layers: int = 3,
        widths: Sequence[int] | None = None,
        pooling: str = "mean",
        norm: Literal["batch", "layer", "none"] = "batch",
        head_width: int = 32,
        dropout: float = 0.0,
        head_dropout: float = 0.0,
        input_dropout: float = 0.0,
        residual: bool = False,
        order: NeighbourOrder = "time",
    ) -> None:
        super().__init__()
        if widths is None:
            if num_layers not in _WIDTHS:
                raise ModelError(f"num_layers={num_layers}: 2, 3 and 4 are published; give widths for others")
            widths = _WIDTHS[num_layers]
        if not widths:
            raise ModelError("widths is empty; give the width of at least one layer")
        norms: dict[str, type[nn.Module]] = {
            "batch": nn.BatchNorm1d,
            "layer": nn.LayerNorm,
            "none": nn.Identity,
        }
        if norm not in norms:
            raise ModelError(f"unknown norm {norm!r}; choose from {', '.join(norms)}")
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.order = order
        channels = (in_channels, *widths)
        self.convs = nn.ModuleList(
            GraphLSTMConv(before, after, residual=residual and before == after, order=order)
            for before, after in itertools.pairwise(channels)
        )
        self.norms = nn.ModuleList(norms[norm](width) for width in widths)
        self.input_dropout = nn.Dropout(input_dropout)
        self.dropout = nn.Dropout(dropout)
        self.pool = create_pooling(pooling, channels[-1])
        self.classifier = nn.Sequential(
            nn.Dropout(head_dropout),
            nn.Linear(self.pool.out_channels, head_width),
            nn.ReLU(),
            nn.Dropout(head_dropout),
            nn.Linear(head_width, num_classes),
        )

    def encode(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_weight: Tensor | None = None,
        plan: NeighbourPlan | None = None,
    ) -> Tensor:
        """Node states after the last convolution ``[N, widths[-1]]``; arguments as `forward`."""
        if plan is None:
            plan = NeighbourPlan.from_edge_index(
                edge_index,
                x.size(0),
                order=self.order,
                x=x,
                seeded=not self.training,
                share=edge_weight is None,
            )
        x = self.input_dropout(x)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = self.dropout(norm(conv(x, edge_index, edge_weight, plan)).relu())
        return x

    def embed(
        self,
        x: Tensor,
        edge_index: Tensor,
        batch: Tensor | None = None,
        batch_size: int | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """One vector per graph ``[B, widths[-1]]``, before the classifier; arguments as `forward`."""
        return self.pool(self.encode(x, edge_index, edge_weight), batch, batch_size)
