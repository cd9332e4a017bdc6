"""One recording among those that were named."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from threading import Lock

import numpy as np

from audiossl import audio


@dataclass(eq=False)
class Item:
    """One recording: a file, bytes or a file object as `source`, or a `wave` with its rate; else a `problem`."""

    name: str
    source: audio.Source | None = None
    wave: np.ndarray | None = None
    sample_rate: int | None = None
    problem: audio.AudioError | None = None
    lock: Lock = field(default_factory=Lock, repr=False)

    @property
    def n_bytes(self) -> int:
        """Size of a file, by which work is shared; 0 for what is no file, or is gone."""
        try:
            return os.path.getsize(self.source) if isinstance(self.source, (str, os.PathLike)) else 0
        except OSError:
            return 0
