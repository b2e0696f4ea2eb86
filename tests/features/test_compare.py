import numpy as np
import pytest

from graphophone.features import create_extractor

opensmile = pytest.importorskip("opensmile")


@pytest.mark.parametrize(("level", "size"), [("functionals", 6373), ("lld", 65)])
def test_equals_the_package(level: str, size: int, signal: np.ndarray) -> None:
    extractor = create_extractor("compare", level=level)
    kind = {"functionals": "Functionals", "lld": "LowLevelDescriptors"}[level]
    reference = opensmile.Smile(opensmile.FeatureSet.ComParE_2016, getattr(opensmile.FeatureLevel, kind))
    expected = reference.process_signal(signal, 16000)
    assert extractor.dims == size
    assert extractor.columns == tuple(expected.columns)
    np.testing.assert_array_equal(np.atleast_2d(extractor(signal, 16000)), expected.to_numpy())
