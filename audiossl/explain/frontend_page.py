"""The page of `audiossl inspect frontends`: one clip through all front ends, with its sound and what each costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import torch

from audiossl.explain.frontends import REFERENCE, Look
from audiossl.explain.sound import Sound, player, plot, script, style, waveform
from audiossl.run.page_file import write_page
from audiossl.run.pictures import Picture, colour_range, draw

# Drawing units of a picture: three stand beside each other on a wide screen, one on a phone.
WIDTH, HEIGHT = 300, 150


def write_frontend_page(path: Path, sound: Sound, looks: Sequence[Look]) -> Path:
    """Write the page and return its path; raises `UserError` when it cannot be written."""
    title = f"Front ends on {Path(sound.name).name}"
    body = (
        f'<div class="sounding"><header><p class="over">audiossl inspect frontends</p><h1>{escape(title)}</h1>'
        f'<p class="lead">{escape(_lead(sound))}</p></header>'
        f'<div class="card sound">{waveform(sound)}{player(sound.wave, sound.sample_rate, Path(sound.name).name)}</div>'
        '<section><h2>Pictures</h2><p class="small">Each picture has colours of its own: dark is its first percentile, '
        "light its 99.8th. The axes are those of the front end: its rows, in Hz, and its frames, in seconds. "
        "A click in a picture goes to that time.</p>"
        f'<div class="fronts">{"".join(_card(look, sound) for look in looks)}</div></section>'
        f"{_costs(looks)}</div>"
    )
    return write_page(path, title, body, style(), script())


def _lead(sound: Sound) -> str:
    end_s = sound.start_s + sound.duration_s
    whole = sound.duration_s >= sound.recording_s - 1e-3
    part = f"{sound.duration_s:.3g} s" if whole else f"{sound.start_s:g} to {end_s:.4g} s of {sound.recording_s:.4g} s"
    channels = "" if sound.n_channels == 1 else f", {sound.n_channels} channels mixed to one"
    rate = f"{sound.sample_rate:,} Hz"
    if sound.rate_in != sound.sample_rate:
        rate = f"{sound.rate_in:,} Hz resampled to {rate}"
    return f"{sound.name}: {part}, {rate}{channels}."


def _card(look: Look, sound: Sound) -> str:
    about = f'<p class="about">{escape(look.about)}</p>'
    if look.problem:
        head = f'<h3>{escape(look.kind)} <span class="beside">no picture</span></h3>'
        return (
            f'<article class="card front" id="{escape(look.kind)}">{head}{about}'
            f'<p class="problem">{escape(look.problem)}</p></article>'
        )
    head = f'<h3>{escape(look.kind)} <span class="beside">{_size(look)}, {_milliseconds(look.cost_s)}</span></h3>'
    colours = colour_range(look.pictures)
    note = f'<p class="channel">{escape(look.note)}</p>' if look.note else ""
    return (
        f'<article class="card front" id="{escape(look.kind)}">{head}{about}'
        f"{''.join(_picture(picture, colours, sound, len(look.pictures) > 1) for picture in look.pictures)}"
        f"{note}<details><summary>Settings</summary>{_settings(look.settings)}</details></article>"
    )


def _picture(picture: Picture, colours: tuple[float, float], sound: Sound, named: bool) -> str:
    svg = draw(picture, colours, picture.end_s - picture.start_s, WIDTH, HEIGHT)
    name = f'<p class="channel">{escape(picture.caption)}</p>' if named else ""
    return name + plot(svg, picture.start_s - sound.start_s, picture.end_s - sound.start_s, WIDTH, HEIGHT)


def _settings(settings: Mapping[str, object]) -> str:
    rows = "".join(f"<dt>{escape(key)}</dt><dd>{escape(_value(value))}</dd>" for key, value in settings.items())
    return f'<dl class="settings">{rows}</dl>'


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _size(look: Look) -> str:
    rows, frames = look.pictures[0].image.shape
    channels = f"{len(look.pictures)} × " if len(look.pictures) > 1 else ""
    return f"{channels}{rows} × {frames}"


def _milliseconds(seconds: float) -> str:
    return f"{_three_digits(1e3 * seconds)} ms"


def _three_digits(number: float) -> str:
    return f"{number:.3g}" if number < 100 else f"{number:,.0f}"


def _costs(looks: Sequence[Look]) -> str:
    dearest = max((look.cost_s for look in looks), default=1.0) or 1.0
    body = "".join(_cost_row(look, dearest) for look in looks)
    n_threads = torch.get_num_threads()
    return (
        '<section><h2>What each costs</h2><div class="card scroll"><table class="costs"><thead><tr><th>Front end</th>'
        '<th>Rows × frames</th><th class="more">Rows, Hz</th><th class="more">Hop</th><th>Clip</th>'
        f'<th>× {REFERENCE}</th><th class="bar"></th></tr></thead><tbody>{body}</tbody></table></div>'
        '<p class="small" style="margin-top:8px">Median of repeated calls with this clip alone, on this machine\'s CPU '
        f"with {n_threads} thread{'s' * (n_threads != 1)} of torch; bars grow with the square root.</p></section>"
    )


def _cost_row(look: Look, dearest_s: float) -> str:
    name = f'<td><a href="#{escape(look.kind)}">{escape(look.kind)}</a></td>'
    if look.problem:
        return f'<tr>{name}<td class="problem" colspan="6">{escape(look.problem)}</td></tr>'
    hz = look.pictures[0].frequencies
    band = f"{hz[0]:,.0f}–{hz[-1]:,.0f}" if look.pictures[0].unit == "Hz" else "–"
    ratio = "–" if look.times_reference is None else _three_digits(look.times_reference)
    width = 100 * (look.cost_s / dearest_s) ** 0.5
    return (
        f'<tr>{name}<td>{_size(look)}</td><td class="more">{band}</td>'
        f'<td class="more">{1e3 * look.hop_s:.3g} ms</td><td>{_milliseconds(look.cost_s)}</td><td>{ratio}</td>'
        f'<td class="bar"><i style="width:{width:.1f}%"></i></td></tr>'
    )
