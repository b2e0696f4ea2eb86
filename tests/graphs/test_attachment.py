"""New recordings: how many random edges, which, and that others change nothing."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Data

from graphophone.graphs import GraphError
from graphophone.graphs.attachment import attach, chance_of_true_label, draw_reference, min_random_edges
from graphophone.graphs.signed import signed_edges
from graphophone.graphs.subgraphs import SubgraphSampler


class TestNumberOfEdges:
    @pytest.mark.parametrize(
        ("true", "pseudo", "p", "edges"),
        [
            (48, 5, 0.9, 1),
            (48, 5, 0.99, 2),
            (66, 5, 0.9, 1),
            (66, 5, 0.99, 2),
            (27, 26, 0.9, 4),
            (27, 26, 0.99, 6),
            (359, 3233, 0.9, 22),
            (359, 3233, 0.99, 44),
            (7120, 64080, 0.9, 22),
            (7120, 64080, 0.99, 44),
        ],
    )
    def test_values_of_the_paper_formula(self, true: int, pseudo: int, p: float, edges: int) -> None:
        assert min_random_edges(true, pseudo, p, exact=False) == edges

    def test_probabilities_of_the_paper_formula(self) -> None:
        assert chance_of_true_label(1, 48, 5, exact=False) == pytest.approx(0.923, abs=5e-4)
        assert chance_of_true_label(4, 27, 26, exact=False) == pytest.approx(0.953, abs=5e-4)
        assert chance_of_true_label(4, 359, 3233, exact=False) == pytest.approx(0.344, abs=5e-4)

    @given(st.integers(1, 60), st.integers(0, 60), st.booleans())
    def test_equals_binomial_coefficients_and_is_monotone(self, true: int, pseudo: int, exact: bool) -> None:
        wrong = pseudo if exact else max(pseudo - 1, 0)
        values = [chance_of_true_label(edges, true, pseudo, exact=exact) for edges in range(pseudo + 2)]
        for edges, value in enumerate(values[: true + wrong + 1]):  # more than all nodes cannot be drawn
            assert value == pytest.approx(1 - math.comb(wrong, edges) / math.comb(true + wrong, edges), abs=1e-12)
        assert values == sorted(values)
        assert values[-1] == 1.0

    @given(st.integers(1, 60), st.integers(0, 60), st.floats(0, 1), st.booleans())
    def test_is_the_smallest(self, true: int, pseudo: int, p: float, exact: bool) -> None:
        edges = min_random_edges(true, pseudo, p, exact=exact)
        assert chance_of_true_label(edges, true, pseudo, exact=exact) >= p
        assert edges == 0 or chance_of_true_label(edges - 1, true, pseudo, exact=exact) < p

    def test_simulation_agrees(self) -> None:
        rng = np.random.default_rng(0)
        drawn = rng.random((20000, 30)).argsort(axis=1)[:, :3]  # three of 30 nodes, of which the first 6 are true
        share = (drawn < 6).any(axis=1).mean()
        p = chance_of_true_label(3, 6, 24)
        assert abs(share - p) < 3 * math.sqrt(p * (1 - p) / 20000)

    @pytest.mark.parametrize("arguments", [(0, 5, 0.9), (3, 5, 1.5), (3, -1, 0.5)])
    def test_arguments_that_make_no_sense(self, arguments: tuple) -> None:
        with pytest.raises(GraphError):
            min_random_edges(*arguments)


def pool(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(200, 5, generator=generator)
    truth = torch.arange(200) % 4
    labels = torch.where(torch.rand(200, generator=generator) < 0.2, truth, -1)
    return x, labels, torch.where(labels < 0, truth, -1)


class TestReference:
    def test_is_drawn_from_other_numbers_than_the_subgraphs_of_any_epoch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        x, labels, pseudo = pool()
        streams: list[tuple[int, ...]] = []
        generator = np.random.default_rng

        def noted(entropy: tuple[int, ...]) -> np.random.Generator:
            streams.append(tuple(np.random.SeedSequence(entropy).generate_state(4).tolist()))
            return generator(entropy)

        monkeypatch.setattr(np.random, "default_rng", noted)
        sampler = SubgraphSampler(x, labels, per_class=2, unlabelled=1, seed=3)
        for number in range(4):
            list(sampler.nodes(number))
            draw_reference(x, labels, pseudo, size=20, seed=3, draw=number)
        assert len(streams) > 4 * 4  # a queue, several parts and a reference each
        assert len(set(streams)) == len(streams)

    def test_is_balanced_and_follows_the_rules(self) -> None:
        x, labels, pseudo = pool()
        graph = draw_reference(x, labels, pseudo, size=53)
        assert len(graph.x) == 52
        classes = torch.where(labels >= 0, labels, pseudo)
        assert torch.bincount(classes[graph.node]).tolist() == [13] * 4
        edge_index, weight = signed_edges(graph.x, graph.y)
        assert torch.equal(graph.edge_index, edge_index)
        assert torch.equal(graph.edge_weight, weight)
        assert graph.true == int((labels[graph.node] >= 0).sum())
        assert graph.true + graph.pseudo == 52

    def test_share_of_true_labels(self) -> None:
        x, labels, pseudo = pool()
        graph = draw_reference(x, labels, pseudo, size=24, true_share=0.5)
        assert torch.bincount(graph.y[graph.y >= 0]).tolist() == [3] * 4
        assert len(graph.x) == 24
        scarce = labels.clone()
        scarce[(labels == 1).nonzero()[1:, 0]] = -1
        pseudo = torch.where(scarce < 0, torch.arange(200) % 4, -1)
        graph = draw_reference(x, scarce, pseudo, size=24, true_share=1.0)
        assert torch.bincount(graph.y[graph.y >= 0]).tolist() == [6, 1, 6, 6]  # others stand in for what is missing
        assert torch.bincount(torch.where(scarce >= 0, scarce, pseudo)[graph.node]).tolist() == [6] * 4

    def test_draws_differ_and_repeat(self) -> None:
        x, labels, pseudo = pool()

        def nodes(**options: int) -> list[int]:
            return draw_reference(x, labels, pseudo, size=40, **options).node.tolist()

        assert nodes() == nodes()
        assert nodes(draw=1) != nodes()
        assert nodes(seed=1) != nodes()

    def test_nodes_without_any_label_are_never_drawn(self) -> None:
        x, labels, pseudo = pool()
        pseudo[100:] = -1
        graph = draw_reference(x, labels, pseudo, size=160)
        assert bool(((labels[graph.node] >= 0) | (pseudo[graph.node] >= 0)).all())

    def test_errors(self) -> None:
        x, labels, pseudo = pool()
        with pytest.raises(GraphError, match="raise size"):
            draw_reference(x, labels, pseudo, size=3)
        with pytest.raises(GraphError, match="true_share"):
            draw_reference(x, labels, pseudo, size=30, true_share=2.0)
        with pytest.raises(GraphError, match="no node has a label"):
            draw_reference(x, torch.full((200,), -1), torch.full((200,), -1), size=30)


def reference(nodes: int = 12) -> Data:
    x, labels, pseudo = pool()
    return draw_reference(x, labels, pseudo, size=nodes)


class TestAttach:
    def test_copies(self) -> None:
        graph, clips = reference(), torch.randn(3, 5)
        whole = attach(graph, clips, ["a", "b", "c"])
        assert whole.num_graphs == 3
        assert torch.equal(whole.x[whole.clip], clips)
        for clip in range(3):
            nodes = slice(clip * 13, clip * 13 + 12)
            assert torch.equal(whole.x[nodes], graph.x)
            inside = (whole.edge_index // 13 == clip).all(dim=0)
            local, weight = whole.edge_index[:, inside] - clip * 13, whole.edge_weight[inside]
            new = (local == 12).any(dim=0)
            assert torch.equal(local[:, ~new], graph.edge_index)
            assert torch.equal(weight[~new], graph.edge_weight)
            assert bool((weight[new] == 1).all())
            giving, taking = local[0, local[1] == 12], local[1, local[0] == 12]
            assert giving.tolist() == taking.tolist()
            assert len(set(giving.tolist())) == 4
        assert bool(((whole.edge_index // 13)[0] == (whole.edge_index // 13)[1]).all())
        code = whole.edge_index[1] * whole.num_nodes + whole.edge_index[0]
        assert bool((code.diff() > 0).all())

    @given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**20))
    def test_edges_are_different_and_do_not_depend_on_company(self, clips: int, edges: int, seed: int) -> None:
        graph, x = reference(), torch.zeros(clips, 5)
        ids = [f"clip{number}" for number in range(clips)]

        def neighbours(names: list[str]) -> list[list[int]]:
            whole = attach(graph, x[: len(names)], names, edges=edges, seed=seed)
            return [(whole.edge_index[0, whole.edge_index[1] == clip] % 13).tolist() for clip in whole.clip]

        together = neighbours(ids)
        assert all(len(set(chosen)) == len(chosen) == min(edges, 12) for chosen in together)
        assert neighbours(ids[::-1]) == together[::-1]
        assert neighbours(ids[-1:]) == together[-1:]

    def test_nodes_are_drawn_evenly(self) -> None:
        clips = 6000
        whole = attach(reference(), torch.zeros(clips, 5), [str(number) for number in range(clips)])
        counts = torch.bincount(whole.edge_index[0, torch.isin(whole.edge_index[1], whole.clip)] % 13, minlength=12)
        expected, sd = clips / 3, (clips * 2 / 9) ** 0.5
        assert float((counts[:12] - expected).abs().max()) < 4 * sd

    def test_nearest(self) -> None:
        graph = reference()
        whole = attach(graph, graph.x[[3, 7]] + 1e-4, ["a", "b"], edges=2, how="nearest")
        distance = torch.cdist(graph.x[[3, 7]] + 1e-4, graph.x)
        for clip, row in zip(whole.clip, distance, strict=True):
            found = whole.edge_index[0, whole.edge_index[1] == clip] % 13
            assert found.tolist() == row.argsort()[:2].sort().values.tolist()

    @pytest.mark.parametrize(
        ("x", "ids", "options"),
        [
            (torch.zeros(2, 5), ["a"], {}),
            (torch.zeros(1, 4), ["a"], {}),
            (torch.zeros(1, 5), ["a"], {"edges": 0}),
            (torch.zeros(1, 5), ["a"], {"how": "far"}),
        ],
    )
    def test_errors(self, x: Tensor, ids: list[str], options: dict) -> None:
        with pytest.raises(GraphError):
            attach(reference(), x, ids, **options)
