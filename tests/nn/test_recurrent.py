"""Recurrent layers along frames: batches as single graphs."""

import pytest
import torch

from graphophone.nn.recurrent import FrameRNN


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_each_graph_is_its_own_sequence(cell: str) -> None:
    sizes = [5, 1, 9, 0, 3]
    rnn, x = FrameRNN(4, 6, cell), torch.randn(sum(sizes), 4)
    batch = torch.repeat_interleave(torch.arange(5), torch.tensor(sizes))
    together = rnn(x, batch, 5)
    assert together.shape == (18, rnn.out_channels)
    alone = torch.cat([rnn(part) for part in x.split(sizes) if len(part)])
    torch.testing.assert_close(together, alone)


def test_looks_both_ways() -> None:
    rnn, x = FrameRNN(2, 3), torch.randn(6, 2, requires_grad=True)
    seen = torch.autograd.grad(rnn(x)[3].sum(), x)[0].abs().sum(1)
    assert (seen > 0).all()
