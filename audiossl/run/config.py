"""Settings of a run. No torch import here, so that `--help` is quick."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from audiossl.errors import UserError

# Keys that may differ between the run that wrote a checkpoint and the one that resumes it: they say where
# things lie and what is written, or what to do where nothing can be computed. (The number of batches in an epoch
# is compared as well, so that data that moved must still be of the same size.)
_PLACES = ("out", "resume", "new_epochs", "keep", "best", "checkpoint_minutes", "monitor_epochs", "trackers")
MAY_CHANGE = frozenset(
    {f"run.{name}" for name in (*_PLACES, "log_steps", "quiet", "workers", "threads", "skip_not_finite")}
    | {"data.root", "data.cache", "data.download", "data.outside"}
)
# Keys that decide nothing before the last step: a finished run that is resumed with others measures features and
# scores anew where they matter.
AFTER_TRAINING = frozenset(
    {f"probe.{name}" for name in ("skip", "quick", "one_vs_rest", "random_seeds", "calibrate_random", "map")}
    | {"probe.keep_features", "bag.n_patches", "bag.pool"}
)


@dataclass
class RunConfig:
    """Folder, length, precision, checkpoints and logs of a run."""

    out: str = "runs/audiossl"  # folder of the run; one that is in use is resumed or refused
    # Folder of another run whose last weights this one begins with: a second stage, or more of the same on other audio;
    # to fine-tune, also the folder of an encoder
    start_from: str | None = None
    seed: int = 0  # seeds weights, the order of the clips, and views
    epochs: int = 100  # passes over the training clips
    batch_size: int = 64  # clips per process and micro-batch
    accumulate: int = 1  # micro-batches per optimiser step
    workers: int = 0  # processes that read clips; 0: the training process reads them itself
    threads: int = 0  # CPU threads per process; 0: the cores of the machine, shared by the processes
    # bf16, fp16 or fp32; auto takes bf16 where the hardware computes in it, else fp32
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    channels_last: bool = True  # memory layout of images: faster convolutions on GPUs and on CPUs with AMX
    resume: bool = False  # go on from the last checkpoint in `out`; starts anew where there is none
    new_epochs: bool = False  # with resume: take another number of epochs, which bends the schedules
    keep: int = 2  # last checkpoints that are kept, besides the best
    best: str = "knn"  # monitor whose highest value marks the best checkpoint
    checkpoint_minutes: float = 10.0  # a checkpoint in mid-epoch this often, besides one after each epoch
    monitor_epochs: int = 1  # kNN and collapse monitors every so many epochs, and after the last
    # Optimiser steps that a run may leave out since their loss or gradient is not finite; one more ends it. Above 0
    # the device is waited for at every step
    skip_not_finite: int = 0
    log_steps: int = 20  # optimiser steps between lines of metrics.jsonl; only then losses leave the device
    # trackers of Accelerate: tensorboard, wandb, trackio, mlflow, ...; [] for none
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"])
    quiet: bool = False  # print nothing but warnings and errors

    def __post_init__(self) -> None:
        """Raise `UserError` for a number out of range."""
        for name in ("epochs", "batch_size", "accumulate", "keep", "monitor_epochs", "log_steps"):
            if getattr(self, name) < 1:
                raise UserError(f"--run.{name} must be at least 1, found {getattr(self, name)}.")
        for name in ("seed", "workers", "threads", "skip_not_finite"):
            if getattr(self, name) < 0:
                raise UserError(f"--run.{name} must be 0 or more, found {getattr(self, name)}.")
        if not self.checkpoint_minutes > 0:
            raise UserError(f"--run.checkpoint_minutes must be above 0, found {self.checkpoint_minutes}.")
        if not self.out:
            raise UserError("--run.out is empty; name a folder for the run.")
