"""Every change that matters is noticed."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from graphophone.nn.snapshot import Snapshot

CHANGES: dict[str, Callable[[nn.Sequential], object]] = {
    "in place": lambda m: nn.init.zeros_(m[0].weight),
    "buffer": lambda m: m[1](torch.randn(5, 3)),
    "load": lambda m: m.load_state_dict({k: v + 1 for k, v in m.state_dict().items()}),
    "assign": lambda m: m.load_state_dict({k: v.clone() for k, v in m.state_dict().items()}, assign=True),
    "cast": lambda m: m.double(),
    "layer": lambda m: m.__setitem__(2, nn.Identity()),
    "parameter": lambda m: setattr(m[0], "bias", nn.Parameter(torch.zeros(3))),
    "hook": lambda m: m[0].register_forward_hook(lambda *_: None),
    "step": lambda m: learn(m),
    "mode": lambda m: m[1].eval(),
}


def learn(module: nn.Module) -> None:
    optimiser = torch.optim.AdamW(module.parameters())
    sum(weight.sum() for weight in module.parameters()).backward()  # type: ignore[union-attr]
    optimiser.step()


@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_noticed(change: str) -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.ReLU()).train()
    snapshot = Snapshot(module)
    assert snapshot.unchanged()
    CHANGES[change](module)
    assert not snapshot.unchanged()


def test_use_is_no_change() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).eval()
    snapshot = Snapshot(module)
    module(torch.randn(4, 3)).sum().backward()
    module.state_dict()
    assert snapshot.unchanged()


def test_changes_that_nobody_counts() -> None:
    with torch.inference_mode():
        module = nn.Linear(3, 3)
    assert not Snapshot(module).unchanged()
