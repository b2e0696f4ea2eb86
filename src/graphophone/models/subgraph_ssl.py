r"""SubgraphSSL: recordings as nodes, learned from few labels with the help of tasks that need none.

Paper:

    @article{shirian2022self,
      title   = {Self-supervised graphs for audio representation learning with limited labeled data},
      author  = {Shirian, Amir and Somandepalli, Krishna and Guha, Tanaya},
      journal = {IEEE Journal of Selected Topics in Signal Processing},
      volume  = {16},
      number  = {6},
      year    = {2022}
    }

A shared network f (two graph convolutions, 256 wide) and a convolution of the same kind for each head: classes,
reconstruction (for denoise and completion) and shuffle. The classes are read from the clean graph, the tasks from
spoilt copies of it (`graphophone.nn.self_supervision`):

.. math:: L = L_{ce} + \lambda_1 L_{en} + \lambda_2 \sum_t L_t

What differs from the paper, which has no released training code: negative edges are normalised by absolute degrees;
losses are means over nodes; each head is one layer, so that with 4 classes and 165 features the shared part has 108,288
parameters, the heads 1,028, 42,405 and 257 (the paper counts 212K to 272K, which its text does not explain).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from graphophone.models.base import ModelError, PretrainedModel
from graphophone.nn.dense import DenseMatrix
from graphophone.nn.graphmix import GraphMix, Mix
from graphophone.nn.self_supervision import TASKS, SelfSupervision, entropy
from graphophone.nn.signed import Negative, SignedGATConv, SignedGCNConv, SignedGINConv, signed_norm
from graphophone.nn.sparse import Edges, Matrix, SparseMatrix, drop, linear

Backbone = Literal["gcn", "gat", "gin", "graphmix", "mlp"]
Reduction = Literal["mean", "sum"]


class SubgraphSSL(PretrainedModel):
    """SubgraphSSL.

    Symbols: N nodes, E edges, C classes.

    Args:
        in_channels: Width of the node features (165 for speech, 128 for events in the paper).
        num_classes: C.
        backbone: ``"gcn"`` (published), ``"gat"``, ``"gin"``, ``"graphmix"`` (a GCN, with the losses of GraphMix) or
            ``"mlp"``, a control that does not look at the edges.
        hidden_channels: Width of the shared layers; with ``"gat"`` that of all heads together.
        num_layers: Shared layers.
        dropout: Probability of dropping a channel at the input of each shared layer.
        head_dropout: The same at the input of the heads.
        tasks: Self-supervised tasks, or a weight for each; see `graphophone.nn.self_supervision.SelfSupervision`, as
            for the next five. Also as a text: ``"none"``, ``"all"``, ``"denoise+shuffle"``.
        noise: Variance of the noise of denoise.
        fraction: Share of nodes that completion and shuffle spoil.
        shuffle_over: Nodes that the loss of shuffle averages over.
        balanced: Whether both answers of shuffle weigh the same.
        per_dim: Whether reconstruction losses are divided by the number of dims.
        entropy_weight: lambda 1.
        ssl_weight: lambda 2.
        reduction: Cross-entropy and entropy are the ``"mean"`` over their nodes, or the ``"sum"``, as printed.
        negative: What becomes of negative edges: ``"subtract"``, ``"drop"``, or ``"separate"`` weights (GCN only).
        heads: Attention heads of a shared layer.
        output_heads: Attention heads of a head, averaged.
        attention_dropout: Probability of dropping an attention coefficient.
        batch_norm: Whether the perceptrons of GIN have batch normalisation.
        mixing: Options of `graphophone.nn.graphmix.GraphMix`, for that backbone.

    Shapes:
        x ``[N, in_channels]``, edge_index ``[2, E]``, edge_weight ``[E]`` -> logits ``[N, C]``. For one graph
        that is read many times, ``x`` may be a `graphophone.nn.sparse.SparseMatrix`, and the edges what `plan` returns.
        Sparse tensors (COO) are made into these at every call.
    """

    model_name = "subgraph_ssl"
    reads: ClassVar[Literal["graph", "spectrogram", "nodes"]] = "nodes"

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        backbone: Backbone = "gcn",
        hidden_channels: int = 256,
        num_layers: int = 2,
        dropout: float = 0.5,
        head_dropout: float = 0.0,
        tasks: str | Sequence[str] | Mapping[str, float] = (),
        noise: float = 0.1,
        fraction: float = 0.1,
        shuffle_over: Literal["all", "masked"] = "all",
        balanced: bool = False,
        per_dim: bool = False,
        entropy_weight: float = 0.01,
        ssl_weight: float = 0.1,
        reduction: Reduction = "mean",
        negative: Negative = "subtract",
        heads: int = 8,
        output_heads: int = 1,
        attention_dropout: float = 0.0,
        batch_norm: bool = True,
        mixing: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if backbone not in get_args(Backbone):
            raise ModelError(f"subgraph_ssl has no backbone {backbone!r}; choose {', '.join(get_args(Backbone))}")
        if num_layers < 1 or hidden_channels < 1:
            raise ModelError(f"num_layers and hidden_channels must be at least 1: {num_layers}, {hidden_channels}")
        if backbone == "gat" and hidden_channels % heads:
            raise ModelError(f"hidden_channels {hidden_channels} is no multiple of {heads} heads; change one of them")
        if negative == "separate" and backbone not in ("gcn", "graphmix"):
            raise ModelError(f'negative="separate" needs the backbone gcn, not {backbone}; give "subtract" or "drop"')
        if mixing is not None and backbone != "graphmix":
            raise ModelError(f"mixing is for the backbone graphmix, not {backbone}; leave it out")
        if reduction not in get_args(Reduction):
            raise ModelError(f'reduction is {reduction!r}; give "mean" or "sum"')
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.backbone = backbone
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.dropout = dropout
        self.head_dropout = head_dropout
        self.entropy_weight = entropy_weight
        self.ssl_weight = ssl_weight
        self.reduction: Reduction = reduction
        self.negative: Negative = negative
        self.heads = heads
        self.output_heads = output_heads
        self.attention_dropout = attention_dropout
        self.batch_norm = batch_norm
        self.mixing = GraphMix(**(mixing or {})) if backbone == "graphmix" else None
        widths = [in_channels] + [hidden_channels] * num_layers
        tasks = task_names(tasks)
        self.layers = nn.ModuleList(self._layer(*pair) for pair in itertools.pairwise(widths))
        self.classifier = self._head(hidden_channels, num_classes)
        self.ssl = (
            SelfSupervision(
                in_channels,
                hidden_channels,
                tasks,
                head=self._head,
                noise=noise,
                fraction=fraction,
                shuffle_over=shuffle_over,
                balanced=balanced,
                per_dim=per_dim,
            )
            if tasks
            else None
        )

    def _layer(self, wide: int, out: int) -> nn.Module:
        """A shared layer."""
        if self.backbone == "gat":
            return SignedGATConv(wide, out // self.heads, heads=self.heads, dropout=self.attention_dropout)
        if self.backbone == "gin":
            return SignedGINConv(wide, out, norm=self.batch_norm)
        return self._head(wide, out)

    def _head(self, wide: int, out: int) -> nn.Module:
        """A layer whose result is not bounded."""
        if self.backbone == "gat":
            dropout = self.attention_dropout
            return SignedGATConv(wide, out, heads=self.output_heads, concat=False, dropout=dropout)
        if self.backbone == "gin":
            return SignedGINConv(wide, out, hidden_channels=wide, bounded=False, norm=self.batch_norm)
        if self.backbone == "mlp":
            return NodeLinear(wide, out)
        negative: Negative = "separate" if self.negative == "separate" else "subtract"
        return SignedGCNConv(wide, out, negative=negative, normalize=False)

    def prepare(self, edge_index: Edges, edge_weight: Tensor | None, num_nodes: int) -> tuple[Edges, Tensor | None]:
        """The edges as the layers read them: once for all layers, heads and copies of a graph. Those of `plan` stay."""
        if not isinstance(edge_index, Tensor):
            return edge_index, None
        if self.negative == "drop" and edge_weight is not None:
            kept = edge_weight > 0
            edge_index, edge_weight = edge_index[:, kept], edge_weight[kept]
        if self.backbone in ("gcn", "graphmix"):
            dtype = next(self.classifier.parameters()).dtype
            return signed_norm(edge_index, edge_weight, num_nodes, dtype=dtype)
        return edge_index, edge_weight

    def plan(self, edge_index: Tensor, edge_weight: Tensor | None, num_nodes: int) -> SparseMatrix:
        """The edges as a matrix, in place of them in every call: quicker for a graph that is read many times.

        Args:
            edge_index: Sources and targets ``[2, E]``.
            edge_weight: Weights ``[E]``, or None.
            num_nodes: N.
        """
        edges, edge_weight = self.prepare(edge_index, edge_weight, num_nodes)
        make = SignedGATConv.as_matrix if self.backbone == "gat" else SparseMatrix.from_edges
        dtype = next(self.classifier.parameters()).dtype
        return make(cast(Tensor, edges), edge_weight, num_nodes, dtype=dtype)

    @property
    def reads_matrices(self) -> bool:
        """Whether the layers take edges as a matrix that is written out; those of GAT must know every edge."""
        return self.backbone != "gat"

    def plan_small(self, edge_index: Tensor, edge_weight: Tensor | None, ptr: Tensor) -> list[DenseMatrix]:
        """The edges of many small graphs as a matrix each, in place of them: quicker for some dozens of nodes.

        For networks that have `reads_matrices`.

        Args:
            edge_index: Sources and targets ``[2, E]``.
            edge_weight: Weights ``[E]``, or None.
            ptr: Where each graph begins, and where the last one ends ``[graphs + 1]``.
        """
        edges, edge_weight = self.prepare(edge_index, edge_weight, int(ptr[-1]))
        return DenseMatrix.from_edges(cast(Tensor, edges), edge_weight, ptr)

    def _read(
        self, x: Matrix, edge_index: Edges, edge_weight: Tensor | None
    ) -> tuple[Matrix, tuple[Edges, Tensor | None]]:
        """Features and edges as the layers read them."""
        if isinstance(x, Tensor) and x.is_sparse:
            x = SparseMatrix.from_tensor(x)
            if isinstance(edge_index, Tensor):
                edge_index = self.plan(edge_index, edge_weight, x.shape[0])
        return x, self.prepare(edge_index, edge_weight, x.shape[0])

    def _activate(self, h: Tensor) -> Tensor:
        if self.backbone == "gin":  # the layer ends in its own
            return h
        return F.elu(h) if self.backbone == "gat" else h.relu()

    def encode(self, x: Matrix, edge_index: Edges, edge_weight: Tensor | None = None) -> Tensor:
        """States ``[N, hidden_channels]`` of the shared layers, over edges that `prepare` returned."""
        h: Any = x
        for layer in self.layers:
            h = self._activate(layer(drop(h, self.dropout, self.training), edge_index, edge_weight))
        return drop(h, self.head_dropout, self.training)

    def embed(self, x: Matrix, edge_index: Edges, edge_weight: Tensor | None = None) -> Tensor:
        """States ``[N, hidden_channels]`` before the heads; arguments as `forward`."""
        x, graph = self._read(x, edge_index, edge_weight)
        return self.encode(x, *graph)

    def forward(self, x: Matrix, edge_index: Edges, edge_weight: Tensor | None = None) -> Tensor:
        """Class scores (logits) of every node.

        Args:
            x: Node features ``[N, in_channels]``.
            edge_index: Sources and targets ``[2, E]``.
            edge_weight: Weights ``[E]``, +1 and -1; None: all 1.

        Returns:
            ``[N, C]``.
        """
        x, graph = self._read(x, edge_index, edge_weight)
        return self.classifier(self.encode(x, *graph), *graph)

    def pointwise(self, x: Matrix, mix: Mix | None = None) -> Tensor:
        """Class scores ``[N, C]`` of the same layers without propagation (GCN, GraphMix and MLP).

        Args:
            x: Node features ``[N, in_channels]``.
            mix: How hidden states are mixed, or None.
        """
        h: Any = SparseMatrix.from_tensor(x) if isinstance(x, Tensor) and x.is_sparse else x
        classifier = cast(Any, self.classifier)
        for number, layer in enumerate(cast(Any, self.layers)):
            if mix is not None and mix.layer == number:
                h = mix.share * h + (1 - mix.share) * h[mix.partner]
            h = layer.pointwise(drop(h, self.dropout, self.training)).relu()
        if mix is not None and mix.layer == self.num_layers:
            h = mix.share * h + (1 - mix.share) * h[mix.partner]
        return classifier.pointwise(drop(h, self.head_dropout, self.training))

    def losses(
        self,
        x: Matrix,
        edge_index: Edges,
        edge_weight: Tensor | None,
        y: Tensor,
        batch: Tensor | None = None,
        *,
        generator: Generator | None = None,
    ) -> dict[str, Tensor]:
        """All losses by name, not weighted.

        Args:
            x: Node features ``[N, in_channels]``.
            edge_index: Sources and targets ``[2, E]``.
            edge_weight: Weights ``[E]``, or None.
            y: Labels ``[N]``, -1 where there is none.
            batch: Graph of every node ``[N]``, ascending: tasks choose nodes in each graph; None: all are of one.
            generator: What draws the corruptions (dropout and GraphMix use torch's own generator).

        Returns:
            ``cross_entropy`` over labelled nodes and ``entropy`` over others; one for each self-supervised task; with
            the backbone GraphMix ``mix_labelled`` and ``mix_unlabelled``.
        """
        x, graph = self._read(x, edge_index, edge_weight)
        if self.ssl is not None and isinstance(x, Tensor) and isinstance(graph[0], DenseMatrix) and not self._counts:
            found = self._losses_at_once(x, graph[0], y, batch, generator)
        else:
            found = node_losses(self.classifier(self.encode(x, *graph), *graph), y, reduction=self.reduction)
            if self.ssl is not None:
                found.update(self.ssl(self.encode, x, *graph, batch=batch, generator=generator))
        if self.mixing is not None:
            edges = edge_index if isinstance(graph[0], Tensor) else graph[0]
            found.update(self.mixing.losses(self, x, edges, edge_weight, y))
        return found

    @property
    def _counts(self) -> bool:
        """Whether layers have statistics of all nodes that they see: copies of a graph must not share them."""
        return self.backbone == "gin" and self.batch_norm

    def _losses_at_once(
        self, x: Tensor, graph: DenseMatrix, y: Tensor, batch: Tensor | None, generator: Generator | None
    ) -> dict[str, Tensor]:
        """`losses` of a small graph: it and its spoilt copies go through the shared layers together."""
        ssl = cast(SelfSupervision, self.ssl)
        spoilt = {name: ssl.corrupt(name, x, batch, generator) for name in ssl.weights}
        copies = self.encode(torch.cat([x, *(copy.x for copy in spoilt.values())]), graph).split(len(x))
        found = node_losses(self.classifier(copies[0], graph), y, reduction=self.reduction)
        for states, (name, copy) in zip(copies[1:], spoilt.items(), strict=True):
            found[name] = ssl.loss(name, states, copy, x, graph)
        return found

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Names of what `losses` returns, ``mix_unlabelled`` only where there are unlabelled nodes."""
        tasks = () if self.ssl is None else tuple(self.ssl.weights)
        mixing = () if self.mixing is None else ("mix_labelled", "mix_unlabelled")
        return ("cross_entropy", "entropy", *tasks, *mixing)

    def total(self, losses: Mapping[str, Tensor], *, progress: float = 1.0) -> Tensor:
        """The loss to be minimised, from what `losses` returned.

        Args:
            losses: By name.
            progress: Share of the training that is done, for GraphMix.
        """
        total = losses["cross_entropy"]
        if self.entropy_weight:
            total = total + self.entropy_weight * losses["entropy"]
        if self.ssl is not None and self.ssl_weight:
            total = total + self.ssl_weight * self.ssl.total({name: losses[name] for name in self.ssl.weights})
        if self.mixing is not None:
            total = total + losses["mix_labelled"]
            if "mix_unlabelled" in losses:
                total = total + self.mixing.weight(progress) * losses["mix_unlabelled"]
        return total


def task_names(tasks: str | Sequence[str] | Mapping[str, float]) -> Sequence[str] | Mapping[str, float]:
    """Self-supervised tasks that are given as a text: ``"none"``, ``"all"``, or names joined by ``+``."""
    if not isinstance(tasks, str):
        return tasks
    if tasks in ("", "none"):
        return ()
    return TASKS if tasks == "all" else tuple(name.strip() for name in tasks.split("+"))


class NodeLinear(nn.Module):
    """A linear layer that takes a graph and does not look at its edges: the control of what they are worth.

    Args:
        in_channels: Width of the node states.
        out_channels: Width of the result.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def pointwise(self, x: Matrix) -> Tensor:
        """``[N, in_channels]`` -> ``[N, out_channels]``."""
        return linear(x, self.linear.weight, self.linear.bias)

    def forward(self, x: Matrix, edge_index: Edges | None = None, edge_weight: Tensor | None = None) -> Tensor:
        """As `pointwise`."""
        return self.pointwise(x)

    def factors(
        self, x: Tensor, edge_index: Edges | None = None, edge_weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """See `graphophone.nn.signed.SignedGCNConv.factors`."""
        return x, self.linear.weight, self.linear.bias


def node_losses(logits: Tensor, y: Tensor, *, reduction: Reduction = "mean") -> dict[str, Tensor]:
    """Cross-entropy of labelled nodes (equation 1) and entropy of the others (equation 2).

    Args:
        logits: ``[N, C]``.
        y: Labels ``[N]``, -1 where there is none.
        reduction: Over nodes: ``"mean"``, or ``"sum"`` as printed.

    Returns:
        ``cross_entropy`` and ``entropy``; 0 where there are no such nodes.
    """
    known, free = y >= 0, y < 0
    terms = {
        "cross_entropy": (F.cross_entropy(logits, y, ignore_index=-1, reduction="sum"), known),
        "entropy": (entropy(logits[free]).sum(), free),
    }
    return {
        name: loss / nodes.sum().clamp(min=1) if reduction == "mean" else loss for name, (loss, nodes) in terms.items()
    }
