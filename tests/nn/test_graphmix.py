"""GraphMix: sharpening, mixed targets, the ramp, and that only what should be trained is."""

import pytest
import torch

from graphophone.errors import GraphophoneError
from graphophone.models.subgraph_ssl import SubgraphSSL
from graphophone.nn.graphmix import GraphMix, Mix, sharpen

RING = torch.stack([torch.arange(12), torch.arange(12).roll(1)])


def network(**options: object) -> SubgraphSSL:
    torch.manual_seed(0)
    return SubgraphSSL(in_channels=4, num_classes=3, hidden_channels=8, backbone="graphmix", **options)  # type: ignore[arg-type]


def test_sharpen() -> None:
    p = torch.tensor([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]])
    torch.testing.assert_close(sharpen(p, 1.0), p)
    torch.testing.assert_close(sharpen(p, 0.5)[0], torch.tensor([0.25, 0.09, 0.04]) / 0.38)
    assert sharpen(p, 0.1)[0, 0] > 0.99


def test_ramp() -> None:
    mix = GraphMix(largest=2.0, ramp=0.5)
    assert [mix.weight(progress) for progress in (0.0, 0.25, 0.5, 1.0)] == [0.0, 1.0, 2.0, 2.0]
    assert GraphMix(ramp=0.0).weight(0.0) == 1.0


def test_targets_are_the_mean_prediction() -> None:
    model, x = network().eval(), torch.randn(12, 4)
    torch.testing.assert_close(GraphMix(temperature=1.0).targets(model, x, RING), model(x, RING).softmax(dim=1))
    assert not GraphMix().targets(model.train(), x, RING).requires_grad


def test_mixing_with_oneself_changes_nothing() -> None:
    model, x = network().eval(), torch.randn(12, 4)
    for layer in range(3):
        torch.testing.assert_close(model.pointwise(x, Mix(layer, 0.3, torch.arange(12))), model.pointwise(x))
        torch.testing.assert_close(model.pointwise(x, Mix(layer, 0.0, RING[1])), model.pointwise(x)[RING[1]])


def test_pointwise_is_the_network_without_edges() -> None:
    model, x = network().eval(), torch.randn(12, 4)
    torch.testing.assert_close(model.pointwise(x), model(x, torch.empty(2, 0, dtype=torch.int64)))


def test_losses() -> None:
    model, x = network(), torch.randn(12, 4)
    y = torch.tensor([0, 1, 2] + [-1] * 9)
    losses = model.losses(x, RING, None, y)
    assert {"mix_labelled", "mix_unlabelled"} <= set(losses)
    assert "mix_unlabelled" not in model.losses(x, RING, None, torch.arange(12) % 3)
    start, end = (model.total(losses, progress=progress).item() for progress in (0.0, 1.0))
    assert end - start == pytest.approx(losses["mix_unlabelled"].item(), rel=1e-4)


@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"temperature": 0.0}, {"draws": 0}, {"ramp": 1.5}])
def test_options_that_make_no_sense(options: dict) -> None:
    with pytest.raises(GraphophoneError):
        GraphMix(**options)
