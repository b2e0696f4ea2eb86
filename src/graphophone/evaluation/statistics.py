"""Means with intervals over seeds, and paired comparisons of two systems."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A mean over ``n`` runs, with its spread.

    Attributes:
        mean: Arithmetic mean.
        sd: Standard deviation of the sample (divisor ``n - 1``); None for a single run.
        low: Lower end of the confidence interval of the mean, Student's t; None for a single run.
        high: Upper end.
        n: Number of runs.
    """

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    n: int

    def __format__(self, spec: str) -> str:
        """Format every number by ``spec``; a spec that ends in ``%`` multiplies by 100 and writes no sign."""
        percent = spec.endswith("%")
        number = (spec[:-1] + "f") if percent else (spec or ".1f")
        scale = 100.0 if percent else 1.0

        def write(value: float) -> str:
            return format(value * scale, number)

        if self.sd is None or self.low is None or self.high is None:
            return write(self.mean)
        return f"{write(self.mean)} ± {write(self.sd)} [{write(self.low)}, {write(self.high)}]"

    def __str__(self) -> str:
        return format(self, ".1f")

    def to_dict(self) -> dict[str, Any]:
        """The fields, fit for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Estimate:
        """The inverse of :meth:`to_dict`."""
        return cls(**{key: values[key] for key in ("mean", "sd", "low", "high", "n")})


def interval(values: Iterable[float], level: float = 0.95) -> Estimate:
    """Mean, standard deviation and confidence interval of the mean by Student's t distribution.

    The interval speaks of the runs that were drawn: over seeds it covers the chance of initialisation and
    batch order, not the chance of having these speakers.

    Args:
        values: One value per run.
        level: Confidence, between 0 and 1.

    Returns:
        The estimate. With one value there is no spread and no interval: both are None.

    Raises:
        ValueError: If there is no value, or one is not finite, or the level is not between 0 and 1.

    Example:
        >>> print(interval([58.3, 59.1, 59.9]))
        59.1 ± 0.8 [57.1, 61.1]
    """
    sample = np.asarray(list(values), dtype=np.float64)
    if sample.size == 0 or not np.isfinite(sample).all():
        raise ValueError("an interval needs at least one value, all of them finite")
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval lies between 0 and 1, not {level}")
    mean = float(sample.mean())
    if sample.size == 1:
        return Estimate(mean, None, None, None, 1)
    sd = float(sample.std(ddof=1))
    half = float(stats.t.ppf(0.5 + level / 2, sample.size - 1)) * sd / math.sqrt(sample.size)
    return Estimate(mean, sd, mean - half, mean + half, int(sample.size))


@dataclass(frozen=True)
class Comparison:
    """How much system B is better than system A over the same seeds or folds.

    Attributes:
        difference: B minus A, with its interval.
        p_value: Two-sided paired t-test of no difference; None for a single pair, or where every difference
            is equal.
        wins: Number of pairs in which B is higher.
        losses: Number of pairs in which A is higher.
    """

    difference: Estimate
    p_value: float | None
    wins: int
    losses: int

    @property
    def decided(self) -> bool:
        """Whether the interval of the difference leaves zero out."""
        low, high = self.difference.low, self.difference.high
        return low is not None and high is not None and (low > 0 or high < 0)


def compare_paired(a: Mapping[Any, float], b: Mapping[Any, float], level: float = 0.95) -> Comparison:
    """Compare two systems on the keys (seeds, folds, or pairs of both) that they share.

    Over cross-validation folds the training parts overlap, so the differences are not independent and the
    interval is somewhat too narrow (Nadeau and Bengio, 2003, "Inference for the generalization error").

    Args:
        a: Value of system A per key.
        b: Value of system B per key.
        level: Confidence of the interval.

    Raises:
        ValueError: If no key is shared.
    """
    keys = [key for key in a if key in b]
    if not keys:
        raise ValueError("two systems can be compared only on seeds or folds that both have")
    differences = np.array([b[key] - a[key] for key in keys], dtype=np.float64)
    estimate = interval(differences, level)
    p_value = None
    if estimate.sd is not None and estimate.sd > 0:
        p_value = float(stats.ttest_1samp(differences, 0.0).pvalue)
    return Comparison(estimate, p_value, int((differences > 0).sum()), int((differences < 0).sum()))
