"""First-order scattering (Mallat, 2012; Andén & Mallat, 2014): |x * psi| * phi, a wavelet picture that skips nothing.

A wavelet picture reads its envelopes at the frames' instants; here they are averaged over every frame first, so that a
click between two frames shows and noise flickers less. phi is a Gaussian with a standard deviation of half a hop. psi
are Morlet wavelets around f, exp(-(r - 1)^2 / 2 s^2) - exp(-(r^2 + 1) / 2 s^2) with r the frequency as a multiple of f
and s such that neighbouring rows meet at half their power: for Q rows an octave and q = 2^(-1/Q), s = (1 - q) / (1 + q)
/ sqrt(ln 2), as in Kymatio. A sine of amplitude 1 has the height 1 in its row (of Kymatio's filters, of peak 1: 1/2).

Equal to the dense computation to 1e-3, and cheaper because each row's envelope is computed only as densely as it can
change: rows of about the same width share a step, a power of two of samples, and the filter bank
(`audiossl.transforms.filter_bank`) gives exactly these samples.
"""

from __future__ import annotations

import math
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import ScatteringConfig
from .cwt import log_spaced
from .filter_bank import FilterBank
from .frontend import FrontEnd, check_at_least, check_band, check_choices
from .stft import as_magnitude

# Envelopes are sampled at least this many times in the standard deviation of the filter's spectrum, and once in that of
# phi: the error of the average stays below 1e-3.
SAMPLES_PER_DEVIATION = 10.0
DEVIATIONS_TO_THE_END = 4.5  # a Gaussian is then below 5e-5 of its peak


def relative_width(config: ScatteringConfig) -> float:
    """s: standard deviation of a filter's spectrum as a share of its frequency."""
    octaves = math.log2(config.f_max / config.f_min)
    q = math.exp2(-octaves / (config.n_bins - 1))
    return (1.0 - q) / (1.0 + q) / math.sqrt(math.log(2.0))


def morlet_response(centres: Tensor, width: float, rows: slice, frequency: Tensor) -> Tensor:
    """Responses (k, n) of the sampled wavelets around `centres` (F,) in cycles a sample."""
    turns = torch.tensor([[[-1.0]], [[0.0]], [[1.0]]], dtype=frequency.dtype)  # a sampled wavelet's spectrum repeats
    ratio = (frequency + turns) / centres[rows, None]
    shape = torch.exp(-0.5 * ((ratio - 1.0) / width) ** 2) - torch.exp(-0.5 * (ratio**2 + 1.0) / width**2)
    return 2.0 / (1.0 - math.exp(-1.0 / width**2)) * shape.sum(0)


def envelope_steps(centres: Tensor, width: float, deviation: float) -> list[int]:
    """Samples between two values of each row's envelope: powers of two."""
    dense = 1.0 / (SAMPLES_PER_DEVIATION * width * centres)
    return [2 ** max(0, math.floor(math.log2(step))) for step in dense.clamp(max=deviation).tolist()]


class AveragedBank(nn.Module):
    """Wavelets whose envelopes are computed at every step-th sample, and averaged: waves (B, S) to (B, K, T).

    After `period` frames the frames lie at the same places between these samples again, `stride` of them further on: a
    matrix product with windows of the envelope makes a period of frames at once.
    """

    weights: Tensor

    def __init__(self, centres: Tensor, width: float, step: int, config: ScatteringConfig):
        super().__init__()
        self.hop_length, self.power, self.step = config.hop_length, config.power, step
        reach = math.ceil(DEVIATIONS_TO_THE_END / (2.0 * math.pi * width * float(centres.min())))
        self.bank = FilterBank(partial(morlet_response, centres, width), len(centres), reach, step)
        common = math.gcd(self.hop_length, step)
        self.period, self.stride = step // common, self.hop_length // common
        deviation = self.hop_length / 2.0
        # Whole steps in front of the wave and behind it, where phi still looks.
        self.around = step * math.ceil(DEVIATIONS_TO_THE_END * deviation / step)
        middles = self.around + self.hop_length * torch.arange(self.period, dtype=torch.float64)
        places = torch.arange(0, float(middles[-1]) + self.around + step, step, dtype=torch.float64)
        phi = torch.exp(-0.5 * ((places[:, None] - middles) / deviation) ** 2)
        self.register_buffer("weights", (phi / phi.sum(0)).float(), persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """Averaged modulus, or power, of every wavelet and frame."""
        output = self.bank(functional.pad(wave, (self.around, self.around)))
        envelope = output.real.square() + output.imag.square()
        if self.power == 1.0:
            envelope = as_magnitude(envelope)
        n_frames = 1 + wave.shape[1] // self.hop_length
        n_windows = -(-n_frames // self.period)
        needed = (n_windows - 1) * self.stride + len(self.weights)
        envelope = functional.pad(envelope, (0, needed - envelope.shape[-1]))
        windows = envelope.unfold(-1, len(self.weights), self.stride)
        return torch.matmul(windows, self.weights.to(wave.dtype)).flatten(-2)[..., :n_frames]

    def temporary_bytes(self, n_samples: int) -> int:
        """Memory that `forward` needs in passing for one clip, in bytes."""
        padded = n_samples + 2 * self.around
        n_windows = 1 + n_samples // (self.hop_length * self.period)
        values = 3 * padded // self.step + n_windows * len(self.weights)
        return self.bank.temporary_bytes(padded) + 4 * self.bank.n_filters * values


class Scattering(FrontEnd):
    """First-order scattering of waves (B, S): image (B, 1, n_bins, T) with T = 1 + S // hop_length.

    power 1 averages the wavelets' modulus, as the scattering transform does, power 2 their power. Beyond its ends the
    wave is taken as zero. Raises UserError for a single row, and a band that begins below 1 Hz or ends above half of
    sample_rate.

    >>> scattering = Scattering(ScatteringConfig(n_bins=5, f_min=500.0, f_max=2000.0, compress="none"))
    >>> wave = torch.sin(2 * torch.pi * 1000 / 16000 * torch.arange(16000))
    >>> scattering(wave[None])[0, 0, :, 48].round(decimals=2)
    tensor([0.0000, 0.1300, 1.0000, 0.3600, 0.0500])
    """

    config: ScatteringConfig

    def __init__(self, config: ScatteringConfig):
        check_scattering(config)
        frequencies = log_spaced(config.n_bins, config.f_min, config.f_max)
        super().__init__(config, frequencies)
        centres, width = frequencies / config.sample_rate, relative_width(config)
        steps = torch.tensor(envelope_steps(centres, width, config.hop_length / 2.0))
        self.banks = cast(
            "list[AveragedBank]",
            nn.ModuleList(
                AveragedBank(centres[steps == step], width, step, config) for step in sorted(set(steps.tolist()))[::-1]
            ),
        )

    def transform(self, wave: Tensor) -> Tensor:
        """Averaged modulus, or power, before compression."""
        return torch.cat([bank(wave) for bank in self.banks], dim=1).unsqueeze(1)

    def temporary_bytes(self, n_samples: int) -> int:
        """Temporaries of one clip: those of the largest bank."""
        return max(bank.temporary_bytes(n_samples) for bank in self.banks)


def check_scattering(config: ScatteringConfig) -> None:
    """Raise UserError for settings that cannot work, naming the setting and the remedy."""
    check_choices(config, power=(1.0, 2.0))
    check_at_least(config, 2, "n_bins")
    check_at_least(config, 1, "f_min")
    check_band(config)
