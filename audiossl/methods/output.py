"""What every method gives to a recipe's loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Output(NamedTuple):
    """What a method gives for a batch: the loss to minimise and numbers to log, all scalars on the device."""

    loss: Tensor
    logs: dict[str, Tensor]


def passes(images: Sequence[Tensor], n_clips: int, clip_size: tuple[int, int]) -> Tensor:
    """How often a network sees a clip, in pictures of a whole clip: what methods of many small views compare by.

    Args:
        images: all that goes through it for a batch, one tensor (n, C, F, T) for each size.
        n_clips: B, of the batch.
        clip_size: (F, T) of the picture of a whole clip.

    >>> passes([torch.zeros(8, 1, 64, 96), torch.zeros(16, 1, 64, 48)], n_clips=4, clip_size=(64, 96)) # 2 + 4 halves
    tensor(4.)
    """
    points = sum(len(group) * group.shape[2] * group.shape[3] for group in images)
    return torch.full((), points / (n_clips * clip_size[0] * clip_size[1]), device=images[0].device)
