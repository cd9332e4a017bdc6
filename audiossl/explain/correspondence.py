"""Which regions of one sound resemble which of another: cosine matches between the cells of two pictures.

The direction is that of EsViT's region loss, from the student's view to the teacher's: every cell of the first picture
finds its nearest of the second, so that several may find the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from audiossl.encoder import AudioEncoder
from audiossl.errors import UserError
from audiossl.explain.cells import Cells, cells_of
from audiossl.explain.eval_mode import evaluating
from audiossl.explain.regions import regions_of
from audiossl.transforms import as_float

# A cell is silent when its power is so far below the clip's loudest cell, or below the level of 16 bits' noise.
SILENCE_DB, FLOOR_DB = 40.0, -90.0
LEVEL_FFT = 1024  # samples of the windows that levels are measured in


@dataclass(frozen=True)
class Correspondence:
    """Matches from the cells of a first picture to those of a second; numbers of cells are row * T' + column.

    matches: (P, k) the most similar cells of the second picture, best first. similarity: (P, k) their cosines. silent:
    (P,), whether a cell of the first holds next to no sound. central_a, central_b: the cell of each picture that is
    nearest to the mean of its regions. cells_a, cells_b: where the cells lie.
    """

    matches: np.ndarray
    similarity: np.ndarray
    silent: np.ndarray
    central_a: int
    central_b: int
    cells_a: Cells
    cells_b: Cells

    def strongest(self, n: int) -> np.ndarray:
        """The n cells of the first picture with the most similar best matches, strongest first, without silent ones."""
        order = np.argsort(-self.similarity[:, 0], kind="stable")
        return order[~self.silent[order]][:n]


@torch.no_grad()
def correspondence(
    encoder: AudioEncoder,
    wave_a: Tensor | np.ndarray,
    wave_b: Tensor | np.ndarray,
    k: int = 1,
    silence_db: float = SILENCE_DB,
    stage: int | None = None,
) -> Correspondence:
    """Match the regions of two sounds.

    Args:
        encoder: with any backbone.
        wave_a: (S,) or (1, S), floats in [-1, 1] or int16 at the encoder's rate.
        wave_b: the same, of any length.
        k: matches of each cell, fewer where the second sound has fewer regions.
        silence_db: cells so many dB below the loudest are silent.
        stage: of a Swin, ResNet or ConvNeXt, from 1, for a finer grid; None is the last.

    Raises:
        UserError: k is less than 1, or there is no such stage.

    >>> from audiossl.encoder import EncoderConfig
    >>> wave = torch.rand(16000) - 0.5
    >>> same = correspondence(AudioEncoder.build(EncoderConfig()), wave, wave, k=2)
    >>> same.matches[:, 0].tolist(), same.similarity.shape, same.strongest(3).shape
    ([0, 1, 2, 3, 4, 5], (6, 2), (3,))
    """
    a, b = (torch.as_tensor(w).reshape(1, -1).to(encoder.normalize.mean.device) for w in (wave_a, wave_b))
    with evaluating(encoder):
        first, second = (regions_of(encoder.network, encoder.image(wave), stage) for wave in (a, b))
    cells_a, cells_b = (
        cells_of(encoder.frontend, wave.shape[1], found.grid, found.stride) for wave, found in ((a, first), (b, second))
    )
    silent = silent_cells(levels_db(as_float(a), cells_a, encoder.sample_rate), silence_db)[0]
    return match_regions(first.patches[0], second.patches[0], silent, cells_a, cells_b, k)


def match_regions(
    first: Tensor, second: Tensor, silent: np.ndarray, cells_a: Cells, cells_b: Cells, k: int
) -> Correspondence:
    """Match regions (P, D) to regions (Q, D), each with k or all; raises UserError when k is less than 1."""
    if k < 1:
        raise UserError(f"k={k} matches of each region: give at least 1.")
    cosine = similarity(first[None].float(), second[None].float())[0]
    best = cosine.topk(min(k, cosine.shape[1]), dim=1)
    matches, values = best.indices.cpu().numpy(), best.values.cpu().numpy()
    return Correspondence(matches, values, silent, _central(first), _central(second), cells_a, cells_b)


def similarity(first: Tensor, second: Tensor) -> Tensor:
    """Cosines (B, P, Q) between the regions (B, P, D) and (B, Q, D) of the same clips."""
    return functional.normalize(first, dim=-1) @ functional.normalize(second, dim=-1).transpose(1, 2)


def _central(regions: Tensor) -> int:
    return int(functional.cosine_similarity(regions.mean(0, keepdim=True), regions).argmax())


def levels_db(wave: Tensor, cells: Cells, sample_rate: int) -> np.ndarray:
    """Mean power of the sound in each cell (B, P) in dB: white noise of deviation s has 20 log10(s) everywhere.

    Of the sound, not of the picture, so that it is the same for every front end. Where rows have no frequency the whole
    band counts.

    Args:
        wave: (B, S) floats.
        cells: of the sound's picture.
        sample_rate: in Hz.
    """
    window = torch.hann_window(LEVEL_FFT, device=wave.device)
    hop = max(1, round(cells.frame_s * sample_rate)) if cells.frame_s else LEVEL_FFT
    spectrum = torch.stft(
        wave, LEVEL_FFT, hop, window=window, center=True, pad_mode="constant", return_complex=True
    ).abs()
    power = spectrum.square() / window.square().sum()
    bins = _averages(_rows_of_bins(cells, sample_rate).to(wave.device), power.shape[1])
    times = torch.arange(power.shape[2], device=wave.device) * hop / sample_rate
    frame = (times - cells.times[0]) / (cells.frame_s or 1.0)
    column = (frame.round().long() // cells.stride[1]).clamp(0, cells.grid[1] - 1)
    frames = _averages(functional.one_hot(column, cells.grid[1]).T.bool(), power.shape[2])
    cell_power = (bins @ power @ frames.T).flatten(1)
    return (10 * torch.log10(cell_power + 1e-20)).cpu().numpy()


def _rows_of_bins(cells: Cells, sample_rate: int) -> Tensor:
    """Which bins of the spectrum lie in the band of each row of cells (F', bins), at least the nearest one."""
    hz = np.arange(LEVEL_FFT // 2 + 1) * sample_rate / LEVEL_FFT
    if cells.unit != "Hz":
        return torch.ones(cells.grid[0], len(hz), dtype=torch.bool)
    inside = (hz >= cells.bands[:, :1]) & (hz < cells.bands[:, 1:])
    nearest = np.abs(hz - cells.centres_hz[:, None]).argmin(1)
    inside[np.arange(len(inside)), nearest] = True
    return torch.from_numpy(inside)


def _averages(members: Tensor, n: int) -> Tensor:
    """Rows that average what belongs to each (G, n); zeros where nothing does."""
    return members.float() / members.sum(1, keepdim=True).clamp(min=1)


def silent_cells(level_db: np.ndarray, silence_db: float) -> np.ndarray:
    """Cells (B, P) that are `silence_db` below the loudest of their clip, or that hold nothing at all.

    >>> silent_cells(np.array([[-20.0, -50.0, -70.0], [-95.0, -96.0, -97.0]]), 40.0).tolist()
    [[False, False, True], [True, True, True]]
    """
    return level_db < np.maximum(level_db.max(1, keepdims=True) - silence_db, FLOOR_DB)
