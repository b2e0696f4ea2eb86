"""VGGish as a PyTorch module, and its published weights in one safe file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from graphophone.features.base import FeatureError

#: Frames and bands of one segment.
FRAMES, BANDS = 96, 64
#: Size of an embedding.
EMBEDDING = 128
#: Channels of the convolutions (0: the picture is halved), and width of the layers between them and the embedding.
CHANNELS = (64, 0, 128, 0, 256, 256, 0, 512, 512, 0)
HIDDEN = 4096

# The layers in order, as the TensorFlow checkpoint calls them; each has `weights` and `biases`.
_PUBLISHED = (
    *(f"vggish/{name}" for name in ("conv1", "conv2", "conv3/conv3_1", "conv3/conv3_2", "conv4/conv4_1")),
    *(f"vggish/{name}" for name in ("conv4/conv4_2", "fc1/fc1_1", "fc1/fc1_2", "fc2")),
)


class VggishNetwork(nn.Module):
    """From segments of a log mel spectrogram to embeddings.

    S. Hershey et al., "CNN architectures for large-scale audio classification", ICASSP 2017, in the smaller form whose
    weights are published: six 3x3 convolutions with ReLU in four stages, each ended by a maximum over 2x2, and three
    linear layers. The last has no ReLU: the embedding is what its authors publish, before the activation.

    72,141,184 parameters under the names of the published PyTorch state dict (``features.0.weight``,
    ``embeddings.4.bias``).

    Shapes:
        - **input:** `[segments, 96, 64]`, from :func:`graphophone.features.logmel128.log_mel`
        - **output:** `[segments, 128]`
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, halvings = 1, 0
        for width in CHANNELS:
            if width:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            else:
                layers.append(nn.MaxPool2d(2))
                halvings += 1
        flat = (FRAMES >> halvings) * (BANDS >> halvings) * channels
        self.features = nn.Sequential(*layers)
        self.embeddings = nn.Sequential(
            nn.Linear(flat, HIDDEN),
            nn.ReLU(inplace=True),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(inplace=True),
            nn.Linear(HIDDEN, EMBEDDING),
        )

    def forward(self, segments: Tensor) -> Tensor:
        """Embeddings `[segments, 128]` of `[segments, 96, 64]`."""
        picture = self.features(segments.unsqueeze(1))
        # Channels last, as the weights of the first linear layer were learned.
        return self.embeddings(picture.permute(0, 2, 3, 1).flatten(1))


def default_weights() -> Path:
    """Where :func:`convert_vggish` writes, and the extractor looks, unless told otherwise.

    The folder named by the environment variable ``GRAPHOPHONE_CACHE``, else the user's cache folder for graphophone.
    """
    base = os.environ.get("GRAPHOPHONE_CACHE") or platformdirs.user_cache_dir("graphophone")
    return Path(base) / "weights" / "vggish.safetensors"


def load_vggish(path: str | os.PathLike[str]) -> VggishNetwork:
    """The network with weights from a safetensors file, ready for inference.

    Raises:
        FeatureError: If the file is damaged, or does not hold the weights of VGGish.
    """
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise FeatureError(f"{path}: no readable safetensors file ({error}); convert the published weights anew") from (
            error
        )
    with torch.device("meta"):
        network = VggishNetwork()
    network.load_state_dict(_checked(state, path), assign=True)
    return network.eval().requires_grad_(False)


def convert_vggish(source: str | os.PathLike[str], target: str | os.PathLike[str] | None = None) -> Path:
    """Write the published weights as one safetensors file, once; nothing in the source is run.

    Args:
        source: A PyTorch state dict (``.pth``, ``.pt``) or a safetensors file with the names of :class:`VggishNetwork`,
            or a NumPy archive (``.npz``) of the variables of the TensorFlow checkpoint (``vggish/conv1/weights``, ...).
            Tensors of other names (a classifier, the principal components) are left out.
        target: The file to write; None for :func:`default_weights`.

    Returns:
        The file written.

    Raises:
        FeatureError: If the source cannot be read or does not hold the weights of VGGish.
    """
    source = Path(source)
    if not source.is_file():
        raise FeatureError(f"{source}: there is no such file; give the published weights of VGGish")
    state = _checked(_read(source), source)
    target = default_weights() if target is None else Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Readers see the whole file or none.
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, unfinished)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return target


def _read(source: Path) -> dict[str, Tensor]:
    """Tensors by the names of the module."""
    try:
        if source.suffix == ".npz":
            with np.load(source, allow_pickle=False) as archive:
                return _from_tensorflow({name.removesuffix(":0"): archive[name] for name in archive.files})
        if source.suffix == ".safetensors":
            return load_file(source)
        content: Any = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # what damaged files raise has no common class
        reason = " ".join(str(error).split())[:150]
        raise FeatureError(f"{source}: damaged, or holds more than weights ({reason}); fetch it again") from error
    if not isinstance(content, Mapping):
        raise FeatureError(f"{source}: holds a {type(content).__name__}; give the file of a state dict")
    return {str(name): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}


def _from_tensorflow(variables: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """TensorFlow has the output last: `[height, width, in, out]` and `[in, out]`."""
    with torch.device("meta"):
        layers = [name.removesuffix(".weight") for name in VggishNetwork().state_dict() if name.endswith(".weight")]
    state = {}
    for layer, published in zip(layers, _PUBLISHED, strict=True):
        if f"{published}/weights" in variables and f"{published}/biases" in variables:
            weight = variables[f"{published}/weights"]
            order = (3, 2, 0, 1) if weight.ndim == 4 else tuple(reversed(range(weight.ndim)))
            state[f"{layer}.weight"] = torch.from_numpy(np.ascontiguousarray(weight.transpose(order)))
            state[f"{layer}.bias"] = torch.from_numpy(variables[f"{published}/biases"])
    return state


def _checked(state: Mapping[str, Tensor], source: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of the network, in single precision and of its shapes.

    Raises:
        FeatureError: If one is missing or has another shape.
    """
    with torch.device("meta"):
        wanted = VggishNetwork().state_dict()
    for name, like in wanted.items():
        if name not in state:
            raise FeatureError(f"{source}: has no {name!r}; give the weights of VGGish with 6 convolutions")
        if state[name].shape != like.shape:
            raise FeatureError(
                f"{source}: {name!r} has shape {list(state[name].shape)} instead of {list(like.shape)}; give the "
                "weights of VGGish"
            )
    return {name: state[name].float() for name in wanted}
