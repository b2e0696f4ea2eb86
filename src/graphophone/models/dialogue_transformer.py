"""Attention among the turns of a dialogue, without graph."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from graphophone.models.base import ModelError
from graphophone.models.dialogue import DialogueClassifier
from graphophone.nn.dialogue import DialogueBatch, DialogueGraph
from graphophone.nn.turn_attention import TurnAttention, TurnBias
from graphophone.nn.turn_input import TurnInput


class DialogueTransformer(DialogueClassifier):
    """Attention among the turns of a dialogue, modalities side by side: a baseline without graph.

    Places are relative, and so is who speaks: see `graphophone.nn.turn_attention.TurnBias`.

    Args:
        in_channels: Modality to the width of its vectors.
        num_classes: C.
        speakers: How many speakers have a learned vector, in the order of their first turns; 0: none has, and
            attention alone knows which turns are of one speaker.
        past: Turns before it that a turn hears in each layer; None: all.
        future: Turns after it that a turn hears in each layer; None: all; 0: none, so that answers stay as they are
            when a dialogue goes on.
        hidden_channels: Width of projections and layers, a multiple of ``heads``.
        num_layers: Layers.
        heads: Heads of attention.
        dropout: Probability, everywhere.

    Raises:
        ModelError: If numbers are too small or do not fit, or a modality is unknown.
    """

    model_name = "dialogue_transformer"

    def __init__(
        self,
        *,
        in_channels: Mapping[str, int],
        num_classes: int,
        speakers: int = 9,
        past: int | None = None,
        future: int | None = None,
        hidden_channels: int = 256,
        num_layers: int = 2,
        heads: int = 4,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.read_in(
            in_channels,
            num_classes,
            past=past,
            future=future,
            speakers=speakers,
            rates={"dropout": dropout},
            hidden_channels=hidden_channels,
            num_layers=num_layers,
            heads=heads,
        )
        if hidden_channels % heads:
            raise ModelError(f"hidden_channels {hidden_channels} are no multiple of heads {heads}: change one of them")
        h = hidden_channels
        self.input = TurnInput(self.in_channels, h, dropout=dropout, speakers=speakers)
        self.join = nn.Linear(self.input.out_channels, h)
        self.bias = TurnBias(heads)
        self.layers = nn.ModuleList(TurnAttention(h, heads, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(h)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(h, h), nn.ReLU(), nn.Dropout(dropout), nn.Linear(h, num_classes)
        )

    def states(self, batch: DialogueBatch) -> Tensor:
        """A vector per turn before the classifier ``[B, T, hidden_channels]``."""
        x = self.join(self.input(self.checked(batch)))
        graph = DialogueGraph(batch.mask[:, None], batch.speaker, self.past, self.future)  # a node is a turn here
        # Padding hears itself: of nothing at all no weights of attention can be made.
        hears = graph.hears[:, 0] | torch.eye(x.size(1), dtype=torch.bool, device=x.device)
        bias = self.bias(hears, graph.same_speaker)
        for layer in self.layers:
            x = layer(x, bias)
        return self.norm(x)
