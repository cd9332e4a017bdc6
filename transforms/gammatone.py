"""Gammatone picture: filters shaped like the ear's, each one ERB wide and equally spaced on the ERB-number scale.

The filter at f Hz has the impulse response t^3 exp(-2 pi b t) exp(2 pi i f t), order 4 (Patterson et al., 1987), with
b = 1.019 ERB(f) and ERB(f) = 24.7 (4.37 f / 1000 + 1) Hz; rows are equally spaced in 21.4 log10(4.37 f / 1000 + 1)
(Glasberg & Moore, 1990). A sine of amplitude 1 has the height 1 in its row. Filters are moved ahead by the time to
their peak, 3 / (2 pi b), to the nearest sample, so that a click lies at one time in all rows.

Backend "fft" is the output of these very filters at every hop-th sample, exact but for 2e-3 (see
`audiossl.transforms.filter_bank`): it keeps the ear's time resolution, 15 ms at 60 Hz and 1 ms at 8 kHz. Backend
"nnaudio" is another picture under the same curves: nnAudio's gammatonegram (Ellis, 2009) sums the bins of a short-time
Fourier transform under the filters' magnitude responses, here raised to `power`. Its kernels can be trained. Both agree
to 2 percent in the mean over time of noise. Their logarithms correlate by 0.99 for a chirp but by 0.7 for noise, whose
flicker within n_fft samples the Fourier transform averages.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from audiossl.errors import UserError

from .config import GammatoneConfig, StftConfig
from .filter_bank import FilterBankFrontEnd
from .frontend import check_at_least, check_band, check_choices
from .stft import NnAudioSpectrum, as_magnitude, hann, spectrum_bytes

ORDER = 4
ERB_OF_0_HZ = 24.7
ERB_PER_HZ = 24.7 * 4.37e-3
B_PER_ERB = 1.019  # makes the equivalent rectangular bandwidth of order 4 one ERB
DECAYS_TO_THE_END = 18.0  # after 18 / (2 pi b) seconds t^3 exp(-2 pi b t) is below 1e-4 of its peak


def erb_number(hz: Tensor) -> Tensor:
    """Number of equivalent rectangular bandwidths below frequencies in Hz.

    >>> erb_number(torch.tensor([0.0, 1000.0])).round(decimals=1)
    tensor([ 0.0000, 15.6000])
    """
    return 21.4 * torch.log10(1.0 + 4.37e-3 * hz)


def erb_spaced(n_bins: int, f_min: float, f_max: float) -> Tensor:
    """Frequencies (n_bins,) in Hz, float64, equally spaced in ERB number from f_min to f_max."""
    low, high = erb_number(torch.tensor([f_min, f_max], dtype=torch.float64)).tolist()
    return (10.0 ** (torch.linspace(low, high, n_bins, dtype=torch.float64) / 21.4) - 1.0) / 4.37e-3


def decay_rates(frequencies: Tensor, sample_rate: int) -> Tensor:
    """Decay 2 pi b of the filters at frequencies (F,) in Hz, in nepers a sample."""
    return 2.0 * math.pi * B_PER_ERB / sample_rate * (ERB_OF_0_HZ + ERB_PER_HZ * frequencies)


def gammatone_response(centres: Tensor, decays: Tensor, rows: slice, frequency: Tensor) -> Tensor:
    """Responses (k, n) of the sampled filters around `centres` (F,) in cycles a sample, their peaks moved to sample 0.

    The sum of n^3 w^n is w (1 + 4 w + w^2) / (1 - w)^4, with w the decay and turn from sample to sample.
    """
    centre, decay = centres[rows, None], decays[rows, None]

    def series(w: Tensor) -> Tensor:
        return w * (1.0 + 4.0 * w + w**2) / (1.0 - w) ** ORDER

    height = 2.0 / series(torch.exp(-decay))
    ahead = ((ORDER - 1) / decay).round()
    phase = 2.0 * math.pi * frequency
    step = torch.polar(torch.exp(-decay).expand(-1, len(frequency)), 2.0 * math.pi * centre - phase)
    return height * series(step) * torch.polar(torch.ones_like(step.real), ahead * phase)


class Gammatonegram(nn.Module):
    """Bins of a short-time Fourier transform summed under nnAudio's gammatone weights: (B, S) to (B, F, T)."""

    weights: Tensor

    def __init__(self, config: GammatoneConfig):
        super().__init__()
        from nnAudio.utils import get_gammatone

        self.power, self.trainable = config.power, config.trainable
        self.fourier = fourier_settings(config)
        self.spectrum = NnAudioSpectrum(self.fourier)
        # nnAudio puts the highest row a step below its fmax; moved up, both backends have the same rows.
        edge = ERB_OF_0_HZ / ERB_PER_HZ
        step = ((config.f_max + edge) / (config.f_min + edge)) ** (1.0 / max(config.n_bins - 1, 1))
        fmax = (config.f_max + edge) * step - edge
        rows = get_gammatone(config.sample_rate, config.n_fft, config.n_bins, config.f_min, fmax)
        curves = torch.as_tensor(rows.copy()) * config.n_fft  # peaks of 1
        # What a sine of amplitude 1 sums to over all bins, half of the window's spectrum: it gets height 1.
        window = torch.fft.fft(hann(config.n_fft, config.n_fft)).abs() / 2.0
        weights = (curves**config.power / window.pow(config.power).sum()).to(torch.float32)
        if config.trainable:
            self.weights = nn.Parameter(weights)
        else:
            self.register_buffer("weights", weights, persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """Power, or magnitude, of every row and frame."""
        spectrum = self.spectrum(wave)
        if self.power == 1.0:
            spectrum = as_magnitude(spectrum)
        # A trained curve may not go below zero: the logarithm of a negative sum has no value.
        weights = self.weights.clamp(min=0.0) if self.trainable else self.weights
        return torch.matmul(weights, spectrum.transpose(1, 2))


def fourier_settings(config: GammatoneConfig) -> StftConfig:
    """Settings of the Fourier transform under the gammatonegram."""
    return StftConfig(
        sample_rate=config.sample_rate,
        hop_length=config.hop_length,
        backend="nnaudio",
        n_fft=config.n_fft,
        win_length=config.n_fft,
        trainable=config.trainable,
    )


def check_gammatone(config: GammatoneConfig) -> None:
    """Raise UserError for settings that cannot work, naming the setting and the remedy."""
    check_choices(config, backend=("fft", "nnaudio"), power=(2.0, 1.0))
    check_at_least(config, 1, "n_bins", "n_fft")
    check_band(config)
    if config.n_fft % 2:
        raise UserError(f"n_fft={config.n_fft} must be even, so that a frame has a centre.")
    if config.trainable and config.backend != "nnaudio":
        raise UserError("trainable=true needs backend=nnaudio: the filter bank has no kernels to train.")


class Gammatone(FilterBankFrontEnd):
    """Gammatone picture of waves (B, S): image (B, 1, n_bins, T) with T = 1 + S // hop_length.

    Raises UserError for an unknown backend, and for trainable filters of the backend that has none.

    >>> gammatone = Gammatone(GammatoneConfig(n_bins=3, f_min=500.0, f_max=2000.0, compress="none"))
    >>> gammatone.frequencies.round().tolist()
    [500.0, 1046.0, 2000.0]
    >>> wave = torch.sin(2 * torch.pi * 500 / 16000 * torch.arange(16000))
    >>> gammatone(wave[None])[0, 0, :, 48].round(decimals=2)
    tensor([1., 0., 0.])
    """

    config: GammatoneConfig

    def __init__(self, config: GammatoneConfig):
        check_gammatone(config)
        frequencies = erb_spaced(config.n_bins, config.f_min, config.f_max)
        decays = decay_rates(frequencies, config.sample_rate)
        response = partial(gammatone_response, frequencies / config.sample_rate, decays)
        super().__init__(config, frequencies, response, reach=math.ceil(DECAYS_TO_THE_END / float(decays.min())))
        self.nnaudio = Gammatonegram(config) if config.backend == "nnaudio" else None

    def transform(self, wave: Tensor) -> Tensor:
        """Power, or magnitude, before compression."""
        if self.nnaudio is None:
            return super().transform(wave)
        image: Tensor = self.nnaudio(wave).unsqueeze(1)
        return image

    def temporary_bytes(self, n_samples: int) -> int:
        """Temporaries of one clip."""
        if self.nnaudio is None:
            return super().temporary_bytes(n_samples)
        return spectrum_bytes(self.nnaudio.fourier, n_samples)
