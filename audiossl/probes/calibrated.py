"""Random weights whose batch norms know the clips, as those of a network in training do.

With the statistics that they are built with, 0 and 1, batch norms normalise nothing. On spoken digits an untrained
ResNet-10 gave 15.7 % so and 48.7 % with measured ones, more than some training reached in its first epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import nn

from audiossl.backbones.batch_norm import calibrate_batch_norm
from audiossl.errors import UserError

if TYPE_CHECKING:
    from audiossl.data.cache import CachedClips

Network = TypeVar("Network", bound=nn.Module)

MAX_CLIPS = 4096  # a mean over so many moves little with more
BATCH_SIZE = 64  # never the caller's: the statistics, and features that are kept in a file, would depend on it


def calibrated(network: Network, clips: CachedClips, device: str | None = None) -> Network:
    """Measure the batch norms of `network`, which maps waves (B, S), on training clips; it is changed and returned.

    At most 4,096 clips, in a fixed random order and whole batches; it runs, and stays, on `device`, by default its own.
    Raises `UserError` when the network has no batch norm.
    """
    where = torch.device(device) if device else next(network.parameters()).device
    training = np.array([i for i, split in enumerate(clips.splits) if split == "training"])
    size = min(BATCH_SIZE, len(training))
    order = np.random.default_rng(0).permutation(training)[:MAX_CLIPS]
    batches = order[: len(order) // size * size].reshape(-1, size)
    waves = (torch.from_numpy(np.array(clips.waves[batch])).to(where).float() / 32768.0 for batch in batches)
    if not calibrate_batch_norm(network.to(where), waves):
        raise UserError("--calibrate_random is for networks with batch norm, and this one has none: leave it out.")
    return network
