"""The filter-bank engine for a graph: the same filters, bins and folds, in matrix products of any length.

`audiossl.transforms.filter_bank` makes a table for each length of clips and uses complex FFTs; a graph is made once, in
real numbers. Here the FFT of N = M * hop samples is two steps of the same sum: M points over whole hops, then `hop`
points within them; and a filter's response at the bins of the clip's N is interpolated from samples of it. Bins left
out and wrapping around are as in the engine, since a cut that differs shows in quiet cells beside loud ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiossl.export.fourier import dft
from audiossl.transforms.filter_bank import FAST_LENGTHS, FilterBank, FilterBankFrontEnd, fast_length, neighbours
from audiossl.transforms.stft import as_magnitude

# The lengths that `fast_length` chooses among, in hops; the longest are days.
LENGTHS = sorted({*range(1, FAST_LENGTHS[0]), *(n * 2**octave for n in FAST_LENGTHS for octave in range(16))})
# Cubic interpolation between samples of a response errs by at most this share of its peak.
INTERPOLATED_TO = 1e-6


def kept_bins(bank: FilterBank, n_frames: int, seen: dict[int, tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Lowest bin and number of folds (K,) of every filter in the engine's table of `n_frames` hops.

    seen: bands that were found before, by the number of looks; long clips share theirs.
    """
    n_fft = n_frames * bank.hop_length
    n_looks = min(n_fft, max(8 * bank.reach, 64))
    if n_looks not in seen:
        seen[n_looks] = bank._bands(n_looks)
    first, width = seen[n_looks]
    last = (-(-(first + width - 1) * n_fft // n_looks)).clamp(max=n_fft - n_fft // 4 - 1)
    first = (first * n_fft // n_looks).clamp(min=-(n_fft // 4))
    n_folds = -(-(last + 1 - first) // n_frames)
    for rows in neighbours(n_folds.tolist()):
        n_folds[rows] = n_folds[rows].max()
    return torch.minimum(first, n_fft - n_fft // 4 - n_folds * n_frames), n_folds


def sampled(response: Callable[[Tensor], Tensor], low: float, high: float, finest: int) -> tuple[Tensor, int, int]:
    """Samples of a response from `low` to `high` cycles a sample, two more at each end: (n,), the first's place, rate.

    The rate, in samples to the circle, is the lowest power of two that interpolation can do with, at most `finest`.
    """
    rate = 256
    while True:
        begin, end = math.floor(low * rate) - 2, math.ceil(high * rate) + 3
        samples = response(torch.arange(begin, end, dtype=torch.float64) / rate)
        middles = response((torch.arange(begin + 1, end - 2, dtype=torch.float64) + 0.5) / rate)
        found = (9.0 * (samples[1:-2] + samples[2:-1]) - samples[:-3] - samples[3:]) / 16.0
        if rate >= finest or (found - middles).abs().max() <= INTERPOLATED_TO * samples.abs().max():
            return samples, begin, rate
        rate *= 2


class GraphFilterBank(nn.Module):
    """Power or magnitude (B, 1, K, T) of waves (B, S), uncompressed, as `FilterBankFrontEnd.transform` gives it."""

    lengths: Tensor  # (L,): of what the table knows, in hops
    lowest_fold: Tensor  # (L, K)
    remainder: Tensor
    n_folds: Tensor
    row: Tensor  # (E,): an entry is a filter and one of its folds
    fold: Tensor
    sums: Tensor
    responses: Tensor
    offsets: Tensor  # (K,)
    rates: Tensor
    inner: Tensor

    def __init__(self, frontend: FilterBankFrontEnd):
        super().__init__()
        bank = frontend.bank
        self.hop_length, self.reach = bank.hop_length, bank.reach
        self.magnitude = getattr(frontend.config, "power", 2.0) == 1.0
        seen: dict[int, tuple[Tensor, Tensor]] = {}
        shortest = fast_length(-(-(1 + bank.reach) // bank.hop_length))
        lengths = [length for length in LENGTHS if length >= shortest]
        kept = [kept_bins(bank, length, seen) for length in lengths]
        first, n_folds = (torch.stack(parts) for parts in zip(*kept, strict=True))
        most = n_folds.amax(0)
        row = torch.arange(bank.n_filters).repeat_interleave(most)
        fold = torch.cat([torch.arange(int(n)) for n in most])
        frames = torch.tensor(lengths)[:, None]
        self._keep(lowest_fold=first // frames, remainder=first % frames, n_folds=n_folds)
        self._keep(lengths=torch.tensor(lengths), row=row, fold=fold)
        self._keep(sums=functional.one_hot(row).to(torch.float32))
        low = first / (frames * bank.hop_length)
        self._keep_responses(bank, low.amin(0), (low + n_folds / bank.hop_length).amax(0))
        self._keep_inner_dft(first // frames, n_folds)

    def _keep(self, **buffers: Tensor) -> None:
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)

    def _keep_responses(self, bank: FilterBank, low: Tensor, high: Tensor) -> None:
        """Samples of each filter's response over its band, one filter's behind the other's."""
        finest = 2 ** math.ceil(math.log2(32 * bank.reach))
        samples, offsets, rates = [], [], []
        n_before = 0
        for row in range(bank.n_filters):
            response = partial(_response, bank, row)
            values, begin, rate = sampled(response, float(low[row]), float(high[row]), finest)
            samples.append(values)
            offsets.append(n_before - begin - rate)  # places are counted from a circle before 0
            rates.append(rate)
            n_before += len(values)
        responses = torch.view_as_real(torch.cat(samples) / bank.hop_length).to(torch.float32)
        self._keep(responses=responses, offsets=torch.tensor(offsets), rates=torch.tensor(rates))

    def _keep_inner_dft(self, lowest: Tensor, n_folds: Tensor) -> None:
        """The DFT over the samples of a hop, of real and imaginary parts, at the folds that any filter needs."""
        self.first_fold = int(lowest.min())
        needed = torch.arange(self.first_fold, int((lowest + n_folds).max()) + 1)
        cosines, sines = dft(torch.arange(self.hop_length), needed, self.hop_length)
        self.n_needed = len(needed)
        self._keep(inner=torch.cat([torch.cat([cosines, -sines], 1), torch.cat([sines, cosines], 1)]))

    def forward(self, wave: Tensor) -> Tensor:
        """The uncompressed picture."""
        # ONNX cuts quotients towards 0: nothing that is divided here may be negative.
        n_hops = (wave.shape[1] + self.hop_length - 1) // self.hop_length
        padded = functional.pad(wave, (0, n_hops * self.hop_length - wave.shape[1]))
        hops = padded.unflatten(1, (n_hops, self.hop_length))
        number = (self.lengths * self.hop_length < wave.shape[1] + self.reach).sum()
        n_frames = self.lengths[number]  # M
        frame = torch.arange(n_frames.item(), device=wave.device)
        spectrum = self._spectrum(hops, frame, n_frames)
        real, imaginary = self._products(spectrum, frame, n_frames, number)
        times = torch.arange(1 + wave.shape[1] // self.hop_length, device=wave.device)
        cosines, sines = (part / n_frames for part in dft(times, frame, n_frames))
        real, imaginary = cosines @ real - sines @ imaginary, sines @ real + cosines @ imaginary
        power = (real * real + imaginary * imaginary).transpose(1, 2).unsqueeze(1)
        return as_magnitude(power) if self.magnitude else power

    def _spectrum(self, hops: Tensor, frame: Tensor, n_frames: Tensor) -> Tensor:
        """Spectrum (B, M, 2 F): bin j + M f of a wave's hops (B, ceil(S / hop), hop), real parts, then imaginary."""
        cosines, sines = dft(frame, torch.arange(hops.shape[1], device=hops.device), n_frames)
        real, imaginary = cosines @ hops, -(sines @ hops)
        sample = torch.arange(self.hop_length, device=hops.device)
        cosines, sines = dft(frame, sample, n_frames * self.hop_length)
        turned = [real * cosines + imaginary * sines, imaginary * cosines - real * sines]
        return torch.cat(turned, 2) @ self.inner

    def _products(self, spectrum: Tensor, frame: Tensor, n_frames: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        """Products with the responses, folded modulo M: real and imaginary parts (B, M, K)."""
        # Bins j + M f: the lowest of a filter is M lowest_fold + remainder.
        below = frame[:, None] < self.remainder[number][self.row]
        place = self.lowest_fold[number][self.row] + self.fold + below.to(torch.int64)  # f, (M, E)
        real_weight, imaginary_weight = self._responses_at(frame[:, None] + n_frames * place, n_frames)
        used = (self.fold < self.n_folds[number][self.row]).to(torch.float32)
        real_weight, imaginary_weight = real_weight * used, imaginary_weight * used
        index = (place - self.first_fold).clamp(max=self.n_needed - 1).expand(spectrum.shape[0], -1, -1)
        real, imaginary = spectrum.gather(2, index), spectrum.gather(2, index + self.n_needed)
        products = real * real_weight - imaginary * imaginary_weight, real * imaginary_weight + imaginary * real_weight
        return products[0] @ self.sums, products[1] @ self.sums

    def _responses_at(self, bins: Tensor, n_frames: Tensor) -> tuple[Tensor, Tensor]:
        """Responses at bins (M, E), real and imaginary parts, by the cubic through four samples."""
        n_fft = n_frames * self.hop_length
        scaled = (bins + n_fft) * self.rates[self.row]
        before = scaled // n_fft
        x = (scaled - before * n_fft).to(torch.float32) / n_fft
        at = (before + self.offsets[self.row]).clamp(1, len(self.responses) - 3)  # an unused fold may lie outside
        cubic = (
            x * (x - 1.0) * (2.0 - x) / 6.0,
            (x + 1.0) * (x - 1.0) * (x - 2.0) / 2.0,
            (x + 1.0) * x * (2.0 - x) / 2.0,
            (x + 1.0) * x * (x - 1.0) / 6.0,
        )
        a, b, c, d = (functional.embedding(at + step, self.responses) for step in (-1, 0, 1, 2))
        weights = [weight[..., None] for weight in cubic]
        found = weights[0] * a + weights[1] * b + weights[2] * c + weights[3] * d
        return found[..., 0], found[..., 1]


def _response(bank: FilterBank, row: int, frequency: Tensor) -> Tensor:
    return bank.response(slice(row, row + 1), frequency)[0].to(torch.complex128)
