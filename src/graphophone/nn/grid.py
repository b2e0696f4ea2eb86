"""Nearest neighbours of the nodes of a grid among pooled nodes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from graphophone.nn.aggregation import exporting
from graphophone.nn.selection import largest

_BLOCK = 1 << 20  # scores held at once on a CPU: 4 MB


def pool_grid(x: Tensor, reduction: int) -> Tensor:
    """Means of square windows: the candidates for neighbours of a large grid.

    Args:
        x: Nodes on their grid ``[B, H, W, C]``.
        reduction: Side r of the windows; the last row and column of windows may be narrower.

    Returns:
        ``[B, M, C]`` with M = ceil(H / r) ceil(W / r).
    """
    if reduction == 1:
        return x.flatten(1, 2)
    ragged = x.size(1) % reduction > 0 or x.size(2) % reduction > 0
    pooled = F.avg_pool2d(x.permute(0, 3, 1, 2), reduction, ceil_mode=ragged)
    return pooled.permute(0, 2, 3, 1).flatten(1, 2)


def clamped(k: int, dilation: int, candidates: int) -> tuple[int, int]:
    """Neighbours and dilation that ``candidates`` can give: k <= M and d <= M // k."""
    k = min(k, candidates)
    return k, max(1, min(dilation, candidates // k))


def _blocks(rows: int, numbers: int) -> list[slice]:
    """Slices of rows that hold about `_BLOCK` scores each, of ``numbers`` per row."""
    step = max(1, _BLOCK // max(1, numbers))
    return [slice(start, start + step) for start in range(0, rows, step)]


@torch.no_grad()
def grid_neighbours(
    x: Tensor,
    candidates: Tensor,
    k: int,
    *,
    dilation: int = 1,
    closeness: Tensor | None = None,
    include_self: bool = True,
    ordered: bool = True,
) -> Tensor:
    """The k candidates nearest to each node: by cosine, and by place if ``closeness`` is given.

    The order is that of the distance ``2 - 2 (cos + closeness)``. With a dilation d, of the k d nearest in ascending
    order every d-th is kept, from the first (Han et al., "Vision GNN", 2022). k is lowered to M and d to M // k where
    there are too few candidates. No gradient passes. On a CPU the scores are held for some of the nodes at a time.

    Args:
        x: Nodes ``[B, N, C]``.
        candidates: ``[B, M, C]``.
        k: Neighbours of each node.
        dilation: d.
        closeness: Addition to the cosine ``[N, M]``, as `position_closeness` makes it.
        include_self: False: candidate i is never a neighbour of node i (unless it is the only one); for candidates
            that are the nodes.
        ordered: Whether the nearest comes first; False is faster.

    Returns:
        ``[B, N, k]`` int64.
    """
    batch, n, m = x.size(0), x.size(1), candidates.size(1)  # len(x) would bind an exported network to one batch
    if not include_self and n != m:
        raise ValueError(f"include_self=False needs the nodes as candidates; got {m} for {n}")
    include_self = include_self or m == 1
    k, dilation = clamped(k, dilation, m - (not include_self))
    ordered = ordered or dilation > 1
    with torch.autocast(x.device.type, enabled=False):
        nodes = F.normalize(x.float() if x.dtype in (torch.float16, torch.bfloat16) else x, dim=-1)
        others = (nodes if candidates is x else F.normalize(candidates.to(nodes.dtype), dim=-1)).mT
        found = []
        for block in _blocks(n, batch * m) if x.device.type == "cpu" and not exporting() else [slice(0, n)]:
            if closeness is None:
                scores = nodes[:, block] @ others
            else:
                scores = torch.baddbmm(closeness[block].to(nodes.dtype).expand(batch, -1, -1), nodes[:, block], others)
            if not include_self:
                scores.diagonal(block.start, dim1=1, dim2=2).fill_(-torch.inf)
            found.append(largest(scores, k * dilation, ordered=ordered)[..., ::dilation])
    return found[0] if len(found) == 1 else torch.cat(found, 1)
