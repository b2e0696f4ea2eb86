import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning import Trainer
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from torch import nn
from torch_geometric.data import Batch
from torch_geometric.nn import global_mean_pool

from graphophone.tasks import TASKS
from graphophone.tasks.base import TrainingDivergedError, unweighted_accuracy, weighted_accuracy
from graphophone.tasks.classification import GraphClassification
from graphophone.tasks.data import PlainFrames, UtteranceGraphs, graph_loader
from graphophone.tasks.optimization import TaskError


class MeanModel(nn.Module):
    def __init__(self, dims: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dims, classes)

    def forward(self, x, edge_index, batch=None, batch_size=None):
        return self.linear(global_mean_pool(x, batch, batch_size))


def no_edges(batch: Batch) -> Batch:
    batch.edge_index = torch.empty(2, 0, dtype=torch.long)
    return batch


def loader(rows=range(40), training=False):
    rng = np.random.default_rng(0)
    targets = np.arange(40) % 3
    arrays = [(rng.normal(size=(5, 4)) + target).astype(np.float32) for target in targets]
    data = UtteranceGraphs(PlainFrames(arrays, lambda x: x), targets, np.array(list(rows)))
    return graph_loader(data, no_edges, batch_size=8, shuffle=training)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_accuracies_equal_scikit_learn(pairs):
    truth, predicted = zip(*pairs, strict=True)
    confusion = torch.zeros(4, 4)
    for t, p in pairs:
        confusion[t, p] += 1
    present = [p if p in truth else min(truth) for p in predicted]
    assert weighted_accuracy(confusion).item() == pytest.approx(accuracy_score(truth, predicted))
    if present == list(predicted):
        assert unweighted_accuracy(confusion).item() == pytest.approx(balanced_accuracy_score(truth, predicted))


def test_majority_predictor_on_the_published_label_set():
    confusion = torch.zeros(4, 4)
    confusion[:, 2] = torch.tensor([1103.0, 595.0, 1708.0, 1084.0])
    assert unweighted_accuracy(confusion).item() == pytest.approx(0.25)
    assert weighted_accuracy(confusion).item() == pytest.approx(0.3804, abs=5e-5)


def test_loss_is_the_weighted_smoothed_cross_entropy():
    task = GraphClassification(MeanModel(4, 3), 3, class_weights=[1.0, 2.0, 3.0])
    logits = torch.zeros(2, 3)
    assert task.loss(logits, torch.tensor([0, 2])).item() == pytest.approx(math.log(3))
    sure = torch.tensor([[30.0, 0.0, 0.0]])
    smoothed = GraphClassification(MeanModel(4, 3), 3, label_smoothing=0.3)
    assert smoothed.loss(sure, torch.tensor([0])).item() == pytest.approx(0.2 * 30, rel=1e-3)


def test_it_learns_and_logs():
    torch.manual_seed(0)
    task = GraphClassification(
        MeanModel(4, 3), 3, optimizer="adamw", learning_rate=0.1, schedule="onecycle", warmup=0.3
    )
    trainer = Trainer(
        max_epochs=12,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    trainer.fit(task, loader(training=True), loader())
    assert trainer.callback_metrics["validation_ua"] > 0.85
    logged = {"train_loss", "train_ua", "validation_loss", "validation_ua", "validation_wa", "learning_rate"}
    assert logged <= set(trainer.callback_metrics)
    outputs = trainer.predict(task, loader(range(10)))
    assert torch.cat([o["row"] for o in outputs]).tolist() == list(range(10))
    torch.testing.assert_close(torch.cat([o["probabilities"] for o in outputs]).sum(-1), torch.ones(10))


def test_weight_decay_spares_vectors_with_adamw():
    task = GraphClassification(MeanModel(4, 3), 3, optimizer="adamw", weight_decay=0.5)
    decayed, spared = task.configure_optimizers().param_groups
    assert decayed["weight_decay"] == 0.5
    assert spared["weight_decay"] == 0
    assert [p.ndim for p in decayed["params"]] == [2]
    assert [p.ndim for p in spared["params"]] == [1]


def test_a_diverged_loss_stops_with_the_remedy():
    task = GraphClassification(MeanModel(4, 3), 3)
    nn.init.constant_(task.model.linear.weight, float("nan"))
    trainer = Trainer(
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        num_sanity_val_steps=0,
    )
    with pytest.raises(TrainingDivergedError, match=r"task\.learning_rate"):
        trainer.fit(task, loader(training=True), loader())


def test_registry():
    assert TASKS.names() == [
        "clip_classification",
        "clip_tagging",
        "dialogue_classification",
        "graph_classification",
        "subgraph_classification",
        "transductive_classification",
        "utterance_graph",
    ]
    assert TASKS.get("graph_classification") is GraphClassification


def test_label_smoothing_out_of_range_is_named():
    with pytest.raises(TaskError, match="label_smoothing"):
        GraphClassification(MeanModel(4, 3), 3, label_smoothing=3.0)
