r"""HemoGAT: utterances as nodes, each near those that sound alike and those that say alike.

Paper:

    @article{nguyen2026hemogat,
      title   = {HemoGAT: Heterogeneous multimodal speech emotion recognition with cross-modal transformer and graph
                 attention network},
      author  = {Nguyen and others},
      journal = {Advances in Electrical and Electronic Engineering},
      volume  = {24},
      number  = {2},
      year    = {2026},
      doi     = {10.15598/aece.v24i2.250415}
    }

Text and audio vectors are projected to T and A, `[N, h]` each. Attention over a graph of nearest neighbours
(`graphophone.graphs.modal`) reads `[T || A]` and gives G; a cross-modal transformer beside it gives A* and T*; a
perceptron classifies `[G || A* || T*]`.

What differs from the paper. "Heterogeneous" is a word of its title: equations 7 and 8 and the released code have one
kind of node, with both vectors, and one kind of edge. Equations 11 and 12 attend over utterances, the released code
over one key, which makes queries and keys idle; with token vectors this model attends over tokens. The preset
``"reference"`` does what the released code does: one head in the last layer (the paper averages all), one batch
normalisation for all layers, two layers at least. What the paper calls a softmax in equations 9 and 10 is the weight of
attention; what is between the layers is the leaky ReLU of the code.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from graphophone.models.base import ModelError, PretrainedModel, evaluating
from graphophone.nn.cross_attention import CrossModalStream, Sequences, length_blocks
from graphophone.nn.graph_stack import GNN, GraphStack, LastActivation, Norm, Plan
from graphophone.nn.typed_stack import Relations, TypedPlan, TypedStack

Modality = Literal["both", "audio", "text"]
Axis = Literal["auto", "tokens", "pooled", "batch"]
Edges = Tensor | Plan | Relations | TypedPlan
"""Sources and targets ``[2, E]``, by relation where nodes have types, or what `HemoGAT.plan` made of them."""
Tokens = Mapping[str, Sequences | tuple[Tensor, Tensor]]

_PRESETS: dict[str, dict[str, Any]] = {
    "clean": {
        "last_heads": None,  # as many as the other layers have
        "shared_bn": False,
        "reference_depth": False,
        "cmt_axis": "auto",
    },
    "reference": {"last_heads": 1, "shared_bn": True, "reference_depth": True, "cmt_axis": "pooled"},
}


class HemoGAT(PretrainedModel):
    """Attention over utterances alike, and between what was said and how.

    Symbols: N utterances, E edges, C classes, h hidden channels.

    Args:
        in_channels: Width of the vectors of each modality, ``{"text": 768, "audio": 768}``; in the rows of ``x`` they
            lie side by side in this order, whatever that of the mapping.
        num_classes: C.
        preset: What options that are None become: ``"clean"``, or ``"reference"``, which repeats the released code.
        modality: ``"both"``, or the one that is read; columns of the other are not looked at.
        alone: Whether the model also holds a network of audio and one of text, which share nothing with it, for
            utterances that lack the other; see `routes`.
        gnn: See `graphophone.nn.graph_stack.GraphStack`, as for the next three.
        num_layers: L.
        hidden_channels: h.
        heads: Attention heads, of the cross-modal transformer too.
        hm_gat: Whether there is the graph part; without it edges are not looked at.
        cmt: Whether there is the cross-modal transformer. Without both parts ``[T || A]`` is classified.
        cmt_axis: What cross-attention goes over: ``"tokens"`` of each utterance, ``"pooled"`` vectors, one for each
            utterance (then it is linear in the other modality), or the ``"batch"`` (equations 11 and 12 to the letter:
            answers depend on which utterances come together). ``"auto"``: tokens if ``sequence_channels`` are given,
            and else pooled.
        sequence_channels: Width of the token vectors of each modality; None: as the pooled ones.
        last_heads: Attention heads of the last layer, which are averaged (clean: all, reference: 1).
        shared_bn: Whether all layers have one batch normalisation (clean: no, reference: yes).
        residual: Whether layers between first and last add what went into them; None: they do.
        norm: ``"batch"`` or ``"none"``, between graph layers; None: ``"batch"``.
        reference_depth: Whether one layer means two (clean: no, reference: yes).
        last_activation: After the last graph layer; ``"elu"`` is equation 10 to the letter. None: ``"none"``.
        node_features: What the graph part reads: vectors ``"projected"`` to h each, or ``"raw"``; None: projected.
        unimodal_fill: What becomes of the other modality where one is read: it is left out (``"drop"``), or its
            vectors are ``"zeros"``. None: left out.
        graph: ``"same"``: one node for each utterance (the equations); ``"typed"``: one for each modality of it, which
            is **not the paper**; edges are then those of `graphophone.graphs.modal.typed_edges`. See
            `graphophone.nn.typed_stack.TypedStack`.
        dropout: Probability, everywhere.

    Shapes:
        x ``[N, sum of in_channels]``, edges ``[2, E]`` -> logits ``[N, C]``.

    Raises:
        ModelError: If options are unknown, or do not fit each other.
    """

    model_name = "hemogat"
    reads: ClassVar[Literal["graph", "spectrogram", "nodes"]] = "nodes"
    modalities: ClassVar[tuple[str, ...]] = ("text", "audio")

    def __init__(
        self,
        *,
        in_channels: Mapping[str, int],
        num_classes: int,
        preset: Literal["clean", "reference"] = "clean",
        modality: Modality = "both",
        alone: bool = False,
        gnn: GNN = "gat",
        num_layers: int = 3,
        hidden_channels: int = 512,
        heads: int = 4,
        hm_gat: bool = True,
        cmt: bool = True,
        cmt_axis: Axis | None = None,
        sequence_channels: Mapping[str, int] | None = None,
        last_heads: int | None = None,
        shared_bn: bool | None = None,
        residual: bool | None = None,
        norm: Norm | None = None,
        reference_depth: bool | None = None,
        last_activation: LastActivation | None = None,
        node_features: Literal["projected", "raw"] | None = None,
        unimodal_fill: Literal["drop", "zeros"] | None = None,
        graph: Literal["same", "typed"] = "same",
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        _check("preset", preset, tuple(_PRESETS))
        chosen = dict(_PRESETS[preset])
        given = {
            "last_heads": last_heads,
            "shared_bn": shared_bn,
            "reference_depth": reference_depth,
            "cmt_axis": cmt_axis,
        }
        chosen.update({key: value for key, value in given.items() if value is not None})
        residual = residual is not False
        for name, value, known in (
            ("modality", modality, get_args(Modality)),
            ("gnn", gnn, get_args(GNN)),
            ("cmt_axis", chosen["cmt_axis"], get_args(Axis)),
            ("norm", norm or "batch", get_args(Norm)),
            ("last_activation", last_activation or "none", get_args(LastActivation)),
            ("node_features", node_features or "projected", ("projected", "raw")),
            ("unimodal_fill", unimodal_fill or "drop", ("drop", "zeros")),
            ("graph", graph, ("same", "typed")),
        ):
            _check(name, value, known)
        if num_layers < 1 or hidden_channels < 1 or heads < 1 or hidden_channels % heads:
            raise ModelError(
                f"num_layers, heads and hidden_channels are {num_layers}, {heads}, {hidden_channels}: give at least 1, "
                "and hidden_channels that are a multiple of heads"
            )
        if not 0 <= dropout < 1:
            raise ModelError(f"dropout is {dropout}; give at least 0 and less than 1")
        if graph == "typed" and modality != "both":
            raise ModelError(f'graph="typed" joins nodes of two modalities: modality is "{modality}", give "both"')
        self.typed = graph == "typed"
        self.zeros = modality != "both" and unimodal_fill == "zeros"
        self.widths = _widths(in_channels, modality, filled=self.zeros)
        self.num_classes = num_classes
        self.modality: Modality = modality
        self.gnn: GNN = gnn
        self.hidden_channels = hidden_channels
        self.heads = heads
        self.raw = node_features == "raw"
        self.streams: tuple[str, ...] = self.modalities if modality == "both" or self.zeros else (modality,)
        self.cmt_axis = _axis(chosen["cmt_axis"], sequence_channels) if cmt else "none"
        h, count = hidden_channels, len(self.streams)

        reads_pooled = (hm_gat and not self.raw) or self.cmt_axis in ("pooled", "batch") or not (hm_gat or cmt)
        self.projections = nn.ModuleDict(
            {name: _projection(self.widths[name], h, nn.BatchNorm1d(h), dropout) for name in self.streams}
            if reads_pooled
            else {}
        )
        self.graph: GraphStack | TypedStack | None = None
        if hm_gat:
            widths = {name: self.widths[name] if self.raw else h for name in self.streams}
            made: Any = TypedStack if self.typed else GraphStack
            self.graph = made(
                widths if self.typed else sum(widths.values()),
                h,
                gnn=gnn,
                num_layers=max(num_layers, 2) if chosen["reference_depth"] else num_layers,
                heads=heads,
                last_heads=chosen["last_heads"] or heads,
                norm=norm or "batch",
                shared_norm=chosen["shared_bn"],
                residual=residual,
                dropout=dropout,
                last_activation=last_activation or "none",
            )
        self.cross = nn.ModuleDict({name: CrossModalStream(h, heads, dropout) for name in self.streams} if cmt else {})
        self.sequence_projections = nn.ModuleDict()
        if self.cmt_axis == "tokens":
            widths = {**self.widths, **(sequence_channels or {})}
            for name in self.streams:
                self.sequence_projections[name] = _projection(widths[name], h, nn.LayerNorm(h), dropout)
        wide = h * (hm_gat * (1 + self.typed) + count * cmt) or h * count
        self.classifier = nn.Sequential(
            nn.Linear(wide, h), nn.LayerNorm(h), nn.ReLU(), nn.Dropout(dropout), nn.Linear(h, num_classes)
        )
        self.alone = nn.ModuleDict()
        if alone:
            if modality != "both":
                raise ModelError(f'alone=True adds networks of one modality to that of both: modality is "{modality}"')
            same = {**self.config, "alone": False}
            for name in ("audio", "text"):
                self.alone[name] = HemoGAT(**{**same, "modality": name, "graph": "same"})

    # ------------------------------------------------------------------ what is asked of it

    @property
    def needs(self) -> tuple[str, ...]:
        """The modalities that an utterance must have."""
        return self.modalities if self.modality == "both" else (self.modality,)

    @property
    def loss_names(self) -> tuple[str, ...]:
        """What a training logs: the loss of each network of `routes`."""
        return tuple(f"loss_{name}" for name in self.routes())

    def routes(self) -> dict[str, HemoGAT]:
        """The network for each kind of utterance: this one by its modality, and those of one modality alone."""
        return {self.modality: self, **cast(dict[str, HemoGAT], dict(self.alone.items()))}

    def plan(self, edges: Tensor | Relations, num_nodes: int) -> Edges:
        """What `forward` takes in place of edges that it sees many times; without graph part the edges."""
        self._check_edges(edges)
        return edges if self.graph is None else cast(Any, self.graph).plan(edges, num_nodes)

    def _check_edges(self, edges: Any) -> None:
        """Refuse edges without types where nodes have types, and the other way round."""
        if self.graph is not None and isinstance(edges, Mapping) is not self.typed:
            wanted = "by modality, as typed_edges gives them" if self.typed else "[2, E], not by modality"
            raise ModelError(f'hemogat with graph="{"typed" if self.typed else "same"}" reads edges {wanted}')

    def forward(
        self, x: Tensor, edges: Edges, edge_weight: Tensor | None = None, *, sequences: Tokens | None = None
    ) -> Tensor:
        """Class scores (logits) of every utterance.

        Args:
            x: Vectors of the modalities side by side ``[N, sum of in_channels]``. Those that are read must be numbers.
            edges: Sources and targets ``[2, E]``, or what `plan` returns. Each node gets an edge to itself. With
                ``graph="typed"`` as `graphophone.graphs.modal.typed_edges` gives them.
            edge_weight: Factors ``[E]`` on what edges carry, which leave the attention as it is, for attribution; None:
                1.
            sequences: Token vectors by modality, as `graphophone.nn.cross_attention.Sequences` or the values and
                lengths it takes; where ``cmt_axis`` is ``"tokens"``.

        Returns:
            ``[N, C]``.

        Raises:
            ModelError: If shapes do not fit, an utterance lacks a modality that is read, or training has one utterance
                only.
        """
        return self.classifier(self.embed(x, edges, edge_weight, sequences=sequences))

    def embed(
        self, x: Tensor, edges: Edges, edge_weight: Tensor | None = None, *, sequences: Tokens | None = None
    ) -> Tensor:
        """The vector z that is classified, of every utterance ``[N, dims]``; arguments as `forward`."""
        raw, projected = self._read(x)
        graph = None
        if self.graph is not None:
            self._check_edges(edges)
            if edge_weight is not None and self.typed:
                raise ModelError('edges of graph="typed" have no weights; leave edge_weight out')
            weight = () if edge_weight is None else (edge_weight,)
            graph = self.graph(self._nodes(raw, projected), edges, *weight)
        return self._fuse(graph, projected, sequences, len(x))

    @torch.no_grad()
    def states(self, x: Tensor, edges: Edges) -> tuple[Tensor, ...]:
        """What known utterances show to others in every graph layer, for `answer`; in evaluation mode.

        Args:
            x: As `forward`.
            edges: As `forward`.

        Returns:
            One matrix for each layer, a row for each node; see `graphophone.nn.graph_stack.GraphStack.states`.
        """
        if self.graph is None:
            return ()
        self._check_edges(edges)
        with evaluating(self):
            return cast(Any, self.graph).states(self._nodes(*self._read(x)), edges)

    def answer(
        self,
        x: Tensor,
        bank: Sequence[Tensor],
        bank_edges: Tensor | Relations,
        edge_weight: Tensor | Relations | None = None,
        *,
        sequences: Tokens | None = None,
    ) -> Tensor:
        """Class scores of new utterances among known ones; in evaluation mode.

        Known utterances keep the states they had, and new ones do not see each other: the answer for an utterance is
        the same whatever else is asked.

        Args:
            x: Vectors of the new utterances ``[Q, sum of in_channels]``.
            bank: What `states` gave for the known ones.
            bank_edges: Known and new utterances ``[2, E]``; see `graphophone.graphs.modal.bank_edges`. Each new one
                also gets an edge to itself. With ``graph="typed"`` by relation.
            edge_weight: Factors ``[E]`` on what these edges carry, which leave the attention as it is, for attribution;
                with ``graph="typed"`` by relation.
            sequences: As `forward`.

        Returns:
            ``[Q, C]``.
        """
        with evaluating(self):
            return self.classifier(self.embed_new(x, bank, bank_edges, edge_weight, sequences=sequences))

    def embed_new(
        self,
        x: Tensor,
        bank: Sequence[Tensor],
        bank_edges: Tensor | Relations,
        edge_weight: Tensor | Relations | None = None,
        *,
        sequences: Tokens | None = None,
    ) -> Tensor:
        """The vectors z ``[Q, dims]`` of new utterances among known ones; arguments as `answer`."""
        if self.cmt_axis == "batch":
            raise ModelError(
                'cmt_axis="batch" attends over the utterances that come together, so that a new one has no answer of '
                'its own; train with "tokens" or "pooled", or evaluate a whole split at once'
            )
        with evaluating(self):
            raw, projected = self._read(x)
            graph = None
            if self.graph is not None:
                self._check_edges(bank_edges)
                graph = cast(Any, self.graph).answer(self._nodes(raw, projected), bank, bank_edges, edge_weight)
            return self._fuse(graph, projected, sequences, len(x))

    # ------------------------------------------------------------------ parts

    def _read(self, x: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Vectors by modality, as they come and projected."""
        if x.ndim != 2 or x.shape[1] != sum(self.widths.values()):
            sides = " + ".join(f"{width} of {name}" for name, width in self.widths.items())
            raise ModelError(f"x of shape {list(x.shape)}: give one row for each utterance, with {sides} columns")
        if self.training and len(x) < 2:
            raise ModelError("training on one utterance: batch normalisation needs two at least")
        parts = dict(zip(self.widths, x.split(list(self.widths.values()), dim=1), strict=True))
        raw = {}
        for name in self.streams:
            if self.zeros and name != self.modality:
                raw[name] = x.new_zeros(len(x), self.widths[name])
                continue
            raw[name] = parts[name]
            lacking = ~parts[name].isfinite().all(dim=1)
            if lacking.any():
                row = int(lacking.nonzero()[0])
                raise ModelError(
                    f"utterance {row} (and {int(lacking.sum()) - 1} more) has no {name}, which this network reads: "
                    "leave it out, or ask the network of what it has (alone=True)"
                )
        return raw, {name: self.projections[name](raw[name]) for name in self.projections}

    def _nodes(self, raw: dict[str, Tensor], projected: dict[str, Tensor]) -> Tensor:
        """What the graph part reads."""
        return torch.cat(list((raw if self.raw else projected).values()), dim=1)

    def _fuse(self, graph: Tensor | None, projected: dict[str, Tensor], sequences: Tokens | None, count: int) -> Tensor:
        """``[G || A* || T*]``, of what there is; without graph part and transformer ``[T || A]``."""
        if not self.cross:
            return torch.cat(list(projected.values()), dim=1) if graph is None else graph
        if self.cmt_axis == "tokens":
            crossed = self._tokens(sequences, count)
        else:
            crossed = {}
            for name in self.streams:
                stream, other = cast(CrossModalStream, self.cross[name]), self._other(name)
                attend = stream.pooled if self.cmt_axis == "pooled" else stream.batch
                crossed[name] = attend(projected[name], projected[other])
        parts = [crossed[name] for name in reversed(self.streams)]
        return torch.cat(parts if graph is None else [graph, *parts], dim=1)

    def _other(self, name: str) -> str:
        """Whom a modality attends to: the other one, or itself where there is no other."""
        return next((other for other in self.streams if other != name), name)

    def _tokens(self, sequences: Tokens | None, count: int) -> dict[str, Tensor]:
        """Cross-attention over tokens, mean of those that ask ``[N, h]`` by modality.

        Utterances of like lengths go together; what is inside a block is computed again for the gradient.
        """
        held: dict[str, Sequences] = {}
        for name in self.streams:
            if sequences is None or name not in sequences:
                raise ModelError(f'cmt_axis="tokens" needs token vectors of {name}: give sequences, or choose "pooled"')
            value = sequences[name]
            held[name] = value if isinstance(value, Sequences) else Sequences(*value)
            if len(held[name]) != count:
                raise ModelError(f"{len(held[name])} sequences of {name} for {count} utterances: give one for each")
        longest = torch.stack([value.lengths for value in held.values()]).amax(dim=0)
        rows, parts = [], []
        again = torch.is_grad_enabled()
        for block in length_blocks(longest):
            rows.append(block)
            padded = [part for name in self.streams for part in held[name].padded(block)]
            parts.append(
                checkpoint(self._token_block, *padded, use_reentrant=False) if again else self._token_block(*padded)
            )
        place = torch.cat(rows).argsort()
        return {name: torch.cat([part[i] for part in parts])[place] for i, name in enumerate(self.streams)}

    def _token_block(self, *padded: Tensor) -> tuple[Tensor, ...]:
        """Cross-attention of some utterances; values and masks of each modality."""
        values = {
            name: self.sequence_projections[name](value) for name, value in zip(self.streams, padded[::2], strict=True)
        }
        real = dict(zip(self.streams, padded[1::2], strict=True))
        return tuple(
            cast(CrossModalStream, self.cross[name]).tokens(
                values[name], real[name], values[self._other(name)], real[self._other(name)]
            )
            for name in self.streams
        )


def _projection(in_channels: int, out_channels: int, norm: nn.Module, dropout: float) -> nn.Sequential:
    """Linear, normalisation, ReLU, dropout."""
    return nn.Sequential(nn.Linear(in_channels, out_channels), norm, nn.ReLU(), nn.Dropout(dropout))


def _widths(in_channels: Mapping[str, int], modality: str, *, filled: bool) -> dict[str, int]:
    """Widths in the order of the columns."""
    needed = HemoGAT.modalities if modality == "both" or filled else (modality,)
    if not isinstance(in_channels, Mapping):
        raise ModelError(
            f'in_channels is {in_channels!r}: give a width for each modality, {{"text": 384, "audio": 88}}'
        )
    if set(in_channels) - set(HemoGAT.modalities) or not set(needed) <= set(in_channels):
        raise ModelError(
            f'hemogat with modality "{modality}" needs a width for {" and ".join(needed)}, and gets '
            f"{', '.join(in_channels) or 'nothing'}: give text, audio or both, and set modality to what there is"
        )
    return {name: int(in_channels[name]) for name in HemoGAT.modalities if name in in_channels}


def _axis(axis: str, sequence_channels: Mapping[str, int] | None) -> str:
    """What cross-attention goes over."""
    if axis == "auto" and sequence_channels is None:
        _say_pooled()
        return "pooled"
    if axis == "batch":
        warnings.warn(
            'cmt_axis="batch": the answer for an utterance depends on which others come with it', stacklevel=2
        )
    return "tokens" if axis == "auto" else axis


@functools.cache
def _say_pooled() -> None:
    """Say once what cross-attention to one vector is."""
    warnings.warn(
        "hemogat has pooled vectors only: its cross-attention has one key, so it is a linear layer without a gate; "
        "give sequence_channels and token vectors for attention, or cmt_axis='pooled' if this is what you want",
        stacklevel=2,
    )


def _check(name: str, value: str, known: Sequence[str]) -> None:
    """Refuse an option that there is not."""
    if value not in known:
        raise ModelError(f"hemogat has no {name} {value!r}; choose {', '.join(known)}")
