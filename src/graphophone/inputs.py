"""What a network is fed: batches of graphs or of spectrograms, made of the features of a corpus."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from graphophone.corpora.base import Corpus
from graphophone.features import FeaturePipeline, FeatureSet, Standardizer
from graphophone.graphs import GraphBuilder, create_graph
from graphophone.models import MODELS
from graphophone.recipes import Recipe, RecipeError, without_name
from graphophone.tasks.clips import SpectrogramClips, clip_loader
from graphophone.tasks.data import AugmentedFrames, PlainFrames, UtteranceGraphs, graph_loader

HELD_IN_MEMORY = 2 * 2**30  # bytes of features


@dataclass(frozen=True)
class Prepared:
    """What trainings start from.

    Args:
        corpus: The usable items; the others are named in its ``problems``.
        pipeline: How features are made.
        versions: Features of these items: of the recordings as they are, then at each speed of the augmentation.
        speed: Seconds of sound per second of extraction; 0 where the cache had everything.
    """

    corpus: Corpus
    pipeline: FeaturePipeline
    versions: tuple[FeatureSet, ...]
    speed: float = 0.0

    @property
    def features(self) -> FeatureSet:
        """Features of the recordings as they are."""
        return self.versions[0]


class Input(ABC):
    """How the items of a corpus reach the network, as a recipe says.

    Args:
        recipe: The recipe.
        prepared: Corpus and features.
    """

    def __init__(self, recipe: Recipe, prepared: Prepared) -> None:
        self.recipe = recipe
        self.prepared = prepared
        self.graph: GraphBuilder = create_graph(recipe.graph["name"], **without_name(recipe.graph))

    @classmethod
    def check(cls, recipe: Recipe, pipeline: FeaturePipeline) -> None:
        """Refuse features and settings that do not fit what the network reads, before anything is computed."""
        del recipe, pipeline  # whatever gives numbers can be the nodes of a graph

    @staticmethod
    @abstractmethod
    def sizes_of(pipeline: FeaturePipeline) -> dict[str, int]:
        """Arguments of the network that follow from the features, known before any is computed."""

    @property
    def sizes(self) -> dict[str, int]:
        """`sizes_of` these features."""
        return self.sizes_of(self.prepared.pipeline)

    @abstractmethod
    def frames(self, row: int) -> np.ndarray:
        """Frames of an item that standardisation is learned from, `[frames, dims]`."""

    @abstractmethod
    def loader(
        self, rows: np.ndarray, standardizer: Standardizer, *, seed: int, training: bool = False
    ) -> DataLoader[Any]:
        """Batches of the items ``rows``; in training they are shuffled and changed as the recipe says."""

    def standardizer(self, rows: np.ndarray) -> Standardizer:
        """What centres and scales: learned from the items ``rows``, or the constants of the recipe."""
        pipeline, settings = self.prepared.pipeline, self.recipe.standardize
        skip = range(pipeline.acoustic_dims, pipeline.dims)  # metadata stays as it is
        if settings.mean is not None and settings.std is not None:
            return Standardizer.constant(settings.mean, settings.std, pipeline.dims, skip=skip, clip=settings.clip)
        frames = (self.frames(int(row)) for row in rows)
        return Standardizer.fit(frames, skip=skip, clip=settings.clip, pooled=settings.per == "corpus")


class GraphInput(Input):
    """Every frame is a node; the graph builder of the recipe gives the edges."""

    @staticmethod
    def sizes_of(pipeline: FeaturePipeline) -> dict[str, int]:
        """The width of the node features."""
        return {"in_channels": pipeline.dims}

    @cached_property
    def _arrays(self) -> Sequence[np.ndarray]:
        """Features of every item; where memory allows decimated once, and not in every epoch."""
        features = self.prepared.features
        return list(features) if features.lengths.sum() * features.dims * 4 < HELD_IN_MEMORY else features

    def frames(self, row: int) -> np.ndarray:
        """Frames of an item, decimated, `[frames, dims]`."""
        return self._arrays[row]

    def loader(
        self, rows: np.ndarray, standardizer: Standardizer, *, seed: int, training: bool = False
    ) -> DataLoader[Any]:
        """Batches of graphs."""
        recipe, prepared = self.recipe, self.prepared
        frames: Any = PlainFrames(self._arrays, standardizer)
        if training and recipe.augment.active:
            frames = AugmentedFrames(prepared.versions, standardizer, recipe.augment)
        return graph_loader(
            UtteranceGraphs(frames, prepared.corpus.targets, rows, seed),
            self.graph,
            batch_size=recipe.training.batch_size,
            shuffle=training,
            balanced=training and recipe.training.balanced,
            seed=seed,
            workers=recipe.training.loader_workers,
        )


class SpectrogramInput(Input):
    """Every clip is a spectrogram of the same size; the network makes its graph itself.

    Raises:
        RecipeError: As `check`, or if the recipe gives no number of frames; it names what was measured.
    """

    def __init__(self, recipe: Recipe, prepared: Prepared) -> None:
        super().__init__(recipe, prepared)
        self.check(recipe, prepared.pipeline)
        name, lengths = recipe.model["name"], prepared.features.unpadded_lengths
        if not prepared.pipeline.frames:
            raise RecipeError(
                f"features.frames is 0, but {name!r} reads spectrograms of one size: set it, such as to "
                f"{int(lengths.max())}, the longest recording (the median has {int(np.median(lengths))} frames)"
            )

    @classmethod
    def check(cls, recipe: Recipe, pipeline: FeaturePipeline) -> None:
        """Columns must be bands, augmentations of natural logarithms have such, a batch suffice for its statistics.

        Raises:
            RecipeError: Naming the key.
        """
        name, augment = recipe.model["name"], recipe.augment
        if pipeline.dims != pipeline.extractor.dims or pipeline.hop is None:
            raise RecipeError(
                f"{name!r} reads spectrograms: features.name must give frames, and features.relative and "
                "features.metadata add columns that are no bands; leave them out"
            )
        if pipeline.extractor.name != "fbank" and (augment.gain or augment.mixes_power):
            raise RecipeError(
                f"augment.gain and augment.mixup_domain 'power' change natural logarithms of energies, which 'fbank' "
                f"gives and {pipeline.extractor.name!r} does not: set augment.gain to 0 and augment.mixup_domain to "
                "waveform"
            )
        if recipe.training.batch_size < 2 and getattr(MODELS.get(name), "batch_norm", False):
            raise RecipeError(
                f"training.batch_size is 1, but {name!r} normalises over the clips of a batch; set it to 2 or more"
            )

    @staticmethod
    def sizes_of(pipeline: FeaturePipeline) -> dict[str, int]:
        """Bands and frames of a spectrogram."""
        return {"num_mel_bins": pipeline.dims, "frames": pipeline.frames}

    def frames(self, row: int) -> np.ndarray:
        """Frames of an item without padding, `[frames, mels]`."""
        return self.prepared.features.unpadded(row)

    def loader(
        self, rows: np.ndarray, standardizer: Standardizer, *, seed: int, training: bool = False
    ) -> DataLoader[Any]:
        """Batches of spectrograms."""
        recipe, prepared = self.recipe, self.prepared
        corpus = prepared.corpus
        augmentation = recipe.augment if training and recipe.augment.active else None
        # Of two million items with 527 tags, zeros and ones take 50 MB where they are sparse and 8 GB where not.
        targets = corpus.memberships if corpus.multi_label else corpus.targets
        return clip_loader(
            SpectrogramClips(prepared.versions, corpus, targets, rows, standardizer, augmentation, seed),
            batch_size=recipe.training.batch_size,
            shuffle=training,
            balanced=training and recipe.training.balanced,
            seed=seed,
            workers=recipe.training.loader_workers,
        )


def input_class(recipe: Recipe) -> type[Input]:
    """What feeds networks that read what that of a recipe reads."""
    return SpectrogramInput if recipe.reads == "spectrogram" else GraphInput


def make_input(recipe: Recipe, prepared: Prepared) -> Input:
    """How the network of a recipe is fed."""
    return input_class(recipe)(recipe, prepared)
