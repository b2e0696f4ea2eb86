import copy
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning import LightningModule
from torch import nn

from graphophone.tasks.averaging import EpochAveraging, StepAveraging, refresh_batch_norm


def state(seed, counter):
    generator = torch.Generator().manual_seed(seed)
    return {"weight": torch.randn(3, 2, generator=generator), "counter": torch.tensor(counter)}


@given(st.lists(st.integers(0, 100), min_size=1, max_size=12))
def test_the_mean_of_states_and_the_last_counter(seeds):
    averaging = EpochAveraging(1, len(seeds))
    for number, seed in enumerate(seeds):
        averaging.add(state(seed, number))
    expected = torch.stack([state(seed, 0)["weight"].double() for seed in seeds]).mean(0)
    torch.testing.assert_close(averaging.mean["weight"].double(), expected, atol=1e-6, rtol=1e-5)
    assert averaging.mean["counter"].item() == len(seeds) - 1
    assert averaging.mean["counter"].dtype == torch.int64


@given(st.integers(0, 100), st.integers(1, 20))
def test_a_state_averaged_with_itself_is_itself(seed, times):
    averaging = EpochAveraging(1, times)
    for _ in range(times):
        averaging.add(state(seed, 7))
    assert torch.equal(averaging.mean["weight"], state(seed, 7)["weight"])


def test_what_was_added_may_change_afterwards():
    averaging, weight = EpochAveraging(1, 2), torch.ones(2)
    averaging.add({"weight": weight})
    weight.mul_(5)
    assert averaging.mean["weight"].tolist() == [1, 1]


def test_only_epochs_of_the_range_count_and_it_goes_on_from_its_state():
    averaging = EpochAveraging(2, 3)
    layer = nn.Linear(1, 1)
    for epoch in range(4):
        nn.init.constant_(layer.weight, epoch)
        averaging.on_train_epoch_end(SimpleNamespace(current_epoch=epoch), layer)
        other = EpochAveraging(2, 3)
        other.load_state_dict(copy.deepcopy(averaging.state_dict()))
        averaging = other
    assert averaging.count == 2
    assert averaging.mean["weight"].item() == 1.5
    checkpoint = {"callbacks": {"EpochAveraging": averaging.state_dict()}}
    assert EpochAveraging.mean_of(checkpoint)["weight"].item() == 1.5
    assert EpochAveraging.mean_of({"callbacks": {}}) is None
    assert EpochAveraging.mean_of({"callbacks": {"EpochAveraging": EpochAveraging(1, 1).state_dict()}}) is None


def test_refreshed_statistics_are_those_of_all_batches():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).eval()
    nn.init.constant_(model[1].running_mean, 9.0)
    batches = [torch.randn(16, 3) for _ in range(5)]
    assert refresh_batch_norm(model, batches, model) == 1
    with torch.no_grad():
        hidden = [model[0](batch) for batch in batches]
    torch.testing.assert_close(model[1].running_mean, torch.stack([h.mean(0) for h in hidden]).mean(0))
    torch.testing.assert_close(model[1].running_var, torch.stack([h.var(0) for h in hidden]).mean(0))
    assert model[1].momentum == 0.1
    assert not any(module.training for module in model.modules())


def test_without_batch_norm_nothing_is_read():
    def broken():
        raise AssertionError
        yield

    assert refresh_batch_norm(nn.Linear(2, 2), broken(), print) == 0


def test_momentum_and_modes_come_back_after_an_error():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=0.3)).eval()
    with pytest.raises(RuntimeError):
        refresh_batch_norm(model, [torch.randn(2, 5)], model)
    assert model[1].momentum == 0.3
    assert not model.training


class Lazy(LightningModule):
    """Makes a table at its first batch, and counts batches."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.register_buffer("table", None, persistent=False)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x):
        self.table = torch.arange(6.0).reshape(2, 3)
        return self.norm(self.first(x))


def test_a_moving_average_of_a_network_that_makes_buffers():
    torch.manual_seed(0)
    module, averaging = Lazy(), StepAveraging(0.5)
    averaging.setup(None, module, "fit")
    module(torch.randn(8, 2))
    expected = copy.deepcopy(module.state_dict())
    for step in range(1, 4):
        nn.init.constant_(module.first.weight, float(step))
        nn.init.constant_(module.norm.running_mean, float(step))
        averaging.on_train_batch_end(SimpleNamespace(global_step=step), module, None, None, 0)
        share = 1.0 if step == 1 else 0.5
        for name in ("first.weight", "norm.running_mean"):
            expected[name] = expected[name].lerp(module.state_dict()[name], share)
    current = copy.deepcopy(module.state_dict())
    averaging.on_validation_epoch_start(None, module)
    for name in ("first.weight", "norm.running_mean"):
        torch.testing.assert_close(module.state_dict()[name], expected[name])
    averaging.on_validation_epoch_end(None, module)
    assert all(torch.equal(module.state_dict()[name], value) for name, value in current.items())
    assert module.table.tolist() == [[0, 1, 2], [3, 4, 5]]
    averaging.on_train_end(None, module)
    torch.testing.assert_close(module.state_dict()["first.weight"], expected["first.weight"])
    assert averaging.state_key == "EMAWeightAveraging"
