"""From the vectors of turns in one modality to states that know the dialogue."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphophone.nn.turn_order import TurnEncoderError, TurnOrder, TurnRecurrence

Encoder = Literal["gru", "lstm", "transformer", "none"]
TextNorm = Literal["LN", "BN", "LN2", "mean", "first"]


class TurnEncoder(nn.Module):
    r"""A linear projection of each turn, and what it becomes in its dialogue (RIGSL, Xiong et al., 2025).

    Turns without the modality are left out: they are zero in both results, and a recurrent layer reads the turns on
    both sides of the gap one after the other. (Reading zeros there instead would make a state of silence that training
    on whole dialogues never sees.) A Transformer keeps the true places of the turns.

    Args:
        in_channels: Width of the vectors.
        channels: d, width of both results; even, for a bidirectional recurrent layer.
        encoder: ``"gru"`` or ``"lstm"`` (d / 2 per direction), ``"transformer"`` (pre-norm, sinusoidal places), or
            ``"none"``: each turn alone.
        num_layers: Layers of the encoder.
        dropout: Between recurrent layers, or of the Transformer.
        bidirectional: Whether a state may know of later turns.
        heads: Of the Transformer.

    Raises:
        TurnEncoderError: If the encoder is unknown, or ``channels`` does not divide among directions or heads.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        encoder: Encoder = "gru",
        num_layers: int = 2,
        dropout: float = 0.0,
        bidirectional: bool = True,
        heads: int = 8,
    ) -> None:
        super().__init__()
        if encoder not in get_args(Encoder):
            raise TurnEncoderError(f"unknown encoder {encoder!r}; choose from {', '.join(get_args(Encoder))}")
        self.projection = nn.Linear(in_channels, channels)
        nn.init.xavier_uniform_(self.projection.weight)
        self.encoder: TurnRecurrence | TurnTransformer | None = None
        if encoder == "transformer":
            self.encoder = TurnTransformer(
                channels, heads=heads, num_layers=num_layers, dropout=dropout, bidirectional=bidirectional
            )
        elif encoder != "none":
            self.encoder = TurnRecurrence(
                channels, channels, cell=encoder, num_layers=num_layers, dropout=dropout, bidirectional=bidirectional
            )

    def forward(self, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Project, then read the dialogue.

        Args:
            x: Vectors ``[B, T, in_channels]``.
            present: Which turns have the modality, bool ``[B, T]``; what stands elsewhere in ``x`` is never read.

        Returns:
            Projections and states in context ``[B, T, channels]`` each, zeros where there is no turn.
        """
        order = TurnOrder.of(present)
        projected = self.projection(x.flatten(0, 1).index_select(0, order.rows))
        u = projected.new_zeros(present.numel(), projected.size(1)).index_copy(0, order.rows, projected)
        u = u.view(*present.shape, -1)
        if self.encoder is None:
            return u, u
        if isinstance(self.encoder, TurnTransformer):
            return u, self.encoder(u, present)
        return u, self.encoder(u, order)


class TurnTransformer(nn.Module):
    """A pre-norm Transformer encoder (Vaswani et al., 2017) over the turns of each dialogue.

    Args:
        channels: Width; a multiple of ``heads``.
        heads: Attention heads.
        num_layers: Layers.
        dropout: Of the layers.
        bidirectional: Whether a turn may attend to later ones.
        feedforward: Width of the feed-forward layers; None: twice ``channels``.

    Raises:
        TurnEncoderError: If ``channels`` is no multiple of ``heads``, or odd.
    """

    def __init__(
        self,
        channels: int,
        *,
        heads: int = 8,
        num_layers: int = 2,
        dropout: float = 0.0,
        bidirectional: bool = True,
        feedforward: int | None = None,
    ) -> None:
        super().__init__()
        if channels % heads or channels % 2:
            raise TurnEncoderError(
                f"channels={channels} must be even and a multiple of heads={heads}; change one of them"
            )
        self.heads = heads
        self.bidirectional = bidirectional
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                channels, heads, feedforward or 2 * channels, dropout, batch_first=True, norm_first=True
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """States ``[B, T, channels]`` from turns of the same shape; zeros where ``present`` ``[B, T]`` is False."""
        turns, channels = x.shape[1:]
        place = torch.arange(turns, device=x.device, dtype=x.dtype)
        rate = torch.exp(torch.arange(0, channels, 2, device=x.device, dtype=x.dtype) * (-math.log(1e4) / channels))
        angle = place[:, None] * rate
        x = self.dropout(x + torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1))
        itself = torch.eye(turns, dtype=torch.bool, device=x.device)  # so that no row of the attention is empty
        hears = present[:, None, :] | itself
        if not self.bidirectional:
            hears = hears & itself.new_ones(turns, turns).tril()
        deaf = (~hears).repeat_interleave(self.heads, dim=0)
        for layer in self.layers:
            x = layer(x, src_mask=deaf)
        return self.norm(x).masked_fill(~present[..., None], 0)


class TextSets(nn.Module):
    """Several sets of text features side by side, made one (the released features of RIGSL and M3NET have four).

    Args:
        sets: How many there are.
        channels: Width of each.
        norm: ``"LN"``: an affine layer norm of each, then their mean; ``"BN"``: a batch norm of each over the turns of
            the batch (padding does not count), then their mean; ``"LN2"``: each normalised over turns and width of its
            dialogue together, then their mean; ``"mean"``; ``"first"``: the first set alone.
        causal: For ``"LN2"``: statistics of a turn are those of the dialogue up to it, not of the whole.

    Attributes:
        in_channels: ``sets`` times ``channels``.
        out_channels: ``channels``.

    Raises:
        TurnEncoderError: If ``norm`` is unknown.
    """

    def __init__(self, sets: int = 4, channels: int = 1024, norm: TextNorm = "LN", *, causal: bool = False) -> None:
        super().__init__()
        if norm not in get_args(TextNorm):
            raise TurnEncoderError(f"unknown norm {norm!r} of text sets; choose from {', '.join(get_args(TextNorm))}")
        self.sets = sets
        self.norm: TextNorm = norm
        self.causal = causal
        self.in_channels = sets * channels
        self.out_channels = channels
        if norm == "LN":
            self.weight = nn.Parameter(torch.ones(sets, channels))
            self.bias = nn.Parameter(torch.zeros(sets, channels))
        elif norm == "BN":
            self.batch_norm = nn.BatchNorm1d(sets * channels)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """``[B, T, sets * channels]`` to ``[B, T, channels]``; zeros where ``present`` ``[B, T]`` is False."""
        rows = present.flatten().nonzero().squeeze(1)
        values = x.flatten(0, 1).index_select(0, rows).unflatten(1, (self.sets, -1))
        if self.norm == "LN":
            values = torch.addcmul(self.bias, F.layer_norm(values, values.shape[2:]), self.weight)
        elif self.norm == "BN":
            values = self._batch_normed(values.flatten(1)).view_as(values)
        elif self.norm == "LN2":
            mean, variance = self._statistics(values, rows, present)
            values = (values - mean) * (variance + 1e-5).rsqrt()
        out = values[:, 0] if self.norm == "first" else values.mean(dim=1)
        return out.new_zeros(present.numel(), self.out_channels).index_copy(0, rows, out).view(*present.shape, -1)

    def _batch_normed(self, x: Tensor) -> Tensor:
        """Batch norm of ``[n, dims]``; a single row has no variance and is normalised by the running statistics."""
        if len(x) > 1 or not self.training:
            return self.batch_norm(x)
        norm = self.batch_norm
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)

    def _statistics(self, x: Tensor, rows: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of a set over turns and width, for each present turn ``[n, sets, 1]``."""
        moments = torch.stack([x.mean(dim=2), x.square().mean(dim=2)], dim=2)
        table = moments.new_zeros(present.numel(), self.sets, 2).index_copy(0, rows, moments)
        table = table.view(*present.shape, self.sets, 2)
        if self.causal:
            table = table.cumsum(dim=1) / present.cumsum(dim=1).clamp_min(1)[..., None, None]
        else:
            table = table.sum(dim=1, keepdim=True) / present.sum(dim=1).clamp_min(1)[:, None, None, None]
            table = table.expand(-1, present.size(1), -1, -1)
        mean, square = table.flatten(0, 1).index_select(0, rows).split(1, dim=2)
        return mean, (square - mean.square()).clamp_min(0)
