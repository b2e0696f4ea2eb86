"""What a turn has as one vector: projections side by side, learned vectors where there is nothing."""

import torch
from torch import nn

from graphophone.nn.dialogue import DialogueBatch
from graphophone.nn.turn_input import TurnInput

WIDTHS = {"text": 5, "audio": 4}


def batch() -> DialogueBatch:
    torch.manual_seed(0)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    present = mask[:, None].repeat(1, 2, 1)
    present[0, 1, 2] = False
    x = {name: torch.randn(2, 3, width) for name, width in WIDTHS.items()}
    x["audio"][0, 2] = torch.nan
    speaker = torch.tensor([[0, 1, 4], [0, 0, 9]])
    return DialogueBatch(x, present, mask, speaker, speaker, speaker)


def test_each_turn_by_itself() -> None:
    given = batch()
    layer = TurnInput(WIDTHS, 6, dropout=0.0, speakers=3)
    found = layer(given)
    assert found.shape == (2, 3, layer.out_channels) == (2, 3, 12)
    assert found.isfinite().all()
    assert layer.speaker is not None
    for b, t, who in [(0, 0, 0), (0, 1, 1), (0, 2, 2), (1, 0, 0), (1, 1, 0)]:  # speaker 4 counts as the last
        text = layer.projections["text"](given.x["text"][b, t])
        audio = layer.projections["audio"](given.x["audio"][b, t]) if (b, t) != (0, 2) else layer.lacking["audio"]
        torch.testing.assert_close(found[b, t], torch.cat([text, audio]) + layer.speaker.weight[who])


def test_zeros_are_not_nothing() -> None:
    given = batch()
    layer = TurnInput(WIDTHS, 6, dropout=0.0)
    for value in layer.lacking.values():
        nn.init.normal_(value)
    silent = {**given.x, "text": torch.zeros_like(given.x["text"])}
    zero = DialogueBatch(silent, given.present, given.mask, given.speaker, given.y, given.row)
    assert layer.speaker is None
    assert not torch.allclose(layer(zero), layer(zero.only(["audio"])))
