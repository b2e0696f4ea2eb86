"""From a recipe to a run folder: data, features, folds, training, results.

A run is made of jobs, one per split and seed. Each job has a folder of its own that is complete when its
``metrics.json`` exists, so that a run that was killed goes on where it was: finished jobs are kept, the one under way
resumes from its last epoch, and the result is the same as that of an undisturbed run.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import multiprocessing
import os
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from rich.console import Console

import graphophone
from graphophone import corpora
from graphophone.corpora.base import Corpus, Problem
from graphophone.corpora.problems import problem_facts, read_problems, write_problems
from graphophone.costs import run_cost
from graphophone.errors import GraphophoneError
from graphophone.evaluation.controls import pooled_controls
from graphophone.evaluation.measures import Measure
from graphophone.evaluation.metrics import summarize
from graphophone.evaluation.overlap import overlaps
from graphophone.evaluation.page import listed
from graphophone.evaluation.protocols import Split
from graphophone.evaluation.report import write_report
from graphophone.evaluation.results import measures_of_folder
from graphophone.evaluation.statistics import interval
from graphophone.features import FeatureCache, FeaturePipeline, FeatureSet, create_extractor
from graphophone.features.modalities import Modalities
from graphophone.features.speed import SpeedPerturbed
from graphophone.files import write_csv, write_json, write_text
from graphophone.inference.bundle import replace_folder, update_bundle
from graphophone.inputs import Prepared, make_input
from graphophone.jobs import (
    HEADLINES,
    Job,
    RunError,
    check_options,
    check_split,
    corpus_facts,
    make_model,
    make_protocol,
    protocol_facts,
    train_job,
)
from graphophone.recipes import Recipe, load_recipe, without_name
from graphophone.tasks import TASKS


@dataclass
class Run:
    """A finished (or partly finished) run.

    Args:
        folder: The run folder.
        metrics: Contents of ``metrics.json``.
        problems: Items that were left out, and why.
    """

    folder: Path
    metrics: dict[str, Any]
    problems: tuple[Problem, ...] = ()

    @property
    def model(self) -> Path:
        """The model folder, which alone is enough to predict."""
        return self.folder / "model"

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return self.folder / "report.html"


def make_pipeline(features: Mapping[str, Any]) -> FeaturePipeline:
    """The feature pipeline of a recipe's ``features`` slot."""
    options = dict(features)
    own = {key: options.pop(key) for key in inspect.signature(FeaturePipeline).parameters if key in options}
    return FeaturePipeline(create_extractor(options.pop("name"), **options), **own)


def load_corpus(slot: Mapping[str, Any]) -> Corpus:
    """The corpus of a recipe's ``corpus`` slot."""
    options = dict(slot)
    return corpora.load(options.pop("name"), options.pop("root", None), **options)


def prepare(recipe: Recipe, *, workers: int | None = None, progress: bool = True) -> Prepared:
    """Load the corpus and extract (or read back) its features.

    Items that cannot be read are left out and named in the corpus' ``problems``.

    Raises:
        GraphophoneError: If nothing is left; before any work if an option of the recipe does not fit.
    """
    corpus = load_corpus(recipe.corpus)
    _check_kind(recipe, corpus)
    _check_labels(recipe, corpus)
    _check_classes(corpus)
    pipeline = make_pipeline(recipe.features)
    check_options(recipe, corpus, pipeline)
    if recipe.reads == "graph" and pipeline.decimate_mode == "pick" and (recipe.augment.tempo or recipe.augment.phase):
        raise RunError("augment.tempo and augment.phase average frames: they need features.decimate_mode 'mean'")
    played = [
        FeaturePipeline(SpeedPerturbed(pipeline.extractor, speed), **pipeline.options)
        for speed in recipe.augment.speeds
    ]
    speed: float | None = None
    while True:
        versions = []
        for version in (pipeline, *played):
            versions.append(
                version.extract(
                    corpus,
                    cache=FeatureCache(),
                    workers=workers,
                    progress=progress,
                    max_duration=recipe.training.max_duration or None,
                )
            )
            stats = versions[-1].stats
            if speed is None:  # the first pass: a second one, after failures, finds everything in the cache
                speed = stats.seconds_extracted / stats.seconds_wall if stats.seconds_extracted else 0.0
            if versions[-1].failures:
                break
        problems = list(versions[-1].failures)
        if not problems:
            break
        failed = {problem.item for problem in problems}
        corpus = corpus.without([item for item in corpus.table["id"] if item in failed], problems)
        if not len(corpus):
            break
    if not len(corpus):
        first = corpus.problems[0] if corpus.problems else None
        detail = f"; the first problem: {first.item}: {first.reason}" if first else ""
        raise RunError(f"corpus {corpus.name!r} has no usable item{detail}")
    corpus = corpus.without([], versions[0].notes)
    _check_classes(corpus)  # some items may have been left out
    return Prepared(corpus, pipeline, tuple(versions), speed or 0.0, _sequences(recipe, corpus, pipeline, workers))


def _sequences(recipe: Recipe, corpus: Corpus, pipeline: FeaturePipeline, workers: int | None) -> dict[str, FeatureSet]:
    """Tokens and frames by modality, where the features give them; they are in the cache already."""
    extractor = pipeline.extractor
    if not (isinstance(extractor, Modalities) and extractor.sequences):
        return {}
    limit = recipe.training.max_duration or None
    return {
        name: FeaturePipeline(part).extract(
            corpus, cache=FeatureCache(), workers=workers, progress=False, max_duration=limit
        )
        for name, part in extractor.parts.items()
    }


def _check_classes(corpus: Corpus) -> None:
    """Refuse a corpus of one class.

    Raises:
        RunError: Naming it.
    """
    if len(corpus.classes) == 1:
        raise RunError(
            f"corpus {corpus.name!r} has one class only ({corpus.classes[0]}): there is nothing to tell apart"
        )


def _check_labels(recipe: Recipe, corpus: Corpus) -> None:
    """Refuse items without label to a model that learns from labels only.

    Raises:
        RunError: Saying what to do with them.
    """
    without = int((~corpus.labelled).sum())
    if without and recipe.reads not in ("nodes", "dialogue"):
        options = inspect.signature(corpora.CORPORA.get(recipe.corpus["name"])).parameters
        leave = "leave them out with corpus.unlabelled false, or " if "unlabelled" in options else ""
        raise RunError(
            f"corpus {corpus.name!r} has {without} items without label, which {recipe.model['name']!r} cannot learn "
            f"from: {leave}train subgraph_ssl"
        )


def _check_kind(recipe: Recipe, corpus: Corpus) -> None:
    """Refuse a task that learns another kind of labels than the corpus has.

    Raises:
        RunError: Naming a task that fits.
    """
    if corpus.multi_label == (recipe.kind == "tagging"):
        return
    fitting = [
        name
        for name in TASKS.names()
        if (getattr(TASKS.get(name), "kind", None) == "tagging") == corpus.multi_label
        and getattr(TASKS.get(name), "reads", None) == recipe.reads
    ]
    many = "several labels" if corpus.multi_label else "one label"
    remedy = f"set task.name to {' or '.join(fitting)}" if fitting else "choose a model that reads spectrograms"
    raise RunError(
        f"corpus {corpus.name!r} has {many} per item, which {recipe.task['name']!r} does not learn; {remedy}"
    )


def _job_in_process(job: Job, recipe: Recipe, prepared: Prepared) -> str:
    """A job in a worker process; the features arrive as places in the cache, not as numbers."""
    torch.set_num_threads(recipe.training.threads or 1)
    train_job(job, recipe, prepared, say=lambda line: print(line, file=sys.stderr, flush=True))
    return job.folder.name


def _claim(folder: Path, recipe: Recipe, prepared: Prepared, overwrite: bool) -> None:
    """Make the run folder, or make sure that it holds this very run; seeds add up over calls."""
    resolved, described = folder / "recipe.yaml", folder / "run.json"
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file, not a folder of a run; give another --name or --output")
    if folder.is_dir() and any(folder.iterdir()) and not (resolved.is_file() or described.is_file()):
        raise RunError(f"{folder} holds something else than a run; give another --name or --output")
    if overwrite and folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not resolved.is_file():
        write_text(resolved, recipe.to_yaml())
        return
    difference = _first_difference(_completed(resolved), recipe.to_dict())
    if difference:
        raise RunError(f"{folder} holds a run with another recipe ({difference}): give another --name, or --overwrite")
    if described.is_file():
        content = _read_json(described)
        if content["corpus"]["fingerprint"] != _fingerprint(prepared):
            raise RunError(
                f"{folder} holds a run on another state of corpus {prepared.corpus.name!r} (items, labels, speakers, "
                "folds or recordings have changed since): give another --name, or --overwrite"
            )
        seeds = sorted({*content["seeds"], *recipe.seeds})
        if seeds != content["seeds"]:
            write_json(described, {**content, "seeds": seeds, "finished": None})
            write_text(resolved, replace(recipe, seeds=seeds).to_yaml())


def _completed(path: Path) -> dict[str, Any]:
    """A recipe that was resolved earlier, with the defaults of options that have come since."""
    try:
        before = yaml.safe_load(path.read_text("utf-8"))
        return load_recipe(before).to_dict()
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise RunError(f"{path}: damaged or unreadable ({error}); give another --name, or --overwrite") from error
    except GraphophoneError:  # an option that there is no more: it is compared as it stands
        return dict(before)


def _fingerprint(prepared: Prepared) -> str:
    """Changes with whatever decides the splits or the features: items, labels, groups, lengths of recordings."""
    corpus = prepared.corpus
    columns = [
        "id",
        *(c for c in ("speaker", "fold", "split", "session", "dialogue", "spontaneous") if c in corpus.table),
    ]
    facts = corpus.table[columns].astype(str)
    facts["target"] = [";".join(labels) for labels in _labels(corpus)]
    facts["frames"] = prepared.features.lengths
    text = facts.to_csv(index=False)
    if corpus.given is not None:  # nothing else says which vectors and edges there are
        text += corpus.given.key
    return hashlib.sha256(text.encode()).hexdigest()


def _labels(corpus: Corpus) -> list[list[str]]:
    """The label or labels of each item; an empty text where there is none."""
    if corpus.multi_label:
        return [list(labels) for labels in corpus.table["labels"]]
    return [[str(label)] for label in corpus.table["label"]]


def _read_json(path: Path) -> Any:
    """A JSON file of a run folder.

    Raises:
        RunError: If it is damaged.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: damaged or unreadable ({error}); remove it and repeat the training command") from error


def _first_difference(old: Any, new: Any, path: str = "") -> str | None:
    """Where two recipes part, in words; how long and on how many seeds they train may differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            inner = f"{path}.{key}" if path else str(key)
            if inner in {
                "description",
                "seeds",
                "training.threads",
                "training.loader_workers",
                "training.device",
            }:
                continue
            found = _first_difference(old.get(key), new.get(key), inner)
            if found:
                return found
        return None
    return None if old == new else f"{path} is {old} there and {new} here"


def _protocol_of(recipe: Recipe, corpus: Corpus, splits: Mapping[int, Sequence[Split]]) -> dict[str, Any]:
    """What ``run.json`` says of the protocol: of the splits of all seeds, those that are alike once.

    Args:
        recipe: The recipe.
        corpus: The corpus.
        splits: Splits of every seed.

    Returns:
        As `protocol_facts`; every one of the ``folds`` with its ``seeds``, and a note with those that it is of where
        it is not of all.
    """
    facts = protocol_facts(recipe, corpus, [split for own in splits.values() for split in own])
    notes: dict[str, list[int]] = {}
    folds: dict[str, list[int]] = {}
    for seed, own in splits.items():
        told = make_protocol(recipe).describe(corpus, own)
        for note in told["notes"]:
            notes.setdefault(note, []).append(seed)
        for fold in told["folds"]:
            folds.setdefault(json.dumps(fold), []).append(seed)
    facts["notes"] = [
        note
        if len(seeds) == len(splits)
        else f"{note} (seed{'s' if len(seeds) > 1 else ''} {listed([*map(str, seeds)])})"
        for note, seeds in notes.items()
    ]
    facts["folds"] = [{**json.loads(fold), "seeds": seeds} for fold, seeds in folds.items()]
    return facts


def _update_protocol(path: Path, recipe: Recipe, corpus: Corpus, splits: Mapping[int, Sequence[Split]]) -> None:
    """Let ``run.json`` speak of the splits of all seeds that the run has, also of those that were added later."""
    content = _read_json(path)
    protocol = make_protocol(recipe)
    whole = {seed: splits.get(seed) or protocol.splits(corpus, seed=seed) for seed in content["seeds"]}
    found = {**content, "protocol": json.loads(json.dumps(_protocol_of(recipe, corpus, whole)))}
    if {seed for each in content.get("overlap") or [] for seed in each["seeds"]} != set(content["seeds"]):
        found["overlap"] = overlaps(corpus, whole)
    if found != content:
        write_json(path, found)


def _describe(recipe: Recipe, prepared: Prepared, splits: Mapping[int, Sequence[Split]]) -> dict[str, Any]:
    """What ``run.json`` says of a run."""
    corpus, pipeline, features = prepared.corpus, prepared.pipeline, prepared.features
    model, pretrained = make_model(recipe, make_input(recipe, prepared))
    return {
        "name": recipe.name,
        "description": recipe.description,
        "kind": recipe.kind,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "finished": None,
        "version": graphophone.__version__,
        "corpus": {
            **corpus_facts(corpus, features),
            **problem_facts(corpus.problems),
            "fingerprint": _fingerprint(prepared),
        },
        "protocol": _protocol_of(recipe, corpus, splits),
        "overlap": overlaps(corpus, splits),
        "model": {
            "name": recipe.model["name"],
            "options": without_name(recipe.model),
            "parameters": model.num_parameters(),
            "pretrained": pretrained,
        },
        "cost": run_cost(recipe, prepared, model, splits[recipe.seeds[0]][0]),
        "graph": dict(recipe.graph),
        "features": {
            **recipe.features,
            "dims": pipeline.dims,
            "x_real_time": prepared.speed or None,
            "cached": features.stats.items if not prepared.speed else features.stats.cached,
        },
        "machine": {
            "cpu": _cpu_name(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
            "threads": recipe.training.threads or torch.get_num_threads(),
        },
        "seeds": list(recipe.seeds),
        "folds": [split.name for split in splits[recipe.seeds[0]]],
    }


def _cpu_name() -> str:
    """The processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _check_devices(recipe: Recipe, workers: int) -> None:
    """Refuse what this machine, or PyTorch, has not.

    Raises:
        RunError: Naming the setting.
    """
    settings = recipe.training
    cuda = torch.cuda.device_count() if settings.device != "cpu" else 0
    if settings.device == "cuda" and not cuda:
        raise RunError("training.device is 'cuda', but PyTorch finds no CUDA device here; use 'auto' or 'cpu'")
    if settings.devices == 1:
        return
    if workers > 1:
        raise RunError("several workers and several training.devices exclude each other; set one of them to 1")
    if cuda and cuda < settings.devices:
        raise RunError(f"training.devices is {settings.devices}, but PyTorch finds {cuda} here; lower it")
    if not cuda and settings.sync_batchnorm:
        raise RunError("training.sync_batchnorm works on CUDA devices only; set it to false")


def train(
    recipe: Recipe | str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    output: str | Path = "runs",
    folds: Sequence[int] | None = None,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = True,
    console: Console | None = None,
) -> Run:
    """Train and test a recipe on every split and seed; what an earlier call finished is kept.

    Args:
        recipe: A recipe, the name of a shipped one, the path of a YAML file, or a mapping.
        overrides: Such as ``["--graph.k", "15"]``; not with a :class:`Recipe`.
        output: Folder of runs; the run folder is ``output/<name>``.
        folds: Numbers of the splits to do now; all by default. The others can be done by a later call, or by another
            process at the same time.
        workers: Trainings at the same time, each in its own process.
        overwrite: Discard what the run folder holds.
        progress: Show progress.
        console: Where to show it.

    Returns:
        The run, with what has been measured so far.

    Raises:
        GraphophoneError: In one line, naming what is wrong and what to do.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)
    console = console or Console(stderr=True, quiet=not progress)
    _check_devices(recipe, workers)
    prepared = prepare(recipe, progress=progress)
    make_input(recipe, prepared)  # refuses features that the model cannot read
    corpus = prepared.corpus
    folder = Path(output) / recipe.name
    protocol = make_protocol(recipe)
    splits = {seed: protocol.splits(corpus, seed=seed) for seed in recipe.seeds}
    count = len(splits[recipe.seeds[0]])
    for number in folds or []:
        if not 0 <= number < count:
            raise RunError(f"there is no fold {number}: the protocol has folds 0 to {count - 1}")
    for seed_splits in splits.values():
        for split in seed_splits:
            check_split(recipe, split)
    _claim(folder, recipe, prepared, overwrite)

    described = folder / "run.json"
    if not described.is_file():
        write_problems(folder / "problems.csv", corpus.problems)
        write_json(described, _describe(recipe, prepared, splits))
    _update_protocol(described, recipe, corpus, splits)
    jobs = [
        Job(split, seed, folder / "folds" / f"{split.name}-seed{seed}")
        for seed in recipe.seeds
        for number, split in enumerate(splits[seed])
        if folds is None or number in folds
    ]
    _write_sample(folder / "sample.npz", jobs[0].split, recipe, prepared)
    if corpus.problems:
        console.print(f"[yellow]{len(corpus.problems)} items have problems; see problems.csv[/yellow]")
    waiting = [job for job in jobs if not job.done]
    if len(waiting) < len(jobs):
        console.print(f"{len(jobs) - len(waiting)} of {len(jobs)} trainings are done already")
    if workers > 1 and len(waiting) > 1:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(workers, len(waiting)), mp_context=context) as pool:
            futures = [pool.submit(_job_in_process, job, recipe, prepared) for job in waiting]
            try:
                for number, future in enumerate(as_completed(futures), 1):
                    console.print(f"{future.result()} is done ({number} of {len(waiting)})")
            except BrokenProcessPool as error:
                raise RunError(
                    "a training process was killed, perhaps for want of memory; the same command goes on where it was "
                    "(with --workers 1 if memory is short)"
                ) from error
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    else:
        shown = progress and console.is_terminal
        say = (lambda line: console.print(line, highlight=False, soft_wrap=True)) if progress else None
        for number, job in enumerate(waiting, 1):
            console.print(f"[bold]{job.folder.name}[/bold] ({number} of {len(waiting)})")
            train_job(job, recipe, prepared, progress=shown, say=say)
    return evaluate(folder)


def _write_sample(path: Path, split: Split, recipe: Recipe, prepared: Prepared) -> None:
    """One training utterance of median length, for the report's similarity heat map."""
    if path.is_file() or recipe.reads in ("nodes", "dialogue"):  # a recording of one row is like itself
        return
    corpus, pipeline, features = prepared.corpus, prepared.pipeline, prepared.features
    source = make_input(recipe, prepared)
    lengths = features.unpadded_lengths[split.train]
    row = int(split.train[np.argsort(lengths, kind="stable")[len(lengths) // 2]])
    temporary = path.with_name(f"sample.{os.getpid()}.tmp.npz")
    np.savez_compressed(
        temporary,
        x=source.standardizer(split.train)(source.frames(row)),
        id=str(corpus.table["id"].iloc[row]),
        label=";".join(_labels(corpus)[row]),
        hop=pipeline.hop or 0.0,
    )
    temporary.replace(path)


def _read_jobs(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Finished jobs of a run and their metrics, in order of seed and split."""
    found = [(path.parent, _read_json(path)) for path in sorted((folder / "folds").glob("*/metrics.json"))]
    order = _read_json(folder / "run.json")["folds"]
    rank = {name: number for number, name in enumerate(order)}
    return sorted(found, key=lambda item: (item[1]["seed"], rank.get(item[1]["fold"], len(rank))))


def evaluate(folder: str | Path) -> Run:
    """Gather what a run's finished trainings have measured; write metrics, predictions, model and report.

    Each seed's test predictions are pooled over its splits and scored once; the interval is Student's t over seeds.
    The run's model is the one with the best validation figure of all its trainings, or the first where there are no
    validation items.

    Raises:
        RunError: If the folder holds no run, or no training of it has finished.
    """
    folder = Path(folder)
    if not (folder / "run.json").is_file():
        raise RunError(f"{folder} is not a run folder: it has no run.json; train one with 'graphophone train'")
    described = _read_json(folder / "run.json")
    jobs = _read_jobs(folder)
    if not jobs:
        raise RunError(
            f"{folder}: no training has finished yet; go on with 'graphophone train {folder / 'recipe.yaml'}'"
        )
    classes = described["corpus"]["classes"]
    text = {"id": str, "speaker": str, "dialogue": str, "label": str, "labels": str, "predicted": str, "fold": str}
    predictions = pd.concat(
        [pd.read_csv(path / "predictions.csv", dtype=text, keep_default_na=False) for path, _ in jobs],
        ignore_index=True,
    )
    # As the networks give them, in nine digits at most, which tell all of their numbers apart: fewer make ties of
    # scores that are ranked, more make the table of a large corpus half as large again.
    scores = [column for column in predictions.columns if str(column).startswith("p_")]
    write_csv(folder / "predictions.csv", predictions.astype(dict.fromkeys(scores, np.float32)))
    done = {seed: sum(job["seed"] == seed for _, job in jobs) for seed in described["seeds"]}
    whole = [seed for seed, count in done.items() if count == len(described["folds"])]
    # A seed with some of its folds has heard other test items than the rest: it waits until it is whole.
    metrics = summarize(predictions[predictions["seed"].isin(whole)] if whole else predictions, classes)
    jobs = [(path, job) for path, job in jobs if not whole or job["seed"] in whole]
    measured = {(str(job["fold"]), job["seed"]): job for _, job in jobs}
    more = ("validation", "items", "best_epoch", "epochs", "seconds", "seconds_per_epoch")
    metrics["folds"] = [
        {**fold, **{key: measured[str(fold["fold"]), int(fold["seed"])][key] for key in more}}
        for fold in metrics["folds"]
    ]
    kind = described.get("kind", "classification")
    selection = measures_of_folder(folder).selection
    validated = [job["validation"][selection.key] for _, job in jobs if job["validation"]]
    metrics[f"validation_{selection.key}"] = interval(validated).to_dict() if validated else None
    metrics |= _beside([job for _, job in jobs])
    metrics["complete"] = len(whole) == len(described["seeds"])
    metrics["whole_seeds"] = whole
    write_json(folder / "metrics.json", metrics)
    chosen, sentence = _deployed(jobs, selection)
    if (chosen / "model").is_dir():  # networks that answer for no new recording leave none
        _publish(chosen / "model", folder / "model")
        # The card speaks of the evaluation as a whole: one fold's test result would be a lucky or an unlucky one.
        update_bundle(
            folder / "model",
            metrics={name: metrics[name] for name in HEADLINES[kind]},
            card={"weights": sentence},
        )
    now = _read_json(folder / "run.json")  # another process may have added seeds in the meantime
    found = {**now, **_attachment([job for _, job in jobs])}
    if metrics["complete"] and now["seeds"] == described["seeds"] and not now["finished"]:
        found["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    if found != now:
        write_json(folder / "run.json", found)
    write_report(folder)
    return Run(folder, metrics, _problems(folder, described))


def _problems(folder: Path, described: Mapping[str, Any]) -> tuple[Problem, ...]:
    """Problems of a run's corpus; a run of a time when ``run.json`` listed all of them has no table of them."""
    table = folder / "problems.csv"
    if table.is_file():
        return read_problems(table)
    return tuple(Problem(**problem) for problem in described["corpus"]["problems"])


def _beside(jobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What trainings of networks of nodes have measured beside their answers, gathered."""
    found: dict[str, Any] = {}
    controls = pooled_controls(jobs)
    if controls:
        found["controls"] = controls
    for key in ("mad", "silhouette"):
        values = [job[key] for job in jobs if job.get(key) is not None]
        if values:
            found[key] = interval(values).to_dict()
    return found


def _attachment(jobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How trainings attach recordings to known ones: ``edges``, fewest and most, and the mean ``chance`` of a label."""
    found = [job["attachment"] for job in jobs if job.get("attachment")]
    if not found:
        return {}
    edges, chances = [each["edges"] for each in found], [each["chance"] for each in found if "chance" in each]
    facts = {"how": found[0]["how"], "edges": [min(edges), max(edges)]}
    return {"attachment": {**facts, "chance": float(np.mean(chances))} if chances else facts}


def _deployed(jobs: Sequence[tuple[Path, dict[str, Any]]], selection: Measure) -> tuple[Path, str]:
    """Which training's weights become the run's model, and a sentence that says so.

    It is the one with the best validation figure; where there are no validation items nothing tells the trainings
    apart but their test items, which choose nothing, and it is the first.
    """
    validated = [(path, job) for path, job in jobs if job["validation"]]
    path, job = max(validated, key=lambda item: item[1]["validation"][selection.key]) if validated else jobs[0]
    words = selection.words if selection.short == selection.name else selection.short
    reason = (
        f"the one of {len(jobs)} trainings with the best validation {words} "
        f"({100 * job['validation'][selection.key]:.1f} %)"
        if validated
        else f"the first of {len(jobs)} trainings; without validation items none was chosen over the others"
    )
    start = f"Weights: {job['fold']}, seed {job['seed']}, trained on {job['items']['train']} of the items"
    return path, f"{start}, {reason}."


def _publish(source: Path, target: Path) -> None:
    """Copy a model folder into place."""
    temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    shutil.copytree(source, temporary)
    replace_folder(temporary, target)
