"""What stands below every encoder: chance, the most frequent label, statistics of the log-mel picture and of MFCCs.

The picture is BYOL-A's (Niizumi et al., IJCNN 2021): 64 mel bins from 60 to 7,800 Hz, window 1,024, hop 160
at 16 kHz, natural logarithm of power + float32 epsilon. The hop and the floor differ from the encoders'
defaults on purpose, so that these rows compare with the published ones whatever an encoder uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiossl.probes.features import Batches, FeatureTable, ProbeData, describe_features, in_order, waves_to_features
from audiossl.transforms.config import MelConfig
from audiossl.transforms.frontend import FrontEnd, build_frontend
from audiossl.transforms.mfcc import cosines

if TYPE_CHECKING:
    from audiossl.data.cache import CachedClips

N_SEGMENTS = 8
N_MFCC = 20
DELTA_FRAMES = 9  # librosa's width


def mean_and_std(image: Tensor) -> Tensor:
    """Mean and deviation over time of each bin: (B, C, F, T) -> (B, 2 C F), all means first.

    >>> mean_and_std(torch.tensor([[[[1.0, 3.0]]]])).tolist()
    [[2.0, 1.0]]
    """
    return torch.cat([image.mean(-1).flatten(1), image.std(-1, unbiased=False).flatten(1)], dim=1)


def segment_means(image: Tensor, n_segments: int = N_SEGMENTS) -> Tensor:
    """Mean of each bin in equal parts of the time: (B, C, F, T) -> (B, C F n_segments).

    Parts that do not end on a whole frame share the frame with their neighbour.

    >>> segment_means(torch.tensor([[[[1.0, 3.0, 5.0, 5.0]]]]), 2).tolist()
    [[2.0, 5.0]]
    """
    return F.adaptive_avg_pool2d(image, (image.shape[2], n_segments)).flatten(1)


def deltas(x: Tensor) -> Tensor:
    """Slope over time of each row, (B, C, F, T) to the same: a line through nine frames, as librosa's `delta` has it.

    At the ends the first and the last nine frames count; of shorter pictures as many as there are, an odd number.

    >>> deltas(torch.arange(12.0).view(1, 1, 1, 12))[0, 0, 0, :3].tolist()
    [1.0, 1.0, 1.0]
    """
    reach = (min(DELTA_FRAMES, x.shape[3]) - 1) // 2
    if reach == 0:
        return torch.zeros_like(x)
    steps = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    slopes = x.unfold(3, 2 * reach + 1, 1) @ (steps / steps.square().sum())
    return F.pad(slopes, (reach, x.shape[3] - slopes.shape[3] - reach, 0, 0), mode="replicate")


def mfcc_statistics(log_mel: Tensor) -> Tensor:
    """Mean and deviation over time of 20 MFCCs and of their slopes: (B, C, F, T) -> (B, 80 C).

    >>> mfcc_statistics(torch.zeros(2, 1, 64, 101)).shape
    torch.Size([2, 80])
    """
    coefficients = cosines(N_MFCC, log_mel.shape[2]).to(log_mel) @ log_mel
    return mean_and_std(torch.cat([coefficients, deltas(coefficients)], dim=2))


def log_mel_frontend(sample_rate: int) -> FrontEnd:
    """BYOL-A's picture at `sample_rate` Hz; window and hop scale with it, f_max stays below Nyquist."""
    scale = sample_rate / 16000
    window = 2 * round(512 * scale)
    return build_frontend(
        MelConfig(
            sample_rate=sample_rate,
            n_fft=window,
            win_length=window,
            hop_length=round(160 * scale),
            n_bins=64,
            f_min=60.0,
            f_max=min(7800.0, 0.975 * sample_rate / 2),
            floor=float(np.finfo(np.float32).eps),
        )
    )


def log_mel_tables(clips: CachedClips, batch_size: int = 256, batches: Batches = in_order) -> dict[str, FeatureTable]:
    """Features of the rows of log-mel pictures and MFCCs, under the names that the tables print."""
    frontend = log_mel_frontend(clips.sample_rate)
    x = waves_to_features(_Statistics(frontend), clips, batch_size, torch.device("cpu"), batches)
    names = ("log-mel mean + std", f"log-mel, {N_SEGMENTS} time segments", "MFCC mean + std")
    ends = np.cumsum([2 * frontend.n_bins, N_SEGMENTS * frontend.n_bins])
    parts = np.split(x, ends, axis=1)
    return {name: describe_features(np.ascontiguousarray(part), clips) for name, part in zip(names, parts, strict=True)}


class _Statistics(nn.Module):
    """All statistics from one picture, so that it is computed once."""

    def __init__(self, frontend: nn.Module):
        super().__init__()
        self.frontend = frontend

    def forward(self, wave: Tensor) -> Tensor:
        image = self.frontend(wave)
        return torch.cat([mean_and_std(image), segment_means(image), mfcc_statistics(image)], dim=1)


def chance(data: ProbeData) -> float:
    """Accuracy of a fair draw among the labels of the training split."""
    return 1.0 / len(np.unique(data.train.y))


def majority(data: ProbeData) -> float:
    """Test accuracy of always naming the most frequent label of the training split (the first of equals)."""
    return float(np.mean(data.test.y == np.bincount(data.train.y).argmax()))
