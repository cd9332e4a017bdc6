"""The settings of waveform augmentations, free of torch so that a command line can read them at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from audiossl.errors import UserError

PROBABILITIES = ("polarity", "noise", "reverb", "low_pass", "high_pass", "band_pass")
STRENGTHS = ("gain_db", "shift_s", "speed", "pitch_semitones", "tilt_db")
RANGES = ("noise_snr_db", "reverb_s", "reverb_direct_db", "low_pass_hz", "high_pass_hz", "band_pass_hz")


@dataclass
class WaveAugmentConfig:
    """What may change in a waveform before the front end; all of it is off until its first value is above 0."""

    # Speed: a clip runs up to so much faster or slower, 0.1 for 10 %; pitch changes with it.
    speed: float = 0.0
    # Pitch: largest shift up or down, in semitones, at the same length.
    pitch_semitones: float = 0.0
    # Shift: furthest move in time either way, in seconds; zeros follow, or what left at the other end.
    shift_s: float = 0.0
    shift_wraps: bool = False
    # Reverb: share of the clips that get it, by synthetic rooms unless a folder of impulse responses is given.
    reverb: float = 0.0
    # Range of the time in which a synthetic room falls by 60 dB, in seconds.
    reverb_s: list[float] = field(default_factory=lambda: [0.1, 0.6])
    # Range of the direct sound's energy over the synthetic room's, in dB.
    reverb_direct_db: list[float] = field(default_factory=lambda: [0.0, 12.0])
    reverb_folder: str = ""
    # Noise: share of the clips that get it, and the range of signal to noise in dB.
    noise: float = 0.0
    noise_snr_db: list[float] = field(default_factory=lambda: [5.0, 30.0])
    # white, pink, or folder: excerpts of the recordings in noise_folder.
    noise_colour: Literal["white", "pink", "folder"] = "pink"
    noise_folder: str = ""
    # Tilt: steepest slope up or down over frequency, in dB per octave, about a pivot in Hz that keeps its level.
    tilt_db: float = 0.0
    tilt_pivot_hz: float = 1000.0
    # Filters of second order: share of the clips that each gets, and the range of its corner or middle in Hz.
    low_pass: float = 0.0
    low_pass_hz: list[float] = field(default_factory=lambda: [2000.0, 7500.0])
    high_pass: float = 0.0
    high_pass_hz: list[float] = field(default_factory=lambda: [60.0, 500.0])
    band_pass: float = 0.0
    band_pass_hz: list[float] = field(default_factory=lambda: [300.0, 3000.0])
    # Gain: largest change of level up or down, in dB. Nothing is clipped.
    gain_db: float = 0.0
    # Polarity: share of the clips that are turned upside down.
    polarity: float = 0.0

    def __post_init__(self) -> None:
        """Raise `UserError` for values without a meaning."""
        for name in PROBABILITIES:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"--wave.{name} is a share of the clips, from 0 to 1, found {getattr(self, name)}.")
        for name in STRENGTHS:
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise UserError(f"--wave.{name} must be 0 or more, and finite, found {getattr(self, name)}.")
        for name in RANGES:
            value = getattr(self, name)
            least = -float("inf") if name.endswith("_db") else 0.0
            if len(value) != 2 or not least < value[0] <= value[1]:
                unit = "numbers" if name.endswith("_db") else "numbers above 0"
                raise UserError(f"--wave.{name} must be two {unit}, the smaller first, found {value}.")
        if not self.tilt_pivot_hz > 0.0:
            raise UserError(f"--wave.tilt_pivot_hz must be above 0, found {self.tilt_pivot_hz}.")
        if self.pitch_semitones > 24.0:
            raise UserError(f"--wave.pitch_semitones may be at most 24, two octaves, found {self.pitch_semitones}.")
        if self.noise_colour not in ("white", "pink", "folder"):
            raise UserError(f"--wave.noise_colour must be white, pink or folder, found {self.noise_colour!r}.")
