"""The LHG block: interleaving, permutations, kernels, gradients, folding."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from graphophone.nn import ConvFFN, DropPath, GraphConv, LHGBlock, grid_neighbours, neighbour_max, position_closeness
from graphophone.nn.ffn import FFN
from graphophone.nn.folding import FoldedConvs, FoldedFFN, FoldedLHG
from graphophone.nn.stem import ConvStem, Downsample


def busy(module: nn.Module, seed: int = 0) -> Any:
    """In evaluation, with normalisations that do something, as after training."""
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            for values, mean in ((layer.weight, 1.0), (layer.bias, 0.0), (layer.running_mean, 0.0)):
                assert values is not None
                values.data.normal_(mean, 0.2, generator=generator)
            assert layer.running_var is not None
            layer.running_var.uniform_(0.5, 2, generator=generator)
    return module.eval()


def grid(batch: int = 2, height: int = 4, width: int = 10, channels: int = 16, seed: int = 0) -> Tensor:
    return torch.randn(batch, height, width, channels, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_groups_see_whole_triples(place: int) -> None:
    """A grouped layer that copies one entry of each triple gives back the nodes, a, or b."""
    channels, quarter = 8, 2
    conv = GraphConv(channels, 2).eval()
    layers: Any = conv.gconv.nn
    nn.init.zeros_(layers[0].weight)
    nn.init.zeros_(layers[0].bias)
    with torch.no_grad():
        for group in range(4):
            for channel in range(quarter):
                layers[0].weight[group * 3 * quarter + channel, 3 * channel + place] = 1.0
    parts = [torch.randn(2, 5, channels) for _ in range(3)]
    out = conv(parts).view(2, 5, 4, 3 * quarter)
    expected = F.gelu(parts[place] / (1 + layers[1].eps) ** 0.5).view(2, 5, 4, quarter)
    torch.testing.assert_close(out[..., :quarter], expected)
    assert (out[..., quarter:] == 0).all()


def test_grouped_layer_is_the_grouped_convolution_of_interleaved_channels() -> None:
    conv = busy(GraphConv(16, 2))
    layers: Any = conv.gconv.nn
    parts = [torch.randn(2, 7, 16) for _ in range(3)]
    interleaved = torch.stack(parts, -1).flatten(2).mT[..., None]
    expected = F.gelu(layers[1](layers[0](interleaved)[..., 0])).mT
    torch.testing.assert_close(conv(parts), expected, atol=1e-5, rtol=1e-5)
    concatenated = torch.cat(parts, -1).mT[..., None]
    assert not torch.allclose(conv(parts), F.gelu(layers[1](layers[0](concatenated)[..., 0])).mT, atol=1e-2)


@pytest.mark.parametrize("kernel", ["both", "local", "higher"])
@pytest.mark.parametrize("reduction", [1, 2])
def test_block_equals_the_equations(kernel: Any, reduction: int) -> None:
    block = busy(LHGBlock(16, k=5, P=6, K=2, kernel=kernel, reduction=reduction))
    x = grid()
    closeness = position_closeness("ref", 16, 4, 10, reduction)
    z = block.fc1[1](block.fc1[0](x.permute(0, 3, 1, 2)).flatten(2)).mT
    parts = [z]
    if kernel != "higher":
        y = F.avg_pool2d(z.mT.unflatten(2, (4, 10)), reduction).flatten(2).mT
        index = grid_neighbours(z, y, 5, closeness=closeness)
        parts.append((y[:, None].expand(-1, 40, -1, -1).gather(2, index[..., None].expand(-1, -1, -1, 16))).amax(2) - z)
    if kernel != "local":
        c0 = F.adaptive_avg_pool2d(z.mT.unflatten(2, (4, 10)), (2, 3)).flatten(2).mT
        u = torch.cdist(z, c0) ** -2
        u = u / u.sum(-1, keepdim=True)
        c = (u**2).mT @ z / (u**2).sum(1)[..., None]
        parts.append(neighbour_max(c, u.topk(2).indices) - z)
    layers = block.graph_conv.gconv.nn
    wide = F.gelu(layers[1](layers[0](torch.stack(parts, -1).flatten(2).mT[..., None])[..., 0]))
    expected = x + block.fc2[1](block.fc2[0](wide[..., None])[..., 0]).mT.view_as(x)
    torch.testing.assert_close(block(x, closeness), expected, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(FoldedLHG(block)(x, closeness), expected, atol=1e-5, rtol=1e-5)


def test_permuting_nodes_permutes_the_output() -> None:
    """Where candidates are the nodes, place does not count, and first centroids are given."""
    block = busy(LHGBlock(16, k=5, P=6, K=2, init="noise"))
    x = grid(1)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    shuffled = x.flatten(1, 2)[:, order].view_as(x)
    torch.testing.assert_close(block(shuffled).flatten(1, 2), block(x).flatten(1, 2)[:, order], atol=1e-5, rtol=1e-5)
    # It is not so with pooled candidates, with the closeness of places, or with pooled first centroids.
    for other, closeness in (
        (busy(LHGBlock(16, k=5, P=6, K=2, init="noise", reduction=2)), None),
        (block, position_closeness("grid", 16, 4, 10)),
        (busy(LHGBlock(16, k=5, P=6, K=2, init="pool")), None),
    ):
        permuted = other(shuffled, closeness).flatten(1, 2)
        assert not torch.allclose(permuted, other(x, closeness).flatten(1, 2)[:, order], atol=1e-3)


def test_permuting_centroids_changes_nothing() -> None:
    block = busy(LHGBlock(16, k=5, P=6, K=2, init="learned"))
    before = block(grid())
    with torch.no_grad():
        block.clustering.centroids.copy_(block.clustering.centroids.flip(0))
    torch.testing.assert_close(block(grid()), before, atol=1e-5, rtol=1e-5)


def test_without_itself_a_node_can_be_above_its_neighbours() -> None:
    z = grid()
    assert (LHGBlock(16, k=5, P=6, K=2).terms(z)[1] >= 0).all()
    assert (LHGBlock(16, k=5, P=6, K=2, include_self=False).terms(z)[1] < 0).any()


@pytest.mark.parametrize("cluster", ["fcm", "kmeans", "density"])
@pytest.mark.parametrize("centroid_grad", [False, True])
def test_every_weight_learns(cluster: Any, centroid_grad: bool) -> None:
    block = LHGBlock(16, k=5, P=6, K=2, cluster=cluster, centroid_grad=centroid_grad).train()
    x = grid().requires_grad_()
    (block(x) * torch.randn(x.shape, generator=torch.Generator().manual_seed(3))).sum().backward()
    for name, weight in block.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        # A bias before a batch normalisation cancels; what it gets is rounding.
        assert name.endswith("0.bias") or (weight.grad != 0).any(), name


def test_gradient_of_the_terms_in_double_precision() -> None:
    block = LHGBlock(8, k=3, P=4, K=2, init="noise", centroid_grad=False).double().eval()
    x = grid(1, 2, 4, 8).double().requires_grad_()
    nodes, a, b = block.terms(x)
    grad = torch.autograd.grad(b.sum(), x, retain_graph=True)[0]
    torch.testing.assert_close(grad, -torch.ones_like(grad))  # centroids are constants
    assert torch.autograd.gradcheck(lambda value: block.terms(value)[1], (x,))
    assert nodes.shape == a.shape


def test_bfloat16_is_finite() -> None:
    block = LHGBlock(16, k=5, P=6, K=2).train()
    with torch.autocast("cpu", torch.bfloat16):
        out = block(grid(), position_closeness("ref", 16, 4, 10))
    out.float().square().mean().backward()
    assert all(w.grad is not None and w.grad.isfinite().all() for w in block.parameters())


@pytest.mark.parametrize("options", [{"kernel": "all"}, {"k": 0}, {"reduction": 0}, {"dilation": 0}])
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"give at least 1|unknown kernel"):
        LHGBlock(16, **options)
    with pytest.raises(ValueError, match="multiple of 4"):
        LHGBlock(18)


def test_conv_ffn_is_its_formula() -> None:
    block = busy(ConvFFN(16))
    x = grid()
    pixels = x.permute(0, 3, 1, 2)
    hidden = F.gelu(block.fc1[1](block.fc1[0](pixels).flatten(2))).view(2, 64, 4, 10)
    expected = x + block.fc2[1](block.fc2[0](block.dwconv(hidden)).flatten(2)).mT.view_as(x)
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(FoldedFFN(block)(x), expected, atol=1e-5, rtol=1e-5)
        plain = busy(FFN(16))
        torch.testing.assert_close(FoldedFFN(plain)(x), plain(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["three", "four"])
@pytest.mark.parametrize("size", [(32, 48), (31, 50), (3, 1)])
def test_stem_and_downsampling(kind: Any, size: tuple[int, int]) -> None:
    stem, down = busy(ConvStem(1, 16, kind)), busy(Downsample(16, 24))
    x = torch.randn(2, 1, *size)
    y = stem(x)
    assert y.shape == (2, 16, -(-size[0] // 4), -(-size[1] // 4))
    assert down(y).shape == (2, 24, -(-y.size(2) // 2), -(-y.size(3) // 2))
    with torch.no_grad():
        torch.testing.assert_close(FoldedConvs(stem.convs)(x), y, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(FoldedConvs(down.conv)(y), down(y), atol=1e-5, rtol=1e-5)


class LivingBytes(TorchDispatchMode):
    """Most bytes that were alive at once in tensors made under it."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.layout == torch.strided:
                storage = tensor.untyped_storage()
                self.storages[storage.data_ptr()] = StorageWeakRef(storage), storage.nbytes()
        self.storages = {p: s for p, s in self.storages.items() if not s[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.storages.values()))
        return out


def test_memory_is_far_below_that_of_gathered_neighbours() -> None:
    block = busy(LHGBlock(64, reduction=2))
    x = grid(1, 32, 64, 64)

    def gathered(x: Tensor) -> Tensor:
        """The same block with neighbours and centroids of every node in a tensor each."""
        z = block.fc1[1](F.linear(x.flatten(0, 2), block.fc1[0].weight.flatten(1), block.fc1[0].bias))[None]
        y = F.avg_pool2d(z.mT.unflatten(2, (32, 64)), 2).flatten(2).mT
        index = grid_neighbours(z, y, 25)
        local = (y[0][index[0]] - z[0][:, None].expand(-1, 25, -1)).amax(1)[None]
        centroids, nearest = block.clustering(z.view_as(x))
        higher = (centroids[0][nearest[0]] - z[0][:, None].expand(-1, 10, -1)).amax(1)[None]
        wide = block.graph_conv([z, local, higher])[0]
        return x + block.fc2[1](F.linear(wide, block.fc2[0].weight.flatten(1), block.fc2[0].bias)).view_as(x)

    folded = FoldedLHG(block)
    peaks = []
    with torch.no_grad():
        for way in (gathered, block, folded):
            with LivingBytes() as living:
                out = way(x)
            # Rounding decides who the 25th neighbour of a node or two is.
            assert (out - gathered(x)).abs().mean() < 1e-5
            peaks.append(living.peak)
    # A neighbourhood of 25 nodes is 25 maps; the widest map of the block is 3.
    assert peaks[1] < 0.6 * peaks[0]
    assert peaks[2] < 0.6 * peaks[0]


def test_drop_path() -> None:
    x = torch.ones(4000, 2, 3)
    layer = DropPath(0.25)
    torch.manual_seed(0)
    out = layer.train()(x)
    whole = out.flatten(1)
    assert ((whole == 0).all(1) | (whole == 1 / 0.75).all(1)).all()
    assert abs((whole[:, 0] == 0).float().mean() - 0.25) < 0.03
    assert layer.eval()(x) is x
    assert DropPath(0.0).train()(x) is x
    with pytest.raises(ValueError, match="below 1"):
        DropPath(1.0)
