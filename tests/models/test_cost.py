"""Parameters and multiplications of HemoGAT, against the published sums and against what is counted in a run."""

import functools
from typing import Any

import pytest
import torch
from torch import nn

from graphophone.models import ModelError
from graphophone.models.cost import Cost, count_macs, hemogat_cost
from graphophone.models.hemogat import HemoGAT

PUBLISHED = {"text": 768, "audio": 768}


def create(**options: Any) -> HemoGAT:
    options = {"in_channels": PUBLISHED, "num_classes": 4, "cmt_axis": "pooled", **options}
    return HemoGAT(**options).eval()


def test_the_published_network() -> None:
    with torch.device("meta"):
        cost = hemogat_cost(create(preset="reference"), idle=True)
    assert cost.total_parameters == 11_566_084
    assert sum(cost.dense.values()) == 11_536_384
    # What fvcore says of the test graphs of IEMOCAP and MELD also has normalisations in it, a fifth of a per cent.
    assert cost.as_published(0, 551) == pytest.approx(6.37e9, rel=5e-3)
    assert cost.as_published(0, 2610) == pytest.approx(30.16e9, rel=5e-3)
    assert cost.as_published(17_800_000_000, 551) == pytest.approx(24.17e9, rel=5e-3)  # Table 5


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gnn": "gcn"},
        {"gnn": "sage"},
        {"gnn": "gatv2"},
        {"preset": "reference"},
        {"modality": "text"},
        {"hm_gat": False},
        {"cmt": False},
        {"graph": "typed"},
    ],
    ids=str,
)
def test_dense_layers_of_an_utterance_are_what_a_run_counts(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    wide = {"text": 40, "audio": 24}
    model = create(**{"in_channels": wide, "hidden_channels": 64, **options})
    cost = hemogat_cost(model)
    none = torch.empty(2, 0, dtype=torch.int64)
    edges: Any = {(n, "near", n): none for n in wide} if model.typed else none
    # What three utterances take more than two: products of weights with each other, once in a call, are not in it.
    two, three = (count_macs(functools.partial(model, torch.randn(count, 64), edges)) for count in (2, 3))
    dense = sum(cost.dense.values())
    assert dense <= three - two < 1.15 * dense  # the rest are scores of attention, and what edges carry
    assert cost.total_parameters == model.num_parameters()


def test_tokens() -> None:
    model = create(cmt_axis="tokens", sequence_channels={"text": 32, "audio": 48}, in_channels=PUBLISHED, hm_gat=False)
    cost = hemogat_cost(model, tokens={"text": 7, "audio": 30})
    lengths = {"text": torch.tensor([7]), "audio": torch.tensor([30])}
    sequences = {
        name: (torch.randn(1, int(n), width), n) for (name, n), width in zip(lengths.items(), (32, 48), strict=True)
    }
    found = count_macs(lambda: model(torch.randn(1, 1536), torch.empty(2, 0, dtype=torch.int64), sequences=sequences))
    assert found == pytest.approx(sum(cost.dense.values()), rel=2e-3)
    with pytest.raises(ModelError, match="say how many"):
        hemogat_cost(model)


def test_sums() -> None:
    cost = Cost({"a": 5, "b": 6}, {"graph": 100, "classifier": 10}, per_node=3, per_edge=2, per_pair=1)
    assert cost.total_parameters == 11
    assert cost.graph(4, 9) == 4 * 113 + 9 * 2 + 16
    assert cost.utterance(2) == 110 + 3 * 3 + 3 * 2
    assert cost.as_published(1000, 4) == 1440


def test_counting() -> None:
    layer = nn.Linear(30, 20)
    assert count_macs(lambda: layer(torch.zeros(7, 30))) == 7 * 30 * 20
