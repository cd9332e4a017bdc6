"""Settings of the front ends whose rows are about equally wide in octaves: wavelets, constant Q, the ear."""

from __future__ import annotations

from dataclasses import dataclass

from .config_base import BandConfig, FrontEndConfig


@FrontEndConfig.register_subclass("cwt")
@dataclass
class CwtConfig(BandConfig):
    """Continuous wavelet transform: rows of equal width in octaves, each as quick as its frequency allows."""

    # morlet, morse or mexican_hat.
    wavelet: str = "morlet"
    # Morlet: radians of the row's frequency in one standard deviation of the wavelet's length; more is finer in
    # frequency and slower.
    w0: float = 6.0
    # Morse: 3 makes the wavelet as symmetric as it can be; the length is sqrt(beta gamma) / pi periods.
    gamma: float = 3.0
    beta: float = 20.0
    # 2: power, 1: magnitude. A sine of amplitude 1 has height 1.
    power: float = 2.0
    # 90 dB under that sine; a sixth to a fifth of the cells of Speech Commands lie below, as with mel's 1e-6.
    floor: float = 1e-9


@dataclass
class ConstantQConfig(FrontEndConfig):
    """What the constant-Q and the variable-Q transform share."""

    # fft: the filter bank; nnaudio: nnAudio's convolutions, with filters of whole lengths.
    backend: str = "fft"
    # Rows of the picture.
    n_bins: int = 64
    # Frequency of the lowest row in Hz: A1.
    f_min: float = 55.0
    # Frequency of the highest row in Hz, A8, where bins_per_octave is 0.
    f_max: float = 7040.0
    # Rows an octave; 0: as many as lead from f_min to f_max in n_bins rows.
    bins_per_octave: float = 0.0
    # Length of the filters: 1 makes neighbouring rows just overlap, less is quicker and coarser.
    filter_scale: float = 1.0
    # 2: power, 1: magnitude. A sine of amplitude 1 has height 1.
    power: float = 2.0
    # The kernels become parameters; only type cqt with backend nnaudio.
    trainable: bool = False
    # 90 dB under that sine; a sixth to a fifth of the cells of Speech Commands lie below, as with mel's 1e-6.
    floor: float = 1e-9


@FrontEndConfig.register_subclass("cqt")
@dataclass
class CqtConfig(ConstantQConfig):
    """Constant-Q transform: rows of equal width in octaves, filters of the same number of periods."""


@FrontEndConfig.register_subclass("vqt")
@dataclass
class VqtConfig(ConstantQConfig):
    """Variable-Q transform: a constant-Q transform whose low rows are wider, and quicker."""

    # Hz added to each row's width, alpha * frequency (alpha = 0.077 at 9 rows an octave).
    gamma: float = 20.0


@FrontEndConfig.register_subclass("gammatone")
@dataclass
class GammatoneConfig(BandConfig):
    """Gammatone filters, equally spaced in equivalent rectangular bandwidths: the ear's resolution."""

    # fft: the filters' own output; nnaudio: a short-time Fourier transform under their curves, which can be trained.
    backend: str = "fft"
    # 2: power, 1: magnitude. A sine of amplitude 1 has height 1.
    power: float = 2.0
    # Samples of nnaudio's Fourier transform; the filter bank has none.
    n_fft: int = 1024
    # The curves and the Fourier kernels become parameters; only with backend nnaudio.
    trainable: bool = False
    # 90 dB under that sine; a sixth to a fifth of the cells of Speech Commands lie below, as with mel's 1e-6.
    floor: float = 1e-9


@FrontEndConfig.register_subclass("scattering")
@dataclass
class ScatteringConfig(BandConfig):
    """First-order scattering: the modulus of wavelets, averaged over every frame, so that none is skipped."""

    # 1: modulus, 2: its square. A sine of amplitude 1 has height 1.
    power: float = 1.0
    # 90 dB below that sine, as the other types' of power.
    floor: float = 3e-5


@FrontEndConfig.register_subclass("synchrosqueezing")
@dataclass
class SynchrosqueezingConfig(BandConfig):
    """Synchrosqueezing: wavelet power moved to the frequency at which its phase turns, lines one row wide."""

    # Wavelets a row.
    voices: int = 2
    # Morlet wavelets, as type cwt's: radians of their frequency in one standard deviation of their length.
    w0: float = 12.0
    # Cells below this share of the clip's largest magnitude are left out: their frequency is noise.
    threshold: float = 1e-3
    # As type cwt's: a sine of amplitude 1 has height 1.
    floor: float = 1e-9
