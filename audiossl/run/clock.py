"""Clocks of a run: time over all its parts, clips a second, the share of time spent waiting for data."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import torch


class Clock:
    """Measures on the host: single steps of a GPU may be mistimed, epochs are right."""

    def __init__(self) -> None:
        self.before_s = 0.0  # of the parts before a resume
        self._begun = self._saved = time.monotonic()
        self.start_epoch()

    def start_epoch(self) -> None:
        """An epoch, or the rest of one, begins."""
        self._epoch_begun, self._waited_s, self.clips = time.monotonic(), 0.0, 0
        self._cpu_begun = time.process_time()

    def next(self, batches: Iterator[Any]) -> Any:
        """The next batch; the time that it takes to come counts as waiting."""
        asked = time.monotonic()
        batch = next(batches)
        self._waited_s += time.monotonic() - asked
        return batch

    def stop_epoch(self) -> None:
        """The loop over the batches is over; monitors do not count."""
        self._took_s = time.monotonic() - self._epoch_begun
        self._cpu_s = (time.process_time() - self._cpu_begun) / torch.get_num_threads()  # of each thread

    def seconds(self) -> float:
        """Time of the run so far, all its parts together."""
        return self.before_s + time.monotonic() - self._begun

    def checkpoint_age_s(self) -> float:
        """Time since the last checkpoint, or the start."""
        return time.monotonic() - self._saved

    def checkpointed(self) -> None:
        """A checkpoint was written now."""
        self._saved = time.monotonic()

    def row(self, device: torch.device) -> dict[str, float]:
        """Values of the last epoch for `metrics.jsonl`."""
        took = max(self._took_s, 1e-9)
        # What else a machine computes changes the first and leaves the second alone.
        cpu = {"clips_per_cpu_second": self.clips / max(self._cpu_s, 1e-9)} if device.type == "cpu" else {}
        return {
            "clips_per_second": self.clips / took,
            "data_wait_percent": 100.0 * self._waited_s / took,
            "memory_gb": memory_gb(device),
            "seconds": self.seconds(),
            **cpu,
        }


def memory_gb(device: torch.device) -> float:
    """Peak memory in 10**9 bytes: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    if sys.platform == "win32":  # has no `resource`
        return float("nan")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9  # bytes there, KiB elsewhere
