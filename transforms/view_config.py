"""The settings of views, free of torch so that a command line can read them at once."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from audiossl.errors import UserError


@dataclass
class MultiCropConfig:
    """Views of a clip: two global ones and several local ones (see `audiossl.transforms.views`)."""

    # Local views of a clip of each length in local_s, besides the two global ones.
    n_locals: int = 4
    # Seconds that a view's picture is wide at the clip's own speed, 0 for the clip's length; local views may be of
    # several lengths.
    global_s: float = 1.0
    local_s: list[float] = field(default_factory=lambda: [0.5])
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
    # Mixing of the student's views alone, the teacher's staying clean (see `audiossl.transforms.student_mixing`): the
    # alphas of mixup and of cutmix (EsViT's option: 0.8 and 1), both 0 for none; the first n_mixed views take part.
    mix_alpha: float = 0.0
    cut_alpha: float = 0.0
    n_mixed: int = 10
    # Share of the clips that are mixed, and of these the share that cutmix takes where both are on.
    mix_prob: float = 1.0
    switch_prob: float = 0.5

    def __post_init__(self) -> None:
        """Raise `UserError` for values that make no view."""
        _check_finite(self)
        _check_above_zero(self, "global_band", "local_band")
        if not self.global_s >= 0:
            raise UserError(f"--views.global_s must be 0, for the clip's length, or more, found {self.global_s}.")
        _check_ranges(self, "global_time", "local_time", "band_stretch")
        if not self.local_s or not all(seconds > 0 for seconds in self.local_s):
            raise UserError(f"--views.local_s must be lengths above 0, such as 0.5 or 0.5,0.25, found {self.local_s}.")
        _check_shares(self, "mixup", "stripes")
        _check_not_negative(self, "n_locals", "mix_alpha", "cut_alpha", "n_mixed", "fader", "equaliser")
        for name in ("mix_prob", "switch_prob"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"--views.{name} must be from 0 to 1, found {getattr(self, name)}.")


@dataclass
class TwoViewsConfig:
    """Two views of a clip as BYOL-A makes them, version 2 (see `audiossl.transforms.two_views`)."""

    # Seconds of the segment that both views of a clip show.
    view_s: float = 1.0
    # Largest share of another clip mixed in (version 1: 0.4); 0 for none.
    mixup: float = 0.2
    # Past clips that backgrounds are drawn from, kept in memory.
    memory: int = 2048
    # Size of the canvas that boxes are cut from, over the picture's, with the picture in its middle.
    canvas_time: float = 1.5
    canvas_band: float = 1.0
    # Range of a box's width and height over the picture's.
    time_scale: list[float] = field(default_factory=lambda: [0.6, 1.5])
    band_scale: list[float] = field(default_factory=lambda: [0.6, 1.5])
    # bicubic or bilinear: how a box is brought to the size of the picture.
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    # Largest change of level at either end of a view, in standard deviations (version 1: 0); 0 for none.
    fader: float = 1.0
    # Widest stripe set to the mean, in parts of the axis, and stripes in time and in frequency each; 0 for none.
    stripes: float = 0.0
    n_stripes: int = 1
    # Largest shift of the frequency axis, and largest warp at a place in its middle half, in parts of the axis.
    band_shift: float = 0.0
    band_warp: float = 0.0
    # Bring the views of a batch to mean 0 and deviation 1 together.
    renormalise: bool = True

    def __post_init__(self) -> None:
        """Raise `UserError` for values that make no view."""
        _check_finite(self)
        _check_above_zero(self, "view_s", "memory", "n_stripes")
        _check_ranges(self, "time_scale", "band_scale")
        _check_shares(self, "mixup", "stripes")
        _check_not_negative(self, "fader")
        _check_moves(self)
        for name in ("canvas_time", "canvas_band"):
            if not getattr(self, name) >= 1.0:
                raise UserError(
                    f"--views.{name} must be at least 1, the picture's own size, found {getattr(self, name)}."
                )
        if self.interpolation not in ("bicubic", "bilinear"):
            raise UserError(f"--views.interpolation must be bicubic or bilinear, found {self.interpolation!r}.")


@dataclass
class PatchesConfig:
    """Many small windows of a clip, for EMP-SSL (see `audiossl.transforms.patches`)."""

    # Patches of a clip.
    n_patches: int = 20
    # Size of a patch: seconds, and parts of the front end's band.
    patch_s: float = 0.5
    patch_band: float = 1.0
    # random, or grid: evenly spaced from end to end, for evaluation.
    places: Literal["random", "grid"] = "random"
    # Share of the random places that are drawn in proportion to energy, the others evenly; 0 for all of them evenly.
    energy: float = 0.8
    # Range of the stretch in time: a patch of 0.5 s at 0.8 shows 0.4 s of sound.
    time_stretch: list[float] = field(default_factory=lambda: [1.0, 1.0])
    # Largest share of another patch mixed in; 0 for none.
    mixup: float = 0.2
    # Highest level of a flat background noise in half of the patches, in standard deviations above the mean.
    noise: float = 0.0
    # Largest change of a patch's level, and the largest at either end of it, in standard deviations; 0 for none.
    gain: float = 0.0
    fader: float = 0.5
    # Widest stripe set to the mean, in parts of the patch, and stripes in time and in frequency each; 0 for none.
    stripes: float = 0.0
    n_stripes: int = 1
    # Largest shift of the frequency axis, and largest warp at a place in its middle half, in parts of the patch.
    band_shift: float = 0.0
    band_warp: float = 0.0
    # One channel more, in which every point is its place in the whole band: where a patch is cut from, it cannot tell.
    band_channel: bool = False

    def __post_init__(self) -> None:
        """Raise `UserError` for values that make no patch."""
        _check_finite(self)
        _check_above_zero(self, "n_patches", "patch_s", "patch_band", "n_stripes")
        _check_ranges(self, "time_stretch")
        _check_shares(self, "mixup", "stripes")
        _check_not_negative(self, "gain", "fader")
        _check_moves(self)
        if self.patch_band > 1.0:
            raise UserError(f"--views.patch_band may be at most 1, the whole band, found {self.patch_band}.")
        if self.places not in ("random", "grid"):
            raise UserError(f"--views.places must be random or grid, found {self.places!r}.")
        if not 0.0 <= self.energy <= 1.0:
            raise UserError(f"--views.energy must be from 0 to 1, found {self.energy}.")


def shown(config: Any) -> str:
    """Settings as `print(module)` shows them."""
    return ", ".join(f"{key}={value}" for key, value in asdict(config).items())


def _check_finite(config: Any) -> None:
    for name, value in asdict(config).items():
        numbers = value if isinstance(value, list) else [value]
        if not all(math.isfinite(number) for number in numbers if isinstance(number, float)):
            raise UserError(f"--views.{name} must be finite, found {value}.")


def _check_not_negative(config: Any, *names: str) -> None:
    for name in names:
        if not getattr(config, name) >= 0:
            raise UserError(f"--views.{name} must be 0 or more, found {getattr(config, name)}.")


def _check_above_zero(config: Any, *names: str) -> None:
    for name in names:
        if not getattr(config, name) > 0:
            raise UserError(f"--views.{name} must be above 0, found {getattr(config, name)}.")


def _check_ranges(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if len(value) != 2 or not 0 < value[0] <= value[1]:
            raise UserError(f"--views.{name} must be two numbers, the smaller first, found {value}.")


def _check_shares(config: Any, *names: str) -> None:
    for name in names:
        if not 0.0 <= getattr(config, name) < 1.0:
            raise UserError(f"--views.{name} must be from 0 to below 1, found {getattr(config, name)}.")


def _check_moves(config: Any) -> None:
    if not 0.0 <= config.band_shift < 1.0:
        raise UserError(f"--views.band_shift must be from 0 to below 1, found {config.band_shift}.")
    if not 0.0 <= config.band_warp < 0.25:
        raise UserError(f"--views.band_warp must be from 0 to below 0.25, found {config.band_warp}.")
