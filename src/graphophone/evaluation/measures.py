"""What a kind of run is judged by, and what people call it.

Speech emotion writes UA and WA in percent, sound classification accuracy in percent, tagging mAP as a fraction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphophone.evaluation.metrics import Kind, scalars
from graphophone.evaluation.publication import CITATION_GRAPHS, SOUND_CORPORA
from graphophone.evaluation.statistics import Estimate

DASH = "–"


@dataclass(frozen=True)
class Measure:
    """One number and how it is written.

    Attributes:
        key: Its key in the metrics.
        name: Its name in full, as a row's or a card's title.
        short: What heads a column.
        words: Its name within a sentence.
        percent: Whether it is written in percent with one digit, rather than as it is with three.
        bounded: Whether it lies between 0 and 1, where intervals are then cut.
        optional: Whether tables leave it out where it is not defined.
    """

    key: str
    name: str
    short: str
    words: str
    percent: bool = True
    bounded: bool = True
    optional: bool = False

    @property
    def unit(self) -> str:
        """What follows the number in a sentence."""
        return " %" if self.percent else ""

    def write(self, value: float | None) -> str:
        """The number without its unit; a dash for None."""
        if value is None:
            return DASH
        return f"{100 * value:.1f}" if self.percent else f"{value:.3f}"

    def say(self, value: float | None) -> str:
        """The number with its unit."""
        return f"{self.write(value)}{self.unit if value is not None else ''}"

    def signed(self, value: float) -> str:
        """A difference with its sign."""
        return (f"{100 * value:+.1f}" if self.percent else f"{value:+.3f}").replace("-", "−")

    def spread(self, estimate: Estimate | None) -> str:
        """Mean and standard deviation."""
        if estimate is None:
            return DASH
        if estimate.sd is None:
            return self.write(estimate.mean)
        return f"{self.write(estimate.mean)} ± {self.write(estimate.sd)}"


@dataclass(frozen=True)
class Measures:
    """What a kind of run is judged by.

    Attributes:
        kind: One label per item, or tags.
        main: The measure of the headline and of comparisons.
        second: The one beside it.
        selection: What training watches on validation items.
        cards: The measures at the top of a report.
        table: The measures of the table of scores.
        sounds: Whether the items are sounds, of which no speaker needs to be known.
    """

    kind: Kind
    main: Measure
    second: Measure
    selection: Measure
    cards: tuple[Measure, ...]
    table: tuple[Measure, ...]
    sounds: bool

    @property
    def scalars(self) -> tuple[str, ...]:
        """Keys of all single numbers in the metrics of this kind."""
        return scalars(self.kind)

    def noun(self, count: int) -> str:
        """``"8 classes"`` or ``"200 tags"``."""
        word = "tag" if self.kind == "tagging" else "class"
        return f"{count:,} {word if count == 1 else {'tag': 'tags', 'class': 'classes'}[word]}"


_UA = Measure("ua", "Unweighted accuracy (UA)", "UA", "unweighted accuracy")
_WA = Measure("wa", "Weighted accuracy (WA)", "WA", "weighted accuracy")
_ACCURACY = Measure("wa", "Accuracy", "Accuracy", "accuracy")
_F1 = Measure("macro_f1", "Macro F1", "Macro F1", "macro F1")
_WEIGHTED_F1 = Measure("weighted_f1", "Weighted F1", "Weighted F1", "weighted F1")
_ECE = Measure("ece", "Calibration error (ECE)", "ECE", "calibration error")
MAP = Measure("map", "Mean average precision (mAP)", "mAP", "mean average precision (mAP)", percent=False)
_MAUC = Measure("mauc", "Mean area under the ROC curve (mAUC)", "mAUC", "mean area under the ROC curve", percent=False)
_DPRIME = Measure("dprime", "d′, from the mean area", "d′", "d′", percent=False, bounded=False)
_LWLRAP = Measure("lwlrap", "Label-weighted ranking precision (lwlrap)", "lwlrap", "lwlrap", percent=False)
_MACRO_PRECISION = Measure("macro_precision", "Macro precision", "Macro precision", "macro precision")
_WEIGHTED_PRECISION = Measure("weighted_precision", "Weighted precision", "Weighted precision", "weighted precision")
_MICRO_AUC = Measure(
    "micro_auc", "Area under the ROC curve of all pairs (micro AUC)", "Micro AUC", "micro area under the ROC curve",
    percent=False,
)  # fmt: skip
_MICRO_AP = Measure(
    "micro_ap", "Average precision of all pairs (micro AP)", "Micro AP", "micro average precision", percent=False
)
_EMOTIONS = Measure(
    "micro_f1_no_neutral", "Micro F1 without neutral", "Micro F1 w/o neutral", "micro F1 without the neutral class",
    optional=True,
)  # fmt: skip
_MICRO_TAGS = Measure("micro_f1", "Micro F1 at 0.5", "Micro F1", "micro F1", percent=False)
_MACRO_TAGS = Measure("macro_f1", "Macro F1 at 0.5", "Macro F1", "macro F1", percent=False)

SPEECH = Measures(
    kind="classification",
    main=_UA,
    second=_WA,
    selection=_UA,
    cards=(_UA, _WA, _F1, _ECE),
    table=(_UA, _WA, _WEIGHTED_F1, _F1, _ECE),
    sounds=False,
)
"""Classes of utterances, where large classes must not hide small ones."""

SOUNDS = Measures(
    kind="classification",
    main=_ACCURACY,
    second=_UA,
    selection=_UA,
    cards=(_ACCURACY, _UA, _F1, _ECE),
    table=(_ACCURACY, _UA, _WEIGHTED_F1, _F1, _ECE, MAP, _MAUC),
    sounds=True,
)
"""Classes of sounds."""

WORDS = Measures(
    kind="classification",
    main=_WEIGHTED_F1,
    second=_ACCURACY,
    selection=_WEIGHTED_F1,
    cards=(_WEIGHTED_F1, _ACCURACY, _UA, _ECE),
    table=(
        *(_WEIGHTED_F1, _ACCURACY, _UA, _F1, _WEIGHTED_PRECISION, _MACRO_PRECISION),
        *(_EMOTIONS, _ECE, MAP, _MAUC, _MICRO_AP, _MICRO_AUC),
    ),
    sounds=False,
)
"""Classes of utterances with their words, which the literature counts by weighted F1 and accuracy."""

TAGS = Measures(
    kind="tagging",
    main=MAP,
    second=_MAUC,
    selection=MAP,
    cards=(MAP, _MAUC, _DPRIME, _LWLRAP),
    table=(MAP, _MAUC, _DPRIME, _LWLRAP, _MICRO_TAGS, _MACRO_TAGS),
    sounds=True,
)
"""Any number of tags per item."""


def measures_of(run: Mapping[str, Any], recipe: Mapping[str, Any] | None = None, kind: Kind | None = None) -> Measures:
    """What a run is judged by.

    Args:
        run: Contents of its ``run.json``.
        recipe: Its resolved recipe.
        kind: The kind of its predictions, where there are some; otherwise that of ``run.json`` and of the task.
    """
    task = str(((recipe or {}).get("task") or {}).get("name") or "")
    kind = kind or ("tagging" if run.get("kind") == "tagging" or task == "clip_tagging" else "classification")
    if kind == "tagging":
        return TAGS
    if _monitor(task) == f"validation {_WEIGHTED_F1.words}":
        return WORDS
    corpus = (run.get("corpus") or {}).get("name")
    # A clip of a folder may be a voice or a door: a corpus that names speakers is one of voices.
    clips = task == "clip_classification" and not (run.get("corpus") or {}).get("speakers")
    return SOUNDS if corpus in SOUND_CORPORA | CITATION_GRAPHS or clips else SPEECH


def _monitor(task: str) -> str:
    """What a task chooses an epoch by, in words; empty where it is not known."""
    from graphophone.tasks import TASKS  # here: a table is read without the networks

    return str(getattr(TASKS.get(task), "monitor_words", "")) if task in TASKS else ""
