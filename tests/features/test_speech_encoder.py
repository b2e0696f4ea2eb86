import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from graphophone.corpora.base import Corpus
from graphophone.features import FeatureCache, FeatureError, FeaturePipeline, create_extractor
from graphophone.features.speech_encoder import SpeechEncoder, receptive_field, standardise

MakeEncoder = Callable[..., Path]


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "wavlm"])
@pytest.mark.parametrize("normalise", [True, False])
def test_the_vector_is_the_mean_of_the_networks_frames(
    make_speech_encoder: MakeEncoder, kind: str, norm: str, normalise: bool, signal: np.ndarray
) -> None:
    import transformers

    folder = make_speech_encoder(
        kind, feat_extract_norm=norm, do_stable_layer_norm=norm == "layer", normalise=normalise
    )
    network = transformers.AutoModel.from_pretrained(folder).eval()
    prepare = transformers.AutoFeatureExtractor.from_pretrained(folder)
    values = prepare(signal, sampling_rate=16000, return_tensors="pt")["input_values"]
    with torch.no_grad():
        states = network(values).last_hidden_state[0].numpy()
    np.testing.assert_allclose(SpeechEncoder(model=folder)(signal, 16000), states.mean(axis=0), atol=1e-5)
    frames = SpeechEncoder(model=folder, sequence=True)(signal, 16000)
    assert frames.shape == (49, 16)
    np.testing.assert_allclose(frames, states, atol=1e-5)


def test_contract(make_speech_encoder: MakeEncoder, signal: np.ndarray) -> None:
    extractor = create_extractor("speech_encoder", model=str(make_speech_encoder()), chunks=0.5)
    assert (extractor.reads, extractor.level, extractor.hop, extractor.dims) == ("signal", "utterance", None, 16)
    assert create_extractor("speech_encoder", **{**extractor.config, "sequence": True}).hop == 0.02
    again = create_extractor("speech_encoder", **json.loads(json.dumps(extractor.config)))
    assert again.fingerprint == extractor.fingerprint
    np.testing.assert_array_equal(again(signal, 16000), extractor(signal, 16000))
    copy = pickle.loads(pickle.dumps(extractor))  # noqa: S301
    np.testing.assert_array_equal(copy(signal, 16000), extractor(signal, 16000))
    with pytest.raises(FeatureError, match="reads signal, not text"):
        extractor.encode(["yeah"])


@pytest.mark.parametrize("rest", [0, 100, 4000])
def test_pieces_are_encoded_each_by_itself_and_weighted_by_their_length(
    make_speech_encoder: MakeEncoder, voiced: Callable[..., np.ndarray], rest: int
) -> None:
    folder = make_speech_encoder()
    signal = voiced(20 * 1600 + rest)
    pieces = [signal[begin : begin + 1600] for begin in range(0, len(signal), 1600)]
    pieces = [piece for piece in pieces if len(piece) >= 400]  # 100 samples make no frame
    whole = SpeechEncoder(model=folder)
    alone = [whole(piece, 16000) for piece in pieces]
    expected = np.average(alone, axis=0, weights=[len(piece) for piece in pieces])
    np.testing.assert_allclose(SpeechEncoder(model=folder, chunks=0.1)(signal, 16000), expected, atol=1e-5)
    frames = SpeechEncoder(model=folder, chunks=0.1, sequence=True)(signal, 16000)
    sequences = [SpeechEncoder(model=folder, sequence=True)(piece, 16000) for piece in pieces]
    np.testing.assert_allclose(frames, np.concatenate(sequences), atol=1e-5)


def test_a_short_recording_in_pieces_is_the_recording(make_speech_encoder: MakeEncoder, signal: np.ndarray) -> None:
    folder = make_speech_encoder()
    short = signal[:9000]
    whole = SpeechEncoder(model=folder)(short, 16000)
    np.testing.assert_array_equal(SpeechEncoder(model=folder, chunks=1.0)(short, 16000), whole)
    assert not np.allclose(SpeechEncoder(model=folder, chunks=0.2)(short, 16000), whole, atol=1e-4)


def test_short_and_silent_recordings(make_speech_encoder: MakeEncoder) -> None:
    for extractor in (SpeechEncoder(model=make_speech_encoder()), SpeechEncoder(model=make_speech_encoder(), chunks=1)):
        for samples in (1, 399, 400, 16001):
            assert np.isfinite(extractor(np.full(samples, 0.1, dtype=np.float32), 16000)).all()


def test_standardise() -> None:
    values = standardise(np.random.default_rng(0).normal(3.0, 2.0, 1000).astype(np.float32))
    assert values.dtype == np.float32
    assert (values.mean(), values.std()) == pytest.approx((0.0, 1.0), abs=1e-5)
    np.testing.assert_array_equal(standardise(np.full(10, 0.5, dtype=np.float32)), np.zeros(10))


@pytest.mark.parametrize(
    ("kernels", "strides", "samples"), [((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2), 400), ((4,), (3,), 4)]
)
def test_receptive_field(tmp_path: Path, kernels: tuple, strides: tuple, samples: int) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"conv_kernel": kernels, "conv_stride": strides}))
    assert receptive_field(tmp_path) == samples


def test_fingerprint_follows_weights_and_preprocessing(make_speech_encoder: MakeEncoder, tmp_path: Path) -> None:
    folder = make_speech_encoder()
    moved = shutil.copytree(folder, tmp_path / "moved")
    first = SpeechEncoder(model=folder).fingerprint
    assert SpeechEncoder(model=moved).fingerprint == first
    others = [
        SpeechEncoder(model=make_speech_encoder(seed=1)),
        SpeechEncoder(model=make_speech_encoder(normalise=False)),
        SpeechEncoder(model=folder, chunks=1.0),
        SpeechEncoder(model=folder, sequence=True),
    ]
    assert len({first, *(other.fingerprint for other in others)}) == 5


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])  # two processes import transformers
def test_corpora_and_the_cache(
    make_speech_encoder: MakeEncoder, make_corpus: Callable[..., Corpus], cache: FeatureCache, workers: int
) -> None:
    corpus = make_corpus([0.3, 0.5, 0.7, 0.4])
    extractor = SpeechEncoder(model=make_speech_encoder())
    there = FeaturePipeline(extractor).extract(corpus, cache=cache, workers=workers, progress=False)
    assert not there.failures
    here = FeaturePipeline(extractor).extract(corpus, cache=None, workers=1, progress=False)
    np.testing.assert_allclose(np.concatenate(list(there)), np.concatenate(list(here)), atol=1e-5)
    again = FeaturePipeline(extractor).extract(corpus, cache=cache, workers=1, progress=False)
    assert again.stats.cached == 4


def test_what_is_no_speech_encoder(
    make_text_encoder: MakeEncoder, make_speech_encoder: MakeEncoder, signal: np.ndarray
) -> None:
    with pytest.raises(FeatureError, match="is a bert without convolutions over sound"):
        SpeechEncoder(model=make_text_encoder())(signal, 16000)
    folder = make_speech_encoder()
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, "sampling_rate": 8000}))
    with pytest.raises(FeatureError, match="reads sound at 8000 Hz"):
        SpeechEncoder(model=folder)(signal, 16000)
    with pytest.raises(FeatureError, match="chunks: expected at least"):
        SpeechEncoder(chunks=0.01)
