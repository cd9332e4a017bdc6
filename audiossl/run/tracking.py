"""What a run records: means of logged values, `metrics.jsonl`, and what trackers take."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiossl.errors import UserError
from audiossl.reading import parse_json
from audiossl.run.page_file import replace


class Meter:
    """Means of logged values, summed where they are: nothing is fetched from the device before `mean`."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, logs: Mapping[str, Tensor | float]) -> None:
        """Add one micro-batch: 0-dim tensors or numbers by name."""
        for name, value in logs.items():
            number = torch.as_tensor(value).detach().float().reshape(())
            self.sums[name] = self.sums[name] + number if name in self.sums else number
            self.counts[name] = self.counts.get(name, 0) + 1

    def mean(self) -> dict[str, float]:
        """Means since the last `clear`; the host waits for the device here, once."""
        if not self.sums:
            return {}
        device = next((value.device for value in self.sums.values() if value.device.type != "cpu"), "cpu")
        values = torch.stack([value.to(device) for value in self.sums.values()]).tolist()
        return {name: value / self.counts[name] for name, value in zip(self.sums, values, strict=True)}

    def clear(self) -> None:
        """Start anew."""
        self.sums, self.counts = {}, {}

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"sums": {name: value.cpu() for name, value in self.sums.items()}, "counts": dict(self.counts)}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Back from a checkpoint."""
        self.sums = {name: value.to(device) for name, value in state["sums"].items()}
        self.counts = dict(state["counts"])


def read_history(path: Path) -> list[dict[str, Any]]:
    """Rows of a metrics.jsonl; lines that are broken off (a killed run) or no objects are left out. Raises OSError."""
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = parse_json(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


class MetricsFile:
    """`metrics.jsonl`: one JSON object a line.

    `kind` is "step" (every `log_steps` optimiser steps: means since the last such line) or "epoch" (means of
    the epoch, and its monitors); both carry `epoch` (from 0) and `step` (optimiser steps done).
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a line at once; raises `UserError` when it cannot be written."""
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written ({error.strerror}); make room and go on with --run.resume."
            ) from error

    def rows(self) -> list[dict[str, Any]]:
        """All whole lines, as `read_history` reads them; none before the first."""
        return read_history(self.path) if self.path.exists() else []

    def cut(self, epoch: int, step: int) -> None:
        """Drop what lies behind a checkpoint at this place, so that a resumed run doubles no line."""

        def before(row: dict[str, Any]) -> bool:
            place, end = (row.get("epoch"), epoch) if row.get("kind") == "epoch" else (row.get("step"), step + 1)
            return isinstance(place, int | float) and place < end

        kept = [row for row in self.rows() if before(row)]
        replace(self.path, "".join(json.dumps(row) + "\n" for row in kept))


def check_trackers(names: list[str]) -> None:
    """Raise `UserError` for a tracker that Accelerate does not know, or whose package is not installed."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    installed = {str(name) for name in get_available_trackers()}
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            near = difflib.get_close_matches(name, LOGGER_TYPE_TO_CLASS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(LOGGER_TYPE_TO_CLASS)}."
            raise UserError(f"--run.trackers {name}: there is no such tracker; {hint}")
        if name not in installed:
            raise UserError(
                f"--run.trackers {name}: its package is not installed; pip install {name}, or leave it out."
            )


def tracker_config(flat: Mapping[str, Any]) -> dict[str, int | float | str | bool]:
    """A flattened configuration as trackers take it: None, lists and dictionaries become words.

    >>> tracker_config({"data.root": None, "run.epochs": 3, "run.trackers": ["tensorboard"]})
    {'data.root': 'none', 'run.epochs': 3, 'run.trackers': 'tensorboard'}
    """

    def plain(value: Any) -> int | float | str | bool:
        if isinstance(value, list | tuple):
            return ", ".join(map(str, value))
        return "none" if value is None else value if isinstance(value, int | float | str) else str(value)

    return {key: plain(value) for key, value in flat.items()}
