"""What one training step of networks of dialogues takes: all dialogues at once, against lists of edges one by one.

    python benchmarks/rigsl_step.py
    python benchmarks/rigsl_step.py --network clean --shape meld --threads 1 --clock cpu --csv step.csv

A step is a forward pass in training mode (dropout, gates and noise are drawn), the loss and a backward pass. Shapes are
those of two corpora: `iemocap`, 8 dialogues of 20 to 110 turns between two speakers, and `meld`, 16 dialogues of 1 to
33 turns (10 on average) between up to nine; three modalities, states of 512 numbers. Networks are RIGSL in both of its
presets, and M3NET.

* `dense`: the network as it is;
* `edges`: the same weights and equations, dialogue by dialogue, the graph as a list of edges: both ends of every edge
  are put side by side for its gate and its weight, and messages are summed by `torch_geometric.nn.MessagePassing`.
  Encoders, latent attention (which has no edges) and fusion are the same code, on one dialogue at a time.

Before anything is timed, logits, auxiliary losses and the gradients of all weights of both sides are asserted to be the
same, in double precision, without what is random, on dialogues of an eighth of the length.

Sides are measured in turn within each round; `--clock cpu` counts the time of this process alone. Memory is the largest
resident set of a process that does nothing else, less what it was before the first step. Stages are forward and
backward passes of the parts of `dense`, each on its own.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
import torch_geometric
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import scatter

import graphophone
from graphophone.models.dialogue import DialogueOutput
from graphophone.models.dialogue_graph import DialogueGraphClassifier
from graphophone.models.m3net import M3NET
from graphophone.models.rigsl import RIGSL
from graphophone.nn.dialogue import DialogueBatch, DialogueGraph
from graphophone.nn.dialogue_hypergraph import DialogueHypergraphConv, HyperedgeWeights
from graphophone.nn.edge_gate import open_probability
from graphophone.nn.gated_convolution import MultiFrequencyConv
from graphophone.nn.m3net import M3NetStack
from hemogat_step import CLOCKS, resident

SIDES = ("dense", "edges")
NETWORKS = ("clean", "published", "m3net")
PENALTY, LINK = 5e-4, 0.1


class Shape(NamedTuple):
    """Dialogues of a corpus: their turns, the widths of what is known of them, speakers and classes."""

    lengths: tuple[int, ...]
    dims: dict[str, int]
    speakers: int
    classes: int


SHAPES = {
    "iemocap": Shape((20, 33, 46, 59, 71, 84, 97, 110), {"text": 1024, "audio": 1582, "video": 342}, 2, 6),
    "meld": Shape(
        (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 21, 33), {"text": 1024, "audio": 300, "video": 342}, 9, 7
    ),
}

ELSEWHERE = {
    ("rigsl", "iemocap"): "48.9 s, 12.5 GB",
    ("rigsl", "meld"): "4.4 s",
    ("m3net", "iemocap"): "7.5 s",
    ("m3net", "meld"): "0.45 s",
}
"""What the released codes take for a step, as measured elsewhere: another machine, 2 threads."""


def dialogues(shape: Shape, shorter: int = 1) -> DialogueBatch:
    """Dialogues of random numbers."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor(shape.lengths).div(shorter, rounding_mode="floor").clamp(min=1)
    size = (len(lengths), int(lengths.max()))
    mask = torch.arange(size[1]) < lengths[:, None]
    x = {name: torch.randn(*size, wide, generator=generator) * mask[..., None] for name, wide in shape.dims.items()}
    return DialogueBatch(
        x=x,
        present=mask[:, None].repeat(1, len(x), 1),
        mask=mask,
        speaker=torch.randint(shape.speakers, size, generator=generator) * mask,
        y=torch.randint(shape.classes, size, generator=generator).masked_fill(~mask, -1),
        row=torch.arange(mask.numel()).view(size).masked_fill(~mask, -1),
    )


def network(name: str, shape: Shape) -> DialogueGraphClassifier:
    """One of the networks, always with the same weights."""
    torch.manual_seed(0)
    if name == "m3net":
        return M3NET(in_channels=shape.dims, num_classes=shape.classes)
    return RIGSL(in_channels=shape.dims, num_classes=shape.classes, preset=name)  # type: ignore[arg-type]


def without_chance(model: nn.Module) -> nn.Module:
    """The network with nothing drawn in training."""
    for module in model.modules():
        for name, value in (("dropout", 0.0), ("noise", False), ("gumbel", False), ("p", 0.0)):
            if isinstance(getattr(module, name, None), float | bool):
                setattr(module, name, value)
    return model


class EdgeSum(MessagePassing):
    """The sum of what weighted edges bring."""

    def __init__(self) -> None:
        super().__init__(aggr="sum")

    def forward(self, x: Tensor, edge_index: Tensor, weight: Tensor) -> Tensor:
        """States of the targets ``[N, d]``."""
        return self.propagate(edge_index, x=x, weight=weight)

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        """What an edge brings."""
        return weight[:, None] * x_j


class EdgeLists(nn.Module):
    """A network with the graph part of M3NET, dialogue by dialogue on lists of edges.

    Args:
        model: The network whose weights are used.
    """

    def __init__(self, model: DialogueGraphClassifier) -> None:
        super().__init__()
        self.model = model
        self.sum = EdgeSum()

    def forward(self, batch: DialogueBatch) -> DialogueOutput:
        """As the network itself."""
        model, logits, links, chances, edges = self.model, [], [], [], 0
        for one in self._one_by_one(batch):
            x = model.nodes(one)
            graph = DialogueGraph(one.present, one.speaker)
            edge_index, kinds, nodes = graph.edge_list()
            heard, opened = self._backbone(x[0, nodes[:, 1], nodes[:, 2]], edge_index, kinds, nodes, one.speaker[0])
            chances.append(opened)
            edges += len(kinds)
            parts = [x] if model.residual else []
            parts.append(heard.view(1, *x.shape[1:3], -1))
            if model.latent is not None:
                latent = model.latent(x, graph)
                parts.append(latent.x)
                links.append(latent.link)
            fused = model.fusion(*parts).transpose(1, 2).flatten(2)
            logits.append(F.pad(model.classifier(fused)[0], (0, 0, 0, batch.mask.size(1) - fused.size(1))))
        losses = {}
        if "penalty" in model.loss_names:
            layers = torch.stack(chances).sum(dim=0) / edges
            losses["penalty"] = layers.sum() if cast(M3NetStack, model.backbone).penalties == "sum" else layers[-1]
        if links:
            total = torch.cat(links).sum()
            losses["link"] = total if model.link == "sum" else total / len(batch)
        return DialogueOutput(torch.stack(logits), losses)

    @staticmethod
    def _one_by_one(batch: DialogueBatch) -> Iterator[DialogueBatch]:
        """Each dialogue by itself, without padding."""
        for number, turns in enumerate(batch.lengths.tolist()):
            part = slice(number, number + 1)
            yield DialogueBatch(
                x={name: values[part, :turns] for name, values in batch.x.items()},
                present=batch.present[part, :, :turns],
                mask=batch.mask[part, :turns],
                speaker=batch.speaker[part, :turns],
                y=batch.y[part, :turns],
                row=batch.row[part, :turns],
            )

    def _backbone(
        self, x: Tensor, edge_index: Tensor, kinds: Tensor, nodes: Tensor, speaker: Tensor
    ) -> tuple[Tensor, Tensor]:
        """States of the nodes after both stacks, and for every gated layer the summed chances of open edges."""
        stack = cast(M3NetStack, self.model.backbone)
        modality, turn = nodes[:, 1], nodes[:, 2]
        if stack.speaker is not None:
            spoken = stack.speaker.vectors(speaker[turn])
            chosen = stack.speaker.modality
            x = x + (spoken if chosen is None else spoken * (modality == chosen)[:, None])
        x = groups = stack.lin(x)
        hyperedges = torch.cat([modality, int(modality.max()) + 1 + turn])
        member = torch.arange(len(nodes)).repeat(2)
        for layer in stack.hypergraph:
            conv = cast(DialogueHypergraphConv, layer)
            groups = F.leaky_relu(
                self._groups(groups, modality, member, hyperedges, stack.hyperedge_weights) + conv.bias
            )
        opened = []
        for layer in stack.frequencies:
            x, chance = self._frequencies(cast(MultiFrequencyConv, layer), x, edge_index, kinds)
            opened.append(chance)
        return groups + x if stack.combine == "sum" else torch.cat([groups, x], dim=1), torch.stack(opened)

    @staticmethod
    def _groups(
        x: Tensor, modality: Tensor, member: Tensor, hyperedges: Tensor, weights: HyperedgeWeights | None
    ) -> Tensor:
        """A hypergraph convolution from the members of its hyperedges."""
        count, nodes = int(hyperedges.max()) + 1, len(x)
        omega, w = x.new_ones(nodes), x.new_ones(count)
        if weights is not None:
            kinds = F.softplus(weights.modality)
            w = torch.cat([kinds, F.softplus(weights.turn).expand(count - len(kinds))])
            omega = F.softplus(cast(nn.Parameter, weights.node))[modality]
        size = scatter(omega[member], hyperedges, dim_size=count)
        inner = scatter(x[member], hyperedges, dim_size=count) / size[:, None]
        return (
            scatter(inner[hyperedges], member, dim_size=nodes) / scatter(w[hyperedges], member, dim_size=nodes)[:, None]
        )

    def _frequencies(
        self, layer: MultiFrequencyConv, x: Tensor, edge_index: Tensor, kinds: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A multi-frequency layer from both ends of every edge."""
        source, target = edge_index
        z = x if layer.lin is None else layer.lin(x)
        gates, chance = z.new_ones(len(kinds)), z.new_zeros(())
        if layer.gate is not None:
            gate = layer.gate
            q = gate.shared(z)
            scores = gate.score(torch.cat([q[source], q[target]], dim=1)).gather(1, kinds[:, None]).squeeze(1)
            gates = gate.gates(scores)
            bounds = {"temperature": gate.temperature, "gamma": gate.gamma, "zeta": gate.zeta}
            chance = open_probability(scores, **bounds).sum()
        degree = scatter(
            (gates.detach() != 0).to(z.dtype), source if layer.degree == "out" else target, dim_size=len(z)
        )
        r = degree.clamp(min=1).rsqrt().masked_fill(degree == 0, 1.5 if layer.degree == "out" else 0)
        signed = layer.frequency(torch.cat([z[target], z[source]], dim=1)).squeeze(1).tanh()
        return x + self.sum(z, edge_index, signed * r[source] * r[target] * gates), chance


class Step:
    """Steps of one side.

    Args:
        model: The network, which is trained.
        batch: The dialogues.
    """

    def __init__(self, model: nn.Module, batch: DialogueBatch) -> None:
        self.model = model.train()
        self.batch = batch

    def __call__(self) -> DialogueOutput:
        """Fill in the gradients of all weights."""
        self.model.zero_grad()
        output: DialogueOutput = self.model(self.batch)
        loss = F.cross_entropy(output.logits.flatten(0, 1), self.batch.y.flatten(), ignore_index=-1)
        zero = loss.new_zeros(())
        (loss + PENALTY * output.losses.get("penalty", zero) - LINK * output.losses.get("link", zero)).backward()
        return output


def both(name: str, shape: Shape) -> dict[str, nn.Module]:
    """The network, and the same on lists of edges."""
    return {"dense": network(name, shape), "edges": EdgeLists(network(name, shape))}


def assert_same(name: str, shape: Shape) -> float:
    """Compare both sides; the largest difference of a weight's gradient, in parts of its largest."""
    small = dialogues(shape, shorter=8)
    batch = DialogueBatch(
        x={key: values.double() for key, values in small.x.items()},
        present=small.present,
        mask=small.mask,
        speaker=small.speaker,
        y=small.y,
        row=small.row,
    )
    models = {side: without_chance(model.double()) for side, model in both(name, shape).items()}
    dense, edges = (Step(model, batch)() for model in models.values())
    torch.testing.assert_close(dense.logits[batch.mask], edges.logits[batch.mask], atol=1e-9, rtol=1e-7)
    assert dense.losses.keys() == edges.losses.keys()
    for key, loss in dense.losses.items():
        torch.testing.assert_close(loss, edges.losses[key], atol=1e-9, rtol=1e-7)
    theirs = dict(cast(EdgeLists, models["edges"]).model.named_parameters())
    largest = 0.0
    for key, parameter in models["dense"].named_parameters():
        mine, other = parameter.grad, theirs[key].grad
        assert mine is not None, f"{key} has no gradient"
        assert other is not None, f"{key} has no gradient on lists of edges"
        torch.testing.assert_close(mine, other, atol=1e-9, rtol=1e-6)
        size = other.abs().max().item()
        largest = max(largest, (mine - other).abs().max().item() / size if size > 1e-9 else 0.0)
    return largest


def stages(model: DialogueGraphClassifier, batch: DialogueBatch, clock: Callable[[], float]) -> dict[str, float]:
    """Seconds of a forward and a backward pass of each part, the better of two."""
    graph = DialogueGraph(batch.present, batch.speaker)
    node = model.nodes
    with torch.no_grad():
        x = node(batch)
        turned = {
            name: encoder(batch.x[name], batch.present[:, m]) for m, (name, encoder) in enumerate(node.turns.items())
        }
    states = x.requires_grad_()
    projected = {name: pair[0].requires_grad_() for name, pair in turned.items()}

    def encoders() -> Tensor:
        found = [enc(batch.x[name], batch.present[:, m])[1] for m, (name, enc) in enumerate(node.turns.items())]
        return torch.stack(found, dim=1)

    def party() -> Tensor:
        assert node.join is not None
        found = [
            encoder(projected[name], batch.speaker, batch.present[:, m])
            for m, (name, encoder) in enumerate(node.party.items())
        ]
        return node.join(states, torch.stack(found, dim=1))

    def backbone() -> Tensor:
        assert model.backbone is not None
        return model.backbone(states, graph).x

    def latent() -> Tensor:
        assert model.latent is not None
        found = model.latent(states, graph)
        return found.x + found.link.sum()

    parts: dict[str, Callable[[], Tensor]] = {"encoders": encoders, "backbone": backbone}
    if node.join is not None:
        parts["party"] = party
    if model.latent is not None:
        parts["latent"] = latent
    with torch.no_grad():
        given = ([states] if model.residual else []) + [parts[key]() for key in ("backbone", "latent") if key in parts]
    given = [part.detach().requires_grad_() for part in given]
    parts["fusion"] = lambda: model.classifier(
        graph.spread(model.fusion(*(graph.gathered(part) for part in given))).transpose(1, 2).flatten(2)
    )
    return {name: min(_timed(part, clock) for _ in range(2)) for name, part in parts.items()}


def _timed(part: Callable[[], Tensor], clock: Callable[[], float]) -> float:
    """Seconds of a forward and a backward pass."""
    begin = clock()
    part().square().mean().backward()
    return clock() - begin


def memory_of(side: str, name: str, shape: str, threads: int) -> float:
    """What two steps of a side add to the resident set, MiB."""
    arguments = [f"--network={name}", f"--shape={shape}", f"--threads={threads}", f"--memory-of={side}"]
    done = subprocess.run(  # noqa: S603 - this file, with options of this program
        [sys.executable, __file__, *arguments], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def compare(name: str, shape: str, options: argparse.Namespace) -> list[dict[str, str | int | float]]:
    """Measure both sides of one network at one shape, print what was found, and give it as rows of a table."""
    clock: Callable[[], float] = CLOCKS[options.clock]
    batch = dialogues(SHAPES[shape])
    difference = assert_same(name, SHAPES[shape])
    edges = int(DialogueGraph(batch.present, batch.speaker).num_edges)
    print(
        f"\n{name}, {shape}: {len(batch)} dialogues, {int(batch.mask.sum())} turns, {edges:,} edges; gradients of both "
        f"sides are the same within {difference:.1e} of the largest of each weight"
    )
    models = both(name, SHAPES[shape])
    steps = {side: Step(model, batch) for side, model in models.items()}
    times: dict[str, list[float]] = {side: [] for side in steps}
    for number in range(options.rounds + 1):
        for side, step in steps.items():
            begin = clock()
            step()
            if number:  # the first warms up
                times[side].append(clock() - begin)
    parts = stages(cast(DialogueGraphClassifier, models["dense"]), batch, clock)
    del steps, models
    added = {side: memory_of(side, name, shape, options.threads) for side in SIDES}
    table: list[dict[str, str | int | float]] = []
    for side, seconds in times.items():
        ratio = statistics.median([other / ours for other, ours in zip(seconds, times["dense"], strict=True)])
        print(
            f"{side:>6}: {statistics.median(seconds):7.3f} s a step ({min(seconds):.3f}-{max(seconds):.3f}), "
            f"{added[side]:6.0f} MiB; dense is {ratio:.2f} times as fast"
        )
        table.append(
            {
                "network": name,
                "shape": shape,
                "side": side,
                "threads": options.threads,
                "clock": options.clock,
                "seconds": round(statistics.median(seconds), 4),
                "dense_faster": round(ratio, 3),
                "added_mib": round(added[side], 1),
                **{f"{part}_seconds": round(took, 4) for part, took in parts.items() if side == "dense"},
            }
        )
    print("        " + ", ".join(f"{part} {took:.3f} s" for part, took in parts.items()))
    released = ELSEWHERE["m3net" if name == "m3net" else "rigsl", shape]
    print(f"        released code, as measured elsewhere (2 threads): {released}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, action="append", help="several may be given; all by default")
    parser.add_argument("--shape", choices=sorted(SHAPES), action="append", help="several may be given; all by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--memory-of", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    names, shapes = options.network or list(NETWORKS), options.shape or list(SHAPES)
    if options.memory_of:
        step = Step(both(names[0], SHAPES[shapes[0]])[options.memory_of], dialogues(SHAPES[shapes[0]]))
        before = resident()
        step()
        step()
        print(resident() - before)
        return
    print(
        f"graphophone {graphophone.__version__}, torch {torch.__version__}, PyG {torch_geometric.__version__}, "
        f"Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"{options.threads} thread(s), {options.clock} clock"
    )
    table = [row for shape in shapes for name in names for row in compare(name, shape, options)]
    if options.csv is not None:
        columns = list(dict.fromkeys(key for row in table for key in row))
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=columns)
            writer.writeheader()
            writer.writerows(table)


if __name__ == "__main__":
    main()
