"""What others report on noise, set beside a run on the same data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphophone.evaluation.few_labels import NOISE_DROPS, SSL_PAPER, TASK_WORDS
from graphophone.evaluation.published import run_variant


@dataclass(frozen=True)
class PublishedDrops:
    """One row of a published table of drops.

    Attributes:
        system: Name of the system.
        source: Where the numbers stand.
        corpus: Name of the corpus in the registry.
        model: Name of the model in the registry.
        tasks: Its self-supervised tasks.
        drops: Noise to the drop of unweighted accuracy, in points.
        note: What a reader should know, a sentence.
    """

    system: str
    source: str
    corpus: str
    model: str
    tasks: str
    drops: Mapping[str, float]
    note: str

    @property
    def words(self) -> str:
        """What the numbers are of, and the note."""
        return f"Published: {self.system} ({self.source}), in points of unweighted accuracy. {self.note}"

    def drop(self, noise: str) -> float | None:
        """The drop by a noise, or None; ``factory1`` is ``factory``."""
        word = re.match(r"[a-z]+", noise.lower())
        return self.drops.get(word[0]) if word else None


_NOTE = (
    "The paper does not state the signal-to-noise ratio; its splits are random, 80:10:10, and mix speakers, and it "
    "uses a tenth of the training labels."
)


DROPS: tuple[PublishedDrops, ...] = tuple(
    PublishedDrops(
        f"SubgraphSSL, {TASK_WORDS[tasks]}", f"{SSL_PAPER}, Table IV", "iemocap", "subgraph_ssl", tasks, drops, _NOTE
    )
    for tasks, drops in NOISE_DROPS.items()
)


def published_drops(run: Mapping[str, Any]) -> tuple[PublishedDrops, ...]:
    """Published drops on the corpus of a run; empty where there are none.

    Args:
        run: Contents of a run's ``run.json``.
    """
    return tuple(row for row in DROPS if row.corpus == (run.get("corpus") or {}).get("name"))


def own_published_drops(run: Mapping[str, Any], recipe: Mapping[str, Any]) -> PublishedDrops | None:
    """The published drops of the run's own system, on its own corpus; None where there are none.

    Args:
        run: Contents of a run's ``run.json``.
        recipe: Its resolved recipe.
    """
    model, tasks = (run.get("model") or {}).get("name"), run_variant(recipe).get("tasks")
    return next((row for row in published_drops(run) if row.model == model and row.tasks == tasks), None)
