"""SIGTERM, SIGINT and SIGUSR1 as a wish: the step is finished, a checkpoint is written, then the program ends."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

# What clusters announce the end of a job with, minutes before it; Windows has none.
ANNOUNCEMENT = getattr(signal, "SIGUSR1", None)


class StopRequest:
    """Remembers the first SIGTERM, SIGINT or SIGUSR1 while installed; a second SIGTERM or SIGINT stops at once.

    Exit codes follow the shell's habit: 143 (128 + SIGTERM), 130 (128 + SIGINT), and on Linux 138 (128 + SIGUSR1).
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT, *([ANNOUNCEMENT] if ANNOUNCEMENT else []))

    def __init__(self) -> None:
        self.signal = 0  # number of the signal that came, 0 for none
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Listen from now on; does nothing outside the main thread, where Python takes no handlers."""
        if threading.current_thread() is threading.main_thread() and not self._before:
            self._before = {number: signal.signal(number, self._noted) for number in self.SIGNALS}

    def remove(self) -> None:
        """Put the former handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _noted(self, number: int, frame: FrameType | None) -> None:
        del frame
        # A cluster that has announced the end sends SIGTERM behind it: there is still time for the checkpoint.
        if self.signal and ANNOUNCEMENT not in (self.signal, number):
            self.remove()
            signal.raise_signal(number)
        self.signal = self.signal or number
