"""The packed GRU with its written-out gradient: the same as torch's."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from graphophone.nn.gru import packed_gru

COUNTS = [4, 3, 3, 1, 1]


def parts(directions: int, hidden: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((directions, sum(COUNTS), 3 * hidden), (directions, 3 * hidden, hidden), (directions, 1, 3 * hidden))
    inputs, weight, bias = (torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes)
    return inputs.requires_grad_(), weight.requires_grad_(), bias.requires_grad_()


@pytest.mark.parametrize("directions", [1, 2, 3])
def test_gradients(directions: int) -> None:
    assert torch.autograd.gradcheck(lambda *given: packed_gru(*given, COUNTS), parts(directions))


@pytest.mark.parametrize("counts", [COUNTS, [7], [1] * 6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_states_and_gradients_are_torch_s(counts: list[int], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    theirs = nn.GRU(5, 4).to(dtype)
    x = torch.randn(sum(counts), 5, dtype=dtype, requires_grad=True)
    expected = theirs(PackedSequence(x, torch.tensor(counts)))[0].data
    given = nn.functional.linear(x, theirs.weight_ih_l0, theirs.bias_ih_l0)
    found = packed_gru(given[None], theirs.weight_hh_l0[None], theirs.bias_hh_l0[None, None], counts)[0]
    near = {"atol": 1e-12, "rtol": 1e-10} if dtype == torch.float64 else {"atol": 1e-6, "rtol": 1e-5}
    torch.testing.assert_close(found, expected, **near)
    weight = torch.linspace(-1, 1, found.numel(), dtype=dtype).view_as(found)
    wrt = [x, *theirs.parameters()]
    one, other = (torch.autograd.grad((out * weight).sum(), wrt) for out in (found, expected))
    torch.testing.assert_close(one, other, **near)


def test_a_state_knows_of_its_own_sequence_alone() -> None:
    inputs, weight, bias = parts(1)
    states = packed_gru(inputs, weight, bias, COUNTS)
    (gradient,) = torch.autograd.grad(states[0, sum(COUNTS[:2])].sum(), inputs)  # third turn of the longest one
    assert gradient[0].any(dim=1).nonzero()[:, 0].tolist() == [0, 4, 7]
