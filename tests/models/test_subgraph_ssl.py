"""SubgraphSSL: sizes, losses, equivariance, saving."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from graphophone.graphs.signed import signed_edges
from graphophone.models import ModelError, create_model, load_model
from graphophone.models.subgraph_ssl import SubgraphSSL, node_losses
from graphophone.nn.sparse import SparseMatrix

ALL = ("denoise", "completion", "shuffle")
BACKBONES = ("gcn", "gat", "gin", "graphmix", "mlp")


def graph(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(23, 6, generator=generator)
    y = torch.cat([torch.arange(18) % 3, torch.full((5,), -1)])
    return x, *signed_edges(x, y), y


def create(backbone: str = "gcn", **options: object) -> SubgraphSSL:
    torch.manual_seed(0)
    options = {"hidden_channels": 16, **options}
    model = create_model("subgraph_ssl", in_channels=6, num_classes=3, backbone=backbone, **options)
    assert isinstance(model, SubgraphSSL)
    return model


@pytest.mark.parametrize(
    ("dims", "classes", "shared", "head", "reconstruction"),
    [(165, 4, 108288, 1028, 42405), (128, 33, 98816, 8481, 32896)],
)
def test_numbers_of_parameters(dims: int, classes: int, shared: int, head: int, reconstruction: int) -> None:
    def count(*tasks: str) -> int:
        return SubgraphSSL(in_channels=dims, num_classes=classes, tasks=tasks).num_parameters()

    assert count() == shared + head
    assert count("denoise") == count("completion") == count("denoise", "completion") == shared + head + reconstruction
    assert count("shuffle") == shared + head + 257
    assert count(*ALL) == shared + head + reconstruction + 257


@pytest.mark.parametrize("backbone", BACKBONES)
class TestEveryBackbone:
    def test_gradients(self, backbone: str) -> None:
        model = create(backbone, tasks=ALL)
        x, edge_index, edge_weight, y = graph()
        losses = model.losses(x, edge_index, edge_weight, y)
        assert {"cross_entropy", "entropy", *ALL} <= set(losses)
        model.total(losses).backward()
        assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]

    def test_saving(self, backbone: str, tmp_path: Path) -> None:
        model = create(backbone, tasks={"shuffle": 0.5}).eval()
        model.save_pretrained(tmp_path)
        again = load_model(tmp_path)
        x, edge_index, edge_weight, _ = graph()
        assert torch.equal(again(x, edge_index, edge_weight), model(x, edge_index, edge_weight))
        assert isinstance(again, SubgraphSSL)
        assert again.ssl is not None
        assert again.ssl.weights == {"shuffle": 0.5}

    def test_the_order_of_nodes_does_not_matter(self, backbone: str) -> None:
        model = create(backbone, tasks=ALL).eval()
        x, edge_index, edge_weight, _ = graph()
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
        place = order.argsort()
        moved = model(x[order], place[edge_index], edge_weight)
        torch.testing.assert_close(moved, model(x, edge_index, edge_weight)[order], atol=1e-5, rtol=1e-4)
        assert model.ssl is not None
        assert model.ssl.shuffle is not None
        edges = model.prepare(edge_index, edge_weight, len(x))
        moved_edges = model.prepare(place[edge_index], edge_weight, len(x))
        head = model.ssl.shuffle(model.encode(x, *edges), *edges)
        moved_head = model.ssl.shuffle(model.encode(x[order], *moved_edges), *moved_edges)
        torch.testing.assert_close(moved_head, head[order], atol=1e-5, rtol=1e-4)

    def test_disjoint_graphs_do_not_meet(self, backbone: str) -> None:
        model = create(backbone).eval()
        x, edge_index, edge_weight, _ = graph()
        other, other_index, other_weight, _ = graph(1)
        together = model(
            torch.cat([x, other]),
            torch.cat([edge_index, other_index + len(x)], dim=1),
            torch.cat([edge_weight, other_weight]),
        )
        torch.testing.assert_close(together[: len(x)], model(x, edge_index, edge_weight), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_sparse_features_are_dense_ones(backbone: str) -> None:
    model = create(backbone).eval()
    x, edge_index, edge_weight, _ = graph()
    x = x.relu()
    sparse, dense = (model(features, edge_index, edge_weight) for features in (x.to_sparse(), x))
    torch.testing.assert_close(sparse, dense)
    assert model.train()(x.to_sparse(), edge_index, edge_weight).isfinite().all()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_losses_and_gradients_of_sparse_features_are_those_of_dense_ones(backbone: str, weighted: bool) -> None:
    options = {"dropout": 0.0, "output_heads": 2} if backbone == "gat" else {"dropout": 0.0}
    model = create(backbone, tasks=ALL, noise=0.2, **options).double()
    x, edge_index, edge_weight, y = graph()
    x = x.double().relu()
    weight = edge_weight.double() if weighted else None
    plan = model.plan(edge_index, weight, len(x))
    forms = [(x, edge_index, weight), (x.to_sparse(), edge_index, weight), (SparseMatrix.from_tensor(x), plan, None)]
    found = []
    for form in forms:
        model.zero_grad()
        torch.manual_seed(3)
        losses = model.losses(*form, y, generator=torch.Generator().manual_seed(1))
        model.total(losses).backward()
        found.append((losses, [parameter.grad for parameter in model.parameters()]))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


@pytest.mark.parametrize("backbone", ["gcn", "graphmix"])
def test_separate_weights_of_sparse_features(backbone: str) -> None:
    model = create(backbone, tasks=("completion",), negative="separate").double().eval()
    x, edge_index, edge_weight, _ = graph()
    x = x.double().relu()
    plan = model.plan(edge_index, edge_weight.double(), len(x))
    expected = model(x, edge_index, edge_weight.double())
    torch.testing.assert_close(model(SparseMatrix.from_tensor(x), plan), expected)
    assert model.ssl is not None
    states, edges = model.embed(x, plan), model.prepare(plan, None, len(x))
    restored = model.ssl.reconstruction(states, *edges)  # type: ignore[misc]
    torch.testing.assert_close(torch.nn.functional.linear(*model.ssl.reconstruction.factors(states, *edges)), restored)  # type: ignore[misc,union-attr,operator]


def test_the_perceptron_does_not_look_at_edges() -> None:
    model = create("mlp").eval()
    x, edge_index, edge_weight, _ = graph()
    assert torch.equal(model(x, edge_index, edge_weight), model(x, edge_index[:, :0], edge_weight[:0]))


class TestLosses:
    def test_cross_entropy_of_equal_chances(self) -> None:
        losses = node_losses(torch.zeros(6, 4), torch.tensor([0, 1, 2, 3, -1, -1]))
        assert losses["cross_entropy"].item() == pytest.approx(math.log(4))
        assert losses["entropy"].item() == pytest.approx(math.log(4))
        added = node_losses(torch.zeros(6, 4), torch.tensor([0, 1, 2, 3, -1, -1]), reduction="sum")
        assert added["cross_entropy"].item() == pytest.approx(4 * math.log(4))
        assert added["entropy"].item() == pytest.approx(2 * math.log(4))

    def test_no_labelled_or_no_other_nodes(self) -> None:
        logits = torch.randn(3, 2, requires_grad=True)
        assert node_losses(logits, torch.full((3,), -1))["cross_entropy"].item() == 0
        losses = node_losses(logits, torch.zeros(3, dtype=torch.int64))
        assert losses["entropy"].item() == 0
        sum(losses.values()).backward()  # type: ignore[union-attr]
        assert logits.grad is not None
        assert logits.grad.isfinite().all()

    def test_total_is_linear_in_both_weights(self) -> None:
        x, edge_index, edge_weight, y = graph()
        losses = create(tasks=ALL).eval().losses(x, edge_index, edge_weight, y)

        def total(entropy_weight: float, ssl_weight: float) -> float:
            return create(tasks=ALL, entropy_weight=entropy_weight, ssl_weight=ssl_weight).total(losses).item()

        assert total(0, 0) == losses["cross_entropy"].item()
        assert total(3, 0) - total(0, 0) == pytest.approx(3 * losses["entropy"].item(), rel=1e-4)
        tasks = sum(losses[name].item() for name in ALL)
        assert total(0, 2) - total(0, 0) == pytest.approx(2 * tasks, rel=1e-4)
        assert total(3, 2) == pytest.approx(total(3, 0) + total(0, 2) - total(0, 0), rel=1e-5)

    def test_weights_of_zero_are_plain_supervision(self) -> None:
        x, edge_index, edge_weight, y = graph()
        model = create(tasks=ALL, entropy_weight=0.0, ssl_weight=0.0).eval()
        model.total(model.losses(x, edge_index, edge_weight, y)).backward()
        plain = create(entropy_weight=0.0).eval()
        torch.nn.functional.cross_entropy(plain(x, edge_index, edge_weight)[y >= 0], y[y >= 0]).backward()
        for name, parameter in plain.named_parameters():
            torch.testing.assert_close(model.get_parameter(name).grad, parameter.grad)
        assert model.ssl is not None
        assert all(p.grad is None or not p.grad.any() for p in model.ssl.parameters())

    def test_corruptions_follow_a_generator(self) -> None:
        x, edge_index, edge_weight, y = graph()
        model = create(tasks=ALL).eval()

        def values(seed: int) -> list[float]:
            generator = torch.Generator().manual_seed(seed)
            losses = model.losses(x, edge_index, edge_weight, y, generator=generator)
            return [losses[name].item() for name in ALL]

        assert values(0) == values(0)
        assert values(0) != values(1)


@pytest.mark.parametrize("negative", ["drop", "separate"])
def test_negative_edges(negative: str) -> None:
    model = create(negative=negative).eval()
    x, edge_index, edge_weight, _ = graph()
    kept = edge_weight > 0
    dropped = model(x, edge_index[:, kept], edge_weight[kept])
    assert torch.allclose(model(x, edge_index, edge_weight), dropped) == (negative == "drop")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"backbone": "sage"}, "no backbone 'sage'"),
        ({"num_layers": 0}, "num_layers"),
        ({"backbone": "gat", "hidden_channels": 20}, "no multiple of 8 heads"),
        ({"backbone": "gat", "negative": "separate"}, "separate"),
        ({"mixing": {"draws": 3}}, "mixing"),
        ({"reduction": "median"}, "reduction"),
    ],
)
def test_options_that_make_no_sense(options: dict, text: str) -> None:
    with pytest.raises(ModelError, match=text):
        create_model("subgraph_ssl", in_channels=6, num_classes=3, **options)
