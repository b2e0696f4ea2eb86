"""Attention of one modality to another: over tokens, over one pooled vector, or over a batch of pooled vectors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from graphophone.errors import GraphophoneError
from graphophone.nn.sparse import drop

# Tokens (with padding) of one block of utterances, and queries of one block of a batch.
TOKENS = 32768
QUERIES = 1024


class SequenceError(GraphophoneError):
    """Sequences that cannot be attended to."""


class Sequences:
    """Vectors of the tokens (or frames) of N utterances, held without padding.

    Values may be of half precision, which halves their memory; what is computed with is single.

    Args:
        values: Token vectors, padded ``[N, longest, dims]``, or one utterance after the other
            ``[sum of lengths, dims]``.
        lengths: Tokens of each utterance ``[N]``.

    Raises:
        SequenceError: If an utterance has no token, or lengths and values do not fit.
    """

    def __init__(self, values: Tensor, lengths: Tensor) -> None:
        lengths = lengths.to(values.device, torch.int64)
        if lengths.ndim != 1 or values.ndim not in (2, 3):
            raise SequenceError(
                f"sequences of shape {list(values.shape)} with lengths {list(lengths.shape)}: give [N, longest, dims] "
                "or [tokens, dims], and lengths [N]"
            )
        if len(lengths) and int(lengths.min()) < 1:
            row = int(lengths.argmin())
            raise SequenceError(f"sequence {row} has no token: leave the utterance out, or give it one")
        if values.ndim == 3:
            if len(values) != len(lengths) or (len(lengths) and int(lengths.max()) > values.shape[1]):
                raise SequenceError(
                    f"{len(values)} sequences of up to {values.shape[1]} tokens, but {len(lengths)} lengths of up to "
                    f"{int(lengths.max()) if len(lengths) else 0}: give one length for each, without padding"
                )
            values = values[torch.arange(values.shape[1], device=values.device) < lengths[:, None]]
        elif int(lengths.sum()) != len(values):
            raise SequenceError(f"lengths add up to {int(lengths.sum())}, but there are {len(values)} tokens")
        self.values = values
        self.lengths = lengths
        self.starts = lengths.cumsum(0) - lengths

    def __len__(self) -> int:
        """N."""
        return len(self.lengths)

    def take(self, rows: Tensor) -> Sequences:
        """Some utterances, in the order of their numbers ``[n]``."""
        rows = rows.to(self.lengths.device)
        lengths = self.lengths[rows]
        ends = lengths.cumsum(0)
        inside = torch.arange(int(lengths.sum()), device=lengths.device) - (ends - lengths).repeat_interleave(lengths)
        return Sequences(self.values[self.starts[rows].repeat_interleave(lengths) + inside], lengths)

    def to(self, device: torch.device | str, **options: Any) -> Sequences:
        """The same on a device."""
        if self.values.device == torch.device(device):
            return self
        return Sequences(self.values.to(device), self.lengths.to(device))

    def padded(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Some utterances side by side.

        Args:
            rows: Their numbers ``[n]``.

        Returns:
            Values ``[n, longest of these, dims]`` with zeros behind the last token, and which are tokens
            ``[n, longest]``.
        """
        lengths = self.lengths[rows]
        place = torch.arange(int(lengths.max()), device=lengths.device)
        real = place < lengths[:, None]
        index = torch.where(real, self.starts[rows, None] + place, 0)
        return self.values[index].float().masked_fill(~real[..., None], 0.0), real


class CrossAttention(nn.Module):
    """Multi-head attention (Vaswani et al., 2017) whose queries come from one modality and keys from another.

    Parameters are named, shaped and initialised as those of `torch.nn.MultiheadAttention`, whose weights it loads.

    Args:
        channels: Width of queries, keys and values; a multiple of ``heads``.
        heads: Number of heads.
        dropout: Probability of dropping an attention weight.
    """

    def __init__(self, channels: int, heads: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        if channels % heads:
            raise GraphophoneError(f"{channels} channels are no multiple of {heads} heads; change one of them")
        self.channels = channels
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, memory: Tensor, real: Tensor | None = None) -> Tensor:
        """Attend from every query to the keys of the same row.

        Args:
            query: ``[N, queries, channels]``.
            memory: What keys and values are made of ``[N, keys, channels]``.
            real: False for keys that are padding ``[N, keys]``; None: all are real. Each row needs one at least.

        Returns:
            ``[N, queries, channels]``.
        """
        wide = self.channels
        q = F.linear(query, self.in_proj_weight[:wide], self.in_proj_bias[:wide])
        k, v = F.linear(memory, self.in_proj_weight[wide:], self.in_proj_bias[wide:]).split(wide, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        mask = None if real is None else real[:, None, None]
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def single(self, memory: Tensor) -> Tensor:
        """`forward` where every row has one key: its weight is 1, and queries do not matter.

        What is left is linear in the memory. Weights of queries and keys get gradients of zero. In training, attention
        dropout sets whole heads to zero.

        Args:
            memory: ``[N, channels]``.

        Returns:
            ``[N, channels]``.
        """
        wide = self.channels
        values = F.linear(memory, self.in_proj_weight[2 * wide :], self.in_proj_bias[2 * wide :])
        if self.training and self.dropout:
            kept = F.dropout(values.new_ones(len(values), self.heads, 1), self.dropout)
            values = (values.unflatten(-1, (self.heads, -1)) * kept).flatten(1)
        return self.out_proj(values)


class CrossModalStream(nn.Module):
    r"""One direction of the cross-modal transformer of HemoGAT (equations 11 and 12), with what its code adds.

    .. math:: T^* = \mathrm{Drop}(\mathrm{LN}(\mathrm{Lin}(\mathrm{MHA}(T, A, A)) + T))

    Args:
        channels: Width of both modalities.
        heads: Attention heads.
        dropout: Of attention weights, and of the result.
    """

    def __init__(self, channels: int, heads: int = 4, dropout: float = 0.3) -> None:
        super().__init__()
        self.attention = CrossAttention(channels, heads, dropout)
        self.linear = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels)
        self.dropout = dropout

    def _merge(self, query: Tensor, attended: Tensor) -> Tensor:
        """What follows the attention."""
        return drop(self.norm(self.linear(attended) + query), self.dropout, self.training)

    def pooled(self, query: Tensor, memory: Tensor) -> Tensor:
        """Each row attends to one vector, that of the same row: ``[N, channels]`` twice -> ``[N, channels]``."""
        return self._merge(query, self.attention.single(memory))

    def batch(self, query: Tensor, memory: Tensor) -> Tensor:
        """Each row attends to all rows: ``[N, channels]`` twice -> ``[N, channels]``; time for N x N products.

        Queries go in blocks, and weights of a block are computed again for the gradient instead of held.
        """
        parts = []
        for part in query.split(QUERIES):
            if torch.is_grad_enabled() and len(query) > QUERIES:
                attended = checkpoint(self.attention, part[None], memory[None], use_reentrant=False)
            else:
                attended = self.attention(part[None], memory[None])
            parts.append(attended[0])
        return self._merge(query, torch.cat(parts))

    def tokens(self, query: Tensor, asking: Tensor, memory: Tensor, real: Tensor) -> Tensor:
        """Each token attends to the tokens of the other modality; then the mean over the tokens that asked.

        Args:
            query: ``[N, queries, channels]``.
            asking: False for queries that are padding ``[N, queries]``.
            memory: ``[N, keys, channels]``.
            real: False for keys that are padding ``[N, keys]``.

        Returns:
            ``[N, channels]``.
        """
        states = self._merge(query, self.attention(query, memory, real))
        weight = asking.to(states) / asking.sum(dim=1, keepdim=True)
        return torch.einsum("nlc,nl->nc", states, weight)


def length_blocks(lengths: Tensor, budget: int = TOKENS) -> Iterator[Tensor]:
    """Rows of like lengths together, so that padding is little and a block fits into memory.

    Args:
        lengths: Of each row ``[N]``.
        budget: Tokens, with padding, of a block; a longer row is a block of its own.

    Yields:
        Numbers of rows, every one in one block.
    """
    order = lengths.argsort(stable=True)
    sizes = lengths[order].tolist()
    begin = 0
    for end in range(1, len(sizes) + 1):
        if end == len(sizes) or (end + 1 - begin) * sizes[end] > budget:
            yield order[begin:end]
            begin = end
