import json
import math
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file

from graphophone import audio
from graphophone.corpora.base import Corpus
from graphophone.errors import UnknownNameError
from graphophone.features import (
    CacheWarning,
    FeatureCache,
    FeatureError,
    FeaturePipeline,
    Standardizer,
    create_extractor,
)
from graphophone.features import cache as cache_module
from graphophone.features.cache import CacheError
from graphophone.features.pipeline import average_windows, decimate

MakeCorpus = Callable[..., Corpus]


@pytest.fixture
def pipeline() -> FeaturePipeline:
    return FeaturePipeline(create_extractor("fbank", num_mel_bins=8))


# Decimation

matrices = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 40), st.integers(1, 3)),
    elements=st.floats(-1e3, 1e3, width=32, allow_nan=False),
)


@given(matrices, st.integers(1, 50))
def test_mean_averages_blocks_and_the_partial_last_one(frames: np.ndarray, factor: int) -> None:
    blocks = [frames[i : i + factor].astype(np.float64).mean(axis=0) for i in range(0, len(frames), factor)]
    result = decimate(frames, factor, "mean")
    assert result.dtype == np.float32
    assert len(result) == math.ceil(len(frames) / factor)
    np.testing.assert_allclose(result, blocks, rtol=1e-6, atol=1e-6)


@given(matrices, st.integers(1, 50))
def test_pick_keeps_the_first_of_each_block(frames: np.ndarray, factor: int) -> None:
    np.testing.assert_array_equal(decimate(frames, factor, "pick"), frames[::factor])


@given(matrices, st.integers(1, 6), st.integers(1, 6))
def test_picks_compose(frames: np.ndarray, first: int, second: int) -> None:
    twice = decimate(decimate(frames, first, "pick"), second, "pick")
    np.testing.assert_array_equal(twice, decimate(frames, first * second, "pick"))


# The pipeline on one signal


def test_columns_hop_and_output(signal: np.ndarray) -> None:
    extractor = create_extractor("fbank", num_mel_bins=8)
    raw = extractor(signal, 16000)
    pipeline = FeaturePipeline(extractor, decimate=3, metadata=("spontaneous", "arousal"))
    assert pipeline.dims == len(pipeline.columns) == 10
    assert pipeline.acoustic_dims == 8
    assert pipeline.columns[-2:] == ("spontaneous", "arousal")
    assert pipeline.hop == pytest.approx(0.03)
    assert pipeline.rate == 16000
    features = pipeline(signal, 16000, {"spontaneous": 1.0, "other": 7.0})
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features[:, :8], decimate(raw, 3))
    np.testing.assert_array_equal(features[:, 8:], np.tile([1.0, 0.0], (33, 1)))


@pytest.mark.parametrize("unknown", [None, {}, {"spontaneous": None}, {"spontaneous": math.nan}])
def test_unknown_metadata_is_zero(unknown: dict[str, float] | None, signal: np.ndarray) -> None:
    pipeline = FeaturePipeline(create_extractor("fbank"), metadata=["spontaneous"])
    assert (pipeline(signal, 16000, unknown)[:, -1] == 0).all()


def test_an_utterance_vector_is_a_matrix_of_one_row(signal: np.ndarray) -> None:
    pipeline = FeaturePipeline(create_extractor("egemaps"), metadata=("spontaneous",))
    features = pipeline(signal, 16000, {"spontaneous": 1})
    assert features.shape == (1, 89)
    assert pipeline.hop is None
    np.testing.assert_array_equal(features[0, :88], create_extractor("egemaps")(signal, 16000))


def test_is10_with_the_spontaneity_column_has_77() -> None:
    assert FeaturePipeline(create_extractor("is10"), metadata=("spontaneous",)).dims == 77


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decimate": 0}, "decimate: expected a whole number"),
        ({"decimate": 1.5}, "decimate: expected a whole number"),
        ({"decimate_mode": "max"}, "'mean' or 'pick'"),
        ({"metadata": ("a", "a")}, "named twice"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, object], message: str) -> None:
    with pytest.raises(FeatureError, match=message):
        FeaturePipeline(create_extractor("fbank"), **options)


def test_utterance_vectors_cannot_be_decimated() -> None:
    with pytest.raises(FeatureError, match="one vector per utterance"):
        FeaturePipeline(create_extractor("egemaps"), decimate=2)


# Description


def test_description_round_trip(signal: np.ndarray) -> None:
    extractor = create_extractor("fbank", num_mel_bins=12, window="povey")
    pipeline = FeaturePipeline(extractor, decimate=4, decimate_mode="pick", metadata=("spontaneous",))
    again = FeaturePipeline.from_dict(json.loads(json.dumps(pipeline.to_dict())))
    assert again.to_dict() == pipeline.to_dict()
    assert again.fingerprint == pipeline.fingerprint
    np.testing.assert_array_equal(again(signal, 16000), pipeline(signal, 16000))


def test_fingerprint_follows_every_option() -> None:
    def make(**options: object) -> str:
        return FeaturePipeline(create_extractor("fbank"), **options).fingerprint

    prints = [make(), make(decimate=2), make(decimate=2, decimate_mode="pick"), make(metadata=("spontaneous",))]
    prints.append(FeaturePipeline(create_extractor("fbank", num_mel_bins=40)).fingerprint)
    assert len(set(prints)) == 5


def test_wrong_descriptions_are_named() -> None:
    good = FeaturePipeline(create_extractor("fbank")).to_dict()
    with pytest.raises(FeatureError, match="unknown key 'decimation'"):
        FeaturePipeline.from_dict({**good, "decimation": 2})
    with pytest.raises(FeatureError, match=r"expected .'extractor'"):
        FeaturePipeline.from_dict({"decimate": 2})
    with pytest.raises(UnknownNameError, match="no option 'bins'"):
        FeaturePipeline.from_dict({"extractor": {"name": "fbank", "config": {"bins": 2}}})


# Whole corpora (in this process; tests of worker processes are in test_extraction.py)


def expected(pipeline: FeaturePipeline, corpus: Corpus, row: int) -> np.ndarray:
    item = corpus.table.iloc[row]
    wave = audio.load(item["audio"], start=item.get("start"), end=item.get("end"))
    return pipeline(wave.signal, wave.rate, {name: item.get(name) for name in pipeline.metadata})


@pytest.mark.parametrize("cached", [True, False])
def test_extract_gives_what_the_pipeline_gives(cached: bool, cache: FeatureCache, make_corpus: MakeCorpus) -> None:
    corpus = make_corpus([0.5, 1.0, 0.3], spontaneous=[1, 0, 1])
    pipeline = FeaturePipeline(
        create_extractor("fbank", num_mel_bins=8), decimate=2, metadata=("spontaneous", "absent")
    )
    features = pipeline.extract(corpus, cache=cache if cached else None, workers=1)
    assert features.ids == ["item-0", "item-1", "item-2"]
    assert features.rows.tolist() == [0, 1, 2]
    assert len(features) == len(features.arrays) == 3
    for i, array in enumerate(features):
        np.testing.assert_array_equal(array, expected(pipeline, corpus, i))
        assert features.lengths[i] == len(array)
    assert features[0][:, -2:].tolist() == [[1.0, 0.0]] * len(features[0])
    assert [len(a) for a in features[1:]] == features.lengths[1:].tolist()
    with pytest.raises(IndexError):
        features[3]
    copy = pickle.loads(pickle.dumps(features))  # noqa: S301
    np.testing.assert_array_equal(copy[2], features[2])


def test_plain_features_are_memory_maps(
    cache: FeatureCache, make_corpus: MakeCorpus, pipeline: FeaturePipeline
) -> None:
    features = pipeline.extract(make_corpus([0.5]), cache=cache, workers=1)
    assert not features[0].flags.owndata
    assert not features[0].flags.writeable


def test_a_cache_cleared_meanwhile_is_an_error_that_names_the_item(
    cache: FeatureCache, make_corpus: MakeCorpus, pipeline: FeaturePipeline
) -> None:
    features = pipeline.extract(make_corpus([0.5]), cache=cache, workers=1)
    cache.clear()
    with pytest.raises(CacheError, match="item-0: its features are no longer in the cache"):
        features[0]


def test_second_run_computes_nothing(
    cache: FeatureCache,
    make_corpus: MakeCorpus,
    pipeline: FeaturePipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    corpus = make_corpus([0.5, 1.0])
    for path in corpus.table["audio"]:
        os.utime(path, (time.time() - 100,) * 2)
    first = pipeline.extract(corpus, cache=cache, workers=1)
    assert (first.stats.items, first.stats.cached) == (2, 0)
    assert first.stats.seconds_audio == first.stats.seconds_extracted == pytest.approx(1.5)
    assert first.stats.x_real_time == pytest.approx(1.5 / first.stats.seconds_wall)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the second run reads no audio")

    monkeypatch.setattr(audio, "load", never)
    monkeypatch.setattr("graphophone.features.extraction.content_hash", never)
    second = pipeline.extract(corpus, cache=cache, workers=1)
    assert (second.stats.items, second.stats.cached, second.stats.seconds_extracted) == (2, 2, 0)
    assert second.stats.seconds_audio == pytest.approx(1.5)
    assert second.failures == first.failures == ()
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    # Another decimation, and metadata columns, are applied to what is cached.
    other = FeaturePipeline(pipeline.extractor, decimate=5, metadata=("spontaneous",))
    assert other.extract(corpus, cache=cache, workers=1).stats.cached == 2


def test_cache_goes_by_content_not_by_name(
    cache: FeatureCache, make_corpus: MakeCorpus, pipeline: FeaturePipeline
) -> None:
    corpus = make_corpus([0.5, 0.7])
    pipeline.extract(corpus, cache=cache, workers=1)
    a, b = (Path(path) for path in corpus.table["audio"])
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)
    swapped = pipeline.extract(corpus, cache=cache, workers=1)
    assert swapped.stats.cached == 2
    for i in range(2):
        np.testing.assert_array_equal(swapped[i], expected(pipeline, corpus, i))
    a.write_bytes(second[:-2000] + bytes(2000))
    changed = pipeline.extract(corpus, cache=cache, workers=1)
    assert changed.stats.cached == 1
    np.testing.assert_array_equal(changed[0], expected(pipeline, corpus, 0))


def test_segments_of_one_recording(
    cache: FeatureCache,
    make_corpus: MakeCorpus,
    pipeline: FeaturePipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = make_corpus([2.0])
    frame = whole.table.loc[[0, 0, 0]].reset_index(drop=True)
    frame["id"] = ["a", "b", "c"]
    frame["start"] = [np.nan, 0.5, 1.25]
    frame["end"] = [0.5, 1.25, np.nan]
    corpus = Corpus.from_table(frame.drop(columns="row", errors="ignore"), name="segments")
    read = []
    real = cache_module.content_hash
    monkeypatch.setattr("graphophone.features.extraction.content_hash", lambda path: (read.append(path), real(path))[1])
    features = pipeline.extract(corpus, cache=cache, workers=1)
    assert len(read) == 1
    assert features.lengths.tolist() == [48, 73, 73]
    for i in range(3):
        np.testing.assert_array_equal(features[i], expected(pipeline, corpus, i))
    assert features.stats.seconds_audio == pytest.approx(2.0)


def test_failures_are_listed_and_the_rest_is_processed(
    cache: FeatureCache, make_corpus: MakeCorpus, pipeline: FeaturePipeline
) -> None:
    corpus = make_corpus([0.5] * 7)
    paths = [Path(path) for path in corpus.table["audio"]]
    paths[0].unlink()
    paths[1].write_bytes(b"")
    paths[2].write_text("words " * 500)
    paths[3].write_bytes(paths[3].read_bytes()[:3000])
    paths[5].unlink()
    paths[5].mkdir()
    for attempt in range(2):
        features = pipeline.extract(corpus, cache=cache, workers=1)
        assert features.ids == ["item-4", "item-6"]
        assert features.rows.tolist() == [4, 6]
        assert features.stats.cached == 2 * attempt
        assert [problem.item for problem in features.failures] == [f"item-{i}" for i in (0, 1, 2, 3, 5)]
        assert all(problem.severity == "error" for problem in features.failures)
        for problem, path, word in zip(
            features.failures,
            [paths[i] for i in (0, 1, 2, 3, 5)],
            ["no such file", "0 bytes", "no sound", "truncated", "folder"],
            strict=True,
        ):
            assert problem.reason.startswith(f"{path}: ")
            assert word in problem.reason
            assert "\n" not in problem.reason
        np.testing.assert_array_equal(features[1], expected(pipeline, corpus, 6))


def test_silence_is_a_remark_also_from_the_cache(
    cache: FeatureCache, make_corpus: MakeCorpus, pipeline: FeaturePipeline
) -> None:
    import soundfile as sf

    corpus = make_corpus([0.5, 0.5])
    sf.write(corpus.table["audio"][1], np.zeros(8000), 16000)
    for _ in range(2):
        features = pipeline.extract(corpus, cache=cache, workers=1)
        assert len(features) == 2
        assert [(note.item, note.reason, note.severity) for note in features.notes] == [("item-1", "silent", "warning")]


@pytest.mark.parametrize("remembered", [True, False])
def test_a_damaged_entry_is_reported_once_and_rebuilt(
    remembered: bool, cache: FeatureCache, make_corpus: MakeCorpus, pipeline: FeaturePipeline
) -> None:
    corpus = make_corpus([0.5, 0.5, 0.5])
    if remembered:
        for path in corpus.table["audio"]:
            os.utime(path, (time.time() - 100,) * 2)
    pipeline.extract(corpus, cache=cache, workers=1)
    victim = sorted(cache.folder.rglob("*.safetensors"))[1]
    content = victim.read_bytes()
    data = load_file(victim)["features"]
    victim.write_bytes(content[:-9] + b"\x00" + content[-8:])
    with pytest.warns(CacheWarning, match="damaged entry") as caught:
        features = pipeline.extract(corpus, cache=cache, workers=1)
    assert len(caught) == 1
    assert (features.stats.cached, features.stats.damaged) == (2, 1)
    for i in range(3):
        np.testing.assert_array_equal(features[i], expected(pipeline, corpus, i))
    np.testing.assert_array_equal(load_file(victim)["features"], data)
    assert pipeline.extract(corpus, cache=cache, workers=1).stats.damaged == 0


def test_a_file_that_changes_while_it_is_read_is_not_cached(
    cache: FeatureCache,
    make_corpus: MakeCorpus,
    pipeline: FeaturePipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    corpus = make_corpus([0.5])
    real = audio.load

    def load_and_change(path: str, **options: object) -> audio.Waveform:
        wave = real(path, **options)
        Path(path).write_bytes(Path(path).read_bytes() + b"more")
        return wave

    monkeypatch.setattr(audio, "load", load_and_change)
    features = pipeline.extract(corpus, cache=cache, workers=1)
    assert "changed while it was read" in features.failures[0].reason
    assert cache.info().entries == 0


def test_metadata_must_be_numeric(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus([0.5, 0.5], mood=["good", "bad"])
    pipeline = FeaturePipeline(create_extractor("fbank"), metadata=("mood",))
    with pytest.raises(FeatureError, match="metadata column 'mood' of corpus made is not numeric"):
        pipeline.extract(corpus, cache=None, workers=1)


def test_workers_must_be_positive(make_corpus: MakeCorpus, pipeline: FeaturePipeline) -> None:
    with pytest.raises(FeatureError, match="workers"):
        pipeline.extract(make_corpus([0.5]), cache=None, workers=0)


def test_no_progress_bar_off_a_terminal(
    make_corpus: MakeCorpus, pipeline: FeaturePipeline, capfd: pytest.CaptureFixture[str]
) -> None:
    pipeline.extract(make_corpus([0.5]), cache=None, workers=1, progress=True)
    assert capfd.readouterr() == ("", "")


@pytest.mark.data
def test_ravdess_frames(data_root: Path, cache: FeatureCache) -> None:
    from graphophone import corpora

    corpus = corpora.load("ravdess", root=data_root / "ravdess").select(range(0, 1440, 120))
    pipeline = FeaturePipeline(create_extractor("is10"), metadata=("spontaneous",))
    features = pipeline.extract(corpus, cache=cache, workers=1)
    assert features.failures == ()
    assert features.dims == 77
    durations = [audio.info(path).duration for path in corpus.table["audio"]]
    np.testing.assert_allclose(features.lengths * 0.01, durations, atol=0.07)
    assert np.isfinite(np.concatenate(list(features))).all()


@given(n=st.integers(1, 40), window=st.integers(1, 9), phase=st.integers(0, 8))
def test_average_windows_of_whole_frames_are_block_means(n: int, window: int, phase: int) -> None:
    phase = min(phase, window - 1, n - 1)
    x = np.random.default_rng(n).normal(size=(n, 3)).astype(np.float32)
    blocks = [x[i : i + window] for i in range(phase, n, window)]
    kept = [block for block in blocks if len(block) >= window / 2]
    expected = np.stack([block.mean(axis=0) for block in kept]) if kept else x.mean(axis=0, keepdims=True)
    np.testing.assert_allclose(average_windows(x, window, phase), expected, atol=1e-5)


@given(n=st.integers(1, 60), window=st.floats(0.5, 12), share=st.floats(0, 0.999))
def test_average_windows_weigh_frames_by_what_they_cover(n: int, window: float, share: float) -> None:
    x = np.arange(n, dtype=np.float32)[:, None]  # a ramp: the mean over [a, b) of a step function, by fine sampling
    phase = share * min(window, n)
    got = average_windows(x, window, phase)
    assert 1 <= len(got) <= n / window + 1
    starts = phase + window * np.arange(len(got))
    if starts[0] + window <= n:
        fine = starts[0] + window * (np.arange(4000) + 0.5) / 4000
        np.testing.assert_allclose(got[0, 0], x[np.floor(fine).astype(int), 0].mean(), atol=0.02 * window)
    assert np.isfinite(got).all()
    assert x.min() - 1e-4 <= got.min()
    assert got.max() <= x.max() + 1e-4


def test_relative_columns_are_the_movement_about_the_mean() -> None:
    plain = FeaturePipeline(create_extractor("fbank", num_mel_bins=5), decimate=3)
    both = FeaturePipeline(create_extractor("fbank", num_mel_bins=5), decimate=3, relative=True, metadata=["m"])
    signal = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    x, y = plain(signal, 16000), both(signal, 16000, {"m": 2.0})
    assert (both.acoustic_dims, both.dims, len(both.columns)) == (10, 11, 11)
    assert both.columns[5] == f"{plain.columns[0]}_relative"
    np.testing.assert_array_equal(y[:, :5], x)
    np.testing.assert_allclose(y[:, 5:10], x - x.mean(axis=0), atol=1e-6)
    assert (y[:, 10] == 2).all()
    again = FeaturePipeline.from_dict(both.to_dict())
    assert again.fingerprint == both.fingerprint != plain.fingerprint
    np.testing.assert_array_equal(again(signal, 16000, {"m": 2.0}), y)


def test_recordings_that_are_too_long_are_failures_cached_or_not(
    cache: FeatureCache, make_corpus: MakeCorpus, pipeline: FeaturePipeline
) -> None:
    corpus = make_corpus([0.4, 1.5])
    for _ in range(2):
        limited = pipeline.extract(corpus, cache=cache, workers=1, progress=False, max_duration=1.0)
        assert len(limited) == 1
        (problem,) = limited.failures
        assert "1.50 s, more than 1 s" in problem.reason
        assert len(pipeline.extract(corpus, cache=cache, workers=1, progress=False)) == 2


@given(n=st.integers(1, 12), frames=st.integers(1, 12), decimate=st.integers(1, 3), pad=st.floats(-20, 20, width=32))
def test_a_fixed_number_of_frames(n: int, frames: int, decimate: int, pad: float) -> None:
    extractor = create_extractor("fbank", num_mel_bins=5)
    free = FeaturePipeline(extractor, decimate=decimate, metadata=["m"])
    fixed = FeaturePipeline(extractor, decimate=decimate, metadata=["m"], frames=frames, pad_value=pad)
    raw, metadata = np.random.default_rng(n).normal(size=(n, 5)).astype(np.float32), np.array([3.0], np.float32)
    expected, got = free.finish(raw, metadata), fixed.finish(raw, metadata)
    kept = min(len(expected), frames)
    assert got.shape == (frames, 6)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got[:kept], expected[:kept])
    np.testing.assert_array_equal(got[kept:, :5], pad)
    np.testing.assert_array_equal(got[:, 5], 3.0)
    np.testing.assert_array_equal(fixed.finish(raw, metadata, fit=False), expected)


@pytest.mark.parametrize(("seconds", "frames"), [(10, 998), (5, 498)])
def test_published_sizes_and_the_published_padding(seconds: int, frames: int) -> None:
    signal = np.random.default_rng(0).normal(0, 0.1, seconds * 16000).astype(np.float32)
    pipeline = FeaturePipeline(create_extractor("fbank"), frames=1024)
    x = pipeline(signal, 16000)
    assert x.shape == (1024, 128)
    np.testing.assert_array_equal(x[:frames], FeaturePipeline(pipeline.extractor)(signal, 16000))
    z = Standardizer.constant(-4.6476, 4.5699, 128)(x)
    np.testing.assert_allclose(z[frames:], 1.01700, atol=5e-6)


@given(offset=st.floats(-0.5, 0.5), seed=st.integers(0, 5))
def test_the_mean_of_a_recording_does_not_matter_to_a_filter_bank(offset: float, seed: int) -> None:
    """Each frame is rid of its own mean, so that subtracting that of the recording first would change nothing."""
    signal = np.random.default_rng(seed).normal(0, 0.1, 4000).astype(np.float32)
    pipeline = FeaturePipeline(create_extractor("fbank"))
    centred, moved = pipeline(signal - signal.mean(), 16000), pipeline(signal + np.float32(offset), 16000)
    np.testing.assert_allclose(moved, centred, atol=0.02)


def test_feature_sets_of_a_fixed_number_of_frames(make_corpus: MakeCorpus, cache: FeatureCache) -> None:
    corpus = make_corpus([0.5, 1.0])
    extractor = create_extractor("fbank", num_mel_bins=8)
    free = FeaturePipeline(extractor).extract(corpus, cache=cache, workers=1)
    fixed = FeaturePipeline(extractor, frames=60, pad_value=-1.0).extract(corpus, cache=cache, workers=1)
    assert fixed.stats.cached == 2  # the cache knows nothing of the padding
    assert fixed.lengths.tolist() == [60, 60]
    assert fixed.unpadded_lengths.tolist() == free.lengths.tolist() == free.unpadded_lengths.tolist() == [48, 98]
    for i in range(2):
        np.testing.assert_array_equal(fixed.unpadded(i), free[i])
        np.testing.assert_array_equal(fixed[i][:48], free[i][:48])
    assert (fixed[0][48:] == -1).all()


def test_descriptions_with_and_without_a_number_of_frames() -> None:
    pipeline = FeaturePipeline(create_extractor("fbank"), frames=512, pad_value=-15.94)
    again = FeaturePipeline.from_dict(json.loads(json.dumps(pipeline.to_dict())))
    assert (again.frames, again.pad_value) == (512, -15.94)
    assert again.fingerprint == pipeline.fingerprint != FeaturePipeline(pipeline.extractor, frames=512).fingerprint
    old = {key: value for key, value in pipeline.to_dict().items() if key not in ("frames", "pad_value")}
    assert (FeaturePipeline.from_dict(old).frames, FeaturePipeline.from_dict(old).pad_value) == (0, 0.0)


@pytest.mark.parametrize("options", [{"frames": -1}, {"frames": 1.5}, {"frames": True}, {"pad_value": float("nan")}])
def test_impossible_numbers_of_frames(options: dict[str, Any]) -> None:
    with pytest.raises(FeatureError, match=next(iter(options))):
        FeaturePipeline(create_extractor("fbank"), **options)


def test_one_vector_has_no_number_of_frames() -> None:
    with pytest.raises(FeatureError, match="frames: egemaps gives one vector per utterance"):
        FeaturePipeline(create_extractor("egemaps"), frames=10)
