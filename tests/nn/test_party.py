"""The speaker-party encoder: who is who does not matter, who is the same does."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from graphophone.nn.party import SpeakerPartyEncoder


def dialogues(seed: int, holes: float = 0.2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, 8, 6, dtype=torch.float64, generator=generator)
    present = (torch.rand(3, 8, generator=generator) >= holes) & (torch.arange(8) < torch.tensor([8, 1, 5])[:, None])
    return x.masked_fill(~present[..., None], float("nan")), torch.randint(4, (3, 8), generator=generator), present


@pytest.fixture
def party() -> SpeakerPartyEncoder:
    torch.manual_seed(0)
    return SpeakerPartyEncoder(6).double().eval()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.permutations(range(4)), st.booleans())
def test_states_are_those_of_a_naive_loop_and_numbers_of_speakers_do_not_matter(
    seed: int, names: list[int], bidirectional: bool
) -> None:
    x, speaker, present = dialogues(seed)
    torch.manual_seed(0)
    party = SpeakerPartyEncoder(6, bidirectional=bidirectional).double().eval()
    out = party(x, speaker, present)
    expected = torch.zeros_like(out)
    for b in range(len(x)):
        for who in range(4):
            turns = (present[b] & (speaker[b] == who)).nonzero()[:, 0]
            if len(turns):
                expected[b, turns] = party.recurrence.rnn(x[b, turns])[0]
    torch.testing.assert_close(out, expected, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(party(x, torch.tensor(names)[speaker], present), out, atol=1e-12, rtol=1e-12)


def test_a_lone_speaker_is_read_as_the_dialogue(party: SpeakerPartyEncoder) -> None:
    x, speaker, present = dialogues(0, holes=0)
    out = party(x, torch.full_like(speaker, 2), present)
    for b, turns in enumerate([8, 1, 5]):
        torch.testing.assert_close(out[b, :turns], party.recurrence.rnn(x[b, :turns])[0])
    assert not out[~present].any()


@given(st.integers(0, 10**6), st.integers(1, 7))
def test_one_direction_knows_of_no_later_turn(seed: int, known: int) -> None:
    torch.manual_seed(0)
    party = SpeakerPartyEncoder(6, bidirectional=False).double().eval()
    x, speaker, present = dialogues(seed)
    part = party(x[:, :known], speaker[:, :known], present[:, :known])
    torch.testing.assert_close(part, party(x, speaker, present)[:, :known], atol=1e-12, rtol=0)


def test_other_speakers_are_not_heard(party: SpeakerPartyEncoder) -> None:
    x, speaker, present = dialogues(1, holes=0)
    changed = torch.where((speaker == 1)[..., None], x + 1, x)
    same = torch.isclose(party(changed, speaker, present), party(x, speaker, present)).all(-1)
    assert same[speaker != 1].all()
    assert not same[(speaker == 1) & present].any()
