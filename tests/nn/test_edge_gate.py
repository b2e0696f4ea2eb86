import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit, logit

from graphophone.errors import GraphophoneError
from graphophone.nn.dialogue import EdgeTables
from graphophone.nn.edge_gate import (
    HardConcreteGate,
    expected_gate,
    full_probability,
    open_probability,
    pair_scores,
)

BOUNDS = [
    {"temperature": 2.0, "gamma": -0.95, "zeta": 1.05},
    {"temperature": 0.7, "gamma": -0.1, "zeta": 1.3},
]


def constant_gate(score: float, **options: Any) -> HardConcreteGate:
    """A gate with the same score for every edge."""
    gate = HardConcreteGate(6, **options).double()
    torch.nn.init.zeros_(gate.score.weight)
    torch.nn.init.constant_(gate.score.bias, score)
    return gate


def all_gates(tables: EdgeTables, graph: Any) -> torch.Tensor:
    return torch.cat([tables.within[graph.within], tables.across[graph.across]])


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("score", [-1.5, 0.0, 2.0])
def test_drawn_gates_follow_the_closed_forms(
    make_dialogues: Callable[..., Any], bounds: dict[str, float], score: float
) -> None:
    dialogues = make_dialogues([150])
    graph = dialogues.graph()
    torch.manual_seed(0)
    with torch.no_grad():
        tables, penalty = constant_gate(score, **bounds).train()(dialogues.x, graph)
    gates = all_gates(tables, graph)
    at = torch.tensor(score, dtype=torch.float64)
    chance = open_probability(at, **bounds)
    # Five standard errors of a share of that many draws.
    allowed = 2.5 / math.sqrt(len(gates))
    assert abs(float((gates > 0).double().mean() - chance)) < allowed
    assert abs(float((gates == 1).double().mean() - full_probability(at, **bounds))) < allowed
    assert abs(float(gates.mean() - expected_gate(at, **bounds))) < allowed
    torch.testing.assert_close(penalty, chance)


@pytest.mark.parametrize("bounds", BOUNDS)
def test_mean_gate_is_the_integral_of_its_tail(bounds: dict[str, float]) -> None:
    for score in (-3.0, 0.0, 1.0, 6.0):

        def tail(t: float, score: float = score) -> float:
            place = (t - bounds["gamma"]) / (bounds["zeta"] - bounds["gamma"])
            return float(expit(score - bounds["temperature"] * logit(place)))

        found = expected_gate(torch.tensor(score, dtype=torch.float64), **bounds)
        assert float(found) == pytest.approx(quad(tail, 0, 1)[0], abs=1e-9)


def test_closed_forms_of_the_default_bounds() -> None:
    at = torch.tensor(0.3, dtype=torch.float64)
    assert float(full_probability(at)) == pytest.approx(expit(0.3 - 2 * math.log(39)))
    assert float(open_probability(at)) == pytest.approx(expit(0.3 - 2 * math.log(0.95 / 1.05)))


@pytest.mark.parametrize(
    ("score", "expected"),
    [(-0.1001, 0.0), (-0.1, pytest.approx(2e-5, abs=5e-5)), (logit(0.975) + 1e-6, 1.0), (0.0, pytest.approx(0.05))],
)
def test_thresholds_in_evaluation(make_dialogues: Callable[..., Any], score: float, expected: float) -> None:
    dialogues = make_dialogues([3])
    graph = dialogues.graph()
    with torch.no_grad():
        tables, _ = constant_gate(score).eval()(dialogues.x, graph)
    assert all(float(gate) == expected for gate in all_gates(tables, graph))
    just_open, _ = constant_gate(logit(0.95 / 2) + 1e-6).eval()(dialogues.x, graph)
    assert (all_gates(just_open, graph) > 0).all()


def test_without_noise_training_is_evaluation(make_dialogues: Callable[..., Any]) -> None:
    dialogues = make_dialogues([5])
    graph = dialogues.graph()
    gate = HardConcreteGate(6, noise=False).double()
    state = torch.get_rng_state()
    trained, penalty = gate.train()(dialogues.x, graph)
    evaluated, other = gate.eval()(dialogues.x, graph)
    assert torch.equal(trained.within, evaluated.within)
    assert torch.equal(penalty, other)
    assert torch.equal(state, torch.get_rng_state())


def test_evaluation_draws_nothing(make_dialogues: Callable[..., Any]) -> None:
    dialogues = make_dialogues([5])
    gate = HardConcreteGate(6).double().eval()
    state = torch.get_rng_state()
    first, _ = gate(dialogues.x, dialogues.graph())
    second, _ = gate(dialogues.x, dialogues.graph())
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first.within, second.within)


def test_gradients_reach_gates_that_are_neither_shut_nor_fully_open() -> None:
    gate = HardConcreteGate(4).eval()
    scores = torch.linspace(-6, 6, 201, dtype=torch.float64, requires_grad=True)
    gates = gate.gates(scores)
    gates.sum().backward()
    assert scores.grad is not None
    between = (gates > 0) & (gates < 1)
    assert torch.equal(scores.grad != 0, between)
    assert 0 < int(between.sum()) < len(gates)


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_scores_are_those_of_both_ends_side_by_side(make_dialogues: Callable[..., Any], modalities: int) -> None:
    dialogues = make_dialogues([4, 2], modalities=modalities, missing=0.2)
    graph = dialogues.graph(future=1)
    gate = HardConcreteGate(6).double().eval()
    x = dialogues.x.requires_grad_()
    tables, penalty = gate(x, graph)
    edge_index, kinds, nodes = graph.edge_list()
    q = gate.shared(x[tuple(nodes.T)])
    scores = gate.score(torch.cat([q[edge_index[0]], q[edge_index[1]]], dim=1))
    scores = scores.gather(1, kinds[:, None]).squeeze(1)
    expected = (torch.sigmoid(scores) * 2 - 0.95).clamp(0, 1)
    (b, m, source), (_, n, target) = nodes[edge_index[0]].T, nodes[edge_index[1]].T
    found = torch.where(kinds == 2, tables.across[b, target, n, m], tables.within[b, m, target, source])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(penalty, torch.sigmoid(scores - 2 * math.log(0.95 / 1.05)).mean())
    assert not tables.within[~graph.within].any()
    assert not tables.across[~graph.across].any()
    parts = [x, *gate.parameters()]
    toward = torch.randn(len(found), dtype=torch.float64)
    mine = torch.autograd.grad((found * toward).sum() + penalty, parts, retain_graph=True)
    theirs = torch.autograd.grad(
        (expected * toward).sum() + torch.sigmoid(scores - 2 * math.log(0.95 / 1.05)).mean(), parts
    )
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_no_edges_cost_nothing(make_dialogues: Callable[..., Any]) -> None:
    dialogues = make_dialogues([1, 1], modalities=1)
    gate = HardConcreteGate(6).double()
    tables, penalty = gate(dialogues.x.requires_grad_(), dialogues.graph())
    assert float(penalty.detach()) == 0
    assert not tables.within.any()
    penalty.backward()
    assert torch.isfinite(dialogues.x.grad).all()


def test_pairs_are_sums_of_both_ends() -> None:
    target, source = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    tables = pair_scores(target, source)
    assert tables.within[1, 2, 3, 0] == target[1, 2, 3] + source[1, 2, 0]
    assert tables.across[1, 3, 2, 0] == target[1, 2, 3] + source[1, 0, 3]


@pytest.mark.parametrize("bounds", [{"gamma": 0.1}, {"zeta": 0.9}, {"temperature": 0.0}])
def test_bounds_that_make_no_gate_are_refused(bounds: dict[str, float]) -> None:
    with pytest.raises(GraphophoneError, match="gamma must be below 0"):
        HardConcreteGate(4, **bounds)


@pytest.mark.parametrize("bounds", BOUNDS)
def test_answers_by_the_mean_are_the_mean_of_what_is_drawn(
    make_dialogues: Callable[..., Any], bounds: dict[str, float]
) -> None:
    dialogues = make_dialogues([5, 3])
    graph = dialogues.graph()
    torch.manual_seed(0)
    gate = HardConcreteGate(6, **bounds, answer="mean").double()
    with torch.no_grad():
        drawn = torch.stack([all_gates(gate.train()(dialogues.x, graph)[0], graph) for _ in range(4000)])
        tables, _ = gate.eval()(dialogues.x, graph)
    torch.testing.assert_close(all_gates(tables, graph), drawn.mean(dim=0), atol=0.03, rtol=0)
    exact = torch.cat([part.flatten() for part in gate.log_alpha(dialogues.x, graph)])
    few, many = (expected_gate(exact, **bounds, points=number) for number in (8, 64))
    torch.testing.assert_close(few, many, atol=2e-4, rtol=0)


def test_an_unknown_answer_is_refused() -> None:
    with pytest.raises(GraphophoneError, match="by point or by mean, not by 'median'"):
        HardConcreteGate(6, answer="median")  # type: ignore[arg-type]
