"""What all tasks share: one network, one optimiser, epochs that can be repeated exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import pandas as pd
import torch
from lightning import LightningModule
from torch import Tensor, nn
from torchmetrics import MeanMetric

from graphophone.errors import GraphophoneError
from graphophone.tasks.optimization import Optimization


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


def weighted_f1(confusion: Tensor) -> Tensor:
    """F1 of each class, weighted by how often it is the truth; arguments as :func:`unweighted_accuracy`."""
    support, named = confusion.sum(dim=1), confusion.sum(dim=0)
    f1 = 2 * confusion.diagonal() / (support + named).clamp(min=1)
    return (f1 * support).sum() / support.sum()


def choice(f1: Tensor, loss: Tensor) -> Tensor:
    """What chooses an epoch by weighted F1: of equal ones, the lower loss decides."""
    return f1 - 1e-6 * loss


class SupervisedTask(LightningModule):
    """A network that learns from labels.

    Every epoch draws its randomness (dropout) from the seed and the epoch number alone, so that a training that was
    interrupted and resumed at an epoch's end continues exactly as if it had not been. Logged are ``train_loss``,
    ``validation_loss``, ``learning_rate`` and what a subclass adds; ``curves`` names them all, in the order of the
    columns of a table of learning curves.

    Attributes:
        kind: ``"classification"``: one label per item; ``"tagging"``: any number.
        reads: ``"graph"``: batches of graphs; ``"spectrogram"``: batches of spectrograms; ``"nodes"``: recordings that
            are nodes of one graph, or of many; ``"dialogue"``: batches of dialogues.
        monitor: The logged figure that chooses an epoch; higher is better.
        monitor_words: The same in words.
        curves: Names of what is logged in every epoch.
        validate_every: Epochs from one validation to the next.
        remark: What a reader of results must know of how the task uses the data, a sentence; else empty.

    Args:
        model: The network.
        optimization: Optimiser and schedule.
        seed: What the randomness of each epoch is derived from.
    """

    kind: ClassVar[Literal["classification", "tagging"]]
    reads: ClassVar[Literal["graph", "spectrogram", "nodes", "dialogue"]]
    monitor: ClassVar[str]
    monitor_words: ClassVar[str]
    curves: tuple[str, ...]
    validate_every: int = 1
    remark: ClassVar[str] = ""

    def __init__(self, model: nn.Module, optimization: Optimization, seed: int) -> None:
        super().__init__()
        self.model = model
        self.optimization = optimization
        self.seed = seed
        self.validation_loss = MeanMetric()

    def on_train_epoch_start(self) -> None:
        """Draw this epoch's randomness from the seed, the epoch and, of several processes, the rank."""
        rank = self.global_rank * 1_000_000_007
        torch.manual_seed((self.seed * 1_000_003 + self.current_epoch + rank) % 2**63)

    def check_finite(self, loss: Tensor) -> None:
        """Refuse to go on with a loss that is not a number.

        Raises:
            TrainingDivergedError: Naming the epoch and what to change.
        """
        if not torch.isfinite(loss):
            raise TrainingDivergedError(
                f"the training loss became {loss.item()} in epoch {self.current_epoch}: lower task.learning_rate "
                f"(now {self.optimization.learning_rate:g}) or set training.gradient_clip"
            )

    def log_training(self, loss: Tensor, batch_size: int) -> None:
        """Log the loss of a batch.

        Raises:
            TrainingDivergedError: If it is not a number.
        """
        self.check_finite(loss)
        self.log("train_loss", loss, on_epoch=True, on_step=False, batch_size=batch_size, sync_dist=True)

    def log_epoch(self) -> None:
        """Log the learning rate that an epoch ended with and, where the model tells, the spread of its centroids."""
        self.log("learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])
        spreads = getattr(self.model, "centroid_spread", None)
        if callable(spreads):
            for number, spread in enumerate(spreads(), 1):
                self.log(f"centroid_spread_{number}", spread)

    @classmethod
    def remark_on(cls, options: Mapping[str, Any]) -> str:
        """`remark`, and what follows from the options of the task in a recipe."""
        return cls.remark

    def companions(self) -> dict[str, Any] | None:
        """What a model folder holds beside the network: arguments of `graphophone.inference.bundle.save_bundle`.

        None where the network cannot answer for new recordings: no model folder is written.
        """
        return {}

    def findings(self) -> dict[str, Any]:
        """What a training found out beside its results, for its ``metrics.json``."""
        return {}

    def pseudo_labels(self) -> pd.DataFrame | None:
        """What the network takes training items without label for: ``id``, ``predicted`` (a number), ``confidence``.

        None where it learns from none.
        """
        return None

    def adopt(self, last: Mapping[str, Any], *, best: bool) -> None:
        """Take over what the last checkpoint of a training keeps beside the weights that were chosen.

        Args:
            last: The checkpoint.
            best: Whether validation chose the weights; else they are those of the last epoch.
        """

    def configure_optimizers(self) -> Any:  # noqa: D102
        return self.optimization.configure(self.model, self)
