r"""Tasks that need no labels: give a network a spoilt graph and ask what it was.

Shirian, Somandepalli, Guha, "Self-supervised Graphs for Audio Representation Learning with Limited Labeled Data"
(IEEE JSTSP, 2022), equations 4 to 6. They work with any network that turns ``(x, edge_index, edge_weight)`` into node
states, on any graph; the edges are always those of the clean graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from graphophone.errors import GraphophoneError
from graphophone.nn.signed import SignedGCNConv
from graphophone.nn.sparse import Edges, Matrix, SparseMatrix

TASKS = ("denoise", "completion", "shuffle")
"""Names of the tasks."""

Average = Literal["all", "masked"]


class Encoder(Protocol):
    """Anything that turns a graph into node states ``[N, hidden_channels]``."""

    def __call__(self, x: Any, edge_index: Any, edge_weight: Tensor | None = None) -> Tensor:
        """Node states ``[N, hidden_channels]``."""


@dataclass(frozen=True)
class Corruption:
    """A spoilt copy of node features.

    Attributes:
        x: The copy ``[N, dims]``, of the kind of what it was made from, which is left as it was.
        touched: Which nodes were chosen to be spoilt ``[N]`` bool.
        unchanged: 1 for nodes whose row is their own, 0 for others ``[N]``.
    """

    x: Any
    touched: Tensor
    unchanged: Tensor


def add_noise(x: Matrix, variance: float = 0.1, *, generator: Generator | None = None) -> Corruption:
    """Add Gaussian noise to every feature of every node (equation 4).

    Args:
        x: Node features ``[N, dims]``; sparse ones come back dense.
        variance: Of the noise (the paper's epsilon, whose value it does not give), on the scale of the features.
        generator: What draws it.
    """
    every = torch.ones(x.shape[0], dtype=torch.bool, device=x.device)
    if variance:
        noise = torch.empty(x.shape, dtype=x.dtype, device=x.device).normal_(std=variance**0.5, generator=generator)
        spoilt = x.add_to(noise) if isinstance(x, SparseMatrix) else noise.add_(x)
    else:
        spoilt = x.to_dense()
    return Corruption(spoilt, every, torch.full(every.shape, float(variance == 0), dtype=x.dtype, device=x.device))


def blank_nodes(
    x: Matrix, fraction: float = 0.1, batch: Tensor | None = None, *, generator: Generator | None = None
) -> Corruption:
    """Set the features of some nodes to zero (equation 5).

    Args:
        x: Node features ``[N, dims]``, dense or sparse (COO, or a `SparseMatrix`, which is quicker).
        fraction: Share of the nodes of each graph, rounded; at least one of each.
        batch: Graph of every node ``[N]``, ascending; None: all are of one.
        generator: What draws them.
    """
    order, rank, wanted = _lots(x, fraction, 1, batch, generator)
    chosen = torch.zeros(x.shape[0], dtype=torch.bool, device=x.device)
    chosen[order] = rank < wanted
    kept = (~chosen).to(x.dtype)
    blank: Matrix
    if isinstance(x, SparseMatrix):
        blank = x.scale_rows(kept)
    elif x.is_sparse:
        x = x.coalesce()
        rows = chosen[x.indices()[0]]
        blank = torch.sparse_coo_tensor(x.indices()[:, ~rows], x.values()[~rows], x.shape, is_coalesced=True)
    else:
        blank = x.masked_fill(chosen[:, None], 0.0)
    return Corruption(blank, chosen, kept)


def shuffle_nodes(
    x: Matrix,
    fraction: float = 0.1,
    batch: Tensor | None = None,
    *,
    derange: bool = True,
    generator: Generator | None = None,
) -> Corruption:
    """Exchange the features of some nodes among each other (equation 6).

    Args:
        x: Node features ``[N, dims]``, dense or sparse (COO, or a `SparseMatrix`, which is quicker).
        fraction: Share of the nodes of each graph, rounded; at least two of each graph that has two.
        batch: Graph of every node ``[N]``, ascending; None: all are of one.
        derange: All chosen nodes move (in one ring); False: any permutation, of which some may stay.
        generator: What draws them.
    """
    order, rank, wanted = _lots(x, fraction, 2, batch, generator)
    chosen = order[rank < wanted]
    place, size = rank[rank < wanted], wanted[rank < wanted]
    position = torch.arange(len(chosen), device=x.device)
    if derange:
        giver = chosen[torch.where(place + 1 < size, position + 1, position + 1 - size)]
    else:
        group = (place == 0).cumsum(0)
        lot = torch.rand(len(chosen), generator=generator, dtype=torch.float64, device=x.device)
        giver = chosen[(group + lot).argsort()]
    own = torch.arange(x.shape[0], device=x.device)
    source = own.clone()
    source[chosen] = giver
    touched = torch.zeros(x.shape[0], dtype=torch.bool, device=x.device)
    touched[chosen] = True
    moved: Matrix
    if isinstance(x, SparseMatrix):
        moved = x.take(source)
    elif x.is_sparse:
        x = x.coalesce()
        goes_to = torch.empty_like(source)
        goes_to[source] = own
        indices = x.indices()
        moved_indices = torch.stack([goes_to[indices[0]], indices[1]])
        moved = torch.sparse_coo_tensor(moved_indices, x.values(), x.shape).coalesce()
    else:
        moved = x[source]
    return Corruption(moved, touched, (source == own).to(x.dtype))


def reconstruction_loss(restored: Tensor, x: Tensor, nodes: Tensor | None = None, *, per_dim: bool = False) -> Tensor:
    """Mean over nodes of the squared Euclidean distance between restored and true features (equations 4 and 5).

    Args:
        restored: ``[N, dims]``.
        x: ``[N, dims]``.
        nodes: Which nodes count ``[N]`` bool; None: all.
        per_dim: Divide by the number of dims.
    """
    if nodes is not None:
        restored, x = restored[nodes], (x.index_select(0, nodes.nonzero()[:, 0]) if x.is_sparse else x[nodes])
    loss = (restored - x.to_dense()).square().sum(dim=1).mean()
    return loss / restored.shape[1] if per_dim else loss


def factored_reconstruction_loss(
    states: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    x: SparseMatrix,
    nodes: Tensor | None = None,
    *,
    per_dim: bool = False,
) -> Tensor:
    r"""`reconstruction_loss` of what a linear layer restores, at the cost of sparse features.

    With restored rows :math:`W s_i + b`, a squared distance is

    .. math:: s_i^T (W^T W) s_i + 2 s_i^T W^T b + b^T b - 2 (s_i^T W^T x_i + b^T x_i) + x_i^T x_i

    in which nothing is as large as ``[N, dims]``.

    Args:
        states: s ``[N, s]``.
        weight: W ``[dims, s]``.
        bias: b ``[dims]``, or None.
        x: ``[N, dims]``.
        nodes: Which nodes count ``[N]`` bool; None: all.
        per_dim: Divide by the number of dims.
    """
    chosen = None if nodes is None else nodes.nonzero()[:, 0]
    truth, norms = x @ weight, x.square_norms()
    if chosen is not None:
        states, truth, norms = states[chosen], truth[chosen], norms[chosen]
    loss = (states * (states @ (weight.t() @ weight) - 2 * truth)).sum(dim=1) + norms
    if bias is not None:
        at_bias = (x @ bias[:, None])[:, 0]
        loss = loss + 2 * (states @ (weight.t() @ bias)) + bias.square().sum()
        loss = loss - 2 * (at_bias if chosen is None else at_bias[chosen])
    return loss.mean() / weight.shape[0] if per_dim else loss.mean()


def shuffle_loss(
    logits: Tensor, corruption: Corruption, *, shuffle_over: Average = "all", balanced: bool = False
) -> Tensor:
    """Binary cross-entropy of telling nodes with their own features (1) from others (0) (equation 6).

    Args:
        logits: One per node ``[N]`` or ``[N, 1]``.
        corruption: As `shuffle_nodes` returns it.
        shuffle_over: Average over ``"all"`` nodes, or over those that were ``"masked"``, as printed: nearly all of
            them are 0, so that a constant answer is as good as any.
        balanced: Nodes of both kinds together weigh the same.
    """
    logits, target = logits.view(-1), corruption.unchanged
    if shuffle_over == "masked":
        logits, target = logits[corruption.touched], target[corruption.touched]
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    if not len(loss):
        return loss.sum()
    if not balanced:
        return loss.mean()
    kinds = [(loss * kind).sum() / kind.sum() for kind in (target, 1 - target) if bool(kind.any())]
    return torch.stack(kinds).mean()


def entropy(logits: Tensor) -> Tensor:
    """Entropy of each row's softmax, in nats (equation 2). ``[N, C]`` -> ``[N]``."""
    log_p = logits.log_softmax(dim=-1)
    return -(log_p.exp() * log_p).sum(dim=-1)


class SelfSupervision(nn.Module):
    """Denoise, completion and shuffle, for any network on any graph.

    Each task spoils the node features in its own way, sends them through the network that is to learn, and asks its
    head. Denoise and completion share the reconstruction head.

    Args:
        in_channels: Width of the node features.
        hidden_channels: Width of the states that the network gives.
        tasks: Names among ``"denoise"``, ``"completion"`` and ``"shuffle"``, or a weight for each.
        head: Makes a head from its widths in and out; called as ``head(h, edge_index, edge_weight)``. Where features
            are a `SparseMatrix`, denoise and completion are quicker with one that has ``factors``, as `SignedGCNConv`.
        noise: Variance of the noise of denoise.
        fraction: Share of nodes that completion and shuffle spoil, of each graph.
        shuffle_over: See `shuffle_loss`.
        derange: See `shuffle_nodes`.
        balanced: See `shuffle_loss`.
        per_dim: See `reconstruction_loss`. The squared norms of the paper add up over dims and outweigh a
            cross-entropy at first; this makes both of like size.

    Attributes:
        weights: Weight of each task.

    Example:
        >>> encoder = SignedGCNConv(8, 16)
        >>> ssl = SelfSupervision(8, 16, {"denoise": 1.0, "shuffle": 0.5})
        >>> losses = ssl(encoder, torch.randn(20, 8), torch.randint(20, (2, 60)))
        >>> sorted(losses)
        ['denoise', 'shuffle']
        >>> ssl.total(losses).backward()
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        tasks: Sequence[str] | Mapping[str, float] = TASKS,
        *,
        head: Callable[[int, int], nn.Module] = SignedGCNConv,
        noise: float = 0.1,
        fraction: float = 0.1,
        shuffle_over: Average = "all",
        derange: bool = True,
        balanced: bool = False,
        per_dim: bool = False,
    ) -> None:
        super().__init__()
        for task in tasks:
            if task not in TASKS:
                raise GraphophoneError(f"unknown self-supervised task {task!r}; choose among {', '.join(TASKS)}")
        if noise < 0 or not 0 < fraction <= 1:
            raise GraphophoneError(f"noise must be at least 0 and fraction in (0, 1], not {noise} and {fraction}")
        if shuffle_over not in ("all", "masked"):
            raise GraphophoneError(f'shuffle_over is {shuffle_over!r}; give "all" or "masked"')
        self.weights = {name: float(tasks[name]) if isinstance(tasks, Mapping) else 1.0 for name in tasks}
        self.noise = noise
        self.fraction = fraction
        self.shuffle_over: Average = shuffle_over
        self.derange = derange
        self.balanced = balanced
        self.per_dim = per_dim
        restores = "denoise" in self.weights or "completion" in self.weights
        self.reconstruction = head(hidden_channels, in_channels) if restores else None
        self.shuffle = head(hidden_channels, 1) if "shuffle" in self.weights else None

    def forward(
        self,
        encoder: Encoder,
        x: Matrix,
        edge_index: Edges,
        edge_weight: Tensor | None = None,
        batch: Tensor | None = None,
        generator: Generator | None = None,
    ) -> dict[str, Tensor]:
        """The loss of every task, not weighted.

        Args:
            encoder: The network that learns.
            x: Clean node features ``[N, in_channels]``; for completion and shuffle they may be sparse (COO). They and
                the edges may be a `graphophone.nn.sparse.SparseMatrix` if encoder and head take one.
            edge_index: Sources and targets ``[2, E]``.
            edge_weight: Weights ``[E]``, given to network and heads where there are any.
            batch: Graph of every node ``[N]``, ascending; None: all are of one.
            generator: What draws the corruptions.
        """
        graph: tuple[Any, ...] = (edge_index,) if edge_weight is None else (edge_index, edge_weight)
        losses = {}
        for name in self.weights:
            corruption = self.corrupt(name, x, batch, generator)
            losses[name] = self.loss(name, encoder(corruption.x, *graph), corruption, x, *graph)
        return losses

    def corrupt(
        self, task: str, x: Matrix, batch: Tensor | None = None, generator: Generator | None = None
    ) -> Corruption:
        """The copy of the features that a task sees; arguments as `forward`."""
        if task == "denoise":
            return add_noise(x, self.noise, generator=generator)
        if task == "completion":
            return blank_nodes(x, self.fraction, batch, generator=generator)
        return shuffle_nodes(x, self.fraction, batch, derange=self.derange, generator=generator)

    def loss(
        self,
        task: str,
        states: Tensor,
        corruption: Corruption,
        x: Matrix,
        edge_index: Edges,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """The loss of a task.

        Args:
            task: Its name.
            states: Node states of the copy ``[N, hidden_channels]``.
            corruption: What `corrupt` returned.
            x: Clean node features ``[N, in_channels]``.
            edge_index: See `forward`.
            edge_weight: See `forward`.
        """
        graph: tuple[Any, ...] = (edge_index,) if edge_weight is None else (edge_index, edge_weight)
        if task == "shuffle":
            assert self.shuffle is not None  # noqa: S101 - made because the task has a weight
            logits = self.shuffle(states, *graph)
            return shuffle_loss(logits, corruption, shuffle_over=self.shuffle_over, balanced=self.balanced)
        assert self.reconstruction is not None  # noqa: S101 - as above
        nodes = corruption.touched if task == "completion" else None
        if isinstance(x, SparseMatrix) and hasattr(self.reconstruction, "factors"):
            states, weight, bias = cast(Any, self.reconstruction).factors(states, *graph)
            return factored_reconstruction_loss(states, weight, bias, x, nodes, per_dim=self.per_dim)
        truth = x if isinstance(x, Tensor) else x.to_dense()
        return reconstruction_loss(self.reconstruction(states, *graph), truth, nodes, per_dim=self.per_dim)

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of what `forward` returned."""
        return torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()

    def extra_repr(self) -> str:
        """Options, for printing."""
        return f"tasks={self.weights}, noise={self.noise}, fraction={self.fraction}"


def _lots(
    x: Matrix, fraction: float, least: int, batch: Tensor | None, generator: Generator | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Nodes in random order within their graphs; the place of each there, and how many of its graph are wanted."""
    nodes, device = x.shape[0], x.device
    lot = torch.rand(nodes, generator=generator, dtype=torch.float64, device=device)
    if batch is None:
        count = min(max(round(fraction * nodes), least), nodes) if nodes >= least else 0
        return lot.argsort(), torch.arange(nodes, device=device), torch.full((nodes,), count, device=device)
    order = (batch + lot).argsort()
    counts = torch.bincount(batch)
    wanted = (fraction * counts).round().long().clamp(min=least)
    # A graph too small for the least has nothing to exchange.
    wanted = torch.where(counts < least, 0, torch.minimum(wanted, counts))
    graph = batch[order]
    rank = torch.arange(nodes, device=device) - (counts.cumsum(0) - counts)[graph]
    return order, rank, wanted[graph]
