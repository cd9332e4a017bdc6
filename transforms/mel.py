"""Mel picture: the power spectrum summed under triangles that are equally wide on the mel scale.

Filters as in Slaney's Auditory Toolbox (1998; librosa's default) or HTK (Young et al., The HTK Book),
computed here in float64 and equal to librosa's to 1e-6. BYOL-A loses about 1.5 points with HTK filters
without norm, so Slaney's scale and norm are the defaults.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from audiossl.errors import UserError

from .config import MelConfig
from .frontend import FrontEnd, check_at_least, check_choices
from .stft import as_magnitude, build_spectrum, check_fourier, spectrum_bytes

# Slaney: linear below 1 kHz with 200/3 Hz a mel, above it 27 mels for a factor of 6.4.
SLANEY_STEP_HZ = 200.0 / 3.0
SLANEY_BREAK_HZ = 1000.0
SLANEY_LOG_STEP = math.log(6.4) / 27.0

# Filters that share a product: together they need few of the Fourier bins. 8 to 32 measured alike on a CPU, and 128
# rows at n_fft 2048 take about a quarter of the time of one product of all.
BAND_ROWS = 16
Band = tuple[slice, slice]


def hz_to_mel(hz: Tensor, scale: str) -> Tensor:
    """Mels of frequencies in Hz on the "slaney" or "htk" scale.

    >>> hz_to_mel(torch.tensor([600.0, 1000.0, 6400.0]), "slaney").tolist()
    [9.0, 15.0, 42.0]
    """
    if scale == "htk":
        return 2595.0 * torch.log10(1.0 + hz / 700.0)
    linear = hz / SLANEY_STEP_HZ
    above = SLANEY_BREAK_HZ / SLANEY_STEP_HZ + (hz / SLANEY_BREAK_HZ).clamp(min=1.0).log() / SLANEY_LOG_STEP
    return torch.where(hz < SLANEY_BREAK_HZ, linear, above)


def mel_to_hz(mel: Tensor, scale: str) -> Tensor:
    """Frequencies in Hz of mels: the inverse of `hz_to_mel`."""
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    break_mel = SLANEY_BREAK_HZ / SLANEY_STEP_HZ
    above = SLANEY_BREAK_HZ * ((mel - break_mel) * SLANEY_LOG_STEP).exp()
    return torch.where(mel < break_mel, mel * SLANEY_STEP_HZ, above)


def mel_edges(n_bins: int, f_min: float, f_max: float, scale: str) -> Tensor:
    """Corners of the triangles (n_bins + 2,) in Hz, float64: filter m spans m to m + 2, its peak at m + 1."""
    ends = hz_to_mel(torch.tensor([f_min, f_max], dtype=torch.float64), scale)
    steps = torch.linspace(0.0, 1.0, n_bins + 2, dtype=torch.float64)
    return mel_to_hz(ends[0] + (ends[1] - ends[0]) * steps, scale)


def mel_filters(config: MelConfig) -> Tensor:
    """Triangular filters (n_bins, n_fft / 2 + 1) in float64; norm "slaney" gives each the area of 1 Hz."""
    edges = mel_edges(config.n_bins, config.f_min, config.f_max, config.mel_scale)
    bins = torch.arange(config.n_fft // 2 + 1, dtype=torch.float64) * config.sample_rate / config.n_fft
    low, centre, high = (edges[i : i + config.n_bins, None] for i in range(3))
    filters = torch.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)).clamp(min=0.0)
    return filters * (2.0 / (high - low)) if config.norm == "slaney" else filters


def bands_of(filters: Tensor) -> list[Band]:
    """Groups of neighbouring filters (n_bins, K) and the span of Fourier bins outside which all of a group are 0.

    >>> bands_of(mel_filters(MelConfig(n_bins=32)))
    [(slice(0, 16, None), slice(4, 116, None)), (slice(16, 32, None), slice(106, 500, None))]
    """
    bands = []
    for first in range(0, len(filters), BAND_ROWS):
        rows = slice(first, min(first + BAND_ROWS, len(filters)))
        used = filters[rows].amax(0).nonzero()[:, 0]
        bands.append((rows, slice(int(used[0]), int(used[-1]) + 1)))
    return bands


def band_sums(filters: Tensor, bands: list[Band], power: Tensor) -> Tensor:
    """Power (B, T, K) summed under filters (n_bins, K), skipping what is 0: (B, n_bins, T)."""
    columns = power.transpose(1, 2)
    return torch.cat([torch.matmul(filters[rows, bins], columns[:, bins]) for rows, bins in bands], 1)


def check_mel(config: MelConfig, rows: str = "n_bins") -> None:
    """Raise UserError for mel settings that cannot work; `rows` is the setting that n_bins was given by."""
    check_fourier(config)
    check_choices(config, mel_scale=("slaney", "htk"), norm=("slaney", "none"), power=(2.0, 1.0))
    check_at_least(config, 1, "n_bins")
    empty = int((mel_filters(config).amax(dim=1) == 0).sum())
    if empty:
        raise UserError(
            f"{empty} of {rows}={config.n_bins} mel filters contain no bin of n_fft={config.n_fft}: "
            f"lower {rows} or raise n_fft."
        )


class Mel(FrontEnd):
    """Mel picture of waves (B, S): image (B, 1, n_bins, T) with T = 1 + S // hop_length.

    Raises UserError when a filter would be empty (its row constant), or for unknown scales and norms.

    >>> mel = Mel(MelConfig())
    >>> mel.frequencies[[0, -1]].round().tolist()
    [105.0, 7445.0]
    """

    config: MelConfig
    filters: Tensor

    def __init__(self, config: MelConfig):
        check_mel(config)
        edges = mel_edges(config.n_bins, config.f_min, config.f_max, config.mel_scale)
        super().__init__(config, edges[1:-1])
        self.spectrum = build_spectrum(config)
        filters = mel_filters(config).to(torch.float32)
        # A trained filter may grow anywhere: one band that holds all.
        self.bands = [(slice(None), slice(None))] if config.trainable else bands_of(filters)
        if config.trainable:
            self.filters = nn.Parameter(filters)
        else:
            self.register_buffer("filters", filters, persistent=False)

    def transform(self, wave: Tensor) -> Tensor:
        """Mel power, or mel-summed magnitude, before compression."""
        # A trained filter may not go below zero: the logarithm of a negative sum has no value.
        filters = self.filters.clamp(min=0.0) if self.config.trainable else self.filters
        sums = [band_sums(filters, self.bands, self._values(power)) for power in self.spectrum.blocks(wave)]
        return (sums[0] if len(sums) == 1 else torch.cat(sums, dim=-1)).unsqueeze(1)

    def _values(self, power: Tensor) -> Tensor:
        return as_magnitude(power) if self.config.power == 1.0 else power

    def temporary_bytes(self, n_samples: int) -> int:
        """Temporaries of one clip."""
        return spectrum_bytes(self.config, n_samples)
