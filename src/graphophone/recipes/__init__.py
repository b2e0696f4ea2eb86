"""A system as a recipe: one choice for each of corpus, features, graph, model, task and protocol.

A recipe is YAML. Each of the slots ``corpus``, ``features``, ``graph``, ``model``, ``task`` and ``protocol`` names a
registered part and its options; ``augment``, ``standardize`` and ``training`` are plain settings, the first of a kind
that fits what the model reads. The options are typed by the part's own signature, so that ``--graph.k fifteen`` and
``--graph.kk 15`` are refused by name before any work starts.
"""

from __future__ import annotations

import copy
import inspect
import json
import math
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from graphophone.errors import GraphophoneError
from graphophone.features.augment import FrameAugmentation
from graphophone.registry import Registry, did_you_mean


class RecipeError(GraphophoneError):
    """A recipe that cannot be read, or a key or value in it that does not fit."""


AUGMENTATIONS: Registry[Any] = Registry(
    "augmentation",
    {
        "frames": "graphophone.features.augment:FrameAugmentation",
        "none": "graphophone.features.augment:NoAugmentation",
        "spectrogram": "graphophone.features.spectrogram_augment:SpectrogramAugmentation",
    },
)
# What a model reads, and the augmentation and the graph that a recipe for it has unless it says otherwise.
_AUGMENTATION_OF = {"graph": "frames", "spectrogram": "spectrogram", "nodes": "none", "dialogue": "none"}
_GRAPH_OF = {"spectrogram": "none", "nodes": "signed", "dialogue": "none"}


@dataclass
class Standardize:
    """How features are centred and scaled before a model sees them.

    Args:
        per: ``"column"``: each column by its own mean and standard deviation over the training frames;
            ``"corpus"``: all columns by those of all values.
        mean: A published mean, in place of one that is measured; together with ``std``.
        std: The published standard deviation.
        clip: Bound of the standardised values; infinity (``.inf``) for none.
    """

    per: Literal["column", "corpus"] = "column"
    mean: float | None = None
    std: float | None = None
    clip: float = 10.0

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise ValueError("standardize.mean and standardize.std go together; give both or neither")
        if self.mean is not None and self.per != "corpus":
            raise ValueError("standardize.mean holds for all columns; set standardize.per to 'corpus'")
        if self.mean is not None and not math.isfinite(self.mean):
            raise ValueError(f"standardize.mean must be a number, not {self.mean}")
        if self.std is not None and not 0 < self.std < math.inf:
            raise ValueError(f"standardize.std must be above 0, not {self.std}")
        if not self.clip > 0:
            raise ValueError(f"standardize.clip must be above 0, not {self.clip}")


@dataclass
class Training:
    """How a model is trained.

    Args:
        epochs: Longest training, in passes over the training part.
        batch_size: Utterances per optimiser step, over all devices. Networks whose nodes are recordings do not read it:
            their steps see subgraphs, whose sizes are options of the task.
        patience: Epochs without a better validation figure before training stops; 0 never stops early.
        selection: ``"best"`` keeps the epoch of the best validation figure (UA, or mAP of tags), ``"last"`` the last.
        averaging: ``"ema"`` validates, selects and keeps an exponential moving average of the weights; ``"epochs"``
            keeps, at the end, the plain mean of the weights of a range of epochs.
        ema_decay: Share of the old average that each optimiser step keeps.
        average_first: First epoch of the range, counted from 1.
        average_last: Last epoch of the range; 0 is the last of the training.
        refresh_batch_norm: Measure the statistics of batch norm once more with the weights that are kept, in one pass
            over the training part.
        gradient_clip: Largest norm of the gradient; 0 leaves it.
        class_weights: Weight the classes by their inverse frequency in the training part; a number is a power of it,
            of which 0.25 or 0.5 weigh rare classes less heavily.
        balanced: Draw every class about equally often.
        pretrained: Weights to start from: a file or folder that :func:`graphophone.models.load_weights` reads.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        devices: How many of them; several share each batch, in a process each.
        sync_batchnorm: Batch norm over the items of all devices, in place of each device's own.
        precision: ``"32-true"`` or ``"bf16-mixed"``.
        threads: CPU threads per training (and device); 0 leaves PyTorch's setting.
        loader_workers: Processes that build batches; 0 builds them in the training process.
        max_duration: Longest recording that is used, in seconds; longer ones are left out and named. 0 uses all.
    """

    epochs: int = 300
    batch_size: int = 8
    patience: int = 30
    selection: Literal["best", "last"] = "best"
    averaging: Literal["none", "ema", "epochs"] = "none"
    ema_decay: float = 0.999
    average_first: int = 1
    average_last: int = 0
    refresh_batch_norm: bool = False
    gradient_clip: float = 0.0
    class_weights: bool | float = False
    balanced: bool = False
    pretrained: str | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = 1
    sync_batchnorm: bool = False
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    threads: int = 0
    loader_workers: int = 0
    max_duration: float = 60.0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "devices", "average_first"):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name} must be at least 1, not {getattr(self, name)}")
        for name in ("patience", "gradient_clip", "threads", "loader_workers", "max_duration", "average_last"):
            if getattr(self, name) < 0:
                raise ValueError(f"training.{name} must not be negative, not {getattr(self, name)}")
        if not 0 <= self.class_weights <= 1:
            raise ValueError(
                f"training.class_weights must lie in [0, 1], or be true or false, not {self.class_weights}"
            )
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"training.ema_decay must lie in [0, 1), not {self.ema_decay}")
        if self.averaging == "epochs":
            if self.selection != "last" or self.patience:
                raise ValueError(
                    "training.averaging 'epochs' takes the epochs that are named: set training.selection to 'last' "
                    "and training.patience to 0"
                )
            first, last = self.averaged_epochs
            if not first <= last <= self.epochs:
                raise ValueError(
                    f"training.average_first {first} and training.average_last {last} must be epochs of the training, "
                    f"in this order, which has {self.epochs}"
                )

    @property
    def averaged_epochs(self) -> tuple[int, int]:
        """First and last epoch whose weights are averaged, counted from 1."""
        return self.average_first, self.average_last or self.epochs


@dataclass
class Recipe:
    """A resolved recipe: every slot is a dictionary of ``name`` and that part's options.

    Args:
        name: What the run folder is called.
        description: A sentence for people.
        corpus: Registered corpus, ``root`` and the adapter's options.
        features: Registered extractor and its options, and those of
            :class:`~graphophone.features.FeaturePipeline`: ``decimate``, ``metadata``, ``frames`` and so on.
        graph: Registered graph builder and its options; ``none`` for models that read a spectrogram.
        model: Registered model and its options; sizes of input and output follow from the data.
        task: Registered task and its options.
        protocol: Registered evaluation protocol and its options.
        augment: Random changes of training items: of frames for graphs, of spectrograms for models that read them.
        standardize: How features are centred and scaled.
        training: How the model is trained.
        seeds: One complete evaluation per seed.
    """

    name: str
    corpus: dict[str, Any]
    features: dict[str, Any]
    graph: dict[str, Any]
    model: dict[str, Any]
    task: dict[str, Any]
    protocol: dict[str, Any]
    description: str = ""
    augment: Any = field(default_factory=FrameAugmentation)
    standardize: Standardize = field(default_factory=Standardize)
    training: Training = field(default_factory=Training)
    seeds: list[int] = field(default_factory=lambda: [0])

    @property
    def reads(self) -> str:
        """What the model reads: ``"graph"``, ``"spectrogram"``, ``"nodes"`` or ``"dialogue"``."""
        return _reads(self.model["name"])

    @property
    def kind(self) -> Literal["classification", "tagging"]:
        """What is learned: one label per item, or tags."""
        tagging = getattr(_registry("task").get(self.task["name"]), "kind", None) == "tagging"
        return "tagging" if tagging else "classification"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, in the order in which sound flows through a system."""
        order = ("name", "description", *SLOTS[:4], "augment", "standardize", "task", "training", "protocol", "seeds")
        plain = json.loads(json.dumps(asdict(self)))  # lists for tuples, as YAML gives them back
        kinds = [name for name in AUGMENTATIONS.names() if AUGMENTATIONS.get(name) is type(self.augment)]
        plain["augment"] = {"name": kinds[0], **plain["augment"]}
        return {key: plain[key] for key in order}

    def to_yaml(self) -> str:
        """The recipe as YAML, every default written out."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=110)


SLOTS = ("corpus", "features", "graph", "model", "task", "protocol")
_SETTINGS = ("augment", "standardize", "training")


def without_name(slot: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a slot."""
    return {key: value for key, value in slot.items() if key != "name"}


# What the run supplies, and a recipe therefore cannot set; `name` is taken by the slot itself.
_SUPPLIED: Mapping[str, frozenset[str]] = {
    "corpus": frozenset({"name", "root"}),
    "features": frozenset({"name"}),
    "graph": frozenset({"name"}),
    "model": frozenset({"name", "in_channels", "num_classes", "num_mel_bins", "frames", "sequence_channels"}),
    "task": frozenset({"name", "model", "num_classes", "class_weights", "seed"}),
    "protocol": frozenset({"name"}),
}


def _registry(slot: str) -> Any:
    """The registry of a slot, imported when it is needed."""
    from graphophone.corpora import CORPORA
    from graphophone.evaluation.protocols import PROTOCOLS
    from graphophone.features import EXTRACTORS
    from graphophone.graphs import GRAPHS
    from graphophone.models import MODELS
    from graphophone.tasks import TASKS

    return {
        "corpus": CORPORA,
        "features": EXTRACTORS,
        "graph": GRAPHS,
        "model": MODELS,
        "task": TASKS,
        "protocol": PROTOCOLS,
    }[slot]


def _reads(model: str) -> str:
    """What a registered model reads."""
    return str(getattr(_registry("model").get(model), "reads", "graph"))


def _modalities(model: str) -> tuple[str, ...]:
    """The modalities that a registered model tells apart; empty where it reads vectors of any kind."""
    return tuple(getattr(_registry("model").get(model), "modalities", ()))


def list_recipes() -> dict[str, str]:
    """Shipped recipes: name to description."""
    found = {}
    for entry in sorted(resources.files(__package__).iterdir(), key=lambda item: item.name):
        if entry.name.endswith(".yaml"):
            found[entry.name.removesuffix(".yaml")] = yaml.safe_load(entry.read_text("utf-8")).get("description", "")
    return found


def _read(source: str | Path) -> dict[str, Any]:
    """A recipe file, or a shipped recipe by its name, as plain data."""
    path = Path(source)
    shipped = list_recipes()
    if str(source) in shipped:
        text = resources.files(__package__).joinpath(f"{source}.yaml").read_text("utf-8")
    elif path.suffix in {".yaml", ".yml"} or path.is_file():
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path}: cannot be read as a recipe ({error}); give a YAML file") from error
    else:
        raise RecipeError(
            f"there is no recipe {str(source)!r}.{did_you_mean(str(source), shipped)} "
            f"Shipped: {', '.join(shipped)}; or give the path of a YAML file (the recipe comes before the overrides)"
        )
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where else ""
        raise RecipeError(f"{source}: not valid YAML{line}: {getattr(error, 'problem', error)}") from error
    if not isinstance(data, dict):
        raise RecipeError(f"{source}: a recipe is a mapping of keys such as 'corpus' and 'model'")
    return data


def _split_overrides(overrides: Sequence[str]) -> list[tuple[str, str]]:
    """``--graph.k 15`` and ``--graph.k=15`` as pairs of key and text."""
    pairs, words = [], list(overrides)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            raise RecipeError(f"{word!r} is not an override; write --key value, such as --graph.k 15")
        key, equals, value = word[2:].partition("=")
        if not equals:
            if not words or (words[0].startswith("--") and not re.match(r"--?\d", words[0])):
                raise RecipeError(f"--{key} has no value; write --{key} value")
            value = words.pop(0)
        pairs.append((key, value))
    return pairs


def _options(slot: str, name: str) -> dict[str, inspect.Parameter]:
    """What a recipe can set in a slot, by the signature of the part that fills it."""
    from graphophone.features import FeaturePipeline

    factory = _registry(slot).get(name)
    parameters = dict(inspect.signature(factory).parameters)
    if slot == "features":
        pipeline = dict(inspect.signature(FeaturePipeline).parameters)
        parameters |= {key: value for key, value in pipeline.items() if key != "extractor"}
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return {
        key: value
        for key, value in parameters.items()
        if key not in _SUPPLIED[slot] and value.kind not in kinds and not key.startswith("_")
    }


def _add_slot(parser: ArgumentParser, slot: str, name: str) -> None:
    """Typed options ``--slot.option`` for the part that fills a slot."""
    from graphophone.features import FeaturePipeline

    parser.add_argument(f"--{slot}.name", type=str, default=name, help=f"registered {_registry(slot).kind}")
    if slot == "corpus":
        parser.add_argument("--corpus.root", type=str | None, default=None, help="folder (or table file) of the corpus")
    factory: Callable[..., Any] = _registry(slot).get(name)
    skip = set(_SUPPLIED[slot])
    add = parser.add_class_arguments if inspect.isclass(factory) else parser.add_function_arguments
    add(
        factory,
        slot,
        skip={key for key in skip if key in inspect.signature(factory).parameters},
        as_group=True,
    )
    if slot == "features":
        parser.add_class_arguments(FeaturePipeline, slot, skip={"extractor"}, as_group=False)


def recipe_parser(names: Mapping[str, str]) -> ArgumentParser:
    """The parser for recipes whose slots, and ``augment``, hold the named parts."""
    parser = ArgumentParser(exit_on_error=False, add_help=False)
    parser.add_argument("--name", type=str, required=True, help="what the run folder is called")
    parser.add_argument("--description", type=str, default="", help="a sentence for people")
    for slot in SLOTS[:4]:
        _add_slot(parser, slot, names[slot])
    parser.add_argument("--augment.name", type=str, default=names["augment"], help="kind of augmentation")
    parser.add_class_arguments(AUGMENTATIONS.get(names["augment"]), "augment")
    parser.add_class_arguments(Standardize, "standardize")
    _add_slot(parser, "task", names["task"])
    parser.add_class_arguments(Training, "training")
    _add_slot(parser, "protocol", names["protocol"])
    parser.add_argument("--seeds", type=list[int], default=[0], help="one complete evaluation per seed")
    return parser


def _augmentation(names: Mapping[str, str]) -> Callable[..., Any]:
    return AUGMENTATIONS.get(names["augment"])


def _known_keys(names: Mapping[str, str]) -> list[str]:
    keys = ["name", "description", "seeds", "corpus.root"]
    keys += ["augment.name", *(f"augment.{key}" for key in inspect.signature(_augmentation(names)).parameters)]
    keys += [f"standardize.{item.name}" for item in fields(Standardize)]
    keys += [f"training.{item.name}" for item in fields(Training)]
    for slot in SLOTS:
        keys += [f"{slot}.name", *(f"{slot}.{key}" for key in _options(slot, names[slot]))]
    return keys


def load_recipe(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """Read, check and complete a recipe.

    Args:
        source: Name of a shipped recipe, path of a YAML file, or the same as a mapping.
        overrides: Command-line words, such as ``["--graph.k", "15", "--training.epochs=20"]``. A new ``name`` in a
            slot drops the options that the recipe gave to the old part.

    Raises:
        RecipeError: Naming the key, the value and what is accepted.
        UnknownNameError: If a slot names a part that is not registered.
    """
    data = copy.deepcopy(dict(source)) if isinstance(source, Mapping) else _read(source)
    label = "recipe" if isinstance(source, Mapping) else str(source)
    pairs = _split_overrides(overrides)

    names = _resolve_names(data, dict(pairs), label)
    known = _known_keys(names)
    given = [key for key, _ in pairs]
    for key, value in data.items():
        nested = isinstance(value, dict) and key in (*SLOTS, *_SETTINGS)
        given += [f"{key}.{option}" for option in value] if nested else [key]
    for key in given:
        if key not in known:
            group = key.split(".")[0] + "."
            near = [other for other in known if other.startswith(group)] or sorted({k.split(".")[0] for k in known})
            raise RecipeError(
                f"{label}: unknown key {key!r}.{did_you_mean(key, known)} Accepted here: {', '.join(near)}"
            )

    parser = recipe_parser(names)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        yaml.safe_dump(data, file)
        file.flush()
        parser.add_argument("--recipe", action="config")
        try:
            parsed = parser.parse_args(["--recipe", file.name, *(f"--{key}={value}" for key, value in pairs)])
        except (ArgumentError, TypeError, ValueError) as error:
            raise RecipeError(f"{label}: {_one_line(str(error))}") from error
    return _to_recipe(parsed, label)


def _resolve_names(data: dict[str, Any], chosen: Mapping[str, str], label: str) -> dict[str, str]:
    """The part in each slot, and the kind of augmentation; ``data`` is completed by what follows from the model.

    Args:
        data: Sections of the recipe; an override of a name empties the section of the old part.
        chosen: Overrides.
        label: What messages call the recipe.
    """
    names: dict[str, str] = {}
    # The model comes first: what it reads decides what the others default to.
    for slot in ("model", *(slot for slot in SLOTS if slot != "model"), "augment"):
        section = data.setdefault(slot, {})
        if isinstance(section, str):
            section = data[slot] = {"name": section}
        if not isinstance(section, dict):
            raise RecipeError(f"{label}: {slot} must be a mapping with a 'name', not {section!r}")
        reads = "graph" if slot == "model" else _reads(names["model"])
        if slot == "graph" and reads in _GRAPH_OF and not section:
            section["name"] = "modal_knn" if reads == "nodes" and _modalities(names["model"]) else _GRAPH_OF[reads]
        if slot == "augment":
            section.setdefault("name", _AUGMENTATION_OF[reads])
        new = chosen.get(f"{slot}.name")
        if new is not None and new != section.get("name"):
            section = data[slot] = {"name": new}
        registry = AUGMENTATIONS if slot == "augment" else _registry(slot)
        if not section.get("name"):
            raise RecipeError(f"{label}: {slot}.name is missing; one of: {', '.join(registry.names())}")
        names[slot] = str(section["name"])
        registry.get(names[slot])
    if _reads(names["model"]) == "spectrogram":
        section = data.setdefault("standardize", {})
        if isinstance(section, dict):
            section.setdefault("per", "corpus")
    _check_reads(names, label)
    return names


_READ = {
    "graph": "graphs",
    "spectrogram": "spectrograms",
    "nodes": "recordings as nodes of one graph",
    "dialogue": "dialogues",
}


def _check_reads(names: Mapping[str, str], label: str) -> None:
    """Refuse a task, a graph or an augmentation that hands a model something else than it reads."""
    model, reads = names["model"], _reads(names["model"])
    tasks = [name for name in _registry("task").names() if getattr(_registry("task").get(name), "reads", "") == reads]
    if names["task"] not in tasks and getattr(_registry("task").get(names["task"]), "reads", reads) != reads:
        raise RecipeError(
            f"{label}: model {model!r} reads {_READ[reads]}, and task {names['task']!r} does not; set task.name to "
            f"{' or '.join(tasks)}"
        )
    joins = _joins(names["graph"])
    if reads == "graph" and joins != "frames":
        raise RecipeError(
            f"{label}: model {model!r} reads a graph of each recording; set graph.name to a builder such as cycle_topk"
        )
    if reads in ("spectrogram", "dialogue") and joins != "nothing":
        raise RecipeError(f"{label}: model {model!r} builds its graph itself; set graph.name to none")
    if reads == "nodes" and joins != "recordings":
        graphs = [name for name in _registry("graph").names() if _joins(name) == "recordings"]
        raise RecipeError(
            f"{label}: to model {model!r} every recording is a node, and graph {names['graph']!r} joins none; set "
            f"graph.name to {' or '.join(graphs)}"
        )
    if names["augment"] != _AUGMENTATION_OF[reads]:
        raise RecipeError(f"{label}: model {model!r} needs augment.name {_AUGMENTATION_OF[reads]}")


def _joins(graph: str) -> str:
    """What the edges of a registered graph builder join."""
    return str(getattr(_registry("graph").get(graph), "joins", "frames"))


def corpus_options(name: str, words: Mapping[str, str]) -> dict[str, Any]:
    """Options of a corpus from the command line, typed by the signature of its adapter.

    Args:
        name: Registered corpus.
        words: Option to text.

    Raises:
        RecipeError: If an option is unknown or its value does not fit; the text names it.
    """
    known = sorted(_options("corpus", name))
    for key in words:
        if key not in known:
            raise RecipeError(
                f"corpus {name!r} has no option {key!r}.{did_you_mean(key, known)} "
                f"Accepted: {', '.join(known) or 'none'}"
            )
    parser = ArgumentParser(exit_on_error=False, add_help=False)
    _add_slot(parser, "corpus", name)
    try:
        parsed = parser.parse_args([f"--corpus.{key}={value}" for key, value in words.items()])
    except (ArgumentError, TypeError, ValueError) as error:
        raise RecipeError(f"corpus {name!r}: {_one_line(str(error))}") from error
    return {key: parsed.corpus[key] for key in words}


def _one_line(text: str) -> str:
    """The part of a parser's message that a person needs."""
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"^Parser key \"([^\"]+)\":", r"\1:", text.removeprefix("Validation failed: "))
    return text if len(text) < 400 else text[:400] + " …"


def _to_recipe(parsed: Namespace, label: str) -> Recipe:
    plain = json.loads(json.dumps(parsed.as_dict(), default=str))  # lists for tuples, text for paths
    plain.pop("recipe", None)
    if not re.fullmatch(r"(?!\.+$)[\w.+=@ -]+", plain["name"]):
        raise RecipeError(
            f"{label}: name {plain['name']!r} cannot name a folder; use letters, digits, '-', '_' and '.', no slash"
        )
    if any(seed < 0 for seed in plain["seeds"]):
        raise RecipeError(f"{label}: seeds must not be negative, not {plain['seeds']}")
    if not plain["seeds"]:
        raise RecipeError(f"{label}: seeds must name at least one seed, such as [0]")
    if len(set(plain["seeds"])) < len(plain["seeds"]):
        raise RecipeError(f"{label}: seeds must differ, not {plain['seeds']}")
    try:
        plain["augment"] = AUGMENTATIONS.get(plain["augment"]["name"])(**without_name(plain["augment"]))
        plain["standardize"] = Standardize(**plain["standardize"])
        plain["training"] = Training(**plain["training"])
    except ValueError as error:
        raise RecipeError(f"{label}: {error}") from error
    recipe = Recipe(**plain)
    if recipe.training.class_weights and recipe.kind == "tagging":
        raise RecipeError(f"{label}: tags have no training.class_weights; use training.balanced")
    return recipe


__all__ = [
    "AUGMENTATIONS",
    "SLOTS",
    "Recipe",
    "RecipeError",
    "Standardize",
    "Training",
    "corpus_options",
    "list_recipes",
    "load_recipe",
    "recipe_parser",
    "without_name",
]
