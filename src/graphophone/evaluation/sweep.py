"""Runs that differ in a number: which number is the axis of a figure, and which runs are one line of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphophone.evaluation.few_labels import TASK_WORDS
from graphophone.evaluation.page import plain
from graphophone.evaluation.published import task_names
from graphophone.evaluation.results import flatten
from graphophone.evaluation.two_modalities import GNN_WORDS, MODALITY_WORDS

_AXES = {
    "protocol.labelled": ("training items with a label, %", 100.0),
    "task.unlabelled": ("items without label in a subgraph", 1.0),
    "task.per_class": ("labelled items of each class in a subgraph", 1.0),
    "task.batch_graphs": ("subgraphs per step", 1.0),
    "task.edges": ("T, edges of an item to be answered", 1.0),
    "task.draws": ("R, reference graphs", 1.0),
    "task.reference_size": ("nodes of a reference graph", 1.0),
    "task.true_share": ("nodes of a reference graph with a true label, %", 100.0),
    "model.fraction": ("spoilt nodes, %", 100.0),
    "model.noise": ("variance of the noise", 1.0),
    "model.num_layers": ("layers", 1.0),
    "graph.k": ("k, neighbours", 1.0),
    "graph.k_text": ("neighbours by text", 1.0),
    "graph.k_audio": ("neighbours by audio", 1.0),
    "model.k": ("k, neighbours", 1.0),
}
"""What an axis is called, and what its values are multiplied by."""

_WORDS: dict[str, Mapping[Any, str]] = {
    "model.modality": MODALITY_WORDS,
    "model.gnn": GNN_WORDS,
    "model.hm_gat": {True: "with HM-GAT", False: "without HM-GAT"},
    "model.cmt": {True: "with CMT", False: "without CMT"},
}
"""What values are called that say by themselves what they are of."""

MAX_LINES = 12
"""Lines beyond which a figure of curves cannot be read."""

_DATA = ("protocol.", "corpus.", "features.", "standardize.")
"""Settings on which simple systems beside a run depend too."""


def setting_words(key: str, value: Any) -> str:
    """A value of a recipe as people say it."""
    if key == "model.tasks":
        name = task_names(value)
        return TASK_WORDS.get(name, name.replace("+", " + "))
    if key in _WORDS and value is not None:
        return _WORDS[key].get(value, str(value))
    return "default" if value is None else plain(value)


def speaks(key: str) -> bool:
    """Whether a setting's values say by themselves what they are of."""
    return key in _WORDS


@dataclass(frozen=True)
class Sweep:
    """Runs along an axis.

    Attributes:
        key: Dotted key of the number.
        words: What the axis is, with its unit.
        scale: What its values are multiplied by.
        others: The other keys that are varied.
        x: The value of every run, multiplied.
        line: What every run has of the other keys, in words; empty where there is none.
    """

    key: str
    words: str
    scale: float
    others: tuple[str, ...]
    x: tuple[float, ...]
    line: tuple[str, ...]

    @property
    def lines(self) -> dict[str, list[int]]:
        """Numbers of the runs of each line, along the axis; in the order of the runs."""
        found: dict[str, list[int]] = {}
        for index in sorted(range(len(self.x)), key=lambda i: self.x[i]):
            found.setdefault(self.line[index], []).append(index)
        return {name: found[name] for name in dict.fromkeys(self.line)}

    @property
    def places(self) -> list[float]:
        """All values, in order."""
        return sorted(set(self.x))

    @property
    def of_data(self) -> bool:
        """Whether the number says what a run is given, which is nothing to be chosen."""
        return self.key.startswith(("protocol.", "corpus."))

    @property
    def controls_differ(self) -> bool:
        """Whether lines differ in what the controls read."""
        return any(key.startswith(_DATA) for key in self.others)

    @property
    def unit(self) -> str:
        """What follows a value in a sentence."""
        return " %" if self.words.endswith("%") else ""

    @property
    def name(self) -> str:
        """The number's name without its slot."""
        return self.key.rpartition(".")[2]

    @property
    def noun(self) -> str:
        """What the axis is, without its unit."""
        return self.words.removesuffix(", %")

    def say(self, x: float) -> str:
        """A value with its name: ``labelled = 2 %``."""
        return f"{self.name} = {x:g}{self.unit}"

    def label(self, index: int) -> str:
        """A run in words."""
        place = self.say(self.x[index])
        return f"{self.line[index]}, {place}" if self.line[index] else place

    def reference(self, index: int) -> int | None:
        """What a run is set against: the run of the first line at the same place; on a single line the first run.

        Returns:
            None for a run that others are set against, and where the first line has no run at the place.
        """
        lines = self.lines
        if len(lines) == 1:
            return None if index == 0 else 0
        first = lines[self.line[0]]
        if index in first:
            return None
        return next((i for i in first if self.x[i] == self.x[index]), None)


def find_sweep(recipes: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> Sweep | None:
    """The number along which runs make a curve.

    Args:
        recipes: Recipes of the runs.
        keys: Dotted keys in which they differ.

    Returns:
        None where there is none: no number is varied, no line has three runs (or two to four lines have two), or there
        are more than :data:`MAX_LINES`. Where several numbers would do it is the share of labels, else the one with the
        most values.
    """
    flat = [flatten(recipe) for recipe in recipes]
    ranked = sorted(keys, key=lambda key: (key != "protocol.labelled", -len({str(one.get(key)) for one in flat})))
    for key in ranked:
        values = [one.get(key) for one in flat]
        numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
        if len(numbers) < len(values) or len(set(numbers)) < 2:
            continue
        words, scale = _AXES.get(key, (key, 1.0))
        others = tuple(k for k in keys if k != key)
        sweep = Sweep(
            key, words, scale, others,
            tuple(float(f"{scale * value:.12g}") for value in numbers),
            tuple(_line([(k, _value(recipe, k)) for k in others]) for recipe in recipes),
        )  # fmt: skip
        runs = [[sweep.x[i] for i in line] for line in sweep.lines.values()]
        lengths = sorted((len(line) for line in runs), reverse=True)
        once = all(len(set(line)) == len(line) for line in runs)
        pairs = 2 <= len(lengths) <= 4 and lengths[1] == 2
        if once and len(lengths) <= MAX_LINES and (lengths[0] >= 3 or pairs):
            return sweep
    return None


def _value(recipe: Mapping[str, Any], key: str) -> Any:
    value: Any = recipe
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _line(settings: Sequence[tuple[str, Any]]) -> str:
    parts = []
    for key, value in settings:
        words = setting_words(key, value)
        named = key == "model.tasks" or speaks(key) or isinstance(value, str)
        parts.append(words if named else f"{key.rpartition('.')[2]} = {words}")
    return ", ".join(parts)
