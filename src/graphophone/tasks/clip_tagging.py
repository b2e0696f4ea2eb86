"""Any number of labels for a clip, from its spectrogram: which sounds are in this."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MultilabelAUROC, MultilabelAveragePrecision

from graphophone.tasks.base import SupervisedTask
from graphophone.tasks.optimization import Optimization, Schedule, TaskError


class TagCounts(Metric):
    """How many clips have each tag, and how many clips there are, over all batches and processes.

    Args:
        num_classes: Number of tags.
    """

    full_state_update = False
    positives: Tensor
    clips: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.add_state("positives", torch.zeros(num_classes, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("clips", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, target: Tensor) -> None:
        """Count a batch of 0 and 1, ``[clips, classes]``."""
        self.positives += target.sum(dim=0)
        self.clips += len(target)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Clips with each tag ``[classes]``, and without it ``[classes]``."""
        return self.positives, self.clips - self.positives


class ClipTagging(SupervisedTask):
    """Binary cross-entropy of every tag, with mean average precision and mean AUC on validation data.

    Batches are dictionaries of ``x`` ``[clips, frames, mels]``, ``y`` ``[clips, classes]`` (in [0, 1], 1 where a tag is
    given) and ``row`` ``[clips]``. The model takes ``x`` and returns logits ``[clips, classes]``. Logged:
    ``train_loss``, ``validation_loss``, ``validation_map``, ``validation_mauc`` and ``learning_rate``; the means leave
    out the tags that no validation clip has.

    Args:
        model: The network.
        num_classes: Number of tags.
        optimizer: ``"adam"`` (L2 penalty) or ``"adamw"`` (decoupled weight decay).
        learning_rate: Peak learning rate.
        weight_decay: Weight decay; biases, norms and other vectors are spared with ``"adamw"``.
        betas: Decay of the optimiser's running means of the gradient and of its square.
        schedule: ``"constant"``, ``"cosine"``, ``"onecycle"``, over the optimiser steps of the whole training, or
            ``"multistep"``.
        warmup: Share of the steps in which the rate rises.
        warmup_steps: The same as a number of steps, in place of the share.
        milestones: Numbers of epochs done at which ``"multistep"`` lowers the rate.
        gamma: What ``"multistep"`` multiplies it by.
        class_weights: Must be None: tags are balanced by how often their clips are drawn.
        seed: What the randomness of each epoch is derived from.
    """

    kind: ClassVar[Literal["classification", "tagging"]] = "tagging"
    reads: ClassVar[Literal["graph", "spectrogram"]] = "spectrogram"
    monitor: ClassVar[str] = "validation_map"
    monitor_words: ClassVar[str] = "validation mAP"
    curves: tuple[str, ...] = (
        "train_loss",
        "validation_loss",
        "validation_map",
        "validation_mauc",
        "learning_rate",
    )

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        optimizer: Literal["adam", "adamw"] = "adamw",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.05,
        betas: tuple[float, float] = (0.9, 0.999),
        schedule: Schedule = "onecycle",
        warmup: float = 0.0,
        warmup_steps: int = 0,
        milestones: Sequence[int] = (),
        gamma: float = 0.5,
        class_weights: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        if class_weights is not None:
            raise TaskError("clip_tagging has no class weights; use training.balanced in place of class_weights")
        optimization = Optimization(
            optimizer, learning_rate, weight_decay, betas, schedule, warmup, warmup_steps, milestones, gamma
        )
        super().__init__(model, optimization, seed)
        # Both hold all scores of an epoch; the collection lets them share the same ones.
        self.validation_ranking = MetricCollection(
            {
                "ap": MultilabelAveragePrecision(num_classes, average="none"),
                "auc": MultilabelAUROC(num_classes, average="none"),
            }
        )
        self.validation_counts = TagCounts(num_classes)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits ``[clips, classes]`` for a batch of spectrograms."""
        return self.model(batch["x"])

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean binary cross-entropy over clips and tags, both ``[clips, classes]``."""
        return F.binary_cross_entropy_with_logits(logits, target)

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:  # noqa: D102
        loss = self.loss(self(batch), batch["y"])
        self.log_training(loss, len(batch["y"]))
        return loss

    def on_train_epoch_end(self) -> None:  # noqa: D102
        self.log_epoch()

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:  # noqa: D102
        logits = self(batch).float()
        self.validation_loss.update(self.loss(logits, batch["y"]), weight=len(logits))
        target = (batch["y"] > 0.5).long()
        self.validation_ranking.update(logits.sigmoid(), target)
        self.validation_counts.update(target)

    def on_validation_epoch_end(self) -> None:  # noqa: D102
        with warnings.catch_warnings():  # tags without positives or negatives are left out below
            warnings.filterwarnings("ignore", "No (positive|negative) samples")
            found = self.validation_ranking.compute()
        positives, negatives = self.validation_counts.compute()
        self.log("validation_loss", self.validation_loss.compute())
        self.log("validation_map", found["ap"][positives > 0].mean(), prog_bar=True)
        self.log("validation_mauc", found["auc"][(positives > 0) & (negatives > 0)].mean(), prog_bar=True)
        for metric in (self.validation_loss, self.validation_ranking, self.validation_counts):
            metric.reset()

    def predict_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Probability of every tag ``[clips, classes]`` and the ``row`` of each clip in the corpus, ``[clips]``."""
        return {"probabilities": self(batch).float().sigmoid(), "row": batch["row"]}
