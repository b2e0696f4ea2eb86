"""What networks of dialogues share: an answer for every turn, from any of its modalities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

from torch import Tensor

from graphophone.modalities import MODALITIES
from graphophone.models.base import PretrainedModel
from graphophone.nn.dialogue import DialogueBatch, EdgeTables


class DialogueOutput(NamedTuple):
    """What a network says of some dialogues.

    Attributes:
        logits: Class scores of every turn ``[B, T, C]``; at padding they mean nothing.
        losses: What is learned beside the labels, by name, scalars; see ``loss_names`` of the network.
    """

    logits: Tensor
    losses: Mapping[str, Tensor]


class DialogueClassifier(PretrainedModel):
    """A network from dialogues to class scores of every turn.

    A turn may lack modalities (``batch.present``); one that lacks all of them is answered for from the others' alone.
    Neither padding nor the dialogues beside it change the answer for a dialogue.

    Symbols: B dialogues, T turns, C classes.

    Attributes:
        in_channels: Modality to the width of its vectors, in the order of `modalities`.
        num_classes: C.
        future: Turns after it that an answer may hear; None: all; 0: only turns before it.
        loss_names: Keys of ``losses`` of what `forward` gives.
    """

    reads: ClassVar[Literal["graph", "spectrogram", "nodes", "dialogue"]] = "dialogue"
    modalities: ClassVar[tuple[str, ...]] = MODALITIES
    loss_names: tuple[str, ...] = ()
    in_channels: dict[str, int]
    num_classes: int
    future: int | None = None

    def forward(self, batch: DialogueBatch) -> DialogueOutput:
        """Class scores (logits) of every turn, and auxiliary losses by name."""
        raise NotImplementedError

    def states(self, batch: DialogueBatch) -> Tensor:
        """A vector per turn before the classifier ``[B, T, dims]``."""
        raise NotImplementedError

    def relations(self, batch: DialogueBatch) -> dict[str, EdgeTables | Tensor]:
        """What each turn hears of the others, in evaluation, by name; empty for a network without graph.

        ``graph``: weights of the edges of the initial graph, averaged over the layers (:class:`EdgeTables`; 0 where an
        edge was cut). ``latent``: attention over all nodes of a dialogue, averaged over layers and heads
        ``[B, M, T, M, T]``, target before source; rows of present nodes sum to one.
        """
        return {}
