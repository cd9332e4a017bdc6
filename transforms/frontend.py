"""The front end: what every transform from waveform to picture has in common.

A front end computes in float32 with autocast off (a Fourier transform by convolution is wrong by 10 dB and
more in bf16), takes any number of samples from 1 up, and works through large batches on a CPU in pieces: page
faults on temporaries of hundreds of megabytes cost more than the arithmetic.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import fields
from importlib import import_module
from numbers import Integral, Real
from typing import Any, get_type_hints

import torch
from torch import Tensor, nn

from audiossl.errors import UserError

from .compress import build_compress
from .config import FrontEndConfig

# Far beyond any picture: what stands in a file of settings shall not ask for all memory there is.
MOST = {"n_bins": 2**14, "n_mels": 2**14, "n_fft": 2**20, "win_length": 2**20}
MOST_FILTER_WEIGHTS = 2**25  # rows times samples of the Fourier transform: 128 rows at 2**18
LOUDEST = 1e9  # its power still is a float32, summed over any window
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
    """Base of the front ends: wave (B, S) to image (B, C, F, T), low frequency first, frame t at t * hop_length.

    A subclass writes `transform` (B, S) -> (B, C, F, T), uncompressed, and `temporary_bytes`; where its frames lie
    otherwise than every `hop_length` samples from 0 on, `n_frames` too.

    Attributes: config, sample_rate (Hz), n_bins F, n_channels C, hop_length (samples), frequencies (F,) in Hz.
    """

    n_channels = 1
    frequencies: Tensor

    def __init__(self, config: FrontEndConfig, frequencies: Tensor):
        super().__init__()
        self.config = config
        self.sample_rate = config.sample_rate
        self.hop_length = config.hop_length
        self.n_bins = len(frequencies)
        self.compress = build_compress(config)
        self.register_buffer("frequencies", frequencies.to(torch.float32), persistent=False)

    def n_frames(self, n_samples: int) -> int:
        """Frames T of a clip of `n_samples`."""
        return 1 + n_samples // self.hop_length

    def times(self, n_samples: int) -> Tensor:
        """Middles of the frames (T,) in seconds."""
        return torch.arange(self.n_frames(n_samples)) * (self.hop_length / self.sample_rate)

    def frame_mask(self, lengths: Tensor, n_samples: int) -> Tensor:
        """Which frames (B, T) lie in clips of `lengths` (B,) samples that were padded behind to `n_samples`.

        Raises UserError for a length that is no part of the clip.

        >>> build_frontend("mel", hop_length=100).frame_mask(torch.tensor([250, 400]), 400).int().tolist()
        [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
        """
        check_lengths(lengths, n_samples)
        frames = torch.arange(self.n_frames(n_samples), device=lengths.device)
        counts = torch.tensor([self.n_frames(int(n)) for n in lengths.tolist()], device=lengths.device)
        return frames < counts[:, None]

    def transform(self, wave: Tensor) -> Tensor:
        """Uncompressed picture (B, C, F, T) of float32 waves (B, S)."""
        raise NotImplementedError

    def temporary_bytes(self, n_samples: int) -> int:
        """Memory that `transform` needs in passing for one clip, in bytes: decides the size of the pieces."""
        raise NotImplementedError

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Picture (B, C, F, T), float32 and compressed, of floating point waves (B, S).

        With `lengths` (B,) each clip ends there, whatever stands behind: its frames in `frame_mask` are those that it
        has alone, the others those of silence. Clips of each length are computed together.

        Raises UserError when the wave is not a batch of at least one sample each, not floating point, or, on a CPU,
        not finite or louder than any sound (on a GPU the question would stop the queue at every step), and for a
        length that is no part of the clip.
        """
        self._check(wave)
        with torch.autocast(wave.device.type, enabled=False):
            wave = wave.to(torch.float32)
            if len(wave) == 0:
                return self._image(wave.new_zeros(1, wave.shape[1]))[:0]
            return self._image(wave) if lengths is None else self._of_lengths(wave, lengths)

    def _image(self, wave: Tensor) -> Tensor:
        chunk = self._chunk(wave)
        if len(wave) <= chunk:
            image: Tensor = self.compress(self.transform(wave))
            return image
        return torch.cat([self.compress(self.transform(piece)) for piece in wave.split(chunk)])

    def _of_lengths(self, wave: Tensor, lengths: Tensor) -> Tensor:
        check_lengths(lengths, wave.shape[1])
        lengths = lengths.cpu()
        image = self._image(wave.new_zeros(1, wave.shape[1])).repeat(len(wave), 1, 1, 1)
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero()[:, 0].to(wave.device)
            heard = self._image(wave[rows, :length])
            image[rows, :, :, : heard.shape[-1]] = heard
        return image

    def _check(self, wave: Tensor) -> None:
        if not isinstance(wave, Tensor):
            raise UserError(f"wave is a {type(wave).__name__}: give a tensor, such as torch.as_tensor(wave).")
        if wave.ndim != 2 or wave.shape[1] == 0:
            raise UserError(f"wave has shape {tuple(wave.shape)}: give (batch, samples) with at least one sample.")
        if not wave.is_floating_point():
            raise UserError(f"wave holds {wave.dtype} numbers: a front end takes floats in [-1, 1].")
        if wave.device.type != "cpu" or torch.compiler.is_compiling() or len(wave) == 0:
            return
        lowest, highest = torch.aminmax(wave.detach())  # a tenth of the time of the largest norm
        if lowest >= -LOUDEST and highest <= LOUDEST:  # false for NaN too
            return
        row = int((~(wave.abs() <= LOUDEST)).any(1).nonzero()[0])
        if not wave[row].isfinite().all():
            raise UserError(f"wave {row} of the batch holds NaN or Inf: give finite samples in [-1, 1].")
        raise UserError(f"wave {row} of the batch reaches {float(wave[row].abs().max()):.3g}: give samples in [-1, 1].")

    def _chunk(self, wave: Tensor) -> int:
        if wave.device.type != "cpu":
            return len(wave)
        return max(1, CHUNK_BYTES // self.temporary_bytes(wave.shape[1]))

    def extra_repr(self) -> str:
        """Show type and settings in `print(module)`."""
        return ", ".join(f"{key}={value}" for key, value in self.config.to_dict().items())


def check_lengths(lengths: Tensor, n_samples: int) -> None:
    """Raise UserError when one of the lengths (B,) is not from 1 to `n_samples`."""
    wrong = lengths[(lengths < 1) | (lengths > n_samples)]
    if len(wrong):
        raise UserError(f"lengths holds {int(wrong[0])}: clips of a batch of {n_samples} samples have from 1 to that.")


def check_choices(config: FrontEndConfig, **choices: tuple[Any, ...]) -> None:
    """Raise UserError when a setting is none of its choices."""
    for key, allowed in choices.items():
        if getattr(config, key) not in allowed:
            known = ", ".join(map(str, allowed))
            raise UserError(f"{key}={getattr(config, key)!r} is unknown: choose one of {known}.")


def check_at_least(config: FrontEndConfig, least: float, *keys: str) -> None:
    """Raise UserError when one of the settings is below `least`."""
    for key in keys:
        if not getattr(config, key) >= least:
            raise UserError(f"{key}={getattr(config, key)} must be at least {least:g}.")


def check_band(config: Any) -> None:
    """Raise UserError when f_min and f_max of a configuration are no band below half of its sample rate."""
    nyquist = config.sample_rate / 2
    if config.f_max > nyquist:
        raise UserError(f"f_max={config.f_max:g} Hz lies above {nyquist:g} Hz, half of sample_rate: lower f_max.")
    if not 0 <= config.f_min < config.f_max:
        raise UserError(f"f_min={config.f_min:g} Hz must be at least 0 and below f_max={config.f_max:g} Hz.")


# Type of a configuration -> module and class of its front end; a module is imported when it is asked for.
HOMES = {
    "synchrosqueezing": ("synchrosqueezing", "Synchrosqueezing"),
    "scattering": ("scattering", "Scattering"),
    "chroma": ("chroma", "Chroma"),
    "gammatone": ("gammatone", "Gammatone"),
    "cqt": ("cqt", "Cqt"),
    "cwt": ("cwt", "Cwt"),
    "vqt": ("cqt", "Vqt"),
    "emd": ("emd", "Emd"),
    "matching_pursuit": ("matching_pursuit", "MatchingPursuit"),
    "wigner_ville": ("wigner_ville", "WignerVille"),
    "dwt": ("dwt", "Dwt"),
    "wavelet_packet": ("wavelet_packet", "WaveletPacket"),
    "stft": ("stft", "Stft"),
    "mel": ("mel", "Mel"),
    "mfcc": ("mfcc", "Mfcc"),
    "reassigned": ("reassigned", "Reassigned"),
    "fbank": ("fbank", "Fbank"),
    "leaf": ("leaf", "Leaf"),
    "stack": ("stack", "Stack"),
}


def build_frontend(config: FrontEndConfig | str, **settings: Any) -> FrontEnd:
    """Build a front end of a configuration, or of a type's name and settings: wave (B, S) -> picture (B, C, F, T).

    Raises UserError for an unknown type or setting, and for settings that contradict each other.

    >>> build_frontend("mel", n_bins=80)(torch.zeros(2, 16000)).shape
    torch.Size([2, 1, 80, 96])
    """
    if isinstance(config, str):
        config = config_of(config, settings)
    check_types_of(config)
    check_at_least(config, 1, "sample_rate", "hop_length")
    check_size(config)
    module, name = HOMES[config.type]
    frontend: FrontEnd = getattr(import_module(f".{module}", __package__), name)(config)
    return frontend


def check_types_of(config: FrontEndConfig) -> None:
    """Raise UserError for a setting that is of another type than its field, or not finite."""
    numbers = {int: (Integral, "a whole number"), float: (Real, "a number")}
    for name, kind in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if kind not in numbers:
            continue
        wanted, words = numbers[kind]
        if not isinstance(value, wanted) or isinstance(value, bool) or not math.isfinite(value):
            raise UserError(f"{name}={value!r} must be {words}.")


def check_size(config: FrontEndConfig) -> None:
    """Raise UserError for settings whose filters would fill the memory."""
    for name, most in MOST.items():
        if getattr(config, name, 0) > most:
            raise UserError(f"frontend {name}={getattr(config, name)} is more than any picture needs: at most {most}.")
    rows = max(getattr(config, "n_bins", 1), getattr(config, "n_mels", 1))
    if rows * getattr(config, "n_fft", 1) > MOST_FILTER_WEIGHTS:
        raise UserError(f"frontend n_fft={getattr(config, 'n_fft', 1)} is too much for {rows} rows: lower one of both.")


def config_of(name: str, settings: dict[str, Any]) -> FrontEndConfig:
    """The configuration of a type's name and settings; raises UserError for those that do not exist."""
    known = FrontEndConfig.get_known_choices()
    if name not in known:
        raise UserError(f"front end type={name!r} is unknown: choose one of {', '.join(known)}.")
    names = [field.name for field in fields(known[name])]
    for key in settings:
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(names)}."
            raise UserError(f"the front end {name} has no setting {key!r}; {hint}")
    config: FrontEndConfig = known[name](**settings)
    return config
