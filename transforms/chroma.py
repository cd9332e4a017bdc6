"""Chroma picture: the power of a short-time Fourier transform in pitch classes, octaves on top of each other.

The filters are librosa's (after Ellis, 2007): each bin is shared among the pitch classes by a Gaussian of half a class
(or half the bin's own width, where bins are wider), its weights have the L2 norm 1, and bins are weighted by a Gaussian
of 2 octaves around A5, 880 Hz. Equal to librosa.filters.chroma (tuning 0) to
1e-5 within f_min to f_max; bins outside of the band are left out. Frames are not normalised: compression and the
statistics of the data set do that, and silence stays dark.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiossl.errors import UserError

from .config import ChromaConfig
from .frontend import FrontEnd, check_at_least, check_choices
from .stft import as_magnitude, build_spectrum, check_fourier, spectrum_bytes

A0_HZ = 27.5
CENTRE_OCTAVE = 5.0  # above A0
OCTAVE_WIDTH = 2.0
LOWEST_HZ = 16.0  # where f_min is 0: C0 lies just above


def first_class(n_bins: int) -> int:
    """Steps from A up to the pitch class of the first row: C for 12 rows, or as near to it as librosa puts it."""
    return 3 * (n_bins // 12)


def chroma_frequencies(config: ChromaConfig) -> Tensor:
    """Frequencies (n_bins,) in Hz of the classes in the lowest octave that lies within the band, float64.

    >>> chroma_frequencies(ChromaConfig())[[0, 9]].round(decimals=1).tolist()  # C2 and A2
    [65.4, 110.0]
    """
    lowest: float = A0_HZ * 2.0 ** (first_class(config.n_bins) / config.n_bins)
    octaves = torch.tensor(max(config.f_min, LOWEST_HZ) / lowest, dtype=torch.float64).log2().ceil()
    steps = torch.arange(config.n_bins, dtype=torch.float64) / config.n_bins
    return lowest * torch.exp2(octaves + steps)


def chroma_filters(config: ChromaConfig) -> Tensor:
    """Share (n_bins, n_fft / 2 + 1) of every bin in every pitch class, float64."""
    n_bins, n_fft = config.n_bins, config.n_fft
    hz = torch.arange(n_fft, dtype=torch.float64) * config.sample_rate / n_fft
    steps = n_bins * (hz / A0_HZ).log2()
    steps[0] = steps[1] - 1.5 * n_bins  # 0 Hz has no pitch: an octave and a half below the first bin
    widths = torch.cat([steps.diff().clamp(min=1.0), steps.new_ones(1)])
    half = float(round(n_bins / 2))
    distance = (steps - torch.arange(n_bins, dtype=torch.float64)[:, None] + half) % n_bins - half
    shares = torch.exp(-2.0 * (distance / widths) ** 2)
    shares = shares / shares.square().sum(0).sqrt()
    shares = shares * torch.exp(-0.5 * ((steps / n_bins - CENTRE_OCTAVE) / OCTAVE_WIDTH) ** 2)
    inside = (hz >= config.f_min) & (hz <= config.f_max)
    return (shares * inside).roll(-first_class(n_bins), dims=0)[:, : n_fft // 2 + 1]


class Chroma(FrontEnd):
    """Chroma picture of waves (B, S): image (B, 1, n_bins, T) with T = 1 + S // hop_length, C lowest.

    `frequencies` names the classes by the lowest octave in the band; a row holds all octaves.
    Raises UserError when no bin lies in the band, and for settings that contradict each other.

    >>> chroma = Chroma(ChromaConfig(compress="none"))
    >>> wave = torch.sin(2 * torch.pi * 440 / 16000 * torch.arange(16000))
    >>> int(chroma(wave[None])[0, 0, :, 48].argmax())  # A, nine semitones above C
    9
    """

    config: ChromaConfig
    filters: Tensor

    def __init__(self, config: ChromaConfig):
        check_fourier(config)
        check_choices(config, power=(2.0, 1.0))
        check_at_least(config, 1, "n_bins")
        filters = chroma_filters(config)
        if not filters.any():
            raise UserError(
                f"no Fourier bin lies from f_min={config.f_min:g} to f_max={config.f_max:g} Hz: raise n_fft."
            )
        super().__init__(config, chroma_frequencies(config))
        self.spectrum = build_spectrum(config)
        if config.trainable:
            self.filters = nn.Parameter(filters.to(torch.float32))
        else:
            self.register_buffer("filters", filters.to(torch.float32), persistent=False)

    def transform(self, wave: Tensor) -> Tensor:
        """Power, or magnitude, of every class, before compression."""
        power = self.spectrum(wave)
        if self.config.power == 1.0:
            power = as_magnitude(power)
        # A trained filter may not go below zero: the logarithm of a negative sum has no value.
        filters = self.filters.clamp(min=0.0) if self.config.trainable else self.filters
        return torch.matmul(filters, power.transpose(1, 2)).unsqueeze(1)

    def temporary_bytes(self, n_samples: int) -> int:
        """Temporaries of one clip."""
        return spectrum_bytes(self.config, n_samples)
