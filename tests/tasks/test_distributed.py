"""Two processes share every batch: what is proved is that they take the steps of one process."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.utils.data import BatchSampler

from graphophone import jobs, runs
from graphophone.recipes import load_recipe
from graphophone.tasks.clips import TrainingBatches
from graphophone.tasks.data import EpochOrder
from graphophone.tasks.distributed import BatchShare
from graphophone.tasks.optimization import TaskError


def shares(order, size, world, smallest, sampler=TrainingBatches):
    """The batches of each process."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dist, "is_initialized", lambda: True)
        patch.setattr(dist, "get_world_size", lambda: world)
        for rank in range(world):
            patch.setattr(dist, "get_rank", lambda rank=rank: rank)
            share = BatchShare(sampler(order, size, drop_last=False), world, smallest)
            found.append(list(share))
            assert len(share) == len(found[-1])
    return found


@given(
    items=st.integers(1, 60),
    size=st.integers(1, 20),
    world=st.integers(1, 4),
    smallest=st.integers(1, 2),
    epoch=st.integers(0, 3),
)
def test_every_item_once_and_the_same_batches_as_in_one_process(items, size, world, smallest, epoch):
    order = EpochOrder(items, shuffle=True, seed=1)
    order.set_epoch(epoch)
    if min(size, items) < world * smallest:
        with pytest.raises(TaskError, match=r"training\.batch_size \d+ .* too small"):
            BatchShare(TrainingBatches(order, size, drop_last=False), world, smallest)
        return
    for sampler in (TrainingBatches, BatchSampler):
        found = shares(order, size, world, smallest, sampler)
        assert len({len(batches) for batches in found}) == 1
        keys = [key for batches in found for batch in batches for key in batch]
        assert sorted(position for _, position in keys) == list(range(items))
        assert {number for number, _ in keys} == {epoch}
        for together in zip(*found, strict=True):
            sizes = [len(batch) for batch in together]
            assert min(sizes) >= smallest
            assert max(sizes) - min(sizes) <= 1
        alone = [set(batch) for batch in BatchSampler(list(order), size, drop_last=False)]
        first = [set().union(*map(set, together)) for together in zip(*found, strict=True)]
        assert first[:-1] == alone[: len(first) - 1]


def test_the_trainer_can_tell_it_the_epoch():
    order = EpochOrder(8, shuffle=True, seed=0)
    share = BatchShare(BatchSampler(order, 4, drop_last=False), 2)
    assert share.sampler is order


@pytest.fixture
def shared_recipe(tones):
    """A network without batch norm or chance, whose steps are the same however the batch is divided."""
    return {
        "name": "shared",
        "corpus": {"name": "folder", "root": str(tones), "speaker": r"([a-d])_\d"},
        "features": {"name": "fbank", "num_mel_bins": 16, "frames": 32},
        "model": {"name": "ast", "hidden_size": 16, "num_layers": 1, "num_heads": 2},
        "augment": {"mixup_probability": 0.5, "mixup_domain": "power", "time_shift": 0.5, "gain": 1.0},
        "task": {"name": "clip_classification", "learning_rate": 0.01, "warmup": 0.2},
        "training": {"epochs": 3, "batch_size": 8, "patience": 0, "threads": 1, "device": "cpu"},
        "protocol": {"name": "speaker-independent", "groups": 4},
        "seeds": [0],
    }


def run_of(recipe, output, devices, **training):
    recipe = {**recipe, "training": {**recipe["training"], "devices": devices, **training}}
    run = runs.train(recipe, output=output / str(devices), folds=[0], progress=False)
    folder = next((run.folder / "folds").iterdir())
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return run, pd.read_csv(folder / "curves.csv"), checkpoint["state_dict"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_processes_take_the_steps_of_one(shared_recipe, tmp_path):
    one, curves, weights = run_of(shared_recipe, tmp_path, 1)
    two, shared_curves, shared_weights = run_of(shared_recipe, tmp_path, 2)
    for name, value in weights.items():
        torch.testing.assert_close(shared_weights[name], value, atol=2e-4, rtol=2e-3)
    columns = ["train_loss", "train_ua", "validation_loss", "validation_ua", "validation_wa", "learning_rate"]
    np.testing.assert_allclose(shared_curves[columns], curves[columns], atol=2e-3)
    told = [pd.read_csv(run.folder / "predictions.csv") for run in (one, two)]
    assert told[1]["id"].is_unique
    assert told[0]["id"].tolist() == told[1]["id"].tolist()
    np.testing.assert_allclose(told[0]["p_low"], told[1]["p_low"], atol=2e-3)
    _, _, half = run_of(shared_recipe, tmp_path / "half", 1, batch_size=4)  # what no sharing would look like
    assert any((half[name] - value).abs().max() > 0.01 for name, value in weights.items())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_training_in_two_processes_goes_on_exactly(shared_recipe, tmp_path):
    small = {"channels": [8, 16], "blocks": [1, 1], "reduction": [2, 1], "k": 3, "P": 4, "K": 2}
    shared_recipe["model"] = {"name": "lhgnn", **small}
    shared_recipe["task"] |= {"schedule": "constant", "warmup": 0.0}  # a rate that knows nothing of the end
    settings = {"devices": 2, "averaging": "epochs", "average_last": 2, "selection": "last", "refresh_batch_norm": True}

    def job_of(name, epochs):
        recipe = load_recipe({**shared_recipe, "training": {**shared_recipe["training"], **settings, "epochs": epochs}})
        prepared = runs.prepare(recipe, progress=False)
        split = jobs.make_protocol(recipe).splits(prepared.corpus)[0]
        return jobs.Job(split, 0, tmp_path / name), recipe, prepared

    whole, cut = job_of("whole", 3), job_of("cut", 2)
    jobs.train_job(*whole)
    jobs.train_job(*cut)
    resumed = job_of("resumed", 3)
    resumed[0].last.parent.mkdir(parents=True)
    shutil.copy(cut[0].last, resumed[0].last)
    jobs.train_job(*resumed)
    one, other = (torch.load(job[0].last, weights_only=True) for job in (whole, resumed))
    for name, value in one["state_dict"].items():
        assert torch.equal(value, other["state_dict"][name]), name
    assert len(pd.read_csv(resumed[0].folder / "curves.csv")) == 3
    one, other = (load_file(job[0].folder / "model" / "model.safetensors") for job in (whole, resumed))
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_goes_wrong_in_a_process_is_said_in_a_line(shared_recipe, tmp_path):
    shared_recipe["task"] |= {"learning_rate": 1e30, "schedule": "constant", "warmup": 0.0}
    with pytest.raises(runs.RunError, match=r"^the training loss became nan .*task\.learning_rate") as caught:
        run_of(shared_recipe, tmp_path, 2)
    assert "\n" not in str(caught.value)


def test_what_is_not_there_is_refused(shared_recipe, tmp_path, monkeypatch):
    shared_recipe["training"]["devices"] = 2
    with pytest.raises(runs.RunError, match=r"workers and several training\.devices exclude"):
        runs.train(shared_recipe, output=tmp_path, workers=2, progress=False)
    shared_recipe["training"]["sync_batchnorm"] = True
    with pytest.raises(runs.RunError, match=r"sync_batchnorm works on CUDA"):
        runs.train(shared_recipe, output=tmp_path, progress=False)
    shared_recipe["training"]["device"] = "cuda"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(runs.RunError, match=r"training\.devices is 2, but PyTorch finds 1"):
        runs.train(shared_recipe, output=tmp_path, progress=False)
    assert not list(tmp_path.iterdir())
