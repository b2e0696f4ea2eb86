"""What a network is fed: batches of graphs or of spectrograms, or vectors, made of the features of a corpus."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch.utils.data import DataLoader

from graphophone.corpora.base import Corpus
from graphophone.evaluation.protocols import Split
from graphophone.features import EXTRACTORS, FeaturePipeline, FeatureSet, Standardizer
from graphophone.features.modalities import Modalities
from graphophone.graphs import GraphBuilder, create_graph
from graphophone.graphs.modalities import has_modality, split_modalities
from graphophone.models import MODELS, PretrainedModel
from graphophone.models.attached import content_ids
from graphophone.models.bank import taken
from graphophone.nn.cross_attention import Sequences
from graphophone.recipes import Recipe, RecipeError, without_name
from graphophone.tasks.base import SupervisedTask
from graphophone.tasks.clips import SpectrogramClips, clip_loader
from graphophone.tasks.data import AugmentedFrames, PlainFrames, UtteranceGraphs, graph_loader
from graphophone.tasks.nodes import Nodes, NodeTask, Recordings

HELD_IN_MEMORY = 2 * 2**30  # bytes of features
QUESTIONS = 1024  # recordings that are answered for at once


@dataclass(frozen=True)
class Prepared:
    """What trainings start from.

    Args:
        corpus: The usable items; the others are named in its ``problems``.
        pipeline: How features are made.
        versions: Features of these items: of the recordings as they are, then at each speed of the augmentation.
        speed: Seconds of sound per second of extraction; 0 where the cache had everything.
        sequences: Tokens and frames by modality, where a network attends over them; without items that lack it.
    """

    corpus: Corpus
    pipeline: FeaturePipeline
    versions: tuple[FeatureSet, ...]
    speed: float = 0.0
    sequences: Mapping[str, FeatureSet] = field(default_factory=dict)

    @property
    def features(self) -> FeatureSet:
        """Features of the recordings as they are."""
        return self.versions[0]

    @cached_property
    def vectors(self) -> np.ndarray:
        """Features of recordings that have one vector each, `[items, dims]` float32; read once for all trainings."""
        return np.concatenate([np.asarray(rows, dtype=np.float32) for rows in self.features])


class Input(ABC):
    """How the items of a corpus reach the network, as a recipe says.

    Args:
        recipe: The recipe.
        prepared: Corpus and features.

    Attributes:
        takes_gaps: Whether an item may lack a modality.
        told: Columns of the corpus that a table of predictions has beside its own.

    Raises:
        RecipeError: If an item lacks a modality, and none may; it names the item.
    """

    takes_gaps: ClassVar[bool] = False
    told: ClassVar[tuple[str, ...]] = ("speaker",)

    def __init__(self, recipe: Recipe, prepared: Prepared) -> None:
        self.recipe = recipe
        self.prepared = prepared
        if prepared.pipeline.extractor.reads == "modalities" and not self.takes_gaps:
            lacking = np.flatnonzero(np.isnan(prepared.vectors).any(axis=1))
            if len(lacking):
                raise RecipeError(
                    f"{len(lacking)} items lack a modality, the first {prepared.corpus.table['id'].iloc[lacking[0]]}, "
                    f"and {recipe.model['name']!r} needs all: leave them out, or set model.name to hemogat with "
                    "model.alone true"
                )
        self.graph: GraphBuilder = create_graph(recipe.graph["name"], **without_name(recipe.graph))

    @classmethod
    def check(cls, recipe: Recipe, pipeline: FeaturePipeline) -> None:
        """Refuse features and settings that do not fit what the network reads, before anything is computed."""
        del recipe, pipeline  # whatever gives numbers can be the nodes of a graph

    @staticmethod
    @abstractmethod
    def sizes_of(pipeline: FeaturePipeline) -> dict[str, Any]:
        """Arguments of the network that follow from the features, known before any is computed."""

    @property
    def sizes(self) -> dict[str, Any]:
        """`sizes_of` these features."""
        return self.sizes_of(self.prepared.pipeline)

    @abstractmethod
    def frames(self, row: int) -> np.ndarray:
        """Frames of an item that standardisation is learned from, `[frames, dims]`."""

    def blocks(self, rows: np.ndarray) -> Iterable[np.ndarray]:
        """Frames of the items ``rows`` in blocks, `[frames, dims]` each."""
        return (self.frames(int(row)) for row in rows)

    @abstractmethod
    def loader(
        self, rows: np.ndarray, standardizer: Standardizer, *, seed: int, training: bool = False
    ) -> DataLoader[Any]:
        """Batches of the items ``rows``; in training they are shuffled and changed as the recipe says."""

    def seen(self, split: Split) -> np.ndarray:
        """Rows of the items that training sees, and that standardisation is learned from."""
        return split.train

    def training(self, task: SupervisedTask, split: Split, standardizer: Standardizer, *, seed: int) -> Any:
        """Training batches of a split, for a trainer."""
        return self.loader(split.train, standardizer, seed=seed, training=True)

    def beside(
        self,
        split: Split,
        standardizer: Callable[[np.ndarray], np.ndarray],
        answers: Mapping[str, np.ndarray],
        folder: Path,
        model: PretrainedModel,
    ) -> dict[str, Any]:
        """What a training measures beside its predictions, for its ``metrics.json``; arrays go to files in ``folder``.

        Args:
            split: The items.
            standardizer: What was learned from those that training saw.
            answers: Of the test items, in their order: ``probabilities`` and what else the task gives.
            folder: Of the training.
            model: The network that was trained.
        """
        return {}

    def standardizer(self, rows: np.ndarray) -> Standardizer:
        """What centres and scales: learned from the items ``rows``, or the constants of the recipe."""
        pipeline, settings = self.prepared.pipeline, self.recipe.standardize
        skip = range(pipeline.acoustic_dims, pipeline.dims)  # metadata stays as it is
        if settings.mean is not None and settings.std is not None:
            return Standardizer.constant(settings.mean, settings.std, pipeline.dims, skip=skip, clip=settings.clip)
        return Standardizer.fit(
            self.blocks(rows),
            skip=skip,
            clip=settings.clip,
            pooled=settings.per == "corpus",
            missing=pipeline.extractor.reads == "modalities",
        )


class GraphInput(Input):
    """Every frame is a node; the graph builder of the recipe gives the edges."""

    @staticmethod
    def sizes_of(pipeline: FeaturePipeline) -> dict[str, Any]:
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
    def sizes_of(pipeline: FeaturePipeline) -> dict[str, Any]:
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


class NodeInput(Input):
    """Every recording is a node: a vector of features.

    The task makes the training batches, of training items and of those without label (`Split.unlabelled`).
    """

    @classmethod
    def check(cls, recipe: Recipe, pipeline: FeaturePipeline) -> None:
        """Features must be one vector per recording, and settings such that subgraphs have.

        Raises:
            RecipeError: Naming the key.
        """
        name, training = recipe.model["name"], recipe.training
        if pipeline.extractor.level != "utterance":
            raise RecipeError(
                f"to {name!r} every recording is a node, one vector of features, and features.name "
                f"{pipeline.extractor.name!r} gives frames; set it to {' or '.join(_vector_extractors())}"
            )
        for key, given in (
            ("class_weights", training.class_weights),
            ("balanced", training.balanced),
            ("devices", training.devices > 1),
            ("pretrained", bool(training.pretrained)),
        ):
            if given:
                raise RecipeError(f"training.{key} is not for {name!r}, whose nodes are recordings; leave it out")
        every = recipe.task.get("validate_every", 1)
        if every > training.epochs and (training.patience or training.selection == "best"):
            raise RecipeError(
                f"task.validate_every is {every}, but there are {training.epochs} training.epochs: none would be "
                "validated; lower it, or set training.selection to last and training.patience to 0"
            )

    @staticmethod
    def sizes_of(pipeline: FeaturePipeline) -> dict[str, Any]:
        """The width of the vectors."""
        return {"in_channels": pipeline.dims}

    @property
    def vectors(self) -> np.ndarray:
        """Features of every item, `[items, dims]` float32."""
        return self.prepared.vectors

    def frames(self, row: int) -> np.ndarray:
        """The vector of an item, `[1, dims]`."""
        return self.vectors[row : row + 1]

    def blocks(self, rows: np.ndarray) -> Iterable[np.ndarray]:
        """The vectors, at once."""
        return [self.vectors[rows]]

    def seen(self, split: Split) -> np.ndarray:
        """Training items and those without label."""
        return np.sort(np.concatenate([split.train, split.unlabelled]))

    @cached_property
    def given_edges(self) -> np.ndarray | None:
        """Edges between items that the corpus itself has, ``[2, edges]``."""
        corpus = self.prepared.corpus
        return None if corpus.given is None else corpus.given.edges_among(corpus.table["node"].to_numpy())

    def nodes(self, split: Split, standardizer: Standardizer) -> Nodes:
        """The items as a training of a split may see them."""
        corpus = self.prepared.corpus
        y = np.full(len(corpus), -1, dtype=np.int64)
        known = np.concatenate([split.train, split.validation])
        y[known] = corpus.targets[known]
        edges = self.given_edges
        train, unlabelled, validation = (
            torch.from_numpy(rows) for rows in (split.train, split.unlabelled, split.validation)
        )
        return Nodes(
            x=torch.from_numpy(standardizer(self.vectors)),
            y=torch.from_numpy(y),
            train=train,
            unlabelled=unlabelled,
            validation=validation,
            ids=[str(name) for name in corpus.table["id"]],
            graph=self.graph,
            edge_index=None if edges is None else torch.from_numpy(edges),
            sequences=self.tokens,
        )

    @cached_property
    def tokens(self) -> dict[str, Sequences] | None:
        """Token vectors of all items by modality, where the features have such; an item without: one token of zeros.

        Half precision, so that ten thousand recordings of five seconds take 4 GB of 768 numbers and not 8.
        """
        found = {}
        for name, features in self.prepared.sequences.items():
            arrays = [np.zeros((1, features.dims), dtype=np.float16)] * len(self.prepared.corpus)
            for row, array in zip(features.rows.tolist(), features, strict=True):
                arrays[row] = np.asarray(array, dtype=np.float16)
            lengths = torch.tensor([len(array) for array in arrays])
            found[name] = Sequences(torch.from_numpy(np.concatenate(arrays)), lengths)
        return found or None

    def training(self, task: SupervisedTask, split: Split, standardizer: Standardizer, *, seed: int) -> Any:
        """The batches that the task makes of the training items and of those without label."""
        if not isinstance(task, NodeTask):
            raise RecipeError(f"task {self.recipe.task['name']!r} has no nodes; choose another task.name")
        task.use(self.nodes(split, standardizer))
        return task.train_dataloader()

    def loader(
        self, rows: np.ndarray, standardizer: Standardizer, *, seed: int, training: bool = False
    ) -> DataLoader[Any]:
        """The items ``rows`` as questions, many at a time."""
        return self.questions(rows, standardizer, QUESTIONS)

    def questions(
        self, rows: np.ndarray, standardizer: Callable[[np.ndarray], np.ndarray], size: int
    ) -> DataLoader[Any]:
        """The items ``rows``, ``size`` at a time."""
        x = torch.from_numpy(standardizer(self.vectors[rows]))
        y = torch.from_numpy(self.prepared.corpus.targets[rows])
        row, ids = torch.from_numpy(rows), content_ids(x)
        parts = [slice(begin, begin + size) for begin in range(0, len(rows), size)]
        batches: list[Recordings] = [{"x": x[p], "y": y[p], "row": row[p], "ids": ids[p]} for p in parts]
        if self.tokens is not None:
            batches = [{**batch, "sequences": taken(self.tokens, batch["row"])} for batch in batches]
        return DataLoader(batches, batch_size=None, generator=torch.Generator())  # type: ignore[arg-type]

    def beside(
        self,
        split: Split,
        standardizer: Callable[[np.ndarray], np.ndarray],
        answers: Mapping[str, np.ndarray],
        folder: Path,
        model: PretrainedModel,
    ) -> dict[str, Any]:
        """Controls on the same features and labels; how alike states of nodes are, and how far classes lie apart."""
        from graphophone.evaluation.controls import control_results
        from graphophone.evaluation.embeddings import silhouette

        corpus = self.prepared.corpus
        x, y = standardizer(self.vectors), corpus.targets
        edges = self.given_edges if self.graph.name == "given" else None
        found: dict[str, Any] = {"controls": control_results(x, y, split, corpus.classes, edges)}
        if "mad" in answers:
            found["mad"] = float(answers["mad"].mean())
        if "states" in answers:
            states, label = answers["states"], y[split.test]
            np.savez_compressed(folder / "states.npz", states=states, label=label)
            classes = len(np.unique(label))
            found["silhouette"] = silhouette(states, label) if 2 <= classes < len(label) else None
        return found


class ModalInput(NodeInput):
    """Every utterance is a node: vectors of its modalities side by side, NaN where it lacks one.

    Raises:
        RecipeError: If an item lacks what the network reads.
    """

    takes_gaps: ClassVar[bool] = True

    def __init__(self, recipe: Recipe, prepared: Prepared) -> None:
        super().__init__(recipe, prepared)
        if recipe.model.get("alone"):
            return
        needed = recipe.model.get("modality", "both")
        widths = self.sizes_of(prepared.pipeline)["in_channels"]
        for name, part in split_modalities(torch.from_numpy(self.vectors), widths).items():
            lacking = ~has_modality(part)
            if needed in (name, "both") and lacking.any():
                item = prepared.corpus.table["id"].iloc[int(lacking.nonzero()[0])]
                raise RecipeError(
                    f"{int(lacking.sum())} items lack {name}, the first {item}: set model.alone to true, which trains "
                    "networks of one modality for them, or model.modality to what all items have"
                )

    @staticmethod
    def sizes_of(pipeline: FeaturePipeline) -> dict[str, Any]:
        """The width of the vectors of each modality, and of its tokens where there are such."""
        extractor = pipeline.extractor
        tokens = isinstance(extractor, Modalities) and extractor.sequences
        return {"in_channels": widths_of(pipeline), **({"sequence_channels": widths_of(pipeline)} if tokens else {})}

    def loader(
        self, rows: np.ndarray, standardizer: Standardizer, *, seed: int, training: bool = False
    ) -> DataLoader[Any]:
        """The items ``rows`` as questions; all at once where they are a graph of their own."""
        at_once = self.recipe.task.get("eval_scope", "bank") == "split"
        return self.questions(rows, standardizer, len(rows) if at_once else QUESTIONS)

    def beside(
        self,
        split: Split,
        standardizer: Callable[[np.ndarray], np.ndarray],
        answers: Mapping[str, np.ndarray],
        folder: Path,
        model: PretrainedModel,
    ) -> dict[str, Any]:
        """As for other nodes: controls see what the network reads; what an item lacks is the mean of the training."""
        wanted = self.recipe.model.get("modality", "both")
        widths = self.sizes["in_channels"]
        read = np.concatenate([np.full(width, wanted in ("both", name)) for name, width in widths.items()])

        def seen(x: np.ndarray) -> np.ndarray:
            return np.nan_to_num(standardizer(x)[:, read], nan=0.0)

        return super().beside(split, seen, answers, folder, model)


def _vector_extractors() -> list[str]:
    """Registered extractors that give one vector per recording."""
    signals = [name for name in EXTRACTORS.names() if getattr(EXTRACTORS.get(name), "reads", "") == "signal"]
    return [name for name in signals if EXTRACTORS.create(name).level == "utterance"]


def widths_of(pipeline: FeaturePipeline) -> dict[str, int]:
    """The width of the vectors of each modality; an extractor of one is of text where it reads text, else of audio."""
    extractor = pipeline.extractor
    if isinstance(extractor, Modalities):
        return extractor.widths
    return {"text" if extractor.reads == "text" else "audio": pipeline.dims}


def input_class(recipe: Recipe) -> type[Input]:
    """What feeds networks that read what that of a recipe reads."""
    if recipe.reads == "dialogue":
        from graphophone.dialogue_inputs import DialogueInput  # which is an Input itself

        return DialogueInput
    if recipe.reads == "nodes":
        return ModalInput if getattr(MODELS.get(recipe.model["name"]), "modalities", ()) else NodeInput
    return SpectrogramInput if recipe.reads == "spectrogram" else GraphInput


def make_input(recipe: Recipe, prepared: Prepared) -> Input:
    """How the network of a recipe is fed."""
    return input_class(recipe)(recipe, prepared)
