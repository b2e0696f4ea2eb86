"""Which frequencies the columns of a spectrogram stand for."""

from __future__ import annotations

import numpy as np

from graphophone.features import Extractor

_EDGES = (250, 500, 1000, 2000, 4000, 8000)


def band_centres(extractor: Extractor) -> np.ndarray | None:
    """Middle of the mel band that each column is of, in hertz, `[dims]`; None for features that are not of bands."""
    config = extractor.config
    if extractor.name == "fbank":
        upper = config["high_freq"] if config["high_freq"] > 0 else config["rate"] / 2 + config["high_freq"]
        low, high = 1127 * np.log1p(np.array([config["low_freq"], upper]) / 700)  # Kaldi's mel scale
        return 700 * np.expm1(np.linspace(low, high, config["num_mel_bins"] + 2)[1:-1] / 1127)
    if extractor.name == "panns_logmel":
        from graphophone.features.panns import slaney_hertz, slaney_mel

        low, high = slaney_mel(np.array([config["low_freq"], config["high_freq"]]))
        return slaney_hertz(np.linspace(low, high, config["num_mel_bins"] + 2)[1:-1])
    if extractor.name == "logmel128":
        from graphophone.features.logmel128 import centres

        return np.tile(centres(), 2)  # means, then deviations
    return None


def band_groups(centres: np.ndarray) -> dict[str, list[int]]:
    """Positions of the bands by octave, from low to high: `"below 250 Hz"`, `"250 to 500 Hz"`, ..."""
    octaves = np.searchsorted(_EDGES, centres, side="right")
    return {_name(octave): np.flatnonzero(octaves == octave).tolist() for octave in np.unique(octaves)}


def _name(octave: int) -> str:
    if octave == 0:
        return f"below {_hertz(_EDGES[0])}"
    if octave == len(_EDGES):
        return f"above {_hertz(_EDGES[-1])}"
    return f"{_hertz(_EDGES[octave - 1])} to {_hertz(_EDGES[octave])}"


def _hertz(frequency: int) -> str:
    return f"{frequency} Hz" if frequency < 1000 else f"{frequency // 1000} kHz"
