"""Weights from elsewhere: of images, of other sizes, of other networks, with a report of what became of each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from rich.table import Table
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from graphophone.models.base import ModelError, SpectrogramClassifier, fetch
from graphophone.models.widening import widen_block, widenable

Kind = Literal["auto", "audio", "image", "vig"]

_PICKLED = (".pth", ".pt", ".bin", ".ckpt", ".tar")
_CONTAINERS = ("state_dict_ema", "model_ema", "state_dict", "model")
_STEM = "stem.convs.0.weight"
_HEAD = "prediction."

# Training states beside the weights hold NumPy arrays and numbers (PANNs' sampler does). Making those runs no code. The
# module that does it has two names, of NumPy 1 and 2.
_NUMPY: list[Any] = [
    np.ndarray,
    np.dtype,
    *{type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["AllFloat"] + "?"},
    *(
        (value.__reduce__()[0], f"numpy.{core}.multiarray.{name}")
        for value, name in ((np.zeros(1), "_reconstruct"), (np.float64(0), "scalar"))
        for core in ("core", "_core")
    ),
]


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What became of every tensor of a checkpoint and of a network.

    Attributes:
        source: Where the weights are from.
        kind: ``"audio"``, ``"image"`` or ``"vig"``.
        loaded: Tensors taken as they are.
        resized: Tensors taken in another shape, with what was done.
        widened: Tensors taken into wider ones, with the shapes.
        skipped: Tensors of the checkpoint that are not used, with the reason.
        missing: Tensors of the network that the checkpoint has not, with what they hold now.
        unexpected: Tensors of the checkpoint that the network has no place for (only where ``strict`` is False).
    """

    source: str
    kind: str
    loaded: tuple[str, ...] = ()
    resized: dict[str, str] = field(default_factory=dict)
    widened: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    unexpected: tuple[str, ...] = ()

    def rows(self) -> Iterator[tuple[str, str, int, str]]:
        """What was done, to which tensors of which part, to how many, and how: a line for all that share it."""
        groups: dict[tuple[str, str, str], dict[str, str]] = {}
        for what in ("loaded", "resized", "widened", "skipped", "missing", "unexpected"):
            tensors: Any = getattr(self, what)
            notes: Mapping[str, str] = tensors if isinstance(tensors, dict) else dict.fromkeys(tensors, "")
            for name, note in notes.items():
                # Shapes differ from stage to stage; a line for each would hide the rest.
                kind = "" if what == "widened" else note
                groups.setdefault((what, name.partition(".")[0], kind), {})[name] = note
        for (what, part, _), members in groups.items():
            name, note = next(iter(members.items()))
            more = ", ..." if len(set(members.values())) > 1 else ""
            yield what, name if len(members) == 1 else f"{part}.*", len(members), note + more

    def __str__(self) -> str:
        lines = [f"{self.source} ({self.kind}): {len(self.loaded)} tensors loaded as they are"]
        for what, where, count, note in self.rows():
            if what != "loaded":
                lines.append(
                    f"  {what}: {where}" + (f" ({count})" if count > 1 else "") + (f": {note}" if note else "")
                )
        return "\n".join(lines)

    def table(self) -> Table:
        """The same as a table for the terminal."""
        table = Table(title=f"{self.source} ({self.kind})", title_justify="left")
        for column in ("", "tensors", "number", "how"):
            table.add_column(column, justify="right" if column == "number" else "left", overflow="fold")
        for what, where, count, note in self.rows():
            table.add_row(what, where, str(count), note)
        return table

    def __rich__(self) -> Table:
        return self.table()


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _unwrap(content: Any) -> dict[str, Tensor] | None:
    """The tensors by name of a checkpoint, which may lie beside a training state; None where there are none."""
    if not isinstance(content, Mapping):
        return None
    for key in _CONTAINERS:
        if isinstance(content.get(key), Mapping):
            return _unwrap(content[key])
    state = {str(name): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}
    if state and all(name.startswith("module.") for name in state):  # of a network that was trained in parallel
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state or None


def read_weights(source: str | Path, **hub: Any) -> dict[str, Tensor]:
    """Tensors by name.

    Args:
        source: A safetensors file; a folder with ``model.safetensors``, or ``"owner/name"`` of one on the Hugging
            Face hub; or a published PyTorch file (``.pth`` and the like), read with ``weights_only=True``, so that
            it cannot run code.
        hub: ``revision``, ``token``, ``cache_dir``, ``local_files_only`` for the hub.

    Raises:
        ModelError: If it does not exist, is damaged, holds no weights, or more than weights.
    """
    path = Path(source)
    if not path.exists() and path.suffix in (".safetensors", *_PICKLED):
        raise ModelError(f"{source}: there is no such file; give the path of a file of weights")
    if not path.is_file():
        found = fetch(source, "model.safetensors", **hub)
        if found is None:
            files = sorted(p.name for p in path.iterdir() if p.suffix in _PICKLED) if path.is_dir() else []
            held = f"holds no model.safetensors but {files[0]}; name that file" if files else "holds no safetensors"
            raise ModelError(f"{source}: {held}" + ("" if files else "; give a folder or a file that does"))
        path = found
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path}: damaged ({error}); fetch it again") from error
    if path.suffix not in _PICKLED:
        raise ModelError(f"{path}: not a file of weights; give .safetensors or one of {', '.join(_PICKLED)}")
    try:
        with torch.serialization.safe_globals(_NUMPY):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged or hostile pickle raises has no common class
        if "Unsupported" in str(error) or "weights_only" in str(error):
            raise ModelError(
                f"{path}: holds more than weights, which could run code, and is not read; ask for safetensors"
            ) from error
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path}: damaged, or no PyTorch file ({reason}); fetch it again") from error
    state = _unwrap(content)
    if state is None:
        raise ModelError(f"{path}: holds no tensors by name; give the file of a state dict")
    return state


def load_weights(
    model: SpectrogramClassifier, source: str | Path, *, kind: Kind = "auto", strict: bool = True, **hub: Any
) -> LoadReport:
    """Give a network the weights of a checkpoint, as far as they fit it, and say what became of each.

    - ``"audio"``: a checkpoint of the same network. All must be there and fit, but that positions of another grid are
      resized, and that the last layer stays as it is where the number of classes is another.
    - ``"image"``: of the same network for pictures. The first convolution becomes the mean over the colours, positions
      are resized, the head (``prediction``) stays as it is, all else must fit.
    - ``"vig"``: of a pyramid ViG, into a network with cluster terms: as ``"image"``, and its blocks are widened so that
      they compute the same (`graphophone.models.widening`), depthwise convolutions pass on what they get, and biases
      before a normalisation go into its mean.

    The network is changed only if all is well, and otherwise not at all.

    Args:
        model: The network.
        source: As for `read_weights`; for `ast` a checkpoint of transformers, for `cnn14` one of PANNs, too.
        kind: ``"auto"`` finds out.
        strict: False: what does not fit is reported in place of refused.
        hub: ``revision``, ``token``, ``cache_dir``, ``local_files_only`` for the hub.

    Raises:
        ModelError: If the source cannot be read, or does not fit.
    """
    if kind not in get_args(Kind):
        raise ModelError(f"unknown kind of weights {kind!r}; choose from {', '.join(get_args(Kind))}")
    state = read_weights(source, **hub)
    return _Loading(model, state, str(source), kind, _configuration(source)).finish(strict)


def _configuration(source: str | Path) -> dict[str, Any]:
    """``config.json`` beside the weights, from which the grid of positions is known; empty where there is none."""
    path = Path(source)
    path = (path if path.is_dir() else path.parent) / "config.json"
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ModelError(f"{path}: damaged ({error}); mend or remove it") from error
    return content if isinstance(content, dict) else {}


class _Loading:
    """One call of `load_weights`: the tensors on their way from the checkpoint to the network."""

    def __init__(
        self,
        model: SpectrogramClassifier,
        state: Mapping[str, Tensor],
        source: str,
        kind: Kind,
        config: Mapping[str, Any],
    ) -> None:
        self.model, self.source, self.config = model, source, config
        self.own = model.state_dict()
        self.skipped: dict[str, str] = {}
        self.resized: dict[str, str] = {}
        self.widened: dict[str, str] = {}
        self.missing: dict[str, str] = {}
        self.state: dict[str, Tensor] = {}
        for name, tensor in state.items():
            here = model.published_name(name)
            if here is None:
                self.skipped[name] = "fixed, made anew here"
            else:
                self.state[here] = tensor
        self.kind = self._recognize(kind)
        if self.kind in ("image", "vig"):
            self._picture()
        if self.kind == "vig":
            self._widen()
        self._last_layer()
        self._positions()

    def _recognize(self, kind: Kind) -> Kind:
        # Counters of batch normalisation are younger than some published files.
        depthwise = any(name not in self.state for name, _ in self._depthwise())
        wider = any(widenable(name, tensor, self.own[name]) for name, tensor in self.state.items() if name in self.own)
        first = self.state.get(_STEM)
        if kind != "auto":
            if kind != "audio" and (first is None or _STEM not in self.own):
                raise ModelError(
                    f"{self.source}: weights of kind {kind!r} need a stem of convolutions, in the checkpoint and in "
                    f"{self.model.model_name}; take kind='auto'"
                )
            return kind
        if first is None or _STEM not in self.own:
            return "audio"
        if wider or (depthwise and any(name.startswith("backbone.") for name in self.state)):
            return "vig"
        return "image" if first.size(1) > 1 else "audio"

    def _depthwise(self) -> Iterator[tuple[str, nn.Conv2d]]:
        """Names of the weights of depthwise convolutions of the network."""
        for name, module in self.model.named_modules():
            if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
                yield f"{name}.weight", module

    def _picture(self) -> None:
        """Colours become one channel; classes of pictures are not ours."""
        for name in [name for name in self.state if name.startswith(_HEAD)]:
            self.skipped[name] = "classes of another task"
            del self.state[name]
        for name in [name for name in self.own if name.startswith(_HEAD)]:
            self.missing[name] = "as it was"
        first, own = self.state[_STEM], self.own[_STEM]
        if first.size(1) > 1 and own.size(1) == 1:
            self.state[_STEM] = first.float().mean(1, keepdim=True)
            self.resized[_STEM] = f"mean over {first.size(1)} colours"

    def _widen(self) -> None:
        for name in [n for n, t in self.state.items() if n in self.own and widenable(n, t, self.own[n])]:
            for key, tensor in widen_block(name, self.state, self.own).items():
                self.widened[key] = f"{_shape(self.state[key])} -> {_shape(tensor)}"
                self.state[key] = tensor
        for name, module in self._depthwise():
            if name in self.state:
                continue
            identity = torch.zeros_like(module.weight)
            identity[:, :, module.kernel_size[0] // 2, module.kernel_size[1] // 2] = 1
            self.state[name] = identity
            self.missing[name] = "passes on what it gets"
            if module.bias is not None:
                bias = name.removesuffix("weight") + "bias"
                self.state[bias] = torch.zeros_like(module.bias)
                self.missing[bias] = "passes on what it gets"
        # What a convolution adds, the mean of the normalisation after it takes away again.
        for name in [n for n in self.state if n.endswith(".0.bias") and n not in self.own]:
            mean = name.removesuffix("0.bias") + "1.running_mean"
            if mean in self.own and mean in self.state and self.state[mean].shape == self.state[name].shape:
                self.state[mean] = self.state[mean] - self.state.pop(name)
                self.skipped[name] = "subtracted from the mean of the normalisation after it"

    def _last_layer(self) -> None:
        prefix = self.model.last_layer + "."
        mine = [name for name in self.own if name.startswith(prefix)]
        theirs = [name for name in self.state if name.startswith(prefix)]
        if any(n in self.state and self.state[n].shape[:1] != self.own[n].shape[:1] for n in mine):
            classes = (self.state[mine[0]].size(0), self.own[mine[0]].size(0)) if mine[0] in self.state else ("?", "?")
            for name in theirs:
                self.skipped[name] = f"for {classes[0]} classes, not {classes[1]}"
                del self.state[name]
            for name in mine:
                self.missing[name] = "as it was"

    def _positions(self) -> None:
        for name in self.model.positions:
            if name not in self.state or name not in self.own or self.state[name].shape == self.own[name].shape:
                continue
            fitted = self.model.fit_position(self.state[name], self.config)
            if fitted is not None:
                self.resized[name] = f"{_shape(self.state[name])} -> {_shape(fitted)}"
                self.state[name] = fitted

    def finish(self, strict: bool) -> LoadReport:
        """Compare, refuse or load, and report."""
        unexpected = [name for name in self.state if name not in self.own]
        unlike = [n for n, tensor in self.state.items() if n in self.own and tensor.shape != self.own[n].shape]
        for name in self.own:
            if name not in self.state and name not in self.missing and name.endswith("num_batches_tracked"):
                self.missing[name] = "as it was"  # older than this counter
        lacking = [name for name in self.own if name not in self.state and name not in self.missing]
        if strict and (unexpected or unlike or lacking):
            parts = []
            if unlike:
                first = f"{unlike[0]} is {_shape(self.state[unlike[0]])}, not {_shape(self.own[unlike[0]])}"
                parts.append(f"{len(unlike)} of another shape ({first})")
            parts += [
                f"{len(names)} {what} ({names[0]})"
                for what, names in (("missing", lacking), ("unknown here", unexpected))
                if names
            ]
            raise ModelError(
                f"{self.source}: does not fit {self.model.model_name} as {self.kind!r}: tensors {', '.join(parts)}; "
                "create the model with the options of the checkpoint"
            )
        for name in lacking:
            self.missing[name] = "as it was"
        for name in unlike:
            self.skipped[name] = f"{_shape(self.state[name])}, not {_shape(self.own[name])}"
            self.missing[name] = "as it was"
        usable = {n: t for n, t in self.state.items() if n in self.own and n not in unlike}
        self.model.load_state_dict(usable, strict=False)
        changed = {*self.resized, *self.widened, *self.missing}
        return LoadReport(
            source=self.source,
            kind=self.kind,
            loaded=tuple(name for name in usable if name not in changed),
            resized=self.resized,
            widened=self.widened,
            skipped=self.skipped,
            missing=self.missing,
            unexpected=tuple(unexpected),
        )
