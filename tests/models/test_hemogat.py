"""HemoGAT: sizes, presets, parity with a transcription of the equations, answers from a bank."""

import pytest

from graphophone.models import create_model

PUBLISHED = {"text": 768, "audio": 768}


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"num_classes": 4}, 11_566_084),
        ({"num_classes": 7}, 11_567_623),
        ({"num_layers": 1}, 7_365_636),
        ({"num_layers": 2}, 7_365_636),
        ({"num_layers": 4}, 15_766_532),
        ({"gnn": "gcn"}, 5_259_268),
        ({"gnn": "sage"}, 6_307_844),
        ({"preset": "clean", "cmt_axis": "pooled"}, 14_718_980),
    ],
)
def test_numbers_of_parameters(options: dict, count: int) -> None:
    options = {"num_classes": 4, "preset": "reference", **options}
    assert create_model("hemogat", in_channels=PUBLISHED, **options).num_parameters() == count
