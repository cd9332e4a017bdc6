"""From cached clips to shuffled batches of raw int16, for training."""

from __future__ import annotations

import functools
import os
import tempfile
from typing import Any

import torch
from torch.utils.data import DataLoader

from audiossl.data.cached import Batch, CachedClips
from audiossl.errors import UserError

__all__ = ["Batch", "stop_workers", "training_loader"]

# Workers hand their batches over through sockets in the temporary folder, whose whole names may have 107 bytes on Linux
# and 103 on macOS.
LONGEST_FOLDER_BYTES = 103 - len("/pymp-XXXXXXXX/listener-XXXXXXXX")


def training_loader(clips: CachedClips, batch_size: int, workers: int = 0) -> DataLoader[Batch]:
    """Shuffled batches: `wave` (B, S) int16 and `index` (B,) int64; an incomplete last one is dropped.

    A batch is one read of the memory map, so worker processes are rarely worth their start.
    Raises `UserError` when `batch_size` is larger than the data set, or when workers find no folder for their sockets.
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
        worker_init_fn=functools.partial(_sockets_in, _folder_for_sockets()) if workers else None,
    )


def stop_workers(loader: Any) -> None:
    """End the processes that read for a loader, also one that Accelerate has prepared; asked again, it starts others.

    They live on from epoch to epoch. Left to the end of the program they are killed, and each leaves a folder in /tmp.
    """
    loader = getattr(loader, "base_dataloader", loader)
    iterator = getattr(loader, "_iterator", None)
    if iterator is not None:
        iterator._shutdown_workers()
        loader._iterator = None


def _folder_for_sockets() -> str:
    """The temporary folder, or another where its name is too long: a batch would be lost, and waited for for ever."""
    wanted = tempfile.gettempdir()
    for folder in (wanted, "/tmp", "/var/tmp", "/dev/shm"):
        if len(os.fsencode(folder)) <= LONGEST_FOLDER_BYTES and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise UserError(
        f"--run.workers: the temporary folder {wanted} has a name of {len(os.fsencode(wanted))} bytes, too many for "
        f"the sockets of loader workers; set TMPDIR to one of at most {LONGEST_FOLDER_BYTES}, or give --run.workers 0."
    )


def _sockets_in(folder: str, worker: int) -> None:
    """Called in each worker before its first batch."""
    tempfile.tempdir = folder


def _as_it_is(batch: Any) -> Batch:
    # `CachedClips.__getitems__` has already put the batch together.
    return batch
