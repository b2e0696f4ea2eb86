"""Tasks on spectrograms: clip_classification and clip_tagging."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from lightning import LightningModule, Trainer
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import nn
from torch.utils.data import DataLoader

from graphophone.tasks import TASKS
from graphophone.tasks.base import TrainingDivergedError
from graphophone.tasks.clip_classification import ClipClassification
from graphophone.tasks.clip_tagging import ClipTagging
from graphophone.tasks.optimization import TaskError


class MeanModel(nn.Module):
    """Class scores from the mean spectrum."""

    def __init__(self, mels: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(mels, classes)

    def centroid_spread(self) -> list[float]:
        return [0.25, 0.5]

    def forward(self, x):
        return self.linear(x.mean(dim=1))


def clips(targets, seed=0):
    """Noise with a band of its own for every class."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(len(targets), 6, targets.shape[1])).astype(np.float32) + 2 * targets[:, None]
    return [
        {"x": torch.from_numpy(a), "y": torch.from_numpy(b), "row": n}
        for n, (a, b) in enumerate(zip(x.astype(np.float32), targets.astype(np.float32), strict=True))
    ]


def one_hot(count=40, classes=3):
    return np.eye(classes, dtype=np.float32)[np.arange(count) % classes]


def tags(count=40, classes=4):
    found = (np.random.default_rng(3).random((count, classes)) < 0.4).astype(np.float32)
    found[:, 3] = 0  # a tag that no clip has
    return found


def trained(task, targets, epochs=12):
    trainer = Trainer(
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        num_sanity_val_steps=0,
    )
    trainer.fit(task, DataLoader(clips(targets), 8), DataLoader(clips(targets, seed=1), 8))
    return trainer


def test_classification_learns_and_logs():
    torch.manual_seed(0)
    task = ClipClassification(MeanModel(3, 3), 3, learning_rate=0.1, warmup=0.3)
    trainer = trained(task, one_hot())
    assert trainer.callback_metrics["validation_ua"] > 0.9
    assert {*task.curves, "centroid_spread_1", "centroid_spread_2"} <= set(trainer.callback_metrics)
    assert trainer.callback_metrics["centroid_spread_2"] == 0.5
    outputs = trainer.predict(task, DataLoader(clips(one_hot()), 8))
    assert torch.cat([o["row"] for o in outputs]).tolist() == list(range(40))
    torch.testing.assert_close(torch.cat([o["probabilities"] for o in outputs]).sum(-1), torch.ones(40))


def test_tagging_learns_and_logs_what_scikit_learn_says():
    torch.manual_seed(0)
    task = ClipTagging(MeanModel(4, 4), 4, learning_rate=0.1, warmup=0.3)
    trainer = trained(task, tags())
    logged = trainer.callback_metrics
    assert set(task.curves) <= set(logged)
    outputs = trainer.predict(task, DataLoader(clips(tags(), seed=1), 8))
    scores = torch.cat([o["probabilities"] for o in outputs]).numpy()
    known = tags()[:, :3]
    assert logged["validation_map"].item() == pytest.approx(average_precision_score(known, scores[:, :3]), abs=1e-5)
    assert logged["validation_mauc"].item() == pytest.approx(roc_auc_score(known, scores[:, :3]), abs=1e-5)
    assert logged["validation_map"] > 0.9


@given(st.integers(2, 5), st.integers(1, 6), st.integers(0, 3))
def test_cross_entropy_of_mixed_targets_is_the_mixture_of_cross_entropies(classes, clips, seed):
    torch.manual_seed(seed)
    task = ClipClassification(MeanModel(4, classes), classes)
    logits = torch.randn(clips, classes)
    one, other = torch.randint(classes, (2, clips))
    share = torch.rand(clips, 1)
    mixed = share * F.one_hot(one, classes) + (1 - share) * F.one_hot(other, classes)
    expected = share[:, 0] * F.cross_entropy(logits, one, reduction="none")
    expected += (1 - share[:, 0]) * F.cross_entropy(logits, other, reduction="none")
    torch.testing.assert_close(task.loss(logits, mixed), expected.mean())


def test_losses_in_closed_form():
    task = ClipClassification(MeanModel(4, 2), 2, label_smoothing=0.2)
    sure = torch.tensor([[20.0, 0.0]])
    assert task.loss(sure, torch.tensor([[1.0, 0.0]])).item() == pytest.approx(0.1 * 20, rel=1e-5)
    weighted = ClipClassification(MeanModel(4, 2), 2, class_weights=[1.0, 3.0])
    assert weighted.loss(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]])).item() == pytest.approx(3 * math.log(2))
    tagging = ClipTagging(MeanModel(4, 3), 3)
    target = torch.tensor([[1.0, 0.0, 1.0]])
    assert tagging.loss(torch.zeros(1, 3), target).item() == pytest.approx(math.log(2))
    logits = torch.tensor([[2.0, -1.0, 0.5]])
    expected = [math.log1p(math.exp(-2)), math.log1p(math.exp(-1)), math.log1p(math.exp(-0.5))]
    assert tagging.loss(logits, target).item() == pytest.approx(sum(expected) / 3)


@pytest.mark.parametrize(("kind", "targets"), [(ClipClassification, one_hot(classes=4)), (ClipTagging, tags())])
def test_a_diverged_loss_stops_with_the_remedy(kind, targets):
    task = kind(MeanModel(4, 4), 4)
    nn.init.constant_(task.model.linear.weight, float("nan"))
    with pytest.raises(TrainingDivergedError, match=r"task\.learning_rate.*training\.gradient_clip"):
        trained(task, targets, epochs=1)


def test_tags_have_no_class_weights():
    with pytest.raises(TaskError, match=r"training\.balanced"):
        ClipTagging(MeanModel(4, 3), 3, class_weights=[1.0, 2.0, 3.0])


def test_what_the_registry_says_of_the_tasks():
    said = {name: (TASKS.get(name).kind, TASKS.get(name).reads, TASKS.get(name).monitor) for name in TASKS.names()}
    assert said == {
        "graph_classification": ("classification", "graph", "validation_ua"),
        "clip_classification": ("classification", "spectrogram", "validation_ua"),
        "clip_tagging": ("tagging", "spectrogram", "validation_map"),
        "subgraph_classification": ("classification", "nodes", "validation_ua"),
        "transductive_classification": ("classification", "nodes", "validation_wa"),
        "utterance_graph": ("classification", "nodes", "validation_choice"),
        "dialogue_classification": ("classification", "dialogue", "validation_choice"),
    }
    for name in TASKS.names():
        if TASKS.get(name).reads not in ("nodes", "dialogue"):  # their curves follow from the losses of the model
            assert TASKS.get(name).monitor in TASKS.get(name).curves
        assert issubclass(TASKS.get(name), LightningModule)
