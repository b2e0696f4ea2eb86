"""Closeness of places on a grid, as a fixed addition to the likeness of nodes."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphophone.nn.aggregation import exporting

RelPos = Literal["ref", "grid", "none"]


def sincos_embedding(dims: int, rows: Tensor, columns: Tensor) -> Tensor:
    """Fixed two-dimensional sine and cosine embedding of a grid (Vaswani et al., 2017, for each axis).

    Args:
        dims: D, a multiple of 4.
        rows: Positions along the first axis ``[H]``.
        columns: Positions along the second axis ``[W]``.

    Returns:
        ``[H * W, D]`` float64, row-major; every row has the squared norm D / 2.
    """
    omega = 10000.0 ** -(torch.arange(dims // 4, dtype=torch.float64) / (dims / 4))

    def axis(positions: Tensor) -> Tensor:
        angles = positions.to(torch.float64)[:, None] * omega
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    first = axis(rows)[:, None, :].expand(-1, len(columns), -1)
    second = axis(columns)[None, :, :].expand(len(rows), -1, -1)
    return torch.cat([first, second], dim=2).reshape(-1, dims)


def _resized(table: Tensor, size: int) -> Tensor:
    """Bicubic interpolation of the rows of a table ``[n, D]`` to ``[size, D]``."""
    return F.interpolate(table.T[None, :, :, None], (size, 1), mode="bicubic", align_corners=False)[0, :, :, 0].T


def _pooled(positions: Tensor, reduction: int) -> Tensor:
    """Mean position of each window of ``reduction``; the last one may be narrower."""
    return F.avg_pool1d(positions[None], reduction, ceil_mode=True)[0] if reduction > 1 else positions


def position_closeness(kind: RelPos, dims: int, height: int, width: int, reduction: int = 1) -> Tensor | None:
    r"""How close in place every node is to every candidate: an addition to their cosine.

    With the embedding E of the places, :math:`E_x E_y^T / D`, which is 1/2 for a node and itself. The squared distance
    :math:`2 - 2 \cos` of the k-NN search of Han et al., "Vision GNN" (2022), is thereby lowered by
    :math:`(2 / D) E_x E_y^T`.

    Args:
        kind: ``"ref"`` as their code has it: the places are those of a square of :math:`\lfloor\sqrt N\rfloor`, and
            the table is resized (bicubic) to nodes and candidates, so that on a grid that is no square it is not
            the true place that counts; ``"grid"``: the true places; ``"none"``.
        dims: D, the width of the nodes, a multiple of 4.
        height: H.
        width: W; the nodes are row-major, N = H W.
        reduction: Side of the windows that candidates are means of.

    Returns:
        ``[N, M]`` float32, or None for ``"none"``. The resizing of rows and columns is done on E, not on the
        table, which is the same and needs no matrix of more than N x D and N x M.
    """
    if kind == "none":
        return None
    rows = torch.arange(height, dtype=torch.float64)
    columns = torch.arange(width, dtype=torch.float64)
    if kind == "grid":
        nodes = sincos_embedding(dims, rows, columns)
        candidates = sincos_embedding(dims, _pooled(rows, reduction), _pooled(columns, reduction))
    else:
        side = torch.arange(int((height * width) ** 0.5), dtype=torch.float64)
        table = sincos_embedding(dims, side, side)
        nodes = _resized(table, height * width)
        candidates = _resized(table, -(-height // reduction) * -(-width // reduction))
    return (nodes.float() @ candidates.float().T) / dims


class PositionCloseness(nn.Module):
    """`position_closeness` of the grid last seen: made once, shared by the blocks of a stage, never saved.

    Args:
        kind: As for `position_closeness`.
        dims: Width of the nodes.
        reduction: Side of the windows that candidates are means of.
    """

    table: Tensor | None

    def __init__(self, kind: RelPos, dims: int, reduction: int = 1) -> None:
        super().__init__()
        if kind not in get_args(RelPos):
            raise ValueError(f"unknown rel_pos {kind!r}; choose from {', '.join(get_args(RelPos))}")
        self.kind: RelPos = kind
        self.dims = dims
        self.reduction = reduction
        self._grid: tuple[int, int] | None = None
        self.register_buffer("table", None, persistent=False)

    def forward(self, height: int, width: int, device: torch.device) -> Tensor | None:
        """``[N, M]`` on ``device``, or None."""
        if self._grid == (height, width) and (self.table is None or self.table.device == device):
            return self.table
        with torch.inference_mode(False), torch.no_grad():  # it outlives the mode it was first needed in
            table = position_closeness(self.kind, self.dims, height, width, self.reduction)
        table = None if table is None else table.to(device)
        if not exporting():  # what is made then is no tensor to keep
            self.table, self._grid = table, (height, width)
        return table

    def extra_repr(self) -> str:
        """Options, for printing."""
        return f"{self.kind!r}, {self.dims}, reduction={self.reduction}"
