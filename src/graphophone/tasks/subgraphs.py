"""Few labels, many recordings: a network of nodes learns in small graphs drawn from a pool."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from torch_geometric.data import Data
from torchmetrics.classification import MulticlassConfusionMatrix

from graphophone.graphs.subgraphs import SubgraphSampler
from graphophone.models.attached import draw_references, predict_attached, pseudo_label
from graphophone.models.subgraph_ssl import SubgraphSSL
from graphophone.tasks.base import SupervisedTask, unweighted_accuracy, weighted_accuracy
from graphophone.tasks.optimization import Optimization, TaskError

Recordings = tuple[Tensor, Tensor, Sequence[str]]
"""Features ``[clips, dims]``, classes ``[clips]`` and ids of recordings outside the pool."""


class SubgraphClassification(SupervisedTask):
    """The losses of a `SubgraphSSL` in sampled subgraphs; validated as it will be used, with random edges.

    One subgraph (or `batch_graphs` of the sampler) is one step of the optimiser; an epoch has seen every unlabelled
    recording once. Before each validation the pool is pseudo-labelled and reference graphs are drawn, to which the
    validation recordings are attached. Logged are every loss by its name (``train_cross_entropy``, ``train_denoise``
    and so on), ``train_loss``, ``validation_loss``, ``validation_ua`` and ``validation_wa``.

    It brings its own data loaders: ``Trainer(...).fit(task)``.

    Args:
        model: The network, with its self-supervised tasks and the weights of its losses.
        sampler: Draws subgraphs from the training pool.
        validation: Recordings that an epoch is chosen on; None: none are.
        edges: T, random edges of each validation recording.
        draws: R, reference graphs that answers are averaged over.
        true_share: See `graphophone.graphs.attachment.draw_reference`.
        optimization: Optimiser and schedule; None: Adam at 1e-3, as published.
        seed: What the randomness of each epoch is derived from.
    """

    kind: ClassVar[Literal["classification", "tagging"]] = "classification"
    reads: ClassVar[Literal["graph", "spectrogram"]] = "graph"
    monitor: ClassVar[str] = "validation_ua"
    monitor_words: ClassVar[str] = "validation UA"
    curves: ClassVar[tuple[str, ...]] = ("train_loss", "validation_loss", "validation_ua", "validation_wa")

    model: SubgraphSSL

    def __init__(
        self,
        model: SubgraphSSL,
        sampler: SubgraphSampler,
        validation: Recordings | None = None,
        *,
        edges: int = 4,
        draws: int = 1,
        true_share: float | None = None,
        optimization: Optimization | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(model, optimization or Optimization(learning_rate=1e-3, weight_decay=0.0), seed)
        if model.num_classes != sampler.num_classes:
            raise TaskError(
                f"the model has {model.num_classes} classes and the pool {sampler.num_classes}; make them fit"
            )
        if edges < 1 or draws < 1:
            raise TaskError(f"task.edges and task.draws must be at least 1, not {edges} and {draws}")
        self.sampler = sampler
        self.validation = validation
        self.edges = edges
        self.draws = draws
        self.true_share = true_share
        self.validation_confusion = MulticlassConfusionMatrix(model.num_classes)
        self.references: list[Data] = []

    def train_dataloader(self) -> _Epochs:
        """The subgraphs of the current epoch."""
        return _Epochs(self)

    def val_dataloader(self) -> DataLoader | list:
        """Validation recordings, many at a time; none if there are none."""
        if self.validation is None:
            return []
        x, y, ids = self.validation
        whole = [(x[part], y[part], list(ids[part])) for part in _parts(len(x), 1024)]
        return DataLoader(whole, batch_size=None)  # type: ignore[arg-type]

    def training_step(self, batch: Data, batch_idx: int) -> Tensor:  # noqa: D102
        losses = self.model.losses(batch.x, batch.edge_index, batch.edge_weight, batch.y, batch.batch)
        done = (self.current_epoch + batch_idx / max(1, len(self.sampler))) / max(1, self.trainer.max_epochs or 1)
        total = self.model.total(losses, progress=done)
        self.log_training(total, batch.num_graphs)
        named = {f"train_{name}": loss.detach() for name, loss in losses.items()}
        self.log_dict(named, on_epoch=True, on_step=False, batch_size=batch.num_graphs)
        return total

    def on_validation_epoch_start(self) -> None:
        """Pseudo-label the pool and draw reference graphs."""
        pseudo = pseudo_label(self.model, self.sampler, epoch=self.current_epoch)
        self.references = draw_references(
            self.sampler, pseudo.labels, draws=self.draws, true_share=self.true_share, seed=self.seed
        )

    def validation_step(self, batch: Recordings, batch_idx: int) -> None:  # noqa: D102
        x, y, ids = batch
        p = predict_attached(self.model, self.references, x, ids, edges=self.edges, seed=self.seed).probabilities
        self.validation_confusion.update(p, y)
        self.validation_loss.update(F.nll_loss(p.clamp(min=1e-12).log(), y), weight=len(x))

    def on_validation_epoch_end(self) -> None:  # noqa: D102
        confusion = self.validation_confusion.compute()
        self.log("validation_loss", self.validation_loss.compute())
        self.log("validation_ua", unweighted_accuracy(confusion), prog_bar=True)
        self.log("validation_wa", weighted_accuracy(confusion), prog_bar=True)
        self.validation_confusion.reset()
        self.validation_loss.reset()


class _Epochs:
    """The batches of whichever epoch a task is in."""

    def __init__(self, task: SubgraphClassification) -> None:
        self.task = task

    def __iter__(self) -> Iterator[Data]:
        return self.task.sampler.epoch(self.task.current_epoch)

    def __len__(self) -> int:
        return len(self.task.sampler)


def _parts(items: int, size: int) -> list[slice]:
    return [slice(begin, begin + size) for begin in range(0, items, size)]
