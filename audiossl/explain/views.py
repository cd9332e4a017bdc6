"""A few clips and the views that are cut from them, as pictures with axes in seconds and Hz."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from audiossl.data.cached import CachedClips
from audiossl.run.pictures import Box, Picture
from audiossl.transforms import FrontEnd, Normalize, as_float
from audiossl.transforms.stack import WITHOUT_FREQUENCY_AXIS
from audiossl.transforms.views import Views


def spread(clips: CachedClips, n_clips: int) -> CachedClips:
    """At most `n_clips` clips, evenly spread over the set, always the same ones."""
    return clips.subset(np.linspace(0, len(clips) - 1, min(n_clips, len(clips))).round().astype(int))


@torch.no_grad()
def example_pictures(
    frontend: FrontEnd,
    normalize: Normalize,
    views: Callable[..., Views],
    clips: CachedClips,
    n_clips: int = 4,
    n_views: int | None = 4,
    seed: int = 0,
    heard: Sequence[torch.Tensor] = (),
) -> list[Picture]:
    """A few clips as pictures, each with boxes where views were cut, and those views behind it.

    The views are drawn as in training, from clips spread over the set, always the same ones. Of a front end with
    several channels the first is shown.

    Args:
        frontend: from waves to pictures.
        normalize: with the statistics of training.
        views: from pictures to views.
        clips: to choose from.
        n_clips: at most so many clips.
        n_views: at most so many views of each, None for all.
        seed: of the draws.
        heard: waves of the chosen clips as augmentations made them, one or two copies, which the views are cut from;
            none: the clips themselves.
    """
    chosen = spread(clips, n_clips)
    wave = torch.from_numpy(np.asarray(chosen.waves[:])).to(normalize.mean.device)
    plain, *images = [normalize(frontend(as_float(copy))) for copy in (wave, *heard)]
    images = images or [plain]
    drawn = views(images if len(images) > 1 else images[0], torch.Generator().manual_seed(seed))
    axis, unit = axis_of(frontend)
    pictures = []
    for b, name in enumerate(chosen.ids):
        if heard:
            whole = plain[b, 0].cpu().numpy()
            pictures.append(Picture(whole, f"the clip {name}", axis, end_s=clips.clip_s, clip=name, unit=unit))
        for copy, image in enumerate(images):
            shown = _with_views(drawn, b, (copy, len(images)), n_views, axis, unit)
            title = heard_name(name, copy, len(heard))
            whole = Picture(
                image[b, 0].cpu().numpy(),
                f"the clip {title}",
                axis,
                end_s=clips.clip_s,
                boxes=tuple(box for box, _ in shown),
                unit=unit,
            )
            pictures += [replace(picture, clip=title) for picture in (whole, *(view for _, view in shown))]
    return pictures


def heard_name(name: str, copy: int, n_copies: int) -> str:
    """What a clip is called as augmentations of the waveform made it.

    >>> heard_name("a", 0, 0), heard_name("a", 0, 1), heard_name("a", 1, 2)
    ('a', 'a, changed', 'a, changed, copy 2')
    """
    return name + (", changed" if n_copies else "") + (f", copy {copy + 1}" if n_copies > 1 else "")


def _with_views(
    drawn: Views, b: int, copy: tuple[int, int], n_views: int | None, axis: np.ndarray, unit: str
) -> list[tuple[Box, Picture]]:
    """Boxes and views of clip b that were cut from one of so many copies, which take turns in every group of views."""
    n_clips, n_global = drawn.boxes.shape[1], len(drawn.images[0]) // drawn.boxes.shape[1]
    singles = [(v, view) for group in drawn.images for v, view in enumerate(group.split(n_clips))]
    shown = []
    for number, (v, view) in list(enumerate(singles))[:n_views]:
        if v % copy[1] != copy[0]:
            continue
        place = drawn.boxes[number, b].tolist()
        box = _box(place, number, number >= n_global, axis)
        image = view[b, 0].cpu().numpy()
        rows = place[2] + (place[3] - place[2]) * (np.arange(len(image)) + 0.5) / len(image)
        caption = _caption(box, len(drawn.images) > 1, unit)
        shown.append((box, Picture(image, caption, along(axis, rows), box.start_s, box.end_s, unit=unit)))
    return shown


def axis_of(frontend: FrontEnd) -> tuple[np.ndarray, str]:
    """What the rows of a front end's picture stand for, (F,), and its unit: Hz, or the number of a row that has none.

    >>> from audiossl.transforms import build_frontend
    >>> axis_of(build_frontend("mfcc", n_bins=3))
    (array([0., 1., 2.]), 'row')
    """
    if frontend.config.type in WITHOUT_FREQUENCY_AXIS:
        return np.arange(float(frontend.n_bins)), "row"
    return frontend.frequencies.cpu().double().numpy(), "Hz"


def _box(box: list[float], number: int, local: bool, axis: np.ndarray) -> Box:
    start_s, end_s, low, high = box
    low_hz, high_hz = along(axis, np.array([low, high]))
    return Box(start_s, end_s, float(low_hz), float(high_hz), label=str(number + 1), local=local)


def _caption(box: Box, two_kinds: bool, unit: str) -> str:
    """What a view is, and which part of the clip it shows."""
    kind = (", local" if box.local else ", global") if two_kinds else ""
    low, high = max(0.0, box.low_hz), box.high_hz
    band = f"{low:,.0f} to {high:,.0f} Hz" if unit == "Hz" else f"{unit} {low:.0f} to {high:.0f}"
    return f"view {box.label}{kind}: {box.start_s:.2f} to {box.end_s:.2f} s, {band}"


def along(frequencies: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Hz at places of the band, where 0 and 1 are the edges of its first and last bin; straight on beyond them.

    >>> along(np.array([100.0, 200.0, 400.0]), np.array([0.0, 0.5, 1.0])).tolist()
    [50.0, 200.0, 500.0]
    """
    n = len(frequencies)
    bins = np.arange(-n, 2 * n)
    low, high = frequencies[1] - frequencies[0], frequencies[-1] - frequencies[-2]
    beyond = np.concatenate(
        [frequencies[0] + low * bins[:n], frequencies, frequencies[-1] + high * (bins[2 * n :] - n + 1)]
    )
    return np.interp(place * n - 0.5, bins, beyond)
