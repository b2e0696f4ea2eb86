"""What all models share: saving and loading, and the shape of a classifier of graphs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from graphophone.errors import GraphophoneError
from graphophone.nn.aggregation import exporting

_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")

_CARD = """---
{{ card_data }}
---

# {{ title | default("A graphophone model", true) }}

{{ description | default("Weights of a model of the graphophone library.", true) }}

```python
from graphophone.models import load_model

model = load_model("path/to/this/folder")
```
{% if paper_url %}
Paper: {{ paper_url }}
{% endif %}"""


class ModelError(GraphophoneError):
    """A model that cannot be made, or a saved one that cannot be read."""


def fetch(source: str | Path, name: str, **hub: Any) -> Path | None:
    """The file ``name`` of a saved model, in a folder or fetched from the hub; None where it has none."""
    if Path(source).is_dir():
        path = Path(source) / name
        return path if path.is_file() else None
    local = isinstance(source, Path) or str(source).count("/") != 1 or str(source).startswith((".", "~", "/"))
    if local or Path(source).exists():
        what = "is a file" if Path(source).exists() else "does not exist"
        raise ModelError(f"{source}: {what}; give the folder that save_pretrained wrote")
    try:
        return Path(hf_hub_download(str(source), name, **hub))
    except Exception as error:  # the client raises its own, its transport's, and ValueError for names
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            return None
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{source}: neither a folder here nor on the hub ({reason}); check the name") from error


def read_config(source: str | Path, **hub: Any) -> dict[str, Any]:
    """``config.json`` of a saved model: the arguments of its class and ``model_name``.

    Args:
        source: Folder that ``save_pretrained`` wrote, or ``"owner/name"`` on the Hugging Face hub.
        hub: ``revision``, ``token``, ``cache_dir``, ``local_files_only`` for the hub.

    Raises:
        ModelError: If there is none, or it is not a JSON object.
    """
    path = fetch(source, _CONFIG, **hub)
    if path is None:
        raise ModelError(f"{source}: holds no {_CONFIG}; give the folder that save_pretrained wrote")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: damaged ({error}); save the model again") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path}: holds no JSON object; save the model again")
    return config


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The network in evaluation mode, in the block under it; then in the mode that it had."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def usable_device(device: str | torch.device) -> torch.device:
    """The device of that name, after a look whether it is there.

    Raises:
        ModelError: If PyTorch knows no such device or finds none here; the text names those it finds.
    """
    found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        found.append("mps")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen).cpu()  # "meta" is a device, but nothing can be read from it
    # Which of them PyTorch raises depends on the device and on how it was built.
    except (RuntimeError, AssertionError, NotImplementedError, ImportError, TypeError, ValueError) as error:
        raise ModelError(f"device {str(device)!r}: not found here; use {' or '.join(found)}") from error
    return chosen


class PretrainedModel(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="graphophone",
    tags=["audio", "graph-neural-network"],
    model_card_template=_CARD,
):
    """A network that saves itself as ``config.json`` and ``model.safetensors``, and is read back from them.

    ``save_pretrained(folder)`` writes the keyword arguments of the constructor, the weights and a model card;
    ``from_pretrained(folder or "owner/name")`` reads them; ``push_to_hub`` uploads. Pickled weights are never
    read.

    Subclasses take keyword-only arguments that JSON can hold, and set `model_name` to their name in the
    registry.

    Attributes:
        reads: What the network is given: a ``"graph"`` of nodes and edges, a ``"spectrogram"``, a graph whose
            ``"nodes"`` are recordings, each of which gets an answer, or a ``"dialogue"``, each turn of which gets one.
    """

    model_name: ClassVar[str] = ""
    reads: ClassVar[Literal["graph", "spectrogram", "nodes", "dialogue"]] = "graph"

    @property
    def config(self) -> dict[str, Any]:
        """Keyword arguments that make a model of this shape (a copy)."""
        held: Any = self._hub_mixin_config
        return dict(held or {})

    def num_parameters(self) -> int:
        """How many numbers are learned."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    def _save_pretrained(self, save_directory: Path) -> None:
        # Each file is written aside and moved into place, the configuration last (the mixin has removed an old one):
        # what a kill leaves behind is not taken for a model.
        weights = {name: tensor.detach().contiguous() for name, tensor in self.state_dict().items()}
        config = json.dumps({**self.config, "model_name": self.model_name}, indent=2, sort_keys=True) + "\n"
        for name, content in (
            (_WEIGHTS, save(weights, metadata={"format": "pt"})),
            (_CONFIG, config.encode()),
        ):
            part = save_directory / f".{name}.{os.getpid()}.part"
            try:
                part.write_bytes(content)
                part.replace(save_directory / name)
            finally:
                part.unlink(missing_ok=True)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """Read a saved model, in evaluation mode.

        Args:
            pretrained_model_name_or_path: Folder that ``save_pretrained`` wrote, or ``"owner/name"`` on the
                Hugging Face hub.
            options: ``map_location`` (device, default ``"cpu"``), ``strict`` (default True: the weights must
                be those of this model, no more and no fewer), for the hub ``revision``, ``token``,
                ``cache_dir``, ``local_files_only``, ``force_download``, and keyword arguments of the
                constructor that replace saved ones.

        Raises:
            ModelError: If the folder, its configuration or its weights are missing, damaged, pickled, or of
                another model, or there is no such device.
        """
        source = pretrained_model_name_or_path
        device = usable_device(options.pop("map_location", "cpu"))
        hub_keys = ("revision", "token", "cache_dir", "local_files_only", "force_download")
        hub = {key: options.pop(key) for key in hub_keys if key in options}
        strict = options.pop("strict", True)
        config = read_config(source, **hub)
        name = config.pop("model_name", cls.model_name)
        if name != cls.model_name:
            raise ModelError(f"{source}: holds a {name!r}, not a {cls.model_name!r}; use load_model")
        weights = fetch(source, _WEIGHTS, **hub)
        if weights is None:
            folder = Path(source)
            pickled = [file.name for glob in _PICKLED for file in folder.glob(glob)] if folder.is_dir() else []
            held = f"only pickled weights ({pickled[0]}), never read" if pickled else f"no {_WEIGHTS}"
            raise ModelError(f"{source}: holds {held}; save the model with save_pretrained")
        try:
            model = cls(**{**config, **options})
        except (
            TypeError,
            ValueError,
            RuntimeError,
            LookupError,
            ArithmeticError,
            AttributeError,
            GraphophoneError,
        ) as error:
            reason = " ".join(str(error).split())[:300]
            raise ModelError(f"{source}: {_CONFIG} does not fit {cls.__name__} ({reason}); mend it") from error
        try:
            state = load_file(weights, device=str(device))
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{weights}: damaged ({error}); save or fetch the model again") from error
        try:
            model.load_state_dict(state, strict=strict)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise ModelError(f"{weights}: weights of another model ({reason}); mend {_CONFIG}") from error
        return model.to(device).eval()


class GraphClassifier(PretrainedModel):
    """A network from graphs to class scores: nodes are encoded, pooled, and classified.

    Subclasses implement `embed` and set ``classifier``, whose last module is the linear layer to the classes.

    Symbols: N nodes, E edges, B graphs, C classes.

    Attributes:
        in_channels: Width of the node features.
        num_classes: C.
        reads_edges: Whether ``edge_index`` matters; where it does not, ``edge_weight`` is refused.
    """

    reads_edges: ClassVar[bool] = True
    in_channels: int
    num_classes: int
    classifier: nn.Sequential

    def embed(
        self,
        x: Tensor,
        edge_index: Tensor,
        batch: Tensor | None = None,
        batch_size: int | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """One vector per graph ``[B, dims]``, before the classifier; arguments as `forward`."""
        raise NotImplementedError

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        batch: Tensor | None = None,
        batch_size: int | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """Class scores (logits) of every graph.

        Args:
            x: Node features ``[N, in_channels]``.
            edge_index: Sources and targets ``[2, E]``.
            batch: Graph of every node ``[N]``; None: all are of one graph.
            batch_size: B; None: as many as ``batch`` names.
            edge_weight: Factor ``[E]`` on what each edge carries, for attribution; None: 1.

        Returns:
            ``[B, C]``.
        """
        return self.classifier(self.embed(x, edge_index, batch, batch_size, edge_weight))

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer by a new one for ``num_classes`` classes, for training on another corpus."""
        last = self.classifier[-1]
        if not isinstance(last, nn.Linear):
            raise TypeError(f"the classifier of {type(self).__name__} does not end in a linear layer")
        self.classifier[-1] = nn.Linear(last.in_features, num_classes).to(last.weight)
        self._hub_mixin_config = {**self.config, "num_classes": num_classes}
        self.num_classes = num_classes


class SpectrogramClassifier(PretrainedModel):
    """A network from spectrograms to class scores, which makes what it needs of them (a graph, patches) itself.

    Subclasses implement `embed` and `classify`, and set `last_layer`.

    Symbols: B spectrograms, C classes.

    Attributes:
        num_classes: C.
        num_mel_bins: Width of the spectrograms the network is made for.
        frames: Their length.
        last_layer: Name of the submodule, a linear layer or a 1x1 convolution, that gives the class scores.
        batch_norm: Whether training normalises over the batch, and so needs two spectrograms at least.
        positions: Names of the learned positions, whose shape follows the size of the spectrograms.
    """

    reads: ClassVar[Literal["graph", "spectrogram"]] = "spectrogram"
    last_layer: ClassVar[str] = "classifier"
    batch_norm: ClassVar[bool] = True
    positions: ClassVar[tuple[str, ...]] = ("pos_embed",)
    num_classes: int
    num_mel_bins: int
    frames: int

    def embed(self, x: Tensor) -> Tensor:
        """One vector per spectrogram ``[B, dims]``, before the last layer; argument as `forward`."""
        raise NotImplementedError

    def classify(self, embedding: Tensor) -> Tensor:
        """Class scores ``[B, C]`` of what `embed` gives."""
        return self.get_submodule(self.last_layer)(embedding)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores (logits) of every spectrogram.

        Args:
            x: Normalised log-mel spectrograms ``[B, frames, mels]`` or ``[B, 1, frames, mels]``.

        Returns:
            ``[B, C]``; of no spectrogram, in evaluation, ``[0, C]``.

        Raises:
            ModelError: If ``x`` has another shape, or holds too few spectrograms for training.
        """
        if not exporting() and x.ndim > 2 and x.size(0) == 0 and not self.training:
            return self.forward(x.new_zeros(1, *x.shape[1:]))[:0]  # layers refuse empty batches, each in its own way
        return self.classify(self.embed(x))

    def spectrograms(self, x: Tensor) -> Tensor:
        """``x`` as ``[B, frames, mels]``.

        Raises:
            ModelError: As `forward`.
        """
        if x.ndim == 4 and x.size(1) == 1:
            x = x[:, 0]
        if x.ndim != 3:
            raise ModelError(f"a batch of shape {list(x.shape)}: give [batch, frames, mels]")
        if min(x.shape[1:]) < 1:
            raise ModelError(f"a batch of shape {list(x.shape)}: give at least one frame and one mel band")
        if self.training and x.size(0) == 0:
            raise ModelError("training on a batch of no spectrogram: leave empty batches out")
        if self.batch_norm and self.training and x.size(0) < 2:
            raise ModelError("training on a batch of one: batch normalisation needs two spectrograms at least")
        return x

    def published_name(self, name: str) -> str | None:
        """The name here of a tensor of a published checkpoint; None for one that is fixed and made anew here."""
        return None if name.endswith(".relative_pos") else name

    def fit_position(self, tensor: Tensor, config: Mapping[str, Any]) -> Tensor | None:
        """Learned positions of another size, resized to this network's; None where that is not possible.

        Args:
            tensor: As the checkpoint has them; here a map ``[1, dims, height, width]``, which is resized (bicubic).
            config: ``config.json`` of the checkpoint, where there is one.
        """
        own = self.get_parameter(self.positions[0])
        if tensor.ndim != 4 or tensor.shape[:2] != own.shape[:2]:
            return None
        return F.interpolate(tensor.float(), size=tuple(own.shape[2:]), mode="bicubic", align_corners=False)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer by a new one for ``num_classes`` classes, for training on another corpus."""
        last = self.get_submodule(self.last_layer)
        new: nn.Module
        if isinstance(last, nn.Conv2d):
            new = nn.Conv2d(last.in_channels, num_classes, 1, bias=last.bias is not None).to(last.weight)
        elif isinstance(last, nn.Linear):
            new = nn.Linear(last.in_features, num_classes, bias=last.bias is not None).to(last.weight)
        else:
            raise TypeError(f"{self.last_layer} of {type(self).__name__} is not a linear layer")
        self.set_submodule(self.last_layer, new.train(last.training))
        self._hub_mixin_config = {**self.config, "num_classes": num_classes}
        self.num_classes = num_classes
