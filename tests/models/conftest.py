"""Dialogues of random numbers, for networks of dialogues."""

from collections.abc import Callable, Mapping, Sequence

import pytest
import torch

from graphophone.nn.dialogue import DialogueBatch

MakeDialogues = Callable[..., DialogueBatch]
CutDialogue = Callable[..., DialogueBatch]


@pytest.fixture(scope="session")
def dialogues() -> MakeDialogues:
    """Makes padded dialogues of given lengths, in double precision."""

    def make(
        lengths: Sequence[int],
        widths: Mapping[str, int],
        *,
        seed: int = 0,
        gaps: float = 0.0,
        speakers: int = 3,
        classes: int = 3,
    ) -> DialogueBatch:
        """``gaps`` is the share of modalities that turns lack."""
        generator = torch.Generator().manual_seed(seed)
        count, turns = len(lengths), max(lengths)
        mask = torch.arange(turns) < torch.tensor(lengths)[:, None]
        there = torch.rand(count, len(widths), turns, generator=generator) >= gaps
        present = there & mask[:, None]
        x = {
            name: torch.randn(count, turns, width, generator=generator, dtype=torch.float64).masked_fill(
                ~present[:, m, :, None], 0
            )
            for m, (name, width) in enumerate(widths.items())
        }
        speaker = torch.randint(0, speakers, (count, turns), generator=generator).masked_fill(~mask, 0)
        y = torch.randint(0, classes, (count, turns), generator=generator).masked_fill(~mask, -1)
        row = torch.arange(count * turns).view(count, turns).masked_fill(~mask, -1)
        return DialogueBatch(x, present, mask, speaker, y, row)

    return make


@pytest.fixture(scope="session")
def cut() -> CutDialogue:
    """Takes one dialogue out of a batch, without padding."""

    def take(batch: DialogueBatch, index: int, turns: int | None = None) -> DialogueBatch:
        """``turns``: its first ones only."""
        end = int(batch.lengths[index]) if turns is None else turns
        i = slice(index, index + 1)
        return DialogueBatch(
            {name: part[i, :end] for name, part in batch.x.items()},
            batch.present[i, :, :end],
            batch.mask[i, :end],
            batch.speaker[i, :end],
            batch.y[i, :end],
            batch.row[i, :end],
        )

    return take
