"""Wavelet packets (Coifman and Wickerhauser, 1992): the full tree of half bands, as a picture with equal steps in Hz.

Where the discrete wavelet transform splits the low half alone, packets split both, so that a level has 2^level bands of
one width. Splitting a high half turns its spectrum round; rows are put in order of frequency by the Gray code.
Coefficients are PyWavelets', equal to 1e-5. Fast because the nodes of a level are one batch of one strided convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .config import WaveletPacketConfig
from .dwt import analysis_step, analysis_taps, check_discrete, first_starts, longer_filters, mean_over_frames
from .frontend import FrontEnd

MAX_LEVEL = 10  # 1,024 rows


def frequency_order(level: int, device: torch.device | str = "cpu") -> Tensor:
    """Position in the tree (low halves first) of each band (2^level,) from low to high frequency.

    >>> frequency_order(2).tolist()
    [0, 1, 3, 2]
    """
    bands = torch.arange(2**level, device=device)
    return bands ^ (bands >> 1)


def wavelet_packet(wave: Tensor, wavelet: str = "db4", level: int = 6, pad_mode: str = "symmetric") -> Tensor:
    """Packet coefficients of waves (B, S): (B, 2^level, n), from low to high frequency.

    >>> wavelet_packet(torch.zeros(1, 100), "db2", level=3).shape
    torch.Size([1, 8, 15])
    """
    return split(wave, analysis_taps(wavelet), level, pad_mode)


def split(wave: Tensor, taps: Tensor, level: int, pad_mode: str) -> Tensor:
    """Packet coefficients of waves (B, S) as `wavelet_packet`, with the taps of `analysis_taps`."""
    taps = taps.to(wave)
    nodes = wave[:, None]
    for _ in range(level):
        halves = analysis_step(nodes.flatten(0, 1), taps, pad_mode)
        nodes = halves.reshape(len(wave), -1, halves.shape[-1])
    return nodes[:, frequency_order(level, wave.device)]


class WaveletPacket(FrontEnd):
    """Picture of wavelet packets: energy a sample of 2^level bands of sample_rate / 2^(level + 1) Hz each.

    Shape: wave (B, S) to image (B, 1, 2^level, T) with T = 1 + S // hop_length.
    Raises UserError for an unknown wavelet or pad_mode, and for a level outside 1 to 10.

    >>> packets = WaveletPacket(WaveletPacketConfig())
    >>> packets.frequencies[:2].tolist(), packets(torch.zeros(1, 16000)).shape
    ([62.5, 187.5], torch.Size([1, 1, 64, 96]))
    """

    config: WaveletPacketConfig
    taps: Tensor
    starts: Tensor

    def __init__(self, config: WaveletPacketConfig):
        check_discrete(config, MAX_LEVEL)
        n_bins = 2**config.level
        bands = torch.arange(n_bins, dtype=torch.float64)
        super().__init__(config, (bands + 0.5) * (config.sample_rate / 2 / n_bins))
        taps = analysis_taps(config.wavelet)
        filters = torch.ones(1, 1, dtype=torch.float64)
        for level in range(config.level):
            filters = longer_filters(filters, taps, level).flatten(0, 1)
        starts = first_starts(filters[frequency_order(config.level)], config.level, taps.shape[-1], config.pad_mode)
        self.register_buffer("taps", taps.float(), persistent=False)
        self.register_buffer("starts", starts.float(), persistent=False)

    def transform(self, wave: Tensor) -> Tensor:
        """Energy a sample of every band, before compression."""
        config = self.config
        energy = split(wave, self.taps, config.level, config.pad_mode).square()
        means = mean_over_frames(energy, self.starts, 2**config.level, wave.shape[1], self.hop_length)
        return means.unsqueeze(1)

    def temporary_bytes(self, n_samples: int) -> int:
        """Temporaries of one clip: a level with its shifted samples, or sums in float64, and the frames."""
        n_taps = self.taps.shape[-1]
        return (24 + 2 * n_taps) * (n_samples + n_taps * self.n_bins) + 40 * self.n_bins * self.n_frames(n_samples)
