r"""Graphs of items with several modalities, such as recordings with their transcripts.

The graph of HemoGAT (Nguyen et al., AEEE 24(2), 2026, equations 7 and 8): every item hears the nearest by cosine of
its text and the nearest by cosine of its audio, and itself. What an item lacks is NaN in all columns of a modality;
there it neither chooses nor is chosen.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch_geometric.data import Data

from graphophone.graphs.bank import ModalBank, TypedBank
from graphophone.graphs.base import GraphBuilder, GraphError, Joins, features_of, graph_pointers, require, set_edges
from graphophone.graphs.modalities import has_modality, split_modalities
from graphophone.graphs.ranking import Exclusion, Searched, ranked_neighbours
from graphophone.graphs.search import BLOCK
from graphophone.graphs.union import union_edges

Direction = Literal["in", "reference", "symmetric"]
Relation = tuple[str, str, str]


def modal_neighbours(
    part: Tensor,
    k: int,
    *,
    self_exclusion: Exclusion = "diagonal",
    search: Searched = "exact",
    block: int = BLOCK,
) -> Tensor:
    """The nearest items of every item by cosine, nearest first, ties to the lower index.

    The first columns are what a smaller `k` gives, so a grid of `k` searches once. Time is O(n^2 * dims) for n
    different rows; memory O(items * (dims + k) + block), never n x n.

    Args:
        part: Vectors of one modality, rows of NaN where an item lacks it. [items, dims]
        k: Neighbours wanted.
        self_exclusion: `"diagonal"`: an item is no candidate for itself. `"rank0"`: every item is, and the first of
            the ranking is dropped, as the code published with the paper does; among equal rows that may be another
            one, and the item stays its own neighbour.
        search: `"exact"`, settled in double precision; or `"faiss"`, whose flat index ranks near ties as single
            precision has them.
        block: Similarities held at once.

    Returns:
        Items, -1 where there is none: for items that lack the modality, and behind the last candidate. [items, k]

    Raises:
        GraphError: If a row is NaN in part, or infinite.
        MissingDependencyError: If `search` is `"faiss"` and faiss is not installed.

    Example:
        >>> modal_neighbours(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), k=2)
        tensor([[1, 2],
                [0, 2],
                [1, 0]])
    """
    return _neighbours(part, k, self_exclusion, search, block, ordered=True)


def neighbour_edges(neighbours: Sequence[Tensor], *, direction: Direction = "in") -> Tensor:
    """The edges of chosen neighbours, each once, and of every item to itself.

    Args:
        neighbours: What items chose, for each modality; -1 is nobody. Each [items, k]
        direction: `"in"`: messages flow from the chosen to the one that chose, as equations 7 and 9 have it.
            `"reference"`: the other way, as in the code published with the paper, where an item that nobody chose
            hears only itself. `"symmetric"`: both ways.

    Returns:
        `edge_index`, sorted by target, then source. [2, edges] int64
    """
    require(direction in get_args(Direction), f"direction is {direction!r}; give {_words(Direction)}")
    items, device = len(neighbours[0]), neighbours[0].device
    edges = [torch.arange(items, device=device).expand(2, -1)]
    for chosen in neighbours:
        item, rank = (chosen >= 0).nonzero(as_tuple=True)
        pairs = torch.stack([chosen[item, rank], item])
        edges += {"in": [pairs], "reference": [pairs.flip(0)], "symmetric": [pairs, pairs.flip(0)]}[direction]
    return union_edges(*edges, num_nodes=items)


def modal_edges(
    parts: Sequence[Tensor],
    k: Sequence[int],
    *,
    direction: Direction = "in",
    self_exclusion: Exclusion = "diagonal",
    search: Searched = "exact",
    block: int = BLOCK,
) -> Tensor:
    """Edges between items that are near in one modality or another, and of every item to itself.

    Args:
        parts: Vectors of each modality, rows of NaN where an item lacks it. Each [items, dims]
        k: Neighbours that an item chooses in each; 0: a modality is not compared. Where there are fewer candidates, all
            are taken, with a warning.
        direction: See `neighbour_edges`.
        self_exclusion: See `modal_neighbours`.
        search: See `modal_neighbours`.
        block: Similarities held at once.

    Returns:
        `edge_index`, each edge once, sorted by target, then source; at most `items * (1 + sum(k))` of them, or, if
        symmetric, twice as many. [2, edges] int64

    Raises:
        GraphError: See `modal_neighbours`; or if the parts do not fit each other or `k`.

    Example:
        >>> text, audio = torch.tensor([[1.0], [1.0], [-1.0]]), torch.tensor([[1.0], [-1.0], [1.0]])
        >>> modal_edges([text, audio], [1, 1])
        tensor([[0, 1, 2, 0, 1, 0, 2],
                [0, 0, 0, 1, 1, 2, 2]])
    """
    _check_parts(parts, k)
    found = [
        _neighbours(part, n, self_exclusion, search, block, ordered=False) for part, n in zip(parts, k, strict=True)
    ]
    return neighbour_edges(found, direction=direction)


def bank_edges(queries: Sequence[Tensor], bank: Sequence[Tensor], k: Sequence[int], *, block: int = BLOCK) -> Tensor:
    """Edges to new items from those of a bank that are nearest in one modality or another.

    A new item's edges depend on nothing but itself and the bank. Where the same bank is asked often,
    `graphophone.graphs.bank.ModalBank` spares making it ready each time.

    Args:
        queries: Vectors of the new items in each modality, rows of NaN where one lacks it. Each [queries, dims]
        bank: Vectors of the known items. Each [items, dims]
        k: Neighbours in each modality; 0: it is not compared. All are taken where the bank has fewer.
        block: Similarities held at once.

    Returns:
        Number of the bank's item, and of the query; each edge once, sorted by query, then item; no self loops.
        [2, edges] int64

    Raises:
        GraphError: See `modal_edges`.
    """
    _check_parts(bank, k)
    return ModalBank(bank, k, block=block).edges(queries)


def typed_edges(
    parts: Mapping[str, Tensor],
    k: Mapping[str, int],
    *,
    self_exclusion: Exclusion = "diagonal",
    search: Searched = "exact",
    block: int = BLOCK,
) -> dict[Relation, Tensor]:
    """Edges of a graph with a node for each modality of an item: an extension, which the paper does not have.

    For a heterogeneous network (:class:`torch_geometric.nn.HeteroConv`): `(m, "near", m)` from the nearest in modality
    m and from itself, `(m, "same", n)` between the modalities of one item. Node i of any type belongs to item i; one
    that the item lacks has no edges.

    Args:
        parts: Vectors by modality, rows of NaN where an item lacks it. Each [items, dims]
        k: Neighbours in each modality.
        self_exclusion: See `modal_neighbours`.
        search: See `modal_neighbours`.
        block: Similarities held at once.

    Returns:
        `edge_index` of every relation, sorted by target, then source. Each [2, edges] int64

    Raises:
        GraphError: See `modal_edges`.
    """
    counts = [k.get(name, 0) for name in parts]
    _check_parts(list(parts.values()), counts)
    there = {name: has_modality(part) for name, part in parts.items()}
    edges: dict[Relation, Tensor] = {}
    for (name, part), count in zip(parts.items(), counts, strict=True):
        near = neighbour_edges([_neighbours(part, count, self_exclusion, search, block, ordered=False)])
        edges[name, "near", name] = near[:, there[name][near[1]]]
    for source in parts:
        for target in parts:
            if source != target:
                both = (there[source] & there[target]).nonzero()[:, 0]
                edges[source, "same", target] = torch.stack([both, both])
    return edges


class ModalKNN(GraphBuilder):
    """The graph of HemoGAT: `modal_edges` of the modalities that an item's row is made of.

    Modalities lie side by side in the order text, audio, video; `in_channels` says how wide each is. The options of
    those that are not there are not read.

    Args:
        k_text: Nearest by text that an item hears.
        k_audio: Nearest by audio.
        k_video: Nearest by video.
        direction: See `neighbour_edges`.
        self_exclusion: See `modal_neighbours`.
        search: See `modal_neighbours`.

    Raises:
        GraphError: If an option makes no sense.
    """

    name: ClassVar[str] = "modal_knn"
    joins: ClassVar[Joins] = "recordings"
    reads_features: bool = True

    def __init__(
        self,
        k_text: int = 2,
        k_audio: int = 8,
        k_video: int = 0,
        *,
        direction: Direction = "in",
        self_exclusion: Exclusion = "diagonal",
        search: Searched = "exact",
    ) -> None:
        for option, k in (("k_text", k_text), ("k_audio", k_audio), ("k_video", k_video)):
            require(k >= 0, f"{self.name}: {option} is {k}; give at least 0")
        for value, options in ((direction, Direction), (self_exclusion, Exclusion), (search, Searched)):
            require(
                value in get_args(options), f"{self.name}: {value!r} is none of {_words(options)}; give one of them"
            )
        self.k_text = k_text
        self.k_audio = k_audio
        self.k_video = k_video
        self.direction: Direction = direction
        self.self_exclusion: Exclusion = self_exclusion
        self.search: Searched = search

    def edges(self, ptr: Tensor, x: Tensor | None = None) -> Tensor:
        """Columns alone do not say which modality they are.

        Raises:
            GraphError: Always; see `edges_of`.
        """
        raise GraphError(f"{self.name} compares modalities; set data.in_channels to the width of each, or use edges_of")

    def edges_of(self, x: Tensor, in_channels: Mapping[str, int], only: Sequence[str] | None = None) -> Tensor:
        """`modal_edges` of rows of modalities.

        Args:
            x: Vectors, modalities side by side in the order text, audio, video. [items, dims]
            in_channels: Width of each modality that is there.
            only: Modalities to compare; None: all.

        Returns:
            `edge_index`. [2, edges] int64

        Raises:
            GraphError: See `modal_edges`; or if the widths do not add up to that of `x`.
        """
        parts = self._compared(x, in_channels, only)
        return modal_edges(
            list(parts.values()),
            self._counts(parts),
            direction=self.direction,
            self_exclusion=self.self_exclusion,
            search=self.search,
        )

    def bank_of(self, x: Tensor, in_channels: Mapping[str, int], only: Sequence[str] | None = None) -> ModalBank:
        """Known items, made ready to be asked which of them are near to new ones; arguments as `edges_of`.

        Raises:
            GraphError: See `edges_of`; or if edges run from the one that chose, so that a new item would hear nobody.
        """
        require(
            self.direction != "reference",
            f"{self.name}: with direction 'reference' a new item hears only itself; use 'in' or 'symmetric'",
        )
        parts = self._compared(x, in_channels, only)
        return ModalBank(list(parts.values()), self._counts(parts))

    def typed_edges_of(
        self, x: Tensor, in_channels: Mapping[str, int], only: Sequence[str] | None = None
    ) -> dict[Relation, Tensor]:
        """`typed_edges` of rows of modalities; arguments as `edges_of`.

        Raises:
            GraphError: See `typed_edges`; or if edges run otherwise than to the one that chose.
        """
        self._require_inward()
        parts = self._compared(x, in_channels, only)
        counts = dict(zip(parts, self._counts(parts), strict=True))
        return typed_edges(parts, counts, self_exclusion=self.self_exclusion, search=self.search)

    def typed_bank_of(self, x: Tensor, in_channels: Mapping[str, int], only: Sequence[str] | None = None) -> TypedBank:
        """As `bank_of`, for a graph with a node for each modality of an item."""
        self._require_inward()
        parts = self._compared(x, in_channels, only)
        return TypedBank(parts, self._counts(parts))

    def _require_inward(self) -> None:
        require(
            self.direction == "in",
            f"{self.name}: nodes by modality hear those that they chose; direction is {self.direction!r}, set it to in",
        )

    def bank_edges_of(
        self, queries: Tensor, bank: Tensor, in_channels: Mapping[str, int], only: Sequence[str] | None = None
    ) -> Tensor:
        """`bank_edges` of rows of modalities; arguments as `edges_of`. [2, edges] int64."""
        parts = self._compared(queries, in_channels, only)
        return self.bank_of(bank, in_channels, only).edges(list(parts.values()))

    def forward(self, data: Data) -> Data:
        """Set `data.edge_index` from `data.x` and `data.in_channels`.

        Raises:
            GraphError: See `edges_of`; or if `data` is a batch of several graphs.
        """
        x, ptr = features_of(self, data.x), graph_pointers(data)
        widths = data.get("in_channels")
        if not isinstance(widths, Mapping):
            return set_edges(data, ptr, self.edges(ptr, x))
        require(
            len(ptr) == 2, f"{self.name} joins the items of one graph, not of {len(ptr) - 1}; build them one by one"
        )
        return set_edges(data, ptr, self.edges_of(x, widths))

    def _counts(self, parts: Mapping[str, Tensor]) -> list[int]:
        return [getattr(self, f"k_{name}") for name in parts]

    def _compared(self, x: Tensor, in_channels: Mapping[str, int], only: Sequence[str] | None) -> dict[str, Tensor]:
        """The columns of every modality that is to be compared."""
        parts = split_modalities(x, in_channels)
        unknown = [name for name in only or () if name not in parts]
        require(not unknown, f"{self.name}: there is no {', '.join(unknown)} to compare, only {', '.join(parts)}")
        return {name: part for name, part in parts.items() if only is None or name in only}


def _neighbours(
    part: Tensor, k: int, self_exclusion: Exclusion, search: Searched, block: int, *, ordered: bool
) -> Tensor:
    """`modal_neighbours`; where the order does not matter, neighbours of a row may come in any."""
    require(k >= 0, f"k is {k}; give at least 0")
    require(block >= 1, f"block is {block}; give at least 1")
    require(self_exclusion in get_args(Exclusion), f"self_exclusion is {self_exclusion!r}; give {_words(Exclusion)}")
    require(search in get_args(Searched), f"search is {search!r}; give {_words(Searched)}")
    there = has_modality(part)
    items = there.nonzero()[:, 0]
    found = torch.full((len(part), k), -1, dtype=torch.int64, device=part.device)
    if k >= len(items) > 0:
        warnings.warn(
            f"k is {k}, and there are {len(items)} items: every item gets the {len(items) - 1} others", stacklevel=3
        )
    if not k or not len(items):
        return found
    rows = part.detach() if len(items) == len(part) else part.detach()[items]
    near = ranked_neighbours(rows, k, exclusion=self_exclusion, search=search, block=block, ordered=ordered)
    found[items] = torch.where(near >= 0, items[near.clamp(min=0)], -1)
    return found


def _check_parts(parts: Sequence[Tensor], k: Sequence[int]) -> None:
    require(len(parts) > 0, "no modality is given; give at least one")
    require(len(parts) == len(k), f"{len(parts)} modalities and {len(k)} numbers of neighbours; give one k for each")
    lengths = {len(part) for part in parts}
    require(len(lengths) == 1, f"modalities have {' and '.join(map(str, sorted(lengths)))} rows; give one row per item")


def _words(options: object) -> str:
    return " or ".join(f'"{option}"' for option in get_args(options))
