"""Pictures of clips and of views made of them: kept in a run folder as numbers, drawn as SVG with real axes.

The spectrogram is a PNG with a palette of 256 colours inside the SVG (a third of the bytes of true colour);
axes and crop boxes are vectors, so that text stays sharp and follows the page's light or dark colours.
"""

from __future__ import annotations

import base64
import io
import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from pathlib import Path

import numpy as np

# Base64 pictures beyond this many bytes are left out, so that the page stays below 1.5 MB.
PICTURE_BYTES = 800_000
# Larger pictures are averaged down to this many bins and frames: a page of 30 then stays below 1 MB.
MAX_BINS, MAX_FRAMES = 128, 256
# Ten colours of magma (van der Walt and Smith 2015): dark is quiet, steps are even, readable in grey print.
COLOURS = ("000004", "180f3d", "440f76", "721f81", "9e2f7f", "cd4071", "f1605d", "fd9668", "feca8d", "fcfdbf")
# Hz; those that lie in a picture and are far enough apart become ticks.
NICE_HZ = (16000, 8000, 4000, 2000, 1000, 500, 250, 125, 60, 30)
NICE_STEPS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 300, 600)
# Drawing units, which are CSS pixels at full size.
HEIGHT, LEFT, RIGHT, TOP, BOTTOM, NARROWEST = 128, 36, 8, 8, 32, 56


@dataclass(frozen=True)
class Box:
    """Where a view was cut from its clip, in seconds and Hz; may reach beyond the clip."""

    start_s: float
    end_s: float
    low_hz: float
    high_hz: float
    label: str = ""
    local: bool = False


@dataclass(frozen=True)
class Picture:
    """One spectrogram with its axes.

    Args:
        image: (F, T) numbers, low frequency first.
        caption: one line for people.
        frequencies: (F,) Hz of the bins, increasing.
        start_s, end_s: times of the left and right edge in the clip.
        boxes: crops to draw into the picture of a whole clip.
        clip: name of the clip; pictures of one clip share a row and a colour scale.
    """

    image: np.ndarray
    caption: str
    frequencies: np.ndarray
    start_s: float = 0.0
    end_s: float = 1.0
    boxes: tuple[Box, ...] = ()
    clip: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError for shapes that do not fit together."""
        if np.ndim(self.image) != 2 or np.shape(self.frequencies) != (np.shape(self.image)[0],):
            raise ValueError(
                f"a picture is (F, T) with (F,) frequencies, found {np.shape(self.image)} and "
                f"{np.shape(self.frequencies)}"
            )


def save_pictures(path: Path, pictures: Sequence[Picture]) -> None:
    """Write pictures as one .npz of float32 arrays and a JSON string, no pickles; beside, then renamed."""
    arrays: dict[str, np.ndarray] = {}
    about = []
    for index, picture in enumerate(pictures):
        arrays[f"image_{index}"] = np.asarray(picture.image, np.float32)
        arrays[f"frequencies_{index}"] = np.asarray(picture.frequencies, np.float64)
        about.append(asdict(replace(picture, image=np.zeros((0, 0)), frequencies=np.zeros(0))))
        del about[-1]["image"], about[-1]["frequencies"]
    arrays["about"] = np.array(json.dumps(about))
    beside = path.with_name(path.name + ".part")
    with open(beside, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    os.replace(beside, path)


def load_pictures(path: Path) -> list[Picture]:
    """Pictures that `save_pictures` wrote; raises ValueError when the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            return [
                Picture(
                    file[f"image_{index}"],
                    frequencies=file[f"frequencies_{index}"],
                    **{**entry, "boxes": tuple(Box(**box) for box in entry["boxes"])},
                )
                for index, entry in enumerate(about)
            ]
    except (OSError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged ({error})") from error


def by_clip(pictures: Sequence[Picture]) -> dict[str, list[Picture]]:
    """Pictures in the order of their clips' first appearance."""
    rows: dict[str, list[Picture]] = {}
    for picture in pictures:
        rows.setdefault(picture.clip, []).append(picture)
    return rows


def colour_range(pictures: Sequence[Picture]) -> tuple[float, float]:
    """Values of the darkest and lightest colour: 1st and 99.8th percentile over all pictures given."""
    values = np.concatenate([np.ravel(p.image) for p in pictures]) if pictures else np.zeros(0)
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = np.percentile(values, [1.0, 99.8])
    return float(low), float(high) if high > low else float(low) + 1.0


def draw(picture: Picture, colours: tuple[float, float], longest_s: float, width: int = 300) -> str:
    """An inline SVG of one picture.

    Args:
        picture: what to draw.
        colours: values of the darkest and lightest colour (`colour_range`).
        longest_s: duration that is `width` units wide; shorter pictures are narrower in proportion.
        width: units of the longest picture.
    """
    duration = max(picture.end_s - picture.start_s, 1e-9)
    inner = max(NARROWEST, round(width * min(1.0, duration / max(longest_s, 1e-9))))
    total_w, total_h = LEFT + inner + RIGHT, TOP + HEIGHT + BOTTOM
    parts = [
        f'<svg role="img" aria-label="{escape(picture.caption, quote=True)}" '
        f'viewBox="0 0 {total_w} {total_h}" '
        f'width="{total_w}" height="{total_h}">',
        f'<image x="{LEFT}" y="{TOP}" width="{inner}" height="{HEIGHT}" preserveAspectRatio="none" '
        f'href="data:image/png;base64,{_png(picture.image, colours)}"/>',
        _time_axis(picture, inner),
        _frequency_axis(picture),
        *(_box(box, picture, inner) for box in picture.boxes),
        "</svg>",
    ]
    return "".join(parts)


def _png(image: np.ndarray, colours: tuple[float, float]) -> str:
    from PIL import Image

    low, high = colours
    scaled = (np.asarray(image, np.float64) - low) / (high - low)
    scaled = np.nan_to_num(scaled, nan=0.0, posinf=1.0, neginf=0.0)
    levels = (_smaller(scaled).clip(0, 1) * 255).round().astype(np.uint8)
    drawn = Image.fromarray(np.ascontiguousarray(levels[::-1]), mode="P")
    drawn.putpalette(_palette().tobytes())
    buffer = io.BytesIO()
    drawn.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _palette() -> np.ndarray:
    """256 colours between those of `COLOURS`, (256, 3) uint8."""
    anchors = np.array([[int(colour[i : i + 2], 16) for i in (0, 2, 4)] for colour in COLOURS])
    at = np.linspace(0, len(COLOURS) - 1, 256)
    channels = [np.interp(at, np.arange(len(COLOURS)), anchors[:, i]) for i in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8)


def _smaller(image: np.ndarray) -> np.ndarray:
    """Average blocks of bins and frames until the picture fits."""
    for axis, limit in ((0, MAX_BINS), (1, MAX_FRAMES)):
        if image.shape[axis] > limit:
            edges = np.linspace(0, image.shape[axis], limit + 1).astype(int)[:-1]
            counts = np.diff(np.append(edges, image.shape[axis]))
            shape = (-1, 1) if axis == 0 else (1, -1)
            image = np.add.reduceat(image, edges, axis=axis) / counts.reshape(shape)
    return image


def _x(time_s: float, picture: Picture, inner: int) -> float:
    return LEFT + inner * (time_s - picture.start_s) / max(picture.end_s - picture.start_s, 1e-9)


def _y(frequency: float, picture: Picture) -> float:
    """Height of a frequency: bin i covers i to i + 1 from below; beyond the ends the edge."""
    bins = len(picture.frequencies)
    at = float(np.interp(frequency, picture.frequencies, np.arange(bins) + 0.5))
    if frequency <= picture.frequencies[0]:
        at = 0.0
    elif frequency >= picture.frequencies[-1]:
        at = float(bins)
    return TOP + HEIGHT * (1 - at / bins)


def _time_axis(picture: Picture, inner: int) -> str:
    duration = picture.end_s - picture.start_s
    # A label takes about 30 units.
    wanted = duration / max(1, inner // 46)
    step = next((s for s in NICE_STEPS_S if s >= wanted), NICE_STEPS_S[-1])
    first = int(np.ceil(picture.start_s / step - 1e-9))
    last = int(np.floor(picture.end_s / step + 1e-9))
    parts, base = [], TOP + HEIGHT
    for count in range(first, last + 1):
        x = _x(count * step, picture, inner)
        parts.append(f'<path class="tick" d="M{x:.1f} {base}v4"/>')
        parts.append(f'<text x="{x:.1f}" y="{base + 15}" text-anchor="middle">{count * step:g}</text>')
    parts.append(f'<text class="unit" x="{LEFT + inner / 2:.1f}" y="{base + 28}" text-anchor="middle">seconds</text>')
    return "".join(parts)


def _frequency_axis(picture: Picture) -> str:
    parts: list[str] = []
    previous = -np.inf
    low, high = picture.frequencies[0], picture.frequencies[-1]
    inside = [f for f in NICE_HZ if 0.99 * low <= f <= 1.03 * high]
    for frequency in inside or [round(float(high)), round(float(low))]:
        y = _y(frequency, picture)
        if y - previous < 14:
            continue
        previous = y
        name = f"{frequency / 1000:g}k" if frequency >= 1000 else f"{frequency:g}"
        parts.append(f'<path class="tick" d="M{LEFT} {y:.1f}h-4"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{name}</text>')
    parts.append(f'<text class="unit" x="{LEFT - 6}" y="{TOP + HEIGHT + 28}" text-anchor="end">Hz</text>')
    return "".join(parts)


def _box(box: Box, picture: Picture, inner: int) -> str:
    x0, x1 = (float(np.clip(_x(t, picture, inner), LEFT + 1, LEFT + inner - 1)) for t in (box.start_s, box.end_s))
    y1, y0 = (float(np.clip(_y(f, picture), TOP + 1, TOP + HEIGHT - 1)) for f in (box.low_hz, box.high_hz))
    shape = f'x="{x0:.1f}" y="{y0:.1f}" width="{max(0.0, x1 - x0):.1f}" height="{max(0.0, y1 - y0):.1f}"'
    at = y1 - 4 if box.local else y0 + 12  # so that labels in the same corner do not meet
    label = f'<text class="box-label" x="{x0 + 4:.1f}" y="{at:.1f}">{escape(box.label)}</text>' if box.label else ""
    return f'<rect class="halo" {shape}/><rect class="box{" local" * box.local}" {shape}/>{label}'


def views_section(pictures: Sequence[Picture]) -> str:
    """Pictures of a few clips, whole and as the network's views, a clip a row."""
    left, rows, omitted = PICTURE_BYTES, [], 0
    for name, group in by_clip(pictures).items():
        colours, longest = colour_range(group), max(p.end_s - p.start_s for p in group)
        figures = []
        for picture in group:
            svg = draw(picture, colours, longest)
            if len(svg) > left:
                omitted += 1
                continue
            left -= len(svg)
            figures.append(f"<figure>{svg}<figcaption>{escape(picture.caption)}</figcaption></figure>")
        if figures:
            rows.append(f'<h3>{escape(name)}</h3><div class="card views">{"".join(figures)}</div>')
    if not rows:
        return ""
    note = f'<p class="small">{omitted} more pictures are left out for size.</p>' if omitted else ""
    return (
        '<section><h2>Views</h2><p class="small">What the network is shown: whole clips with the crops drawn '
        "in (dashed: local), and the views made of them. Axes are those of the clip; all pictures of a clip "
        "share their colours, lighter is louder.</p>"
        f"{''.join(rows)}{note}</section>"
    )
