"""Boxes cut out of pictures and brought to the size of a view, a box of its own for each clip, in one call.

Two kinds: `crop_and_resize` for boxes at any place, bilinear, and `resample_boxes` for boxes of whole rows and frames
on a canvas around the picture, as BYOL-A's random resize crop has them. The second does one axis after the other,
each as one weighted sum of rows (`embedding_bag`): eight neighbours of a pixel in place of sixteen, found once a row,
measured at least four times as fast on a CPU as a bicubic `grid_sample`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from audiossl.errors import UserError

from .draws import Draws

SIZE_STEP = 16  # sides of a view are multiples of it, so that a Swin of patch 4 and window 4 pads nothing at first
CUBIC = -0.75  # Keys' parameter, as torch's bicubic interpolation has it


def check_picture(image: Tensor, size: tuple[int, int], n_channels: int | None = None) -> None:
    """Raise UserError for a picture that is not (B, C, F, T) of this size, and of these channels where told."""
    if image.ndim != 4 or tuple(image.shape[2:]) != size or n_channels not in (None, image.shape[1]):
        channels = "C" if n_channels is None else n_channels
        raise UserError(
            f"image has shape {tuple(image.shape)}: these views are cut from (B, {channels}, {size[0]}, {size[1]})."
        )


def view_size(rows: float, frames: float) -> tuple[int, int]:
    """The size of a view nearest to so many rows and frames.

    >>> view_size(64, 47.7)
    (64, 48)
    """
    return _side(rows), _side(frames)


def _side(wanted: float) -> int:
    return SIZE_STEP * max(1, round(wanted / SIZE_STEP))


class Crops(NamedTuple):
    """Where views of one kind come from, in parts of the clip's picture: centres and spans (B,) on both axes."""

    time: Tensor
    time_span: Tensor
    band: Tensor
    band_span: Tensor


def crop_and_resize(image: Tensor, crops: Crops, size: tuple[int, int]) -> Tensor:
    """Cut a box of its own out of each picture (B, C, F, T) and bring it to `size` (F, T), bilinearly; 0 outside.

    Bilinear, not BYOL-A's bicubic: measured twice as fast and, at scales near one, without a visible difference.
    """
    theta = image.new_zeros(len(image), 2, 3)
    theta[:, 0, 0], theta[:, 0, 2] = crops.time_span, 2.0 * crops.time - 1.0
    theta[:, 1, 1], theta[:, 1, 2] = crops.band_span, 2.0 * crops.band - 1.0
    grid = functional.affine_grid(theta, [len(image), image.shape[1], *size], align_corners=False)
    return functional.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


class Boxes(NamedTuple):
    """Whole rows and frames of each picture: the first of them, which may lie before the picture, and how many (B,)."""

    row: Tensor
    n_rows: Tensor
    frame: Tensor
    n_frames: Tensor


def random_boxes(
    draws: Draws,
    n_clips: int,
    size: tuple[int, int],
    canvas: tuple[float, float],
    band_scale: list[float],
    time_scale: list[float],
) -> Boxes:
    """Boxes on a canvas with the picture in its middle, as BYOL-A draws them (Niizumi et al., 2021).

    Height and width are drawn evenly (not in their logarithms) over their ranges, rounded down to whole rows and
    frames and cut to the canvas; then the place, evenly over those where the box lies on the canvas.

    Args:
        draws: where the numbers come from.
        n_clips: B.
        size: (F, T) of the picture.
        canvas: its size over the picture's, (1.0, 1.5) in both versions.
        band_scale: range of a box's height over the picture's.
        time_scale: range of a box's width over the picture's.
    """
    row, n_rows = _random_side(draws, n_clips, size[0], canvas[0], band_scale)
    frame, n_frames = _random_side(draws, n_clips, size[1], canvas[1], time_scale)
    return Boxes(row, n_rows, frame, n_frames)


def _random_side(draws: Draws, n_clips: int, size: int, canvas: float, scale: list[float]) -> tuple[Tensor, Tensor]:
    whole = int(size * canvas)
    count = (draws.uniform(n_clips, low=scale[0], high=scale[1]) * size).long().clamp(1, whole)
    room = whole - count
    # A draw of float32 times a whole number may round up to it.
    first = (draws.uniform(n_clips) * (room + 1)).long().minimum(room)
    return first - (whole - size) // 2, count


def resample_boxes(image: Tensor, boxes: Boxes, size: tuple[int, int], mode: str = "bicubic") -> Tensor:
    """Bring a box of its own of each picture (B, C, F, T) to `size` (F, T); beside the picture there is 0.

    Equal to `interpolate(mode=mode, align_corners=False)` of the box cut out of a canvas of zeros. BYOL-A aligns the
    corners: here the ends of the view are the ends of the box, so that places in it can be told in seconds.

    Args:
        image: (B, C, F, T).
        boxes: whole rows and frames.
        size: (F, T) of the result.
        mode: bicubic or bilinear.

    >>> image = torch.arange(12.0).view(1, 1, 3, 4)
    >>> two = torch.tensor([2])
    >>> resample_boxes(image, Boxes(two - 1, two, two, two + 1), (2, 3), "bilinear")[0, 0].tolist()
    [[6.0, 7.0, 0.0], [10.0, 11.0, 0.0]]
    """
    most = int(boxes.n_rows.max()), int(boxes.n_frames.max())
    return resample_by(image, plan_of(boxes, (image.shape[-2], image.shape[-1]), size, most, mode)).contiguous()


class Plan(NamedTuple):
    """How `resample_by` makes its rows and frames: which of the picture's, and by what weights, (B, N, 4 or 2)."""

    rows: Tensor
    row_weights: Tensor
    frames: Tensor
    frame_weights: Tensor

    def part(self, clips: slice) -> Plan:
        """The plan of some of the pictures."""
        return Plan(*(whole[clips] for whole in self))


def plan_of(
    boxes: Boxes, image_size: tuple[int, int], size: tuple[int, int], most: tuple[int, int], mode: str = "bicubic"
) -> Plan:
    """The plan of `resample_boxes` for boxes that have `most` rows and frames at the most."""
    return Plan(
        *taps_of(boxes.row, boxes.n_rows, image_size[0], size[0], most[0], mode),
        *taps_of(boxes.frame, boxes.n_frames, image_size[1], size[1], most[1], mode),
    )


def resample_by(image: Tensor, plan: Plan) -> Tensor:
    """Bring pictures (B, C, F, T) to the size of a plan, one axis after the other.

    In memory the numbers of one frame lie side by side: who copies the views elsewhere brings them in order on the way.
    """
    n_clips, n_channels = image.shape[:2]
    image = _weighted_rows(image.flatten(0, 1), plan.rows, plan.row_weights, n_channels)
    image = _weighted_rows(image.transpose(1, 2), plan.frames, plan.frame_weights, n_channels)
    views: Tensor = image.transpose(1, 2).unflatten(0, (n_clips, n_channels))
    return views


def _weighted_rows(table: Tensor, taps: Tensor, weights: Tensor, n_channels: int) -> Tensor:
    """Sums of rows of each table (B C, N, M), by taps and weights (B, N', K): (B C, N', M)."""
    if n_channels > 1:
        taps, weights = (values.repeat_interleave(n_channels, dim=0) for values in (taps, weights))
    n_tables, n_rows, n_columns = table.shape
    index = taps + n_rows * torch.arange(n_tables, dtype=taps.dtype, device=table.device)[:, None, None]
    summed = functional.embedding_bag(
        index.flatten(0, 1),
        table.reshape(-1, n_columns),
        mode="sum",
        per_sample_weights=weights.flatten(0, 1).to(table.dtype),
    )
    return summed.view(n_tables, -1, n_columns)


def taps_of(first: Tensor, count: Tensor, n_there: int, n_wanted: int, most: int, mode: str) -> tuple[Tensor, Tensor]:
    """Which rows of the picture make each wanted one of a box, (B, N, K), and by what weights; 0 beside the picture.

    Boxes begin at row `first` and have `count` rows, (B,), at the most `most`.
    """
    taps, weights = (of_count[count] for of_count in taps_by_count(most, n_wanted, mode, str(count.device)))
    taps += first.int()[:, None, None]
    there = taps.clamp(0, n_there - 1)
    return there, weights.mul_(taps == there)


@lru_cache(maxsize=16)
def taps_by_count(most: int, n_wanted: int, mode: str, device: str) -> tuple[Tensor, Tensor]:
    """Which of a box's rows make each of the wanted ones, and by what weights, for boxes of 0 to `most` rows."""
    count = torch.arange(most + 1, dtype=torch.int32, device=device)[:, None]
    # The middle of wanted row k lies at (k + 1/2) count / n - 1/2: in whole parts of 1 / 2n, so nothing is rounded.
    middle = (2 * torch.arange(n_wanted, dtype=torch.int32, device=device) + 1) * count - n_wanted
    below = middle.div(2 * n_wanted, rounding_mode="floor")
    d = (middle - below * (2 * n_wanted)) / (2 * n_wanted)
    if mode == "bilinear":
        steps, weights = range(2), [1.0 - d, d]
    else:
        steps, weights = range(-1, 3), [_far(1.0 + d), _near(d), _near(1.0 - d), _far(2.0 - d)]
    # Beyond the box its last row goes on, as in `interpolate`.
    taps = [(below + step).clamp(min=0).minimum(count - 1) for step in steps]
    return torch.stack(taps, -1), torch.stack(weights, -1)


def _near(x: Tensor) -> Tensor:
    return ((CUBIC + 2.0) * x - (CUBIC + 3.0)) * x * x + 1.0


def _far(x: Tensor) -> Tensor:
    return ((CUBIC * x - 5.0 * CUBIC) * x + 8.0 * CUBIC) * x - 4.0 * CUBIC
