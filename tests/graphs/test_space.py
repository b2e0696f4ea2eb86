"""The bound on rounding on which the search relies."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from graphophone.graphs.space import COSINE_GRID, Space

MATRICES = arrays(
    np.float64,
    st.tuples(st.integers(1, 20), st.integers(1, 300)),
    elements=st.floats(-1e6, 1e6) | st.floats(-1e-3, 1e-3) | st.just(0.0),
)


@given(MATRICES, st.integers(0, 20))
def test_products_in_single_precision_are_within_half_the_slack(matrix: np.ndarray, first: int) -> None:
    x = torch.from_numpy(matrix)
    first = min(first, len(x))
    space = Space(x, [0, first, len(x)], "cosine")
    queries, keys, slack = space.single
    rows = space.exact(slice(None))
    assert ((queries @ keys.T).double() - rows @ rows.T).abs().max() <= slack / 2

    queries, keys, slack = Space(x, [0, first, len(x)], "euclidean").single
    assert torch.is_tensor(slack)
    for part in (slice(0, first), slice(first, None)):
        exact = -0.5 * torch.cdist(x[part], x[part], compute_mode="donot_use_mm_for_euclid_dist") ** 2
        products = (queries[part] @ keys[part].T).double()
        assert ((products - exact).abs() <= slack[part, None].double() / 2).all()


def test_exact_rows_have_length_one() -> None:
    space = Space(torch.randn(10, 5) * 1e6, [0, 10], "cosine")
    nodes = torch.tensor([[1, 2], [3, 1]])
    rows = space.exact(nodes)
    assert rows.shape == (2, 2, 5)
    assert rows.dtype == torch.float64
    torch.testing.assert_close(rows.norm(dim=2), torch.ones(2, 2, dtype=torch.float64))
    assert torch.equal(Space(space.x, [0, 10], "euclidean").exact(nodes), space.x[nodes].double())


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_scores_of_equal_rows_are_equal_and_highest(metric) -> None:
    x = torch.randn(6, 40, dtype=torch.float64)
    x[4] = x[1] * (3 if metric == "cosine" else 1)
    space = Space(x, [0, 6], metric)
    rows = space.exact(slice(None))[None]
    scores = space.scores(rows, rows)[0]
    assert torch.equal(scores[1], scores[4])
    assert torch.equal(scores, scores.T)
    assert scores[1, 4] == scores.max() == (1 / COSINE_GRID if metric == "cosine" else 0)
