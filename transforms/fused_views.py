"""The views of `TwoViews` in one pass over memory: mixed, cut, resized and faded by a kernel compiled for the CPU.

Torch's own calls (`audiossl.transforms.crop.resample_by` and others) pass over all pictures ten times, and each pass
costs as much as its arithmetic. Here a view is made while it lies in the nearest cache, on one thread: torch's idle
threads wait in a loop for their next work, and a second one of ours would take turns with them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .crop import Boxes, taps_by_count
from .mixup import Mixture

N_TAPS = 4
ONE = np.uint64(1)
BLOCK = np.uint64(16)  # numbers whose logarithms are taken at a time, four or eight of them by one instruction
ROWS = 32  # of a view at a time: a block of them and its transpose stay in the first cache
LEAST = np.float32(np.finfo(np.float32).tiny)
INFINITY = np.float32(np.inf)
ROOT_HALF = np.int32(0x3F3504F3)  # the bits of sqrt(1/2)
MANTISSA = np.int32(0x007FFFFF)


def compiled(function: Callable[..., Any], **how: Any) -> Any:
    """Compile a function at its first call, some seconds, and keep the result for later processes.

    It is kept beside this file or in the user's cache; where neither can be written, it is for this process alone.
    """
    # `contract` lets a product and a sum be one instruction; nothing is reordered.
    how = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy", **how}
    try:
        return numba.njit(function, cache=True, **how)
    except RuntimeError:  # "no locator available"
        return numba.njit(function, **how)


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a function as part of those that call it."""
    return compiled(function, inline="always")


def make_views(
    image: Tensor,
    mixture: Mixture | None,
    boxes: Boxes,
    line: Tensor,
    size: tuple[int, int],
    most: tuple[int, int],
    mode: str = "bicubic",
) -> Tensor:
    """Mix pictures, bring a box of each to `size` as `resample_boxes` does, and add a line over time.

    Args:
        image: (B, C, F, T), float32 and on the CPU; no gradient flows through.
        mixture: what is mixed into each view, or None.
        boxes: of N views; view v is one of clip v modulo B.
        line: (N, 1, 1, T').
        size: (F', T') of a view.
        most: rows and frames of a box at the most.
        mode: bicubic or bilinear.

    Returns (N, C, F', T').

    >>> image, two = torch.arange(12.0).view(1, 1, 3, 4), torch.tensor([2])
    >>> boxes = Boxes(two - 1, two, two, two + 1)
    >>> make_views(image, None, boxes, torch.zeros(1, 1, 1, 3), (2, 3), (3, 4), "bilinear")[0, 0].tolist()
    [[6.0, 7.0, 0.0], [10.0, 11.0, 0.0]]
    """
    n_views = len(line)
    made = image.new_empty(n_views, image.shape[1], *size)
    if mixture is None:  # no shares: nothing is mixed
        mixture = Mixture(image, image, boxes.row, line.new_empty(0))
    tables = [*_four_taps(most[0], size[0], mode), *_four_taps(most[1], size[1], mode)]
    arrays = [*mixture, torch.stack(boxes, dim=1), *tables, line[:, 0, 0], made]
    _make(*(values.contiguous().numpy() for values in arrays))
    return made


@lru_cache(maxsize=16)
def _four_taps(most: int, n_wanted: int, mode: str) -> tuple[Tensor, Tensor]:
    """The table of `taps_by_count`, brought to four taps by some that weigh nothing."""
    taps, weights = taps_by_count(most, n_wanted, mode, "cpu")
    missing = N_TAPS - taps.shape[-1]
    # Side by side lie the first taps of all wanted rows, then the second.
    return functional.pad(taps, (0, missing)).mT.contiguous(), functional.pad(weights, (0, missing)).mT.contiguous()


@compiled
def _make(power, memory, background, share, sides, row_taps, row_weights, frame_taps, frame_weights, line, made):
    """Write all views to `made`; see `make_views`. Without shares `power` is the picture itself."""
    n_clips, n_channels, n_rows, n_frames = power.shape
    size = made.shape[2:]
    n_padded = -(-size[0] // ROWS) * ROWS
    rows, row_weight = np.zeros((N_TAPS, n_padded), np.uint32), np.zeros((N_TAPS, n_padded), np.float32)
    frames, frame_weight = np.zeros((N_TAPS, size[1]), np.uint32), np.zeros((N_TAPS, size[1]), np.float32)
    mixed = np.empty((n_rows, n_frames), np.float32)
    scratch = (
        np.empty(n_frames, np.float32),
        np.empty((n_frames, ROWS), np.float32),
        np.empty((size[1], ROWS), np.float32),
    )
    for v in range(len(made)):
        top, bottom = _place(sides[v, 0], sides[v, 1], n_rows, row_taps, row_weights, rows, row_weight)
        begin, end = _place(sides[v, 2], sides[v, 3], n_frames, frame_taps, frame_weights, frames, frame_weight)
        for channel in range(n_channels):
            view = made[v, channel]
            if top == bottom or begin == end:  # all of the box lies beside the picture
                view[:] = line[v]
                continue
            picture = power[v % n_clips, channel]
            if len(share):
                _mix(picture, memory[background[v], channel], share[v], top, bottom, begin, end, mixed)
                picture = mixed
            _cut(picture, begin, end, rows, row_weight, frames, frame_weight, line[v], scratch, view)


@compiled
def _place(first, count, n_there, taps_of, weights_of, taps, weights):
    """Write which of the picture's rows (or frames) make each wanted one of a box, and by what weights, (4, N).

    Those beside the picture weigh nothing. Returns the box's first row in the picture, and the end behind its last.
    """
    begin = min(max(first, 0), n_there)
    end = max(begin, min(first + count, n_there))
    for k in range(N_TAPS):
        for i in range(taps_of.shape[2]):
            tap = first + taps_of[count, k, i]
            weights[k, i] = weights_of[count, k, i] if begin <= tap < end else 0.0
            taps[k, i] = min(max(tap, begin), end - 1)
    return np.uint64(begin), np.uint64(end)


# The loops below take several numbers by one instruction. For that their indices are unsigned (a negative one would
# count from the end), arrays are whole and not slices (which cost as much as a short loop), and blocks are of a fixed
# length where the rest of a loop, number by number, would be dear.


@compiled
def _mix(power, memory, share, top, bottom, begin, end, mixed):
    """Mix rows `top` to `bottom` as `mix_powers` does, and at least the frames from `begin` to `end`."""
    first = begin - begin % BLOCK
    n_blocks = min((end - first + BLOCK - ONE) // BLOCK, (np.uint64(mixed.shape[1]) - first) // BLOCK)
    for i in range(top, bottom):
        for block in range(n_blocks):
            at = first + BLOCK * block
            for t in range(BLOCK):
                ours = power[i, at + t]
                mixed[i, at + t] = _ln(ours + share * (memory[i, at + t] - ours))
        for t in range(first + BLOCK * n_blocks, end):
            mixed[i, t] = _ln(power[i, t] + share * (memory[i, t] - power[i, t]))


@inlined
def _ln(x):
    """Natural logarithm of a float32 as fdlibm's logf has it, without its branches.

    Numbers below the least normal one count as that one; infinity and NaN stay what they are.
    """
    bits = np.float32(max(x, LEAST)).view(np.int32) - ROOT_HALF
    exponent = np.float32(bits >> np.int32(23))
    f = np.int32((bits & MANTISSA) + ROOT_HALF).view(np.float32) - np.float32(1.0)
    s = f / (np.float32(2.0) + f)
    z = s * s
    w = z * z
    r = w * (np.float32(0.40000972152) + w * np.float32(0.24279078841))
    r += z * (np.float32(0.66666662693) + w * np.float32(0.28498786688))
    half = np.float32(0.5) * f * f
    low = s * (half + r) + exponent * np.float32(9.0580006145e-06)
    result = exponent * np.float32(6.9313812256e-01) - ((half - low) - f)
    return result if x < INFINITY else x


@compiled
def _cut(picture, begin, end, rows, row_weight, frames, frame_weight, line, scratch, view):
    """Make the rows of a view, each of four of the picture's, then its frames, each of four of those; add the line.

    Rows are made with their frames side by side, frames with their rows: transposed in between and at the end.
    """
    made_row, by_frame, turned = scratch
    for i in range(0, view.shape[0], ROWS):
        for q in range(ROWS):
            w0, w1, w2, w3 = row_weight[0, i + q], row_weight[1, i + q], row_weight[2, i + q], row_weight[3, i + q]
            r0, r1, r2, r3 = rows[0, i + q], rows[1, i + q], rows[2, i + q], rows[3, i + q]
            for t in range(begin, end):
                made_row[t] = w0 * picture[r0, t] + w1 * picture[r1, t] + w2 * picture[r2, t] + w3 * picture[r3, t]
            for t in range(begin, end):
                by_frame[t, q] = made_row[t]
        for t in range(view.shape[1]):
            w0, w1, w2, w3 = frame_weight[0, t], frame_weight[1, t], frame_weight[2, t], frame_weight[3, t]
            f0, f1, f2, f3 = frames[0, t], frames[1, t], frames[2, t], frames[3, t]
            for q in range(ROWS):
                turned[t, q] = w0 * by_frame[f0, q] + w1 * by_frame[f1, q] + w2 * by_frame[f2, q] + w3 * by_frame[f3, q]
        for q in range(min(ROWS, view.shape[0] - i)):
            for t in range(view.shape[1]):
                view[i + q, t] = turned[t, q] + line[t]
