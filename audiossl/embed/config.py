"""How recordings become rows of embeddings. No torch here, so that `--help` is quick."""

from __future__ import annotations

import math
from dataclasses import dataclass

from audiossl.errors import UserError

CHOICES = {
    "level": ("clip", "window", "frame"),
    "pool": ("mean", "max", "mean_max", "mean_std"),
    "channels": ("mix", "first", "each"),
    "normalize": ("model", "dataset", "clip"),
    "errors": ("record", "skip", "raise"),
}


@dataclass(frozen=True)
class EmbedConfig:
    """What `audiossl.featurize` is told; see there. Raises `UserError` for values that make no sense."""

    level: str = "clip"
    window_s: float | None = None
    hop_s: float | None = None
    pool: str = "mean"
    layers: tuple[int, ...] = ()
    channels: str = "mix"
    normalize: str = "model"
    batch_size: int = 64
    workers: int = 0
    errors: str = "record"
    outside: bool = False

    def __post_init__(self) -> None:
        """Check every value by itself, and those that need each other."""
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UserError(f"{name} is {getattr(self, name)!r}: choose one of {', '.join(allowed)}.")
        for name in ("window_s", "hop_s"):
            seconds = getattr(self, name)
            if seconds is not None and not 0 < seconds < math.inf:
                raise UserError(f"{name} is {seconds}: give a length in seconds above 0.")
        if self.batch_size < 1:
            raise UserError(f"batch_size is {self.batch_size}: give at least 1.")
        if self.workers < 0:
            raise UserError(f"workers is {self.workers}: give a number of threads, or 0 for two a core.")
        if self.level != "clip" and self.pool != "mean":
            raise UserError(f"pool makes one row of a clip's windows, and level is {self.level!r}: leave it out.")
        if self.level == "frame" and self.hop_s is not None:
            raise UserError("hop_s is the distance of windows, and frames follow each other as they are: leave it out.")
        if self.level == "frame" and self.layers:
            raise UserError("layers have frames of different lengths: leave them out, or choose level 'window'.")

    def differences(self, other: dict[str, object]) -> list[str]:
        """Names of the settings that decide an embedding and are not as in `other`, a dictionary of settings."""
        names = ("level", "window_s", "hop_s", "pool", "layers", "channels", "normalize")
        own = {name: getattr(self, name) for name in names} | {"layers": list(self.layers)}
        return [name for name in names if other.get(name) != own[name]]
