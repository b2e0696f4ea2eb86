"""What tasks share whose nodes are whole recordings: what they are given, and what they answer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from graphophone.graphs.base import GraphBuilder
from graphophone.models.subgraph_ssl import SubgraphSSL
from graphophone.nn.cross_attention import Sequences
from graphophone.tasks.base import SupervisedTask, unweighted_accuracy, weighted_accuracy
from graphophone.tasks.optimization import Optimization

Recordings = Mapping[str, Any]
"""Some recordings: features ``x`` ``[clips, dims]``, classes ``y`` ``[clips]`` (-1: none), their ``row`` ``[clips]``
among all items, ``ids``, names by what is in them ``[clips]``, and, where there are token vectors, ``sequences``."""


@dataclass(frozen=True, eq=False)
class Nodes:
    """The items of a corpus as a training may see them.

    Attributes:
        x: Standardised features of all items ``[items, dims]``; what a task does with those of test items is its own
            affair: nothing, where answers are for new recordings.
        y: Classes of training and validation items; -1 for all others ``[items]``.
        train: Rows of items whose label is learned from.
        unlabelled: Rows of items that may be learned from without a label.
        validation: Rows of items that an epoch is chosen on.
        ids: Names of the items ``[items]``.
        graph: Builder of the recipe, with the rules of the edges.
        edge_index: Edges that the corpus itself has ``[2, edges]``, or None.
        sequences: Token vectors of all items by modality, for networks that attend over them; an item that lacks the
            modality has one token of zeros. None: there are none.
    """

    x: Tensor
    y: Tensor
    train: Tensor
    unlabelled: Tensor
    validation: Tensor
    ids: Sequence[str]
    graph: GraphBuilder
    edge_index: Tensor | None = None
    sequences: Mapping[str, Sequences] | None = None


class NodeTask(SupervisedTask):
    """A network of nodes that are recordings. It makes its own training batches, and says how it answers.

    Logged in every epoch: every loss by its name (``train_cross_entropy`` and so on), ``train_loss``,
    ``validation_loss``, ``validation_ua``, ``validation_wa`` and ``learning_rate``.

    Call `use` before a training or a prediction.

    Args:
        model: The network.
        num_classes: Number of labels.
        optimization: Optimiser and schedule.
        validate_every: Epochs from one validation to the next.
        seed: What the randomness of each epoch is derived from.
    """

    kind: ClassVar[Literal["classification", "tagging"]] = "classification"
    reads: ClassVar[Literal["graph", "spectrogram", "nodes", "dialogue"]] = "nodes"
    monitor: ClassVar[str] = "validation_ua"
    monitor_words: ClassVar[str] = "validation UA"

    model: SubgraphSSL

    def __init__(
        self, model: SubgraphSSL, num_classes: int, optimization: Optimization, validate_every: int, seed: int
    ) -> None:
        super().__init__(model, optimization, seed)
        self.validate_every = validate_every
        self.curves = (
            "train_loss",
            *(f"train_{name}" for name in model.loss_names),
            "validation_loss",
            "validation_ua",
            "validation_wa",
            "learning_rate",
        )
        self.validation_confusion = MulticlassConfusionMatrix(num_classes)
        self._sums: Tensor | None = None
        self._steps = 0

    @abstractmethod
    def use(self, nodes: Nodes) -> None:
        """Take the items of a split: called once, before training or prediction."""

    @abstractmethod
    def train_dataloader(self) -> Iterable[Any]:
        """Batches of the epoch that the trainer is in."""

    def on_train_epoch_start(self) -> None:  # noqa: D102
        super().on_train_epoch_start()
        self._sums, self._steps = None, 0

    def count_losses(self, total: Tensor, losses: Mapping[str, Tensor]) -> None:
        """Add the losses of a step to those of the epoch, whose means over the steps are logged at its end."""
        none = total.new_zeros(())
        now = torch.stack([total.detach(), *(losses.get(name, none).detach() for name in self.model.loss_names)])
        self._sums = now if self._sums is None else self._sums.add_(now)
        self._steps += 1

    def on_train_epoch_end(self) -> None:
        """Log what the steps have counted.

        Raises:
            TrainingDivergedError: If a loss was not a number.
        """
        assert self._sums is not None  # noqa: S101 - an epoch has a step
        means = self._sums / self._steps
        self.check_finite(means[0])
        self.log_dict(dict(zip(self.curves, means, strict=False)))
        self.log_epoch()

    def validate_on(self, probabilities: Tensor, y: Tensor) -> None:
        """Count validation items.

        Args:
            probabilities: ``[clips, classes]``.
            y: Their classes ``[clips]``.
        """
        self.validation_confusion.update(probabilities, y)
        self.validation_loss.update(F.nll_loss(probabilities.clamp(min=1e-12).log(), y), weight=len(y))

    def on_validation_epoch_end(self) -> None:  # noqa: D102
        confusion = self.validation_confusion.compute()
        self.log("validation_loss", self.validation_loss.compute())
        self.log("validation_ua", unweighted_accuracy(confusion), prog_bar=True)
        self.log("validation_wa", weighted_accuracy(confusion), prog_bar=True)
        self.validation_confusion.reset()
        self.validation_loss.reset()

    def configure_optimizers(self) -> Any:  # noqa: D102
        return self.optimization.configure(self.model, self, fused=True)
