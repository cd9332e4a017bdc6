"""Kaldi's mel filter bank, batched: what much of speech recognition, AST and its kin are trained on.

The definition of Kaldi's `compute-fbank-feats` (Povey et al., 2011) without dither: every frame loses its mean, is
emphasised by 0.97, windowed by a Hann window to the power of 0.85 (Povey's), and its power is summed under triangles on
the HTK mel scale. Equal to torchaudio.compliance.kaldi.fbank clip by clip; `compress="log"` adds the floor where Kaldi
cuts at 1.2e-7. Kaldi's waves are 16-bit integers: here they are in [-1, 1], 90.3 dB lower.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from audiossl.errors import UserError

from .config import FbankConfig
from .frontend import FrontEnd, check_at_least, check_band
from .mel import band_sums, bands_of, hz_to_mel, mel_edges
from .stft import size_squared

EMPHASIS = 0.97
WINDOW_EXPONENT = 0.85


def kaldi_filters(config: FbankConfig, n_fft: int) -> Tensor:
    """Filters (n_bins, n_fft / 2 + 1) in float64: triangles in mels, where `audiossl.transforms.mel` has them in Hz.

    Raises UserError for filters that contain no Fourier bin, as Kaldi itself does.
    """
    edges = hz_to_mel(mel_edges(config.n_bins, config.f_min, config.f_max, "htk"), "htk")
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * config.sample_rate / n_fft
    mels = hz_to_mel(bins, "htk")
    low, centre, high = (edges[i : i + config.n_bins, None] for i in range(3))
    filters = torch.minimum((mels - low) / (centre - low), (high - mels) / (high - centre)).clamp(min=0.0)
    empty = int((filters.amax(1) == 0).sum())
    if empty:
        raise UserError(
            f"{empty} of n_bins={config.n_bins} filters contain no bin of a Fourier transform of {n_fft} samples: "
            f"lower n_bins or raise win_length={config.win_length}."
        )
    return filters


def mirrored(wave: Tensor, start: int, length: int) -> Tensor:
    """`length` samples from `start` on of waves (B, S) that are mirrored at both ends again and again, ends twice.

    >>> mirrored(torch.tensor([[1, 2, 3]]), -2, 9).tolist()
    [[2, 1, 1, 2, 3, 3, 2, 1, 1]]
    """
    n_samples = wave.shape[-1]
    place = torch.arange(start, start + length, device=wave.device) % (2 * n_samples)
    return wave.index_select(-1, torch.minimum(place, 2 * n_samples - 1 - place))


class Fbank(FrontEnd):
    """Kaldi mel picture of waves (B, S): image (B, 1, n_bins, T).

    T = (S + hop_length // 2) // hop_length, at least 1, with the middle of frame t at t * hop_length + hop_length // 2;
    with snip_edges T = 1 + (S - win_length) // hop_length from win_length / 2 on, and a shorter clip is padded to one
    frame. Kaldi gives short clips no frame at all.
    Raises UserError for empty filters, a window of less than 2 samples and a band that does not exist.

    >>> fbank = Fbank(FbankConfig())
    >>> fbank(torch.zeros(2, 16000)).shape, fbank.times(16000)[1].item()
    (torch.Size([2, 1, 64, 96]), 0.015625)
    """

    config: FbankConfig
    filters: Tensor
    window: Tensor

    def __init__(self, config: FbankConfig):
        check_at_least(config, 1, "n_bins")
        check_at_least(config, 2, "win_length")
        check_band(config)
        self.n_fft = 2 ** (config.win_length - 1).bit_length()
        filters = kaldi_filters(config, self.n_fft)
        super().__init__(config, mel_edges(config.n_bins, config.f_min, config.f_max, "htk")[1:-1])
        window = torch.hann_window(config.win_length, periodic=False, dtype=torch.float64) ** WINDOW_EXPONENT
        self.register_buffer("filters", filters.to(torch.float32), persistent=False)
        self.bands = bands_of(filters)
        self.register_buffer("window", window.to(torch.float32), persistent=False)
        # Where the first frame begins.
        self.start = 0 if config.snip_edges else config.hop_length // 2 - config.win_length // 2

    def n_frames(self, n_samples: int) -> int:
        """Frames T of a clip of `n_samples`."""
        if self.config.snip_edges:
            return 1 + max(0, n_samples - self.config.win_length) // self.hop_length
        return max(1, (n_samples + self.hop_length // 2) // self.hop_length)

    def times(self, n_samples: int) -> Tensor:
        """Middles of the frames (T,) in seconds."""
        first = self.start + self.config.win_length / 2
        return (torch.arange(self.n_frames(n_samples)) * self.hop_length + first) / self.sample_rate

    def transform(self, wave: Tensor) -> Tensor:
        """Mel power before compression."""
        win_length, hop_length = self.config.win_length, self.hop_length
        needed = win_length + (self.n_frames(wave.shape[-1]) - 1) * hop_length
        if self.config.snip_edges:
            wave = functional.pad(wave, (0, max(0, needed - wave.shape[-1])))
        else:
            wave = mirrored(wave, self.start, needed)
        frames = wave.unfold(-1, win_length, hop_length)
        frames = frames - frames.mean(-1, keepdim=True)
        # The window is 0 at a frame's first sample, which therefore needs no emphasis; without it all moves forward by
        # a sample, and the power stays.
        frames = torch.sub(frames[..., 1:], frames[..., :-1], alpha=EMPHASIS) * self.window[1:].to(wave.dtype)
        power = size_squared(torch.view_as_real(torch.fft.rfft(frames, n=self.n_fft)))
        return band_sums(self.filters.to(wave.dtype), self.bands, power).unsqueeze(1)

    def temporary_bytes(self, n_samples: int) -> int:
        """Temporaries of one clip: frames twice, spectrum and power."""
        return int(16 * self.n_fft * self.n_frames(n_samples))
