import json
import pickle
from typing import Any

import numpy as np
import pytest

from graphophone.audio import resample
from graphophone.errors import MissingDependencyError, UnknownNameError
from graphophone.features import EXTRACTORS, Extractor, FeatureError, create_extractor, list_extractors, smile


class Peak(Extractor):
    """Peak and mean of blocks of ten samples, with options to misbehave."""

    name = "peak"
    min_samples = 20

    def __init__(self, *, spoil: float | None = None, columns: int = 2) -> None:
        self._spoil = spoil
        self._columns = columns

    level = "frame"
    hop = 10 / 16000

    @property
    def columns(self) -> tuple[str, ...]:
        return ("peak", "mean", "more")[: self._columns]

    @property
    def config(self) -> dict[str, Any]:
        return {"spoil": self._spoil, "columns": self._columns}

    def _extract(self, signal: np.ndarray) -> np.ndarray:
        blocks = signal[: len(signal) // 10 * 10].reshape(-1, 10)
        result = np.stack([np.abs(blocks).max(axis=1), blocks.mean(axis=1)], axis=1)
        if self._spoil is not None:
            result[-1, 1] = self._spoil
        return result


#: Those that want weights of the user's, and those that read something else than sound, have tests of their own.
READY = [
    name
    for name in list_extractors()
    if name not in ("given", "minilm", "modalities", "speech_encoder", "text_encoder", "vggish")
]


def test_lists_the_built_in_extractors() -> None:
    assert list_extractors() == [
        "compare",
        "egemaps",
        "fbank",
        "functionals165",
        "given",
        "is10",
        "logmel128",
        "minilm",
        "modalities",
        "panns_logmel",
        "speech_encoder",
        "text_encoder",
        "vggish",
    ]
    assert list_extractors("e*") == ["egemaps"]


@pytest.mark.parametrize("name", READY)
def test_contract_of_every_extractor(name: str, signal: np.ndarray) -> None:
    extractor = create_extractor(name)
    assert extractor.name == name
    features = extractor(signal, 16000)
    assert features.dtype == np.float32
    assert features.shape[-1] == extractor.dims == len(extractor.columns) == len(set(extractor.columns))
    assert features.ndim == (2 if extractor.level == "frame" else 1)
    assert (extractor.hop is None) == (extractor.level == "utterance")
    if extractor.hop is not None:
        assert len(features) == pytest.approx(1.0 / extractor.hop, rel=0.1)
    again = create_extractor(name, **json.loads(json.dumps(extractor.config)))
    assert again.fingerprint == extractor.fingerprint
    np.testing.assert_array_equal(again(signal, 16000), features)
    copy = pickle.loads(pickle.dumps(extractor))  # noqa: S301
    np.testing.assert_array_equal(copy(signal, 16000), features)


@pytest.mark.parametrize("name", READY)
def test_short_and_silent_signals_give_finite_features(name: str) -> None:
    extractor = create_extractor(name)
    for samples in (1, 400, 959, 1119, 1120):
        assert np.isfinite(extractor(np.full(samples, 0.1, dtype=np.float32), 16000)).all()
    assert np.isfinite(extractor(np.zeros(8000, dtype=np.float32), 16000)).all()


def test_other_rates_are_resampled(signal: np.ndarray) -> None:
    extractor = create_extractor("fbank")
    double = resample(signal, 16000, 32000)
    np.testing.assert_array_equal(extractor(double, 32000), extractor(resample(double, 32000, 16000), 16000))


def test_short_signals_are_padded_at_the_end() -> None:
    features = Peak()(np.full(5, 0.5, dtype=np.float32), 16000)
    np.testing.assert_array_equal(features, np.array([[0.5, 0.25], [0, 0]], dtype=np.float32))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((2, 100), dtype=np.float32), r"mono float signal .* shape \[2, 100\]"),
        (np.zeros(100, dtype=np.int16), "mono float signal .* int16"),
        (np.zeros(0, dtype=np.float32), "is empty"),
        (np.array([0.0, np.nan] * 50, dtype=np.float32), "NaN or infinite"),
    ],
)
def test_bad_signals_are_refused(bad: np.ndarray, message: str) -> None:
    with pytest.raises(FeatureError, match=message):
        Peak()(bad, 16000)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_no_numbers_are_an_error(value: float) -> None:
    with pytest.raises(FeatureError, match=r"not a finite number in 1 of 2 features \(mean\)"):
        Peak(spoil=value)(np.ones(100, dtype=np.float32), 16000)


def test_wrong_number_of_columns_is_an_error() -> None:
    with pytest.raises(FeatureError, match=r"shape \[10, 2\] instead of \[10, 3\]"):
        Peak(columns=3)(np.ones(100, dtype=np.float32), 16000)


def test_fingerprint_follows_configuration_version_and_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprints = {
        Peak().fingerprint,
        Peak(spoil=1.0).fingerprint,
        create_extractor("is10").fingerprint,
        create_extractor("fbank").fingerprint,
        create_extractor("fbank", num_mel_bins=64).fingerprint,
    }
    assert len(fingerprints) == 5
    monkeypatch.setattr(Peak, "version", 2)
    assert Peak().fingerprint not in fingerprints
    monkeypatch.setattr(smile, "version", lambda: "9.9.9")
    assert create_extractor("is10").fingerprint not in fingerprints


def test_fingerprint_does_not_change_between_releases() -> None:
    # A change here throws away every user's cache: only with a change of numbers.
    assert Peak().fingerprint == "a25f93b1cc03b03b3606b4f73279f489"


def test_unknown_names_and_options_are_named() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'is10'"):
        create_extractor("is09")
    with pytest.raises(UnknownNameError, match="num_mel_bins"):
        create_extractor("fbank", num_mel_bin=3)


def test_a_missing_package_is_named_on_use_not_on_construction(
    monkeypatch: pytest.MonkeyPatch, signal: np.ndarray
) -> None:
    def absent(name: str) -> str:
        raise smile.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(smile.importlib.metadata, "version", absent)
    smile._smile.cache_clear()
    for name in ("is10", "egemaps", "compare"):
        extractor = create_extractor(name)
        assert extractor.dims > 0
        with pytest.raises(MissingDependencyError, match=r"pip install 'graphophone\[opensmile\]'"):
            extractor.prepare()
        with pytest.raises(MissingDependencyError, match=r"pip install 'graphophone\[opensmile\]'"):
            extractor(signal, 16000)


def test_a_users_extractor_can_be_registered(monkeypatch: pytest.MonkeyPatch, signal: np.ndarray) -> None:
    monkeypatch.setattr(EXTRACTORS, "_entries", dict(EXTRACTORS._entries))
    EXTRACTORS.register("peak", Peak)
    assert "peak" in list_extractors()
    assert create_extractor("peak")(signal, 16000).shape == (1600, 2)
