"""Weights of a graph block with one relation, widened to a block with two that computes the same.

A pyramid ViG block (Han et al., "Vision GNN", NeurIPS 2022) concatenates each channel of a node with the same channel
of its max-relative neighbourhood, ``[x_0, a_0, x_1, a_1, ...]``, 2C channels, and mixes them by a convolution of 2C to
2C in groups and another of 2C to C. An LHGNN block adds the cluster term, ``[x_0, a_0, b_0, ...]``: 3C to 3C, and 3C to
C. Inside a group the old channel ``2 c + s`` is the new channel ``3 c + s``; the old outputs of a group fill the first
two thirds of the new ones; what comes from ``b``, and what the second convolution reads from new outputs, is zero.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_MIXER = "graph_conv.gconv.nn."


def kept_outputs(old: int, new: int, groups: int) -> Tensor:
    """Channels of the wider grouped convolution that take over those of the narrower, ``[old]`` int64."""
    return (torch.arange(groups)[:, None] * (new // groups) + torch.arange(old // groups)).flatten()


def kept_inputs(old: int, new: int, groups: int) -> Tensor:
    """Where the inputs of one group of the narrower convolution lie in a group of the wider, ``[old // groups]``.

    Both interleave their terms channel by channel: ``old // gcd`` terms a channel become ``new // gcd``.
    """
    channels = new - old  # C: 3C less 2C
    before, after = old // channels, new // channels
    index = torch.arange(old // groups)
    return index // before * after + index % before


def widenable(name: str, old: Tensor, new: Tensor) -> bool:
    """Whether tensor ``name`` is the grouped convolution of a block that lacks just the cluster term."""
    if not name.endswith(_MIXER + "0.weight") or old.ndim != 4 or new.ndim != 4:
        return False
    return 3 * old.size(0) == 2 * new.size(0) and 3 * old.size(1) == 2 * new.size(1)


def widen_block(name: str, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a block with two relations that computes what a block with one does.

    Args:
        name: Its grouped convolution, a name for which `widenable` holds.
        state: Tensors with the narrow block.
        own: Tensors of the wide network; the channels that are new keep their values.

    Returns:
        The tensors that change shape: of the grouped convolution, its normalisation, and the second convolution.
    """
    block = name.removesuffix(_MIXER + "0.weight")
    old, new = state[name], own[name]
    groups = old.size(0) // old.size(1)
    outputs, inputs = (index(old.size(0), new.size(0), groups) for index in (kept_outputs, kept_inputs))
    weight = new.clone()
    weight[outputs] = 0
    weight[outputs[:, None], inputs] = old.to(new)
    widened = {name: weight}
    for rest in ("0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"):
        key = block + _MIXER + rest
        if key in own and key in state and state[key].shape == (old.size(0),):
            widened[key] = own[key].clone()
            widened[key][outputs] = state[key].to(own[key])
    key = block + "fc2.0.weight"
    if key in own and key in state and state[key].shape[1:] == (old.size(0), 1, 1):
        widened[key] = torch.zeros_like(own[key])
        widened[key][:, outputs] = state[key].to(own[key])
    return widened
