"""GLNN: the published sizes, and every option."""

import pytest
import torch
from torch import nn

from graphophone.models import ModelError, create_model
from graphophone.nn.pooling import list_poolings


@pytest.mark.parametrize(("layers", "total"), [(2, 361_252), (3, 409_124), (4, 590_884)])
def test_published_parameter_counts(layers: int, total: int) -> None:
    model = create_model("glnn", in_channels=77, num_classes=4, num_layers=layers)
    assert model.num_parameters() == total
    assert round(total / 1000) == {2: 361, 3: 409, 4: 591}[layers]


@pytest.mark.parametrize(("pooling", "extra"), [("topk", 64), ("weighted", 0), ("meanmax", 64 * 32)])
def test_what_poolings_add(pooling: str, extra: int) -> None:
    model = create_model("glnn", in_channels=77, num_classes=4, pooling=pooling)
    assert model.num_parameters() == 409_124 + extra


def test_layer_norm_counts_as_batch_norm() -> None:
    assert create_model("glnn", in_channels=77, num_classes=4, norm="layer").num_parameters() == 409_124


def graph() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    source = torch.rand(20, 20).argsort(1)[:, :4].sort(1).values
    return torch.randn(20, 5), torch.stack([source.flatten(), torch.arange(20).repeat_interleave(4)])


@pytest.mark.parametrize(
    "options",
    [
        *({"pooling": name} for name in list_poolings()),
        {"norm": "layer"},
        {"norm": "none"},
        {"widths": [8]},
        {"widths": (8, 8), "residual": True},
        {"order": "similarity"},
        {"order": "random"},
        {"dropout": 0.5, "head_dropout": 0.5, "input_dropout": 0.5},
        {"num_layers": 4, "head_width": 8},
    ],
    ids=str,
)
def test_options(options: dict[str, object]) -> None:
    model = create_model("glnn", in_channels=5, num_classes=3, **options)
    x, edge_index = graph()
    model(x, edge_index).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model.eval()
    torch.testing.assert_close(model(x, edge_index), model(x, edge_index), atol=0, rtol=0)


def test_dropout_acts_in_training_only() -> None:
    x, edge_index = graph()
    for option in ("dropout", "head_dropout", "input_dropout"):
        model = create_model("glnn", in_channels=5, num_classes=3, norm="layer", **{option: 0.5})
        assert not torch.equal(model(x, edge_index), model(x, edge_index))
        plain = create_model("glnn", in_channels=5, num_classes=3, norm="layer").eval()
        plain.load_state_dict(model.state_dict())
        torch.testing.assert_close(model.eval()(x, edge_index), plain(x, edge_index), atol=0, rtol=0)


def test_written_out() -> None:
    """The whole network against its equations, with `torch.nn.LSTM`."""
    model = create_model("glnn", in_channels=5, num_classes=3, widths=[6, 4]).double().eval()
    x, edge_index = graph()
    h = x = x.double()
    for conv, norm in zip(model.convs, model.norms, strict=True):
        norm.running_mean.normal_()
        lstm = nn.LSTM(conv.hidden_channels, conv.hidden_channels, batch_first=True).double()
        lstm.load_state_dict(conv.lstm.state_dict())
        projected = h @ conv.project.weight.t() + conv.project.bias
        read = lstm(projected[edge_index[0].view(20, 4)])[1][0][0]
        h = torch.cat([projected, read], 1) @ conv.update.weight.t() + conv.update.bias
        h = ((h - norm.running_mean) / (norm.running_var + norm.eps).sqrt()).clamp(min=0)
    pooled = h.mean(0, keepdim=True)
    torch.testing.assert_close(model.encode(x, edge_index), h)
    torch.testing.assert_close(model.embed(x, edge_index), pooled)
    torch.testing.assert_close(model(x, edge_index), model.classifier(pooled))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"num_layers": 5}, "give widths"), ({"widths": []}, "empty"), ({"norm": "btach"}, "batch, layer, none")],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        create_model("glnn", in_channels=5, num_classes=3, **options)
