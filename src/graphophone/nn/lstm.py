"""An LSTM that reads the neighbours of every node of a graph, each node its own sequence.

The aggregator of a graph-LSTM layer runs one LSTM over a sequence per node, and the sequences have the
lengths of the in-degrees. Padding them to the longest (as ``torch_geometric.nn.aggr.LSTMAggregation`` does)
costs nodes x longest, and hands a node of lower degree the state after its padding. Here each sequence ends
where its neighbours end, and

* the input projection is computed once per node and gathered, not once per edge;
* nodes are ranked by in-degree, so that the nodes still reading at step ``t`` are a prefix of the ranks: a
  hub costs its own tail and nothing else, and a graph of one degree runs dense;
* ranks are taken in blocks small enough for gates and states to stay in the processor's cache;
* every tanh is taken as ``2 sigmoid(2x) - 1``, so that a step needs one sigmoid over all gates (the factor
  for the cell gate is folded into the weights), which vectorises better than tanh on CPUs;
* the backward pass is written out: one walk back per block, one product for the recurrent weight, one scatter
  of the gate gradients to the nodes.

Symbols: N nodes, E edges, D hidden channels, R nodes with at least one in-edge.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from graphophone.errors import GraphophoneError

NeighbourOrder = Literal["time", "similarity", "random"]

# Rows of one block on a CPU: the gates of a step (rows x 4 x 128 float32) and its states share a 1 MiB cache.
_BLOCK_ROWS = 256


class NeighbourPlanError(GraphophoneError):
    """An ``edge_index`` (or what comes with it) from which no reading order can be made."""


@dataclass(frozen=True, eq=False)
class NeighbourPlan:
    """In which order an LSTM reads the in-edges of all nodes: made once per batch, shared by all layers.

    Nodes with in-edges are ranked by descending in-degree (ties keep node order) and taken in blocks of
    consecutive ranks. Edges are *packed* by block, then step, then rank: the edges read at one step of one
    block are contiguous.

    Attributes:
        num_nodes: N.
        nodes: Node of every rank, ``[R]``; None where rank and node coincide (one degree throughout).
        source: Node read at every packed position, ``[E]``.
        edge: Column of the caller's ``edge_index`` at every packed position, ``[E]``.
        blocks: For every block, how many of its nodes are still reading at each step (non-increasing).
    """

    num_nodes: int
    nodes: Tensor | None
    source: Tensor
    edge: Tensor
    blocks: tuple[tuple[int, ...], ...]

    @classmethod
    def from_edge_index(
        cls,
        edge_index: Tensor,
        num_nodes: int,
        *,
        order: NeighbourOrder = "time",
        x: Tensor | None = None,
        seeded: bool = True,
        block_rows: int | None = None,
    ) -> NeighbourPlan:
        """Plan the reading of a graph, or of a batch of graphs.

        Args:
            edge_index: Sources and targets ``[2, E]``, int64, in any order (sorted by target and source is
                noticed and saves the sorting).
            num_nodes: N.
            order: ``"time"`` reads sources in ascending order; ``"similarity"`` by ascending cosine
                similarity of ``x`` to the target, so that the most similar neighbour is read last;
                ``"random"`` in no order.
            x: Node features ``[N, dims]``, for ``order="similarity"``.
            seeded: Whether a random order is a fixed function of the distance in time between source and
                target (so that it is the same in every batch); otherwise it is drawn anew from torch's
                generator.
            block_rows: Nodes in a block; default: fitted to a CPU's cache, and all nodes on other devices.

        Raises:
            NeighbourPlanError: If ``edge_index`` is not ``[2, E]`` int64, points outside of the nodes, or
                ``x`` is missing.
        """
        if edge_index.dim() != 2 or edge_index.size(0) != 2 or edge_index.dtype != torch.int64:
            raise NeighbourPlanError(
                f"edge_index is {edge_index.dtype} {list(edge_index.shape)}; give int64 [2, edges]"
            )
        num_edges = edge_index.size(1)
        device = edge_index.device
        if num_edges == 0:
            empty = edge_index.new_empty(0)
            return cls(num_nodes, empty, empty, empty, ())
        lowest, highest = (int(v) for v in edge_index.aminmax())
        if lowest < 0 or highest >= num_nodes:
            raise NeighbourPlanError(
                f"edge_index points at node {lowest if lowest < 0 else highest} of {num_nodes}; "
                "build the edges from the same nodes"
            )
        edge = _reading_order(edge_index, num_nodes, order, x, seeded)
        target = edge_index[1] if edge is None else edge_index[1].index_select(0, edge)

        degree = torch.bincount(target, minlength=num_nodes)
        ranked, nodes = degree.sort(descending=True, stable=True)
        reading = int((degree > 0).sum())
        ranked = ranked[:reading]
        position = torch.arange(max(num_nodes, num_edges), device=device)
        rank = torch.empty_like(nodes).scatter_(0, nodes, position[:num_nodes])

        step = position[:num_edges] - (degree.cumsum(0) - degree).index_select(0, target)
        rank = rank.index_select(0, target)
        rows = block_rows or (_BLOCK_ROWS if device.type == "cpu" else num_nodes)
        steps_of_block = ranked[::rows]  # the first node of a block reads longest
        first_slot = steps_of_block.cumsum(0) - steps_of_block
        block = rank.div(rows, rounding_mode="floor")
        slot = first_slot.index_select(0, block) + step  # one slot per step of a block
        active = torch.bincount(slot)
        packed = (active.cumsum(0) - active).index_select(0, slot) + (rank - block * rows)

        unpacked = position[:num_edges] if edge is None else edge
        edge = torch.empty_like(packed).scatter_(0, packed, unpacked)
        active_list = iter(active.tolist())
        blocks = tuple(tuple(itertools.islice(active_list, steps)) for steps in steps_of_block.tolist())
        regular = reading == num_nodes and int(ranked[0]) == int(ranked[-1])
        return cls(
            num_nodes=num_nodes,
            nodes=None if regular else nodes[:reading],
            source=edge_index[0].index_select(0, edge),
            edge=edge,
            blocks=blocks,
        )

    @property
    def num_edges(self) -> int:
        """E."""
        return self.source.numel()


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
        raise NeighbourPlanError(f"order={order!r} is unknown; choose from {', '.join(get_args(NeighbourOrder))}")
    return rank.index_select(0, target.index_select(0, rank).argsort(stable=True))


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
    """
    hidden = weight_hh.size(1)
    # The cell gate's rows are doubled here, once, for tanh(z) = 2 sigmoid(2 z) - 1 inside.
    double = weight_hh.new_ones(4, 1)
    double[2] = 2
    weight_ih = (weight_ih.view(4, -1) * double).view_as(weight_ih)
    weight_hh = (weight_hh.view(4, -1) * double).view_as(weight_hh)
    if bias is not None:
        bias = (bias.view(4, -1) * double).view_as(bias)
    if plan.num_edges == 0:
        return x.new_zeros(plan.num_nodes, hidden)
    if edge_weight is None:
        gates, rows = nn.functional.linear(x, weight_ih, bias), plan.source
    else:
        # Every edge gets gates of its own; what follows is the same.
        gates = nn.functional.linear(x, weight_ih).index_select(0, plan.source)
        gates = gates * edge_weight.index_select(0, plan.edge).unsqueeze(-1)
        gates = gates if bias is None else gates + bias
        rows = torch.arange(plan.num_edges, device=x.device)
    gates = gates.to(weight_hh.dtype)  # differs under autocast
    if torch.is_grad_enabled() and (gates.requires_grad or weight_hh.requires_grad):
        state = _GraphLSTM.apply(gates, weight_hh, rows, plan)
    else:
        state = _read(gates, weight_hh, rows, plan)
    if plan.nodes is None:
        return state
    return state.new_zeros(plan.num_nodes, hidden).index_copy(0, plan.nodes, state)


def _read(gates: Tensor, weight_hh: Tensor, rows: Tensor, plan: NeighbourPlan) -> Tensor:
    """Last states by rank ``[R, D]``, keeping nothing else."""
    hidden = weight_hh.size(1)
    weight = weight_hh.t().contiguous()
    widest = max(block[0] for block in plan.blocks)
    state = gates.new_empty(sum(block[0] for block in plan.blocks), hidden)
    work = gates.new_empty(widest, 4 * hidden)
    cell = gates.new_empty(widest, hidden)
    squashed = gates.new_empty(widest, hidden)
    minus_one = gates.new_tensor(-1.0)
    rank = 0
    for block, source in zip(plan.blocks, _split_edges(rows, plan.blocks), strict=True):
        active = 0
        for step, (count, index) in enumerate(zip(block, source.split(block), strict=True)):
            if count != active:
                active = count
                z = work[:count]
                i, f, g, o = z.chunk(4, dim=1)
                h, c, u = state[rank : rank + count], cell[:count], squashed[:count]
            torch.index_select(gates, 0, index, out=z)
            if step:
                z.addmm_(h, weight)
            z.sigmoid_()
            torch.add(minus_one, g, alpha=2, out=g)
            if step:
                c.mul_(f).addcmul_(i, g)
            else:
                torch.mul(i, g, out=c)
            torch.mul(c, 2, out=u).sigmoid_()
            torch.add(minus_one, u, alpha=2, out=u)
            torch.mul(o, u, out=h)
        rank += block[0]
    return state


def _split_edges(rows: Tensor, blocks: Sequence[tuple[int, ...]]) -> Sequence[Tensor]:
    return rows.split([sum(block) for block in blocks])


class _GraphLSTM(torch.autograd.Function):
    """`_read` with a backward pass: gate activations and states are kept per block, packed by step."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, weight_hh: Tensor, rows: Tensor, plan: NeighbourPlan) -> Tensor:
        hidden = weight_hh.size(1)
        weight = weight_hh.t().contiguous()
        state = gates.new_empty(sum(block[0] for block in plan.blocks), hidden)
        minus_one = gates.new_tensor(-1.0)
        saved: list[Tensor] = []
        rank = 0
        for block, source in zip(plan.blocks, _split_edges(rows, plan.blocks), strict=True):
            edges = source.numel()
            # One allocation per block and kind: of a few MiB, which the allocator recycles from step to step.
            Z = gates.new_empty(edges, 4 * hidden)
            cells, squashed = gates.new_empty(2, edges, hidden)
            inputs = gates.new_empty(edges - block[0], hidden)  # h read at steps 1, 2, ...
            saved += (Z, cells, squashed, inputs)
            final = state[rank : rank + block[0]]
            h = c = final
            steps = zip(
                block,
                (*block[1:], 0),
                source.split(block),
                Z.split(block),
                *(part.split(block) for part in Z.chunk(4, dim=1)),
                cells.split(block),
                squashed.split(block),
                (*inputs.split(block[1:]), final),
                strict=True,
            )
            for step, (count, after, index, z, i, f, g, o, cell, u, following) in enumerate(steps):
                torch.index_select(gates, 0, index, out=z)
                if step:
                    z.addmm_(h, weight)
                z.sigmoid_()
                torch.add(minus_one, g, alpha=2, out=g)
                if step:
                    torch.mul(c if c.size(0) == count else c[:count], f, out=cell).addcmul_(i, g)
                else:
                    torch.mul(i, g, out=cell)
                torch.mul(cell, 2, out=u).sigmoid_()
                torch.add(minus_one, u, alpha=2, out=u)
                if after == count:
                    torch.mul(o, u, out=following)
                else:  # the last ranks have read all
                    torch.mul(o[after:], u[after:], out=final[after:count])
                    if after:
                        torch.mul(o[:after], u[:after], out=following)
                h, c = following, cell
            rank += block[0]
        ctx.plan = plan
        ctx.num_rows = gates.size(0)
        ctx.save_for_backward(weight_hh, rows, *saved)
        return state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_state: Tensor) -> tuple[Tensor, Tensor, None, None]:
        weight_hh, rows, *saved = ctx.saved_tensors
        plan: NeighbourPlan = ctx.plan
        hidden = weight_hh.size(1)
        # The walk takes gradients with respect to the cell gate's plain input z, not the doubled one of
        # `graph_lstm`: its weight is therefore halved here, and its gradients after the walk.
        cell_gate = slice(2 * hidden, 3 * hidden)
        weight = weight_hh.clone()
        weight[cell_gate].mul_(0.5)
        grad_gates = weight_hh.new_zeros(ctx.num_rows, 4 * hidden)
        grad_weight = torch.zeros_like(weight_hh)
        grad_state = grad_state.clone(memory_format=torch.contiguous_format)  # walked over in place
        work = weight_hh.new_empty(max(sum(block) for block in plan.blocks), 4 * hidden)
        widest = max(block[0] for block in plan.blocks)
        grad_cell = weight_hh.new_empty(widest, hidden)
        scratch = weight_hh.new_empty(widest, hidden)
        sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
        tanh_backward = torch.ops.aten.tanh_backward.grad_input
        rank = 0
        blocks = zip(plan.blocks, _split_edges(rows, plan.blocks), *(saved[k::4] for k in range(4)), strict=True)
        for block, source, Z, cells, squashed, inputs in blocks:
            edges, width = source.numel(), block[0]
            dZ = work[:edges]
            dH, dC = grad_state[rank : rank + width], grad_cell[:width].zero_()
            cell_list = cells.split(block)
            steps = zip(
                block,
                dZ.split(block),
                *(part.split(block) for part in dZ.chunk(4, dim=1)),
                *(part.split(block) for part in Z.chunk(4, dim=1)),
                dZ[:, : 2 * hidden].split(block),
                Z[:, : 2 * hidden].split(block),
                squashed.split(block),
                (None, *cell_list[:-1]),
                strict=True,
            )
            active = 0
            for count, dz, di, df, dg, do, i, f, g, o, dif, if_, u, before in reversed(list(steps)):
                if count != active:
                    active = count
                    dh, dc, s = dH[:count], dC[:count], scratch[:count]
                torch.mul(dh, u, out=do)
                sigmoid_backward(do, o, grad_input=do)
                torch.mul(dh, o, out=s)
                dc.add_(tanh_backward(s, u, grad_input=s))
                torch.mul(dc, i, out=dg)
                tanh_backward(dg, g, grad_input=dg)
                torch.mul(dc, g, out=di)
                if before is None:
                    sigmoid_backward(di, i, grad_input=di)
                    df.zero_()
                    break
                torch.mul(dc, before if before.size(0) == count else before[:count], out=df)
                sigmoid_backward(dif, if_, grad_input=dif)
                dc.mul_(f)
                torch.mm(dz, weight, out=dh)
            grad_gates.index_add_(0, source, dZ)
            grad_weight.addmm_(dZ[width:].t(), inputs)
            rank += width
        grad_gates[:, cell_gate].mul_(0.5)
        grad_weight[cell_gate].mul_(0.5)
        return grad_gates, grad_weight, None, None
