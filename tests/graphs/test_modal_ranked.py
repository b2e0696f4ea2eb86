"""Graphs of modalities that are cut from one ranking are those that are searched for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphophone.graphs import GraphError, modal, modal_ranked
from graphophone.graphs.modal import ModalKNN
from graphophone.graphs.modal_ranked import RankedKNN

WIDTHS = {"text": 3, "audio": 4}


def rows(items: int, seed: int, repeats: bool) -> torch.Tensor:
    """Vectors of two modalities; some lack one, some are equal, some are zero."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(items, 7, generator=generator)
    if repeats:
        x = x.round()  # equal rows, rows of zeros, and ties
    lacking = torch.rand(items, generator=generator)
    x[lacking < 0.15, :3] = torch.nan
    x[lacking > 0.85, 3:] = torch.nan
    return x


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(8, 40),
    st.integers(0, 5),
    st.integers(0, 5),
    st.booleans(),
    st.sampled_from(["in", "symmetric"]),
    st.sampled_from(["diagonal", "rank0"]),
)
@pytest.mark.filterwarnings("ignore:k is")
def test_cut_is_searched(seed, items, k_text, k_audio, repeats, direction, exclusion):
    x, new = rows(items, seed, repeats), rows(7, seed + 1, repeats)
    rules = ModalKNN(1, 1, direction=direction, self_exclusion=exclusion)
    ranked = RankedKNN(rules, {"text": 5, "audio": 5}).at(k_text=k_text, k_audio=k_audio)
    plain = ModalKNN(k_text, k_audio, direction=direction, self_exclusion=exclusion)
    for only in (None, ["audio"]):
        assert torch.equal(ranked.edges_of(x, WIDTHS, only), plain.edges_of(x, WIDTHS, only))
        queries = [new[:, :3], new[:, 3:]] if only is None else [new[:, 3:]]
        assert torch.equal(
            ranked.bank_of(x, WIDTHS, only).edges(queries), plain.bank_of(x, WIDTHS, only).edges(queries)
        )


def test_it_searches_once(monkeypatch):
    x, new = rows(30, 0, False), rows(5, 1, False)
    calls = []

    def counting(part, k, **options):
        calls.append(k)
        return modal.modal_neighbours(part, k, **options)

    monkeypatch.setattr(modal_ranked, "modal_neighbours", counting)
    rules = RankedKNN(ModalKNN(2, 2), {"text": 4, "audio": 3})
    for k_text in range(5):
        at = rules.at(k_text=k_text, k_audio=1)
        at.edges_of(x.clone(), WIDTHS)
        at.bank_of(x, WIDTHS).edges([new[:, :3], new[:, 3:]])
    assert calls == [4, 3]
    rules.edges_of(x + 1, WIDTHS)  # other vectors
    assert len(calls) == 4


def test_what_cannot_be_cut_is_refused():
    rules = RankedKNN(ModalKNN(2, 2), {"text": 4, "audio": 3})
    with pytest.raises(GraphError, match="k_audio is 4, and 3 neighbours are ranked"):
        rules.at(k_audio=4)
    reference = RankedKNN(ModalKNN(1, 1, direction="reference"), {"text": 2})
    with pytest.raises(GraphError, match="hears only itself"):
        reference.bank_of(rows(9, 0, False), WIDTHS)
