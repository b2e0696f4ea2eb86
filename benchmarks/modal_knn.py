"""How fast the graph of HemoGAT is built, against scikit-learn, faiss and the full matrix.

    python benchmarks/modal_knn.py
    python benchmarks/modal_knn.py --items 100000 --peers none --csv large.csv

Items have a text and an audio vector of 768 numbers each, and hear the 2 nearest by text, the 8 nearest by audio, and
themselves; a share of the texts are repeated, as what people say is. Each side makes the same `edge_index`:

* `ours`: `graphophone.graphs.modal.modal_edges`;
* `faiss`: `IndexFlatIP` over rows of length one, k + 1 neighbours;
* `sklearn`: `NearestNeighbors(algorithm="brute")` over rows of length one, k + 1 neighbours;
* `blocks`: products of 1,024 rows with all others, `topk` of each block;
* `matrix`: the full matrix and a full sort of every row, one row at a time, as is often written.

The others know no rule for ties. Before anything is timed, each side's neighbours are compared with ours, and asserted
to be as near within the rounding of single precision. Sides are measured in turn within each round, the full matrix in
the first only; `--clock cpu` counts the time of this process alone. Memory is what a side adds, at its peak, to the
resident set before it, measured in a process of its own.
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
from collections.abc import Callable, Iterator, Sequence
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
from graphophone.graphs.modal import modal_edges, neighbour_edges

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def parts_of(items: int, dims: int, repeated: float) -> list[Tensor]:
    """Text and audio vectors; some of the texts are copies of few others. Each [items, dims]."""
    generator = torch.Generator().manual_seed(0)
    text, audio = (torch.randn(items, dims, generator=generator) for _ in range(2))
    copies = (torch.rand(items, generator=generator) < repeated).nonzero()[:, 0]
    # The most frequent phrase comes many times, the tenth a tenth as often.
    phrase = (items / 50) ** torch.rand(len(copies), generator=generator)
    text[copies] = text[phrase.long()]
    return [text, audio]


def without_self(found: NDArray[np.int64], k: int) -> Tensor:
    """The k nearest of k + 1, without the item itself or, where it is not among them, without the last."""
    keep = found != np.arange(len(found))[:, None]
    keep[keep.all(axis=1), -1] = False
    return torch.from_numpy(found[keep].reshape(len(found), k).astype(np.int64))


def unit_rows(part: Tensor) -> Tensor:
    return part / part.norm(dim=1, keepdim=True).clamp(min=1e-10)


def with_faiss(part: Tensor, k: int) -> Tensor:
    rows = unit_rows(part).numpy()
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    return without_self(index.search(rows, k + 1)[1], k)


def with_sklearn(part: Tensor, k: int) -> Tensor:
    rows = unit_rows(part).numpy()
    search = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(rows)
    return without_self(search.kneighbors(rows, return_distance=False), k)


def with_blocks(part: Tensor, k: int) -> Tensor:
    rows = unit_rows(part)
    found = []
    for some in torch.arange(len(rows)).split(1024):
        scores = rows[some] @ rows.T
        scores[torch.arange(len(some)), some] = -torch.inf
        found.append(scores.topk(k, dim=1).indices)
    return torch.cat(found)


def with_matrix(part: Tensor, k: int) -> Tensor:
    rows = unit_rows(part)
    matrix = (rows @ rows.T).numpy()
    np.fill_diagonal(matrix, -np.inf)
    return torch.from_numpy(np.stack([np.argsort(-row)[:k] for row in matrix]))


PEERS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "faiss": with_faiss,
    "sklearn": with_sklearn,
    "blocks": with_blocks,
    "matrix": with_matrix,
}


def build(side: str, parts: Sequence[Tensor], k: Sequence[int]) -> Tensor:
    if side == "ours":
        return modal_edges(parts, k)
    return neighbour_edges([PEERS[side](part, count) for part, count in zip(parts, k, strict=True)])


def assert_as_near(part: Tensor, found: Tensor, k: int) -> int:
    """Make sure that a side's neighbours are as near as ours; how many items have others, for ties."""
    edges = modal_edges([part], [k])
    ours = edges[0, edges[0] != edges[1]].view(len(part), k)
    different = (ours != found.sort(dim=1).values).any(dim=1).nonzero()[:, 0]
    for some in different.split(256) if len(different) else ():
        rows = unit_rows(part[some].double())[:, None]
        near = [
            (unit_rows(part[n[some]].double().flatten(0, 1)).view(len(some), k, -1) * rows).sum(2)
            for n in (ours, found)
        ]
        mine, other = (scores.sort(dim=1).values for scores in near)
        assert (mine >= other - 1e-12).all(), "another side found a nearer item"
        torch.testing.assert_close(mine, other, atol=2e-6, rtol=0)
    return len(different)


def resident() -> float:
    """Largest resident set so far, MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # What `resource` tells on Linux begins with the largest set of the process that started this one.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1024 if sys.platform == "linux" else 1) / 2**20


def memory_of(side: str, options: argparse.Namespace) -> tuple[float, float]:
    """What a side adds to the resident set of a process that holds the items, and all of it then, MiB."""
    keep = ["items", "dims", "repeated", "k_text", "k_audio", "threads"]
    arguments = [f"--{name.replace('_', '-')}={getattr(options, name)}" for name in keep]
    done = subprocess.run(  # noqa: S603 - this file, with options of this program
        [sys.executable, __file__, *arguments, "--memory-of", side], capture_output=True, text=True, check=True
    )
    added, total = done.stdout.split()
    return float(added), float(total)


def rounds_of(
    sides: Sequence[str], parts: Sequence[Tensor], k: Sequence[int], clock: Callable[[], float], rounds: int
) -> Iterator[tuple[str, float]]:
    for number in range(rounds):
        for side in sides:
            if side == "matrix" and number:
                continue
            begin = clock()
            build(side, parts, k)
            yield side, clock() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=9988)
    parser.add_argument("--dims", type=int, default=768)
    parser.add_argument("--repeated", type=float, default=0.1, help="share of texts that are copies of others")
    parser.add_argument("--k-text", type=int, default=2)
    parser.add_argument("--k-audio", type=int, default=8)
    parser.add_argument("--peers", nargs="*", choices=[*PEERS, "none"], default=list(PEERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--memory-of", choices=["ours", *PEERS], help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    faiss.omp_set_num_threads(options.threads)
    parts = parts_of(options.items, options.dims, options.repeated)
    k = [options.k_text, options.k_audio]
    if options.memory_of:
        build(options.memory_of, [part[:500] for part in parts], k)
        before = resident()
        build(options.memory_of, parts, k)
        print(resident() - before, resident())
        return
    sides = ["ours", *(side for side in options.peers if side != "none")]
    print(
        f"graphophone {graphophone.__version__}, torch {torch.__version__}, scikit-learn {sklearn.__version__}, "
        f"faiss {faiss.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"{options.threads} thread(s), {options.clock} clock"
    )
    times: dict[str, list[float]] = {side: [] for side in sides}
    with threadpool_limits(options.threads):
        ties = {
            side: [assert_as_near(part, PEERS[side](part, n), n) for part, n in zip(parts, k, strict=True)]
            for side in sides
            if side != "ours"
        }
        for side, taken in rounds_of(sides, parts, k, CLOCKS[options.clock], options.rounds):
            times[side].append(taken)
    edges = modal_edges(parts, k).shape[1]
    print(f"{options.items:,} items, {options.dims} dims, k {k[0]} + {k[1]}: {edges:,} edges")
    table = []
    for side, seconds in times.items():
        ratio = statistics.median([theirs / ours for theirs, ours in zip(seconds, times["ours"], strict=False)])
        added, total = memory_of(side, options)
        print(
            f"{side:>8}: {statistics.median(seconds):8.2f} s ({min(seconds):.2f}-{max(seconds):.2f}), ours is "
            f"{ratio:5.2f} times as fast; {added:6.0f} MiB beyond the items, {total:6.0f} in all"
            + (
                f"; other neighbours for ties: {ties[side][0]} by text, {ties[side][1]} by audio"
                if side in ties
                else ""
            )
        )
        table.append(
            {
                "side": side,
                "items": options.items,
                "dims": options.dims,
                "threads": options.threads,
                "clock": options.clock,
                "seconds": round(statistics.median(seconds), 4),
                "ours_faster": round(ratio, 3),
                "added_mib": round(added, 1),
                "resident_mib": round(total, 1),
            }
        )
    if options.csv is not None:
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(table[0]))
            writer.writeheader()
            writer.writerows(table)


if __name__ == "__main__":
    main()
