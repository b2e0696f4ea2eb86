"""Pretrained encoders of text and of speech, trained further on a corpus before their vectors are taken.

Two-stage systems (Nguyen et al., "HemoGAT", AEEE 24(2), 2026, doi 10.15598/aece.v24i2.250415) tune an encoder on the
training part of a corpus, freeze it, and build on its vectors. What :func:`finetune` writes is a folder that the
extractors `text_encoder` and `speech_encoder` take as ``model``.
"""

from __future__ import annotations

import math
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphophone import audio
from graphophone.corpora.base import Problem
from graphophone.corpora.transcripts import normalise
from graphophone.errors import GraphophoneError
from graphophone.features import pretrained
from graphophone.features.base import stable_hash
from graphophone.features.extraction import Item
from graphophone.features.pipeline import audio_items
from graphophone.features.text import is_text
from graphophone.features.text_encoder import Pooling, load_tokenizer, pool, positions
from graphophone.features.views import Batch, SoundViews, TextViews, Views
from graphophone.files import write_json
from graphophone.inference.progress import track
from graphophone.nn.contrastive import nt_xent

if TYPE_CHECKING:
    from graphophone.corpora.base import Corpus

Modality = Literal["text", "audio"]

_STATE, _DONE = "training.pt", "finetuning.json"
_PROJECTION = 512
_RATES = {"text": 2e-5, "audio": 1e-4}
# Frames that SpecAugment masks at once come to 0.2 s; a shorter piece would be nothing but mask.
_SHORTEST_CROP = 0.3


class FinetuningError(GraphophoneError):
    """A setting that makes no sense, or nothing to learn from."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How an encoder is trained further; the defaults are those of HemoGAT, but for ``trainable``.

    Args:
        objective: ``"nt_xent"``: two views of an item belong together, no labels are read. ``"ce"``: cross-entropy of
            the labels, through a linear layer, from one view.
        trainable: Upper layers that are trained, with the pooler where it is used; the rest, embeddings and
            convolutions included, is frozen. ``"all"`` trains everything, as the released code does.
        pooling: Of texts: ``"mean"``, ``"cls"`` or ``"pooler"`` (the published one). Extract with the same.
        max_length: Tokens that are read of a text.
        word_dropout: Probability with which a view lacks a word.
        crop: Seconds of a view of a recording.
        temperature: Of `nt_xent`.
        mask_duplicates: Of texts: items of a batch that say the same are no rivals of each other.
        epochs: Passes over the items, at most.
        batch_size: Items per step.
        learning_rate: Of AdamW; None for 2e-5 (text) or 1e-4 (audio). It is halved after two epochs without a lower
            training loss.
        weight_decay: Of AdamW.
        patience: Epochs without a lower training loss after which training stops; 0 never stops early. The epoch of
            the lowest one is kept.
        seed: Seed of everything random.

    Raises:
        FinetuningError: Naming the setting that makes no sense.
    """

    objective: Literal["nt_xent", "ce"] = "nt_xent"
    trainable: int | Literal["all"] = 4
    pooling: Pooling = "mean"
    max_length: int = 128
    word_dropout: float = 0.15
    crop: float = 1.0
    temperature: float = 0.07
    mask_duplicates: bool = True
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float | None = None
    weight_decay: float = 0.01
    patience: int = 5
    seed: int = 42

    def __post_init__(self) -> None:
        def check(good: bool, name: str, wanted: str) -> None:
            if not good:
                raise FinetuningError(f"{name} must be {wanted}, not {getattr(self, name)!r}")

        check(self.objective in ("nt_xent", "ce"), "objective", "nt_xent or ce")
        check(self.trainable == "all" or (isinstance(self.trainable, int) and self.trainable > 0), "trainable",
              "a number of layers from 1 on, or all")  # fmt: skip
        check(self.pooling in ("mean", "cls", "pooler"), "pooling", "mean, cls or pooler")
        check(self.max_length >= 3, "max_length", "at least 3 tokens")
        check(0 <= self.word_dropout < 1, "word_dropout", "in [0, 1)")
        check(self.crop >= _SHORTEST_CROP, "crop", f"at least {_SHORTEST_CROP} seconds")
        check(self.temperature > 0, "temperature", "above 0")
        check(self.epochs >= 1, "epochs", "at least 1")
        check(self.batch_size >= 2, "batch_size", "at least 2: others of the batch are the rivals")
        check(self.learning_rate is None or self.learning_rate > 0, "learning_rate", "above 0")
        check(self.weight_decay >= 0, "weight_decay", "at least 0")
        check(self.patience >= 0, "patience", "at least 0")


@dataclass(frozen=True)
class Finetuned:
    """What :func:`finetune` made.

    Attributes:
        folder: The encoder, for ``model`` of an extractor.
        modality: What it reads.
        history: One dict per epoch: ``epoch`` (from 0), ``loss``, ``learning_rate``, ``seconds``.
        best_epoch: The epoch whose weights are in the folder.
        items: How many were learned from.
        parameters: Of the encoder.
        trained: Of these, trained.
        peak_bytes: Most memory in use: of the GPU, or of this process; None where that is not known.
        problems: Items that were left out.
    """

    folder: Path
    modality: Modality
    history: list[dict[str, float]]
    best_epoch: int
    items: int
    parameters: int
    trained: int
    peak_bytes: int | None
    problems: tuple[Problem, ...]


class Projected(nn.Module):
    """An encoder with the head that it is trained through and that is thrown away afterwards.

    Args:
        network: The encoder.
        modality: What it reads.
        pooling: Of texts.
        outputs: Classes of a linear head; 0 for HemoGAT's projection: Linear, ReLU, Linear to 512.
    """

    def __init__(self, network: Any, modality: Modality, pooling: Pooling, outputs: int = 0) -> None:
        super().__init__()
        self.network, self.modality, self.pooling = network, modality, pooling
        width = int(network.config.hidden_size)
        self.head: nn.Module = (
            nn.Linear(width, outputs)
            if outputs
            else nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, _PROJECTION))
        )

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Projections or logits `[views, outputs]` of a batch's inputs."""
        output = self.network(**inputs)
        states = output.last_hidden_state
        if self.modality == "audio":
            return self.head(states.mean(dim=1))
        return self.head(pool(states, inputs["attention_mask"], self.pooling, output))


def choose_trainable(network: nn.Module, trainable: int | Literal["all"], *, pooler: bool) -> None:
    """Freeze an encoder but for its upper layers, and its pooler where that is used.

    Raises:
        FinetuningError: If it has fewer layers, or none that can be told.
    """
    network.requires_grad_(trainable == "all")
    if trainable != "all":
        layers = _layers(network)
        if trainable > len(layers):
            raise FinetuningError(f"trainable is {trainable}, but the encoder has {len(layers)} layers; or say all")
        for layer in layers[-trainable:]:
            layer.requires_grad_(True)
    if isinstance(getattr(network, "pooler", None), nn.Module):
        network.pooler.requires_grad_(pooler)
    sound = getattr(network, "feature_extractor", None)
    if trainable != "all" and sound is not None:
        # Otherwise it asks for gradients of its first signals, and they would run through all its frozen layers.
        sound._requires_grad = False


def _layers(network: nn.Module) -> nn.ModuleList:
    """The blocks of the transformer, lowest first."""
    for name, module in network.named_modules():
        if name.rpartition(".")[2] in ("layer", "layers") and isinstance(module, nn.ModuleList):
            return module
    raise FinetuningError("this encoder's layers cannot be told apart; say trainable all")


def finetune(
    model: str | Path,
    corpus: Corpus,
    output: str | Path,
    settings: Settings | None = None,
    *,
    rows: np.ndarray | None = None,
    revision: str | None = None,
    device: str = "cpu",
    progress: bool = False,
    report: Callable[[dict[str, float]], None] | None = None,
) -> Finetuned:
    """Train an encoder further, and write it as a folder.

    The state is kept in that folder after every epoch: the same call again goes on from there, with the same numbers
    as if it had never stopped. A finished one is not trained again.

    Args:
        model: A folder or a hub id of an encoder of text or of speech, or ``minilm``.
        corpus: Its texts or recordings; its labels with objective ``"ce"``.
        output: Where to write.
        settings: How to train; None for the defaults.
        rows: Rows of the corpus table to learn from: the training part (:func:`training_rows`). None for all.
        revision: Of the hub's repository.
        device: ``"cpu"``, ``"cuda"``, ...
        progress: Show a bar per epoch.
        report: Called with the line of history of every epoch.

    Raises:
        FinetuningError: If there is nothing to learn from, or the folder holds something else.
        FeatureError: If the encoder cannot be loaded.
        MissingDependencyError: If transformers is not installed.
    """
    settings = settings or Settings()
    folder = _source(model, revision)
    modality: Modality = "audio" if "conv_kernel" in pretrained.read_json(folder) else "text"
    chosen, views, problems = _items(corpus, rows, folder, modality, settings)
    identity = _identity(settings, folder, corpus, chosen)
    target = Path(output)
    state_file, done_file = target / _STATE, target / _DONE
    if done_file.is_file():
        return _finished(target, identity, settings, problems)
    with _random_state(settings.seed, -1):
        network = pretrained.load_network(folder)
        choose_trainable(network, settings.trainable, pooler=modality == "text" and settings.pooling == "pooler")
        classes = len(corpus.classes) if settings.objective == "ce" else 0
        tuned = Projected(network, modality, settings.pooling, classes)
    parameters = sum(p.numel() for p in network.parameters())
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    if target.exists() and any(target.iterdir()) and not state_file.is_file():
        raise FinetuningError(f"{target}: is not empty; choose another folder")
    target.mkdir(parents=True, exist_ok=True)
    course = Course(tuned.to(device), settings, modality, identity, state_file)
    groups = _groups(corpus, chosen, modality, settings)
    labels = torch.from_numpy(corpus.targets[chosen]) if classes else None
    if course.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(course.device)
    while not course.finished:
        line = course.epoch(views, len(chosen), groups, labels, progress=progress)
        if report is not None:
            report(line)
    for number, reason in sorted(views.failures.items()):
        problems = (*problems, Problem(str(corpus.table["id"].iloc[chosen[number]]), None, reason))
    peak = _peak_bytes(course.device)
    course.restore_best()
    _write(network, folder, target)
    write_json(
        done_file,
        {
            "identity": identity,
            "model": str(model),
            "modality": modality,
            "corpus": corpus.name,
            "items": len(chosen),
            "settings": asdict(settings),
            "history": course.history,
            "best_epoch": course.best_epoch,
            "parameters": parameters,
            "trained": trained,
            "peak_bytes": peak,
        },
    )
    state_file.unlink()
    best = course.best_epoch
    return Finetuned(target, modality, course.history, best, len(chosen), parameters, trained, peak, problems)


def _finished(target: Path, identity: str, settings: Settings, problems: tuple[Problem, ...]) -> Finetuned:
    """What a folder says of the fine-tuning that made it.

    Raises:
        FinetuningError: If that was another one.
    """
    made = pretrained.read_json(target, _DONE)
    if made.get("identity") != identity or made["settings"]["epochs"] != settings.epochs:
        raise FinetuningError(f"{target}: holds another fine-tuning; choose another folder, or delete this one")
    keys = ("modality", "history", "best_epoch", "items", "parameters", "trained", "peak_bytes")
    return Finetuned(target, problems=problems, **{key: made[key] for key in keys})


def training_rows(corpus: Corpus, protocol: str | None = None, fold: str | None = None, seed: int = 0) -> np.ndarray:
    """The rows that an encoder may learn from: those of a training part, with or without label.

    Args:
        corpus: What is divided.
        protocol: Name of a protocol of evaluation; None for the published training part.
        fold: Which of its splits; None where there is one only.
        seed: That of the evaluation.

    Raises:
        FinetuningError: If the corpus has no published training part, or the fold is unknown or wanted.
        ProtocolError: If the corpus cannot be divided so.
    """
    from graphophone.evaluation.protocols import create_protocol

    if protocol is None:
        if fold is not None:
            raise FinetuningError(f"fold is {fold!r}, but there is no protocol; name the one that is evaluated")
        if "split" not in corpus.table or not (corpus.table["split"] == "train").any():
            raise FinetuningError(
                f"corpus {corpus.name!r} has no published training part; name the protocol and the fold that is "
                "evaluated, so that its test items stay unheard"
            )
        return np.flatnonzero(corpus.table["split"] == "train")
    splits = {split.name: split for split in create_protocol(protocol).splits(corpus, seed=seed)}
    if fold is None and len(splits) == 1:
        fold = next(iter(splits))
    if fold not in splits:
        raise FinetuningError(f"fold must be one of {', '.join(splits)}, not {fold!r}")
    return np.sort(np.concatenate([splits[fold].train, splits[fold].unlabelled]))


def _source(model: str | Path, revision: str | None) -> Path:
    if str(model) == "minilm":
        from graphophone.features.minilm import Minilm

        return Minilm().folder
    return pretrained.locate(model, revision)


def _items(
    corpus: Corpus, rows: np.ndarray | None, folder: Path, modality: Modality, settings: Settings
) -> tuple[np.ndarray, Views, tuple[Problem, ...]]:
    """Rows that are learned from, what makes views of them, and why others are not."""
    wanted = np.arange(len(corpus)) if rows is None else np.unique(np.asarray(rows))
    if settings.objective == "ce":
        if corpus.multi_label:
            raise FinetuningError(f"corpus {corpus.name!r} has several labels per item; choose objective nt_xent")
        wanted = wanted[corpus.labelled[wanted]]
    problems: list[Problem] = []
    good: list[int] = []
    ids = corpus.table["id"].tolist()
    if modality == "text":
        column: list[Any] = corpus.table["text"].tolist() if "text" in corpus.table else [None] * len(corpus)
        for row in wanted.tolist():
            if is_text(column[row]):
                good.append(row)
            else:
                problems.append(Problem(str(ids[row]), None, "it has no text"))
        tokenizer = load_tokenizer(folder)
        most = min(settings.max_length, positions(pretrained.read_json(folder), tokenizer))
        views: Views = TextViews([column[row] for row in good], tokenizer, most, settings.word_dropout)
    else:
        sounds, seconds = audio_items(corpus), []
        for row in wanted.tolist():
            try:
                seconds.append(_seconds(sounds[row]))
                good.append(row)
            except GraphophoneError as error:
                problems.append(Problem(str(ids[row]), None, str(error)))
        views = SoundViews([sounds[row] for row in good], seconds, folder, settings.crop)
    if len(good) < 2:
        raise FinetuningError(f"corpus {corpus.name!r} has {len(good)} items to learn from; at least 2 are needed")
    return np.array(good), views, tuple(problems)


def _seconds(item: Item) -> float:
    """Length of a recording, or of a segment, from the header."""
    if not item.path:
        raise FinetuningError("it has no audio file")
    end = audio.info(item.path).duration if item.end is None else item.end
    return end - (item.start or 0.0)


def _groups(corpus: Corpus, rows: np.ndarray, modality: Modality, settings: Settings) -> Tensor | None:
    """Which texts say the same; None where nobody asks."""
    if modality != "text" or settings.objective != "nt_xent" or not settings.mask_duplicates:
        return None
    said = [normalise(text) or text for text in corpus.table["text"].iloc[rows]]
    return torch.from_numpy(np.unique(said, return_inverse=True)[1])


def _identity(settings: Settings, folder: Path, corpus: Corpus, rows: np.ndarray) -> str:
    """What must be the same for a training to be the same one; more epochs may follow."""
    options = {key: value for key, value in asdict(settings).items() if key != "epochs"}
    return stable_hash([options, pretrained.digest(folder), corpus.table["id"].iloc[rows].tolist()])


class Course:
    """A training, epoch by epoch, that can stop and go on."""

    def __init__(
        self, tuned: Projected, settings: Settings, modality: Modality, identity: str, state_file: Path
    ) -> None:
        self._tuned, self._settings, self._identity, self._file = tuned, settings, identity, state_file
        self.device = next(tuned.parameters()).device
        self._weights = {name: p for name, p in tuned.named_parameters() if p.requires_grad}
        rate = settings.learning_rate or _RATES[modality]
        self._optimizer = torch.optim.AdamW(self._weights.values(), lr=rate, weight_decay=settings.weight_decay)
        self._scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(self._optimizer, factor=0.5, patience=2)
        self.history: list[dict[str, float]] = []
        self.best_epoch = -1
        self._best: dict[str, Tensor] = {}
        if state_file.is_file():
            self._resume()

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or enough of them without a lower loss."""
        done, patience = len(self.history), self._settings.patience
        return done >= self._settings.epochs or bool(patience and done - 1 - self.best_epoch >= patience)

    def epoch(
        self, views: Views, count: int, groups: Tensor | None, labels: Tensor | None, *, progress: bool
    ) -> dict[str, float]:
        """Learn from every item once, and keep the state; the line of history."""
        began, number = time.perf_counter(), len(self.history)
        settings = self._settings
        total, seen = 0.0, 0
        with _random_state(settings.seed, number) as rng:
            order = rng.permutation(count)
            parts = [order[i : i + settings.batch_size] for i in range(0, count, settings.batch_size)]
            if len(parts[-1]) == 1 and len(parts) > 1:  # one item has no rivals
                parts[-2:] = [np.concatenate(parts[-2:])]
            self._tuned.train()
            batches = views.batches(parts, 2 if settings.objective == "nt_xent" else 1, rng)
            for batch in track(batches, f"epoch {number}", len(parts), show=progress):
                loss = self._loss(batch, groups, labels)
                self._optimizer.zero_grad(set_to_none=True)
                loss.backward()
                self._optimizer.step()
                total += loss.item() * len(batch.items)
                seen += len(batch.items)
        mean = total / max(seen, 1)
        if not seen or not math.isfinite(mean):
            what = "no recording can be read" if not seen else "the loss is not a finite number; lower learning_rate"
            raise FinetuningError(f"epoch {number}: {what}")
        return self.note(mean, time.perf_counter() - began)

    def note(self, loss: float, seconds: float) -> dict[str, float]:
        """Enter an epoch into the history, choose the rate of the next, and keep the state; the line of history."""
        number, rate = len(self.history), self._optimizer.param_groups[0]["lr"]
        self._scheduler.step(loss)
        if self.best_epoch < 0 or loss < self.history[self.best_epoch]["loss"]:
            self.best_epoch = number
            self._best = {name: p.detach().cpu().clone() for name, p in self._weights.items()}
        line = {"epoch": number, "loss": loss, "learning_rate": rate, "seconds": seconds}
        self.history.append(line)
        self._keep()
        return line

    def _loss(self, batch: Batch, groups: Tensor | None, labels: Tensor | None) -> Tensor:
        outputs = self._tuned({name: value.to(self.device) for name, value in batch.inputs.items()})
        if labels is not None:
            return F.cross_entropy(outputs, labels[batch.items].to(self.device))
        first, second = outputs.chunk(2)
        same = None if groups is None else groups[batch.items].to(self.device)
        return nt_xent(first, second, temperature=self._settings.temperature, groups=same)

    def restore_best(self) -> None:
        """Put the weights of the best epoch in place."""
        with torch.no_grad():
            for name, value in self._best.items():
                self._weights[name].copy_(value)

    def _keep(self) -> None:
        state = {
            "identity": self._identity,
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best": self._best,
            "weights": {name: p.detach() for name, p in self._weights.items()},
            "optimizer": self._optimizer.state_dict(),
            "scheduler": self._scheduler.state_dict(),
        }
        unfinished = self._file.with_suffix(".tmp")
        torch.save(state, unfinished)
        unfinished.replace(self._file)

    def _resume(self) -> None:
        try:
            state = torch.load(self._file, map_location="cpu", weights_only=True)
        except Exception as error:  # what damaged files raise has no common class
            raise FinetuningError(f"{self._file}: damaged; delete the folder and begin anew") from error
        if state["identity"] != self._identity:
            raise FinetuningError(
                f"{self._file.parent}: holds another, unfinished fine-tuning; choose another folder, or delete this one"
            )
        with torch.no_grad():
            for name, value in state["weights"].items():
                self._weights[name].copy_(value)
        self._optimizer.load_state_dict(state["optimizer"])
        self._scheduler.load_state_dict(state["scheduler"])
        self.history, self.best_epoch, self._best = state["history"], state["best_epoch"], state["best"]


@contextmanager
def _random_state(seed: int, epoch: int) -> Iterator[np.random.Generator]:
    """Everything random follows from seed and epoch; what the caller's own generators would give is not changed."""
    sequence = np.random.SeedSequence([seed, epoch + 1])
    outside = np.random.get_state()  # noqa: NPY002 - the package draws its masks of frames from the global generator
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", audio.AudioWarning)  # silence in a piece is no fault of the recording
        first, second = (int(word) for word in sequence.generate_state(2))
        torch.manual_seed(first)
        np.random.seed(second)  # noqa: NPY002
        try:
            yield np.random.default_rng(sequence)
        finally:
            np.random.set_state(outside)  # noqa: NPY002


def _write(network: Any, source: Path, target: Path) -> None:
    """The folder that an extractor takes: new weights, and what belongs to them as it was."""
    network.eval().requires_grad_(False)
    with pretrained.silent():
        network.to("cpu").save_pretrained(target)
    for path in pretrained.companions(source):
        shutil.copy(path, target / path.name)


def _peak_bytes(device: torch.device) -> int | None:
    """Most memory in use so far."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
