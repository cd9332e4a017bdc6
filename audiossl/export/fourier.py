"""Framed Fourier transforms for a graph: real matrix products in place of an FFT.

ONNX's DFT operator is slow in onnxruntime and in places missing. A transform of n_fft = a * b points, a and b near the
root, is two steps of the same sum (Cooley and Tukey, 1965): a points, a turn by angles that depend on both places,
b points. At 1,024 points that is a tenth of the products of one matrix for all, and it rounds less.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from audiossl.transforms.stft import FftSpectrum, Spectrum


def dft(rows: Tensor, columns: Tensor, n: Tensor | int) -> tuple[Tensor, Tensor]:
    """Cosines and sines (R, C) of 2 pi rows columns / n, float32, for whole numbers (R,) and (C,) from 0 up.

    >>> cosines, sines = dft(torch.arange(2), torch.arange(2), 4)
    >>> cosines.round().tolist(), sines.round().tolist()
    ([[1.0, 1.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]])
    """
    angle = (rows[:, None] * columns % n).to(torch.float64) * (2.0 * math.pi / n)
    return angle.cos().to(torch.float32), angle.sin().to(torch.float32)


def factors(n: int) -> tuple[int, int]:
    """Two numbers whose product is n, the smaller first, as near to each other as can be.

    >>> factors(1024), factors(400), factors(7)
    ((32, 32), (20, 20), (1, 7))
    """
    smaller = max(a for a in range(1, math.isqrt(n) + 1) if n % a == 0)
    return smaller, n // smaller


class GraphSpectrum(Spectrum):
    """Spectra of the frames of waves (B, S), as `FftSpectrum` gives them."""

    window: Tensor
    place: Tensor
    outer: Tensor
    turn_cosine: Tensor
    turn_sine: Tensor
    inner: Tensor

    def __init__(self, spectrum: FftSpectrum):
        super().__init__()
        self.n_fft, self.hop_length, self.pad_mode = spectrum.n_fft, spectrum.hop_length, spectrum.pad_mode
        a, b = self.factors = factors(self.n_fft)
        place = torch.arange(a) * b + torch.arange(b)[:, None]  # (b, a): samples b apart lie side by side
        cosines, sines = dft(torch.arange(a), torch.arange(a), a)
        turn_cosine, turn_sine = dft(torch.arange(b), torch.arange(a), self.n_fft)
        self._keep(window=spectrum.window[place], place=place, outer=torch.cat([cosines, -sines], 1))
        self._keep(turn_cosine=turn_cosine, turn_sine=turn_sine)
        cosines, sines = dft(torch.arange(b // 2 + 1), torch.arange(b), b)
        self._keep(inner=torch.cat([torch.cat([cosines, sines], 1), torch.cat([-sines, cosines], 1)]))

    def _keep(self, **buffers: Tensor) -> None:
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)

    def _both(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Real and imaginary parts (B, T, n_fft / 2 + 1)."""
        n_frames = 1 + wave.shape[1] // self.hop_length
        place = self.hop_length * torch.arange(n_frames, device=wave.device)[:, None, None] + self.place
        frames = self._padded(wave).index_select(1, place.flatten()).unflatten(1, (n_frames, *self.place.shape))
        real, imaginary = (frames * self.window @ self.outer).chunk(2, dim=-1)  # (B, T, b, a)
        turned = [
            real * self.turn_cosine + imaginary * self.turn_sine,
            imaginary * self.turn_cosine - real * self.turn_sine,
        ]
        real, imaginary = (self.inner @ torch.cat(turned, 2)).chunk(2, dim=2)  # (B, T, b // 2 + 1, a)
        n_bins = self.n_fft // 2 + 1
        return real.flatten(2)[..., :n_bins], imaginary.flatten(2)[..., :n_bins]

    def _padded(self, wave: Tensor) -> Tensor:
        """The wave with half a frame on both sides; as `pad_centre`, without asking how long it is."""
        half, n_samples = self.n_fft // 2, wave.shape[1]
        if self.pad_mode != "reflect":
            return functional.pad(wave, (half, half))
        place = torch.arange(n_samples + 2 * half, device=wave.device) - half
        mirrored = (n_samples - 1 - (n_samples - 1 - place.abs()).abs()).clamp(min=0)
        inside = (place >= 0) & (place < n_samples)
        long_enough = torch.full((1,), n_samples, device=wave.device) > half
        return wave.index_select(1, mirrored) * (inside | long_enough)

    def parts(self, wave: Tensor) -> Tensor:
        """Real and imaginary parts (B, T, n_fft / 2 + 1, 2)."""
        return torch.stack(self._both(wave), dim=-1)

    def forward(self, wave: Tensor) -> Tensor:
        """Power (B, T, n_fft / 2 + 1)."""
        real, imaginary = self._both(wave)
        return real * real + imaginary * imaginary
