"""Which items train, which choose the model, which are scored: evaluation protocols as lists of splits.

Every protocol keeps two rules. Validation items come out of the training part, never out of the test part;
and where the speakers are known, a validation speaker is not a training speaker, unless the protocol mixes
speakers by design and says so. The same corpus, options and seed always give the same splits.
"""

from __future__ import annotations

import dataclasses
import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
import pandas as pd

from graphophone.corpora.base import label_matrix, label_sets
from graphophone.errors import GraphophoneError
from graphophone.evaluation.budgets import draw_budget, interleaved
from graphophone.registry import Registry

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from graphophone.corpora.base import Corpus


_CLASSES_NAMED = 10  # in a note
_NOTHING_SELECTED = "There is no validation part: nothing is selected, the model of the last epoch is tested."
_NAMED = 3  # in the name of speakers who are in dialogues with each other
_WHOLE = ("speaker", "source", "dialogue")  # columns whose values a validation part does not share with training


class ProtocolError(GraphophoneError):
    """A protocol asks of a corpus what the corpus cannot give."""


@dataclass(frozen=True, eq=False)
class Split:
    """Disjoint sets of rows of a corpus table.

    Attributes:
        name: Name of the fold, fit for a folder: ``"fold3"``, ``"speaker-07"``.
        train: Row indices, int64 ``[items]``, sorted.
        validation: As ``train``; empty where the protocol has no validation part (``Protocol.validates``).
        test: As ``train``.
        notes: What a reader of the results should know, such as a class that is missing from the test part.
        unlabelled: As ``train``: items that training may use without a label, because they have none or because the
            protocol withholds it (``Protocol.labelled``). Models that learn from labels only leave them aside.
    """

    name: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    notes: tuple[str, ...] = ()
    unlabelled: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        for part in ("train", "validation", "test", "unlabelled"):
            rows = np.unique(np.asarray(getattr(self, part), dtype=np.int64))
            if len(rows) != len(getattr(self, part)):
                raise ValueError(f"split {self.name!r}: {part} names a row twice")
            object.__setattr__(self, part, rows)
        everything = np.concatenate([self.train, self.validation, self.test, self.unlabelled])
        if len(np.unique(everything)) != len(everything):
            raise ValueError(f"split {self.name!r}: train, validation, test and unlabelled overlap")

    def __repr__(self) -> str:
        sizes = f"train={len(self.train)}, validation={len(self.validation)}, test={len(self.test)}"
        without = f", unlabelled={len(self.unlabelled)}" if len(self.unlabelled) else ""
        return f"Split({self.name!r}, {sizes}{without})"


@dataclass(frozen=True, eq=False)
class _Part:
    """Some items of a corpus, with all that protocols read of one."""

    name: str
    table: pd.DataFrame
    classes: tuple[str, ...]


def natural_key(value: object) -> list[tuple[int, int, str]]:
    """Sorting key under which ``"s2"`` comes before ``"s10"``."""
    parts = re.findall(r"\d+|\D+", str(value))
    return [(0, int(p), "") if p.isascii() and p.isdigit() else (1, 0, p) for p in parts]


def _known(values: pd.Series) -> np.ndarray:
    """Which cells say something, bool ``[items]``."""
    return (values.notna() & (values.astype(str) != "")).to_numpy()


def _knows(corpus: Corpus, column: str) -> bool:
    return column in corpus.table and bool(_known(corpus.table[column]).any())


def _speakers(corpus: Corpus, rows: np.ndarray) -> set[str]:
    values = corpus.table["speaker"].iloc[rows]
    return set(values[_known(values)])


def _labels(corpus: Corpus) -> csr_array:
    """Classes of every item, zeros and ones, sparse ``[items, classes]``."""
    return label_matrix(corpus.table, corpus.classes)


def _labelled(corpus: Corpus) -> np.ndarray:
    """Which items have a label, bool ``[items]``; of several labels per item also none is known."""
    if "labels" in corpus.table:
        return np.ones(len(corpus.table), dtype=bool)
    return _known(corpus.table["label"])


def _draw(labels: csr_array, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Mask of a stratified draw among items with one label, or several, each."""
    if (np.diff(labels.indptr) == 1).all():
        return draw_stratified(labels.indices, fraction, rng)
    return draw_labelled(labels, fraction, rng)


def shared_speakers(corpus: Corpus, split: Split) -> tuple[str, ...]:
    """Speakers that are in the test part of ``split`` and also among its other items, with or without label."""
    if "speaker" not in corpus.table:
        return ()
    heard = _speakers(corpus, np.concatenate([split.train, split.validation, split.unlabelled]))
    return tuple(sorted(_speakers(corpus, split.test) & heard, key=natural_key))


def dialogues_divided(corpus: Corpus, split: Split) -> tuple[str, ...]:
    """Dialogues of which ``split`` has turns in two of: training (with items without label), validation, test.

    A network that reads whole dialogues would hear there, in training, what it is tested on.
    """
    if "dialogue" not in corpus.table:
        return ()
    side = np.full(len(corpus.table), -1)
    side[np.concatenate([split.train, split.unlabelled])] = 0
    side[split.validation] = 1
    side[split.test] = 2
    dialogues = corpus.table["dialogue"]
    used = (side >= 0) & _known(dialogues)
    sides = pd.Series(side[used]).groupby(dialogues.to_numpy()[used]).agg(["min", "max"])
    return tuple(sorted(map(str, sides.index[sides["min"] < sides["max"]]), key=natural_key))


def _by_acquaintance(corpus: Corpus) -> Corpus:
    """The corpus with one name for all speakers who are, directly or over others, in dialogues with each other."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    table = corpus.table
    if not (_knows(corpus, "speaker") and _knows(corpus, "dialogue")):
        return corpus
    known = _known(table["speaker"])
    person, names = pd.factorize(_as_text(table["speaker"][known]))
    dialogue, dialogues = pd.factorize(table["dialogue"][known].where(_known(table["dialogue"])[known]))
    met = dialogue >= 0
    size = len(names) + len(dialogues)
    edges = csr_array((np.ones(int(met.sum())), (person[met], len(names) + dialogue[met])), shape=(size, size))
    circle = connected_components(edges, directed=False)[1][: len(names)]
    people = pd.Series(names).groupby(circle).agg(lambda group: sorted(group, key=natural_key))
    titles = people.map(lambda group: "+".join(group) if len(group) <= _NAMED else f"{group[0]}+{len(group) - 1}")
    speaker = table["speaker"].astype(object)
    speaker[known] = titles.loc[circle[person]].to_numpy()
    return cast("Corpus", _Part(corpus.name, table.assign(speaker=speaker), corpus.classes))


def _shared_sources(corpus: Corpus, split: Split) -> int:
    """Test items whose recording (column ``source``) is also that of a training or validation item."""
    if "source" not in corpus.table:
        return 0
    sources = corpus.table["source"]
    heard = sources.iloc[np.concatenate([split.train, split.validation])]
    tested = sources.iloc[split.test]
    return int((tested.isin(heard[_known(heard)])).sum())


def _rng(seed: int, *labels: object) -> np.random.Generator:
    # Streams are named, so that one more repeat or another option does not move the others.
    return np.random.default_rng([seed, zlib.crc32("/".join(map(str, labels)).encode())])


def _slug(text: object) -> str:
    return re.sub(r"[^\w.-]+", "_", str(text)).strip("_.") or "unnamed"


def _unique_names(values: Sequence[object], prefix: str) -> list[str]:
    names = [f"{prefix}{_slug(value)}" for value in values]
    if len({n.casefold() for n in names}) < len(names):  # "A b" and "A_b" would share a folder
        names = [f"{name}.{index}" for index, name in enumerate(names)]
    return names


def draw_stratified(targets: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a share of the items, the same share of every class to within one item.

    Quotas follow the largest remainder method. Every class keeps at least one item that is not drawn, so a
    class with a single item is never drawn.

    Args:
        targets: Class of every item, int64 ``[items]``.
        fraction: Share to draw, between 0 and 1.
        rng: Source of chance.

    Returns:
        Mask of the drawn items, bool ``[items]``.
    """
    counts = np.bincount(targets)
    ideal = counts * fraction
    quota = np.floor(ideal).astype(np.int64)
    limit = np.maximum(counts - 1, 0)
    remainder = ideal - quota
    missing = round(len(targets) * fraction) - int(quota.sum())
    # Random keys first, then a stable sort: chance decides between equal remainders.
    order = rng.permutation(len(counts))
    order = order[np.argsort(-remainder[order], kind="stable")]
    quota[order[:missing]] += 1
    quota = np.minimum(quota, limit)
    shuffled = rng.permutation(len(targets))
    by_class = shuffled[np.argsort(targets[shuffled], kind="stable")]
    rank = np.arange(len(targets)) - np.repeat(np.cumsum(counts) - counts, counts)
    drawn = np.zeros(len(targets), dtype=bool)
    drawn[by_class[rank < np.repeat(quota, counts)]] = True
    return drawn


def draw_labelled(
    labels: csr_array, fraction: float, rng: np.random.Generator, sizes: np.ndarray | None = None
) -> np.ndarray:
    """Draw a share of items with several labels each, about the same share of the items of every label.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, 2011) into two parts: label by label, from the one
    with the fewest items not yet dealt out, its items are dealt to the part that lacks more of it. For two
    parts the outcome of a label's turn is known beforehand, so that a turn is one step and not one per item; within
    it, items with the same set of labels are drawn in the same share, and chance decides among equals. What the
    turns of rare labels left uneven in frequent ones is then mended by moving single items, as long as that
    lowers the sum over labels of squared deviation over wanted number. To have none, one, two or more labels counts
    as a label too, which keeps the number of items near the wanted one.

    Every label of two items or more is in both parts, if there is a way to do so by moving single items; a label of
    one item is in the part that is not drawn.

    Args:
        labels: Labels of every item, sparse ``[items, labels]``: zeros and ones, or counts where the items are
            groups of items that stay together.
        fraction: Share to draw, between 0 and 1.
        rng: Source of chance.
        sizes: Items of each group, ``[items]``, where they are groups.

    Returns:
        Mask of the drawn items, bool ``[items]``.
    """
    from scipy.sparse import csr_array, hstack

    items = np.arange(labels.shape[0])
    if sizes is None:
        kinds = np.unique(np.diff(labels.indptr), return_inverse=True)[1]
        extent = csr_array((np.ones_like(items), (items, kinds)))
    else:
        extent = csr_array(sizes[:, None])
    strata = hstack([labels, extent], format="csr")
    by_stratum = strata.tocsc()
    left = np.asarray(strata.sum(axis=0), dtype=np.float64)  # not yet dealt out, of each label
    wanted = fraction * left
    inside, outside = np.zeros_like(left), np.zeros_like(left)
    turn = interleaved(label_sets(labels), rng)
    free, drawn = np.ones(len(items), dtype=bool), np.zeros(len(items), dtype=bool)
    ties = rng.permutation(len(left)) / (2 * len(left))
    jitter = 1e-6 * rng.uniform(-1, 1, len(left))  # so that a half is not always rounded down
    while (left > 0).any():
        label = int(np.argmin(np.where(left > 0, left + ties, np.inf)))
        stored = slice(by_stratum.indptr[label], by_stratum.indptr[label + 1])
        items, counts = by_stratum.indices[stored], by_stratum.data[stored]
        items, counts = items[free[items]], counts[free[items]]
        order = np.argsort(turn[items], kind="stable")
        items, counts = items[order], counts[order]
        reached = np.concatenate([[0], np.cumsum(counts)])
        take = int(np.argmin(np.abs(reached - (wanted - inside + jitter)[label])))
        least = int(inside[label] == 0 and (outside[label] > 0 or len(items) > 1))
        take = max(least, min(take, len(items) - int(outside[label] == 0)))
        drawn[items[:take]] = True
        free[items] = False
        dealt_in = strata[items[:take]].sum(axis=0)
        dealt_out = strata[items[take:]].sum(axis=0)
        inside += dealt_in
        outside += dealt_out
        left -= dealt_in + dealt_out
    known = labels.shape[1]
    _cover(labels, drawn, inside[:known], outside[:known])
    _even_out(strata, fraction, drawn)
    return drawn


def _cover(labels: csr_array, drawn: np.ndarray, inside: np.ndarray, outside: np.ndarray) -> None:
    """Move single items so that no label lacks in the part that is not drawn, then in the drawn one; in place."""
    by_label = labels.tocsc()
    for into, have, other in ((False, outside, inside), (True, inside, outside)):
        for label in np.flatnonzero((have == 0) & (other > 0)).tolist():
            if have[label] > 0:  # an item moved for another label brought it
                continue
            items = by_label.indices[by_label.indptr[label] : by_label.indptr[label + 1]]
            costs = [
                int((other[labels[[item]].indices] == labels[[item]].data).sum()) for item in items.tolist()
            ]  # labels that the part it comes from would lack
            best = int(np.argmin(costs))
            if into and costs[best] > 0:
                continue
            row = labels[[int(items[best])]]
            drawn[items[best]] = into
            have[row.indices] += row.data
            other[row.indices] -= row.data


def _even_out(strata: csr_array, fraction: float, drawn: np.ndarray) -> None:
    """Move the item that lowers the sum of squared deviation over wanted number most, while one does; in place.

    No label is thereby taken from a part altogether.
    """
    total = np.asarray(strata.sum(axis=0), dtype=np.float64)
    wanted = fraction * total
    weight = 1 / np.maximum(wanted, 1)
    own = strata.power(2) @ weight
    inside = np.asarray(strata[drawn].sum(axis=0), dtype=np.float64)
    for _ in range(len(drawn)):
        sign = np.where(drawn, -1.0, 1.0)  # what a move does to the numbers of the drawn part
        gain = own + 2 * sign * (strata @ (weight * (inside - wanted)))
        # The last item of a label in its part stays there.
        leaves, enters = strata @ (inside <= 1).astype(float), strata @ (total - inside <= 1).astype(float)
        gain[np.where(drawn, leaves, enters) > 0] = np.inf
        best = int(np.argmin(gain))
        if gain[best] > -1e-9:
            break
        row = strata[[best]]
        inside[row.indices] += sign[best] * row.data
        drawn[best] = not drawn[best]


def _class_counts(members: np.ndarray, number: int, targets: np.ndarray | csr_array) -> np.ndarray:
    """Items of each group and class, ``[groups, classes]``.

    Args:
        members: Group of every item, ``[items]``.
        number: Number of groups.
        targets: Class of every item, int64 ``[items]``, or its classes, sparse ``[items, classes]``.
    """
    from scipy.sparse import csr_array

    if isinstance(targets, np.ndarray):
        table = np.zeros((number, int(targets.max()) + 1), dtype=np.int64)
        np.add.at(table, (members, targets), 1)
        return table
    items = np.arange(len(members))
    return (csr_array((np.ones_like(items), (members, items)), shape=(number, len(items))) @ targets).toarray()


def draw_groups(
    groups: np.ndarray,
    targets: np.ndarray | csr_array,
    fraction: float,
    rng: np.random.Generator,
    trials: int = 200,
) -> np.ndarray:
    """Draw whole groups (speakers) that together hold about a share of the items.

    Of ``trials`` random draws the one is kept that leaves the fewest classes without an item outside, then
    the fewest without an item inside, then comes nearest to the wanted share of every class. Of more groups than
    ``trials``, all random draws are far from that, and :func:`draw_labelled` deals them out.

    Args:
        groups: Group of every item, ``[items]``, at least two different ones.
        targets: Class of every item, int64 ``[items]``, or its classes, sparse ``[items, classes]``.
        fraction: Wanted share of the items, between 0 and 1.
        rng: Source of chance.
        trials: How many random draws to compare.

    Returns:
        Mask of the drawn items, bool ``[items]``.
    """
    from scipy.sparse import csr_array

    names, member = np.unique(groups.astype(str), return_inverse=True)
    if len(names) < 2:
        raise ValueError("cannot draw whole groups out of fewer than two")
    table = _class_counts(member, len(names), targets)
    sizes, total = np.bincount(member), table.sum(axis=0)
    if len(names) > trials:
        return draw_labelled(csr_array(table), fraction, rng, sizes)[member]
    goal = fraction * len(groups)
    best: tuple[float, ...] | None = None
    chosen = np.zeros(len(names), dtype=bool)
    for _ in range(trials):
        order = rng.permutation(len(names))
        size = np.cumsum(sizes[order])[:-1]
        number = int(np.argmin(np.abs(size - goal))) + 1
        inside = table[order[:number]].sum(axis=0)
        score = (
            float(((total > 0) & (inside == total)).sum()),
            float(((total > 0) & (inside == 0)).sum()),
            float(np.abs(inside - fraction * total).sum()),
        )
        if best is None or score < best:
            best = score
            chosen = np.zeros(len(names), dtype=bool)
            chosen[order[:number]] = True
    return chosen[member]


def balanced_groups(
    speakers: Sequence[str], targets: np.ndarray | csr_array, number: int, rng: np.random.Generator
) -> list[list[str]]:
    """Deal speakers into groups of equal size, give or take one speaker, with similar class counts.

    Speakers are dealt from the one with the most items down; each goes to the group, among those with a seat
    left, whose class counts then are most even over the groups. Chance decides between equals.

    Args:
        speakers: Speaker of every item, ``[items]``.
        targets: Class of every item, int64 ``[items]``, or its classes, sparse ``[items, classes]``.
        number: Number of groups.
        rng: Source of chance.

    Returns:
        Speakers of each group, in natural order.
    """
    names = sorted(set(speakers), key=natural_key)
    position = {name: index for index, name in enumerate(names)}
    table = _class_counts(np.array([position[s] for s in speakers]), len(names), targets)
    sizes = np.bincount([position[s] for s in speakers])
    seats = np.full(number, len(names) // number)
    seats[rng.permutation(number)[: len(names) % number]] += 1
    order = rng.permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    weight = 1.0 / np.maximum(table.sum(axis=0), 1.0)
    counts = np.zeros((number, table.shape[1]))
    groups: list[list[str]] = [[] for _ in range(number)]
    for speaker in order:
        free = [g for g in rng.permutation(number) if len(groups[g]) < seats[g]]
        # Adding v to group g changes the sum of squares by 2 counts[g].v + v.v: only the first term differs.
        group = min(free, key=lambda g: float((counts[g] * weight**2) @ table[speaker]))
        counts[group] += table[speaker]
        groups[group].append(names[speaker])
    return [sorted(group, key=natural_key) for group in groups]


@dataclass(frozen=True, kw_only=True)
class Protocol(ABC):
    """A way to divide a corpus into training, validation and test parts.

    Items without label are divided by none of them. They join the training (``Split.unlabelled``), unless they share
    the speaker, source or dialogue of validation or test items, or are in the fold, session or part that is held out.

    Args:
        labelled: Share of the training items whose labels are given, above 0, at most 1. They are drawn evenly from
            the classes, one of each at least; with the same seed, a larger share holds all of a smaller one. The others
            become ``Split.unlabelled``. Validation and test parts are the same for every share.
        turns: With 0, a seed does all splits. With a number, it does so many of them only, and the next seed the next
            ones, cyclically. Where the corpus itself is divided (folds, sessions, single speakers) the repetitions of
            an experiment thus test other items; groups and parts that are drawn by lot are drawn anew by every seed,
            and may have test items in common.
        whole_dialogues: Whether no dialogue may be divided among training, validation and test, as networks of
            dialogues need it: speakers who talk to each other then count as one, and a division that is none of whole
            dialogues is refused.

    Attributes:
        name: Name in the registry.
        mixes_speakers: Whether test speakers are also training speakers. None where the corpus decides:
            :meth:`describe` looks.
        divides_by: Column whose values are held out, where the corpus itself is divided.
        keeps_apart: Columns of which an item without label in training shares no value with held-out items.
    """

    name: ClassVar[str]
    mixes_speakers: ClassVar[bool | None]
    divides_by: ClassVar[str | None] = None
    keeps_apart: ClassVar[tuple[str, ...]] = _WHOLE
    labelled: float = 1.0
    turns: int = 0
    whole_dialogues: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.labelled <= 1:
            raise ProtocolError(f"labelled is {self.labelled}, but must be above 0 and at most 1, such as 0.1")
        if self.turns < 0:
            raise ProtocolError(f"turns is {self.turns}, but must be 0 (all splits) or a number of splits per seed")

    @property
    @abstractmethod
    def description(self) -> str:
        """The protocol in words, for a report."""

    @property
    def validates(self) -> bool:
        """Whether the splits have a validation part; without one nothing may be selected."""
        return True

    @abstractmethod
    def _divide(self, corpus: Corpus, seed: int) -> list[Split]:
        """The splits, before they are checked."""

    def splits(self, corpus: Corpus, *, seed: int = 0) -> list[Split]:
        """Divide a corpus.

        Args:
            corpus: Anything with ``name``, ``table`` and ``classes``.
            seed: Seed of every random choice.

        Returns:
            One split per fold, the same ones for the same arguments.

        Raises:
            ProtocolError: If the corpus cannot be divided so, or if a class has no training item. (In a corpus of
                several labels per item the latter is a note of the split.)
        """
        if len(corpus.table) == 0:
            raise ProtocolError(f"corpus {corpus.name!r} has no items: check the folder it was read from")
        has_label = _labelled(corpus)
        if not has_label.any():
            raise ProtocolError(f"corpus {corpus.name!r} has no item with a label; give some of them one")
        labels = _labels(corpus)
        rows, others = np.flatnonzero(has_label), np.flatnonzero(~has_label)
        known = _by_acquaintance(corpus) if self.whole_dialogues else corpus
        if len(others):
            part = cast("Corpus", _Part(corpus.name, known.table.iloc[rows], corpus.classes))
            divided = [
                dataclasses.replace(
                    split, train=rows[split.train], validation=rows[split.validation], test=rows[split.test]
                )
                for split in self._divide(part, seed)
            ]
        else:
            divided = self._divide(known, seed)
        checked = [self._checked(corpus, labels, split) for split in divided]
        if self.turns > len(checked):
            raise ProtocolError(
                f"turns is {self.turns}, but protocol {self.name!r} divides corpus {corpus.name!r} into "
                f"{len(checked)} splits; ask for at most so many, or 0 for all"
            )
        if self.turns:
            checked = [checked[(seed * self.turns + turn) % len(checked)] for turn in range(self.turns)]
        splits = [self._with_unlabelled(corpus, labels, split, others, seed) for split in checked]
        if self.whole_dialogues:
            self._require_whole_dialogues(corpus, splits)
        return splits

    def _require_whole_dialogues(self, corpus: Corpus, splits: Sequence[Split]) -> None:
        for split in splits:
            divided = dialogues_divided(corpus, split)
            if divided:
                more = f" and {len(divided) - 1} others are" if len(divided) > 1 else " is"
                raise ProtocolError(
                    f"protocol {self.name!r}, fold {split.name!r}: dialogue {divided[0]!r}{more} divided among "
                    "training, validation and test; use the protocol 'dialogue-independent', or an option that keeps "
                    "dialogues whole, such as validation_by: dialogue"
                )

    def describe(self, corpus: Corpus, splits: Sequence[Split]) -> dict[str, Any]:
        """What a report says of the protocol: what it is, and what it did to this corpus.

        Args:
            corpus: The corpus that was divided.
            splits: What :meth:`splits` gave.

        Returns:
            ``name``, ``description`` (with what is labelled and which splits a seed does), ``options``,
            ``validates``, ``mixes_speakers`` (counted, where speakers are known; else None or what the protocol says
            of itself), ``notes`` and the sizes of ``folds``; fit for JSON.
        """
        mixes: bool | None = self.mixes_speakers
        known = _knows(corpus, "speaker")
        if known:
            mixes = any(shared_speakers(corpus, split) for split in splits)
        return {
            "name": self.name,
            "description": " ".join([self.description, *self._budget(corpus, splits), *self._turns()]),
            "options": dataclasses.asdict(self),
            "validates": self.validates,
            "mixes_speakers": mixes,
            "speakers_known": known,
            "notes": list(dict.fromkeys(f"{s.name}: {note}" for s in splits for note in s.notes)),
            "folds": [
                {
                    "name": s.name,
                    "train": len(s.train),
                    "validation": len(s.validation),
                    "test": len(s.test),
                    "unlabelled": len(s.unlabelled),
                    "test_speakers": sorted(_speakers(corpus, s.test), key=natural_key) if known else [],
                }
                for s in splits
            ],
        }

    def _checked(self, corpus: Corpus, labels: csr_array, split: Split) -> Split:
        notes = list(split.notes)
        for part in ("train", "validation", "test"):
            rows = getattr(split, part)
            if part == "validation" and not self.validates:
                continue
            if len(rows) == 0:
                raise ProtocolError(
                    f"protocol {self.name!r}, fold {split.name!r}: the {part} part is empty; "
                    "use another protocol or other options"
                )
            counts = np.asarray(labels[rows].sum(axis=0))
            missing = [name for name, count in zip(corpus.classes, counts, strict=True) if count == 0]
            if len(missing) == len(corpus.classes):
                raise ProtocolError(
                    f"protocol {self.name!r}, fold {split.name!r}: no item of the {part} part has any of the classes: "
                    "nothing can be learned or measured by it; use another protocol or other options"
                )
            if missing and part == "train" and "labels" not in corpus.table:
                raise ProtocolError(
                    f"protocol {self.name!r}, fold {split.name!r}: no training item of class "
                    f"{', '.join(map(repr, missing))}; leave the class out of the corpus or use another "
                    "protocol"
                )
            if missing:
                names = ", ".join(missing[:_CLASSES_NAMED])
                more = f" and {len(missing) - _CLASSES_NAMED} more" if len(missing) > _CLASSES_NAMED else ""
                notes.append(f"no {part} item of class {names}{more}")
        leaked = _shared_sources(corpus, split)
        if leaked:
            notes.append(
                f"{leaked} of {len(split.test)} test items are cut out of recordings that others for training or "
                "validation are cut out of: the result does not tell how well the model does on new recordings"
            )
        return dataclasses.replace(split, notes=tuple(notes))

    def _with_unlabelled(self, corpus: Corpus, labels: csr_array, split: Split, others: np.ndarray, seed: int) -> Split:
        """A split with its label budget applied, and with those items of ``others``, without label, that it may use."""
        if self.labelled == 1 and not len(others):
            return split
        notes = list(split.notes)
        drawn = np.ones(len(split.train), dtype=bool)
        if self.labelled < 1:
            drawn = draw_budget(labels[split.train], self.labelled, _rng(seed, "labelled", split.name))
            asked, given = round(self.labelled * len(drawn)), int(drawn.sum())
            if given > asked:
                notes.append(f"labels of {given} training items are used instead of {asked}, to have one of each class")
        apart = self._apart(corpus, split, others)
        if not apart.all():
            notes.append(
                f"{len(apart) - int(apart.sum())} of {len(apart)} items without label are left out: they belong to "
                "speakers, recordings, dialogues or parts of the corpus that validation or test items are from"
            )
        return dataclasses.replace(
            split,
            train=split.train[drawn],
            notes=tuple(notes),
            unlabelled=np.sort(np.concatenate([split.train[~drawn], others[apart]])),
        )

    def _apart(self, corpus: Corpus, split: Split, rows: np.ndarray) -> np.ndarray:
        """Which of the items ``rows`` are from nothing that validation or test items are from, bool ``[rows]``."""
        held_out = np.concatenate([split.validation, split.test])
        apart = np.ones(len(rows), dtype=bool)
        if not len(rows):
            return apart
        for column in dict.fromkeys([*self.keeps_apart, self.divides_by]):
            if column is None or column not in corpus.table:
                continue
            values = corpus.table[column].where(_known(corpus.table[column]))
            held = values.iloc[held_out].dropna()
            if self.mixes_speakers or column == self.divides_by:
                # Training items are from there too, by design or because validation items were carved out of them.
                held = held[~held.isin(values.iloc[split.train].dropna())]
            apart &= ~values.iloc[rows].isin(held).to_numpy()
        return apart

    def _budget(self, corpus: Corpus, splits: Sequence[Split]) -> list[str]:
        """What is labelled in the training parts, in words."""
        known = _labelled(corpus)
        withheld = [int(known[split.unlabelled].sum()) for split in splits]
        without = [int((~known[split.unlabelled]).sum()) for split in splits]
        told = []
        if any(withheld):
            used = [len(split.train) for split in splits]
            everything = [count + hidden for count, hidden in zip(used, withheld, strict=True)]
            told.append(
                f"Labels of {_span(used)} of {_span(everything)} training items are used, drawn evenly from the "
                "classes; the others count as items without label. Validation and test items keep theirs."
            )
        if any(without):
            told.append(f"{_span(without)} items that nobody has labelled may be used in training.")
        return told

    def _turns(self) -> list[str]:
        """Which splits a seed does, in words."""
        if not self.turns:
            return []
        number = "one of the splits" if self.turns == 1 else f"{self.turns} of the splits"
        return [
            f"Each seed does {number}, and the next seed the next. Parts that are drawn by lot are drawn anew by every "
            "seed, so that test items of repetitions may then be the same."
        ]

    def _require(self, corpus: Corpus, column: str) -> pd.Series:
        """The column of the table, complete, as strings."""
        if not _knows(corpus, column):
            raise ProtocolError(
                f"protocol {self.name!r} needs the column {column!r}, which corpus {corpus.name!r} does not "
                "have; add it or use another protocol"
            )
        values = corpus.table[column]
        known = _known(values)
        if not known.all():
            rows = np.flatnonzero(~known)
            raise ProtocolError(
                f"protocol {self.name!r}: {len(rows)} items of corpus {corpus.name!r} have no {column} "
                f"(the first is row {values.index[rows[0]]}); fill the column in or leave those items out"
            )
        return _as_text(values)


def _span(numbers: Sequence[int]) -> str:
    """Numbers in words: the one they all are, or the least and the greatest."""
    least, most = min(numbers), max(numbers)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _as_text(values: pd.Series) -> pd.Series:
    """Whole floats (a column of integers that once had gaps) as integers, all as strings."""
    if pd.api.types.is_float_dtype(values) and (values == values.round()).all():
        values = values.astype(np.int64)
    return values.astype(str)


def _carve(
    corpus: Corpus,
    rows: np.ndarray,
    fraction: float,
    rng: np.random.Generator,
    by: str | None = None,
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Take validation rows out of training rows, by speaker where speakers are known.

    Args:
        corpus: The corpus.
        rows: The rows of the training part.
        fraction: Share of them to take.
        rng: Source of chance.
        by: Column whose values stay together; by default ``speaker``, else ``source``, else ``dialogue``, else
            none.

    Returns:
        Training rows, validation rows, notes.
    """
    labels = _labels(corpus)[rows]
    notes: tuple[str, ...] = ()
    if by is not None and by not in corpus.table:
        raise ProtocolError(f"validation by {by!r}: corpus {corpus.name!r} has no such column")
    for column in [by] if by is not None else _WHOLE:
        if column not in corpus.table or not _known(corpus.table[column].iloc[rows]).all():
            continue
        groups = _as_text(corpus.table[column]).to_numpy()[rows]
        if len(set(groups)) < 2:
            notes = (f"only one training {column}: validation items share it",)
            continue
        drawn = draw_groups(groups, labels, fraction, rng)
        return rows[~drawn], rows[drawn], notes
    drawn = _draw(labels, fraction, rng)
    return rows[~drawn], rows[drawn], notes


def _check_fraction(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ProtocolError(f"{name} is {value}, but must lie between 0 and 1, such as 0.1")


@dataclass(frozen=True, kw_only=True)
class Stratified(Protocol):
    """Stratified random split that mixes speakers, as in Li et al. (2023): 8:2, all speakers on both sides.

    The paper has no validation set; here one is carved out of the training part.

    Args:
        test: Share of all items that is tested.
        validation: Share of the remaining items that chooses the model.
        repeats: Number of independent random splits.
    """

    name: ClassVar[str] = "stratified"
    mixes_speakers: ClassVar[bool | None] = True
    test: float = 0.2
    validation: float = 0.1
    repeats: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_fraction("test", self.test)
        _check_fraction("validation", self.validation)
        if self.repeats < 1:
            raise ProtocolError(f"repeats is {self.repeats}, but must be at least 1")

    @property
    def description(self) -> str:
        """The protocol in words, for a report."""
        number = "One random split" if self.repeats == 1 else f"{self.repeats} independent random splits"
        return (
            f"{number}, stratified by class: {1 - self.test:.0%} of the items for training and "
            f"{self.test:.0%} for testing, with {self.validation:.0%} of the training part held out to "
            "choose the model. Speakers are mixed: the same voices occur in training and in test, so the "
            "result does not tell how well the model does on a new speaker."
        )

    def _divide(self, corpus: Corpus, seed: int) -> list[Split]:
        labels = _labels(corpus)
        rows = np.arange(len(corpus.table))
        splits = []
        for repeat in range(self.repeats):
            rng = _rng(seed, self.name, repeat)
            test = _draw(labels, self.test, rng)
            rest = rows[~test]
            validation = _draw(labels[rest], self.validation, rng)
            splits.append(Split(f"random{repeat}", rest[~validation], rest[validation], rows[test]))
        return splits


def _rotate(
    protocol: Protocol,
    corpus: Corpus,
    groups: Sequence[np.ndarray],
    names: Sequence[str],
    seed: int,
    fraction: float,
    carve: bool = False,
    by: str | None = None,
) -> list[Split]:
    """Every group is the test part once; the next one, cyclically, or a share of the others validates."""
    splits = []
    for index, (test, name) in enumerate(zip(groups, names, strict=True)):
        if len(groups) > 2 and not carve:
            following = (index + 1) % len(groups)
            train = [g for i, g in enumerate(groups) if i not in (index, following)]
            splits.append(Split(name, np.sort(np.concatenate(train)), groups[following], test))
        else:
            rest = np.sort(np.concatenate([g for i, g in enumerate(groups) if i != index]))
            kept, validation, notes = _carve(corpus, rest, fraction, _rng(seed, protocol.name, name), by)
            splits.append(Split(name, kept, validation, test, notes))
    return splits


def _rows_by(values: pd.Series) -> dict[str, np.ndarray]:
    """Rows of every value, in natural order of the values."""
    array = values.to_numpy()
    return {value: np.flatnonzero(array == value) for value in sorted(set(array), key=natural_key)}


def _speakers_in_two(rows: dict[str, np.ndarray], speakers: pd.Series) -> tuple[str, str, str] | None:
    """A speaker and the two groups it is in, or None where every speaker is in one group only."""
    home: dict[str, str] = {}
    for group, members in rows.items():
        for speaker in speakers.iloc[members].unique():
            if speaker in home:
                return str(speaker), home[speaker], group
            home[speaker] = group
    return None


@dataclass(frozen=True, kw_only=True)
class SpeakerIndependent(Protocol):
    """No test speaker is heard in training or validation.

    Args:
        groups: Number of balanced groups of speakers, each of which is the test part once, or ``"loso"``:
            leave one speaker out. By default the corpus' own folds if they keep speakers apart, else five
            groups (fewer where there are fewer speakers).
        use_folds: Whether the column ``fold`` of the corpus, if it keeps speakers apart and has as many
            values as ``groups`` asks for, makes the groups.
        validation: Share of the training part that chooses the model, used with ``"loso"`` and with two
            groups; otherwise the next group, cyclically, chooses the model.
    """

    name: ClassVar[str] = "speaker-independent"
    mixes_speakers: ClassVar[bool | None] = False
    groups: int | Literal["loso"] | None = None
    use_folds: bool = True
    validation: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_fraction("validation", self.validation)
        if isinstance(self.groups, str) and self.groups != "loso":
            raise ProtocolError(f"groups is {self.groups!r}, but must be a number or 'loso'")
        if isinstance(self.groups, int) and self.groups < 2:
            raise ProtocolError(f"groups is {self.groups}, but must be at least 2")

    @property
    def description(self) -> str:
        """The protocol in words, for a report."""
        if self.groups == "loso":
            return (
                f"Leave one speaker out: every speaker is the test part once, about {self.validation:.0%} of "
                "the remaining items, by whole speakers, choose the model and the rest train. No test "
                "speaker is heard in training or validation."
            )
        number = "groups" if self.groups is None else f"{self.groups} groups"
        return (
            f"Speaker-independent cross-validation over {number} of speakers: each group is the test part "
            "once, the next one chooses the model and the others train. No test speaker is heard in "
            "training or validation."
        )

    def _divide(self, corpus: Corpus, seed: int) -> list[Split]:
        speakers = self._require(corpus, "speaker")
        by_speaker = _rows_by(speakers)
        if len(by_speaker) < 2:
            raise ProtocolError(
                f"corpus {corpus.name!r} has one speaker, so none can be left out; use the protocol 'stratified'"
            )
        if self.groups == "loso":
            return self._leave_one_out(corpus, by_speaker)
        folds = self._own_folds(corpus, speakers)
        if folds is not None:
            names = _unique_names(list(folds), "fold")
            return _rotate(self, corpus, list(folds.values()), names, seed, self.validation)
        number = self.groups if self.groups is not None else min(5, len(by_speaker))
        if number > len(by_speaker):
            raise ProtocolError(
                f"corpus {corpus.name!r} has {len(by_speaker)} speakers, too few for {number} groups; "
                f"ask for at most {len(by_speaker)}"
            )
        dealt = balanced_groups(speakers.tolist(), _labels(corpus), number, _rng(seed, self.name, number))
        groups = [np.sort(np.concatenate([by_speaker[s] for s in group])) for group in dealt]
        return _rotate(self, corpus, groups, [f"group{i}" for i in range(number)], seed, self.validation)

    def _own_folds(self, corpus: Corpus, speakers: pd.Series) -> dict[str, np.ndarray] | None:
        if not self.use_folds or "fold" not in corpus.table or not _known(corpus.table["fold"]).all():
            return None
        folds = _rows_by(_as_text(corpus.table["fold"]))
        if len(folds) < 2 or (self.groups is not None and len(folds) != self.groups):
            return None
        return folds if _speakers_in_two(folds, speakers) is None else None

    def _leave_one_out(self, corpus: Corpus, by_speaker: dict[str, np.ndarray]) -> list[Split]:
        speakers = list(by_speaker)
        names = _unique_names(speakers, "speaker-")
        if len(speakers) == 2:
            return _rotate(self, corpus, list(by_speaker.values()), names, 0, self.validation)
        number = min(max(1, round(self.validation * (len(speakers) - 1))), len(speakers) - 2)
        splits = []
        for index, name in enumerate(names):
            turn = speakers[index:] + speakers[:index]  # test, validation ..., train ...
            test, validation, train = (
                np.sort(np.concatenate([by_speaker[s] for s in part]))
                for part in (turn[:1], turn[1 : number + 1], turn[number + 1 :])
            )
            splits.append(Split(name, train, validation, test))
        return splits


@dataclass(frozen=True, kw_only=True)
class DialogueIndependent(Protocol):
    """Whole dialogues are drawn: no turn of a test dialogue is in training or validation, though its speakers may be.

    Args:
        groups: Number of groups of dialogues with similar class counts, each of which is the test part once; the next
            one, cyclically, chooses the model and the others train. By default five, or as many as there are dialogues.
        test: Instead of groups, one split with about this share of the items, in whole dialogues, as its test part;
            another for each seed.
        validation: Share of the training part that chooses the model, in whole dialogues, used with ``test`` and with
            two groups.
    """

    name: ClassVar[str] = "dialogue-independent"
    mixes_speakers: ClassVar[bool | None] = True
    keeps_apart: ClassVar[tuple[str, ...]] = ("source", "dialogue")
    groups: int | None = None
    test: float | None = None
    validation: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_fraction("validation", self.validation)
        if self.test is not None:
            _check_fraction("test", self.test)
        if self.test is not None and self.groups is not None:
            raise ProtocolError("groups and test exclude each other; give the number of groups, or the share of a test")
        if self.groups is not None and self.groups < 2:
            raise ProtocolError(f"groups is {self.groups}, but must be at least 2")

    @property
    def description(self) -> str:
        """The protocol in words, for a report."""
        if self.test is not None:
            return (
                f"One random split by whole dialogues: about {self.test:.0%} of the items are tested, and "
                f"{self.validation:.0%} of the others choose the model. No test dialogue is heard in training or "
                "validation; its speakers may be."
            )
        number = "groups" if self.groups is None else f"{self.groups} groups"
        return (
            f"Cross-validation over {number} of dialogues: each group is the test part once, the next one chooses the "
            "model and the others train. No test dialogue is heard in training or validation; its speakers may be."
        )

    def _divide(self, corpus: Corpus, seed: int) -> list[Split]:
        dialogues = self._require(corpus, "dialogue")
        found = dialogues.nunique()
        number = min(5, found) if self.groups is None else self.groups
        if found < max(2, number):
            raise ProtocolError(
                f"corpus {corpus.name!r} has {found} labelled dialogues, too few; ask for fewer groups, or use "
                "'stratified', which divides dialogues"
            )
        rng = _rng(seed, self.name, number if self.test is None else self.test)
        if self.test is not None:
            tested = draw_groups(dialogues.to_numpy(), _labels(corpus), self.test, rng)
            train, validation, notes = _carve(corpus, np.flatnonzero(~tested), self.validation, rng, "dialogue")
            return [Split("dialogues", train, validation, np.flatnonzero(tested), notes)]
        dealt = balanced_groups(dialogues.tolist(), _labels(corpus), number, rng)
        place = dialogues.map({name: index for index, group in enumerate(dealt) for name in group}).to_numpy()
        groups = [np.flatnonzero(place == index) for index in range(number)]
        names = [f"group{index}" for index in range(number)]
        return _rotate(self, corpus, groups, names, seed, self.validation, by="dialogue")


@dataclass(frozen=True, kw_only=True)
class Session(Protocol):
    """Leave one recording session out: the usual honest protocol on IEMOCAP and MSP-IMPROV.

    Args:
        leave: ``"session"``: the test part is a session, the next one, cyclically, validates, the others
            train (5 folds on IEMOCAP). ``"speaker"``: the test part is one speaker, the other speaker or
            speakers of that session validate, the other sessions train (10 folds on IEMOCAP).
        validation: Share of the training part that chooses the model where there are only two sessions.
    """

    name: ClassVar[str] = "session"
    mixes_speakers: ClassVar[bool | None] = False
    divides_by: ClassVar[str | None] = "session"
    leave: Literal["session", "speaker"] = "session"
    validation: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_fraction("validation", self.validation)
        if self.leave not in ("session", "speaker"):
            raise ProtocolError(f"leave is {self.leave!r}, but must be 'session' or 'speaker'")

    @property
    def description(self) -> str:
        """The protocol in words, for a report."""
        if self.leave == "speaker":
            return (
                "Leave one speaker out: every speaker is the test part once, the other speakers of the same "
                "session choose the model and the other sessions train. No test speaker is heard in "
                "training or validation."
            )
        return (
            "Leave one session out: every session is the test part once, the next session chooses the model "
            "and the others train. No test speaker is heard in training or validation."
        )

    def _divide(self, corpus: Corpus, seed: int) -> list[Split]:
        sessions = _rows_by(self._require(corpus, "session"))
        if len(sessions) < 2:
            raise ProtocolError(
                f"corpus {corpus.name!r} has one session, so none can be left out; use 'speaker-independent'"
            )
        speakers: pd.Series | None = None
        if self.leave == "speaker" or _knows(corpus, "speaker"):
            speakers = self._require(corpus, "speaker")
            twice = _speakers_in_two(sessions, speakers)
            if twice is not None:
                raise ProtocolError(
                    f"speaker {twice[0]!r} is in the sessions {twice[1]!r} and {twice[2]!r}, so leaving a "
                    "session out does not leave its speakers out; use 'speaker-independent'"
                )
        if self.leave == "session" or speakers is None:
            names = _unique_names(list(sessions), "session")
            return _rotate(self, corpus, list(sessions.values()), names, seed, self.validation)
        everyone = np.arange(len(corpus.table))
        tests = [(s, rows) for rows in sessions.values() for s in sorted(set(speakers.iloc[rows]), key=natural_key)]
        splits = []
        for name, (speaker, session) in zip(_unique_names([s for s, _ in tests], "speaker-"), tests, strict=True):
            heard = (speakers.iloc[session] == speaker).to_numpy()
            if heard.all():
                raise ProtocolError(
                    f"speaker {speaker!r} is alone in a session, so nobody is left to validate; use leave='session'"
                )
            splits.append(Split(name, np.setdiff1d(everyone, session), session[~heard], session[heard]))
        return splits


@dataclass(frozen=True, kw_only=True)
class Folds(Protocol):
    """The corpus' own folds (column ``fold``), each of which is the test part once.

    Args:
        validation: ``"next"``: the next fold, cyclically, chooses the model. ``"carve"``: a share of the
            training folds, by speaker where speakers are known, so that more is left to train on. ``"none"``: every
            other fold trains and nothing chooses: the last epoch is tested, with settings fixed beforehand.
        fraction: That share; also used where there are only two folds.
        validation_by: With ``"carve"``, the column whose values stay together; by default ``speaker``, else
            ``source``, else ``dialogue``, else none.
    """

    name: ClassVar[str] = "folds"
    mixes_speakers: ClassVar[bool | None] = None
    divides_by: ClassVar[str | None] = "fold"
    validation: Literal["next", "carve", "none"] = "next"
    fraction: float = 0.1
    validation_by: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_fraction("fraction", self.fraction)
        if self.validation not in ("next", "carve", "none"):
            raise ProtocolError(f"validation is {self.validation!r}, but must be 'next', 'carve' or 'none'")

    @property
    def validates(self) -> bool:
        """Whether the splits have a validation part."""
        return self.validation != "none"

    @property
    def description(self) -> str:
        """The protocol in words, for a report."""
        chooser = {
            "next": "the next fold chooses the model and the others train.",
            "carve": f"{self.fraction:.0%} of the other folds choose the model and the rest train.",
            "none": f"the others train. {_NOTHING_SELECTED}",
        }[self.validation]
        return f"The corpus' own folds: each fold is the test part once, {chooser}"

    def _divide(self, corpus: Corpus, seed: int) -> list[Split]:
        folds = _rows_by(self._require(corpus, "fold"))
        if len(folds) < 2:
            raise ProtocolError(f"corpus {corpus.name!r} has one fold, so none can be left out; use another protocol")
        names = _unique_names(list(folds), "fold")
        if not self.validates:
            everything, nothing = np.arange(len(corpus.table)), np.zeros(0, dtype=np.int64)
            return [
                Split(name, np.setdiff1d(everything, test), nothing, test)
                for name, test in zip(names, folds.values(), strict=True)
            ]
        carve = self.validation == "carve"
        return _rotate(self, corpus, list(folds.values()), names, seed, self.fraction, carve, self.validation_by)


@dataclass(frozen=True, kw_only=True)
class Official(Protocol):
    """The corpus' own split (column ``split``: train, validation, test).

    Args:
        validation: Share of the training part that chooses the model, where the corpus has no validation
            part. With 0 nothing chooses: a published validation part trains too, and the last epoch is tested, with
            settings fixed beforehand.
        validation_by: Column whose values stay together when that share is carved; by default ``speaker``,
            else ``source``, else ``dialogue``, else none.
    """

    name: ClassVar[str] = "official"
    mixes_speakers: ClassVar[bool | None] = None
    divides_by: ClassVar[str | None] = "split"
    validation: float = 0.1
    validation_by: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.validates:
            _check_fraction("validation", self.validation)

    @property
    def validates(self) -> bool:
        """Whether the split has a validation part."""
        return self.validation != 0

    @property
    def description(self) -> str:
        """The protocol in words, for a report."""
        if not self.validates:
            return (
                "The corpus' own split into training and test parts; a published validation part trains too. "
                f"{_NOTHING_SELECTED}"
            )
        whole = "" if self.validation_by is None else f" (by whole values of {self.validation_by})"
        return (
            "The corpus' own split into training, validation and test parts; where it has no validation "
            f"part, {self.validation:.0%} of the training part{whole} is held out to choose the model."
        )

    def _divide(self, corpus: Corpus, seed: int) -> list[Split]:
        rows = _rows_by(self._require(corpus, "split"))
        unknown = sorted(set(rows) - {"train", "validation", "test"})
        if unknown:
            raise ProtocolError(
                f"corpus {corpus.name!r}: split {unknown[0]!r} is not one of train, validation, test; rename it"
            )
        for part in ("train", "test"):
            if part not in rows:
                raise ProtocolError(
                    f"corpus {corpus.name!r} has no {part} part in its column 'split'; use another protocol"
                )
        if not self.validates:
            train = np.sort(np.concatenate([rows[part] for part in ("train", "validation") if part in rows]))
            return [Split("official", train, np.zeros(0, dtype=np.int64), rows["test"])]
        if "validation" in rows:
            return [Split("official", rows["train"], rows["validation"], rows["test"])]
        rng = _rng(seed, self.name)
        train, validation, notes = _carve(corpus, rows["train"], self.validation, rng, self.validation_by)
        return [Split("official", train, validation, rows["test"], notes)]


PROTOCOLS: Registry[Protocol] = Registry(
    "protocol",
    {
        "dialogue-independent": f"{__name__}:DialogueIndependent",
        "stratified": f"{__name__}:Stratified",
        "speaker-independent": f"{__name__}:SpeakerIndependent",
        "session": f"{__name__}:Session",
        "folds": f"{__name__}:Folds",
        "official": f"{__name__}:Official",
    },
)


def create_protocol(name: str, **options: Any) -> Protocol:
    """Make a protocol by name.

    Args:
        name: ``stratified``, ``speaker-independent``, ``dialogue-independent``, ``session``, ``folds`` or
            ``official``.
        **options: The options of that protocol, see its class.

    Raises:
        UnknownNameError: If the name or an option is unknown.
        ProtocolError: If an option has an impossible value.
    """
    return PROTOCOLS.create(name, **options)


def list_protocols(pattern: str = "*") -> list[str]:
    """Names of the protocols that match a shell pattern."""
    return PROTOCOLS.names(pattern)
