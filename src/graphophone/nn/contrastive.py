"""Learning without labels: two views of an item belong together."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def nt_xent(first: Tensor, second: Tensor, *, temperature: float = 0.07, groups: Tensor | None = None) -> Tensor:
    r"""Normalised temperature-scaled cross-entropy of Chen et al., "SimCLR" (ICML 2020), equation 1.

    With the `2B` vectors `z` brought to length 1, row `r` has to find the other view `r'` of its item among all others:

    .. math:: \ell = \frac{1}{2B} \sum_r \log \sum_{c \ne r} e^{(z_r \cdot z_c - z_r \cdot z_{r'}) / \tau}

    It is `ln(2B - 1)` where all vectors are the same.

    Args:
        first: One view of each item `[B, dims]`.
        second: The other, in the same order.
        temperature: `\tau`, above 0.
        groups: `[B]` integers; items of the same one (the same sentence said twice) are no rivals of each other: they
            are left out of each other's sum. None: all are rivals.

    Returns:
        A scalar. Memory: `4 B^2` numbers.

    Raises:
        ValueError: If the views differ in shape, or the temperature is not above 0.
    """
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(f"two views [items, dims] are wanted, not {list(first.shape)} and {list(second.shape)}")
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, not {temperature}")
    count = len(first)
    rows = torch.arange(2 * count, device=first.device)
    z = F.normalize(torch.cat([first, second]), dim=1)
    hidden = rows[:, None] == rows
    if groups is not None:
        group, item = groups.repeat(2), rows % count
        hidden |= (group[:, None] == group) & (item[:, None] != item)
    scores = (z @ z.T / temperature).masked_fill(hidden, -torch.inf)
    return F.cross_entropy(scores, (rows + count) % (2 * count))
