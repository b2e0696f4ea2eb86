"""How fast class-balanced subgraphs with signed edges are drawn, against one at a time with scikit-learn.

    python benchmarks/subgraph_sampling.py
    python benchmarks/subgraph_sampling.py --nodes 4490 --classes 4 --dims 165 --per-class 12 --csv sampling.csv

The pool has 90,000 recordings of 33 classes, a tenth of which are labelled, and 128 features; a subgraph has 2 labelled
nodes of each class and 5 unlabelled ones.

* `ours`: `graphophone.graphs.subgraphs.SubgraphSampler`;
* `loop`: the same nodes, subgraph by subgraph: `sklearn.neighbors.NearestNeighbors` within each class and over the
  whole subgraph, `sklearn.metrics.pairwise_distances` for the farthest, edges gathered in a dictionary.

Before anything is timed, both sides are asserted to have given the same edges and weights for the same nodes. Sides are
measured in turn within each round; `--clock cpu` counts the time of this process alone. Memory is the most that Python
and PyTorch's tensors took beyond the pool during part of an epoch, as the largest resident set tells.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits
from torch import Tensor

import graphophone
from graphophone.graphs.subgraphs import SubgraphSampler

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Signed = tuple[NDArray[np.int64], NDArray[np.float32]]


def one_by_one(x: NDArray[np.float32], labels: NDArray[np.int64]) -> Signed:
    """Signed edges of one subgraph, as the rules read."""
    sign: dict[tuple[int, int], float] = {}

    def join(i: Any, j: Any, value: float) -> None:
        pair = (min(i, j), max(i, j))
        sign[pair] = max(sign.get(pair, -1.0), value)

    everyone = np.arange(len(x))
    known = np.flatnonzero(labels >= 0)
    for label in np.unique(labels[known]):
        mates = known[labels[known] == label]
        if len(mates) > 1:
            search = NearestNeighbors(n_neighbors=min(2, len(mates) - 1)).fit(x[mates])
            for i, row in zip(mates, search.kneighbors(return_distance=False), strict=True):
                for j in row:
                    join(i, mates[j], 1.0)
    far = pairwise_distances(x[known]).argmax(axis=1)
    for i, j in zip(known, known[far], strict=True):
        join(i, j, -1.0)
    free = np.flatnonzero(labels < 0)
    if len(free):
        near = NearestNeighbors(n_neighbors=3).fit(x).kneighbors(x[free], return_distance=False)
        far = pairwise_distances(x[free], x).argmax(axis=1)
        for i, row, j in zip(free, near, everyone[far], strict=True):
            for other in row[row != i][:2]:
                join(i, other, 1.0)
            join(i, j, -1.0)
    both = [(j, i, value) for (i, j), value in sign.items()] + [(i, j, value) for (i, j), value in sign.items()]
    both.sort(key=lambda edge: (edge[1], edge[0]))
    return np.array([[i for i, _, _ in both], [j for _, j, _ in both]]), np.array([w for _, _, w in both], np.float32)


def with_loop(sampler: SubgraphSampler, x: NDArray[np.float32], labels: NDArray[np.int64], count: int) -> list[Signed]:
    found: list[Signed] = []
    for nodes, limits in sampler.nodes(0):
        for begin, end in itertools.pairwise(limits):
            found.append(one_by_one(x[nodes[begin:end]], labels[nodes[begin:end]]))
            if len(found) == count:
                return found
    return found


def with_ours(sampler: SubgraphSampler, count: int) -> list[Signed]:
    found: list[Signed] = []
    for batch in itertools.islice(sampler.epoch(0), count):
        found.append((batch.edge_index.numpy(), batch.edge_weight.numpy()))
    return found


def seconds_each(call: Callable[[], object], count: int, clock: Callable[[], float]) -> float:
    start = clock()
    call()
    return (clock() - start) / count


def resident() -> float:
    """Largest resident set so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1024 if sys.platform == "linux" else 1) / 2**20


def pool_of(nodes: int, classes: int, dims: int, share: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(nodes) % classes
    x = torch.randn(nodes, dims, generator=generator)
    # In place: what the pool takes while it is made would hide what sampling takes.
    for label, centre in enumerate(torch.randn(classes, dims, generator=generator)):
        x[label::classes] += centre
    return x, torch.where(torch.rand(nodes, generator=generator) < share, y, -1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=90_000)
    parser.add_argument("--classes", type=int, default=33)
    parser.add_argument("--dims", type=int, default=128)
    parser.add_argument("--labelled", type=float, default=0.1, help="share of the pool")
    parser.add_argument("--per-class", type=int, default=2)
    parser.add_argument("--unlabelled", type=int, default=5)
    parser.add_argument("--count", type=int, default=256, help="subgraphs of one round of ours")
    parser.add_argument("--loop-count", type=int, default=32, help="subgraphs of one round of the loop")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = CLOCKS[options.clock]
    x, labels = pool_of(options.nodes, options.classes, options.dims, options.labelled)
    start = time.perf_counter()
    sampler = SubgraphSampler(x, labels, per_class=options.per_class, unlabelled=options.unlabelled)
    made = time.perf_counter() - start
    rows, given = x.numpy(), labels.numpy()
    with threadpool_limits(options.threads):
        before = resident()
        with_ours(sampler, options.count)
        memory = resident() - before
        ours, loop = with_ours(sampler, options.loop_count), with_loop(sampler, rows, given, options.loop_count)
        for (edges, weights), (other_edges, other_weights) in zip(ours, loop, strict=True):
            assert np.array_equal(edges, other_edges)
            assert np.array_equal(weights, other_weights)
        times: dict[str, list[float]] = {"ours": [], "loop": []}
        for _ in range(options.rounds):
            times["ours"].append(seconds_each(partial(with_ours, sampler, options.count), options.count, clock))
            alone = partial(with_loop, sampler, rows, given, options.loop_count)
            times["loop"].append(seconds_each(alone, options.loop_count, clock))
    print(
        f"graphophone {graphophone.__version__}, torch {torch.__version__}, scikit-learn {sklearn.__version__}, "
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {options.threads} thread(s), "
        f"{options.clock} clock"
    )
    print(
        f"{options.nodes:,} nodes, {options.classes} classes, {options.dims} dims; subgraphs of "
        f"{options.classes * options.per_class + options.unlabelled} nodes, {sampler.subgraphs:,} an epoch; "
        f"sampler made in {1e3 * made:.0f} ms"
    )
    table = []
    for side, values in times.items():
        middle = statistics.median(values)
        spread = f"{1e3 * min(values):.3f}-{1e3 * max(values):.3f}"
        print(f"{side:>5}: {1 / middle:8.0f} subgraphs/s, {1e3 * middle:.3f} ms each ({spread})")
        table.append({"side": side, "subgraphs_per_second": 1 / middle, "ms": 1e3 * middle})
    ratios = [loop / ours for ours, loop in zip(times["ours"], times["loop"], strict=True)]
    print(f"ours is {statistics.median(ratios):.1f} times as fast; memory beyond the pool: {memory:.1f} MiB")
    if options.csv is not None:
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(table[0]))
            writer.writeheader()
            writer.writerows(table)


if __name__ == "__main__":
    main()
