"""The largest value among the neighbours of every node, per channel.

The max-relative aggregation of Li et al., "DeepGCNs" (2019), and of Han et al., "Vision GNN" (2022), is
``max_j (y_j - x_i)``, which is ``(max_j y_j) - x_i``: one gathering maximum and one subtraction, without the tensor of
all neighbours of all nodes.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

with warnings.catch_warnings():  # PyTorch says once per process that its CSR tensors are young
    warnings.simplefilter("ignore", UserWarning)
    torch.sparse_csr_tensor(torch.tensor([0, 1]), torch.tensor([0]), torch.ones(1), (1, 1))

# The lower 29 bits of a float64 that holds a float32 are free. A number below 2^28 in them changes the value by less
# than half a step of float32, so that rounding restores it.
_PACKED_BITS = 28
_PACKED_MASK = (1 << _PACKED_BITS) - 1


def exporting() -> bool:
    """Whether the network is being traced into a graph, which must hold plain operators only."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.onnx.is_in_onnx_export()


def _sparse_max(values: Tensor, index: Tensor) -> Tensor:
    """Maximum of rows ``index`` ``[N, k]`` of values ``[M, C]``, as a product with a sparse matrix of ones."""
    n, k = index.shape
    rows = torch.arange(0, n * k + 1, k)
    ones = torch.ones(n * k, dtype=values.dtype)
    with torch.no_grad():
        matrix = torch.sparse_csr_tensor(rows, index.reshape(-1), ones, (n, len(values)), check_invariants=False)
        return torch.sparse.mm(matrix, values, "amax")


class _PackedMax(torch.autograd.Function):
    """`_sparse_max` that also finds which row gave the maximum: packed into the low bits of a float64.

    PyTorch's own search for it (``torch.sparse.mm`` under autograd, ``embedding_bag``) compares number by number and
    takes five times as long.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor) -> Tensor:
        packed = values.detach().to(torch.float64).view(torch.int64)
        packed = packed | torch.arange(len(values))[:, None]
        winners = _sparse_max(packed.view(torch.float64), index)
        source = winners.view(torch.int64) & _PACKED_MASK
        source = source.mul_(values.size(1)).add_(torch.arange(values.size(1))).to(torch.int32)
        ctx.save_for_backward(source)
        ctx.shape = values.shape
        return winners.to(torch.float32)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (source,) = ctx.saved_tensors
        (grad,) = grads
        total = torch.zeros(ctx.shape, dtype=grad.dtype)
        total.view(-1).index_add_(0, source.view(-1), grad.reshape(-1))
        return total, None


def neighbour_max(values: Tensor, index: Tensor) -> Tensor:
    """Per channel, the maximum over the candidates chosen for each node.

    No tensor of shape ``[B, N, k, C]`` is made, except while the network is exported. The gradient goes to one
    candidate per channel, also where several are equal.

    Args:
        values: Candidates ``[B, M, C]``.
        index: Candidates of each node ``[B, N, k]`` int64, below M.

    Returns:
        ``[B, N, C]``.
    """
    batch, m, channels = values.shape
    n, k = index.shape[1:]
    if exporting() or values.device.type not in ("cpu", "cuda"):
        flat = index.reshape(batch, n * k, 1).expand(-1, -1, channels)
        return values.gather(1, flat).reshape(batch, n, k, channels).amax(2)
    if batch > 1:
        index = index + torch.arange(0, batch * m, m, device=index.device)[:, None, None]
    index, values = index.reshape(-1, k), values.reshape(-1, channels)
    if values.device.type == "cpu":
        if not (torch.is_grad_enabled() and values.requires_grad):
            result = _sparse_max(values, index)
        elif values.dtype == torch.float32 and len(values) <= _PACKED_MASK:
            result = _PackedMax.apply(values, index)
        else:
            result = F.embedding_bag(index, values, mode="max")
    else:
        result = F.embedding_bag(index, values, mode="max")
    return result.view(batch, n, channels)


def max_relative(x: Tensor, values: Tensor, index: Tensor) -> Tensor:
    """Largest difference between the chosen candidates and the node itself, per channel.

    Args:
        x: Nodes ``[B, N, C]``.
        values: Candidates ``[B, M, C]``.
        index: Candidates of each node ``[B, N, k]`` int64.

    Returns:
        ``max_j (values_j - x_i)`` ``[B, N, C]``.
    """
    return neighbour_max(values, index) - x
