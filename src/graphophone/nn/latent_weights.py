r"""Weights of the latent graph: a softmax over the nodes, or the mean of several with Gumbel noise.

With scores :math:`s_{ij}` and noise :math:`G_{jk}`, one draw per key and sample, shared by the queries (NodeFormer,
Wu et al., 2022):

.. math:: A_{ij} = \frac1K \sum_k \frac{S_{ij} e_{jk}}{D_{ik}}, \quad S_{ij} = e^{s_{ij}}, \quad e_{jk} = e^{G_{jk}},
    \quad D = S e

so that A is S times, number by number, a product of two thin matrices; K tables of N x N are never made.

Symbols: H heads, N nodes, K samples.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from graphophone.errors import GraphophoneError

# Bounds of a draw of the exponential distribution: 24 bits of a uniform number give no smaller and no larger one.
_LEAST, _MOST = 2.0**-24, 24 * math.log(2)
_SPREAD = math.log(_MOST) - math.log(_LEAST)


class LatentGraphError(GraphophoneError):
    """Options of a latent graph that do not go together."""


def _shift(nodes: int, dtype: torch.dtype) -> float:
    """What is added to the exponents of S and e, so that D uses the whole range of the numbers."""
    return (math.log(torch.finfo(dtype).max) - math.log(nodes + 1) - 2) / 2


def gumbel_noise(nodes: int, heads: int, samples: int, like: Tensor) -> Tensor:
    """Gumbel(0, 1) noise ``[nodes, heads, samples]`` from torch's generator; never further apart than 20."""
    # Several times quicker on CPUs than torch's own exponential distribution.
    uniform = torch.rand(nodes, heads, samples, dtype=like.dtype, device=like.device)
    exponential = uniform.neg_().log1p_().neg_().clamp_(_LEAST, _MOST)
    return exponential.log_().neg_()


def check_temperature(tau: float, nodes: int, dtype: torch.dtype) -> None:
    """Refuse a temperature at which noise leaves the range of the numbers.

    Raises:
        LatentGraphError: If there is no such number in ``dtype``.
    """
    least = _SPREAD / (_shift(nodes, dtype) + math.log(torch.finfo(dtype).max) - 5)
    if tau < least:
        raise LatentGraphError(
            f"tau={tau} is too low for Gumbel noise over {nodes} nodes in {dtype}; give {least:.2g} or more, "
            "or switch the noise off"
        )


class _LatentWeights(torch.autograd.Function):
    """`latent_weights` with its gradient written out: saved are S, A and what is thin."""

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, noise: Tensor | None, edges: Tensor | None, grown: float
    ) -> tuple[Tensor, Tensor]:
        top = scores.amax(-1, keepdim=True)
        weights = (scores - (top - grown)).exp_()
        total = weights.sum(-1, keepdim=True)
        if noise is None:
            attention = weights.div_(total)
            weights = attention
            inverse = total.new_empty(0)
        else:
            inverse = (weights @ noise).reciprocal_()
            attention = (inverse @ noise.transpose(-1, -2)).mul_(weights).div_(noise.size(-1))
        link = total.new_zeros(total.shape[:-1])
        if edges is not None:
            link = (scores * edges).sum(-1) - (total.log() + (top - grown)).squeeze(-1)
            link = link * (edges.sum(-1) > 0)
        ctx.save_for_backward(weights, attention, total, inverse, noise, edges)
        return attention, link

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_attention: Tensor, d_link: Tensor) -> tuple[Tensor, None, None, None]:
        weights, attention, total, inverse, noise, edges = ctx.saved_tensors
        carried = d_attention * attention
        if noise is None:
            carried.addcmul_(attention, carried.sum(-1, keepdim=True), value=-1)
        else:
            taken = ((weights * d_attention) @ noise).mul_(inverse).mul_(inverse)
            carried.addcmul_(taken @ noise.transpose(-1, -2), weights, value=-1 / noise.size(-1))
        if edges is not None:
            d_link = (d_link * (edges.sum(-1) > 0)).unsqueeze(-1)
            carried.addcmul_(edges, d_link)
            carried.addcmul_(weights, d_link if noise is None else d_link / total, value=-1)
        return carried, None, None, None


def latent_weights(scores: Tensor, noise: Tensor | None, edges: Tensor | None) -> tuple[Tensor, Tensor]:
    r"""Weights of all nodes, and how likely the given edges are without noise.

    Args:
        scores: :math:`q_i^T k_j / (\tau \sqrt{D})`, very negative where j is not heard ``[..., H, N, N]``.
        noise: :math:`G_{jk} / \tau` ``[..., H, N, K]``; None: one softmax. It takes no gradient.
        edges: Share of each incoming edge of a node, 1 / degree, 0 where there is none ``[..., 1, N, N]``; None: the
            second result is zero.

    Returns:
        A ``[..., H, N, N]``, rows of sum 1; mean over the incoming edges of the logarithm of the softmax of ``scores``
        ``[..., H, N]``, zero for nodes without edge. Memory for the gradient: two tables of N x N per head, one
        without noise.
    """
    if noise is None:
        return _LatentWeights.apply(scores, None, edges, 0.0)
    shift = _shift(scores.size(-1), scores.dtype)
    grown = (noise - (noise.amax(-2, keepdim=True) - shift)).exp_()
    return _LatentWeights.apply(scores, grown, edges, shift)
