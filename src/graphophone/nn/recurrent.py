"""Recurrent layers along the frames of every graph of a batch."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch_geometric.utils import to_dense_batch


class FrameRNN(nn.Module):
    """Bidirectional LSTM or GRU over the nodes of each graph in their order, which is time.

    Args:
        in_channels: Width of the node features.
        hidden_channels: Width of each direction.
        cell: ``"lstm"`` or ``"gru"``.

    Attributes:
        out_channels: Twice ``hidden_channels``.

    Shapes:
        x ``[N, in_channels]``, batch ``[N]`` -> ``[N, 2 hidden_channels]``.
    """

    def __init__(self, in_channels: int, hidden_channels: int, cell: Literal["lstm", "gru"] = "lstm") -> None:
        super().__init__()
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.rnn = kind(in_channels, hidden_channels, batch_first=True, bidirectional=True)
        self.out_channels = 2 * hidden_channels

    def forward(self, x: Tensor, batch: Tensor | None = None, batch_size: int | None = None) -> Tensor:
        """Node states that know what came before and what comes after."""
        if batch is None:
            return self.rnn(x.unsqueeze(0))[0].squeeze(0)
        padded, mask = to_dense_batch(x, batch, batch_size=batch_size)
        lengths = mask.sum(1)
        present = lengths > 0  # packing takes no empty sequence
        packed = nn.utils.rnn.pack_padded_sequence(
            padded[present], lengths[present].cpu(), batch_first=True, enforce_sorted=False
        )
        out, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=padded.size(1))
        return out[mask[present]]
