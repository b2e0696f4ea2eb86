"""From what a turn has in each modality to the nodes of its dialogue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graphophone.errors import GraphophoneError
from graphophone.nn.dialogue import DialogueBatch, DialogueGraph
from graphophone.nn.gated_fusion import GatedSum
from graphophone.nn.party import SpeakerPartyEncoder
from graphophone.nn.turn_encoder import Encoder, TextNorm, TextSets, TurnEncoder


class NodeEncoder(nn.Module):
    r"""A node for every turn and modality, which knows its context and its speaker (RIGSL, Xiong et al., 2025).

    In every modality a turn is projected to u; h is what an encoder along the dialogue makes of it, s what a recurrent
    layer along the turns of its speaker alone makes of u. The node is :math:`\sigma(W_1 h) \odot h + \sigma(W_2 s)
    \odot s` (biases left out), or h without the encoder of speakers.

    Args:
        in_channels: Modality to the width of its vectors.
        channels: d.
        encoders: Modality to the encoder along the dialogue; see `graphophone.nn.turn_encoder.TurnEncoder`.
        num_layers: Layers of encoders and of the encoder of speakers.
        dropout: Between recurrent layers.
        bidirectional: Whether a node knows of later turns.
        party: Whether there is an encoder of speakers.
        text_sets: Sets of features that lie side by side in the vectors of text.
        text_norm: How they become one; None: the vectors are taken as they are. See
            `graphophone.nn.turn_encoder.TextSets`.

    Attributes:
        out_channels: d.

    Shapes:
        batch of B dialogues of at most T turns in M modalities -> ``[B, M, T, d]``, zeros at absent nodes.

    Raises:
        GraphophoneError: If the vectors of text are not as many sets.
    """

    def __init__(
        self,
        in_channels: Mapping[str, int],
        channels: int,
        *,
        encoders: Mapping[str, Encoder],
        num_layers: int = 2,
        dropout: float = 0.0,
        bidirectional: bool = True,
        party: bool = True,
        text_sets: int = 1,
        text_norm: TextNorm | None = None,
    ) -> None:
        super().__init__()
        widths = dict(in_channels)
        self.text_sets: TextSets | None = None
        if text_norm is not None and "text" in widths:
            if text_sets < 1 or widths["text"] % text_sets:
                raise GraphophoneError(
                    f"vectors of text are {widths['text']} wide, which are not {text_sets} sets: give another number"
                )
            width = widths["text"] // text_sets
            self.text_sets = TextSets(text_sets, width, text_norm, causal=not bidirectional)
            widths["text"] = width
        options: dict[str, Any] = {"num_layers": num_layers, "dropout": dropout, "bidirectional": bidirectional}
        self.turns = nn.ModuleDict(
            {name: TurnEncoder(width, channels, encoder=encoders[name], **options) for name, width in widths.items()}
        )
        self.party = nn.ModuleDict({name: SpeakerPartyEncoder(channels, **options) for name in widths} if party else {})
        self.join = GatedSum(channels, 2) if party else None
        self.out_channels = channels

    def forward(self, batch: DialogueBatch) -> Tensor:
        """See the class."""
        nodes, parties = [], []
        for m, (name, encoder) in enumerate(self.turns.items()):
            x, present = batch.x[name], batch.present[:, m]
            if self.text_sets is not None and name == "text":
                x = self.text_sets(x, present)
            projected, context = encoder(x, present)
            nodes.append(context)
            if self.join is not None:
                parties.append(self.party[name](projected, batch.speaker, present))
        x0 = torch.stack(nodes, dim=1)
        if self.join is None:
            return x0
        graph = DialogueGraph(batch.present, batch.speaker)
        return graph.spread(self.join(graph.gathered(x0), graph.gathered(torch.stack(parties, dim=1))))
