"""Nearest neighbours of the nodes of a grid among pooled nodes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


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


@torch.no_grad()
def grid_neighbours(
    x: Tensor,
    candidates: Tensor,
    k: int,
    *,
    dilation: int = 1,
    closeness: Tensor | None = None,
    include_self: bool = True,
) -> Tensor:
    """The k candidates nearest to each node: by cosine, and by place if ``closeness`` is given.

    The order is that of the distance ``2 - 2 (cos + closeness)``. With a dilation d, of the k d nearest in ascending
    order every d-th is kept, from the first (Han et al., "Vision GNN", 2022). k is lowered to M and d to M // k where
    there are too few candidates. No gradient passes.

    Args:
        x: Nodes ``[B, N, C]``.
        candidates: ``[B, M, C]``.
        k: Neighbours of each node.
        dilation: d.
        closeness: Addition to the cosine ``[N, M]``, as `position_closeness` makes it.
        include_self: False: candidate i is never a neighbour of node i; for candidates that are the nodes.

    Returns:
        ``[B, N, k]`` int64, nearest first.
    """
    if not include_self and x.size(1) != candidates.size(1):
        raise ValueError(f"include_self=False needs the nodes as candidates; got {candidates.size(1)} for {x.size(1)}")
    k, dilation = clamped(k, dilation, candidates.size(1) - (not include_self))
    with torch.autocast(x.device.type, enabled=False):
        nodes = F.normalize(x.float() if x.dtype in (torch.float16, torch.bfloat16) else x, dim=-1)
        others = nodes if candidates is x else F.normalize(candidates.to(nodes.dtype), dim=-1)
        if closeness is None:
            score = nodes @ others.mT
        else:
            score = torch.baddbmm(closeness.to(nodes.dtype).expand(len(x), -1, -1), nodes, others.mT)
    if not include_self:
        score.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    return score.topk(k * dilation).indices[..., ::dilation]
