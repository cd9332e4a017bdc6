"""The kernel behind `audiossl.transforms.fused_views`: views mixed, cut, resized and faded one after the other.

A view is made while it lies in the nearest cache, on one thread: torch's idle threads wait in a loop for their next
work, and a second one of ours would take turns with them. All that is compiled is in this file, since Numba makes its
kept result anew when the file of the function has changed, and no other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

N_TAPS = 4
ROWS = 32  # of a view at a time: a block of them and its transpose stay in the first cache
WIDTH = 16  # numbers that are weighed at a time, by one, two or four instructions
SIDE = 8  # of a square that is transposed at a time
LEAST = np.float32(np.finfo(np.float32).tiny)
INFINITY = np.float32(np.inf)
LN_2 = np.float32(np.log(2.0))
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


@compiled
def make(power, memory, background, share, sides, row_taps, row_weights, frame_taps, frame_weights, line, made):
    """Write all views to `made`; see `make_views`. Without shares `power` is the picture itself."""
    n_clips, n_channels, n_rows, n_frames = power.shape
    size = made.shape[2:]
    n_padded = -(-size[0] // ROWS) * ROWS
    rows, row_weight = np.zeros((N_TAPS, n_padded), np.uint32), np.zeros((N_TAPS, n_padded), np.float32)
    frames, frame_weight = np.zeros((N_TAPS, size[1]), np.uint32), np.zeros((N_TAPS, size[1]), np.float32)
    wide = np.zeros((n_rows, max(n_frames, WIDTH)), np.float32)  # a picture that is mixed, or too narrow for `_weigh`
    scratch = (
        np.empty((ROWS, n_frames + WIDTH), np.float32),
        np.empty((n_frames + WIDTH, ROWS), np.float32),
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
                _mix(picture, memory[background[v], channel], share[v], top, bottom, wide)
                picture = wide
            elif n_frames < WIDTH:
                wide[:, :n_frames] = picture
                picture = wide
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
    return begin, end


@compiled
def _mix(power, memory, share, top, bottom, mixed):
    """Mix rows `top` to `bottom` as `mix_powers` does."""
    n_frames = power.shape[1]
    if n_frames == mixed.shape[1]:  # all rows as one
        _mix_row(power.reshape(-1), memory.reshape(-1), share, top * n_frames, bottom * n_frames, mixed.reshape(-1))
    else:
        for i in range(top, bottom):
            _mix_row(power[i], memory[i], share, 0, n_frames, mixed[i])


@compiled
def _mix_row(power, memory, share, begin, end, mixed):
    # Unsigned, since a negative index would count from the end, and that is asked at each number.
    for t in range(np.uint64(begin), np.uint64(end)):
        mixed[t] = _ln(power[t] + share * (memory[t] - power[t]))


@inlined
def _ln(x):
    """Natural logarithm of a float32: 2^k (1 + f) by k ln 2 + 2 artanh(f / (2 + f)), 1 + f from sqrt(1/2) to sqrt(2).

    Numbers below the least normal one count as that one; infinity and NaN stay what they are.
    """
    bits = np.int32(np.float32(max(x, LEAST)).view(np.int32) - ROOT_HALF)
    exponent = np.float32(np.int32(bits >> np.int32(23)))
    f = np.int32((bits & MANTISSA) + ROOT_HALF).view(np.float32) - np.float32(1.0)
    s = f / (np.float32(2.0) + f)
    z = s * s
    # 2 artanh(s) = 2 s + z s r(z), and 2 s = f - f s. The series of r begins 2/3 + 2/5 z + 2/7 z^2; these have the
    # least largest error of z r(z) up to (sqrt(2) - 1)^2 / (sqrt(2) + 1)^2, 2e-9.
    r = np.float32(0.6666677638) + z * (np.float32(0.3997754159) + z * np.float32(0.2987172739))
    result = exponent * LN_2 + (f - s * (f - z * r))
    return result if x < INFINITY else x


@compiled
def _cut(picture, begin, end, rows, row_weight, frames, frame_weight, line, scratch, view):
    """Make the rows of a view, each of four of the picture's, then its frames, each of four of those; add the line.

    Rows are made with their frames side by side, frames with their rows: transposed in between and at the end.
    """
    by_row, by_frame, turned = scratch
    first = begin - begin % SIDE
    for i in range(0, view.shape[0], ROWS):
        for q in range(ROWS):
            taps = rows[0, i + q], rows[1, i + q], rows[2, i + q], rows[3, i + q]
            weights = row_weight[0, i + q], row_weight[1, i + q], row_weight[2, i + q], row_weight[3, i + q]
            for t in range(first, end, WIDTH):
                _weigh(picture, taps, weights, np.float32(0.0), by_row, q, min(t, picture.shape[1] - WIDTH))
        for t in range(first, end, SIDE):
            for q in range(0, ROWS, SIDE):
                _transpose(by_row, q, t, by_frame, 0)
        for t in range(view.shape[1]):
            taps = frames[0, t], frames[1, t], frames[2, t], frames[3, t]
            weights = frame_weight[0, t], frame_weight[1, t], frame_weight[2, t], frame_weight[3, t]
            for q in range(0, ROWS, WIDTH):
                _weigh(by_frame, taps, weights, line[t], turned, t, q)
        for q in range(0, min(ROWS, view.shape[0] - i), SIDE):
            for t in range(0, view.shape[1], SIDE):
                _transpose(turned, t, q, view, i)


# Plain loops in their place would take one number at a time, or ask before each few numbers whether arrays overlap.
# Nothing here asks whether indices lie in the arrays, which are whole and of float32.

Builder = Any  # of LLVM's instructions, as Numba's `intrinsic` hands it over with the rest of its arguments


@intrinsic
def _weigh(_, source, taps, weights, start, to, row, column):
    """to[row, t] = sum of weights[k] source[taps[k], t], plus `start`, for `WIDTH` numbers t from `column` on."""

    def generate(context: Any, builder: Builder, signature: Any, arguments: Any) -> Any:
        source, taps, weights, start, to, row, column = arguments
        parts = []
        for k in range(N_TAPS):
            place = _address(context, builder, signature.args[0], source, builder.extract_value(taps, k), column)
            weight = _repeated(builder, builder.extract_value(weights, k))
            parts.append(builder.fmul(_load(builder, place, WIDTH), weight, flags=["contract"]))
        for part in [*parts[1:], _repeated(builder, start)]:
            parts[0] = builder.fadd(parts[0], part, flags=["contract"])
        _store(builder, parts[0], _address(context, builder, signature.args[4], to, row, column))
        return context.get_dummy_value()

    of_four = types.UniTuple(types.intp, N_TAPS), types.UniTuple(types.float32, N_TAPS)
    return types.void(source, *of_four, types.float32, to, types.intp, types.intp), generate


@intrinsic
def _transpose(_, source, row, column, to, below):
    """to[below + column + i, row + j] = source[row + j, column + i], for a square of `SIDE`."""

    def generate(context: Any, builder: Builder, signature: Any, arguments: Any) -> Any:
        source, row, column, to, below = arguments
        n = row.type
        lines = []
        for j in range(SIDE):
            place = _address(context, builder, signature.args[0], source, builder.add(row, n(j)), column)
            lines.append(_load(builder, place, SIDE))
        # Three times each line and the one half a square below it are interleaved: a perfect shuffle of all numbers.
        first, second = [0, 8, 1, 9, 2, 10, 3, 11], [4, 12, 5, 13, 6, 14, 7, 15]
        for _ in range(3):
            pairs = list(zip(lines[:4], lines[4:], strict=True))
            lines = [_shuffled(builder, *pair, half) for pair in pairs for half in (first, second)]
        below = builder.add(below, column)
        for i, line in enumerate(lines):
            _store(builder, line, _address(context, builder, signature.args[3], to, builder.add(below, n(i)), row))
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, to, types.intp), generate


def _address(context: Any, builder: Builder, type_: Any, array: Any, row: Any, column: Any) -> Any:
    """Address of array[row, column]."""
    array = context.make_array(type_)(context, builder, array)
    start = builder.mul(row, builder.extract_value(array.shape, 1))
    return builder.gep(array.data, [builder.add(start, column)])


def _load(builder: Builder, place: Any, n: int) -> Any:
    numbers = builder.load(builder.bitcast(place, ir.VectorType(ir.FloatType(), n).as_pointer()))
    numbers.align = 4
    return numbers


def _store(builder: Builder, numbers: Any, place: Any) -> None:
    builder.store(numbers, builder.bitcast(place, numbers.type.as_pointer())).align = 4


def _repeated(builder: Builder, number: Any) -> Any:
    """`WIDTH` times the same number."""
    one = builder.insert_element(ir.VectorType(number.type, WIDTH)(ir.Undefined), number, ir.IntType(32)(0))
    return _shuffled(builder, one, one, [0] * WIDTH)


def _shuffled(builder: Builder, first: Any, second: Any, order: list[int]) -> Any:
    """The numbers of two vectors, as if one came behind the other, in this order."""
    return builder.shuffle_vector(first, second, ir.VectorType(ir.IntType(32), len(order))(order))
