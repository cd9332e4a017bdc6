"""The settings of a bag of patches, free of torch so that a command line can read them at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from audiossl.errors import UserError

POOLS = ("mean", "mean_max", "mean_std", "ordered")


@dataclass
class BagConfig:
    """A clip as a bag of patches: what is made of a patch, and how the patches of a clip become one vector."""

    # Patches of a clip when it is embedded: a grid, evenly from end to end; longer clips have more, equally dense.
    n_patches: int = 16
    # mean, mean_max (mean plus maximum), mean_std (side by side), or ordered: the means of so many segments of time
    # side by side, which keeps what the others throw away.
    pool: Literal["mean", "mean_max", "mean_std", "ordered"] = "mean"
    segments: int = 4
    # What is kept of a patch: the features, or their projection, as which the losses compare it.
    output: Literal["features", "projection"] = "features"
    # Widths of the features (a linear layer on the network; 0 for the network's own) and of the projection, and what
    # stands between the layers: EMP-SSL's 4,096 and 1,024, batch norm and relu.
    feature_dim: int = 4096
    projection_dim: int = 1024
    activation: Literal["relu", "tanh", "none"] = "relu"
    batch_norm: bool = True

    def __post_init__(self) -> None:
        """Raise `UserError` for values that make no bag."""
        for name, least in (("n_patches", 1), ("segments", 1), ("feature_dim", 0), ("projection_dim", 1)):
            if getattr(self, name) < least:
                raise UserError(f"--bag.{name} must be at least {least}, found {getattr(self, name)}.")
        for name, known in (
            ("pool", POOLS),
            ("output", ("features", "projection")),
            ("activation", ("relu", "tanh", "none")),
        ):
            if getattr(self, name) not in known:
                raise UserError(f"--bag.{name} must be one of {', '.join(known)}, found {getattr(self, name)!r}.")
