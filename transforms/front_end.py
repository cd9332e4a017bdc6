"""The front end: what every transform from waveform to picture has in common.

A front end computes in float32 with autocast off (a Fourier transform by convolution is wrong by 10 dB and
more in bf16), takes any number of samples from 1 up, and works through large batches on a CPU in pieces: page
faults on temporaries of hundreds of megabytes cost more than the arithmetic.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiossl.errors import UserError

from .compress import Compress
from .config import FrontEndConfig

CHUNK_BYTES = 24 * 2**20  # of temporaries at a time on a CPU: 16 to 32 MB measured best


def as_float(wave: Tensor) -> Tensor:
    """Return the wave as floats in [-1, 1]: int16 is divided by 32,768, floats pass unchanged.

    Raises UserError for any other type of numbers.

    >>> as_float(torch.tensor([[-32768, 0, 16384]], dtype=torch.int16)).tolist()
    [[-1.0, 0.0, 0.5]]
    """
    if wave.dtype == torch.int16:
        return wave.to(torch.float32) / 32768.0
    if not wave.is_floating_point():
        raise UserError(f"wave holds {wave.dtype} numbers: give floats in [-1, 1] or int16.")
    return wave


class FrontEnd(nn.Module):
    """Base of the front ends: wave (B, S) to image (B, C, F, T), low frequency first, frame t at t * hop.

    A subclass writes `transform` (B, S) -> (B, C, F, T), uncompressed, and `temporary_bytes`.

    Attributes: sample_rate (Hz), n_bins F, n_channels C, hop_length (samples), frequencies (F,) in Hz.
    """

    n_channels = 1
    frequencies: Tensor

    def __init__(self, sample_rate: int, hop_length: int, frequencies: Tensor, compress: nn.Module):
        super().__init__()
        self.sample_rate = sample_rate
        self.hop_length = hop_length
        self.n_bins = len(frequencies)
        self.compress = compress
        self.register_buffer("frequencies", frequencies.to(torch.float32), persistent=False)

    def n_frames(self, n_samples: int) -> int:
        """Frames T of a clip of `n_samples`."""
        return 1 + n_samples // self.hop_length

    def transform(self, wave: Tensor) -> Tensor:
        """Uncompressed picture (B, C, F, T) of float32 waves (B, S)."""
        raise NotImplementedError

    def temporary_bytes(self, n_samples: int) -> int:
        """Memory that `transform` needs in passing for one clip, in bytes: decides the size of the pieces."""
        raise NotImplementedError

    def forward(self, wave: Tensor) -> Tensor:
        """Picture (B, C, F, T), float32 and compressed, of floating point waves (B, S).

        Raises UserError when the wave is not a batch of at least one sample each, or not floating point.
        """
        if wave.ndim != 2 or wave.shape[1] == 0:
            raise UserError(f"wave has shape {tuple(wave.shape)}: give (batch, samples) with at least one sample.")
        if not wave.is_floating_point():
            raise UserError(f"wave holds {wave.dtype} numbers: a front end takes floats in [-1, 1].")
        with torch.autocast(wave.device.type, enabled=False):
            wave = wave.to(torch.float32)
            chunk = self._chunk(wave)
            if len(wave) <= chunk:
                return self.compress(self.transform(wave))
            return torch.cat([self.compress(self.transform(piece)) for piece in wave.split(chunk)])

    def _chunk(self, wave: Tensor) -> int:
        if wave.device.type != "cpu":
            return len(wave)
        return max(1, CHUNK_BYTES // self.temporary_bytes(wave.shape[1]))


def check(config: FrontEndConfig) -> None:
    """Raise UserError for settings that no front end can be built from, naming the setting and the remedy."""
    choices = {"backend": ("fft", "nnaudio"), "pad_mode": ("constant", "reflect")}
    for key, allowed in choices.items():
        if getattr(config, key) not in allowed:
            raise UserError(f"{key}={getattr(config, key)!r} is unknown: choose one of {', '.join(allowed)}.")
    for key in ("sample_rate", "n_fft", "win_length", "hop_length"):
        if getattr(config, key) < 1:
            raise UserError(f"{key}={getattr(config, key)} must be at least 1.")
    if config.n_fft % 2:
        raise UserError(f"n_fft={config.n_fft} must be even, so that a frame has a centre.")
    if config.win_length > config.n_fft:
        raise UserError(f"win_length={config.win_length} is longer than n_fft={config.n_fft}: raise n_fft.")
    nyquist = config.sample_rate / 2
    if config.f_max > nyquist:
        raise UserError(f"f_max={config.f_max:g} Hz lies above {nyquist:g} Hz, half of sample_rate: lower f_max.")
    if not 0 <= config.f_min < config.f_max:
        raise UserError(f"f_min={config.f_min:g} Hz must be at least 0 and below f_max={config.f_max:g} Hz.")
    if config.power not in (1.0, 2.0):
        raise UserError(f"power={config.power:g} is unknown: choose 2 (power) or 1 (magnitude).")
    if config.trainable and config.backend != "nnaudio":
        raise UserError("trainable=true needs backend=nnaudio: the FFT has no kernels to train.")


def build_front_end(config: FrontEndConfig) -> FrontEnd:
    """Build the front end of a configuration, compression included: wave (B, S) -> picture (B, C, F, T).

    Raises UserError for an unknown name or settings that contradict each other.

    >>> front_end = build_front_end(FrontEndConfig())
    >>> front_end(torch.zeros(2, 16000)).shape
    torch.Size([2, 1, 64, 96])
    """
    from .mel import Mel
    from .stft import Stft

    front_ends = {"mel": Mel, "stft": Stft}
    if config.name not in front_ends:
        raise UserError(f"front end name={config.name!r} is unknown: choose one of {', '.join(front_ends)}.")
    check(config)
    return front_ends[config.name](config, Compress(config.compress, config.floor, config.power))
