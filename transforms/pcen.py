"""Per-channel energy normalisation: every row divided by its own slow mean, then compressed by a root.

Wang et al., Trainable Frontend for Robust and Far-Field Keyword Spotting, ICASSP 2017; the numbers are those of
Lostanlen et al., Per-Channel Energy Normalization: Why and How, IEEE Signal Processing Letters 26(1), 2019, which are
librosa's. Steady noise and the gain of a recording all but vanish, and onsets stay.

Two departures. The slow mean starts at the first frame, as if it had lasted for ever: librosa's starts at 1.0, which
beside waves in [-1, 1] is so loud that it would silence the first half second. And epsilon is the picture's floor:
waves scaled to 32-bit integers, as in the paper, lie so far above 1e-6 that the gain control lifts all silence to the
level of speech.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiossl.errors import UserError

GAIN, BIAS, POWER = 0.98, 2.0, 0.5
TIME_CONSTANT_S = 0.4


def smoothing(frames_per_s: float) -> float:
    """Share b of the newest frame in the slow mean, for a low-pass of `TIME_CONSTANT_S`.

    >>> round(smoothing(100.0), 5)
    0.02469
    """
    frames = TIME_CONSTANT_S * frames_per_s
    return (math.sqrt(1.0 + 4.0 * frames**2) - 1.0) / (2.0 * frames**2)


def slow_mean(x: Tensor, share: Tensor | float) -> Tensor:
    """Recursive mean m[t] = (1 - share) m[t - 1] + share x[t] along the last axis, with m[-1] = x[0].

    By doubling: after step k every frame holds the sum over 2^k frames before it, so that T frames take log2(T)
    passes, each stable since nothing is ever divided by a vanishing power.
    """
    mean = torch.cat([x[..., :1], share * x[..., 1:]], -1)
    decay, step = 1.0 - share, 1
    while step < x.shape[-1]:
        mean = mean + functional.pad(decay * mean[..., :-step], (step, 0))
        decay, step = decay * decay, 2 * step
    return mean


class Pcen(nn.Module):
    """Per-channel energy normalisation of power or magnitude pictures.

    frames_per_s: of the picture. floor: epsilon, the level below which nothing is amplified any more.
    n_bins: 0 for fixed numbers; else gain, bias, power and smoothing become parameters, one a row.
    Shape: (B, C, F, T) to the same, at least 0.
    Raises UserError for a floor that is not positive.

    >>> steady = torch.full((1, 1, 1, 50), 0.1)
    >>> onset = torch.cat([steady, 100.0 * steady], -1)
    >>> Pcen(100.0)(onset)[0, 0, 0, [10, 49, 50, 99]].mul(10).round().tolist()  # the onset stands out, and fades
    [3.0, 3.0, 41.0, 4.0]
    """

    def __init__(self, frames_per_s: float, floor: float = 1e-6, n_bins: int = 0):
        super().__init__()
        if not 0 < floor < math.inf:
            raise UserError(f"floor={floor} must be positive, or the gain of silence is infinite.")
        self.floor = floor
        self.trainable = n_bins > 0
        self.gain: Tensor | float = GAIN
        self.bias: Tensor | float = BIAS
        self.power: Tensor | float = POWER
        self.share: Tensor | float = smoothing(frames_per_s)
        if self.trainable:
            for name in ("gain", "bias", "power", "share"):
                value = getattr(self, name)
                delattr(self, name)
                setattr(self, name, nn.Parameter(torch.full((n_bins, 1), value)))

    def numbers(self) -> tuple[Tensor | float, ...]:
        """Gain, bias, power and smoothing share within their bounds: the paper's, and none at a pole."""
        if not self.trainable:
            return self.gain, self.bias, self.power, self.share
        bounds = {"gain": (0.0, 1.0), "bias": (0.01, math.inf), "power": (0.01, 1.0), "share": (0.001, 1.0)}
        return tuple(getattr(self, name).clamp(low, high) for name, (low, high) in bounds.items())

    def forward(self, x: Tensor) -> Tensor:
        """Normalise and compress x, at least 0 everywhere."""
        gain, bias, power, share = self.numbers()
        # exp(-gain log) in place of a power: its gradient needs no division by the mean.
        controlled = x * ((slow_mean(x, share) + self.floor).log() * -gain).exp()
        return bias**power * torch.expm1(power * torch.log1p(controlled / bias))

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return f"floor={self.floor:g}, trainable={self.trainable}"
