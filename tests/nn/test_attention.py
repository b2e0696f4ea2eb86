"""Graph attention against PyTorch Geometric's, and the graph isomorphism convolution against its formula."""

import pytest
import torch
from torch_geometric.nn import GATConv

from graphophone.nn.attention import GraphAttention
from graphophone.nn.convolution import GINConv

EDGES = torch.tensor([[0, 1, 2, 3, 1, 4], [1, 1, 1, 2, 0, 3]])


def test_equals_gatconv() -> None:
    ours, theirs = GraphAttention(5, 8, heads=2), GATConv(5, 4, heads=2)
    with torch.no_grad():
        theirs.lin.weight.copy_(ours.linear.weight)
        theirs.att_src.copy_(ours.source.unsqueeze(0))
        theirs.att_dst.copy_(ours.target.unsqueeze(0))
        theirs.bias.copy_(ours.bias.normal_())
    x = torch.randn(6, 5)
    without_loops = EDGES[:, EDGES[0] != EDGES[1]]
    torch.testing.assert_close(ours(x, without_loops), theirs(x, without_loops))


def test_edge_weights_scale_what_is_carried() -> None:
    attention, x = GraphAttention(3, 4).double(), torch.randn(5, 3, dtype=torch.float64)
    weight = torch.ones(6, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(attention(x, EDGES, weight), attention(x, EDGES))
    halved = torch.full_like(weight, 0.5)
    silent = torch.zeros_like(weight)
    full, half, none = (attention(x, EDGES, w) for w in (weight, halved, silent))
    torch.testing.assert_close(half, (full + none) / 2)  # linear in the weights
    assert torch.autograd.gradcheck(lambda w: attention(x, EDGES, w), weight)


def test_node_without_neighbours_attends_to_itself() -> None:
    attention, x = GraphAttention(3, 4), torch.randn(2, 3)
    torch.testing.assert_close(attention(x, EDGES[:, :0]), attention.linear(x) + attention.bias)


def test_heads_must_divide() -> None:
    with pytest.raises(ValueError, match="multiple of heads"):
        GraphAttention(3, 5, heads=4)


def test_gin_tells_multisets_apart() -> None:
    """Two neighbours of one kind and one: mean and maximum agree, the sum does not."""
    conv = GINConv(1, 4)
    x = torch.tensor([[0.0], [1.0], [1.0], [1.0], [0.0]])
    one, two = torch.tensor([[1], [0]]), torch.tensor([[1, 2], [0, 0]])
    assert conv.aggregate(x, one)[0] == 1
    assert conv.aggregate(x, two)[0] == 2
    with torch.no_grad():
        conv.epsilon.fill_(0.5)
    assert conv.aggregate(x, two)[3] == 1.5
    assert conv.aggregate(x, two, torch.tensor([0.25, 1.0]))[0] == 1.25
