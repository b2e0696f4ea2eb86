"""Published figures, as data.

Speech emotion: Li, Wang, Yang and Im (2023), "Speech emotion recognition based on Graph-LSTM neural network", Tables 1
to 4, all on IEMOCAP with one random 8:2 split that mixes speakers and no validation set. Sounds: Singh, Benetos, Phan
and Stowell (2025), "LHGNN: Local-Higher Order Graph Neural Networks For Audio Classification and Tagging", Tables I to
V. Few labels: see :mod:`~graphophone.evaluation.few_labels`; text and audio:
:mod:`~graphophone.evaluation.two_modalities`. Simple systems (functionals and a support vector machine)
were measured on the folds that this package uses.
"""

from __future__ import annotations

from typing import Any

from graphophone.evaluation.few_labels import FEW_LABELS
from graphophone.evaluation.publication import SOUND_CORPORA, Published
from graphophone.evaluation.two_modalities import TWO_MODALITIES

__all__ = [
    "EMOTION",
    "GLNN_PAPER",
    "LHGNN_DEFAULTS",
    "LHGNN_PAPER",
    "PUBLISHED",
    "SOUNDS",
    "SOUND_CORPORA",
    "Published",
]

GLNN_PAPER = "Li et al. (2023)"
LHGNN_PAPER = "Singh et al. (2025)"


def _iemocap(system: str, items: int, table: int, ua: float | None, wa: float, **more: Any) -> Published:
    return Published(
        system=system,
        source=f"{GLNN_PAPER}, Table {table}",
        corpus="iemocap",
        items=items,
        classes=4,
        protocol="one random 8:2 split",
        mixes_speakers=True,
        ua=ua,
        wa=wa,
        **more,
    )


def _glnn(items: int, table: int, ua: float, wa: float, *, ablation: bool = True, **more: Any) -> Published:
    variant = {"pooling": "mean", "num_layers": 3, "k": 10, **more.pop("variant", {})}
    parts = [f"{variant['pooling']} pooling"]
    if variant["num_layers"] != 3:
        parts.append(f"{variant['num_layers']} layers")
    if variant["k"] != 10:
        parts.append(f"k = {variant['k']}")
    return _iemocap(
        f"GLNN, {', '.join(parts)}", items, table, ua, wa,
        model="glnn", variant=variant, ablation=ablation, **more,
    )  # fmt: skip


_COPIED = (
    "The paper gives the UA and WA of this row again, in Table 4, as the UA of max and of sum pooling: a "
    "likely copying error."
)

_TUNED = "Where several settings were tried, the best on the test folds, which flatters it."

EMOTION: tuple[Published, ...] = (
    # Table 1, label set of 4490 utterances (anger, happy, neutral, sad).
    _iemocap("DCNN", 4490, 1, None, 64.3),
    _iemocap("ResNet34", 4490, 1, 61.61, 66.02),
    _iemocap("ADAN + SVM", 4490, 1, None, 65.01),
    _iemocap("PATCHY-SAN", 4490, 1, 56.27, 60.34),
    _iemocap("PATCHY-Diff", 4490, 1, 58.71, 63.23),
    _iemocap("Compact SER, cycle", 4490, 1, 62.27, 65.29),
    _glnn(4490, 1, 59.16, 68.15, ablation=False),
    _glnn(4490, 1, 65.39, 71.83, ablation=False, variant={"pooling": "weighted"}),
    # Table 1, label set of 5531 utterances (excited counted as happy).
    _iemocap("LSTM-GIN", 5531, 1, 65.53, 64.65),
    _iemocap("CoGCN", 5531, 1, 63.67, 62.64),
    _iemocap("GA-GRU", 5531, 1, 63.8, 62.27),
    _glnn(5531, 1, 68.65, 68.11, ablation=False),
    # Table 2, layers.
    _glnn(4490, 2, 55.93, 63.81, variant={"num_layers": 2}, parameters=361_000),
    _glnn(4490, 2, 59.16, 68.15, parameters=409_000),
    _glnn(4490, 2, 58.62, 67.82, variant={"num_layers": 4}, parameters=591_000),
    # Table 3, neighbours.
    _glnn(4490, 3, 57.97, 58.55, variant={"k": 5}, note=_COPIED),
    _glnn(4490, 3, 59.16, 68.15),
    _glnn(4490, 3, 59.91, 68.04, variant={"k": 15}),
    # Table 4, poolings.
    _glnn(4490, 4, 57.97, 66.15, variant={"pooling": "max"}),
    _glnn(4490, 4, 58.55, 67.71, variant={"pooling": "sum"}),
    _glnn(4490, 4, 59.16, 68.15),
    _glnn(4490, 4, 61.88, 68.49, variant={"pooling": "topk"}),
    _glnn(4490, 4, 65.39, 71.83, variant={"pooling": "weighted"}),
    # Simple systems on the six RAVDESS folds.
    Published(
        system="eGeMAPSv02 functionals (88) + SVM",
        source="reference system",
        corpus="ravdess",
        items=1440,
        classes=8,
        protocol="six folds of four actors",
        mixes_speakers=False,
        ua=48.6,
        wa=49.5,
        folds=6,
        kind="reference",
        note="The best of ten settings on the test folds, which flatters it.",
    ),
    Published(
        system="ComParE 2016 functionals (6,373) + linear SVM",
        source="reference system",
        corpus="ravdess",
        items=1440,
        classes=8,
        protocol="six folds of four actors",
        mixes_speakers=False,
        ua=59.1,
        wa=59.2,
        folds=6,
        kind="reference",
        note=_TUNED,
    ),
)


LHGNN_DEFAULTS = {"kernel": "both", "cluster": "fcm"}
"""The published model among its ablations."""


def _audioset(system: str, value: float, parameters: float, pretraining: str = "", **more: Any) -> Published:
    return Published(
        system=system,
        source=f"{LHGNN_PAPER}, Table I",
        corpus="audioset",
        items=2_022_000,
        classes=527,
        protocol="the full training part (2 million clips) and the evaluation part (22,000)",
        mixes_speakers=None,
        map=value,
        parameters=int(parameters * 1e6),
        train=2_000_000,
        pretraining=pretraining,
        **more,
    )


def _fsd50k(
    system: str, table: str, value: float, parameters: float | None, pretraining: str | None = "", **more: Any
) -> Published:
    return Published(
        system=system,
        source=f"{LHGNN_PAPER}, Table {table}",
        corpus="fsd50k",
        items=51_535,
        classes=200,
        protocol="the published training, validation and evaluation parts",
        mixes_speakers=None,
        map=value,
        parameters=None if parameters is None else int(parameters * 1e6),
        train=37_134,
        validation=True,
        pretraining=pretraining,
        **more,
    )


def _esc50(system: str, accuracy: float, parameters: float, pretraining: str | None, **more: Any) -> Published:
    return Published(
        system=system,
        source=f"{LHGNN_PAPER}, Table III",
        corpus="esc50",
        items=2000,
        classes=50,
        protocol="the five published folds, four to train on and one to test",
        mixes_speakers=None,
        wa=accuracy,
        parameters=int(parameters * 1e6),
        folds=5,
        train=1600,
        pretraining=pretraining,
        **more,
    )


def _kernel(kernel: str, words: str, value: float) -> Published:
    return _fsd50k(
        f"LHGNN, {words}", "IV", value, 31, model="lhgnn", variant={**LHGNN_DEFAULTS, "kernel": kernel}, ablation=True
    )


def _cluster(cluster: str, words: str, value: float) -> Published:
    return _fsd50k(
        f"LHGNN, {words}", "V", value, 31, model="lhgnn", variant={**LHGNN_DEFAULTS, "cluster": cluster}, ablation=True
    )


def _esc10(system: str, accuracy: float, note: str) -> Published:
    return Published(
        system=system,
        source="reference system",
        corpus="esc10",
        items=400,
        classes=10,
        protocol="the five published folds",
        mixes_speakers=None,
        wa=accuracy,
        folds=5,
        train=320,
        kind="reference",
        note=note,
    )


_LHGNN: dict[str, Any] = {"model": "lhgnn", "variant": LHGNN_DEFAULTS}

SOUNDS: tuple[Published, ...] = (
    # Table I, AudioSet.
    _audioset("Baseline", 0.314, 2.6),
    _audioset("DeepRes", 0.392, 26),
    _audioset("PANN", 0.434, 81, model="cnn14"),
    _audioset("PSLA", 0.444, 13.6, "ImageNet"),
    _audioset("AST, from scratch", 0.366, 87, model="ast"),
    _audioset("AST", 0.459, 87, "ImageNet", model="ast"),
    _audioset("LHGNN, from scratch", 0.442, 31, chosen_on_test=True, **_LHGNN),
    _audioset("LHGNN", 0.466, 31, "ImageNet", chosen_on_test=True, **_LHGNN),
    # Table II, FSD50K.
    _fsd50k("FSD50K baseline", "II", 0.434, 0.27),
    _fsd50k("Wav2CLIP", "II", 0.431, None, note="Its weights are distilled from CLIP, a model of images and text."),
    _fsd50k("Audio Transformers", "II", 0.537, 2.3, None),
    _fsd50k("PSLA", "II", 0.559, 13.6, "ImageNet"),
    _fsd50k("AST, from scratch", "II", 0.396, 87, model="ast"),
    _fsd50k("AST", "II", 0.574, 87, "ImageNet", model="ast"),
    _fsd50k("LHGNN, from scratch", "II", 0.573, 31, **_LHGNN),
    _fsd50k("LHGNN", "II", 0.59, 31, "ImageNet", **_LHGNN),
    # Table III, ESC-50. The table does not say what the others were pretrained on; their own publications do.
    _esc50("PANN", 94.7, 81, "AudioSet", model="cnn14"),
    _esc50("AST", 95.6, 87, "ImageNet and AudioSet", spread=0.4, model="ast"),
    _esc50(
        "ERANN", 96.1, 38.2, None,
        note="The table marks it as not pretrained, but its own paper also transfers from AudioSet.",
    ),
    _esc50("LHGNN", 96.2, 31, "ImageNet", spread=0.3, **_LHGNN),
    # Table IV, kernels, and Table V, clusterings, both from scratch.
    _kernel("local", "neighbours only", 0.531),
    _kernel("higher", "clusters only", 0.501),
    _kernel("both", "neighbours and clusters", 0.573),
    _cluster("kmeans", "k-means", 0.544),
    _cluster("fcm", "fuzzy c-means", 0.573),
    _cluster("density", "density peaks", 0.574),
    # Simple systems on the five folds of ESC-10.
    _esc10("Log-mel means and deviations (384) + RBF SVM", 80.0, _TUNED),
    _esc10("ComParE 2016 functionals (6,373) + linear SVM", 86.0, _TUNED),
)  # fmt: skip

PUBLISHED: tuple[Published, ...] = (*EMOTION, *SOUNDS, *FEW_LABELS, *TWO_MODALITIES)
