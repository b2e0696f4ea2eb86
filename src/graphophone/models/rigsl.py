r"""RIGSL: which turns of a dialogue to hear, learned on the edges that there are and on all that there could be.

Paper:

    @inproceedings{xiong2025graph,
      title     = {Multimodal Emotion Recognition in Conversations via Graph Structure Learning},
      author    = {Xiong, Feng and Tu, Geng and Zhang, Yice and Wang, Jun and Chen, Shiwei and Liang, Bin and Yu, Yue
                   and Yang, Min and Xu, Ruifeng},
      booktitle = {IEEE International Conference on Multimedia and Expo (ICME)},
      year      = {2025}
    }

A node is a turn in one modality. Turns are read in the context of the dialogue and in that of their speaker. Then two
branches run beside each other: a graph network on the fully connected dialogue whose edges have learned gates, and
attention over all nodes (NodeFormer, Wu et al., 2022), which finds edges that nobody drew. A gated sum fuses both.

The preset ``"published"`` computes what the released code computes, ``"clean"`` what it seems to mean: gates are
drawn in training, answer by their mean, and those of all layers are counted, degrees are those of incoming edges,
heads share the width, attention is exact instead of estimated from a few random features, and losses do not grow with
the batch. In both, padding reaches nothing (the released code reads it backwards), attention of ``gat`` is normalised
over incoming edges, weights of hyperedges belong to their kind instead of a place in the batch, and no global random
state is set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from graphophone.models.base import ModelError
from graphophone.models.dialogue_graph import DialogueGraphClassifier
from graphophone.nn.backbone import Backbone
from graphophone.nn.dialogue_hypergraph import Weighting
from graphophone.nn.gated_convolution import Degree, GatedStack
from graphophone.nn.gated_fusion import Combine
from graphophone.nn.latent_attention import Kernel, LatentGraphStack
from graphophone.nn.m3net import M3NetStack
from graphophone.nn.mmgcn import MMGCNStack
from graphophone.nn.turn_encoder import Encoder, TextNorm

Graph = Literal["m3net", "mmgcn", "gat", "gcn", "none"]

_PRESETS: dict[str, dict[str, Any]] = {
    "clean": {
        "residual": True,
        "full_width": False,
        "kernel": "exact",
        "temperature": 1.5,
        "gate_noise": True,
        "gate_answer": "mean",
        "degree": "in",
        "penalties": "sum",
        "hyperedge_weights": "none",
        "speaker_nodes": "all",
        "link": "mean",
    },
    "published": {
        "residual": False,
        "full_width": True,
        "kernel": "favor",
        "temperature": 2.0,
        "gate_noise": False,
        "gate_answer": "point",
        "degree": "out",
        "penalties": "last",
        "hyperedge_weights": "denominator",
        "speaker_nodes": "text",
        "link": "sum",
    },
}

_PUBLISHED_WITH: dict[str, dict[str, Any]] = {
    # Only in m3net does the released code leave gates without noise and at their default temperature.
    "gat": {"temperature": 1.5, "gate_noise": True},
    "gcn": {"temperature": 1.5, "gate_noise": True},
    # Its classifier has no other width.
    "mmgcn": {"residual": True},
}
"""What the preset ``published`` is with other graph networks than m3net."""


class RIGSL(DialogueGraphClassifier):
    """A gated graph of the turns of a dialogue, and a latent one beside it: RIGSL (Xiong et al., 2025).

    Numbers that are not given start from those published for IEMOCAP. Options that are None become what the preset
    says. A turn may lack modalities; one that lacks all has no node, and gets the same answer as all such turns.

    Of 1024 numbers of text, 1582 of audio and 342 of video to 6 classes it has 17,062,958 parameters.

    Args:
        in_channels: Modality to the width of its vectors.
        num_classes: C.
        preset: ``"clean"``, or ``"published"``, which computes what the released code does.
        speakers: Vectors of speakers in ``m3net`` and ``mmgcn``, in the order of their first turns; later speakers
            share the last. 0: none.
        past: Turns before it that edges and latent attention join to a turn; None: all.
        future: Turns after it that they join to a turn; None: all. Otherwise recurrent layers run forwards alone; with
            0 no answer changes with what comes later.
        hidden_channels: d, even where a recurrent layer runs in both directions.
        encoder: Of text along the dialogue: ``"gru"``, ``"lstm"``, ``"transformer"``, ``"none"``.
        audio_encoder: Of audio.
        video_encoder: Of video.
        encoder_layers: Their layers, and those of the encoder of speakers.
        party: Whether there is an encoder of the turns of each speaker.
        text_sets: Sets of features that lie side by side in the vectors of text.
        text_norm: How they become one; see `graphophone.nn.turn_encoder.TextSets`. None: vectors are taken as they
            are; of more than one set ``"LN"``.
        backbone: ``"m3net"``, ``"mmgcn"`` (which has no gates), ``"gat"``, ``"gcn"``, or ``"none"``.
        gates: Whether its edges have gates.
        num_layers: Its layers (of m3net the multi-frequency ones); None: 4, of mmgcn 64.
        graph_dropout: In it; None: 0.4, in m3net 0.
        graph_residual: Whether layers of gat and gcn add what went into them.
        latent: Whether there is the latent graph.
        latent_layers: Its layers.
        heads: Of its attention; d need not be a multiple.
        full_width: Whether each head is as wide as all (clean: no, published: yes).
        kernel: ``"exact"``, or ``"favor"``: estimated from random features (clean: exact, published: favor).
        features: How many random features.
        redraw_every: Steps of training after which they are drawn anew; 0: never.
        tau: Temperature of its attention.
        gumbel: Whether training adds Gumbel noise to it.
        gumbel_k: How many draws of noise are averaged.
        latent_dropout: After its layers.
        latent_residual: Whether its layers add what went into them.
        jk: Whether its result is made of the states of all layers, and not of the last alone.
        temperature: Of gates (clean: 1.5, published: 2 in m3net, else 1.5).
        gamma: Lower end of the stretched gate.
        zeta: Upper end.
        gate_noise: Whether gates are drawn in training (clean: yes, published: not in m3net).
        gate_answer: What a drawn gate becomes in evaluation, its ``"mean"`` or the ``"point"`` of the sigmoid without
            noise (clean: mean, published: point).
        degree: What counts as degree in m3net and gcn: ``"in"``, ``"out"``, ``"soft"`` (clean: in, published: out).
        penalties: Penalty of m3net: ``"sum"`` of the layers' or that of the ``"last"`` (clean: sum, published: last).
        hyperedge_weights: ``"none"``, ``"denominator"``, ``"standard"`` (clean: none, published: denominator).
        speaker_nodes: Whether vectors of speakers are added to nodes of ``"text"`` or of ``"all"`` modalities (clean:
            all, published: text; where text is not read, of the first).
        residual: Whether the nodes themselves are fused with what the graphs make of them (clean: yes, published: as
            for IEMOCAP, no, but with mmgcn).
        fusion: ``"gated"`` or ``"concat"``; None: gated, and concat with mmgcn.
        link: Whether the loss on initial edges is the ``"mean"`` or the ``"sum"`` over dialogues (clean: mean,
            published: sum).
        dropout: Of encoders, and before the classifier.

    Raises:
        GraphophoneError: If an option is unknown, or options do not fit each other.
    """

    model_name = "rigsl"

    def __init__(
        self,
        *,
        in_channels: Mapping[str, int],
        num_classes: int,
        preset: Literal["clean", "published"] = "clean",
        speakers: int = 9,
        past: int | None = None,
        future: int | None = None,
        hidden_channels: int = 512,
        encoder: Encoder = "gru",
        audio_encoder: Encoder = "none",
        video_encoder: Encoder = "none",
        encoder_layers: int = 2,
        party: bool = True,
        text_sets: int = 1,
        text_norm: TextNorm | None = None,
        backbone: Graph = "m3net",
        gates: bool = True,
        num_layers: int | None = None,
        graph_dropout: float | None = None,
        graph_residual: bool = True,
        latent: bool = True,
        latent_layers: int = 2,
        heads: int = 6,
        full_width: bool | None = None,
        kernel: Kernel | None = None,
        features: int = 32,
        redraw_every: int = 0,
        tau: float = 0.2,
        gumbel: bool = True,
        gumbel_k: int = 64,
        latent_dropout: float = 0.4,
        latent_residual: bool = True,
        jk: bool = False,
        temperature: float | None = None,
        gamma: float = -0.95,
        zeta: float = 1.05,
        gate_noise: bool | None = None,
        gate_answer: Literal["point", "mean"] | None = None,
        degree: Degree | None = None,
        penalties: Literal["sum", "last"] | None = None,
        hyperedge_weights: Weighting | None = None,
        speaker_nodes: Literal["text", "all"] | None = None,
        residual: bool | None = None,
        fusion: Combine | None = None,
        link: Literal["mean", "sum"] | None = None,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        for name, value, known in (
            ("preset", preset, tuple(_PRESETS)),
            ("backbone", backbone, get_args(Graph)),
            ("text_norm", text_norm, get_args(TextNorm)),
            ("kernel", kernel, get_args(Kernel)),
            ("gate_answer", gate_answer, ("point", "mean")),
            ("degree", degree, get_args(Degree)),
            ("penalties", penalties, ("sum", "last")),
            ("hyperedge_weights", hyperedge_weights, get_args(Weighting)),
            ("speaker_nodes", speaker_nodes, ("text", "all")),
            ("fusion", fusion, get_args(Combine)),
            ("link", link, ("mean", "sum")),
        ):
            if value is not None and value not in known:
                raise ModelError(f"rigsl has no {name} {value!r}; choose {', '.join(known)}")
        given = {
            "residual": residual,
            "full_width": full_width,
            "kernel": kernel,
            "temperature": temperature,
            "gate_noise": gate_noise,
            "gate_answer": gate_answer,
            "degree": degree,
            "penalties": penalties,
            "hyperedge_weights": hyperedge_weights,
            "speaker_nodes": speaker_nodes,
            "link": link,
        }
        other = _PUBLISHED_WITH.get(backbone, {}) if preset == "published" else {}
        chosen = {**_PRESETS[preset], **other, **{key: value for key, value in given.items() if value is not None}}
        depth = num_layers if num_layers is not None else 64 if backbone == "mmgcn" else 4
        self.read_in(
            in_channels,
            num_classes,
            past=past,
            future=future,
            speakers=speakers,
            rates={"dropout": dropout, "graph_dropout": graph_dropout, "latent_dropout": latent_dropout},
            hidden_channels=hidden_channels,
            encoder_layers=encoder_layers,
            num_layers=depth,
            latent_layers=latent_layers,
            heads=heads,
            features=features,
            gumbel_k=gumbel_k,
        )
        gated = gates and backbone not in ("mmgcn", "none")
        gate: dict[str, Any] = {
            "temperature": chosen["temperature"],
            "gamma": gamma,
            "zeta": zeta,
            "noise": chosen["gate_noise"],
            "answer": chosen["gate_answer"],
        }
        who: dict[str, Any] = {
            "modalities": len(self.in_channels),
            "speakers": speakers,
            "speaker_modality": None if chosen["speaker_nodes"] == "all" else 0,
        }
        graph: Backbone | None = None
        if backbone == "m3net":
            graph = M3NetStack(
                hidden_channels,
                num_layers=depth,
                gated=gated,
                degree=chosen["degree"],
                hyperedge_weights=chosen["hyperedge_weights"],
                penalties=chosen["penalties"],
                dropout=graph_dropout or 0.0,
                **who,
                **gate,
            )
        elif backbone == "mmgcn":
            rate = 0.4 if graph_dropout is None else graph_dropout
            graph = MMGCNStack(hidden_channels, num_layers=depth, dropout=rate, **who)
        elif backbone != "none":
            graph = GatedStack(
                hidden_channels,
                kind=backbone,
                num_layers=depth,
                residual=graph_residual,
                dropout=0.4 if graph_dropout is None else graph_dropout,
                gated=gated,
                degree=chosen["degree"],
                **gate,
            )
        self.assemble(
            self.node_encoder(
                hidden_channels,
                encoders={"text": encoder, "audio": audio_encoder, "video": video_encoder},
                num_layers=encoder_layers,
                dropout=dropout,
                text_sets=text_sets,
                text_norm=text_norm,
                party=party,
            ),
            backbone=graph,
            gated=gated,
            latent=LatentGraphStack(
                hidden_channels,
                num_layers=latent_layers,
                heads=heads,
                full_width=chosen["full_width"],
                kernel=chosen["kernel"],
                features=features,
                tau=tau,
                gumbel=gumbel,
                gumbel_k=gumbel_k,
                redraw_every=redraw_every,
                dropout=latent_dropout,
                residual=latent_residual,
                jk=jk,
            )
            if latent
            else None,
            residual=chosen["residual"],
            fusion=fusion or ("concat" if backbone == "mmgcn" else "gated"),
            dropout=dropout,
            link=chosen["link"],
        )
