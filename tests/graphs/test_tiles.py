"""The k highest of rows: grouping, open rows, and tiles."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from graphophone.graphs.tiles import (
    ALIGNMENT,
    SPARE,
    TiledSearch,
    best_places,
    group_size,
    smallest_side,
    top_anywhere,
    top_of_rows,
)


def symmetric(batch: int, width: int, seed: int, decimals: int | None = None) -> Tensor:
    scores = torch.randn(batch, width, width, generator=torch.Generator().manual_seed(seed))
    scores = scores + scores.mT
    if decimals is not None:
        scores = scores.round(decimals=decimals)
    scores.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    return scores


def true_top(scores: Tensor, k: int) -> Tensor:
    flat = scores.flatten(0, 1)
    return flat.sort(dim=1, descending=True, stable=True).indices[:, :k].sort(dim=1).values


@settings(max_examples=40)
@given(st.integers(1, 3), st.integers(2, 40), st.integers(1, 12), st.integers(0, 99))
def test_distinct_scores_are_certain(batch: int, eighths: int, k: int, seed: int) -> None:
    width = 8 * eighths
    k = min(k, width - 2)
    scores = symmetric(batch, width, seed).double()
    # A different multiple of 2**-10 for every pair: single precision holds them all.
    upper = torch.triu_indices(width, width, offset=1)
    ranks = scores[:, upper[0], upper[1]].argsort(dim=1).argsort(dim=1)
    scores[:, upper[0], upper[1]] = scores[:, upper[1], upper[0]] = ranks.double() / 1024
    single = scores.float()
    for group in (1, group_size(width, k)):
        columns, unsure = top_of_rows(single, k, group, 2.0**-11)
        assert unsure is None
        assert torch.equal(columns, true_top(single, k))


@settings(max_examples=40)
@given(st.integers(1, 3), st.integers(4, 40), st.integers(1, 12), st.integers(0, 99), st.integers(0, 2))
def test_open_rows_have_their_answer_among_the_candidates(
    batch: int, eighths: int, k: int, seed: int, decimals: int
) -> None:
    width = 8 * eighths
    scores = symmetric(batch, width, seed, decimals)
    for result in (
        top_of_rows(scores, k, 1, 1e-3),
        top_of_rows(scores, k, group_size(width, k), 1e-3),
        top_anywhere(scores.flatten(0, 1), k, 1e-3),
    ):
        columns, unsure = result
        expected = true_top(scores, k)
        sure = torch.ones(batch * width, dtype=torch.bool)
        if unsure is not None:
            sure[unsure.rows] = False
            settled = ~unsure.crowded
            # Candidates are ascending; the answer, ties to the first, is among them unless the row is crowded.
            for row, candidates in zip(unsure.rows[settled], unsure.columns[settled], strict=True):
                assert set(expected[row].tolist()) <= set(candidates.tolist())
            assert (unsure.columns.diff(dim=1) > 0).all()
        assert torch.equal(columns[sure], expected[sure])
        # Sure means that the k-th is above the next by more than the slack.
        ranked = scores.flatten(0, 1).sort(dim=1, descending=True).values
        assert (ranked[sure, k - 1] - ranked[sure, k] > 1e-3).all()


def test_padding_is_not_reported_as_open() -> None:
    scores = symmetric(1, 16, 0)
    scores[:, 12:] = -torch.inf
    scores[:, :, 12:] = -torch.inf
    real = torch.arange(16) < 12
    columns, unsure = top_of_rows(scores, 3, 1, 1e-6, real)
    assert unsure is None
    assert torch.equal(columns[:12], true_top(scores[:, :12, :12], 3))


@given(st.integers(2, 60), st.integers(1, 12), st.integers(0, 99), st.integers(0, 1))
def test_of_equals_the_first_are_taken(width: int, k: int, seed: int, decimals: int) -> None:
    scores = symmetric(2, width, seed, decimals)
    k = min(k, width)
    places, lowest = best_places(scores.view(-1, width).numpy(), k)
    assert torch.equal(torch.from_numpy(places % width).view(-1, k), true_top(scores, k))
    assert torch.equal(torch.from_numpy(lowest), scores.view(-1, width).topk(k).values[:, -1])


@given(st.integers(1, 5000), st.integers(1, 300))
def test_groups_are_powers_of_two_and_enough(width: int, k: int) -> None:
    group = group_size(width, k)
    assert group & (group - 1) == 0
    assert group <= ALIGNMENT
    assert group == 1 or width // group >= k + SPARE
    assert smallest_side(k) % ALIGNMENT == 0
    assert smallest_side(k) // group_size(smallest_side(k), k) >= k + SPARE


@pytest.mark.parametrize("nodes", [65, 200, 333])
@pytest.mark.parametrize("k", [1, 5])
def test_a_tiled_search_keeps_all_that_come_into_question(nodes: int, k: int) -> None:
    x = torch.randn(nodes, 5, generator=torch.Generator().manual_seed(nodes))
    slack = 0.5
    search = TiledSearch(x, x, k, include_self=False, side=64, slack=slack)
    search.run()
    scores = x @ x.T
    scores.fill_diagonal_(-torch.inf)
    last = scores.topk(k).values[:, -1:]
    for node in range(nodes):
        candidates = search.columns[search.starts[node] : search.starts[node + 1]]
        assert (np.diff(candidates) > 0).all()
        # The bar is the k-th highest less the slack, give or take the rounding of either product.
        must = (scores[node] > last[node] - slack + 1e-4).nonzero()[:, 0].numpy()
        may = (scores[node] > last[node] - slack - 1e-4).nonzero()[:, 0].numpy()
        assert set(candidates) <= set(may)
        assert search.crowded[node] or set(must) <= set(candidates)
    assert not search.crowded.all()
