"""Matrices of small graphs, written out: for some dozens of nodes quicker than any list of edges."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class DenseMatrix:
    """One or several graphs of the same size as one matrix, of which only the blocks on the diagonal are kept.

    States may be of several copies of the graphs, one copy after the other: `matrix @ states` then is the product of
    each copy.

    Args:
        blocks: A matrix per graph, whose rows are the targets of messages ``[graphs, nodes, nodes]``.
    """

    def __init__(self, blocks: Tensor) -> None:
        self.blocks = blocks

    @classmethod
    def from_edges(cls, edge_index: Tensor, edge_weight: Tensor | None, ptr: Tensor) -> list[DenseMatrix]:
        """A matrix for each of many small graphs.

        Args:
            edge_index: Sources and targets ``[2, E]``; edges of one place add up.
            edge_weight: Weights ``[E]``; None: all 1.
            ptr: Where each graph begins, and where the last one ends ``[graphs + 1]``.
        """
        sizes = ptr.diff()
        width = int(sizes.max()) if len(sizes) else 0
        graph = torch.repeat_interleave(sizes)[edge_index[1]]
        first = ptr[graph]
        place = (graph * width + edge_index[1] - first) * width + edge_index[0] - first
        if edge_weight is None:
            edge_weight = torch.ones(edge_index.shape[1], device=edge_index.device)
        full = edge_weight.new_zeros(len(sizes) * width * width).index_add_(0, place, edge_weight)
        blocks = full.view(-1, width, width)
        return [cls(blocks[i : i + 1, :size, :size]) for i, size in enumerate(sizes.tolist())]

    @classmethod
    def joined(cls, matrices: Sequence[DenseMatrix]) -> DenseMatrix:
        """Graphs of the same size as one matrix."""
        return matrices[0] if len(matrices) == 1 else cls(torch.cat([matrix.blocks for matrix in matrices]))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        nodes = self.blocks.shape[0] * self.blocks.shape[1]
        return nodes, nodes

    @property
    def dtype(self) -> torch.dtype:
        """Of the values."""
        return self.blocks.dtype

    @property
    def device(self) -> torch.device:
        """Where the values are."""
        return self.blocks.device

    def to(self, device: torch.device | str) -> DenseMatrix:
        """The same on a device."""
        return DenseMatrix(self.blocks.to(device))

    def signs(self) -> tuple[DenseMatrix, DenseMatrix]:
        """What is above zero, and what is below."""
        return DenseMatrix(self.blocks.clamp(min=0)), DenseMatrix(self.blocks.clamp(max=0))

    def __matmul__(self, dense: Tensor) -> Tensor:
        """The product with ``dense`` ``[copies * columns, width]``: ``[copies * rows, width]``."""
        graphs, nodes, _ = self.blocks.shape
        if len(dense) == nodes:
            return self.blocks[0] @ dense
        return (self.blocks @ dense.view(-1, graphs, nodes, dense.shape[1])).view(dense.shape)
