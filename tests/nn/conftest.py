"""Dialogues of random numbers for the tests of layers that read them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from graphophone.nn.dialogue import DialogueGraph


class Dialogues(NamedTuple):
    """Some dialogues, padded: states ``[B, M, T, channels]``, nodes ``[B, M, T]`` and speakers ``[B, T]``."""

    x: Tensor
    present: Tensor
    speaker: Tensor

    def graph(self, past: int | None = None, future: int | None = None) -> DialogueGraph:
        return DialogueGraph(self.present, self.speaker, past, future)

    def alone(self, number: int, turns: int) -> "Dialogues":
        """The first turns of one of them, by themselves."""
        return Dialogues(
            self.x[number : number + 1, :, :turns],
            self.present[number : number + 1, :, :turns],
            self.speaker[number : number + 1, :turns],
        )


MakeDialogues = Callable[..., Dialogues]


@pytest.fixture(scope="session")
def make_dialogues() -> MakeDialogues:
    """Dialogues of given numbers of turns, in double precision; a share of the nodes may be missing."""

    def make(
        lengths: Sequence[int],
        *,
        modalities: int = 3,
        channels: int = 6,
        speakers: int = 3,
        missing: float = 0.0,
        seed: int = 0,
    ) -> Dialogues:
        generator = torch.Generator().manual_seed(seed)
        longest = max(lengths)
        x = torch.randn(len(lengths), modalities, longest, channels, generator=generator, dtype=torch.float64)
        speaker = torch.randint(speakers, (len(lengths), longest), generator=generator)
        there = torch.arange(longest) < torch.tensor(lengths)[:, None]
        kept = torch.rand(len(lengths), modalities, longest, generator=generator) >= missing
        present = kept & there[:, None]
        return Dialogues(x.masked_fill(~present[..., None], 0), present, speaker.masked_fill(~there, 0))

    return make
