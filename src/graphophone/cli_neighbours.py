"""The command ``graphophone neighbours``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

EXAMPLES = (
    "  graphophone neighbours hemogat-mosi --corpus.root data/mosi\n"
    "  graphophone neighbours hemogat-mosi --corpus.root data/mosi --k-text 1..4 --k-audio 0,2,8 --seeds 0 1\n\n"
    "Every pair of numbers is trained with every seed; the one with the best weighted F1 on validation items becomes\n"
    "a run of its own, and only that one is tested. Any key of the recipe can be set, as in train. The same command\n"
    "again goes on where an earlier one was stopped.\n"
)

Add = Callable[[Any, str, Callable[[argparse.Namespace], int], str, str], argparse.ArgumentParser]


def add_command(commands: Any, add: Add, run: Callable[[argparse.Namespace], int], exit_codes: str) -> None:
    """Add the command and its options to the parser."""
    sub = add(
        commands,
        "neighbours",
        run,
        "find by how many neighbours in text and in audio utterances are best joined, as a heat map",
        f"{EXAMPLES}\n{exit_codes}",
    )
    sub.add_argument("recipe", help="name of a shipped recipe whose graph is modal_knn, or a YAML file")
    for name in ("text", "audio"):
        sub.add_argument(
            f"--k-{name}",
            type=numbers,
            default=list(range(1, 11)),
            metavar="1..10",
            help=f"numbers of neighbours by {name}: a range, or numbers with commas (1..10)",
        )
    sub.add_argument("--name", help="prefix of the folder; the recipe's name by default")
    sub.add_argument("--seeds", type=int, nargs="+", help="every cell is trained once per seed")
    sub.add_argument(
        "--select-on",
        choices=("validation", "test"),
        default="validation",
        help="test: choose by test items, as the released code of the paper does; it leaks, and no run is made",
    )
    sub.add_argument("--output", type=Path, default=Path("runs"), help="folder of runs (runs)")
    sub.add_argument("--overwrite", action="store_true", help="discard what the folder holds")
    sub.add_argument("--quiet", action="store_true", help="no progress")


def numbers(words: str) -> list[int]:
    """``"1..4"`` or ``"1,2,8"`` as numbers."""
    found: list[int] = []
    for word in words.split(","):
        parts = re.fullmatch(r"\s*(\d+)(?:\.\.(\d+))?\s*", word)
        first, last = (int(parts[1]), int(parts[2] or parts[1])) if parts else (1, 0)
        if last < first:
            raise argparse.ArgumentTypeError(f"{words!r} is neither a range such as 1..10 nor numbers such as 1,2,8")
        found += range(first, last + 1)
    return sorted(set(found))


def neighbours(options: argparse.Namespace, overrides: Sequence[str], out: Console, err: Console) -> Any:
    """Run the command; the grid."""
    from graphophone.neighbour_grid import MEASURES, neighbour_grid

    grid = neighbour_grid(
        options.recipe,
        overrides,
        k_text=options.k_text,
        k_audio=options.k_audio,
        select_on=options.select_on,
        output=options.output,
        overwrite=options.overwrite,
        progress=not options.quiet,
        console=err,
    )

    def say(line: str) -> None:
        out.print(line, highlight=False, soft_wrap=True, markup=False)

    content = grid.content
    say(
        f"chosen on {content['select_on']} items: {grid.chosen[0]} neighbours by text and {grid.chosen[1]} by audio "
        f"(weighted F1 {100 * content['figures'][content['select_on'] + '_weighted_f1']:.1f} %)"
    )
    if content["leaks"]:
        by = content["by_validation"]
        say(content["note"])
        say(
            f"validation items choose {by['k_text']} and {by['k_audio']}, with {100 * by['test_weighted_f1']:.1f} % on "
            "test items"
        )
    else:
        figures = ", ".join(
            f"{name.replace('_', ' ')} {100 * content['figures'][f'test_{name}']:.1f} %" for name in MEASURES
        )
        say(f"on test items, once: {figures}")
    say(f"table and figure: {grid.folder / 'neighbours.csv'}, neighbours.png")
    if grid.run is not None:
        say(f"report of the chosen cell: {grid.run.report}")
    return grid
