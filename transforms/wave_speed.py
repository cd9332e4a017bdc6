"""Speed and pitch: resampling by a factor of its own for each clip, and a phase vocoder that gives the time back."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from .draws import Draws
from .wave import WaveAugmentation, fast_length, in_pieces

OVERSAMPLING = 4  # of the spectrum before cubic interpolation
FRACTION_BITS = 24  # places are counted in whole 2**-24 samples, so that long clips lose nothing in float32
EDGE = 0.05  # width of the slope of the low-pass filter, in parts of its corner
WINDOW_S = 0.064  # of the vocoder: 1,024 samples at 16 kHz, so that neighbouring harmonics of a voice stay apart


def resample(wave: Tensor, factor: Tensor, start: Tensor, n_samples: int) -> Tensor:
    """Read each clip (B, S) `factor` (B,) times as fast, from sample `start` (B,): (B, n_samples), zeros outside.

    By four-fold oversampling in the Fourier domain, low-pass filtered where the clip runs faster, and cubic
    (Lagrange) interpolation: errors stay 60 dB below a tone up to a quarter of the sample rate, 45 dB up to 0.43 of it.

    >>> wave = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    >>> resample(wave, torch.tensor([1.0]), torch.tensor([1.0]), 4).round(decimals=3).abs()
    tensor([[2., 3., 4., 0.]])
    """
    fine = _oversampled(wave, factor)
    unit = 1 << FRACTION_BITS
    step, first = ((values * (OVERSAMPLING * unit)).round().long() for values in (factor, start))
    place = first[:, None] + step[:, None] * torch.arange(n_samples, device=wave.device)
    outside = (place < 0) | (place > (wave.shape[1] - 1) * OVERSAMPLING * unit)
    d = (place & (unit - 1)).to(wave.dtype) / unit
    before = place >> FRACTION_BITS
    taps = [fine.gather(1, (before + tap).remainder(fine.shape[1])) for tap in (-1, 0, 1, 2)]
    out = taps[0] * (d * (1 - d) * (d - 2) / 6)
    out += taps[1] * ((d + 1) * (1 - d) * (2 - d) / 2)
    out += taps[2] * ((d + 1) * d * (2 - d) / 2)
    out += taps[3] * ((d + 1) * d * (d - 1) / 6)
    return out.masked_fill(outside, 0.0)


def _oversampled(wave: Tensor, factor: Tensor) -> Tensor:
    """The clip at four times the rate, without what a higher speed would bring above half of the sample rate."""
    # Zeros between end and beginning; even, so that there is a bin at half of the rate.
    n_fft = 2 * fast_length(wave.shape[1] // 2 + 32)
    spectrum = torch.fft.rfft(wave, n_fft)
    spectrum[:, -1] /= 2  # shared by both sides of the wider spectrum
    bins = torch.arange(spectrum.shape[1], device=wave.device)
    corner = (n_fft / 2) / factor[:, None]
    slope = ((corner - bins) / (EDGE * corner)).clamp(0.0, 1.0)
    spectrum = spectrum * torch.where(factor[:, None] > 1.0, slope, 1.0)
    fine: Tensor = torch.fft.irfft(spectrum, OVERSAMPLING * n_fft) * OVERSAMPLING
    return fine


def speed(wave: Tensor, factor: Tensor) -> Tensor:
    """Play each clip `factor` (B,) times as fast about its middle, at its length: zeros beside it, or its ends lost."""
    size = wave.shape[1]
    return resample(wave, factor, (size - 1) / 2 * (1.0 - factor), size)


def stretch(wave: Tensor, factor: Tensor, n_samples: int, n_fft: int) -> Tensor:
    """Make each clip `factor` (B,) times as long at the same pitch, and give its first `n_samples`.

    A phase vocoder (Flanagan and Golden, 1966): frames of the short-time Fourier transform are read at places
    1 / factor apart, their magnitudes interpolated, and their phases advanced as they do from frame to frame there.
    The bins around a peak keep their phases relative to it (identity phase locking: Laroche and Dolson, 1999), without
    which a tone loses a decibel.
    """
    hop = n_fft // 4
    window = torch.hann_window(n_fft, device=wave.device, dtype=wave.dtype)
    wave = functional.pad(wave, (0, 2 * hop))  # a frame behind the last one that is read
    frames = torch.stft(wave, n_fft, hop, window=window, pad_mode="constant", return_complex=True)
    place = torch.arange(1 + n_samples // hop, device=wave.device) / factor[:, None]
    left = place.long().clamp(max=frames.shape[2] - 2)
    index = left[:, None].expand(-1, frames.shape[1], -1)
    here, there = frames.gather(2, index), frames.gather(2, index + 1)
    magnitude = torch.lerp(here.abs(), there.abs(), (place - left).clamp(max=1.0)[:, None])
    advance = torch.angle(there * here.conj())
    own = torch.angle(here)
    turn = torch.angle(frames[..., :1]) + advance.cumsum(2) - advance - own
    phase = own + turn.gather(1, _nearest_peak(here.abs()))
    return torch.istft(torch.polar(magnitude, phase), n_fft, hop, window=window, length=n_samples)


def _nearest_peak(magnitude: Tensor) -> Tensor:
    """The bin of the nearest local maximum over frequency, of magnitudes (B, K, T)."""
    n_bins = magnitude.shape[1]
    beside = functional.pad(magnitude, (0, 0, 1, 1), value=-1.0)
    peak = (magnitude >= beside[:, :-2]) & (magnitude >= beside[:, 2:])
    bins = torch.arange(n_bins, device=magnitude.device)[:, None]
    below = torch.where(peak, bins, -n_bins).cummax(1).values
    above = torch.where(peak, bins, 2 * n_bins).flip(1).cummin(1).values.flip(1)
    return torch.where(bins - below <= above - bins, below, above)


def pitch(wave: Tensor, semitones: Tensor, sample_rate: int, most: float) -> Tensor:
    """Shift the pitch of each clip by `semitones` (B,) at its length; `most` bounds their size.

    A steady tone at f comes out at f 2^(semitones / 12) within 0.01 % and at its level within 0.1 dB; attacks are
    smeared over the vocoder's 64 ms.
    """
    factor = torch.pow(2.0, semitones / 12.0)
    n_fft = 1 << round(math.log2(max(16.0, WINDOW_S * sample_rate)))
    size = wave.shape[1]
    longer = stretch(wave, factor, math.ceil(size * 2.0 ** (most / 12.0)), n_fft)
    return resample(longer, factor, torch.zeros_like(factor), size)


class Speed(WaveAugmentation):
    """Play a clip up to `most` faster or slower, 0.1 for 10 %, evenly in the logarithm of the factor."""

    def __init__(self, most: float):
        super().__init__()
        self.most = most

    def forward(self, wave: Tensor, draws: Draws) -> Tensor:
        """Draw for each clip and change it."""
        return in_pieces(speed, wave, draws.log_uniform(len(wave), 1.0 / (1.0 + self.most), 1.0 + self.most))


class Pitch(WaveAugmentation):
    """Shift the pitch of a clip by up to `most_semitones` up or down."""

    def __init__(self, most_semitones: float, sample_rate: int):
        super().__init__()
        self.most_semitones, self.sample_rate = most_semitones, sample_rate

    def forward(self, wave: Tensor, draws: Draws) -> Tensor:
        """Draw for each clip and change it."""
        most = self.most_semitones
        semitones = draws.uniform(len(wave), low=-most, high=most)
        return in_pieces(lambda part, steps: pitch(part, steps, self.sample_rate, most), wave, semitones)
