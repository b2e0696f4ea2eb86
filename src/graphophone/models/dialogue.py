"""What networks of dialogues share: an answer for every turn, from any of its modalities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from graphophone.modalities import MODALITIES
from graphophone.models.base import ModelError, PretrainedModel
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

    A turn may lack modalities (``batch.present``); one that lacks all of them is answered for from the others' alone,
    or, by networks that have no node for it, like all such turns.
    Neither padding nor the dialogues beside it change the answer for a dialogue.

    Subclasses call `read_in` in their constructor, implement `states`, and set ``classifier``; those that learn more
    than labels also implement `forward`.

    Symbols: B dialogues, T turns, C classes.

    Attributes:
        in_channels: Modality to the width of its vectors, in the order of `modalities`.
        num_classes: C.
        past: Turns before it that edges and attention join to a turn; None: all.
        future: Turns after it that an answer may hear; None: all; 0: only turns before it.
        loss_names: Keys of ``losses`` of what `forward` gives.
        classifier: From what `states` gives to class scores.
    """

    reads: ClassVar[Literal["graph", "spectrogram", "nodes", "dialogue"]] = "dialogue"
    modalities: ClassVar[tuple[str, ...]] = MODALITIES
    loss_names: tuple[str, ...] = ()
    in_channels: dict[str, int]
    num_classes: int
    past: int | None = None
    future: int | None = None
    classifier: nn.Module

    def read_in(
        self,
        in_channels: Mapping[str, int],
        num_classes: int,
        *,
        past: int | None = None,
        future: int | None = None,
        speakers: int = 0,
        rates: Mapping[str, float | None],
        **sizes: int,
    ) -> None:
        """Set what all networks of dialogues have: widths in the order of `modalities`, classes, and who is heard.

        Args:
            in_channels: See the class, as for the next three.
            num_classes: C.
            past: Turns before.
            future: Turns after.
            speakers: Checked alone.
            rates: Probabilities of dropout, by the name of their option; checked alone.
            sizes: Numbers that are at least 1, by the name of their option; checked alone.

        Raises:
            ModelError: If a modality is unknown, there is none, or a number is out of range.
        """
        known = ", ".join(self.modalities)
        if not isinstance(in_channels, Mapping) or not in_channels or set(in_channels) - set(self.modalities):
            raise ModelError(f"in_channels is {in_channels!r}: give a width for each modality that there is of {known}")
        for name, value, least in (
            *((f"in_channels of {name}", width, 1) for name, width in in_channels.items()),
            ("num_classes", num_classes, 1),
            ("past", past, 0),
            ("future", future, 0),
            ("speakers", speakers, 0),
            *((name, value, 1) for name, value in sizes.items()),
        ):
            if value is not None and value < least:
                raise ModelError(f"{name} is {value}; give at least {least}")
        for name, rate in rates.items():
            if rate is not None and not 0 <= rate < 1:
                raise ModelError(f"{name} is {rate}; give at least 0 and less than 1")
        self.in_channels = {name: int(in_channels[name]) for name in self.modalities if name in in_channels}
        self.num_classes = num_classes
        self.past = past
        self.future = future

    def checked(self, batch: DialogueBatch) -> DialogueBatch:
        """The batch, after a look whether it has what the network reads.

        Raises:
            ModelError: If it has other modalities, or vectors of another width.
        """
        given = {name: part.size(-1) for name, part in batch.x.items()}
        if list(given.items()) != list(self.in_channels.items()):
            wanted, got = (", ".join(f"{k} {v}" for k, v in it.items()) or "none" for it in (self.in_channels, given))
            raise ModelError(f"dialogues with {got} columns for a network of {wanted}: give these, in this order")
        return batch

    def forward(self, batch: DialogueBatch) -> DialogueOutput:
        """Class scores (logits) of every turn, and auxiliary losses by name."""
        return DialogueOutput(self.classifier(self.states(batch)), {})

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
