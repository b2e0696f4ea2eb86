import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from graphophone.models.widening import kept_inputs, kept_outputs, widen_block, widenable

NAME = "backbone.0.0.graph_conv.gconv.nn.0.weight"


@given(st.integers(1, 6).map(lambda quarter: 4 * quarter))
def test_kept_channels(channels: int) -> None:
    """Old channel 2 c + s of a group is 3 c + s; old outputs come first in their group."""
    inputs = kept_inputs(2 * channels, 3 * channels, 4).tolist()
    assert inputs == [3 * c + s for c in range(channels // 4) for s in (0, 1)]
    outputs = kept_outputs(2 * channels, 3 * channels, 4).tolist()
    size = 3 * channels // 4
    assert outputs == [g * size + j for g in range(4) for j in range(channels // 2)]


@pytest.mark.parametrize("channels", [4, 8, 20])
def test_the_same_function_whatever_the_third_term(channels: int) -> None:
    torch.manual_seed(0)

    def mixer(wide: int) -> nn.ModuleDict:
        first = nn.Sequential(nn.Conv2d(wide, wide, 1, groups=4), nn.BatchNorm2d(wide), nn.GELU())
        second = nn.Sequential(nn.Conv2d(wide, channels, 1), nn.BatchNorm2d(channels))
        for norm in (first[1], second[1]):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
        return nn.ModuleDict({"graph_conv": nn.ModuleDict({"gconv": nn.ModuleDict({"nn": first})}), "fc2": second})

    narrow, wide = mixer(2 * channels).eval(), mixer(3 * channels).eval()
    old, new = ({f"backbone.0.0.{n}": t for n, t in net.state_dict().items()} for net in (narrow, wide))
    assert widenable(NAME, old[NAME], new[NAME])
    widened = widen_block(NAME, old, new)
    assert {name for name in old if old[name].shape != new[name].shape} == set(widened)
    wide.load_state_dict({n.removeprefix("backbone.0.0."): t for n, t in {**old, **widened}.items()})

    x, a, b = torch.randn(3, 2, channels, 5, 1).unbind(0)
    before = narrow["fc2"](narrow["graph_conv"]["gconv"]["nn"](torch.stack([x, a], 2).flatten(1, 2)))
    after = wide["fc2"](wide["graph_conv"]["gconv"]["nn"](torch.stack([x, a, b], 2).flatten(1, 2)))
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)

    # The new channels are there to be learned: they see the third term, and their way out has a gradient.
    F.mse_loss(after, torch.zeros_like(after)).backward()
    gradient = wide["fc2"][0].weight.grad
    fresh = torch.ones(3 * channels, dtype=torch.bool)
    fresh[kept_outputs(2 * channels, 3 * channels, 4)] = False
    assert (gradient[:, fresh] != 0).any(0).all()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("backbone.0.0.fc1.0.weight", (8, 2, 1, 1), (12, 3, 1, 1)),
        (NAME, (8, 2, 1, 1), (8, 2, 1, 1)),
        (NAME, (8, 2, 1, 1), (24, 6, 1, 1)),
        (NAME, (8,), (12,)),
    ],
)
def test_what_is_not_widened(name: str, old: tuple[int, ...], new: tuple[int, ...]) -> None:
    assert not widenable(name, torch.zeros(old), torch.zeros(new))
