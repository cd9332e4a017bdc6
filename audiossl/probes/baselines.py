"""What stands below every encoder: chance, the most frequent label, plain statistics of the log-mel picture.

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

if TYPE_CHECKING:
    from audiossl.data.cache import CachedClips

N_SEGMENTS = 8


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
    """Features of the two log-mel rows, under the names that the tables print."""
    frontend = log_mel_frontend(clips.sample_rate)
    both = _Both(frontend)
    x = waves_to_features(both, clips, batch_size, torch.device("cpu"), batches)
    n_first = 2 * frontend.n_bins
    return {
        "log-mel mean + std": describe_features(np.ascontiguousarray(x[:, :n_first]), clips),
        f"log-mel, {N_SEGMENTS} time segments": describe_features(np.ascontiguousarray(x[:, n_first:]), clips),
    }


class _Both(nn.Module):
    """Both statistics from one picture, so that it is computed once."""

    def __init__(self, frontend: nn.Module):
        super().__init__()
        self.frontend = frontend

    def forward(self, wave: Tensor) -> Tensor:
        image = self.frontend(wave)
        return torch.cat([mean_and_std(image), segment_means(image)], dim=1)


def chance(data: ProbeData) -> float:
    """Accuracy of a fair draw among the labels of the training split."""
    return 1.0 / len(np.unique(data.train.y))


def majority(data: ProbeData) -> float:
    """Test accuracy of always naming the most frequent label of the training split (the first of equals)."""
    return float(np.mean(data.test.y == np.bincount(data.train.y).argmax()))
