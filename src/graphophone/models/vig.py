"""ViG: a spectrogram as a grid of nodes that hear their neighbours, without clusters.

Paper:

    @inproceedings{han2022vision,
      title     = {Vision {GNN}: an image is worth graph of nodes},
      author    = {Han, Kai and Wang, Yunhe and Guo, Jianyuan and Tang, Yehui and Wu, Enhua},
      booktitle = {NeurIPS},
      year      = {2022}
    }

The pyramid form of section 3.4, on spectrograms in place of pictures: it is the network that LHGNN adds clusters and a
depthwise convolution to, and what it must beat. A block is a max-relative graph convolution (equations 6 and 7, with
fully connected layers around) and two layers on every node (equation 8). As in the authors' code, the number of
neighbours grows from ``k`` in the first block to ``2 k`` in the last, and every second one of twice as many is taken
from the fifth block on.

Names of the weights are those of the published checkpoints (``pvig_s_82.1.pth.tar`` and others), which
``graphophone.models.weights.load_weights`` reads: the stem becomes the mean over the colours, the position is resized,
the classes are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from torch import nn

from graphophone.models.base import ModelError
from graphophone.models.lhgnn import LHGNN
from graphophone.nn.ffn import FFN
from graphophone.nn.position import RelPos

# Table 2 of the paper.
_SIZES: dict[str, dict[str, Any]] = {
    "ti": {"channels": (48, 96, 240, 384), "blocks": (2, 2, 6, 2)},
    "s": {"channels": (80, 160, 400, 640), "blocks": (2, 2, 6, 2)},
    "m": {"channels": (96, 192, 384, 768), "blocks": (2, 2, 16, 2)},
    "b": {"channels": (128, 256, 512, 1024), "blocks": (2, 2, 18, 2)},
}
_SMALLEST_GRID = 49  # nodes of the last stage of a picture of 224 x 224, which bound the dilation of the reference


class ViG(LHGNN):
    """Pyramid ViG of a spectrogram: an `LHGNN` with the local kernel and plain feed-forward layers.

    Args:
        num_classes: C.
        size: ``"ti"``, ``"s"``, ``"m"`` or ``"b"`` of the paper: preset of ``channels`` and ``blocks``.
        num_mel_bins: Bands of the spectrogram.
        frames: Frames of a clip; other sizes are taken with the position resized.
        channels: Width of the stages, multiples of 4.
        blocks: Blocks in each stage.
        k: Neighbours in the first block.
        k_last: Neighbours in the last; between, they grow evenly. None: ``2 k``.
        dilation: Of the nearest ``k d``, every d-th is a neighbour: the same in all blocks, or ``"ref"`` as published.
        rel_pos: ``"ref"``, ``"grid"`` or ``"none"``: the addition for places that are close, as for `LHGNN`.
        reduction: Sides of the windows whose means are candidates for neighbours, per stage.
        head_width: Hidden width of the classifier.
        drop_path: Largest probability of dropping a branch.
        dropout: Probability of dropping a channel of the classifier.

    Raises:
        ModelError: If the arguments make no sense.

    Shapes:
        - **x:** `[batch, frames, num_mel_bins]`
        - **output:** `[batch, C]`
    """

    model_name: ClassVar[str] = "vig"

    def __init__(
        self,
        *,
        num_classes: int,
        size: Literal["ti", "s", "m", "b"] = "s",
        num_mel_bins: int = 128,
        frames: int = 1024,
        channels: Sequence[int] | None = None,
        blocks: Sequence[int] | None = None,
        k: int = 9,
        k_last: int | None = None,
        dilation: Literal["ref"] | int = "ref",
        rel_pos: RelPos = "ref",
        reduction: Sequence[int] = (4, 2, 1, 1),
        head_width: int = 1024,
        drop_path: float = 0.1,
        dropout: float = 0.0,
    ) -> None:
        if size not in _SIZES:
            raise ModelError(f"unknown size {size!r}; choose from {', '.join(_SIZES)}")
        k_last = 2 * k if k_last is None else k_last
        if min(k, k_last) < 1:
            raise ModelError(f"k={k}, k_last={k_last}: give at least 1")
        super().__init__(
            num_classes=num_classes,
            num_mel_bins=num_mel_bins,
            frames=frames,
            channels=_SIZES[size]["channels"] if channels is None else channels,
            blocks=_SIZES[size]["blocks"] if blocks is None else blocks,
            k=k,
            kernel="local",
            dilation=dilation,
            rel_pos=rel_pos,
            reduction=reduction,
            head_width=head_width,
            drop_path=drop_path,
            dropout=dropout,
        )
        layers = [layer for layer in self.backbone if isinstance(layer, nn.Sequential)]
        for number, layer in enumerate(layers):
            block: Any = layer[0]
            block.k = k + int((k_last - k) * number / max(len(layers) - 1, 1))
            if dilation == "ref":
                block.dilation = min(number // 4 + 1, max(1, _SMALLEST_GRID // max(k, k_last)))
            layer[1] = FFN(block.fc1[0].in_channels, drop_path=block.drop_path.probability)
            layer[1].apply(_initialize)


def _initialize(module: nn.Module) -> None:
    """As the other convolutions of the network."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
