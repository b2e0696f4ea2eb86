"""Rows of vectors made of modalities side by side, some of which an item may lack."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from graphophone.graphs.base import GraphError, require
from graphophone.modalities import MODALITIES


def split_modalities(x: Tensor, in_channels: Mapping[str, int]) -> dict[str, Tensor]:
    """The columns of each modality, in the order of `MODALITIES`. Each [items, dims].

    Raises:
        GraphError: If a modality is not known, or the widths do not add up to that of `x`.
    """
    unknown = [name for name in in_channels if name not in MODALITIES]
    require(not unknown, f"in_channels names {', '.join(unknown)}; a modality is one of {', '.join(MODALITIES)}")
    names = [name for name in MODALITIES if name in in_channels]
    widths = [in_channels[name] for name in names]
    require(bool(names), f"in_channels is empty; give the width of one of {', '.join(MODALITIES)}")
    if x.dim() != 2 or x.shape[1] != sum(widths):
        words = " + ".join(f"{name} {width}" for name, width in zip(names, widths, strict=True))
        raise GraphError(
            f"rows of {words} are {sum(widths)} wide, not {list(x.shape)}; make in_channels fit the features"
        )
    return dict(zip(names, x.split(widths, dim=1), strict=True))


def has_modality(part: Tensor) -> Tensor:
    """Which items have a modality: those whose row is not NaN in all columns. [items] bool.

    Args:
        part: Vectors of one modality. [items, dims]

    Raises:
        GraphError: If it is no matrix of real numbers, or a row is NaN in part, or infinite.
    """
    if part.dim() != 2 or part.is_complex():
        raise GraphError(f"a modality must be a real matrix [items, dims], not {list(part.shape)} {part.dtype}")
    # One number for each row tells which few to look at.
    norms = torch.linalg.vector_norm(part.detach(), dim=1, dtype=torch.float64)
    there = torch.ones(len(part), dtype=torch.bool, device=part.device)
    odd = (~norms.isfinite()).nonzero()[:, 0]
    if len(odd):
        lacking = part[odd].isnan().all(dim=1)
        if not bool(lacking.all()):
            raise GraphError(
                f"item {int(odd[~lacking][0])} has a value that is NaN or infinite ({int((~lacking).sum())} such items "
                "in all): repair it, or make the whole row NaN, which says that the item lacks this modality"
            )
        there[odd] = False
    return there
