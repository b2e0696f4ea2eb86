"""From log-mel frames to batches for networks that read spectrograms, the same on every run of a seed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from graphophone import audio
from graphophone.corpora.base import Corpus
from graphophone.features import FeatureError, FeatureSet, Standardizer
from graphophone.features.pipeline import audio_items
from graphophone.features.spectrogram_augment import SpectrogramAugmentation, mix_power, mix_signals
from graphophone.tasks.data import EpochOrder


class SpectrogramClips(Dataset):
    """Clips as standardised spectrograms of one size, read when they are asked for.

    Keys are ``(epoch, position)``: what is random about a clip is drawn from ``(seed, epoch, row)`` and from nothing
    else, so it is the same in whichever order, process or resumed training it is made. A third entry of a key tells
    apart the draws of a clip that comes more than once in an epoch.

    Items are ``{"x": [frames, mels] float32, "y": [classes] float32, "row": int}``. ``y`` is one-hot or multi-hot, or
    the mixture of two such with entries of at most 1.

    Args:
        versions: Features of every item of the corpus: the recordings as they are, then at each speed of the
            augmentation. Their pipeline gives a fixed number of frames and no columns beside the extractor's.
        corpus: The items. The recordings of two that are mixed in the waveform domain are read, within their ``start``
            and ``end``; otherwise none is.
        targets: Class of every item of the corpus, `[items]`, or 0 and 1, `[items, classes]`; sparse
            (``corpus.memberships``) for a large corpus of tags.
        rows: Which items this data set holds, `[n]`; partners of a mixture are drawn from these.
        standardizer: Maps `[frames, mels]` to the same shape.
        augmentation: What is changed; None for validation and test.
        seed: See above.

    Raises:
        FeatureError: If the features have no fixed number of frames, or other columns than the extractor's.
        ValueError: If the versions fit neither the augmentation's speeds nor the corpus.
    """

    def __init__(
        self,
        versions: Sequence[FeatureSet],
        corpus: Corpus,
        targets: np.ndarray | csr_array,
        rows: np.ndarray,
        standardizer: Standardizer,
        augmentation: SpectrogramAugmentation | None = None,
        seed: int = 0,
    ) -> None:
        pipeline = versions[0].pipeline
        if pipeline.frames == 0:
            raise FeatureError("features.frames is 0, but clips of one batch have equally many frames: set it")
        if pipeline.dims != pipeline.extractor.dims:
            raise FeatureError("spectrograms take neither features.relative nor features.metadata: leave them out")
        if augmentation is not None and len(versions) != 1 + len(augmentation.speeds):
            raise ValueError(f"{len(versions)} versions for {len(augmentation.speeds)} speeds and the original")
        if any(len(version) != len(corpus) for version in versions):
            raise ValueError("every item of the corpus needs features in every version; leave out those that failed")
        self.versions = versions
        self.targets = targets
        self.classes = len(corpus.classes)
        self.rows = rows
        self.standardizer = standardizer
        self.augmentation = augmentation
        self.seed = seed
        reads = augmentation is not None and augmentation.mixup_probability > 0 and augmentation.mixup_domain != "power"
        self._recordings = audio_items(corpus) if reads else []

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, ...]) -> dict[str, Any]:
        epoch, position, *repeat = key
        row = int(self.rows[position])
        target = self.target(row)
        if self.augmentation is None:
            frames = self.versions[0][row]
        else:
            rng = np.random.default_rng((self.seed, epoch, row, *repeat))
            frames, target = self._changed(self.augmentation, row, target, rng)
        return {"x": torch.from_numpy(self.standardizer(frames)), "y": torch.from_numpy(target), "row": row}

    def target(self, row: int) -> np.ndarray:
        """Target of a row of the corpus without mixup, `[classes]` float32."""
        target = np.zeros(self.classes, dtype=np.float32)
        if isinstance(self.targets, csr_array):
            target[self.targets.indices[self.targets.indptr[row] : self.targets.indptr[row + 1]]] = 1
        elif self.targets.ndim == 2:
            target[:] = self.targets[row]
        else:
            target[self.targets[row]] = 1
        return target

    def _changed(
        self, change: SpectrogramAugmentation, row: int, target: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Frames of a fixed number, before standardisation, and their target."""
        version = self.versions[change.draw_speed(rng)]
        pipeline = version.pipeline
        mixup = change.draw_mixup(len(self.rows), rng)
        if mixup is None:
            raw = version.raw(row)
        else:
            partner, share = int(self.rows[mixup[0]]), mixup[1]
            target = np.minimum(share * target + (1 - share) * self.target(partner), 1).astype(np.float32)
            if change.mixup_domain == "power":
                raw = mix_power(version.raw(row), version.raw(partner), share)
            else:
                mixed = mix_signals(self._signal(row, pipeline.rate), self._signal(partner, pipeline.rate), share)
                raw = pipeline.extractor(mixed, pipeline.rate)
        frames = pipeline.finish(raw, version.metadata(row), fit=False)
        frames = pipeline.fit(change.change(frames, pipeline.frames, rng))
        fill = self.standardizer.mean if isinstance(change.mask_value, str) else change.mask_value
        return change.mask(frames, fill, rng), target

    def _signal(self, row: int, rate: int) -> np.ndarray:
        """The recording of a row of the corpus, `[samples]`."""
        item = self._recordings[row]
        with warnings.catch_warnings():
            # Silence and clipping were noted at extraction; a line per clip and epoch would drown all else.
            warnings.simplefilter("ignore", audio.AudioWarning)
            return audio.load(item.path, rate=rate, start=item.start, end=item.end).signal


class TrainingBatches(BatchSampler):
    """Batches of keys of which none has a single item, which batch normalisation cannot learn from.

    A last batch of one item joins the batch before it; all items come. A batch size of 1 is taken at its word.

    Args:
        sampler: Gives the keys.
        batch_size: Items per batch.
        drop_last: Leave out a last batch that is not full.
    """

    def __iter__(self) -> Iterator[list[Any]]:
        before: list[Any] | None = None
        for batch in super().__iter__():
            if before is not None:
                if len(batch) == 1 < self.batch_size:
                    before += batch
                    batch = []
                yield before
            before = batch
        if before:
            yield before

    def __len__(self) -> int:
        batches = super().__len__()
        alone = not self.drop_last and len(self.sampler) % self.batch_size == 1  # type: ignore[arg-type]
        return batches - 1 if alone and batches > 1 and self.batch_size > 1 else batches


def clip_loader(
    dataset: SpectrogramClips,
    *,
    batch_size: int,
    shuffle: bool = False,
    balanced: bool = False,
    seed: int = 0,
    workers: int = 0,
) -> DataLoader:
    """A loader of batches ``{"x": [batch, frames, mels], "y": [batch, classes], "row": [batch]}``.

    Args:
        dataset: The clips.
        batch_size: Clips per batch. In training (``shuffle`` or ``balanced``) a last batch of one joins the one before.
        shuffle: New order in every epoch.
        balanced: Every class about equally often, with replacement (:class:`~graphophone.tasks.data.EpochOrder`).
        seed: What the order is derived from.
        workers: Loader processes; 0 builds the batches in the training process, which is best on few cores.
    """
    training = shuffle or balanced
    order: Sampler = EpochOrder(
        len(dataset),
        shuffle=shuffle,
        balanced=balanced,
        targets=dataset.targets[dataset.rows],
        seed=seed,
        count_repeats=True,
    )
    batches: dict[str, Any] = (
        {"batch_sampler": TrainingBatches(order, batch_size, drop_last=False)}
        if training
        else {"sampler": order, "batch_size": batch_size}
    )
    return DataLoader(
        dataset,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=training and workers > 0,
        generator=torch.Generator(),  # a loader of its own takes nothing from the randomness of dropout
        **batches,
    )
