import io
import os
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from graphophone.models import LoadReport, ModelError, SpectrogramClassifier, create_model, load_weights
from graphophone.models.lhgnn import LHGNN
from graphophone.models.weights import read_weights

PYRAMID: dict[str, Any] = {
    "channels": (8, 16, 16, 24),
    "blocks": (1, 1, 1, 1),
    "k": 5,
    "dilation": 2,
    "head_width": 12,
    "num_mel_bins": 64,
    "frames": 64,
}
STEM = "stem.convs.0.weight"


def disturb(state: dict[str, Tensor], seed: int) -> None:
    """Statistics, biases and positions that do something."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in state.items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2, generator=generator)
        elif name.endswith(("bias", "running_mean", "pos_embed")):
            tensor.normal_(std=0.3, generator=generator)


def create(name: str, seed: int = 0, **options: Any) -> SpectrogramClassifier:
    torch.manual_seed(seed)
    model = create_model(name, **{"num_classes": 5, **PYRAMID, **options})
    disturb(model.state_dict(), seed)
    assert isinstance(model, SpectrogramClassifier)
    return model.eval()


def lhgnn(seed: int = 0, **options: Any) -> SpectrogramClassifier:
    return create("lhgnn", seed, **{"P": 6, "K": 3, **options})


def vig(seed: int = 0, **options: Any) -> SpectrogramClassifier:
    return create("vig", seed, **{"k_last": 5, **options})


def same_map(one: SpectrogramClassifier, other: SpectrogramClassifier) -> None:
    """The nodes after the last block agree, in double precision: single loses digits over the depth of the network."""
    maps = [cast(LHGNN, network).double().feature_map(clips().double()) for network in (one, other)]
    torch.testing.assert_close(*maps, atol=1e-5, rtol=1e-5)


def clips() -> Tensor:
    return torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(1))


def complete(report: LoadReport, checkpoint: dict[str, Tensor], model: SpectrogramClassifier) -> None:
    """Every tensor of both sides has exactly one fate."""
    used = [*report.loaded, *report.resized, *report.widened]
    assert sorted([*used, *report.skipped, *report.unexpected]) == sorted(checkpoint)
    assert sorted([*used, *report.missing]) == sorted(model.state_dict())


def pictures(model: SpectrogramClassifier, colours: int = 3) -> dict[str, Tensor]:
    """A checkpoint of the same network for pictures, with what published ones have besides."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generator = torch.Generator().manual_seed(3)
    width = state[STEM].size(0)
    state[STEM] = torch.randn(width, colours, 3, 3, generator=generator)
    state["pos_embed"] = torch.randn(1, 8, 14, 14, generator=generator)
    state["prediction.4.weight"] = torch.randn(1000, 12, 1, 1, generator=generator)
    state["prediction.4.bias"] = torch.randn(1000, generator=generator)
    state["backbone.0.0.relative_pos"] = torch.randn(1, 196, 196, generator=generator)
    return state


class TestAudio:
    def test_strict_reload_is_exact(self, tmp_path: Path) -> None:
        model = lhgnn()
        model.save_pretrained(tmp_path)
        other = lhgnn(seed=1)
        assert not torch.equal(other(clips()), model(clips()))
        report = load_weights(other, tmp_path)
        assert report.kind == "audio"
        assert len(report.loaded) == len(model.state_dict())
        complete(report, model.state_dict(), other)
        torch.testing.assert_close(other(clips()), model(clips()), atol=0, rtol=0)

    @pytest.mark.parametrize("make", [lhgnn, vig])
    def test_other_classes_leave_the_last_layer(self, make: Any, tmp_path: Path) -> None:
        model = make()
        save_file(model.state_dict(), tmp_path / "w.safetensors")
        other = make(seed=1, num_classes=3)
        before = other.state_dict()["prediction.4.weight"].clone()
        report = load_weights(other, tmp_path / "w.safetensors")
        assert set(report.skipped) == set(report.missing) == {"prediction.4.weight", "prediction.4.bias"}
        assert report.skipped["prediction.4.bias"] == "for 5 classes, not 3"
        complete(report, model.state_dict(), other)
        torch.testing.assert_close(other.embed(clips()), model.embed(clips()), atol=0, rtol=0)
        assert torch.equal(other.state_dict()["prediction.4.weight"], before)

    def test_positions_of_another_size_are_resized(self, tmp_path: Path) -> None:
        model = lhgnn()
        save_file(model.state_dict(), tmp_path / "w.safetensors")
        other = lhgnn(seed=1, frames=96, num_mel_bins=32)
        report = load_weights(other, tmp_path / "w.safetensors")
        assert report.resized == {"pos_embed": "1x8x16x16 -> 1x8x8x24"}
        expected = F.interpolate(model.state_dict()["pos_embed"], size=(8, 24), mode="bicubic")
        torch.testing.assert_close(other.state_dict()["pos_embed"], expected)

    def test_counters_may_be_missing(self, tmp_path: Path) -> None:
        model = vig()
        state = {n: t for n, t in model.state_dict().items() if not n.endswith("num_batches_tracked")}
        save_file(state, tmp_path / "w.safetensors")
        other = vig(seed=1)
        complete(load_weights(other, tmp_path / "w.safetensors"), state, other)
        torch.testing.assert_close(other(clips()), model(clips()), atol=0, rtol=0)


class TestImage:
    @pytest.mark.parametrize("make", [lhgnn, vig])
    def test_colours_positions_and_classes(self, make: Any, tmp_path: Path) -> None:
        model, other = make(), make(seed=1)
        checkpoint = pictures(model)
        save_file(checkpoint, tmp_path / "w.safetensors")
        head = {n: t.clone() for n, t in other.state_dict().items() if n.startswith("prediction.")}
        report = load_weights(other, tmp_path / "w.safetensors")
        assert report.kind == "image"
        complete(report, checkpoint, other)
        state = other.state_dict()
        expected = (checkpoint[STEM][:, 0] + checkpoint[STEM][:, 1] + checkpoint[STEM][:, 2])[:, None] / 3
        torch.testing.assert_close(state[STEM], expected)
        positions = F.interpolate(checkpoint["pos_embed"], size=(16, 16), mode="bicubic")
        torch.testing.assert_close(state["pos_embed"], positions)
        assert set(report.resized) == {STEM, "pos_embed"}
        assert set(report.missing) == set(head)
        assert all(torch.equal(state[name], tensor) for name, tensor in head.items())
        assert "backbone.0.0.relative_pos" in report.skipped
        assert all(torch.equal(state[name], checkpoint[name]) for name in report.loaded)

    def test_a_grey_picture_is_seen_as_by_the_colours(self, tmp_path: Path) -> None:
        """The mean of the weights on one channel is the network's answer to a picture of equal channels, over three."""
        checkpoint = pictures(vig())
        save_file(checkpoint, tmp_path / "w.safetensors")
        other = vig(seed=1)
        load_weights(other, tmp_path / "w.safetensors")
        x = clips()[:, None]
        colours = F.conv2d(x.expand(-1, 3, -1, -1), checkpoint[STEM], stride=2, padding=1)
        one = F.conv2d(x, other.state_dict()[STEM], stride=2, padding=1)
        torch.testing.assert_close(3 * one, colours, atol=1e-5, rtol=1e-4)

    def test_anything_else_must_fit(self, tmp_path: Path) -> None:
        checkpoint = pictures(lhgnn())
        del checkpoint["backbone.0.0.fc1.0.bias"]
        save_file(checkpoint, tmp_path / "w.safetensors")
        with pytest.raises(ModelError, match=r"1 missing \(backbone\.0\.0\.fc1\.0\.bias\)"):
            load_weights(lhgnn(), tmp_path / "w.safetensors")


class TestVig:
    def test_widened_network_computes_the_same(self, tmp_path: Path) -> None:
        """With the same neighbours, dilation and places."""
        model = vig()
        checkpoint = model.state_dict()
        save_file(checkpoint, tmp_path / "w.safetensors")
        other = lhgnn(seed=1)
        report = load_weights(other, tmp_path / "w.safetensors")
        assert report.kind == "vig"
        complete(report, checkpoint, other)
        assert len(report.widened) == 4 * 7
        assert report.widened["backbone.0.0.graph_conv.gconv.nn.0.weight"] == "16x4x1x1 -> 24x6x1x1"
        assert sum(name.endswith("dwconv.weight") for name in report.missing) == 4
        same_map(other, model)

    def test_of_pictures(self, tmp_path: Path) -> None:
        """A published file: three colours, another grid, 1000 classes, in a container."""
        checkpoint = pictures(vig())
        torch.save({"epoch": 300, "state_dict": checkpoint}, tmp_path / "pvig.pth.tar")
        other, same = lhgnn(seed=1), vig(seed=2)
        report = load_weights(other, tmp_path / "pvig.pth.tar")
        assert report.kind == "vig"
        complete(report, checkpoint, other)
        assert load_weights(same, tmp_path / "pvig.pth.tar").kind == "image"
        same_map(other, same)

    def test_into_the_local_kernel(self, tmp_path: Path) -> None:
        model = vig()
        save_file(model.state_dict(), tmp_path / "w.safetensors")
        other = create("lhgnn", 1, kernel="local")
        report = load_weights(other, tmp_path / "w.safetensors")
        assert report.kind == "vig"
        assert not report.widened
        same_map(other, model)

    def test_every_new_weight_can_learn(self, tmp_path: Path) -> None:
        save_file(vig().state_dict(), tmp_path / "w.safetensors")
        other = lhgnn(seed=1)
        load_weights(other, tmp_path / "w.safetensors")
        F.cross_entropy(other.train()(clips()), torch.tensor([0, 1, 2])).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in other.parameters())

    def test_another_width(self, tmp_path: Path) -> None:
        save_file(vig(channels=(8, 16, 20, 24)).state_dict(), tmp_path / "w.safetensors")
        with pytest.raises(ModelError, match="does not fit lhgnn as 'vig'"):
            load_weights(lhgnn(), tmp_path / "w.safetensors")


class TestPanns:
    """A file as PANNs publish them: weights beside a training state, with the fixed front end."""

    options: ClassVar[dict[str, Any]] = {"widths": (4, 6, 8), "num_mel_bins": 16, "frames": 32, "num_classes": 5}

    def checkpoint(self, folder: Path, old: bool = False) -> tuple[Path, SpectrogramClassifier]:
        torch.manual_seed(0)
        model = create_model("cnn14", **self.options)
        disturb(model.state_dict(), 0)
        assert isinstance(model, SpectrogramClassifier)
        content = {
            "iteration": 600000,
            "model": {
                "spectrogram_extractor.stft.conv_real.weight": torch.randn(9, 1, 16),
                "spectrogram_extractor.stft.conv_imag.weight": torch.randn(9, 1, 16),
                "logmel_extractor.melW": torch.rand(9, 16),
                **model.state_dict(),
            },
            "sampler": {"indexes": [np.arange(4), np.zeros(2, np.float32)], "pointer": np.int64(3), "queue": [1, 2]},
        }
        path = folder / "Cnn14_mAP=0.431.pth"
        torch.save(content, path, _use_new_zipfile_serialization=not old)
        if old:  # as NumPy 1 and the PyTorch of that time wrote it
            path.write_bytes(path.read_bytes().replace(b"cnumpy._core.", b"cnumpy.core."))
            assert b"cnumpy.core.multiarray" in path.read_bytes()
        return path, model.eval()

    @pytest.mark.parametrize("old", [False, True])
    def test_all_but_the_front_end(self, old: bool, tmp_path: Path) -> None:
        path, model = self.checkpoint(tmp_path, old)
        torch.manual_seed(1)
        other = create_model("cnn14", **self.options).eval()
        assert isinstance(other, SpectrogramClassifier)
        report = load_weights(other, path)
        assert report.kind == "audio"
        assert len(report.skipped) == 3
        assert not report.missing
        complete(report, read_weights(path), other)
        x = torch.randn(2, 32, 16)
        torch.testing.assert_close(other(x), model(x), atol=0, rtol=0)

    def test_another_number_of_classes(self, tmp_path: Path) -> None:
        path, model = self.checkpoint(tmp_path)
        other = create_model("cnn14", **{**self.options, "num_classes": 2}).eval()
        assert isinstance(other, SpectrogramClassifier)
        assert set(load_weights(other, path).missing) == {"fc_audioset.weight", "fc_audioset.bias"}
        x = torch.randn(2, 32, 16)
        torch.testing.assert_close(other.embed(x), model.embed(x), atol=0, rtol=0)


class TestRefusals:
    def refused(self, model: SpectrogramClassifier, source: Path, match: str, **options: Any) -> None:
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with pytest.raises(ModelError, match=match) as caught:
            load_weights(model, source, **options)
        assert "\n" not in str(caught.value)
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())

    @pytest.mark.filterwarnings("ignore:Detected pickle protocol")
    @pytest.mark.parametrize("protocol", [2, 4])
    def test_code_is_never_run(self, protocol: int, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple[Any, tuple[str]]:
                return os.mkdir, (str(tmp_path / "sprung"),)

        path = tmp_path / "w.pth"
        torch.save({"model": vig().state_dict(), "trap": Trap()}, path, pickle_protocol=protocol)
        self.refused(vig(), path, "could run code")
        assert not (tmp_path / "sprung").exists()

    def test_a_whole_network(self, tmp_path: Path) -> None:
        torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pt")
        self.refused(vig(), tmp_path / "w.pt", "could run code")

    @pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
    @pytest.mark.parametrize("content", [b"", b"no weights at all", b"\x80\x02}q\x00."])
    def test_damaged_files(self, name: str, content: bytes, tmp_path: Path) -> None:
        (tmp_path / name).write_bytes(content)
        self.refused(vig(), tmp_path / name, "damaged|holds no tensors")

    def test_truncated_file(self, tmp_path: Path) -> None:
        torch.save(vig().state_dict(), tmp_path / "w.pth")
        (tmp_path / "w.pth").write_bytes((tmp_path / "w.pth").read_bytes()[:5000])
        self.refused(vig(), tmp_path / "w.pth", "damaged")

    def test_no_tensors(self, tmp_path: Path) -> None:
        torch.save({"epoch": 3}, tmp_path / "w.pth")
        self.refused(vig(), tmp_path / "w.pth", "holds no tensors")
        torch.save([1, 2], tmp_path / "w.pth")
        self.refused(vig(), tmp_path / "w.pth", "holds no tensors")

    def test_other_places(self, tmp_path: Path) -> None:
        self.refused(vig(), tmp_path / "none", "does not exist")
        self.refused(vig(), tmp_path, "holds no safetensors; give")
        (tmp_path / "w.txt").write_text("weights")
        self.refused(vig(), tmp_path / "w.txt", "not a file of weights")
        torch.save(vig().state_dict(), tmp_path / "w.pth")
        self.refused(vig(), tmp_path, r"but w\.pth; name that file")

    def test_damaged_configuration_beside_it(self, tmp_path: Path) -> None:
        vig().save_pretrained(tmp_path)
        (tmp_path / "config.json").write_text("{")
        self.refused(vig(), tmp_path, r"config\.json: damaged")

    def test_weights_of_another_network(self, tmp_path: Path) -> None:
        save_file(lhgnn().state_dict(), tmp_path / "w.safetensors")
        self.refused(vig(), tmp_path / "w.safetensors", r"of another shape .* unknown here \(backbone\.0\.1\.dwconv")
        self.refused(lhgnn(stem="four"), tmp_path / "w.safetensors", "options of the checkpoint")
        save_file({"a": torch.zeros(2)}, tmp_path / "w.safetensors")
        self.refused(vig(), tmp_path / "w.safetensors", r"missing .* 1 unknown here \(a\)")

    def test_unknown_kind(self, tmp_path: Path) -> None:
        self.refused(vig(), tmp_path, "choose from auto, audio, image, vig", kind="picture")

    def test_kinds_that_do_not_go(self, tmp_path: Path) -> None:
        save_file(pictures(vig()), tmp_path / "w.safetensors")
        self.refused(vig(), tmp_path / "w.safetensors", "as 'audio'", kind="audio")
        model = create_model("cnn14", **TestPanns.options)
        assert isinstance(model, SpectrogramClassifier)
        self.refused(model, tmp_path / "w.safetensors", "need a stem of convolutions", kind="image")

    def test_not_strict(self, tmp_path: Path) -> None:
        checkpoint = {**vig().state_dict(), "extra": torch.zeros(3), "pos_embed": torch.zeros(1, 4, 4, 4)}
        del checkpoint["backbone.0.0.fc1.0.bias"]
        save_file(checkpoint, tmp_path / "w.safetensors")
        model = vig(seed=1)
        report = load_weights(model, tmp_path / "w.safetensors", strict=False)
        assert report.unexpected == ("extra",)
        assert report.skipped == {"pos_embed": "1x4x4x4, not 1x8x16x16"}
        assert set(report.missing) == {"pos_embed", "backbone.0.0.fc1.0.bias"}


class TestReading:
    def test_parallel_training_and_containers(self, tmp_path: Path) -> None:
        state = vig().state_dict()
        wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
        torch.save({"state_dict": state, "state_dict_ema": {n: t + 1 for n, t in wrapped.items()}}, tmp_path / "w.pth")
        read = read_weights(tmp_path / "w.pth")
        assert list(read) == list(state)
        assert torch.equal(read[STEM], state[STEM] + 1)  # the average, where there is one

    def test_half_precision(self, tmp_path: Path) -> None:
        save_file(
            {n: t.half() if t.is_floating_point() else t for n, t in vig().state_dict().items()},
            tmp_path / "w.safetensors",
        )
        for model in (vig(seed=1), lhgnn(seed=1)):
            load_weights(model, tmp_path / "w.safetensors")
            assert {t.dtype for t in model.parameters()} == {torch.float32}
            assert model(clips()).isfinite().all()

    def test_safetensors_round_trip(self, tmp_path: Path) -> None:
        vig().save_pretrained(tmp_path)
        assert set(read_weights(tmp_path)) == set(load_file(tmp_path / "model.safetensors"))
        assert set(read_weights(str(tmp_path / "model.safetensors"))) == set(read_weights(tmp_path))


class TestReport:
    @pytest.fixture
    def report(self, tmp_path: Path) -> LoadReport:
        torch.save(pictures(vig()), tmp_path / "pvig.pth")
        return load_weights(lhgnn(num_classes=7), tmp_path / "pvig.pth")

    def test_text(self, report: LoadReport) -> None:
        text = str(report)
        assert text.splitlines()[0].endswith("pvig.pth (vig): 145 tensors loaded as they are")
        for line in (
            f"  resized: {STEM}: mean over 3 colours",
            "  resized: pos_embed: 1x8x14x14 -> 1x8x16x16",
            "  widened: backbone.* (28): 16x4x1x1 -> 24x6x1x1, ...",
            "  skipped: backbone.0.0.relative_pos: fixed, made anew here",
            "  skipped: prediction.* (9): classes of another task",
            "  missing: prediction.* (9): as it was",
        ):
            assert line in text.splitlines()

    def test_table(self, report: LoadReport) -> None:
        console = Console(width=100, file=io.StringIO())
        with console.capture() as capture:
            console.print(report)
        text = capture.get()
        assert "backbone.*" in text
        assert "mean over 3 colours" in text
        counted = sum(row[2] for row in report.rows())
        fates = (report.loaded, report.resized, report.widened, report.skipped, report.missing, report.unexpected)
        assert counted == sum(len(fate) for fate in fates)


@pytest.mark.parametrize("name", ["nowhere.pt", "nowhere/model.safetensors"])
def test_a_file_that_is_not_there_is_called_so(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        read_weights(tmp_path / name)
