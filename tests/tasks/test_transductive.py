"""Training on one graph."""

import pytest
import torch
from torch_geometric.data import Data

from graphophone.errors import GraphophoneError
from graphophone.models.subgraph_ssl import SubgraphSSL
from graphophone.tasks.transductive import TransductiveTraining, fit_transductive


def communities(seed: int = 0) -> Data:
    """Three groups of 30 nodes, joined mostly within, whose features say little."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(90) % 3
    chance = torch.where(y[:, None] == y, 0.3, 0.01)
    matrix = (torch.rand(90, 90, generator=generator) < chance).triu(1)
    matrix = matrix | matrix.T
    x = torch.randn(90, 12, generator=generator) + 0.5 * torch.nn.functional.one_hot(y, 12)
    place = torch.arange(90)
    return Data(
        x=x,
        y=y,
        edge_index=matrix.nonzero().T.contiguous(),
        train_mask=place < 12,
        val_mask=(place >= 12) & (place < 42),
        test_mask=place >= 42,
    )


def network(backbone: str = "gcn", **options: object) -> SubgraphSSL:
    torch.manual_seed(0)
    options = {"hidden_channels": 16, "num_layers": 1, "entropy_weight": 0.0, **options}
    return SubgraphSSL(in_channels=12, num_classes=3, backbone=backbone, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("backbone", ["gcn", "gat", "gin", "graphmix"])
@pytest.mark.parametrize("tasks", [(), ("denoise", "completion", "shuffle")])
def test_learns_from_the_graph(backbone: str, tasks: tuple[str, ...]) -> None:
    result = fit_transductive(network(backbone, tasks=tasks), communities(), TransductiveTraining(epochs=60))
    assert result.test_accuracy >= 0.9
    perceptron = fit_transductive(network("mlp"), communities(), TransductiveTraining(epochs=60))
    assert perceptron.test_accuracy < 0.7


def test_keeps_the_best_step_and_stops_early() -> None:
    data, training = communities(), TransductiveTraining(epochs=300, patience=10)
    model = network()
    result = fit_transductive(model, data, training)
    assert result.steps == result.step + 11 < 300
    model.eval()
    torch.testing.assert_close(model(data.x, data.edge_index).detach(), result.logits, rtol=1e-4, atol=1e-4)
    right = result.logits.argmax(dim=1) == data.y
    assert result.validation_accuracy == pytest.approx(right[data.val_mask].double().mean().item())
    assert result.test_accuracy == pytest.approx(right[data.test_mask].double().mean().item())
    assert fit_transductive(network(), data, TransductiveTraining(epochs=7, select="last")).step == 6


def test_test_and_validation_labels_are_not_learned() -> None:
    data, other = communities(), communities()
    other.y = torch.where(data.train_mask, data.y, (data.y + 1) % 3)
    training = TransductiveTraining(epochs=10, select="last")
    one, two = (fit_transductive(network(), graph, training).logits for graph in (data, other))
    assert torch.equal(one, two)


def test_the_same_for_a_seed() -> None:
    data, training = communities(), TransductiveTraining(epochs=10, select="last")
    state = torch.get_rng_state()

    def run(seed: int) -> torch.Tensor:
        return fit_transductive(network(tasks=("denoise",)), data, training, seed=seed).logits

    first = run(1)
    torch.randn(3)
    assert torch.equal(run(1), first)
    assert not torch.equal(run(2), first)
    torch.set_rng_state(state)


def test_weight_decay_of_heads() -> None:
    def size(decay_heads: bool) -> float:
        model = network()
        training = TransductiveTraining(epochs=40, weight_decay=0.3, decay_heads=decay_heads, select="last")
        fit_transductive(model, communities(), training)
        return sum(p.square().sum().item() for p in model.classifier.parameters())

    assert size(True) < size(False)


def test_patience_for_either_waits_longer() -> None:
    data = communities()
    steps = {}
    for wait in ("selected", "either"):
        training = TransductiveTraining(epochs=300, patience=10, wait=wait)  # type: ignore[arg-type]
        torch.manual_seed(0)
        steps[wait] = fit_transductive(network(), data, training).steps
    # The loss goes on falling after the accuracy has had its best.
    assert steps["selected"] < steps["either"]


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 0},
        {"patience": -1},
        {"learning_rate": 0.0},
        {"weight_decay": -1.0},
        {"select": "best"},
        {"wait": "both"},
    ],
)
def test_settings_that_make_no_sense(options: dict) -> None:
    with pytest.raises(GraphophoneError):
        TransductiveTraining(**options)
