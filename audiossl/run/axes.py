"""Axes of drawn pictures: which seconds and Hz get a tick, where it stands, and the SVG of it.

A front end's rows may lie evenly in Hz (Fourier), on a mel or ERB scale, in octaves or in steps of an octave: the place
of a frequency is read off the rows' own frequencies, and nothing here knows a scale by name.
"""

from __future__ import annotations

import math

import numpy as np

# Hz in octaves; on an axis that is not linear, those that lie in a picture and are far enough apart become ticks.
OCTAVES_HZ = (16000, 8000, 4000, 2000, 1000, 500, 250, 125, 60, 30)
NICE_STEPS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 300, 600)
# Drawing units, which are CSS pixels at full size: margins around a picture, the least distance of two rows of text,
# the least gap between two labels beside each other, and the width of a digit.
LEFT, RIGHT, TOP, BOTTOM = 36, 8, 8, 32
APART_HZ, BETWEEN_LABELS, DIGIT = 14, 12, 6.5


def place_of(frequency: float, frequencies: np.ndarray) -> float:
    """Height of a frequency in parts of the picture, 0 below: row i covers i to i + 1; beyond the ends the edge.

    >>> place_of(200.0, np.array([100.0, 200.0, 400.0, 800.0])), place_of(9000.0, np.array([100.0, 200.0]))
    (0.375, 1.0)
    """
    rows = len(frequencies)
    at = float(np.interp(frequency, frequencies, np.arange(rows) + 0.5))
    if rows > 1 and frequency <= frequencies[0]:
        at = 0.0
    elif rows > 1 and frequency >= frequencies[-1]:
        at = float(rows)
    return at / rows


def frequency_ticks(frequencies: np.ndarray, height: float) -> list[tuple[float, float]]:
    """Hz and place (0 below, 1 above) of the ticks of an axis `height` units long, from high to low.

    Even steps where the rows lie evenly in Hz, octaves elsewhere, where the rows span enough of them. None where the
    rows have no frequencies of their own (all are the same).
    """
    low, high = float(frequencies[0]), float(frequencies[-1])
    if len(frequencies) == 1:
        return [(low, 0.5)]
    if not high > low:
        return []
    steps = np.diff(frequencies)
    # A tick at the edge stands for a frequency just beyond the last row's middle.
    octaves = _spread([hz for hz in OCTAVES_HZ if 0.99 * low <= hz <= 1.03 * high], frequencies, height)
    if steps.max() > 1.5 * steps.min() and len(octaves) >= 3:
        return octaves
    step = _nice_step((high - low) * APART_HZ / height)
    even = [step * count for count in range(math.floor(high / step), math.ceil(low / step) - 1, -1)]
    return _spread(even, frequencies, height) or [(high, 1.0), (low, 0.0)]


def _nice_step(least: float) -> float:
    """1, 2 or 5 times a power of ten, at least `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= least * 0.999)


def _spread(candidates: list[float], frequencies: np.ndarray, height: float) -> list[tuple[float, float]]:
    """Candidates from high to low with their places, without those too near to the one above."""
    kept: list[tuple[float, float]] = []
    for hz in candidates:
        place = place_of(hz, frequencies)
        if not kept or (kept[-1][1] - place) * height >= APART_HZ:
            kept.append((hz, place))
    return kept


def time_ticks(start_s: float, end_s: float, width: float, between: float = BETWEEN_LABELS) -> list[float]:
    """Seconds of the ticks of an axis `width` units long, as many as leave `between` units from label to label.

    >>> time_ticks(0.0, 1.0, 300), time_ticks(3600.0, 3605.0, 300)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [3600, 3601, 3602, 3603, 3604, 3605])
    """
    per_second = width / max(end_s - start_s, 1e-9)
    ticks: list[float] = []
    for step in NICE_STEPS_S:
        first, last = math.ceil(start_s / step - 1e-9), math.floor(end_s / step + 1e-9)
        if step * per_second < DIGIT + between:  # not even labels of one digit
            continue
        ticks = [round(count * step, 9) for count in range(first, last + 1)]
        longest = max((len(f"{tick:g}") for tick in ticks), default=0)
        if step * per_second >= DIGIT * longest + between:
            break
    return ticks


def hz_name(hz: float) -> str:
    """A frequency as a tick's label.

    >>> hz_name(250.0), hz_name(4000.0), hz_name(12500.0), hz_name(31.4)
    ('250', '4k', '12.5k', '31')
    """
    return f"{hz / 1000:g}k" if hz >= 1000 else f"{hz:.0f}"


def time_axis(start_s: float, end_s: float, width: float, base: float, between: float = BETWEEN_LABELS) -> str:
    """SVG of an axis in seconds below a picture whose lower edge is at `base`."""
    parts = []
    for second in time_ticks(start_s, end_s, width, between):
        x = LEFT + width * (second - start_s) / max(end_s - start_s, 1e-9)
        parts.append(f'<path class="tick" d="M{x:.1f} {base}v4"/>')
        parts.append(f'<text x="{x:.1f}" y="{base + 15}" text-anchor="middle">{second:g}</text>')
    parts.append(f'<text class="unit" x="{LEFT + width / 2:.1f}" y="{base + 28}" text-anchor="middle">seconds</text>')
    return "".join(parts)


def frequency_axis(frequencies: np.ndarray, height: float, unit: str = "Hz") -> str:
    """SVG of an axis left of a picture of `height` units, in Hz or in whatever else its rows count."""
    parts = []
    for hz, place in frequency_ticks(frequencies, height):
        y = TOP + height * (1 - place)
        parts.append(f'<path class="tick" d="M{LEFT} {y:.1f}h-4"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{hz_name(hz)}</text>')
    parts.append(f'<text class="unit" x="{LEFT - 6}" y="{TOP + height + 28}" text-anchor="end">{unit}</text>')
    return "".join(parts)
