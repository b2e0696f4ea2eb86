"""What a training shows and keeps while it is under way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar

from graphophone.files import write_csv


class EpochKeeper(ModelCheckpoint):
    """A checkpoint at the end of each epoch in place of the one before, with the learning curves so far.

    The curves are part of the checkpoint, so that a resumed training continues them without a gap or a repeat. What
    was not measured, such as the validation loss where there are no validation items, is NaN in them.

    Args:
        folder: Folder of the training.
        epochs: Epochs that are planned, for messages.
        say: Called with a line on each epoch.
    """

    def __init__(self, folder: Path, epochs: int, say: Callable[[str], None] | None = None) -> None:
        super().__init__(
            dirpath=folder / "checkpoints",
            filename="last",
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self.folder = folder
        self.epochs = epochs
        self.say = say
        self.curves: list[dict[str, float]] = []
        self._started = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:  # noqa: D102
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:  # noqa: D102
        row = {"epoch": float(trainer.current_epoch)}
        row |= {name: float(trainer.callback_metrics.get(name, math.nan)) for name in pl_module.curves}
        if (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1):
            # What there is, is of an earlier epoch.
            row |= {name: math.nan for name in row if name.startswith("validation_")}
        row |= {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith("centroid_spread")}
        row["seconds"] = time.perf_counter() - self._started
        self.curves.append(row)
        if trainer.is_global_zero:
            write_csv(self.folder / "curves.csv", curves_frame(self.curves))
            if self.say is not None:
                self.say(self._line(row, pl_module))
        super().on_train_epoch_end(trainer, pl_module)

    def _line(self, row: Mapping[str, float], task: Any) -> str:
        """An epoch in words."""
        epoch = int(row["epoch"]) + 1
        line = f"{self.folder.name}  epoch {epoch}/{self.epochs}  loss {row['train_loss']:.3f}  "
        measured = [other for other in self.curves if not math.isnan(other[task.monitor])]
        if not math.isnan(row[task.monitor]):
            best = max(measured, key=lambda other: other[task.monitor])
            line += (
                f"{task.monitor_words} {100 * row[task.monitor]:.1f} "
                f"(best {100 * best[task.monitor]:.1f} in epoch {int(best['epoch']) + 1})  "
            )
        return f"{line}{row['seconds']:.1f} s"

    def state_dict(self) -> dict[str, Any]:  # noqa: D102
        return {**super().state_dict(), "curves": self.curves}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # noqa: D102
        super().load_state_dict(state_dict)
        self.curves = [dict(row) for row in state_dict["curves"]]


class EpochBar(RichProgressBar):
    """Lightning's progress bar with the validation figures in percent, and nothing else, behind it."""

    def get_metrics(self, trainer: Trainer, pl_module: Any) -> dict[str, Any]:  # noqa: D102
        found: dict[str, Any] = super().get_metrics(trainer, pl_module)
        names = {
            "validation_ua": "validation UA %",
            "validation_wa": "WA %",
            "validation_map": "validation mAP %",
            "validation_mauc": "mAUC %",
        }
        return {words: f"{100 * float(found[name]):.1f}" for name, words in names.items() if name in found}


def curves_frame(curves: Sequence[Mapping[str, float]]) -> pd.DataFrame:
    """Learning curves as a table, one row per epoch."""
    return pd.DataFrame(curves).astype({"epoch": int})
