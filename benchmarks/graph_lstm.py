"""How fast the graph-LSTM aggregator is, against PyTorch Geometric's and against packed sequences.

    python benchmarks/graph_lstm.py --threads 1
    python benchmarks/graph_lstm.py --threads 2 --csv graph_lstm.csv

Three layers with the same weights are measured, ``out = W_l LSTM(neighbours) + W_r x + b``:

* ``ours``: the aggregator of `graphophone.nn`;
* ``pyg``: ``torch_geometric.nn.SAGEConv(aggr="lstm")``;
* ``packed``: padded neighbours, ``pack_padded_sequence`` and `torch.nn.LSTM`.

on graphs of one in-degree (10), of mixed in-degrees (5 to 15), and of in-degree 10 with one hub of 200; then
one training step (forward, backward, Adam) and one evaluation pass of the whole GLNN on 8 clips of 370 and of
93 frames, with the aggregator of each, on graphs of frames that change as slowly as speech does (``speech``:
sequences of neighbours often begin alike, and share states) and of independent frames (``noise``: the worst
case). Outputs and gradients are asserted equal to the packed version's everywhere, and to PyTorch Geometric's
on the graphs of one in-degree: elsewhere its result depends on the padding, and the largest difference is
printed. Sides are measured in turn within each round, so that a change in the machine's load meets all of
them alike.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch_geometric
from torch import Tensor, nn
from torch_geometric.nn import SAGEConv
from torch_geometric.nn.aggr import LSTMAggregation
from torch_geometric.utils import to_dense_batch

import graphophone
from graphophone.models.glnn import GLNN
from graphophone.nn.convolution import GraphLSTMConv, NeighbourLSTM
from graphophone.nn.lstm import NeighbourPlan

SIDES = ("ours", "pyg", "packed")
Row = dict[str, str | int | float]


class OursAggregation(nn.Module):
    """The aggregator under test; the plan is made in every call, as for a batch seen once."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lstm = NeighbourLSTM(channels, channels)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """``[N, D]``, and edges, to ``[N, D]``."""
        share = torch.is_grad_enabled()  # as `GraphLSTMConv`
        return self.lstm(x, NeighbourPlan.from_edge_index(edge_index, x.size(0), share=share))


class PyGAggregation(nn.Module):
    """The aggregator of PyTorch Geometric."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.aggregation = LSTMAggregation(channels, channels)
        self.lstm = self.aggregation.lstm

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """``[N, D]``, and edges, to ``[N, D]``."""
        return self.aggregation(x[edge_index[0]], edge_index[1], dim_size=x.size(0))


class PackedAggregation(nn.Module):
    """Packed sequences: right, with the input projection of every edge."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, batch_first=True)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """``[N, D]``, and edges, to ``[N, D]``."""
        padded, mask = to_dense_batch(x[edge_index[0]], edge_index[1], batch_size=x.size(0))
        lengths = mask.sum(1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False)
        return self.lstm(packed)[1][0][0]


AGGREGATIONS: dict[str, Callable[[int], nn.Module]] = {
    "ours": OursAggregation,
    "pyg": PyGAggregation,
    "packed": PackedAggregation,
}


class Layer(nn.Module):
    """What ``SAGEConv(aggr="lstm")`` computes, with another aggregator."""

    def __init__(self, aggregation: nn.Module, sage: SAGEConv) -> None:
        super().__init__()
        self.aggregation = aggregation
        self.lin_l, self.lin_r = sage.lin_l, sage.lin_r
        aggregation.lstm.load_state_dict(sage.aggr_module.lstm.state_dict())  # type: ignore[union-attr]

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """``[N, D]``, and edges, to ``[N, D]``."""
        return self.lin_l(self.aggregation(x, edge_index)) + self.lin_r(x)


class Network(nn.Module):
    """GLNN with another aggregator, and the weights of a given one."""

    def __init__(self, model: GLNN, side: str) -> None:
        super().__init__()
        copy = GLNN(**model.config)
        copy.load_state_dict(model.state_dict())
        self.norms, self.pool, self.classifier = copy.norms, copy.pool, copy.classifier
        self.projections, self.updates, self.aggregations = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for conv in copy.convs:
            assert isinstance(conv, GraphLSTMConv)
            self.projections.append(conv.project)
            self.updates.append(conv.update)
            aggregation = AGGREGATIONS[side](conv.hidden_channels)
            aggregation.lstm.load_state_dict(conv.lstm.state_dict())  # type: ignore[union-attr]
            self.aggregations.append(aggregation)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        """Class scores of every clip."""
        layers = zip(self.projections, self.aggregations, self.updates, self.norms, strict=True)
        for project, aggregation, update, norm in layers:
            x = project(x)
            x = norm(update(torch.cat([x, aggregation(x, edge_index)], dim=-1))).relu()
        return self.classifier(self.pool(x, batch, batch_size))


def neighbours(degrees: Tensor, num_nodes: int, generator: torch.Generator) -> Tensor:
    """Edges ``[2, E]`` sorted by target and source, of the in-degrees given, with distinct random sources."""
    chosen = torch.rand(degrees.numel(), num_nodes, generator=generator).argsort(1)
    keep = torch.arange(num_nodes) < degrees[:, None]
    target = torch.arange(degrees.numel())[:, None].expand_as(chosen)[keep]
    key = (target * num_nodes + chosen[keep]).sort().values
    return torch.stack([key % num_nodes, key // num_nodes])


def degree_cases(num_nodes: int, generator: torch.Generator) -> dict[str, Tensor]:
    """The graphs of the layer benchmark."""
    ten = torch.full((num_nodes,), 10)
    hub = ten.clone()
    hub[num_nodes // 2] = 200
    mixed = torch.randint(5, 16, (num_nodes,), generator=generator)
    return {
        name: neighbours(d, num_nodes, generator) for name, d in {"regular": ten, "mixed": mixed, "hub": hub}.items()
    }


def frame_graphs(clips: int, frames: int, k: int, drift: float, generator: torch.Generator) -> Tensor:
    """Top-k graphs of frames joined with the cycle of time, one block of nodes per clip ``[2, E]``.

    Frames are 77 normal numbers with a correlation of ``drift`` between one frame and the next.
    """
    noise = torch.randn(clips, frames, 77, generator=generator)
    x = noise.clone()
    for t in range(1, frames):
        x[:, t] = drift * x[:, t - 1] + (1 - drift**2) ** 0.5 * noise[:, t]
    x = nn.functional.normalize(x, dim=-1)
    similarity = x @ x.mT
    similarity.diagonal(dim1=1, dim2=2).fill_(-2)
    source = similarity.topk(k).indices.flatten(1)
    target = torch.arange(frames).repeat_interleave(k).expand_as(source)
    time_source = torch.arange(frames).expand(clips, -1)
    shift = torch.arange(clips)[:, None] * frames
    edges = torch.stack(
        [
            torch.cat([(source + shift).flatten(), (time_source + shift).flatten()]),
            torch.cat([(target + shift).flatten(), ((time_source + 1) % frames + shift).flatten()]),
        ]
    )
    total = clips * frames
    key = (edges[1] * total + edges[0]).unique()
    return torch.stack([key % total, key // total])


def measure(sides: Mapping[str, Callable[[], object]], rounds: int, warmup: int) -> dict[str, list[float]]:
    """Seconds of every round of every side, the sides taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for round_ in range(warmup + rounds):
        for name, call in sides.items():
            start = time.perf_counter()
            call()
            if round_ >= warmup:
                times[name].append(time.perf_counter() - start)
    return times


def report(rows: list[Row], what: str, case: str, width: int, edges: int, times: dict[str, list[float]]) -> None:
    """Print one line per measurement, and keep it for the CSV."""
    ours = times["ours"]
    line = f"{what:<18} {case:<12} {width:>4} {edges:>6}"
    for side, seconds in times.items():
        median, least = statistics.median(seconds) * 1e3, min(seconds) * 1e3
        ratio = statistics.median(seconds) / statistics.median(ours)
        ratio_least = min(seconds) / min(ours)
        line += f"  {side} {median:7.1f} / {least:7.1f}"
        line += "" if side == "ours" else f" ({ratio:4.1f}x / {ratio_least:4.1f}x)"
        rows.append(
            {
                "what": what,
                "case": case,
                "width": width,
                "edges": edges,
                "side": side,
                "median_ms": round(median, 3),
                "min_ms": round(least, 3),
                "ours_faster_median": round(ratio, 3),
                "ours_faster_min": round(ratio_least, 3),
                "rounds": len(seconds),
                "threads": torch.get_num_threads(),
                "load_average": round(os.getloadavg()[0], 2),
                "torch": torch.__version__,
                "torch_geometric": torch_geometric.__version__,
                "graphophone": graphophone.__version__,
                "machine": platform.processor() or platform.machine(),
            }
        )
    print(line, flush=True)


def gradients(module: nn.Module, inputs: tuple[object, ...], cotangent: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Output, and gradients by weight."""
    module.zero_grad()
    out = module(*inputs)
    (out * cotangent).sum().backward()
    return out.detach(), [p.grad for p in module.parameters() if p.grad is not None]


def benchmark_layers(rows: list[Row], nodes: int, widths: list[int], rounds: int, warmup: int) -> None:
    """Layers alone: forward without gradients, and forward with backward."""
    generator = torch.Generator().manual_seed(0)
    for width in widths:
        for case, edge_index in degree_cases(nodes, generator).items():
            x = torch.randn(nodes, width, generator=generator)
            cotangent = torch.randn(nodes, width, generator=generator)
            sage = SAGEConv(width, width, aggr="lstm")
            layers = {
                "ours": Layer(OursAggregation(width), sage),
                "pyg": sage,
                "packed": Layer(PackedAggregation(width), sage),
            }
            leaf = x.clone().requires_grad_()
            outputs = {side: layer(leaf, edge_index) for side, layer in layers.items()}
            grads = {side: torch.autograd.grad((out * cotangent).sum(), leaf)[0] for side, out in outputs.items()}
            for side in ("pyg", "packed") if case == "regular" else ("packed",):
                torch.testing.assert_close(outputs["ours"], outputs[side], atol=1e-5, rtol=1e-4)
                torch.testing.assert_close(grads["ours"], grads[side], atol=1e-4, rtol=1e-3)
            wrong = (outputs["pyg"] - outputs["packed"]).abs().max().item()
            if wrong > 1e-4:
                print(f"  {case}: PyTorch Geometric's output differs by up to {wrong:.3f} (padding is read)")
            del outputs, grads

            def forward(layer: nn.Module, x: Tensor = x, edge_index: Tensor = edge_index) -> None:
                with torch.no_grad():
                    layer(x, edge_index)

            def both(
                layer: nn.Module, leaf: Tensor = leaf, edge_index: Tensor = edge_index, cotangent: Tensor = cotangent
            ) -> None:
                leaf.grad = None
                layer.zero_grad()
                layer(leaf, edge_index).backward(cotangent)

            for what, call in (("forward", forward), ("forward+backward", both)):
                sides = {side: (lambda layer=layer, call=call: call(layer)) for side, layer in layers.items()}
                report(rows, what, case, width, edge_index.size(1), measure(sides, rounds, warmup))


def benchmark_networks(rows: list[Row], frames: list[int], rounds: int, warmup: int) -> None:
    """The whole network: one evaluation pass, and one training step."""
    generator = torch.Generator().manual_seed(0)
    clips = 8
    for length, (kind, drift) in itertools.product(frames, {"speech": 0.8, "noise": 0.0}.items()):
        edge_index = frame_graphs(clips, length, 10, drift, generator)
        x = torch.randn(clips * length, 77, generator=generator)
        batch = torch.arange(clips).repeat_interleave(length)
        labels = torch.arange(clips) % 4
        model = GLNN(in_channels=77, num_classes=4)
        networks: dict[str, nn.Module] = {"ours": model}
        networks |= {side: Network(model, side) for side in SIDES[1:]}
        inputs = (x, edge_index, batch, clips)
        logits = {side: network(*inputs) for side, network in networks.items()}
        torch.testing.assert_close(logits["ours"], logits["packed"], atol=1e-4, rtol=1e-3)
        optimisers = {side: torch.optim.Adam(network.parameters(), lr=1e-5) for side, network in networks.items()}

        def evaluate(side: str, networks: dict[str, nn.Module] = networks, inputs: tuple[object, ...] = inputs) -> None:
            with torch.no_grad():
                networks[side].eval()(*inputs)

        def train(
            side: str,
            networks: dict[str, nn.Module] = networks,
            inputs: tuple[object, ...] = inputs,
            labels: Tensor = labels,
            optimisers: dict[str, torch.optim.Adam] = optimisers,
        ) -> None:
            optimisers[side].zero_grad()
            nn.functional.cross_entropy(networks[side].train()(*inputs), labels).backward()
            optimisers[side].step()

        case = f"8x{length} {kind}"
        for what, call in (("GLNN forward", evaluate), ("GLNN training step", train)):
            sides = {side: (lambda side=side, call=call: call(side)) for side in networks}
            report(rows, what, case, 128, edge_index.size(1), measure(sides, rounds, warmup))


def main() -> None:
    """Read the command line, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument("--nodes", type=int, default=1000, help="nodes of the layer benchmark")
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128], help="widths of the layer benchmark")
    parser.add_argument("--frames", type=int, nargs="+", default=[370, 93], help="frames of the 8 clips")
    parser.add_argument("--rounds", type=int, default=15, help="measured rounds (networks: a third of them)")
    parser.add_argument("--warmup", type=int, default=2, help="rounds before")
    parser.add_argument("--only", choices=["layers", "networks"], help="half of the benchmark")
    parser.add_argument("--csv", type=Path, help="also write the figures here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(
        f"torch {torch.__version__}, torch_geometric {torch_geometric.__version__}, "
        f"{torch.get_num_threads()} thread(s), {os.cpu_count()} cores, load average {os.getloadavg()[0]:.2f}"
    )
    print("milliseconds, median / min of interleaved rounds; in brackets how many times faster ours is")
    print(f"{'what':<18} {'graph':<12} width  edges")
    rows: list[Row] = []
    if options.only != "networks":
        benchmark_layers(rows, options.nodes, options.widths, options.rounds, options.warmup)
    if options.only != "layers":
        benchmark_networks(rows, options.frames, max(3, options.rounds // 3), options.warmup)
    print(f"load average at the end {os.getloadavg()[0]:.2f}")
    if options.csv:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
        print(f"wrote {options.csv}")


if __name__ == "__main__":
    main()
