"""Encoders of turns: nothing but the turns of a dialogue that have the modality may count."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from graphophone.nn.turn_encoder import TextSets, TurnEncoder, TurnEncoderError

ENCODERS = ["gru", "lstm", "transformer", "none"]
NORMS = ["LN", "BN", "LN2", "mean", "first"]


def batch(seed: int, lengths: list[int], dims: int, holes: float = 0.3) -> tuple[Tensor, Tensor]:
    """Vectors with garbage at turns that are not there, and which are."""
    generator = torch.Generator().manual_seed(seed)
    present = torch.rand(len(lengths), max(lengths), generator=generator) >= holes
    present &= torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    x = torch.randn(*present.shape, dims, dtype=torch.float64, generator=generator)
    return x.masked_fill(~present[..., None], float("nan")), present


def encoder(kind: Any, **options: Any) -> TurnEncoder:
    torch.manual_seed(1)
    return TurnEncoder(6, 8, encoder=kind, heads=2, **options).double().eval()


def text_sets(norm: Any, **options: Any) -> TextSets:
    torch.manual_seed(1)
    sets = TextSets(3, 5, norm, **options).double()
    for parameter in sets.parameters():
        nn.init.normal_(parameter)
    return sets


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 6), min_size=1, max_size=4), st.booleans())
@pytest.mark.parametrize("kind", ENCODERS)
def test_a_dialogue_alone_is_the_same_as_in_a_padded_batch(
    kind: str, seed: int, lengths: list[int], bidirectional: bool
) -> None:
    x, present = batch(seed, lengths, 6)
    layer = encoder(kind, bidirectional=bidirectional)
    u, h = layer(x, present)
    assert not u[~present].any()
    assert not h[~present].any()
    for b, turns in enumerate(lengths):
        alone = layer(x[b : b + 1, :turns], present[b : b + 1, :turns])
        torch.testing.assert_close(alone[0][0], u[b, :turns], atol=1e-12, rtol=0)
        torch.testing.assert_close(alone[1][0], h[b, :turns], atol=1e-12, rtol=0)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10**6), st.integers(1, 6))
@pytest.mark.parametrize("kind", ENCODERS)
def test_one_direction_knows_of_no_later_turn(kind: str, seed: int, known: int) -> None:
    x, present = batch(seed, [7, 7], 6)
    layer = encoder(kind, bidirectional=False)
    for part, whole in zip(layer(x[:, :known], present[:, :known]), layer(x, present), strict=True):
        torch.testing.assert_close(part, whole[:, :known], atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", ["gru", "lstm", "transformer"])
def test_two_directions_know_of_later_turns(kind: str) -> None:
    x, present = batch(0, [5], 6, holes=0)
    layer = encoder(kind)
    assert not torch.allclose(layer(x[:, :3], present[:, :3])[1], layer(x, present)[1][:, :3], atol=1e-3)


@pytest.mark.parametrize("kind", ENCODERS)
def test_gradients_are_finite_and_reach_every_weight_whatever_stands_in_padding(kind: str) -> None:
    x, present = batch(3, [6, 2], 6)
    layer = encoder(kind).train()
    u, h = layer(x, present)
    (u.sum() + h.square().sum()).backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any() or "bias" in name, name


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_recurrent_layers_close_gaps_and_transformers_keep_places(kind: str) -> None:
    x, _ = batch(5, [6], 6, holes=0)
    present = torch.tensor([[True, True, False, False, True, True]])
    kept = present[0].nonzero()[:, 0]
    recurrent, transformer = encoder(kind), encoder("transformer")
    all_there = torch.ones(1, len(kept), dtype=torch.bool)
    torch.testing.assert_close(recurrent(x, present)[1][:, kept], recurrent(x[:, kept], all_there)[1])
    gap, closed = transformer(x, present)[1][:, kept], transformer(x[:, kept], all_there)[1]
    assert (gap - closed).abs().max() > 1e-3


def test_without_encoder_the_state_is_the_projection() -> None:
    x, present = batch(0, [4, 2], 6)
    layer = encoder("none")
    u, h = layer(x, present)
    torch.testing.assert_close(u[present], layer.projection(x[present]))
    assert torch.equal(u, h)
    assert sum(p.numel() for p in layer.parameters()) == 6 * 8 + 8


@pytest.mark.parametrize("kind", ENCODERS)
def test_nobody_has_the_modality(kind: str) -> None:
    layer = encoder(kind).train()
    u, h = layer(torch.zeros(2, 3, 6, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.bool))
    assert u.shape == h.shape == (2, 3, 8)
    assert not u.any()
    assert not h.any()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(TurnEncoderError, match="unknown encoder 'rnn'"):
        TurnEncoder(6, 8, encoder="rnn")  # type: ignore[arg-type]
    with pytest.raises(TurnEncoderError, match="channels=12 must be even and a multiple of heads=8"):
        TurnEncoder(6, 12, encoder="transformer")
    with pytest.raises(TurnEncoderError, match="unknown norm 'None'"):
        TextSets(norm="None")  # type: ignore[arg-type]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 6), min_size=1, max_size=4), st.booleans())
@pytest.mark.parametrize("norm", NORMS)
def test_text_sets_of_a_dialogue_alone_are_the_same_as_in_a_padded_batch(
    norm: str, seed: int, lengths: list[int], causal: bool
) -> None:
    x, present = batch(seed, lengths, 15)
    sets = text_sets(norm, causal=causal).eval()
    out = sets(x, present)
    assert out.shape == (*present.shape, 5)
    assert not out[~present].any()
    for b, turns in enumerate(lengths):
        alone = sets(x[b : b + 1, :turns], present[b : b + 1, :turns])
        torch.testing.assert_close(alone[0], out[b, :turns], atol=1e-12, rtol=1e-12)


def test_text_sets_are_what_their_names_say() -> None:
    x, present = batch(2, [6, 3, 1], 15)
    parts = x[present].unflatten(1, (3, 5)).unbind(1)
    torch.testing.assert_close(text_sets("first")(x, present)[present], parts[0])
    torch.testing.assert_close(text_sets("mean")(x, present)[present], sum(parts) / 3)
    layer = text_sets("LN")
    normed = [F.layer_norm(part, (5,), w, b) for part, w, b in zip(parts, layer.weight, layer.bias, strict=True)]
    torch.testing.assert_close(layer(x, present)[present], sum(normed) / 3)
    for b in range(3):
        own = x[b][present[b]].unflatten(1, (3, 5)).unbind(1)
        jointly = sum(F.layer_norm(part, part.shape) for part in own) / 3
        torch.testing.assert_close(text_sets("LN2")(x, present)[b][present[b]], jointly)


def test_batch_norm_of_text_sets_sees_turns_alone() -> None:
    x, present = batch(2, [6, 3, 1], 15)
    layer = text_sets("BN")
    norms = [nn.BatchNorm1d(5).double() for _ in range(3)]
    for k, norm in enumerate(norms):
        norm.weight.data = layer.batch_norm.weight.data[5 * k : 5 * k + 5]
        norm.bias.data = layer.batch_norm.bias.data[5 * k : 5 * k + 5]
    parts = x[present].unflatten(1, (3, 5)).unbind(1)
    expected = sum(norm(part) for norm, part in zip(norms, parts, strict=True)) / 3
    torch.testing.assert_close(layer(x, present)[present], expected)
    assert layer.batch_norm.running_var is not None
    torch.testing.assert_close(layer.batch_norm.running_var, torch.cat([n.running_var for n in norms]))
    one = text_sets("BN")  # one turn has no variance
    torch.testing.assert_close(one(x[2:, :1], present[2:, :1]), one.eval()(x[2:, :1], present[2:, :1]))
    assert one.batch_norm.num_batches_tracked == 0


@given(st.integers(0, 10**6), st.integers(1, 6))
def test_causal_statistics_of_text_sets_know_of_no_later_turn(seed: int, known: int) -> None:
    x, present = batch(seed, [7, 7], 15)
    layer = text_sets("LN2", causal=True)
    whole = layer(x, present)
    torch.testing.assert_close(layer(x[:, :known], present[:, :known]), whole[:, :known], atol=1e-12, rtol=1e-12)
    anew = text_sets("LN2")(x[:, :known], present[:, :known])
    last = present[:, known - 1]
    torch.testing.assert_close(anew[last, known - 1], whole[last, known - 1], atol=1e-9, rtol=1e-9)
