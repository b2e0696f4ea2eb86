"""Emotion in conversation: the class of every turn of a dialogue, with the auxiliary losses of its graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassConfusionMatrix

from graphophone.models.dialogue import DialogueClassifier
from graphophone.nn.dialogue import DialogueBatch
from graphophone.tasks.base import SupervisedTask, choice, unweighted_accuracy, weighted_accuracy, weighted_f1
from graphophone.tasks.optimization import Optimization, Schedule, TaskError


def link_factor(epoch: int, epochs: int) -> float:
    """Share of its weight that the loss on initial edges has in an epoch: 1 in the first, 0 from ``epochs`` on.

    Args:
        epoch: Counted from 0.
        epochs: Length of the fall along a line.
    """
    return max((epochs - epoch) / epochs, 0.0) if epochs else 0.0


def drop_modalities(batch: DialogueBatch, probability: float) -> DialogueBatch:
    """Take modalities away from some dialogues, at least one stays; every choice of them is equally likely.

    Args:
        batch: The dialogues.
        probability: Of a dialogue to lose any.
    """
    number = len(batch.modalities)
    if not probability or number < 2:
        return batch
    device = batch.mask.device
    kept = torch.randint(1, 2**number - 1, (len(batch), 1), device=device)  # without "all" and "none"
    keep = (kept >> torch.arange(number, device=device)) & 1 == 1
    keep |= torch.rand(len(batch), 1, device=device) >= probability
    return batch.keeping(keep[..., None])


class DialogueClassification(SupervisedTask):
    """Learn the class of every turn that has one; turns without are context (RIGSL, Xiong et al., 2025).

    The loss of a batch of dialogues is

        L = L_cls + penalty_weight * penalty - link_weight * link_factor(epoch) * link,

    the penalty being that of open edge gates and the link term the attention on the initial edges, where the network
    has such. ``L_cls`` over the turns with a class is the cross-entropy, weighted by class as ``sum w nll / sum w``, or
    the focal loss ``mean w (1 - p)^focal_gamma nll`` with the factor as a constant, as published for MELD.

    Batches are :class:`~graphophone.nn.dialogue.DialogueBatch`. Logged in every epoch: ``train_loss``,
    ``train_classification``, the auxiliary terms by name (``train_penalty``, ``train_link``), ``validation_loss``,
    ``validation_weighted_f1``, ``validation_ua``, ``validation_wa``, ``validation_choice`` (weighted F1; of equal
    ones, the lower loss) and ``learning_rate``.

    Args:
        model: The network.
        num_classes: Number of classes.
        optimizer: ``"adam"`` (L2 penalty, as published) or ``"adamw"``.
        learning_rate: Peak learning rate.
        weight_decay: Weight decay.
        betas: Decay of the optimiser's running means.
        schedule: Course of the learning rate.
        warmup: Share of the steps in which it rises.
        loss: ``"cross_entropy"`` or ``"focal"``.
        focal_gamma: Exponent of the focal loss.
        label_smoothing: Share of the target spread evenly over all classes, in [0, 1), with cross-entropy.
        penalty_weight: Of the penalty of open gates.
        link_weight: Of the loss on initial edges, at the start.
        link_epochs: Epochs in which it falls to nothing.
        feature_dropout: Share of the numbers of every vector that are zeroed in training, the rest scaled up.
        modality_dropout: Probability that a dialogue loses some of its modalities in training, so that one network
            serves any subset of them.
        class_weights: One factor per class, or None.
        seed: What the randomness of each epoch is derived from.

    Raises:
        TaskError: Naming the setting that makes no sense.
    """

    kind: ClassVar[Literal["classification", "tagging"]] = "classification"
    reads: ClassVar[Literal["graph", "spectrogram", "nodes", "dialogue"]] = "dialogue"
    monitor: ClassVar[str] = "validation_choice"
    monitor_words: ClassVar[str] = "validation weighted F1"

    model: DialogueClassifier

    def __init__(
        self,
        model: DialogueClassifier,
        num_classes: int,
        optimizer: Literal["adam", "adamw"] = "adam",
        learning_rate: float = 1e-4,
        weight_decay: float = 3e-5,
        betas: tuple[float, float] = (0.9, 0.999),
        schedule: Schedule = "constant",
        warmup: float = 0.0,
        loss: Literal["cross_entropy", "focal"] = "cross_entropy",
        focal_gamma: float = 0.5,
        label_smoothing: float = 0.0,
        penalty_weight: float = 0.0005,
        link_weight: float = 0.1,
        link_epochs: int = 15,
        feature_dropout: float = 0.0,
        modality_dropout: float = 0.0,
        class_weights: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        if not isinstance(model, DialogueClassifier):
            raise TaskError("task dialogue_classification trains networks of dialogues; choose another task.name")
        if focal_gamma < 0:
            raise TaskError(f"task.focal_gamma must not be negative, not {focal_gamma}")
        if not 0 <= label_smoothing < 1:
            raise TaskError(f"task.label_smoothing must lie in [0, 1), not {label_smoothing}")
        if loss == "focal" and label_smoothing:
            raise TaskError("task.label_smoothing is for cross_entropy; set it to 0 with task.loss focal")
        if penalty_weight < 0 or link_weight < 0 or link_epochs < 0:
            raise TaskError(
                f"task.penalty_weight, task.link_weight and task.link_epochs must not be negative, not "
                f"{penalty_weight}, {link_weight} and {link_epochs}"
            )
        if not 0 <= modality_dropout <= 1:
            raise TaskError(f"task.modality_dropout must lie in [0, 1], not {modality_dropout}")
        if not 0 <= feature_dropout < 1:
            raise TaskError(f"task.feature_dropout must lie in [0, 1), not {feature_dropout}")
        super().__init__(model, Optimization(optimizer, learning_rate, weight_decay, betas, schedule, warmup), seed)
        self.loss = loss
        self.focal_gamma = focal_gamma
        self.label_smoothing = label_smoothing
        self.penalty_weight = penalty_weight
        self.link_weight = link_weight
        self.link_epochs = link_epochs
        self.feature_dropout = feature_dropout
        self.modality_dropout = modality_dropout
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weight", weights, persistent=False)
        self.num_classes = num_classes
        self.curves = (
            "train_loss",
            "train_classification",
            *(f"train_{name}" for name in model.loss_names),
            "validation_loss",
            "validation_weighted_f1",
            "validation_ua",
            "validation_wa",
            "validation_choice",
            "learning_rate",
        )
        self.validation_confusion = MulticlassConfusionMatrix(num_classes)
        self.validation_loss = MeanMetric()

    def forward(self, batch: DialogueBatch) -> Tensor:
        """Logits ``[B, T, classes]``."""
        return self.model(batch).logits

    def classification_loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """The loss on the labels of some turns.

        Args:
            logits: ``[turns, classes]``.
            y: ``[turns]``.
        """
        weight = cast("Tensor | None", self.class_weight)
        if self.loss == "cross_entropy":
            return F.cross_entropy(logits, y, weight=weight, label_smoothing=self.label_smoothing)
        if weight is not None:
            # The published factors are N / count, those of a training have a mean of one over the items.
            weight = weight * self.num_classes
        each = F.cross_entropy(logits, y, weight=weight, reduction="none")
        right = logits.detach().softmax(dim=1).gather(1, y[:, None])[:, 0]
        return ((1 - right) ** self.focal_gamma * each).mean()

    def changed(self, batch: DialogueBatch) -> DialogueBatch:
        """The batch as training sees it: without some modalities and numbers."""
        batch = drop_modalities(batch, self.modality_dropout)
        if not self.feature_dropout:
            return batch
        return replace(batch, x={name: F.dropout(part, self.feature_dropout) for name, part in batch.x.items()})

    def training_step(self, batch: DialogueBatch, batch_idx: int) -> Tensor:  # noqa: D102
        known = batch.y >= 0
        output = self.model(self.changed(batch))
        losses = {"classification": self.classification_loss(output.logits[known], batch.y[known]), **output.losses}
        total = losses["classification"]
        if "penalty" in losses:
            total = total + self.penalty_weight * losses["penalty"]
        factor = self.link_weight * link_factor(self.current_epoch, self.link_epochs)
        if "link" in losses and factor:
            total = total - factor * losses["link"]
        turns = int(known.sum())
        self.log_training(total, turns)
        for name, value in losses.items():
            self.log(f"train_{name}", value, on_epoch=True, on_step=False, batch_size=turns, sync_dist=True)
        return total

    def on_train_epoch_end(self) -> None:  # noqa: D102
        self.log_epoch()

    def validation_step(self, batch: DialogueBatch, batch_idx: int) -> None:  # noqa: D102
        known = batch.y >= 0
        logits, y = self.model(batch).logits[known], batch.y[known]
        self.validation_confusion.update(logits, y)
        self.validation_loss.update(F.cross_entropy(logits, y), weight=len(y))

    def on_validation_epoch_end(self) -> None:  # noqa: D102
        confusion, loss = self.validation_confusion.compute(), self.validation_loss.compute()
        f1 = weighted_f1(confusion)
        self.log("validation_loss", loss)
        self.log("validation_weighted_f1", f1, prog_bar=True)
        self.log("validation_ua", unweighted_accuracy(confusion))
        self.log("validation_wa", weighted_accuracy(confusion))
        self.log("validation_choice", choice(f1, loss))
        self.validation_confusion.reset()
        self.validation_loss.reset()

    def predict_step(self, batch: DialogueBatch, batch_idx: int) -> dict[str, Tensor]:
        """Of the turns that were asked for: ``row``, ``probabilities`` ``[turns, classes]``."""
        asked = batch.row >= 0
        logits: Any = self.model(batch).logits[asked]
        return {"row": batch.row[asked], "probabilities": logits.float().softmax(dim=-1)}
