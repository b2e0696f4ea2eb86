"""Full-batch training of HemoGAT: it learns, the modes are right, routes keep their best, answers are independent."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning import Callback, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from graphophone.graphs import create_graph
from graphophone.models import create_model
from graphophone.tasks import TASKS
from graphophone.tasks.base import weighted_f1
from graphophone.tasks.nodes import Nodes
from graphophone.tasks.optimization import TaskError
from graphophone.tasks.utterance_graph import UtteranceGraph

WIDTHS = {"text": 6, "audio": 5}
SMALL = {"hidden_channels": 16, "heads": 2, "cmt_axis": "pooled"}


def utterances(count: int, seed: int, *, apart: float = 2.0) -> tuple[Tensor, Tensor]:
    """Three classes around three centres in both modalities."""
    centres = torch.randn(3, 11, generator=torch.Generator().manual_seed(7)) * apart
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (count,), generator=generator)
    return centres[y] + torch.randn(count, 11, generator=generator), y


def nodes_of(x: Tensor, y: Tensor, train: int, validation: int, *, unlabelled: int = 0) -> Nodes:
    rows = torch.arange(len(x))
    known = y.clone()
    known[train + validation :] = -1
    return Nodes(
        x=x,
        y=known,
        train=rows[: train - unlabelled],
        unlabelled=rows[train - unlabelled : train],
        validation=rows[train : train + validation],
        ids=[str(row) for row in rows.tolist()],
        graph=create_graph("modal_knn", k_text=2, k_audio=3),
    )


def task_of(model: dict[str, Any] | None = None, **options: Any) -> UtteranceGraph:
    torch.manual_seed(0)
    network = create_model("hemogat", in_channels=WIDTHS, num_classes=3, **{**SMALL, **(model or {})})
    task = TASKS.create("utterance_graph", model=network, num_classes=3, **{"learning_rate": 0.01, **options})
    assert isinstance(task, UtteranceGraph)
    return task


def questions(x: Tensor, y: Tensor, begin: int, end: int, *, at_once: bool = True) -> DataLoader[Any]:
    rows = torch.arange(begin, end)
    parts = [rows] if at_once else list(rows.split(7))
    return DataLoader([{"x": x[p], "y": y[p], "row": p, "ids": [""] * len(p)} for p in parts], batch_size=None)  # type: ignore[arg-type]


def trainer(epochs: int, *callbacks: Callback, folder: Path | None = None) -> Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    return Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        default_root_dir=folder,
    )


def answers(task: UtteranceGraph, loader: DataLoader[Any]) -> dict[str, Tensor]:
    outputs: Any = trainer(1).predict(task, loader)
    return {name: torch.cat([output[name] for output in outputs]) for name in outputs[0]}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("scope", ["bank", "split", "transductive"])
@pytest.mark.parametrize("graph", ["same", "typed"])
def test_learns(scope: str, graph: str) -> None:
    x, y = utterances(240, 0)
    task = task_of({"graph": graph}, eval_scope=scope)
    task.use(nodes_of(x, y, 160, 30, unlabelled=40))
    fit = trainer(30)
    fit.fit(task, task.train_dataloader(), questions(x, y, 160, 190))
    assert {"validation_weighted_f1", "validation_ua", "validation_loss", "train_loss_both"} <= set(
        fit.callback_metrics
    )
    found = answers(task, questions(x, y, 190, 240))
    assert (found["probabilities"].argmax(dim=1) == y[190:]).double().mean() > 0.9
    assert found["states"].shape == (50, 48 if graph == "same" else 64)


@pytest.mark.filterwarnings("ignore")
def test_overfits_64_utterances_of_random_labels() -> None:
    x, _ = utterances(64, 0)
    y = torch.randint(0, 3, (64,), generator=torch.Generator().manual_seed(1))
    task = task_of({"dropout": 0.0}, schedule="constant", weight_decay=0.0)
    task.use(nodes_of(x, y, 64, 0))
    trainer(200).fit(task, task.train_dataloader())
    task.eval()
    assert (task.forward().argmax(dim=1) == y).double().mean() > 0.98


@pytest.mark.filterwarnings("ignore")
def test_answers_do_not_hang_on_each_other() -> None:
    x, y = utterances(120, 0)
    task = task_of()
    task.use(nodes_of(x, y, 80, 10))
    trainer(2).fit(task, task.train_dataloader())
    together = answers(task, questions(x, y, 90, 120))["probabilities"]
    apart = answers(task, questions(x, y, 90, 120, at_once=False))["probabilities"]
    torch.testing.assert_close(together, apart, atol=1e-6, rtol=0)
    split = task_of(eval_scope="split")
    split.use(nodes_of(x, y, 80, 10))
    trainer(2).fit(split, split.train_dataloader())
    assert split.companions() is None
    together = answers(split, questions(x, y, 90, 120))["probabilities"]
    apart = answers(split, questions(x, y, 90, 120, at_once=False))["probabilities"]
    assert not torch.allclose(together, apart, atol=1e-4)


@pytest.mark.parametrize("graph", ["same", "typed"])
def test_the_graph_goes_where_the_network_is(graph: str) -> None:
    x, y = utterances(60, 0)
    task = task_of({"graph": graph, "alone": True})
    task.use(nodes_of(x, y, 60, 0))
    task.to("meta")
    for name in ("both", "text", "audio"):
        moved = task._on_device(name)
        plan = moved.plan
        assert moved.x.device.type == moved.y.device.type == "meta"
        for part in plan.values() if isinstance(plan, dict) else [plan]:
            assert part.edge_index.device.type == "meta"


class Modes(Callback):
    """Whether the network is in training mode at every step, and its running means after every epoch."""

    def __init__(self) -> None:
        self.training: list[bool] = []
        self.means: list[Tensor] = []

    def on_before_optimizer_step(self, trainer: Trainer, task: Any, optimizer: Any) -> None:
        self.training.append(task.model.training)

    def on_train_epoch_end(self, trainer: Trainer, task: Any) -> None:
        self.means.append(task.model.projections["text"][1].running_mean.clone())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("legacy", [False, True])
def test_modes(legacy: bool) -> None:
    x, y = utterances(90, 0)
    task = task_of(legacy_eval_training=legacy)
    task.use(nodes_of(x, y, 60, 30))
    modes = Modes()
    trainer(4, modes).fit(task, task.train_dataloader(), questions(x, y, 60, 90))
    assert modes.training == ([True, False, False, False] if legacy else [True] * 4)
    assert not torch.equal(modes.means[0], torch.zeros(16))
    assert torch.equal(modes.means[0], modes.means[3]) == legacy


@pytest.mark.filterwarnings("ignore")
def test_the_rate_falls_where_the_loss_does_not() -> None:
    x, y = utterances(90, 0)
    task = task_of(plateau_patience=0, factor=0.5, learning_rate=1.0)
    task.use(nodes_of(x, y, 60, 30))
    fit = trainer(12)
    fit.fit(task, task.train_dataloader(), questions(x, y, 60, 90))
    assert fit.optimizers[0].param_groups[0]["lr"] < 1.0


@pytest.mark.filterwarnings("ignore")
def test_networks_of_one_modality_keep_their_best() -> None:
    x, y = utterances(150, 0)
    x[:20, :6] = torch.nan
    task = task_of({"alone": True})
    task.use(nodes_of(x, y, 100, 50))
    assert len(task._graphs["audio"].x) == 100
    assert len(task._graphs["text"].x) == len(task._graphs["both"].x) == 80
    trainer(15).fit(task, task.train_dataloader(), questions(x, y, 100, 150))
    kept: dict[str, Any] = {}
    task.on_save_checkpoint(kept)
    assert set(kept["alone"]) == {"audio", "text"}
    # The kept weights give the kept score; others need not.
    for name in ("audio", "text"):
        for parameter in task.model.alone[name].parameters():
            torch.nn.init.zeros_(parameter)
    task.adopt(kept, best=True)
    for name in ("audio", "text"):
        rows = torch.arange(100, 150)
        logits, _ = task.bank.answer_by(name, x[rows], task.bank.edges(name, x[rows]))
        confusion = torch.zeros(3, 3)
        confusion.index_put_((y[rows], logits.argmax(dim=1)), torch.ones(50), accumulate=True)
        assert float(weighted_f1(confusion)) == pytest.approx(kept["alone"][name]["score"], abs=1e-6)
    found = answers(task, questions(x, y, 0, 20))
    assert bool(found["probabilities"].isfinite().all())


def test_losses() -> None:
    logits = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.arange(20) % 3
    plain = task_of().loss_of(logits, y)
    torch.testing.assert_close(plain, F.cross_entropy(logits, y))
    # Towards q = 0 the generalised cross-entropy is cross-entropy; at q = 1 the mean absolute error, halved.
    torch.testing.assert_close(task_of(loss="gce", q=1e-6).loss_of(logits, y), plain, atol=1e-4, rtol=1e-4)
    p = logits.softmax(dim=1)
    absolute = (p - F.one_hot(y, 3)).abs().sum(dim=1).mean() / 2
    torch.testing.assert_close(task_of(loss="gce", q=1.0).loss_of(logits, y), absolute)
    weights = [1.0, 2.0, 5.0]
    torch.testing.assert_close(
        task_of(class_weights=weights).loss_of(logits.float(), y),
        F.cross_entropy(logits.float(), y, weight=torch.tensor(weights)),
    )


@pytest.mark.parametrize(
    ("model", "options", "says"),
    [
        ({}, {"steps": 0}, "task.steps"),
        ({}, {"q": 0.0}, "task.q"),
        ({}, {"loss": "gce", "label_smoothing": 0.1}, "label_smoothing"),
        ({}, {"factor": 1.0}, "task.factor"),
        ({}, {"warmup": 0.1}, "task.warmup"),
        ({"cmt_axis": "batch"}, {}, "eval_scope to split"),
        ({"alone": True}, {"eval_scope": "split"}, "answer from the bank alone"),
    ],
)
@pytest.mark.filterwarnings("ignore:cmt_axis")
def test_refusals(model: dict[str, Any], options: dict[str, Any], says: str) -> None:
    with pytest.raises(TaskError, match=says):
        task_of(model, **options)


def test_refusals_of_items() -> None:
    x, y = utterances(30, 0)
    nodes = nodes_of(x, y, 30, 0)
    x[:, :6] = torch.nan
    with pytest.raises(TaskError, match="no training item with a label has text and audio"):
        task_of().use(nodes)
    with pytest.raises(TaskError, match="modal_knn"):
        task_of().use(Nodes(**{**nodes.__dict__, "graph": create_graph("signed")}))
    backwards = create_graph("modal_knn", direction="reference")
    with pytest.raises(TaskError, match="hears only itself"):
        task_of().use(Nodes(**{**nodes.__dict__, "graph": backwards}))
    with pytest.raises(TaskError, match="call use first"):
        _ = task_of().bank


def test_weighted_f1_as_scikit_learn() -> None:
    from sklearn.metrics import confusion_matrix, f1_score

    generator = torch.Generator().manual_seed(0)
    y, p = (torch.randint(0, 4, (200,), generator=generator) for _ in range(2))
    found = weighted_f1(torch.from_numpy(confusion_matrix(y, p)))
    assert float(found) == pytest.approx(f1_score(y, p, average="weighted"), abs=1e-6)
