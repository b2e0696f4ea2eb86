"""HemoGAT: sizes, presets, parity with a transcription of the equations, variants, answers from a bank."""

import itertools
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphophone.errors import GraphophoneError
from graphophone.graphs.modal import bank_edges, modal_edges, typed_edges
from graphophone.models import ModelError, create_model, load_model
from graphophone.models.hemogat import HemoGAT, _say_pooled

PUBLISHED = {"text": 768, "audio": 768}
WIDTHS = {"text": 7, "audio": 5}
GNNS = ("gat", "gcn", "sage", "gatv2")
VARIANTS: tuple[dict[str, Any], ...] = (
    *({"gnn": gnn} for gnn in GNNS),
    {"preset": "reference"},
    {"preset": "reference", "gnn": "gcn", "num_layers": 4},
    {"num_layers": 1},
    {"num_layers": 4, "last_activation": "elu"},
    {"residual": False, "norm": "none"},
    {"node_features": "raw"},
    {"node_features": "raw", "cmt": False},
    {"hm_gat": False},
    {"cmt": False},
    {"hm_gat": False, "cmt": False},
    {"modality": "audio"},
    {"modality": "text"},
    {"modality": "text", "cmt": False},
    {"modality": "audio", "unimodal_fill": "zeros"},
    {"graph": "typed"},
    {"graph": "typed", "gnn": "gcn"},
    {"graph": "typed", "num_layers": 1, "node_features": "raw"},
)


def words(options: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in options.items())


def create(**options: Any) -> HemoGAT:
    torch.manual_seed(0)
    options = {"in_channels": WIDTHS, "num_classes": 3, "hidden_channels": 16, "cmt_axis": "pooled", **options}
    model = create_model("hemogat", **options)
    assert isinstance(model, HemoGAT)
    moved = torch.Generator().manual_seed(1)
    for module in model.modules():  # statistics that say nothing would hide that they are not used
        if isinstance(module, nn.BatchNorm1d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=moved) * 0.1)
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=moved) + 0.5)
    return model.eval()


def inputs(count: int = 24, seed: int = 0, model: HemoGAT | None = None) -> tuple[Tensor, Any]:
    """Vectors, and edges among them; by modality for a typed graph."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, sum(WIDTHS.values()), generator=generator)
    edges = [torch.randint(count, (2, 4 * count), generator=generator).unique(dim=1) for _ in range(2)]
    return x, edges[0] if model is None or not model.typed else by_relation(*edges)


def by_relation(text: Tensor, audio: Tensor) -> dict[tuple[str, str, str], Tensor]:
    return {("text", "near", "text"): text, ("audio", "near", "audio"): audio}


def moved(edges: Any, place: Tensor) -> Any:
    return {name: place[part] for name, part in edges.items()} if isinstance(edges, dict) else place[edges]


def of_row(edges: Tensor, row: int) -> Tensor:
    """Edges to one new utterance, as if it were the only one."""
    source = edges[0, edges[1] == row]
    return torch.stack([source, torch.zeros_like(source)])


def joined(first: Any, second: Any) -> Any:
    if isinstance(first, dict):
        return {name: torch.cat([first[name], second[name]], dim=1) for name in first}
    return torch.cat([first, second], dim=1)


# ---------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"num_classes": 4}, 11_566_084),
        ({"num_classes": 7}, 11_567_623),
        ({"num_layers": 1}, 7_365_636),
        ({"num_layers": 2}, 7_365_636),
        ({"num_layers": 4}, 15_766_532),
        ({"gnn": "gcn"}, 5_259_268),
        ({"gnn": "sage"}, 6_307_844),
        ({"preset": "clean", "cmt_axis": "pooled"}, 14_718_980),
    ],
)
def test_numbers_of_parameters(options: dict[str, Any], count: int) -> None:
    options = {"num_classes": 4, "preset": "reference", **options}
    with torch.device("meta"):
        assert create_model("hemogat", in_channels=PUBLISHED, **options).num_parameters() == count


def test_gaps_between_graph_layers() -> None:
    with torch.device("meta"):
        size = {
            gnn: HemoGAT(in_channels=PUBLISHED, num_classes=4, preset="reference", gnn=gnn).num_parameters()
            for gnn in ("gat", "gcn", "sage")
        }
    assert size["gat"] - size["gcn"] == 6_306_816
    assert size["sage"] - size["gcn"] == 1_048_576


def test_every_depth_is_another_network_but_in_the_reference() -> None:
    assert len({create(num_layers=layers).num_parameters() for layers in (1, 2, 3, 4)}) == 4
    x, edges = inputs()
    one, two = (create(preset="reference", num_layers=layers) for layers in (1, 2))
    assert torch.equal(one(x, edges), two(x, edges))
    assert not torch.equal(create(num_layers=1)(x, edges), create(num_layers=2)(x, edges))


# ---------------------------------------------------------------------- parity


class Transcription(nn.Module):
    """The equations of the paper as the released code has them, on dense matrices, for ``reference``."""

    def __init__(self, text: int, audio: int, hidden: int, heads: int, layers: int, classes: int) -> None:
        super().__init__()
        self.heads, self.layers, wide = heads, layers, hidden * heads
        self.text_in, self.text_bn = nn.Linear(text, hidden), nn.BatchNorm1d(hidden)
        self.audio_in, self.audio_bn = nn.Linear(audio, hidden), nn.BatchNorm1d(hidden)
        self.w, self.source, self.target, self.b = (nn.ParameterList() for _ in range(4))
        for layer in range(layers):
            count = 1 if layer == layers - 1 else heads
            self.w.append(torch.randn(count * hidden, 2 * hidden if layer == 0 else wide))
            self.source.append(torch.randn(count, hidden))
            self.target.append(torch.randn(count, hidden))
            self.b.append(torch.randn(count * hidden))
        self.graph_bn = nn.BatchNorm1d(wide)
        self.ask_text = nn.MultiheadAttention(hidden, heads, batch_first=True)
        self.ask_audio = nn.MultiheadAttention(hidden, heads, batch_first=True)
        self.lin_text, self.lin_audio = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.ln_text, self.ln_audio = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.fuse, self.fuse_ln, self.out = (
            nn.Linear(3 * hidden, hidden),
            nn.LayerNorm(hidden),
            nn.Linear(hidden, classes),
        )

    def attend(self, layer: int, x: Tensor, adjacency: Tensor) -> Tensor:
        """Equations 7 to 10; ``adjacency[i, j]`` says that i hears j."""
        count = len(self.source[layer])
        states = (x @ self.w[layer].T).reshape(len(x), count, -1)
        e = torch.einsum("nhc,hc->nh", states, self.target[layer])[:, None]
        e = F.leaky_relu(e + torch.einsum("nhc,hc->nh", states, self.source[layer])[None], 0.2)
        alpha = e.masked_fill(~adjacency[..., None], -torch.inf).softmax(dim=1)
        return torch.einsum("ijh,jhc->ihc", alpha, states).flatten(1) + self.b[layer]

    def cross(self, asks: nn.Module, lin: nn.Module, ln: nn.Module, own: Tensor, other: Tensor) -> Tensor:
        """Equations 11 and 12 on sequences of one."""
        heard = asks(own[:, None], other[:, None], other[:, None], need_weights=False)[0][:, 0]
        return ln(lin(heard) + own)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        text, audio = x[:, : self.text_in.in_features], x[:, self.text_in.in_features :]
        t = F.relu(self.text_bn(self.text_in(text)))
        a = F.relu(self.audio_bn(self.audio_in(audio)))
        adjacency = torch.eye(len(x), dtype=torch.bool)
        adjacency[edges[1], edges[0]] = True
        h = F.leaky_relu(self.graph_bn(self.attend(0, torch.cat([t, a], dim=1), adjacency)), 0.01)
        for layer in range(1, self.layers - 1):
            h = h + F.leaky_relu(self.graph_bn(self.attend(layer, h, adjacency)), 0.01)
        g = self.attend(self.layers - 1, h, adjacency)
        t_star = self.cross(self.ask_text, self.lin_text, self.ln_text, t, a)
        a_star = self.cross(self.ask_audio, self.lin_audio, self.ln_audio, a, t)
        return self.out(F.relu(self.fuse_ln(self.fuse(torch.cat([g, a_star, t_star], dim=1)))))


def names(layers: int) -> dict[str, str]:
    """Names in the transcription of the parts of the model."""
    found = {
        "projections.text.0": "text_in",
        "projections.text.1": "text_bn",
        "projections.audio.0": "audio_in",
        "projections.audio.1": "audio_bn",
        "graph.norms.0": "graph_bn",
        "classifier.0": "fuse",
        "classifier.1": "fuse_ln",
        "classifier.4": "out",
    }
    for name in ("text", "audio"):
        found |= {
            f"cross.{name}.attention": f"ask_{name}",
            f"cross.{name}.linear": f"lin_{name}",
            f"cross.{name}.norm": f"ln_{name}",
        }
    for layer in range(layers):
        for mine, theirs in (("lin.weight", "w"), ("att_src", "source"), ("att_dst", "target"), ("bias", "b")):
            found[f"graph.convs.{layer}.{mine}"] = f"{theirs}.{layer}"
    return found


def renamed(name: str, layers: int) -> str:
    """The name in the transcription of a tensor of the model."""
    table = names(layers)
    part = next(prefix for prefix in table if name == prefix or name.startswith(f"{prefix}."))
    return table[part] + name[len(part) :]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("layers", [2, 3, 4])
def test_parity_with_a_transcription(layers: int, training: bool) -> None:
    model = create(preset="reference", num_layers=layers, dropout=0.0).train(training)
    plain = Transcription(7, 5, 16, 4, layers, 3).train(training)
    theirs = plain.state_dict()
    ours = model.state_dict()
    assert {renamed(name, layers) for name in ours} == set(theirs)
    plain.load_state_dict(
        {renamed(n, layers): value.view(theirs[renamed(n, layers)].shape) for n, value in ours.items()}
    )
    x, edges = inputs()
    found, expected = model(x, edges), plain(x, edges)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    y = torch.arange(len(x)) % 3
    F.cross_entropy(found, y).backward()
    F.cross_entropy(expected, y).backward()
    parameters = dict(plain.named_parameters())
    for name, parameter in model.named_parameters():
        other = parameters[renamed(name, layers)].grad
        assert parameter.grad is not None
        assert other is not None
        torch.testing.assert_close(parameter.grad, other.view(parameter.shape), atol=1e-5, rtol=1e-4)


def test_parity_at_the_published_size() -> None:
    torch.manual_seed(0)
    model = HemoGAT(in_channels=PUBLISHED, num_classes=4, preset="reference").eval()
    plain = Transcription(768, 768, 512, 4, 3, 4).eval()
    shapes = plain.state_dict()
    plain.load_state_dict({(n := renamed(name, 3)): v.view(shapes[n].shape) for name, v in model.state_dict().items()})
    x, edges = torch.randn(40, 1536), torch.randint(40, (2, 300)).unique(dim=1)
    with torch.no_grad():
        torch.testing.assert_close(model(x, edges), plain(x, edges), atol=1e-5, rtol=0)


# ---------------------------------------------------------------------- every variant


@pytest.mark.parametrize("options", VARIANTS, ids=words)
class TestEveryVariant:
    def test_gradients(self, options: dict[str, Any]) -> None:
        model = create(**options).train()
        x, edges = inputs(model=model)
        F.cross_entropy(model(x, edges), torch.arange(len(x)) % 3).backward()
        assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]

    def test_saving(self, options: dict[str, Any], tmp_path: Path) -> None:
        model = create(**options)
        model.save_pretrained(tmp_path)
        x, edges = inputs(model=model)
        again = load_model(tmp_path)
        assert again.config == model.config
        assert torch.equal(again(x, edges), model(x, edges))

    def test_the_order_of_utterances_does_not_matter(self, options: dict[str, Any]) -> None:
        model = create(**options)
        x, edges = inputs(model=model)
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
        found = model(x[order], moved(edges, order.argsort()))
        torch.testing.assert_close(found, model(x, edges)[order], atol=1e-5, rtol=1e-4)

    def test_planned_edges_are_the_same(self, options: dict[str, Any]) -> None:
        model = create(**options)
        x, edges = inputs(model=model)
        assert torch.equal(model(x, model.plan(edges, len(x))), model(x, edges))

    def test_a_new_utterance_among_known_ones(self, options: dict[str, Any]) -> None:
        """As in a graph of all, in which no edge leaves the new ones; alone as with others."""
        model = create(**options)
        x, edges = inputs(model=model)
        new, _ = inputs(6, seed=5)
        generator = torch.Generator().manual_seed(2)
        links = torch.stack([torch.randint(24, (18,), generator=generator), torch.arange(6).repeat(3)]).unique(dim=1)
        to_new: Any = by_relation(links, links[:, ::2]) if model.typed else links
        bank = model.states(x, edges)
        found = model.answer(new, bank, to_new)
        shift = torch.tensor([[0], [len(x)]])
        beside = {name: part + shift for name, part in to_new.items()} if model.typed else to_new + shift
        whole = model(torch.cat([x, new]), joined(edges, beside))
        torch.testing.assert_close(found, whole[len(x) :], atol=1e-5, rtol=1e-4)
        for row in range(6):
            only = {n: of_row(part, row) for n, part in to_new.items()} if model.typed else of_row(links, row)
            torch.testing.assert_close(model.answer(new[row : row + 1], bank, only)[0], found[row], atol=1e-6, rtol=0)

    def test_nothing_else_depends_on_a_row(self, options: dict[str, Any]) -> None:
        """Without edges, each utterance is on its own."""
        model = create(**options)
        x, _ = inputs()
        none = torch.empty(2, 0, dtype=torch.int64)
        edges: Any = by_relation(none, none) if model.typed else none
        other = x.clone()
        other[1] += 1
        change = (model(other, edges) - model(x, edges)).abs().amax(dim=1)
        assert change[1] > 1e-4
        assert change[torch.arange(len(x)) != 1].max() == 0


def test_same_seed_same_training() -> None:
    x, edges = inputs()
    y = torch.arange(len(x)) % 3
    found = []
    for _ in range(2):
        model = create().train()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(x, edges), y).backward()
            optimizer.step()
        found.append(model.eval()(x, edges))
    assert torch.equal(*found)


def test_it_can_learn_items_by_heart() -> None:
    x, edges = inputs(64)
    y = torch.randint(4, (64,), generator=torch.Generator().manual_seed(3))
    model = create(num_classes=4, hidden_channels=32, num_layers=2).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        F.cross_entropy(model(x, edges), y).backward()
        optimizer.step()
    assert (model.eval()(x, edges).argmax(dim=1) == y).float().mean() > 0.97


# ---------------------------------------------------------------------- what the options mean


@pytest.mark.parametrize("gnn", GNNS)
def test_messages_follow_edges(gnn: str) -> None:
    model = create(gnn=gnn, num_layers=1, cmt_axis="pooled")
    x, _ = inputs(2)
    edges = torch.tensor([[0], [1]])
    change = []
    for row in (0, 1):
        other = x.clone()
        other[row] += 1
        change.append((model(other, edges) - model(x, edges)).abs().amax(dim=1) > 1e-6)
    assert change[0].tolist() == [True, True]
    assert change[1].tolist() == [False, True]


@pytest.mark.parametrize("gnn", GNNS)
def test_a_self_loop_counts_once(gnn: str) -> None:
    model = create(gnn=gnn)
    x, edges = inputs()
    edges = edges[:, edges[0] != edges[1]]
    loops = torch.arange(len(x)).expand(2, -1)
    torch.testing.assert_close(model(x, torch.cat([edges, loops], dim=1)), model(x, edges))


@pytest.mark.parametrize("gnn", GNNS)
def test_weights_of_edges_scale_what_they_carry(gnn: str) -> None:
    model = create(gnn=gnn)
    x, edges = inputs()
    weight = torch.ones(edges.shape[1], requires_grad=True)
    torch.testing.assert_close(model(x, edges, weight), model(x, edges))
    share = torch.autograd.grad(model(x, edges, weight)[3, 0], weight)[0]
    step = torch.zeros_like(weight)
    heaviest = int(share.abs().argmax())
    step[heaviest] = 1e-3
    with torch.no_grad():
        slope = (model(x, edges, 1 + step) - model(x, edges, 1 - step))[3, 0] / 2e-3
    assert float(slope) == pytest.approx(float(share[heaviest]), rel=2e-2)
    with pytest.raises(GraphophoneError, match="planned"):
        model(x, model.plan(edges, len(x)), weight)


def test_what_is_classified() -> None:
    x, edges = inputs()
    assert create().embed(x, edges).shape == (24, 3 * 16)
    assert create(modality="audio").embed(x, edges).shape == (24, 2 * 16)
    assert create(modality="audio", unimodal_fill="zeros").embed(x, edges).shape == (24, 3 * 16)
    assert create(cmt=False).embed(x, edges).shape == (24, 16)
    bare = create(hm_gat=False, cmt=False)
    assert torch.equal(
        bare.embed(x, edges),
        torch.cat([bare.projections["text"](x[:, :7]), bare.projections["audio"](x[:, 7:])], dim=1),
    )
    # In this order: graph, audio, text.
    full, without = create(), create(hm_gat=False)
    without.load_state_dict(
        {k: v for k, v in full.state_dict().items() if k in without.state_dict()}
        | {k: v for k, v in without.state_dict().items() if k.startswith("classifier")}
    )
    assert torch.equal(full.embed(x, edges)[:, 16:], without.embed(x, edges))


@pytest.mark.parametrize("fill", ["drop", "zeros"])
@pytest.mark.parametrize("modality", ["audio", "text"])
def test_one_modality_does_not_look_at_the_other(modality: str, fill: str) -> None:
    model = create(modality=modality, unimodal_fill=fill)
    x, edges = inputs()
    before = model(x, edges)
    x[:, slice(0, 7) if modality == "audio" else slice(7, 12)] = torch.nan
    assert torch.equal(model(x, edges), before)
    assert model.needs == (modality,)
    if fill == "zeros":
        with pytest.raises(ModelError, match="a width for text and audio"):
            create(modality=modality, unimodal_fill=fill, in_channels={modality: WIDTHS[modality]})
        return
    other = create(modality=modality, in_channels={modality: WIDTHS[modality]})
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x[:, slice(7, 12) if modality == "audio" else slice(0, 7)], edges), before)


def test_zeros_keep_the_shape() -> None:
    assert create(modality="text", unimodal_fill="zeros").num_parameters() == create().num_parameters()


def test_order_of_the_mapping_does_not_matter() -> None:
    x, edges = inputs()
    turned = create(in_channels={"audio": 5, "text": 7})
    assert torch.equal(turned(x, edges), create()(x, edges))


def test_the_literal_equations_attend_over_the_batch() -> None:
    with pytest.warns(UserWarning, match="depends on which others"):
        model = create(cmt_axis="batch")
    x, edges = inputs()
    other = x.clone()
    other[1] += 1
    unlinked = torch.empty(2, 0, dtype=torch.int64)
    assert (model(other, unlinked) - model(x, unlinked))[0].abs().max() > 1e-6
    with pytest.raises(ModelError, match="no answer of its own"):
        model.answer(x[:2], model.states(x, edges), edges[:, :0])
    torch.testing.assert_close(model(x.flip(0), unlinked), model(x, unlinked).flip(0), atol=1e-5, rtol=1e-4)


def test_a_graph_of_the_test_items_mixes_them() -> None:
    """What an answer from a bank avoids: in a graph of their own, items change each other's answers."""
    model = create()
    x, edges = inputs()
    other = x.clone()
    other[1] += 1
    change = (model(other, edges) - model(x, edges)).abs().amax(dim=1)
    assert int((change > 1e-6).sum()) > 1


def test_answers_among_nearest_neighbours() -> None:
    """With edges as they are built: one by one as all at once, and a known utterance finds itself."""
    model = create(graph="same")
    x, _ = inputs(40)
    new, _ = inputs(9, seed=7)
    parts, asked = (list(rows.split([7, 5], dim=1)) for rows in (x, new))
    bank = model.states(x, modal_edges(parts, (2, 3)))
    found = model.answer(new, bank, bank_edges(asked, parts, (2, 3)))
    for row in range(len(new)):
        edges = bank_edges([part[row : row + 1] for part in asked], parts, (2, 3))
        torch.testing.assert_close(model.answer(new[row : row + 1], bank, edges)[0], found[row], atol=1e-6, rtol=0)
    assert bank_edges([part[4:5] for part in parts], parts, (1, 1)).tolist() == [[4], [0]]


def test_a_typed_graph_takes_the_edges_that_are_built_for_it() -> None:
    model = create(graph="typed")
    x, _ = inputs(40)
    new, _ = inputs(9, seed=7)
    parts = dict(zip(("text", "audio"), x.split([7, 5], dim=1), strict=True))
    edges = typed_edges(parts, {"text": 2, "audio": 3})
    assert model(x, edges).isfinite().all()
    asked = dict(zip(parts, new.split([7, 5], dim=1), strict=True))
    links = {(name, "near", name): bank_edges([asked[name]], [parts[name]], [2]) for name in parts}
    assert model.answer(new, model.states(x, edges), links).shape == (9, 3)


def test_answers_are_in_evaluation_mode() -> None:
    model = create()
    x, edges = inputs()
    bank = model.states(x, edges)
    expected = model.answer(x[:3], bank, edges[:, edges[1] < 3])
    model.train()
    assert all(torch.equal(a, b) for a, b in zip(model.states(x, edges), bank, strict=True))
    assert torch.equal(model.answer(x[:3], bank, edges[:, edges[1] < 3]), expected)
    assert model.training
    assert model.classifier.training


def test_routes_share_nothing() -> None:
    model = create(alone=True, num_layers=2, preset="reference")
    routes = model.routes()
    assert list(routes) == ["both", "audio", "text"]
    assert routes["both"] is model
    assert [network.modality for network in routes.values()] == ["both", "audio", "text"]
    assert all(network.graph is not None and network.graph.num_layers == 2 for network in routes.values())
    x, edges = inputs()
    F.cross_entropy(routes["audio"].train()(x, edges), torch.arange(len(x)) % 3).backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == {f"alone.audio.{name}" for name, _ in routes["audio"].named_parameters()}
    assert list(create().routes()) == ["both"]
    assert list(create(modality="text").routes()) == ["text"]


def test_routes_are_saved(tmp_path: Path) -> None:
    model = create(alone=True)
    model.save_pretrained(tmp_path)
    again = load_model(tmp_path)
    assert isinstance(again, HemoGAT)
    x, edges = inputs()
    for name, network in model.routes().items():
        assert torch.equal(again.routes()[name](x, edges), network(x, edges))


# ---------------------------------------------------------------------- tokens


def sequences(count: int = 24, seed: int = 0) -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, width, longest in (("text", 7, 6), ("audio", 9, 11)):
        lengths = torch.randint(1, longest + 1, (count,), generator=generator)
        found[name] = torch.randn(count, longest, width, generator=generator), lengths
    return found


def of_tokens(**options: Any) -> HemoGAT:
    return create(**{"cmt_axis": "auto", "sequence_channels": {"text": 7, "audio": 9}, **options})


@pytest.mark.parametrize("options", [{}, {"modality": "text"}, {"modality": "audio", "hm_gat": False}], ids=words)
class TestTokens:
    def test_gradients(self, options: dict[str, Any]) -> None:
        model = of_tokens(**options).train()
        x, edges = inputs()
        assert model.cmt_axis == "tokens"
        F.cross_entropy(model(x, edges, sequences=sequences()), torch.arange(len(x)) % 3).backward()
        assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]

    def test_padding_does_not_matter(self, options: dict[str, Any]) -> None:
        model = of_tokens(**options)
        x, edges = inputs()
        short = sequences()
        expected = model(x, edges, sequences=short)
        wide = {name: (F.pad(v, (0, 0, 0, 5), value=99.0), lengths) for name, (v, lengths) in short.items()}
        assert torch.equal(model(x, edges, sequences=wide), expected)
        packed = {
            name: (torch.cat([row[:n] for row, n in zip(v, lengths.tolist(), strict=True)]), lengths)
            for name, (v, lengths) in short.items()
        }
        assert torch.equal(model(x, edges, sequences=packed), expected)

    def test_blocks_do_not_matter(self, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        model = of_tokens(**options)
        x, edges = inputs()
        expected = model(x, edges, sequences=sequences())
        gradient = torch.autograd.grad(expected.square().sum(), list(model.parameters()), allow_unused=True)
        monkeypatch.setattr("graphophone.nn.cross_attention.length_blocks.__defaults__", (20,))
        found = model(x, edges, sequences=sequences())
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
        again = torch.autograd.grad(found.square().sum(), list(model.parameters()), allow_unused=True)
        for one, other in zip(gradient, again, strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)

    def test_an_answer_is_the_same_alone(self, options: dict[str, Any]) -> None:
        model = of_tokens(**options)
        x, edges = inputs()
        asked = sequences(5, seed=9)
        new, _ = inputs(5, seed=4)
        links = torch.tensor([[3, 9, 3, 1, 0], [0, 1, 2, 3, 4]])
        bank = model.states(x, edges)
        together = model.answer(new, bank, links, sequences=asked)
        for row in range(5):
            mine = {name: (v[row : row + 1], lengths[row : row + 1]) for name, (v, lengths) in asked.items()}
            alone = model.answer(
                new[row : row + 1], bank, links[:, row : row + 1] * torch.tensor([[1], [0]]), sequences=mine
            )
            torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=0)

    def test_one_utterance_does_not_change_another(self, options: dict[str, Any]) -> None:
        model = of_tokens(**options)
        x, _ = inputs()
        none = torch.empty(2, 0, dtype=torch.int64)
        first = sequences()
        other = {name: (v.clone(), lengths) for name, (v, lengths) in first.items()}
        for value, _ in other.values():
            value[1] += 1
        change = (model(x, none, sequences=other) - model(x, none, sequences=first)).abs().amax(dim=1)
        assert change[1] > 1e-5
        assert change[torch.arange(len(x)) != 1].max() < 1e-6


def test_tokens_are_looked_at() -> None:
    """Queries and keys learn, which they cannot with one key."""
    model = of_tokens().train()
    x, edges = inputs()
    model(x, edges, sequences=sequences()).square().sum().backward()
    for stream in model.cross.values():
        gradient = stream.get_parameter("attention.in_proj_weight").grad
        assert gradient is not None
        assert (gradient[:32].abs().sum(dim=1) > 0).all()


# ---------------------------------------------------------------------- what is said


def test_pooled_vectors_are_warned_about_once() -> None:
    _say_pooled.cache_clear()
    with pytest.warns(UserWarning, match="pooled vectors only"):
        create(cmt_axis="auto")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        create(cmt_axis="auto")
        create(cmt_axis="pooled")
        create(cmt=False)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        *(({key: "nothing"}, f"no {key} 'nothing'") for key in (
            "preset", "modality", "gnn", "cmt_axis", "norm", "last_activation", "node_features", "unimodal_fill",
            "graph",
        )),
        ({"num_layers": 0}, "at least 1"),
        ({"heads": 3}, "multiple of heads"),
        ({"dropout": 1.0}, "dropout"),
        ({"in_channels": 12}, "a width for each modality"),
        ({"in_channels": {"audio": 12}}, "set modality"),
        ({"in_channels": {"text": 1, "audio": 1, "video": 1}}, "video"),
        ({"modality": "audio", "in_channels": {"text": 4}}, "set modality"),
        ({"modality": "audio", "alone": True}, "alone=True"),
        ({"modality": "audio", "graph": "typed"}, "typed"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        create(**options)
    assert "\n" not in str(caught.value)


def test_inputs_that_do_not_fit() -> None:
    model = create()
    x, edges = inputs()
    with pytest.raises(ModelError, match="7 of text \\+ 5 of audio"):
        model(x[:, :-1], edges)
    x[[3, 5], 8] = torch.nan
    with pytest.raises(ModelError, match=r"utterance 3 \(and 1 more\) has no audio"):
        model(x, edges)
    with pytest.raises(ModelError, match="two at least"):
        model.train()(x[:1], edges[:, :0])
    x, edges = inputs()
    tokens = sequences()
    with pytest.raises(ModelError, match="token vectors of audio"):
        of_tokens()(x, edges, sequences={"text": tokens["text"]})
    with pytest.raises(ModelError, match="20 sequences of text for 24"):
        of_tokens()(x, edges, sequences=tokens | {"text": sequences(20)["text"]})


def test_typed_and_plain_edges_are_not_mixed_up() -> None:
    x, edges = inputs()
    with pytest.raises(ModelError, match="by modality"):
        create(graph="typed")(x, edges)
    with pytest.raises(ModelError, match="by modality"):
        create()(x, by_relation(edges, edges))
    typed = create(graph="typed")
    with pytest.raises(GraphophoneError, match="audio, near, audio"):
        typed(x, {("text", "near", "text"): edges})
    with pytest.raises(ModelError, match="no weights"):
        typed(x, by_relation(edges, edges), torch.ones(edges.shape[1]))


def test_all_pairs_of_variants_hold() -> None:
    """No two options stand in each other's way."""
    x, edges = inputs()
    for modality, gnn, layers, parts in itertools.product(
        ("both", "audio"), GNNS, (1, 3), ((True, True), (True, False), (False, True), (False, False))
    ):
        model = create(modality=modality, gnn=gnn, num_layers=layers, hm_gat=parts[0], cmt=parts[1])
        assert model(x, edges).isfinite().all()
