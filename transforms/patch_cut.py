"""Windows of one size cut out of pictures, many of each, as they are or stretched in time: the cutting of patches."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .crop import taps_of

Size = tuple[int, int]


class Windows(NamedTuple):
    """Windows of a batch's pictures: number of the clip, first row, first frame and frames shown, (N,) each."""

    clip: Tensor
    row: Tensor
    frame: Tensor
    n_frames: Tensor


def cut(image: Tensor, windows: Windows, size: Size) -> Tensor:
    """Cut windows out of pictures (B, C, F, T), all of `size`: (N, C, f, t)."""
    if not image.requires_grad:
        every = image.unfold(2, size[0], 1).unfold(3, size[1], 1)  # a view of all windows
        return every[windows.clip, :, windows.row, windows.frame]
    # The gradient of such a view would be as large as all windows are; that of single points is as large as the image.
    return _points(image, windows, size[0], windows.frame[:, None] + torch.arange(size[1], device=image.device))


def cut_stretched(image: Tensor, windows: Windows, size: Size) -> Tensor:
    """Cut windows of differing widths and bring them to `size` by linear interpolation over time: (N, C, f, t).

    Equal to `interpolate(mode="linear", align_corners=False)` of each window cut out.
    """
    n_frames = image.shape[3]
    taps, weights = taps_of(windows.frame, windows.n_frames, n_frames, size[1], n_frames, "bilinear")
    frames, weights = taps.long(), weights.to(image.dtype)[:, None, None]
    early, late = (_points(image, windows, size[0], frames[..., k]) * weights[..., k] for k in (0, 1))
    return early + late


def _points(image: Tensor, windows: Windows, height: int, frames: Tensor) -> Tensor:
    """Points of pictures at `frames` (N, t) and at the rows of windows: (N, C, f, t)."""
    rows = windows.row[:, None] + torch.arange(height, device=image.device)
    points = image.transpose(0, 1)[:, windows.clip[:, None, None], rows[..., None], frames[:, None]]
    return points.transpose(0, 1).contiguous()
