"""A finished model on a corpus that it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from graphophone.evaluation.metrics import MetricError, classification_metrics, tagging_metrics

if TYPE_CHECKING:
    from graphophone.corpora.base import Corpus, Problem
    from graphophone.inference import Recognizer


@dataclass(frozen=True, eq=False)
class Elsewhere:
    """What a model is worth on another corpus.

    Attributes:
        metrics: :func:`~graphophone.evaluation.metrics.classification_metrics`, or
            :func:`~graphophone.evaluation.metrics.tagging_metrics` over the shared classes.
        shared: Classes of the corpus that the model knows, in the corpus' order.
        unknown: Classes of the corpus that it does not know.
        failures: Items that could not be used.
    """

    metrics: dict[str, Any]
    shared: tuple[str, ...]
    unknown: tuple[str, ...]
    failures: tuple[Problem, ...]


def evaluate_elsewhere(recognizer: Recognizer, corpus: Corpus) -> Elsewhere:
    """Test a model on the items of a corpus, by the classes that both know.

    A model of one label per item hears the items whose label it knows, and may answer with any label of its own.
    A tagging model hears all items of a corpus of tags; it is scored tag by tag, by the tags that both know. Of a
    corpus with one label per item it hears those whose label it knows, as items with one tag.

    Args:
        recognizer: The model.
        corpus: The corpus.

    Raises:
        MetricError: If model and corpus share no class, or the items have several labels and the model gives one.
    """
    tagging = recognizer.bundle.kind == "tagging"
    if corpus.multi_label and not tagging:
        raise MetricError(f"corpus {corpus.name!r} has several labels per item; this model gives one")
    shared = tuple(label for label in corpus.classes if label in recognizer.labels)
    if not shared:
        raise MetricError(
            f"corpus {corpus.name!r} and the model share no label: {_some(corpus.classes)} there, "
            f"{_some(recognizer.labels)} here"
        )
    table = corpus.table if corpus.multi_label else corpus.table[corpus.table["label"].isin(shared)]
    answers = recognizer.process_table(table)
    failures = (*corpus.problems, *answers.attrs["failures"])
    if answers.empty:
        first = failures[0] if failures else None
        raise MetricError(
            f"no item of corpus {corpus.name!r} could be used" + (f"; {first.item}: {first.reason}" if first else "")
        )
    truth = table.loc[answers.index]
    classes = shared if tagging else recognizer.labels
    p = answers[[f"p_{label}" for label in classes]].to_numpy(np.float64)
    number = {label: i for i, label in enumerate(classes)}
    if tagging:
        metrics = tagging_metrics(_tags(truth, number), p, classes)
    else:
        speakers = truth["speaker"].tolist() if "speaker" in truth else None
        metrics = classification_metrics(truth["label"].map(number).to_numpy(np.int64), p, classes, speakers)
    unknown = tuple(label for label in corpus.classes if label not in number)
    return Elsewhere(metrics, shared, unknown, failures)


def _tags(truth: pd.DataFrame, number: dict[str, int]) -> np.ndarray:
    """The tags that are known, as 0 and 1, ``[items, classes]``."""
    cells = truth["labels"] if "labels" in truth else truth["label"].map(lambda label: [label])
    pairs = cells.reset_index(drop=True).explode()
    pairs = pairs[pairs.isin(list(number))]
    targets = np.zeros((len(truth), len(number)), dtype=np.int64)
    targets[pairs.index.to_numpy(), pairs.map(number).to_numpy(np.int64)] = 1
    return targets


def _some(names: tuple[str, ...], limit: int = 12) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{', '.join(names[:limit])}{more}"
