"""What the turns of one dialogue hear of each other, as arrays that can be kept, drawn and listed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from graphophone.models.base import evaluating
from graphophone.models.dialogue import DialogueClassifier
from graphophone.nn.dialogue import DialogueBatch, EdgeTables


@dataclass(frozen=True, eq=False)
class TurnRelations:
    """The graph of one dialogue of T turns in M modalities, after a network has weighed it.

    The listening node comes before the one that is heard, in every array.

    Attributes:
        modalities: Their names.
        present: Which modalities each turn has, bool ``[M, T]``.
        within: Weights of edges within a modality ``[M, T, T]``, 0 where there is none or it was cut; below 0 where a
            network subtracts what it hears. None for a network without such a graph.
        across: Weights of edges between the modalities of a turn ``[T, M, M]``; None likewise.
        latent: Attention over all nodes of the dialogue ``[M, T, M, T]``; None for a network that has none.
    """

    modalities: tuple[str, ...]
    present: np.ndarray
    within: np.ndarray | None = None
    across: np.ndarray | None = None
    latent: np.ndarray | None = None

    @classmethod
    def of(cls, model: DialogueClassifier, batch: DialogueBatch, dialogue: int = 0) -> TurnRelations:
        """Those of one dialogue of a batch, without its padding."""
        with evaluating(model), torch.no_grad():
            found = model.relations(batch)
        turns = int(batch.lengths[dialogue])
        within = across = latent = None
        graph, attention = found.get("graph"), found.get("latent")
        if isinstance(graph, EdgeTables):
            within = _array(graph.within[dialogue, :, :turns, :turns])
            across = _array(graph.across[dialogue, :turns])
        if isinstance(attention, Tensor):
            latent = _array(attention[dialogue, :, :turns, :, :turns])
        present = batch.present[dialogue, :, :turns].cpu().numpy()
        return cls(batch.modalities, present, within, across, latent)

    @property
    def turns(self) -> int:
        """T."""
        return self.present.shape[1]

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as arrays by name, for ``numpy.savez``."""
        known = {name: getattr(self, name) for name in ("within", "across", "latent")}
        return {
            "modalities": np.array(self.modalities, dtype=np.str_),
            "present": self.present,
            **{name: array for name, array in known.items() if array is not None},
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> TurnRelations:
        """What `arrays` gave; other names are passed over."""
        known = {name: np.asarray(arrays[name]) for name in ("within", "across", "latent") if name in arrays}
        return cls(tuple(map(str, arrays["modalities"])), np.asarray(arrays["present"], dtype=bool), **known)

    def attention(self) -> np.ndarray | None:
        """Latent attention from turn to turn ``[T, T]``: summed over what is heard, averaged over what listens."""
        if self.latent is None:
            return None
        heard = self.latent.sum(axis=2)
        listeners = np.maximum(self.present.sum(axis=0), 1)
        return np.where(self.present[:, :, None], heard, 0.0).sum(axis=0) / listeners[:, None]

    def edges(self, turn: int | None = None) -> pd.DataFrame:
        """The edges that were left, the strongest first.

        Args:
            turn: Number of the turn that listens, from 0; None: all.

        Returns:
            ``source`` and ``target`` (numbers of turns from 0), ``source_modality``, ``target_modality``, ``weight``.
        """
        names = np.array(self.modalities, dtype=object)
        parts = [_edge_rows(names[:0], names[:0], *(np.zeros(0, dtype=np.int64),) * 2, np.zeros(0))]
        if self.within is not None:
            m, target, source = self.within.nonzero()
            parts.append(_edge_rows(names[m], names[m], source, target, self.within[m, target, source]))
        if self.across is not None:
            place, into, out_of = self.across.nonzero()
            parts.append(_edge_rows(names[out_of], names[into], place, place, self.across[place, into, out_of]))
        table = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
        if turn is not None:
            table = table[table["target"] == turn]
        return table.sort_values("weight", key=np.abs, ascending=False, kind="stable", ignore_index=True)


def _edge_rows(
    heard: np.ndarray, listens: np.ndarray, source: np.ndarray, target: np.ndarray, weight: np.ndarray
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "source": source,
            "target": target,
            "source_modality": heard,
            "target_modality": listens,
            "weight": weight,
        }
    )


def _array(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()
