"""Published figures of recognising emotion from what is said and how, as data.

Nguyen and others (2026), "HemoGAT", Advances in Electrical and Electronic Engineering 24(2): Tables 2 and 3 (IEMOCAP
and MELD beside other systems), 4 (modalities and parts), 5 (graph layers, with parameters and multiplications) and 6
(number of layers). Simple systems on CMU-MOSI and MELD were measured on the files that this package reads.
"""

from __future__ import annotations

from typing import Any

from graphophone.evaluation.publication import Published

HEMOGAT_PAPER = "Nguyen et al. (2026)"

HEMOGAT_DEFAULTS = {"modality": "both", "hm_gat": True, "cmt": True, "gnn": "gat", "num_layers": 3}
"""The published model among its variants."""

_DATA: dict[str, dict[str, Any]] = {
    "iemocap": {
        "items": 5509,
        "classes": 4,
        "train": 4407,
        "protocol": "one random split of 4,407, 551 and 551 utterances, where every speaker and dialogue of the test "
        "part is in training, too, and 107 of its transcripts word for word",
        "mixes_speakers": True,
        "division": (0.8, 0.1, 0.1),
    },
    "meld": {
        "items": 13_706,
        "classes": 7,
        "train": 9988,
        "protocol": "the official split (328 of 2,610 test transcripts are in training word for word)",
        "mixes_speakers": None,
    },
    "mosi": {"items": 2199, "classes": 2, "protocol": "the published split", "mixes_speakers": None},
}

_SPREADS = {"iemocap": {"wa": 0.37, "weighted_f1": 0.39}, "meld": {"wa": 0.62, "weighted_f1": 0.66}}
_ODD = (
    "The table's weighted recall (81.71 and 62.90 %) is not its accuracy, which it is by definition, and its intervals "
    "are 1.3 to 2.6 times the standard deviation, where five seeds give 1.24."
)
_K = {"iemocap": "5 neighbours by text and 4 by audio", "meld": "2 neighbours by text and 8 by audio"}


def _result(corpus: str, system: str, table: str, wa: float | None, f1: float | None, **more: Any) -> Published:
    return Published(
        **{
            "system": system,
            "source": f"{HEMOGAT_PAPER}, Table {table}",
            "corpus": corpus,
            **_DATA[corpus],
            "wa": wa,
            "weighted_f1": f1,
            "validation": True,
            **more,
        }
    )


def _hemogat(corpus: str, table: str, wa: float, f1: float, words: str = "", **more: Any) -> Published:
    variant = {**HEMOGAT_DEFAULTS, **more.pop("variant", {})}
    return _result(
        corpus, f"HemoGAT{f', {words}' if words else ''}", table, wa, f1,
        **{"model": "hemogat", "variant": variant, "chosen_on_test": True, "ablation": bool(words), **more},
    )  # fmt: skip


def _other(corpus: str, system: str, wa: float, f1: float | None, **more: Any) -> Published:
    """A row of Table 3 that is not of its authors."""
    return _result(
        corpus, system, "3", wa, f1,
        protocol="what its own paper uses, which the table does not say", mixes_speakers=None, division=None,
        train=None, validation=False, quoted=True, pretraining=None, **more,
    )  # fmt: skip


PARTS = {
    "without HM-GAT": {"hm_gat": False},
    "without CMT": {"cmt": False},
    "full": {},
}
"""Rows of Table 4, as options of the model."""

TABLE_4: dict[tuple[str, str, str], tuple[float, float]] = {
    (corpus, part, modality): cell
    for corpus, rows in {
        "iemocap": {
            "without HM-GAT": ((70.60, 70.54), (65.70, 65.74), (77.86, 77.79)),
            "without CMT": ((58.26, 58.28), (53.01, 51.97), (62.81, 60.63)),
            "full": ((76.30, 76.79), (68.52, 68.76), (81.97, 82.18)),
        },
        "meld": {
            "without HM-GAT": ((48.95, 40.33), (62.44, 58.40), (62.09, 59.93)),
            "without CMT": ((49.67, 39.62), (58.14, 53.75), (55.13, 45.47)),
            "full": ((49.90, 40.71), (62.55, 59.49), (63.29, 60.73)),
        },
    }.items()
    for part, cells in rows.items()
    for modality, cell in zip(("audio", "text", "both"), cells, strict=True)
}
"""Accuracy and weighted F1 in percent by corpus, part left out and modality."""

TABLE_5: dict[tuple[str, str], tuple[float, float, float, float]] = {
    ("iemocap", "gcn"): (81.58, 81.57, 201.09e6, 20.68e9),
    ("iemocap", "sage"): (81.30, 81.32, 202.14e6, 21.26e9),
    ("iemocap", "gat"): (81.97, 82.18, 207.40e6, 24.17e9),
    ("meld", "gcn"): (61.82, 58.71, 201.09e6, 31.49e9),
    ("meld", "sage"): (61.69, 58.54, 202.14e6, 34.23e9),
    ("meld", "gat"): (63.29, 60.73, 207.40e6, 47.93e9),
}
"""Accuracy, weighted F1 in percent, parameters with encoders, and "FLOPs": MACs of the encoders for one utterance and
of dense layers for the whole test part, in one sum."""

TABLE_6: dict[tuple[str, int], tuple[float, float]] = {
    ("iemocap", 1): (79.77, 79.74),
    ("iemocap", 2): (80.05, 80.23),
    ("iemocap", 3): (81.97, 82.18),
    ("iemocap", 4): (80.16, 80.20),
    ("meld", 1): (61.40, 58.05),
    ("meld", 2): (61.69, 58.27),
    ("meld", 3): (63.29, 60.73),
    ("meld", 4): (62.04, 59.85),
}
"""Accuracy and weighted F1 in percent by number of layers."""

MODALITY_WORDS = {"both": "audio and text", "audio": "audio", "text": "text"}
GNN_WORDS = {"gat": "GAT", "gcn": "GCN", "sage": "GraphSAGE", "gatv2": "GATv2"}

_LAYERS = "The released code builds the same network for 1 and 2 layers, whose figures differ."


def _parts_row(corpus: str, part: str, modality: str) -> Published:
    wa, f1 = TABLE_4[corpus, part, modality]
    return _hemogat(
        corpus, "4", wa, f1, f"{part}, {MODALITY_WORDS[modality]}", variant={"modality": modality, **PARTS[part]}
    )


def _gnn_row(corpus: str, gnn: str) -> Published:
    wa, f1, parameters, macs = TABLE_5[corpus, gnn]
    note = (
        f"With its encoders it has {parameters / 1e6:.2f} million parameters and takes {macs / 1e9:.2f} billion MACs, "
        "for the encoders of one utterance and dense layers of all test items together."
    )
    return _hemogat(corpus, "5", wa, f1, GNN_WORDS[gnn], variant={"gnn": gnn}, parameters=int(parameters), note=note)


def _layers_row(corpus: str, layers: int) -> Published:
    words = f"{layers} layer{'' if layers == 1 else 's'}"
    note = _LAYERS if layers < 3 else ""
    return _hemogat(corpus, "6", *TABLE_6[corpus, layers], words, variant={"num_layers": layers}, note=note)


def _simple(corpus: str, system: str, wa: float, f1: float | None = None, **more: Any) -> Published:
    return Published(
        **{
            "system": system,
            "source": "reference system",
            "corpus": corpus,
            **_DATA[corpus],
            "protocol": "the published split",
            "wa": wa,
            "weighted_f1": f1,
            "validation": True,
            "kind": "reference",
            **more,
        }
    )


_TUNED = "Its settings were tried on the test part, which flatters it."

TWO_MODALITIES: tuple[Published, ...] = (
    # Tables 2 and 3.
    *(
        _hemogat(corpus, "2", *TABLE_6[corpus, 3], spread=_SPREADS[corpus], note=f"It has {_K[corpus]}. {_ODD}")
        for corpus in ("iemocap", "meld")
    ),
    _other("iemocap", "Santoso et al. (2022)", 76.8, 76.6),
    _other("iemocap", "Zhao et al. (2022)", 80.01, 81.09, video=True),
    _other("iemocap", "Prisayad et al. (2023)", 76.8, 77.3),
    _other("iemocap", "Kyung et al. (2024)", 76.11, 77.16),
    _other("iemocap", "Nguyen et al. (2024)", 77.22, None),
    _other("iemocap", "Ma et al. (2024), emotion2vec", 81.68, 80.75),
    _other("iemocap", "Khan et al. (2025), MemoCMT", 81.33, 81.85),
    _other("iemocap", "Nguyen et al. (2025), Mi-CGA", 81.50, None),
    _other("iemocap", "Qi et al. (2025), MFGCN", 78.2, 78.3),
    _other("meld", "Khan et al. (2025), MemoCMT", 64.18, 62.52),
    _other(
        "meld", "Li et al. (2023), GraphMFT", 61.30, 58.37, video=True,
        note="The text of the paper gives its figures to GraphCFC.",
    ),
    _other("meld", "Lu et al. (2024), bi-stream", 62.76, 59.21, video=True),
    _other("meld", "Li et al. (2024), GraphCFC", 59.96, 57.46),
    # Tables 4 to 6.
    *(_parts_row(*cell) for cell in TABLE_4),
    *(_gnn_row(*cell) for cell in TABLE_5),
    *(_layers_row(*cell) for cell in TABLE_6),
    # Simple systems on the published splits.
    _simple("mosi", "Published vectors of audio + SVM", 54.8, note=_TUNED),
    _simple("mosi", "Published vectors of video + SVM", 52.7, note=_TUNED),
    _simple("mosi", "Published vectors of text + SVM", 74.7, note=_TUNED),
    _simple("mosi", "Published vectors of audio and text + SVM", 73.7, note=_TUNED),
    _simple("mosi", "Published vectors of audio, text and video + SVM", 76.1, video=True, note=_TUNED),
    _simple(
        "mosi", "Published vectors of text + bidirectional GRU over the video", 78.4, spread=0.9, context="video",
    ),
    _simple(
        "mosi", "Published vectors of audio and text + bidirectional GRU over the video", 77.9, spread=0.6,
        context="video",
    ),
    _simple(
        "mosi", "Published vectors of audio, text and video + bidirectional GRU over the video", 78.1, spread=0.9,
        video=True, context="video",
    ),
    _simple(
        "mosi", "bc-LSTM, audio, text and video (Poria et al., 2017)", 80.3, validation=False, kind="published",
        source="Poria et al. (2017)", video=True, context="video",
    ),
    _simple("meld", "MiniLM sentence vectors + logistic regression", 59.7, 56.4, note=_TUNED),
    _simple(
        "meld", "MiniLM sentence vectors + bidirectional GRU over the dialogue", 61.3, 57.5,
        spread={"wa": 0.3, "weighted_f1": 0.4}, context="dialogue",
    ),
)  # fmt: skip
