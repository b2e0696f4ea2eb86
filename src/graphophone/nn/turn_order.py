"""Recurrent layers over sequences of turns of unlike lengths, without padding."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from graphophone.errors import GraphophoneError
from graphophone.nn.gru import packed_gru
from graphophone.nn.sparse import drop

Cell = Literal["gru", "lstm"]


class TurnEncoderError(GraphophoneError):
    """Sizes or options of an encoder of turns that do not go together."""


@dataclass(frozen=True, eq=False)
class TurnOrder:
    """Turns in the order in which a recurrent layer reads them, all sequences step by step.

    Attributes:
        rows: Turns that are read, as places in ``[B * T]``: those that are first in their sequence, then those that
            are second, and so on, the longest sequence first ``[n]``.
        counts: How many sequences there are at each step ``[longest]``, int64, on the CPU.
    """

    rows: Tensor
    counts: Tensor

    @classmethod
    def of(cls, present: Tensor, speaker: Tensor | None = None) -> TurnOrder:
        """One sequence per dialogue, or one per dialogue and speaker, of its present turns in their order.

        Args:
            present: Which turns are read, bool ``[B, T]``; gaps are closed.
            speaker: Who speaks, numbers from 0 ``[B, T]``; those of absent turns do not matter.
        """
        rows = present.flatten().nonzero().squeeze(1)
        if not len(rows):
            return cls(rows, rows.cpu())
        key = rows // present.size(1)
        if speaker is not None:
            who = speaker.flatten()[rows]
            key = key * (who.max() + 1) + who
            order = key.argsort(stable=True)
            rows, key = rows[order], key[order]
        _, sequence, lengths = key.unique_consecutive(return_inverse=True, return_counts=True)
        place = torch.arange(len(rows), device=rows.device)
        step = place - (lengths.cumsum(0) - lengths)[sequence]
        rank = torch.empty_like(lengths)
        rank[lengths.argsort(descending=True, stable=True)] = torch.arange(len(lengths), device=rows.device)
        packed = (step * len(lengths) + rank[sequence]).argsort()
        return cls(rows[packed], torch.bincount(step).cpu())

    @cached_property
    def mirror(self) -> Tensor:
        """For every turn that is read, the one in its place when all sequences are read backwards ``[n]``."""
        starts = self.counts.cumsum(0) - self.counts
        step = torch.arange(len(self.counts)).repeat_interleave(self.counts)
        rank = torch.arange(len(step)) - starts[step]
        lengths = torch.bincount(rank)
        return (starts[lengths[rank] - 1 - step] + rank).to(self.rows.device)


class TurnRecurrence(nn.Module):
    """A GRU or LSTM over sequences of turns.

    Nothing is padded. A GRU on a CPU runs by `graphophone.nn.gru`; each layer keeps some 8 numbers per turn and channel
    for the gradient.

    Args:
        in_channels: Width of the turns.
        channels: Width of the result; even for two directions, each of which has one half.
        cell: ``"gru"`` or ``"lstm"``.
        num_layers: Layers.
        dropout: Between the layers.
        bidirectional: Whether it reads backwards as well; otherwise no state knows of a later turn.

    Raises:
        TurnEncoderError: If ``channels`` is odd for two directions, or ``cell`` is unknown.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        cell: Cell = "gru",
        num_layers: int = 2,
        dropout: float = 0.0,
        bidirectional: bool = True,
    ) -> None:
        super().__init__()
        if bidirectional and channels % 2:
            raise TurnEncoderError(f"channels={channels} is odd, but two directions share them; give an even number")
        kinds = {"gru": nn.GRU, "lstm": nn.LSTM}
        if cell not in kinds:
            raise TurnEncoderError(f"unknown cell {cell!r}; choose from {', '.join(kinds)}")
        self.rnn = kinds[cell](
            in_channels,
            channels // 2 if bidirectional else channels,
            num_layers,
            dropout=dropout if num_layers > 1 else 0.0,
            bidirectional=bidirectional,
        )
        self.channels = channels

    def forward(self, x: Tensor, order: TurnOrder) -> Tensor:
        """States ``[B, T, channels]`` from turns ``[B, T, in_channels]``; zeros where no turn is read."""
        rows = x.flatten(0, 1)
        out = rows.new_zeros(len(rows), self.channels)
        if len(order.rows):
            states = self._states(rows.index_select(0, order.rows), order)
            out = out.to(states.dtype).index_copy(0, order.rows, states)
        return out.view(*x.shape[:2], self.channels)

    def _states(self, x: Tensor, order: TurnOrder) -> Tensor:
        """States ``[n, channels]`` of the turns that are read ``[n, in_channels]``."""
        quick = isinstance(self.rnn, nn.GRU) and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
        if not quick:
            return self.rnn(PackedSequence(x, order.counts))[0].data
        counts = order.counts.tolist()
        directions = 1 + self.rnn.bidirectional
        weights = [self.rnn.all_weights[k : k + directions] for k in range(0, len(self.rnn.all_weights), directions)]
        for layer, sides in enumerate(weights):
            x = drop(x, self.rnn.dropout, self.training and layer > 0)
            ways = [x, x.index_select(0, order.mirror)][:directions]
            inputs = [F.linear(way, side[0], side[2]) for way, side in zip(ways, sides, strict=True)]
            recurrent, bias = (torch.stack([side[k] for side in sides]) for k in (1, 3))
            states = packed_gru(torch.stack(inputs), recurrent, bias[:, None], counts)
            x = states[0]
            if directions == 2:
                x = torch.cat([x, states[1].index_select(0, order.mirror)], dim=1)
        return x
