"""The search: the same answer however it is cut into blocks, on every path, in bounded memory."""

import itertools
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from graphophone.graphs import cosine_threshold, knn, topk_similarity
from graphophone.graphs.search import _batches, _Search
from graphophone.graphs.space import Space
from graphophone.graphs.tiles import MOST, SPARE


def drifting(nodes: int) -> Tensor:
    """Frames that change slowly, as those of speech do."""
    return torch.randn(nodes, 6, generator=torch.Generator().manual_seed(1)).cumsum(0)


def silent_in_part(nodes: int) -> Tensor:
    """A third of the frames are one and the same: more ties than candidates are kept."""
    x = torch.randn(nodes, 6, generator=torch.Generator().manual_seed(2))
    x[nodes // 3 : 2 * nodes // 3] = x[0]
    return x


def twins_far_apart(nodes: int) -> Tensor:
    """Every node is most like those half the graph away: later tiles beat what earlier ones gave."""
    x = torch.randn(nodes // 2, 6, generator=torch.Generator().manual_seed(3)).sort(dim=0).values
    return torch.cat([x, x.roll(1, dims=0) * 2, x[: nodes % 2]])


def better_and_better(nodes: int) -> Tensor:
    """Every node is most like the last ones: every tile beats all before it."""
    angle = torch.linspace(0, 1.5, nodes, dtype=torch.float64) ** 3
    x = torch.stack([angle.cos(), angle.sin(), torch.zeros(nodes)], dim=1)
    x[: nodes // 2, 2] = torch.linspace(0.1, 0.2, nodes // 2, dtype=torch.float64)
    return x.flip(0)


def on_a_grid(nodes: int) -> Tensor:
    """Few distinct rows: nearly everything ties."""
    return torch.randint(-1, 2, (nodes, 3), generator=torch.Generator().manual_seed(4)).float()


KINDS = [drifting, silent_in_part, twins_far_apart, better_and_better, on_a_grid]


def reference(x: Tensor, k: int, include_self: bool = False, metric: str = "cosine") -> Tensor:
    """Brute force in double precision."""
    wide = x.double().numpy()
    if metric == "cosine":
        unit = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
        near = np.round(unit @ unit.T * 2**32)
    else:
        near = -np.sqrt(sum((column[:, None] - column) ** 2 for column in wide.T)).astype(np.float32).astype(float)
    if not include_self:
        np.fill_diagonal(near, -np.inf)
    sources = np.sort(np.argsort(-near, axis=1, kind="stable")[:, :k], axis=1)
    return torch.from_numpy(np.stack([sources.reshape(-1), np.arange(len(x)).repeat(k)]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nodes", [100, 371, 1300])
@pytest.mark.parametrize("k", [1, 10, 40])
def test_blocks_do_not_matter(kind, nodes: int, k: int) -> None:
    x = kind(nodes)
    expected = reference(x, k)
    for block in (1, 2**14, 2**17, 2**20, 2**24):
        assert torch.equal(topk_similarity(x, k, block=block), expected), block


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nodes", [100, 371, 1300])
def test_blocks_do_not_matter_to_knn(kind, nodes: int) -> None:
    x = kind(nodes)
    expected = reference(x, 7, metric="euclidean")
    for block in (2**14, 2**20):
        assert torch.equal(knn(x, 7, block=block), expected), block


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_do_not_matter_to_thresholds(kind) -> None:
    x = kind(371)
    whole = cosine_threshold(x, 0.9)
    for block in (1, 2**10, 2**14, 2**24):
        assert torch.equal(cosine_threshold(x, 0.9, block=block), whole), block


@pytest.mark.parametrize("nodes", [1025, 2049])
def test_a_graph_that_just_exceeds_a_tile(nodes: int) -> None:
    x = torch.randn(nodes, 6)
    assert torch.equal(topk_similarity(x, 10), reference(x, 10))
    assert torch.equal(topk_similarity(x, 10, include_self=True), reference(x, 10, include_self=True))


@pytest.mark.parametrize("include_self", [False, True])
@pytest.mark.parametrize("k", [100, 400, 1298])
def test_many_neighbors(k: int, include_self: bool) -> None:
    x = torch.randn(1300, 6)
    assert torch.equal(topk_similarity(x, k, include_self=include_self), reference(x, k, include_self))


def test_scales_and_offsets_that_strain_single_precision() -> None:
    x = torch.randn(400, 3, dtype=torch.float64)
    for near in (x * 1e-3 + 1000, x * 1e-25, x * 1e14, torch.cat([x, x[:1] + 1e8])):
        assert torch.equal(knn(near, 5), reference(near, 5, metric="euclidean"))
    # Cosines that single precision cannot tell from one.
    parallel = torch.ones(400, 3, dtype=torch.float64) + x * 1e-4
    assert torch.equal(topk_similarity(parallel, 5), reference(parallel, 5))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_path_for_other_devices(kind, metric) -> None:
    x = kind(600)
    found = torch.empty(600, 10, dtype=torch.int64)
    search = _Search(Space(x, [0, 600], metric), 10, False, 2**15, found)
    search._search_rows(0, 600)
    assert torch.equal(found.view(-1), reference(x, 10, metric=metric)[0])


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_lower_precision_of_products_does_not_matter(precision: str) -> None:
    x = torch.randn(700, 32)
    expected = reference(x, 10)
    torch.set_float32_matmul_precision(precision)
    try:
        assert torch.equal(topk_similarity(x, 10), expected)
        assert torch.equal(topk_similarity(x, 10, block=2**17), expected)
    finally:
        torch.set_float32_matmul_precision("highest")


def test_autocast_does_not_matter() -> None:
    x = torch.randn(700, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(topk_similarity(x, 10), reference(x, 10))
        assert torch.equal(topk_similarity(x, 10, block=2**17), reference(x, 10))


def test_threads_do_not_matter() -> None:
    x = on_a_grid(1300)
    torch.set_num_threads(2)
    try:
        assert torch.equal(topk_similarity(x, 10), reference(x, 10))
    finally:
        torch.set_num_threads(1)


def test_batches_hold_every_graph_once_and_waste_little() -> None:
    sizes = [370, 365, 93, 1, 371, 5000, 90, 94, 0, 3, 2]
    graphs = list(zip(sizes, itertools.count(), strict=False))
    made = list(_batches(graphs, room=2**18))
    assert sorted(pair for begins, widths in made for pair in zip(widths, begins, strict=True)) == sorted(graphs)
    for begins, widths in made:
        assert len(begins) == 1 or max(widths) ** 2 * len(widths) <= 2**18
        assert max(widths) == widths[0] <= 1.5 * min(widths) + 10
    assert ([5], [5000]) in made


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that an operation makes."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, Tensor):
                self.numbers = max(self.numbers, value.untyped_storage().nbytes() // value.element_size())
        return result


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("function", [topk_similarity, knn])
def test_no_array_exceeds_the_block(function, kind) -> None:
    nodes, k, block = 3000, 5, 2**16
    x = kind(nodes)
    tracemalloc.start()
    with Largest() as largest:
        function(x, k, block=block)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # nodes * nodes is 9,000,000.
    assert largest.numbers <= max(block, 8 * nodes * (k + 3))
    # Bytes that NumPy holds: tiles, and 2 * MOST * nodes * (k + SPARE) candidates of 20 bytes, several times while
    # they are sifted. All similarities are 36e6 bytes.
    assert peak < 8 * block + 4 * 2 * MOST * nodes * (k + SPARE) * 20 < 17e6


def test_no_array_of_a_threshold_search_exceeds_the_block_or_the_edges() -> None:
    block = 2**14
    with Largest() as largest:
        edges = cosine_threshold(torch.randn(3000, 30), 0.6, block=block)
    assert 0 < edges.numel() < block
    assert largest.numbers <= 3000 * 32


@pytest.mark.slow
def test_memory_at_20000_nodes() -> None:
    program = (
        "import resource, torch\n"
        "from graphophone.graphs import topk_similarity\n"
        "x = torch.randn(20_000, 76)\n"
        "topk_similarity(x[:3000], 10)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "topk_similarity(x, 10)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    unit = 1 if sys.platform == "darwin" else 1024
    # All similarities at once would be 1600 MB.
    assert int(run.stdout) * unit < 150e6
