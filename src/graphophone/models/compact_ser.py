r"""Compact SER: one small spectral filter on the path or cycle of the frames of an utterance.

Paper:

    @inproceedings{shirian2021compact,
      title     = {Compact graph architecture for speech emotion recognition},
      author    = {Shirian, Amir and Guha, Tanaya},
      booktitle = {ICASSP},
      year      = {2021}
    }

Layer, for node states H of one graph and the eigenvectors U of its normalised Laplacian:

.. math:: H' = \mathrm{ReLU}(U\, \mathrm{MLP}(U^T H))

with one MLP for all graph frequencies: linear - batch normalisation - ReLU - linear. Two layers, sum over the nodes,
then linear - dropout - PReLU - linear.

What differs from the paper's program: U is not computed but applied by a fast transform (`graphophone.nn.spectral`),
in the real Fourier basis (the cycle has double eigenvalues, so U is a choice there); graphs may have any length, where
the program cuts 120 frames and drops the rest. With 35 inputs and 4 classes it has 38,916 parameters (the paper says
about 30K).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from graphophone.models.base import GraphClassifier, ModelError
from graphophone.nn.pooling import create_pooling
from graphophone.nn.spectral import by_length, cycle_inverse, cycle_transform, path_inverse, path_transform

_TRANSFORMS = {"cycle": (cycle_transform, cycle_inverse), "path": (path_transform, path_inverse)}


class SpectralMLP(nn.Module):
    """One perceptron for every graph frequency.

    Args:
        in_channels: Width of the node states.
        hidden_channels: Width of the hidden layer.
        out_channels: Width of the result.
        graph: ``"cycle"`` or ``"path"``.

    Shapes:
        x ``[N, in_channels]``, lengths (nodes of every graph) -> ``[N, out_channels]``.
    """

    def __init__(
        self, in_channels: int, hidden_channels: int, out_channels: int, graph: Literal["cycle", "path"]
    ) -> None:
        super().__init__()
        self.graph = graph
        self.mlp = nn.Sequential(
            nn.Linear(in_channels, hidden_channels),
            nn.BatchNorm1d(hidden_channels),
            nn.ReLU(),
            nn.Linear(hidden_channels, out_channels),
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, lengths: list[int]) -> Tensor:
        """To the spectrum, through the perceptron, and back."""
        there, back = _TRANSFORMS[self.graph]
        return by_length(back, self.mlp(by_length(there, x, lengths)), lengths)


class CompactSER(GraphClassifier):
    """Compact SER.

    The graph of an utterance is its path or cycle, given by ``graph`` and the number of its frames: ``edge_index`` is
    taken for the sake of the common signature and not read.

    Args:
        in_channels: Width of a frame (35 in the paper's program).
        num_classes: C.
        graph: ``"cycle"`` or ``"path"``.
        num_layers: Number of spectral layers.
        hidden_channels: Hidden width of a layer.
        out_channels: Output width of a layer.
        pooling: ``"sum"`` (the paper's), or any other of `graphophone.nn.pooling`.
        head_width: Hidden width of the classifier.
        head_dropout: Probability of dropping a channel of it.

    Shapes:
        x ``[N, in_channels]``, edge_index ``[2, E]``, batch ``[N]`` -> ``[B, C]``.
    """

    model_name: ClassVar[str] = "compact_ser"
    reads_edges: ClassVar[bool] = False

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        graph: Literal["cycle", "path"] = "cycle",
        num_layers: int = 2,
        hidden_channels: int = 128,
        out_channels: int = 64,
        pooling: str = "sum",
        head_width: int = 128,
        head_dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if graph not in _TRANSFORMS:
            raise ModelError(f"unknown graph {graph!r}; choose from {', '.join(_TRANSFORMS)}")
        self.in_channels = in_channels
        self.num_classes = num_classes
        widths = [in_channels] + [out_channels] * num_layers
        self.layers = nn.ModuleList(SpectralMLP(width, hidden_channels, out_channels, graph) for width in widths[:-1])
        self.pool = create_pooling(pooling, widths[-1])
        self.classifier = nn.Sequential(
            nn.Linear(self.pool.out_channels, head_width),
            nn.Dropout(head_dropout),
            nn.PReLU(head_width),
            nn.Linear(head_width, num_classes),
        )

    def embed(
        self,
        x: Tensor,
        edge_index: Tensor,
        batch: Tensor | None = None,
        batch_size: int | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """One vector per graph ``[B, out_channels]``, before the classifier; arguments as `forward`."""
        if edge_weight is not None:
            raise ModelError("compact_ser reads no edges, so edge_weight has no meaning; explain by frames")
        lengths = [len(x)] if batch is None else torch.bincount(batch, minlength=batch_size or 0).tolist()
        for layer in self.layers:
            x = layer(x, lengths).relu()
        return self.pool(x, batch, batch_size)
