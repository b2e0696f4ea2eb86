"""LHGNN: published sizes, shapes, evaluation clip by clip, folding, learning."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphophone.models import ModelError, create_model, load_model
from graphophone.models import lhgnn as module
from graphophone.models.lhgnn import LHGNN
from graphophone.nn import LHGBlock, onednn

SMALL: dict[str, Any] = {
    "channels": (16, 32, 40, 64),
    "blocks": (1, 1, 1, 1),
    "k": 5,
    "P": 12,
    "K": 4,
    "head_width": 32,
    "num_mel_bins": 32,
    "frames": 96,
}


def small(seed: int = 0, **options: Any) -> LHGNN:
    torch.manual_seed(seed)
    model = create_model("lhgnn", **{"num_classes": 4, **SMALL, **options})
    assert isinstance(model, LHGNN)
    return model


def clips(batch: int = 4, frames: int = 96, mels: int = 32, seed: int = 0) -> Tensor:
    return torch.randn(batch, frames, mels, generator=torch.Generator().manual_seed(seed))


def settled(**options: Any) -> LHGNN:
    """A model in evaluation whose normalisations have seen data."""
    model = small(**options).train()
    with torch.no_grad():
        for seed in range(3):
            model(clips(8, seed=seed))
    return model.eval()


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"num_classes": 527}, 31_476_127),
        ({"num_classes": 200}, 31_140_952),
        ({"num_classes": 50}, 30_987_202),
        ({"num_classes": 527, "channels": (80, 160, 320, 640)}, 25_943_887),
        ({"num_classes": 527, "kernel": "local"}, 27_316_447),
        ({"num_classes": 527, "kernel": "higher"}, 27_316_447),
        ({"num_classes": 527, "stem": "four"}, 31_476_127 + 14_520),
        ({"num_classes": 527, "init": "learned"}, 31_476_127 + 208_000),
    ],
)
def test_published_parameter_counts(options: dict[str, Any], count: int) -> None:
    with torch.device("meta"):
        model = create_model("lhgnn", size="s", **options)
    assert model.num_parameters() == count


def test_sizes() -> None:
    with torch.device("meta"):
        counts = [create_model("lhgnn", num_classes=527, size=size).num_parameters() for size in ("ti", "s", "m", "b")]
    assert counts == sorted(counts)
    assert counts[0] < 4e6


@pytest.mark.parametrize(("frames", "grids"), [(1024, (256, 128, 64, 32)), (512, (128, 64, 32, 16))])
def test_published_shapes(frames: int, grids: tuple[int, ...]) -> None:
    with torch.device("meta"):
        model: Any = create_model("lhgnn", num_classes=527, frames=frames, rel_pos="none")
        seen = []
        for block in model.modules():
            if isinstance(block, LHGBlock):
                block.register_forward_hook(lambda _, inputs, out: seen.append((inputs[0].shape, out.shape)))
        for stage, (height, width, channels) in enumerate(zip((32, 16, 8, 4), grids, (80, 160, 400, 640), strict=True)):
            number = (0, 3, 6, 13)[stage]
            nodes = torch.empty(1, height, width, channels)
            assert model.backbone[number][0].fc1[0].in_channels == channels
            assert model.backbone[number][1](nodes).shape == nodes.shape
            if stage < 3:
                down = model.backbone[number - 1 + (3, 3, 7)[stage]]
                assert down(nodes.permute(0, 3, 1, 2)).shape[2:] == ((16, 8, 4)[stage], grids[stage + 1])
        assert model.stem(torch.empty(1, 1, 128, frames)).shape == (1, 80, 32, grids[0])
    assert [len(list(model.backbone)), model.pos_embed.shape] == [15, (1, 80, 32, frames // 4)]


def test_published_schedules() -> None:
    with torch.device("meta"):
        blocks = [b for b in create_model("lhgnn", num_classes=2).modules() if isinstance(b, LHGBlock)]
    assert [b.dilation for b in blocks] == [1] * 4 + [2] * 8
    assert [b.reduction for b in blocks] == [4, 4, 2, 2] + [1] * 8
    rates = [b.drop_path.probability for b in blocks]
    assert rates[0] == 0
    assert rates[-1] == pytest.approx(0.1)
    torch.testing.assert_close(torch.tensor(rates), torch.linspace(0, 0.1, 12))


def test_names_of_the_weights() -> None:
    names = set(small(init="noise").state_dict())
    for expected in (
        "stem.convs.0.weight",
        "pos_embed",
        "backbone.0.0.fc1.0.weight",
        "backbone.0.0.graph_conv.gconv.nn.0.weight",
        "backbone.0.0.fc2.1.running_var",
        "backbone.0.1.fc1.0.weight",
        "backbone.0.1.fc2.1.bias",
        "backbone.1.conv.0.weight",
        "prediction.0.weight",
        "prediction.4.bias",
    ):
        assert expected in names
    assert not [name for name in names if "closeness" in name or "noise" in name]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "xl"}, "unknown size"),
        ({"channels": (16, 32)}, "once per stage"),
        ({"channels": (18, 32, 40, 64)}, "multiple of 4"),
        ({"K": 20}, "K=20 of P=12"),
        ({"kernel": "none"}, "unknown kernel"),
        ({"rel_pos": "abs"}, "unknown rel_pos"),
        ({"stem": "five"}, "unknown stem"),
        ({"dilation": "two"}, "give 'ref' or a number"),
        ({"num_classes": 0}, "at least 1"),
        ({"channels": (-4, 32, 40, 64)}, "at least 1"),
        ({"head_width": 0}, "at least 1"),
        ({"P": 0, "K": 0}, "K=0 of P=0"),
        ({"dropout": 2.0}, "dropout=2.0: give a probability"),
        ({"drop_path": 1.5}, "below 1"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        small(**options)


def test_one_spectrogram_in_training_is_refused() -> None:
    with pytest.raises(ModelError, match="two spectrograms"):
        small().train()(clips(1))


def test_shapes_with_and_without_a_channel() -> None:
    model = small().eval()
    x = clips(3)
    with torch.no_grad():
        assert model(x).shape == (3, 4)
        assert model.embed(x).shape == (3, 32)
        assert model.feature_map(x).shape == (3, 1, 3, 64)
        torch.testing.assert_close(model(x[:, None]), model(x), atol=0, rtol=0)
        torch.testing.assert_close(model.classify(model.embed(x)), model(x), atol=0, rtol=0)
    with pytest.raises(ModelError, match=r"\[batch, frames, mels\]"):
        model(x[0])


@pytest.mark.parametrize("size", [(96, 32), (95, 31), (200, 40), (7, 9), (1, 1)])
def test_any_number_of_frames_and_mels(size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert settled()(clips(2, *size)).isfinite().all()


OPTIONS: list[dict[str, Any]] = [
    {},
    {"kernel": "local"},
    {"kernel": "higher"},
    {"cluster": "kmeans"},
    {"cluster": "density"},
    {"init": "noise"},
    {"init": "sample"},
    {"init": "learned"},
    {"rel_pos": "grid"},
    {"rel_pos": "none", "include_self": False},
    {"stem": "four", "dilation": 2},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(f"{k}={v}" for k, v in o.items()) or "default")
class TestEveryOption:
    def test_a_clip_alone_is_a_clip_in_a_batch(self, options: dict[str, Any]) -> None:
        model, x = settled(**options), clips(5)
        with torch.no_grad():
            together = model(x)
            alone = torch.cat([model(clip[None].clone()) for clip in x])
            torch.testing.assert_close(model(x), together, atol=0, rtol=0)
        torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model(x[1:2]), model(x)[1:2], atol=0, rtol=0)  # for explanations: with gradients

    def test_folding_changes_nothing(self, options: dict[str, Any]) -> None:
        model, x = settled(**options), clips(5)
        plain = model(x)  # with gradients, and so by the layers themselves
        with torch.no_grad():
            torch.testing.assert_close(model(x), plain.detach(), atol=1e-4, rtol=1e-4)

    def test_every_weight_learns(self, options: dict[str, Any]) -> None:
        model = small(**options).train()
        F.cross_entropy(model(clips()), torch.arange(4)).backward()
        for name, weight in model.named_parameters():
            assert weight.grad is not None, name
            assert weight.grad.isfinite().all(), name
            assert (weight.grad != 0).any(), name


@pytest.mark.parametrize("fused", [True, False])
def test_parts_of_a_batch(fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the clips of a batch are passed together, in parts, or one by one."""
    model, x = settled(), clips(5)
    usable = fused and onednn.available()
    for place in (module, onednn):
        monkeypatch.setattr(place, "available", lambda: usable)
    with torch.no_grad():
        together = model(x)
        monkeypatch.setattr(module, "_CACHED", 16 * 24 * 8 * 2)
        torch.testing.assert_close(model(x), together, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model(x[3:4]), together[3:4], atol=1e-5, rtol=1e-5)


def test_folded_layers_follow_the_weights(tmp_path: Path) -> None:
    """Training, loading, changing a weight: the next evaluation knows."""
    model, x = settled(drop_path=0.0), clips()

    def agrees() -> Tensor:
        plain = model(x).detach()
        with torch.no_grad():
            folded = model(x)
        torch.testing.assert_close(folded, plain, atol=1e-4, rtol=1e-4)
        return folded

    first = agrees()
    with torch.no_grad():
        model.backbone[0][0].fc1[0].weight.mul_(1.5)  # type: ignore[index, union-attr, operator]
    second = agrees()
    assert not torch.allclose(first, second, atol=1e-3)
    model.train()
    optimiser = torch.optim.AdamW(model.parameters(), 0.01)
    F.cross_entropy(model(x), torch.arange(4)).backward()
    optimiser.step()
    model.eval()
    third = agrees()
    assert not torch.allclose(second, third, atol=1e-3)
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(load_model(tmp_path)(x), third, atol=0, rtol=0)
    model.load_state_dict(settled(seed=5).state_dict())
    fourth = agrees()
    assert not torch.allclose(third, fourth, atol=1e-3)
    with torch.no_grad():
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301 - made here
            torch.testing.assert_close(twin(x), fourth, atol=0, rtol=0)


class Adapter(nn.Module):
    """What wraps a layer and adds to it, and shows the weight of the layer alone."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    @property
    def weight(self) -> Any:
        return self.layer.weight

    @property
    def bias(self) -> Any:
        return self.layer.bias

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.layer(x)


@pytest.mark.parametrize("change", ["adapter", "stem", "norm", "mode"])
def test_layers_that_are_not_ours_are_used_as_they_are(change: str) -> None:
    """What folding would pass by: adapters, other normalisations, one that learns while the rest does not."""
    model, x = settled(drop_path=0.0), clips()
    with torch.no_grad():
        before = model(x)
    feed_forward: Any = model.backbone[0][1]  # type: ignore[index]
    if change == "adapter":
        feed_forward.dwconv = Adapter(feed_forward.dwconv)
    elif change == "stem":
        model.stem.convs[3] = nn.Sequential(model.stem.convs[3], nn.Identity())
        before = before + 1  # the same function
    elif change == "norm":
        model.stem.convs[1] = nn.GroupNorm(1, 8)
    else:
        norm = feed_forward.fc1[1]
        norm.momentum = 0.0
        norm.train()
    plain = model(x).detach()
    with torch.no_grad():
        torch.testing.assert_close(model(x), plain, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(before, plain, atol=1e-3)


def test_weights_whose_changes_nobody_counts() -> None:
    with torch.inference_mode():
        model, x = small().eval(), clips()
        model(x)
        model.load_state_dict(settled(seed=5).state_dict())
        torch.testing.assert_close(model(x), settled(seed=5)(x), atol=1e-4, rtol=1e-4)


def test_hooks_see_the_layers() -> None:
    model, x = settled(), clips()
    seen = []
    with torch.inference_mode():
        model(x)
        handle = model.backbone[0].register_forward_hook(lambda *_: seen.append(1))
        model.backbone[0][0].register_forward_hook(lambda *_: seen.append(2))  # type: ignore[index, union-attr, operator]
        model(x)
        assert 2 in seen
        handle.remove()


def test_training_after_inference_mode() -> None:
    """What is kept from inference may be used in training, and changes nothing there."""
    model = small(centroid_grad=True).eval()
    fresh = copy.deepcopy(model)
    with torch.inference_mode():
        model(clips())
    found = []
    for one in (model, fresh):
        torch.manual_seed(0)
        out = one.train()(clips())
        out.square().sum().backward()
        found.append([out.detach(), *(w.grad for w in one.parameters())])
    assert all(grad is not None and grad.isfinite().all() for grad in found[0])
    assert any(bool(grad.any()) for grad in found[0][1:])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_export_of_a_network_never_used() -> None:
    """With any batch; and what was made for the export is not kept."""
    model, x = small().eval(), clips()
    with torch.no_grad():
        exported = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},))
        torch.testing.assert_close(exported.module()(x[:3]), model(x[:3]), atol=1e-4, rtol=1e-4)
    model.train()(x)


def test_half_precision_and_autocast() -> None:
    model = small().train()
    with torch.autocast("cpu", torch.bfloat16):
        out = model(clips())
    out.float().square().mean().backward()
    assert out.isfinite().all()
    assert all(w.grad is not None and w.grad.isfinite().all() for w in model.parameters())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert model.eval()(clips()).isfinite().all()
    assert model.double()(clips().double()).dtype == torch.float64


def test_spread_of_centroids() -> None:
    model = small()
    assert all(value != value for value in model.centroid_spread())
    model.train()(clips())
    assert len(model.centroid_spread()) == 4
    assert all(0 < value < 2 for value in model.centroid_spread())
    assert small(kernel="local").centroid_spread() == []


def test_another_head() -> None:
    model, x = settled(), clips()
    with torch.no_grad():
        before = model.embed(x)
        model.reset_classifier(7)
        assert model(x).shape == (4, 7)
        torch.testing.assert_close(model.embed(x), before, atol=0, rtol=0)
    assert model.config["num_classes"] == 7


def test_it_learns_eight_clips() -> None:
    torch.manual_seed(0)
    time = torch.arange(96)[:, None] / 96
    bins = torch.arange(32)[None] / 32
    patterns = [torch.sin(2 * torch.pi * (a * time + b * bins)) for a, b in ((2, 1), (5, 0), (0, 4), (8, 3))]
    x = torch.stack([p + 0.3 * torch.randn(96, 32) for p in patterns for _ in range(2)])
    y = torch.arange(4).repeat_interleave(2)
    model = small(drop_path=0.0).train()
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(25):
        optimiser.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimiser.step()
    assert loss < 0.05
    for layer in model.modules():  # statistics of these clips, not of the first steps
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None
    with torch.no_grad():
        model(x)
        assert (model.eval()(x).argmax(1) == y).all()
