"""From cached clips to shuffled batches of raw int16, for training."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader

from audiossl.data.cached import Batch, CachedClips
from audiossl.errors import UserError

__all__ = ["Batch", "training_loader"]


def training_loader(clips: CachedClips, batch_size: int, workers: int = 0) -> DataLoader[Batch]:
    """Shuffled batches: `wave` (B, S) int16 and `index` (B,) int64; an incomplete last one is dropped.

    A batch is one read of the memory map, so worker processes are rarely worth their start.
    Raises `UserError` when `batch_size` is larger than the data set.
    """
    if batch_size < 1:
        raise UserError(f"--run.batch_size is {batch_size}; give a number of clips above 0.")
    if batch_size > len(clips):
        raise UserError(
            f"--run.batch_size is {batch_size}, but {clips.name} has only {len(clips)} clips to train on; "
            f"give at most {len(clips)}, or more recordings."
        )
    return DataLoader(
        clips,
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        collate_fn=_as_it_is,
    )


def _as_it_is(batch: Any) -> Batch:
    # `CachedClips.__getitems__` has already put the batch together.
    return batch
