"""Fused layers equal the plain ones, and are not used where they cannot be."""

import pytest
import torch
import torch.nn.functional as F

from graphophone.nn import onednn


@pytest.fixture(params=["fused", "plain"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "fused" and not onednn.available():
        pytest.skip("this PyTorch has no oneDNN")
    if request.param == "plain":
        monkeypatch.setattr(onednn, "available", lambda: False)
    return request.param


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_linear(way: str, dtype: torch.dtype) -> None:
    x, w, b = torch.randn(9, 6, dtype=dtype), torch.randn(5, 6, dtype=dtype), torch.randn(5, dtype=dtype)
    r = torch.randn(9, 5, dtype=dtype)
    with torch.no_grad():
        torch.testing.assert_close(onednn.linear(x, w, b), F.linear(x, w, b))
        torch.testing.assert_close(onednn.linear(x, w, b, gelu=True), F.gelu(F.linear(x, w, b)), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(onednn.linear(x, w, b, residual=r), F.linear(x, w, b) + r)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("stride", [1, 2])
def test_conv2d(way: str, groups: int, stride: int) -> None:
    x, w, b = torch.randn(2, 4, 7, 9), torch.randn(8, 4 // groups, 3, 3), torch.randn(8)
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        plain = F.conv2d(x, w, b, stride, 1, 1, groups)
        options = {"stride": stride, "padding": 1, "groups": groups}
        torch.testing.assert_close(onednn.conv2d(x, w, b, **options), plain, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            onednn.conv2d(x, w, b, gelu=True, **options),  # type: ignore[arg-type]
            F.gelu(plain),
            atol=1e-5,
            rtol=1e-5,
        )
        torch.testing.assert_close(
            onednn.conv2d(x, w, None, **options), F.conv2d(x, w, None, stride, 1, 1, groups), atol=1e-5, rtol=1e-5
        )
