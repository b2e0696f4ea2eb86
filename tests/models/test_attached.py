"""Pseudo-labels, and answers for recordings outside the pool."""

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import GCNConv

from graphophone.graphs.attachment import attach, choose
from graphophone.graphs.subgraphs import SubgraphSampler
from graphophone.models import ModelError
from graphophone.models.attached import content_ids, draw_references, predict_attached, pseudo_label
from graphophone.models.attached_convolution import AttachedConvolution
from graphophone.models.subgraph_ssl import SubgraphSSL


def sampler(**options: int) -> SubgraphSampler:
    generator = torch.Generator().manual_seed(0)
    labels = torch.cat([torch.arange(24) % 3, torch.full((41,), -1)])
    return SubgraphSampler(torch.randn(65, 6, generator=generator), labels, per_class=4, unlabelled=5, **options)


def model() -> SubgraphSSL:
    torch.manual_seed(0)
    return SubgraphSSL(in_channels=6, num_classes=3, hidden_channels=16)


class Nodes(nn.Module):
    """Answers with the place of every node in what it is given."""

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        return x[:, :3] * 10


class TestPseudoLabels:
    def test_every_unlabelled_node_gets_its_own(self) -> None:
        pool = sampler()
        found = pseudo_label(Nodes(), pool)
        free = pool.labels < 0
        p = (pool.x[:, :3] * 10).softmax(dim=1).max(dim=1)
        assert torch.equal(found.labels[free], p.indices[free])
        torch.testing.assert_close(found.confidence[free], p.values[free])
        assert bool((found.labels[~free] == -1).all())
        assert not found.confidence[~free].any()

    def test_the_model_keeps_its_mode_and_weights(self) -> None:
        network = model().train()
        first = pseudo_label(network, sampler())
        assert network.training
        assert torch.equal(pseudo_label(network, sampler()).confidence, first.confidence)  # no dropout


class TestPrediction:
    def test_does_not_depend_on_company(self) -> None:
        pool, network = sampler(), model()
        references = draw_references(pool, pseudo_label(network, pool).labels, draws=3)
        x = torch.randn(300, 6)
        ids = [f"clip{number}" for number in range(300)]
        together = predict_attached(network, references, x, ids, states=network.embed)
        few = predict_attached(network, references, x[[7, 2]], [ids[7], ids[2]], states=network.embed)
        torch.testing.assert_close(few.probabilities, together.probabilities[[7, 2]])
        torch.testing.assert_close(few.spread, together.spread[[7, 2]])
        assert few.states is not None
        assert together.states is not None
        torch.testing.assert_close(few.states, together.states[[7, 2]])
        torch.testing.assert_close(together.probabilities.sum(dim=1), torch.ones(300))

    def test_works_with_any_network(self) -> None:
        pool = sampler()
        references = draw_references(pool, torch.full((65,), -1), draws=1)
        found = predict_attached(GCNConv(6, 3), references, torch.randn(4, 6), list("abcd"))
        assert found.probabilities.shape == (4, 3)
        assert not found.spread.any()

    def test_variance_falls_with_draws(self) -> None:
        pool, network = sampler(), model()
        pseudo = pseudo_label(network, pool).labels
        x, ids = torch.randn(40, 6, generator=torch.Generator().manual_seed(1)), [str(n) for n in range(40)]

        def variance(draws: int) -> float:
            means = []
            for seed in range(24):
                references = draw_references(pool, pseudo, draws=draws, seed=seed)
                means.append(predict_attached(network, references, x, ids, seed=seed).probabilities)
            return torch.stack(means).var(dim=0).mean().item()

        assert variance(1) / variance(8) == pytest.approx(8, rel=0.4)

    def test_spread_is_the_standard_deviation_over_draws(self) -> None:
        pool, network = sampler(), model()
        references = draw_references(pool, pseudo_label(network, pool).labels, draws=4)
        x = torch.randn(3, 6)
        whole = predict_attached(network, references, x, list("abc"), how="nearest")
        single = [predict_attached(network, [one], x, list("abc"), how="nearest").probabilities for one in references]
        torch.testing.assert_close(whole.probabilities, torch.stack(single).mean(dim=0))
        torch.testing.assert_close(whole.spread, torch.stack(single).std(dim=0), atol=1e-5, rtol=1e-3)

    def test_no_reference(self) -> None:
        with pytest.raises(ModelError, match="draw at least one"):
            predict_attached(model(), [], torch.zeros(1, 6), ["a"])


class TestWithoutEdges:
    def test_a_recording_is_answered_for_by_itself(self) -> None:
        pool, network = sampler(), model().eval()
        references = draw_references(pool, pseudo_label(network, pool).labels, draws=3)
        x = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
        found = predict_attached(network, references, x, list("abcde"), how="none", states=network.embed)
        with torch.no_grad():
            alone = network(x, torch.empty(2, 0, dtype=torch.int64)).softmax(dim=1)
        torch.testing.assert_close(found.probabilities, alone)
        assert float(found.spread.abs().max()) < 1e-7
        whole = attach(references[0], x, list("abcde"), how="none")
        assert whole.edge_index.shape[1] == 5 * references[0].edge_index.shape[1]
        with torch.no_grad():
            logits = network(whole.x, whole.edge_index, whole.edge_weight)[whole.clip]
        torch.testing.assert_close(found.probabilities, logits.softmax(dim=1))


class TestContentIds:
    def test_equal_features_have_equal_names_and_others_have_others(self) -> None:
        x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
        names = content_ids(x)
        assert len(set(names)) == 5
        assert content_ids(x[[3, 1]]) == [names[3], names[1]]
        assert content_ids(x.double()) == names


@pytest.mark.parametrize("backbone", ["gcn", "graphmix"])
@pytest.mark.parametrize("negative", ["subtract", "drop"])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("how", ["random", "nearest"])
def test_convolutions_of_what_reaches_a_recording_are_those_of_the_whole_copy(
    backbone: str, negative: str, num_layers: int, how: str
) -> None:
    torch.manual_seed(0)
    network = SubgraphSSL(
        in_channels=6, num_classes=3, hidden_channels=16, backbone=backbone, negative=negative, num_layers=num_layers
    ).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    reference = draw_references(sampler(), torch.zeros(65, dtype=torch.int64), draws=1)[0]
    reference.x, reference.edge_weight = reference.x.double(), reference.edge_weight.double()
    x, ids = torch.randn(9, 6, dtype=torch.float64), [str(i) for i in range(9)]
    network.eval()
    with torch.no_grad():
        chosen = choose(reference, x, ids, edges=3, how=how)
        logits, states = AttachedConvolution(network, reference)(x, chosen)
        copies = attach(reference, x, ids, edges=3, how=how)
        nodes = (copies.x, copies.edge_index, copies.edge_weight)
        torch.testing.assert_close(logits, network(*nodes)[copies.clip])
        torch.testing.assert_close(states, network.embed(*nodes)[copies.clip])
