"""Every builder on Data and on Batch: same edges, batches that can be taken apart, configurations that come back."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.loader import DataLoader

from graphophone.errors import UnknownNameError
from graphophone.graphs import (
    KNN,
    CosineThreshold,
    Cycle,
    CycleTopK,
    Full,
    GraphBuilder,
    GraphError,
    Line,
    TemporalWindow,
    TopKSimilarity,
    Union,
    build_graph,
    create_graph,
    list_graphs,
)
from graphophone.graphs.base import threads_for

BUILDERS = [
    Line(),
    Line(directed=False, self_loops=True),
    Cycle(),
    Cycle(directed=False),
    TemporalWindow(3),
    TemporalWindow(2, directed=True, self_loops=True),
    Full(),
    TopKSimilarity(4),
    TopKSimilarity(1, include_self=True),
    KNN(3),
    CosineThreshold(0.6),
    CosineThreshold(0.9, self_loops=True),
    CycleTopK(10),
    CycleTopK(3, features=2),
    Union(Line(), KNN(2)),
]
IDS = [repr(builder) for builder in BUILDERS]


def graphs(sizes: list[int], seed: int = 0, coarse: bool = False) -> list[Data]:
    generator = torch.Generator().manual_seed(seed)
    made = []
    for index, size in enumerate(sizes):
        x = torch.randn(size, 4, generator=generator)
        made.append(Data(x=x.round() if coarse else x, y=torch.tensor([index])))
    return made


def test_every_registered_builder_is_tested() -> None:
    elsewhere = {"given", "modal_knn", "none", "signed"}  # a file of tests each
    assert {builder.name for builder in BUILDERS} == set(list_graphs()) - elsewhere


@pytest.mark.parametrize("builder", BUILDERS, ids=IDS)
@settings(max_examples=20)
@given(st.lists(st.integers(1, 45) | st.integers(1, 3), min_size=1, max_size=6), st.integers(0, 99), st.booleans())
def test_a_batch_gets_the_edges_of_its_graphs(builder: GraphBuilder, sizes: list[int], seed: int, coarse: bool) -> None:
    single = graphs(sizes, seed, coarse)
    batch = builder(Batch.from_data_list(single))
    expected = [builder(data).edge_index for data in single]
    shift = torch.tensor([0, *sizes]).cumsum(0)
    assert torch.equal(batch.edge_index, torch.cat([edges + shift[i] for i, edges in enumerate(expected)], dim=1))
    for index, data in enumerate(batch.to_data_list()):
        assert torch.equal(data.edge_index, expected[index])
        assert torch.equal(data.x, single[index].x)
    assert torch.equal(batch[len(single) - 1].edge_index, expected[-1])


@pytest.mark.parametrize("builder", BUILDERS, ids=IDS)
def test_a_batch_of_long_and_short_graphs(builder: GraphBuilder) -> None:
    single = graphs([370, 93, 371, 1, 700, 90, 2, 800, 129, 3])
    batch = builder(Batch.from_data_list(single))
    for data, part in zip(single, batch.to_data_list(), strict=True):
        assert torch.equal(builder(data).edge_index, part.edge_index)


@pytest.mark.parametrize("builder", BUILDERS, ids=IDS)
def test_edges_are_sorted_unique_and_within_their_graph(builder: GraphBuilder) -> None:
    batch = builder(Batch.from_data_list(graphs([5, 1, 60, 150])))
    sources, targets = batch.edge_index
    keys = targets * batch.num_nodes + sources
    assert (keys.diff() > 0).all()
    assert torch.equal(batch.batch[sources], batch.batch[targets])
    assert batch.edge_index.dtype == torch.int64
    assert batch.validate()


@pytest.mark.parametrize("builder", BUILDERS, ids=IDS)
def test_the_data_given_is_left_as_it_was(builder: GraphBuilder) -> None:
    batch = Batch.from_data_list([builder(data) for data in graphs([6, 9])])
    before, slices = batch.edge_index.clone(), {k: v.clone() for k, v in batch._slice_dict.items()}
    Full()(batch)
    assert torch.equal(batch.edge_index, before)
    assert all(torch.equal(batch._slice_dict[key], value) for key, value in slices.items())
    assert torch.equal(batch[1].edge_index, builder(graphs([6, 9])[1]).edge_index)


@pytest.mark.parametrize("builder", BUILDERS, ids=IDS)
def test_configurations_come_back(builder: GraphBuilder) -> None:
    config = json.loads(json.dumps(builder.config))
    again = build_graph(config)
    assert type(again) is type(builder)
    assert again == builder
    assert hash(again) == hash(builder)
    assert config["name"] == builder.name
    data = graphs([40])[0]
    assert torch.equal(again(data).edge_index, builder(data).edge_index)


def test_builders_with_other_options_differ() -> None:
    assert TopKSimilarity(3) != TopKSimilarity(4)
    assert TopKSimilarity(3) != KNN(3)
    assert Line() != "line"
    assert repr(TemporalWindow(3)) == "TemporalWindow(radius=3, directed=False, self_loops=False)"
    assert repr(Union(Line())) == "Union(Line(directed=True, self_loops=False))"


def test_names_and_options_that_there_are_not() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'cycle'"):
        create_graph("cylce")
    with pytest.raises(UnknownNameError, match="Did you mean 'k'"):
        create_graph("topk", kk=3)
    with pytest.raises(GraphError, match="needs a name, one of cosine_threshold, cycle"):
        build_graph({"k": 3})


def test_edges_that_were_there_are_replaced() -> None:
    old = [
        Data(
            x=torch.randn(5, 2),
            edge_index=torch.tensor([[0], [1]]),
            edge_attr=torch.ones(1, 3),
            edge_weight=torch.ones(1),
        )
        for _ in range(3)
    ]
    batch = Cycle()(Batch.from_data_list(old))
    assert batch.num_edges == 15
    assert "edge_attr" not in batch
    assert "edge_weight" not in batch
    assert batch[2].edge_index.tolist() == [[4, 0, 1, 2, 3], [0, 1, 2, 3, 4]]
    assert "edge_attr" in old[0]


def test_a_batch_vector_is_enough() -> None:
    single = graphs([4, 7, 20])
    batch = Batch.from_data_list(single)
    plain = Data(x=batch.x, batch=batch.batch)
    assert torch.equal(CycleTopK(3)(plain).edge_index, CycleTopK(3)(batch).edge_index)
    with pytest.raises(GraphError, match="not ascending"):
        CycleTopK(3)(Data(x=batch.x, batch=batch.batch.flip(0)))


def test_as_a_transform_of_a_loader() -> None:
    class Set(torch.utils.data.Dataset):
        data = graphs([4, 7, 20, 5])

        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Data:
            return CycleTopK(3)(self.data[index])

    (together,) = DataLoader(Set(), batch_size=4)
    assert torch.equal(together.edge_index, CycleTopK(3)(Batch.from_data_list(Set.data)).edge_index)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(GraphError, match=r"TopKSimilarity\(.*\) compares node features and was given none"):
        TopKSimilarity()(Data(num_nodes=4))
    assert Line()(Data(num_nodes=4)).num_edges == 3
    with pytest.warns(UserWarning, match="num_nodes"), pytest.raises(GraphError, match="neither `x` nor `num_nodes`"):
        Line()(Data())
    with pytest.raises(GraphError, match="reads Data or Batch, not HeteroData"):
        Line()(HeteroData())


def test_the_graph_of_a_bad_node_is_named() -> None:
    single = graphs([4, 7, 20])
    single[1].x[2, 0] = torch.nan
    with pytest.raises(GraphError, match="node 2 of graph 1 has a feature that is NaN"):
        CycleTopK(3)(Batch.from_data_list(single))


def test_empty_batches_and_graphs() -> None:
    batch = Batch.from_data_list([Data(x=torch.empty(0, 4)), *graphs([3]), Data(x=torch.empty(0, 4))])
    for builder in BUILDERS:
        built = builder(batch)
        assert built[0].num_edges == 0
        assert torch.equal(built[1].edge_index, builder(graphs([3])[0]).edge_index)


def test_small_work_is_done_by_one_thread_and_large_work_by_all() -> None:
    torch.set_num_threads(2)
    try:
        with threads_for(1000):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with threads_for(10**12):
            assert torch.get_num_threads() == 2
        with pytest.raises(GraphError), threads_for(1000):
            TopKSimilarity(0)
        assert torch.get_num_threads() == 2
        CycleTopK()(Data(x=torch.randn(50, 4)))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
