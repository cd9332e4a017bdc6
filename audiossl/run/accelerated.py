"""What a run takes of Accelerate, under the rules that `audiossl.run.session` states."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DataLoaderConfiguration, skip_first_batches
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import GradientAccumulationPlugin, ProjectConfiguration
from torch import nn

from audiossl.errors import UserError
from audiossl.run import seeds
from audiossl.run.checkpoint import Position
from audiossl.run.config import RunConfig


def accelerator(run: RunConfig, precision: str) -> Accelerator:
    """Accelerate for one run."""
    # One program may hold several runs, one after the other; Accelerate keeps precision and accumulation.
    AcceleratorState._reset_state()
    GradientState._reset_state()
    return Accelerator(
        mixed_precision={"fp32": "no"}.get(precision, precision),
        # a plugin, since a bare number would yield to an environment variable of the launcher
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=run.accumulate),
        log_with=list(run.trackers) or None,
        project_config=ProjectConfiguration(project_dir=run.out, logging_dir=str(Path(run.out) / "tensorboard")),
        dataloader_config=DataLoaderConfiguration(
            use_seedable_sampler=True,
            data_seed=seeds.mixed_seed("order", run.seed) % 2**31,  # Accelerate adds the epoch
            non_blocking=True,
        ),
    )


def described(accelerator: Accelerator, run: RunConfig) -> dict[str, str]:
    """Device, processes and batch, as the console and `environment.txt` say them."""
    processes = accelerator.num_processes
    return {
        "device": str(accelerator.device),
        "processes": f"{processes} ({accelerator.distributed_type.value})",
        "batch": f"{run.batch_size} clips x {run.accumulate} accumulated x {processes}",
    }


def placed(item: Any, accelerator: Accelerator, channels_last: bool) -> Any:
    """A model with batch norms over all GPUs, and in another memory format where that is wanted; all else as it is."""
    if not isinstance(item, nn.Module):
        return item
    if accelerator.device.type == "cuda" and accelerator.num_processes > 1:  # SyncBatchNorm raises on a CPU
        item = nn.SyncBatchNorm.convert_sync_batchnorm(item)
    return item.to(memory_format=torch.channels_last) if channels_last else item  # type: ignore[call-overload]


def checked_length(loader: Any, batch_size: int, processes: int, place: Position) -> int:
    """Batches of an epoch; raises `UserError` where there are none, or as many as at the checkpoint no longer."""
    length, known = len(loader), place.batches_per_epoch
    if not getattr(loader, "_drop_last", True):
        raise ValueError("a training loader must drop its last incomplete batch (drop_last=True)")
    if length == 0:
        raise UserError(
            f"--run.batch_size {batch_size} in {processes} process(es) is more than there are training clips, so that "
            "no batch is full; lower it."
        )
    if known not in (0, length):
        raise UserError(
            f"--run.resume: an epoch had {known} batches at the checkpoint and has {length} now; resume with the same "
            "training clips."
        )
    return length


def batches(loader: Any, epoch: int, done: int) -> Iterator[Any]:
    """The batches of an epoch behind the first `done`, in the order that they have in the whole epoch."""
    if done == len(loader):
        return iter(())
    if done:
        loader = skip_first_batches(loader, done)
    loader.set_epoch(epoch)  # last: before accelerate 1.15 a loader that skips batches begins at epoch 0
    return iter(loader)
