import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphophone.errors import MissingDependencyError
from graphophone.features import FeatureError, create_extractor, pretrained, text_encoder
from graphophone.features.text_encoder import TextEncoder, by_length

TEXTS = ["yeah", "what is this a good day to be happy or sad", "never mind", "you know i am fine", "no", "what what"]

MakeEncoder = Callable[..., Path]


@pytest.fixture(autouse=True)
def batches_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several batches and blocks of six texts."""
    monkeypatch.setattr(text_encoder, "_TOKENS", 20)
    monkeypatch.setattr(text_encoder, "_BLOCK", 4)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("pooling", ["mean", "pooler", "cls"])
def test_vectors_are_those_of_the_network_on_each_text_alone(
    make_text_encoder: MakeEncoder, kind: str, pooling: str
) -> None:
    import transformers

    folder = make_text_encoder(kind)
    vectors = TextEncoder(model=folder, pooling=pooling).encode(TEXTS)  # type: ignore[arg-type]
    network = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for text, vector in zip(TEXTS, vectors, strict=True):
        with torch.no_grad():
            output = network(tokenizer(text, return_tensors="pt")["input_ids"])
        states = output.last_hidden_state[0]
        alone = {"mean": states.mean(0), "cls": states[0], "pooler": output.pooler_output[0]}[pooling]
        assert vector.dtype == np.float32
        np.testing.assert_allclose(vector, alone.numpy(), atol=1e-5)


def test_states_of_tokens(make_text_encoder: MakeEncoder) -> None:
    folder = make_text_encoder()
    extractor = TextEncoder(model=folder, sequence=True)
    states = extractor.encode(TEXTS)
    assert extractor.level == "frame"
    assert [value.shape for value in states] == [(len(text.split()) + 2, 16) for text in TEXTS]
    means = TextEncoder(model=folder).encode(TEXTS)
    np.testing.assert_allclose([value.mean(0) for value in states], means, atol=1e-5)


def test_contract(make_text_encoder: MakeEncoder) -> None:
    extractor = create_extractor("text_encoder", model=str(make_text_encoder()), pooling="cls", max_length=20)
    assert (extractor.reads, extractor.level, extractor.hop, extractor.dims) == ("text", "utterance", None, 16)
    assert len(set(extractor.columns)) == 16
    again = create_extractor("text_encoder", **json.loads(json.dumps(extractor.config)))
    assert again.fingerprint == extractor.fingerprint
    np.testing.assert_array_equal(again.encode(TEXTS), extractor.encode(TEXTS))
    copy = pickle.loads(pickle.dumps(extractor))  # noqa: S301
    np.testing.assert_array_equal(copy.encode(TEXTS), extractor.encode(TEXTS))
    assert "encoder" in repr(extractor)


def test_fingerprint_follows_the_weights_and_not_their_place(make_text_encoder: MakeEncoder, tmp_path: Path) -> None:
    folder = make_text_encoder()
    moved = shutil.copytree(folder, tmp_path / "moved")
    (moved / "README.md").write_text("notes")
    first = TextEncoder(model=folder)
    assert TextEncoder(model=moved).fingerprint == first.fingerprint
    others = [
        TextEncoder(model=make_text_encoder(seed=1)),
        TextEncoder(model=folder, pooling="cls"),
        TextEncoder(model=folder, sequence=True),
        TextEncoder(model=folder, max_length=9),
    ]
    assert len({first.fingerprint, *(other.fingerprint for other in others)}) == 5
    shutil.copy(others[0].folder / "model.safetensors", folder)
    assert TextEncoder(model=folder).fingerprint == others[0].fingerprint
    assert not np.allclose(TextEncoder(model=folder).encode(["yeah"]), TextEncoder(model=moved).encode(["yeah"]))


def test_a_saved_model_names_no_place_and_finds_its_weights(
    make_text_encoder: MakeEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHOPHONE_CACHE", str(tmp_path / "cache"))
    folder = make_text_encoder()
    config = TextEncoder(model=folder).config
    assert config["model"] == folder.name
    assert TextEncoder(**config).folder == folder  # remembered by this machine
    assert TextEncoder(**{**config, "model": f"/gone/{folder.name}"}).config == config
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setattr(
        pretrained, "_from_hub", lambda name, revision: pretrained.locate(tmp_path / name)
    )  # no network
    saved = TextEncoder(**config)
    assert saved.fingerprint == TextEncoder(model=folder, digest=config["digest"]).fingerprint
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / folder.name)
    shutil.rmtree(folder)
    with pytest.raises(
        FeatureError, match=r"no encoder .* with the hash .* is known here; name its folder in GRAPHOPH"
    ):
        saved.prepare()
    for place in (moved, moved.parent):
        monkeypatch.setenv("GRAPHOPHONE_ENCODERS", f"{tmp_path}{os.pathsep}{place}")
        assert TextEncoder(**config).encode(["yeah"])[0].shape == (16,)
    monkeypatch.setenv("GRAPHOPHONE_ENCODERS", str(make_text_encoder(seed=1)))
    with pytest.raises(FeatureError, match="other weights than those asked for"):
        TextEncoder(**config).prepare()


def test_long_texts_are_cut_and_noted(make_text_encoder: MakeEncoder) -> None:
    extractor = TextEncoder(model=make_text_encoder(), max_length=5)
    found = {index: (features, notes) for index, features, notes in extractor._encode(TEXTS)}
    assert [bool(found[i][1]) for i in range(6)] == [False, True, False, True, False, False]
    assert found[1][1] == ("cut at 5 tokens",)
    np.testing.assert_allclose(found[1][0], extractor.encode(["what is this"])[0], atol=1e-5)


@pytest.mark.parametrize(("kind", "most"), [("bert", 40), ("roberta", 39)])
def test_no_more_tokens_than_the_network_has_positions(make_text_encoder: MakeEncoder, kind: str, most: int) -> None:
    folder = make_text_encoder(kind)
    (vector,) = TextEncoder(model=folder).encode(["yeah " * 200])
    assert np.isfinite(vector).all()
    with pytest.raises(FeatureError, match=f"reads {most} tokens at most, got 41"):
        TextEncoder(model=folder, max_length=41).encode(["yeah"])


def test_a_pooler_that_nobody_trained_is_refused(make_text_encoder: MakeEncoder) -> None:
    folder = make_text_encoder("roberta", pooler=False)
    assert TextEncoder(model=folder).encode(["yeah"])[0].shape == (16,)
    with pytest.raises(FeatureError, match="no trained pooler; set pooling to mean or cls"):
        TextEncoder(model=folder, pooling="pooler").encode(["yeah"])


def test_missing_weights_are_refused(make_text_encoder: MakeEncoder) -> None:
    from safetensors.torch import load_file, save_file

    folder = make_text_encoder()
    state = load_file(folder / "model.safetensors")
    del state["encoder.layer.1.output.dense.weight"]
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(FeatureError, match=r"has no weights for 'encoder.layer.1.output.dense.weight'"):
        TextEncoder(model=folder).encode(["yeah"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "max"}, "pooling: expected"),
        ({"max_length": 2}, "max_length: expected a number of tokens from 3 on"),
    ],
)
def test_options_without_sense_are_refused(options: dict, message: str) -> None:
    with pytest.raises(FeatureError, match=message):
        TextEncoder(**options)


def test_blank_texts_and_sounds_are_refused(make_text_encoder: MakeEncoder, signal: np.ndarray) -> None:
    extractor = TextEncoder(model=make_text_encoder())
    assert extractor.encode([]) == []
    with pytest.raises(FeatureError, match="text 1 is empty; leave it out"):
        extractor.encode(["yeah", " \n"])
    with pytest.raises(FeatureError, match="expected a list of texts"):
        extractor.encode("yeah")
    with pytest.raises(FeatureError, match="reads text, not sound"):
        extractor(signal, 16000)


def test_folders_that_are_none(tmp_path: Path, make_text_encoder: MakeEncoder) -> None:
    with pytest.raises(FeatureError, match="there is no such folder"):
        TextEncoder(model=tmp_path / "none").prepare()
    with pytest.raises(FeatureError, match=r"has no config.json"):
        TextEncoder(model=tmp_path).prepare()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FeatureError, match=r"has no model.safetensors"):
        TextEncoder(model=tmp_path).prepare()
    folder = make_text_encoder()
    (folder / "config.json").write_text("{")
    with pytest.raises(FeatureError, match="damaged"):
        _ = TextEncoder(model=folder).dims
    with pytest.raises(FeatureError, match="no usable tokeniser"):
        TextEncoder(model=folder).encode(["yeah"])
    folder = make_text_encoder()
    (folder / "tokenizer.json").unlink()
    with pytest.raises(FeatureError, match="no usable tokeniser"):
        TextEncoder(model=folder).encode(["yeah"])


def lay_out_hub(root: Path, name: str, folder: Path, commit: str) -> None:
    """What the hub's cache has after a download."""
    repository = root / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)


def test_the_hubs_cache_is_used_without_a_network(make_text_encoder: MakeEncoder, tmp_path: Path) -> None:
    folder = make_text_encoder()
    lay_out_hub(tmp_path / "hub", "someone/tiny", folder, "a" * 40)
    program = (
        "from graphophone.features.text_encoder import TextEncoder\n"
        "extractor = TextEncoder(model='someone/tiny')\n"
        "print(extractor.digest, extractor.dims)\n"
        "try:\n    TextEncoder(model='someone/other').prepare()\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    found, refused = done.stdout.splitlines()
    assert found == f"{pretrained.digest(folder)} 16"
    assert refused.startswith("FeatureError someone/other: not in the hub's cache here, and cannot be downloaded")


class Malicious:
    """Writes a file where it is unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_pickled_weights_are_read_as_tensors_and_nothing_else(make_text_encoder: MakeEncoder, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = make_text_encoder()
    expected = TextEncoder(model=folder).encode(TEXTS)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    np.testing.assert_array_equal(TextEncoder(model=folder).encode(TEXTS), expected)
    torch.save({**state, "more": Malicious(tmp_path / "trace")}, folder / "pytorch_model.bin")
    with pytest.raises(FeatureError, match="cannot be loaded"):
        TextEncoder(model=folder).encode(TEXTS)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("published", "wanted"),
    [
        (["config.json", "model.safetensors", "pytorch_model.bin"], "model*.safetensors*"),
        (["config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json"], "model*.safetensors*"),
        (["config.json", "pytorch_model.bin", "tf_model.h5"], "pytorch_model*.bin*"),
    ],
)
def test_what_is_downloaded(
    make_text_encoder: MakeEncoder, monkeypatch: pytest.MonkeyPatch, published: list[str], wanted: str
) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    folder = make_text_encoder()
    asked: list[list[str]] = []

    def download(name: str, *, revision: str | None, allow_patterns: list[str], local_files_only: bool = False) -> str:
        assert (name, revision) == ("someone/tiny", "v2")
        if local_files_only:
            raise LocalEntryNotFoundError("nothing here")
        asked.append(allow_patterns)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda self, name, revision: published)
    assert pretrained.locate("someone/tiny", "v2") == folder
    ((*parts, weights),) = asked
    assert weights == wanted
    assert {"config.json", "tokenizer.json", "preprocessor_config.json"} <= set(parts)


def test_no_name_of_a_repository() -> None:
    with pytest.raises(FeatureError, match="neither a folder nor the name of a hub repository"):
        pretrained.locate("what is this?")


def test_missing_package_names_the_extra(make_text_encoder: MakeEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_text_encoder()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'graphophone\[transformers\]'"):
        TextEncoder(model=folder).prepare()


@given(st.lists(st.integers(1, 30), max_size=40))
def test_batches_hold_each_text_once_and_little_padding(lengths: list[int]) -> None:
    batches = list(by_length([[0] * length for length in lengths]))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    ordered = [lengths[i] for batch in batches for i in batch]
    assert ordered == sorted(lengths)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= text_encoder._TOKENS
