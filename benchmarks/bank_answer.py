"""Answer for one new utterance among known ones, against computing the graph of all anew for it.

A model of text and sound (HemoGAT) keeps what its known utterances show in every layer, ready to be heard. A new one
takes a search for its neighbours and one row in each layer. Without that it would take the edges of all utterances and
itself, and every layer on all of them, for each question. That both give the same numbers (where the new utterance
changes no known one) is checked first.

    python benchmarks/bank_answer.py
    python benchmarks/bank_answer.py --known 1000 --hidden 128 --repeat 50 --csv answers.csv
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from graphophone.graphs.modal import ModalKNN
from graphophone.models import create_model
from graphophone.models.bank import Bank
from graphophone.models.hemogat import HemoGAT

WIDTHS = {"text": 384, "audio": 88}
"""MiniLM and eGeMAPS."""


@dataclass(frozen=True)
class Row:
    """What one setting took.

    Attributes:
        known: Known utterances.
        hidden: Hidden channels of the network.
        threads: Threads of PyTorch.
        ready_s: Seconds to make the known utterances ready, once.
        search_ms: Median milliseconds to find the neighbours of a new one.
        answer_ms: Median milliseconds of an answer, search included.
        anew_ms: Median milliseconds to compute the graph of all anew.
        ratio: How many times faster the answer is.
        states_mb: Megabytes that the known utterances keep.
    """

    known: int
    hidden: int
    threads: int
    ready_s: float
    search_ms: float
    answer_ms: float
    anew_ms: float
    ratio: float
    states_mb: float


def median(call: Callable[[int], object], repeat: int) -> float:
    """Median milliseconds of a call, which is given its number."""
    times = []
    for number in range(repeat):
        began = time.perf_counter()
        call(number)
        times.append(time.perf_counter() - began)
    return 1e3 * sorted(times)[len(times) // 2]


@torch.no_grad()
def measure(known: int, hidden: int, repeat: int, anew: int) -> Row:
    """Time one setting.

    Args:
        known: Known utterances.
        hidden: Hidden channels.
        repeat: Answers.
        anew: Graphs that are computed anew.
    """
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = create_model("hemogat", in_channels=WIDTHS, num_classes=7, hidden_channels=hidden).eval()
    assert isinstance(model, HemoGAT)
    width = sum(WIDTHS.values())
    x, new = torch.randn(known, width), torch.randn(max(repeat, anew) + 1, width)
    rules = ModalKNN(k_text=2, k_audio=8)
    began = time.perf_counter()
    bank = Bank(model, rules, x)
    bank.answer(new[:1])
    ready = time.perf_counter() - began
    check(model, bank, x, new[:1])

    def whole(number: int) -> Tensor:
        joined = torch.cat([x, new[number : number + 1]])
        return model(joined, rules.edges_of(joined, WIDTHS))[-1]

    answer = median(lambda number: bank.answer(new[number + 1 : number + 2]), repeat)
    search = median(lambda number: bank.edges("both", new[number + 1 : number + 2]), repeat)
    computed = median(whole, anew)
    size = sum(part.numel() * part.element_size() for part in bank.states("both"))
    return Row(known, hidden, torch.get_num_threads(), ready, search, answer, computed, computed / answer, size / 1e6)


def check(model: HemoGAT, bank: Bank, x: Tensor, new: Tensor) -> None:
    """That an answer is that of the whole graph with edges to the new utterance."""
    edges = bank.rules.edges_of(x, WIDTHS)
    links = bank.edges("both", new)
    assert isinstance(links, Tensor)
    joined = torch.cat([edges, links + torch.tensor([[0], [len(x)]])], dim=1)
    expected = model(torch.cat([x, new]), joined)[-1:].softmax(dim=1)
    torch.testing.assert_close(bank.answer(new).probabilities, expected, atol=1e-5, rtol=1e-4)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--known", type=int, nargs="+", default=[1000, 10000], help="known utterances")
    parser.add_argument("--hidden", type=int, default=512, help="hidden channels (512)")
    parser.add_argument("--repeat", type=int, default=50, help="answers (50)")
    parser.add_argument("--anew", type=int, default=3, help="graphs computed anew (3)")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch (1)")
    parser.add_argument("--csv", type=Path, help="file to write")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [measure(known, options.hidden, options.repeat, options.anew) for known in options.known]
    for row in rows:
        print(
            f"{row.known:,} known ones, h = {row.hidden}, {row.threads} threads: {row.answer_ms:.1f} ms an answer "
            f"(search {row.search_ms:.1f} ms), the graph anew {row.anew_ms:,.0f} ms: {row.ratio:,.0f} times; "
            f"ready after {row.ready_s:.1f} s, {row.states_mb:.0f} MB"
        )
    if options.csv:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(asdict(rows[0])))
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)


if __name__ == "__main__":
    main()
