"""The settings of front ends and views, free of torch so that a command line can read them at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from audiossl.errors import UserError


@dataclass
class FrontEndConfig:
    """How a waveform becomes a picture; the defaults are BYOL-A's log-mel at a hop that fits a network.

    Sources: 64 mel bins from 60 to 7,800 Hz, window 1,024, power, natural log (Niizumi et al., BYOL-A, 2021).
    Departures: hop 167 in place of 160, so that one second at 16 kHz makes 1 + 16000 // 167 = 96 frames, a multiple
    of 32, and a backbone pads nothing; a floor of 1e-6 in place of 1.2e-7 (see `audiossl.transforms.compress`).
    """

    # mel, or stft: the linear bins of the Fourier transform between f_min and f_max.
    name: str = "mel"
    # fft: framed FFT; nnaudio: nnAudio's convolutions, whose kernels can be trained.
    backend: str = "fft"
    # Hz; the same as --data.sample_rate.
    sample_rate: int = 16000
    # Samples of the Fourier transform, of its window, and from one frame to the next.
    n_fft: int = 1024
    win_length: int = 1024
    hop_length: int = 167
    # Rows of the picture (mel only), and the band they cover in Hz.
    n_mels: int = 64
    f_min: float = 60.0
    f_max: float = 7800.0
    # slaney or htk, and the filters' norm: slaney (equal area) or none.
    mel_scale: str = "slaney"
    norm: str = "slaney"
    # 2: power, 1: magnitude.
    power: float = 2.0
    # constant (zeros) or reflect: n_fft / 2 samples on both sides, so that frame t is centred on sample t * hop_length.
    pad_mode: str = "constant"
    # log: natural logarithm of power + floor; db: the same in decibels re full scale; none.
    compress: str = "log"
    floor: float = 1e-6
    # The kernels become parameters; only with backend nnaudio.
    trainable: bool = False


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
