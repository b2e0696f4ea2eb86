"""MMGCN: a deep graph convolution over like turns and over the modalities of each.

Paper:

    @inproceedings{hu2021mmgcn,
      title     = {MMGCN: Multimodal fusion via deep graph convolution network for emotion recognition in conversation},
      author    = {Hu, Jingwen and Liu, Yuchen and Zhao, Jinming and Jin, Qin},
      booktitle = {Annual Meeting of the Association for Computational Linguistics (ACL)},
      year      = {2021}
    }
"""

from __future__ import annotations

from collections.abc import Mapping

from graphophone.models.dialogue_graph import DialogueGraphClassifier
from graphophone.nn.mmgcn import MMGCNStack
from graphophone.nn.turn_encoder import Encoder, TextNorm


class MMGCN(DialogueGraphClassifier):
    """A deep graph convolution over like turns of a dialogue, and over modalities: MMGCN (Hu et al., 2021).

    A turn may lack modalities; one that lacks all has no node, and gets the same answer as all such turns. A vector for
    the speaker is added to the nodes of text, or of the first modality where text is not read.

    Of 1024 numbers of text, 1582 of audio and 342 of video to 6 classes it has 2,501,306 parameters.

    Args:
        in_channels: Modality to the width of its vectors.
        num_classes: C.
        speakers: How many speakers have a vector, in the order of their first turns; later ones share the last. 0:
            none.
        past: Turns before it that edges join to a turn; None: all.
        future: Turns after it that they join to a turn; None: all. Otherwise recurrent layers run forwards alone; with
            0 no answer changes with what comes later.
        hidden_channels: Width of the encoded turns and of the states that the graph is made from; even where a
            recurrent layer runs in both directions.
        graph_channels: Width in the graph layers.
        encoder: Of text along the dialogue: ``"gru"``, ``"lstm"``, ``"transformer"``, ``"none"``.
        audio_encoder: Of audio.
        video_encoder: Of video.
        encoder_layers: Their layers.
        text_sets: Sets of features that lie side by side in the vectors of text.
        text_norm: How they become one; see `graphophone.nn.turn_encoder.TextSets`. None: vectors are taken as they
            are; of more than one set ``"LN"``.
        num_layers: Graph layers.
        dropout: Everywhere.

    Raises:
        GraphophoneError: If a modality is unknown, or a number too small.
    """

    model_name = "mmgcn"

    def __init__(
        self,
        *,
        in_channels: Mapping[str, int],
        num_classes: int,
        speakers: int = 9,
        past: int | None = None,
        future: int | None = None,
        hidden_channels: int = 200,
        graph_channels: int = 100,
        encoder: Encoder = "lstm",
        audio_encoder: Encoder = "none",
        video_encoder: Encoder = "none",
        encoder_layers: int = 2,
        text_sets: int = 1,
        text_norm: TextNorm | None = None,
        num_layers: int = 64,
        dropout: float = 0.4,
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
            encoder_layers=encoder_layers,
            num_layers=num_layers,
            graph_channels=graph_channels,
        )
        self.assemble(
            self.node_encoder(
                hidden_channels,
                encoders={"text": encoder, "audio": audio_encoder, "video": video_encoder},
                num_layers=encoder_layers,
                dropout=dropout,
                text_sets=text_sets,
                text_norm=text_norm,
            ),
            backbone=MMGCNStack(
                hidden_channels,
                modalities=len(self.in_channels),
                speakers=speakers,
                graph_channels=hidden_channels,
                hidden_channels=graph_channels,
                num_layers=num_layers,
                dropout=dropout,
            ),
            fusion="concat",
            dropout=dropout,
        )
