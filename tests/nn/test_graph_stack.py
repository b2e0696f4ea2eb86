"""Graph layers of HemoGAT against PyG's, and closed forms."""

from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GATv2Conv, GCNConv, HeteroConv, SAGEConv
from torch_geometric.utils import add_self_loops, remove_self_loops

from graphophone.errors import GraphophoneError
from graphophone.nn.graph_attention import Neighbourhoods
from graphophone.nn.graph_attention_v2 import GraphAttentionV2
from graphophone.nn.graph_stack import GNN, GraphStack
from graphophone.nn.typed_stack import TypedStack

LAYERS = {"gat": GATConv, "gatv2": GATv2Conv, "gcn": GCNConv, "sage": SAGEConv}


def example(count: int = 30, width: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, width, generator=generator)
    edges = torch.randint(count, (2, 5 * count), generator=generator).unique(dim=1)
    return x, remove_self_loops(edges)[0]


def stack(gnn: GNN, **options: object) -> GraphStack:
    torch.manual_seed(0)
    made = GraphStack(6, 8, gnn=gnn, **options)  # type: ignore[arg-type]
    for name, parameter in made.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    return made


@pytest.mark.parametrize("gnn", LAYERS)
def test_every_layer_is_that_of_pyg(gnn: GNN) -> None:
    """Layer, normalisation, activation, sum with the input: written out with PyG's layers and the same weights."""
    mine = stack(gnn, dropout=0.0, num_layers=3).train()
    x, edges = example()
    h = x
    looped = add_self_loops(edges, num_nodes=len(x))[0]
    for number, conv in enumerate(mine.convs):
        last = number == 2
        options = {"heads": 4, "concat": not last} if gnn in ("gat", "gatv2") else {}
        if gnn != "sage":
            options["add_self_loops"] = gnn != "gcn"
        theirs = LAYERS[gnn](h.shape[1], 8, **options)
        theirs.load_state_dict(conv.state_dict())
        out = theirs(h, looped if gnn in ("gcn", "sage") else edges)
        if not last:
            norm = nn.BatchNorm1d(out.shape[1])
            norm.load_state_dict(mine.norms[number].state_dict())
            out = F.leaky_relu(norm(out), 0.01)
        h = out + h if number == 1 else out
    torch.testing.assert_close(mine(x, edges), h, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("concat", [False, True])
def test_gradients_of_gatv2_are_those_of_pyg(concat: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphophone.nn.graph_attention_v2.EDGES", 7)
    torch.manual_seed(0)
    mine = GraphAttentionV2(6, 5, heads=3, concat=concat)
    theirs = GATv2Conv(6, 5, heads=3, concat=concat, add_self_loops=False)
    theirs.load_state_dict(mine.state_dict())
    x, edges = example()
    edges = add_self_loops(edges, num_nodes=len(x))[0]
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [layer(value, edges) for layer, value in zip((mine, theirs), inputs, strict=True)]
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-4)
    weight = torch.randn_like(outputs[0])
    for out in outputs:
        (out * weight).sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, atol=1e-5, rtol=1e-4)
    for (name, one), (_, other) in zip(mine.named_parameters(), theirs.named_parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-4, rtol=1e-4, msg=name)


def test_attention_to_oneself_is_linear() -> None:
    mine = stack("gat", num_layers=1, last_heads=3)
    x, _ = example()
    conv = mine.convs[0]
    weight = conv.get_parameter("lin.weight").view(3, 8, 6).mean(dim=0)
    expected = x @ weight.T + conv.get_parameter("bias")
    torch.testing.assert_close(mine(x, torch.empty(2, 0, dtype=torch.int64)), expected, atol=1e-5, rtol=1e-4)


def test_attention_without_preference_is_a_mean() -> None:
    mine = stack("gat", num_layers=1, last_heads=1)
    conv = mine.convs[0]
    nn.init.zeros_(conv.get_parameter("att_src"))
    nn.init.zeros_(conv.get_parameter("att_dst"))
    x, edges = example()
    heard = torch.eye(len(x))
    heard[edges[1], edges[0]] = 1
    states = x @ conv.get_parameter("lin.weight").T
    expected = heard @ states / heard.sum(dim=1, keepdim=True) + conv.get_parameter("bias")
    torch.testing.assert_close(mine(x, edges), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("gnn", LAYERS)
def test_equal_nodes_of_equal_degree_stay_equal(gnn: GNN) -> None:
    ring = torch.stack([torch.arange(9), torch.arange(9).roll(1)])
    found = stack(gnn).eval()(torch.randn(1, 6).expand(9, 6), torch.cat([ring, ring.flip(0)], dim=1))
    torch.testing.assert_close(found, found[:1].expand_as(found), atol=1e-5, rtol=1e-4)
    assert found.abs().max() > 0.01


def test_one_normalisation_for_all() -> None:
    shared, apart = stack("gat", num_layers=4, shared_norm=True), stack("gat", num_layers=4)
    assert [len(made.norms) for made in (shared, apart, stack("gat", norm="none"), stack("gat", num_layers=1))] == [
        1, 3, 0, 0,
    ]  # fmt: skip
    x, edges = example()
    before = {key: value.clone() for key, value in apart.state_dict().items() if "running_mean" in key}
    apart.train()(x, edges)
    assert all(not torch.equal(apart.state_dict()[key], value) for key, value in before.items())
    shared.train()(x, edges)
    assert int(shared.state_dict()["norms.0.num_batches_tracked"]) == 3


class TestTyped:
    """Against PyG's layers by relation."""

    WIDTHS: ClassVar[dict[str, int]] = {"text": 4, "audio": 6}

    def relations(self, count: int = 20) -> dict[tuple[str, str, str], Tensor]:
        generator = torch.Generator().manual_seed(4)
        near = [torch.randint(count, (2, 60), generator=generator).unique(dim=1) for _ in range(2)]
        loops = torch.arange(count).expand(2, -1)
        near = [torch.cat([remove_self_loops(edges)[0], loops], dim=1) for edges in near]
        return {
            ("text", "near", "text"): near[0],
            ("audio", "near", "audio"): near[1],
            ("text", "same", "audio"): loops,
            ("audio", "same", "text"): loops,
        }

    @pytest.mark.parametrize("layers", [1, 2])
    def test_it_is_a_sum_over_relations(self, layers: int) -> None:
        torch.manual_seed(0)
        mine = TypedStack(self.WIDTHS, 8, num_layers=layers, dropout=0.0).train()
        edges = self.relations()
        x = torch.randn(20, 10)
        h = {"text": x[:, :4], "audio": x[:, 4:]}
        for number in range(layers):
            last = number == layers - 1
            convs = {}
            for source, kind, target in edges:
                near = kind == "near"
                widths = h[source].shape[1] if near else (h[source].shape[1], h[target].shape[1])
                conv = GATConv(widths, 8, heads=4, concat=not last, add_self_loops=False, bias=near)
                if near:
                    conv.load_state_dict(mine.get_submodule(f"near.{source}.convs.{number}").state_dict())
                else:  # a mean over equal heads is any of them
                    weight = mine.get_parameter(f"across.{target}.{number}.weight")
                    conv.lin_src.weight.data.copy_(weight.repeat(4, 1) if last else weight)
                convs[source, kind, target] = conv
            out = HeteroConv(convs, aggr="sum")(h, edges)
            h = out if last else {
                name: F.leaky_relu(nn.BatchNorm1d(value.shape[1])(value), 0.01) for name, value in out.items()
            }  # fmt: skip
        expected = torch.cat([h["text"], h["audio"]], dim=1)
        torch.testing.assert_close(mine(x, edges), expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(mine(x, mine.plan(edges, 20)), expected, atol=1e-5, rtol=1e-4)

    def test_without_a_relation(self) -> None:
        edges = self.relations()
        del edges["audio", "near", "audio"]
        with pytest.raises(GraphophoneError, match="audio, near, audio"):
            TypedStack(self.WIDTHS, 8)(torch.randn(20, 10), edges)


class TestAnswers:
    """New nodes beside known ones, whose messages are ready."""

    def links(self) -> Tensor:
        generator = torch.Generator().manual_seed(3)
        return torch.stack([torch.randint(30, (20,), generator=generator), torch.arange(5).repeat(4)]).unique(dim=1)

    @pytest.mark.parametrize("layers", [1, 3])
    @pytest.mark.parametrize("gnn", LAYERS)
    def test_shares_of_edges_are_those_in_one_graph(self, gnn: GNN, layers: int) -> None:
        """Weights of edges, and the gradients to them, as where known and new nodes lie in one graph."""
        made = stack(gnn, num_layers=layers).eval()
        x, edges = example()
        new, links = torch.randn(5, 6), self.links()
        weight = torch.rand(links.shape[1])
        direction = torch.randn(5, 8)
        mine = weight.clone().requires_grad_()
        found = made.answer(new, made.states(x, edges), links, mine)
        (found * direction).sum().backward()
        whole = weight.clone().requires_grad_()
        beside = links + torch.tensor([[0], [len(x)]])
        together = made(
            torch.cat([x, new]), torch.cat([edges, beside], dim=1), torch.cat([torch.ones(edges.shape[1]), whole])
        )[len(x) :]
        (together * direction).sum().backward()
        torch.testing.assert_close(found, together, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(mine.grad, whole.grad, atol=1e-5, rtol=1e-4)
        assert mine.grad is not None
        assert mine.grad.abs().max() > 1e-3

    def test_known_nodes_are_multiplied_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An answer multiplies the rows of new nodes only, however many neighbours they have."""
        made = stack("gat").eval()
        x, edges = example()
        bank = made.states(x, edges)
        rows = []
        for conv in made.convs:
            lin = conv.get_submodule("lin")
            lin.register_forward_hook(lambda module, inputs, output: rows.append(len(inputs[0])))
        made.answer(torch.randn(5, 6), bank, self.links())
        assert rows == [5, 5, 5]

    @pytest.mark.parametrize("gnn", LAYERS)
    def test_a_plan_goes_to_a_device(self, gnn: GNN) -> None:
        x, edges = example()
        plan = stack(gnn).plan(edges, len(x))
        matrix = plan.places if isinstance(plan, Neighbourhoods) else plan
        moved = plan.to("meta")
        there = moved.places if isinstance(moved, Neighbourhoods) else moved
        assert there.device.type == "meta"
        for part in (there.pattern.row, there.pattern.column, there.pattern.order, *there.pattern.by_row):
            assert part.device.type == "meta"
        assert all(part.device.type == "meta" for part in there.pattern.by_column)
        assert matrix.device.type == "cpu"
        assert torch.equal(stack(gnn).eval()(x, plan.to("cpu")), stack(gnn).eval()(x, plan))
