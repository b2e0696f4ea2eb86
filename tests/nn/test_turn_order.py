"""Packed sequences of turns: the same as one recurrent run per sequence."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from graphophone.nn.turn_order import TurnEncoderError, TurnOrder, TurnRecurrence


@st.composite
def tables(draw: st.DrawFn, dialogues: int = 4, turns: int = 7) -> tuple[Tensor, Tensor]:
    shape = (draw(st.integers(1, dialogues)), draw(st.integers(1, turns)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    present = torch.rand(shape, generator=generator) < draw(st.sampled_from([0.0, 0.4, 1.0]))
    return present, torch.randint(3, shape, generator=generator)


def sequences(present: Tensor, speaker: Tensor | None) -> list[list[int]]:
    found: dict[tuple[int, int], list[int]] = {}
    for b, t in present.nonzero().tolist():
        found.setdefault((b, 0 if speaker is None else int(speaker[b, t])), []).append(b * present.size(1) + t)
    return sorted(found.values())


@given(tables(), st.booleans())
def test_every_sequence_is_read_in_its_order(tables: tuple[Tensor, Tensor], parties: bool) -> None:
    present, speaker = tables
    order = TurnOrder.of(present, speaker if parties else None)
    steps = order.rows.split(order.counts.tolist())
    assert sorted(order.counts.tolist(), reverse=True) == order.counts.tolist()
    read = sorted([int(step[k]) for step in steps if k < len(step)] for k in range(len(steps[0]) if steps else 0))
    assert read == sequences(present, speaker if parties else None)


def gradients(layer: nn.Module, x: Tensor, out: Tensor) -> dict[str, Tensor]:
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out).cos()
    named: dict[str, Any] = dict(layer.named_parameters()) | {"x": x}
    found = torch.autograd.grad((out * weight).sum(), list(named.values()), allow_unused=True)
    return {name: torch.zeros_like(named[name]) if g is None else g for name, g in zip(named, found, strict=True)}


@settings(deadline=None, max_examples=25)
@given(tables(), st.sampled_from(["gru", "lstm"]), st.booleans(), st.integers(1, 2), st.booleans())
def test_states_and_gradients_are_those_of_one_run_per_sequence(
    tables: tuple[Tensor, Tensor], cell: Any, bidirectional: bool, num_layers: int, parties: bool
) -> None:
    present, speaker = tables
    torch.manual_seed(0)
    layer = TurnRecurrence(3, 4, cell=cell, num_layers=num_layers, bidirectional=bidirectional).double()
    x = torch.randn(*present.shape, 3, dtype=torch.float64, requires_grad=True)
    out = layer(x, TurnOrder.of(present, speaker if parties else None))
    expected = x.new_zeros(present.numel(), 4)
    for rows in sequences(present, speaker if parties else None):
        expected = expected.index_add(0, torch.tensor(rows), layer.rnn(x.flatten(0, 1)[rows])[0])
    torch.testing.assert_close(out.flatten(0, 1), expected, atol=1e-12, rtol=1e-12)
    if out.requires_grad:
        torch.testing.assert_close(gradients(layer, x, out), gradients(layer, x, expected), atol=1e-11, rtol=1e-11)
    with torch.no_grad():
        torch.testing.assert_close(layer(x, TurnOrder.of(present, speaker if parties else None)), out)


def test_dropout_is_between_layers_and_in_training_only() -> None:
    torch.manual_seed(0)
    layer = TurnRecurrence(4, 8, dropout=0.5)
    x, order = torch.randn(2, 5, 4), TurnOrder.of(torch.ones(2, 5, dtype=torch.bool))
    assert not torch.equal(layer(x, order), layer(x, order))
    layer.eval()
    assert torch.equal(layer(x, order), layer(x, order))
    assert TurnRecurrence(4, 8, dropout=0.5, num_layers=1).rnn.dropout == 0


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_half_precision_around_it_changes_little(cell: Any) -> None:
    torch.manual_seed(0)
    layer = TurnRecurrence(4, 8, cell=cell)
    x, order = torch.randn(3, 5, 4), TurnOrder.of(torch.rand(3, 5) < 0.7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = layer(x, order)
        half.float().sum().backward()
    torch.testing.assert_close(half.float(), layer(x, order), atol=0.03, rtol=0)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(TurnEncoderError, match="channels=5 is odd"):
        TurnRecurrence(4, 5)
    assert TurnRecurrence(4, 5, bidirectional=False).channels == 5
    with pytest.raises(TurnEncoderError, match="unknown cell 'rnn'"):
        TurnRecurrence(4, 4, cell="rnn")  # type: ignore[arg-type]
