"""What networks of dialogues with a graph share: nodes, a graph network, a latent graph, and how they are fused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from graphophone.models.base import ModelError, evaluating
from graphophone.models.dialogue import DialogueClassifier, DialogueOutput
from graphophone.nn.backbone import Backbone
from graphophone.nn.dialogue import DialogueBatch, DialogueGraph, EdgeTables
from graphophone.nn.gated_fusion import Combine, GatedSum
from graphophone.nn.latent_attention import LatentGraphStack
from graphophone.nn.node_encoder import NodeEncoder
from graphophone.nn.turn_encoder import Encoder, TextNorm


class Fused(NamedTuple):
    """What becomes of some dialogues before they are classified.

    Attributes:
        states: A vector per turn ``[B, T, dims]``: its modalities side by side.
        losses: See `DialogueOutput`; empty where they are not asked for.
        relations: See `DialogueClassifier.relations`; empty where they are not asked for.
    """

    states: Tensor
    losses: Mapping[str, Tensor]
    relations: dict[str, EdgeTables | Tensor]


class DialogueGraphClassifier(DialogueClassifier):
    """Nodes of turns, a graph network and a latent graph beside each other, a fusion, and a linear layer.

    A turn that has no modality at all has no node: what is said of it is the same for all such turns.

    Subclasses call `read_in` and `assemble` in their constructor.

    Attributes:
        nodes: From turns to nodes.
        backbone: The graph network; None: there is none.
        latent: The latent graph; None: there is none.
        fusion: Of nodes, graph network and latent graph, of what there is.
    """

    nodes: NodeEncoder
    backbone: Backbone | None
    latent: LatentGraphStack | None
    fusion: GatedSum

    def node_encoder(
        self,
        channels: int,
        *,
        encoders: Mapping[str, Encoder],
        num_layers: int,
        dropout: float,
        text_sets: int,
        text_norm: TextNorm | None,
        party: bool = False,
        norm_of_sets: TextNorm = "LN",
    ) -> NodeEncoder:
        """From turns to nodes, of the modalities that are read; see `graphophone.nn.node_encoder.NodeEncoder`.

        Args:
            channels: Width of the nodes.
            encoders: Modality to its encoder, of all that there can be.
            num_layers: Layers of encoders.
            dropout: Between them.
            text_sets: Sets of features in the vectors of text.
            text_norm: How they become one; None: ``norm_of_sets`` where there are several.
            party: Whether there is an encoder of the turns of each speaker.
            norm_of_sets: See ``text_norm``.

        Raises:
            ModelError: If there is no such encoder.
        """
        for name, encoder in encoders.items():
            if encoder not in get_args(Encoder):
                raise ModelError(f"{name} has no encoder {encoder!r}; choose {', '.join(get_args(Encoder))}")
        return NodeEncoder(
            self.in_channels,
            channels,
            encoders={name: encoders[name] for name in self.in_channels},
            num_layers=num_layers,
            dropout=dropout,
            bidirectional=self.future is None,
            party=party,
            text_sets=text_sets,
            text_norm=text_norm or (norm_of_sets if text_sets > 1 else None),
        )

    def assemble(
        self,
        nodes: NodeEncoder,
        *,
        backbone: Backbone | None = None,
        gated: bool = False,
        latent: LatentGraphStack | None = None,
        residual: bool = False,
        fusion: Combine = "gated",
        dropout: float = 0.0,
        link: Literal["mean", "sum"] = "mean",
    ) -> None:
        """Put the parts together.

        Args:
            nodes: From turns to nodes.
            backbone: The graph network.
            gated: Whether it has gates, and so a penalty.
            latent: The latent graph.
            residual: Whether the nodes themselves are fused with what the graphs make of them; they are where there is
                no graph.
            fusion: See `graphophone.nn.gated_fusion.GatedSum`.
            dropout: Before the classifier.
            link: Whether the loss on initial edges is the mean or the sum over dialogues.

        Raises:
            ModelError: If parts of unlike widths are to be summed.
        """
        self.nodes, self.backbone, self.latent = nodes, backbone, latent
        self.residual = residual or (backbone is None and latent is None)
        self.link = link
        self.loss_names = (*(("penalty",) if gated else ()), *(("link",) if latent is not None else ()))
        widths = [nodes.out_channels] if self.residual else []
        widths += [part.out_channels for part in (backbone, latent) if part is not None]
        if fusion == "gated" and set(widths) != {nodes.out_channels}:
            raise ModelError(f"parts of {widths} channels have no sum: choose fusion concat")
        self.fusion = GatedSum(nodes.out_channels, len(widths), combine=fusion)
        out = nodes.out_channels if fusion == "gated" else sum(widths)
        last = nn.Linear(out * len(self.in_channels), self.num_classes)
        nn.init.xavier_uniform_(last.weight)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.ReLU(), last)

    def fused(self, batch: DialogueBatch, *, losses: bool = False, relations: bool = False) -> Fused:
        """What becomes of the dialogues before they are classified.

        Args:
            batch: The dialogues.
            losses: Whether the auxiliary losses are asked for.
            relations: Whether to give what turns hear of each other.
        """
        x = self.nodes(self.checked(batch))
        graph = DialogueGraph(batch.present, batch.speaker, self.past, self.future)
        parts = [x] if self.residual else []
        learned: dict[str, Tensor] = {}
        shown: dict[str, EdgeTables | Tensor] = {}
        if self.backbone is not None:
            heard = self.backbone(x, graph, weights=relations)
            parts.append(heard.x)
            if "penalty" in self.loss_names:
                learned["penalty"] = heard.penalty
            if heard.edges is not None:
                shown["graph"] = heard.edges
        if self.latent is not None:
            latent = self.latent(x, graph, link=losses, attention=relations)
            parts.append(latent.x)
            total = latent.link.sum()
            learned["link"] = total if self.link == "sum" else total / batch.mask.any(dim=1).sum().clamp(min=1)
            if latent.attention is not None:
                shown["latent"] = latent.attention
        fused = graph.spread(self.fusion(*(graph.gathered(part) for part in parts)))
        return Fused(fused.transpose(1, 2).flatten(2), learned if losses else {}, shown)

    def forward(self, batch: DialogueBatch) -> DialogueOutput:
        """Class scores (logits) of every turn, and auxiliary losses by name."""
        fused = self.fused(batch, losses=True)
        return DialogueOutput(self.classifier(fused.states), fused.losses)

    def states(self, batch: DialogueBatch) -> Tensor:
        """A vector per turn before the classifier ``[B, T, dims]``."""
        return self.fused(batch).states

    @torch.no_grad()
    def relations(self, batch: DialogueBatch) -> dict[str, EdgeTables | Tensor]:
        """What each turn hears of the others, in evaluation: see the class above."""
        with evaluating(self):
            return self.fused(batch, relations=True).relations
