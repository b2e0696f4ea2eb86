"""How loud a recording is while there is something in it."""

from __future__ import annotations

import math

import numpy as np
import scipy.ndimage
import scipy.signal

_SMOOTHING = 0.03  # seconds, both exponential averages of the envelope
_HANGOVER = 0.2  # seconds that activity goes on after the envelope has fallen below the threshold
_MARGIN = 15.9  # dB between the active level and the threshold
_STEP = 0.1  # dB between thresholds
_RANGE = 90.0  # dB of thresholds below the highest


def active_power(signal: np.ndarray, rate: int) -> float:
    """Mean square of a signal over the time in which it is active: pauses do not count.

    The active level of ITU-T P.56 (method B): an envelope of two exponential averages of 30 ms; the signal is active
    while the envelope is above a threshold, and 200 ms more; the threshold lies 15.9 dB below the resulting level.
    Thresholds are 0.1 dB apart and relative to the envelope's highest value, so that the level scales with the
    signal. A recording that is never silent has nearly its mean square, one that is half silence twice as much.

    Args:
        signal: `[samples]`.
        rate: Samples per second.

    Returns:
        The power; 0 for a signal of zeros.
    """
    samples = np.abs(np.asarray(signal, dtype=np.float64))
    energy = float(np.square(samples).sum())
    if energy == 0:
        return 0.0
    decay = math.exp(-1 / (_SMOOTHING * rate))
    envelope = samples
    for _ in range(2):
        envelope = scipy.signal.lfilter([1 - decay], [1, -decay], envelope)
    hangover = min(math.ceil(_HANGOVER * rate), len(envelope) - 1)
    # The largest of a sample and of those before it, as far as the hangover reaches.
    size = hangover + 1
    held = scipy.ndimage.maximum_filter1d(envelope, size, mode="constant", origin=hangover - size // 2)
    with np.errstate(divide="ignore"):
        below = 20 * np.log10(held / held.max())
    thresholds = np.arange(-_RANGE, _STEP / 2, _STEP)
    # Samples at or above each threshold; rounding must not lose those at the highest.
    order = np.sort(below)
    active = len(order) - np.searchsorted(order, thresholds - 1e-9)
    powers = energy / active
    distance = 10 * np.log10(powers) - (thresholds + 20 * math.log10(float(held.max())))
    under = np.flatnonzero(distance <= _MARGIN)
    if not len(under):
        return energy / max(int(active[-1]), size)  # a click: what is left is its hangover
    at = int(under[0])
    if at == 0:
        return float(powers[0])
    share = (distance[at - 1] - _MARGIN) / (distance[at - 1] - distance[at])
    return float(powers[at - 1] ** (1 - share) * powers[at] ** share)
