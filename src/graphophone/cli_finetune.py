"""The command ``graphophone finetune``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from rich.console import Console

EXAMPLES = (
    "  graphophone finetune bert-base-uncased --corpus meld --root data/meld --pooling pooler --output encoders/text\n"
    "  graphophone finetune facebook/wav2vec2-base --corpus iemocap --root data/iemocap --protocol session \\\n"
    "      --fold session1 --output encoders/audio-1 --device cuda\n"
    "  graphophone finetune minilm --corpus meld --root data/meld --output encoders/minilm\n\n"
    "Without labels (objective nt_xent), the two views of an item are brought together: two random pieces of a\n"
    "recording, two copies of a text with words left out. Only the training part is used: the published one, or that\n"
    "of a fold; give the protocol, fold and seed that are evaluated. The same command again goes on where an earlier\n"
    "one was stopped.\n"
)

Add = Callable[[Any, str, Callable[[argparse.Namespace], int], str, str], argparse.ArgumentParser]


def add_command(commands: Any, add: Add, run: Callable[[argparse.Namespace], int], exit_codes: str) -> None:
    """Add the command and its options to the parser."""
    sub = add(
        commands,
        "finetune",
        run,
        "train an encoder of text or speech further on a corpus, for the extractors text_encoder and speech_encoder",
        f"{EXAMPLES}\n{exit_codes}",
    )
    sub.add_argument("model", help="folder or hub id of a text or speech encoder, or minilm")
    sub.add_argument("--corpus", required=True, help="registered corpus")
    sub.add_argument("--root", help="where the corpus is")
    sub.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="an option of that corpus")
    sub.add_argument("--output", required=True, help="folder to write; empty, or of this command stopped earlier")
    sub.add_argument("--revision", help="branch, tag or commit on the hub")
    sub.add_argument("--protocol", help="protocol that is evaluated; the published training part by default")
    sub.add_argument("--fold", help="the split of it whose training part is used")
    sub.add_argument("--protocol-seed", type=int, default=0, help="seed of the evaluation (0)")
    sub.add_argument(
        "--objective", choices=("nt_xent", "ce"), default="nt_xent", help="without labels, or cross-entropy (nt_xent)"
    )
    sub.add_argument("--trainable", type=_layers, default=4, metavar="N|all", help="upper layers that are trained (4)")
    sub.add_argument("--pooling", choices=("mean", "cls", "pooler"), default="mean", help="of texts (mean)")
    sub.add_argument("--max-length", type=int, default=128, help="tokens that are read of a text (128)")
    sub.add_argument("--word-dropout", type=float, default=0.15, help="share of words that a view lacks (0.15)")
    sub.add_argument("--crop", type=float, default=1.0, help="seconds of a view of a recording (1)")
    sub.add_argument("--temperature", type=float, default=0.07, help="of nt_xent (0.07)")
    sub.add_argument(
        "--keep-duplicates",
        dest="mask_duplicates",
        action="store_false",
        help="let equal texts be rivals of each other, as published",
    )
    sub.add_argument("--epochs", type=int, default=10, help="passes over the items, at most (10)")
    sub.add_argument("--batch-size", type=int, default=32, help="items per step (32)")
    sub.add_argument("--learning-rate", type=float, help="2e-5 for text and 1e-4 for audio by default")
    sub.add_argument("--weight-decay", type=float, default=0.01, help="of AdamW (0.01)")
    sub.add_argument(
        "--patience", type=int, default=5, help="epochs without a lower loss before it stops; 0: never (5)"
    )
    sub.add_argument("--seed", type=int, default=42, help="of everything random (42)")
    sub.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    sub.add_argument("--quiet", action="store_true", help="no progress")


def _layers(word: str) -> int | str:
    if word != "all" and not word.isdigit():
        raise argparse.ArgumentTypeError(f"{word!r} is neither a number of layers nor all")
    return word if word == "all" else int(word)


def finetune(options: argparse.Namespace, corpus_options: dict[str, Any], out: Console, err: Console) -> Any:
    """Run the command; what became of it."""
    from graphophone import corpora, finetuning

    corpus = corpora.load(options.corpus, options.root, **corpus_options)
    settings = finetuning.Settings(
        **{field.name: getattr(options, field.name) for field in fields(finetuning.Settings)}
    )
    rows = finetuning.training_rows(corpus, options.protocol, options.fold, options.protocol_seed)

    def report(line: dict[str, float]) -> None:
        if not options.quiet:
            err.print(
                f"epoch {line['epoch']}: loss {line['loss']:.4f}, learning rate {line['learning_rate']:.1e}, "
                f"{line['seconds']:.1f} s",
                highlight=False,
            )

    made = finetuning.finetune(
        options.model,
        corpus,
        options.output,
        settings,
        rows=rows,
        revision=options.revision,
        device=options.device,
        progress=err.is_terminal and not options.quiet,
        report=report,
    )
    seconds = sum(line["seconds"] for line in made.history)
    memory = "" if made.peak_bytes is None else f", {made.peak_bytes / 2**30:.2f} GiB of memory at most"
    out.print(
        f"{made.items:,} items, {made.trained:,} of {made.parameters:,} parameters trained, {len(made.history)} epochs "
        f"in {seconds:.1f} s{memory}; kept epoch {made.best_epoch}, loss {made.history[made.best_epoch]['loss']:.4f}",
        highlight=False,
    )
    pooling = f" --features.pooling {settings.pooling}" if made.modality == "text" else ""
    name = "text_encoder" if made.modality == "text" else "speech_encoder"
    out.print(
        f"encoder: --features.name {name} --features.model {made.folder}{pooling}", soft_wrap=True, highlight=False
    )
    return made
