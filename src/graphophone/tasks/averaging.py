"""Mean weights of several epochs, and batch-norm statistics that fit them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class StepAveraging(EMAWeightAveraging):
    """Lightning's exponential moving average of the weights, for networks that make buffers as they go.

    Lightning pairs the buffers of the two networks by their order. A buffer that is not saved, such as a table for the
    size of the first batch, is in one of them only, and would shift all others: here it is given to both.

    Args:
        decay: Share of the old average that each optimiser step keeps.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(decay=decay)

    @property
    def state_key(self) -> str:
        """As in the checkpoints of earlier versions."""
        return EMAWeightAveraging.__qualname__

    def _share_buffers(self, pl_module: LightningModule) -> None:
        """Give the average the buffers that are not part of the state."""
        if self._average_model is None:
            return
        for average, current in zip(self._average_model.module.modules(), pl_module.modules(), strict=True):
            for name in current._non_persistent_buffers_set:
                value = current._buffers[name]
                average._buffers[name] = None if value is None else value.clone()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Move the average."""
        self._share_buffers(pl_module)
        super().on_train_batch_end(trainer, pl_module, *args, **kwargs)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the average."""
        self._share_buffers(pl_module)
        super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on with the weights that are trained."""
        self._share_buffers(pl_module)
        super().on_validation_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the average."""
        self._share_buffers(pl_module)
        super().on_train_end(trainer, pl_module)


class EpochAveraging(Callback):
    """The plain mean of the weights at the end of a range of epochs, each of them counted once.

    Floating-point entries, the running statistics of batch norm among them, are averaged; whole numbers (counters) are
    those of the last epoch. The training itself goes on with its own weights. The mean so far is part of the
    checkpoint, so that a resumed training ends with the same one; :meth:`mean_of` reads it.

    Args:
        first: First epoch of the range, counted from 1.
        last: Last epoch of the range.
    """

    def __init__(self, first: int, last: int) -> None:
        self.first = first
        self.last = last
        self.count = 0
        self.mean: dict[str, Tensor] = {}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the weights of an epoch of the range."""
        if self.first <= trainer.current_epoch + 1 <= self.last:
            self.add(pl_module.state_dict())

    def add(self, state: Mapping[str, Tensor]) -> None:
        """Add one epoch's weights to the mean."""
        self.count += 1
        for name, value in state.items():
            current = value.detach()
            former = self.mean.get(name)
            if former is None or not current.is_floating_point():
                self.mean[name] = current.clone()
            else:
                former += (current - former) / self.count

    def state_dict(self) -> dict[str, Any]:
        """Number of epochs and their mean so far."""
        return {"count": self.count, "mean": self.mean}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        self.count = int(state_dict["count"])
        self.mean = dict(state_dict["mean"])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the mean where the weights are."""
        self.mean = {name: value.to(pl_module.device) for name, value in self.mean.items()}

    @classmethod
    def mean_of(cls, checkpoint: Mapping[str, Any]) -> dict[str, Tensor] | None:
        """The mean weights that a checkpoint holds, or None where there are none."""
        state = checkpoint["callbacks"].get(cls.__qualname__)
        return dict(state["mean"]) if state and state["count"] else None


def refresh_batch_norm(model: nn.Module, batches: Iterable[Any], forward: Callable[[Any], Any]) -> int:
    """Measure the running statistics of batch norm anew: the cumulative mean over one pass, in training mode.

    Averaged weights have statistics of their own, which the mean of the statistics only approximates. The model is
    left in the mode it was in; without batch norm nothing is read.

    Args:
        model: The network; changed in place.
        batches: Training batches.
        forward: What is called with each of them, and calls the model.

    Returns:
        How many layers were refreshed.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not layers:
        return 0
    momenta = [layer.momentum for layer in layers]
    modes = {module: module.training for module in model.modules()}
    try:
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # PyTorch's sign for a cumulative mean
        model.train()
        with torch.no_grad():
            for batch in batches:
                forward(batch)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
    return len(layers)
