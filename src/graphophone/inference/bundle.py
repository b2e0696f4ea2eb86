"""The model folder: everything that turns a sound file into an answer, in files anyone can read.

========================== =================================================================
`config.json`              the network's constructor arguments
`model.safetensors`        its weights
`pipeline.json`            features, graph builder, labels, kind of answer, corpus, protocol, results
`standardizer.safetensors` mean and standard deviation of the training frames
`README.md`                the model card
`references.safetensors`   graphs of known recordings that new ones are attached to, where the
                           network's nodes are recordings
========================== =================================================================

Nothing in such a folder is ever unpickled: a model that somebody was given cannot run code on their machine.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor
from torch_geometric.data import Data

from graphophone.errors import GraphophoneError
from graphophone.features.base import FeatureError
from graphophone.features.modalities import Modalities
from graphophone.features.pipeline import FeaturePipeline
from graphophone.features.standardize import Standardizer
from graphophone.graphs import build_graph
from graphophone.graphs.base import GraphError
from graphophone.graphs.modal import ModalKNN
from graphophone.inference import references as reference_graphs
from graphophone.inference.card import model_card, to_jsonable
from graphophone.models import PretrainedModel, load_model
from graphophone.models.base import usable_device

FORMAT = 3
"""Number of the folder's layout; a folder with a larger number was written by a newer graphophone.

Format 1 knows no `kind` and no clips of a fixed number of frames, format 2 no reference graphs; both are read as
before. A folder whose network is attached to nothing is written as format 2.
"""

Kind = Literal["classification", "tagging"]
"""What an answer is: one class of several that exclude each other, or a probability for each of many tags."""

CONFIG, WEIGHTS, PIPELINE, STANDARDIZER, CARD = BUNDLE_FILES = (
    "config.json",
    "model.safetensors",
    "pipeline.json",
    "standardizer.safetensors",
    "README.md",
)
REFERENCES = "references.safetensors"
_PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib"})
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")


class ModelFolderError(GraphophoneError):
    """A model folder is missing, incomplete, damaged, or does not fit together."""


@dataclass(frozen=True)
class Bundle:
    """A loaded model folder.

    Args:
        model: The network, in evaluation mode.
        pipeline: From a waveform to frames `[frames, dims]`.
        graph: Graph builder, a transform on `Data`.
        standardizer: Fitted on the training frames of this model.
        labels: Class names; `labels[c]` is what output `c` of the network means.
        kind: `"classification"` (one class, softmax) or `"tagging"` (any number of tags, sigmoid).
        corpus: What it was trained on.
        protocol: How it was evaluated.
        metrics: What came out.
        references: Graphs that new recordings are attached to, one per draw: `x` `[nodes, dims]` (standardised),
            `edge_index`, `edge_weight`, `y` (-1: a predicted label) and, where known, `id`, the names of the
            recordings. Empty but for a network whose nodes are recordings, and for one that is attached to none.
        attachment: How they are attached: `edges`, `how` and `seed`, as `predict_attached` takes them.
        folder: Where it was read from.
    """

    model: PretrainedModel
    pipeline: FeaturePipeline
    graph: Any
    standardizer: Standardizer
    labels: tuple[str, ...]
    kind: Kind = "classification"
    corpus: Mapping[str, Any] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    references: tuple[Data, ...] = ()
    attachment: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def model_name(self) -> str:
        """Name under which `create_model` knows the network."""
        return self.model.model_name

    @property
    def reads_spectrogram(self) -> bool:
        """Whether the network takes `[batch, frames, mels]` and builds its graph itself."""
        return self.model.reads == "spectrogram"

    @property
    def reads_nodes(self) -> bool:
        """Whether every recording is a node, which is attached to the reference graphs."""
        return self.model.reads == "nodes"

    @property
    def reads_dialogue(self) -> bool:
        """Whether the network takes whole dialogues, with an answer for every turn."""
        return self.model.reads == "dialogue"

    @property
    def has_bank(self) -> bool:
        """Whether new utterances are answered for among all known ones, which the folder then holds."""
        return self.attachment.get("how") == reference_graphs.BANK

    @property
    def size(self) -> int | None:
        """Bytes of the files that an answer needs; None if it was not read from a folder."""
        if self.folder is None:
            return None
        names = (CONFIG, WEIGHTS, PIPELINE, STANDARDIZER, *([REFERENCES] if self.references else []))
        files = (self.folder / name for name in names)
        return sum(path.stat().st_size for path in files if path.is_file())

    @property
    def clip_seconds(self) -> float | None:
        """Seconds that one answer hears at most, where the clips have a fixed number of frames."""
        if not self.pipeline.frames or self.pipeline.hop is None:
            return None
        return self.pipeline.frames * self.pipeline.hop

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax over the classes, or for tagging the sigmoid of each. `[batch, classes]` -> the same."""
        return logits.sigmoid() if self.kind == "tagging" else logits.softmax(dim=-1)


def save_bundle(
    folder: str | Path,
    model: PretrainedModel,
    pipeline: FeaturePipeline,
    graph: Any,
    standardizer: Standardizer,
    labels: Sequence[str],
    *,
    kind: Kind = "classification",
    corpus: str | Mapping[str, Any] | None = None,
    protocol: str | Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    card: str | Mapping[str, Any] | None = None,
    references: Sequence[Data] = (),
    attachment: Mapping[str, Any] | None = None,
) -> Path:
    """Write a model folder.

    The files are written beside `folder` and moved into place at the end, so that a killed process leaves
    either the former folder or the new one.

    Args:
        folder: Where to; replaced if it is a model folder already.
        model: Network made by `create_model`.
        pipeline: Feature pipeline it was trained with.
        graph: Graph builder it was trained with; `none` for a network that builds its graph itself.
        standardizer: Fitted standardizer.
        labels: Class names in the order of the outputs.
        kind: `"classification"` or `"tagging"`, as it was trained.
        corpus: Name of the training corpus, or facts on it for the card: `name`, `items`, `speakers`,
            `hours`, `languages`, `licence`, `url`, `citation`, whichever are known.
        protocol: Name of the protocol of evaluation, or `name`, `description`, `mixes_speakers`.
        metrics: Results on test data such as `{"ua": Estimate or float, "wa": ...}` (for tagging `map`,
            `mauc`), fractions of one; they may lie under the key `test`, beside others.
        card: Text of a model card to use instead of the generated one, or fields for it: `title`, `license`,
            `intended_use`, `limits`, `language`, `tags`, `weights`.
        references: Graphs that new recordings are attached to, for a network whose nodes are recordings: see
            `Bundle`, and `graphophone.models.attached.draw_references`.
        attachment: How they are attached: `edges` (4), `how` ("random") and `seed` (0). With `how` "none" an answer
            needs no reference, and none is written: the folder then holds nothing of single training recordings.

    Returns:
        The folder.

    Raises:
        ModelFolderError: If labels, network, standardizer and pipeline do not fit each other, or `folder` is
            something else than a model folder.
    """
    folder = Path(folder)
    labels = tuple(str(label) for label in labels)
    attachment = _attachment(attachment or {}, folder) if references or attachment else {}
    if attachment.get("how") == "none":
        references = ()
    bundle = Bundle(
        model=model,
        pipeline=pipeline,
        graph=graph,
        standardizer=standardizer,
        labels=labels,
        kind=kind,
        corpus=to_jsonable({"name": corpus} if isinstance(corpus, str) else corpus or {}),
        protocol=to_jsonable({"name": protocol} if isinstance(protocol, str) else protocol or {}),
        metrics=to_jsonable(metrics or {}),
        references=tuple(references),
        attachment=attachment,
        folder=folder,
    )
    _check_fit(bundle)
    if folder.exists() and not _replaceable(folder):
        raise ModelFolderError(f"{folder}: exists and is not a model folder; choose another place")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        temporary.chmod(0o755)  # mkdtemp makes it private; a model folder is read like any other
        model.save_pretrained(temporary)
        description = {
            "format": FORMAT if attachment else 2,
            "model": model.model_name,
            "features": pipeline.to_dict(),
            "graph": graph.config,
            "labels": list(labels),
            "kind": kind,
            "corpus": bundle.corpus,
            "protocol": bundle.protocol,
            "metrics": bundle.metrics,
            "card": None if isinstance(card, str) else to_jsonable(card or {}),  # None: a text of its own
        }
        if attachment:
            description["attachment"] = dict(attachment)
        if references:
            (temporary / REFERENCES).write_bytes(save(*reference_graphs.pack(references)))
        (temporary / PIPELINE).write_text(_json_text(description), "utf-8")
        (temporary / STANDARDIZER).write_bytes(save(dict(standardizer.state_dict())))
        text = card if isinstance(card, str) else model_card(replace(bundle, folder=temporary), **dict(card or {}))
        (temporary / CARD).write_text(text, "utf-8")
        replace_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def update_bundle(
    folder: str | Path,
    *,
    metrics: Mapping[str, Any] | None = None,
    card: Mapping[str, Any] | None = None,
) -> None:
    """Write other results and another card into a model folder, whose weights stay as they are.

    Each of the two files is written beside the folder and moved into place. A card that was given as a text
    to `save_bundle` is left alone.

    Args:
        folder: A model folder, or a run folder (whose `model/` is taken).
        metrics: Results that replace the former ones, as for `save_bundle`; None keeps them.
        card: Fields for the card, as for `save_bundle`; those given then and not now are kept.

    Raises:
        ModelFolderError: If there is no usable model, or the folder cannot be written.
    """
    if not Path(folder).is_dir():
        raise ModelFolderError(f"{folder}: no such folder; give a model folder or a run folder")
    bundle = load_bundle(folder)
    place = resolve(folder)
    description = _read_json(place / PIPELINE)
    if metrics is not None:
        bundle = replace(bundle, metrics=to_jsonable(metrics))
        description["metrics"] = bundle.metrics
    texts = {}
    former = description.get("card", {})
    if former is not None:
        description["card"] = {**former, **to_jsonable(card or {})}
        texts[CARD] = model_card(bundle, **description["card"])
    texts[PIPELINE] = _json_text(description)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as temporary:
            for name, text in texts.items():
                part = Path(temporary) / name
                part.write_text(text, "utf-8")
                part.replace(place / name)
    except OSError as error:
        raise ModelFolderError(f"{place}: cannot be written ({error.strerror or error}); check its rights") from error


def load_bundle(source: str | Path, *, device: str | torch.device = "cpu") -> Bundle:
    """Read a model folder.

    Args:
        source: A model folder, a run folder (whose `model/` is taken), or the id of a model on the Hugging
            Face hub, `owner/name` or `owner/name@revision`.
        device: Where the network goes.

    Returns:
        Its parts; the network in evaluation mode.

    Raises:
        ModelFolderError: If nothing is there, a file is missing or damaged, or the parts do not fit each
            other. The text names the file and what to do.
        ModelError: If the network cannot be read, or there is no such device.
    """
    usable_device(device)  # before anything is downloaded
    folder = resolve(source)
    description = _read_json(folder / PIPELINE)
    number = description.get("format")
    if not isinstance(number, int) or isinstance(number, bool):
        raise ModelFolderError(f"{folder / PIPELINE}: has no format number; it is not a graphophone model")
    if number > FORMAT:
        raise ModelFolderError(
            f"{folder / PIPELINE}: format {number} is newer than this graphophone reads ({FORMAT}); "
            "upgrade with: pip install --upgrade graphophone"
        )
    for key in ("model", "features", "graph", "labels"):
        if key not in description:
            raise ModelFolderError(f"{folder / PIPELINE}: the key {key!r} is missing; save the model again")
    _check_types(description, folder / PIPELINE)
    try:
        pipeline = FeaturePipeline.from_dict(description["features"])
        graph = build_graph(description["graph"])
    except (GraphophoneError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise ModelFolderError(f"{folder / PIPELINE}: not understood ({reason}); save the model again") from error
    try:
        standardizer = Standardizer.from_state(_read_tensors(folder / STANDARDIZER))
    except (FeatureError, TypeError, ValueError) as error:
        raise ModelFolderError(
            f"{folder / STANDARDIZER}: not a standardizer ({error}); save the model again"
        ) from error
    references, attachment = _read_references(folder, description) if "attachment" in description else ((), {})
    bundle = Bundle(
        model=load_model(folder, map_location=str(device)),
        pipeline=pipeline,
        graph=graph,
        standardizer=standardizer,
        labels=tuple(description["labels"]),
        kind=description.get("kind", "classification"),
        corpus=description.get("corpus") or {},
        protocol=description.get("protocol") or {},
        metrics=description.get("metrics") or {},
        references=references,
        attachment=attachment,
        folder=folder,
    )
    _check_fit(bundle)
    return bundle


def resolve(source: str | Path) -> Path:
    """The local model folder behind a folder, a run folder or a hub id (which is downloaded).

    Raises:
        ModelFolderError: If there is none; pickled weights are refused.
    """
    path = Path(source)
    if path.is_file():
        if path.suffix.lower() in _PICKLES:
            raise ModelFolderError(
                f"{path}: pickled weights are never loaded because they can run code; "
                "give the model folder of a run (with model.safetensors)"
            )
        raise ModelFolderError(f"{path}: is a file; give the model folder that holds it")
    if path.is_dir():
        for candidate in (path, path / "model"):
            if (candidate / PIPELINE).is_file():
                return _complete(candidate)
        return _complete(path)
    name = str(source)
    # `runs/glnn` looks like a hub id too: where a folder `runs` exists, a local path was meant.
    if _HUB_ID.fullmatch(name) and not Path(name.split("/")[0]).is_dir():
        return _complete(_download(name))
    if path.name == "model" and (path.parent / "run.json").is_file():
        return _complete(path.parent)
    raise ModelFolderError(f"{source}: no such folder; give a model folder, a run folder or a hub id owner/name")


def _complete(folder: Path) -> Path:
    """`folder`, if it has the files of a model folder."""
    present = {path.name for path in folder.iterdir()}
    missing = [name for name in (PIPELINE, CONFIG, WEIGHTS, STANDARDIZER) if name not in present]
    if not missing:
        return folder
    pickles = sorted(name for name in present if Path(name).suffix.lower() in _PICKLES)
    if WEIGHTS in missing and pickles:
        raise ModelFolderError(
            f"{folder / pickles[0]}: pickled weights are never loaded because they can run code; "
            f"a model folder holds {WEIGHTS}"
        )
    if (folder / "metrics.json").is_file() and (folder / "run.json").is_file():
        raise ModelFolderError(
            f"{folder}: this run has no model folder, because its network answers for the nodes of its own graph alone "
            "(predictions.csv has them); train one with task.name subgraph_classification to answer for new recordings"
        )
    if (folder / "run.json").is_file() or (folder / "recipe.yaml").is_file():
        raise ModelFolderError(f"{folder}: this run has no finished model yet; start the same training again")
    if PIPELINE in missing:
        raise ModelFolderError(
            f"{folder}: not a model folder ({PIPELINE} is missing); give a model folder or the folder of a run"
        )
    raise ModelFolderError(f"{folder / missing[0]}: missing; copy the whole model folder again")


def _download(name: str) -> Path:
    """Fetch a model from the hub: the files of a model folder and nothing else."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision or None,
                allow_patterns=[*BUNDLE_FILES, REFERENCES],
                library_name="graphophone",
            )
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelFolderError(
            f"{name}: no such folder, and the hub did not give a model of that name ({first}); check the name"
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelFolderError(f"{path}: damaged ({error}); copy the model folder again") from error
    if not isinstance(value, dict):
        raise ModelFolderError(f"{path}: damaged (not a JSON object); copy the model folder again")
    return value


def _json_text(description: Mapping[str, Any]) -> str:
    return json.dumps(description, indent=2, allow_nan=False) + "\n"


def _check_types(description: Mapping[str, Any], path: Path) -> None:
    """The types of `pipeline.json`, which anybody may have edited."""
    labels = description["labels"]
    wanted = {"model": "a name", "labels": "a list of names"}
    wrong = [] if isinstance(description["model"], str) else ["model"]
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        wrong.append("labels")
    for key in ("features", "graph", "corpus", "protocol", "metrics", "card", "attachment"):
        # All but the first two may be absent or null.
        if not isinstance(description.get(key) or {}, dict):
            wrong.append(key)
    if wrong:
        key = wrong[0]
        value = json.dumps(description[key])[:60]
        raise ModelFolderError(
            f"{path}: not understood ({key!r} is {value} and not {wanted.get(key, 'an object')}); save the model again"
        )


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise ModelFolderError(f"{path}: damaged ({error}); copy the model folder again") from error


def _read_references(folder: Path, description: Mapping[str, Any]) -> tuple[tuple[Data, ...], dict[str, Any]]:
    """The reference graphs of a folder, and how recordings are attached to them."""
    path = folder / REFERENCES
    attachment = _attachment(description["attachment"] or {}, folder)
    if not path.is_file() and attachment["how"] == "none":
        return (), attachment
    if not path.is_file():
        raise ModelFolderError(f"{path}: missing; copy the whole model folder again")
    try:
        with safe_open(path, framework="pt") as file:
            tensors, texts = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise ModelFolderError(f"{path}: damaged ({error}); copy the model folder again") from error
    try:
        references = reference_graphs.unpack(tensors, texts)
    except GraphError as error:
        raise ModelFolderError(f"{path}: no reference graphs ({error}); save the model again") from error
    return references, attachment


def _attachment(attachment: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """How recordings are attached, complete."""
    try:
        return reference_graphs.check_attachment(attachment)
    except GraphError as error:
        raise ModelFolderError(f"{folder / PIPELINE}: {error}") from error


def _check_references(bundle: Bundle, where: Path) -> None:
    """A network of nodes, and no other, has reference graphs and features of one vector per recording."""
    if not bundle.reads_nodes:
        if bundle.references or bundle.attachment:
            raise ModelFolderError(
                f"{where / REFERENCES}: the network {bundle.model_name!r} is attached to no graph; leave references out"
            )
        return
    if bundle.has_bank != bool(getattr(bundle.model, "modalities", ())):
        raise ModelFolderError(
            f"{where / PIPELINE}: attachment how is {bundle.attachment.get('how')!r}, which the network "
            f"{bundle.model_name!r} does not answer by; save the model again"
        )
    if bundle.has_bank:
        _check_bank(bundle, where)
    if not bundle.references and bundle.attachment.get("how") != "none":
        raise ModelFolderError(
            f"{where / REFERENCES}: the network {bundle.model_name!r} answers for recordings beside known ones, but "
            "there are none; save the model with references (draw_references gives them)"
        )
    if bundle.kind != "classification":
        raise ModelFolderError(
            f"{where / PIPELINE}: the network {bundle.model_name!r} gives one label per recording, but the kind is "
            f"{bundle.kind!r}; save the model again"
        )
    if bundle.pipeline.hop is not None:
        raise ModelFolderError(
            f"{where / PIPELINE}: the network {bundle.model_name!r} takes one vector per recording, but "
            f"{bundle.pipeline.extractor.name!r} gives frames; save the model with the features it was trained with"
        )
    try:
        reference_graphs.check(
            bundle.references, dims=bundle.pipeline.dims, classes=len(bundle.labels), missing=bundle.has_bank
        )
    except GraphError as error:
        raise ModelFolderError(f"{where / REFERENCES}: {error}; save the model again") from error


def _check_bank(bundle: Bundle, where: Path) -> None:
    """A network that answers among all known utterances reads their modalities, joined by rules for these."""
    model: Any = bundle.model
    if not isinstance(bundle.graph, ModalKNN):
        raise ModelFolderError(
            f"{where / PIPELINE}: the network {bundle.model_name!r} finds neighbours by modality, but the graph is "
            f"{bundle.graph.config['name']!r}; save the model again with the graph it was trained with"
        )
    if len(bundle.references) != 1:
        raise ModelFolderError(
            f"{where / REFERENCES}: holds {len(bundle.references)} graphs, but the network {bundle.model_name!r} "
            "answers among the utterances of one; copy the whole model folder again"
        )
    _check_widths(bundle, model.widths, where)


def _check_widths(bundle: Bundle, expected: Mapping[str, int], where: Path) -> None:
    """The features have the columns of each modality that the network expects."""
    extractor = bundle.pipeline.extractor
    if not isinstance(extractor, Modalities):
        return
    widths = {name: expected.get(name) for name in extractor.widths}
    if widths != extractor.widths:
        told, wanted = (
            ", ".join(f"{name} {width}" for name, width in found.items()) for found in (extractor.widths, widths)
        )
        raise ModelFolderError(
            f"{where / PIPELINE}: the features have the columns {told}, but {CONFIG} expects {wanted}; save the "
            "model again with the pipeline it was trained with"
        )


def _check_fit(bundle: Bundle) -> None:
    """Labels, network, standardizer and pipeline must speak of the same numbers."""
    where = bundle.folder if bundle.folder is not None else Path()
    labels, dims = bundle.labels, bundle.pipeline.dims
    if bundle.kind not in get_args(Kind):
        raise ModelFolderError(
            f"{where / PIPELINE}: unknown kind {bundle.kind!r}; it must be one of {', '.join(get_args(Kind))}"
        )
    if not labels or len(set(labels)) != len(labels):
        raise ModelFolderError(f"{where / PIPELINE}: the labels are empty or not unique: {', '.join(labels)}")
    classes = getattr(bundle.model, "num_classes", len(labels))
    if classes != len(labels):
        raise ModelFolderError(
            f"{where / PIPELINE}: {len(labels)} labels, but {CONFIG} has {classes} classes; save the model again"
        )
    channels = getattr(bundle.model, "num_mel_bins" if bundle.reads_spectrogram else "in_channels", dims)
    if isinstance(channels, Mapping):
        channels = sum(channels.values())
    if channels != dims:
        raise ModelFolderError(
            f"{where / PIPELINE}: the features have {dims} columns, but {CONFIG} expects {channels}; "
            "save the model again with the pipeline it was trained with"
        )
    builder = bundle.graph.config["name"]
    builds = bundle.reads_spectrogram or bundle.reads_dialogue
    if builds != (builder == "none"):
        needs = "builds its graph itself" if builds else "needs the edges of a graph"
        raise ModelFolderError(
            f"{where / PIPELINE}: the network {bundle.model_name!r} {needs}, but the graph is {builder!r}; "
            "save the model again with the graph it was trained with"
        )
    if bundle.reads_spectrogram and not bundle.pipeline.frames:
        raise ModelFolderError(
            f"{where / PIPELINE}: the network {bundle.model_name!r} takes clips of one length, but the features have "
            "no number of frames; save the model again with a pipeline that has (frames=1024)"
        )
    if bundle.reads_dialogue:
        _check_widths(bundle, cast(Any, bundle.model).in_channels, where)
    columns = bundle.standardizer.dims
    if columns != dims:
        raise ModelFolderError(
            f"{where / STANDARDIZER}: {columns} columns, but the features of {PIPELINE} have {dims}; "
            "save the model again"
        )
    _check_references(bundle, where)


def _replaceable(folder: Path) -> bool:
    """Whether `folder` is empty or holds nothing but a model folder's files."""
    return folder.is_dir() and {path.name for path in folder.iterdir()} <= {*BUNDLE_FILES, REFERENCES}


def replace_folder(new: str | Path, folder: str | Path) -> None:
    """Move `new` to `folder`; what is there already is moved aside first and removed last.

    Both must be on one file system. If the move fails or is interrupted, the former folder is put back; a
    process that is killed between the two moves leaves it aside, beside its place, as `.<name>-old-*/<name>`.

    Raises:
        OSError: If the move is not possible.
    """
    new, folder = Path(new), Path(folder)
    if not folder.exists():
        new.rename(folder)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    former = aside / folder.name
    try:
        folder.rename(former)
        new.rename(folder)
    except BaseException:
        if former.exists() and not folder.exists():
            former.rename(folder)
            aside.rmdir()
        raise
    shutil.rmtree(aside, ignore_errors=True)
