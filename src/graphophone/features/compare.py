"""The feature set of the computational paralinguistics challenges.

B. Schuller et al., "The INTERSPEECH 2016 computational paralinguistics challenge: deception, sincerity &
native language", INTERSPEECH 2016.
"""

from __future__ import annotations

from graphophone.features.smile import SmileSet


class ComParE(SmileSet):
    """ComParE 2016: 6,373 statistics of an utterance, or the 65 descriptors behind them.

    The large brute-force set; with a linear support vector machine on the functionals it is the usual
    baseline of speech-emotion papers.

    Args:
        level: ``"functionals"`` (6,373, one vector per signal) or ``"lld"`` (65, every 10 ms).

    Shapes:
        - **signal:** `[samples]`
        - **output:** `[6373]`, or `[frames, 65]`
    """

    name = "compare"
    feature_set = "ComParE_2016"
    sizes = {"functionals": 6373, "lld": 65}  # noqa: RUF012
