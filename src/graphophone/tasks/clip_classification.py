"""One label for a whole clip, from its spectrogram: which sound is this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from torch import Tensor, nn

from graphophone.tasks.classification import Classification
from graphophone.tasks.optimization import Optimization, Schedule


class ClipClassification(Classification):
    """Cross-entropy on one label per clip, with UA and WA on validation data.

    Batches are dictionaries of ``x`` ``[clips, frames, mels]``, ``y`` ``[clips, classes]`` (shares of the classes: one
    of them 1, or two mixed) and ``row`` ``[clips]``. The model takes ``x`` and returns logits ``[clips, classes]``.
    The training UA counts a mixed clip as the class of its larger share.

    Args:
        model: The network.
        num_classes: Number of labels.
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
        label_smoothing: Share of the target spread evenly over all classes, in [0, 1).
        class_weights: One factor per class, or None.
        seed: What the randomness of each epoch is derived from.
    """

    reads: ClassVar[Literal["graph", "spectrogram"]] = "spectrogram"

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
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        optimization = Optimization(
            optimizer, learning_rate, weight_decay, betas, schedule, warmup, warmup_steps, milestones, gamma
        )
        super().__init__(model, num_classes, optimization, label_smoothing, class_weights, seed)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits ``[clips, classes]`` for a batch of spectrograms."""
        return self.model(batch["x"])

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:  # noqa: D102
        return self.train_on(self(batch), batch["y"])

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:  # noqa: D102
        self.validate_on(self(batch), batch["y"])

    def predict_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Probabilities ``[clips, classes]`` and the ``row`` of each clip in the corpus, ``[clips]``."""
        return {"probabilities": self(batch).float().softmax(dim=-1), "row": batch["row"]}
