"""How well an encoder finds the regions of clips again in second views of them, against known places.

EsViT measures ten matches of each image against its mirror image; here the truth is a known shift and crop, all cells
count beside the ten, within a tolerance beside exactly, by band, and without the silent cells, which resemble each
other everywhere. Beside every encoder stand random weights, the points of the picture themselves, chance, and what
someone would reach who took every cell for the one at the same place: what is not above these was not learnt.
"""

from __future__ import annotations

import csv
import io
import pickle
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch

from audiossl.data import CachedClips
from audiossl.encoder import AudioEncoder
from audiossl.errors import UserError
from audiossl.explain.cells import Cells, cells_of
from audiossl.explain.correspondence import similarity
from audiossl.explain.correspondence_config import CorrespondenceConfig
from audiossl.explain.eval_mode import evaluating
from audiossl.explain.known_views import KnownViews, draw_change, grid_of, known_views
from audiossl.explain.regions import Regions, check_stage, picture_regions, regions_of
from audiossl.explain.text_table import text_table
from audiossl.transforms import as_float

PICTURE, SAME, CHANCE = "points of the picture", "same place", "chance"  # rows that need no network
HALF = 0.5 + 1e-6  # a cell's reach from its middle, in cells; a place on an edge belongs to both sides


@dataclass(frozen=True)
class Score:
    """Means over cells: parts of 1, milliseconds, and points of the picture (rows and frames alike)."""

    n_cells: int
    exact: float
    within_cells: float
    within_ms: float
    time_error_ms: float
    distance_points: float


@dataclass(frozen=True)
class Band:
    """One row of cells: its edges in Hz and its score, None where all of it was silent."""

    low_hz: float
    high_hz: float
    score: Score | None


@dataclass(frozen=True)
class Row:
    """What one network reaches over all cells, over the most similar matches of each clip, and by band.

    four_numbers: those of EsViT's pickle: the number of clips, and means over them of the similarity of the match after
    the most similar ones (the last where there is none), of their accuracy, and of their distance in points.
    """

    name: str
    all_cells: Score
    top: Score
    bands: tuple[Band, ...]
    four_numbers: dict[str, float | None]


@dataclass(frozen=True)
class Measured:
    """Rows of the encoder, of networks with random weights and of no network, and what they were measured on."""

    rows: tuple[Row, ...]
    about: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"about": self.about, "rows": [asdict(row) for row in self.rows]}

    def to_csv(self) -> str:
        """One line for each network and kind of cells: all, top, and each band with its edges in Hz."""
        names = [field.name for field in fields(Score)]
        file = io.StringIO()
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["network", "cells", "low_hz", "high_hz", *names])
        for row in self.rows:
            lines: list[tuple[str, Any, Any, Score | None]] = [("all", "", "", row.all_cells)]
            lines.append((f"top {self.about['top']}", "", "", row.top))
            lines += [("band", round(band.low_hz, 1), round(band.high_hz, 1), band.score) for band in row.bands]
            for kind, low, high, score in lines:
                values = [0, *[""] * (len(names) - 1)] if score is None else list(asdict(score).values())
                table.writerow([row.name, kind, low, high, *values])
        return file.getvalue()

    def to_pickle(self) -> bytes:
        """The encoder's four numbers, as EsViT's measure_correspondence.pickle has them."""
        return pickle.dumps(self.rows[0].four_numbers)

    def markdown(self) -> str:
        """The table, readable in a terminal as it stands."""
        cells, ms, top = (self.about[name] for name in ("tolerance_cells", "tolerance_ms", "top"))
        head = ["network", "exact", f"± {cells} cells", f"± {ms:g} ms", "off by, ms", f"top {top}: exact", "± cells"]
        rows = []
        for row in self.rows:
            a, t = row.all_cells, row.top
            parts = [a.exact, a.within_cells, a.within_ms, t.exact, t.within_cells]
            texts = [f"{100 * part:.1f}" for part in parts]
            rows.append([row.name, *texts[:3], f"{a.time_error_ms:.0f}", *texts[3:]])
        return f"{text_table(head, rows)}\n\n{self.about['protocol']}"


def measure(
    encoder: AudioEncoder,
    clips: CachedClips,
    config: CorrespondenceConfig,
    say: Callable[[str], None] = lambda _: None,
) -> Measured:
    """Measure an encoder, random weights and what needs no network on the same views of the same clips.

    Raises UserError when no cell is left that holds sound and lies in both views, and for a stage that there is not.
    """
    check_stage(encoder.network, config.stage)
    networks = [("encoder", encoder)]
    networks += [(f"random weights, seed {seed}", encoder.randomised(seed)) for seed in config.random_seeds]
    networks += [(name, encoder) for name in (PICTURE, SAME, CHANCE)]
    cells, rows = _cells_of_first(encoder, clips, config), []
    for name, network in networks:
        say(name)
        found = list(_cells_of_all(name, network, clips, config))
        rows.append(_row(name, found, cells, config.top))
    return Measured(tuple(rows), _about(clips, config, rows[0]))


def _about(clips: CachedClips, config: CorrespondenceConfig, row: Row) -> dict[str, Any]:
    change = config.change
    return {
        "encoder": config.encoder,
        "data": clips.describe(),
        "change": asdict(change),
        **{
            key: getattr(config, key)
            for key in ("stage", "top", "tolerance_cells", "tolerance_ms", "silence_db", "seed")
        },
        "protocol": (
            f"percent of {row.all_cells.n_cells} cells with sound of {len(clips)} clips of {clips.name}, found again "
            f"in a second view: up to {change.shift_s:g} s earlier or later, {100 * change.crop:g} % of the rows cut, "
            f"± {change.gain_db:g} dB, noise {change.snr_db:g} dB below; top: the most similar matches of each clip"
        ),
    }


@dataclass(frozen=True)
class _Clip:
    """The cells of one clip that count (N,): their numbers, similarities and errors."""

    cell: np.ndarray
    similarity: np.ndarray
    exact: np.ndarray
    within_cells: np.ndarray
    within_ms: np.ndarray
    time_error_ms: np.ndarray
    distance_points: np.ndarray

    def of(self, chosen: np.ndarray) -> _Clip:
        return _Clip(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})


@torch.no_grad()
def _cells_of_all(
    name: str, encoder: AudioEncoder, clips: CachedClips, config: CorrespondenceConfig
) -> Iterator[_Clip]:
    """Every clip's cells with what this row's network, or what stands for one, makes of them."""
    device = encoder.normalize.mean.device
    generator = torch.Generator().manual_seed(config.seed)
    with evaluating(encoder):
        for batch in clips.batches(config.batch_size):
            wave = as_float(batch.wave.to(device))
            change = draw_change(config.change, encoder, len(wave), wave.shape[1], generator)
            views = known_views(encoder, wave, change, config.change, config.silence_db, generator, config.stage)
            grid, stride = grid_of(encoder, views.image_b, config.stage)
            cells = cells_of(encoder.frontend, views.wave_a.shape[1], grid, stride)
            matches, values = _matches(name, encoder, views, cells, config.stage)
            for clip in range(len(wave)):
                yield _errors(views, clip, matches[clip], values[clip], cells, config)


def _matches(
    name: str, encoder: AudioEncoder, views: KnownViews, cells: Cells, stage: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Cells of the second view (B, P, M) that each of the first is matched to, one or by chance all, and cosines."""
    shape, n_columns = views.rows.shape, cells.grid[1]
    if name == CHANCE:
        every = np.arange(cells.grid[0] * n_columns)
        return np.broadcast_to(every, (*shape, len(every))), np.zeros(shape)
    if name == SAME:
        row, column = np.divmod(np.arange(shape[1]), grid_of(encoder, views.image_a, stage)[0][1])
        same = np.minimum(row, cells.grid[0] - 1) * n_columns + np.minimum(column, n_columns - 1)
        return np.broadcast_to(same[:, None], (*shape, 1)), np.zeros(shape)

    def look(image: torch.Tensor) -> Regions:
        if name == PICTURE:
            return picture_regions(image, *grid_of(encoder, image, stage))
        return regions_of(encoder.network, image, stage)

    best = similarity(look(views.image_a).patches, look(views.image_b).patches).max(-1)
    return best.indices.cpu().numpy()[:, :, None], best.values.cpu().numpy()


def _errors(
    views: KnownViews, clip: int, match: np.ndarray, value: np.ndarray, cells: Cells, config: CorrespondenceConfig
) -> _Clip:
    """Errors of the cells that count, each a mean over its matches (P, M)."""
    row, column = np.divmod(match, cells.grid[1])
    off_row, off_column = abs(row - views.rows[clip][:, None]), abs(column - views.columns[clip][:, None])
    off_ms = 1000 * off_column * cells.stride[1] * cells.frame_s
    reach = config.tolerance_cells + HALF
    found = {
        "exact": (off_row <= HALF) & (off_column <= HALF),
        "within_cells": (off_row <= reach) & (off_column <= reach),
        "within_ms": off_ms <= config.tolerance_ms,
        "time_error_ms": off_ms,
        "distance_points": np.hypot(off_row * cells.stride[0], off_column * cells.stride[1]),
    }
    means = {name: np.asarray(values, np.float64).mean(1) for name, values in found.items()}
    every = _Clip(np.arange(len(value)), value, **means)
    return every.of(views.inside[clip] & ~views.silent[clip])


@torch.no_grad()
def _cells_of_first(encoder: AudioEncoder, clips: CachedClips, config: CorrespondenceConfig) -> Cells:
    """The cells of the first views, for their bands."""
    config.change.check_shift(clips.waves.shape[1] / encoder.sample_rate)
    n_samples = clips.waves.shape[1] - round(config.change.shift_s * encoder.sample_rate)
    silence = torch.zeros(1, n_samples, device=encoder.normalize.mean.device)
    with evaluating(encoder):
        grid = grid_of(encoder, encoder.image(silence), config.stage)
    return cells_of(encoder.frontend, n_samples, *grid)


def _row(name: str, found: list[_Clip], cells: Cells, top: int) -> Row:
    counted = [clip for clip in found if len(clip.cell)]
    if not counted:
        raise UserError(
            "no cell holds sound in both views: give clips with sound, a shorter shift or more --silence_db."
        )
    ordered = [clip.of(np.argsort(-clip.similarity, kind="stable")) for clip in counted]
    unranked = name in (SAME, CHANCE)
    best = ordered if unranked else [clip.of(np.arange(min(top, len(clip.cell)))) for clip in ordered]
    bands = []
    for number, (low, high) in enumerate(cells.bands):
        in_band = [clip.of(clip.cell // cells.grid[1] == number) for clip in counted]
        bands.append(Band(float(low), float(high), _score(in_band)))
    every, strongest = _score(counted), _score(best)
    assert every is not None
    assert strongest is not None
    next_best = [clip.similarity[min(top, len(clip.cell) - 1)] for clip in ordered]
    four = {
        "count": len(counted),
        "sim_value_avg": None if unranked else float(np.mean(next_best)),
        "accuracy_avg": float(np.mean([clip.exact.mean() for clip in best])),
        "distance_error_avg": float(np.mean([clip.distance_points.mean() for clip in best])),
    }
    return Row(name, every, strongest, tuple(bands), four)


def _score(clips: list[_Clip]) -> Score | None:
    """Means over all cells of all clips, None where there are none."""
    names = [field.name for field in fields(Score)][1:]
    joined = {name: np.concatenate([getattr(clip, name) for clip in clips]) for name in names}
    n_cells = len(joined["exact"])
    return Score(n_cells, **{name: float(values.mean()) for name, values in joined.items()}) if n_cells else None
