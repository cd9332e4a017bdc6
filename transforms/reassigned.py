"""Reassigned spectrogram: the power of every Fourier cell moved to its centre of gravity in time and frequency.

Auger & Flandrin, Improving the Readability of Time-Frequency and Time-Scale Representations by the Reassignment
Method, IEEE Trans. Signal Processing 43(5), 1995. Two more transforms, with the window's derivative and with the window
times its time, say how far each cell's power lies from the middle of the cell; a chirp or a click becomes a thin line.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .config import ReassignedConfig
from .frontend import FrontEnd, check_at_least, check_choices
from .mel import hz_to_mel, mel_edges
from .stft import check_frames, hann, pad_centre, size_squared


def three_windows(win_length: int, n_fft: int) -> Tensor:
    """Periodic Hann window, its derivative a sample, and itself times its time in samples: (3, n_fft), float64."""
    n = torch.arange(n_fft, dtype=torch.float64) - n_fft // 2
    left = (n_fft - win_length) // 2
    middle = win_length / 2 + left - n_fft // 2  # of the window; half a sample off n_fft / 2 for odd lengths
    slope = -math.pi / win_length * torch.sin(2.0 * math.pi / win_length * (n - middle))
    inside = (n >= left - n_fft // 2) & (n < left - n_fft // 2 + win_length)
    window = hann(win_length, n_fft).double()
    return torch.stack([window, torch.where(inside, slope, 0.0), window * n])


def row_places(hz: Tensor, config: ReassignedConfig) -> Tensor:
    """Places of frequencies on the axis of rows: 0 is the middle of the first row, 1 of the second."""
    if config.scale == "linear":
        return (hz - config.f_min) * ((config.n_bins - 1) / (config.f_max - config.f_min))
    ends: list[float] = hz_to_mel(torch.tensor([config.f_min, config.f_max], dtype=torch.float64), "slaney").tolist()
    return (hz_to_mel(hz, "slaney") - ends[0]) * ((config.n_bins + 1) / (ends[1] - ends[0])) - 1.0


def row_edges(config: ReassignedConfig) -> tuple[Tensor, Tensor]:
    """Middles of the rows and their widths, (n_bins,) each, in Hz and float64."""
    if config.scale == "linear":
        middles = torch.linspace(config.f_min, config.f_max, config.n_bins, dtype=torch.float64)
        return middles, (middles[1] - middles[0]).expand(config.n_bins)
    edges = mel_edges(config.n_bins, config.f_min, config.f_max, "slaney")
    halves = mel_edges(2 * config.n_bins + 1, config.f_min, config.f_max, "slaney")[1:-1:2]
    return edges[1:-1], halves.diff()


class Reassigned(FrontEnd):
    """Reassigned power of waves (B, S): image (B, 1, n_bins, T) with T = 1 + S // hop_length.

    Cells hold power a Hz (the sum that arrived, divided by the row's width), so that noise is as bright as in the mel
    picture. What leaves the clip's time arrives in the first or last frame; what leaves the band is dropped.
    Gradients flow through the power that is moved, not through where it is moved to.
    Raises UserError for settings of window and band that cannot work.

    >>> Reassigned(ReassignedConfig())(torch.zeros(2, 16000)).shape
    torch.Size([2, 1, 64, 96])
    """

    config: ReassignedConfig
    windows: Tensor
    widths_hz: Tensor

    def __init__(self, config: ReassignedConfig):
        check_choices(config, scale=("mel", "linear"))
        check_frames(config)
        check_at_least(config, 2, "n_bins")
        middles, widths = row_edges(config)
        super().__init__(config, middles)
        self.register_buffer("widths_hz", widths.to(torch.float32), persistent=False)
        self.register_buffer("windows", three_windows(config.win_length, config.n_fft).float(), persistent=False)

    def coordinates(self, wave: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Power of every cell (B, T, n_fft / 2 + 1), its centre of gravity in Hz, and in samples of the wave."""
        config = self.config
        frames = pad_centre(wave, config.n_fft, config.pad_mode).unfold(-1, config.n_fft, config.hop_length)
        plain, slope, ramp = (torch.fft.rfft(frames * window) for window in self.windows.to(wave.dtype))
        power = size_squared(torch.view_as_real(plain))
        with torch.no_grad():
            # An empty cell stays where it is: 0 / tiny. 1e-30 is 200 dB below the quietest sample of 16 bits.
            per_power = plain.conj() / power.clamp(min=1e-30)
            bins = torch.arange(power.shape[-1], device=wave.device, dtype=wave.dtype)
            hz = bins * (config.sample_rate / config.n_fft)
            hz = hz - (slope * per_power).imag * (config.sample_rate / (2.0 * math.pi))
            middles = torch.arange(power.shape[1], device=wave.device, dtype=wave.dtype) * config.hop_length
            samples = middles[:, None] + (ramp * per_power).real
        return power, hz, samples

    def transform(self, wave: Tensor) -> Tensor:
        """Power a Hz where it has its centre of gravity, before compression."""
        power, hz, samples = self.coordinates(wave)
        n_bins, n_frames = self.n_bins, power.shape[1]
        places = row_places(hz.clamp(0.0, self.sample_rate / 2), self.config)
        row = places.round().clamp(-1, n_bins).long()
        frame = (samples / self.config.hop_length).round().clamp(0, n_frames - 1).long()
        inside = (row >= 0) & (row < n_bins)
        cell = row.clamp(0, n_bins - 1) * n_frames + frame
        image = power.new_zeros(len(wave), n_bins * n_frames)
        image = image.scatter_add(1, cell.flatten(1), (power * inside).flatten(1))
        return image.view(-1, 1, n_bins, n_frames) / self.widths_hz.to(wave.dtype)[:, None]

    def temporary_bytes(self, n_samples: int) -> int:
        """Temporaries of one clip: windowed frames, three spectra, and eight pictures of cells."""
        return 40 * self.config.n_fft * self.n_frames(n_samples)
