"""Signed graphs: the rules by brute force, their laws, and that neither blocks nor company change them."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Batch, Data

from graphophone.graphs import GraphError, Signed, build_graph, create_graph
from graphophone.graphs.signed import _chosen, _chosen_in_small_sets, signed_edges

N_CLASSES = 3


def dense(edge_index: Tensor, weight: Tensor, nodes: int) -> Tensor:
    matrix = torch.zeros(nodes, nodes)
    matrix[edge_index[1], edge_index[0]] = weight
    return matrix


def brute_force(x: Tensor, labels: Tensor, positives: int, k: int | None, far: str) -> Tensor:
    """The rules, node by node."""
    rows = x.double()
    distance = np.float32((rows[:, None] - rows[None]).square().sum(2).sqrt().numpy()).astype(np.float64)
    nodes = len(x)
    plus, minus = set(), set()
    for i in range(nodes):
        others = [j for j in range(nodes) if j != i]
        if labels[i] >= 0:
            candidates = sorted((j for j in others if labels[j] >= 0), key=lambda j: (distance[i, j], j))
            mates = [j for j in candidates[:k] if labels[j] == labels[i]]
            foes = [j for j in candidates if far == "any" or labels[j] != labels[i]]
        else:
            mates = sorted(others, key=lambda j: (distance[i, j], j))
            foes = others
        plus |= {(min(i, j), max(i, j)) for j in mates[:positives]}
        if foes:
            j = min(foes, key=lambda j: (-distance[i, j], j))
            minus.add((min(i, j), max(i, j)))
    matrix = torch.zeros(nodes, nodes)
    for pairs, value in ((minus, -1.0), (plus, 1.0)):
        for i, j in pairs:
            matrix[i, j] = matrix[j, i] = value
    return matrix


@st.composite
def pools(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Nodes with labels or without, some of them on a coarse grid, where nearly all distances tie."""
    nodes = draw(st.integers(1, 24))
    seed = draw(st.integers(0, 2**20))
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(nodes, 3, generator=generator)
    if draw(st.booleans()):
        x = x.round()
    return x, torch.randint(-1, N_CLASSES, (nodes,), generator=generator)


@given(pools(), st.integers(1, 3), st.sampled_from([None, 1, 4]), st.sampled_from(["any", "other_class"]))
def test_equals_the_rules_node_by_node(pool: tuple[Tensor, Tensor], positives: int, k: int | None, far: str) -> None:
    x, labels = pool
    found = dense(*signed_edges(x, labels, positives=positives, k=k, far=far), len(x))
    assert torch.equal(found, brute_force(x, labels, positives, k, far))


@given(pools(), st.integers(1, 3))
def test_by_similarity_labels_choose_nothing(pool: tuple[Tensor, Tensor], positives: int) -> None:
    x, labels = pool
    found = signed_edges(x, labels, positives=positives, labelled_edges="similarity")
    none = torch.full_like(labels, -1)
    assert torch.equal(dense(*found, len(x)), brute_force(x, none, positives, None, "any"))
    for other in (none, labels.flip(0)):
        again = signed_edges(x, other, positives=positives, labelled_edges="similarity")
        assert all(torch.equal(one, two) for one, two in zip(found, again, strict=True))


@given(pools())
def test_laws(pool: tuple[Tensor, Tensor]) -> None:
    x, labels = pool
    edge_index, weight = signed_edges(x, labels)
    matrix = dense(edge_index, weight, len(x))
    assert torch.equal(matrix, matrix.T)
    assert not matrix.diagonal().any()
    assert set(matrix.unique().tolist()) <= {-1.0, 0.0, 1.0}
    code = edge_index[1] * len(x) + edge_index[0]
    assert bool((code.diff() > 0).all())  # sorted by target, then source, each once
    same = (labels[:, None] == labels) & (labels >= 0)
    for node in (labels >= 0).nonzero()[:, 0].tolist():
        mates = int(same[node].sum()) - 1
        assert int(((matrix[node] > 0) & same[node]).sum()) >= min(2, mates)
    both = (labels[:, None] >= 0) & (labels >= 0)
    assert not ((matrix > 0) & both & ~same).any()
    # A labelled node needs another labelled one; an unlabelled node is content with any.
    if len(x) > 1 and int((labels >= 0).sum()) != 1:
        assert bool((matrix != 0).any(dim=1).all())


@given(st.integers(0, 2**20))
def test_rotation_and_translation_change_nothing(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(20, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(-1, N_CLASSES, (20,), generator=generator)
    turn = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64)).Q
    for one, other in zip(signed_edges(x, labels), signed_edges(x @ turn + 3.0, labels), strict=True):
        assert torch.equal(one, other)


@given(st.lists(pools(), min_size=1, max_size=6), st.sampled_from([1, 50, 4096, 2**22]))
def test_company_and_blocks_change_nothing(graphs: list[tuple[Tensor, Tensor]], block: int) -> None:
    sizes = torch.tensor([0, *(len(x) for x, _ in graphs)]).cumsum(0)
    x, labels = torch.cat([x for x, _ in graphs]), torch.cat([y for _, y in graphs])
    together = dense(*signed_edges(x, labels, ptr=sizes, block=block), len(x))
    alone = torch.block_diag(*(dense(*signed_edges(*graph), len(graph[0])) for graph in graphs))
    assert torch.equal(together, alone)


@pytest.mark.parametrize("far", ["any", "other_class"])
def test_small_sets_are_compared_at_once_unless_that_leaves_a_choice_open(far: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, 20, generator=generator)
    labels = torch.randint(-1, 5, (600,), generator=generator)
    ptr = torch.arange(0, 601, 60)
    quick = _chosen_in_small_sets(x, labels, ptr, 2, far)  # type: ignore[arg-type]
    assert quick is not None
    slow = _chosen(x, labels, ptr, 2, None, far, 2**22)  # type: ignore[arg-type]
    for one, other in zip(quick, slow, strict=True):
        assert sorted(one.T.tolist()) == sorted(other.T.tolist())
    x[60:120] = x[60]
    assert _chosen_in_small_sets(x, labels, ptr, 2, far) is None  # type: ignore[arg-type]


def test_nearly_equal_distances_are_left_to_the_exact_search() -> None:
    """Node 0 is as far from 1 as from 2, but for less than single precision tells: the smaller index is nearer."""
    step = 2.0**-30
    for first, second in ((1 + step, 1.0), (1.0, 1 + step)):
        x = torch.tensor([[0.0], [first], [-second], [9.0]], dtype=torch.float64)
        matrix = dense(*signed_edges(x, torch.full((4,), -1), positives=1), 4)
        assert matrix[0].tolist() == [0, 1, 1, -1]
        labels = torch.tensor([0, 0, 0, -1])
        assert _chosen_in_small_sets(x, labels, torch.tensor([0, 4]), 1, "any") is None


def test_three_points_on_a_line() -> None:
    x = torch.tensor([[0.0], [1.0], [5.0]])
    free = dense(*signed_edges(x, torch.full((3,), -1), positives=1), 3)
    # 0 and 1 choose each other, 2 chooses 1 and is farthest from 0; 1 is also farthest from 2, which loses to +1.
    assert free.tolist() == [[0, 1, -1], [1, 0, 1], [-1, 1, 0]]
    known = dense(*signed_edges(x, torch.tensor([0, 1, 0]), positives=1), 3)
    assert known.tolist() == [[0, 0, 1], [0, 0, -1], [1, -1, 0]]


def test_farthest_of_another_class() -> None:
    x = torch.tensor([[0.0], [9.0], [1.0], [2.0], [3.0]])
    labels = torch.tensor([0, 0, 0, 0, 1])
    any_label = dense(*signed_edges(x, labels, positives=1), 5)
    other = dense(*signed_edges(x, labels, positives=1, far="other_class"), 5)
    assert any_label[0, 4] == 0
    assert (other[:4, 4] == -1).all()


def test_an_outlier_that_is_chosen_by_both_is_alike() -> None:
    x = torch.tensor([[0.0], [10.0]])
    assert signed_edges(x, torch.tensor([0, 0]))[1].tolist() == [1.0, 1.0]
    assert signed_edges(x, torch.tensor([0, 1]))[1].tolist() == [-1.0, -1.0]


def test_identical_rows_are_joined_to_the_smaller_index_never_to_themselves() -> None:
    x = torch.ones(6, 4)
    edge_index, weight = signed_edges(x, torch.full((6,), -1))
    assert torch.equal(dense(edge_index, weight, 6), brute_force(x, torch.full((6,), -1), 2, None, "any"))


@pytest.mark.parametrize("nodes", [0, 1])
def test_too_few_nodes_have_no_edges(nodes: int) -> None:
    edge_index, weight = signed_edges(torch.zeros(nodes, 3), torch.zeros(nodes, dtype=torch.int64))
    assert edge_index.shape == (2, 0)
    assert weight.shape == (0,)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"positives": 0}, "positives"),
        ({"k": 0}, "k is 0"),
        ({"far": "near"}, "far"),
        ({"block": 0}, "block"),
        ({"labelled_edges": "blind"}, "labelled_edges is 'blind'"),
        ({"labelled_edges": "similarity", "k": 3}, "k and far are rules by class"),
        ({"labelled_edges": "similarity", "far": "other_class"}, "k and far are rules by class"),
    ],
)
def test_options_that_make_no_sense(options: dict, text: str) -> None:
    with pytest.raises(GraphError, match=text):
        signed_edges(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64), **options)


@pytest.mark.parametrize("labels", [torch.zeros(2, dtype=torch.int64), torch.zeros(3), torch.ones(3, dtype=torch.bool)])
def test_labels_that_do_not_fit(labels: Tensor) -> None:
    with pytest.raises(GraphError, match="whole numbers"):
        signed_edges(torch.zeros(3, 2), labels)


def test_features_that_are_not_finite() -> None:
    with pytest.raises(GraphError, match="node 1"):
        signed_edges(torch.tensor([[0.0], [float("nan")]]), torch.tensor([0, 0]))


def test_a_whole_corpus_fits_in_memory() -> None:
    """4,000 nodes: a matrix of them would take 64 MB in single precision alone."""
    code = """
import resource, sys, torch
from graphophone.graphs.signed import _chosen, _chosen_in_small_sets, signed_edges
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
x = torch.randn(4000, 8, generator=generator)
labels = torch.where(torch.rand(4000, generator=generator) < 0.1, torch.arange(4000) % 4, -1)
scale = 1024 if sys.platform == "linux" else 1
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
edge_index, weight = signed_edges(x, labels, block=2**17)
assert edge_index.shape[1] > 8000 and len(weight) == edge_index.shape[1]
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale - before) / 2**20)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 48


def test_the_builder_reads_labels_where_there_are_any() -> None:
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    y = torch.arange(20) % 3
    y[8:] = -1
    builder = create_graph("signed", positives=1, far="other_class")
    for labels in (y, None):
        data = builder(Data(x=x, y=labels))
        expected = signed_edges(x, torch.full((20,), -1) if labels is None else labels, positives=1, far="other_class")
        assert torch.equal(data.edge_index, expected[0])
        assert torch.equal(data.edge_weight, expected[1])
    assert build_graph(builder.config) == builder
    blind = create_graph("signed", labelled_edges="similarity")
    assert torch.equal(blind(Data(x=x, y=y)).edge_index, Signed()(Data(x=x)).edge_index)
    assert build_graph(blind.config) == blind != Signed()
    assert build_graph({"name": "signed", "positives": 2, "k": None, "far": "any"}) == Signed()  # of an older model
    assert torch.equal(builder.edges(torch.tensor([0, 20]), x), builder(Data(x=x)).edge_index)


def test_a_batch_gets_the_edges_and_weights_of_its_graphs() -> None:
    generator = torch.Generator().manual_seed(1)
    single = [
        Data(x=torch.randn(size, 4, generator=generator), y=torch.randint(-1, 3, (size,), generator=generator))
        for size in (5, 1, 12)
    ]
    builder = Signed()
    batch = builder(Batch.from_data_list(single))
    for data, expected in zip(batch.to_data_list(), map(builder, single), strict=True):
        assert torch.equal(data.edge_index, expected.edge_index)
        assert torch.equal(data.edge_weight, expected.edge_weight)


def test_rules_of_the_builder_that_make_no_sense() -> None:
    for options in ({"positives": 0}, {"k": 0}, {"far": "near"}):
        with pytest.raises(GraphError, match=next(iter(options))):
            create_graph("signed", **options)
