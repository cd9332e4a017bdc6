"""Settings of discrete wavelets, the rarer transforms, and stacks of front ends."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from .config_base import BandConfig, FrontEndConfig


@dataclass
class DiscreteWaveletConfig(FrontEndConfig):
    """What the discrete wavelet transform and wavelet packets share."""

    # A discrete wavelet of PyWavelets: haar, db4, sym8, coif3, bior4.4 ...
    wavelet: str = "db4"
    # Beyond the clip's ends: symmetric, reflect, zero, constant, periodic, periodization, smooth, antisymmetric or
    # antireflect, as in PyWavelets.
    pad_mode: str = "symmetric"
    # A sine of amplitude 1 has a height of about 0.4: 90 dB below it, as the other types'.
    floor: float = 3e-10
    # Times that the band is halved.
    level: int = 6


@FrontEndConfig.register_subclass("dwt")
@dataclass
class DwtConfig(DiscreteWaveletConfig):
    """Discrete wavelet transform: level + 1 rows, an octave each."""

    # Octaves split off; at 16 kHz the lowest row then lies below 62.5 Hz.
    level: int = 7


@FrontEndConfig.register_subclass("wavelet_packet")
@dataclass
class WaveletPacketConfig(DiscreteWaveletConfig):
    """Wavelet packets: 2^level rows of equal width in Hz, 64 of them."""


@FrontEndConfig.register_subclass("wigner_ville")
@dataclass
class WignerVilleConfig(BandConfig):
    """Smoothed pseudo Wigner-Ville distribution: sharp ridges, rows of equal width in Hz."""

    # 55 dB under the loudest twentieth of Speech Commands, as the common floor is for mel.
    floor: float = 1e-8
    # Samples that a frame looks at, odd: the Hann window over the lags. 255 resolves 62 Hz at 16 kHz, half a row.
    win_length: int = 255
    # Length of the Hann window over time, in hops; it averages cross terms away. At 2 all samples count alike, at 0
    # there is no smoothing: the pseudo distribution, at the frames' instants alone.
    smoothing_hops: float = 2.0
    # What negative cells become: positive sets them to 0, magnitude turns their sign, none keeps them (compress none).
    rectify: str = "positive"


@FrontEndConfig.register_subclass("matching_pursuit")
@dataclass
class MatchingPursuitConfig(BandConfig):
    """Orthogonal matching pursuit: energies of a few Gabor atoms, on rows of equal width in octaves (slow)."""

    # 55 dB under the loudest twentieth of Speech Commands, as the common floor is for mel.
    floor: float = 5e-8
    # Samples of a segment, a multiple of 4; segments overlap by half.
    segment_length: int = 512
    # Durations of the atoms: the longest is half a segment, each further one a quarter of the one before.
    n_scales: int = 3
    # Atoms chosen a segment.
    n_atoms: int = 8


@FrontEndConfig.register_subclass("emd")
@dataclass
class EmdConfig(BandConfig):
    """Hilbert spectrum of empirical modes, on rows of equal width in octaves (slow, no gradient)."""

    # 55 dB under the loudest twentieth of Speech Commands, as the common floor is for mel.
    floor: float = 2e-7
    # emd; eemd and ceemdan average over noisy copies, which takes `trials` times as long.
    method: str = "emd"
    trials: int = 20
    # Standard deviation of the added noise as a share of the clip's own: 0.2 as in Wu & Huang (2009).
    noise: float = 0.2
    # Worker processes; 0: in this process.
    workers: int = 0
    # Folder that keeps the pictures; none: only the last 256 MB, in memory.
    cache: str | None = None

    def fingerprint(self) -> str:
        """The same wherever and by however many processes the picture is computed."""
        return super(EmdConfig, replace(self, workers=0, cache=None)).fingerprint()


@FrontEndConfig.register_subclass("stack")
@dataclass
class StackConfig(BandConfig):
    """Several front ends as channels, on the frames and frequencies of the first of them."""

    # The front ends; each has its type's defaults but for the settings here, where it has them.
    types: list[str] = field(default_factory=lambda: ["mel", "reassigned"])
    # 0: each front end keeps the floor of its type.
    floor: float = 0.0
