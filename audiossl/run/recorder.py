"""Rows of a run: from logged values to metrics.jsonl, the trackers, the console and the verdict."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiossl.run import files
from audiossl.run.console import Console
from audiossl.run.ranks import Ranks
from audiossl.run.tracking import Meter, MetricsFile
from audiossl.run.verdict import early_verdict, verdict

ROWS_WATCHED = 64  # of steps: more than a verdict on them looks back


class Recorder:
    """Takes values of micro-batches and writes rows; rank 0 writes, the others take part in the means.

    Args:
        out: the run folder.
        ranks: all processes.
        quiet: print warnings only.
    """

    def __init__(self, out: Path, ranks: Ranks, quiet: bool) -> None:
        self.ranks = ranks
        self.console = Console(quiet, ranks.is_main)
        self.metrics = MetricsFile(out / files.METRICS)
        self.history: list[dict[str, Any]] = []  # rows of all finished epochs, those before a resume too
        self.last_loss: float | None = None
        self._window, self._epoch = Meter(), Meter()
        self._steps: list[dict[str, Any]] = []  # the last rows of steps
        self._warned = False  # of a collapse that still lasts
        self._trackers: list[Any] = []  # those that this process has started
        # A run that fails never comes to its `finish`: TensorBoard's thread would outlive it.
        self._end_trackers = weakref.finalize(self, _end, self._trackers)

    def start_trackers(self, config: dict[str, Any] | None, step: int) -> None:
        """Start Accelerate's trackers behind `step`, so that no point of TensorBoard doubles after a resume.

        Args:
            config: plain values, stored by the first part of a run; None afterwards.
            step: optimiser steps done.
        """
        self._steps = [{"step": step}]  # the first row stands for the steps from here on
        settings = {"tensorboard": {"purge_step": step + 1}}
        self.ranks.accelerator.init_trackers("run", config=config, init_kwargs=settings)
        self._trackers += self.ranks.accelerator.trackers

    def add(self, logs: Mapping[str, Tensor | float]) -> None:
        """Values of one micro-batch; nothing is fetched from the device."""
        self._window.add(logs)
        self._epoch.add(logs)

    def write_step(self, epoch: int, step: int, more: Mapping[str, float]) -> None:
        """A row of the means since the last one."""
        means = self.ranks.mean(self._window.mean())
        self._window.clear()
        self.last_loss = means.get("loss")
        row = {"kind": "step", "epoch": epoch, "step": step, **means, **more}
        self._write(row)
        self._steps = [*self._steps, row][-ROWS_WATCHED:]
        warning = early_verdict(self._steps)
        if warning and not self._warned:
            self.console.warn(f"warning: {warning}")
        self._warned = warning is not None

    def write_epoch(self, epoch: int, epochs: int, step: int, more: Mapping[str, float]) -> None:
        """A row of the epoch's means, on the console too, and a warning when the run looks sick."""
        means = self.ranks.mean(self._epoch.mean())
        self._epoch.clear()
        row = {"kind": "epoch", "epoch": epoch, "step": step, **means, **more}
        self._write(row)
        self.history.append(row)
        self.console.row({**row, "epoch": f"{epoch + 1}/{epochs}"})
        if warning := verdict(self.history):
            self.console.warn(f"warning: {warning}")

    def _write(self, row: dict[str, Any]) -> None:
        with self.ranks.one_voice(rank_0_only=True):
            if self.ranks.is_main:
                self.metrics.append(row)
                group = "train" if row["kind"] == "step" else "epoch"
                numbers = {f"{group}/{key}": value for key, value in row.items() if isinstance(value, float)}
                self.ranks.accelerator.log(numbers, step=row["step"])

    def rewind(self, epoch: int, step: int) -> None:
        """Drop the rows behind a checkpoint at this place and remember those before it."""
        if self.ranks.is_main:
            self.metrics.cut(epoch, step)
        self.ranks.accelerator.wait_for_everyone()
        self.history = [row for row in self.metrics.rows() if row["kind"] == "epoch"]

    def state_dict(self) -> dict[str, Any]:
        """Sums that no row holds yet."""
        return {"window": self._window.state_dict(), "epoch": self._epoch.state_dict()}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Back from a checkpoint."""
        self._window.load_state_dict(state["window"], device)
        self._epoch.load_state_dict(state["epoch"], device)

    def finish(self) -> None:
        """Close bar and trackers."""
        self.console.stop()
        accelerator = self.ranks.accelerator
        accelerator.wait_for_everyone()
        self._end_trackers()  # the first call counts
        accelerator.trackers = []


def _end(trackers: Sequence[Any]) -> None:
    for tracker in trackers:
        tracker.finish()
