"""From turns to nodes: what each part adds, and what is left out."""

import pytest
import torch

from graphophone.errors import GraphophoneError
from graphophone.nn.dialogue import DialogueBatch
from graphophone.nn.node_encoder import NodeEncoder
from graphophone.nn.turn_encoder import Encoder

WIDTHS = {"text": 8, "audio": 3}
ENCODERS: dict[str, Encoder] = {"text": "gru", "audio": "none"}


def batch(seed: int = 0) -> DialogueBatch:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(4) < torch.tensor([4, 2])[:, None]
    present = mask[:, None].repeat(1, 2, 1)
    present[0, 1, 1] = False
    x = {name: torch.randn(2, 4, width, generator=generator) for name, width in WIDTHS.items()}
    speaker = torch.tensor([[0, 1, 0, 0], [0, 1, 0, 0]])
    return DialogueBatch(x, present, mask, speaker, speaker, speaker)


def create(**options: object) -> NodeEncoder:
    torch.manual_seed(0)
    return NodeEncoder(WIDTHS, 6, encoders=ENCODERS, **options)  # type: ignore[arg-type]


def test_context_alone_without_speakers() -> None:
    encoder, given = create(party=False), batch()
    nodes = encoder(given)
    assert nodes.shape == (2, 2, 4, 6)
    for m, name in enumerate(WIDTHS):
        projected, context = encoder.turns[name](given.x[name], given.present[:, m])
        torch.testing.assert_close(nodes[:, m], context)
        assert torch.equal(projected, context) == (name == "audio")


def test_speakers_read_projections_and_are_joined_by_gates() -> None:
    encoder, given = create(), batch()
    nodes = encoder(given)
    assert encoder.join is not None
    for m, name in enumerate(WIDTHS):
        projected, context = encoder.turns[name](given.x[name], given.present[:, m])
        party = encoder.party[name](projected, given.speaker, given.present[:, m])
        torch.testing.assert_close(nodes[:, m], encoder.join(context, party))
    assert not nodes.masked_select(~given.present[..., None]).any()
    swapped = DialogueBatch(given.x, given.present, given.mask, 1 - given.speaker, given.y, given.row)
    torch.testing.assert_close(encoder(swapped), nodes)  # who is called what does not matter


def test_sets_of_text_are_made_one_before_the_projection() -> None:
    encoder, given = create(text_sets=4, text_norm="mean", party=False), batch()
    single = NodeEncoder({"text": 2, "audio": 3}, 6, encoders=ENCODERS, party=False)
    single.load_state_dict(encoder.state_dict())
    mean = given.x["text"].unflatten(2, (4, 2)).mean(2)
    plain = DialogueBatch({**given.x, "text": mean}, given.present, given.mask, given.speaker, given.y, given.row)
    torch.testing.assert_close(encoder(given), single(plain))


@pytest.mark.parametrize("sets", [0, 3])
def test_refuses_sets_that_do_not_divide_the_text(sets: int) -> None:
    with pytest.raises(GraphophoneError, match="give another number"):
        create(text_sets=sets, text_norm="LN")
