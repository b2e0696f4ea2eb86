"""Zero mean and unit deviation, learned from the training part only."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphophone.features.base import FeatureError

if TYPE_CHECKING:
    import torch


class Standardizer:
    r"""Standardises each column with the mean and standard deviation of the training frames.

    .. math:: z = \operatorname{clip}\big((x - \mu) / \max(\sigma, \text{floor}),\ \pm\text{clip}\big)

    Make one with :meth:`fit`, from published constants with :meth:`constant`, or from what :meth:`state_dict` or
    :meth:`save` kept.

    What an item lacks (NaN, see :class:`~graphophone.features.modalities.Modalities`) it still lacks afterwards.

    Args:
        mean: `[dims]`, mean of each column.
        std: `[dims]`, its standard deviation (over the population, `ddof = 0`), floored.
        skip: Columns that pass unchanged (metadata such as a 0/1 flag).
        clip: Bound of the standardised values; infinity for none.

    Shapes:
        - **input:** `[frames, dims]` (or any `[..., dims]`)
        - **output:** the same, float32
    """

    def __init__(self, mean: np.ndarray, std: np.ndarray, *, skip: Sequence[int] = (), clip: float = 10.0) -> None:
        self.mean = np.array(mean, dtype=np.float64)
        self.std = np.array(std, dtype=np.float64)
        if self.mean.ndim != 1 or self.mean.shape != self.std.shape or not (self.std > 0).all():
            raise FeatureError(
                f"standardiser: expected a mean and a positive deviation per column, got shapes "
                f"{list(self.mean.shape)} and {list(self.std.shape)}"
            )
        if not clip > 0:
            raise FeatureError(f"standardiser: clip must be above 0, got {clip}")
        self.clip = float(clip)
        self.skip = _columns(skip, self.dims)
        self.mean[list(self.skip)] = 0.0
        self.std[list(self.skip)] = 1.0
        # Single precision, as the features are; a row of bounds leaves the skipped columns unbounded.
        self._mean = self.mean.astype(np.float32)
        self._std = self.std.astype(np.float32)
        self._bound = np.full(self.dims, self.clip, dtype=np.float32)
        self._bound[list(self.skip)] = np.inf

    @classmethod
    def constant(
        cls, mean: float, std: float, dims: int, *, skip: Sequence[int] = (), clip: float = math.inf
    ) -> Standardizer:
        """The same mean and deviation for every column, such as the published constants of a corpus.

        Args:
            mean: Mean over all frames and columns: -4.6476 for AudioSet.
            std: Their standard deviation: 4.5699 for AudioSet.
            dims: Number of columns.
            skip: Columns to leave unchanged; negative ones count from the end.
            clip: Bound of the standardised values; none by default, as published.

        Raises:
            FeatureError: If a constant is not a finite number, or the deviation not above 0.
        """
        if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
            raise FeatureError(f"standardiser: expected a mean and a deviation above 0, got {mean} and {std}")
        return cls(np.full(dims, mean), np.full(dims, std), skip=skip, clip=clip)

    @classmethod
    def fit(
        cls,
        arrays: Iterable[np.ndarray],
        *,
        skip: Sequence[int] = (),
        floor: float = 1e-6,
        clip: float = 10.0,
        pooled: bool = False,
        missing: bool = False,
    ) -> Standardizer:
        """Learn mean and deviation over all rows of all arrays, in one pass and with one array in memory.

        Counts, means and sums of squared deviations of the arrays are merged pairwise in double precision
        (T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating formulae and a pairwise algorithm for computing
        sample variances", 1979), which loses no digits where the mean is large beside the deviation.

        Args:
            arrays: `[frames, dims]` each, of the training part.
            skip: Columns to leave unchanged; negative ones count from the end.
            floor: Smallest deviation to divide by, for columns that (almost) never change.
            clip: Bound of the standardised values.
            pooled: One mean and one deviation over all columns but those of ``skip``, as spectrograms are
                standardised, in place of one per column.
            missing: NaN is what an item lacks: a column is learned from the rows that have it, and one that no row has
                passes unchanged.

        Raises:
            FeatureError: If there are no rows, the dimensions differ, or a value is not a finite number.
        """
        if not floor > 0:
            raise FeatureError(f"standardiser: floor must be above 0, got {floor}")
        count = 0
        rows = mean = squares = np.zeros(0)
        for number, array in enumerate(arrays):
            block = np.asarray(array, dtype=np.float64)
            if block.ndim != 2 or (count and block.shape[1] != len(mean)):
                expected = len(mean) if count else "dims"
                raise FeatureError(
                    f"standardiser: array {number} is {list(block.shape)}, expected [frames, {expected}]"
                )
            if len(block) == 0:
                continue
            there = ~np.isnan(block) if missing else np.ones(1, dtype=bool)
            block_rows = there.sum(axis=0).astype(float) if missing else np.full(block.shape[1], float(len(block)))
            block_mean = np.where(there, block, 0.0).sum(axis=0) / np.maximum(block_rows, 1)
            if not np.isfinite(block_mean).all():
                raise FeatureError(f"standardiser: array {number} holds NaN or infinite values; leave the item out")
            block_squares = np.square(np.where(there, block - block_mean, 0.0)).sum(axis=0)
            if count == 0:
                count, rows, mean, squares = len(block), block_rows, block_mean, block_squares
                continue
            count += len(block)
            total = rows + block_rows
            share = block_rows / np.maximum(total, 1)
            shift = block_mean - mean
            mean = mean + shift * share
            squares = squares + block_squares + np.square(shift) * rows * share
            rows = total
        if count == 0:
            raise FeatureError("standardiser: no frames to learn from; the training part is empty")
        variance = squares / np.maximum(rows, 1)
        variance[rows == 0] = 1.0
        if pooled:
            kept = np.setdiff1d(np.arange(len(mean)), _columns(skip, len(mean)))
            if len(kept) == 0:
                raise FeatureError("standardiser: skip names every column, so there is nothing to pool")
            # The variance within the columns plus that between their means, by their numbers of rows.
            weight = rows[kept] / max(rows[kept].sum(), 1.0)
            pooled_mean = float((weight * mean[kept]).sum())
            between = (weight * np.square(mean[kept] - pooled_mean)).sum()
            variance = np.full(len(mean), (weight * variance[kept]).sum() + between)
            mean = np.full(len(mean), pooled_mean)
        return cls(mean, np.maximum(np.sqrt(variance), floor), skip=skip, clip=clip)

    @property
    def dims(self) -> int:
        """Number of columns."""
        return len(self.mean)

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """Standardise.

        Args:
            array: `[..., dims]`.

        Returns:
            A new array, float32.

        Raises:
            FeatureError: If the number of columns is another.
        """
        array = np.asarray(array)
        if array.ndim == 0 or array.shape[-1] != self.dims:
            raise FeatureError(
                f"standardiser: fitted on {self.dims} columns, got an array of shape {list(array.shape)}; "
                "use the feature pipeline it was fitted with"
            )
        result = np.subtract(array, self._mean, dtype=np.float32)
        result /= self._std
        return np.clip(result, -self._bound, self._bound, out=result)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """What :meth:`from_state` needs, as tensors: ``mean``, ``std``, ``skip``, ``clip``."""
        import torch

        return {name: torch.from_numpy(value) for name, value in self._state().items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Standardizer:
        """The standardiser whose :meth:`state_dict` this is (tensors or NumPy arrays).

        Raises:
            FeatureError: If an entry is missing.
        """
        missing = sorted({"mean", "std", "skip", "clip"} - set(state))
        if missing:
            raise FeatureError(f"standardiser: its state has no {missing[0]!r}; the file is of another kind")
        arrays = {name: np.asarray(state[name]) for name in ("mean", "std", "skip", "clip")}
        return cls(
            arrays["mean"],
            arrays["std"],
            skip=[int(i) for i in arrays["skip"]],
            clip=float(arrays["clip"].reshape(())),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file."""
        from safetensors.numpy import save_file

        save_file(self._state(), path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Standardizer:
        """Read what :meth:`save` wrote.

        Raises:
            FeatureError: If the file is missing or of another kind.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            return cls.from_state(load_file(path))
        except (OSError, SafetensorError) as error:
            raise FeatureError(f"{os.fspath(path)}: cannot be read as a standardiser ({error})") from error

    def _state(self) -> dict[str, np.ndarray]:
        return {
            "mean": self.mean.copy(),
            "std": self.std.copy(),
            "skip": np.array(self.skip, dtype=np.int64),
            "clip": np.array(self.clip, dtype=np.float64),
        }

    def __repr__(self) -> str:
        return f"Standardizer(dims={self.dims}, skip={self.skip}, clip={self.clip})"


def _columns(skip: Sequence[int], dims: int) -> tuple[int, ...]:
    for i in skip:
        if not -dims <= i < dims:
            raise FeatureError(f"standardiser: skip names column {i} of {dims}")
    return tuple(sorted({int(i) % dims for i in skip}))
