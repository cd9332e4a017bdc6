"""Augmentations of the waveform: level, polarity and place in time, and what all of them share.

Each augmentation is a function with its numbers as arguments, one a clip, and a module that draws them. They work on a
batch (B, S) at once, on the device, and draw from `Draws`, so that every device hears the same. The others stand in
`wave_noise`, `wave_reverb`, `wave_filters` and `wave_speed`; `wave_augment` puts them in a row.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .draws import Draws

PIECE_SAMPLES = 2**18  # of the batch at a time on a CPU: 16 clips of 1 s, whose spectra stay in the cache


class WaveAugmentation(nn.Module):
    """Base of the augmentations: wave (B, S) float32 and `Draws` to a wave of the same shape."""

    def forward(self, wave: Tensor, draws: Draws) -> Tensor:
        """Draw for each clip and change it."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Show the parameters in `print(module)`."""
        shown = {key: value for key, value in vars(self).items() if key[0] != "_" and key != "training"}
        return ", ".join(f"{key}={value}" for key, value in shown.items())


def gain(wave: Tensor, gain_db: Tensor) -> Tensor:
    """Raise the level by `gain_db` (B,); nothing is clipped.

    >>> gain(torch.ones(1, 2), torch.tensor([-20.0]))
    tensor([[0.1000, 0.1000]])
    """
    return wave * torch.pow(10.0, gain_db / 20.0)[:, None]


def polarity(wave: Tensor, turned: Tensor) -> Tensor:
    """Turn the clips upside down where `turned` (B,) is true."""
    return torch.where(turned[:, None], -wave, wave)


def shift(wave: Tensor, n_samples: Tensor, wraps: bool = False) -> Tensor:
    """Move each clip by whole samples (B,), later where positive; zeros follow, or what left at the other end.

    >>> shift(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([1])).tolist()
    [[0.0, 1.0, 2.0]]
    """
    size = wave.shape[1]
    source = torch.arange(size, device=wave.device) - n_samples[:, None]
    moved = wave.gather(1, source.remainder(size))
    return moved if wraps else moved.masked_fill((source < 0) | (source >= size), 0.0)


class Gain(WaveAugmentation):
    """Change the level by up to `most_db` up or down, evenly in dB."""

    def __init__(self, most_db: float):
        super().__init__()
        self.most_db = most_db

    def forward(self, wave: Tensor, draws: Draws) -> Tensor:
        """Draw for each clip and change it."""
        return gain(wave, draws.uniform(len(wave), low=-self.most_db, high=self.most_db))


class Polarity(WaveAugmentation):
    """Turn a clip upside down with `probability`: which way a microphone was wired."""

    def __init__(self, probability: float):
        super().__init__()
        self.probability = probability

    def forward(self, wave: Tensor, draws: Draws) -> Tensor:
        """Draw for each clip and change it."""
        return polarity(wave, draws.coins(len(wave), self.probability))


class Shift(WaveAugmentation):
    """Move a clip by up to `most_s` seconds either way, by whole samples."""

    def __init__(self, most_s: float, sample_rate: int, wraps: bool = False):
        super().__init__()
        self.most_s, self.sample_rate, self.wraps = most_s, sample_rate, wraps

    def forward(self, wave: Tensor, draws: Draws) -> Tensor:
        """Draw for each clip and change it."""
        most = self.most_s * self.sample_rate
        return shift(wave, draws.uniform(len(wave), low=-most, high=most).round().long(), self.wraps)


def in_pieces(change: Callable[..., Tensor], wave: Tensor, *numbers: Tensor) -> Tensor:
    """`change(wave, *numbers)` with all of them split along the batch on a CPU: large temporaries cost page faults."""
    n_clips = max(1, PIECE_SAMPLES // wave.shape[1])
    if wave.device.type != "cpu" or len(wave) <= n_clips:
        return change(wave, *numbers)
    pieces = zip(wave.split(n_clips), *(values.split(n_clips) for values in numbers), strict=True)
    return torch.cat([change(*piece) for piece in pieces])


def fast_length(least: int) -> int:
    """Smallest product of twos, threes and fives that is at least `least`: a length that Fourier transforms like.

    >>> fast_length(1001), fast_length(7)
    (1024, 8)
    """
    best = 1 << max(0, least - 1).bit_length()
    fives = 1
    while fives < best:
        threes = fives
        while threes < best:
            twos = max(0, -(-least // threes) - 1).bit_length()
            best = min(best, threes << twos)
            threes *= 3
        fives *= 5
    return best
