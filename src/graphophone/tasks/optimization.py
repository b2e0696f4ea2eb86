"""How weights are moved: the optimiser and the course of its learning rate, for every task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning import LightningModule
from torch import nn

from graphophone.errors import GraphophoneError

Schedule = Literal["constant", "cosine", "onecycle", "multistep"]


class TaskError(GraphophoneError):
    """A setting of a task makes no sense."""


def learning_rate_factor(
    step: int,
    *,
    total: int,
    schedule: str,
    warmup: float,
    warmup_steps: int = 0,
    epochs: int = 1,
    milestones: Sequence[int] = (),
    gamma: float = 1.0,
) -> float:
    """Factor on the peak learning rate after ``step`` of ``total`` optimiser steps.

    ``"constant"`` stays at one; ``"cosine"`` falls to zero along half a cosine; ``"onecycle"`` starts at 1/25 of
    the peak, rises along half a cosine and falls to 1/10,000 of where it began (Smith and Topin, 2019);
    ``"multistep"`` is multiplied by ``gamma`` at each milestone. All but ``"onecycle"`` rise linearly over the warm-up.

    Args:
        step: Optimiser steps done.
        total: Optimiser steps of the whole training.
        schedule: ``"constant"``, ``"cosine"``, ``"onecycle"`` or ``"multistep"``.
        warmup: Share of ``total`` in which the rate rises, in [0, 1).
        warmup_steps: The same as a number of steps; 0 leaves it to ``warmup``.
        epochs: Epochs that ``total`` is made of, for milestones.
        milestones: Numbers of epochs done at which the rate falls.
        gamma: What it is multiplied by there.
    """
    rise = max(float(warmup_steps) or warmup * total, 1e-9)

    def half_cosine(start: float, end: float, done: float) -> float:
        return end + (start - end) * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0))) / 2

    fallen = (step - rise) / max(total - rise, 1e-9)
    if schedule == "onecycle":
        return half_cosine(1 / 25, 1.0, step / rise) if step < rise else half_cosine(1.0, 1 / 25e4, fallen)
    factor = 1.0
    if schedule == "multistep":
        done = step * epochs // max(total, 1)
        factor = gamma ** sum(milestone <= done for milestone in milestones)
    if step < rise and (warmup > 0 or warmup_steps > 0):
        return factor * (step + 1) / (rise + 1)
    return half_cosine(1.0, 0.0, fallen) if schedule == "cosine" else factor


@dataclass(frozen=True)
class Optimization:
    """Optimiser and schedule; the arguments are options of every task.

    Args:
        optimizer: ``"adam"`` (L2 penalty) or ``"adamw"`` (decoupled weight decay, which spares biases, norms and
            other vectors).
        learning_rate: Peak learning rate.
        weight_decay: Weight decay.
        betas: Decay of the running means of the gradient and of its square.
        schedule: ``"constant"``, ``"cosine"``, ``"onecycle"`` or ``"multistep"``; see
            :func:`learning_rate_factor`.
        warmup: Share of the steps in which the rate rises.
        warmup_steps: The same as a number of steps, in place of the share.
        milestones: Numbers of epochs done at which ``"multistep"`` lowers the rate.
        gamma: What ``"multistep"`` multiplies it by.

    Raises:
        TaskError: Naming the setting that makes no sense.
    """

    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: float = 1e-5
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Schedule = "constant"
    warmup: float = 0.0
    warmup_steps: int = 0
    milestones: Sequence[int] = ()
    gamma: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise TaskError(f"task.warmup must lie in [0, 1), not {self.warmup}")
        if self.warmup_steps < 0:
            raise TaskError(f"task.warmup_steps must not be negative, not {self.warmup_steps}")
        if self.warmup and self.warmup_steps:
            raise TaskError("task.warmup and task.warmup_steps exclude each other; set one of them to 0")
        if self.learning_rate <= 0 or self.weight_decay < 0:
            raise TaskError(
                f"task.learning_rate must be above 0 and task.weight_decay at least 0, not {self.learning_rate} and "
                f"{self.weight_decay}"
            )
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise TaskError(f"task.betas must be two numbers in [0, 1), not {list(self.betas)}")
        if self.schedule == "multistep" and not self.milestones:
            raise TaskError("task.schedule 'multistep' needs task.milestones, such as [10, 15, 20]")
        if any(milestone < 1 for milestone in self.milestones):
            raise TaskError(f"task.milestones are numbers of epochs from 1 on, not {list(self.milestones)}")
        if not 0 < self.gamma <= 1:
            raise TaskError(f"task.gamma must lie in (0, 1], not {self.gamma}")

    def configure(self, model: nn.Module, task: LightningModule, *, fused: bool | None = None) -> Any:
        """The optimiser of a model's trained weights, with its schedule, as Lightning takes them.

        Args:
            model: The network.
            task: Whose trainer knows how many steps there will be; asked only where there is a schedule.
            fused: Update all weights in one call: quicker for small networks, with other rounding.
        """
        trained = [p for p in model.parameters() if p.requires_grad]
        betas = (float(self.betas[0]), float(self.betas[1]))
        if self.optimizer == "adamw":
            groups: list[dict[str, Any]] = [
                {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.weight_decay},
                {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
            ]
            optimizer: torch.optim.Optimizer = torch.optim.AdamW(
                [group for group in groups if group["params"]], lr=self.learning_rate, betas=betas, fused=fused
            )
        else:
            decay = self.weight_decay
            optimizer = torch.optim.Adam(trained, lr=self.learning_rate, weight_decay=decay, betas=betas, fused=fused)
        if self.schedule == "constant" and not self.warmup and not self.warmup_steps:
            return optimizer
        trainer = task.trainer
        total = int(trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: learning_rate_factor(
                step,
                total=total,
                schedule=self.schedule,
                warmup=self.warmup,
                warmup_steps=self.warmup_steps,
                epochs=trainer.max_epochs or 1,
                milestones=self.milestones,
                gamma=self.gamma,
            ),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
