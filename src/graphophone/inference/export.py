"""A model as an ONNX file, checked against PyTorch, with a description of what goes in and comes out."""

from __future__ import annotations

import contextlib
import copy
import importlib
import importlib.metadata
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from graphophone import __version__
from graphophone.errors import GraphophoneError, MissingDependencyError
from graphophone.features.torch_fbank import TorchFbank
from graphophone.inference.bundle import Bundle, load_bundle
from graphophone.inference.export_recordings import FromVectors, answers, obstacle

Input = Literal["features", "wave"]
"""What the exported model reads: the rows of the feature pipeline, or sound."""

OLDEST_OPSET = 18
"""The operators that PyTorch's exporter writes."""

TOLERANCE = 1e-4
"""Largest difference of a logit to PyTorch's, as it is or as a share of the largest logit."""

ROUNDING, PROBES = (1e-6, 1e-5), 8
"""Where answers differ, the input is changed so many times by each of such shares: does the model differ from itself?

A choice that one rounding error turns is found by the smaller share in 19 of 20 clips of a trained network, by the
larger in all that were tried.
"""

LOOSE = 0.05
"""Largest difference, as a share of the largest logit, for half of the clips of a model that is mostly undecided."""

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_CHATTY = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")
_BATCHES = (1, 3)


class ExportError(GraphophoneError):
    """A model that cannot be written as an ONNX file, or whose file does not answer as the model does."""


@dataclass(frozen=True)
class Exported:
    """What `export_onnx` wrote.

    Attributes:
        path: The ONNX file.
        sidecar: The JSON file that describes it.
        description: Content of that file.
        difference: Largest difference of a logit between ONNX Runtime and PyTorch, on the clips that count (where
            none does, on all, as a share of the largest logit).
        undecided: Clips of the check that do not: a choice of the network (of neighbours, say) hangs on the rounding
            of nearly equal numbers there, so that the model differs from itself, too.
        share: Largest difference on those, as a share of the largest logit.
    """

    path: Path
    sidecar: Path
    description: Mapping[str, Any]
    difference: float
    undecided: int = 0
    share: float = 0.0


class FromFeatures(nn.Module):
    """Standardisation, network, probabilities: what follows the feature pipeline.

    Args:
        bundle: A spectrogram model; its network is copied.

    Shapes:
        - **input:** `[batch, frames, mels]`, as `bundle.pipeline` gives them
        - **output:** logits and probabilities, `[batch, classes]` each
    """

    mean: Tensor
    std: Tensor
    bound: Tensor

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        standardizer = bundle.standardizer
        bound = np.full(standardizer.dims, standardizer.clip)
        bound[list(standardizer.skip)] = np.inf
        for name, values in (("mean", standardizer.mean), ("std", standardizer.std), ("bound", bound)):
            self.register_buffer(name, torch.from_numpy(values.astype(np.float32)))
        self.bounded = bool(np.isfinite(bound).any())
        self.network = copy.deepcopy(bundle.model).cpu()
        self.tagging = bundle.kind == "tagging"

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and probabilities."""
        x = (features - self.mean) / self.std
        if self.bounded:
            x = torch.maximum(torch.minimum(x, self.bound), -self.bound)
        logits = self.network(x)
        return logits, logits.sigmoid() if self.tagging else logits.softmax(dim=-1)


class FromWave(nn.Module):
    """From sound: filter bank, the fixed number of frames, then `FromFeatures`.

    Args:
        bundle: A spectrogram model on `fbank` features.

    Shapes:
        - **input:** `[batch, samples]` in [-1, 1], at the rate of the features
        - **output:** logits and probabilities, `[batch, classes]` each
    """

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.fbank = TorchFbank(**bundle.pipeline.extractor.config)
        self.frames, self.pad_value = bundle.pipeline.frames, bundle.pipeline.pad_value
        self.head = FromFeatures(bundle)

    def forward(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and probabilities."""
        features = self.fbank(wave)
        batch, _, mels = features.shape
        # Always padded, then cut: no branch on a length that is only known when the model runs.
        padding = features.new_full((batch, self.frames, mels), self.pad_value)
        return self.head(torch.cat([features, padding], dim=1)[:, : self.frames])


def export_onnx(
    source: Bundle | str | Path,
    path: str | Path,
    *,
    input: Input = "features",
    opset: int = OLDEST_OPSET,
) -> Exported:
    """Write a model as one ONNX file, and a JSON file of the same name that describes it.

    Models that read spectrograms can be written, and those whose nodes are recordings if these are attached to their
    nearest known ones. The file holds the weights, the standardisation and, with `input="wave"`, the front end. The
    batch, and the number of samples, may have any size. It gives `logits` and `probabilities` `[batch, classes]`.
    Before it takes its place it is run by ONNX Runtime on noise and on sound, one clip and three at once, and its
    logits must be the model's up to `TOLERANCE`. Clips that the model itself answers otherwise as soon as they are
    changed by some millionths (a choice between nearly equal neighbours) are left out. A model for which that is more
    than half of them, as it is for a large one with random weights, must agree within `LOOSE` on half of them.

    Args:
        source: A loaded model folder, or where one is (see `load_bundle`).
        path: The file to write, `*.onnx`; replaced if it is there.
        input: `"features"`: `[batch, frames, mels]`, or for a model of recordings `[batch, dims]`, as the feature
            pipeline gives them, before standardisation; the description says how they are computed. `"wave"`:
            `[batch, samples]` in [-1, 1] at the rate of the features; for `fbank` features without decimation,
            relative or metadata columns.
        opset: Version of ONNX's operators, 18 or newer.

    Returns:
        What was written.

    Raises:
        ExportError: If the model reads graphs that the file cannot hold, the front end cannot be part of the file,
            the opset or the path cannot be used, or the file answers otherwise than the model; then nothing is left
            behind.
        MissingDependencyError: If onnx, onnxscript or onnxruntime is not installed.
        ModelFolderError: If there is no usable model.
    """
    path = Path(path)
    _check_request(path, input)
    newest = _require().defs.onnx_opset_version()
    if not isinstance(opset, int) or not OLDEST_OPSET <= opset <= newest:
        raise ExportError(f"opset: {opset!r} cannot be written; give a number from {OLDEST_OPSET} to {newest}")
    bundle = source if isinstance(source, Bundle) else load_bundle(source)
    _check_model(bundle, input)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        of_features = FromVectors if bundle.reads_nodes else FromFeatures
        module: nn.Module = (FromWave(bundle) if input == "wave" else of_features(bundle)).eval()
        inputs = list(_inputs(bundle, input))
        # Before the trace: tables that a network makes on first use are then constants of it.
        with torch.no_grad():
            if bundle.reads_nodes:
                expected = [answers(bundle, tensor) for tensor in inputs]
            else:
                expected = [[output.numpy() for output in module(tensor)] for tensor in inputs]
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as temporary:
            part = Path(temporary) / path.name
            description = _describe(bundle, input, opset)
            _write(module, inputs[-1], part, opset, input, {"graphophone": json.dumps(description)})
            difference, undecided, share = _compare(module, inputs, expected, _run(part, input, inputs))
            description["verified"] = {
                "batches": list(_BATCHES),
                "clips": 2 * sum(_BATCHES),
                "undecided_clips": undecided,
                "largest_share_of_undecided": share,
                "largest_logit_difference": difference,
                "tolerance": TOLERANCE,
            }
            text = Path(temporary) / path.with_suffix(".json").name
            text.write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n", "utf-8")
            sidecar = path.with_suffix(".json")
            try:
                part.replace(path)
                text.replace(sidecar)
            except OSError as error:
                raise ExportError(
                    f"{path}: cannot be written ({error.strerror or error}); choose another place"
                ) from error
    return Exported(path, sidecar, description, difference, undecided, share)


def _require() -> Any:
    """The package onnx, after a look whether the others are there as well."""
    try:
        modules = [importlib.import_module(name) for name in _PACKAGES]
    except ImportError as error:
        raise MissingDependencyError(
            f"{error.name or 'onnx'} is not installed: pip install 'graphophone[onnx]'"
        ) from error
    return modules[0]


def _check_request(path: Path, input: str) -> None:
    if input not in get_args(Input):
        raise ExportError(f"input: {input!r} is unknown; give one of {', '.join(get_args(Input))}")
    if path.suffix != ".onnx":
        raise ExportError(f"{path}: an ONNX file is named *.onnx; give such a name")
    if not path.parent.is_dir():
        raise ExportError(f"{path}: there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise ExportError(f"{path}: is a folder; give the name of a file")


def _check_model(bundle: Bundle, input: Input) -> None:
    """That the file can hold the network and, for sound, the front end."""
    if bundle.reads_dialogue:
        raise ExportError(
            f"{bundle.model_name}: answers for conversations of any length and cannot be exported; use it from Python "
            "or by predict --table"
        )
    found_obstacle = obstacle(bundle) if bundle.reads_nodes else None
    if found_obstacle is not None:
        raise ExportError(f"{bundle.model_name}: cannot be exported: {found_obstacle}")
    if not bundle.reads_spectrogram and not bundle.reads_nodes:
        raise ExportError(
            f"{bundle.model_name}: reads a graph that is built outside of the network ({bundle.graph.config['name']}) "
            "and cannot be exported; networks that read spectrograms can, and those whose nodes are recordings"
        )
    if input == "features":
        return
    pipeline = bundle.pipeline
    obstacles = [
        (pipeline.extractor.name != "fbank", f"its features are {pipeline.extractor.name!r} and not 'fbank'"),
        (pipeline.decimate != 1, "its frames are decimated"),
        (pipeline.relative, "it has relative columns"),
        (bool(pipeline.metadata), "it has metadata columns"),
    ]
    for found, reason in obstacles:
        if found:
            raise ExportError(
                f"{bundle.model_name}: sound cannot be the input ({reason}); export it with input 'features', "
                "whose description says how to compute them"
            )


def _inputs(bundle: Bundle, input: Input) -> Iterator[Tensor]:
    """Noise and sound, one clip and three; for sound as input shorter and longer than what the model hears."""
    rng = np.random.default_rng(0)
    rate, seconds = bundle.pipeline.rate, bundle.clip_seconds or 1.0
    for count, share in zip(_BATCHES, (0.6, 1.1), strict=True):
        sounds = np.stack([_sound(round(share * seconds * rate), rate, rng) for _ in range(count)])
        if input == "wave":
            yield torch.from_numpy(0.1 * rng.standard_normal(sounds.shape, dtype=np.float32))
            yield torch.from_numpy(sounds)
            continue
        heard = np.stack([bundle.pipeline(sound, rate) for sound in sounds]).astype(np.float32)
        if bundle.reads_nodes:
            heard = heard[:, 0]
        noise = bundle.standardizer.mean + bundle.standardizer.std * rng.standard_normal(heard.shape)
        yield torch.from_numpy(noise.astype(np.float32))
        yield torch.from_numpy(heard)


def _sound(samples: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """A gliding harmonic tone in bursts over faint noise, `[samples]` float32."""
    time = np.arange(samples) / rate
    pitch = rng.uniform(100, 400) * 2 ** (0.5 * np.sin(2 * np.pi * rng.uniform(0.2, 1) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    tone = sum(np.sin(k * phase) / k for k in range(1, 9))
    bursts = np.clip(np.sin(2 * np.pi * rng.uniform(0.5, 2) * time), 0, 1)
    return (0.2 * bursts * tone + 0.01 * rng.standard_normal(samples)).astype(np.float32)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """PyTorch's exporter speaks of its own affairs: of packages that nobody asked for, of passes it skipped."""
    loggers = [logging.getLogger(name) for name in _CHATTY]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _write(
    module: nn.Module, example: Tensor, path: Path, opset: int, input: Input, properties: Mapping[str, str]
) -> None:
    """Trace the network with a batch, and a length of sound, that may vary, and write it."""
    from torch.export import Dim
    from torch.onnx import OnnxExporterError

    varying = {0: Dim("batch", min=1, max=1 << 16)}
    if input == "wave":
        varying[1] = Dim("samples", min=_shortest(module), max=1 << 30)
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                dynamic_shapes=(varying,),
                input_names=[input],
                output_names=["logits", "probabilities"],
                opset_version=opset,
                external_data=False,
                verbose=False,
            )
            if program is None:
                raise ExportError("the exporter of this version of PyTorch gives no program; upgrade torch")
            program.model.metadata_props.update(properties)
            program.save(str(path), external_data=False)
    except OnnxExporterError as error:
        raise ExportError(f"the network cannot be traced ({_first_line(error)}); --debug shows where") from error
    bound = [str(size) for size in program.model.graph.inputs[0].shape or () if isinstance(size, int)]
    if len(bound) != example.ndim - len(varying):
        raise ExportError("the network is bound to one size of batch or one length and cannot be exported")
    written = program.model.opset_imports.get("")
    if written != opset:
        raise ExportError(f"opset {opset}: this network could only be written with {written}; give --opset {written}")


def _run(path: Path, name: str, inputs: Sequence[Tensor]) -> list[list[np.ndarray]]:
    """What ONNX Runtime answers to each input: logits and probabilities."""
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return [session.run(["logits", "probabilities"], {name: tensor.numpy()}) for tensor in inputs]
    except Exception as error:  # its own classes, all below Exception
        raise ExportError(
            f"{path.name}: ONNX Runtime cannot run it ({_first_line(error)}); try another opset"
        ) from error


def _compare(
    module: nn.Module,
    inputs: Sequence[Tensor],
    expected: Sequence[list[np.ndarray]],
    answers: Sequence[list[np.ndarray]],
) -> tuple[float, int, float]:
    """Largest difference of a logit; on how many clips the model is undecided, which are left out of it; on those.

    Raises:
        ExportError: If a difference is not small.
    """
    decided: list[float] = []
    undecided: list[float] = []  # as shares of the largest logit
    for tensor, theirs, ours in zip(inputs, answers, expected, strict=True):
        allowed = TOLERANCE * np.abs(ours[0]).max(axis=1).clip(min=1)
        differences = np.abs(theirs[0] - ours[0]).max(axis=1)
        probable = np.abs(theirs[1] - ours[1]).max(axis=1)
        agree = (differences <= allowed) & (probable <= TOLERANCE)
        for i in np.flatnonzero(~agree):
            if not _is_undecided(module, tensor[i : i + 1], allowed[i]):
                raise ExportError(
                    f"the logits of the file differ by {differences[i]:.2g} from the model's, where {allowed[i]:.2g} "
                    f"is allowed, its probabilities by {probable[i]:.2g}; nothing was written: try another opset"
                )
        decided += differences[agree].tolist()
        undecided += (differences * TOLERANCE / allowed)[~agree].tolist()
    if len(undecided) > len(decided) and float(np.median(undecided)) > LOOSE:
        raise ExportError(
            f"the answers of the model hang on rounding at {len(undecided)} of {len(undecided) + len(decided)} clips, "
            "so that the file cannot be checked; nothing was written: train the model first"
        )
    return max(decided or undecided), len(undecided), max(undecided, default=0.0)


@torch.no_grad()
def _is_undecided(module: nn.Module, clip: Tensor, allowed: float) -> bool:
    """Whether the model's own answers move by more than is allowed when a clip is changed as rounding might."""
    generator = torch.Generator().manual_seed(0)
    logits, probabilities = module(clip)
    for share in ROUNDING:
        for _ in range(PROBES):
            moved = module(clip * (1 + share * torch.randn(clip.shape, generator=generator)))
            if float((moved[0] - logits).abs().max()) > allowed:
                return True
            if float((moved[1] - probabilities).abs().max()) > TOLERANCE:
                return True
    return False


def _shortest(module: nn.Module) -> int:
    """Samples of one window, which is the least that the filter bank can be given."""
    fbank = module.get_submodule("fbank")
    return int(fbank.length)  # type: ignore[arg-type]


def _describe(bundle: Bundle, input: Input, opset: int) -> dict[str, Any]:
    """What somebody needs to know who has nothing but the ONNX file."""
    pipeline, standardizer = bundle.pipeline, bundle.standardizer
    clips = "one row per recording"
    if not bundle.reads_nodes:
        clips = f"the first {pipeline.frames} rows; clips with fewer get rows of {pipeline.pad_value:g} at their end"
    if input == "wave":
        shape: list[str | int] = ["batch", "samples"]
        meaning = (
            f"mono sound in [-1, 1] at {pipeline.rate} Hz, clips of one length per batch; "
            f"the first {bundle.clip_seconds:.2f} s are heard"
        )
    else:
        shape = ["batch", pipeline.dims] if bundle.reads_nodes else ["batch", pipeline.frames, pipeline.dims]
        meaning = f"features of the front end, not standardised: {clips}"
    tagging = bundle.kind == "tagging"
    logits = {"meaning": "logarithms of the probabilities"} if bundle.reads_nodes else {}
    softmax = "mean of the softmax over the reference graphs" if bundle.reads_nodes else "softmax of the logits"
    attached = {"references": {"graphs": len(bundle.references), **bundle.attachment}} if bundle.reads_nodes else {}
    return {
        "format": 1,
        "model": bundle.model_name,
        "kind": bundle.kind,
        "labels": list(bundle.labels),
        "input": {"name": input, "type": "float32", "shape": shape, "meaning": meaning, "rate": pipeline.rate},
        "outputs": [
            {"name": "logits", "type": "float32", "shape": ["batch", len(bundle.labels)], **logits},
            {
                "name": "probabilities",
                "type": "float32",
                "shape": ["batch", len(bundle.labels)],
                "meaning": "sigmoid of the logits, one per tag" if tagging else softmax,
            },
        ],
        **attached,
        "front_end": {
            "in_the_file": input == "wave",
            **pipeline.to_dict(),
            "rate": pipeline.rate,
            "hop_seconds": pipeline.hop,
            "rows": clips,
        },
        "standardisation": {
            "in_the_file": True,
            "formula": "clip((features - mean) / std, -clip, clip), the columns of skip unchanged",
            "mean": standardizer.mean.tolist(),
            "std": standardizer.std.tolist(),
            "clip": standardizer.clip if np.isfinite(standardizer.clip) else None,
            "skip": list(standardizer.skip),
        },
        "opset": opset,
        "versions": {
            "graphophone": __version__,
            **{name: importlib.metadata.version(name) for name in ("torch", *_PACKAGES)},
        },
    }


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
