"""Two views of a clip of which it is known what lies where: cut from one recording at drawn times and rows.

Both views are as long; they begin at different samples, and the second lacks rows of the picture, is louder or softer
and noisier. Where the middle of a cell of the first lies in the second, in cells and parts of them, follows from the
draws alone. The change of level and the noise keep networks from matching by equality: a convolutional network with
random weights finds a shifted copy of its input as well as any.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from audiossl.encoder import AudioEncoder
from audiossl.explain.cells import Cells, cells_of
from audiossl.explain.correspondence import levels_db, silent_cells
from audiossl.explain.correspondence_config import KnownChange
from audiossl.explain.regions import Size, regions_of


class Change(NamedTuple):
    """What was drawn, each (B,): first samples of both views, first row of the second, and its gain."""

    start_a: Tensor
    start_b: Tensor
    first_row: Tensor
    gain_db: Tensor


class KnownViews(NamedTuple):
    """Pictures of two views, and where the middle of each cell of the first lies in the second.

    image_a (B, C, F, T), image_b (B, C, F - rows cut, T). rows, columns (B, P): the place of the middle of each cell of
    the first in the second, in cells, where 0 is the middle of its first cell. inside (B, P): whether that is a place
    of the second picture. silent (B, P): cells of the first without sound. wave_a, wave_b (B, S): what is heard.
    """

    image_a: Tensor
    image_b: Tensor
    rows: np.ndarray
    columns: np.ndarray
    inside: np.ndarray
    silent: np.ndarray
    wave_a: Tensor
    wave_b: Tensor


def draw_change(
    config: KnownChange, encoder: AudioEncoder, n_clips: int, n_samples: int, generator: torch.Generator
) -> Change:
    """Draw what happens to each clip; raises UserError when the shift leaves nothing of clips of `n_samples`."""
    most, rows = round(config.shift_s * encoder.sample_rate), rows_cut(config, encoder)
    config.check_shift(n_samples / encoder.sample_rate)

    def integers(high: int) -> Tensor:
        return torch.randint(0, high + 1, (n_clips,), generator=generator)

    gain = (2 * torch.rand(n_clips, generator=generator) - 1) * config.gain_db
    return Change(integers(most), integers(most), integers(rows), gain)


def rows_cut(config: KnownChange, encoder: AudioEncoder) -> int:
    """Rows of the picture that the second view lacks."""
    return min(round(config.crop * encoder.frontend.n_bins), encoder.frontend.n_bins - 1)


def known_views(
    encoder: AudioEncoder,
    wave: Tensor,
    change: Change,
    config: KnownChange,
    silence_db: float,
    generator: torch.Generator,
    stage: int | None = None,
) -> KnownViews:
    """Cut two views out of clips (B, S) of floats on the encoder's device.

    Args:
        encoder: whose pictures are cut.
        wave: the clips.
        change: one for each clip.
        config: the bounds that the changes were drawn in.
        silence_db: cells of the first view so far below its loudest are silent.
        generator: of the noise, on the CPU.
        stage: of the network, whose cells count; None is the last.
    """
    length = wave.shape[1] - round(config.shift_s * encoder.sample_rate)
    steps = torch.arange(length)
    wave_a = wave.gather(1, (change.start_a[:, None] + steps).to(wave.device))
    wave_b = wave.gather(1, (change.start_b[:, None] + steps).to(wave.device))
    noise = torch.randn(wave_b.shape, generator=generator).to(wave.device)
    level = wave_b.square().mean(1, keepdim=True).sqrt() * 10 ** (-config.snr_db / 20)
    wave_b = (wave_b + noise * level) * 10 ** (change.gain_db[:, None].to(wave.device) / 20)
    image_a, whole_b = encoder.image(wave_a), encoder.image(wave_b)
    kept = encoder.frontend.n_bins - rows_cut(config, encoder)
    image_b = torch.stack(
        [image[:, first : first + kept] for image, first in zip(whole_b, change.first_row.tolist(), strict=True)]
    )
    cells = cells_of(encoder.frontend, length, *grid_of(encoder, image_a, stage))
    rows, columns, inside = true_places(cells, change, encoder.sample_rate, (kept, image_b.shape[3]))
    silent = silent_cells(levels_db(wave_a, cells, encoder.sample_rate), silence_db)
    return KnownViews(image_a, image_b, rows, columns, inside, silent, wave_a, wave_b)


def grid_of(encoder: AudioEncoder, image: Tensor, stage: int | None) -> tuple[Size, Size]:
    """Cells (F', T') that a stage of the encoder makes of a picture (B, C, F, T), and rows and frames to each."""
    found = regions_of(encoder.network, image[:1], stage)
    return found.grid, found.stride


def true_places(
    cells: Cells, change: Change, sample_rate: int, size_b: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the middles of the cells of the first view lie in the second: rows, columns and whether inside, (B, P).

    >>> cells = Cells((2, 3), (4, 10), np.arange(8.0), np.arange(30) * 0.01)
    >>> one = Change(torch.tensor([0]), torch.tensor([1600]), torch.tensor([4]), torch.zeros(1))
    >>> rows, columns, inside = true_places(cells, one, 16000, (4, 30))  # a column later, a row of cells higher
    >>> rows.round(3).tolist(), columns.round(3).tolist()
    ([[-1.0, -1.0, -1.0, 0.0, 0.0, 0.0]], [[-1.0, 0.0, 1.0, -1.0, 0.0, 1.0]])
    >>> inside.tolist()
    [[False, False, False, False, True, True]]
    """
    row = (np.arange(cells.grid[0]) + 0.5) * cells.stride[0]  # edges count: the first row's middle is at 0.5
    frame = (np.arange(cells.grid[1]) + 0.5) * cells.stride[1]
    in_picture = (row[:, None] <= len(cells.frequencies)) & (frame <= len(cells.times))
    shift = (change.start_a - change.start_b).double().numpy() / sample_rate / (cells.frame_s or 1.0)
    row_b = row - change.first_row.double().numpy()[:, None]
    frame_b = frame + shift[:, None]
    inside_row, inside_frame = (row_b >= 0) & (row_b <= size_b[0]), (frame_b >= 0) & (frame_b <= size_b[1])
    inside = inside_row[:, :, None] & inside_frame[:, None, :] & in_picture
    n_clips = len(shift)
    rows = np.broadcast_to((row_b / cells.stride[0] - 0.5)[:, :, None], inside.shape)
    columns = np.broadcast_to((frame_b / cells.stride[1] - 0.5)[:, None, :], inside.shape)
    return rows.reshape(n_clips, -1), columns.reshape(n_clips, -1), inside.reshape(n_clips, -1)
