"""The graph-LSTM convolution: its equations, what it sees, what it does not depend on, what it can learn."""

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn.aggr import LSTMAggregation
from torch_geometric.utils import scatter

from graphophone.errors import GraphophoneError
from graphophone.nn.convolution import GraphLSTMConv


def graph(num_nodes: int, degree: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    sources = torch.rand(num_nodes, num_nodes, generator=generator).argsort(1)[:, :degree].sort(1).values
    return torch.stack([sources.flatten(), torch.arange(num_nodes).repeat_interleave(degree)])


def test_equations() -> None:
    conv, edge_index = GraphLSTMConv(6, 5, 4), graph(20, 3)
    x = torch.randn(20, 6)
    lstm = nn.LSTM(4, 4, batch_first=True)
    lstm.load_state_dict(conv.lstm.state_dict())
    projected = conv.project(x)
    read = lstm(projected[edge_index[0]].view(20, 3, 4))[1][0][0]
    torch.testing.assert_close(conv(x, edge_index), conv.update(torch.cat([projected, read], 1)))


def test_equals_pyg_on_a_regular_graph_and_only_there() -> None:
    conv, x = GraphLSTMConv(6, 6), torch.randn(30, 6)
    theirs = LSTMAggregation(6, 6)
    theirs.lstm.load_state_dict(conv.lstm.state_dict())

    def ours_and_theirs(edge_index: Tensor) -> tuple[Tensor, Tensor]:
        projected = conv.project(x)
        read = theirs(projected[edge_index[0]], edge_index[1], dim_size=30)
        return conv(x, edge_index), conv.update(torch.cat([projected, read], 1))

    torch.testing.assert_close(*ours_and_theirs(graph(30, 4)), atol=1e-6, rtol=1e-5)
    ours, wrong = ours_and_theirs(graph(30, 4)[:, 1:])  # node 0 has one neighbour fewer: padded
    torch.testing.assert_close(ours[1:], wrong[1:], atol=1e-6, rtol=1e-5)
    assert (ours[0] - wrong[0]).abs().max() > 1e-3


@pytest.mark.parametrize("in_channels", [77, 128])
@pytest.mark.parametrize("width", [64, 128])
def test_parameter_count(in_channels: int, width: int) -> None:
    count = sum(p.numel() for p in GraphLSTMConv(in_channels, width).parameters())
    assert count == width * (in_channels + 1) + (8 * width**2 + 8 * width) + width * (2 * width + 1)


def test_node_without_in_edges_reads_nothing() -> None:
    conv, x = GraphLSTMConv(3, 3), torch.randn(4, 3)
    out = conv(x, torch.tensor([[0, 1], [1, 2]]))
    alone = conv.update(torch.cat([conv.project(x), torch.zeros(4, 3)], 1))
    torch.testing.assert_close(out[[0, 3]], alone[[0, 3]])
    assert (out[[1, 2]] - alone[[1, 2]]).abs().min() > 0


@pytest.mark.parametrize("order", ["time", "similarity", "random"])
def test_other_graphs_of_the_batch_do_not_matter(order: str) -> None:
    conv = GraphLSTMConv(5, 8, order=order).eval()
    sizes, degrees = [7, 30, 12, 1], [3, 11, 2, 0]
    xs = [torch.randn(n, 5) for n in sizes]
    graphs = [graph(n, d, seed=n) for n, d in zip(sizes, degrees, strict=True)]
    shift = torch.tensor([0, *sizes[:-1]]).cumsum(0)
    together = conv(torch.cat(xs), torch.cat([g + s for g, s in zip(graphs, shift, strict=True)], 1))
    alone = torch.cat([conv(x, g) for x, g in zip(xs, graphs, strict=True)])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-6)


def test_order_of_columns_does_not_matter_order_of_nodes_does() -> None:
    conv, x, edge_index = GraphLSTMConv(4, 4), torch.randn(15, 4), graph(15, 4)
    out = conv(x, edge_index)
    torch.testing.assert_close(conv(x, edge_index[:, torch.randperm(60)]), out, atol=0, rtol=0)

    reverse = torch.arange(14, -1, -1)  # node k is called 14 - k: time runs backwards
    backwards = conv(x.flip(0), reverse[edge_index]).flip(0)
    assert (backwards - out).abs().max() > 1e-3

    spread = 3 * torch.arange(15) + 1  # other names, the same order
    wide = torch.zeros(50, 4)
    wide[spread] = x
    torch.testing.assert_close(conv(wide, spread[edge_index])[spread], out)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_layers_see_as_many_past_frames(layers: int) -> None:
    frames, at = 9, 6
    path = torch.stack([torch.arange(frames - 1), torch.arange(1, frames)])
    convs = [GraphLSTMConv(3, 3).double() for _ in range(layers)]
    x = torch.randn(frames, 3, dtype=torch.float64, requires_grad=True)
    h = x
    for conv in convs:
        h = conv(h, path)
    seen = torch.autograd.grad(h[at].square().sum(), x)[0].abs().sum(1) > 0
    assert seen.nonzero().squeeze(1).tolist() == list(range(at - layers, at + 1))


def test_residual() -> None:
    x, edge_index = torch.randn(10, 4), graph(10, 2)
    plain, residual = GraphLSTMConv(4, 4), GraphLSTMConv(4, 4, residual=True)
    residual.load_state_dict(plain.state_dict())
    torch.testing.assert_close(residual(x, edge_index), plain(x, edge_index) + x)
    with pytest.raises(GraphophoneError, match="equal widths"):
        GraphLSTMConv(4, 5, residual=True)


def test_plan_may_be_given() -> None:
    conv, x, edge_index = GraphLSTMConv(4, 4), torch.randn(10, 4), graph(10, 2)
    out = conv(x, edge_index)
    torch.testing.assert_close(conv(x, edge_index, plan=conv.plan(edge_index, x)), out, atol=0, rtol=0)


def test_zero_edge_weight_is_a_zero_neighbour() -> None:
    conv, x = GraphLSTMConv(3, 3), torch.randn(3, 3)
    edge_index = torch.tensor([[0, 1], [2, 2]])
    with torch.no_grad():
        conv.project.bias.zero_()
    silenced = x.clone()
    silenced[1] = 0
    weight = torch.tensor([1.0, 0.0])
    torch.testing.assert_close(conv(x, edge_index, weight)[2], conv(silenced, edge_index)[2])


def test_random_order_is_drawn_in_training_only() -> None:
    conv, x, edge_index = GraphLSTMConv(4, 4, order="random"), torch.randn(30, 4), graph(30, 6)
    assert not torch.equal(conv(x, edge_index), conv(x, edge_index))
    conv.eval()
    torch.testing.assert_close(conv(x, edge_index), conv(x, edge_index), atol=0, rtol=0)


class TestOrderSensitivity:
    """Stars whose sources hold the same values in rising or falling order: only order tells the classes apart."""

    sources = 5

    def stars(self, pairs: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Nodes ``[2 pairs (sources + 1), 2]``, edges, and labels ``[2 pairs]``; target last in each star."""
        rising = torch.randn(pairs, self.sources, 2, generator=torch.Generator().manual_seed(seed))
        rising = rising.gather(1, rising[..., :1].argsort(1).expand_as(rising))
        values = torch.cat([rising, rising.flip(1)])
        x = torch.cat([values, torch.zeros(2 * pairs, 1, 2)], 1).flatten(0, 1)
        first = (self.sources + 1) * torch.arange(2 * pairs)
        source = first[:, None] + torch.arange(self.sources)
        target = (first + self.sources)[:, None].expand_as(source)
        return x, torch.stack([source.flatten(), target.flatten()]), torch.arange(2).repeat_interleave(pairs)

    def test_is_learned(self) -> None:
        torch.manual_seed(0)
        conv, head = GraphLSTMConv(2, 16), nn.Linear(16, 2)
        optimiser = torch.optim.Adam([*conv.parameters(), *head.parameters()], lr=0.02)

        def scores(x: Tensor, edge_index: Tensor) -> Tensor:
            return head(conv(x, edge_index).relu()[self.sources :: self.sources + 1])

        x, edge_index, labels = self.stars(100, seed=1)
        for _ in range(60):
            optimiser.zero_grad()
            nn.functional.cross_entropy(scores(x, edge_index), labels).backward()
            optimiser.step()
        x, edge_index, labels = self.stars(100, seed=2)
        assert (scores(x, edge_index).argmax(1) == labels).float().mean() > 0.97

    @pytest.mark.parametrize("reduce", ["mean", "sum"])
    def test_is_invisible_to_symmetric_aggregators(self, reduce: str) -> None:
        x, (source, target), labels = self.stars(20, seed=1)
        read = scatter(x[source], target, 0, x.size(0), reduce=reduce)[self.sources :: self.sources + 1]
        torch.testing.assert_close(read[labels == 0], read[labels == 1])
