"""Losses of dialogues, their schedule, and modalities that are taken away in training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from graphophone.models.dialogue import DialogueClassifier, DialogueOutput
from graphophone.nn.dialogue import DialogueBatch
from graphophone.tasks.dialogues import DialogueClassification, drop_modalities, link_factor
from graphophone.tasks.optimization import TaskError


class Plain(DialogueClassifier):
    """Scores from the text of a turn alone, with both auxiliary losses."""

    loss_names = ("penalty", "link")

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(2, 3)

    def forward(self, batch: DialogueBatch) -> DialogueOutput:
        return DialogueOutput(
            self.classifier(batch.x["text"]), {"penalty": torch.tensor(2.0), "link": torch.tensor(-3.0)}
        )


def batch_of(y: Tensor) -> DialogueBatch:
    torch.manual_seed(0)
    b, t = y.shape
    x = {"text": torch.randn(b, t, 2), "audio": torch.randn(b, t, 1), "video": torch.randn(b, t, 1)}
    mask = torch.ones(b, t, dtype=torch.bool)
    return DialogueBatch(x, mask[:, None].expand(b, 3, t), mask, torch.zeros_like(y), y, torch.arange(b * t).view(b, t))


def made(**options: Any) -> DialogueClassification:
    torch.manual_seed(1)
    task = DialogueClassification(Plain(), 3, **options)
    task.log = lambda *args, **kwargs: None  # type: ignore[assignment,method-assign]
    return task


Y = torch.tensor([[0, 2, -1], [1, -1, -1]])


def test_loss_is_classification_plus_penalty_minus_link() -> None:
    task = made(penalty_weight=0.5, link_weight=0.25, link_epochs=4)
    batch = batch_of(Y)
    known = Y >= 0
    plain = F.cross_entropy(task(batch)[known], Y[known])
    task.__dict__["_current_epoch"] = 0
    torch.testing.assert_close(task.training_step(batch, 0), plain + 0.5 * 2.0 + 0.25 * 3.0)


def test_turns_without_label_teach_nothing() -> None:
    task, batch = made(), batch_of(Y)
    task.training_step(batch, 0).backward()
    before = task.model.classifier.weight.grad.clone()  # type: ignore[union-attr,operator]
    batch.x["text"][Y < 0] += 10
    task.zero_grad()
    task.training_step(batch, 0).backward()
    torch.testing.assert_close(task.model.classifier.weight.grad, before)


def test_weighted_loss_is_divided_by_the_weights() -> None:
    task = made(class_weights=[1.0, 2.0, 4.0])
    logits, y = torch.randn(6, 3), torch.tensor([0, 0, 1, 2, 2, 1])
    each = -logits.log_softmax(1)[range(6), y]
    weights = torch.tensor([1.0, 2.0, 4.0])[y]
    torch.testing.assert_close(task.classification_loss(logits, y), (weights * each).sum() / weights.sum())


def test_focal_loss_by_hand_with_published_weights() -> None:
    counts = torch.tensor([3.0, 2.0, 1.0])
    ours = (counts.sum() / (3 * counts)).tolist()  # as a training gives them; published is N / count
    task = made(loss="focal", focal_gamma=0.5, class_weights=ours)
    logits, y = torch.randn(6, 3), torch.tensor([0, 0, 0, 1, 1, 2])
    p = logits.softmax(1)[range(6), y]
    wanted = ((counts.sum() / counts)[y] * (1 - p) ** 0.5 * -p.log()).mean()
    torch.testing.assert_close(task.classification_loss(logits, y), wanted)


def test_focal_loss_without_exponent_is_the_mean_and_its_factor_has_no_gradient() -> None:
    logits, y = torch.randn(6, 3, requires_grad=True), torch.tensor([0, 1, 2, 0, 1, 2])
    flat = made(loss="focal", focal_gamma=0.0)
    torch.testing.assert_close(flat.classification_loss(logits, y), F.cross_entropy(logits, y))
    (found,) = torch.autograd.grad(made(loss="focal", focal_gamma=2.0).classification_loss(logits, y), logits)
    factor = (1 - logits.softmax(1)[range(6), y]).detach() ** 2
    (wanted,) = torch.autograd.grad((factor * F.cross_entropy(logits, y, reduction="none")).mean(), logits)
    torch.testing.assert_close(found, wanted)


def test_link_factor_falls_along_a_line() -> None:
    assert link_factor(0, 10) == 1
    assert link_factor(5, 10) == 0.5
    assert link_factor(10, 10) == link_factor(99, 10) == link_factor(0, 0) == 0


@given(st.integers(0, 2**31))
def test_dropped_dialogues_keep_a_modality_and_the_rest_stay_whole(seed: int) -> None:
    torch.manual_seed(seed)
    batch = batch_of(torch.zeros(8, 2, dtype=torch.int64))
    dropped = drop_modalities(batch, 0.5)
    assert bool(dropped.present.any(dim=1).all())
    for m, name in enumerate(batch.x):
        torch.testing.assert_close(dropped.x[name], batch.x[name] * dropped.present[:, m, :, None])
    assert drop_modalities(batch, 0.0) is batch
    kept = drop_modalities(batch, 1.0).present[:, :, 0].sum(dim=1)
    assert bool(((kept == 1) | (kept == 2)).all())


def test_dropped_numbers_are_made_up_for_by_the_rest() -> None:
    batch = batch_of(torch.zeros(200, 2, dtype=torch.int64))
    seen = made(feature_dropout=0.25).changed(batch).x["text"]
    kept = seen != 0
    assert 0.7 < float(kept.float().mean()) < 0.8
    torch.testing.assert_close(seen[kept], batch.x["text"][kept] / 0.75)
    assert made().changed(batch) is batch


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"focal_gamma": -1.0}, "focal_gamma"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"loss": "focal", "label_smoothing": 0.1}, "label_smoothing is for cross_entropy"),
        ({"link_epochs": -1}, "link_epochs"),
        ({"modality_dropout": 1.5}, "modality_dropout"),
        ({"feature_dropout": 1.0}, "feature_dropout"),
    ],
)
def test_settings_that_make_no_sense_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(TaskError, match=words):
        made(**options)
