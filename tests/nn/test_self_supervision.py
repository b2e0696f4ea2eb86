"""Denoise, completion and shuffle: what is spoilt, what is asked, and on which networks it works."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv, SAGEConv

from graphophone.errors import GraphophoneError
from graphophone.nn.self_supervision import (
    Corruption,
    SelfSupervision,
    add_noise,
    blank_nodes,
    entropy,
    reconstruction_loss,
    shuffle_loss,
    shuffle_nodes,
)

EDGES = torch.tensor([[0, 1, 2, 3, 4, 5], [1, 0, 3, 2, 5, 4]])


def batch_of(sizes: list[int]) -> Tensor:
    return torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))


sizes = st.lists(st.integers(1, 40), min_size=1, max_size=5)


class TestNoise:
    def test_none_is_none(self) -> None:
        x = torch.randn(5, 3)
        assert torch.equal(add_noise(x, 0.0).x, x)

    def test_energy(self) -> None:
        x = torch.randn(4000, 10)
        noise = add_noise(x, 0.3, generator=torch.Generator().manual_seed(0)).x - x
        energy = noise.square().sum(dim=1)
        assert abs(energy.mean() - 3.0) < 4 * energy.std() / math.sqrt(4000)
        assert noise.mean().abs() < 0.02

    def test_sparse_features_get_noise_everywhere(self) -> None:
        assert (add_noise(torch.eye(6).to_sparse()).x != torch.eye(6)).all()


class TestCompletion:
    @given(sizes, st.floats(0.01, 1.0), st.integers(0, 2**20))
    def test_exactly_the_chosen_rows_are_zero(self, counts: list[int], fraction: float, seed: int) -> None:
        batch = batch_of(counts)
        x = torch.randn(len(batch), 3).abs() + 1
        before = x.clone()
        blank = blank_nodes(x, fraction, batch, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(x, before)
        assert torch.equal((blank.x == 0).all(dim=1), blank.touched)
        assert torch.equal(blank.x[~blank.touched], x[~blank.touched])
        chosen = torch.bincount(batch[blank.touched], minlength=len(counts)).tolist()
        assert chosen == [max(1, round(torch.tensor(fraction * n).item())) for n in counts]
        sparse = blank_nodes(x.to_sparse(), fraction, batch, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(sparse.x.to_dense(), blank.x)

    def test_loss_does_not_see_other_rows(self) -> None:
        x = torch.randn(30, 4)
        blank = blank_nodes(x)
        restored = torch.randn(30, 4, requires_grad=True)
        reconstruction_loss(restored, x, blank.touched).backward()
        assert torch.equal((restored.grad != 0).any(dim=1), blank.touched)  # type: ignore[union-attr]


class TestShuffle:
    @given(sizes, st.floats(0.01, 1.0), st.booleans(), st.integers(0, 2**20))
    def test_rows_stay_in_their_graph(self, counts: list[int], fraction: float, derange: bool, seed: int) -> None:
        batch = batch_of(counts)
        x = torch.arange(1.0, len(batch) + 1)[:, None].expand(-1, 2)
        moved = shuffle_nodes(x, fraction, batch, derange=derange, generator=torch.Generator().manual_seed(seed))
        assert moved.x[:, 0].sort().values.tolist() == x[:, 0].tolist()
        assert torch.equal(batch[moved.x[:, 0].long() - 1], batch)
        assert torch.equal(moved.unchanged.bool(), (moved.x == x).all(dim=1))
        assert bool(moved.unchanged[~moved.touched].all())
        chosen = torch.bincount(batch[moved.touched], minlength=len(counts)).tolist()
        wanted = [max(2, round(torch.tensor(fraction * n).item())) if n > 1 else 0 for n in counts]
        assert chosen == wanted
        if derange:
            assert not moved.unchanged[moved.touched].any()
        sparse = shuffle_nodes(
            x.to_sparse(), fraction, batch, derange=derange, generator=torch.Generator().manual_seed(seed)
        )
        assert torch.equal(sparse.x.to_dense(), moved.x)

    def test_permutations_may_leave_some(self) -> None:
        generator = torch.Generator().manual_seed(0)
        x = torch.arange(4.0)[:, None]
        kept = [shuffle_nodes(x, 1.0, derange=False, generator=generator).unchanged.sum().item() for _ in range(2000)]
        assert abs(sum(kept) / 2000 - 1) < 0.1  # a permutation has one fixed point on average
        assert {int(count) for count in kept} == {0, 1, 2, 4}

    def test_logit_of_zero_costs_ln_2(self) -> None:
        moved = shuffle_nodes(torch.randn(40, 3))
        for options in ({}, {"shuffle_over": "masked"}, {"balanced": True}):
            assert shuffle_loss(torch.zeros(40, 1), moved, **options).item() == pytest.approx(math.log(2))

    def test_what_is_averaged(self) -> None:
        unchanged = torch.tensor([1.0, 1.0, 1.0, 0.0])
        moved = Corruption(torch.zeros(4, 1), torch.tensor([False, False, False, True]), unchanged)
        logits = torch.full((4,), 2.0)
        own, other = math.log1p(math.exp(-2)), math.log1p(math.exp(2))
        assert shuffle_loss(logits, moved).item() == pytest.approx((3 * own + other) / 4)
        assert shuffle_loss(logits, moved, shuffle_over="masked").item() == pytest.approx(other)
        assert shuffle_loss(logits, moved, balanced=True).item() == pytest.approx((own + other) / 2)

    def test_one_node_has_nothing_to_exchange(self) -> None:
        moved = shuffle_nodes(torch.randn(1, 3))
        assert moved.unchanged.tolist() == [1]
        assert shuffle_loss(torch.zeros(1), moved, shuffle_over="masked").item() == 0


def test_reconstruction_adds_up_over_dims() -> None:
    x, restored = torch.zeros(5, 4), torch.full((5, 4), 2.0)
    assert reconstruction_loss(restored, x).item() == 16
    assert reconstruction_loss(restored, x, per_dim=True).item() == 4


def test_entropy() -> None:
    assert entropy(torch.zeros(2, 5)).tolist() == pytest.approx([math.log(5)] * 2)
    assert entropy(torch.tensor([[0.0, 1000.0]])).item() == 0
    logits = torch.tensor([[1.0, 0.0, -1.0]], requires_grad=True)
    entropy(logits).sum().backward()
    step = (logits - 0.1 * logits.grad).softmax(dim=1)  # type: ignore[operator]
    assert step[0, 0] > logits.softmax(dim=1)[0, 0]  # less entropy is nearer to one-hot


class Sage(nn.Module):
    """A network that takes no edge weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = SAGEConv(4, 8)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return self.conv(x, edge_index).relu()


@pytest.mark.parametrize("encoder", [GCNConv(4, 8), GATConv(4, 8), Sage()], ids=["gcn", "gat", "sage"])
@pytest.mark.parametrize("weights", [None, torch.ones(6)])
def test_on_any_network_and_graph(encoder: nn.Module, weights: Tensor | None) -> None:
    ssl = SelfSupervision(4, 8, {"denoise": 1.0, "completion": 0.5, "shuffle": 2.0})
    x = torch.randn(6, 4)
    before = x.clone()
    losses = ssl(encoder, x, EDGES, weights)
    assert torch.equal(x, before)
    assert set(losses) == {"denoise", "completion", "shuffle"}
    total = ssl.total(losses)
    assert total.item() == pytest.approx(
        losses["denoise"].item() + 0.5 * losses["completion"].item() + 2 * losses["shuffle"].item(), rel=1e-5
    )
    encoder.zero_grad()
    total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in (*encoder.parameters(), *ssl.parameters()))


def test_heads() -> None:
    assert SelfSupervision(4, 8, ["shuffle"]).reconstruction is None
    assert SelfSupervision(4, 8, ["denoise"]).shuffle is None
    both, one = (
        sum(p.numel() for p in SelfSupervision(165, 256, tasks).parameters())
        for tasks in (["denoise", "completion"], ["denoise"])
    )
    assert both == one == 42405  # one head for both


def test_a_network_learns_to_restore() -> None:
    torch.manual_seed(0)
    x = torch.randn(20, 2) @ torch.randn(2, 12)  # what is missing can be guessed
    ring = torch.arange(20)
    edge_index = torch.cat([torch.stack([ring, ring.roll(1)]), torch.stack([ring.roll(1), ring])], dim=1)
    encoder = Sage()
    encoder.conv = SAGEConv(12, 8)
    ssl = SelfSupervision(12, 8, ["denoise"], per_dim=True)
    optimizer = torch.optim.Adam([*encoder.parameters(), *ssl.parameters()], lr=0.02)
    values = []
    for _ in range(150):
        loss = ssl.total(ssl(encoder, x, edge_index))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert sum(values[-10:]) < 0.6 * sum(values[:10])


@pytest.mark.parametrize(
    "options",
    [{"tasks": ["rotate"]}, {"noise": -1.0}, {"fraction": 0.0}, {"fraction": 1.5}, {"shuffle_over": "some"}],
)
def test_options_that_make_no_sense(options: dict) -> None:
    with pytest.raises(GraphophoneError):
        SelfSupervision(4, 8, **options)
