"""The extended Geneva minimalistic acoustic parameter set.

F. Eyben et al., "The Geneva minimalistic acoustic parameter set (GeMAPS) for voice research and affective
computing", IEEE Transactions on Affective Computing 7(2), 2016.
"""

from __future__ import annotations

from graphophone.features.smile import SmileSet


class EGeMAPS(SmileSet):
    """eGeMAPS v02: 88 statistics of an utterance, or the 25 descriptors behind them.

    Small and interpretable: pitch, jitter, formants, shimmer, loudness, harmonics-to-noise ratio, spectral
    slopes, four MFCC, and rates of voiced segments and loudness peaks.

    Args:
        level: ``"functionals"`` (88, one vector per signal) or ``"lld"`` (25, every 10 ms).

    Shapes:
        - **signal:** `[samples]`
        - **output:** `[88]`, or `[frames, 25]`
    """

    name = "egemaps"
    feature_set = "eGeMAPSv02"
    sizes = {"functionals": 88, "lld": 25}  # noqa: RUF012
