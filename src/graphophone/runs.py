"""From a recipe to a run folder: data, features, folds, training, results.

A run is made of jobs, one per split and seed. Each job has a folder of its own that is complete when its
``metrics.json`` exists, so that a run that was killed goes on where it was: finished jobs are kept, the one under way
resumes from its last epoch, and the result is the same as that of an undisturbed run.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import multiprocessing
import os
import platform
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from lightning import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console

import graphophone
from graphophone import corpora
from graphophone.corpora.base import Corpus, Problem
from graphophone.errors import GraphophoneError
from graphophone.evaluation.metrics import classification_metrics, summarize
from graphophone.evaluation.protocols import Protocol, Split, create_protocol
from graphophone.evaluation.report import write_report
from graphophone.evaluation.statistics import interval
from graphophone.features import FeatureCache, FeaturePipeline, FeatureSet, Standardizer, create_extractor
from graphophone.features.speed import SpeedPerturbed
from graphophone.graphs import create_graph
from graphophone.inference.bundle import replace_folder, save_bundle, update_bundle
from graphophone.models import create_model
from graphophone.recipes import Recipe, load_recipe
from graphophone.tasks import TASKS
from graphophone.tasks.data import AugmentedFrames, PlainFrames, UtteranceGraphs, graph_loader

MONITOR = "validation_ua"
HELD_IN_MEMORY = 2 * 2**30  # bytes of features


class RunError(GraphophoneError):
    """A run folder that is missing, incomplete or holds another run."""


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


@dataclass(frozen=True)
class Job:
    """One training: a split and a seed."""

    split: Split
    seed: int
    folder: Path

    @property
    def done(self) -> bool:
        """Whether the job's results are complete."""
        return (self.folder / "metrics.json").is_file()


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that a reader never sees half of it."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text so that a reader never sees half of it."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(text, "utf-8")
    temporary.replace(path)


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a table so that a reader never sees half of it."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    frame.to_csv(temporary, index=False)
    temporary.replace(path)


def make_pipeline(features: Mapping[str, Any]) -> FeaturePipeline:
    """The feature pipeline of a recipe's ``features`` slot."""
    options = dict(features)
    own = {key: options.pop(key) for key in inspect.signature(FeaturePipeline).parameters if key in options}
    return FeaturePipeline(create_extractor(options.pop("name"), **options), **own)


def load_corpus(slot: Mapping[str, Any]) -> Corpus:
    """The corpus of a recipe's ``corpus`` slot."""
    options = dict(slot)
    return corpora.load(options.pop("name"), options.pop("root", None), **options)


def make_protocol(recipe: Recipe) -> Protocol:
    """The evaluation protocol of a recipe."""
    return create_protocol(recipe.protocol["name"], **_without_name(recipe.protocol))


def _without_name(slot: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in slot.items() if key != "name"}


@dataclass(frozen=True)
class Prepared:
    """What trainings start from.

    Args:
        corpus: The usable items; the others are named in its ``problems``.
        pipeline: How features are made.
        versions: Features of these items: of the recordings as they are, then at each speed of the augmentation.
        speed: Seconds of sound per second of extraction; 0 where the cache had everything.
    """

    corpus: Corpus
    pipeline: FeaturePipeline
    versions: tuple[FeatureSet, ...]
    speed: float = 0.0

    @property
    def features(self) -> FeatureSet:
        """Features of the recordings as they are."""
        return self.versions[0]


def prepare(recipe: Recipe, *, workers: int | None = None, progress: bool = True) -> Prepared:
    """Load the corpus and extract (or read back) its features.

    Items that cannot be read are left out and named in the corpus' ``problems``.

    Raises:
        RunError: If nothing is left.
    """
    corpus = load_corpus(recipe.corpus)
    if corpus.multi_label:
        raise RunError(f"corpus {corpus.name!r} has several labels per item; these models are trained on one")
    pipeline = make_pipeline(recipe.features)
    if (recipe.augment.tempo or recipe.augment.phase) and pipeline.decimate_mode == "pick":
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
    if len(corpus.classes) < 2:
        raise RunError(
            f"corpus {corpus.name!r} has one class only ({corpus.classes[0]}): there is nothing to tell apart"
        )
    return Prepared(corpus, pipeline, tuple(versions), speed or 0.0)


class EpochKeeper(ModelCheckpoint):
    """A checkpoint at the end of each epoch in place of the one before, with the learning curves so far.

    The curves are part of the checkpoint, so that a resumed training continues them without a gap or a repeat.
    """

    def __init__(self, folder: Path, epochs: int, say: Callable[[str], None] | None = None) -> None:
        super().__init__(
            dirpath=folder / "checkpoints",
            filename="last",
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self.folder = folder
        self.epochs = epochs
        self.say = say
        self.curves: list[dict[str, float]] = []
        self._started = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:  # noqa: D102
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:  # noqa: D102
        names = (
            "train_loss",
            "train_ua",
            "validation_loss",
            "validation_ua",
            "validation_wa",
            "learning_rate",
        )
        row = {"epoch": float(trainer.current_epoch)}
        row |= {name: float(trainer.callback_metrics[name]) for name in names}
        row["seconds"] = time.perf_counter() - self._started
        self.curves.append(row)
        write_csv(self.folder / "curves.csv", curves_frame(self.curves))
        if self.say is not None:
            best = max(self.curves, key=lambda epoch: epoch[MONITOR])
            self.say(
                f"{self.folder.name}  epoch {trainer.current_epoch + 1}/{self.epochs}  "
                f"loss {row['train_loss']:.3f}  validation UA {100 * row[MONITOR]:.1f} "
                f"(best {100 * best[MONITOR]:.1f} in epoch {int(best['epoch']) + 1})  {row['seconds']:.1f} s"
            )
        super().on_train_epoch_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:  # noqa: D102
        return {**super().state_dict(), "curves": self.curves}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # noqa: D102
        super().load_state_dict(state_dict)
        self.curves = [dict(row) for row in state_dict["curves"]]


class EpochBar(RichProgressBar):
    """Lightning's progress bar with the validation accuracies in percent, and nothing else, behind it."""

    def get_metrics(self, trainer: Trainer, pl_module: Any) -> dict[str, Any]:  # noqa: D102
        found: dict[str, Any] = super().get_metrics(trainer, pl_module)
        names = {"validation_ua": "validation UA %", "validation_wa": "WA %"}
        return {words: f"{100 * float(found[name]):.1f}" for name, words in names.items() if name in found}


def curves_frame(curves: Sequence[Mapping[str, float]]) -> pd.DataFrame:
    """Learning curves as a table, one row per epoch."""
    return pd.DataFrame(curves).astype({"epoch": int})


@contextmanager
def _quiet_trainer() -> Iterator[None]:
    """Lightning's and PyTorch's remarks that do not concern the user, silenced."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for text in (
                ".*does not have many workers.*",
                ".*exists and is not empty.*",
                ".*smaller than the logging.*",
            ):
                warnings.filterwarnings("ignore", text)
            warnings.filterwarnings("ignore", ".*lr_scheduler.step.*before.*")
            warnings.filterwarnings("ignore", ".*LeafSpec.*", category=FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """PyTorch's CPU threads for the time of a training; 0 leaves them."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _finished_training(checkpoint: Path, recipe: Recipe) -> bool:
    """Whether a checkpoint is the last one of its training, which then must not go on."""
    if not checkpoint.is_file():
        return False
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    if state["epoch"] + 1 >= recipe.training.epochs:
        return True
    waits = [
        s["wait_count"]
        for key, s in state["callbacks"].items()
        if key.startswith("EarlyStopping") and "wait_count" in s
    ]
    return bool(recipe.training.patience) and bool(waits) and max(waits) >= recipe.training.patience


def train_job(
    job: Job,
    recipe: Recipe,
    prepared: Prepared,
    *,
    progress: bool = False,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Train and test one split with one seed, or go on with it.

    Test items are read once, after training, with the weights that validation selected.

    Returns:
        The contents of the job's ``metrics.json``.
    """
    if job.done:
        return json.loads((job.folder / "metrics.json").read_text("utf-8"))
    job.folder.mkdir(parents=True, exist_ok=True)
    settings, split, seed = recipe.training, job.split, job.seed
    corpus, pipeline, versions = prepared.corpus, prepared.pipeline, prepared.versions
    features = prepared.features
    started = time.perf_counter()
    arrays: Sequence[np.ndarray] = features
    if features.lengths.sum() * features.dims * 4 < HELD_IN_MEMORY:
        arrays = list(features)  # decimated once, not in every epoch
    seed_everything(seed, verbose=False)
    with _quiet_trainer(), _threads(settings.threads):
        skip = range(pipeline.acoustic_dims, pipeline.dims)
        standardizer = Standardizer.fit((arrays[i] for i in split.train), skip=skip)
        graph = create_graph(recipe.graph["name"], **_without_name(recipe.graph))
        model = create_model(
            recipe.model["name"],
            in_channels=pipeline.dims,
            num_classes=len(corpus.classes),
            **_without_name(recipe.model),
        )
        targets = corpus.targets
        counts = np.bincount(targets[split.train], minlength=len(corpus.classes))
        weights = (counts.sum() / (len(counts) * counts)).tolist() if settings.class_weights else None
        task = TASKS.create(
            recipe.task["name"],
            model=model,
            num_classes=len(corpus.classes),
            class_weights=weights,
            seed=seed,
            **_without_name(recipe.task),
        )

        def loader(rows: np.ndarray, training: bool = False) -> Any:
            changed = training and recipe.augment.active
            frames = (
                AugmentedFrames(versions, standardizer, recipe.augment)
                if changed
                else PlainFrames(arrays, standardizer)
            )
            dataset = UtteranceGraphs(frames, targets, rows, seed)
            return graph_loader(
                dataset,
                graph,
                batch_size=settings.batch_size,
                shuffle=training,
                balanced=training and settings.balanced,
                seed=seed,
                workers=settings.loader_workers,
            )

        keeper = EpochKeeper(job.folder, settings.epochs, None if progress else say)
        best = ModelCheckpoint(
            dirpath=job.folder / "checkpoints",
            filename="best",
            monitor=MONITOR,
            mode="max",
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        callbacks: list[Callback] = [best, keeper]  # in this order: the last checkpoint knows of the best one
        if settings.averaging == "ema":
            callbacks.append(EMAWeightAveraging(decay=settings.ema_decay))
        if settings.patience:
            callbacks.append(
                EarlyStopping(MONITOR, mode="max", patience=settings.patience, check_on_train_epoch_end=True)
            )
        if progress:
            callbacks.append(EpochBar())
        trainer = Trainer(
            max_epochs=settings.epochs,
            accelerator=settings.device,
            devices=1,
            precision=settings.precision,
            gradient_clip_val=settings.gradient_clip or None,
            callbacks=callbacks,
            logger=TensorBoardLogger(job.folder, name="", version="tensorboard"),
            num_sanity_val_steps=0,
            enable_progress_bar=progress,
            enable_model_summary=False,
            log_every_n_steps=10_000,
        )
        last = job.folder / "checkpoints" / "last.ckpt"
        if not _finished_training(last, recipe):
            resume = str(last) if last.is_file() else None
            trainer.fit(
                task,
                loader(split.train, training=True),
                loader(split.validation),
                ckpt_path=resume,
                weights_only=True,
            )
            if trainer.interrupted:
                raise KeyboardInterrupt
        chosen = last if settings.selection == "last" else job.folder / "checkpoints" / "best.ckpt"
        state = torch.load(chosen, map_location="cpu", weights_only=True)
        task.load_state_dict(state["state_dict"])
        curves = pd.read_csv(job.folder / "curves.csv")

        def predicted(rows: np.ndarray) -> np.ndarray:
            outputs: Any = trainer.predict(task, loader(rows)) or []
            order = np.concatenate([output["row"].cpu().numpy() for output in outputs])
            values = torch.cat([output["probabilities"].float().cpu() for output in outputs]).numpy()
            return values[np.argsort(order)]

        result: dict[str, Any] = {}
        for part, rows in (("validation", split.validation), ("test", split.test)):
            probabilities = predicted(rows)
            table = corpus.table.iloc[rows]
            speakers = list(table["speaker"]) if "speaker" in table else None
            measured = classification_metrics(targets[rows], probabilities, corpus.classes, speakers)
            result |= measured if part == "test" else {"validation": measured}
            frame = pd.DataFrame({"id": table["id"].to_numpy()})
            if speakers is not None:
                frame["speaker"] = speakers
            frame["label"] = [corpus.classes[i] for i in targets[rows]]
            frame["predicted"] = [corpus.classes[i] for i in probabilities.argmax(axis=1)]
            frame["fold"] = split.name
            frame["seed"] = seed
            for number, label in enumerate(corpus.classes):
                frame[f"p_{label}"] = probabilities[:, number]
            name = "predictions" if part == "test" else part
            write_csv(job.folder / f"{name}.csv", frame)
        result |= {
            "fold": split.name,
            "seed": seed,
            "items": {
                "train": len(split.train),
                "validation": len(split.validation),
                "test": len(split.test),
            },
            "best_epoch": int(state["epoch"]),
            "epochs": len(curves),
            "seconds": float(curves["seconds"].sum()),
            "seconds_per_epoch": float(curves["seconds"].median()),
            "seconds_in_all": time.perf_counter() - started,
        }
        save_bundle(
            job.folder / "model",
            model,
            pipeline,
            graph,
            standardizer,
            corpus.classes,
            corpus=_corpus_facts(corpus, features),
            protocol=_protocol_facts(recipe, corpus, [split]),
            metrics={name: result[name] for name in ("ua", "wa", "weighted_f1", "macro_f1", "ece")},
        )
        write_json(job.folder / "metrics.json", result)
    return result


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
    before = yaml.safe_load(resolved.read_text("utf-8"))
    difference = _first_difference(before, recipe.to_dict())
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


def _fingerprint(prepared: Prepared) -> str:
    """Changes with whatever decides the splits or the features: items, labels, groups, lengths of recordings."""
    corpus = prepared.corpus
    columns = [
        "id",
        *(c for c in ("speaker", "fold", "split", "session", "dialogue", "spontaneous") if c in corpus.table),
    ]
    facts = corpus.table[columns].astype(str)
    facts["target"] = [corpus.classes[i] for i in corpus.targets]
    facts["frames"] = prepared.features.lengths
    return hashlib.sha256(facts.to_csv(index=False).encode()).hexdigest()


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


def _corpus_facts(corpus: Corpus, features: FeatureSet) -> dict[str, Any]:
    """What a model card says of the training corpus."""
    return {
        "name": corpus.name,
        "items": len(corpus),
        "classes": list(corpus.classes),
        "speakers": len(set(corpus.speakers or [])),
        "hours": features.stats.seconds_audio / 3600,
        "languages": list(corpus.languages),
        "licence": corpus.licence,
        "url": corpus.url,
        "citation": corpus.citation,
    }


def _protocol_facts(recipe: Recipe, corpus: Corpus, splits: Sequence[Split]) -> dict[str, Any]:
    """The protocol in words, and what it did to this corpus."""
    facts = make_protocol(recipe).describe(corpus, splits)
    if recipe.training.selection == "last" and not recipe.training.patience:
        facts["description"] += " In this run the last epoch is kept: the validation items choose nothing."
    return facts


def _describe(recipe: Recipe, prepared: Prepared, splits: Sequence[Split]) -> dict[str, Any]:
    """What ``run.json`` says of a run."""
    corpus, pipeline, features = prepared.corpus, prepared.pipeline, prepared.features
    model = create_model(
        recipe.model["name"],
        in_channels=pipeline.dims,
        num_classes=len(corpus.classes),
        **_without_name(recipe.model),
    )
    return {
        "name": recipe.name,
        "description": recipe.description,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "finished": None,
        "version": graphophone.__version__,
        "corpus": {
            **_corpus_facts(corpus, features),
            "problems": [asdict(problem) for problem in corpus.problems],
            "fingerprint": _fingerprint(prepared),
        },
        "protocol": _protocol_facts(recipe, corpus, splits),
        "model": {
            "name": recipe.model["name"],
            "options": _without_name(recipe.model),
            "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        },
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
        "folds": [split.name for split in splits],
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
    if recipe.training.device == "cuda" and not torch.cuda.is_available():
        raise RunError("training.device is 'cuda', but PyTorch finds no CUDA device here; use 'auto' or 'cpu'")
    prepared = prepare(recipe, progress=progress)
    corpus = prepared.corpus
    folder = Path(output) / recipe.name
    protocol = make_protocol(recipe)
    splits = {seed: protocol.splits(corpus, seed=seed) for seed in recipe.seeds}
    count = len(splits[recipe.seeds[0]])
    for number in folds or []:
        if not 0 <= number < count:
            raise RunError(f"there is no fold {number}: the protocol has folds 0 to {count - 1}")
    _claim(folder, recipe, prepared, overwrite)

    described = folder / "run.json"
    if not described.is_file():
        write_json(described, _describe(recipe, prepared, splits[recipe.seeds[0]]))
    jobs = [
        Job(split, seed, folder / "folds" / f"{split.name}-seed{seed}")
        for seed in recipe.seeds
        for number, split in enumerate(splits[seed])
        if folds is None or number in folds
    ]
    _write_sample(folder / "sample.npz", jobs[0].split, prepared)
    if corpus.problems:
        console.print(f"[yellow]{len(corpus.problems)} items have problems; see run.json[/yellow]")
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


def _write_sample(path: Path, split: Split, prepared: Prepared) -> None:
    """One training utterance of median length, for the report's similarity heat map."""
    if path.is_file():
        return
    corpus, pipeline, features = prepared.corpus, prepared.pipeline, prepared.features
    lengths = features.lengths[split.train]
    row = int(split.train[np.argsort(lengths, kind="stable")[len(lengths) // 2]])
    skip = range(pipeline.acoustic_dims, pipeline.dims)
    standardizer = Standardizer.fit((features[i] for i in split.train), skip=skip)
    temporary = path.with_name(f"sample.{os.getpid()}.tmp.npz")
    np.savez_compressed(
        temporary,
        x=standardizer(features[row]),
        id=str(corpus.table["id"].iloc[row]),
        label=str(corpus.classes[corpus.targets[row]]),
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
    The run's model is the one with the best validation UA of all its trainings.

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
    text = {"id": str, "speaker": str, "label": str, "predicted": str, "fold": str}
    predictions = pd.concat(
        [pd.read_csv(path / "predictions.csv", dtype=text, keep_default_na=False) for path, _ in jobs],
        ignore_index=True,
    )
    write_csv(folder / "predictions.csv", predictions)
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
    metrics["validation_ua"] = interval([job["validation"]["ua"] for _, job in jobs]).to_dict()
    metrics["complete"] = len(whole) == len(described["seeds"])
    metrics["whole_seeds"] = whole
    write_json(folder / "metrics.json", metrics)
    best, job = max(jobs, key=lambda item: item[1]["validation"]["ua"])
    _publish(best / "model", folder / "model")
    # The card speaks of the evaluation as a whole: one fold's test result would be a lucky or an unlucky one.
    update_bundle(
        folder / "model",
        metrics={name: metrics[name] for name in ("ua", "wa", "weighted_f1", "macro_f1", "ece")},
        card={
            "weights": f"Weights: {job['fold']}, seed {job['seed']}, trained on {job['items']['train']} of the items, "
            f"the one of {len(jobs)} trainings with the best validation UA ({100 * job['validation']['ua']:.1f} %)."
        },
    )
    if metrics["complete"] and not described["finished"]:
        described["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(folder / "run.json", described)
    write_report(folder)
    return Run(folder, metrics, tuple(Problem(**problem) for problem in described["corpus"]["problems"]))


def _publish(source: Path, target: Path) -> None:
    """Copy a model folder into place."""
    temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    shutil.copytree(source, temporary)
    replace_folder(temporary, target)
