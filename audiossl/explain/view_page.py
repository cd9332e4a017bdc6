"""The page of `audiossl inspect views`: a few clips with their sound, the boxes drawn in them, and the views."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from audiossl.data import CachedClips, DataConfig, cache_clips, open_augment, open_clips
from audiossl.errors import UserError
from audiossl.explain.sound import player, plot, script, style
from audiossl.explain.views import example_pictures, heard_name, spread
from audiossl.run.page_file import write_page
from audiossl.run.pictures import HEIGHT, Picture, by_clip, colour_range, draw, inner_width
from audiossl.transforms import FrontEnd, FrontEndConfig, MultiCrop, Normalize, as_float, build_frontend
from audiossl.transforms.patches import Patches
from audiossl.transforms.two_views import TwoViews
from audiossl.transforms.view_config import MultiCropConfig, PatchesConfig, TwoViewsConfig
from audiossl.transforms.wave_augment import WaveAugment
from audiossl.transforms.wave_config import WaveAugmentConfig

ViewConfig = MultiCropConfig | TwoViewsConfig | PatchesConfig

# Clips that are read at most, and those of them that the picture's statistics are measured on: enough for a look, and
# a page of a slow front end in a minute.
CLIPS_READ, CLIPS_MEASURED = 256, 32


@dataclass(frozen=True)
class ViewsShown:
    """What the page shows: pictures of clips and of their views, the waves of both, and what made them, in words."""

    n_clips: int
    pictures: list[Picture]
    waves: Mapping[str, np.ndarray]
    sample_rate: int
    lead: str
    parts: tuple[str, ...]


def examine(
    data: DataConfig,
    frontend: FrontEndConfig,
    config: ViewConfig,
    seed: int,
    n_clips: int,
    wave: WaveAugmentConfig | None = None,
) -> ViewsShown:
    """Cut views from a few clips of a data set, changed by `wave` if there is one, as a run of these settings would.

    Raises `UserError` for data that cannot be opened and settings that contradict each other.
    """
    if frontend.sample_rate != data.sample_rate:
        raise UserError(
            f"--frontend.sample_rate is {frontend.sample_rate} and --data.sample_rate is {data.sample_rate}: "
            "give both the same."
        )
    front = build_frontend(frontend)
    views = build_views(config, front, data)
    clips = _few(data)
    measured = spread(clips, CLIPS_MEASURED)
    normalize = Normalize.measure(front, (batch.wave for batch in measured.batches(CLIPS_MEASURED)), frontend.per_bin)
    if getattr(views, "memory", None) is not None:  # backgrounds come from earlier batches: show it one
        before = torch.from_numpy(np.asarray(measured.waves[:]))
        views(normalize(front(as_float(before))), torch.Generator().manual_seed(seed))
    chosen, augment = spread(clips, n_clips), open_augment(wave or WaveAugmentConfig(), data.sample_rate)
    heard = _heard(chosen, augment, 1 if isinstance(views, Patches) else 2, seed)
    pictures = example_pictures(front, normalize, views, clips, n_clips, None, seed, heard)
    waves = dict(zip(chosen.ids, np.asarray(chosen.waves[:]), strict=True))
    for number, copy in enumerate(heard):
        waves |= {heard_name(name, number, len(heard)): copy[b].numpy() for b, name in enumerate(chosen.ids)}
    return ViewsShown(
        len(chosen),
        pictures,
        waves,
        data.sample_rate,
        f"{len(chosen)} clips of {clips.name} and their views, drawn as in training (seed {seed}). "
        f"The picture's mean and deviation are those of {len(measured)} clips.",
        (*([repr(augment)] if heard else []), repr(views), repr(front), repr(normalize)),
    )


def _heard(clips: CachedClips, augment: WaveAugment, n_copies: int, seed: int) -> list[Tensor]:
    """The clips as augmentations of the waveform make them, so many times; none when nothing is turned on."""
    if not augment.steps:
        return []
    return augment.copies(torch.from_numpy(np.asarray(clips.waves[:])), n_copies, torch.Generator().manual_seed(seed))


def build_views(config: ViewConfig, frontend: FrontEnd, data: DataConfig) -> nn.Module:
    """The module that cuts views of this configuration from pictures of this front end."""
    size, clip_s = (frontend.n_bins, frontend.n_frames(data.n_samples)), data.clip_s
    if isinstance(config, TwoViewsConfig):
        return TwoViews(config, size, clip_s, frontend.n_channels)
    if isinstance(config, PatchesConfig):
        return Patches(config, size, clip_s)
    return MultiCrop(config, size, clip_s)


def _few(data: DataConfig) -> CachedClips:
    """At most `CLIPS_READ` clips, those to train on where there are such."""
    few = replace(data, limit=min(data.limit or CLIPS_READ, CLIPS_READ))
    clips = cache_clips(open_clips(few), few)
    training = clips.split("training")
    return training if len(training) else clips


def write_view_page(path: Path, shown: ViewsShown) -> Path:
    """Write the page and return its path; raises `UserError` when it cannot be written."""
    title = "Views of a few clips"
    clips = "".join(_clip(name, group, shown) for name, group in by_clip(shown.pictures).items())
    parts = escape("\n\n".join(shown.parts))
    body = (
        f'<header><p class="over">audiossl inspect views</p><h1>{title}</h1><p class="lead">{escape(shown.lead)}</p>'
        '</header><section><p class="small">Whole clips with the boxes of their views (dashed: local), then the views '
        "as the network is shown them, cut from changed copies of a clip where augmentations of the waveform are on. "
        "Axes are those of the clip; what lies beyond its edges or above its band is "
        "filled with the mean. All pictures of a clip share their colours. A click in a picture goes to that time.</p>"
        f'{clips}</section><section><h2>What made them</h2><div class="card repr"><pre>{parts}</pre></div></section>'
    )
    return write_page(path, title, body, style(), script())


def _clip(name: str, pictures: list[Picture], shown: ViewsShown) -> str:
    colours, longest_s = colour_range(pictures), max(p.end_s - p.start_s for p in pictures)
    figures: list[str] = []
    for picture in pictures:
        svg = draw(picture, colours, longest_s)
        drawn = plot(svg, picture.start_s, picture.end_s, inner_width(picture, longest_s), HEIGHT)
        what, _, where = picture.caption.partition(": ") if figures else ("the whole clip", "", "")
        figures.append(f"<figure>{drawn}<figcaption><b>{escape(what)}</b><br>{escape(where)}</figcaption></figure>")
    sound = f'<div class="clip-sound">{player(shown.waves[name], shown.sample_rate, name)}</div>'
    return (
        f'<div class="sounding"><h3>{escape(name)}</h3><div class="card"><div class="views">{figures[0]}{sound}</div>'
        f'<div class="views">{"".join(figures[1:])}</div></div></div>'
    )
