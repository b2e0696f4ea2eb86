"""One training on several devices: each process takes its share of every batch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed
from lightning import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader, Sampler

from graphophone.tasks.optimization import TaskError


class BatchShare(Sampler[list[Any]]):
    """Every ``world``-th item of each batch: together, the processes see what one process would.

    With the same batches, and gradients that are averaged over the processes, a training on several devices takes the
    same steps as one on a single device, up to the order of additions (and up to batch norm, which needs its
    synchronised kind for that). A last batch that is too small for every process joins the one before.

    Args:
        batches: The batches of one process: lists of keys, the same in every process.
        world: Number of processes.
        smallest: Items that each process must get of every batch; 2 where batch norm learns.

    Attributes:
        sampler: What decides the order, for the trainer to tell the epoch to.
    """

    def __init__(self, batches: Any, world: int, smallest: int = 1) -> None:
        self.batches = batches
        self.world = world
        self.smallest = smallest
        self.sampler = batches.sampler
        size, items = int(batches.batch_size), len(batches.sampler)
        if min(size, items) < world * smallest:
            raise TaskError(
                f"{world} devices share each batch and need {smallest} items each: training.batch_size {size} (of "
                f"{items} items) is too small; raise it or lower training.devices"
            )

    def _whole(self) -> Iterator[Sequence[Any]]:
        """Batches that are large enough for every process."""
        held: list[Any] | None = None
        for batch in self.batches:
            if held is not None and len(batch) < self.world * self.smallest:
                held = [*held, *batch]
                continue
            if held is not None:
                yield held
            held = list(batch)
        if held is not None:
            yield held

    def __len__(self) -> int:
        full, rest = divmod(len(self.sampler), int(self.batches.batch_size))
        joined = full > 0 and 0 < rest < self.world * self.smallest
        return full if joined else len(self.batches)

    def __iter__(self) -> Iterator[list[Any]]:
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        return (list(batch[rank :: self.world]) for batch in self._whole())


class OwnGenerator(torch.Generator):
    """A source of chance of a loader's own, sent to another process as a new one.

    A generator's state would be sent as a tensor that lives no longer than it takes to send it, and the file behind
    it could be taken for that of the next such tensor.
    """

    def __reduce__(self) -> Any:
        return OwnGenerator, ()


def shared(loader: DataLoader[Any], world: int, *, training: bool) -> DataLoader[Any]:
    """The same loader for one of ``world`` processes; it finds out which when it is used.

    Raises:
        TaskError: If the batches are too small to be shared.
    """
    return DataLoader(
        loader.dataset,
        batch_sampler=BatchShare(loader.batch_sampler, world, 2 if training else 1),
        collate_fn=loader.collate_fn,
        num_workers=loader.num_workers,
        pin_memory=loader.pin_memory,
        persistent_workers=loader.persistent_workers,
        generator=OwnGenerator(),
    )


class TrainingProcess(Callback):
    """What each of several training processes sets up for itself: its CPU threads, and silence.

    Args:
        threads: CPU threads of each process; 0 leaves the setting.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Called in each process before it starts."""
        if self.threads:
            torch.set_num_threads(self.threads)
        for name in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.ERROR)
        # What is logged is the same in all processes, or is averaged where it is made.
        warnings.filterwarnings("ignore", ".*sync_dist=True.*")
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*Grad strides do not match.*")
        warnings.filterwarnings("ignore", ".*LeafSpec.*", category=FutureWarning)
