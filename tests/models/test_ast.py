import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from graphophone.errors import MissingDependencyError
from graphophone.models import ModelError, create_model, load_model, load_weights
from graphophone.models.ast import AST, fit_positions, modern_name

SMALL: dict[str, Any] = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "num_mel_bins": 32, "frames": 64}
POSITIONS = "audio_spectrogram_transformer.embeddings.position_embeddings"


def old_name(name: str) -> str:
    """The name of a weight in published checkpoints, from the present one."""
    name = name.replace("transformer.layers.", "transformer.encoder.layer.")
    for letter, word in (("q", "query"), ("k", "key"), ("v", "value")):
        name = name.replace(f".attention.{letter}_proj.", f".attention.attention.{word}.")
    name = name.replace(".attention.o_proj.", ".attention.output.dense.")
    return name.replace(".mlp.fc1.", ".intermediate.dense.").replace(".mlp.fc2.", ".output.dense.")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A checkpoint that transformers wrote, with 5 classes, and its network."""
    torch.manual_seed(0)
    config = transformers.ASTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_mel_bins=32,
        max_length=64,
        num_labels=5,
    )
    network = transformers.ASTForAudioClassification(config).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # positions and tokens start at zero
    folder = tmp_path_factory.mktemp("hub") / "ast"
    network.save_pretrained(folder)
    return folder, network


def clips(frames: int = 64, bands: int = 32) -> Tensor:
    return torch.randn(3, frames, bands, generator=torch.Generator().manual_seed(1))


def test_published_parameter_count() -> None:
    """86.6 M: 86,187,264 of the encoder, 1,536 of the head's normalisation, 405,263 of 527 classes."""
    with torch.device("meta"):
        assert create_model("ast", num_classes=527).num_parameters() == 86_187_264 + 1_536 + 405_263


def test_equals_transformers(checkpoint: tuple[Path, Any]) -> None:
    folder, network = checkpoint
    model = create_model("ast", num_classes=5, **SMALL).eval()
    assert isinstance(model, AST)
    report = load_weights(model, folder)
    assert report.kind == "audio"
    assert set(report.loaded) == set(model.state_dict())
    assert report.resized == report.widened == report.skipped == report.missing == {}
    torch.testing.assert_close(model(clips()), network(clips()).logits, atol=0, rtol=0)


def test_from_transformers(checkpoint: tuple[Path, Any], tmp_path: Path) -> None:
    folder, network = checkpoint
    model = AST.from_transformers(folder)
    assert (model.num_classes, model.num_mel_bins, model.frames) == (5, 32, 64)
    torch.testing.assert_close(model(clips()), network(clips()).logits, atol=0, rtol=0)
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(load_model(tmp_path)(clips()), model(clips()), atol=0, rtol=0)


def test_another_number_of_classes(checkpoint: tuple[Path, Any]) -> None:
    folder, network = checkpoint
    model = AST.from_transformers(folder, num_classes=3)
    assert model(clips()).shape == (3, 3)
    pooled = network.audio_spectrogram_transformer(clips()).pooler_output
    torch.testing.assert_close(model.embed(clips()), network.classifier.layernorm(pooled))
    report = load_weights(create_model("ast", num_classes=3, **SMALL), folder)
    assert set(report.skipped) == set(report.missing) == {"classifier.dense.weight", "classifier.dense.bias"}


@pytest.mark.parametrize("frames", [40, 200])
@pytest.mark.parametrize("bands", [32, 64])
def test_positions_of_another_size(frames: int, bands: int, checkpoint: tuple[Path, Any]) -> None:
    """The resized network is what the small one computes with positions fitted on the fly."""
    folder, _ = checkpoint
    resized = AST.from_transformers(folder, frames=frames, num_mel_bins=bands)
    assert (resized.num_mel_bins, resized.frames) == (bands, frames)
    as_it_is = AST.from_transformers(folder)
    torch.testing.assert_close(as_it_is(clips(frames, bands)), resized(clips(frames, bands)))


def test_grid_of_a_checkpoint_without_configuration(checkpoint: tuple[Path, Any], tmp_path: Path) -> None:
    state = load_file(checkpoint[0] / "model.safetensors")
    save_file(state, tmp_path / "weights.safetensors")
    longer = create_model("ast", num_classes=5, **{**SMALL, "frames": 100})
    report = load_weights(longer, tmp_path / "weights.safetensors")
    assert report.resized == {POSITIONS: "1x12x16 -> 1x20x16"}
    expected = AST.from_transformers(checkpoint[0], frames=100)
    torch.testing.assert_close(longer.state_dict()[POSITIONS], expected.state_dict()[POSITIONS])
    wider = create_model("ast", num_classes=5, **{**SMALL, "num_mel_bins": 78})
    with pytest.raises(ModelError, match="position_embeddings is 1x12x16, not 1x37x16"):
        load_weights(wider, tmp_path / "weights.safetensors")  # 10 patches are no 7 rows
    assert load_weights(wider, checkpoint[0]).resized == {POSITIONS: "1x12x16 -> 1x37x16"}


class TestFitPositions:
    positions = torch.randn(1, 2 + 3 * 8, 4)

    def test_the_same_grid(self) -> None:
        torch.testing.assert_close(fit_positions(self.positions, (3, 8), (3, 8)), self.positions)

    def test_shorter_is_the_middle(self) -> None:
        fitted = fit_positions(self.positions, (3, 8), (3, 4))
        grid = self.positions[:, 2:].reshape(3, 8, 4)[:, 2:6]
        torch.testing.assert_close(fitted, torch.cat([self.positions[:, :2], grid.reshape(1, 12, 4)], 1))

    def test_longer_is_interpolated(self) -> None:
        fitted = fit_positions(self.positions, (3, 8), (3, 16))[:, 2:].reshape(3, 16, 4)
        grid = self.positions[:, 2:].reshape(3, 8, 4)
        torch.testing.assert_close(fitted[:, 1:-1:2], 0.75 * grid[:, :-1] + 0.25 * grid[:, 1:])

    def test_each_axis_on_its_own(self) -> None:
        assert fit_positions(self.positions, (3, 8), (6, 5)).shape == (1, 32, 4)


class TestNames:
    def test_old_names_are_those_of_published_files(self, checkpoint: tuple[Path, Any]) -> None:
        state = create_model("ast", num_classes=5, **SMALL).state_dict()
        old = {old_name(modern_name(name)) for name in state}
        assert "audio_spectrogram_transformer.encoder.layer.1.attention.attention.query.weight" in old
        assert "audio_spectrogram_transformer.encoder.layer.1.output.dense.bias" in old
        assert {modern_name(name) for name in old} == {modern_name(name) for name in state}
        assert len(old) == len(state)

    def test_models_saved_with_either_version_load(self, tmp_path: Path) -> None:
        model = create_model("ast", num_classes=5, **SMALL).eval()
        model.save_pretrained(tmp_path)
        state = load_file(tmp_path / "model.safetensors")
        for rename in (old_name, modern_name):
            save_file({rename(modern_name(name)): t for name, t in state.items()}, tmp_path / "model.safetensors")
            torch.testing.assert_close(load_model(tmp_path)(clips()), model(clips()), atol=0, rtol=0)


class TestRefusals:
    def test_without_transformers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(MissingDependencyError, match=r"graphophone\[ast\]"):
            create_model("ast", num_classes=3)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"num_heads": 3}, "not divisible"),
            ({"frames": 12}, "hold no patch"),
            ({"num_mel_bins": 15}, "hold no patch"),
        ],
    )
    def test_options_without_sense(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ModelError, match=message):
            create_model("ast", num_classes=3, **{**SMALL, **options})

    def change(self, source: Path, folder: Path, **changes: Any) -> Path:
        config = json.loads((source / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))
        (folder / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes())
        return folder

    @pytest.mark.parametrize(
        ("changes", "message"),
        [({"model_type": "vit"}, "not of an audio spectrogram"), ({"qkv_bias": False}, "only True is supported")],
    )
    def test_another_network(
        self, changes: dict[str, Any], message: str, checkpoint: tuple[Path, Any], tmp_path: Path
    ) -> None:
        with pytest.raises(ModelError, match=message):
            AST.from_transformers(self.change(checkpoint[0], tmp_path, **changes))

    def test_another_size(self, checkpoint: tuple[Path, Any]) -> None:
        with pytest.raises(ModelError, match="does not fit ast"):
            load_weights(create_model("ast", num_classes=5, **{**SMALL, "num_layers": 1}), checkpoint[0])

    def test_pickled_weights(self, checkpoint: tuple[Path, Any], tmp_path: Path) -> None:
        folder = self.change(checkpoint[0], tmp_path)
        (folder / "model.safetensors").unlink()
        torch.save(load_file(checkpoint[0] / "model.safetensors"), folder / "pytorch_model.bin")
        with pytest.raises(ModelError, match=r"holds no model\.safetensors but pytorch_model\.bin"):
            AST.from_transformers(folder)

    def test_hub_without_a_network(self) -> None:
        with pytest.raises(ModelError, match="nor on the hub"):
            AST.from_transformers("graphophone/nosuchmodel", local_files_only=True)
