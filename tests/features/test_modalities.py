"""Vectors of several modalities side by side: columns, what is missing, the cache, damaged recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from graphophone.corpora.base import Corpus
from graphophone.corpora.given import Given
from graphophone.errors import GraphophoneError
from graphophone.features import FeatureCache, FeaturePipeline, Standardizer, create_extractor
from graphophone.features.base import EXTRACTORS, Extractor, FeatureError, Level


class Letters(Extractor):
    """Counts of a, e and i: a text encoder without a network."""

    name = "letters"
    reads = "text"

    @property
    def level(self) -> Level:
        return "utterance"

    @property
    def hop(self) -> float | None:
        return None

    @property
    def columns(self) -> tuple[str, ...]:
        return ("a", "e", "i")

    @property
    def config(self) -> dict[str, Any]:
        return {}

    def _extract(self, signal: np.ndarray) -> np.ndarray:
        raise AssertionError("it reads text")

    def encode(self, texts: Any) -> list[np.ndarray]:
        return [np.array([text.count(letter) for letter in "aei"], dtype=np.float32) for text in texts]

    def outcomes(self, corpus: Corpus, cache: Any, workers: Any, max_duration: Any) -> Any:
        from graphophone.features.extraction import Outcome

        for index, text in enumerate(corpus.table["text"]):
            if isinstance(text, str) and text.strip():
                yield Outcome(index, array=self.encode([text])[0])
            else:
                yield Outcome(index, error="it has no text")


@pytest.fixture(autouse=True)
def letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXTRACTORS._entries, "letters", Letters)


def corpus_of(folder: Path, texts: list[str | None], sounds: list[bool | str]) -> Corpus:
    """Utterances; a sound may be there, not there, or a damaged file."""
    rng = np.random.default_rng(0)
    paths: list[str | None] = []
    for number, there in enumerate(sounds):
        path = folder / f"{number}.wav"
        if there == "damaged":
            path.write_bytes(b"RIFF nothing")
        elif there:
            soundfile.write(path, 0.3 * rng.standard_normal(8000), 16000)
        paths.append(str(path) if there else None)
    table = pd.DataFrame(
        {
            "id": [f"u{number}" for number in range(len(texts))],
            "text": texts,
            "audio": paths,
            "label": ["a", "b"] * (len(texts) // 2),
        }
    )
    return Corpus(name="two", table=table, classes=("a", "b"))


def test_side_by_side(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, ["aa e", None, "i", None], [True, True, False, False])
    pipeline = FeaturePipeline(create_extractor("modalities", audio="logmel128", text="letters"))
    assert pipeline.extractor.widths == {"text": 3, "audio": pipeline.dims - 3}  # type: ignore[attr-defined]
    assert pipeline.columns[:4] == ("text.a", "text.e", "text.i", f"audio.{pipeline.columns[3].removeprefix('audio.')}")
    found = pipeline.extract(corpus, cache=FeatureCache(tmp_path / "cache"), workers=1, progress=False)
    assert found.ids == ["u0", "u1", "u2"]
    x = np.concatenate(list(found))
    assert x[0, :3].tolist() == [2, 1, 0]
    assert np.isfinite(x[0]).all()
    assert np.isnan(x[1, :3]).all()
    assert np.isfinite(x[1, 3:]).all()
    assert x[2, :3].tolist() == [0, 0, 1]
    assert np.isnan(x[2, 3:]).all()
    assert [problem.item for problem in found.failures] == ["u3"]
    assert "text" in found.failures[0].reason
    assert "audio" in found.failures[0].reason
    assert not found.notes  # what an item does not have is no fault of it
    audio = create_extractor("logmel128")
    signal, rate = soundfile.read(tmp_path / "0.wav", dtype="float32")
    np.testing.assert_allclose(x[0, 3:], np.atleast_2d(audio(signal, rate)).mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(pipeline(signal, rate, text="aa e")[0], x[0], rtol=1e-6)
    assert np.isnan(pipeline(None, rate, text="i")[0, 3:]).all()


def test_a_damaged_recording_leaves_the_text(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, ["aa e", "e"], ["damaged", True])
    pipeline = FeaturePipeline(create_extractor("modalities", audio="logmel128", text="letters"))
    found = pipeline.extract(corpus, cache=None, workers=1, progress=False)
    assert found.ids == ["u0", "u1"]
    assert np.isnan(found[0][0, 3:]).all()
    assert [(note.item, note.severity) for note in found.notes] == [("u0", "warning")]
    assert found.notes[0].reason.startswith("audio is left out")


def test_given_parts_beside_an_encoder(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, ["a", "e"], [False, False])
    vectors = np.arange(10, dtype=np.float32).reshape(2, 5)
    corpus = Corpus(
        name="given",
        table=corpus.table.drop(columns="audio").assign(node=[1, 0]),
        classes=corpus.classes,
        given=Given.side_by_side({"text": vectors[:, :2], "audio": vectors[:, 2:]}),
    )
    both = FeaturePipeline(create_extractor("modalities", text="letters", audio={"name": "given", "dims": 3}))
    x = np.concatenate(list(both.extract(corpus, cache=None, progress=False)))
    np.testing.assert_array_equal(x, [[1, 0, 0, 7, 8, 9], [0, 1, 0, 2, 3, 4]])
    wrong = FeaturePipeline(create_extractor("modalities", audio={"name": "given", "dims": 7}))
    with pytest.raises(FeatureError, match="set dims to 3"):
        wrong.extract(corpus, cache=None, progress=False)
    absent = FeaturePipeline(create_extractor("modalities", video={"name": "given", "dims": 7}))
    with pytest.raises(FeatureError, match="'video'; it has text, audio"):
        absent.extract(corpus, cache=None, progress=False)


def test_pipeline_from_its_description() -> None:
    pipeline = FeaturePipeline(create_extractor("modalities", text="letters", audio={"name": "given", "dims": 3}))
    again = FeaturePipeline.from_dict(pipeline.to_dict())
    assert again.to_dict() == pipeline.to_dict()
    assert again.fingerprint == pipeline.fingerprint
    other = FeaturePipeline(create_extractor("modalities", text="letters", audio={"name": "given", "dims": 4}))
    assert other.fingerprint != pipeline.fingerprint


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "name an extractor"),
        ({"text": "logmel128"}, "reads signal, not text"),
        ({"audio": "letters"}, "reads text, not audio"),
        ({"video": "logmel128"}, "or given"),
        ({"audio": {"dims": 3}}, "name the extractor"),
        ({"audio": "egemap"}, "egemaps"),
    ],
)
def test_refusals(options: dict[str, Any], says: str) -> None:
    with pytest.raises(GraphophoneError, match=says):
        create_extractor("modalities", **options)


def test_an_utterance_with_nothing() -> None:
    pipeline = FeaturePipeline(create_extractor("modalities", text="letters", audio="logmel128"))
    with pytest.raises(FeatureError, match="neither text nor audio"):
        pipeline(None, 16000, text="  ")
    pipeline = FeaturePipeline(create_extractor("modalities", text="letters"))
    with pytest.raises(FeatureError, match="there is no text, and nothing else is read"):
        pipeline(None, 16000, text="  ")


def test_standardizer_of_what_is_there() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(3.0, 2.0, (500, 3))
    gaps = x.copy()
    gaps[::2, 1] = np.nan
    gaps[:, 2] = np.nan
    fitted = Standardizer.fit([gaps[:100], gaps[100:]], missing=True)
    np.testing.assert_allclose(fitted.mean[:2], [x[:, 0].mean(), x[1::2, 1].mean()])
    np.testing.assert_allclose(fitted.std[:2], [x[:, 0].std(), x[1::2, 1].std()])
    assert (fitted.mean[2], fitted.std[2]) == (0.0, 1.0)
    np.testing.assert_array_equal(np.isnan(fitted(gaps)), np.isnan(gaps))
    pooled = Standardizer.fit([gaps[:, :2]], missing=True, pooled=True)
    values = gaps[:, :2][~np.isnan(gaps[:, :2])]
    np.testing.assert_allclose([pooled.mean[0], pooled.std[0]], [values.mean(), values.std()])
    with pytest.raises(FeatureError, match="holds NaN"):
        Standardizer.fit([gaps])
