from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from graphophone.models import ModelError, create_model
from graphophone.nn.position import position_closeness

SMALL: dict[str, Any] = {
    "channels": (8, 16, 16, 24),
    "blocks": (1, 1, 2, 1),
    "k": 3,
    "head_width": 12,
    "num_mel_bins": 64,
    "frames": 64,
}


@pytest.mark.parametrize(("size", "millions"), [("ti", 10.7), ("s", 27.3)])
def test_published_parameter_counts(size: str, millions: float) -> None:
    """Of pictures of 224 x 224 with three colours and 1000 classes."""
    with torch.device("meta"):
        model = create_model("vig", num_classes=1000, size=size, num_mel_bins=224, frames=224)
    colours = 2 * model.get_parameter("stem.convs.0.weight").numel()
    assert round((model.num_parameters() + colours) / 1e6, 1) == millions


def test_neighbours_and_dilation_grow() -> None:
    with torch.device("meta"):
        model = create_model("vig", num_classes=2)
    blocks = [layer[0] for layer in model.get_submodule("backbone") if isinstance(layer, torch.nn.Sequential)]
    assert [block.k for block in blocks] == [9, 9, 10, 11, 12, 13, 13, 14, 15, 16, 17, 18]
    assert [block.dilation for block in blocks] == [1] * 4 + [2] * 8
    with torch.device("meta"):
        model = create_model("vig", num_classes=2, k=5, k_last=5, dilation=3)
    blocks = [layer[0] for layer in model.get_submodule("backbone") if isinstance(layer, torch.nn.Sequential)]
    assert {(block.k, block.dilation) for block in blocks} == {(5, 3)}


def norm(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.batch_norm(x, *(state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")))


def layer(state: dict[str, Tensor], name: str, x: Tensor, groups: int = 1) -> Tensor:
    """A 1x1 convolution of ``[batch, C, N, 1]`` with its normalisation."""
    return norm(state, f"{name}.1", F.conv2d(x, state[f"{name}.0.weight"], state[f"{name}.0.bias"], groups=groups))


def block(state: dict[str, Tensor], name: str, x: Tensor, k: int, dilation: int, window: int) -> Tensor:
    """One block as the paper and its published weights have it, node by node: ``[batch, C, H, W]``."""
    batch, channels, height, width = x.shape
    z = layer(state, f"{name}.0.fc1", x)
    others = F.avg_pool2d(z, window).flatten(2)
    nodes = z.flatten(2)
    likeness = torch.einsum("bcn,bcm->bnm", F.normalize(nodes, dim=1), F.normalize(others, dim=1))
    place = position_closeness("ref", channels, height, width, window)
    assert place is not None
    order = (likeness + place).argsort(2, descending=True)[..., : k * dilation : dilation]
    relative = torch.stack(
        [
            torch.stack([(others[b][:, order[b, i]] - nodes[b][:, i, None]).amax(1) for i in range(nodes.size(2))], 1)
            for b in range(batch)
        ]
    )
    pairs = torch.stack([nodes, relative], dim=2).reshape(batch, 2 * channels, -1, 1)
    mixed = F.gelu(layer(state, f"{name}.0.graph_conv.gconv.nn", pairs, groups=4))
    x = x + layer(state, f"{name}.0.fc2", mixed).reshape(x.shape)
    return x + layer(state, f"{name}.1.fc2", F.gelu(layer(state, f"{name}.1.fc1", x)))


def test_equals_a_transcription() -> None:
    torch.manual_seed(0)
    model = create_model("vig", num_classes=5, **{**SMALL, "k_last": 5, "dilation": 2})
    for name, tensor in model.state_dict().items():
        if tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5) if name.endswith("running_var") else tensor.normal_(std=0.5)
    state = {name: tensor.double() for name, tensor in model.state_dict().items()}
    state["pos_embed"].normal_()
    model.load_state_dict(state)
    model = model.double().eval()
    clips = torch.randn(2, 64, 64, dtype=torch.float64)

    x = clips.transpose(1, 2)[:, None]
    for index, stride in ((0, 2), (3, 2), (6, 1)):
        name = f"stem.convs.{index}"
        x = F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride, 1)
        x = norm(state, f"stem.convs.{index + 1}", x)
        x = F.gelu(x) if index < 6 else x
    x = x + state["pos_embed"]
    plan = [(0, 3, 4), None, (2, 3, 2), None, (4, 4, 1), (5, 4, 1), None, (7, 5, 1)]
    for number, step in enumerate(plan):
        if step is None:
            name = f"backbone.{number}.conv"
            x = F.conv2d(x, state[f"{name}.0.weight"], state[f"{name}.0.bias"], 2, 1)
            x = norm(state, f"{name}.1", x)
        else:
            _, k, window = step
            candidates = x.size(2) * x.size(3) // window**2
            k = min(k, candidates)
            x = block(state, f"backbone.{number}", x, k, max(1, min(2, candidates // k)), window)
    x = F.gelu(layer(state, "prediction", x.mean((2, 3), keepdim=True)))
    logits = F.conv2d(x, state["prediction.4.weight"], state["prediction.4.bias"]).flatten(1)
    torch.testing.assert_close(model(clips), logits, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"size": "xl"}, "choose from ti, s, m, b"), ({"k": 0}, "at least 1"), ({"channels": (8, 16)}, "stages")],
)
def test_options_without_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        create_model("vig", num_classes=3, **options)
