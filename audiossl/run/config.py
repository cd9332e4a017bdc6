"""Settings of a run: where it writes, how long it trains, how it resumes. No torch import, so that `--help` is quick."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from audiossl.errors import UserError

# Keys that may differ between the run that wrote a checkpoint and the one that resumes it: they say where things lie and what is
# written, never what is computed. (The number of batches is compared as well, so that moved data must still be the same size.)
MAY_CHANGE = frozenset(
    {
        "run.out",
        "run.resume",
        "run.keep",
        "run.checkpoint_minutes",
        "run.trackers",
        "run.quiet",
        "run.log_steps",
        "run.new_epochs",
        "data.root",
        "data.cache",
        "data.download",
        "data.workers",
        "run.workers",
    }
)


@dataclass
class RunConfig:
    """The run: folder, length, precision, checkpoints and logs."""

    out: str = (
        "runs/audiossl"  # folder of the run; an existing run there is resumed or refused, never overwritten
    )
    seed: int = 0  # seeds weights, order of the clips and views
    epochs: int = 100  # passes over the training clips
    batch_size: int = 64  # clips per process and micro-batch
    accumulate: int = 1  # micro-batches per optimiser step
    workers: int = 0  # processes that read clips; 0 reads in the training process
    precision: Literal["auto", "fp32", "bf16", "fp16"] = (
        "auto"  # auto: bf16 where the hardware computes in it, else fp32
    )
    channels_last: bool = True  # memory layout of images; faster convolutions on GPUs and on CPUs with AMX
    resume: bool = False  # go on from the last checkpoint in `out`; starts anew where there is none
    new_epochs: bool = (
        False  # with resume: accept another number of epochs, which bends the schedules from here on
    )
    keep: int = 2  # last checkpoints kept, besides the best by `best`
    best: str = "knn"  # monitor whose highest value marks the best checkpoint
    checkpoint_minutes: float = (
        10.0  # a checkpoint in mid-epoch this often, besides one at the end of each epoch
    )
    monitor_epochs: int = 1  # kNN and collapse monitors every so many epochs, and at the last
    log_steps: int = (
        20  # optimiser steps between two lines of metrics.jsonl; losses are fetched from the device only then
    )
    trackers: list[str] = field(
        default_factory=lambda: ["tensorboard"]
    )  # of Accelerate: tensorboard, wandb, trackio, ...
    quiet: bool = False  # print nothing but warnings and errors

    def __post_init__(self) -> None:
        """Raise `UserError` for a number out of range."""
        for name in ("epochs", "batch_size", "accumulate", "keep", "monitor_epochs", "log_steps"):
            if getattr(self, name) < 1:
                raise UserError(f"--run.{name} must be at least 1, found {getattr(self, name)}.")
        for name in ("seed", "workers"):
            if getattr(self, name) < 0:
                raise UserError(f"--run.{name} must be 0 or more, found {getattr(self, name)}.")
        if not self.checkpoint_minutes > 0:
            raise UserError(f"--run.checkpoint_minutes must be above 0, found {self.checkpoint_minutes}.")
        if not self.out:
            raise UserError("--run.out is empty; name a folder for the run.")
