"""LHGNN: published sizes, shapes, evaluation clip by clip, learning."""

from typing import Any

import pytest
import torch

from graphophone.models import ModelError, create_model
from graphophone.models.lhgnn import LHGNN

SMALL: dict[str, Any] = {
    "channels": (16, 32, 40, 64),
    "blocks": (1, 1, 1, 1),
    "k": 5,
    "P": 12,
    "K": 4,
    "head_width": 32,
    "num_mel_bins": 32,
    "frames": 96,
}


def small(seed: int = 0, **options: Any) -> LHGNN:
    torch.manual_seed(seed)
    model = create_model("lhgnn", **{"num_classes": 4, **SMALL, **options})
    assert isinstance(model, LHGNN)
    return model


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"num_classes": 527}, 31_476_127),
        ({"num_classes": 200}, 31_140_952),
        ({"num_classes": 50}, 30_987_202),
        ({"num_classes": 527, "channels": (80, 160, 320, 640)}, 25_943_887),
        ({"num_classes": 527, "kernel": "local"}, 27_316_447),
        ({"num_classes": 527, "kernel": "higher"}, 27_316_447),
        ({"num_classes": 527, "stem": "four"}, 31_476_127 + 14_520),
        ({"num_classes": 527, "init": "learned"}, 31_476_127 + 208_000),
    ],
)
def test_published_parameter_counts(options: dict[str, Any], count: int) -> None:
    with torch.device("meta"):
        model = create_model("lhgnn", size="s", **options)
    assert model.num_parameters() == count


def test_one_spectrogram_in_training_is_refused() -> None:
    with pytest.raises(ModelError, match="two spectrograms"):
        small().train()(torch.randn(1, 96, 32))


def test_shapes_with_and_without_a_channel() -> None:
    model = small().eval()
    x = torch.randn(3, 96, 32)
    with torch.no_grad():
        assert model(x).shape == (3, 4)
        assert model.embed(x).shape == (3, 32)
        torch.testing.assert_close(model(x[:, None]), model(x), atol=0, rtol=0)
    with pytest.raises(ModelError, match=r"\[batch, frames, mels\]"):
        model(x[0])
