"""Settings of the front ends that begin with a short-time Fourier transform, and of the learnable one."""

from __future__ import annotations

from dataclasses import dataclass

from .config_base import BandConfig, FrontEndConfig


@dataclass
class FourierConfig(FrontEndConfig):
    """What the front ends that begin with a short-time Fourier transform share.

    The defaults are BYOL-A's (Niizumi et al., 2021): window 1,024, power, 60 to 7,800 Hz. Departures: the hop, and a
    floor of 1e-6 in place of 1.2e-7 (see `audiossl.transforms.compress`).
    """

    # fft: framed FFT; nnaudio: nnAudio's convolutions, whose kernels can be trained.
    backend: str = "fft"
    # Samples of the Fourier transform and of its window.
    n_fft: int = 1024
    win_length: int = 1024
    # The band that the picture covers, in Hz.
    f_min: float = 60.0
    f_max: float = 7800.0
    # constant (zeros) or reflect: n_fft / 2 samples on both sides, so that frame t is centred on sample t * hop_length.
    pad_mode: str = "constant"
    # The kernels become parameters; only with backend nnaudio.
    trainable: bool = False


@FrontEndConfig.register_subclass("stft")
@dataclass
class StftConfig(FourierConfig):
    """Linear frequency: the bins of the Fourier transform between f_min and f_max."""

    # power; magnitude; complex: two channels, real and imaginary part, whose size is compressed and phase kept.
    output: str = "power"

    @property
    def power(self) -> float:
        """Exponent of the magnitude that the picture holds: what decibels ask for."""
        return 1.0 if self.output == "magnitude" else 2.0


@FrontEndConfig.register_subclass("mel")
@dataclass
class MelConfig(FourierConfig):
    """Mel bands; BYOL-A's 64 of them."""

    # Rows of the picture.
    n_bins: int = 64
    # slaney or htk, and the filters' norm: slaney (equal area) or none.
    mel_scale: str = "slaney"
    norm: str = "slaney"
    # What the filters sum: 2: power, 1: magnitude.
    power: float = 2.0


@FrontEndConfig.register_subclass("mfcc")
@dataclass
class MfccConfig(MelConfig):
    """Mel-frequency cepstral coefficients: the cosine transform of compressed mel bands."""

    # Rows of the picture: coefficients from the 0th on. A multiple of 32, so that a backbone pads nothing.
    n_bins: int = 32
    # Mel bands that are transformed; at least n_bins.
    n_mels: int = 64


@FrontEndConfig.register_subclass("reassigned")
@dataclass
class ReassignedConfig(BandConfig):
    """Short-time Fourier power moved to its centre of gravity in time and frequency: sharper lines and clicks."""

    # Samples of the Fourier transform and of its window.
    n_fft: int = 1024
    win_length: int = 1024
    # mel (Slaney's, the rows of the type mel) or linear (from f_min to f_max).
    scale: str = "mel"
    # constant (zeros) or reflect: n_fft / 2 samples on both sides.
    pad_mode: str = "constant"


@FrontEndConfig.register_subclass("fbank")
@dataclass
class FbankConfig(FrontEndConfig):
    """Kaldi's mel filter bank: mean removed and pre-emphasis in every frame, Povey window, HTK mels."""

    # Rows of the picture.
    n_bins: int = 64
    # Samples of a frame: Kaldi's 25 ms at 16 kHz. Its Fourier transform has the next power of two.
    win_length: int = 400
    # The band that the picture covers, in Hz: Kaldi's 20 Hz to half of 16 kHz.
    f_min: float = 20.0
    f_max: float = 8000.0
    # false: the wave is mirrored at its ends and frame t lies around (t + 1/2) * hop_length; true, Kaldi's default:
    # only frames that lie wholly in the wave, about 2 fewer.
    snip_edges: bool = False


@FrontEndConfig.register_subclass("chroma")
@dataclass
class ChromaConfig(FourierConfig):
    """Pitch classes: all octaves of a semitone in one row, C lowest."""

    # Rows of the picture, an octave.
    n_bins: int = 12
    # Twice the other types': 128 ms tell semitones apart from about 200 Hz on.
    n_fft: int = 2048
    win_length: int = 2048
    # What the filters sum: 2: power, 1: magnitude.
    power: float = 2.0


@FrontEndConfig.register_subclass("leaf")
@dataclass
class LeafConfig(BandConfig):
    """Learnable front end (LEAF): Gabor filters and Gaussian low-passes whose widths and places are trained."""

    # Cells hold mean powers, lower than mel's sums; a quarter of those of Speech Commands lie below, as mel's at 1e-6.
    floor: float = 3e-10
