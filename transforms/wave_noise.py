"""Noise behind a clip at a given signal-to-noise ratio: white, pink, or excerpts of recordings."""

from __future__ import annotations

import torch
from torch import Tensor

from audiossl.errors import UserError

from .draws import Draws
from .frontend import as_float
from .wave import WaveAugmentation

# White and pink noise are made once, 65 s of it at 16 kHz, and clips hear excerpts of it: a step then draws one number
# a clip on the CPU in place of one a sample, and every device hears the same.
BANK_SAMPLES = 2**20
BANK_SEED = 1


def coloured_noise(n_samples: int, octave_db: float, seed: int = BANK_SEED) -> Tensor:
    """Noise (n_samples,) of mean square 1 whose power rises by `octave_db` an octave: 0 is white, -3.0103 pink.

    Shaped in the Fourier domain, so that it goes round without a seam; it has no constant part unless it is white.
    """
    noise = torch.randn(n_samples, generator=torch.Generator().manual_seed(seed))
    if octave_db:
        spectrum = torch.fft.rfft(noise)
        bins = torch.arange(len(spectrum), dtype=torch.float64).clamp(min=1.0)
        amplitude = torch.pow(10.0, octave_db / 20.0 * bins.log2()).float()
        amplitude[0] = 0.0
        noise = torch.fft.irfft(spectrum * amplitude, n_samples)
    return noise / noise.square().mean().sqrt()


def excerpts(bank: Tensor, row: Tensor, start: Tensor, n_samples: int) -> Tensor:
    """Cut (B, n_samples) out of a bank (N, S') from `start` (B,) of `row` (B,); a row begins anew at its end."""
    size = bank.shape[1]
    place = (start[:, None] + torch.arange(n_samples, device=bank.device)).remainder(size)
    return as_float(bank.flatten()[row[:, None] * size + place])


def add_noise(wave: Tensor, noise: Tensor, snr_db: Tensor) -> Tensor:
    """Add `noise` (B, S), scaled so that the wave's mean power over the noise's is `snr_db` (B,).

    Silence stays silent, silent noise adds nothing, and so does an infinite `snr_db`.

    >>> wave, noise = torch.ones(1, 4), torch.tensor([[2.0, -2.0, 2.0, -2.0]])
    >>> add_noise(wave, noise, torch.tensor([20.0]))
    tensor([[1.1000, 0.9000, 1.1000, 0.9000]])
    """
    ratio = wave.square().mean(1) / noise.square().mean(1).clamp(min=1e-20)
    scale = ratio.sqrt() * torch.pow(10.0, -snr_db / 20.0)
    return wave + scale[:, None] * noise


class Noise(WaveAugmentation):
    """Noise behind a share of the clips, its level drawn evenly in dB.

    Args:
        probability: share of the clips.
        snr_db: range of signal to noise, both as mean power over the clip.
        colour: white, pink, or folder for excerpts of `bank`.
        bank: recordings (N, S'), floats or int16, at the clips' sample rate; a row begins anew at its end.

    Raises UserError for colour folder without a bank.
    """

    bank: Tensor

    def __init__(
        self,
        probability: float,
        snr_db: tuple[float, float] = (5.0, 30.0),
        colour: str = "pink",
        bank: Tensor | None = None,
    ):
        super().__init__()
        self.probability, self.snr_db, self.colour = probability, snr_db, colour
        if colour != "folder":
            bank = coloured_noise(BANK_SAMPLES, {"white": 0.0, "pink": -3.0103}[colour])[None]
        elif bank is None or bank.numel() == 0:
            raise UserError("--wave.noise_colour folder has no recordings: name their folder with --wave.noise_folder.")
        self.register_buffer("bank", bank, persistent=False)

    def forward(self, wave: Tensor, draws: Draws) -> Tensor:
        """Draw for each clip and change it."""
        n_clips, (low, high) = len(wave), self.snr_db
        snr_db = draws.uniform(n_clips, low=low, high=high).masked_fill(
            ~draws.coins(n_clips, self.probability), torch.inf
        )
        row, start = (draws.integers(n_clips, below=size) for size in self.bank.shape)
        return add_noise(wave, excerpts(self.bank, row, start, wave.shape[1]), snr_db)
