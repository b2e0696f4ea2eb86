"""What each speaker said so far, apart from what the others said."""

from __future__ import annotations

from torch import Tensor, nn

from graphophone.nn.turn_order import TurnOrder, TurnRecurrence


class SpeakerPartyEncoder(nn.Module):
    """A GRU over the turns of every speaker of every dialogue (speaker-party encoder of RIGSL, Xiong et al., 2025).

    Weights are shared by all speakers, so that their numbers do not matter, and any number of them may speak. All
    sequences are read in one call. Turns without the modality are left out.

    Args:
        channels: Width of turns and states; even for two directions.
        num_layers: Layers.
        dropout: Between the layers.
        bidirectional: Whether it reads backwards as well.

    Shapes:
        x ``[B, T, channels]``, speaker ``[B, T]``, present ``[B, T]`` -> ``[B, T, channels]``, zeros at absent turns.
    """

    def __init__(self, channels: int, *, num_layers: int = 2, dropout: float = 0.0, bidirectional: bool = True) -> None:
        super().__init__()
        self.recurrence = TurnRecurrence(
            channels, channels, num_layers=num_layers, dropout=dropout, bidirectional=bidirectional
        )

    def forward(self, x: Tensor, speaker: Tensor, present: Tensor) -> Tensor:
        """States of the turns, each among those of its speaker."""
        return self.recurrence(x, TurnOrder.of(present, speaker))
