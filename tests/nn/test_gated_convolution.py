from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn import GATConv, GCNConv, MessagePassing
from torch_geometric.utils import scatter, softmax

from graphophone.errors import GraphophoneError
from graphophone.nn.dialogue import DialogueGraph, EdgeTables
from graphophone.nn.edge_gate import HardConcreteGate
from graphophone.nn.gated_convolution import (
    GatedGAT,
    GatedGCN,
    GatedLayer,
    GatedStack,
    MultiFrequencyConv,
    edge_norms,
)

LAYERS: list[type[GatedLayer]] = [GatedGCN, GatedGAT, MultiFrequencyConv]
GRAPHS: list[dict[str, int | None]] = [{}, {"past": 2, "future": 1}, {"future": 0}]


class EdgeListTwin(MessagePassing):
    """A gated layer on a list of edges: both ends of every edge are put side by side, as the equations have it."""

    def __init__(self, layer: GatedLayer) -> None:
        super().__init__(aggr="sum")
        self.layer = layer

    def forward(self, x: Tensor, edge_index: Tensor, kinds: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
        z = x if self.layer.lin is None else self.layer.lin(x)
        gates, penalty = self.gates(z, edge_index, kinds)
        out = self.propagate(edge_index, x=z, weight=self.weights(z, edge_index, gates, causal))
        return x + out if isinstance(self.layer, MultiFrequencyConv) else out, penalty

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        return weight[:, None] * x_j

    def gates(self, z: Tensor, edge_index: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor]:
        gate = self.layer.gate
        if gate is None:
            return z.new_ones(edge_index.shape[1]), z.new_zeros(())
        q = gate.shared(z)
        scores = gate.score(torch.cat([q[edge_index[0]], q[edge_index[1]]], dim=1))
        scores = scores.gather(1, kinds[:, None]).squeeze(1)
        return gate.gates(scores), torch.sigmoid(
            scores - gate.temperature * torch.tensor(-gate.gamma / gate.zeta).log()
        ).mean()

    def weights(self, z: Tensor, edge_index: Tensor, gates: Tensor, causal: bool) -> Tensor:
        source, target = edge_index
        pairs = torch.cat([z[target], z[source]], dim=1)
        if isinstance(self.layer, GatedGAT):
            logits = F.leaky_relu((pairs * self.layer.attention.weight.flatten()).sum(dim=1), 0.2)
            return softmax(logits, target, num_nodes=len(z)) * gates
        weight = gates * self.norms(edge_index, gates, len(z), causal)
        if isinstance(self.layer, MultiFrequencyConv):
            weight = weight * self.layer.frequency(pairs).squeeze(1).tanh()
        return weight

    def norms(self, edge_index: Tensor, gates: Tensor, count: int, causal: bool) -> Tensor:
        counted = gates if self.layer.degree == "soft" else (gates.detach() != 0).to(gates.dtype)
        ends = edge_index[0] if self.layer.degree == "out" and not causal else edge_index[1]
        degree = scatter(counted, ends, dim_size=count, reduce="sum")
        r = torch.zeros_like(degree)
        r[degree > 0] = degree[degree > 0].pow(-0.5).clamp(max=1.5)
        if self.layer.degree == "out":
            r[degree == 0] = 1.5
        return r[edge_index[0]] * r[edge_index[1]]


def build(kind: type[GatedLayer], *, gated: bool, seed: int = 0, **options: Any) -> GatedLayer:
    torch.manual_seed(seed)
    gate = HardConcreteGate(6, temperature=1.3) if gated else None
    return kind(6, gate=gate, **options).double().eval()


@pytest.mark.parametrize("window", GRAPHS)
@pytest.mark.parametrize("degree", ["in", "out", "soft"])
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("kind", LAYERS)
def test_dense_layers_are_their_edge_list_twins(
    make_dialogues: Callable[..., Any],
    kind: type[GatedLayer],
    gated: bool,
    degree: str,
    window: dict[str, int | None],
) -> None:
    dialogues = make_dialogues([5, 1, 3, 7], missing=0.2, seed=3)
    graph = dialogues.graph(**window)
    layer = build(kind, gated=gated, degree=degree)
    edge_index, kinds, nodes = graph.edge_list()
    dense_x, list_x = dialogues.x.clone().requires_grad_(), dialogues.x.clone().requires_grad_()
    found = layer(dense_x, graph)
    out, penalty = EdgeListTwin(layer)(list_x[tuple(nodes.T)], edge_index, kinds, graph.future is not None)
    torch.testing.assert_close(found.x[tuple(nodes.T)], out)
    torch.testing.assert_close(found.penalty, penalty)
    assert not found.x[~graph.present].any()
    parameters = list(layer.parameters())
    toward = torch.randn_like(out)
    mine = torch.autograd.grad(
        (found.x[tuple(nodes.T)] * toward).sum() + found.penalty, [dense_x, *parameters], allow_unused=True
    )
    theirs = torch.autograd.grad((out * toward).sum() + penalty, [list_x, *parameters], allow_unused=True)
    for one, other in zip(mine, theirs, strict=True):
        assert one is not None, "a parameter is not used"
        assert other is not None
        torch.testing.assert_close(one, other)


def test_gates_of_the_twin_test_are_of_every_sort(make_dialogues: Callable[..., Any]) -> None:
    dialogues = make_dialogues([5, 1, 3, 7], missing=0.2, seed=3)
    layer = build(GatedGCN, gated=True)
    assert layer.gate is not None
    assert layer.lin is not None
    gates, _ = layer.gate(layer.lin(dialogues.x), dialogues.graph())
    values = gates.within[dialogues.graph().within]
    assert (values == 0).any()
    assert (values > 0).any()


@pytest.mark.parametrize("window", GRAPHS)
def test_without_gates_convolution_is_that_of_pyg(
    make_dialogues: Callable[..., Any], window: dict[str, int | None]
) -> None:
    dialogues = make_dialogues([4, 6], missing=0.2)
    graph = dialogues.graph(**window)
    layer = build(GatedGCN, gated=False)
    stock = GCNConv(6, 6, bias=False, add_self_loops=False).double()
    assert layer.lin is not None
    stock.lin.weight.data.copy_(layer.lin.weight)
    edge_index, _, nodes = graph.edge_list()
    expected = stock(dialogues.x[tuple(nodes.T)], edge_index)
    torch.testing.assert_close(layer(dialogues.x, graph).x[tuple(nodes.T)], expected)


@pytest.mark.parametrize("window", GRAPHS)
def test_without_gates_attention_is_that_of_pyg(
    make_dialogues: Callable[..., Any], window: dict[str, int | None]
) -> None:
    dialogues = make_dialogues([4, 6], missing=0.2)
    graph = dialogues.graph(**window)
    layer = build(GatedGAT, gated=False)
    stock = GATConv(6, 6, heads=1, bias=False, add_self_loops=False).double()
    assert layer.lin is not None
    assert isinstance(layer, GatedGAT)
    stock.lin.weight.data.copy_(layer.lin.weight)
    stock.att_dst.data.copy_(layer.attention.weight[:, None, :6])
    stock.att_src.data.copy_(layer.attention.weight[:, None, 6:])
    edge_index, _, nodes = graph.edge_list()
    expected = stock(dialogues.x[tuple(nodes.T)], edge_index)
    torch.testing.assert_close(layer(dialogues.x, graph).x[tuple(nodes.T)], expected)


def opened(gate: HardConcreteGate, score: float) -> HardConcreteGate:
    torch.nn.init.zeros_(gate.score.weight)
    torch.nn.init.constant_(gate.score.bias, score)
    return gate


def test_open_gates_make_a_plain_graph_convolution(make_dialogues: Callable[..., Any]) -> None:
    turns = 5
    dialogues = make_dialogues([turns])
    layer = GatedGCN(6, gate=opened(HardConcreteGate(6), 50.0)).double().eval()
    found = layer(dialogues.x, dialogues.graph(), weights=True)
    assert layer.lin is not None
    z = layer.lin(dialogues.x)[0]
    expected = (z.sum(dim=1, keepdim=True) + z.sum(dim=0, keepdim=True) - 2 * z) / (turns + 1)
    torch.testing.assert_close(found.x[0], expected)
    weights = found.edges.within[dialogues.graph().within]
    torch.testing.assert_close(weights, torch.full_like(weights, 1 / (turns + 1)))


@pytest.mark.parametrize("kind", [GatedGCN, GatedGAT])
@pytest.mark.parametrize("degree", ["in", "out", "soft"])
def test_shut_gates_bring_nothing(make_dialogues: Callable[..., Any], kind: type[GatedLayer], degree: Any) -> None:
    dialogues = make_dialogues([5, 2])
    layer = kind(6, gate=opened(HardConcreteGate(6), -50.0), degree=degree).double().eval()
    x = dialogues.x.requires_grad_()
    found = layer(x, dialogues.graph())
    assert not found.x.any()
    found.x.sum().backward()
    assert torch.isfinite(x.grad).all()


def test_without_signal_the_multi_frequency_layer_is_the_identity(make_dialogues: Callable[..., Any]) -> None:
    dialogues = make_dialogues([5, 2])
    layer = MultiFrequencyConv(6, gate=HardConcreteGate(6)).double()
    torch.nn.init.zeros_(layer.frequency.weight)
    torch.nn.init.zeros_(layer.frequency.bias)
    torch.testing.assert_close(layer(dialogues.x, dialogues.graph()).x, dialogues.x)


def test_norms_with_cut_edges_by_hand() -> None:
    # Three turns of one modality. Edges into turn 0: from 1; into 1: from 0 and 2; into 2: none.
    within = torch.tensor([[0, 0.5, 0], [1.0, 0, 0.25], [0, 0, 0]], dtype=torch.float64)[None, None]
    gates = EdgeTables(within, torch.zeros(1, 3, 1, 1, dtype=torch.float64))
    graph = DialogueGraph(torch.ones(1, 1, 3, dtype=torch.bool), torch.zeros(1, 3, dtype=torch.int64))

    def pairs(r: list[float]) -> Tensor:
        column = torch.tensor(r, dtype=torch.float64)
        return column[:, None] * column[None, :]

    torch.testing.assert_close(edge_norms(gates, graph, "in").within[0, 0], pairs([1, 2**-0.5, 0]))
    # Outgoing: turn 0 into 1; 1 into 0; 2 into 1.
    torch.testing.assert_close(edge_norms(gates, graph, "out").within[0, 0], pairs([1, 1, 1]))
    torch.testing.assert_close(edge_norms(gates, graph, "soft").within[0, 0], pairs([0.5**-0.5, 1.25**-0.5, 0]))
    silent = EdgeTables(within * torch.tensor([1.0, 0, 1]), gates.across)
    torch.testing.assert_close(edge_norms(silent, graph, "out").within[0, 0], pairs([1, 1.5, 1]))
    ahead = DialogueGraph(graph.present, graph.speaker, future=5)
    torch.testing.assert_close(edge_norms(gates, ahead, "out").within[0, 0], pairs([1, 2**-0.5, 1.5]))


def test_small_soft_degrees_are_bounded() -> None:
    within = torch.tensor([[0, 1e-9], [0, 0]], dtype=torch.float64)[None, None].requires_grad_()
    gates = EdgeTables(within, torch.zeros(1, 2, 1, 1, dtype=torch.float64))
    graph = DialogueGraph(torch.ones(1, 1, 2, dtype=torch.bool), torch.zeros(1, 2, dtype=torch.int64))
    norms = edge_norms(gates, graph, "soft")
    assert float(norms.within.detach().max()) == 2.25
    norms.within.sum().backward()
    assert torch.isfinite(within.grad).all()


def test_degrees_have_a_gradient_only_where_they_are_soft(make_dialogues: Callable[..., Any]) -> None:
    graph = make_dialogues([4]).graph()
    for degree, expected in (("in", False), ("out", False), ("soft", True)):
        gates = EdgeTables(
            (graph.within.double() * 0.5).requires_grad_(), (graph.across.double() * 0.5).requires_grad_()
        )
        assert edge_norms(gates, graph, degree).within.requires_grad is expected  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", LAYERS)
def test_attention_and_weights_lie_on_edges(make_dialogues: Callable[..., Any], kind: type[GatedLayer]) -> None:
    dialogues = make_dialogues([4, 2], missing=0.3)
    graph = dialogues.graph(future=0)
    layer = build(kind, gated=False)
    edges = layer(dialogues.x, graph, weights=True).edges
    assert not edges.within[~graph.within].any()
    assert not edges.across[~graph.across].any()
    assert not edges.within.requires_grad
    if kind is GatedGAT:
        hears = (graph.within.sum(3) + graph.across.sum(3).transpose(1, 2)) > 0
        torch.testing.assert_close(edges.into(), hears.double())
    assert layer(dialogues.x, graph).edges is None


def test_dropout_is_of_what_is_heard(make_dialogues: Callable[..., Any]) -> None:
    dialogues = make_dialogues([4])
    layer = MultiFrequencyConv(6, dropout=1.0).double().train()
    torch.testing.assert_close(layer(dialogues.x, dialogues.graph()).x, dialogues.x)


def test_a_stack_is_its_layers_in_turn(make_dialogues: Callable[..., Any]) -> None:
    dialogues = make_dialogues([4, 2])
    graph = dialogues.graph()
    for residual in (True, False):
        torch.manual_seed(0)
        stack = GatedStack(6, kind="gat", num_layers=3, residual=residual).double().eval()
        x, penalty, tables = dialogues.x, torch.zeros((), dtype=torch.float64), []
        for layer in stack.layers:
            found = layer(x, graph, weights=True)
            x, penalty = found.x + x if residual else found.x, penalty + found.penalty
            tables.append(found.edges.within)
        output = stack(dialogues.x, graph, weights=True)
        torch.testing.assert_close(output.x, x)
        torch.testing.assert_close(output.penalty, penalty)
        torch.testing.assert_close(output.edges.within, torch.stack(tables).mean(0))


def test_unknown_choices_are_refused() -> None:
    with pytest.raises(GraphophoneError, match="1 or more of gcn or gat"):
        GatedStack(6, kind="sage")  # type: ignore[arg-type]
    with pytest.raises(GraphophoneError, match="0 layers"):
        GatedStack(6, num_layers=0)
    with pytest.raises(GraphophoneError, match="degree 'both'"):
        GatedGCN(6, degree="both")  # type: ignore[arg-type]


@pytest.mark.parametrize("bias", [-1.0, 0.0, 1.0])
def test_mean_gates_let_as_much_through_as_drawn_ones(make_dialogues: Callable[..., Any], bias: float) -> None:
    dialogues = make_dialogues([12])
    graph = dialogues.graph()
    torch.manual_seed(0)
    layer = GatedGCN(6, gate=HardConcreteGate(6, temperature=1.5, answer="mean")).double()
    assert layer.gate is not None
    torch.nn.init.constant_(layer.gate.score.bias, bias)
    x = dialogues.x + 1
    with torch.no_grad():
        drawn = torch.stack([layer(x, graph).x for _ in range(100)]).mean(dim=0)
        answer = layer.eval()(x, graph).x
    assert float((answer * drawn).sum() / drawn.square().sum()) == pytest.approx(1, abs=0.1)
