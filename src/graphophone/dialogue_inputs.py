"""What a network of dialogues is fed: the turns of a corpus, dialogue by dialogue."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from graphophone.dialogues import LONGEST, Dialogues, Turns, arrange
from graphophone.evaluation.protocols import Split
from graphophone.features import FeaturePipeline, Standardizer
from graphophone.features.modalities import Modalities
from graphophone.inputs import Input, widths_of
from graphophone.models import PretrainedModel
from graphophone.models.dialogue import DialogueClassifier
from graphophone.nn.dialogue import DialogueBatch
from graphophone.recipes import Recipe, RecipeError
from graphophone.tasks.data import EpochOrder


class DialogueInput(Input):
    """Every item is a turn; the turns of a dialogue are given together, with those that have no label as context.

    A batch holds ``training.batch_size`` dialogues.
    """

    takes_gaps: ClassVar[bool] = True
    told: ClassVar[tuple[str, ...]] = ("speaker", "dialogue", "position")
    _made: tuple[Callable[[np.ndarray], np.ndarray], Turns] | None = None

    @classmethod
    def check(cls, recipe: Recipe, pipeline: FeaturePipeline) -> None:
        """Features must be one vector per turn and modality.

        Raises:
            RecipeError: Naming the key.
        """
        name, training, extractor = recipe.model["name"], recipe.training, pipeline.extractor
        if extractor.level != "utterance":
            raise RecipeError(
                f"to {name!r} every turn is one vector of each modality, and features.name {extractor.name!r} gives "
                "frames; set it to modalities, whose parts are averaged, or to an extractor of vectors"
            )
        if isinstance(extractor, Modalities) and extractor.sequences:
            raise RecipeError(f"features.sequences is not for {name!r}, which reads one vector per turn; leave it out")
        if training.balanced or training.pretrained:
            key = "balanced" if training.balanced else "pretrained"
            raise RecipeError(f"training.{key} is not for {name!r}, which reads whole dialogues; leave it out")

    @staticmethod
    def sizes_of(pipeline: FeaturePipeline) -> dict[str, Any]:
        """The width of the vectors of each modality."""
        return {"in_channels": widths_of(pipeline)}

    def frames(self, row: int) -> np.ndarray:
        """The vector of a turn, `[1, dims]`."""
        return self.prepared.vectors[row : row + 1]

    def blocks(self, rows: np.ndarray) -> Iterable[np.ndarray]:
        """The vectors, at once."""
        return [self.prepared.vectors[rows]]

    @cached_property
    def dialogues(self) -> Dialogues:
        """The turns of the corpus in their order."""
        found = arrange(self.prepared.corpus.table)
        if found.cut:
            warnings.warn(
                f"{len(found.cut)} dialogues of more than {LONGEST} turns are cut into pieces, the first "
                f"{found.cut[0]}: turns of different pieces do not hear each other",
                stacklevel=2,
            )
        return found

    def seen(self, split: Split) -> np.ndarray:
        """All turns of the training dialogues, labelled or not; protocols keep dialogues whole."""
        return np.sort(np.concatenate(self.dialogues.among(split.train)))

    def loader(
        self, rows: np.ndarray, standardizer: Standardizer, *, seed: int, training: bool = False
    ) -> DataLoader[Any]:
        """Batches of the dialogues that hold any of the turns ``rows``."""
        return self.asking(rows, standardizer, seed=seed, shuffle=training)

    def turns(self, standardizer: Callable[[np.ndarray], np.ndarray]) -> Turns:
        """All turns, standardised; made once for the loaders of a training, which share them."""
        if self._made is None or self._made[0] is not standardizer:
            x = torch.from_numpy(np.asarray(standardizer(self.prepared.vectors), dtype=np.float32))
            self._made = standardizer, Turns.of(x, self.sizes["in_channels"], self.dialogues.speaker)
        return self._made[1]

    def asking(
        self,
        rows: np.ndarray,
        standardizer: Callable[[np.ndarray], np.ndarray],
        *,
        seed: int = 0,
        shuffle: bool = False,
    ) -> DataLoader[Any]:
        """As `loader`, with anything that standardises `[turns, dims]`."""
        corpus = self.prepared.corpus
        asked = torch.zeros(len(corpus), dtype=torch.bool)
        asked[torch.from_numpy(rows)] = True
        data = _Batches(self.turns(standardizer), self.dialogues.among(rows), torch.from_numpy(corpus.targets), asked)
        return DataLoader(
            data,
            batch_size=self.recipe.training.batch_size,
            sampler=EpochOrder(len(data), shuffle=shuffle, seed=seed),
            collate_fn=data.collate,
            num_workers=self.recipe.training.loader_workers,
            generator=torch.Generator(),  # a loader of its own takes nothing from the randomness of dropout
        )

    def beside(
        self,
        split: Split,
        standardizer: Callable[[np.ndarray], np.ndarray],
        answers: Mapping[str, np.ndarray],
        folder: Path,
        model: PretrainedModel,
    ) -> dict[str, Any]:
        """What else is measured: with fewer modalities and turn by turn; one conversation to draw; and controls.

        Controls see the same vectors of single turns, the mean of the training for what a turn lacks.
        """
        from graphophone.evaluation.controls import control_results
        from graphophone.evaluation.dialogues import dialogue_findings

        corpus = self.prepared.corpus
        x = np.nan_to_num(standardizer(self.prepared.vectors), nan=0.0)
        controls = control_results(x, corpus.targets, split, corpus.classes, None)
        network, batches = cast(DialogueClassifier, model), self.asking(split.test, standardizer)
        return {
            "controls": controls,
            **dialogue_findings(network, batches, corpus.table, corpus.classes, folder),
        }


class _Batches(Dataset):
    """Dialogues by number; keys are ``(epoch, number)``, as :class:`~graphophone.tasks.data.EpochOrder` gives them."""

    def __init__(self, turns: Turns, dialogues: list[np.ndarray], y: Tensor, asked: Tensor) -> None:
        self.turns = turns
        self.dialogues = dialogues
        self.y = y
        self.asked = asked

    def __len__(self) -> int:
        return len(self.dialogues)

    def __getitem__(self, key: tuple[int, int]) -> np.ndarray:
        return self.dialogues[key[1]]

    def collate(self, dialogues: list[np.ndarray]) -> DialogueBatch:
        """One batch."""
        return self.turns.batch(dialogues, self.y, self.asked)
