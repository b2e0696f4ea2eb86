import pytest
import torch
from torch_geometric.data import Batch, Data

from graphophone.graphs import GraphError, NoGraph, build_graph, create_graph


def test_it_leaves_data_as_it_is():
    graph = create_graph("none")
    edges = torch.tensor([[0], [1]])
    for data in (Data(x=torch.ones(3, 2)), Data(x=torch.ones(3, 2), edge_index=edges)):
        after = graph(data)
        assert after.keys() == data.keys()
        assert all(after[key] is data[key] for key in data.keys())  # noqa: SIM118 - Data iterates over pairs
    batch = Batch.from_data_list([Data(x=torch.ones(2, 2)), Data(x=torch.ones(3, 2))])
    assert "edge_index" not in graph(batch)


def test_it_is_made_again_from_its_configuration():
    assert build_graph(create_graph("none").config) == NoGraph()


def test_it_has_no_edges_to_give():
    with pytest.raises(GraphError, match="'none' has no edges"):
        NoGraph().edges(torch.tensor([0, 3]))
