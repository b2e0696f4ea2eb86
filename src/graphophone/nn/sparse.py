"""Matrices that are mostly zeros and are multiplied many times: words of papers, links between them."""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from graphophone.nn.dense import DenseMatrix


@dataclass(frozen=True, eq=False)
class _Pattern:
    """Where the entries of a matrix are, by rows and, for its transpose, by columns.

    Attributes:
        shape: Rows and columns.
        row: Row of every entry, ascending ``[E]``.
        column: Column of every entry ``[E]``.
        order: Entries in order of their columns ``[E]``.
        by_row: What PyTorch's CSR layout asks for, int32, which is what its products on a CPU compute with: number of
            the first entry of every row, and behind the last ``[rows + 1]``, and ``column``.
        by_column: The same of the transpose.
        copies: Larger patterns that were made of this one.
    """

    shape: tuple[int, int]
    row: Tensor
    column: Tensor
    order: Tensor
    by_row: tuple[Tensor, Tensor]
    by_column: tuple[Tensor, Tensor]
    copies: dict[tuple[int, bool], _Pattern] = field(default_factory=dict)

    @classmethod
    def of(cls, row: Tensor, column: Tensor, shape: tuple[int, int]) -> _Pattern:
        """A pattern from its entries in order of their rows."""
        order = torch.argsort(column, stable=True)
        by_row = (_starts(row, shape[0]), column.int())
        return cls(shape, row, column, order, by_row, (_starts(column, shape[1]), row[order].int()))

    def to(self, device: torch.device | str) -> _Pattern:
        """The same places on a device; copies are made there anew where they are wanted."""
        by_row, by_column = ((starts.to(device), other.to(device)) for starts, other in (self.by_row, self.by_column))
        row, column, order = (part.to(device) for part in (self.row, self.column, self.order))
        return _Pattern(self.shape, row, column, order, by_row, by_column)

    def copied(self, count: int, diagonal: bool) -> _Pattern:
        """So many copies below each other, each in columns of its own (``diagonal``) or all in the same."""
        if (count, diagonal) not in self.copies:
            copy = torch.arange(count, device=self.row.device)[:, None]
            row = (self.row + copy * self.shape[0]).flatten()
            column = (self.column + copy * (self.shape[1] if diagonal else 0)).flatten()
            shape = (count * self.shape[0], self.shape[1] * (count if diagonal else 1))
            self.copies[count, diagonal] = _Pattern.of(row, column, shape)
        return self.copies[count, diagonal]


class SparseMatrix:
    """A matrix of few entries, whose places are sorted once and whose values may change.

    A product with a dense matrix, and its gradients to that matrix and to the values, take time for the entries only.
    `torch.sparse` finds the transpose, which the gradient needs, anew in every step, which takes many times longer than
    the product.

    Args:
        pattern: Where the entries are; see `from_entries`.
        values: The entries ``[E]``.
        rows: Which rows of the pattern are the rows of this matrix, each at most once; None: all, in order.
    """

    def __init__(self, pattern: _Pattern, values: Tensor, rows: Tensor | None = None) -> None:
        self.pattern = pattern
        self.values = values
        self.rows = rows

    @classmethod
    def from_entries(cls, row: Tensor, column: Tensor, values: Tensor, shape: tuple[int, int]) -> SparseMatrix:
        """A matrix from its entries, in any order; those of one place add up.

        Args:
            row: Row of every entry ``[E]``.
            column: Column of every entry ``[E]``.
            values: The entries ``[E]``.
            shape: Rows and columns.
        """
        by_row = torch.argsort(row * shape[1] + column, stable=True)
        row, column, values = row[by_row], column[by_row], values[by_row]
        return cls(_Pattern.of(row, column, shape), values)

    @classmethod
    def from_tensor(cls, tensor: Tensor) -> SparseMatrix:
        """A matrix from a tensor ``[rows, columns]``, sparse (COO) or dense."""
        tensor = (tensor if tensor.is_sparse else tensor.to_sparse()).coalesce()
        row, column = tensor.indices()
        return cls.from_entries(row, column, tensor.values(), (tensor.shape[0], tensor.shape[1]))

    @classmethod
    def from_edges(
        cls, edge_index: Tensor, edge_weight: Tensor | None, num_nodes: int, *, dtype: torch.dtype = torch.float32
    ) -> SparseMatrix:
        """A graph as a matrix ``[N, N]`` whose rows are the targets of messages.

        Args:
            edge_index: Sources and targets ``[2, E]``.
            edge_weight: Weights ``[E]``; None: all 1.
            num_nodes: N.
            dtype: Of the values where there are no weights.
        """
        if edge_weight is None:
            edge_weight = torch.ones(edge_index.shape[1], dtype=dtype, device=edge_index.device)
        return cls.from_entries(edge_index[1], edge_index[0], edge_weight, (num_nodes, num_nodes))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.pattern.shape
        return (rows if self.rows is None else len(self.rows), columns)

    @property
    def dtype(self) -> torch.dtype:
        """Of the values."""
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        """Where the values are."""
        return self.values.device

    def to(self, device: torch.device | str) -> SparseMatrix:
        """The matrix on a device."""
        rows = None if self.rows is None else self.rows.to(device)
        return SparseMatrix(self.pattern.to(device), self.values.to(device), rows)

    def with_values(self, values: Tensor) -> SparseMatrix:
        """The same places with other values ``[E]``."""
        return SparseMatrix(self.pattern, values, self.rows)

    def signs(self) -> tuple[SparseMatrix, SparseMatrix]:
        """What is above zero, and what is below."""
        return self.with_values(self.values.clamp(min=0)), self.with_values(self.values.clamp(max=0))

    def take(self, index: Tensor) -> SparseMatrix:
        """The matrix of some of the rows, or of all in another order.

        Args:
            index: Numbers of rows, each at most once: a row that came twice would lose the same values to dropout.
        """
        return SparseMatrix(self.pattern, self.values, index if self.rows is None else self.rows[index])

    def stack(self, count: int) -> SparseMatrix:
        """So many copies below each other ``[count * rows, columns]``."""
        return self._copied(self.values.repeat(count), count, diagonal=False)

    def blocks(self, count: int, values: Tensor | None = None) -> SparseMatrix:
        """So many copies on the diagonal ``[count * rows, count * columns]``: as many graphs that do not touch.

        Args:
            count: How many.
            values: Other values for each ``[count, E]``; None: those of this matrix.
        """
        return self._copied(self.values.repeat(count) if values is None else values.reshape(-1), count, diagonal=True)

    def _copied(self, values: Tensor, count: int, diagonal: bool) -> SparseMatrix:
        rows = self.rows
        if rows is not None:
            rows = (rows + self.pattern.shape[0] * torch.arange(count, device=rows.device)[:, None]).flatten()
        return SparseMatrix(self.pattern.copied(count, diagonal), values, rows)

    def scale_rows(self, factor: Tensor) -> SparseMatrix:
        """Multiply every row by a number ``[rows]``."""
        if self.rows is not None:
            factor = factor.new_zeros(self.pattern.shape[0]).index_copy(0, self.rows, factor)
        return self.with_values(self.values * factor.to(self.dtype).index_select(0, self.pattern.row))

    def add_to(self, dense: Tensor) -> Tensor:
        """Add the matrix to a contiguous dense one ``[rows, columns]`` in place, and return that."""
        columns = self.pattern.shape[1]
        row, values, column = self.pattern.row, self.values, self.pattern.column
        if self.rows is not None:
            place = torch.full((self.pattern.shape[0],), -1, device=self.device)
            place[self.rows] = torch.arange(len(self.rows), device=self.device)
            row = place[row]
            kept = row >= 0
            row, column, values = row[kept], column[kept], values[kept]
        dense.view(-1).scatter_add_(0, row * columns + column, values.to(dense.dtype))
        return dense

    def to_dense(self) -> Tensor:
        """The matrix with its zeros ``[rows, columns]``."""
        return self.add_to(self.values.new_zeros(self.shape))

    def square_norms(self) -> Tensor:
        """Sum of the squares of every row ``[rows]``; entries of one place count one by one."""
        norms = self.values.new_zeros(self.pattern.shape[0]).index_add(0, self.pattern.row, self.values.square())
        return norms if self.rows is None else norms[self.rows]

    def __matmul__(self, dense: Tensor) -> Tensor:
        """The product with ``dense`` ``[columns, width]``: ``[rows, width]``."""
        product = _Product.apply(self.values.to(dense.dtype), dense, self.pattern)
        return product if self.rows is None else product.index_select(0, self.rows)


class _Product(torch.autograd.Function):
    """Sparse times dense, whose transpose is known beforehand."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, dense: Tensor, pattern: _Pattern) -> Tensor:
        ctx.save_for_backward(values, dense)
        ctx.pattern = pattern
        return csr_product(pattern, values, dense)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        values, dense = ctx.saved_tensors
        gradient = gradient.contiguous()
        to_values = to_dense = None
        if ctx.needs_input_grad[0]:
            to_values = csr_sampled(ctx.pattern, gradient, dense)
        if ctx.needs_input_grad[1]:
            to_dense = csr_product(ctx.pattern, values, gradient, transposed=True)
        return to_values, to_dense, None


Matrix = Tensor | SparseMatrix
"""A dense matrix, or one of few entries."""

Edges = Tensor | SparseMatrix | DenseMatrix
"""Sources and targets ``[2, E]``, or a matrix whose rows are targets, of few entries or of small graphs."""


def linear(x: Matrix, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x W^T + b``, as `torch.nn.functional.linear`, for dense and sparse features.

    Args:
        x: ``[N, in_channels]``.
        weight: ``[out_channels, in_channels]``.
        bias: ``[out_channels]``, or None.
    """
    if isinstance(x, Tensor):
        return F.linear(x, weight, bias)
    product = x @ weight.t()
    return product if bias is None else product + bias


def propagate(x: Tensor, edges: Edges, edge_weight: Tensor | None = None) -> Tensor:
    """The weighted sum over the sources of every node's edges.

    Args:
        x: Node states ``[N, dims]``.
        edges: Sources and targets ``[2, E]``, or a matrix as `SparseMatrix.from_edges` or `DenseMatrix.from_edges`
            make it.
        edge_weight: Weights ``[E]`` where edges are no matrix; None: all 1.

    Returns:
        ``[N, dims]``.
    """
    if not isinstance(edges, Tensor):
        return edges @ x
    carried = x.index_select(0, edges[0])
    carried = carried if edge_weight is None else carried * edge_weight.unsqueeze(-1)
    return torch.zeros_like(x).index_add(0, edges[1], carried)


def drop(x: Matrix, probability: float, training: bool = True) -> Any:
    """Dropout; of sparse features, on the values that there are.

    On the CPU it decides with 16 random bits for each value, which is several times quicker than
    `torch.nn.functional.dropout`: probabilities are multiples of 1/65536, and what is kept is scaled by just the share
    that is kept.

    Args:
        x: Values of any shape, or a sparse matrix.
        probability: Of setting a value to zero.
        training: False: nothing is dropped.

    Returns:
        The same kind as ``x``.
    """
    if not training or probability == 0:
        return x
    if isinstance(x, SparseMatrix):
        return x.with_values(drop(x.values, probability))
    kept = round((1 - probability) * _LEVELS)
    if x.device.type != "cpu" or x.numel() < _FEW or not 0 < kept < _LEVELS:
        return F.dropout(x, probability)
    bits = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    factor = torch.empty(x.shape, dtype=x.dtype)
    torch.lt(bits[: x.numel()].view(x.shape), kept - _LEVELS // 2, out=factor)
    return x * factor.mul_(_LEVELS / kept)


_LEVELS = 2**16
_FEW = 1024


def csr_product(
    pattern: _Pattern,
    values: Tensor,
    dense: Tensor,
    *,
    transposed: bool = False,
    out: Tensor | None = None,
    add: bool = False,
) -> Tensor:
    """A sparse matrix, or its transpose, times a dense one; without a gradient.

    Args:
        pattern: Where the entries are.
        values: The entries ``[E]``.
        dense: ``[columns, width]``; transposed: ``[rows, width]``. Rows may lie apart, as those of a slice of columns.
        transposed: Multiply by the transpose.
        out: Where the result goes, rows of which may lie apart; None: a new matrix.
        add: Add to what is in ``out``.

    Returns:
        ``[rows, width]``; transposed: ``[columns, width]``.
    """
    if transposed:
        matrix = _csr(*pattern.by_column, values.index_select(0, pattern.order), (pattern.shape[1], pattern.shape[0]))
    else:
        matrix = _csr(*pattern.by_row, values, pattern.shape)
    if out is None:
        return matrix @ dense
    return torch.addmm(out, matrix, dense, beta=1 if add else 0, out=out)


def csr_sampled(pattern: _Pattern, left: Tensor, right: Tensor) -> Tensor:
    """The product of ``left`` ``[rows, width]`` and the transpose of ``right`` ``[columns, width]`` where entries are.

    Returns:
        ``[E]``, without a gradient.
    """
    nothing = _csr(*pattern.by_row, left.new_zeros(len(pattern.row)), pattern.shape)
    return torch.sparse.sampled_addmm(nothing, left, right.t(), beta=0.0).values()


def _starts(index: Tensor, count: int) -> Tensor:
    """Where each of ``count`` numbers begins in a sorted list of them, and the length of the list; int32."""
    return F.pad(torch.bincount(index, minlength=count).cumsum(0), (1, 0)).int()


def _csr(starts: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A tensor in CSR layout; its indices, which were sorted here, are not checked again."""
    _announce()
    return torch.sparse_csr_tensor(starts, columns, values, shape, check_invariants=False)


@functools.cache
def _announce() -> None:
    """Have PyTorch's remark that this layout is new, which comes once in a process, pass unseen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        torch.sparse_csr_tensor([0, 1], [0], [1.0], (1, 1), check_invariants=False)
