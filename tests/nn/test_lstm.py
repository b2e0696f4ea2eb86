"""The neighbour LSTM against a plain loop over `torch.nn.LSTM`, forward and backward."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import graphophone.nn.lstm as lstm_module
from graphophone.nn.convolution import NeighbourLSTM
from graphophone.nn.lstm import NeighbourPlan, NeighbourPlanError, graph_lstm


def loop(x: Tensor, edge_index: Tensor, lstm: nn.LSTM, edge_weight: Tensor | None = None) -> Tensor:
    """One run of `lstm` per node over its sources in ascending order."""
    states = []
    for node in range(x.size(0)):
        columns = (edge_index[1] == node).nonzero().squeeze(1)
        columns = columns[edge_index[0, columns].argsort(stable=True)]
        if columns.numel() == 0:
            states.append(x.new_zeros(lstm.hidden_size))
            continue
        sequence = x[edge_index[0, columns]]
        if edge_weight is not None:
            sequence = sequence * edge_weight[columns, None]
        states.append(lstm(sequence.unsqueeze(0))[1][0][0, 0])
    return torch.stack(states)


def random_graph(num_nodes: int, degrees: list[int], seed: int, sources: int | None = None) -> Tensor:
    """Edges ``[2, E]`` in random order, with distinct sources of each node."""
    generator = torch.Generator().manual_seed(seed)
    edges = [
        (int(source), node)
        for node, degree in enumerate(degrees)
        for source in torch.randperm(sources or num_nodes, generator=generator)[:degree]
    ]
    edge_index = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).t().contiguous()
    return edge_index[:, torch.randperm(edge_index.size(1), generator=generator)]


def pair(channels: int, hidden: int, dtype: torch.dtype, seed: int = 0) -> tuple[nn.LSTM, NeighbourLSTM]:
    """Reference and subject, of one state dict."""
    torch.manual_seed(seed)
    reference = nn.LSTM(channels, hidden, batch_first=True).to(dtype)
    subject = NeighbourLSTM(channels, hidden).to(dtype)
    subject.load_state_dict(reference.state_dict())
    return reference, subject


GRAPHS = {
    "regular": random_graph(40, [4] * 40, 0),
    "mixed": random_graph(40, [k % 7 for k in range(40)], 1),
    "hub": random_graph(60, [3] * 59 + [60], 2),
    "isolated": random_graph(20, [0] * 15 + [2, 0, 3, 0, 1], 3),
    "alike": random_graph(50, [3] * 25 + [4] * 25, 4, sources=5),
    "same": torch.stack([torch.arange(4).repeat(30), torch.arange(30).repeat_interleave(4)]),
    "repeated edges": torch.tensor([[1, 1, 2, 0, 0, 0], [0, 0, 0, 2, 2, 1]]),
    "self loops": torch.stack([torch.arange(9), torch.arange(9)]),
    "no edges": torch.empty(2, 0, dtype=torch.int64),
}


def nodes_of(edge_index: Tensor) -> int:
    return int(edge_index.max()) + 2 if edge_index.numel() else 3


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("chunk", [1 << 18, 64])  # one chunk per level, and several
@pytest.mark.parametrize("name", GRAPHS)
def test_equals_loop(name: str, chunk: int, share: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lstm_module, "_CHUNK", chunk)
    edge_index = GRAPHS[name]
    num_nodes = nodes_of(edge_index)
    reference, subject = pair(5, 4, torch.float64)
    x = torch.randn(num_nodes, 5, dtype=torch.float64, requires_grad=True)
    plan = NeighbourPlan.from_edge_index(edge_index, num_nodes, share=share)
    expected, actual = loop(x, edge_index, reference), subject(x, plan)
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-10)
    with torch.no_grad():
        torch.testing.assert_close(subject(x, plan), actual, atol=0, rtol=0)
    if edge_index.numel():
        cotangent = torch.randn_like(expected)
        wanted = torch.autograd.grad((expected * cotangent).sum(), [x, *reference.parameters()])
        got = torch.autograd.grad((actual * cotangent).sum(), [x, *subject.parameters()])
        for gradient, want in zip(got, wanted, strict=True):
            torch.testing.assert_close(gradient, want, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("branching", [0.0, 1.1])  # states copied to the branches, or gates
def test_both_ways_of_branching(branching: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lstm_module, "_BRANCHING", branching)
    monkeypatch.setattr(lstm_module, "_CHUNK", 128)
    edge_index = GRAPHS["alike"]
    reference, subject = pair(3, 4, torch.float64)
    x = torch.randn(51, 3, dtype=torch.float64, requires_grad=True)
    plan = NeighbourPlan.from_edge_index(edge_index, 51)
    assert any(level.parent is not None for level in plan.levels)
    expected, actual = loop(x, edge_index, reference), subject(x, plan)
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-10)
    cotangent = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * cotangent).sum(), [x, *reference.parameters()])
    got = torch.autograd.grad((actual * cotangent).sum(), [x, *subject.parameters()])
    for gradient, want in zip(got, wanted, strict=True):
        torch.testing.assert_close(gradient, want, atol=1e-10, rtol=1e-8)


@settings(max_examples=60)
@given(
    degrees=st.lists(st.integers(0, 9), min_size=1, max_size=25),
    sources=st.integers(1, 25),
    seed=st.integers(0, 2**20),
    share=st.booleans(),
)
def test_equals_loop_on_any_graph(degrees: list[int], sources: int, seed: int, share: bool) -> None:
    num_nodes = max(len(degrees), sources)
    edge_index = random_graph(num_nodes, degrees, seed, sources)
    reference, subject = pair(2, 3, torch.float64, seed)
    x = torch.randn(num_nodes, 2, dtype=torch.float64, requires_grad=True)
    expected = loop(x, edge_index, reference)
    actual = subject(x, NeighbourPlan.from_edge_index(edge_index, num_nodes, share=share))
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-10)
    if edge_index.numel():
        wanted = torch.autograd.grad(expected.square().sum(), [x, *reference.parameters()])
        got = torch.autograd.grad(actual.square().sum(), [x, *subject.parameters()])
        for gradient, want in zip(got, wanted, strict=True):
            torch.testing.assert_close(gradient, want, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("name", ["mixed", "hub", "alike", "isolated"])
def test_float32_is_as_exact_as_the_reference(name: str) -> None:
    edge_index = GRAPHS[name]
    num_nodes = nodes_of(edge_index)
    reference, subject = pair(16, 32, torch.float32)
    x = torch.randn(num_nodes, 16)
    exact = loop(x.double(), edge_index, reference.double())
    actual = subject(x, NeighbourPlan.from_edge_index(edge_index, num_nodes))
    assert (actual - exact).abs().max() < 1e-6


@pytest.mark.parametrize("name", ["mixed", "alike"])
def test_gradcheck(name: str) -> None:
    edge_index = GRAPHS[name]
    num_nodes = nodes_of(edge_index)
    shared = NeighbourPlan.from_edge_index(edge_index, num_nodes)
    apart = NeighbourPlan.from_edge_index(edge_index, num_nodes, share=False)
    torch.manual_seed(0)
    x = torch.randn(num_nodes, 2, dtype=torch.float64, requires_grad=True)
    weights = [torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((12, 2), (12, 3), (12,))]
    edge_weight = torch.rand(edge_index.size(1), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *w: graph_lstm(x, shared, *w), (x, *weights), fast_mode=True)
    assert torch.autograd.gradcheck(lambda x, *w: graph_lstm(x, apart, *w), (x, *weights, edge_weight), fast_mode=True)


@pytest.mark.parametrize("name", ["mixed", "repeated edges", "alike"])
def test_edge_weights_scale_what_each_edge_brings(name: str) -> None:
    edge_index = GRAPHS[name]
    num_nodes = nodes_of(edge_index)
    reference, subject = pair(3, 4, torch.float64)
    x = torch.randn(num_nodes, 3, dtype=torch.float64)
    weight = torch.rand(edge_index.size(1), dtype=torch.float64, requires_grad=True)
    plan = NeighbourPlan.from_edge_index(edge_index, num_nodes, share=False)
    expected, actual = loop(x, edge_index, reference, weight), subject(x, plan, weight)
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-10)
    wanted, got = (torch.autograd.grad(out.square().sum(), weight)[0] for out in (expected, actual))
    torch.testing.assert_close(got, wanted, atol=1e-12, rtol=1e-8)
    torch.testing.assert_close(subject(x, plan, torch.ones_like(weight)), subject(x, plan))


def test_edge_weights_refuse_shared_states() -> None:
    plan = NeighbourPlan.from_edge_index(GRAPHS["alike"], 51)
    with pytest.raises(NeighbourPlanError, match="share=False"):
        NeighbourLSTM(2, 3)(torch.randn(51, 2), plan, torch.ones(GRAPHS["alike"].size(1)))


@pytest.mark.parametrize("name", GRAPHS)
def test_shuffled_columns_read_alike(name: str) -> None:
    edge_index = GRAPHS[name]
    num_nodes = nodes_of(edge_index)
    subject, x = NeighbourLSTM(3, 4), torch.randn(nodes_of(edge_index), 3)
    shuffled = edge_index[:, torch.randperm(edge_index.size(1))]
    one = subject(x, NeighbourPlan.from_edge_index(edge_index, num_nodes))
    other = subject(x, NeighbourPlan.from_edge_index(shuffled, num_nodes))
    torch.testing.assert_close(one, other, atol=0, rtol=0)


def test_backward_twice_gives_the_same() -> None:
    subject, edge_index = NeighbourLSTM(3, 4), GRAPHS["alike"]
    out = subject(torch.randn(51, 3), NeighbourPlan.from_edge_index(edge_index, 51)).square().sum()
    first = torch.autograd.grad(out, subject.weight_hh_l0, retain_graph=True)[0]
    second = torch.autograd.grad(out, subject.weight_hh_l0)[0]
    torch.testing.assert_close(first, second, atol=0, rtol=0)


def test_autocast_keeps_the_weights_precision() -> None:
    subject, edge_index = NeighbourLSTM(8, 8), GRAPHS["mixed"]
    x, plan = torch.randn(41, 8, requires_grad=True), NeighbourPlan.from_edge_index(edge_index, 41)
    with torch.autocast("cpu", torch.bfloat16):
        out = subject(x, plan)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, subject(x, plan), atol=0.03, rtol=0.03)
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_sharing_spares_states() -> None:
    same = NeighbourPlan.from_edge_index(GRAPHS["same"], 30)
    assert [level.source.tolist() for level in same.levels] == [[0], [1], [2], [3]]
    assert same.num_states == 4
    apart = NeighbourPlan.from_edge_index(GRAPHS["same"], 30, share=False)
    assert apart.num_states == GRAPHS["same"].size(1)
    different = torch.stack([torch.arange(12), torch.arange(12).div(3, rounding_mode="floor")])
    assert NeighbourPlan.from_edge_index(different, 12).edge is not None  # nothing to share


def test_a_regular_graph_needs_no_copies_between_levels() -> None:
    plan = NeighbourPlan.from_edge_index(GRAPHS["regular"], 40, share=False)
    assert [level.source.numel() for level in plan.levels] == [40] * 4
    assert all(level.parent is None for level in plan.levels)
    assert plan.levels[-1].nodes.tolist() == list(range(40))


def test_a_hub_costs_its_own_tail() -> None:
    plan = NeighbourPlan.from_edge_index(GRAPHS["hub"], 60, share=False)
    assert [level.source.numel() for level in plan.levels] == [60] * 3 + [1] * 57


class TestOrder:
    star = torch.tensor([[0, 1, 2, 3], [4, 4, 4, 4]])

    def sequence(self, **options: object) -> list[int]:
        plan = NeighbourPlan.from_edge_index(self.star.flip(1), 5, share=False, **options)
        return [int(level.source) for level in plan.levels]

    def test_time(self) -> None:
        assert self.sequence() == [0, 1, 2, 3]

    def test_similarity_reads_the_most_similar_last(self) -> None:
        x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [2.0, 0.0]])
        assert self.sequence(order="similarity", x=x) == [1, 3, 2, 0]

    def test_random_is_drawn_from_torch(self) -> None:
        torch.manual_seed(0)
        drawn = {tuple(self.sequence(order="random", seeded=False)) for _ in range(20)}
        assert len(drawn) > 5
        torch.manual_seed(0)
        assert {tuple(self.sequence(order="random", seeded=False)) for _ in range(20)} == drawn

    def test_seeded_random_is_fixed_and_does_not_depend_on_the_batch(self) -> None:
        alone = self.sequence(order="random", seeded=True)
        assert alone == self.sequence(order="random", seeded=True)
        assert alone != [0, 1, 2, 3]
        batch = torch.cat([self.star, self.star + 5], dim=1)
        plan = NeighbourPlan.from_edge_index(batch, 10, order="random", seeded=True, share=False)
        sequences = torch.stack([level.source for level in plan.levels], dim=1).tolist()
        assert sequences == [alone, [source + 5 for source in alone]]


@pytest.mark.parametrize(
    ("edge_index", "options", "message"),
    [
        (torch.zeros(3, 2, dtype=torch.int64), {}, "int64 \\[2, edges\\]"),
        (torch.zeros(2, 2), {}, "int64 \\[2, edges\\]"),
        (torch.tensor([[0], [7]]), {}, "node 7 of 5"),
        (torch.tensor([[-1], [2]]), {}, "node -1 of 5"),
        (torch.tensor([[0], [1]]), {"order": "similarity"}, "give x"),
        (torch.tensor([[0], [1]]), {"order": "tiem"}, "time, similarity, random"),
    ],
)
def test_bad_edges_are_named(edge_index: Tensor, options: dict[str, str], message: str) -> None:
    with pytest.raises(NeighbourPlanError, match=message):
        NeighbourPlan.from_edge_index(edge_index, 5, **options)
