"""AudioNTT, the small convolutional networks of BYOL-A (Niizumi et al., IJCNN 2021 and TASLP 2023).

Blocks of convolution, batch norm, ReLU and a halving of both axes; what is left of the frequency axis becomes one
vector a frame, which a layer or two see frame by frame. A region is such a frame, the whole band high. BYOL-A pools by
the sum of mean and maximum over time: `pool` "mean_max". Parts are named as in its published files, so that their
weights load under their own names.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiossl.errors import UserError

from .config import BackboneConfig

CHANNELS = 64


class Shape(NamedTuple):
    """Of a version: blocks, width of the layers behind them, and whether the blocks' output is kept beside theirs."""

    blocks: int
    width: int
    stacked: bool


AUDIONTTS = {"audiontt_2020": Shape(3, 512, False), "audiontt_2022": Shape(2, 2048, True)}


class AudioNtt(nn.Module):
    """Pictures (B, C, F, T) to frames (B, D, 1, T'), for pictures of `n_bins` F and any T.

    D is the width, and in the stacked version the number of the blocks' outputs more: 1,024 at 64 bins. A picture
    shorter than one frame of the network is padded to it with zeros, the mean of a normalised picture.

    Raises UserError for fewer bins than the blocks halve, and for pictures of another number of bins.

    >>> net = AudioNtt(AUDIONTTS["audiontt_2022"], n_bins=64)
    >>> net.forward_features(torch.zeros(2, 1, 64, 96)).shape
    torch.Size([2, 3072, 1, 24])
    """

    def __init__(self, shape: Shape, n_bins: int, in_channels: int = 1):
        super().__init__()
        reduction = 2**shape.blocks
        if n_bins < reduction:
            raise UserError(
                f"AudioNTT halves the band {shape.blocks} times: give at least {reduction} bins, not {n_bins}."
            )
        self.n_bins, self.stacked, self.reduction = n_bins, shape.stacked, reduction
        layers: list[nn.Module] = []
        for block in range(shape.blocks):
            convolution = nn.Conv2d(in_channels if block == 0 else CHANNELS, CHANNELS, 3, padding=1)
            layers += [convolution, nn.BatchNorm2d(CHANNELS), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        frame = CHANNELS * (n_bins // reduction)
        self.fc = nn.Sequential(
            nn.Linear(frame, shape.width),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(shape.width, shape.width),
            nn.ReLU(),
        )
        self.num_features = shape.width + frame * shape.stacked
        # As timm's networks say it: what each block gives; behind the last one, what the whole network gives.
        self.feature_info: list[dict[str, Any]] = [
            {"num_chs": CHANNELS, "reduction": 2 ** (block + 1), "module": f"features.{4 * block + 3}"}
            for block in range(shape.blocks)
        ]
        self.feature_info[-1] |= {"num_chs": self.num_features, "reduction": (n_bins, reduction)}

    def forward_features(self, image: Tensor) -> Tensor:
        """Frames (B, D, 1, T') of pictures (B, C, F, T)."""
        if image.shape[2] != self.n_bins:
            raise UserError(
                f"this AudioNTT was built for pictures of {self.n_bins} bins and found {image.shape[2]}: keep the "
                "whole band (--views.global_band 1 and --views.local_band 1 in training, --change.crop 0 in inspect), "
                "or give another network."
            )
        missing = self.reduction - image.shape[3]
        if missing > 0:
            image = functional.pad(image, (0, missing))
        # (B, T', F' C): the channels of the lowest row, then of the next, as BYOL-A's weights expect them.
        frames = self.features(image).permute(0, 3, 2, 1).flatten(2)
        seen = self.fc(frames)
        if self.stacked:
            seen = torch.cat([frames, seen], dim=2)
        return seen.transpose(1, 2).unsqueeze(2)


def build_audiontt(config: BackboneConfig, in_channels: int, n_bins: int) -> AudioNtt:
    """An AudioNTT with random weights, of the width that the settings ask for.

    Raises UserError for a negative width and for fewer bins than the network's blocks halve.
    """
    shape = AUDIONTTS[config.name]
    if config.width < 0:
        raise UserError(f"backbone width={config.width} must be positive, or 0 for {config.name}'s {shape.width}.")
    return AudioNtt(shape._replace(width=config.width or shape.width), n_bins, in_channels)
