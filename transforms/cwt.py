"""Continuous wavelet transform: one wavelet, stretched to rows that are equally wide in octaves.

The wavelets are analytic (no negative frequencies, hence none above half of sample_rate) and given by their Fourier
transforms, with r the frequency as a multiple of the row's and a peak of 2 at r = 1: a sine of amplitude 1 has height 1
in its row, whatever the scale (the L1 norm of the literature; the L2 norm would favour low frequencies):

    morlet        exp(-w0^2 (r - 1)^2 / 2), less what makes it 0 at r = 0; the standard deviation of its length is
                  w0 / (2 pi f) seconds. PyWavelets' cmorB-C is w0 = 2 pi C sqrt(B / 2).
    morse         r^beta exp(-(beta / gamma) (r^gamma - 1)), generalised Morse: Olhede & Walden (2002).
    mexican_hat   r^2 exp(1 - r^2), its positive half: the output's real part is the transform with the real wavelet
                  (peak 1), and the picture shows its envelope, which does not blink with the wave's phase.

Towards half of sample_rate responses end in half a cosine, 1/40 of the rate wide; cut off, the top rows would ring for
as long as the clip. Exact but for 1e-3: see `audiossl.transforms.filter_bank`, which computes only every hop-th sample.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from audiossl.errors import UserError

from .config import CwtConfig
from .filter_bank import FilterBankFrontEnd
from .frontend import check_at_least, check_band, check_choices

# A wavelet is over where less than this share of its energy is left outside (an amplitude of 1e-4).
ENERGY_OUTSIDE = 1e-8
# Responses fall off so steeply that this costs a sixth more than 1e-3, and rows beside a loud band stay exact to 1e-3.
TOLERANCE = 1e-4
# Half the width of the slope at half of sample_rate, in cycles a sample: 200 Hz at 16 kHz.
SLOPE = 1.0 / 80.0


def log_spaced(n_bins: int, f_min: float, f_max: float) -> Tensor:
    """Frequencies (n_bins,) in float64 with equal ratios from f_min to f_max.

    >>> log_spaced(4, 100.0, 800.0).tolist()
    [100.0, 200.0, 400.0, 800.0]
    """
    octaves = torch.linspace(0.0, math.log2(f_max / f_min), n_bins, dtype=torch.float64)
    return f_min * torch.exp2(octaves)


def wavelet_transform(config: CwtConfig, ratio: Tensor) -> Tensor:
    """Fourier transform of the configured wavelet at multiples of its peak frequency, each at least 0."""
    if config.wavelet == "morlet":
        square = config.w0**2
        shape = torch.exp(-0.5 * square * (ratio - 1.0) ** 2) * (1.0 - torch.exp(-square * ratio))
        return 2.0 * shape / (1.0 - math.exp(-square))
    if config.wavelet == "morse":
        beta, gamma = config.beta, config.gamma
        return 2.0 * torch.exp(beta * ratio.log() - beta / gamma * (ratio**gamma - 1.0))
    return 2.0 * ratio**2 * torch.exp(1.0 - ratio**2)


def wavelet_response(config: CwtConfig, centres: Tensor, rows: slice, frequency: Tensor) -> Tensor:
    """Responses (k, n) of the wavelets around `centres` (F,), cycles a sample: 0 below 0 and above 1/2 + SLOPE."""
    ratio = frequency.clamp(min=0.0) / centres[rows, None]
    slope = 0.5 - 0.5 * torch.sin((frequency - 0.5).clamp(-SLOPE, SLOPE) * (math.pi / (2.0 * SLOPE)))
    return torch.where(frequency > 0.0, wavelet_transform(config, ratio) * slope, 0.0)


def periods_to_the_end(config: CwtConfig) -> float:
    """Periods of its peak frequency from the wavelet's middle to where it is over."""
    n_samples, period = 2**16, 16
    frequency = torch.fft.fftfreq(n_samples, dtype=torch.float64)
    centre = torch.tensor([1.0 / period], dtype=torch.float64)
    wavelet = torch.fft.ifft(wavelet_response(config, centre, slice(0, 1), frequency)[0])
    energy = wavelet[: n_samples // 2].abs().square()
    outside = energy.flip(0).cumsum(0).flip(0)
    return int((outside > ENERGY_OUTSIDE * outside[0]).sum()) / period


def check_cwt(config: CwtConfig) -> None:
    """Raise UserError for settings that no wavelet transform can be built from, naming the setting and the remedy."""
    check_choices(config, wavelet=("morlet", "morse", "mexican_hat"), power=(2.0, 1.0))
    check_at_least(config, 1, "n_bins", "beta", "gamma")
    check_at_least(config, 3, "w0")  # below, the peak leaves r = 1 by more than a thousandth
    check_band(config)
    if config.f_min == 0:
        raise UserError("f_min=0 Hz is no row of a wavelet transform, whose wavelets would never end: raise f_min.")


class Cwt(FilterBankFrontEnd):
    """Wavelet picture of waves (B, S): image (B, 1, n_bins, T) with T = 1 + S // hop_length, rows at f_min ... f_max.

    Raises UserError for unknown wavelets, a w0 below 3, and a band that begins at 0 or ends above half of sample_rate.

    >>> cwt = Cwt(CwtConfig(n_bins=3, f_min=500.0, f_max=2000.0, compress="none"))
    >>> wave = torch.sin(2 * torch.pi * 1000 / 16000 * torch.arange(16000))
    >>> cwt(wave[None])[0, 0, :, 48].round(decimals=2)
    tensor([0., 1., 0.])
    """

    config: CwtConfig

    def __init__(self, config: CwtConfig):
        check_cwt(config)
        frequencies = log_spaced(config.n_bins, config.f_min, config.f_max)
        centres = frequencies / config.sample_rate
        reach = math.ceil(max(periods_to_the_end(config) / float(centres[0]), 2.0 / SLOPE))
        super().__init__(config, frequencies, partial(wavelet_response, config, centres), reach, TOLERANCE)
