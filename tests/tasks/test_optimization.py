import itertools

import pytest
import torch
from lightning import LightningModule
from torch import nn

from graphophone.tasks.optimization import Optimization, TaskError, learning_rate_factor


def test_one_cycle_equals_pytorchs():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=100, pct_start=0.3)
    for step in range(100):
        ours = learning_rate_factor(step, total=100, schedule="onecycle", warmup=0.3)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], abs=0.06)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("schedule", ["constant", "cosine", "onecycle"])
def test_schedules_rise_then_do_not(schedule):
    factors = [learning_rate_factor(s, total=50, schedule=schedule, warmup=0.2) for s in range(50)]
    assert max(factors) <= 1 + 1e-9
    assert factors[0] < factors[5] < factors[9]
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(factors[10:]))
    if schedule != "constant":
        assert factors[-1] < 0.02
    without = learning_rate_factor(0, total=50, schedule="constant", warmup=0.0)
    assert without == 1


def test_milestones_equal_pytorchs_multistep():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3, 5], gamma=0.85)
    for epoch in range(8):
        for step in range(3):
            ours = learning_rate_factor(
                3 * epoch + step, total=24, schedule="multistep", warmup=0, epochs=8, milestones=[2, 3, 5], gamma=0.85
            )
            assert ours == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()


def test_warmup_counts_steps_or_shares():
    def factor(step, **options):
        return learning_rate_factor(step, total=100, schedule="constant", **options)

    assert [factor(s, warmup=0.1) for s in range(20)] == [factor(s, warmup=0.0, warmup_steps=10) for s in range(20)]
    assert factor(0, warmup=0.0, warmup_steps=10) == pytest.approx(1 / 11)
    assert factor(10, warmup=0.0, warmup_steps=10) == 1
    low = learning_rate_factor(
        60, total=100, schedule="multistep", warmup=0, warmup_steps=100, epochs=10, milestones=[5], gamma=0.5
    )
    assert low == pytest.approx(0.5 * 61 / 101)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"warmup": 5.0}, "warmup"),
        ({"warmup": 0.1, "warmup_steps": 5}, "exclude each other"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"schedule": "multistep"}, "milestones"),
        ({"milestones": [0]}, "milestones"),
        ({"gamma": 0.0}, "gamma"),
    ],
)
def test_settings_out_of_range_are_named(setting, message):
    with pytest.raises(TaskError, match=message):
        Optimization(**setting)


def test_betas_reach_the_optimiser():
    for name in ("adam", "adamw"):
        optimizer = Optimization(name, betas=[0.95, 0.99]).configure(nn.Linear(2, 2), LightningModule())
        assert optimizer.param_groups[0]["betas"] == (0.95, 0.99)
