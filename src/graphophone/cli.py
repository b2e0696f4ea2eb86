"""The command line: words to calls, errors to one line and an exit code."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from graphophone import __version__, cli_conversations, cli_finetune, cli_neighbours
from graphophone.errors import GraphophoneError

if TYPE_CHECKING:
    import pandas as pd

    from graphophone.corpora.base import Corpus
    from graphophone.features import FeatureSet
    from graphophone.inference import Recognizer, UtteranceExplanation

PROBLEMS_SHOWN = 200  # lines: a copy of AudioSet lacks hundreds of thousands of recordings
KNOWN_SHOWN = 5  # utterances in what explain prints
OK, FAILED, USAGE, PARTIAL, INTERRUPTED = 0, 1, 2, 3, 130

EXIT_CODES = """\
exit codes:
  0  all of it was done
  1  it could not be done; one line says why (--debug shows the traceback)
  2  the words of the command are wrong
  3  done, but some items were left out; they are listed with the reason
  130  interrupted; the same command goes on where it stopped
"""

out = Console()
err = Console(stderr=True)


class _Parser(argparse.ArgumentParser):
    """Wrong words are one line and exit code 2."""

    def error(self, message: str) -> Any:
        self.exit(USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], summary: str, examples: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, parser=parser)
    return parser


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = _Parser(
        prog="graphophone",
        description="Graph neural networks on sound: train, compare, explain and use models of speech and of sounds.",
        epilog=(
            "a first hour:\n"
            "  graphophone demo                                    everything once, on built-in speech\n"
            "  graphophone corpora check folder --root my_corpus   what is in a folder of your own\n"
            "  graphophone train glnn-folder --corpus.root my_corpus\n"
            "  graphophone predict runs/glnn-folder new.wav\n\n" + EXIT_CODES
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"graphophone {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=_Parser)

    sub = _command(
        commands,
        "train",
        run_train,
        "train and test a recipe on every fold and seed, then write the report",
        "  graphophone train glnn-prosody\n"
        "  graphophone train glnn-ravdess --corpus.root data/ravdess --workers 2\n"
        "  graphophone train glnn-ravdess --corpus.root data/ravdess --graph.k 15 --name k15 --folds 0\n"
        "  graphophone train my_recipe.yaml --seeds 0 1 2\n"
        "  graphophone train glnn-ravdess --print_config        the recipe with every key\n\n"
        "Every key of the recipe can be set: --model.pooling max, --training.epochs 40, --protocol.name session.\n"
        "The same command again goes on where an earlier one was stopped.\n\n" + EXIT_CODES,
    )
    sub.add_argument("recipe", help="name of a shipped recipe (see 'graphophone recipes') or a YAML file")
    sub.add_argument("--name", help="name of the run folder; the recipe's own by default")
    sub.add_argument("--seeds", type=int, nargs="+", help="one complete evaluation per seed")
    sub.add_argument("--print_config", action="store_true", help="print the resolved recipe and stop")
    _run_options(sub)

    sub = _command(
        commands,
        "sweep",
        run_sweep,
        "train a recipe once per value of some keys, and compare",
        "  graphophone sweep glnn-ravdess --corpus.root data/ravdess --folds 0 --vary model.pooling=mean,max,weighted\n"
        "  graphophone sweep glnn-prosody --vary graph.k=5,10,15 --vary model.num_layers=2,3",
    )
    sub.add_argument("recipe", help="name of a shipped recipe or a YAML file")
    sub.add_argument("--vary", action="append", required=True, metavar="KEY=A,B,...", help="a key and its values")
    sub.add_argument("--name", help="prefix of the run folders; the recipe's name by default")
    sub.add_argument("--seeds", type=int, nargs="+", help="one complete evaluation per seed")
    _run_options(sub)

    sub = _command(
        commands,
        "evaluate",
        run_evaluate,
        "gather the results of a run, or test its model on another corpus",
        "  graphophone evaluate runs/glnn-ravdess\n"
        "  graphophone evaluate runs/glnn-ravdess --corpus crema_d --root data/crema_d",
    )
    sub.add_argument("folder", type=Path, help="run folder (with --corpus: run or model folder)")
    sub.add_argument("--corpus", help="test the deployed model on this corpus instead")
    sub.add_argument("--root", help="where that corpus is")
    sub.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="an option of that corpus")
    sub.add_argument("--json", action="store_true", help="print the metrics as JSON")

    sub = _command(
        commands,
        "report",
        run_report,
        "write report.html of a run again",
        "  graphophone report runs/glnn-ravdess",
    )
    sub.add_argument("folder", type=Path)

    sub = _command(
        commands,
        "compare",
        run_compare,
        "set runs side by side, as a table and a page",
        "  graphophone compare runs/pool-mean runs/pool-max --output pooling.html",
    )
    sub.add_argument("folders", type=Path, nargs="+", help="run folders")
    sub.add_argument("--output", type=Path, help="HTML page to write")

    sub = _command(
        commands,
        "robustness",
        run_robustness,
        "test a run on noisy copies of its test recordings; of several runs, side by side",
        "  graphophone robustness runs/glnn-ravdess\n"
        "  graphophone robustness runs/glnn-ravdess runs/lhgnn-ravdess --output noise.csv\n"
        "  graphophone robustness runs/glnn-ravdess --noise pink --noise-file factory.wav cockpit.wav --snr 15 5 -5\n"
        "  graphophone robustness runs/lhgnn-esc50 --talkers speech/    babble for a corpus without speakers\n\n"
        "Noise is added before features are computed, to test recordings only. The same command again goes on where\n"
        "an earlier one was stopped.\n\n" + EXIT_CODES,
    )
    sub.add_argument("folders", type=Path, nargs="+", help="run folders")
    sub.add_argument(
        "--noise",
        nargs="*",
        choices=("white", "pink", "babble"),
        default=["white", "pink", "babble"],
        help="noises that need no recording (white pink babble); none after the word for none",
    )
    sub.add_argument(
        "--noise-file", nargs="+", default=[], metavar="FILE", help="recordings of noise, named by the file"
    )
    sub.add_argument("--talkers", nargs="+", default=[], metavar="PATH", help="recordings of speech to make babble of")
    sub.add_argument(
        "--snr", type=float, nargs="+", default=[20.0, 10.0, 5.0, 0.0], help="signal-to-noise ratios in dB (20 10 5 0)"
    )
    sub.add_argument("--seed", type=int, default=0, help="another number draws other noise (0)")
    sub.add_argument("--root", "--corpus.root", dest="root", help="where the corpus is now, if it has moved")
    sub.add_argument("--output", type=Path, help="CSV file for the drops of all runs; the figure is written beside it")
    sub.add_argument("--workers", type=int, help="processes that compute features; all cores by default")
    sub.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    sub.add_argument("--quiet", action="store_true", help="no progress")

    sub = _command(
        commands,
        "predict",
        run_predict,
        "say what is heard in files, or in all files of folders: a class, or tags",
        "  graphophone predict runs/glnn-ravdess one.wav\n"
        "  graphophone predict runs/glnn-ravdess one.wav folder/ --format csv > answers.csv\n"
        "  graphophone predict my_model recordings/ --threshold 0.5 --format json\n"
        "  graphophone predict my_tagger street.wav --top 10\n"
        "  graphophone predict my_tagger recordings/ --tag-threshold 0.3 --no-probabilities --output tags.csv\n"
        '  graphophone predict runs/hemogat-meld one.wav --text "How could you?"\n'
        "  graphophone predict runs/hemogat-meld --table calls.csv --output answers.csv\n"
        f"{cli_conversations.PREDICT_EXAMPLES}\n{EXIT_CODES}",
    )
    sub.add_argument("model", help="run folder, model folder or hub id")
    sub.add_argument("paths", nargs="*", help="audio files and folders of them")
    sub.add_argument("--text", help="what is said in the one file, for a model that reads it; alone: no file needed")
    sub.add_argument(
        "--table",
        type=Path,
        help="CSV with the columns file and, where it is known, text, start, end; of conversations (CSV or JSON, a row "
        "per turn) also dialogue, position, speaker",
    )
    cli_conversations.add_predict_options(sub)
    sub.add_argument("--format", choices=("table", "csv", "json"), help="table, or by the suffix of --output")
    _answer_options(sub)
    sub.add_argument("--max-duration", type=float, default=60.0, help="longest file, in seconds (60); see timeline")
    sub.add_argument("--workers", type=int, help="processes; all cores by default")
    sub.add_argument("--device", default="cpu", help="cpu, cuda, ...")

    sub = _command(
        commands,
        "timeline",
        run_timeline,
        "follow a long recording: what is heard when",
        "  graphophone timeline runs/glnn-ravdess call.wav --window 3 --hop 1\n"
        "  graphophone timeline runs/glnn-ravdess call.wav --segments --format audacity --output call.txt\n"
        "  graphophone timeline my_tagger street.wav --tag-threshold 0.3 --segments --plot street.png",
    )
    sub.add_argument("model", help="run folder, model folder or hub id")
    sub.add_argument("path", type=Path, help="one audio file, of any length")
    sub.add_argument("--window", type=float, help="seconds that each answer hears (the model's own clips, or 3)")
    sub.add_argument("--hop", type=float, help="seconds between answers (half of the model's own clips, or 1)")
    sub.add_argument(
        "--segments",
        action="store_true",
        help="join neighbouring windows with the same label; of tags, those from --tag-threshold (0.5) on",
    )
    sub.add_argument("--gap", type=float, default=0.0, help="join spans of a tag at most so many seconds apart (0)")
    sub.add_argument(
        "--format", choices=("table", "csv", "json", "audacity"), help="table, or by the suffix of --output"
    )
    _answer_options(sub)
    sub.add_argument("--plot", type=Path, help="also draw the likeliest classes over time (.png, .svg, .pdf)")
    sub.add_argument("--device", default="cpu")

    sub = _command(
        commands,
        "explain",
        run_explain,
        "draw which frames, descriptors, frequencies, edges, turns or known recordings carried a decision",
        "  graphophone explain runs/glnn-ravdess one.wav\n"
        "  graphophone explain runs/glnn-ravdess one.wav --target sad --output why_sad.png --csv why_sad.csv\n"
        '  graphophone explain runs/hemogat-meld one.wav --text "How could you?"\n'
        + cli_conversations.EXPLAIN_EXAMPLES,
    )
    sub.add_argument("model", help="run folder, model folder or hub id")
    sub.add_argument("path", type=Path, nargs="?", help="one audio file")
    sub.add_argument("--text", help="what is said in it, for a model that reads it; alone: no file needed")
    cli_conversations.add_explain_options(sub)
    sub.add_argument("--target", help="label to explain; the chosen one by default")
    sub.add_argument("--steps", type=int, default=32, help="steps of the integral (32); more is finer and slower")
    sub.add_argument("--output", type=Path, help="PNG to write; <file>.explained.png here by default")
    sub.add_argument("--csv", type=Path, help="also write the score of each frame, or of each descriptor")
    sub.add_argument("--device", default="cpu")

    sub = _command(
        commands,
        "export",
        run_export,
        "write a model as an ONNX file, checked against the model",
        "  graphophone export my_tagger tagger.onnx               features in, tags out\n"
        "  graphophone export my_tagger tagger.onnx --input wave   sound in, tags out\n\n"
        "A file tagger.json is written beside it: labels, input, front end, versions.",
    )
    sub.add_argument("model", help="run folder, model folder or hub id")
    sub.add_argument("output", type=Path, help="file to write, *.onnx")
    sub.add_argument("--input", choices=("features", "wave"), default="features", help="what it reads (features)")
    sub.add_argument("--opset", type=int, default=18, help="version of ONNX's operators, 18 or newer (18)")

    sub = _command(
        commands,
        "features",
        run_features,
        "extract a corpus' features into the cache, and say how fast it went",
        "  graphophone features is10 --corpus ravdess --root data/ravdess\n"
        "  graphophone features fbank --corpus folder --root my_corpus --workers 2\n"
        "  graphophone features glnn-ravdess --root data/ravdess   all that this recipe's training needs\n"
        "  graphophone features fbank --corpus folder --root my_corpus --constants   what to standardise it with\n"
        "  graphophone features --info          what the cache holds\n"
        "  graphophone features --clear         empty it",
    )
    sub.add_argument(
        "extractor",
        nargs="?",
        help="an extractor, or a recipe; of voices: is10, egemaps, compare, functionals165; of any sound: fbank, "
        "panns_logmel, logmel128, vggish; of speech or text by trained networks: speech_encoder, text_encoder, minilm; "
        "several together: modalities; vectors that the corpus has: given",
    )
    sub.add_argument("--corpus", default="folder", help="registered corpus (folder)")
    sub.add_argument("--root", help="where the corpus is")
    sub.add_argument("--workers", type=int, help="processes; all cores by default")
    sub.add_argument(
        "--constants", action="store_true", help="measure mean, deviation and lengths (of the training part)"
    )
    sub.add_argument("--info", action="store_true", help="say what the cache holds")
    sub.add_argument("--clear", action="store_true", help="empty the cache")

    sub = _command(
        commands,
        "corpora",
        lambda options: (options.parser.print_help(), USAGE)[1],
        "list, check, download and convert corpora",
        "  graphophone corpora list\n"
        "  graphophone corpora check ravdess --root data/ravdess\n"
        "  graphophone corpora check table --root my_corpus.csv --option label=emotion\n"
        "  graphophone corpora download ravdess --root data/ravdess\n"
        "  graphophone corpora convert features_train.pkl features_test.pkl --output my_features",
    )
    actions = sub.add_subparsers(title="actions", metavar="ACTION", parser_class=_Parser)
    _command(actions, "list", run_corpora_list, "list the corpora", "  graphophone corpora list")
    check = _command(
        actions,
        "check",
        run_corpora_check,
        "print classes, speakers, hours, splits and problems by row",
        "  graphophone corpora check ravdess --root data/ravdess\n\n" + EXIT_CODES,
    )
    check.add_argument("corpus", help="registered corpus")
    check.add_argument("--root", help="folder (or table file) of the corpus")
    check.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="an option of the adapter")
    check.add_argument("--fast", action="store_true", help="read the headers only, not the sound")
    check.add_argument("--workers", type=int, help="processes; all cores by default")
    check.add_argument("--json", action="store_true", help="print the result as JSON")
    download = _command(
        actions,
        "download",
        run_corpora_download,
        "fetch a corpus that may be downloaded freely; goes on where it was interrupted",
        "  graphophone corpora download emodb --root data/emodb",
    )
    download.add_argument("corpus")
    download.add_argument("--root", required=True, help="folder to put it in")
    convert = _command(
        actions,
        "convert",
        run_corpora_convert,
        "turn published pickles of features into a table and vectors, without running anything of theirs",
        "  graphophone corpora convert features_train.pkl features_test.pkl --output my_features\n"
        "  graphophone corpora check features --root my_features",
    )
    convert.add_argument("files", nargs="+", metavar="FILE", help="pickles")
    convert.add_argument("--output", required=True, help="folder for items.csv and vectors.safetensors")
    convert.add_argument(
        "--names", action="append", default=[], metavar="A,B,-", help="names of a tuple's members, - to leave one out"
    )
    convert.add_argument("--rename", action="append", default=[], metavar="THEIRS=OURS", help="another name")
    convert.add_argument("--classes", default="", metavar="A,B", help="names of labels that are numbers from 0")
    convert.add_argument(
        "--layout", metavar="NAME", help="instead of these: a known arrangement, rigsl-iemocap or rigsl-meld"
    )

    cli_finetune.add_command(commands, _command, run_finetune, EXIT_CODES)
    cli_neighbours.add_command(commands, _command, run_neighbours, EXIT_CODES)

    for name, summary in (
        ("models", "list the models and how many parameters they have"),
        ("recipes", "list the shipped recipes"),
    ):
        _command(commands, name, run_models if name == "models" else run_recipes, summary, f"  graphophone {name}")

    sub = _command(
        commands,
        "demo",
        run_demo,
        "train, test, use and explain a model on built-in speech; ten minutes at most",
        "  graphophone demo",
    )
    sub.add_argument("--output", type=Path, default=Path("runs"), help="folder of runs (runs)")
    return parser


def _answer_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--output", type=Path, help="file to write instead of standard output")
    sub.add_argument("--threshold", type=float, help="say 'unsure' below this confidence (0 to 1)")
    sub.add_argument("--top", type=int, help="name so many tags or classes, the likeliest first (5 for tagging models)")
    sub.add_argument("--tag-threshold", type=float, help="name only tags or classes from this probability on (0 to 1)")
    sub.add_argument(
        "--no-probabilities", action="store_true", help="leave the probability of every class out of CSV and JSON"
    )


def _run_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--output", type=Path, default=Path("runs"), help="folder of runs (runs)")
    sub.add_argument("--folds", type=int, nargs="+", help="numbers of the folds to do now; all by default")
    sub.add_argument("--workers", type=int, default=1, help="trainings at the same time (1)")
    sub.add_argument("--overwrite", action="store_true", help="discard what the run folder holds")
    sub.add_argument("--quiet", action="store_true", help="no progress")


def _overrides(options: argparse.Namespace) -> list[str]:
    words = list(options.overrides)
    if options.name:
        words += ["--name", options.name]
    if options.seeds:
        words += ["--seeds", json.dumps(options.seeds)]
    return words


def run_train(options: argparse.Namespace) -> int:
    """``graphophone train``."""
    from graphophone.recipes import load_recipe

    recipe = load_recipe(options.recipe, _overrides(options))
    if options.print_config:
        sys.stdout.write(recipe.to_yaml())
        return OK
    from graphophone import runs

    run = runs.train(
        recipe,
        output=options.output,
        folds=options.folds,
        workers=options.workers,
        overwrite=options.overwrite,
        progress=not options.quiet,
        console=err,
    )
    _show_run(run)
    return _show_problems(run.problems)


def run_sweep(options: argparse.Namespace) -> int:
    """``graphophone sweep``."""
    import itertools

    from graphophone import runs
    from graphophone.evaluation.comparison import compare, write_comparison
    from graphophone.recipes import load_recipe

    varied: dict[str, list[str]] = {}
    for words in options.vary:
        key, equals, values = words.partition("=")
        parts = re.split(r",(?![^\[]*\])", values)  # a comma within [...] belongs to a list
        if not equals or not all(parts):
            options.parser.error(f"--vary takes KEY=A,B,...; not {words!r}")
        varied[key] = parts
    base = options.name or load_recipe(options.recipe, options.overrides).name
    recipes = []
    for values in itertools.product(*varied.values()):
        pairs = list(zip(varied, values, strict=True))
        words = [*_overrides(options), *(f"--{key}={value}" for key, value in pairs)]
        label = "-".join(f"{key.split('.')[-1]}-{re.sub('[^a-zA-Z0-9.+=_-]+', '_', value)}" for key, value in pairs)
        recipes.append(load_recipe(options.recipe, [*words, "--name", f"{base}-{label}"]))
    finished: list[Path] = []
    problems: dict[tuple[str, str], Any] = {}
    for recipe in recipes:
        err.rule(recipe.name)
        run = runs.train(
            recipe,
            output=options.output,
            folds=options.folds,
            workers=options.workers,
            overwrite=options.overwrite,
            progress=not options.quiet,
            console=err,
        )
        finished.append(run.folder)
        problems |= {(problem.item, problem.reason): problem for problem in run.problems}
    page = write_comparison(finished, options.output / f"{base}-{'-'.join(varied)}.html")
    _show_comparison(compare(finished))
    out.print(f"comparison: {page}", soft_wrap=True)
    return _show_problems(list(problems.values()))


def run_evaluate(options: argparse.Namespace) -> int:
    """``graphophone evaluate``."""
    if options.corpus:
        return _evaluate_elsewhere(options)
    from graphophone import runs

    run = runs.evaluate(options.folder)
    if options.json:
        sys.stdout.write(json.dumps(run.metrics, indent=2) + "\n")
    else:
        _show_run(run)
    return OK


def _evaluate_elsewhere(options: argparse.Namespace) -> int:
    """The deployed model on a corpus that it was not trained on."""
    from graphophone import corpora
    from graphophone.evaluation.elsewhere import evaluate_elsewhere
    from graphophone.evaluation.measures import measures_of
    from graphophone.evaluation.page import listed
    from graphophone.inference import Recognizer

    recognizer = Recognizer.from_pretrained(options.folder, progress=not options.json)
    corpus = corpora.load(options.corpus, options.root, **_corpus_options(options))
    found = evaluate_elsewhere(recognizer, corpus)
    measured = found.metrics
    if options.json:
        sys.stdout.write(json.dumps(measured, indent=2) + "\n")
    else:
        trained = recognizer.bundle.corpus.get("name", "another corpus")
        if trained == corpus.name:
            out.print(
                f"[yellow]the model was trained on items of {trained}: on these it is no test. The honest figures are "
                f"those of the run (graphophone evaluate {options.folder})[/yellow]"
            )
        # The facts of the corpus that is heard, by the kind of answers that the model gives.
        facts = {"corpus": {"name": corpus.name}}
        measures = measures_of(facts, kind="tagging" if recognizer.bundle.kind == "tagging" else "classification")
        figures = ", ".join(f"{m.short} {m.say(measured[m.key])}" for m in (measures.main, measures.second))
        noun = "tags" if measures.kind == "tagging" else "labels"
        out.print(
            f"{measured['n']} items of {corpus.name} with the {noun} {listed(found.shared, 20)}, by a model of "
            f"{trained}: {figures}",
            highlight=False,
        )
        if measured.get("excluded"):
            out.print(f"left out of the means, without a positive item: {listed(measured['excluded'], 20)}")
    return _show_problems(found.failures)


def run_report(options: argparse.Namespace) -> int:
    """``graphophone report``."""
    from graphophone import runs

    out.print(f"report: {runs.evaluate(options.folder).report}", soft_wrap=True)
    return OK


def run_compare(options: argparse.Namespace) -> int:
    """``graphophone compare``."""
    from graphophone.evaluation.comparison import compare, write_comparison

    _show_comparison(compare(options.folders))
    if options.output:
        out.print(f"comparison: {write_comparison(options.folders, options.output)}", soft_wrap=True)
    return OK


def run_robustness(options: argparse.Namespace) -> int:
    """``graphophone robustness``."""
    from graphophone.evaluation.noise_comparison import compare_drops
    from graphophone.evaluation.noise_section import noise_section
    from graphophone.evaluation.results import RunResults
    from graphophone.robustness import robustness

    problems: dict[tuple[str, str], Any] = {}
    for folder in options.folders:
        if len(options.folders) > 1 and not options.quiet:
            err.rule(str(folder))
        found = robustness(
            folder,
            noises=options.noise,
            noise_files=options.noise_file,
            talkers=options.talkers,
            snrs=options.snr,
            seed=options.seed,
            root=options.root,
            workers=options.workers,
            device=options.device,
            progress=not options.quiet,
            console=err,
        )
        problems |= {(problem.item, problem.reason): problem for problem in found.problems}
    if len(options.folders) == 1:
        section = noise_section(RunResults.read(options.folders[0]))
        assert section is not None  # noqa: S101 - it was written above
        out.print(section["caption"], highlight=False, soft_wrap=True)
        _show_cells(["noise", *section["columns"]], [[row["name"], *row["cells"]] for row in section["rows"]])
        for line in (section["words"], *section["notes"]):
            out.print(line, markup=False, highlight=False, soft_wrap=True)
        out.print(f"table and figure: {options.folders[0] / 'robustness.csv'}, figures/robustness.png", soft_wrap=True)
    comparison = compare_drops(options.folders)
    if len(options.folders) > 1:
        out.print(comparison.title, highlight=False)
        _show_cells(comparison.columns, comparison.rows)
        for line in comparison.notes:
            out.print(line, markup=False, highlight=False, soft_wrap=True)
    if options.output:
        table, figure = comparison.save(options.output)
        out.print(f"drops: {table}, figure: {figure}", soft_wrap=True)
    return _show_problems(list(problems.values()))


def _write_answers(answers: pd.DataFrame, options: argparse.Namespace) -> None:
    """As the options of ``predict`` and ``timeline`` say.

    Of no answer there is no table for people to read; programs get the form that they expect.
    """
    from graphophone.inference.output import write_answers

    suffix = options.output.suffix.lower() if options.output else ""
    format = options.format or {".csv": "csv", ".json": "json"}.get(suffix, "table")
    if answers.empty and format == "table":
        return
    write_answers(answers, format, options.output, probabilities=not options.no_probabilities)


def _answers(recognizer: Recognizer, options: argparse.Namespace) -> pd.DataFrame:
    """Answers for what ``predict`` was given: files, one file with its text, a text, or a table.

    Raises:
        GraphophoneError: If these do not go together.
    """
    if options.online and not (options.table and recognizer.bundle.reads_dialogue):
        raise GraphophoneError("--online is for conversations: a model that hears them, and their turns in --table")
    if options.table is not None:
        if options.paths or options.text is not None:
            raise GraphophoneError("--table names all that is asked for; leave out the files and --text")
        if recognizer.bundle.reads_dialogue:
            return cli_conversations.answers(recognizer, options.table, online=options.online, err=err)
        from graphophone.corpora.table import read_table

        table, lines, problems = read_table(options.table)
        for column in ("file", "audio"):
            if column in table:
                table[column] = [_beside(options.table, name) for name in table[column]]
        answers = recognizer.process_table(table)
        for kind in ("failures", "warnings"):  # by the lines of the file
            answers.attrs[kind] = [replace(problem, row=lines[problem.row]) for problem in answers.attrs[kind]]
        answers.attrs["failures"] = [*problems, *answers.attrs["failures"]]
        if "id" in table:
            answers.insert(0, "id", table["id"])
        return answers
    if options.text is None:
        if not options.paths:
            raise GraphophoneError("there is nothing to answer for: give files, --text or --table")
        return recognizer.process_files(options.paths)
    if len(options.paths) > 1 or any(Path(path).is_dir() for path in options.paths):
        raise GraphophoneError("--text is what is said in one file; for several give --table with a column text")
    if options.paths:
        return recognizer.process_file(options.paths[0], text=options.text)
    return recognizer.process_text(options.text)


def _beside(table: Path, name: Any) -> Any:
    """A file of a table, whose path is relative to it."""
    return str(table.parent / name) if isinstance(name, str) and name.strip() else name


def run_predict(options: argparse.Namespace) -> int:
    """``graphophone predict``."""
    from graphophone.inference import Recognizer

    recognizer = Recognizer.from_pretrained(
        options.model,
        device=options.device,
        threshold=options.threshold,
        top=options.top,
        tag_threshold=options.tag_threshold,
        max_duration=options.max_duration,
        workers=options.workers,
        progress=err.is_terminal,
        max_turns=options.max_turns,
    )
    answers = _answers(recognizer, options)
    _write_answers(answers, options)
    failures = answers.attrs["failures"]
    code = _show_problems([*failures, *answers.attrs["warnings"]])
    return FAILED if failures and answers.empty else code


def run_timeline(options: argparse.Namespace) -> int:
    """``graphophone timeline``."""
    from graphophone.inference import Recognizer, timeline
    from graphophone.inference.timelines import segments

    recognizer = Recognizer.from_pretrained(
        options.model,
        device=options.device,
        threshold=options.threshold,
        top=options.top,
        tag_threshold=options.tag_threshold,
    )
    windows = timeline(recognizer, options.path, window=options.window, hop=options.hop, progress=err.is_terminal)
    answers = segments(windows, gap=options.gap) if options.segments else windows
    _write_answers(answers, options)
    if options.plot:
        from graphophone.inference.timeline_picture import save_timeline

        save_timeline(windows, options.plot)
    return _show_problems(windows.attrs.get("failures", []))


def run_explain(options: argparse.Namespace) -> int:
    """``graphophone explain``."""
    from graphophone.inference import Recognizer, UtteranceExplanation, explain

    recognizer = Recognizer.from_pretrained(options.model, device=options.device)
    if options.table is not None:
        cli_conversations.explain(options, recognizer, out, err)
        return OK
    if options.turn is not None or options.dialogue is not None:
        raise GraphophoneError("--turn and --dialogue name what is explained of --table; give it, too")
    explanation = explain(recognizer, options.path, target=options.target, text=options.text, steps=options.steps)
    target = options.output or Path(f"{options.path.stem if options.path else 'text'}.explained.png")
    explanation.save(target)
    if options.csv:
        explanation.to_frame().to_csv(options.csv, index=False)
    what = options.path or repr(options.text)
    out.print(f"{what}: {explanation.label} ({100 * explanation.probability:.0f} %)", soft_wrap=True, markup=False)
    if isinstance(explanation, UtteranceExplanation):
        _show_reasons(explanation)
    out.print(f"explanation: {target}", soft_wrap=True)
    return OK


def _show_reasons(explanation: UtteranceExplanation) -> None:
    """What text and sound contributed, and the known utterances that pulled most."""
    table = Table("from", "log-odds", "by itself", box=None)
    found = explanation.modalities
    for name, score, alone in zip(found["modality"], found["score"], found["alone"], strict=True):
        table.add_row(name, f"{score:+.2f}", "" if alone != alone else f"{100 * alone:.0f} %")
    if not explanation.references.empty:
        table.add_row("known utterances", f"{explanation.references['score'].sum():+.2f}", "")
    out.print(table)
    if explanation.references.empty:
        return
    table = Table("known utterance", "label", "near by", "log-odds", box=None)
    known = explanation.references.head(KNOWN_SHOWN)
    columns = (known[name] for name in ("recording", "label", "label_is", "near_by", "score"))
    for name, label, kind, near, score in zip(*columns, strict=True):
        table.add_row(escape(name), escape(label) + (" (predicted)" if kind != "true" else ""), near, f"{score:+.2f}")
    out.print(table)


def run_export(options: argparse.Namespace) -> int:
    """``graphophone export``."""
    from graphophone.inference.export import export_onnx

    exported = export_onnx(options.model, options.output, input=options.input, opset=options.opset)
    out.print(f"model:       {exported.path} ({exported.path.stat().st_size / 1e6:.1f} MB)", soft_wrap=True)
    out.print(f"description: {exported.sidecar}", soft_wrap=True)
    clips = exported.description["verified"]["clips"]
    if exported.undecided < clips:
        out.print(
            f"checked: the logits differ from the model's by {exported.difference:.1e} at most on "
            f"{clips - exported.undecided} of {clips} clips of noise and sound",
            highlight=False,
            soft_wrap=True,
        )
    if exported.undecided:
        out.print(
            f"on {exported.undecided} of {clips} clips the model hangs on rounding (a choice between nearly equal "
            f"neighbours): there the logits differ by up to {exported.share:.1%} of the largest",
            highlight=False,
            soft_wrap=True,
        )
    return OK


def run_features(options: argparse.Namespace) -> int:
    """``graphophone features``."""
    from graphophone import corpora
    from graphophone.features import EXTRACTORS, FeatureCache, FeaturePipeline, create_extractor

    cache = FeatureCache()
    if options.clear or options.info:
        found = cache.clear() if options.clear else cache.info()
        out.print(
            f"{'removed' if options.clear else 'the cache holds'} {found.entries} entries, {found.bytes / 1e6:.1f} MB: "
            f"{found.folder}",
            soft_wrap=True,
            highlight=False,
        )
        return OK
    if not options.extractor:
        options.parser.error("name an extractor or a recipe, or give --info or --clear")
    if options.extractor not in EXTRACTORS:
        return _recipe_features(options)
    if options.overrides:
        options.parser.error(f"unknown option {options.overrides[0]!r}; overrides go with a recipe")
    pipeline = FeaturePipeline(create_extractor(options.extractor))
    corpus = corpora.load(options.corpus, options.root)
    features = pipeline.extract(corpus, cache=cache, workers=options.workers)
    stats = features.stats
    _show_speed(stats.items, stats.cached, stats.seconds_audio, stats.seconds_extracted, stats.seconds_wall)
    if options.constants and len(features):
        _show_constants(features, corpus)
    code = _show_problems([*corpus.problems, *features.failures, *features.notes])
    return code if len(features) else FAILED


def _recipe_features(options: argparse.Namespace) -> int:
    """Everything that a training of a recipe will look for in the cache."""
    from graphophone import runs
    from graphophone.recipes import load_recipe

    words = [*options.overrides, *(["--corpus.root", options.root] if options.root else [])]
    recipe = load_recipe(options.extractor, words)
    prepared = runs.prepare(recipe, workers=options.workers)
    for version, speed in zip(prepared.versions, (1.0, *recipe.augment.speeds), strict=True):
        stats = version.stats
        out.print(f"speed {speed:g}: ", end="", highlight=False)
        _show_speed(stats.items, stats.cached, stats.seconds_audio, stats.seconds_extracted, stats.seconds_wall)
    if options.constants:
        _show_constants(prepared.features, prepared.corpus)
    return _show_problems(prepared.corpus.problems)


def _show_constants(features: FeatureSet, corpus: Corpus) -> None:
    """Constants of the training part (of a corpus without one: of all of it), as lines of a recipe."""
    from graphophone.features.constants import measure

    rows = None
    if "split" in corpus.table:
        parts = corpus.table["split"].to_numpy()[features.rows]
        rows = (parts == "train").nonzero()[0]
    found = measure(features, rows)
    part = "" if rows is None else " of the training part"
    out.print(
        f"{found.clips} clips{part}, {found.frames} frames: mean {found.mean:.6g}, deviation {found.std:.6g}\n"
        f"frames of a clip: {found.shortest} to {found.longest}, {found.median} in the middle; "
        f"{found.suggested} hold {100 * found.whole:.1f} % of the clips whole\n"
        "in the recipe of a model that reads spectrograms:\n"
        f"  features: {{frames: {found.suggested}}}\n"
        f"  standardize: {{per: corpus, mean: {found.mean:.6g}, std: {found.std:.6g}}}",
        highlight=False,
        soft_wrap=True,
    )


def _show_speed(items: int, cached: int, sound: float, extracted: float, wall: float) -> None:
    """How many items there are, how many were cached, and how fast the others went."""
    text = f"{items} items, {sound / 3600:.2f} h of sound: " if sound else f"{items} items: "
    if items == cached:
        text += "all of it was cached"
    else:
        text += f"{cached} were cached, the others took {wall:.1f} s"
        text += f" ({extracted / wall:.0f} times faster than real time)" if extracted else ""
    out.print(text, highlight=False, soft_wrap=True)


def run_corpora_list(options: argparse.Namespace) -> int:
    """``graphophone corpora list``."""
    from graphophone import corpora

    table = Table("corpus", "what it reads", box=None)
    for name in corpora.list_corpora():
        table.add_row(name, _first_sentence(corpora.CORPORA.get(name)))
    out.print(table)
    return OK


def run_corpora_check(options: argparse.Namespace) -> int:
    """``graphophone corpora check``."""
    from graphophone import corpora

    corpus = corpora.load(options.corpus, options.root, **_corpus_options(options))
    report = corpora.check(corpus, decode=not options.fast, workers=options.workers, progress=err.is_terminal)
    if options.json:
        sys.stdout.write(json.dumps(report.to_dict(), indent=2) + "\n")
    else:
        report.render(out)
    return PARTIAL if any(problem.severity == "error" for problem in report.problems) else OK


def _corpus_options(options: argparse.Namespace) -> dict[str, Any]:
    """``--option KEY=VALUE`` words, typed by the adapter's own signature."""
    from graphophone.recipes import corpus_options

    for words in options.option:
        if "=" not in words:
            options.parser.error(f"--option takes KEY=VALUE, not {words!r}")
    return corpus_options(options.corpus, dict(words.split("=", 1) for words in options.option))


def run_corpora_download(options: argparse.Namespace) -> int:
    """``graphophone corpora download``."""
    from graphophone import corpora

    out.print(f"{options.corpus} is in {corpora.download(options.corpus, options.root)}", soft_wrap=True)
    return OK


def run_corpora_convert(options: argparse.Namespace) -> int:
    """``graphophone corpora convert``."""
    from graphophone.corpora.published import convert

    for words in options.rename:
        if "=" not in words:
            options.parser.error(f"--rename takes THEIRS=OURS, not {words!r}")
    made = convert(
        options.files,
        options.output,
        names=[words.split(",") for words in options.names],
        rename=dict(words.split("=", 1) for words in options.rename),
        classes=options.classes.split(",") if options.classes else (),
        layout=options.layout,
    )
    vectors = ", ".join(f"{name} of {array.shape[1]} numbers" for name, array in made.vectors.items())
    text = (
        f"{options.output}: {len(made.table):,} items with {vectors}; columns {', '.join(map(str, made.table.columns))}"
    )
    for line in (text, *made.notes):
        out.print(line, highlight=False, markup=False, soft_wrap=True)
    for what in made.left_out:
        err.print(f"left out: {what}", highlight=False, soft_wrap=True)
    return OK


def run_neighbours(options: argparse.Namespace) -> int:
    """``graphophone neighbours``."""
    grid = cli_neighbours.neighbours(options, _overrides(options), out, err)
    return _show_problems(grid.run.problems if grid.run is not None else ())


def run_finetune(options: argparse.Namespace) -> int:
    """``graphophone finetune``."""
    made = cli_finetune.finetune(options, _corpus_options(options), out, err)
    return _show_problems(made.problems)


def run_models(options: argparse.Namespace) -> int:
    """``graphophone models``."""
    import torch

    from graphophone.errors import MissingDependencyError
    from graphophone.models import MODELS, create_model, list_models

    vectors = {"in_channels": 77, "num_classes": 4}
    table = Table("model", "reads a", "parameters", "what it is", box=None)
    for name in list_models():
        made: Any = MODELS.get(name)
        sizes: dict[str, Any] = {"num_classes": 527} if made.reads == "spectrogram" else vectors
        if modalities := getattr(made, "modalities", ()):
            sizes = {**vectors, "in_channels": dict.fromkeys(modalities, vectors["in_channels"])}
        try:
            with torch.device("meta"):  # of some models, filling the weights would take seconds
                count = f"{sum(p.numel() for p in create_model(name, **sizes).parameters()):,}"
        except MissingDependencyError as error:
            count = str(error)
        table.add_row(name, made.reads, count, _first_sentence(made))
    out.print(table)
    out.print(
        "Parameters: of spectrograms with the defaults and 527 classes, of all else with 77 inputs (of each modality) "
        "and 4 classes."
    )
    return OK


def run_recipes(options: argparse.Namespace) -> int:
    """``graphophone recipes``."""
    from graphophone.recipes import list_recipes

    table = Table("recipe", "what it is", box=None)
    for name, description in list_recipes().items():
        table.add_row(name, description)
    out.print(table)
    return OK


def run_demo(options: argparse.Namespace) -> int:
    """``graphophone demo``."""
    from graphophone import corpora, runs
    from graphophone.inference import Recognizer, explain

    started = time.perf_counter()
    run = runs.train("glnn-prosody", output=options.output, workers=min(2, os.cpu_count() or 1), console=err)
    _show_run(run)
    recognizer = Recognizer.from_pretrained(run.folder)
    corpus = corpora.load("prosody")
    sample = corpus.table.groupby("label", sort=False).head(1)
    answers = recognizer.process_table(sample).assign(truth=sample["label"])
    out.print("\n[bold]predict[/bold]: one utterance of each class")
    _show_frame(
        answers[["file", "truth", "label", "confidence"]].assign(file=lambda t: t["file"].map(lambda p: Path(p).name))
    )
    picture = run.folder / "figures" / "explanation.png"
    explain(recognizer, answers["file"].iloc[0]).save(picture)
    out.print(f"\n[bold]explain[/bold]: {picture}", soft_wrap=True)
    out.print(f"[bold]report[/bold]:  {run.report}", soft_wrap=True)
    out.print(f"[bold]model[/bold]:   {run.model}", soft_wrap=True)
    out.print(f"in all {time.perf_counter() - started:.0f} s")
    return _show_problems(run.problems)


def _first_sentence(part: Any) -> str:
    """First line of a docstring."""
    return (part.__doc__ or "").strip().partition("\n")[0]


def _show_frame(frame: pd.DataFrame) -> None:
    table = Table(box=None)
    for name in frame.columns:
        table.add_column(str(name), justify="right" if frame[name].dtype.kind in "fi" else "left", overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row))
    out.print(table)


def _show_cells(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table whose first column holds names and whose others hold numbers."""
    table = Table(box=None)
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    out.print(table)


def _show_comparison(frame: pd.DataFrame) -> None:
    """The columns of a comparison that fit a terminal; the page and its CSV hold the others."""
    from graphophone.evaluation.comparison import short_names
    from graphophone.evaluation.measures import DASH

    keys = [name for name in frame.columns if "." in name]
    shown = frame[["run", *keys, "parameters"]].copy()
    shown["run"] = short_names([*frame["run"]], keys)
    for key in keys:
        if shown[key].dtype == object:
            shown[key] = [DASH if value is None else value for value in shown[key]]
    measures = frame.attrs["measures"]
    for measure in (measures.main, measures.second):
        means, deviations = frame[measure.key], frame[f"{measure.key}_sd"]
        shown[f"{measure.short}{measure.unit}"] = [
            measure.write(None if mean != mean else mean) + (f" ± {measure.write(sd)}" if sd == sd else "")
            for mean, sd in zip(means, deviations, strict=True)
        ]
    selection = measures.selection
    validation = frame[f"validation_{selection.key}"]
    if validation.notna().any():
        shown[f"val. {selection.short}{selection.unit}"] = [
            selection.write(None if value != value else value) for value in validation
        ]
    shown["s/epoch"] = [f"{value:.1f}" for value in frame["seconds_per_epoch"]]
    _show_frame(shown.rename(columns={key: key.rpartition(".")[2] for key in keys}))
    if not frame["complete"].all():
        out.print("[yellow]not all folds and seeds of every run are trained yet[/yellow]")


def _show_run(run: Any) -> None:
    """The figures of a run, per fold and in all."""
    from graphophone.evaluation.results import measures_of_folder
    from graphophone.evaluation.statistics import Estimate

    measures = measures_of_folder(run.folder)
    main, second, selection = measures.main, measures.second, measures.selection
    folds = run.metrics["folds"]
    validated = any(fold.get("validation") for fold in folds)
    columns = [f"{m.short}{m.unit}" for m in (main, second)]
    chosen = [f"validation {selection.short}{selection.unit}", "epoch kept"] if validated else []
    table = Table("fold", "seed", *columns, *chosen, "s/epoch", box=None)
    for fold in folds:
        held = fold.get("validation") or {}
        table.add_row(
            fold["fold"],
            str(fold["seed"]),
            *(m.write(fold[m.key]) for m in (main, second)),
            *([selection.write(held.get(selection.key)), str(fold["best_epoch"] + 1)] if validated else []),
            f"{fold['seconds_per_epoch']:.1f}",
        )
    out.print(table)
    if not validated:
        out.print("there were no validation items: nothing was selected")
    for measure in (main, second):
        if run.metrics[measure.key] is None:
            continue
        seeds = Estimate.from_dict(run.metrics[measure.key])
        spread = f", sd over seeds {measure.write(seeds.sd)}" if seeds.sd is not None else ""
        over = ""
        if run.metrics["over_folds"][measure.key] is not None:
            mean = Estimate.from_dict(run.metrics["over_folds"][measure.key])
            over = f"; mean over folds {measure.spread(mean)}"
        pooled = "test items of all folds pooled" if run.metrics["complete"] else "test items so far"
        out.print(f"{measure.short} {measure.say(seeds.mean)} ({pooled}{spread}{over})", highlight=False)
    excluded = run.metrics["pooled"].get("excluded")
    if excluded:
        from graphophone.evaluation.page import listed

        out.print(f"[yellow]left out of the means, without a positive test item: {listed(excluded, 20)}[/yellow]")
    if not run.metrics["complete"]:
        out.print("[yellow]some folds or seeds are not trained yet: these figures are provisional[/yellow]")
    out.print(f"report: {run.report}", soft_wrap=True)


def _show_problems(problems: Sequence[Any]) -> int:
    """List what was left out, on standard error; the exit code that goes with it."""
    for problem in problems[:PROBLEMS_SHOWN]:
        row = f" (row {problem.row})" if problem.row is not None else ""
        colour = "red" if problem.severity == "error" else "yellow"
        err.print(f"[{colour}]{problem.severity}[/{colour}] ", end="")
        err.print(f"{problem.item}{row}: {problem.reason}", markup=False, highlight=False, soft_wrap=True)
    if len(problems) > PROBLEMS_SHOWN:
        err.print(f"... and {len(problems) - PROBLEMS_SHOWN:,} more", highlight=False)
    errors = sum(problem.severity == "error" for problem in problems)
    if errors:
        err.print(f"{errors} item{'s' if errors > 1 else ''} left out")
    return PARTIAL if errors else OK


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    words = list(sys.argv[1:] if words is None else words)
    debug = "--debug" in words  # wherever it stands
    parser = build_parser()
    options, rest = parser.parse_known_args([word for word in words if word != "--debug"])
    if not hasattr(options, "run"):
        parser.print_help()
        return USAGE
    options.overrides = rest
    if rest and options.run not in (run_train, run_sweep, run_features, run_neighbours):
        options.parser.error(f"unknown option {rest[0]!r}")
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    if not debug:
        from graphophone.audio import AudioWarning

        warnings.simplefilter("ignore", AudioWarning)  # they are listed with the other problems
    try:
        return options.run(options)
    except GraphophoneError as error:
        if debug:
            traceback.print_exc()
        err.print(f"graphophone: {error}", markup=False, highlight=False, soft_wrap=True)
        return FAILED
    except KeyboardInterrupt:
        err.print("interrupted; the same command goes on where it stopped")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (head, a pager) has gone: that is its right.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        # Nothing a user types should show a traceback unasked; what comes here is ours to mend.
        if debug:
            traceback.print_exc()
        text = " ".join(str(error).split()) or type(error).__name__
        err.print(
            f"graphophone: {type(error).__name__}: {text[:300]} (--debug shows where)",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        return FAILED
