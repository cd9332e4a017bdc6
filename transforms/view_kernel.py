"""The kernel behind `audiossl.transforms.fused_views`: views mixed, cut, resized and faded one after the other.

A view is made while it lies in the nearest cache, on one thread: torch's idle threads wait in a loop for their next
work, and a second one of ours would take turns with them. All functions that are compiled are in this file, since Numba
makes its kept result anew when the file of the function has changed, and no other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .lanes import WIDTH, Lanes, ln

N_TAPS = 4
ROWS = 32  # of a view at a time: a block of them and its transpose stay in the first cache
SQUARE = 4  # side of those that are transposed, `WIDTH` rows at a time
# Of two lines: the first two numbers of each square interleaved, and the last two.
HALVES = [[i + k for i in range(first, WIDTH, SQUARE) for k in (0, WIDTH, 1, WIDTH + 1)] for first in (0, 2)]


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


@compiled
def make(power, memory, background, share, sides, row_taps, row_weights, frame_taps, frame_weights, line, made):
    """Write all views to `made`; see `make_views`. Without shares `power` is the picture itself.

    A picture has `WIDTH` frames or more.
    """
    n_clips, n_channels, n_rows, n_frames = power.shape
    size = made.shape[2:]
    n_padded = -(-size[0] // ROWS) * ROWS
    rows, row_weight = np.zeros((N_TAPS, n_padded), np.uint32), np.zeros((N_TAPS, n_padded), np.float32)
    frames, frame_weight = np.zeros((N_TAPS, size[1]), np.uint32), np.zeros((N_TAPS, size[1]), np.float32)
    mixed = _room(n_rows * n_frames)
    scratch = _room((n_frames + WIDTH) * ROWS), _room(n_frames * ROWS), _room(size[1] * ROWS)
    n_each = len(made) // n_clips
    for n in range(len(made)):
        clip, v = _nth(n, n_each, n_clips)
        top, bottom = _place(sides[v, 0], sides[v, 1], n_rows, n_frames, row_taps, row_weights, rows, row_weight)
        begin, end = _place(sides[v, 2], sides[v, 3], n_frames, ROWS, frame_taps, frame_weights, frames, frame_weight)
        for channel in range(n_channels):
            view = made[v, channel]
            if top == bottom or begin == end:  # all of the box lies beside the picture
                view[:] = line[v]
                continue
            picture = power[clip, channel].reshape(-1)
            if len(share):
                other = memory[background[v], channel].reshape(-1)
                next_clip, next_v = _nth(min(n + 1, len(made) - 1), n_each, n_clips)
                coming = power[next_clip, channel].reshape(-1), memory[background[next_v], channel].reshape(-1)
                _mix((picture, other), share[v], (top, bottom, begin, end), n_frames, mixed, coming)
                picture = mixed
            _cut(picture, (begin, end), n_frames, rows, row_weight, frames, frame_weight, line[v], scratch, view)


@compiled
def _nth(n, n_each, n_clips):
    """The n-th clip and view that is made: all views of a clip one after the other, while its picture is near."""
    clip = n // n_each
    return clip, clip + n % n_each * n_clips


@compiled
def _room(n):
    """Space for n numbers, from a line of the cache on."""
    room = np.empty(n + WIDTH, np.float32)
    ahead = -(room.ctypes.data // room.itemsize) % WIDTH
    return room[ahead : ahead + n]


@compiled
def _place(first, count, n_there, pitch, taps_of, weights_of, places, weights):
    """Write where those of the picture's rows (or frames) lie that make each wanted one, and by what weights, (4, N).

    They lie `pitch` numbers apart. Those beside the picture weigh nothing. Returns the box's first row in the picture,
    and the end behind its last.
    """
    begin = min(max(first, 0), n_there)
    end = max(begin, min(first + count, n_there))
    for k in range(N_TAPS):
        for i in range(taps_of.shape[2]):
            tap = first + taps_of[count, k, i]
            weights[k, i] = weights_of[count, k, i] if begin <= tap < end else 0.0
            places[k, i] = min(max(tap, begin), end - 1) * pitch
    return begin, end


@compiled
def _mix(pictures, share, box, n_frames, mixed, coming):
    """Mix the rows and frames of a box as `mix_powers` does, with some frames beside it; fetch the pictures to come."""
    top, bottom, begin, end = box
    for i in range(top, bottom):
        for t in range(begin - begin % WIDTH, end, WIDTH):
            at = i * n_frames + min(t, n_frames - WIDTH)
            _fetch(coming[0], at)
            _fetch(coming[1], at)
            _mix_numbers(*pictures, share, mixed, at)


@compiled
def _cut(picture, box, n_frames, rows, row_weight, frames, frame_weight, line, scratch, view):
    """Make the rows of a view, each of four of the picture's, then its frames, each of four of those; add the line.

    Rows are made with their frames side by side, frames with their rows: transposed in between and at the end.
    """
    begin, end = box
    by_row, by_frame, turned = scratch  # the first holds `WIDTH` frames of all rows, then the next: one line each
    begin -= begin % WIDTH
    n_rows, n_wanted = view.shape
    made = view.reshape(-1)
    for i in range(0, n_rows, ROWS):
        for q in range(ROWS):
            for t in range(0, n_wanted, WIDTH):  # where this row will be written
                _fetch(made, (i + q) * n_wanted + t)
            places = rows[0, i + q], rows[1, i + q], rows[2, i + q], rows[3, i + q]
            weights = row_weight[0, i + q], row_weight[1, i + q], row_weight[2, i + q], row_weight[3, i + q]
            for t in range(begin, end, WIDTH):
                at = min(t, n_frames - WIDTH)
                _weigh(picture, places, at, weights, np.float32(0.0), by_row, (t - begin) * ROWS + q * WIDTH)
        for t in range(begin, end, WIDTH):
            at = min(t, n_frames - WIDTH)
            for k in range(0, WIDTH, SQUARE):
                for q in range(0, ROWS, WIDTH):
                    start = (t - begin) * ROWS + q * WIDTH + k
                    _transpose(by_row, start, WIDTH, by_frame, (at + k) * ROWS + q, ROWS)
        for t in range(n_wanted):
            places = frames[0, t], frames[1, t], frames[2, t], frames[3, t]
            weights = frame_weight[0, t], frame_weight[1, t], frame_weight[2, t], frame_weight[3, t]
            for q in range(0, ROWS, WIDTH):
                _weigh(by_frame, places, q, weights, line[t], turned, t * ROWS + q)
        for q in range(0, min(ROWS, n_rows - i), SQUARE):
            for t in range(0, n_wanted, WIDTH):
                _transpose(turned, t * ROWS + q, ROWS, made, (i + q) * n_wanted + t, n_wanted)


# Plain loops in place of these would take one number at a time, or half of `WIDTH`, or ask before each few numbers
# whether arrays overlap. Arrays have one axis and are of float32; nothing here asks whether places lie in them.


@intrinsic
def _fetch(_, array, at):
    """Bring the line of the cache with array[at] near, while other work goes on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        place = builder.bitcast(_address(context, builder, signature.args[0], *arguments), pointer)
        builder.call(prefetch, [place, number(0), number(3), number(1)])  # to read, for long, of data
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@intrinsic
def _mix_numbers(_, power, memory, share, mixed, at):
    """mixed[at + i] = ln(power[at + i] + share (memory[at + i] - power[at + i])) for i below `WIDTH`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *arrays, at = arguments
        here, there, to = (_address(context, builder, signature.args[k], arrays[k], at) for k in (0, 1, 3))
        power, memory = Lanes.loaded(builder, here), Lanes.loaded(builder, there)
        ln(power + (memory - power) * Lanes.filled(builder, arrays[2])).store(to)
        return context.get_dummy_value()

    return types.void(power, memory, types.float32, mixed, types.intp), generate


@intrinsic
def _weigh(_, source, places, begin, weights, start, to, at):
    """to[at + i] = sum of weights[k] source[places[k] + begin + i], plus `start`, for i below `WIDTH`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, places, begin, weights, start, to, at = arguments
        parts = []
        for k in range(N_TAPS):
            place = builder.add(builder.extract_value(places, k), begin)
            numbers = Lanes.loaded(builder, _address(context, builder, signature.args[0], source, place))
            parts.append(numbers * Lanes.filled(builder, builder.extract_value(weights, k)))
        total = parts[0] + parts[1] + parts[2] + parts[3] + Lanes.filled(builder, start)
        total.store(_address(context, builder, signature.args[5], to, at))
        return context.get_dummy_value()

    of_four = types.UniTuple(types.intp, N_TAPS), types.intp, types.UniTuple(types.float32, N_TAPS)
    return types.void(source, *of_four, types.float32, to, types.intp), generate


@intrinsic
def _transpose(_, source, begin, pitch, to, at, pitch_there):
    """to[at + i * pitch_there + j] = source[begin + j * pitch + i] for i below `SQUARE`, j below `WIDTH`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, begin, pitch, to, at, pitch_there = arguments
        lines = []
        for j in range(SQUARE):  # every fourth row, one behind the other
            parts = []
            for k in range(j, WIDTH, SQUARE):
                place = builder.add(begin, builder.mul(pitch, pitch.type(k)))
                parts.append(
                    Lanes.loaded(builder, _address(context, builder, signature.args[0], source, place), SQUARE)
                )
            while len(parts) > 1:
                parts = [one.and_behind(other) for one, other in zip(parts[::2], parts[1::2], strict=True)]
            lines += parts
        # Two lines are interleaved, half a square of each at a time: this, twice, turns all squares.
        for _ in range(2):
            lines = [lines[i].shuffled(lines[i + 2], half) for i in range(2) for half in HALVES]
        for i, line in enumerate(lines):
            place = builder.add(at, builder.mul(pitch_there, pitch_there.type(i)))
            line.store(_address(context, builder, signature.args[3], to, place))
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, to, types.intp, types.intp), generate


def _address(context: Any, builder: Any, kind: Any, array: Any, place: Any) -> Any:
    """Where a number of an array lies."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [place])
