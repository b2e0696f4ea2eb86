"""An LSTM that reads the neighbours of every node of a graph, each node its own sequence.

The aggregator of a graph-LSTM layer runs one LSTM over a sequence per node, and the sequences have the
lengths of the in-degrees. Padding them to the longest (as ``torch_geometric.nn.aggr.LSTMAggregation`` does)
costs nodes x longest, and hands a node of lower degree the state after its padding. Here each sequence ends
where its neighbours end, and

* the input projection is computed once per node and gathered, not once per edge;
* sequences that begin alike share the states of what they share: the states form a forest whose level t holds
  the distinct beginnings of length t + 1. A graph of one in-degree runs dense, and a hub costs its own tail
  alone;
* every tanh is taken as ``2 sigmoid(2x) - 1``, so that a step needs one sigmoid over all gates (the factor is
  folded into the weights and the cell), which vectorises several times better than tanh on CPUs;
* the backward pass is written out: one walk back over the levels, products over all states of a level at
  once.

Symbols: N nodes, E edges, D hidden channels, U states of a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from graphophone.errors import GraphophoneError

NeighbourOrder = Literal["time", "similarity", "random"]

# Numbers in the gates of one chunk of a level on a CPU: they stay in cache from the gather to the last
# product, and what is kept of them comes from the part of the allocator that recycles memory (glibc maps 32
# MiB and more anew in every step, which costs as much as the arithmetic).
_CHUNK = 1 << 18
# A level that branches by less than this (states before / states after) copies states to the branches before
# the recurrent product, otherwise gates after it.
_BRANCHING = 0.8


class NeighbourPlanError(GraphophoneError):
    """An ``edge_index`` (or what comes with it) from which no reading order can be made."""


@dataclass(frozen=True, eq=False)
class Level:
    """States after reading as many neighbours as the level's number says.

    Attributes:
        source: Node that each state reads ``[U]``.
        parent: State of the level before from which each state comes ``[U]``; None: state k comes from state
            k.
        parents: How many states of the level before are continued; they are its first.
        rows: States that are the last of some node, or None.
        nodes: The nodes whose last states are ``rows``.
    """

    source: Tensor
    parent: Tensor | None
    parents: int
    rows: Tensor | None
    nodes: Tensor | None


@dataclass(frozen=True, eq=False)
class NeighbourPlan:
    """In which order an LSTM reads the in-edges of all nodes: made once per batch, shared by all layers.

    Attributes:
        num_nodes: N.
        levels: One per step of the longest sequence.
        edge: Column of the caller's ``edge_index`` for every state in the order of the levels ``[E]``; None
            where states are shared between sequences, so that a state may stand for several edges.
    """

    num_nodes: int
    levels: tuple[Level, ...]
    edge: Tensor | None

    @classmethod
    def from_edge_index(
        cls,
        edge_index: Tensor,
        num_nodes: int,
        *,
        order: NeighbourOrder = "time",
        x: Tensor | None = None,
        seeded: bool = True,
        share: bool = True,
    ) -> NeighbourPlan:
        """Plan the reading of a graph, or of a batch of graphs.

        Args:
            edge_index: Sources and targets ``[2, E]``, int64, in any order (sorted by target and source is
                noticed and spares the sorting).
            num_nodes: N.
            order: ``"time"`` reads sources in ascending order; ``"similarity"`` by ascending cosine
                similarity of ``x`` to the target, so that the most similar neighbour is read last;
                ``"random"`` in no order.
            x: Node features ``[N, dims]``, for ``order="similarity"``.
            seeded: Whether a random order is a fixed function of the distance in time between source and
                target (so that it is the same in every batch); otherwise it is drawn anew from torch's
                generator.
            share: Whether sequences that begin alike share states. Edge weights need ``share=False``.

        Raises:
            NeighbourPlanError: If ``edge_index`` is not ``[2, E]`` int64, points outside of the nodes, or
                ``x`` is missing.
        """
        if edge_index.dim() != 2 or edge_index.size(0) != 2 or edge_index.dtype != torch.int64:
            raise NeighbourPlanError(
                f"edge_index is {edge_index.dtype} {list(edge_index.shape)}; give int64 [2, edges]"
            )
        num_edges = edge_index.size(1)
        if num_edges == 0:
            return cls(num_nodes, (), edge_index.new_empty(0))
        lowest, highest = (int(v) for v in edge_index.aminmax())
        if lowest < 0 or highest >= num_nodes:
            raise NeighbourPlanError(
                f"edge_index points at node {lowest if lowest < 0 else highest} of {num_nodes}; "
                "build the edges from the same nodes"
            )
        edge = _reading_order(edge_index, num_nodes, order, x, seeded)
        source, target = edge_index if edge is None else edge_index.index_select(1, edge)
        position = torch.arange(max(num_edges, num_nodes), device=edge_index.device)
        degree = torch.bincount(target, minlength=num_nodes)
        starts = degree.cumsum(0) - degree
        step = position[:num_edges] - starts.index_select(0, target)

        # Nodes are ranked by descending degree: those that still read at a step are the first ones. Edges are packed
        # by step, then rank: every packed edge is a state, and comes from the one as far along the step before.
        nodes = degree.argsort(descending=True, stable=True)
        rank = torch.empty_like(nodes).scatter_(0, nodes, position[:num_nodes])
        reading = torch.bincount(step)
        packed = (reading.cumsum(0) - reading).index_select(0, step) + rank.index_select(0, target)
        edge = position[:num_edges] if edge is None else edge
        edge = torch.empty_like(edge).scatter_(0, packed, edge)
        source = edge_index[0].index_select(0, edge)
        counts = reading.tolist()
        leader = _leaders(source, counts, num_nodes) if share else None
        if leader is not None:
            return cls(num_nodes, _shared_levels(source, nodes, reading, counts, leader), None)
        ranks = position[: counts[0]]
        levels = tuple(
            Level(
                source=read,
                parent=None,
                parents=count if step else 0,
                rows=ranks[ends:count] if ends < count else None,
                nodes=nodes[ends:count] if ends < count else None,
            )
            for step, (read, count, ends) in enumerate(zip(source.split(counts), counts, [*counts[1:], 0], strict=True))
        )
        return cls(num_nodes, levels, edge)

    @property
    def num_states(self) -> int:
        """How many states are computed: E, less what is shared."""
        return sum(level.source.numel() for level in self.levels)


def _reading_order(
    edge_index: Tensor, num_nodes: int, order: NeighbourOrder, x: Tensor | None, seeded: bool
) -> Tensor | None:
    """Permutation of the columns ``[E]`` that sorts by target, then reading order; None for the identity."""
    source, target = edge_index
    if order == "time":
        key = target * num_nodes + source
        return None if bool((key[1:] >= key[:-1]).all()) else key.argsort(stable=True)
    if order == "similarity":
        if x is None:
            raise NeighbourPlanError("order='similarity' needs the node features; give x")
        unit = nn.functional.normalize(x.detach(), dim=-1)
        rank = (unit.index_select(0, source) * unit.index_select(0, target)).sum(-1).argsort(stable=True)
    elif order == "random":
        if seeded:
            # A hash (Knuth's multiplicative one) of the distance in time: fixed, and the same in every batch.
            rank = ((source - target) * 2654435761 % 4294967296).argsort(stable=True)
        else:
            rank = torch.randperm(source.numel(), device=source.device)
    else:
        raise NeighbourPlanError(f"unknown order {order!r}; choose from {', '.join(get_args(NeighbourOrder))}")
    return rank.index_select(0, target.index_select(0, rank).argsort(stable=True))


def _leaders(source: Tensor, counts: Sequence[int], num_nodes: int) -> Tensor | None:
    """For every packed edge, the first in rank of those that complete the same beginning ``[E]``.

    Beginnings of up to 6 neighbours are compared: longer ones are rarely shared. None if none is shared.

    Args:
        source: Node that each packed edge reads ``[E]``.
        counts: How many nodes read at each step: they are the first in rank.
        num_nodes: N.
    """
    device = source.device
    columns = min(6, len(counts))
    first = nn.utils.rnn.pad_sequence(source[: sum(counts[:columns])].split(counts[:columns]), padding_value=-1)
    # first [ranks, columns]: what every node reads; now in lexicographic order, the least significant columns first.
    digit = num_nodes + 1
    together = 3 if num_nodes < 1 << 20 else 2
    order = torch.arange(counts[0], device=device)
    for end in range(columns, 0, -together):
        key = torch.zeros_like(order)
        for column in range(max(0, end - together), end):
            key = key * digit + (first[:, column] + 1)
        order = order.index_select(0, key.index_select(0, order).argsort(stable=True))
    first = first.index_select(0, order)
    alike = ((first[1:] == first[:-1]) & (first[1:] >= 0)).int().cumprod(1).bool()
    if not bool(alike.any()):
        return None
    group = torch.cat([torch.zeros_like(first[:1]), (~alike).cumsum(0)])
    group += torch.arange(columns, device=device) * counts[0]
    ranks = order.unsqueeze(1).expand_as(group)
    lead = torch.full((group.numel(),), counts[0], device=device)
    lead.scatter_reduce_(0, group.flatten(), ranks.flatten(), "amin")
    leads = torch.empty_like(group).index_copy_(0, order, lead.index_select(0, group.flatten()).view_as(group))
    leader = torch.arange(source.numel(), device=device)
    start = 0
    for column, count in enumerate(counts[:columns]):
        leader[start : start + count] = leads[:count, column] + start
        start += count
    return leader


def _shared_levels(
    source: Tensor, nodes: Tensor, reading: Tensor, counts: Sequence[int], leader: Tensor
) -> tuple[Level, ...]:
    """The levels of a plan in which packed edges of one leader share a state.

    Args:
        source: Node that each packed edge reads ``[E]``.
        nodes: Node of every rank.
        reading: How many nodes read at each step ``[steps]``.
        counts: The same, as a list.
        leader: From `_leaders`.
    """
    position = torch.arange(leader.numel(), device=leader.device)
    steps = len(counts)
    offset = reading.cumsum(0) - reading
    step = torch.repeat_interleave(reading)
    leads = leader == position
    leaders = leads.nonzero().squeeze(1)
    level = step.index_select(0, leaders)
    sizes = torch.bincount(level, minlength=steps)
    # Row of every packed edge's state within its level.
    row = leads.cumsum(0).index_select(0, leader) - 1 - (sizes.cumsum(0) - sizes).index_select(0, step)
    # A leader comes from the edge of its own rank in the step before. It goes on if anyone of its state does, since
    # it is the first in rank; so the states that go on are the first of their level.
    rank = leaders - offset.index_select(0, level)
    parent = row.index_select(0, offset.index_select(0, (level - 1).clamp_(min=0)) + rank)
    moved = parent != row.index_select(0, leaders)
    goes_on = rank < torch.cat([reading[1:], reading.new_zeros(1)]).index_select(0, level)
    size_list, moves, continued = torch.stack(
        [
            sizes,
            torch.bincount(level[moved], minlength=steps),
            torch.bincount(level[goes_on], minlength=steps),
        ]
    ).tolist()
    by_level = zip(
        source.index_select(0, leaders).split(size_list),
        parent.split(size_list),
        moves,
        [0, *continued[:-1]],
        row.split(list(counts)),
        counts,
        [*counts[1:], 0],
        strict=True,
    )
    return tuple(
        Level(
            source=read,
            parent=parents if parents_count and moved_count else None,
            parents=parents_count,
            rows=rows[ends:] if ends < count else None,
            nodes=nodes[ends:count] if ends < count else None,
        )
        for read, parents, moved_count, parents_count, rows, count, ends in by_level
    )


def graph_lstm(
    x: Tensor,
    plan: NeighbourPlan,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None = None,
    edge_weight: Tensor | None = None,
) -> Tensor:
    """Last hidden state of an LSTM that reads, for every node, its neighbours' rows of ``x``.

    Args:
        x: Node features ``[N, channels]``.
        plan: Who reads whom, and when.
        weight_ih: Input weight ``[4D, channels]``, gates in the order of `torch.nn.LSTM` (input, forget,
            cell, output).
        weight_hh: Recurrent weight ``[4D, D]``.
        bias: Sum of both biases ``[4D]``.
        edge_weight: Factor ``[E]`` on the neighbour's row, per edge, in the order of the caller's
            ``edge_index``.

    Returns:
        States ``[N, D]``; zero for nodes without in-edges.

    Raises:
        NeighbourPlanError: If ``edge_weight`` comes with a plan that shares states.
    """
    if not plan.levels:
        return x.new_zeros(plan.num_nodes, weight_hh.size(1))
    # The cell gate's rows are doubled here, once, for tanh(z) = 2 sigmoid(2 z) - 1 inside.
    double = weight_hh.new_ones(4, 1)
    double[2] = 2
    weight_ih = (weight_ih.view(4, -1) * double).view_as(weight_ih)
    weight_hh = (weight_hh.view(4, -1) * double).view_as(weight_hh)
    bias = None if bias is None else (bias.view(4, -1) * double).view_as(bias)
    rows: Sequence[Tensor]
    if edge_weight is None:
        gates, rows = nn.functional.linear(x, weight_ih, bias), [level.source for level in plan.levels]
    elif plan.edge is None:
        raise NeighbourPlanError("edge weights need states of their own; make the plan with share=False")
    else:
        # Every edge gets gates of its own; what follows is the same.
        sources = torch.cat([level.source for level in plan.levels])
        gates = nn.functional.linear(x, weight_ih).index_select(0, sources)
        gates = gates * edge_weight.index_select(0, plan.edge).unsqueeze(-1)
        gates = gates if bias is None else gates + bias
        position = torch.arange(plan.num_states, device=x.device)
        rows = position.split([level.source.numel() for level in plan.levels])
    gates = gates.to(weight_hh.dtype)  # differs under autocast
    if torch.is_grad_enabled() and (gates.requires_grad or weight_hh.requires_grad):
        return _GraphLSTM.apply(gates, weight_hh, plan, rows)
    return _read(gates, weight_hh, plan, rows, None)


def _chunks(gates: Tensor, count: int) -> list[int]:
    """Sizes of the chunks in which ``count`` states of gates as wide as ``gates`` are taken."""
    rows = _CHUNK * torch.get_num_threads() // gates.size(1) if gates.device.type == "cpu" else count
    chunks = max(1, round(count / max(1, rows)))
    return [count * (k + 1) // chunks - count * k // chunks for k in range(chunks)]


def _cut(tensor: Tensor | None, sizes: list[int]) -> Sequence[Any]:
    """The first rows of ``tensor`` in chunks; None for each where there is no tensor."""
    if tensor is None:
        return [None] * len(sizes)
    count = sum(sizes)
    tensor = tensor if tensor.size(0) == count else tensor[:count]
    return [tensor] if len(sizes) == 1 else tensor.split_with_sizes(sizes)


def _read(
    gates: Tensor,
    weight_hh: Tensor,
    plan: NeighbourPlan,
    rows: Sequence[Tensor],
    saved: list[Tensor] | None,
) -> Tensor:
    """Last states ``[N, D]``; into ``saved`` what the backward pass needs.

    Saved are for every level the doubled cells C, u = sigmoid(C) and the negated states n = -h = o - 2ou, then
    for every chunk of the level the activated gates: i, f, g = tanh, o. (The signs and factors spare passes: n
    is one ``addcmul``, and C needs no scaling before the sigmoid.)
    """
    hidden = weight_hh.size(1)
    weight = weight_hh.t().neg().contiguous()  # for states that are negated
    minus_one = gates.new_tensor(-1.0)
    out = gates.new_zeros(plan.num_nodes, hidden)
    cells = states = squashed = work = gates.new_empty(0, hidden)
    for number, (level, source) in enumerate(zip(plan.levels, rows, strict=True)):
        count = source.numel()
        parent = level.parent
        previous = product = previous_cells = None
        if number and parent is None:
            previous, previous_cells = states, cells
        elif parent is not None:
            previous_cells = torch.index_select(cells, 0, parent)
            if level.parents < _BRANCHING * count:
                product = torch.mm(states[: level.parents], weight)
            else:
                previous = torch.index_select(states, 0, parent)
        sizes = _chunks(gates, count)
        if saved is not None or parent is not None or number == 0:
            cells, states = gates.new_empty(count, hidden), gates.new_empty(count, hidden)
        else:  # in place
            cells, states = cells[:count], states[:count]
        if saved is not None or squashed.size(0) < count:
            squashed = gates.new_empty(count, hidden)
        if saved is not None:
            saved += (cells, squashed, states)
            buffers = [gates.new_empty(size, 4 * hidden) for size in sizes]
            saved += buffers
        else:
            if work.size(0) < max(sizes):
                work = gates.new_empty(max(sizes), 4 * hidden)
            buffers = [work[:size] for size in sizes]
        for z, read, c, u, n, before, cells_before, branch in zip(
            buffers,
            _cut(source, sizes),
            _cut(cells, sizes),
            _cut(squashed, sizes),
            _cut(states, sizes),
            _cut(previous, sizes),
            _cut(previous_cells, sizes),
            _cut(parent, sizes),
            strict=True,
        ):
            i, f, g, o = z.chunk(4, dim=1)
            torch.index_select(gates, 0, read, out=z)
            if before is not None:
                z.addmm_(before, weight)
            elif product is not None:
                z.add_(torch.index_select(product, 0, branch))
            z.sigmoid_()
            torch.add(minus_one, g, alpha=2, out=g)
            if cells_before is None:
                torch.mul(i, g, out=c).mul_(2)
            else:
                torch.mul(cells_before, f, out=c).addcmul_(i, g, value=2)
            torch.sigmoid(c, out=u)
            torch.addcmul(o, o, u, value=-2, out=n)
        if level.rows is not None and level.nodes is not None:
            out.index_copy_(0, level.nodes, torch.index_select(states, 0, level.rows).neg_())
    return out


class _GraphLSTM(torch.autograd.Function):
    """`_read` with its backward pass."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, weight_hh: Tensor, plan: NeighbourPlan, rows: Sequence[Tensor]) -> Tensor:
        saved: list[Tensor] = []
        out = _read(gates, weight_hh, plan, rows, saved)
        ctx.plan, ctx.rows, ctx.num_rows = plan, rows, gates.size(0)
        ctx.save_for_backward(weight_hh, *saved)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        weight_hh, *saved = ctx.saved_tensors
        plan: NeighbourPlan = ctx.plan
        hidden = weight_hh.size(1)
        # Walked back are the gradients dn of the negated states and twice those of the doubled cells, e. With
        # them the gates of f come out doubled, and those of the cell gate are of its input before
        # `graph_lstm` doubled it: both are halved in the weight here, and in the results below.
        halves = slice(hidden, 3 * hidden)
        weight = weight_hh.neg()
        weight[halves].mul_(0.5)
        grad_gates = weight_hh.new_zeros(ctx.num_rows, 4 * hidden)
        grad_weight = weight_hh.new_zeros(hidden, 4 * hidden)  # transposed: the quicker product
        work = scratch = weight_hh.new_empty(0, hidden)
        sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
        tanh_backward = torch.ops.aten.tanh_backward.grad_input

        # Per level: cells, squashed and states; and the gates of every chunk.
        kept: list[tuple[list[Tensor], list[Tensor]]] = []
        at = 0
        for source in ctx.rows:
            start, rows = at, 0
            at += 3
            while rows < source.numel():
                rows += saved[at].size(0)
                at += 1
            kept.append((saved[start : start + 3], saved[start + 3 : at]))

        dn = e = weight_hh.new_zeros(0, hidden)  # of the level walked, as far as the level after it gave any
        for number in reversed(range(len(kept))):
            level, source = plan.levels[number], ctx.rows[number]
            (_, squashed, states), gates = kept[number]
            count, parent = source.numel(), level.parent
            if dn.size(0) < count:  # states that are not continued
                missing = dn.new_zeros(count - dn.size(0), hidden)
                dn, e = torch.cat([dn, missing]), torch.cat([e, missing])
            if level.rows is not None and level.nodes is not None:
                dn.index_add_(0, level.rows, torch.index_select(grad, 0, level.nodes), alpha=-1)
            previous = previous_cells = gathered = None
            if number:
                previous_cells, _, previous = kept[number - 1][0]
                if parent is not None:
                    previous_cells = torch.index_select(previous_cells, 0, parent)
                    if level.parents < _BRANCHING * count:
                        gathered = dn.new_zeros(level.parents, 4 * hidden)
                    else:
                        previous = torch.index_select(previous, 0, parent)
            sizes = [z.size(0) for z in gates]
            if work.size(0) < max(sizes):
                work, scratch = dn.new_empty(max(sizes), 4 * hidden), dn.new_empty(max(sizes), hidden)
            for z, read, h, c, u, n, before, cells_before, branch in zip(
                gates,
                _cut(source, sizes),
                _cut(dn, sizes),
                _cut(e, sizes),
                _cut(squashed, sizes),
                _cut(states, sizes),
                _cut(previous if gathered is None else None, sizes),
                _cut(previous_cells, sizes),
                _cut(parent, sizes),
                strict=True,
            ):
                size = z.size(0)
                dz, s = (work, scratch) if work.size(0) == size else (work[:size], scratch[:size])
                di, df, dg, do = dz.chunk(4, dim=1)
                i, f, g, o = z.chunk(4, dim=1)
                torch.mul(h, n, out=s)
                torch.addcmul(s, s, o, value=-1, out=do)
                torch.mul(h, o, out=s)
                c.add_(sigmoid_backward(s, u, grad_input=s), alpha=-4)
                torch.mul(c, i, out=dg)
                tanh_backward(dg, g, grad_input=dg)
                torch.mul(c, g, out=di)
                if cells_before is None:
                    sigmoid_backward(di, i, grad_input=di)
                    df.zero_()
                    grad_gates.index_add_(0, read, dz)
                    continue
                torch.mul(c, cells_before, out=df)
                first, activated = dz[:, : 2 * hidden], z[:, : 2 * hidden]
                sigmoid_backward(first, activated, grad_input=first)
                grad_gates.index_add_(0, read, dz)
                c.mul_(f)
                if before is not None:
                    torch.mm(dz, weight, out=h)  # now of the state before
                    grad_weight.addmm_(before.t(), dz, alpha=-1)
                elif gathered is not None:
                    gathered.index_add_(0, branch, dz)
            if parent is not None:
                e = e.new_zeros(level.parents, hidden).index_add_(0, parent, e)
                if gathered is None or previous is None:
                    dn = dn.new_zeros(level.parents, hidden).index_add_(0, parent, dn)
                else:
                    dn = torch.mm(gathered, weight)
                    grad_weight.addmm_(previous[: level.parents].t(), gathered, alpha=-1)
        grad_gates[:, halves].mul_(0.5)
        grad_weight[:, halves].mul_(0.5)
        return grad_gates, grad_weight.t(), None, None
