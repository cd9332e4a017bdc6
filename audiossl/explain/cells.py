"""The cells of a picture: where the regions of a network lie, in rows and frames and in Hz and seconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from audiossl.errors import UserError
from audiossl.explain.views import along, axis_of
from audiossl.transforms import FrontEnd


@dataclass(frozen=True)
class Cells:
    """A grid of cells over a picture, low frequency first; cell number row * T' + column.

    Args:
        grid: cells in frequency and time (F', T'); the last ones may reach beyond the picture.
        stride: rows and frames to a cell.
        frequencies: (F,) of the picture's rows, in `unit`.
        times: (T,) middles of the picture's frames, in seconds.
        unit: Hz, or "row" where the front end's rows have no frequency.
    """

    grid: tuple[int, int]
    stride: tuple[int, int]
    frequencies: np.ndarray
    times: np.ndarray
    unit: str = "Hz"

    @property
    def centres_hz(self) -> np.ndarray:
        """Middles of the rows of cells (F',), in `unit`; at the picture's edge where a cell reaches beyond it."""
        return _middles(self.frequencies, self.grid[0], self.stride[0])

    @property
    def centres_s(self) -> np.ndarray:
        """Middles of the columns of cells (T',), in seconds."""
        return _middles(self.times, self.grid[1], self.stride[1])

    @property
    def bands(self) -> np.ndarray:
        """Lower and upper edge of each row of cells (F', 2), in `unit`; they end where the picture does."""
        edges = np.minimum(np.arange(self.grid[0] + 1) * self.stride[0] / len(self.frequencies), 1.0)
        hz = along(self.frequencies, edges) if len(self.frequencies) > 1 else self.frequencies[0] + edges - 0.5
        return np.stack([hz[:-1], hz[1:]], axis=1)

    @property
    def frame_s(self) -> float:
        """Seconds from one frame to the next; 0 where there is one."""
        return float(self.times[1] - self.times[0]) if len(self.times) > 1 else 0.0

    def at(self, second: float, hz: float) -> int:
        """Number of the cell that a place of the clip lies in.

        Raises UserError for a place outside of the picture.
        """
        half = self.frame_s / 2
        start, end = float(self.times[0]) - half, float(self.times[-1]) + half
        if not start <= second <= end:
            raise UserError(
                f"second={second:g} is outside of the clip: give one from {max(0.0, start):g} to {end:.3g}."
            )
        low, high = float(self.bands[0, 0]), float(self.bands[-1, 1])
        if not min(low, 0.0) <= hz <= high:
            raise UserError(f"hz={hz:g} is outside of the picture: give one of at most {high:,.0f} {self.unit}.")
        frame = (second - start) / self.frame_s if self.frame_s else 0.0
        row = int(np.searchsorted(self.bands[:, 1], hz))
        column = int(min(frame, len(self.times) - 1) // self.stride[1])
        return min(row, self.grid[0] - 1) * self.grid[1] + column

    def place(self, cell: int) -> tuple[float, float]:
        """Second and Hz of a cell's middle."""
        row, column = divmod(cell, self.grid[1])
        return float(self.centres_s[column]), float(self.centres_hz[row])


def _middles(axis: np.ndarray, n_cells: int, stride: int) -> np.ndarray:
    places = np.minimum((np.arange(n_cells) + 0.5) * stride - 0.5, len(axis) - 1)
    return np.interp(places, np.arange(len(axis)), axis)


def cells_of(frontend: FrontEnd, n_samples: int, grid: tuple[int, int], stride: tuple[int, int]) -> Cells:
    """The cells of the picture that a front end makes of `n_samples`.

    >>> from audiossl.transforms import build_frontend
    >>> cells = cells_of(build_frontend("mel", n_bins=32), 16000, (2, 3), (16, 32))
    >>> cells.centres_s.round(3).tolist(), cells.at(0.5, 4000.0), cells.place(4)[0].__round__(3)
    ([0.162, 0.496, 0.83], 4, 0.496)
    """
    axis, unit = axis_of(frontend)
    times = frontend.times(n_samples).double().cpu().numpy()
    return Cells(grid, stride, axis, times, unit)
