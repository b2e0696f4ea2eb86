"""One training: a split and a seed, from features to the results in a folder."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from lightning import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch.multiprocessing.spawn import ProcessRaisedException
from torch.utils.data import DataLoader

from graphophone.corpora.base import Corpus
from graphophone.errors import GraphophoneError
from graphophone.evaluation.metrics import classification_metrics
from graphophone.evaluation.protocols import Protocol, Split, create_protocol
from graphophone.evaluation.tagging import tagging_metrics
from graphophone.features import FeaturePipeline, FeatureSet, Standardizer
from graphophone.files import write_csv, write_json
from graphophone.graphs import create_graph
from graphophone.inference.bundle import save_bundle
from graphophone.inputs import Input, Prepared, input_class, make_input
from graphophone.models import PretrainedModel, create_model
from graphophone.models.base import SpectrogramClassifier
from graphophone.recipes import Recipe, without_name
from graphophone.tasks import TASKS
from graphophone.tasks.averaging import EpochAveraging, StepAveraging, refresh_batch_norm
from graphophone.tasks.base import SupervisedTask
from graphophone.tasks.callbacks import EpochBar, EpochKeeper
from graphophone.tasks.data import EpochOrder
from graphophone.tasks.distributed import TrainingProcess, shared

HEADLINES = {
    "classification": ("ua", "wa", "weighted_f1", "macro_f1", "ece"),
    "tagging": ("map", "mauc", "dprime", "lwlrap", "micro_f1", "macro_f1"),
}
"""The figures that a model card quotes, by kind of task; the first is the headline."""


class RunError(GraphophoneError):
    """A run folder that is missing, incomplete or holds another run; a run that cannot be made."""


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

    @property
    def last(self) -> Path:
        """The checkpoint of the last epoch."""
        return self.folder / "checkpoints" / "last.ckpt"

    @property
    def best(self) -> Path:
        """The checkpoint of the epoch that validation chose."""
        return self.folder / "checkpoints" / "best.ckpt"


def make_protocol(recipe: Recipe) -> Protocol:
    """The evaluation protocol of a recipe; it keeps dialogues whole for networks that hear them so."""
    whole = {"whole_dialogues": True} if recipe.reads == "dialogue" else {}
    return create_protocol(recipe.protocol["name"], **{**without_name(recipe.protocol), **whole})


def _create(recipe: Recipe, corpus: Corpus, sizes: Mapping[str, int]) -> PretrainedModel:
    """The network of a recipe, with random weights."""
    return create_model(recipe.model["name"], num_classes=len(corpus.classes), **sizes, **without_name(recipe.model))


def make_model(recipe: Recipe, source: Input) -> tuple[PretrainedModel, dict[str, Any] | None]:
    """The network of a recipe, and what was read of the weights to start from (None: it starts from random ones)."""
    return _with_weights(recipe, _create(recipe, source.prepared.corpus, source.sizes))


def _with_weights(recipe: Recipe, model: PretrainedModel) -> tuple[PretrainedModel, dict[str, Any] | None]:
    """A network with the weights that the recipe starts from, and what was read of them."""
    if not recipe.training.pretrained:
        return model, None
    from graphophone.models.weights import load_weights

    if not isinstance(model, SpectrogramClassifier):
        raise RunError(f"training.pretrained holds weights of spectrogram models, not of {recipe.model['name']!r}")
    report = load_weights(model, recipe.training.pretrained)
    return model, {"source": recipe.training.pretrained, **asdict(report)}


def class_weights(recipe: Recipe, corpus: Corpus, rows: np.ndarray) -> list[float] | None:
    """Inverse frequencies of the classes among the items ``rows``, to a power, with a mean of 1 over them.

    None where the recipe asks for none. With a power of 1 the weight of a class is N / (C n).
    """
    power = float(recipe.training.class_weights)
    if not power:
        return None
    counts = np.bincount(corpus.targets[rows], minlength=len(corpus.classes))
    weights = np.maximum(counts, 1.0) ** -power
    return cast("list[float]", (weights * counts.sum() / (weights @ counts)).tolist())


def make_task(recipe: Recipe, model: PretrainedModel, corpus: Corpus, rows: np.ndarray, seed: int) -> SupervisedTask:
    """The task of a recipe, for training on the items ``rows``."""
    task = TASKS.create(
        recipe.task["name"],
        model=model,
        num_classes=len(corpus.classes),
        class_weights=class_weights(recipe, corpus, rows),
        seed=seed,
        **without_name(recipe.task),
    )
    return cast("SupervisedTask", task)


def check_options(recipe: Recipe, corpus: Corpus, pipeline: FeaturePipeline) -> None:
    """Make every part of a recipe once, so that options that do not fit are refused before any feature is computed.

    Raises:
        GraphophoneError: As the parts do when a training makes them.
    """
    make_protocol(recipe)
    create_graph(recipe.graph["name"], **without_name(recipe.graph))
    source = input_class(recipe)
    source.check(recipe, pipeline)
    sizes = source.sizes_of(pipeline)
    if 0 in sizes.values():  # a number of frames is missing, and the refusal names those that were measured
        return
    model = _trial(recipe, corpus, sizes)
    if recipe.training.pretrained:
        _with_weights(recipe, _create(recipe, corpus, sizes))
    TASKS.create(
        recipe.task["name"],
        model=model,
        num_classes=len(corpus.classes),
        class_weights=None,
        seed=0,
        **without_name(recipe.task),
    )


def _trial(recipe: Recipe, corpus: Corpus, sizes: Mapping[str, int]) -> PretrainedModel:
    """The network of a recipe, where possible without memory for its weights, which is quick for any size.

    Raises:
        RunError: If its class fails otherwise than by an error of this library.
    """
    try:
        with torch.device("meta"):
            return _create(recipe, corpus, sizes)
    except GraphophoneError:
        raise
    except Exception:  # a network may look at numbers while it is made, which these weights do not have
        try:
            return _create(recipe, corpus, sizes)
        except (TypeError, ValueError, RuntimeError, LookupError, ArithmeticError, AttributeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise RunError(
                f"model {recipe.model['name']!r} cannot be made with these options ({reason}); change those of model"
            ) from error


@contextmanager
def quiet_trainer() -> Iterator[None]:
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
                ".*you defined a `validation_step` but have no `val_dataloader`.*",
            ):
                warnings.filterwarnings("ignore", text)
            warnings.filterwarnings("ignore", ".*lr_scheduler.step.*before.*")
            warnings.filterwarnings("ignore", ".*LeafSpec.*", category=FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """PyTorch's CPU threads for the time of a training; 0 leaves them."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _validations(recipe: Recipe, task: SupervisedTask) -> int:
    """The patience of a recipe as a number of validations."""
    return -(-recipe.training.patience // task.validate_every)


def finished_training(checkpoint: Path, recipe: Recipe, task: SupervisedTask) -> bool:
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
    return bool(recipe.training.patience) and bool(waits) and max(waits) >= _validations(recipe, task)


def check_split(recipe: Recipe, split: Split) -> None:
    """Without validation items nothing can be chosen by them.

    Raises:
        RunError: If the recipe wants to.
    """
    if len(split.validation):
        return
    settings = recipe.training
    if settings.selection != "last" or settings.patience:
        raise RunError(
            f"{split.name} has no validation items, so no epoch can be chosen: set training.selection to last (it is "
            f"{settings.selection}) and training.patience to 0 (it is {settings.patience})"
        )


def _callbacks(
    job: Job, recipe: Recipe, task: SupervisedTask, progress: bool, say: Callable[[str], None] | None
) -> list[Callback]:
    """What keeps, chooses, averages and shows the epochs of a training."""
    settings = recipe.training
    callbacks: list[Callback] = []
    if len(job.split.validation):
        callbacks.append(
            ModelCheckpoint(
                dirpath=job.best.parent,
                filename=job.best.stem,
                monitor=task.monitor,
                mode="max",
                every_n_epochs=task.validate_every,
                save_on_train_epoch_end=True,
                enable_version_counter=False,
            )
        )
    # After the one before, so that the last checkpoint knows of the best one.
    callbacks.append(EpochKeeper(job.folder, settings.epochs, None if progress else say))
    if settings.averaging == "ema":
        callbacks.append(StepAveraging(settings.ema_decay))
    elif settings.averaging == "epochs":
        callbacks.append(EpochAveraging(*settings.averaged_epochs))
    if settings.patience:
        callbacks.append(
            EarlyStopping(task.monitor, mode="max", patience=_validations(recipe, task), check_on_train_epoch_end=False)
        )
    if settings.devices > 1:
        callbacks.append(TrainingProcess(settings.threads))
    if progress:
        callbacks.append(EpochBar())
    return callbacks


def _say_aloud(line: str) -> None:
    """A line on an epoch, from whichever process."""
    print(line, file=sys.stderr, flush=True)


def fit(
    job: Job,
    recipe: Recipe,
    task: SupervisedTask,
    training: Any,
    validation: DataLoader[Any] | None,
    *,
    progress: bool,
    say: Callable[[str], None] | None,
) -> None:
    """Train to the end, from the last checkpoint on if there is one."""
    if finished_training(job.last, recipe, task):
        return
    settings = recipe.training
    several = settings.devices > 1
    if several:
        training = shared(training, settings.devices, training=True)
        validation = None if validation is None else shared(validation, settings.devices, training=False)
        say = _say_aloud if say is not None else None  # what is sent to other processes must be a plain function
    trainer = Trainer(
        max_epochs=settings.epochs,
        accelerator=settings.device,
        devices=settings.devices,
        strategy="ddp_spawn" if several else "auto",
        use_distributed_sampler=False,
        sync_batchnorm=settings.sync_batchnorm and several,
        precision=settings.precision,
        gradient_clip_val=settings.gradient_clip or None,
        check_val_every_n_epoch=task.validate_every,
        callbacks=_callbacks(job, recipe, task, progress, say),
        logger=TensorBoardLogger(job.folder, name="", version="tensorboard"),
        num_sanity_val_steps=0,
        enable_progress_bar=progress,
        enable_model_summary=False,
        log_every_n_steps=10_000,
    )
    resume = str(job.last) if job.last.is_file() else None
    try:
        trainer.fit(task, training, validation, ckpt_path=resume, weights_only=True)
    except ProcessRaisedException as error:
        raise _of_process(error) from error
    if trainer.interrupted:
        raise KeyboardInterrupt


def _of_process(error: ProcessRaisedException) -> GraphophoneError:
    """What went wrong in a training process, in a line."""
    last = str(error).strip().splitlines()[-1]
    return RunError(re.sub(r"^graphophone\.[\w.]+: ", "", last))


def _trainer_of_one(recipe: Recipe, progress: bool) -> Trainer:
    """A trainer that predicts on one device."""
    return Trainer(
        accelerator=recipe.training.device,
        devices=1,
        precision=recipe.training.precision,
        logger=False,
        callbacks=[EpochBar()] if progress else None,
        enable_checkpointing=False,
        enable_progress_bar=progress,
        enable_model_summary=False,
    )


def predict(task: SupervisedTask, loader: DataLoader[Any], rows: np.ndarray, trainer: Trainer) -> dict[str, np.ndarray]:
    """Answers for the items ``rows``, in their order, each given once.

    Returns:
        ``probabilities`` ``[items, classes]``, and whatever else the task says of each item ``[items, ...]``.

    Raises:
        RunError: If the loader gave other items.
    """
    outputs: Any = trainer.predict(task, loader) or []
    order = np.concatenate([output["row"].cpu().numpy() for output in outputs])
    if not np.array_equal(np.sort(order), np.sort(rows)):
        raise RunError(f"{len(order)} predictions for {len(rows)} items; please report this")
    places = np.argsort(order, kind="stable")
    places = places[np.searchsorted(order[places], rows)]
    return {
        name: torch.cat([output[name].float().cpu() for output in outputs]).numpy()[places]
        for name in outputs[0]
        if name != "row"
    }


def load_weights_of(job: Job, recipe: Recipe, task: SupervisedTask) -> int:
    """Give the task the weights that its training chose.

    Returns:
        The epoch that they are of, counted from 0; of averaged weights the last.
    """
    chosen = job.last if recipe.training.selection == "last" else job.best
    state = torch.load(chosen, map_location="cpu", weights_only=True)
    weights = state["state_dict"]
    if recipe.training.averaging == "epochs":
        weights = EpochAveraging.mean_of(state) or weights
    task.load_state_dict(weights)
    if chosen == job.last:
        task.adopt(state, best=False)
    elif job.last.is_file():
        task.adopt(torch.load(job.last, map_location="cpu", weights_only=True), best=True)
    return int(state["epoch"])


def refresh(recipe: Recipe, task: SupervisedTask, loader: Any, trainer: Trainer, seed: int) -> None:
    """Measure the statistics of batch norm anew, on the device and in the precision of the training."""
    device = trainer.strategy.root_device
    torch.manual_seed(seed)
    for sampler in (getattr(loader, "sampler", None), getattr(getattr(loader, "batch_sampler", None), "sampler", None)):
        if isinstance(sampler, EpochOrder):
            sampler.set_epoch(recipe.training.epochs)  # other changes than in any epoch of the training
    # The same for tasks that make their own batches, whether the training has ended just now or in an earlier process.
    trainer.fit_loop.epoch_progress.current.completed = recipe.training.epochs
    task.trainer = trainer
    task.to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=recipe.training.precision == "bf16-mixed"):
        refresh_batch_norm(task.model, loader, lambda batch: task(task.transfer_batch_to_device(batch, device, 0)))
    task.to("cpu")


def predictions_table(
    corpus: Corpus, rows: np.ndarray, answers: Mapping[str, np.ndarray], job: Job, columns: Sequence[str] = ("speaker",)
) -> pd.DataFrame:
    """Predictions as a table: id, speaker where known, truth, answer, fold, seed, a column ``p_<class>`` each.

    Args:
        corpus: The items.
        rows: Which of them, ``[n]``.
        answers: ``probabilities`` ``[n, classes]`` and, where the task gives it, ``spread`` ``[n]``.
        job: Whose predictions they are.
        columns: Of the corpus that are taken over, where it has them.

    Returns:
        With the columns ``label`` and ``predicted``, or, where items have several labels, ``labels`` and ``predicted``
        (the tags with a probability of at least one half), separated by ``;``; and ``spread``, where there is one.
    """
    table, probabilities = corpus.table.iloc[rows], answers["probabilities"]
    classes = np.array(corpus.classes, dtype=object)
    frame = pd.DataFrame({"id": table["id"].to_numpy()})
    for column in columns:
        if column in table:
            frame[column] = table[column].to_numpy()
    if corpus.multi_label:
        frame["labels"] = [";".join(labels) for labels in table["labels"]]
        frame["predicted"] = [";".join(classes[chosen]) for chosen in probabilities >= 0.5]
    else:
        frame["label"] = table["label"].to_numpy()
        frame["predicted"] = classes[probabilities.argmax(axis=1)]
    if "spread" in answers:
        frame["spread"] = answers["spread"]
    frame["fold"] = job.split.name
    frame["seed"] = job.seed
    scores = pd.DataFrame(probabilities, columns=[f"p_{label}" for label in corpus.classes])
    return pd.concat([frame, scores], axis=1)


def measure(corpus: Corpus, rows: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """Figures of the predictions for the items ``rows``, of the kind that fits the corpus."""
    if corpus.multi_label:
        return tagging_metrics(corpus.memberships[rows].toarray(), probabilities, corpus.classes)
    targets = corpus.targets[rows]
    table = corpus.table.iloc[rows]
    speakers = list(table["speaker"]) if "speaker" in table else None
    return classification_metrics(targets, probabilities, corpus.classes, speakers)


def corpus_facts(corpus: Corpus, features: FeatureSet) -> dict[str, Any]:
    """What a model card says of the training corpus."""
    return {
        "name": corpus.name,
        "items": len(corpus),
        "unlabelled": int((~corpus.labelled).sum()),
        "classes": list(corpus.classes),
        "speakers": len(set(corpus.speakers or [])),
        "hours": features.stats.seconds_audio / 3600,
        "languages": list(corpus.languages),
        "licence": corpus.licence,
        "url": corpus.url,
        "citation": corpus.citation,
    }


def protocol_facts(recipe: Recipe, corpus: Corpus, splits: Sequence[Split]) -> dict[str, Any]:
    """The protocol in words, and what it did to this corpus."""
    facts = make_protocol(recipe).describe(corpus, splits)
    remark = cast("type[SupervisedTask]", TASKS.get(recipe.task["name"])).remark_on(without_name(recipe.task))
    facts["description"] += f" {remark}" if remark else ""
    validated = all(len(split.validation) for split in splits)
    if recipe.training.averaging == "epochs":
        first, last = recipe.training.averaged_epochs
        facts["description"] += f" In this run the weights of epochs {first} to {last} are averaged"
        facts["description"] += ": the validation items choose nothing." if validated else "."
    elif validated and recipe.training.selection == "last" and not recipe.training.patience:
        facts["description"] += " In this run the last epoch is kept: the validation items choose nothing."
    return facts


@dataclass(frozen=True, eq=False)
class Trained:
    """What a training has come to: a network with the weights that it chose.

    Attributes:
        source: How items reach the network.
        standardizer: Learned from the items that training saw.
        model: The network.
        task: Its task.
        epoch: The epoch that the weights are of, counted from 0.
        seed: Of the training.
        trainer: What predicts.
    """

    source: Input
    standardizer: Standardizer
    model: PretrainedModel
    task: SupervisedTask
    epoch: int
    seed: int
    trainer: Trainer

    def answers(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Answers for the items ``rows``; see `predict`."""
        loader = self.source.loader(rows, self.standardizer, seed=self.seed)
        return predict(self.task, loader, rows, self.trainer)


def learn(
    job: Job, recipe: Recipe, source: Input, *, progress: bool = False, say: Callable[[str], None] | None = None
) -> Trained:
    """Train on one split with one seed, or go on with it; no test item is looked at.

    Checkpoints and learning curves are kept in the folder of the job.
    """
    split, seed = job.split, job.seed
    seed_everything(seed, verbose=False)
    standardizer = source.standardizer(source.seen(split))
    model, _ = make_model(recipe, source)
    task = make_task(recipe, model, source.prepared.corpus, split.train, seed)
    training = source.training(task, split, standardizer, seed=seed)
    validation = source.loader(split.validation, standardizer, seed=seed) if len(split.validation) else None
    fit(job, recipe, task, training, validation, progress=progress, say=say)
    epoch = load_weights_of(job, recipe, task)
    trainer = _trainer_of_one(recipe, progress)
    if recipe.training.refresh_batch_norm:
        refresh(recipe, task, training, trainer, seed)
    return Trained(source, standardizer, model, task, epoch, seed, trainer)


def train_job(
    job: Job,
    recipe: Recipe,
    prepared: Prepared,
    *,
    progress: bool = False,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Train and test one split with one seed, or go on with it.

    Test items are read once, after training, with the weights that validation selected (or that the recipe names).

    Returns:
        The contents of the job's ``metrics.json``.

    Raises:
        RunError: If the recipe chooses by validation items and there are none.
    """
    if job.done:
        return cast("dict[str, Any]", json.loads((job.folder / "metrics.json").read_text("utf-8")))
    check_split(recipe, job.split)
    job.folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    split, seed, corpus = job.split, job.seed, prepared.corpus
    with quiet_trainer(), cpu_threads(recipe.training.threads):
        source = make_input(recipe, prepared)
        trained = learn(job, recipe, source, progress=progress, say=say)
        model, task, standardizer, epoch = trained.model, trained.task, trained.standardizer, trained.epoch
        result: dict[str, Any] = {"validation": None}
        for part, rows in (("validation", split.validation), ("test", split.test)):
            if not len(rows):
                continue
            answers = trained.answers(rows)
            measured = measure(corpus, rows, answers["probabilities"])
            result |= measured if part == "test" else {"validation": measured}
            table = predictions_table(corpus, rows, answers, job, source.told)
            write_csv(job.folder / f"{'predictions' if part == 'test' else part}.csv", table)
        result |= source.beside(split, standardizer, answers, job.folder, model) | task.findings()
        pseudo = task.pseudo_labels()
        if pseudo is not None and len(pseudo):
            names = np.array(corpus.classes, dtype=object)[pseudo["predicted"].to_numpy()]
            write_csv(job.folder / "pseudo_labels.csv", pseudo.assign(predicted=names))
        curves = pd.read_csv(job.folder / "curves.csv")
        result |= {
            "fold": split.name,
            "seed": seed,
            "items": {part: len(getattr(split, part)) for part in ("train", "unlabelled", "validation", "test")},
            "best_epoch": epoch,
            "epochs": len(curves),
            "seconds": float(curves["seconds"].sum()),
            "seconds_per_epoch": float(curves["seconds"].median()),
            "seconds_in_all": time.perf_counter() - started,
        }
        companions = task.companions()
        if companions is not None:
            _save_model(job, recipe, source, model, standardizer, result, companions)
        write_json(job.folder / "metrics.json", result)
    return result


def _save_model(
    job: Job,
    recipe: Recipe,
    source: Input,
    model: PretrainedModel,
    standardizer: Standardizer,
    result: dict[str, Any],
    companions: dict[str, Any],
) -> None:
    """The model folder of a training, with what the task puts beside the network."""
    prepared = source.prepared
    save_bundle(
        job.folder / "model",
        model,
        prepared.pipeline,
        source.graph,
        standardizer,
        prepared.corpus.classes,
        kind=recipe.kind,
        corpus=corpus_facts(prepared.corpus, prepared.features),
        protocol=protocol_facts(recipe, prepared.corpus, [job.split]),
        metrics={name: result[name] for name in HEADLINES[recipe.kind]},
        **companions,
    )
