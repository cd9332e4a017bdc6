"""Short-time Fourier transform: framed FFT, or nnAudio's convolutions for kernels that can be trained.

Fast by unfolding the padded wave into frames and one batched real FFT: about five times less time than the
convolution with sines and cosines at n_fft 1024, whose work grows with n_fft squared. Both backends share
padding, window (periodic Hann) and output, and agree to 1e-5 of the picture's norm.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiossl.errors import UserError

from .compress import CompressComplex
from .config import FourierConfig, StftConfig
from .frontend import FrontEnd, check_at_least, check_band, check_choices

BLOCK_NUMBERS = 3 * 2**18  # of the frames at a time: 2**19 to 2**20 measured best, a tenth quicker than all at once


def pad_centre(wave: Tensor, n_fft: int, mode: str) -> Tensor:
    """Pad n_fft / 2 samples on both sides of waves (B, S), so that frame t is centred on sample t * hop.

    "reflect" mirrors the wave; where the clip is too short to be mirrored it falls back to zeros.
    """
    half = n_fft // 2
    if mode == "reflect" and wave.shape[-1] > half:
        return functional.pad(wave, (half, half), mode="reflect")
    return functional.pad(wave, (half, half))


def hann(win_length: int, n_fft: int) -> Tensor:
    """Periodic Hann window (n_fft,), zeros around when win_length is shorter."""
    window = torch.hann_window(win_length, periodic=True, dtype=torch.float64)
    left = (n_fft - win_length) // 2
    return functional.pad(window, (left, n_fft - win_length - left)).to(torch.float32)


def size_squared(parts: Tensor, free: bool = False) -> Tensor:
    """Squares of complex numbers (..., 2) as real and imaginary parts; four times faster than a sum over two.

    With `free` the parts are given away: where no gradient needs them, the squares take their place.
    """
    squares = parts.square_() if free and not parts.requires_grad else parts.square()
    return squares[..., 0] + squares[..., 1]


class Spectrum(nn.Module):
    """Spectra of the frames of waves (B, S)."""

    def parts(self, wave: Tensor) -> Tensor:
        """Real and imaginary parts (B, T, n_fft / 2 + 1, 2); the phase counts from the first sample of a frame."""
        raise NotImplementedError

    def forward(self, wave: Tensor) -> Tensor:
        """Power |X|^2 (B, T, n_fft / 2 + 1); its gradient is finite in silence, where that of |X| is not."""
        return size_squared(self.parts(wave), free=True)

    def blocks(self, wave: Tensor) -> Iterator[Tensor]:
        """Power of all frames, or block after block, (B, T', n_fft / 2 + 1)."""
        yield self(wave)


class FftSpectrum(Spectrum):
    """Spectra by framed FFT."""

    window: Tensor

    def __init__(self, config: FourierConfig):
        super().__init__()
        self.n_fft, self.hop_length, self.pad_mode = config.n_fft, config.hop_length, config.pad_mode
        self.register_buffer("window", hann(config.win_length, config.n_fft), persistent=False)

    def parts(self, wave: Tensor) -> Tensor:
        """Real and imaginary parts of every frame."""
        return self._parts(self._frames(wave))

    def blocks(self, wave: Tensor) -> Iterator[Tensor]:
        """Power of so many frames at a time that what is made in passing stays in a CPU's last cache."""
        frames = self._frames(wave)
        n_frames = max(1, BLOCK_NUMBERS // (len(wave) * self.n_fft)) if wave.device.type == "cpu" else frames.shape[1]
        for block in frames.split(n_frames, dim=1):
            yield size_squared(self._parts(block), free=True)

    def _frames(self, wave: Tensor) -> Tensor:
        return pad_centre(wave, self.n_fft, self.pad_mode).unfold(-1, self.n_fft, self.hop_length)

    def _parts(self, frames: Tensor) -> Tensor:
        return torch.view_as_real(torch.fft.rfft(frames * self.window))


@contextmanager
def full_precision_convolutions() -> Iterator[None]:
    """Keep cuDNN from TF32, whose ten bits of mantissa put a floor near -60 dB under the spectrum."""
    cudnn = torch.backends.cudnn
    with cudnn.flags(
        enabled=cudnn.enabled, benchmark=cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False
    ):
        yield


def forget_buffers(module: nn.Module) -> None:
    """Keep a module's buffers out of its state_dict: kernels follow from the settings."""
    for part in module.modules():
        part._non_persistent_buffers_set.update(part._buffers)


class NnAudioSpectrum(Spectrum):
    """Spectra by nnAudio's convolutions; nnAudio's own magnitude has no gradient in silence."""

    def __init__(self, config: FourierConfig):
        super().__init__()
        from nnAudio.features.stft import STFT

        self.n_fft, self.pad_mode = config.n_fft, config.pad_mode
        self.stft = STFT(
            n_fft=config.n_fft,
            win_length=config.win_length,
            hop_length=config.hop_length,
            window="hann",
            center=False,  # padded here: nnAudio cannot reflect short clips
            sr=config.sample_rate,
            trainable=config.trainable,
            output_format="Complex",
            verbose=False,  # it would print to stdout
        )
        forget_buffers(self.stft)

    def parts(self, wave: Tensor) -> Tensor:
        """Real and imaginary parts of every frame."""
        padded = pad_centre(wave, self.n_fft, self.pad_mode)
        with full_precision_convolutions():
            spectrum = self.stft(padded, output_format="Complex")  # (B, F, T, 2)
        by_frequency: Tensor = spectrum.transpose(1, 2)
        return by_frequency


def build_spectrum(config: FourierConfig) -> Spectrum:
    """Module from waves (B, S) to spectra, of the configured backend."""
    return NnAudioSpectrum(config) if config.backend == "nnaudio" else FftSpectrum(config)


def check_frames(config: Any) -> None:
    """Raise UserError for windows, padding or a band that no framed Fourier transform has."""
    check_choices(config, pad_mode=("constant", "reflect"))
    check_at_least(config, 1, "n_fft", "win_length")
    if config.n_fft % 2:
        raise UserError(f"n_fft={config.n_fft} must be even, so that a frame has a centre.")
    if config.win_length > config.n_fft:
        raise UserError(f"win_length={config.win_length} is longer than n_fft={config.n_fft}: raise n_fft.")
    check_band(config)


def check_fourier(config: FourierConfig) -> None:
    """Raise UserError for settings that no Fourier front end can be built from, naming the setting and the remedy."""
    check_choices(config, backend=("fft", "nnaudio"))
    check_frames(config)
    if config.trainable and config.backend != "nnaudio":
        raise UserError("trainable=true needs backend=nnaudio: the FFT has no kernels to train.")


def spectrum_bytes(config: FourierConfig, n_samples: int) -> int:
    """Temporaries of one clip in bytes: frames (4 a sample), complex spectrum (4) and power (2)."""
    return 10 * config.n_fft * (1 + n_samples // config.hop_length)


class Stft(FrontEnd):
    """Linear frequency picture: the bins of the Fourier transform between f_min and f_max, both included.

    Shape: wave (B, S) to image (B, C, F, T) with T = 1 + S // hop_length; C = 2, real and imaginary part, for
    output="complex", else 1. A complex picture is signed: see `audiossl.transforms.compress.CompressComplex`.
    Raises UserError when no bin lies between f_min and f_max, and for pcen of a complex picture.

    >>> config = StftConfig(n_fft=512, win_length=512, f_min=0.0, f_max=7999.0)
    >>> stft = Stft(config)
    >>> stft(torch.zeros(1, 16000)).shape
    torch.Size([1, 1, 256, 96])
    """

    config: StftConfig

    def __init__(self, config: StftConfig):
        check_fourier(config)
        check_choices(config, output=("power", "magnitude", "complex"))
        if config.output == "complex" and config.compress == "pcen":
            raise UserError("compress='pcen' has no meaning for output='complex': choose log, db or none.")
        bins = torch.arange(config.n_fft // 2 + 1, dtype=torch.float64) * config.sample_rate / config.n_fft
        kept = ((bins >= config.f_min) & (bins <= config.f_max)).nonzero()[:, 0]
        if len(kept) == 0:
            raise UserError(
                f"no Fourier bin lies from f_min={config.f_min:g} to f_max={config.f_max:g} Hz: raise n_fft."
            )
        super().__init__(config, bins[kept])
        self.first, self.last = int(kept[0]), int(kept[-1])
        self.spectrum = build_spectrum(config)
        if config.output == "complex":
            self.n_channels = 2
            self.compress = CompressComplex(config.compress, config.floor)

    def transform(self, wave: Tensor) -> Tensor:
        """Power, magnitude, or real and imaginary part, before compression."""
        if self.config.output == "complex":
            return self.spectrum.parts(wave)[:, :, self.first : self.last + 1].permute(0, 3, 2, 1).contiguous()
        power = self.spectrum(wave)[..., self.first : self.last + 1].transpose(1, 2).unsqueeze(1)
        return as_magnitude(power) if self.config.output == "magnitude" else power.contiguous()

    def temporary_bytes(self, n_samples: int) -> int:
        """Temporaries of one clip."""
        return spectrum_bytes(self.config, n_samples)


def as_magnitude(power: Tensor) -> Tensor:
    """Square root of powers with a gradient that stays finite at 0 (1e-16 of power: a magnitude of 1e-8)."""
    return (power + 1e-16).sqrt()
