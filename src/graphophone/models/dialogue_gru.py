"""Recurrence along a dialogue, the plainest network that knows what was said before and after."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from graphophone.models.dialogue import DialogueClassifier
from graphophone.nn.dialogue import DialogueBatch
from graphophone.nn.turn_input import TurnInput
from graphophone.nn.turn_order import TurnOrder, TurnRecurrence


class DialogueGRU(DialogueClassifier):
    """Gated recurrence over the turns of a dialogue, modalities side by side: a baseline without graph.

    Each direction is as wide as makes ``hidden_channels`` of both.

    Args:
        in_channels: Modality to the width of its vectors.
        num_classes: C.
        speakers: How many speakers have a learned vector, in the order of their first turns; 0: who speaks is not
            known.
        future: None: the recurrence runs in both directions; else forwards alone, so that an answer hears no later
            turn, whatever the number.
        hidden_channels: Width of projections and states; even where the recurrence runs in both directions.
        num_layers: Recurrent layers.
        residual: Whether the projections are added to what the recurrence gives.
        dropout: Probability, everywhere.

    Raises:
        GraphophoneError: If a number is too small or odd, or a modality unknown.
    """

    model_name = "dialogue_gru"

    def __init__(
        self,
        *,
        in_channels: Mapping[str, int],
        num_classes: int,
        speakers: int = 9,
        future: int | None = None,
        hidden_channels: int = 256,
        num_layers: int = 2,
        residual: bool = True,
        dropout: float = 0.4,
    ) -> None:
        super().__init__()
        self.read_in(
            in_channels,
            num_classes,
            future=future,
            speakers=speakers,
            rates={"dropout": dropout},
            hidden_channels=hidden_channels,
            num_layers=num_layers,
        )
        h = hidden_channels
        self.input = TurnInput(self.in_channels, h, dropout=dropout, speakers=speakers)
        self.gru = TurnRecurrence(
            self.input.out_channels, h, num_layers=num_layers, dropout=dropout, bidirectional=future is None
        )
        self.skip = nn.Linear(self.input.out_channels, h) if residual else None
        self.norm = nn.LayerNorm(h)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(h, h), nn.ReLU(), nn.Dropout(dropout), nn.Linear(h, num_classes)
        )

    def states(self, batch: DialogueBatch) -> Tensor:
        """A vector per turn before the classifier ``[B, T, hidden_channels]``."""
        x = self.input(self.checked(batch))
        heard = self.gru(x, TurnOrder.of(batch.mask))
        return self.norm(heard if self.skip is None else heard + self.skip(x))
