"""What ``graphophone predict`` and ``graphophone explain`` do with conversations."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from graphophone.errors import GraphophoneError

if TYPE_CHECKING:
    import pandas as pd

    from graphophone.inference import ConversationExplanation, Recognizer

PREDICT_EXAMPLES = (
    "  graphophone predict runs/rigsl-meld --table turns.csv --output answers.csv     whole conversations\n"
    "  graphophone predict runs/rigsl-meld --table talk.json --online     each turn from those before it\n"
)
EXPLAIN_EXAMPLES = (
    "  graphophone explain runs/rigsl-meld --table turns.csv --dialogue call7     a whole conversation\n"
    "  graphophone explain runs/rigsl-meld --table turns.csv --turn call7_3 --csv why.csv     one of its turns\n"
)
_SHOWN = 6
_WORDS = 40


def add_predict_options(sub: argparse.ArgumentParser) -> None:
    """Those of ``predict`` that are of conversations."""
    sub.add_argument(
        "--online",
        action="store_true",
        help="of conversations: answer for each turn of --table from those before it, and say how long it took",
    )
    sub.add_argument("--max-turns", type=int, default=512, help="turns of a conversation that are heard together (512)")


def add_explain_options(sub: argparse.ArgumentParser) -> None:
    """Those of ``explain`` that are of conversations."""
    sub.add_argument("--table", type=Path, help="conversations to explain, CSV or JSON with a row per turn, as predict")
    sub.add_argument("--dialogue", help="which conversation of the table; not needed where it has one")
    sub.add_argument("--turn", help="which turn, by its id, its position, or its number from 1; all by default")


def answers(recognizer: Recognizer, table: Path, *, online: bool, err: Console) -> pd.DataFrame:
    """Answers for a file of turns; the time that they took is said where each was answered by itself."""
    from graphophone.inference.conversations import online_seconds

    found = recognizer.process_conversation(table, online=online)
    if online and len(found):
        mean, late = online_seconds(found)
        err.print(
            f"{len(found):,} turns, each when it was said: {1000 * mean:.1f} ms per turn in the mean, 95 % within "
            f"{1000 * late:.1f} ms",
            highlight=False,
            soft_wrap=True,
        )
    return found


def explain(options: argparse.Namespace, recognizer: Recognizer, out: Console, err: Console) -> None:
    """Explain a conversation, or a turn of it.

    Raises:
        GraphophoneError: If the options do not go together, or there is no such turn.
    """
    from graphophone.inference import explain_conversation
    from graphophone.inference.conversations import read_table

    if options.path is not None or options.text is not None:
        raise GraphophoneError("--table holds the turns that are explained; leave out the file and --text")
    turns = read_table(options.table)
    explanation = explain_conversation(
        recognizer, turns, dialogue=options.dialogue, turn=options.turn, target=options.target
    )
    target = options.output or Path(f"{options.table.stem}.explained.png")
    explanation.save(target)
    if options.csv:
        explanation.to_frame().to_csv(options.csv, index=False)
    for note in (*map(str, turns.attrs["problems"]), *explanation.notes):
        err.print(note, markup=False, highlight=False, soft_wrap=True)
    _show(explanation, out)
    out.print(f"explanation: {target}", soft_wrap=True, highlight=False)


def _show(explanation: ConversationExplanation, out: Console) -> None:
    """The strongest parts, and how many edges were left."""
    out.print(f"dialogue {explanation.title}", markup=False, highlight=False, soft_wrap=True)
    table = Table("answer", "what adds to it", "said", "probability", box=None)
    reasons = explanation.to_frame()
    if explanation.turn is None:  # that a turn speaks for itself is no news
        reasons = reasons[(reasons["part"] == "turn") & (reasons["source"] != reasons["turn"])]
    for row in reasons.head(_SHOWN).to_dict(orient="records"):
        part = {"turn": "turn {}", "modality": "{} of all turns", "own modality": "{} of this turn"}[row["part"]]
        who = f"{row['speaker']}: " if isinstance(row["speaker"], str) else ""
        said = row["text"] if isinstance(row["text"], str) else ""
        said = said if len(said) <= _WORDS else f"{said[: _WORDS - 1]}…"
        score = f"{100 * row['score']:+.1f} %"
        answer = f"turn {row['turn']}, {row['label']}"
        table.add_row(escape(answer), part.format(row["source"]), escape(f"{who}{said}"), score)
    if table.row_count:
        out.print(table)
    edges = explanation.relations.edges()
    if len(edges):
        out.print(f"{len(edges):,} edges between turns and modalities were left", highlight=False)
