"""What a run tells: metrics.jsonl, trackers, a progress bar or a line a minute, and one row per epoch."""

from __future__ import annotations

import difflib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from audiossl.errors import UserError


class Meter:
    """Means of logged values, summed on the device: nothing is fetched before `mean` is called."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, logs: dict[str, Tensor | float]) -> None:
        """Add one micro-batch: a dictionary of 0-dim tensors or numbers."""
        for name, value in logs.items():
            tensor = value.detach().float() if isinstance(value, Tensor) else torch.tensor(float(value))
            self.sums[name] = self.sums[name] + tensor if name in self.sums else tensor.clone()
            self.counts[name] = self.counts.get(name, 0) + 1

    def mean(self) -> dict[str, float]:
        """Means since the last `clear`: the one place where the host waits for the device."""
        if not self.sums:
            return {}
        device = next(iter(self.sums.values())).device
        values = torch.stack([value.to(device) for value in self.sums.values()]).tolist()
        return {name: value / self.counts[name] for name, value in zip(self.sums, values, strict=True)}

    def clear(self) -> None:
        """Start anew."""
        self.sums, self.counts = {}, {}

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint in mid-epoch."""
        return {"sums": {name: value.cpu() for name, value in self.sums.items()}, "counts": dict(self.counts)}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Back from a checkpoint."""
        self.sums = {name: value.to(device) for name, value in state["sums"].items()}
        self.counts = dict(state["counts"])


class MetricsFile:
    """`metrics.jsonl`: one JSON object a line, `kind` is `step` (every `log_steps` optimiser steps) or `epoch`.

    Both carry `epoch` and `step` (optimiser steps done, counted from 1); an epoch's line carries the monitors too.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: dict[str, Any]) -> None:
        """Add a line at once; raises `UserError` when it cannot be written."""
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row, allow_nan=True) + "\n")
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written ({error.strerror}); make room and go on with --run.resume."
            ) from error

    def rows(self) -> list[dict[str, Any]]:
        """All complete lines; a last one broken off by a kill is left out."""
        if not self.path.exists():
            return []
        rows = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
        return rows

    def cut(self, epoch: int, step: int) -> None:
        """Drop what lies after a checkpoint, so that a resumed run doubles no line."""
        kept = [
            row
            for row in self.rows()
            if (row["epoch"] < epoch if row["kind"] == "epoch" else row["step"] <= step)
        ]
        beside = self.path.with_name(self.path.name + ".part")
        beside.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        os.replace(beside, self.path)


def check_trackers(names: list[str]) -> None:
    """Raise `UserError` for a tracker that Accelerate does not know, or whose package is not installed."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            near = difflib.get_close_matches(name, LOGGER_TYPE_TO_CLASS, n=1)
            hint = f"did you mean {near[0]!r}" if near else f"choose from {', '.join(LOGGER_TYPE_TO_CLASS)}"
            raise UserError(f"--run.trackers: there is no tracker {name!r}; {hint}?")
        if name not in [str(available) for available in get_available_trackers()]:
            raise UserError(
                f"--run.trackers {name}: its package is not installed; pip install {name}, or leave it out."
            )


def tracker_config(flat: dict[str, Any]) -> dict[str, int | float | str | bool]:
    """A flattened configuration as trackers take it: None, lists and dictionaries become words.

    >>> tracker_config({"data.root": None, "run.epochs": 3, "run.trackers": ["tensorboard"]})
    {'data.root': 'none', 'run.epochs': 3, 'run.trackers': 'tensorboard'}
    """
    plain: dict[str, int | float | str | bool] = {}
    for key, value in flat.items():
        if isinstance(value, list | tuple):
            value = ", ".join(map(str, value))
        plain[key] = (
            "none" if value is None else value if isinstance(value, int | float | str | bool) else str(value)
        )
    return plain


class Console:
    """Lines for people on stdout: a bar in a terminal, else a line a minute; one row of a short table per epoch.

    Args:
        silent: print nothing (other ranks than 0, and `--run.quiet`); warnings are printed all the same by rank 0.
    """

    COLUMNS = ("epoch", "loss", "lr", "knn", "std", "rankme", "clips/s", "wait %", "GB")

    def __init__(self, silent: bool) -> None:
        self.silent = silent
        self.terminal = sys.stdout.isatty()
        self._bar: tqdm[Any] | None = None
        self._spoke = time.monotonic()
        self._rows = 0

    def say(self, sentence: str) -> None:
        """One line."""
        if self.silent:
            return
        if self._bar is not None:
            self._bar.write(sentence, file=sys.stdout)
        else:
            print(sentence, flush=True)

    def start(self, epoch: int, epochs: int, done: int, total: int) -> None:
        """An epoch begins, `done` of `total` micro-batches in."""
        if self.terminal and not self.silent:
            self._bar = tqdm(
                total=total,
                initial=done,
                desc=f"epoch {epoch + 1}/{epochs}",
                file=sys.stdout,
                leave=False,
                unit="batch",
            )

    def advance(self, epoch: int, done: int, total: int, loss: float | None) -> None:
        """One micro-batch is done."""
        if self._bar is not None:
            self._bar.update(1)
            if loss is not None:
                self._bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        elif time.monotonic() - self._spoke >= 60.0:
            self._spoke = time.monotonic()
            self.say(
                f"epoch {epoch + 1}, batch {done} of {total}"
                + (f", loss {loss:.4f}" if loss is not None else "")
            )

    def stop(self) -> None:
        """The epoch's bar goes."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def row(self, values: dict[str, Any]) -> None:
        """One row of the epoch table; the heading is repeated every 20 rows."""
        if self._rows % 20 == 0:
            self.say("".join(f"{name:>10}" for name in self.COLUMNS))
        self._rows += 1
        self._spoke = time.monotonic()
        self.say("".join(f"{_cell(values.get(name)):>10}" for name in self.COLUMNS))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return (
            f"{value:.2e}"
            if value and abs(value) < 1e-2
            else f"{value:.3f}"
            if abs(value) < 10
            else f"{value:.1f}"
        )
    return str(value)
