"""Learning from few labels in sampled subgraphs."""

import logging

import pytest
import torch
from lightning import Trainer
from torch import Tensor

from graphophone.evaluation.embeddings import silhouette
from graphophone.graphs.subgraphs import SubgraphSampler
from graphophone.models.attached import draw_references, predict_attached, pseudo_label
from graphophone.models.subgraph_ssl import SubgraphSSL
from graphophone.tasks.optimization import TaskError
from graphophone.tasks.subgraphs import SubgraphClassification

ALL = ("denoise", "completion", "shuffle")
IDS = [f"new{number}" for number in range(80)]


def blobs(items: int, seed: int) -> tuple[Tensor, Tensor]:
    """Four Gaussian groups in 16 dimensions."""
    y = torch.arange(items) % 4
    centres = 2.5 * torch.eye(4).repeat_interleave(4, dim=1)
    return torch.randn(items, 16, generator=torch.Generator().manual_seed(seed)) + centres[y], y


def task_of(seed: int = 0, validation: bool = True, **options: object) -> SubgraphClassification:
    """A tenth of 240 nodes is labelled."""
    x, y = blobs(240, 0)
    labels = torch.where(torch.arange(240) < 24, y, -1)
    torch.manual_seed(seed)
    model = SubgraphSSL(in_channels=16, num_classes=4, hidden_channels=32, tasks=ALL, per_dim=True)
    sampler = SubgraphSampler(x, labels, per_class=5, unlabelled=9, seed=seed)
    held = (*blobs(80, 1), IDS) if validation else None
    return SubgraphClassification(model, sampler, held, seed=seed, **options)  # type: ignore[arg-type]


def trainer(epochs: int) -> Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    return Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


@pytest.mark.filterwarnings("ignore")
def test_learns_from_a_tenth_of_the_labels() -> None:
    task = task_of(draws=2)
    fit = trainer(5)
    fit.fit(task)
    names = {f"train_{name}" for name in ("loss", "cross_entropy", "entropy", *ALL)}
    assert names | {"validation_loss", "validation_ua", "validation_wa"} <= set(fit.callback_metrics)
    pool = task.sampler
    truth = blobs(240, 0)[1]
    found = pseudo_label(task.model, pool)
    assert (found.labels == truth)[24:].double().mean() >= 0.95
    x, y = blobs(80, 1)
    references = draw_references(pool, found.labels, draws=10)
    near = predict_attached(task.model, references, x, IDS, how="nearest", states=task.model.embed)
    assert (near.probabilities.argmax(dim=1) == y).double().mean() >= 0.95
    assert near.states is not None
    assert silhouette(near.states, y) > 0.2
    # Random edges bring what random classes say: far better than chance, and better with more draws.
    lots = predict_attached(task.model, draw_references(pool, found.labels, draws=40), x, IDS, edges=1)
    assert (lots.probabilities.argmax(dim=1) == y).double().mean() >= 0.75


@pytest.mark.filterwarnings("ignore")
def test_the_same_for_a_seed() -> None:
    def weights() -> Tensor:
        task = task_of(validation=False)
        trainer(1).fit(task)
        return torch.cat([p.detach().view(-1) for p in task.model.parameters()])

    assert torch.equal(weights(), weights())


@pytest.mark.filterwarnings("ignore")
def test_epochs_draw_other_subgraphs() -> None:
    task = task_of(validation=False)
    drawn: list[list[int]] = []
    step = task.training_step

    def noted(batch: object, batch_idx: int) -> Tensor:
        if batch_idx == 0:
            drawn.append(batch.node.tolist())  # type: ignore[attr-defined]
        return step(batch, batch_idx)  # type: ignore[arg-type]

    task.training_step = noted  # type: ignore[method-assign]
    trainer(2).fit(task)
    expected = [next(task.sampler.epoch(epoch)).node.tolist() for epoch in (0, 1)]
    assert drawn == expected


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(TaskError, match="edges"):
        task_of(edges=0)
    task = task_of()
    with pytest.raises(TaskError, match="5 classes"):
        SubgraphClassification(SubgraphSSL(in_channels=16, num_classes=5), task.sampler)
