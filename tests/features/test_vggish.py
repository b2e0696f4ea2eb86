import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from graphophone.corpora.base import Corpus
from graphophone.features import FeatureCache, FeatureError, FeaturePipeline, create_extractor, vggish, vggish_network
from graphophone.features.logmel128 import log_mel
from graphophone.features.vggish_network import VggishNetwork, convert_vggish, load_vggish

Voiced = Callable[..., np.ndarray]

#: The layers as the TensorFlow checkpoint lists them.
LAYERS = (
    "vggish/conv1",
    "vggish/conv2",
    "vggish/conv3/conv3_1",
    "vggish/conv3/conv3_2",
    "vggish/conv4/conv4_1",
    "vggish/conv4/conv4_2",
    "vggish/fc1/fc1_1",
    "vggish/fc1/fc1_2",
    "vggish/fc2",
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The published shapes have 290 MB: the same layers, fewer channels; and no weights of the user's."""
    monkeypatch.setattr(vggish_network, "CHANNELS", (3, 0, 4, 0, 5, 6, 0, 7, 8, 0))
    monkeypatch.setattr(vggish_network, "HIDDEN", 9)
    monkeypatch.setenv("GRAPHOPHONE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GRAPHOPHONE_VGGISH", raising=False)
    vggish._network.cache_clear()
    yield
    vggish._network.cache_clear()


def network(seed: int = 0) -> VggishNetwork:
    torch.manual_seed(seed)
    return VggishNetwork().eval()


@pytest.fixture
def published(tmp_path: Path) -> Path:
    path = tmp_path / "vggish.pth"
    torch.save(network().state_dict(), path)
    return path


def variables(seed: int = 0) -> dict[str, np.ndarray]:
    """Weights as TensorFlow shapes them: the output is the last dimension."""
    rng = np.random.default_rng(seed)
    widths = [1, *(width for width in vggish_network.CHANNELS if width)]
    shapes = [(3, 3, a, b) for a, b in itertools.pairwise(widths)]
    shapes += [(6 * 4 * widths[-1], vggish_network.HIDDEN), (vggish_network.HIDDEN,) * 2, (vggish_network.HIDDEN, 128)]
    values = {}
    for layer, shape in zip(LAYERS, shapes, strict=True):
        scale = np.sqrt(2 / np.prod(shape[:-1]))
        values[f"{layer}/weights"] = (scale * rng.standard_normal(shape)).astype(np.float32)
        values[f"{layer}/biases"] = (0.1 * rng.standard_normal(shape[-1])).astype(np.float32)
    return values


def forward(segments: np.ndarray, values: dict[str, np.ndarray]) -> np.ndarray:
    """The network with channels last, in double precision: `[segments, 96, 64]` to `[segments, 128]`."""
    x = segments[..., None].astype(np.float64)
    for layer, halve in zip(LAYERS[:6], (True, True, False, True, False, True), strict=True):
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        x = np.einsum("nhwcij,ijco->nhwo", windows, values[f"{layer}/weights"]) + values[f"{layer}/biases"]
        x = np.maximum(x, 0)
        if halve:
            n, height, width, channels = x.shape
            x = x.reshape(n, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))
    x = x.reshape(len(x), -1)
    for layer in LAYERS[6:]:
        x = x @ values[f"{layer}/weights"] + values[f"{layer}/biases"]
        if layer != LAYERS[-1]:
            x = np.maximum(x, 0)
    return x


def test_names_and_sizes_are_those_of_the_published_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with torch.device("meta"):
        state = VggishNetwork().state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items() if name.endswith("weight")}
    assert shapes == {
        "features.0.weight": (64, 1, 3, 3),
        "features.3.weight": (128, 64, 3, 3),
        "features.6.weight": (256, 128, 3, 3),
        "features.8.weight": (256, 256, 3, 3),
        "features.11.weight": (512, 256, 3, 3),
        "features.13.weight": (512, 512, 3, 3),
        "embeddings.0.weight": (4096, 12288),
        "embeddings.2.weight": (4096, 4096),
        "embeddings.4.weight": (128, 4096),
    }
    assert sum(tensor.numel() for tensor in state.values()) == 72_141_184


def test_weights_of_tensorflow_give_what_a_plain_computation_gives(tmp_path: Path) -> None:
    values = variables()
    np.savez(tmp_path / "vggish.npz", **values, **{"vggish/global_step": np.zeros(1)})
    path = convert_vggish(tmp_path / "vggish.npz", tmp_path / "vggish.safetensors")
    segments = np.random.default_rng(1).standard_normal((3, 96, 64)).astype(np.float32)
    with torch.inference_mode():
        result = load_vggish(path)(torch.from_numpy(segments)).numpy()
    expected = forward(segments, values)
    assert (expected < 0).any()  # before the activation
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


def test_embedding_is_the_mean_over_whole_segments(published: Path, voiced: Voiced) -> None:
    convert_vggish(published)
    extractor = create_extractor("vggish")
    signal = voiced(3 * 15360 - 320 + 400)  # 3 * 96 - 1 frames: two whole segments
    bands = log_mel(signal)
    assert len(bands) == 3 * 96 - 1
    with torch.inference_mode():
        expected = network()(torch.from_numpy(bands[:192]).reshape(2, 96, 64)).mean(dim=0).numpy()
    vector = extractor(signal, 16000)
    assert (vector.dtype, vector.shape, extractor.level) == (np.float32, (128,), "utterance")
    np.testing.assert_allclose(vector, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(extractor(signal[: 15360 * 2 + 240], 16000), vector)


def test_many_segments_go_through_in_batches(published: Path, voiced: Voiced, monkeypatch: pytest.MonkeyPatch) -> None:
    convert_vggish(published)
    signal = voiced(5 * 15360 + 240)
    whole = create_extractor("vggish")(signal, 16000)
    monkeypatch.setattr(vggish, "_BATCH", 2)
    np.testing.assert_allclose(create_extractor("vggish")(signal, 16000), whole, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("samples", [1, 160, 15599])
def test_short_clips_are_one_padded_segment(samples: int, published: Path, voiced: Voiced) -> None:
    convert_vggish(published)
    clip = voiced(samples)
    vector = create_extractor("vggish")(clip, 16000)
    assert np.isfinite(vector).all()
    np.testing.assert_array_equal(vector, create_extractor("vggish")(np.pad(clip, (0, 15600 - samples)), 16000))


def test_without_weights_one_line_says_what_to_do(tmp_path: Path) -> None:
    for options, place in (({}, "cache"), ({"weights": str(tmp_path / "mine.safetensors")}, "mine")):
        with pytest.raises(FeatureError, match=rf"{place}.*convert_vggish.*logmel128") as caught:
            create_extractor("vggish", **options).prepare()
        assert "\n" not in str(caught.value)


def test_conversion_keeps_the_numbers_and_leaves_out_the_rest(published: Path, tmp_path: Path) -> None:
    state = torch.load(published, weights_only=True)
    torch.save({**state, "pproc.pca_means": torch.zeros(128, 1)}, published)
    path = convert_vggish(published)
    assert path == tmp_path / "cache" / "weights" / "vggish.safetensors"
    kept = load_file(path)
    assert kept.keys() == state.keys()
    assert all(torch.equal(kept[name], state[name]) for name in state)
    assert [file.name for file in path.parent.iterdir()] == ["vggish.safetensors"]
    assert convert_vggish(path, tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("run",)


def test_sources_that_do_not_fit_are_refused(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = torch.load(published, weights_only=True)
    cases = {
        "missing": ({name: t for name, t in state.items() if name != "features.3.bias"}, "has no 'features.3.bias'"),
        "shape": ({**state, "embeddings.4.weight": torch.zeros(64, 9)}, r"shape \[64, 9\] instead of \[128, 9\]"),
        "list": ([1, 2], "holds a list"),
        "harmful": ({**state, "more": Harmful()}, "holds more than weights"),
    }
    for name, (content, message) in cases.items():
        torch.save(content, tmp_path / f"{name}.pth")
        with pytest.raises(FeatureError, match=message):
            convert_vggish(tmp_path / f"{name}.pth")
    for name in ("cut.pth", "cut.npz", "cut.safetensors"):
        (tmp_path / name).write_bytes(published.read_bytes()[:100])
        with pytest.raises(FeatureError, match="damaged"):
            convert_vggish(tmp_path / name)
    with pytest.raises(FeatureError, match="no such file"):
        convert_vggish(tmp_path / "absent.pth")
    assert "run" not in capsys.readouterr().out
    assert not vggish_network.default_weights().exists()
    (tmp_path / "cut.safetensors").write_bytes(b"0" * 100)
    with pytest.raises(FeatureError, match="no readable safetensors"):
        load_vggish(tmp_path / "cut.safetensors")


def test_the_cache_knows_weights_by_content(published: Path, tmp_path: Path) -> None:
    convert_vggish(published)
    copy = convert_vggish(published, tmp_path / "copy.safetensors")
    torch.save(network(seed=1).state_dict(), tmp_path / "other.pth")
    other = convert_vggish(tmp_path / "other.pth", tmp_path / "other.safetensors")
    default = create_extractor("vggish")
    assert create_extractor("vggish", weights=str(copy)).fingerprint == default.fingerprint
    assert create_extractor("vggish", weights=str(other)).fingerprint != default.fingerprint


def test_a_saved_pipeline_asks_for_its_weights(published: Path, tmp_path: Path, signal: np.ndarray) -> None:
    convert_vggish(published)
    saved = FeaturePipeline(create_extractor("vggish"))
    again = FeaturePipeline.from_dict(saved.to_dict())
    assert again.fingerprint == saved.fingerprint
    np.testing.assert_array_equal(again(signal, 16000), saved(signal, 16000))
    torch.save(network(seed=1).state_dict(), published)
    convert_vggish(published)
    with pytest.raises(FeatureError, match="holds other weights"):
        FeaturePipeline.from_dict(saved.to_dict()).extractor.prepare()


def test_a_saved_pipeline_knows_its_weights_and_not_where_they_lay(
    published: Path, tmp_path: Path, signal: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "private" / "mine.safetensors"
    place.parent.mkdir()
    mine = convert_vggish(published, place)
    saved = FeaturePipeline(create_extractor("vggish", weights=str(mine)))
    expected, described = saved(signal, 16000), saved.to_dict()
    assert described["extractor"]["config"] == {"weights": "mine.safetensors", "digest": saved.extractor.digest}
    old = {
        **described,
        "extractor": {"name": "vggish", "config": {**described["extractor"]["config"], "weights": str(place)}},
    }
    elsewhere = tmp_path / "elsewhere.safetensors"
    mine.rename(elsewhere)
    for text in (described, old):  # folders that were saved before have the path
        lost = FeaturePipeline.from_dict(text)
        assert lost.to_dict() == described  # a folder can be read, and its card written, without the weights
        assert lost.fingerprint == saved.fingerprint
        with pytest.raises(FeatureError, match=r"no weights with the hash .*mine.*GRAPHOPHONE_VGGISH") as caught:
            lost(signal, 16000)
        assert "\n" not in str(caught.value)
    monkeypatch.setenv("GRAPHOPHONE_VGGISH", str(elsewhere))
    for text in (described, old):
        np.testing.assert_array_equal(FeaturePipeline.from_dict(text)(signal, 16000), expected)
    assert create_extractor("vggish").fingerprint == saved.extractor.fingerprint  # named, where no file is given
    monkeypatch.delenv("GRAPHOPHONE_VGGISH")
    torch.save(network(seed=1).state_dict(), published)
    other = convert_vggish(published)  # at the default place: not the one that is wanted
    monkeypatch.setenv("GRAPHOPHONE_VGGISH", str(other))
    with pytest.raises(FeatureError, match="holds other weights"):
        FeaturePipeline.from_dict(described).extractor.prepare()
    elsewhere.rename(other.with_name("mine.safetensors"))
    np.testing.assert_array_equal(FeaturePipeline.from_dict(described)(signal, 16000), expected)


def test_a_file_that_is_named_is_meant(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert_vggish(published)
    monkeypatch.setenv("GRAPHOPHONE_VGGISH", str(vggish_network.default_weights()))
    with pytest.raises(FeatureError, match=r"no weights at \S*absent"):
        create_extractor("vggish", weights=str(tmp_path / "absent.safetensors")).prepare()
    monkeypatch.setenv("GRAPHOPHONE_VGGISH", str(tmp_path / "gone.safetensors"))
    with pytest.raises(FeatureError, match=r"no weights at \S*gone"):
        create_extractor("vggish").prepare()


def test_a_corpus_is_extracted_once(published: Path, make_corpus: Callable[..., Corpus], cache: FeatureCache) -> None:
    convert_vggish(published)
    corpus = make_corpus([0.5, 2.0, 3.1])
    first = FeaturePipeline(create_extractor("vggish")).extract(corpus, cache=cache, workers=1, progress=False)
    second = FeaturePipeline(create_extractor("vggish")).extract(corpus, cache=cache, workers=1, progress=False)
    assert (first.stats.cached, second.stats.cached) == (0, 3)
    assert [x.shape for x in second] == [(1, 128)] * 3
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
