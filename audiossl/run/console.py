"""Lines for people while a run trains: a bar in a terminal, else a line a minute; one row per epoch."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

# Heading of the epoch table -> key of a row of metrics.jsonl.
COLUMNS = {
    "epoch": "epoch",
    "loss": "loss",
    "lr": "lr",
    "valid. %": "validation_accuracy",
    "mAP %": "validation_map",
    "kNN %": "knn",
    "std": "feature_std",
    "RankMe": "rankme",
    "clips/s": "clips_per_second",
    "wait %": "data_wait_percent",
    "GB": "memory_gb",
}
# Shown only where the first row has it: the score of a method's own classifier.
ONLY_SOME = {"validation_accuracy", "validation_map"}
MINUTE_S = 60.0


class Console:
    """What a run prints on stdout.

    Args:
        silent: print warnings only (`--run.quiet`).
        main: this is rank 0; other ranks print nothing at all.
    """

    def __init__(self, silent: bool, main: bool) -> None:
        self.silent, self.main = silent or not main, main
        self._bar: tqdm[Any] | None = None
        self._spoke = time.monotonic()
        self._rows = 0
        self._columns: dict[str, str] = {}

    def say(self, sentence: str) -> None:
        """One line."""
        if not self.silent:
            self.warn(sentence)

    def warn(self, sentence: str) -> None:
        """One line that `--run.quiet` does not silence."""
        if self._bar is not None:
            self._bar.write(sentence, file=sys.stdout)
        elif self.main:
            print(sentence, flush=True)

    def start(self, epoch: int, epochs: int, done: int, total: int) -> None:
        """An epoch begins, `done` of `total` micro-batches in."""
        if sys.stdout.isatty() and not self.silent:
            title = f"epoch {epoch + 1}/{epochs}"
            self._bar = tqdm(total=total, initial=done, desc=title, file=sys.stdout, leave=False, unit="batch")

    def advance(self, epoch: int, done: int, total: int, loss: float | None) -> None:
        """One micro-batch is done; `loss` is the last one that was fetched from the device."""
        if self._bar is not None:
            self._bar.update(1)
            if loss is not None:
                self._bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        elif time.monotonic() - self._spoke >= MINUTE_S:
            self._spoke = time.monotonic()
            known = f", loss {loss:.4f}" if loss is not None else ""
            self.say(f"epoch {epoch + 1}, batch {done} of {total}{known}")

    def stop(self) -> None:
        """The bar of the epoch goes."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def row(self, values: Mapping[str, Any]) -> None:
        """One row of the table of epochs; its heading is repeated every 20 rows."""
        if not self._rows:
            self._columns = {name: key for name, key in COLUMNS.items() if key not in ONLY_SOME or key in values}
        if self._rows % 20 == 0:
            self.say("".join(f"{heading:>10}" for heading in self._columns))
        self._rows += 1
        self._spoke = time.monotonic()
        self.say("".join(f"{cell(values.get(key)):>10}" for key in self._columns.values()))


def cell(value: Any) -> str:
    """A number short enough for a table.

    >>> cell(0.00123), cell(4.5678), cell(1234.5), cell(None), cell("3/10")
    ('1.23e-03', '4.568', '1234.5', '-', '3/10')
    """
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    if value and abs(value) < 1e-2:
        return f"{value:.2e}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
