"""LEAF: a front end of Gabor filters and Gaussian low-passes whose places and widths are learned.

Zeghidour et al., LEAF: A Learnable Frontend for Audio Classification, ICLR 2021. The power of every filter's analytic
output is smoothed and taken at every hop-th sample. Everything runs in the Fourier domain, where both Gaussians are
Gaussians again: no filter is cut off, and an output that has no negative frequencies is needed at every second sample
only. Against the paper's convolutions over 25 ms: a third of the time for 1 s at 16 kHz, a tenth for 10 s at 32 kHz.

Departures from the paper: filters lose their negative frequencies; low-passes have a gain of 1 at 0 Hz; their widths
are counted in hops (0.5, the paper's 80 samples at a hop of 160), at least a quarter, below which frames would miss
parts of the clip. `compress="pcen"` has parameters for every row, as in the paper; "log" is the default as elsewhere.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import LeafConfig
from .filter_bank import fast_length
from .frontend import FrontEnd, check_at_least, check_band
from .mel import mel_edges
from .pcen import Pcen
from .stft import size_squared

ROOT_2_LN_2 = math.sqrt(2.0 * math.log(2.0))
# Bounds of a filter's width in time (standard deviation, samples): the paper's, for 401 taps at 16 kHz.
MIN_WIDTH_SAMPLES = 4.0 * ROOT_2_LN_2 / math.pi
MAX_WIDTH_S = 401 / 16000 * ROOT_2_LN_2 / math.pi
# Width of the low-passes (standard deviation) in hops: start and bounds.
POOL_HOPS, MIN_POOL_HOPS, MAX_POOL_HOPS = 0.5, 0.25, 1.0
# Gaussians are taken as 0 where they are below exp(-5^2 / 2) = 4e-6.
REACH = 5.0


def mel_gabor(config: LeafConfig) -> tuple[Tensor, Tensor]:
    """Centres in radians a sample and widths in samples of Gabor filters like the mel triangles, float64.

    As wide at half height as the root of a triangle, which is three quarters of the triangle's foot.
    """
    edges = mel_edges(config.n_bins, config.f_min, config.f_max, "slaney")
    radians_per_hz = 2.0 * math.pi / config.sample_rate
    full_width = 0.75 * (edges[2:] - edges[:-2]) * radians_per_hz
    return edges[1:-1] * radians_per_hz, 2.0 * ROOT_2_LN_2 / full_width


class Leaf(FrontEnd):
    """Learned power picture of waves (B, S): image (B, 1, n_bins, T) with T = 1 + S // hop_length.

    Parameters, one a row, all in the state_dict: `centres` (radians a sample), `widths` (samples) and `pools` (hops).
    `frequencies` are the centres before training; `centres_hz` tells the present ones, which may leave their order.
    Raises UserError for a band that does not exist.

    >>> leaf = Leaf(LeafConfig(n_bins=40))
    >>> leaf(torch.zeros(2, 16000)).shape, [name for name, _ in leaf.named_parameters()]
    (torch.Size([2, 1, 40, 96]), ['centres', 'widths', 'pools'])
    """

    config: LeafConfig

    def __init__(self, config: LeafConfig):
        check_at_least(config, 1, "n_bins")
        check_band(config)
        super().__init__(config, mel_edges(config.n_bins, config.f_min, config.f_max, "slaney")[1:-1])
        centres, widths = mel_gabor(config)
        self.max_width = MAX_WIDTH_S * config.sample_rate
        self.centres = nn.Parameter(centres.float())
        self.widths = nn.Parameter(widths.clamp(MIN_WIDTH_SAMPLES, self.max_width).float())
        self.pools = nn.Parameter(torch.full((config.n_bins,), POOL_HOPS))
        if config.compress == "pcen":
            self.compress = Pcen(config.sample_rate / config.hop_length, config.floor, config.n_bins)

    @torch.no_grad()
    def centres_hz(self) -> Tensor:
        """Present centres of the filters (n_bins,) in Hz."""
        return self.centres.clamp(0.0, math.pi) * (self.sample_rate / (2.0 * math.pi))

    def block(self, n_samples: int) -> tuple[int, int, int]:
        """How a clip is cut: frames of a block, samples of its Fourier transform, samples before its first frame."""
        frames = min(self.n_frames(n_samples), 1 + self.sample_rate // self.hop_length)
        tail = math.ceil(REACH * (self.max_width + MAX_POOL_HOPS * self.hop_length))
        return frames, 4 * fast_length(math.ceil(((frames - 1) * self.hop_length + 2 * tail + 1) / 4)), tail

    def transform(self, wave: Tensor) -> Tensor:
        """Smoothed power of every filter, before compression."""
        n_frames = self.n_frames(wave.shape[-1])
        frames, n_fft, tail = self.block(wave.shape[-1])
        n_blocks, advance = math.ceil(n_frames / frames), frames * self.hop_length
        behind = n_fft + (n_blocks - 1) * advance - tail - wave.shape[-1]
        blocks = functional.pad(wave, (tail, max(0, behind))).unfold(-1, n_fft, advance)
        responses, pool = self.responses(n_fft, wave), self.pool(n_fft, wave)
        phases = phases_of(pool.shape[1], tail + self.hop_length * torch.arange(frames, device=wave.device), n_fft)
        # Block after block: what one leaves stays in the processor's cache.
        images = [self.block_image(blocks[:, i], responses, pool, phases.to(wave.dtype)) for i in range(n_blocks)]
        return torch.cat(images, -1)[..., :n_frames].unsqueeze(1)

    def responses(self, n_fft: int, like: Tensor) -> Tensor:
        """Gabor filters in the Fourier domain (n_bins, n_fft / 2), 1 at their centres."""
        radians = torch.arange(n_fft // 2, device=like.device, dtype=like.dtype) * (2.0 * math.pi / n_fft)
        centres = self.centres.clamp(0.0, math.pi)[:, None]
        widths = self.widths.clamp(MIN_WIDTH_SAMPLES, self.max_width)[:, None]
        # Held at exp(-30): further out come numbers too small for float32's usual form, which are ten times slower.
        return torch.exp(-0.5 * ((radians - centres) * widths).square().clamp(max=60.0)) + 0j  # complex once for all

    def pool(self, n_fft: int, like: Tensor) -> Tensor:
        """Low-passes in the Fourier domain (n_bins, K), on the bins that the widest of them lets pass."""
        passed = math.ceil(REACH / (MIN_POOL_HOPS * self.hop_length) * n_fft / (2.0 * math.pi))
        bins = torch.arange(min(passed, n_fft // 4), device=like.device, dtype=like.dtype)
        width = self.pools.clamp(MIN_POOL_HOPS, MAX_POOL_HOPS)[:, None] * self.hop_length
        return torch.exp(-0.5 * (bins * (2.0 * math.pi / n_fft) * width).square())

    def block_image(self, block: Tensor, responses: Tensor, pool: Tensor, phases: Tensor) -> Tensor:
        """Smoothed power (B, n_bins, frames) of blocks (B, n_fft)."""
        spectrum = torch.fft.rfft(block)[:, None, : responses.shape[1]]
        # Half as many points as the block: the analytic output at every second sample, at twice its size.
        power = size_squared(torch.view_as_real(torch.fft.ifft(spectrum * responses))) * 0.25
        low = torch.fft.rfft(power)[..., : pool.shape[1]] * pool
        # In silence rounding may leave -1e-12.
        return torch.matmul(torch.view_as_real(low).flatten(-2), phases).clamp(min=0.0)

    def temporary_bytes(self, n_samples: int) -> int:
        """Temporaries of one clip: products, analytic outputs, power and its transform, for every filter."""
        return 12 * self.n_bins * self.block(n_samples)[1]


def phases_of(n_bins: int, places: Tensor, n_fft: int) -> Tensor:
    """Matrix (2 n_bins, T) from the lowest bins of a real transform of n_fft / 2 points, to the wave at `places` (T,).

    Rows are for real and imaginary parts in turn; places count samples of the full n_fft. Few bins pass a low-pass: an
    inverse transform by a matrix takes any hop.
    """
    k = torch.arange(n_bins, device=places.device)
    # k * place modulo n_fft as integers: a phase of thousands of turns would lose its digits in float32.
    phase = (k[:, None] * places % n_fft).float() * (2.0 * math.pi / n_fft)
    twice = torch.where(k == 0, 2.0, 4.0)[:, None] / n_fft
    return torch.stack([phase.cos() * twice, -phase.sin() * twice], 1).flatten(0, 1)
