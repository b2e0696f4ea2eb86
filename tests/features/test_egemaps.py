import numpy as np
import pytest

from graphophone.features import FeatureError, create_extractor

opensmile = pytest.importorskip("opensmile")


@pytest.mark.parametrize(("level", "size"), [("functionals", 88), ("lld", 25)])
def test_equals_the_package(level: str, size: int, signal: np.ndarray) -> None:
    extractor = create_extractor("egemaps", level=level)
    kind = {"functionals": "Functionals", "lld": "LowLevelDescriptors"}[level]
    reference = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, getattr(opensmile.FeatureLevel, kind))
    expected = reference.process_signal(signal, 16000)
    assert extractor.dims == size
    assert extractor.columns == tuple(expected.columns)
    np.testing.assert_array_equal(np.atleast_2d(extractor(signal, 16000)), expected.to_numpy())


def test_level_of_the_output_follows_the_option() -> None:
    assert create_extractor("egemaps").level == "utterance"
    assert create_extractor("egemaps", level="lld").level == "frame"
    assert create_extractor("egemaps", level="lld").hop == 0.01
    with pytest.raises(FeatureError, match="'functionals' or 'lld', got 'frame'"):
        create_extractor("egemaps", level="frame")
