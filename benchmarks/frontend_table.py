"""Pictures, settings and costs of every front end, written between the marks of docs/frontends.md.

    python benchmarks/frontend_table.py CLIP --into docs/frontends.md

A mark is `<!-- made by benchmarks/frontend_table.py: NAME -->` and its block ends with `<!-- end -->`. NAME is `table`,
`common`, `credit`, or a type of front end, whose block gets its picture (kept beside the page, in a folder of the
page's name) and its settings. A registered type without a mark, or the other way round, is an error, so that the page
stays complete.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import time
from collections.abc import Callable
from dataclasses import MISSING, fields
from itertools import count
from pathlib import Path

import numpy as np
import torch
from audiossl.transforms import FrontEnd, FrontEndConfig, build_frontend
from frontend_peers import SETTINGS, peers
from timing import compare

from audiossl import audio
from audiossl.config_help import field_comments
from audiossl.errors import UserError, errors_for_people
from audiossl.explain.frontends import configured, pictures_of
from audiossl.explain.sound import Sound, read_sound
from audiossl.run.axes import frequency_ticks, hz_name, time_ticks
from audiossl.run.pictures import COLOURS, Picture, colour_range

PRESET = {"n_bins": 32, "hop_length": 334}  # the recipe's small
N_CLIPS, ROUNDS, SECONDS = 4, 15, 20.0  # clips a call; rounds, fewer where they would take longer than SECONDS
BLOCK = "<!-- made by benchmarks/frontend_table.py: {} -->"
# Size of a picture's axes and of its margins, in inches.
AXES_IN, LEFT_IN, RIGHT_IN, TOP_IN, BOTTOM_IN, DPI = (4.8, 1.9), 0.55, 0.1, 0.1, 0.45, 100


def known_types() -> list[str]:
    return list(FrontEndConfig.get_known_choices())


# ------------------------------------------------------------------------------------------------- costs


def rounds_for(*calls: Callable[[], object]) -> int:
    """Rounds that fit into the time allowed, 3 at least."""
    for call in calls:
        call()
    start = time.process_time()
    for call in calls:
        call()
    return max(3, min(ROUNDS, int(SECONDS / max(time.process_time() - start, 1e-6))))


def timed(title: str, calls: dict[str, Callable[[], object]], reference: str) -> dict[str, float]:
    with torch.no_grad():
        return compare(title, calls, reference, rounds_for(*calls.values()), warm=True, device="cpu")


def call_of(frontend: FrontEnd, wave: torch.Tensor) -> Callable[[], object]:
    """A call of a front end; one that keeps what it has seen is given other clips each time."""
    shifts = count(1)
    if hasattr(frontend.config, "cache"):
        return lambda: frontend(wave.roll(next(shifts), -1))
    return lambda: frontend(wave)


def has_gradient(frontend: FrontEnd, wave: torch.Tensor) -> bool:
    wave = wave[:1].clone().requires_grad_()
    image = frontend(wave)
    if not image.requires_grad:
        return False
    image.square().mean().backward()
    return wave.grad is not None and bool(wave.grad.isfinite().all() and (wave.grad != 0).any())


def trainable(kind: str, frontend: FrontEnd) -> str:
    if any(True for _ in frontend.parameters()):
        return "yes"
    try:
        asked = build_frontend(configured(kind, {"trainable": True, "backend": "nnaudio"}))
    except UserError:  # it has the setting, and refuses it
        return "no"
    return "if asked" if any(True for _ in asked.parameters()) else "no"


def table(wave: torch.Tensor) -> str:
    """Markdown of one row a type: size, cost, cost beside peers', gradient, trained or not."""
    lines = [
        "| type | rows × frames | ms a clip | × mel | time beside peers' | gradient | trainable |",
        "|---|---:|---:|---:|---|---|---|",
    ]
    frontends = {kind: build_frontend(configured(kind, PRESET)) for kind in known_types()}
    # All in one comparison, so that the column of milliseconds and that of ratios are the same measurement.
    calls = {kind: call_of(frontend, wave) for kind, frontend in frontends.items()}
    cost = timed("all types, preset small", calls, "mel")
    for kind, frontend in frontends.items():
        shape = tuple(frontend(wave[:1]).shape[1:])
        size = " × ".join(str(n) for n in (shape if shape[0] > 1 else shape[1:]))
        lines.append(
            f"| [{kind}](#{kind}) | {size} | {brief(1e3 * cost[kind] / N_CLIPS)} | {brief(cost[kind] / cost['mel'])} | "
            f"{beside_peers(kind, wave)} | {'yes' if has_gradient(frontend, wave) else 'no'} | "
            f"{trainable(kind, frontend)} |"
        )
    return "\n".join([*lines, "", small_print()])


def beside_peers(kind: str, wave: torch.Tensor) -> str:
    """Our time over that of each peer for the same picture, at the type's defaults or those of `SETTINGS`."""
    # Peers do not compress, but for these two, which do within.
    plain = {} if kind in ("mfcc", "fbank") else {"compress": "none"}
    frontend = build_frontend(configured(kind, {**plain, **SETTINGS.get(kind, {})}))
    others = peers(frontend.config, wave)
    if not others:
        return "–"
    cost = timed(f"{kind} and its peers", {kind: call_of(frontend, wave), **others}, kind)
    return ", ".join(f"{name} {brief(cost[kind] / cost[name])}" for name in others)


def brief(number: float) -> str:
    return f"{number:.2g}" if number < 100 else f"{number:.0f}"


def small_print() -> str:
    return (
        f"Clips of one second at 16 kHz, {N_CLIPS} different ones a call, CPU time of one thread, medians; every call "
        "that is measured comes right after one of its own. Sizes and milliseconds: the preset `small`, all types in "
        "turns. *× mel*: those milliseconds over mel's. *Time beside peers'*: ours over theirs for the picture before "
        "compression at the type's defaults (`cqt` and `vqt`: 84 rows, 12 an octave from C1, hop 256), so below 1 is "
        "quicker; PyWavelets computes coefficients only. *Trainable*: `if asked` with `trainable` and backend "
        "`nnaudio`."
    )


# ---------------------------------------------------------------------------------------------- settings


def settings(config_type: type, without: frozenset[str] = frozenset()) -> str:
    """Markdown of a type's settings: name, default, and the comment at the field."""
    comments = field_comments(config_type)
    rows: list[list[str]] = []
    for field in fields(config_type):
        if field.name in without:
            continue
        default = shown(field.default if field.default is not MISSING else field.default_factory())
        comment = comments.get(field.name, "").replace("|", "/")
        if rows and not comment:  # the comment above says it of both
            rows[-1][0] += f", `{field.name}`"
            rows[-1][1] += f", {default}"
        else:
            rows.append([f"`{field.name}`", default, comment])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(["| setting | default | |", "|---|---|---|", *lines]) if rows else ""


def shown(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def own_settings(kind: str) -> str:
    """The settings of a type that are not common to all, or have another default there."""
    config_type = FrontEndConfig.get_choice_class(kind)
    usual = {field.name: field.default for field in fields(FrontEndConfig)}
    same = {field.name for field in fields(config_type) if usual.get(field.name, MISSING) == field.default}
    return settings(config_type, frozenset(same & set(usual)))


# ---------------------------------------------------------------------------------------------- pictures


def drawn(pictures: tuple[Picture, ...], path: Path) -> None:
    """A PNG of a front end's channels beside each other, with axes in seconds and Hz, in 64 colours."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
    from PIL import Image

    colours = LinearSegmentedColormap.from_list("page", [f"#{colour}" for colour in COLOURS])
    low, high = colour_range(pictures)
    width, height = AXES_IN[0] / len(pictures) ** 0.5, AXES_IN[1]
    step = LEFT_IN + width + RIGHT_IN
    figure = Figure(figsize=(step * len(pictures), TOP_IN + height + BOTTOM_IN), dpi=DPI, facecolor="white")
    size = figure.get_size_inches()
    for number, picture in enumerate(pictures):
        place = ((number * step + LEFT_IN) / size[0], BOTTOM_IN / size[1], width / size[0], height / size[1])
        axes = figure.add_axes(place)
        extent = (picture.start_s, picture.end_s, 0.0, 1.0)
        axes.imshow(picture.image, colours, aspect="auto", origin="lower", extent=extent, vmin=low, vmax=high)
        axes.set_xticks(ticks := time_ticks(picture.start_s, picture.end_s, 72 * width), [f"{t:g}" for t in ticks])
        hz = frequency_ticks(picture.frequencies, 72 * height)
        axes.set_yticks([at for _, at in hz], [hz_name(value) for value, _ in hz])
        axes.tick_params(labelsize=8, length=3)
        axes.set_xlabel("seconds", fontsize=8, labelpad=1)
        axes.set_ylabel(picture.unit, fontsize=8, labelpad=1)
        axes.spines[:].set_visible(False)
    memory = io.BytesIO()
    FigureCanvasAgg(figure).print_png(memory)
    Image.open(memory).convert("RGB").quantize(64).save(path, "PNG", optimize=True)


def picture_block(kind: str, sound: Sound, folder: Path) -> str:
    frontend = build_frontend(configured(kind, {}))
    with torch.no_grad():
        image = frontend(torch.from_numpy(sound.wave)[None])[0].numpy()
    drawn(pictures_of(frontend, image, sound), folder / f"{kind}.png")
    return f"![{kind}]({folder.name}/{kind}.png)\n\n{own_settings(kind)}"


# -------------------------------------------------------------------------------------------------- page


def credit(clip: Path) -> str:
    """Where the clip of the pictures comes from, as its folder's ATTRIBUTION.txt wants it to be said."""
    name = clip.relative_to(clip.parents[2]).as_posix()
    data_set = {
        "speech-commands-9w": "Speech Commands v0.01 (P. Warden, Google, 2018, arXiv:1804.03209), CC BY 4.0",
        "esc10": "ESC-10 (K. J. Piczak, 2015, doi:10.1145/2733373.2806390), CC BY 3.0",
    }.get(clip.parents[1].name, "the maker of this page")
    return f"All pictures show the clip `{name}` at the type's defaults. It is part of {data_set}."


def filled(text: str, name: str, content: str) -> str:
    """The page with another content between the marks of a block."""
    pattern = re.compile(f"({re.escape(BLOCK.format(name))}\n).*?(<!-- end -->)", re.DOTALL)
    return pattern.sub(lambda found: f"{found[1]}\n{content}\n\n{found[2]}", text)


@errors_for_people
def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("clip", type=Path, help="a recording; its first second is measured, its first two are drawn")
    parser.add_argument("--into", type=Path, required=True, help="the page with the marks")
    given = parser.parse_args()
    page = given.into.read_text("utf-8")
    marked = set(re.findall(BLOCK.format(r"(\w+)"), page)) - {"table", "common", "credit"}
    if odd := marked ^ set(known_types()):
        raise UserError(
            f"{given.into} has marks, or lacks them, against the registered types: {', '.join(sorted(odd))}."
        )
    folder = given.into.with_suffix("")
    folder.mkdir(exist_ok=True)
    sound = read_sound(given.clip, 16000, duration_s=2.0)
    second = audio.fit_length(sound.wave, 16000)
    # Different clips, since `emd` computes equal ones once: the second, begun at another place each time.
    wave = torch.from_numpy(np.stack([np.roll(second, at * len(second) // N_CLIPS) for at in range(N_CLIPS)]))
    torch.manual_seed(0)
    for kind in known_types():
        print(f"drawing {kind}", file=sys.stderr, flush=True)
        page = filled(page, kind, picture_block(kind, sound, folder))
    page = filled(page, "credit", credit(given.clip.resolve()))
    page = filled(page, "common", settings(FrontEndConfig))
    page = filled(page, "table", table(wave))
    given.into.write_text(page, "utf-8")


if __name__ == "__main__":
    main()
