"""The page of `audiossl inspect correspondence`: two spectrograms and lines between the regions that match."""

from __future__ import annotations

from dataclasses import dataclass, replace
from html import escape
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from audiossl.encoder import AudioEncoder
from audiossl.explain.attention_page import clip_picture
from audiossl.explain.cells import Cells, cells_of
from audiossl.explain.correspondence import SILENCE_DB, Correspondence, correspondence, match_regions
from audiossl.explain.correspondence_config import KnownChange
from audiossl.explain.eval_mode import evaluating
from audiossl.explain.frontends import pictures_of
from audiossl.explain.known_views import Change, known_views, rows_cut
from audiossl.explain.regions import regions_of
from audiossl.explain.sound import WAVE_WIDTH, Sound, player, plot, script, style
from audiossl.run.axes import BOTTOM, LEFT, RIGHT, TOP
from audiossl.run.page_file import write_page
from audiossl.run.pictures import Picture, colour_range, draw

HEIGHT = 240  # drawing units of each spectrogram
MATCHES = 3  # of each cell, shown when it is chosen
LINES = 10  # strongest matches that the page begins with: as many as EsViT draws


@dataclass(frozen=True)
class CorrespondenceShown:
    """What the page shows: two sounds, their pictures, and the matches between their cells.

    truth: for two views of one clip the true row and column of each cell of the first in the second, (P, 2) in cells,
    NaN where the second lacks it.
    """

    sounds: tuple[Sound, Sound]
    pictures: tuple[Picture, Picture]
    found: Correspondence
    names: tuple[str, str]
    encoder: str
    truth: np.ndarray | None = None


def examine_two_clips(
    encoder: AudioEncoder, name: str, first: Sound, second: Sound, stage: int | None = None
) -> CorrespondenceShown:
    """Match the regions of two sounds, of the last or another stage."""
    found = correspondence(encoder, first.wave, second.wave, MATCHES, stage=stage)
    pictures = clip_picture(encoder, first), clip_picture(encoder, second)
    return CorrespondenceShown((first, second), pictures, found, _names(first, second), _at_stage(name, stage))


def _at_stage(name: str, stage: int | None) -> str:
    return name if stage is None else f"stage {stage} of {name}"


def _names(first: Sound, second: Sound) -> tuple[str, str]:
    return Path(first.name).name, Path(second.name).name


@torch.no_grad()
def examine_two_views(
    encoder: AudioEncoder, name: str, sound: Sound, config: KnownChange, stage: int | None = None
) -> CorrespondenceShown:
    """Match the regions of two views of one sound, the second changed by just so much as the bounds of `config` allow.

    It begins `shift_s` later, lacks rows at both ends, is louder, and has noise in it. Raises UserError for a shift as
    long as the sound, and a stage that the network lacks.
    """
    device = encoder.normalize.mean.device
    wave = torch.from_numpy(sound.wave)[None].to(device)
    shift = round(config.shift_s * encoder.sample_rate)
    config.check_shift(len(sound.wave) / sound.sample_rate)
    first_row = rows_cut(config, encoder) // 2
    change = Change(torch.tensor([0]), torch.tensor([shift]), torch.tensor([first_row]), torch.tensor([config.gain_db]))
    with evaluating(encoder):
        views = known_views(encoder, wave, change, config, SILENCE_DB, torch.Generator().manual_seed(0), stage)
        regions = [regions_of(encoder.network, image, stage) for image in (views.image_a, views.image_b)]
    whole = [cells_of(encoder.frontend, views.wave_a.shape[1], part.grid, part.stride) for part in regions]
    rows = slice(first_row, first_row + views.image_b.shape[2])
    cells_b = replace(whole[1], frequencies=whole[1].frequencies[rows])
    found = match_regions(regions[0].patches[0], regions[1].patches[0], views.silent[0], whole[0], cells_b, MATCHES)
    truth = np.stack([views.rows[0], views.columns[0]], axis=1)
    truth[~views.inside[0]] = np.nan
    sounds = tuple(replace(sound, wave=view[0].cpu().numpy()) for view in (views.wave_a, views.wave_b))
    sounds = sounds[0], replace(sounds[1], start_s=sound.start_s + config.shift_s)
    pictures = (
        pictures_of(encoder.frontend, views.image_a[0].cpu().numpy(), sounds[0])[0],
        _cropped(encoder, views.image_b[0], sounds[1], rows),
    )
    second = f"the same {config.shift_s:g} s later, {config.gain_db:+g} dB, with noise at {-config.snr_db:g} dB"
    names = (Path(sound.name).name, second)
    return CorrespondenceShown(sounds, pictures, found, names, _at_stage(name, stage), truth)


def _cropped(encoder: AudioEncoder, image: torch.Tensor, sound: Sound, rows: slice) -> Picture:
    """The picture of a view that lacks rows, with the frequencies of those it has."""
    whole = torch.zeros(len(image), encoder.frontend.n_bins, image.shape[2])
    whole[:, rows] = image.cpu()
    picture = pictures_of(encoder.frontend, whole.numpy(), sound)[0]
    return replace(picture, image=picture.image[rows], frequencies=picture.frequencies[rows])


def write_correspondence_page(path: Path, shown: CorrespondenceShown) -> Path:
    """Write the page and return its path; raises `UserError` when it cannot be written."""
    found = shown.found
    n_sounding = int((~found.silent).sum())
    title = f"Correspondence on {shown.names[0]}"
    body = (
        f'<header><p class="over">audiossl inspect correspondence</p><h1>{escape(title)}</h1>'
        f'<p class="lead">{escape(_lead(shown, n_sounding))}</p></header>'
        '<form class="card controls" autocomplete="off"><label>Strongest matches <input type="range" name="lines" '
        f'min="1" max="{max(1, n_sounding)}" value="{min(LINES, max(1, n_sounding))}"><output></output></label>'
        '<button type="button" name="all">Back from a cell</button></form>'
        f'<div class="card spectrogram pair">{_pair(shown)}<p class="small readout" role="status"></p></div>'
        f'<p class="small under">{_legend(shown)}</p><p class="small">A click in the upper picture chooses a cell and '
        f"shows its {found.matches.shape[1]} best matches; with the picture in focus the arrow keys move the choice. "
        "The rings are the cells nearest to the mean of all regions.</p>"
        f"<details><summary>The matches in numbers</summary>{_table(shown)}</details>"
    )
    own = resources.files("audiossl.explain")
    css = "".join(own.joinpath(f"{name}.css").read_text("utf-8") for name in ("attention", "correspondence"))
    code = script() + own.joinpath("correspondence.js").read_text("utf-8")
    return write_page(path, title, body, style() + css, code)


def _lead(shown: CorrespondenceShown, n_sounding: int) -> str:
    n_cells, grid = len(shown.found.matches), shown.found.cells_a.grid
    text = (
        f"{shown.names[0]} above; below: {shown.names[1]}. Through {shown.encoder}: {n_cells} cells, {grid[0]} of "
        f"frequency by {grid[1]} of time, of which {n_sounding} hold sound."
    )
    kinds = [_kind(shown, int(cell), 0) for cell in np.flatnonzero(~shown.found.silent)]
    known = [kind for kind in kinds if kind != "match"]
    if not known:
        return text
    exact, near = known.count("right"), known.count("near")
    return f"{text} Of {len(known)} that the second view has too, {exact} find their own place and {near} a neighbour."


def _kind(shown: CorrespondenceShown, cell: int, order: int) -> str:
    """How good a match is, where that is known: right, near (the next cell) or wrong."""
    if shown.truth is None or np.isnan(shown.truth[cell]).any():
        return "match"
    row, column = divmod(int(shown.found.matches[cell, order]), shown.found.cells_b.grid[1])
    off = float(np.abs(shown.truth[cell] - (row, column)).max())
    return "right" if off <= 0.5 + 1e-6 else "near" if off <= 1.5 + 1e-6 else "wrong"


def _legend(shown: CorrespondenceShown) -> str:
    if shown.truth is None:
        return "Lines join a cell to its most similar one."
    samples = "".join(
        f'<span class="sample"><svg viewBox="0 0 30 8" width="30" height="8" aria-hidden="true">'
        f'<path class="{kind}" d="M1 4h28"/></svg> {text}</span>'
        for kind, text in (
            ("right", "its own place"),
            ("near", "a neighbour of it"),
            ("wrong", "elsewhere"),
            ("match", "not in the second view"),
        )
    )
    return f"Lines join a cell to its most similar one: {samples}"


def _pair(shown: CorrespondenceShown) -> str:
    """Both pictures, one directly below the other, each with its sound; the lines lie over both."""
    colours = colour_range(shown.pictures)
    halves = []
    for number, (sound, picture) in enumerate(zip(shown.sounds, shown.pictures, strict=True)):
        svg = draw(picture, colours, picture.end_s - picture.start_s, WAVE_WIDTH, HEIGHT)
        drawn = plot(
            svg + ("" if number else _lines(shown)),
            picture.start_s - sound.start_s,
            picture.end_s - sound.start_s,
            WAVE_WIDTH,
            HEIGHT,
        )
        heard = f'<div class="heard">{player(sound.wave, sound.sample_rate, shown.names[number])}</div>'
        halves.append(f'<div class="sounding">{drawn + heard if number else heard + drawn}</div>')
    return "".join(halves)


def _middle(cells: Cells, cell: int) -> tuple[float, float]:
    """Place of a cell in the drawing of its picture: the middle of what lies in the picture."""
    place = divmod(cell, cells.grid[1])
    length = len(cells.frequencies), len(cells.times)
    up, across = (
        (n * stride + min((n + 1) * stride, most)) / (2 * most)
        for n, stride, most in zip(place, cells.stride, length, strict=True)
    )
    return LEFT + min(across, 1.0) * WAVE_WIDTH, TOP + (1 - min(up, 1.0)) * HEIGHT


def _lines(shown: CorrespondenceShown) -> str:
    """SVG over both pictures: every match with its rank among the best ones, and the central cells."""
    found, total_h = shown.found, TOP + HEIGHT + BOTTOM
    rank = {int(cell): place for place, cell in enumerate(found.strongest(len(found.silent)))}
    parts = []
    for cell in range(len(found.matches)):
        x0, y0 = _middle(found.cells_a, cell)
        for order, match in enumerate(found.matches[cell]):
            x1, y1 = _middle(found.cells_b, int(match))
            parts.append(
                f'<g hidden data-cell="{cell}" data-rank="{rank.get(cell, -1)}" data-order="{order}" class='
                f'"{_kind(shown, cell, order)}"><path class="halo" d="M{x0:.0f} {y0:.0f}L{x1:.0f} {y1 + total_h:.0f}"/>'
                f'<path d="M{x0:.0f} {y0:.0f}L{x1:.0f} {y1 + total_h:.0f}"/>'
                f'<circle cx="{x0:.0f}" cy="{y0:.0f}" r="3.5"/>'
                f'<circle cx="{x1:.0f}" cy="{y1 + total_h:.0f}" r="3.5"/></g>'
            )
    for cells, cell, below in ((found.cells_a, found.central_a, 0), (found.cells_b, found.central_b, total_h)):
        x, y = _middle(cells, cell)
        parts.append(f'<circle class="central" cx="{x:.0f}" cy="{y + below:.0f}" r="9"/>')
    rows, columns = found.cells_a.grid
    return (
        f'<svg class="lines" viewBox="0 0 {LEFT + WAVE_WIDTH + RIGHT} {2 * total_h}" data-rows="{rows}" '
        f'data-columns="{columns}" data-high="{found.cells_a.stride[0] / len(found.cells_a.frequencies):.6f}" '
        f'data-wide="{found.cells_a.stride[1] / len(found.cells_a.times):.6f}" data-similarities='
        f'"{" ".join(f"{value:.3f}" for value in found.similarity[:, 0])}" aria-hidden="true">{"".join(parts)}</svg>'
    )


def _table(shown: CorrespondenceShown) -> str:
    found, rows = shown.found, []
    starts = [sound.start_s for sound in shown.sounds]
    words = {"right": "own place", "near": "neighbour", "wrong": "elsewhere", "match": "–"}
    for cell in found.strongest(len(found.silent)):
        places = found.cells_a.place(int(cell)), found.cells_b.place(int(found.matches[cell, 0]))
        texts = "".join(
            f"<td>{start + s:.3f}</td><td>{hz:,.0f}</td>" for start, (s, hz) in zip(starts, places, strict=True)
        )
        told = f"<td>{words[_kind(shown, int(cell), 0)]}</td>" if shown.truth is not None else ""
        rows.append(f"<tr>{texts}<td>{found.similarity[cell, 0]:.3f}</td>{told}</tr>")
    unit = found.cells_a.unit
    head = f"<th>from, s</th><th>{unit}</th><th>to, s</th><th>{unit}</th><th>cosine</th>"
    head += "<th>found</th>" if shown.truth is not None else ""
    table = f'<table class="numbers"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return f'<div class="scroll">{table}</div>'
