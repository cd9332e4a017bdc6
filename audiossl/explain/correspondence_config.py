"""The flags of `audiossl inspect correspondence`. No torch here, so that `--help` is quick."""

from __future__ import annotations

from dataclasses import dataclass, field

from audiossl.data.config import DataConfig
from audiossl.errors import UserError


@dataclass
class KnownChange:
    """How the second view of a clip differs from the first, drawn for each clip anew.

    Raises `UserError` when a value makes no sense, naming its flag.
    """

    shift_s: float = 0.25  # the views begin up to so many seconds apart, in either order
    crop: float = 0.25  # part of the rows that the second view lacks, at its low and high end
    gain_db: float = 6.0  # the second view is up to so much louder or softer
    snr_db: float = 20.0  # and has white noise in it, so far below the sound

    def __post_init__(self) -> None:
        if not self.shift_s >= 0:
            raise UserError(f"--change.shift_s is {self.shift_s:g}; give 0 or more seconds.")
        if not 0 <= self.crop < 1:
            raise UserError(f"--change.crop is {self.crop:g}; give a part of the rows from 0 to below 1.")

    def check_shift(self, clip_s: float) -> None:
        """Raise `UserError` when the shift leaves nothing of clips of `clip_s` seconds."""
        if self.shift_s >= clip_s:
            raise UserError(
                f"--change.shift_s {self.shift_s:g} leaves nothing of clips of {clip_s:.3g} s: give a shorter shift."
            )


@dataclass
class CorrespondenceConfig:
    """Measure how well an encoder finds the regions of a clip again in a second view of it.

    Raises `UserError` when a value makes no sense, naming its flag.
    """

    encoder: str  # folder of the encoder, such as runs/first/encoder, or the name of a model
    json: str | None = None  # file for all numbers as JSON
    csv: str | None = None  # file for all numbers as a table
    pickle: str | None = None  # file for the four numbers of EsViT's measure_correspondence.pickle
    overwrite: bool = False  # replace those files when they exist
    stage: int | None = None  # of a Swin, ResNet or ConvNeXt, from 1, for a finer grid; by default the last
    top: int = 10  # the most similar matches of each clip, counted apart, as EsViT does
    tolerance_cells: int = 1  # a match is near when it is at most so many cells off, in time and frequency
    tolerance_ms: float = 100.0  # or in time, when it is at most so many milliseconds off, whatever its row
    silence_db: float = 40.0  # cells so far below the loudest of their clip are skipped
    random_seeds: list[int] = field(default_factory=lambda: [0, 1, 2])  # of networks with random weights beside it
    seed: int = 0  # of the views
    batch_size: int = 64  # clips on the device at a time
    device: str | None = None  # cpu, cuda ...; by default a GPU when there is one
    change: KnownChange = field(default_factory=KnownChange)
    # The validation split is measured, or all clips where there is none. Rate and length are the encoder's, unless
    # flags say otherwise.
    data: DataConfig = field(default_factory=DataConfig)

    def __post_init__(self) -> None:
        for name in ("top", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} is {getattr(self, name)}; give at least 1.")
        for name in ("tolerance_cells", "tolerance_ms"):
            if not getattr(self, name) >= 0:
                raise UserError(f"--{name} is {getattr(self, name)}; give 0 or more.")
        if not self.silence_db > 0:
            raise UserError(f"--silence_db is {self.silence_db:g}; give a distance above 0 dB.")
