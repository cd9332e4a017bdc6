"""The flags of `audiossl probe`, and of the table at a run's end. No torch import here, so that `--help` is quick."""

from __future__ import annotations

from dataclasses import dataclass, field

from audiossl.data.config import DataConfig
from audiossl.errors import UserError


@dataclass
class ProbeTableConfig:
    """The table at the end of a run; it needs labels in all three splits, and is left out without."""

    quick: bool = False  # kNN and linear probe only: seconds instead of minutes
    random_seeds: list[int] = field(default_factory=lambda: [0, 1, 2])  # seeds of the random weights


@dataclass
class ProbeConfig:
    """Score a frozen encoder on labelled clips, beside random weights and log-mel statistics.

    Raises `UserError` when a value makes no sense, naming its flag.
    """

    encoder: str  # folder of the encoder, such as runs/first/encoder, or the name of a model
    json: str | None = None  # file for the table as JSON, settings that were chosen included
    overwrite: bool = False  # replace the file of --json when it exists
    quick: bool = False  # kNN and linear probe only: seconds instead of minutes
    random_seeds: list[int] = field(default_factory=lambda: [0, 1, 2])  # seeds of the random weights
    seed: int = 0  # order of the linear probe's batches
    batch_size: int = 256  # clips on the device at a time
    device: str | None = None  # cpu, cuda ...; by default a GPU when there is one
    # Rate and length of the clips are the encoder's, unless flags say otherwise.
    data: DataConfig = field(default_factory=DataConfig)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"--batch_size is {self.batch_size}; give at least 1.")
