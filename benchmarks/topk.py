"""How fast top-k similarity graphs are built, against scikit-learn and faiss.

    python benchmarks/topk.py
    python benchmarks/topk.py --threads 1 --nodes 1000 20000 --csv topk.csv

Each side turns a matrix of node features into the same `edge_index`: the k nodes of highest cosine similarity of
every node, itself left out, sorted by target and source.

* `ours`: `graphophone.graphs.topk_similarity`;
* `faiss`: `IndexFlatIP` over rows of length one;
* `sklearn`: `NearestNeighbors(algorithm="brute")`, Euclidean over rows of length one, which takes less than half of
  the time of `metric="cosine"`.

Graphs are single recordings of 100 to 20,000 nodes, and batches of 8 clips of 370 and of 93 frames, for which the
others are called clip by clip. Features are independent normal numbers (`noise`), or change as slowly as those of
speech do (`speech`). Before anything is timed, all sides are asserted to have found the same neighbors; where they
differ, the similarities must be equal within the rounding of single precision.

Sides are measured in turn within each round, so that a change in the machine's load meets all of them alike. On a
busy machine, `--clock cpu` counts the time of this process alone; with more than one thread it adds up what all
threads take, waiting included.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import faiss
import numpy as np
import sklearn
import torch
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits
from torch import Tensor

import graphophone
from graphophone.graphs import topk_similarity

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Row = dict[str, str | int | float]


def recording(nodes: int, dims: int, kind: str, generator: np.random.Generator) -> Tensor:
    """Features of one recording, `[nodes, dims]` float32."""
    x = generator.standard_normal((nodes, dims), dtype=np.float32)
    if kind == "speech":
        drift = np.float32(0.8)
        for node in range(1, nodes):
            x[node] = drift * x[node - 1] + np.sqrt(1 - drift**2) * x[node]
    return torch.from_numpy(x)


def unit_rows(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def edges_of(neighbors: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """`edge_index` from the k + 1 nearest nodes of each node, of which one is the node itself or else the last goes."""
    nodes = len(neighbors)
    keep = neighbors != np.arange(nodes)[:, None]
    keep[keep.all(axis=1), -1] = False
    sources = np.sort(neighbors[keep].reshape(nodes, k), axis=1)
    return np.stack([sources.reshape(-1), np.arange(nodes).repeat(k)])


def with_faiss(x: Tensor, k: int) -> Tensor:
    rows = unit_rows(x.numpy())
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    return torch.from_numpy(edges_of(index.search(rows, k + 1)[1], k))


def with_sklearn(x: Tensor, k: int) -> Tensor:
    rows = unit_rows(x.numpy())
    search = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(rows)
    return torch.from_numpy(edges_of(search.kneighbors(rows, return_distance=False), k))


def clip_by_clip(build: Callable[[Tensor, int], Tensor], x: Tensor, sizes: list[int], k: int) -> Tensor:
    if len(sizes) == 1:
        return build(x, k)
    edges, begin = [], 0
    for clip in x.split(sizes):
        edges.append(build(clip, k) + begin)
        begin += len(clip)
    return torch.cat(edges, dim=1)


def assert_same_neighbors(x: Tensor, ours: Tensor, theirs: Tensor, k: int) -> int:
    """Count the nodes whose neighbors differ, and make sure that it is for ties in single precision."""
    assert ours.shape == theirs.shape
    assert torch.equal(ours[1], theirs[1])
    mine, other = ours[0].view(-1, k), theirs[0].view(-1, k)
    nodes = (mine != other).any(dim=1).nonzero()[:, 0]
    rows = torch.nn.functional.normalize(x.double(), dim=1)
    for node in nodes:
        near_mine = (rows[mine[node]] @ rows[node]).sort().values
        near_other = (rows[other[node]] @ rows[node]).sort().values
        assert (near_mine >= near_other - 1e-12).all(), "the others found a nearer node"
        torch.testing.assert_close(near_mine, near_other, atol=2e-6, rtol=0)
    return len(nodes)


def measure(
    sides: Mapping[str, Callable[[], object]], clock: Callable[[], float], rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Seconds of every round of every side, the sides taken in turn; at least `rounds`, more while there is time."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for call in sides.values():
        call()
    start = time.perf_counter()
    while len(times["ours"]) < rounds or (len(times["ours"]) < 300 and time.perf_counter() - start < seconds):
        for name, call in sides.items():
            begin = clock()
            call()
            times[name].append(clock() - begin)
    return times


def report(rows: list[Row], case: str, dims: int, times: dict[str, list[float]], clock: str, ties: int) -> None:
    """Print one line, and keep it for the CSV."""
    ours = times["ours"]
    line = f"{torch.get_num_threads():>7} {case:<16} {dims:>4}"
    peers = [side for side in times if side != "ours"]
    best = min(peers, key=lambda side: statistics.median(times[side]))
    for side, seconds in times.items():
        median, least = statistics.median(seconds) * 1e3, min(seconds) * 1e3
        ratio, ratio_least = statistics.median(seconds) / statistics.median(ours), min(seconds) / min(ours)
        line += f"  {side} {median:8.2f} / {least:8.2f}"
        rows.append(
            {
                "case": case,
                "dims": dims,
                "side": side,
                "clock": clock,
                "median_ms": round(median, 4),
                "min_ms": round(least, 4),
                "ours_faster_median": round(ratio, 3),
                "ours_faster_min": round(ratio_least, 3),
                "rounds": len(seconds),
                "threads": torch.get_num_threads(),
                "load_average": round(os.getloadavg()[0], 2),
                "torch": torch.__version__,
                "faiss": faiss.__version__,
                "scikit-learn": sklearn.__version__,
                "graphophone": graphophone.__version__,
                "machine": platform.processor() or platform.machine(),
            }
        )
    ratio = statistics.median(times[best]) / statistics.median(ours)
    ratio_least = min(min(times[side]) for side in peers) / min(ours)
    note = "" if ratio >= 1 or ratio_least >= 1 else "  SLOWER"
    tied = f"  ({ties} nodes with ties)" if ties else ""
    print(f"{line}  {ratio:5.2f}x / {ratio_least:5.2f}x than {best}{note}{tied}", flush=True)


def main() -> None:
    """Read the command line, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    threads = [1, 2] if (os.cpu_count() or 1) > 1 else [1]
    nodes = [100, 300, 1000, 2000, 5000, 10_000, 20_000]
    parser.add_argument("--threads", type=int, nargs="+", default=threads, help=f"threads (default {threads})")
    parser.add_argument("--nodes", type=int, nargs="*", default=nodes, help="nodes of single recordings")
    parser.add_argument("--frames", type=int, nargs="*", default=[370, 93], help="frames of each of 8 clips")
    parser.add_argument("--dims", type=int, nargs="+", default=[76, 256], help="columns of features")
    parser.add_argument("--k", type=int, default=10, help="neighbors")
    parser.add_argument("--kinds", nargs="+", default=["noise", "speech"], choices=["noise", "speech"])
    parser.add_argument("--rounds", type=int, default=3, help="least number of measured rounds")
    parser.add_argument("--seconds", type=float, default=1.0, help="measure for at least so long per line")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="cpu for busy machines")
    parser.add_argument("--csv", type=Path, help="also write the figures here")
    options = parser.parse_args()
    print(
        f"torch {torch.__version__}, faiss {faiss.__version__}, scikit-learn {sklearn.__version__}, "
        f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.2f}, k = {options.k}"
    )
    print(f"milliseconds ({options.clock}), median / min of interleaved rounds; at the end how many times faster")
    print("ours is than the faster of the others")
    print("threads graph            dims")
    rows: list[Row] = []
    cases = [(kind, [n]) for kind in options.kinds for n in options.nodes]
    cases += [(kind, [n] * 8) for kind in options.kinds for n in options.frames]
    for count in options.threads:
        torch.set_num_threads(count)
        faiss.omp_set_num_threads(count)
        with threadpool_limits(count):
            for kind, sizes in cases:
                for dims in options.dims:
                    generator = np.random.default_rng(0)
                    x = torch.cat([recording(n, dims, kind, generator) for n in sizes])
                    ptr = torch.tensor([0, *sizes]).cumsum(0) if len(sizes) > 1 else None
                    sides: dict[str, Callable[[], Tensor]] = {
                        "ours": partial(topk_similarity, x, options.k, ptr=ptr),
                        "faiss": partial(clip_by_clip, with_faiss, x, sizes, options.k),
                        "sklearn": partial(clip_by_clip, with_sklearn, x, sizes, options.k),
                    }
                    found = {side: call() for side, call in sides.items()}
                    ties = max(
                        assert_same_neighbors(x, found["ours"], found[side], options.k) for side in ("faiss", "sklearn")
                    )
                    times = measure(sides, CLOCKS[options.clock], options.rounds, options.seconds)
                    case = f"{kind} {sizes[0]}" if len(sizes) == 1 else f"{kind} {len(sizes)}x{sizes[0]}"
                    report(rows, case, dims, times, options.clock, ties)
    print(f"load average at the end {os.getloadavg()[0]:.2f}")
    if options.csv:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
        print(f"wrote {options.csv}")


if __name__ == "__main__":
    main()
