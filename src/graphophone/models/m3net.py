"""M3NET: what the turns of a dialogue have in common and what sets them apart.

Paper:

    @inproceedings{chen2023m3net,
      title     = {Multivariate, multi-frequency and multimodal: Rethinking graph neural networks for emotion
                   recognition in conversation},
      author    = {Chen, Feiyu and Shao, Jie and Zhu, Shuyuan and Shen, Heng Tao},
      booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
      year      = {2023}
    }
"""

from __future__ import annotations

from collections.abc import Mapping

from graphophone.models.dialogue_graph import DialogueGraphClassifier
from graphophone.nn.dialogue_hypergraph import Weighting
from graphophone.nn.m3net import M3NetStack
from graphophone.nn.turn_encoder import Encoder, TextNorm


class M3NET(DialogueGraphClassifier):
    """Hypergraph and frequencies of the turns of a dialogue, beside each other: M3NET (Chen et al., 2023).

    Numbers that are not given are those of IEMOCAP; for MELD there are 3 layers and a dropout of 0.4. A turn may lack
    modalities; one that lacks all has no node, and gets the same answer as all such turns. As published, a vector for
    the speaker is added to the nodes of text alone, and it is the first modality where text is not read.

    Of 1024 numbers of text, 1582 of audio and 342 of video to 6 classes it has 4,167,690 parameters.

    Args:
        in_channels: Modality to the width of its vectors.
        num_classes: C.
        speakers: How many speakers have a vector, in the order of their first turns; later ones share the last. 0:
            none.
        past: Turns before it that edges join to a turn; None: all.
        future: Turns after it that they join to a turn; None: all. Otherwise recurrent layers run forwards alone; with
            0 no answer changes with what comes later.
        hidden_channels: d, even where a recurrent layer runs in both directions.
        encoder: Of text along the dialogue: ``"gru"``, ``"lstm"``, ``"transformer"``, ``"none"``.
        audio_encoder: Of audio.
        video_encoder: Of video.
        encoder_layers: Their layers.
        text_sets: Sets of features that lie side by side in the vectors of text.
        text_norm: How they become one; see `graphophone.nn.turn_encoder.TextSets`. None: vectors are taken as they
            are; of more than one set ``"BN"``, as published.
        num_layers: Multi-frequency layers.
        hyper_layers: Hypergraph layers.
        hyperedge_weights: See `graphophone.nn.m3net.M3NetStack`.
        residual: Whether the nodes themselves are put beside what the graphs make of them.
        dropout: Of encoders, and before the classifier.

    Raises:
        GraphophoneError: If a modality is unknown, or a number too small.
    """

    model_name = "m3net"

    def __init__(
        self,
        *,
        in_channels: Mapping[str, int],
        num_classes: int,
        speakers: int = 9,
        past: int | None = None,
        future: int | None = None,
        hidden_channels: int = 512,
        encoder: Encoder = "gru",
        audio_encoder: Encoder = "none",
        video_encoder: Encoder = "none",
        encoder_layers: int = 2,
        text_sets: int = 1,
        text_norm: TextNorm | None = None,
        num_layers: int = 4,
        hyper_layers: int = 3,
        hyperedge_weights: Weighting = "none",
        residual: bool = False,
        dropout: float = 0.5,
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
            hyper_layers=hyper_layers,
        )
        self.assemble(
            self.node_encoder(
                hidden_channels,
                encoders={"text": encoder, "audio": audio_encoder, "video": video_encoder},
                num_layers=encoder_layers,
                dropout=dropout,
                text_sets=text_sets,
                text_norm=text_norm,
                norm_of_sets="BN",
            ),
            backbone=M3NetStack(
                hidden_channels,
                modalities=len(self.in_channels),
                speakers=speakers,
                num_layers=num_layers,
                hyper_layers=hyper_layers,
                combine="concat",
                gated=False,
                transform=False,
                hyperedge_weights=hyperedge_weights,
            ),
            residual=residual,
            fusion="concat",
            dropout=dropout,
        )
