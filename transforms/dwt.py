"""Discrete wavelet transform (Mallat, 1989): strided filters with PyWavelets' taps, one octave a row.

A level filters the signal with a low- and a high-pass and keeps every second output; the low half goes to the next
level. Coefficients and all nine ways to extend a signal beyond its ends are PyWavelets', equal to 1e-5 for any length,
clips shorter than the filter among them, so that `pywt.waverec` gives the wave back. Fast because the work of all
levels together is that of two convolutions with a few taps; the picture costs about as much as the transform.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from audiossl.errors import UserError

from .config import DiscreteWaveletConfig, DwtConfig
from .frontend import FrontEnd, check_at_least, check_choices

PAD_MODES = (
    "symmetric",
    "reflect",
    "zero",
    "constant",
    "periodic",
    "periodization",
    "smooth",
    "antisymmetric",
    "antireflect",
)
MAX_LEVEL = 16  # at 16 kHz the lowest octave then ends at 0.1 Hz


@lru_cache(maxsize=16)
def analysis_taps(wavelet: str) -> Tensor:
    """Low- and high-pass (2, n_taps) of a discrete wavelet in float64, last tap first.

    Raises UserError for a name that PyWavelets does not know.

    >>> analysis_taps("db4").shape
    torch.Size([2, 8])
    """
    import pywt

    if wavelet not in (known := pywt.wavelist(kind="discrete")):
        raise UserError(f"wavelet={wavelet!r} is no discrete wavelet: choose one of {', '.join(known)}.")
    bank = pywt.Wavelet(wavelet)
    return torch.tensor([bank.dec_lo, bank.dec_hi], dtype=torch.float64).flip(-1)


def extend(signal: Tensor, before: int, behind: int, pad_mode: str) -> Tensor:
    """Signals (N, n) with `before` and `behind` samples added at their ends, as often mirrored as that needs.

    >>> extend(torch.tensor([[1.0, 2.0, 3.0]]), 2, 4, "symmetric").tolist()
    [[2.0, 1.0, 1.0, 2.0, 3.0, 3.0, 2.0, 1.0, 1.0]]
    """
    if pad_mode == "zero":
        return functional.pad(signal, (before, behind))
    n = signal.shape[-1]
    ends = (torch.arange(-before, 0, device=signal.device), torch.arange(n, n + behind, device=signal.device))
    places = torch.cat(ends)
    added = _beyond(signal, places, pad_mode)
    return torch.cat([added[:, :before], signal, added[:, before:]], dim=-1)


def _beyond(signal: Tensor, places: Tensor, pad_mode: str) -> Tensor:
    """Values (N, p) of the extended signals at `places` (p,), counted from the first sample."""
    n = signal.shape[-1]
    first, last = signal[:, :1], signal[:, -1:]
    if pad_mode == "constant" or (n == 1 and pad_mode in ("reflect", "smooth", "antireflect")):
        return signal[:, places.clamp(0, n - 1)]
    if pad_mode == "periodic":
        return signal[:, places % n]
    if pad_mode == "smooth":  # straight on, with the slope of the last two samples
        head = first + places * (signal[:, 1:2] - first)
        tail = last + (places - n + 1) * (last - signal[:, -2:-1])
        return torch.where(places < 0, head, tail)
    if pad_mode in ("symmetric", "antisymmetric"):
        turn = places % (2 * n)
        values = signal[:, torch.minimum(turn, 2 * n - 1 - turn)]
        return torch.where(turn < n, values, -values) if pad_mode == "antisymmetric" else values
    turn = places % (2 * n - 2)
    values = signal[:, torch.minimum(turn, 2 * n - 2 - turn)]
    if pad_mode == "reflect":
        return values
    rounds = torch.div(places, 2 * n - 2, rounding_mode="floor")  # antireflect: turned about the end point
    return torch.where(turn < n, values, 2 * last - values) + 2 * rounds * (last - first)


def analysis_step(signal: Tensor, taps: Tensor, pad_mode: str) -> Tensor:
    """One level: signals (N, n) to their low and high halves (N, 2, n'), n' = (n + n_taps - 1) // 2.

    "periodization" takes the signal as one period and gives n' = ceil(n / 2), the fewest that allow reconstruction.
    """
    n_taps = taps.shape[-1]
    if pad_mode == "periodization":
        even = torch.cat([signal, signal[:, -1:]], dim=-1) if signal.shape[-1] % 2 else signal
        padded = extend(even, n_taps // 2 - 1, n_taps // 2 - 1, "periodic")
    else:
        padded = extend(signal, n_taps - 2, n_taps - 1, pad_mode)
    n_out = (padded.shape[-1] - n_taps) // 2 + 1
    # A matrix product with the shifted even and odd samples: a convolution layer with one channel takes twice the time,
    # and on a GPU it would round to TF32.
    used = padded[:, : 2 * n_out + n_taps - 2]
    shifted = by_parity(used).contiguous().unfold(-1, n_out, 1)  # (N, 2, n_taps / 2, n')
    return torch.matmul(by_parity(taps).flatten(1), shifted.flatten(1, 2))


def by_parity(values: Tensor) -> Tensor:
    """Even and odd values apart: (N, 2 n) to (N, 2, n)."""
    pairs: Tensor = values.unflatten(-1, (-1, 2)).transpose(1, 2)
    return pairs


def wavedec(wave: Tensor, wavelet: str = "db4", level: int = 7, pad_mode: str = "symmetric") -> list[Tensor]:
    """Wavelet coefficients of waves (B, S): approximation, then details from low to high frequency, each (B, n).

    >>> [row.shape[1] for row in wavedec(torch.zeros(1, 100), "db2", level=3)]
    [15, 15, 27, 51]
    """
    return decompose(wave, analysis_taps(wavelet), level, pad_mode)


def decompose(wave: Tensor, taps: Tensor, level: int, pad_mode: str) -> list[Tensor]:
    """Wavelet coefficients of waves (B, S) as `wavedec`, with the taps of `analysis_taps`."""
    taps = taps.to(wave)
    rows = []
    for _ in range(level):
        halves = analysis_step(wave, taps, pad_mode)
        wave = halves[:, 0]
        rows.append(halves[:, 1])
    return [wave, *reversed(rows)]


def longer_filters(filters: Tensor, taps: Tensor, level: int) -> Tensor:
    """Equivalent filters (K, n) after `level` levels to those after one more: (K, 2, n')."""
    step, n = 2**level, filters.shape[-1]
    kernel = taps.flip(-1)
    longer = filters.new_zeros(len(filters), 2, n + (kernel.shape[-1] - 1) * step)
    for i, tap in enumerate(kernel.unbind(-1)):
        longer[..., i * step : i * step + n] += tap[:, None] * filters[:, None]
    return longer


def first_starts(filters: Tensor, level: int, n_taps: int, pad_mode: str) -> Tensor:
    """Where the 2^level samples begin that the first coefficient of each equivalent filter (K, n) stands for.

    In samples; the middle is the filter's centre of energy, since a wavelet of few taps has no linear phase.
    """
    lead = n_taps // 2 if pad_mode == "periodization" else 1
    weights = filters.square()
    delay = (weights * torch.arange(filters.shape[-1])).sum(-1) / weights.sum(-1)
    first: Tensor = (2**level - 1) * lead - delay + 0.5 - 2**level / 2
    return first


def mean_over_frames(energy: Tensor, starts: Tensor, step: int, n_samples: int, hop_length: int) -> Tensor:
    """Mean energy a sample of rows of coefficients (B, F, n), in frames (B, F, T) centred on every hop-th sample.

    A coefficient's energy is spread over the `step` samples it stands for, the first ones from `starts` (F,) on; before
    and behind, the outermost are held. The first frame begins and the last one ends with the clip, so that means times
    lengths of the frames sum to the energy between the clip's ends. Sums are in float64, since a frame is a difference
    of two.

    >>> energy = torch.tensor([[[4.0, 0.0, 8.0]]])  # 4 samples each
    >>> mean_over_frames(energy, torch.zeros(1), 4, n_samples=12, hop_length=4).tolist()
    [[[1.0, 0.5, 1.0, 2.0]]]
    """
    if energy.device.type == "mps":  # has no float64
        return mean_over_frames(energy.cpu(), starts.cpu(), step, n_samples, hop_length).to(energy.device)
    n, n_frames = energy.shape[-1], 1 + n_samples // hop_length
    edges = (torch.arange(n_frames + 1, device=energy.device, dtype=torch.float64) - 0.5) * hop_length
    edges[0], edges[-1] = 0.0, n_samples
    places = (edges - starts[:, None]) / step
    index = places.floor().clamp(0, n - 1).long()
    sums = functional.pad(energy.to(torch.float64).cumsum(-1), (1, 0))
    wide = index.expand(len(energy), -1, -1)
    integral = sums.gather(-1, wide) + (places - index) * energy.gather(-1, wide)
    means = integral.diff(dim=-1) / (places.diff(dim=-1) * step)
    return means.clamp(min=0.0).to(energy.dtype)


def check_discrete(config: DiscreteWaveletConfig, max_level: int) -> None:
    """Raise UserError for settings that no discrete wavelet front end can be built from."""
    check_choices(config, pad_mode=PAD_MODES)
    check_at_least(config, 1, "level")
    if config.level > max_level:
        raise UserError(f"level={config.level} is more than {max_level}: lower level.")


class Dwt(FrontEnd):
    """Picture of the discrete wavelet transform: energy a sample of the approximation and, above it, of the details.

    Row 0 holds what lies below sample_rate / 2^(level + 1), each further row an octave.

    Shape: wave (B, S) to image (B, 1, level + 1, T) with T = 1 + S // hop_length.
    Raises UserError for an unknown wavelet or pad_mode, and for a level outside 1 to 16.

    >>> dwt = Dwt(DwtConfig(level=3))
    >>> dwt.frequencies.tolist(), dwt(torch.zeros(1, 16000)).shape
    ([500.0, 1500.0, 3000.0, 6000.0], torch.Size([1, 1, 4, 96]))
    """

    config: DwtConfig
    taps: Tensor
    starts: Tensor

    def __init__(self, config: DwtConfig):
        check_discrete(config, MAX_LEVEL)
        levels = torch.arange(config.level, 0, -1, dtype=torch.float64)
        lowest = torch.full((1,), config.sample_rate / 2 ** (config.level + 2), dtype=torch.float64)
        super().__init__(config, torch.cat([lowest, 0.75 * config.sample_rate / 2**levels]))
        taps = analysis_taps(config.wavelet)
        filters, starts = torch.ones(1, 1, dtype=torch.float64), []
        for level in range(config.level):
            both = longer_filters(filters, taps, level)[0]
            starts.append(first_starts(both, level + 1, taps.shape[-1], config.pad_mode))
            filters = both[:1]
        rows = [starts[-1][0], *(pair[1] for pair in reversed(starts))]
        # float32, since a buffer of float64 cannot move to MPS.
        self.register_buffer("taps", taps.float(), persistent=False)
        self.register_buffer("starts", torch.stack(rows).float(), persistent=False)

    def transform(self, wave: Tensor) -> Tensor:
        """Energy a sample of every octave, before compression."""
        config = self.config
        levels = [config.level, *range(config.level, 0, -1)]
        coefficients = decompose(wave, self.taps, config.level, config.pad_mode)
        rows = [
            mean_over_frames(row[:, None].square(), self.starts[i : i + 1], 2**level, wave.shape[1], self.hop_length)
            for i, (row, level) in enumerate(zip(coefficients, levels, strict=True))
        ]
        return torch.cat(rows, dim=1).unsqueeze(1)

    def temporary_bytes(self, n_samples: int) -> int:
        """Temporaries of one clip: coefficients of all levels and their sums, about 40 bytes a sample."""
        return 40 * n_samples + 40 * self.n_bins * self.n_frames(n_samples)
