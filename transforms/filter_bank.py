"""The engine of the filter-bank front ends: every filter's exact output at every hop-th sample, in any number of rows.

A filter is given by its frequency response. One real FFT of the padded wave serves all filters; each is multiplied
only on the bins where it is not negligible; the products are folded modulo M = N / hop (what keeping every hop-th
sample does to a spectrum), and an inverse FFT of M points gives the output at samples 0, hop, 2 hop ... This is the
filter's full output there, not an approximation: the bins left out are the only error. Constant-Q, wavelet and
gammatone pictures differ in their responses alone.

    bank = FilterBank(response, n_filters=64, reach=2000, hop_length=167)
    output = bank(wave)             # (B, S) float -> (B, 64, 1 + S // 167) complex, frame t at sample t * 167

`response(rows, frequency)` returns the responses (k, n) of the filters in the slice `rows` at `frequency` (n,), float64
cycles a sample in [-1/4, 3/4): once around the circle, so that a filter may leak below 0 and past 1/2. They are applied
as they are: an analytic filter returns 0 below 0 and above 1/2, a delay is a phase; real or complex. `reach` is the
number of samples, before or behind a filter's origin, after which the longest filter is over.

Fast where the hop is long and the filters are narrow: for 64 wavelets at a hop of 10 ms at least ten times as fast as
dense convolution by FFT on clips of a second at 16 kHz, and up to 63 times on ten seconds at 32 kHz. A hop with a large
prime factor, such as 167, makes the first FFT six times slower than one without.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from operator import index
from typing import NamedTuple

import torch
from torch import Tensor, nn

from audiossl.errors import UserError

from .config import FrontEndConfig
from .frontend import FrontEnd
from .stft import as_magnitude

Response = Callable[[slice, Tensor], Tensor]

# Lengths M of the inverse FFT are one of these times a power of two: few, so that clips of many lengths share tables.
FAST_LENGTHS = (8, 9, 10, 12, 15)
CACHED_TABLES = 8
MOST_REACH = 2**21  # samples: filters of four minutes at 16 kHz
# Neighbouring filters share one product while the narrowest needs at least this share of the widest's bins.
GROUP_SHARE = 0.7


class Group(NamedTuple):
    """Neighbouring filters of about the same width: k filters, f folds of M bins."""

    positions: Tensor  # (k, 1, M) int64: place in the spectrum of the lowest bin with each remainder modulo M
    folds: Tensor  # (f, 1) int64: multiples of M
    weights: Tensor  # (k, f, M) complex responses / hop


class Table(NamedTuple):
    """What the bank needs for clips of one padded length."""

    n_fft: int
    first_bin: int  # lowest bin that a filter needs, 0 or less
    last_bin: int  # one behind the highest
    groups: list[Group]


def fast_length(least: int) -> int:
    """The smallest length of at least `least` for which the inverse FFT is fast.

    >>> [fast_length(n) for n in (1, 17, 96, 121)]
    [1, 18, 96, 128]
    """
    if least < FAST_LENGTHS[0]:
        return least
    octave: int = 2 ** ((least // FAST_LENGTHS[0]).bit_length() - 1)
    return min(n * factor for n in FAST_LENGTHS for factor in (octave, 2 * octave) if n * factor >= least)


class FilterBank(nn.Module):
    """Outputs of K filters at every hop-th sample: wave (B, S) to complex (B, K, T) with T = 1 + S // hop_length.

    The wave is taken as zero before its first and behind its last sample, whatever its length. Bins where a response
    is below `tolerance` of its peak are left out: on noise, 1e-3 leaves an error below 1e-3 of the output's norm.
    float64 waves are computed in float64. A table is made for each padded length and the 8 newest are kept, outside
    the state_dict. Under torch.compile each length of clips has a graph of its own.

    >>> centre = torch.tensor([[0.1], [0.2]], dtype=torch.float64)
    >>> gaussians = lambda rows, frequency: torch.exp(-0.5 * ((frequency - centre[rows]) / 0.01) ** 2)
    >>> bank = FilterBank(gaussians, n_filters=2, reach=80, hop_length=100)
    >>> wave = torch.cos(2 * torch.pi * 0.2 * torch.arange(1000.0))
    >>> bank(wave[None])[0, :, 5].abs().round(decimals=3)  # the filter at 0.2 passes the positive half of the cosine
    tensor([0.0000, 0.5000])
    """

    def __init__(self, response: Response, n_filters: int, reach: int, hop_length: int, tolerance: float = 1e-3):
        super().__init__()
        if reach > MOST_REACH:
            raise UserError(f"the longest filter has {2 * reach} samples, more than any clip needs: raise f_min.")
        self.response, self.n_filters, self.reach = response, n_filters, max(reach, 1)
        self.hop_length, self.tolerance = hop_length, tolerance
        self.tables: OrderedDict[tuple[int, torch.device, torch.dtype], Table] = OrderedDict()

    def forward(self, wave: Tensor) -> Tensor:
        """Outputs (B, K, T) of waves (B, S), complex64 or, of float64 waves, complex128."""
        n_samples = index(wave.shape[-1])  # a plain number under torch.compile as well, whose graphs are for one length
        table: Table = self.table(n_samples, wave.device, wave.dtype)
        spectrum = self._spectrum(wave, table)
        rows = [self._folded(spectrum, group) for group in table.groups]
        output: Tensor = torch.fft.ifft(torch.cat(rows, dim=1))
        return output[..., : 1 + n_samples // self.hop_length]

    def _spectrum(self, wave: Tensor, table: Table) -> Tensor:
        """Spectrum (B, last_bin - first_bin) of real waves, continued around the circle as far as filters reach."""
        half = torch.fft.rfft(wave, table.n_fft)
        if table.last_bin <= half.shape[-1]:
            parts = [half[:, : table.last_bin]]
        else:
            mirrored = half[:, table.n_fft - table.last_bin + 1 : (table.n_fft + 1) // 2]
            parts = [half, mirrored.flip(-1).conj()]
        if table.first_bin < 0:
            parts.insert(0, half[:, 1 : 1 - table.first_bin].flip(-1).conj())
        return torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]

    def _folded(self, spectrum: Tensor, group: Group) -> Tensor:
        """Products with one group's filters, folded modulo M: (B, k, M)."""
        places = group.positions + group.folds
        bins: Tensor = spectrum.gather(1, places.flatten().expand(len(spectrum), -1)).unflatten(1, places.shape)
        products = bins * group.weights
        return products.sum(2) if places.shape[1] > 1 else products[:, :, 0]

    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # torch does not say its type
    def table(self, n_samples: int, device: torch.device, dtype: torch.dtype) -> Table:
        """The table for clips of `n_samples`, made at first use."""
        n_frames = fast_length(-(-(n_samples + self.reach) // self.hop_length))
        key = (n_frames, device, dtype)
        if key not in self.tables:
            while len(self.tables) >= CACHED_TABLES:
                self.tables.popitem(last=False)
            with torch.inference_mode(False), torch.no_grad():  # a table made for inference may serve training next
                self.tables[key] = self._build(n_frames, device, dtype)
        return self.tables[key]

    def temporary_bytes(self, n_samples: int) -> int:
        """Memory that `forward` needs in passing for one float32 clip of `n_samples` on a CPU, in bytes."""
        table: Table = self.table(index(n_samples), torch.device("cpu"), torch.float32)
        largest = max(group.weights.numel() for group in table.groups)
        n_frames = table.groups[0].weights.shape[2]
        spectrum = 4 * table.n_fft + 8 * (table.last_bin - table.first_bin)
        return 4 * table.n_fft + spectrum + 8 * (2 * largest + 3 * self.n_filters * n_frames)

    def _build(self, n_frames: int, device: torch.device, dtype: torch.dtype) -> Table:
        n_fft = n_frames * self.hop_length
        first, width = self._bands(n_fft)
        n_folds = -(-width // n_frames)
        groups = neighbours(n_folds.tolist())
        for rows in groups:
            n_folds[rows] = n_folds[rows].max()
        # A group's bins may not pass the end of the circle: some would count twice.
        first = torch.minimum(first, n_fft - n_fft // 4 - n_folds * n_frames)
        first_bin, last_bin = min(0, int(first.min())), int((first + n_folds * n_frames).max())
        complex_dtype = torch.complex128 if dtype == torch.float64 else torch.complex64
        ready = []
        for rows in groups:
            lowest = first[rows, None]
            positions = lowest + (torch.arange(n_frames) - lowest) % n_frames
            folds = n_frames * torch.arange(int(n_folds[rows.start]))[:, None]
            bins = positions[:, None] + folds
            weights = torch.stack(
                [self._response(row, bins[row - rows.start], n_fft) for row in range(rows.start, rows.stop)]
            )
            weights = (weights / self.hop_length).to(complex_dtype)
            ready.append(Group(*(part.to(device) for part in (positions[:, None] - first_bin, folds, weights))))
        return Table(n_fft, first_bin, last_bin, ready)

    def _response(self, row: int, bins: Tensor, n_fft: int) -> Tensor:
        """Response of one filter at bins of any shape."""
        return self.response(slice(row, row + 1), bins.flatten().to(torch.float64) / n_fft)[0].reshape(bins.shape)

    def _bands(self, n_fft: int) -> tuple[Tensor, Tensor]:
        """Lowest bin and number of bins (K,) that each filter needs."""
        # No response changes much between frequencies an eighth of 1 / reach apart: long clips need no finer look.
        n_looks = min(n_fft, max(8 * self.reach, 64))
        looks = torch.arange(-(n_looks // 4), n_looks - n_looks // 4)
        lowest, highest = -(n_fft // 4), n_fft - n_fft // 4 - 1
        first = torch.empty(self.n_filters, dtype=torch.int64)
        width = torch.empty(self.n_filters, dtype=torch.int64)
        for row in range(self.n_filters):  # one at a time: all of them would be hundreds of megabytes
            height = self._response(row, looks, n_looks).abs()
            needed = looks[height >= self.tolerance * height.max()]
            first[row] = max(lowest, (int(needed[0]) - 1) * n_fft // n_looks)
            last = min(highest, -(-(int(needed[-1]) + 1) * n_fft // n_looks))
            width[row] = last + 1 - first[row]
        return first, width


def neighbours(n_folds: list[int]) -> list[slice]:
    """Runs of neighbouring filters whose numbers of folds are about the same.

    >>> neighbours([1, 1, 2, 2, 3, 5, 6])
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None), slice(5, 7, None)]
    """
    runs, start = [], 0
    for row in range(1, len(n_folds) + 1):
        run = n_folds[start : row + 1]
        if row == len(n_folds) or min(run) < GROUP_SHARE * max(run):
            runs.append(slice(start, row))
            start = row
    return runs


class FilterBankFrontEnd(FrontEnd):
    """Base of the front ends that are a filter bank: power or magnitude of every filter's output, a row each.

    A subclass gives its rows' frequencies in Hz, the response and the reach of its filters; its configuration has
    `power`. Shape: wave (B, S) to image (B, 1, F, T) with T = 1 + S // hop_length.
    """

    def __init__(
        self, config: FrontEndConfig, frequencies: Tensor, response: Response, reach: int, tolerance: float = 1e-3
    ):
        super().__init__(config, frequencies)
        self.bank = FilterBank(response, len(frequencies), reach, config.hop_length, tolerance)

    def transform(self, wave: Tensor) -> Tensor:
        """Power, or magnitude, before compression."""
        output = self.bank(wave)
        power = (output.real.square() + output.imag.square()).unsqueeze(1)
        return as_magnitude(power) if getattr(self.config, "power", 2.0) == 1.0 else power

    def temporary_bytes(self, n_samples: int) -> int:
        """Temporaries of one clip."""
        return self.bank.temporary_bytes(n_samples)
