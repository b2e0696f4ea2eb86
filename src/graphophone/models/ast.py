"""AST: the audio spectrogram transformer, as the transformers library has it.

Paper:

    @inproceedings{gong2021ast,
      title     = {{AST}: audio spectrogram transformer},
      author    = {Gong, Yuan and Chung, Yu-An and Glass, James},
      booktitle = {Interspeech},
      year      = {2021}
    }

The network is transformers' ``ASTForAudioClassification``; this file gives it the manner of the other models of
spectrograms, reads its checkpoints, and fits its positions to other sizes.

**Normalisation.** AST divides by twice the deviation: ``(x + 4.2677393) / (2 * 4.5689974)`` on AudioSet, so that inputs
have deviation 0.5. A recipe says so by its constants, ``standardize.mean: -4.2677393`` and ``standardize.std:
9.1379948``, with which the published weights are usable on `fbank` features; for ESC-50 the paper's program takes
-6.6268077 and ``2 * 5.358466``. Trained from scratch, it may have those of any other model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from graphophone.errors import MissingDependencyError
from graphophone.models.base import ModelError, SpectrogramClassifier, read_config

#: How the library named weights before version 5, in which all published checkpoints are, and how it does since.
_RENAMED = (
    (r"\.encoder\.layer\.(\d+)\.", r".layers.\1."),
    (r"\.attention\.attention\.(query|key|value)\.", r".attention.\1."),
    (r"\.attention\.output\.dense\.", r".attention.o_proj."),
    (r"\.intermediate\.dense\.", r".mlp.fc1."),
    (r"(\.layers\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"\.attention\.(q|k|v)(?:uery|ey|alue)\.", r".attention.\1_proj."),
)

#: Keys of a transformers configuration and the arguments here that they are.
_ARGUMENTS = {
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "intermediate_size": "intermediate_size",
    "patch_size": "patch_size",
    "frequency_stride": "frequency_stride",
    "time_stride": "time_stride",
    "num_mel_bins": "num_mel_bins",
    "max_length": "frames",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
}

#: What every AST has, and this class therefore takes no argument for.
_FIXED = {"hidden_act": "gelu", "qkv_bias": True, "layer_norm_eps": 1e-12}


def _transformers() -> ModuleType:
    try:
        import transformers
    except ImportError as error:
        raise MissingDependencyError("transformers is not installed: pip install 'graphophone[ast]'") from error
    return transformers


def modern_name(name: str) -> str:
    """The name a weight has since version 5 of the library, from either."""
    for pattern, new in _RENAMED:
        name = re.sub(pattern, new, name)
    return name


def fit_positions(positions: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Positions of another grid of patches, by the rule of AST: the middle of a longer axis, or interpolation.

    A shorter recording keeps the distances between its patches: the positions are cut from the middle. A longer one
    has more patches than there are positions: they are stretched, bilinearly. Each axis goes its own way.

    Args:
        positions: ``[1, 2 + old patches, dims]``: class token, distillation token, then the grid by rows.
        old: Patches along frequency and time.
        new: The same of the grid wanted.

    Returns:
        ``[1, 2 + new patches, dims]``.
    """
    tokens, grid = positions[:, :2], positions[:, 2:]
    grid = grid.transpose(1, 2).unflatten(2, old)
    for axis in (0, 1):
        if new[axis] < old[axis]:
            grid = grid.narrow(2 + axis, old[axis] // 2 - new[axis] // 2, new[axis])
    if grid.shape[2:] != new:
        grid = F.interpolate(grid, size=new, mode="bilinear", align_corners=False)
    return torch.cat([tokens, grid.flatten(2).transpose(1, 2)], dim=1)


class AST(SpectrogramClassifier):
    """The audio spectrogram transformer; the defaults are AST-base on ten seconds of `fbank`.

    At 527 classes it has 86,594,063 parameters. Names of the weights are those of the transformers library.

    Args:
        num_classes: C.
        num_mel_bins: Bands of the spectrogram.
        frames: Frames of a clip. Other lengths (and numbers of bands) are taken too, with positions by
            `fit_positions`.
        hidden_size: Width of a token.
        num_layers: Number of blocks.
        num_heads: Heads of each; a divisor of ``hidden_size``.
        intermediate_size: Hidden width of the perceptron of a block; None: four times ``hidden_size``.
        patch_size: Side of a square patch.
        frequency_stride: Bands from patch to patch; below ``patch_size`` they overlap.
        time_stride: Frames from patch to patch.
        dropout: Probability of dropping a value of a token.
        attention_dropout: Probability of dropping an attention.

    Raises:
        MissingDependencyError: If transformers is not installed.
        ModelError: If the arguments make no sense.

    Shapes:
        - **x:** `[batch, frames, num_mel_bins]`
        - **output:** `[batch, C]`
    """

    model_name: ClassVar[str] = "ast"
    last_layer: ClassVar[str] = "classifier.dense"
    batch_norm: ClassVar[bool] = False
    positions: ClassVar[tuple[str, ...]] = ("audio_spectrogram_transformer.embeddings.position_embeddings",)

    def __init__(
        self,
        *,
        num_classes: int,
        num_mel_bins: int = 128,
        frames: int = 1024,
        hidden_size: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        intermediate_size: int | None = None,
        patch_size: int = 16,
        frequency_stride: int = 10,
        time_stride: int = 10,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        transformers = _transformers()
        if hidden_size % num_heads:
            raise ModelError(f"ast: hidden_size {hidden_size} is not divisible by num_heads {num_heads}; change one")
        self.num_classes = num_classes
        self.num_mel_bins = num_mel_bins
        self.frames = frames
        self.patch_size = patch_size
        self.strides = (frequency_stride, time_stride)
        self.grid = self._grid(num_mel_bins, frames)
        network = transformers.ASTForAudioClassification(
            transformers.ASTConfig(
                hidden_size=hidden_size,
                num_hidden_layers=num_layers,
                num_attention_heads=num_heads,
                intermediate_size=4 * hidden_size if intermediate_size is None else intermediate_size,
                patch_size=patch_size,
                frequency_stride=frequency_stride,
                time_stride=time_stride,
                num_mel_bins=num_mel_bins,
                max_length=frames,
                hidden_dropout_prob=dropout,
                attention_probs_dropout_prob=attention_dropout,
                num_labels=num_classes,
                **_FIXED,
            )
        )
        self.audio_spectrogram_transformer = network.audio_spectrogram_transformer
        self.classifier = network.classifier
        # From the modern name of each weight to the one it has in the installed version of the library.
        self._installed = {modern_name(name): name for name in self.state_dict()}
        self.register_load_state_dict_pre_hook(_rename)

    def _grid(self, bands: int, frames: int) -> tuple[int, int]:
        """Patches along frequency and time of a spectrogram."""
        if min(bands, frames) < self.patch_size:
            raise ModelError(
                f"ast: {frames} frames of {bands} bands hold no patch of {self.patch_size}; give longer recordings, "
                "more num_mel_bins or a smaller patch_size"
            )
        rows, columns = ((n - self.patch_size) // s + 1 for n, s in zip((bands, frames), self.strides, strict=True))
        return rows, columns

    def embed(self, x: Tensor) -> Tensor:
        """One vector per spectrogram ``[batch, hidden_size]``: the mean of both tokens, normalised."""
        x = self.spectrograms(x)
        network = self.audio_spectrogram_transformer
        grid = self._grid(x.size(2), x.size(1))
        if grid == self.grid:
            tokens = network(x).pooler_output
        else:
            positions = fit_positions(network.embeddings.position_embeddings, self.grid, grid)
            tokens = functional_call(network, {"embeddings.position_embeddings": positions}, (x,)).pooler_output
        return self.classifier.layernorm(tokens)

    def published_name(self, name: str) -> str | None:
        """The name that the installed version of the library gives a weight, from that of any version."""
        return self._installed.get(modern_name(name), name)

    def fit_position(self, tensor: Tensor, config: Mapping[str, Any]) -> Tensor | None:
        """Positions of another grid by `fit_positions`; the old grid from ``config``, or else from its bands here."""
        rows, patches = self.grid[0], tensor.size(1) - 2
        bands, stride = config.get("num_mel_bins"), config.get("frequency_stride")
        if isinstance(bands, int) and isinstance(stride, int):
            rows = (bands - int(config.get("patch_size", self.patch_size))) // stride + 1
        if (
            tensor.ndim != 3
            or tensor.size(2) != self.audio_spectrogram_transformer.config.hidden_size
            or patches % rows
        ):
            return None
        return fit_positions(tensor, (rows, patches // rows), self.grid)

    @classmethod
    def from_transformers(cls, source: str | Path, *, num_classes: int | None = None, **options: Any) -> Self:
        """A network with the configuration and weights of a transformers checkpoint, in evaluation mode.

        Args:
            source: Folder with ``config.json`` and ``model.safetensors``, or ``"owner/name"`` on the Hugging Face
                hub, such as ``"MIT/ast-finetuned-audioset-10-10-0.4593"``. Pickled weights are not read.
            num_classes: C; where the checkpoint has another number, the last layer is new. None: as it has.
            options: ``frames`` and ``num_mel_bins`` (positions are fitted), ``dropout``, ``attention_dropout``; for the
                hub ``revision``, ``token``, ``cache_dir``, ``local_files_only``.

        Raises:
            ModelError: If it cannot be read or is no AST.
        """
        from graphophone.models.weights import load_weights

        hub = {
            key: options.pop(key) for key in ("revision", "token", "cache_dir", "local_files_only") if key in options
        }
        config = read_config(source, **hub)
        if config.get("model_type") != "audio-spectrogram-transformer":
            raise ModelError(f"{source}: config.json is not of an audio spectrogram transformer; give one that is")
        for key, value in _FIXED.items():
            if config.get(key, value) != value:
                raise ModelError(f"{source}: {key} is {config[key]!r}, and only {value!r} is supported; take another")
        arguments = {here: config[there] for there, here in _ARGUMENTS.items() if there in config}
        labels = len(config.get("id2label") or {}) or int(config.get("num_labels") or 2)
        model = cls(**{**arguments, "num_classes": num_classes or labels, **options})
        load_weights(model, source, kind="audio", **hub)
        return model.eval()


def _rename(module: AST, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Before loading: a model that was saved with another version of the library has other names."""
    for name in [name for name in state if name.startswith(prefix)]:
        here = module.published_name(name.removeprefix(prefix))
        if here is not None and prefix + here != name:
            state[prefix + here] = state.pop(name)
