"""Sound in a page: a part of a recording that plays, its waveform, and a line that runs over all its pictures."""

from __future__ import annotations

import base64
import math
import os
from dataclasses import dataclass
from html import escape
from importlib import resources

import numpy as np

from audiossl import audio
from audiossl.errors import UserError
from audiossl.run.axes import BOTTOM, LEFT, RIGHT, TOP, time_axis

# Seconds in one page: a minute of sound at 16 kHz is 2.5 MB of HTML.
LONGEST_S = 60.0
# Drawing units of the waveform, and samples that a column of it stands for at least.
WAVE_WIDTH, WAVE_HEIGHT = 1080, 56


@dataclass(frozen=True)
class Sound:
    """A part of a recording: `wave` (S,) float32 at `sample_rate` Hz, from `start_s` seconds on.

    recording_s, rate_in, n_channels: what the recording was before it was cut, resampled and mixed.
    """

    name: str
    wave: np.ndarray
    sample_rate: int
    start_s: float
    recording_s: float
    rate_in: int
    n_channels: int

    @property
    def duration_s(self) -> float:
        """Length of the part in seconds."""
        return len(self.wave) / self.sample_rate


def read_sound(path: str | os.PathLike[str], sample_rate: int, start_s: float = 0.0, duration_s: float = 5.0) -> Sound:
    """Read a part of a recording by seeking, mixed to one channel at `sample_rate`.

    Raises `AudioError` for what cannot be read, and `UserError` for a part that is not there or too long for a page.
    """
    if not sample_rate >= 1:
        raise UserError(f"--sample_rate {sample_rate} must be a rate in Hz, for example 16000.")
    if not start_s >= 0:
        raise UserError(f"--start_s {start_s:g} must be 0 or more seconds.")
    if not 0 < duration_s <= LONGEST_S:
        raise UserError(f"--duration_s {duration_s:g} must be above 0 and at most {LONGEST_S:g} seconds.")
    about = audio.info(path)
    wave, rate_in = audio.load(path, sample_rate, start_s, duration_s)
    return Sound(os.fspath(path), wave, sample_rate, start_s, about.duration_s, rate_in, about.n_channels)


def player(wave: np.ndarray, sample_rate: int, label: str) -> str:
    """An <audio> element that holds the samples (S,), int16 or float32, as a WAV of 16 bits."""
    samples = wave if wave.dtype == np.int16 else audio.to_int16(wave)
    data = base64.b64encode(audio.encode(samples, sample_rate)).decode("ascii")
    return (
        f'<audio controls preload="auto" aria-label="{escape(label, quote=True)}" '
        f'src="data:audio/wav;base64,{data}"></audio>'
    )


def plot(svg: str, start_s: float, end_s: float, width: int, height: int) -> str:
    """A drawing with a line that `script` moves while the sound plays.

    Args:
        svg: with the margins of `audiossl.run.axes` around an area of `width` x `height` units.
        start_s: time of the area's left edge in the sound that is played.
        end_s: time of its right edge.
        width: units of the area.
        height: units of the area.
    """
    total_w, total_h = LEFT + width + RIGHT, TOP + height + BOTTOM
    return (
        f'<div class="plot" data-start="{start_s:.6g}" data-end="{end_s:.6g}" '
        f'data-left="{LEFT / total_w:.5f}" data-right="{(LEFT + width) / total_w:.5f}" '
        f'style="--above:{100 * TOP / total_h:.2f}%;--high:{100 * height / total_h:.2f}%">{svg}'
        '<i class="playhead" hidden></i></div>'
    )


def waveform(sound: Sound) -> str:
    """The wave as the range of its samples in each column, its peak at the edge, above an axis in seconds."""
    total_w, total_h = LEFT + WAVE_WIDTH + RIGHT, TOP + WAVE_HEIGHT + BOTTOM
    low, high = envelope(sound.wave, WAVE_WIDTH // 2)
    peak = float(np.abs(sound.wave).max())
    middle, scale = TOP + WAVE_HEIGHT / 2, WAVE_HEIGHT / 2 / (peak or 1.0)
    line = 0.5 / scale  # at least half a unit high, so that silence is a line
    step = WAVE_WIDTH / len(low)
    bars = (
        f"M{LEFT + (i + 0.5) * step:.1f} {middle - scale * max(top, bottom + line):.1f}V{middle - scale * bottom:.1f}"
        for i, (bottom, top) in enumerate(zip(low, high, strict=True))
    )
    level = f"peak {20 * math.log10(peak):.1f} dB" if peak > 0 else "digital silence"
    svg = (
        f'<svg role="img" aria-label="waveform" viewBox="0 0 {total_w} {total_h}" width="{total_w}" '
        f'height="{total_h}"><path class="wave" stroke-width="{0.9 * step:.2f}" d="{"".join(bars)}"/>'
        f'<text class="unit" x="{LEFT}" y="{TOP + WAVE_HEIGHT + 28}">{level}</text>'
        f"{time_axis(sound.start_s, sound.start_s + sound.duration_s, WAVE_WIDTH, TOP + WAVE_HEIGHT, 60)}</svg>"
    )
    return plot(svg, 0.0, sound.duration_s, WAVE_WIDTH, WAVE_HEIGHT)


def envelope(wave: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest sample of each of at most `columns` stretches of equal length.

    >>> low, high = envelope(np.array([0.0, 1.0, -1.0, 0.5]), 2)
    >>> low.tolist(), high.tolist()
    ([0.0, -1.0], [1.0, 0.5])
    """
    columns = min(columns, len(wave))
    first = np.linspace(0, len(wave), columns, endpoint=False).astype(int)
    return np.minimum.reduceat(wave, first), np.maximum.reduceat(wave, first)


def style() -> str:
    """CSS of the pages."""
    return resources.files("audiossl.explain").joinpath("pages.css").read_text("utf-8")


def script() -> str:
    """JavaScript that moves the line over the pictures of the sound that plays."""
    return resources.files("audiossl.explain").joinpath("playhead.js").read_text("utf-8")
