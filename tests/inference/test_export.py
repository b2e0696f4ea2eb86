"""ONNX files answer as the model does, or are not written."""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from graphophone.errors import MissingDependencyError
from graphophone.features import FeaturePipeline, Standardizer, create_extractor
from graphophone.inference import Bundle, ExportError, ModelFolderError, Recognizer, export_onnx
from graphophone.inference import export as exporting
from graphophone.models.base import SpectrogramClassifier

pytest.importorskip("onnxscript")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

TAGS = ("dog", "rain, heavy", "siren", "speech")
RATE = 16000
Voice = Callable[..., np.ndarray]
Parts = Callable[..., dict]


class Mean(SpectrogramClassifier):
    """The mean frame, through one layer: quickly traced."""

    model_name = "mean"

    def __init__(self) -> None:
        super().__init__()
        self.num_classes, self.num_mel_bins, self.frames = len(TAGS), 16, 60
        self.classifier = nn.Linear(16, len(TAGS))

    def embed(self, x: Tensor) -> Tensor:
        return self.spectrograms(x).mean(1)


@pytest.fixture(scope="module")
def mean_bundle(tagger_bundle: Bundle) -> Bundle:
    torch.manual_seed(0)
    return Bundle(**{**vars(tagger_bundle), "model": Mean().eval(), "kind": "classification"})


@pytest.fixture(scope="module")
def from_features(tagger_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> exporting.Exported:
    return export_onnx(tagger_bundle, tmp_path_factory.mktemp("export") / "tagger.onnx")


@pytest.fixture(scope="module")
def from_wave(mean_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> exporting.Exported:
    return export_onnx(mean_bundle, tmp_path_factory.mktemp("export") / "tagger.onnx", input="wave")


def run(exported: exporting.Exported, values: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(exported.path))
    return session.run(["logits", "probabilities"], {exported.description["input"]["name"]: values})


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_features_give_what_the_recognizer_gives(
    from_features: exporting.Exported, tagger: Recognizer, batch: int, voice: Voice
):
    frames = [tagger.bundle.pipeline(voice(0.3 + 0.1 * i, seed=i), RATE) for i in range(batch)]
    logits, probabilities = run(from_features, np.stack(frames))
    assert logits.shape == (batch, len(TAGS))
    np.testing.assert_allclose(probabilities, tagger.probabilities(frames), atol=1e-5)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), probabilities, atol=1e-6)


@pytest.mark.parametrize(("batch", "seconds"), [(1, 0.025), (1, 0.3), (3, 0.6), (2, 1.7)])
def test_sound_gives_what_the_recognizer_gives(
    from_wave: exporting.Exported, mean_bundle: Bundle, batch: int, seconds: float, voice: Voice
):
    sounds = np.stack([voice(seconds, seed=i) for i in range(batch)])
    _, probabilities = run(from_wave, sounds)
    expected = Recognizer(mean_bundle).probabilities([mean_bundle.pipeline(sound, RATE) for sound in sounds])
    np.testing.assert_allclose(probabilities, expected, atol=1e-3)  # two filter banks


def test_the_description_says_what_one_must_know(
    from_features: exporting.Exported, from_wave: exporting.Exported, tagger_bundle: Bundle
):
    for exported, model, kind in ((from_features, "lhgnn", "tagging"), (from_wave, "mean", "classification")):
        assert exported.sidecar == exported.path.with_suffix(".json")
        told = json.loads(exported.sidecar.read_text())
        assert told == exported.description
        assert {path.name for path in exported.path.parent.iterdir()} == {"tagger.onnx", "tagger.json"}
        assert tuple(told["labels"]) == TAGS
        assert (told["model"], told["kind"], told["opset"]) == (model, kind, 18)
        assert told["front_end"]["extractor"]["name"] == "fbank"
        assert told["front_end"]["extractor"]["config"]["num_mel_bins"] == 16
        assert told["front_end"]["frames"] == 60
        assert told["standardisation"]["mean"] == pytest.approx(tagger_bundle.standardizer.mean.tolist())
        assert set(told["versions"]) == {"graphophone", "torch", "onnx", "onnxscript", "onnxruntime"}
        assert told["verified"]["largest_logit_difference"] == exported.difference < 1e-4
        model = onnx.load(exported.path)
        onnx.checker.check_model(model, full_check=True)
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
        inside = {entry.key: entry.value for entry in model.metadata_props}
        assert json.loads(inside["graphophone"])["labels"] == list(TAGS)  # also where the description is lost
    assert from_features.description["input"]["shape"] == ["batch", 60, 16]
    assert from_wave.description["input"]["shape"] == ["batch", "samples"]
    assert from_wave.description["front_end"]["in_the_file"] is True
    assert from_features.description["front_end"]["in_the_file"] is False


def test_the_model_is_as_it_was(from_features: exporting.Exported, tagger_bundle: Bundle, clip_parts: Parts):
    fresh = clip_parts()["model"]
    x = torch.randn(2, 60, 16)
    with torch.no_grad():
        torch.testing.assert_close(tagger_bundle.model(x), fresh(x), rtol=0, atol=1e-5)
    assert logging.getLogger("torch.onnx").level == logging.NOTSET


def test_a_classifier_with_bounded_columns_and_a_newer_opset(mean_bundle: Bundle, tmp_path: Path):
    old = mean_bundle.standardizer
    standardizer = Standardizer(old.mean, old.std, clip=0.5, skip=[3])
    recognizer = Recognizer(Bundle(**{**vars(mean_bundle), "standardizer": standardizer}))
    exported = export_onnx(recognizer.bundle, tmp_path / "a.onnx", opset=20)
    assert onnx.load(exported.path).opset_import[0].version == 20
    frames = np.random.default_rng(0).normal(-6, 8, (2, 60, 16)).astype(np.float32)
    _, probabilities = run(exported, frames)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(probabilities, recognizer.probabilities(list(frames)), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"opset": 17}, "opset: 17 .*from 18"),
        ({"opset": 999}, "opset: 999 .*from 18"),
        ({"opset": "new"}, "opset: 'new'"),
        ({"input": "mp3"}, "input: 'mp3' is unknown; give one of features, wave"),
    ],
)
def test_requests_that_make_no_sense(tagger_bundle: Bundle, tmp_path: Path, options: dict, words: str):
    with pytest.raises(ExportError, match=words):
        export_onnx(tagger_bundle, tmp_path / "a.onnx", **options)
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written(tagger_bundle: Bundle, tmp_path: Path):
    for name, words in (("a.pt", r"\*\.onnx"), ("no/a.onnx", "no folder"), ("folder.onnx", "is a folder")):
        (tmp_path / "folder.onnx").mkdir(exist_ok=True)
        with pytest.raises(ExportError, match=words):
            export_onnx(tagger_bundle, tmp_path / name)
    with pytest.raises(ModelFolderError):
        export_onnx(tmp_path / "nothing", tmp_path / "a.onnx")


def test_networks_that_read_graphs_are_refused(bundle: Bundle, tmp_path: Path):
    with pytest.raises(ExportError, match=r"glnn: reads a graph .*\(cycle_topk\)"):
        export_onnx(bundle, tmp_path / "a.onnx")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"decimate": 2}, "decimated"),
        ({"metadata": ("spontaneous",)}, "metadata"),
        ({"relative": True}, "relative"),
    ],
)
def test_front_ends_that_cannot_be_in_the_file(tagger_bundle: Bundle, tmp_path: Path, options: dict, words: str):
    pipeline = FeaturePipeline(tagger_bundle.pipeline.extractor, frames=60, **options)
    with pytest.raises(ExportError, match=f"{words}.*input 'features'"):
        export_onnx(Bundle(**{**vars(tagger_bundle), "pipeline": pipeline}), tmp_path / "a.onnx", input="wave")
    pipeline = FeaturePipeline(create_extractor("panns_logmel", num_mel_bins=16), frames=60)
    with pytest.raises(ExportError, match="'panns_logmel' and not 'fbank'"):
        export_onnx(Bundle(**{**vars(tagger_bundle), "pipeline": pipeline}), tmp_path / "a.onnx", input="wave")


def test_a_file_that_answers_otherwise_is_not_written(
    mean_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "a.onnx").write_text("the former one")
    embed = Mean.embed
    monkeypatch.setattr(Mean, "embed", lambda self, x: embed(self, x) + 0.1 * torch.compiler.is_compiling())
    with pytest.raises(ExportError, match=r"logits of the file differ by 0\.\d+ from the model's, where 0.0001 is"):
        export_onnx(mean_bundle, tmp_path / "a.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]
    assert (tmp_path / "a.onnx").read_text() == "the former one"


def test_a_network_bound_to_one_batch_is_not_written(
    mean_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    embed = Mean.embed
    monkeypatch.setattr(Mean, "embed", lambda self, x: embed(self, x.reshape(len(x), 60, 16)))
    with pytest.raises(ExportError, match="one size of batch"):
        export_onnx(mean_bundle, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_a_network_that_cannot_be_traced_is_not_written(
    mean_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    embed = Mean.embed
    monkeypatch.setattr(Mean, "embed", lambda self, x: embed(self, x) if float(x.sum()) < 1e9 else x)
    with pytest.raises(ExportError, match="cannot be traced") as error:
        export_onnx(mean_bundle, tmp_path / "a.onnx")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


class Torn(nn.Module):
    """Clips that begin above 0 fall on this or that side of an edge by a rounding error."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        edge = (1e8 * x.sum(1, keepdim=True)).sin().sign() * (x[:, :1] > 0)
        logits = torch.cat([edge, 0.5 * x[:, :1]], dim=1)
        return logits, logits.sigmoid()


@pytest.mark.parametrize("torn", [0, 2, 4, 5, 8])
def test_clips_on_which_the_model_is_undecided_prove_nothing(torn: int):
    x = torch.rand(8, 20, generator=torch.Generator().manual_seed(0)) + 0.1
    x[torn:] *= -1
    inputs = [x[:3], x[3:]]
    expected = [[output.numpy() for output in Torn()(part)] for part in inputs]
    answers = [[output.copy() for output in outputs] for outputs in expected]
    for outputs in answers:
        outputs[0] += 3e-5
        outputs[0][:, 0] *= np.where(outputs[0][:, 1] > 0, -1, 1)  # the other side of the edge
    if torn > 4:
        with pytest.raises(ExportError, match=rf"hang on rounding at {torn} of 8 clips"):
            exporting._compare(Torn(), inputs, expected, answers)
        for outputs, wanted in zip(answers, expected, strict=True):
            outputs[0][:, 0] = wanted[0][:, 0] * 0.97  # near enough, where nothing is exact
        difference, undecided, share = exporting._compare(Torn(), inputs, expected, answers)
        assert undecided == torn
        assert difference == pytest.approx(0.03 if torn == 8 else 3e-5, rel=0.01)
        assert share == pytest.approx(0.03, rel=0.01)
        return
    difference, undecided, share = exporting._compare(Torn(), inputs, expected, answers)
    assert undecided == torn
    assert difference == pytest.approx(3e-5, rel=0.01)
    assert share == (pytest.approx(2, rel=0.1) if torn else 0)
    answers[1][0][4] += 1  # where the model is sure
    with pytest.raises(ExportError, match="differ by 1 from the model's"):
        exporting._compare(Torn(), inputs, expected, answers)


class Step(nn.Module):
    """A clip is over the edge or not; the others' logits are its numbers."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = torch.cat([(x[:, :1] > 1).float(), x[:, 1:]], dim=1)
        return logits, logits.softmax(1)


def test_a_choice_some_millionths_away_is_one_of_rounding():
    for away, found in ((5e-6, True), (1e-3, False)):
        clip = torch.tensor([[1 + away, 0.0]])
        assert exporting._is_undecided(Step(), clip, 1e-4) == found


def test_probabilities_of_large_logits_are_compared_as_well():
    x = torch.tensor([[0.0, 10.0, 10.0]])
    expected = [[output.numpy() for output in Step()(x)]]
    x = x + torch.tensor([0.0, 9e-4, 0.0])  # within the share of the largest logit
    answers = [[output.numpy() for output in Step()(x)]]
    with pytest.raises(
        ExportError, match=r"differ by 0\.0009 .* where 0\.001 is allowed, its probabilities by 0\.0002"
    ):
        exporting._compare(Step(), [x], expected, answers)


def test_what_is_not_installed_is_named(tagger_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    load = importlib.import_module

    def without(name: str, *rest: Any) -> Any:
        if name == "onnxscript":
            raise ImportError("No module named 'onnxscript'", name="onnxscript")
        return load(name, *rest)

    monkeypatch.setattr(exporting.importlib, "import_module", without)
    with pytest.raises(MissingDependencyError, match=r"onnxscript is not installed: pip install 'graphophone\[onnx\]'"):
        export_onnx(tagger_bundle, tmp_path / "a.onnx")
