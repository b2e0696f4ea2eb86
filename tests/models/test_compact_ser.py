"""Compact SER: published size, and the layer written out with eigenvectors."""

import pytest
import torch

from graphophone.models import ModelError, create_model
from graphophone.models.compact_ser import SpectralMLP


def test_parameter_count() -> None:
    assert create_model("compact_ser", in_channels=35, num_classes=4).num_parameters() == 38_916


def test_path_layer_equals_eigenvectors() -> None:
    """The path's eigenvalues are simple, so that any eigensolver gives its basis, up to signs."""
    n = 10
    adjacent = torch.diag(torch.ones(n - 1), 1).double()
    adjacent = adjacent + adjacent.t()
    scale = adjacent.sum(0).rsqrt()
    _, U = torch.linalg.eigh(torch.eye(n).double() - scale[:, None] * adjacent * scale)
    layer = SpectralMLP(4, 6, 3, "path").double().eval()
    x = torch.randn(n, 4, dtype=torch.float64)
    spectrum = layer(torch.cat([x, x]), [n, n])
    signs = torch.sign(U[0])  # the fast transform's eigenvectors are positive at the first node
    U = U * signs
    expected = U @ layer.mlp(U.t() @ x)
    torch.testing.assert_close(spectrum, torch.cat([expected, expected]))


def test_cycle_and_path_differ() -> None:
    cycle = create_model("compact_ser", in_channels=5, num_classes=2).eval()
    path = create_model("compact_ser", in_channels=5, num_classes=2, graph="path").eval()
    path.load_state_dict(cycle.state_dict())
    x, none = torch.randn(12, 5), torch.empty(2, 0, dtype=torch.int64)
    assert (cycle(x, none) - path(x, none)).abs().max() > 1e-3
    with pytest.raises(ModelError, match="cycle, path"):
        create_model("compact_ser", in_channels=5, num_classes=2, graph="tree")
