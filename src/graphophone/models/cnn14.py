r"""CNN14: the convolutional network of PANNs, with which audio taggers are compared.

Paper:

    @article{kong2020panns,
      title   = {{PANNs}: large-scale pretrained audio neural networks for audio pattern recognition},
      author  = {Kong, Qiuqiang and Cao, Yin and Iqbal, Turab and Wang, Yuxuan and Wang, Wenwu and Plumbley, Mark D.},
      journal = {IEEE/ACM Transactions on Audio, Speech, and Language Processing},
      volume  = {28},
      year    = {2020}
    }

Table 3 of the paper: batch normalisation over the mel bands, blocks of two 3 x 3 convolutions (each with batch
normalisation and ReLU) with 64, 128, 256, 512, 1024 and 2048 channels, 2 x 2 average pooling after all but the last,
the mean over bands, the sum of the maximum and the mean over time, a linear layer with ReLU, and the classifier.

Names of the weights are those of the published checkpoints, which ``graphophone.models.weights.load_weights`` reads
(``Cnn14_mAP=0.431.pth``). They want the features `panns_logmel` (32 kHz, 64 bands, decibels), not standardised:
``bn0`` does that. At 527 classes all 80,753,615 learned parameters of the paper are here; the files hold 1,083,456
fixed numbers more, the Fourier transform and the mel filters (1,050,624 and 32,832), which here are the work of the
features. The masks that the published program draws inside the network are left to augmentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from graphophone.models.base import ModelError, SpectrogramClassifier

#: Beginnings of names of published checkpoints whose tensors are the fixed front end.
FRONT_END = ("spectrogram_extractor.", "logmel_extractor.")


class ConvBlock(nn.Module):
    """Two 3 x 3 convolutions, each with batch normalisation and ReLU, then average pooling.

    Args:
        in_channels: Width of the input.
        out_channels: Width of the output.

    Shapes:
        - **x:** `[batch, in_channels, frames, bands]`
        - **output:** `[batch, out_channels, frames // pool, bands // pool]`
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)
        nn.init.xavier_uniform_(self.conv1.weight)
        nn.init.xavier_uniform_(self.conv2.weight)

    def forward(self, x: Tensor, pool: int = 2) -> Tensor:
        """``pool`` 1 leaves the size as it is."""
        x = F.relu_(self.bn1(self.conv1(x)))
        x = F.relu_(self.bn2(self.conv2(x)))
        return F.avg_pool2d(x, pool) if pool > 1 else x


class CNN14(SpectrogramClassifier):
    """CNN14 of PANNs; other ``widths`` make smaller networks of the kind.

    Args:
        num_classes: C.
        num_mel_bins: Bands of the spectrogram; halved by every block but the last, so at least 32 for six blocks.
        frames: Frames of a clip, 1001 for ten seconds of `panns_logmel`. No weight depends on it; other lengths are
            taken as they are.
        widths: Channels of the blocks; the last is also the width of the embedding. ``(16, 32, 64, 128)`` trains on a
            CPU.
        dropout: Probability of dropping a value after every block.
        head_dropout: Probability of dropping a channel before ``fc1``.

    Raises:
        ModelError: If the spectrogram is too small for the number of blocks.

    Shapes:
        - **x:** `[batch, frames, num_mel_bins]`
        - **output:** `[batch, C]`
    """

    model_name: ClassVar[str] = "cnn14"
    last_layer: ClassVar[str] = "fc_audioset"

    def __init__(
        self,
        *,
        num_classes: int,
        num_mel_bins: int = 64,
        frames: int = 1001,
        widths: Sequence[int] = (64, 128, 256, 512, 1024, 2048),
        dropout: float = 0.2,
        head_dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if not widths:
            raise ModelError("cnn14: widths is empty; name the channels of at least one block")
        self.num_classes = num_classes
        self.num_mel_bins = num_mel_bins
        self.frames = frames
        self.shrinks = 2 ** (len(widths) - 1)
        self._require(frames, num_mel_bins)
        self.dropout = dropout
        self.head_dropout = head_dropout
        self.bn0 = nn.BatchNorm2d(num_mel_bins)
        self.blocks = [f"conv_block{i + 1}" for i in range(len(widths))]
        for name, before, after in zip(self.blocks, (1, *widths[:-1]), widths, strict=True):
            self.add_module(name, ConvBlock(before, after))
        self.fc1 = nn.Linear(widths[-1], widths[-1])
        self.fc_audioset = nn.Linear(widths[-1], num_classes)
        for layer in (self.fc1, self.fc_audioset):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def _require(self, frames: int, bands: int) -> None:
        if min(frames, bands) < self.shrinks:
            raise ModelError(
                f"cnn14: {frames} frames of {bands} bands are too few for its blocks, which halve them to nothing; "
                f"give at least {self.shrinks} of both, or fewer widths"
            )

    def published_name(self, name: str) -> str | None:
        """The same, but for the fixed front end of the published networks, which here is the features' work."""
        return None if name.startswith(FRONT_END) else name

    def embed(self, x: Tensor) -> Tensor:
        """One vector per spectrogram ``[batch, widths[-1]]``, before the classifier."""
        x = self.spectrograms(x)
        if x.size(2) != self.num_mel_bins:
            raise ModelError(f"cnn14: {x.size(2)} bands, not the {self.num_mel_bins} it normalises; extract as many")
        self._require(x.size(1), x.size(2))
        x = self.bn0(x.transpose(1, 2).unsqueeze(-1)).transpose(1, 3)  # [batch, 1, frames, bands]
        for number, name in enumerate(self.blocks, start=1):
            x = self.get_submodule(name)(x, 1 if number == len(self.blocks) else 2)
            x = F.dropout(x, self.dropout, self.training)
        x = x.mean(dim=3)
        x = F.dropout(x.amax(dim=2) + x.mean(dim=2), self.head_dropout, self.training)
        return F.relu(self.fc1(x))
