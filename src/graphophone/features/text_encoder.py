"""Sentence vectors and token states of a pretrained text encoder."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from graphophone.features import pretrained
from graphophone.features.base import FeatureError, Level
from graphophone.features.encoder import Encoder
from graphophone.features.text import Encoded, TextExtractor

Pooling = Literal["mean", "pooler", "cls"]

# Texts that are tokenised and sorted together, and tokens (with padding) that go through the network together.
_BLOCK = 8192
_TOKENS = 1024
_LONGEST = 512


class TextEncoder(Encoder, TextExtractor):
    """Vectors of BERT, RoBERTa, MiniLM and their like, from a folder or a hub.

    Weights are frozen. Texts are encoded in batches of similar length, and padding is masked out of attention and of
    the mean. Longer texts are cut at ``max_length`` tokens and noted.

    A folder that ``graphophone finetune`` wrote is taken as any other.

    Args:
        model: A folder that ``save_pretrained`` wrote, or the name of a hub repository.
        revision: Branch, tag or commit of that repository; None for its main branch.
        pooling: ``"mean"`` of the tokens' last states; ``"cls"``: the first token's; ``"pooler"``: that one through
            the trained dense layer and tanh, as published for HemoGAT. RoBERTa's published weights have no pooler.
        max_length: Tokens that are read, with the special ones; None for 512, or what the model takes if that is less.
        sequence: Give the last state of every token, special ones included, in place of one vector.
        digest: Hash of the weights, by which a saved model knows those it was trained with; empty takes any.

    Raises:
        FeatureError: If the options make no sense.

    Shapes:
        - **output:** `[dims]`, with ``sequence`` `[tokens, dims]`; 768 dims for BERT-base
    """

    name = "text_encoder"

    def __init__(
        self,
        *,
        model: str | os.PathLike[str] = "bert-base-uncased",
        revision: str | None = None,
        pooling: Pooling = "mean",
        max_length: int | None = None,
        sequence: bool = False,
        digest: str = "",
    ) -> None:
        if pooling not in ("mean", "pooler", "cls"):
            raise FeatureError(f"pooling: expected 'mean', 'pooler' or 'cls', got {pooling!r}")
        if max_length is not None and max_length < 3:
            raise FeatureError(f"max_length: expected a number of tokens from 3 on, got {max_length}")
        super().__init__(model, revision, digest)
        self._pooling: Pooling = pooling
        self._max_length = max_length
        self._sequence = sequence

    @property
    def level(self) -> Level:
        """``"frame"`` (a row per token) with ``sequence``, else ``"utterance"``."""
        return "frame" if self._sequence else "utterance"

    @property
    def options(self) -> dict[str, Any]:
        """Pooling, length, and whether there is a row per token."""
        return {"pooling": self._pooling, "max_length": self._max_length, "sequence": self._sequence}

    def _encode(self, texts: Sequence[str]) -> Iterator[Encoded]:
        if not texts:
            return
        tokenizer, network = _loaded(str(self.folder), self.digest, self._pooling == "pooler" and not self._sequence)
        longest = self._limit(tokenizer)
        for begin in range(0, len(texts), _BLOCK):
            block = texts[begin : begin + _BLOCK]
            tokens, cut = tokenize(tokenizer, block, longest)
            for batch in by_length(tokens):
                states = self._states(tokenizer, network, [tokens[i] for i in batch])
                for i, features in zip(batch, states, strict=True):
                    notes = (f"cut at {longest} tokens",) if cut[i] else ()
                    yield begin + i, features, notes

    def _limit(self, tokenizer: Any) -> int:
        """Tokens that are read of a text."""
        most = positions(pretrained.read_json(self.folder), tokenizer)
        if self._max_length is not None and self._max_length > most:
            raise FeatureError(f"max_length: {self._model} reads {most} tokens at most, got {self._max_length}")
        return self._max_length or min(most, _LONGEST)

    def _states(self, tokenizer: Any, network: Any, tokens: Sequence[list[int]]) -> list[np.ndarray]:
        import torch

        inputs = tokenizer.pad({"input_ids": list(tokens)}, return_tensors="pt")
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        with torch.inference_mode():
            output = network(input_ids=ids, attention_mask=mask)
            states = output.last_hidden_state
            if self._sequence:
                return [states[row, : len(ids)].numpy().copy() for row, ids in enumerate(tokens)]
            return list(self._finish(pool(states, mask, self._pooling, output)).numpy().copy())

    def _finish(self, vectors: Any) -> Any:
        """What follows pooling: nothing."""
        return vectors


def positions(settings: Mapping[str, Any], tokenizer: Any) -> int:
    """Tokens that a network with these settings can read."""
    count = int(settings.get("max_position_embeddings", _LONGEST))
    if settings.get("model_type") in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        count -= (settings.get("pad_token_id") or 0) + 1  # theirs begin after that of the padding
    return min(count, int(tokenizer.model_max_length))


def pool(states: Any, mask: Any, pooling: Pooling, output: Any) -> Any:
    """One vector per text.

    Args:
        states: Last hidden states `[texts, tokens, dims]`.
        mask: 1 for a token, 0 for padding `[texts, tokens]`.
        pooling: How.
        output: What the network returned; asked for the pooler's.

    Returns:
        `[texts, dims]`.
    """
    if pooling == "pooler":
        return output.pooler_output
    if pooling == "cls":
        return states[:, 0]
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def tokenize(tokenizer: Any, texts: Sequence[str], longest: int) -> tuple[list[list[int]], list[bool]]:
    """Numbers of the tokens of each text, special ones included, and which texts were cut."""
    with pretrained.silent():  # it remarks on long texts, which are cut here
        made = tokenizer(list(texts), truncation=True, max_length=longest, return_attention_mask=False)
        if made.encodings is not None:
            cut = [bool(encoding.overflowing) for encoding in made.encodings]
        else:
            whole = tokenizer(list(texts), return_attention_mask=False)["input_ids"]
            cut = [len(ids) > longest for ids in whole]
    return made["input_ids"], cut


def by_length(tokens: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Numbers of texts in batches of similar length, short ones first, each of so many tokens with its padding."""
    batch: list[int] = []
    for i in sorted(range(len(tokens)), key=lambda i: len(tokens[i])):
        if batch and (len(batch) + 1) * len(tokens[i]) > _TOKENS:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


@functools.lru_cache(maxsize=2)
def _loaded(folder: str, digest: str, pooler: bool) -> tuple[Any, Any]:
    """Tokeniser and network, kept; ``digest`` tells files that were replaced from those before."""
    return load_tokenizer(Path(folder)), pretrained.load_network(Path(folder), pooler=pooler)


def load_tokenizer(folder: Path) -> Any:
    """The tokeniser of a folder.

    Raises:
        FeatureError: If there is none.
    """
    package = pretrained.transformers()
    try:
        with pretrained.silent():
            tokenizer = package.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # what damaged folders raise has no common class
        reason = " ".join(str(error).split())[:200]
        raise FeatureError(f"{folder}: has no usable tokeniser ({reason}); fetch it again") from error
    if tokenizer.pad_token_id is None:
        raise FeatureError(f"{folder}: its tokeniser cannot pad; give a text encoder such as BERT")
    return tokenizer
