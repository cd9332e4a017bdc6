"""Filters of the waveform in the Fourier domain: a tilt over frequency, and low-, high- and band-pass filters.

The passes are the usual digital filters of second order (bilinear transform of the analogue ones, as in R.
Bristow-Johnson's Audio EQ Cookbook), evaluated at the frequencies of one transform of the clip and 0.1 s of zeros, in
which the filters' memory dies away: equal to the recursion within 1e-4 of the peak from 50 Hz up, without a loop over
samples.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from audiossl.errors import UserError

from .draws import Draws
from .wave import WaveAugmentation, fast_length, in_pieces

PAD_S = 0.1
LOWEST_HZ = 20.0  # a tilt is level below it: the logarithm has no end at 0 Hz

Pass = Literal["low", "high", "band"]


def filter_length(n_samples: int, sample_rate: int) -> int:
    """Length of the transform for clips of `n_samples`."""
    return fast_length(n_samples + math.ceil(PAD_S * sample_rate))


def filtered(wave: Tensor, response: Tensor, n_fft: int) -> Tensor:
    """Multiply the spectrum of `n_fft` samples by a response (B, n_fft // 2 + 1), real or complex."""
    filtered: Tensor = torch.fft.irfft(torch.fft.rfft(wave, n_fft) * response, n_fft)[:, : wave.shape[1]]
    return filtered


def tilt(wave: Tensor, octave_db: Tensor, sample_rate: int, pivot_hz: float = 1000.0) -> Tensor:
    """Raise the level by `octave_db` (B,) an octave, 0 dB at the pivot, level below 20 Hz; without delay.

    >>> tone = torch.sin(2 * torch.pi * 2000 * torch.arange(16000) / 16000)[None]
    >>> bool((tilt(tone, torch.tensor([-6.0]), 16000)[:, 4000:8000].abs().max() - 0.5012).abs() < 1e-3)
    True
    """
    n_fft = filter_length(wave.shape[1], sample_rate)
    frequency = torch.arange(n_fft // 2 + 1, device=wave.device) * (sample_rate / n_fft)
    octaves = (frequency.clamp(min=LOWEST_HZ) / pivot_hz).log2()
    return filtered(wave, torch.pow(10.0, octave_db[:, None] / 20.0 * octaves), n_fft)


def pass_filter(wave: Tensor, kind: Pass, frequency_hz: Tensor, q: float, sample_rate: int) -> Tensor:
    """Filter of second order: low- or high-pass with its corner, or band-pass with its middle, at `frequency_hz` (B,).

    Args:
        wave: (B, S).
        kind: low, high or band (0 dB in the middle).
        frequency_hz: below half of the sample rate.
        q: 0.7071 for a flat pass band of low and high; of band the middle over the width at -3 dB.
        sample_rate: in Hz.
    """
    n_fft = filter_length(wave.shape[1], sample_rate)
    angle = torch.arange(n_fft // 2 + 1, device=wave.device) * (math.pi / n_fft)
    # The bilinear transform: the analogue filter at tan(w / 2) / tan(w0 / 2), here and in x = s / j.
    x = angle.tan() / (frequency_hz * (math.pi / sample_rate)).tan()[:, None]
    below = torch.complex(1.0 - x.square(), x / q)
    if kind == "low":
        return filtered(wave, below.reciprocal(), n_fft)
    above = -x.square() if kind == "high" else torch.complex(torch.zeros_like(x), x / q)
    return filtered(wave, above / below, n_fft)


class Tilt(WaveAugmentation):
    """Tilt the spectrum by up to `most_db` an octave, up or down: another microphone or distance."""

    def __init__(self, most_db: float, sample_rate: int, pivot_hz: float = 1000.0):
        super().__init__()
        self.most_db, self.sample_rate, self.pivot_hz = most_db, sample_rate, pivot_hz

    def forward(self, wave: Tensor, draws: Draws) -> Tensor:
        """Draw for each clip and change it."""
        octave_db = draws.uniform(len(wave), low=-self.most_db, high=self.most_db)
        return in_pieces(lambda part, slope: tilt(part, slope, self.sample_rate, self.pivot_hz), wave, octave_db)


class PassFilter(WaveAugmentation):
    """Low-, high- or band-pass filter for a share of the clips, its frequency drawn evenly in octaves.

    Raises UserError when a frequency is not below half of the sample rate.
    """

    def __init__(
        self, kind: Pass, probability: float, sample_rate: int, range_hz: tuple[float, float], q: float = 0.5**0.5
    ):
        super().__init__()
        if range_hz[1] >= sample_rate / 2:
            raise UserError(
                f"--wave.{kind}_pass_hz reaches {range_hz[1]:g} Hz, and half of the sample rate is "
                f"{sample_rate / 2:g} Hz: lower it."
            )
        self.kind: Pass = kind
        self.probability, self.sample_rate, self.range_hz, self.q = probability, sample_rate, range_hz, q

    def forward(self, wave: Tensor, draws: Draws) -> Tensor:
        """Draw for each clip and change it."""
        on = draws.coins(len(wave), self.probability)
        frequency_hz = draws.log_uniform(len(wave), *self.range_hz)
        changed = in_pieces(
            lambda part, hz: pass_filter(part, self.kind, hz, self.q, self.sample_rate), wave, frequency_hz
        )
        return torch.where(on[:, None], changed, wave)
