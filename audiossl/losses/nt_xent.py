"""NT-Xent, the contrastive loss of SimCLR: find a clip's other view among all views of the batch.

Chen et al., A Simple Framework for Contrastive Learning of Visual Representations, ICML 2020, equation 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from audiossl.errors import UserError
from audiossl.losses.gather import gather_clips


def nt_xent(z: Tensor, temperature: float = 0.1, gather: bool = False) -> Tensor:
    """Cross-entropy of naming the other view of the same clip among all other views, a scalar in nats.

    ln(2 B - 1) where all views are alike. Computed in float32, also under autocast.

    Args:
        z: projections of two views, (2, B, d), of any length but zero.
        temperature: what cosines are divided by (SimCLR: 0.1 to 0.5).
        gather: among the clips of all processes, which is one process with all of them, loss and gradients (see
            `audiossl.losses.gather.gather_clips`).

    Raises UserError when the temperature is not above 0, z is not (2, B, d), there are fewer than two clips, or
    processes hold batches of different sizes.

    >>> nt_xent(torch.ones(2, 4, 8)).item()  # ln 7
    1.9459...
    """
    if not 0.0 < temperature < math.inf:
        raise UserError(f"temperature is {temperature:g}: give a number above 0, such as SimCLR's 0.1")
    if z.ndim != 3 or z.shape[0] != 2:
        raise UserError(f"NT-Xent compares two views, (2, B, d), and found {tuple(z.shape)}: give two of every clip")
    with torch.autocast(z.device.type, enabled=False):
        z = functional.normalize(z.float(), dim=-1)
        if gather:
            z = gather_clips(z, dim=1)
        n_clips = z.shape[1]
        if n_clips < 2:
            raise UserError("NT-Xent compares the clips of a batch and found 1: give batches of at least 2")
        views = z.flatten(0, 1)
        itself = torch.eye(2 * n_clips, dtype=torch.bool, device=z.device)
        logits = (views @ views.T / temperature).masked_fill(itself, -math.inf)
        other = torch.arange(2 * n_clips, device=z.device).roll(n_clips)
        return functional.cross_entropy(logits, other)
