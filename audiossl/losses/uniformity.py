"""Uniformity by a Gaussian potential: clips repel each other the more, the closer they are.

Wang and Isola, Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere,
ICML 2020; t = 2. In EMP-SSL it stands in for the coding rate, there as "von Mises" loss, between the means of the
clips' patches as they are, not brought back to length one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from audiossl.errors import UserError
from audiossl.losses.gather import gather_clips
from audiossl.losses.projections import checked


def uniformity(z: Tensor, t: float = 2.0, gather: bool = False) -> Tensor:
    """Logarithm of the mean over pairs of clips of exp(-t |m - m'|^2), m the mean of a clip's patches, a scalar.

    To be made small: it is 0 when all clips are alike, and -2 t when their means are orthogonal and of length one.
    Computed in float32, also under autocast.

    Args:
        z: projections, rows of length one (see `audiossl.losses.projections.unit_rows`), (P, B, d).
        t: how narrow the potential is: above 0.
        gather: over the clips of all processes, which is one process with all of them, loss and gradients (see
            `audiossl.losses.gather.gather_clips`). Only the means are exchanged.

    Raises UserError when t is not above 0, z is not (P, B, d), there are fewer than two clips, or processes hold
    batches of different sizes.

    >>> uniformity(torch.eye(3).expand(5, -1, -1))
    tensor(-4.0000)
    """
    if not 0.0 < t < math.inf:
        raise UserError(f"t is {t:g}: give a number above 0, such as Wang and Isola's 2")
    with torch.autocast(z.device.type, enabled=False):
        means = checked(z).mean(0)
        if gather:
            means = gather_clips(means, dim=0)
        n_clips = len(means)
        if n_clips < 2:
            raise UserError(
                "uniformity compares the clips of a batch and found 1: give batches of at least 2 (--run.batch_size)"
            )
        # Distances do not change by it, and what is subtracted below is then as small as the distances themselves.
        means = means - means.mean(0).detach()
        squares = means.square().sum(-1)
        squared_distances = squares[:, None] + squares - 2.0 * (means @ means.T)
        itself = torch.eye(n_clips, dtype=torch.bool, device=z.device)
        exponents = (-t * squared_distances).masked_fill(itself, -math.inf)
        return exponents.logsumexp((0, 1)) - math.log(n_clips * (n_clips - 1))
