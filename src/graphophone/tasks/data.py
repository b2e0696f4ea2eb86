"""From feature arrays to batches of graphs, the same on every run of a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from scipy.sparse import csr_array
from torch.utils.data import DataLoader, Dataset, Sampler
from torch_geometric.data import Batch, Data

from graphophone.features import FeatureSet
from graphophone.features.augment import FrameAugmentation

Frames = Callable[[int, np.random.Generator], np.ndarray]


class PlainFrames:
    """Standardised frames of an item, always the same: for validation, test and unchanged training data.

    Args:
        arrays: Features of every item of the corpus, each ``[frames, dims]``.
        standardizer: Maps ``[frames, dims]`` to the same shape.
    """

    def __init__(self, arrays: Sequence[np.ndarray], standardizer: Callable[[np.ndarray], np.ndarray]) -> None:
        self.arrays = arrays
        self.standardizer = standardizer

    def __call__(self, row: int, rng: np.random.Generator) -> np.ndarray:
        """Frames ``[frames, dims]`` of a row of the corpus; ``rng`` is not used."""
        return self.standardizer(self.arrays[row])


class AugmentedFrames:
    """Standardised frames of an item, changed anew at each call.

    Args:
        versions: Features of every item of the corpus: the recordings as they are, then at each speed.
        standardizer: Maps ``[frames, dims]`` to the same shape.
        augmentation: What is changed.
    """

    def __init__(
        self,
        versions: Sequence[FeatureSet],
        standardizer: Callable[[np.ndarray], np.ndarray],
        augmentation: FrameAugmentation,
    ) -> None:
        self.versions = versions
        self.standardizer = standardizer
        self.augmentation = augmentation

    def __call__(self, row: int, rng: np.random.Generator) -> np.ndarray:
        """Frames ``[frames, dims]`` of a row of the corpus, changed as ``rng`` draws."""
        change = self.augmentation
        version = self.versions[change.draw_speed(rng)]
        pipeline, raw = version.pipeline, version.raw(row)
        window, phase = None, 0.0
        if raw.ndim == 2:  # frames, not one vector of the whole utterance
            raw = raw[change.draw_crop(len(raw), rng)]
            if change.tempo or change.phase:
                window, phase = change.draw_window(pipeline.decimate, rng)
        frames = np.array(self.standardizer(pipeline.finish(raw, version.metadata(row), window=window, phase=phase)))
        acoustic = slice(0, pipeline.acoustic_dims)  # what is known of an utterance beside its sound stays as it is
        frames[:, acoustic] = change(frames[:, acoustic], rng)
        return frames


class UtteranceGraphs(Dataset):
    """Utterances as node features, read when they are asked for.

    Keys are ``(epoch, position)``: what is random about an item is drawn from ``(seed, epoch, row)`` and from nothing
    else, so it is the same in whichever order, process or resumed training it is made.

    Args:
        frames: Gives the standardised frames ``[frames, dims]`` of a row of the corpus.
        targets: Class of every item of the corpus, ``[items]``.
        rows: Which items this data set holds, ``[n]``.
        seed: See above.
    """

    def __init__(self, frames: Frames, targets: np.ndarray, rows: np.ndarray, seed: int = 0) -> None:
        self.frames = frames
        self.targets = targets
        self.rows = rows
        self.seed = seed

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> Data:
        epoch, position = key
        row = int(self.rows[position])
        frames = self.frames(row, np.random.default_rng((self.seed, epoch, row)))
        return Data(
            x=torch.from_numpy(np.ascontiguousarray(frames, dtype=np.float32)),
            y=torch.tensor([self.targets[row]]),
            row=torch.tensor([row]),
        )


def balanced_weights(targets: np.ndarray | csr_array) -> np.ndarray:
    """Chance of each item to be drawn, so that every class is drawn about equally often.

    With one class per item the chance is the inverse of the size of the class. With several it is proportional to the
    sum of ``1000 / (count + 0.01)`` over the labels of the item (Y. Gong, Y.-A. Chung, J. Glass, "PSLA", 2021,
    https://arxiv.org/abs/2102.01243), which favours items of rare classes but leaves frequent companions frequent;
    an item without a label is never drawn.

    Args:
        targets: ``[items]`` classes, or ``[items, classes]`` of 0 and 1, dense or sparse.

    Returns:
        ``[items]`` float64 with the sum 1.

    Raises:
        ValueError: If no item has a label.
    """
    if not isinstance(targets, csr_array) and targets.ndim == 1:
        weights = 1.0 / np.bincount(targets)[targets]
    else:
        weights = targets @ (1000.0 / (targets.sum(axis=0) + 0.01))
    if not weights.sum() > 0:
        raise ValueError("a balanced order needs items with labels")
    return weights / weights.sum()


class EpochOrder(Sampler[tuple[int, ...]]):
    """Keys for :class:`UtteranceGraphs`, in an order that only the seed and the epoch decide.

    Args:
        size: Number of items.
        shuffle: New order in every epoch.
        balanced: Draw every class about equally often (:func:`balanced_weights`), with replacement, in place of every
            item once; needs ``targets``.
        targets: Class of each item, ``[size]``, or 0 and 1, ``[size, classes]``.
        seed: What the order is derived from.
        count_repeats: Where an item comes again in an epoch, add to its key how often it came before, so that it can
            be changed in another way.
    """

    def __init__(
        self,
        size: int,
        *,
        shuffle: bool = False,
        balanced: bool = False,
        targets: np.ndarray | csr_array | None = None,
        seed: int = 0,
        count_repeats: bool = False,
    ) -> None:
        self.size = size
        self.shuffle = shuffle
        self.seed = seed
        self.count_repeats = count_repeats
        self.epoch = 0
        self.weights: np.ndarray | None = None
        if balanced:
            if targets is None:
                raise ValueError("a balanced order needs the targets")
            self.weights = balanced_weights(targets)

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        if self.weights is not None:
            order = rng.choice(self.size, self.size, p=self.weights)
        elif self.shuffle:
            order = rng.permutation(self.size)
        else:
            order = np.arange(self.size)
        if self.count_repeats:
            keys = zip(order.tolist(), occurrences(order).tolist(), strict=True)
            return ((self.epoch, position, *([before] if before else [])) for position, before in keys)
        return ((self.epoch, position) for position in order.tolist())


def occurrences(values: np.ndarray) -> np.ndarray:
    """How often each value came before in the array, ``[n]`` int64 for ``[n]`` whole numbers."""
    sorting = np.argsort(values, kind="stable")
    ordered = values[sorting]
    places = np.arange(len(values))
    first = np.maximum.accumulate(np.where(np.diff(ordered, prepend=ordered[:1] - 1) != 0, places, 0))
    result = np.empty(len(values), dtype=np.int64)
    result[sorting] = places - first
    return result


class Collate:
    """Joins utterances to one batch and lets the graph builder add the edges.

    The edges are built on the batch as a whole, after augmentation, so that they always fit the frames that the
    network sees.
    """

    def __init__(self, graph: Callable[[Batch], Batch]) -> None:
        self.graph = graph

    def __call__(self, items: list[Data]) -> Batch:
        """One batch with ``x``, ``edge_index``, ``batch``, ``y`` and ``row``."""
        return self.graph(Batch.from_data_list(items))


def graph_loader(
    dataset: UtteranceGraphs,
    graph: Callable[[Batch], Batch],
    *,
    batch_size: int,
    shuffle: bool = False,
    balanced: bool = False,
    seed: int = 0,
    workers: int = 0,
) -> DataLoader:
    """A loader of graph batches.

    Args:
        dataset: The utterances.
        graph: Builder that adds ``edge_index`` to a batch.
        batch_size: Utterances per batch.
        shuffle: New order in every epoch.
        balanced: Every class equally often.
        seed: What the order is derived from.
        workers: Loader processes; 0 builds the batches in the training process, which is best on few cores.
    """
    order = EpochOrder(
        len(dataset), shuffle=shuffle, balanced=balanced, targets=dataset.targets[dataset.rows], seed=seed
    )
    return DataLoader(
        dataset,
        batch_size,
        sampler=order,
        collate_fn=Collate(graph),
        num_workers=workers,
        generator=torch.Generator(),  # a loader of its own takes nothing from the randomness of dropout
    )
