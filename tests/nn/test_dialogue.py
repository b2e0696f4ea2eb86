from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphophone.nn.dialogue import KINDS, DialogueBatch, DialogueGraph, EdgeTables

Edges = dict[tuple[tuple[int, int, int], tuple[int, int, int]], int]


def brute_force(graph: DialogueGraph) -> Edges:
    """Kind of every edge by source and target, each as dialogue, modality and turn, found by looking at all pairs."""
    nodes = [tuple(node) for node in graph.present.nonzero().tolist()]
    edges = {}
    for source in nodes:
        for target in nodes:
            if source[0] != target[0] or source == target:
                continue
            if source[2] == target[2]:
                edges[source, target] = KINDS.index("across")
                continue
            ahead = source[2] - target[2]
            near = (graph.past is None or -ahead <= graph.past) and (graph.future is None or ahead <= graph.future)
            if source[1] == target[1] and near:
                speakers = graph.speaker[source[0]]
                same = speakers[source[2]] == speakers[target[2]]
                edges[source, target] = KINDS.index("same speaker" if same else "other speaker")
    return edges


def listed(graph: DialogueGraph) -> Edges:
    """The same from the list of edges."""
    edge_index, kinds, nodes = graph.edge_list()
    names = [tuple(node) for node in nodes.tolist()]
    found = {
        (names[source], names[target]): kind
        for source, target, kind in zip(*edge_index.tolist(), kinds.tolist(), strict=True)
    }
    assert len(found) == edge_index.shape[1], "an edge is listed twice"
    return found


@given(
    lengths=st.lists(st.integers(0, 5), min_size=1, max_size=3).filter(any),
    modalities=st.integers(1, 3),
    missing=st.sampled_from([0.0, 0.4]),
    past=st.sampled_from([None, 0, 2]),
    future=st.sampled_from([None, 0, 1]),
    seed=st.integers(0, 99),
)
def test_edges_are_those_of_all_pairs(
    make_dialogues: Callable[..., Any],
    lengths: list[int],
    modalities: int,
    missing: float,
    past: int | None,
    future: int | None,
    seed: int,
) -> None:
    graph = make_dialogues(lengths, modalities=modalities, missing=missing, seed=seed).graph(past, future)
    edges = brute_force(graph)
    assert listed(graph) == edges
    assert int(graph.num_edges) == len(edges)


@pytest.mark.parametrize("turns", [1, 2, 5])
def test_numbers_of_edges_and_degrees(make_dialogues: Callable[..., Any], turns: int) -> None:
    graph = make_dialogues([turns]).graph()
    assert int(graph.num_edges) == 3 * turns * (turns - 1) + 6 * turns
    edge_index, kinds, nodes = graph.edge_list()
    for ends in edge_index:
        assert torch.bincount(ends, minlength=len(nodes)).tolist() == [turns + 1] * (3 * turns)
    assert (edge_index[0] != edge_index[1]).all()
    if turns == 1:
        assert kinds.tolist() == [2] * 6


def test_edge_list_is_sorted_by_target(make_dialogues: Callable[..., Any]) -> None:
    edge_index, _, nodes = make_dialogues([3, 4], missing=0.3).graph().edge_list()
    key = edge_index[1] * len(nodes) + edge_index[0]
    assert (key.diff() > 0).all()


def test_a_batch_without_nodes_has_no_edges() -> None:
    graph = DialogueGraph(torch.zeros(2, 3, 4, dtype=torch.bool), torch.zeros(2, 4, dtype=torch.int64))
    edge_index, kinds, nodes = graph.edge_list()
    assert edge_index.shape == (2, 0)
    assert len(kinds) == len(nodes) == int(graph.num_edges) == 0


def test_nodes_one_after_the_other_and_back(make_dialogues: Callable[..., Any]) -> None:
    dialogues = make_dialogues([3, 1], missing=0.3)
    graph = dialogues.graph()
    rows = graph.gathered(dialogues.x)
    torch.testing.assert_close(rows, dialogues.x[graph.present])
    _, _, nodes = graph.edge_list()
    torch.testing.assert_close(rows, dialogues.x[tuple(nodes.T)])
    assert torch.equal(graph.spread(rows), dialogues.x)


def random_tables(graph: DialogueGraph, seed: int = 0) -> EdgeTables:
    generator = torch.Generator().manual_seed(seed)
    return EdgeTables(
        *(
            torch.randn(mask.shape, generator=generator, dtype=torch.float64) * mask
            for mask in (graph.within, graph.across)
        )
    )


def on_edges(tables: EdgeTables, graph: DialogueGraph) -> torch.Tensor:
    """The numbers of the tables in the order of the list of edges."""
    edge_index, kinds, nodes = graph.edge_list()
    (b, m, source), (_, n, target) = nodes[edge_index[0]].T, nodes[edge_index[1]].T
    within = tables.within[b, m, target, source]
    return torch.where(kinds == 2, tables.across[b, target, n, m], within)


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_tables_do_what_a_list_of_edges_does(make_dialogues: Callable[..., Any], modalities: int) -> None:
    dialogues = make_dialogues([4, 1, 6], modalities=modalities, missing=0.3)
    graph = dialogues.graph(past=3)
    tables = random_tables(graph)
    weights = on_edges(tables, graph)
    edge_index, _, nodes = graph.edge_list()

    def at_nodes(values: torch.Tensor) -> torch.Tensor:
        return values[tuple(nodes.T)]

    states = at_nodes(dialogues.x)
    expected = torch.zeros_like(states).index_add(0, edge_index[1], weights[:, None] * states[edge_index[0]])
    torch.testing.assert_close(at_nodes(tables.aggregate(dialogues.x)), expected)
    zeros = states.new_zeros(len(states))
    torch.testing.assert_close(at_nodes(tables.into()), zeros.index_add(0, edge_index[1], weights))
    torch.testing.assert_close(at_nodes(tables.out_of()), zeros.index_add(0, edge_index[0], weights))
    torch.testing.assert_close(tables.total(), weights.sum())
    torch.testing.assert_close(on_edges(tables.times(tables), graph), weights**2)


@pytest.fixture
def batch(make_dialogues: Callable[..., Any]) -> DialogueBatch:
    dialogues = make_dialogues([3, 1], modalities=2)
    return DialogueBatch(
        x={"text": dialogues.x[:, 0], "audio": dialogues.x[:, 1, :, :4]},
        present=dialogues.present,
        mask=dialogues.present[:, 0],
        speaker=dialogues.speaker,
        y=torch.tensor([[0, 1, -1], [2, -1, -1]]),
        row=torch.tensor([[5, 6, 7], [3, -1, -1]]),
    )


def test_what_a_batch_says_of_itself(batch: DialogueBatch) -> None:
    assert batch.modalities == ("text", "audio")
    assert batch.lengths.tolist() == [3, 1]
    assert len(batch) == 2


def test_leaving_modalities_out(batch: DialogueBatch) -> None:
    without = batch.only(["text"])
    assert without.modalities == batch.modalities
    assert torch.equal(without.x["text"], batch.x["text"])
    assert not without.x["audio"].any()
    assert torch.equal(without.present[:, 0], batch.mask)
    assert not without.present[:, 1].any()
    assert torch.equal(without.mask, batch.mask)
    assert batch.present[:, 1].any(), "the batch itself has changed"


def test_leaving_out_cannot_bring_back(batch: DialogueBatch) -> None:
    keep = torch.ones(2, 2, 3, dtype=torch.bool)
    keep[0, 1, 1] = False
    once = batch.keeping(keep)
    assert not once.x["audio"][0, 1].any()
    again = once.keeping(torch.ones_like(keep))
    assert torch.equal(again.present, once.present)
    assert int(batch.present.sum() - again.present.sum()) == 1


def test_moving_a_batch_moves_all_of_it(batch: DialogueBatch) -> None:
    moved = batch.to("meta")
    tensors = [*moved.x.values(), moved.present, moved.mask, moved.speaker, moved.y, moved.row]
    assert all(tensor.is_meta for tensor in tensors)
    assert moved.modalities == batch.modalities
