"""CoGCN: the normalised convolution written out."""

import torch

from graphophone.models import create_model


def test_written_out() -> None:
    model = create_model("cogcn", in_channels=3, num_classes=2, num_layers=1).eval()
    edge_index = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])  # and node 3 alone
    x = torch.randn(4, 3)
    adjacent = torch.eye(4)
    adjacent[edge_index[1], edge_index[0]] = 1
    scale = adjacent.sum(1).rsqrt()
    conv = model.convs[0]
    h = (scale[:, None] * adjacent * scale) @ x @ conv.lin.weight.t() + conv.bias
    torch.testing.assert_close(model.embed(x, edge_index), h.relu().mean(0, keepdim=True))
    torch.testing.assert_close(conv(x, edge_index)[3], conv.lin(x[3]) + conv.bias)  # keeps its own feature
