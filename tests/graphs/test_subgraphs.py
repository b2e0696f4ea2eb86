"""Sampled subgraphs: balance, every unlabelled node once, the same for a seed."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from graphophone.graphs import GraphError
from graphophone.graphs.signed import signed_edges
from graphophone.graphs.subgraphs import SubgraphSampler


def pool(labelled: int, unlabelled: int, classes: int, dims: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Nodes in random order, as many labelled ones of each class as can be."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.arange(labelled) % classes, torch.full((unlabelled,), -1)])
    labels = labels[torch.randperm(len(labels), generator=generator)]
    return torch.randn(len(labels), dims, generator=generator), labels


def test_an_epoch_of_the_published_speech_corpus() -> None:
    x, labels = pool(359, 3233, 4)
    sampler = SubgraphSampler(x, labels)
    assert len(sampler) == sampler.subgraphs == 647
    seen = []
    for nodes, limits in sampler.nodes(0):
        for begin, end in itertools.pairwise(limits):
            drawn = labels[nodes[begin:end]].numpy()
            assert np.bincount(drawn[drawn >= 0], minlength=4).tolist() == [12] * 4
            assert len(np.unique(nodes[begin:end])) == end - begin
            seen.append(nodes[begin:end][drawn < 0])
    assert [len(part) for part in seen] == [5] * 646 + [3]
    assert sorted(np.concatenate(seen)) == (labels < 0).nonzero()[:, 0].tolist()


@pytest.mark.parametrize(("classes", "per_class", "size"), [(4, 12, 53), (33, 2, 71)])
def test_published_sizes(classes: int, per_class: int, size: int) -> None:
    x, labels = pool(classes * 20, 50, classes)
    batches = list(SubgraphSampler(x, labels, per_class=per_class).epoch())
    assert [batch.num_nodes for batch in batches] == [size] * 10


@given(
    st.integers(2, 5),
    st.integers(1, 6),
    st.integers(1, 7),
    st.integers(0, 130),
    st.integers(1, 40),
    st.integers(0, 2**20),
)
def test_every_unlabelled_node_once_and_all_edges_by_the_rules(
    classes: int, per_class: int, few: int, unlabelled: int, batch_graphs: int, seed: int
) -> None:
    x, labels = pool(classes * 7, unlabelled, classes, seed=seed)
    sampler = SubgraphSampler(
        x, labels, per_class=per_class, unlabelled=few, batch_graphs=batch_graphs, seed=seed, far="other_class"
    )
    seen, graphs, counts = [], 0, []
    for batch in sampler.epoch(seed % 3):
        assert torch.equal(batch.x, x[batch.node])
        assert torch.equal(batch.y, labels[batch.node])
        assert torch.equal(torch.bincount(batch.batch, minlength=batch.num_graphs), batch.ptr.diff())
        edge_index, weight = signed_edges(batch.x, batch.y, ptr=batch.ptr, far="other_class")
        assert torch.equal(batch.edge_index, edge_index)
        assert torch.equal(batch.edge_weight, weight)
        known = batch.y >= 0
        balance = torch.zeros(batch.num_graphs, classes, dtype=torch.int64)
        balance.index_put_((batch.batch[known], batch.y[known]), torch.tensor(1), accumulate=True)
        assert bool((balance == per_class).all())
        seen.append(batch.node[~known])
        graphs += batch.num_graphs
        counts.append(batch.num_graphs)
    assert torch.cat(seen).sort().values.tolist() == (labels < 0).nonzero()[:, 0].tolist()
    assert graphs == sampler.subgraphs
    assert len(counts) == len(sampler)
    assert all(count == batch_graphs for count in counts[:-1])


def test_the_same_for_a_seed_and_other_in_another_epoch() -> None:
    x, labels = pool(40, 200, 4)

    def drawn(seed: int, epoch: int, batch_graphs: int = 1) -> list[int]:
        sampler = SubgraphSampler(x, labels, per_class=3, seed=seed, batch_graphs=batch_graphs)
        return torch.cat([batch.node for batch in sampler.epoch(epoch)]).tolist()

    assert drawn(1, 2) == drawn(1, 2) == drawn(1, 2, batch_graphs=7)
    assert drawn(1, 2) != drawn(1, 3)
    assert drawn(1, 2) != drawn(2, 2)


def test_labelled_nodes_are_drawn_evenly() -> None:
    x, labels = pool(40, 3000, 2)
    counts = torch.zeros(len(labels))
    for nodes, _ in SubgraphSampler(x, labels, per_class=5, unlabelled=3).nodes(0):
        counts += torch.bincount(torch.from_numpy(nodes), minlength=len(labels))
    drawn = counts[labels >= 0]
    expected = 1000 * 5 / 20
    sd = (1000 * 0.25 * 0.75) ** 0.5
    assert float((drawn - expected).abs().max()) < 4.5 * sd


def test_all_labelled() -> None:
    x, labels = pool(100, 0, 4)
    sampler = SubgraphSampler(x, labels, per_class=6)
    batches = list(sampler.epoch())
    assert len(batches) == len(sampler) == 5  # 100 nodes, 24 in each
    assert all(torch.bincount(batch.y).tolist() == [6] * 4 for batch in batches)


def test_a_class_with_too_few_labels() -> None:
    x, labels = pool(40, 60, 4)
    labels[(labels == 2).nonzero()[2:, 0]] = -1
    with pytest.warns(UserWarning, match="of class 2: drawn with replacement"):
        sampler = SubgraphSampler(x, labels, per_class=5)
    for batch in sampler.epoch():
        counts = torch.bincount(batch.y[batch.y >= 0], minlength=4).tolist()
        assert counts[:2] + counts[3:] == [5] * 3
        assert 1 <= counts[2] <= 2


@pytest.mark.parametrize(
    ("labels", "options", "text"),
    [
        ([-1, -1, -1], {}, "no node has a label"),
        ([0, 2, -1], {}, "no node is labelled with class 1"),
        ([0, 1, -1], {"num_classes": 3}, "class 2"),
        ([0, 1, 2], {"num_classes": 2}, "raise num_classes"),
        ([0, 1], {}, "do not fit"),
        ([0, 1, -1], {"per_class": 0}, "per_class"),
        ([0, 1, -1], {"unlabelled": 0}, "unlabelled"),
        ([0, 1, -1], {"batch_graphs": 0}, "batch_graphs"),
    ],
)
def test_pools_that_cannot_be_drawn_from(labels: list[int], options: dict, text: str) -> None:
    with pytest.raises(GraphError, match=text):
        SubgraphSampler(torch.zeros(3, 2), torch.tensor(labels), **options)
