"""One label for a whole graph: an emotion for an utterance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch
from torchmetrics.classification import MulticlassConfusionMatrix

from graphophone.tasks.base import SupervisedTask, unweighted_accuracy, weighted_accuracy
from graphophone.tasks.optimization import Optimization, Schedule, TaskError


class Classification(SupervisedTask):
    """Cross-entropy on one label per item, with UA and WA on validation data; subclasses say what a batch is.

    Logged beside what :class:`~graphophone.tasks.base.SupervisedTask` logs: ``train_ua``, ``validation_ua`` and
    ``validation_wa``.

    Args:
        model: The network.
        num_classes: Number of labels.
        optimization: Optimiser and schedule.
        label_smoothing: Share of the target spread evenly over all classes, in [0, 1).
        class_weights: One factor per class, or None.
        seed: What the randomness of each epoch is derived from.
    """

    kind: ClassVar[Literal["classification", "tagging"]] = "classification"
    monitor: ClassVar[str] = "validation_ua"
    monitor_words: ClassVar[str] = "validation UA"
    curves: tuple[str, ...] = (
        "train_loss",
        "train_ua",
        "validation_loss",
        "validation_ua",
        "validation_wa",
        "learning_rate",
    )
    class_weights: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        optimization: Optimization,
        label_smoothing: float,
        class_weights: Sequence[float] | None,
        seed: int,
    ) -> None:
        super().__init__(model, optimization, seed)
        if not 0 <= label_smoothing < 1:
            raise TaskError(f"task.label_smoothing must lie in [0, 1), not {label_smoothing}")
        self.label_smoothing = label_smoothing
        weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)
        self.train_confusion = MulticlassConfusionMatrix(num_classes)
        self.validation_confusion = MulticlassConfusionMatrix(num_classes)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean cross-entropy of logits ``[items, classes]``.

        Args:
            logits: Class scores.
            target: Classes ``[items]``, or shares of them ``[items, classes]``.
        """
        return F.cross_entropy(logits, target, weight=self.class_weights, label_smoothing=self.label_smoothing)

    def train_on(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of a training batch, logged; arguments as :meth:`loss`."""
        loss = self.loss(logits, target)
        self.log_training(loss, len(logits))
        self.train_confusion.update(logits.detach(), _classes(target))
        return loss

    def validate_on(self, logits: Tensor, target: Tensor) -> None:
        """Count a validation batch; arguments as :meth:`loss`."""
        classes = _classes(target)
        self.validation_confusion.update(logits, classes)
        self.validation_loss.update(F.cross_entropy(logits, classes), weight=len(logits))

    def on_train_epoch_end(self) -> None:  # noqa: D102
        self.log("train_ua", unweighted_accuracy(self.train_confusion.compute()))
        self.train_confusion.reset()
        self.log_epoch()

    def on_validation_epoch_end(self) -> None:  # noqa: D102
        confusion = self.validation_confusion.compute()
        self.log("validation_loss", self.validation_loss.compute())
        self.log("validation_ua", unweighted_accuracy(confusion), prog_bar=True)
        self.log("validation_wa", weighted_accuracy(confusion), prog_bar=True)
        self.validation_confusion.reset()
        self.validation_loss.reset()


def _classes(target: Tensor) -> Tensor:
    """Classes ``[items]``: as given, or those with the largest share."""
    return target if target.ndim == 1 else target.argmax(dim=-1)


class GraphClassification(Classification):
    """Cross-entropy on one label per graph, with UA and WA on validation data.

    Batches are :class:`torch_geometric.data.Batch` with ``x`` ``[nodes, dims]``, ``edge_index`` ``[2, edges]``,
    ``batch`` ``[nodes]`` and ``y`` ``[graphs]``. The model takes ``(x, edge_index, batch, batch_size)`` and returns
    logits ``[graphs, classes]``. Logged: ``train_loss``, ``train_ua``, ``validation_loss``, ``validation_ua``,
    ``validation_wa`` and ``learning_rate``.

    Args:
        model: The network.
        num_classes: Number of labels.
        optimizer: ``"adam"`` (L2 penalty, as published) or ``"adamw"`` (decoupled weight decay).
        learning_rate: Peak learning rate.
        weight_decay: Weight decay; biases, norms and other vectors are spared with ``"adamw"``.
        betas: Decay of the optimiser's running means of the gradient and of its square.
        schedule: ``"constant"``, ``"cosine"``, ``"onecycle"``, over the optimiser steps of the whole training, or
            ``"multistep"``.
        warmup: Share of the steps in which the rate rises.
        warmup_steps: The same as a number of steps, in place of the share.
        milestones: Numbers of epochs done at which ``"multistep"`` lowers the rate.
        gamma: What ``"multistep"`` multiplies it by.
        label_smoothing: Share of the target spread evenly over all classes, in [0, 1).
        class_weights: One factor per class, or None.
        seed: What the randomness of each epoch is derived from.
    """

    reads: ClassVar[Literal["graph", "spectrogram"]] = "graph"

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        optimizer: Literal["adam", "adamw"] = "adam",
        learning_rate: float = 1e-5,
        weight_decay: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        schedule: Schedule = "constant",
        warmup: float = 0.0,
        warmup_steps: int = 0,
        milestones: Sequence[int] = (),
        gamma: float = 0.5,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        optimization = Optimization(
            optimizer, learning_rate, weight_decay, betas, schedule, warmup, warmup_steps, milestones, gamma
        )
        super().__init__(model, num_classes, optimization, label_smoothing, class_weights, seed)

    def forward(self, batch: Batch) -> Tensor:
        """Logits ``[graphs, classes]`` for a batch of graphs."""
        return self.model(batch.x, batch.edge_index, batch.batch, batch.num_graphs)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: D102
        return self.train_on(self(batch), batch.y)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: D102
        self.validate_on(self(batch), batch.y)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Probabilities ``[graphs, classes]`` and the ``row`` of each graph in the corpus, ``[graphs]``."""
        return {"probabilities": self(batch).float().softmax(dim=-1), "row": batch.row}
