"""Constant-Q and variable-Q transform: windowed sines whose number of periods is the same, or nearly, in every row.

Filters as librosa.filters.wavelet defines them (after Brown, 1991, and Schörkhuber et al., 2014). With alpha the
relative distance of rows, (r^2 - 1) / (r^2 + 1) for the ratio r of neighbours, the filter at f Hz is a complex sine in
a periodic Hann window of filter_scale / alpha * sample_rate / (f + gamma / alpha) samples; gamma 0 is the constant Q.
They are scaled so that a sine of amplitude 1 has height 1 in its row: twice librosa's filters, whose L1 norm is 1.

Backend "fft" is exact to 3e-4 of the picture's norm (`audiossl.transforms.filter_bank`) and much faster. Backend
"nnaudio" correlates with nnAudio's kernels, of which those of the CQT can be trained. It rounds their lengths up to
whole samples, which leaves its CQT within 1e-2 of the exact picture, and its VQT halves the sample rate from octave to
octave: within 3e-2.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiossl.errors import UserError

from .config import ConstantQConfig, CqtConfig, VqtConfig
from .cwt import log_spaced
from .filter_bank import FilterBankFrontEnd
from .frontend import check_at_least, check_band, check_choices
from .stft import as_magnitude, forget_buffers, full_precision_convolutions

# Share of a response's peak below which bins are left out; the Hann window's side lobes fall off slowly, and with this
# the picture of coloured sound is exact to 3e-4.
TOLERANCE = 3e-4


def row_ratio(config: ConstantQConfig) -> float:
    """Ratio of the frequencies of neighbouring rows."""
    if config.bins_per_octave:
        return float(2.0 ** (1.0 / config.bins_per_octave))
    return float((config.f_max / config.f_min) ** (1.0 / (config.n_bins - 1)))


def row_frequencies(config: ConstantQConfig) -> Tensor:
    """Frequencies (n_bins,) of the rows in Hz, float64."""
    return log_spaced(config.n_bins, config.f_min, config.f_min * row_ratio(config) ** (config.n_bins - 1))


def relative_distance(config: ConstantQConfig) -> float:
    """alpha: the width of a row as a share of its frequency; 1 / alpha is its quality factor at filter_scale 1."""
    square = row_ratio(config) ** 2
    return (square - 1.0) / (square + 1.0)


def filter_lengths(config: ConstantQConfig, gamma: float) -> Tensor:
    """Lengths (n_bins,) of the filters in samples, with fractions."""
    alpha = relative_distance(config)
    return config.filter_scale / alpha * config.sample_rate / (row_frequencies(config) + gamma / alpha)


def constant_q_response(centres: Tensor, lengths: Tensor, rows: slice, frequency: Tensor) -> Tensor:
    """Responses (k, n) of the filters around `centres` (F,) in cycles a sample: correlation with sines in Hann windows.

    A filter of length l runs from sample -ceil(l / 2) to floor(l / 2) - 1, its sine's phase being 0 at sample 0. Its
    response is the sum of three geometric series, one for each term of the window, which this closed form joins.
    """
    before = (lengths[rows, None] / 2).ceil()
    length = before + (lengths[rows, None] / 2).floor()
    zero = math.pi / length  # the window's transform ends its main lobe at twice this angle
    # Moved aside by next to nothing, where no denominator is 0.
    half = math.pi * (frequency - centres[rows, None]) + 1e-7 * zero
    square = zero.sin().square()
    sine = half.sin()
    height = (2.0 / length) * square * half.cos() * (length * half).sin() / (sine * (square - sine.square()))
    return torch.polar(torch.ones_like(half), half * (length - 2 * before)) * height


class NnAudioCqt(nn.Module):
    """Power (B, F, T) of waves (B, S) by nnAudio's CQT1992v2, scaled as ours."""

    def __init__(self, config: ConstantQConfig):
        super().__init__()
        from nnAudio.features.cqt import CQT1992v2

        ratio = row_ratio(config)
        self.cqt = CQT1992v2(
            sr=config.sample_rate,
            hop_length=config.hop_length,
            fmin=config.f_min,
            n_bins=config.n_bins,
            bins_per_octave=1.0 / math.log2(ratio),
            # nnAudio takes r - 1 for the relative distance of rows.
            filter_scale=config.filter_scale * (ratio - 1.0) / relative_distance(config),
            center=False,  # padded here: nnAudio cannot reflect short clips
            trainable=config.trainable,
            verbose=False,  # it would print to stdout
        )
        forget_buffers(self.cqt)

    def forward(self, wave: Tensor) -> Tensor:
        """Power of every row and frame; "wrap" is nnAudio's word for a sine of height 1."""
        half = self.cqt.kernel_width // 2
        with full_precision_convolutions():
            parts: Tensor = self.cqt(
                functional.pad(wave, (half, half)), output_format="Complex", normalization_type="wrap"
            )
        return parts.square().sum(-1)[..., : 1 + wave.shape[-1] // self.cqt.hop_length]


class NnAudioVqt(nn.Module):
    """Power (B, F, T) of waves (B, S) by nnAudio's VQT, scaled as ours."""

    def __init__(self, config: VqtConfig):
        check_nnaudio_vqt(config)
        super().__init__()
        from nnAudio.features.vqt import VQT

        ratio = row_ratio(config)
        scale = (ratio - 1.0) / relative_distance(config)
        self.vqt = VQT(
            sr=config.sample_rate,
            hop_length=config.hop_length,
            fmin=config.f_min,
            n_bins=config.n_bins,
            bins_per_octave=round(1.0 / math.log2(ratio)),
            filter_scale=config.filter_scale * scale,
            gamma=config.gamma * scale,
            pad_mode="constant",
            earlydownsample=False,  # it would shorten the hop
            verbose=False,
        )
        forget_buffers(self.vqt)

    def forward(self, wave: Tensor) -> Tensor:
        """Power of every row and frame."""
        hop_length = self.vqt.hop_length
        n_frames = 1 + wave.shape[-1] // hop_length
        # Whole hops, so that every octave has the same number of frames: nnAudio would stretch them otherwise.
        padded = functional.pad(wave, (0, n_frames * hop_length - wave.shape[-1]))
        with full_precision_convolutions():
            parts: Tensor = self.vqt(padded, output_format="Complex", normalization_type="wrap")
        return parts.square().sum(-1)[..., :n_frames]


def check_constant_q(config: ConstantQConfig, gamma: float) -> None:
    """Raise UserError for settings that cannot work, naming the setting and the remedy."""
    check_choices(config, backend=("fft", "nnaudio"), power=(2.0, 1.0))
    check_at_least(config, 1 if config.bins_per_octave else 2, "n_bins")
    check_at_least(config, 0, "bins_per_octave")
    if not config.f_min > 0:
        raise UserError(f"f_min={config.f_min:g} Hz is no row of a constant-Q transform: give one above 0.")
    if config.bins_per_octave:
        check_octaves(config)
    else:
        check_band(config)
    shortest = float(filter_lengths(config, gamma).min())
    if not shortest >= 2:
        raise UserError(
            f"filter_scale={config.filter_scale:g} leaves the shortest filter {shortest:.2g} samples: raise it to at "
            f"least {2 * config.filter_scale / shortest if shortest > 0 else 1:.2g}"
            f"{f', or lower gamma={gamma:g}' if gamma else ''}."
        )
    if config.trainable and config.backend != "nnaudio":
        raise UserError("trainable=true needs backend=nnaudio: the filter bank has no kernels to train.")


def check_octaves(config: ConstantQConfig) -> None:
    """Raise UserError when the rows reach beyond half of sample_rate, saying how many fit."""
    octaves = math.log2(config.sample_rate / 2 / config.f_min)
    fit = math.floor(config.bins_per_octave * octaves) + 1
    if config.n_bins > fit:
        raise UserError(
            f"n_bins={config.n_bins} at bins_per_octave={config.bins_per_octave:g} lead from f_min={config.f_min:g} Hz "
            f"beyond {config.sample_rate / 2:g} Hz, half of sample_rate: at most {max(fit, 0)} rows "
            f"({max(octaves, 0):.1f} octaves) fit."
        )


def check_nnaudio_vqt(config: ConstantQConfig) -> None:
    """Raise UserError for settings that nnAudio's VQT, which halves the sample rate octave by octave, cannot have."""
    exact = 1.0 / math.log2(row_ratio(config))
    whole = round(exact)
    if whole < 1 or abs(exact - whole) > 1e-6 or config.n_bins < whole:
        raise UserError(
            f"bins_per_octave={exact:.6g} with n_bins={config.n_bins}: nnAudio's VQT needs a whole number of rows an "
            "octave and at least an octave; change it, or take backend=fft."
        )
    step = 2 ** (math.ceil(config.n_bins / whole) - 1)
    if config.hop_length % step:
        raise UserError(
            f"hop_length={config.hop_length} must be a multiple of {step} with backend=nnaudio, whose VQT halves the "
            "sample rate from octave to octave; change it, or take backend=fft."
        )


class ConstantQ(FilterBankFrontEnd):
    """Base of both types: rows whose filters get `gamma` Hz of width besides their share of the frequency."""

    config: CqtConfig | VqtConfig

    def __init__(self, config: CqtConfig | VqtConfig, gamma: float):
        check_constant_q(config, gamma)
        frequencies, lengths = row_frequencies(config), filter_lengths(config, gamma)
        response = partial(constant_q_response, frequencies / config.sample_rate, lengths)
        super().__init__(config, frequencies, response, math.ceil(float(lengths.max()) / 2), TOLERANCE)
        self.nnaudio: nn.Module | None = None
        if config.backend == "nnaudio":
            self.nnaudio = NnAudioVqt(config) if isinstance(config, VqtConfig) else NnAudioCqt(config)

    def transform(self, wave: Tensor) -> Tensor:
        """Power, or magnitude, before compression."""
        if self.nnaudio is None:
            return super().transform(wave)
        power = self.nnaudio(wave).unsqueeze(1)
        return as_magnitude(power) if self.config.power == 1.0 else power

    def temporary_bytes(self, n_samples: int) -> int:
        """Temporaries of one clip; of nnAudio's convolutions, the wave cut into frames at the worst."""
        if self.nnaudio is None:
            return super().temporary_bytes(n_samples)
        return 4 * self.n_frames(n_samples) * (2 * self.bank.reach + 6 * self.n_bins)


class Cqt(ConstantQ):
    """Constant-Q picture of waves (B, S): image (B, 1, n_bins, T) with T = 1 + S // hop_length.

    Raises UserError when the rows reach beyond half of sample_rate, and for settings that contradict each other.

    >>> cqt = Cqt(CqtConfig(n_bins=36, f_min=110.0, bins_per_octave=12.0, compress="none"))
    >>> wave = torch.sin(2 * torch.pi * 220 / 16000 * torch.arange(16000))
    >>> cqt(wave[None])[0, 0, 10:15, 48].round(decimals=2)  # row 12 lies at 220 Hz
    tensor([0.0000, 0.2300, 1.0000, 0.2700, 0.0000])
    """

    def __init__(self, config: CqtConfig):
        super().__init__(config, gamma=0.0)


class Vqt(ConstantQ):
    """Variable-Q picture of waves (B, S): image (B, 1, n_bins, T) with T = 1 + S // hop_length.

    Raises UserError as `Cqt` does, for a negative gamma, and for what nnAudio's VQT cannot do.

    >>> Vqt(VqtConfig(gamma=30.0))(torch.zeros(2, 16000)).shape
    torch.Size([2, 1, 64, 96])
    """

    def __init__(self, config: VqtConfig):
        check_at_least(config, 0, "gamma")
        if config.trainable:
            raise UserError("trainable=true: nnAudio's VQT has no kernels that can be trained, type cqt has.")
        super().__init__(config, gamma=config.gamma)
