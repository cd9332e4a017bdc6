"""Reverb: another room around the same sound, by convolution with synthetic or measured impulse responses."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from audiossl.errors import UserError

from .draws import Draws
from .frontend import as_float
from .wave import WaveAugmentation, fast_length, in_pieces
from .wave_noise import BANK_SAMPLES, coloured_noise, excerpts


def convolve(wave: Tensor, impulse: Tensor) -> Tensor:
    """Convolve each clip (B, S) with its own impulse response (B, R), and keep its first S samples.

    >>> convolve(torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([[1.0, 0.5]])).round(decimals=4)
    tensor([[1.0000, 0.5000, 2.0000]])
    """
    size = wave.shape[1]
    impulse = impulse[:, :size]
    n = fast_length(size + impulse.shape[1] - 1)
    product = torch.fft.rfft(wave, n).mul_(torch.fft.rfft(impulse, n))
    convolved: Tensor = torch.fft.irfft(product, n)[:, :size]
    return convolved


def synthetic_impulse(noise: Tensor, decay_s: Tensor, direct_db: Tensor, sample_rate: int) -> Tensor:
    """A room as a direct sound of 1 and noise behind it that dies away exponentially (Polack's model, 1988).

    Args:
        noise: (B, R).
        decay_s: time in which the room falls by 60 dB, (B,).
        direct_db: energy of the direct sound over that of the room, (B,).
        sample_rate: in Hz.
    """
    time_s = torch.arange(noise.shape[1], device=noise.device) / sample_rate
    room = noise * torch.exp(-math.log(1000.0) * time_s / decay_s[:, None])
    room[:, 0] = 0.0
    energy = room.square().sum(1).clamp(min=1e-20)
    room = room * (torch.pow(10.0, -direct_db / 20.0) / energy.sqrt())[:, None]
    room[:, 0] = 1.0
    return room


def aligned(impulses: Tensor) -> Tensor:
    """Impulse responses (N, R) from their peak on, as 1: a clip keeps its place and its direct sound's level."""
    impulses = as_float(impulses)
    peak = impulses.abs().argmax(1, keepdim=True)
    place = torch.arange(impulses.shape[1], device=impulses.device) + peak
    moved = torch.nn.functional.pad(impulses, (0, impulses.shape[1])).gather(1, place)
    return moved / impulses.gather(1, peak)


class Reverb(WaveAugmentation):
    """Reverb for a share of the clips.

    Args:
        probability: share of the clips.
        sample_rate: in Hz.
        decay_s: range of the time in which a synthetic room falls by 60 dB, drawn evenly in its logarithm.
        direct_db: range of the direct sound's energy over the synthetic room's.
        impulses: measured responses (N, R), floats or int16, to draw from in place of synthetic ones.

    Raises UserError for a measured response without a sound in it.
    """

    bank: Tensor

    def __init__(
        self,
        probability: float,
        sample_rate: int,
        decay_s: tuple[float, float] = (0.1, 0.6),
        direct_db: tuple[float, float] = (0.0, 12.0),
        impulses: Tensor | None = None,
    ):
        super().__init__()
        self.probability, self.sample_rate = probability, sample_rate
        self.decay_s, self.direct_db, self.synthetic = decay_s, direct_db, impulses is None
        if impulses is not None and (impulses.numel() == 0 or not bool(impulses.any(1).all())):
            raise UserError("--wave.reverb_folder holds an impulse response without a sound, or none: take it out.")
        bank = coloured_noise(BANK_SAMPLES, 0.0)[None] if impulses is None else aligned(impulses)
        self.register_buffer("bank", bank, persistent=False)

    def forward(self, wave: Tensor, draws: Draws) -> Tensor:
        """Draw for each clip and change it."""
        on = draws.coins(len(wave), self.probability)
        impulse = self._synthetic(len(wave), draws) if self.synthetic else self._measured(len(wave), draws)
        return torch.where(on[:, None], in_pieces(convolve, wave, impulse), wave)

    def _measured(self, n_clips: int, draws: Draws) -> Tensor:
        return self.bank[draws.integers(n_clips, below=len(self.bank))]

    def _synthetic(self, n_clips: int, draws: Draws) -> Tensor:
        size = max(2, round(self.decay_s[1] * self.sample_rate))
        row, start = (draws.integers(n_clips, below=below) for below in self.bank.shape)
        decay_s = draws.log_uniform(n_clips, *self.decay_s)
        direct_db = draws.uniform(n_clips, low=self.direct_db[0], high=self.direct_db[1])
        return synthetic_impulse(excerpts(self.bank, row, start, size), decay_s, direct_db, self.sample_rate)
