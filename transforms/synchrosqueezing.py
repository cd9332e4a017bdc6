"""Synchrosqueezing (Daubechies, Lu & Wu, 2011): wavelet power moved to the frequency at which its phase turns.

A wavelet's output W around a steady tone turns at the tone's frequency, whatever the wavelet's own: cells of several
rows are put together in the one row of the frequency Im(W' / W) / 2 pi. The derivative W' is the output of filters with
the response 2 pi i f H, taken from the same Fourier transform (`audiossl.transforms.filter_bank`), hence exact at every
frame; differences between frames would not do at a hop of 10 ms.

Wavelets are Morlet's as in `audiossl.transforms.cwt`, `voices` of them a row and some beyond the band. Powers are
divided by the sum of the squared heights that a sine has in all of them, so that a sine of amplitude 1 has the height 1
in its row, and the other rows hold nothing. Cells below `threshold` of the clip's largest magnitude are left out, and
those that turn at a frequency outside of the band; all other power is kept. The place of a cell has no gradient, its
power has.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from audiossl.errors import UserError

from .config import CwtConfig, SynchrosqueezingConfig
from .cwt import check_cwt, log_spaced, periods_to_the_end, wavelet_response
from .filter_bank import FilterBank
from .frontend import FrontEnd, check_at_least

# Finer than the wavelet picture's 1e-3: where one of W and W' is cut off and the other is not, the frequency is wrong.
TOLERANCE = 1e-4
# Wavelets beyond the band: 3 deviations of their spectrum, where a sine at the band's end has 1e-2 of its height.
DEVIATIONS_BEYOND = 3.0


def wavelet_settings(config: SynchrosqueezingConfig) -> CwtConfig:
    """Settings of the wavelet transform underneath."""
    return CwtConfig(
        sample_rate=config.sample_rate,
        hop_length=config.hop_length,
        f_min=config.f_min,
        f_max=config.f_max,
        wavelet="morlet",
        w0=config.w0,
    )


def wavelet_frequencies(config: SynchrosqueezingConfig) -> Tensor:
    """Frequencies (K,) of the wavelets in Hz, float64: every voices-th is a row's."""
    ratio = (config.f_max / config.f_min) ** (1.0 / (config.voices * (config.n_bins - 1)))
    beyond = math.ceil(math.log1p(DEVIATIONS_BEYOND / config.w0) / math.log(ratio))
    steps = torch.arange(-beyond, config.voices * (config.n_bins - 1) + beyond + 1, dtype=torch.float64)
    frequencies: Tensor = config.f_min * ratio**steps
    return frequencies


def check_synchrosqueezing(config: SynchrosqueezingConfig) -> None:
    """Raise UserError for settings that cannot work, naming the setting and the remedy."""
    check_at_least(config, 2, "n_bins")
    check_at_least(config, 1, "voices")
    check_at_least(config, 0, "threshold")
    if config.threshold >= 1:
        raise UserError(f"threshold={config.threshold:g} leaves every cell out: choose a share from 0 to below 1.")
    check_cwt(wavelet_settings(config))


class Synchrosqueezing(FrontEnd):
    """Synchrosqueezed wavelet picture of waves (B, S): image (B, 1, n_bins, T) with T = 1 + S // hop_length.

    Raises UserError for fewer than 2 rows, no voices, a w0 below 3, and a band that begins at 0 or ends above half of
    sample_rate.

    >>> config = SynchrosqueezingConfig(n_bins=5, f_min=500.0, f_max=2000.0, voices=8, compress="none")
    >>> wave = torch.sin(2 * torch.pi * 1000 / 16000 * torch.arange(16000))
    >>> Synchrosqueezing(config)(wave[None])[0, 0, :, 48].round(decimals=2)
    tensor([0., 0., 1., 0., 0.])
    """

    config: SynchrosqueezingConfig

    def __init__(self, config: SynchrosqueezingConfig):
        check_synchrosqueezing(config)
        super().__init__(config, log_spaced(config.n_bins, config.f_min, config.f_max))
        settings = wavelet_settings(config)
        centres = wavelet_frequencies(config) / config.sample_rate
        self.n_wavelets = len(centres)
        reach = math.ceil(periods_to_the_end(settings) / float(centres[0]))
        response = partial(self._response, settings, centres)
        self.bank = FilterBank(response, 2 * self.n_wavelets, reach, config.hop_length, TOLERANCE)
        # What a sine of amplitude 1 leaves in all wavelets together, were there no end to them on both sides.
        ratios = (centres[1] / centres[0]) ** torch.arange(-4096, 4097, dtype=torch.float64)
        near = 0.01 * ratios[(ratios > 0.1) & (ratios < 10.0)]
        heights = wavelet_response(settings, near, slice(None), torch.tensor([0.01], dtype=torch.float64)) / 2.0
        self.norm = float(heights.square().sum())

    @staticmethod
    def _response(settings: CwtConfig, centres: Tensor, rows: slice, frequency: Tensor) -> Tensor:
        """Responses (k, n) of the wavelets and, in the rows behind them, of their derivatives / 2 pi i."""
        n = len(centres)
        chosen = range(2 * n)[rows]
        wavelets = wavelet_response(settings, centres.repeat(2), rows, frequency)
        derived = torch.tensor([row >= n for row in chosen])[:, None]
        return torch.where(derived, frequency * wavelets, wavelets)

    def transform(self, wave: Tensor) -> Tensor:
        """Power put together in the rows, before compression."""
        outputs = self.bank(wave)
        wavelets, derived = outputs[:, : self.n_wavelets], outputs[:, self.n_wavelets :]
        power = wavelets.real.square() + wavelets.imag.square()
        with torch.no_grad():
            turn = (derived * wavelets.conj()).real / power.clamp(min=torch.finfo(power.dtype).tiny)
            rows, kept = self._rows(turn)
            kept &= power > self.config.threshold**2 * power.amax((1, 2), keepdim=True)
        image = power.new_zeros(len(wave), self.n_bins, power.shape[-1])
        squeezed: Tensor = (image.scatter_add(1, rows, power * kept) / self.norm).unsqueeze(1)
        return squeezed

    def _rows(self, turn: Tensor) -> tuple[Tensor, Tensor]:
        """Row of each frequency in cycles a sample, and whether it lies in the band; rows reach half a step around."""
        config = self.config
        ratio = (turn * (config.sample_rate / config.f_min)).clamp(min=1e-6)
        place = (ratio.log() * ((self.n_bins - 1) / math.log(config.f_max / config.f_min))).round()
        inside = (place >= 0) & (place < self.n_bins)
        return place.clamp(0, self.n_bins - 1).long(), inside

    def temporary_bytes(self, n_samples: int) -> int:
        """Temporaries of one clip."""
        return self.bank.temporary_bytes(n_samples) + 48 * self.n_wavelets * self.n_frames(n_samples)
