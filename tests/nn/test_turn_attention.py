"""Attention among turns: its layer against PyTorch's, its bias pair by pair."""

import torch
from torch import nn

from graphophone.nn.turn_attention import TurnAttention, TurnBias


def test_a_layer_is_that_of_pytorch() -> None:
    torch.manual_seed(0)
    layer = TurnAttention(8, 2, 0.0).double()
    stock = nn.TransformerEncoderLayer(
        8, 2, dim_feedforward=16, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).double()
    pairs = {
        "norm": "norm1",
        "qkv": "self_attn.in_proj_",
        "out.0": "self_attn.out_proj",
        "mlp.0": "norm2",
        "mlp.1": "linear1",
        "mlp.4": "linear2",
    }
    state = {}
    for own, theirs in pairs.items():
        for part in ("weight", "bias"):
            name = f"{theirs}{part}" if theirs.endswith("_") else f"{theirs}.{part}"
            state[name] = nn.init.normal_(layer.get_parameter(f"{own}.{part}"), std=0.4)
    stock.load_state_dict(state)
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    bias = torch.randn(3, 2, 5, 5, dtype=torch.float64).masked_fill(torch.rand(3, 2, 5, 5) < 0.2, -torch.inf)
    bias.diagonal(dim1=2, dim2=3).fill_(0.5)
    torch.testing.assert_close(layer(x, bias), stock(x, src_mask=bias.flatten(0, 1)))


def test_the_bias_is_that_of_each_pair() -> None:
    torch.manual_seed(0)
    bias = TurnBias(heads=3, reach=2).double()
    for table in bias.parameters():
        nn.init.normal_(table)
    hears = torch.rand(2, 5, 5) < 0.7
    same = torch.rand(2, 5, 5) < 0.5
    found = bias(hears, same)
    for b, i, j in torch.cartesian_prod(torch.arange(2), torch.arange(5), torch.arange(5)).tolist():
        apart = max(-2, min(2, j - i))
        wanted = bias.distance.weight[apart + 2] + bias.speaker.weight[int(same[b, i, j])]
        if not hears[b, i, j]:
            wanted = torch.full_like(wanted, -torch.inf)
        torch.testing.assert_close(found[b, :, i, j], wanted)
