r"""A gated recurrent unit over packed sequences, with its backward pass written out.

``torch.nn.GRU`` on a CPU takes one direction after the other, and adds up the gradients of its weights step by step.
Here all directions go in step, and the gradient of a step is the gradient of its state times what was known before the
walk back began, so that a step is four operations and the weights get their gradients in one product each.

With input parts :math:`a = W x + b` (Cho et al., 2014, as PyTorch has it):

.. math:: r = \sigma(a_r + U_r h + c_r), \quad z = \sigma(a_z + U_z h + c_z), \quad
    n = \tanh(a_n + r \odot (U_n h + c_n)), \quad h' = n + z \odot (h - n)

Symbols: D directions, n turns of all sequences, H hidden channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _PackedGRU(torch.autograd.Function):
    """`packed_gru` with its gradient; saved are five numbers per state."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, counts: Sequence[int]) -> Tensor:
        directions, turns, _ = inputs.shape
        hidden = weight.size(2)
        transposed = weight.transpose(1, 2)
        gates = inputs.new_empty(directions, turns, 2 * hidden)  # r, z
        recurrent = inputs.new_empty(directions, turns, hidden)  # what r is multiplied with
        new = torch.empty_like(recurrent)
        states = torch.empty_like(recurrent)
        before = inputs.new_zeros(directions, counts[0], hidden)
        start = 0
        for count in counts:
            before = before[:, :count]
            step = slice(start, start + count)
            parts = torch.baddbmm(bias, before, transposed)
            given = inputs[:, step]
            gate = torch.add(given[..., : 2 * hidden], parts[..., : 2 * hidden]).sigmoid_()
            added = parts[..., 2 * hidden :]
            candidate = torch.addcmul(given[..., 2 * hidden :], gate[..., :hidden], added).tanh_()
            state = torch.lerp(candidate, before, gate[..., hidden:])
            gates[:, step], recurrent[:, step], new[:, step], states[:, step] = gate, added, candidate, state
            before = state
            start += count
        ctx.counts = counts
        ctx.save_for_backward(weight, gates, recurrent, new, states)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        weight, gates, recurrent, new, states = ctx.saved_tensors
        counts: Sequence[int] = ctx.counts
        directions, turns, hidden = states.shape
        before = torch.zeros_like(states)
        first = counts[0]
        start = 0
        for count, following in pairwise(counts):
            before[:, start + count : start + count + following] = states[:, start : start + following]
            start += count
        r, z = gates.split(hidden, dim=2)
        # What the gradient of a state is multiplied with: for the sums inside of r, z and n, and U_n h.
        inner = torch.addcmul(new.new_ones(()), new, new, value=-1).mul_(1 - z)
        factor = states.new_empty(directions, turns, 3, hidden)
        torch.mul(inner, r, out=factor[:, :, 2])
        torch.mul(factor[:, :, 2] * (1 - r), recurrent, out=factor[:, :, 0])
        torch.mul((before - new).mul_(z), 1 - z, out=factor[:, :, 1])
        total = d_states.clone()
        d_parts = torch.empty_like(factor)
        carried: Tensor | None = None
        end = turns
        for count in reversed(counts):
            step = slice(end - count, end)
            own = total[:, step]
            if carried is not None:
                own[:, : carried.size(1)] += carried
            given = own.unsqueeze(2) * factor[:, step]
            d_parts[:, step] = given
            carried = torch.baddbmm(own * z[:, step], given.flatten(2), weight)
            end -= count
        d_parts = d_parts.flatten(2)
        d_weight = d_parts[:, first:].transpose(1, 2) @ before[:, first:]
        d_bias = d_parts.sum(dim=1, keepdim=True)
        d_parts[..., 2 * hidden :] = total * inner
        return d_parts, d_weight, d_bias, None


def packed_gru(inputs: Tensor, weight: Tensor, bias: Tensor, counts: Sequence[int]) -> Tensor:
    """States of sequences that are packed step by step, the longest first; they begin with zeros.

    Args:
        inputs: Input parts of r, z and n ``[D, n, 3 H]``.
        weight: U ``[D, 3 H, H]``.
        bias: c ``[D, 1, 3 H]``.
        counts: Sequences that there are at each step.

    Returns:
        ``[D, n, H]``. Kept for the gradient: 5 D n H numbers.
    """
    return _PackedGRU.apply(inputs, weight, bias, counts)
