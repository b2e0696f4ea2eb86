"""Graphs of items with several modalities: the rules by brute force, their laws, and banks that answer alone."""

import json
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Batch, Data

from graphophone.errors import MissingDependencyError
from graphophone.graphs import GraphError, ModalKNN, build_graph, create_graph, list_graphs
from graphophone.graphs.bank import ModalBank
from graphophone.graphs.modal import bank_edges, modal_edges, modal_neighbours, neighbour_edges, typed_edges
from graphophone.graphs.modalities import split_modalities
from graphophone.graphs.ranking import EqualRows

pytestmark = pytest.mark.filterwarnings("ignore:k is")


def cosines(a: Tensor, b: Tensor) -> np.ndarray:
    """Similarities in double precision, pair by pair, on the grid where ties are equal; NaN where a row is."""
    unit = [np.float64(x) / np.maximum(np.linalg.norm(np.float64(x), axis=1, keepdims=True), 1e-12) for x in (a, b)]
    return np.round((unit[0][:, None] * unit[1][None]).sum(axis=2) * 2**32)


def ranking(scores: np.ndarray) -> list[int]:
    """Candidates by score, then index; those of NaN are none."""
    there = [j for j in range(len(scores)) if not np.isnan(scores[j])]
    return sorted(there, key=lambda j: (-scores[j], j))


def sorted_edges(edges: set[tuple[int, int]]) -> Tensor:
    by_target = sorted(edges, key=lambda edge: (edge[1], edge[0]))
    return torch.tensor(by_target, dtype=torch.int64).reshape(-1, 2).T


def brute_force(parts: list[Tensor], k: list[int], exclusion: str) -> set[tuple[int, int]]:
    """The choices of every item, as the rules read."""
    chosen = set()
    for part, count in zip(parts, k, strict=True):
        scores = cosines(part, part)
        for i in range(len(part)):
            ranked = ranking(scores[i])
            ranked = ranked[1:] if exclusion == "rank0" else [j for j in ranked if j != i]
            chosen |= {(j, i) for j in ranked[:count]}
    return chosen


@st.composite
def modalities(draw: st.DrawFn, rows: int | None = None, seeds: int = 2**16) -> list[Tensor]:
    """Two modalities: normal numbers or few values, where most similarities tie; with rows that are missing or not."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, seeds)))
    count = draw(st.integers(1, 40)) if rows is None else rows
    parts = []
    for dims in (3, 2):
        if draw(st.booleans()):
            part = torch.randint(-1, 2, (count, dims), generator=generator).float()
        else:
            part = torch.randn(count, dims, generator=generator)
        if draw(st.booleans()):
            part[torch.rand(count, generator=generator) < 0.3] = torch.nan
        parts.append(part)
    return parts


NEIGHBOURS = st.tuples(st.integers(0, 6), st.integers(0, 6)).map(list)


@given(modalities(), NEIGHBOURS, st.sampled_from(["diagonal", "rank0"]), st.sampled_from([1, 40, 2**22]))
def test_edges_are_those_of_brute_force(parts: list[Tensor], k: list[int], exclusion: str, block: int) -> None:
    chosen = brute_force(parts, k, exclusion)
    loops = {(i, i) for i in range(len(parts[0]))}
    back = {(i, j) for j, i in chosen}
    for direction, expected in (("in", chosen), ("reference", back), ("symmetric", chosen | back)):
        edges = modal_edges(parts, k, direction=direction, self_exclusion=exclusion, block=block)  # type: ignore[arg-type]
        assert torch.equal(edges, sorted_edges(expected | loops))


@given(modalities(), st.integers(1, 8), st.sampled_from(["diagonal", "rank0"]))
def test_neighbours_come_nearest_first_so_that_a_smaller_k_is_a_slice(
    parts: list[Tensor], k: int, exclusion: str
) -> None:
    part = parts[0]
    scores = cosines(part, part)
    found = modal_neighbours(part, k, self_exclusion=exclusion)  # type: ignore[arg-type]
    for i, row in enumerate(found.tolist()):
        ranked = ranking(scores[i])
        ranked = ranked[1:] if exclusion == "rank0" else [j for j in ranked if j != i]
        assert row == (ranked + [-1] * k)[:k]
    for fewer in range(k):
        sliced = neighbour_edges([found[:, :fewer]])
        assert torch.equal(sliced, modal_edges([part], [fewer], self_exclusion=exclusion))  # type: ignore[arg-type]


@pytest.mark.parametrize("copies", [1, 3, 40])
def test_many_equal_rows_and_several_blocks(copies: int) -> None:
    generator = torch.Generator().manual_seed(copies)
    part = torch.randn(600 // copies, 8, generator=generator).repeat(copies, 1)
    part[7] = 0
    part[11] = 2 * part[12]  # ties without being equal
    order = torch.randperm(len(part), generator=generator)
    expected = brute_force([part[order]], [5], "diagonal")
    for block in (2**10, 2**22):
        edges = modal_edges([part[order]], [5], block=block)
        assert torch.equal(edges, sorted_edges(expected | {(i, i) for i in range(len(part))}))


def test_equal_rows_are_found() -> None:
    x = torch.tensor([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0], [3.0, 0.0], [2.0, 1.0], [1.0, 2.0]])
    for rows in (x, x.double(), x.half(), x.long()):
        equal = EqualRows.of(rows, block=4)
        assert equal.first.tolist() == [0, 1, 3]
        assert equal.group.tolist() == [0, 1, 0, 2, 1, 0]
        assert equal.sizes.tolist() == [3, 2, 1]
        assert equal.members.tolist() == [0, 2, 5, 1, 4, 3]


def test_rows_of_one_hash_that_differ_are_not_taken_for_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphophone.graphs.ranking._hashes", lambda x, block: torch.zeros(len(x), dtype=torch.int64))
    assert EqualRows.of(torch.randn(5, 3), block=100).sizes.tolist() == [1] * 5


def test_an_item_is_never_its_own_neighbour_but_with_rank0_it_may_be() -> None:
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert modal_neighbours(x, 2).tolist() == [[1, 2], [0, 2], [0, 1], [0, 1]]
    # Rank 0 of the third row is the first one; the third stays, and a true neighbour is lost.
    assert modal_neighbours(x, 2, self_exclusion="rank0").tolist() == [[1, 2], [1, 2], [1, 2], [0, 1]]


@given(modalities(), NEIGHBOURS)
def test_numbers_of_neighbours(parts: list[Tensor], k: list[int]) -> None:
    edges = modal_edges(parts, k)
    items = len(parts[0])
    loops = edges[0] == edges[1]
    assert torch.equal(edges[:, loops], torch.arange(items).expand(2, -1))
    degree = torch.bincount(edges[1, ~loops], minlength=items)
    wanted = [
        torch.where(part.isnan().any(dim=1), 0, min(n, max(int((~part.isnan().any(dim=1)).sum()) - 1, 0)))
        for part, n in zip(parts, k, strict=True)
    ]
    assert (degree <= sum(wanted)).all()
    assert (degree >= torch.maximum(*wanted)).all()


@given(st.integers(2, 30), st.integers(0, 999))
def test_positive_factors_change_nothing_and_order_only_names(items: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randn(items, 6, generator=generator) for _ in range(2)]
    edges = modal_edges(parts, [3, 2])
    factors = 2.0 ** torch.randint(-20, 20, (items, 1), generator=generator)
    assert torch.equal(modal_edges([factors * parts[0], parts[1] / factors], [3, 2]), edges)
    order = torch.randperm(items, generator=generator)
    named = order[modal_edges([part[order] for part in parts], [3, 2])]
    assert set(zip(*named.tolist(), strict=True)) == set(zip(*edges.tolist(), strict=True))


def test_rows_of_zeros_are_as_far_from_all() -> None:
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    assert modal_neighbours(x, 2).tolist() == [[1, 2], [0, 3], [0, 3], [0, 1]]


def test_items_that_lack_a_modality_are_left_out_of_it() -> None:
    nan = torch.nan
    text = torch.tensor([[1.0, 0.0], [nan, nan], [1.0, 0.1], [0.9, 0.0]])
    audio = torch.tensor([[1.0], [1.0], [nan], [nan]])
    edges = modal_edges([text, audio], [1, 1])
    assert edges.T.tolist() == [[0, 0], [1, 0], [3, 0], [0, 1], [1, 1], [0, 2], [2, 2], [0, 3], [3, 3]]


def test_too_many_neighbours_are_clamped_with_a_warning() -> None:
    x = torch.randn(4, 3)
    with pytest.warns(UserWarning, match="k is 4, and there are 4 items: every item gets the 3 others"):
        edges = modal_edges([x], [4])
    assert edges.shape[1] == 16
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(modal_edges([x], [3]), edges)
        assert modal_edges([x[:0]], [3]).shape == (2, 0)
        assert modal_edges([torch.full((2, 3), torch.nan)], [3]).tolist() == [[0, 1], [0, 1]]


def test_faiss_finds_the_same() -> None:
    pytest.importorskip("faiss")
    parts = [torch.randn(80, 16), torch.randn(80, 5)]
    parts[0][3] = parts[0][50]
    parts[1][:10] = torch.nan
    assert torch.equal(modal_edges(parts, [4, 3], search="faiss"), modal_edges(parts, [4, 3]))
    assert torch.equal(modal_neighbours(parts[0], 4, search="faiss"), modal_neighbours(parts[0], 4))


def test_faiss_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingDependencyError, match="search 'faiss' needs faiss: pip install faiss-cpu"):
        modal_edges([torch.randn(5, 2)], [2], search="faiss")


# Banks


@given(st.data(), st.integers(1, 40), st.integers(1, 8), NEIGHBOURS)
def test_bank_edges_are_those_of_brute_force_alone_and_among_others(
    data: st.DataObject, items: int, queries: int, k: list[int]
) -> None:
    bank, asked = data.draw(modalities(items)), data.draw(modalities(queries))
    expected = set()
    for part, known, count in zip(asked, bank, k, strict=True):
        scores = cosines(part, known)
        expected |= {(j, i) for i in range(queries) for j in ranking(scores[i])[:count]}
    together = bank_edges(asked, bank, k, block=data.draw(st.sampled_from([1, 60, 2**22])))
    assert torch.equal(together, sorted_edges(expected))
    ready = ModalBank(bank, k)
    alone = [ready.edges([part[i : i + 1] for part in asked]) + torch.tensor([[0], [i]]) for i in range(queries)]
    assert torch.equal(torch.cat(alone, dim=1), together)


@pytest.mark.parametrize("copies", [1, 30])
def test_a_bank_of_many_ties(copies: int) -> None:
    generator = torch.Generator().manual_seed(0)
    bank = torch.randn(300 // copies, 5, generator=generator).repeat(copies, 1)
    bank[20:60] = bank[:40] * torch.linspace(0.5, 3, 40)[:, None]
    queries = torch.cat([bank[:15], torch.zeros(1, 5), torch.randn(20, 5, generator=generator)])
    scores = cosines(queries, bank)
    expected = {(j, i) for i in range(len(queries)) for j in ranking(scores[i])[:4]}
    for block in (2**9, 2**22):
        assert torch.equal(bank_edges([queries], [bank], [4], block=block), sorted_edges(expected))


def test_a_query_equal_to_an_item_finds_it() -> None:
    bank = torch.randn(50, 12)
    assert bank_edges([3 * bank[[4, 31]]], [bank], [1]).tolist() == [[4, 31], [0, 1]]


def test_a_query_hears_a_known_item_once() -> None:
    bank = torch.randn(10, 4)
    assert torch.equal(bank_edges([bank[:3]] * 2, [bank] * 2, [2, 2]), bank_edges([bank[:3]], [bank], [2]))


def test_empty_banks_and_queries() -> None:
    x = torch.randn(3, 4)
    assert bank_edges([x], [x[:0]], [2]).shape == (2, 0)
    assert bank_edges([x[:0]], [x], [2]).shape == (2, 0)
    assert bank_edges([x], [x], [0]).shape == (2, 0)
    assert bank_edges([torch.full((1, 4), torch.nan)], [x], [2]).shape == (2, 0)


# The builder

WIDTHS = {"text": 3, "audio": 2}


def test_the_builder_is_registered_and_comes_back_from_its_configuration() -> None:
    assert "modal_knn" in list_graphs()
    builder = create_graph("modal_knn", k_text=5, k_audio=4, direction="symmetric")
    assert builder == ModalKNN(5, 4, direction="symmetric")
    assert build_graph(json.loads(json.dumps(builder.config))) == builder
    assert builder.joins == "recordings"


@settings(max_examples=20)
@given(modalities())
def test_the_builder_reads_columns_by_modality(parts: list[Tensor]) -> None:
    builder, x = ModalKNN(2, 3), torch.cat(parts, dim=1)
    edges = builder.edges_of(x, WIDTHS)
    assert torch.equal(edges, modal_edges(parts, [2, 3]))
    assert torch.equal(edges, builder.edges_of(x, {"audio": 2, "text": 3}))
    assert torch.equal(builder.edges_of(x, WIDTHS, only=["audio"]), modal_edges(parts[1:], [3]))
    assert torch.equal(builder.edges_of(parts[0], {"text": 3}), modal_edges(parts[:1], [2]))
    assert torch.equal(builder(Data(x=x, in_channels=WIDTHS)).edge_index, edges)
    assert torch.equal(builder.bank_edges_of(x[:4], x, WIDTHS), bank_edges([p[:4] for p in parts], parts, [2, 3]))
    asked = builder.bank_of(x, WIDTHS, only=["text"]).edges([parts[0][:4]])
    assert torch.equal(asked, bank_edges([parts[0][:4]], parts[:1], [2]))


def test_typed_edges_join_alike_items_and_the_modalities_of_one() -> None:
    text = torch.tensor([[1.0, 0.0], [1.0, 0.1], [torch.nan, torch.nan]])
    audio = torch.tensor([[1.0], [-1.0], [1.0]])
    edges = typed_edges({"text": text, "audio": audio}, {"text": 1, "audio": 1})
    assert {relation: index.T.tolist() for relation, index in edges.items()} == {
        ("text", "near", "text"): [[0, 0], [1, 0], [0, 1], [1, 1]],
        ("audio", "near", "audio"): [[0, 0], [2, 0], [0, 1], [1, 1], [0, 2], [2, 2]],
        ("text", "same", "audio"): [[0, 0], [1, 1]],
        ("audio", "same", "text"): [[0, 0], [1, 1]],
    }


# What is refused


@pytest.mark.parametrize(
    ("value", "line"),
    [(torch.nan, "item 2 has a value that is NaN or infinite"), (torch.inf, "item 2 .* make the whole")],
)
def test_rows_that_are_missing_in_part_are_named(value: float, line: str) -> None:
    x = torch.randn(4, 3)
    x[1] = torch.nan
    x[2, 1] = value
    for call in (lambda: modal_edges([x], [2]), lambda: bank_edges([x], [x[:1]], [2]), lambda: ModalBank([x], [2])):
        with pytest.raises(GraphError, match=line):
            call()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"k_text": -1}, "modal_knn: k_text is -1; give at least 0"),
        ({"direction": "out"}, 'modal_knn: \'out\' is none of "in" or "reference" or "symmetric"'),
        ({"search": "annoy"}, "modal_knn: 'annoy' is none of"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], line: str) -> None:
    with pytest.raises(GraphError, match=line):
        create_graph("modal_knn", **options)


def test_modalities_that_do_not_fit_are_refused() -> None:
    x = torch.randn(6, 5)
    builder = ModalKNN()
    with pytest.raises(GraphError, match=r"rows of text 3 \+ audio 1 are 4 wide, not \[6, 5\]"):
        builder.edges_of(x, {"text": 3, "audio": 1})
    with pytest.raises(GraphError, match="in_channels names smell; a modality is one of text, audio, video"):
        split_modalities(x, {"text": 3, "smell": 2})
    with pytest.raises(GraphError, match="in_channels is empty"):
        split_modalities(x, {})
    with pytest.raises(GraphError, match="there is no video to compare, only text, audio"):
        builder.edges_of(x, WIDTHS, only=["video"])
    with pytest.raises(GraphError, match=r"set data\.in_channels"):
        builder(Data(x=x))
    with pytest.raises(GraphError, match="items of one graph, not of 2"):
        builder(Batch.from_data_list([Data(x=x, in_channels=WIDTHS)] * 2))
    with pytest.raises(GraphError, match="modalities have 3 and 4 rows"):
        modal_edges([x[:3], x[:4]], [1, 1])
    with pytest.raises(GraphError, match="1 modalities and 2 numbers of neighbours"):
        modal_edges([x], [1, 1])
    with pytest.raises(GraphError, match="queries are 4 wide, the bank 5"):
        bank_edges([x[:, :4]], [x], [1])
    with pytest.raises(GraphError, match="the bank has 1 modalities, the queries 2"):
        bank_edges([x, x], [x], [1])
    with pytest.raises(GraphError, match="a new item hears only itself; use 'in' or 'symmetric'"):
        ModalKNN(direction="reference").bank_of(x, WIDTHS)
