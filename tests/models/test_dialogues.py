"""Every registered model of dialogues: padding, order, gaps, what comes later, gradients, saving and loading."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from graphophone.models import MODELS, ModelError, create_model, list_models, load_model
from graphophone.models.dialogue import DialogueClassifier
from graphophone.nn.dialogue import DialogueBatch

MakeDialogues = Callable[..., DialogueBatch]
CutDialogue = Callable[..., DialogueBatch]

NAMES = [name for name in list_models() if MODELS.get(name).reads == "dialogue"]  # type: ignore[attr-defined]
WIDTHS = {"text": 5, "audio": 4, "video": 3}
CLASSES = 3
SMALL: dict[str, dict[str, Any]] = {
    "dialogue_gru": {"hidden_channels": 8},
    "dialogue_transformer": {"hidden_channels": 8, "heads": 2},
    "m3net": {"hidden_channels": 8},
    "mmgcn": {"hidden_channels": 8, "graph_channels": 8, "num_layers": 3},
    "rigsl": {"hidden_channels": 8, "heads": 2, "num_layers": 2, "gumbel_k": 3},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "published": {"preset": "published", "features": 6},
    "gat": {"backbone": "gat", "degree": "soft"},
    "gcn": {"backbone": "gcn", "degree": "soft", "encoder": "lstm"},
    "mmgcn": {"backbone": "mmgcn", "audio_encoder": "gru"},
    "no graph": {"backbone": "none", "jk": True},
    "no gates": {"gates": False, "encoder": "transformer", "hidden_channels": 16},
    "no latent graph": {"latent": False, "party": False, "hyperedge_weights": "standard"},
    "no graph at all": {"backbone": "none", "latent": False, "residual": False},
    "sets of text": {"text_sets": 5, "text_norm": "LN2", "kernel": "favor", "features": 6},
}
CASES = [*SMALL, *(f"rigsl: {variant}" for variant in VARIANTS)]


def create(case: str, *, seed: int = 0, **options: Any) -> DialogueClassifier:
    """A small one in double precision, in evaluation."""
    torch.manual_seed(seed)
    name, _, variant = case.partition(": ")
    config = {"in_channels": WIDTHS, "num_classes": CLASSES, **SMALL[name], **VARIANTS.get(variant, {}), **options}
    return create_model(name, **config).double().eval()  # type: ignore[return-value]


def spoiled(batch: DialogueBatch) -> DialogueBatch:
    """The same with what is no number at padding, and where a modality is missing."""
    x = {
        name: part.masked_fill(~batch.present[:, m, :, None], torch.nan)
        for m, (name, part) in enumerate(batch.x.items())
    }
    return replace(batch, x=x, speaker=batch.speaker.masked_fill(~batch.mask, 7), y=batch.y.masked_fill(~batch.mask, 1))


def loss(model: DialogueClassifier, batch: DialogueBatch) -> Tensor:
    """All that a training lowers."""
    output = model(batch)
    signs = {"penalty": 0.01, "link": -0.01}
    beside = sum(signs[key] * value for key, value in output.losses.items())
    return nn.functional.cross_entropy(output.logits[batch.mask], batch.y[batch.mask]) + beside


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("name", CASES)
class TestEveryModel:
    def test_forward(self, name: str, dialogues: MakeDialogues) -> None:
        model, batch = create(name), dialogues([4, 1, 6], WIDTHS, gaps=0.2)
        output = model(batch)
        assert output.logits.shape == (3, 6, CLASSES)
        assert output.logits.isfinite().all()
        assert set(output.losses) == set(model.loss_names)
        assert all(value.ndim == 0 and value.isfinite() for value in output.losses.values())
        close(model.classifier(model.states(batch)), output.logits)

    def test_alone_as_among_others(self, name: str, dialogues: MakeDialogues, cut: CutDialogue) -> None:
        model, batch = create(name), dialogues([4, 1, 6, 3], WIDTHS, gaps=0.2)
        together = model(batch).logits
        for i, length in enumerate(batch.lengths.tolist()):
            close(model(cut(batch, i)).logits[0], together[i, :length])

    def test_padding_and_gaps_hold_nothing(self, name: str, dialogues: MakeDialogues) -> None:
        model, batch = create(name), dialogues([4, 1, 6], WIDTHS, gaps=0.3)
        clean, garbage = model(batch), model(spoiled(batch))
        close(garbage.logits[batch.mask], clean.logits[batch.mask])
        for key in model.loss_names:
            close(garbage.losses[key], clean.losses[key])
        loss(model, spoiled(batch)).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())

    def test_losses_of_a_padded_dialogue(self, name: str, dialogues: MakeDialogues) -> None:
        model, batch = create(name), dialogues([5], WIDTHS)
        wide = DialogueBatch(
            {k: nn.functional.pad(part, (0, 0, 0, 3)) for k, part in batch.x.items()},
            nn.functional.pad(batch.present, (0, 3)),
            *(nn.functional.pad(part, (0, 3)) for part in (batch.mask, batch.speaker, batch.y, batch.row)),
        )
        narrow, padded = model(batch), model(wide)
        close(padded.logits[:, :5], narrow.logits)
        for key in model.loss_names:
            close(padded.losses[key], narrow.losses[key])

    def test_order_of_the_batch(self, name: str, dialogues: MakeDialogues) -> None:
        model, batch = create(name), dialogues([4, 1, 6, 3], WIDTHS, gaps=0.2)
        order = torch.tensor([2, 0, 3, 1])
        moved = DialogueBatch(
            {key: part[order] for key, part in batch.x.items()},
            *(part[order] for part in (batch.present, batch.mask, batch.speaker, batch.y, batch.row)),
        )
        close(model(moved).logits[batch.mask[order]], model(batch).logits[order][batch.mask[order]])

    @settings(max_examples=5)
    @given(seed=st.integers(0, 10_000), turns=st.integers(1, 7))
    def test_no_answer_changes_with_what_comes_later(
        self, name: str, seed: int, turns: int, dialogues: MakeDialogues, cut: CutDialogue
    ) -> None:
        model, batch = create(name, future=0), dialogues([7], WIDTHS, seed=seed, gaps=0.2)
        close(model(cut(batch, 0, turns)).logits, model(batch).logits[:, :turns])

    def test_what_comes_later_is_heard(self, name: str, dialogues: MakeDialogues, cut: CutDialogue) -> None:
        model, batch = create(name), dialogues([7], WIDTHS)
        assert not torch.allclose(model(cut(batch, 0, 6)).logits, model(batch).logits[:, :6], atol=1e-6)

    def test_every_parameter_gets_a_gradient(self, name: str, dialogues: MakeDialogues) -> None:
        model, batch = create(name).train(), dialogues([9, 1, 7, 8], WIDTHS, gaps=0.2)
        loss(model, batch).backward()
        assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
        still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        assert len(still) <= 0.05 * len(list(model.parameters())), still

    @pytest.mark.parametrize("kept", [["text"], ["audio"], ["text", "video"], []])
    def test_any_modalities(self, name: str, kept: list[str], dialogues: MakeDialogues) -> None:
        model, batch = create(name), dialogues([4, 1, 6], WIDTHS)
        less = batch.only(kept)
        assert model(less).logits[batch.mask].isfinite().all()
        changed = replace(less, x={k: part + (0 if k in kept else 1) for k, part in less.x.items()})
        close(model(changed).logits[batch.mask], model(less).logits[batch.mask])
        loss(model.train(), less).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())

    @pytest.mark.parametrize(
        "modalities", [["text"], ["audio"], ["video"], ["text", "audio"], ["text", "video"], ["audio", "video"]]
    )
    def test_built_for_some_modalities(self, name: str, modalities: list[str], dialogues: MakeDialogues) -> None:
        widths = {key: WIDTHS[key] for key in modalities}
        model = create(name, in_channels=dict(reversed(widths.items()))).train()
        assert list(model.in_channels) == modalities
        loss(model, dialogues([4, 1, 6], widths, gaps=0.1)).backward()
        still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        assert len(still) <= 0.1 * len(list(model.parameters())), still

    def test_one_turn_only(self, name: str, dialogues: MakeDialogues) -> None:
        model = create(name).train()
        loss(model, dialogues([1], WIDTHS)).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())

    def test_more_speakers_than_known(self, name: str, dialogues: MakeDialogues) -> None:
        model, batch = create(name, speakers=2), dialogues([9], WIDTHS, speakers=6)
        assert model(batch).logits.isfinite().all()

    def test_evaluation_draws_nothing(self, name: str, dialogues: MakeDialogues) -> None:
        model, batch = create(name), dialogues([4, 6], WIDTHS)
        before = torch.get_rng_state()
        first = model(batch).logits
        assert torch.equal(torch.get_rng_state(), before)
        close(model(batch).logits, first)

    def test_half_precision(self, name: str, dialogues: MakeDialogues) -> None:
        model, batch = create(name).float(), dialogues([5, 1, 3], WIDTHS, gaps=0.2)
        batch = replace(batch, x={key: part.float() for key, part in batch.x.items()})
        with torch.autocast("cpu", dtype=torch.bfloat16):
            near = model(batch).logits
        torch.testing.assert_close(near.float(), model(batch).logits, atol=0.05, rtol=0.05)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            total = loss(model.train(), batch)
        total.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())

    def test_refuses_what_does_not_fit(self, name: str, dialogues: MakeDialogues) -> None:
        model = create(name)
        with pytest.raises(ModelError, match="give these, in this order"):
            model(dialogues([3], {"text": 5}))
        with pytest.raises(ModelError, match="give a width for each modality"):
            create(name, in_channels={"smell": 4})
        with pytest.raises(ModelError, match="future is -1; give at least 0"):
            create(name, future=-1)


@pytest.mark.parametrize("name", NAMES)
class TestEveryRegisteredName:
    def test_save_and_load(self, name: str, tmp_path: Path, dialogues: MakeDialogues) -> None:
        torch.manual_seed(0)
        model = create_model(name, in_channels=WIDTHS, num_classes=CLASSES, **SMALL[name], future=0).eval()
        model.save_pretrained(tmp_path)
        loaded, batch = load_model(tmp_path), dialogues([4, 6], WIDTHS)
        batch = replace(batch, x={key: part.float() for key, part in batch.x.items()})
        assert loaded.config == model.config
        torch.testing.assert_close(loaded(batch).logits, model(batch).logits, rtol=0, atol=0)

    def test_learns_four_dialogues(self, name: str, dialogues: MakeDialogues) -> None:
        model, batch = create(name, dropout=0.0, hidden_channels=32).train(), dialogues([6, 4, 1, 7], WIDTHS, seed=3)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(60):
            optimizer.zero_grad()
            loss(model, batch).backward()
            optimizer.step()
        right = model.eval()(batch).logits.argmax(dim=2) == batch.y
        assert right[batch.mask].double().mean() >= 0.94


def test_names() -> None:
    assert sorted(SMALL) == NAMES
