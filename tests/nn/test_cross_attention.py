"""Cross-attention against PyTorch's own, and what padding, one key, and a batch do to it."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from graphophone.errors import GraphophoneError
from graphophone.nn.cross_attention import CrossAttention, CrossModalStream, SequenceError, Sequences, length_blocks

WIDE, HEADS = 16, 4


def attention(dropout: float = 0.0) -> CrossAttention:
    torch.manual_seed(0)
    made = CrossAttention(WIDE, HEADS, dropout)
    nn.init.normal_(made.in_proj_bias)
    nn.init.normal_(made.out_proj.bias)
    return made


def example(count: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries and keys, and which of them are real."""
    generator = torch.Generator().manual_seed(1)
    query, memory = torch.randn(count, 6, WIDE, generator=generator), torch.randn(count, 9, WIDE, generator=generator)
    asking = torch.arange(6) < torch.randint(1, 7, (count, 1), generator=generator)
    return query, asking, memory, torch.arange(9) < torch.randint(1, 10, (count, 1), generator=generator)


def test_it_is_multi_head_attention() -> None:
    """With the weights of PyTorch's layer, loaded by name."""
    mine = attention()
    theirs = nn.MultiheadAttention(WIDE, HEADS, batch_first=True)
    theirs.load_state_dict(mine.state_dict())
    query, _, memory, real = example()
    expected, _ = theirs(query, memory, memory, key_padding_mask=~real)
    torch.testing.assert_close(mine(query, memory, real), expected, atol=1e-5, rtol=1e-4)
    expected, _ = theirs(query, memory, memory)
    torch.testing.assert_close(mine(query, memory), expected, atol=1e-5, rtol=1e-4)


def test_it_is_the_equation() -> None:
    """Softmax of scaled products, head by head, written out."""
    mine = attention()
    query, _, memory, real = example(2)
    (wq, wk, wv), (bq, bk, bv) = mine.in_proj_weight.chunk(3), mine.in_proj_bias.chunk(3)
    rows = []
    for q, m, there in zip(query, memory, real, strict=True):
        m = m[there]
        heads = []
        for part in range(HEADS):
            columns = slice(4 * part, 4 * part + 4)
            keys, values = (m @ wk.T + bk)[:, columns], (m @ wv.T + bv)[:, columns]
            weights = ((q @ wq.T + bq)[:, columns] @ keys.T / 2).softmax(dim=1)
            heads.append(weights @ values)
        rows.append(mine.out_proj(torch.cat(heads, dim=1)))
    torch.testing.assert_close(mine(query, memory, real), torch.stack(rows), atol=1e-5, rtol=1e-4)


def test_what_is_padding_does_not_matter() -> None:
    mine = attention()
    query, _, memory, real = example()
    spoilt = torch.where(real[..., None], memory, 1e4)
    torch.testing.assert_close(mine(query, spoilt, real), mine(query, memory, real), atol=1e-6, rtol=0)


def test_the_order_of_keys_does_not_matter() -> None:
    mine = attention()
    query, _, memory, real = example()
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    moved = mine(query, memory[:, order], real[:, order])
    torch.testing.assert_close(moved, mine(query, memory, real), atol=1e-5, rtol=1e-4)


class TestOneKey:
    """Attention to one vector is linear in it."""

    def test_its_weight_is_one(self) -> None:
        mine = attention()
        query, _, memory, _ = example()
        found = mine.single(memory[:, 0])
        torch.testing.assert_close(found, mine(query[:, :1], memory[:, :1])[:, 0], atol=1e-6, rtol=1e-5)
        weight, bias = mine.in_proj_weight[2 * WIDE :], mine.in_proj_bias[2 * WIDE :]
        expected = F.linear(memory[:, 0] @ weight.T + bias, mine.out_proj.weight, mine.out_proj.bias)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)

    def test_queries_and_keys_learn_nothing(self) -> None:
        mine = attention()
        mine.single(example()[2][:, 0]).square().sum().backward()
        for gradient in (mine.in_proj_weight.grad, mine.in_proj_bias.grad):
            assert gradient is not None
            assert gradient[: 2 * WIDE].abs().max() == 0
            assert (gradient[2 * WIDE :].abs() > 0).all()

    def test_dropout_takes_heads(self) -> None:
        mine = attention(0.25).train()
        mine.out_proj.weight.data.copy_(torch.eye(WIDE))
        mine.out_proj.bias.data.zero_()
        memory = torch.randn(2000, WIDE)
        whole = mine.eval().single(memory)
        share = (mine.train().single(memory) / whole).unflatten(1, (HEADS, -1))
        assert ((share - share[..., :1]).abs() < 1e-3).all()
        kept = share[..., 0] > 0.5
        torch.testing.assert_close(share[..., 0], kept / 0.75, atol=1e-3, rtol=0)
        assert abs(float(kept.float().mean()) - 0.75) < 0.02


class TestStream:
    @pytest.fixture
    def stream(self) -> CrossModalStream:
        torch.manual_seed(3)
        return CrossModalStream(WIDE, HEADS, 0.3).eval()

    def test_the_equation(self, stream: CrossModalStream) -> None:
        query, _, memory, _ = example()
        q, m = query[:, 0], memory[:, 0]
        expected = stream.norm(stream.linear(stream.attention(q[:, None], m[:, None])[:, 0]) + q)
        torch.testing.assert_close(stream.pooled(q, m), expected, atol=1e-6, rtol=1e-5)

    def test_tokens_are_averaged_where_they_are_real(self, stream: CrossModalStream) -> None:
        query, asking, memory, real = example()
        found = stream.tokens(query, asking, memory, real)
        for row in range(len(query)):
            q, m = query[row, asking[row]][None], memory[row, real[row]][None]
            expected = stream.norm(stream.linear(stream.attention(q, m)) + q).mean(dim=1)[0]
            torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=1e-4)

    def test_one_token_each_is_pooled(self, stream: CrossModalStream) -> None:
        query, _, memory, _ = example()
        one = torch.ones(len(query), 1, dtype=torch.bool)
        found = stream.tokens(query[:, :1], one, memory[:, :1], one)
        torch.testing.assert_close(found, stream.pooled(query[:, 0], memory[:, 0]), atol=1e-6, rtol=1e-5)

    def test_batch_is_a_sequence_of_utterances(self, stream: CrossModalStream, monkeypatch: pytest.MonkeyPatch) -> None:
        query, memory = example(11)[0][:, 0], example(11)[2][:, 0]
        every = torch.ones(1, 11, dtype=torch.bool)
        attended = stream.attention(query[None], memory[None], every)[0]
        expected = stream.norm(stream.linear(attended) + query)
        torch.testing.assert_close(stream.batch(query, memory), expected, atol=1e-6, rtol=1e-5)
        gradient = torch.autograd.grad(stream.batch(query, memory).sum(), list(stream.parameters()))
        monkeypatch.setattr("graphophone.nn.cross_attention.QUERIES", 4)
        torch.testing.assert_close(stream.batch(query, memory), expected, atol=1e-6, rtol=1e-5)
        again = torch.autograd.grad(stream.batch(query, memory).sum(), list(stream.parameters()))
        torch.testing.assert_close(again, gradient, atol=1e-4, rtol=1e-4)

    def test_only_the_batch_mixes_rows(self, stream: CrossModalStream) -> None:
        query, memory = example()[0][:, 0], example()[2][:, 0]
        other = memory.clone()
        other[1] += 1
        for attend, mixes in ((stream.pooled, False), (stream.batch, True)):
            change = (attend(query, other) - attend(query, memory)).abs().amax(dim=1)
            assert change[1] > 1e-5
            assert bool((change[[0, 2, 3, 4]] > 1e-6).all()) == mixes


class TestSequences:
    def test_padded_and_packed(self) -> None:
        lengths = torch.tensor([2, 4, 1])
        values = torch.randn(3, 5, 2)
        padded = Sequences(values, lengths)
        packed = Sequences(torch.cat([values[0, :2], values[1, :4], values[2, :1]]), lengths)
        assert len(padded) == 3
        assert torch.equal(padded.values, packed.values)
        found, real = packed.padded(torch.tensor([2, 0]))
        assert real.tolist() == [[True, False], [True, True]]
        assert torch.equal(found[real], torch.cat([values[2, :1], values[0, :2]]))
        assert found[~real].eq(0).all()

    @pytest.mark.parametrize(
        ("values", "lengths", "match"),
        [
            (torch.zeros(2, 3, 1), torch.tensor([1, 0]), "sequence 1 has no token"),
            (torch.zeros(2, 3, 1), torch.tensor([1, 4]), "up to 3 tokens"),
            (torch.zeros(2, 3, 1), torch.tensor([1]), "one length for each"),
            (torch.zeros(5, 1), torch.tensor([2, 2]), "add up to 4"),
            (torch.zeros(5), torch.tensor([5]), r"\[N, longest, dims\]"),
        ],
    )
    def test_that_do_not_fit(self, values: Tensor, lengths: Tensor, match: str) -> None:
        with pytest.raises(SequenceError, match=match) as caught:
            Sequences(values, lengths)
        assert "\n" not in str(caught.value)

    def test_heads_that_do_not_fit(self) -> None:
        with pytest.raises(GraphophoneError, match="multiple of 3 heads"):
            CrossAttention(16, 3)


@settings(deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(1, 90))
def test_blocks_hold_every_row_once_and_keep_to_the_budget(lengths: list[int], budget: int) -> None:
    blocks = list(length_blocks(torch.tensor(lengths), budget))
    assert sorted(torch.cat(blocks).tolist()) == list(range(len(lengths)))
    for block in blocks:
        assert len(block) == 1 or len(block) * max(lengths[row] for row in block.tolist()) <= budget
