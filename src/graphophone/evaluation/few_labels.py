"""Published figures of learning from few labels, as data.

Shirian, Somandepalli and Guha (2022), "Self-supervised graphs for audio representation learning with limited labeled
data", IEEE Journal of Selected Topics in Signal Processing 16(6): Tables I (33 classes of AudioSet), II (IEMOCAP,
MSP-IMPROV), III (citation graphs) and IV (noise), and what its text and captions say of the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphophone.evaluation.publication import Published

SSL_PAPER = "Shirian et al. (2022)"

SSL_DEFAULTS = {"tasks": "none", "sampling": "subgraphs", "backbone": "gcn"}
"""The published model among its variants, without a self-supervised task."""

TASK_WORDS = {
    "none": "no task",
    "denoise": "denoise",
    "completion": "completion",
    "shuffle": "shuffle",
    "all": "all three tasks",
}
"""The published choices of self-supervised tasks, as people say them."""

_FEW, _ALL = 0.1, 1.0  # shares of the training labels
_DIVISION = (0.8, 0.1, 0.1)  # training, validation and test items, drawn from all
_WITHIN = "Its distance to AST with as few labels (0.22) is within the spread of the two."


def _ours(tasks: str, labelled: float, parameters: int) -> dict[str, Any]:
    return {
        "system": f"SubgraphSSL, {TASK_WORDS[tasks]}{', all labels' if labelled == _ALL else ''}",
        "model": "subgraph_ssl",
        "variant": {**SSL_DEFAULTS, "tasks": tasks},
        "labelled": labelled,
        "parameters": parameters,
    }


def _audioset33(value: float, spread: float, **more: Any) -> Published:
    return Published(
        source=f"{SSL_PAPER}, Table I",
        corpus="audioset",
        items=89_000,
        classes=33,
        protocol="a random 80:10:10 split, drawn five times",
        division=_DIVISION,
        mixes_speakers=None,
        map=value,
        spread=spread,
        validation=True,
        **more,
    )


_SPEECH = {"iemocap": 4490, "msp_improv": 7798}


def _emotion(corpus: str, ua: float, spread: float | None = None, **more: Any) -> Published:
    return Published(
        **{
            "source": f"{SSL_PAPER}, Table II",
            "corpus": corpus,
            "items": _SPEECH[corpus],
            "classes": 4,
            "protocol": "a random 80:10:10 split, drawn five times",
            "division": _DIVISION,
            "mixes_speakers": True,
            "ua": ua,
            "spread": spread,
            "validation": True,
            **more,
        }
    )


def _elsewhere(system: str, ua: float, labelled: float | None, corpus: str = "iemocap", **more: Any) -> Published:
    """A row of Table II that is not of its authors."""
    unsaid = {
        "protocol": "a division of its own",
        "division": None,
        "mixes_speakers": None,
        "pretraining": None,
        "quoted": True,
    }
    return _emotion(corpus, ua, **{**unsaid, "system": system, "labelled": labelled, **more})


CITATION_TASKS = ("none", "denoise", "completion", "shuffle")
"""Self-supervised tasks of Table III, alone and none."""

CITATION_ACCURACIES: dict[tuple[str, str, str], tuple[float, float]] = {
    (graph, network, task): (mean, spread)
    for network, rows in {
        "gcn": {
            "Cora": ((80.9, 0.6), (81.1, 0.8), (81.6, 0.8), (81.6, 0.6)),
            "CiteSeer": ((70.7, 0.6), (71.1, 0.8), (71.6, 0.6), (70.1, 1.1)),
            "PubMed": ((79.1, 0.5), (78.4, 0.8), (79.2, 0.7), (78.4, 0.6)),
        },
        "gat": {
            "Cora": ((83.1, 0.5), (84.2, 1.0), (84.2, 0.4), (83.2, 0.9)),
            "CiteSeer": ((72.1, 0.6), (73.1, 0.5), (72.8, 1.1), (72.6, 0.7)),
            "PubMed": ((77.5, 0.4), (78.2, 0.5), (78.0, 0.5), (77.7, 0.4)),
        },
        "gin": {
            "Cora": ((77.2, 0.5), (78.9, 0.8), (78.8, 0.6), (78.6, 1.1)),
            "CiteSeer": ((68.1, 0.7), (69.1, 1.4), (69.8, 1.2), (69.3, 0.8)),
            "PubMed": ((77.0, 0.4), (77.2, 0.3), (77.7, 0.3), (77.3, 0.4)),
        },
        "graphmix": {
            "Cora": ((83.8, 0.8), (84.4, 0.7), (84.4, 0.7), (84.2, 0.4)),
            "CiteSeer": ((74.3, 0.7), (75.2, 0.5), (74.3, 0.7), (74.4, 0.6)),
            "PubMed": ((80.6, 0.6), (81.4, 0.4), (81.2, 0.3), (81.9, 0.3)),
        },
    }.items()
    for graph, cells in rows.items()
    for task, (mean, spread) in zip(CITATION_TASKS, cells, strict=True)
}
"""Table III: accuracy in percent and its standard deviation, by citation graph, network and task."""

_GRAPHS = {"Cora": (2708, 7), "CiteSeer": (3327, 6), "PubMed": (19717, 3)}  # papers and classes
_NETWORKS = {"gcn": "GCN", "gat": "GAT", "gin": "GIN", "graphmix": "GraphMix"}


def _citation(graph: str, network: str, tasks: str) -> Published:
    mean, spread = CITATION_ACCURACIES[graph, network, tasks]
    items, classes = _GRAPHS[graph]
    return Published(
        system=f"{_NETWORKS[network]}, {TASK_WORDS[tasks]}",
        source=f"{SSL_PAPER}, Table III",
        corpus=graph.lower(),
        items=items,
        classes=classes,
        protocol="the usual public split (it does not name one)",
        mixes_speakers=None,
        wa=mean,
        spread=spread,
        model="subgraph_ssl",
        variant={"tasks": tasks, "backbone": network},
        validation=True,
    )


FEW_LABELS: tuple[Published, ...] = (
    # Table I, AudioSet.
    _audioset33(0.23, 0.01, note=_WITHIN, **_ours("none", _FEW, 218_000)),
    _audioset33(0.26, 0.00, **_ours("denoise", _FEW, 260_000)),
    _audioset33(0.27, 0.01, **_ours("completion", _FEW, 260_000)),
    _audioset33(0.24, 0.00, **_ours("shuffle", _FEW, 219_000)),
    _audioset33(0.28, 0.02, **_ours("all", _FEW, 261_000)),
    _audioset33(0.16, 0.05, system="Spectrogram-VGG", labelled=_FEW, parameters=6_000_000),
    _audioset33(0.22, 0.01, system="AST", model="ast", labelled=_FEW, parameters=88_000_000, pretraining=None),
    _audioset33(0.42, 0.02, **_ours("none", _ALL, 218_000)),
    _audioset33(0.26, 0.01, system="Spectrogram-VGG", parameters=6_000_000),
    _audioset33(0.25, 0.07, system="DaiNet", parameters=1_800_000),
    _audioset33(0.43, 0.04, system="Wave-Logmel", parameters=81_000_000),
    _audioset33(0.39, 0.02, system="VATT", parameters=87_000_000, pretraining=None),
    _audioset33(0.44, 0.00, system="AST", model="ast", parameters=88_000_000, pretraining=None),
    # Table II, IEMOCAP and MSP-IMPROV.
    _emotion("iemocap", 63.8, 2.2, **_ours("none", _FEW, 212_000)),
    _emotion("iemocap", 68.0, 1.1, **_ours("denoise", _FEW, 271_000)),
    _emotion("iemocap", 66.4, 1.7, **_ours("completion", _FEW, 271_000)),
    _emotion("iemocap", 65.9, 1.4, **_ours("shuffle", _FEW, 213_000)),
    _emotion("iemocap", 68.6, 1.2, **_ours("all", _FEW, 272_000)),
    _emotion("msp_improv", 58.6, 1.8, **_ours("none", _FEW, 212_000)),
    _emotion("msp_improv", 64.1, 1.0, **_ours("denoise", _FEW, 271_000)),
    _emotion("msp_improv", 63.8, 1.5, **_ours("completion", _FEW, 271_000)),
    _emotion("msp_improv", 64.1, 1.3, **_ours("shuffle", _FEW, 213_000)),
    _emotion("msp_improv", 65.2, 1.8, **_ours("all", _FEW, 272_000)),
    _elsewhere("LadderNet", 60.7, None),
    _elsewhere("Transformer", 61.2, None, note="It also sees the face."),
    _elsewhere("SimCLR", 65.1, None, parameters=30_000_000),
    _elsewhere("SSAST", 59.6, None, parameters=89_000_000, pretraining="AudioSet and LibriSpeech"),
    _elsewhere("BYOL-S/CvT", 65.1, None, parameters=5_000_000, pretraining="AudioSet"),
    _elsewhere("wav2vec 2.0", 65.6, None, parameters=317_000_000, pretraining="other speech"),
    _elsewhere("HuBERT", 67.6, None, parameters=316_000_000, pretraining="other speech"),
    _emotion("iemocap", 70.5, **_ours("none", _ALL, 212_000)),
    _emotion("msp_improv", 66.7, **_ours("none", _ALL, 212_000)),
    _elsewhere("SegCNN", 64.5, _ALL),
    _elsewhere("GA-GRU", 63.8, _ALL),
    _elsewhere("GA-GRU", 55.4, _ALL, "msp_improv"),
    _elsewhere("CNNattn", 66.7, _ALL),
    _elsewhere("WADAN", 64.5, _ALL),
    _elsewhere("SpeechGCN", 62.3, _ALL, parameters=30_000),
    _elsewhere("SpeechGCN", 57.8, _ALL, "msp_improv", parameters=30_000),
    # Table III, citation graphs.
    *(_citation(*cell) for cell in CITATION_ACCURACIES),
    # The text on subgraphs.
    _emotion(
        "iemocap", 49.44, system="SubgraphSSL, one large graph", source=f"{SSL_PAPER}, text on the size of subgraphs",
        model="subgraph_ssl", variant={**SSL_DEFAULTS, "sampling": "whole"}, labelled=_FEW, ablation=True,
    ),
)  # fmt: skip

NOISE_DROPS: dict[str, dict[str, float]] = {
    "none": {"babble": 2.8, "factory": 1.6, "white": 3.1, "pink": 2.0, "cockpit": 1.1},
    "denoise": {"babble": 0.5, "factory": 1.2, "white": 0.5, "pink": 0.9, "cockpit": 0.8},
    "completion": {"babble": 0.7, "factory": 1.1, "white": 0.8, "pink": 1.3, "cockpit": 1.6},
    "shuffle": {"babble": 0.8, "factory": 0.8, "white": 1.0, "pink": 1.5, "cockpit": 0.9},
}
"""Table IV: points of accuracy lost to noise on test recordings, on IEMOCAP, by task and noise; the signal-to-noise
ratio is not stated."""


@dataclass(frozen=True)
class Quoted:
    """What the paper says of a figure that it prints without its numbers.

    Attributes:
        corpora: Corpora in the registry that it is, or may be, of.
        keys: Settings of a recipe that the figure varies; none where it is of one model.
        words: What it says, as a sentence.
    """

    corpora: tuple[str, ...]
    keys: tuple[str, ...]
    words: str


QUOTED: tuple[Quoted, ...] = (
    Quoted(
        ("audioset",),
        (),
        f"Of the single classes the text gives one: church bell, average precision 0.843 with 627 clips (completion; "
        f"{SSL_PAPER}, Fig. 2).",
    ),
    Quoted(
        ("iemocap", "msp_improv"),
        (),
        f"For speech the paper gives a silhouette of 0.147, and of 0.013 for the states of SSAST ({SSL_PAPER}, Fig. 3, "
        "which names neither corpus nor items).",
    ),
    Quoted(
        ("iemocap",),
        ("model.num_layers",),
        f"In the paper the mean average distance falls with depth, and falls less with the tasks ({SSL_PAPER}, Fig. 4, "
        "IEMOCAP).",
    ),
    Quoted(
        ("iemocap",),
        ("task.per_class", "task.unlabelled"),
        f"In the paper accuracy grows with the subgraph up to about 50 nodes and falls beyond ({SSL_PAPER}, Fig. 5a, "
        "IEMOCAP).",
    ),
    Quoted(
        ("iemocap",),
        ("model.fraction",),
        f"In the paper accuracy falls where more than 10 % of the nodes are spoilt ({SSL_PAPER}, Fig. 5b, IEMOCAP).",
    ),
    Quoted(
        ("iemocap",),
        ("protocol.labelled",),
        f"In the paper every task helps at 2, 5 and 10 % of the labels, and denoise the most ({SSL_PAPER}, Fig. 6, "
        "IEMOCAP).",
    ),
)
