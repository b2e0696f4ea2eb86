"""RIGSL: its published preset against the mathematics edge by edge, its switches, its losses and relations."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from graphophone.errors import GraphophoneError
from graphophone.models import ModelError, create_model
from graphophone.models.rigsl import RIGSL
from graphophone.nn.dialogue import DialogueBatch, EdgeTables

WIDTHS = {"text": 8, "audio": 4, "video": 3}
CLASSES, WIDTH, HEADS, TURNS = 3, 6, 2, 5
Weights = dict[str, Tensor]
Edges = list[tuple[int, int, int]]
MakeDialogues = Callable[..., DialogueBatch]
CutDialogue = Callable[..., DialogueBatch]


def create(**options: Any) -> RIGSL:
    """A small one in evaluation and double precision, no weight of which is as it was set up."""
    torch.manual_seed(0)
    small: dict[str, Any] = {"hidden_channels": WIDTH, "heads": HEADS, "num_layers": 2, "features": 16, "gumbel_k": 3}
    model = create_model("rigsl", num_classes=CLASSES, **{"in_channels": WIDTHS, **small, **options})
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.double().eval()  # type: ignore[return-value]


# ---------------------------------------------------------------------- the published model, edge by edge


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    bias = w.get(f"{name}.bias")
    return x @ w[f"{name}.weight"].T + (0 if bias is None else bias)


def gru(w: Weights, name: str, x: Tensor) -> Tensor:
    """Two layers in both directions over one sequence ``[L, d]``, step by step."""
    for layer in range(2):
        directions = []
        for suffix, steps in (("", range(len(x))), ("_reverse", reversed(range(len(x))))):
            w_i, w_h, b_i, b_h = (
                w[f"{name}.{part}_l{layer}{suffix}"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            h, states = x.new_zeros(w_h.shape[1]), {}
            for t in steps:
                (r_i, z_i, n_i), (r_h, z_h, n_h) = (w_i @ x[t] + b_i).chunk(3), (w_h @ h + b_h).chunk(3)
                r, z = torch.sigmoid(r_i + r_h), torch.sigmoid(z_i + z_h)
                h = (1 - z) * torch.tanh(n_i + r * n_h) + z * h
                states[t] = h
            directions.append(torch.stack([states[t] for t in range(len(x))]))
        x = torch.cat(directions, dim=1)
    return x


def nodes_of(w: Weights, batch: DialogueBatch) -> Tensor:
    """Nodes ``[3 L, d]``, first all of text, then of audio and video."""
    speaker, rows = batch.speaker[0].tolist(), []
    for name in WIDTHS:
        x = batch.x[name][0]
        if name == "text":
            x = torch.stack(x.chunk(4, dim=1)).mean(0)
        u = linear(w, f"nodes.turns.{name}.projection", x)
        h = gru(w, "nodes.turns.text.encoder.rnn", u) if name == "text" else u
        s = torch.zeros_like(u)
        for who in set(speaker):
            turns = [t for t, other in enumerate(speaker) if other == who]
            s[turns] = gru(w, f"nodes.party.{name}.recurrence.rnn", u[turns])
        gate_h, gate_s = linear(w, "nodes.join.gates.0", h), linear(w, "nodes.join.gates.1", s)
        rows.append(torch.sigmoid(gate_h) * h + torch.sigmoid(gate_s) * s)
    return torch.cat(rows)


def edges_of(batch: DialogueBatch) -> Edges:
    """Source, target and kind of every edge."""
    speaker = batch.speaker[0].tolist()
    found = []
    for a in range(3 * TURNS):
        for b in range(3 * TURNS):
            if a != b and a // TURNS == b // TURNS:
                found.append((a, b, int(speaker[a % TURNS] == speaker[b % TURNS])))
            elif a != b and a % TURNS == b % TURNS:
                found.append((a, b, 2))
    return found


def gates_of(w: Weights, name: str, z: Tensor, edges: Edges, temperature: float = 1.5) -> tuple[list[Tensor], Tensor]:
    """Gates of the edges without noise, and their penalty."""
    q, gates, chances = linear(w, f"{name}.gate.shared", z), [], []
    for a, b, kind in edges:
        score = w[f"{name}.gate.score.weight"][kind] @ torch.cat([q[a], q[b]]) + w[f"{name}.gate.score.bias"][kind]
        gates.append((torch.sigmoid(score) * 2 - 0.95).clamp(0, 1))
        chances.append(torch.sigmoid(score - temperature * math.log(0.95 / 1.05)))
    return gates, torch.stack(chances).mean()


def norms_of(gates: list[Tensor], edges: Edges) -> list[float]:
    degree = [0] * (3 * TURNS)
    for (a, _, _), gate in zip(edges, gates, strict=True):
        degree[a] += bool(gate != 0)
    r = [min(d**-0.5, 1.5) if d else 1.5 for d in degree]
    return [r[a] * r[b] for a, b, _ in edges]


def m3net(w: Weights, x: Tensor, batch: DialogueBatch) -> tuple[Tensor, Tensor, list[Tensor]]:
    """States, the penalty of the last layer, and its gates."""
    x = x.clone()
    for t, who in enumerate(batch.speaker[0].tolist()):
        x[t] = x[t] + w["backbone.speaker.vectors.weight"][who]
    x = linear(w, "backbone.lin", x)
    incidence = x.new_zeros(3 * TURNS, 3 + TURNS)
    for i in range(3 * TURNS):
        incidence[i, i // TURNS] = incidence[i, 3 + i % TURNS] = 1
    of_nodes = F.softplus(w["backbone.hyperedge_weights.node"]).repeat_interleave(TURNS)
    of_edges = F.softplus(
        torch.cat([w["backbone.hyperedge_weights.modality"], w["backbone.hyperedge_weights.turn"].expand(TURNS)])
    )
    b_inverse, d_inverse = torch.diag(1 / (of_nodes @ incidence)), torch.diag(1 / (incidence @ of_edges))
    y = x
    for layer in range(3):
        y = d_inverse @ incidence @ b_inverse @ incidence.T @ y + w[f"backbone.hypergraph.{layer}.bias"]
        y = F.leaky_relu(y, 0.01)
    edges = edges_of(batch)
    penalty, gates = x.new_zeros(()), list[Tensor]()
    for layer in range(2):
        name = f"backbone.frequencies.{layer}"
        z = linear(w, f"{name}.lin", x)
        gates, penalty = gates_of(w, name, z, edges, 2.0)  # that of the last layer is the one that counts
        heard = [torch.zeros_like(z[0]) for _ in z]
        for (a, b, _), gate, norm in zip(edges, gates, norms_of(gates, edges), strict=True):
            signed = torch.tanh(
                w[f"{name}.frequency.weight"][0] @ torch.cat([z[b], z[a]]) + w[f"{name}.frequency.bias"]
            )
            heard[b] = heard[b] + norm * gate * signed * z[a]
        x = x + torch.stack(heard)
    return y + x, penalty, gates


def gcn(w: Weights, x: Tensor, batch: DialogueBatch) -> tuple[Tensor, Tensor, list[Tensor]]:
    """States, the penalty of all layers, and the gates of the last."""
    edges, penalty, gates = edges_of(batch), x.new_zeros(()), list[Tensor]()
    for layer in range(2):
        name = f"backbone.layers.{layer}"
        z = linear(w, f"{name}.lin", x)
        gates, chance = gates_of(w, name, z, edges)
        heard = [torch.zeros_like(z[0]) for _ in z]
        for (a, b, _), gate, norm in zip(edges, gates, norms_of(gates, edges), strict=True):
            heard[b] = heard[b] + norm * gate * z[a]
        x, penalty = x + torch.stack(heard), penalty + chance
    return x, penalty, gates


def gat(w: Weights, x: Tensor, batch: DialogueBatch) -> tuple[Tensor, Tensor, list[Tensor]]:
    """States, the penalty of all layers, and the gates of the last; attention is shared among what a node hears."""
    edges, penalty, gates = edges_of(batch), x.new_zeros(()), list[Tensor]()
    for layer in range(2):
        name = f"backbone.layers.{layer}"
        z = linear(w, f"{name}.lin", x)
        gates, chance = gates_of(w, name, z, edges)
        heard = []
        for i in range(len(z)):
            into = [(a, gate) for (a, b, _), gate in zip(edges, gates, strict=True) if b == i]
            scores = [w[f"{name}.attention.weight"][0] @ torch.cat([z[i], z[a]]) for a, _ in into]
            shares = F.leaky_relu(torch.stack(scores), 0.2).softmax(0)
            heard.append(sum(share * gate * z[a] for share, (a, gate) in zip(shares, into, strict=True)))
        x, penalty = x + torch.stack(heard), penalty + chance
    return x, penalty, gates


def nodeformer(w: Weights, x: Tensor, batch: DialogueBatch, tau: float = 0.2) -> tuple[Tensor, Tensor]:
    """The latent branch from features, and its link loss."""

    def norm(name: str, value: Tensor) -> Tensor:
        return F.layer_norm(value, (WIDTH,), w[f"{name}.weight"], w[f"{name}.bias"])

    def features(value: Tensor, taken: Callable[[Tensor], Tensor]) -> Tensor:
        raised = value @ projection.T
        return (torch.exp(raised - value.square().sum(1, keepdim=True) / 2 - taken(raised)) + 1e-6) / 4  # 16 features

    z, losses = F.elu(norm("latent.norms.0", linear(w, "latent.linear", x))), []
    edges = edges_of(batch)
    for layer in range(2):
        name = f"latent.layers.{layer}"
        projection = w[f"{name}.projection"]
        q, k, v = (linear(w, f"{name}.{part}", z).split(WIDTH, dim=1) for part in ("query", "key", "value"))
        heard, likely = [], []
        for head in range(HEADS):
            scale = tau**-0.5 * WIDTH**-0.25
            phi_q = features(q[head] * scale, lambda raised: raised.max(dim=1, keepdim=True).values)
            phi_k = features(k[head] * scale, lambda raised: raised.max())
            weights = phi_q @ phi_k.T
            weights = weights / weights.sum(dim=1, keepdim=True)
            heard.append(weights @ v[head])
            likely += [weights[b, a].log() / (TURNS + 1) for a, b, _ in edges]
        losses.append(torch.stack(likely).mean())
        z = norm(f"latent.norms.{layer + 1}", linear(w, f"{name}.out", torch.cat(heard, dim=1)) + z)
    return z, torch.stack(losses).mean()


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("backbone", ["m3net", "gcn", "gat"])
def test_published_preset_is_the_published_mathematics(backbone: str, residual: bool, dialogues: MakeDialogues) -> None:
    model = create(preset="published", backbone=backbone, text_sets=4, text_norm="mean", residual=residual)
    batch = dialogues([TURNS], WIDTHS)
    w = dict(model.state_dict())
    x = nodes_of(w, batch)
    heard, penalty, gates = {"m3net": m3net, "gcn": gcn, "gat": gat}[backbone](w, x, batch)
    latent, link = nodeformer(w, x, batch)
    parts = [*([x] if residual else []), heard, latent]
    fused = torch.stack(
        [torch.sigmoid(linear(w, f"fusion.gates.{i}", part)) * part for i, part in enumerate(parts)]
    ).sum(0)
    turns = torch.cat(fused.split(TURNS), dim=1)
    logits = linear(w, "classifier.2", torch.relu(turns))
    output = model(batch)
    torch.testing.assert_close(output.logits[0], logits)
    torch.testing.assert_close(output.losses["penalty"], penalty)
    torch.testing.assert_close(output.losses["link"], link)
    assert {bool(gate == 0) for gate in gates} == {False, True}  # the weights do cut some edges


# ---------------------------------------------------------------------- losses


def test_link_is_summed_or_averaged_over_dialogues(dialogues: MakeDialogues, cut: CutDialogue) -> None:
    batch = dialogues([4, 1, 6], WIDTHS)
    total, mean = create(link="sum")(batch), create(link="mean")(batch)
    torch.testing.assert_close(total.losses["link"], 3 * mean.losses["link"])
    alone = [create(link="sum")(dialogue).losses["link"] for dialogue in (cut(batch, i) for i in range(3))]
    torch.testing.assert_close(torch.stack(alone).sum(), total.losses["link"])
    assert (torch.stack(alone) < 0).all()


def test_uniform_latent_attention_has_the_known_link_loss(dialogues: MakeDialogues) -> None:
    model = create(link="mean")
    for layer in cast(Any, model.latent).layers:
        nn.init.zeros_(layer.query.weight)
        nn.init.zeros_(layer.query.bias)
    link = model(dialogues([TURNS], WIDTHS)).losses["link"]
    torch.testing.assert_close(link, torch.tensor(-math.log(3 * TURNS) / (TURNS + 1), dtype=torch.float64))


def test_penalty_of_shut_gates_is_nothing_and_of_open_ones_the_number_of_layers(dialogues: MakeDialogues) -> None:
    for bias, wanted in ((-50.0, 0.0), (50.0, 2.0)):
        model = create()
        for layer in cast(Any, model.backbone).frequencies:
            nn.init.zeros_(layer.gate.score.weight)
            nn.init.constant_(layer.gate.score.bias, bias)
        batch = dialogues([4, 6], WIDTHS)
        assert model(batch).losses["penalty"].item() == pytest.approx(wanted)
        cut = model.relations(batch)["graph"]
        assert isinstance(cut, EdgeTables)
        assert bool((cut.within.abs() > 1e-9).any()) == (wanted > 0)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ("penalty", "link")),
        ({"gates": False}, ("link",)),
        ({"latent": False}, ("penalty",)),
        ({"backbone": "mmgcn"}, ("link",)),
        ({"backbone": "none"}, ("link",)),
        ({"gates": False, "latent": False}, ()),
    ],
)
def test_losses_are_those_of_the_parts_that_there_are(
    options: dict[str, Any], names: tuple[str, ...], dialogues: MakeDialogues
) -> None:
    model = create(**options)
    assert model.loss_names == names
    assert tuple(model(dialogues([3], WIDTHS)).losses) == names


# ---------------------------------------------------------------------- presets and training


def test_noise_of_the_clean_preset_is_in_training_alone(dialogues: MakeDialogues) -> None:
    batch = dialogues([4, 6], WIDTHS)
    published = create(preset="published", gumbel=False, dropout=0.0, latent_dropout=0.0).train()
    clean = create(dropout=0.0, latent_dropout=0.0, gumbel=False).train()
    torch.testing.assert_close(published(batch).logits, published(batch).logits)
    assert not torch.allclose(clean(batch).logits, clean(batch).logits)
    torch.testing.assert_close(clean.eval()(batch).logits, clean(batch).logits)


@pytest.mark.parametrize("backbone", ["gcn", "gat"])
def test_published_gates_are_drawn_but_in_m3net(backbone: str, dialogues: MakeDialogues) -> None:
    batch = dialogues([4, 6], WIDTHS)
    still: dict[str, Any] = {"gumbel": False, "dropout": 0.0, "latent_dropout": 0.0, "graph_dropout": 0.0}
    model = create(preset="published", backbone=backbone, **still).train()
    assert not torch.allclose(model(batch).logits, model(batch).logits)
    silent = create(preset="published", backbone=backbone, gate_noise=False, **still).train()
    torch.testing.assert_close(silent(batch).logits, silent(batch).logits)


def test_published_mmgcn_has_the_published_classifier() -> None:
    with torch.device("meta"):
        model = create_model(
            "rigsl",
            in_channels={"text": 1024, "audio": 1582, "video": 342},
            num_classes=6,
            preset="published",
            backbone="mmgcn",
        )
    assert cast(Any, model).classifier[-1].in_features == 3 * (512 + 300 + 512)


def test_random_features_are_drawn_anew_after_so_many_steps(dialogues: MakeDialogues) -> None:
    batch = dialogues([4, 6], WIDTHS)
    for every, changed in ((0, False), (1, True)):
        model = create(kernel="favor", redraw_every=every).train()
        layer = cast(Any, model.latent).layers[0]
        model(batch)
        before = layer.projection.clone()
        model(batch)
        assert torch.equal(layer.projection, before) != changed


def test_an_option_is_stronger_than_the_preset() -> None:
    shapes = {key: value.shape for key, value in create(preset="published").state_dict().items()}
    given = create(
        preset="clean",
        full_width=True,
        kernel="favor",
        hyperedge_weights="denominator",
        residual=False,
    )
    assert {key: value.shape for key, value in given.state_dict().items()} == shapes


def test_speaker_vectors_reach_the_text_or_all_nodes(dialogues: MakeDialogues) -> None:
    batch = dialogues([4], WIDTHS)
    for where, others in (("text", False), ("all", True)):
        model = create(speaker_nodes=where, party=False, latent=False, residual=False)
        silent = batch.only(["audio", "video"])
        before = model(silent).logits
        nn.init.normal_(cast(Any, model.backbone).speaker.vectors.weight)
        assert torch.equal(model(silent).logits, before) != others


# ---------------------------------------------------------------------- options together

OPTIONS: dict[str, list[Any]] = {
    "in_channels": [
        {name: WIDTHS[name] for name in chosen.split()} for chosen in ("text audio video", "text", "audio")
    ],
    "preset": ["clean", "published"],
    "backbone": ["m3net", "mmgcn", "gat", "gcn", "none"],
    "past": [None, 0, 2],
    "encoder": ["gru", "lstm", "transformer", "none"],
    "audio_encoder": ["none", "gru", "transformer"],
    "party": [True, False],
    "text_sets": [1, 4],
    "text_norm": [None, "LN", "BN", "LN2", "mean", "first"],
    "gates": [True, False],
    "latent": [True, False],
    "kernel": [None, "exact", "favor"],
    "jk": [True, False],
    "degree": [None, "in", "out", "soft"],
    "hyperedge_weights": [None, "none", "denominator", "standard"],
    "gate_answer": [None, "point", "mean"],
    "residual": [None, True, False],
}


@settings(max_examples=25)
@given(
    options=st.fixed_dictionaries({key: st.sampled_from(values) for key, values in OPTIONS.items()}),
    future=st.sampled_from([None, 0, 2]),
    seed=st.integers(0, 10_000),
)
def test_no_options_let_padding_or_later_turns_in(
    options: dict[str, Any], future: int | None, seed: int, dialogues: MakeDialogues, cut: CutDialogue
) -> None:
    model = create(**{"hidden_channels": 16, **options}, future=future)
    batch = dialogues([6, 1, 3], options["in_channels"], seed=seed, gaps=0.2)
    output = model(batch)
    for i, turns in enumerate(batch.lengths.tolist()):
        torch.testing.assert_close(model(cut(batch, i)).logits[0], output.logits[i, :turns], atol=1e-9, rtol=1e-9)
    garbage = {
        name: part.masked_fill(~batch.present[:, m, :, None], torch.nan)
        for m, (name, part) in enumerate(batch.x.items())
    }
    spoiled = model(replace(batch, x=garbage))
    torch.testing.assert_close(spoiled.logits[batch.mask], output.logits[batch.mask], atol=1e-9, rtol=1e-9)
    for name, value in output.losses.items():
        torch.testing.assert_close(spoiled.losses[name], value, atol=1e-9, rtol=1e-9)
    if future == 0:
        for turns in range(1, 6):
            before = model(cut(batch, 0, turns)).logits[0]
            torch.testing.assert_close(before, output.logits[0, :turns], atol=1e-9, rtol=1e-9)


# ---------------------------------------------------------------------- relations


def test_relations_of_a_dialogue_with_a_gap(dialogues: MakeDialogues) -> None:
    model = create().train()
    batch = dialogues([4, 6], WIDTHS)
    keep = torch.ones_like(batch.present)
    keep[0, 1, 2] = False
    batch = batch.keeping(keep)
    found = model.relations(batch)
    assert model.training
    graph, latent = found["graph"], found["latent"]
    assert isinstance(graph, EdgeTables)
    assert isinstance(latent, Tensor)
    assert graph.within.shape == (2, 3, 6, 6)
    assert graph.across.shape == (2, 6, 3, 3)
    assert graph.within.min() < 0 < graph.within.max()  # signed
    for table in graph:
        assert not table.requires_grad
        assert not torch.diagonal(table, dim1=2, dim2=3).any()
    assert not graph.within[0, 1, 2].any()
    assert not graph.within[0, 1, :, 2].any()
    rows = latent.sum(dim=(3, 4))
    torch.testing.assert_close(rows, batch.present.to(rows.dtype))
    assert not latent[0, :, :, 1, 2].any()


def test_relations_of_a_network_without_graph_are_none(dialogues: MakeDialogues) -> None:
    assert create(backbone="none", latent=False).relations(dialogues([3], WIDTHS)) == {}


def test_nobody_hears_beyond_the_window(dialogues: MakeDialogues) -> None:
    found = create(past=2, future=1).relations(dialogues([6], WIDTHS))
    graph, latent = found["graph"], found["latent"]
    assert isinstance(graph, EdgeTables)
    assert isinstance(latent, Tensor)
    place = torch.arange(6)
    ahead = place[None, :] - place[:, None]
    beyond = (ahead > 1) | (ahead < -2)
    assert not graph.within[..., beyond].any()
    assert not latent.permute(0, 1, 3, 2, 4)[..., beyond].any()
    assert graph.within[..., (ahead == 1)].any()


# ---------------------------------------------------------------------- what is refused, and how large it is


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "cnn"}, "rigsl has no backbone 'cnn'; choose m3net, mmgcn, gat, gcn, none"),
        ({"preset": "paper"}, "rigsl has no preset 'paper'; choose clean, published"),
        ({"backbone": "mmgcn", "fusion": "gated"}, "choose fusion concat"),
        ({"text_sets": 3}, "vectors of text are 8 wide, which are not 3 sets"),
        ({"encoder": "rnn"}, "text has no encoder 'rnn'; choose gru, lstm, transformer, none"),
        ({"in_channels": {"text": 8}, "video_encoder": "rnn"}, "video has no encoder 'rnn'"),
        ({"text_norm": "BM"}, "rigsl has no text_norm 'BM'"),
        ({"backbone": "gat", "hyperedge_weights": "all"}, "rigsl has no hyperedge_weights 'all'"),
        ({"backbone": "gcn", "penalties": "first"}, "rigsl has no penalties 'first'; choose sum, last"),
        ({"backbone": "mmgcn", "degree": "both"}, "rigsl has no degree 'both'; choose in, out, soft"),
        ({"gates": False, "gate_answer": "zero"}, "rigsl has no gate_answer 'zero'; choose point, mean"),
        ({"latent": False, "kernel": "performer"}, "rigsl has no kernel 'performer'; choose exact, favor"),
        ({"fusion": "sum"}, "rigsl has no fusion 'sum'; choose gated, concat"),
        ({"link": "all"}, "rigsl has no link 'all'; choose mean, sum"),
        ({"redraw_every": -1}, "redraw_every=-1 is no number of steps"),
        ({"graph_dropout": 1.0}, "graph_dropout is 1.0; give at least 0 and less than 1"),
        ({"latent_dropout": -0.1}, "latent_dropout is -0.1; give at least 0 and less than 1"),
        ({"tau": 0.0}, "tau"),
        ({"gamma": 0.1}, "gamma"),
        ({"past": -2}, "past is -2; give at least 0"),
        ({"num_layers": 0}, "num_layers is 0; give at least 1"),
        ({"heads": 0}, "heads is 0; give at least 1"),
        ({"dropout": 1.0}, "dropout is 1.0; give at least 0 and less than 1"),
    ],
)
def test_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphophoneError, match=message) as error:
        create(**options)
    assert "\n" not in str(error.value)


def test_refuses_no_modality_at_all() -> None:
    with pytest.raises(ModelError, match="give a width for each modality"):
        create_model("rigsl", in_channels={}, num_classes=2)


@pytest.mark.parametrize(("name", "wanted"), [("rigsl", 17_062_958), ("m3net", 4_167_690), ("mmgcn", 2_501_306)])
def test_number_of_parameters(name: str, wanted: int) -> None:
    with torch.device("meta"):
        model = create_model(name, in_channels={"text": 1024, "audio": 1582, "video": 342}, num_classes=6)
    assert model.num_parameters() == wanted
    assert f"{wanted:,} parameters" in " ".join((type(model).__doc__ or "").split())
