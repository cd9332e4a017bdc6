"""Orthogonal matching pursuit: the clip as a few Gabor atoms, drawn as the energy each of them explains.

Dictionary of Mallat & Zhang (Matching pursuits with time-frequency dictionaries, 1993): Gaussians of several
durations times cosines and sines, half a duration apart in time and half of its inverse in frequency. Pursuit of
Pati et al. (1993): again and again the atom that fits the residual best, then all amplitudes anew by least squares.
It works on the inner products of the atoms, as Rubinstein et al. (Batch-OMP, 2008), so that a step costs a few rows
of the Gram matrix and the sound is not touched again; all segments of all clips go step by step together.

Slow next to a filter bank: about 8 ms of processor time for a second of sound at the defaults, mel 0.5 ms.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from audiossl.errors import UserError

from .config import MatchingPursuitConfig
from .frontend import FrontEnd, check_at_least, check_band

# What single precision cannot tell from rounding: the squared sine of the angle between an atom and those chosen
# before, and the inner product of an atom with the residual, as a share of what is explained already (-120 dB).
LEAST_NEW = 1e-4
LEAST_REMAINING = 1e-6


class Dictionary(NamedTuple):
    """Gabor atoms (A, L) of unit energy, and where each lies: all float64."""

    atoms: Tensor
    scales: Tensor  # (A,) in samples: the envelope is exp(-pi (t / scale)^2)
    centres: Tensor  # (A,) in samples from the middle of the segment
    frequencies: Tensor  # (A,) in Hz


class Pursuit(NamedTuple):
    """Atoms chosen for N signals, and the Cholesky factor of their inner products."""

    chosen: Tensor  # (N, K) indices, each once
    factor: Tensor  # (N, K, K) lower triangular
    used: Tensor  # (N, K) 1, or 0 where nothing was left to explain, and the atom is left out

    def explained(self, correlations: Tensor) -> Tensor:
        """Amplitudes (N, K) in the orthonormal basis of the atoms in their order, of inner products (N, K) with them.

        The square of the k-th is the energy that the k-th atom took from the residual.
        """
        used = (correlations * self.used).unsqueeze(-1)
        solved: Tensor = torch.linalg.solve_triangular(self.factor, used, upper=False).squeeze(-1)
        return solved

    def coefficients(self, correlations: Tensor) -> Tensor:
        """Least-squares amplitudes of the atoms (N, K), of inner products (N, K) with them."""
        explained = self.explained(correlations).unsqueeze(-1)
        solved: Tensor = torch.linalg.solve_triangular(self.factor.mT, explained, upper=True).squeeze(-1)
        return solved


@torch.no_grad()
def orthogonal_pursuit(correlations: Tensor, gram: Tensor, n_atoms: int) -> Pursuit:
    """Choose atoms for N signals at once from their inner products with all atoms (N, A), and the atoms' own (A, A).

    The atoms have unit energy. The residual never grows, and no atom is chosen twice. The choice has no gradient; the
    amplitudes of the chosen atoms have one.

    >>> pursuit = orthogonal_pursuit(torch.tensor([[0.1, -3.0, 2.0]]), torch.eye(3), n_atoms=2)
    >>> pursuit.chosen.tolist()
    [[1, 2]]
    """
    n_signals = len(correlations)
    chosen = correlations.new_zeros(n_signals, n_atoms, dtype=torch.long)
    factor = torch.eye(n_atoms, dtype=gram.dtype, device=gram.device).repeat(n_signals, 1, 1)
    used = correlations.new_zeros(n_signals, n_atoms)
    remaining, energy = correlations, correlations.new_zeros(n_signals)
    for k in range(n_atoms):
        best, atom = remaining.abs().scatter_(1, chosen[:, :k], -1.0).max(dim=1)
        overlaps = gram[chosen[:, :k], atom[:, None]] * used[:, :k]
        row = torch.linalg.solve_triangular(factor[:, :k, :k], overlaps.unsqueeze(-1), upper=False).squeeze(-1)
        new = 1.0 - row.square().sum(dim=1)
        useful = (new > LEAST_NEW) & (best > LEAST_REMAINING * energy.clamp(min=0.0).sqrt())
        chosen[:, k] = atom
        used[:, k] = useful.to(used.dtype)
        factor[:, k, :k] = torch.where(useful[:, None], row, 0.0)
        factor[:, k, k] = torch.where(useful, new, 1.0).sqrt()
        if k + 1 < n_atoms:
            part = Pursuit(chosen[:, : k + 1], factor[:, : k + 1, : k + 1], used[:, : k + 1])
            products = correlations.gather(1, part.chosen)
            amplitudes = part.coefficients(products)
            energy = (amplitudes * products).sum(dim=1)
            # The weighted sum of rows of the Gram matrix, without a copy of them.
            fitted = functional.embedding_bag(part.chosen, gram, mode="sum", per_sample_weights=amplitudes)
            remaining = correlations - fitted
    return Pursuit(chosen, factor, used)


def gabor_dictionary(config: MatchingPursuitConfig) -> Dictionary:
    """Cosine and sine atoms of every duration, place and frequency.

    Places reach a quarter of the segment from its middle: what lies further out is nearer to the middle of the next
    segment. An atom has at least half a period in its duration, or it would be a bump without a frequency.
    Raises UserError when the band has no atom of some duration.
    """
    times = torch.arange(config.segment_length, dtype=torch.float64) - config.segment_length / 2
    atoms, places = [], []
    for index in range(config.n_scales):
        scale = config.segment_length / 2 / 4**index
        step_hz = config.sample_rate / (2 * scale)
        first = max(1, math.ceil(config.f_min / step_hz))
        last = min(math.floor(config.f_max / step_hz), math.ceil(scale) - 1)  # below half of the sample rate
        if last < first:
            raise UserError(
                f"n_scales={config.n_scales}: no atom of {scale:g} samples has its frequency between "
                f"f_min={config.f_min:g} and f_max={config.f_max:g} Hz; lower n_scales or raise segment_length."
            )
        reach = math.floor(config.segment_length / 4 / (scale / 2))
        centres = torch.arange(-reach, reach + 1, dtype=torch.float64) * (scale / 2)
        hz = torch.arange(first, last + 1, dtype=torch.float64) * step_hz
        centre, frequency = (part.flatten() for part in torch.meshgrid(centres, hz, indexing="ij"))
        away = times - centre[:, None]
        envelope = torch.exp(-math.pi * (away / scale).square())
        phase = 2.0 * math.pi / config.sample_rate * frequency[:, None] * away
        atoms += [envelope * phase.cos(), envelope * phase.sin()]
        places += 2 * [torch.stack([torch.full_like(centre, scale), centre, frequency])]
    joined = functional.normalize(torch.cat(atoms), dim=1)
    return Dictionary(joined, *torch.cat(places, dim=1))


def gaussian_shares(edges: Tensor, centres: Tensor, deviations: Tensor) -> Tensor:
    """Shares (..., E + 1) of Gaussians (...) between edges (..., E); the outermost cells reach to infinity.

    >>> gaussian_shares(torch.tensor([-1.0, 1.0]), torch.tensor(0.0), torch.tensor(1.0)).mul(100).round().tolist()
    [16.0, 68.0, 16.0]
    """
    below = 0.5 + 0.5 * torch.erf((edges - centres.unsqueeze(-1)) / (math.sqrt(2.0) * deviations.unsqueeze(-1)))
    ends = torch.zeros_like(below[..., :1])
    return torch.cat([ends, below, ends + 1.0], dim=-1).diff(dim=-1)


class MatchingPursuit(FrontEnd):
    """Picture of the atoms of an orthogonal matching pursuit: image (B, 1, n_bins, T), T = 1 + S // hop_length.

    The clip is cut into segments that overlap by half, under Hann windows whose sum is one, so that a steady tone looks
    like one long atom in each. A segment becomes `n_atoms` atoms. Each is drawn as the Wigner-Ville distribution of a
    Gabor atom, a Gaussian in time and frequency, whose share in every cell is integrated: the sum over the picture is
    the energy (squared amplitude times samples) that the atoms explain. Drawn is the energy that an atom took from
    the residual and not its squared amplitude, which is huge for two atoms that nearly cancel. Rows are equally wide
    in octaves.

    The gradient is that of the amplitudes; which atoms are chosen has none.

    Raises UserError for f_min = 0 (rows in octaves), and when segments are too short for their scales and atoms.

    >>> picture = MatchingPursuit(MatchingPursuitConfig(n_scales=1, n_atoms=2, compress="none"))
    >>> wave = torch.sin(torch.arange(4000) * (2 * math.pi * 970 / 16000))[None]
    >>> float(picture.frequencies[picture(wave)[0, 0, :, 12].argmax()].round())
    963.0
    """

    config: MatchingPursuitConfig
    atoms: Tensor
    gram: Tensor
    centres: Tensor
    deviations: Tensor
    row_shares: Tensor
    window: Tensor

    def __init__(self, config: MatchingPursuitConfig):
        check_matching_pursuit(config)
        steps = torch.linspace(0.0, 1.0, 2 * config.n_bins + 1, dtype=torch.float64)
        hz = config.f_min * (config.f_max / config.f_min) ** steps  # edges and middles of the rows in turn
        super().__init__(config, hz[1::2])
        self.step = config.segment_length // 2
        dictionary = gabor_dictionary(config)
        most = min(dictionary.atoms.shape)
        if config.n_atoms > most:
            raise UserError(f"n_atoms={config.n_atoms} is more than the {most} that span a segment: lower it.")
        # |g|^2 of the envelope, and of its Fourier transform, are Gaussians with these deviations.
        time_deviations = dictionary.scales / (2.0 * math.sqrt(math.pi))
        hz_deviations = config.sample_rate / (2.0 * math.sqrt(math.pi) * dictionary.scales)
        buffers = {
            "atoms": dictionary.atoms,
            "gram": dictionary.atoms @ dictionary.atoms.T,
            "centres": dictionary.centres,
            "deviations": time_deviations,
            "row_shares": gaussian_shares(hz[2:-1:2], dictionary.frequencies, hz_deviations),
            "window": torch.hann_window(config.segment_length, periodic=True, dtype=torch.float64),
        }
        for name, values in buffers.items():
            self.register_buffer(name, values.to(torch.float32), persistent=False)

    def segments(self, wave: Tensor) -> Tensor:
        """Windowed segments (B, N, L) of waves (B, S): number i is centred on sample i L / 2."""
        n_segments = 1 + -(-(wave.shape[-1] - 1) // self.step)
        behind = n_segments * self.step - wave.shape[-1]
        padded = functional.pad(wave, (self.step, behind))
        return padded.unfold(-1, self.config.segment_length, self.step) * self.window

    def pursue(self, segments: Tensor) -> tuple[Pursuit, Tensor]:
        """Atoms of segments (N, L), and the segments' inner products (N, K) with the chosen ones."""
        with torch.no_grad():
            pursuit = orthogonal_pursuit(segments @ self.atoms.T, self.gram, self.config.n_atoms)
        return pursuit, torch.bmm(self.atoms[pursuit.chosen], segments.unsqueeze(-1)).squeeze(-1)

    def transform(self, wave: Tensor) -> Tensor:
        """Energy of the atoms, spread over the cells."""
        segments = self.segments(wave)
        pursuit, correlations = self.pursue(segments.flatten(0, 1))
        energies = pursuit.explained(correlations).square()
        return self.draw(pursuit.chosen, energies, segments.shape[1], self.n_frames(wave.shape[-1]))

    def draw(self, chosen: Tensor, energies: Tensor, n_segments: int, n_frames: int) -> Tensor:
        """Picture (B, 1, F, T) of atoms (B N, K) with their energies (B N, K)."""
        n_clips = len(chosen) // n_segments
        middles = torch.arange(n_segments, device=chosen.device) * self.step
        n_near = self.config.segment_length // self.hop_length + 2  # frames that a segment touches
        first = torch.div(middles - self.step, self.hop_length, rounding_mode="floor")
        frames = first[:, None] + torch.arange(n_near, device=chosen.device)
        edges = (frames[:, 1:] - 0.5) * self.hop_length - middles[:, None]  # (N, n_near - 1), from the middle
        edges = edges.to(energies.dtype).repeat(n_clips, 1).unsqueeze(1)
        columns = gaussian_shares(edges, self.centres[chosen], self.deviations[chosen])  # (B N, K, n_near)
        rows = self.row_shares[chosen] * energies.unsqueeze(-1)  # (B N, K, F)
        near = torch.bmm(rows.mT, columns).view(n_clips, n_segments, self.n_bins, n_near)
        # What lies before the first and behind the last frame counts there.
        where = frames.clamp(0, n_frames - 1).flatten()
        image = energies.new_zeros(n_clips, self.n_bins, n_frames)
        return image.index_add(2, where, near.permute(0, 2, 1, 3).flatten(2)).unsqueeze(1)

    def temporary_bytes(self, n_samples: int) -> int:
        """Temporaries of one clip: four rows of inner products, and the chosen atoms, of every segment."""
        per_segment = 16 * len(self.atoms) + 4 * self.config.segment_length * (self.config.n_atoms + 2)
        return per_segment * (2 + n_samples // self.step)


def check_matching_pursuit(config: MatchingPursuitConfig) -> None:
    """Raise UserError for settings that cannot work, naming the setting and the remedy."""
    check_at_least(config, 1, "n_bins", "n_scales", "n_atoms")
    check_band(config)
    if config.f_min == 0:
        raise UserError("f_min=0 Hz: rows of equal width in octaves need f_min above 0.")
    if config.segment_length % 4:
        raise UserError(f"segment_length={config.segment_length} must be a multiple of 4, for windows that sum to one.")
    shortest = config.segment_length / 2 / 4 ** (config.n_scales - 1)
    if shortest < 4:
        raise UserError(
            f"n_scales={config.n_scales} makes atoms of {shortest:g} samples from segment_length="
            f"{config.segment_length}: lower n_scales, or raise segment_length, to at least 4."
        )
