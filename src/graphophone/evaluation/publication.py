"""What one published result is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

SOUND_CORPORA = frozenset({"esc50", "esc10", "fsd50k", "audioset", "urbansound8k"})
"""Corpora of sounds, whose literature speaks of accuracy and mAP, and not of speakers."""

CITATION_GRAPHS = frozenset({"cora", "citeseer", "pubmed"})
"""Papers that cite each other, whose literature speaks of accuracy."""


@dataclass(frozen=True)
class Published:
    """One result that somebody else reports, or a simple system to beat.

    Attributes:
        system: Name of the system, with its variant.
        source: Where the number stands.
        corpus: Name of the corpus in the registry.
        items: Number of items.
        classes: Number of classes.
        protocol: How the items were divided, in words that follow "uses".
        mixes_speakers: Whether test speakers were also training speakers; None where speakers are no matter.
        division: Shares of training, validation and test items, where they were drawn at random out of all items.
        ua: Unweighted accuracy in percent, None where it is not reported.
        wa: Weighted accuracy in percent, None where it is not reported.
        map: Mean average precision, a fraction, None where it is not reported.
        weighted_f1: F1 weighted by support in percent, None where it is not reported.
        spread: Standard deviation over seeds of the one of the four that is reported, or of several by their names:
            points of a percentage, a fraction of mAP.
        labelled: Share of the training items whose labels were given; None where it is not said.
        quoted: Whether the source took the number from somewhere else, where data and division may be others.
        model: Name of the model in the registry, where this package has it.
        variant: Settings that tell rows of the same system apart: ``pooling``, ``num_layers``, ``k``; ``kernel``,
            ``cluster``; ``tasks``, ``sampling``, ``backbone``; ``modality``, ``hm_gat``, ``cmt``, ``gnn``.
        parameters: Number of weights, as reported.
        folds: Number of folds; 1 for a single split.
        train: Number of training items of a fold, where it is known.
        validation: Whether there was a validation set.
        chosen_on_test: Whether it is known that the weights were chosen on the test part.
        pretraining: What its first weights were trained on; empty for none, None where it is not said.
        kind: ``"published"``, or ``"reference"`` for a simple system measured on the same files.
        video: Whether it also sees the face.
        context: Whose other turns it reads, too: those of the ``"dialogue"`` or ``"video"``; empty where it reads none
            or that is not said.
        note: What else a reader should know, a sentence.
        ablation: Whether the row is one of a series of variants rather than a main result.
    """

    system: str
    source: str
    corpus: str
    items: int
    classes: int
    protocol: str
    mixes_speakers: bool | None
    ua: float | None = None
    wa: float | None = None
    map: float | None = None
    weighted_f1: float | None = None
    spread: float | Mapping[str, float] | None = None
    division: tuple[float, float, float] | None = None
    labelled: float | None = 1.0
    quoted: bool = False
    model: str | None = None
    variant: Mapping[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    folds: int = 1
    train: int | None = None
    validation: bool = False
    chosen_on_test: bool = False
    pretraining: str | None = ""
    kind: Literal["published", "reference"] = "published"
    video: bool = False
    context: str = ""
    note: str = ""
    ablation: bool = False
