"""Controls without a graph network."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from graphophone.models import ModelError
from graphophone.models.controls import nearest_labelled, propagate_labels, spread_labels


def blobs(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A pool of 120 with 12 labels, and 40 new items, in four groups far apart."""
    rng = np.random.default_rng(seed)
    truth = np.arange(160) % 4
    x = rng.standard_normal((160, 5)) + 8 * np.eye(5)[truth]
    labels = np.where(np.arange(120) < 12, truth[:120], -1)
    return x[:120], labels, x[120:], truth[120:]


def test_nearest_labelled_counts_neighbours() -> None:
    x, labels, new, truth = blobs()
    p = nearest_labelled(x, labels, new, 4, k=3)
    known = np.flatnonzero(labels >= 0)
    near = labels[known][cdist(new, x[known]).argsort(axis=1)[:, :3]]
    expected = (near[:, :, None] == np.arange(4)).mean(axis=1)
    np.testing.assert_allclose(p, expected)
    assert (p.argmax(axis=1) == truth).all()


def test_spread_labels() -> None:
    x, labels, new, truth = blobs()
    p = spread_labels(x, labels, new, 4)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert (p.argmax(axis=1) == truth).all()


def test_nodes_that_no_label_reaches() -> None:
    x = np.array([[0.0], [0.1], [0.2], [50.0], [50.1], [50.2]])
    p = spread_labels(x, np.array([0, -1, 0, -1, -1, -1]), np.array([[0.05], [50.05]]), 2, k=2)
    assert p[0].tolist() == [1.0, 0.0]
    assert np.isfinite(p).all()


def test_classes_without_labels_get_a_column() -> None:
    x, labels, new, _ = blobs()
    labels = np.where(labels == 1, -1, labels)
    for control in (nearest_labelled, spread_labels):
        p = control(x, labels, new, 4)
        assert p.shape == (40, 4)
        assert not p[:, 1].any()


def test_propagate_labels() -> None:
    path = torch.tensor([[0, 1, 1, 2, 3, 4, 4, 5], [1, 0, 2, 1, 4, 3, 5, 4]])
    scores = propagate_labels(path, torch.tensor([0, -1, -1, -1, -1, 1]), 2)
    assert scores.argmax(dim=1).tolist() == [0, 0, 0, 1, 1, 1]


def test_no_labels() -> None:
    x, labels, new, _ = blobs()
    for control in (nearest_labelled, spread_labels):
        with pytest.raises(ModelError, match="label at least one"):
            control(x, np.full_like(labels, -1), new, 4)
    with pytest.raises(ModelError, match="label at least one"):
        propagate_labels(torch.empty(2, 0, dtype=torch.int64), torch.full((3,), -1), 2)
