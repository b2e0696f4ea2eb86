"""The latent graph of a dialogue: every node hears every other, as much as attention says (NodeFormer in RIGSL)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphophone.nn.cross_attention import length_blocks
from graphophone.nn.dialogue import DialogueGraph
from graphophone.nn.latent_weights import LatentGraphError, check_temperature, gumbel_noise, latent_weights
from graphophone.nn.random_features import log_kernel, orthogonal_projection
from graphophone.nn.sparse import drop

Kernel = Literal["exact", "favor"]

# Numbers of a table of all pairs (of one head) that are made at once: few enough for the caches of a CPU.
_PAIRS = {"cpu": 1 << 15}
_PAIRS_ELSEWHERE = 1 << 24


@dataclass(frozen=True, eq=False)
class NodeBlock:
    """Some dialogues of like numbers of nodes, side by side.

    Attributes:
        size: How many rows they have.
        dialogue: Their numbers ``[b]``.
        nodes: Nodes of the largest, n.
        slots: Place of each row in ``[b * n]``; None where there is no padding.
        turn: Turn of each place, -1 at padding ``[b, n]``.
        modality: Modality of each place, -1 at padding ``[b, n]``.
        window: Which turn may hear which ``[T, T]``, or None for all.
        dtype: Of numbers of edges.
    """

    size: int
    dialogue: Tensor
    nodes: int
    slots: Tensor | None
    turn: Tensor
    modality: Tensor
    window: Tensor | None
    dtype: torch.dtype

    @cached_property
    def heard(self) -> Tensor | None:
        """Which node hears which, or itself: bool ``[b, 1, n, n]`` or ``[b, 1, 1, n]``; None: all hear all."""
        if self.window is None:
            return None if self.slots is None else (self.turn >= 0)[:, None, None, :]
        allowed = self.window[self.turn[:, :, None], self.turn[:, None, :]]
        return (allowed & (self.turn >= 0)[:, None, :])[:, None]

    @cached_property
    def edges(self) -> Tensor:
        """The initial graph, each edge by its share of those into its target, float ``[b, 1, n, n]``."""
        modality, turn = self.modality, self.turn
        joined = (modality[:, :, None] == modality[:, None, :]) ^ (turn[:, :, None] == turn[:, None, :])
        if self.heard is not None:
            joined = joined & self.heard[:, 0]
        shares = joined.to(self.dtype)
        return (shares / shares.sum(-1, keepdim=True).clamp_min(1))[:, None]

    @cached_property
    def num_edges(self) -> Tensor:
        """Edges of each dialogue ``[b]``."""
        return (self.edges > 0).sum((1, 2, 3))

    def spread(self, rows: Tensor, fill: float = 0.0) -> Tensor:
        """Rows of these dialogues ``[rows, ...]`` side by side ``[b, n, ...]``."""
        if self.slots is not None:
            places = rows.new_full((len(self.dialogue) * self.nodes, *rows.shape[1:]), fill)
            rows = places.index_copy(0, self.slots, rows)
        return rows.unflatten(0, (len(self.dialogue), self.nodes))

    def gathered(self, x: Tensor) -> Tensor:
        """Back from ``[b, n, ...]`` to the rows of these dialogues."""
        x = x.flatten(0, 1)
        return x if self.slots is None else x.index_select(0, self.slots)


class DialogueNodes:
    """Nodes of a batch as rows without padding, those of a dialogue one after the other; made once for all layers.

    Args:
        graph: The dialogues.
        dtype: Of what will be computed of them.

    Attributes:
        rows: Place of each row in ``[B * M * T]`` ``[n]``.
        shape: B, M and T.
        blocks: All rows, in pieces of whole dialogues.
    """

    def __init__(self, graph: DialogueGraph, dtype: torch.dtype = torch.float32) -> None:
        present = graph.present
        self.shape = tuple(present.shape)
        dialogues, _, turns = self.shape
        device = present.device
        counts = present.sum((1, 2))
        window = None if graph.past is None and graph.future is None else graph.window
        dialogue, modality, turn = present.nonzero(as_tuple=True)
        # Dialogues by size: a block is then a slice of the rows.
        rank = torch.empty_like(counts)
        by_size = counts.argsort(stable=True)
        rank[by_size] = torch.arange(dialogues, device=device)
        order = rank[dialogue].argsort(stable=True)
        modality, turn = modality[order], turn[order]
        self.rows = (dialogue[order] * self.shape[1] + modality) * turns + turn
        place = torch.arange(len(order), device=device)
        self.blocks: list[NodeBlock] = []
        sizes = counts.cpu()
        start = 0
        for members in length_blocks(sizes.square(), _PAIRS.get(device.type, _PAIRS_ELSEWHERE)):
            lengths = sizes[members]
            end = start + int(lengths.sum())
            nodes = int(lengths.max())
            if end > start:
                b = len(members)
                offset = (lengths.cumsum(0) - lengths).to(device)
                inside = torch.arange(nodes, device=device) < lengths.to(device)[:, None]
                slots = None if end - start == b * nodes else inside.flatten().nonzero().squeeze(1)
                index = (start + offset[:, None] + place[:nodes]).clamp_max(end - 1)
                self.blocks.append(
                    NodeBlock(
                        end - start,
                        members.to(device),
                        nodes,
                        slots,
                        turn[index].where(inside, -1),
                        modality[index].where(inside, -1),
                        window,
                        dtype,
                    )
                )
            start = end

    @property
    def largest(self) -> int:
        """Nodes of the largest dialogue."""
        return max((block.nodes for block in self.blocks), default=0)

    def split(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Rows ``[n, ...]`` to those of each block."""
        return rows.split([block.size for block in self.blocks])

    def table(self, rows: Tensor) -> Tensor:
        """Rows ``[n, d]`` as nodes ``[B, M, T, d]``, zeros at absent ones."""
        dialogues, modalities, turns = self.shape
        out = rows.new_zeros(dialogues * modalities * turns, rows.size(1)).index_copy(0, self.rows, rows)
        return out.view(dialogues, modalities, turns, -1)


class LatentGraphAttention(nn.Module):
    r"""Attention over all nodes of a dialogue: its weights are a graph (NodeFormer, Wu et al., 2022).

    .. math:: A_{ij} = \mathrm{softmax}_j\, \frac{q_i^T k_j}{\tau \sqrt{D}}, \qquad
        \mathrm{softmax}_j\, \frac{q_i^T k_j / \sqrt{D} + G_{jk}}{\tau}

    the latter in training, averaged over the samples k: Gumbel noise makes each softmax nearly a choice of one
    neighbour. Weights are computed in single precision under autocast. In evaluation nothing is random.

    Kept for the gradient, with dialogues of N_b nodes, N in all: two tables of H N_b^2 numbers for each (one without
    noise, four with random features), 2 H K N for the noise, and about 8 N d for the rest (8 N H d with full width).
    Eight dialogues of 20 to 110 turns in three modalities take 48 MiB a layer (H = 6, K = 64, d = 512), 34 MiB without
    noise; as published (random features, full width) 160 MiB.

    Args:
        channels: d.
        heads: H. Without ``full_width`` each is d / H wide (rounded up).
        full_width: Whether each head is d wide.
        kernel: ``"exact"``, or ``"favor"``: what random features make of the softmax; the same cost here, kept to
            reproduce what was published.
        features: m, number of random features.
        tau: Temperature.
        gumbel: Whether there is noise in training; its numbers come from torch's generator, as dropout's do.
        gumbel_k: K, samples.
        redraw_every: Draw new random features after so many forward passes in training; 0: never, see `redraw`.

    Raises:
        LatentGraphError: For an unknown kernel, a temperature that is not positive, or negative steps.
    """

    projection: Tensor
    passes: Tensor

    def __init__(
        self,
        channels: int,
        *,
        heads: int = 8,
        full_width: bool = False,
        kernel: Kernel = "exact",
        features: int = 64,
        tau: float = 0.25,
        gumbel: bool = True,
        gumbel_k: int = 4,
        redraw_every: int = 0,
    ) -> None:
        super().__init__()
        if kernel not in get_args(Kernel):
            raise LatentGraphError(f"unknown kernel {kernel!r}; choose from {', '.join(get_args(Kernel))}")
        if tau <= 0:
            raise LatentGraphError(f"tau={tau} is no temperature; give a positive number")
        if redraw_every < 0:
            raise LatentGraphError(f"redraw_every={redraw_every} is no number of steps; give 0 or more")
        self.heads = heads
        self.width = channels if full_width else -(-channels // heads)
        self.kernel: Kernel = kernel
        self.tau = tau
        self.gumbel = gumbel
        self.gumbel_k = gumbel_k
        self.redraw_every = redraw_every
        self.features = features
        inner = heads * self.width
        self.query = nn.Linear(channels, inner)
        self.key = nn.Linear(channels, inner)
        self.value = nn.Linear(channels, inner)
        self.out = nn.Linear(inner, channels)
        if kernel == "favor":
            self.register_buffer("projection", orthogonal_projection(features, self.width))
            self.register_buffer("passes", torch.zeros((), dtype=torch.int64))

    def redraw(self, generator: torch.Generator | None = None) -> None:
        """Draw new random features, from torch's generator or one on the CPU."""
        self.projection.copy_(orthogonal_projection(self.features, self.width, generator=generator))

    def forward(
        self, x: Tensor, nodes: DialogueNodes, *, link: bool = True, attention: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Hear the other nodes.

        Args:
            x: Rows ``[n, d]``.
            nodes: What they are.
            link: Whether the second result is asked for; otherwise zeros.
            attention: Where weights, averaged over the heads, are added ``[B, M * T, M * T]``.

        Returns:
            Rows ``[n, d]``; the mean over edges of the initial graph and heads of the logarithm of the noise-free
            weight, each edge divided by the edges into its target, for every dialogue ``[B]``: never positive.
        """
        noisy = self.gumbel and self.training
        if self.kernel == "favor" and self.training and self.redraw_every:
            if self.passes and self.passes % self.redraw_every == 0:
                self.redraw()
            self.passes += 1
        q, k, v = self.query(x), self.key(x), self.value(x)
        with torch.autocast(x.device.type, enabled=False):
            q, k, v = (part if part.dtype == torch.float64 else part.float() for part in (q, k, v))
            noises: Iterable[Tensor | None] = [None] * len(nodes.blocks)
            if noisy:
                check_temperature(self.tau, nodes.largest, q.dtype)
                noises = nodes.split(gumbel_noise(len(x), self.heads, self.gumbel_k, q).div_(self.tau))
            parts, links = [], q.new_zeros(nodes.shape[0])
            pieces = zip(nodes.blocks, nodes.split(q), nodes.split(k), nodes.split(v), noises, strict=True)
            for block, q, k, v, noise in pieces:
                given, likely = self._block(block, q, k, v, noise, link, attention, nodes)
                parts.append(given)
                if likely is not None:
                    links = links.index_copy(0, block.dialogue, likely)
            heard = torch.cat(parts) if parts else v  # without any node they are all as empty
        return self.out(heard), links

    def _block(
        self,
        block: NodeBlock,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        noise: Tensor | None,
        link: bool,
        attention: Tensor | None,
        nodes: DialogueNodes,
    ) -> tuple[Tensor, Tensor | None]:
        """What the rows of a block hear ``[rows, H * D]``, and `forward`'s second result of its dialogues."""
        heads = (self.heads, self.width)
        q, k, v = (block.spread(part).unflatten(2, heads).transpose(1, 2) for part in (q, k, v))
        if self.kernel == "favor":
            scale = self.width**-0.25 * self.tau**-0.5
            real = None if block.slots is None else (block.turn >= 0)[:, None]
            projection = self.projection.to(q.dtype)
            scores = log_kernel(q * scale, k * scale, projection, real, separate=block.window is not None)
        else:
            scores = (q * (self.width**-0.5 / self.tau)) @ k.transpose(2, 3)
        lowest = torch.finfo(scores.dtype).min
        if block.heard is not None:
            scores = scores.masked_fill(~block.heard, lowest)
        if noise is not None:
            noise = block.spread(noise, lowest).transpose(1, 2)
        weights, likely = latent_weights(scores, noise, block.edges if link else None)
        if attention is not None:
            self._note(block, weights.detach().mean(dim=1), attention, nodes)
        heard = block.gathered((weights @ v).transpose(1, 2).flatten(2))
        if not link:
            return heard, None
        if block.slots is not None:
            likely = likely.masked_fill((block.turn < 0)[:, None], 0)
        return heard, likely.sum((1, 2)) / (block.num_edges * self.heads).clamp_min(1)

    @staticmethod
    def _note(block: NodeBlock, weights: Tensor, attention: Tensor, nodes: DialogueNodes) -> None:
        """Add the weights of a block ``[b, n, n]`` to those of all ``[B, M * T, M * T]``."""
        real = block.turn >= 0
        place = (block.modality * nodes.shape[2] + block.turn).where(real, 0)
        weights = weights * (real[:, :, None] & real[:, None, :])
        index = (block.dialogue[:, None, None], place[:, :, None], place[:, None, :])
        attention.index_put_(tuple(part.expand_as(weights) for part in index), weights, accumulate=True)


class LatentOutput(NamedTuple):
    """What a latent graph gives.

    Attributes:
        x: Nodes ``[B, M, T, d]``, zeros at absent ones.
        link: Link loss of every dialogue ``[B]``, the mean over the layers: how likely the edges of the initial graph
            are in the latent one, as a logarithm, so that *more* is better; 0 for dialogues without edge.
        attention: Weights of all pairs, averaged over layers and heads ``[B, M, T, M, T]``, target before source;
            None unless asked for.
    """

    x: Tensor
    link: Tensor
    attention: Tensor | None


class LatentGraphStack(nn.Module):
    """Layers of latent graphs over the nodes of each dialogue (the implicit branch of RIGSL, Xiong et al., 2025).

    Only nodes that are there are computed, so that neither padding nor other dialogues matter. With ``past`` or
    ``future`` of the graph, a node hears all modalities of the turns in that window alone.

    Args:
        channels: d.
        num_layers: Layers.
        residual: Whether the stage before is added to what a layer gives.
        jk: Whether the result is made of all stages, side by side through a linear layer; otherwise it is the last.
        dropout: After every norm.
        heads: As the options below, see `LatentGraphAttention`.
        full_width: Whether each head is d wide.
        kernel: ``"exact"`` or ``"favor"``.
        features: Random features.
        tau: Temperature.
        gumbel: Whether there is noise in training.
        gumbel_k: Its samples.
        redraw_every: Forward passes in training after which random features are drawn anew; 0: never.

    Attributes:
        out_channels: d.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_layers: int = 2,
        residual: bool = True,
        jk: bool = False,
        dropout: float = 0.0,
        heads: int = 8,
        full_width: bool = False,
        kernel: Kernel = "exact",
        features: int = 64,
        tau: float = 0.25,
        gumbel: bool = True,
        gumbel_k: int = 4,
        redraw_every: int = 0,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.dropout = dropout
        self.out_channels = channels
        self.linear = nn.Linear(channels, channels)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(num_layers + 1))
        self.layers = nn.ModuleList(
            LatentGraphAttention(
                channels,
                heads=heads,
                full_width=full_width,
                kernel=kernel,
                features=features,
                tau=tau,
                gumbel=gumbel,
                gumbel_k=gumbel_k,
                redraw_every=redraw_every,
            )
            for _ in range(num_layers)
        )
        self.jump = nn.Linear((num_layers + 1) * channels, channels) if jk else None

    def forward(self, x: Tensor, graph: DialogueGraph, *, link: bool = True, attention: bool = False) -> LatentOutput:
        """Nodes that heard of each other.

        Args:
            x: Nodes ``[B, M, T, d]``; what stands at absent ones is never read.
            graph: Which there are, and who may hear whom.
            link: Whether the link loss is asked for.
            attention: Whether the weights are.
        """
        dtype = torch.promote_types(x.dtype, torch.float32)
        nodes = DialogueNodes(graph, dtype)
        dialogues, modalities, turns = nodes.shape
        noted = x.new_zeros(dialogues, modalities * turns, modalities * turns, dtype=dtype) if attention else None
        z = self.norms[0](self.linear(x.flatten(0, 2).index_select(0, nodes.rows)))
        z = drop(F.elu(z), self.dropout, self.training)
        stages, links = [z], []
        for layer, norm in zip(self.layers, self.norms[1:], strict=True):
            heard, likely = layer(z, nodes, link=link, attention=noted)
            z = drop(norm(heard + z if self.residual else heard), self.dropout, self.training)
            stages.append(z)
            links.append(likely)
        if self.jump is not None:
            z = self.jump(torch.cat(stages, dim=1))
        if noted is not None:
            noted = noted.view(dialogues, modalities, turns, modalities, turns) / max(len(self.layers), 1)
        mean = torch.stack(links).mean(dim=0) if links else x.new_zeros(dialogues)
        return LatentOutput(nodes.table(z), mean, noted)
