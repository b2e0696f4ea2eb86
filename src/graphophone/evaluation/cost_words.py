"""What a run's model costs, as rows of a report's list of facts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_UNITS = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"), (1e3, "thousand"))


def count_words(count: float) -> str:
    """``11.6 million``; small numbers as they are."""
    for size, word in _UNITS:
        if count >= size:
            return f"{count / size:.3g} {word}"
    return f"{count:,.0f}"


def cost_facts(cost: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Parameters and multiplications of encoders and of the network behind them.

    Args:
        cost: What :func:`graphophone.costs.run_cost` gave.
    """
    if not cost:
        return []
    facts = [(f"Encoder of {name}", _encoder(each)) for name, each in cost["encoders"].items()]
    head = cost["head"]
    graph = head["graph"]
    tokens = " and ".join(f"{count:,} of {name}" for name, count in (head["tokens"] or {}).items())
    facts.append(
        (
            "Network behind the encoders",
            f"{count_words(head['parameters']['total'])} parameters. MACs (multiply-accumulate operations; FLOPs are "
            f"twice as many): {count_words(sum(head['dense'].values()))} in dense layers for an utterance"
            f"{f' (with {tokens}, the mean numbers of tokens)' if tokens else ''}, at most "
            f"{count_words(head['utterance'])} to answer for a new one with {head['neighbours']} known neighbours "
            f"(and {count_words(head['search'])} to find them), "
            f"{count_words(graph['macs'])} for one pass over the training graph of {graph['nodes']:,} utterances and "
            f"at most {graph['edges']:,} edges",
        )
    )
    published = cost["published"]
    if published is not None:
        facts.append(
            (
                "As Nguyen et al., Table 5, count",
                f"{count_words(published['macs'])} MACs: the encoders for one utterance and dense layers for all "
                f"{published['test_items']:,} test items in one sum, so that it grows with the test part",
            )
        )
    return facts


def _encoder(each: Mapping[str, Any]) -> str:
    if each["parameters"] is None:
        return "ready vectors" if each["name"] == "given" else f"{each['name']}, which is no network that is counted"
    return (
        f"{each['name']}, {count_words(each['parameters'])} parameters; {count_words(each['macs'])} MACs for "
        f"{each['utterance']}"
    )
