"""How fast LHGNN answers, against the audio spectrogram transformer, and against what its matrix products cost.

    python benchmarks/lhgnn_forward.py --threads 2
    python benchmarks/lhgnn_forward.py --threads 2 --csv benchmarks/results/lhgnn_forward-cpu-NAME-2threads-float32.csv

Clips of 1024 frames of 128 mels, evaluation, inference mode, float32, 527 classes, random weights. The sides are

* ``ours``: ``create_model("lhgnn", size="s")``, 31.5 M parameters;
* ``ast``: AST-base as transformers has it (``ASTForAudioClassification`` of a default ``ASTConfig``, attention by
  ``scaled_dot_product_attention``), 86.6 M parameters.

Times are per clip, of a batch of one and of eight; sides are measured in turn within each round, so that a change in
the machine's load meets both alike. CPU time is that of all threads; on a busy machine threads that wait for others
count too, and it says less the more of them there are.

Memory is that of a process of its own for each side and batch: after one pass, what the allocator holds but does not
use is given back and the resident size is read (``rest``, with the weights, and for ours the copy of them in which
normalisations are folded); the peak of a second pass is given above that (Linux only).

The parts of ours are then timed one by one, and set beside the time that their matrix products and convolutions alone
would take at the rate at which the machine, in the same rounds, multiplies matrices of 2048 x 2048 (``floor``: 30.3
GFLOP a clip in all). What is above the floor is the search for neighbours, the maxima over them, the activations, and
products too small or too narrow to be done at the full rate.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import gc
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import ASTConfig, ASTForAudioClassification

import graphophone
from graphophone.models import create_model
from graphophone.models.lhgnn import LHGNN
from graphophone.nn.channels_last import convolve
from graphophone.nn.folding import FoldedConvs
from graphophone.nn.lhg import LHGBlock

FRAMES, MELS, CLASSES = 1024, 128, 527
Row = dict[str, str | int | float]
Times = dict[str, list[tuple[float, float]]]


class Transformer(nn.Module):
    """AST-base, from spectrograms to logits."""

    def __init__(self) -> None:
        super().__init__()
        options: dict[str, Any] = {"num_labels": CLASSES, "attn_implementation": "sdpa"}
        config = ASTConfig(max_length=FRAMES, num_mel_bins=MELS, **options)
        self.network = ASTForAudioClassification(config)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, frames, mels]`` to ``[B, classes]``."""
        return self.network(x).logits


def build(side: str, size: str) -> nn.Module:
    """The network of a side, in evaluation."""
    torch.manual_seed(0)
    model = Transformer() if side == "ast" else create_model("lhgnn", size=size, num_classes=CLASSES)
    return model.eval()


def measure(calls: Mapping[str, Callable[[], object]], rounds: int, warmup: int) -> Times:
    """Wall and CPU seconds of every round of every call, the calls taken in turn."""
    times: Times = {name: [] for name in calls}
    for round_ in range(warmup + rounds):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            if round_ >= warmup:
                times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return times


def summary(seconds: list[tuple[float, float]], per: int = 1) -> dict[str, float]:
    """Median and least of wall and CPU time, in milliseconds per clip."""
    walls, cpus = ([pair[i] / per * 1e3 for pair in seconds] for i in (0, 1))
    return {
        "wall_median_ms": round(statistics.median(walls), 2),
        "wall_min_ms": round(min(walls), 2),
        "cpu_median_ms": round(statistics.median(cpus), 2),
        "cpu_min_ms": round(min(cpus), 2),
    }


def status(key: str) -> float:
    """A size from /proc/self/status, in MiB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise KeyError(key)


def memory(side: str, size: str, batch: int, threads: int, answer: Any) -> None:
    """Put the resident size before a pass, and the peak of the pass above it, in MiB, into ``answer``."""
    torch.set_num_threads(threads)
    model = build(side, size)
    x = torch.randn(batch, FRAMES, MELS, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        model(x)
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        rest = status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        model(x)
        answer.put((rest, status("VmHWM") - rest))


def memory_of(side: str, size: str, batch: int, threads: int) -> tuple[float, float]:
    """`memory`, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    answer = context.SimpleQueue()
    process = context.Process(target=memory, args=(side, size, batch, threads, answer))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise SystemExit(f"measuring the memory of {side} failed")
    return answer.get()


def flops(block: LHGBlock, nodes: int) -> float:
    """Operations of the matrix products and convolutions of a graph block and its feed-forward block."""
    channels = block.fc1[0].in_channels
    assert isinstance(channels, int)
    candidates = nodes / block.reduction**2
    search = nodes * candidates * channels
    clusters = 2 * nodes * block.clustering.P * channels * block.clustering.v if block.clustering else 0
    graph = 6.25 * channels**2 * nodes
    feed_forward = (8 * channels**2 + 36 * channels) * nodes
    return 2 * (search + clusters + graph + feed_forward)


def parts(model: LHGNN, x: Tensor) -> tuple[dict[str, list[Callable[[], object]]], dict[str, float]]:
    """The layers of the network by stage, each as a call on what comes before it; and operations of each stage."""
    network: Any = model._network(x)
    calls: dict[str, list[Callable[[], object]]] = {}
    work: dict[str, float] = {}

    def add(name: str, operations: float, call: Callable[[], object]) -> None:
        calls.setdefault(name, []).append(call)
        work[name] = work.get(name, 0.0) + operations

    picture = x.transpose(1, 2)[:, None].contiguous(memory_format=torch.channels_last)
    pixels, operations = MELS * FRAMES, 0.0
    for conv in model.stem.convs:
        if isinstance(conv, nn.Conv2d):
            pixels //= conv.stride[0] ** 2
            operations += 2 * 9 * conv.in_channels * conv.out_channels * pixels
    add("stem", operations, lambda: network.stem(picture))
    nodes = network.stem(picture)
    nodes = (nodes + network.position(*nodes.shape[2:])).permute(0, 2, 3, 1).contiguous()
    tables = iter(model.closeness)
    table, stage = next(tables)(nodes.size(1), nodes.size(2), x.device), 1
    for layer, plain in zip(network.backbone, model.backbone, strict=True):
        if isinstance(layer, FoldedConvs):
            add("down", 0, partial(convolve, nodes, layer))
            after = convolve(nodes, layer)
            work["down"] += 2 * 9 * nodes.size(3) * after.size(3) * after.size(1) * after.size(2)
            nodes, stage = after, stage + 1
            table = next(tables)(nodes.size(1), nodes.size(2), x.device)
            continue
        block, feed_forward = layer
        between = block(nodes, table)
        graph: Any = next(plain.children())
        operations = flops(graph, nodes.size(1) * nodes.size(2))
        feed = 2 * (8 * nodes.size(3) ** 2 + 36 * nodes.size(3)) * nodes.size(1) * nodes.size(2)
        add(
            f"stage {stage} graph",
            operations - feed,
            partial(block, nodes, table),
        )
        add(
            f"stage {stage} feed-forward",
            feed,
            partial(feed_forward, between),
        )
        nodes = feed_forward(between)
    return calls, work


def together(calls: list[Callable[[], object]]) -> Callable[[], object]:
    """One call that makes all of them."""
    return lambda: [call() for call in calls]


def main() -> None:
    """Read the command line, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default 2)")
    parser.add_argument("--size", default="s", help="size of ours (default s)")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8], help="clips at once (default 1 8)")
    parser.add_argument("--rounds", type=int, default=9, help="measured rounds (default 9)")
    parser.add_argument("--warmup", type=int, default=2, help="rounds before (default 2)")
    parser.add_argument("--csv", type=Path, help="also write the figures here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"torch {torch.__version__}, transformers {transformers.__version__}, {torch.get_num_threads()} thread(s), "
        f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.2f}"
    )
    rows: list[Row] = []

    def record(what: str, side: str, batch: int, figures: Mapping[str, float]) -> None:
        rows.append(
            {
                "what": what,
                "side": side,
                "batch": batch,
                "wall_median_ms": "",
                "wall_min_ms": "",
                "cpu_median_ms": "",
                "cpu_min_ms": "",
                "rest_mib": "",
                "peak_above_rest_mib": "",
                "gflop": "",
                "floor_wall_ms": "",
                "times_floor_min": "",
                "gflop_per_second": "",
                **figures,
                "rounds": options.rounds,
                "threads": torch.get_num_threads(),
                "precision": "float32",
                "load_average": round(os.getloadavg()[0], 2),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "graphophone": graphophone.__version__,
                "machine": platform.processor() or platform.machine(),
            }
        )

    models = {side: build(side, options.size) for side in ("ours", "ast")}
    ours: Any = models["ours"]
    print(
        f"parameters: ours {sum(p.numel() for p in ours.parameters()):,}, "
        f"ast {sum(p.numel() for p in models['ast'].parameters()):,}"
    )
    print("\nmilliseconds per clip: wall median / min, CPU median / min; MiB above rest (rest)")
    with torch.inference_mode():
        for batch in options.batches:
            x = torch.randn(batch, FRAMES, MELS, generator=torch.Generator().manual_seed(0))
            logits = {side: model(x) for side, model in models.items()}
            assert all(out.shape == (batch, CLASSES) and out.isfinite().all() for out in logits.values())
            torch.testing.assert_close(ours(x[:1]), logits["ours"][:1], atol=1e-5, rtol=1e-5)
            calls = {side: partial(model, x) for side, model in models.items()}
            times = measure(calls, options.rounds, options.warmup)
            found = {side: summary(seconds, batch) for side, seconds in times.items()}
            for side, figures in found.items():
                if sys.platform == "linux":
                    rest, above = memory_of(side, options.size, batch, options.threads)
                    figures |= {"rest_mib": round(rest, 1), "peak_above_rest_mib": round(above, 1)}
                print(
                    f"batch {batch}  {side:<5} {figures['wall_median_ms']:9.1f} / {figures['wall_min_ms']:9.1f}   "
                    f"{figures['cpu_median_ms']:9.1f} / {figures['cpu_min_ms']:9.1f}   "
                    f"{figures.get('peak_above_rest_mib', float('nan')):7.1f} ({figures.get('rest_mib', 0):.0f})",
                    flush=True,
                )
                record("forward", side, batch, figures)
            ratios = [f"{found['ast'][key] / found['ours'][key]:.2f}x" for key in found["ours"] if key.endswith("_ms")]
            print(f"         ours is faster by {' / '.join(ratios[:2])}   {' / '.join(ratios[2:])}")

        x = torch.randn(1, FRAMES, MELS, generator=torch.Generator().manual_seed(0))
        stages, work = parts(ours, x)
        square = torch.randn(2048, 2048)
        pieces = {name: together(list_) for name, list_ in stages.items()}
        pieces["multiplication"] = lambda: square @ square
        times = measure(pieces, options.rounds, options.warmup)
        rate = 2 * 2048**3 / min(wall for wall, _ in times.pop("multiplication")) / 1e9
        print(f"\nparts of ours, one clip; matrices are multiplied at {rate:.0f} GFLOP/s (the best round)")
        print(f"{'part':<22} {'GFLOP':>7} {'floor ms':>9} {'wall median':>12} {'min':>9} {'x floor':>8}")
        total = 0.0
        for name, seconds in times.items():
            figures = summary(seconds)
            floor = work[name] / rate / 1e6
            total += figures["wall_min_ms"]
            figures |= {
                "gflop": round(work[name] / 1e9, 3),
                "floor_wall_ms": round(floor, 2),
                "times_floor_min": round(figures["wall_min_ms"] / floor, 2),
                "gflop_per_second": round(rate, 1),
            }
            print(
                f"{name:<22} {figures['gflop']:7.2f} {floor:9.2f} {figures['wall_median_ms']:12.2f} "
                f"{figures['wall_min_ms']:9.2f} {figures['times_floor_min']:8.2f}"
            )
            record(name, "ours", 1, figures)
        everything = sum(work.values())
        floor = everything / rate / 1e6
        print(f"{'all':<22} {everything / 1e9:7.2f} {floor:9.2f} {'':>12} {total:9.2f} {total / floor:8.2f}")
        all_parts = {
            "wall_min_ms": round(total, 2),
            "gflop": round(everything / 1e9, 3),
            "floor_wall_ms": round(floor, 2),
            "times_floor_min": round(total / floor, 2),
            "gflop_per_second": round(rate, 1),
        }
        record("all parts", "ours", 1, all_parts)
    print(f"load average at the end {os.getloadavg()[0]:.2f}")
    if options.csv:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
        print(f"wrote {options.csv}")


if __name__ == "__main__":
    main()
