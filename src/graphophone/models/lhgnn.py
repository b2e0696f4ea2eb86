r"""LHGNN: a spectrogram as a grid of nodes, each read with its neighbours and with fuzzy clusters of all nodes.

Paper:

    @inproceedings{singh2025lhgnn,
      title     = {{LHGNN}: Local-Higher Order Graph Neural Networks For Audio Classification and Tagging},
      author    = {Singh, Shubhr and Benetos, Emmanouil and Phan, Huy and Stowell, Dan},
      booktitle = {ICASSP},
      year      = {2025},
      note      = {arXiv:2501.03464}
    }

The spectrogram ``[frames, mels]`` is turned to ``[mels, frames]``; convolutions make one node of 4 x 4 values; four
stages of blocks follow, each with half the grid of the one before. A block is an `graphophone.nn.LHGBlock` (equations
1 to 4) and a `graphophone.nn.ConvFFN`. The mean over the last grid goes through a hidden layer to the class scores.

What the paper leaves open, and what was chosen: a learned absolute position, added after the stem and resized for
other grids, and a fixed relative one in the k-NN search (``rel_pos``); in the first two stages neighbours are pooled
nodes (``reduction``), without which the first needs a matrix of 8192 x 8192; dilation of 2 from the fifth block on
(all as in Han et al., "Vision GNN", 2022); the MLP of equation 3 is one layer of 4 groups; the first centroids are
means of the cells of a grid (``init="pool"``), so that the answer does not depend on chance. The third stage is 400
wide, not 320: only that gives the paper's 31 M parameters.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphophone.models.base import ModelError, SpectrogramClassifier
from graphophone.nn.aggregation import exporting
from graphophone.nn.channels_last import convolve
from graphophone.nn.clustering import Init
from graphophone.nn.conv_ffn import ConvFFN
from graphophone.nn.folding import FoldedConvs, FoldedFFN, FoldedLHG, foldable
from graphophone.nn.lhg import Cluster, Kernel, LHGBlock
from graphophone.nn.onednn import available
from graphophone.nn.position import PositionCloseness, RelPos
from graphophone.nn.snapshot import Snapshot
from graphophone.nn.stem import ConvStem, Downsample, Stem

Size = Literal["ti", "s", "m", "b"]

# ti is ours, for processors and small corpora; the others are published (s) or in the authors' code (m, b).
_SIZES: dict[str, dict[str, Any]] = {
    "ti": {"channels": (40, 80, 160, 320), "blocks": (1, 1, 2, 1), "k": 9, "head_width": 256},
    "s": {"channels": (80, 160, 400, 640), "blocks": (2, 2, 6, 2), "k": 25, "head_width": 1024},
    "m": {"channels": (96, 192, 384, 768), "blocks": (2, 2, 16, 2), "k": 25, "head_width": 1024},
    "b": {"channels": (128, 256, 512, 1024), "blocks": (2, 2, 18, 2), "k": 25, "head_width": 1024},
}
_CACHED = 1 << 20  # numbers in the first maps of the clips that are passed at once in evaluation on a CPU
_LARGEST_DILATION = 128  # of the reference: neighbours and dilation stay below 128 centroids times dilation


class _Folded:
    """The layers of an `LHGNN` up to its last block, with their batch normalisations folded into their weights."""

    def __init__(self, model: LHGNN) -> None:
        self.snapshot = Snapshot(model)
        self.stem = FoldedConvs(model.stem.convs)
        self.backbone: list[Any] = []
        for layer in model.backbone:
            if isinstance(layer, Downsample):
                self.backbone.append(FoldedConvs(layer.conv))
            else:
                block, feed_forward = cast(tuple[LHGBlock, ConvFFN], tuple(layer.children()))
                self.backbone.append((FoldedLHG(block), FoldedFFN(feed_forward)))
        self.position = functools.lru_cache(maxsize=4)(model.position)


class LHGNN(SpectrogramClassifier):
    """Local and higher-order graph neural network of a spectrogram.

    Args:
        num_classes: Classes.
        size: Preset of ``channels``, ``blocks``, ``k`` and ``head_width``: ``"ti"`` (3 M parameters, for processors
            and small corpora), ``"s"`` (the paper's, 31 M), ``"m"``, ``"b"``.
        num_mel_bins: Width of the spectrograms that the learned position is made for; others are resized to.
        frames: Their length.
        channels: Width of each stage, multiples of 4.
        blocks: Blocks of each stage.
        k: Neighbours of a node.
        K: Centroids chosen per node.
        P: Centroids.
        m: Fuzziness.
        v: Iterations of the clustering.
        init: First centroids: ``"pool"``, ``"noise"``, ``"sample"``, ``"learned"``.
        cluster: ``"fcm"``, ``"kmeans"``, ``"density"``.
        centroid_grad: Let gradients pass through the centroids.
        kernel: ``"both"`` terms, ``"local"`` (neighbours) or ``"higher"`` (centroids).
        dilation: Of the k d nearest every d-th is a neighbour; ``"ref"``: 1 in the first four blocks, then 2 (where P
            is 50).
        rel_pos: Place in the search for neighbours: ``"ref"``, ``"grid"``, ``"none"``, as
            `graphophone.nn.position_closeness` has them.
        include_self: Whether a node may be its own neighbour in stages without pooling.
        reduction: Side of the windows whose means are candidates for neighbours, per stage.
        stem: ``"three"`` or ``"four"`` convolutions.
        head_width: Hidden width of the classifier.
        drop_path: Largest probability of dropping a branch, that of the last block; the first has 0.
        dropout: Probability of dropping a number of the hidden layer of the classifier.

    Shapes:
        ``[B, frames, mels]`` or ``[B, 1, frames, mels]`` -> ``[B, num_classes]``. Any number of frames and mels.
    """

    model_name: ClassVar[str] = "lhgnn"
    last_layer: ClassVar[str] = "prediction.4"

    def __init__(
        self,
        *,
        num_classes: int,
        size: Size = "s",
        num_mel_bins: int = 128,
        frames: int = 1024,
        channels: Sequence[int] | None = None,
        blocks: Sequence[int] | None = None,
        k: int | None = None,
        K: int = 10,
        P: int = 50,
        m: float = 2.0,
        v: int = 1,
        init: Init = "pool",
        cluster: Cluster = "fcm",
        centroid_grad: bool = False,
        kernel: Kernel = "both",
        dilation: Literal["ref"] | int = "ref",
        rel_pos: RelPos = "ref",
        include_self: bool = True,
        reduction: Sequence[int] = (4, 2, 1, 1),
        stem: Stem = "three",
        head_width: int | None = None,
        drop_path: float = 0.1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self._folded: _Folded | None = None
        if size not in _SIZES:
            raise ModelError(f"unknown size {size!r}; choose from {', '.join(_SIZES)}")
        preset = _SIZES[size]
        channels = tuple(preset["channels"] if channels is None else channels)
        blocks = tuple(preset["blocks"] if blocks is None else blocks)
        k = int(preset["k"] if k is None else k)
        head_width = int(preset["head_width"] if head_width is None else head_width)
        if not len(channels) == len(blocks) == len(reduction) > 0:
            raise ModelError(
                f"channels, blocks and reduction name {len(channels)}, {len(blocks)} and {len(reduction)} stages; "
                "give each of them once per stage"
            )
        if min(num_classes, num_mel_bins, frames, head_width, *channels, *blocks) < 1:
            raise ModelError("num_classes, num_mel_bins, frames, channels, blocks and head_width: give at least 1")
        if not 0 <= dropout <= 1:
            raise ModelError(f"dropout={dropout}: give a probability from 0 to 1")
        if dilation != "ref" and not isinstance(dilation, int):
            raise ModelError(f"dilation={dilation!r}: give 'ref' or a number")
        self.num_classes, self.num_mel_bins, self.frames = num_classes, num_mel_bins, frames
        count = sum(blocks)
        rates = [drop_path * number / max(1, count - 1) for number in range(count)]
        try:
            self.stem = ConvStem(1, channels[0], stem)
            self.pos_embed = nn.Parameter(torch.zeros(1, channels[0], -(-num_mel_bins // 4), -(-frames // 4)))
            self.backbone = nn.ModuleList()
            self.closeness = nn.ModuleList()
            number = 0
            for stage, (width, depth, window) in enumerate(zip(channels, blocks, reduction, strict=True)):
                if stage:
                    self.backbone.append(Downsample(channels[stage - 1], width))
                self.closeness.append(PositionCloseness(rel_pos, width, window))
                for _ in range(depth):
                    ref = max(1, min(number // 4 + 1, _LARGEST_DILATION // max(1, P)))
                    block = LHGBlock(
                        width,
                        k=k,
                        dilation=ref if dilation == "ref" else dilation,
                        reduction=window,
                        include_self=include_self,
                        kernel=kernel,
                        drop_path=rates[number],
                        P=P,
                        K=K,
                        cluster=cluster,
                        init=init,
                        v=v,
                        m=m,
                        centroid_grad=centroid_grad,
                    )
                    self.backbone.append(nn.Sequential(block, ConvFFN(width, drop_path=rates[number])))
                    number += 1
        except ValueError as error:
            raise ModelError(str(error)) from error
        self.prediction = nn.Sequential(
            nn.Conv2d(channels[-1], head_width, 1),
            nn.BatchNorm2d(head_width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Conv2d(head_width, num_classes, 1),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def position(self, height: int, width: int) -> Tensor:
        """The learned position, resized (bicubic) to a grid ``[1, C, H, W]``."""
        if self.pos_embed.shape[2:] == (height, width):
            return self.pos_embed
        return F.interpolate(self.pos_embed, (height, width), mode="bicubic", align_corners=False)

    def feature_map(self, x: Tensor) -> Tensor:
        """Nodes after the last block ``[B, H, W, C]``; argument as `forward`.

        Where nothing is learned, the layers are used with their batch normalisations folded into their weights. Those
        are kept until a weight changes, or `train` or `eval` is called. Layers that are no longer those made here (an
        adapter, a part that was put into training) are used as they are.
        """
        return torch.cat(self._maps(self.spectrograms(x)))

    def embed(self, x: Tensor) -> Tensor:
        """One vector per spectrogram ``[B, head_width]``, before the last layer; argument as `forward`."""
        means = torch.cat([nodes.mean((1, 2)) for nodes in self._maps(self.spectrograms(x))])
        return torch.cat([self.prediction[:4](rows[:, :, None, None]).flatten(1) for rows in self._parts(means, 1)])

    def classify(self, embedding: Tensor) -> Tensor:
        """Class scores ``[B, num_classes]`` of what `embed` gives."""
        return torch.cat([self.prediction[4](rows[:, :, None, None]).flatten(1) for rows in self._parts(embedding, 1)])

    def _maps(self, x: Tensor) -> list[Tensor]:
        """`feature_map` of ``[B, frames, mels]``, in parts of the batch."""
        network = self._network(x)
        numbers = self.pos_embed.size(1) * -(-x.size(1) // 4) * -(-x.size(2) // 4)
        at_once = max(1, _CACHED // numbers) if isinstance(network, _Folded) and available() else 1
        return [self._nodes(part, network) for part in self._parts(x, at_once)]

    def _parts(self, x: Tensor, at_once: int) -> Sequence[Tensor]:
        """The whole batch, or, in evaluation on a CPU, parts of it.

        Matrix products of other heights may round otherwise, and the last bit can decide who the k-th neighbour is. So
        that a clip has the same scores alone and in any batch, clips are passed one by one, or as many as fit into the
        cache where the products are oneDNN's, in which a row does not depend on the number of rows. A layer that is in
        training wants the whole batch.
        """
        apart = x.device.type == "cpu" and not exporting()
        if not apart or len(x) <= at_once or any(module.training for module in self.modules()):
            return [x]
        return [part.clone() for part in x.split(at_once)]

    def _nodes(self, x: Tensor, network: LHGNN | _Folded) -> Tensor:
        """`feature_map` of ``[B, frames, mels]``, by the layers of ``network``."""
        x = network.stem(x.transpose(1, 2)[:, None].contiguous(memory_format=torch.channels_last))
        x = (x + network.position(x.size(2), x.size(3))).permute(0, 2, 3, 1).contiguous()
        stages = iter(self.closeness)
        table = next(stages)(x.size(1), x.size(2), x.device)
        layers: Iterable[Any] = network.backbone
        for layer in layers:
            if isinstance(layer, Downsample | FoldedConvs):
                x = convolve(x, layer)
                table = next(stages)(x.size(1), x.size(2), x.device)
            else:
                block, feed_forward = layer
                x = feed_forward(block(x, table))
        return x

    def _network(self, x: Tensor) -> LHGNN | _Folded:
        """The network itself, or its folded layers."""
        if (
            self.training
            or torch.is_grad_enabled()
            or torch.is_autocast_enabled(x.device.type)
            or x.dtype not in (torch.float32, torch.float64)
            or exporting()
        ):
            return self
        if self._folded is None or not self._folded.snapshot.unchanged():
            self._folded = _Folded(self) if foldable(self.stem, self.backbone) else None
        # Hooks want the layers themselves.
        return self._folded if self._folded is not None and self._folded.snapshot.unchanged() else self

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation; what was folded is dropped."""
        self._folded = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_folded": None}

    def centroid_spread(self) -> list[float]:
        """How far apart the centroids of each block were in the last training pass, in units of the nodes' spread.

        Near 0 all centroids are the mean of the nodes, and the higher-order term is global pooling. One number per
        block; NaN before any training; empty where the kernel has no clusters.
        """
        blocks = [module for module in self.modules() if isinstance(module, LHGBlock) and module.clustering is not None]
        spreads = [block.clustering.spread for block in blocks if block.clustering is not None]
        return [float("nan") if spread is None else spread.item() for spread in spreads]
