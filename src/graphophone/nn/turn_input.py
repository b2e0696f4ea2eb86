"""What a turn has, of any modalities, as one vector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from graphophone.nn.dialogue import DialogueBatch


class TurnInput(nn.Module):
    """Vectors of the modalities of a turn, each projected, side by side, and who speaks.

    A modality that a turn lacks is a learned vector, so that zeros of a recording are not taken for none.

    Args:
        in_channels: Modality to the width of its vectors.
        channels: Width of each after its projection.
        dropout: Probability, after each projection.
        speakers: How many speakers are told apart, in the order of their first turns; later ones count as the last.
            0: none are.

    Attributes:
        out_channels: ``channels`` times the number of modalities.

    Shapes:
        batch of B dialogues of at most T turns -> ``[B, T, out_channels]``; at padding the numbers mean nothing, but
        are numbers.
    """

    def __init__(self, in_channels: Mapping[str, int], channels: int, *, dropout: float, speakers: int = 0) -> None:
        super().__init__()
        self.projections = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(width, channels), nn.LayerNorm(channels), nn.ReLU(), nn.Dropout(dropout))
                for name, width in in_channels.items()
            }
        )
        self.lacking = nn.ParameterDict({name: nn.Parameter(0.02 * torch.randn(channels)) for name in in_channels})
        self.out_channels = channels * len(in_channels)
        self.speaker = nn.Embedding(speakers, self.out_channels) if speakers else None
        if self.speaker is not None:
            nn.init.normal_(self.speaker.weight, std=0.02)

    def forward(self, batch: DialogueBatch) -> Tensor:
        """See the class."""
        parts = []
        for m, (name, projection) in enumerate(self.projections.items()):
            there = batch.present[:, m, :, None]
            projected = projection(batch.x[name].masked_fill(~there, 0))
            parts.append(torch.where(there, projected, cast(Tensor, self.lacking[name]).to(projected.dtype)))
        x = torch.cat(parts, dim=2)
        if self.speaker is not None:
            x = x + self.speaker(batch.speaker.clamp(0, self.speaker.num_embeddings - 1))
        return x
