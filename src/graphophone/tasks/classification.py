"""One label for a whole graph: an emotion for an utterance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from lightning import LightningModule
from torch import Tensor, nn
from torch_geometric.data import Batch
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassConfusionMatrix

from graphophone.errors import GraphophoneError


class TaskError(GraphophoneError):
    """A setting of a task makes no sense."""


class TrainingDivergedError(GraphophoneError):
    """The loss is no longer a number."""


def unweighted_accuracy(confusion: Tensor) -> Tensor:
    """Mean recall over the classes that occur (the field's UA, or UAR).

    Args:
        confusion: Counts ``[classes, classes]``, rows the truth, columns the prediction.

    Returns:
        A scalar in [0, 1].
    """
    support = confusion.sum(dim=1)
    present = support > 0
    return (confusion.diagonal()[present] / support[present]).mean()


def weighted_accuracy(confusion: Tensor) -> Tensor:
    """Share of correct items (the field's WA); arguments as :func:`unweighted_accuracy`."""
    return confusion.diagonal().sum() / confusion.sum()


def learning_rate_factor(step: int, *, total: int, schedule: str, warmup: float) -> float:
    """Factor on the peak learning rate after ``step`` of ``total`` optimiser steps.

    ``"constant"`` stays at one; ``"cosine"`` falls to zero along half a cosine; ``"onecycle"`` starts at 1/25 of
    the peak, rises along half a cosine and falls to 1/10,000 of where it began (Smith and Topin, 2019). The first two
    rise linearly over the warm-up.

    Args:
        step: Optimiser steps done.
        total: Optimiser steps of the whole training.
        schedule: ``"constant"``, ``"cosine"`` or ``"onecycle"``.
        warmup: Share of ``total`` in which the rate rises, in [0, 1).
    """
    rise = max(warmup * total, 1e-9)

    def half_cosine(start: float, end: float, done: float) -> float:
        return end + (start - end) * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0))) / 2

    fallen = (step - rise) / max(total - rise, 1e-9)
    if schedule == "onecycle":
        return half_cosine(1 / 25, 1.0, step / rise) if step < rise else half_cosine(1.0, 1 / 25e4, fallen)
    if step < rise and warmup > 0:
        return (step + 1) / (rise + 1)
    return half_cosine(1.0, 0.0, fallen) if schedule == "cosine" else 1.0


class GraphClassification(LightningModule):
    """Cross-entropy on one label per graph, with UA and WA on validation data.

    Batches are :class:`torch_geometric.data.Batch` with ``x`` ``[nodes, dims]``, ``edge_index`` ``[2, edges]``,
    ``batch`` ``[nodes]`` and ``y`` ``[graphs]``. The model takes ``(x, edge_index, batch, batch_size)`` and returns
    logits ``[graphs, classes]``. Logged: ``train_loss``, ``train_ua``, ``validation_loss``, ``validation_ua``,
    ``validation_wa`` and ``learning_rate``.

    Every epoch draws its randomness (dropout) from the seed and the epoch number alone, so that a training that was
    interrupted and resumed at an epoch's end continues exactly as if it had not been.

    Args:
        model: The network.
        num_classes: Number of labels.
        optimizer: ``"adam"`` (L2 penalty, as published) or ``"adamw"`` (decoupled weight decay).
        learning_rate: Peak learning rate.
        weight_decay: Weight decay; biases, norms and other vectors are spared with ``"adamw"``.
        schedule: ``"constant"``, ``"cosine"`` or ``"onecycle"``, over the optimiser steps of the whole training.
        warmup: Share of the steps in which the rate rises.
        label_smoothing: Share of the target spread evenly over all classes, in [0, 1).
        class_weights: One factor per class, or None.
        seed: What the randomness of each epoch is derived from.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        optimizer: Literal["adam", "adamw"] = "adam",
        learning_rate: float = 1e-5,
        weight_decay: float = 1e-4,
        schedule: Literal["constant", "cosine", "onecycle"] = "constant",
        warmup: float = 0.0,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value, high in (("label_smoothing", label_smoothing, 1.0), ("warmup", warmup, 1.0)):
            if not 0 <= value < high:
                raise TaskError(f"task.{name} must lie in [0, {high:g}), not {value}")
        if learning_rate <= 0 or weight_decay < 0:
            raise TaskError(
                f"task.learning_rate must be above 0 and task.weight_decay at least 0, not {learning_rate} and "
                f"{weight_decay}"
            )
        self.model = model
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.warmup = warmup
        self.label_smoothing = label_smoothing
        self.seed = seed
        weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)
        self.train_confusion = MulticlassConfusionMatrix(num_classes)
        self.validation_confusion = MulticlassConfusionMatrix(num_classes)
        self.validation_loss = MeanMetric()

    def forward(self, batch: Batch) -> Tensor:
        """Logits ``[graphs, classes]`` for a batch of graphs."""
        return self.model(batch.x, batch.edge_index, batch.batch, batch.num_graphs)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean cross-entropy of logits ``[graphs, classes]`` and classes ``[graphs]``."""
        return F.cross_entropy(logits, target, weight=self.class_weights, label_smoothing=self.label_smoothing)

    def on_train_epoch_start(self) -> None:  # noqa: D102
        torch.manual_seed((self.seed * 1_000_003 + self.current_epoch) % 2**63)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: D102
        logits = self(batch)
        loss = self.loss(logits, batch.y)
        if not torch.isfinite(loss):
            raise TrainingDivergedError(
                f"the training loss became {loss.item()} in epoch {self.current_epoch}: lower task.learning_rate "
                f"(now {self.learning_rate:g}) or set training.gradient_clip"
            )
        self.train_confusion.update(logits.detach(), batch.y)
        self.log("train_loss", loss, on_epoch=True, on_step=False, batch_size=batch.num_graphs)
        return loss

    def on_train_epoch_end(self) -> None:  # noqa: D102
        self.log("train_ua", unweighted_accuracy(self.train_confusion.compute()))
        self.log("learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])
        self.train_confusion.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: D102
        logits = self(batch)
        self.validation_confusion.update(logits, batch.y)
        self.validation_loss.update(F.cross_entropy(logits, batch.y), weight=batch.num_graphs)

    def on_validation_epoch_end(self) -> None:  # noqa: D102
        confusion = self.validation_confusion.compute()
        self.log("validation_loss", self.validation_loss.compute())
        self.log("validation_ua", unweighted_accuracy(confusion), prog_bar=True)
        self.log("validation_wa", weighted_accuracy(confusion), prog_bar=True)
        self.validation_confusion.reset()
        self.validation_loss.reset()

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Probabilities ``[graphs, classes]`` and the ``row`` of each graph in the corpus, ``[graphs]``."""
        return {"probabilities": self(batch).float().softmax(dim=-1), "row": batch.row}

    def configure_optimizers(self) -> Any:  # noqa: D102
        trained = [p for p in self.model.parameters() if p.requires_grad]
        if self.optimizer == "adamw":
            groups: list[dict[str, Any]] = [
                {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.weight_decay},
                {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
            ]
            optimizer: torch.optim.Optimizer = torch.optim.AdamW(
                [group for group in groups if group["params"]], lr=self.learning_rate
            )
        else:
            optimizer = torch.optim.Adam(trained, lr=self.learning_rate, weight_decay=self.weight_decay)
        if self.schedule == "constant" and self.warmup == 0:
            return optimizer
        total = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: learning_rate_factor(step, total=total, schedule=self.schedule, warmup=self.warmup),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
