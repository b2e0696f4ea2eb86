import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from graphophone.models import ModelError, create_model


def transcription(state: dict[str, Tensor], x: Tensor, blocks: int) -> Tensor:
    """CNN14 as the paper tells it, in evaluation: log mels ``[batch, frames, bands]`` to logits."""

    def norm(name: str, x: Tensor) -> Tensor:
        """Of axis 1, number by number."""
        mean, variance, scale, shift = (
            state[f"{name}.{key}"].view(1, -1, 1, 1) for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * scale + shift

    x = norm("bn0", x.permute(0, 2, 1)[..., None])[..., 0].permute(0, 2, 1)[:, None]
    for block in range(1, blocks + 1):
        for layer in (1, 2):
            x = F.conv2d(x, state[f"conv_block{block}.conv{layer}.weight"], padding=1)
            x = norm(f"conv_block{block}.bn{layer}", x).clamp(min=0)
        if block < blocks:
            height, width = x.size(2) // 2 * 2, x.size(3) // 2 * 2
            x = sum(x[:, :, i:height:2, j:width:2] for i in (0, 1) for j in (0, 1)) / 4
    x = x.mean(3)
    x = x.max(2).values + x.mean(2)
    x = (x @ state["fc1.weight"].T + state["fc1.bias"]).clamp(min=0)
    return x @ state["fc_audioset.weight"].T + state["fc_audioset.bias"]


def test_published_parameter_count() -> None:
    with torch.device("meta"):
        assert create_model("cnn14", num_classes=527).num_parameters() == 80_753_615


@pytest.mark.parametrize(("widths", "frames"), [((4, 6, 8), 21), ((4, 4, 6, 6, 8, 10), 67)])
def test_equals_a_transcription(widths: tuple[int, ...], frames: int) -> None:
    torch.manual_seed(0)
    model = create_model("cnn14", num_classes=5, num_mel_bins=64, frames=frames, widths=widths)
    for name, tensor in model.state_dict().items():
        if tensor.ndim == 1:  # normalisations and biases that do something
            tensor.uniform_(0.5, 1.5) if name.endswith("running_var") else tensor.normal_()
    x = 20 * torch.randn(3, frames, 64) - 40
    expected = transcription(model.state_dict(), x, len(widths))
    torch.testing.assert_close(model.eval()(x), expected, atol=1e-4, rtol=1e-4)


def test_drops_in_training_only() -> None:
    model = create_model("cnn14", num_classes=3, num_mel_bins=16, widths=(4, 6), dropout=0.5)
    x = torch.randn(2, 20, 16)
    assert not torch.equal(model.train()(x), model.train()(x))
    assert torch.equal(model.eval()(x), model.eval()(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": ()}, "widths is empty"),
        ({"num_mel_bins": 31}, "at least 32"),
        ({"frames": 31}, "at least 32"),
    ],
)
def test_options_without_sense(options: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        create_model("cnn14", num_classes=3, **options)


def test_clips_that_are_too_short() -> None:
    model = create_model("cnn14", num_classes=3, num_mel_bins=16, widths=(4, 6, 8)).eval()
    with pytest.raises(ModelError, match="3 frames of 16 bands are too few"):
        model(torch.zeros(2, 3, 16))
