"""The settings of views, free of torch so that a command line can read them at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from audiossl.errors import UserError


@dataclass
class MultiCropConfig:
    """Views of a clip: two global ones and several local ones (see `audiossl.transforms.views`)."""

    # Local views of a clip, besides the two global ones.
    n_locals: int = 4
    # Seconds that a view's picture is wide at the clip's own speed.
    global_s: float = 1.0
    local_s: float = 0.5
    # Height of a view's picture in parts of the front end's band.
    global_band: float = 1.0
    local_band: float = 1.0
    # Range of the stretch in time: a view of 1 s at 0.7 shows 0.7 s of sound.
    global_time: list[float] = field(default_factory=lambda: [0.7, 1.3])
    local_time: list[float] = field(default_factory=lambda: [0.6, 1.2])
    # Range of the stretch in frequency, which changes pitch and formants (BYOL-A: 0.6 to 1.5).
    band_stretch: list[float] = field(default_factory=lambda: [0.6, 1.5])
    # Largest share of another clip mixed in (BYOL-A: 0.4, version 2: 0.2); 0 for none.
    mixup: float = 0.4
    # Largest change of level at either end of a view, in standard deviations of the picture.
    fader: float = 0.5
    # Deviation of a random equaliser, in standard deviations; 0 for none.
    equaliser: float = 0.0
    # Highest level of a flat background noise in half of the views, in standard deviations above the mean.
    noise: float = 0.0
    # Widest stripe set to the mean in time and in frequency, in parts of the axis; 0 for none.
    stripes: float = 0.0

    def __post_init__(self) -> None:
        """Raise `UserError` for values that make no view."""
        for name in ("global_s", "local_s", "global_band", "local_band"):
            if not getattr(self, name) > 0:
                raise UserError(f"--views.{name} must be above 0, found {getattr(self, name)}.")
        for name in ("global_time", "local_time", "band_stretch"):
            value = getattr(self, name)
            if len(value) != 2 or not 0 < value[0] <= value[1]:
                raise UserError(f"--views.{name} must be two numbers, the smaller first, found {value}.")
        if self.n_locals < 0:
            raise UserError(f"--views.n_locals must be 0 or more, found {self.n_locals}.")
        if not 0.0 <= self.mixup < 1.0 or not 0.0 <= self.stripes < 1.0:
            raise UserError("--views.mixup and --views.stripes must be from 0 to below 1.")
