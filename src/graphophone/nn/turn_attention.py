"""Attention among the turns of a dialogue, which knows how far apart they are and whether one speaker said both."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TurnBias(nn.Module):
    """What is added to the scores of attention: a number for each distance, and one for turns of one speaker.

    Relative places instead of absolute ones: what a turn hears of another depends on what is between them, not on when
    the dialogue began (Shaw et al., 2018).

    Args:
        heads: H, each has numbers of its own.
        reach: Distance from which on all are alike.

    Shapes:
        hears bool ``[B, T, T]``, same_speaker bool ``[B, T, T]``, target before source -> ``[B, H, T, T]``, minus
        infinity where a turn does not hear the other.
    """

    def __init__(self, heads: int, reach: int = 16) -> None:
        super().__init__()
        self.reach = reach
        self.distance = nn.Embedding(2 * reach + 1, heads)
        self.speaker = nn.Embedding(2, heads)
        nn.init.zeros_(self.distance.weight)
        nn.init.zeros_(self.speaker.weight)

    def forward(self, hears: Tensor, same_speaker: Tensor) -> Tensor:
        """See the class."""
        place = torch.arange(hears.size(1), device=hears.device)
        apart = (place[None, :] - place[:, None]).clamp(-self.reach, self.reach) + self.reach
        bias = self.distance(apart) + self.speaker(same_speaker.long())
        return bias.masked_fill(~hears[..., None], -torch.inf).permute(0, 3, 1, 2)


class TurnAttention(nn.Module):
    """One layer of a transformer, normalised before each half (Xiong et al., 2020).

    Args:
        channels: d, a multiple of ``heads``.
        heads: H.
        dropout: Probability, of weights of attention and after each half.

    Shapes:
        x ``[B, T, d]``, bias ``[B, H, T, T]`` -> ``[B, T, d]``.
    """

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Sequential(nn.Linear(channels, channels), nn.Dropout(dropout))
        self.mlp = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, 2 * channels),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * channels, channels),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """See the class."""
        query, key, value = self.qkv(self.norm(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        heard = F.scaled_dot_product_attention(
            query, key, value, attn_mask=bias.to(query.dtype), dropout_p=self.dropout if self.training else 0.0
        )
        x = x + self.out(heard.transpose(1, 2).flatten(2))
        return x + self.mlp(x)
