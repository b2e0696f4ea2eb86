"""Every registered model of spectrograms: forward, gradients, batches, sizes, saving and loading."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graphophone.models import MODELS, ModelError, SpectrogramClassifier, create_model, list_models, load_model

FRAMES, BANDS, CLASSES = 48, 32, 3
PYRAMID = {"channels": (8, 16, 16, 24), "blocks": (1, 1, 1, 1), "k": 3, "head_width": 12}
OPTIONS: dict[str, dict[str, Any]] = {
    "ast": {"hidden_size": 16, "num_layers": 2, "num_heads": 2},
    "cnn14": {"widths": (8, 12, 16)},
    "lhgnn": {**PYRAMID, "P": 6, "K": 2},
    "vig": PYRAMID,
}
NAMES = [name for name in list_models() if MODELS.get(name).reads == "spectrogram"]  # type: ignore[attr-defined]


def create(name: str, **options: Any) -> SpectrogramClassifier:
    torch.manual_seed(0)
    shape = {"num_classes": CLASSES, "num_mel_bins": BANDS, "frames": FRAMES}
    model = create_model(name, **{**shape, **OPTIONS[name], **options})
    assert isinstance(model, SpectrogramClassifier)
    return model


def clips(count: int = 4, frames: int = FRAMES, bands: int = BANDS) -> Tensor:
    return torch.randn(count, frames, bands, generator=torch.Generator().manual_seed(1))


def test_all_are_here() -> None:
    assert set(NAMES) == set(OPTIONS)


@pytest.mark.parametrize("name", NAMES)
class TestEveryModel:
    def test_forward(self, name: str) -> None:
        model = create(name).eval()
        logits = model(clips())
        assert logits.shape == (4, CLASSES)
        assert logits.isfinite().all()
        assert (logits.std(0) > 0).all()  # it depends on the clip
        torch.testing.assert_close(model.classify(model.embed(clips())), logits)
        torch.testing.assert_close(model(clips()[:, None]), logits, atol=0, rtol=0)

    def test_sizes_are_kept(self, name: str) -> None:
        model = create(name)
        assert (model.num_classes, model.num_mel_bins, model.frames) == (CLASSES, BANDS, FRAMES)

    def test_every_parameter_gets_a_gradient(self, name: str) -> None:
        model = create(name).train()
        nn.functional.cross_entropy(model(clips()), torch.tensor([0, 1, 2, 0])).backward()
        without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
        assert not without
        moved = sum(bool((p.grad != 0).any()) for p in model.parameters() if p.grad is not None)
        assert moved >= 0.9 * len(list(model.parameters()))

    def test_batch_equals_single(self, name: str) -> None:
        model = create(name).eval()
        together = model(clips())
        for number, clip in enumerate(clips()):
            torch.testing.assert_close(model(clip[None])[0], together[number], atol=1e-5, rtol=1e-4)

    def test_no_clip_has_no_scores(self, name: str) -> None:
        model = create(name).eval()
        for none in (clips(0), clips(0)[:, None], clips(0, 61)):
            assert model(none).shape == (0, CLASSES)
        with torch.inference_mode():
            assert model.double()(clips(0).double()).dtype == torch.float64
        with pytest.raises(ModelError, match=r"give \[batch, frames, mels\]"):
            model(torch.zeros(0, 2, FRAMES, BANDS))
        with pytest.raises(ModelError, match="batch of no spectrogram"):
            model.train()(clips(0))

    def test_evaluation_is_deterministic(self, name: str) -> None:
        model = create(name).eval()
        torch.testing.assert_close(model(clips()), model(clips()), atol=0, rtol=0)

    def test_learns(self, name: str) -> None:
        model = create(name).train()
        labels = torch.tensor([0, 1, 2, 0])
        optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
        losses = []
        for _ in range(20):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(model(clips()), labels)
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert min(losses[-5:]) < 0.7 * losses[0]

    @pytest.mark.parametrize(("frames", "bands"), [(96, 32), (32, 32), (48, 48), (61, 37)])
    def test_other_sizes(self, name: str, frames: int, bands: int) -> None:
        if name == "cnn14" and bands != BANDS:
            with pytest.raises(ModelError, match=f"{bands} bands, not the 32"):
                create(name).eval()(clips(2, frames, bands))
        else:
            assert create(name).eval()(clips(2, frames, bands)).isfinite().all()

    def test_other_shapes_are_refused(self, name: str) -> None:
        with pytest.raises(ModelError, match=r"give \[batch, frames, mels\]"):
            create(name).eval()(torch.zeros(FRAMES, BANDS))
        for shape in ((2, 0, BANDS), (2, FRAMES, 0)):
            with pytest.raises(ModelError, match="at least one frame and one mel band"):
                create(name).eval()(torch.zeros(shape))

    def test_save_and_load(self, name: str, tmp_path: Path) -> None:
        model = create(name).train()
        model(clips())  # moves running statistics
        model.eval()
        model.save_pretrained(tmp_path)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["README.md", "config.json", "model.safetensors"]
        assert json.loads((tmp_path / "config.json").read_text())["model_name"] == name
        loaded = load_model(tmp_path)
        assert type(loaded) is type(model)
        assert loaded.config == json.loads(json.dumps(model.config))
        torch.testing.assert_close(loaded(clips()), model(clips()), atol=0, rtol=0)

    def test_reset_classifier(self, name: str, tmp_path: Path) -> None:
        model = create(name).eval()
        before = model.embed(clips())
        model.reset_classifier(7)
        assert model(clips()).shape == (4, 7)
        torch.testing.assert_close(model.embed(clips()), before)
        model.save_pretrained(tmp_path)
        assert load_model(tmp_path)(clips()).shape == (4, 7)
