"""Pictures of clips and of views made of them: kept in a run folder as numbers, drawn as SVG with real axes.

The spectrogram is a PNG with a palette of 256 colours inside the SVG (a third of the bytes of true colour);
axes and crop boxes are vectors, so that text stays sharp and follows the page's light or dark colours.
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from pathlib import Path

import numpy as np

from audiossl.reading import parse_json, read_arrays
from audiossl.run.axes import BOTTOM, LEFT, RIGHT, TOP, frequency_axis, place_of, time_axis

# Base64 pictures beyond this many bytes are left out, so that the page stays below 1.5 MB.
PICTURE_BYTES = 800_000
# Larger pictures are averaged down to this many bins and frames: a page of 30 then stays below 1 MB.
MAX_BINS, MAX_FRAMES = 128, 256
# Ten colours of magma (van der Walt and Smith 2015): dark is quiet, steps are even, readable in grey print.
COLOURS = ("000004", "180f3d", "440f76", "721f81", "9e2f7f", "cd4071", "f1605d", "fd9668", "feca8d", "fcfdbf")
# Drawing units, which are CSS pixels at full size.
HEIGHT, NARROWEST = 128, 56


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
        unit: of `frequencies`, where the rows are something else than frequencies.
    """

    image: np.ndarray
    caption: str
    frequencies: np.ndarray
    start_s: float = 0.0
    end_s: float = 1.0
    boxes: tuple[Box, ...] = ()
    clip: str = ""
    unit: str = "Hz"

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
        arrays = read_arrays(path)
        return [
            Picture(
                arrays[f"image_{index}"],
                frequencies=arrays[f"frequencies_{index}"],
                **{**entry, "boxes": tuple(Box(**box) for box in entry["boxes"])},
            )
            for index, entry in enumerate(parse_json(str(arrays["about"])))
        ]
    except (OSError, KeyError, TypeError, ValueError) as error:
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


def draw(
    picture: Picture, colours: tuple[float, float], longest_s: float, width: int = 300, height: int = HEIGHT
) -> str:
    """An inline SVG of one picture.

    Args:
        picture: what to draw.
        colours: values of the darkest and lightest colour (`colour_range`).
        longest_s: duration that is `width` units wide; shorter pictures are narrower in proportion.
        width: units of the longest picture.
        height: units of every picture.
    """
    inner = inner_width(picture, longest_s, width)
    total_w, total_h = LEFT + inner + RIGHT, TOP + height + BOTTOM
    parts = [
        f'<svg role="img" aria-label="{escape(picture.caption, quote=True)}" '
        f'viewBox="0 0 {total_w} {total_h}" '
        f'width="{total_w}" height="{total_h}">',
        f'<image x="{LEFT}" y="{TOP}" width="{inner}" height="{height}" preserveAspectRatio="none" '
        f'href="data:image/png;base64,{_png(picture.image, colours)}"/>',
        time_axis(picture.start_s, picture.end_s, inner, TOP + height),
        frequency_axis(picture.frequencies, height, escape(picture.unit)),
        *_boxes(picture, inner, height),
        "</svg>",
    ]
    return "".join(parts)


def inner_width(picture: Picture, longest_s: float, width: int = 300) -> int:
    """Units between the axes of a picture, when the longest one is `width` units wide."""
    duration = max(picture.end_s - picture.start_s, 1e-9)
    return max(NARROWEST, round(width * min(1.0, duration / max(longest_s, 1e-9))))


def _png(image: np.ndarray, colours: tuple[float, float]) -> str:
    from PIL import Image

    low, high = colours
    scaled = (np.asarray(image, np.float64) - low) / (high - low)
    scaled = np.nan_to_num(scaled, nan=0.0, posinf=1.0, neginf=0.0)
    levels = (_smaller(scaled).clip(0, 1) * 255).round().astype(np.uint8)
    drawn = Image.fromarray(np.ascontiguousarray(levels[::-1]), mode="P")
    drawn.putpalette(palette().tobytes())
    buffer = io.BytesIO()
    drawn.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def palette() -> np.ndarray:
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


def _boxes(picture: Picture, inner: int, height: int) -> Iterator[str]:
    """Each box with its label, in the upper corner, of local views in the lower, and inwards of the labels there."""
    taken: list[tuple[float, float]] = []
    for box in picture.boxes:
        x0, y0, x1, y1 = _corners(box, picture, inner, height)
        shape = f'x="{x0:.1f}" y="{y0:.1f}" width="{max(0.0, x1 - x0):.1f}" height="{max(0.0, y1 - y0):.1f}"'
        yield f'<rect class="halo" {shape}/><rect class="box{" local" * box.local}" {shape}/>'
        if box.label:
            x, y, step = (x0 + 4, y1 - 4, -11) if box.local else (x0 + 4, y0 + 12, 11)
            while TOP < y + step < TOP + height and any(abs(x - a) < 14 and abs(y - b) < 11 for a, b in taken):
                y += step
            taken.append((x, y))
            yield f'<text class="box-label" x="{x:.1f}" y="{y:.1f}">{escape(box.label)}</text>'


def _corners(box: Box, picture: Picture, inner: int, height: int) -> tuple[float, float, float, float]:
    """Left, upper, right and lower edge of a box, cut at the picture's edges."""
    duration = max(picture.end_s - picture.start_s, 1e-9)
    places = (LEFT + inner * (time - picture.start_s) / duration for time in (box.start_s, box.end_s))
    heights = (TOP + height * (1 - place_of(hz, picture.frequencies)) for hz in (box.low_hz, box.high_hz))
    x0, x1 = (float(np.clip(x, LEFT + 1, LEFT + inner - 1)) for x in places)
    y1, y0 = (float(np.clip(y, TOP + 1, TOP + height - 1)) for y in heights)
    return x0, y0, x1, y1


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
