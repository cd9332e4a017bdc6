"""SIGTERM and SIGINT as a wish: the step is finished, a checkpoint is written, then the program ends."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class StopRequest:
    """Remembers the first SIGTERM or SIGINT while installed; a second one stops at once.

    Exit codes follow the shell's habit: 143 (128 + SIGTERM) and 130 (128 + SIGINT).
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

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
        if self.signal:
            self.remove()
            signal.raise_signal(number)
        self.signal = number
