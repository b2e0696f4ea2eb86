"""What one training step of HemoGAT takes on the graph of a whole corpus, against the same network of stock layers.

    python benchmarks/hemogat_step.py
    python benchmarks/hemogat_step.py --items 2000 --preset clean --threads 1 --clock cpu --csv step.csv

MELD's training part has 9,988 utterances, with a text and an audio vector of 768 numbers each. One step is the forward
pass in training mode, cross-entropy, the backward pass and an update by Adam, on the graph of the 2 nearest by text and
the 8 nearest by audio.

* `ours`: `graphophone.models.hemogat.HemoGAT`, its edges made ready once, as its task has them;
* `pyg`: the equations in stock layers: `torch_geometric.nn.GATConv`, `torch.nn.MultiheadAttention` over one key,
  `torch.nn.BatchNorm1d`; edges as a tensor.

Both have the same weights. Before anything is timed, their losses and the gradients of all weights are asserted to be
the same, without dropout and in double precision on a part of the graph: the leaky ReLU of the attention has a kink,
and rounding in single precision puts a few of half a million logits on either side of it.

Sides are measured in turn within each round; `--clock cpu` counts the time of this process alone. Memory is the largest
resident set of a process that does nothing else, less what it was before the first step.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
import torch_geometric
from torch import Tensor, nn
from torch_geometric.nn import GATConv

import graphophone
from graphophone.graphs.modal import modal_edges
from graphophone.models.hemogat import HemoGAT

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
SIDES = ("ours", "pyg")
DIMS = 768
HIDDEN = 512


class _Stream(nn.Module):
    """One direction of the cross-modal transformer, over sequences of one vector."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(HIDDEN, 4, dropout=dropout, batch_first=True)
        self.linear = nn.Linear(HIDDEN, HIDDEN)
        self.norm = nn.LayerNorm(HIDDEN)
        self.dropout = nn.Dropout(dropout)

    def forward(self, query: Tensor, memory: Tensor) -> Tensor:
        query, memory = query.unsqueeze(1), memory.unsqueeze(1)
        attended, _ = self.attention(query, memory, memory)
        return self.dropout(self.norm(self.linear(attended) + query)).squeeze(1)


class _Graph(nn.Module):
    """Three layers of attention, and normalisation behind the first two."""

    def __init__(self, preset: str) -> None:
        super().__init__()
        first, second = GATConv(2 * HIDDEN, HIDDEN, heads=4), GATConv(4 * HIDDEN, HIDDEN, heads=4)
        last = GATConv(4 * HIDDEN, HIDDEN, heads=1 if preset == "reference" else 4, concat=False)
        self.convs = nn.ModuleList([first, second, last])
        self.norms = nn.ModuleList(nn.BatchNorm1d(4 * HIDDEN) for _ in range(1 if preset == "reference" else 2))


class Stock(nn.Module):
    """The equations in stock layers, with the names of ours for what is learned."""

    def __init__(self, classes: int, preset: str, dropout: float) -> None:
        super().__init__()
        self.projections = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(DIMS, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Dropout(dropout))
                for name in ("text", "audio")
            }
        )
        self.graph = _Graph(preset)
        self.cross = nn.ModuleDict({name: _Stream(dropout) for name in ("text", "audio")})
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Sequential(
            nn.Linear(3 * HIDDEN, HIDDEN),
            nn.LayerNorm(HIDDEN),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(HIDDEN, classes),
        )

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Logits of every node."""
        text, audio = self.projections["text"](x[:, :DIMS]), self.projections["audio"](x[:, DIMS:])
        first, second, last = self.graph.convs
        norms = self.graph.norms
        states = F.leaky_relu(norms[0](first(torch.cat([text, audio], dim=1), edges)), 0.01)
        states = states + self.dropout(F.leaky_relu(norms[-1](second(states, edges)), 0.01))
        crossed = [self.cross["audio"](audio, text), self.cross["text"](text, audio)]
        return self.classifier(torch.cat([last(states, edges), *crossed], dim=1))


def networks(preset: str, dropout: float) -> dict[str, nn.Module]:
    """Both sides with the same weights."""
    torch.manual_seed(0)
    widths = {"text": DIMS, "audio": DIMS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that pooled vectors make cross-attention linear
        ours = HemoGAT(in_channels=widths, num_classes=7, preset=preset, dropout=dropout)  # type: ignore[arg-type]
    stock = Stock(7, preset, dropout)
    stock.load_state_dict(ours.state_dict())
    return {"ours": ours, "pyg": stock}


def corpus(items: int) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors, classes, and the edges of the nearest."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(7, (items,), generator=generator)
    centres = torch.randn(7, 2 * DIMS, generator=generator)
    x = 0.3 * centres[y] + torch.randn(items, 2 * DIMS, generator=generator)
    return x, y, modal_edges(x.split(DIMS, dim=1), [2, 8])


class Steps:
    """Steps of one side.

    Args:
        network: The network, which is trained.
        x: Vectors. [items, dims]
        y: Classes. [items]
        edges: The graph. [2, edges]
    """

    def __init__(self, network: nn.Module, x: Tensor, y: Tensor, edges: Tensor) -> None:
        self.network = network.train()
        self.x, self.y = x, y
        self.edges = network.plan(edges, len(x)) if isinstance(network, HemoGAT) else edges
        self.optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=5e-4)

    def gradients(self) -> Tensor:
        """Fill in the gradients of all weights; the loss."""
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.network(self.x, self.edges), self.y)
        loss.backward()
        return loss.detach()

    def step(self) -> None:
        """One step."""
        self.gradients()
        self.optimizer.step()


def assert_same_gradients(x: Tensor, y: Tensor, edges: Tensor, preset: str, items: int) -> float:
    """Compare both sides on the first items; the largest difference of a weight's gradient, in parts of its largest."""
    kept = (edges < items).all(dim=0)
    sides = {
        name: Steps(network.double(), x[:items].double(), y[:items], edges[:, kept])
        for name, network in networks(preset, dropout=0.0).items()
    }
    losses = [side.gradients() for side in sides.values()]
    torch.testing.assert_close(losses[0], losses[1], atol=1e-10, rtol=0)
    theirs = dict(sides["pyg"].network.named_parameters())
    largest = 0.0
    for name, parameter in sides["ours"].network.named_parameters():
        mine, other = parameter.grad, theirs[name].grad
        assert mine is not None, f"{name} has no gradient"
        assert other is not None, f"{name} of the stock layers has no gradient"
        torch.testing.assert_close(mine, other, atol=1e-10, rtol=1e-6)
        size = other.abs().max().item()
        largest = max(largest, (mine - other).abs().max().item() / size if size > 1e-12 else 0.0)
    return largest


def resident() -> float:
    """Largest resident set so far, MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # What `resource` tells on Linux begins with the largest set of the process that started this one.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1024 if sys.platform == "linux" else 1) / 2**20


def memory_of(side: str, options: argparse.Namespace) -> float:
    """What two steps of a side add to the resident set, MiB."""
    arguments = [f"--items={options.items}", f"--preset={options.preset}", f"--threads={options.threads}"]
    done = subprocess.run(  # noqa: S603 - this file, with options of this program
        [sys.executable, __file__, *arguments, "--memory-of", side], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=9988)
    parser.add_argument("--compared", type=int, default=1000, help="items of the comparison in double precision")
    parser.add_argument("--preset", choices=["clean", "reference"], default="reference")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--memory-of", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    x, y, edges = corpus(options.items)
    made = networks(options.preset, dropout=0.3)
    if options.memory_of:
        steps = Steps(made[options.memory_of], x, y, edges)
        before = resident()
        steps.step()
        steps.step()
        print(resident() - before)
        return
    print(
        f"graphophone {graphophone.__version__}, torch {torch.__version__}, PyG {torch_geometric.__version__}, "
        f"Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"{options.threads} thread(s), {options.clock} clock"
    )
    difference = assert_same_gradients(x, y, edges, options.preset, min(options.compared, options.items))
    print(
        f"{options.items:,} utterances, {edges.shape[1]:,} edges, preset {options.preset}; gradients of both sides are "
        f"the same within {difference:.1e} of the largest of each weight"
    )
    clock: Callable[[], float] = CLOCKS[options.clock]
    sides = {name: Steps(network, x, y, edges) for name, network in made.items()}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(options.rounds + 1):
        for name, side in sides.items():
            begin = clock()
            side.step()
            if number:  # the first warms up
                times[name].append(clock() - begin)
    del sides, made
    table = []
    added = {name: memory_of(name, options) for name in SIDES}
    for name, seconds in times.items():
        ratio = statistics.median([other / ours for other, ours in zip(seconds, times["ours"], strict=True)])
        print(
            f"{name:>5}: {statistics.median(seconds):7.2f} s a step ({min(seconds):.2f}-{max(seconds):.2f}), "
            f"{added[name]:6.0f} MiB; ours is {ratio:.2f} times as fast"
        )
        table.append(
            {
                "side": name,
                "items": options.items,
                "preset": options.preset,
                "threads": options.threads,
                "clock": options.clock,
                "seconds": round(statistics.median(seconds), 4),
                "ours_faster": round(ratio, 3),
                "added_mib": round(added[name], 1),
            }
        )
    print(f"ours takes {added['ours'] / added['pyg']:.2f} of the memory")
    if options.csv is not None:
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(table[0]))
            writer.writeheader()
            writer.writerows(table)


if __name__ == "__main__":
    main()
